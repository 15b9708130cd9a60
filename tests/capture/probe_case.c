/*
 * One case of the probe: call x mode x relation. The order of events is the same for
 * all of them and is read off probe_case_run.
 */
#include "probe.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const probe_mode_names[PROBE_MODES] = { "global", "thread_local", "relaxed" };

const char *const probe_relation_names[PROBE_RELATIONS] = {
    [PROBE_SAME] = "same",
    [PROBE_SAME_BLOCKING] = "same_blocking",
    [PROBE_JOINED] = "joined",
    [PROBE_OTHER] = "other",
    [PROBE_PER_THREAD] = "per_thread",
    [PROBE_LEGACY] = "legacy",
    [PROBE_LEGACY_BLOCKING] = "legacy_blocking",
    [PROBE_THREAD] = "thread",
    [PROBE_THREAD_RELAXED] = "thread_relaxed",
    [PROBE_SELF_RELAXED] = "self_relaxed",
};

static const enum cudaStreamCaptureMode modes[PROBE_MODES] = {
    cudaStreamCaptureModeGlobal,
    cudaStreamCaptureModeThreadLocal,
    cudaStreamCaptureModeRelaxed,
};

/* The columns, as text. */
struct outcome
{
    char rc[32], status[48], end_rc[16], nodes[256];
    char ran_now;
    char log[3000];
};

static void set_thread_mode(enum cudaStreamCaptureMode mode)
{
    cudaThreadExchangeStreamCaptureMode(&mode);
}

static int env_open(struct probe_env *e)
{
    bool blocking =
        e->relation == PROBE_SAME_BLOCKING || e->relation == PROBE_LEGACY_BLOCKING;
    int rc;

    if ((rc = (int)cudaStreamCreateWithFlags(
             &e->origin, blocking ? cudaStreamDefault : cudaStreamNonBlocking)) ||
        (rc = (int)cudaStreamCreateWithFlags(&e->side, cudaStreamNonBlocking)) ||
        (rc = (int)cudaStreamCreateWithFlags(&e->idle, cudaStreamNonBlocking)) ||
        (rc = (int)cudaStreamCreateWithFlags(&e->extra, cudaStreamNonBlocking)) ||
        (rc = (int)cudaEventCreate(&e->event)) ||
        (rc = (int)cudaEventCreate(&e->event2)) ||
        (rc = (int)cudaEventCreate(&e->join)) ||
        (rc = (int)cudaEventCreate(&e->rejoin)) ||
        (rc = (int)cudaMalloc((void **)&e->dev_src, PROBE_BYTES)) ||
        (rc = (int)cudaMalloc((void **)&e->dev_dst, PROBE_BYTES)) ||
        (rc = (int)cudaMallocHost((void **)&e->pin_src, PROBE_BYTES)) ||
        (rc = (int)cudaMallocHost((void **)&e->pin_dst, PROBE_BYTES)))
        return rc;
    e->page_src = malloc(PROBE_BYTES);
    e->page_dst = malloc(PROBE_BYTES);
    if (!e->page_src || !e->page_dst)
        return (int)cudaErrorMemoryAllocation;
    memset(e->page_src, PROBE_BYTE, PROBE_BYTES);
    memset(e->page_dst, 0, PROBE_BYTES);
    memset(e->pin_src, PROBE_BYTE, PROBE_BYTES);
    memset(e->pin_dst, 0, PROBE_BYTES);
    e->seen_word = PROBE_WORD;
    if ((rc = (int)cudaMemset(e->dev_src, PROBE_BYTE, PROBE_BYTES)) ||
        (rc = (int)cudaMemset(e->dev_dst, 0, PROBE_BYTES)) ||
        (rc = (int)probe.memcpy_htod(probe.global, e->page_dst, sizeof(uint32_t))))
        return rc;

    switch (e->relation)
    {
    case PROBE_SAME:
    case PROBE_SAME_BLOCKING:
        e->stream = e->origin;
        break;
    case PROBE_PER_THREAD:
        e->stream = cudaStreamPerThread;
        break;
    case PROBE_LEGACY:
    case PROBE_LEGACY_BLOCKING:
        e->stream = NULL;
        break;
    default:
        e->stream = e->side;
        break;
    }
    return 0;
}

static void env_close(struct probe_env *e)
{
    cudaStream_t streams[] = { e->origin, e->side, e->idle, e->extra };
    cudaEvent_t events[] = { e->event, e->event2, e->join, e->rejoin };

    for (size_t i = 0; i < sizeof events / sizeof events[0]; i++)
    {
        if (events[i])
            cudaEventDestroy(events[i]);
    }
    for (size_t i = 0; i < sizeof streams / sizeof streams[0]; i++)
    {
        if (streams[i])
            cudaStreamDestroy(streams[i]);
    }
    cudaFree(e->dev_src);
    cudaFree(e->dev_dst);
    cudaFreeHost(e->pin_src);
    cudaFreeHost(e->pin_dst);
    free(e->page_src);
    free(e->page_dst);
}

static bool is_capturing(cudaStream_t stream)
{
    enum cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    return cudaStreamIsCapturing(stream, &status) == cudaSuccess &&
           status != cudaStreamCaptureStatusNone;
}

static void put_status(cudaStream_t stream, const char *before, char *ret_text,
                       size_t bytes)
{
    enum cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    cudaError_t rc = cudaStreamIsCapturing(stream, &status);

    if (rc != cudaSuccess)
        snprintf(ret_text, bytes, "%s?%d", before, (int)rc);
    else
        snprintf(ret_text, bytes, "%s%s", before,
                 status == cudaStreamCaptureStatusNone     ? "none"
                 : status == cudaStreamCaptureStatusActive ? "active"
                                                           : "invalidated");
}

static const char *node_name(enum cudaGraphNodeType type, char *buffer, size_t bytes)
{
    switch (type)
    {
    case cudaGraphNodeTypeKernel:
        return "kernel";
    case cudaGraphNodeTypeMemcpy:
        return "memcpy";
    case cudaGraphNodeTypeMemset:
        return "memset";
    case cudaGraphNodeTypeHost:
        return "host";
    case cudaGraphNodeTypeGraph:
        return "child";
    case cudaGraphNodeTypeEmpty:
        return "empty";
    case cudaGraphNodeTypeWaitEvent:
        return "eventWait";
    case cudaGraphNodeTypeEventRecord:
        return "eventRecord";
    case cudaGraphNodeTypeExtSemaphoreSignal:
        return "semSignal";
    case cudaGraphNodeTypeExtSemaphoreWait:
        return "semWait";
    case cudaGraphNodeTypeMemAlloc:
        return "memAlloc";
    case cudaGraphNodeTypeMemFree:
        return "memFree";
    case cudaGraphNodeTypeConditional:
        return "conditional";
    default: /* the runtime has no name for the driver's batch of memory operations */
        if ((int)type == CU_GRAPH_NODE_TYPE_BATCH_MEM_OP)
            return "batchMemOp";
        snprintf(buffer, bytes, "type%d", (int)type);
        return buffer;
    }
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(a, b);
}

static void put_nodes(cudaGraph_t graph, char *ret_text, size_t bytes)
{
    enum
    {
        MAX_NODES = 64
    };
    cudaGraphNode_t nodes[MAX_NODES];
    char names[MAX_NODES][16];
    size_t count = MAX_NODES, used = 0;

    snprintf(ret_text, bytes, "-");
    if (!graph)
        return;
    cudaError_t rc = cudaGraphGetNodes(graph, nodes, &count);
    if (rc != cudaSuccess)
    {
        snprintf(ret_text, bytes, "?%d", (int)rc);
        return;
    }
    if (count == 0)
        snprintf(ret_text, bytes, "empty");
    if (count > MAX_NODES)
        count = MAX_NODES;
    for (size_t i = 0; i < count; i++)
    {
        enum cudaGraphNodeType type = cudaGraphNodeTypeCount;
        char buffer[16];
        rc = cudaGraphNodeGetType(nodes[i], &type);
        if (rc != cudaSuccess)
            snprintf(names[i], sizeof names[i], "?%d", (int)rc);
        else
            snprintf(names[i], sizeof names[i], "%s",
                     node_name(type, buffer, sizeof buffer));
    }
    qsort(names, count, sizeof names[0], compare_names);
    for (size_t i = 0; i < count && used < bytes;)
    {
        size_t same = 1;
        while (i + same < count && strcmp(names[i], names[i + same]) == 0)
            same++;
        used += (size_t)snprintf(ret_text + used, bytes - used, "%s%s:%zu",
                                 used ? "+" : "", names[i], same);
        i += same;
    }
}

/* After the capture and a device synchronisation, before any replay. */
static char find_effect(const struct probe_env *e)
{
    uint32_t word = ~e->seen_word;

    switch (e->call->seen)
    {
    case PROBE_SEEN_DEVICE:
        if (cudaMemcpy(&word, e->dev_dst, sizeof word, cudaMemcpyDeviceToHost))
            return '?';
        break;
    case PROBE_SEEN_GLOBAL:
        if (probe.memcpy_dtoh(&word, probe.global, sizeof word))
            return '?';
        break;
    case PROBE_SEEN_PINNED:
        word = *(volatile uint32_t *)e->pin_dst;
        break;
    case PROBE_SEEN_PAGEABLE:
        word = *(volatile uint32_t *)e->page_dst;
        break;
    default:
        return '-';
    }
    return word == e->seen_word ? '1' : '0';
}

/* Ends whatever is still capturing; true when nothing is any more. */
static bool end_captures(struct probe_env *e)
{
    cudaStream_t streams[] = { e->origin, e->second, e->extra,
                               e->side,   e->idle,   cudaStreamPerThread };
    bool left = false;

    for (size_t i = 0; i < sizeof streams / sizeof streams[0]; i++)
    {
        cudaGraph_t graph = NULL;
        if (streams[i] && is_capturing(streams[i]))
        {
            cudaStreamEndCapture(streams[i], &graph);
            if (graph && graph != e->graph) /* that one is undo's */
                cudaGraphDestroy(graph);
        }
    }
    for (size_t i = 0; i < sizeof streams / sizeof streams[0]; i++)
        left = left || (streams[i] && is_capturing(streams[i]));
    cudaGetLastError();
    return !left;
}

int probe_fork(struct probe_env *e, cudaStream_t to)
{
    int rc = (int)cudaEventRecord(e->join, e->origin);
    return rc ? rc : (int)cudaStreamWaitEvent(to, e->join, 0);
}

int probe_launch(struct probe_env *e, cudaStream_t stream)
{
    uint32_t word = PROBE_WORD;
    void *args[] = { &e->dev_dst, &word };
    return (int)probe.launch_kernel(probe.function, 1, 1, 1, 1, 1, 1, 0, (CUstream)stream,
                                    args, NULL);
}

/* Setup and begin; on failure the row's rc says which step failed with what. */
static bool begin_case(struct probe_env *e, struct outcome *o, bool *ret_began)
{
    const char *step = "open";
    int rc = env_open(e);

    *ret_began = false;
    if (!rc && e->call->setup)
    {
        step = "setup";
        rc = e->call->setup(e);
    }
    if (!rc)
    {
        step = "sync";
        rc = (int)cudaDeviceSynchronize();
    }
    if (!rc)
    {
        cudaGetLastError();
        step = "begin";
        rc = (int)cudaStreamBeginCapture(e->origin, e->mode);
        *ret_began = rc == 0;
    }
    if (!rc && e->call->prepare)
    {
        step = "prepare";
        rc = e->call->prepare(e);
    }
    if (!rc && e->relation == PROBE_JOINED)
    {
        step = "join";
        rc = probe_fork(e, e->side);
    }
    cudaGetLastError();
    if (rc)
        snprintf(o->rc, sizeof o->rc, "%s:%d", step, rc);
    return rc == 0;
}

static void make_call(struct probe_env *e, struct outcome *o)
{
    probe_log_begin();
    if (e->relation == PROBE_THREAD || e->relation == PROBE_THREAD_RELAXED)
    {
        e->rc = probe_worker_run(e->call->run, e, e->relation == PROBE_THREAD_RELAXED);
    }
    else
    {
        if (e->relation == PROBE_SELF_RELAXED)
            set_thread_mode(cudaStreamCaptureModeRelaxed);
        e->rc = e->call->run(e);
        set_thread_mode(cudaStreamCaptureModeGlobal);
    }
    probe_log_end(o->log, sizeof o->log);
    cudaGetLastError();
    snprintf(o->rc, sizeof o->rc, "%d", e->rc);
}

static void end_case(struct probe_env *e, struct outcome *o)
{
    cudaGraph_t graph = e->ended;

    put_status(e->origin, "", o->status, sizeof o->status);
    if (e->second)
    {
        size_t used = strlen(o->status);
        put_status(e->second, "/", o->status + used, sizeof o->status - used);
    }
    if (is_capturing(e->origin))
    {
        if (e->relation == PROBE_JOINED && e->side)
        {
            if (cudaEventRecord(e->rejoin, e->side) == cudaSuccess)
                cudaStreamWaitEvent(e->origin, e->rejoin, 0);
            cudaGetLastError();
        }
        snprintf(o->end_rc, sizeof o->end_rc, "%d",
                 (int)cudaStreamEndCapture(e->origin, &graph));
    }
    put_nodes(graph, o->nodes, sizeof o->nodes);
    if (graph)
        cudaGraphDestroy(graph);
    cudaGetLastError();
}

static void put_row(const struct outcome *o, char *ret_row, size_t bytes)
{
    size_t used = (size_t)snprintf(ret_row, bytes, "%s,%s,%s,%s,%c,", o->rc, o->status,
                                   o->end_rc, o->nodes, o->ran_now);

    if (!o->log[0] || used + 3 > bytes)
        return;
    ret_row[used++] = '"';
    for (const char *p = o->log; *p && used + 4 < bytes; p++)
    {
        if (*p == '"')
            ret_row[used++] = '"';
        ret_row[used++] = *p;
    }
    ret_row[used++] = '"';
    ret_row[used] = '\0';
}

bool probe_case_run(const struct probe_call *call, int index, char *ret_row,
                    size_t row_bytes)
{
    struct probe_env env = {
        .call = call,
        .mode = modes[index / PROBE_RELATIONS],
        .relation = (enum probe_relation)(index % PROBE_RELATIONS),
    };
    struct outcome outcome = {
        .status = "-", .end_rc = "-", .nodes = "-", .ran_now = '-'
    };
    bool usable, began;

    if (begin_case(&env, &outcome, &began))
    {
        make_call(&env, &outcome);
        end_case(&env, &outcome);
    }
    else
    {
        env.rc = -1; /* the call was not made: undo must not trust its results */
        if (began)
            end_case(&env, &outcome);
    }
    usable = end_captures(&env);
    usable = cudaDeviceSynchronize() == cudaSuccess && usable;
    if (usable && env.rc != -1)
        outcome.ran_now = find_effect(&env);
    put_row(&outcome, ret_row, row_bytes);
    if (!usable)
        return false;
    if (call->undo)
        call->undo(&env);
    cudaGetLastError();
    env_close(&env);
    set_thread_mode(cudaStreamCaptureModeGlobal);
    cudaGetLastError();
    return cudaDeviceSynchronize() == cudaSuccess;
}
