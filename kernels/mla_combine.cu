/*
 * mla_combine: merges partial attention results by their log sums.
 *
 * A warp for 256 columns of one (row, head): each lane weighs one partial of 32, then all
 * go through the partials in order, eight columns a lane.
 */
#include "kernels/cuda/edge.cuh"
#include "kernels/cuda/plan.cuh"
#include "kernels/cuda/round.cuh"
#include "kernels/cuda/rows.cuh"
#include "kernels/cuda/scan.cuh"

#include <math.h>
#include <refrain/ops.h>

namespace
{

constexpr uint32_t WARPS = 4; /* a block */
constexpr uint32_t THREADS = 32 * WARPS;
constexpr int32_t COLUMNS = 8; /* a lane */
constexpr int32_t TILE = 32 * COLUMNS;
constexpr int32_t AHEAD = 4; /* partials whose loads are in flight */

struct strides
{
    int64_t part[3]; /* n, t, h */
    int64_t lse_part[2];
    int64_t out[2];
    int64_t lse;
};

struct eight
{
    float x[COLUMNS];
};

/* The first `elems` of eight columns; the rest is 0. */
template <bool BF16>
__device__ __forceinline__ struct eight load(const void *from, int64_t at, int32_t elems)
{
    struct eight ret = {};
    if (BF16)
    {
        const uint16_t *p = (const uint16_t *)from + at;
        if (elems >= COLUMNS)
        {
            uint4 v = *(const uint4 *)p;
            const uint32_t word[4] = { v.x, v.y, v.z, v.w };
#pragma unroll
            for (int32_t i = 0; i < COLUMNS; i++)
                ret.x[i] = __uint_as_float(i % 2 ? word[i / 2] & 0xffff0000u
                                                 : word[i / 2] << 16);
            return ret;
        }
#pragma unroll
        for (int32_t i = 0; i < COLUMNS; i++)
        {
            if (i < elems)
                ret.x[i] = __uint_as_float((uint32_t)p[i] << 16);
        }
        return ret;
    }
    const float *p = (const float *)from + at;
    if (elems >= COLUMNS)
    {
        float4 a = ((const float4 *)p)[0];
        float4 b = ((const float4 *)p)[1];
        ret = { { a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w } };
        return ret;
    }
#pragma unroll
    for (int32_t i = 0; i < COLUMNS; i++)
    {
        if (i < elems)
            ret.x[i] = p[i];
    }
    return ret;
}

/* The log sum of a partial; -inf for an empty one, in either convention. */
__device__ __forceinline__ float lse_of(const float *lse, int64_t stride, int32_t n,
                                        int32_t N, bool positive)
{
    float x = n < N ? lse[n * stride] : -INFINITY;
    return positive && x == INFINITY ? -INFINITY : x;
}

/* A NaN stays: nothing is above it. */
__device__ __forceinline__ float larger(float a, float b)
{
    return b > a || isnan(b) ? (isnan(a) ? a : b) : a;
}

template <bool BF16>
__global__ void __launch_bounds__(THREADS)
    mla_combine_kernel(const void *part, const float *lse_part, const int32_t *live,
                       const float *sink, uint16_t *out, float *lse, int64_t T, int32_t N,
                       int64_t H, int64_t V, int64_t tiles, const struct strides stride,
                       int32_t positive)
{
    int32_t lane = threadIdx.x % 32;
    int64_t unit = (int64_t)blockIdx.x * WARPS + threadIdx.x / 32;
    int64_t u = unit / tiles;
    int64_t c = (unit - u * tiles) * TILE + COLUMNS * lane;
    int64_t t = u / H;
    int64_t h = u - t * H;
    rfn_edge_wait();
    if (t >= rfn_live_rows_cuda(live, T))
        return;

    const float *from = lse_part + t * stride.lse_part[1] + h;
    float max = -INFINITY;
    for (int32_t n = lane; n - lane < N; n += 32)
        max = larger(max, lse_of(from, stride.lse_part[0], n, N, positive));
#pragma unroll
    for (int32_t step = 16; step; step /= 2)
        max = larger(max, __shfl_xor_sync(RFN_ALL_LANES, max, step));
    bool none = max == -INFINITY;

    int32_t elems = V - c >= COLUMNS ? COLUMNS : V > c ? (int32_t)(V - c) : 0;
    float weights = 0;
    struct eight sum = {};
    for (int32_t n0 = 0; n0 < N && !none; n0 += 32)
    {
        float x = lse_of(from, stride.lse_part[0], n0 + lane, N, positive);
        float own = x == -INFINITY ? 0.0f : expf(x - max);
        uint32_t filled = __ballot_sync(RFN_ALL_LANES, x != -INFINITY);
        int32_t most = N - n0 < 32 ? N - n0 : 32;
        for (int32_t i0 = 0; i0 < most; i0 += AHEAD)
        {
            struct eight p[AHEAD];
#pragma unroll
            for (int32_t i = 0; i < AHEAD; i++)
            {
                int64_t at = (n0 + i0 + i) * stride.part[0] + t * stride.part[1] +
                             h * stride.part[2] + c;
                p[i] = load<BF16>(part, at, filled >> (i0 + i) & 1 ? elems : 0);
            }
#pragma unroll
            for (int32_t i = 0; i < AHEAD; i++)
            {
                float weight = __shfl_sync(RFN_ALL_LANES, own, i0 + i);
                weights += weight;
#pragma unroll
                for (int32_t k = 0; k < COLUMNS; k++)
                    sum.x[k] += weight * p[i].x[k];
            }
        }
    }

    float all = weights;
    if (sink && !none)
        all += expf(sink[h] - max);
    float share = none ? 0.0f : 1.0f / all;
#pragma unroll
    for (int32_t k = 0; k < COLUMNS; k++)
        sum.x[k] *= share;
    uint4 w = make_uint4(rfn_bf16x2(sum.x[0], sum.x[1]), rfn_bf16x2(sum.x[2], sum.x[3]),
                         rfn_bf16x2(sum.x[4], sum.x[5]), rfn_bf16x2(sum.x[6], sum.x[7]));
    rfn_bf16x8_store(out + t * stride.out[0] + h * stride.out[1] + c, w, elems);
    if (lse && c == 0)
        lse[t * stride.lse + h] =
            none ? (positive ? INFINITY : -INFINITY) : max + logf(weights);
}

} // namespace

extern "C" {

extern const void *const rfn_mla_combine_cuda_kernels[];
const void *const rfn_mla_combine_cuda_kernels[] = {
    (const void *)mla_combine_kernel<false>, (const void *)mla_combine_kernel<true>, NULL
};

enum rfn_status rfn_mla_combine_cuda(const void *args, const struct rfn_plan_env *env,
                                     struct rfn_launch *ret)
{
    const struct rfn_mla_combine_args *a = (const struct rfn_mla_combine_args *)args;
    int64_t N = a->lse_part.shape[0], T = a->out.shape[0], H = a->out.shape[1];
    int64_t V = a->out.shape[2], tiles = V ? (V + TILE - 1) / TILE : 1;
    ret->nodes = 0;
    if (N > INT32_MAX - 32)
        return rfn_error(RFN_UNSUPPORTED, "mla_combine: N = %lld, up to %d", (long long)N,
                         INT32_MAX - 32);
    if (T == 0 || H == 0)
        return RFN_OK;
    struct strides stride = {
        { a->out_part.stride[0], a->out_part.stride[1], a->out_part.stride[2] },
        { a->lse_part.stride[0], a->lse_part.stride[1] },
        { a->out.stride[0], a->out.stride[1] },
        a->lse.stride[0],
    };
    const void *kernel = a->out_part.dtype == RFN_BF16
                             ? (const void *)mla_combine_kernel<true>
                             : (const void *)mla_combine_kernel<false>;
    struct rfn_launch_node *n = rfn_plan_node(
        ret, "mla_combine", kernel, (T * H * tiles + WARPS - 1) / WARPS, THREADS);
    n->programmatic = rfn_plan_programmatic(env);
    rfn_plan_param(n, "out_part", RFN_PARAM_READ, a->out_part.data);
    rfn_plan_param(n, "lse_part", RFN_PARAM_READ, a->lse_part.data);
    rfn_plan_param(n, "live", RFN_PARAM_READ, a->live.data);
    rfn_plan_param(n, "sink", RFN_PARAM_READ, a->sink.data);
    rfn_plan_param(n, "out", RFN_PARAM_WRITE, a->out.data);
    rfn_plan_param(n, "lse", RFN_PARAM_WRITE, a->lse.data);
    rfn_plan_param(n, "T", RFN_PARAM_CONST, T);
    rfn_plan_param(n, "N", RFN_PARAM_CONST, (int32_t)N);
    rfn_plan_param(n, "H", RFN_PARAM_CONST, H);
    rfn_plan_param(n, "V", RFN_PARAM_CONST, V);
    rfn_plan_param(n, "tiles", RFN_PARAM_CONST, tiles);
    rfn_plan_param(n, "strides", RFN_PARAM_CONST, stride);
    rfn_plan_param(n, "empty_lse_positive", RFN_PARAM_CONST, a->empty_lse_positive);
    return RFN_OK;
}
}
