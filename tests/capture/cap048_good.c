/* Good: an executable changes its stream behind an event, behind each way in which the host
 * can know that it is over, and by way of the legacy stream. */
#include "tests/capture/step.h"

static void on_both(struct step *s, struct rfn_exec *exec, struct rfn_stream *one,
                    struct rfn_stream *two)
{
    WORKS(s, rfn_exec_launch(exec, one));
    WORKS(s, rfn_event_record(s->fork, one, 0));
    WORKS(s, rfn_stream_wait(two, s->fork, 0));
    WORKS(s, rfn_exec_launch(exec, two));
}

/* The host knows, one way or another; then the other stream's turn. */
static void known(struct step *s, struct rfn_exec *exec, int how)
{
    enum rfn_status status = RFN_NOT_READY;
    WORKS(s, rfn_event_record(s->join, s->side, 0));
    switch (how)
    {
    case 0:
        WORKS(s, rfn_stream_sync(s->side));
        break;
    case 1:
        WORKS(s, rfn_event_sync(s->join));
        break;
    case 2:
        while (status == RFN_NOT_READY)
            status = rfn_event_query(s->join);
        break;
    case 3:
        while (status == RFN_NOT_READY)
            status = rfn_stream_query(s->side);
        break;
    default:
        WORKS(s, rfn_device_sync(s->device));
        break;
    }
    WORKS(s, rfn_exec_launch(exec, s->stream));
    WORKS(s, rfn_stream_sync(s->stream));
    WORKS(s, rfn_exec_launch(exec, s->side));
}

int main(int argc, char **argv)
{
    struct step s;
    struct rfn_graph *graph = NULL;
    struct rfn_exec *exec = NULL;
    struct rfn_stream *blocking = NULL, *third = NULL;
    if (!step_open(&s, "cap048_good", &argc, argv))
        return step_close(&s);

    WORKS(&s, rfn_stream_create(s.device, RFN_STREAM_BLOCKING, &blocking));
    WORKS(&s, rfn_stream_create(s.device, RFN_STREAM_NONBLOCKING, &third));
    WORKS(&s, rfn_capture_begin(s.stream, NULL));
    WORKS(&s, rfn_index_topk(s.stream, &s.pick));
    WORKS(&s, rfn_capture_end(s.stream, &graph));
    WORKS(&s, rfn_graph_instantiate(graph, &exec));
    for (int i = 0; i < 8; i++)
        on_both(&s, exec, i % 2 ? s.stream : s.side, i % 2 ? s.side : s.stream);
    on_both(&s, exec, s.side, third); /* what the third knows of, it hands on */
    on_both(&s, exec, third, s.side);
    for (int how = 0; how < 5; how++)
        known(&s, exec, how);
    WORKS(&s, rfn_stream_sync(s.side));

    WORKS(&s, rfn_exec_launch(exec, blocking));
    WORKS(&s, rfn_exec_launch(exec, rfn_stream_legacy(s.device)));
    WORKS(&s, rfn_exec_launch(exec, rfn_stream_per_thread(s.device)));
    int32_t picked[STEP_ROWS * STEP_TOP];
    WORKS(&s, rfn_copy_sync(s.device, picked, s.pick.slots.data, STEP_PICKED_BYTES));
    WORKS(&s, rfn_exec_launch(exec, s.stream)); /* it waited for the legacy stream */
    WORKS(&s, rfn_exec_destroy(&exec));         /* and this for the launch */
    WORKS(&s, rfn_graph_instantiate(graph, &exec));
    WORKS(&s, rfn_exec_launch(exec, s.side));
    WORKS(&s, rfn_device_sync(s.device));

    step_verdict(&s, RFN_RULES, "", 0, "");
    WORKS(&s, rfn_exec_destroy(&exec));
    WORKS(&s, rfn_graph_destroy(&graph));
    WORKS(&s, rfn_stream_destroy(&third));
    WORKS(&s, rfn_stream_destroy(&blocking));
    return step_close(&s);
}
