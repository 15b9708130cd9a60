/* What decode looks at when the steps are done: the graphs of the ladder, for --snapshot,
 * --html and --check. */
#include "tools/run.h"
#include "tools/tool.h"
#include <refrain/diff.h>
#include <refrain/lint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int take_all(struct run *run)
{
    struct rfn_ladder *ladder = run->engine->ladder;
    int32_t count = 0;
    while (rfn_ladder_exec(ladder, count, NULL) != NULL)
    {
        count++;
    }
    run->image = calloc((size_t)count + 1, sizeof(struct rfn_image *));
    if (run->image == NULL)
    {
        tool_error("no memory for %d images", count);
        return TOOL_ENVIRONMENT;
    }
    for (; run->images < count; run->images++)
    {
        struct rfn_exec *exec = rfn_ladder_exec(ladder, run->images, NULL);
        if (rfn_image_of_exec(exec, run->check, &run->image[run->images]) != RFN_OK)
        {
            return run_failed("cannot look into a graph");
        }
    }
    return TOOL_OK;
}

/* ---- --check ------------------------------------------------------------------------ */

struct recording
{
    struct run *run;
    struct rfn_bucket bucket;
};

static enum rfn_status record(void *ctx, struct rfn_stream *stream)
{
    struct recording *r = ctx;
    return engine_record(r->run->engine, stream, &r->bucket);
}

/* Another step: nobody is there, and other inputs, which are not put back: the steps are done.
 * Then all memory elsewhere. */
static enum rfn_status mutate(void *ctx, enum rfn_diff_round round)
{
    struct recording *r = ctx;
    struct engine *engine = r->run->engine;
    struct rfn_step idle = { .requests = 0 };
    struct rfn_bucket bucket;
    ENGINE_TRY(engine_move(engine, round == RFN_DIFF_ARENA));
    if (round == RFN_DIFF_FIRST)
    {
        return RFN_OK;
    }
    if (round == RFN_DIFF_INPUTS)
    {
        ENGINE_TRY(engine_poison(engine, 0));
    }
    return rfn_attention_plan(engine->attention[0], engine->stream, &idle, &bucket);
}

/* What was told of a place is not told again of its node or its next capture. */
static int is_known(const struct findings *findings, const struct rfn_finding *finding)
{
    int known = 0;
    for (int32_t i = 0; i < findings->count && !known; i++)
    {
        const struct rfn_finding *f = &findings->item[i].finding;
        known = f->rule == finding->rule && f->line == finding->line && f->line > 0 &&
                strcmp(f->file, finding->file) == 0;
    }
    return known;
}

static void report(void *ctx, const struct rfn_finding *finding)
{
    struct run *run = ctx;
    if (is_known(&run->findings, finding))
    {
        return;
    }
    findings_print("", finding, &run->files.baseline);
    findings_add(&run->findings, finding);
}

static int judge(struct run *run)
{
    struct rfn_diff_desc desc = { .record = record,
                                  .mutate = mutate,
                                  .mode = RFN_CAPTURE_THREAD_LOCAL,
                                  .check = run->check,
                                  .all_moves = 1 };
    int64_t nodes = 0;
    struct rfn_diff_info sum = { 0 };
    int64_t slowest_ns = 0;
    if (engine_move(run->engine, 1) != RFN_OK || engine_move(run->engine, 0) != RFN_OK)
    {
        return run_failed("cannot record a step elsewhere");
    }
    for (int32_t i = 0; i < run->images; i++)
    {
        struct rfn_lint_info lint;
        struct rfn_diff_info diff;
        struct recording recording = { run, { 0 } };
        desc.ctx = &recording;
        run->findings.image = i + 1;
        rfn_ladder_exec(run->engine->ladder, i, &recording.bucket);
        if (rfn_lint(run->image[i], run->device, report, run, &lint) != RFN_OK)
        {
            return run_failed("cannot check a graph");
        }
        int64_t start = tool_now_ns();
        if (rfn_graph_diff(run->device, &desc, report, run, &diff) != RFN_OK)
        {
            return run_failed("cannot compare recordings of a graph");
        }
        int64_t took = tool_now_ns() - start;
        slowest_ns = took > slowest_ns ? took : slowest_ns;
        nodes += lint.nodes;
        sum.compared += diff.compared;
        sum.moved += diff.moved;
        sum.stayed += diff.stayed;
    }
    run->findings.image = 0;
    printf(
        "  checked       %d graphs, %lld nodes, %d values of other recordings; with the "
        "memory elsewhere %d addresses moved, %d stayed; at most %.1f ms a graph\n",
        run->images, (long long)nodes, sum.compared, sum.moved, sum.stayed,
        (double)slowest_ns * 1e-6);
    return TOOL_OK;
}

/* What the verification saw is a finding like others, for the files too. */
static void take_mismatches(struct run *run)
{
    const struct verify *verify = &run->verify;
    const struct rfn_rule_info *rule = rfn_rule_query(RFN_CAP031);
    char why[512];
    struct rfn_finding finding = { .rule = RFN_CAP031,
                                   .severity = rule->severity,
                                   .confidence = rule->confidence,
                                   .file = "",
                                   .region = "decode step",
                                   .api = "ladder_replay",
                                   .count = verify->mismatches,
                                   .why = why,
                                   .fix = rule->fix,
                                   .driver = "" };
    if (verify->mismatches > 0)
    {
        snprintf(
            why, sizeof(why),
            "in %lld verified steps %lld outputs or cache rows differ; the first that "
            "was wrong: %s",
            (long long)verify->steps, (long long)verify->mismatches, verify->first);
        report(run, &finding);
    }
}

int run_inspect(struct run *run)
{
    int status = TOOL_OK;
    run_print_findings(run);
    findings_take(&run->findings, run->check);
    take_mismatches(run);
    if (run->options.check || run->output[RUN_SNAPSHOT].file != NULL ||
        run->files.output[FILES_HTML].file != NULL)
    {
        status = take_all(run);
    }
    if (status == TOOL_OK && run->options.check)
    {
        status = judge(run);
    }
    struct rfn_finding finding;
    for (int32_t i = run->printed; rfn_check_finding(run->check, i, &finding) == RFN_OK;
         i++)
    {
        report(run, &finding);
    }
    run->report.findings = run->findings.count;
    return status;
}
