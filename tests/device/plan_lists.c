/*
 * The lists of tiles in their three forms: fetched, from the host's lengths, and by a graph
 * that is replayed while lengths change. All give the same bytes, those of the reference. And
 * what is refused in a capture.
 *
 *     plan_lists [--seed S] [--sets N] [--time]
 */
#include "tests/checkop/reference.h"
#include "tests/device/open.h"
#include "tests/support/rng.h"

#include <pthread.h>
#include <time.h>

#define R 48      /* capacity */
#define ROOM 8192 /* pairs a list: what R requests can need at most */
#define SETS 1000
#define REPLAYS 25 /* of a graph */
#define POISON 0x5a

/* Lengths as they lie in memory; starts are those of q. */
struct lengths
{
    int32_t q[R], prefill[R], cached[R], starts[R + 1], requests;
};

struct outputs
{
    int32_t maxima[RFN_SPLIT_MAXIMA], counts[RFN_SPLIT_COUNTS], prefix[RFN_PREFIX_COUNTS];
    int32_t key_starts[R + 1];
    _Alignas(8) int32_t list[4][2 * ROOM];
};

/* Device memory, the scheduler's, and what each form gives. */
struct world
{
    struct test *t;
    struct rng rng;
    struct rfn_stream *s;
    struct lengths *lens, *staging; /* device; pinned */
    struct outputs *out;            /* device */
    struct rfn_split_lists_args split;
    struct rfn_prefix_lists_args prefix;
};

static struct outputs fetched, told, replayed, eager, right;

static struct rfn_tensor vector(int32_t *data, int64_t n)
{
    return rfn_tensor_of(data, RFN_I32, n, 0, 0, 0);
}

/* The same arguments with other memory under them. */
static void place(struct world *w, struct lengths *in, struct outputs *out)
{
    struct rfn_split_lists_args *a = &w->split;
    struct rfn_prefix_lists_args *b = &w->prefix;
    struct rfn_tensor *list[] = { &a->decoder, &a->encoder, &a->kv, &b->tiles };
    int starts = a->q_starts.data != NULL, prefill = a->prefill.data != NULL;
    a->q_lens.data = starts ? NULL : in->q;
    a->q_starts.data = starts ? in->starts : NULL;
    a->prefill.data = prefill ? in->prefill : NULL;
    a->cached.data = in->cached;
    a->requests.data = &in->requests;
    b->q_lens = a->q_lens;
    b->q_starts = a->q_starts;
    b->cached = a->cached;
    b->requests = a->requests;
    a->maxima.data = out->maxima;
    a->counts.data = out->counts;
    b->counts.data = out->prefix;
    b->key_starts.data = out->key_starts;
    for (int i = 0; i < 4; i++)
        if (list[i]->data)
            list[i]->data = out->list[i];
}

/* Sizes and what is given, anew. */
static void choose_sizes(struct world *w)
{
    static const int32_t keys[] = { 0, 0, 0, 1, 7, 64, 100, 4096, 2147483647 };
    struct rng *r = &w->rng;
    int rows = rng_below(r, 4) == 0, lists = (int)rng_between(r, 1, 15);
    struct lengths *in = w->lens;
    w->split = (struct rfn_split_lists_args) {
        .q_lens = vector(in->q, R),
        .prefill = vector(in->prefill, R),
        .cached = vector(in->cached, R),
        .requests = vector(&in->requests, 1),
        .maxima = vector(w->out->maxima, RFN_SPLIT_MAXIMA),
        .counts = vector(w->out->counts, RFN_SPLIT_COUNTS),
        .group = (int32_t)rng_between(r, 1, 16),
        .decoder_keys = rows ? 0 : keys[rng_below(r, 9)],
        .decoder_rows = rows ? (int32_t)rng_between(r, 1, 32) : 0,
        .encoder_rows = (int32_t)rng_between(r, 16, 128),
        .kv_keys = (int32_t)rng_between(r, 20, 130),
        .sm_count = (int32_t)rng_between(r, 1, 148),
    };
    w->prefix = (struct rfn_prefix_lists_args) {
        .key_starts = vector(w->out->key_starts, R + 1),
        .counts = vector(w->out->prefix, RFN_PREFIX_COUNTS),
        .prefix_keys = (int32_t)rng_between(r, 20, 130),
    };
    struct rfn_tensor *list[] = { &w->split.decoder, &w->split.encoder, &w->split.kv,
                                  &w->prefix.tiles };
    for (int i = 0; i < 4; i++)
        if (lists >> i & 1)
            *list[i] = rfn_tensor_of(w->out->list[i], RFN_I32, ROOM, 2, 0, 0);
    if (rng_below(r, 3) == 0)
        w->split.q_starts = vector(in->starts, R + 1);
    if (rng_below(r, 4) == 0)
        w->split.prefill.data = NULL;
    place(w, w->lens, w->out);
}

/* Lengths of a step: many idle or few, behind `requests` garbage. */
static void draw_lengths(struct rng *r, struct lengths *l, int short_tiles)
{
    int idle = (int)rng_below(r, 10), longest = short_tiles ? 60 : 3000;
    l->requests = (int32_t)rng_between(r, -1, R + 2);
    l->starts[0] = (int32_t)rng_below(r, 100);
    for (int b = 0; b < R; b++)
    {
        int is_idle = rng_below(r, 10) < idle, garbage = is_idle || b >= l->requests;
        l->q[b] = is_idle ? (int32_t)-rng_below(r, 2) : (int32_t)rng_between(r, 1, 9);
        l->prefill[b] = rng_below(r, 3) ? 0 : (int32_t)rng_between(r, 1, 500);
        l->cached[b] = rng_below(r, 5) ? (int32_t)rng_below(r, longest) : 0;
        if (garbage)
        {
            l->prefill[b] = (int32_t)(uint32_t)rng_u64(r);
            l->cached[b] = (int32_t)(uint32_t)rng_u64(r);
        }
        l->starts[b + 1] = l->starts[b] + (l->q[b] > 0 ? l->q[b] : 0);
    }
}

/* Where the outputs differ, in words; NULL: nowhere. */
static const char *differ(const struct outputs *x, const struct outputs *y)
{
    static const char *const name[] = { "decoder", "encoder", "kv", "tiles" };
    if (memcmp(x->maxima, y->maxima, sizeof x->maxima))
        return "maxima";
    if (memcmp(x->counts, y->counts, sizeof x->counts))
        return "counts";
    if (memcmp(x->prefix, y->prefix, sizeof x->prefix))
        return "counts of the prefix";
    if (memcmp(x->key_starts, y->key_starts, sizeof x->key_starts))
        return "key_starts";
    for (int i = 0; i < 4; i++)
        if (memcmp(x->list[i], y->list[i], sizeof x->list[i]))
            return name[i];
    return NULL;
}

static void same(struct world *w, const char *form, const struct outputs *x, int set)
{
    const char *where = differ(x, &right);
    harness_check(&w->t->h, form, !where, "set %d: %s differ from the reference", set,
                  where ? where : "");
}

static void launch(struct world *w)
{
    OK(w->t, rfn_split_lists(w->s, &w->split));
    OK(w->t, rfn_prefix_lists(w->s, &w->prefix));
}

static struct rfn_exec *capture(struct world *w)
{
    struct rfn_graph *graph = NULL;
    struct rfn_exec *exec = NULL;
    OK(w->t, rfn_capture_begin(w->s, NULL));
    launch(w);
    OK(w->t, rfn_capture_end(w->s, &graph));
    OK(w->t, rfn_graph_instantiate(graph, &exec));
    OK(w->t, rfn_graph_destroy(&graph));
    return exec;
}

/* One set of lengths through all forms. */
static void run_set(struct world *w, struct rfn_exec *exec, int set)
{
    struct rfn_fault ignored = { 0 };
    struct lengths l;
    draw_lengths(&w->rng, &l, w->split.decoder_keys > 0 && w->split.decoder_keys < 10);
    *w->staging = l;
    OK(w->t, rfn_copy_async(w->s, w->lens, w->staging, sizeof l));
    OK(w->t, rfn_set_async(w->s, w->out, POISON, sizeof *w->out));
    OK(w->t, rfn_exec_launch(exec, w->s));

    /* Fetched at once: it waits for the stream by itself. */
    memset(&fetched, POISON, sizeof fetched);
    place(w, w->lens, &fetched);
    OK(w->t, rfn_split_lists_sync(w->s, &w->split));
    OK(w->t, rfn_prefix_lists_sync(w->s, &w->prefix));
    memset(&told, POISON, sizeof told);
    place(w, &l, &told);
    OK(w->t, rfn_split_lists_host(&w->split));
    OK(w->t, rfn_prefix_lists_host(&w->prefix));
    memset(&right, POISON, sizeof right);
    place(w, &l, &right);
    ref_split_lists(&w->split, &ignored);
    ref_prefix_lists(&w->prefix, &ignored);
    OK(w->t, rfn_copy_sync(w->t->dev, &replayed, w->out, sizeof replayed));
    same(w, "fetched lengths", &fetched, set);
    same(w, "lengths of the host", &told, set);
    same(w, "a replay", &replayed, set);

    place(w, w->lens, w->out);
    if (set % 5)
        return;
    OK(w->t, rfn_set_async(w->s, w->out, POISON, sizeof *w->out));
    launch(w);
    OK(w->t, rfn_stream_sync(w->s));
    OK(w->t, rfn_copy_sync(w->t->dev, &eager, w->out, sizeof eager));
    same(w, "a launch", &eager, set);
}

/* ---- refused ------------------------------------------------------------------------- */

/* What another thread does beside a capture of this one. */
static void *elsewhere(void *arg)
{
    struct world *w = arg;
    struct world own = *w;
    OK(w->t, rfn_stream_create(w->t->dev, RFN_STREAM_NONBLOCKING, &own.s));
    memset(&fetched, POISON, sizeof fetched);
    place(&own, w->lens, &fetched);
    OK(w->t, rfn_split_lists_sync(own.s, &own.split));
    HOLDS(w->t, fetched.counts[RFN_SPLIT_MISSING] == 0);
    return own.s;
}

static void refused_in_captures(struct world *w)
{
    struct test *t = w->t;
    struct rfn_stream *side = test_stream(t, RFN_STREAM_NONBLOCKING);
    struct rfn_capture_desc desc = { RFN_CAPTURE_GLOBAL, "bucket 8" };
    struct rfn_capture_info info;
    struct rfn_graph *graph = NULL;
    struct rfn_graph_info what;
    struct world here = *w;
    pthread_t thread;
    void *stream = NULL;
    place(&here, w->lens, &fetched);
    memset(&fetched, POISON, sizeof fetched);
    OK(t, rfn_region_begin("decode"));
    OK(t, rfn_region_begin("planning"));
    OK(t, rfn_capture_begin(w->s, &desc));
    struct rfn_stream *streams[] = { w->s, side };
    for (int i = 0; i < 2; i++)
    {
        REFUSED(t, rfn_split_lists_sync(streams[i], &here.split), RFN_CAPTURE,
                "split_lists_sync|in region \"decode > planning\"|capture "
                "\"bucket 8\"|plan_lists.c");
        REFUSED(t, rfn_prefix_lists_sync(streams[i], &here.prefix), RFN_CAPTURE,
                "prefix_lists_sync|in region \"decode > planning\"|capture "
                "\"bucket 8\"|plan_lists.c");
    }
    HOLDS(t, fetched.maxima[0] == 0x5a5a5a5a && fetched.key_starts[0] == 0x5a5a5a5a);
    OK(t, rfn_capture_query(w->s, &info));
    HOLDS(t, info.status == RFN_CAPTURE_ACTIVE);
    /* Checks are counted without a lock, so the other thread's come first. */
    int begun = pthread_create(&thread, NULL, elsewhere, w);
    int joined = begun == 0 ? pthread_join(thread, &stream) : begun;
    HOLDS(t, begun == 0 && joined == 0);
    OK(t, rfn_capture_query(w->s, &info));
    HOLDS(t, info.status == RFN_CAPTURE_ACTIVE);
    launch(w);
    OK(t, rfn_capture_end(w->s, &graph));
    OK(t, rfn_graph_query(graph, &what));
    HOLDS(t, what.nodes == 2);
    OK(t, rfn_graph_destroy(&graph));
    OK(t, rfn_region_end());
    OK(t, rfn_region_end());
    /* Outside it works again. */
    OK(t, rfn_split_lists_sync(w->s, &here.split));
    OK(t, rfn_stream_destroy(&side));
    side = stream;
    OK(t, rfn_stream_destroy(&side));
}

static void refused_memory(struct world *w)
{
    struct test *t = w->t;
    struct world x = *w;
    static struct lengths l;
    place(&x, w->lens, &fetched);
    x.split.cached.data = l.cached;
    REFUSED(t, rfn_split_lists_sync(w->s, &x.split), RFN_INVALID,
            "split_lists: cached|192 bytes|pageable host memory");
    place(&x, w->lens, &fetched);
    x.split.counts.data = w->out->counts;
    REFUSED(t, rfn_split_lists_sync(w->s, &x.split), RFN_INVALID,
            "split_lists_sync: counts|20 bytes|device memory where host memory");
    x.prefix.key_starts.data = w->out->key_starts;
    REFUSED(t, rfn_prefix_lists_sync(w->s, &x.prefix), RFN_INVALID,
            "prefix_lists_sync: key_starts|196 bytes|device memory");
    REFUSED(t, rfn_split_lists_sync(NULL, &x.split), RFN_INVALID, "stream");
    REFUSED(t, rfn_split_lists_sync(w->s, NULL), RFN_INVALID, "args");
}

/* Of lengths that lie on the device: values are named as those of the host are. */
static void refused_values(struct world *w)
{
    struct test *t = w->t;
    struct lengths *l = w->staging;
    struct world x = *w;
    for (int b = 0; b < R; b++)
    {
        l->q[b] = 1;
        l->prefill[b] = 0;
        l->cached[b] = 99;
        l->starts[b] = b == 7 ? 3 : b;
    }
    l->starts[R] = R;
    l->requests = R;
    x.split.prefill.data = l->prefill;
    x.split.decoder = rfn_tensor_of(w->out->list[0], RFN_I32, ROOM, 2, 0, 0);
    x.split.decoder_keys = 50;
    x.split.decoder_rows = 0;
    x.split.q_starts.data = NULL;
    place(&x, w->lens, &fetched);
    x.split.decoder.shape[0] = 2 * R - 1;
    OK(t, rfn_copy_async(w->s, w->lens, l, sizeof *l));
    REFUSED(t, rfn_split_lists_sync(w->s, &x.split), RFN_LIMIT,
            "decoder: 96 tiles|room for 95");
    x.split.q_starts = vector(w->lens->starts, R + 1);
    place(&x, w->lens, &fetched);
    REFUSED(t, rfn_split_lists_sync(w->s, &x.split), RFN_INVALID,
            "q_starts goes down from 6 to 3 at request 6");
    REFUSED(t, rfn_prefix_lists_sync(w->s, &x.prefix), RFN_INVALID,
            "q_starts goes down from 6 to 3 at request 6");
}

/* Sums past 32 bits decide the size of a tile, and are named. */
static void tiles_of_long_contexts(struct world *w)
{
    struct test *t = w->t;
    struct world x = *w;
    struct rfn_fault ignored = { 0 };
    static struct lengths l;
    for (int round = 0; round < 24; round++)
    {
        char words[64];
        l.requests = R;
        for (int b = 0; b < R; b++)
        {
            l.q[b] = 1;
            l.cached[b] = INT32_MAX - (int32_t)rng_below(&w->rng, 1 << 24) - 1;
        }
        x.split = (struct rfn_split_lists_args) {
            .q_lens = vector(l.q, R),
            .cached = vector(l.cached, R),
            .maxima = vector(fetched.maxima, RFN_SPLIT_MAXIMA),
            .counts = vector(fetched.counts, RFN_SPLIT_COUNTS),
            .decoder = rfn_tensor_of(fetched.list[0], RFN_I32, ROOM, 2, 0, 0),
            .kv_keys = (int32_t)rng_between(&w->rng, 60, 127),
            .sm_count = (int32_t)rng_between(&w->rng, 1, 148),
        };
        ref_split_lists(&x.split, &ignored);
        snprintf(words, sizeof words, "decoder: %lld tiles|room for 8192",
                 (long long)ROOM + fetched.counts[RFN_SPLIT_MISSING]);
        REFUSED(t, rfn_split_lists_host(&x.split), RFN_LIMIT, words);
    }
}

/* ---- times --------------------------------------------------------------------------- */

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec * 1e-3;
}

static int by_value(const void *x, const void *y)
{
    double a = *(const double *)x, b = *(const double *)y;
    return (a > b) - (a < b);
}

#define TIMED 256
#define RUNS 2000

/* 256 requests that decode; the median in microseconds. */
static void time_one(struct world *w, int fetch, int32_t keys, int32_t longest)
{
    static int32_t in[3][TIMED], maxima[6], counts[5], starts[TIMED + 1], sums[3];
    static _Alignas(8) int32_t list[2 * 65536];
    static double took[RUNS];
    for (int b = 0; b < TIMED; b++)
    {
        in[0][b] = 1;
        in[1][b] = 0;
        in[2][b] = (int32_t)rng_below(&w->rng, longest);
    }
    int32_t *at = fetch ? test_device_memory(w->t, sizeof in) : in[0];
    if (fetch)
        OK(w->t, rfn_copy_sync(w->t->dev, at, in, sizeof in));
    struct rfn_split_lists_args a = {
        .q_lens = vector(at, TIMED),
        .prefill = vector(at + TIMED, TIMED),
        .cached = vector(at + 2 * TIMED, TIMED),
        .maxima = vector(maxima, RFN_SPLIT_MAXIMA),
        .counts = vector(counts, RFN_SPLIT_COUNTS),
        .decoder = rfn_tensor_of(list, RFN_I32, 65536, 2, 0, 0),
        .decoder_keys = keys,
        .kv_keys = 64,
        .sm_count = 132,
    };
    OK(w->t, fetch ? rfn_split_lists_sync(w->s, &a) : rfn_split_lists_host(&a));
    a.decoder.shape[0] = counts[RFN_SPLIT_DECODER] + 64;
    struct rfn_prefix_lists_args b = {
        .q_lens = a.q_lens,
        .cached = a.cached,
        .key_starts = vector(starts, TIMED + 1),
        .counts = vector(sums, RFN_PREFIX_COUNTS),
    };
    for (int op = 0; op < 2; op++)
    {
        for (int i = 0; i < RUNS; i++)
        {
            double begin = now();
            enum rfn_status status =
                op ? (fetch ? rfn_prefix_lists_sync(w->s, &b) : rfn_prefix_lists_host(&b))
                   : (fetch ? rfn_split_lists_sync(w->s, &a) : rfn_split_lists_host(&a));
            took[i] = now() - begin;
            if (status != RFN_OK)
                OK(w->t, status);
        }
        qsort(took, RUNS, sizeof took[0], by_value);
        double bound = fetch ? 30 : 5;
        printf("%-12s %-9s %d requests up to %6d, %4d keys a tile, %5d tiles: "
               "%.2f us (p90 %.2f)\n",
               op ? "prefix_lists" : "split_lists", fetch ? "fetched" : "told", TIMED,
               longest, op ? 0 : counts[RFN_SPLIT_KEYS],
               op ? 0 : counts[RFN_SPLIT_DECODER], took[RUNS / 2], took[RUNS * 9 / 10]);
        /* A long list takes the time that it takes to write it. */
        if (op || counts[RFN_SPLIT_DECODER] <= 4096)
            harness_check(&w->t->h, "within its bound", took[RUNS / 2] < bound,
                          "%.2f us where %.0f are the most", took[RUNS / 2], bound);
    }
    if (fetch)
        OK(w->t, rfn_memory_free(w->t->dev, at));
}

static void time_all(struct world *w)
{
    for (int fetch = 0; fetch < 2; fetch++)
    {
        time_one(w, fetch, 0, 8192);
        time_one(w, fetch, 1024, 8192);
        time_one(w, fetch, 0, 32768);
        time_one(w, fetch, 2048, 32768);
        time_one(w, fetch, 1024, 131072);
    }
}

int main(int argc, char **argv)
{
    static struct test t;
    test_begin(&t, "plan_lists", &argc, argv);
    struct world w = { .t = &t, .rng = rng_of(t.h.seed) };
    const char *sched = getenv("RFN_HOST_SCHED");
    int sets = sched && strncmp(sched, "random", 6) == 0 ? SETS / 20 : SETS, timing = 0;
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--time") == 0)
            timing = 1;
        else if (strcmp(argv[i], "--sets") == 0 && i + 1 < argc)
            sets = atoi(argv[++i]);
    w.s = test_stream(&t, RFN_STREAM_NONBLOCKING);
    w.lens = test_device_memory(&t, sizeof *w.lens);
    w.out = test_device_memory(&t, sizeof *w.out);
    w.staging = test_alloc(&t, RFN_MEMORY_PINNED, sizeof *w.staging);
    if (timing)
        time_all(&w);
    for (int set = 0; !timing && set < sets;)
    {
        choose_sizes(&w);
        struct rfn_exec *exec = capture(&w);
        for (int i = 0; i < REPLAYS && set < sets; i++)
            run_set(&w, exec, set++);
        OK(&t, rfn_exec_destroy(&exec));
    }
    if (!timing)
    {
        refused_in_captures(&w);
        refused_memory(&w);
        refused_values(&w);
        tiles_of_long_contexts(&w);
    }
    OK(&t, rfn_device_sync(t.dev));
    FREE(&t, w.lens);
    FREE(&t, w.out);
    FREE(&t, w.staging);
    OK(&t, rfn_stream_destroy(&w.s));
    return test_end(&t);
}
