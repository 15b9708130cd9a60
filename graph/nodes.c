/* From the nodes of a ladder's graphs to what recorded them. */
#include "runtime/nodes.h"
#include "graph/ladder.h"
#include "runtime/error.h"

enum rfn_status rfn_ladder_nodes(struct rfn_ladder *ladder, rfn_node_fn *fn, void *ctx)
{
    if (!ladder || !fn)
        return RFN_FAIL(RFN_INVALID, "ladder_nodes: %s is NULL",
                        ladder ? "fn" : "ladder");
    enum rfn_status status = RFN_OK;
    for (int32_t i = 0; i < 2 * ladder->buckets && !status; i++)
        if (ladder->rung[i].exec)
            status = rfn_body_nodes(ladder->device, ladder->rung[i].exec->body, fn, ctx);
    return status;
}
