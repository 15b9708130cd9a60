/*
 * Bounds and lengths of a step of single ops. One graph is replayed with lengths on both sides
 * of everything that decides how work is divided, with none at all, and with fewer requests:
 * the bits are those of an eager step, and poison around every buffer is neither written nor
 * read. A header of another bucket or another table stops every op that goes by it, and the
 * attention object gives its own to each.
 */
#include "tests/device/attention.h"

#define REQUESTS 3
#define TOKENS 2 /* of a request */
#define ROWS (REQUESTS * TOKENS)
#define POOL 128 /* pages; a table names them more than once */
#define BAND 256
#define ZONE 0x7f /* no length, no page, no slot; a score that wins; NaN as e4m3 */
#define BUFFERS 32
#define QK 576
#define V 512

struct buffer
{
    unsigned char *base; /* BAND bytes, the buffer, BAND bytes */
    int64_t bytes;
    int output;
};

struct world
{
    struct test *t;
    struct rng *rng;
    struct rfn_stream *s;
    int64_t columns, width, topk;
    struct buffer buffer[BUFFERS];
    int buffers;
    struct rfn_step_update_args update;
    struct rfn_kv_pack_args kv;
    struct rfn_index_pack_args key;
    struct rfn_index_query_pack_args query;
    struct rfn_index_logits_args score;
    struct rfn_index_topk_args choose;
    struct rfn_sparse_mla_args attend;
};

static void *buffer_of(struct world *w, int64_t bytes, int output)
{
    if (w->buffers == BUFFERS)
        abort();
    struct buffer *b = &w->buffer[w->buffers++];
    *b = (struct buffer) { test_device_memory(w->t, bytes + 2 * BAND), bytes, output };
    OK(w->t, rfn_set_sync(w->t->dev, b->base, ZONE, bytes + 2 * BAND));
    return b->base + BAND;
}

static struct rfn_tensor view(struct world *w, int output, enum rfn_dtype dtype,
                              int64_t d0, int64_t d1, int64_t d2)
{
    int64_t bytes = d0 * (d1 ? d1 : 1) * (d2 ? d2 : 1) * rfn_dtype_bytes(dtype);
    return rfn_tensor_of(buffer_of(w, bytes, output), dtype, d0, d1, d2, 0);
}

static void put(struct world *w, const struct rfn_tensor *t, const void *host)
{
    OK(w->t, rfn_copy_sync(w->t->dev, t->data, host, model_bytes(t)));
}

/* bf16 of both signs between 1/32768 and 2. */
static void randomise(struct world *w, const struct rfn_tensor *t)
{
    int64_t n = model_bytes(t) / 8;
    uint64_t *x = malloc((size_t)n * 8);
    for (int64_t i = 0; i < n; i++)
        x[i] = (rng_u64(w->rng) & 0x87ff87ff87ff87ffu) | 0x3800380038003800u;
    put(w, t, x);
    free(x);
}

/* Every slot of both pools, by the ops themselves. */
static void fill_pools(struct world *w)
{
    const int64_t slots = POOL * P;
    int first = w->buffers;
    struct rfn_kv_pack_args kv = { view(w, 0, RFN_BF16, slots, V, 0),
                                   view(w, 0, RFN_BF16, slots, QK - V, 0),
                                   view(w, 0, RFN_I64, slots, 0, 0),
                                   { 0 },
                                   w->kv.pool };
    struct rfn_index_pack_args key = {
        view(w, 0, RFN_BF16, slots, 128, 0), kv.slots, { 0 }, w->key.pool
    };
    int64_t *all = malloc((size_t)slots * 8);
    for (int64_t i = 0; i < slots; i++)
        all[i] = i;
    put(w, &kv.slots, all);
    free(all);
    randomise(w, &kv.kv);
    randomise(w, &kv.k_rope);
    randomise(w, &key.k);
    OK(w->t, rfn_device_sync(w->t->dev));
    OK(w->t, rfn_kv_pack(w->s, &kv));
    OK(w->t, rfn_index_pack(w->s, &key));
    OK(w->t, rfn_stream_sync(w->s));
    while (w->buffers > first)
        OK(w->t, rfn_memory_free(w->t->dev, w->buffer[--w->buffers].base));
}

static void world_open(struct world *w, struct test *t, struct rng *rng, int64_t columns,
                       int64_t topk)
{
    const int64_t width = columns / P;
    *w = (struct world) {
        .t = t, .rng = rng, .columns = columns, .width = width, .topk = topk
    };
    w->s = test_stream(t, RFN_STREAM_NONBLOCKING);
    int64_t latent = rfn_format_page_bytes(RFN_LATENT_FP8_656, P);
    int64_t index = rfn_format_page_bytes(RFN_INDEX_FP8_132, P);
    w->kv.pool = (struct rfn_pool) { buffer_of(w, POOL * latent, 0), RFN_LATENT_FP8_656,
                                     P, POOL, 0 };
    w->key.pool = (struct rfn_pool) { buffer_of(w, POOL * index, 0), RFN_INDEX_FP8_132, P,
                                      POOL, 0 };
    fill_pools(w);
    w->update = (struct rfn_step_update_args) {
        .lens = view(w, 0, RFN_I32, REQUESTS, 0, 0),
        .q_lens = view(w, 0, RFN_I32, REQUESTS, 0, 0),
        .table = view(w, 0, RFN_I32, REQUESTS, width, 0),
        .requests = view(w, 0, RFN_I32, 1, 0, 0),
        .request = view(w, 1, RFN_I32, ROWS, 0, 0),
        .context = view(w, 1, RFN_I32, ROWS, 0, 0),
        .slots = view(w, 1, RFN_I64, ROWS, 0, 0),
        .live = view(w, 1, RFN_I32, 1, 0, 0),
        .next_n = TOKENS,
        .page_tokens = P,
        .pages = POOL,
        .bounds = view(w, 1, RFN_I64, RFN_BOUNDS, 0, 0),
    };
    const struct rfn_step_update_args *u = &w->update;
    const struct rfn_bounds bounds = { u->bounds, 0, TOKENS };
    w->kv.kv = view(w, 0, RFN_BF16, ROWS, V, 0);
    w->kv.k_rope = view(w, 0, RFN_BF16, ROWS, QK - V, 0);
    w->key.k = view(w, 0, RFN_BF16, ROWS, 128, 0);
    w->kv.slots = w->key.slots = u->slots;
    w->kv.live = w->key.live = u->live;
    w->kv.bounds = w->key.bounds = bounds;
    w->query = (struct rfn_index_query_pack_args) {
        .q = view(w, 0, RFN_BF16, ROWS, IH, 128),
        .w = view(w, 0, RFN_BF16, ROWS, IH, 0),
        .live = u->live,
        .q8 = view(w, 1, RFN_E4M3, ROWS, IH, 128),
        .w8 = view(w, 1, RFN_F32, ROWS, IH, 0),
        .bounds = bounds,
    };
    w->score = (struct rfn_index_logits_args) {
        .q8 = w->query.q8,
        .w8 = w->query.w8,
        .pool = w->key.pool,
        .table = u->table,
        .request = u->request,
        .lens = u->context,
        .live = u->live,
        .logits = view(w, 1, RFN_F32, ROWS, columns, 0),
        .bounds = bounds,
    };
    w->choose = (struct rfn_index_topk_args) {
        .logits = w->score.logits,
        .lens = u->context,
        .live = u->live,
        .table = u->table,
        .request = u->request,
        .slots = view(w, 1, RFN_I32, ROWS, topk, 0),
        .page_tokens = P,
        .pages = POOL,
        .bounds = bounds,
    };
    w->attend = (struct rfn_sparse_mla_args) {
        .q = view(w, 0, RFN_BF16, ROWS, H, QK),
        .live = u->live,
        .source = { { w->kv.pool, w->choose.slots, u->context } },
        .out = view(w, 1, RFN_BF16, ROWS, H, V),
        .lse = view(w, 1, RFN_F32, ROWS, H, 0),
        .scale = 0.1f,
        .bounds = bounds,
    };
    const struct rfn_tensor *input[] = { &w->kv.kv,   &w->kv.k_rope, &w->key.k,
                                         &w->query.q, &w->query.w,   &w->attend.q };
    for (int i = 0; i < 6; i++)
        randomise(w, input[i]);
}

static void world_close(struct world *w)
{
    while (w->buffers)
        OK(w->t, rfn_memory_free(w->t->dev, w->buffer[--w->buffers].base));
    OK(w->t, rfn_stream_destroy(&w->s));
}

/* The ops behind the update, in the order of a layer. */
#define OPS 6
static enum rfn_status enqueue(struct world *w, int i)
{
    const struct rfn_op *op[OPS] = { &rfn_op_kv_pack,          &rfn_op_index_pack,
                                     &rfn_op_index_query_pack, &rfn_op_index_logits,
                                     &rfn_op_index_topk,       &rfn_op_sparse_mla };
    const void *args[OPS] = { &w->kv,    &w->key,    &w->query,
                              &w->score, &w->choose, &w->attend };
    return rfn_op_launch(w->s, op[i], args[i]);
}

static void enqueue_all(struct world *w)
{
    OK(w->t, rfn_step_update(w->s, &w->update));
    for (int i = 0; i < OPS; i++)
        OK(w->t, enqueue(w, i));
}

static struct rfn_exec *capture(struct world *w, int op)
{
    struct rfn_graph *graph = NULL;
    struct rfn_exec *exec = NULL;
    OK(w->t, rfn_capture_begin(w->s, NULL));
    if (op < 0)
        enqueue_all(w);
    else
        OK(w->t, enqueue(w, op));
    OK(w->t, rfn_capture_end(w->s, &graph));
    OK(w->t, rfn_graph_instantiate(graph, &exec));
    OK(w->t, rfn_graph_destroy(&graph));
    return exec;
}

/* ---- contents ----------------------------------------------------------------------- */

/* Lengths of those that live; what does not, and pages behind a context, are poison. */
static void set_step(struct world *w, int32_t requests, const int32_t *lens)
{
    int32_t len[REQUESTS], q[REQUESTS];
    size_t bytes = (size_t)(REQUESTS * w->width) * 4;
    int32_t *table = malloc(bytes);
    memset(len, ZONE, sizeof len);
    memset(q, ZONE, sizeof q);
    memset(table, ZONE, bytes);
    for (int32_t b = 0; b < requests; b++)
    {
        len[b] = lens[b];
        q[b] = (int32_t)rng_between(w->rng, 1, TOKENS);
        for (int64_t i = 0; i * P < lens[b]; i++)
            table[b * w->width + i] = (int32_t)rng_below(w->rng, POOL);
    }
    OK(w->t, rfn_stream_sync(w->s));
    put(w, &w->update.lens, len);
    put(w, &w->update.q_lens, q);
    put(w, &w->update.table, table);
    put(w, &w->update.requests, &requests);
    OK(w->t, rfn_device_sync(w->t->dev));
    free(table);
}

static void poison_outputs(struct world *w)
{
    for (int i = 0; i < w->buffers; i++)
        if (w->buffer[i].output)
            OK(w->t,
               rfn_set_async(w->s, w->buffer[i].base + BAND, ZONE, w->buffer[i].bytes));
}

/* All there is, bands too, one buffer after the other. */
static unsigned char *snapshot(struct world *w, int64_t *ret_bytes)
{
    int64_t all = 0, at = 0;
    for (int i = 0; i < w->buffers; i++)
        all += w->buffer[i].bytes + 2 * BAND;
    unsigned char *ret = malloc((size_t)all);
    OK(w->t, rfn_stream_sync(w->s));
    for (int i = 0; i < w->buffers; i++)
    {
        int64_t bytes = w->buffer[i].bytes + 2 * BAND;
        OK(w->t, rfn_copy_sync(w->t->dev, ret + at, w->buffer[i].base, bytes));
        at += bytes;
    }
    *ret_bytes = all;
    return ret;
}

/* The first buffer whose bands are not poison; -1: none. */
static int red_zone_written(const struct world *w, const unsigned char *all)
{
    for (int i = 0; i < w->buffers; i++)
    {
        const unsigned char *behind = all + BAND + w->buffer[i].bytes;
        for (int k = 0; k < BAND; k++)
            if (all[k] != ZONE || behind[k] != ZONE)
                return i;
        all = behind + BAND;
    }
    return -1;
}

/* ---- thresholds ---------------------------------------------------------------------- */

/* What divides work: pages and tiles, top-k, the host's chunks of columns, keys that blocks and
 * clusters of index_topk hold. */
static int edges_of(const struct world *w, int32_t *ret)
{
    const int64_t at[] = { P,    2 * P, w->topk, 1024,  2048,  4096,
                           8192, 16384, 32768,   65536, 131072 };
    int n = 0;
    ret[n++] = 0;
    ret[n++] = 1;
    for (size_t i = 0; i < sizeof at / sizeof *at; i++)
        for (int64_t d = -1; d <= 1 && at[i] + d <= w->columns; d++)
            ret[n++] = (int32_t)(at[i] + d);
    ret[n++] = (int32_t)w->columns - 1;
    ret[n++] = (int32_t)w->columns;
    return n;
}

static void equals_eager(struct world *w, struct rfn_exec *exec, int32_t requests,
                         const int32_t *lens)
{
    char name[96];
    int64_t bytes;
    snprintf(name, sizeof name, "%d requests of %d, %d and %d tokens", requests, lens[0],
             lens[1], lens[2]);
    set_step(w, requests, lens);
    poison_outputs(w);
    enqueue_all(w);
    unsigned char *eager = snapshot(w, &bytes);
    poison_outputs(w);
    OK(w->t, rfn_exec_launch(exec, w->s));
    unsigned char *replay = snapshot(w, &bytes);
    int64_t at = 0;
    while (at < bytes && eager[at] == replay[at])
        at++;
    harness_check(&w->t->h, name, at == bytes, "byte %lld of %lld is not as eager",
                  (long long)at, (long long)bytes);
    int zone = red_zone_written(w, replay);
    harness_check(&w->t->h, name, zone < 0, "the band of buffer %d was written", zone);
    free(eager);
    free(replay);
}

static void lengths_cross_thresholds(struct test *t, struct rng *rng)
{
    struct world w;
    int32_t edge[64], zeros[REQUESTS] = { 0 }, first[REQUESTS];
    world_open(&w, t, rng, t->host ? 4352 : 163840, t->host ? 512 : 2048);
    int n = edges_of(&w, edge), steps = t->host ? 5 : 2 * n;
    for (int b = 0; b < REQUESTS; b++)
        first[b] = (int32_t)rng_between(rng, 1, w.columns);
    set_step(&w, REQUESTS, first);
    struct rfn_exec *exec = capture(&w, -1);
    equals_eager(&w, exec, REQUESTS, zeros);
    for (int i = 0; i < steps; i++)
    {
        /* On a GPU up and down again, each edge in each request. */
        int at = t->host ? (int)rng_below(rng, n) : i < n ? i : 2 * n - 1 - i;
        int32_t lens[REQUESTS] = { edge[at], edge[(at + 1) % n], edge[(at + n / 2) % n] };
        equals_eager(&w, exec, i % 3 ? REQUESTS : (int32_t)rng_below(rng, REQUESTS + 1),
                     lens);
    }
    struct rfn_fault fault;
    char line[160];
    OK(t, rfn_device_fault(t->dev, &fault));
    harness_check(&t->h, "nothing bad is met", !rfn_fault_text(&fault, line, sizeof line),
                  "%s", line);
    OK(t, rfn_exec_destroy(&exec));
    world_close(&w);
}

/* ---- headers of others ------------------------------------------------------------------ */

/* A graph of one op behind an update that was made for something else. */
static void another_header_stops_the_op(const struct test *t, struct harness *h,
                                        struct rng *rng, int op, int stride,
                                        const char *due)
{
    struct test own = *t;
    struct world w;
    const int32_t lens[REQUESTS] = { 700, 130, 65 };
    struct rfn_fault fault;
    char line[160];
    int64_t bytes;
    own.dev = test_open(t);
    world_open(&w, &own, rng, 1024, 64);
    set_step(&w, REQUESTS, lens);
    struct rfn_exec *exec = capture(&w, op);
    poison_outputs(&w);
    enqueue_all(&w);
    struct rfn_step_update_args other = w.update;
    if (stride)
    {
        /* Every entry is a page, whatever the stride. */
        OK(&own, rfn_stream_sync(w.s));
        OK(&own, rfn_set_sync(own.dev, other.table.data, 0, model_bytes(&other.table)));
        OK(&own, rfn_device_sync(own.dev));
        other.table.stride[0] = other.table.shape[1] = w.width - 3;
    }
    else
    {
        other.lens.shape[0] = other.q_lens.shape[0] = other.table.shape[0] = REQUESTS - 1;
        other.request.shape[0] = other.context.shape[0] = other.slots.shape[0] =
            (REQUESTS - 1) * TOKENS;
    }
    OK(&own, rfn_step_update(w.s, &other));
    unsigned char *before = snapshot(&w, &bytes);
    OK(&own, rfn_exec_launch(exec, w.s));
    unsigned char *behind = snapshot(&w, &bytes);
    harness_check(&own.h, due, !memcmp(before, behind, (size_t)bytes),
                  "something was written");
    OK(&own, rfn_device_fault(own.dev, &fault));
    rfn_fault_text(&fault, line, sizeof line);
    harness_check(&own.h, due, !strcmp(line, due), "\"%s\"", line);
    /* Once the update fits, the graph does what it was captured for. */
    OK(&own, rfn_step_update(w.s, &w.update));
    OK(&own, rfn_exec_launch(exec, w.s));
    OK(&own, rfn_stream_sync(w.s));
    OK(&own, rfn_device_fault(own.dev, &fault));
    harness_check(&own.h, due, fault.count == 1, "%lld faults", (long long)fault.count);
    free(before);
    free(behind);
    OK(&own, rfn_exec_destroy(&exec));
    world_close(&w);
    OK(&own, rfn_device_close(&own.dev));
    *h = own.h;
}

static void other_headers_stop_every_op(struct test *t, struct rng *rng)
{
    static const char *const due[OPS] = {
        "kv_pack: bounds.requests is 3, but the update's header has 2",
        "index_pack: bounds.requests is 3, but the update's header has 2",
        "index_query_pack: bounds.requests is 3, but the update's header has 2",
        "index_logits: bounds.requests is 3, but the update's header has 2",
        "index_topk: bounds.requests is 3, but the update's header has 2",
        "sparse_mla: bounds.requests is 3, but the update's header has 2",
    };
    for (int i = 0; i < OPS; i++)
        another_header_stops_the_op(t, &t->h, rng, i, 0, due[i]);
    another_header_stops_the_op(
        t, &t->h, rng, 3, 1,
        "index_logits: bounds.table_width is 16, but the update's header has 13");
    another_header_stops_the_op(
        t, &t->h, rng, 4, 1,
        "index_topk: bounds.table_width is 16, but the update's header has 13");
}

/* ---- the attention object ---------------------------------------------------------------- */

/* With a header that differs none of a layer's ops does anything; each has noted it. */
static void every_op_of_a_layer_has_the_header(struct test *t, struct rng *rng,
                                               int32_t short_context)
{
    struct test own = *t;
    struct model m;
    struct rfn_step_view v;
    struct rfn_bucket planned, bucket = { R_MAX, 2, short_context };
    struct rfn_fault fault;
    int64_t header[RFN_BOUNDS];
    char line[160];
    own.dev = test_open(t);
    model_begin(&m, &own, rng, 1, NULL, 2, 0);
    struct live l = live_random(rng, R_MAX, short_context ? K : S, 2);
    struct rfn_step step = live_step(&l);
    OK(&own, rfn_attention_view(m.a, 0, &v));
    OK(&own, rfn_attention_plan(m.a, m.s, &step, &planned));
    model_poison(&m);
    OK(&own, rfn_attention_update(m.a, m.s, &bucket));
    OK(&own, rfn_stream_sync(m.s));
    OK(&own, rfn_copy_sync(own.dev, header, v.bounds.data, sizeof header));
    const int64_t right[RFN_BOUNDS] = {
        RFN_BOUNDS_MARK, R_MAX, 2, R_MAX * 2, W, W, P, PAGES
    };
    HOLDS(&own, !memcmp(header, right, sizeof header));
    header[RFN_BOUND_ROWS]--;
    OK(&own, rfn_copy_sync(own.dev, v.bounds.data, header, sizeof header));
    OK(&own, rfn_set_sync(own.dev, v.chosen.data, POISON, model_bytes(&v.chosen)));
    OK(&own, rfn_device_sync(own.dev));
    OK(&own, rfn_attention_forward(m.a, m.s, 0, &bucket));
    model_agrees(&m, "nothing is written under a header of others");
    HOLDS(&own, test_all(&own, v.chosen.data, model_bytes(&v.chosen), POISON));
    OK(&own, rfn_device_fault(own.dev, &fault));
    rfn_fault_text(&fault, line, sizeof line);
    HOLDS(&own, !strcmp(line, short_context
                                  ? "kv_pack: bounds.rows is 8, but the update's header "
                                    "has 7, the first of 4"
                                  : "kv_pack: bounds.rows is 8, but the update's header "
                                    "has 7, the first of 6"));
    model_free(&m);
    OK(&own, rfn_device_close(&own.dev));
    t->h = own.h;
}

int main(int argc, char **argv)
{
    struct test t;
    test_begin(&t, "bounds", &argc, argv);
    struct rng rng = rng_of(t.h.seed);
    lengths_cross_thresholds(&t, &rng);
    other_headers_stop_every_op(&t, &rng);
    every_op_of_a_layer_has_the_header(&t, &rng, 0);
    every_op_of_a_layer_has_the_header(&t, &rng, 1);
    return test_end(&t);
}
