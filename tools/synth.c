#include "tools/synth.h"
#include <string.h>

#define GOLDEN 0x9e3779b97f4a7c15u /* splitmix64's increment */

enum kind
{
    KIND_PICK = 1,
    KIND_PROMPT,
    KIND_TOKEN,
    KIND_QUERY,
    KIND_SCORE,
};

uint64_t synth_mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static uint64_t key(uint64_t seed, enum kind kind, uint64_t a, uint64_t b, uint64_t c)
{
    uint64_t x = synth_mix(seed + GOLDEN * (uint64_t)kind);
    x = synth_mix(x + GOLDEN * (a + 1));
    x = synth_mix(x + GOLDEN * (b + 1));
    return synth_mix(x + GOLDEN * (c + 1));
}

uint64_t synth_pick(uint64_t seed, uint64_t a, uint64_t b)
{
    return key(seed, KIND_PICK, a, b, 0);
}

/* Four bf16 values a mix: sign, three bits of exponent and the mantissa come from the hash,
 * the rest of the exponent from the size of the group of 128. */
static void fill_bf16(uint64_t base, uint16_t *x, int64_t elems)
{
    for (int64_t begin = 0; begin < elems; begin += 128)
    {
        int64_t end = begin + 128 < elems ? begin + 128 : elems;
        /* Exponents 120..127 less 0..3; the low three bits of 120 are zero, so add. */
        uint64_t lower = (base >> (2 * (begin / 128 % 32))) & 3;
        uint64_t exponent = (0x3c00u - (lower << 7)) * 0x0001000100010001u;
        for (int64_t i = begin; i < end; i += 4)
        {
            uint64_t random = synth_mix(base + GOLDEN * (uint64_t)(i + 1));
            uint64_t four = (random & 0x8000800080008000u) |
                            ((random & 0x03ff03ff03ff03ffu) + exponent);
            memcpy(x + i, &four, sizeof(four));
        }
    }
}

void synth_row(uint64_t seed, const struct trace_request *requests, int64_t request,
               int64_t position, int64_t layer, uint16_t *ret_row, int64_t elems)
{
    const struct trace_request *from = &requests[request];
    uint64_t base = position < from->input_tokens
                        ? key(seed, KIND_PROMPT,
                              (uint64_t)from->hash_ids[position / TRACE_BLOCK_TOKENS],
                              (uint64_t)(position % TRACE_BLOCK_TOKENS), (uint64_t)layer)
                        : key(seed, KIND_TOKEN, (uint64_t)request, (uint64_t)position,
                              (uint64_t)layer);
    fill_bf16(base, ret_row, elems);
}

void synth_query(uint64_t seed, int64_t request, int64_t position, int64_t layer,
                 uint16_t *ret_query, int64_t elems)
{
    fill_bf16(
        key(seed, KIND_QUERY, (uint64_t)request, (uint64_t)position, (uint64_t)layer),
        ret_query, elems);
}

void synth_scores(uint64_t seed, int64_t request, int64_t position, int64_t layer,
                  float *ret_scores, int64_t columns)
{
    uint64_t base =
        key(seed, KIND_SCORE, (uint64_t)request, (uint64_t)position, (uint64_t)layer);
    for (int64_t i = 0; i < columns; i += 4)
    {
        uint64_t random = synth_mix(base + GOLDEN * (uint64_t)(i + 1));
        int64_t n = columns - i < 4 ? columns - i : 4;
        for (int64_t j = 0; j < n; j++)
        {
            ret_scores[i + j] = (float)(int16_t)(random >> (16 * j)) / 4096.0f;
        }
    }
}
