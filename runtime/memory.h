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

/* The allocations that somebody holds. */
struct rfn_pins
{
    struct rfn_allocation **entry;
    int32_t entries;
    int32_t capacity;
};

/* What a pointer is, found under the table's lock. allocation is NULL for unknown memory;
 * it may be used after the lock only when the caller pins it or knows it pinned. */
struct rfn_place
{
    struct rfn_allocation *allocation;
    enum rfn_memory_kind kind;
};

struct rfn_device;

/* Finds the memory of [address, address + bytes); writes the error line when the range
 * leaves its allocation or lies in freed memory. `what` names it in the line. */
enum rfn_status rfn_memory_place(struct rfn_device *device, const char *what,
                                 const void *address, int64_t bytes,
                                 struct rfn_place *ret_place);

/* Room for n more pins, so that adding cannot fail. */
enum rfn_status rfn_pins_reserve(struct rfn_pins *pins, int32_t n);
/* Adds a pin; a second one of the same allocation is dropped. NULL is fine. */
void rfn_pins_add(struct rfn_pins *pins, struct rfn_allocation *allocation);
/* Adds all of `from`; room was reserved. */
void rfn_pins_join(struct rfn_pins *pins, const struct rfn_pins *from);
void rfn_pins_drop(struct rfn_pins *pins);
int rfn_pins_hold(const struct rfn_pins *pins, const struct rfn_allocation *allocation);

#endif
