/* What a step is made of, and its capture into one graph a bucket. */
#include "tools/engine.h"
#include "tools/tool.h"
#include <stdio.h>

static struct rfn_tensor strided(void *data, enum rfn_dtype dtype, int64_t rows,
                                 int64_t columns, int64_t stride)
{
    struct rfn_tensor view = rfn_tensor_of(data, dtype, rows, columns, 0, 0);
    view.stride[0] = stride;
    return view;
}

void engine_layer_ops(const struct engine *engine, int32_t layer, int32_t rows, int eager,
                      struct engine_ops *ret_ops)
{
    const struct geometry *geometry = engine->desc.geometry;
    const struct engine_layout *layout = &engine->layout;
    const struct engine_layer *from = &engine->layer[layer];
    const struct engine_output *to = eager ? &from->eager : &from->replay;
    uint8_t *control = engine->control;
    int64_t qk = geometry_qk_elems(geometry);
    /* Eager rows are exactly the live ones, so it needs no count of them. */
    struct rfn_tensor live = { 0 };
    if (!eager)
    {
        live = rfn_tensor_of(control + layout->live, RFN_I32, 1, 0, 0, 0);
    }
    struct rfn_tensor chosen =
        rfn_tensor_of(to->slots, RFN_I32, rows, geometry->topk, 0, 0);
    uint16_t *row = from->row;
    *ret_ops = (struct engine_ops){
        .kv_pack = {
            .kv = strided(row, RFN_BF16, rows, geometry->latent_elems, qk),
            .k_rope = strided(row + geometry->latent_elems, RFN_BF16, rows,
                              geometry->rope_elems, qk),
            .slots = rfn_tensor_of(control + layout->slots, RFN_I64, rows, 0, 0, 0),
            .live = live,
            .pool = from->pool,
        },
        .index_topk = {
            .logits = rfn_tensor_of(from->scores, RFN_F32, rows, engine->columns, 0, 0),
            .lens = rfn_tensor_of(control + layout->lens, RFN_I32, rows, 0, 0, 0),
            .live = live,
            .table = rfn_tensor_of(engine->table, RFN_I32, engine->rows,
                                   geometry_table_pages(geometry), 0, 0),
            .request = rfn_tensor_of(control + layout->request, RFN_I32, rows, 0, 0, 0),
            .slots = chosen,
            .page_tokens = geometry->page_tokens,
            .pages = engine->desc.pages,
        },
        .sparse_mla = {
            .q = rfn_tensor_of(from->query, RFN_BF16, rows, geometry->heads, qk, 0),
            .live = live,
            .source[0] = { .pool = from->pool, .indices = chosen },
            .out = rfn_tensor_of(to->out, RFN_BF16, rows, geometry->heads,
                                 geometry->v_elems, 0),
            .lse = rfn_tensor_of(to->lse, RFN_F32, rows, geometry->heads, 0, 0),
            .scale = geometry->scale,
        },
    };
}

static enum rfn_status launch_layer(struct engine *engine, int32_t layer, int32_t rows,
                                    int eager, engine_plant *plant)
{
    struct engine_ops ops;
    engine_layer_ops(engine, layer, rows, eager, &ops);
    enum rfn_status status = rfn_kv_pack(engine->stream, &ops.kv_pack);
    if (status == RFN_OK && plant != NULL)
    {
        plant(engine);
    }
    if (status == RFN_OK)
    {
        status = rfn_index_topk(engine->stream, &ops.index_topk);
    }
    if (status == RFN_OK)
    {
        status = rfn_sparse_mla(engine->stream, &ops.sparse_mla);
    }
    return status;
}

enum rfn_status engine_eager(struct engine *engine, int32_t live)
{
    enum rfn_status status = RFN_OK;
    for (int32_t l = 0; status == RFN_OK && l < engine->desc.geometry->layers; l++)
    {
        status = launch_layer(engine, l, live, 1, NULL);
    }
    return status;
}

static enum rfn_status make_exec(struct engine_bucket *bucket, struct rfn_graph *graph)
{
    struct rfn_graph_info info;
    enum rfn_status status = rfn_graph_query(graph, &info);
    if (status == RFN_OK)
    {
        bucket->nodes = info.nodes;
        status = rfn_graph_instantiate(graph, &bucket->exec);
    }
    enum rfn_status destroyed = rfn_graph_destroy(&graph);
    return status == RFN_OK ? destroyed : status;
}

static enum rfn_status record(struct engine *engine, struct engine_bucket *bucket,
                              engine_plant *plant)
{
    char name[32];
    char why[512] = "";
    struct rfn_graph *graph = NULL;
    snprintf(name, sizeof(name), "bucket %d", bucket->rows);
    struct rfn_capture_desc desc = { .mode = RFN_CAPTURE_GLOBAL, .name = name };
    enum rfn_status status = rfn_capture_begin(engine->stream, &desc);
    if (status != RFN_OK)
    {
        return status;
    }
    for (int32_t l = 0; status == RFN_OK && l < engine->desc.geometry->layers; l++)
    {
        status = launch_layer(engine, l, bucket->rows, 0, l == 0 ? plant : NULL);
    }
    if (status != RFN_OK)
    {
        snprintf(why, sizeof(why), "%s", rfn_last_error());
    }
    enum rfn_status ended = rfn_capture_end(engine->stream, &graph);
    if (status == RFN_OK && ended == RFN_OK)
    {
        return make_exec(bucket, graph);
    }
    if (graph != NULL)
    {
        rfn_graph_destroy(&graph);
    }
    if (status == RFN_OK)
    {
        status = ended;
        snprintf(why, sizeof(why), "%s", rfn_last_error());
    }
    if (status == RFN_CAPTURE)
    {
        tool_error("%s has no graph: %s", name, why);
        return RFN_OK;
    }
    return rfn_error(status, "%s", why);
}

enum rfn_status engine_prepare(struct engine *engine, engine_plant *plant)
{
    enum rfn_status status = RFN_OK;
    for (int32_t i = 0; status == RFN_OK && i < engine->buckets; i++)
    {
        status = record(engine, &engine->bucket[i], i == 0 ? plant : NULL);
    }
    return status;
}

struct engine_bucket *engine_bucket_for(struct engine *engine, int32_t rows)
{
    for (int32_t i = 0; i < engine->buckets; i++)
    {
        if (engine->bucket[i].rows >= rows && engine->bucket[i].exec != NULL)
        {
            return &engine->bucket[i];
        }
    }
    return NULL;
}
