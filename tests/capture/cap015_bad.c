/* Bad: the lengths come by another stream, and the captured one waits for an event that was
 * recorded there before the capture. */
#include "tests/capture/step.h"

int main(int argc, char **argv)
{
    struct step s;
    if (!step_open(&s, "cap015_bad", &argc, argv))
        return step_close(&s);

    WORKS(&s, rfn_copy_async(s.side, s.lens, s.host_lens, STEP_LENS_BYTES));
    WORKS(&s, rfn_event_record(s.fork, s.side, 0));
    WORKS(&s, rfn_capture_begin(s.stream, NULL));
    int planted = __LINE__ + 1;
    step_refused(&s, rfn_stream_wait(s.stream, s.fork, 0));
    step_lost(&s, s.stream, 901);

    step_verdict(&s, RFN_CAP015, __FILE__, planted, "stream_wait");
    return step_close(&s);
}
