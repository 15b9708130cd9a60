/* Rules about nodes that have, or lack, an order between them. */
#define RFN_NO_SITES
#include "graph/lint.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NODES_MAX 16384 /* what comes before what takes a bit a pair: 32 MiB */
#define ROWS_MAX 65536  /* of an access, looked at one by one */

/* ---- what comes before what --------------------------------------------------------- */

struct before
{
    int32_t *from; /* by the node that they lead to */
    int32_t *first;
    uint64_t *bits; /* [nodes][words]: that must have ended; NULL: all before it */
    size_t words;
};

static void release(struct before *b)
{
    free(b->from);
    free(b->first);
    free(b->bits);
}

static int sort_edges(const struct rfn_image *image, struct before *b)
{
    size_t nodes = (size_t)image->nodes;
    b->from = malloc(((size_t)image->edges + 1) * sizeof *b->from);
    b->first = calloc(nodes + 2, sizeof *b->first);
    if (!b->from || !b->first)
        return 0;
    for (int32_t e = 0; e < image->edges; e++)
        b->first[image->edge[e].to + 2]++;
    for (size_t i = 2; i < nodes + 2; i++)
        b->first[i] += b->first[i - 1];
    for (int32_t e = 0; e < image->edges; e++)
        b->from[b->first[image->edge[e].to + 1]++] = image->edge[e].from;
    return 1;
}

/* Each node follows the one before it, as in a capture of one stream. */
static int is_chain(const struct before *b, int32_t nodes)
{
    for (int32_t i = 1; i < nodes; i++)
    {
        int follows = 0;
        for (int32_t k = b->first[i]; k < b->first[i + 1]; k++)
            follows = follows || b->from[k] == i - 1;
        if (!follows)
            return 0;
    }
    return 1;
}

static int reach(struct before *b, int32_t nodes)
{
    b->words = ((size_t)nodes + 63) / 64;
    b->bits = calloc((size_t)nodes * b->words + 1, sizeof *b->bits);
    for (int32_t i = 0; b->bits && i < nodes; i++)
    {
        uint64_t *row = b->bits + (size_t)i * b->words;
        for (int32_t k = b->first[i]; k < b->first[i + 1]; k++)
        {
            const uint64_t *from = b->bits + (size_t)b->from[k] * b->words;
            for (size_t w = 0; w < b->words; w++)
                row[w] |= from[w];
            row[b->from[k] / 64] |= (uint64_t)1 << b->from[k] % 64;
        }
    }
    return b->bits != NULL;
}

static int comes_before(const struct before *b, int32_t from, int32_t to)
{
    if (!b->bits)
        return from < to;
    return b->bits[(size_t)to * b->words + (size_t)from / 64] >> from % 64 & 1;
}

int32_t rfn_lint_longest(struct rfn_lint_list *list, const struct rfn_image *image)
{
    struct before b = { 0 };
    int32_t *length = calloc((size_t)image->nodes + 1, sizeof *length), longest = 0;
    if (!length || !sort_edges(image, &b))
        list->failed = 1;
    for (int32_t i = 0; i < image->nodes && !list->failed; i++)
    {
        for (int32_t k = b.first[i]; k < b.first[i + 1]; k++)
            if (length[b.from[k]] > length[i])
                length[i] = length[b.from[k]];
        const struct rfn_image *child = image->node[i].child;
        length[i] += child ? rfn_lint_longest(list, child) : 1;
        longest = length[i] > longest ? length[i] : longest;
    }
    free(length);
    release(&b);
    return longest;
}

/* ---- memory nodes ------------------------------------------------------------------- */

static int frees(const struct rfn_image_node *n, uint64_t address)
{
    return n->type == RFN_IMAGE_MEM_FREE && n->accesses == 1 &&
           n->access[0].pointer.address == address;
}

/* A library's: it is given back in the graph, and only kernels of others come in between. */
static int is_workspace(const struct rfn_image *image, const struct before *b,
                        int32_t from, int32_t to)
{
    int32_t foreign = 0;
    for (int32_t i = from + 1; i < to; i++)
    {
        const struct rfn_image_node *n = &image->node[i];
        if (n->type != RFN_IMAGE_KERNEL || !comes_before(b, from, i) ||
            !comes_before(b, i, to))
            continue;
        if (!n->foreign)
            return 0;
        foreign++;
    }
    return foreign > 0;
}

static void memory_nodes(struct rfn_lint_list *list, const struct rfn_image *image,
                         const struct before *b)
{
    for (int32_t i = 0; i < image->nodes; i++)
    {
        const struct rfn_image_node *n = &image->node[i];
        if (n->type == RFN_IMAGE_MEM_ALLOC && n->accesses == 1)
        {
            int32_t to = i + 1;
            uint64_t address = n->access[0].pointer.address;
            while (to < image->nodes && !frees(&image->node[to], address))
                to++;
            int workspace = to < image->nodes && is_workspace(image, b, i, to);
            rfn_lint_found(list, image, n, workspace ? RFN_CAP021 : RFN_CAP025, 0,
                           RFN_LINT_NODE " of %lld bytes at %#llx%s",
                           RFN_LINT_NAMES(image, n), (long long)n->access[0].bytes,
                           (unsigned long long)address,
                           workspace ? ", given back in the graph, with kernels of a "
                                       "library in between"
                                     : " at every replay");
        }
        if (n->type == RFN_IMAGE_MEM_FREE && n->accesses == 1)
        {
            int32_t from = 0;
            while (from < i && (image->node[from].type != RFN_IMAGE_MEM_ALLOC ||
                                !frees(n, image->node[from].access[0].pointer.address)))
                from++;
            if (from == i)
                rfn_lint_found(list, image, n, RFN_CAP025, 0,
                               RFN_LINT_NODE ": frees %#llx, which the graph does not "
                                             "allocate, at every replay",
                               RFN_LINT_NAMES(image, n),
                               (unsigned long long)n->access[0].pointer.address);
        }
    }
}

/* ---- the same bytes ------------------------------------------------------------------ */

struct touch
{
    int32_t node; /* of the level */
    const struct rfn_image *image;
    const struct rfn_image_node *by; /* it, or a node of its child */
    const struct rfn_image_access *access;
};

struct touches
{
    struct touch *touch;
    size_t count;
    size_t room;
};

static int add_touches(struct touches *t, const struct rfn_image *image,
                       int32_t level_node, int level)
{
    for (int32_t i = 0; i < image->nodes; i++)
    {
        const struct rfn_image_node *n = &image->node[i];
        int32_t at = level ? level_node : i;
        int memory = n->type == RFN_IMAGE_MEM_ALLOC || n->type == RFN_IMAGE_MEM_FREE;
        for (int32_t k = 0; !memory && k < n->accesses; k++)
        {
            if (!n->access[k].bytes)
                continue;
            if (t->count == t->room)
            {
                size_t room = t->room ? 2 * t->room : 256;
                void *grown = realloc(t->touch, room * sizeof *t->touch);
                if (!grown)
                    return 0;
                t->touch = grown;
                t->room = room;
            }
            t->touch[t->count++] = (struct touch) { at, image, n, &n->access[k] };
        }
        if (n->child && !add_touches(t, n->child, at, level + 1))
            return 0;
    }
    return 1;
}

static uint64_t begin_of(const struct touch *t)
{
    return t->access->pointer.address;
}

static uint64_t end_of(const struct touch *t)
{
    return t->access->pointer.address + (uint64_t)t->access->bytes;
}

static int by_begin(const void *a, const void *b)
{
    const struct touch *x = a, *y = b;
    if (begin_of(x) != begin_of(y))
        return begin_of(x) < begin_of(y) ? -1 : 1;
    return (x->node > y->node) - (x->node < y->node);
}

/* Whether a run of bytes meets a row: the last one that begins before its end. */
static int meets(uint64_t begin, uint64_t end, const struct rfn_image_access *b)
{
    uint64_t base = b->pointer.address;
    if (end <= base)
        return 0;
    uint64_t row = 0;
    if (b->rows > 1)
        row = (end - 1 - base) / (uint64_t)b->row_stride_bytes;
    if (row > (uint64_t)b->rows - 1)
        row = (uint64_t)b->rows - 1;
    return base + row * (uint64_t)b->row_stride_bytes + (uint64_t)b->row_bytes > begin;
}

enum overlap
{
    APART = 0, /* or nobody can say */
    LIKELY,
    CERTAIN,
};

/* Hulls overlap; do the bytes? */
static enum overlap overlap(const struct rfn_image_access *a,
                            const struct rfn_image_access *b)
{
    if (!a->rows || !b->rows)
    {
        /* Whatever of a pool one touches, the other has all of it. */
        const struct rfn_image_access *some = a->rows ? b : a, *all = a->rows ? a : b;
        uint64_t before = some->pointer.address - all->pointer.address;
        return all->rows == 1 && before <= (uint64_t)all->bytes &&
                       (uint64_t)some->bytes <= (uint64_t)all->bytes - before
                   ? LIKELY
                   : APART;
    }
    if (a->rows > b->rows)
    {
        const struct rfn_image_access *swap = a;
        a = b;
        b = swap;
    }
    if (a->rows > ROWS_MAX || (b->rows > 1 && !b->row_stride_bytes))
        return APART;
    for (int64_t r = 0; r < a->rows; r++)
    {
        uint64_t begin = a->pointer.address + (uint64_t)r * (uint64_t)a->row_stride_bytes;
        if (meets(begin, begin + (uint64_t)a->row_bytes, b))
            return CERTAIN;
    }
    return APART;
}

static const char *verb(const struct touch *t)
{
    return t->access->access == RFN_READ ? "reads" : "writes";
}

static void compare(struct rfn_lint_list *list, const struct before *b,
                    const struct touch *x, const struct touch *y)
{
    int writes = (x->access->access | y->access->access) & RFN_WRITE;
    if (x->node > y->node)
    {
        const struct touch *swap = x;
        x = y;
        y = swap;
    }
    if (x->node == y->node || !writes || comes_before(b, x->node, y->node))
        return;
    enum overlap how = overlap(x->access, y->access);
    if (how == APART)
        return;
    uint64_t begin = begin_of(x) > begin_of(y) ? begin_of(x) : begin_of(y);
    uint64_t end = end_of(x) < end_of(y) ? end_of(x) : end_of(y);
    int32_t outer = list->inside;
    char site[256] = "";
    if (x->by->file[0])
        snprintf(site, sizeof site, " at %s:%d", x->by->file, x->by->line);
    list->inside = outer ? outer : y->node + 1;
    /* What is proved of a place stays so beside what is only likely. */
    uint64_t key = 2 * (uint64_t)x->by->line + (how == LIKELY);
    struct rfn_finding *f = rfn_lint_found(
        list, y->image, y->by, RFN_CAP022, key,
        RFN_LINT_NODE " %s '%s' and " RFN_LINT_NODE
                      "%s %s '%s', with no order between them: both touch bytes "
                      "between %#llx and %#llx",
        RFN_LINT_NAMES(y->image, y->by), verb(y), y->access->name,
        RFN_LINT_NAMES(x->image, x->by), site, verb(x), x->access->name,
        (unsigned long long)begin, (unsigned long long)end);
    list->inside = outer;
    if (how == LIKELY)
        f->confidence = RFN_HEURISTIC;
}

static int same_bytes(struct rfn_lint_list *list, const struct rfn_image *image,
                      const struct before *b)
{
    struct touches t = { 0 };
    size_t open = 0;
    if (!add_touches(&t, image, 0, 0))
    {
        free(t.touch);
        return 0;
    }
    if (t.count)
        qsort(t.touch, t.count, sizeof *t.touch, by_begin);
    /* Those that may still be met move to the front. */
    for (size_t i = 0; i < t.count; i++)
    {
        struct touch now = t.touch[i];
        size_t left = 0;
        for (size_t k = 0; k < open; k++)
        {
            if (end_of(&t.touch[k]) <= begin_of(&now))
                continue;
            compare(list, b, &t.touch[k], &now);
            t.touch[left++] = t.touch[k];
        }
        t.touch[left++] = now;
        open = left;
    }
    free(t.touch);
    return 1;
}

int rfn_lint_order(struct rfn_lint_list *list, const struct rfn_image *image)
{
    struct before b = { 0 };
    if (!sort_edges(image, &b))
    {
        list->failed = 1;
        release(&b);
        return 1;
    }
    int chain = is_chain(&b, image->nodes);
    if (!chain && image->nodes > NODES_MAX)
    {
        release(&b);
        return 0;
    }
    if (!chain && !reach(&b, image->nodes))
        list->failed = 1;
    if (!list->failed)
        memory_nodes(list, image, &b);
    if (!list->failed && !chain && !same_bytes(list, image, &b))
        list->failed = 1;
    release(&b);
    return 1;
}
