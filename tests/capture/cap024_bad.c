/* Bad: what was picked is copied into the caller's array; every replay writes there again,
 * whoever owns the memory by then. */
#include "tests/capture/step.h"

int main(int argc, char **argv)
{
    struct step s;
    struct rfn_graph *graph = NULL;
    if (!step_open(&s, "cap024_bad", &argc, argv))
        return step_close(&s);

    static int32_t picked[STEP_ROWS * STEP_TOP];
    WORKS(&s, rfn_capture_begin(s.stream, NULL));
    WORKS(&s, rfn_index_topk(s.stream, &s.pick));
    int planted = __LINE__ + 1;
    WORKS(&s, rfn_copy_async(s.stream, picked, s.pick.slots.data, STEP_PICKED_BYTES));
    WORKS(&s, rfn_capture_end(s.stream, &graph));

    step_verdict(&s, RFN_CAP024, __FILE__, planted, "copy_async");
    WORKS(&s, rfn_graph_destroy(&graph));
    return step_close(&s);
}
