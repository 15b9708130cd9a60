/* What decode says at its end: a table for people, JSON for programs. */
#ifndef TOOLS_REPORT_H
#define TOOLS_REPORT_H

#include "tools/engine.h"
#include <stdio.h>

struct report
{
    const char *device;
    const char *device_name;
    const char *geometry;
    int32_t layers;
    int64_t requests;
    int64_t admitted;
    int64_t finished;
    int64_t waited;
    int64_t steps;
    int64_t tokens;
    int64_t prompt_tokens;
    int64_t eager_steps; /* that no graph could take */
    int32_t findings;
    int bit_equal; /* 1, 0; -1: not verified */
    int64_t verified_steps;
    int64_t sampled_rows;
    double max_rel_err;
    double max_lse_err;
    int64_t pages;
    int64_t pages_leaked;
    int64_t device_bytes;
    int64_t pinned_bytes;
    double prompt_s;
    double first_replay_s; /* since the program started; 0: there was none */
    double update_s;       /* sums over the steps */
    double replay_s;
    double step_s; /* without prompts and verification */
    double verify_s;
};

/* A JSON file under a temporary name until it is complete. */
struct report_file
{
    FILE *file;
    const char *path;
    char *temporary; /* NULL: written in place (a pipe, a device) */
};

/* Opens it; TOOL_ENVIRONMENT after an error line that names the path. */
int report_file_open(const char *path, struct report_file *ret_file);

/* Writes the report and gives the file its name. */
int report_file_write(struct report_file *file, const struct report *report,
                      const struct engine *engine);

/* Removes what report_file_write did not finish. */
void report_file_drop(struct report_file *file);

void report_print(const struct report *report, const struct engine *engine);

#endif
