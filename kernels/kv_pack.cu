/*
 * kv_pack: quantises latent rows and writes them into a paged pool.
 *
 * A warp a row: a lane takes 16 neighbours of the latent part and writes 16 bytes, so a group
 * of 128 is 8 lanes and one of 64 is 4; the first lanes copy the rope part. Everything that
 * is read is under way before the live count and the slots are looked at.
 */
#include "kernels/cuda/bounds.cuh"
#include "kernels/cuda/edge.cuh"
#include "kernels/cuda/fault.cuh"
#include "kernels/cuda/plan.cuh"
#include "kernels/cuda/quant.cuh"
#include "kernels/cuda/rows.cuh"

#include <float.h>

namespace
{

constexpr uint32_t ROWS = 4; /* a block */
constexpr uint32_t THREADS = 32 * ROWS;
constexpr int32_t LATENT_MAX = 32 * RFN_QUANT_ELEMS;
constexpr int32_t ROPE_MAX = 32 * 8;
constexpr float DEFAULT_FLOOR_UE8M0 = 1e-4f; /* as in kv_pack.c */

/* Parts of a row, as the format's table row has them. */
struct row_map
{
    int32_t latent_elems;
    int32_t latent_offset;
    int32_t rope_elems;
    int32_t rope_offset;
    int32_t scales;
    int32_t scale_bytes; /* with the pad behind exponents */
};

/* Scales of LANES lanes: f32 or exponents; no scales, and bf16 as it is, with LANES = 0. */
template <uint32_t LANES, bool EXPONENTS>
__global__ void __launch_bounds__(THREADS)
    kv_pack_kernel(const uint16_t *kv, const uint16_t *rope, const int64_t *slots,
                   const int32_t *live, const int64_t *bounds, unsigned char *pool,
                   int64_t kv_stride, int64_t rope_stride, int32_t T,
                   const struct row_map row, const struct rfn_pool_map map,
                   const struct rfn_scaling_cuda how, struct rfn_fault *fault,
                   const char *name, const char *kv_name, const char *slots_name,
                   const __grid_constant__ struct rfn_bound_set bounds_own,
                   const char *bound_names)
{
    int32_t lane = threadIdx.x % 32;
    int32_t own = threadIdx.x / 32;
    int32_t first = (int32_t)(blockIdx.x * ROWS);
    int32_t t = first + own;
    rfn_edge_wait();
    if (!rfn_bounds_hold_cuda(bounds, bounds_own, fault, name, bound_names))
        return;

    /* Sixteen neighbours to quantise, or two times eight to copy. */
    int32_t at = LANES ? RFN_QUANT_ELEMS * lane : 8 * lane;
    int32_t then = LANES ? at + 8 : at + 32 * 8;
    struct rfn_bf16x16 x = {};
    uint4 r = {};
    if (t < T)
    {
        const uint16_t *from = kv + t * kv_stride;
        if (at < row.latent_elems)
            x.low = *(const uint4 *)(from + at);
        if (then < row.latent_elems)
            x.high = *(const uint4 *)(from + then);
        if (8 * lane < row.rope_elems)
            r = *(const uint4 *)(rope + t * rope_stride + 8 * lane);
    }
    int32_t rows = (int32_t)rfn_live_rows_cuda(live, T);
    bool taken;
    int64_t slot = rfn_slot_of_row<ROWS, THREADS>(slots, first, T, rows, own, &taken);
    if (t >= rows || slot < 0)
        return;
    if (slot >= map.slots)
    {
        if (lane == 0)
            rfn_fault_note_cuda(fault, name, slots_name, t, 0, slot);
        return;
    }

    struct rfn_token_cuda token = rfn_pool_token_cuda(pool, map, slot);
    unsigned char *latent = token.data + row.latent_offset;
    if constexpr (LANES != 0)
    {
        int32_t group = lane / LANES;
        bool is_first = lane % LANES == 0;
        float scale = rfn_group_scale(rfn_group_largest<LANES>(x), how);
        if (isnan(scale) && is_first)
            rfn_fault_note_cuda(fault, name, kv_name, t, at, 0);
        if (taken)
            return;
        if (at < row.latent_elems)
            *(uint4 *)(latent + at) = rfn_quantise16(x, scale);
        if (EXPONENTS && is_first && group < row.scale_bytes)
            token.scales[group] =
                (uint8_t)(group < row.scales ? rfn_ue8m0_up_cuda(scale) : 0);
        if (!EXPONENTS && is_first && group < row.scales)
            ((float *)token.scales)[group] = scale;
    }
    else
    {
        if (taken)
            return;
        if (at < row.latent_elems)
            *(uint4 *)(latent + 2 * at) = x.low;
        if (then < row.latent_elems)
            *(uint4 *)(latent + 2 * then) = x.high;
    }
    if (8 * lane < row.rope_elems)
        *(uint4 *)(token.data + row.rope_offset + 16 * lane) = r;
}

const void *kernel_of(const struct rfn_format_info *info)
{
    if (info->latent_elems > LATENT_MAX || info->latent_elems % RFN_QUANT_ELEMS ||
        info->rope_elems > ROPE_MAX || info->rope_elems % 8 || info->rope_offset % 16 ||
        info->latent_offset % 16 || info->data_bytes % 16)
        return NULL;
    if (!info->scales)
        return (const void *)kv_pack_kernel<0, false>;
    if (info->scale_group == 128 && info->scale_dtype == RFN_F32)
        return (const void *)kv_pack_kernel<8, false>;
    if (info->scale_group == 64 && info->scale_dtype == RFN_U8 &&
        info->scale_bytes <= 32 / 4)
        return (const void *)kv_pack_kernel<4, true>;
    return NULL;
}

} // namespace

extern "C" {

extern const void *const rfn_kv_pack_cuda_kernels[];
const void *const rfn_kv_pack_cuda_kernels[] = { (const void *)kv_pack_kernel<0, false>,
                                                 (const void *)kv_pack_kernel<8, false>,
                                                 (const void *)kv_pack_kernel<4, true>,
                                                 NULL };

enum rfn_status rfn_kv_pack_cuda(const void *args, const struct rfn_plan_env *env,
                                 struct rfn_launch *ret)
{
    const struct rfn_kv_pack_args *a = (const struct rfn_kv_pack_args *)args;
    const struct rfn_format_info *info = rfn_format_query(a->pool.format);
    const void *kernel = kernel_of(info);
    int64_t T = a->kv.shape[0];
    ret->nodes = 0;
    if (!kernel)
        return rfn_error(RFN_UNSUPPORTED, "kv_pack: no kernel for %s", info->name);
    if (T == 0)
        return RFN_OK;
    struct rfn_pool_map map = rfn_pool_map_of(&a->pool);
    if (!rfn_slots_fit(T, map))
        return rfn_error(RFN_UNSUPPORTED,
                         "kv_pack: %lld rows and %lld slots, past 32 bits", (long long)T,
                         (long long)map.slots);

    bool exponents = info->scale_dtype == RFN_U8;
    struct rfn_scaling_cuda how = {};
    how.ue8m0 = exponents || a->scale == RFN_SCALE_UE8M0;
    how.on_amax = a->floor_on == RFN_FLOOR_AMAX;
    how.floor = a->floor;
    if (a->floor_on == RFN_FLOOR_DEFAULT)
        how.floor = how.ue8m0 ? DEFAULT_FLOOR_UE8M0 : FLT_MIN;
    struct row_map row = { info->latent_elems, info->latent_offset, info->rope_elems,
                           info->rope_offset,  info->scales,        info->scale_bytes };

    struct rfn_launch_node *n =
        rfn_plan_node(ret, "kv_pack", kernel, (T + ROWS - 1) / ROWS, THREADS);
    n->programmatic = rfn_plan_programmatic(env);
    bool check = env->fault != NULL;
    rfn_plan_param(n, "kv", RFN_PARAM_READ, a->kv.data);
    rfn_plan_param(n, "k_rope", RFN_PARAM_READ, a->k_rope.data);
    rfn_plan_param(n, "slots", RFN_PARAM_READ, a->slots.data);
    rfn_plan_param(n, "live", RFN_PARAM_READ, a->live.data);
    rfn_plan_bounds(n, env, &a->bounds);
    rfn_plan_param(n, "pool", RFN_PARAM_READ_WRITE, a->pool.data);
    rfn_plan_param(n, "kv.stride", RFN_PARAM_CONST, a->kv.stride[0]);
    rfn_plan_param(n, "k_rope.stride", RFN_PARAM_CONST, a->k_rope.stride[0]);
    rfn_plan_param(n, "T", RFN_PARAM_CONST, (int32_t)T);
    rfn_plan_param(n, "row", RFN_PARAM_CONST, row);
    rfn_plan_param(n, "pool.map", RFN_PARAM_CONST, map);
    rfn_plan_param(n, "scaling", RFN_PARAM_CONST, how);
    rfn_plan_param(n, "fault", RFN_PARAM_CONST, env->fault);
    rfn_plan_param(n, "fault.op", RFN_PARAM_CONST, check ? "kv_pack" : NULL);
    rfn_plan_param(n, "fault.kv", RFN_PARAM_CONST, check ? "kv" : NULL);
    rfn_plan_param(n, "fault.slots", RFN_PARAM_CONST, check ? "slots" : NULL);
    rfn_plan_bounds_own(n, env, rfn_bounds_of_pool(&a->bounds, T, &a->pool));
    return RFN_OK;
}
}
