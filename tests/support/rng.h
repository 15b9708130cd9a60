/* Seeded random numbers: xoshiro256** filled by splitmix64 (Blackman, Vigna). */
#ifndef TEST_RNG_H
#define TEST_RNG_H

#include <math.h>
#include <stdint.h>

struct rng
{
    uint64_t s[4];
};

static inline uint64_t rng_split(uint64_t *x)
{
    uint64_t z = (*x += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static inline struct rng rng_of(uint64_t seed)
{
    struct rng r;
    for (int i = 0; i < 4; i++)
        r.s[i] = rng_split(&seed);
    return r;
}

static inline uint64_t rng_u64(struct rng *r)
{
    uint64_t *s = r->s, x = s[1] * 5, t = s[1] << 17;
    uint64_t result = (x << 7 | x >> 57) * 9;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = s[3] << 45 | s[3] >> 19;
    return result;
}

/* 0 .. n-1, n >= 1; the bias is below 2^-32 for the sizes of tests. */
static inline int64_t rng_below(struct rng *r, int64_t n)
{
    return (int64_t)((rng_u64(r) >> 1) % (uint64_t)n);
}

static inline int64_t rng_between(struct rng *r, int64_t low, int64_t high)
{
    return low + rng_below(r, high - low + 1);
}

/* [0, 1) */
static inline double rng_unit(struct rng *r)
{
    return (double)(rng_u64(r) >> 11) * 0x1p-53;
}

/* Normal enough: four uniforms, mean 0, variance 1. */
static inline float rng_normal(struct rng *r)
{
    double sum = rng_unit(r) + rng_unit(r) + rng_unit(r) + rng_unit(r) - 2.0;
    return (float)(sum * 1.7320508);
}

#endif
