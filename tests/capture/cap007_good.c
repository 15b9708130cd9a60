/* Good: the memory stays until the graph is gone; what is taken back is none of its own. */
#include "tests/capture/lint.h"

int main(int argc, char **argv)
{
    struct step s;
    struct rfn_graph *graph = NULL;
    if (!step_open(&s, "cap007_good", &argc, argv))
        return step_close(&s);
    struct lint_caller caller;
    lint_caller_open(&s, &caller);
    int32_t *lens = caller.lens;
    WORKS(&s, rfn_memory_import(s.device, lens, STEP_LENS_BYTES, RFN_MEMORY_DEVICE));
    WORKS(&s,
          rfn_memory_import(s.device, caller.other, STEP_LENS_BYTES, RFN_MEMORY_DEVICE));
    s.pick.lens.data = lens;
    WORKS(&s, rfn_capture_begin(s.stream, NULL));
    WORKS(&s, rfn_index_topk(s.stream, &s.pick));
    WORKS(&s, rfn_capture_end(s.stream, &graph));
    WORKS(&s, rfn_memory_release(s.device, caller.other));

    lint_good(&s, graph);
    WORKS(&s, rfn_memory_release(s.device, lens));
    lint_caller_close(&s, &caller);
    step_verdict(&s, RFN_RULES, "", 0, "");
    return step_close(&s);
}
