/*
 * checkop: runs every op over its cases in every variant of this build.
 *
 *     checkop [--op NAME] [--case N] [--seed S] [--slow] [--list] [--bench] [--verbose]
 *
 * Each case runs three times: on one thread in check mode, on one again and on two; all must
 * be the same bits, and the last is compared with the references. Then each broken twin
 * must be caught by one of the cases.
 */
#include "tests/checkop/checkop.h"
#include "tests/support/harness.h"

#include <stdlib.h>
#include <string.h>

/* Broken twins run the small cases; those catch all of them. */
#define BROKEN_FLOPS_MAX 40000000
#define BROKEN_BYTES_MAX 4000000

struct options
{
    const char *op;
    int only; /* --case; -1: all */
    int slow;
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
    { .name = "host", .run = run_host, .tolerance = 2.5e-3 },
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

static int run(const struct ck_variant *v, struct ck_case *c, int threads,
               struct rfn_fault *fault)
{
    enum rfn_status status = v->run(v, c, threads, fault);
    return status == RFN_OK ||
           ck_fail(c, "%s: %s", rfn_status_name(status), rfn_last_error());
}

/* The full treatment: check mode, again, on two threads. */
static int run_case(const struct ck_variant *v, const struct ck_spec *spec,
                    struct ck_case *c)
{
    double tolerance = v->tolerance > 0 ? v->tolerance : spec->op->tolerance;
    struct rfn_fault fault = { 0 };
    struct copies first = { { NULL } };
    if (!run(v, c, 1, &fault))
        return 0;
    copies_take(&first, c);
    restore(c);
    int ok = run(v, c, 1, NULL) && copies_equal(&first, c, "second run");
    if (ok)
    {
        restore(c);
        struct rfn_fault again = { 0 };
        ok = run(v, c, 2, &again) && copies_equal(&first, c, "two threads") &&
             ck_same_fault(c, &again, &fault);
    }
    copies_drop(&first, c);
    return ok && spec->verify(c, &fault, tolerance);
}

static void run_cases(struct harness *h, const struct options *o)
{
    struct ck_numbers worst[CK_COUNT(variants)] = { { 0 } };
    const struct ck_spec *spec;
    for (size_t v = 0; v < CK_COUNT(variants); v++)
        for (int i = 0; (spec = spec_at(i)); i++)
        {
            if (!wanted(o, spec->op) || (o->only >= 0 && o->only != i) ||
                (spec->slow && !o->slow && o->only < 0))
                continue;
            struct ck_case c;
            char name[128];
            snprintf(name, sizeof name, "%d %s/%s [%s]", i, spec->op->name, spec->name,
                     variants[v].name);
            ck_build(&c, spec, h->seed);
            int ok = run_case(&variants[v], spec, &c);
            harness_check(h, name, ok, "%s", c.reason);
            struct ck_numbers *w = &worst[v], *n = &c.numbers;
            if (n->format_l2 > 0)
                printf("     %s: relative L2 to full precision %.2e\n", name,
                       n->format_l2);
            if (h->verbose && n->l2 > 0)
                printf("     %s: O %.2e, O rounded %.2e, LSE %.2e\n", name, n->l2,
                       n->l2_rounded, n->lse);
            w->l2 = n->l2 > w->l2 ? n->l2 : w->l2;
            w->l2_rounded = n->l2_rounded > w->l2_rounded ? n->l2_rounded : w->l2_rounded;
            w->lse = n->lse > w->lse ? n->lse : w->lse;
            ck_destroy(&c);
        }
    for (size_t v = 0; v < CK_COUNT(variants); v++)
        if (worst[v].l2 > 0)
            printf("sparse_mla [%s], worst row: O %.2e relative L2 (%.2e to the rounded "
                   "reference), LSE %.2e\n",
                   variants[v].name, worst[v].l2, worst[v].l2_rounded, worst[v].lse);
}

/* ---- broken twins -------------------------------------------------------------------- */

/* Found out once a case, so that big ones are not built for every twin. */
enum size
{
    UNKNOWN,
    SMALL,
    BIG
};
static unsigned char sizes[1024];

static int small(const struct ck_case *c)
{
    struct rfn_cost cost = c->op->cost(&c->args);
    return cost.flops <= BROKEN_FLOPS_MAX &&
           cost.bytes_read + cost.bytes_written <= BROKEN_BYTES_MAX;
}

/* Runs a twin over the small cases until one fails; its name goes to `ret_case`. */
static int fails_somewhere(const struct ck_broken *b, uint64_t seed,
                           const char **ret_case, char *ret_reason, size_t reason_bytes)
{
    struct ck_variant v = variants[0];
    v.host = b->host;
    const struct ck_spec *spec;
    for (int i = 0; (spec = spec_at(i)); i++)
    {
        if (spec->op != b->op || spec->slow || sizes[i] == BIG)
            continue;
        struct ck_case c;
        struct rfn_fault fault = { 0 };
        ck_build(&c, spec, seed);
        sizes[i] = small(&c) ? SMALL : BIG;
        int fails = sizes[i] == SMALL &&
                    !(run(&v, &c, 1, &fault) && spec->verify(&c, &fault, v.tolerance));
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
        else if (strcmp(argv[i], "--slow") == 0)
            o.slow = 1;
        else if (strcmp(argv[i], "--list") == 0)
            listing = 1;
        else if (strcmp(argv[i], "--bench") == 0)
            bench = 1;
        else
        {
            printf(
                "checkop: %s: known are --op NAME, --case N, --seed S, --slow, --list, "
                "--bench, --verbose\n",
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
    run_cases(&h, &o);
    if (o.only < 0)
    {
        ck_contracts(&h, o.op);
        ck_unmapped(&h, o.op);
        run_broken(&h, &o);
    }
    return harness_end(&h);
}
