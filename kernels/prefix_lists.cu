/*
 * prefix_lists: tiles of what is in the cache, and where each request's keys begin.
 *
 * Every block writes a stretch of the list; the sums of the keys are block 0's.
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
    const char *op, *q_starts, *cached, *tiles, *key_starts;
};

/* Stops at keys_most; returns the key total that is due. */
__device__ __forceinline__ int64_t write_starts(const struct rfn_lens &lens, int32_t live,
                                                int32_t R, int32_t keys_most,
                                                int32_t *key_starts, int64_t *warp,
                                                struct rfn_fault *fault,
                                                const struct names &names)
{
    int64_t before = 0;
    for (int64_t from = 0; from < live; from += THREADS)
    {
        int64_t b = from + threadIdx.x;
        int64_t total;
        struct rfn_lens_of r = {};
        if (b < live)
            r = rfn_lens_at(&lens, b);
        if (fault && (r.bad & RFN_BAD_START))
            rfn_fault_note_cuda(fault, names.op, names.q_starts, b, 0,
                                lens.q_starts[b + 1]);
        if (fault && (r.bad & (RFN_BAD_CACHED | RFN_BAD_CONTEXT)))
            rfn_fault_note_cuda(fault, names.op, names.cached, b, 0, lens.cached[b]);
        int64_t start = before + rfn_list_sum_to(r.context, warp, &total) - r.context;
        if (b < live)
            key_starts[b] = start < keys_most ? (int32_t)start : keys_most;
        before += total;
    }
    for (int64_t b = live + (int64_t)threadIdx.x; b <= R; b += THREADS)
        key_starts[b] = before < keys_most ? (int32_t)before : keys_most;
    return before;
}

__global__ void __launch_bounds__(THREADS)
    prefix_lists_kernel(const int32_t *q_lens, const int32_t *q_starts,
                        const int32_t *cached, const int32_t *requests, int32_t *tiles,
                        int32_t *key_starts, int32_t *counts, int32_t R, int32_t room,
                        int32_t prefix_keys, int32_t keys_most, struct rfn_fault *fault,
                        struct names names)
{
    __shared__ struct rfn_list_shared shared;
    rfn_edge_wait();
    struct rfn_lens lens = { q_lens, q_starts, NULL, cached };
    int32_t live = (int32_t)rfn_live_rows_cuda(requests, R);
    int64_t due = 0, keys = 0;
    if (tiles)
        due = rfn_list_write((int2 *)tiles, room, live,
                             [&](int64_t b) {
                                 struct rfn_lens_of r = rfn_lens_at(&lens, b);
                                 return rfn_tiles_of((uint64_t)r.cached,
                                                     (uint32_t)prefix_keys);
                             },
                             &shared);
    if (blockIdx.x != 0)
        return;
    keys = write_starts(lens, live, R, keys_most, key_starts, shared.warp, fault, names);
    if (threadIdx.x != 0)
        return;
    int64_t missing = due > room ? due - room : 0;
    counts[RFN_PREFIX_TILES] = (int32_t)(due - missing);
    counts[RFN_PREFIX_KEYS] = keys < keys_most ? (int32_t)keys : keys_most;
    counts[RFN_PREFIX_MISSING] = missing < INT32_MAX ? (int32_t)missing : INT32_MAX;
    if (missing)
        rfn_fault_note_cuda(fault, names.op, names.tiles, due, 0, room);
    if (keys > keys_most)
        rfn_fault_note_cuda(fault, names.op, names.key_starts, keys, 0, keys_most);
}

} // namespace

extern "C" {

extern const void *const rfn_prefix_lists_cuda_kernels[];
const void *const rfn_prefix_lists_cuda_kernels[] = { (const void *)prefix_lists_kernel,
                                                      NULL };

enum rfn_status rfn_prefix_lists_cuda(const void *args, const struct rfn_plan_env *env,
                                      struct rfn_launch *ret)
{
    const struct rfn_prefix_lists_args *a = (const struct rfn_prefix_lists_args *)args;
    int32_t room = a->tiles.data ? (int32_t)a->tiles.shape[0] : 0;
    struct names names = {};
    if (env->fault)
        names = { "prefix_lists", "q_starts", "cached", "tiles", "key_starts" };
    ret->nodes = 0;
    struct rfn_launch_node *n =
        rfn_plan_node(ret, "prefix_lists", (const void *)prefix_lists_kernel,
                      rfn_list_blocks(room, env->sm_count), (uint32_t)THREADS);
    n->programmatic = rfn_plan_programmatic(env);
    rfn_plan_param(n, "q_lens", RFN_PARAM_READ, a->q_lens.data);
    rfn_plan_param(n, "q_starts", RFN_PARAM_READ, a->q_starts.data);
    rfn_plan_param(n, "cached", RFN_PARAM_READ, a->cached.data);
    rfn_plan_param(n, "requests", RFN_PARAM_READ, a->requests.data);
    rfn_plan_param(n, "tiles", RFN_PARAM_WRITE, a->tiles.data);
    rfn_plan_param(n, "key_starts", RFN_PARAM_WRITE, a->key_starts.data);
    rfn_plan_param(n, "counts", RFN_PARAM_WRITE, a->counts.data);
    rfn_plan_param(n, "R", RFN_PARAM_CONST, (int32_t)a->cached.shape[0]);
    rfn_plan_param(n, "N", RFN_PARAM_CONST, room);
    rfn_plan_param(n, "prefix_keys", RFN_PARAM_CONST, a->prefix_keys);
    rfn_plan_param(n, "keys_most", RFN_PARAM_CONST,
                   a->keys_most ? a->keys_most : INT32_MAX);
    rfn_plan_param(n, "fault", RFN_PARAM_CONST, env->fault);
    rfn_plan_param(n, "fault.names", RFN_PARAM_CONST, names);
    return RFN_OK;
}
}
