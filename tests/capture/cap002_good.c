/* Good: lengths come in and what was picked goes out by asynchronous copies of the captured
 * stream, from and to pinned memory; each replay does both. */
#include "tests/capture/step.h"

int main(int argc, char **argv)
{
    struct step s;
    struct rfn_graph *graph = NULL;
    struct rfn_exec *exec = NULL;
    if (!step_open(&s, "cap002_good", &argc, argv))
        return step_close(&s);

    /* The plan, outside. A set does not wait, and a non-blocking stream not for it. */
    WORKS(&s, rfn_set_sync(s.device, s.pick.slots.data, 255, STEP_PICKED_BYTES));
    WORKS(&s, rfn_device_sync(s.device));
    WORKS(&s, rfn_capture_begin(s.stream, NULL));
    WORKS(&s, rfn_copy_async(s.stream, s.lens, s.host_lens, STEP_LENS_BYTES));
    WORKS(&s, rfn_index_topk(s.stream, &s.pick));
    WORKS(&s,
          rfn_copy_async(s.stream, s.host_picked, s.pick.slots.data, STEP_PICKED_BYTES));
    WORKS(&s, rfn_capture_end(s.stream, &graph));
    WORKS(&s, rfn_graph_instantiate(graph, &exec));

    for (int32_t len = 3; len < 30; len += 9)
    {
        s.host_lens[0] = len;
        s.host_lens[1] = len + 1;
        WORKS(&s, rfn_exec_launch(exec, s.stream));
        WORKS(&s, rfn_stream_sync(s.stream));
        harness_check(&s.h, "a replay sees new lengths", step_picked(&s, s.host_lens),
                      "context %d", len);
    }
    int32_t last[STEP_ROWS * STEP_TOP];
    WORKS(&s, rfn_copy_sync(s.device, last, s.pick.slots.data, STEP_PICKED_BYTES));
    harness_check(&s.h, "a copy after the capture",
                  !memcmp(last, s.host_picked, sizeof last), "differs");

    step_verdict(&s, RFN_RULES, "", 0, "");
    WORKS(&s, rfn_exec_destroy(&exec));
    WORKS(&s, rfn_graph_destroy(&graph));
    return step_close(&s);
}
