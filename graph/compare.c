/* A step run eagerly and by replay, bit for bit. */
#define RFN_NO_SITES
#include "runtime/attention/attention.h"
#include "runtime/call.h"

#include <inttypes.h>
#include <refrain/graph.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define POISON 0xa5

static enum rfn_status check(const struct rfn_replay_desc *d, int64_t *ret_bytes)
{
    int64_t bytes = 0;
    if (!d || !d->set || !d->eager || !d->replay || !d->output)
        return RFN_FAIL(RFN_INVALID, "replay_compare: %s is NULL",
                        !d           ? "desc"
                        : !d->set    ? "set"
                        : !d->eager  ? "eager"
                        : !d->replay ? "replay"
                                     : "output");
    if (d->cases < 1 || d->outputs < 1)
        return RFN_FAIL(RFN_INVALID, "replay_compare: %d cases of %d outputs", d->cases,
                        d->outputs);
    enum rfn_status status = rfn_object_check(d->stream, RFN_OBJECT_STREAM, "stream");
    for (int32_t i = 0; status == RFN_OK && i < d->outputs; i++)
    {
        const struct rfn_replay_output *o = &d->output[i];
        struct rfn_memory_info info;
        if (!o->name || !o->address || o->bytes < 1 || o->row_bytes < 0)
            return RFN_FAIL(RFN_INVALID,
                            "replay_compare: output %d is %" PRId64 " bytes at %p, in "
                            "rows of %" PRId64,
                            i, o->bytes, o->address, o->row_bytes);
        status = rfn_memory_query(d->stream->object.device, o->address, &info);
        if (status == RFN_OK && info.kind == RFN_MEMORY_PAGEABLE)
            status = RFN_FAIL(RFN_INVALID,
                              "replay_compare: '%s' at %p is no memory of the device",
                              o->name, o->address);
        bytes += o->bytes;
    }
    *ret_bytes = bytes;
    return status;
}

static void notice(const struct rfn_replay_desc *d, struct rfn_site site,
                   enum rfn_notice notice, const char *text)
{
    struct rfn_call_event event;
    if (rfn_call_begin(&event, d->stream->object.device, RFN_CALL_replay_compare,
                       d->stream) != RFN_OK)
        return;
    event.site = site;
    rfn_call_notice(&event, d->stream->object.device, notice, RFN_OK, text);
}

/* One run of one case; what it wrote goes to `to`. */
static enum rfn_status run(const struct rfn_replay_desc *d, struct rfn_site site,
                           int32_t i, int replay, char *to)
{
    struct rfn_device *device = d->stream->object.device;
    enum rfn_status status = RFN_OK;
    for (int32_t o = 0; status == RFN_OK && o < d->outputs; o++)
        status =
            rfn_set_async(d->stream, d->output[o].address, POISON, d->output[o].bytes);
    if (status == RFN_OK)
        status = d->set(d->ctx, d->stream, i);
    if (status == RFN_OK)
    {
        notice(d, site, replay ? RFN_NOTICE_REPLAY : RFN_NOTICE_EAGER, "");
        status = (replay ? d->replay : d->eager)(d->ctx, d->stream, i);
    }
    if (status == RFN_OK)
        status = rfn_stream_sync(d->stream);
    if (status == RFN_OK)
        notice(d, site, replay ? RFN_NOTICE_REPLAY_END : RFN_NOTICE_EAGER_END, "");
    for (int32_t o = 0; status == RFN_OK && o < d->outputs; o++)
    {
        status = rfn_copy_sync(device, to, d->output[o].address, d->output[o].bytes);
        to += d->output[o].bytes;
    }
    return status;
}

static void compare(const struct rfn_replay_desc *d, int32_t i, const char *eager,
                    const char *replay, struct rfn_replay_difference *first)
{
    for (int32_t o = 0; o < d->outputs; o++)
    {
        const struct rfn_replay_output *out = &d->output[o];
        for (int64_t b = 0; memcmp(eager, replay, (size_t)out->bytes) && b < out->bytes;
             b++)
        {
            if (eager[b] == replay[b] || first->bytes++)
                continue;
            first->i = i;
            first->output = out->name;
            first->offset = b;
            first->row = out->row_bytes ? b / out->row_bytes : -1;
            first->eager = (uint8_t)eager[b];
            first->replay = (uint8_t)replay[b];
        }
        eager += out->bytes;
        replay += out->bytes;
    }
}

static void tell(const struct rfn_replay_desc *d, struct rfn_site site,
                 const struct rfn_replay_difference *f)
{
    char text[256], row[40] = "";
    if (f->row >= 0)
        snprintf(row, sizeof row, " (row %" PRId64 ")", f->row);
    snprintf(text, sizeof text,
             "case %d: '%.64s' at byte %" PRId64 "%s is 0x%02x by replay and 0x%02x "
             "eagerly; %" PRId64 " bytes differ in all %d cases",
             f->i, f->output, f->offset, row, f->replay, f->eager, f->bytes, d->cases);
    notice(d, site, RFN_NOTICE_DIFFERS, text);
}

enum rfn_status rfn_replay_compare(const struct rfn_replay_desc *desc,
                                   struct rfn_replay_difference *ret)
{
    struct rfn_site site = rfn_site_here();
    struct rfn_replay_difference first = { .row = -1 };
    int64_t bytes = 0;
    enum rfn_status status = check(desc, &bytes);
    if (status == RFN_OK && !ret)
        status = RFN_FAIL(RFN_INVALID, "replay_compare: ret is NULL");
    if (status == RFN_OK)
        status = rfn_outside_captures(desc->stream->object.device, desc->stream,
                                      "replay_compare");
    if (status != RFN_OK)
        return status;
    char *both = malloc(2 * (size_t)bytes);
    if (!both)
        return RFN_FAIL(
            RFN_NOMEM, "replay_compare: no memory for twice %" PRId64 " bytes of outputs",
            bytes);
    for (int32_t i = 0; status == RFN_OK && i < desc->cases; i++)
    {
        status = run(desc, site, i, 0, both);
        if (status == RFN_OK)
            status = run(desc, site, i, 1, both + bytes);
        if (status == RFN_OK)
            compare(desc, i, both, both + bytes, &first);
    }
    free(both);
    if (status != RFN_OK)
        return status;
    if (first.bytes)
        tell(desc, site, &first);
    *ret = first;
    return RFN_OK;
}
