/* Bad: what a replay picked is copied on another stream, and the next replay does not wait
 * for that copy. */
#include "tests/capture/step.h"

int main(int argc, char **argv)
{
    struct step s;
    struct rfn_graph *graph = NULL;
    struct rfn_exec *exec = NULL;
    if (!step_open(&s, "cap028_bad", &argc, argv))
        return step_close(&s);

    WORKS(&s, rfn_capture_begin(s.stream, NULL));
    WORKS(&s, rfn_index_topk(s.stream, &s.pick));
    WORKS(&s, rfn_capture_end(s.stream, &graph));
    WORKS(&s, rfn_graph_instantiate(graph, &exec));
    WORKS(&s, rfn_exec_launch(exec, s.stream));
    WORKS(&s, rfn_event_record(s.fork, s.stream, 0));
    WORKS(&s, rfn_stream_wait(s.side, s.fork, 0));
    WORKS(&s,
          rfn_copy_async(s.side, s.host_picked, s.pick.slots.data, STEP_PICKED_BYTES));
    WORKS(&s, rfn_event_record(s.join, s.side, 0)); /* nobody waits for it */
    int planted = __LINE__ + 1;
    WORKS(&s, rfn_exec_launch(exec, s.stream));
    WORKS(&s, rfn_device_sync(s.device));

    step_verdict(&s, RFN_CAP028, __FILE__, planted, "exec_launch");
    WORKS(&s, rfn_exec_destroy(&exec));
    WORKS(&s, rfn_graph_destroy(&graph));
    return step_close(&s);
}
