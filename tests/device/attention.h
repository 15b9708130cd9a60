/*
 * What the attention tests share: a small model with random caches and inputs bound to an
 * attention object, and the same step made by hand, of single ops on buffers of its own.
 */
#ifndef TEST_ATTENTION_H
#define TEST_ATTENTION_H

#include "tests/device/open.h"
#include "tests/support/rng.h"

#define LAYERS 3
#define R_MAX 4
#define PAGES 40
#define P 64
#define S 512 /* limit of the context */
#define W (S / P)
#define H 8
#define IH 4
#define K 64
#define POISON 0x5a

/* What a layer's buffers hold on one side: the model's, or what was made by hand. */
struct side
{
    struct rfn_layer_caches caches[LAYERS];
    struct rfn_tensor out[LAYERS];
    struct rfn_tensor lse[LAYERS];
};

struct model
{
    struct test *t;
    struct rng *rng;
    struct rfn_geometry g;
    int32_t source[LAYERS];
    struct rfn_attention_limits limits;
    struct rfn_attention *a;
    struct rfn_stream *s;
    int64_t T; /* rows at capacity */
    struct rfn_layer_io io[LAYERS];
    struct side mine, hand;
    /* by hand */
    struct rfn_tensor table, request, context, slots, q8, w8, logits, chosen[LAYERS];
    void *memory[96];
    int memories;
};

/* A step as a scheduler has it; rows of the table belong to nobody else. */
struct live
{
    int32_t requests;
    int32_t lens[R_MAX];
    int32_t q_lens[R_MAX];
    int32_t table[R_MAX * W];
};

static inline void *model_alloc(struct model *m, int64_t bytes)
{
    return m->memory[m->memories++] = test_device_memory(m->t, bytes);
}

static inline struct rfn_tensor model_tensor(struct model *m, enum rfn_dtype dtype,
                                             int64_t d0, int64_t d1, int64_t d2)
{
    int64_t bytes = d0 * (d1 ? d1 : 1) * (d2 ? d2 : 1) * rfn_dtype_bytes(dtype);
    return rfn_tensor_of(model_alloc(m, bytes), dtype, d0, d1, d2, 0);
}

static inline int64_t model_bytes(const struct rfn_tensor *t)
{
    int64_t bytes = rfn_dtype_bytes(t->dtype);
    for (int32_t i = 0; i < t->dims; i++)
        bytes *= t->shape[i];
    return bytes;
}

/* Random bf16 of both signs between 1/32768 and 2. */
static inline void model_random(struct model *m, const struct rfn_tensor *t)
{
    int64_t n = model_bytes(t) / 2;
    uint16_t *x = malloc((size_t)n * 2 + 8);
    for (int64_t i = 0; i < n; i += 4)
    {
        uint64_t bits = (rng_u64(m->rng) & 0x87ff87ff87ff87ffu) | 0x3800380038003800u;
        memcpy(x + i, &bits, n - i < 4 ? (size_t)(n - i) * 2 : 8);
    }
    OK(m->t, rfn_copy_sync(m->t->dev, t->data, x, n * 2));
    OK(m->t, rfn_device_sync(m->t->dev));
    free(x);
}

/* Every slot of both sides' pools gets the same random row. */
static inline void model_fill_caches(struct model *m)
{
    struct rfn_tensor kv = model_tensor(m, RFN_BF16, PAGES * P, 512, 0);
    struct rfn_tensor rope = model_tensor(m, RFN_BF16, PAGES * P, 64, 0);
    struct rfn_tensor key = model_tensor(m, RFN_BF16, PAGES * P, 128, 0);
    struct rfn_tensor slots = model_tensor(m, RFN_I64, PAGES * P, 0, 0);
    int64_t *all = malloc(PAGES * P * 8);
    for (int64_t i = 0; i < PAGES * P; i++)
        all[i] = i;
    OK(m->t, rfn_copy_sync(m->t->dev, slots.data, all, PAGES * P * 8));
    OK(m->t, rfn_device_sync(m->t->dev));
    free(all);
    model_random(m, &rope);
    for (int i = 0; i < m->g.layers; i++)
    {
        const struct rfn_layer_caches *mine = &m->mine.caches[i];
        const struct rfn_layer_caches *hand = &m->hand.caches[i];
        struct rfn_kv_pack_args latent = { kv, rope, slots, { 0 }, mine->latent };
        struct rfn_index_pack_args index = {
            key, slots, { 0 }, mine->index, RFN_SCALE_UE8M0
        };
        model_random(m, &kv);
        model_random(m, &key);
        OK(m->t, rfn_kv_pack(m->s, &latent));
        OK(m->t, rfn_copy_async(m->s, hand->latent.data, mine->latent.data,
                                PAGES * rfn_format_page_bytes(RFN_LATENT_FP8_656, P)));
        if (mine->index.data)
        {
            OK(m->t, rfn_index_pack(m->s, &index));
            OK(m->t, rfn_copy_async(m->s, hand->index.data, mine->index.data,
                                    PAGES * rfn_format_page_bytes(RFN_INDEX_FP8_132, P)));
        }
        OK(m->t, rfn_stream_sync(m->s));
    }
    while (m->memory[m->memories - 1] != kv.data)
        OK(m->t, rfn_memory_free(m->t->dev, m->memory[--m->memories]));
    OK(m->t, rfn_memory_free(m->t->dev, m->memory[--m->memories]));
}

static inline void model_side(struct model *m, struct side *side)
{
    for (int i = 0; i < m->g.layers; i++)
    {
        int own = m->source[i] == i;
        int64_t latent = rfn_format_page_bytes(RFN_LATENT_FP8_656, P);
        int64_t index = rfn_format_page_bytes(RFN_INDEX_FP8_132, P);
        side->caches[i].latent = (struct rfn_pool) { model_alloc(m, PAGES * latent),
                                                     RFN_LATENT_FP8_656, P, PAGES, 0 };
        if (own)
            side->caches[i].index = (struct rfn_pool) { model_alloc(m, PAGES * index),
                                                        RFN_INDEX_FP8_132, P, PAGES, 0 };
        side->out[i] = model_tensor(m, RFN_BF16, m->T, H, 512);
        side->lse[i] = model_tensor(m, RFN_F32, m->T, H, 0);
    }
}

static inline void model_inputs(struct model *m)
{
    for (int i = 0; i < m->g.layers; i++)
    {
        struct rfn_layer_io *io = &m->io[i];
        struct rfn_tensor *view[] = { &io->q,       &io->kv,      &io->k_rope,
                                      &io->index_q, &io->index_w, &io->index_k };
        for (int k = 0; k < 6; k++)
            if (view[k]->data)
                model_random(m, view[k]);
    }
}

/* Exits with 77 where the device cannot run it. `source` NULL: every layer chooses. */
static inline void model_begin(struct model *m, struct test *t, struct rng *rng,
                               int32_t layers, const int32_t *source, int32_t next_n,
                               int64_t logits_bytes)
{
    const struct rfn_geometry *tiny;
    *m = (struct model) { .t = t, .rng = rng };
    OK(t, rfn_geometry_find("tiny", &tiny));
    m->g = *tiny;
    m->g.layers = layers;
    for (int i = 0; i < layers; i++)
        m->source[i] = source ? source[i] : i;
    m->g.index_source = source ? m->source : NULL;
    m->limits = (struct rfn_attention_limits) { R_MAX, next_n, S, PAGES, logits_bytes };
    m->T = R_MAX * next_n;
    if (rfn_supported(t->dev, &m->g) == RFN_UNSUPPORTED)
    {
        printf("%s: skipped: %s\n", t->h.name, rfn_last_error());
        exit(77);
    }
    m->s = test_stream(t, RFN_STREAM_NONBLOCKING);
    OK(t, rfn_attention_create(t->dev, &m->g, &m->limits, &m->a));
    model_side(m, &m->mine);
    model_side(m, &m->hand);
    for (int i = 0; i < layers; i++)
    {
        struct rfn_layer_io *io = &m->io[i];
        io->q = model_tensor(m, RFN_BF16, m->T, H, 576);
        io->kv = model_tensor(m, RFN_BF16, m->T, 512, 0);
        io->k_rope = model_tensor(m, RFN_BF16, m->T, 64, 0);
        if (m->source[i] == i)
        {
            io->index_q = model_tensor(m, RFN_BF16, m->T, IH, 128);
            io->index_w = model_tensor(m, RFN_BF16, m->T, IH, 0);
            io->index_k = model_tensor(m, RFN_BF16, m->T, 128, 0);
        }
        io->out = m->mine.out[i];
        io->lse = m->mine.lse[i];
        m->chosen[i] = model_tensor(m, RFN_I32, m->T, K, 0);
        OK(t, rfn_attention_bind(m->a, i, &m->mine.caches[i], io));
    }
    m->table = model_tensor(m, RFN_I32, R_MAX, W, 0);
    m->request = model_tensor(m, RFN_I32, m->T, 0, 0);
    m->context = model_tensor(m, RFN_I32, m->T, 0, 0);
    m->slots = model_tensor(m, RFN_I64, m->T, 0, 0);
    m->q8 = model_tensor(m, RFN_E4M3, m->T, IH, 128);
    m->w8 = model_tensor(m, RFN_F32, m->T, IH, 0);
    m->logits = model_tensor(m, RFN_F32, m->T, S, 0);
    model_fill_caches(m);
    model_inputs(m);
}

static inline void model_free(struct model *m)
{
    OK(m->t, rfn_attention_destroy(&m->a));
    HOLDS(m->t, !m->a);
    while (m->memories)
        OK(m->t, rfn_memory_free(m->t->dev, m->memory[--m->memories]));
    OK(m->t, rfn_stream_destroy(&m->s));
}

static inline void model_end(struct model *m)
{
    struct rfn_fault fault;
    OK(m->t, rfn_device_sync(m->t->dev));
    OK(m->t, rfn_device_fault(m->t->dev, &fault));
    harness_check(&m->t->h, "no op met a bad index", !fault.op, "%s: %s, row %lld: %lld",
                  fault.op, fault.operand, (long long)fault.row, (long long)fault.value);
    model_free(m);
}

/* ---- steps ------------------------------------------------------------------------- */

/* Requests with contexts up to `most`, query lengths up to `next_n` (ragged), pages drawn
 * without putting back; the whole row is given, for later growth. */
static inline struct live live_random(struct rng *rng, int32_t requests, int32_t most,
                                      int32_t next_n)
{
    int32_t page[PAGES];
    struct live l = { .requests = requests };
    for (int32_t i = 0; i < PAGES; i++)
        page[i] = i;
    for (int32_t i = 0; i < R_MAX * W; i++)
    {
        int32_t j = (int32_t)rng_between(rng, i, PAGES - 1), p = page[j];
        page[j] = page[i];
        l.table[i] = page[i] = p;
    }
    for (int32_t b = 0; b < requests; b++)
    {
        l.q_lens[b] = (int32_t)rng_between(rng, 1, next_n);
        l.lens[b] = (int32_t)rng_between(rng, l.q_lens[b], most);
    }
    return l;
}

static inline struct rfn_step live_step(const struct live *l)
{
    return (struct rfn_step) { .requests = l->requests,
                               .lens = l->lens,
                               .q_lens = l->q_lens,
                               .table = l->table,
                               .table_stride = W };
}

/* What no op of this step may write is poison on both sides. */
static inline void model_poison(struct model *m)
{
    for (int i = 0; i < m->g.layers; i++)
    {
        const struct rfn_tensor *view[] = { &m->mine.out[i], &m->mine.lse[i],
                                            &m->hand.out[i], &m->hand.lse[i] };
        for (int k = 0; k < 4; k++)
            OK(m->t, rfn_set_async(m->s, view[k]->data, POISON, model_bytes(view[k])));
    }
}

/* Update and forward of every layer. */
static inline void model_run(struct model *m, const struct rfn_bucket *bucket)
{
    OK(m->t, rfn_attention_update(m->a, m->s, bucket));
    for (int i = 0; i < m->g.layers; i++)
        OK(m->t, rfn_attention_forward(m->a, m->s, i, bucket));
}

static inline struct rfn_tensor first_rows(struct rfn_tensor t, int64_t n)
{
    t.shape[0] = n;
    return t;
}

/* The step's rows, from the definition. */
static inline void hand_rows(struct model *m, const struct live *l)
{
    int32_t request[R_MAX * 8], context[R_MAX * 8];
    int64_t slots[R_MAX * 8];
    int32_t n = m->limits.next_n;
    for (int32_t t = 0; t < l->requests * n; t++)
    {
        int32_t b = t / n, j = t % n, live = j < l->q_lens[b];
        request[t] = live ? b : -1;
        context[t] = live ? l->lens[b] - l->q_lens[b] + j + 1 : 0;
        int32_t at = context[t] - 1;
        slots[t] = live ? (int64_t)l->table[b * W + at / P] * P + at % P : -1;
    }
    OK(m->t, rfn_copy_sync(m->t->dev, m->table.data, l->table, R_MAX * W * 4));
    OK(m->t, rfn_copy_sync(m->t->dev, m->request.data, request, l->requests * n * 4));
    OK(m->t, rfn_copy_sync(m->t->dev, m->context.data, context, l->requests * n * 4));
    OK(m->t, rfn_copy_sync(m->t->dev, m->slots.data, slots, l->requests * n * 8));
    /* From pageable memory it may still be on its way, and the stream waits for nothing. */
    OK(m->t, rfn_device_sync(m->t->dev));
}

static inline void hand_choose(struct model *m, int i, int64_t T)
{
    const struct rfn_layer_io *io = &m->io[i];
    struct rfn_index_pack_args pack = { first_rows(io->index_k, T),
                                        first_rows(m->slots, T),
                                        { 0 },
                                        m->hand.caches[i].index,
                                        RFN_SCALE_UE8M0 };
    struct rfn_index_query_pack_args query = {
        first_rows(io->index_q, T), first_rows(io->index_w, T), { 0 },
        first_rows(m->q8, T),       first_rows(m->w8, T),       RFN_SCALE_UE8M0
    };
    struct rfn_index_logits_args score = {
        .q8 = query.q8,
        .w8 = query.w8,
        .pool = m->hand.caches[i].index,
        .table = m->table,
        .request = first_rows(m->request, T),
        .lens = first_rows(m->context, T),
        .logits = first_rows(m->logits, T),
    };
    struct rfn_index_topk_args topk = {
        .logits = score.logits,
        .lens = score.lens,
        .table = m->table,
        .request = score.request,
        .slots = first_rows(m->chosen[i], T),
        .page_tokens = P,
        .pages = PAGES,
    };
    OK(m->t, rfn_index_pack(m->s, &pack));
    OK(m->t, rfn_index_query_pack(m->s, &query));
    OK(m->t, rfn_index_logits(m->s, &score));
    OK(m->t, rfn_index_topk(m->s, &topk));
}

/* The whole step by single ops, without live counts, lengths on sources, or chunks. */
static inline void hand_run(struct model *m, const struct live *l)
{
    int64_t T = (int64_t)l->requests * m->limits.next_n;
    OK(m->t, rfn_stream_sync(m->s));
    hand_rows(m, l);
    for (int i = 0; T && i < m->g.layers; i++)
    {
        const struct rfn_layer_io *io = &m->io[i];
        struct rfn_kv_pack_args pack = { first_rows(io->kv, T),
                                         first_rows(io->k_rope, T),
                                         first_rows(m->slots, T),
                                         { 0 },
                                         m->hand.caches[i].latent };
        struct rfn_sparse_mla_args attend = {
            .q = first_rows(io->q, T),
            .source = { { .pool = m->hand.caches[i].latent,
                          .indices = first_rows(m->chosen[m->source[i]], T) } },
            .out = first_rows(m->hand.out[i], T),
            .lse = first_rows(m->hand.lse[i], T),
            .scale = m->g.scale,
        };
        OK(m->t, rfn_kv_pack(m->s, &pack));
        if (m->source[i] == i)
            hand_choose(m, i, T);
        OK(m->t, rfn_sparse_mla(m->s, &attend));
    }
    OK(m->t, rfn_stream_sync(m->s));
}

static inline int same_bytes(struct test *t, const void *x, const void *y, int64_t bytes)
{
    char *a = malloc((size_t)bytes), *b = malloc((size_t)bytes);
    int same = rfn_copy_sync(t->dev, a, x, bytes) == RFN_OK &&
               rfn_copy_sync(t->dev, b, y, bytes) == RFN_OK &&
               memcmp(a, b, (size_t)bytes) == 0;
    free(a);
    free(b);
    return same;
}

/* Outputs (with what had to stay poison) and caches have the same bytes. */
static inline int model_agrees(struct model *m, const char *what)
{
    int ok = 1;
    OK(m->t, rfn_stream_sync(m->s));
    for (int i = 0; i < m->g.layers; i++)
    {
        const struct side *x = &m->mine, *y = &m->hand;
        const int64_t latent = PAGES * rfn_format_page_bytes(RFN_LATENT_FP8_656, P);
        const int64_t index = PAGES * rfn_format_page_bytes(RFN_INDEX_FP8_132, P);
        ok &= harness_check(
            &m->t->h, what,
            same_bytes(m->t, x->caches[i].latent.data, y->caches[i].latent.data, latent),
            "latent pool of layer %d", i);
        if (m->source[i] == i)
            ok &= harness_check(
                &m->t->h, what,
                same_bytes(m->t, x->caches[i].index.data, y->caches[i].index.data, index),
                "index pool of layer %d", i);
        ok &= harness_check(
            &m->t->h, what,
            same_bytes(m->t, x->out[i].data, y->out[i].data, model_bytes(&x->out[i])),
            "out of layer %d", i);
        ok &= harness_check(
            &m->t->h, what,
            same_bytes(m->t, x->lse[i].data, y->lse[i].data, model_bytes(&x->lse[i])),
            "lse of layer %d", i);
    }
    return ok;
}

#endif
