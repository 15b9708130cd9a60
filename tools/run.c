#include "tools/run.h"
#include "tools/cli.h"
#include "tools/tool.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static double seconds_since(int64_t start_ns)
{
    return (double)(tool_now_ns() - start_ns) * 1e-9;
}

static int failed(const char *what)
{
    tool_error("%s: %s", what, rfn_last_error());
    return TOOL_ENVIRONMENT;
}

/* ---- the device --------------------------------------------------------------------- */

/* The first op of a step that the CUDA device cannot run; NULL: it can run all. */
static const char *missing_cuda_twin(void)
{
    const struct rfn_op *const ops[] = { &rfn_op_kv_pack, &rfn_op_index_topk,
                                         &rfn_op_sparse_mla };
    for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++)
    {
        if (ops[i]->cuda == NULL)
        {
            return ops[i]->name;
        }
    }
    return NULL;
}

int run_open(struct run *run)
{
    static const char *const names[] = {
        [RFN_DEVICE_AUTO] = "auto", [RFN_DEVICE_HOST] = "host", [RFN_DEVICE_CUDA] = "cuda"
    };
    struct rfn_device_desc desc = { .check = 1 };
    struct cli_nearest nearest;
    cli_nearest_init(&nearest, run->options.device);
    for (int kind = 0; kind < 3; kind++)
    {
        cli_nearest_try(&nearest, names[kind]);
        desc.kind = strcmp(run->options.device, names[kind]) == 0
                        ? (enum rfn_device_kind)kind
                        : desc.kind;
    }
    if (strcmp(nearest.best, run->options.device) != 0)
    {
        tool_error("no device '%s'; the nearest is '%s'", run->options.device,
                   nearest.best);
        return TOOL_ARGUMENTS;
    }
    const char *missing = missing_cuda_twin();
    if (desc.kind == RFN_DEVICE_AUTO && missing != NULL)
    {
        desc.kind = RFN_DEVICE_HOST;
    }
    if (rfn_device_open(&desc, &run->device) != RFN_OK)
    {
        return failed("cannot open the device");
    }
    struct rfn_device_info info;
    if (rfn_device_query(run->device, &info) != RFN_OK)
    {
        return failed("cannot query the device");
    }
    run->report.device = names[info.kind];
    if (info.kind == RFN_DEVICE_CUDA && missing != NULL)
    {
        tool_error("--device cuda cannot run a step yet: %s has no CUDA twin", missing);
        return TOOL_ENVIRONMENT;
    }
    printf("decode %s on %s (%s), %d layers, %" PRId64 " requests, seed %" PRIu64 "\n",
           run->geometry->name, names[info.kind], info.name, run->geometry->layers,
           run->trace.requests, run->options.seed);
    return TOOL_OK;
}

static void print_findings(struct run *run)
{
    int32_t count = rfn_check_count(run->check);
    for (; run->printed < count; run->printed++)
    {
        char text[2048];
        struct rfn_finding finding;
        if (rfn_check_finding(run->check, run->printed, &finding) == RFN_OK)
        {
            rfn_finding_text(&finding, text, sizeof(text));
            printf("%s", text);
        }
    }
    run->report.findings = count;
}

int run_prepare(struct run *run)
{
    struct engine_desc desc = {
        .device = run->device,
        .geometry = run->geometry,
        .trace = &run->trace,
        .rows = run->batch_desc.seats,
        .pages = run->batch_desc.pages,
        .seed = run->options.seed,
    };
    if (rfn_check_create(run->device, &run->check) != RFN_OK)
    {
        return failed("cannot attach the checker");
    }
    if (engine_create(&desc, &run->engine) != RFN_OK)
    {
        return failed("cannot set up");
    }
    if (batch_create(&run->batch_desc, &run->batch) != 0 ||
        verify_create(run->engine, &run->verify) != 0)
    {
        tool_error("no memory for the batch");
        return TOOL_ENVIRONMENT;
    }
    enum rfn_status status =
        engine_prepare(run->engine, run->inject != NULL ? run->inject->captured : NULL);
    print_findings(run);
    return status == RFN_OK ? TOOL_OK : failed("cannot capture");
}

/* ---- the run ------------------------------------------------------------------------ */

/* The verified steps are spread evenly, the first and the last among them. */
static int is_verified(const struct run *run, int64_t step)
{
    int64_t n = run->verify_steps;
    if (n <= 1)
    {
        return n == 1 && step == 0;
    }
    /* Some i with i * (planned - 1) / (n - 1) == step? */
    int64_t span = run->planned_steps - 1;
    int64_t i = (step * (n - 1) + span - 1) / (span > 0 ? span : 1);
    return i < n && (span > 0 ? i * span / (n - 1) : 0) == step;
}

static enum rfn_status admit(struct run *run)
{
    int64_t start = tool_now_ns();
    enum rfn_status status = RFN_OK;
    int32_t seat = batch_admit(&run->batch);
    while (seat >= 0 && status == RFN_OK)
    {
        run->report.admitted++;
        run->report.prompt_tokens += run->batch.seat[seat].context_tokens;
        status = engine_pack_prompt(run->engine, &run->batch, seat);
        seat = status == RFN_OK ? batch_admit(&run->batch) : -1;
    }
    run->report.prompt_s += seconds_since(start);
    return status;
}

static enum rfn_status verify_step(struct run *run, int64_t step)
{
    enum rfn_status status = engine_read_written(run->engine, &run->batch, 0);
    if (status == RFN_OK)
    {
        status = engine_poison(run->engine, 1);
    }
    if (status == RFN_OK)
    {
        status = engine_eager(run->engine, run->batch.lives);
    }
    if (status == RFN_OK)
    {
        status = engine_collect(run->engine, 1, run->batch.lives);
    }
    if (status == RFN_OK)
    {
        status = engine_read_written(run->engine, &run->batch, 1);
    }
    if (status == RFN_OK)
    {
        status = engine_read_padding(run->engine, 1);
    }
    if (status == RFN_OK)
    {
        verify_bits(&run->verify, &run->batch, step);
        verify_reference(&run->verify, &run->batch, step);
    }
    return status;
}

static enum rfn_status replay_step(struct run *run, struct engine_bucket *bucket,
                                   int64_t step)
{
    struct engine *engine = run->engine;
    int verified = is_verified(run, step);
    int32_t rows = verified ? engine->rows : bucket->rows;
    int64_t start = tool_now_ns();
    enum rfn_status status = engine_update(engine, &run->batch, bucket);
    double update_s = seconds_since(start);
    if (status == RFN_OK && verified)
    {
        status = engine_read_padding(engine, 0);
    }
    if (status == RFN_OK && verified)
    {
        status = engine_poison(engine, 0);
    }
    start = tool_now_ns();
    if (status == RFN_OK)
    {
        status = engine_replay(engine, bucket);
    }
    if (status == RFN_OK && verified && run->inject != NULL && step == 0 &&
        run->inject->replayed != NULL)
    {
        status = run->inject->replayed(engine);
    }
    if (status == RFN_OK)
    {
        status = engine_collect(engine, 0, rows);
    }
    double replay_s = seconds_since(start);
    if (status == RFN_OK && run->report.first_replay_s == 0)
    {
        run->report.first_replay_s = seconds_since(tool_start_ns());
    }
    if (status == RFN_OK && verified)
    {
        start = tool_now_ns();
        status = verify_step(run, step);
        run->report.verify_s += seconds_since(start);
    }
    bucket->live_rows += run->batch.lives;
    run->report.update_s += update_s;
    run->report.replay_s += replay_s;
    return status;
}

static void show_progress(const struct run *run, int64_t step, int64_t *last_ns)
{
    int64_t now = tool_now_ns();
    if (run->terminal && now - *last_ns > 100000000)
    {
        fprintf(stderr, "\rstep %" PRId64 "/%" PRId64 ", %d rows, %" PRId64 " finished ",
                step, run->planned_steps, run->batch.lives, run->batch.finished);
        *last_ns = now;
    }
}

int run_steps(struct run *run)
{
    enum rfn_status status = RFN_OK;
    int64_t shown_ns = 0;
    int64_t step = 0;
    run->terminal = isatty(STDERR_FILENO);
    while (status == RFN_OK && step < run->planned_steps)
    {
        status = admit(run);
        int64_t start = tool_now_ns();
        if (status != RFN_OK || batch_begin_step(&run->batch) == 0)
        {
            break;
        }
        struct engine_bucket *bucket = engine_bucket_for(run->engine, run->batch.lives);
        if (bucket == NULL)
        {
            tool_error("no graph holds %d rows; stopped at step %" PRId64,
                       run->batch.lives, step);
            run->stopped = 1;
            break;
        }
        status = replay_step(run, bucket, step);
        batch_end_step(&run->batch);
        run->report.step_s += seconds_since(start);
        step++;
        show_progress(run, step, &shown_ns);
    }
    if (shown_ns != 0)
    {
        fprintf(stderr, "\r%60s\r", "");
    }
    run->report.steps = step;
    run->report.step_s -= run->report.verify_s;
    print_findings(run);
    return status == RFN_OK ? TOOL_OK : failed("a step failed");
}

static int look_for_faults(struct run *run)
{
    struct rfn_fault fault;
    if (rfn_device_fault(run->device, &fault) != RFN_OK)
    {
        return failed("cannot read the device's fault word");
    }
    if (fault.op != NULL)
    {
        printf("bad index: %s.%s[%" PRId64 "][%" PRId64 "] = %" PRId64 " (%" PRId64
               " in all)\n",
               fault.op, fault.operand, fault.row, fault.column, fault.value,
               fault.count);
        run->faulted = 1;
    }
    return TOOL_OK;
}

int run_finish(struct run *run)
{
    struct report *report = &run->report;
    const struct verify *verify = &run->verify;
    int status = look_for_faults(run);
    report->geometry = run->geometry->name;
    report->layers = run->geometry->layers;
    report->requests = run->trace.requests;
    report->finished = run->batch.finished;
    report->waited = run->batch.waited;
    report->tokens = run->batch.tokens;
    report->bit_equal = verify->steps == 0 ? -1 : verify->mismatches == 0;
    report->verified_steps = verify->steps;
    report->sampled_rows = verify->sampled_rows;
    report->max_rel_err = verify->max_rel_err;
    report->max_lse_err = verify->max_lse_err;
    report->pages = run->batch.pages;
    report->pages_leaked = batch_drain(&run->batch);
    report->device_bytes = run->engine->device_bytes;
    report->pinned_bytes = run->engine->pinned_bytes;
    report_print(report, run->engine);
    if (verify->first[0] != '\0')
    {
        printf("verification failed: %s\n", verify->first);
    }
    if (status == TOOL_OK && run->file.file != NULL)
    {
        status = report_file_write(&run->file, report, run->engine);
    }
    if (status == TOOL_OK &&
        (report->findings > 0 || verify->mismatches > 0 || verify->failures > 0 ||
         run->stopped || run->faulted || report->pages_leaked != 0))
    {
        status = TOOL_FINDINGS;
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
    report_file_drop(&run->file);
    trace_free(&run->trace);
    return status == RFN_OK ? TOOL_OK : failed("cannot close");
}
