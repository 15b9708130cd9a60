/* Good: a ring of two slots, each written again only behind the event of its last copy. */
#include "tests/capture/step.h"

int main(int argc, char **argv)
{
    struct step s;
    if (!step_open(&s, "cap018_good", &argc, argv))
        return step_close(&s);

    struct rfn_event *done[2] = { s.fork, s.join };
    void *ring = NULL;
    WORKS(&s, rfn_memory_alloc(s.device, RFN_MEMORY_PINNED, 2 * STEP_LENS_BYTES, &ring));
    for (int step = 0; step < 8; step++)
    {
        int32_t *slot = (int32_t *)ring + step % 2 * STEP_ROWS;
        WORKS(&s,
              rfn_event_sync(done[step % 2])); /* at once where nothing was recorded */
        slot[0] = slot[1] = 3 + step;
        WORKS(&s, rfn_copy_async(s.stream, s.lens, slot, STEP_LENS_BYTES));
        WORKS(&s, rfn_event_record(done[step % 2], s.stream, 0));
        WORKS(&s, rfn_index_topk(s.stream, &s.pick));
    }
    step_fetch(&s);
    WORKS(&s, rfn_stream_sync(s.stream));
    harness_check(&s.h, "the last lengths", step_picked(&s, (int32_t *)ring + STEP_ROWS),
                  "wrong");
    WORKS(&s, rfn_memory_free(s.device, ring));

    step_verdict(&s, RFN_RULES, "", 0, "");
    return step_close(&s);
}
