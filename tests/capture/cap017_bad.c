/* Bad: what was picked is copied to the host asynchronously, and the next line branches on
 * it. Under every schedule the host has not waited, whether the bytes are there or not. */
#include "tests/capture/step.h"

int main(int argc, char **argv)
{
    struct step s;
    step_host_only("cap017_bad", "a GPU does not tell when the host touches memory");
    if (!step_open(&s, "cap017_bad", &argc, argv))
        return step_close(&s);

    void *slots = s.pick.slots.data;
    WORKS(&s, rfn_index_topk(s.stream, &s.pick));
    int planted = __LINE__ + 1;
    WORKS(&s, rfn_copy_async(s.stream, s.host_picked, slots, STEP_PICKED_BYTES));
    int wide = *(volatile int32_t *)s.host_picked > STEP_CONTEXT / 2; /* too early */
    WORKS(&s, rfn_stream_sync(s.stream));
    int again = *(volatile int32_t *)s.host_picked > STEP_CONTEXT / 2;
    printf("wide: %d, and %d when it had come\n", wide, again);

    step_verdict(&s, RFN_CAP017, __FILE__, planted, "copy_async");
    return step_close(&s);
}
