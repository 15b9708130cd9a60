/*
 * index_topk: exactly the K largest scores of each row.
 *
 * A row belongs to one block or, on sm_90, to a cluster of blocks, whose registers hold its
 * keys; a radix select with histograms in shared memory finds the K-th. A row with more
 * columns than that is first cut down to the K groups of 16 neighbours with the largest
 * maxima, which hold all K. Work is bounded for any content of a row. Rows that are too long
 * even for that are passed over two to four times.
 *
 * Nothing depends on which thread comes first: histograms are sums, and every list is
 * written at places that prefix sums give.
 */
#include "kernels/cuda/bounds.cuh"
#include "kernels/cuda/edge.cuh"
#include "kernels/cuda/fault.cuh"
#include "kernels/cuda/plan.cuh"
#include "kernels/cuda/topk_passes.cuh"
#include "kernels/cuda/topk_row.cuh"

#include <refrain/ops.h>

namespace
{

using namespace topk;

/* The kernels' parameters behind `logits`; the same for all, so that an executable graph
 * can be updated from one to another. */
#define PARAMETERS(X)                                                                    \
    X(const int32_t *, lens)                                                             \
    X(const int32_t *, live)                                                             \
    X(const int64_t *, bounds)                                                           \
    X(const int32_t *, table)                                                            \
    X(const int32_t *, request)                                                          \
    X(int32_t *, slots)                                                                  \
    X(int32_t *, positions)                                                              \
    X(int64_t, logits_stride)                                                            \
    X(int64_t, table_stride)                                                             \
    X(int64_t, slots_stride)                                                             \
    X(int64_t, positions_stride)                                                         \
    X(int64_t, S)                                                                        \
    X(int32_t, K)                                                                        \
    X(int64_t, R)                                                                        \
    X(int64_t, W)                                                                        \
    X(int32_t, P)                                                                        \
    X(int32_t, P_bits) /* log2 of P, -1 where it is no power of two */                   \
    X(int64_t, pages)                                                                    \
    X(struct rfn_fault *, fault)                                                         \
    X(const char *, name)                                                                \
    X(const char *, table_name)                                                          \
    X(const char *, request_name)

struct arguments
{
    const float *logits;
#define FIELD(type, field) type field;
    PARAMETERS(FIELD)
#undef FIELD
};

/* How one row's positions become its output. */
struct output
{
    const arguments &a;
    int64_t t;
    int64_t r;               /* request[t] */
    const int32_t *pages_of; /* r's row of the table; NULL: no slots, or r is none */

    __device__ __forceinline__ output(const arguments &a, int64_t t, int32_t request)
        : a(a), t(t), r(request), pages_of(NULL)
    {
        if (a.slots && r >= 0 && r < a.R)
            pages_of = a.table + r * a.table_stride;
    }
    /* By one thread of the row. */
    __device__ __forceinline__ void note_request() const
    {
        if (a.slots && !pages_of)
            rfn_fault_note_cuda(a.fault, a.name, a.request_name, t, 0, r);
    }
    __device__ __forceinline__ int32_t page_of(int32_t position) const
    {
        return a.P_bits >= 0 ? position >> a.P_bits : position / a.P;
    }
    /* `cached`: the first PAGES entries of the table, NULL: not at hand. */
    __device__ __forceinline__ void write(int32_t k, int32_t position,
                                          const int32_t *cached) const
    {
        if (a.positions)
            a.positions[t * a.positions_stride + k] = position;
        if (!a.slots)
            return;
        int32_t slot = -1;
        if (position >= 0 && pages_of)
        {
            int32_t w = page_of(position);
            int64_t page = w >= a.W                       ? w
                           : cached && w < (int32_t)PAGES ? cached[w]
                                                          : pages_of[w];
            if (w < a.W && page >= 0 && page < a.pages)
                slot = (int32_t)(page * a.P + (position - w * a.P));
            else
                rfn_fault_note_cuda(a.fault, a.name, a.table_name, t, w, page);
        }
        a.slots[t * a.slots_stride + k] = slot;
    }
    /* A row of at most K columns. */
    __device__ __forceinline__ void write_all(int32_t length, uint32_t first,
                                              uint32_t step) const
    {
        if (first == 0 && length)
            note_request();
        for (int32_t k = (int32_t)first; k < a.K; k += (int32_t)step)
            write(k, k < length ? k : -1, NULL);
    }
};

__device__ __forceinline__ int32_t request_of(const arguments &a, int64_t t)
{
    return a.slots ? a.request[t] : 0;
}

__device__ __forceinline__ int32_t length_of(const arguments &a, int64_t t)
{
    int32_t L = a.lens[t];
    return L < 0 ? 0 : L > a.S ? (int32_t)a.S : L;
}

/* Begins to copy the entries of the block table that a row of L columns can need. */
__device__ __forceinline__ void fetch_pages(const output &out, int32_t L,
                                            shared_memory *m)
{
    if (threadIdx.x == 0)
        m->request = (int32_t)out.r;
#pragma unroll
    for (uint32_t i = 0; i < PAGES / THREADS; i++)
    {
        int64_t w = i * THREADS + threadIdx.x;
        if (out.pages_of && w < out.a.W && w * out.a.P < L)
            copy_word(&m->page[w], &out.pages_of[w]);
    }
}

/* Where a thread's quads lie: in chunk j of its warp lane l has quad 32 * j + l of the row
 * or, of a row in groups, of this block's groups. */
template <uint32_t C, uint32_t E> struct places
{
    uint32_t quads;
    uint32_t shift;
    uint32_t chunks;
    uint32_t first;
    bool grouped;

    __device__ __forceinline__ places(uint32_t quads, bool grouped, uint32_t shift)
        : quads(quads), shift(shift), grouped(grouped)
    {
        uint32_t thread = threadIdx.x + (grouped ? 0 : rank_of_block<C>() * THREADS);
        uint32_t lane = threadIdx.x % 32, threads = grouped ? THREADS : C * THREADS;
        chunks = E == 4 ? 1 : (quads + threads - 1) / threads;
        first = (thread - lane) * chunks + lane;
    }
    __device__ __forceinline__ uint32_t column_in_row(uint32_t j) const
    {
        return 4 * (first + 32 * j) - shift;
    }
    __device__ __forceinline__ uint32_t column_in_group(uint32_t j,
                                                        const shared_memory *m) const
    {
        uint32_t q = first + 32 * j;
        return q < quads ? 16 * (uint32_t)m->group[q / 4] + 4 * (q % 4) - shift
                         : NO_COLUMN;
    }
    __device__ __forceinline__ uint32_t column(uint32_t j, const shared_memory *m) const
    {
        return grouped ? column_in_group(j, m) : column_in_row(j);
    }
};

/* One row by C blocks with E keys a thread. With E = 32 rows may be longer than that. */
template <uint32_t C, uint32_t E>
__device__ __forceinline__ void row_in_registers(const arguments &a,
                                                 const struct rfn_bound_set &bounds_own,
                                                 const char *bound_names)
{
    constexpr bool GROUPS = E * THREADS >= K_MAX * GROUP;
    extern __shared__ __align__(16) unsigned char bytes[];
    shared_memory *m = (shared_memory *)bytes;
    int64_t t = blockIdx.x / C;
    const uint32_t rank = rank_of_block<C>();
    part row(a.logits + t * a.logits_stride, rank);

    clear_bins(m); /* needs nothing from the kernels before */
    rfn_edge_wait();
    /* Where every thread has one quad, which one does not depend on the length: its load
     * does not wait for that of the length. */
    float4 early = make_float4(0, 0, 0, 0);
    if (E == 4)
        early = load_quad(row.x, places<C, E>(0, false, row.shift).column_in_row(0),
                          (uint32_t)a.S, 0);
    int32_t L = length_of(a, t);
    int32_t r = request_of(a, t);
    /* In line, and behind the loads: 64 registers are just enough. */
    if (a.bounds && !rfn_bounds_agree(a.bounds, bounds_own, a.fault, a.name, bound_names))
        return;
    if (a.live && t >= *a.live)
        return;
    if (L <= a.K)
    {
        output(a, t, r).write_all(L, rank * THREADS + threadIdx.x, C * THREADS);
        return;
    }
    row.length = (uint32_t)L;
    fetch_pages(output(a, t, r), L, m);
    if (!GROUPS)
        __syncthreads(); /* m->bin is clear */

    uint32_t key[E];
    uint32_t quads = row.quads();
    bool grouped = GROUPS && quads > C * THREADS * (E / 4);
    if (grouped)
        quads = 4 * choose_groups<C, E>(row, (uint32_t)a.K, key, (float *)(m + 1), m);
    else if (GROUPS)
        __syncthreads();
    if (GROUPS && threadIdx.x == 0)
        m->quads = quads | (grouped ? IN_GROUPS : 0);
    {
        places<C, E> at(quads, grouped, row.shift);
        if (E == 4)
            load_chunks<E>(key, 1, [&](uint32_t) { return early; });
        else if (grouped)
            load_chunks<E>(key, at.chunks, [&](uint32_t j) {
                return load_quad(row.x, at.column_in_group(j, m), row.length, 0);
            });
        else
            load_chunks<E>(key, at.chunks, [&](uint32_t j) {
                return load_quad(row.x, at.column_in_row(j), row.length, 0);
            });
        make_keys<E>(
            key, at.chunks, row.length, [&](uint32_t j) { return at.column(j, m); }, m);
    }
    /* Where registers are short, what can be made again is not kept. */
    if (GROUPS)
        __syncthreads();
    auto again = [&](uint32_t shift) {
        uint32_t q = GROUPS ? m->quads : quads;
        return places<C, E>(q & ~IN_GROUPS, q & IN_GROUPS, shift);
    };
    cut least = cut_of<C, E>(key, again(0).chunks, (uint32_t)a.K, m);
    part same(a.logits + (int64_t)(blockIdx.x / C) * a.logits_stride, 0);
    places<C, E> at = again(same.shift);
    uint32_t n = list_chosen<C, E>(
        key, at.chunks, least, 1, m->chosen,
        [&](uint32_t j) { return (int32_t)at.column(j, m); }, m);
    copies_wait();
    wait<C>();
    uint32_t before = sum_of_lower<C>(&m->above[1], rank);
    if (C > 1)
    {
        arrive<C>(); /* this block has looked at the others for the last time */
        __syncthreads();
    }
    output out(a, blockIdx.x / C, m->request);
    if (threadIdx.x == 0 && rank == 0)
        out.note_request();
    for (uint32_t k = threadIdx.x; k < n; k += THREADS)
        out.write((int32_t)(before + k), m->chosen[k], m->page);
    if (C > 1)
        wait<C>();
}

#define FORMAL(type, field) , type field
#define ACTUAL(type, field) , field

template <uint32_t E>
__global__ void __launch_bounds__(THREADS, 1)
    row_kernel(const float *logits PARAMETERS(FORMAL),
               const __grid_constant__ struct rfn_bound_set bounds_own,
               const char *bound_names)
{
    row_in_registers<1, E>(arguments { logits PARAMETERS(ACTUAL) }, bounds_own,
                           bound_names);
}

/* Code without clusters has the kernels' names, so that one library serves both; planners
 * do not choose them there. */
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
#define CLUSTER(C) __cluster_dims__(C, 1, 1)
#else
#define CLUSTER(C)
#endif

template <uint32_t C, uint32_t E>
__global__ void CLUSTER(C) __launch_bounds__(THREADS, 1)
    cluster_kernel(const float *logits PARAMETERS(FORMAL),
                   const __grid_constant__ struct rfn_bound_set bounds_own,
                   const char *bound_names)
{
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
    row_in_registers<C, E>(arguments { logits PARAMETERS(ACTUAL) }, bounds_own,
                           bound_names);
#endif
}

__global__ void __launch_bounds__(THREADS, 1)
    passes_kernel(const float *logits PARAMETERS(FORMAL),
                  const __grid_constant__ struct rfn_bound_set bounds_own,
                  const char *bound_names)
{
    rfn_edge_wait();
    arguments a = { logits PARAMETERS(ACTUAL) };
    if (!rfn_bounds_hold_cuda(a.bounds, bounds_own, a.fault, a.name, bound_names))
        return;
    extern __shared__ __align__(16) unsigned char bytes[];
    passes_memory *m = (passes_memory *)bytes;
    int64_t t = blockIdx.x;
    if (a.live && t >= *a.live)
        return;
    int32_t L = length_of(a, t);
    output out(a, t, request_of(a, t));
    if (L <= a.K)
    {
        out.write_all(L, threadIdx.x, THREADS);
        return;
    }
    row_source source(a.logits + t * a.logits_stride, (uint32_t)L);
    select_by_passes(source, (uint32_t)a.K, m);
    if (threadIdx.x == 0)
        out.note_request();
    for (int32_t k = (int32_t)threadIdx.x; k < a.K; k += THREADS)
        out.write(k, m->chosen[k], NULL);
}

/* ---- planning -------------------------------------------------------------------- */

struct choice
{
    const void *kernel;
    uint32_t blocks; /* of a row */
    uint32_t keys;   /* a thread; 0: passes */
};

/* A row's blocks, few keys first. */
const choice choices[] = {
    { (const void *)row_kernel<4>, 1, 4 },
    { (const void *)row_kernel<8>, 1, 8 },
    { (const void *)row_kernel<16>, 1, 16 },
    { (const void *)row_kernel<32>, 1, 32 },
    { (const void *)cluster_kernel<2, 16>, 2, 16 },
    { (const void *)cluster_kernel<2, 32>, 2, 32 },
    { (const void *)cluster_kernel<4, 8>, 4, 8 },
    { (const void *)cluster_kernel<4, 32>, 4, 32 },
    { (const void *)cluster_kernel<8, 4>, 8, 4 },
    { (const void *)cluster_kernel<8, 16>, 8, 16 },
    { (const void *)cluster_kernel<8, 32>, 8, 32 },
};
const choice passes = { (const void *)passes_kernel, 1, 0 };

constexpr int64_t ONE_BLOCK = 16384; /* columns; more are worth a cluster's barriers */
constexpr int64_t MOST_KEYS = 32;

/* Columns of a row that may begin anywhere in a quad. */
int64_t columns_of(const struct rfn_index_topk_args *a)
{
    bool aligned = (uintptr_t)a->logits.data % 16 == 0 &&
                   (a->logits.stride[0] % 4 == 0 || a->logits.shape[0] == 1);
    return a->logits.shape[1] + (aligned ? 0 : 3);
}

/* Blocks a row, so that all rows run at once; the fewer rows the more. Clusters of 4 and 8
 * leave some SMs of a GPC over: an H200 of 132 runs 66 clusters of 2, 30 of 4 and 15 of 8. */
uint32_t blocks_of(int64_t rows, int64_t columns, const struct rfn_plan_env *env)
{
    if (env->sm_arch < 90 || columns <= ONE_BLOCK)
        return 1;
    int64_t filled = env->sm_count - env->sm_count / 11;
    uint32_t blocks = rows * 8 <= filled          ? 8
                      : rows * 4 <= filled        ? 4
                      : rows * 2 <= env->sm_count ? 2
                                                  : 1;
    /* Maxima of a longer row's groups need keys of more than one block. */
    while (blocks < 8 && columns > MOST_KEYS * THREADS * GROUP * blocks)
        blocks *= 2;
    return blocks;
}

choice choose(const struct rfn_index_topk_args *a, const struct rfn_plan_env *env,
              uint32_t *ret_shared)
{
    int64_t columns = columns_of(a);
    uint32_t blocks = blocks_of(a->logits.shape[0], columns, env);
    choice ret = passes;
    for (const choice &c : choices)
    {
        int64_t held = (int64_t)c.blocks * THREADS * c.keys;
        bool fits = columns <= held || c.keys == MOST_KEYS;
        if (c.blocks != blocks || !fits || columns > GROUP * MOST_KEYS * THREADS * blocks)
            continue;
        *ret_shared = sizeof(shared_memory);
        if (columns > held)
        {
            uint32_t groups = (uint32_t)((columns + GROUP - 1) / GROUP);
            *ret_shared += groups_of_block(groups, blocks) * (uint32_t)sizeof(float);
        }
        if (*ret_shared <= (uint32_t)env->shared_bytes_max)
            return c;
    }
    *ret_shared = sizeof(passes_memory);
    return ret;
}

} // namespace

extern "C" {

extern const void *const rfn_index_topk_cuda_kernels[];
const void *const rfn_index_topk_cuda_kernels[] = {
    (const void *)row_kernel<4>,
    (const void *)row_kernel<8>,
    (const void *)row_kernel<16>,
    (const void *)row_kernel<32>,
    (const void *)cluster_kernel<2, 16>,
    (const void *)cluster_kernel<2, 32>,
    (const void *)cluster_kernel<4, 8>,
    (const void *)cluster_kernel<4, 32>,
    (const void *)cluster_kernel<8, 4>,
    (const void *)cluster_kernel<8, 16>,
    (const void *)cluster_kernel<8, 32>,
    (const void *)passes_kernel,
    NULL,
};

enum rfn_status rfn_index_topk_cuda(const void *args, const struct rfn_plan_env *env,
                                    struct rfn_launch *ret)
{
    const struct rfn_index_topk_args *a = (const struct rfn_index_topk_args *)args;
    ret->nodes = 0;
    if (a->logits.shape[0] == 0)
        return RFN_OK;
    uint32_t shared = 0;
    choice c = choose(a, env, &shared);
    if (env->shared_bytes_max < (int32_t)shared)
        return rfn_error(
            RFN_UNSUPPORTED,
            "index_topk: needs %d bytes of shared memory a block, the GPU has %d",
            (int)shared, env->shared_bytes_max);
    struct rfn_launch_node *n = rfn_plan_node(ret, "index_topk", c.kernel,
                                              a->logits.shape[0] * c.blocks, THREADS);
    n->shared_bytes = shared;
    n->programmatic = rfn_plan_programmatic(env);
    int64_t K = a->slots.data ? a->slots.shape[1] : a->positions.shape[1];
    int32_t P = a->page_tokens;
    bool check = env->fault != NULL;
    rfn_plan_param(n, "logits", RFN_PARAM_READ, a->logits.data);
    rfn_plan_param(n, "lens", RFN_PARAM_READ, a->lens.data);
    rfn_plan_param(n, "live", RFN_PARAM_READ, a->live.data);
    rfn_plan_bounds(n, env, &a->bounds);
    rfn_plan_param(n, "table", RFN_PARAM_READ, a->table.data);
    rfn_plan_param(n, "request", RFN_PARAM_READ, a->request.data);
    rfn_plan_param(n, "slots", RFN_PARAM_WRITE, a->slots.data);
    rfn_plan_param(n, "positions", RFN_PARAM_WRITE, a->positions.data);
    rfn_plan_param(n, "logits.stride", RFN_PARAM_CONST, a->logits.stride[0]);
    rfn_plan_param(n, "table.stride", RFN_PARAM_CONST, a->table.stride[0]);
    rfn_plan_param(n, "slots.stride", RFN_PARAM_CONST, a->slots.stride[0]);
    rfn_plan_param(n, "positions.stride", RFN_PARAM_CONST, a->positions.stride[0]);
    rfn_plan_param(n, "S", RFN_PARAM_CONST, a->logits.shape[1]);
    rfn_plan_param(n, "K", RFN_PARAM_CONST, (int32_t)K);
    rfn_plan_param(n, "R", RFN_PARAM_CONST, a->table.shape[0]);
    rfn_plan_param(n, "W", RFN_PARAM_CONST, a->table.shape[1]);
    rfn_plan_param(n, "page_tokens", RFN_PARAM_CONST, P);
    rfn_plan_param(n, "page_tokens.bits", RFN_PARAM_CONST,
                   P > 0 && (P & (P - 1)) == 0 ? __builtin_ctz((uint32_t)P) : -1);
    rfn_plan_param(n, "pages", RFN_PARAM_CONST, a->pages);
    rfn_plan_param(n, "fault", RFN_PARAM_CONST, check ? env->fault : NULL);
    rfn_plan_param(n, "fault.op", RFN_PARAM_CONST, check ? "index_topk" : NULL);
    rfn_plan_param(n, "fault.table", RFN_PARAM_CONST, check ? "table" : NULL);
    rfn_plan_param(n, "fault.request", RFN_PARAM_CONST, check ? "request" : NULL);
    rfn_plan_bounds_own(n, env, rfn_bounds_of_topk(a));
    return RFN_OK;
}
}
