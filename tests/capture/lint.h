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
    const int *at;    /* the line, where it is known later */
    int64_t count;    /* 0: once */
    int32_t findings; /* of the rule; 0: one */
};

static inline int32_t lint_due(const struct lint_want *w)
{
    return w->rule == RFN_RULES ? 0 : w->findings ? w->findings : 1;
}

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
    size_t name = strlen(w->name); /* behind it a copy without a site has its bytes */
    int named = !strncmp(f->api, w->name, name) &&
                (!f->api[name] || (!f->line && !strncmp(f->api + name, " of ", 4)));
    harness_check(h, "the node", named, "%s, not %s", f->api, w->name);
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
    int32_t want = lint_due(w);
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

/* ---- memory of a caller's ---------------------------------------------------------- */

/* Lengths of 9 tokens that a caller hands in: on the host device memory of the program, on a GPU
 * that of another device. */
struct lint_caller
{
    struct rfn_device *device; /* NULL on the host device */
    int32_t *lens;
    int32_t *other; /* as large */
};

#define LINT_CALLER_BYTES (4 * STEP_LENS_BYTES)

static inline void lint_caller_open(struct step *s, struct lint_caller *c)
{
    static int32_t nine[2][4 * STEP_ROWS] = { { 9, 9 } };
    *c = (struct lint_caller) { NULL, nine[0], nine[1] };
    if (step_device() == RFN_DEVICE_HOST)
        return;
    void *memory[2] = { NULL, NULL };
    c->device = step_device_open(s);
    for (int i = 0; i < 2; i++)
    {
        WORKS(s, rfn_memory_alloc(c->device, RFN_MEMORY_DEVICE, LINT_CALLER_BYTES,
                                  &memory[i]));
        WORKS(s, rfn_copy_sync(c->device, memory[i], nine[i], LINT_CALLER_BYTES));
    }
    c->lens = memory[0];
    c->other = memory[1];
}

static inline void lint_caller_close(struct step *s, struct lint_caller *c)
{
    if (!c->device)
        return;
    WORKS(s, rfn_memory_free(c->device, c->lens));
    WORKS(s, rfn_memory_free(c->device, c->other));
    WORKS(s, rfn_device_close(&c->device));
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
