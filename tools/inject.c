#include "tools/inject.h"
#include "tools/cli.h"
#include "tools/tool.h"
#include <stdio.h>
#include <string.h>

/* Refused or not, what the planted calls return is none of their business. */

static void plant_host_sync(struct engine *engine)
{
    (void)rfn_stream_sync(engine->stream);
}

static void plant_sync_copy(struct engine *engine)
{
    (void)rfn_copy_sync(engine->desc.device, engine->scratch_pinned, engine->scratch, 4);
}

static void plant_pageable_copy(struct engine *engine)
{
    static int32_t pageable = 7; /* every replay reads it again */
    (void)rfn_copy_async(engine->stream, engine->scratch, &pageable, sizeof(pageable));
}

static void plant_stray_stream(struct engine *engine)
{
    (void)rfn_set_async(engine->other, engine->scratch, 0, 4);
}

/* Flips one bit of the first choice of the first live row. */
static enum rfn_status corrupt_workspace(struct engine *engine)
{
    void *word = engine->layer[0].replay.slots;
    int32_t *pinned = (int32_t *)engine->scratch_pinned;
    enum rfn_status status =
        rfn_copy_async(engine->stream, pinned, word, sizeof(*pinned));
    if (status == RFN_OK)
    {
        status = rfn_stream_sync(engine->stream);
    }
    if (status == RFN_OK)
    {
        *pinned ^= 1;
        status = rfn_copy_async(engine->stream, word, pinned, sizeof(*pinned));
    }
    return status == RFN_OK ? rfn_stream_sync(engine->stream) : status;
}

static const struct inject mistakes[] = {
    { "host-sync", RFN_CAP001, plant_host_sync, NULL },
    { "sync-copy", RFN_CAP002, plant_sync_copy, NULL },
    { "pageable-copy", RFN_CAP003, plant_pageable_copy, NULL },
    { "stray-stream", RFN_CAP004, plant_stray_stream, NULL },
    { "corrupt-workspace", RFN_RULES, NULL, corrupt_workspace },
};
#define MISTAKES (sizeof(mistakes) / sizeof(mistakes[0]))

const struct inject *inject_at(size_t i)
{
    return i < MISTAKES ? &mistakes[i] : NULL;
}

const struct inject *inject_find(const char *name)
{
    struct cli_nearest nearest;
    cli_nearest_init(&nearest, name);
    for (size_t i = 0; i < MISTAKES; i++)
    {
        if (strcmp(mistakes[i].name, name) == 0)
        {
            return &mistakes[i];
        }
        cli_nearest_try(&nearest, mistakes[i].name);
    }
    cli_nearest_try(&nearest, "list");
    tool_error("no mistake '%s' to --inject; the nearest is '%s'", name, nearest.best);
    return NULL;
}

void inject_list(void)
{
    for (size_t i = 0; i < MISTAKES; i++)
    {
        const struct rfn_rule_info *rule = rfn_rule_query(mistakes[i].rule);
        printf("%-18s %s\n", mistakes[i].name,
               rule != NULL ? rule->id : "bit_equal (--verify)");
    }
}
