#include "tools/report.h"
#include <inttypes.h>
#include <stdio.h>

static int64_t rows_of(const struct engine_bucket *bucket)
{
    return bucket->replays * bucket->shape.requests * bucket->shape.next_n;
}

struct report_totals report_add_up(const struct engine *engine)
{
    struct report_totals totals = { 0 };
    int32_t last = 0;
    for (int32_t i = 0; i < engine->buckets; i++)
    {
        const struct engine_bucket *bucket = &engine->bucket[i];
        /* A bucket may have been used in both length classes. */
        totals.used += bucket->shape.requests != last;
        last = bucket->shape.requests;
        totals.replays += bucket->replays;
        totals.rows += rows_of(bucket);
        totals.live_rows += bucket->live_rows;
    }
    return totals;
}

double report_ratio(double a, double b)
{
    return b > 0 ? a / b : 0;
}

double report_padding(int64_t rows, int64_t live)
{
    return report_ratio((double)(rows - live), (double)rows);
}

double report_us(double seconds, int64_t count)
{
    return report_ratio(seconds * 1e6, (double)count);
}

static void print_buckets(const struct engine *engine)
{
    struct report_totals totals = report_add_up(engine);
    printf("  bucket  contexts  replays  rows live  padding\n");
    for (int32_t i = 0; i < engine->buckets; i++)
    {
        const struct engine_bucket *bucket = &engine->bucket[i];
        printf("  %6d  %8s  %7" PRId64 "  %9" PRId64 "  %6.1f%%\n",
               bucket->shape.requests, bucket->shape.short_context ? "short" : "any",
               bucket->replays, bucket->live_rows,
               100 * report_padding(rows_of(bucket), bucket->live_rows));
    }
    printf("   total  %8s  %7" PRId64 "  %9" PRId64 "  %6.1f%%\n", "", totals.replays,
           totals.live_rows, 100 * report_padding(totals.rows, totals.live_rows));
}

void report_print(const struct report *report, const struct engine *engine)
{
    print_buckets(engine);
    printf("  requests      %" PRId64 ", %" PRId64 " admitted, %" PRId64
           " finished, %" PRId64 " waited for pages\n",
           report->requests, report->admitted, report->finished, report->waited);
    printf("  steps         %" PRId64 ", %" PRId64 " tokens, %.0f tokens/s\n",
           report->steps, report->tokens,
           report_ratio((double)report->tokens, report->step_s));
    if (report->draft_tokens > 0)
    {
        printf("  speculative   %" PRId64 " drafts, %" PRId64
               " accepted, %.2f tokens a request and step\n",
               report->draft_tokens, report->accepted_tokens,
               report_ratio((double)report->tokens,
                            (double)(report->tokens - report->accepted_tokens)));
    }
    printf("  a step        update %.0f us, replay %.0f us (launch %.1f), host %.0f us\n",
           report_us(report->update_s, report->steps),
           report_us(report->replay_s, report->steps), report_us(report->launch_s, 1),
           report_us(report->step_s - report->replay_s, report->steps));
    printf("  prompts       %" PRId64 " tokens, %" PRId64
           " of them shared, packed in %.2f s\n",
           report->prompt_tokens, report->shared_tokens, report->prompt_s);
    printf("  graphs        %d captured in %.2f s, %.0f KiB each; first replay after "
           "%.2f s\n",
           report->graphs, report->prepare_s,
           report_ratio((double)report->graph_bytes, 1024.0 * report->graphs),
           report->first_replay_s);
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
               " rows against double: O %.2e relative L2, LSE %.1e, %" PRId64
               " near-ties chosen\n",
               report->verified_steps, report->bit_equal ? "true" : "false",
               report->sampled_rows, report->max_rel_err, report->max_lse_err,
               report->near_ties);
    }
    printf("  findings      %d\n", report->findings);
}
