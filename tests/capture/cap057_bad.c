/* Bad: the context length is made a device tensor in the forward, by a synchronous copy
 * that no replay repeats. */
#include "tests/capture/step.h"

int main(int argc, char **argv)
{
    struct step s;
    struct rfn_graph *graph = NULL;
    if (!step_open(&s, "cap057_bad", &argc, argv))
        return step_close(&s);

    int32_t context = STEP_CONTEXT / 2;
    WORKS(&s, rfn_capture_begin(s.stream, NULL));
    int planted = __LINE__ + 1;
    WORKS(&s, rfn_copy_sync(s.device, s.lens, &context, sizeof context));
    WORKS(&s, rfn_index_topk(s.stream, &s.pick));
    step_fetch(&s);
    WORKS(&s, rfn_capture_end(s.stream, &graph));

    step_verdict(&s, RFN_CAP057, __FILE__, planted, "copy_sync");
    WORKS(&s, rfn_graph_destroy(&graph));
    return step_close(&s);
}
