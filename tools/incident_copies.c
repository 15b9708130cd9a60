/* I1: a captured forward that failed on a hidden copy, and in which a view of the latent cache
 * had become a copy of all of it at every layer and step. */
#include "tools/incident.h"
#include <stddef.h>
#include <string.h>

static const struct rfn_bucket full = { INCIDENT_REQUESTS, 1, 0 };

/* ---- images ---------------------------------------------------------------------------- */

static int64_t latent_bytes(const struct incident *in)
{
    const struct rfn_pool *pool = &in->caches[0].latent;
    return pool->pages * rfn_format_page_bytes(pool->format, pool->page_tokens);
}

static int is_cache(const struct incident *in, const struct rfn_image_pointer *at)
{
    for (int i = 0; i < INCIDENT_LAYERS; i++)
    {
        uint64_t latent = (uint64_t)(uintptr_t)in->caches[i].latent.data;
        uint64_t index = (uint64_t)(uintptr_t)in->caches[i].index.data;
        if (at->base != 0 && (at->base == latent || at->base == index))
        {
            return 1;
        }
    }
    return 0;
}

struct cache_use
{
    int copies;  /* nodes that are no kernels and touch a cache */
    int others;  /* nodes that are no kernels */
    int kernels; /* that touch a cache as a pool */
};

static struct cache_use cache_use(const struct incident *in,
                                  const struct rfn_image *image)
{
    struct cache_use use = { 0 };
    for (int32_t i = 0; i < image->nodes; i++)
    {
        const struct rfn_image_node *n = &image->node[i];
        int touches = 0;
        for (int32_t k = 0; k < n->accesses; k++)
        {
            touches |= is_cache(in, &n->access[k].pointer);
        }
        use.copies += n->type != RFN_IMAGE_KERNEL && touches;
        use.others += n->type != RFN_IMAGE_KERNEL;
        use.kernels += n->type == RFN_IMAGE_KERNEL && touches;
    }
    return use;
}

static struct cache_use graph_use(struct incident *in, struct rfn_graph *graph,
                                  struct rfn_lint_info *ret_lint)
{
    struct cache_use use = { 0 };
    struct rfn_image *image = NULL;
    if (WORKS(in, rfn_image_of(graph, in->check, &image)))
    {
        use = cache_use(in, image);
        WORKS(in, rfn_lint(image, in->device, NULL, NULL, ret_lint));
        WORKS(in, rfn_image_destroy(&image));
    }
    return use;
}

/* A captured forward is kernels only, the lint has nothing to say, replays equal eager runs.
 * The same steps every time; returns a number of what they give. */
static uint64_t forward_is_clean(struct incident *in)
{
    uint64_t number = 0;
    struct rfn_lint_info lint = { 0 };
    struct rfn_exec *exec = NULL;
    struct rfn_graph *graph = incident_capture(in, &full);
    if (graph == NULL)
    {
        return 0;
    }
    in->random = in->seed;
    struct cache_use use = graph_use(in, graph, &lint);
    incident_holds(in, use.others == 0, "%d nodes of the forward are no kernels",
                   use.others);
    incident_holds(in, use.kernels >= 2 * INCIDENT_LAYERS,
                   "%d kernels use a cache, of %d layers", use.kernels, INCIDENT_LAYERS);
    incident_holds(in, lint.findings == 0, "the lint found %d things", lint.findings);
    if (WORKS(in, rfn_graph_instantiate(graph, &exec)))
    {
        for (int i = 0; i < 4; i++)
        {
            struct incident_step live =
                incident_random(in, INCIDENT_REQUESTS, INCIDENT_CONTEXT);
            struct rfn_step step = incident_step_of(&live);
            number = 31 * number + incident_equal(in, exec, &full, &step, NULL);
        }
        WORKS(in, rfn_exec_destroy(&exec));
    }
    WORKS(in, rfn_graph_destroy(&graph));
    return number;
}

/* ---- scalars --------------------------------------------------------------------------- */

/* One value as the incident had it, and a table of one a layer, with and without a wait. */
static void scalars_broken(struct incident *in)
{
    static float range = 200.0f;
    static float layer[64];
    struct rfn_graph *graph = NULL;
    float *tensor = incident_memory(in, RFN_MEMORY_DEVICE, sizeof(layer));
    if (tensor == NULL)
    {
        return;
    }
    for (size_t i = 0; i < sizeof(layer) / sizeof(layer[0]); i++)
    {
        layer[i] = range;
    }
    WORKS(in, rfn_capture_begin(in->stream, NULL));
    PLANT(in, "CAP057");
    WORKS(in, rfn_copy_sync(in->device, tensor, &range, sizeof(range)));
    PLANT(in, "CAP002");
    WORKS(in, rfn_copy_sync(in->device, tensor, layer, sizeof(layer)));
    PLANT(in, "CAP003");
    WORKS(in, rfn_copy_async(in->stream, tensor, layer, sizeof(layer)));
    incident_record(in, &full);
    WORKS(in, rfn_capture_end(in->stream, &graph));
    struct rfn_lint_info lint = { 0 };
    struct cache_use use = graph_use(in, graph, &lint);
    incident_holds(in, use.others == 1 && lint.findings == 1,
                   "of three copies %d are in the graph, of which the lint says %d",
                   use.others, lint.findings);
    WORKS(in, rfn_graph_destroy(&graph));
}

static void scalars_right(struct incident *in)
{
    forward_is_clean(in);
}

const struct incident_form incident_scalars = {
    .name = "I1",
    .upstream = "FastDeploy #7253",
    .what = "scalars become tensors in host memory, copied in the captured forward",
    .cuda = "success; sync copies not in the graph",
    .broken = scalars_broken,
    .right = scalars_right,
};

/* ---- the cache ------------------------------------------------------------------------- */

static void contiguous_broken(struct incident *in)
{
    struct rfn_graph *graph = NULL;
    struct rfn_layer_caches copied = in->caches[0];
    int64_t bytes = latent_bytes(in);
    void *cache = in->caches[0].latent.data;
    void *contiguous = incident_memory(in, RFN_MEMORY_DEVICE, bytes);
    if (contiguous == NULL)
    {
        return;
    }
    copied.latent.data = contiguous;
    WORKS(in, rfn_attention_bind(in->attention, 0, &copied, &in->io[0]));
    WORKS(in, rfn_capture_begin(in->stream, NULL));
    PLANT(in, "CAP056");
    WORKS(in, rfn_copy_async(in->stream, contiguous, cache, bytes));
    incident_record(in, &full);
    WORKS(in, rfn_capture_end(in->stream, &graph));
    struct rfn_lint_info lint = { 0 };
    struct cache_use use = graph_use(in, graph, &lint);
    incident_holds(in, use.copies == 1 && lint.findings == 1,
                   "%d copies of a cache in the graph, of which the lint says %d",
                   use.copies, lint.findings);
    WORKS(in, rfn_graph_destroy(&graph));
}

/* Both shapes are views of the memory that is there; an axis of another extent is refused. */
static void contiguous_right(struct incident *in)
{
    const int64_t P = in->geometry.page_tokens;
    const int64_t token = rfn_format_query(in->geometry.latent_format)->token_bytes;
    const enum rfn_format format = in->geometry.latent_format;
    struct rfn_layer_caches caches = in->caches[0];
    void *cache = caches.latent.data;
    const struct rfn_tensor shape[] = {
        rfn_tensor_of(cache, RFN_U8, INCIDENT_PAGES, 1, P, token),
        rfn_tensor_of(cache, RFN_U8, INCIDENT_PAGES, P, 1, token),
        rfn_tensor_of(cache, RFN_U8, INCIDENT_PAGES, 2, P / 2, token),
    };
    /* The first time also writes the tokens of these steps. */
    forward_is_clean(in);
    const uint64_t number = forward_is_clean(in);
    for (int i = 0; i < 2; i++)
    {
        struct rfn_pool *view = &caches.latent;
        memset(view, 0, sizeof(*view));
        WORKS(in, rfn_pool_view(&shape[i], format, view));
        incident_holds(in,
                       view->data == cache && view->pages == INCIDENT_PAGES &&
                           view->page_tokens == P,
                       "shape %d became %lld pages of %d tokens at %p, not at %p", i,
                       (long long)view->pages, view->page_tokens, view->data, cache);
        WORKS(in, rfn_attention_bind(in->attention, 0, &caches, &in->io[0]));
        incident_holds(in, forward_is_clean(in) == number,
                       "shape %d gives other outputs than the pool", i);
    }
    struct rfn_pool none;
    REFUSED(in, rfn_pool_view(&shape[2], format, &none), RFN_INVALID,
            "[40,2,32,656]|[B,1,P,bytes]|[B,P,1,bytes]");
}

const struct incident_form incident_contiguous = {
    .name = "I1",
    .upstream = "FastDeploy #7253",
    .what = "an axis of extent 1 is swapped by a contiguous copy of the latent cache",
    .cuda = "success; a memcpy node",
    .broken = contiguous_broken,
    .right = contiguous_right,
};
