/* What the scheduler says of a step: checked whole, then packed into a slot of the pinned
 * ring and copied at once. */
#include "runtime/attention/attention.h"

#include "kernels/op.h"
#include "runtime/call.h"
#include "runtime/range.h"

#include <inttypes.h>
#include <string.h>

/* ---- checks ---------------------------------------------------------------------- */

static int64_t pages_for(const struct rfn_attention *a, int64_t tokens)
{
    return (tokens + a->geometry.page_tokens - 1) / a->geometry.page_tokens;
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

/* Entries [from, pages) of a row with `columns` entries. */
static enum rfn_status check_pages(const struct rfn_attention *a, int32_t b,
                                   const int32_t *row, int64_t columns, int64_t from,
                                   int64_t pages)
{
    if (pages > columns)
        return RFN_FAIL(RFN_INVALID,
                        "request %d: its context needs %" PRId64
                        " pages, but its table has %" PRId64,
                        b, pages, columns);
    /* Without a way out the loop is vectorised; a good step, the usual one, has no use of
     * one. */
    const uint32_t most = (uint32_t)a->limits.pages;
    uint32_t bad = 0;
    for (int64_t i = from; i < pages; i++)
        bad |= (uint32_t)row[i] >= most;
    for (int64_t i = from; bad && i < pages; i++)
        if (row[i] < 0 || row[i] >= a->limits.pages)
            return RFN_FAIL(RFN_INVALID,
                            "request %d: entry %" PRId64
                            " of its table is page %d, but the pools have %" PRId64,
                            b, i, row[i], a->limits.pages);
    return RFN_OK;
}

static enum rfn_status check_full(const struct rfn_attention *a,
                                  const struct rfn_step *step, struct rfn_plan *plan)
{
    enum rfn_status status = RFN_OK;
    if (step->requests && (!step->lens || !step->table))
        return RFN_FAIL(RFN_INVALID, "step: %d requests, but %s is NULL", step->requests,
                        step->lens ? "table" : "lens");
    for (int32_t b = 0; status == RFN_OK && b < step->requests; b++)
    {
        int32_t q = step->q_lens ? step->q_lens[b] : a->limits.next_n;
        status = check_lengths(a, b, step->lens[b], q, plan);
        if (status == RFN_OK)
            status = check_pages(a, b, step->table + b * step->table_stride,
                                 step->table_stride, 0, pages_for(a, step->lens[b]));
    }
    return status;
}

static char *slot_at(const struct rfn_attention *a, int32_t slot)
{
    return a->ring + slot * a->slot_bytes;
}

static int32_t *slot_row(const struct rfn_attention *a, int32_t slot, int64_t b)
{
    return (int32_t *)(slot_at(a, slot) + a->at.table_at) + b * a->width;
}

/* Length of a request in this step when the device advanced it behind the last one. */
static int64_t advanced(const struct rfn_handed *h, int32_t b)
{
    return (int64_t)h->lens[b] + (h->advance ? h->q_lens[b] : 0);
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
        int64_t len = advanced(h, b);
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
            status = check_pages(a, b, slot_row(a, h->slot, b), h->columns[b],
                                 h->pages[b], pages_for(a, len));
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
    if (status == RFN_OK)
        *ret_plan = plan;
    return status;
}

/* ---- handing over ---------------------------------------------------------------- */

/* Waits for the last copy from a slot. The event was recorded outside captures, so another
 * thread's capture has nothing to fear from the wait. */
static enum rfn_status wait_for_slot(const struct rfn_attention *a, int32_t slot)
{
    enum rfn_capture_mode mode = RFN_CAPTURE_RELAXED;
    if (!a->slot_used[slot])
        return RFN_OK;
    enum rfn_status status = rfn_thread_mode_exchange(a->device, &mode);
    if (status != RFN_OK)
        return status;
    status = rfn_event_sync(a->copied[slot]);
    enum rfn_status back = rfn_thread_mode_exchange(a->device, &mode);
    return status == RFN_OK ? back : status;
}

static void pack(const struct rfn_attention *a, int32_t slot, const struct rfn_step *step)
{
    const int64_t R = a->limits.requests, W = a->width, n = step->requests;
    const int64_t columns = step->table_stride < W ? step->table_stride : W;
    char *base = slot_at(a, slot);
    int32_t *lens = (int32_t *)(base + ((char *)a->at.lens - (char *)a->at.header));
    int32_t *q_lens = (int32_t *)(base + ((char *)a->at.q_lens - (char *)a->at.header));
    for (int64_t b = 0; b < R; b++)
    {
        lens[b] = b < n ? step->lens[b] : 0;
        q_lens[b] = b >= n ? 0 : step->q_lens ? step->q_lens[b] : a->limits.next_n;
    }
    for (int64_t b = 0; b < n; b++)
    {
        int32_t *row = slot_row(a, slot, b);
        memcpy(row, step->table + b * step->table_stride, (size_t)columns * sizeof *row);
        memset(row + columns, 0xff, (size_t)(W - columns) * sizeof *row); /* -1 */
    }
}

/* Behind it the slot is busy until its event. */
static enum rfn_status enqueue(struct rfn_attention *a, struct rfn_stream *stream,
                               int32_t slot, int64_t bytes)
{
    enum rfn_status status =
        rfn_copy_async(stream, a->at.header, slot_at(a, slot), bytes);
    if (status != RFN_OK)
        return status;
    a->slot_used[slot] = 1;
    a->next_slot = (slot + 1) % RFN_ATTENTION_RING;
    return rfn_event_record(a->copied[slot], stream, 0);
}

/* Keeps what was handed over, for steps that say "unchanged". */
static void remember(struct rfn_attention *a, const struct rfn_step *step, int32_t slot)
{
    struct rfn_handed *h = &a->handed;
    const int64_t columns = step->table_stride < a->width ? step->table_stride : a->width;
    for (int32_t b = 0; b < step->requests; b++)
    {
        if (step->unchanged)
            h->lens[b] = (int32_t)advanced(h, b);
        else
        {
            h->lens[b] = step->lens[b];
            h->q_lens[b] = step->q_lens ? step->q_lens[b] : a->limits.next_n;
            h->columns[b] = (int32_t)columns;
        }
        h->pages[b] = (int32_t)pages_for(a, h->lens[b]);
    }
    h->requests = step->requests;
    h->advance = step->advance;
    if (!step->unchanged)
        h->slot = slot;
    h->valid = 1;
}

void rfn_plan_forget(struct rfn_attention *attention)
{
    attention->handed.valid = 0;
}

enum rfn_status rfn_plan_hand_over(struct rfn_attention *attention,
                                   struct rfn_stream *stream, const struct rfn_step *step)
{
    struct rfn_attention *a = attention;
    enum rfn_status status;
    RFN_RANGE(RFN_RANGE_PLAN, step->requests, 0, 0);
    const int32_t slot = a->next_slot;
    if (!step->unchanged || step->advance != a->handed.advance)
    {
        int64_t bytes = RFN_HEADER_INTS * (int64_t)sizeof(int32_t);
        status = wait_for_slot(a, slot);
        if (status != RFN_OK)
            return status;
        if (!step->unchanged)
        {
            pack(a, slot, step);
            bytes = a->at.table_at + step->requests * a->width * (int64_t)sizeof(int32_t);
        }
        memcpy(slot_at(a, slot),
               (const int32_t[]) { step->requests, step->advance, 0, 0 },
               RFN_HEADER_INTS * sizeof(int32_t));
        status = enqueue(a, stream, slot, bytes);
        if (status != RFN_OK)
        {
            rfn_plan_forget(a); /* nobody knows what the device has */
            return status;
        }
    }
    remember(a, step, slot);
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
    enum rfn_status status =
        rfn_object_of(stream, RFN_OBJECT_STREAM, "stream", a->device);
    if (status == RFN_OK)
        status = rfn_outside_captures(a->device, stream, "attention_plan");
    if (status == RFN_OK)
        status = rfn_plan_check(a, step, &plan);
    if (status == RFN_OK)
        status = rfn_plan_hand_over(a, stream, step);
    if (status == RFN_OK)
        *ret_bucket = plan.bucket;
    return status;
}
