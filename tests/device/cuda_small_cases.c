/* What cuda_small runs: inputs and edges of each op. */
#include "tests/device/cuda_small.h"

#include <limits.h>
#include <math.h>
#include <string.h>

#define COUNT(a) ((int)(sizeof(a) / sizeof((a)[0])))
#define SLOTS_A_ROW 3 /* of the pool, about */

static int64_t above(int64_t n, int64_t unit)
{
    return (n + unit - 1) / unit * unit;
}

/* Room behind a 64-byte boundary, and a few bytes on, as far as `align` allows. */
static void *take(struct small_arena *a, int64_t bytes, int64_t align)
{
    int64_t at = above(a->used, 64) + 64 + (align < 64 ? align : 0);
    a->used = at + bytes;
    return a->base + (a->used <= a->bytes ? at : 0);
}

/* A view whose rows lie `gap` elements apart from each other, in the outer dimension. */
static struct rfn_tensor view(struct small_arena *a, enum rfn_dtype dtype, int64_t align,
                              int64_t gap, int64_t d0, int64_t d1, int64_t d2)
{
    struct rfn_tensor t = rfn_tensor_of(NULL, dtype, d0, d1, d2, 0);
    if (t.dims > 1)
        t.stride[0] += gap;
    t.data = take(a, d0 * t.stride[0] * rfn_dtype_bytes(dtype), align);
    return t;
}

static struct rfn_tensor live_of(const struct small_case *c, int round,
                                 struct small_arena *a)
{
    const int64_t live[SMALL_ROUNDS] = { c->rows + 1, c->rows / 2, c->rows - 1,
                                         -5,          c->rows,     0 };
    struct rfn_tensor t = { 0 };
    if (c->live)
    {
        t = view(a, RFN_I32, 4, 0, 1, 0, 0);
        *(int32_t *)t.data = (int32_t)live[round];
    }
    return t;
}

/* ---- values ------------------------------------------------------------------------- */

static uint32_t bits_of(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

/* Element i of a row: bits of an f32 whose upper half is the bf16. Groups of 64 differ. */
static uint32_t value(struct rng *r, int plain, int round, int64_t row, int64_t i)
{
    uint64_t u = rng_u64(r);
    uint32_t any = (uint32_t)(u >> 32);
    uint64_t kind = plain ? 0 : (uint64_t)(row * 31 + i / 64 * 7 + round) % 12;
    switch (kind)
    {
    case 1: /* a zero, of either sign */
        return any & 0x80000000u;
    case 2: /* subnormals of bf16, and close above */
        return any & 0x80ffffffu;
    case 3: /* close to the greatest */
        return (any & 0x80ffffffu) | 0x7e000000u;
    case 4: /* an infinity at times */
        return u % 50 ? bits_of(rng_normal(r)) : (any & 0x80000000u) | 0x7f800000u;
    case 5: /* a NaN at times, of any sign and payload */
        return u % 50 ? bits_of(rng_normal(r)) : any | 0x7f810000u;
    case 6: /* anything finite */
        return (any & 0x7f000000u) == 0x7f000000u ? any & 0x80ffffffu : any;
    case 7: /* under the floors */
        return bits_of(rng_normal(r) * 1e-6f);
    case 8: /* on the ties of e4m3, with a scale of 1: the largest is 448 */
        return bits_of(i % 64 == 0 ? 448.0f
                                   : (float)(int64_t)(u % 512) * 0.0009765625f *
                                         (float)(1 << u % 9));
    case 9: /* small beside the largest: e4m3's subnormals */
        return bits_of(i % 64 ? rng_normal(r) * 0.01f : 100.0f);
    default:
        return bits_of(rng_normal(r));
    }
}

static void fill_bf16(const struct small_case *c, int round, struct small_arena *a,
                      struct rfn_tensor *t, int64_t rows, int64_t width, int64_t stride)
{
    for (int64_t row = 0; row < rows; row++)
        for (int64_t i = 0; i < width; i++)
            ((uint16_t *)t->data)[row * stride + i] =
                (uint16_t)(value(&a->rng, c->plain, round, row, i) >> 16);
}

/* ---- slots -------------------------------------------------------------------------- */

static struct rfn_tensor slots_of(const struct small_case *c, int round,
                                  struct small_arena *a, int64_t pool_slots)
{
    static const int64_t bad[] = {
        -1, INT64_MIN, -64, 0, 0, INT64_MAX, (int64_t)1 << 32
    };
    struct rfn_tensor t = view(a, RFN_I64, 8, 0, c->rows, 0, 0);
    int64_t *slot = t.data;
    for (int64_t i = 0; i < c->rows; i++)
    {
        slot[i] = (i * 2 + 1) % pool_slots;
        if (c->plain || round == 0)
            continue;
        if (round == 1) /* many with one slot */
            slot[i] = rng_below(&a->rng, c->rows / 3 + 1);
        else if (round == 2) /* the last ones, and behind */
            slot[i] = pool_slots - 1 - rng_below(&a->rng, 5) + rng_below(&a->rng, 3);
        else if (round == 5)
            slot[i] = 1;
        if (round >= 3 && rng_below(&a->rng, 4) == 0)
        {
            int64_t k = rng_below(&a->rng, COUNT(bad));
            slot[i] = k == 3 ? pool_slots : k == 4 ? pool_slots - 1 : bad[k];
        }
    }
    return t;
}

static struct rfn_pool pool_of(const struct small_case *c, struct small_arena *a)
{
    struct rfn_pool pool = { .format = c->format, .page_tokens = c->page_tokens };
    pool.pages = c->rows * SLOTS_A_ROW / c->page_tokens + 2;
    int64_t page = above(rfn_format_page_bytes(c->format, c->page_tokens), 16);
    pool.page_stride_bytes = c->gap ? page + 16 * c->gap : page;
    pool.data = take(a, pool.pages * pool.page_stride_bytes, 16);
    return pool;
}

/* ---- the ops ------------------------------------------------------------------------ */

static void build_kv_pack(const struct small_case *c, int round, struct small_arena *a,
                          union small_args *ret)
{
    struct rfn_kv_pack_args *v = &ret->kv_pack;
    const struct rfn_format_info *info = rfn_format_query(c->format);
    v->kv = view(a, RFN_BF16, 16, 8 * c->gap, c->rows, info->latent_elems, 0);
    v->k_rope = view(a, RFN_BF16, 16, 16 * c->gap, c->rows, info->rope_elems, 0);
    fill_bf16(c, round, a, &v->kv, c->rows, info->latent_elems, v->kv.stride[0]);
    fill_bf16(c, round, a, &v->k_rope, c->rows, info->rope_elems, v->k_rope.stride[0]);
    v->pool = pool_of(c, a);
    v->slots = slots_of(c, round, a, v->pool.pages * v->pool.page_tokens);
    v->live = live_of(c, round, a);
    v->scale = c->scale;
    v->floor_on = c->floor_on;
    v->floor = c->floor;
}

static void build_index_pack(const struct small_case *c, int round, struct small_arena *a,
                             union small_args *ret)
{
    struct rfn_index_pack_args *v = &ret->index_pack;
    v->k = view(a, RFN_BF16, 16, 8 * c->gap, c->rows, 128, 0);
    fill_bf16(c, round, a, &v->k, c->rows, 128, v->k.stride[0]);
    v->pool = pool_of(c, a);
    v->slots = slots_of(c, round, a, v->pool.pages * v->pool.page_tokens);
    v->live = live_of(c, round, a);
    v->scale = c->scale;
    v->floor_on = c->floor_on;
    v->floor = c->floor;
}

static void build_query_pack(const struct small_case *c, int round, struct small_arena *a,
                             union small_args *ret)
{
    struct rfn_index_query_pack_args *v = &ret->index_query_pack;
    int64_t T = c->rows, H = c->heads;
    v->q = view(a, RFN_BF16, 16, 8 * c->gap, T, H, 128);
    v->w = view(a, c->dtype, rfn_dtype_bytes(c->dtype), c->gap, T, H, 0);
    v->q8 = view(a, RFN_E4M3, 16, 16 * c->gap, T, H, 128);
    v->w8 = view(a, RFN_F32, 4, c->gap, T, H, 0);
    for (int64_t t = 0; t < T; t++)
    {
        struct rfn_tensor row = { .data = (uint16_t *)v->q.data + t * v->q.stride[0] };
        fill_bf16(c, round + (int)t, a, &row, H, 128, 128);
        for (int64_t h = 0; h < H; h++)
        {
            int64_t at = t * v->w.stride[0] + h;
            uint32_t u = value(&a->rng, c->plain, round, t, h);
            if (c->dtype == RFN_F32)
                ((uint32_t *)v->w.data)[at] = u;
            else
                ((uint16_t *)v->w.data)[at] = (uint16_t)(u >> 16);
        }
    }
    v->live = live_of(c, round, a);
    v->scale = c->scale;
}

static void build_step_update(const struct small_case *c, int round,
                              struct small_arena *a, union small_args *ret)
{
    struct rfn_step_update_args *v = &ret->step_update;
    const int64_t R = c->rows, W = c->width, n = c->parts, P = c->page_tokens;
    const int64_t live[SMALL_ROUNDS] = { R, R / 2, R + 9, 0, R - 1, -1 };
    struct rng *r = &a->rng;
    v->lens = view(a, RFN_I32, 4, 0, R, 0, 0);
    v->q_lens = view(a, RFN_I32, 4, 0, R, 0, 0);
    v->table = view(a, RFN_I32, 4, c->gap, R, W, 0);
    v->requests = view(a, RFN_I32, 4, 0, 1, 0, 0);
    v->request = view(a, RFN_I32, 4, 0, R * n, 0, 0);
    v->context = view(a, RFN_I32, 4, 0, R * n, 0, 0);
    v->slots = view(a, RFN_I64, 8, 0, R * n, 0, 0);
    v->live = view(a, RFN_I32, 4, 0, 1, 0, 0);
    v->next_n = (int32_t)n;
    v->page_tokens = (int32_t)P;
    v->pages = 1000000;
    *(int32_t *)v->requests.data = (int32_t)live[round];
    if (c->live)
    {
        v->advance = view(a, RFN_I32, 4, 0, 1, 0, 0);
        *(int32_t *)v->advance.data = round == 4 ? 0 : 1 - 2 * (round % 2);
        v->rejected = view(a, RFN_I32, 4, 0, R, 0, 0);
    }
    for (int64_t b = 0; b < R; b++)
    {
        const int64_t edge[] = { 0,     1,         P - 1, P,         P + 1,     W * P - 1,
                                 W * P, W * P + 1, -1,    INT32_MAX, INT32_MIN, n };
        int odd = !c->plain && rng_below(r, 3) == 0;
        int64_t L = odd ? edge[rng_below(r, COUNT(edge))] : rng_below(r, W * P + 1);
        int64_t q = odd ? rng_below(r, 12) - 2 : rng_between(r, c->plain ? n : 0, n);
        ((int32_t *)v->lens.data)[b] = (int32_t)L;
        ((int32_t *)v->q_lens.data)[b] = (int32_t)q;
        if (c->live) /* now and then negative, or more than there are */
            ((int32_t *)v->rejected.data)[b] =
                (int32_t)(odd ? rng_below(r, 40) - 8 : rng_below(r, n + 1));
        for (int64_t w = 0; w < W; w++)
        {
            int bad = !c->plain && round != 0 && rng_below(r, 8) == 0;
            ((int32_t *)v->table.data)[b * v->table.stride[0] + w] =
                (int32_t)(bad ? w % 2 ? -1 : v->pages : rng_below(r, v->pages));
        }
    }
}

static float lse_value(const struct small_case *c, struct rng *r, int round)
{
    int64_t kind = c->plain ? 9 : rng_below(r, 12);
    if (round == 3 || kind < 3)
        return c->other && kind % 2 ? INFINITY : -INFINITY;
    if (kind == 3 && round == 4)
        return rng_below(r, 2) ? NAN : INFINITY;
    return rng_normal(r) * (kind == 4 ? 100.0f : 3.0f);
}

/* An empty partial holds NaN, which must not be read. */
static void build_combine(const struct small_case *c, int round, struct small_arena *a,
                          union small_args *ret)
{
    struct rfn_mla_combine_args *v = &ret->mla_combine;
    int64_t N = c->parts, T = c->rows, H = c->heads, V = c->width;
    int64_t pad = above(V, 8) + 8 * c->gap; /* of a row */
    int64_t elem = rfn_dtype_bytes(c->dtype);
    v->out_part = rfn_tensor_of(NULL, c->dtype, N, T, H, V);
    v->out_part.stride[2] = pad;
    v->out_part.stride[1] = H * pad + 8 * c->gap;
    v->out_part.stride[0] = T * v->out_part.stride[1] + 16 * c->gap;
    v->out_part.data = take(a, N * v->out_part.stride[0] * elem, 16);
    v->lse_part = view(a, RFN_F32, 4, c->gap, N, T, H);
    v->out = rfn_tensor_of(NULL, RFN_BF16, T, H, V, 0);
    v->out.stride[1] = pad;
    v->out.stride[0] = H * pad + 8 * c->gap;
    v->out.data = take(a, T * v->out.stride[0] * 2, 16);
    if (c->other)
    {
        v->sink = view(a, RFN_F32, 4, 0, H, 0, 0);
        for (int64_t h = 0; h < H; h++)
            ((float *)v->sink.data)[h] = rng_normal(&a->rng) * (h % 5 ? 2.0f : 200.0f);
    }
    if (c->other < 2)
        v->lse = view(a, RFN_F32, 4, c->gap, T, H, 0);
    v->empty_lse_positive = c->other != 0;
    v->live = live_of(c, round, a);
    for (int64_t u = 0; u < N * T * H; u++)
    {
        int64_t n = u / (T * H), t = u / H % T, h = u % H;
        float lse = lse_value(c, &a->rng, round);
        int empty = lse == -INFINITY || (c->other && lse == INFINITY);
        ((float *)v->lse_part.data)[n * v->lse_part.stride[0] + t * H + h] = lse;
        int64_t at = n * v->out_part.stride[0] + t * v->out_part.stride[1] + h * pad;
        for (int64_t i = 0; i < V; i++)
        {
            float x = empty ? NAN : rng_normal(&a->rng);
            if (c->dtype == RFN_F32)
                ((float *)v->out_part.data)[at + i] = x;
            else
                ((uint16_t *)v->out_part.data)[at + i] = (uint16_t)(bits_of(x) >> 16);
        }
    }
}

static void build_synth(const struct small_case *c, int round, struct small_arena *a,
                        union small_args *ret)
{
    struct rfn_synth_fill_args *v = &ret->synth_fill;
    int64_t align = 16 / rfn_dtype_bytes(c->dtype), T = c->rows, D = c->width;
    int64_t stride = above(D, align) + align * c->gap;
    v->out = rfn_tensor_of(NULL, c->dtype, T, D, 0, 0);
    v->out.stride[0] = stride;
    v->out.data = take(a, T * stride * rfn_dtype_bytes(c->dtype), 16);
    v->keys = view(a, RFN_I64, 8, 0, T, 0, 0);
    for (int64_t t = 0; t < T; t++)
        ((int64_t *)v->keys.data)[t] = round ? (int64_t)rng_u64(&a->rng) : t - T / 2;
    v->live = live_of(c, round, a);
    v->salt = c->gap ? INT64_MIN + 5 : 42;
    v->amplitude = c->floor > 0 ? c->floor : 1.0f;
}

/* ---- the lists ---------------------------------------------------------------------- */

#define KV &rfn_op_kv_pack
#define INDEX &rfn_op_index_pack
#define QUERY &rfn_op_index_query_pack
#define STEP &rfn_op_step_update
#define COMBINE &rfn_op_mla_combine
#define SYNTH &rfn_op_synth_fill
#define F656 .format = RFN_LATENT_FP8_656, .page_tokens = 64
#define F576 .format = RFN_LATENT_BF16_576, .page_tokens = 64
#define F584 .format = RFN_LATENT_FP8_584, .page_tokens = 64
#define F132 .format = RFN_INDEX_FP8_132, .page_tokens = 64
#define UE8M0 .scale = RFN_SCALE_UE8M0
#define ON_SCALE(x) .floor_on = RFN_FLOOR_SCALE, .floor = x
#define ON_AMAX(x) .floor_on = RFN_FLOOR_AMAX, .floor = x

const struct small_case small_case[] = {
    { KV, "656 f32", build_kv_pack, 200, F656, .live = 1 },
    { KV, "656 f32, strides", build_kv_pack, 131, F656, .live = 1, .gap = 3 },
    { KV, "656 f32, no live", build_kv_pack, 3, F656 },
    { KV, "656 ue8m0", build_kv_pack, 150, F656, UE8M0, .live = 1, .gap = 1 },
    { KV, "656 f32, floor on scale", build_kv_pack, 77, F656, ON_SCALE(1e-3f) },
    { KV, "656 f32, floor on amax", build_kv_pack, 77, F656, ON_AMAX(1e-4f) },
    { KV, "656 ue8m0, floor on amax", build_kv_pack, 77, F656, UE8M0, ON_AMAX(1e-4f) },
    { KV, "656, 5000 rows", build_kv_pack, 5000, F656, .live = 1 },
    { KV, "656, one row", build_kv_pack, 1, F656, .live = 1 },
    { KV, "576", build_kv_pack, 201, F576, .live = 1, .gap = 2 },
    { KV, "584", build_kv_pack, 201, F584, .live = 1 },
    { KV, "584, odd page", build_kv_pack, 131, .format = RFN_LATENT_FP8_584,
      .page_tokens = 7, .gap = 1, ON_AMAX(1e-4f) },
    { INDEX, "f32", build_index_pack, 200, F132, .live = 1 },
    { INDEX, "ue8m0", build_index_pack, 201, F132, UE8M0, .live = 1, .gap = 3 },
    { INDEX, "floor on scale", build_index_pack, 77, F132, ON_SCALE(1e-3f), .gap = 1 },
    { INDEX, "floor on amax", build_index_pack, 77, F132, UE8M0, ON_AMAX(1.0f) },
    { INDEX, "odd page", build_index_pack, 33, .format = RFN_INDEX_FP8_132,
      .page_tokens = 3, .live = 1 },
    { INDEX, "5000 rows", build_index_pack, 5000, F132, .live = 1 },
    { INDEX, "one row", build_index_pack, 1, F132 },
    { QUERY, "64 heads, bf16", build_query_pack, 33, UE8M0, .heads = 64,
      .dtype = RFN_BF16, .live = 1 },
    { QUERY, "64 heads, f32", build_query_pack, 33, .heads = 64, .dtype = RFN_F32,
      .live = 1, .gap = 3 },
    { QUERY, "32 heads", build_query_pack, 65, UE8M0, .heads = 32, .dtype = RFN_F32 },
    { QUERY, "5 heads", build_query_pack, 21, .heads = 5, .dtype = RFN_BF16, .live = 1,
      .gap = 1 },
    { QUERY, "4 heads, one row", build_query_pack, 1, UE8M0, .heads = 4,
      .dtype = RFN_F32 },
    { STEP, "next_n 1", build_step_update, 128, .width = 20, .parts = 1,
      .page_tokens = 64, .live = 1 },
    { STEP, "next_n 2", build_step_update, 1024, .width = 9, .parts = 2,
      .page_tokens = 64, .live = 1, .gap = 3 },
    { STEP, "next_n 3", build_step_update, 257, .width = 9, .parts = 3, .page_tokens = 7,
      .live = 1 },
    { STEP, "next_n 8", build_step_update, 300, .width = 9, .parts = 8, .page_tokens = 64,
      .live = 1, .gap = 1 },
    { STEP, "no advance", build_step_update, 31, .width = 4, .parts = 5,
      .page_tokens = 1 },
    { STEP, "wide table", build_step_update, 5, .width = 16385, .parts = 4,
      .page_tokens = 64, .live = 1 },
    { COMBINE, "f32", build_combine, 9, .heads = 16, .width = 512, .parts = 7,
      .dtype = RFN_F32, .live = 1 },
    { COMBINE, "bf16, sink", build_combine, 9, .heads = 8, .width = 512, .parts = 33,
      .dtype = RFN_BF16, .live = 1, .gap = 2, .other = 1 },
    { COMBINE, "f32, 509 wide, no lse", build_combine, 7, .heads = 3, .width = 509,
      .parts = 70, .dtype = RFN_F32, .gap = 1, .other = 2 },
    { COMBINE, "bf16, 13 wide", build_combine, 40, .heads = 5, .width = 13, .parts = 2,
      .dtype = RFN_BF16 },
    { COMBINE, "one partial", build_combine, 3, .heads = 128, .width = 256, .parts = 1,
      .dtype = RFN_F32, .live = 1 },
    { SYNTH, "bf16", build_synth, 65, .width = 576, .dtype = RFN_BF16, .live = 1 },
    { SYNTH, "bf16, odd width", build_synth, 33, .width = 1003, .dtype = RFN_BF16,
      .live = 1, .gap = 2, .floor = 0.7f },
    { SYNTH, "f32", build_synth, 65, .width = 128, .dtype = RFN_F32, .floor = 3e38f },
    { SYNTH, "f32, odd width", build_synth, 9, .width = 77, .dtype = RFN_F32, .live = 1,
      .gap = 1, .floor = 4e-34f },
    { SYNTH, "bf16, one column", build_synth, 9, .width = 1, .dtype = RFN_BF16,
      .floor = 3.4e38f },
};
const int small_cases = COUNT(small_case);

#define TIMED(op, name, build, ...)                                                      \
    { op, name, build, 1, __VA_ARGS__, .plain = 1 },                                     \
        { op, name, build, 32, __VA_ARGS__, .plain = 1 },                                \
        { op, name, build, 128, __VA_ARGS__, .plain = 1 },                               \
    {                                                                                    \
        op, name, build, 1024, __VA_ARGS__, .plain = 1                                   \
    }
#define COMBINED(T, H)                                                                   \
    {                                                                                    \
        COMBINE, #H " heads, 4 parts", build_combine, T,                                 \
            .heads = H, .width = 512, .parts = 4, .dtype = RFN_F32, .plain = 1           \
    }

const struct small_case small_timed_case[] = {
    TIMED(KV, "656 f32", build_kv_pack, F656),
    { KV, "656 f32", build_kv_pack, 8192, F656, .plain = 1 },
    TIMED(KV, "584", build_kv_pack, F584),
    TIMED(KV, "576", build_kv_pack, F576),
    TIMED(INDEX, "ue8m0", build_index_pack, F132, UE8M0),
    { INDEX, "ue8m0", build_index_pack, 8192, F132, UE8M0, .plain = 1 },
    TIMED(QUERY, "64 heads", build_query_pack, UE8M0, .heads = 64, .dtype = RFN_BF16),
    TIMED(STEP, "next_n 1, 128k", build_step_update, .width = 2048, .parts = 1,
          .page_tokens = 64),
    TIMED(STEP, "next_n 4, 128k", build_step_update, .width = 2048, .parts = 4,
          .page_tokens = 64),
    COMBINED(1, 128),
    COMBINED(32, 128),
    COMBINED(128, 128),
    COMBINED(1024, 16),
    TIMED(SYNTH, "bf16, 576 wide", build_synth, .width = 576, .dtype = RFN_BF16),
};
const int small_timed = COUNT(small_timed_case);

void small_chain(int round, struct small_arena *arena, struct small_link ret[SMALL_LINKS])
{
    const struct small_case pack = { KV, "chain", build_kv_pack, 512, F656, .plain = 1 };
    const struct small_case step = { STEP,       "chain",           build_step_update,
                                     128,        .page_tokens = 64, .width = 20,
                                     .parts = 4, .live = 1,         .plain = 1 };
    struct small_case fill = { SYNTH, "chain", build_synth, 512, .dtype = RFN_BF16 };
    memset(ret, 0, SMALL_LINKS * sizeof *ret);
    ret[0].op = STEP;
    ret[1].op = ret[2].op = SYNTH;
    ret[3].op = KV;
    struct rfn_kv_pack_args *v = &ret[3].args.kv_pack;
    struct rfn_step_update_args *u = &ret[0].args.step_update;
    build_kv_pack(&pack, round, arena, &ret[3].args);
    build_step_update(&step, round % 3 * 2, arena, &ret[0].args);
    u->pages = v->pool.pages;
    for (int64_t i = 0; i < step.rows * step.width; i++)
        ((int32_t *)u->table.data)[i] %= (int32_t)u->pages;
    fill.width = v->kv.shape[1];
    build_synth(&fill, round + 1, arena, &ret[1].args);
    fill.width = v->k_rope.shape[1];
    build_synth(&fill, round + 1, arena, &ret[2].args);
    v->kv = ret[1].args.synth_fill.out;
    v->k_rope = ret[2].args.synth_fill.out;
    v->slots = u->slots;
    v->live = u->live;
}
