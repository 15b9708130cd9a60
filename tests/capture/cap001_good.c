/* Good: the step is captured without its wait; each replay is waited for behind it. */
#include "tests/capture/step.h"

int main(int argc, char **argv)
{
    struct step s;
    struct rfn_graph *graph = NULL;
    struct rfn_exec *exec = NULL;
    if (!step_open(&s, "cap001_good", &argc, argv))
        return step_close(&s);

    WORKS(&s, rfn_stream_sync(s.stream)); /* what was enqueued before is done */
    WORKS(&s, rfn_capture_begin(s.stream, NULL));
    WORKS(&s, rfn_index_topk(s.stream, &s.pick));
    WORKS(&s,
          rfn_copy_async(s.stream, s.host_picked, s.pick.slots.data, STEP_PICKED_BYTES));
    WORKS(&s, rfn_capture_end(s.stream, &graph));
    WORKS(&s, rfn_graph_instantiate(graph, &exec));

    for (int step = 0; step < 3; step++)
    {
        memset(s.host_picked, 0, (size_t)STEP_PICKED_BYTES);
        WORKS(&s, rfn_exec_launch(exec, s.stream));
        WORKS(&s, rfn_stream_sync(s.stream));
        harness_check(&s.h, "what a replay picks", step_picked(&s, s.host_lens),
                      "step %d", step);
    }

    step_verdict(&s, RFN_RULES, "", 0, "");
    WORKS(&s, rfn_exec_destroy(&exec));
    WORKS(&s, rfn_graph_destroy(&graph));
    return step_close(&s);
}
