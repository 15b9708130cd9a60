/*
 * A row's bits: equal on every run of a bucket whatever its batch mates and the padding hold,
 * and with batch_invariant equal in every bucket. Rows are requests of one token with inputs,
 * context and pages of their own; which of them share a step, in which order, in which
 * bucket and with what in the unused rows changes from step to step.
 */
#include "tests/device/open.h"
#include "tests/support/rng.h"

#define PAGE 64
#define WIDTH 16 /* pages of a request at most */
#define TOPK 512
#define INDEX_HEADS 4
#define VIEWS 6 /* q, kv, k_rope, index_q, index_w, index_k */

struct world
{
    struct test *t;
    struct rng *rng;
    struct rfn_geometry g;
    struct rfn_attention *a;
    struct rfn_stream *s;
    int32_t rows; /* requests there are, and the largest bucket */
    struct rfn_layer_io io;
    void *memory[16];
    int memories;
    /* of each request: inputs, context, pages, and what the first run made of it */
    unsigned char *input[VIEWS];
    int64_t input_bytes[VIEWS]; /* a row */
    int32_t *lens, *table;
    unsigned char *right; /* rows of row_bytes */
    unsigned char *got;
    int64_t out_bytes, lse_bytes, chosen_bytes, row_bytes;
};

static void *device_bytes(struct world *w, int64_t bytes)
{
    return w->memory[w->memories++] = test_device_memory(w->t, bytes);
}

static struct rfn_tensor rows_of(struct world *w, enum rfn_dtype dtype, int64_t d1,
                                 int64_t d2)
{
    int64_t bytes = w->rows * d1 * (d2 ? d2 : 1) * rfn_dtype_bytes(dtype);
    return rfn_tensor_of(device_bytes(w, bytes), dtype, w->rows, d1, d2, 0);
}

static struct rfn_tensor *view_of(struct world *w, int i)
{
    struct rfn_tensor *view[VIEWS] = { &w->io.q,       &w->io.kv,      &w->io.k_rope,
                                       &w->io.index_q, &w->io.index_w, &w->io.index_k };
    return view[i];
}

/* A pool of small finite numbers in every format, scales included. */
static struct rfn_pool pool_of(struct world *w, enum rfn_format format, int64_t pages)
{
    int64_t bytes = pages * rfn_format_page_bytes(format, PAGE);
    uint64_t *byte = malloc((size_t)bytes + 8);
    struct rfn_pool pool = { device_bytes(w, bytes), format, PAGE, pages, 0 };
    for (int64_t i = 0; i < (bytes + 7) / 8; i++)
        byte[i] = (rng_u64(w->rng) & 0x8f0f0f0f8f0f0f0fu) | 0x3030303030303030u;
    OK(w->t, rfn_copy_sync(w->t->dev, pool.data, byte, bytes));
    OK(w->t, rfn_device_sync(w->t->dev));
    free(byte);
    return pool;
}

static void world_open(struct world *w, struct test *t, struct rng *rng, int32_t heads,
                       int32_t rows, int32_t batch_invariant)
{
    const struct rfn_geometry *tiny;
    *w = (struct world) { .t = t, .rng = rng, .rows = rows };
    OK(t, rfn_geometry_find("tiny", &tiny));
    w->g = *tiny;
    w->g.layers = 1;
    w->g.heads = heads;
    w->g.topk = TOPK;
    w->g.index_heads = INDEX_HEADS;
    const struct rfn_attention_limits limits = { .requests = rows,
                                                 .next_n = 1,
                                                 .context = WIDTH * PAGE,
                                                 .pages = (int64_t)rows * WIDTH,
                                                 .batch_invariant = batch_invariant };
    OK(t, rfn_attention_create(t->dev, &w->g, &limits, &w->a));
    w->s = test_stream(t, RFN_STREAM_NONBLOCKING);
    const struct rfn_layer_caches caches = {
        .latent = pool_of(w, w->g.latent_format, limits.pages),
        .index = pool_of(w, w->g.index_format, limits.pages),
    };
    w->io = (struct rfn_layer_io) { .q = rows_of(w, RFN_BF16, heads, 576),
                                    .kv = rows_of(w, RFN_BF16, 512, 0),
                                    .k_rope = rows_of(w, RFN_BF16, 64, 0),
                                    .index_q = rows_of(w, RFN_BF16, INDEX_HEADS, 128),
                                    .index_w = rows_of(w, RFN_BF16, INDEX_HEADS, 0),
                                    .index_k = rows_of(w, RFN_BF16, 128, 0),
                                    .out = rows_of(w, RFN_BF16, heads, 512),
                                    .lse = rows_of(w, RFN_F32, heads, 0) };
    OK(t, rfn_attention_bind(w->a, 0, &caches, &w->io));
    for (int i = 0; i < VIEWS; i++)
    {
        const struct rfn_tensor *v = view_of(w, i);
        w->input_bytes[i] = v->stride[0] * 2;
        w->input[i] = malloc((size_t)(rows * w->input_bytes[i]));
        for (int64_t k = 0; k < rows * v->stride[0]; k++)
            ((uint16_t *)w->input[i])[k] =
                (uint16_t)(0x3c00 + (rng_u64(rng) & 0x83ff)); /* 1/128 .. 2 */
    }
    w->lens = malloc((size_t)rows * 4);
    w->table = malloc((size_t)rows * WIDTH * 4);
    for (int32_t i = 0; i < rows * WIDTH; i++)
    {
        int32_t j = (int32_t)rng_below(rng, i + 1);
        w->table[i] = w->table[j];
        w->table[j] = i;
    }
    for (int32_t r = 0; r < rows; r++) /* some choose, some take all they have */
        w->lens[r] = (int32_t)(r % 4 == 3 ? rng_between(rng, 1, TOPK)
                                          : rng_between(rng, TOPK + 1, WIDTH * PAGE));
    w->out_bytes = heads * 1024;
    w->lse_bytes = heads * 4;
    w->chosen_bytes = TOPK * 4;
    w->row_bytes = w->out_bytes + w->lse_bytes + w->chosen_bytes;
    w->right = malloc((size_t)(rows * w->row_bytes));
    w->got = malloc((size_t)(rows * w->row_bytes));
}

static void world_close(struct world *w)
{
    struct rfn_fault fault;
    OK(w->t, rfn_device_sync(w->t->dev));
    OK(w->t, rfn_device_fault(w->t->dev, &fault));
    HOLDS(w->t, !fault.op);
    OK(w->t, rfn_attention_destroy(&w->a));
    while (w->memories)
        OK(w->t, rfn_memory_free(w->t->dev, w->memory[--w->memories]));
    OK(w->t, rfn_stream_destroy(&w->s));
    for (int i = 0; i < VIEWS; i++)
        free(w->input[i]);
    free(w->lens);
    free(w->table);
    free(w->right);
    free(w->got);
}

/* Requests `who` as rows 0 .. live - 1 of a bucket; garbage in the rows behind. Leaves what
 * was made of them in `ret`. */
static void run(struct world *w, const int32_t *who, int32_t live, int32_t bucket,
                unsigned char *ret)
{
    struct test *t = w->t;
    int32_t *lens = malloc((size_t)live * 4),
            *table = malloc((size_t)live * WIDTH * sizeof *table);
    struct rfn_bucket shape = { 0 };
    struct rfn_step_view view;
    for (int i = 0; i < VIEWS; i++)
    {
        int64_t bytes = w->input_bytes[i];
        unsigned char *all = malloc((size_t)(w->rows * bytes));
        memset(all, rng_below(w->rng, 2) ? 0xff : 0x7f, (size_t)(w->rows * bytes));
        for (int32_t r = 0; r < live; r++)
            memcpy(all + r * bytes, w->input[i] + who[r] * bytes, (size_t)bytes);
        OK(t, rfn_copy_sync(t->dev, view_of(w, i)->data, all, w->rows * bytes));
        free(all);
    }
    for (int32_t r = 0; r < live; r++)
    {
        lens[r] = w->lens[who[r]];
        memcpy(table + r * WIDTH, w->table + who[r] * WIDTH, WIDTH * 4);
    }
    OK(t, rfn_set_sync(t->dev, w->io.out.data, (int)rng_below(w->rng, 256),
                       w->rows * w->out_bytes));
    /* What is set and copied above is behind no stream of ours. */
    OK(t, rfn_device_sync(t->dev));
    const struct rfn_step step = {
        .requests = live, .lens = lens, .table = table, .table_stride = WIDTH
    };
    OK(t, rfn_attention_plan(w->a, w->s, &step, &shape));
    shape.requests = bucket;
    OK(t, rfn_attention_update(w->a, w->s, &shape));
    OK(t, rfn_attention_forward(w->a, w->s, 0, &shape));
    OK(t, rfn_stream_sync(w->s));
    OK(t, rfn_attention_view(w->a, 0, &view));
    struct
    {
        const void *from;
        int64_t bytes, at;
    } part[] = { { w->io.out.data, w->out_bytes, 0 },
                 { w->io.lse.data, w->lse_bytes, w->out_bytes },
                 { view.chosen.data, w->chosen_bytes, w->out_bytes + w->lse_bytes } };
    for (int i = 0; i < 3; i++)
    {
        unsigned char *all = malloc((size_t)(live * part[i].bytes));
        OK(t, rfn_copy_sync(t->dev, all, part[i].from, live * part[i].bytes));
        for (int32_t r = 0; r < live; r++)
            memcpy(ret + r * w->row_bytes + part[i].at, all + r * part[i].bytes,
                   (size_t)part[i].bytes);
        free(all);
    }
    free(lens);
    free(table);
}

/* How many rows have other bits than at first; the first of them is named. */
static int others(struct world *w, const int32_t *who, int32_t live, int32_t *ret_first)
{
    int n = 0;
    for (int32_t r = live - 1; r >= 0; r--)
        if (memcmp(w->got + r * w->row_bytes, w->right + who[r] * w->row_bytes,
                   (size_t)w->row_bytes))
        {
            n++;
            *ret_first = r;
        }
    return n;
}

static void draw(struct world *w, int32_t *who)
{
    for (int32_t i = 0; i < w->rows; i++)
    {
        int32_t j = (int32_t)rng_below(w->rng, i + 1);
        who[i] = who[j];
        who[j] = i;
    }
}

/* All at once first, then in `steps` steps of every bucket. Returns the rows that differ. */
static int rows_that_differ(struct world *w, const int32_t *bucket, int buckets,
                            int steps, int due, const char *what)
{
    int32_t *who = malloc((size_t)w->rows * 4), first = -1;
    int rows = 0, differ = 0;
    for (int32_t i = 0; i < w->rows; i++)
        who[i] = i;
    run(w, who, w->rows, bucket[buckets - 1], w->right);
    for (int b = 0; b < buckets; b++)
    {
        for (int i = 0; i < steps; i++)
        {
            int32_t most = bucket[b] < w->rows ? bucket[b] : w->rows;
            int32_t live = i % 2 ? (int32_t)rng_between(w->rng, 1, most) : most;
            draw(w, who);
            run(w, who, live, bucket[b], w->got);
            int n = others(w, who, live, &first);
            rows += live;
            differ += n;
            if (due == 0)
                harness_check(
                    &w->t->h, what, n == 0,
                    "%d heads, bucket %d, step %d: %d of %d rows, first row %d, "
                    "request %d",
                    w->g.heads, bucket[b], i, n, live, first, n ? who[first] : -1);
        }
    }
    printf("%s: %d heads, %d rows, %d differ\n", what, w->g.heads, rows, differ);
    free(who);
    return differ;
}

int main(int argc, char **argv)
{
    struct test t;
    struct world w;
    test_begin(&t, "invariant", &argc, argv);
    struct rng rng = rng_of(t.h.seed);
    const int32_t bucket[] = { 1, 2, 8, 32, 128 }, heads[] = { 8, 16, 128 };
    int sizes = t.host ? 3 : 5;
    for (int i = 0; i < (t.host ? 1 : 3); i++)
    {
        world_open(&w, &t, &rng, heads[i], bucket[sizes - 1], 1);
        rows_that_differ(&w, bucket, sizes, 4, 0,
                         "a row has the same bits in every bucket");
        world_close(&w);

        world_open(&w, &t, &rng, heads[i], bucket[sizes - 1], 0);
        rows_that_differ(&w, bucket + sizes - 1, 1, 10, 0,
                         "a row has the same bits on every run of a bucket");
        /* What the flag is for; the host twin has no use of it. */
        int differ =
            rows_that_differ(&w, bucket, sizes, 2, -1, "without batch_invariant");
        HOLDS(&t, t.host ? differ == 0 : differ > 0);
        world_close(&w);
    }
    const struct rfn_attention_limits bad = {
        .requests = 1, .next_n = 1, .pages = 1, .batch_invariant = 2
    };
    const struct rfn_geometry *tiny;
    OK(&t, rfn_geometry_find("tiny", &tiny));
    REFUSED(&t, rfn_attention_create(t.dev, tiny, &bad, &w.a), RFN_LIMIT,
            "batch_invariant = 2|0 .. 1");
    return test_end(&t);
}
