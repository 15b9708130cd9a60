/* Bad: the step finds its workspace too small and grows it while it is captured. */
#include "tests/capture/step.h"

int main(int argc, char **argv)
{
    struct step s;
    if (!step_open(&s, "cap009_bad", &argc, argv))
        return step_close(&s);

    void *more = NULL;
    WORKS(&s, rfn_capture_begin(s.stream, NULL));
    WORKS(&s, rfn_index_topk(s.stream, &s.pick));
    int planted = __LINE__ + 1;
    enum rfn_status grown = rfn_memory_alloc(s.device, RFN_MEMORY_DEVICE, 4096, &more);
    step_refused(&s, grown);
    step_lost(&s, s.stream, 901);
    harness_check(&s.h, "nothing was allocated", !more, "%p", more);

    step_verdict(&s, RFN_CAP009, __FILE__, planted, "memory_alloc");
    return step_close(&s);
}
