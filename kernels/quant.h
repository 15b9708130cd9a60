/* Quantising one group of bf16 values to e4m3 with one scale, byte-exact. */
#ifndef RFN_KERNELS_QUANT_H
#define RFN_KERNELS_QUANT_H

#include "kernels/num.h"
#include "kernels/op.h"

#include <float.h>
#include <math.h>

#define RFN_INDEX_FLOOR 1e-4f /* DeepSeek: on amax, of indexer keys and queries */

/* How the groups of one run are scaled; `on` is never RFN_FLOOR_DEFAULT here. */
struct rfn_scaling
{
    int ue8m0;
    enum rfn_floor on;
    float floor;
};

/* Scale and floor fields as a caller may give them. */
static inline enum rfn_status rfn_scaling_check(enum rfn_scale scale,
                                                enum rfn_floor floor_on, float floor)
{
    if (scale != RFN_SCALE_F32 && scale != RFN_SCALE_UE8M0)
        return RFN_FAIL(RFN_INVALID, "scale: %d, but f32 is %d and ue8m0 is %d",
                        (int)scale, RFN_SCALE_F32, RFN_SCALE_UE8M0);
    float unit = floor_on == RFN_FLOOR_AMAX ? RFN_E4M3_MAX : 1.0f;
    switch (floor_on)
    {
    case RFN_FLOOR_DEFAULT:
        break;
    case RFN_FLOOR_SCALE:
    case RFN_FLOOR_AMAX:
        /* A scale of 0 would turn an all-zero group into NaN. */
        if (!(floor / unit >= FLT_MIN) || isinf(floor))
            return RFN_FAIL(RFN_INVALID,
                            "floor: a least scale of %g, but %g .. is needed",
                            (double)(floor / unit), (double)FLT_MIN);
        break;
    default:
        return RFN_FAIL(RFN_INVALID, "floor_on: %d, but 0 .. %d are known", (int)floor_on,
                        RFN_FLOOR_AMAX);
    }
    return RFN_OK;
}

/* Quantises one group and returns its scale. A NaN makes scale and bytes NaN; an infinity
 * makes the scale infinite (as an exponent byte 255, NaN), its own byte NaN, the others 0. */
static inline float rfn_quantise_group(const uint16_t *x, int n, struct rfn_scaling how,
                                       uint8_t *ret_q)
{
    /* amax on the bits: a NaN is above the infinities and so survives as the largest. */
    uint32_t largest = 0;
#pragma omp simd reduction(max : largest)
    for (int i = 0; i < n; i++)
    {
        uint32_t u = x[i] & 0x7fffu;
        largest = u > largest ? u : largest;
    }
    float amax = rfn_bf16_to_f32((uint16_t)largest), scale;
    if (isnan(amax))
        scale = rfn_f32_from_bits(RFN_F32_NAN_BITS);
    else if (how.on == RFN_FLOOR_AMAX)
        scale = (amax > how.floor ? amax : how.floor) / RFN_E4M3_MAX;
    else
    {
        scale = amax / RFN_E4M3_MAX;
        scale = scale > how.floor ? scale : how.floor;
    }
    if (how.ue8m0 && !isnan(scale))
        scale = rfn_f32_from_bits((uint32_t)rfn_f32_to_ue8m0_up(scale) << 23);
#pragma omp simd
    for (int i = 0; i < n; i++)
        ret_q[i] = rfn_f32_to_e4m3(rfn_bf16_to_f32(x[i]) / scale);
    return scale;
}

#endif
