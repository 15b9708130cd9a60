/* Mistakes that decode can plant on request, to see them found. */
#ifndef TOOLS_INJECT_H
#define TOOLS_INJECT_H

#include "tools/engine.h"

struct inject
{
    const char *name;
    enum rfn_rule rule;     /* that finds it */
    engine_plant *captured; /* called inside the first capture, or NULL */
    engine_plant *launched; /* called once behind the first launch of a step, or NULL */
    /* Called between a verified replay and its comparison, or NULL. */
    enum rfn_status (*replayed)(struct engine *engine);
    int copies_cache; /* it needs room for a copy of a layer's latent pool */
    int late_copies; /* it shows where copies are not done at once: a lazy host device that
                         watches its pinned memory, or a GPU */
};

/* The i-th mistake, NULL past the last. */
const struct inject *inject_at(size_t i);

/* Finds one by name; NULL after an error line that names the nearest. */
const struct inject *inject_find(const char *name);

/* One name a line with its rule. */
void inject_list(void);

#endif
