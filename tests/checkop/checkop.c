/*
 * checkop: runs every op over its cases in every variant of this build.
 *
 *     checkop [--variant NAME|all] [--op NAME] [--case N] [--seed S] [--slow] [--small]
 *             [--list] [--bench] [--verbose]
 *
 * Each case runs three times: on one thread in check mode, on one again and, where the host
 * computes, on two; all must be the same bits, and the last is compared with the references.
 * With the variant `host` come the refused arguments, and each broken twin, which must be
 * caught by one of the cases.
 *
 * Without --variant: `host`, and `host-graph` over one small case in GRAPH_EVERY.
 */
#include "tests/checkop/checkop.h"
#include "tests/support/harness.h"

#include <stdlib.h>
#include <string.h>

/* Broken twins run the small cases; those catch all of them. */
#define BROKEN_FLOPS_MAX 40000000
#define BROKEN_BYTES_MAX 4000000

/* --small: for tools that make a kernel a hundred times slower. */
#define SMALL_FLOPS_MAX 4000000
#define SMALL_BYTES_MAX 400000

/* Of the cases that are small enough for broken twins, in a run without --variant. */
#define GRAPH_EVERY 3

struct options
{
    const char *op;
    int only; /* --case; -1: all */
    int slow;
    int small;
    const char *variant; /* NULL: the default */
};

static enum rfn_status run_host(const struct ck_variant *v, struct ck_case *c,
                                int threads, struct rfn_fault *fault)
{
    struct rfn_host_env env = { fault, threads };
    enum rfn_status status = rfn_op_check(c->op, &c->args);
    if (status == RFN_OK)
        (v->host ? v->host : c->op->host)(&c->args, &env);
    return status;
}

static const struct ck_variant variants[] = {
    /* f32 sums leave the rounding to bf16 as the only error that shows: 1.7e-3. */
    { "host", run_host, .tolerance = 2.5e-3 },
    { "host-device", ck_run_device, .tolerance = 2.5e-3, .device = RFN_DEVICE_HOST },
    { "host-graph", ck_run_device, .tolerance = 2.5e-3, .device = RFN_DEVICE_HOST, 1 },
    { "cuda", ck_run_device, .device = RFN_DEVICE_CUDA },
    { "cuda-graph", ck_run_device, .device = RFN_DEVICE_CUDA, .graph = 1 },
};

/* ---- the list of cases ------------------------------------------------------------- */

static const struct ck_spec *spec_at(int i)
{
    const struct
    {
        const struct ck_spec *list;
        int count;
    } part[] = {
        { ck_kv_pack_specs, ck_kv_pack_count },
        { ck_index_topk_specs, ck_index_topk_count },
        { ck_sparse_mla_specs, ck_sparse_mla_count },
        { ck_index_pack_specs, ck_index_pack_count },
        { ck_index_query_pack_specs, ck_index_query_pack_count },
        { ck_index_logits_specs, ck_index_logits_count },
        { ck_mla_combine_specs, ck_mla_combine_count },
        { ck_step_update_specs, ck_step_update_count },
        { ck_synth_fill_specs, ck_synth_fill_count },
        { ck_index_gather_specs, ck_index_gather_count },
        { ck_split_lists_specs, ck_split_lists_count },
        { ck_prefix_lists_specs, ck_prefix_lists_count },
        { ck_bounds_specs, ck_bounds_count },
    };
    for (size_t p = 0; p < CK_COUNT(part); i -= part[p++].count)
        if (i < part[p].count)
            return &part[p].list[i];
    return NULL;
}

static const struct ck_broken *broken_at(int i)
{
    const struct
    {
        const struct ck_broken *list;
        int count;
    } part[] = {
        { ck_broken_kv_pack, ck_broken_kv_packs },
        { ck_broken_index_topk, ck_broken_index_topks },
        { ck_broken_sparse_mla, ck_broken_sparse_mlas },
        { ck_broken_index_pack, ck_broken_index_packs },
        { ck_broken_index_query_pack, ck_broken_index_query_packs },
        { ck_broken_index_logits, ck_broken_index_logits_count },
        { ck_broken_mla_combine, ck_broken_mla_combines },
        { ck_broken_step_update, ck_broken_step_updates },
        { ck_broken_synth_fill, ck_broken_synth_fills },
        { ck_broken_index_gather, ck_broken_index_gathers },
        { ck_broken_split_lists, ck_broken_split_lists_count },
        { ck_broken_prefix_lists, ck_broken_prefix_lists_count },
        { ck_broken_bounds, ck_broken_bounds_count },
    };
    for (size_t p = 0; p < CK_COUNT(part); i -= part[p++].count)
        if (i < part[p].count)
            return &part[p].list[i];
    return NULL;
}

static int wanted(const struct options *o, const struct rfn_op *op)
{
    return !o->op || strcmp(o->op, op->name) == 0;
}

/* ---- running one case ---------------------------------------------------------------- */

struct copies
{
    unsigned char *bytes[CK_BUFFERS];
};

static void copies_take(struct copies *s, const struct ck_case *c)
{
    for (int i = 0; i < c->buffers; i++)
    {
        s->bytes[i] = malloc(c->buffer[i].bytes + 1);
        memcpy(s->bytes[i], c->buffer[i].data, c->buffer[i].bytes);
    }
}

static int copies_equal(const struct copies *s, struct ck_case *c, const char *what)
{
    for (int i = 0; i < c->buffers; i++)
        for (size_t b = 0; b < c->buffer[i].bytes; b++)
            if (s->bytes[i][b] != c->buffer[i].data[b])
                return ck_fail(c, "%s: buffer %d, byte %zu is 0x%02x, but was 0x%02x",
                               what, i, b, c->buffer[i].data[b], s->bytes[i][b]);
    return 1;
}

static void copies_drop(struct copies *s, const struct ck_case *c)
{
    for (int i = 0; i < c->buffers; i++)
        free(s->bytes[i]);
}

static void restore(struct ck_case *c)
{
    for (int i = 0; i < c->buffers; i++)
        guard_restore(&c->buffer[i]);
}

static enum rfn_status run(const struct ck_variant *v, struct ck_case *c, int threads,
                           struct rfn_fault *fault)
{
    enum rfn_status status = v->run(v, c, threads, fault);
    if (status != RFN_OK && !c->reason[0])
        ck_fail(c, "%s: %s", rfn_status_name(status), rfn_last_error());
    return status;
}

/* Runs it again from the same start; the bits must be the first ones. */
static enum rfn_status run_again(const struct ck_variant *v, struct ck_case *c,
                                 int threads, struct rfn_fault *fault,
                                 const struct copies *first, const char *what)
{
    restore(c);
    enum rfn_status status = run(v, c, threads, fault);
    return status != RFN_OK || copies_equal(first, c, what) ? status : RFN_CORRUPT;
}

/* The full treatment: check mode, again, on two threads. RFN_UNSUPPORTED: nothing to run. */
static enum rfn_status run_case(const struct ck_variant *v, const struct ck_spec *spec,
                                struct ck_case *c)
{
    double tolerance = v->tolerance > 0 ? v->tolerance : spec->op->tolerance;
    struct rfn_fault fault = { 0 };
    struct copies first = { { NULL } };
    c->counted = v->device == RFN_DEVICE_CUDA;
    enum rfn_status status = run(v, c, 1, &fault);
    if (status != RFN_OK)
        return status;
    copies_take(&first, c);
    struct rfn_fault unlooked = { 0 };
    status = run_again(v, c, 1, c->checked ? &unlooked : NULL, &first, "second run");
    if (status == RFN_OK && v->device != RFN_DEVICE_CUDA)
    {
        struct rfn_fault again = { 0 };
        status = run_again(v, c, 2, &again, &first, "two threads");
        if (status == RFN_OK && !ck_same_fault(c, &again, &fault))
            status = RFN_CORRUPT;
    }
    copies_drop(&first, c);
    return status != RFN_OK || spec->verify(c, &fault, tolerance) ? status : RFN_CORRUPT;
}

/* Behind the last case of an op. */
static void print_worst(const struct rfn_op *op, const struct ck_variant *v,
                        struct ck_numbers *worst)
{
    if (op && worst->l2 > 0)
        printf("%s [%s], worst row: O %.2e relative L2 (%.2e to the rounded "
               "reference), LSE %.2e\n",
               op->name, v->name, worst->l2, worst->l2_rounded, worst->lse);
    if (op && worst->l2_logits > 0)
        printf("%s [%s], worst row: %.2e relative L2\n", op->name, v->name,
               worst->l2_logits);
    *worst = (struct ck_numbers) { 0 };
}

static void keep_worst(const struct harness *h, const char *name,
                       const struct ck_numbers *n, struct ck_numbers *w)
{
    if (n->format_l2 > 0)
        printf("     %s: relative L2 to full precision %.2e\n", name, n->format_l2);
    if (h->verbose && n->l2 > 0)
        printf("     %s: O %.2e, O rounded %.2e, LSE %.2e\n", name, n->l2, n->l2_rounded,
               n->lse);
    if (h->verbose && n->l2_logits > 0)
        printf("     %s: logits %.2e\n", name, n->l2_logits);
    w->l2_logits = n->l2_logits > w->l2_logits ? n->l2_logits : w->l2_logits;
    w->l2 = n->l2 > w->l2 ? n->l2 : w->l2;
    w->l2_rounded = n->l2_rounded > w->l2_rounded ? n->l2_rounded : w->l2_rounded;
    w->lse = n->lse > w->lse ? n->lse : w->lse;
}

/* Found out once a case, so that big ones are not built for every twin. */
enum size
{
    UNKNOWN,
    SMALLEST, /* --small */
    SMALL,
    BIG
};
static unsigned char sizes[1024];

static enum size size_of(int i, const struct ck_case *c)
{
    struct rfn_cost cost = c->op->cost(&c->args);
    int64_t bytes = cost.bytes_read + cost.bytes_written;
    sizes[i] = cost.flops <= SMALL_FLOPS_MAX && bytes <= SMALL_BYTES_MAX     ? SMALLEST
               : cost.flops <= BROKEN_FLOPS_MAX && bytes <= BROKEN_BYTES_MAX ? SMALL
                                                                             : BIG;
    return sizes[i];
}

/* Whether the options leave a case that is built out for its size. */
static int too_big(const struct options *o, const struct ck_variant *v, int i,
                   const struct ck_case *c)
{
    if (o->only >= 0)
        return 0;
    enum size size = size_of(i, c);
    return (o->small && size != SMALLEST) || (!o->variant && v->graph && size == BIG);
}

static int left_out(const struct options *o, const struct ck_variant *v, int i,
                    const struct ck_spec *spec)
{
    if (!wanted(o, spec->op))
        return 1;
    if (o->only >= 0)
        return o->only != i;
    return (spec->slow && !o->slow) || (!o->variant && v->graph && i % GRAPH_EVERY);
}

/* RFN_DEVICE when nothing more can run in this variant. */
static enum rfn_status run_one(struct harness *h, const struct options *o,
                               const struct ck_variant *v, int i,
                               struct ck_numbers *worst)
{
    const struct ck_spec *spec = spec_at(i);
    enum rfn_status status = RFN_OK;
    struct ck_case c;
    char name[128];
    snprintf(name, sizeof name, "%d %s/%s [%s]", i, spec->op->name, spec->name, v->name);
    ck_build(&c, spec, h->seed);
    if (!too_big(o, v, i, &c))
    {
        status = run_case(v, spec, &c);
        if (status == RFN_UNSUPPORTED && v->device == RFN_DEVICE_CUDA)
            harness_skip(h, name, c.reason);
        else
            harness_check(h, name, status == RFN_OK, "%s", c.reason);
        keep_worst(h, name, &c.numbers, worst);
    }
    ck_destroy(&c);
    return status;
}

static void run_variant(struct harness *h, const struct options *o,
                        const struct ck_variant *v)
{
    struct ck_numbers worst = { 0 };
    const struct rfn_op *op = NULL;
    const struct ck_spec *spec;
    enum rfn_status status = v->device ? ck_say_device(v) : RFN_OK;
    if (status == RFN_UNSUPPORTED)
    {
        harness_skip(h, v->name, rfn_last_error());
        return;
    }
    if (status != RFN_OK)
        harness_check(h, v->name, 0, "%s", rfn_last_error());
    for (int i = 0; status != RFN_DEVICE && (spec = spec_at(i)); i++)
    {
        if (left_out(o, v, i, spec))
            continue;
        if (spec->op != op)
        {
            print_worst(op, v, &worst);
            op = spec->op;
            if (v->device == RFN_DEVICE_CUDA && !op->cuda)
                harness_skip(h, op->name, "no twin");
        }
        if (v->device == RFN_DEVICE_CUDA && !op->cuda)
            continue;
        status = run_one(h, o, v, i, &worst);
        if (status == RFN_DEVICE)
            printf("%s: the device is lost: cases behind %d were not run\n", v->name, i);
    }
    print_worst(op, v, &worst);
}

/* Whether a variant is asked for by name, by "all", or by default. */
static int variant_wanted(const struct options *o, const struct ck_variant *v)
{
    if (o->variant)
        return strcmp(o->variant, "all") == 0 || strcmp(o->variant, v->name) == 0;
    return v->device == RFN_DEVICE_AUTO || (v->device == RFN_DEVICE_HOST && v->graph);
}

static int variant_known(const char *name)
{
    int known = strcmp(name, "all") == 0;
    for (size_t v = 0; v < CK_COUNT(variants); v++)
        known = known || strcmp(name, variants[v].name) == 0;
    return known;
}

/* ---- broken twins -------------------------------------------------------------------- */

/* Runs a twin over the small cases until one fails; its name goes to `ret_case`. */
static int fails_somewhere(const struct ck_broken *b, uint64_t seed,
                           const char **ret_case, char *ret_reason, size_t reason_bytes)
{
    struct ck_variant v = variants[0];
    v.host = b->host;
    const struct ck_spec *spec;
    for (int i = 0; (spec = spec_at(i)); i++)
    {
        if (spec->op != b->op || spec->slow || sizes[i] == BIG ||
            ck_is_of_bounds(spec->name) != ck_is_of_bounds(b->name))
            continue;
        struct ck_case c;
        struct rfn_fault fault = { 0 };
        ck_build(&c, spec, seed);
        int fails = size_of(i, &c) != BIG && !(run(&v, &c, 1, &fault) == RFN_OK &&
                                               spec->verify(&c, &fault, v.tolerance));
        if (fails)
        {
            *ret_case = spec->name;
            snprintf(ret_reason, reason_bytes, "%s", c.reason);
        }
        ck_destroy(&c);
        if (fails)
            return 1;
    }
    return 0;
}

static void run_broken(struct harness *h, const struct options *o)
{
    const struct ck_broken *b;
    int caught = 0, all = 0;
    for (int i = 0; (b = broken_at(i)); i++)
    {
        if (!wanted(o, b->op))
            continue;
        const char *by = "";
        char name[128], reason[256] = "";
        int right = strcmp(b->name, "right") == 0;
        int fails = fails_somewhere(b, h->seed, &by, reason, sizeof reason);
        snprintf(name, sizeof name,
                 right ? "%s: the twin without a bug passes%s"
                       : "%s: broken twin \"%s\" is caught",
                 b->op->name, right ? "" : b->name);
        if (right)
        {
            harness_check(h, name, !fails, "case %s: %s", by, reason);
            continue;
        }
        all++;
        caught += fails;
        harness_check(h, name, fails, "all cases passed");
        if (h->verbose)
            printf("     by %s: %s\n", by, reason);
    }
    printf("broken twins caught: %d of %d\n", caught, all);
}

static void list(const struct options *o)
{
    const struct ck_spec *spec;
    for (int i = 0; (spec = spec_at(i)); i++)
        if (wanted(o, spec->op))
            printf("%4d %s/%s%s\n", i, spec->op->name, spec->name,
                   spec->slow ? " (slow)" : "");
}

int main(int argc, char **argv)
{
    struct harness h;
    struct options o = { .only = -1 };
    int bench = 0, listing = 0;
    harness_begin(&h, "checkop", &argc, argv);
    for (int i = 1; i < argc; i++)
    {
        if (strcmp(argv[i], "--op") == 0 && i + 1 < argc)
            o.op = argv[++i];
        else if (strcmp(argv[i], "--case") == 0 && i + 1 < argc)
            o.only = atoi(argv[++i]);
        else if (strcmp(argv[i], "--variant") == 0 && i + 1 < argc &&
                 variant_known(argv[i + 1]))
            o.variant = argv[++i];
        else if (strcmp(argv[i], "--slow") == 0)
            o.slow = 1;
        else if (strcmp(argv[i], "--small") == 0)
            o.small = 1;
        else if (strcmp(argv[i], "--list") == 0)
            listing = 1;
        else if (strcmp(argv[i], "--bench") == 0)
            bench = 1;
        else
        {
            printf("checkop: %s: known are --variant host|host-device|host-graph|cuda|"
                   "cuda-graph|all, --op NAME, --case N, --seed S, --slow, --small, "
                   "--list, --bench, --verbose\n",
                   argv[i]);
            return 2;
        }
    }
    const struct rfn_op *op;
    if (o.op && rfn_op_find(o.op, &op) != RFN_OK)
    {
        printf("checkop: %s\n", rfn_last_error());
        return 2;
    }
    if (listing || bench)
    {
        if (listing)
            list(&o);
        else
            ck_bench(o.op, 2);
        return 0;
    }
    for (size_t v = 0; v < CK_COUNT(variants); v++)
        if (variant_wanted(&o, &variants[v]))
            run_variant(&h, &o, &variants[v]);
    if (o.only < 0 && variant_wanted(&o, &variants[0]))
    {
        ck_bounds(&h, o.op);
        ck_contracts(&h, o.op);
        ck_unmapped(&h, o.op);
        run_broken(&h, &o);
    }
    return harness_end(&h);
}
