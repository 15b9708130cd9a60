/* refrain bench: the time of every op, layer and step beside what the machine can do. */
#include "tools/bench.h"
#include "tools/cli.h"
#include "tools/output.h"
#include "tools/tool.h"
#include <inttypes.h>
#include <refrain/refrain.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DEFAULT_ROWS 4
#define DEFAULT_CONTEXT 131072
#define DEFAULT_SECONDS 0.5
#define SECONDS_MIN 0.001
#define SECONDS_MAX 60
#define LOAD_QUIET 0.5
#define LAUNCHES_MAX 64   /* between two events */
#define LAUNCHES_S 100e-6 /* short ops are launched until this is full */

struct options
{
    const char *device;
    const char *geometry;
    const char *op;
    const char *part;
    int64_t rows;
    int64_t context;
    int64_t threads;
    const char *seconds;
    const char *commit;
    const char *json;
};

#define OPTION(name_, value_, kind_, field, min_, max_, help_)                           \
    {                                                                                    \
        .name = name_, .value = value_, .kind = kind_,                                   \
        .offset = offsetof(struct options, field), .min = min_, .max = max_,             \
        .help = help_                                                                    \
    }

static const struct cli_option table[] = {
    OPTION("--device", "host|cuda", CLI_TEXT, device, 0, 0, "what to measure (host)"),
    OPTION("--geometry", "NAME", CLI_TEXT, geometry, 0, 0, "model shape (deepseek-v3.2)"),
    OPTION("--op", "NAME", CLI_TEXT, op, 0, 0, "this op only"),
    OPTION("--part", "ops|layer|step", CLI_TEXT, part, 0, 0, "this part only (all)"),
    OPTION("--rows", "N", CLI_INT, rows, 1, 256, "requests of a decode step (4)"),
    OPTION("--context", "N", CLI_INT, context, 1, 1048576,
           "tokens of each (131072, or what the geometry has)"),
    OPTION("--threads", "N", CLI_INT, threads, 1, 256,
           "that many only (one, then two; host device)"),
    OPTION("--seconds", "S", CLI_TEXT, seconds, 0, 0, "to spend on each number (0.5)"),
    OPTION("--commit", "ID", CLI_TEXT, commit, 0, 0, "noted in the JSON"),
    OPTION("--json", "FILE", CLI_TEXT, json, 0, 0, "write every number as JSON"),
};
#define OPTIONS (sizeof(table) / sizeof(table[0]))

static const char more_help[] =
    "\nTimes are medians. Bytes and flops are each op's own cost; shares are of the "
    "larger\n"
    "of read and copy, of multiply-adds with the device's instruction set, and of a "
    "matrix\n"
    "product: OpenBLAS sgemm where libopenblas.so.0 is, on a GPU cuBLAS bf16 where\n"
    "libcublas is. A short op's time has its launch in it.\n"
    "\nlayer: all ops of a layer, in a graph of many layers that take turns with "
    "caches,\n"
    "inputs and outputs, so that nothing is still in the GPU's cache; at the sizes that\n"
    "others were measured at, with their times, on the host at --rows and --context.\n"
    "\nstep: update, capture, instantiation, launch, replay, memory of graphs. The host\n"
    "device runs a step while it is launched.\n";

struct bench
{
    struct options options;
    enum rfn_device_kind kind;
    struct output output;
    struct bench_results results;
};

int bench_failed(void)
{
    tool_error("%s", rfn_last_error());
    return TOOL_ENVIRONMENT;
}

/* ---- the command line ------------------------------------------------------------------ */

static int read_device(struct bench *bench)
{
    static const char *const names[] = { "host", "cuda" };
    static const enum rfn_device_kind kinds[] = { RFN_DEVICE_HOST, RFN_DEVICE_CUDA };
    struct cli_nearest nearest;
    cli_nearest_init(&nearest, bench->options.device);
    for (int i = 0; i < 2; i++)
    {
        cli_nearest_try(&nearest, names[i]);
        if (strcmp(names[i], bench->options.device) == 0)
        {
            bench->kind = kinds[i];
            return TOOL_OK;
        }
    }
    tool_error("no device '%s'; the nearest is '%s'", nearest.word, nearest.best);
    return TOOL_ARGUMENTS;
}

static int read_part(struct bench *bench)
{
    static const char *const names[] = { "ops", "layer", "step" };
    struct cli_nearest nearest;
    if (bench->options.part == NULL)
    {
        return TOOL_OK;
    }
    cli_nearest_init(&nearest, bench->options.part);
    for (int i = 0; i < 3; i++)
    {
        cli_nearest_try(&nearest, names[i]);
    }
    if (nearest.distance == 0)
    {
        return TOOL_OK;
    }
    tool_error("no part '%s'; the nearest is '%s'", nearest.word, nearest.best);
    return TOOL_ARGUMENTS;
}

/* A part that is not asked for is left alone; an op is asked for by name. */
static int wants(const struct bench *bench, const char *part)
{
    const char *asked = bench->options.op != NULL ? "ops" : bench->options.part;
    return asked == NULL || strcmp(asked, part) == 0;
}

static int read_op(struct bench *bench)
{
    struct cli_nearest nearest;
    if (bench->options.op == NULL)
    {
        return TOOL_OK;
    }
    cli_nearest_init(&nearest, bench->options.op);
    for (size_t i = 0; bench_case_at(i) != NULL; i++)
    {
        cli_nearest_try(&nearest, bench_case_at(i)->op->name);
    }
    if (nearest.distance == 0)
    {
        return TOOL_OK;
    }
    tool_error("no op '%s'; the nearest is '%s'", nearest.word, nearest.best);
    return TOOL_ARGUMENTS;
}

static const struct rfn_geometry *find_geometry(const char *name)
{
    struct cli_nearest nearest;
    cli_nearest_init(&nearest, name);
    for (int32_t i = 0; rfn_geometry_at(i) != NULL; i++)
    {
        if (strcmp(rfn_geometry_at(i)->name, name) == 0)
        {
            return rfn_geometry_at(i);
        }
        cli_nearest_try(&nearest, rfn_geometry_at(i)->name);
    }
    tool_error("no geometry '%s'; the nearest is '%s'", name, nearest.best);
    return NULL;
}

static int read_size(struct bench *bench)
{
    const struct rfn_geometry *geometry = find_geometry(bench->options.geometry);
    if (geometry == NULL)
    {
        return TOOL_ARGUMENTS;
    }
    int64_t context = bench->options.context;
    if (context > geometry->context)
    {
        tool_error("--context %" PRId64 " is above the %d of %s", context,
                   geometry->context, geometry->name);
        return TOOL_ARGUMENTS;
    }
    if (context == 0)
    {
        context =
            DEFAULT_CONTEXT < geometry->context ? DEFAULT_CONTEXT : geometry->context;
    }
    bench->results.size =
        (struct bench_size) { geometry, (int32_t)bench->options.rows, (int32_t)context };
    return TOOL_OK;
}

static int read_seconds(struct bench *bench)
{
    const char *text = bench->options.seconds;
    char *end = NULL;
    bench->results.seconds = DEFAULT_SECONDS;
    if (text == NULL)
    {
        return TOOL_OK;
    }
    bench->results.seconds = strtod(text, &end);
    if (end == text || *end != '\0')
    {
        tool_error("--seconds wants a number, not '%s'", text);
        return TOOL_ARGUMENTS;
    }
    if (!(bench->results.seconds >= SECONDS_MIN && bench->results.seconds <= SECONDS_MAX))
    {
        tool_error("--seconds %s is outside %g .. %d", text, SECONDS_MIN, SECONDS_MAX);
        return TOOL_ARGUMENTS;
    }
    return TOOL_OK;
}

static void read_cpu(struct bench *bench)
{
    char line[256];
    FILE *file = fopen("/proc/cpuinfo", "r");
    snprintf(bench->results.cpu, sizeof(bench->results.cpu), "unknown");
    while (file != NULL && fgets(line, sizeof(line), file) != NULL)
    {
        char *value = strchr(line, ':');
        if (strncmp(line, "model name", 10) == 0 && value != NULL)
        {
            value += strspn(value, ": \t");
            value[strcspn(value, "\n")] = '\0';
            snprintf(bench->results.cpu, sizeof(bench->results.cpu), "%.*s",
                     (int)sizeof(bench->results.cpu) - 1, value);
            break;
        }
    }
    if (file != NULL)
    {
        fclose(file);
    }
}

/* ---- one case ------------------------------------------------------------------------------ */

/* Milliseconds from event to event, for `launches` launches. */
static int launch(struct bench_pass *pass, const struct rfn_op *op, const void *args,
                  int launches, float *ret_ms)
{
    enum rfn_status status = rfn_event_record(pass->start, pass->stream, 0);
    for (int i = 0; status == RFN_OK && i < launches; i++)
    {
        status = rfn_op_launch(pass->stream, op, args);
    }
    if (status == RFN_OK)
    {
        status = rfn_event_record(pass->end, pass->stream, 0);
    }
    if (status == RFN_OK)
    {
        status = rfn_event_sync(pass->end);
    }
    if (status == RFN_OK)
    {
        status = rfn_event_elapsed(pass->start, pass->end, ret_ms);
    }
    return status == RFN_OK ? TOOL_OK : bench_failed();
}

static int measure(struct bench_pass *pass, const struct bench_case *row,
                   const struct bench_work *work, double seconds,
                   struct bench_result *ret)
{
    struct bench_samples samples = { 0 };
    int launches = 1;
    float ms = 0;
    for (int warm = 0; warm < 3; warm++)
    {
        int status = launch(pass, row->op, &work->args, 1, &ms);
        if (status != TOOL_OK)
        {
            return status;
        }
    }
    while (launches < LAUNCHES_MAX && launches * (double)ms * 1e-3 < LAUNCHES_S)
    {
        launches *= 2;
    }
    while (bench_samples_more(&samples, seconds / launches))
    {
        int status = launch(pass, row->op, &work->args, launches, &ms);
        if (status != TOOL_OK)
        {
            return status;
        }
        bench_samples_add(&samples, (double)ms * 1e-3 / launches);
    }
    struct bench_time time = bench_samples_end(&samples);
    struct rfn_cost cost = row->op->cost(&work->args);
    *ret = (struct bench_result) {
        .time = time,
        .cost = cost,
        .bytes_s = (double)(cost.bytes_read + cost.bytes_written) / time.median,
        .flop_s = (double)cost.flops / time.median,
        .scores_s = (double)work->scores / time.median,
    };
    return TOOL_OK;
}

/* ---- a pass --------------------------------------------------------------------------------- */

static int run_case(struct bench *bench, struct bench_pass *pass,
                    const struct bench_case *of)
{
    struct bench_results *results = &bench->results;
    struct bench_work work = { .device = pass->device, .size = &results->size };
    struct bench_row row = { .pass = results->passes - 1, .of = of };
    int own = of->vectors || bench->kind != RFN_DEVICE_HOST;
    int status = bench_work_open(of, &work);
    if (status == TOOL_OK)
    {
        status = measure(pass, of, &work, results->seconds, &row.result);
    }
    if (status == TOOL_OK)
    {
        memcpy(row.shape, work.shape, sizeof(row.shape));
        snprintf(row.isa, sizeof(row.isa), "%s", own ? pass->isa : "base");
        bench_print_row(pass, &row);
        if (results->rows < BENCH_ROWS_MAX)
        {
            results->row[results->rows++] = row;
        }
    }
    int closed = bench_work_close(&work);
    return status != TOOL_OK ? status : closed;
}

static int run_cases(struct bench *bench, struct bench_pass *pass)
{
    int host = bench->kind == RFN_DEVICE_HOST;
    int status = TOOL_OK;
    for (size_t i = 0; status == TOOL_OK && bench_case_at(i) != NULL; i++)
    {
        const struct bench_case *row = bench_case_at(i);
        if ((bench->options.op != NULL &&
             strcmp(bench->options.op, row->op->name) != 0) ||
            !bench_case_applies(row, &bench->results.size))
        {
            continue;
        }
        if (host ? row->op->host != NULL : row->op->cuda != NULL)
        {
            status = run_case(bench, pass, row);
            continue;
        }
        bench_leave_out(&bench->results, row->op->name, "no twin for this device");
    }
    return status;
}

/* The host device's name ends with its instruction set: "host, 2 threads, avx2". */
static void read_isa(struct bench_pass *pass)
{
    const char *comma = strrchr(pass->info.name, ',');
    size_t bytes = sizeof(pass->isa);
    if (pass->info.kind != RFN_DEVICE_HOST)
    {
        snprintf(pass->isa, bytes, "sm_%d", pass->info.sm_arch);
        return;
    }
    const char *word = comma != NULL ? comma + strspn(comma, ", ") : "base";
    snprintf(pass->isa, bytes, "%.*s", (int)bytes - 1, word);
}

static int open_pass(const struct bench *bench, struct bench_pass *pass)
{
    struct rfn_device_desc desc = { .kind = bench->kind, .threads = pass->threads };
    if (rfn_device_open(&desc, &pass->device) != RFN_OK ||
        rfn_device_query(pass->device, &pass->info) != RFN_OK ||
        rfn_stream_create(pass->device, RFN_STREAM_NONBLOCKING, &pass->stream) !=
            RFN_OK ||
        rfn_event_create(pass->device, &pass->start) != RFN_OK ||
        rfn_event_create(pass->device, &pass->end) != RFN_OK)
    {
        return bench_failed();
    }
    read_isa(pass);
    return TOOL_OK;
}

static int close_pass(struct bench_pass *pass)
{
    enum rfn_status status = RFN_OK;
    if (pass->end != NULL)
    {
        status = rfn_event_destroy(&pass->end);
    }
    if (status == RFN_OK && pass->start != NULL)
    {
        status = rfn_event_destroy(&pass->start);
    }
    if (status == RFN_OK && pass->stream != NULL)
    {
        status = rfn_stream_destroy(&pass->stream);
    }
    if (status == RFN_OK && pass->device != NULL)
    {
        status = rfn_device_close(&pass->device);
    }
    return status == RFN_OK ? TOOL_OK : bench_failed();
}

static int run_parts(struct bench *bench)
{
    struct bench_results *results = &bench->results;
    struct bench_pass *pass = &results->pass[results->passes - 1];
    int status = TOOL_OK;
    bench_print_head(results);
    if (wants(bench, "ops"))
    {
        bench_print_ops(pass);
        status = run_cases(bench, pass);
    }
    if (status == TOOL_OK && wants(bench, "layer"))
    {
        status = bench_layers(results);
    }
    if (status == TOOL_OK && wants(bench, "step"))
    {
        status = bench_step(results);
    }
    return status;
}

static int run_pass(struct bench *bench, int32_t threads)
{
    struct bench_results *results = &bench->results;
    struct bench_pass *pass = &results->pass[results->passes++];
    pass->threads = threads;
    int status = open_pass(bench, pass);
    if (status == TOOL_OK)
    {
        status = bench->kind == RFN_DEVICE_HOST
                     ? bench_rates_measure(threads, results->seconds, &pass->rates)
                     : bench_rates_device(pass, results->seconds, &pass->rates);
    }
    if (status == TOOL_OK)
    {
        status = run_parts(bench);
    }
    int closed = close_pass(pass);
    return status != TOOL_OK ? status : closed;
}

static int run_passes(struct bench *bench)
{
    int32_t threads = (int32_t)bench->options.threads;
    int32_t first = threads > 0 ? threads : 1, last = first;
    if (threads == 0 && bench->kind == RFN_DEVICE_HOST &&
        sysconf(_SC_NPROCESSORS_ONLN) > 1)
    {
        last = 2;
    }
    int status = TOOL_OK;
    for (int32_t n = first; status == TOOL_OK && n <= last; n++)
    {
        status = run_pass(bench, n);
    }
    return status;
}

static int run(struct bench *bench, int argc, char **argv)
{
    struct bench_results *results = &bench->results;
    int status = TOOL_OK;
    if (bench->options.json != NULL)
    {
        status = output_open(bench->options.json, 1, &bench->output);
    }
    results->argc = argc;
    results->argv = argv;
    results->commit = bench->options.commit;
    results->device = bench->options.device;
    read_cpu(bench);
    getloadavg(&results->load[0], 1);
    if (status == TOOL_OK)
    {
        status = run_passes(bench);
    }
    getloadavg(&results->load[1], 1);
    if (status == TOOL_OK)
    {
        printf("\nload %.2f at the start, %.2f at the end%s\n", results->load[0],
               results->load[1],
               results->load[0] > LOAD_QUIET
                   ? ": others may have run beside, shares are rough"
                   : "");
    }
    if (status == TOOL_OK && bench->options.json != NULL)
    {
        status = output_json(&bench->output, bench_json(results), NULL);
    }
    output_drop(&bench->output);
    return status;
}

int bench_main(int argc, char **argv)
{
    static struct bench bench; /* too large for a stack */
    bench.options = (struct options) { .device = "host",
                                       .geometry = "deepseek-v3.2",
                                       .rows = DEFAULT_ROWS };
    int (*const before[])(struct bench *) = { read_device, read_size, read_seconds,
                                              read_part, read_op };
    int status = cli_parse(table, OPTIONS, argc, argv, &bench.options);
    if (status == CLI_HELP)
    {
        printf("usage: refrain bench [options]\n\n");
        cli_usage(table, OPTIONS);
        printf("%s", more_help);
        return TOOL_OK;
    }
    for (size_t i = 0; status == TOOL_OK && i < sizeof(before) / sizeof(before[0]); i++)
    {
        status = before[i](&bench);
    }
    return status == TOOL_OK ? run(&bench, argc, argv) : status;
}
