/* Good: the wait stands before the capture; in it, the event is an external one that each
 * replay waits for. */
#include "tests/capture/step.h"

int main(int argc, char **argv)
{
    struct step s;
    struct rfn_graph *graph = NULL;
    if (!step_open(&s, "cap015_good", &argc, argv))
        return step_close(&s);

    WORKS(&s, rfn_copy_async(s.side, s.lens, s.host_lens, STEP_LENS_BYTES));
    WORKS(&s, rfn_event_record(s.fork, s.side, 0));
    WORKS(&s, rfn_stream_wait(s.stream, s.fork, 0));
    WORKS(&s, rfn_capture_begin(s.stream, NULL));
    WORKS(&s, rfn_stream_wait(s.stream, s.fork, RFN_EVENT_EXTERNAL));
    WORKS(&s, rfn_index_topk(s.stream, &s.pick));
    step_fetch(&s);
    WORKS(&s, rfn_capture_end(s.stream, &graph));

    struct rfn_exec *exec = NULL;
    WORKS(&s, rfn_graph_instantiate(graph, &exec));
    WORKS(&s, rfn_stream_sync(s.side)); /* the staging memory is free again */
    s.host_lens[0] = 4;
    WORKS(&s, rfn_copy_async(s.side, s.lens, s.host_lens, STEP_LENS_BYTES));
    WORKS(&s, rfn_event_record(s.fork, s.side, 0));
    WORKS(&s, rfn_exec_launch(exec, s.stream));
    WORKS(&s, rfn_stream_sync(s.stream));
    harness_check(&s.h, "the replay waited", step_picked(&s, s.host_lens), "it did not");
    WORKS(&s, rfn_exec_destroy(&exec));
    WORKS(&s, rfn_graph_destroy(&graph));

    step_verdict(&s, RFN_RULES, "", 0, "");
    return step_close(&s);
}
