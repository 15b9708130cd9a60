/* Good: the event is recorded by each replay, and the host asks about it outside. */
#include "tests/capture/step.h"

int main(int argc, char **argv)
{
    struct step s;
    struct rfn_graph *graph = NULL;
    if (!step_open(&s, "cap011_good", &argc, argv))
        return step_close(&s);

    struct rfn_exec *exec = NULL;
    WORKS(&s, rfn_capture_begin(s.stream, NULL));
    WORKS(&s, rfn_index_topk(s.stream, &s.pick));
    step_fetch(&s);
    WORKS(&s, rfn_event_record(s.join, s.stream, RFN_EVENT_EXTERNAL));
    WORKS(&s, rfn_capture_end(s.stream, &graph));
    WORKS(&s, rfn_graph_instantiate(graph, &exec));
    for (int step = 0; step < 3; step++)
    {
        enum rfn_status status;
        WORKS(&s, rfn_exec_launch(exec, s.stream));
        while ((status = rfn_event_query(s.join)) == RFN_NOT_READY)
            continue;
        WORKS(&s, status);
        harness_check(&s.h, "what a replay picks", step_picked(&s, s.host_lens),
                      "step %d", step);
    }

    step_verdict(&s, RFN_RULES, "", 0, "");
    WORKS(&s, rfn_exec_destroy(&exec));
    WORKS(&s, rfn_graph_destroy(&graph));
    return step_close(&s);
}
