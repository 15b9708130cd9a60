/* Ranges: a small stack of the thread's own, and NVTX's where its headers were found. */
#include "runtime/range.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#if RFN_NVTX
#include <nvtx3/nvToolsExt.h>
#endif

static const char *const kinds[RFN_RANGE_KINDS] = {
    [RFN_RANGE_PLAN] = "plan",       [RFN_RANGE_UPDATE] = "update",
    [RFN_RANGE_FORWARD] = "forward", [RFN_RANGE_CAPTURE] = "capture",
    [RFN_RANGE_REPLAY] = "replay",
};

struct ranges
{
    struct rfn_range range[RFN_RANGE_DEPTH];
    int32_t depth; /* past RFN_RANGE_DEPTH: counted, not kept */
};

static _Thread_local struct ranges ranges;

void rfn_range_name(const struct rfn_range *range, char name[RFN_RANGE_NAME_BYTES])
{
    const char *kind = kinds[range->kind];
    if (range->next_n)
        snprintf(name, RFN_RANGE_NAME_BYTES, "%s %dx%d%s", kind, range->payload,
                 range->next_n, range->short_context ? " short" : "");
    else
        snprintf(name, RFN_RANGE_NAME_BYTES, "%s", kind);
}

#if RFN_NVTX

enum tool
{
    TOOL_UNASKED = 0,
    TOOL_NONE,
    TOOL_THERE, /* for good: a process has one tool or none */
};

static _Atomic int tool;
static nvtxDomainHandle_t domain;
static nvtxStringHandle_t registered[RFN_RANGE_KINDS];
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* The first NVTX call of a process loads the tool. */
static void look_for_tool(void)
{
    domain = nvtxDomainCreateA("refrain");
    for (int i = 0; domain && i < RFN_RANGE_KINDS; i++)
        registered[i] = nvtxDomainRegisterStringA(domain, kinds[i]);
    atomic_store(&tool, domain ? TOOL_THERE : TOOL_NONE);
}

static void tell(const struct rfn_range *range)
{
    char name[RFN_RANGE_NAME_BYTES];
    nvtxEventAttributes_t event = {
        .version = NVTX_VERSION,
        .size = NVTX_EVENT_ATTRIB_STRUCT_SIZE,
        .payloadType = NVTX_PAYLOAD_TYPE_INT64,
        .payload.llValue = range->payload,
        .messageType = NVTX_MESSAGE_TYPE_REGISTERED,
        .message.registered = registered[range->kind],
    };
    if (range->next_n) /* one of many names: not worth a registration */
    {
        rfn_range_name(range, name);
        event.messageType = NVTX_MESSAGE_TYPE_ASCII;
        event.message.ascii = name;
    }
    nvtxDomainRangePushEx(domain, &event);
}

#endif

int rfn_range_push(enum rfn_range_kind kind, int32_t payload, int32_t next_n,
                   int32_t short_context)
{
    struct ranges *r = &ranges;
    const struct rfn_range range = { (uint8_t)kind, short_context != 0, (uint16_t)next_n,
                                     payload };
    if (r->depth < RFN_RANGE_DEPTH)
        r->range[r->depth] = range;
    r->depth++;
#if RFN_NVTX
    int there = atomic_load_explicit(&tool, memory_order_acquire);
    if (there == TOOL_NONE)
        return 0;
    if (there == TOOL_UNASKED)
    {
        pthread_once(&once, look_for_tool);
        there = atomic_load(&tool);
    }
    if (there == TOOL_THERE)
    {
        tell(&range);
        return 1;
    }
#endif
    return 0;
}

void rfn_range_pop(const int *pushed)
{
    ranges.depth--;
#if RFN_NVTX
    if (*pushed)
        nvtxDomainRangePop(domain);
#else
    (void)pushed;
#endif
}

int32_t rfn_range_note(struct rfn_range ret[RFN_RANGE_DEPTH])
{
    const struct ranges *r = &ranges;
    int32_t n = r->depth < RFN_RANGE_DEPTH ? r->depth : RFN_RANGE_DEPTH;
    memcpy(ret, r->range, (size_t)n * sizeof *ret);
    return n;
}
