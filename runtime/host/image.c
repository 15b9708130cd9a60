/* A captured graph as data. */
#define RFN_NO_SITES
#include "runtime/image.h"
#include "runtime/host/host.h"

static void fill_node(struct rfn_image_store *store, struct rfn_image_raw *raw,
                      const struct rfn_host_node *n)
{
    struct rfn_image_node *to = &raw->node[n->index];
    const struct rfn_host_work *w = &n->work;
    to->type = (enum rfn_image_type)w->type;
    to->name = rfn_image_type_name(to->type);
    to->file = rfn_image_text(store, n->site.file);
    to->line = n->site.line;
    switch (w->type)
    {
    case RFN_NODE_KERNEL:
        to->op = rfn_image_text(store, w->launch.op->name);
        to->name = to->op;
        raw->key[n->index] = n;
        rfn_image_accesses(store, to, w->launch.op, w->launch.args);
        rfn_image_args(store, to, w->launch.op, w->launch.args);
        break;
    case RFN_NODE_MEMCPY:
    {
        struct rfn_image_rows rows = { 1, w->copy.bytes, 0, 0 };
        rfn_image_move(store, to, (uintptr_t)w->copy.dst, (uintptr_t)w->copy.src, &rows);
        break;
    }
    case RFN_NODE_MEMSET:
    {
        struct rfn_image_rows rows = { 1, w->set.bytes, 0, 0 };
        rfn_image_move(store, to, (uintptr_t)w->set.dst, 0, &rows);
        to->value = w->set.value;
        to->value_bytes = 1;
        break;
    }
    case RFN_NODE_HOST:
        to->function = (uintptr_t)w->call.fn;
        to->user = (uintptr_t)w->call.user;
        break;
    case RFN_NODE_EVENT_RECORD:
    case RFN_NODE_EVENT_WAIT:
        to->event = (uintptr_t)w->event;
        break;
    default:
        break;
    }
}

static void fill(struct rfn_image_store *store, struct rfn_image_raw *raw,
                 const struct rfn_host_graph *g)
{
    size_t edges = 0;
    for (uint32_t i = 0; i < g->nodes.count; i++)
        edges += g->nodes.node[i]->deps;
    if (edges > INT32_MAX || !rfn_image_raw_nodes(store, raw, g->nodes.count))
    {
        store->failed = 1;
        return;
    }
    raw->edge = rfn_image_take(store, edges * sizeof *raw->edge);
    for (uint32_t i = 0; i < g->nodes.count && !store->failed; i++)
    {
        const struct rfn_host_node *n = g->nodes.node[i];
        fill_node(store, raw, n);
        for (uint32_t k = 0; k < n->deps; k++)
            raw->edge[raw->edges++] = (struct rfn_image_edge) {
                .from = (int32_t)n->dep[k]->index,
                .to = (int32_t)n->index,
            };
        if (n->work.type == RFN_NODE_CHILD)
            fill(store, &raw->child[i], n->work.child);
    }
}

/* Graphs are immutable: no lock. */
int rfn_host_graph_image(void *impl, void *graph, struct rfn_image_store *store,
                         struct rfn_image_raw *ret)
{
    (void)impl;
    fill(store, ret, graph);
    return store->failed
               ? rfn_host_fail(RFN_CODE_NOMEM, "no memory for the graph's image")
               : RFN_CODE_OK;
}
