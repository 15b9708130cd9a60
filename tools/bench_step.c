/* What a step has beside its layers: update, capture, instantiation, upload, launch, replay,
 * memory. */
#include "tools/bench_chain.h"
#include "tools/tool.h"
#include <refrain/refrain.h>
#include <stdio.h>

#define CONTEXT 4096
#define GROWTH 4096 /* tokens that replayed steps may add */
#define UPDATES 32  /* in a graph, so that a launch is spread */
#define HOST_LAYERS 2
#define REPLAY_REQUESTS 128
#define LADDER_REQUESTS 256
#define REPLAYS_MAX 50
#define AHEAD 4 /* launches in a row before the stream is waited for */

struct step
{
    struct bench_results *results;
    const struct bench_pass *pass;
    struct bench_chain chain;
};

static double seconds_since(int64_t start_ns)
{
    return (double)(tool_now_ns() - start_ns) * 1e-9;
}

static void note(struct step *step, const char *what, const char *unit, double scale,
                 struct bench_samples *samples, const char *of)
{
    struct bench_results *results = step->results;
    struct bench_time time = bench_samples_end(samples);
    struct bench_value value = {
        results->passes - 1, what,         unit, time.median * scale,
        time.best * scale,   time.repeats, ""
    };
    snprintf(value.of, sizeof(value.of), "%s", of);
    bench_print_value(&value);
    if (results->values < BENCH_VALUES_MAX)
    {
        results->value[results->values++] = value;
    }
}

static void note_one(struct step *step, const char *what, const char *unit, double number,
                     const char *of)
{
    struct bench_samples samples = { 0 };
    bench_samples_add(&samples, number);
    note(step, what, unit, 1, &samples, of);
}

/* ---- graphs made by hand -------------------------------------------------------------------- */

static enum rfn_status time_update(struct step *step)
{
    struct bench_chain *chain = &step->chain;
    struct bench_samples samples = { 0 };
    struct rfn_graph *graph = NULL;
    struct rfn_exec *exec = NULL;
    char of[64];
    float ms = 0;
    BENCH_TRY(bench_chain_capture(chain, UPDATES, 0, &graph));
    enum rfn_status status = rfn_graph_instantiate(graph, &exec);
    for (int warm = 0; status == RFN_OK && warm < 3; warm++)
    {
        status = bench_time_launch(step->pass, exec, &ms);
    }
    while (status == RFN_OK &&
           bench_samples_more(&samples, step->results->seconds / UPDATES))
    {
        status = bench_time_launch(step->pass, exec, &ms);
        bench_samples_add(&samples, (double)ms * 1e-3 / UPDATES);
    }
    if (status == RFN_OK)
    {
        snprintf(of, sizeof(of), "%d requests, %d in a graph", chain->desc.requests,
                 UPDATES);
        note(step, "update", "us", 1e6, &samples, of);
        status = rfn_exec_destroy(&exec);
    }
    enum rfn_status destroyed = rfn_graph_destroy(&graph);
    return status != RFN_OK ? status : destroyed;
}

/* A call behind others costs the host less than one right after a wait: that one finds the
 * processor's caches cold. The two are told apart. */
static int waits(int i)
{
    return (i + 1) % AHEAD == 0;
}

struct graph_times
{
    struct bench_samples capture, instantiate, upload, launch, waited, destroy;
    int32_t nodes;
};

/* One round: a step is captured, made executable, launched and thrown away. */
static enum rfn_status time_graph(struct step *step, struct graph_times *times)
{
    struct bench_chain *chain = &step->chain;
    struct rfn_graph *graph = NULL;
    struct rfn_exec *exec = NULL;
    struct rfn_graph_info info;
    int64_t start = tool_now_ns();
    BENCH_TRY(bench_chain_capture(chain, 1, chain->desc.layers, &graph));
    bench_samples_add(&times->capture, seconds_since(start));
    BENCH_TRY(rfn_graph_query(graph, &info));
    times->nodes = info.nodes;
    start = tool_now_ns();
    BENCH_TRY(rfn_graph_instantiate(graph, &exec));
    bench_samples_add(&times->instantiate, seconds_since(start));
    start = tool_now_ns();
    BENCH_TRY(rfn_exec_upload(exec, step->pass->stream));
    BENCH_TRY(rfn_stream_sync(step->pass->stream));
    bench_samples_add(&times->upload, seconds_since(start));
    for (int i = 0; i < 2 * AHEAD; i++)
    {
        start = tool_now_ns();
        BENCH_TRY(rfn_exec_launch(exec, step->pass->stream));
        double launch_s = seconds_since(start);
        BENCH_TRY(waits(i) ? rfn_stream_sync(step->pass->stream) : RFN_OK);
        if (i >= AHEAD) /* the first ones are slower still */
        {
            bench_samples_add(i == AHEAD ? &times->waited : &times->launch, launch_s);
        }
    }
    start = tool_now_ns();
    BENCH_TRY(rfn_exec_destroy(&exec));
    BENCH_TRY(rfn_graph_destroy(&graph));
    bench_samples_add(&times->destroy, seconds_since(start));
    return RFN_OK;
}

static enum rfn_status time_graphs(struct step *step)
{
    const struct bench_chain_desc *desc = &step->chain.desc;
    static struct graph_times times; /* too large for a stack */
    struct graph_times warm;
    char of[64];
    times = warm = (struct graph_times) { 0 };
    BENCH_TRY(time_graph(step, &warm));
    do
    {
        BENCH_TRY(time_graph(step, &times));
    } while (bench_samples_more(&times.capture, step->results->seconds) &&
             times.waited.count < REPLAYS_MAX);
    snprintf(of, sizeof(of), "%d layers, %d requests", desc->layers, desc->requests);
    note(step, "capture", "ms", 1e3, &times.capture, of);
    note(step, "instantiate", "ms", 1e3, &times.instantiate, of);
    note(step, "upload", "ms", 1e3, &times.upload, of);
    note(step, "launch, host time", "us", 1e6, &times.launch, of);
    note(step, "launch, after a wait", "us", 1e6, &times.waited, of);
    note(step, "destroy", "ms", 1e3, &times.destroy, of);
    note_one(step, "nodes", "nodes", times.nodes, of);
    return RFN_OK;
}

/* ---- the ladder ------------------------------------------------------------------------------ */

enum handed
{
    UNCHANGED, /* the device has advanced by itself */
    GROWN,     /* two requests enter a page: what most steps of 128 requests are */
    WHOLE,
};

/* Host time of rfn_ladder_replay, the first ones apart. Whole tables wait for copies. */
static enum rfn_status time_replay(struct step *step, struct rfn_ladder *ladder,
                                   enum handed handed)
{
    static const char *const what[][2] = {
        { "replay, host time, unchanged", "replay, after a wait, unchanged" },
        { "replay, host time, grown", "replay, after a wait, grown" },
        { "", "replay, after a wait, whole" },
    };
    struct bench_chain *chain = &step->chain;
    struct bench_samples queued = { 0 }, waited = { 0 };
    struct rfn_step args = chain->step;
    int32_t from[REPLAY_REQUESTS], to[REPLAY_REQUESTS], lens[REPLAY_REQUESTS];
    char of[64];
    args.requests = args.requests < REPLAY_REQUESTS ? args.requests : REPLAY_REQUESTS;
    args.advance = handed != WHOLE;
    args.lens = lens;
    for (int32_t i = 0;
         i < 2 * AHEAD || i % AHEAD ||
         (i < REPLAYS_MAX * AHEAD && bench_samples_more(&waited, step->results->seconds));
         i++)
    {
        for (int32_t b = 0; b < args.requests; b++)
        {
            lens[b] = chain->lens[b] + (args.advance ? i : 0);
            to[b] = (int32_t)chain->table_pages;
            from[b] = to[b] - (b == i % args.requests ||
                               b == (i + args.requests / 2) % args.requests);
        }
        args.unchanged = handed == UNCHANGED && i > 0;
        args.new_from = handed == GROWN && i > 0 ? from : NULL;
        args.new_to = args.new_from ? to : NULL;
        int64_t start = tool_now_ns();
        BENCH_TRY(rfn_ladder_replay(ladder, step->pass->stream, &args, NULL));
        double host_s = seconds_since(start);
        BENCH_TRY(handed == WHOLE || waits(i) ? rfn_stream_sync(step->pass->stream)
                                              : RFN_OK);
        if (i >= AHEAD)
        {
            bench_samples_add(handed == WHOLE || i % AHEAD == 0 ? &waited : &queued,
                              host_s);
        }
    }
    snprintf(of, sizeof(of), "%d layers, %d requests", chain->desc.layers, args.requests);
    if (handed != WHOLE)
    {
        note(step, what[handed][0], "us", 1e6, &queued, of);
    }
    note(step, what[handed][1], "us", 1e6, &waited, of);
    return RFN_OK;
}

/* Every bucket of the default list, then steps of all requests. */
static enum rfn_status climb(struct step *step, struct rfn_ladder *ladder)
{
    static const int32_t bucket[] = { 1,   2,   4,   8,   16,  24,  32,  40,  48,
                                      56,  64,  72,  80,  88,  96,  104, 112, 120,
                                      128, 144, 160, 176, 192, 208, 224, 240, 256 };
    struct rfn_ladder_info info;
    char of[64];
    int64_t start = tool_now_ns();
    for (size_t i = 0; i < sizeof(bucket) / sizeof(bucket[0]); i++)
    {
        if (bucket[i] <= step->chain.desc.requests)
        {
            BENCH_TRY(rfn_ladder_prepare(ladder, bucket[i], 0));
        }
    }
    double ladder_s = seconds_since(start);
    BENCH_TRY(rfn_ladder_query(ladder, &info));
    snprintf(of, sizeof(of), "%d graphs, %d layers", info.graphs,
             step->chain.desc.layers);
    note_one(step, "ladder", "ms", ladder_s * 1e3, of);
    note_one(step, "memory of a graph", "MiB",
             (double)info.memory_bytes * 0x1p-20 / info.graphs, of);
    BENCH_TRY(time_replay(step, ladder, UNCHANGED));
    BENCH_TRY(time_replay(step, ladder, GROWN));
    return time_replay(step, ladder, WHOLE);
}

static enum rfn_status run(struct step *step)
{
    struct rfn_ladder *ladder = NULL;
    struct rfn_ladder_desc desc = { .next_n = 1 };
    BENCH_TRY(time_update(step));
    BENCH_TRY(time_graphs(step));
    BENCH_TRY(rfn_ladder_create(step->chain.attention, &desc, &ladder));
    enum rfn_status status = climb(step, ladder);
    enum rfn_status destroyed = rfn_ladder_destroy(&ladder);
    return status != RFN_OK ? status : destroyed;
}

int bench_step(struct bench_results *results)
{
    static struct step step; /* too large for a stack */
    const struct rfn_geometry *g = results->size.geometry;
    const struct bench_pass *pass = &results->pass[results->passes - 1];
    int host = pass->info.kind == RFN_DEVICE_HOST;
    int32_t context = results->size.context < CONTEXT ? results->size.context : CONTEXT;
    int32_t capacity = g->context < context + GROWTH ? g->context : context + GROWTH;
    struct bench_chain_desc desc = {
        .pass = pass,
        .geometry = g,
        .layers = host && g->layers > HOST_LAYERS ? HOST_LAYERS : g->layers,
        .sets = 1,
        .requests = host ? results->size.rows : LADDER_REQUESTS,
        .next_n = 1,
        .context = context,
        .capacity = capacity,
    };
    step = (struct step) { .results = results, .pass = pass };
    printf("\n  %-32s  %10s  %10s  %-5s  %s\n", "a step beside its layers", "median",
           "best", "unit", "of");
    enum rfn_status status = bench_chain_open(&desc, &step.chain);
    if (status == RFN_OK)
    {
        status = run(&step);
    }
    int result = status == RFN_OK ? TOOL_OK : bench_failed();
    if (bench_chain_close(&step.chain) != RFN_OK && result == TOOL_OK)
    {
        result = bench_failed();
    }
    return result;
}
