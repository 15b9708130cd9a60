/* Bad: two layers are captured at once on two streams, and one waits for an event of the
 * other: both captures are lost. */
#include "tests/capture/step.h"

int main(int argc, char **argv)
{
    struct step s;
    if (!step_open(&s, "cap016_bad", &argc, argv))
        return step_close(&s);

    WORKS(&s, rfn_capture_begin(s.stream, NULL));
    WORKS(&s, rfn_capture_begin(s.side, NULL));
    WORKS(&s, rfn_index_topk(s.side, &s.pick));
    WORKS(&s, rfn_event_record(s.join, s.side, 0));
    int planted = __LINE__ + 1;
    step_refused(&s, rfn_stream_wait(s.stream, s.join, 0));
    step_lost(&s, s.side, 901);
    step_lost(&s, s.stream, 901);

    step_verdict(&s, RFN_CAP016, __FILE__, planted, "stream_wait");
    return step_close(&s);
}
