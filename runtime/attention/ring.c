/* Steps that are copied: packed into a slot of the pinned ring, in the order of a stream. */
#include "runtime/attention/attention.h"

#include "runtime/guard.h"

#include <string.h>

static char *slot_at(const struct rfn_attention *a, int32_t slot)
{
    return a->ring + slot * a->slot_bytes;
}

static int32_t *slot_row(const struct rfn_attention *a, int32_t slot, int64_t b)
{
    return (int32_t *)(slot_at(a, slot) + a->at.table_at) + b * a->width;
}

/* The step has had its frame: that the device lives, that no capture is concerned, whose
 * stream it is. What follows goes to the device without one of its own. */
static enum rfn_status done(const struct rfn_attention *a, int code)
{
    return code ? rfn_call_failed(a->device, "attention_plan", code) : RFN_OK;
}

/* Waits for the last copy from a slot. The event was recorded outside captures, so another
 * thread's capture has nothing to fear from the wait. */
static enum rfn_status wait_for_slot(const struct rfn_attention *a, int32_t slot)
{
    const struct rfn_backend *backend = a->device->backend;
    void *impl = a->device->impl;
    enum rfn_capture_mode mode = RFN_CAPTURE_RELAXED;
    if (!a->slot_used[slot])
        return RFN_OK;
    enum rfn_status status = done(a, backend->thread_mode(impl, &mode));
    if (status != RFN_OK)
        return status;
    status = done(a, backend->event_sync(impl, a->copied[slot]->native));
    int back = backend->thread_mode(impl, &mode);
    return status == RFN_OK ? done(a, back) : status;
}

/* From the first to the last request that has something new in its row. */
static struct rfn_entries fresh_rows(const struct rfn_attention *a, int32_t requests)
{
    struct rfn_entries rows = { 0, 0 };
    for (int32_t b = requests - 1; b >= 0; b--)
        if (a->fresh[b].lo < a->fresh[b].hi)
            rows = (struct rfn_entries) { b, rows.hi ? rows.hi : b + 1 };
    return rows;
}

/* Lengths, and the rows that the device lacks. */
static void pack(const struct rfn_attention *a, int32_t slot, const struct rfn_step *step,
                 struct rfn_entries rows)
{
    const int64_t R = a->limits.requests, n = step->requests;
    char *base = slot_at(a, slot);
    int32_t *lens = (int32_t *)(base + ((char *)a->at.lens - (char *)a->at.header));
    int32_t *q_lens = (int32_t *)(base + ((char *)a->at.q_lens - (char *)a->at.header));
    int32_t *rejected =
        (int32_t *)(base + ((char *)a->at.rejected - (char *)a->at.header));
    memset(rejected, 0, (size_t)R * sizeof *rejected);
    rfn_copy_entries(lens, step->lens, (struct rfn_entries) { 0, (int32_t)n });
    for (int64_t b = 0; b < n; b++)
        q_lens[b] = step->q_lens ? step->q_lens[b] : a->limits.next_n;
    memset(lens + n, 0, (size_t)(R - n) * sizeof *lens);
    memset(q_lens + n, 0, (size_t)(R - n) * sizeof *q_lens);
    for (int64_t b = rows.lo; b < rows.hi; b++)
    {
        rfn_copy_entries(slot_row(a, slot, b), rfn_old_row(a, b), a->stale[slot * R + b]);
        a->stale[slot * R + b] = (struct rfn_entries) { 0, 0 };
    }
}

static enum rfn_status copy(const struct rfn_attention *a, struct rfn_stream *stream,
                            int32_t slot, int64_t at, int64_t bytes)
{
    const struct rfn_copy copy = {
        .dst = (char *)a->at.header + at,
        .src = slot_at(a, slot) + at,
        .bytes = bytes,
        .dst_kind = RFN_MEMORY_DEVICE,
        .src_kind = RFN_MEMORY_PINNED,
    };
    return done(a,
                a->device->backend->copy_async(a->device->impl, stream->native, &copy));
}

/* `bytes` from the slot's begin, then rows of the table. Behind it the slot is busy until its
 * event. */
static enum rfn_status enqueue(struct rfn_attention *a, struct rfn_stream *stream,
                               int32_t slot, int64_t bytes, struct rfn_entries rows)
{
    const int64_t row_bytes = a->width * (int64_t)sizeof(int32_t);
    const int64_t rows_bytes = (rows.hi - rows.lo) * row_bytes;
    const int beside = rows_bytes > 0 && rows.lo == 0;
    enum rfn_status status =
        copy(a, stream, slot, 0, beside ? a->at.table_at + rows_bytes : bytes);
    if (status == RFN_OK && rows_bytes > 0 && !beside)
        status = copy(a, stream, slot, a->at.table_at + rows.lo * row_bytes, rows_bytes);
    if (status != RFN_OK)
        return status;
    a->slot_used[slot] = 1;
    a->next_slot = (slot + 1) % RFN_ATTENTION_RING;
    return done(a, a->device->backend->event_record(
                       a->device->impl, a->copied[slot]->native, stream->native, 0));
}

enum rfn_status rfn_ring_copy(struct rfn_attention *attention, struct rfn_stream *stream,
                              const struct rfn_step *step)
{
    struct rfn_attention *a = attention;
    struct rfn_entries rows = { 0, 0 };
    const int32_t slot = a->next_slot;
    int64_t bytes = RFN_HEADER_INTS * (int64_t)sizeof(int32_t);
    int32_t header[RFN_HEADER_INTS] = { step->requests, step->advance };
    enum rfn_status status = wait_for_slot(a, slot);
    if (status != RFN_OK)
        return status;
    if (!step->unchanged)
    {
        rows = fresh_rows(a, step->requests);
        pack(a, slot, step, rows);
        bytes = a->at.table_at;
    }
    memcpy(header + RFN_HEADER_TURN, &a->state->turn, sizeof a->state->turn);
    memcpy(slot_at(a, slot), header, sizeof header);
    status = enqueue(a, stream, slot, bytes, rows);
    if (status == RFN_OK)
        rfn_records_reset(a);
    return status;
}
