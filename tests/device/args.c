/*
 * Wrong arguments of the three ops: each is refused with both values in the line, writes
 * nothing, enqueues nothing, and in a capture makes no node and leaves it active.
 */
#include "tests/device/open.h"

#define ROWS 4
#define HEADS 2
#define TOP 8
#define PAGE 4
#define PAGES 3
#define OUT_BYTES 16384
#define POISON 0x5a

/* Views lie back to back, each in an allocation of its own, exactly as large as it. */
struct world
{
    struct test *t;
    struct rfn_kv_pack_args pack;
    struct rfn_index_topk_args topk;
    struct rfn_sparse_mla_args mla;
    void *memory[32];
    int memories;
    unsigned char *out; /* every operand that is written lies in it */
    void *pageable;
};

static void *fresh(struct world *w, int64_t bytes)
{
    void *p = test_device_memory(w->t, bytes);
    OK(w->t, rfn_set_sync(w->t->dev, p, 0, bytes));
    return w->memory[w->memories++] = p;
}

static struct rfn_tensor view(struct world *w, enum rfn_dtype dtype, int64_t d0,
                              int64_t d1, int64_t d2)
{
    int64_t bytes = d0 * (d1 ? d1 : 1) * (d2 ? d2 : 1) * rfn_dtype_bytes(dtype);
    return rfn_tensor_of(fresh(w, bytes), dtype, d0, d1, d2, 0);
}

static struct rfn_pool pool(struct world *w)
{
    int64_t page = rfn_format_page_bytes(RFN_LATENT_FP8_656, PAGE);
    return (struct rfn_pool) { fresh(w, page * PAGES), RFN_LATENT_FP8_656, PAGE, PAGES,
                               0 };
}

static void make_args(struct world *w)
{
    w->out = fresh(w, OUT_BYTES);
    w->pageable = aligned_alloc(256, 65536);
    memset(w->pageable, 0, 65536);
    w->pack = (struct rfn_kv_pack_args) { .kv = view(w, RFN_BF16, ROWS, 512, 0),
                                          .k_rope = view(w, RFN_BF16, ROWS, 64, 0),
                                          .slots = view(w, RFN_I64, ROWS, 0, 0) };
    w->pack.pool = (struct rfn_pool) { w->out, RFN_LATENT_FP8_656, PAGE, PAGES, 0 };
    w->topk = (struct rfn_index_topk_args) { .logits = view(w, RFN_F32, ROWS, 32, 0),
                                             .lens = view(w, RFN_I32, ROWS, 0, 0),
                                             .table = view(w, RFN_I32, 2, 16, 0),
                                             .request = view(w, RFN_I32, ROWS, 0, 0),
                                             .page_tokens = PAGE,
                                             .pages = PAGES };
    w->topk.slots = rfn_tensor_of(w->out, RFN_I32, ROWS, TOP, 0, 0);
    w->topk.positions = rfn_tensor_of(w->out + 1024, RFN_I32, ROWS, TOP, 0, 0);
    w->mla = (struct rfn_sparse_mla_args) { .q = view(w, RFN_BF16, ROWS, HEADS, 576),
                                            .sink = view(w, RFN_F32, HEADS, 0, 0),
                                            .scale = 0.1f };
    w->mla.source[0].pool = pool(w);
    w->mla.source[0].indices = view(w, RFN_I32, ROWS, TOP, 0);
    w->mla.source[0].lens = view(w, RFN_I32, ROWS, 0, 0);
    w->mla.out = rfn_tensor_of(w->out, RFN_BF16, ROWS, HEADS, 512, 0);
    w->mla.lse = rfn_tensor_of(w->out + 12288, RFN_F32, ROWS, HEADS, 0, 0);
}

#define PACK w->pack
#define TOPK w->topk
#define MLA w->mla
#define SLIM(v) ((v).stride[0] += 1)
#define ASIDE(v) ((v).data = (char *)(v).data + 2)
/* X(op, what is wrong, status, words of the line) */
#define CASES(X)                                                                         \
    X(pack, PACK.kv.dtype = RFN_F32, INVALID, "kv|f32|bf16")                             \
    X(pack, PACK.kv.dtype = RFN_DTYPE_NONE, INVALID, "kv|none|bf16")                     \
    X(pack, PACK.kv.dtype = (enum rfn_dtype)77, INVALID, "kv|bf16")                      \
    X(pack, PACK.kv.dims = 3, INVALID, "kv|3 dim|2")                                     \
    X(pack, PACK.kv.dims = 9, INVALID, "kv|9 dim|2")                                     \
    X(pack, PACK.kv.dims = -1, INVALID, "kv|-1 dim|2")                                   \
    X(pack, PACK.kv.shape[1] = 448, INVALID, "kv|448|512")                               \
    X(pack, PACK.kv.shape[0] = -4, INVALID, "kv|-4")                                     \
    X(pack, PACK.kv.stride[1] = 2, INVALID, "kv|stride 2|1")                             \
    X(pack, PACK.kv.stride[0] = 511, INVALID, "kv|511|512")                              \
    X(pack, PACK.kv.stride[0] = -512, INVALID, "kv|-512")                                \
    X(pack, PACK.kv.stride[0] = INT64_MAX / 2, INVALID, "kv|4611686018427387903")        \
    X(pack, SLIM(PACK.kv), INVALID, "kv|1026|16")                                        \
    X(pack, ASIDE(PACK.kv), INVALID, "kv|16-byte")                                       \
    X(pack, PACK.kv.stride[0] = 520, INVALID, "kv|4144 bytes|4096")                      \
    X(pack, PACK.kv.data = NULL, INVALID, "kv|kv_pack")                                  \
    X(pack, PACK.kv.data = w->pageable, INVALID, "kv|pageable")                          \
    X(pack, PACK.k_rope.shape[0] = 5, INVALID, "k_rope|T = 5|T = 4")                     \
    X(pack, PACK.k_rope.shape[1] = 32, INVALID, "k_rope|32|64")                          \
    X(pack, PACK.k_rope.data = NULL, INVALID, "k_rope|kv_pack")                          \
    X(pack, PACK.slots.dtype = RFN_I32, INVALID, "slots|i32|i64")                        \
    X(pack, PACK.slots.data = NULL, INVALID, "slots|kv_pack")                            \
    X(pack, PACK.live = rfn_tensor_of(w->pageable, RFN_I32, 2, 0, 0, 0), INVALID,        \
      "live|2|1")                                                                        \
    X(pack, PACK.live = rfn_tensor_of(w->pageable, RFN_I32, 1, 0, 0, 0), INVALID,        \
      "live|pageable")                                                                   \
    X(pack, PACK.pool.format = RFN_INDEX_FP8_132, INVALID, "pool|132|656")               \
    X(pack, PACK.pool.format = (enum rfn_format)99, INVALID, "pool|99|656")              \
    X(pack, PACK.pool.page_tokens = 0, INVALID, "pool|0|1")                              \
    X(pack, PACK.pool.page_tokens = -3, INVALID, "pool|-3")                              \
    X(pack, PACK.pool.pages = 0, INVALID, "pool|0")                                      \
    X(pack, PACK.pool.pages = INT64_MAX, INVALID, "pool|9223372036854775807")            \
    X(pack, PACK.pool.pages = 7, INVALID, "pool|18368 bytes|16384")                      \
    X(pack, PACK.pool.page_stride_bytes = 2632, INVALID, "pool|2632|16")                 \
    X(pack, PACK.pool.page_stride_bytes = 2608, INVALID, "pool|2608|2624")               \
    X(pack, PACK.pool.page_stride_bytes = -2624, INVALID, "pool|-2624|2624")             \
    X(pack, ASIDE(PACK.pool), INVALID, "pool|16-byte")                                   \
    X(pack, PACK.pool.data = NULL, INVALID, "pool|kv_pack")                              \
    X(pack, PACK.pool.data = w->pageable, INVALID, "pool|pageable")                      \
    X(pack, PACK.scale = (enum rfn_scale)5, INVALID, "scale|5")                          \
    X(pack, PACK.floor_on = (enum rfn_floor)6, INVALID, "floor_on|6")                    \
    X(pack, PACK.floor_on = RFN_FLOOR_SCALE, INVALID, "floor|0")                         \
    X(topk, TOPK.logits.dtype = RFN_BF16, INVALID, "logits|bf16|f32")                    \
    X(topk, TOPK.logits.dims = 1, INVALID, "logits|1 dim|2")                             \
    X(topk, TOPK.logits.stride[0] = 31, INVALID, "logits|31|32")                         \
    X(topk, SLIM(TOPK.logits), INVALID, "logits|524 bytes|512")                          \
    X(topk, ASIDE(TOPK.logits), INVALID, "logits|4-byte")                                \
    X(topk, TOPK.logits.data = w->pageable, INVALID, "logits|pageable")                  \
    X(topk, TOPK.logits.data = NULL, INVALID, "logits|index_topk")                       \
    X(topk, TOPK.logits.shape[1] = 33, INVALID, "logits|33|32")                          \
    X(topk, TOPK.lens.shape[0] = 3, INVALID, "lens|T = 3|T = 4")                         \
    X(topk, TOPK.lens.dtype = RFN_I64, INVALID, "lens|i64|i32")                          \
    X(topk, TOPK.lens.data = NULL, INVALID, "lens|index_topk")                           \
    X(topk, TOPK.table.data = NULL, INVALID, "table|slots")                              \
    X(topk, TOPK.table.shape[0] = 3, INVALID, "table|192 bytes|128")                     \
    X(topk, TOPK.request.data = NULL, INVALID, "request|slots")                          \
    X(topk, TOPK.request.shape[0] = 8, INVALID, "request|T = 8|T = 4")                   \
    X(topk, TOPK.slots.data = NULL;                                                      \
      TOPK.positions.data = NULL, INVALID, "slots|positions")                            \
    X(topk, TOPK.slots.shape[1] = TOPK.slots.stride[0] = 2049;                           \
      TOPK.positions.data = NULL, LIMIT, "2049|2048")                                    \
    X(topk, TOPK.slots.shape[1] = 0; TOPK.positions.data = NULL, INVALID, "K = 0|1")     \
    X(topk, TOPK.slots.shape[1] = 4, INVALID, "positions|K = 8|K = 4")                   \
    X(topk, TOPK.slots.data = w->out + OUT_BYTES - 64, INVALID,                          \
      "slots|128 bytes|64 left")                                                         \
    X(topk, TOPK.positions.data = w->pageable, INVALID, "positions|pageable")            \
    X(topk, TOPK.page_tokens = 0, INVALID, "page_tokens = 0")                            \
    X(topk, TOPK.pages = 0, INVALID, "pages = 0")                                        \
    X(topk, TOPK.pages = 1ll << 40, INVALID, "1099511627776|2147483647")                 \
    X(mla, MLA.q.dtype = RFN_E4M3, INVALID, "q|e4m3|bf16")                               \
    X(mla, MLA.q.dims = 2, INVALID, "q|2 dim|3")                                         \
    X(mla, MLA.q.shape[2] = 512, INVALID, "q|512|576")                                   \
    X(mla, MLA.q = rfn_tensor_of(w->out, RFN_BF16, 1, 129, 576, 0);                      \
      MLA.out.shape[1] = 129;                                                            \
      MLA.lse.data = MLA.sink.data = MLA.source[0].lens.data = NULL;                     \
      MLA.out.shape[0] = MLA.source[0].indices.shape[0] = 1, INVALID, "129|128")         \
    X(mla, MLA.q.data = NULL, INVALID, "q|sparse_mla")                                   \
    X(mla, MLA.q.data = w->pageable, INVALID, "q|pageable")                              \
    X(mla, ASIDE(MLA.q), INVALID, "q|16-byte")                                           \
    X(mla, MLA.q.stride[1] = 580, INVALID, "q|1160|16")                                  \
    X(mla, MLA.q_rope = rfn_tensor_of(w->out, RFN_BF16, ROWS, HEADS, 64, 0), INVALID,    \
      "q|576|512")                                                                       \
    X(mla, MLA.source[0].pool.data = NULL, INVALID, "source[0].pool|sparse_mla")         \
    X(mla, MLA.source[0].pool.page_tokens = 0, INVALID, "source[0].pool|0|1")            \
    X(mla, MLA.source[0].pool.page_stride_bytes = 2625, INVALID,                         \
      "source[0].pool|2625|16")                                                          \
    X(mla, MLA.source[0].pool.pages++, INVALID, "source[0].pool|10496 bytes|7872")       \
    X(mla, MLA.source[0].pool.format = RFN_INDEX_FP8_132, INVALID, "source[0].pool|132") \
    X(mla, MLA.source[0].indices.data = NULL, INVALID, "source[0].indices|sparse_mla")   \
    X(mla, MLA.source[0].indices.shape[0] = 2, INVALID, "source[0].indices|T = 2|T = 4") \
    X(mla, MLA.source[0].indices.dtype = RFN_I64, INVALID, "source[0].indices|i64|i32")  \
    X(mla, MLA.source[0].lens.data = w->pageable, INVALID, "source[0].lens|pageable")    \
    X(mla, MLA.source[1].indices = MLA.source[0].indices, INVALID, "source[1].indices")  \
    X(mla, MLA.source[1].pool = MLA.source[0].pool, INVALID, "source[1].indices")        \
    X(mla, MLA.sink.shape[0] = 3, INVALID, "sink|H = 3|H = 2")                           \
    X(mla, MLA.out.data = NULL, INVALID, "out|sparse_mla")                               \
    X(mla, MLA.out.shape[2] = 576, INVALID, "out|576|512")                               \
    X(mla, MLA.out.data = w->out + OUT_BYTES - 4096, INVALID,                            \
      "out|8192 bytes|4096 left")                                                        \
    X(mla, MLA.lse.dtype = RFN_BF16, INVALID, "lse|bf16|f32")                            \
    X(mla, MLA.lse.stride[0] = 1, INVALID, "lse|1|2")                                    \
    X(mla, MLA.scale = 0, INVALID, "scale|0")                                            \
    X(mla, MLA.empty_lse_positive = 2, INVALID, "empty_lse_positive|2")                  \
    X(mla, MLA.batch_invariant = 2, INVALID, "batch_invariant|2")

enum op
{
    pack,
    topk,
    mla
};

#define SPOIL(o, what, status, words)                                                    \
    if (row-- == 0)                                                                      \
    {                                                                                    \
        what;                                                                            \
    }
#define ROW(o, what, status, words) { o, #what, RFN_##status, words },

static const struct row
{
    enum op op;
    const char *what;
    enum rfn_status status;
    const char *words;
} rows[] = { CASES(ROW) };

static void spoil(struct world *w, int row)
{
    CASES(SPOIL)
}

static enum rfn_status launch(struct rfn_stream *s, enum op op, const struct world *w)
{
    return op == pack   ? rfn_kv_pack(s, &w->pack)
           : op == topk ? rfn_index_topk(s, &w->topk)
                        : rfn_sparse_mla(s, &w->mla);
}

static void each_is_refused(struct test *t, const struct world *w, struct rfn_stream *s,
                            const char *where)
{
    for (int i = 0; i < (int)(sizeof rows / sizeof rows[0]); i++)
    {
        struct world bad = *w;
        char name[200];
        spoil(&bad, i);
        enum rfn_status status = launch(s, rows[i].op, &bad);
        snprintf(name, sizeof name, "%s: %s", where, rows[i].what);
        if (harness_check(&t->h, name, status == rows[i].status, "%s where %s is due: %s",
                          rfn_status_name(status), rfn_status_name(rows[i].status),
                          status ? rfn_last_error() : ""))
            harness_check(&t->h, name, test_line_has(rows[i].words),
                          "\"%s\" lacks one of \"%s\"", rfn_last_error(), rows[i].words);
    }
}

/* The unspoilt arguments are fine, so that nothing is refused for another reason. */
static int runs(struct test *t, struct rfn_stream *s, enum op op, const struct world *w)
{
    enum rfn_status status = launch(s, op, w);
    if (status == RFN_UNSUPPORTED && !t->host)
        return 0;
    return harness_check(&t->h, "good arguments are taken", status == RFN_OK, "op %d: %s",
                         (int)op, rfn_last_error());
}

int main(int argc, char **argv)
{
    struct test t;
    struct rfn_capture_info info;
    struct rfn_graph *graph = NULL;
    struct rfn_graph_info made;
    test_begin(&t, "args", &argc, argv);
    struct world w = { .t = &t };
    struct rfn_stream *s = test_stream(&t, RFN_STREAM_NONBLOCKING);
    make_args(&w);

    OK(&t, rfn_set_sync(t.dev, w.out, POISON, OUT_BYTES));
    each_is_refused(&t, &w, s, "eager");
    OK(&t, rfn_stream_sync(s));
    HOLDS(&t, test_all(&t, w.out, OUT_BYTES, POISON));

    OK(&t, rfn_capture_begin(s, NULL));
    each_is_refused(&t, &w, s, "captured");
    OK(&t, rfn_capture_query(s, &info));
    HOLDS(&t, info.status == RFN_CAPTURE_ACTIVE);
    int nodes = runs(&t, s, topk, &w);
    OK(&t, rfn_capture_end(s, &graph));
    OK(&t, rfn_graph_query(graph, &made));
    HOLDS(&t, nodes == 1 && made.nodes == 1 && made.launches == 1);

    /* The same rows through exec_update: the executable stays what it was. */
    struct rfn_exec *exec = NULL;
    OK(&t, rfn_graph_instantiate(graph, &exec));
    for (int i = 0; i < (int)(sizeof rows / sizeof rows[0]); i++)
        if (rows[i].op == topk)
        {
            struct world bad = w;
            spoil(&bad, i);
            REFUSED(&t, rfn_exec_update(exec, 0, &bad.topk), rows[i].status,
                    rows[i].words);
        }
    OK(&t, rfn_exec_launch(exec, s));
    OK(&t, rfn_stream_sync(s));
    HOLDS(&t, test_all(&t, w.topk.positions.data, ROWS * TOP * 4, 0xff)); /* lens are 0 */
    OK(&t, rfn_exec_destroy(&exec));
    OK(&t, rfn_graph_destroy(&graph));

    runs(&t, s, pack, &w);
    runs(&t, s, topk, &w);
    runs(&t, s, mla, &w);
    OK(&t, rfn_stream_sync(s));
    OK(&t, rfn_stream_destroy(&s));
    while (w.memories)
        OK(&t, rfn_memory_free(t.dev, w.memory[--w.memories]));
    free(w.pageable);
    return test_end(&t);
}
