/*
 * index_query_pack: quantises indexer queries and folds all scales into the weights.
 *
 * Eight lanes a head of 128: 32 bytes in, 16 out a lane.
 */
#include "kernels/cuda/bounds.cuh"
#include "kernels/cuda/edge.cuh"
#include "kernels/cuda/fault.cuh"
#include "kernels/cuda/plan.cuh"
#include "kernels/cuda/quant.cuh"
#include "kernels/cuda/rows.cuh"

#include <math.h>

namespace
{

constexpr int32_t DIM = 128;
constexpr uint32_t LANES = DIM / RFN_QUANT_ELEMS;
constexpr uint32_t HEADS = 16; /* a block */
constexpr uint32_t THREADS = LANES * HEADS;
constexpr float FLOOR = 1e-4f; /* RFN_INDEX_FLOOR */

__global__ void __launch_bounds__(THREADS) index_query_pack_kernel(
    const uint16_t *q, const void *w, const int32_t *live, const int64_t *bounds,
    uint8_t *q8, float *w8, int64_t q_row, int64_t q_head, int64_t w_row, int64_t q8_row,
    int64_t q8_head, int64_t w8_row, int64_t T, int32_t H, int32_t w_is_bf16, float share,
    const struct rfn_scaling_cuda how, struct rfn_fault *fault, const char *name,
    const char *q_name, const __grid_constant__ struct rfn_bound_set bounds_own,
    const char *bound_names)
{
    uint32_t lane = threadIdx.x % LANES;
    int64_t unit = (int64_t)blockIdx.x * HEADS + threadIdx.x / LANES;
    int64_t t = unit / H;
    int64_t h = unit - t * H;
    rfn_edge_wait();
    if (!rfn_bounds_hold_cuda(bounds, bounds_own, fault, name, bound_names))
        return;

    /* All is under way before the live count is looked at. */
    struct rfn_bf16x16 x = {};
    float weight = 0;
    if (t < T)
    {
        x = rfn_bf16x16_load(q + t * q_row + h * q_head + RFN_QUANT_ELEMS * lane);
        int64_t at = t * w_row + h;
        weight = w_is_bf16 ? __uint_as_float((uint32_t)((const uint16_t *)w)[at] << 16)
                           : ((const float *)w)[at];
    }
    float scale = rfn_group_scale(rfn_group_largest<LANES>(x), how);
    if (t >= rfn_live_rows_cuda(live, T))
        return;
    *(uint4 *)(q8 + t * q8_row + h * q8_head + RFN_QUANT_ELEMS * lane) =
        rfn_quantise16(x, scale);
    if (lane)
        return;
    if (isnan(scale))
        rfn_fault_note_cuda(fault, name, q_name, t, h, 0);
    weight = __fmul_rn(__fmul_rn(weight, scale), share);
    w8[t * w8_row + h] = isnan(weight) ? __uint_as_float(RFN_F32_NAN_BITS) : weight;
}

} // namespace

extern "C" {

extern const void *const rfn_index_query_pack_cuda_kernels[];
const void *const rfn_index_query_pack_cuda_kernels[] = {
    (const void *)index_query_pack_kernel, NULL
};

enum rfn_status rfn_index_query_pack_cuda(const void *args,
                                          const struct rfn_plan_env *env,
                                          struct rfn_launch *ret)
{
    const struct rfn_index_query_pack_args *a =
        (const struct rfn_index_query_pack_args *)args;
    int64_t T = a->q.shape[0], H = a->q.shape[1];
    ret->nodes = 0;
    if (T == 0)
        return RFN_OK;

    struct rfn_scaling_cuda how = {};
    how.ue8m0 = a->scale == RFN_SCALE_UE8M0;
    how.on_amax = 1;
    how.floor = FLOOR;
    struct rfn_launch_node *n =
        rfn_plan_node(ret, "index_query_pack", (const void *)index_query_pack_kernel,
                      (T * H + HEADS - 1) / HEADS, THREADS);
    n->programmatic = rfn_plan_programmatic(env);
    bool check = env->fault != NULL;
    rfn_plan_param(n, "q", RFN_PARAM_READ, a->q.data);
    rfn_plan_param(n, "w", RFN_PARAM_READ, a->w.data);
    rfn_plan_param(n, "live", RFN_PARAM_READ, a->live.data);
    rfn_plan_bounds(n, env, &a->bounds);
    rfn_plan_param(n, "q8", RFN_PARAM_WRITE, a->q8.data);
    rfn_plan_param(n, "w8", RFN_PARAM_WRITE, a->w8.data);
    rfn_plan_param(n, "q.stride[0]", RFN_PARAM_CONST, a->q.stride[0]);
    rfn_plan_param(n, "q.stride[1]", RFN_PARAM_CONST, a->q.stride[1]);
    rfn_plan_param(n, "w.stride", RFN_PARAM_CONST, a->w.stride[0]);
    rfn_plan_param(n, "q8.stride[0]", RFN_PARAM_CONST, a->q8.stride[0]);
    rfn_plan_param(n, "q8.stride[1]", RFN_PARAM_CONST, a->q8.stride[1]);
    rfn_plan_param(n, "w8.stride", RFN_PARAM_CONST, a->w8.stride[0]);
    rfn_plan_param(n, "T", RFN_PARAM_CONST, T);
    rfn_plan_param(n, "H", RFN_PARAM_CONST, (int32_t)H);
    rfn_plan_param(n, "w.bf16", RFN_PARAM_CONST, (int32_t)(a->w.dtype == RFN_BF16));
    rfn_plan_param(n, "share", RFN_PARAM_CONST, (float)(1.0 / sqrt((double)(DIM * H))));
    rfn_plan_param(n, "scaling", RFN_PARAM_CONST, how);
    rfn_plan_param(n, "fault", RFN_PARAM_CONST, env->fault);
    rfn_plan_param(n, "fault.op", RFN_PARAM_CONST, check ? "index_query_pack" : NULL);
    rfn_plan_param(n, "fault.q", RFN_PARAM_CONST, check ? "q" : NULL);
    rfn_plan_bounds_own(n, env, rfn_bounds_of_rows(&a->bounds, T));
    return RFN_OK;
}
}
