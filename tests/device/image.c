/* Images of the steps that the library itself captures, of every geometry and bucket: all of
 * their kernels are known by name, with their parameters and what they touch; neither the lint
 * nor the live rules have anything to say, from the creation of the attention object to its
 * end; a second capture of the same gives the same. */
#include "tests/device/open.h"

#define REQUESTS 2
#define NEXT_N 2
#define PAGES 4
#define REPLAYED 2 /* layers: a model that is replayed as well */

struct model
{
    struct test *t;
    const struct rfn_geometry *g;
    struct rfn_attention *a;
    struct rfn_stream *s;
    struct rfn_check *check;
    void *memory[512];
    int memories;
};

static void *take(struct model *m, int64_t bytes)
{
    if (m->memories == 512)
        exit(1);
    return m->memory[m->memories++] = test_device_memory(m->t, bytes);
}

static struct rfn_tensor tensor(struct model *m, enum rfn_dtype dtype, int64_t d1,
                                int64_t d2)
{
    int64_t bytes = REQUESTS * NEXT_N * d1 * (d2 ? d2 : 1) * rfn_dtype_bytes(dtype);
    return rfn_tensor_of(take(m, bytes), dtype, REQUESTS * NEXT_N, d1, d2, 0);
}

static struct rfn_pool pool(struct model *m, enum rfn_format format)
{
    int64_t bytes = rfn_format_page_bytes(format, m->g->page_tokens);
    return (struct rfn_pool) { take(m, PAGES * bytes), format, m->g->page_tokens, PAGES,
                               0 };
}

/* Layers share their inputs and outputs; caches are their own. */
static void bind(struct model *m)
{
    const struct rfn_geometry *g = m->g;
    struct rfn_layer_io all = {
        .q = tensor(m, RFN_BF16, g->heads, g->latent_elems + g->rope_elems),
        .kv = tensor(m, RFN_BF16, g->latent_elems, 0),
        .k_rope = tensor(m, RFN_BF16, g->rope_elems, 0),
        .index_q = tensor(m, RFN_BF16, g->index_heads, g->index_width),
        .index_w = tensor(m, RFN_BF16, g->index_heads, 0),
        .index_k = tensor(m, RFN_BF16, g->index_width, 0),
        .out = tensor(m, RFN_BF16, g->heads, g->v_elems),
        .lse = tensor(m, RFN_F32, g->heads, 0),
    };
    for (int32_t i = 0; i < g->layers; i++)
    {
        int own = !g->index_source || g->index_source[i] == i;
        struct rfn_layer_io io = all;
        struct rfn_layer_caches caches = { .latent = pool(m, g->latent_format) };
        if (own)
            caches.index = pool(m, g->index_format);
        else
            io.index_q = io.index_w = io.index_k = (struct rfn_tensor) { 0 };
        OK(m->t, rfn_attention_bind(m->a, i, &caches, &io));
    }
}

static struct rfn_image *capture(struct model *m, const struct rfn_bucket *bucket,
                                 struct rfn_graph_info *ret_info)
{
    struct rfn_graph *graph = NULL;
    struct rfn_image *image = NULL;
    OK(m->t, rfn_capture_begin(m->s, NULL));
    OK(m->t, rfn_attention_update(m->a, m->s, bucket));
    for (int32_t i = 0; i < m->g->layers; i++)
        OK(m->t, rfn_attention_forward(m->a, m->s, i, bucket));
    OK(m->t, rfn_capture_end(m->s, &graph));
    OK(m->t, rfn_graph_query(graph, ret_info));
    OK(m->t, rfn_image_of(graph, NULL, &image));
    OK(m->t, rfn_graph_destroy(&graph));
    if (!image)
        exit(1);
    return image;
}

static void report(void *ctx, const struct rfn_finding *f)
{
    struct model *m = ctx;
    char text[1024];
    rfn_finding_text(f, text, sizeof text);
    harness_check(&m->t->h, m->g->name, 0, "%s", text);
}

/* Every pointer of a kernel lies in memory that an access of it names. */
static int is_touched(const struct rfn_image_node *n, const struct rfn_image_pointer *at)
{
    for (int32_t i = 0; i < n->accesses; i++)
        if (at->address >= n->access[i].pointer.base &&
            at->address - n->access[i].pointer.base <
                (uint64_t)n->access[i].pointer.bytes)
            return 1;
    return 0;
}

static void check_node(struct model *m, const struct rfn_image_node *n, int *used)
{
    struct harness *h = &m->t->h;
    harness_check(h, m->g->name,
                  n->type == RFN_IMAGE_KERNEL && !n->foreign && !n->opaque && n->op[0] &&
                      n->name[0] && n->launch >= 0 && n->params && n->accesses,
                  "%s of '%s': launch %d, %d parameters, %d accesses, foreign %d, %s",
                  n->name, n->op, n->launch, n->params, n->accesses, n->foreign, n->why);
    harness_check(h, n->name, m->t->host ? !n->grid[0] : n->grid[0] && n->block[0],
                  "grid %u, block %u", n->grid[0], n->block[0]);
    for (int32_t i = 0; i < n->accesses; i++)
        harness_check(h, n->access[i].name,
                      n->access[i].pointer.generation &&
                          n->access[i].pointer.kind == RFN_MEMORY_DEVICE,
                      "of unknown memory");
    for (int32_t i = 0; i < n->params; i++)
    {
        const struct rfn_image_param *p = &n->param[i];
        int pointer = p->role >= RFN_IMAGE_READ && p->role <= RFN_IMAGE_READ_WRITE;
        harness_check(h, p->name, p->role < RFN_IMAGE_UNDECLARED, "%s: role %d", n->name,
                      (int)p->role);
        if (pointer && p->pointer.address)
            harness_check(h, p->name, is_touched(n, &p->pointer), "%s: %llx", n->name,
                          (unsigned long long)p->pointer.address);
    }
    if (n->launch >= 0)
        used[n->launch] = 1;
}

static void check_same(struct model *m, const struct rfn_image *a,
                       const struct rfn_image *b)
{
    struct harness *h = &m->t->h;
    int same = a->nodes == b->nodes && a->edges == b->edges &&
               !memcmp(a->edge, b->edge, (size_t)a->edges * sizeof *a->edge);
    for (int32_t i = 0; same && i < a->nodes; i++)
    {
        const struct rfn_image_node *x = &a->node[i], *y = &b->node[i];
        same = !strcmp(x->name, y->name) && x->params == y->params &&
               !memcmp(x->grid, y->grid, sizeof x->grid);
        for (int32_t k = 0; same && k < x->params; k++)
            same =
                x->param[k].bytes == y->param[k].bytes &&
                !memcmp(x->param[k].value, y->param[k].value, (size_t)x->param[k].bytes);
    }
    harness_check(h, "captured twice", same, "%d and %d nodes", a->nodes, b->nodes);
}

static void check_bucket(struct model *m, const struct rfn_bucket *bucket)
{
    struct harness *h = &m->t->h;
    struct rfn_graph_info info, again;
    struct rfn_lint_info lint = { 0 };
    struct rfn_image *image = capture(m, bucket, &info);
    struct rfn_image *twin = capture(m, bucket, &again);
    int *used = calloc((size_t)info.launches + 1, sizeof *used), all = 0;
    harness_check(h, "nodes", image->nodes == info.nodes && info.nodes, "%d, not %d",
                  image->nodes, info.nodes);
    for (int32_t i = 0; i < image->nodes; i++)
        check_node(m, &image->node[i], used);
    for (int32_t i = 0; i < info.launches; i++)
        all += used[i];
    harness_check(h, "launches", all == info.launches, "%d, not %d", all, info.launches);
    free(used);
    check_same(m, image, twin);
    OK(m->t, rfn_lint(image, m->t->dev, report, m, &lint));
    harness_check(h, "one stream",
                  lint.roots == 1 && lint.sinks == 1 && !lint.findings &&
                      lint.critical_path == lint.nodes,
                  "%d roots, %d sinks, %d of %d nodes", lint.roots, lint.sinks,
                  lint.critical_path, lint.nodes);
    OK(m->t, rfn_image_destroy(&image));
    OK(m->t, rfn_image_destroy(&twin));
}

/* A replay of a step that fits, planned and fetched as a caller would. */
static void replay(struct model *m, const struct rfn_bucket *bucket)
{
    int32_t lens[REQUESTS], table[REQUESTS * PAGES];
    struct rfn_graph *graph = NULL;
    struct rfn_exec *exec = NULL;
    struct rfn_bucket planned;
    int32_t *count = test_alloc(m->t, RFN_MEMORY_PINNED, sizeof *count);
    struct rfn_step_view view;
    for (int i = 0; i < REQUESTS; i++)
        lens[i] = NEXT_N + i;
    for (int i = 0; i < REQUESTS * PAGES; i++)
        table[i] = i % PAGES;
    struct rfn_step step = { .requests = bucket->requests,
                             .lens = lens,
                             .q_lens = (int32_t[REQUESTS]) { 1, 1 },
                             .table = table,
                             .table_stride = PAGES };
    OK(m->t, rfn_attention_view(m->a, 0, &view));
    OK(m->t, rfn_capture_begin(m->s, NULL));
    OK(m->t, rfn_attention_update(m->a, m->s, bucket));
    for (int32_t i = 0; i < m->g->layers; i++)
        OK(m->t, rfn_attention_forward(m->a, m->s, i, bucket));
    OK(m->t, rfn_capture_end(m->s, &graph));
    OK(m->t, rfn_graph_instantiate(graph, &exec));
    OK(m->t, rfn_exec_upload(exec, m->s));
    for (int i = 0; i < 2; i++)
    {
        OK(m->t, rfn_attention_plan(m->a, m->s, &step, &planned));
        OK(m->t, rfn_exec_launch(exec, m->s));
        OK(m->t, rfn_copy_async(m->s, count, view.live.data, sizeof *count));
        OK(m->t, rfn_stream_sync(m->s));
        harness_check(&m->t->h, "live rows", *count == bucket->requests, "%d, not %d",
                      *count, bucket->requests);
    }
    OK(m->t, rfn_exec_destroy(&exec));
    OK(m->t, rfn_graph_destroy(&graph));
    FREE(m->t, count);
}

/* What the live rules saw of all this. */
static void check_silence(struct model *m)
{
    int32_t count = rfn_check_count(m->check);
    for (int32_t i = 0; i < count; i++)
    {
        struct rfn_finding f;
        OK(m->t, rfn_check_finding(m->check, i, &f));
        report(m, &f);
    }
    harness_check(&m->t->h, m->g->name, count == 0, "%d findings", count);
}

static void check_geometry(struct test *t, const struct rfn_geometry *g)
{
    struct model m = { .t = t, .g = g };
    struct rfn_attention_limits limits = { REQUESTS, NEXT_N, 4 * g->topk, PAGES, 0 };
    if (rfn_supported(t->dev, g) == RFN_UNSUPPORTED)
    {
        printf("%s: left out: %s\n", g->name, rfn_last_error());
        return;
    }
    OK(t, rfn_check_create(t->dev, &m.check));
    m.s = test_stream(t, RFN_STREAM_NONBLOCKING);
    OK(t, rfn_attention_create(t->dev, g, &limits, &m.a));
    bind(&m);
    for (int i = 0; i < 8; i++)
        check_bucket(&m, &(struct rfn_bucket) { 1 + (i & 1), 1 + (i >> 1 & 1), i >> 2 });
    if (g->layers <= REPLAYED)
        replay(&m, &(struct rfn_bucket) { REQUESTS, 1, 0 });
    printf("%s: %d layers\n", g->name, g->layers);
    OK(t, rfn_device_sync(t->dev));
    OK(t, rfn_attention_destroy(&m.a));
    while (m.memories)
        OK(t, rfn_memory_free(t->dev, m.memory[--m.memories]));
    OK(t, rfn_stream_destroy(&m.s));
    check_silence(&m);
    OK(t, rfn_check_destroy(&m.check));
}

int main(int argc, char **argv)
{
    struct test t;
    test_begin(&t, "image", &argc, argv);
    for (int32_t i = 0; rfn_geometry_at(i); i++)
        check_geometry(&t, rfn_geometry_at(i));
    return test_end(&t);
}
