/* The lint finds without a checker what the live rules find in copies; it counts what is in a
 * graph; and it refuses what it cannot hold against each other. */
#include "tests/capture/lint.h"

#define LARGE ((int64_t)64 << 20)

struct copy
{
    enum rfn_rule rule;
    int heuristic;
    void *dst;
    const void *src;
    int64_t bytes;
};

/* A copy between two launches. */
static void check_copy(struct step *s, const struct copy *c,
                       struct rfn_kv_pack_args *cache)
{
    struct rfn_graph *graph = NULL;
    WORKS(s, rfn_capture_begin(s->stream, NULL));
    WORKS(s, rfn_index_topk(s->stream, &s->pick));
    int planted = __LINE__ + 1;
    WORKS(s, rfn_copy_async(s->stream, c->dst, c->src, c->bytes));
    WORKS(s, rfn_kv_pack(s->stream, cache));
    WORKS(s, rfn_capture_end(s->stream, &graph));
    if (step_device() == RFN_DEVICE_CUDA)
        planted = 0; /* without a checker its graphs have no call sites */
    struct lint_want want = { s, c->rule, planted, "memcpy", NULL, c->heuristic, 0 };
    lint_graph(&want, graph);
}

static void check_copies(struct step *s)
{
    static int32_t pageable[STEP_ROWS * STEP_TOP];
    int32_t local[STEP_ROWS * STEP_TOP] = { 0 };
    void *slots = s->pick.slots.data, *room = NULL;
    struct rfn_kv_pack_args cache = step_cache(s);
    int64_t pool =
        STEP_PAGES * rfn_format_page_bytes(RFN_LATENT_FP8_656, STEP_PAGE_TOKENS);
    WORKS(s, rfn_memory_alloc(s->device, RFN_MEMORY_DEVICE, 2 * LARGE, &room));
    char *to = room;
    struct copy copies[] = {
        { RFN_CAP003, 0, slots, pageable, STEP_PICKED_BYTES },
        { RFN_CAP023, 0, slots, local, STEP_PICKED_BYTES },
        { RFN_CAP024, 0, pageable, slots, STEP_PICKED_BYTES },
        { RFN_CAP057, 0, s->lens, pageable, STEP_LENS_BYTES },
        { RFN_CAP056, 0, to, cache.pool.data, pool },
        { RFN_CAP056, 0, cache.pool.data, to, pool },
        { RFN_CAP056, 1, to + LARGE, to, LARGE },
        { RFN_RULES, 0, to + LARGE, to, LARGE - 1 },
        { RFN_RULES, 0, to, cache.pool.data, pool - 1 },
        { RFN_RULES, 0, s->host_picked, slots, STEP_PICKED_BYTES },
        { RFN_RULES, 0, s->lens, s->host_lens, STEP_LENS_BYTES },
    };
    for (size_t i = 0; i < sizeof copies / sizeof copies[0]; i++)
        check_copy(s, &copies[i], &cache);
    step_cache_free(s, &cache);
    WORKS(s, rfn_memory_free(s->device, room));
}

static void check_empty(struct step *s)
{
    struct rfn_graph *graph = NULL;
    WORKS(s, rfn_capture_begin(s->stream, NULL));
    step_fetch(s);
    WORKS(s, rfn_capture_end(s->stream, &graph));
    struct lint_want want = { s, RFN_CAP045, 0, "", "1 nodes", 0, 0 };
    lint_graph(&want, graph);
}

/* A fork of two and one behind them, a child at the end. */
static void check_info(struct step *s)
{
    struct rfn_image_node inside[] = { lint_kernel("a", 0), lint_kernel("b", 1) };
    struct rfn_image_edge behind = { 0, 1, 1 };
    struct rfn_image child = { .nodes = 2, .edges = 1, .node = inside, .edge = &behind };
    struct rfn_image_node node[] = {
        lint_kernel("c", 0),
        lint_kernel("d", 1),
        lint_kernel("e", 0),
        { .type = RFN_IMAGE_CHILD, .name = "child", .child = &child },
        lint_kernel("f", 0),
        { .type = RFN_IMAGE_OTHER, .name = "what", .opaque = 2, .why = "nobody knows" },
    };
    struct rfn_image_edge edge[] = { { 2, 3, 0 }, { 0, 1, 0 }, { 1, 3, 0 }, { 0, 2, 0 } };
    const char *other = step_device() == RFN_DEVICE_CUDA ? "host" : "cuda";
    struct rfn_image image = { "by hand", other, 0, 6, 4, node, edge }, *made = NULL;
    struct rfn_lint_info info = { 0 };
    struct lint_want unseen = { s, RFN_CAP040, 0, "what", "nobody knows", 0, 0 };
    WORKS(s, rfn_image_create(&image, &made));
    WORKS(s, rfn_lint(made, NULL, lint_report, &unseen, &info));
    struct rfn_lint_info want = { 8, 5, 6, 2, 1, 3, 3, 4, 0, 1 };
    harness_check(&s->h, "what it is", !memcmp(&info, &want, sizeof want),
                  "%d nodes, %d edges, %d kernels, %d foreign, %d opaque, %d roots, %d "
                  "sinks, %d long",
                  info.nodes, info.edges, info.kernels, info.foreign, info.opaque,
                  info.roots, info.sinks, info.critical_path);
    enum rfn_status status = rfn_lint(made, s->device, NULL, NULL, NULL);
    harness_check(&s->h, "another device's graph", status == RFN_INVALID, "%s",
                  rfn_status_name(status));
    status = rfn_lint(NULL, NULL, NULL, NULL, NULL);
    harness_check(&s->h, "no image", status == RFN_INVALID, "%s",
                  rfn_status_name(status));
    WORKS(s, rfn_image_destroy(&made));
}

struct seen
{
    int32_t findings;
    enum rfn_rule rule[8];
    int32_t node[8];
    int64_t count[8];
};

static void see(void *ctx, const struct rfn_finding *f)
{
    struct seen *seen = ctx;
    if (seen->findings < 8)
    {
        seen->rule[seen->findings] = f->rule;
        seen->node[seen->findings] = f->node;
        seen->count[seen->findings] = f->count;
    }
    seen->findings++;
}

/* Rows without a stride: one run of bytes. */
static void copy_of(struct rfn_image_access touched[2], uint64_t to, uint64_t from,
                    enum rfn_memory_kind kind)
{
    touched[0] = (struct rfn_image_access) { .name = "dst",
                                             .access = RFN_WRITE,
                                             .bytes = 4096,
                                             .rows = 1,
                                             .row_bytes = 4096,
                                             .pointer = { .address = to,
                                                          .kind = RFN_MEMORY_DEVICE } };
    touched[1] = touched[0];
    touched[1].name = "src";
    touched[1].access = RFN_READ;
    touched[1].pointer = (struct rfn_image_pointer) { .address = from, .kind = kind };
}

/* A graph of others has no call sites: each copy is told all the same, and where it is. */
static void check_foreign(struct step *s)
{
    const uint64_t here = 0x7f0000000000, there = 0x7e0000000000, host = 0x5500000000;
    struct rfn_image_access touched[4][2];
    struct rfn_image_node inside[] = { lint_kernel("a", 1),
                                       { .type = RFN_IMAGE_MEMCPY, .name = "memcpy" } };
    struct rfn_image child = { .nodes = 2, .node = inside };
    struct rfn_image_node node[] = {
        lint_kernel("c", 1),
        { .type = RFN_IMAGE_MEMCPY, .name = "memcpy" },
        { .type = RFN_IMAGE_CHILD, .name = "child", .child = &child },
        { .type = RFN_IMAGE_MEMCPY, .name = "memcpy" },
        { .type = RFN_IMAGE_MEMCPY, .name = "memcpy" },
    };
    struct rfn_image_node *copies[] = { &inside[1], &node[1], &node[3], &node[4] };
    copy_of(touched[0], there, host, RFN_MEMORY_PAGEABLE);
    copy_of(touched[1], there + 8192, host + 4096, RFN_MEMORY_PAGEABLE);
    copy_of(touched[2], here, there + 65536, RFN_MEMORY_DEVICE);
    copy_of(touched[3], here + 4092, there + 131072, RFN_MEMORY_DEVICE);
    for (int i = 0; i < 4; i++)
    {
        copies[i]->accesses = 2;
        copies[i]->access = touched[i];
    }
    struct rfn_image_edge edge[] = { { 0, 1, 0 }, { 1, 2, 0 }, { 2, 3, 0 }, { 2, 4, 0 } };
    struct rfn_image image = { "of others", "cuda", 0, 5, 4, node, edge }, *made = NULL;
    struct seen seen = { 0 };
    WORKS(s, rfn_image_create(&image, &made));
    WORKS(s, rfn_lint(made, NULL, see, &seen, NULL));
    const enum rfn_rule rule[] = { RFN_CAP003, RFN_CAP003, RFN_CAP022 };
    const int32_t at[] = { 2, 3, 5 };
    harness_check(&s->h, "each copy is told", seen.findings == 3, "%d findings",
                  seen.findings);
    for (int i = 0; i < 3; i++)
        harness_check(
            &s->h, "where it is",
            seen.rule[i] == rule[i] && seen.node[i] == at[i] && seen.count[i] == 1,
            "finding %d: %s at node %d, %lld times", i, rfn_rule_query(seen.rule[i])->id,
            seen.node[i], (long long)seen.count[i]);
    WORKS(s, rfn_image_destroy(&made));
}

static void count_sure(void *ctx, const struct rfn_finding *f)
{
    int32_t *sure = ctx;
    sure[f->confidence == RFN_HEURISTIC] += f->rule == RFN_CAP022;
}

/* Two chains side by side whose kernels, of the same names, meet twice: in bytes that both
 * write, and where one writes some of a pool and the other all of it. */
static void check_sure_and_not(struct step *s)
{
    struct rfn_image_access row = lint_memory(0x7f0000000000, 64);
    struct rfn_image_access some = lint_memory(0x7f0000001000, 64), all = some;
    row.rows = all.rows = 1;
    row.row_bytes = 64;
    all.bytes = all.row_bytes = 4096;
    struct rfn_image_access *touched[] = { &row, &row, &some, &all };
    struct rfn_image_node node[] = { lint_kernel("a", 0), lint_kernel("b", 0),
                                     lint_kernel("a", 0), lint_kernel("b", 0) };
    for (int i = 0; i < 4; i++)
    {
        node[i].accesses = 1;
        node[i].access = touched[i];
    }
    struct rfn_image_edge edge[] = { { 0, 2, 0 }, { 1, 3, 0 } };
    struct rfn_image image = { "twice", "cuda", 0, 4, 2, node, edge }, *made = NULL;
    int32_t sure[2] = { 0, 0 };
    WORKS(s, rfn_image_create(&image, &made));
    WORKS(s, rfn_lint(made, NULL, count_sure, sure, NULL));
    harness_check(&s->h, "one that is sure, one that is not",
                  sure[0] == 1 && sure[1] == 1, "%d and %d", sure[0], sure[1]);
    WORKS(s, rfn_image_destroy(&made));
}

int main(int argc, char **argv)
{
    struct step s;
    if (!step_open(&s, "lint", &argc, argv))
        return step_close(&s);
    WORKS(&s, rfn_check_destroy(&s.check));
    check_copies(&s);
    check_empty(&s);
    check_info(&s);
    check_foreign(&s);
    check_sure_and_not(&s);
    return step_close(&s);
}
