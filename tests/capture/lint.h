/* What the programs of the lint share: exactly one finding, or none. */
#ifndef TEST_CAPTURE_LINT_H
#define TEST_CAPTURE_LINT_H

#include "tests/capture/step.h"

struct lint_want
{
    struct step *s;
    enum rfn_rule rule; /* RFN_RULES: none is due */
    int line;           /* 0: without a site */
    const char *name;   /* of the node */
    const char *words;  /* in the sentence; NULL: any */
    int heuristic;      /* where a proved rule is not sure */
    int32_t seen;
    const int *at; /* the line, where it is known later */
    int64_t count; /* 0: once */
};

static inline void lint_report(void *ctx, const struct rfn_finding *f)
{
    struct lint_want *w = ctx;
    struct harness *h = &w->s->h;
    const struct rfn_rule_info *rule = rfn_rule_query(f->rule);
    char text[2048];
    rfn_finding_text(f, text, sizeof text);
    fputs(text, stdout);
    if (w->seen++ || w->rule == RFN_RULES)
        return;
    harness_check(h, "the rule", f->rule == w->rule, "%s, not %s", rule->id,
                  rfn_rule_query(w->rule)->id);
    int line = w->at ? *w->at : w->line;
    harness_check(h, "the line", f->line == line, "%d, not %d", f->line, line);
    harness_check(h, "the node", !strcmp(f->api, w->name), "%s, not %s", f->api, w->name);
    harness_check(h, "the words", !w->words || strstr(f->why, w->words), "no '%s' in: %s",
                  w->words ? w->words : "", f->why);
    harness_check(h, "how sure",
                  f->confidence == (w->heuristic ? RFN_HEURISTIC : rule->confidence),
                  "%d", (int)f->confidence);
    harness_check(h, "seen so often", f->count == (w->count ? w->count : 1), "%lld times",
                  (long long)f->count);
}

static inline void lint_image(struct lint_want *w, const struct rfn_image *image,
                              struct rfn_device *device)
{
    struct rfn_lint_info info = { 0 };
    int32_t want = w->rule == RFN_RULES ? 0 : 1;
    w->seen = 0;
    WORKS(w->s, rfn_lint(image, device, lint_report, w, &info));
    harness_check(&w->s->h, "how many findings", w->seen == want && info.findings == want,
                  "%d and %d, not %d", w->seen, info.findings, want);
}

/* Lints a graph of the step's device; it is gone then. */
static inline void lint_graph(struct lint_want *w, struct rfn_graph *graph)
{
    struct rfn_image *image = NULL;
    WORKS(w->s, rfn_image_of(graph, w->s->check, &image));
    if (image)
        lint_image(w, image, w->s->device);
    WORKS(w->s, rfn_image_destroy(&image));
    WORKS(w->s, rfn_graph_destroy(&graph));
}

/* Nothing is wrong with the graph. */
static inline void lint_good(struct step *s, struct rfn_graph *graph)
{
    struct lint_want none = { .s = s, .rule = RFN_RULES };
    lint_graph(&none, graph);
}

/* ---- images by hand: what the host device has no nodes for ------------------------- */

static inline struct rfn_image_node lint_kernel(const char *name, int foreign)
{
    return (struct rfn_image_node) {
        .type = RFN_IMAGE_KERNEL, .name = name, .launch = -1, .foreign = foreign
    };
}

static inline struct rfn_image_access lint_memory(uint64_t address, int64_t bytes)
{
    return (struct rfn_image_access) {
        .name = "memory",
        .access = RFN_READ_WRITE,
        .bytes = bytes,
        .pointer = { .address = address, .kind = RFN_MEMORY_DEVICE },
    };
}

/* Each node behind the one before it. */
static inline void lint_chain(struct lint_want *w, const struct rfn_image_node *node,
                              int32_t nodes)
{
    struct rfn_image_edge edge[16];
    struct rfn_image *image = NULL;
    for (int32_t i = 1; i < nodes; i++)
        edge[i - 1] = (struct rfn_image_edge) { i - 1, i, 0 };
    struct rfn_image from = {
        .name = "by hand",
        .device = "cuda",
        .nodes = nodes,
        .edges = nodes - 1,
        .node = node,
        .edge = edge,
    };
    WORKS(w->s, rfn_image_create(&from, &image));
    if (image)
        lint_image(w, image, NULL);
    WORKS(w->s, rfn_image_destroy(&image));
}

#endif
