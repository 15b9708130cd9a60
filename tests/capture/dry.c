/* A dry run gives in one pass what a capture gives one at a time, each at its place; a clean
 * step gives nothing, forked or not, and what is outside is not judged. */
#include "tests/capture/step.h"

struct want
{
    enum rfn_rule rule;
    int line;
};

static void clean(struct step *s)
{
    WORKS(s, rfn_check_dry_begin(s->check, s->stream, "clean"));
    WORKS(s, rfn_copy_async(s->stream, s->lens, s->host_lens, STEP_LENS_BYTES));
    WORKS(s, rfn_event_record(s->fork, s->stream, 0));
    WORKS(s, rfn_stream_wait(s->side, s->fork, 0));
    WORKS(s, rfn_index_topk(s->side, &s->pick));
    WORKS(s, rfn_event_record(s->join, s->side, 0));
    WORKS(s, rfn_stream_wait(s->stream, s->join, 0));
    step_fetch(s);
    WORKS(s, rfn_check_dry_end(s->check, s->stream));
    WORKS(s, rfn_stream_sync(s->stream)); /* outside again */
    harness_check(&s->h, "it ran", step_picked(s, s->host_lens), "wrong");
}

static int32_t counter;

/* Lines in the order of the findings. */
static int32_t dirty(struct step *s, struct want *want)
{
    int32_t n = 0;
    int32_t pageable[STEP_ROWS * STEP_TOP], one = 1;
    void *memory = NULL, *slots = s->pick.slots.data;
    struct rfn_stream *forked = NULL;
    struct rfn_event *outside = NULL;
    WORKS(s, rfn_stream_create(s->device, RFN_STREAM_NONBLOCKING, &forked));
    WORKS(s, rfn_event_create(s->device, &outside));
    WORKS(s, rfn_event_record(outside, s->side, 0));
    WORKS(s, rfn_check_watch(s->check, "counter", &counter, sizeof counter));

    WORKS(s, rfn_check_dry_begin(s->check, s->stream, "dirty"));
    counter++;
    want[n++] = (struct want) { RFN_CAP001, __LINE__ + 1 };
    WORKS(s, rfn_stream_sync(s->stream));
    want[n++] = (struct want) { RFN_CAP002, __LINE__ + 1 };
    WORKS(s, rfn_copy_sync(s->device, pageable, slots, STEP_PICKED_BYTES));
    want[n++] = (struct want) { RFN_CAP024, __LINE__ + 1 };
    WORKS(s, rfn_copy_async(s->stream, pageable, slots, STEP_PICKED_BYTES));
    want[n++] = (struct want) { RFN_CAP057, __LINE__ + 1 };
    WORKS(s, rfn_copy_async(s->stream, s->lens, &one, sizeof one));
    want[n++] = (struct want) { RFN_CAP004, __LINE__ + 1 };
    WORKS(s, rfn_index_topk(s->side, &s->pick));
    want[n++] = (struct want) { RFN_CAP012, __LINE__ + 1 };
    WORKS(s, rfn_index_topk(rfn_stream_legacy(s->device), &s->pick));
    want[n++] = (struct want) { RFN_CAP009, __LINE__ + 1 };
    WORKS(s, rfn_memory_alloc(s->device, RFN_MEMORY_DEVICE, 64, &memory));
    WORKS(s, rfn_event_record(s->fork, s->stream, 0));
    want[n++] = (struct want) { RFN_CAP011, __LINE__ + 1 };
    WORKS(s, rfn_event_sync(s->fork));
    want[n++] = (struct want) { RFN_CAP015, __LINE__ + 1 };
    WORKS(s, rfn_stream_wait(s->stream, outside, 0));
    want[n++] = (struct want) { RFN_CAP034, __LINE__ + 1 };
    enum rfn_status status = rfn_event_query(outside);
    harness_check(&s->h, "it passes", status == RFN_OK || status == RFN_NOT_READY, "%s",
                  rfn_last_error());
    int fork = __LINE__ + 1;
    WORKS(s, rfn_stream_wait(forked, s->fork, 0));
    WORKS(s, rfn_index_topk(forked, &s->pick));
    want[n++] = (struct want) { RFN_CAP014, fork };
    WORKS(s, rfn_check_dry_end(s->check, s->stream));

    WORKS(s, rfn_device_sync(s->device));
    WORKS(s, rfn_memory_free(s->device, memory));
    WORKS(s, rfn_event_destroy(&outside));
    WORKS(s, rfn_stream_destroy(&forked));
    return n;
}

int main(int argc, char **argv)
{
    struct step s;
    struct want want[16];
    struct rfn_finding f = { .why = "" };
    if (!step_open(&s, "dry", &argc, argv))
        return step_close(&s);
    clean(&s);
    clean(&s);
    step_verdict(&s, RFN_RULES, "", 0, "");

    int32_t n = dirty(&s, want), count = rfn_check_count(s.check);
    harness_check(&s.h, "how many findings", count == n, "%d, not %d", count, n);
    for (int32_t i = 0; i < count; i++)
    {
        char text[2048];
        WORKS(&s, rfn_check_finding(s.check, i, &f));
        rfn_finding_text(&f, text, sizeof text);
        fputs(text, stdout);
        harness_check(&s.h, "each at its place",
                      i < n && f.rule == want[i].rule && f.line == want[i].line,
                      "%s at line %d", rfn_rule_query(f.rule)->id, f.line);
        harness_check(&s.h, "of the dry run", f.capture_id >> 63, "%llx",
                      (unsigned long long)f.capture_id);
    }
    enum rfn_status status = rfn_check_dry_end(s.check, s.stream);
    harness_check(&s.h, "an end without a begin", status == RFN_NOT_FOUND, "%s",
                  rfn_last_error());
    WORKS(&s, rfn_check_dry_begin(s.check, s.stream, NULL));
    status = rfn_check_dry_begin(s.check, s.side, NULL);
    harness_check(&s.h, "two at once", status == RFN_BUSY, "%s", rfn_last_error());
    status = rfn_check_dry_end(s.check, s.side);
    harness_check(&s.h, "another stream", status == RFN_INVALID, "%s", rfn_last_error());
    WORKS(&s, rfn_index_topk(s.stream, &s.pick));
    WORKS(&s, rfn_check_dry_end(s.check, s.stream));
    harness_check(&s.h, "no more", rfn_check_count(s.check) == n, "%d",
                  rfn_check_count(s.check));
    return step_close(&s);
}
