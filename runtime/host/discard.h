/* What the front end asks of the host device alone, past the table. */
#ifndef RFN_RUNTIME_HOST_DISCARD_H
#define RFN_RUNTIME_HOST_DISCARD_H

#include <stdint.h>

/* 1: the capture began on the per-thread stream of a thread that has ended, so that nobody
 * could end it any more, and is discarded now. */
int rfn_host_capture_discard(void *impl, uint64_t id);

#endif
