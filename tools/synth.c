#include "tools/synth.h"
#include <string.h>

#define GOLDEN 0x9e3779b97f4a7c15u /* splitmix64's increment */

enum key_kind
{
    KEY_PICK = 1,
    KEY_PROMPT,
    KEY_TOKEN,
    KEY_DRAFT,
};

uint64_t synth_mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static uint64_t key_of(uint64_t seed, enum key_kind kind, uint64_t a, uint64_t b)
{
    uint64_t x = synth_mix(seed + GOLDEN * (uint64_t)kind);
    x = synth_mix(x + GOLDEN * (a + 1));
    return synth_mix(x + GOLDEN * (b + 1));
}

uint64_t synth_pick(uint64_t seed, uint64_t a, uint64_t b)
{
    return key_of(seed, KEY_PICK, a, b);
}

int64_t synth_token(uint64_t seed, const struct trace_request *requests, int64_t request,
                    int64_t position)
{
    const struct trace_request *from = &requests[request];
    uint64_t key = position < from->input_tokens
                       ? key_of(seed, KEY_PROMPT,
                                (uint64_t)from->hash_ids[position / TRACE_BLOCK_TOKENS],
                                (uint64_t)(position % TRACE_BLOCK_TOKENS))
                       : key_of(seed, KEY_TOKEN, (uint64_t)request, (uint64_t)position);
    return (int64_t)key;
}

int64_t synth_draft(uint64_t seed, int64_t request, int64_t first, int64_t position)
{
    return (int64_t)key_of(seed, KEY_DRAFT, (uint64_t)request,
                           ((uint64_t)first << 8) + (uint64_t)(position - first));
}

int64_t synth_salt(int32_t layer, enum synth_kind kind)
{
    return (int64_t)layer * SYNTH_KINDS + (int64_t)kind;
}

float synth_amplitude(enum synth_kind kind)
{
    /* Queries of 2 spread the scores by about 2: some keys matter more than others. */
    static const float amplitude[SYNTH_KINDS] = {
        [SYNTH_ROW] = 1.0f,         [SYNTH_INDEX_KEY] = 1.5f,    [SYNTH_QUERY] = 2.0f,
        [SYNTH_INDEX_QUERY] = 1.0f, [SYNTH_INDEX_WEIGHT] = 1.0f,
    };
    return amplitude[kind];
}

static uint16_t to_bf16(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof(bits));
    return (uint16_t)((bits + 0x7fffu + ((bits >> 16) & 1)) >> 16);
}

void synth_row(int64_t key, int32_t layer, enum synth_kind kind, uint16_t *ret_row,
               int64_t elems)
{
    uint64_t salt = synth_mix((uint64_t)synth_salt(layer, kind) + GOLDEN);
    uint64_t state = synth_mix((uint64_t)key + salt);
    float step = synth_amplitude(kind) / 32768.0f;
    uint64_t four = 0;
    for (int64_t i = 0; i < elems; i++)
    {
        if (i % 4 == 0)
        {
            state += GOLDEN;
            four = synth_mix(state);
        }
        ret_row[i] = to_bf16((float)(int16_t)(four >> (16 * (i % 4))) * step);
    }
}
