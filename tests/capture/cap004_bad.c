/* Bad: the op goes to a side stream that nobody forked from the captured one. It runs at
 * once, before what it depends on, and no replay holds it. */
#include "tests/capture/step.h"

int main(int argc, char **argv)
{
    struct step s;
    struct rfn_graph *graph = NULL;
    struct rfn_graph_info info;
    if (!step_open(&s, "cap004_bad", &argc, argv))
        return step_close(&s);

    WORKS(&s, rfn_capture_begin(s.stream, NULL));
    WORKS(&s, rfn_copy_async(s.stream, s.lens, s.host_lens, STEP_LENS_BYTES));
    int planted = __LINE__ + 1;
    WORKS(&s, rfn_index_topk(s.side, &s.pick));
    WORKS(&s,
          rfn_copy_async(s.stream, s.host_picked, s.pick.slots.data, STEP_PICKED_BYTES));
    WORKS(&s, rfn_capture_end(s.stream, &graph));

    WORKS(&s, rfn_graph_query(graph, &info));
    harness_check(&s.h, "the op is not in the graph",
                  info.launches == 0 && info.nodes == 2, "%d launches, %d nodes",
                  info.launches, info.nodes);
    step_verdict(&s, RFN_CAP004, __FILE__, planted, "op_launch");
    WORKS(&s, rfn_graph_destroy(&graph));
    return step_close(&s);
}
