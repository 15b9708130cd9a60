/* The lint: what is reported, once a place. */
#define RFN_NO_SITES
#include "graph/lint.h"
#include "runtime/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- findings ---------------------------------------------------------------------- */

/* By site where there is one, else by name: the layers of a model are one place. */
static int same_place(const struct rfn_lint_item *item, const struct rfn_image_node *node)
{
    const struct rfn_finding *f = &item->finding;
    if (!node || !item->name)
        return !node && !item->name;
    if (f->file[0] || node->file[0])
        return f->line == node->line && !strcmp(f->file, node->file);
    return !strcmp(item->name, node->name);
}

static int make_room(struct rfn_lint_list *list)
{
    if (list->items < list->room)
        return 1;
    int32_t room = list->room ? 2 * list->room : 16;
    void *grown = realloc(list->item, (size_t)room * sizeof *list->item);
    if (!grown)
        return 0;
    list->item = grown;
    list->room = room;
    return 1;
}

/* All copies have one name: without a site baselines tell them apart by what they move. */
static void name_call(const struct rfn_image_node *n, char *text, size_t bytes)
{
    rfn_image_label(n ? n->name : "", text, bytes);
    if (!n || n->file[0] || !n->accesses ||
        (n->type != RFN_IMAGE_MEMCPY && n->type != RFN_IMAGE_MEMSET))
        return;
    size_t used = strlen(text);
    snprintf(text + used, bytes - used, " of %lld bytes", (long long)n->access[0].bytes);
}

struct rfn_finding *rfn_lint_found(struct rfn_lint_list *list,
                                   const struct rfn_image *image,
                                   const struct rfn_image_node *node, enum rfn_rule rule,
                                   uint64_t key, const char *format, ...)
{
    /* The newest first: pairs of nodes come in turn, thousands of one place. */
    for (int32_t i = list->items - 1; i >= 0; i--)
    {
        struct rfn_lint_item *item = &list->item[i];
        if (item->finding.rule != rule || item->key != key || !same_place(item, node))
            continue;
        item->finding.count++;
        return &item->finding;
    }
    if (!make_room(list))
    {
        list->failed = 1;
        return &list->nowhere;
    }
    const struct rfn_rule_info *info = rfn_rule_query(rule);
    struct rfn_lint_item *item = &list->item[list->items++];
    item->key = key;
    item->name = node ? node->name : NULL;
    item->finding = (struct rfn_finding) {
        .rule = rule,
        .severity = info->severity,
        .confidence = info->confidence,
        .file = node ? node->file : "",
        .line = node ? node->line : 0,
        .region = node ? node->region : "",
        .api = "",
        .capture_id = image->capture_id,
        .stream = node ? node->stream : 0,
        .thread = node ? node->thread : 0,
        .status_after = RFN_CAPTURE_NONE,
        .count = 1,
        .node = !node          ? 0
                : list->inside ? list->inside
                               : (int32_t)(node - image->node) + 1,
        .fix = info->fix,
        .driver = "",
    };
    name_call(node, item->api, sizeof item->api);
    va_list args;
    va_start(args, format);
    vsnprintf(item->why, sizeof item->why, format, args);
    va_end(args);
    return &item->finding;
}

/* Equal ones by their nodes, so that each run tells them in the same order. */
static int by_rule(const void *a, const void *b)
{
    const struct rfn_lint_item *x = a, *y = b;
    int order = (x->finding.rule > y->finding.rule) - (x->finding.rule < y->finding.rule);
    if (order)
        return order;
    return (x->finding.node > y->finding.node) - (x->finding.node < y->finding.node);
}

int32_t rfn_lint_tell(struct rfn_lint_list *list, rfn_report_fn *report, void *ctx)
{
    int32_t items = list->failed ? -1 : list->items;
    if (items > 0)
        qsort(list->item, (size_t)items, sizeof *list->item, by_rule);
    for (int32_t i = 0; report && i < items; i++)
    {
        list->item[i].finding.why = list->item[i].why;
        list->item[i].finding.api = list->item[i].api;
        report(ctx, &list->item[i].finding);
    }
    free(list->item);
    return items;
}

/* ---- levels ------------------------------------------------------------------------ */

static void count(const struct rfn_image *image, struct rfn_lint_info *info)
{
    info->nodes += image->nodes;
    info->edges += image->edges;
    for (int32_t i = 0; i < image->nodes; i++)
    {
        const struct rfn_image_node *n = &image->node[i];
        info->kernels += n->type == RFN_IMAGE_KERNEL;
        info->foreign += n->foreign != 0;
        info->opaque += n->opaque != 0;
        if (n->child)
            count(n->child, info);
    }
}

static void count_ends(struct rfn_lint_list *list, const struct rfn_image *image,
                       struct rfn_lint_info *info)
{
    char *seen = calloc((size_t)image->nodes + 1, 1);
    if (!seen)
    {
        list->failed = 1;
        return;
    }
    for (int32_t e = 0; e < image->edges; e++)
    {
        seen[image->edge[e].to] |= 1;
        seen[image->edge[e].from] |= 2;
    }
    for (int32_t i = 0; i < image->nodes; i++)
    {
        info->roots += !(seen[i] & 1);
        info->sinks += !(seen[i] & 2);
    }
    free(seen);
}

static void look(struct rfn_lint_list *list, const struct rfn_image *image,
                 const struct rfn_lint_pools *pools, struct rfn_device *device,
                 struct rfn_lint_info *info)
{
    rfn_lint_nodes(list, image, pools);
    if (device)
        rfn_lint_addresses(list, image, device);
    if (!rfn_lint_order(list, image))
        info->unordered = 1;
    for (int32_t i = 0; i < image->nodes; i++)
    {
        int32_t outer = list->inside;
        list->inside = outer ? outer : i + 1;
        if (image->node[i].child)
            look(list, image->node[i].child, pools, device, info);
        list->inside = outer;
    }
}

static enum rfn_status check_device(const struct rfn_image *image,
                                    struct rfn_device *device)
{
    static const char *const kind[] = { "auto", "host", "cuda" };
    struct rfn_device_info info;
    if (!device)
        return RFN_OK;
    enum rfn_status status = rfn_device_query(device, &info);
    if (status == RFN_OK && strcmp(kind[info.kind], image->device) != 0)
        status = RFN_FAIL(RFN_INVALID, "lint: a graph of the %s device, and a %s device",
                          image->device, kind[info.kind]);
    return status;
}

enum rfn_status rfn_lint(const struct rfn_image *image, struct rfn_device *device,
                         rfn_report_fn *report, void *ctx, struct rfn_lint_info *ret_info)
{
    struct rfn_lint_list list = { 0 };
    struct rfn_lint_pools pools = { 0 };
    struct rfn_lint_info info = { 0 };
    if (!image)
        return RFN_FAIL(RFN_INVALID, "lint: image is NULL");
    enum rfn_status status = check_device(image, device);
    if (status)
        return status;
    count(image, &info);
    count_ends(&list, image, &info);
    info.critical_path = rfn_lint_longest(&list, image);
    if (!rfn_lint_pools(&pools, image))
        list.failed = 1;
    if (!list.failed)
        look(&list, image, &pools, device, &info);
    if (!info.kernels)
        rfn_lint_found(&list, image, NULL, RFN_CAP045, 0,
                       "the graph \"%s\" has %d nodes and no kernel among them",
                       image->name, info.nodes);
    free(pools.pool);
    info.findings = rfn_lint_tell(&list, report, ctx);
    if (info.findings < 0)
        return RFN_FAIL(RFN_NOMEM, "lint: no memory for a graph of %d nodes",
                        image->nodes);
    if (ret_info)
        *ret_info = info;
    return RFN_OK;
}
