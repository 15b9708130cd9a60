/* Bad: the latent cache comes with two axes swapped, one of extent 1, and is made contiguous
 * in the captured forward: every replay moves all of it. */
#include "tests/capture/step.h"

int main(int argc, char **argv)
{
    struct step s;
    struct rfn_graph *graph = NULL;
    if (!step_open(&s, "cap056_bad", &argc, argv))
        return step_close(&s);

    struct rfn_kv_pack_args cache = step_cache(&s);
    int64_t bytes =
        STEP_PAGES * rfn_format_page_bytes(RFN_LATENT_FP8_656, STEP_PAGE_TOKENS);
    void *contiguous = NULL;
    WORKS(&s, rfn_memory_alloc(s.device, RFN_MEMORY_DEVICE, bytes, &contiguous));
    WORKS(&s, rfn_capture_begin(s.stream, NULL));
    WORKS(&s, rfn_kv_pack(s.stream, &cache));
    int planted = __LINE__ + 1;
    WORKS(&s, rfn_copy_async(s.stream, contiguous, cache.pool.data, bytes));
    WORKS(&s, rfn_index_topk(s.stream, &s.pick));
    WORKS(&s, rfn_capture_end(s.stream, &graph));

    step_verdict(&s, RFN_CAP056, __FILE__, planted, "copy_async");
    WORKS(&s, rfn_graph_destroy(&graph));
    WORKS(&s, rfn_memory_free(s.device, contiguous));
    step_cache_free(&s, &cache);
    return step_close(&s);
}
