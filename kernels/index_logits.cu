/*
 * index_logits: scores of every cached token against each query token.
 *
 * Two kernels, of one contract and different last bits: Hopper's matrix unit and bulk copies
 * (cuda/logits_hopper.cuh), and what sm_80 has (cuda/logits_portable.cuh).
 */
#include "kernels/cuda/logits_hopper.cuh"
#include "kernels/cuda/logits_portable.cuh"
#include "kernels/cuda/plan.cuh"

#include <refrain/ops.h>

namespace
{

struct shape
{
    const void *kernel;
    uint32_t tokens; /* of a tile */
    uint32_t threads;
    uint32_t blocks; /* an SM */
    uint32_t shared_bytes;
};

template <uint32_t N, bool SHARE> shape hopper_of()
{
    return { (const void *)hopper::index_logits_kernel<N, SHARE>, hopper::TOKENS,
             hopper::THREADS, hopper::BLOCKS,
             (uint32_t)sizeof(hopper::shared_memory<N, SHARE>) };
}

template <bool SHARE> shape hopper_of(int64_t H)
{
    return H <= 16   ? hopper_of<16, SHARE>()
           : H <= 32 ? hopper_of<32, SHARE>()
                     : hopper_of<64, SHARE>();
}

/* As many warps as find room for their rings, one at least. */
shape portable_of(int64_t H, int32_t shared_bytes_max)
{
    constexpr uint32_t ring = portable::STAGES * sizeof(portable::stage);
    uint32_t head = (uint32_t)sizeof(portable::shared_memory);
    uint32_t warps = 1;
    while (warps < portable::WARPS &&
           (int64_t)head + (warps + 1) * ring <= shared_bytes_max)
        warps++;
    const void *kernel = H <= 16   ? (const void *)portable::index_logits_kernel<1>
                         : H <= 32 ? (const void *)portable::index_logits_kernel<2>
                                   : (const void *)portable::index_logits_kernel<4>;
    return { kernel, portable::TOKENS, 32 * warps, 1, head + warps * ring };
}

} // namespace

extern "C" {

extern const void *const rfn_index_logits_cuda_kernels[];
const void *const rfn_index_logits_cuda_kernels[] = {
    (const void *)hopper::index_logits_kernel<16, false>,
    (const void *)hopper::index_logits_kernel<32, false>,
    (const void *)hopper::index_logits_kernel<64, false>,
    (const void *)hopper::index_logits_kernel<16, true>,
    (const void *)hopper::index_logits_kernel<32, true>,
    (const void *)hopper::index_logits_kernel<64, true>,
    (const void *)portable::index_logits_kernel<1>,
    (const void *)portable::index_logits_kernel<2>,
    (const void *)portable::index_logits_kernel<4>,
    NULL
};

enum rfn_status rfn_index_logits_cuda(const void *args, const struct rfn_plan_env *env,
                                      struct rfn_launch *ret)
{
    const struct rfn_index_logits_args *a = (const struct rfn_index_logits_args *)args;
    int64_t T = a->q8.shape[0], H = a->q8.shape[1], S = a->logits.shape[1];
    int64_t R = a->table.shape[0], P = a->pool.page_tokens;
    ret->nodes = 0;
    if (T == 0 || S == 0)
        return RFN_OK;
    if (env->sm_arch < 80)
        return rfn_error(RFN_UNSUPPORTED,
                         "index_logits: needs the copies of sm_80, the GPU is sm_%d",
                         env->sm_arch);
    /* Rows of one request share its tiles, where there can be any. */
    shape s = env->sm_arch < 90 ? portable_of(H, env->shared_bytes_max)
              : T > R           ? hopper_of<true>(H)
                                : hopper_of<false>(H);
    if (env->shared_bytes_max < (int32_t)s.shared_bytes)
        return rfn_error(
            RFN_UNSUPPORTED,
            "index_logits: needs %d bytes of shared memory a block, the GPU has %d",
            (int)s.shared_bytes, env->shared_bytes_max);

    /* A full grid, or a block a tile where there are fewer. */
    int64_t parts = (P + s.tokens - 1) / s.tokens;
    int64_t tiles = T * (S / P + 1) * parts; /* T * S floats fit in a GPU: no overflow */
    if (tiles > INT32_MAX)
        return rfn_error(RFN_UNSUPPORTED,
                         "index_logits: %lld rows of %lld columns in pages of %lld are "
                         "more than 2^31 tiles",
                         (long long)T, (long long)S, (long long)P);
    int64_t blocks = (int64_t)env->sm_count * s.blocks;
    uint32_t grid = (uint32_t)(tiles < blocks ? tiles : blocks);
    struct rfn_launch_node *n =
        rfn_plan_node(ret, "index_logits", s.kernel, grid, s.threads);
    n->shared_bytes = s.shared_bytes;
    n->programmatic = rfn_plan_programmatic(env);
    bool check = env->fault != NULL;
    int64_t page_bytes =
        a->pool.page_stride_bytes ? a->pool.page_stride_bytes : P * (int64_t)(DIM + 4);
    rfn_plan_param(n, "q8", RFN_PARAM_READ, a->q8.data);
    rfn_plan_param(n, "w8", RFN_PARAM_READ, a->w8.data);
    rfn_plan_param(n, "pool", RFN_PARAM_READ, a->pool.data);
    rfn_plan_param(n, "table", RFN_PARAM_READ, a->table.data);
    rfn_plan_param(n, "request", RFN_PARAM_READ, a->request.data);
    rfn_plan_param(n, "lens", RFN_PARAM_READ, a->lens.data);
    rfn_plan_param(n, "live", RFN_PARAM_READ, a->live.data);
    rfn_plan_bounds(n, env, &a->bounds);
    rfn_plan_param(n, "logits", RFN_PARAM_WRITE, a->logits.data);
    rfn_plan_param(n, "q8.row", RFN_PARAM_CONST, a->q8.stride[0]);
    rfn_plan_param(n, "q8.head", RFN_PARAM_CONST, a->q8.stride[1]);
    rfn_plan_param(n, "w8.row", RFN_PARAM_CONST, a->w8.stride[0]);
    rfn_plan_param(n, "page_bytes", RFN_PARAM_CONST, page_bytes);
    rfn_plan_param(n, "table.row", RFN_PARAM_CONST, a->table.stride[0]);
    rfn_plan_param(n, "logits.row", RFN_PARAM_CONST, a->logits.stride[0]);
    rfn_plan_param(n, "T", RFN_PARAM_CONST, T);
    rfn_plan_param(n, "S", RFN_PARAM_CONST, S);
    rfn_plan_param(n, "R", RFN_PARAM_CONST, R);
    rfn_plan_param(n, "W", RFN_PARAM_CONST, a->table.shape[1]);
    rfn_plan_param(n, "pages", RFN_PARAM_CONST, a->pool.pages);
    rfn_plan_param(n, "H", RFN_PARAM_CONST, (int32_t)H);
    rfn_plan_param(n, "page_tokens", RFN_PARAM_CONST, (int32_t)P);
    rfn_plan_param(n, "parts", RFN_PARAM_CONST, (int32_t)parts);
    rfn_plan_param(n, "fault", RFN_PARAM_CONST, check ? env->fault : NULL);
    rfn_plan_param(n, "fault.op", RFN_PARAM_CONST, check ? "index_logits" : NULL);
    rfn_plan_param(n, "fault.table", RFN_PARAM_CONST, check ? "table" : NULL);
    rfn_plan_param(n, "fault.request", RFN_PARAM_CONST, check ? "request" : NULL);
    rfn_plan_bounds_own(n, env, rfn_bounds_of_logits(a));
    return RFN_OK;
}
}
