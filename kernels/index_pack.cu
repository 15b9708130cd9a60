/*
 * index_pack: quantises indexer keys and writes them into a planar index pool.
 *
 * Eight lanes a row of 128: 32 bytes in, 16 out a lane.
 */
#include "kernels/cuda/bounds.cuh"
#include "kernels/cuda/edge.cuh"
#include "kernels/cuda/fault.cuh"
#include "kernels/cuda/plan.cuh"
#include "kernels/cuda/quant.cuh"
#include "kernels/cuda/rows.cuh"

namespace
{

constexpr int32_t DIM = 128;
constexpr uint32_t LANES = DIM / RFN_QUANT_ELEMS;
constexpr uint32_t ROWS = 16; /* a block */
constexpr uint32_t THREADS = LANES * ROWS;
constexpr float DEFAULT_FLOOR = 1e-4f; /* RFN_INDEX_FLOOR */

__global__ void __launch_bounds__(THREADS)
    index_pack_kernel(const uint16_t *k, const int64_t *slots, const int32_t *live,
                      const int64_t *bounds, unsigned char *pool, int64_t k_stride,
                      int32_t T, const struct rfn_pool_map map,
                      const struct rfn_scaling_cuda how, struct rfn_fault *fault,
                      const char *name, const char *k_name, const char *slots_name,
                      const __grid_constant__ struct rfn_bound_set bounds_own,
                      const char *bound_names)
{
    uint32_t lane = threadIdx.x % LANES;
    int32_t own = threadIdx.x / LANES;
    int32_t first = (int32_t)(blockIdx.x * ROWS);
    int32_t t = first + own;
    rfn_edge_wait();
    if (!rfn_bounds_hold_cuda(bounds, bounds_own, fault, name, bound_names))
        return;

    struct rfn_bf16x16 x = {};
    if (t < T)
        x = rfn_bf16x16_load(k + t * k_stride + RFN_QUANT_ELEMS * lane);
    int32_t rows = (int32_t)rfn_live_rows_cuda(live, T);
    bool taken;
    int64_t slot = rfn_slot_of_row<ROWS, THREADS>(slots, first, T, rows, own, &taken);
    float scale = rfn_group_scale(rfn_group_largest<LANES>(x), how);
    if (t >= rows || slot < 0)
        return;
    if (slot >= map.slots)
    {
        if (lane == 0)
            rfn_fault_note_cuda(fault, name, slots_name, t, 0, slot);
        return;
    }
    if (isnan(scale) && lane == 0)
        rfn_fault_note_cuda(fault, name, k_name, t, 0, 0);
    if (taken)
        return;
    struct rfn_token_cuda token = rfn_pool_token_cuda(pool, map, slot);
    *(uint4 *)(token.data + RFN_QUANT_ELEMS * lane) = rfn_quantise16(x, scale);
    if (lane == 0)
        *(float *)token.scales = scale;
}

} // namespace

extern "C" {

extern const void *const rfn_index_pack_cuda_kernels[];
const void *const rfn_index_pack_cuda_kernels[] = { (const void *)index_pack_kernel,
                                                    NULL };

enum rfn_status rfn_index_pack_cuda(const void *args, const struct rfn_plan_env *env,
                                    struct rfn_launch *ret)
{
    const struct rfn_index_pack_args *a = (const struct rfn_index_pack_args *)args;
    int64_t T = a->k.shape[0];
    ret->nodes = 0;
    if (a->k.shape[1] != DIM)
        return rfn_error(RFN_UNSUPPORTED, "index_pack: D = %lld, but the kernel has %d",
                         (long long)a->k.shape[1], DIM);
    if (T == 0)
        return RFN_OK;
    struct rfn_pool_map map = rfn_pool_map_of(&a->pool);
    if (!rfn_slots_fit(T, map))
        return rfn_error(RFN_UNSUPPORTED,
                         "index_pack: %lld rows and %lld slots, past 32 bits",
                         (long long)T, (long long)map.slots);

    struct rfn_scaling_cuda how = {};
    how.ue8m0 = a->scale == RFN_SCALE_UE8M0;
    how.on_amax = a->floor_on != RFN_FLOOR_SCALE;
    how.floor = a->floor_on == RFN_FLOOR_DEFAULT ? DEFAULT_FLOOR : a->floor;

    struct rfn_launch_node *n =
        rfn_plan_node(ret, "index_pack", (const void *)index_pack_kernel,
                      (T + ROWS - 1) / ROWS, THREADS);
    n->programmatic = rfn_plan_programmatic(env);
    bool check = env->fault != NULL;
    rfn_plan_param(n, "k", RFN_PARAM_READ, a->k.data);
    rfn_plan_param(n, "slots", RFN_PARAM_READ, a->slots.data);
    rfn_plan_param(n, "live", RFN_PARAM_READ, a->live.data);
    rfn_plan_bounds(n, env, &a->bounds);
    rfn_plan_param(n, "pool", RFN_PARAM_READ_WRITE, a->pool.data);
    rfn_plan_param(n, "k.stride", RFN_PARAM_CONST, a->k.stride[0]);
    rfn_plan_param(n, "T", RFN_PARAM_CONST, (int32_t)T);
    rfn_plan_param(n, "pool.map", RFN_PARAM_CONST, map);
    rfn_plan_param(n, "scaling", RFN_PARAM_CONST, how);
    rfn_plan_param(n, "fault", RFN_PARAM_CONST, env->fault);
    rfn_plan_param(n, "fault.op", RFN_PARAM_CONST, check ? "index_pack" : NULL);
    rfn_plan_param(n, "fault.k", RFN_PARAM_CONST, check ? "k" : NULL);
    rfn_plan_param(n, "fault.slots", RFN_PARAM_CONST, check ? "slots" : NULL);
    rfn_plan_bounds_own(n, env, rfn_bounds_of_pool(&a->bounds, T, &a->pool));
    return RFN_OK;
}
}
