/* Bad: the op is forked to the side stream, and its join was forgotten. */
#include "tests/capture/step.h"

int main(int argc, char **argv)
{
    struct step s;
    if (!step_open(&s, "cap014_bad", &argc, argv))
        return step_close(&s);

    WORKS(&s, rfn_capture_begin(s.stream, NULL));
    WORKS(&s, rfn_copy_async(s.stream, s.lens, s.host_lens, STEP_LENS_BYTES));
    WORKS(&s, rfn_event_record(s.fork, s.stream, 0));
    int planted = __LINE__ + 1;
    WORKS(&s, rfn_stream_wait(s.side, s.fork, 0));
    WORKS(&s, rfn_event_record(s.join, s.side, 0)); /* before the op: too early */
    WORKS(&s, rfn_index_topk(s.side, &s.pick));
    WORKS(&s, rfn_stream_wait(s.stream, s.join, 0));
    step_lost(&s, s.stream, 904);

    step_verdict(&s, RFN_CAP014, __FILE__, planted, "stream_wait");
    return step_close(&s);
}
