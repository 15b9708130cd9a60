/*
 * From a graph's nodes to what recorded them: every node once, in order, with its op, its
 * layer and the ranges around it. On both devices, with or without NVTX.
 */
#include "tests/device/ladder.h"

#define NODES 256

struct seen
{
    char graph[64];
    struct rfn_node_info info; /* its pointers are not good any more but those below */
    char kernel[256];
    char op[32];
    char ranges[128]; /* "capture 4x3 > forward" */
};

struct record
{
    struct seen node[NODES];
    int nodes;
    int stop; /* before this many */
};

static enum rfn_status keep(void *ctx, const struct rfn_node_info *node)
{
    struct record *r = ctx;
    size_t used = 0;
    if (r->nodes == r->stop)
        return RFN_TIMEOUT;
    struct seen *s = &r->node[r->nodes++];
    *s = (struct seen) { .info = *node };
    snprintf(s->graph, sizeof s->graph, "%s", node->graph);
    snprintf(s->kernel, sizeof s->kernel, "%s", node->kernel ? node->kernel : "");
    snprintf(s->op, sizeof s->op, "%s", node->op ? node->op : "");
    for (int i = 0; i < node->ranges; i++)
        used += (size_t)snprintf(s->ranges + used, sizeof s->ranges - used, "%s%s",
                                 i ? " > " : "", node->range[i]);
    return RFN_OK;
}

/* What a node is expected to be; a launch of the cuda device may be several. */
struct want
{
    const char *op; /* "": none */
    int32_t layer;
    const char *ranges;
    enum rfn_node_type type;
};

/* Nodes [*at, ...) of one graph are these; *at moves behind them. */
static void expect(struct test *t, const struct record *r, int *at, const char *graph,
                   const struct want *want, int wants)
{
    int node = 0, launch = 0;
    for (int i = 0; i < wants; i++)
    {
        int of_launch = 0;
        do
        {
            const struct seen *s = &r->node[*at];
            int ok = *at < r->nodes && !strcmp(s->graph, graph) && s->info.node == node &&
                     s->info.type == want[i].type && !strcmp(s->op, want[i].op) &&
                     s->info.layer == want[i].layer &&
                     !strcmp(s->ranges, want[i].ranges) &&
                     s->info.launch == (want[i].op[0] ? launch : -1) &&
                     (s->kernel[0] != 0) == (!t->host && want[i].op[0]);
            if (!harness_check(
                    &t->h, want[i].op, ok,
                    "%d of %d: \"%s\" node %d type %d op %s layer %d launch %d "
                    "ranges \"%s\" kernel \"%s\"; due \"%s\" node %d layer %d "
                    "launch %d ranges \"%s\"",
                    *at, r->nodes, s->graph, s->info.node, s->info.type, s->op,
                    s->info.layer, s->info.launch, s->ranges, s->kernel, graph, node,
                    want[i].layer, launch, want[i].ranges))
                return;
            node++;
            ++*at;
            of_launch++;
        } while (!t->host && want[i].op[0] && *at < r->nodes && of_launch < 4 &&
                 r->node[*at].info.node == node && r->node[*at].info.launch == launch);
        launch += want[i].op[0] != 0;
    }
    /* And no more of this graph. */
    HOLDS(t, *at == r->nodes || r->node[*at].info.node == 0);
}

/* ---- the graphs of a ladder ------------------------------------------------------- */

static int layers_of(struct want *want, const char *update, const char *forward,
                     int is_short)
{
    static const char *const ops[] = { "kv_pack",      "index_pack", "index_query_pack",
                                       "index_logits", "index_topk", "sparse_mla" };
    int n = 0;
    want[n++] = (struct want) { "step_update", -1, update, RFN_NODE_KERNEL };
    for (int layer = 0; layer < LAYERS; layer++)
        for (int i = 0; i < 6; i++)
            if (!is_short || (i != 2 && i != 3))
                want[n++] = (struct want) { ops[i], layer, forward, RFN_NODE_KERNEL };
    return n;
}

static void ladders_know_their_nodes(struct world *w)
{
    struct test *t = w->t;
    struct rfn_ladder *ladder = ladder_of(w, NULL);
    static struct record r;
    struct want want[32];
    int at = 0;
    r = (struct record) { .stop = NODES };
    OK(t, rfn_ladder_nodes(ladder, keep, &r));
    HOLDS(t, r.nodes == 0);
    OK(t, rfn_ladder_prepare(ladder, 8, 0));
    OK(t, rfn_ladder_prepare(ladder, 4, 1));
    OK(t, rfn_ladder_prepare(ladder, 4, 0));
    OK(t, rfn_ladder_nodes(ladder, keep, &r));

    int n = layers_of(want, "capture 4x3 > update", "capture 4x3 > forward", 0);
    expect(t, &r, &at, "bucket 4x3", want, n);
    n = layers_of(want, "capture 4x3 short > update", "capture 4x3 short > forward", 1);
    expect(t, &r, &at, "bucket 4x3 short", want, n);
    n = layers_of(want, "capture 8x3 > update", "capture 8x3 > forward", 0);
    expect(t, &r, &at, "bucket 8x3", want, n);
    HOLDS(t, at == r.nodes && at >= 3 * 9 + 2 * 4);

    r = (struct record) { .stop = 5 };
    REFUSED(t, rfn_ladder_nodes(ladder, keep, &r), RFN_TIMEOUT, "");
    HOLDS(t, r.nodes == 5);
    REFUSED(t, rfn_ladder_nodes(ladder, NULL, &r), RFN_INVALID, "fn is NULL");
    REFUSED(t, rfn_ladder_nodes(NULL, keep, &r), RFN_INVALID, "ladder is NULL");
    OK(t, rfn_ladder_destroy(&ladder));
}

/* ---- a graph of the caller's own -------------------------------------------------- */

static void other_nodes_are_told_too(struct world *w)
{
    struct test *t = w->t;
    struct rfn_stream *stream = test_stream(t, RFN_STREAM_NONBLOCKING);
    struct rfn_capture_desc mine = { RFN_CAPTURE_GLOBAL, "mine" };
    const struct rfn_bucket bucket = { 2, 3, 1 };
    struct rfn_graph *child = NULL, *graph = NULL;
    struct rfn_graph_info info = { .nodes = -1 };
    static struct record r;
    struct want want[32] = { { "", -1, "", RFN_NODE_MEMSET } };
    int at = 0;

    OK(t, rfn_capture_begin(stream, NULL));
    OK(t, rfn_attention_update(w->attention, stream, &bucket));
    OK(t, rfn_capture_end(stream, &child));
    OK(t, rfn_capture_begin(stream, &mine));
    OK(t, rfn_set_async(stream, w->io[0].out.data, 0, 256));
    OK(t, rfn_attention_update(w->attention, stream, &bucket));
    for (int i = 0; i < LAYERS; i++)
        OK(t, rfn_attention_forward(w->attention, stream, i, &bucket));
    OK(t, rfn_copy_async(stream, w->io[1].out.data, w->io[0].out.data, 256));
    OK(t, rfn_capture_add_child(stream, child));
    OK(t, rfn_capture_end(stream, &graph));
    r = (struct record) { .stop = NODES };
    OK(t, rfn_graph_nodes(graph, keep, &r));
    OK(t, rfn_graph_query(graph, &info));

    int n = 1 + layers_of(want + 1, "update", "forward", 1);
    want[n++] = (struct want) { "", -1, "", RFN_NODE_MEMCPY };
    want[n++] = (struct want) { "", -1, "", RFN_NODE_CHILD };
    expect(t, &r, &at, "mine", want, n);
    HOLDS(t, at == r.nodes && r.nodes == info.nodes);

    REFUSED(t, rfn_graph_nodes(graph, NULL, NULL), RFN_INVALID, "fn is NULL");
    OK(t, rfn_graph_destroy(&graph));
    REFUSED(t, rfn_graph_nodes(graph, keep, &r), RFN_INVALID, "graph");
    OK(t, rfn_graph_destroy(&child));
    OK(t, rfn_stream_destroy(&stream));
}

int main(int argc, char **argv)
{
    struct test t;
    struct world w;
    test_begin(&t, "nodes", &argc, argv);
    if (lacks_ops(&t))
        return test_skip(&t, "nodes", rfn_last_error());
    world_open(&w, &t, REQUESTS, 3);
    ladders_know_their_nodes(&w);
    other_nodes_are_told_too(&w);
    world_close(&w);
    return test_end(&t);
}
