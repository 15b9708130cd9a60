/* From a graph's nodes to what recorded them. */
#include "runtime/nodes.h"

#include "runtime/call.h"

#include <stdlib.h>

/* The launch that the device calls `native`: mostly the cursor's, or the one behind it. */
static const struct rfn_recorded *find(const struct rfn_body *body, const void *native,
                                       int32_t *cursor)
{
    for (int32_t i = 0; native && i < body->launches; i++)
    {
        int32_t at = (*cursor + i) % body->launches;
        if (body->launch[at].node == native)
        {
            *cursor = at;
            return &body->launch[at];
        }
    }
    return NULL;
}

static enum rfn_status tell(const struct rfn_body *body, int32_t i,
                            const struct rfn_native_node *native, int32_t *cursor,
                            rfn_node_fn *fn, void *ctx)
{
    char name[RFN_RANGE_DEPTH][RFN_RANGE_NAME_BYTES];
    const char *range[RFN_RANGE_DEPTH];
    const struct rfn_recorded *r = find(body, native->launch, cursor);
    struct rfn_node_info info = {
        .graph = body->name,
        .node = i,
        .type = native->type,
        .kernel = native->kernel,
        .launch = -1,
        .layer = -1,
        .range = range,
        .tools_id = native->tools_id,
    };
    if (r)
    {
        info.op = r->op->name;
        info.launch = (int32_t)(r - body->launch);
        info.ranges = r->ranges;
        for (int32_t k = 0; k < r->ranges; k++)
        {
            rfn_range_name(&r->range[k], name[k]);
            range[k] = name[k];
            if (r->range[k].kind == RFN_RANGE_FORWARD)
                info.layer = r->range[k].payload;
        }
    }
    return fn(ctx, &info);
}

enum rfn_status rfn_body_nodes(struct rfn_device *device, const struct rfn_body *body,
                               rfn_node_fn *fn, void *ctx)
{
    int32_t nodes = 0, cursor = 0;
    enum rfn_status status = RFN_OK;
    struct rfn_native_node *native = NULL;
    int code = device->backend->graph_nodes(device->impl, body->native, NULL, &nodes);
    if (!code)
    {
        native = malloc(((size_t)nodes + 1) * sizeof *native);
        if (!native)
            return RFN_FAIL(RFN_NOMEM, "graph_nodes: no memory for %d nodes", nodes);
        code = device->backend->graph_nodes(device->impl, body->native, native, &nodes);
    }
    if (code)
        status = rfn_error_at(__FILE__, __LINE__, RFN_DEVICE, code, "graph_nodes: %d, %s",
                              code, device->backend->why(device->impl));
    for (int32_t i = 0; i < nodes && !status; i++)
        status = tell(body, i, &native[i], &cursor, fn, ctx);
    free(native);
    return status;
}

enum rfn_status rfn_graph_nodes(struct rfn_graph *graph, rfn_node_fn *fn, void *ctx)
{
    enum rfn_status status = rfn_object_check(graph, RFN_OBJECT_GRAPH, "graph");
    if (status)
        return status;
    if (!fn)
        return RFN_FAIL(RFN_INVALID, "graph_nodes: fn is NULL");
    return rfn_body_nodes(graph->object.device, graph->body, fn, ctx);
}
