/* The steps of a run: admission, captures on demand, replay, verification. */
#include "tools/run.h"
#include "tools/tool.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BAR_COLUMNS 24
#define SHOW_NS 100000000

static double seconds_since(int64_t start_ns)
{
    return (double)(tool_now_ns() - start_ns) * 1e-9;
}

static void clear_progress(struct run *run)
{
    if (run->terminal)
    {
        fprintf(stderr, "\r%78s\r", "");
    }
}

void run_print_findings(struct run *run)
{
    int32_t count = rfn_check_count(run->check);
    if (run->printed < count)
    {
        clear_progress(run);
    }
    for (; run->printed < count; run->printed++)
    {
        struct rfn_finding finding;
        if (rfn_check_finding(run->check, run->printed, &finding) == RFN_OK)
        {
            findings_print("", &finding, &run->files.baseline);
        }
    }
    run->report.findings = count;
}

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
        run->report.prompt_tokens += run->batch.lens[seat];
        status = engine_pack_prompt(run->engine, &run->batch, seat);
        seat = status == RFN_OK ? batch_admit(&run->batch) : -1;
    }
    if (status == RFN_OK)
    {
        status = rfn_stream_sync(run->engine->stream);
    }
    run->report.prompt_s += seconds_since(start);
    return status;
}

/* A capture that a rule of capture ended leaves the step without a graph: no error here. */
static enum rfn_status prepare(struct run *run)
{
    int64_t start = tool_now_ns();
    enum rfn_status status = engine_prepare(run->engine, &run->batch);
    if (status == RFN_CAPTURE)
    {
        clear_progress(run);
        tool_error("a bucket has no graph: %s", rfn_last_error());
        status = RFN_OK;
    }
    run_print_findings(run);
    run->report.prepare_s += seconds_since(start);
    return status;
}

static enum rfn_status verify_step(struct run *run, int64_t step)
{
    struct engine *engine = run->engine;
    ENGINE_TRY(engine_collect(engine, 0, engine->rows));
    ENGINE_TRY(engine_read_written(engine, &run->batch, 0));
    ENGINE_TRY(engine_poison(engine, 1));
    /* Rows that earlier steps' rejected tokens left are among this step's: what the eager
     * pass reads of them is NaN, what the replay read is not. The same bits: nothing is. */
    int speculative = run->batch.desc.speculative.drafts > 0;
    if (speculative)
    {
        ENGINE_TRY(engine_poison_rows(engine, &run->batch, 0));
    }
    ENGINE_TRY(engine_eager(engine, &run->batch));
    ENGINE_TRY(engine_collect(engine, 1, run->batch.lives * engine->desc.next_n));
    ENGINE_TRY(engine_read_written(engine, &run->batch, 1));
    ENGINE_TRY(engine_read_padding(engine, 1));
    verify_bits(&run->verify, &run->batch, step);
    verify_reference(&run->verify, &run->batch, step);
    /* And what the replays behind it find is NaN. */
    return speculative ? engine_poison_rows(engine, &run->batch, 1) : RFN_OK;
}

static enum rfn_status replay(struct run *run, int verified)
{
    struct engine *engine = run->engine;
    int graph = 0;
    /* A step that is verified leaves the lengths where they are. */
    int64_t start = tool_now_ns();
    ENGINE_TRY(engine_step(engine, &run->batch, !verified, &graph));
    run->launch_s[run->launches++ % RUN_LAUNCHES] = seconds_since(start);
    run->report.eager_steps += !graph;
    if (run->inject != NULL && run->inject->launched != NULL && !run->launched)
    {
        run->launched = 1;
        run->inject->launched(engine, engine->stream);
    }
    return rfn_stream_sync(engine->stream);
}

/* Launches the step and waits for it. */
static enum rfn_status launch(struct run *run, int64_t step, int verified)
{
    const struct inject *inject = run->inject;
    ENGINE_TRY(rfn_region_begin("replay"));
    enum rfn_status status = replay(run, verified);
    enum rfn_status ended = rfn_region_end();
    status = status == RFN_OK ? ended : status;
    if (status == RFN_OK && inject != NULL && inject->replayed != NULL && step == 0)
    {
        status = inject->replayed(run->engine); /* the first step is a verified one */
    }
    return status;
}

static enum rfn_status run_step(struct run *run, int64_t step)
{
    struct engine *engine = run->engine;
    struct report *report = &run->report;
    int verified = is_verified(run, step);
    int64_t start = tool_now_ns();
    ENGINE_TRY(engine_update(engine, &run->batch));
    double update_s = seconds_since(start);
    start = tool_now_ns();
    if (verified)
    {
        ENGINE_TRY(engine_read_padding(engine, 0));
        ENGINE_TRY(engine_poison(engine, 0));
        ENGINE_TRY(rfn_stream_sync(engine->stream));
    }
    report->verify_s += seconds_since(start);
    start = tool_now_ns();
    ENGINE_TRY(launch(run, step, verified));
    report->replay_s += seconds_since(start);
    report->update_s += update_s;
    if (report->first_replay_s == 0)
    {
        report->first_replay_s = seconds_since(tool_start_ns());
    }
    if (verified)
    {
        start = tool_now_ns();
        ENGINE_TRY(verify_step(run, step));
        report->verify_s += seconds_since(start);
    }
    return RFN_OK;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Changes their order. */
static double median_launch(struct run *run)
{
    int32_t n = run->launches < RUN_LAUNCHES ? run->launches : RUN_LAUNCHES;
    qsort(run->launch_s, (size_t)n, sizeof(run->launch_s[0]), compare);
    return n > 0 ? run->launch_s[n / 2] : 0;
}

static void show_progress(const struct run *run, int64_t step, int64_t *last_ns)
{
    int64_t now = tool_now_ns();
    if (!run->terminal || now - *last_ns <= SHOW_NS)
    {
        return;
    }
    int filled = (int)(BAR_COLUMNS * step / run->planned_steps);
    char bar[BAR_COLUMNS + 1];
    memset(bar, '.', BAR_COLUMNS);
    memset(bar, '#', (size_t)filled);
    bar[BAR_COLUMNS] = '\0';
    fprintf(stderr, "\r[%s] %" PRId64 "/%" PRId64 " steps, %d rows, %" PRId64 " done ",
            bar, step, run->planned_steps, run->batch.lives, run->batch.finished);
    *last_ns = now;
}

int run_steps(struct run *run)
{
    enum rfn_status status = RFN_OK;
    int64_t shown_ns = 0;
    int64_t step = 0;
    run->terminal = isatty(STDERR_FILENO);
    fflush(stdout);
    while (status == RFN_OK && step < run->planned_steps)
    {
        status = admit(run);
        if (status != RFN_OK || batch_begin_step(&run->batch) == 0)
        {
            break;
        }
        status = prepare(run);
        int64_t start = tool_now_ns();
        if (status == RFN_OK)
        {
            status = run_step(run, step);
        }
        batch_end_step(&run->batch);
        run->report.step_s += seconds_since(start);
        step += status == RFN_OK;
        show_progress(run, step, &shown_ns);
    }
    clear_progress(run);
    run->report.steps = step;
    run->report.step_s -= run->report.verify_s;
    run->report.launch_s = median_launch(run);
    int result = status == RFN_OK ? TOOL_OK : run_failed("a step failed");
    run_print_findings(run);
    return result;
}
