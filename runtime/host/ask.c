#define RFN_NO_SITES
#include "runtime/error.h"
#include "runtime/host/host.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

/* All open captures of the process: the thread-mode predicate knows no devices. The lock
 * is taken with a device's mutex held, never the other way round; a capture's members and
 * graph belong to its device's mutex. */
static pthread_mutex_t open_lock = PTHREAD_MUTEX_INITIALIZER;
static struct rfn_host_capture *open_captures;
static _Atomic uint32_t open_count;

/* ---- what is open ----------------------------------------------------------------- */

static int has_blocking(const struct rfn_host_capture *c)
{
    for (const struct rfn_host_member *m = c->members; m; m = m->next)
        if (m->stream && rfn_host_blocking(m->stream))
            return 1;
    return 0;
}

void rfn_host_capture_list(struct rfn_host_capture *c)
{
    pthread_mutex_lock(&open_lock);
    c->next = open_captures;
    open_captures = c;
    open_count++;
    pthread_mutex_unlock(&open_lock);
}

void rfn_host_capture_unlist(struct rfn_host_capture *c)
{
    pthread_mutex_lock(&open_lock);
    struct rfn_host_capture **link = &open_captures;
    while (*link != c)
        link = &(*link)->next;
    *link = c->next;
    open_count--;
    pthread_mutex_unlock(&open_lock);
}

struct rfn_host_capture *rfn_host_capture_find(struct rfn_host_device *d, uint64_t id)
{
    pthread_mutex_lock(&open_lock);
    struct rfn_host_capture *c = open_captures;
    while (c && !(c->device == d && (!id || c->id == id)))
        c = c->next;
    pthread_mutex_unlock(&open_lock);
    return c;
}

enum rfn_relation rfn_host_relation(struct rfn_host_device *d, struct rfn_host_stream *s)
{
    if (s && s->member)
    {
        struct rfn_host_capture *c = s->member->capture;
        int origin = c->origin == s->member;
        if (c->status == RFN_CAPTURE_INVALIDATED)
            return origin ? RFN_RELATION_INVALIDATED : RFN_RELATION_LOST_MEMBER;
        return origin ? RFN_RELATION_ORIGIN : RFN_RELATION_MEMBER;
    }
    if (s && s != &d->legacy)
        return RFN_RELATION_OTHER;
    enum rfn_relation r = s ? RFN_RELATION_LEGACY : RFN_RELATION_NONE;
    if (!open_count)
        return r;
    pthread_mutex_lock(&open_lock);
    for (struct rfn_host_capture *c = open_captures; c; c = c->next)
    {
        if (c->device != d)
            continue;
        if (!s)
            r = RFN_RELATION_BESIDE;
        else if (has_blocking(c) && r != RFN_RELATION_LEGACY_BLOCKING)
            r = c->thread == rfn_host_thread() ? RFN_RELATION_LEGACY_BLOCKING
                                               : RFN_RELATION_LEGACY_FOREIGN;
    }
    pthread_mutex_unlock(&open_lock);
    return r;
}

static enum rfn_event_state state_of(struct rfn_host_device *d, enum rfn_call call,
                                     struct rfn_host_stream *s, struct rfn_host_event *e,
                                     uint32_t flags)
{
    if (!e)
        return RFN_EVENT_ANY;
    struct rfn_host_capture *c =
        e->captured ? rfn_host_capture_find(d, e->capture_id) : NULL;
    /* A wait does not get past an event whose capture is gone; a record writes it anew. */
    if (e->captured && call != RFN_CALL_event_record)
    {
        if (!c)
            return RFN_EVENT_ENDED;
        if (c->status == RFN_CAPTURE_INVALIDATED)
            return RFN_EVENT_LOST;
    }
    if (flags & RFN_EVENT_EXTERNAL)
        return RFN_EVENT_NODE;
    if (!c)
        return e->recorded ? RFN_EVENT_OUTSIDE : RFN_EVENT_NEVER;
    return s && s->member && s->member->capture == c ? RFN_EVENT_SAME
                                                     : RFN_EVENT_CAPTURED;
}

/* ---- failing ---------------------------------------------------------------------- */

static const char *const mode_name[] = { "global", "thread-local", "relaxed" };
static const char *const kind_name[] = { "non-blocking", "blocking", "legacy",
                                         "per-thread" };

static int prohibited(const struct rfn_host_capture *c)
{
    return rfn_host_prohibits(c->mode, c->thread == rfn_host_thread(), rfn_host_mode());
}

static int is_hit(const struct rfn_host_capture *c, struct rfn_host_device *d,
                  struct rfn_host_stream *s, struct rfn_host_event *e, uint32_t hits)
{
    if ((hits & RFN_HITS_PREDICATE) && prohibited(c))
        return 1;
    if (c->device != d)
        return 0;
    return ((hits & RFN_HITS_STREAM) && s && s->member && s->member->capture == c) ||
           ((hits & RFN_HITS_EVENT) && e && e->captured && e->capture_id == c->id) ||
           ((hits & RFN_HITS_BLOCKING) && has_blocking(c)) || (hits & RFN_HITS_DEVICE);
}

/* Invalidates what the row says, and says who did it and what was hit. */
static int fail(struct rfn_host_device *d, const struct rfn_rule *rule,
                enum rfn_call call, struct rfn_host_stream *s, struct rfn_host_event *e)
{
    char names[160] = "";
    struct rfn_site site = rfn_site_here();
    pthread_mutex_lock(&open_lock);
    for (struct rfn_host_capture *c = open_captures; c; c = c->next)
    {
        int own = c->thread == rfn_host_thread();
        int subject = s && s->member && s->member->capture == c;
        int hit = is_hit(c, d, s, e, rule->invalidates);
        if (!hit && !subject)
            continue;
        size_t used = strlen(names);
        snprintf(names + used, sizeof names - used,
                 "%scapture %llu (%s, begun by %s on a "
                 "%s stream)%s",
                 used ? ", " : "; ", (unsigned long long)c->id, mode_name[c->mode],
                 own ? "this thread" : "another thread", kind_name[c->kind],
                 hit ? " is invalidated" : "");
        if (c->status == RFN_CAPTURE_INVALIDATED)
        {
            used = strlen(names);
            snprintf(names + used, sizeof names - used, " by %s", c->by);
        }
        else if (hit)
        {
            snprintf(c->by, sizeof c->by, "%s of %s thread at %.70s:%d: %d",
                     rfn_call_name(call), own ? "its own" : "another", site.file,
                     site.line, rule->code);
            c->status = RFN_CAPTURE_INVALIDATED;
        }
    }
    pthread_mutex_unlock(&open_lock);
    return rfn_host_fail(rule->code, "%s%s", rule->why, names);
}

static int is_prohibited(void)
{
    int any = 0;
    if (!open_count)
        return 0;
    pthread_mutex_lock(&open_lock);
    for (struct rfn_host_capture *c = open_captures; c && !any; c = c->next)
        any = prohibited(c);
    pthread_mutex_unlock(&open_lock);
    return any;
}

int rfn_host_ask_as(struct rfn_host_device *d, enum rfn_call call,
                    enum rfn_relation relation, struct rfn_host_stream *s,
                    struct rfn_host_event *e, uint32_t flags,
                    struct rfn_host_member **ret_member)
{
    const struct rfn_rule *rule =
        rfn_host_rule(call, relation, state_of(d, call, s, e, flags));
    switch (rule->rule)
    {
    case RFN_CLASS_NONE:
    case RFN_CLASS_FREE:
        return RFN_CODE_OK;
    case RFN_CLASS_NODE:
        assert(s && s->member && ret_member);
        *ret_member = s->member;
        return RFN_CODE_OK;
    case RFN_CLASS_PROHIBITED:
        return is_prohibited() ? fail(d, rule, call, s, e) : RFN_CODE_OK;
    case RFN_CLASS_CONFLICTS:
    case RFN_CLASS_UNSUPPORTED:
        break;
    }
    return fail(d, rule, call, s, e);
}

int rfn_host_ask(struct rfn_host_device *d, enum rfn_call call, struct rfn_host_stream *s,
                 struct rfn_host_event *e, uint32_t flags,
                 struct rfn_host_member **ret_member)
{
    return rfn_host_ask_as(d, call, rfn_host_relation(d, s), s, e, flags, ret_member);
}
