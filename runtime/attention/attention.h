/*
 * What an attention object is made of. Step buffers lie in the order in which the host
 * packs them, so that one copy hands a step over:
 *
 *     device, and each slot of the pinned ring
 *     | requests, advance, turn, 0 | lens [R] | q_lens [R] | rejected [R] | table [R, W]  |
 *     ^--- header ---^             ^------- each padded to 16 bytes ------^ rows that live ^
 *
 * and behind them on the device what step_update makes of them, and the workspace.
 *
 * A step that a ladder replays needs no copy as long as it changes little: step_update finds
 * the changes in a record in pinned memory (record.c). The library counts the launches of such
 * graphs, the device counts their runs, in `turn`, and a record names the one run that takes
 * it, so the host may be as far ahead as there are records. A copy goes in stream order and
 * says anew which turn it is. Updates that somebody else may launch take no records.
 */
#ifndef RFN_RUNTIME_ATTENTION_H
#define RFN_RUNTIME_ATTENTION_H

#include <refrain/attention.h>
#include <string.h>

#define RFN_ATTENTION_RING 3
#define RFN_HEADER_INTS 8 /* requests, advance; i64 turn, and of blocks through it */
#define RFN_HEADER_TURN 2
#define RFN_ATTENTION_RECORDS 16 /* a power of 2; one a step that is not done */

/* Where things are; all NULL while only sizes are asked for. */
struct rfn_step_buffers
{
    int32_t *header;
    int64_t *turn; /* in the header */
    int32_t *lens;
    int32_t *q_lens;
    int32_t *rejected;
    int32_t *table;
    int32_t *request;
    int32_t *context;
    int64_t *slots;
    int32_t *live;
    int64_t *bounds; /* the header of the last update */
    unsigned char *q8;
    float *w8;
    float *logits;
    int32_t *chosen;  /* `choices` of [T, K] */
    int64_t table_at; /* bytes in front of the table, packed with it */
    int64_t packed;   /* bytes with all rows of the table */
    int64_t step;     /* bytes of the step buffers; the workspace follows */
    int64_t bytes;    /* of everything */
};

/* Entries lo .. hi - 1 of a table's row; none where hi <= lo. */
struct rfn_entries
{
    int32_t lo;
    int32_t hi;
};

struct rfn_layer
{
    int32_t source; /* itself, or the layer whose choice it uses */
    int32_t choice; /* which [T, K] of `chosen` holds its own */
    int32_t bound;
    struct rfn_layer_caches caches;
    struct rfn_layer_io io;
};

/* What the device holds once the last plan's update has run, but for the lengths that this
 * update advances. */
struct rfn_handed
{
    int32_t valid; /* 0: nothing was handed over, or it failed half-way */
    int32_t requests;
    int32_t advance;
    int32_t *table;   /* [R, W] */
    int32_t *lens;    /* [R] of the last step */
    int32_t *q_lens;  /* [R] */
    int32_t *pages;   /* [R] leading entries of each table row that were checked */
    int32_t *columns; /* [R] entries of each table row that were handed over */
};

struct rfn_attention
{
    struct rfn_device *device;
    _Atomic int32_t ladders;            /* that use it */
    struct rfn_geometry geometry;       /* name and index_source point into this object */
    struct rfn_attention_limits limits; /* with defaults filled in */
    int64_t rows;                       /* T */
    int64_t width;                      /* W */
    int64_t row_logits;                 /* elements between rows of scores */
    int64_t logits_rows;                /* rows that are scored at once */
    int32_t choices;
    void *memory; /* the device allocation that `at` points into */
    struct rfn_step_buffers at;
    char *ring; /* pinned */
    int64_t slot_bytes;
    int32_t next_slot;
    int32_t slot_used[RFN_ATTENTION_RING]; /* a copy from it was enqueued */
    struct rfn_event *copied[RFN_ATTENTION_RING];
    char *records; /* pinned: RFN_ATTENTION_RECORDS of them, */
    int64_t record_bytes;
    int64_t *taken; /* and the runs that the device has done */
    struct rfn_handed handed;
    struct rfn_entries *fresh;    /* [R] what the device lacks of handed.table's rows */
    struct rfn_entries *stale;    /* [ring][R] what a slot's rows lack of handed.table */
    struct rfn_plan_state *state; /* of the last plan; graphs share it */
    struct rfn_layer *layer;
};

/* What a step asks for, beside the bucket: the most query tokens of a request, and all. */
struct rfn_plan
{
    struct rfn_bucket bucket;
    int32_t most_tokens;
    int64_t tokens;
};

/* RFN_INVALID: values that contradict each other or the limits of the design. */
enum rfn_status rfn_geometry_check(const struct rfn_geometry *geometry);

/* RFN_CAPTURE when `stream` (may be NULL) captures or the calling thread has a capture open
 * on the device; the line names it and the thread's region. No effect on the capture. */
enum rfn_status rfn_outside_captures(struct rfn_device *device, struct rfn_stream *stream,
                                     const char *what);

/* All that rfn_attention_plan checks of a step, without any effect: for those who choose a
 * graph before they hand the step over. */
enum rfn_status rfn_plan_check(const struct rfn_attention *attention,
                               const struct rfn_step *step, struct rfn_plan *ret_plan);

/* The rest of rfn_attention_plan, for a step that was found good, outside captures. `takes`:
 * the very next work on this object is a graph whose update takes records. */
enum rfn_status rfn_plan_hand_over(struct rfn_attention *attention,
                                   struct rfn_stream *stream, const struct rfn_step *step,
                                   const struct rfn_plan *plan, int takes);

/* For those whose launch behind a plan failed: the next step has to hand everything over. */
void rfn_plan_forget(struct rfn_attention *attention);

/* What `replays` steps behind the last one ask for when the device goes on by itself, checked
 * as one: the plan is the last one's; the first `ret_shorts` have short contexts only. */
enum rfn_status rfn_plan_check_again(const struct rfn_attention *attention,
                                     int32_t replays, struct rfn_plan *ret_plan,
                                     int32_t *ret_shorts);

/* In front of the launch of each: it is the next plan. Behind all of them: they were
 * launched. */
void rfn_plan_go_on(struct rfn_attention *attention, const struct rfn_plan *plan);
void rfn_plan_went_on(struct rfn_attention *attention, int32_t replays);

/* What a request's row of the table was when it was last handed over. */
static inline int32_t *rfn_old_row(const struct rfn_attention *attention, int64_t b)
{
    return attention->handed.table + b * attention->width;
}

static inline void rfn_copy_entries(int32_t *to, const int32_t *from,
                                    struct rfn_entries r)
{
    if (r.lo < r.hi)
        memcpy(to + r.lo, from + r.lo, (size_t)(r.hi - r.lo) * sizeof *to);
}

/* ---- ring.c --------------------------------------------------------------------------- */

/* Copies a step, of its tables the rows that have something new. */
enum rfn_status rfn_ring_copy(struct rfn_attention *attention, struct rfn_stream *stream,
                              const struct rfn_step *step);

/* ---- record.c ------------------------------------------------------------------------ */

/* Where records and `taken` lie behind `base`, which may be NULL; returns their bytes. */
int64_t rfn_records_carve(struct rfn_attention *attention, char *base);

/* They are those of no turn. */
void rfn_records_init(struct rfn_attention *attention);

/* Writes what the next run is to find changed. 0: it has to be copied. */
int rfn_record_write(struct rfn_attention *attention, const struct rfn_step *step);

/* The run that a record was written for was not launched. */
void rfn_record_withdraw(struct rfn_attention *attention);

/* More runs were done than launched, so that the device took records early. It has to be
 * handed everything; until then a step that builds on what it has is refused, RFN_INVALID. */
int rfn_records_strayed(const struct rfn_attention *attention);
enum rfn_status rfn_records_check(const struct rfn_attention *attention);

/* A copy says which turn it is. */
void rfn_records_reset(struct rfn_attention *attention);

/* A bucket's step_update, without records. */
struct rfn_step_update_args rfn_update_args(const struct rfn_attention *attention,
                                            const struct rfn_bucket *bucket);

/* The operands by which step_update takes records for this many requests. */
void rfn_records_operands(const struct rfn_attention *attention, int64_t requests,
                          struct rfn_step_update_args *args);

/* ---- geometry of a step ---------------------------------------------------------------- */

/* The first `rows` rows of the [T, K] that a layer attends: its own choice or its source's. */
struct rfn_tensor rfn_chosen(const struct rfn_attention *attention,
                             const struct rfn_layer *layer, int64_t rows);

/* The bucket lies within the limits. */
enum rfn_status rfn_bucket_check(const struct rfn_attention *attention,
                                 const struct rfn_bucket *bucket);

/* Hands each op of a layer's step to `emit`, in order, until one fails. */
typedef enum rfn_status rfn_emit_fn(struct rfn_stream *stream, const struct rfn_op *op,
                                    const void *args);
enum rfn_status rfn_layer_walk(const struct rfn_attention *attention,
                               const struct rfn_layer *layer,
                               const struct rfn_bucket *bucket, struct rfn_stream *stream,
                               rfn_emit_fn *emit);

#endif
