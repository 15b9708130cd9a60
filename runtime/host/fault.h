/*
 * Early accesses to pinned memory, seen through page protection.
 *
 * One SIGSEGV handler serves all watches. It is installed with the first and removed with
 * the last; a fault that is not ours goes to the handler that was there before. It takes no
 * lock and allocates nothing: its tables have a fixed size, and a copy that finds them full
 * is not watched. What protection cannot see: system calls that touch the bytes (they fail
 * with EFAULT), an access that begins before the pending bytes, and a second access to a
 * page that the first one opened, until the next pend or settle closes it again.
 *
 * The caller serialises all functions of one watch.
 */
#ifndef RFN_RUNTIME_HOST_FAULT_H
#define RFN_RUNTIME_HOST_FAULT_H

#include "runtime/error.h"
#include "runtime/host/memory.h"

struct rfn_host_fault;

/* Watches addresses [begin, begin + bytes). Returns 0 or 2. */
int rfn_host_fault_open(const void *begin, int64_t bytes, struct rfn_host_fault **ret);
void rfn_host_fault_close(struct rfn_host_fault *f);

/* Readable, writable pages that may be protected. Returns 0 when the table is full: the
 * pages are then never protected. */
int rfn_host_fault_watch(struct rfn_host_fault *f, const void *begin, int64_t bytes);
/* Forgets the pages and what is pending on them. */
void rfn_host_fault_forget(struct rfn_host_fault *f, const void *begin);

void rfn_host_fault_pend(struct rfn_host_fault *f, const void *address, int64_t bytes,
                         int write, struct rfn_site site);
void rfn_host_fault_settle(struct rfn_host_fault *f, const void *address, int64_t bytes,
                           int write);
int rfn_host_fault_touches(struct rfn_host_fault *f, struct rfn_touch *ret, int max);
int rfn_host_fault_let(int on);

#endif
