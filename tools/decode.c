/* refrain decode: a decode workload, planned, captured, checked, replayed and verified. */
#include "tools/cli.h"
#include "tools/run.h"
#include "tools/tool.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define POOL_BYTES_MAX ((int64_t)2 << 30)
#define DEFAULT_REQUESTS 16 /* of a trace file */
#define DEFAULT_STEPS 64
#define DEFAULT_BATCH 16
#define BATCH_MAX 256

#define OPTION(name_, value_, kind_, field, min_, max_, help_)                           \
    {                                                                                    \
        .name = name_, .value = value_, .kind = kind_,                                   \
        .offset = offsetof(struct options, field), .min = min_, .max = max_,             \
        .help = help_                                                                    \
    }

static const struct cli_option table[] = {
    OPTION("--geometry", "NAME", CLI_TEXT, geometry, 0, 0, "model shape (tiny)"),
    OPTION("--device", "auto|host|cuda", CLI_TEXT, device, 0, 0, "where to run (auto)"),
    OPTION("--trace", "FILE", CLI_TEXT, trace, 0, 0,
           "requests as JSON lines; without it a short built-in list"),
    OPTION("--requests", "N", CLI_INT, requests, 1, 1000000,
           "read the first N requests (16; the whole built-in list)"),
    OPTION("--steps", "N", CLI_INT, steps, 0, 1000000000,
           "at most N decode steps, 0: until all are done (64)"),
    OPTION("--batch", "N", CLI_INT, batch, 1, BATCH_MAX, "requests at once (16)"),
    OPTION("--verify", "N", CLI_INT, verify, 0, 1000000000,
           "verify N steps, spread evenly over the run (0)"),
    OPTION("--seed", "N", CLI_U64, seed, 0, 0, "of the synthetic content (1)"),
    OPTION("--json", "FILE", CLI_TEXT, json, 0, 0, "write the totals as JSON"),
    OPTION("--inject", "NAME|list", CLI_TEXT, inject, 0, 0, "plant a mistake"),
};
#define OPTIONS (sizeof(table) / sizeof(table[0]))

static int read_options(struct run *run)
{
    const struct options *options = &run->options;
    run->geometry = geometry_find(options->geometry);
    if (run->geometry == NULL)
    {
        return TOOL_ARGUMENTS;
    }
    if (run->geometry->refused != NULL)
    {
        tool_error("--geometry %s cannot run: %s", run->geometry->name,
                   run->geometry->refused);
        return TOOL_ARGUMENTS;
    }
    if (options->inject != NULL)
    {
        run->inject = inject_find(options->inject);
        if (run->inject == NULL)
        {
            return TOOL_ARGUMENTS;
        }
    }
    return TOOL_OK;
}

static int read_trace(struct run *run)
{
    static const int status_of[] = {
        [TRACE_OK] = TOOL_OK,
        [TRACE_IO] = TOOL_ENVIRONMENT,
        [TRACE_MALFORMED] = TOOL_ARGUMENTS,
        [TRACE_NOMEM] = TOOL_ENVIRONMENT,
    };
    char error[TRACE_ERROR_BYTES];
    const struct options *options = &run->options;
    int64_t max = options->requests;
    enum trace_status status;
    if (options->trace != NULL)
    {
        max = max > 0 ? max : DEFAULT_REQUESTS;
        status = trace_read_file(options->trace, max, &run->trace, error);
    }
    else
    {
        max = max > 0 ? max : INT64_MAX;
        status = trace_read_builtin(max, &run->trace, error);
    }
    if (status != TRACE_OK)
    {
        tool_error("%s", error);
        return status_of[status];
    }
    if (run->trace.requests == 0)
    {
        tool_error("%s: expected at least one request, found none", options->trace);
        return TOOL_ARGUMENTS;
    }
    trace_clip(&run->trace, run->geometry->context_tokens);
    return TOOL_OK;
}

static int plan(struct run *run)
{
    const struct geometry *geometry = run->geometry;
    int64_t seats = run->options.batch;
    seats = seats < run->trace.requests ? seats : run->trace.requests;
    int64_t pages = batch_pool_pages(&run->trace, (int32_t)seats, geometry->page_tokens);
    int64_t most = POOL_BYTES_MAX / engine_page_bytes(geometry);
    int64_t largest = batch_largest_pages(&run->trace, geometry->page_tokens);
    if (pages < 0 || largest < 0)
    {
        tool_error("no memory to plan %" PRId64 " requests", run->trace.requests);
        return TOOL_ENVIRONMENT;
    }
    if (largest > most)
    {
        tool_error("one request needs %" PRId64 " pages, the pool holds %" PRId64,
                   largest, most);
        return TOOL_ARGUMENTS;
    }
    run->batch_desc = (struct batch_desc) {
        .trace = &run->trace,
        .seats = (int32_t)seats,
        .page_tokens = geometry->page_tokens,
        .table_pages = geometry_table_pages(geometry),
        .pages = pages < most ? pages : most,
        .seed = run->options.seed,
    };
    run->planned_steps = batch_simulate(&run->batch_desc, run->options.steps);
    if (run->planned_steps < 0)
    {
        tool_error("no memory for %" PRId64 " pages", run->batch_desc.pages);
        return TOOL_ENVIRONMENT;
    }
    int64_t verify = run->options.verify;
    if (run->inject != NULL && run->inject->replayed != NULL && verify == 0)
    {
        verify = 1; /* only a verification can find it */
    }
    run->verify_steps = verify < run->planned_steps ? verify : run->planned_steps;
    return TOOL_OK;
}

int decode_main(int argc, char **argv)
{
    struct run run = { .options = { .geometry = "tiny",
                                    .device = "auto",
                                    .steps = DEFAULT_STEPS,
                                    .batch = DEFAULT_BATCH,
                                    .seed = 1 } };
    int status = cli_parse(table, OPTIONS, argc, argv, &run.options);
    if (status == CLI_HELP)
    {
        printf("usage: refrain decode [options]\n\n");
        cli_usage(table, OPTIONS);
        return TOOL_OK;
    }
    if (status == TOOL_OK && run.options.inject != NULL &&
        strcmp(run.options.inject, "list") == 0)
    {
        inject_list();
        return TOOL_OK;
    }
    int (*const before[])(struct run *) = { read_options, read_trace, plan };
    int (*const stage[])(struct run *) = { run_open, run_prepare, run_steps, run_finish };
    for (size_t i = 0; status == TOOL_OK && i < sizeof(before) / sizeof(before[0]); i++)
    {
        status = before[i](&run);
    }
    if (status == TOOL_OK && run.options.json != NULL)
    {
        status = report_file_open(run.options.json, &run.file);
    }
    for (size_t i = 0; status == TOOL_OK && i < sizeof(stage) / sizeof(stage[0]); i++)
    {
        status = stage[i](&run);
    }
    int closed = run_close(&run);
    return status != TOOL_OK ? status : closed;
}
