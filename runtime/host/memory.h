/*
 * Memory of the host device.
 *
 * Without check it is ordinary aligned memory. With check, device and pinned memory live in
 * one memfd at equal offsets of two reserved ranges: `user`, whose addresses callers hold,
 * and `work`, whose addresses the device side touches; the two differ by a constant.
 * Device memory is never mapped in the user range; pinned memory is mapped in both.
 *
 *     user   | -- -- -- | pinned | -- | -- -- | --        -- unreadable
 *     work   | device   | pinned | -- | device| --        -- guard page after each
 *
 * Offsets only grow: a freed range is never handed out again. An allocation ends flush with
 * its last page, as far as 256-byte alignment allows, so that overruns fault.
 *
 * Threads   Any, on one object; alias takes no lock.
 */
#ifndef RFN_RUNTIME_HOST_MEMORY_H
#define RFN_RUNTIME_HOST_MEMORY_H

#include "runtime/observe.h"

#define RFN_HOST_ALIGN 256
#define RFN_HOST_POISON 0xfb /* f32 and bf16: about -2.6e36; i32: -67372037; e4m3: -352 */

struct rfn_host_memory;

/* Returns a CUDA error number: 0 or 2. */
int rfn_host_memory_open(const struct rfn_device_desc *desc,
                         struct rfn_host_memory **ret);
/* Frees everything still allocated. NULL is fine. */
void rfn_host_memory_close(struct rfn_host_memory *m);

/* Returns 0 or 2. Fresh memory is filled with RFN_HOST_POISON in check mode. */
int rfn_host_memory_alloc(struct rfn_host_memory *m, enum rfn_memory_kind kind,
                          int64_t bytes, void **ret);
/* `address` is what alloc gave; anything else is ignored. */
void rfn_host_memory_free(struct rfn_host_memory *m, void *address);
/* Pageable for all that was not allocated here. */
enum rfn_memory_kind rfn_host_memory_kind(struct rfn_host_memory *m, const void *address);
/* 1 where a device in check mode, this or another one, has reserved the address: nobody may
 * touch it who does not know an allocation there. */
int rfn_host_memory_reserved(const void *address);
/* The address that the device side may touch; foreign addresses come back as they are. */
void *rfn_host_memory_alias(struct rfn_host_memory *m, const void *address);

/* 1 with the fault handler: pend and settle have an effect. */
int rfn_host_memory_guards(const struct rfn_host_memory *m);
/* Between pend and settle a copy reads (write = 0) or writes (write = 1) the bytes, and an
 * access by the user that conflicts is recorded, with the copy's site. No effect without the
 * fault handler, and on memory that is not pinned. Each settle answers one pend with the same
 * arguments. */
void rfn_host_memory_pend(struct rfn_host_memory *m, const void *address, int64_t bytes,
                          int write, struct rfn_site site);
void rfn_host_memory_settle(struct rfn_host_memory *m, const void *address, int64_t bytes,
                            int write);
/* Returns how many early accesses happened since open and fills in the first `max` of
 * them. One copy counts once for reads and once for writes. */
int rfn_host_memory_touches(struct rfn_host_memory *m, struct rfn_touch *ret, int max);
/* Accesses of the calling thread are let through unrecorded while `on`; returns what it was. */
int rfn_host_memory_let(int on);

#endif
