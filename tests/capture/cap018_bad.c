/* Bad: the next step's lengths are written over the ones that the last replay may still have
 * to copy. */
#include "tests/capture/step.h"

int main(int argc, char **argv)
{
    struct step s;
    struct rfn_graph *graph = NULL;
    step_host_only("cap018_bad", "a GPU does not tell when the host touches memory");
    if (!step_open(&s, "cap018_bad", &argc, argv))
        return step_close(&s);

    struct rfn_exec *exec = NULL;
    WORKS(&s, rfn_capture_begin(s.stream, NULL));
    int planted = __LINE__ + 1;
    WORKS(&s, rfn_copy_async(s.stream, s.lens, s.host_lens, STEP_LENS_BYTES));
    WORKS(&s, rfn_index_topk(s.stream, &s.pick));
    WORKS(&s, rfn_capture_end(s.stream, &graph));
    WORKS(&s, rfn_graph_instantiate(graph, &exec));
    WORKS(&s, rfn_exec_launch(exec, s.stream));
    s.host_lens[0] = 7; /* the replay may read it */
    WORKS(&s, rfn_stream_sync(s.stream));

    step_verdict(&s, RFN_CAP018, __FILE__, planted, "copy_async");
    WORKS(&s, rfn_exec_destroy(&exec));
    WORKS(&s, rfn_graph_destroy(&graph));
    return step_close(&s);
}
