/* Good: scalars are fields of the arguments, and what changes lies in device memory. */
#include "tests/capture/step.h"

int main(int argc, char **argv)
{
    struct step s;
    struct rfn_graph *graph = NULL;
    if (!step_open(&s, "cap057_good", &argc, argv))
        return step_close(&s);

    int32_t context = STEP_CONTEXT / 2;
    WORKS(&s, rfn_copy_sync(s.device, s.lens, &context, sizeof context));
    s.host_lens[0] = context;
    s.pick.pages = STEP_PAGES; /* a scalar of the op */
    WORKS(&s, rfn_capture_begin(s.stream, NULL));
    WORKS(&s, rfn_index_topk(s.stream, &s.pick));
    step_fetch(&s);
    WORKS(&s, rfn_capture_end(s.stream, &graph));
    step_replay(&s, graph);

    step_verdict(&s, RFN_RULES, "", 0, "");
    return step_close(&s);
}
