/* Good: two streams are forked, one from the other, and all lead back to the origin. */
#include "tests/capture/step.h"

int main(int argc, char **argv)
{
    struct step s;
    struct rfn_graph *graph = NULL;
    if (!step_open(&s, "cap014_good", &argc, argv))
        return step_close(&s);

    struct rfn_stream *third = NULL;
    struct rfn_event *back = NULL;
    WORKS(&s, rfn_stream_create(s.device, RFN_STREAM_NONBLOCKING, &third));
    WORKS(&s, rfn_event_create(s.device, &back));
    WORKS(&s, rfn_capture_begin(s.stream, NULL));
    WORKS(&s, rfn_copy_async(s.stream, s.lens, s.host_lens, STEP_LENS_BYTES));
    WORKS(&s, rfn_event_record(s.fork, s.stream, 0));
    WORKS(&s, rfn_stream_wait(s.side, s.fork, 0));
    WORKS(&s, rfn_index_topk(s.side, &s.pick));
    WORKS(&s, rfn_event_record(s.join, s.side, 0));
    WORKS(&s, rfn_stream_wait(third, s.join, 0));
    WORKS(&s, rfn_copy_async(third, s.host_picked, s.pick.slots.data, STEP_PICKED_BYTES));
    WORKS(&s, rfn_event_record(back, third, 0)); /* knows of the side stream too */
    WORKS(&s, rfn_stream_wait(s.stream, back, 0));
    WORKS(&s, rfn_capture_end(s.stream, &graph));
    step_replay(&s, graph);

    step_verdict(&s, RFN_RULES, "", 0, "");
    WORKS(&s, rfn_event_destroy(&back));
    WORKS(&s, rfn_stream_destroy(&third));
    return step_close(&s);
}
