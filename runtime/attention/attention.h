/*
 * What an attention object is made of. Step buffers lie in the order in which the host
 * packs them, so that one copy hands a step over:
 *
 *     device, and each slot of the pinned ring
 *     | requests, advance, 0, 0 | lens [R] | q_lens [R] | rejected [R] | table [R, W]  |
 *     ^--- header ---^          ^------- each padded to 16 bytes ------^ rows that live ^
 *
 * and behind them on the device what step_update makes of them, and the workspace.
 */
#ifndef RFN_RUNTIME_ATTENTION_H
#define RFN_RUNTIME_ATTENTION_H

#include <refrain/attention.h>

#define RFN_ATTENTION_RING 3
#define RFN_HEADER_INTS 4 /* requests, advance; two for the alignment of what follows */

/* Where things are; all NULL while only sizes are asked for. */
struct rfn_step_buffers
{
    int32_t *header;
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
    int32_t slot;     /* of the ring: the tables are still there */
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
    struct rfn_handed handed;
    struct rfn_entries *stale;    /* [ring][R] what a slot's rows lack of handed.slot's */
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
 * on the device; the line names it. No effect on the capture. */
enum rfn_status rfn_outside_captures(struct rfn_device *device, struct rfn_stream *stream,
                                     const char *what);

/* All that rfn_attention_plan checks of a step, without any effect: for those who choose a
 * graph before they hand the step over. */
enum rfn_status rfn_plan_check(const struct rfn_attention *attention,
                               const struct rfn_step *step, struct rfn_plan *ret_plan);

/* The rest of rfn_attention_plan, for a step that was found good, outside captures. */
enum rfn_status rfn_plan_hand_over(struct rfn_attention *attention,
                                   struct rfn_stream *stream, const struct rfn_step *step,
                                   const struct rfn_plan *plan);

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
