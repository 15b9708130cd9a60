/* Good: two captures at once know nothing of each other; their graphs are ordered when they
 * are launched. */
#include "tests/capture/step.h"

int main(int argc, char **argv)
{
    struct step s;
    struct rfn_graph *graph = NULL;
    if (!step_open(&s, "cap016_good", &argc, argv))
        return step_close(&s);

    struct rfn_graph *fetch = NULL;
    struct rfn_exec *first = NULL, *second = NULL;
    WORKS(&s, rfn_capture_begin(s.stream, NULL));
    WORKS(&s, rfn_capture_begin(s.side, NULL));
    WORKS(&s, rfn_index_topk(s.side, &s.pick));
    WORKS(&s, rfn_index_topk(s.stream, &s.pick));
    step_fetch(&s);
    WORKS(&s, rfn_capture_end(s.side, &graph));
    WORKS(&s, rfn_capture_end(s.stream, &fetch));
    WORKS(&s, rfn_graph_instantiate(graph, &first));
    WORKS(&s, rfn_graph_instantiate(fetch, &second));
    WORKS(&s, rfn_exec_launch(first, s.side));
    WORKS(&s, rfn_event_record(s.join, s.side, 0));
    WORKS(&s, rfn_stream_wait(s.stream, s.join, 0));
    WORKS(&s, rfn_exec_launch(second, s.stream));
    WORKS(&s, rfn_stream_sync(s.stream));
    harness_check(&s.h, "what the replays pick", step_picked(&s, s.host_lens), "wrong");

    step_verdict(&s, RFN_RULES, "", 0, "");
    WORKS(&s, rfn_exec_destroy(&first));
    WORKS(&s, rfn_exec_destroy(&second));
    WORKS(&s, rfn_graph_destroy(&graph));
    WORKS(&s, rfn_graph_destroy(&fetch));
    return step_close(&s);
}
