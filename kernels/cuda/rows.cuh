/* Live rows, slots, and where a slot lies in a paged pool. */
#ifndef RFN_KERNELS_CUDA_ROWS_CUH
#define RFN_KERNELS_CUDA_ROWS_CUH

#include "kernels/cuda/scan.cuh"

#include <refrain/op.h>

/* Rows that are alive, read when the kernel runs. */
static __device__ __forceinline__ int64_t rfn_live_rows_cuda(const int32_t *live,
                                                             int64_t rows)
{
    if (!live)
        return rows;
    int64_t n = *live;
    return n < 0 ? 0 : n < rows ? n : rows;
}

/* Addresses in a pool, for both kinds of formats: a token's data row and its scales. */
struct rfn_pool_map
{
    int64_t slots;
    int64_t page_stride; /* bytes, all of them */
    int64_t scale_at;    /* from the page's start to the scales of its first token */
    int32_t page_tokens;
    int32_t data_step;
    int32_t scale_step;
};

static inline struct rfn_pool_map rfn_pool_map_of(const struct rfn_pool *pool)
{
    const struct rfn_format_info *info = rfn_format_query(pool->format);
    struct rfn_pool_map map = {};
    map.slots = pool->pages * pool->page_tokens;
    map.page_stride = pool->page_stride_bytes
                          ? pool->page_stride_bytes
                          : rfn_format_page_bytes(pool->format, pool->page_tokens);
    map.scale_at = info->scale_offset;
    if (info->planar)
        map.scale_at += (int64_t)pool->page_tokens * info->data_bytes;
    map.page_tokens = pool->page_tokens;
    map.data_step = info->data_bytes;
    map.scale_step = info->planar ? info->scale_bytes : info->data_bytes;
    return map;
}

/* Where a slot of the pool lies. */
struct rfn_token_cuda
{
    unsigned char *data;
    unsigned char *scales;
};

static __device__ __forceinline__ struct rfn_token_cuda rfn_pool_token_cuda(
    unsigned char *pool, const struct rfn_pool_map &map, int64_t slot)
{
    int64_t page = slot / map.page_tokens;
    int64_t offset = slot - page * map.page_tokens;
    unsigned char *base = pool + page * map.page_stride;
    struct rfn_token_cuda ret = { base + offset * map.data_step,
                                  base + map.scale_at + offset * map.scale_step };
    return ret;
}

/* For planners: what rfn_slot_of_row counts in 32 bits. No GPU has room for more. */
static inline bool rfn_slots_fit(int64_t rows, const struct rfn_pool_map &map)
{
    return rows <= INT32_MAX / 2 && map.slots <= UINT32_MAX;
}

/* Bit i: this later slot is that of row i of the block. */
template <int32_t ROWS>
static __device__ __forceinline__ uint32_t rfn_slot_rows(int64_t later,
                                                         const uint32_t (&key)[ROWS])
{
    uint32_t low = (uint32_t)later;
    uint32_t ret = 0;
    bool same = false;
#pragma unroll
    for (int32_t i = 0; i < ROWS; i++)
        same |= low == key[i];
    /* A slot of the pool has nothing above 32 bits. */
    if (same && (uint32_t)(later >> 32) == 0)
    {
#pragma unroll
        for (int32_t i = 0; i < ROWS; i++)
            ret |= low == key[i] ? 1u << i : 0u;
    }
    return ret;
}

/* The slot of row `own` (0 .. ROWS-1) of a block whose first row is `first`. Of two rows with
 * one slot the later wins, as on the host: *ret_taken tells whether a later live row has the
 * slot. The block looks through all later rows, T * T / 2 comparisons in a launch. All of its
 * THREADS threads come here, once; `live` is read meanwhile. */
template <int32_t ROWS, int32_t THREADS>
static __device__ __forceinline__ int64_t rfn_slot_of_row(const int64_t *slots,
                                                          int32_t first, int32_t T,
                                                          int32_t live, int32_t own,
                                                          bool *ret_taken)
{
    constexpr int32_t AHEAD = 4; /* loads in flight a thread */
    __shared__ uint32_t taken;
    int32_t lane = threadIdx.x % 32;
    int64_t mine = lane < ROWS && first + lane < T ? slots[first + lane] : -1;
    int32_t t = first + ROWS + (int32_t)threadIdx.x;
    int64_t next = t < T ? slots[t] : -1; /* all there is, in most launches */

    uint32_t key[ROWS];
#pragma unroll
    for (int32_t i = 0; i < ROWS; i++)
        key[i] = __shfl_sync(RFN_ALL_LANES, (uint32_t)mine, i);
    uint32_t rows = 0;
    if (lane < ROWS && first + lane < live)
        rows = rfn_slot_rows<ROWS>(mine, key) & ((1u << lane) - 1);
    if (t < live)
        rows |= rfn_slot_rows<ROWS>(next, key);
    for (t += THREADS; t < live; t += AHEAD * THREADS)
    {
        int64_t later[AHEAD];
#pragma unroll
        for (int32_t k = 0; k < AHEAD; k++)
            later[k] = t + k * THREADS < live ? slots[t + k * THREADS] : -1;
#pragma unroll
        for (int32_t k = 0; k < AHEAD; k++)
            rows |= rfn_slot_rows<ROWS>(later[k], key);
    }
    *ret_taken = false;
    if (__syncthreads_or(rows != 0))
    {
        if (threadIdx.x == 0)
            taken = 0;
        __syncthreads();
        if (rows)
            atomicOr(&taken, rows);
        __syncthreads();
        *ret_taken = taken >> own & 1;
    }
    return __shfl_sync(RFN_ALL_LANES, mine, own);
}

#endif
