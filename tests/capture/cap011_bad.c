/* Bad: the step asks whether its own work has come so far, by an event that was recorded in
 * the capture and so never happens. */
#include "tests/capture/step.h"

int main(int argc, char **argv)
{
    struct step s;
    if (!step_open(&s, "cap011_bad", &argc, argv))
        return step_close(&s);

    WORKS(&s, rfn_capture_begin(s.stream, NULL));
    WORKS(&s, rfn_index_topk(s.stream, &s.pick));
    WORKS(&s, rfn_event_record(s.join, s.stream, 0));
    int planted = __LINE__ + 1;
    step_refused(&s, rfn_event_query(s.join));
    step_lost(&s, s.stream, 901);

    step_verdict(&s, RFN_CAP011, __FILE__, planted, "event_query");
    return step_close(&s);
}
