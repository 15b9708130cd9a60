/* Good: the pool is used where it lies; what is copied is a page, or outside the capture. */
#include "tests/capture/step.h"

int main(int argc, char **argv)
{
    struct step s;
    struct rfn_graph *graph = NULL;
    if (!step_open(&s, "cap056_good", &argc, argv))
        return step_close(&s);

    struct rfn_kv_pack_args cache = step_cache(&s);
    int64_t page = rfn_format_page_bytes(RFN_LATENT_FP8_656, STEP_PAGE_TOKENS);
    void *copy = NULL;
    WORKS(&s, rfn_memory_alloc(s.device, RFN_MEMORY_DEVICE, STEP_PAGES * page, &copy));
    WORKS(&s, rfn_kv_pack(s.stream, &cache));
    WORKS(&s, rfn_copy_async(s.stream, copy, cache.pool.data, STEP_PAGES * page));
    WORKS(&s, rfn_capture_begin(s.stream, NULL));
    WORKS(&s, rfn_kv_pack(s.stream, &cache));
    WORKS(&s, rfn_copy_async(s.stream, copy, cache.pool.data, page));
    WORKS(&s, rfn_copy_async(s.stream, (char *)copy + page,
                             (char *)cache.pool.data + page, (STEP_PAGES - 1) * page));
    WORKS(&s, rfn_index_topk(s.stream, &s.pick));
    step_fetch(&s);
    WORKS(&s, rfn_capture_end(s.stream, &graph));
    step_replay(&s, graph);

    step_verdict(&s, RFN_RULES, "", 0, "");
    WORKS(&s, rfn_memory_free(s.device, copy));
    step_cache_free(&s, &cache);
    return step_close(&s);
}
