/*
 * Captures that somebody else began. The first call of ours that meets one notes it, so that
 * what our launches touch in it is pinned, and tells the observer; the device says when its
 * graph is gone. Nobody says when such a capture ends: the stream that it was seen on is
 * asked, while we have it.
 */
#include "runtime/call.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* Comes on any thread, in any call of the driver's: a mark and nothing else. */
static void release(void *user)
{
    struct rfn_body *body = user;
    atomic_store(&body->over, 1);
}

/* An event of the observer's that no call was made for. */
struct news
{
    struct rfn_call_event event;
    char name[64];
};

static void write_news(struct news *n, const struct rfn_body *body, enum rfn_call call,
                       const struct rfn_site *site)
{
    struct rfn_capture_info open = { RFN_CAPTURE_ACTIVE, body->capture_id };
    struct rfn_capture_info none = { RFN_CAPTURE_NONE, 0 };
    int begins = call == RFN_CALL_capture_begin;
    *n = (struct news) {
        .event = {
            .call = call,
            .code = !begins && body->invalidated ? RFN_CODE_CAPTURE_INVALIDATED : 0,
            .why = "",
            .site = *site,
            .thread = body->thread,
            .stream = body->origin,
            .stream_kind = body->origin->kind,
            .stream_serial = body->origin->object.serial,
            .before = begins ? none : open,
            .after = begins ? open : none,
            .kernels = -1,
            .foreign = 1,
        },
    };
}

static void tell(struct rfn_device *device, struct news *n)
{
    const struct rfn_observer *observer = atomic_load(&device->observer);
    n->event.region = rfn_region_text();
    if (observer)
        observer->on_call(observer->ctx, &n->event);
}

/* Nothing more is known of whether it is open. 1: the observer is due to hear. Called with
 * device->lock held. */
static int lose_sight(struct rfn_device *device, struct rfn_body *body, struct news *n)
{
    struct rfn_site here = rfn_site_here();
    int told = body->told;
    if (told)
        write_news(n, body, RFN_CALL_capture_end, &here);
    body->told = 0;
    body->origin = NULL;
    atomic_fetch_sub(&device->foreign_open, 1);
    return told;
}

/* The first open one that is over, or that was seen on `stream` when that is not NULL. */
static int lose_next(struct rfn_device *device, const struct rfn_stream *stream,
                     struct news *n, int *ret_told)
{
    pthread_mutex_lock(&device->lock);
    struct rfn_body *body = device->bodies;
    for (; body; body = body->next)
    {
        if (!body->foreign || !body->origin || (stream && body->origin != stream))
            continue;
        /* Another thread's per-thread stream cannot be asked. */
        int asked = !stream && (body->origin->kind != RFN_STREAM_PER_THREAD ||
                                body->thread == rfn_call_thread());
        struct rfn_capture_info info = { RFN_CAPTURE_NONE, 0 };
        if (asked && device->backend->capture_query(device->impl, body->origin->native,
                                                    &info) != 0)
            continue;
        if (!asked && !stream)
            info = (struct rfn_capture_info) { RFN_CAPTURE_ACTIVE, body->capture_id };
        if (info.status == RFN_CAPTURE_NONE || atomic_load(&body->over) ||
            (info.id && info.id != body->capture_id))
            break;
    }
    if (body)
        *ret_told = lose_sight(device, body, n);
    pthread_mutex_unlock(&device->lock);
    return body != NULL;
}

static void lose(struct rfn_device *device, const struct rfn_stream *stream)
{
    struct news n;
    int told;
    while (atomic_load(&device->foreign_open) && lose_next(device, stream, &n, &told))
        if (told)
            tell(device, &n);
}

void rfn_foreign_unsee(struct rfn_device *device, const struct rfn_stream *stream)
{
    lose(device, stream);
}

void rfn_foreign_reap(struct rfn_device *device)
{
    struct rfn_body *body;
    do
    {
        pthread_mutex_lock(&device->lock);
        struct rfn_body **at = &device->bodies;
        while (*at && !((*at)->foreign && !(*at)->origin && atomic_load(&(*at)->over)))
            at = &(*at)->next;
        body = *at;
        if (body)
            *at = body->next;
        pthread_mutex_unlock(&device->lock);
        if (body)
            rfn_body_free(device, body);
    } while (body);
}

/* Notes that the stream is in capture `id`, unless that is known. */
static enum rfn_status note(struct rfn_device *device, struct rfn_stream *stream,
                            uint64_t id, uint64_t thread, const struct rfn_site *site)
{
    struct news n;
    int code = 0, told = 0;
    int listening = atomic_load(&device->observer) != NULL;
    pthread_mutex_lock(&device->lock);
    struct rfn_body *body = device->bodies;
    while (body && body->capture_id != id)
        body = body->next;
    if (!body)
    {
        body = calloc(1, sizeof *body);
        if (!body)
        {
            pthread_mutex_unlock(&device->lock);
            return RFN_FAIL(RFN_NOMEM, "no memory to note capture %" PRIu64, id);
        }
        body->foreign = 1;
        body->refs = 1;
        body->thread = thread;
        body->capture_id = id;
        body->begun = *site;
        snprintf(body->name, sizeof body->name, "capture %" PRIu64 " of somebody else",
                 id);
        body->next = device->bodies;
        device->bodies = body;
        code = device->backend->capture_hold(device->impl, stream->native, release, body);
        if (code)
            body->capture_id = 0; /* the next call tries again; this one is reaped */
    }
    if (body->foreign && !body->origin && code == 0)
    {
        body->origin = stream;
        atomic_fetch_add(&device->foreign_open, 1);
    }
    if (body->foreign && body->origin && listening && !body->told)
    {
        body->told = told = 1;
        write_news(&n, body, RFN_CALL_capture_begin, site);
    }
    pthread_mutex_unlock(&device->lock);
    if (told)
        tell(device, &n);
    if (code == 0)
        return RFN_OK;
    char what[80];
    snprintf(what, sizeof what, "capture %" PRIu64 " of somebody else cannot be followed",
             id);
    return rfn_call_failed(device, what, code);
}

/* Streams of others that capture by now, though no call of ours went to them. */
static void look_around(struct rfn_device *device, const struct rfn_call_event *event)
{
    struct rfn_stream *found;
    uint64_t id = 0, thread = 0;
    do
    {
        pthread_mutex_lock(&device->lock);
        for (found = device->imported; found; found = found->next_import)
        {
            struct rfn_capture_info info = { RFN_CAPTURE_NONE, 0 };
            if (found->kind == RFN_STREAM_LEGACY ||
                found->kind == RFN_STREAM_PER_THREAD ||
                device->backend->capture_query(device->impl, found->native, &info) != 0 ||
                info.status != RFN_CAPTURE_ACTIVE)
                continue;
            const struct rfn_body *body = device->bodies;
            while (body && body->capture_id != info.id)
                body = body->next;
            id = info.id;
            thread = found->thread;
            if (!body || (body->foreign && !body->told))
                break;
        }
        pthread_mutex_unlock(&device->lock);
    } while (found && atomic_load(&device->observer) &&
             note(device, found, id, thread, &event->site) == RFN_OK);
}

enum rfn_status rfn_foreign_see(struct rfn_device *device,
                                const struct rfn_call_event *event)
{
    lose(device, NULL);
    if (atomic_load(&device->imports) && atomic_load(&device->observer))
        look_around(device, event);
    if (event->before.status != RFN_CAPTURE_ACTIVE || !event->before.id)
        return RFN_OK;
    return note(device, event->stream, event->before.id, event->thread, &event->site);
}

void rfn_device_look(struct rfn_device *device)
{
    lose(device, NULL);
}

void rfn_foreign_wait(struct rfn_device *device)
{
    struct timespec nap = { 0, 250 * 1000 };
    for (int i = 0; i < RFN_FOREIGN_NAPS; i++)
    {
        lose(device, NULL);
        rfn_foreign_reap(device);
        pthread_mutex_lock(&device->lock);
        const struct rfn_body *body = device->bodies;
        while (body && !(body->foreign && !body->origin))
            body = body->next;
        pthread_mutex_unlock(&device->lock);
        if (!body)
            return;
        nanosleep(&nap, NULL);
    }
}
