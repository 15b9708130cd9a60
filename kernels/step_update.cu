/*
 * step_update: per-request lengths and tables become rows, contexts and slots.
 *
 * A thread a row. A block holds all rows of its requests, so that lengths can be advanced
 * behind one barrier, when every row of them has been read.
 */
#include "kernels/bounds.h"
#include "kernels/cuda/edge.cuh"
#include "kernels/cuda/fault.cuh"
#include "kernels/cuda/plan.cuh"
#include "kernels/cuda/rows.cuh"

#include <refrain/ops.h>

namespace
{

constexpr int32_t THREADS = 256;

__global__ void __launch_bounds__(THREADS)
    step_update_kernel(int32_t *lens, const int32_t *q_lens, const int32_t *table,
                       const int32_t *requests, int32_t *request, int32_t *context,
                       int64_t *slots, int32_t *live, const int32_t *advance,
                       int32_t *rejected, int64_t table_stride, int64_t W, int32_t R,
                       int32_t next_n, int32_t page_tokens, int64_t pages, int64_t most,
                       struct rfn_fault *fault, const char *name, const char *lens_name,
                       const char *rejected_name, const char *table_name, int64_t *bounds,
                       const struct rfn_bound_set made_for)
{
    int32_t of_block = (int32_t)threadIdx.x / next_n;
    int32_t b = (int32_t)blockIdx.x * (THREADS / next_n) + of_block;
    int32_t j = (int32_t)threadIdx.x - of_block * next_n;
    bool exists = of_block < THREADS / next_n && b < R;
    rfn_edge_wait();

    /* All five are under way at once. */
    int64_t L = exists ? lens[b] : 0;
    int64_t q = exists ? q_lens[b] : 0;
    int64_t back = exists && rejected ? rejected[b] : 0;
    bool advances = advance && *advance != 0;
    int32_t live_requests = (int32_t)rfn_live_rows_cuda(requests, R);
    bool is_live = exists && b < live_requests;
    /* In one loop: a call for each of the two spills registers. */
    for (int k = 0; is_live && j == 0 && k < 2; k++)
    {
        int64_t value = k ? back : L;
        if (value < 0 || value > (k ? (L < 0 ? 0 : L) : most))
            rfn_fault_note_cuda(fault, name, k ? rejected_name : lens_name, b, 0, value);
    }
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
    if (!is_live || j != 0)
        return;
    if (advances)
        lens[b] = (int32_t)(L + q < most ? L + q : most);
    else if (back)
        lens[b] = (int32_t)L;
    if (rejected)
        rejected[b] = 0;
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
    struct rfn_launch_node *n =
        rfn_plan_node(ret, "step_update", (const void *)step_update_kernel,
                      (uint32_t)blocks, (uint32_t)THREADS);
    n->programmatic = rfn_plan_programmatic(env);
    bool check = env->fault != NULL;
    rfn_plan_param(n, "lens", RFN_PARAM_READ_WRITE, a->lens.data);
    rfn_plan_param(n, "q_lens", RFN_PARAM_READ, a->q_lens.data);
    rfn_plan_param(n, "table", RFN_PARAM_READ, a->table.data);
    rfn_plan_param(n, "requests", RFN_PARAM_READ, a->requests.data);
    rfn_plan_param(n, "request", RFN_PARAM_WRITE, a->request.data);
    rfn_plan_param(n, "context", RFN_PARAM_WRITE, a->context.data);
    rfn_plan_param(n, "slots", RFN_PARAM_WRITE, a->slots.data);
    rfn_plan_param(n, "live", RFN_PARAM_WRITE, a->live.data);
    rfn_plan_param(n, "advance", RFN_PARAM_READ, a->advance.data);
    rfn_plan_param(n, "rejected", RFN_PARAM_READ_WRITE, a->rejected.data);
    rfn_plan_param(n, "table.stride", RFN_PARAM_CONST, a->table.stride[0]);
    rfn_plan_param(n, "W", RFN_PARAM_CONST, a->table.shape[1]);
    rfn_plan_param(n, "R", RFN_PARAM_CONST, (int32_t)R);
    rfn_plan_param(n, "next_n", RFN_PARAM_CONST, a->next_n);
    rfn_plan_param(n, "page_tokens", RFN_PARAM_CONST, a->page_tokens);
    rfn_plan_param(n, "pages", RFN_PARAM_CONST, a->pages);
    rfn_plan_param(n, "table.tokens", RFN_PARAM_CONST, table_tokens(a));
    rfn_plan_param(n, "fault", RFN_PARAM_CONST, env->fault);
    rfn_plan_param(n, "fault.op", RFN_PARAM_CONST, check ? "step_update" : NULL);
    rfn_plan_param(n, "fault.lens", RFN_PARAM_CONST, check ? "lens" : NULL);
    rfn_plan_param(n, "fault.rejected", RFN_PARAM_CONST, check ? "rejected" : NULL);
    rfn_plan_param(n, "fault.table", RFN_PARAM_CONST, check ? "table" : NULL);
    rfn_plan_param(n, "bounds", RFN_PARAM_WRITE, a->bounds.data);
    rfn_plan_param(n, "bounds.own", RFN_PARAM_CONST, rfn_bounds_of_step(a));
    return RFN_OK;
}
}
