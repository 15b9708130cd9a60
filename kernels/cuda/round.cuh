/* Eight f32 values out of and into memory, as bf16 or as they are. */
#ifndef RFN_KERNELS_CUDA_ROUND_CUH
#define RFN_KERNELS_CUDA_ROUND_CUH

#include <stdint.h>

/* To nearest even; the first in the low half. Every NaN becomes 0x7fff. */
static __device__ __forceinline__ uint32_t rfn_bf16x2(float low, float high)
{
    uint32_t ret;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(ret) : "f"(high), "f"(low));
    return ret;
}

/* The first `elems` of eight; all eight go in one store, to an aligned address. */
static __device__ __forceinline__ void rfn_bf16x8_store(uint16_t *to, const uint4 &x,
                                                        int32_t elems)
{
    if (elems >= 8)
    {
        *(uint4 *)to = x;
        return;
    }
    const uint32_t word[4] = { x.x, x.y, x.z, x.w };
#pragma unroll
    for (int32_t i = 0; i < 8; i++)
    {
        if (i < elems)
            to[i] = (uint16_t)(word[i / 2] >> 16 * (i % 2));
    }
}

#endif
