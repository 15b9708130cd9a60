/*
 * split_lists: a step divided into tiles.
 *
 * First the requests are gone through for the maxima and, where the tile is chosen, for the
 * number of tiles of each size; a block that has no use of either leaves that out. Then each
 * list is written, a stretch a block.
 */
#include "kernels/cuda/edge.cuh"
#include "kernels/cuda/fault.cuh"
#include "kernels/cuda/lists.cuh"
#include "kernels/cuda/plan.cuh"
#include "kernels/cuda/rows.cuh"

#include <refrain/plan.h>

namespace
{

constexpr int32_t THREADS = RFN_LIST_THREADS;

/* Names for check mode, the host's strings; all NULL outside it. */
struct names
{
    const char *op, *q_starts, *prefill, *cached, *list[RFN_SPLIT_LISTS];
};

struct lists
{
    int2 *pair[RFN_SPLIT_LISTS];
    int32_t room[RFN_SPLIT_LISTS];
};

__device__ __forceinline__ void note(struct rfn_fault *fault, const struct names &n,
                                     const struct rfn_lens &lens, int64_t b, int32_t bad)
{
    if (bad & RFN_BAD_START)
        rfn_fault_note_cuda(fault, n.op, n.q_starts, b, 0, lens.q_starts[b + 1]);
    if (bad & RFN_BAD_PREFILL)
        rfn_fault_note_cuda(fault, n.op, n.prefill, b, 0, lens.prefill[b]);
    if (bad & (RFN_BAD_CACHED | RFN_BAD_CONTEXT))
        rfn_fault_note_cuda(fault, n.op, n.cached, b, 0, lens.cached[b]);
}

/* The maxima of the block's threads, in shared memory. */
__device__ __forceinline__ void reduce_maxima(const int32_t (&own)[RFN_SPLIT_MAXIMA],
                                              int32_t *shared)
{
#pragma unroll
    for (int32_t i = 0; i < RFN_SPLIT_MAXIMA; i++)
    {
        int32_t most = own[i];
#pragma unroll
        for (int32_t step = 16; step > 0; step /= 2)
        {
            int32_t other = __shfl_xor_sync(RFN_LIST_ALL, most, step);
            most = other > most ? other : most;
        }
        if (threadIdx.x % 32 == 0)
            atomicMax(&shared[i], most);
    }
}

__device__ __forceinline__ void reduce_tries(const int64_t (&own)[RFN_SPLIT_TRIES],
                                             unsigned long long *shared)
{
#pragma unroll
    for (int32_t i = 0; i < RFN_SPLIT_TRIES; i++)
    {
        int64_t sum = own[i];
#pragma unroll
        for (int32_t step = 16; step > 0; step /= 2)
            sum += __shfl_xor_sync(RFN_LIST_ALL, sum, step);
        if (threadIdx.x % 32 == 0)
            atomicAdd(&shared[i], (unsigned long long)sum);
    }
}

__global__ void __launch_bounds__(THREADS)
    split_lists_kernel(const int32_t *q_lens, const int32_t *q_starts,
                       const int32_t *prefill, const int32_t *cached,
                       const int32_t *requests, int32_t *maxima, int32_t *decoder,
                       int32_t *encoder, int32_t *kv, int32_t *counts, int32_t R,
                       int32_t decoder_room, int32_t encoder_room, int32_t kv_room,
                       struct rfn_split_sizes sizes, int32_t try_keys, int32_t sm_count,
                       struct rfn_fault *fault, struct names names)
{
    __shared__ struct rfn_list_shared shared;
    __shared__ int32_t most[RFN_SPLIT_MAXIMA];
    __shared__ unsigned long long tries[RFN_SPLIT_TRIES];
    __shared__ int32_t keys;
    bool first = blockIdx.x == 0;
    if (threadIdx.x < RFN_SPLIT_MAXIMA)
        most[threadIdx.x] = 0;
    if (threadIdx.x < RFN_SPLIT_TRIES)
        tries[threadIdx.x] = 0;
    rfn_edge_wait();
    __syncthreads();

    struct rfn_lens lens = { q_lens, q_starts, prefill, cached };
    int32_t live = (int32_t)rfn_live_rows_cuda(requests, R);
    if (first || try_keys)
    {
        int32_t own[RFN_SPLIT_MAXIMA] = {};
        int64_t due[RFN_SPLIT_TRIES] = {};
        for (int64_t b = threadIdx.x; b < live; b += THREADS)
        {
            struct rfn_lens_of r = rfn_lens_at(&lens, b);
            if (first && fault && r.bad)
                note(fault, names, lens, b, r.bad);
            rfn_split_count(&r, own);
            if (!try_keys || !r.q || r.prefill)
                continue;
            uint32_t n = (uint32_t)rfn_tiles_of((uint64_t)r.context, (uint32_t)try_keys);
#pragma unroll
            for (int32_t i = 0; i < RFN_SPLIT_TRIES; i++)
            {
                due[i] += n;
                n = (n + 1) / 2;
            }
        }
        reduce_maxima(own, most);
        if (try_keys)
            reduce_tries(due, tries);
    }
    __syncthreads();
    if (try_keys)
    {
        if (threadIdx.x == 0)
        {
            int64_t tiles[RFN_SPLIT_TRIES];
#pragma unroll
            for (int32_t i = 0; i < RFN_SPLIT_TRIES; i++)
                tiles[i] = (int64_t)tries[i];
            keys = rfn_split_choose(tiles, try_keys, sm_count);
        }
        __syncthreads();
        sizes.keys = keys;
    }
    if (first && threadIdx.x < RFN_SPLIT_MAXIMA)
        maxima[threadIdx.x] = most[threadIdx.x];

    struct lists l = { { (int2 *)decoder, (int2 *)encoder, (int2 *)kv },
                       { decoder_room, encoder_room, kv_room } };
    int64_t missing = 0;
#pragma unroll
    for (int32_t i = 0; i < RFN_SPLIT_LISTS; i++)
    {
        int64_t tiles = 0;
        if (l.pair[i])
            tiles = rfn_list_write(
                l.pair[i], l.room[i], live,
                [&](int64_t b) {
                    struct rfn_lens_of r = rfn_lens_at(&lens, b);
                    return rfn_split_tiles(&r, &sizes, i);
                },
                &shared);
        if (!first || threadIdx.x != 0)
            continue;
        int64_t fits = tiles < l.room[i] ? tiles : l.room[i];
        counts[i] = (int32_t)fits;
        missing += tiles - fits < INT32_MAX ? tiles - fits : INT32_MAX;
        if (tiles > fits)
            rfn_fault_note_cuda(fault, names.op, names.list[i], tiles, 0, l.room[i]);
    }
    if (first && threadIdx.x == 0)
    {
        counts[RFN_SPLIT_KEYS] = sizes.keys;
        counts[RFN_SPLIT_MISSING] = missing < INT32_MAX ? (int32_t)missing : INT32_MAX;
    }
}

int32_t room_of(const struct rfn_tensor *t)
{
    return t->data ? (int32_t)t->shape[0] : 0;
}

} // namespace

extern "C" {

extern const void *const rfn_split_lists_cuda_kernels[];
const void *const rfn_split_lists_cuda_kernels[] = { (const void *)split_lists_kernel,
                                                     NULL };

enum rfn_status rfn_split_lists_cuda(const void *args, const struct rfn_plan_env *env,
                                     struct rfn_launch *ret)
{
    const struct rfn_split_lists_args *a = (const struct rfn_split_lists_args *)args;
    int32_t room[] = { room_of(&a->decoder), room_of(&a->encoder), room_of(&a->kv) };
    bool chosen = a->decoder.data && !a->decoder_keys && !a->decoder_rows;
    struct rfn_split_sizes sizes = {};
    struct names names = {};
    sizes.group = a->group;
    sizes.keys = a->decoder.data ? a->decoder_keys : 0;
    sizes.decoder_rows = a->decoder.data ? a->decoder_rows : 0;
    sizes.encoder_rows = a->encoder.data ? a->encoder_rows : 0;
    sizes.kv_keys = a->kv.data ? a->kv_keys : 0;
    if (env->fault)
        names = {
            "split_lists", "q_starts", "prefill", "cached", { "decoder", "encoder", "kv" }
        };
    int64_t all = (int64_t)room[0] + room[1] + room[2];
    ret->nodes = 0;
    struct rfn_launch_node *n =
        rfn_plan_node(ret, "split_lists", (const void *)split_lists_kernel,
                      rfn_list_blocks(all, env->sm_count), (uint32_t)THREADS);
    n->programmatic = rfn_plan_programmatic(env);
    rfn_plan_param(n, "q_lens", RFN_PARAM_READ, a->q_lens.data);
    rfn_plan_param(n, "q_starts", RFN_PARAM_READ, a->q_starts.data);
    rfn_plan_param(n, "prefill", RFN_PARAM_READ, a->prefill.data);
    rfn_plan_param(n, "cached", RFN_PARAM_READ, a->cached.data);
    rfn_plan_param(n, "requests", RFN_PARAM_READ, a->requests.data);
    rfn_plan_param(n, "maxima", RFN_PARAM_WRITE, a->maxima.data);
    rfn_plan_param(n, "decoder", RFN_PARAM_WRITE, a->decoder.data);
    rfn_plan_param(n, "encoder", RFN_PARAM_WRITE, a->encoder.data);
    rfn_plan_param(n, "kv", RFN_PARAM_WRITE, a->kv.data);
    rfn_plan_param(n, "counts", RFN_PARAM_WRITE, a->counts.data);
    rfn_plan_param(n, "R", RFN_PARAM_CONST, (int32_t)a->cached.shape[0]);
    rfn_plan_param(n, "N", RFN_PARAM_CONST, room[0]);
    rfn_plan_param(n, "M", RFN_PARAM_CONST, room[1]);
    rfn_plan_param(n, "L", RFN_PARAM_CONST, room[2]);
    rfn_plan_param(n, "sizes", RFN_PARAM_CONST, sizes);
    rfn_plan_param(n, "try_keys", RFN_PARAM_CONST, chosen ? a->kv_keys : 0);
    rfn_plan_param(n, "sm_count", RFN_PARAM_CONST, a->sm_count);
    rfn_plan_param(n, "fault", RFN_PARAM_CONST, env->fault);
    rfn_plan_param(n, "fault.names", RFN_PARAM_CONST, names);
    return RFN_OK;
}
}
