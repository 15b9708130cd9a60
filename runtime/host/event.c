#define _GNU_SOURCE
#define RFN_NO_SITES
#include "runtime/host/host.h"

#include <stdlib.h>
#include <time.h>

static const struct rfn_host_ref nothing = { NULL, 0 };

void rfn_host_event_drop(struct rfn_host_event *e)
{
    if (--e->refs > 0)
        return;
    free(e->set.node);
    free(e);
}

void rfn_host_event_mark(struct rfn_host_event *e, struct rfn_host_ref ref)
{
    e->captured = 0;
    e->recorded = 1;
    e->record = ref;
    e->asked = 0;
    e->refs++;
}

void rfn_host_event_happen(struct rfn_host_event *e, uint64_t serial)
{
    struct timespec now;
    if (e->record.serial == serial)
    {
        clock_gettime(CLOCK_MONOTONIC, &now);
        e->time_ns = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
        e->record = nothing; /* the item may go away with its executable */
    }
    rfn_host_event_drop(e);
}

int rfn_host_event_create(void *impl, void **ret)
{
    struct rfn_host_device *d = impl;
    int code = rfn_host_enter(d);
    if (code)
        return code;
    code = rfn_host_ask(d, RFN_CALL_event_create, NULL, NULL, 0, NULL);
    if (!code)
    {
        struct rfn_host_event *e = calloc(1, sizeof *e);
        if (e)
        {
            e->refs = 1;
            *ret = e;
        }
        else
        {
            code = rfn_host_fail(RFN_CODE_NOMEM, "no memory for an event");
        }
    }
    return rfn_host_leave(d, code);
}

int rfn_host_event_destroy(void *impl, void *event)
{
    struct rfn_host_device *d = impl;
    int code = rfn_host_enter(d);
    if (code)
        return code;
    code = rfn_host_ask(d, RFN_CALL_event_destroy, NULL, event, 0, NULL);
    if (!code)
    {
        rfn_host_leave_unseen(d, event);
        rfn_host_event_drop(event);
    }
    return rfn_host_leave(d, code);
}

int rfn_host_event_record(void *impl, void *event, void *stream, uint32_t flags)
{
    struct rfn_host_device *d = impl;
    struct rfn_host_event *e = event;
    struct rfn_host_member *m = NULL;
    struct rfn_host_ref ref;
    int code = rfn_host_enter(d);
    if (code)
        return code;
    struct rfn_host_stream *s = rfn_host_resolve(d, stream);
    code = s ? rfn_host_ask(d, RFN_CALL_event_record, s, e, flags, &m) : RFN_CODE_NOMEM;
    if (code)
        return rfn_host_leave(d, code);
    struct rfn_host_work record = { .type = RFN_NODE_EVENT_RECORD, .event = e };
    if (m)
    {
        code = rfn_host_append(m, &record, NULL);
        if (!code)
            e->refs++;
    }
    else if (s->member)
    {
        code = rfn_host_snapshot(s->member, e);
    }
    else
    {
        code = rfn_host_submit(d, s, &record, nothing, NULL, &ref);
        if (!code)
        {
            rfn_host_event_mark(e, ref);
            rfn_host_leave_unseen(d, e);
            rfn_host_follow(d, s, e);
        }
    }
    return rfn_host_leave(d, code);
}

int rfn_host_event_sync(void *impl, void *event)
{
    struct rfn_host_device *d = impl;
    struct rfn_host_event *e = event;
    int code = rfn_host_enter(d);
    if (code)
        return code;
    code = rfn_host_ask(d, RFN_CALL_event_sync, NULL, e, 0, NULL);
    if (!code)
    {
        rfn_host_pull(d, e->record);
        rfn_host_saw(d, e);
    }
    return rfn_host_leave(d, code);
}

/* NOT_READY, and from the second time on a step towards it. */
static int query(struct rfn_host_device *d, struct rfn_host_event *e)
{
    if (e->asked)
        rfn_host_pull_one(d, e->record);
    e->asked = !rfn_host_done(e->record);
    if (!e->asked)
        rfn_host_saw(d, e);
    return e->asked ? RFN_CODE_NOT_READY : RFN_CODE_OK;
}

int rfn_host_event_query(void *impl, void *event)
{
    struct rfn_host_device *d = impl;
    int code = rfn_host_enter(d);
    if (code)
        return code;
    code = rfn_host_ask(d, RFN_CALL_event_query, NULL, event, 0, NULL);
    if (!code)
        code = query(d, event);
    return rfn_host_leave(d, code);
}

int rfn_host_event_elapsed(void *impl, void *start, void *end, float *ret_ms)
{
    struct rfn_host_device *d = impl;
    struct rfn_host_event *a = start, *b = end;
    int code = rfn_host_enter(d);
    if (code)
        return code;
    code = rfn_host_ask(d, RFN_CALL_event_elapsed, NULL, a, 0, NULL);
    if (!code)
        code = rfn_host_ask(d, RFN_CALL_event_elapsed, NULL, b, 0, NULL);
    if (!code && !(a->recorded && b->recorded))
        code = rfn_host_fail(RFN_CODE_INVALID_HANDLE, "the %s event was never recorded",
                             a->recorded ? "end" : "start");
    if (!code)
    {
        int first = query(d, a);
        int second = query(d, b);
        code = first ? first : second;
    }
    if (!code)
        *ret_ms = (float)((double)(b->time_ns - a->time_ns) * 1e-6);
    return rfn_host_leave(d, code);
}
