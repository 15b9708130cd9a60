/* What a checker says of its own attachment (051, 054), and the ends of dry runs. */
#ifndef RFN_GRAPH_SEEN_H
#define RFN_GRAPH_SEEN_H

#include "runtime/observe.h"

#define RFN_SEEN_BYTES (1 << 20) /* of one watch */

/* A checker was attached: what it can tell of is less than asked for when captures are open,
 * and other than usual when launches wait. */
void rfn_seen_attach(struct rfn_device *device);

enum rfn_status rfn_seen_too_few(struct rfn_device *device, int32_t ended,
                                 int32_t captures);

/* Tells the checker of a dry run's ends. */
enum rfn_status rfn_dry_begin(struct rfn_device *device, struct rfn_stream *stream,
                              const char *name, uint64_t id);
enum rfn_status rfn_dry_end(struct rfn_device *device, struct rfn_stream *stream,
                            uint64_t origin, uint64_t id);

#endif
