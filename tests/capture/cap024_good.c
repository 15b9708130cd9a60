/* Good: the graph copies to pinned memory of its own; the caller's array is filled from there,
 * behind the wait. */
#include "tests/capture/step.h"

int main(int argc, char **argv)
{
    struct step s;
    struct rfn_graph *graph = NULL;
    if (!step_open(&s, "cap024_good", &argc, argv))
        return step_close(&s);

    int32_t picked[STEP_ROWS * STEP_TOP];
    WORKS(&s, rfn_capture_begin(s.stream, NULL));
    WORKS(&s, rfn_index_topk(s.stream, &s.pick));
    step_fetch(&s);
    WORKS(&s, rfn_capture_end(s.stream, &graph));
    step_replay(&s, graph);
    memcpy(picked, s.host_picked, sizeof picked);
    WORKS(&s, rfn_copy_async(s.stream, picked, s.pick.slots.data, STEP_PICKED_BYTES));
    harness_check(&s.h, "outside it is done at once",
                  !memcmp(picked, s.host_picked, sizeof picked), "differs");

    step_verdict(&s, RFN_RULES, "", 0, "");
    return step_close(&s);
}
