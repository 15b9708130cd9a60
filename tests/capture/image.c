/* The image of a graph: every node of a capture of two streams and a child, by whom, with what
 * parameters, touching which memory; and it outlives all of it. */
#include "tests/capture/step.h"

#include <stdlib.h>

static void nothing(void *user)
{
    (void)user;
}

struct expected
{
    enum rfn_image_type type;
    int line;
    int side; /* of the side stream */
    int32_t accesses;
};

#define EQUAL(s, what, got, want)                                                        \
    harness_check(&(s)->h, what, (long long)(got) == (long long)(want),                  \
                  "%lld, not %lld", (long long)(got), (long long)(want))
#define SAME(s, what, got, want)                                                         \
    harness_check(&(s)->h, what, !strcmp(got, want), "'%s', not '%s'", got, want)

static const struct rfn_image_param *param_of(struct step *s,
                                              const struct rfn_image_node *node,
                                              const char *name)
{
    static const struct rfn_image_param none = { .name = "", .value = "" };
    for (int32_t i = 0; i < node->params; i++)
        if (!strcmp(node->param[i].name, name))
            return &node->param[i];
    harness_check(&s->h, name, 0, "no such parameter of %s", node->name);
    return &none;
}

static void check_pointer(struct step *s, const struct rfn_image_pointer *at,
                          const void *address, const struct rfn_memory_info *info)
{
    EQUAL(s, "address", at->address, (uintptr_t)address);
    EQUAL(s, "base", at->base, (uintptr_t)info->base);
    EQUAL(s, "allocation", at->bytes, info->bytes);
    EQUAL(s, "offset", at->offset, (const char *)address - (char *)info->base);
    EQUAL(s, "kind", at->kind, info->kind);
    EQUAL(s, "imported", at->imported, info->foreign);
    harness_check(&s->h, "generation",
                  at->generation == info->generation && at->generation, "%llu, not %llu",
                  (unsigned long long)at->generation,
                  (unsigned long long)info->generation);
}

static void check_launch(struct step *s, const struct rfn_image_node *node,
                         const struct rfn_memory_info *slots)
{
    int64_t shape[2] = { STEP_ROWS, STEP_TOP };
    int32_t page_tokens = STEP_PAGE_TOKENS;
    const struct rfn_image_param *p = param_of(s, node, "slots");
    EQUAL(s, "role", p->role, RFN_IMAGE_WRITE);
    check_pointer(s, &p->pointer, s->pick.slots.data, slots);
    harness_check(&s->h, "value",
                  p->bytes == 8 && !memcmp(p->value, &s->pick.slots.data, 8), "%d bytes",
                  p->bytes);
    p = param_of(s, node, "slots.shape");
    EQUAL(s, "role", p->role, RFN_IMAGE_SHAPE);
    harness_check(&s->h, "shape",
                  p->bytes == sizeof shape && !memcmp(p->value, shape, sizeof shape),
                  "%d bytes", p->bytes);
    p = param_of(s, node, "page_tokens");
    EQUAL(s, "role", p->role, RFN_IMAGE_CONST);
    harness_check(&s->h, "constant",
                  p->bytes == 4 && !memcmp(p->value, &page_tokens, sizeof page_tokens),
                  "%d bytes", p->bytes);
    for (int32_t i = 0; i < node->params; i++)
        harness_check(&s->h, "declared", node->param[i].role != RFN_IMAGE_UNDECLARED,
                      "%s is not", node->param[i].name);
    const struct rfn_image_access *a = NULL;
    for (int32_t i = 0; i < node->accesses; i++)
        if (!strcmp(node->access[i].name, "slots"))
            a = &node->access[i];
    harness_check(&s->h, "access", a != NULL, "slots is not touched");
    if (!a)
        return;
    check_pointer(s, &a->pointer, s->pick.slots.data, slots);
    EQUAL(s, "access", a->access, RFN_WRITE);
    EQUAL(s, "bytes", a->bytes, STEP_PICKED_BYTES);
    EQUAL(s, "rows", a->rows, 1);
    EQUAL(s, "row", a->row_bytes, STEP_PICKED_BYTES);
}

static int has_edge(const struct rfn_image *image, int32_t from, int32_t to)
{
    for (int32_t i = 0; i < image->edges; i++)
        if (image->edge[i].from == from && image->edge[i].to == to)
            return 1;
    return 0;
}

/* Descriptions that make no sense are refused, and nothing is made. */
static void check_bad(struct step *s, const struct rfn_image *good)
{
    struct rfn_image bad = *good, *made = NULL;
    struct rfn_image_edge back = { 1, 1, 0 };
    bad.edge = &back;
    bad.edges = 1;
    EQUAL(s, "an edge to itself", rfn_image_create(&bad, &made), RFN_INVALID);
    back.to = good->nodes;
    EQUAL(s, "an edge past the end", rfn_image_create(&bad, &made), RFN_INVALID);
    bad = *good;
    bad.nodes = -1;
    EQUAL(s, "minus one nodes", rfn_image_create(&bad, &made), RFN_INVALID);
    bad = *good;
    struct rfn_image_node node = good->node[0];
    bad.node = &node;
    bad.nodes = 1;
    bad.edges = 0;
    node.type = RFN_IMAGE_TYPES;
    EQUAL(s, "a type that is none", rfn_image_create(&bad, &made), RFN_INVALID);
    node = good->node[0];
    node.child = &bad;
    EQUAL(s, "a child of itself", rfn_image_create(&bad, &made), RFN_INVALID);
    harness_check(&s->h, "nothing is made", !made, "%p", (void *)made);
}

static void check_copy(struct step *s, const struct rfn_image *image)
{
    struct rfn_image *copy = NULL;
    WORKS(s, rfn_image_create(image, &copy));
    if (!copy)
        return;
    EQUAL(s, "nodes", copy->nodes, image->nodes);
    EQUAL(s, "edges", copy->edges, image->edges);
    for (int32_t i = 0; i < image->nodes; i++)
    {
        const struct rfn_image_node *a = &image->node[i], *b = &copy->node[i];
        SAME(s, "name", b->name, a->name);
        EQUAL(s, "params", b->params, a->params);
        for (int32_t k = 0; k < a->params; k++)
            harness_check(&s->h, "value",
                          b->param[k].value != a->param[k].value &&
                              !memcmp(b->param[k].value, a->param[k].value,
                                      (size_t)a->param[k].bytes),
                          "%s", a->param[k].name);
        harness_check(&s->h, "child", !a->child == !b->child, "%d", i);
    }
    WORKS(s, rfn_image_destroy(&copy));
}

int main(int argc, char **argv)
{
    struct step s;
    struct rfn_graph *graph = NULL, *child = NULL;
    struct rfn_image *image = NULL;
    struct rfn_capture_desc desc = { RFN_CAPTURE_GLOBAL, "imaged" };
    struct rfn_memory_info slots, lens;
    struct rfn_graph_info info;
    step_host_only("image",
                   "what the host device records; device_cuda_image has the GPU's");
    if (!step_open(&s, "image", &argc, argv))
        return step_close(&s);
    WORKS(&s, rfn_memory_query(s.device, s.pick.slots.data, &slots));
    WORKS(&s, rfn_memory_query(s.device, s.lens, &lens));
    EQUAL(&s, "a native graph", rfn_image_of_native(s.device, &s, &image),
          RFN_UNSUPPORTED);

    WORKS(&s, rfn_capture_begin(s.side, NULL));
    WORKS(&s, rfn_index_topk(s.side, &s.pick));
    WORKS(&s, rfn_capture_end(s.side, &child));
    WORKS(&s, rfn_capture_begin(s.stream, &desc));
    int line = __LINE__;
    WORKS(&s, rfn_copy_async(s.stream, s.lens, s.host_lens, STEP_LENS_BYTES));
    WORKS(&s, rfn_event_record(s.fork, s.stream, 0));
    WORKS(&s, rfn_stream_wait(s.side, s.fork, 0));
    WORKS(&s, rfn_index_topk(s.side, &s.pick));
    WORKS(&s, rfn_set_async(s.stream, s.host_picked, 7, STEP_PICKED_BYTES));
    WORKS(&s, rfn_event_record(s.join, s.side, 0));
    WORKS(&s, rfn_stream_wait(s.stream, s.join, 0));
    WORKS(&s, rfn_host_call(s.stream, nothing, &s));
    WORKS(&s, rfn_capture_add_child(s.stream, child));
    WORKS(&s, rfn_capture_end(s.stream, &graph));
    WORKS(&s, rfn_graph_query(graph, &info));
    WORKS(&s, rfn_image_of(graph, s.check, &image));
    /* What it was made of may go, and may be written over. */
    WORKS(&s, rfn_graph_destroy(&graph));
    WORKS(&s, rfn_graph_destroy(&child));
    if (!image)
        return step_close(&s);

    struct expected expected[] = {
        { RFN_IMAGE_MEMCPY, line + 1, 0, 2 }, { RFN_IMAGE_KERNEL, line + 4, 1, 5 },
        { RFN_IMAGE_MEMSET, line + 5, 0, 1 }, { RFN_IMAGE_HOST, line + 8, 0, 0 },
        { RFN_IMAGE_CHILD, line + 9, 0, 0 },
    };
    SAME(&s, "name", image->name, "imaged");
    SAME(&s, "device", image->device, "host");
    EQUAL(&s, "capture", image->capture_id, info.capture_id);
    EQUAL(&s, "nodes", image->nodes, 5);
    for (int32_t i = 0; i < 5 && image->nodes == 5; i++)
    {
        const struct rfn_image_node *n = &image->node[i];
        EQUAL(&s, "type", n->type, expected[i].type);
        SAME(&s, "file", n->file, __FILE__);
        EQUAL(&s, "line", n->line, expected[i].line);
        SAME(&s, "region", n->region, "decode > step 3");
        harness_check(&s.h, "stream", n->stream != 0, "unknown");
        EQUAL(&s, "the side stream", n->stream != image->node[0].stream,
              expected[i].side);
        EQUAL(&s, "launch", n->launch, i == 1 ? 0 : -1);
        EQUAL(&s, "accesses", n->accesses, expected[i].accesses);
        EQUAL(&s, "foreign", n->foreign || n->opaque, 0);
    }
    EQUAL(&s, "edges", image->edges, 5);
    harness_check(&s.h, "fork and join",
                  has_edge(image, 0, 1) && has_edge(image, 0, 2) &&
                      has_edge(image, 1, 3) && has_edge(image, 2, 3) &&
                      has_edge(image, 3, 4),
                  "other edges");
    const struct rfn_image_node *n = image->node;
    check_pointer(&s, &n[0].access[0].pointer, s.lens, &lens);
    SAME(&s, "op", n[1].op, "index_topk");
    check_launch(&s, &n[1], &slots);
    EQUAL(&s, "value", n[2].value, 7);
    EQUAL(&s, "pinned", n[2].access[0].pointer.kind, RFN_MEMORY_PINNED);
    EQUAL(&s, "user", n[3].user, (uintptr_t)&s);
    harness_check(&s.h, "the child", n[4].child && n[4].child->nodes == 1, "lost");
    if (n[4].child)
        check_launch(&s, &n[4].child->node[0], &slots);
    check_copy(&s, image);
    check_bad(&s, image);
    WORKS(&s, rfn_image_destroy(&image));
    WORKS(&s, rfn_image_destroy(&image));
    step_verdict(&s, RFN_RULES, "", 0, "");
    return step_close(&s);
}
