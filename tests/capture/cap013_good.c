/* Good: the step is captured on a non-blocking stream and replayed on a blocking one. */
#include "tests/capture/step.h"

int main(int argc, char **argv)
{
    struct step s;
    struct rfn_graph *graph = NULL;
    if (!step_open(&s, "cap013_good", &argc, argv))
        return step_close(&s);

    struct rfn_stream *blocking = NULL;
    struct rfn_exec *exec = NULL;
    WORKS(&s, rfn_stream_create(s.device, RFN_STREAM_BLOCKING, &blocking));
    WORKS(&s, rfn_capture_begin(s.stream, NULL));
    WORKS(&s, rfn_index_topk(s.stream, &s.pick));
    step_fetch(&s);
    WORKS(&s, rfn_capture_end(s.stream, &graph));
    WORKS(&s, rfn_graph_instantiate(graph, &exec));
    WORKS(&s, rfn_exec_launch(exec, blocking));
    WORKS(&s, rfn_stream_sync(rfn_stream_legacy(s.device))); /* waits for blocking ones */
    harness_check(&s.h, "what the replay picks", step_picked(&s, s.host_lens), "wrong");

    step_verdict(&s, RFN_RULES, "", 0, "");
    WORKS(&s, rfn_exec_destroy(&exec));
    WORKS(&s, rfn_graph_destroy(&graph));
    WORKS(&s, rfn_stream_destroy(&blocking));
    return step_close(&s);
}
