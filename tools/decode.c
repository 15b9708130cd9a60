/* refrain decode: a decode workload, planned, captured, checked, replayed and verified. */
#include "tools/cli.h"
#include "tools/run.h"
#include "tools/tool.h"
#include <stdio.h>
#include <string.h>

#define DEFAULT_STEPS 32
#define DEFAULT_BATCH 8

#define OPTION(name_, value_, kind_, field, min_, max_, help_)                           \
    {                                                                                    \
        .name = name_, .value = value_, .kind = kind_,                                   \
        .offset = offsetof(struct options, field), .min = min_, .max = max_,             \
        .help = help_                                                                    \
    }

static const struct cli_option table[] = {
    OPTION("--device", "auto|host|cuda", CLI_TEXT, device, 0, 0, "where to run (auto)"),
    OPTION("--geometry", "NAME", CLI_TEXT, geometry, 0, 0,
           "model shape, see `refrain info` (deepseek-v3.2)"),
    OPTION("--layers", "N", CLI_INT, layers, 1, 1024, "run the first N layers (2)"),
    OPTION("--trace", "FILE", CLI_TEXT, trace, 0, 0,
           "requests, see below; without it seeded ones of the same distribution"),
    OPTION("--requests", "N", CLI_INT, requests, 1, 1000000, "the first N requests (16)"),
    OPTION(
        "--arrivals", "HOW", CLI_TEXT, arrivals, 0, 0,
        "closed: as seats get free; timed:<ms per step>: at their timestamps (closed)"),
    OPTION("--steps", "N", CLI_INT, steps, 0, 1000000000,
           "at most N decode steps, 0: until all are done (32)"),
    OPTION("--batch", "N", CLI_INT, batch, 1, RUN_BUCKETS_MAX, "requests at once (8)"),
    OPTION("--buckets", "A,B,...", CLI_TEXT, bucket_list, 0, 0,
           "requests of each graph (1,2,4,8, by 8 to 128, by 16 to 256)"),
    OPTION("--next-n", "N", CLI_INT, next_n, 1, RFN_NEXT_N_MAX,
           "tokens a request and step (1)"),
    OPTION("--speculative", "N[:RATE]", CLI_TEXT, speculative, 0, 0,
           "N draft tokens more a request and step, each accepted at a rate of 0.7"),
    OPTION("--pool-pages", "N", CLI_INT, pool_pages, 1, 1000000000,
           "pages of each layer's pools (what --batch requests need, see below)"),
    OPTION("--context-limit", "N", CLI_INT, context_limit, 2, 1000000000,
           "shorten prompts so that no context is longer (the geometry's)"),
    OPTION("--verify", "N", CLI_INT, verify, 0, 1000000000,
           "verify N steps, spread evenly over the run (0)"),
    OPTION("--batch-invariant", "0|1", CLI_INT, batch_invariant, 0, 1,
           "1: equal bits in every bucket, for some time (0)"),
    OPTION("--seed", "N", CLI_U64, seed, 0, 0, "of the synthetic content (1)"),
    OPTION("--json", "FILE", CLI_TEXT, file[RUN_TOTALS], 0, 0,
           "write the totals as JSON"),
    OPTION("--ranges", "FILE", CLI_TEXT, file[RUN_RANGES], 0, 0,
           "write what recorded each graph node as JSON, for profilers"),
    OPTION("--snapshot", "FILE", CLI_TEXT, file[RUN_SNAPSHOT], 0, 0,
           "write the graphs, for `refrain graph`"),
    OPTION("--check", NULL, CLI_FLAG, check, 0, 0,
           "hold the graphs against the rules, record them twice, verify a step"),
    OPTION("--report", "FILE", CLI_TEXT, of_findings[FILES_JSON], 0, 0,
           "write the findings as JSON"),
    OPTION("--sarif", "FILE", CLI_TEXT, of_findings[FILES_SARIF], 0, 0,
           "write the findings as SARIF 2.1.0"),
    OPTION("--html", "FILE", CLI_TEXT, of_findings[FILES_HTML], 0, 0,
           "write the findings and pictures of the graphs as one page"),
    OPTION("--baseline", "FILE", CLI_TEXT, baseline, 0, 0,
           "findings that are accepted, each with a reason"),
    OPTION("--write-baseline", "FILE", CLI_TEXT, of_findings[FILES_BASELINE], 0, 0,
           "write the findings as a baseline, its reasons to be filled in"),
    OPTION("--inject", "NAME|list", CLI_TEXT, inject, 0, 0, "plant a mistake"),
};
#define OPTIONS (sizeof(table) / sizeof(table[0]))

static const char more_help[] =
    "\nA trace is JSON lines, each with timestamp, input_length, output_length and a\n"
    "list hash_ids, or a table: a header of these four names, columns apart by tabs or\n"
    "commas, ids joined by spaces. Without jansson tables are read and no JSON written.\n"
    "\nThe default pools take at most three quarters of the memory that is free on a\n"
    "GPU, on the host half of it and 2 GiB. Requests that find no pages wait.\n";

int decode_main(int argc, char **argv)
{
    struct run run = { .options = { .geometry = "deepseek-v3.2",
                                    .device = "auto",
                                    .arrivals = "closed",
                                    .steps = DEFAULT_STEPS,
                                    .batch = DEFAULT_BATCH,
                                    .next_n = 1,
                                    .seed = 1 } };
    int status = cli_parse(table, OPTIONS, argc, argv, &run.options);
    if (status == CLI_HELP)
    {
        printf("usage: refrain decode [options]\n\n");
        cli_usage(table, OPTIONS);
        printf("%s", more_help);
        return TOOL_OK;
    }
    if (status == TOOL_OK && run.options.inject != NULL &&
        strcmp(run.options.inject, "list") == 0)
    {
        inject_list();
        return TOOL_OK;
    }
    int (*const stage[])(struct run *) = {
        run_read_options, run_read_trace, run_open_files, run_open,  run_plan,
        run_prepare,      run_steps,      run_inspect,    run_finish
    };
    for (size_t i = 0; status == TOOL_OK && i < sizeof(stage) / sizeof(stage[0]); i++)
    {
        status = stage[i](&run);
    }
    int closed = run_close(&run);
    return status != TOOL_OK ? status : closed;
}
