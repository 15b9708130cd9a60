/* What the files of the lint share. */
#ifndef RFN_GRAPH_LINT_H
#define RFN_GRAPH_LINT_H

#include <refrain/lint.h>
#include <stddef.h>

#define RFN_LINT_LABEL 128 /* characters of a node's name, its end included */

struct rfn_lint_item
{
    struct rfn_finding finding;
    uint64_t key; /* tells findings of one place apart */
    char why[512];
    const char *name; /* the node's; NULL: it is of no node */
    char api[RFN_LINT_LABEL];
};

struct rfn_lint_list
{
    struct rfn_lint_item *item;
    int32_t items;
    int32_t room;
    int32_t
        inside; /* findings are of a child, whose place is this, from 1; 0: they are not */
    int failed;                 /* memory ran out */
    struct rfn_finding nowhere; /* what a finding without memory is written to */
};

/* A finding of this rule at the node, its sentence printf-like. `key` is 0 where one finding
 * a rule and place is enough. */
struct rfn_finding *rfn_lint_found(struct rfn_lint_list *list,
                                   const struct rfn_image *image,
                                   const struct rfn_image_node *node, enum rfn_rule rule,
                                   uint64_t key, const char *format, ...)
    RFN_PRINTF(6, 7);

/* Tells all of them, in the order of their rules, and frees the list. Returns how many there
 * are; -1 when memory ran out, and none is told. */
int32_t rfn_lint_tell(struct rfn_lint_list *list, rfn_report_fn *report, void *ctx);

/* A value of at most 8 bytes, as a reader would write it. */
void rfn_lint_word(char *text, size_t room, const void *at, int32_t bytes);

/* "index_topk (node 3)", for sentences; the name lives as long as its block. */
#define RFN_LINT_NODE "%s (node %d)"
#define RFN_LINT_NAMES(of, n)                                                            \
    rfn_image_label((n)->name, (char[RFN_LINT_LABEL]) { 0 }, RFN_LINT_LABEL),            \
        (int)((n) - (of)->node)

/* ---- lint_nodes.c ------------------------------------------------------------------ */

struct rfn_lint_pool
{
    uint64_t begin;
    int64_t bytes;
    const char *op;
    const char *operand;
};

struct rfn_lint_pools
{
    struct rfn_lint_pool *pool;
    int32_t pools;
    int32_t room;
};

/* Collects the pools of launches, children's too; 0: no memory. */
int rfn_lint_pools(struct rfn_lint_pools *pools, const struct rfn_image *image);
void rfn_lint_nodes(struct rfn_lint_list *list, const struct rfn_image *image,
                    const struct rfn_lint_pools *pools);
/* Every address against what the device knows of it now. */
void rfn_lint_addresses(struct rfn_lint_list *list, const struct rfn_image *image,
                        struct rfn_device *device);

/* ---- lint_order.c ------------------------------------------------------------------ */

/* Memory nodes and unordered ones of this level. 0: too many nodes. */
int rfn_lint_order(struct rfn_lint_list *list, const struct rfn_image *image);
/* Nodes on the longest way through it. */
int32_t rfn_lint_longest(struct rfn_lint_list *list, const struct rfn_image *image);

#endif
