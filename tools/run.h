/* A run of decode: what was asked for, what was planned, what came of it. */
#ifndef TOOLS_RUN_H
#define TOOLS_RUN_H

#include "tools/files.h"
#include "tools/inject.h"
#include "tools/report.h"
#include "tools/verify.h"

#define RUN_BUCKETS_MAX 256

/* Files that a run writes at its end, beside those of findings. */
enum run_file
{
    RUN_TOTALS = 0,
    RUN_RANGES,
    RUN_SNAPSHOT,
    RUN_FILES
};

struct options
{
    const char *geometry;
    const char *device;
    const char *trace;
    const char *file[RUN_FILES]; /* NULL: not written */
    const char *of_findings[FILES_KINDS];
    const char *baseline;
    const char *inject;
    const char *arrivals;
    const char *bucket_list;
    const char *speculative;
    int64_t layers; /* 0: 2, or the geometry's */
    int64_t requests;
    int64_t steps;
    int64_t batch;
    int64_t next_n;
    int64_t pool_pages;    /* 0: as many as the run can use and its device has room for */
    int64_t context_limit; /* 0: the geometry's */
    int64_t verify;
    int64_t check; /* 1: more than is seen while it runs */
    int64_t batch_invariant;
    uint64_t seed;
};

#define RUN_LAUNCHES 1024

struct run
{
    struct options options;
    struct rfn_geometry geometry; /* with as many layers as were asked for */
    enum rfn_device_kind kind;
    int32_t context_tokens;
    int32_t bucket[RUN_BUCKETS_MAX];
    int32_t buckets; /* 0: the default list */
    const struct inject *inject;
    struct trace trace;
    struct batch_desc batch_desc;
    int64_t planned_steps;
    int64_t verify_steps; /* as asked for, at most planned_steps */
    struct output output[RUN_FILES];
    struct files files;
    struct findings findings; /* of the checker and of run_inspect */
    struct rfn_image **image; /* of the ladder's graphs, where asked for */
    int32_t images;
    struct rfn_device *device;
    struct rfn_check *check;
    int32_t printed; /* findings */
    struct engine *engine;
    struct batch batch;
    struct verify verify;
    struct report report;
    double launch_s[RUN_LAUNCHES]; /* of the last steps */
    int32_t launches;              /* of them, or more */
    int terminal;                  /* stderr is one */
    int launched;                  /* a mistake was planted behind a launch */
    int faulted;                   /* a kernel met a bad index */
};

/* What runs before any device is opened: options and names, the requests, the baseline to
 * read and the files to write. These, the ones below and run_close return an exit status,
 * after an error line unless it is TOOL_OK. */
int run_read_options(struct run *run);
int run_read_trace(struct run *run);
int run_open_files(struct run *run);

/* Opens the device that the options name. */
int run_open(struct run *run);

/* Plans pages and steps, prints the first line of the run. */
int run_plan(struct run *run);

/* Attaches the checker, allocates everything but graphs. */
int run_prepare(struct run *run);

/* The steps: admission, one replay each, verification. Findings are printed as they come. */
int run_steps(struct run *run);

/* Looks into the graphs, where a file or --check wants it, and judges them. */
int run_inspect(struct run *run);

/* Prints the table, writes the files. */
int run_finish(struct run *run);

/* Gives everything back, however far the run came. */
int run_close(struct run *run);

/* What the parts of a run share: an error line from the library's, and findings that were
 * not printed yet. */
int run_failed(const char *what);
void run_print_findings(struct run *run);

#endif
