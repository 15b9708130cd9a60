/* sparse_mla: attention over chosen slots of one or two latent pools. */
#include "kernels/bounds.h"
#include "kernels/isa.h"
#include "kernels/num.h"
#include "kernels/op.h"
#include "kernels/parallel.h"

#include <math.h>
#include <string.h>

#define HEADS_MAX 128
#define HEADS 32 /* of one block: a unit of work beside the row */
#define TILE 64  /* keys that are dequantised at once and used by all heads of a block */
#define QK_MAX 576      /* width of a key */
#define V_MAX 512       /* width of a value */
#define K_MAX (1 << 30) /* columns, which kernels count in 32 bits, some tiles ahead */

#define ARGS struct rfn_sparse_mla_args
#define LATENTS                                                                          \
    (1u << RFN_LATENT_FP8_656 | 1u << RFN_LATENT_BF16_576 | 1u << RFN_LATENT_FP8_584)
#define I32 RFN_DTYPE_BIT(RFN_I32)
#define F32 RFN_DTYPE_BIT(RFN_F32)
#define BF16 RFN_DTYPE_BIT(RFN_BF16)

static const struct rfn_operand operands[] = {
    { "q", offsetof(ARGS, q), RFN_OPERAND_TENSOR, RFN_READ, 0, BF16, "T,H,D", 16 },
    { "q_rope", offsetof(ARGS, q_rope), RFN_OPERAND_TENSOR, RFN_READ, 1, BF16, "T,H,E",
      16 },
    { "live", offsetof(ARGS, live), RFN_OPERAND_TENSOR, RFN_READ, 1, I32, "1", 0 },
    { "source[0].pool", offsetof(ARGS, source[0].pool), RFN_OPERAND_POOL, RFN_READ, 0,
      LATENTS, NULL, 16 },
    { "source[0].indices", offsetof(ARGS, source[0].indices), RFN_OPERAND_TENSOR,
      RFN_READ, 0, I32, "T,K", 0 },
    { "source[0].lens", offsetof(ARGS, source[0].lens), RFN_OPERAND_TENSOR, RFN_READ, 1,
      I32, "T", 0 },
    { "source[1].pool", offsetof(ARGS, source[1].pool), RFN_OPERAND_POOL, RFN_READ, 1,
      LATENTS, NULL, 16 },
    { "source[1].indices", offsetof(ARGS, source[1].indices), RFN_OPERAND_TENSOR,
      RFN_READ, 1, I32, "T,?", 0 },
    { "source[1].lens", offsetof(ARGS, source[1].lens), RFN_OPERAND_TENSOR, RFN_READ, 1,
      I32, "T", 0 },
    { "sink", offsetof(ARGS, sink), RFN_OPERAND_TENSOR, RFN_READ, 1, F32, "H", 0 },
    { "out", offsetof(ARGS, out), RFN_OPERAND_TENSOR, RFN_WRITE, 0, BF16, "T,H,V", 16 },
    { "lse", offsetof(ARGS, lse), RFN_OPERAND_TENSOR, RFN_WRITE, 1, F32, "T,H", 0 },
    { "bounds", offsetof(ARGS, bounds.header), RFN_OPERAND_TENSOR, RFN_READ, 1,
      RFN_DTYPE_BIT(RFN_I64), "8", 0 },
};

static const struct rfn_scalar scalars[] = {
    { "scale", offsetof(ARGS, scale), sizeof(float), 0 },
    { "empty_lse_positive", offsetof(ARGS, empty_lse_positive), sizeof(int32_t), 0 },
    { "batch_invariant", offsetof(ARGS, batch_invariant), sizeof(int32_t), 0 },
    { "bounds.rows", offsetof(ARGS, bounds.rows), sizeof(int64_t), 0 },
    { "bounds.next_n", offsetof(ARGS, bounds.next_n), sizeof(int32_t), 0 },
};

static int sources(const ARGS *a)
{
    return a->source[1].pool.data ? 2 : 1;
}

static enum rfn_status check_second(const ARGS *a, const struct rfn_format_info *info)
{
    const struct rfn_mla_source *s = &a->source[1];
    if (!s->pool.data && (s->indices.data || s->lens.data))
        return RFN_FAIL(RFN_INVALID, "source[1].%s: given, but source[1].pool is not",
                        s->indices.data ? "indices" : "lens");
    if (!s->pool.data)
        return RFN_OK;
    if (!s->indices.data && a->q.shape[0] && s->indices.shape[1])
        return RFN_FAIL(RFN_INVALID,
                        "source[1].indices: not given, but source[1].pool is");
    if (s->indices.dims != 2)
        return RFN_FAIL(RFN_INVALID, "source[1].indices: %d dimensions, but [T,?] has 2",
                        (int)s->indices.dims);
    const struct rfn_format_info *two = rfn_format_query(s->pool.format);
    if (two->qk_elems != info->qk_elems || two->v_elems != info->v_elems)
        return RFN_FAIL(
            RFN_INVALID,
            "source[1].pool: %s has QK = %d and V = %d, but source[0].pool: %s "
            "has %d and %d",
            two->name, two->qk_elems, two->v_elems, info->name, info->qk_elems,
            info->v_elems);
    return RFN_OK;
}

static enum rfn_status check(const void *v)
{
    const ARGS *a = v;
    const struct rfn_format_info *info = rfn_format_query(a->source[0].pool.format);
    long long H = a->q.shape[1], D = a->q.shape[2], V = a->out.shape[2];
    int rope = info->rope_elems, latent = info->qk_elems - rope;
    if (H < 1 || H > HEADS_MAX)
        return RFN_FAIL(RFN_INVALID, "q: H = %lld, but 1 .. %d is needed", H, HEADS_MAX);
    if (a->q_rope.data && a->q_rope.shape[2] != rope)
        return RFN_FAIL(RFN_INVALID, "q_rope: E = %lld, but %s has %d",
                        (long long)a->q_rope.shape[2], info->name, rope);
    if (D != (a->q_rope.data ? latent : info->qk_elems))
        return RFN_FAIL(RFN_INVALID, "q: D = %lld, but %s has %d %s", D, info->name,
                        a->q_rope.data ? latent : info->qk_elems,
                        a->q_rope.data ? "beside q_rope" : "without q_rope");
    if (V != info->v_elems)
        return RFN_FAIL(RFN_INVALID, "out: V = %lld, but %s has %d", V, info->name,
                        info->v_elems);
    /* A struct that was only zeroed would average the values: surely not meant. */
    if (!(a->scale > 0.0f) || isinf(a->scale))
        return RFN_FAIL(RFN_INVALID, "scale: %g, but a finite value above 0 is needed",
                        (double)a->scale);
    if (a->empty_lse_positive != 0 && a->empty_lse_positive != 1)
        return RFN_FAIL(RFN_INVALID, "empty_lse_positive: %d, but 0 or 1 is needed",
                        a->empty_lse_positive);
    if (a->batch_invariant != 0 && a->batch_invariant != 1)
        return RFN_FAIL(RFN_INVALID, "batch_invariant: %d, but 0 or 1 is needed",
                        a->batch_invariant);
    enum rfn_status status = rfn_bounds_check(&a->bounds, a->q.shape[0]);
    if (status == RFN_OK)
        status = check_second(a, info);
    for (int i = 0; status == RFN_OK && i < sources(a); i++)
        if (a->source[i].indices.shape[1] > K_MAX)
            status = RFN_FAIL(RFN_LIMIT, "source[%d].indices: K = %lld, up to %d", i,
                              (long long)a->source[i].indices.shape[1], K_MAX);
    return status;
}

/* ---- inner kernels, one instance for each instruction set ---------------------------- */

/* Where element [i][k] of a left factor is: at[i * row + k * col]. */
struct matrix
{
    const float *at;
    int64_t row;
    int64_t col;
};

struct inner
{
    void (*product)(const struct matrix *a, const float *b, int64_t b_row, float *c,
                    int64_t c_row, int I, int J, int K);
    int (*softmax)(float *score, int n, int heads, float scale, float *max, float *sum,
                   float *ret_shrink);
    void (*key)(const struct rfn_format_info *info, struct rfn_token token, float *ret);
};

#define INNER_KERNELS "kernels/mla_inner.h"
#include "kernels/instances.h"

static const struct inner inner_table[RFN_ISAS] = {
    { product_base, softmax_base, key_base },
#if defined(__x86_64__)
    { product_avx2, softmax_avx2, key_avx2 },
    { product_avx512, softmax_avx512, key_avx512 },
#endif
};

/* ---- one block of heads of one row --------------------------------------------------- */

struct block
{
    _Alignas(64) float q[QK_MAX][HEADS]; /* heads side by side */
    float key[TILE][QK_MAX];
    float score[TILE][HEADS];
    float out[HEADS][V_MAX];
    float max[HEADS];
    float sum[HEADS];
    float shrink[HEADS];
};

static const uint16_t *row_of(const struct rfn_tensor *t, int64_t i, int64_t j)
{
    return (const uint16_t *)t->data + i * t->stride[0] + j * t->stride[1];
}

static void load_queries(struct block *b, const ARGS *a, int64_t t, int h0, int heads)
{
    int D = (int)a->q.shape[2];
    for (int h = 0; h < heads; h++)
    {
        const uint16_t *q = row_of(&a->q, t, h0 + h);
        for (int d = 0; d < D; d++)
            b->q[d][h] = rfn_bf16_to_f32(q[d]);
        if (!a->q_rope.data)
            continue;
        const uint16_t *rope = row_of(&a->q_rope, t, h0 + h);
        for (int e = 0; e < (int)a->q_rope.shape[2]; e++)
            b->q[D + e][h] = rfn_bf16_to_f32(rope[e]);
    }
}

/* Folds n keys into maximum, sum and output of every head. */
static void fold_tile(struct block *b, const struct inner *inner, int n, int heads,
                      int QK, int V, float scale)
{
    int lanes = (heads + 15) / 16 * 16;
    struct matrix keys = { b->key[0], QK_MAX, 1 };
    struct matrix weights = { b->score[0], 1, HEADS };
    memset(b->score, 0, (size_t)n * sizeof b->score[0]);
    inner->product(&keys, b->q[0], HEADS, b->score[0], HEADS, n, lanes, QK);
    int shrinks = inner->softmax(b->score[0], n, lanes, scale, b->max, b->sum, b->shrink);
    for (int h = 0; shrinks && h < heads; h++)
    {
        float shrink = b->shrink[h];
#pragma omp simd
        for (int d = 0; d < V; d++)
            b->out[h][d] *= shrink;
    }
    inner->product(&weights, b->key[0], QK_MAX, b->out[0], V_MAX, heads, V, n);
}

/* The next column of a source that names a key; masked ones are passed by, never loaded. */
static int64_t next_slot(const struct rfn_mla_source *s, int64_t t, int64_t *k,
                         const char *operand, struct rfn_fault *seen)
{
    const int32_t *index = (const int32_t *)s->indices.data + t * s->indices.stride[0];
    int64_t K = s->indices.shape[1], slots = rfn_pool_slots(&s->pool);
    if (s->lens.data && ((const int32_t *)s->lens.data)[t] < K)
        K = ((const int32_t *)s->lens.data)[t];
    for (; *k < K; ++*k)
    {
        int64_t slot = index[*k];
        if (slot >= slots)
            rfn_fault_note(seen, "sparse_mla", operand, t, *k, slot);
        else if (slot >= 0)
            return ++*k, slot;
    }
    return -1;
}

static void store(const struct block *b, const ARGS *a, int64_t t, int h0, int heads,
                  int V)
{
    float empty = a->empty_lse_positive ? INFINITY : -INFINITY;
    for (int h = 0; h < heads; h++)
    {
        uint16_t *out = (uint16_t *)row_of(&a->out, t, h0 + h);
        float max = b->max[h], sum = b->sum[h], all = sum;
        int none = sum == 0.0f;
        if (a->sink.data)
            all += expf(((const float *)a->sink.data)[h0 + h] - max);
        float share = none ? 0.0f : 1.0f / all;
        for (int d = 0; d < V; d++)
            out[d] = none ? 0 : rfn_f32_to_bf16(b->out[h][d] * share);
        if (a->lse.data)
        {
            float *lse = (float *)a->lse.data + t * a->lse.stride[0] + h0 + h;
            *lse = none ? empty : max + logf(sum);
        }
    }
}

static void attend(const ARGS *a, const struct inner *inner, int64_t t, int h0, int heads,
                   struct rfn_fault *seen)
{
    static const char *const names[] = { "source[0].indices", "source[1].indices" };
    const struct rfn_format_info *first = rfn_format_query(a->source[0].pool.format);
    int QK = first->qk_elems, V = first->v_elems, n = 0;
    struct block b;
    if (heads < HEADS)
        memset(b.q, 0, sizeof b.q);
    memset(b.out, 0, sizeof b.out);
    for (int h = 0; h < HEADS; h++)
    {
        b.max[h] = -INFINITY;
        b.sum[h] = 0.0f;
    }
    load_queries(&b, a, t, h0, heads);

    for (int i = 0; i < sources(a); i++)
    {
        const struct rfn_mla_source *s = &a->source[i];
        const struct rfn_format_info *info = rfn_format_query(s->pool.format);
        int64_t k = 0, slot, stride = rfn_pool_stride(&s->pool);
        while ((slot = next_slot(s, t, &k, names[i], h0 ? NULL : seen)) >= 0)
        {
            inner->key(info, rfn_pool_token(&s->pool, info, stride, slot), b.key[n++]);
            if (n == TILE)
            {
                fold_tile(&b, inner, n, heads, QK, V, a->scale);
                n = 0;
            }
        }
    }
    if (n)
        fold_tile(&b, inner, n, heads, QK, V, a->scale);
    store(&b, a, t, h0, heads, V);
}

struct run
{
    const ARGS *a;
    const struct inner *inner;
    int heads, blocks;
    struct rfn_fault *note;
};

static void attend_block(void *ctx, int64_t u)
{
    const struct run *r = ctx;
    int h0 = (int)(u % r->blocks) * HEADS;
    attend(r->a, r->inner, u / r->blocks, h0,
           r->heads - h0 < HEADS ? r->heads - h0 : HEADS, r->note);
}

static void host(const void *v, const struct rfn_host_env *env)
{
    const ARGS *a = v;
    const struct rfn_bound_set own =
        rfn_bounds_of_pool(&a->bounds, a->q.shape[0], &a->source[0].pool);
    if (!rfn_bounds_hold(&a->bounds, &own, "sparse_mla", env->fault))
        return;
    struct rfn_fault seen = { 0 };
    int H = (int)a->q.shape[1], blocks = (H + HEADS - 1) / HEADS;
    struct run r = { a, &inner_table[rfn_isa_here()], H, blocks,
                     env->fault ? &seen : NULL };
    rfn_parallel(env->threads, rfn_live_rows(&a->live, a->q.shape[0]) * blocks,
                 attend_block, &r);
    rfn_fault_merge(env->fault, &seen);
}

static struct rfn_cost cost(const void *v)
{
    const ARGS *a = v;
    const struct rfn_format_info *first = rfn_format_query(a->source[0].pool.format);
    int64_t T = a->q.shape[0], H = a->q.shape[1], QK = first->qk_elems,
            V = first->v_elems;
    struct rfn_cost cost = { .bytes_read = 2 * T * H * QK,
                             .bytes_written =
                                 2 * T * H * V + (a->lse.data ? 4 * T * H : 0) };
    for (int i = 0; i < sources(a); i++)
    {
        const struct rfn_mla_source *s = &a->source[i];
        int64_t K = s->indices.shape[1];
        cost.bytes_read += T * K * (4 + rfn_format_query(s->pool.format)->token_bytes);
        cost.flops += 2 * T * H * K * (QK + V);
    }
    return cost;
}

const struct rfn_op rfn_op_sparse_mla = {
    .name = "sparse_mla",
    .args_bytes = sizeof(ARGS),
    .operand = operands,
    .operands = RFN_COUNT(operands),
    .scalar = scalars,
    .scalars = RFN_COUNT(scalars),
    .check = check,
    .host = host,
#if RFN_CUDA
    .cuda = rfn_sparse_mla_cuda,
#endif
    .cost = cost,
    .tolerance = 4e-3,
};
