/* Graphs of all ranks against each other. The only thing that ranks can do together is the
 * element-wise maximum, so a value travels with its complement: the maximum of ~x is ~ of the
 * minimum. Every branch below is taken by all ranks alike, for it looks at maxima only. */
#define RFN_NO_SITES
#include "graph/ranks.h"
#include "runtime/error.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum rfn_status rfn_ranks_reduce(const char *what, rfn_reduce_fn *reduce, void *ctx,
                                 int64_t *values, int32_t count)
{
    char before[768];
    snprintf(before, sizeof before, "%s", rfn_last_error());
    enum rfn_status status = reduce(ctx, values, count);
    if (status && !strcmp(before, rfn_last_error()))
        RFN_FAIL(status, "%s: the reduction over the ranks returned %d (%s)", what,
                 status, rfn_status_name(status));
    return status;
}

/* ---- the first difference ------------------------------------------------------------ */

/* What a rank could not take part in, the greatest over the ranks. */
enum lack
{
    LACKS_NOTHING = 0,
    LACKS_IMAGE,
    LACKS_MEMORY,
};

/* Of findings that are of no node here. */
static const struct rfn_image nowhere = { .name = "", .device = "" };

/* Sentences of one graph are one finding each. */
static uint64_t key_of(const char *name)
{
    uint64_t key = 0;
    for (; *name; name++)
        key = rfn_ranks_mix(key, (unsigned char)*name);
    return key;
}

static enum rfn_status no_memory(const char *what, int own)
{
    if (own)
        return RFN_FAIL(RFN_NOMEM, "%s: no memory to compare graphs", what);
    return RFN_FAIL(RFN_NOT_READY, "%s: another rank has no memory to compare graphs",
                    what);
}

static void say_node(struct rfn_lint_list *list, const char *name,
                     const struct rfn_flat_node *n, const char *text, int unsure)
{
    struct rfn_finding *f = rfn_lint_found(list, n->image, n->node, RFN_CAP038,
                                           key_of(name), "%s: " RFN_LINT_NODE ": %s",
                                           name, RFN_LINT_NAMES(n->image, n->node), text);
    if (unsure)
        f->confidence = RFN_HEURISTIC;
}

static void say_word(struct rfn_lint_list *list, const char *name,
                     const struct rfn_flat_node *n, const struct rfn_word *w,
                     int64_t least, int64_t most)
{
    char here[32], low[32], high[32], index[16] = "", text[320];
    switch (w->kind)
    {
    case RFN_WORD_TYPE:
        snprintf(text, sizeof text, "its type is %s here, and %s and %s over the ranks",
                 rfn_image_type_name((enum rfn_image_type)w->value),
                 rfn_image_type_name((enum rfn_image_type)least),
                 rfn_image_type_name((enum rfn_image_type)most));
        break;
    case RFN_WORD_NAME:
        snprintf(text, sizeof text, "%s is '%s' here, and another one on another rank",
                 w->what, w->name);
        break;
    case RFN_WORD_ORDER:
        snprintf(text, sizeof text,
                 "it comes behind other nodes here than on another rank");
        break;
    default:
        rfn_lint_word(here, sizeof here, &w->value, w->bytes);
        rfn_lint_word(low, sizeof low, &least, w->bytes);
        rfn_lint_word(high, sizeof high, &most, w->bytes);
        if (w->index >= 0)
            snprintf(index, sizeof index, "[%d]", w->index);
        snprintf(text, sizeof text, "%s '%s%s' is %s here, and %s to %s over the ranks",
                 w->what, w->name, index, here, low, high);
    }
    say_node(list, name, n, text, w->unsure);
}

/* What came back says less than this rank said. */
static enum rfn_status no_maximum(const char *what, const char *of, int64_t least,
                                  int64_t most, int32_t own)
{
    return RFN_FAIL(
        RFN_INVALID,
        "%s: the reduction gave %lld to %lld %s; this rank has %d, so it is no "
        "maximum",
        what, (long long)least, (long long)most, of, own);
}

/* Node i differs. */
static enum rfn_status locate_word(struct rfn_lint_list *list, const char *what,
                                   const char *name, const struct rfn_flat_node *n,
                                   rfn_reduce_fn *reduce, void *ctx)
{
    int32_t own = rfn_flat_words(n, NULL, 0), i = 0;
    struct rfn_word *word = calloc((size_t)own, sizeof *word);
    int64_t *value = calloc((size_t)own, 2 * sizeof *value);
    int lacks = !word || !value;
    int64_t round[] = { lacks ? LACKS_MEMORY : LACKS_NOTHING, ~(int64_t)own };
    enum rfn_status status = rfn_ranks_reduce(what, reduce, ctx, round, 2);
    if (!status && round[0])
        status = no_memory(what, lacks);
    if (status)
        goto free_words;
    if (~round[1] < 0 || ~round[1] > own)
    {
        status = no_maximum(what, "parameters of a node", ~round[1], own, own);
        goto free_words;
    }
    int32_t common = (int32_t)~round[1];
    rfn_flat_words(n, word, own);
    for (int32_t k = 0; k < common; k++)
    {
        value[2 * k] = word[k].value;
        value[2 * k + 1] = ~word[k].value;
    }
    status = rfn_ranks_reduce(what, reduce, ctx, value, 2 * common);
    if (status)
        goto free_words;
    while (i < common && value[2 * i] == ~value[2 * i + 1])
        i++;
    if (i < common)
        say_word(list, name, n, &word[i], ~value[2 * i + 1], value[2 * i]);
    else
        say_node(list, name, n, "it has more parameters on one rank than on another", 0);

free_words:
    free(value);
    free(word);
    return status;
}

static void say_counts(struct rfn_lint_list *list, const char *name,
                       const struct rfn_flat *flat, int32_t common, int32_t most)
{
    const struct rfn_flat_node none = { .image = &nowhere };
    int32_t at = flat->nodes > common ? common : common - 1;
    const struct rfn_flat_node *n = at >= 0 ? &flat->node[at] : &none;
    rfn_lint_found(
        list, n->image, n->node, RFN_CAP038, key_of(name),
        "%s: %d nodes here, and %d to %d over the ranks, of which the first %d "
        "are alike; the next here is %s",
        name, flat->nodes, common, most, common,
        flat->nodes > common ? n->node->name : "none");
}

enum rfn_status rfn_ranks_locate(struct rfn_lint_list *list, const char *what,
                                 const char *name, const struct rfn_flat *flat,
                                 rfn_reduce_fn *reduce, void *ctx)
{
    int32_t own = flat ? flat->nodes : 0, i = 0;
    int64_t *hash = calloc((size_t)own + 1, 2 * sizeof *hash);
    int64_t round[] = { !hash   ? LACKS_MEMORY
                        : !flat ? LACKS_IMAGE
                                : LACKS_NOTHING,
                        own, ~(int64_t)own };
    enum rfn_status status = rfn_ranks_reduce(what, reduce, ctx, round, 3);
    if (!status && round[0] == LACKS_MEMORY)
        status = no_memory(what, !hash);
    if (status)
        goto free_hashes;
    if (round[1] < own || ~round[2] < 0 || ~round[2] > own)
    {
        status = no_maximum(what, "nodes", ~round[2], round[1], own);
        goto free_hashes;
    }
    int32_t most = (int32_t)round[1], common = (int32_t)~round[2];
    if (round[0] == LACKS_IMAGE)
    {
        rfn_lint_found(list, &nowhere, NULL, RFN_CAP038, key_of(name),
                       "%s: the graphs differ; where cannot be told, because %s rank "
                       "keeps no image of a graph that agreed before",
                       name, flat ? "another" : "this");
        goto free_hashes;
    }
    for (int32_t k = 0; k < common; k++)
    {
        hash[2 * k] = (int64_t)flat->node[k].hash;
        hash[2 * k + 1] = ~(int64_t)flat->node[k].hash;
    }
    if (common)
        status = rfn_ranks_reduce(what, reduce, ctx, hash, 2 * common);
    if (status)
        goto free_hashes;
    while (i < common && hash[2 * i] == ~hash[2 * i + 1])
        i++;
    if (i < common)
        status = locate_word(list, what, name, &flat->node[i], reduce, ctx);
    else
        say_counts(list, name, flat, common, most);

free_hashes:
    free(hash);
    return status;
}

/* ---- one graph a rank ----------------------------------------------------------------- */

static void say_none(struct rfn_lint_list *list, const struct rfn_image *image)
{
    if (image)
        rfn_lint_found(list, image, image->nodes ? &image->node[0] : NULL, RFN_CAP038, 0,
                       "'%s' has %d nodes here, and another rank has no graph",
                       image->name, image->nodes);
    else
        rfn_lint_found(list, &nowhere, NULL, RFN_CAP038, 0,
                       "this rank has no graph, and another has one");
}

enum rfn_status rfn_ranks_compare(const struct rfn_image *image, rfn_reduce_fn *reduce,
                                  void *reduce_ctx, rfn_report_fn *report, void *ctx,
                                  int32_t *ret_findings)
{
    static const char what[] = "ranks_compare";
    struct rfn_flat flat = { 0 };
    struct rfn_lint_list list = { 0 };
    if (!reduce)
        return RFN_FAIL(RFN_INVALID, "ranks_compare: reduce is NULL");
    int lacks = image && !rfn_flat_of(image, &flat);
    int64_t signature = (int64_t)flat.signature;
    int64_t round[] = {
        lacks,
        !image,
        image != NULL,
        image ? signature : INT64_MIN,
        image ? ~signature : INT64_MIN,
    };
    enum rfn_status status = rfn_ranks_reduce(what, reduce, reduce_ctx, round, 5);
    if (!status && round[0])
        status = no_memory(what, lacks);
    if (!status && round[1] && round[2])
        say_none(&list, image);
    else if (!status && round[2] && round[3] != ~round[4])
        status = rfn_ranks_locate(&list, what, image->name[0] ? image->name : "the graph",
                                  &flat, reduce, reduce_ctx);
    rfn_flat_free(&flat);
    /* Where something failed nothing is told. */
    int32_t told = rfn_lint_tell(&list, status ? NULL : report, ctx);
    if (status)
        return status;
    if (told < 0)
        return no_memory(what, 1);
    if (ret_findings)
        *ret_findings = told;
    return RFN_OK;
}
