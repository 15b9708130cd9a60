/* The nodes of a ladder's graphs with the ranges that they were recorded in. A profiler
 * shows the kernels of a replay without them. */
#include "tools/ranges.h"

#if RFN_JANSSON
#include <jansson.h>

static const char *const types[RFN_NODE_TYPES + 1] = {
    [RFN_NODE_KERNEL] = "kernel",         [RFN_NODE_MEMCPY] = "memcpy",
    [RFN_NODE_MEMSET] = "memset",         [RFN_NODE_HOST] = "host",
    [RFN_NODE_CHILD] = "child",           [RFN_NODE_EVENT_RECORD] = "event_record",
    [RFN_NODE_EVENT_WAIT] = "event_wait", [RFN_NODE_EMPTY] = "empty",
    [RFN_NODE_TYPES] = "other",
};

static json_t *node_json(const struct rfn_node_info *node)
{
    json_t *json = json_pack("{s:i, s:s}", "node", node->node, "type", types[node->type]);
    int bad = json == NULL;
    if (!bad && node->kernel != NULL)
    {
        bad = json_object_set_new(json, "kernel", json_string(node->kernel)) != 0;
    }
    if (!bad && node->op != NULL)
    {
        json_t *range = json_array();
        for (int32_t i = 0; i < node->ranges; i++)
        {
            bad = json_array_append_new(range, json_string(node->range[i])) != 0 || bad;
        }
        bad = json_object_set_new(json, "op", json_string(node->op)) != 0 || bad;
        bad = json_object_set_new(json, "launch", json_integer(node->launch)) != 0 || bad;
        bad = json_object_set_new(json, "range", range) != 0 || bad;
    }
    if (!bad && node->layer >= 0)
    {
        bad = json_object_set_new(json, "layer", json_integer(node->layer)) != 0;
    }
    if (!bad && node->tools_id != 0)
    {
        bad = json_object_set_new(json, "tools_id",
                                  json_integer((json_int_t)node->tools_id)) != 0;
    }
    if (bad)
    {
        json_decref(json);
        return NULL;
    }
    return json;
}

/* A graph begins with its node 0. */
static enum rfn_status add_node(void *graphs, const struct rfn_node_info *node)
{
    size_t count = json_array_size(graphs);
    int bad = 0;
    if (node->node == 0)
    {
        bad = json_array_append_new(
                  graphs, json_pack("{s:s, s:[]}", "name", node->graph, "nodes")) != 0;
        count += !bad;
    }
    json_t *graph = json_array_get(graphs, count - 1);
    bad = bad ||
          json_array_append_new(json_object_get(graph, "nodes"), node_json(node)) != 0;
    return bad ? rfn_error(RFN_NOMEM, "no memory for a graph's nodes") : RFN_OK;
}

json_t *ranges_json(struct rfn_ladder *ladder)
{
    json_t *graphs = json_array();
    if (graphs == NULL)
    {
        rfn_error(RFN_NOMEM, "no memory for the graphs");
        return NULL;
    }
    if (rfn_ladder_nodes(ladder, add_node, graphs) != RFN_OK)
    {
        json_decref(graphs);
        return NULL;
    }
    json_t *ranges = json_pack("{s:s, s:o}", "domain", "refrain", "graphs", graphs);
    if (ranges == NULL)
    {
        rfn_error(RFN_NOMEM, "no memory for the ranges");
    }
    return ranges;
}

#else

json_t *ranges_json(struct rfn_ladder *ladder)
{
    (void)ladder;
    return NULL;
}

#endif
