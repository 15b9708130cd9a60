/*
 * The allocation table: what every known address belongs to, with a generation that is
 * never used twice, and pins by those who have baked the address.
 */
#ifndef RFN_RUNTIME_MEMORY_H
#define RFN_RUNTIME_MEMORY_H

#include <pthread.h>
#include <refrain/device.h>
#include <stdatomic.h>

struct rfn_allocation
{
    char *base;
    int64_t bytes;
    enum rfn_memory_kind kind;
    uint64_t generation;
    int32_t foreign;
    _Atomic int32_t released; /* imported memory that its owner took back */
    _Atomic int32_t pins;
    _Atomic int32_t refs; /* pins, and 1 while it is in the table */
};

struct rfn_memory
{
    pthread_rwlock_t lock;
    struct rfn_allocation **entry; /* sorted by base */
    int32_t entries;
    int32_t capacity;
    uint64_t generations;
    _Atomic uint64_t epoch; /* goes up when pinned memory is released */
};

/* Memory of others that was never imported, and the device's number for it then. */
struct rfn_theirs
{
    const void *address;
    uint64_t id;
};

/* The allocations that somebody holds; in check mode also what is not his to hold. */
struct rfn_pins
{
    struct rfn_allocation **entry;
    int32_t entries;
    int32_t capacity; /* of both together */
    struct rfn_theirs *theirs;
    int32_t others;
};

/* What a pointer is, found under the table's lock. allocation is NULL for unknown memory;
 * it may be used after the lock only when the caller pins it or knows it pinned. */
struct rfn_place
{
    struct rfn_allocation *allocation;
    enum rfn_memory_kind kind;
    int32_t elsewhere; /* another device, whose memory it is; -1: none */
    const void *begin; /* what was asked for */
};

struct rfn_device;

/* Finds the memory of [address, address + bytes); writes the error line when the range
 * leaves its allocation or lies in freed memory. `what` names it in the line. */
enum rfn_status rfn_memory_place(struct rfn_device *device, const char *what,
                                 const void *address, int64_t bytes,
                                 struct rfn_place *ret_place);

/* Room for n more pins, so that adding cannot fail. */
enum rfn_status rfn_pins_reserve(struct rfn_pins *pins, int32_t n);
/* How much room all of it takes. */
int32_t rfn_pins_count(const struct rfn_pins *pins);
/* Adds the memory of a place; a second one of the same allocation is dropped. */
void rfn_pins_add(struct rfn_device *device, struct rfn_pins *pins,
                  const struct rfn_place *place);
/* Adds all of `from`; room was reserved. */
void rfn_pins_join(struct rfn_pins *pins, const struct rfn_pins *from);
void rfn_pins_drop(struct rfn_pins *pins);
int rfn_pins_hold(const struct rfn_pins *pins, const struct rfn_allocation *allocation);

#endif
