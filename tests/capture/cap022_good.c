/* Good: the same work where an event orders it; and beside each other what touches other
 * bytes: columns of one matrix, halves of one buffer, one cache that both read. */
#include "tests/capture/lint.h"

int main(int argc, char **argv)
{
    struct step s;
    struct rfn_graph *graph = NULL;
    if (!step_open(&s, "cap022_good", &argc, argv))
        return step_close(&s);
    struct rfn_kv_pack_args cache = step_cache(&s);
    struct rfn_index_topk_args left = s.pick, right = s.pick;
    int32_t *wide =
        step_upload(&s, (int32_t[4 * STEP_ROWS * STEP_TOP]) { 0 }, 4 * STEP_PICKED_BYTES);
    left.slots = right.slots = rfn_tensor_of(wide, RFN_I32, STEP_ROWS, STEP_TOP, 0, 0);
    left.slots.stride[0] = right.slots.stride[0] = 2 * STEP_TOP;
    right.slots.data = wide + STEP_TOP;
    int32_t *half = wide + 2 * STEP_ROWS * STEP_TOP;

    WORKS(&s, rfn_capture_begin(s.stream, NULL));
    WORKS(&s, rfn_index_topk(s.stream, &s.pick));
    WORKS(&s, rfn_event_record(s.fork, s.stream, 0));
    WORKS(&s, rfn_stream_wait(s.side, s.fork, 0));
    WORKS(&s, rfn_index_topk(s.side, &left));
    WORKS(&s, rfn_index_topk(s.stream, &right));
    WORKS(&s, rfn_copy_async(s.side, half, cache.pool.data, STEP_PICKED_BYTES));
    WORKS(&s, rfn_copy_async(s.stream, half + STEP_ROWS * STEP_TOP, cache.pool.data,
                             STEP_PICKED_BYTES));
    WORKS(&s, rfn_event_record(s.join, s.side, 0));
    WORKS(&s, rfn_stream_wait(s.stream, s.join, 0));
    WORKS(&s, rfn_index_topk(s.stream, &left));
    WORKS(&s, rfn_kv_pack(s.stream, &cache));
    WORKS(&s, rfn_index_topk(s.stream, &s.pick));
    WORKS(&s, rfn_capture_end(s.stream, &graph));

    lint_good(&s, graph);
    step_verdict(&s, RFN_RULES, "", 0, "");
    step_cache_free(&s, &cache);
    WORKS(&s, rfn_memory_free(s.device, wide));
    return step_close(&s);
}
