/* split_lists: a step divided into tiles. And what it shares with prefix_lists. */
#include "kernels/lists.h"
#include "kernels/op.h"

#include <string.h>

#define ARGS struct rfn_split_lists_args
#define I32 RFN_DTYPE_BIT(RFN_I32)

/* ---- lengths and lists -------------------------------------------------------------- */

struct rfn_lens rfn_lens_given(const struct rfn_tensor *q_lens,
                               const struct rfn_tensor *q_starts,
                               const struct rfn_tensor *prefill,
                               const struct rfn_tensor *cached)
{
    return (struct rfn_lens) { q_lens->data, q_starts->data,
                               prefill ? prefill->data : NULL, cached->data };
}

void rfn_lens_note(struct rfn_fault *seen, const char *op, const struct rfn_lens *lens,
                   int64_t b, int32_t bad)
{
    if (bad & RFN_BAD_START)
        rfn_fault_note(seen, op, "q_starts", b, 0, lens->q_starts[b + 1]);
    if (bad & RFN_BAD_PREFILL)
        rfn_fault_note(seen, op, "prefill", b, 0, lens->prefill[b]);
    if (bad & (RFN_BAD_CACHED | RFN_BAD_CONTEXT))
        rfn_fault_note(seen, op, "cached", b, 0, lens->cached[b]);
}

int32_t rfn_list_i32(int64_t n)
{
    return n < INT32_MAX ? (int32_t)n : INT32_MAX;
}

struct rfn_list rfn_list_of(const struct rfn_tensor *t)
{
    return (struct rfn_list) { t->data, t->data ? t->shape[0] : 0 };
}

void rfn_list_add(const struct rfn_list *list, int64_t *at, int64_t b, int64_t tiles)
{
    int64_t room = list->size - *at;
    if (!tiles || !room)
        return;
    int32_t *pair = list->pair + 2 * *at, n = (int32_t)(tiles < room ? tiles : room);
    for (int32_t i = 0; i < n; i++)
    {
        pair[2 * i] = (int32_t)b;
        pair[2 * i + 1] = i;
    }
    *at += n;
}

void rfn_list_end(const struct rfn_list *list, int64_t at)
{
    if (at < list->size)
        memset(list->pair + 2 * at, 0xff, (size_t)(list->size - at) * 8);
}

enum rfn_status rfn_lens_check(const struct rfn_tensor *q_lens,
                               const struct rfn_tensor *q_starts, int64_t requests)
{
    int64_t n = q_starts->shape[0];
    if (!q_lens->data == !q_starts->data && (requests || q_starts->data))
        return RFN_FAIL(RFN_INVALID,
                        "q_lens is %p, q_starts is %p: one of them is needed",
                        q_lens->data, q_starts->data);
    if (requests > INT32_MAX)
        return RFN_FAIL(RFN_INVALID, "cached: R = %lld, but up to %d is possible",
                        (long long)requests, INT32_MAX);
    if (q_starts->data && n != requests + 1)
        return RFN_FAIL(RFN_INVALID,
                        "q_starts: extent %lld, but cached: R = %lld needs %lld",
                        (long long)n, (long long)requests, (long long)requests + 1);
    return RFN_OK;
}

enum rfn_status rfn_list_check(const char *name, const struct rfn_tensor *t)
{
    if (t->data && t->shape[0] > INT32_MAX)
        return RFN_FAIL(RFN_INVALID, "%s: room for %lld tiles, but up to %d is possible",
                        name, (long long)t->shape[0], INT32_MAX);
    if (t->data && t->shape[0] > 1 && t->stride[0] != 2)
        return RFN_FAIL(RFN_INVALID, "%s: stride %lld, but pairs lie 2 apart", name,
                        (long long)t->stride[0]);
    return RFN_OK;
}

/* ---- split_lists -------------------------------------------------------------------- */

static const struct rfn_operand operands[] = {
    { "q_lens", offsetof(ARGS, q_lens), RFN_OPERAND_TENSOR, RFN_READ, 1, I32, "R", 0 },
    { "q_starts", offsetof(ARGS, q_starts), RFN_OPERAND_TENSOR, RFN_READ, 1, I32, "?",
      0 },
    { "prefill", offsetof(ARGS, prefill), RFN_OPERAND_TENSOR, RFN_READ, 1, I32, "R", 0 },
    { "cached", offsetof(ARGS, cached), RFN_OPERAND_TENSOR, RFN_READ, 0, I32, "R", 0 },
    { "requests", offsetof(ARGS, requests), RFN_OPERAND_TENSOR, RFN_READ, 1, I32, "1",
      0 },
    { "maxima", offsetof(ARGS, maxima), RFN_OPERAND_TENSOR, RFN_WRITE, 0, I32, "6", 0 },
    { "decoder", offsetof(ARGS, decoder), RFN_OPERAND_TENSOR, RFN_WRITE, 1, I32, "N,2",
      8 },
    { "encoder", offsetof(ARGS, encoder), RFN_OPERAND_TENSOR, RFN_WRITE, 1, I32, "M,2",
      8 },
    { "kv", offsetof(ARGS, kv), RFN_OPERAND_TENSOR, RFN_WRITE, 1, I32, "L,2", 8 },
    { "counts", offsetof(ARGS, counts), RFN_OPERAND_TENSOR, RFN_WRITE, 0, I32, "5", 0 },
};

static const struct rfn_scalar scalars[] = {
    { "group", offsetof(ARGS, group), sizeof(int32_t), 0 },
    { "decoder_keys", offsetof(ARGS, decoder_keys), sizeof(int32_t), 0 },
    { "decoder_rows", offsetof(ARGS, decoder_rows), sizeof(int32_t), 0 },
    { "encoder_rows", offsetof(ARGS, encoder_rows), sizeof(int32_t), 0 },
    { "kv_keys", offsetof(ARGS, kv_keys), sizeof(int32_t), 0 },
    { "sm_count", offsetof(ARGS, sm_count), sizeof(int32_t), 0 },
};

static enum rfn_status check_size(const char *name, int32_t size, int needed,
                                  int32_t most)
{
    if (size < 0 || (needed && size < 1) || size > most)
        return RFN_FAIL(RFN_INVALID, "%s = %d, but %d .. %d is needed", name, size,
                        needed != 0, most);
    return RFN_OK;
}

static enum rfn_status check(const void *v)
{
    const ARGS *a = v;
    int decoder = a->decoder.data != NULL, encoder = a->encoder.data != NULL;
    int rows = (decoder && a->decoder_rows) || encoder;
    int chosen = decoder && !a->decoder_rows && !a->decoder_keys;
    int32_t any = INT32_MAX;
    if (a->decoder_keys && a->decoder_rows)
        return RFN_FAIL(RFN_INVALID, "decoder_keys = %d and decoder_rows = %d: one is 0",
                        a->decoder_keys, a->decoder_rows);
    enum rfn_status status = rfn_lens_check(&a->q_lens, &a->q_starts, a->cached.shape[0]);
    if (status == RFN_OK)
        status = rfn_list_check("decoder", &a->decoder);
    if (status == RFN_OK)
        status = rfn_list_check("encoder", &a->encoder);
    if (status == RFN_OK)
        status = rfn_list_check("kv", &a->kv);
    if (status == RFN_OK)
        status = check_size("group", a->group, rows, any);
    if (status == RFN_OK)
        status = check_size("decoder_keys", a->decoder_keys, 0, any);
    if (status == RFN_OK)
        status = check_size("decoder_rows", a->decoder_rows, 0, any);
    if (status == RFN_OK)
        status = check_size("encoder_rows", a->encoder_rows, encoder, any);
    if (status == RFN_OK)
        status = check_size("kv_keys", a->kv_keys, chosen || a->kv.data != NULL,
                            chosen ? any >> (RFN_SPLIT_TRIES - 1) : any);
    return status == RFN_OK ? check_size("sm_count", a->sm_count, chosen, any) : status;
}

/* ---- a part of the requests at a time ------------------------------------------------ */

#define PART RFN_SPLIT_PART

/* Fills all but tiles; 0 when something is wrong with the lengths. */
static int good(const struct rfn_lens *l, struct rfn_split_part *p)
{
    const int32_t *starts = l->q_starts, *cached = l->cached + p->from;
    int32_t bad = 0;
    if (l->q_lens)
        memcpy(p->q, l->q_lens + p->from, (size_t)p->count * sizeof *p->q);
    for (int j = 0; !l->q_lens && j < p->count; j++)
    {
        int32_t begin = starts[p->from + j], end = starts[p->from + j + 1];
        p->q[j] = (int32_t)((uint32_t)end - (uint32_t)begin);
        bad |= begin | end | p->q[j];
    }
    if (l->prefill)
        memcpy(p->prefill, l->prefill + p->from, (size_t)p->count * sizeof *p->q);
    else
        memset(p->prefill, 0, (size_t)p->count * sizeof *p->q);
#pragma omp simd reduction(| : bad)
    for (int j = 0; j < p->count; j++)
    {
        int32_t on = p->q[j] > 0 ? -1 : 0;
        p->q[j] &= on;
        p->prefill[j] &= on;
        p->cached[j] = cached[j] & on;
        p->context[j] = (int32_t)((uint32_t)p->q[j] + (uint32_t)p->cached[j]);
        bad |= p->prefill[j] | p->cached[j] | p->context[j];
    }
    return bad >= 0;
}

/* Makes plan->part that of the requests from `from` on. */
static void take(struct rfn_split_plan *plan, int64_t from)
{
    struct rfn_split_part *p = &plan->part;
    int64_t left = plan->requests - from;
    if (p->count && p->from == from)
        return;
    p->from = from;
    p->count = (int)(left < PART ? left : PART);
    p->bad = !good(&plan->lens, p);
    for (int j = 0; p->bad && j < p->count; j++)
    {
        struct rfn_lens_of r = rfn_lens_at(&plan->lens, from + j);
        p->q[j] = r.q;
        p->prefill[j] = r.prefill;
        p->cached[j] = r.cached;
        p->context[j] = r.context;
    }
}

/* p->tiles with `keys` a tile. Quotients of 32-bit integers are exact in double. */
static void divide(struct rfn_split_part *p, int32_t keys)
{
    double size = keys, more = size - 1;
#pragma omp simd
    for (int j = 0; j < p->count; j++)
    {
        int32_t decodes = p->prefill[j] ? 0 : -1;
        p->tiles[j] = (int32_t)(((p->context[j] & decodes) + more) / size);
    }
}

/* Of p->tiles, which are halved and rounded up. */
static int64_t sum_and_halve(struct rfn_split_part *p)
{
    uint32_t low = 0, high = 0; /* sums of halves of 16 bits */
#pragma omp simd reduction(+ : low, high)
    for (int j = 0; j < p->count; j++)
    {
        uint32_t n = (uint32_t)p->tiles[j];
        low += n & 0xffff;
        high += n >> 16;
        p->tiles[j] = (int32_t)((n + 1) / 2);
    }
    return (int64_t)high * 65536 + low;
}

/* Tiles of request j of a part in list `i`. */
static int64_t tiles_at(const struct rfn_split_part *p, int j,
                        const struct rfn_split_sizes *s, int i)
{
    struct rfn_lens_of r = { p->q[j], p->prefill[j], p->cached[j], p->context[j], 0 };
    return rfn_split_tiles(&r, s, i);
}

/* Tiles of all decoding requests for each size that can be chosen. Halving a number of tiles
 * and rounding up gives that of the size twice as large. */
static void try_sizes(struct rfn_split_plan *plan, int32_t kv_keys, int64_t *ret_tiles)
{
    memset(ret_tiles, 0, RFN_SPLIT_TRIES * sizeof *ret_tiles);
    for (int64_t from = 0; from < plan->requests; from += PART)
    {
        take(plan, from);
        divide(&plan->part, kv_keys);
        for (int i = 0; i < RFN_SPLIT_TRIES; i++)
            ret_tiles[i] += sum_and_halve(&plan->part);
    }
}

/* Adds the part to the maxima and the numbers of tiles; leaves its tiles of the decoder. */
static void add(struct rfn_split_plan *to)
{
    struct rfn_split_part *p = &to->part;
    const struct rfn_split_sizes *s = &to->sizes;
    int32_t *m = to->maxima;
    int32_t query = m[RFN_SPLIT_MAX_QUERY], prefill = m[RFN_SPLIT_MAX_PREFILL];
    int32_t cached = m[RFN_SPLIT_MAX_CACHED], context = m[RFN_SPLIT_MAX_CONTEXT];
    int32_t decode = m[RFN_SPLIT_MAX_DECODE_CACHED];
    int32_t both = m[RFN_SPLIT_MAX_CACHED_CONTEXT];
#pragma omp simd reduction(max : query, prefill, cached, context, decode, both)
    for (int j = 0; j < p->count; j++)
    {
        int32_t here = p->prefill[j] ? 0 : p->cached[j];
        int32_t there = p->cached[j] ? p->context[j] : 0;
        query = query > p->q[j] ? query : p->q[j];
        prefill = prefill > p->prefill[j] ? prefill : p->prefill[j];
        cached = cached > p->cached[j] ? cached : p->cached[j];
        context = context > p->context[j] ? context : p->context[j];
        decode = decode > here ? decode : here;
        both = both > there ? both : there;
    }
    m[RFN_SPLIT_MAX_QUERY] = query;
    m[RFN_SPLIT_MAX_PREFILL] = prefill;
    m[RFN_SPLIT_MAX_CACHED] = cached;
    m[RFN_SPLIT_MAX_CONTEXT] = context;
    m[RFN_SPLIT_MAX_DECODE_CACHED] = decode;
    m[RFN_SPLIT_MAX_CACHED_CONTEXT] = both;
    if (s->keys)
    {
        int64_t sum = 0;
        divide(p, s->keys);
#pragma omp simd reduction(+ : sum)
        for (int j = 0; j < p->count; j++)
            sum += p->tiles[j];
        to->tiles[RFN_SPLIT_DECODER] += sum;
    }
    for (int i = s->decoder_rows ? 0 : 1; i < RFN_SPLIT_LISTS; i++)
        for (int j = 0; (prefill || i == 0) && j < p->count; j++)
            to->tiles[i] += tiles_at(p, j, s, i);
}

/* ---- counting and writing ------------------------------------------------------------ */

void rfn_split_plan_count(const struct rfn_split_lists_args *a, struct rfn_fault *seen,
                          struct rfn_split_plan *ret)
{
    struct rfn_split_plan *p = ret;
    memset(p, 0, offsetof(struct rfn_split_plan, part));
    p->part.count = 0;
    p->lens = rfn_lens_given(&a->q_lens, &a->q_starts, &a->prefill, &a->cached);
    p->requests = rfn_live_rows(&a->requests, a->cached.shape[0]);
    p->list[RFN_SPLIT_DECODER] = rfn_list_of(&a->decoder);
    p->list[RFN_SPLIT_ENCODER] = rfn_list_of(&a->encoder);
    p->list[RFN_SPLIT_KV] = rfn_list_of(&a->kv);
    p->sizes = (struct rfn_split_sizes) {
        .group = a->group,
        .keys = a->decoder.data ? a->decoder_keys : 0,
        .decoder_rows = a->decoder.data ? a->decoder_rows : 0,
        .encoder_rows = a->encoder.data ? a->encoder_rows : 0,
        .kv_keys = a->kv.data ? a->kv_keys : 0,
    };
    if (a->decoder.data && !a->decoder_keys && !a->decoder_rows)
    {
        int64_t tries[RFN_SPLIT_TRIES];
        try_sizes(p, a->kv_keys, tries);
        p->sizes.keys = rfn_split_choose(tries, a->kv_keys, a->sm_count);
    }
    for (int64_t from = 0; from < p->requests; from += PART)
    {
        take(p, from);
        for (int j = 0; p->part.bad && j < p->part.count; j++)
        {
            struct rfn_lens_of r = rfn_lens_at(&p->lens, from + j);
            if (r.bad)
                rfn_lens_note(seen, "split_lists", &p->lens, from + j, r.bad);
        }
        add(p);
    }
}

void rfn_split_plan_fill(const struct rfn_split_lists_args *a, struct rfn_split_plan *p)
{
    int32_t *counts = a->counts.data;
    int64_t missing = 0;
    memcpy(a->maxima.data, p->maxima, sizeof p->maxima);
    for (int i = 0; i < RFN_SPLIT_LISTS; i++)
    {
        int64_t at = 0, room = p->list[i].size;
        for (int64_t from = 0; p->tiles[i] && at < room && from < p->requests;
             from += PART)
        {
            int keys = i == RFN_SPLIT_DECODER && p->sizes.keys;
            take(p, from);
            if (keys && p->requests > PART)
                divide(&p->part, p->sizes.keys);
            for (int j = 0; at < room && j < p->part.count; j++)
                rfn_list_add(&p->list[i], &at, from + j,
                             keys ? p->part.tiles[j]
                                  : tiles_at(&p->part, j, &p->sizes, i));
        }
        rfn_list_end(&p->list[i], at);
        counts[i] = (int32_t)at;
        missing += rfn_list_i32(p->tiles[i] - at);
    }
    counts[RFN_SPLIT_KEYS] = p->sizes.keys;
    counts[RFN_SPLIT_MISSING] = rfn_list_i32(missing);
}

/* A few thousand pairs as a rule: one thread has written them before others are awake. */
static void host(const void *v, const struct rfn_host_env *env)
{
    static const char *const name[] = { "decoder", "encoder", "kv" };
    struct rfn_fault seen = { 0 }, *note = env->fault ? &seen : NULL;
    struct rfn_split_plan plan;
    rfn_split_plan_count(v, note, &plan);
    for (int i = 0; i < RFN_SPLIT_LISTS; i++)
        if (plan.tiles[i] > plan.list[i].size)
            rfn_fault_note(note, "split_lists", name[i], plan.tiles[i], 0,
                           plan.list[i].size);
    rfn_split_plan_fill(v, &plan);
    rfn_fault_merge(env->fault, &seen);
}

static struct rfn_cost cost(const void *v)
{
    const ARGS *a = v;
    int64_t R = a->cached.shape[0];
    return (struct rfn_cost) {
        .bytes_read = 8 * R + (a->prefill.data ? 4 * R : 0) + 4,
        .bytes_written = 4 * (RFN_SPLIT_MAXIMA + RFN_SPLIT_COUNTS) +
                         8 * (rfn_list_of(&a->decoder).size +
                              rfn_list_of(&a->encoder).size + rfn_list_of(&a->kv).size),
    };
}

const struct rfn_op rfn_op_split_lists = {
    .name = "split_lists",
    .args_bytes = sizeof(ARGS),
    .operand = operands,
    .operands = RFN_COUNT(operands),
    .scalar = scalars,
    .scalars = RFN_COUNT(scalars),
    .check = check,
    .host = host,
#if RFN_CUDA
    .cuda = rfn_split_lists_cuda,
#endif
    .cost = cost,
};
