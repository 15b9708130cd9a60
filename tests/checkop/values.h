/* Values and slots that the quantising ops are tried on. */
#ifndef CHECKOP_VALUES_H
#define CHECKOP_VALUES_H

#include "tests/checkop/reference.h"
#include "tests/support/rng.h"

#include <math.h>

enum values
{
    NORMAL,
    ZERO,       /* of both signs */
    TINY,       /* below every floor, bf16 subnormals among them */
    HUGE_ONES,  /* up to the largest bf16 */
    MIDPOINTS,  /* amax 448, so that scale is 1: codes of e4m3 and points between two */
    BOUNDARIES, /* amax next to powers of two times 448: ue8m0 must round up, or not */
    TIED,       /* x / scale is a tie but for the rounding of scale: 3A to an amax of A */
    INFINITE,   /* an infinity in some groups */
    NANS,       /* a NaN in some groups */
    ANY_BITS,
};

enum slots
{
    SHUFFLED,
    SOME_NEGATIVE,
    ALL_NEGATIVE,
    SOME_PAST, /* at and past the end of the pool */
    DUPLICATES,
    LAST, /* the last slots of the pool */
};

/* Element i of row t. */
static inline uint16_t value(struct rng *r, enum values kind, int i, int t)
{
    uint16_t any = (uint16_t)rng_u64(r);
    switch (kind)
    {
    case ZERO:
        return any & 0x8000;
    case TINY:
        return (any & 0x80ff) + (rng_below(r, 4) == 0 ? 0x0200 : 0);
    case HUGE_ONES:
        return (any & 0x8000) | (uint16_t)rng_between(r, 0x7e00, 0x7f7f);
    case MIDPOINTS:
        if (i % 64 == 0)
            return ref_bf16_code(448);
        if (rng_below(r, 2))
            return ref_bf16_code(ref_e4m3_value((uint8_t)rng_below(r, 127)));
        any = (uint16_t)rng_below(r, 126);
        return ref_bf16_code(
            (ref_e4m3_value((uint8_t)any) + ref_e4m3_value((uint8_t)(any + 1))) / 2);
    case BOUNDARIES:
        /* 448 * 2^e and its neighbours: 0x43e0 is 448. */
        if (i % 64 == 0)
            return (uint16_t)(0x43e0 + (t % 7 - 3) + 128 * (t % 21 - 10));
        return (any & 0x8000) | (0x3000 + (any & 0x03ff));
    case TIED:
        any = (uint16_t)(2 * ((t * 7 + i / 64 * 11) % 41) + 3); /* odd, 3A has 8 bits */
        return ref_bf16_code(i % 64 == 0 ? any : ldexp(3 * any, -1 - i % 12));
    case INFINITE:
        if (rng_below(r, 200) == 0)
            return 0x7f80 | (any & 0x8000);
        break;
    case NANS:
        if (rng_below(r, 200) == 0)
            return 0x7f81 | any;
        break;
    case ANY_BITS:
        return any;
    default:
        break;
    }
    return ref_bf16_code(rng_normal(r) * (i % 64 == 5 ? 8 : 1));
}

/* Of n in all; rows at and past `live` name places that must not be written. */
static inline void fill_slots(struct rng *r, enum slots kind, int T, int live, int64_t n,
                              int64_t *slot)
{
    /* A permutation of the pool: a step that is prime to it. */
    int64_t step = 1;
    for (int64_t s = n / 3 + 1; s < n && step == 1; s++)
        if (s % 2 && s % 3 && s % 5 && s % 7 && s % 41 && s % 43)
            step = s;
    for (int t = 0; t < T; t++)
    {
        slot[t] = (t * step + 7) % n;
        int odd = rng_below(r, 4) == 0;
        if (kind == ALL_NEGATIVE || (kind == SOME_NEGATIVE && odd))
            slot[t] = -1 - rng_below(r, 3) * (int64_t)1000000007;
        if (kind == SOME_PAST && odd)
            slot[t] = n + rng_below(r, 3) * ((int64_t)1 << 40);
        if (kind == DUPLICATES)
            slot[t] = rng_below(r, n < 5 ? n : 5) * (n / 5);
        if (kind == LAST)
            slot[t] = n - 1 - t;
        if (t >= live)
            slot[t] = t;
    }
}

#endif
