/* The totals of decode as JSON. */
#include "tools/report.h"

#if RFN_JANSSON
#include <float.h>
#include <jansson.h>
#include <math.h>

json_t *report_json(const struct report *report, const struct engine *engine)
{
    struct report_totals totals = report_add_up(engine);
    json_t *bit_equal =
        report->bit_equal < 0 ? json_null() : json_boolean(report->bit_equal);
    /* JSON has no infinity, which a NaN in O counts as. */
    double finite = isfinite(report->max_rel_err) ? report->max_rel_err : DBL_MAX;
    json_t *error = report->bit_equal < 0 ? json_null() : json_real(finite);
    return json_pack(
        "{s:s, s:s, s:i, s:I, s:I, s:I, s:I, s:I, s:i, s:i, s:I, s:f, s:I, s:i, s:o, "
        "s:o, "
        "s:I, s:I, s:f, s:f, s:f, s:f, s:f, s:f, s:I, s:I}",
        "device", report->device, "geometry", report->geometry, "layers", report->layers,
        "requests", (json_int_t)report->requests, "finished",
        (json_int_t)report->finished, "waited", (json_int_t)report->waited, "steps",
        (json_int_t)report->steps, "tokens", (json_int_t)report->tokens, "graphs",
        report->graphs, "buckets_used", totals.used, "replays",
        (json_int_t)totals.replays, "padding_waste",
        report_padding(totals.rows, totals.live_rows), "eager_steps",
        (json_int_t)report->eager_steps, "findings", report->findings, "bit_equal",
        bit_equal, "max_rel_err", error, "pages_leaked", (json_int_t)report->pages_leaked,
        "graph_bytes", (json_int_t)report->graph_bytes, "tokens_per_s",
        report_ratio((double)report->tokens, report->step_s), "update_us",
        report_us(report->update_s, report->steps), "launch_us",
        report_us(report->launch_s, 1), "replay_us",
        report_us(report->replay_s, report->steps), "host_us_per_step",
        report_us(report->step_s - report->replay_s, report->steps), "first_replay_s",
        report->first_replay_s, "draft_tokens", (json_int_t)report->draft_tokens,
        "accepted_tokens", (json_int_t)report->accepted_tokens);
}

#else

json_t *report_json(const struct report *report, const struct engine *engine)
{
    (void)report;
    (void)engine;
    return NULL;
}

#endif
