/* Rules that one node breaks. */
#define RFN_NO_SITES
#include "graph/lint.h"

#include <stdlib.h>
#include <string.h>

#define SCALAR_BYTES 16 /* a copy of so few bytes carries a value, not data */
#define LARGE_BYTES ((int64_t)64 << 20)
#define TENSOR_MAP_BYTES 128 /* CUtensorMap, whose alignment is 64 */
#define TENSOR_MAP_ALIGN 64

/* ---- pools ------------------------------------------------------------------------- */

static int add_pool(struct rfn_lint_pools *pools, const struct rfn_image_node *node,
                    const struct rfn_image_access *a)
{
    for (int32_t i = 0; i < pools->pools; i++)
        if (pools->pool[i].begin == a->pointer.address &&
            pools->pool[i].bytes == a->bytes)
            return 1;
    if (pools->pools == pools->room)
    {
        int32_t room = pools->room ? 2 * pools->room : 64;
        void *grown = realloc(pools->pool, (size_t)room * sizeof *pools->pool);
        if (!grown)
            return 0;
        pools->pool = grown;
        pools->room = room;
    }
    pools->pool[pools->pools++] =
        (struct rfn_lint_pool) { a->pointer.address, a->bytes, node->op, a->name };
    return 1;
}

int rfn_lint_pools(struct rfn_lint_pools *pools, const struct rfn_image *image)
{
    int done = 1;
    for (int32_t i = 0; i < image->nodes && done; i++)
    {
        const struct rfn_image_node *n = &image->node[i];
        for (int32_t k = 0; k < n->accesses && done; k++)
            if (n->access[k].pool)
                done = add_pool(pools, n, &n->access[k]);
        if (n->child && done)
            done = rfn_lint_pools(pools, n->child);
    }
    return done;
}

static int holds(const struct rfn_image_access *a, const struct rfn_lint_pool *pool)
{
    uint64_t before = pool->begin - a->pointer.address;
    return a->rows == 1 && pool->bytes > 0 && before <= (uint64_t)a->bytes &&
           (uint64_t)pool->bytes <= (uint64_t)a->bytes - before;
}

/* ---- copies ------------------------------------------------------------------------ */

/* All copies have one name: without a site they are told apart by what they copy. */
static uint64_t key_of(const struct rfn_image_node *n, uint64_t address)
{
    return n->file[0] ? 0 : address;
}

static int whole_cache(struct rfn_lint_list *list, const struct rfn_image *image,
                       const struct rfn_image_node *n, const struct rfn_lint_pools *pools)
{
    for (int32_t k = 0; k < 2; k++)
        for (int32_t i = 0; i < pools->pools; i++)
        {
            const struct rfn_lint_pool *p = &pools->pool[i];
            if (!holds(&n->access[k], p))
                continue;
            rfn_lint_found(list, image, n, RFN_CAP056, key_of(n, p->begin),
                           RFN_LINT_NODE
                           " of %lld bytes: its %s holds all of a pool (%lld bytes at "
                           "%#llx, '%s' of %s), and every replay copies it again",
                           RFN_LINT_NAMES(image, n), (long long)n->access[k].bytes,
                           k ? "source" : "destination", (long long)p->bytes,
                           (unsigned long long)p->begin, p->operand, p->op);
            return 1;
        }
    return 0;
}

static const char *memory_name(enum rfn_memory_kind kind)
{
    static const char *const name[] = { "pageable", "pinned", "device" };
    return (unsigned)kind <= RFN_MEMORY_DEVICE ? name[kind] : "?";
}

static void pageable(struct rfn_lint_list *list, const struct rfn_image *image,
                     const struct rfn_image_node *n)
{
    const struct rfn_image_access *dst = &n->access[0], *src = &n->access[1];
    int to = dst->pointer.kind == RFN_MEMORY_PAGEABLE;
    enum rfn_rule rule = to ? RFN_CAP024 : src->pointer.stack ? RFN_CAP023 : RFN_CAP003;
    rfn_lint_found(
        list, image, n, rule, key_of(n, (to ? dst : src)->pointer.address),
        RFN_LINT_NODE " of %lld bytes from %#llx (%s) to %#llx (%s): its %s %#llx is "
                      "pageable%s, every replay %s that address again",
        RFN_LINT_NAMES(image, n), (long long)src->bytes,
        (unsigned long long)src->pointer.address, memory_name(src->pointer.kind),
        (unsigned long long)dst->pointer.address, memory_name(dst->pointer.kind),
        to ? "destination" : "source",
        (unsigned long long)(to ? dst : src)->pointer.address,
        rule == RFN_CAP023 ? " and lies on a stack" : "", to ? "writes" : "reads");
}

/* In the order of the live rules. */
static void copy(struct rfn_lint_list *list, const struct rfn_image *image,
                 const struct rfn_image_node *n, const struct rfn_lint_pools *pools)
{
    if (n->accesses != 2)
        return;
    const struct rfn_image_pointer *dst = &n->access[0].pointer;
    const struct rfn_image_pointer *src = &n->access[1].pointer;
    int64_t bytes = n->access[1].bytes;
    if (src->kind == RFN_MEMORY_PAGEABLE && dst->kind == RFN_MEMORY_DEVICE &&
        bytes <= SCALAR_BYTES)
        rfn_lint_found(
            list, image, n, RFN_CAP057, key_of(n, src->address),
            RFN_LINT_NODE " of %lld bytes from pageable memory %#llx to %#llx: a "
                          "value of the host is a tensor, and every replay "
                          "reads that host address again",
            RFN_LINT_NAMES(image, n), (long long)bytes, (unsigned long long)src->address,
            (unsigned long long)dst->address);
    else if (whole_cache(list, image, n, pools))
        return;
    else if (src->kind == RFN_MEMORY_PAGEABLE || dst->kind == RFN_MEMORY_PAGEABLE)
        pageable(list, image, n);
    else if (bytes >= LARGE_BYTES)
    {
        struct rfn_finding *f = rfn_lint_found(
            list, image, n, RFN_CAP056, key_of(n, src->address),
            RFN_LINT_NODE
            " of %lld bytes at every replay: so much is rarely anything but "
            "a cache or a change of its layout",
            RFN_LINT_NAMES(image, n), (long long)bytes);
        f->confidence = RFN_HEURISTIC;
        f->severity = RFN_WARNING;
    }
}

/* ---- others ------------------------------------------------------------------------ */

static void tensor_maps(struct rfn_lint_list *list, const struct rfn_image *image,
                        const struct rfn_image_node *n)
{
    for (int32_t i = 0; n->foreign && i < n->params; i++)
        if (n->param[i].bytes == TENSOR_MAP_BYTES &&
            n->param[i].offset % TENSOR_MAP_ALIGN == 0)
        {
            rfn_lint_found(list, image, n, RFN_CAP037, 0,
                           RFN_LINT_NODE ": parameter %s has the size and the place of a "
                                         "tensor map (%d bytes at %d)",
                           RFN_LINT_NAMES(image, n), n->param[i].name, n->param[i].bytes,
                           n->param[i].offset);
            return;
        }
}

void rfn_lint_nodes(struct rfn_lint_list *list, const struct rfn_image *image,
                    const struct rfn_lint_pools *pools)
{
    for (int32_t i = 0; i < image->nodes; i++)
    {
        const struct rfn_image_node *n = &image->node[i];
        switch (n->type)
        {
        case RFN_IMAGE_MEMCPY:
            copy(list, image, n, pools);
            break;
        case RFN_IMAGE_KERNEL:
            tensor_maps(list, image, n);
            break;
        case RFN_IMAGE_HOST:
            rfn_lint_found(list, image, n, RFN_CAP026, key_of(n, n->function),
                           RFN_LINT_NODE
                           ": function %#llx runs on a thread of the host at "
                           "every replay, and what comes behind it waits",
                           RFN_LINT_NAMES(image, n), (unsigned long long)n->function);
            break;
        default:
            break;
        }
        if (n->opaque)
            rfn_lint_found(list, image, n, RFN_CAP040, 0, RFN_LINT_NODE ": %s",
                           RFN_LINT_NAMES(image, n), n->why);
    }
}

/* ---- addresses --------------------------------------------------------------------- */

/* Memory nodes of the graph own it: it comes and goes with the replays. */
static int is_own(const struct rfn_image *image, uint64_t address)
{
    for (int32_t i = 0; i < image->nodes; i++)
    {
        const struct rfn_image_node *n = &image->node[i];
        if (n->type == RFN_IMAGE_MEM_ALLOC && n->accesses == 1 &&
            address - n->access[0].pointer.address < (uint64_t)n->access[0].bytes)
            return 1;
    }
    return 0;
}

static void address(struct rfn_lint_list *list, const struct rfn_image *image,
                    const struct rfn_image_node *n, const char *name,
                    const struct rfn_image_pointer *at, struct rfn_device *device)
{
    struct rfn_memory_info now;
    if (!at->address || at->kind == RFN_MEMORY_PAGEABLE ||
        rfn_memory_query(device, (const void *)(uintptr_t)at->address, &now) != RFN_OK)
        return;
    if (now.generation == at->generation && (now.generation || now.kind == at->kind))
        return;
    /* What the device's table never had is seen by its kind alone. */
    if (!at->generation && (now.generation || is_own(image, at->address)))
        return;
    if (!now.generation)
    {
        struct rfn_finding *f = rfn_lint_found(
            list, image, n, RFN_CAP007, at->base,
            RFN_LINT_NODE ": '%s' is %#llx, in an allocation of %lld bytes at "
                          "%#llx (generation %llu) that is there no more",
            RFN_LINT_NAMES(image, n), name, (unsigned long long)at->address,
            (long long)at->bytes, (unsigned long long)at->base,
            (unsigned long long)at->generation);
        if (!at->generation)
            f->confidence = RFN_HEURISTIC;
    }
    else
        rfn_lint_found(list, image, n, RFN_CAP008, at->base,
                       RFN_LINT_NODE ": '%s' is %#llx, captured in generation %llu (%lld "
                                     "bytes at %#llx); that address is now of generation "
                                     "%llu (%lld bytes at %p)",
                       RFN_LINT_NAMES(image, n), name, (unsigned long long)at->address,
                       (unsigned long long)at->generation, (long long)at->bytes,
                       (unsigned long long)at->base, (unsigned long long)now.generation,
                       (long long)now.bytes, now.base);
}

/* Operands name the memory of our launches; their parameters point into it. */
void rfn_lint_addresses(struct rfn_lint_list *list, const struct rfn_image *image,
                        struct rfn_device *device)
{
    for (int32_t i = 0; i < image->nodes; i++)
    {
        const struct rfn_image_node *n = &image->node[i];
        if (n->type == RFN_IMAGE_MEM_ALLOC || n->type == RFN_IMAGE_MEM_FREE)
            continue;
        for (int32_t k = 0; k < n->accesses; k++)
            address(list, image, n, n->access[k].name, &n->access[k].pointer, device);
        for (int32_t k = 0; n->foreign && k < n->params; k++)
            address(list, image, n, n->param[k].name, &n->param[k].pointer, device);
    }
}
