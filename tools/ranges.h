/* The map from graph nodes to what recorded them, as JSON. */
#ifndef TOOLS_RANGES_H
#define TOOLS_RANGES_H

#include "tools/output.h"
#include <refrain/refrain.h>

/* {"domain": "refrain", "graphs": [{"name": "bucket 8x1", "nodes": [...]}]}; NULL without
 * memory or jansson, or when the ladder refused (the library's error line says why). */
json_t *ranges_json(struct rfn_ladder *ladder);

#endif
