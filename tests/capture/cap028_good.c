/* Good: each replay waits for the copy of what the last one picked; what it only reads may be
 * read beside it, by copies and by ops. */
#include "tests/capture/step.h"

int main(int argc, char **argv)
{
    struct step s;
    struct rfn_graph *graph = NULL;
    struct rfn_exec *exec = NULL;
    if (!step_open(&s, "cap028_good", &argc, argv))
        return step_close(&s);

    int32_t none[STEP_ROWS][STEP_TOP] = { { 0 } };
    struct rfn_index_topk_args beside = s.pick;
    beside.slots.data = step_upload(&s, none, sizeof none);
    WORKS(&s, rfn_capture_begin(s.stream, NULL));
    WORKS(&s, rfn_index_topk(s.stream, &s.pick));
    WORKS(&s, rfn_capture_end(s.stream, &graph));
    WORKS(&s, rfn_graph_instantiate(graph, &exec));
    for (int step = 0; step < 6; step++)
    {
        WORKS(&s, rfn_exec_launch(exec, s.stream));
        WORKS(&s, rfn_event_record(s.fork, s.stream, 0));
        WORKS(&s, rfn_stream_wait(s.side, s.fork, 0));
        WORKS(&s, rfn_copy_async(s.side, s.host_picked, s.pick.slots.data,
                                 STEP_PICKED_BYTES));
        WORKS(&s, rfn_event_record(s.join, s.side, 0));
        WORKS(&s, rfn_copy_async(s.side, s.host_lens, s.lens, STEP_LENS_BYTES));
        WORKS(&s, rfn_index_topk(s.side, &beside));
        if (step % 2)
            WORKS(&s, rfn_event_sync(s.join));
        else
            WORKS(&s, rfn_stream_wait(s.stream, s.join, 0));
    }
    WORKS(&s, rfn_device_sync(s.device));

    step_verdict(&s, RFN_RULES, "", 0, "");
    WORKS(&s, rfn_exec_destroy(&exec));
    WORKS(&s, rfn_graph_destroy(&graph));
    WORKS(&s, rfn_memory_free(s.device, beside.slots.data));
    return step_close(&s);
}
