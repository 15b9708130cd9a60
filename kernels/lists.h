/*
 * Tiles of requests: the one place that says what a request is divided into. The host's
 * functions, the host twins and the CUDA kernels all count by what stands here.
 */
#ifndef RFN_KERNELS_LISTS_H
#define RFN_KERNELS_LISTS_H

#include <refrain/plan.h>

#if defined(__CUDACC__)
#define RFN_LISTS_FN static __host__ __device__ __forceinline__
#else
#define RFN_LISTS_FN static inline
#endif

/* What may be wrong with a request's lengths. */
enum
{
    RFN_BAD_START = 1,
    RFN_BAD_PREFILL = 2,
    RFN_BAD_CACHED = 4,
    RFN_BAD_CONTEXT = 8,
};

/* Where the lengths are; NULL: not given. */
struct rfn_lens
{
    const int32_t *q_lens, *q_starts, *prefill, *cached;
};

/* One request with its lengths made good; q == 0: idle, and so is all else. */
struct rfn_lens_of
{
    int32_t q, prefill, cached, context;
    int32_t bad;
};

RFN_LISTS_FN struct rfn_lens_of rfn_lens_at(const struct rfn_lens *l, int64_t b)
{
    struct rfn_lens_of r = { 0, 0, 0, 0, 0 };
    int64_t q =
        l->q_lens ? l->q_lens[b] : (int64_t)l->q_starts[b + 1] - (int64_t)l->q_starts[b];
    if (q <= 0)
    {
        r.bad = q < 0 && !l->q_lens ? RFN_BAD_START : 0;
        return r;
    }
    int32_t prefill = l->prefill ? l->prefill[b] : 0, cached = l->cached[b];
    int64_t context = q + cached;
    if ((prefill | cached) < 0 || context > INT32_MAX)
    {
        r.bad = (prefill < 0 ? RFN_BAD_PREFILL : 0) | (cached < 0 ? RFN_BAD_CACHED : 0);
        prefill = prefill < 0 ? 0 : prefill;
        cached = cached < 0 ? 0 : cached;
        context = q + cached;
        r.bad |= context > INT32_MAX ? RFN_BAD_CONTEXT : 0;
        context = context < INT32_MAX ? context : INT32_MAX;
        q = q < INT32_MAX ? q : INT32_MAX;
    }
    r.q = (int32_t)q;
    r.prefill = prefill;
    r.cached = cached;
    r.context = (int32_t)context;
    return r;
}

/* ceil(n / size); of 32 bits wherever they do. */
RFN_LISTS_FN int64_t rfn_tiles_of(uint64_t n, uint32_t size)
{
    uint64_t up = n + size - 1;
    return (up >> 32) == 0 ? (int64_t)((uint32_t)up / size) : (int64_t)(up / size);
}

/* Tiles of q * group rows. Up to 2^32 - 1, of which any list lacks 2^31 - 1 or more: so the
 * sum over all requests stays within 64 bits, whatever the lengths are. */
RFN_LISTS_FN int64_t rfn_row_tiles_of(int32_t q, int32_t group, int32_t size)
{
    int64_t tiles = rfn_tiles_of((uint64_t)q * (uint32_t)group, (uint32_t)size);
    return tiles < UINT32_MAX ? tiles : UINT32_MAX;
}

/* ---- the split lists -------------------------------------------------------------- */

#define RFN_SPLIT_LISTS 3
#define RFN_SPLIT_TRIES 12 /* kv_keys << 0 .. 11 */

/* Sizes of tiles; 0 where the list is not given. keys and decoder_rows: one of them is 0. */
struct rfn_split_sizes
{
    int32_t group, keys, decoder_rows, encoder_rows, kv_keys;
};

/* Tiles of a request in list `i`, by enum rfn_split_count. */
RFN_LISTS_FN int64_t rfn_split_tiles(const struct rfn_lens_of *r,
                                     const struct rfn_split_sizes *s, int i)
{
    if (i == RFN_SPLIT_DECODER)
    {
        if (!r->q || r->prefill)
            return 0;
        if (s->keys)
            return rfn_tiles_of((uint64_t)r->context, (uint32_t)s->keys);
        return s->decoder_rows ? rfn_row_tiles_of(r->q, s->group, s->decoder_rows) : 0;
    }
    if (!r->prefill)
        return 0;
    if (i == RFN_SPLIT_ENCODER)
        return s->encoder_rows ? rfn_row_tiles_of(r->prefill, s->group, s->encoder_rows)
                               : 0;
    return s->kv_keys ? rfn_tiles_of((uint64_t)r->prefill +
                                         (uint32_t)r->cached % (uint32_t)s->kv_keys,
                                     (uint32_t)s->kv_keys)
                      : 0;
}

RFN_LISTS_FN void rfn_split_raise(int32_t *max, int32_t value)
{
    *max = value > *max ? value : *max;
}

/* Adds an active request to the maxima. */
RFN_LISTS_FN void rfn_split_count(const struct rfn_lens_of *r, int32_t *maxima)
{
    rfn_split_raise(&maxima[RFN_SPLIT_MAX_QUERY], r->q);
    rfn_split_raise(&maxima[RFN_SPLIT_MAX_PREFILL], r->prefill);
    rfn_split_raise(&maxima[RFN_SPLIT_MAX_CACHED], r->cached);
    rfn_split_raise(&maxima[RFN_SPLIT_MAX_CONTEXT], r->context);
    if (!r->prefill)
        rfn_split_raise(&maxima[RFN_SPLIT_MAX_DECODE_CACHED], r->cached);
    if (r->cached)
        rfn_split_raise(&maxima[RFN_SPLIT_MAX_CACHED_CONTEXT], r->context);
}

/* The choice: tiles[i] are due with kv_keys << i. A full last wave is the best there is. */
RFN_LISTS_FN int32_t rfn_split_choose(const int64_t *tiles, int32_t kv_keys,
                                      int32_t sm_count)
{
    int64_t most = 0;
    int32_t best = 0;
    for (int32_t i = 0; i < RFN_SPLIT_TRIES; i++)
    {
        int64_t wave = tiles[i] ? (tiles[i] - 1) % sm_count + 1 : 0;
        if (wave > most)
        {
            most = wave;
            best = i;
        }
    }
    return kv_keys << best;
}

/* ---- on the host ------------------------------------------------------------------ */

#if !defined(__CUDACC__)

struct rfn_fault;

/* A list to be filled: `size` pairs of room at `pair`, which is NULL when not given. */
struct rfn_list
{
    int32_t *pair;
    int64_t size;
};

#define RFN_SPLIT_PART 256

/* The lengths of some requests side by side, made good; 0 where one is idle. */
struct rfn_split_part
{
    int64_t from;
    int32_t count; /* 0: nothing is in it */
    int32_t bad;   /* something was */
    int32_t q[RFN_SPLIT_PART], prefill[RFN_SPLIT_PART], cached[RFN_SPLIT_PART];
    int32_t context[RFN_SPLIT_PART];
    int32_t tiles[RFN_SPLIT_PART]; /* of the decoder list, where keys are divided */
};

struct rfn_split_plan
{
    struct rfn_lens lens;
    int64_t requests; /* below `requests` */
    struct rfn_split_sizes sizes;
    struct rfn_list list[RFN_SPLIT_LISTS];
    int64_t tiles[RFN_SPLIT_LISTS]; /* due, whatever the room */
    int32_t maxima[RFN_SPLIT_MAXIMA];
    struct rfn_split_part part; /* the one that was looked at last */
};

/* Counts without writing anything; notes what is wrong with the lengths. */
void rfn_split_plan_count(const struct rfn_split_lists_args *args, struct rfn_fault *seen,
                          struct rfn_split_plan *ret);
/* Writes the outputs, as far as there is room. */
void rfn_split_plan_fill(const struct rfn_split_lists_args *args,
                         struct rfn_split_plan *plan);

struct rfn_prefix_plan
{
    struct rfn_lens lens;
    int64_t requests;
    int32_t size; /* keys a tile, 0 without a list */
    struct rfn_list list;
    int64_t tiles, keys; /* due, whatever the room */
    int32_t keys_most;
};

void rfn_prefix_plan_count(const struct rfn_prefix_lists_args *args,
                           struct rfn_fault *seen, struct rfn_prefix_plan *ret);
void rfn_prefix_plan_fill(const struct rfn_prefix_lists_args *args,
                          const struct rfn_prefix_plan *plan);

/* For the two ops: what is the same in both. */
struct rfn_lens rfn_lens_given(const struct rfn_tensor *q_lens,
                               const struct rfn_tensor *q_starts,
                               const struct rfn_tensor *prefill,
                               const struct rfn_tensor *cached);
void rfn_lens_note(struct rfn_fault *seen, const char *op, const struct rfn_lens *lens,
                   int64_t b, int32_t bad);
struct rfn_list rfn_list_of(const struct rfn_tensor *t);
/* Appends the tiles of request b at *at, as far as there is room. */
void rfn_list_add(const struct rfn_list *list, int64_t *at, int64_t b, int64_t tiles);
/* -1 from `at` up to the end. */
void rfn_list_end(const struct rfn_list *list, int64_t at);
enum rfn_status rfn_lens_check(const struct rfn_tensor *q_lens,
                               const struct rfn_tensor *q_starts, int64_t requests);
enum rfn_status rfn_list_check(const char *name, const struct rfn_tensor *t);
/* 0 .. 2^31 - 1 */
int32_t rfn_list_i32(int64_t n);

#endif
#endif
