/* What the scheduler says of a step: checked whole, then handed over, in a record or by a
 * copy. */
#include "runtime/attention/attention.h"

#include "kernels/op.h"
#include "runtime/guard.h"
#include "runtime/range.h"

#include <inttypes.h>
#include <string.h>

/* ---- checks ---------------------------------------------------------------------- */

static int64_t pages_for(const struct rfn_attention *a, int64_t tokens)
{
    /* In 32 bits, which divide faster: both are positive, and tokens were i32 or a sum of
     * two. */
    return ((uint32_t)tokens + (uint32_t)a->geometry.page_tokens - 1) /
           (uint32_t)a->geometry.page_tokens;
}

/* The same for request b; as a rule what it needed in the step before, without a division. */
static int64_t pages_of(const struct rfn_attention *a, int32_t b, int64_t tokens)
{
    const int64_t guess = a->handed.pages[b], P = a->geometry.page_tokens;
    return tokens <= guess * P && tokens > (guess - 1) * P ? guess : pages_for(a, tokens);
}

/* Lengths of one request; adds it to the plan. */
static enum rfn_status check_lengths(const struct rfn_attention *a, int32_t b,
                                     int64_t len, int32_t q, struct rfn_plan *plan)
{
    if (q < 1)
        return RFN_FAIL(RFN_INVALID,
                        "request %d: %d query tokens, but at least 1 is needed", b, q);
    if (q > a->limits.next_n)
        return RFN_FAIL(RFN_LIMIT, "request %d: %d query tokens, but the limit is %d", b,
                        q, a->limits.next_n);
    if (len < q)
        return RFN_FAIL(RFN_INVALID,
                        "request %d: a context of %" PRId64
                        " tokens, but it includes the %d query tokens of this step",
                        b, len, q);
    if (len > a->limits.context)
        return RFN_FAIL(
            RFN_LIMIT, "request %d: a context of %" PRId64 " tokens, but the limit is %d",
            b, len, a->limits.context);
    plan->tokens += q;
    if (q > plan->most_tokens)
        plan->most_tokens = q;
    if (len > a->geometry.topk)
        plan->bucket.short_context = 0;
    return RFN_OK;
}

static enum rfn_status check_room(int32_t b, int64_t columns, int64_t pages)
{
    if (pages > columns)
        return RFN_FAIL(RFN_INVALID,
                        "request %d: its context needs %" PRId64
                        " pages, but its table has %" PRId64,
                        b, pages, columns);
    return RFN_OK;
}

/* Entries [from, to) of a row. Without a way out the loop is vectorised; a good row, the
 * usual one, has no use of one. */
static enum rfn_status check_entries(const struct rfn_attention *a, int32_t b,
                                     const int32_t *row, int64_t from, int64_t to)
{
    const uint32_t most = (uint32_t)a->limits.pages;
    uint32_t bad = 0;
    for (int64_t i = from; i < to; i++)
        bad |= (uint32_t)row[i] >= most;
    for (int64_t i = from; bad && i < to; i++)
        if (row[i] < 0 || row[i] >= a->limits.pages)
            return RFN_FAIL(RFN_INVALID,
                            "request %d: entry %" PRId64
                            " of its table is page %d, but the pools have %" PRId64,
                            b, i, row[i], a->limits.pages);
    return RFN_OK;
}

static int64_t least(int64_t x, int64_t y)
{
    return x < y ? x : y;
}

static int64_t most(int64_t x, int64_t y)
{
    return x > y ? x : y;
}

/* What of a row is new. */
static struct rfn_entries fresh_of(const struct rfn_attention *a,
                                   const struct rfn_step *step, int32_t b)
{
    if (step->new_from)
        return (struct rfn_entries) { step->new_from[b], step->new_to[b] };
    return (struct rfn_entries) { 0, (int32_t)least(step->table_stride, a->width) };
}

/* Nothing of the row before it stays. */
static int is_whole(struct rfn_entries fresh)
{
    return fresh.lo == 0 && fresh.hi > 0;
}

/* Entries of a row once the new ones are in. */
static int64_t columns_of(const struct rfn_attention *a, struct rfn_entries fresh,
                          int32_t b)
{
    return is_whole(fresh) ? fresh.hi : most(a->handed.columns[b], fresh.hi);
}

/* A row of which a part is new: the rest must have been handed over. */
static enum rfn_status check_part(const struct rfn_attention *a,
                                  const struct rfn_step *step, int32_t b, int64_t pages)
{
    const struct rfn_handed *h = &a->handed;
    const struct rfn_entries fresh = fresh_of(a, step, b);
    const int64_t room = least(step->table_stride, a->width);
    const int32_t *row = step->table + b * step->table_stride;
    int32_t requests = h->valid ? h->requests : 0;
    if (fresh.lo == fresh.hi && b < requests && pages <= h->pages[b] && fresh.lo >= 0 &&
        fresh.lo <= h->columns[b])
        return RFN_OK; /* most rows of most steps */
    if (fresh.lo < 0 || fresh.hi < fresh.lo || fresh.hi > room)
        return RFN_FAIL(
            RFN_INVALID,
            "request %d: entries %d to %d of its table are new, but a row has "
            "%" PRId64,
            b, fresh.lo, fresh.hi, room);
    if (!is_whole(fresh) && (b >= requests || fresh.lo > h->columns[b]))
        return RFN_FAIL(RFN_INVALID,
                        "request %d: entries %d to %d of its table are new, but %d were "
                        "handed over before them",
                        b, fresh.lo, fresh.hi, b < requests ? h->columns[b] : 0);
    enum rfn_status status = check_room(b, columns_of(a, fresh, b), pages);
    if (status == RFN_OK)
        status = check_entries(a, b, row, fresh.lo, least(fresh.hi, pages));
    if (status != RFN_OK || is_whole(fresh))
        return status;
    const int32_t *old = rfn_old_row(a, b);
    status = check_entries(a, b, old, h->pages[b], least(fresh.lo, pages));
    if (status == RFN_OK)
        status = check_entries(a, b, old, most(fresh.hi, h->pages[b]), pages);
    return status;
}

static enum rfn_status check_full(const struct rfn_attention *a,
                                  const struct rfn_step *step, struct rfn_plan *plan)
{
    enum rfn_status status = RFN_OK;
    if (step->requests && (!step->lens || !step->table))
        return RFN_FAIL(RFN_INVALID, "step: %d requests, but %s is NULL", step->requests,
                        step->lens ? "table" : "lens");
    if (step->requests && !step->new_from != !step->new_to)
        return RFN_FAIL(RFN_INVALID,
                        "step: new_from is %p, new_to is %p: both or neither",
                        (const void *)step->new_from, (const void *)step->new_to);
    for (int32_t b = 0; status == RFN_OK && b < step->requests; b++)
    {
        int32_t q = step->q_lens ? step->q_lens[b] : a->limits.next_n;
        const int64_t pages = pages_of(a, b, step->lens[b]);
        status = check_lengths(a, b, step->lens[b], q, plan);
        if (status == RFN_OK && step->new_from)
            status = check_part(a, step, b, pages);
        else if (status == RFN_OK)
        {
            status = check_room(b, step->table_stride, pages);
            if (status == RFN_OK)
                status =
                    check_entries(a, b, step->table + b * step->table_stride, 0, pages);
        }
    }
    return status;
}

/* Length of a request in this step when the device advanced it behind the last one. */
static int64_t advanced(const struct rfn_handed *h, int32_t b)
{
    return (int64_t)h->lens[b] + (h->advance ? h->q_lens[b] : 0);
}

/* The same when it takes tokens back. */
static int64_t carried_on(const struct rfn_handed *h, const struct rfn_step *step,
                          int32_t b)
{
    return advanced(h, b) - (step->rejected ? step->rejected[b] : 0);
}

/* The device takes tokens back from the length that it has, which ends with the table. */
static enum rfn_status check_rejected(const struct rfn_attention *a, int32_t b, int32_t n)
{
    const int64_t room = a->width * a->geometry.page_tokens;
    const int64_t len = advanced(&a->handed, b);
    if (n < 0)
        return RFN_FAIL(RFN_INVALID,
                        "request %d: %d tokens are rejected, but at least 0 is needed", b,
                        n);
    if (n > 0 && len > room)
        return RFN_FAIL(RFN_INVALID,
                        "request %d: unchanged, %d tokens rejected of %" PRId64
                        ", but the device stopped at %" PRId64
                        ", where its table ends: hand its length over",
                        b, n, len, room);
    return RFN_OK;
}

/* The caller need not say what the device has; what it says must be that. */
static enum rfn_status check_unchanged(const struct rfn_attention *a,
                                       const struct rfn_step *step, struct rfn_plan *plan)
{
    const struct rfn_handed *h = &a->handed;
    enum rfn_status status = RFN_OK;
    if (!h->valid)
        return RFN_FAIL(RFN_INVALID,
                        "step: unchanged = 1, but no step was handed over before it");
    if (step->requests != h->requests)
        return RFN_FAIL(RFN_INVALID,
                        "step: unchanged with %d requests, but there were %d",
                        step->requests, h->requests);
    for (int32_t b = 0; status == RFN_OK && b < h->requests; b++)
    {
        const int64_t len = carried_on(h, step, b);
        if (step->rejected)
            status = check_rejected(a, b, step->rejected[b]);
        if (status != RFN_OK)
            return status;
        if (step->lens && step->lens[b] != len)
            return RFN_FAIL(RFN_INVALID,
                            "request %d: unchanged with a context of %d tokens, but the "
                            "device has %" PRId64,
                            b, step->lens[b], len);
        if (step->q_lens && step->q_lens[b] != h->q_lens[b])
            return RFN_FAIL(RFN_INVALID,
                            "request %d: unchanged with %d query tokens, but the device "
                            "has %d",
                            b, step->q_lens[b], h->q_lens[b]);
        status = check_lengths(a, b, len, h->q_lens[b], plan);
        if (status == RFN_OK)
            status = check_room(b, h->columns[b], pages_for(a, len));
        if (status == RFN_OK)
            status =
                check_entries(a, b, rfn_old_row(a, b), h->pages[b], pages_for(a, len));
    }
    return status;
}

enum rfn_status rfn_plan_check(const struct rfn_attention *attention,
                               const struct rfn_step *step, struct rfn_plan *ret_plan)
{
    const struct rfn_attention *a = attention;
    if (!a || !step || !ret_plan)
        return RFN_FAIL(RFN_INVALID, "plan: %s is NULL",
                        !a      ? "attention"
                        : !step ? "step"
                                : "ret_plan");
    if (step->requests < 0 || step->unchanged < 0 || step->unchanged > 1 ||
        step->advance < 0 || step->advance > 1)
        return RFN_FAIL(RFN_INVALID,
                        "step: requests = %d, unchanged = %d, advance = %d; at least 0, "
                        "and 0 or 1 are needed",
                        step->requests, step->unchanged, step->advance);
    if (step->requests > a->limits.requests)
        return RFN_FAIL(RFN_LIMIT, "step: %d requests, but the limit is %d",
                        step->requests, a->limits.requests);
    struct rfn_plan plan = { { step->requests, a->limits.next_n, 1 }, 0, 0 };
    enum rfn_status status =
        step->unchanged ? check_unchanged(a, step, &plan) : check_full(a, step, &plan);
    if (status == RFN_OK && step->unchanged && a->handed.requests)
        status = rfn_guard_plan(a->device, a->state, carried_on(&a->handed, step, 0),
                                a->handed.lens[0]);
    if (status == RFN_OK && (step->unchanged || step->new_from))
        status = rfn_records_check(a);
    if (status == RFN_OK)
        *ret_plan = plan;
    return status;
}

enum rfn_status rfn_plan_check_again(const struct rfn_attention *attention,
                                     int32_t replays, struct rfn_plan *ret_plan,
                                     int32_t *ret_shorts)
{
    const struct rfn_attention *a = attention;
    const struct rfn_handed *h = &a->handed;
    struct rfn_plan plan = { { h->requests, a->limits.next_n, 1 }, 0, 0 };
    enum rfn_status status = RFN_OK;
    int64_t shorts = replays;
    if (replays < 1)
        return RFN_FAIL(RFN_INVALID, "again: %d replays, but at least 1 is needed",
                        replays);
    if (!h->valid || !h->advance)
        return RFN_FAIL(RFN_INVALID, "again: %s",
                        h->valid ? "the last step has advance = 0, so that the device "
                                   "would repeat it"
                                 : "no step was handed over before it");
    if (!h->requests && replays >= a->limits.context)
        return RFN_FAIL(
            RFN_LIMIT,
            "again: %d replays of no request, but the limit is %d, the most that "
            "a request could have",
            replays, a->limits.context - 1);
    for (int32_t b = 0; status == RFN_OK && b < h->requests; b++)
    {
        const int64_t first = advanced(h, b), q = h->q_lens[b];
        const int64_t last = first + (replays - 1) * q;
        const int64_t fit =
            first <= a->geometry.topk ? (a->geometry.topk - first) / q + 1 : 0;
        shorts = least(shorts, fit);
        status = check_lengths(a, b, last, h->q_lens[b], &plan);
        if (status == RFN_OK)
            status = check_room(b, h->columns[b], pages_for(a, last));
        if (status == RFN_OK)
            status =
                check_entries(a, b, rfn_old_row(a, b), h->pages[b], pages_for(a, last));
    }
    if (status == RFN_OK && h->requests)
        status = rfn_guard_plan(a->device, a->state, advanced(h, 0), h->lens[0]);
    if (status == RFN_OK)
        status = rfn_records_check(a);
    if (status == RFN_OK)
    {
        *ret_plan = plan;
        *ret_shorts = (int32_t)shorts;
    }
    return status;
}

/* Behind all copies to the host that came before: with a checker, 017. */
static void tell_reads(const struct rfn_attention *a, const struct rfn_step *step)
{
    const int64_t bytes = step->requests * (int64_t)sizeof(int32_t);
    const struct
    {
        const char *name;
        const int32_t *at;
    } read[] = {
        { "lens", step->lens },
        { "q_lens", step->q_lens },
        { "rejected", step->unchanged ? step->rejected : NULL },
    };
    for (size_t i = 0; i < sizeof read / sizeof read[0]; i++)
        rfn_call_host_read(a->device, RFN_CALL_attention_plan, read[i].name, read[i].at,
                           bytes);
}

/* ---- handing over ---------------------------------------------------------------- */

/* Of n entries, of which the device has `known` as they were. A row that is handed over whole
 * has mostly one new entry or none. */
static struct rfn_entries differing(const int32_t *old, const int32_t *row, int32_t known,
                                    int32_t n)
{
    struct rfn_entries ret = { 0, n };
    if (!memcmp(old, row, (size_t)known * sizeof *row))
        ret.lo = known;
    else
        while (old[ret.lo] == row[ret.lo])
            ret.lo++;
    while (known == n && ret.hi > ret.lo && old[ret.hi - 1] == row[ret.hi - 1])
        ret.hi--;
    return ret;
}

/* Keeps a row's new entries. Slots of the ring lack them from now on. */
static void keep_row(const struct rfn_attention *a, const struct rfn_step *step,
                     int32_t b)
{
    struct rfn_entries fresh = fresh_of(a, step, b);
    const int32_t n = fresh.hi, *from = step->table + b * step->table_stride;
    int32_t *row = rfn_old_row(a, b);
    const int32_t had =
        a->handed.valid && b < a->handed.requests ? a->handed.columns[b] : 0;
    if (is_whole(fresh))
        fresh = differing(row, from, (int32_t)least(had, n), n);
    rfn_copy_entries(row, from, fresh);
    if (!step->new_from && had != n)
    {
        memset(row + n, 0xff, (size_t)(a->width - n) * sizeof *row); /* -1 */
        fresh.hi = (int32_t)a->width;
    }
    a->fresh[b] = fresh;
    for (int32_t s = 0; s < RFN_ATTENTION_RING && fresh.lo < fresh.hi; s++)
    {
        struct rfn_entries *stale = &a->stale[s * (int64_t)a->limits.requests + b];
        if (stale->lo < stale->hi)
            *stale = (struct rfn_entries) { (int32_t)least(stale->lo, fresh.lo),
                                            (int32_t)most(stale->hi, fresh.hi) };
        else
            *stale = fresh;
    }
}

/* Keeps what was handed over, for steps that say "unchanged". */
static void remember(struct rfn_attention *a, const struct rfn_step *step)
{
    struct rfn_handed *h = &a->handed;
    for (int32_t b = 0; b < step->requests; b++)
    {
        if (step->unchanged)
            h->lens[b] = (int32_t)carried_on(h, step, b);
        else
        {
            h->lens[b] = step->lens[b];
            h->q_lens[b] = step->q_lens ? step->q_lens[b] : a->limits.next_n;
            h->columns[b] = (int32_t)columns_of(a, fresh_of(a, step, b), b);
        }
        h->pages[b] = (int32_t)pages_of(a, b, h->lens[b]);
    }
    h->requests = step->requests;
    h->advance = step->advance;
    h->valid = 1;
}

void rfn_plan_go_on(struct rfn_attention *attention, const struct rfn_plan *plan)
{
    struct rfn_plan_state *s = attention->state;
    s->epoch++;
    s->short_context = plan->bucket.short_context;
    s->planned = rfn_site_here();
}

void rfn_plan_went_on(struct rfn_attention *attention, int32_t replays)
{
    struct rfn_handed *h = &attention->handed;
    for (int32_t b = 0; b < h->requests; b++)
    {
        h->lens[b] += replays * h->q_lens[b];
        h->pages[b] = (int32_t)pages_of(attention, b, h->lens[b]);
    }
}

void rfn_plan_forget(struct rfn_attention *attention)
{
    attention->handed.valid = 0;
    attention->state->valid = 0;
    rfn_record_withdraw(attention);
}

/* For the launches that run it. */
static void note(struct rfn_attention *a, const struct rfn_step *step,
                 const struct rfn_plan *plan)
{
    struct rfn_plan_state *s = a->state;
    s->valid = 1;
    s->epoch++;
    s->requests = step->requests;
    s->most_tokens = plan->most_tokens;
    s->short_context = plan->bucket.short_context;
    s->advance = step->advance;
    s->planned = rfn_site_here();
}

enum rfn_status rfn_plan_hand_over(struct rfn_attention *attention,
                                   struct rfn_stream *stream, const struct rfn_step *step,
                                   const struct rfn_plan *plan, int takes)
{
    struct rfn_attention *a = attention;
    enum rfn_status status = RFN_OK;
    if (rfn_records_strayed(a))
        a->handed.valid = 0; /* nothing stays as it was: the step is whole, or refused */
    if (!step->unchanged || step->advance != a->handed.advance)
    {
        for (int32_t b = 0; !step->unchanged && b < step->requests; b++)
            keep_row(a, step, b);
        if (!takes || !rfn_record_write(a, step))
            status = rfn_ring_copy(a, stream, step);
    }
    if (status != RFN_OK)
    {
        rfn_plan_forget(a); /* nobody knows what the device has */
        return status;
    }
    remember(a, step);
    note(a, step, plan);
    tell_reads(a, step);
    return RFN_OK;
}

enum rfn_status rfn_attention_plan(struct rfn_attention *attention,
                                   struct rfn_stream *stream, const struct rfn_step *step,
                                   struct rfn_bucket *ret_bucket)
{
    struct rfn_attention *a = attention;
    struct rfn_plan plan;
    if (!a || !ret_bucket)
        return RFN_FAIL(RFN_INVALID, "attention_plan: %s is NULL",
                        a ? "ret_bucket" : "attention");
    RFN_RANGE(RFN_RANGE_PLAN, step ? step->requests : 0, 0, 0);
    enum rfn_status status =
        rfn_object_of(stream, RFN_OBJECT_STREAM, "stream", a->device);
    if (status == RFN_OK)
        status = rfn_outside_captures(a->device, stream, "attention_plan");
    if (status == RFN_OK)
        status = rfn_plan_check(a, step, &plan);
    if (status == RFN_OK)
        status = rfn_plan_hand_over(a, stream, step, &plan, 0);
    if (status == RFN_OK)
        *ret_bucket = plan.bucket;
    return status;
}
