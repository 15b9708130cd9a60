/*
 * step_update: per-request lengths and tables become rows, contexts and slots.
 *
 * A thread a row. A block holds all rows of its requests, so that lengths can be advanced
 * behind one barrier, when every row of them has been read.
 *
 * With records a block also looks at the record of this turn, over PCIe as a rule: it asks for
 * all that it may need of it before it knows whether it is this turn's. All blocks see one
 * turn: the last one that has done with it counts it up.
 */
#include "kernels/bounds.h"
#include "kernels/cuda/edge.cuh"
#include "kernels/cuda/fault.cuh"
#include "kernels/cuda/plan.cuh"
#include "kernels/cuda/rows.cuh"

#include <refrain/ops.h>
#include <stddef.h>

namespace
{

constexpr int32_t THREADS = 256;
static_assert(RFN_STEP_CHANGES == THREADS, "a thread a change of the table");
static_assert(offsetof(struct rfn_step_record, change) == 32 &&
                  sizeof(struct rfn_step_change) == 16,
              "two vectors of four and one a change");

/* A record as a thread sees it. */
struct record
{
    bool now; /* it is this turn's; the rest is of use only then */
    int64_t turn;
    int32_t requests;
    int32_t advance;
    bool lengths;
    int32_t changes;
    int2 pair;   /* lens and q_lens of the thread's request */
    int4 change; /* the thread's */
};

/* All of a block, behind whose barrier it returns. Loads go past every cache; two threads that
 * load one address so would wait for two answers, one behind the other. `own` requests of the
 * block; the thread's is number `of_block`. */
__device__ __forceinline__ struct record record_of(const int32_t *records, int64_t stride,
                                                   int64_t mask, int64_t turn,
                                                   int32_t first, int32_t own,
                                                   int32_t of_block)
{
    __shared__ int4 head[2];
    __shared__ int2 pair[THREADS];
    struct record r = {};
    int32_t thread = threadIdx.x;
    r.turn = turn;
    const int4 *row = (const int4 *)(records + (turn & mask) * stride);
    r.change = __ldcv(row + 2 + thread);
    int2 my_pair = {};
    int4 my_head = {};
    if (thread < own)
        my_pair = __ldcv((const int2 *)(row + 2 + RFN_STEP_CHANGES) + first + thread);
    if (thread < 2)
        my_head = __ldcv(row + thread);
    pair[thread] = my_pair;
    if (thread < 2)
        head[thread] = my_head;
    __syncthreads();
    r.pair = pair[of_block];
    int64_t names = (int64_t)((uint64_t)(uint32_t)head[0].y << 32 | (uint32_t)head[0].x);
    r.now = names == turn;
    r.requests = head[0].z;
    r.advance = head[0].w;
    r.lengths = r.now && head[1].x != 0;
    r.changes = head[1].y;
    return r;
}

__global__ void __launch_bounds__(THREADS)
    step_update_kernel(int32_t *lens, int32_t *q_lens, int32_t *table, int32_t *requests,
                       int32_t *request, int32_t *context, int64_t *slots, int32_t *live,
                       int32_t *advance, int32_t *rejected, int64_t table_stride,
                       int64_t W, int32_t R, int32_t next_n, int32_t page_tokens,
                       int64_t pages, int64_t most, const int32_t *records,
                       int64_t records_stride, int64_t records_mask, int64_t *turn,
                       int64_t *taken, struct rfn_fault *fault, const char *name,
                       const char *lens_name, const char *rejected_name,
                       const char *table_name, const char *records_name, int64_t *bounds,
                       const struct rfn_bound_set made_for)
{
    int32_t of_block = (int32_t)threadIdx.x / next_n;
    int32_t of_all = THREADS / next_n;
    int32_t first = (int32_t)blockIdx.x * of_all;
    int32_t b = first + of_block;
    int32_t j = (int32_t)threadIdx.x - of_block * next_n;
    bool exists = of_block < of_all && b < R;
    rfn_edge_wait();

    /* All are under way at once. */
    int64_t L = exists ? lens[b] : 0;
    int64_t q = exists ? q_lens[b] : 0;
    int64_t back = exists && rejected ? rejected[b] : 0;
    bool advances = advance && *advance != 0;
    int32_t live_requests = (int32_t)rfn_live_rows_cuda(requests, R);
    struct record r = {};
    if (records)
        r = record_of(records, records_stride, records_mask, turn[0], first,
                      R - first < of_all ? R - first : of_all, of_block);
    bool strays = false; /* the thread's change lies outside the table */
    if (r.now)
    {
        live_requests = r.requests < 0 ? 0 : r.requests < R ? r.requests : R;
        advances = advance && r.advance != 0;
        int32_t of = r.change.x, column = r.change.y;
        bool changes = (int32_t)threadIdx.x < r.changes;
        if (changes && of >= first && of < first + of_all && of < R && column >= 0 &&
            column < W)
            table[of * table_stride + column] = r.change.z;
        strays = changes && (of < 0 || of >= R || column < 0 || column >= W);
    }
    bool is_live = exists && b < live_requests;
    if (r.lengths)
    {
        L = is_live ? r.pair.x : 0;
        q = is_live ? r.pair.y : 0;
        back = 0;
    }
    int32_t q_kept = (int32_t)q;
    if (records)
        __syncthreads(); /* the table is whole, of this block's requests */

    /* In one loop: a call for each of the three spills registers. */
    for (int k = 0; k < 3; k++)
    {
        int64_t value = k ? back : L;
        bool bad =
            is_live && j == 0 && (value < 0 || value > (k ? (L < 0 ? 0 : L) : most));
        bool far = r.change.x < 0 || r.change.x >= R;
        if (k == 2)
        {
            bad = strays && blockIdx.x == 0;
            value = far ? r.change.x : r.change.y;
        }
        if (bad)
            rfn_fault_note_cuda(fault, name,
                                k == 2 ? records_name
                                : k    ? rejected_name
                                       : lens_name,
                                k == 2 ? threadIdx.x : b, k == 2 && !far, value);
    }
    int32_t L_kept = (int32_t)L;
    L = L < 0 ? 0 : L;
    back = back < 0 ? 0 : back < L ? back : L;
    L -= back;
    q = q < 0 ? 0 : q < next_n ? q : next_n;

    int64_t sees = L - q + j + 1;
    bool is_row = is_live && j < q && sees > 0;
    int64_t slot = -1;
    if (is_row)
    {
        uint32_t position = (uint32_t)(sees - 1);
        uint32_t w = position / (uint32_t)page_tokens;
        int64_t page = w < W ? table[b * table_stride + w] : -1;
        if (page >= 0 && page < pages)
            slot = page * page_tokens + (position - w * (uint32_t)page_tokens);
        else if (w < W)
            rfn_fault_note_cuda(fault, name, table_name, b, w, page);
    }
    if (exists)
    {
        int64_t t = (int64_t)b * next_n + j;
        request[t] = is_row ? b : -1;
        context[t] = is_row ? (int32_t)sees : 0;
        slots[t] = slot;
    }
    if (blockIdx.x == 0 && threadIdx.x == 0)
    {
        *live = live_requests * next_n;
#pragma unroll
        for (int i = 0; bounds && i < RFN_BOUNDS; i++)
            bounds[i] = made_for.field[i];
    }

    __syncthreads();
    if (exists && j == 0)
    {
        if (is_live && advances)
            lens[b] = (int32_t)(L + q < most ? L + q : most);
        else if (is_live && back)
            lens[b] = (int32_t)L;
        else if (r.lengths)
            lens[b] = L_kept;
        if (r.lengths)
            q_lens[b] = q_kept;
        if (rejected && (is_live || r.lengths))
            rejected[b] = 0;
    }
    if (!records || threadIdx.x != 0)
        return;
    __threadfence();
    unsigned long long *through = (unsigned long long *)(turn + 1);
    if (gridDim.x > 1 && atomicAdd(through, 1ull) != gridDim.x - 1)
        return;
    *through = 0;
    turn[0] = r.turn + 1;
    if (r.now)
    {
        *requests = r.requests;
        if (advance)
            *advance = r.advance;
    }
    /* Behind the barriers: everything that was read of the record has come. */
    *(volatile int64_t *)taken = r.turn + 1;
}

/* Tokens that a row of the table names pages for. */
int64_t table_tokens(const struct rfn_step_update_args *a)
{
    int64_t tokens;
    if (__builtin_mul_overflow(a->table.shape[1], (int64_t)a->page_tokens, &tokens) ||
        tokens > INT32_MAX)
        return INT32_MAX;
    return tokens;
}

} // namespace

extern "C" {

extern const void *const rfn_step_update_cuda_kernels[];
const void *const rfn_step_update_cuda_kernels[] = { (const void *)step_update_kernel,
                                                     NULL };

enum rfn_status rfn_step_update_cuda(const void *args, const struct rfn_plan_env *env,
                                     struct rfn_launch *ret)
{
    const struct rfn_step_update_args *a = (const struct rfn_step_update_args *)args;
    int64_t R = a->lens.shape[0], of_block = THREADS / a->next_n;
    int64_t blocks = R ? (R + of_block - 1) / of_block : 1; /* live is always written */
    ret->nodes = 0;
    struct rfn_launch_node *n = rfn_plan_node(
        ret, "step_update", (const void *)step_update_kernel, blocks, (uint32_t)THREADS);
    n->programmatic = rfn_plan_programmatic(env);
    bool check = env->fault != NULL;
    enum rfn_param_role changed = a->records.data ? RFN_PARAM_READ_WRITE : RFN_PARAM_READ;
    rfn_plan_param(n, "lens", RFN_PARAM_READ_WRITE, a->lens.data);
    rfn_plan_param(n, "q_lens", changed, a->q_lens.data);
    rfn_plan_param(n, "table", changed, a->table.data);
    rfn_plan_param(n, "requests", changed, a->requests.data);
    rfn_plan_param(n, "request", RFN_PARAM_WRITE, a->request.data);
    rfn_plan_param(n, "context", RFN_PARAM_WRITE, a->context.data);
    rfn_plan_param(n, "slots", RFN_PARAM_WRITE, a->slots.data);
    rfn_plan_param(n, "live", RFN_PARAM_WRITE, a->live.data);
    rfn_plan_param(n, "advance", changed, a->advance.data);
    rfn_plan_param(n, "rejected", RFN_PARAM_READ_WRITE, a->rejected.data);
    rfn_plan_param(n, "table.stride", RFN_PARAM_CONST, a->table.stride[0]);
    rfn_plan_param(n, "W", RFN_PARAM_CONST, a->table.shape[1]);
    rfn_plan_param(n, "R", RFN_PARAM_CONST, (int32_t)R);
    rfn_plan_param(n, "next_n", RFN_PARAM_CONST, a->next_n);
    rfn_plan_param(n, "page_tokens", RFN_PARAM_CONST, a->page_tokens);
    rfn_plan_param(n, "pages", RFN_PARAM_CONST, a->pages);
    rfn_plan_param(n, "table.tokens", RFN_PARAM_CONST, table_tokens(a));
    rfn_plan_param(n, "records", RFN_PARAM_READ, a->records.data);
    rfn_plan_param(n, "records.stride", RFN_PARAM_CONST, a->records.stride[0]);
    rfn_plan_param(n, "records.mask", RFN_PARAM_CONST, a->records.shape[0] - 1);
    rfn_plan_param(n, "turn", RFN_PARAM_READ_WRITE, a->turn.data);
    rfn_plan_param(n, "taken", RFN_PARAM_WRITE, a->taken.data);
    rfn_plan_param(n, "fault", RFN_PARAM_CONST, env->fault);
    rfn_plan_param(n, "fault.op", RFN_PARAM_CONST, check ? "step_update" : NULL);
    rfn_plan_param(n, "fault.lens", RFN_PARAM_CONST, check ? "lens" : NULL);
    rfn_plan_param(n, "fault.rejected", RFN_PARAM_CONST, check ? "rejected" : NULL);
    rfn_plan_param(n, "fault.table", RFN_PARAM_CONST, check ? "table" : NULL);
    rfn_plan_param(n, "fault.records", RFN_PARAM_CONST, check ? "records" : NULL);
    rfn_plan_param(n, "bounds", RFN_PARAM_WRITE, a->bounds.data);
    rfn_plan_param(n, "bounds.own", RFN_PARAM_DYNAMIC, rfn_bounds_of_step(a));
    return RFN_OK;
}
}
