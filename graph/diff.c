/* Differential capture: images of one step, held against each other. */
#define RFN_NO_SITES
#include "graph/lint.h"
#include "runtime/error.h"

#include <refrain/diff.h>
#include <stdio.h>
#include <string.h>

/* ---- values ------------------------------------------------------------------------ */

#define VALUE_CHARS 96

/* Whether four bytes read better as a number with a point: no small integer looks so. */
static int is_float(uint32_t bits)
{
    uint32_t exponent = bits >> 23 & 255;
    return exponent >= 127 - 40 && exponent <= 127 + 40;
}

void rfn_lint_word(char *text, size_t room, const void *at, int32_t bytes)
{
    uint64_t bits = 0;
    float f;
    memcpy(&bits, at, (size_t)bytes);
    uint32_t low = (uint32_t)bits;
    memcpy(&f, &low, sizeof f);
    if (bytes == 4 && is_float(low))
        snprintf(text, room, "%g", (double)f);
    else if (bytes == 4)
        snprintf(text, room, "%d", (int)low);
    else if (bits >> 40 && bits >> 40 != 0xffffff)
        snprintf(text, room, "%#llx", (unsigned long long)bits);
    else
        snprintf(text, room, "%lld", (long long)bits);
}

/* The words from the first that differs on; at most four. */
static void print_value(char text[VALUE_CHARS], const struct rfn_image_param *p,
                        const struct rfn_image_param *other)
{
    int32_t word = p->bytes % 8 == 0 ? 8 : p->bytes % 4 == 0 ? 4 : p->bytes == 2 ? 2 : 1;
    const char *value = p->value;
    int32_t at = 0, end;
    size_t used;
    if (p->bytes <= 0)
    {
        snprintf(text, VALUE_CHARS, "nothing");
        return;
    }
    while (p->bytes > 4 * word && at + word < p->bytes && at + word < other->bytes &&
           !memcmp(value + at, (const char *)other->value + at, (size_t)word))
        at += word;
    end = p->bytes - at > 4 * word ? at + 4 * word : p->bytes;
    used = (size_t)snprintf(text, VALUE_CHARS, "%s", p->bytes > word ? "[" : "");
    for (int32_t i = at; i < end; i += word)
    {
        char number[32];
        rfn_lint_word(number, sizeof number, value + i, word);
        if (used < VALUE_CHARS)
            used += (size_t)snprintf(text + used, VALUE_CHARS - used, "%s%s",
                                     i > at ? ", " : "", number);
    }
    if (used < VALUE_CHARS && p->bytes > word)
        snprintf(text + used, VALUE_CHARS - used, end < p->bytes ? ", ...]" : "]");
}

/* ---- findings ---------------------------------------------------------------------- */

#define ALL_MOVED 2

struct diff
{
    struct rfn_lint_list list;
    struct rfn_diff_info info;
    int32_t moved;
    int32_t reshaped;  /* the node at hand has other extents */
    const char *other; /* "the second recording" */
    const struct rfn_image *a, *b;
};

/* Parameters of one place are told apart by their names. */
static uint64_t key_of(const char *name)
{
    uint64_t hash = 0xcbf29ce484222325;
    for (; *name; name++)
        hash = (hash ^ (unsigned char)*name) * 0x100000001b3;
    return hash;
}

static struct rfn_finding *differs(struct diff *d, const struct rfn_image_node *n,
                                   enum rfn_rule rule, const char *what, const char *name,
                                   const char *was, const char *is, const char *so)
{
    return rfn_lint_found(
        &d->list, d->b, n, rule, key_of(name),
        RFN_LINT_NODE ": %s '%s' is %s in the first recording and %s in %s%s%s",
        RFN_LINT_NAMES(d->b, n), what, name, was, is, d->other, so[0] ? ": " : "", so);
}

static void shape_differs(struct diff *d, const struct rfn_image_node *n,
                          const char *name, const uint32_t was[3], const uint32_t is[3])
{
    char a[48], b[48];
    if (!memcmp(was, is, 3 * sizeof *was))
        return;
    snprintf(a, sizeof a, "%ux%ux%u", was[0], was[1], was[2]);
    snprintf(b, sizeof b, "%ux%ux%u", is[0], is[1], is[2]);
    differs(d, n, RFN_CAP006, "the launch's", name, a, b, "");
}

static void number_differs(struct diff *d, const struct rfn_image_node *n,
                           enum rfn_rule rule, const char *what, const char *name,
                           uint64_t was, uint64_t is)
{
    char a[32], b[32];
    if (was == is)
        return;
    rfn_lint_word(a, sizeof a, &was, 8);
    rfn_lint_word(b, sizeof b, &is, 8);
    differs(d, n, rule, what, name, a, b, "");
}

/* ---- parameters -------------------------------------------------------------------- */

static int is_known(const struct rfn_image_pointer *at)
{
    return at->address && at->kind != RFN_MEMORY_PAGEABLE;
}

static void address_differs(struct diff *d, const struct rfn_image_node *n,
                            const char *name, const struct rfn_image_pointer *was,
                            const struct rfn_image_pointer *is)
{
    char a[32], b[32];
    int same = was->address == is->address;
    if (d->moved && was->address && is->address)
    {
        d->info.moved += !same;
        d->info.stayed += same;
        if (same && d->moved == ALL_MOVED && was->generation)
        {
            snprintf(a, sizeof a, "%#llx", (unsigned long long)was->address);
            differs(d, n, RFN_CAP005, "the address", name, a, a,
                    "all memory of the step was elsewhere by then");
        }
        return;
    }
    if (same)
        return;
    snprintf(a, sizeof a, "%#llx", (unsigned long long)was->address);
    snprintf(b, sizeof b, "%#llx", (unsigned long long)is->address);
    differs(d, n, RFN_CAP005, "the address", name, a, b,
            !was->address || !is->address ? "it is not given in one of them"
                                          : "the buffers are said to be the same");
}

static void compare_param(struct diff *d, const struct rfn_image_node *n,
                          const struct rfn_image_param *p,
                          const struct rfn_image_param *q)
{
    static const struct
    {
        enum rfn_rule rule;
        const char *what;
        const char *so;
    } kind[RFN_IMAGE_ROLES] = {
        [RFN_IMAGE_CONST] = { RFN_CAP005, "the constant", "" },
        [RFN_IMAGE_SHAPE] = { RFN_CAP006, "the extent", "" },
        [RFN_IMAGE_UNDECLARED] = { RFN_CAP005, "the field at",
                                   "no table of the op names it" },
        [RFN_IMAGE_FOREIGN] = { RFN_CAP005, "parameter", "nobody declared what it is" },
    };
    char was[VALUE_CHARS], is[VALUE_CHARS];
    int same = p->bytes == q->bytes && !memcmp(p->value, q->value, (size_t)p->bytes);
    d->info.compared++;
    switch (p->role)
    {
    case RFN_IMAGE_DYNAMIC:
        d->info.dynamic += !same;
        return;
    case RFN_IMAGE_READ:
    case RFN_IMAGE_WRITE:
    case RFN_IMAGE_READ_WRITE:
        address_differs(d, n, p->name, &p->pointer, &q->pointer);
        return;
    case RFN_IMAGE_FOREIGN:
        if (is_known(&p->pointer) && is_known(&q->pointer))
        {
            address_differs(d, n, p->name, &p->pointer, &q->pointer);
            return;
        }
        if (d->moved && p->bytes > 8)
            return;
        break;
    default:
        break;
    }
    if (same)
        return;
    print_value(was, p, q);
    print_value(is, q, p);
    /* A kernel is told its extents in constants too: those are no findings of their own. */
    enum rfn_rule rule =
        d->reshaped && p->role == RFN_IMAGE_CONST ? RFN_CAP006 : kind[p->role].rule;
    struct rfn_finding *f =
        differs(d, n, rule, kind[p->role].what, p->name, was, is, kind[p->role].so);
    if (p->role == RFN_IMAGE_FOREIGN)
        f->confidence = RFN_HEURISTIC;
}

/* ---- nodes ------------------------------------------------------------------------- */

/* Kernels of ours on a GPU say extents by their operands alone; where parameters do, they
 * have been compared. */
static void compare_accesses(struct diff *d, const struct rfn_image_node *n,
                             const struct rfn_image_node *m)
{
    int kernel = n->type == RFN_IMAGE_KERNEL;
    if (n->type == RFN_IMAGE_MEM_ALLOC || n->type == RFN_IMAGE_MEM_FREE)
        return;
    for (int32_t i = 0; kernel && i < n->params; i++)
        if (n->param[i].role == RFN_IMAGE_SHAPE)
            return;
    for (int32_t i = 0; i < n->accesses && i < m->accesses; i++)
    {
        const struct rfn_image_access *a = &n->access[i], *b = &m->access[i];
        if (strcmp(a->name, b->name) != 0)
            return;
        /* Both ends of a copy are one number, but for their strides. */
        if (kernel || !i || n->access[0].bytes == m->access[0].bytes)
            number_differs(d, m, RFN_CAP006, "the bytes of", a->name, (uint64_t)a->bytes,
                           (uint64_t)b->bytes);
        if (!kernel)
            address_differs(d, m, a->name, &a->pointer, &b->pointer);
    }
}

/* Launched with another shape, or for operands of other extents. */
static int is_reshaped(const struct rfn_image_node *n, const struct rfn_image_node *m)
{
    if (memcmp(n->grid, m->grid, sizeof n->grid) != 0 ||
        memcmp(n->block, m->block, sizeof n->block) != 0 ||
        n->shared_bytes != m->shared_bytes)
        return 1;
    for (int32_t i = 0; i < n->accesses && i < m->accesses; i++)
    {
        const struct rfn_image_access *a = &n->access[i], *b = &m->access[i];
        if (a->bytes != b->bytes || a->rows != b->rows ||
            a->row_stride_bytes != b->row_stride_bytes)
            return 1;
    }
    return 0;
}

static void compare_node(struct diff *d, const struct rfn_image_node *n,
                         const struct rfn_image_node *m)
{
    d->reshaped = n->type == RFN_IMAGE_KERNEL && is_reshaped(n, m);
    uint32_t was[3] = { n->shared_bytes, 1, 1 }, is[3] = { m->shared_bytes, 1, 1 };
    shape_differs(d, m, "grid", n->grid, m->grid);
    shape_differs(d, m, "block", n->block, m->block);
    shape_differs(d, m, "shared memory", was, is);
    for (int32_t i = 0; i < n->params && i < m->params; i++)
        if (!strcmp(n->param[i].name, m->param[i].name) &&
            n->param[i].role == m->param[i].role)
            compare_param(d, m, &n->param[i], &m->param[i]);
    number_differs(d, m, RFN_CAP006, "the number of", "parameters", (uint64_t)n->params,
                   (uint64_t)m->params);
    number_differs(d, m, RFN_CAP006, "the number of", "operands", (uint64_t)n->accesses,
                   (uint64_t)m->accesses);
    compare_accesses(d, n, m);
    number_differs(d, m, RFN_CAP005, "the memset's", "value", (uint32_t)n->value,
                   (uint32_t)m->value);
    number_differs(d, m, RFN_CAP005, "the host node's", "function", n->function,
                   m->function);
    number_differs(d, m, RFN_CAP005, "the memset's", "bytes of an element",
                   (uint32_t)n->value_bytes, (uint32_t)m->value_bytes);
    if (d->moved)
        return;
    number_differs(d, m, RFN_CAP005, "the host node's", "argument", n->user, m->user);
    number_differs(d, m, RFN_CAP005, "the node's", "event", n->event, m->event);
}

/* ---- graphs ------------------------------------------------------------------------ */

static int same_kind(const struct rfn_image_node *n, const struct rfn_image_node *m)
{
    return n->type == m->type && !strcmp(n->name, m->name) && !strcmp(n->op, m->op) &&
           !n->child == !m->child;
}

/* One of the two may be over: NULL. */
static void nodes_part(struct diff *d, int32_t at)
{
    const struct rfn_image_node *n = at < d->a->nodes ? &d->a->node[at] : NULL;
    const struct rfn_image_node *m = at < d->b->nodes ? &d->b->node[at] : NULL;
    char was[RFN_LINT_LABEL], is[RFN_LINT_LABEL];
    rfn_image_label(n ? n->name : "nothing more", was, sizeof was);
    rfn_image_label(m ? m->name : "nothing more", is, sizeof is);
    rfn_lint_found(
        &d->list, m ? d->b : d->a, m ? m : n, RFN_CAP006, key_of("nodes"),
        "the first recording has %d nodes, %s %d, and they part at node %d: %s "
        "in the one, %s in the other",
        d->a->nodes, d->other, d->b->nodes, at, was, is);
}

static void compare_edges(struct diff *d)
{
    const struct rfn_image *a = d->a, *b = d->b;
    int32_t most = a->edges > b->edges ? a->edges : b->edges;
    for (int32_t i = 0; i < most; i++)
    {
        const struct rfn_image_edge none = { 0 };
        const struct rfn_image_edge *x = i < a->edges ? &a->edge[i] : &none;
        const struct rfn_image_edge *y = i < b->edges ? &b->edge[i] : &none;
        if (x->from == y->from && x->to == y->to && x->programmatic == y->programmatic)
            continue;
        rfn_lint_found(
            &d->list, b, &b->node[y->to ? y->to : x->to], RFN_CAP006, key_of("edges"),
            "the first recording has %d edges, %s %d, and they part at edge %d: "
            "%d to %d%s in the one, %d to %d%s in the other",
            a->edges, d->other, b->edges, i, x->from, x->to,
            x->programmatic ? " (programmatic)" : "", y->from, y->to,
            y->programmatic ? " (programmatic)" : "");
        return;
    }
}

/* Whether two nodes can be the same one of two graphs that are not alike: where nothing moved
 * that is told by the addresses, which layers do not share. */
static int may_be_same(const struct diff *d, const struct rfn_image_node *n,
                       const struct rfn_image_node *m)
{
    if (!same_kind(n, m))
        return 0;
    for (int32_t i = 0; !d->moved && i < n->params && i < m->params; i++)
        if (n->param[i].pointer.address != m->param[i].pointer.address)
            return 0;
    for (int32_t i = 0; !d->moved && i < n->accesses && i < m->accesses; i++)
        if (n->access[i].pointer.address != m->access[i].pointer.address)
            return 0;
    return 1;
}

static int same_kinds(const struct rfn_image *a, const struct rfn_image *b)
{
    int32_t i = 0;
    if (a->nodes != b->nodes)
        return 0;
    while (i < a->nodes && same_kind(&a->node[i], &b->node[i]))
        i++;
    return i == a->nodes;
}

static void compare_images(struct diff *d, const struct rfn_image *a,
                           const struct rfn_image *b)
{
    int alike = same_kinds(a, b);
    int32_t i = 0;
    d->a = a;
    d->b = b;
    while (i < a->nodes && i < b->nodes &&
           (alike || may_be_same(d, &a->node[i], &b->node[i])))
    {
        compare_node(d, &a->node[i], &b->node[i]);
        if (a->node[i].child)
        {
            int32_t outer = d->list.inside;
            d->list.inside = outer ? outer : i + 1;
            compare_images(d, a->node[i].child, b->node[i].child);
            d->list.inside = outer;
            d->a = a;
            d->b = b;
        }
        i++;
    }
    if (alike)
        compare_edges(d);
    else
        nodes_part(d, i);
}

static int32_t count(const struct rfn_image *image)
{
    int32_t nodes = image->nodes;
    for (int32_t i = 0; i < image->nodes; i++)
        if (image->node[i].child)
            nodes += count(image->node[i].child);
    return nodes;
}

static enum rfn_status tell(struct diff *d, rfn_report_fn *report, void *ctx,
                            struct rfn_diff_info *ret_info)
{
    d->info.findings = rfn_lint_tell(&d->list, report, ctx);
    if (d->info.findings < 0)
        return RFN_FAIL(RFN_NOMEM, "diff: no memory for graphs of %d nodes",
                        d->info.nodes);
    if (ret_info)
        *ret_info = d->info;
    return RFN_OK;
}

enum rfn_status rfn_image_diff(const struct rfn_image *first,
                               const struct rfn_image *other, int32_t moved,
                               rfn_report_fn *report, void *ctx,
                               struct rfn_diff_info *ret_info)
{
    struct diff d = { .moved = moved, .other = "the other" };
    if (!first || !other)
        return RFN_FAIL(RFN_INVALID, "image_diff: %s is NULL", first ? "other" : "first");
    d.info.nodes = count(first);
    compare_images(&d, first, other);
    return tell(&d, report, ctx, ret_info);
}

/* ---- recordings -------------------------------------------------------------------- */

static enum rfn_status record(const struct rfn_diff_desc *desc, struct rfn_stream *stream,
                              int32_t round, struct rfn_image **ret)
{
    char name[24];
    struct rfn_capture_desc capture = { desc->mode, name };
    struct rfn_graph *graph = NULL, *lost = NULL;
    snprintf(name, sizeof name, "recording %d", round + 1);
    enum rfn_status status = rfn_capture_begin(stream, &capture);
    if (status)
        return status;
    status = desc->record(desc->ctx, stream);
    if (status) /* its line stays the one that is read */
    {
        char line[512];
        snprintf(line, sizeof line, "%s", rfn_last_error());
        if (rfn_capture_end(stream, &lost) == RFN_OK)
            rfn_graph_destroy(&lost);
        return rfn_error(status, "graph_diff: recording %d: %s", round + 1, line);
    }
    status = rfn_capture_end(stream, &graph);
    if (status)
        return status;
    status = rfn_image_of(graph, desc->check, ret);
    enum rfn_status gone = rfn_graph_destroy(&graph);
    return status ? status : gone;
}

enum rfn_status rfn_graph_diff(struct rfn_device *device,
                               const struct rfn_diff_desc *desc, rfn_report_fn *report,
                               void *ctx, struct rfn_diff_info *ret_info)
{
    struct rfn_image *image[RFN_DIFF_ROUNDS] = { NULL };
    struct rfn_stream *stream = NULL;
    struct diff d = { 0 };
    int changed = 0;
    if (!device || !desc || !desc->record)
        return RFN_FAIL(RFN_INVALID, "graph_diff: %s is NULL",
                        !device ? "device"
                        : !desc ? "desc"
                                : "record");
    enum rfn_status status = rfn_stream_create(device, RFN_STREAM_NONBLOCKING, &stream);
    if (status)
        return status;
    for (int32_t i = 0; i < RFN_DIFF_ROUNDS && !status; i++)
    {
        if (i && desc->mutate)
        {
            changed = 1;
            status = desc->mutate(desc->ctx, (enum rfn_diff_round)i);
        }
        if (!status)
            status = record(desc, stream, i, &image[i]);
    }
    if (changed)
    {
        enum rfn_status back = desc->mutate(desc->ctx, RFN_DIFF_FIRST);
        status = status ? status : back;
    }
    if (!status)
    {
        d.info.nodes = count(image[0]);
        d.other = "the second";
        compare_images(&d, image[0], image[RFN_DIFF_INPUTS]);
        d.moved = desc->all_moves ? ALL_MOVED : 1;
        d.other = "the third";
        compare_images(&d, image[0], image[RFN_DIFF_ARENA]);
        status = tell(&d, report, ctx, ret_info);
    }
    for (int32_t i = 0; i < RFN_DIFF_ROUNDS; i++)
        rfn_image_destroy(&image[i]);
    enum rfn_status gone = rfn_stream_destroy(&stream);
    return status ? status : gone;
}
