/* Bad: the graphs of two buckets share a workspace and run on two streams. */
#include "tests/capture/step.h"

int main(int argc, char **argv)
{
    struct step s;
    struct rfn_graph *graph[2] = { NULL, NULL };
    struct rfn_exec *exec[2] = { NULL, NULL };
    if (!step_open(&s, "cap029_bad", &argc, argv))
        return step_close(&s);

    for (int i = 0; i < 2; i++)
    {
        struct rfn_index_topk_args pick = s.pick;
        pick.logits.shape[0] = pick.lens.shape[0] = pick.request.shape[0] =
            pick.slots.shape[0] = 1 + i; /* rows */
        WORKS(&s, rfn_capture_begin(s.stream, NULL));
        WORKS(&s, rfn_index_topk(s.stream, &pick));
        WORKS(&s, rfn_capture_end(s.stream, &graph[i]));
        WORKS(&s, rfn_graph_instantiate(graph[i], &exec[i]));
    }
    WORKS(&s, rfn_exec_launch(exec[0], s.stream));
    WORKS(&s, rfn_event_record(s.fork, s.stream, 0)); /* nobody waits for it */
    int planted = __LINE__ + 1;
    WORKS(&s, rfn_exec_launch(exec[1], s.side));
    WORKS(&s, rfn_device_sync(s.device));

    step_verdict(&s, RFN_CAP029, __FILE__, planted, "exec_launch");
    for (int i = 0; i < 2; i++)
    {
        WORKS(&s, rfn_exec_destroy(&exec[i]));
        WORKS(&s, rfn_graph_destroy(&graph[i]));
    }
    return step_close(&s);
}
