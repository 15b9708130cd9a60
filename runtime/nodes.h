/* The nodes of a graph, also of one whose handle is gone. */
#ifndef RFN_RUNTIME_NODES_H
#define RFN_RUNTIME_NODES_H

#include "runtime/object.h"

#include <refrain/nodes.h>

/* As rfn_graph_nodes, on what a graph and its executables share. */
enum rfn_status rfn_body_nodes(struct rfn_device *device, const struct rfn_body *body,
                               rfn_node_fn *fn, void *ctx);

#endif
