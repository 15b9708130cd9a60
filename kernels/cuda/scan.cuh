/* Prefix sums over the lanes of a warp and the threads of a block of 1024. */
#ifndef RFN_KERNELS_CUDA_SCAN_CUH
#define RFN_KERNELS_CUDA_SCAN_CUH

#include <stdint.h>

#define RFN_ALL_LANES 0xffffffffu

/* Sum of this lane's value and those of the lanes before it. */
static __device__ __forceinline__ uint32_t rfn_warp_sum_to(uint32_t value, uint32_t lane)
{
#pragma unroll
    for (uint32_t step = 1; step < 32; step *= 2)
    {
        uint32_t left = __shfl_up_sync(RFN_ALL_LANES, value, step);
        value += lane >= step ? left : 0;
    }
    return value;
}

/* Sum over the warps before this one; *ret_total over all 32. `total` is this warp's and
 * known to its last lane. One barrier: the caller alternates between two `shared[32]`. */
static __device__ __forceinline__ uint32_t rfn_block_sum_before(uint32_t total,
                                                                uint32_t *shared,
                                                                uint32_t *ret_total)
{
    uint32_t lane = threadIdx.x % 32;
    uint32_t warp = threadIdx.x / 32;
    if (lane == 31)
        shared[warp] = total;
    __syncthreads();
    uint32_t own = shared[lane];
    uint32_t to = rfn_warp_sum_to(own, lane);
    *ret_total = __shfl_sync(RFN_ALL_LANES, to, 31);
    return __shfl_sync(RFN_ALL_LANES, to - own, (int)warp);
}

#endif
