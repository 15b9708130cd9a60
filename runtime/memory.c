#include "runtime/memory.h"

#include "runtime/call.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static void allocation_unref(struct rfn_allocation *a)
{
    if (atomic_fetch_sub(&a->refs, 1) == 1)
        free(a);
}

/* Index of the first entry whose end lies past the address; entries when none does. */
static int32_t find_slot(const struct rfn_memory *m, const void *address)
{
    int32_t lo = 0, hi = m->entries;
    while (lo < hi)
    {
        int32_t mid = lo + (hi - lo) / 2;
        const struct rfn_allocation *a = m->entry[mid];
        if ((uintptr_t)a->base + (uintptr_t)a->bytes <= (uintptr_t)address)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static struct rfn_allocation *find(const struct rfn_memory *m, const void *address)
{
    int32_t i = find_slot(m, address);
    if (i == m->entries || (uintptr_t)m->entry[i]->base > (uintptr_t)address)
        return NULL;
    return m->entry[i];
}

static enum rfn_status reserve_entry(struct rfn_memory *m)
{
    if (m->entries < m->capacity)
        return RFN_OK;
    int32_t capacity = m->capacity ? 2 * m->capacity : 64;
    void *grown = realloc(m->entry, (size_t)capacity * sizeof *m->entry);
    if (!grown)
        return RFN_FAIL(RFN_NOMEM, "no memory for a table of %d allocations", capacity);
    m->entry = grown;
    m->capacity = capacity;
    return RFN_OK;
}

static void insert(struct rfn_memory *m, struct rfn_allocation *a)
{
    int32_t i = find_slot(m, a->base);
    memmove(m->entry + i + 1, m->entry + i, (size_t)(m->entries - i) * sizeof *m->entry);
    m->entry[i] = a;
    m->entries++;
    a->generation = ++m->generations;
    atomic_store(&a->refs, 1);
}

static void take_out(struct rfn_memory *m, struct rfn_allocation *a)
{
    int32_t i = find_slot(m, a->base);
    memmove(m->entry + i, m->entry + i + 1,
            (size_t)(m->entries - i - 1) * sizeof *m->entry);
    m->entries--;
}

enum rfn_status rfn_memory_place(struct rfn_device *device, const char *what,
                                 const void *address, int64_t bytes,
                                 struct rfn_place *ret_place)
{
    struct rfn_memory *m = &device->memory;
    enum rfn_status status = RFN_OK;
    struct rfn_place place = { NULL, RFN_MEMORY_PAGEABLE, -1, address };
    if (!address && bytes > 0)
        return RFN_FAIL(RFN_INVALID, "%s is NULL where %" PRId64 " bytes are due", what,
                        bytes);
    pthread_rwlock_rdlock(&m->lock);
    int32_t i = find_slot(m, address);
    struct rfn_allocation *a = i < m->entries ? m->entry[i] : NULL;
    int inside = a && (uintptr_t)a->base <= (uintptr_t)address;
    if (inside)
    {
        place.allocation = a;
        place.kind = a->kind;
        int64_t left = a->bytes - ((const char *)address - a->base);
        if (bytes > left)
            status =
                RFN_FAIL(RFN_INVALID,
                         "%s: %" PRId64 " bytes from %p, but its allocation (%" PRId64
                         " bytes at %p) has %" PRId64 " left there",
                         what, bytes, address, a->bytes, (void *)a->base, left);
    }
    else if (a && (uint64_t)bytes > (uintptr_t)a->base - (uintptr_t)address)
        status = RFN_FAIL(RFN_INVALID,
                          "%s: %" PRId64 " bytes from %p, but an allocation (%" PRId64
                          " bytes at %p) begins within them",
                          what, bytes, address, a->bytes, (void *)a->base);
    pthread_rwlock_unlock(&m->lock);
    if (!inside && status == RFN_OK)
    {
        place.kind =
            device->backend->memory_kind(device->impl, address, &place.elsewhere);
        if (device->backend->closed_memory && place.kind != RFN_MEMORY_PAGEABLE)
            status = RFN_FAIL(RFN_INVALID,
                              "%s: %p lies in no live allocation of this device (it was "
                              "freed, is past the end of one, or is another device's)",
                              what, address);
    }
    if (status == RFN_OK)
        *ret_place = place;
    return status;
}

/* ---- pins ------------------------------------------------------------------------ */

int32_t rfn_pins_count(const struct rfn_pins *pins)
{
    return pins->entries + pins->others;
}

enum rfn_status rfn_pins_reserve(struct rfn_pins *pins, int32_t n)
{
    int32_t due = rfn_pins_count(pins) + n;
    if (due <= pins->capacity)
        return RFN_OK;
    int32_t capacity = 2 * pins->capacity;
    if (capacity < due)
        capacity = due;
    void *entry = realloc(pins->entry, (size_t)capacity * sizeof *pins->entry);
    if (entry)
        pins->entry = entry;
    void *theirs =
        entry ? realloc(pins->theirs, (size_t)capacity * sizeof *pins->theirs) : NULL;
    if (!theirs && !pins->capacity)
        rfn_pins_drop(pins); /* who holds nothing is not asked to drop it */
    if (!theirs)
        return RFN_FAIL(RFN_NOMEM, "no memory for %d pins", capacity);
    pins->theirs = theirs;
    pins->capacity = capacity;
    return RFN_OK;
}

int rfn_pins_hold(const struct rfn_pins *pins, const struct rfn_allocation *allocation)
{
    for (int32_t i = 0; i < pins->entries; i++)
        if (pins->entry[i] == allocation)
            return 1;
    return 0;
}

static void add(struct rfn_pins *pins, struct rfn_allocation *allocation)
{
    if (rfn_pins_hold(pins, allocation))
        return;
    atomic_fetch_add(&allocation->refs, 1);
    atomic_fetch_add(&allocation->pins, 1);
    pins->entry[pins->entries++] = allocation;
}

static void add_theirs(struct rfn_pins *pins, struct rfn_theirs theirs)
{
    for (int32_t i = 0; i < pins->others; i++)
        if (pins->theirs[i].address == theirs.address)
            return;
    pins->theirs[pins->others++] = theirs;
}

void rfn_pins_add(struct rfn_device *device, struct rfn_pins *pins,
                  const struct rfn_place *place)
{
    const struct rfn_backend *b = device->backend;
    if (place->allocation)
        add(pins, place->allocation);
    else if (device->check && b->memory_id && place->kind == RFN_MEMORY_DEVICE &&
             place->begin)
    {
        struct rfn_theirs theirs = { place->begin,
                                     b->memory_id(device->impl, place->begin) };
        if (theirs.id)
            add_theirs(pins, theirs);
    }
}

void rfn_pins_join(struct rfn_pins *pins, const struct rfn_pins *from)
{
    for (int32_t i = 0; i < from->entries; i++)
        add(pins, from->entry[i]);
    for (int32_t i = 0; i < from->others; i++)
        add_theirs(pins, from->theirs[i]);
}

void rfn_pins_drop(struct rfn_pins *pins)
{
    for (int32_t i = 0; i < pins->entries; i++)
    {
        atomic_fetch_sub(&pins->entry[i]->pins, 1);
        allocation_unref(pins->entry[i]);
    }
    free(pins->entry);
    free(pins->theirs);
    *pins = (struct rfn_pins) { 0 };
}

/* Who holds an allocation, for the RFN_BUSY line. Called with device->lock held. */
static const struct rfn_body *holder(const struct rfn_device *device,
                                     const struct rfn_allocation *a)
{
    for (const struct rfn_body *b = device->bodies; b; b = b->next)
    {
        if (rfn_pins_hold(&b->pins, a))
            return b;
        for (int32_t i = 0; i < b->launches; i++)
            if (rfn_pins_hold(&b->launch[i].pins, a))
                return b;
    }
    for (const struct rfn_exec *e = device->execs; e; e = e->next)
    {
        if (rfn_pins_hold(&e->pins, a))
            return e->body;
        for (int32_t i = 0; i < e->body->launches; i++)
            if (rfn_pins_hold(&e->launch[i], a))
                return e->body;
    }
    return NULL;
}

/* Whether a graph of somebody else may hold the allocation at this address. */
static int pinned_by_others(struct rfn_device *device, const void *address)
{
    int held = 0;
    pthread_mutex_lock(&device->lock);
    pthread_rwlock_rdlock(&device->memory.lock);
    const struct rfn_allocation *a = find(&device->memory, address);
    if (a && atomic_load(&a->pins) > 0)
    {
        const struct rfn_body *b = holder(device, a);
        held = b && b->foreign;
    }
    pthread_rwlock_unlock(&device->memory.lock);
    pthread_mutex_unlock(&device->lock);
    return held;
}

/* ---- public ---------------------------------------------------------------------- */

static enum rfn_status short_of(struct rfn_device *device, enum rfn_memory_kind kind,
                                int64_t bytes, int code)
{
    struct rfn_device_info info = { 0 };
    if (kind == RFN_MEMORY_PINNED)
        return rfn_error_at(__FILE__, __LINE__, RFN_NOMEM, code,
                            "memory_alloc: %" PRId64 " bytes of pinned memory were asked "
                            "for and are not there",
                            bytes);
    device->backend->info(device->impl, &info);
    return rfn_error_at(__FILE__, __LINE__, RFN_NOMEM, code,
                        "memory_alloc: %" PRId64
                        " bytes of device memory were asked for, "
                        "%" PRId64 " of %" PRId64 " are free",
                        bytes, info.memory_free_bytes, info.memory_bytes);
}

enum rfn_status rfn_memory_alloc(struct rfn_device *device, enum rfn_memory_kind kind,
                                 int64_t bytes, void **ret_address)
{
    struct rfn_call_event event;
    enum rfn_status status = rfn_object_check(device, RFN_OBJECT_DEVICE, "device");
    if (status != RFN_OK)
        return status;
    if (kind != RFN_MEMORY_DEVICE && kind != RFN_MEMORY_PINNED)
        return RFN_FAIL(RFN_INVALID, "memory kind is %d; device is %d, pinned is %d",
                        kind, RFN_MEMORY_DEVICE, RFN_MEMORY_PINNED);
    if (bytes <= 0 || !ret_address)
        return RFN_FAIL(RFN_INVALID, "%" PRId64 " bytes to %p: both must be above 0",
                        bytes, (void *)ret_address);
    status = rfn_call_begin(&event, device, RFN_CALL_memory_alloc, NULL);
    if (status != RFN_OK)
        return status;

    struct rfn_memory *m = &device->memory;
    struct rfn_allocation *a = calloc(1, sizeof *a);
    if (!a)
        return RFN_FAIL(RFN_NOMEM, "no memory to note an allocation of %" PRId64 " bytes",
                        bytes);
    pthread_rwlock_wrlock(&m->lock);
    status = reserve_entry(m);
    void *base = NULL;
    int code = 0;
    if (status == RFN_OK)
    {
        code = device->backend->memory_alloc(device->impl, kind, bytes, &base);
        if (code == 0)
        {
            a->base = base;
            a->bytes = bytes;
            a->kind = kind;
            insert(m, a);
        }
    }
    pthread_rwlock_unlock(&m->lock);
    if (status != RFN_OK || code != 0)
        free(a);
    if (status != RFN_OK)
        return status;
    event.bytes = bytes;
    event.dst = base;
    event.dst_kind = kind;
    status = rfn_call_end(&event, device, code);
    if (status == RFN_NOMEM)
        return short_of(device, kind, bytes, code);
    if (status == RFN_OK)
        *ret_address = base;
    return status;
}

enum rfn_status rfn_memory_free(struct rfn_device *device, void *address)
{
    struct rfn_call_event event;
    enum rfn_status status = rfn_object_check(device, RFN_OBJECT_DEVICE, "device");
    if (status != RFN_OK)
        return status;
    /* A lost device still takes its memory back. */
    int lost = atomic_load(&device->lost);
    if (!lost)
    {
        status = rfn_call_begin(&event, device, RFN_CALL_memory_free, NULL);
        if (status != RFN_OK)
            return status;
        event.dst = address;
    }
    struct rfn_memory *m = &device->memory;
    int code = 0;
    if (address && pinned_by_others(device, address))
        rfn_foreign_wait(device);
    if (!address)
        code = device->backend->memory_free(device->impl, RFN_MEMORY_DEVICE, NULL, 0);
    else
    {
        pthread_mutex_lock(&device->lock);
        pthread_rwlock_wrlock(&m->lock);
        struct rfn_allocation *a = find(m, address);
        if (!a || a->base != address || a->foreign)
            status = a ? RFN_FAIL(RFN_INVALID,
                                  "%p is %s; the base of that allocation is %p", address,
                                  a->foreign ? "imported memory (release it instead)"
                                             : "inside an allocation",
                                  (void *)a->base)
                       : RFN_FAIL(RFN_INVALID, "%p is no live allocation", address);
        else if (atomic_load(&a->pins) > 0)
        {
            const struct rfn_body *b = holder(device, a);
            status = RFN_FAIL(
                RFN_BUSY,
                "%p (%" PRId64 " bytes, generation %" PRIu64
                ") is held by graph \"%s\" (capture %" PRIu64 ", begun at %s:%d)",
                address, a->bytes, a->generation, b ? b->name : "", b ? b->capture_id : 0,
                b ? b->begun.file : "", b ? b->begun.line : 0);
        }
        else
        {
            event.bytes = a->bytes;
            event.dst_kind = a->kind;
            code = device->backend->memory_free(device->impl, a->kind, address, a->bytes);
            if (code == 0 || lost || rfn_call_loses(code))
            {
                take_out(m, a);
                allocation_unref(a);
            }
        }
        pthread_rwlock_unlock(&m->lock);
        pthread_mutex_unlock(&device->lock);
    }
    if (status != RFN_OK || lost)
        return status;
    return rfn_call_end(&event, device, code);
}

static const char *kind_name(enum rfn_memory_kind kind)
{
    return kind == RFN_MEMORY_DEVICE   ? "device memory"
           : kind == RFN_MEMORY_PINNED ? "pinned host memory"
                                       : "pageable host memory";
}

/* What the device itself knows of both ends. Memory called pinned is believed: a system may
 * let its GPU read all of the host's. */
static enum rfn_status check_import(struct rfn_device *device, const void *address,
                                    int64_t bytes, enum rfn_memory_kind kind)
{
    const struct rfn_backend *b = device->backend;
    const char *end[2] = { address, (const char *)address + bytes - 1 };
    for (int i = 0; i < 2; i++)
    {
        int32_t elsewhere;
        enum rfn_memory_kind is = b->memory_kind(device->impl, end[i], &elsewhere);
        if (b->closed_memory && is != RFN_MEMORY_PAGEABLE)
            return RFN_FAIL(RFN_INVALID,
                            "%" PRId64
                            " bytes at %p lie in memory of a device of this process; "
                            "it is live, was freed, or is another device's",
                            bytes, address);
        if (b->closed_memory || (kind == RFN_MEMORY_PINNED && is != RFN_MEMORY_DEVICE))
            continue;
        if (is != kind)
            return RFN_FAIL(
                RFN_INVALID, "%" PRId64 " bytes at %p are said to be %s, but %p is %s",
                bytes, address, kind_name(kind), (const void *)end[i], kind_name(is));
        if (elsewhere >= 0)
            return RFN_FAIL(RFN_INVALID,
                            "%" PRId64 " bytes at %p are memory of device %d, this is "
                            "device %d",
                            bytes, address, elsewhere, device->ordinal);
    }
    return RFN_OK;
}

enum rfn_status rfn_memory_import(struct rfn_device *device, void *address, int64_t bytes,
                                  enum rfn_memory_kind kind)
{
    struct rfn_call_event event;
    enum rfn_status status = rfn_object_check(device, RFN_OBJECT_DEVICE, "device");
    if (status != RFN_OK)
        return status;
    if (kind != RFN_MEMORY_DEVICE && kind != RFN_MEMORY_PINNED)
        return RFN_FAIL(RFN_INVALID, "memory kind is %d; device is %d, pinned is %d",
                        kind, RFN_MEMORY_DEVICE, RFN_MEMORY_PINNED);
    if (!address || bytes <= 0)
        return RFN_FAIL(RFN_INVALID, "%" PRId64 " bytes at %p: neither may be 0", bytes,
                        address);
    if ((uintptr_t)bytes > UINTPTR_MAX - (uintptr_t)address)
        return RFN_FAIL(RFN_INVALID, "%" PRId64 " bytes at %p pass the last address",
                        bytes, address);
    status = rfn_call_begin(&event, device, RFN_CALL_memory_import, NULL);
    if (status != RFN_OK)
        return status;
    int closed = device->backend->closed_memory;
    if (closed)
        status = check_import(device, address, bytes, kind);
    if (status != RFN_OK)
        return status;
    struct rfn_memory *m = &device->memory;
    struct rfn_allocation *a = calloc(1, sizeof *a);
    if (!a)
        return RFN_FAIL(RFN_NOMEM, "no memory to note an import");
    a->base = address;
    a->bytes = bytes;
    a->kind = kind;
    a->foreign = 1;
    pthread_rwlock_wrlock(&m->lock);
    int32_t i = find_slot(m, address);
    if (i < m->entries &&
        (uintptr_t)m->entry[i]->base < (uintptr_t)address + (uintptr_t)bytes)
        status = RFN_FAIL(RFN_INVALID,
                          "%" PRId64 " bytes at %p overlap a live allocation of %" PRId64
                          " bytes at %p",
                          bytes, address, m->entry[i]->bytes, (void *)m->entry[i]->base);
    else if (!closed)
        status = check_import(device, address, bytes, kind);
    if (status == RFN_OK)
        status = reserve_entry(m);
    if (status == RFN_OK)
        insert(m, a);
    pthread_rwlock_unlock(&m->lock);
    if (status != RFN_OK)
    {
        free(a);
        return status;
    }
    event.dst = address;
    event.bytes = bytes;
    event.dst_kind = kind;
    return rfn_call_end(&event, device, 0);
}

enum rfn_status rfn_memory_release(struct rfn_device *device, void *address)
{
    struct rfn_call_event event;
    enum rfn_status status = rfn_object_check(device, RFN_OBJECT_DEVICE, "device");
    if (status != RFN_OK)
        return status;
    /* A lost device forgets what it was lent. */
    int lost = atomic_load(&device->lost);
    if (!lost)
        status = rfn_call_begin(&event, device, RFN_CALL_memory_release, NULL);
    if (status != RFN_OK)
        return status;
    struct rfn_memory *m = &device->memory;
    /* Who places and then pins holds the device's lock in between. */
    pthread_mutex_lock(&device->lock);
    pthread_rwlock_wrlock(&m->lock);
    struct rfn_allocation *a = find(m, address);
    if (!a || a->base != address || !a->foreign)
        status = RFN_FAIL(RFN_INVALID, "%p is not the base of imported memory", address);
    else
    {
        event.dst = address;
        event.bytes = a->bytes;
        event.dst_kind = a->kind;
        atomic_store(&a->released, 1);
        if (atomic_load(&a->pins) > 0)
            atomic_fetch_add(&m->epoch, 1);
        take_out(m, a);
        allocation_unref(a);
    }
    pthread_rwlock_unlock(&m->lock);
    pthread_mutex_unlock(&device->lock);
    return status == RFN_OK && !lost ? rfn_call_end(&event, device, 0) : status;
}

enum rfn_status rfn_memory_query(struct rfn_device *device, const void *address,
                                 struct rfn_memory_info *ret_info)
{
    enum rfn_status status = rfn_object_check(device, RFN_OBJECT_DEVICE, "device");
    if (status != RFN_OK)
        return status;
    if (!ret_info)
        return RFN_FAIL(RFN_INVALID, "ret_info is NULL");
    status = rfn_call_alive(device, "memory_query");
    if (status == RFN_OK)
        status = rfn_call_allowed(device, "memory_query");
    if (status != RFN_OK)
        return status;
    rfn_foreign_reap(device);
    struct rfn_memory_info info = { .kind = RFN_MEMORY_PAGEABLE };
    struct rfn_memory *m = &device->memory;
    pthread_rwlock_rdlock(&m->lock);
    const struct rfn_allocation *a = find(m, address);
    if (a)
        info = (struct rfn_memory_info) {
            a->kind, a->base, a->bytes, a->generation, atomic_load(&a->pins), a->foreign
        };
    pthread_rwlock_unlock(&m->lock);
    int32_t elsewhere;
    if (!a)
        info.kind = device->backend->memory_kind(device->impl, address, &elsewhere);
    *ret_info = info;
    return RFN_OK;
}
