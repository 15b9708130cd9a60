#include "runtime/guard.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_BYTES 400

/* ---- states ------------------------------------------------------------------------ */

struct rfn_plan_state *rfn_plan_state_create(void)
{
    struct rfn_plan_state *state = calloc(1, sizeof *state);
    if (state)
        state->refs = 1;
    return state;
}

void rfn_plan_state_drop(struct rfn_plan_state *state)
{
    if (state && atomic_fetch_sub(&state->refs, 1) == 1)
        free(state);
}

/* ---- checks ------------------------------------------------------------------------ */

static void say_plan(const struct rfn_plan_state *s, char *text, size_t bytes)
{
    int n = snprintf(text, bytes, "plan %" PRIu64, s->epoch);
    if (s->planned.file && s->planned.file[0] && n > 0 && (size_t)n < bytes)
        snprintf(text + n, bytes - (size_t)n, " (%.100s:%d)", s->planned.file,
                 s->planned.line);
}

/* 1 and a sentence when rows with this bucket leave out what was planned; `graph` NULL: of a
 * call. */
static int too_small(const struct rfn_plan_state *s, const struct rfn_bucket *bucket,
                     const char *graph, char *text, size_t bytes)
{
    char plan[160], whose[96] = "the bucket";
    if (!s->valid || (bucket->requests >= s->requests &&
                      (!s->requests || (bucket->next_n >= s->most_tokens &&
                                        (s->short_context || !bucket->short_context)))))
        return 0;
    say_plan(s, plan, sizeof plan);
    if (graph)
        snprintf(whose, sizeof whose, "graph \"%.64s\"", graph);
    if (bucket->requests < s->requests)
        snprintf(text, bytes, "%s has %d requests, but %s has rows for %d", plan,
                 s->requests, whose, bucket->requests);
    else if (bucket->next_n < s->most_tokens)
        snprintf(text, bytes,
                 "%s has %d query tokens of a request, but %s has rows for %d", plan,
                 s->most_tokens, whose, bucket->next_n);
    else
        snprintf(text, bytes, "%s has contexts past top-k, but %s is for short ones",
                 plan, whose);
    return 1;
}

/* 1 and a sentence when the lengths would be advanced twice. */
static int runs_again(const struct rfn_plan_state *s, int32_t updates, char *text,
                      size_t bytes)
{
    char plan[160];
    if (!s->valid || !s->advance || !updates || (s->ran != s->epoch && updates == 1))
        return 0;
    say_plan(s, plan, sizeof plan);
    snprintf(text, bytes,
             "%s advances the lengths once, but its update runs %s: the device would be "
             "ahead of what the host plans with",
             plan, updates > 1 ? "more than once in this graph" : "a second time");
    return 1;
}

static enum rfn_status stale(struct rfn_call_event *event, struct rfn_device *device,
                             const char *text)
{
    return rfn_call_refuse(event, device, RFN_NOTICE_STALE, RFN_INVALID, text);
}

enum rfn_status rfn_guard_plan(struct rfn_device *device,
                               const struct rfn_plan_state *state, int64_t believes,
                               int64_t has)
{
    struct rfn_call_event event;
    char text[TEXT_BYTES], plan[160];
    if (!state->valid || state->unfollowed || !state->advance ||
        state->ran == state->epoch)
        return RFN_OK;
    enum rfn_status status =
        rfn_call_begin(&event, device, RFN_CALL_attention_plan, NULL);
    if (status != RFN_OK)
        return status;
    say_plan(state, plan, sizeof plan);
    snprintf(text, sizeof text,
             "unchanged, but the update of %s, which advances the lengths, has not run: "
             "the host would go on with %" PRId64
             " tokens of request 0, the device with %" PRId64,
             plan, believes, has);
    return stale(&event, device, text);
}

/* ---- updates and forwards ------------------------------------------------------------ */

static int same_rows(const struct rfn_bucket *a, const struct rfn_bucket *b)
{
    /* One of no requests is run as one of one. */
    return (a->requests ? a->requests : 1) == (b->requests ? b->requests : 1) &&
           a->next_n == b->next_n;
}

static void say_rows(const struct rfn_bucket *forward, const struct rfn_bucket *update,
                     char *text, size_t bytes)
{
    snprintf(text, bytes, "forward of %d requests of %d, but the update was of %d of %d",
             forward->requests, forward->next_n, update->requests, update->next_n);
}

/* Into a capture of ours: noted in its body. 1: a sentence. */
static int record(struct rfn_body *body, struct rfn_plan_state *state,
                  const struct rfn_bucket *bucket, int update, enum rfn_status *ret,
                  char *text, size_t bytes)
{
    struct rfn_body_plan *p = body->plan;
    while (p && p->state != state)
        p = p->next;
    if (p && !update && !same_rows(&p->bucket, bucket))
    {
        say_rows(bucket, &p->bucket, text, bytes);
        return 1;
    }
    if (!p)
    {
        p = calloc(1, sizeof *p);
        if (!p)
        {
            *ret = RFN_FAIL(RFN_NOMEM, "no memory to note the plan of a capture");
            return 0;
        }
        atomic_fetch_add(&state->refs, 1);
        p->state = state;
        p->bucket = *bucket;
        p->bucket.short_context = 0;
        p->next = body->plan;
        body->plan = p;
    }
    if (update)
    {
        p->bucket.requests = bucket->requests;
        p->bucket.next_n = bucket->next_n;
        p->updates++;
    }
    else
        p->bucket.short_context |= bucket->short_context;
    return 0;
}

enum rfn_status rfn_guard_enqueue(struct rfn_device *device, struct rfn_stream *stream,
                                  struct rfn_plan_state *state,
                                  const struct rfn_bucket *bucket, int update,
                                  int *ret_runs)
{
    struct rfn_call_event event;
    char text[TEXT_BYTES];
    int wrong = 0;
    *ret_runs = 0;
    enum rfn_status status = rfn_object_of(stream, RFN_OBJECT_STREAM, "stream", device);
    if (status == RFN_OK)
        status = rfn_call_begin(
            &event, device,
            update ? RFN_CALL_attention_update : RFN_CALL_attention_forward, stream);
    if (status != RFN_OK)
        return status;
    if (event.before.status != RFN_CAPTURE_NONE)
    {
        pthread_mutex_lock(&device->lock);
        struct rfn_body *body = rfn_capture_find(device, &event);
        /* Who replays somebody else's graph does not say so here. */
        if (body && !body->foreign)
        {
            wrong = record(body, state, bucket, update, &status, text, sizeof text);
            if (update && state->recorder == stream)
                state->recorded_in = body->capture_id;
        }
        else
            state->unfollowed = 1;
        pthread_mutex_unlock(&device->lock);
    }
    else
    {
        *ret_runs = 1;
        struct rfn_bucket rows = *bucket;
        rows.short_context = update ? 0 : bucket->short_context;
        wrong = too_small(state, &rows, NULL, text, sizeof text) ||
                (update && runs_again(state, 1, text, sizeof text));
        if (!wrong && !update && state->updated.next_n &&
            !same_rows(&state->updated, bucket) && !state->unfollowed)
        {
            say_rows(bucket, &state->updated, text, sizeof text);
            wrong = 1;
        }
    }
    return wrong ? stale(&event, device, text) : status;
}

void rfn_guard_updated(struct rfn_plan_state *state, const struct rfn_bucket *bucket)
{
    state->ran = state->epoch;
    state->updated = *bucket;
}

/* ---- launches ------------------------------------------------------------------------ */

/* Updates of a plan in a graph, its children's too; the rows of one of them. */
static int32_t updates_of(const struct rfn_body *body, const struct rfn_plan_state *state,
                          const struct rfn_bucket **ret_rows)
{
    int32_t updates = 0;
    for (const struct rfn_body_plan *p = body->plan; p; p = p->next)
        if (p->state == state && p->updates)
        {
            updates += p->updates;
            *ret_rows = &p->bucket;
        }
    return updates;
}

enum rfn_status rfn_guard_launch(struct rfn_call_event *event, struct rfn_device *device,
                                 const struct rfn_body *body)
{
    char text[TEXT_BYTES];
    for (const struct rfn_body_plan *p = body->plan; p; p = p->next)
    {
        const struct rfn_plan_state *s = p->state;
        /* Where the graph has no update, the last one that ran is the forwards'. */
        const struct rfn_bucket *rows =
            s->updated.next_n && !s->unfollowed ? &s->updated : NULL;
        int32_t updates = updates_of(body, s, &rows);
        int wrong = too_small(s, &p->bucket, body->name, text, sizeof text) ||
                    runs_again(s, updates, text, sizeof text);
        if (!wrong && !p->updates && updates <= 1 && rows && !same_rows(rows, &p->bucket))
        {
            say_rows(&p->bucket, rows, text, sizeof text);
            wrong = 1;
        }
        if (wrong)
            return stale(event, device, text);
    }
    return RFN_OK;
}

void rfn_guard_launched(const struct rfn_exec *exec)
{
    for (const struct rfn_body_plan *p = exec->body->plan; p; p = p->next)
    {
        if (p->updates)
            rfn_guard_updated(p->state, &p->bucket);
        p->state->turn += p->records;
        p->state->uncounted |= p->records && exec->updated;
    }
}

void rfn_guard_takes(struct rfn_body *body, const struct rfn_plan_state *state)
{
    for (struct rfn_body_plan *p = body->plan; p; p = p->next)
        if (p->state == state)
            p->records = 1;
}

enum rfn_status rfn_guard_join(struct rfn_body *to, const struct rfn_body *from)
{
    for (const struct rfn_body_plan *p = from->plan; p; p = p->next)
    {
        struct rfn_body_plan *copy = malloc(sizeof *copy);
        if (!copy)
            return RFN_FAIL(RFN_NOMEM, "no memory for the plans of a child graph");
        *copy = *p;
        atomic_fetch_add(&copy->state->refs, 1);
        copy->next = to->plan;
        to->plan = copy;
    }
    return RFN_OK;
}

void rfn_guard_drop(struct rfn_body *body)
{
    while (body->plan)
    {
        struct rfn_body_plan *next = body->plan->next;
        rfn_plan_state_drop(body->plan->state);
        free(body->plan);
        body->plan = next;
    }
}

/* ---- tables -------------------------------------------------------------------------- */

/* The block table of a launch: 0 where it has none, or of one row. */
static int table_of(const struct rfn_op *op, const void *args, struct rfn_tensor *ret)
{
    for (uint32_t i = 0; i < op->operands; i++)
    {
        const struct rfn_operand *o = &op->operand[i];
        if (o->kind != RFN_OPERAND_TENSOR || strcmp(o->name, "table") || !o->shape ||
            strcmp(o->shape, "R,W"))
            continue;
        memcpy(ret, (const char *)args + o->offset, sizeof *ret);
        return ret->data && ret->dims == 2 && ret->shape[0] > 1;
    }
    return 0;
}

int rfn_guard_tables(const struct rfn_body *body, const struct rfn_op *op,
                     const void *args, int32_t but, char *text, size_t bytes)
{
    struct rfn_tensor t;
    if (!table_of(op, args, &t))
        return 0;
    for (int32_t i = 0; i < body->launches; i++)
    {
        const struct rfn_recorded *r = &body->launch[i];
        if (i == but || r->table != t.data || r->table_stride == t.stride[0])
            continue;
        snprintf(text, bytes,
                 "%s reads the table at %p with a row stride of %" PRId64
                 " elements, but %s was recorded with one of %" PRId64,
                 op->name, t.data, t.stride[0], r->op->name, r->table_stride);
        return 1;
    }
    return 0;
}

void rfn_guard_note_table(struct rfn_recorded *launch, const void *args)
{
    struct rfn_tensor t;
    launch->table = NULL;
    if (!table_of(launch->op, args, &t))
        return;
    launch->table = t.data;
    launch->table_stride = t.stride[0];
}
