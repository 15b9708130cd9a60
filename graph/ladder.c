#define RFN_NO_SITES
#include "graph/ladder.h"
#include "runtime/attention/attention.h"
#include "runtime/guard.h"
#include "runtime/range.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the buckets ------------------------------------------------------------------ */

#define DEFAULTS 32 /* the list below has 28 at most */

/* 1, 2, 4, 8, by 8 to 128, by 16 to 256, and the limit, whatever it is. */
static int32_t default_buckets(int32_t limit, int32_t bucket[DEFAULTS])
{
    int32_t n = 0;
    for (int32_t b = 1; b < limit && b <= 256; b += b < 8 ? b : b < 128 ? 8 : 16)
        bucket[n++] = b;
    bucket[n++] = limit;
    return n;
}

static enum rfn_status check_buckets(const struct rfn_ladder_desc *desc, int32_t limit)
{
    if (desc->buckets < (desc->bucket ? 1 : 0) || (!desc->bucket && desc->buckets))
        return RFN_FAIL(RFN_INVALID, "ladder_create: %d buckets at %p", desc->buckets,
                        (const void *)desc->bucket);
    for (int32_t i = 0; i < desc->buckets; i++)
    {
        int32_t before = i ? desc->bucket[i - 1] : 0;
        if (desc->bucket[i] <= before)
            return RFN_FAIL(RFN_INVALID,
                            "ladder_create: bucket %d is %d requests, where more than %d "
                            "are due: buckets rise",
                            i, desc->bucket[i], before);
        if (desc->bucket[i] > limit)
            return RFN_FAIL(RFN_INVALID,
                            "ladder_create: bucket %d is %d requests; the attention "
                            "object's limit is %d",
                            i, desc->bucket[i], limit);
    }
    return RFN_OK;
}

static enum rfn_status check_desc(const struct rfn_ladder_desc *desc,
                                  const struct rfn_attention_limits *limits)
{
    if (desc->next_n < 0 || desc->next_n > limits->next_n)
        return RFN_FAIL(RFN_INVALID,
                        "ladder_create: next_n is %d; the attention object's limit is %d",
                        desc->next_n, limits->next_n);
    if (desc->memory_bytes < 0)
        return RFN_FAIL(RFN_INVALID, "ladder_create: a budget of %" PRId64 " bytes",
                        desc->memory_bytes);
    if (desc->mode < RFN_CAPTURE_GLOBAL || desc->mode > RFN_CAPTURE_RELAXED)
        return RFN_FAIL(RFN_INVALID,
                        "ladder_create: capture mode is %d; known are %d to %d",
                        desc->mode, RFN_CAPTURE_GLOBAL, RFN_CAPTURE_RELAXED);
    return check_buckets(desc, limits->requests);
}

/* ---- life ------------------------------------------------------------------------- */

/* Executables of ours are no concern of what other threads capture in global mode, so the
 * thread steps out of the way while it makes or drops one. */
static int step_out(struct rfn_device *device, enum rfn_capture_mode *ret_mode)
{
    *ret_mode = RFN_CAPTURE_RELAXED;
    return rfn_thread_mode_exchange(device, ret_mode) == RFN_OK;
}

static void step_back(struct rfn_device *device, int stepped, enum rfn_capture_mode mode)
{
    if (stepped)
        rfn_thread_mode_exchange(device, &mode);
}

enum rfn_status rfn_ladder_create(struct rfn_attention *attention,
                                  const struct rfn_ladder_desc *desc,
                                  struct rfn_ladder **ret_ladder)
{
    if (!attention || !desc || !ret_ladder)
        return RFN_FAIL(RFN_INVALID, "ladder_create: %s is NULL",
                        !attention ? "attention"
                        : !desc    ? "desc"
                                   : "ret_ladder");
    const struct rfn_attention_limits *limits = &attention->limits;
    int32_t defaults[DEFAULTS];
    int32_t buckets = desc->buckets;
    const int32_t *bucket = desc->bucket;
    enum rfn_status status = check_desc(desc, limits);
    if (!status)
        status = rfn_outside_captures(attention->device, NULL, "ladder_create");
    if (status)
        return status;
    if (!bucket)
    {
        buckets = default_buckets(limits->requests, defaults);
        bucket = defaults;
    }

    struct rfn_ladder *l = calloc(1, sizeof *l);
    if (!l)
        return RFN_FAIL(RFN_NOMEM, "ladder_create: no memory for %zu bytes", sizeof *l);
    l->bucket = malloc((size_t)buckets * sizeof *l->bucket);
    l->rung = calloc((size_t)buckets, 2 * sizeof *l->rung);
    if (desc->reduce)
        l->vote = calloc(rfn_vote_values(buckets), sizeof *l->vote);
    if (!l->bucket || !l->rung || (desc->reduce && !l->vote))
    {
        status = RFN_FAIL(RFN_NOMEM, "ladder_create: no memory for %d buckets", buckets);
        goto free_ladder;
    }
    memcpy(l->bucket, bucket, (size_t)buckets * sizeof *bucket);
    l->buckets = l->info.buckets = buckets;
    l->attention = attention;
    l->device = attention->device;
    l->layers = attention->geometry.layers;
    l->next_n = desc->next_n ? desc->next_n : limits->next_n;
    l->record = desc->record;
    l->ctx = desc->ctx;
    l->reduce = desc->reduce;
    l->reduce_ctx = desc->reduce_ctx;
    l->mode = desc->mode ? desc->mode : RFN_CAPTURE_THREAD_LOCAL;
    l->budget_bytes = desc->memory_bytes;
    status = rfn_event_create(l->device, &l->done);
    if (status)
        goto free_ladder;
    status = rfn_stream_create(l->device, RFN_STREAM_NONBLOCKING, &l->stream);
    if (status)
        goto destroy_event;
    attention->ladders++;
    *ret_ladder = l;
    return RFN_OK;

destroy_event:
    rfn_event_destroy(&l->done);
free_ladder:
    free(l->vote);
    free(l->rung);
    free(l->bucket);
    free(l);
    return status;
}

static enum rfn_status drop(struct rfn_ladder *l, struct rfn_rung *rung)
{
    const struct rfn_exec *gone = rung->exec;
    rung->exec->of_ladder = 0;
    enum rfn_status status = rfn_exec_destroy(&rung->exec); /* waits for its launch */
    if (rung->exec)
    {
        rung->exec->of_ladder = 1;
        return status;
    }
    if (l->last == gone)
        l->last = NULL;
    l->info.graphs--;
    l->info.memory_bytes -= rung->bytes;
    rfn_image_destroy(&rung->image);
    *rung = (struct rfn_rung) { .captures = rung->captures };
    return status;
}

enum rfn_status rfn_ladder_destroy(struct rfn_ladder **ladder)
{
    if (!ladder)
        return RFN_FAIL(RFN_INVALID, "ladder_destroy: ladder is NULL");
    struct rfn_ladder *l = *ladder;
    if (!l)
        return RFN_OK;
    enum rfn_capture_mode mode;
    enum rfn_status status = RFN_OK;
    int lost = atomic_load(&l->device->lost);
    if (!lost)
        status = rfn_outside_captures(l->device, NULL, "ladder_destroy");
    if (status)
        return status;
    int stepped = step_out(l->device, &mode);
    if (!lost && l->astray)
        status = rfn_event_sync(l->done);
    l->astray = 0;
    for (int32_t i = 0; i < 2 * l->buckets && (!status || status == RFN_DEVICE); i++)
        if (l->rung[i].exec)
            status = drop(l, &l->rung[i]);
    step_back(l->device, stepped, mode);
    if (!status || status == RFN_DEVICE)
        status = rfn_event_destroy(&l->done);
    if (!status || status == RFN_DEVICE)
        status = rfn_stream_destroy(&l->stream);
    if (status && status != RFN_DEVICE)
        return status;
    l->attention->ladders--;
    free(l->vote);
    free(l->rung);
    free(l->bucket);
    free(l);
    *ladder = NULL;
    return RFN_OK;
}

struct rfn_exec *rfn_ladder_exec(struct rfn_ladder *ladder, int32_t i,
                                 struct rfn_bucket *ret_bucket)
{
    for (int32_t b = 0; ladder && i >= 0 && b < ladder->buckets; b++)
        for (int32_t s = 0; s < 2; s++)
        {
            struct rfn_exec *exec = rfn_ladder_rung(ladder, b, s)->exec;
            if (!exec || i-- > 0)
                continue;
            if (ret_bucket)
                *ret_bucket =
                    (struct rfn_bucket) { ladder->bucket[b], ladder->next_n, s };
            return exec;
        }
    return NULL;
}

enum rfn_status rfn_ladder_query(struct rfn_ladder *ladder,
                                 struct rfn_ladder_info *ret_info)
{
    if (!ladder || !ret_info)
        return RFN_FAIL(RFN_INVALID, "ladder_query: %s is NULL",
                        ladder ? "ret_info" : "ladder");
    *ret_info = ladder->info;
    return RFN_OK;
}

/* ---- preparing -------------------------------------------------------------------- */

static enum rfn_status record_layers(struct rfn_ladder *l,
                                     const struct rfn_bucket *bucket)
{
    enum rfn_status status = rfn_attention_update(l->attention, l->stream, bucket);
    for (int32_t i = 0; !status && i < l->layers; i++)
        status = rfn_attention_forward(l->attention, l->stream, i, bucket);
    return status;
}

/* A callback may fail without a word; then the line is ours. */
static enum rfn_status record(struct rfn_ladder *l, const struct rfn_bucket *bucket,
                              const char *name)
{
    char before[RFN_LINE_BYTES];
    if (!l->record)
        return record_layers(l, bucket);
    snprintf(before, sizeof before, "%s", rfn_last_error());
    enum rfn_status status = l->record(l->ctx, l->stream, bucket);
    if (status && !strcmp(before, rfn_last_error()))
        RFN_FAIL(status, "ladder_prepare: the record callback returned %d (%s) for %s",
                 status, rfn_status_name(status), name);
    return status;
}

/* The stream does not capture afterwards, whatever became of the capture. */
static void leave_capture(struct rfn_ladder *l)
{
    struct rfn_capture_info info = { RFN_CAPTURE_ACTIVE, 0 };
    if (rfn_capture_query(l->stream, &info) || info.status)
    {
        rfn_stream_destroy(&l->stream); /* an origin takes its capture along */
        l->stream = NULL;
    }
}

/* The first update on the ladder's stream takes records: whoever launches this graph, it goes
 * through the library. */
static enum rfn_status capture(struct rfn_ladder *l, const struct rfn_bucket *bucket,
                               const char *name, struct rfn_graph **ret_graph,
                               int *ret_takes)
{
    RFN_RANGE(RFN_RANGE_CAPTURE, bucket->requests, bucket->next_n, bucket->short_context);
    struct rfn_capture_desc desc = { l->mode, name };
    char line[RFN_LINE_BYTES];
    enum rfn_status status = RFN_OK;
    if (!l->stream)
        status = rfn_stream_create(l->device, RFN_STREAM_NONBLOCKING, &l->stream);
    if (!status)
        status = rfn_capture_begin(l->stream, &desc);
    if (status)
        return status;
    struct rfn_plan_state *state = l->attention->state;
    state->recorder = l->stream;
    enum rfn_status recorded = record(l, bucket, name);
    const int has_update = !state->recorder;
    state->recorder = NULL;
    if (!recorded)
        status = rfn_capture_end(l->stream, ret_graph);
    if (!recorded && !status)
    {
        *ret_takes = has_update && state->recorded_in == (*ret_graph)->body->capture_id;
        return RFN_OK;
    }

    /* What follows must not talk over what went wrong. */
    int code = rfn_last_code();
    snprintf(line, sizeof line, "%s", rfn_last_error());
    if (recorded)
    {
        struct rfn_graph *graph = NULL;
        status = recorded;
        if (!rfn_capture_end(l->stream, &graph))
            rfn_graph_destroy(&graph);
    }
    leave_capture(l);
    return rfn_error_at(NULL, 0, status, code, "%s", line);
}

static int64_t free_bytes(struct rfn_device *device)
{
    struct rfn_device_info info = { 0 };
    rfn_device_query(device, &info);
    return info.kind == RFN_DEVICE_CUDA ? info.memory_free_bytes : 0;
}

/* Makes the executable, says what it takes, and puts it where it runs. */
static enum rfn_status instantiate(struct rfn_ladder *l, struct rfn_graph *graph,
                                   const char *name, struct rfn_rung *ret_rung)
{
    struct rfn_graph_info info;
    enum rfn_status status = rfn_graph_query(graph, &info);
    if (status)
        return status;
    if (!info.nodes)
        return RFN_FAIL(RFN_INVALID,
                        "ladder_prepare: nothing was recorded into %s: does the record "
                        "callback use the stream that it is given?",
                        name);
    int64_t before = free_bytes(l->device);
    ret_rung->bytes = info.nodes * (int64_t)RFN_LADDER_NODE_BYTES;
    status = rfn_graph_instantiate(graph, &ret_rung->exec);
    if (!status)
        status = rfn_exec_upload(ret_rung->exec, l->stream);
    if (!status)
        status = rfn_stream_sync(l->stream);
    if (status == RFN_NOMEM)
        return rfn_error_at(__FILE__, __LINE__, RFN_NOMEM, rfn_last_code(),
                            "ladder_prepare: %s has %d nodes, which take about %" PRId64
                            " bytes; %" PRId64 " are free",
                            name, info.nodes, ret_rung->bytes, before);
    int64_t taken = before - free_bytes(l->device);
    if (!status && taken > 0)
        l->info.driver_bytes += taken;
    return status;
}

/* Tells a checker of the graph that was just made. */
static void notice(struct rfn_ladder *l, const struct rfn_rung *rung,
                   enum rfn_notice what, const char *text)
{
    struct rfn_call_event event;
    if (rfn_call_begin(&event, l->device, RFN_CALL_ladder_prepare, NULL) != RFN_OK)
        return;
    event.site = l->site;
    event.graph_id = rung->exec->body->capture_id;
    rfn_call_notice(&event, l->device, what, RFN_OK, text);
}

static void over_budget(struct rfn_ladder *l, const struct rfn_rung *rung,
                        const char *name)
{
    char text[192];
    snprintf(text, sizeof text,
             "the graph of %s takes %" PRId64 " bytes; the ladder's budget is %" PRId64,
             name, rung->bytes, l->budget_bytes);
    notice(l, rung, RFN_NOTICE_BUDGET, text);
}

static void look_for_churn(struct rfn_ladder *l, const struct rfn_rung *rung,
                           const char *name)
{
    char text[224];
    if (rung->captures <= RFN_LADDER_CAPTURES)
        return;
    snprintf(
        text, sizeof text,
        "%s is captured for the %dth time: %d graphs went to keep a budget of %" PRId64
        " bytes",
        name, rung->captures, l->info.evictions, l->budget_bytes);
    notice(l, rung, RFN_NOTICE_CHURN, text);
}

/* Makes room under the budget for `bytes` more. */
static enum rfn_status evict(struct rfn_ladder *l, int64_t bytes, const char *name)
{
    if (!l->budget_bytes)
        return RFN_OK;
    if (bytes > l->budget_bytes)
        return RFN_FAIL(RFN_LIMIT,
                        "ladder_prepare: %s alone takes %" PRId64
                        " bytes; the budget is %" PRId64,
                        name, bytes, l->budget_bytes);
    while (l->info.memory_bytes + bytes > l->budget_bytes)
    {
        struct rfn_rung *oldest = NULL;
        for (int32_t i = 0; i < 2 * l->buckets; i++)
            if (l->rung[i].exec && (!oldest || l->rung[i].used < oldest->used))
                oldest = &l->rung[i];
        enum rfn_status status = drop(l, oldest);
        if (status)
            return status;
        l->info.evictions++;
    }
    return RFN_OK;
}

/* What ranks compare. */
static enum rfn_status sign(struct rfn_graph *graph, struct rfn_rung *rung)
{
    enum rfn_status status = rfn_image_of(graph, NULL, &rung->image);
    return status ? status : rfn_image_signature(rung->image, &rung->signature);
}

static enum rfn_status prepare(struct rfn_ladder *l, const struct rfn_bucket *bucket,
                               struct rfn_rung *rung)
{
    char name[RFN_BUCKET_CHARS];
    struct rfn_graph *graph = NULL;
    struct rfn_rung made = { 0 };
    enum rfn_capture_mode mode;
    rfn_bucket_name(name, bucket);
    enum rfn_status status = capture(l, bucket, name, &graph, &made.takes);
    if (status)
        return status;
    int stepped = step_out(l->device, &mode);
    status = instantiate(l, graph, name, &made);
    if (!status && made.takes)
        rfn_guard_takes(made.exec->body, l->attention->state);
    if (!status && l->reduce)
        status = sign(graph, &made);
    rfn_graph_destroy(&graph); /* the executable holds what it needs */
    if (!status && l->budget_bytes && made.bytes > l->budget_bytes)
        over_budget(l, &made, name);
    if (!status)
        status = evict(l, made.bytes, name);
    if (status)
    {
        rfn_exec_destroy(&made.exec);
        rfn_image_destroy(&made.image);
    }
    step_back(l->device, stepped, mode);
    if (status)
        return status;
    made.exec->of_ladder = 1;
    made.used = ++l->clock;
    made.captures = rung->captures + 1;
    *rung = made;
    look_for_churn(l, rung, name);
    l->info.graphs++;
    l->info.captures++;
    l->info.memory_bytes += made.bytes;
    return RFN_OK;
}

enum rfn_status rfn_ladder_prepare(struct rfn_ladder *ladder, int32_t requests,
                                   int32_t short_context)
{
    if (!ladder)
        return RFN_FAIL(RFN_INVALID, "ladder_prepare: ladder is NULL");
    struct rfn_ladder *l = ladder;
    l->site = rfn_site_here();
    if (requests < 0)
        return RFN_FAIL(RFN_INVALID, "ladder_prepare: %d requests", requests);
    int32_t b = 0;
    while (b < l->buckets && l->bucket[b] < requests)
        b++;
    if (b == l->buckets)
        return RFN_FAIL(RFN_LIMIT,
                        "ladder_prepare: %d requests; the largest bucket is %d", requests,
                        l->bucket[b - 1]);
    enum rfn_status status = rfn_outside_captures(l->device, NULL, "ladder_prepare");
    struct rfn_rung *rung = rfn_ladder_rung(l, b, short_context != 0);
    if (status || rung->exec)
        return status;
    struct rfn_bucket bucket = { l->bucket[b], l->next_n, short_context != 0 };
    return prepare(l, &bucket, rung);
}
