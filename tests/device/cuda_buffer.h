/* What the checks of single ops on a GPU share: calls that must pass, and buffers that are on
 * both sides. */
#ifndef TESTS_DEVICE_CUDA_BUFFER_H
#define TESTS_DEVICE_CUDA_BUFFER_H

#include <refrain/device.h>
#include <stdio.h>
#include <stdlib.h>

#define MUST(call) must((call), #call, __LINE__)

static struct rfn_device *device;
static struct rfn_stream *stream;

static void must(enum rfn_status status, const char *call, int line)
{
    if (status == RFN_OK)
        return;
    fprintf(stderr, "line %d: %s: %s: %s\n", line, call, rfn_status_name(status),
            rfn_last_error());
    exit(1);
}

/* ---- buffers that are on both sides ---------------------------------------------- */

struct buffer
{
    void *host;
    void *device;
    int64_t bytes;
};

static struct buffer buffer_of(int64_t bytes)
{
    struct buffer b = { .host = calloc(1, (size_t)bytes + 1), .bytes = bytes };
    if (!b.host)
        exit(1);
    MUST(rfn_memory_alloc(device, RFN_MEMORY_DEVICE, bytes ? bytes : 1, &b.device));
    return b;
}

static void buffer_free(struct buffer *b)
{
    MUST(rfn_memory_free(device, b->device));
    free(b->host);
}

static void upload(const struct buffer *b)
{
    if (b->bytes)
        MUST(rfn_copy_sync(device, b->device, b->host, b->bytes));
}

#endif
