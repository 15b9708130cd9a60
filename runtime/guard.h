/*
 * What is checked in front of a launch beside memory: a plan that an attention object handed
 * over fits the bucket of the graph that runs it, and is run once.
 *
 * The state is shared by the attention object and the graphs that recorded an update or a
 * forward of it; each holds a reference. Like the attention object it is used by one thread
 * at a time.
 */
#ifndef RFN_RUNTIME_GUARD_H
#define RFN_RUNTIME_GUARD_H

#include "runtime/call.h"

#include <refrain/attention.h>

struct rfn_plan_state
{
    _Atomic int32_t refs;
    int valid;      /* 0: no plan, or nobody knows what the device has */
    int unfollowed; /* an update went into a capture that is not ours */
    uint64_t epoch; /* of the last plan; counts up */
    uint64_t ran;   /* of the plan whose update ran last */
    int32_t requests;
    int32_t most_tokens;
    int32_t short_context;
    int32_t advance;
    struct rfn_site planned;
    struct rfn_bucket updated; /* of the last update; next_n 0: none ran */
    /* The stream whose next captured update takes records, see runtime/attention/record.c;
     * NULL: none. The capture that it went into; launches of such graphs. */
    const struct rfn_stream *recorder;
    uint64_t recorded_in;
    int64_t turn;
    int uncounted; /* one had other arguments than were captured: it may have no turn */
};

/* What a graph has of it. */
struct rfn_body_plan
{
    struct rfn_body_plan *next;
    struct rfn_plan_state *state;
    struct rfn_bucket bucket; /* short_context: of a forward */
    int32_t updates;
    int32_t records; /* updates that take records */
};

struct rfn_plan_state *rfn_plan_state_create(void); /* NULL without memory */
void rfn_plan_state_drop(struct rfn_plan_state *state);

/* A plan is about to be handed over: the last one, which asked the device to advance, has
 * run. `has` and `believes` are lengths of request 0. */
enum rfn_status rfn_guard_plan(struct rfn_device *device,
                               const struct rfn_plan_state *state, int64_t believes,
                               int64_t has);

/* An update or forward is about to be enqueued or recorded with this bucket. Behind one that
 * was enqueued: rfn_guard_updated. */
enum rfn_status rfn_guard_enqueue(struct rfn_device *device, struct rfn_stream *stream,
                                  struct rfn_plan_state *state,
                                  const struct rfn_bucket *bucket, int update,
                                  int *ret_runs);
void rfn_guard_updated(struct rfn_plan_state *state, const struct rfn_bucket *bucket);

/* The plans of a graph that is about to be launched, and behind its launch. */
enum rfn_status rfn_guard_launch(struct rfn_call_event *event, struct rfn_device *device,
                                 const struct rfn_body *body);
void rfn_guard_launched(const struct rfn_exec *exec);

/* One update of this graph takes records. */
void rfn_guard_takes(struct rfn_body *body, const struct rfn_plan_state *state);

/* A child graph's plans are its parent's too. With device->lock held. */
enum rfn_status rfn_guard_join(struct rfn_body *to, const struct rfn_body *from);
void rfn_guard_drop(struct rfn_body *body);

/* Block tables: two launches of a graph that read one table agree on its row stride; `but`
 * is the launch whose arguments are replaced, -1: none. With device->lock held. The sentence
 * goes to `text`; 1: they disagree. */
int rfn_guard_tables(const struct rfn_body *body, const struct rfn_op *op,
                     const void *args, int32_t but, char *text, size_t bytes);
/* Notes the table of a launch, if it has one. */
void rfn_guard_note_table(struct rfn_recorded *launch, const void *args);

#endif
