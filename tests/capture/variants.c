/* Each rule in each form it comes in: refused or let pass, by kind and mode of the capture.
 * What a finding says of the capture is compared with what the device says of it. Exactly one
 * rule fires, the one that comes first where several could. */
#include "tests/capture/step.h"

/* How a variant is seen. */
enum
{
    AT_ONCE,
    AT_END,    /* by CAP034 */
    ELSEWHERE, /* another thread makes the call */
};

struct variant
{
    const char *name;
    enum rfn_rule rule;
    enum rfn_stream_kind kind; /* of the capturing stream */
    enum rfn_capture_mode mode;
    enum rfn_status (*call)(struct step *s, struct rfn_stream *capturing);
    int code;
    int seen;
};

static struct rfn_graph *ready;
static struct rfn_exec *exec;
static struct rfn_kv_pack_args cache;
static void *contiguous, *fresh; /* as large as the pool; allocated in a capture */

static void nothing(void *user)
{
    (void)user;
}

#define CALL(name, expression)                                                           \
    static enum rfn_status name(struct step *s, struct rfn_stream *capturing)            \
    {                                                                                    \
        (void)s;                                                                         \
        (void)capturing;                                                                 \
        return expression;                                                               \
    }

static int32_t pageable[STEP_ROWS * STEP_TOP];

static int64_t pool_bytes(void)
{
    return STEP_PAGES * rfn_format_page_bytes(RFN_LATENT_FP8_656, STEP_PAGE_TOKENS);
}

static struct rfn_stream *legacy(struct step *s)
{
    return rfn_stream_legacy(s->device);
}

CALL(sync_own, rfn_stream_sync(capturing))
CALL(sync_side, rfn_stream_sync(s->side))
CALL(sync_legacy, rfn_stream_sync(legacy(s)))
CALL(sync_event, rfn_event_sync(s->fork)) /* recorded before the capture */
CALL(sync_device, rfn_device_sync(s->device))
CALL(query_own, rfn_stream_query(capturing))
CALL(query_side, rfn_stream_query(s->side))
CALL(query_legacy, rfn_stream_query(legacy(s)))
CALL(query_event, rfn_event_query(s->fork))
CALL(copy_sync, rfn_copy_sync(s->device, s->host_lens, s->lens, STEP_LENS_BYTES))
CALL(set_sync, rfn_set_sync(s->device, s->lens, 0, STEP_LENS_BYTES))
CALL(alloc, rfn_memory_alloc(s->device, RFN_MEMORY_PINNED, 64, &fresh))
CALL(free_nothing, rfn_memory_free(s->device, NULL))
CALL(instantiate, rfn_graph_instantiate(ready, &exec))
CALL(launch_own, rfn_exec_launch(exec, capturing))
CALL(launch_legacy, rfn_exec_launch(exec, legacy(s)))
CALL(destroy_exec, rfn_exec_destroy(&exec))
CALL(begin_legacy, rfn_capture_begin(legacy(s), NULL))
CALL(record_legacy, rfn_event_record(s->join, legacy(s), 0))
CALL(child_legacy, rfn_capture_add_child(legacy(s), ready))
CALL(wait_outside, rfn_stream_wait(capturing, s->fork, 0))

CALL(scalar_sync, rfn_copy_sync(s->device, s->pick.table.data, pageable, 16))
CALL(scalar_node, rfn_copy_async(capturing, s->lens, pageable, 4))
CALL(scalar_side, rfn_copy_async(s->side, s->lens, pageable, 4))
CALL(scalar_legacy, rfn_copy_async(legacy(s), s->lens, pageable, 4))
CALL(sync_17, rfn_copy_sync(s->device, s->pick.table.data, pageable, 17))
CALL(from_pageable, rfn_copy_async(capturing, s->pick.table.data, pageable, 17))
CALL(to_pageable, rfn_copy_async(capturing, pageable, s->lens, STEP_LENS_BYTES))
CALL(both_pageable, rfn_copy_async(capturing, pageable, pageable + 8, 8))
CALL(cache_out, rfn_copy_async(capturing, contiguous, cache.pool.data, pool_bytes()))
CALL(cache_in, rfn_copy_async(capturing, cache.pool.data, contiguous, pool_bytes()))
CALL(legacy_op, rfn_index_topk(legacy(s), &s->pick))
CALL(legacy_set, rfn_set_async(legacy(s), s->lens, 0, STEP_LENS_BYTES))
CALL(legacy_call, rfn_host_call(legacy(s), nothing, NULL))
CALL(side_op, rfn_index_topk(s->side, &s->pick))
CALL(side_copy, rfn_copy_async(s->side, s->lens, s->host_lens, STEP_LENS_BYTES))
CALL(side_pageable, rfn_copy_async(s->side, pageable, s->lens, STEP_LENS_BYTES))
CALL(side_set, rfn_set_async(s->side, s->lens, 0, STEP_LENS_BYTES))
CALL(side_host_call, rfn_host_call(s->side, nothing, NULL))

static enum rfn_status from_stack(struct step *s, struct rfn_stream *capturing)
{
    char table[17] = "";
    return rfn_copy_async(capturing, s->pick.table.data, table, sizeof table);
}

/* The copy came before the launch that tells that it was a cache. */
static enum rfn_status cache_later(struct step *s, struct rfn_stream *capturing)
{
    struct rfn_kv_pack_args packed = cache;
    enum rfn_status status =
        rfn_copy_async(capturing, contiguous, cache.pool.data, pool_bytes() / 2);
    packed.pool.data = contiguous;
    packed.pool.pages = STEP_PAGES / 2;
    WORKS(s, rfn_kv_pack(capturing, &packed));
    return status;
}

static enum rfn_status captured(struct step *s, struct rfn_stream *capturing,
                                enum rfn_status (*call)(struct rfn_event *event))
{
    WORKS(s, rfn_event_record(s->join, capturing, 0));
    return call(s->join);
}

static enum rfn_status elapsed(struct rfn_event *event)
{
    float ms;
    return rfn_event_elapsed(event, event, &ms);
}

CALL(sync_captured, captured(s, capturing, (rfn_event_sync)))
CALL(query_captured, captured(s, capturing, (rfn_event_query)))
CALL(elapsed_captured, captured(s, capturing, elapsed))

static enum rfn_status legacy_wait(struct step *s, struct rfn_stream *capturing)
{
    WORKS(s, rfn_event_record(s->join, capturing, 0));
    return rfn_stream_wait(legacy(s), s->join, 0);
}

static enum rfn_status end_member(struct step *s, struct rfn_stream *capturing)
{
    struct rfn_graph *graph = NULL;
    WORKS(s, rfn_event_record(s->join, capturing, 0));
    WORKS(s, rfn_stream_wait(s->side, s->join, 0));
    return rfn_capture_end(s->side, &graph);
}

#define NB RFN_STREAM_NONBLOCKING
#define BL RFN_STREAM_BLOCKING
#define PT RFN_STREAM_PER_THREAD
#define GLOBAL RFN_CAPTURE_GLOBAL
#define LOCAL RFN_CAPTURE_THREAD_LOCAL
#define RELAXED RFN_CAPTURE_RELAXED

static const struct variant variants[] = {
    { "own stream", RFN_CAP001, NB, GLOBAL, sync_own, 900, AT_ONCE },
    { "own stream, relaxed", RFN_CAP001, NB, RELAXED, sync_own, 900, AT_ONCE },
    { "side stream", RFN_CAP001, NB, LOCAL, sync_side, 900, AT_ONCE },
    { "side stream, relaxed", RFN_CAP001, NB, RELAXED, sync_side, 0, AT_ONCE },
    { "legacy stream, blocking", RFN_CAP001, BL, RELAXED, sync_legacy, 906, AT_ONCE },
    { "event", RFN_CAP001, NB, GLOBAL, sync_event, 900, AT_ONCE },
    { "event, relaxed", RFN_CAP001, BL, RELAXED, sync_event, 0, AT_ONCE },
    { "device", RFN_CAP001, NB, RELAXED, sync_device, 900, AT_ONCE },
    { "copy", RFN_CAP002, NB, GLOBAL, copy_sync, 0, AT_ONCE },
    { "copy of 17 bytes", RFN_CAP002, NB, GLOBAL, sync_17, 0, AT_ONCE },
    { "copy, blocking", RFN_CAP002, BL, GLOBAL, copy_sync, 906, AT_ONCE },
    { "set", RFN_CAP002, NB, LOCAL, set_sync, 0, AT_ONCE },
    { "set, blocking", RFN_CAP002, BL, RELAXED, set_sync, 906, AT_ONCE },
    { "from pageable", RFN_CAP003, NB, GLOBAL, from_pageable, 0, AT_ONCE },
    { "side op", RFN_CAP004, NB, LOCAL, side_op, 0, AT_ONCE },
    { "side copy", RFN_CAP004, BL, GLOBAL, side_copy, 0, AT_ONCE },
    { "side copy, pageable", RFN_CAP004, NB, GLOBAL, side_pageable, 0, AT_ONCE },
    { "side set", RFN_CAP004, NB, GLOBAL, side_set, 0, AT_ONCE },
    { "side host call", RFN_CAP004, NB, RELAXED, side_host_call, 0, AT_ONCE },
    { "allocation", RFN_CAP009, NB, LOCAL, alloc, 900, AT_ONCE },
    { "allocation, relaxed", RFN_CAP009, NB, RELAXED, alloc, 0, AT_ONCE },
    { "free of NULL", RFN_CAP009, PT, GLOBAL, free_nothing, 900, AT_ONCE },
    { "elsewhere: allocation", RFN_CAP010, NB, GLOBAL, alloc, 900, ELSEWHERE },
    { "elsewhere: beside per-thread", RFN_CAP010, PT, GLOBAL, alloc, 900, ELSEWHERE },
    { "elsewhere: own stream", RFN_CAP010, NB, LOCAL, sync_own, 900, ELSEWHERE },
    { "elsewhere: query", RFN_CAP010, NB, GLOBAL, query_side, 900, ELSEWHERE },
    { "elsewhere: event query", RFN_CAP010, BL, GLOBAL, query_event, 900, ELSEWHERE },
    { "elsewhere: device", RFN_CAP010, NB, RELAXED, sync_device, 900, ELSEWHERE },
    { "elsewhere: copy, blocking", RFN_CAP010, BL, LOCAL, copy_sync, 906, ELSEWHERE },
    { "elsewhere: op, blocking", RFN_CAP010, BL, LOCAL, legacy_op, 906, ELSEWHERE },
    { "elsewhere: destroy", RFN_CAP010, NB, GLOBAL, destroy_exec, 900, ELSEWHERE },
    { "elsewhere: captured event", RFN_CAP011, NB, GLOBAL, sync_captured, 907,
      ELSEWHERE },
    { "captured event, relaxed", RFN_CAP011, NB, RELAXED, sync_captured, 907, AT_ONCE },
    { "query of a captured event", RFN_CAP011, BL, GLOBAL, query_captured, 907, AT_ONCE },
    { "time of a captured event", RFN_CAP011, NB, GLOBAL, elapsed_captured, 907,
      AT_ONCE },
    { "legacy op", RFN_CAP012, NB, GLOBAL, legacy_op, 0, AT_ONCE },
    { "legacy op, blocking", RFN_CAP012, BL, RELAXED, legacy_op, 906, AT_ONCE },
    { "legacy op, per-thread", RFN_CAP012, PT, RELAXED, legacy_op, 906, AT_ONCE },
    { "legacy set", RFN_CAP012, NB, LOCAL, legacy_set, 0, AT_ONCE },
    { "legacy host call", RFN_CAP012, NB, LOCAL, legacy_call, 0, AT_ONCE },
    { "legacy wait", RFN_CAP012, NB, GLOBAL, legacy_wait, 906, AT_ONCE },
    { "legacy record", RFN_CAP012, BL, GLOBAL, record_legacy, 906, AT_ONCE },
    { "legacy query", RFN_CAP012, BL, RELAXED, query_legacy, 906, AT_ONCE },
    { "legacy launch", RFN_CAP012, BL, LOCAL, launch_legacy, 906, AT_ONCE },
    { "legacy begin", RFN_CAP012, BL, LOCAL, begin_legacy, 906, AT_ONCE },
    { "legacy child", RFN_CAP012, BL, LOCAL, child_legacy, 906, AT_ONCE },
    { "event from outside", RFN_CAP015, NB, RELAXED, wait_outside, 905, AT_ONCE },
    { "from the stack", RFN_CAP023, NB, GLOBAL, from_stack, 0, AT_ONCE },
    { "to pageable", RFN_CAP024, NB, GLOBAL, to_pageable, 0, AT_ONCE },
    { "to pageable, blocking", RFN_CAP024, BL, RELAXED, to_pageable, 0, AT_ONCE },
    { "pageable to pageable", RFN_CAP024, NB, GLOBAL, both_pageable, 0, AT_ONCE },
    { "query of own stream", RFN_CAP034, NB, RELAXED, query_own, 900, AT_END },
    { "query of side stream", RFN_CAP034, NB, LOCAL, query_side, 900, AT_END },
    { "event query", RFN_CAP034, NB, GLOBAL, query_event, 900, AT_END },
    { "legacy query, non-blocking", RFN_CAP034, NB, GLOBAL, query_legacy, 900, AT_END },
    { "instantiation", RFN_CAP034, NB, GLOBAL, instantiate, 900, AT_END },
    { "launch on it", RFN_CAP034, NB, RELAXED, launch_own, 900, AT_END },
    { "executable destroyed", RFN_CAP034, NB, LOCAL, destroy_exec, 900, AT_END },
    { "end on a member", RFN_CAP034, NB, GLOBAL, end_member, 903, AT_END },
    { "cache out", RFN_CAP056, NB, GLOBAL, cache_out, 0, AT_ONCE },
    { "cache in", RFN_CAP056, NB, GLOBAL, cache_in, 0, AT_ONCE },
    { "cache known later", RFN_CAP056, NB, GLOBAL, cache_later, 0, AT_ONCE },
    { "scalar", RFN_CAP057, NB, GLOBAL, scalar_sync, 0, AT_ONCE },
    { "scalar, blocking", RFN_CAP057, BL, GLOBAL, scalar_sync, 906, AT_ONCE },
    { "scalar node", RFN_CAP057, NB, GLOBAL, scalar_node, 0, AT_ONCE },
    { "scalar, side stream", RFN_CAP057, NB, GLOBAL, scalar_side, 0, AT_ONCE },
    { "scalar, legacy stream", RFN_CAP057, NB, GLOBAL, scalar_legacy, 0, AT_ONCE },
};

struct elsewhere
{
    struct step *s;
    const struct variant *v;
    struct rfn_stream *capturing;
    enum rfn_status status;
    int code;
};

static void *call_elsewhere(void *arg)
{
    struct elsewhere *e = arg;
    e->status = e->v->call(e->s, e->capturing);
    e->code = e->status == RFN_OK ? 0 : rfn_last_code();
    return NULL;
}

static void call(struct elsewhere *e)
{
    if (e->v->seen == ELSEWHERE)
        step_elsewhere(e->s, call_elsewhere, e);
    else
        call_elsewhere(e);
}

static void check_finding(struct step *s, const struct variant *v, int32_t i, int code,
                          uint64_t id, enum rfn_capture_status status)
{
    struct rfn_finding f = { .why = "" };
    WORKS(s, rfn_check_finding(s->check, i, &f));
    harness_check(&s->h, v->name, f.rule == v->rule, "%s", rfn_rule_query(f.rule)->id);
    harness_check(&s->h, v->name, f.code == code, "finding has code %d", f.code);
    harness_check(&s->h, v->name, f.capture_id == id, "capture %llu, not %llu",
                  (unsigned long long)f.capture_id, (unsigned long long)id);
    harness_check(&s->h, v->name, f.status_after == status,
                  "the finding says status %d, the device %d", (int)f.status_after,
                  (int)status);
    harness_check(&s->h, v->name, !code || f.driver[0], "the device said nothing");
    harness_check(&s->h, v->name, strstr(f.why, v->name) != NULL, "%s", f.why);
    harness_check(&s->h, v->name, f.line > 0 && !strcmp(f.file, __FILE__), "%s", f.file);
}

static void run(struct step *s, const struct variant *v)
{
    struct rfn_capture_desc desc = { v->mode, v->name };
    struct rfn_stream *capturing = rfn_stream_per_thread(s->device);
    struct rfn_graph *graph = NULL;
    struct rfn_capture_info during = { RFN_CAPTURE_NONE, 0 }, after = during;
    struct elsewhere e = { .s = s, .v = v };
    if (v->kind != PT)
        WORKS(s, rfn_stream_create(s->device, v->kind, &capturing));
    WORKS(s, rfn_event_record(s->fork, s->side, 0));
    int32_t before = rfn_check_count(s->check);
    /* A site each: past eight captures findings of one site are one. */
    rfn_site_note(__FILE__, 1000 + (int)(v - variants));
    WORKS(s, (rfn_capture_begin)(capturing, &desc));
    WORKS(s, rfn_capture_query(capturing, &during));
    int32_t begun = rfn_check_count(s->check);
    harness_check(&s->h, v->name, begun == before + (v->kind != NB), "%d at the begin",
                  begun - before);

    e.capturing = capturing;
    call(&e);
    WORKS(s, rfn_capture_query(capturing, &after));
    harness_check(&s->h, v->name, e.code == v->code, "code %d, not %d: %s", e.code,
                  v->code, rfn_last_error());
    int32_t count = rfn_check_count(s->check);
    int32_t want = begun + (v->seen != AT_END);
    if (harness_check(&s->h, v->name, count == want, "%d findings, not %d", count - begun,
                      want - begun) &&
        v->seen != AT_END)
        check_finding(s, v, begun, e.code, during.id, after.status);

    enum rfn_status status = rfn_capture_end(capturing, &graph);
    harness_check(&s->h, v->name,
                  (status == RFN_OK) == (after.status == RFN_CAPTURE_ACTIVE),
                  "the end: %s", rfn_status_name(status));
    count = rfn_check_count(s->check);
    if (harness_check(&s->h, v->name, count == begun + 1, "%d findings at the end",
                      count - begun) &&
        v->seen == AT_END)
        check_finding(s, v, begun, e.code, during.id, RFN_CAPTURE_NONE);
    WORKS(s, rfn_graph_destroy(&graph));
    if (v->kind != PT)
        WORKS(s, rfn_stream_destroy(&capturing));
    WORKS(s, rfn_memory_free(s->device, fresh));
    fresh = NULL;
}

int main(int argc, char **argv)
{
    struct step s;
    if (!step_open(&s, "variants", &argc, argv))
        return step_close(&s);
    cache = step_cache(&s);
    WORKS(&s, rfn_memory_alloc(s.device, RFN_MEMORY_DEVICE, pool_bytes(), &contiguous));
    WORKS(&s, rfn_kv_pack(s.stream, &cache));
    WORKS(&s, rfn_capture_begin(s.stream, NULL));
    WORKS(&s, rfn_index_topk(s.stream, &s.pick));
    WORKS(&s, rfn_capture_end(s.stream, &ready));
    WORKS(&s, rfn_graph_instantiate(ready, &exec));
    for (size_t i = 0; i < sizeof variants / sizeof variants[0] && !s.h.failed; i++)
        run(&s, &variants[i]);

    WORKS(&s, rfn_exec_destroy(&exec));
    WORKS(&s, rfn_graph_destroy(&ready));
    WORKS(&s, rfn_memory_free(s.device, contiguous));
    step_cache_free(&s, &cache);
    return step_close(&s);
}
