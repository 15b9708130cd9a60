/*
 * Images while they are made. A backend says what is in a graph: nodes, edges, launches with
 * their parameters. What an address belongs to and who made a node is found out above it.
 */
#ifndef RFN_RUNTIME_IMAGE_H
#define RFN_RUNTIME_IMAGE_H

#include <refrain/image.h>

#define RFN_IMAGE_DEPTH 64 /* levels of children */

struct rfn_image_chunk;

/* Memory that goes all at once. Once it fails it stays failed, so one look at the end is
 * enough. */
struct rfn_image_store
{
    struct rfn_image_chunk *chunk;
    size_t left;
    int failed;
};

/* Zeroed, aligned for everything; NULL: no memory. 0 bytes give an address too. */
void *rfn_image_take(struct rfn_image_store *store, size_t bytes);
void *rfn_image_copy(struct rfn_image_store *store, const void *from, size_t bytes);
/* NULL gives "". */
const char *rfn_image_text(struct rfn_image_store *store, const char *text);
void rfn_image_drop(struct rfn_image_store *store);

/* What a backend gives. node[i].pointer-s hold addresses only. */
struct rfn_image_raw
{
    struct rfn_image_node *node;
    const void *
        *key; /* of a kernel: what its launch gave as *ret_node; NULL: no launch */
    int32_t nodes;
    struct rfn_image_edge *edge; /* in any order and direction of indices */
    int32_t edges;
    struct rfn_image_raw *child; /* [nodes] */
};

/* Room for nodes, with type OTHER and no launch. 0: no memory. */
int rfn_image_raw_nodes(struct rfn_image_store *store, struct rfn_image_raw *raw,
                        size_t nodes);

/* What an op's tables say of its arguments: the accesses; the parameters as well when the
 * kernel takes the argument struct itself. */
void rfn_image_accesses(struct rfn_image_store *store, struct rfn_image_node *node,
                        const struct rfn_op *op, const void *args);
void rfn_image_args(struct rfn_image_store *store, struct rfn_image_node *node,
                    const struct rfn_op *op, const void *args);

/* The accesses of a copy (src 0: a set) of rows. */
struct rfn_image_rows
{
    int64_t rows;
    int64_t row_bytes;
    int64_t dst_stride_bytes;
    int64_t src_stride_bytes;
};
void rfn_image_move(struct rfn_image_store *store, struct rfn_image_node *node,
                    uint64_t dst, uint64_t src, const struct rfn_image_rows *rows);

#endif
