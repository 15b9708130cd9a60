/* What `refrain bench` measures: ops at the sizes of a geometry, and beside them what the
 * machine can do. Times are seconds. */
#ifndef TOOLS_BENCH_H
#define TOOLS_BENCH_H

#include <jansson.h>
#include <refrain/attention.h>
#include <stddef.h>

#define BENCH_SAMPLES_MAX 1024
#define BENCH_MEMORY_MAX 12
#define BENCH_ISAS_MAX 3

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
    double sgemm_flop_s; /* OpenBLAS, where it can be loaded */
    char sgemm_core[32]; /* the kernels it has chosen */
};

/* TOOL_ENVIRONMENT after an error line when there is no memory. */
int bench_rates_measure(int32_t threads, double seconds, struct bench_rates *ret_rates);

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

void bench_print_head(const struct bench_pass *pass);
void bench_print_row(const struct bench_pass *pass, const struct bench_case *row,
                     const char *shape, const char *isa, const struct bench_result *r);
json_t *bench_json_pass(const struct bench_pass *pass);
json_t *bench_json_row(const struct bench_pass *pass, const struct bench_case *row,
                       const char *shape, const char *isa, const struct bench_result *r);

#endif
