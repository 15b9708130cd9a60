/* Bad: a loader thread allocates while this one captures in global mode: the loader's call
 * fails, and the capture is lost with it. */
#include "tests/capture/step.h"

static int planted;

static void *load(void *arg)
{
    struct step *s = arg;
    void *batch = NULL;
    planted = __LINE__ + 1;
    step_refused(s, rfn_memory_alloc(s->device, RFN_MEMORY_PINNED, 4096, &batch));
    return NULL;
}

int main(int argc, char **argv)
{
    struct step s;
    if (!step_open(&s, "cap010_bad", &argc, argv))
        return step_close(&s);

    s.region = ""; /* regions are each thread's own */
    WORKS(&s, rfn_capture_begin(s.stream, NULL));
    WORKS(&s, rfn_index_topk(s.stream, &s.pick));
    step_elsewhere(&s, load, &s);
    step_lost(&s, s.stream, 901);

    step_verdict(&s, RFN_CAP010, __FILE__, planted, "memory_alloc");
    return step_close(&s);
}
