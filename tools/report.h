/* What decode says at its end: a table for people, JSON for programs. */
#ifndef TOOLS_REPORT_H
#define TOOLS_REPORT_H

#include "tools/engine.h"
#include "tools/output.h"

struct report
{
    const char *device;
    const char *geometry;
    int32_t layers;
    int64_t requests;
    int64_t admitted;
    int64_t finished;
    int64_t waited;
    int64_t steps;
    int64_t tokens;
    int64_t draft_tokens; /* that were verified */
    int64_t accepted_tokens;
    int64_t prompt_tokens;
    int64_t shared_tokens; /* of them, that others had packed */
    int64_t eager_steps;   /* that no graph could take */
    int32_t graphs;
    int64_t graph_bytes; /* device memory of them all */
    int32_t findings;
    int bit_equal; /* 1, 0; -1: not verified */
    int64_t verified_steps;
    int64_t sampled_rows;
    int64_t near_ties;
    double max_rel_err;
    double max_lse_err;
    int64_t pages;
    int64_t pages_leaked;
    int64_t device_bytes;
    int64_t pinned_bytes;
    double prompt_s;
    double first_replay_s; /* since the program started; 0: there was none */
    double update_s;       /* sums over the steps */
    double launch_s;       /* median of the host's part of a replay: call to return */
    double replay_s;
    double prepare_s;
    double step_s; /* without prompts, captures and verification */
    double verify_s;
};

/* Sums over the buckets. */
struct report_totals
{
    int32_t used;
    int64_t replays;
    int64_t rows; /* of the buckets, padding included */
    int64_t live_rows;
};

struct report_totals report_add_up(const struct engine *engine);

/* 0 for nothing of nothing; the share of padding; microseconds each of `count`. */
double report_ratio(double a, double b);
double report_padding(int64_t rows, int64_t live);
double report_us(double seconds, int64_t count);

/* NULL without memory, or without jansson. */
json_t *report_json(const struct report *report, const struct engine *engine);

void report_print(const struct report *report, const struct engine *engine);

#endif
