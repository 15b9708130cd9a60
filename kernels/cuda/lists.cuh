/*
 * Lists of tiles: every block goes through all requests, a thread a request, and writes its
 * own stretch of the list. So no block waits for another, and the grid follows from the room
 * in the lists alone.
 */
#ifndef RFN_KERNELS_CUDA_LISTS_CUH
#define RFN_KERNELS_CUDA_LISTS_CUH

#include "kernels/lists.h"

#define RFN_LIST_THREADS 512
#define RFN_LIST_WARPS (RFN_LIST_THREADS / 32)
#define RFN_LIST_ALL 0xffffffffu

struct rfn_list_shared
{
    int64_t warp[RFN_LIST_WARPS];
    int32_t end[RFN_LIST_THREADS]; /* of each request's tiles; stops at 2^31 - 1 */
};

/* Sum over this thread's value and those of the threads before it; *ret_total over all. Two
 * barriers; `warp` may be used again behind the next one. */
static __device__ __forceinline__ int64_t rfn_list_sum_to(int64_t value, int64_t *warp,
                                                          int64_t *ret_total)
{
    int32_t lane = (int32_t)threadIdx.x % 32;
#pragma unroll
    for (int32_t step = 1; step < 32; step *= 2)
    {
        int64_t left = __shfl_up_sync(RFN_LIST_ALL, value, (unsigned)step);
        value += lane >= step ? left : 0;
    }
    __syncthreads();
    if (lane == 31)
        warp[threadIdx.x / 32] = value;
    __syncthreads();
    int64_t before = 0, total = 0;
#pragma unroll
    for (int32_t w = 0; w < RFN_LIST_WARPS; w++)
    {
        before += w < (int32_t)threadIdx.x / 32 ? warp[w] : 0;
        total += warp[w];
    }
    *ret_total = total;
    return before + value;
}

/* The tiles of requests [0, requests), `tiles(b)` each, into this block's stretch of `room`
 * pairs; -1 behind the last. Returns how many are due. All threads of the block come here. */
template <class Tiles>
static __device__ __forceinline__ int64_t rfn_list_write(int2 *pair, int32_t room,
                                                         int32_t requests, Tiles tiles,
                                                         struct rfn_list_shared *shared)
{
    int64_t lo = (int64_t)room * blockIdx.x / gridDim.x;
    int64_t hi = (int64_t)room * (blockIdx.x + 1) / gridDim.x;
    int64_t before = 0;
    /* Block 0 counts all; the others are done when their stretch is full. */
    for (int64_t from = 0; from < requests && (before < hi || blockIdx.x == 0);
         from += RFN_LIST_THREADS)
    {
        int64_t b = from + threadIdx.x;
        int64_t total;
        int64_t to =
            before + rfn_list_sum_to(b < requests ? tiles(b) : 0, shared->warp, &total);
        shared->end[threadIdx.x] = to < INT32_MAX ? (int32_t)to : INT32_MAX;
        __syncthreads();
        int64_t begin = lo > before ? lo : before;
        int64_t end = hi < before + total ? hi : before + total;
        for (int64_t p = begin + threadIdx.x; p < end; p += RFN_LIST_THREADS)
        {
            /* The first request whose tiles end behind p. */
            int32_t left = 0, right = RFN_LIST_THREADS - 1;
            while (left < right)
            {
                int32_t middle = (left + right) / 2;
                if (shared->end[middle] > p)
                    right = middle;
                else
                    left = middle + 1;
            }
            int64_t start = left ? shared->end[left - 1] : before;
            pair[p] = make_int2((int32_t)from + left, (int32_t)(p - start));
        }
        before += total;
    }
    int64_t begin = lo > before ? lo : before;
    for (int64_t p = begin + threadIdx.x; p < hi; p += RFN_LIST_THREADS)
        pair[p] = make_int2(-1, -1);
    return before;
}

/* For planners: blocks for this much room, at most one an SM. */
static inline uint32_t rfn_list_blocks(int64_t room, int32_t sm_count)
{
    int64_t blocks = (room + 4 * RFN_LIST_THREADS - 1) / (4 * RFN_LIST_THREADS);
    blocks = blocks < sm_count ? blocks : sm_count;
    return blocks > 1 ? (uint32_t)blocks : 1u;
}

#endif
