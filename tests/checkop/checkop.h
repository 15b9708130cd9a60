/*
 * checkop: every op of the table over its edge cases, in every variant that this build has.
 *
 * A case is an op, its arguments, and the guarded buffers that the arguments point into. A
 * variant runs a case somewhere and leaves the result in the same buffers: the host variant
 * calls the twin; one of a device copies whole buffers (bands too) there and back, and moves
 * every pointer by its buffer.
 */
#ifndef CHECKOP_H
#define CHECKOP_H

#include "tests/support/guard.h"
#include "tests/support/rng.h"

#include <refrain/device.h>
#include <refrain/ops.h>
#include <refrain/plan.h>
#include <stdio.h>

#define CK_BUFFERS 24
#define CK_OUTPUT 0xa5 /* poison of outputs: neither -1, nor 0, nor NaN */
#define CK_COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* What the numbers of a case came to; for the report. */
struct ck_numbers
{
    double l2;         /* O against double on the same quantised inputs, worst row */
    double lse;        /* worst absolute difference of LSE */
    double l2_rounded; /* O against the same, rounded to bf16 first, worst row */
    double l2_logits;  /* logits against double, worst row */
    double format_l2;  /* against full precision: says what the cache format costs */
};

struct ck_case
{
    const char *name;
    const struct rfn_op *op;
    union
    {
        struct rfn_kv_pack_args kv_pack;
        struct rfn_index_topk_args index_topk;
        struct rfn_sparse_mla_args sparse_mla;
        struct rfn_index_pack_args index_pack;
        struct rfn_index_query_pack_args index_query_pack;
        struct rfn_index_logits_args index_logits;
        struct rfn_mla_combine_args mla_combine;
        struct rfn_step_update_args step_update;
        struct rfn_synth_fill_args synth_fill;
        struct rfn_index_gather_args index_gather;
        struct rfn_split_lists_args split_lists;
        struct rfn_prefix_lists_args prefix_lists;
    } args;
    struct guard buffer[CK_BUFFERS];
    int buffers;
    struct rng rng;
    float
        *full[RFN_MLA_SOURCES]; /* [slot][QK] keys before they were quantised, or NULL */
    struct ck_numbers numbers;
    const struct ck_spec *spec; /* what it was built from */
    uint64_t seed;
    int counted;      /* of faults only the op and the count are promised */
    int checked;      /* nothing is promised outside check mode */
    char reason[256]; /* why it failed */
};

/* One row of an op's list of cases. */
struct ck_spec
{
    const struct rfn_op *op;
    const char *name;
    int slow; /* only with --slow */
    void (*build)(struct ck_case *c, const void *param);
    /* Compares with the references; writes c->reason and returns 0 when wrong. Consumes the
     * kept copies of the buffers. */
    int (*verify)(struct ck_case *c, const struct rfn_fault *fault, double tolerance);
    const void *param;
};

/* Where cases run. `tolerance` is that of O (relative L2 a row); 0: the op's own. */
struct ck_variant
{
    const char *name;
    /* RFN_UNSUPPORTED: no twin for these arguments. Other errors leave c->reason. */
    enum rfn_status (*run)(const struct ck_variant *v, struct ck_case *c, int threads,
                           struct rfn_fault *fault);
    void (*host)(const void *args, const struct rfn_host_env *env); /* a twin put in */
    double tolerance;
    enum rfn_device_kind device; /* AUTO: none, the twin is called */
    int graph;
};

/* A wrong twin that at least one case must catch; bug 0 of each op is the right one. */
struct ck_broken
{
    const struct rfn_op *op;
    const char *name;
    void (*host)(const void *args, const struct rfn_host_env *env);
};

extern const struct ck_broken ck_broken_kv_pack[], ck_broken_index_topk[],
    ck_broken_sparse_mla[];
extern const int ck_broken_kv_packs, ck_broken_index_topks, ck_broken_sparse_mlas;

extern const struct ck_spec ck_kv_pack_specs[], ck_index_topk_specs[],
    ck_sparse_mla_specs[];
extern const int ck_kv_pack_count, ck_index_topk_count, ck_sparse_mla_count;

extern const struct ck_broken ck_broken_index_pack[], ck_broken_index_query_pack[],
    ck_broken_index_logits[];
extern const int ck_broken_index_packs, ck_broken_index_query_packs,
    ck_broken_index_logits_count;
extern const struct ck_spec ck_index_pack_specs[], ck_index_query_pack_specs[],
    ck_index_logits_specs[];
extern const int ck_index_pack_count, ck_index_query_pack_count, ck_index_logits_count;

extern const struct ck_broken ck_broken_mla_combine[], ck_broken_step_update[],
    ck_broken_synth_fill[];
extern const int ck_broken_mla_combines, ck_broken_step_updates, ck_broken_synth_fills;
extern const struct ck_spec ck_mla_combine_specs[], ck_step_update_specs[],
    ck_synth_fill_specs[];
extern const int ck_mla_combine_count, ck_step_update_count, ck_synth_fill_count;

extern const struct ck_broken ck_broken_index_gather[];
extern const int ck_broken_index_gathers;
extern const struct ck_spec ck_index_gather_specs[];
extern const int ck_index_gather_count;
extern const struct ck_broken ck_broken_split_lists[], ck_broken_prefix_lists[];
extern const int ck_broken_split_lists_count, ck_broken_prefix_lists_count;
extern const struct ck_spec ck_split_lists_specs[], ck_prefix_lists_specs[];
extern const int ck_split_lists_count, ck_prefix_lists_count;

/* The ops behind step_update with its header: a list of cases and one of twins for all. */
extern const struct ck_broken ck_broken_bounds[];
extern const int ck_broken_bounds_count;
extern const struct ck_spec ck_bounds_specs[];
extern const int ck_bounds_count;
int ck_is_of_bounds(const char *name); /* of a case or a twin */

/* ---- building ---------------------------------------------------------------------- */

/* A buffer of the case, filled with one byte; returns its inside. */
void *ck_buffer(struct ck_case *c, size_t bytes, int fill);

/* A view of `dims` extents whose rows (the outermost stride) have `gap` elements between
 * them, in a buffer of its own. */
struct rfn_tensor ck_tensor(struct ck_case *c, enum rfn_dtype dtype, int fill,
                            int64_t gap, int64_t d0, int64_t d1, int64_t d2);

/* A pool in a buffer of its own, `gap` bytes between pages. */
struct rfn_pool ck_pool(struct ck_case *c, enum rfn_format format, int32_t page_tokens,
                        int64_t pages, int64_t gap, int fill);

/* live [1] with this count; not given for INT32_MIN. */
struct rfn_tensor ck_live(struct ck_case *c, int32_t count);

/* The address that `data`, inside one of the buffers, has in the kept copy. */
void *ck_kept(const struct ck_case *c, const void *data);

/* Compares every byte with the kept copies; writes the reason. */
int ck_all_as_kept(struct ck_case *c);

/* Compares what check mode saw; fault == NULL passes. */
int ck_same_fault(struct ck_case *c, const struct rfn_fault *fault,
                  const struct rfn_fault *right);

int ck_fail(struct ck_case *c, const char *format, ...) RFN_PRINTF(2, 3);

void ck_build(struct ck_case *c, const struct ck_spec *spec, uint64_t seed);
void ck_destroy(struct ck_case *c);

/* Runs a case through the public front end of a device, launched or captured and replayed:
 * the run of the variants that have a device. */
enum rfn_status ck_run_device(const struct ck_variant *v, struct ck_case *c, int threads,
                              struct rfn_fault *fault);

/* Opens and closes the variant's device once and prints what it is. */
enum rfn_status ck_say_device(const struct ck_variant *v);

/* ---- the other checks of checkop ---------------------------------------------------- */

struct harness;
void ck_bounds(struct harness *h, const char *op); /* refused bounds */
void ck_registry(struct harness *h);
void ck_contracts(struct harness *h, const char *op); /* refused arguments, their lines */
void ck_unmapped(struct harness *h, const char *op);  /* masked bytes may be unmapped */
void ck_bench(const char *op, int threads);

#endif
