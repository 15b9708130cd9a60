/*
 * index_gather: keys of all requests from index pages into flat rows, side by side.
 *
 * A warp takes 32 rows. Each lane finds the request and the page of one of them and moves
 * that row's scale; then all lanes copy keys, four rows at a time, 16 bytes a lane, with the
 * loads of all 32 rows under way before the first store. The grid is full, or what the bound
 * needs where that is less; its warps go on through the rows below the total, so that a
 * launch costs what there is and not what there could be.
 */
#include "kernels/cuda/edge.cuh"
#include "kernels/cuda/fault.cuh"
#include "kernels/cuda/plan.cuh"
#include "kernels/cuda/rows.cuh"

#include <refrain/ops.h>

namespace
{

constexpr int32_t DIM = 128;
constexpr int32_t LANES = DIM / 16; /* a row */
constexpr int32_t TILE = 32;        /* rows of a warp */
constexpr int32_t STEPS = LANES;    /* of TILE / LANES rows */
constexpr int32_t THREADS = 256;
constexpr int32_t WARPS = THREADS / 32; /* a block */
constexpr int32_t BLOCKS = 4;           /* an SM: 64 registers a thread */
constexpr int64_t ZEROS = -1;           /* in place of an offset in the pool */
constexpr int64_t NOTHING = -2;         /* the row is not written */

static_assert(TILE == STEPS * (32 / LANES), "a warp moves its rows in STEPS");

struct names
{
    const char *op;
    const char *starts;
    const char *table;
};

/* The request that a row lies in, -1 for none. */
__device__ __forceinline__ int32_t request_of(const int32_t *starts, int32_t requests,
                                              int32_t n, int32_t *ret_token)
{
    int32_t low = 0;
    int32_t high = requests;
    while (high - low > 1)
    {
        int32_t middle = low + (high - low) / 2;
        if (starts[middle] <= n)
            low = middle;
        else
            high = middle;
    }
    int32_t begin = starts[low];
    *ret_token = n - (begin < 0 ? 0 : begin);
    return begin >= 0 && begin <= n && n < starts[low + 1] ? low : -1;
}

/* Check mode: cumulative lengths that go down, or past the bound. */
__device__ __forceinline__ void note_lengths(const int32_t *starts, int32_t requests,
                                             int32_t bound, struct rfn_fault *fault,
                                             const struct names &name)
{
    int64_t step = (int64_t)gridDim.x * THREADS;
    for (int64_t b = (int64_t)blockIdx.x * THREADS + threadIdx.x; b <= requests;
         b += step)
    {
        int32_t here = starts[b];
        int32_t before = b ? starts[b - 1] : 0;
        if (here < before)
            rfn_fault_note_cuda(fault, name.op, name.starts, b, before, here);
        if (b == requests && here > bound)
            rfn_fault_note_cuda(fault, name.op, name.starts, b, bound, here);
    }
}

__global__ void __launch_bounds__(THREADS, BLOCKS)
    index_gather_kernel(const unsigned char *pool, const int32_t *table,
                        const int32_t *starts, const int32_t *requests_live,
                        unsigned char *keys, float *scales, int64_t table_stride,
                        int64_t W, int64_t keys_stride, int64_t pages,
                        const struct rfn_pool_map map, int32_t R, int32_t bound,
                        struct rfn_fault *fault, const struct names name)
{
    int32_t lane = threadIdx.x % 32;
    int32_t part = lane % LANES;
    rfn_edge_wait();

    int32_t requests = (int32_t)rfn_live_rows_cuda(requests_live, R);
    if (fault)
        note_lengths(starts, requests, bound, fault, name);
    int32_t rows = requests ? starts[requests] : 0;
    rows = rows < bound ? rows : bound;

    int64_t step = (int64_t)gridDim.x * WARPS * TILE;
    int64_t first = ((int64_t)blockIdx.x * WARPS + threadIdx.x / 32) * TILE;
    for (; first < rows; first += step)
    {
        /* A lane's own row: where its key lies. */
        int64_t n = first + lane;
        int64_t from = NOTHING;
        float scale = 0;
        int32_t token = 0;
        int32_t b = n < rows ? request_of(starts, requests, (int32_t)n, &token) : -1;
        if (b >= 0)
        {
            uint32_t w = (uint32_t)token / (uint32_t)map.page_tokens;
            uint32_t offset = (uint32_t)token - w * (uint32_t)map.page_tokens;
            int64_t page = w < W ? table[b * table_stride + w] : (int64_t)w;
            from = ZEROS;
            if (w < W && page >= 0 && page < pages)
            {
                int64_t base = page * map.page_stride;
                from = base + (int64_t)offset * map.data_step;
                scale = *(const float *)(pool + base + map.scale_at +
                                         (int64_t)offset * map.scale_step);
            }
            else if (offset == 0)
                rfn_fault_note_cuda(fault, name.op, name.table, b, w, page);
        }

        /* All loads of the tile, then all stores: no load waits behind one. */
        uint4 piece[STEPS];
        uint32_t written = 0;
#pragma unroll
        for (int32_t i = 0; i < STEPS; i++)
        {
            int64_t at =
                __shfl_sync(RFN_ALL_LANES, from, i * (32 / LANES) + lane / LANES);
            piece[i] = make_uint4(0, 0, 0, 0);
            if (at >= 0)
                piece[i] = *(const uint4 *)(pool + at + 16 * part);
            written |= at != NOTHING ? 1u << i : 0u;
        }
        if (b >= 0)
            scales[n] = scale;
#pragma unroll
        for (int32_t i = 0; i < STEPS; i++)
        {
            int64_t row = first + i * (32 / LANES) + lane / LANES;
            if (written >> i & 1)
                *(uint4 *)(keys + row * keys_stride + 16 * part) = piece[i];
        }
    }
}

} // namespace

extern "C" {

extern const void *const rfn_index_gather_cuda_kernels[];
const void *const rfn_index_gather_cuda_kernels[] = { (const void *)index_gather_kernel,
                                                      NULL };

enum rfn_status rfn_index_gather_cuda(const void *args, const struct rfn_plan_env *env,
                                      struct rfn_launch *ret)
{
    const struct rfn_index_gather_args *a = (const struct rfn_index_gather_args *)args;
    int64_t bound = a->bound ? a->bound : a->keys.shape[0];
    int64_t tiles = (bound + WARPS * TILE - 1) / (WARPS * TILE);
    int64_t blocks = (int64_t)env->sm_count * BLOCKS;
    ret->nodes = 0;
    if (a->keys.shape[1] != DIM)
        return rfn_error(RFN_UNSUPPORTED, "index_gather: D = %lld, but the kernel has %d",
                         (long long)a->keys.shape[1], DIM);
    blocks = tiles < blocks ? tiles : blocks;
    blocks = blocks < 1 ? 1 : blocks; /* check mode looks at a total where no row is */

    struct rfn_launch_node *n =
        rfn_plan_node(ret, "index_gather", (const void *)index_gather_kernel, blocks,
                      (uint32_t)THREADS);
    n->programmatic = rfn_plan_programmatic(env);
    bool check = env->fault != NULL;
    struct names name = {};
    if (check)
        name = { "index_gather", "starts", "table" };
    rfn_plan_param(n, "pool", RFN_PARAM_READ, a->pool.data);
    rfn_plan_param(n, "table", RFN_PARAM_READ, a->table.data);
    rfn_plan_param(n, "starts", RFN_PARAM_READ, a->starts.data);
    rfn_plan_param(n, "requests", RFN_PARAM_READ, a->requests.data);
    rfn_plan_param(n, "keys", RFN_PARAM_WRITE, a->keys.data);
    rfn_plan_param(n, "scales", RFN_PARAM_WRITE, a->scales.data);
    rfn_plan_param(n, "table.stride", RFN_PARAM_CONST, a->table.stride[0]);
    rfn_plan_param(n, "W", RFN_PARAM_CONST, a->table.shape[1]);
    rfn_plan_param(n, "keys.stride", RFN_PARAM_CONST, a->keys.stride[0]);
    rfn_plan_param(n, "pages", RFN_PARAM_CONST, a->pool.pages);
    rfn_plan_param(n, "pool.map", RFN_PARAM_CONST, rfn_pool_map_of(&a->pool));
    rfn_plan_param(n, "R", RFN_PARAM_CONST, (int32_t)a->table.shape[0]);
    rfn_plan_param(n, "bound", RFN_PARAM_CONST, (int32_t)bound);
    rfn_plan_param(n, "fault", RFN_PARAM_CONST, env->fault);
    rfn_plan_param(n, "fault.names", RFN_PARAM_CONST, name);
    return RFN_OK;
}
}
