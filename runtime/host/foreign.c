/* What others bring, on the host device: who calls this table past the front end. */
#define RFN_NO_SITES
#include "runtime/host/host.h"

#include <stdlib.h>

int rfn_host_stream_import(void *impl, void *native, enum rfn_stream_kind *ret_kind,
                           void **ret)
{
    struct rfn_host_device *d = impl;
    int code = rfn_host_enter(d);
    if (code)
        return code;
    code = rfn_host_ask(d, RFN_CALL_stream_import, NULL, NULL, 0, NULL);
    struct rfn_host_stream *s = native ? d->streams : &d->legacy;
    if (native == &d->legacy || native == &d->per_thread)
        s = native;
    while (s && native && s != native)
        s = s->next;
    if (!code && !s)
        code = rfn_host_fail(RFN_CODE_INVALID_VALUE,
                             "%p is no stream of this host device: another device's, or "
                             "destroyed",
                             native);
    if (!code)
    {
        *ret_kind = s == &d->legacy       ? RFN_STREAM_LEGACY
                    : s == &d->per_thread ? RFN_STREAM_PER_THREAD
                                          : s->kind;
        *ret = s;
    }
    return rfn_host_leave(d, code);
}

int rfn_host_capture_hold(void *impl, void *stream, void (*release)(void *user),
                          void *user)
{
    struct rfn_host_device *d = impl;
    struct rfn_host_hold *hold = malloc(sizeof *hold);
    pthread_mutex_lock(&d->mutex); /* not a call of the user's: no schedule counts it */
    struct rfn_host_stream *s = rfn_host_resolve(d, stream);
    struct rfn_host_graph *g = s && s->member ? s->member->capture->graph : NULL;
    if (hold && g)
    {
        *hold = (struct rfn_host_hold) { g->hold, release, user };
        g->hold = hold;
    }
    pthread_mutex_unlock(&d->mutex);
    if (hold && g)
        return RFN_CODE_OK;
    free(hold);
    release(user);
    return hold ? rfn_host_fail(RFN_CODE_ILLEGAL_STATE, "the stream captures nothing")
                : rfn_host_fail(RFN_CODE_NOMEM, "no memory to hold a capture");
}

void rfn_host_holds_release(struct rfn_host_graph *g)
{
    while (g->hold)
    {
        struct rfn_host_hold *hold = g->hold;
        g->hold = hold->next;
        hold->release(hold->user);
        free(hold);
    }
}

void *rfn_host_native(void *object)
{
    return object;
}

int rfn_host_supports(void *impl, const struct rfn_op *op, const void *args)
{
    (void)impl;
    (void)args;
    return op->host ? RFN_CODE_OK
                    : rfn_host_fail(RFN_CODE_NOT_SUPPORTED, "the op has no host twin");
}
