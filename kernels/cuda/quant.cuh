/* Quantising groups of bf16 values to e4m3, byte for byte as kernels/quant.h does. A lane
 * holds 16 neighbours; the lanes of a group lie side by side in a warp. */
#ifndef RFN_KERNELS_CUDA_QUANT_CUH
#define RFN_KERNELS_CUDA_QUANT_CUH

#include "kernels/cuda/scan.cuh"
#include "kernels/num.h"

#include <refrain/ops.h>

#define RFN_QUANT_ELEMS 16 /* a lane */

/* How the groups of a launch are scaled. */
struct rfn_scaling_cuda
{
    int32_t ue8m0;
    int32_t on_amax; /* the floor; else on the scale */
    float floor;
};

struct rfn_bf16x16
{
    uint4 low; /* the first eight; the first of a word in its low half */
    uint4 high;
};

static __device__ __forceinline__ struct rfn_bf16x16 rfn_bf16x16_load(const uint16_t *x)
{
    struct rfn_bf16x16 ret = { ((const uint4 *)x)[0], ((const uint4 *)x)[1] };
    return ret;
}

/* The largest magnitude of a group of LANES lanes, as bf16 bits: a NaN is above the
 * infinities and so survives. All lanes of the warp come here. */
template <uint32_t LANES>
static __device__ __forceinline__ uint32_t rfn_group_largest(const struct rfn_bf16x16 &x)
{
    const uint32_t word[8] = { x.low.x,  x.low.y,  x.low.z,  x.low.w,
                               x.high.x, x.high.y, x.high.z, x.high.w };
    uint32_t two = 0;
#pragma unroll
    for (uint32_t i = 0; i < 8; i++)
        two = __vmaxu2(two, word[i] & 0x7fff7fffu);
    uint32_t largest = max(two & 0xffffu, two >> 16);
#pragma unroll
    for (uint32_t step = LANES / 2; step; step /= 2)
        largest = max(largest, __shfl_xor_sync(RFN_ALL_LANES, largest, (int)step));
    return largest;
}

/* Exponent byte of the smallest power of two >= x, for x > 0; 255 for infinity and NaN. */
static __device__ __forceinline__ uint32_t rfn_ue8m0_up_cuda(float x)
{
    uint32_t u = __float_as_uint(x) & 0x7fffffffu;
    return min((u >> 23) + ((u & 0x7fffffu) != 0), 255u);
}

/* The scale of a group: IEEE division, NaN for a NaN, infinite for an infinity. */
static __device__ __forceinline__ float rfn_group_scale(
    uint32_t largest, const struct rfn_scaling_cuda &how)
{
    if (largest > 0x7f80u)
        return __uint_as_float(RFN_F32_NAN_BITS);
    float amax = __uint_as_float(largest << 16);
    if (how.on_amax)
        amax = amax > how.floor ? amax : how.floor;
    float scale = __fdiv_rn(amax, RFN_E4M3_MAX);
    if (!how.on_amax)
        scale = scale > how.floor ? scale : how.floor;
    return how.ue8m0 ? __uint_as_float(rfn_ue8m0_up_cuda(scale) << 23) : scale;
}

/* To nearest even, saturated to +-448; every NaN becomes 0x7f. */
static __device__ __forceinline__ uint32_t rfn_e4m3_cuda(float x)
{
    uint32_t u = __float_as_uint(x);
    uint32_t sign = u >> 24 & 0x80u;
    u &= 0x7fffffffu;
    uint32_t small =
        __float_as_uint(__fadd_rn(__uint_as_float(u), 0x1p14f)) - 0x46800000u;
    uint32_t large = (u + 0x7ffffu + (u >> 20 & 1u) - (120u << 23)) >> 20;
    uint32_t q = u < 0x3c800000u ? small : large;
    q = (u >= 0x43e00000u ? 0x7eu : q) | sign;
    return u > 0x7f800000u ? RFN_E4M3_NAN : q;
}

static __device__ __forceinline__ uint32_t rfn_e4m3x2_cuda(float low, float high)
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 890
    uint16_t ret;
    asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(ret) : "f"(high), "f"(low));
    return ret;
#else
    return rfn_e4m3_cuda(low) | rfn_e4m3_cuda(high) << 8;
#endif
}

/* What a group is divided by. The quotient of an IEEE division, without its branches: both
 * sides are moved by a power of two until the scale lies in [1, 2); the reciprocal is rounded
 * to nearest, the quotient once mended is off by less than a unit, and mended twice it is the
 * nearest (Markstein). Quotients too small for that to hold are far below the half of e4m3's
 * least value and become the zero they have to be. */
struct rfn_divisor
{
    float shift; /* power of two; 0 for an infinite scale, NaN for a NaN */
    float near;  /* the scale, in [1, 2) */
    float inverse;
};

/* Of a scale that is normal, infinite or NaN: every floor is at least FLT_MIN. */
static __device__ __forceinline__ struct rfn_divisor rfn_divisor_of(float scale)
{
    uint32_t u = __float_as_uint(scale);
    uint32_t e = u >> 23;
    bool finite = e < 255;
    struct rfn_divisor ret;
    ret.shift = __uint_as_float(e == 254 ? 0x00400000u : (254 - e) << 23);
    if (!finite)
        ret.shift = isnan(scale) ? scale : 0.0f;
    ret.near = finite ? __uint_as_float((u & 0x7fffffu) | 0x3f800000u) : 1.0f;
    ret.inverse = __frcp_rn(ret.near);
    return ret;
}

static __device__ __forceinline__ float rfn_quotient(float x,
                                                     const struct rfn_divisor &by)
{
    float a = __fmul_rn(x, by.shift);
    float q = __fmul_rn(a, by.inverse);
    q = __fmaf_rn(__fmaf_rn(-by.near, q, a), by.inverse, q);
    q = __fmaf_rn(__fmaf_rn(-by.near, q, a), by.inverse, q);
    return copysignf(q, x); /* the remainder of -0 is +0 */
}

/* Four values out of two words. */
static __device__ __forceinline__ uint32_t rfn_quantise4(uint32_t a, uint32_t b,
                                                         const struct rfn_divisor &by)
{
    uint32_t low = rfn_e4m3x2_cuda(rfn_quotient(__uint_as_float(a << 16), by),
                                   rfn_quotient(__uint_as_float(a & 0xffff0000u), by));
    uint32_t high = rfn_e4m3x2_cuda(rfn_quotient(__uint_as_float(b << 16), by),
                                    rfn_quotient(__uint_as_float(b & 0xffff0000u), by));
    return low | high << 16;
}

static __device__ __forceinline__ uint4 rfn_quantise16(const struct rfn_bf16x16 &x,
                                                       float scale)
{
    struct rfn_divisor by = rfn_divisor_of(scale);
    return make_uint4(
        rfn_quantise4(x.low.x, x.low.y, by), rfn_quantise4(x.low.z, x.low.w, by),
        rfn_quantise4(x.high.x, x.high.y, by), rfn_quantise4(x.high.z, x.high.w, by));
}

#endif
