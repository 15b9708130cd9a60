/* The double-precision half of verification: shares no code with the kernels. */
#include "tools/synth.h"
#include "tools/verify.h"
#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define GROUP 128 /* latent elements that share a scale */

struct candidate
{
    float score;
    int32_t position;
};

struct verify_scratch
{
    float *scores;               /* [S] */
    struct candidate *candidate; /* [2 * S] */
    int32_t *chosen;             /* [K] positions, ascending */
    uint16_t *query;             /* [H, QK] */
    uint16_t *row;               /* [QK] */
    double *keys;                /* [K, QK], as the cache holds them */
    double *weight;              /* [K] */
    uint8_t *packed;             /* one cache row */
};

/* ---- numbers --------------------------------------------------------------------- */

static double bf16_value(uint16_t bits)
{
    uint32_t word = (uint32_t)bits << 16;
    float value;
    memcpy(&value, &word, sizeof(value));
    return value;
}

uint8_t verify_e4m3(float x)
{
    uint8_t sign = signbit(x) ? 0x80 : 0;
    double a = fabs((double)x);
    if (isnan(x))
    {
        return sign | 0x7f;
    }
    if (a >= 448)
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

double verify_e4m3_value(uint8_t code)
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

/* One row of latent_fp8_656, and the key that it stands for. */
static void pack_row(const uint16_t *row, uint8_t *ret_packed, double *ret_key)
{
    for (int group = 0; group < 512 / GROUP; group++)
    {
        float amax = 0;
        for (int i = group * GROUP; i < (group + 1) * GROUP; i++)
        {
            amax = fmaxf(amax, fabsf((float)bf16_value(row[i])));
        }
        float scale = fmaxf(amax / 448.0f, FLT_MIN);
        for (int i = group * GROUP; i < (group + 1) * GROUP; i++)
        {
            ret_packed[i] = verify_e4m3((float)bf16_value(row[i]) / scale);
            ret_key[i] = verify_e4m3_value(ret_packed[i]) * (double)scale;
        }
        memcpy(ret_packed + 512 + 4 * group, &scale, sizeof(scale));
    }
    memcpy(ret_packed + 528, row + 512, 64 * sizeof(row[0]));
    for (int i = 512; i < 576; i++)
    {
        ret_key[i] = bf16_value(row[i]);
    }
}

/* ---- set-up ---------------------------------------------------------------------- */

int verify_create(struct engine *engine, struct verify *ret_verify)
{
    const struct geometry *geometry = engine->desc.geometry;
    size_t qk = (size_t)geometry_qk_elems(geometry);
    size_t columns = (size_t)engine->columns;
    size_t topk = (size_t)geometry->topk;
    struct verify_scratch *scratch = calloc(1, sizeof(*scratch));
    *ret_verify = (struct verify) { .engine = engine, .scratch = scratch };
    if (scratch == NULL)
    {
        return -1;
    }
    scratch->scores = malloc(columns * sizeof(float));
    scratch->candidate = malloc(2 * columns * sizeof(struct candidate));
    scratch->chosen = malloc(topk * sizeof(int32_t));
    scratch->query = malloc((size_t)geometry->heads * qk * sizeof(uint16_t));
    scratch->row = malloc(qk * sizeof(uint16_t));
    scratch->keys = malloc(topk * qk * sizeof(double));
    scratch->weight = malloc(topk * sizeof(double));
    scratch->packed = malloc(656);
    if (scratch->scores == NULL || scratch->candidate == NULL ||
        scratch->chosen == NULL || scratch->query == NULL || scratch->row == NULL ||
        scratch->keys == NULL || scratch->weight == NULL || scratch->packed == NULL)
    {
        verify_destroy(ret_verify);
        return -1;
    }
    return 0;
}

void verify_destroy(struct verify *verify)
{
    struct verify_scratch *scratch = verify->scratch;
    if (scratch != NULL)
    {
        free(scratch->scores);
        free(scratch->candidate);
        free(scratch->chosen);
        free(scratch->query);
        free(scratch->row);
        free(scratch->keys);
        free(scratch->weight);
        free(scratch->packed);
        free(scratch);
    }
    verify->scratch = NULL;
}

/* ---- reference ------------------------------------------------------------------- */

/* Whether x is chosen before y: the larger score, then the smaller position. */
static int better(struct candidate x, struct candidate y)
{
    return x.score != y.score ? x.score > y.score : x.position < y.position;
}

/* Merge sort, best first; qsort may allocate. Returns the sorted one of both arrays. */
static const struct candidate *sort(struct candidate *from, struct candidate *to,
                                    int64_t count)
{
    for (int64_t width = 1; width < count; width *= 2)
    {
        for (int64_t begin = 0; begin < count; begin += 2 * width)
        {
            int64_t middle = begin + width < count ? begin + width : count;
            int64_t end = middle + width < count ? middle + width : count;
            int64_t i = begin;
            int64_t j = middle;
            for (int64_t k = begin; k < end; k++)
            {
                int left = i < middle && (j == end || better(from[i], from[j]));
                to[k] = left ? from[i++] : from[j++];
            }
        }
        struct candidate *swap = from;
        from = to;
        to = swap;
    }
    return from;
}

/* The positions that top-k has to choose, ascending; returns how many. */
static int32_t choose(struct verify_scratch *scratch, int64_t context, int32_t topk)
{
    int32_t count = 0;
    for (int64_t i = 0; i < context; i++)
    {
        scratch->candidate[i] =
            (struct candidate) { .score = scratch->scores[i], .position = (int32_t)i };
    }
    const struct candidate *sorted =
        sort(scratch->candidate, scratch->candidate + context, context);
    struct candidate last = sorted[(context < topk ? context : topk) - 1];
    for (int64_t i = 0; i < context; i++)
    {
        struct candidate here = { .score = scratch->scores[i], .position = (int32_t)i };
        if (!better(last, here))
        {
            scratch->chosen[count++] = here.position;
        }
    }
    return count;
}

/* Weights of the chosen keys for one head; returns the LSE. */
static double soften(struct verify_scratch *scratch, const uint16_t *query, int32_t count,
                     int64_t qk, double scale)
{
    double top = -INFINITY;
    for (int32_t c = 0; c < count; c++)
    {
        double dot = 0;
        for (int64_t i = 0; i < qk; i++)
        {
            dot += bf16_value(query[i]) * scratch->keys[c * qk + i];
        }
        scratch->weight[c] = dot * scale;
        top = fmax(top, scratch->weight[c]);
    }
    double sum = 0;
    for (int32_t c = 0; c < count; c++)
    {
        scratch->weight[c] = exp(scratch->weight[c] - top);
        sum += scratch->weight[c];
    }
    for (int32_t c = 0; c < count; c++)
    {
        scratch->weight[c] /= sum;
    }
    return top + log(sum);
}

static void check_slots(struct verify *verify, const struct batch *batch,
                        const struct batch_seat *seat, const int32_t *slots,
                        int32_t count, int64_t step, int32_t layer)
{
    for (int32_t c = 0; c < verify->engine->desc.geometry->topk; c++)
    {
        int64_t want =
            c < count ? batch_slot(batch, seat, verify->scratch->chosen[c]) : -1;
        if (slots[c] != want)
        {
            verify->failures++;
            verify_note(verify,
                        "step %" PRId64 ", layer %d, request %" PRId64
                        ": choice %d is slot %d, the reference says %" PRId64,
                        step, layer, seat->request, c, slots[c], want);
            return;
        }
    }
}

static void check_layer(struct verify *verify, const struct batch *batch, int64_t step,
                        int32_t layer, int32_t t)
{
    const struct engine *engine = verify->engine;
    const struct engine_sizes *sizes = &engine->sizes;
    const struct geometry *geometry = engine->desc.geometry;
    const struct batch_seat *seat = &batch->seat[batch->live[t]];
    struct verify_scratch *scratch = verify->scratch;
    const struct trace_request *requests = engine->desc.trace->request;
    uint64_t seed = engine->desc.seed;
    int64_t qk = geometry_qk_elems(geometry);
    int64_t position = seat->context_tokens - 1;
    const uint8_t *got = engine->got_replay + layer * sizes->layer_bytes;

    synth_scores(seed, seat->request, position, layer, scratch->scores,
                 seat->context_tokens);
    int32_t count = choose(scratch, seat->context_tokens, geometry->topk);
    check_slots(verify, batch, seat, (const int32_t *)(got + t * sizes->slots_bytes),
                count, step, layer);

    int64_t token_bytes = rfn_format_query(geometry->format)->token_bytes;
    synth_row(seed, requests, seat->request, position, layer, scratch->row, qk);
    pack_row(scratch->row, scratch->packed, scratch->keys);
    if (memcmp(scratch->packed,
               engine->written[0] + (layer * (int64_t)batch->lives + t) * token_bytes,
               (size_t)token_bytes) != 0)
    {
        verify->failures++;
        verify_note(verify,
                    "step %" PRId64 ", layer %d, request %" PRId64
                    ": the cache row of position %" PRId64
                    " is not the reference's bytes",
                    step, layer, seat->request, position);
    }
    for (int32_t c = 0; c < count; c++)
    {
        synth_row(seed, requests, seat->request, scratch->chosen[c], layer, scratch->row,
                  qk);
        pack_row(scratch->row, scratch->packed, scratch->keys + c * qk);
    }
    synth_query(seed, seat->request, position, layer, scratch->query,
                geometry->heads * qk);

    const uint16_t *out =
        (const uint16_t *)(got + sizes->out_offset + t * sizes->out_bytes);
    const float *lse = (const float *)(got + sizes->lse_offset + t * sizes->lse_bytes);
    double difference = 0;
    double norm = 0;
    double lse_error = 0;
    for (int32_t h = 0; h < geometry->heads; h++)
    {
        double want =
            soften(scratch, scratch->query + h * qk, count, qk, geometry->scale);
        lse_error = fmax(lse_error, isnan(lse[h]) ? INFINITY : fabs(want - lse[h]));
        for (int32_t v = 0; v < geometry->v_elems; v++)
        {
            double sum = 0;
            for (int32_t c = 0; c < count; c++)
            {
                sum += scratch->weight[c] * scratch->keys[c * qk + v];
            }
            double d = bf16_value(out[h * geometry->v_elems + v]) - sum;
            difference += d * d;
            norm += sum * sum;
        }
    }
    double error = sqrt(difference / norm);
    error = isnan(error) ? INFINITY : error;
    verify->sampled_rows++;
    verify->max_rel_err = fmax(verify->max_rel_err, error);
    verify->max_lse_err = fmax(verify->max_lse_err, lse_error);
    if (error > VERIFY_ERROR_MAX || lse_error > VERIFY_LSE_MAX)
    {
        verify->failures++;
        verify_note(verify,
                    "step %" PRId64 ", layer %d, request %" PRId64
                    ": relative L2 of O %.3g (limit %.3g), LSE error %.3g (limit %.3g)",
                    step, layer, seat->request, error, VERIFY_ERROR_MAX, lse_error,
                    VERIFY_LSE_MAX);
    }
}

void verify_reference(struct verify *verify, const struct batch *batch, int64_t step)
{
    for (int32_t l = 0; l < verify->engine->desc.geometry->layers; l++)
    {
        uint64_t pick =
            synth_pick(verify->engine->desc.seed, (uint64_t)step, (uint64_t)l);
        check_layer(verify, batch, step, l, (int32_t)(pick % (uint64_t)batch->lives));
    }
}
