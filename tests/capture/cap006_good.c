/* Good: launched for the bounds, on two streams; events are made anew. And an
 * error of a callback is handed on, with everything put back. */
#include "tests/capture/diff.h"

static enum rfn_status record(struct diff *d, struct rfn_stream *stream)
{
    struct step *s = d->s;
    struct rfn_event *fork = NULL;
    WORKS(s, rfn_event_create(s->device, &fork));
    WORKS(s, rfn_index_topk(stream, &d->pick));
    WORKS(s, rfn_event_record(fork, stream, 0));
    WORKS(s, rfn_stream_wait(s->side, fork, 0));
    WORKS(s, rfn_set_async(s->side, s->lens, 1, STEP_LENS_BYTES));
    WORKS(s, rfn_event_record(s->join, s->side, 0));
    WORKS(s, rfn_stream_wait(stream, s->join, 0));
    WORKS(s, rfn_event_destroy(&fork));
    return rfn_index_topk(stream, &d->pick);
}

static enum rfn_status fail(struct diff *d, struct rfn_stream *stream)
{
    enum rfn_status status = rfn_index_topk(stream, &d->pick);
    if (status || d->round != RFN_DIFF_INPUTS)
        return status;
    return rfn_error(RFN_LIMIT, "no more of these");
}

static void check_errors(struct step *s)
{
    struct diff d = { .s = s, .record = fail, .pick = s->pick };
    struct rfn_diff_desc desc = { .record = diff_record,
                                  .mutate = diff_mutate,
                                  .ctx = &d };
    struct lint_want none = { .s = s, .rule = RFN_RULES };
    struct rfn_diff_info info = { .nodes = -1 };
    enum rfn_status status = rfn_graph_diff(s->device, &desc, lint_report, &none, &info);
    harness_check(&s->h, "the callback's error",
                  status == RFN_LIMIT && strstr(rfn_last_error(), "no more of these"),
                  "%s: %s", rfn_status_name(status), rfn_last_error());
    harness_check(&s->h, "put back", d.back && d.calls == 2, "%d recordings", d.calls);
    harness_check(&s->h, "nothing said", info.nodes == -1 && !none.seen, "%d", none.seen);
    desc.record = NULL;
    status = rfn_graph_diff(s->device, &desc, NULL, NULL, NULL);
    harness_check(&s->h, "no record", status == RFN_INVALID, "%s",
                  rfn_status_name(status));
}

int main(int argc, char **argv)
{
    struct step s;
    if (!step_open(&s, "cap006_good", &argc, argv))
        return step_close(&s);
    struct lint_want none = { .s = &s, .rule = RFN_RULES };
    diff_step(&none, record);
    check_errors(&s);
    step_verdict(&s, RFN_RULES, "", 0, "");
    return step_close(&s);
}
