#include "runtime/object.h"

#include "runtime/error.h"

#include <string.h>

#define SLOTS 16384u
#define NO_SLOT UINT32_MAX

union slot
{
    struct rfn_object object;
    struct rfn_device device;
    struct rfn_stream stream;
    struct rfn_event event;
    struct rfn_graph graph;
    struct rfn_exec exec;
};

static union slot slots[SLOTS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint32_t used;             /* slots that were ever handed out */
static uint32_t oldest = NO_SLOT; /* queue of free ones among them */
static uint32_t newest = NO_SLOT;

static const char *const type_name[RFN_OBJECT_TYPES] = {
    "nothing", "device", "stream", "event", "graph", "executable"
};

void *rfn_object_create(enum rfn_object_type type, struct rfn_device *device)
{
    union slot *s = NULL;
    pthread_mutex_lock(&lock);
    if (used < SLOTS)
        s = &slots[used++];
    else if (oldest != NO_SLOT)
    {
        s = &slots[oldest];
        oldest = s->object.next_free;
        if (oldest == NO_SLOT)
            newest = NO_SLOT;
    }
    pthread_mutex_unlock(&lock);
    if (!s)
    {
        RFN_FAIL(RFN_LIMIT, "%s: more than %u devices, streams, events and graphs live",
                 type_name[type], SLOTS);
        return NULL;
    }
    memset((char *)s + sizeof s->object.type, 0, sizeof *s - sizeof s->object.type);
    s->object.device = device;
    if (device)
    {
        s->object.serial = atomic_fetch_add(&device->serials, 1) + 1;
        atomic_fetch_add(&device->alive[type], 1);
    }
    atomic_store_explicit(&s->object.type, type, memory_order_release);
    return s;
}

void rfn_object_destroy(void *object)
{
    union slot *s = object;
    uint32_t type = atomic_exchange(&s->object.type, RFN_OBJECT_NONE);
    if (s->object.device)
        atomic_fetch_sub(&s->object.device->alive[type], 1);
    pthread_mutex_lock(&lock);
    s->object.next_free = NO_SLOT;
    if (newest == NO_SLOT)
        oldest = (uint32_t)(s - slots);
    else
        slots[newest].object.next_free = (uint32_t)(s - slots);
    newest = (uint32_t)(s - slots);
    pthread_mutex_unlock(&lock);
}

uint64_t rfn_object_stream_serial(const struct rfn_device *device, const void *native)
{
    uint64_t serial = 0;
    pthread_mutex_lock(&lock);
    for (uint32_t i = 0; i < used && !serial; i++)
    {
        const struct rfn_stream *s = &slots[i].stream;
        if (atomic_load(&s->object.type) == RFN_OBJECT_STREAM &&
            s->object.device == device && s->native == native)
            serial = s->object.serial;
    }
    pthread_mutex_unlock(&lock);
    return serial;
}

enum rfn_status rfn_object_check(const void *object, enum rfn_object_type type,
                                 const char *what)
{
    uintptr_t address = (uintptr_t)object, base = (uintptr_t)slots;
    if (!object)
        return RFN_FAIL(RFN_INVALID, "%s is NULL where a live %s is due", what,
                        type_name[type]);
    if (address < base || address >= base + sizeof slots ||
        (address - base) % sizeof slots[0] != 0)
        return RFN_FAIL(RFN_INVALID, "%s is %p, which is no object of this library", what,
                        object);
    uint32_t is = atomic_load_explicit(
        &slots[(address - base) / sizeof slots[0]].object.type, memory_order_acquire);
    if (is == (uint32_t)type)
        return RFN_OK;
    if (is == RFN_OBJECT_NONE)
        return RFN_FAIL(RFN_INVALID, "%s is %p, a %s that was destroyed", what, object,
                        type_name[type]);
    return RFN_FAIL(RFN_INVALID, "%s is %p, a %s where a %s is due", what, object,
                    type_name[is], type_name[type]);
}
