/*
 * synth_fill: rows of numbers that are a function of (key, salt, column).
 *
 * A thread hashes eight columns: 16 bytes of bf16, twice 16 of f32.
 */
#include "kernels/cuda/edge.cuh"
#include "kernels/cuda/plan.cuh"
#include "kernels/cuda/round.cuh"
#include "kernels/cuda/rows.cuh"

#include <refrain/ops.h>

namespace
{

constexpr uint32_t THREADS = 128;
constexpr int32_t COLUMNS = 8; /* a thread: two hashes */
constexpr uint64_t GOLDEN = 0x9e3779b97f4a7c15u;

/* The finaliser of SplitMix64. */
__host__ __device__ __forceinline__ uint64_t mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

template <bool BF16>
__global__ void __launch_bounds__(THREADS)
    synth_fill_kernel(void *out, const uint64_t *keys, const int32_t *live,
                      int64_t stride, int64_t T, int64_t D, int64_t of_row, uint64_t salt,
                      float step)
{
    int64_t unit = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    int64_t t = unit / of_row;
    int64_t d = COLUMNS * (unit - t * of_row);
    rfn_edge_wait();
    uint64_t key = t < T ? keys[t] : 0;
    if (t >= rfn_live_rows_cuda(live, T))
        return;

    uint64_t state = mix(key + salt) + (uint64_t)(d / 4) * GOLDEN;
    float x[COLUMNS];
#pragma unroll
    for (int32_t half = 0; half < COLUMNS / 4; half++)
    {
        uint64_t hash = mix(state += GOLDEN);
#pragma unroll
        for (int32_t i = 0; i < 4; i++)
            x[4 * half + i] = __fmul_rn((float)(int16_t)(hash >> 16 * i), step);
    }

    int64_t at = t * stride + d;
    bool whole = D - d >= COLUMNS;
    if (BF16)
    {
        uint4 w = make_uint4(rfn_bf16x2(x[0], x[1]), rfn_bf16x2(x[2], x[3]),
                             rfn_bf16x2(x[4], x[5]), rfn_bf16x2(x[6], x[7]));
        rfn_bf16x8_store((uint16_t *)out + at, w, whole ? COLUMNS : (int32_t)(D - d));
    }
    else if (whole)
    {
        float4 *to = (float4 *)((float *)out + at);
        to[0] = make_float4(x[0], x[1], x[2], x[3]);
        to[1] = make_float4(x[4], x[5], x[6], x[7]);
    }
    else
    {
#pragma unroll
        for (int32_t i = 0; i < COLUMNS; i++)
        {
            if (i < D - d)
                ((float *)out)[at + i] = x[i];
        }
    }
}

} // namespace

extern "C" {

extern const void *const rfn_synth_fill_cuda_kernels[];
const void *const rfn_synth_fill_cuda_kernels[] = {
    (const void *)synth_fill_kernel<false>, (const void *)synth_fill_kernel<true>, NULL
};

enum rfn_status rfn_synth_fill_cuda(const void *args, const struct rfn_plan_env *env,
                                    struct rfn_launch *ret)
{
    const struct rfn_synth_fill_args *a = (const struct rfn_synth_fill_args *)args;
    int64_t T = a->out.shape[0], D = a->out.shape[1];
    int64_t of_row = (D + COLUMNS - 1) / COLUMNS;
    ret->nodes = 0;
    if (T == 0 || D == 0)
        return RFN_OK;
    const void *kernel = a->out.dtype == RFN_BF16
                             ? (const void *)synth_fill_kernel<true>
                             : (const void *)synth_fill_kernel<false>;
    struct rfn_launch_node *n = rfn_plan_node(
        ret, "synth_fill", kernel, (T * of_row + THREADS - 1) / THREADS, THREADS);
    n->programmatic = rfn_plan_programmatic(env);
    rfn_plan_param(n, "out", RFN_PARAM_WRITE, a->out.data);
    rfn_plan_param(n, "keys", RFN_PARAM_READ, a->keys.data);
    rfn_plan_param(n, "live", RFN_PARAM_READ, a->live.data);
    rfn_plan_param(n, "out.stride", RFN_PARAM_CONST, a->out.stride[0]);
    rfn_plan_param(n, "T", RFN_PARAM_CONST, T);
    rfn_plan_param(n, "D", RFN_PARAM_CONST, D);
    rfn_plan_param(n, "threads a row", RFN_PARAM_CONST, of_row);
    rfn_plan_param(n, "salt", RFN_PARAM_CONST, mix((uint64_t)a->salt + GOLDEN));
    rfn_plan_param(n, "amplitude", RFN_PARAM_CONST, a->amplitude * 0x1p-15f); /* exact */
    return RFN_OK;
}
}
