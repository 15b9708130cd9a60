/* Good: the workspace is allocated for the largest step before the capture, and freed after
 * the last replay. */
#include "tests/capture/step.h"

int main(int argc, char **argv)
{
    struct step s;
    struct rfn_graph *graph = NULL;
    if (!step_open(&s, "cap009_good", &argc, argv))
        return step_close(&s);

    void *first = s.pick.slots.data, *workspace = NULL;
    WORKS(&s, rfn_memory_alloc(s.device, RFN_MEMORY_DEVICE, 4 * STEP_PICKED_BYTES,
                               &workspace));
    s.pick.slots.data = workspace;
    WORKS(&s, rfn_capture_begin(s.stream, NULL));
    WORKS(&s, rfn_index_topk(s.stream, &s.pick));
    step_fetch(&s);
    WORKS(&s, rfn_capture_end(s.stream, &graph));
    step_replay(&s, graph);
    WORKS(&s, rfn_memory_free(s.device, workspace));
    s.pick.slots.data = first;

    step_verdict(&s, RFN_RULES, "", 0, "");
    return step_close(&s);
}
