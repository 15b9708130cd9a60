/* Small number formats: bf16, e4m3, ue8m0. Exact, branch-poor, fit for vectorising. */
#ifndef RFN_KERNELS_NUM_H
#define RFN_KERNELS_NUM_H

#include <stdint.h>
#include <string.h>

#define RFN_E4M3_MAX 448.0f
#define RFN_E4M3_NAN 0x7fu
#define RFN_UE8M0_NAN 255u
#define RFN_F32_NAN_BITS 0x7fc00000u

static inline uint32_t rfn_f32_bits(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

static inline float rfn_f32_from_bits(uint32_t u)
{
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

/* By mask: a branch, even one that a compiler makes, would keep loops from vectorising. */
static inline uint32_t rfn_select(int condition, uint32_t yes, uint32_t no)
{
    uint32_t mask = 0u - (uint32_t)condition;
    return (yes & mask) | (no & ~mask);
}

static inline float rfn_bf16_to_f32(uint16_t b)
{
    return rfn_f32_from_bits((uint32_t)b << 16);
}

/* Round to nearest even; a NaN stays a NaN (quiet, its sign and top payload kept). */
static inline uint16_t rfn_f32_to_bf16(float x)
{
    uint32_t u = rfn_f32_bits(x);
    uint32_t rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
    uint32_t nan = (u >> 16) | 0x40u;
    return (uint16_t)rfn_select((u & 0x7fffffffu) > 0x7f800000u, nan, rounded);
}

/* e4m3 "fn": bias 7, subnormals, no infinities, S.1111.111 is NaN. The seven bits go to the
 * top of an f32 whose exponent is 120 larger; a subnormal has by then been given a leading
 * one, which is taken off again: 2 * 1.m * 2^-7 - 2^-6 = 0.m * 2^-6. No f32 subnormal comes
 * up on the way: those are slow. */
static inline float rfn_e4m3_to_f32(uint8_t b)
{
    uint32_t low = b & 0x7fu, u = (low << 20) + (120u << 23);
    float x = rfn_f32_from_bits(u);
    uint32_t subnormal = rfn_f32_bits(x + x - 0x1p-6f);
    u = rfn_select(low < 8u, subnormal, u);
    u = rfn_select(low == 0x7fu, RFN_F32_NAN_BITS, u);
    return rfn_f32_from_bits(u | (uint32_t)(b & 0x80u) << 24);
}

/* Round to nearest even, saturated to +-448 (infinities too); every NaN becomes 0x7f, as
 * cvt.rn.satfinite.e4m3x2.f32 does. Below 2^-6 the sum with 2^14 rounds to units of 2^-9. */
static inline uint8_t rfn_f32_to_e4m3(float x)
{
    uint32_t u = rfn_f32_bits(x), sign = u >> 24 & 0x80u;
    u &= 0x7fffffffu;
    uint32_t small = rfn_f32_bits(rfn_f32_from_bits(u) + 0x1p14f) - 0x46800000u;
    uint32_t large = (u + 0x7ffffu + (u >> 20 & 1u) - (120u << 23)) >> 20;
    uint32_t q = rfn_select(u < 0x3c800000u, small, large);
    q = rfn_select(u >= 0x43e00000u, 0x7eu, q) | sign;
    return (uint8_t)rfn_select(u > 0x7f800000u, RFN_E4M3_NAN, q);
}

/* Exponent byte of the smallest power of two >= x, for x > 0; an infinity and a NaN give
 * 255, which ue8m0 reads as NaN. */
static inline uint8_t rfn_f32_to_ue8m0_up(float x)
{
    uint32_t u = rfn_f32_bits(x) & 0x7fffffffu;
    uint32_t e = (u >> 23) + ((u & 0x7fffffu) != 0);
    return (uint8_t)(e > 255u ? 255u : e);
}

static inline float rfn_ue8m0_to_f32(uint8_t e)
{
    uint32_t u = e == 0 ? 0x00400000u : (uint32_t)e << 23;
    return rfn_f32_from_bits(e == RFN_UE8M0_NAN ? RFN_F32_NAN_BITS : u);
}

#endif
