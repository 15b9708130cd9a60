#define RFN_NO_SITES
#include "runtime/host/host.h"

#include <stdlib.h>
#include <string.h>

int rfn_host_set_reserve(struct rfn_host_set *set, uint32_t n)
{
    if (set->room - set->count >= n)
        return RFN_CODE_OK;
    uint32_t room = set->room + (n > set->room ? n : set->room) + 2;
    struct rfn_host_node **node = realloc(set->node, room * sizeof *node);
    if (!node)
        return RFN_CODE_NOMEM;
    set->node = node;
    set->room = room;
    return RFN_CODE_OK;
}

/* ---- graphs ----------------------------------------------------------------------- */

void rfn_host_graph_drop(struct rfn_host_graph *g)
{
    if (--g->refs > 0)
        return;
    for (uint32_t i = 0; i < g->nodes.count; i++)
    {
        struct rfn_host_node *n = g->nodes.node[i];
        if (n->work.type == RFN_NODE_KERNEL)
            free(n->work.launch.args);
        else if (n->work.type == RFN_NODE_CHILD)
            rfn_host_graph_drop(n->work.child);
        else if (n->work.type == RFN_NODE_EVENT_RECORD ||
                 n->work.type == RFN_NODE_EVENT_WAIT)
            rfn_host_event_drop(n->work.event);
        free(n);
    }
    free(g->nodes.node);
    rfn_host_holds_release(g);
    free(g);
}

int rfn_host_graph_count(void *impl, void *graph, int32_t node[RFN_NODE_TYPES])
{
    struct rfn_host_graph *g = graph; /* immutable: no lock */
    (void)impl;
    memset(node, 0, RFN_NODE_TYPES * sizeof *node);
    for (uint32_t i = 0; i < g->nodes.count; i++)
        node[g->nodes.node[i]->work.type]++;
    return RFN_CODE_OK;
}

int rfn_host_graph_nodes(void *impl, void *graph, struct rfn_native_node *ret,
                         int32_t *nodes)
{
    const struct rfn_host_graph *g = graph; /* immutable: no lock */
    (void)impl;
    for (uint32_t i = 0; i < g->nodes.count && (int64_t)i < *nodes; i++)
    {
        const struct rfn_host_node *n = g->nodes.node[i];
        ret[i] = (struct rfn_native_node) { .type = n->work.type };
        if (n->work.type == RFN_NODE_KERNEL)
            ret[i].launch = n;
    }
    *nodes = (int32_t)g->nodes.count;
    return RFN_CODE_OK;
}

int rfn_host_graph_destroy(void *impl, void *graph)
{
    struct rfn_host_device *d = impl;
    int code = rfn_host_enter(d);
    if (code)
        return code;
    code = rfn_host_ask(d, RFN_CALL_graph_destroy, NULL, NULL, 0, NULL);
    if (!code)
        rfn_host_graph_drop(graph);
    return rfn_host_leave(d, code);
}

/* ---- executables ------------------------------------------------------------------ */

/* What an executable needs; children are laid out between an entry and an exit of theirs. */
struct size
{
    size_t items;
    size_t edges;
    size_t waits;
    size_t args_bytes;
    size_t scratch_bytes;
};

static size_t round_args(size_t bytes)
{
    return (bytes + 15) & ~(size_t)15;
}

static void measure(const struct rfn_host_graph *g, struct size *ret)
{
    for (uint32_t i = 0; i < g->nodes.count; i++)
    {
        const struct rfn_host_node *n = g->nodes.node[i];
        ret->items++;
        ret->edges += n->deps ? n->deps : 1;
        ret->waits += n->work.type == RFN_NODE_EVENT_WAIT;
        if (n->work.type == RFN_NODE_KERNEL)
        {
            size_t bytes = n->work.launch.op->args_bytes;
            ret->args_bytes += 2 * round_args(bytes);
            if (bytes > ret->scratch_bytes)
                ret->scratch_bytes = bytes;
        }
        else if (n->work.type == RFN_NODE_CHILD)
        {
            measure(n->work.child, ret);
            ret->items++;
            ret->edges += 1 + n->work.child->nodes.count;
        }
    }
}

struct fill
{
    struct rfn_host_exec *exec;
    uint32_t items;
    uint32_t *edge;
    char *args;
};

static uint32_t add_item(struct fill *f, enum rfn_node_type type)
{
    f->exec->item[f->items].work.type = type;
    return f->items++;
}

static void add_edge(struct fill *f, uint32_t item, uint32_t from)
{
    *f->edge++ = from;
    f->exec->edges[item]++;
}

/* Edges of an item stand together, so an item is given all of them when it is added. A
 * node's mark is the index of the item that later ones depend on. */
static void lay_out(struct fill *f, const struct rfn_host_graph *g, uint32_t start,
                    int top)
{
    struct rfn_host_exec *x = f->exec;
    for (uint32_t i = 0; i < g->nodes.count; i++)
    {
        struct rfn_host_node *n = g->nodes.node[i];
        uint32_t at = add_item(f, n->work.type);
        for (uint32_t k = 0; k < n->deps; k++)
            add_edge(f, at, n->dep[k]->mark);
        if (!n->deps)
            add_edge(f, at, start);
        n->mark = at;
        if (top)
            x->from[at] = n;
        if (n->work.type == RFN_NODE_CHILD)
        {
            const struct rfn_host_graph *child = n->work.child;
            x->item[at].work.type = RFN_NODE_EMPTY;
            lay_out(f, child, at, 0);
            n->mark = add_item(f, RFN_NODE_EMPTY);
            add_edge(f, n->mark, at);
            for (uint32_t k = 0; k < child->nodes.count; k++)
                add_edge(f, n->mark, child->nodes.node[k]->mark);
            continue;
        }
        x->item[at].work = n->work;
        x->item[at].site = n->site;
        if (n->work.type == RFN_NODE_KERNEL)
        {
            size_t bytes = n->work.launch.op->args_bytes;
            memcpy(f->args, n->work.launch.args, bytes);
            x->item[at].work.launch.args = f->args;
            x->next_args[at] = f->args + round_args(bytes);
            f->args += 2 * round_args(bytes);
        }
    }
}

void rfn_host_exec_free(struct rfn_host_exec *x)
{
    if (x->graph)
        rfn_host_graph_drop(x->graph);
    free(x->item);
    free(x->edges);
    free(x->edge);
    free(x->dep);
    free(x->all);
    free(x->from);
    free(x->next_args);
    free(x->dirty);
    free(x->args);
    free(x);
}

static struct rfn_host_exec *create(struct rfn_host_graph *g, const struct size *size)
{
    size_t n = size->items + 1; /* never 0 */
    struct rfn_host_exec *x = calloc(1, sizeof *x);
    if (!x)
        return NULL;
    x->item = calloc(n, sizeof *x->item);
    x->edges = calloc(n, sizeof *x->edges);
    x->edge = calloc(size->edges + 1, sizeof *x->edge);
    x->dep = calloc(size->edges + size->waits + 1, sizeof *x->dep);
    x->all = calloc(n, sizeof *x->all);
    x->from = calloc(n, sizeof *x->from);
    x->next_args = calloc(n, sizeof *x->next_args);
    x->dirty = calloc(n, sizeof *x->dirty);
    x->args = calloc(1, size->args_bytes + 16);
    if (!x->item || !x->edges || !x->edge || !x->dep || !x->all || !x->from ||
        !x->next_args || !x->dirty || !x->args)
    {
        rfn_host_exec_free(x);
        return NULL;
    }
    x->items = (uint32_t)size->items;
    x->graph = g;
    g->refs++;
    struct fill f = { .exec = x, .edge = x->edge, .args = x->args };
    lay_out(&f, g, RFN_HOST_START, 1);
    return x;
}

int rfn_host_graph_instantiate(void *impl, void *graph, void **ret_exec)
{
    struct rfn_host_device *d = impl;
    struct size size = { 0 };
    int code = rfn_host_enter(d);
    if (code)
        return code;
    code = rfn_host_ask(d, RFN_CALL_graph_instantiate, NULL, NULL, 0, NULL);
    if (code)
        return rfn_host_leave(d, code);
    measure(graph, &size);
    code = rfn_host_scratch(d, size.scratch_bytes);
    if (!code && size.edges + size.items >= UINT32_MAX)
        code = rfn_host_fail(RFN_CODE_NOMEM, "%zu nodes", size.items);
    if (!code)
    {
        struct rfn_host_exec *x = create(graph, &size);
        if (x)
            *ret_exec = x;
        else
            code = rfn_host_fail(RFN_CODE_NOMEM,
                                 "no memory for an executable of %zu nodes", size.items);
    }
    return rfn_host_leave(d, code);
}

/* ---- launches --------------------------------------------------------------------- */

/* Makes all items pending as if the nodes were enqueued in order of capture: a record node
 * is the event's last record from here on, a wait node waits for what is the last now. */
static void post_items(struct rfn_host_device *d, struct rfn_host_exec *x,
                       const struct rfn_host_stream *s, struct rfn_host_ref start)
{
    const uint32_t *edge = x->edge;
    struct rfn_host_ref *dep = x->dep;
    for (uint32_t i = 0; i < x->items; i++)
    {
        struct rfn_host_item *item = &x->item[i];
        item->dep = dep;
        item->deps = x->edges[i];
        for (uint32_t k = 0; k < x->edges[i]; k++, edge++)
            *dep++ = *edge == RFN_HOST_START ? start : x->all[*edge];
        if (item->work.type == RFN_NODE_EVENT_WAIT)
        {
            *dep++ = item->work.event->record;
            item->deps++;
            rfn_host_follow(d, item->work.event, s);
        }
        if (x->dirty[i])
            memcpy(item->work.launch.args, x->next_args[i],
                   item->work.launch.op->args_bytes);
        x->dirty[i] = 0;
        item->by[0] = s;
        item->by[1] = x;
        x->all[i] = rfn_host_post(d, item);
        if (item->work.type == RFN_NODE_EVENT_RECORD)
        {
            rfn_host_event_mark(item->work.event, x->all[i]);
            rfn_host_leave_unseen(d, item->work.event);
            rfn_host_follow(d, s, item->work.event);
        }
    }
}

static int launch(struct rfn_host_device *d, struct rfn_host_exec *x,
                  struct rfn_host_stream *s)
{
    struct rfn_host_work start = { .type = RFN_NODE_EMPTY };
    struct rfn_host_ref ref;
    int code = rfn_host_stream_reserve(d, s, 2);
    if (code)
        return code;
    /* The items are in use until the launch before has ended. */
    rfn_host_pull(d, x->last);
    code = rfn_host_submit(d, s, &start, (struct rfn_host_ref) { NULL, 0 }, NULL, &ref);
    if (code)
        return code;
    post_items(d, x, s, ref);
    struct rfn_host_item *end = rfn_host_take(d);
    end->dep = x->all;
    end->deps = x->items;
    if (!x->items)
    {
        end->dep = end->own;
        rfn_host_depend(end, ref);
    }
    x->last = rfn_host_post(d, end);
    s->tail = x->last;
    return RFN_CODE_OK;
}

int rfn_host_exec_launch(void *impl, void *exec, void *stream)
{
    struct rfn_host_device *d = impl;
    int code = rfn_host_enter(d);
    if (code)
        return code;
    struct rfn_host_stream *s = rfn_host_resolve(d, stream);
    code = s ? rfn_host_ask(d, RFN_CALL_exec_launch, s, NULL, 0, NULL) : RFN_CODE_NOMEM;
    if (!code)
        code = launch(d, exec, s);
    return rfn_host_leave(d, code);
}

/* There is nowhere to upload to; the order stays. */
int rfn_host_exec_upload(void *impl, void *exec, void *stream)
{
    struct rfn_host_device *d = impl;
    struct rfn_host_exec *x = exec;
    int code = rfn_host_enter(d);
    if (code)
        return code;
    struct rfn_host_stream *s = rfn_host_resolve(d, stream);
    code = s ? rfn_host_ask(d, RFN_CALL_exec_upload, s, NULL, 0, NULL) : RFN_CODE_NOMEM;
    if (!code)
    {
        struct rfn_host_work nothing = { .type = RFN_NODE_EMPTY };
        code = rfn_host_submit(d, s, &nothing, x->last, NULL, NULL);
    }
    if (!code)
        rfn_host_follow(d, x, s);
    return rfn_host_leave(d, code);
}

int rfn_host_exec_update(void *impl, void *exec, void *node, const struct rfn_op *op,
                         const void *args)
{
    struct rfn_host_device *d = impl;
    struct rfn_host_exec *x = exec;
    int code = rfn_host_enter(d);
    if (code)
        return code;
    code = rfn_host_ask(d, RFN_CALL_exec_update, NULL, NULL, 0, NULL);
    if (code)
        return rfn_host_leave(d, code);
    uint32_t i = 0;
    while (i < x->items && x->from[i] != node)
        i++;
    if (!node || i == x->items || x->item[i].work.type != RFN_NODE_KERNEL)
        code = rfn_host_fail(RFN_CODE_INVALID_VALUE,
                             "the executable's graph has no such launch node");
    else if (x->item[i].work.launch.op != op)
        code = rfn_host_fail(RFN_CODE_INVALID_VALUE, "the node launches %s, not %s",
                             x->item[i].work.launch.op->name, op->name);
    if (!code)
    {
        memcpy(x->next_args[i], args, op->args_bytes);
        x->dirty[i] = 1;
    }
    return rfn_host_leave(d, code);
}

int rfn_host_exec_destroy(void *impl, void *exec)
{
    struct rfn_host_device *d = impl;
    struct rfn_host_exec *x = exec;
    int code = rfn_host_enter(d);
    if (code)
        return code;
    code = rfn_host_ask(d, RFN_CALL_exec_destroy, NULL, NULL, 0, NULL);
    if (!code)
    {
        rfn_host_pull(d, x->last);
        rfn_host_saw(d, x);
        /* Others that are pending may still refer to its items. */
        if (d->pending)
        {
            x->retired = d->retired;
            d->retired = x;
        }
        else
        {
            rfn_host_exec_free(x);
        }
    }
    return rfn_host_leave(d, code);
}
