#define RFN_NO_SITES
#include "runtime/host/host.h"

#include <stdlib.h>
#include <string.h>

static _Atomic uint64_t ids;

/* ---- nodes and members ------------------------------------------------------------ */

static int nomem(void)
{
    return rfn_host_fail(RFN_CODE_NOMEM, "no memory for the capture");
}

static int set_has(const struct rfn_host_set *set, const struct rfn_host_node *n)
{
    for (uint32_t i = 0; i < set->count; i++)
        if (set->node[i] == n)
            return 1;
    return 0;
}

static int set_join(struct rfn_host_set *set, const struct rfn_host_set *more)
{
    if (rfn_host_set_reserve(set, more->count) != 0)
        return nomem();
    for (uint32_t i = 0; i < more->count; i++)
        if (!set_has(set, more->node[i]))
            set->node[set->count++] = more->node[i];
    return RFN_CODE_OK;
}

int rfn_host_append(struct rfn_host_member *m, const struct rfn_host_work *work,
                    struct rfn_host_node **ret)
{
    struct rfn_host_set *all = &m->capture->graph->nodes;
    struct rfn_host_node *n =
        malloc(sizeof *n + m->set.count * sizeof(struct rfn_host_node *));
    if (!n)
        return nomem();
    if (rfn_host_set_reserve(all, 1) != 0 || rfn_host_set_reserve(&m->set, 1) != 0)
    {
        free(n);
        return nomem();
    }
    n->work = *work;
    n->site = rfn_site_here();
    n->index = all->count;
    n->mark = 0;
    n->deps = m->set.count;
    if (n->deps)
        memcpy(n->dep, m->set.node, n->deps * sizeof(struct rfn_host_node *));
    all->node[all->count++] = n;
    m->set.node[0] = n;
    m->set.count = 1;
    if (ret)
        *ret = n;
    return RFN_CODE_OK;
}

static struct rfn_host_member *add_member(struct rfn_host_capture *c,
                                          struct rfn_host_stream *s)
{
    struct rfn_host_member *m = calloc(1, sizeof *m);
    if (!m)
        return NULL;
    m->capture = c;
    m->stream = s;
    return m;
}

int rfn_host_join(struct rfn_host_stream *s, struct rfn_host_event *e)
{
    if (s->member)
        return set_join(&s->member->set, &e->set);
    struct rfn_host_capture *c = rfn_host_capture_find(s->device, e->capture_id);
    struct rfn_host_member *m = add_member(c, s);
    if (!m)
        return nomem();
    if (set_join(&m->set, &e->set) != 0)
    {
        free(m);
        return RFN_CODE_NOMEM;
    }
    m->next = c->members->next;
    c->members->next = m;
    s->member = m;
    return RFN_CODE_OK;
}

int rfn_host_snapshot(struct rfn_host_member *m, struct rfn_host_event *e)
{
    if (m->set.count > e->set.room &&
        rfn_host_set_reserve(&e->set, m->set.count - e->set.count) != 0)
        return nomem();
    if (m->set.count)
        memcpy(e->set.node, m->set.node, m->set.count * sizeof(struct rfn_host_node *));
    e->set.count = m->set.count;
    e->captured = 1;
    e->capture_id = m->capture->id;
    return RFN_CODE_OK;
}

/* Some member's last node does not lead to the origin's next one. */
static int is_unjoined(struct rfn_host_capture *c)
{
    struct rfn_host_set *all = &c->graph->nodes;
    for (uint32_t i = 0; i < all->count; i++)
        all->node[i]->mark = 0;
    for (uint32_t i = 0; i < c->origin->set.count; i++)
        c->origin->set.node[i]->mark = 1;
    for (uint32_t i = all->count; i-- > 0;)
        for (uint32_t k = 0; all->node[i]->mark && k < all->node[i]->deps; k++)
            all->node[i]->dep[k]->mark = 1;
    for (struct rfn_host_member *m = c->members; m; m = m->next)
        for (uint32_t i = 0; i < m->set.count; i++)
            if (!m->set.node[i]->mark)
                return 1;
    return 0;
}

/* Takes it off the list and all streams out of it; hands its graph over. */
static struct rfn_host_graph *close_capture(struct rfn_host_capture *c)
{
    struct rfn_host_graph *g = c->graph;
    rfn_host_capture_unlist(c);
    while (c->members)
    {
        struct rfn_host_member *m = c->members;
        c->members = m->next;
        if (m->stream)
            m->stream->member = NULL;
        free(m->set.node);
        free(m);
    }
    free(c);
    return g;
}

void rfn_host_capture_leave(struct rfn_host_stream *s)
{
    struct rfn_host_member *m = s->member;
    if (m && m->capture->origin == m)
        rfn_host_graph_drop(close_capture(m->capture));
    else if (m)
        m->stream = NULL;
}

void rfn_host_captures_close(struct rfn_host_device *d)
{
    for (struct rfn_host_capture *c; (c = rfn_host_capture_find(d, 0));)
        rfn_host_graph_drop(close_capture(c));
}

int rfn_host_capture_discard(void *impl, uint64_t id)
{
    struct rfn_host_device *d = impl;
    /* Not a call of the user's: no schedule counts it. */
    pthread_mutex_lock(&d->mutex);
    struct rfn_host_capture *c = id ? rfn_host_capture_find(d, id) : NULL;
    int left = c && c->origin->stream->left;
    if (left)
        rfn_host_graph_drop(close_capture(c));
    pthread_mutex_unlock(&d->mutex);
    return left;
}

/* ---- calls ------------------------------------------------------------------------ */

int rfn_host_capture_begin(void *impl, void *stream, enum rfn_capture_mode mode)
{
    struct rfn_host_device *d = impl;
    struct rfn_host_member *m = NULL;
    int code = rfn_host_enter(d);
    if (code)
        return code;
    struct rfn_host_stream *s = rfn_host_resolve(d, stream);
    code = s ? rfn_host_ask(d, RFN_CALL_capture_begin, s, NULL, 0, &m) : RFN_CODE_NOMEM;
    if (code)
        return rfn_host_leave(d, code);
    struct rfn_host_capture *c = calloc(1, sizeof *c);
    if (c)
    {
        m = add_member(c, s);
        c->graph = calloc(1, sizeof *c->graph);
    }
    if (!c || !m || !c->graph)
    {
        free(m);
        if (c)
            free(c->graph);
        free(c);
        return rfn_host_leave(d, nomem());
    }
    c->device = d;
    c->id = ++ids;
    c->mode = mode;
    c->thread = rfn_host_thread();
    c->kind = s->kind;
    c->status = RFN_CAPTURE_ACTIVE;
    c->origin = c->members = m;
    c->graph->refs = 1;
    c->graph->capture_id = c->id;
    s->member = m;
    rfn_host_capture_list(c);
    return rfn_host_leave(d, RFN_CODE_OK);
}

int rfn_host_capture_end(void *impl, void *stream, void **ret_graph)
{
    struct rfn_host_device *d = impl;
    int code = rfn_host_enter(d);
    if (code)
        return code;
    *ret_graph = NULL;
    struct rfn_host_stream *s = rfn_host_resolve(d, stream);
    if (!s)
        return rfn_host_leave(d, RFN_CODE_NOMEM);
    enum rfn_relation relation = rfn_host_relation(d, s);
    struct rfn_host_capture *c = s->member ? s->member->capture : NULL;
    if (relation == RFN_RELATION_ORIGIN)
    {
        if (is_unjoined(c))
            relation = RFN_RELATION_UNJOINED;
        else if (c->mode != RFN_CAPTURE_RELAXED && c->thread != rfn_host_thread())
            relation = RFN_RELATION_FOREIGN;
    }
    const struct rfn_rule *rule = rfn_host_rule(RFN_CALL_capture_end, relation, 0);
    code = rfn_host_ask_as(d, RFN_CALL_capture_end, relation, s, NULL, 0, NULL);
    if (c && !code)
        *ret_graph = close_capture(c);
    else if (c && (rule->invalidates & RFN_HITS_END))
        rfn_host_graph_drop(close_capture(c));
    return rfn_host_leave(d, code);
}

int rfn_host_capture_query(void *impl, void *stream, struct rfn_capture_info *ret)
{
    struct rfn_host_device *d = impl;
    int code = rfn_host_enter(d);
    if (code)
        return code;
    struct rfn_host_stream *s = rfn_host_resolve(d, stream);
    code = s ? rfn_host_ask(d, RFN_CALL_capture_query, s, NULL, 0, NULL) : RFN_CODE_NOMEM;
    if (!code)
    {
        struct rfn_host_capture *c = s->member ? s->member->capture : NULL;
        ret->status = c ? (enum rfn_capture_status)c->status : RFN_CAPTURE_NONE;
        ret->id = c ? c->id : 0;
    }
    /* Not a call of the user's: the front end asks around every one of them, and the random
     * schedule does not count it. */
    pthread_mutex_unlock(&d->mutex);
    return code;
}

/* `below` stays at most RFN_HOST_NODES, so that no sum wraps around. */
static int check_child(const struct rfn_host_graph *g, const struct rfn_host_graph *child)
{
    uint64_t nodes = g->nodes.count + g->below + 1 + child->nodes.count + child->below;
    uint32_t depth = child->depth + 1;
    if (nodes <= RFN_HOST_NODES && depth <= RFN_HOST_DEPTH)
        return RFN_CODE_OK;
    return rfn_host_fail(RFN_CODE_INVALID_VALUE,
                         "with this child the graph would have %llu nodes and %u levels "
                         "of children; at most %llu nodes and %u levels are taken",
                         (unsigned long long)nodes, depth,
                         (unsigned long long)RFN_HOST_NODES, RFN_HOST_DEPTH);
}

int rfn_host_capture_add_child(void *impl, void *stream, void *graph)
{
    struct rfn_host_device *d = impl;
    struct rfn_host_graph *g = graph;
    struct rfn_host_member *m = NULL;
    int code = rfn_host_enter(d);
    if (code)
        return code;
    struct rfn_host_stream *s = rfn_host_resolve(d, stream);
    code =
        s ? rfn_host_ask(d, RFN_CALL_capture_add_child, s, NULL, 0, &m) : RFN_CODE_NOMEM;
    struct rfn_host_graph *parent = code ? NULL : m->capture->graph;
    if (!code)
        code = check_child(parent, g);
    if (!code)
    {
        /* A graph never changes, so holding it is as good as a copy. */
        struct rfn_host_work child = { .type = RFN_NODE_CHILD, .child = g };
        code = rfn_host_append(m, &child, NULL);
    }
    if (!code)
    {
        g->refs++;
        parent->below += g->nodes.count + g->below;
        if (parent->depth <= g->depth)
            parent->depth = g->depth + 1;
    }
    return rfn_host_leave(d, code);
}
