#include "tools/report.h"
#include "tools/tool.h"
#include <errno.h>
#include <float.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int file_failed(const char *path, int error)
{
    tool_error("cannot write %s: %s", path, strerror(error));
    return TOOL_ENVIRONMENT;
}

int report_file_open(const char *path, struct report_file *ret_file)
{
    struct stat info;
    *ret_file = (struct report_file) { .path = path };
    if (path[0] == '\0')
    {
        return file_failed("''", ENOENT);
    }
    int exists = stat(path, &info) == 0;
    if (exists && S_ISDIR(info.st_mode))
    {
        return file_failed(path, EISDIR);
    }
    if (exists && access(path, W_OK) != 0)
    {
        return file_failed(path, errno);
    }
    if (exists && !S_ISREG(info.st_mode))
    {
        ret_file->file = fopen(path, "w");
        return ret_file->file != NULL ? TOOL_OK : file_failed(path, errno);
    }
    size_t bytes = strlen(path) + 32;
    ret_file->temporary = malloc(bytes);
    if (ret_file->temporary == NULL)
    {
        return file_failed(path, ENOMEM);
    }
    snprintf(ret_file->temporary, bytes, "%s.%ld.tmp", path, (long)getpid());
    ret_file->file = fopen(ret_file->temporary, "w");
    if (ret_file->file == NULL)
    {
        int error = errno;
        free(ret_file->temporary);
        ret_file->temporary = NULL;
        return file_failed(path, error);
    }
    return TOOL_OK;
}

void report_file_drop(struct report_file *file)
{
    if (file->file != NULL)
    {
        fclose(file->file);
        file->file = NULL;
    }
    if (file->temporary != NULL)
    {
        unlink(file->temporary);
        free(file->temporary);
        file->temporary = NULL;
    }
}

struct totals
{
    int32_t graphs;
    int32_t used;
    int64_t replays;
    int64_t rows; /* of the buckets, padding included */
    int64_t live_rows;
};

static struct totals add_up(const struct engine *engine)
{
    struct totals totals = { 0 };
    for (int32_t i = 0; i < engine->buckets; i++)
    {
        const struct engine_bucket *bucket = &engine->bucket[i];
        totals.graphs += bucket->exec != NULL;
        totals.used += bucket->replays > 0;
        totals.replays += bucket->replays;
        totals.rows += bucket->replays * bucket->rows;
        totals.live_rows += bucket->live_rows;
    }
    return totals;
}

static double ratio(double a, double b)
{
    return b > 0 ? a / b : 0;
}

static double padding(int64_t rows, int64_t live)
{
    return ratio((double)(rows - live), (double)rows);
}

static double microseconds(double seconds, int64_t count)
{
    return ratio(seconds * 1e6, (double)count);
}

static json_t *to_json(const struct report *report, const struct engine *engine)
{
    struct totals totals = add_up(engine);
    json_t *bit_equal =
        report->bit_equal < 0 ? json_null() : json_boolean(report->bit_equal);
    /* JSON has no infinity, which a NaN in O counts as. */
    double finite = isfinite(report->max_rel_err) ? report->max_rel_err : DBL_MAX;
    json_t *error = report->bit_equal < 0 ? json_null() : json_real(finite);
    return json_pack(
        "{s:s, s:s, s:i, s:I, s:I, s:I, s:I, s:I, s:i, s:i, s:I, s:f, s:I, s:i, s:o, "
        "s:o, "
        "s:I, s:f, s:f, s:f, s:f, s:f}",
        "device", report->device, "geometry", report->geometry, "layers", report->layers,
        "requests", (json_int_t)report->requests, "finished",
        (json_int_t)report->finished, "waited", (json_int_t)report->waited, "steps",
        (json_int_t)report->steps, "tokens", (json_int_t)report->tokens, "graphs",
        totals.graphs, "buckets_used", totals.used, "replays", (json_int_t)totals.replays,
        "padding_waste", padding(totals.rows, totals.live_rows), "eager_steps",
        (json_int_t)report->eager_steps, "findings", report->findings, "bit_equal",
        bit_equal, "max_rel_err", error, "pages_leaked", (json_int_t)report->pages_leaked,
        "tokens_per_s", ratio((double)report->tokens, report->step_s), "update_us",
        microseconds(report->update_s, report->steps), "replay_us",
        microseconds(report->replay_s, report->steps), "host_us_per_step",
        microseconds(report->step_s - report->replay_s, report->steps), "first_replay_s",
        report->first_replay_s);
}

int report_file_write(struct report_file *file, const struct report *report,
                      const struct engine *engine)
{
    json_t *json = to_json(report, engine);
    if (json == NULL)
    {
        return file_failed(file->path, ENOMEM);
    }
    errno = 0;
    int failed =
        json_dumpf(json, file->file, JSON_INDENT(2) | JSON_REAL_PRECISION(9)) != 0;
    json_decref(json);
    failed = fputc('\n', file->file) == EOF || failed;
    failed = fclose(file->file) != 0 || failed;
    file->file = NULL;
    if (!failed && file->temporary != NULL)
    {
        failed = rename(file->temporary, file->path) != 0;
    }
    int error = errno != 0 ? errno : EIO;
    if (!failed)
    {
        free(file->temporary);
        file->temporary = NULL;
        return TOOL_OK;
    }
    report_file_drop(file);
    return file_failed(file->path, error);
}

static void print_buckets(const struct engine *engine)
{
    printf("  bucket   nodes  replays  rows live  padding\n");
    for (int32_t i = 0; i < engine->buckets; i++)
    {
        const struct engine_bucket *bucket = &engine->bucket[i];
        if (bucket->exec == NULL)
        {
            printf("  %6d   no graph\n", bucket->rows);
            continue;
        }
        int64_t rows = bucket->replays * bucket->rows;
        printf("  %6d  %6d  %7" PRId64 "  %9" PRId64 "  %6.1f%%\n", bucket->rows,
               bucket->nodes, bucket->replays, bucket->live_rows,
               100 * padding(rows, bucket->live_rows));
    }
    struct totals totals = add_up(engine);
    printf("   total  %6s  %7" PRId64 "  %9" PRId64 "  %6.1f%%\n", "", totals.replays,
           totals.live_rows, 100 * padding(totals.rows, totals.live_rows));
}

void report_print(const struct report *report, const struct engine *engine)
{
    print_buckets(engine);
    printf("  requests      %" PRId64 ", %" PRId64 " admitted, %" PRId64
           " finished, %" PRId64 " waited for pages\n",
           report->requests, report->admitted, report->finished, report->waited);
    printf("  steps         %" PRId64 ", %" PRId64 " tokens, %.0f tokens/s\n",
           report->steps, report->tokens, ratio((double)report->tokens, report->step_s));
    printf("  a step        update %.0f us, replay %.0f us, host %.0f us\n",
           microseconds(report->update_s, report->steps),
           microseconds(report->replay_s, report->steps),
           microseconds(report->step_s - report->replay_s, report->steps));
    printf("  prompts       %" PRId64
           " tokens packed in %.2f s; first replay after %.2f s\n",
           report->prompt_tokens, report->prompt_s, report->first_replay_s);
    printf("  memory        %.1f MiB device (%" PRId64 " pages, %" PRId64
           " leaked), %.1f MiB pinned\n",
           (double)report->device_bytes / 1048576, report->pages, report->pages_leaked,
           (double)report->pinned_bytes / 1048576);
    if (report->bit_equal < 0)
    {
        printf("  verify        off\n");
    }
    else
    {
        printf("  verify        %" PRId64 " steps: bit_equal %s; %" PRId64
               " rows against double: O %.2e relative L2, LSE %.1e\n",
               report->verified_steps, report->bit_equal ? "true" : "false",
               report->sampled_rows, report->max_rel_err, report->max_lse_err);
    }
    printf("  findings      %d\n", report->findings);
}
