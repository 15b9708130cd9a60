#include "tools/quant.h"
#include <float.h>
#include <math.h>
#include <string.h>

#define GROUP 128 /* elements that share a scale */
#define E4M3_MAX 448.0f
#define UE8M0_FLOOR 1e-4f /* on the scale of latent groups */
#define INDEX_FLOOR 1e-4f /* on the largest magnitude */

double quant_bf16(uint16_t bits)
{
    uint32_t word = (uint32_t)bits << 16;
    float value;
    memcpy(&value, &word, sizeof(value));
    return value;
}

uint8_t quant_e4m3(float x)
{
    uint8_t sign = signbit(x) ? 0x80 : 0;
    double a = fabs((double)x);
    if (isnan(x))
    {
        return sign | 0x7f;
    }
    if (a >= E4M3_MAX)
    {
        return sign | 0x7e;
    }
    int exponent = 0;
    frexp(a, &exponent); /* a = m * 2^exponent, m in [0.5, 1) */
    exponent = a == 0 || exponent - 1 < -6 ? -6 : exponent - 1;
    /* Steps of 2^(exponent - 3): 8..15 for normal numbers, 0..7 for subnormal ones. The
     * division is exact, so nearbyint rounds once. */
    int steps = (int)nearbyint(ldexp(a, 3 - exponent));
    if (steps == 16)
    {
        steps = 8;
        exponent++;
    }
    int code = steps < 8 ? steps : (exponent + 7) * 8 + steps - 8;
    return sign | (uint8_t)code;
}

double quant_e4m3_value(uint8_t code)
{
    int exponent = (code >> 3) & 15;
    int mantissa = code & 7;
    double value =
        exponent == 0 ? ldexp(mantissa, -9) : ldexp(8 + mantissa, exponent - 10);
    if ((code & 0x7f) == 0x7f)
    {
        value = NAN;
    }
    return (code & 0x80) != 0 ? -value : value;
}

static float power_of_two(float scale)
{
    int exponent = 0;
    float mantissa = frexpf(scale, &exponent);
    return mantissa == 0.5f ? scale : ldexpf(1.0f, exponent);
}

static float largest(const uint16_t row[GROUP])
{
    float amax = 0;
    for (int i = 0; i < GROUP; i++)
    {
        amax = fmaxf(amax, fabsf((float)quant_bf16(row[i])));
    }
    return amax;
}

static void encode(const uint16_t row[GROUP], float scale, uint8_t ret_codes[GROUP],
                   double ret_values[GROUP])
{
    for (int i = 0; i < GROUP; i++)
    {
        ret_codes[i] = quant_e4m3((float)quant_bf16(row[i]) / scale);
        ret_values[i] = quant_e4m3_value(ret_codes[i]);
    }
}

void quant_latent(const uint16_t row[QUANT_KEY], enum rfn_scale scale,
                  uint8_t ret_bytes[QUANT_LATENT_BYTES], double ret_key[QUANT_KEY])
{
    for (int group = 0; group < QUANT_LATENT / GROUP; group++)
    {
        int first = group * GROUP;
        float s = largest(row + first) / E4M3_MAX;
        s = scale == RFN_SCALE_UE8M0 ? power_of_two(fmaxf(s, UE8M0_FLOOR))
                                     : fmaxf(s, FLT_MIN);
        encode(row + first, s, ret_bytes + first, ret_key + first);
        for (int i = first; i < first + GROUP; i++)
        {
            ret_key[i] *= (double)s;
        }
        memcpy(ret_bytes + QUANT_LATENT + 4 * group, &s, sizeof(s));
    }
    memcpy(ret_bytes + QUANT_LATENT_BYTES - 2 * QUANT_ROPE, row + QUANT_LATENT,
           QUANT_ROPE * sizeof(row[0]));
    for (int i = QUANT_LATENT; i < QUANT_KEY; i++)
    {
        ret_key[i] = quant_bf16(row[i]);
    }
}

float quant_index(const uint16_t row[QUANT_INDEX], enum rfn_scale scale,
                  uint8_t ret_codes[QUANT_INDEX], double ret_values[QUANT_INDEX])
{
    float s = fmaxf(largest(row), INDEX_FLOOR) / E4M3_MAX;
    s = scale == RFN_SCALE_UE8M0 ? power_of_two(s) : s;
    encode(row, s, ret_codes, ret_values);
    return s;
}
