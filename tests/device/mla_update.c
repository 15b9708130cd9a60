/*
 * exec_update of a captured sparse_mla: other pointers, other lengths on the device, other
 * numbers of rows, heads and columns, another scale. A replay gives the bits of an eager
 * launch with the same arguments, and writes nothing else.
 */
#include "tests/device/open.h"
#include "tests/support/rng.h"

#define T 70
#define H 40
#define K 1100
#define PAGE 64
#define PAGES 24
#define POISON 0x5a
#define SETS 2

struct set
{
    struct rfn_tensor q, indices, lens, sink, out, lse;
    struct rfn_pool pool;
};

struct world
{
    struct test *t;
    struct rng *rng;
    struct rfn_stream *s;
    struct set set[SETS];
    void *memory[32];
    int memories;
    int64_t out_bytes, lse_bytes;
    int64_t rows; /* T, fewer where the host computes */
};

static struct rfn_tensor tensor(struct world *w, enum rfn_dtype dtype, int64_t d0,
                                int64_t d1, int64_t d2)
{
    int64_t bytes = d0 * (d1 ? d1 : 1) * (d2 ? d2 : 1) * rfn_dtype_bytes(dtype);
    void *p = w->memory[w->memories++] = test_device_memory(w->t, bytes);
    return rfn_tensor_of(p, dtype, d0, d1, d2, 0);
}

static void upload(struct world *w, const void *device, const void *host, int64_t bytes)
{
    OK(w->t, rfn_copy_sync(w->t->dev, (void *)(uintptr_t)device, host, bytes));
    /* A copy from pageable memory may return before the bytes have arrived. */
    OK(w->t, rfn_device_sync(w->t->dev));
}

/* Indices and lengths anew: what an eager launch and a replay both read. */
static void fill_choice(struct world *w, const struct set *x)
{
    int32_t *index = malloc((size_t)w->rows * K * 4), lens[T];
    for (int64_t i = 0; i < w->rows * K; i++)
        index[i] = (int32_t)rng_below(w->rng, PAGES * PAGE + 20) - 20;
    for (int64_t i = 0; i < w->rows; i++)
        lens[i] = (int32_t)rng_below(w->rng, K + 50) - 10;
    upload(w, x->indices.data, index, w->rows * K * 4);
    upload(w, x->lens.data, lens, w->rows * 4);
    free(index);
}

static void fill_set(struct world *w, struct set *x)
{
    int64_t pool_bytes = PAGES * rfn_format_page_bytes(RFN_LATENT_FP8_656, PAGE);
    int64_t n = pool_bytes > w->rows * H * 1152 ? pool_bytes : w->rows * H * 1152;
    uint64_t *bits = malloc((size_t)n + 8);
    float sink[H];
    x->q = tensor(w, RFN_BF16, w->rows, H, 576);
    x->indices = tensor(w, RFN_I32, w->rows, K, 0);
    x->lens = tensor(w, RFN_I32, w->rows, 0, 0);
    x->sink = tensor(w, RFN_F32, H, 0, 0);
    x->out = tensor(w, RFN_BF16, w->rows, H, 512);
    x->lse = tensor(w, RFN_F32, w->rows, H, 0);
    x->pool = (struct rfn_pool) { tensor(w, RFN_U8, pool_bytes, 0, 0).data,
                                  RFN_LATENT_FP8_656, PAGE, PAGES, 0 };
    for (int64_t i = 0; i < (n + 7) / 8; i++) /* bf16 1/128 .. 2, both signs */
        bits[i] = (rng_u64(w->rng) & 0x83ff83ff83ff83ffu) + 0x3c003c003c003c00u;
    upload(w, x->q.data, bits, w->rows * H * 1152);
    for (int64_t i = 0; i < (n + 7) / 8; i++) /* finite in every part of a row */
        bits[i] = (rng_u64(w->rng) & 0x8f0f0f0f8f0f0f0fu) | 0x3030303030303030u;
    upload(w, x->pool.data, bits, pool_bytes);
    for (int h = 0; h < H; h++)
        sink[h] = rng_normal(w->rng);
    upload(w, x->sink.data, sink, sizeof sink);
    free(bits);
    fill_choice(w, x);
}

static struct rfn_sparse_mla_args args_of(const struct set *x)
{
    return (struct rfn_sparse_mla_args) {
        .q = x->q,
        .source = { { .pool = x->pool, .indices = x->indices, .lens = x->lens } },
        .sink = x->sink,
        .out = x->out,
        .lse = x->lse,
        .scale = 0.05f,
    };
}

/* The first rows, heads and columns of all that there is. */
static struct rfn_sparse_mla_args part_of(struct rfn_sparse_mla_args a, int64_t rows,
                                          int64_t heads, int64_t columns)
{
    struct rfn_tensor *of_rows[] = { &a.q, &a.out, &a.lse, &a.source[0].indices,
                                     &a.source[0].lens };
    for (int i = 0; i < 5; i++)
        of_rows[i]->shape[0] = rows;
    a.q.shape[1] = a.out.shape[1] = a.lse.shape[1] = a.sink.shape[0] = heads;
    a.source[0].indices.shape[1] = columns;
    return a;
}

static void poison(struct world *w)
{
    for (int i = 0; i < SETS; i++)
    {
        OK(w->t, rfn_set_sync(w->t->dev, w->set[i].out.data, POISON, w->out_bytes));
        OK(w->t, rfn_set_sync(w->t->dev, w->set[i].lse.data, POISON, w->lse_bytes));
    }
    OK(w->t, rfn_device_sync(w->t->dev));
}

/* Everything that any of the launches could have written. */
static unsigned char *outputs(struct world *w)
{
    unsigned char *all = malloc((size_t)(SETS * (w->out_bytes + w->lse_bytes)));
    for (int i = 0; i < SETS; i++)
    {
        unsigned char *to = all + i * (w->out_bytes + w->lse_bytes);
        OK(w->t, rfn_copy_sync(w->t->dev, to, w->set[i].out.data, w->out_bytes));
        OK(w->t,
           rfn_copy_sync(w->t->dev, to + w->out_bytes, w->set[i].lse.data, w->lse_bytes));
    }
    return all;
}

/* A replay of `exec` gives what an eager launch of `a` gives. */
static int replays(struct world *w, struct rfn_exec *exec,
                   const struct rfn_sparse_mla_args *a, const char *what)
{
    int64_t bytes = SETS * (w->out_bytes + w->lse_bytes);
    poison(w);
    OK(w->t, rfn_sparse_mla(w->s, a));
    OK(w->t, rfn_stream_sync(w->s));
    unsigned char *due = outputs(w);
    poison(w);
    OK(w->t, rfn_exec_launch(exec, w->s));
    OK(w->t, rfn_stream_sync(w->s));
    unsigned char *got = outputs(w);
    int64_t at = 0;
    while (at < bytes && due[at] == got[at])
        at++;
    int same =
        harness_check(&w->t->h, what, at == bytes, "byte %lld is %02x, but eagerly %02x",
                      (long long)at, at < bytes ? got[at] : 0, at < bytes ? due[at] : 0);
    free(due);
    free(got);
    return same;
}

static struct rfn_exec *capture(struct world *w, const struct rfn_sparse_mla_args *a)
{
    struct rfn_graph *graph = NULL;
    struct rfn_exec *exec = NULL;
    OK(w->t, rfn_capture_begin(w->s, NULL));
    OK(w->t, rfn_sparse_mla(w->s, a));
    OK(w->t, rfn_capture_end(w->s, &graph));
    OK(w->t, rfn_graph_instantiate(graph, &exec));
    OK(w->t, rfn_graph_destroy(&graph));
    return exec;
}

/* Rows, heads, columns: few or many heads a block, blocks a cluster and blocks in all. */
static const int size[][3] = { { 1, H, K },   { 1, 1, K }, { T, 8, 64 }, { 2, 16, K },
                               { T, H, 130 }, { 9, H, K }, { T, H, K },  { 8, 8, 1 } };
#define SIZES (int)(sizeof size / sizeof size[0])

static struct rfn_sparse_mla_args args_of_size(struct world *w, int i, int set)
{
    int64_t rows = size[i][0] < w->rows ? size[i][0] : w->rows;
    return part_of(args_of(&w->set[set]), rows, size[i][1], size[i][2]);
}

/* Whatever was captured, an update makes of it what was asked for, or is refused because
 * clusters differ; then nothing has changed. */
static void every_size_replaces_every_other(struct world *w)
{
    int refused = 0;
    for (int from = 0; from < SIZES; from++)
    {
        struct rfn_sparse_mla_args a = args_of_size(w, from, 0);
        struct rfn_exec *exec = capture(w, &a);
        struct rfn_sparse_mla_args last = a;
        for (int i = 0; i < 2 * SIZES; i++)
        {
            char what[96];
            int to = (from + i / 2) % SIZES;
            a = args_of_size(w, to, 1 - i % 2);
            a.batch_invariant = i % 2;
            snprintf(what, sizeof what,
                     "captured with %d rows, %d heads, %d columns; now %d, %d, %d%s",
                     size[from][0], size[from][1], size[from][2], size[to][0],
                     size[to][1], size[to][2], i % 2 ? ", batch_invariant" : "");
            enum rfn_status status = rfn_exec_update(exec, 0, &a);
            if (status == RFN_OK)
                last = a;
            else
                harness_check(&w->t->h, what,
                              status == RFN_UNSUPPORTED && !w->t->host &&
                                  test_line_has("blocks a cluster"),
                              "%s", rfn_last_error());
            replays(w, exec, &last, what);
            refused += status != RFN_OK;
        }
        OK(w->t, rfn_exec_destroy(&exec));
    }
    printf("%d sizes updated to %d: %d refused\n", SIZES, 2 * SIZES, refused);
}

/* With batch_invariant the kernel does not follow from the number of rows. */
static void rows_are_free_with_batch_invariant(struct world *w)
{
    const struct rfn_sparse_mla_args all = args_of(&w->set[0]);
    struct rfn_sparse_mla_args a = part_of(all, 1, H, K);
    a.batch_invariant = 1;
    struct rfn_exec *exec = capture(w, &a);
    for (int64_t rows = 1; rows <= w->rows; rows = 3 * rows + 1)
    {
        a = part_of(all, rows, H, K);
        a.batch_invariant = 1;
        OK(w->t, rfn_exec_update(exec, 0, &a));
        replays(w, exec, &a, "another number of rows");
    }
    OK(w->t, rfn_exec_destroy(&exec));
}

static void updates_change_what_a_replay_does(struct world *w)
{
    struct test *t = w->t;
    const struct rfn_sparse_mla_args one = part_of(args_of(&w->set[0]), w->rows, H, K),
                                     two = part_of(args_of(&w->set[1]), w->rows, H, K);
    struct rfn_sparse_mla_args a = one, b;
    struct rfn_exec *exec = capture(w, &a);
    replays(w, exec, &one, "as captured");
    fill_choice(w, &w->set[0]);
    replays(w, exec, &one, "other indices and lengths in the same buffers");

    /* Everything of the other set; then parts of it. */
    OK(t, rfn_exec_update(exec, 0, &two));
    replays(w, exec, &two, "other pointers");
    a = one;
    a.source[0].lens = two.source[0].lens;
    a.source[0].pool = two.source[0].pool;
    OK(t, rfn_exec_update(exec, 0, &a));
    replays(w, exec, &a, "other lengths and pool");
    a.source[0].lens.data = NULL;
    a.sink.data = NULL;
    a.lse.data = NULL;
    a.scale = 0.07f;
    OK(t, rfn_exec_update(exec, 0, &a));
    replays(w, exec, &a, "no lengths, sink and LSE, another scale");

    /* Refused, and nothing changes. */
    b = a;
    b.batch_invariant = 2;
    REFUSED(t, rfn_exec_update(exec, 0, &b), RFN_INVALID, "batch_invariant|2");
    b = a;
    b.scale = -1;
    REFUSED(t, rfn_exec_update(exec, 0, &b), RFN_INVALID, "scale|-1");
    replays(w, exec, &a, "after refusals");
    OK(t, rfn_exec_destroy(&exec));
}

int main(int argc, char **argv)
{
    struct test t;
    test_begin(&t, "mla_update", &argc, argv);
    struct rng rng = rng_of(t.h.seed);
    struct world w = { .t = &t,
                       .rng = &rng,
                       .s = test_stream(&t, RFN_STREAM_NONBLOCKING),
                       .rows = t.host ? 3 : T };
    w.out_bytes = w.rows * H * 1024;
    w.lse_bytes = w.rows * H * 4;
    for (int i = 0; i < SETS; i++)
        fill_set(&w, &w.set[i]);
    updates_change_what_a_replay_does(&w);
    every_size_replaces_every_other(&w);
    rows_are_free_with_batch_invariant(&w);
    while (w.memories)
        OK(&t, rfn_memory_free(t.dev, w.memory[--w.memories]));
    OK(&t, rfn_stream_destroy(&w.s));
    return test_end(&t);
}
