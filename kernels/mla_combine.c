/* mla_combine: merges partial attention results by their log sums. */
#include "kernels/num.h"
#include "kernels/op.h"
#include "kernels/parallel.h"

#include <math.h>

#define TILE 512 /* columns of a value row that are summed at once */

#define ARGS struct rfn_mla_combine_args
#define F32 RFN_DTYPE_BIT(RFN_F32)
#define BF16 RFN_DTYPE_BIT(RFN_BF16)

static const struct rfn_operand operands[] = {
    { "out_part", offsetof(ARGS, out_part), RFN_OPERAND_TENSOR, RFN_READ, 0, F32 | BF16,
      "N,T,H,V", 16 },
    { "lse_part", offsetof(ARGS, lse_part), RFN_OPERAND_TENSOR, RFN_READ, 0, F32, "N,T,H",
      0 },
    { "live", offsetof(ARGS, live), RFN_OPERAND_TENSOR, RFN_READ, 1,
      RFN_DTYPE_BIT(RFN_I32), "1", 0 },
    { "sink", offsetof(ARGS, sink), RFN_OPERAND_TENSOR, RFN_READ, 1, F32, "H", 0 },
    { "out", offsetof(ARGS, out), RFN_OPERAND_TENSOR, RFN_WRITE, 0, BF16, "T,H,V", 16 },
    { "lse", offsetof(ARGS, lse), RFN_OPERAND_TENSOR, RFN_WRITE, 1, F32, "T,H", 0 },
};

static const struct rfn_scalar scalars[] = {
    { "empty_lse_positive", offsetof(ARGS, empty_lse_positive), sizeof(int32_t), 0 },
};

static enum rfn_status check(const void *v)
{
    const ARGS *a = v;
    if (a->empty_lse_positive != 0 && a->empty_lse_positive != 1)
        return RFN_FAIL(RFN_INVALID, "empty_lse_positive: %d, but 0 or 1 is needed",
                        a->empty_lse_positive);
    return RFN_OK;
}

/* The log sum of partial n; -inf for an empty one, in either convention. */
static float lse_of(const ARGS *a, int64_t n, int64_t t, int64_t h)
{
    const int64_t *stride = a->lse_part.stride;
    float x = ((const float *)a->lse_part.data)[n * stride[0] + t * stride[1] + h];
    return a->empty_lse_positive && x == INFINITY ? -INFINITY : x;
}

static void add_f32(float *sum, const float *x, float weight, int elems)
{
#pragma omp simd
    for (int v = 0; v < elems; v++)
        sum[v] += weight * x[v];
}

static void add_bf16(float *sum, const uint16_t *x, float weight, int elems)
{
#pragma omp simd
    for (int v = 0; v < elems; v++)
        sum[v] += weight * rfn_bf16_to_f32(x[v]);
}

/* sum[v] = sum_n e^(lse_part[n] - max) * out_part[n][v0 + v], in the order of n. What an
 * empty partial holds is not read. */
static void add_partials(const ARGS *a, int64_t t, int64_t h, float max, int64_t v0,
                         int elems, float *ret_sum)
{
    const int64_t *stride = a->out_part.stride;
    memset(ret_sum, 0, (size_t)elems * sizeof *ret_sum);
    for (int64_t n = 0; n < a->out_part.shape[0]; n++)
    {
        float lse = lse_of(a, n, t, h);
        int64_t at = n * stride[0] + t * stride[1] + h * stride[2] + v0;
        if (lse == -INFINITY)
            continue;
        if (a->out_part.dtype == RFN_F32)
            add_f32(ret_sum, (const float *)a->out_part.data + at, expf(lse - max),
                    elems);
        else
            add_bf16(ret_sum, (const uint16_t *)a->out_part.data + at, expf(lse - max),
                     elems);
    }
}

static void combine(const ARGS *a, int64_t t, int64_t h)
{
    int64_t N = a->lse_part.shape[0], V = a->out.shape[2];
    uint16_t *out = (uint16_t *)a->out.data + t * a->out.stride[0] + h * a->out.stride[1];
    float max = -INFINITY, weights = 0.0f;
    for (int64_t n = 0; n < N; n++)
    {
        float lse = lse_of(a, n, t, h);
        max = lse > max || isnan(lse) ? lse : max; /* a NaN stays: nothing is above it */
    }
    int none = max == -INFINITY;
    for (int64_t n = 0; n < N && !none; n++)
        weights += expf(lse_of(a, n, t, h) - max);

    float all = weights;
    if (a->sink.data && !none)
        all += expf(((const float *)a->sink.data)[h] - max);
    for (int64_t v0 = 0; v0 < V; v0 += TILE)
    {
        float sum[TILE], share = none ? 0.0f : 1.0f / all;
        int elems = V - v0 < TILE ? (int)(V - v0) : TILE;
        add_partials(a, t, h, max, v0, elems, sum);
#pragma omp simd
        for (int v = 0; v < elems; v++)
            out[v0 + v] = rfn_f32_to_bf16(sum[v] * share);
    }
    if (a->lse.data)
    {
        float empty = a->empty_lse_positive ? INFINITY : -INFINITY;
        float *lse = (float *)a->lse.data + t * a->lse.stride[0] + h;
        *lse = none ? empty : max + logf(weights);
    }
}

static void combine_one(void *ctx, int64_t u)
{
    const ARGS *a = ctx;
    int64_t H = a->out.shape[1];
    combine(a, u / H, u % H);
}

static void host(const void *v, const struct rfn_host_env *env)
{
    ARGS a = *(const ARGS *)v;
    rfn_parallel(env->threads, rfn_live_rows(&a.live, a.out.shape[0]) * a.out.shape[1],
                 combine_one, &a);
}

static struct rfn_cost cost(const void *v)
{
    const ARGS *a = v;
    int64_t N = a->out_part.shape[0], V = a->out.shape[2];
    int64_t heads = a->out.shape[0] * a->out.shape[1];
    return (struct rfn_cost) {
        .bytes_read = N * heads * (V * rfn_dtype_bytes(a->out_part.dtype) + 4),
        .bytes_written = heads * (2 * V + (a->lse.data ? 4 : 0)),
        .flops = 2 * N * heads * V,
    };
}

const struct rfn_op rfn_op_mla_combine = {
    .name = "mla_combine",
    .args_bytes = sizeof(ARGS),
    .operand = operands,
    .operands = RFN_COUNT(operands),
    .scalar = scalars,
    .scalars = RFN_COUNT(scalars),
    .check = check,
    .host = host,
#if RFN_CUDA
    .cuda = rfn_mla_combine_cuda,
#endif
    .cost = cost,
    .tolerance = 4e-3,
};
