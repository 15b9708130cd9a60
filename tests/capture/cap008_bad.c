/* Bad: the lengths' memory is taken back and the same address handed in again for something
 * else, as caching allocators do. */
#include "tests/capture/lint.h"

int main(int argc, char **argv)
{
    struct step s;
    struct rfn_graph *graph = NULL;
    if (!step_open(&s, "cap008_bad", &argc, argv))
        return step_close(&s);
    struct lint_caller caller;
    lint_caller_open(&s, &caller);
    int32_t *lens = caller.lens;
    WORKS(&s, rfn_memory_import(s.device, lens, STEP_LENS_BYTES, RFN_MEMORY_DEVICE));
    s.pick.lens.data = lens;
    WORKS(&s, rfn_capture_begin(s.stream, NULL));
    int planted = __LINE__ + 1;
    WORKS(&s, rfn_index_topk(s.stream, &s.pick));
    WORKS(&s, rfn_capture_end(s.stream, &graph));
    WORKS(&s, rfn_memory_release(s.device, lens));
    WORKS(&s, rfn_memory_import(s.device, lens, LINT_CALLER_BYTES, RFN_MEMORY_DEVICE));

    struct lint_want want = { &s, RFN_CAP008, planted, "index_topk", "'lens'", 0, 0 };
    lint_graph(&want, graph);
    WORKS(&s, rfn_memory_release(s.device, lens));
    lint_caller_close(&s, &caller);
    step_verdict(&s, RFN_RULES, "", 0, "");
    return step_close(&s);
}
