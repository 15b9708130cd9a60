/* Copies of images. */
#ifndef RFN_GRAPH_IMAGE_H
#define RFN_GRAPH_IMAGE_H

#include "runtime/image.h"

/* Whether a description makes sense, with an error line. */
enum rfn_status rfn_image_check(const struct rfn_image *image, int level);

/* Copies it with all that it points to; store->failed without memory. */
void rfn_image_clone(struct rfn_image_store *store, const struct rfn_image *from,
                     struct rfn_image *to);

/* Puts nodes into an order that obeys the edges, with children and keys; one that does already
 * stays. 0: no memory. */
int rfn_image_order(struct rfn_image_store *store, struct rfn_image_raw *raw);

/* Edges stand by the node that they lead to, then by the one that they come from. */
void rfn_image_sort(struct rfn_image_edge *edge, int32_t edges);

#endif
