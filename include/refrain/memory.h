/*
 * Memory of a device: what it is, whose it is, and until when.
 *
 * Captures, graphs and executables hold the allocations that they touch; each has a number of
 * its own, the generation, so that another allocation at the same address is told apart.
 *
 * What holds for all calls unless a line says otherwise, as in device.h:
 *   Threads   Any thread.
 *   Errors    RFN_INVALID for what is no device; RFN_CAPTURE when a rule of stream capture
 *             forbids the call; RFN_DEVICE once the device is lost.
 */
#ifndef REFRAIN_MEMORY_H
#define REFRAIN_MEMORY_H

#include <refrain/status.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct rfn_device;

enum rfn_memory_kind
{
    RFN_MEMORY_PAGEABLE = 0, /* what the device does not know */
    RFN_MEMORY_PINNED,
    RFN_MEMORY_DEVICE,
};

struct rfn_memory_info
{
    enum rfn_memory_kind kind;
    void *base;
    int64_t bytes;
    uint64_t generation; /* unique in the device's life; 0 for pageable */
    int32_t pins;        /* captures, graphs and executables that hold it */
    int32_t foreign;     /* imported */
};

/**
 * Allocates device or pinned memory, 256-byte aligned, content undefined.
 *
 * Capture   Potentially unsafe: forbidden by the thread-mode predicate.
 * Errors    RFN_NOMEM with the bytes asked for and, of device memory, those that are free.
 */
RFN_API enum rfn_status rfn_memory_alloc(struct rfn_device *device,
                                         enum rfn_memory_kind kind, int64_t bytes,
                                         void **ret_address);

/**
 * Frees memory of rfn_memory_alloc; NULL is fine.
 *
 * Capture   Potentially unsafe: forbidden by the thread-mode predicate.
 * Errors    RFN_BUSY when a capture or graph holds it, naming it; the last executable of
 *           somebody else's graph is known to be gone up to 5 ms later, which this waits for.
 *           RFN_INVALID: not the base of a live allocation.
 */
RFN_API enum rfn_status rfn_memory_free(struct rfn_device *device, void *address);

/**
 * Makes memory of somebody else known, with a generation of its own, so that graphs that
 * touch it are seen to go stale once it is released. On the host device `kind` is believed, on
 * cuda the driver is asked; ops take device memory that was never imported as well.
 *
 * Capture   Safe.
 * Errors    RFN_INVALID: overlaps a live allocation, both ranges named; on cuda called device
 *           memory and is not, or is another device's.
 */
RFN_API enum rfn_status rfn_memory_import(struct rfn_device *device, void *address,
                                          int64_t bytes, enum rfn_memory_kind kind);

/**
 * Forgets imported memory, though a graph holds it; launching that one is then refused.
 *
 * Capture   Safe.
 */
RFN_API enum rfn_status rfn_memory_release(struct rfn_device *device, void *address);

/**
 * Says what an address is; unknown memory is pageable with base NULL.
 *
 * Capture   Safe.
 */
RFN_API enum rfn_status rfn_memory_query(struct rfn_device *device, const void *address,
                                         struct rfn_memory_info *ret_info);

#ifndef RFN_NO_SITES
#define rfn_memory_alloc(...) RFN_SITED(rfn_memory_alloc(__VA_ARGS__))
#define rfn_memory_free(...) RFN_SITED(rfn_memory_free(__VA_ARGS__))
#define rfn_memory_import(...) RFN_SITED(rfn_memory_import(__VA_ARGS__))
#define rfn_memory_release(...) RFN_SITED(rfn_memory_release(__VA_ARGS__))
#endif

#ifdef __cplusplus
}
#endif
#endif
