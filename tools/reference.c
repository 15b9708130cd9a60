/* The double-precision half of verification: shares no code with the kernels. Layers are
 * checked side by side, a thread each as far as there are cores. */
#include "tools/quant.h"
#include "tools/verify.h"
#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define INDEX_HEADS_MAX 64
#define THREADS_MAX 64
#define LANES 4 /* that the compiler may take as one */

typedef double lanes __attribute__((vector_size(LANES * sizeof(double)), may_alias,
                                    aligned(sizeof(double))));

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

static int scratch_init(const struct engine *engine, struct verify_scratch *scratch)
{
    const struct rfn_geometry *geometry = engine->desc.geometry;
    size_t columns = (size_t)engine->desc.context_tokens;
    size_t topk = (size_t)geometry->topk;
    size_t query = (size_t)engine->width[SYNTH_QUERY].elems;
    size_t index_query = (size_t)engine->width[SYNTH_INDEX_QUERY].elems;
    scratch->score = malloc(columns * sizeof(double));
    scratch->margin = malloc(columns * sizeof(double));
    scratch->is_chosen = malloc(columns);
    scratch->chosen = malloc(topk * sizeof(int32_t));
    scratch->query = malloc((query > index_query ? query : index_query) * 2);
    scratch->keys = malloc(topk * QUANT_KEY * sizeof(double));
    scratch->weight = malloc(topk * sizeof(double));
    scratch->value = malloc((size_t)geometry->v_elems * sizeof(double));
    return scratch->score != NULL && scratch->margin != NULL &&
           scratch->is_chosen != NULL && scratch->chosen != NULL &&
           scratch->query != NULL && scratch->keys != NULL && scratch->weight != NULL &&
           scratch->value != NULL;
}

int verify_create(struct engine *engine, struct verify *ret_verify)
{
    int32_t layers = engine->desc.geometry->layers;
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    int32_t threads = cores < 1 ? 1 : cores < THREADS_MAX ? (int32_t)cores : THREADS_MAX;
    threads = threads < layers ? threads : layers;
    *ret_verify = (struct verify) {
        .engine = engine,
        .threads = threads,
        .scratch = calloc((size_t)threads, sizeof(struct verify_scratch)),
    };
    int good = ret_verify->scratch != NULL;
    for (int32_t i = 0; good && i < threads; i++)
    {
        good = scratch_init(engine, &ret_verify->scratch[i]);
    }
    if (!good)
    {
        verify_destroy(ret_verify);
    }
    return good ? 0 : -1;
}

void verify_destroy(struct verify *verify)
{
    for (int32_t i = 0; verify->scratch != NULL && i < verify->threads; i++)
    {
        struct verify_scratch *scratch = &verify->scratch[i];
        free(scratch->score);
        free(scratch->margin);
        free(scratch->is_chosen);
        free(scratch->chosen);
        free(scratch->query);
        free(scratch->keys);
        free(scratch->weight);
        free(scratch->value);
    }
    free(verify->scratch);
    verify->scratch = NULL;
}

static int64_t key_of(const struct sample *at, int64_t position)
{
    return batch_token(at->batch, at->seat, position);
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

/* Eight sums side by side: one would wait for each addition. n is a multiple of eight. */
static double dot(const double *a, const double *b, int64_t n)
{
    lanes even = { 0 }, odd = { 0 };
    for (int64_t i = 0; i < n; i += 2 * LANES)
    {
        even += *(const lanes *)(a + i) * *(const lanes *)(b + i);
        odd += *(const lanes *)(a + i + LANES) * *(const lanes *)(b + i + LANES);
    }
    even += odd;
    return even[0] + even[1] + (even[2] + even[3]);
}

/* to += factor * from; n is a multiple of LANES. */
static void add_scaled(double *to, double factor, const double *from, int64_t n)
{
    for (int64_t i = 0; i < n; i += LANES)
    {
        *(lanes *)(to + i) += factor * *(const lanes *)(from + i);
    }
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
    int64_t query_key = key_of(at, at->position);
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
        synth_row(key_of(at, s), layer, SYNTH_INDEX_KEY, scratch->row, QUANT_INDEX);
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
    int64_t key = key_of(at, at->position);
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
        synth_row(key_of(at, scratch->chosen[c]), at->layer, SYNTH_ROW, scratch->row,
                  QUANT_KEY);
        quant_latent(scratch->row, geometry->latent_scale, scratch->packed,
                     scratch->keys + c * QUANT_KEY);
    }
    synth_row(key_of(at, at->position), at->layer, SYNTH_QUERY, scratch->query,
              (int64_t)geometry->heads * QUANT_KEY);
    for (int32_t h = 0; h < geometry->heads; h++)
    {
        double want = soften(scratch, scratch->query + (int64_t)h * QUANT_KEY, count,
                             geometry->scale);
        lse_error = fmax(lse_error, isnan(lse[h]) ? INFINITY : fabs(want - lse[h]));
        memset(scratch->value, 0, (size_t)v_elems * sizeof(double));
        for (int32_t c = 0; c < count; c++)
        {
            add_scaled(scratch->value, scratch->weight[c], scratch->keys + c * QUANT_KEY,
                       v_elems);
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

/* A thread's share: layers i, i + threads, ... with a scratch and counts of its own. */
struct share
{
    struct verify verify;
    const struct batch *batch;
    int64_t step;
    int32_t layer;       /* the first one */
    int32_t every;       /* layers */
    int32_t first_layer; /* where verify.first was written */
    pthread_t thread;
    int started;
};

static void check_layer(struct share *share, int32_t layer)
{
    const struct engine *engine = share->verify.engine;
    const struct batch *batch = share->batch;
    uint64_t pick = synth_pick(engine->desc.seed, (uint64_t)share->step, (uint64_t)layer);
    int32_t seat = (int32_t)(pick % (uint64_t)batch->lives);
    int32_t j = (int32_t)(pick / (uint64_t)batch->lives % (uint64_t)batch->q_lens[seat]);
    struct sample at = {
        .batch = batch,
        .step = share->step,
        .layer = layer,
        .row = seat * engine->desc.next_n + j,
        .seat = seat,
        .request = batch->seat[seat].request,
    };
    at.position = engine_position(engine, batch, at.row);
    at.context = at.position + 1;
    check_row(&share->verify, &at);
    if (share->verify.first[0] != '\0' && share->first_layer < 0)
    {
        share->first_layer = layer;
    }
}

static void *check_share(void *argument)
{
    struct share *share = argument;
    int32_t layers = share->verify.engine->desc.geometry->layers;
    for (int32_t l = share->layer; l < layers; l += share->every)
    {
        check_layer(share, l);
    }
    return NULL;
}

static void add_share(struct verify *verify, const struct share *share)
{
    const struct verify *from = &share->verify;
    verify->failures += from->failures;
    verify->sampled_rows += from->sampled_rows;
    verify->near_ties += from->near_ties;
    verify->max_rel_err = fmax(verify->max_rel_err, from->max_rel_err);
    verify->max_lse_err = fmax(verify->max_lse_err, from->max_lse_err);
}

/* What is wrong first is said first, whoever found it. */
static void say_first(struct verify *verify, const struct share *share)
{
    const struct share *first = NULL;
    for (int32_t i = 0; i < verify->threads; i++)
    {
        if (share[i].first_layer >= 0 &&
            (first == NULL || share[i].first_layer < first->first_layer))
        {
            first = &share[i];
        }
    }
    if (first != NULL)
    {
        verify_note(verify, "%s", first->verify.first);
    }
}

/* A thread that cannot be had is done without. */
void verify_reference(struct verify *verify, const struct batch *batch, int64_t step)
{
    struct share share[THREADS_MAX];
    for (int32_t i = 0; i < verify->threads; i++)
    {
        share[i] = (struct share) {
            .verify = { .engine = verify->engine, .scratch = &verify->scratch[i] },
            .batch = batch,
            .step = step,
            .layer = i,
            .every = verify->threads,
            .first_layer = -1,
        };
        share[i].started =
            i > 0 && pthread_create(&share[i].thread, NULL, check_share, &share[i]) == 0;
    }
    for (int32_t i = 0; i < verify->threads; i++)
    {
        if (!share[i].started)
        {
            check_share(&share[i]);
        }
    }
    for (int32_t i = 0; i < verify->threads; i++)
    {
        if (share[i].started)
        {
            pthread_join(share[i].thread, NULL);
        }
        add_share(verify, &share[i]);
    }
    say_first(verify, share);
}
