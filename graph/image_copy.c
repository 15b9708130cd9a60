/* Images made of descriptions: what may come from a file is looked at first. */
#define RFN_NO_SITES
#include "graph/image.h"
#include "runtime/error.h"

#include <stdlib.h>

/* ---- looks ------------------------------------------------------------------------- */

static enum rfn_status check_params(const struct rfn_image_node *node, int32_t n)
{
    for (int32_t i = 0; i < node->params; i++)
    {
        const struct rfn_image_param *p = &node->param[i];
        if ((unsigned)p->role >= RFN_IMAGE_ROLES)
            return RFN_FAIL(RFN_INVALID, "image: node %d, parameter %d: role %d of %d", n,
                            i, (int)p->role, (int)RFN_IMAGE_ROLES);
        if (p->bytes < 0 || (p->bytes && !p->value))
            return RFN_FAIL(RFN_INVALID, "image: node %d, parameter %d: %d bytes at %p",
                            n, i, p->bytes, p->value);
        if ((unsigned)p->pointer.kind > RFN_MEMORY_DEVICE)
            return RFN_FAIL(RFN_INVALID, "image: node %d, parameter %d: memory kind %d",
                            n, i, (int)p->pointer.kind);
    }
    for (int32_t i = 0; i < node->accesses; i++)
    {
        const struct rfn_image_access *a = &node->access[i];
        int fits = a->bytes >= 0 && a->rows >= 0 && a->row_bytes >= 0 &&
                   a->row_stride_bytes >= 0 &&
                   (uint64_t)a->bytes <= UINT64_MAX - a->pointer.address;
        if (fits && a->rows > 0 && a->row_bytes > a->bytes)
            fits = 0;
        if (fits && a->rows > 1)
            fits = a->row_stride_bytes > 0 &&
                   (a->bytes - a->row_bytes) / a->row_stride_bytes >= a->rows - 1;
        if (!fits || a->access < RFN_READ || a->access > RFN_READ_WRITE ||
            (unsigned)a->pointer.kind > RFN_MEMORY_DEVICE)
            return RFN_FAIL(
                RFN_INVALID,
                "image: node %d, access %d: kind %d, memory kind %d, %lld rows "
                "of %lld bytes, %lld apart, in %lld bytes",
                n, i, (int)a->access, (int)a->pointer.kind, (long long)a->rows,
                (long long)a->row_bytes, (long long)a->row_stride_bytes,
                (long long)a->bytes);
    }
    return RFN_OK;
}

static enum rfn_status check_node(const struct rfn_image_node *node, int32_t n, int level)
{
    if ((unsigned)node->type >= RFN_IMAGE_TYPES)
        return RFN_FAIL(RFN_INVALID, "image: node %d: type %d of %d", n, (int)node->type,
                        (int)RFN_IMAGE_TYPES);
    if (node->params < 0 || (node->params && !node->param) || node->accesses < 0 ||
        (node->accesses && !node->access))
        return RFN_FAIL(RFN_INVALID,
                        "image: node %d: %d parameters at %p, %d accesses at %p", n,
                        node->params, (const void *)node->param, node->accesses,
                        (const void *)node->access);
    enum rfn_status status = check_params(node, n);
    if (status == RFN_OK && node->child)
        status = rfn_image_check(node->child, level + 1);
    return status;
}

enum rfn_status rfn_image_check(const struct rfn_image *image, int level)
{
    if (level > RFN_IMAGE_DEPTH)
        return RFN_FAIL(RFN_INVALID, "image: children nest %d deep; %d is the most",
                        level, RFN_IMAGE_DEPTH);
    if (image->nodes < 0 || (image->nodes && !image->node) || image->edges < 0 ||
        (image->edges && !image->edge))
        return RFN_FAIL(RFN_INVALID, "image: %d nodes at %p, %d edges at %p",
                        image->nodes, (const void *)image->node, image->edges,
                        (const void *)image->edge);
    for (int32_t i = 0; i < image->edges; i++)
    {
        const struct rfn_image_edge *e = &image->edge[i];
        if (e->from < 0 || e->from >= e->to || e->to >= image->nodes)
            return RFN_FAIL(RFN_INVALID,
                            "image: edge %d leads from node %d to node %d of %d; it has "
                            "to lead to a later one",
                            i, e->from, e->to, image->nodes);
    }
    for (int32_t i = 0; i < image->nodes; i++)
    {
        enum rfn_status status = check_node(&image->node[i], i, level);
        if (status)
            return status;
    }
    return RFN_OK;
}

/* ---- edges ------------------------------------------------------------------------- */

static int by_ends(const void *a, const void *b)
{
    const struct rfn_image_edge *x = a, *y = b;
    if (x->to != y->to)
        return x->to < y->to ? -1 : 1;
    return (x->from > y->from) - (x->from < y->from);
}

void rfn_image_sort(struct rfn_image_edge *edge, int32_t edges)
{
    if (edges)
        qsort(edge, (size_t)edges, sizeof *edge, by_ends);
}

/* ---- copies ------------------------------------------------------------------------ */

static const void *many(struct rfn_image_store *store, const void *from, int32_t count,
                        size_t bytes)
{
    return rfn_image_copy(store, from, (size_t)count * bytes);
}

static void clone_node(struct rfn_image_store *store, struct rfn_image_node *node)
{
    const char **text[] = { &node->name, &node->op, &node->why, &node->file,
                            &node->region };
    for (size_t i = 0; i < sizeof text / sizeof text[0]; i++)
        *text[i] = rfn_image_text(store, *text[i]);
    node->param = many(store, node->param, node->params, sizeof *node->param);
    node->access = many(store, node->access, node->accesses, sizeof *node->access);
    if (store->failed)
        return;
    /* Copies of the store's own. */
    struct rfn_image_param *param = (struct rfn_image_param *)node->param;
    struct rfn_image_access *access = (struct rfn_image_access *)node->access;
    for (int32_t i = 0; i < node->params; i++)
    {
        param[i].name = rfn_image_text(store, param[i].name);
        param[i].value = many(store, param[i].value, param[i].bytes, 1);
    }
    for (int32_t i = 0; i < node->accesses; i++)
        access[i].name = rfn_image_text(store, access[i].name);
    if (!node->child)
        return;
    struct rfn_image *child = rfn_image_take(store, sizeof *child);
    if (child)
        rfn_image_clone(store, node->child, child);
    node->child = child;
}

void rfn_image_clone(struct rfn_image_store *store, const struct rfn_image *from,
                     struct rfn_image *to)
{
    *to = *from;
    to->name = rfn_image_text(store, from->name);
    to->device = rfn_image_text(store, from->device);
    struct rfn_image_edge *edge =
        rfn_image_copy(store, from->edge, (size_t)from->edges * sizeof *edge);
    if (edge)
        rfn_image_sort(edge, from->edges);
    to->edge = edge;
    struct rfn_image_node *node =
        rfn_image_copy(store, from->node, (size_t)from->nodes * sizeof *node);
    to->node = node;
    for (int32_t i = 0; i < from->nodes && !store->failed; i++)
        clone_node(store, &node[i]);
}
