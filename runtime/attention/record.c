/* Records: what a replayed step changes, left where step_update finds it by itself. */
#include "runtime/attention/attention.h"

#include "kernels/op.h"
#include "runtime/guard.h"

#include <inttypes.h>
#include <string.h>

#define LINE 64 /* of the cache: what the device writes shares none with what it reads */

int64_t rfn_records_carve(struct rfn_attention *attention, char *base)
{
    struct rfn_attention *a = attention;
    const int64_t bytes =
        (int64_t)sizeof(struct rfn_step_record) + 8 * a->limits.requests;
    a->record_bytes = (bytes + LINE - 1) / LINE * LINE;
    a->taken = (int64_t *)(void *)base;
    a->records = base ? base + LINE : NULL;
    return LINE + RFN_ATTENTION_RECORDS * a->record_bytes;
}

static struct rfn_step_record *record_at(const struct rfn_attention *a, int64_t turn)
{
    return (struct rfn_step_record *)(void *)(a->records + turn % RFN_ATTENTION_RECORDS *
                                                               a->record_bytes);
}

/* What is in it is written before it. */
static void publish(struct rfn_step_record *r, int64_t turn)
{
    __atomic_store_n(&r->turn, turn, __ATOMIC_RELEASE);
}

static int64_t taken_by(const struct rfn_attention *a)
{
    return __atomic_load_n(a->taken, __ATOMIC_ACQUIRE);
}

void rfn_records_init(struct rfn_attention *attention)
{
    *attention->taken = 0;
    for (int64_t i = 0; i < RFN_ATTENTION_RECORDS; i++)
        publish(record_at(attention, i), -1);
}

/* New entries of tables, as many as there is room for; -1: there are more. */
static int32_t list_changes(const struct rfn_attention *a, int32_t requests,
                            struct rfn_step_change *ret)
{
    int32_t n = 0;
    for (int32_t b = 0; b < requests; b++)
    {
        const struct rfn_entries fresh = a->fresh[b];
        const int32_t *row = rfn_old_row(a, b);
        if (fresh.hi - fresh.lo > RFN_STEP_CHANGES - n)
            return -1;
        for (int32_t i = fresh.lo; i < fresh.hi; i++)
            ret[n++] = (struct rfn_step_change) { b, i, row[i], 0 };
    }
    return n;
}

int rfn_record_write(struct rfn_attention *attention, const struct rfn_step *step)
{
    const struct rfn_attention *a = attention;
    const int64_t turn = a->state->turn, taken = taken_by(a);
    struct rfn_step_record *r = record_at(a, turn);
    int32_t *pair = (int32_t *)(r + 1);
    /* The first step, or a turn that nobody knows; a record that the device may not have read
     * yet. */
    if (!a->handed.valid || a->state->uncounted || taken > turn || taken <= r->turn)
        return 0;
    r->changes = step->unchanged ? 0 : list_changes(a, step->requests, r->change);
    if (r->changes < 0)
        return 0;
    r->requests = step->requests;
    r->advance = step->advance;
    r->lengths = !step->unchanged;
    for (int32_t b = 0; !step->unchanged && b < step->requests; b++)
    {
        pair[2 * b] = step->lens[b];
        pair[2 * b + 1] = step->q_lens ? step->q_lens[b] : a->limits.next_n;
    }
    publish(r, turn);
    return 1;
}

void rfn_record_withdraw(struct rfn_attention *attention)
{
    struct rfn_step_record *r = record_at(attention, attention->state->turn);
    if (r->turn == attention->state->turn)
        publish(r, -1);
}

int rfn_records_strayed(const struct rfn_attention *attention)
{
    return taken_by(attention) > attention->state->turn;
}

enum rfn_status rfn_records_check(const struct rfn_attention *attention)
{
    const int64_t turn = attention->state->turn, taken = taken_by(attention);
    if (taken <= turn)
        return RFN_OK;
    return RFN_FAIL(RFN_INVALID,
                    "step: the device ran graphs of ladders %" PRId64
                    " times, but %" PRId64 " launches went through this library: lengths "
                    "and tables came too early, hand them over whole",
                    taken, turn);
}

void rfn_records_reset(struct rfn_attention *attention)
{
    attention->state->uncounted = 0;
    if (taken_by(attention) > attention->state->turn)
        __atomic_store_n(attention->taken, attention->state->turn, __ATOMIC_RELEASE);
}

void rfn_records_operands(const struct rfn_attention *attention, int64_t requests,
                          struct rfn_step_update_args *args)
{
    const struct rfn_attention *a = attention;
    const int64_t stride = a->record_bytes / (int64_t)sizeof(int32_t);
    const int64_t kept = a->at.table + requests * a->width - a->at.header;
    args->records =
        rfn_tensor_of(a->records, RFN_I32, RFN_ATTENTION_RECORDS, stride, 0, 0);
    args->turn = rfn_tensor_of(a->at.turn, RFN_I64, 2, 0, 0, 0);
    args->taken = rfn_tensor_of(a->taken, RFN_I64, 1, 0, 0, 0);
    args->kept = rfn_tensor_of(a->at.header, RFN_I32, kept, 0, 0, 0);
}
