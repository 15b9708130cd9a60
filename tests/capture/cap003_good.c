/* Good: the lengths are written into pinned memory that lives as long as the graph; pageable
 * memory is copied outside the capture only. */
#include "tests/capture/step.h"

int main(int argc, char **argv)
{
    struct step s;
    struct rfn_graph *graph = NULL;
    struct rfn_exec *exec = NULL;
    int32_t lens[STEP_ROWS] = { 7, 9 };
    if (!step_open(&s, "cap003_good", &argc, argv))
        return step_close(&s);

    WORKS(&s, rfn_copy_async(s.stream, s.lens, lens, STEP_LENS_BYTES)); /* warm-up */
    WORKS(&s, rfn_index_topk(s.stream, &s.pick));
    WORKS(&s, rfn_stream_sync(s.stream));

    WORKS(&s, rfn_capture_begin(s.stream, NULL));
    WORKS(&s, rfn_copy_async(s.stream, s.lens, s.host_lens, STEP_LENS_BYTES));
    WORKS(&s, rfn_index_topk(s.stream, &s.pick));
    WORKS(&s,
          rfn_copy_async(s.stream, s.host_picked, s.pick.slots.data, STEP_PICKED_BYTES));
    WORKS(&s, rfn_capture_end(s.stream, &graph));
    WORKS(&s, rfn_graph_instantiate(graph, &exec));

    memcpy(s.host_lens, lens, sizeof lens);
    memset(lens, 0, sizeof lens); /* the graph does not know it */
    WORKS(&s, rfn_exec_launch(exec, s.stream));
    WORKS(&s, rfn_stream_sync(s.stream));
    harness_check(&s.h, "the replay used pinned memory",
                  s.host_lens[0] == 7 && step_picked(&s, s.host_lens), "it did not");

    step_verdict(&s, RFN_RULES, "", 0, "");
    WORKS(&s, rfn_exec_destroy(&exec));
    WORKS(&s, rfn_graph_destroy(&graph));
    return step_close(&s);
}
