/* A layer's ops in a graph, at the sizes that other libraries' kernels were measured at. */
#include "tools/bench_chain.h"
#include "tools/tool.h"
#include <refrain/refrain.h>
#include <stdio.h>

/* Layers take turns with as many sets as make this much traffic: several times a GPU's
 * cache. */
#define COLD_BYTES ((int64_t)512 << 20)
#define GRAPH_LAYERS_MIN 16 /* so that a launch is spread */
#define HOST_LAYERS_MIN 2
#define RESERVE_BYTES ((int64_t)2 << 30) /* workspace, graphs, what fills pools */

struct size
{
    int32_t requests;
    int32_t next_n;
    int32_t context;
    double peer; /* of deepseek-v3.2 on an H200: pack, logits, selection, attention */
};

/* The best of vLLM's, SGLang's, DeepGEMM's, FlashInfer's and FlashMLA's kernels chained in a
 * graph: driver 580.159, CUDA 13.0, November 2026. */
static const struct size sizes[] = {
    { 1, 1, 4096, 29.5e-6 },   { 8, 1, 4096, 40.8e-6 },   { 32, 1, 4096, 81e-6 },
    { 128, 1, 4096, 219e-6 },  { 1, 1, 32768, 38.7e-6 },  { 8, 1, 32768, 59.1e-6 },
    { 32, 1, 32768, 123e-6 },  { 128, 1, 32768, 348e-6 }, { 1, 1, 131072, 43.1e-6 },
    { 8, 1, 131072, 87.4e-6 }, { 32, 1, 131072, 237e-6 }, { 128, 1, 131072, 781e-6 },
    { 32, 2, 4096, 113e-6 },   { 32, 2, 32768, 158e-6 },  { 32, 2, 131072, 286e-6 },
};

/* ---- cost ---------------------------------------------------------------------------- */

static void add(struct rfn_cost *sum, const struct rfn_op *op, const void *args)
{
    struct rfn_cost cost = op->cost(args);
    sum->bytes_read += cost.bytes_read;
    sum->bytes_written += cost.bytes_written;
    sum->flops += cost.flops;
}

/* Of the ops that a layer records. */
static struct rfn_cost layer_cost(const struct bench_chain_desc *desc)
{
    const struct rfn_geometry *g = desc->geometry;
    int64_t T = (int64_t)desc->requests * desc->next_n, S = desc->context;
    int64_t qk = g->latent_elems + g->rope_elems;
    char any; /* an operand that is there */
    struct rfn_tensor q8 =
        rfn_tensor_of(&any, RFN_E4M3, T, g->index_heads, g->index_width, 0);
    struct rfn_tensor w8 = rfn_tensor_of(&any, RFN_F32, T, g->index_heads, 0, 0);
    struct rfn_tensor scores = rfn_tensor_of(&any, RFN_F32, T, S, 0, 0);
    struct rfn_tensor chosen = rfn_tensor_of(&any, RFN_I32, T, g->topk, 0, 0);
    struct rfn_pool latent = { .format = g->latent_format };
    struct rfn_pool index = { .format = g->index_format };
    struct rfn_kv_pack_args kv = { .pool = latent };
    struct rfn_index_pack_args key = { .pool = index };
    struct rfn_index_query_pack_args query = { .q8 = q8, .w8 = w8 };
    struct rfn_index_logits_args score = { .q8 = q8, .pool = index, .logits = scores };
    struct rfn_index_topk_args topk = { .logits = scores, .slots = chosen };
    struct rfn_sparse_mla_args mla = { .source = { { latent, chosen, { 0 } } } };
    struct rfn_cost cost = { 0 };
    kv.kv = rfn_tensor_of(&any, RFN_BF16, T, g->latent_elems, 0, 0);
    key.k = rfn_tensor_of(&any, RFN_BF16, T, g->index_width, 0, 0);
    query.q = rfn_tensor_of(&any, RFN_BF16, T, g->index_heads, g->index_width, 0);
    query.w = rfn_tensor_of(&any, RFN_BF16, T, g->index_heads, 0, 0);
    mla.q = rfn_tensor_of(&any, RFN_BF16, T, g->heads, qk, 0);
    mla.lse = rfn_tensor_of(&any, RFN_F32, T, g->heads, 0, 0);
    add(&cost, &rfn_op_kv_pack, &kv);
    add(&cost, &rfn_op_index_pack, &key);
    if (S > g->topk) /* else nothing is scored */
    {
        add(&cost, &rfn_op_index_query_pack, &query);
        add(&cost, &rfn_op_index_logits, &score);
        add(&cost, &rfn_op_index_topk, &topk);
    }
    add(&cost, &rfn_op_sparse_mla, &mla);
    return cost;
}

/* ---- one size ------------------------------------------------------------------------- */

static enum rfn_status time_graph(const struct bench_pass *pass, struct rfn_exec *exec,
                                  int32_t layers, double budget, struct bench_time *ret)
{
    struct bench_samples samples = { 0 };
    float ms = 0;
    for (int warm = 0; warm < 2; warm++)
    {
        BENCH_TRY(bench_time_launch(pass, exec, &ms));
    }
    while (bench_samples_more(&samples, budget / layers))
    {
        BENCH_TRY(bench_time_launch(pass, exec, &ms));
        bench_samples_add(&samples, (double)ms * 1e-3 / layers);
    }
    *ret = bench_samples_end(&samples);
    return RFN_OK;
}

static enum rfn_status run_graph(struct bench_chain *chain, struct rfn_graph *graph,
                                 double budget, struct bench_layer_row *row)
{
    struct rfn_graph_info info;
    struct rfn_exec *exec = NULL;
    BENCH_TRY(rfn_graph_query(graph, &info));
    row->nodes = (double)info.nodes / row->layers;
    BENCH_TRY(rfn_graph_instantiate(graph, &exec));
    enum rfn_status status =
        time_graph(chain->desc.pass, exec, row->layers, budget, &row->result.time);
    enum rfn_status destroyed = rfn_exec_destroy(&exec);
    return status != RFN_OK ? status : destroyed;
}

static enum rfn_status run_chain(struct bench_chain *chain, double budget,
                                 struct bench_layer_row *row)
{
    struct rfn_graph *graph = NULL;
    enum rfn_status status = bench_chain_capture(chain, 0, row->layers, &graph);
    if (status == RFN_OK)
    {
        status = run_graph(chain, graph, budget, row);
    }
    enum rfn_status destroyed = graph != NULL ? rfn_graph_destroy(&graph) : RFN_OK;
    return status != RFN_OK ? status : destroyed;
}

static int measure(struct bench_results *results, const struct bench_chain_desc *desc,
                   double peer)
{
    static struct bench_chain chain;
    struct bench_layer_row row = {
        .pass = results->passes - 1,
        .requests = desc->requests,
        .next_n = desc->next_n,
        .context = desc->context,
        .layers = desc->layers,
        .sets = desc->sets,
        .peer = peer,
        .result = { .cost = layer_cost(desc) },
    };
    struct bench_result *r = &row.result;
    enum rfn_status status = bench_chain_open(desc, &chain);
    if (status == RFN_OK)
    {
        status = run_chain(&chain, results->seconds, &row);
    }
    int result = status == RFN_OK ? TOOL_OK : bench_failed();
    if (bench_chain_close(&chain) != RFN_OK && result == TOOL_OK)
    {
        result = bench_failed();
    }
    if (result == TOOL_OK)
    {
        r->bytes_s =
            (double)(r->cost.bytes_read + r->cost.bytes_written) / r->time.median;
        r->flop_s = (double)r->cost.flops / r->time.median;
        bench_print_layer(desc->pass, &row);
        if (results->layer_rows < BENCH_LAYERS_MAX)
        {
            results->layer[results->layer_rows++] = row;
        }
    }
    return result;
}

/* As many sets as keep the cache cold and fit. */
static int run_size(struct bench_results *results, const struct size *size)
{
    const struct bench_pass *pass = &results->pass[results->passes - 1];
    struct bench_chain_desc desc = { .pass = pass,
                                     .geometry = results->size.geometry,
                                     .requests = size->requests,
                                     .next_n = size->next_n,
                                     .context = size->context,
                                     .capacity = size->context };
    struct rfn_cost cost = layer_cost(&desc);
    struct rfn_device_info info;
    char what[64], why[64];
    if (rfn_device_query(pass->device, &info) != RFN_OK)
    {
        return bench_failed();
    }
    int64_t bytes = bench_set_bytes(&desc), room = info.memory_free_bytes - RESERVE_BYTES;
    int64_t sets = 1 + COLD_BYTES / (cost.bytes_read + cost.bytes_written);
    int32_t least = info.kind == RFN_DEVICE_CUDA ? GRAPH_LAYERS_MIN : HOST_LAYERS_MIN;
    sets = sets < 2 || info.kind == RFN_DEVICE_HOST ? 2 : sets;
    sets = sets < room / bytes ? sets : room / bytes;
    desc.sets = (int32_t)(sets < BENCH_SETS_MAX ? sets : BENCH_SETS_MAX);
    desc.layers = desc.sets > least ? desc.sets : least;
    if (room < bytes)
    {
        snprintf(what, sizeof(what), "layer, %d requests x %d, next_n %d", size->requests,
                 size->context, size->next_n);
        snprintf(why, sizeof(why), "needs %.1f GiB, %.1f are free",
                 (double)bytes * 0x1p-30, (double)room * 0x1p-30);
        bench_leave_out(results, what, why);
        return TOOL_OK;
    }
    return measure(results, &desc, size->peer);
}

int bench_layers(struct bench_results *results)
{
    const struct rfn_geometry *g = results->size.geometry;
    const struct bench_pass *pass = &results->pass[results->passes - 1];
    const struct size own = { results->size.rows, 1, results->size.context, 0 };
    int host = pass->info.kind == RFN_DEVICE_HOST, status = TOOL_OK;
    const struct rfn_geometry *measured = NULL;
    bench_print_layer_head(pass);
    if (host)
    {
        return run_size(results, &own);
    }
    if (rfn_geometry_find("deepseek-v3.2", &measured) != RFN_OK)
    {
        return bench_failed();
    }
    for (size_t i = 0; status == TOOL_OK && i < sizeof(sizes) / sizeof(sizes[0]); i++)
    {
        struct size size = sizes[i];
        size.peer = g == measured ? size.peer : 0;
        size.context = size.context < g->context ? size.context : g->context;
        status = run_size(results, &size);
    }
    return status;
}
