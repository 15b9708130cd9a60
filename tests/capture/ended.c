/* Events of captures that are over: they never happen, and nobody can wait for them. */
#include "tests/capture/step.h"

static void check_last(struct step *s, int32_t count, enum rfn_rule rule, int line)
{
    struct rfn_finding f = { .why = "" };
    int32_t n = rfn_check_count(s->check);
    if (!harness_check(&s->h, "how many findings", n == count, "%d, not %d", n, count))
        return;
    WORKS(s, rfn_check_finding(s->check, n - 1, &f));
    harness_check(&s->h, "the rule", f.rule == rule, "%s", rfn_rule_query(f.rule)->id);
    harness_check(&s->h, "the place", f.line == line, "line %d, not %d", f.line, line);
    harness_check(&s->h, "where the event was recorded",
                  strstr(f.why, "was recorded at tests/capture/ended.c:") != NULL, "%s",
                  f.why);
}

int main(int argc, char **argv)
{
    struct step s;
    struct rfn_graph *graph = NULL;
    if (!step_open(&s, "ended", &argc, argv))
        return step_close(&s);
    WORKS(&s, rfn_capture_begin(s.stream, NULL));
    WORKS(&s, rfn_index_topk(s.stream, &s.pick));
    WORKS(&s, rfn_event_record(s.join, s.stream, 0));
    WORKS(&s, rfn_capture_end(s.stream, &graph));

    int line = __LINE__ + 1;
    enum rfn_status status = rfn_event_sync(s.join);
    harness_check(&s.h, "a wait for it", status != RFN_OK, "passed");
    check_last(&s, 1, RFN_CAP011, line);

    WORKS(&s, rfn_capture_begin(s.stream, NULL));
    line = __LINE__ + 1;
    status = rfn_stream_wait(s.stream, s.join, 0);
    harness_check(&s.h, "a wait in another capture", status != RFN_OK, "passed");
    check_last(&s, 2, RFN_CAP015, line);
    step_lost(&s, s.stream, 901);

    /* The other capture is lost by then: what was wrong there was told there. */
    WORKS(&s, rfn_capture_begin(s.side, NULL));
    WORKS(&s, rfn_capture_begin(s.stream, NULL));
    WORKS(&s, rfn_event_record(s.fork, s.side, 0));
    status = rfn_stream_sync(s.side);
    harness_check(&s.h, "the other is lost", status != RFN_OK, "passed");
    line = __LINE__ + 1;
    status = rfn_stream_wait(s.stream, s.fork, 0);
    harness_check(&s.h, "a wait for its event", status != RFN_OK, "passed");
    check_last(&s, 4, RFN_CAP016, line);
    step_lost(&s, s.stream, 901);
    step_lost(&s, s.side, 901);

    WORKS(&s, rfn_event_record(s.join, s.stream, 0)); /* anew */
    WORKS(&s, rfn_event_sync(s.join));
    int32_t count = rfn_check_count(s.check);
    harness_check(&s.h, "nothing more", count == 4, "%d", count);
    WORKS(&s, rfn_graph_destroy(&graph));
    return step_close(&s);
}
