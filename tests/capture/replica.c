/* One case: the order of events is the probe's (probe_case.c). */
#include "tests/capture/replica.h"

#include "tests/capture/replica_env.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const replica_relation_name[REPLICA_RELATIONS] = {
    "same",   "same_blocking",   "joined", "other",          "per_thread",
    "legacy", "legacy_blocking", "thread", "thread_relaxed", "self_relaxed",
};
const char *const replica_mode_name[3] = { "global", "thread_local", "relaxed" };

static const char *const node_name[RFN_NODE_TYPES] = {
    "kernel", "memcpy", "memset", "host", "child", "eventRecord", "eventWait", "empty",
};

int replica_code(enum rfn_status status)
{
    if (status == RFN_OK)
        return 0;
    return rfn_last_code() ? rfn_last_code() : 1;
}

int replica_fork(struct replica_env *e, struct rfn_stream *to)
{
    int code = replica_code(rfn_event_record(e->join, e->origin, 0));
    return code ? code : replica_code(rfn_stream_wait(to, e->join, 0));
}

static const struct replica_call *find(const char *id)
{
    for (const struct replica_call *c = replica_calls; c->id; c++)
        if (strcmp(c->id, id) == 0)
            return c;
    return NULL;
}

int replica_knows(const char *id)
{
    return find(id) != NULL;
}

const char *replica_id(int i)
{
    return replica_calls[i].id;
}

static void must(enum rfn_status status)
{
    if (status != RFN_OK)
    {
        fprintf(stderr, "replica: %s\n", rfn_last_error());
        abort();
    }
}

static void env_open(struct replica_env *e)
{
    struct rfn_device *d = e->device;
    int blocking =
        e->relation == REPLICA_SAME_BLOCKING || e->relation == REPLICA_LEGACY_BLOCKING;
    must(rfn_stream_create(d, blocking ? RFN_STREAM_BLOCKING : RFN_STREAM_NONBLOCKING,
                           &e->origin));
    must(rfn_stream_create(d, RFN_STREAM_NONBLOCKING, &e->side));
    must(rfn_stream_create(d, RFN_STREAM_NONBLOCKING, &e->idle));
    must(rfn_stream_create(d, RFN_STREAM_NONBLOCKING, &e->extra));
    must(rfn_event_create(d, &e->event));
    must(rfn_event_create(d, &e->event2));
    must(rfn_event_create(d, &e->join));
    must(rfn_event_create(d, &e->rejoin));
    must(rfn_memory_alloc(d, RFN_MEMORY_DEVICE, REPLICA_BYTES, (void **)&e->dev_src));
    must(rfn_memory_alloc(d, RFN_MEMORY_DEVICE, REPLICA_BYTES, (void **)&e->dev_dst));
    must(rfn_memory_alloc(d, RFN_MEMORY_PINNED, REPLICA_BYTES, (void **)&e->pin_src));
    must(rfn_memory_alloc(d, RFN_MEMORY_PINNED, REPLICA_BYTES, (void **)&e->pin_dst));
    const int32_t marks[20] = { [4] = 1, [12] = REPLICA_WORD, [16] = REPLICA_WORD + 1 };
    must(rfn_memory_alloc(d, RFN_MEMORY_DEVICE, sizeof marks, (void **)&e->marks));
    must(rfn_copy_sync(d, e->marks, marks, sizeof marks));
    e->page_src = malloc(REPLICA_BYTES);
    e->page_dst = calloc(1, REPLICA_BYTES);
    if (!e->page_src || !e->page_dst)
        abort();
    memset(e->page_src, REPLICA_BYTE, REPLICA_BYTES);
    memset(e->pin_src, REPLICA_BYTE, REPLICA_BYTES);
    memset(e->pin_dst, 0, REPLICA_BYTES);
    must(rfn_set_sync(d, e->dev_src, REPLICA_BYTE, REPLICA_BYTES));
    must(rfn_set_sync(d, e->dev_dst, 0, REPLICA_BYTES));
    switch (e->relation)
    {
    case REPLICA_SAME:
    case REPLICA_SAME_BLOCKING:
        e->stream = e->origin;
        break;
    case REPLICA_PER_THREAD:
        e->stream = rfn_stream_per_thread(d);
        break;
    case REPLICA_LEGACY:
    case REPLICA_LEGACY_BLOCKING:
        e->stream = rfn_stream_legacy(d);
        break;
    default:
        e->stream = e->side;
    }
}

static enum rfn_capture_status capture_status(struct rfn_stream *stream)
{
    struct rfn_capture_info info;
    if (rfn_capture_query(stream, &info) != RFN_OK)
        return RFN_CAPTURE_NONE;
    return info.status;
}

/* Ends whatever is still open. */
static void end_captures(struct replica_env *e)
{
    struct rfn_stream *stream[] = {
        e->origin, e->second, e->extra, e->side, e->idle, rfn_stream_per_thread(e->device)
    };
    for (int i = 0; i < 6; i++)
    {
        struct rfn_graph *graph = NULL;
        if (stream[i] && capture_status(stream[i]) != RFN_CAPTURE_NONE)
            rfn_capture_end(stream[i], &graph);
        must(rfn_graph_destroy(&graph));
    }
}

static void env_close(struct replica_env *e)
{
    must(rfn_exec_destroy(&e->exec));
    must(rfn_graph_destroy(&e->graph));
    must(rfn_event_destroy(&e->event));
    must(rfn_event_destroy(&e->event2));
    must(rfn_event_destroy(&e->join));
    must(rfn_event_destroy(&e->rejoin));
    must(rfn_event_destroy(&e->made_event));
    must(rfn_stream_destroy(&e->origin));
    must(rfn_stream_destroy(&e->side));
    must(rfn_stream_destroy(&e->idle));
    must(rfn_stream_destroy(&e->extra));
    must(rfn_stream_destroy(&e->made_stream));
    must(rfn_memory_free(e->device, e->dev_src));
    must(rfn_memory_free(e->device, e->dev_dst));
    must(rfn_memory_free(e->device, e->pin_src));
    must(rfn_memory_free(e->device, e->pin_dst));
    must(rfn_memory_free(e->device, e->ptr));
    must(rfn_memory_free(e->device, e->marks));
    free(e->page_src);
    free(e->page_dst);
}

struct worker
{
    struct replica_env *env;
    int code;
};

static void *work(void *user)
{
    struct worker *w = user;
    enum rfn_capture_mode mode = RFN_CAPTURE_RELAXED;
    if (w->env->relation == REPLICA_THREAD_RELAXED)
        rfn_thread_mode_exchange(w->env->device, &mode);
    w->code = w->env->call->run(w->env);
    return NULL;
}

static int make_call(struct replica_env *e)
{
    enum rfn_capture_mode mode = RFN_CAPTURE_RELAXED;
    if (e->relation == REPLICA_THREAD || e->relation == REPLICA_THREAD_RELAXED)
    {
        struct worker w = { e, -1 };
        pthread_t thread;
        if (pthread_create(&thread, NULL, work, &w) != 0)
            abort();
        pthread_join(thread, NULL);
        return w.code;
    }
    if (e->relation == REPLICA_SELF_RELAXED)
        must(rfn_thread_mode_exchange(e->device, &mode));
    int code = e->call->run(e);
    mode = RFN_CAPTURE_GLOBAL;
    must(rfn_thread_mode_exchange(e->device, &mode));
    return code;
}

static void put_status(struct rfn_stream *stream, char *ret, size_t bytes)
{
    static const char *const name[] = { "none", "active", "invalidated" };
    struct rfn_capture_info info;
    int code = replica_code(rfn_capture_query(stream, &info));
    if (code)
        snprintf(ret, bytes, "?%d", code);
    else
        snprintf(ret, bytes, "%s", name[info.status]);
}

/* Types in alphabetical order with their counts, as the probe writes them. */
static void put_nodes(struct rfn_graph *graph, char *ret, size_t bytes)
{
    static const enum rfn_node_type order[] = {
        RFN_NODE_CHILD, RFN_NODE_EMPTY,  RFN_NODE_EVENT_RECORD, RFN_NODE_EVENT_WAIT,
        RFN_NODE_HOST,  RFN_NODE_KERNEL, RFN_NODE_MEMCPY,       RFN_NODE_MEMSET,
    };
    struct rfn_graph_info info;
    size_t used = 0;
    if (!graph)
    {
        snprintf(ret, bytes, "-");
        return;
    }
    must(rfn_graph_query(graph, &info));
    snprintf(ret, bytes, "empty");
    for (size_t i = 0; i < sizeof order / sizeof order[0]; i++)
        if (info.node[order[i]] && used < bytes)
            used += (size_t)snprintf(ret + used, bytes - used, "%s%s:%d", used ? "+" : "",
                                     node_name[order[i]], info.node[order[i]]);
}

static int begin_case(struct replica_env *e, struct replica_row *row, int *ret_began)
{
    struct rfn_capture_desc desc = { e->mode, NULL };
    const char *step = "setup";
    int code = e->call->setup ? e->call->setup(e) : 0;
    must(rfn_device_sync(e->device));
    if (!code)
    {
        step = "begin";
        code = replica_code(rfn_capture_begin(e->origin, &desc));
        *ret_began = code == 0;
    }
    if (!code && e->call->prepare)
    {
        step = "prepare";
        code = e->call->prepare(e);
    }
    if (!code && e->relation == REPLICA_JOINED)
    {
        step = "join";
        code = replica_fork(e, e->side);
    }
    if (code)
        snprintf(row->rc, sizeof row->rc, "%s:%d", step, code);
    return code == 0;
}

static void end_case(struct replica_env *e, struct replica_row *row)
{
    struct rfn_graph *graph = e->ended;
    put_status(e->origin, row->status, sizeof row->status);
    if (e->second)
    {
        size_t used = strlen(row->status);
        row->status[used++] = '/';
        put_status(e->second, row->status + used, sizeof row->status - used);
    }
    if (capture_status(e->origin) != RFN_CAPTURE_NONE)
    {
        if (e->relation == REPLICA_JOINED && e->side &&
            rfn_event_record(e->rejoin, e->side, 0) == RFN_OK)
            (void)rfn_stream_wait(e->origin, e->rejoin, 0);
        int code = replica_code(rfn_capture_end(e->origin, &graph));
        snprintf(row->end_rc, sizeof row->end_rc, "%d", code);
    }
    put_nodes(graph, row->nodes, sizeof row->nodes);
    must(rfn_graph_destroy(&graph));
}

static void find_effect(struct replica_env *e, struct replica_row *row)
{
    int32_t word = 0;
    switch (e->call->seen)
    {
    case SEEN_NOWHERE:
        return;
    case SEEN_DEVICE:
        must(rfn_copy_sync(e->device, &word, e->dev_dst, sizeof word));
        break;
    case SEEN_PINNED:
        word = *(volatile int32_t *)e->pin_dst;
        break;
    case SEEN_PAGEABLE:
        word = *(volatile int32_t *)e->page_dst;
    }
    snprintf(row->ran_now, sizeof row->ran_now, "%d", word == REPLICA_WORD);
}

void replica_run(struct rfn_device *device, const char *id, enum rfn_capture_mode mode,
                 enum replica_relation relation, struct replica_row *ret_row)
{
    struct replica_env e = {
        .call = find(id), .device = device, .mode = mode, .relation = relation
    };
    *ret_row = (struct replica_row) { "-", "-", "-", "-", "-" };
    env_open(&e);
    int began = 0, ready = begin_case(&e, ret_row, &began);
    if (ready)
        snprintf(ret_row->rc, sizeof ret_row->rc, "%d", make_call(&e));
    if (began)
        end_case(&e, ret_row);
    end_captures(&e);
    must(rfn_device_sync(device));
    if (ready)
        find_effect(&e, ret_row);
    env_close(&e);
}
