/*
 * What a ladder costs: 26 buckets of 61 layers captured, instantiated and uploaded, the
 * device memory of their graphs, the host's work in a replayed step of 128 requests, and the
 * device's in its first node.
 *
 * A step that is queued behind others is held to the limit. The first one after the stream was
 * waited for finds the processor's caches cold: the driver's own launch costs it 3 to 65 us
 * then. Both are printed, beside a bare launch of the same nodes.
 *
 *     cuda_ladder_time [--seed N] [result.json]
 */
#include "runtime/attention/attention.h"
#include "runtime/guard.h"
#include "tests/device/open.h"
#include "tests/support/rng.h"

#include <time.h>

#define REQUESTS 240 /* the ladder of this limit has 26 buckets */
#define BUCKETS 26
#define PAGES 2048
#define LIVE 128
#define CONTEXT 32768
#define STEPS 24
#define AHEAD 4  /* steps in a row before the stream is waited for */
#define ROUNDS 3 /* the best counts: other work of the machine is not ours */
#define NODES_PER_LAYER 7
#define LADDER_MS 300
#define BARE_US 3 /* of a bare launch: where it takes longer, so may ours */
#define REPLAY_US 10
#define FIRST_US 300 /* more than whole tables cost */
#define UPDATE_US 8
#define UPDATES RFN_ATTENTION_RECORDS /* in a row, each with a record of its own */

static double now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec * 1e-3;
}

struct rig
{
    struct test *t;
    const struct rfn_geometry *g;
    struct rfn_attention_limits limits;
    struct rfn_attention *attention;
    struct rfn_stream *stream;
    void *memory[16];
    int memories;
    int32_t *lens;
    int32_t *table;
    int64_t width;
};

struct cost
{
    double capture_us, instantiate_us, upload_us; /* sums over the buckets */
    int64_t nodes, most_nodes;
};

/* Of a call on the host, us. */
struct times
{
    double first;  /* the very first one */
    double queued; /* median behind others */
    double waited; /* median right after the stream was waited for */
    double worst;
};

static void *zeroed(struct rig *r, int64_t bytes)
{
    void *p = r->memory[r->memories++] = test_device_memory(r->t, bytes);
    OK(r->t, rfn_set_sync(r->t->dev, p, 0, bytes));
    return p;
}

static struct rfn_tensor input(struct rig *r, int64_t d0, int64_t d1, int64_t d2)
{
    int64_t bytes = 2 * d0 * d1 * (d2 ? d2 : 1);
    return rfn_tensor_of(zeroed(r, bytes), RFN_BF16, d0, d1, d2, 0);
}

/* Layers share their caches, inputs and outputs: what they hold is not looked at. */
static void rig_open(struct rig *r, struct test *t)
{
    *r = (struct rig) { .t = t };
    OK(t, rfn_geometry_find("deepseek-v3.2", &r->g));
    const struct rfn_geometry *g = r->g;
    r->limits = (struct rfn_attention_limits) { .requests = REQUESTS,
                                                .next_n = 1,
                                                .pages = PAGES };
    OK(t, rfn_attention_create(t->dev, g, &r->limits, &r->attention));
    int64_t latent = rfn_format_page_bytes(g->latent_format, g->page_tokens);
    int64_t index = rfn_format_page_bytes(g->index_format, g->page_tokens);
    struct rfn_layer_caches caches = {
        .latent = { zeroed(r, PAGES * latent), g->latent_format, g->page_tokens, PAGES,
                    0 },
        .index = { zeroed(r, PAGES * index), g->index_format, g->page_tokens, PAGES, 0 },
    };
    struct rfn_layer_io io = {
        .q = input(r, REQUESTS, g->heads, g->latent_elems + g->rope_elems),
        .kv = input(r, REQUESTS, g->latent_elems, 0),
        .k_rope = input(r, REQUESTS, g->rope_elems, 0),
        .index_q = input(r, REQUESTS, g->index_heads, g->index_width),
        .index_w = input(r, REQUESTS, g->index_heads, 0),
        .index_k = input(r, REQUESTS, g->index_width, 0),
        .out = input(r, REQUESTS, g->heads, g->v_elems),
    };
    for (int32_t i = 0; i < g->layers; i++)
        OK(t, rfn_attention_bind(r->attention, i, &caches, &io));
    r->stream = test_stream(t, RFN_STREAM_NONBLOCKING);
    r->width = g->context / g->page_tokens;
    r->lens = malloc(LIVE * sizeof *r->lens);
    r->table = malloc((size_t)(LIVE * r->width) * sizeof *r->table);
    struct rng rng = rng_of(t->h.seed);
    for (int64_t i = 0; i < LIVE * r->width; i++)
        r->table[i] = (int32_t)rng_below(&rng, PAGES);
    for (int i = 0; i < LIVE; i++)
        r->lens[i] = CONTEXT - STEPS * ROUNDS * 4 - (int32_t)rng_below(&rng, 64);
}

static void rig_close(struct rig *r)
{
    OK(r->t, rfn_attention_destroy(&r->attention));
    OK(r->t, rfn_stream_destroy(&r->stream));
    while (r->memories)
        OK(r->t, rfn_memory_free(r->t->dev, r->memory[--r->memories]));
    free(r->lens);
    free(r->table);
}

static int32_t bucket_at(int i)
{
    return i < 4 ? 1 << i : i < 19 ? 8 * (i - 2) : 128 + 16 * (i - 18);
}

static void record(struct rig *r, const struct rfn_bucket *bucket, int update,
                   struct rfn_graph **ret)
{
    OK(r->t, rfn_capture_begin(r->stream, NULL));
    if (update)
        OK(r->t, rfn_attention_update(r->attention, r->stream, bucket));
    for (int32_t l = 0; l < r->g->layers; l++)
        if (rfn_attention_forward(r->attention, r->stream, l, bucket) != RFN_OK)
            HOLDS(r->t, !"a layer is recorded");
    OK(r->t, rfn_capture_end(r->stream, ret));
}

/* The same by hand, phase by phase. */
static void take_apart(struct rig *r, struct cost *ret)
{
    struct rfn_exec *exec[BUCKETS] = { 0 };
    *ret = (struct cost) { 0 };
    for (int i = 0; i < BUCKETS; i++)
    {
        struct rfn_bucket bucket = { bucket_at(i), 1, 0 };
        struct rfn_graph *graph = NULL;
        struct rfn_graph_info info = { 0 };
        double begin = now_us();
        record(r, &bucket, 1, &graph);
        double captured = now_us();
        OK(r->t, rfn_graph_instantiate(graph, &exec[i]));
        double instantiated = now_us();
        OK(r->t, rfn_exec_upload(exec[i], r->stream));
        OK(r->t, rfn_stream_sync(r->stream));
        ret->upload_us += now_us() - instantiated;
        ret->instantiate_us += instantiated - captured;
        ret->capture_us += captured - begin;
        OK(r->t, rfn_graph_query(graph, &info));
        ret->nodes += info.nodes;
        if (info.nodes > ret->most_nodes)
            ret->most_nodes = info.nodes;
        OK(r->t, rfn_graph_destroy(&graph));
    }
    for (int i = 0; i < BUCKETS; i++)
        OK(r->t, rfn_exec_destroy(&exec[i]));
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *us, int n)
{
    qsort(us, (size_t)n, sizeof *us, compare);
    return us[n / 2];
}

/* ahead steps in a row, then a wait. */
static struct times times_of(const double *us, int ahead)
{
    double queued[STEPS], waited[STEPS];
    struct times times = { .first = us[0] };
    int n = 0, m = 0;
    for (int i = 0; i < STEPS; i++)
    {
        if (i % ahead)
            queued[n++] = us[i];
        else
            waited[m++] = us[i];
        if (us[i] > times.worst)
            times.worst = us[i];
    }
    times.waited = median(waited, m);
    times.queued = n ? median(queued, n) : times.waited;
    return times;
}

/* Prints them; ret keeps the best of all rounds, and the first one's first. */
static void note(const char *what, struct times times, double step_us, struct times *ret)
{
    printf("  %s: host %.2f us, after a wait %.2f (first %.1f, worst %.1f); a step %.0f "
           "us\n",
           what, times.queued, times.waited, times.first, times.worst, step_us);
    if (ret->first)
    {
        times.first = ret->first;
        times.queued = ret->queued < times.queued ? ret->queued : times.queued;
        times.waited = ret->waited < times.waited ? ret->waited : times.waited;
    }
    *ret = times;
}

enum handed
{
    NOTHING,
    PAGES_OF_TWO, /* what a step of 128 requests grows by */
    USED,         /* rows up to their last page */
    SAME,         /* everything, most of which the device has */
    ALL,          /* behind a failure */
    KINDS
};

/* The layers of a step by themselves, on what the last step left: nothing of ours but one call. */
static void launch(struct rig *r, struct times *ret)
{
    const struct rfn_bucket bucket = { LIVE, 1, 0 };
    struct rfn_graph *graph = NULL;
    struct rfn_exec *exec = NULL;
    double us[STEPS], step_us = 0;
    record(r, &bucket, 0, &graph);
    OK(r->t, rfn_graph_instantiate(graph, &exec));
    OK(r->t, rfn_exec_upload(exec, r->stream));
    OK(r->t, rfn_stream_sync(r->stream));
    for (int i = 0; i < STEPS; i++)
    {
        double begin = now_us();
        OK(r->t, rfn_exec_launch(exec, r->stream));
        us[i] = now_us() - begin;
        if ((i + 1) % AHEAD == 0)
            OK(r->t, rfn_stream_sync(r->stream));
        step_us = (now_us() - begin) / AHEAD;
    }
    OK(r->t, rfn_exec_destroy(&exec));
    OK(r->t, rfn_graph_destroy(&graph));
    note("bare launch", times_of(us, AHEAD), step_us, ret);
}

/* The host's side of a step: from the call of the replay to its return. */
static void replay(struct rig *r, struct rfn_ladder *ladder, enum handed handed,
                   struct times *ret)
{
    static const char *const what[] = { "replay, unchanged",
                                        "replay, a page for 2 requests",
                                        "replay, rows up to their last page",
                                        "replay, whole tables, the same",
                                        "replay, whole tables, all copied" };
    const int ahead = handed <= USED ? AHEAD : 1;
    double us[STEPS], step_us = 0;
    int32_t from[LIVE], to[LIVE];
    for (int i = 0; i < STEPS; i++)
    {
        struct rfn_step step = { .requests = LIVE,
                                 .lens = r->lens,
                                 .table = r->table,
                                 .table_stride = r->width,
                                 .unchanged = handed == NOTHING && i > 0,
                                 .advance = 1 };
        if (i)
            for (int b = 0; b < LIVE; b++)
                r->lens[b]++;
        if (i && handed == PAGES_OF_TWO)
        {
            for (int b = 0; b < LIVE; b++)
                from[b] = to[b] = (int32_t)r->width;
            from[i % LIVE]--;
            from[(i + LIVE / 2) % LIVE]--;
            step.new_from = from;
            step.new_to = to;
        }
        if (i && handed == USED)
        {
            for (int b = 0; b < LIVE; b++)
            {
                from[b] = 0;
                to[b] = (r->lens[b] + r->g->page_tokens - 1) / r->g->page_tokens;
            }
            step.new_from = from;
            step.new_to = to;
        }
        if (handed == ALL)
            rfn_plan_forget(r->attention);
        double begin = now_us();
        OK(r->t, rfn_ladder_replay(ladder, r->stream, &step, NULL));
        us[i] = now_us() - begin;
        if ((i + 1) % ahead == 0)
            OK(r->t, rfn_stream_sync(r->stream));
        step_us = (now_us() - begin) / ahead;
    }
    note(what[handed], times_of(us, ahead), step_us, ret);
}

/* A record of the next turns: as long as before, a page for two requests. */
static void write_records(struct rig *r, int64_t turn)
{
    const struct rfn_attention *a = r->attention;
    for (int64_t i = turn; i < turn + UPDATES; i++)
    {
        struct rfn_step_record *record =
            (void *)(a->records + i % RFN_ATTENTION_RECORDS * a->record_bytes);
        int32_t *pair = (int32_t *)(record + 1);
        record->requests = LIVE;
        record->lengths = 1;
        record->changes = 2;
        for (int32_t k = 0; k < 2; k++)
            record->change[k] =
                (struct rfn_step_change) { (int32_t)(i + k) % LIVE, 500 + k, 7, 0 };
        for (int b = 0; b < LIVE; b++)
        {
            pair[2 * b] = r->lens[b];
            pair[2 * b + 1] = 1;
        }
        record->turn = i;
    }
}

enum update
{
    PLAIN,
    NO_CHANGE, /* its record is of another turn */
    CHANGE,
};

/* step_update of 128 requests, records in pinned memory. */
static double update_us(struct rig *r, enum update how, int64_t *turn)
{
    const struct rfn_attention *a = r->attention;
    struct rfn_event *event[2];
    struct rfn_graph *graph = NULL;
    struct rfn_exec *exec = NULL;
    double us[STEPS];
    const struct rfn_bucket bucket = { LIVE, 1, 0 };
    struct rfn_step_update_args args = rfn_update_args(a, &bucket);
    if (how != PLAIN)
        rfn_records_operands(a, LIVE, &args);
    for (int i = 0; i < 2; i++)
        OK(r->t, rfn_event_create(r->t->dev, &event[i]));
    OK(r->t, rfn_capture_begin(r->stream, NULL));
    for (int i = 0; i < UPDATES; i++)
        OK(r->t, rfn_step_update(r->stream, &args));
    OK(r->t, rfn_capture_end(r->stream, &graph));
    OK(r->t, rfn_graph_instantiate(graph, &exec));
    for (int i = 0; i < STEPS; i++)
    {
        float ms = 0;
        if (how == CHANGE)
            write_records(r, *turn);
        OK(r->t, rfn_event_record(event[0], r->stream, 0));
        OK(r->t, rfn_exec_launch(exec, r->stream));
        OK(r->t, rfn_event_record(event[1], r->stream, 0));
        OK(r->t, rfn_stream_sync(r->stream));
        OK(r->t, rfn_event_elapsed(event[0], event[1], &ms));
        us[i] = (double)ms * 1e3 / UPDATES;
        *turn += how == PLAIN ? 0 : UPDATES;
    }
    HOLDS(r->t, *a->taken == *turn);
    OK(r->t, rfn_exec_destroy(&exec));
    OK(r->t, rfn_graph_destroy(&graph));
    for (int i = 0; i < 2; i++)
        OK(r->t, rfn_event_destroy(&event[i]));
    return median(us, STEPS);
}

int main(int argc, char **argv)
{
    struct test t = { 0 };
    struct rig r;
    struct cost cost;
    struct times times[KINDS] = { 0 }, bare = { 0 };
    struct rfn_device_info device;
    struct rfn_ladder *ladder = NULL;
    struct rfn_ladder_info info = { 0 };
    struct rfn_device_desc desc = { .kind = RFN_DEVICE_CUDA };
    harness_begin(&t.h, "cuda_ladder_time", &argc, argv);
    if (rfn_device_open(&desc, &t.dev) != RFN_OK)
    {
        printf("no device: %s\n", rfn_last_error());
        return 77;
    }
    rig_open(&r, &t);
    OK(&t, rfn_device_query(t.dev, &device));

    double begin = now_us();
    OK(&t, rfn_ladder_create(r.attention, &(struct rfn_ladder_desc) { 0 }, &ladder));
    for (int i = 0; i < BUCKETS; i++)
        OK(&t, rfn_ladder_prepare(ladder, bucket_at(i), 0));
    double ladder_ms = (now_us() - begin) * 1e-3;
    OK(&t, rfn_ladder_query(ladder, &info));
    harness_check(&t.h, "26 buckets", info.buckets == BUCKETS && info.graphs == BUCKETS,
                  "%d buckets, %d graphs", info.buckets, info.graphs);
    for (int i = 0; i < ROUNDS * KINDS; i++)
    {
        replay(&r, ladder, (enum handed)(i % KINDS), &times[i % KINDS]);
        if (i % KINDS == NOTHING)
            launch(&r, &bare);
    }
    struct times same = times[NOTHING], grown = times[PAGES_OF_TWO], changed = times[ALL];
    OK(&t, rfn_ladder_destroy(&ladder));
    take_apart(&r, &cost);
    /* Nothing else is done with this object: nobody counts these launches. */
    int64_t turn = r.attention->state->turn;
    double plain_us = update_us(&r, PLAIN, &turn);
    double update[] = { update_us(&r, NO_CHANGE, &turn), update_us(&r, CHANGE, &turn) };
    rig_close(&r);

    double layer_nodes = (double)(cost.most_nodes - 1) / r.g->layers;
    double estimate = (double)info.memory_bytes / BUCKETS / 1024;
    double taken = (double)info.driver_bytes / BUCKETS / 1024;
    printf("%s: %d buckets of %d layers in %.1f ms; by hand capture %.1f, instantiate "
           "%.1f, upload %.1f ms\n",
           device.name, BUCKETS, r.g->layers, ladder_ms, cost.capture_us * 1e-3,
           cost.instantiate_us * 1e-3, cost.upload_us * 1e-3);
    printf("  %.2f nodes a layer; a graph: %.0f KiB by the driver, %.0f KiB by its "
           "nodes\n",
           layer_nodes, taken, estimate);
    harness_check(&t.h, "at most 7 nodes a layer", layer_nodes <= NODES_PER_LAYER, "%.2f",
                  layer_nodes);
    harness_check(&t.h, "the ladder is there in time", ladder_ms < LADDER_MS,
                  "%.1f ms where %d are allowed", ladder_ms, LADDER_MS);
    const double slow = bare.queued > BARE_US ? bare.queued / BARE_US : 1;
    harness_check(&t.h, "an unchanged step is little work for the host",
                  same.queued < REPLAY_US * slow,
                  "%.2f us where %.1f are allowed beside a bare launch of %.2f",
                  same.queued, REPLAY_US * slow, bare.queued);
    harness_check(&t.h, "so is one in which two requests grow",
                  grown.queued < REPLAY_US * slow,
                  "%.2f us where %.1f are allowed beside a bare launch of %.2f",
                  grown.queued, REPLAY_US * slow, bare.queued);
    printf(
        "  step_update, one of %d: %.2f us; with records %.2f us, with a record of its "
        "turn %.2f us\n",
        UPDATES, plain_us, update[0], update[1]);
    harness_check(&t.h, "the device finds a change in time", update[1] < UPDATE_US,
                  "%.2f us where %d are allowed", update[1], UPDATE_US);
    harness_check(&t.h, "the first replay pays nothing",
                  same.first < changed.waited + FIRST_US * slow,
                  "%.1f us, later ones %.1f us", same.first, changed.waited);
    harness_check(&t.h, "memory is counted within a quarter",
                  estimate > 0.75 * taken && estimate < 1.25 * taken,
                  "%.0f KiB, the driver took %.0f KiB", estimate, taken);
    if (argc > 1)
    {
        FILE *json = fopen(argv[1], "w");
        if (!HOLDS(&t, json != NULL))
            return 1;
        fprintf(json,
                "{\n \"device\": \"%s\",\n \"seed\": %llu,\n \"buckets\": %d,\n"
                " \"layers\": %d,\n \"nodes\": %lld,\n \"nodes_a_layer\": %.2f,\n"
                " \"ladder_ms\": %.1f,\n \"capture_ms\": %.1f,\n"
                " \"instantiate_ms\": %.1f,\n \"upload_ms\": %.1f,\n"
                " \"graph_kib\": %.0f,\n \"graph_kib_by_nodes\": %.0f,\n"
                " \"launch_us\": %.2f,\n \"launch_waited_us\": %.2f,\n"
                " \"replay_unchanged_us\": %.2f,\n"
                " \"replay_unchanged_waited_us\": %.2f,\n"
                " \"replay_grown_us\": %.2f,\n \"replay_grown_waited_us\": %.2f,\n"
                " \"replay_whole_waited_us\": %.2f,\n"
                " \"update_us\": %.2f,\n \"update_record_us\": %.2f,\n"
                " \"requests\": %d,\n \"context\": %d\n}\n",
                device.name, (unsigned long long)t.h.seed, BUCKETS, r.g->layers,
                (long long)cost.nodes, layer_nodes, ladder_ms, cost.capture_us * 1e-3,
                cost.instantiate_us * 1e-3, cost.upload_us * 1e-3, taken, estimate,
                bare.queued, bare.waited, same.queued, same.waited, grown.queued,
                grown.waited, changed.waited, plain_us, update[1], LIVE, CONTEXT);
        fclose(json);
    }
    OK(&t, rfn_device_close(&t.dev));
    return harness_end(&t.h);
}
