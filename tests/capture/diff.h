/* What the programs of the differential capture share: a step that is recorded three times,
 * and exactly one finding, or none. */
#ifndef TEST_CAPTURE_DIFF_H
#define TEST_CAPTURE_DIFF_H

#include "tests/capture/lint.h"

#include <refrain/diff.h>

struct diff
{
    struct step *s;
    enum rfn_status (*record)(struct diff *d, struct rfn_stream *stream);
    enum rfn_diff_round round;
    struct rfn_index_topk_args pick; /* of this round */
    void *elsewhere;                 /* slots of the third */
    int32_t calls;
    int32_t back;
};

static inline enum rfn_status diff_record(void *ctx, struct rfn_stream *stream)
{
    struct diff *d = ctx;
    d->calls++;
    return d->record(d, stream);
}

/* Other lengths in the same buffer; then other slots. */
static inline enum rfn_status diff_mutate(void *ctx, enum rfn_diff_round round)
{
    struct diff *d = ctx;
    int32_t lens[STEP_ROWS] = { 7 + (int32_t)round, 40 };
    d->round = round;
    d->back = round == RFN_DIFF_FIRST;
    d->pick = d->s->pick;
    if (round == RFN_DIFF_ARENA)
        d->pick.slots.data = d->elsewhere;
    return rfn_copy_sync(d->s->device, d->s->lens, lens, sizeof lens);
}

/* Records the step; `want` says what is due. */
static inline void diff_step(struct lint_want *want,
                             enum rfn_status (*record)(struct diff *d,
                                                       struct rfn_stream *stream))
{
    struct step *s = want->s;
    struct diff d = { .s = s, .record = record, .pick = s->pick };
    struct rfn_diff_desc desc = {
        .record = diff_record, .mutate = diff_mutate, .ctx = &d, .check = s->check
    };
    struct rfn_diff_info info = { 0 };
    int32_t due = lint_due(want);
    WORKS(s, rfn_memory_alloc(s->device, RFN_MEMORY_DEVICE, 2 * STEP_PICKED_BYTES,
                              &d.elsewhere));
    want->seen = 0;
    WORKS(s, rfn_graph_diff(s->device, &desc, lint_report, want, &info));
    harness_check(&s->h, "how many findings", info.findings == due && want->seen == due,
                  "%d and %d, not %d", info.findings, want->seen, due);
    harness_check(&s->h, "three recordings", d.calls == 3 && d.back, "%d", d.calls);
    harness_check(&s->h, "what moved", info.moved >= 1 && info.stayed >= 1,
                  "%d moved, %d stayed", info.moved, info.stayed);
    WORKS(s, rfn_memory_free(s->device, d.elsewhere));
}

#endif
