/* decode --snapshot: the graphs of the buckets that were replayed, in a file. */
#include "tools/engine.h"
#include "tools/run.h"
#include "tools/snapshot.h"
#include "tools/tool.h"
#include <stdio.h>
#include <stdlib.h>

/* A ladder keeps executables, so the step is recorded once more, as it was for them. */
static enum rfn_status take(struct run *run, const struct rfn_bucket *bucket,
                            struct rfn_image **ret_image)
{
    struct engine *engine = run->engine;
    struct rfn_graph *graph = NULL;
    char name[64];
    struct rfn_capture_desc desc = { RFN_CAPTURE_THREAD_LOCAL, name };
    snprintf(name, sizeof(name), "%d requests of %d%s", bucket->requests, bucket->next_n,
             bucket->short_context ? ", short" : "");
    ENGINE_TRY(rfn_capture_begin(engine->stream, &desc));
    enum rfn_status status = engine_record(engine, engine->stream, bucket);
    enum rfn_status ended = rfn_capture_end(engine->stream, &graph);
    status = status == RFN_OK ? ended : status;
    if (status == RFN_OK)
    {
        status = rfn_image_of(graph, run->check, ret_image);
    }
    enum rfn_status gone = rfn_graph_destroy(&graph);
    return status == RFN_OK ? gone : status;
}

int run_snapshot(struct run *run)
{
    const struct engine *engine = run->engine;
    if (run->snapshot.file == NULL)
    {
        return TOOL_OK;
    }
    int status = TOOL_OK;
    int32_t images = 0;
    struct rfn_image **image = calloc((size_t)engine->buckets + 1, sizeof(*image));
    for (int32_t i = 0; image != NULL && i < engine->buckets && status == TOOL_OK; i++)
    {
        if (take(run, &engine->bucket[i].shape, &image[i]) != RFN_OK)
        {
            status = run_failed("cannot record a graph for the snapshot");
        }
        images += image[i] != NULL;
    }
    if (status == TOOL_OK)
    {
        status = output_json(
            &run->snapshot,
            image == NULL
                ? NULL
                : snapshot_json((const struct rfn_image *const *)image, images));
    }
    for (int32_t i = 0; image != NULL && i < engine->buckets; i++)
    {
        rfn_image_destroy(&image[i]);
    }
    free(image);
    return status;
}
