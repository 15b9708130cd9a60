/* What the programs of the ranks share: two devices with a step each, recorded by both, and one
 * finding on both ranks, or none. */
#ifndef TEST_CAPTURE_RANKS_H
#define TEST_CAPTURE_RANKS_H

#include "tests/capture/lint.h"
#include "tests/support/group.h"

struct ranked
{
    struct step s;
    int number;
    struct group *group;
    struct lint_want want; /* RFN_RULES: both are alike */
    struct rfn_image *image;
};

static inline int ranks_open(struct ranked rank[GROUP_RANKS], struct group *group,
                             const char *name, int *argc, char **argv)
{
    group_open(group);
    for (int i = 0; i < GROUP_RANKS; i++)
    {
        rank[i].number = i;
        rank[i].group = group;
        rank[i].want = (struct lint_want) { .s = &rank[i].s, .rule = RFN_RULES };
        if (!step_open(&rank[i].s, name, argc, argv))
            return 0;
    }
    return 1;
}

static inline int ranks_close(struct ranked rank[GROUP_RANKS], struct group *group)
{
    int code = 0;
    harness_check(&rank->s.h, "reductions of one length",
                  !group->counts_differ && !group->arrived, "%d", group->counts_differ);
    group_close(group);
    for (int i = GROUP_RANKS - 1; i >= 0; i--)
    {
        step_verdict(&rank[i].s, RFN_RULES, "", 0, "");
        code |= step_close(&rank[i].s);
    }
    return code;
}

/* Records into the rank's image. */
static inline void ranks_record(struct ranked *r,
                                enum rfn_status (*record)(struct ranked *r,
                                                          struct rfn_stream *stream))
{
    struct rfn_graph *graph = NULL;
    struct rfn_capture_desc desc = { 0, "decode step" };
    WORKS(&r->s, rfn_capture_begin(r->s.stream, &desc));
    WORKS(&r->s, record(r, r->s.stream));
    WORKS(&r->s, rfn_capture_end(r->s.stream, &graph));
    if (graph)
        WORKS(&r->s, rfn_image_of(graph, r->s.check, &r->image));
    WORKS(&r->s, rfn_graph_destroy(&graph));
}

static inline void *ranks_compare_one(void *arg)
{
    struct ranked *r = arg;
    int32_t due = r->want.rule == RFN_RULES ? 0 : 1, findings = -1;
    r->want.seen = 0;
    WORKS(&r->s, rfn_ranks_compare(r->image, group_max, r->group, lint_report, &r->want,
                                   &findings));
    harness_check(&r->s.h, "how many findings", findings == due && r->want.seen == due,
                  "%d and %d, not %d", findings, r->want.seen, due);
    return NULL;
}

/* Compares the images of both, which are gone then. */
static inline void ranks_compare(struct ranked rank[GROUP_RANKS])
{
    uint64_t a = 0, b = 1;
    group_run(ranks_compare_one, rank, sizeof rank[0]);
    if (rank[0].image && rank[1].image)
    {
        WORKS(&rank[0].s, rfn_image_signature(rank[0].image, &a));
        WORKS(&rank[0].s, rfn_image_signature(rank[1].image, &b));
        harness_check(&rank[0].s.h, "signatures",
                      (a == b) == (rank[0].want.rule == RFN_RULES), "%llx and %llx",
                      (unsigned long long)a, (unsigned long long)b);
    }
    for (int i = 0; i < GROUP_RANKS; i++)
        WORKS(&rank[i].s, rfn_image_destroy(&rank[i].image));
}

/* ---- a graph by hand ---------------------------------------------------------------- */

/* Every field that an image has, where a test can change it. */
struct drawn
{
    int64_t constant;
    int32_t dynamic;
    int64_t shape[2];
    int64_t undeclared;
    int64_t number; /* of a foreign kernel */
    struct rfn_image_param param[8];
    struct rfn_image_access access[2];
    struct rfn_image_node inner[1];
    struct rfn_image child;
    struct rfn_image_node node[5];
    struct rfn_image_edge edge[5];
    struct rfn_image image;
};

static inline void draw(struct drawn *d)
{
    *d = (struct drawn) { 40, 3, { 2, 8 }, 9, 77, .param = { { .name = "" } } };
    struct rfn_image_pointer at = {
        0x7f0000001000, 0x7f0000000000, 8192, 4096, 3, RFN_MEMORY_DEVICE, 0, 0
    };
    struct rfn_image_param param[] = {
        { .name = "slots", .role = RFN_IMAGE_WRITE, .bytes = 8, .pointer = at },
        { .name = "pages", .role = RFN_IMAGE_CONST, .bytes = 8, .value = &d->constant },
        { .name = "seed", .role = RFN_IMAGE_DYNAMIC, .bytes = 4, .value = &d->dynamic },
        { .name = "slots.shape",
          .role = RFN_IMAGE_SHAPE,
          .bytes = 16,
          .value = d->shape },
        { .name = "bytes 8 to 15",
          .role = RFN_IMAGE_UNDECLARED,
          .bytes = 8,
          .value = &d->undeclared },
        { .name = "#0", .role = RFN_IMAGE_FOREIGN, .bytes = 8, .value = &d->number },
    };
    param[0].value = &d->param[0].pointer.address;
    for (size_t i = 0; i < sizeof param / sizeof param[0]; i++)
        d->param[i] = param[i];
    struct rfn_image_access access[] = {
        { .name = "dst",
          .access = RFN_WRITE,
          .bytes = 256,
          .rows = 1,
          .row_bytes = 64,
          .row_stride_bytes = 128,
          .pointer = at },
        { .name = "src",
          .access = RFN_READ,
          .bytes = 256,
          .rows = 1,
          .row_bytes = 64,
          .row_stride_bytes = 128,
          .pointer = at },
    };
    d->access[0] = access[0];
    d->access[1] = access[1];
    d->inner[0] = lint_kernel("inner", 1);
    d->child = (struct rfn_image) {
        .name = "inner", .device = "cuda", .nodes = 1, .node = d->inner
    };
    d->node[0] = lint_kernel("index_topk", 0);
    d->node[0].op = "index_topk";
    d->node[0].file = "step.c";
    d->node[0].params = 5;
    d->node[0].param = d->param;
    d->node[1] = lint_kernel("all_reduce", 1);
    d->node[1].params = 1;
    d->node[1].param = &d->param[5];
    d->node[2] = (struct rfn_image_node) {
        .type = RFN_IMAGE_MEMCPY, .name = "memcpy", .accesses = 2, .access = d->access
    };
    d->node[3] = (struct rfn_image_node) {
        .type = RFN_IMAGE_HOST, .name = "host", .function = 100, .user = 200
    };
    d->node[4] = (struct rfn_image_node) { .type = RFN_IMAGE_CHILD,
                                           .name = "child",
                                           .child = &d->child };
    for (int i = 0; i < 2; i++)
        d->node[i].grid[0] = d->node[i].block[0] = 128;
    static const struct rfn_image_edge edge[] = {
        { 0, 1, 0 }, { 0, 2, 0 }, { 1, 2, 0 }, { 2, 3, 0 }, { 3, 4, 0 },
    };
    memcpy(d->edge, edge, sizeof edge);
    d->image = (struct rfn_image) { .name = "by hand",
                                    .device = "cuda",
                                    .nodes = 5,
                                    .edges = 5,
                                    .node = d->node,
                                    .edge = d->edge };
}

static inline uint64_t drawn_signature(struct step *s, const struct drawn *d)
{
    struct rfn_image *image = NULL;
    uint64_t signature = 0;
    WORKS(s, rfn_image_create(&d->image, &image));
    if (image)
        WORKS(s, rfn_image_signature(image, &signature));
    WORKS(s, rfn_image_destroy(&image));
    return signature;
}

#endif
