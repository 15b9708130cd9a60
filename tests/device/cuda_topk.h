/* What the checks of index_topk and its times share: shapes, contents of rows. */
#ifndef TESTS_DEVICE_CUDA_TOPK_H
#define TESTS_DEVICE_CUDA_TOPK_H

#include "tests/device/cuda_buffer.h"
#include "tests/support/rng.h"

#include <math.h>
#include <refrain/device.h>
#include <refrain/ops.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REQUESTS 5
#define PAGE_TOKENS 64

static uint64_t seed = 1;

/* ---- one shape ------------------------------------------------------------------- */

struct shape
{
    int64_t rows;
    int64_t pad; /* elements between rows of logits: with 3 rows begin on any 4 bytes */
    int64_t S;
    int64_t K;
    int64_t W;
    int64_t pages;
    struct buffer logits, lens, live, table, request, slots, positions;
};

static struct shape shape_of(int64_t rows, int64_t S, int64_t K, int64_t pad)
{
    struct shape s = { .rows = rows, .pad = pad, .S = S, .K = K };
    s.W = (S + PAGE_TOKENS - 1) / PAGE_TOKENS;
    s.pages = REQUESTS * s.W + 1;
    s.logits = buffer_of(4 * rows * (S + pad));
    s.lens = buffer_of(4 * rows);
    s.live = buffer_of(4);
    s.table = buffer_of(4 * REQUESTS * (s.W + 1));
    s.request = buffer_of(4 * rows);
    s.slots = buffer_of(4 * rows * (K + 1));
    s.positions = buffer_of(4 * rows * K);
    return s;
}

static void shape_free(struct shape *s)
{
    struct buffer *all[] = { &s->logits,  &s->lens,  &s->live,     &s->table,
                             &s->request, &s->slots, &s->positions };
    for (int i = 0; i < 7; i++)
        buffer_free(all[i]);
}

static struct rfn_tensor view(void *data, enum rfn_dtype dtype, int64_t rows,
                              int64_t width, int64_t stride)
{
    struct rfn_tensor v = rfn_tensor_of(data, dtype, rows, width, 0, 0);
    if (width)
        v.stride[0] = stride;
    return v;
}

/* `which`: bit 0 slots, bit 1 positions. */
static struct rfn_index_topk_args args_of(const struct shape *s, int on_device, int which,
                                          int live)
{
    int64_t rows = s->rows;
#define SIDE(b) (on_device ? s->b.device : s->b.host)
    struct rfn_index_topk_args a = {
        .logits = view(SIDE(logits), RFN_F32, rows, s->S, s->S + s->pad),
        .lens = view(SIDE(lens), RFN_I32, rows, 0, 0),
        .page_tokens = PAGE_TOKENS,
        .pages = s->pages,
    };
    if (live)
        a.live = view(SIDE(live), RFN_I32, 1, 0, 0);
    if (which & 1)
    {
        a.table = view(SIDE(table), RFN_I32, REQUESTS, s->W, s->W + 1);
        a.request = view(SIDE(request), RFN_I32, rows, 0, 0);
        a.slots = view(SIDE(slots), RFN_I32, rows, s->K, s->K + 1);
    }
    if (which & 2)
        a.positions = view(SIDE(positions), RFN_I32, rows, s->K, s->K);
    return a;
#undef SIDE
}

/* ---- hard rows ------------------------------------------------------------------- */

enum pattern
{
    NORMAL,
    NARROW, /* all within a factor of two */
    ALL_EQUAL,
    TWO_VALUED,
    ONE_HALF_BIN, /* equal when rounded to fp16 */
    ZEROS,        /* -0 and +0 */
    INFINITIES,
    NANS,
    ASCENDING,
    DESCENDING,
    MANY_TIES, /* more than 16384 on the threshold, some above */
    DENORMALS,
    ANY_BITS,
    FEW_NUMBERS, /* a thousand, the rest NaN */
    LAST_BEST,   /* all of the best in the last block, in few groups */
    SPREAD,      /* the best lie far apart: each is its group's only one */
    PATTERNS
};

static const char *const pattern_name[PATTERNS] = {
    "normal",     "narrow",      "all equal", "two-valued", "one fp16 bin", "zeros",
    "infinities", "nans",        "ascending", "descending", "many ties",    "denormals",
    "any bits",   "few numbers", "last best", "spread",
};

static float from_bits(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, 4);
    return x;
}

static enum pattern pattern_of(int round, int64_t t)
{
    return (enum pattern)((t + round * 5) % PATTERNS);
}

static float value(enum pattern p, struct rng *r, int64_t s, int64_t S)
{
    uint64_t u = rng_u64(r);
    float n = rng_normal(r);
    switch (p)
    {
    case NARROW:
        return 10.0f + n;
    case ALL_EQUAL:
        return -1.5f;
    case TWO_VALUED:
        return u & 1 ? 2.0f : -3.0f;
    case ONE_HALF_BIN:
        return 1.0f + (float)(u % 4096) * 0x1p-23f;
    case ZEROS:
        return u % 8 == 0 ? n : u & 8 ? -0.0f : 0.0f;
    case INFINITIES:
        return u % 4 == 0 ? -INFINITY : u % 4 == 1 ? INFINITY : n;
    case NANS:
        return u % 4 ? n
                     : from_bits(0x7f800001u | (uint32_t)u << 31 | (uint32_t)(u >> 20));
    case ASCENDING:
        return (float)s - (float)S / 2;
    case DESCENDING:
        return (float)S / 2 - (float)s;
    case MANY_TIES:
        return u % 1024 == 0 ? 1.0f + n * n : u % 4 ? 0.5f : -n * n;
    case DENORMALS:
        return from_bits((uint32_t)u & 0x807fffffu);
    case ANY_BITS:
        return from_bits((uint32_t)u);
    case FEW_NUMBERS:
        return s % (S / 1000 + 1) == 0 ? (u & 1 ? 0.0f : -0.0f) : from_bits(0x7fc00000u);
    case SPREAD:
        return s % 17 == 0 ? 20.0f + n : n;
    case LAST_BEST:
        return s > S - S / 8 ? 20.0f + n : n;
    default:
        return n;
    }
}

/* Lengths about K and about the borders between ways to select. Row t of round 0, and the
 * first three, have all columns, the first rows lengths near S. */
static int64_t length(const struct shape *s, int round, int64_t t, struct rng *r)
{
    int64_t S = s->S, K = s->K;
    if (s->rows > 2048) /* every length from 0 on */
        return round == 0 ? t : S - t;
    if (round == 0 || t < 2)
        return S - (s->pad ? 0 : t % 4);
    switch (rng_below(r, 12))
    {
    case 0:
        return 0;
    case 1:
        return 1;
    case 2:
        return K - 1 + rng_below(r, 3);
    case 3:
        return -7;
    case 4:
        return S / 2 + 1;
    case 5:
        return S + 9;
    case 6:
        return rng_below(r, S + 1);
    case 7:
        return 2049 + rng_below(r, 3);
    case 8:
        return (1 << (12 + rng_below(r, 7))) - 3 + rng_below(r, 7);
    case 9:
        return 32768 * (1 + rng_below(r, 8)) - 3 + rng_below(r, 7);
    default:
        return S - rng_below(r, 40);
    }
}

/* Bad columns (past lens) hold +inf, which must not be seen. */
static void fill(struct shape *s, int round, int bad_pages)
{
    struct rng r =
        rng_of(seed ^ (uint64_t)(round + 1) << 32 ^ (uint64_t)(s->S * 4096 + s->K));
    int64_t S = s->S;
    for (int64_t t = 0; t < s->rows; t++)
    {
        enum pattern p = pattern_of(round, t);
        int64_t L = length(s, round, t, &r);
        ((int32_t *)s->lens.host)[t] = (int32_t)L;
        float *row = (float *)s->logits.host + t * (S + s->pad);
        for (int64_t c = 0; c < S + s->pad; c++)
            row[c] = c < L && c < S ? value(p, &r, c, S) : INFINITY;
        ((int32_t *)s->request.host)[t] = (int32_t)rng_below(&r, REQUESTS);
    }
    for (int64_t i = 0; i < REQUESTS * (s->W + 1); i++)
        ((int32_t *)s->table.host)[i] = (int32_t)rng_below(&r, s->pages);
    if (bad_pages)
    {
        ((int32_t *)s->request.host)[0] = REQUESTS;
        ((int32_t *)s->request.host)[1] = -1;
        ((int32_t *)s->request.host)[2] = 0;
        for (int64_t i = 0; i < s->W; i += 2)
            ((int32_t *)s->table.host)[i] = i % 4 ? -5 : (int32_t)s->pages;
    }
    *(int32_t *)s->live.host =
        round == 2 && s->rows > 8 ? (int32_t)s->rows - 2 : (int32_t)s->rows + 1;
}

static void upload_all(const struct shape *s)
{
    memset(s->slots.host, 0x5e, (size_t)s->slots.bytes);
    memset(s->positions.host, 0x5e, (size_t)s->positions.bytes);
    upload(&s->logits);
    upload(&s->lens);
    upload(&s->live);
    upload(&s->table);
    upload(&s->request);
    upload(&s->slots);
    upload(&s->positions);
    /* A copy from pageable memory may return before the bytes have arrived. */
    MUST(rfn_device_sync(device));
}

#endif
