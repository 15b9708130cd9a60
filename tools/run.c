/* A run of decode but its steps: the device, what is allocated, the end. */
#include "tools/run.h"
#include "tools/ranges.h"
#include "tools/snapshot.h"
#include "tools/tool.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int run_failed(const char *what)
{
    tool_error("%s: %s", what, rfn_last_error());
    return TOOL_ENVIRONMENT;
}

/* ---- files --------------------------------------------------------------------------- */

int run_open_files(struct run *run)
{
    const struct options *o = &run->options;
    const char *all[RUN_FILES + FILES_KINDS];
    memcpy(all, o->file, sizeof(o->file));
    memcpy(all + RUN_FILES, o->of_findings, sizeof(o->of_findings));
    memcpy(run->files.path, o->of_findings, sizeof(o->of_findings));
    run->files.accepted = o->baseline;
    int status = output_distinct(all, RUN_FILES + FILES_KINDS);
    if (status == TOOL_OK)
    {
        status = output_spares(all, RUN_FILES + FILES_KINDS, o->trace);
    }
    if (status == TOOL_OK) /* a baseline may be written anew where it was read */
    {
        status = output_spares(all, RUN_FILES + FILES_BASELINE, o->baseline);
    }
    if (status == TOOL_OK)
    {
        status = files_open(&run->files);
    }
    for (int i = 0; status == TOOL_OK && i < RUN_FILES; i++)
    {
        if (o->file[i] != NULL)
        {
            status = output_open(o->file[i], 1, &run->output[i]);
        }
    }
    return status;
}

static int write_files(struct run *run)
{
    const struct rfn_image *const *image = (const struct rfn_image *const *)run->image;
    struct output *output = run->output;
    const struct html_page page = { "refrain decode", &run->findings, image,
                                    run->images };
    int status = TOOL_OK;
    if (output[RUN_TOTALS].file != NULL)
    {
        status = output_json(&output[RUN_TOTALS], report_json(&run->report, run->engine),
                             NULL);
    }
    if (status == TOOL_OK && output[RUN_RANGES].file != NULL)
    {
        json_t *ranges = ranges_json(run->engine->ladder);
        status = output_json(&output[RUN_RANGES], ranges, rfn_last_error());
    }
    if (status == TOOL_OK && output[RUN_SNAPSHOT].file != NULL)
    {
        status =
            output_json(&output[RUN_SNAPSHOT], snapshot_json(image, run->images), NULL);
    }
    return status == TOOL_OK ? files_write(&run->files, &page) : status;
}

/* ---- the device --------------------------------------------------------------------- */

static enum rfn_status open_device(struct run *run, enum rfn_device_kind kind,
                                   struct rfn_device_info *ret_info)
{
    int late = run->inject != NULL && run->inject->late_copies;
    struct rfn_device_desc desc = {
        .kind = kind,
        .check = 1,
        .fault_handler = late,
        .sched = late ? RFN_SCHED_LAZY : RFN_SCHED_DEFAULT,
    };
    enum rfn_status status = rfn_device_open(&desc, &run->device);
    return status == RFN_OK ? rfn_device_query(run->device, ret_info) : status;
}

/* The attention object's ops and the one that makes its inputs. */
static enum rfn_status supported(const struct run *run, enum rfn_device_kind kind)
{
    if (kind == RFN_DEVICE_CUDA && rfn_op_synth_fill.cuda == NULL)
    {
        return rfn_error(RFN_UNSUPPORTED, "synth_fill has no CUDA twin");
    }
    return rfn_supported(run->device, &run->geometry);
}

int run_open(struct run *run)
{
    struct rfn_device_info info;
    if (open_device(run, run->kind, &info) != RFN_OK)
    {
        return run_failed("cannot open the device");
    }
    enum rfn_status status = supported(run, info.kind);
    if (status != RFN_OK && run->kind == RFN_DEVICE_AUTO && info.kind == RFN_DEVICE_CUDA)
    {
        printf("the GPU is not used: %s\n", rfn_last_error());
        status = rfn_device_close(&run->device);
        if (status == RFN_OK)
        {
            status = open_device(run, RFN_DEVICE_HOST, &info);
        }
        if (status == RFN_OK)
        {
            status = supported(run, info.kind);
        }
    }
    if (status != RFN_OK)
    {
        return run_failed("the device cannot run a step");
    }
    run->report.device = info.kind == RFN_DEVICE_CUDA ? "cuda" : "host";
    return TOOL_OK;
}

int run_prepare(struct run *run)
{
    struct engine_desc desc = {
        .device = run->device,
        .geometry = &run->geometry,
        .trace = &run->trace,
        .requests = run->batch_desc.seats,
        .next_n = run->batch_desc.next_n,
        .drafts = run->batch_desc.speculative.drafts,
        .context_tokens = run->context_tokens,
        .pages = run->batch_desc.pages,
        .seed = run->options.seed,
        .bucket = run->buckets > 0 ? run->bucket : NULL,
        .buckets = run->buckets,
        .verify = run->verify_steps > 0,
        .movable = run->options.check,
        .batch_invariant = (int32_t)run->options.batch_invariant,
    };
    if (run->inject != NULL)
    {
        desc.plant = run->inject->captured;
        desc.plant_bytes =
            run->inject->copies_cache
                ? desc.pages * rfn_format_page_bytes(run->geometry.latent_format,
                                                     run->geometry.page_tokens)
                : 0;
    }
    if (rfn_check_create(run->device, &run->check) != RFN_OK)
    {
        return run_failed("cannot attach the checker");
    }
    if (engine_create(&desc, &run->engine) != RFN_OK)
    {
        return run_failed("cannot set up");
    }
    if (batch_create(&run->batch_desc, &run->batch) != 0 ||
        (desc.verify && verify_create(run->engine, &run->verify) != 0))
    {
        tool_error("no memory for the batch");
        return TOOL_ENVIRONMENT;
    }
    return TOOL_OK;
}

/* ---- the end ------------------------------------------------------------------------ */

static int look_for_faults(struct run *run)
{
    struct rfn_fault fault;
    if (rfn_device_fault(run->device, &fault) != RFN_OK)
    {
        return run_failed("cannot read the device's fault word");
    }
    if (fault.op != NULL)
    {
        char line[256];
        rfn_fault_text(&fault, line, sizeof(line));
        printf("check mode: %s\n", line);
        run->faulted = 1;
    }
    return TOOL_OK;
}

/* Whether the rule that a planted mistake breaks has spoken. */
static int is_found(const struct run *run)
{
    int found = 0;
    for (int32_t i = 0; !found && i < run->findings.count; i++)
    {
        found = run->findings.item[i].finding.rule == run->inject->rule;
    }
    return found;
}

int run_finish(struct run *run)
{
    struct report *report = &run->report;
    const struct verify *verify = &run->verify;
    struct rfn_ladder_info ladder;
    int status = look_for_faults(run);
    if (status == TOOL_OK && rfn_ladder_query(run->engine->ladder, &ladder) != RFN_OK)
    {
        status = run_failed("cannot query the ladder");
    }
    if (status != TOOL_OK)
    {
        return status;
    }
    report->geometry = run->geometry.name;
    report->layers = run->geometry.layers;
    report->graphs = ladder.graphs;
    report->graph_bytes = ladder.memory_bytes;
    report->requests = run->trace.requests;
    report->finished = run->batch.finished;
    report->waited = run->batch.waited;
    report->tokens = run->batch.tokens;
    report->draft_tokens = run->batch.draft_tokens;
    report->accepted_tokens = run->batch.accepted_tokens;
    report->shared_tokens = run->batch.shared_tokens;
    report->bit_equal = verify->steps == 0 ? -1 : verify->mismatches == 0;
    report->verified_steps = verify->steps;
    report->sampled_rows = verify->sampled_rows;
    report->near_ties = verify->near_ties;
    report->max_rel_err = verify->max_rel_err;
    report->max_lse_err = verify->max_lse_err;
    report->pages = run->batch.desc.pages;
    report->pages_leaked = batch_drain(&run->batch);
    report->device_bytes = run->engine->device_bytes;
    report->pinned_bytes = run->engine->pinned_bytes;
    report_print(report, run->engine);
    if (verify->first[0] != '\0')
    {
        printf("verification failed: %s\n", verify->first);
    }
    int32_t fresh = findings_accept(&run->findings, &run->files.baseline);
    if (fresh < report->findings)
    {
        printf("  accepted      %d of the findings, by %s\n", report->findings - fresh,
               run->options.baseline);
    }
    status = write_files(run);
    if (status == TOOL_OK &&
        (fresh > 0 || verify->mismatches > 0 || verify->failures > 0 || run->faulted ||
         report->pages_leaked != 0))
    {
        status = TOOL_FINDINGS;
    }
    if (run->inject != NULL && !is_found(run))
    {
        tool_error("the planted mistake '%s' was not found", run->inject->name);
        status = status == TOOL_OK ? TOOL_ENVIRONMENT : status;
    }
    return status;
}

int run_close(struct run *run)
{
    enum rfn_status status = RFN_OK;
    verify_destroy(&run->verify);
    batch_destroy(&run->batch);
    if (run->engine != NULL)
    {
        status = engine_destroy(&run->engine);
    }
    if (status == RFN_OK && run->check != NULL)
    {
        status = rfn_check_destroy(&run->check);
    }
    if (status == RFN_OK && run->device != NULL)
    {
        status = rfn_device_close(&run->device);
    }
    for (int i = 0; i < RUN_FILES; i++)
    {
        output_drop(&run->output[i]);
    }
    for (int32_t i = 0; i < run->images; i++)
    {
        rfn_image_destroy(&run->image[i]);
    }
    free(run->image);
    findings_free(&run->findings);
    files_close(&run->files);
    trace_free(&run->trace);
    return status == RFN_OK ? TOOL_OK : run_failed("cannot close");
}
