/* A run of decode: what was asked for, what was planned, what came of it. */
#ifndef TOOLS_RUN_H
#define TOOLS_RUN_H

#include "tools/inject.h"
#include "tools/report.h"
#include "tools/verify.h"

struct options
{
    const char *geometry;
    const char *device;
    const char *trace;
    const char *json;
    const char *inject;
    int64_t requests;
    int64_t steps;
    int64_t batch;
    int64_t verify;
    uint64_t seed;
};

struct run
{
    struct options options;
    const struct geometry *geometry;
    const struct inject *inject;
    struct trace trace;
    struct batch_desc batch_desc;
    int64_t planned_steps;
    int64_t verify_steps; /* as asked for, at most planned_steps */
    struct report_file file;
    struct rfn_device *device;
    struct rfn_check *check;
    int32_t printed; /* findings */
    struct engine *engine;
    struct batch batch;
    struct verify verify;
    struct report report;
    int terminal; /* stderr is one */
    int stopped;  /* a step had no graph */
    int faulted;  /* a kernel met a bad index */
};

/* Opens the device that the options name. This and the next three return an exit status,
 * after an error line unless it is TOOL_OK. */
int run_open(struct run *run);

/* Attaches the checker, allocates everything, captures all buckets. */
int run_prepare(struct run *run);

/* The steps: admission, one replay each, verification. */
int run_steps(struct run *run);

/* Prints the table, writes the JSON file. */
int run_finish(struct run *run);

/* Gives everything back, however far the run came. */
int run_close(struct run *run);

#endif
