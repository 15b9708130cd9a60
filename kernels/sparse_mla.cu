/*
 * sparse_mla: attention over chosen slots of one or two latent pools, on tensor cores.
 *
 * A block has 16, 32 or 64 heads of one row and runs over tiles of 64 keys with an online
 * softmax. Where rows and heads alone do not fill the GPU, the blocks of a cluster share the
 * tiles of a row and merge what they have through each other's shared memory, in the order
 * of their ranks (sm_90). Heads a block and blocks a cluster follow from shapes and the GPU,
 * with batch_invariant not from the number of rows; the number of tiles follows from the
 * row's own lengths. A row's bits depend on nothing else.
 */
#include "kernels/cuda/mla_block.cuh"
#include "kernels/cuda/plan.cuh"

#include <refrain/ops.h>

namespace
{

using namespace mla;

#define FORMALS                                                                          \
    const uint16_t *q, const uint16_t *q_rope, const int32_t *live,                      \
        const int64_t *bounds, const unsigned char *pool0, const int32_t *indices0,      \
        const int32_t *lens0, const unsigned char *pool1, const int32_t *indices1,       \
        const int32_t *lens1, const float *sink, uint16_t *out, float *lse,              \
        int64_t q_row, int64_t q_head, int64_t rope_row, int64_t rope_head,              \
        int64_t index_row0, int64_t index_row1, int64_t out_row, int64_t out_head,       \
        int64_t lse_row, int64_t page_stride0, int64_t page_stride1, int64_t slots0,     \
        int64_t slots1, int32_t page_tokens0, int32_t page_tokens1, int32_t columns0,    \
        int32_t columns1, int32_t H, int32_t blocks, float scale,                        \
        int32_t empty_lse_positive, struct rfn_fault *fault, const char *name,           \
        const char *name0, const char *name1,                                            \
        const __grid_constant__ struct rfn_bound_set bounds_own, const char *bound_names

#define JOB                                                                              \
    {                                                                                    \
        q, q_rope, live, bounds, { pool0, pool1 }, { indices0, indices1 },               \
            { lens0, lens1 }, sink, out, lse, q_row, q_head, rope_row, rope_head,        \
            { index_row0, index_row1 }, out_row, out_head, lse_row,                      \
            { page_stride0, page_stride1 }, { slots0, slots1 },                          \
            { page_tokens0, page_tokens1 }, { columns0, columns1 }, H, blocks, scale,    \
            empty_lse_positive, fault, name,                                             \
        {                                                                                \
            name0, name1                                                                 \
        }                                                                                \
    }

template <int First, int Second, int Heads, bool Small>
__global__ void __launch_bounds__(THREADS, shape<First, Second, Heads, Small>::on_sm)
    sparse_mla_kernel(FORMALS)
{
    const job a = JOB;
    attend<shape<First, Second, Heads, Small>, 1>(a, bounds_own, bound_names);
}

template <int First, int Second, int Heads, int Splits>
__global__ void
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
__cluster_dims__(Splits, 1, 1)
#endif
    __launch_bounds__(THREADS, shape<First, Second, Heads>::on_sm)
        sparse_mla_cluster_kernel(FORMALS)
{
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
    const job a = JOB;
    attend<shape<First, Second, Heads>, Splits>(a, bounds_own, bound_names);
#endif
}

/* ---- choosing a kernel ---------------------------------------------------------------- */

constexpr enum rfn_format F656 = RFN_LATENT_FP8_656;
constexpr enum rfn_format F584 = RFN_LATENT_FP8_584;
constexpr enum rfn_format B576 = RFN_LATENT_BF16_576;

struct variant
{
    enum rfn_format first, second;
    int32_t heads, splits, on_sm, stages;
    uint32_t shared_bytes;
    const void *kernel;
};

/* Of two that are thought to be equally fast the first is taken. The small ones are for GPUs
 * whose blocks can have 163 KiB (sm_80) or 99 KiB of shared memory. */
#define VARIANTS(ONE, SPLIT, SMALL)                                                      \
    SPLIT(F656, F656, 16, 8), SPLIT(F656, F656, 16, 4), SPLIT(F656, F656, 16, 2),        \
        ONE(F656, F656, 16), SPLIT(F656, F656, 64, 2), ONE(F656, F656, 64),              \
        SMALL(F656, F656, 16), SPLIT(F584, F584, 16, 8), SPLIT(F584, F584, 16, 4),       \
        SPLIT(F584, F584, 16, 2), ONE(F584, F584, 16), ONE(F584, F584, 64),              \
        SMALL(F584, F584, 16), SPLIT(B576, B576, 16, 8), SPLIT(B576, B576, 32, 4),       \
        ONE(B576, B576, 32), SMALL(B576, B576, 16), ONE(F656, B576, 16),                 \
        SMALL(F656, B576, 16)

#define DESCRIBE(first, second, heads, splits, small, kernel)                            \
    {                                                                                    \
        first, second, heads, splits, shape<first, second, heads, small>::on_sm,         \
            shape<first, second, heads, small>::stages,                                  \
            sizeof(shared_memory<shape<first, second, heads, small>>),                   \
            (const void *)kernel                                                         \
    }
#define ONE(first, second, heads)                                                        \
    DESCRIBE(first, second, heads, 1, false,                                             \
             (sparse_mla_kernel<first, second, heads, false>))
#define SMALL(first, second, heads)                                                      \
    DESCRIBE(first, second, heads, 1, true,                                              \
             (sparse_mla_kernel<first, second, heads, true>))
#define SPLIT(first, second, heads, splits)                                              \
    DESCRIBE(first, second, heads, splits, false,                                        \
             (sparse_mla_cluster_kernel<first, second, heads, splits>))
const struct variant variants[] = { VARIANTS(ONE, SPLIT, SMALL) };
#undef ONE
#undef SMALL
#undef SPLIT

/* Clusters that an H200 runs at once with one block an SM: SMs come in groups (GPCs) that a
 * cluster does not cross, and not all groups are whole. */
int64_t clusters_at_once(const struct rfn_plan_env *env, int splits)
{
    int64_t n = env->sm_count / splits - (splits == 4 ? 3 : splits == 8 ? 1 : 0);
    return n > 0 ? n : 1;
}

/* Nanoseconds that a launch will take, near enough to choose by: measured on an H200. */
int64_t estimate(const struct variant *v, int64_t T, int64_t H, int64_t tiles,
                 const struct rfn_plan_env *env)
{
    static const int64_t tile[] = { 2550, 3200, 4560 }, fixed[] = { 1500, 2500, 4000 };
    static const int64_t fixed_split[] = { 4500, 6500, 10000 };
    constexpr int64_t tile_shared = 3850; /* of two blocks on one SM */
    int size = v->heads / 32;
    int64_t once = v->splits > 1 ? fixed_split[size] : fixed[size];
    int64_t clusters = T * ((H + v->heads - 1) / v->heads);
    int64_t at_once = clusters_at_once(env, v->splits);
    int64_t turns = (clusters + at_once - 1) / at_once;
    int64_t each = (tiles + v->splits - 1) / v->splits;
    int64_t alone = tile[size] * (v->stages == 1 ? 2 : 1);
    if (v->on_sm == 1)
        return turns * (once + each * alone);
    return turns / 2 * (once + each * (v->stages == 1 ? 2 * alone : tile_shared)) +
           turns % 2 * (once + each * alone);
}

struct work
{
    enum rfn_format first, second;
    int64_t H, tiles;
    const struct rfn_plan_env *env;
};

/* The fastest for `rows` rows. NULL: none fits; *ret_least is what one would need. */
const struct variant *fastest(const struct work *w, int64_t rows, uint32_t *ret_least)
{
    const struct variant *best = NULL;
    for (const struct variant &v : variants)
    {
        if (v.first != w->first || v.second != w->second ||
            (v.splits > 1 && w->env->sm_arch < 90))
            continue;
        if (v.shared_bytes < *ret_least)
            *ret_least = v.shared_bytes;
        if ((int64_t)v.shared_bytes > w->env->shared_bytes_max)
            continue;
        if (!best || estimate(&v, rows, w->H, w->tiles, w->env) <
                         estimate(best, rows, w->H, w->tiles, w->env))
            best = &v;
    }
    return best;
}

/* The one for all numbers of rows: least slowed down where it is slowed down most. */
const struct variant *steadiest(const struct work *w, uint32_t *ret_least)
{
    constexpr int sizes = 8; /* 1, 2, 4 .. 128 rows */
    const struct variant *best = NULL;
    int64_t fast[sizes] = {}, least = 0;
    for (int i = 0; i < sizes; i++)
    {
        const struct variant *v = fastest(w, 1ll << i, ret_least);
        if (!v)
            return NULL;
        fast[i] = estimate(v, 1ll << i, w->H, w->tiles, w->env);
    }
    for (const struct variant &v : variants)
    {
        if (v.first != w->first || v.second != w->second ||
            (v.splits > 1 && w->env->sm_arch < 90) ||
            (int64_t)v.shared_bytes > w->env->shared_bytes_max)
            continue;
        int64_t most = 0; /* per mille */
        for (int i = 0; i < sizes; i++)
        {
            int64_t of = estimate(&v, 1ll << i, w->H, w->tiles, w->env) * 1000 / fast[i];
            most = of > most ? of : most;
        }
        if (!best || most < least)
        {
            best = &v;
            least = most;
        }
    }
    return best;
}

} // namespace

extern "C" {

#define ONE(first, second, heads)                                                        \
    (const void *)sparse_mla_kernel<first, second, heads, false>
#define SMALL(first, second, heads)                                                      \
    (const void *)sparse_mla_kernel<first, second, heads, true>
#define SPLIT(first, second, heads, splits)                                              \
    (const void *)sparse_mla_cluster_kernel<first, second, heads, splits>
extern const void *const rfn_sparse_mla_cuda_kernels[];
const void *const rfn_sparse_mla_cuda_kernels[] = { VARIANTS(ONE, SPLIT, SMALL), NULL };
#undef ONE
#undef SMALL
#undef SPLIT

enum rfn_status rfn_sparse_mla_cuda(const void *args, const struct rfn_plan_env *env,
                                    struct rfn_launch *ret)
{
    const struct rfn_sparse_mla_args *a = (const struct rfn_sparse_mla_args *)args;
    const char *const index_name[2] = { "source[0].indices", "source[1].indices" };
    int64_t T = a->q.shape[0], H = a->q.shape[1], n = 0;
    ret->nodes = 0;
    if (T == 0)
        return RFN_OK;

    /* Of two formats, 656 comes first. */
    bool two = a->source[1].pool.data != NULL;
    int s0 = two && a->source[1].pool.format < a->source[0].pool.format ? 1 : 0;
    const struct rfn_mla_source *from[2] = { &a->source[s0],
                                             two ? &a->source[1 - s0] : NULL };
    enum rfn_format first = from[0]->pool.format;
    enum rfn_format second = two ? from[1]->pool.format : first;
    for (int i = 0; i < 1 + two; i++)
        n += (from[i]->indices.shape[1] + TILE - 1) / TILE;

    const struct work work = { first, second, H, n, env };
    uint32_t least = UINT32_MAX;
    const struct variant *best =
        a->batch_invariant ? steadiest(&work, &least) : fastest(&work, T, &least);
    if (!best)
        return rfn_error(RFN_UNSUPPORTED,
                         "sparse_mla: format %s needs %u bytes of shared memory a block, "
                         "the GPU has %d",
                         rfn_format_query(second)->name, least, env->shared_bytes_max);
    int64_t blocks = (H + best->heads - 1) / best->heads;
    int64_t grid = T * blocks * best->splits;
    if (grid > INT32_MAX)
        return rfn_error(RFN_UNSUPPORTED, "sparse_mla: T = %lld rows are too many",
                         (long long)T);

    struct rfn_launch_node *node =
        rfn_plan_node(ret, "sparse_mla", best->kernel, grid, THREADS);
    node->shared_bytes = best->shared_bytes;
    node->programmatic = rfn_plan_programmatic(env);
    bool check = env->fault != NULL;
    int64_t stride[2] = {};
    for (int i = 0; i < 1 + two; i++)
        stride[i] =
            from[i]->pool.page_stride_bytes
                ? from[i]->pool.page_stride_bytes
                : rfn_format_page_bytes(from[i]->pool.format, from[i]->pool.page_tokens);
    const struct rfn_mla_source none = {};
    const struct rfn_mla_source *more = two ? from[1] : &none;

    rfn_plan_param(node, "q", RFN_PARAM_READ, a->q.data);
    rfn_plan_param(node, "q_rope", RFN_PARAM_READ, a->q_rope.data);
    rfn_plan_param(node, "live", RFN_PARAM_READ, a->live.data);
    rfn_plan_bounds(node, env, &a->bounds);
    rfn_plan_param(node, "pool0", RFN_PARAM_READ, from[0]->pool.data);
    rfn_plan_param(node, "indices0", RFN_PARAM_READ, from[0]->indices.data);
    rfn_plan_param(node, "lens0", RFN_PARAM_READ, from[0]->lens.data);
    rfn_plan_param(node, "pool1", RFN_PARAM_READ, more->pool.data);
    rfn_plan_param(node, "indices1", RFN_PARAM_READ, more->indices.data);
    rfn_plan_param(node, "lens1", RFN_PARAM_READ, more->lens.data);
    rfn_plan_param(node, "sink", RFN_PARAM_READ, a->sink.data);
    rfn_plan_param(node, "out", RFN_PARAM_WRITE, a->out.data);
    rfn_plan_param(node, "lse", RFN_PARAM_WRITE, a->lse.data);
    rfn_plan_param(node, "q.stride", RFN_PARAM_CONST, a->q.stride[0]);
    rfn_plan_param(node, "q.head", RFN_PARAM_CONST, a->q.stride[1]);
    rfn_plan_param(node, "q_rope.stride", RFN_PARAM_CONST, a->q_rope.stride[0]);
    rfn_plan_param(node, "q_rope.head", RFN_PARAM_CONST, a->q_rope.stride[1]);
    rfn_plan_param(node, "indices0.stride", RFN_PARAM_CONST, from[0]->indices.stride[0]);
    rfn_plan_param(node, "indices1.stride", RFN_PARAM_CONST, more->indices.stride[0]);
    rfn_plan_param(node, "out.stride", RFN_PARAM_CONST, a->out.stride[0]);
    rfn_plan_param(node, "out.head", RFN_PARAM_CONST, a->out.stride[1]);
    rfn_plan_param(node, "lse.stride", RFN_PARAM_CONST, a->lse.stride[0]);
    rfn_plan_param(node, "pool0.stride", RFN_PARAM_CONST, stride[0]);
    rfn_plan_param(node, "pool1.stride", RFN_PARAM_CONST, stride[1]);
    rfn_plan_param(node, "pool0.slots", RFN_PARAM_CONST,
                   from[0]->pool.pages * from[0]->pool.page_tokens);
    rfn_plan_param(node, "pool1.slots", RFN_PARAM_CONST,
                   more->pool.pages * more->pool.page_tokens);
    rfn_plan_param(node, "pool0.page_tokens", RFN_PARAM_CONST, from[0]->pool.page_tokens);
    rfn_plan_param(node, "pool1.page_tokens", RFN_PARAM_CONST, more->pool.page_tokens);
    rfn_plan_param(node, "columns0", RFN_PARAM_CONST, (int32_t)from[0]->indices.shape[1]);
    rfn_plan_param(node, "columns1", RFN_PARAM_CONST, (int32_t)more->indices.shape[1]);
    rfn_plan_param(node, "H", RFN_PARAM_CONST, (int32_t)H);
    rfn_plan_param(node, "blocks", RFN_PARAM_CONST, (int32_t)blocks);
    rfn_plan_param(node, "scale", RFN_PARAM_CONST, a->scale);
    rfn_plan_param(node, "empty_lse_positive", RFN_PARAM_CONST, a->empty_lse_positive);
    rfn_plan_param(node, "fault", RFN_PARAM_CONST, check ? env->fault : NULL);
    rfn_plan_param(node, "fault.op", RFN_PARAM_CONST, check ? "sparse_mla" : NULL);
    rfn_plan_param(node, "fault.indices0", RFN_PARAM_CONST,
                   check ? index_name[s0] : NULL);
    rfn_plan_param(node, "fault.indices1", RFN_PARAM_CONST,
                   check ? index_name[1 - s0] : NULL);
    rfn_plan_bounds_own(node, env, rfn_bounds_of_pool(&a->bounds, T, &a->source[0].pool));
    return RFN_OK;
}
}
