/* The double-precision half of verification: shares no code with the kernels. */
#include "tools/quant.h"
#include "tools/verify.h"
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define INDEX_HEADS_MAX 64

struct verify_scratch
{
    double *score;      /* [S] */
    double *margin;     /* [S]: what f32 may get wrong of it */
    int32_t *chosen;    /* [K] positions, ascending */
    uint8_t *is_chosen; /* [S] */
    uint16_t *query;    /* [H, QK]; index queries before */
    double *keys;       /* [K, QK], as the cache holds them */
    double *weight;     /* [K] */
    double *value;      /* [V] */
    uint16_t row[QUANT_KEY];
    uint8_t packed[QUANT_LATENT_BYTES];
    double index_query[INDEX_HEADS_MAX * QUANT_INDEX];
    double index_weight[INDEX_HEADS_MAX];
    uint16_t index_w[INDEX_HEADS_MAX];
};

/* One row of a step, in one layer. */
struct sample
{
    const struct batch *batch;
    int64_t step;
    int32_t layer;
    int32_t row;
    int32_t seat;
    int64_t request;
    int64_t position;
    int64_t context;
};

/* ---- set-up ---------------------------------------------------------------------- */

int verify_create(struct engine *engine, struct verify *ret_verify)
{
    const struct rfn_geometry *geometry = engine->desc.geometry;
    size_t columns = (size_t)engine->desc.context_tokens;
    size_t topk = (size_t)geometry->topk;
    size_t query = (size_t)engine->width[SYNTH_QUERY].elems;
    size_t index_query = (size_t)engine->width[SYNTH_INDEX_QUERY].elems;
    struct verify_scratch *scratch = calloc(1, sizeof(*scratch));
    *ret_verify = (struct verify) { .engine = engine, .scratch = scratch };
    if (scratch == NULL)
    {
        return -1;
    }
    scratch->score = malloc(columns * sizeof(double));
    scratch->margin = malloc(columns * sizeof(double));
    scratch->is_chosen = malloc(columns);
    scratch->chosen = malloc(topk * sizeof(int32_t));
    scratch->query = malloc((query > index_query ? query : index_query) * 2);
    scratch->keys = malloc(topk * QUANT_KEY * sizeof(double));
    scratch->weight = malloc(topk * sizeof(double));
    scratch->value = malloc((size_t)geometry->v_elems * sizeof(double));
    if (scratch->score == NULL || scratch->margin == NULL || scratch->is_chosen == NULL ||
        scratch->chosen == NULL || scratch->query == NULL || scratch->keys == NULL ||
        scratch->weight == NULL || scratch->value == NULL)
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
        free(scratch->score);
        free(scratch->margin);
        free(scratch->is_chosen);
        free(scratch->chosen);
        free(scratch->query);
        free(scratch->keys);
        free(scratch->weight);
        free(scratch->value);
        free(scratch);
    }
    verify->scratch = NULL;
}

static int64_t key_of(const struct verify *verify, const struct sample *at,
                      int64_t position)
{
    const struct engine_desc *desc = &verify->engine->desc;
    return synth_token(desc->seed, desc->trace->request, at->request, position);
}

static void complain(struct verify *verify, const struct sample *at, const char *what,
                     int64_t i, int64_t got)
{
    verify->failures++;
    verify_note(verify,
                "step %" PRId64 ", layer %d, request %" PRId64 ", position %" PRId64
                ": %s (%" PRId64 ": %" PRId64 ")",
                at->step, at->layer, at->request, at->position, what, i, got);
}

/* Four sums side by side: one would wait for each addition. */
static double dot(const double *a, const double *b, int64_t n)
{
    double sum[4] = { 0 };
    for (int64_t i = 0; i < n; i += 4)
    {
        sum[0] += a[i] * b[i];
        sum[1] += a[i + 1] * b[i + 1];
        sum[2] += a[i + 2] * b[i + 2];
        sum[3] += a[i + 3] * b[i + 3];
    }
    return sum[0] + sum[1] + (sum[2] + sum[3]);
}

/* ---- the choice ------------------------------------------------------------------ */

/* Scores of every token of the context, from regenerated index queries and keys. */
static void score_all(struct verify *verify, const struct sample *at, int32_t layer)
{
    const struct rfn_geometry *geometry = verify->engine->desc.geometry;
    struct verify_scratch *scratch = verify->scratch;
    int32_t heads = geometry->index_heads;
    uint8_t codes[QUANT_INDEX];
    double key[QUANT_INDEX];
    float share = (float)(1.0 / sqrt((double)QUANT_INDEX * heads));
    int64_t query_key = key_of(verify, at, at->position);
    synth_row(query_key, layer, SYNTH_INDEX_QUERY, scratch->query,
              (int64_t)heads * QUANT_INDEX);
    synth_row(query_key, layer, SYNTH_INDEX_WEIGHT, scratch->index_w, heads);
    for (int32_t h = 0; h < heads; h++)
    {
        float scale = quant_index(scratch->query + h * QUANT_INDEX, geometry->index_scale,
                                  codes, scratch->index_query + h * QUANT_INDEX);
        float weight = (float)quant_bf16(scratch->index_w[h]) * scale;
        scratch->index_weight[h] = weight * share;
    }
    for (int64_t s = 0; s < at->context; s++)
    {
        double sum = 0;
        double size = 0;
        synth_row(key_of(verify, at, s), layer, SYNTH_INDEX_KEY, scratch->row,
                  QUANT_INDEX);
        double scale = quant_index(scratch->row, geometry->index_scale, codes, key);
        for (int32_t h = 0; h < heads; h++)
        {
            double hit = dot(scratch->index_query + h * QUANT_INDEX, key, QUANT_INDEX);
            hit = hit > 0 ? hit : 0;
            sum += scratch->index_weight[h] * hit;
            size += fabs(scratch->index_weight[h]) * hit;
        }
        scratch->score[s] = scale * sum;
        scratch->margin[s] = VERIFY_SCORE_MARGIN * scale * size;
    }
}

/* Slots to positions: ascending ones of this request, then -1. Returns 1 when they are. */
static int read_choice(struct verify *verify, const struct sample *at,
                       const int32_t *slots, int32_t count)
{
    const struct rfn_geometry *geometry = verify->engine->desc.geometry;
    struct verify_scratch *scratch = verify->scratch;
    int64_t position = -1;
    for (int32_t c = 0; c < geometry->topk; c++)
    {
        if (c >= count)
        {
            if (slots[c] != -1)
            {
                complain(verify, at, "a choice past the context", c, slots[c]);
                return 0;
            }
            continue;
        }
        do
        {
            position++;
        } while (position < at->context &&
                 batch_slot(at->batch, at->seat, position) != slots[c]);
        if (position >= at->context)
        {
            complain(verify, at, "a choice is no later token of the request", c,
                     slots[c]);
            return 0;
        }
        scratch->chosen[c] = (int32_t)position;
    }
    return 1;
}

/* Whether what was chosen beats what was left out, as far as f32 can tell. */
static void check_choice(struct verify *verify, const struct sample *at, int32_t count)
{
    struct verify_scratch *scratch = verify->scratch;
    double left_out = -INFINITY; /* the best of them, and the best for certain */
    double certain = -INFINITY;
    memset(scratch->is_chosen, 0, (size_t)at->context);
    for (int32_t c = 0; c < count; c++)
    {
        scratch->is_chosen[scratch->chosen[c]] = 1;
    }
    for (int64_t s = 0; s < at->context; s++)
    {
        if (!scratch->is_chosen[s])
        {
            left_out = fmax(left_out, scratch->score[s]);
            certain = fmax(certain, scratch->score[s] - scratch->margin[s]);
        }
    }
    for (int32_t c = 0; c < count; c++)
    {
        int32_t s = scratch->chosen[c];
        if (scratch->score[s] + scratch->margin[s] < certain)
        {
            complain(verify, at, "a position was chosen before a better one", c, s);
            return;
        }
        verify->near_ties += scratch->score[s] < left_out;
    }
}

/* ---- the rest -------------------------------------------------------------------- */

static void check_written(struct verify *verify, const struct sample *at)
{
    const struct engine *engine = verify->engine;
    const struct rfn_geometry *geometry = engine->desc.geometry;
    struct verify_scratch *scratch = verify->scratch;
    const uint8_t *page =
        engine->written[0] +
        ((int64_t)at->layer * engine->rows + at->row) * engine->sizes.pages;
    int64_t offset = at->position % geometry->page_tokens;
    int64_t key = key_of(verify, at, at->position);
    double unused[QUANT_KEY];
    synth_row(key, at->layer, SYNTH_ROW, scratch->row, QUANT_KEY);
    quant_latent(scratch->row, geometry->latent_scale, scratch->packed, unused);
    if (memcmp(scratch->packed, page + offset * QUANT_LATENT_BYTES, QUANT_LATENT_BYTES) !=
        0)
    {
        complain(verify, at, "the cache row is not the reference's bytes", offset, 0);
    }
    if (engine->layer[at->layer].caches.index.data == NULL)
    {
        return;
    }
    page += engine->sizes.latent_page;
    synth_row(key, at->layer, SYNTH_INDEX_KEY, scratch->row, QUANT_INDEX);
    float scale =
        quant_index(scratch->row, geometry->index_scale, scratch->packed, unused);
    if (memcmp(scratch->packed, page + offset * QUANT_INDEX, QUANT_INDEX) != 0 ||
        memcmp(&scale, page + (int64_t)geometry->page_tokens * QUANT_INDEX + 4 * offset,
               sizeof(scale)) != 0)
    {
        complain(verify, at, "the index row is not the reference's bytes", offset, 0);
    }
}

/* Softmax weights over the chosen keys for one head; returns the LSE. */
static double soften(struct verify_scratch *scratch, const uint16_t *query, int32_t count,
                     double scale)
{
    double q[QUANT_KEY];
    double top = -INFINITY;
    double sum = 0;
    for (int32_t i = 0; i < QUANT_KEY; i++)
    {
        q[i] = quant_bf16(query[i]);
    }
    for (int32_t c = 0; c < count; c++)
    {
        scratch->weight[c] = scale * dot(q, scratch->keys + c * QUANT_KEY, QUANT_KEY);
        top = fmax(top, scratch->weight[c]);
    }
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

/* O and LSE over the slots that the device chose. */
static void check_attention(struct verify *verify, const struct sample *at, int32_t count,
                            const uint16_t *out, const float *lse)
{
    const struct rfn_geometry *geometry = verify->engine->desc.geometry;
    struct verify_scratch *scratch = verify->scratch;
    int32_t v_elems = geometry->v_elems;
    double difference = 0;
    double norm = 0;
    double lse_error = 0;
    for (int32_t c = 0; c < count; c++)
    {
        synth_row(key_of(verify, at, scratch->chosen[c]), at->layer, SYNTH_ROW,
                  scratch->row, QUANT_KEY);
        quant_latent(scratch->row, geometry->latent_scale, scratch->packed,
                     scratch->keys + c * QUANT_KEY);
    }
    synth_row(key_of(verify, at, at->position), at->layer, SYNTH_QUERY, scratch->query,
              (int64_t)geometry->heads * QUANT_KEY);
    for (int32_t h = 0; h < geometry->heads; h++)
    {
        double want = soften(scratch, scratch->query + (int64_t)h * QUANT_KEY, count,
                             geometry->scale);
        lse_error = fmax(lse_error, isnan(lse[h]) ? INFINITY : fabs(want - lse[h]));
        memset(scratch->value, 0, (size_t)v_elems * sizeof(double));
        for (int32_t c = 0; c < count; c++)
        {
            for (int32_t v = 0; v < v_elems; v++)
            {
                scratch->value[v] +=
                    scratch->weight[c] * scratch->keys[c * QUANT_KEY + v];
            }
        }
        for (int32_t v = 0; v < v_elems; v++)
        {
            double d = quant_bf16(out[(int64_t)h * v_elems + v]) - scratch->value[v];
            difference += d * d;
            norm += scratch->value[v] * scratch->value[v];
        }
    }
    double error = sqrt(difference / norm);
    error = isnan(error) ? INFINITY : error;
    verify->max_rel_err = fmax(verify->max_rel_err, error);
    verify->max_lse_err = fmax(verify->max_lse_err, lse_error);
    if (error > VERIFY_ERROR_MAX || lse_error > VERIFY_LSE_MAX)
    {
        verify->failures++;
        verify_note(verify,
                    "step %" PRId64 ", layer %d, request %" PRId64
                    ": relative L2 of O %.3g (limit %.3g), LSE error %.3g (limit %.3g)",
                    at->step, at->layer, at->request, error, VERIFY_ERROR_MAX, lse_error,
                    VERIFY_LSE_MAX);
    }
}

static void check_row(struct verify *verify, const struct sample *at)
{
    const struct engine *engine = verify->engine;
    const struct engine_sizes *sizes = &engine->sizes;
    const struct rfn_geometry *geometry = engine->desc.geometry;
    const uint8_t *got = engine->got[0] + at->layer * sizes->layer_bytes;
    int32_t count = at->context < geometry->topk ? (int32_t)at->context : geometry->topk;
    verify->sampled_rows++;
    check_written(verify, at);
    if (!read_choice(verify, at, (const int32_t *)(got + at->row * sizes->chosen_bytes),
                     count))
    {
        return;
    }
    if (at->context > geometry->topk)
    {
        score_all(verify, at, engine_index_layer(geometry, at->layer));
        check_choice(verify, at, count);
    }
    check_attention(
        verify, at, count,
        (const uint16_t *)(got + sizes->out_offset + at->row * sizes->out_bytes),
        (const float *)(got + sizes->lse_offset + at->row * sizes->lse_bytes));
}

void verify_reference(struct verify *verify, const struct batch *batch, int64_t step)
{
    const struct engine *engine = verify->engine;
    for (int32_t l = 0; l < engine->desc.geometry->layers; l++)
    {
        uint64_t pick = synth_pick(engine->desc.seed, (uint64_t)step, (uint64_t)l);
        int32_t seat = (int32_t)(pick % (uint64_t)batch->lives);
        int32_t j =
            (int32_t)(pick / (uint64_t)batch->lives % (uint64_t)batch->q_lens[seat]);
        struct sample at = {
            .batch = batch,
            .step = step,
            .layer = l,
            .row = seat * engine->desc.next_n + j,
            .seat = seat,
            .request = batch->seat[seat].request,
        };
        at.position = engine_position(engine, batch, at.row);
        at.context = at.position + 1;
        check_row(verify, &at);
    }
}
