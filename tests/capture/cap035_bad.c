/* Bad: a captured function asks for an event to choose what it launches; relaxed mode lets it. */
#include "tests/capture/step.h"

int main(int argc, char **argv)
{
    struct step s;
    struct rfn_graph *graph = NULL;
    if (!step_open(&s, "cap035_bad", &argc, argv))
        return step_close(&s);

    struct rfn_capture_desc desc = { RFN_CAPTURE_RELAXED, "relaxed" };
    WORKS(&s, rfn_event_record(s.join, s.side, 0));
    WORKS(&s, rfn_capture_begin(s.stream, &desc));
    int planted = __LINE__ + 1;
    enum rfn_status status = rfn_event_query(s.join);
    harness_check(&s.h, "it passes", status == RFN_OK || status == RFN_NOT_READY, "%s",
                  rfn_last_error());
    WORKS(&s, rfn_index_topk(s.stream, &s.pick));
    WORKS(&s, rfn_capture_end(s.stream, &graph));

    step_verdict(&s, RFN_CAP035, __FILE__, planted, "event_query");
    WORKS(&s, rfn_graph_destroy(&graph));
    return step_close(&s);
}
