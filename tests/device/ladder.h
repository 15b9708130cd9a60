/*
 * What the tests of the ladder share: a tiny attention object with bound caches, inputs and
 * outputs, random steps, and snapshots of everything that a step writes.
 */
#ifndef TEST_LADDER_H
#define TEST_LADDER_H

#include "tests/device/open.h"
#include "tests/support/rng.h"

#define LAYERS 2 /* of the tiny geometry */
#define WIDTH 4  /* pages of a request at most */
#define REQUESTS 12

/* Nothing of the program can run here. */
static inline int test_skip(struct test *t, const char *what, const char *why)
{
    harness_skip(&t->h, what, why);
    rfn_device_close(&t->dev);
    return harness_end(&t->h);
}

/* The device lacks an op of the tiny geometry: its reason stands in the error line. */
static inline int lacks_ops(struct test *t)
{
    const struct rfn_geometry *tiny;
    return rfn_geometry_find("tiny", &tiny) == RFN_OK &&
           rfn_supported(t->dev, tiny) == RFN_UNSUPPORTED;
}

struct world
{
    struct test *t;
    struct rng rng;
    const struct rfn_geometry *geometry;
    struct rfn_attention_limits limits;
    struct rfn_attention *attention;
    struct rfn_layer_caches caches[LAYERS];
    struct rfn_layer_io io[LAYERS];
    int64_t latent_bytes, index_bytes, out_bytes, row_bytes;
    unsigned char *initial; /* of all pools */
    int64_t pools_bytes;
};

static inline int64_t tensor_bytes(const struct rfn_tensor *x)
{
    int64_t n = rfn_dtype_bytes(x->dtype);
    for (int i = 0; i < x->dims; i++)
        n *= x->shape[i];
    return n;
}

/* Numbers between 1/2 and 2 and their negatives. */
static inline void fill_input(struct world *w, const struct rfn_tensor *x)
{
    int64_t bytes = tensor_bytes(x);
    uint16_t *value = malloc((size_t)bytes);
    for (int64_t i = 0; i < bytes / 2; i++)
        value[i] =
            (uint16_t)(0x3f00 + rng_below(&w->rng, 256) + (rng_below(&w->rng, 2) << 15));
    OK(w->t, rfn_copy_sync(w->t->dev, x->data, value, bytes));
    free(value);
}

static inline struct rfn_tensor make_input(struct world *w, int64_t d0, int64_t d1,
                                           int64_t d2)
{
    struct rfn_tensor x = rfn_tensor_of(NULL, RFN_BF16, d0, d1, d2, 0);
    x.data = test_device_memory(w->t, tensor_bytes(&x));
    fill_input(w, &x);
    return x;
}

static inline void fill_inputs(struct world *w)
{
    for (int i = 0; i < LAYERS; i++)
    {
        fill_input(w, &w->io[i].q);
        fill_input(w, &w->io[i].kv);
        fill_input(w, &w->io[i].k_rope);
        fill_input(w, &w->io[i].index_q);
        fill_input(w, &w->io[i].index_w);
        fill_input(w, &w->io[i].index_k);
    }
}

/* Caches as they were at first, outputs poisoned. Nothing may be in flight. */
static inline void world_reset(struct world *w)
{
    const unsigned char *from = w->initial;
    for (int i = 0; i < LAYERS; i++)
    {
        OK(w->t,
           rfn_copy_sync(w->t->dev, w->caches[i].latent.data, from, w->latent_bytes));
        OK(w->t, rfn_copy_sync(w->t->dev, w->caches[i].index.data, from + w->latent_bytes,
                               w->index_bytes));
        from += w->latent_bytes + w->index_bytes;
        OK(w->t, rfn_set_sync(w->t->dev, w->io[i].out.data, 0xff, w->out_bytes));
    }
    OK(w->t, rfn_device_sync(w->t->dev));
}

static inline void world_open(struct world *w, struct test *t, int32_t requests,
                              int32_t next_n)
{
    *w = (struct world) { .t = t, .rng = rng_of(t->h.seed) };
    OK(t, rfn_geometry_find("tiny", &w->geometry));
    const struct rfn_geometry *g = w->geometry;
    if (g->layers != LAYERS)
        exit(1);
    w->limits = (struct rfn_attention_limits) {
        .requests = requests,
        .next_n = next_n,
        .context = WIDTH * g->page_tokens,
        .pages = WIDTH * requests + 3,
    };
    OK(t, rfn_attention_create(t->dev, g, &w->limits, &w->attention));
    int64_t rows = (int64_t)requests * next_n, pages = w->limits.pages;
    w->latent_bytes = pages * rfn_format_page_bytes(g->latent_format, g->page_tokens);
    w->index_bytes = pages * rfn_format_page_bytes(g->index_format, g->page_tokens);
    w->row_bytes = (int64_t)g->heads * g->v_elems * 2;
    w->out_bytes = rows * w->row_bytes;
    w->pools_bytes = LAYERS * (w->latent_bytes + w->index_bytes);
    /* Small finite numbers in every format, scales included. */
    w->initial = malloc((size_t)w->pools_bytes);
    for (int64_t i = 0; i < w->pools_bytes; i++)
        w->initial[i] = (unsigned char)(0x30 + rng_below(&w->rng, 16));
    for (int i = 0; i < LAYERS; i++)
    {
        w->caches[i] = (struct rfn_layer_caches) {
            .latent = { test_device_memory(t, w->latent_bytes), g->latent_format,
                        g->page_tokens, pages, 0 },
            .index = { test_device_memory(t, w->index_bytes), g->index_format,
                       g->page_tokens, pages, 0 },
        };
        w->io[i] = (struct rfn_layer_io) {
            .q = make_input(w, rows, g->heads, g->latent_elems + g->rope_elems),
            .kv = make_input(w, rows, g->latent_elems, 0),
            .k_rope = make_input(w, rows, g->rope_elems, 0),
            .index_q = make_input(w, rows, g->index_heads, g->index_width),
            .index_w = make_input(w, rows, g->index_heads, 0),
            .index_k = make_input(w, rows, g->index_width, 0),
            .out = make_input(w, rows, g->heads, g->v_elems),
        };
        OK(t, rfn_attention_bind(w->attention, i, &w->caches[i], &w->io[i]));
    }
    world_reset(w);
}

static inline void world_close(struct world *w)
{
    OK(w->t, rfn_attention_destroy(&w->attention));
    for (int i = 0; i < LAYERS; i++)
    {
        struct rfn_layer_io *io = &w->io[i];
        FREE(w->t, w->caches[i].latent.data);
        FREE(w->t, w->caches[i].index.data);
        FREE(w->t, io->q.data);
        FREE(w->t, io->kv.data);
        FREE(w->t, io->k_rope.data);
        FREE(w->t, io->index_q.data);
        FREE(w->t, io->index_w.data);
        FREE(w->t, io->index_k.data);
        FREE(w->t, io->out.data);
    }
    free(w->initial);
}

/* ---- steps ------------------------------------------------------------------------ */

struct plan
{
    struct rfn_step step;
    int32_t lens[REQUESTS];
    int32_t q_lens[REQUESTS];
    int32_t table[REQUESTS][WIDTH];
    int32_t rows; /* live */
};

enum length
{
    SHORT, /* all contexts up to top-k */
    LONG,  /* at least one is longer */
};

/* A step of random lengths on pages of its own; up to `tokens` query tokens a request. */
static inline void plan_make(struct world *w, struct plan *p, int32_t requests,
                             enum length length, int32_t tokens)
{
    int32_t page[WIDTH * REQUESTS + 3], pages = (int32_t)w->limits.pages;
    int32_t topk = w->geometry->topk, at = 0;
    *p = (struct plan) { .step = { .requests = requests,
                                   .lens = p->lens,
                                   .q_lens = p->q_lens,
                                   .table = p->table[0],
                                   .table_stride = WIDTH } };
    for (int32_t i = 0; i < pages; i++)
    {
        int32_t j = (int32_t)rng_below(&w->rng, i + 1);
        page[i] = page[j];
        page[j] = i;
    }
    for (int32_t b = 0; b < requests; b++)
    {
        int is_long = length == LONG && (b == 0 || rng_below(&w->rng, 2));
        p->q_lens[b] = (int32_t)rng_between(&w->rng, 1, tokens);
        p->lens[b] = (int32_t)(is_long ? rng_between(&w->rng, topk + 1, w->limits.context)
                                       : rng_between(&w->rng, p->q_lens[b], topk));
        for (int32_t i = 0; i < WIDTH; i++)
            p->table[b][i] = page[at++];
        p->rows += p->q_lens[b];
    }
}

/* What a step has written: all pools, and the outputs of all layers. */
static inline unsigned char *snapshot(struct world *w)
{
    unsigned char *all = malloc((size_t)(w->pools_bytes + LAYERS * w->out_bytes));
    unsigned char *to = all;
    for (int i = 0; i < LAYERS; i++)
    {
        OK(w->t, rfn_copy_sync(w->t->dev, to, w->caches[i].latent.data, w->latent_bytes));
        to += w->latent_bytes;
        OK(w->t, rfn_copy_sync(w->t->dev, to, w->caches[i].index.data, w->index_bytes));
        to += w->index_bytes;
    }
    for (int i = 0; i < LAYERS; i++)
    {
        OK(w->t, rfn_copy_sync(w->t->dev, to, w->io[i].out.data, w->out_bytes));
        to += w->out_bytes;
    }
    return all;
}

/* Equal pools, and equal outputs of the step's query tokens. */
static inline int snapshots_agree(const struct world *w, const unsigned char *a,
                                  const unsigned char *b, const struct plan *p,
                                  int32_t next_n)
{
    int same = memcmp(a, b, (size_t)w->pools_bytes) == 0;
    for (int i = 0; i < LAYERS; i++)
        for (int32_t r = 0; r < p->step.requests; r++)
        {
            int64_t at =
                w->pools_bytes + i * w->out_bytes + (int64_t)r * next_n * w->row_bytes;
            same = same &&
                   memcmp(a + at, b + at, (size_t)(p->q_lens[r] * w->row_bytes)) == 0;
        }
    return same;
}

/* The same step without a graph, on the calling stream, up to its end. */
static inline void run_eagerly(struct world *w, struct rfn_stream *stream,
                               const struct plan *p, const struct rfn_bucket *bucket)
{
    struct rfn_bucket planned;
    OK(w->t, rfn_attention_plan(w->attention, stream, &p->step, &planned));
    OK(w->t, rfn_attention_update(w->attention, stream, bucket));
    for (int i = 0; i < LAYERS; i++)
        OK(w->t, rfn_attention_forward(w->attention, stream, i, bucket));
    OK(w->t, rfn_stream_sync(stream));
}

static inline struct rfn_ladder *ladder_of(struct world *w,
                                           const struct rfn_ladder_desc *desc)
{
    static const struct rfn_ladder_desc plain;
    struct rfn_ladder *ladder = NULL;
    if (!OK(w->t, rfn_ladder_create(w->attention, desc ? desc : &plain, &ladder)))
        exit(1);
    return ladder;
}

static inline struct rfn_ladder_info info_of(struct world *w, struct rfn_ladder *ladder)
{
    struct rfn_ladder_info info = { 0 };
    OK(w->t, rfn_ladder_query(ladder, &info));
    return info;
}

#endif
