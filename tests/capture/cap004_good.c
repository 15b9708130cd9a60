/* Good: the side stream is forked from the captured one by an event and joined again. */
#include "tests/capture/step.h"

int main(int argc, char **argv)
{
    struct step s;
    struct rfn_graph *graph = NULL;
    struct rfn_exec *exec = NULL;
    struct rfn_graph_info info;
    if (!step_open(&s, "cap004_good", &argc, argv))
        return step_close(&s);

    WORKS(&s, rfn_capture_begin(s.stream, NULL));
    WORKS(&s, rfn_copy_async(s.stream, s.lens, s.host_lens, STEP_LENS_BYTES));
    WORKS(&s, rfn_event_record(s.fork, s.stream, 0));
    WORKS(&s, rfn_stream_wait(s.side, s.fork, 0));
    WORKS(&s, rfn_index_topk(s.side, &s.pick));
    WORKS(&s, rfn_event_record(s.join, s.side, 0));
    WORKS(&s, rfn_stream_wait(s.stream, s.join, 0));
    WORKS(&s,
          rfn_copy_async(s.stream, s.host_picked, s.pick.slots.data, STEP_PICKED_BYTES));
    WORKS(&s, rfn_capture_end(s.stream, &graph));

    WORKS(&s, rfn_graph_query(graph, &info));
    harness_check(&s.h, "the op is in the graph", info.launches == 1 && info.nodes == 3,
                  "%d launches, %d nodes", info.launches, info.nodes);
    WORKS(&s, rfn_graph_instantiate(graph, &exec));
    WORKS(&s, rfn_exec_launch(exec, s.stream));
    WORKS(&s, rfn_stream_sync(s.stream));
    harness_check(&s.h, "what the replay picks", step_picked(&s, s.host_lens), "wrong");

    step_verdict(&s, RFN_RULES, "", 0, "");
    WORKS(&s, rfn_exec_destroy(&exec));
    WORKS(&s, rfn_graph_destroy(&graph));
    return step_close(&s);
}
