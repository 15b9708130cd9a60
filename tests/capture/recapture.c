/*
 * A program that recaptures for ever, each time with a warning: an error that comes late is
 * found all the same, and what is kept of the captures stays within bounds.
 */
#include "tests/capture/step.h"

#if defined(__GLIBC__)
#include <malloc.h>
#endif

#define CAPTURES 20000
#define SETTLED 1000     /* captures after which the heap must not grow with them */
#define GROWTH (1 << 20) /* bytes; a ledger of each would be more than ten times that */
#define TOLD 8           /* captures in which a site is told apart */
#define LEDGERS 512      /* kept of captures that are over */

static int64_t heap_bytes(void)
{
#if defined(__GLIBC__)
#if __GLIBC_PREREQ(2, 33)
    struct mallinfo2 info = mallinfo2();
    return (int64_t)(info.uordblks + info.hblkhd);
#endif
#endif
    return 0;
}

/* One set and no kernel: CAP045 at the end. */
static uint64_t capture_of_a_set(struct step *s)
{
    struct rfn_graph *graph = NULL;
    struct rfn_capture_info info = { RFN_CAPTURE_NONE, 0 };
    if (rfn_capture_begin(s->stream, NULL) != RFN_OK ||
        rfn_capture_query(s->stream, &info) != RFN_OK ||
        rfn_set_async(s->stream, s->pick.slots.data, 0, STEP_PICKED_BYTES) != RFN_OK ||
        rfn_capture_end(s->stream, &graph) != RFN_OK ||
        rfn_graph_destroy(&graph) != RFN_OK)
        return 0;
    return info.id;
}

static void check_finding(struct step *s, int32_t i, enum rfn_rule rule, int64_t times)
{
    struct rfn_finding f = { .why = "" };
    WORKS(s, rfn_check_finding(s->check, i, &f));
    harness_check(&s->h, "the rule", f.rule == rule, "finding %d is %s", i,
                  rfn_rule_query(f.rule)->id);
    harness_check(&s->h, "how often", f.count == times, "finding %d: %lld, not %lld", i,
                  (long long)f.count, (long long)times);
}

static uint64_t id[CAPTURES];

int main(int argc, char **argv)
{
    struct step s;
    struct rfn_capture_info open;
    struct rfn_ledger_entry e;
    if (!step_open(&s, "recapture", &argc, argv))
        return step_close(&s);

    /* Open all the while: its ledger is the oldest, and stays. */
    struct rfn_capture_desc relaxed = { .mode = RFN_CAPTURE_RELAXED };
    WORKS(&s, rfn_capture_begin(s.side, &relaxed));
    WORKS(&s, rfn_capture_query(s.side, &open));
    WORKS(&s, rfn_index_topk(s.side, &s.pick));

    int64_t settled = 0;
    int n = 0;
    for (; n < CAPTURES && (id[n] = capture_of_a_set(&s)); n++)
        if (n == SETTLED)
            settled = heap_bytes();
    int64_t grown = heap_bytes() - settled;
    harness_check(&s.h, "all captures", n == CAPTURES, "%d: %s", n, rfn_last_error());
    harness_check(&s.h, "the heap is bounded", grown < GROWTH, "%lld bytes more",
                  (long long)grown);

    int32_t count = rfn_check_count(s.check);
    harness_check(&s.h, "one site, few findings", count == TOLD, "%d", count);
    for (int i = 0; i < TOLD && i < count; i++)
        check_finding(&s, i, RFN_CAP045, i < TOLD - 1 ? 1 : CAPTURES - (TOLD - 1));

    for (int i = 0; i < n; i++)
    {
        int32_t want = i < n - LEDGERS ? -1 : 1;
        int32_t entries = rfn_check_ledger_count(s.check, id[i]);
        if (entries != want)
        {
            harness_check(&s.h, "the newest ledgers", 0, "capture %d: %d entries", i,
                          entries);
            break;
        }
    }
    enum rfn_status status = rfn_check_ledger(s.check, id[0], 0, &e, NULL, 0);
    harness_check(&s.h, "a ledger that was dropped", status == RFN_NOT_FOUND, "%s",
                  rfn_status_name(status));
    WORKS(&s, rfn_check_ledger(s.check, id[CAPTURES - 1], 0, &e, NULL, 0));
    harness_check(&s.h, "the newest ledger", !strcmp(e.what, "set_async"), "%s", e.what);
    harness_check(&s.h, "the ledger of the open capture",
                  rfn_check_ledger_count(s.check, open.id) == 1, "is gone");

    WORKS(&s, rfn_capture_begin(s.stream, NULL));
    step_refused(&s, rfn_device_sync(s.device));
    harness_check(&s.h, "the late error", rfn_check_count(s.check) == TOLD + 1, "%d",
                  rfn_check_count(s.check));
    check_finding(&s, TOLD, RFN_CAP001, 1);
    step_lost(&s, s.stream, 901);
    step_lost(&s, s.side, 901);
    return step_close(&s);
}
