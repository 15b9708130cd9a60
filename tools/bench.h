/* What `refrain bench` measures: ops at the sizes of a geometry, a layer's chain of them in a
 * graph, what a step costs beside its layers; and what the machine can do. Times are
 * seconds. */
#ifndef TOOLS_BENCH_H
#define TOOLS_BENCH_H

#include "tools/output.h"
#include <refrain/attention.h>
#include <refrain/plan.h>
#include <stddef.h>

#define BENCH_SAMPLES_MAX 1024
#define BENCH_MEMORY_MAX 12
#define BENCH_ISAS_MAX 3
#define BENCH_PASSES_MAX 2
#define BENCH_ROWS_MAX 64
#define BENCH_LAYERS_MAX 32
#define BENCH_VALUES_MAX 32
#define BENCH_LEFT_OUT_MAX 64

/* ---- times ------------------------------------------------------------------------ */

struct bench_samples
{
    int32_t count;
    double sum;
    double seconds[BENCH_SAMPLES_MAX];
};

struct bench_time
{
    int32_t repeats;
    double median;
    double best;
};

/* Whether to go on: at least three samples, then until `budget` seconds are used up. */
int bench_samples_more(const struct bench_samples *samples, double budget);
void bench_samples_add(struct bench_samples *samples, double seconds);

/* Sorts the samples. */
struct bench_time bench_samples_end(struct bench_samples *samples);

/* ---- the machine -------------------------------------------------------------------- */

/* Medians; 0 where something is not there to measure. */
struct bench_rates
{
    double read_bytes_s; /* one large read */
    double copy_bytes_s; /* one large copy, bytes read and bytes written */
    int32_t isas;
    struct
    {
        const char *name;
        double flop_s; /* multiply-adds in registers */
    } fp32[BENCH_ISAS_MAX];
    double matrix_flop_s; /* sgemm of OpenBLAS, bf16 of cuBLAS, where it can be loaded */
    char matrix_by[48];   /* whose it is */
};

/* TOOL_ENVIRONMENT after an error line when there is no memory. */
int bench_rates_measure(int32_t threads, double seconds, struct bench_rates *ret_rates);

/* The same of a GPU. */
struct bench_pass;
int bench_rates_device(const struct bench_pass *pass, double seconds,
                       struct bench_rates *ret_rates);

/* ---- the ops ------------------------------------------------------------------------ */

struct bench_size
{
    const struct rfn_geometry *geometry;
    int32_t rows;    /* of a decode step: T, and as many requests */
    int32_t context; /* tokens of each */
};

union bench_args
{
    struct rfn_kv_pack_args kv_pack;
    struct rfn_index_pack_args index_pack;
    struct rfn_index_query_pack_args index_query_pack;
    struct rfn_index_logits_args index_logits;
    struct rfn_index_topk_args index_topk;
    struct rfn_sparse_mla_args sparse_mla;
    struct rfn_mla_combine_args mla_combine;
    struct rfn_step_update_args step_update;
    struct rfn_synth_fill_args synth_fill;
    struct rfn_index_gather_args index_gather;
    struct rfn_split_lists_args split_lists;
    struct rfn_prefix_lists_args prefix_lists;
};

/* Arguments of one case and the device memory they point into. */
struct bench_work
{
    struct rfn_device *device;
    const struct bench_size *size;
    union bench_args args;
    char shape[48];
    int64_t scores; /* that are read or written; 0: it has none */
    int32_t failed; /* an error line was written */
    int32_t memories;
    void *memory[BENCH_MEMORY_MAX];
};

struct bench_case
{
    const struct rfn_op *op;
    const char *name;
    int32_t vectors; /* has an inner kernel for each instruction set */
    void (*build)(struct bench_work *work, int32_t parameter);
    int32_t parameter;
};

/* The i-th case, NULL past the last. */
const struct bench_case *bench_case_at(size_t i);

/* Whether this geometry has the case. */
int bench_case_applies(const struct bench_case *row, const struct bench_size *size);

/* Fills `work`, whose device and size are set; TOOL_ENVIRONMENT after an error line. Close
 * it in any case. */
int bench_work_open(const struct bench_case *row, struct bench_work *work);
int bench_work_close(struct bench_work *work);

/* ---- results -------------------------------------------------------------------------- */

/* One number of threads on one device. */
struct bench_pass
{
    struct rfn_device *device;
    struct rfn_stream *stream;
    struct rfn_event *start;
    struct rfn_event *end;
    struct rfn_device_info info;
    int32_t threads;
    char isa[16];
    struct bench_rates rates;
};

struct bench_result
{
    struct bench_time time;
    struct rfn_cost cost;
    double bytes_s;
    double flop_s;
    double scores_s;
};

/* A layer's ops in a graph. */
struct bench_layer_row
{
    int32_t pass;
    int32_t requests;
    int32_t next_n;
    int32_t context;
    int32_t layers; /* in the graph */
    int32_t sets;   /* of caches, inputs and outputs that they take turns with */
    double nodes;   /* of a layer */
    double peer;    /* what the best peers' kernels took, seconds; 0: not measured */
    struct bench_result result;
};

/* Anything else that was measured. */
struct bench_value
{
    int32_t pass;
    const char *what;
    const char *unit;
    double median; /* in that unit */
    double best;
    int32_t repeats;
    char of[64];
};

struct bench_row
{
    int32_t pass;
    const struct bench_case *of;
    char shape[48];
    char isa[16];
    struct bench_result result;
};

/* A whole run: what the JSON is made of. */
struct bench_results
{
    int argc;
    char **argv;
    const char *commit; /* or NULL */
    const char *device;
    char cpu[96];
    struct bench_size size;
    double seconds;
    double load[2]; /* at the start and at the end */
    int32_t passes;
    struct bench_pass pass[BENCH_PASSES_MAX];
    int32_t rows;
    struct bench_row row[BENCH_ROWS_MAX];
    int32_t layer_rows;
    struct bench_layer_row layer[BENCH_LAYERS_MAX];
    int32_t values;
    struct bench_value value[BENCH_VALUES_MAX];
    int32_t left_outs;
    char left_out[BENCH_LEFT_OUT_MAX][96];
};

/* Notes and prints what the device has no twin or no room for. */
void bench_leave_out(struct bench_results *results, const char *what, const char *why);

/* The error line of the library's last error; TOOL_ENVIRONMENT. */
int bench_failed(void);

/* Each layer size that the device is measured at, then what a step has beside its layers;
 * of the last pass. */
int bench_layers(struct bench_results *results);
int bench_step(struct bench_results *results);

/* Of the run before its first pass, and of the last pass. */
void bench_print_head(const struct bench_results *results);
void bench_print_ops(const struct bench_pass *pass);
void bench_print_row(const struct bench_pass *pass, const struct bench_row *row);
void bench_print_layer_head(const struct bench_pass *pass);
void bench_print_layer(const struct bench_pass *pass, const struct bench_layer_row *row);
void bench_print_value(const struct bench_value *value);

/* Of the larger of read and copy; of the instruction set that the device uses. */
double bench_memory_rate(const struct bench_rates *rates);
double bench_fp32_rate(const struct bench_pass *pass);

/* NULL without memory, or without jansson. */
json_t *bench_json(const struct bench_results *results);

#endif
