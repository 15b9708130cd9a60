/* Bad: the maxima of a step are copied to the host asynchronously, and the next line branches
 * on them. Under every schedule the host has not waited, whether the bytes are there or
 * not. On a GPU the read is not seen, but that the plan ends without a wait. */
#include "tests/incidents/i2.h"

int main(int argc, char **argv)
{
    struct step s;
    struct i2 w;
    void *pinned = NULL;
    if (!step_open(&s, "i2_bad", &argc, argv))
        return step_close(&s);
    i2_open(&s, &w);
    WORKS(&s,
          rfn_memory_alloc(s.device, RFN_MEMORY_PINNED, sizeof w.out->maxima, &pinned));
    int32_t *maxima = pinned;
    for (int i = 0; i < RFN_SPLIT_MAXIMA; i++)
        maxima[i] = 0; /* what the last step left: nothing to prefill */

    s.region = "decode > step 3 > plan";
    s.heuristic = step_device() == RFN_DEVICE_CUDA;
    WORKS(&s, rfn_region_begin("plan"));
    struct rfn_split_lists_args args = i2_args(w.lens, w.out);
    WORKS(&s, rfn_split_lists(s.stream, &args));
    int planted = __LINE__ + 1;
    WORKS(&s, rfn_copy_async(s.stream, maxima, w.out->maxima, sizeof w.out->maxima));
    int prefills =
        ((volatile int32_t *)maxima)[RFN_SPLIT_MAX_PREFILL] > 0; /* too early */
    WORKS(&s, rfn_region_end());
    WORKS(&s, rfn_stream_sync(s.stream));
    int again = ((volatile int32_t *)maxima)[RFN_SPLIT_MAX_PREFILL] > 0;
    printf("something to prefill: %d, and %d when it had come\n", prefills, again);
    harness_check(&s.h, "it has come behind the wait", again, "%d", maxima[1]);

    step_verdict(&s, RFN_CAP017, __FILE__, planted, "copy_async");
    WORKS(&s, rfn_memory_free(s.device, pinned));
    i2_close(&s, &w);
    return step_close(&s);
}
