/*
 * What an attention object refuses, and in which words: geometries, limits, bindings, steps
 * and buckets. Nothing is enqueued, no output is set, the object stays good.
 */
#include "tests/device/attention.h"

/* ---- geometries and limits ----------------------------------------------------------- */

struct made
{
    struct rfn_geometry g;
    struct rfn_attention_limits l;
    int32_t source[LAYERS];
};

/* X(what is spoilt, status, words) */
#define CREATE_CASES(X)                                                                  \
    X(m->g.name = NULL, INVALID, "name")                                                 \
    X(m->g.layers = 0, INVALID, "layers = 0|1 ..")                                       \
    X(m->g.heads = 129, INVALID, "heads = 129|128")                                      \
    X(m->g.index_heads = 3, INVALID, "index_heads = 3|4 .. 64")                          \
    X(m->g.index_heads = 65, INVALID, "index_heads = 65|4 .. 64")                        \
    X(m->g.topk = 63, INVALID, "topk = 63|64 .. 2048")                                   \
    X(m->g.topk = 2049, INVALID, "topk = 2049|64 .. 2048")                               \
    X(m->g.context = 1048577, INVALID, "context = 1048577|1048576")                      \
    X(m->g.page_tokens = 0, INVALID, "page_tokens = 0")                                  \
    X(m->g.latent_scale = 2, INVALID, "latent_scale = 2|0 .. 1")                         \
    X(m->g.index_scale = -1, INVALID, "index_scale = -1|0 .. 1")                         \
    X(m->g.scale = 0, INVALID, "scale = 0|above 0")                                      \
    X(m->g.scale = INFINITY, INVALID, "scale = inf")                                     \
    X(m->g.scale = NAN, INVALID, "scale = ")                                             \
    X(m->g.latent_elems = 448, INVALID, "latent_elems = 448|latent_fp8_656|512")         \
    X(m->g.rope_elems = 32, INVALID, "rope_elems = 32|64")                               \
    X(m->g.v_elems = 576, INVALID, "v_elems = 576|512")                                  \
    X(m->g.index_width = 64, INVALID, "index_width = 64|index_fp8_132|128")              \
    X(m->g.latent_format = 0, INVALID, "latent_format is none")                          \
    X(m->g.latent_format = RFN_INDEX_FP8_132, INVALID, "latent_format is index_fp8_132") \
    X(m->g.index_format = RFN_LATENT_FP8_656, INVALID, "index_format is latent_fp8_656") \
    X(m->g.latent_format = RFN_LATENT_FP8_584, INVALID, "latent_elems = 512|448")        \
    X(m->source[1] = 2, INVALID, "layer 1|layer 2|0 .. 1")                               \
    X(m->source[1] = -1, INVALID, "layer 1|layer -1")                                    \
    X(m->source[2] = 1; m->source[1] = 0, INVALID, "layer 2|layer 1|layer 0")            \
    X(m->l.requests = 0, LIMIT, "requests = 0|1 ..")                                     \
    X(m->l.requests = 65537, LIMIT, "requests = 65537|65536")                            \
    X(m->l.next_n = 0, LIMIT, "next_n = 0|1 .. 8")                                       \
    X(m->l.next_n = 9, LIMIT, "next_n = 9|1 .. 8")                                       \
    X(m->l.context = 8193, LIMIT, "context = 8193|8192")                                 \
    X(m->l.context = -1, LIMIT, "context = -1")                                          \
    X(m->l.pages = 0, LIMIT, "pages = 0")                                                \
    X(m->l.pages = 33554433, LIMIT, "pages = 33554433|33554432")                         \
    X(m->l.logits_bytes = 2047, LIMIT, "logits_bytes = 2047|2048")                       \
    X(m->l.logits_bytes = -1, LIMIT, "logits_bytes = -1")

#define SPOIL(what, status, words)                                                       \
    if (row-- == 0)                                                                      \
    {                                                                                    \
        what;                                                                            \
        return;                                                                          \
    }
#define ROW(what, status, words) { #what, RFN_##status, words },

struct row
{
    const char *what;
    enum rfn_status status;
    const char *words;
};
#define ROWS(table) ((int)(sizeof(table) / sizeof((table)[0])))

static const struct row create_rows[] = { CREATE_CASES(ROW) };

static void spoil_create(struct made *m, int row)
{
    CREATE_CASES(SPOIL)
}

static void refused(struct test *t, const struct row *row, enum rfn_status status)
{
    if (harness_check(&t->h, row->what, status == row->status, "%s where %s is due: %s",
                      rfn_status_name(status), rfn_status_name(row->status),
                      status ? rfn_last_error() : ""))
        harness_check(&t->h, row->what, test_line_has(row->words),
                      "\"%s\" lacks one of \"%s\"", rfn_last_error(), row->words);
}

static struct made good_made(void)
{
    struct made m = { .l = { 2, 2, S, PAGES, 0 }, .source = { 0, 1, 2 } };
    const struct rfn_geometry *tiny;
    if (rfn_geometry_find("tiny", &tiny) == RFN_OK)
        m.g = *tiny;
    m.g.layers = LAYERS;
    return m;
}

static void bad_models_are_refused(struct test *t)
{
    struct rfn_attention *a = NULL;
    for (int i = 0; i < ROWS(create_rows); i++)
    {
        struct made m = good_made();
        m.g.index_source = m.source;
        spoil_create(&m, i);
        refused(t, &create_rows[i], rfn_attention_create(t->dev, &m.g, &m.l, &a));
        HOLDS(t, !a);
        if (create_rows[i].status == RFN_INVALID)
            refused(t, &create_rows[i], rfn_supported(t->dev, &m.g));
    }
    struct made m = good_made();
    m.g.index_source = m.source;
    OK(t, rfn_supported(t->dev, &m.g));
    REFUSED(t, rfn_attention_create(NULL, &m.g, &m.l, &a), RFN_INVALID, "device is NULL");
    REFUSED(t, rfn_attention_create(t->dev, NULL, &m.l, &a), RFN_INVALID, "geometry");
    REFUSED(t, rfn_attention_create(t->dev, &m.g, NULL, &a), RFN_INVALID, "limits");
    REFUSED(t, rfn_attention_create(t->dev, &m.g, &m.l, NULL), RFN_INVALID, "attention");
    OK(t, rfn_attention_destroy(&a));
    REFUSED(t, rfn_attention_destroy(NULL), RFN_INVALID, "NULL");
}

/* From the least to more than a few; the geometry may go away behind create. */
static void limits_of_all_sizes_work(struct test *t)
{
    const struct rfn_attention_limits limits[] = {
        { 1, 1, 1, 1, 0 },     { 1, 1, 0, 1, 0 },      { 1, 8, 63, 1, 256 },
        { 3, 5, 65, 7, 3000 }, { 256, 1, 0, 1000, 0 }, { 7, 8, 8192, 33554432, 1 << 20 },
    };
    for (int i = 0; i < ROWS(limits); i++)
    {
        struct made m = good_made();
        struct rfn_attention *a = NULL;
        struct rfn_step_view view;
        char name[] = "gone";
        m.g.name = name;
        m.g.index_source = m.source;
        m.source[2] = 0;
        OK(t, rfn_attention_create(t->dev, &m.g, &limits[i], &a));
        memset(name, 'x', sizeof name - 1);
        memset(&m, 0xee, sizeof m);
        OK(t, rfn_attention_view(a, 2, &view));
        int64_t T = (int64_t)limits[i].requests * limits[i].next_n;
        HOLDS(t, view.context.shape[0] == T && view.chosen.shape[0] == T);
        REFUSED(t, rfn_attention_view(a, 3, &view), RFN_NOT_FOUND, "layer 3|3 layers");
        REFUSED(t, rfn_attention_view(a, -1, &view), RFN_NOT_FOUND, "layer -1");
        REFUSED(t,
                rfn_attention_forward(a, rfn_stream_legacy(t->dev), 0,
                                      &(struct rfn_bucket) { 1, 1, 0 }),
                RFN_NOT_READY, "layer 0 of gone|not bound");
        OK(t, rfn_attention_destroy(&a));
        HOLDS(t, !a);
    }
}

/* ---- bindings ------------------------------------------------------------------------ */

struct bound
{
    struct rfn_layer_caches c;
    struct rfn_layer_io io;
};

/* The third layer uses the choice of the first; rows with `reuse` are bound to it. */
#define BIND_CASES(X)                                                                    \
    X(b->c.latent.data = NULL, INVALID, "latent pool|not given")                         \
    X(b->c.latent.format = RFN_LATENT_BF16_576, INVALID,                                 \
      "latent pool|latent_bf16_576|latent_fp8_656")                                      \
    X(b->c.latent.page_tokens = 32, INVALID, "latent pool|32|64")                        \
    X(b->c.latent.pages = 39, INVALID, "latent pool|39|40")                              \
    X(b->c.latent.page_stride_bytes = 41983, INVALID, "41983|41984")                     \
    X(b->c.index.data = NULL, INVALID, "index pool|not given")                           \
    X(b->c.index.format = 99, INVALID, "index pool|no known format|index_fp8_132")       \
    X(b->c.index.pages = 41, INVALID, "index pool|41|40")                                \
    X(b->io.q.data = NULL, INVALID, "q is not given")                                    \
    X(b->io.q.dtype = RFN_F32, INVALID, "q is f32|bf16")                                 \
    X(b->io.q.dtype = 99, INVALID, "q is none|bf16")                                     \
    X(b->io.q.dims = 2, INVALID, "q has 2|3 are")                                        \
    X(b->io.q.shape[0] = 7, INVALID, "q has 7 rows|8")                                   \
    X(b->io.q.shape[1] = 7, INVALID, "q has extent 7|dimension 1|8")                     \
    X(b->io.q.shape[2] = 512, INVALID, "q has extent 512|dimension 2|576")               \
    X(b->io.q.stride[0] = 4604, INVALID, "q|4604")                                       \
    X(b->io.q.data = (char *)b->io.q.data + 2, INVALID, "q|16-byte")                     \
    X(b->io.kv.shape[1] = 576, INVALID, "kv has extent 576|512")                         \
    X(b->io.k_rope.dims = 3, INVALID, "k_rope has 3|2 are")                              \
    X(b->io.index_q.data = NULL, INVALID, "index_q is not given")                        \
    X(b->io.index_q.shape[1] = 5, INVALID, "index_q has extent 5|4")                     \
    X(b->io.index_w.dtype = RFN_I32, INVALID, "index_w is i32|bf16 or f32")              \
    X(b->io.index_k.shape[1] = 64, INVALID, "index_k has extent 64|128")                 \
    X(b->io.index_k.stride[0] = 132, INVALID, "k|264|16")                                \
    X(b->io.out.stride[1] = 516, INVALID, "out|1032|16")                                 \
    X(b->io.out.dtype = RFN_F32, INVALID, "out is f32|bf16")                             \
    X(b->io.out.data = NULL, INVALID, "out is not given")                                \
    X(b->io.lse.dtype = RFN_BF16, INVALID, "lse is bf16|f32")                            \
    X(b->io.lse.shape[0] = 1, INVALID, "lse has 1 rows|8")

static const struct row bind_rows[] = { BIND_CASES(ROW) };

static void spoil_bind(struct bound *b, int row)
{
    BIND_CASES(SPOIL)
}

static void bad_bindings_are_refused(struct test *t, struct model *m)
{
    for (int i = 0; i < ROWS(bind_rows); i++)
    {
        struct bound b = { m->mine.caches[0], m->io[0] };
        spoil_bind(&b, i);
        refused(t, &bind_rows[i], rfn_attention_bind(m->a, 0, &b.c, &b.io));
    }
    struct bound b = { m->mine.caches[2], m->io[2] };
    b.c.index = m->mine.caches[0].index;
    REFUSED(t, rfn_attention_bind(m->a, 2, &b.c, &b.io), RFN_INVALID,
            "layer 2|index pool|layer 0");
    b = (struct bound) { m->mine.caches[2], m->io[2] };
    b.io.index_k = m->io[0].index_k;
    REFUSED(t, rfn_attention_bind(m->a, 2, &b.c, &b.io), RFN_INVALID, "layer 2|index_k");
    b = (struct bound) { m->mine.caches[0], m->io[0] };
    REFUSED(t, rfn_attention_bind(m->a, 3, &b.c, &b.io), RFN_NOT_FOUND, "3|3 layers");
    REFUSED(t, rfn_attention_bind(NULL, 0, &b.c, &b.io), RFN_INVALID, "attention");
    REFUSED(t, rfn_attention_bind(m->a, 0, NULL, &b.io), RFN_INVALID, "caches");
    REFUSED(t, rfn_attention_bind(m->a, 0, &b.c, NULL), RFN_INVALID, "io");
    /* What was bound before is bound yet. */
    struct live l = live_random(m->rng, R_MAX, S, 2);
    struct rfn_step step = live_step(&l);
    struct rfn_bucket bucket;
    model_poison(m);
    OK(t, rfn_attention_plan(m->a, m->s, &step, &bucket));
    model_run(m, &bucket);
    hand_run(m, &l);
    model_agrees(m, "bindings outlive refused ones");
    /* More rows, strided rows, f32 weights and no LSE are fine. */
    struct rfn_tensor wide = model_tensor(m, RFN_BF16, m->T + 3, 640, 0);
    struct rfn_tensor weights = model_tensor(m, RFN_F32, m->T, IH, 0);
    b.io.kv = wide;
    b.io.kv.shape[1] = 512;
    b.io.index_w = weights;
    b.io.lse = (struct rfn_tensor) { 0 };
    OK(t, rfn_attention_bind(m->a, 0, &b.c, &b.io));
    OK(t, rfn_attention_bind(m->a, 0, &m->mine.caches[0], &m->io[0]));
}

/* ---- steps and buckets --------------------------------------------------------------- */

struct planned
{
    struct live l;
    struct rfn_step step;
};

#define STEP_CASES(X)                                                                    \
    X(p->step.requests = -1, INVALID, "requests = -1")                                   \
    X(p->step.requests = 5, LIMIT, "5 requests|4")                                       \
    X(p->step.unchanged = 2, INVALID, "unchanged = 2")                                   \
    X(p->step.advance = -1, INVALID, "advance = -1")                                     \
    X(p->step.lens = NULL, INVALID, "3 requests|lens is NULL")                           \
    X(p->step.table = NULL, INVALID, "3 requests|table is NULL")                         \
    X(p->l.lens[1] = 0, INVALID, "request 1|context of 0")                               \
    X(p->l.lens[1] = -5, INVALID, "request 1|context of -5")                             \
    X(p->l.lens[2] = 1;                                                                  \
      p->l.q_lens[2] = 2, INVALID, "request 2|of 1 tokens|the 2 query")                  \
    X(p->l.lens[0] = 513, LIMIT, "request 0|513|512")                                    \
    X(p->l.lens[0] = INT32_MAX, LIMIT, "request 0|2147483647|512")                       \
    X(p->l.q_lens[1] = 0, INVALID, "request 1|0 query|at least 1")                       \
    X(p->l.q_lens[1] = 3, LIMIT, "request 1|3 query|2")                                  \
    X(p->l.lens[1] = 129;                                                                \
      p->l.table[W + 2] = 40, INVALID, "request 1|entry 2|page 40|have 40")              \
    X(p->l.table[2 * W] = -1, INVALID, "request 2|entry 0|page -1|have 40")              \
    X(p->l.lens[2] = 65; p->step.table_stride = 1, INVALID, "request|pages|has 1")       \
    X(p->step.table_stride = 0, INVALID, "request 0|pages|has 0")                        \
    X(p->step.table_stride = -8, INVALID, "request 0|pages|has -8")

static const struct row step_rows[] = { STEP_CASES(ROW) };

static void spoil_step(struct planned *p, int row)
{
    STEP_CASES(SPOIL)
}

static void bad_steps_are_refused(struct test *t, struct model *m)
{
    struct rfn_step_view view;
    struct rfn_bucket bucket;
    struct planned good = { .l = live_random(m->rng, 3, S, 2) };
    good.l.lens[0] = S; /* so that narrow tables are too narrow */
    good.step = live_step(&good.l);
    OK(t, rfn_attention_view(m->a, 0, &view));
    OK(t, rfn_attention_plan(m->a, m->s, &good.step, &bucket));
    OK(t, rfn_stream_sync(m->s));
    for (int i = 0; i < ROWS(step_rows); i++)
    {
        struct planned p = { .l = live_random(m->rng, 3, S, 2) };
        p.l.lens[0] = S;
        p.step = live_step(&p.l);
        spoil_step(&p, i);
        bucket = (struct rfn_bucket) { -7, -7, -7 };
        refused(t, &step_rows[i], rfn_attention_plan(m->a, m->s, &p.step, &bucket));
        HOLDS(t, bucket.requests == -7);
    }
    REFUSED(t, rfn_attention_plan(NULL, m->s, &good.step, &bucket), RFN_INVALID,
            "attention");
    REFUSED(t, rfn_attention_plan(m->a, NULL, &good.step, &bucket), RFN_INVALID,
            "stream");
    REFUSED(t, rfn_attention_plan(m->a, m->s, NULL, &bucket), RFN_INVALID, "step");
    REFUSED(t, rfn_attention_plan(m->a, m->s, &good.step, NULL), RFN_INVALID, "bucket");
    struct rfn_device *other = test_open(t);
    REFUSED(t, rfn_attention_plan(m->a, rfn_stream_legacy(other), &good.step, &bucket),
            RFN_INVALID, "belongs to device");
    OK(t, rfn_device_close(&other));

    /* The device has the good step yet, and the object knows. */
    OK(t, rfn_stream_sync(m->s));
    int32_t lens[3];
    OK(t, rfn_copy_sync(t->dev, lens, view.lens.data, sizeof lens));
    HOLDS(t, memcmp(lens, good.l.lens, sizeof lens) == 0);
    good.step.unchanged = 1;
    OK(t, rfn_attention_plan(m->a, m->s, &good.step, &bucket));
    HOLDS(t, bucket.requests == 3 && bucket.next_n == 2 && !bucket.short_context);

    /* No query lengths: the limit each. What lies behind the pages in use is not read. */
    good.step.unchanged = 0;
    good.step.q_lens = NULL;
    good.l.lens[1] = P;
    good.l.lens[2] = good.l.lens[2] > 1 ? good.l.lens[2] : 2;
    good.l.table[W + 1] = -99;
    OK(t, rfn_attention_plan(m->a, m->s, &good.step, &bucket));
    OK(t, rfn_stream_sync(m->s));
    OK(t, rfn_copy_sync(t->dev, lens, view.q_lens.data, sizeof lens));
    HOLDS(t, lens[0] == 2 && lens[1] == 2 && lens[2] == 2);
}

static void bad_buckets_are_refused(struct test *t, struct model *m)
{
    static const struct
    {
        struct rfn_bucket bucket;
        enum rfn_status status;
        const char *words;
    } rows[] = {
        { { 5, 2, 0 }, RFN_LIMIT, "5 requests|4 of 2" },
        { { 4, 3, 0 }, RFN_LIMIT, "4 requests of 3|4 of 2" },
        { { -1, 2, 0 }, RFN_INVALID, "requests = -1" },
        { { 4, 0, 0 }, RFN_INVALID, "next_n = 0" },
        { { 4, 2, 2 }, RFN_INVALID, "short_context = 2" },
    };
    model_poison(m);
    for (int i = 0; i < ROWS(rows); i++)
    {
        const char *words = rows[i].words;
        REFUSED(t, rfn_attention_update(m->a, m->s, &rows[i].bucket), rows[i].status,
                words);
        REFUSED(t, rfn_attention_forward(m->a, m->s, 0, &rows[i].bucket), rows[i].status,
                words);
    }
    const struct rfn_bucket good = { 4, 2, 0 };
    REFUSED(t, rfn_attention_forward(m->a, m->s, 3, &good), RFN_NOT_FOUND, "3|3 layers");
    REFUSED(t, rfn_attention_forward(m->a, m->s, -1, &good), RFN_NOT_FOUND, "-1");
    REFUSED(t, rfn_attention_forward(NULL, m->s, 0, &good), RFN_INVALID, "attention");
    REFUSED(t, rfn_attention_forward(m->a, NULL, 0, &good), RFN_INVALID, "stream");
    REFUSED(t, rfn_attention_forward(m->a, m->s, 0, NULL), RFN_INVALID, "bucket");
    REFUSED(t, rfn_attention_update(NULL, m->s, &good), RFN_INVALID, "attention");
    REFUSED(t, rfn_attention_update(m->a, NULL, &good), RFN_INVALID, "stream");
    REFUSED(t, rfn_attention_update(m->a, m->s, NULL), RFN_INVALID, "bucket");
    OK(t, rfn_stream_sync(m->s));
    for (int i = 0; i < LAYERS; i++)
        HOLDS(t, test_all(t, m->mine.out[i].data, model_bytes(&m->mine.out[i]), POISON));
}

int main(int argc, char **argv)
{
    struct test t;
    struct model m;
    const int32_t source[LAYERS] = { 0, 1, 0 };
    test_begin(&t, "attention_args", &argc, argv);
    struct rng rng = rng_of(t.h.seed);
    model_begin(&m, &t, &rng, LAYERS, source, 2, 0); /* may skip */
    bad_models_are_refused(&t);
    limits_of_all_sizes_work(&t);
    bad_bindings_are_refused(&t, &m);
    bad_buckets_are_refused(&t, &m);
    bad_steps_are_refused(&t, &m);
    model_end(&m);
    return test_end(&t);
}
