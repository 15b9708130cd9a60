/* What a run is made of. Options and requests are read before a device is opened: nothing is
 * half-run for a bad name. Pages are planned behind that: free memory bounds them. */
#include "tools/cli.h"
#include "tools/run.h"
#include "tools/tool.h"
#include "tools/traffic.h"
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HOST_POOL_BYTES_MAX (((int64_t)2 << 30) - 1)
#define DEFAULT_LAYERS 2
#define DEFAULT_REQUESTS 16
#define MS_PER_STEP_MAX 1e9

/* ---- options --------------------------------------------------------------------- */

static int read_geometry(struct run *run)
{
    const struct options *options = &run->options;
    const struct rfn_geometry *geometry = NULL;
    if (rfn_geometry_find(options->geometry, &geometry) != RFN_OK)
    {
        tool_error("--geometry: %s", rfn_last_error());
        return TOOL_ARGUMENTS;
    }
    int64_t layers = options->layers;
    if (layers == 0)
    {
        layers = geometry->layers < DEFAULT_LAYERS ? geometry->layers : DEFAULT_LAYERS;
    }
    if (layers > geometry->layers)
    {
        tool_error("--layers %" PRId64 ": %s has %d", layers, geometry->name,
                   geometry->layers);
        return TOOL_ARGUMENTS;
    }
    if (options->context_limit > geometry->context)
    {
        tool_error("--context-limit %" PRId64 ": %s has %d tokens",
                   options->context_limit, geometry->name, geometry->context);
        return TOOL_ARGUMENTS;
    }
    run->geometry = *geometry;
    run->geometry.layers = (int32_t)layers;
    run->context_tokens =
        options->context_limit > 0 ? (int32_t)options->context_limit : geometry->context;
    return TOOL_OK;
}

static int read_device(struct run *run)
{
    static const char *const names[] = {
        [RFN_DEVICE_AUTO] = "auto", [RFN_DEVICE_HOST] = "host", [RFN_DEVICE_CUDA] = "cuda"
    };
    struct cli_nearest nearest;
    cli_nearest_init(&nearest, run->options.device);
    for (int kind = 0; kind < 3; kind++)
    {
        if (strcmp(run->options.device, names[kind]) == 0)
        {
            run->kind = (enum rfn_device_kind)kind;
            return TOOL_OK;
        }
        cli_nearest_try(&nearest, names[kind]);
    }
    tool_error("no device '%s'; the nearest is '%s'", run->options.device, nearest.best);
    return TOOL_ARGUMENTS;
}

static int read_arrivals(struct run *run)
{
    const char *text = run->options.arrivals;
    char *end = NULL;
    if (strcmp(text, "closed") == 0)
    {
        return TOOL_OK;
    }
    if (strncmp(text, "timed:", 6) != 0)
    {
        tool_error("no arrivals '%s'; known are 'closed' and 'timed:<ms per step>'",
                   text);
        return TOOL_ARGUMENTS;
    }
    double ms = strtod(text + 6, &end);
    if (end == text + 6 || *end != '\0' || !(ms >= 1e-3) || ms > MS_PER_STEP_MAX)
    {
        tool_error("--arrivals timed: wants milliseconds in 0.001 .. %.0f, not '%s'",
                   MS_PER_STEP_MAX, text + 6);
        return TOOL_ARGUMENTS;
    }
    run->batch_desc.us_per_step = llround(ms * 1000);
    return TOOL_OK;
}

static int read_buckets(struct run *run)
{
    const char *text = run->options.bucket_list;
    int64_t before = 0;
    while (text != NULL)
    {
        char *end = NULL;
        errno = 0;
        long long bucket = strtoll(text, &end, 10);
        if (end == text || (*end != ',' && *end != '\0') || errno != 0)
        {
            tool_error("--buckets wants whole numbers with commas, not '%s'",
                       run->options.bucket_list);
            return TOOL_ARGUMENTS;
        }
        if (bucket <= before || bucket > run->options.batch)
        {
            tool_error("--buckets: %lld after %" PRId64
                       ", but they rise, up to --batch %" PRId64,
                       bucket, before, run->options.batch);
            return TOOL_ARGUMENTS;
        }
        /* At most --batch of them, which is at most RUN_BUCKETS_MAX. */
        run->bucket[run->buckets++] = (int32_t)bucket;
        before = bucket;
        text = *end == ',' ? end + 1 : NULL;
    }
    if (run->buckets > 0 && before < run->options.batch)
    {
        tool_error("--buckets end at %" PRId64 ", but --batch is %" PRId64, before,
                   run->options.batch);
        return TOOL_ARGUMENTS;
    }
    return TOOL_OK;
}

/* Drafts are rows of a step and tokens of a context. */
static int read_speculative(struct run *run)
{
    struct speculative *speculative = &run->batch_desc.speculative;
    struct options *options = &run->options;
    if (options->speculative == NULL)
    {
        return TOOL_OK;
    }
    const char *want = speculative_read(options->speculative, speculative);
    if (want != NULL)
    {
        tool_error("--speculative '%s': %s", options->speculative, want);
        return TOOL_ARGUMENTS;
    }
    if (options->next_n != 1 && options->next_n != speculative->drafts + 1)
    {
        tool_error("--speculative %d has %d rows a request, --next-n says %" PRId64,
                   speculative->drafts, speculative->drafts + 1, options->next_n);
        return TOOL_ARGUMENTS;
    }
    if (run->context_tokens < speculative->drafts + 2)
    {
        tool_error("--speculative %d needs contexts of %d tokens, --context-limit is %d",
                   speculative->drafts, speculative->drafts + 2, run->context_tokens);
        return TOOL_ARGUMENTS;
    }
    options->next_n = speculative->drafts + 1;
    return TOOL_OK;
}

int run_read_options(struct run *run)
{
    int (*const part[])(struct run *) = { read_geometry, read_device, read_arrivals,
                                          read_buckets, read_speculative };
    int status = TOOL_OK;
    for (size_t i = 0; status == TOOL_OK && i < sizeof(part) / sizeof(part[0]); i++)
    {
        status = part[i](run);
    }
    if (status == TOOL_OK && run->options.inject != NULL)
    {
        run->inject = inject_find(run->options.inject);
        status = run->inject != NULL ? TOOL_OK : TOOL_ARGUMENTS;
    }
    return status;
}

/* ---- requests and pages ------------------------------------------------------------ */

int run_read_trace(struct run *run)
{
    static const int status_of[] = {
        [TRACE_OK] = TOOL_OK,
        [TRACE_IO] = TOOL_ENVIRONMENT,
        [TRACE_MALFORMED] = TOOL_ARGUMENTS,
        [TRACE_NOMEM] = TOOL_ENVIRONMENT,
    };
    char error[TRACE_ERROR_BYTES];
    const struct options *options = &run->options;
    int64_t max = options->requests > 0 ? options->requests : DEFAULT_REQUESTS;
    enum trace_status status =
        options->trace != NULL ? trace_read_file(options->trace, max, &run->trace, error)
                               : traffic_make(options->seed, max, &run->trace, error);
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
    trace_clip(&run->trace, run->context_tokens - run->batch_desc.speculative.drafts);
    return TOOL_OK;
}

/* Bytes of a default pool, all layers: beside it lie the rows' inputs and outputs, the
 * workspace and the graphs. A host is somebody's, so that more than a little is asked for. */
static int default_pool_bytes(struct run *run, int64_t *ret_bytes)
{
    struct rfn_device_info info;
    if (rfn_device_query(run->device, &info) != RFN_OK)
    {
        return run_failed("cannot query the device");
    }
    int64_t host = info.memory_free_bytes / 2;
    host = host < HOST_POOL_BYTES_MAX ? host : HOST_POOL_BYTES_MAX;
    *ret_bytes = info.kind == RFN_DEVICE_CUDA ? info.memory_free_bytes / 4 * 3 : host;
    return TOOL_OK;
}

static int plan_pages(struct run *run)
{
    int32_t page_tokens = run->geometry.page_tokens;
    int64_t page_bytes = engine_page_bytes(&run->geometry);
    int64_t pages = run->options.pool_pages;
    int64_t most = INT32_MAX / page_tokens; /* slots are i32 */
    int32_t drafts = run->batch_desc.speculative.drafts;
    int64_t largest = batch_pool_pages(&run->trace, 1, page_tokens, drafts);
    int64_t usable =
        batch_pool_pages(&run->trace, run->batch_desc.seats, page_tokens, drafts);
    if (largest < 0 || usable < 0)
    {
        tool_error("no memory to plan %" PRId64 " requests", run->trace.requests);
        return TOOL_ENVIRONMENT;
    }
    if (pages == 0)
    {
        int64_t bytes = 0;
        int status = default_pool_bytes(run, &bytes);
        if (status != TOOL_OK)
        {
            return status;
        }
        most = bytes / page_bytes < most ? bytes / page_bytes : most;
        pages = usable < most ? usable : most;
    }
    if (pages > most)
    {
        tool_error("--pool-pages %" PRId64 ": slots are 32-bit, %" PRId64 " is the most",
                   pages, most);
        return TOOL_ARGUMENTS;
    }
    if (largest > pages)
    {
        tool_error("one request needs %" PRId64 " pages, the pool has %" PRId64
                   "; --pool-pages and --context-limit change them",
                   largest, pages);
        return TOOL_ARGUMENTS;
    }
    run->batch_desc.pages = pages;
    return TOOL_OK;
}

int run_plan(struct run *run)
{
    struct batch_desc *desc = &run->batch_desc;
    int32_t page_tokens = run->geometry.page_tokens;
    int64_t seats = run->options.batch;
    desc->trace = &run->trace;
    desc->seats = (int32_t)seats;
    desc->next_n = (int32_t)run->options.next_n;
    desc->page_tokens = page_tokens;
    desc->table_pages = (run->context_tokens + page_tokens - 1) / page_tokens;
    desc->seed = run->options.seed;
    int status = plan_pages(run);
    if (status != TOOL_OK)
    {
        return status;
    }
    run->planned_steps = batch_simulate(desc, run->options.steps);
    if (run->planned_steps < 0)
    {
        tool_error("no memory for %" PRId64 " pages", desc->pages);
        return TOOL_ENVIRONMENT;
    }
    int64_t verify = run->options.verify;
    int asked =
        run->options.check || (run->inject != NULL && run->inject->replayed != NULL);
    if (asked && verify == 0)
    {
        verify = 1; /* only a verification can find it */
    }
    run->verify_steps = verify < run->planned_steps ? verify : run->planned_steps;
    struct rfn_device_info info;
    if (rfn_device_query(run->device, &info) != RFN_OK)
    {
        return run_failed("cannot query the device");
    }
    printf("decode %s on %s (%s), %d layers, %" PRId64 " requests, batch %d, %" PRId64
           " pages, seed %" PRIu64 "\n",
           run->geometry.name, run->report.device, info.name, run->geometry.layers,
           run->trace.requests, desc->seats, desc->pages, run->options.seed);
    return TOOL_OK;
}
