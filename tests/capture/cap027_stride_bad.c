/* Bad: the table's row stride follows the live batch; the graph has the capacity's. */
#include "tests/capture/model.h"

int main(int argc, char **argv)
{
    struct step s;
    struct rfn_graph *graph = NULL;
    if (!step_open(&s, "cap027_stride_bad", &argc, argv))
        return step_close(&s);

    struct rfn_exec *exec = NULL;
    struct rfn_index_topk_args live = s.pick;
    live.table.shape[1] = live.table.stride[0] = STEP_TABLE - 1;
    WORKS(&s, rfn_capture_begin(s.stream, NULL));
    WORKS(&s, rfn_index_topk(s.stream, &s.pick));
    WORKS(&s, rfn_index_topk(s.stream, &s.pick));
    WORKS(&s, rfn_capture_end(s.stream, &graph));
    WORKS(&s, rfn_graph_instantiate(graph, &exec));
    int planted = __LINE__ + 1;
    step_stale(&s, rfn_exec_update(exec, 1, &live), "stride of 3|one of 4|index_topk");

    step_verdict(&s, RFN_CAP027, __FILE__, planted, "exec_update");
    WORKS(&s, rfn_exec_destroy(&exec));
    WORKS(&s, rfn_graph_destroy(&graph));
    return step_close(&s);
}
