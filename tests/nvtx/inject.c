/* An NVTX tool of one page: keeps pushes and pops of domains, counts everything else. */
#include "tests/nvtx/inject.h"

#include <nvtx3/nvToolsExt.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct inject record = { .drop = -1 };
static int threads;
static _Thread_local int self;

EXPORT struct inject *inject_record(void);
EXPORT int InitializeInjectionNvtx2(NvtxGetExportTableFunc_t get_table);

struct inject *inject_record(void)
{
    return &record;
}

static void count_other(void)
{
    pthread_mutex_lock(&lock);
    record.others++;
    pthread_mutex_unlock(&lock);
}

static void keep(struct inject_event *event)
{
    pthread_mutex_lock(&lock);
    if (!self)
        self = ++threads;
    event->thread = self;
    if (event->push || record.drop < 0 || record.drop-- > 0)
    {
        if (record.events < INJECT_EVENTS)
            record.event[record.events] = *event;
        record.events++;
    }
    pthread_mutex_unlock(&lock);
}

/* A handle is a copy of its text: NVTX's callers may take theirs away. */
static void *handle_of(const char *text, int *count)
{
    pthread_mutex_lock(&lock);
    ++*count;
    pthread_mutex_unlock(&lock);
    return strdup(text);
}

static nvtxDomainHandle_t NVTX_API on_domain(const char *name)
{
    return handle_of(name, &record.domains);
}

static nvtxStringHandle_t NVTX_API on_string(nvtxDomainHandle_t domain, const char *text)
{
    (void)domain;
    return handle_of(text, &record.strings);
}

static int NVTX_API on_push(nvtxDomainHandle_t domain, const nvtxEventAttributes_t *event)
{
    struct inject_event e = { .push = 1 };
    e.registered = event->messageType == NVTX_MESSAGE_TYPE_REGISTERED;
    if ((!e.registered && event->messageType != NVTX_MESSAGE_TYPE_ASCII) ||
        event->payloadType != NVTX_PAYLOAD_TYPE_INT64 || event->version != NVTX_VERSION ||
        event->size != NVTX_EVENT_ATTRIB_STRUCT_SIZE)
        count_other();
    else
    {
        const char *text =
            e.registered ? (const char *)event->message.registered : event->message.ascii;
        snprintf(e.text, sizeof e.text, "%s", text);
        e.payload = event->payload.llValue;
    }
    snprintf(e.domain, sizeof e.domain, "%s", (const char *)domain);
    keep(&e);
    return 0;
}

static int NVTX_API on_pop(nvtxDomainHandle_t domain)
{
    struct inject_event e = { .push = 0 };
    snprintf(e.domain, sizeof e.domain, "%s", (const char *)domain);
    keep(&e);
    return 0;
}

/* Calls without a domain, and ranges that one thread may begin and another end. */
static int NVTX_API on_other_push(const char *message)
{
    (void)message;
    count_other();
    return 0;
}

static int NVTX_API on_other_push_event(const nvtxEventAttributes_t *event)
{
    (void)event;
    count_other();
    return 0;
}

static int NVTX_API on_other_pop(void)
{
    count_other();
    return 0;
}

static nvtxRangeId_t NVTX_API on_start(nvtxDomainHandle_t domain,
                                       const nvtxEventAttributes_t *event)
{
    (void)domain;
    (void)event;
    count_other();
    return 0;
}

#define HOOK(id, function) *table[id] = (NvtxFunctionPointer)(function)

int InitializeInjectionNvtx2(NvtxGetExportTableFunc_t get_table)
{
    const NvtxExportTableCallbacks *callbacks = get_table(NVTX_ETID_CALLBACKS);
    NvtxFunctionTable table = NULL;
    unsigned size = 0;
    if (!callbacks ||
        !callbacks->GetModuleFunctionTable(NVTX_CB_MODULE_CORE2, &table, &size) ||
        size <= NVTX_CBID_CORE2_DomainCreateA)
        return 0;
    HOOK(NVTX_CBID_CORE2_DomainCreateA, on_domain);
    HOOK(NVTX_CBID_CORE2_DomainRegisterStringA, on_string);
    HOOK(NVTX_CBID_CORE2_DomainRangePushEx, on_push);
    HOOK(NVTX_CBID_CORE2_DomainRangePop, on_pop);
    HOOK(NVTX_CBID_CORE2_DomainRangeStartEx, on_start);
    if (!callbacks->GetModuleFunctionTable(NVTX_CB_MODULE_CORE, &table, &size) ||
        size <= NVTX_CBID_CORE_RangePop)
        return 0;
    HOOK(NVTX_CBID_CORE_RangePushEx, on_other_push_event);
    HOOK(NVTX_CBID_CORE_RangePushA, on_other_push);
    HOOK(NVTX_CBID_CORE_RangePop, on_other_pop);
    record.loads++;
    return 1;
}
