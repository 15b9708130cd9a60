#define _GNU_SOURCE
#define RFN_NO_SITES
#include "runtime/host/host.h"

#include "kernels/isa.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static _Atomic uint64_t threads;
static _Thread_local uint64_t thread;
static _Thread_local enum rfn_capture_mode thread_mode = RFN_CAPTURE_GLOBAL;
static _Thread_local int inside_host_function;
static _Thread_local char why_line[512];

/* ---- the frame of a call ---------------------------------------------------------- */

uint64_t rfn_host_thread(void)
{
    if (!thread)
        thread = ++threads;
    return thread;
}

int rfn_host_inside(int inside)
{
    int was = inside_host_function;
    inside_host_function = inside;
    return was;
}

enum rfn_capture_mode rfn_host_mode(void)
{
    return thread_mode;
}

int rfn_host_fail(int code, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    vsnprintf(why_line, sizeof why_line, format, list);
    va_end(list);
    return code;
}

int rfn_host_enter(struct rfn_host_device *d)
{
    why_line[0] = '\0';
    if (inside_host_function)
        return rfn_host_fail(RFN_CODE_NOT_PERMITTED,
                             "a host function must not call the device");
    pthread_mutex_lock(&d->mutex);
    return RFN_CODE_OK;
}

int rfn_host_leave(struct rfn_host_device *d, int code)
{
    if (d->sched == RFN_SCHED_FIFO)
        rfn_host_drain(d);
    else
        rfn_host_random_step(d);
    pthread_mutex_unlock(&d->mutex);
    return code;
}

/* ---- opening ---------------------------------------------------------------------- */

/* fifo, lazy, random:<seed> */
static int parse_sched(const char *text, enum rfn_host_sched *ret, uint64_t *ret_seed)
{
    static const char random[] = "random:";
    char *end;
    if (strcmp(text, "fifo") == 0)
        *ret = RFN_SCHED_FIFO;
    else if (strcmp(text, "lazy") == 0)
        *ret = RFN_SCHED_LAZY;
    else if (strncmp(text, random, sizeof random - 1) == 0)
    {
        const char *seed = text + sizeof random - 1;
        errno = 0;
        unsigned long long value = strtoull(seed, &end, 0);
        if (seed[0] < '0' || seed[0] > '9' || *end || errno)
            return RFN_CODE_INVALID_VALUE;
        *ret = RFN_SCHED_RANDOM;
        *ret_seed = value;
    }
    else
        return RFN_CODE_INVALID_VALUE;
    return RFN_CODE_OK;
}

static int choose_sched(const struct rfn_device_desc *desc, struct rfn_host_device *d,
                        char *why, size_t why_bytes)
{
    d->sched = desc->sched;
    d->random = desc->sched_seed;
    if ((unsigned)desc->sched > RFN_SCHED_RANDOM)
    {
        snprintf(why, why_bytes, "schedule %d is none", (int)desc->sched);
        return RFN_CODE_INVALID_VALUE;
    }
    if (desc->sched != RFN_SCHED_DEFAULT)
        return RFN_CODE_OK;
    const char *text = getenv("RFN_HOST_SCHED");
    d->sched = RFN_SCHED_FIFO;
    if (text && text[0] && parse_sched(text, &d->sched, &d->random) != 0)
    {
        snprintf(why, why_bytes,
                 "RFN_HOST_SCHED is \"%.64s\", not fifo, lazy or random:<seed>", text);
        return RFN_CODE_INVALID_VALUE;
    }
    return RFN_CODE_OK;
}

static void init_stream(struct rfn_host_device *d, struct rfn_host_stream *s,
                        enum rfn_stream_kind kind)
{
    s->device = d;
    s->kind = kind;
}

static int host_open(const struct rfn_device_desc *desc, void **ret_impl, char *why,
                     size_t why_bytes)
{
    struct rfn_host_device *d = calloc(1, sizeof *d);
    int code = RFN_CODE_NOMEM;
    if (!d)
        goto nomem;
    code = choose_sched(desc, d, why, why_bytes);
    if (code)
        goto free_device;
    code = rfn_host_pool_grow(d, RFN_HOST_ITEMS);
    if (code)
        goto nomem;
    if (pthread_mutex_init(&d->mutex, NULL) != 0)
    {
        code = RFN_CODE_NOMEM;
        goto nomem;
    }
    code = rfn_host_memory_open(desc, &d->memory);
    if (code)
    {
        pthread_mutex_destroy(&d->mutex);
        goto nomem;
    }
    code = rfn_host_memory_guards(d->memory) ? rfn_host_unseen_open(d) : RFN_CODE_OK;
    if (code)
    {
        rfn_host_memory_close(d->memory);
        pthread_mutex_destroy(&d->mutex);
        goto nomem;
    }
    d->check = desc->check != 0;
    d->env.fault = d->check ? &d->fault : NULL;
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    d->env.threads = desc->threads > 0 ? desc->threads : cores > 0 ? (int32_t)cores : 1;
    init_stream(d, &d->legacy, RFN_STREAM_LEGACY);
    init_stream(d, &d->per_thread, RFN_STREAM_PER_THREAD);
    init_stream(d, &d->orphans, RFN_STREAM_NONBLOCKING);
    *ret_impl = d;
    return RFN_CODE_OK;

nomem:
    snprintf(why, why_bytes, "no memory for the host device (%s)",
             desc->check ? "its reserved ranges or its items" : "its items");
free_device:
    if (d)
        rfn_host_pool_close(d);
    free(d);
    return code;
}

static void host_close(void *impl)
{
    struct rfn_host_device *d = impl;
    pthread_mutex_lock(&d->mutex);
    rfn_host_captures_close(d);
    rfn_host_drain(d);
    while (d->retired)
    {
        struct rfn_host_exec *x = d->retired;
        d->retired = x->retired;
        rfn_host_exec_free(x);
    }
    rfn_host_streams_close(d);
    pthread_mutex_unlock(&d->mutex);
    rfn_host_unseen_close(d);
    rfn_host_memory_close(d->memory);
    rfn_host_pool_close(d);
    pthread_mutex_destroy(&d->mutex);
    free(d->scratch);
    free(d);
}

/* ---- the device ------------------------------------------------------------------- */

static int host_info(void *impl, struct rfn_device_info *ret)
{
    struct rfn_host_device *d = impl;
    int64_t page = sysconf(_SC_PAGESIZE);
    memset(ret, 0, sizeof *ret);
    ret->kind = RFN_DEVICE_HOST;
    snprintf(ret->name, sizeof ret->name, "host, %d thread%s, %s", (int)d->env.threads,
             d->env.threads == 1 ? "" : "s", rfn_isa_name(rfn_isa_here()));
    ret->check = d->check;
    ret->sched = d->sched;
    ret->memory_bytes = page * sysconf(_SC_PHYS_PAGES);
    ret->memory_free_bytes = page * sysconf(_SC_AVPHYS_PAGES);
    return 0;
}

static int host_device_sync(void *impl)
{
    struct rfn_host_device *d = impl;
    int code = rfn_host_enter(d);
    if (code)
        return code;
    code = rfn_host_ask(d, RFN_CALL_device_sync, NULL, NULL, 0, NULL);
    if (!code)
    {
        rfn_host_drain(d);
        rfn_host_saw(d, NULL);
    }
    return rfn_host_leave(d, code);
}

static int host_fault(void *impl, struct rfn_fault *ret)
{
    struct rfn_host_device *d = impl;
    int code = rfn_host_enter(d);
    if (code)
        return code;
    *ret = d->fault;
    return rfn_host_leave(d, RFN_CODE_OK);
}

static int host_thread_mode(void *impl, enum rfn_capture_mode *mode)
{
    enum rfn_capture_mode old = thread_mode;
    (void)impl;
    why_line[0] = '\0';
    if ((unsigned)*mode > RFN_CAPTURE_RELAXED)
        return rfn_host_fail(RFN_CODE_INVALID_VALUE, "capture mode %d is none",
                             (int)*mode);
    thread_mode = *mode;
    *mode = old;
    return RFN_CODE_OK;
}

static const char *host_why(void *impl)
{
    (void)impl;
    return why_line;
}

int rfn_host_touches(void *impl, struct rfn_touch *ret, int max)
{
    struct rfn_host_device *d = impl;
    return rfn_host_memory_touches(d->memory, ret, max);
}

/* ---- memory ----------------------------------------------------------------------- */

static int host_memory_alloc(void *impl, enum rfn_memory_kind kind, int64_t bytes,
                             void **ret)
{
    struct rfn_host_device *d = impl;
    int code = rfn_host_enter(d);
    if (code)
        return code;
    code = rfn_host_ask(d, RFN_CALL_memory_alloc, NULL, NULL, 0, NULL);
    if (!code)
    {
        code = rfn_host_memory_alloc(d->memory, kind, bytes, ret);
        if (code)
            rfn_host_fail(code, "no memory for %lld bytes", (long long)bytes);
    }
    return rfn_host_leave(d, code);
}

static int host_memory_free(void *impl, enum rfn_memory_kind kind, void *address,
                            int64_t bytes)
{
    struct rfn_host_device *d = impl;
    (void)kind;
    (void)bytes;
    int code = rfn_host_enter(d);
    if (code)
        return code;
    code = rfn_host_ask(d, RFN_CALL_memory_free, NULL, NULL, 0, NULL);
    if (!code && address)
    {
        rfn_host_drain(d); /* freeing synchronises, as cudaFree does */
        rfn_host_saw(d, NULL);
        rfn_host_memory_free(d->memory, address);
    }
    return rfn_host_leave(d, code);
}

static enum rfn_memory_kind host_memory_kind(void *impl, const void *address,
                                             int32_t *ret_elsewhere)
{
    struct rfn_host_device *d = impl;
    *ret_elsewhere = -1;
    enum rfn_memory_kind kind = rfn_host_memory_kind(d->memory, address);
    return kind == RFN_MEMORY_PAGEABLE && rfn_host_memory_reserved(address)
               ? RFN_MEMORY_DEVICE
               : kind;
}

static int host_inside(void)
{
    return inside_host_function;
}

const struct rfn_backend rfn_backend_host = {
    .name = "host",
    .closed_memory = 1,
    .inside = host_inside,
    .open = host_open,
    .close = host_close,
    .info = host_info,
    .device_sync = host_device_sync,
    .fault = host_fault,
    .thread_mode = host_thread_mode,
    .why = host_why,
    .memory_alloc = host_memory_alloc,
    .memory_free = host_memory_free,
    .memory_kind = host_memory_kind,
    .stream_create = rfn_host_stream_create,
    .stream_builtin = rfn_host_stream_builtin,
    .stream_import = rfn_host_stream_import,
    .stream_destroy = rfn_host_stream_destroy,
    .stream_sync = rfn_host_stream_sync,
    .stream_query = rfn_host_stream_query,
    .stream_wait = rfn_host_stream_wait,
    .event_create = rfn_host_event_create,
    .event_destroy = rfn_host_event_destroy,
    .event_record = rfn_host_event_record,
    .event_sync = rfn_host_event_sync,
    .event_query = rfn_host_event_query,
    .event_elapsed = rfn_host_event_elapsed,
    .copy_sync = rfn_host_copy_sync,
    .copy_async = rfn_host_copy_async,
    .set_sync = rfn_host_set_sync,
    .set_async = rfn_host_set_async,
    .host_call = rfn_host_host_call,
    .supports = rfn_host_supports,
    .launch = rfn_host_launch,
    .capture_begin = rfn_host_capture_begin,
    .capture_end = rfn_host_capture_end,
    .capture_query = rfn_host_capture_query,
    .capture_add_child = rfn_host_capture_add_child,
    .capture_hold = rfn_host_capture_hold,
    .graph_native = rfn_host_native,
    .exec_native = rfn_host_native,
    .graph_count = rfn_host_graph_count,
    .graph_nodes = rfn_host_graph_nodes,
    .graph_image = rfn_host_graph_image,
    .graph_destroy = rfn_host_graph_destroy,
    .graph_instantiate = rfn_host_graph_instantiate,
    .exec_launch = rfn_host_exec_launch,
    .exec_upload = rfn_host_exec_upload,
    .exec_update = rfn_host_exec_update,
    .exec_destroy = rfn_host_exec_destroy,
    .touches = rfn_host_touches,
};
