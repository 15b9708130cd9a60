#define RFN_NO_SITES
#include "runtime/host/host.h"

#include <stdlib.h>
#include <string.h>

static const struct rfn_host_ref nothing = { NULL, 0 };

int rfn_host_blocking(const struct rfn_host_stream *s)
{
    return s->kind == RFN_STREAM_BLOCKING || s->kind == RFN_STREAM_PER_THREAD;
}

/* ---- threads that end ------------------------------------------------------------- */

/* The per-thread streams of all devices: a thread that ends knows no device, and takes no
 * device's mutex. This lock is taken with such a mutex held, never the other way round. */
static pthread_mutex_t thread_lock = PTHREAD_MUTEX_INITIALIZER;
static struct rfn_host_stream *thread_streams;
static pthread_once_t key_once = PTHREAD_ONCE_INIT;
static pthread_key_t key;
static int have_key;

static void thread_ends(void *value)
{
    uint64_t thread = rfn_host_thread();
    (void)value;
    pthread_mutex_lock(&thread_lock);
    for (struct rfn_host_stream *s = thread_streams; s; s = s->thread_next)
        if (s->thread == thread)
            s->left = 1;
    pthread_mutex_unlock(&thread_lock);
}

static void make_key(void)
{
    have_key = pthread_key_create(&key, thread_ends) == 0;
}

/* Makes the stream the calling thread's. Without a key the thread's end goes unseen: the
 * stream then lives as long as the device. */
static void give(struct rfn_host_stream *s)
{
    pthread_mutex_lock(&thread_lock);
    s->thread = rfn_host_thread();
    s->left = 0;
    pthread_mutex_unlock(&thread_lock);
    pthread_once(&key_once, make_key);
    if (have_key)
        pthread_setspecific(key, &key); /* any value but NULL */
}

static void list(struct rfn_host_stream *s)
{
    pthread_mutex_lock(&thread_lock);
    s->thread_next = thread_streams;
    if (s->thread_next)
        s->thread_next->thread_prev = s;
    thread_streams = s;
    pthread_mutex_unlock(&thread_lock);
}

static void unlist(struct rfn_host_stream *s)
{
    pthread_mutex_lock(&thread_lock);
    if (s->thread_next)
        s->thread_next->thread_prev = s->thread_prev;
    if (s->thread_prev)
        s->thread_prev->thread_next = s->thread_next;
    else
        thread_streams = s->thread_next;
    pthread_mutex_unlock(&thread_lock);
}

/* ---- streams ---------------------------------------------------------------------- */

static struct rfn_host_stream *create(struct rfn_host_device *d,
                                      enum rfn_stream_kind kind)
{
    struct rfn_host_stream *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->device = d;
    s->kind = kind;
    s->number = ++d->numbers;
    s->next = d->streams;
    if (s->next)
        s->next->prev = s;
    d->streams = s;
    return s;
}

/* The stream of a thread that has ended, of which nothing is left to do. */
static int is_spare(const struct rfn_host_stream *s)
{
    return s->left && !s->member && rfn_host_done(s->tail);
}

struct rfn_host_stream *rfn_host_resolve(struct rfn_host_device *d, void *stream)
{
    struct rfn_host_stream *s = stream, *spare = NULL;
    if (s != &d->per_thread)
        return s;
    uint64_t thread = rfn_host_thread();
    for (s = d->streams; s; s = s->next)
    {
        if (s->kind == RFN_STREAM_PER_THREAD && s->thread == thread)
            break;
        if (!spare && is_spare(s))
            spare = s;
    }
    if (s && !s->left)
        return s;
    if (!s && spare)
    {
        /* Copies that nobody waited for are the legacy stream's, as when it is destroyed. */
        s = spare;
        rfn_host_follow(d, s, &d->orphans);
        rfn_host_leave_unseen(d, s);
        s->asked = 0;
    }
    else if (!s)
    {
        s = create(d, RFN_STREAM_PER_THREAD);
        if (!s)
        {
            rfn_host_fail(RFN_CODE_NOMEM, "no memory for the thread's stream");
            return NULL;
        }
        list(s);
    }
    give(s); /* also back to a thread that calls from a destructor of its own */
    return s;
}

void rfn_host_streams_close(struct rfn_host_device *d)
{
    while (d->streams)
    {
        struct rfn_host_stream *s = d->streams;
        d->streams = s->next;
        if (s->kind == RFN_STREAM_PER_THREAD)
            unlist(s);
        free(s);
    }
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
