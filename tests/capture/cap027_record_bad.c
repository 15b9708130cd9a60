/* Bad: two ops of one capture read one table with two row strides. */
#include "tests/capture/model.h"

int main(int argc, char **argv)
{
    struct step s;
    struct rfn_graph *graph = NULL;
    if (!step_open(&s, "cap027_record_bad", &argc, argv))
        return step_close(&s);

    struct rfn_index_topk_args live = s.pick;
    live.table.shape[1] = live.table.stride[0] = STEP_TABLE - 1;
    WORKS(&s, rfn_capture_begin(s.stream, NULL));
    WORKS(&s, rfn_index_topk(s.stream, &s.pick));
    int planted = __LINE__ + 1;
    step_stale(&s, rfn_index_topk(s.stream, &live), "stride of 3|one of 4|index_topk");
    WORKS(&s, rfn_capture_end(s.stream, &graph)); /* it stayed active */

    step_verdict(&s, RFN_CAP027, __FILE__, planted, "op_launch");
    WORKS(&s, rfn_graph_destroy(&graph));
    return step_close(&s);
}
