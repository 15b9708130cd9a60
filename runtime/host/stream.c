#define RFN_NO_SITES
#include "runtime/host/host.h"

#include <stdlib.h>
#include <string.h>

static const struct rfn_host_ref nothing = { NULL, 0 };

int rfn_host_blocking(const struct rfn_host_stream *s)
{
    return s->kind == RFN_STREAM_BLOCKING || s->kind == RFN_STREAM_PER_THREAD;
}

static struct rfn_host_stream *create(struct rfn_host_device *d,
                                      enum rfn_stream_kind kind)
{
    struct rfn_host_stream *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->device = d;
    s->kind = kind;
    s->thread = kind == RFN_STREAM_PER_THREAD ? rfn_host_thread() : 0;
    s->number = ++d->numbers;
    s->next = d->streams;
    if (s->next)
        s->next->prev = s;
    d->streams = s;
    return s;
}

struct rfn_host_stream *rfn_host_resolve(struct rfn_host_device *d, void *stream)
{
    struct rfn_host_stream *s = stream;
    if (s != &d->per_thread)
        return s;
    uint64_t thread = rfn_host_thread();
    for (s = d->streams; s; s = s->next)
        if (s->kind == RFN_STREAM_PER_THREAD && s->thread == thread)
            return s;
    s = create(d, RFN_STREAM_PER_THREAD);
    if (!s)
        rfn_host_fail(RFN_CODE_NOMEM, "no memory for the thread's stream");
    return s;
}

/* An item on the legacy stream takes one more to gather each two blocking tails. */
int rfn_host_stream_reserve(struct rfn_host_device *d, struct rfn_host_stream *s,
                            uint32_t n)
{
    if (s == &d->legacy)
    {
        n += !rfn_host_done(d->orphans.tail);
        for (struct rfn_host_stream *b = d->streams; b; b = b->next)
            n += rfn_host_blocking(b) && !rfn_host_done(b->tail);
    }
    return rfn_host_reserve(d, n);
}

static void gather(struct rfn_host_device *d, struct rfn_host_ref *all,
                   struct rfn_host_ref tail)
{
    if (rfn_host_done(tail))
        return;
    if (rfn_host_done(*all))
    {
        *all = tail;
        return;
    }
    struct rfn_host_item *both = rfn_host_take(d);
    rfn_host_depend(both, *all);
    rfn_host_depend(both, tail);
    *all = rfn_host_post(d, both);
}

int rfn_host_submit(struct rfn_host_device *d, struct rfn_host_stream *s,
                    const struct rfn_host_work *work, struct rfn_host_ref after,
                    void *extra, struct rfn_host_ref *ret)
{
    int code = rfn_host_stream_reserve(d, s, 1);
    if (code)
    {
        free(extra);
        return code;
    }
    struct rfn_host_ref order = nothing;
    if (rfn_host_blocking(s))
    {
        order = d->legacy.tail;
        rfn_host_follow(d, &d->legacy, s);
    }
    if (s == &d->legacy)
    {
        gather(d, &order, d->orphans.tail);
        rfn_host_follow(d, &d->orphans, s);
        for (struct rfn_host_stream *b = d->streams; b; b = b->next)
        {
            if (!rfn_host_blocking(b))
                continue;
            gather(d, &order, b->tail);
            rfn_host_follow(d, b, s);
        }
    }
    struct rfn_host_item *item = rfn_host_take(d);
    item->work = *work;
    item->extra = extra;
    item->site = rfn_site_here();
    item->by[0] = s;
    if (work->type == RFN_NODE_KERNEL && !extra)
    {
        item->work.launch.args = rfn_host_item_args(item);
        memcpy(item->work.launch.args, work->launch.args, work->launch.op->args_bytes);
    }
    rfn_host_depend(item, s->tail);
    rfn_host_depend(item, order);
    rfn_host_depend(item, after);
    s->tail = rfn_host_post(d, item);
    if (ret)
        *ret = s->tail;
    return RFN_CODE_OK;
}

/* Calls `pull` on the tails that a wait for the stream waits for; 1 when all are done. */
static int tails(struct rfn_host_device *d, struct rfn_host_stream *s,
                 void (*pull)(struct rfn_host_device *, struct rfn_host_ref))
{
    if (!rfn_host_done(s->tail))
        pull(d, s->tail);
    int done = rfn_host_done(s->tail);
    if (s != &d->legacy)
        return done;
    if (!rfn_host_done(d->orphans.tail))
        pull(d, d->orphans.tail);
    done = done && rfn_host_done(d->orphans.tail);
    for (struct rfn_host_stream *b = d->streams; b; b = b->next)
    {
        if (!rfn_host_blocking(b))
            continue;
        if (!rfn_host_done(b->tail))
            pull(d, b->tail);
        done = done && rfn_host_done(b->tail);
    }
    return done;
}

static void look(struct rfn_host_device *d, struct rfn_host_ref ref)
{
    (void)d;
    (void)ref;
}

void rfn_host_stream_pull(struct rfn_host_device *d, struct rfn_host_stream *s)
{
    tails(d, s, rfn_host_pull);
}

int rfn_host_stream_create(void *impl, enum rfn_stream_kind kind, void **ret)
{
    struct rfn_host_device *d = impl;
    int code = rfn_host_enter(d);
    if (code)
        return code;
    code = rfn_host_ask(d, RFN_CALL_stream_create, NULL, NULL, 0, NULL);
    if (!code)
    {
        struct rfn_host_stream *s = create(d, kind);
        if (s)
            *ret = s;
        else
            code = rfn_host_fail(RFN_CODE_NOMEM, "no memory for a stream");
    }
    return rfn_host_leave(d, code);
}

void *rfn_host_stream_builtin(void *impl, enum rfn_stream_kind kind)
{
    struct rfn_host_device *d = impl;
    return kind == RFN_STREAM_LEGACY ? &d->legacy : &d->per_thread;
}

int rfn_host_stream_destroy(void *impl, void *stream)
{
    struct rfn_host_device *d = impl;
    struct rfn_host_stream *s = stream;
    int code = rfn_host_enter(d);
    if (code)
        return code;
    code = rfn_host_ask(d, RFN_CALL_stream_destroy, s, NULL, 0, NULL);
    /* What it had enqueued still runs, and the legacy stream still waits for it. */
    if (!code && rfn_host_blocking(s) && !rfn_host_done(s->tail))
    {
        struct rfn_host_work end = { .type = RFN_NODE_EMPTY };
        code = rfn_host_submit(d, &d->orphans, &end, s->tail, NULL, NULL);
    }
    if (!code)
    {
        if (rfn_host_blocking(s))
            rfn_host_follow(d, s, &d->orphans);
        rfn_host_leave_unseen(d, s);
        rfn_host_capture_leave(s);
        if (s->next)
            s->next->prev = s->prev;
        if (s->prev)
            s->prev->next = s->next;
        else
            d->streams = s->next;
        free(s);
    }
    return rfn_host_leave(d, code);
}

int rfn_host_stream_sync(void *impl, void *stream)
{
    struct rfn_host_device *d = impl;
    int code = rfn_host_enter(d);
    if (code)
        return code;
    struct rfn_host_stream *s = rfn_host_resolve(d, stream);
    code = s ? rfn_host_ask(d, RFN_CALL_stream_sync, s, NULL, 0, NULL) : RFN_CODE_NOMEM;
    if (!code)
    {
        rfn_host_stream_pull(d, s);
        rfn_host_saw_stream(d, s);
    }
    return rfn_host_leave(d, code);
}

int rfn_host_stream_query(void *impl, void *stream)
{
    struct rfn_host_device *d = impl;
    int code = rfn_host_enter(d);
    if (code)
        return code;
    struct rfn_host_stream *s = rfn_host_resolve(d, stream);
    code = s ? rfn_host_ask(d, RFN_CALL_stream_query, s, NULL, 0, NULL) : RFN_CODE_NOMEM;
    if (!code)
    {
        int done = tails(d, s, s->asked ? rfn_host_pull_one : look);
        s->asked = !done;
        if (done)
            rfn_host_saw_stream(d, s);
        else
            code = RFN_CODE_NOT_READY;
    }
    return rfn_host_leave(d, code);
}

int rfn_host_stream_wait(void *impl, void *stream, void *event, uint32_t flags)
{
    struct rfn_host_device *d = impl;
    struct rfn_host_event *e = event;
    struct rfn_host_member *m = NULL;
    int code = rfn_host_enter(d);
    if (code)
        return code;
    struct rfn_host_stream *s = rfn_host_resolve(d, stream);
    code = s ? rfn_host_ask(d, RFN_CALL_stream_wait, s, e, flags, &m) : RFN_CODE_NOMEM;
    if (code)
        return rfn_host_leave(d, code);
    if (m)
    {
        struct rfn_host_work wait = { .type = RFN_NODE_EVENT_WAIT, .event = e };
        code = rfn_host_append(m, &wait, NULL);
        if (!code)
            e->refs++;
    }
    else if (e->captured)
    {
        code = rfn_host_join(s, e);
    }
    else
    {
        struct rfn_host_work wait = { .type = RFN_NODE_EMPTY };
        if (!rfn_host_done(e->record))
            code = rfn_host_submit(d, s, &wait, e->record, NULL, NULL);
        rfn_host_follow(d, e, s);
    }
    return rfn_host_leave(d, code);
}
