#include "tools/inject.h"
#include "tools/cli.h"
#include "tools/tool.h"
#include <stdio.h>
#include <string.h>

/* Refused or not, what the planted calls return is none of their business. */

static void plant_host_sync(struct engine *engine, struct rfn_stream *stream)
{
    (void)engine;
    (void)rfn_stream_sync(stream);
}

static void plant_sync_copy(struct engine *engine, struct rfn_stream *stream)
{
    (void)stream;
    (void)rfn_copy_sync(engine->desc.device, engine->scratch_pinned, engine->scratch, 4);
}

static void plant_pageable_copy(struct engine *engine, struct rfn_stream *stream)
{
    static int32_t pageable[64]; /* every replay reads it again */
    (void)rfn_copy_async(stream, engine->scratch, pageable, sizeof(pageable));
}

static void plant_stray_stream(struct engine *engine, struct rfn_stream *stream)
{
    (void)stream;
    (void)rfn_set_async(engine->other, engine->scratch, 0, 4);
}

static void plant_alloc_in_region(struct engine *engine, struct rfn_stream *stream)
{
    void *more = NULL;
    (void)stream;
    (void)rfn_memory_alloc(engine->desc.device, RFN_MEMORY_DEVICE, 4096, &more);
    if (more != NULL)
    {
        (void)rfn_memory_free(engine->desc.device, more);
    }
}

/* `torch.tensor(200.0)` on the way to an op that wants its scale in a tensor. */
static void plant_host_scalar_tensor(struct engine *engine, struct rfn_stream *stream)
{
    static float scale = 200.0f;
    (void)rfn_copy_async(stream, engine->scratch, &scale, sizeof(scale));
}

/* `cache.transpose(1, 2).contiguous()`, although the axis has extent 1. */
static void plant_cache_transpose_copy(struct engine *engine, struct rfn_stream *stream)
{
    const struct rfn_pool *pool = &engine->layer[0].caches.latent;
    (void)rfn_copy_async(stream, engine->plant_target, pool->data,
                         engine->desc.plant_bytes);
}

/* Copies a count to the host and branches on it in the next line. */
static void plant_early_host_read(struct engine *engine, struct rfn_stream *stream)
{
    volatile int32_t *count = (volatile int32_t *)engine->scratch_pinned;
    (void)rfn_region_begin("plan");
    (void)rfn_copy_async(stream, engine->scratch_pinned, engine->scratch, 4);
    (void)*count;
    (void)rfn_region_end();
}

/* Flips one bit of the first choice of the first live row. */
static enum rfn_status corrupt_workspace(struct engine *engine)
{
    void *word = engine->layer[0].replay.chosen;
    int32_t *pinned = (int32_t *)engine->scratch_pinned;
    ENGINE_TRY(rfn_copy_async(engine->stream, pinned, word, sizeof(*pinned)));
    ENGINE_TRY(rfn_stream_sync(engine->stream));
    *pinned ^= 1;
    ENGINE_TRY(rfn_copy_async(engine->stream, word, pinned, sizeof(*pinned)));
    return rfn_stream_sync(engine->stream);
}

static const struct inject mistakes[] = {
    { .name = "host-sync", .rule = RFN_CAP001, .captured = plant_host_sync },
    { .name = "sync-copy", .rule = RFN_CAP002, .captured = plant_sync_copy },
    { .name = "pageable-copy", .rule = RFN_CAP003, .captured = plant_pageable_copy },
    { .name = "stray-stream", .rule = RFN_CAP004, .captured = plant_stray_stream },
    { .name = "alloc-in-region", .rule = RFN_CAP009, .captured = plant_alloc_in_region },
    { .name = "early-host-read",
      .rule = RFN_CAP017,
      .launched = plant_early_host_read,
      .late_copies = 1 },
    { .name = "cache-transpose-copy",
      .rule = RFN_CAP056,
      .captured = plant_cache_transpose_copy,
      .copies_cache = 1 },
    { .name = "host-scalar-tensor",
      .rule = RFN_CAP057,
      .captured = plant_host_scalar_tensor },
    { .name = "corrupt-workspace", .rule = RFN_CAP031, .replayed = corrupt_workspace },
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
        printf("%-21s %s\n", mistakes[i].name, rfn_rule_query(mistakes[i].rule)->id);
    }
}
