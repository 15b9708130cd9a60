#define RFN_NO_SITES
#include "graph/seen.h"
#include "runtime/call.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void blocking(struct rfn_device *device)
{
    struct rfn_call_event event;
    char text[160];
    const char *value = getenv("CUDA_LAUNCH_BLOCKING");
    if (!value || !value[0] || !strcmp(value, "0") ||
        rfn_call_begin(&event, device, RFN_CALL_check_create, NULL) != RFN_OK)
        return;
    snprintf(text, sizeof text, "CUDA_LAUNCH_BLOCKING is '%.40s' in the environment",
             value);
    rfn_call_notice(&event, device, RFN_NOTICE_SLOW, RFN_OK, text);
}

static void late(struct rfn_device *device)
{
    struct rfn_call_event event;
    uint64_t id = 0;
    char text[320] = "";
    pthread_mutex_lock(&device->lock);
    for (const struct rfn_body *b = device->bodies; b; b = b->next)
        if (b->origin)
        {
            id = b->capture_id;
            snprintf(text, sizeof text,
                     "capture %" PRIu64
                     " '%s', begun at %.140s:%d, is open already: what "
                     "it holds so far was not seen, and its end will not be judged",
                     id, b->name, b->begun.file ? b->begun.file : "", b->begun.line);
        }
    pthread_mutex_unlock(&device->lock);
    if (!id || rfn_call_begin(&event, device, RFN_CALL_check_create, NULL) != RFN_OK)
        return;
    event.graph_id = id;
    rfn_call_notice(&event, device, RFN_NOTICE_UNSEEN, RFN_OK, text);
}

void rfn_seen_attach(struct rfn_device *device)
{
    blocking(device);
    late(device);
}

enum rfn_status rfn_seen_too_few(struct rfn_device *device, int32_t ended,
                                 int32_t captures)
{
    struct rfn_call_event event;
    char text[160];
    enum rfn_status status = rfn_call_begin(&event, device, RFN_CALL_check_require, NULL);
    if (status != RFN_OK)
        return status;
    snprintf(text, sizeof text,
             "%d captures were to be checked, but the checker has seen %d from begin to "
             "end",
             captures, ended);
    return rfn_call_refuse(&event, device, RFN_NOTICE_UNSEEN, RFN_NOT_FOUND, text);
}
