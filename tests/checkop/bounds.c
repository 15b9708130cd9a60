/* The header of step_update before the ops behind it: a case of each op, with a header that
 * agrees, and with one field at a time that does not: a fault that names both values, and
 * nothing written. */
#include "tests/checkop/checkop.h"
#include "tests/support/harness.h"

#include <stdlib.h>
#include <string.h>

#define PART 6 /* rows of the step that a launch leaves to others */

enum how
{
    AGREES,
    DIFFERS,     /* the field, by 1 */
    UNWRITTEN,   /* poison */
    UNSAID,      /* the field is -1 */
    PART_OF_IT,  /* the launch has some of the rows */
    NO_NEXT_N,   /* of the launch; the header's is another */
    NOT_ITS_OWN, /* fields that the op cannot compare are others */
};

struct param
{
    const struct ck_spec *list;
    const int *count;
    const char *name; /* the case that is used */
    enum how how;
    enum rfn_bound field;
};

static const char *const names[RFN_BOUNDS] = {
    "bounds.mark",        "bounds.requests",     "bounds.next_n",      "bounds.rows",
    "bounds.table_width", "bounds.table_stride", "bounds.page_tokens", "bounds.pages",
};

static const struct ck_spec *base_of(const struct param *p)
{
    for (int i = 0; i < *p->count; i++)
        if (strcmp(p->list[i].name, p->name) == 0)
            return &p->list[i];
    printf("bounds: no case %s\n", p->name);
    abort();
}

static struct rfn_bounds *bounds_of(struct ck_case *c, int64_t *ret_rows)
{
    const struct rfn_op *op = c->op;
    if (op == &rfn_op_kv_pack)
        return *ret_rows = c->args.kv_pack.kv.shape[0], &c->args.kv_pack.bounds;
    if (op == &rfn_op_index_pack)
        return *ret_rows = c->args.index_pack.k.shape[0], &c->args.index_pack.bounds;
    if (op == &rfn_op_index_query_pack)
        return *ret_rows = c->args.index_query_pack.q.shape[0],
               &c->args.index_query_pack.bounds;
    if (op == &rfn_op_index_logits)
        return *ret_rows = c->args.index_logits.q8.shape[0], &c->args.index_logits.bounds;
    if (op == &rfn_op_index_topk)
        return *ret_rows = c->args.index_topk.logits.shape[0], &c->args.index_topk.bounds;
    return *ret_rows = c->args.sparse_mla.q.shape[0], &c->args.sparse_mla.bounds;
}

/* What the launch says of tables and pages; 0: nothing. */
static void own_pages(const struct ck_case *c, int64_t ret[RFN_BOUNDS])
{
    const struct rfn_pool *pool = NULL;
    const struct rfn_tensor *table = NULL;
    if (c->op == &rfn_op_kv_pack)
        pool = &c->args.kv_pack.pool;
    if (c->op == &rfn_op_index_pack)
        pool = &c->args.index_pack.pool;
    if (c->op == &rfn_op_sparse_mla)
        pool = &c->args.sparse_mla.source[0].pool;
    if (c->op == &rfn_op_index_logits)
    {
        pool = &c->args.index_logits.pool;
        table = &c->args.index_logits.table;
    }
    ret[RFN_BOUND_PAGE_TOKENS] = pool ? pool->page_tokens : 0;
    ret[RFN_BOUND_PAGES] = pool ? pool->pages : 0;
    if (c->op == &rfn_op_index_topk && c->args.index_topk.slots.data)
    {
        table = &c->args.index_topk.table;
        ret[RFN_BOUND_PAGE_TOKENS] = c->args.index_topk.page_tokens;
        ret[RFN_BOUND_PAGES] = c->args.index_topk.pages;
    }
    ret[RFN_BOUND_TABLE_WIDTH] = table ? table->shape[1] : 0;
    ret[RFN_BOUND_TABLE_STRIDE] = table ? table->stride[0] : 0;
}

/* What the launch was made for. */
static void own_of(const struct ck_case *c, const struct rfn_bounds *bounds, int64_t T,
                   int64_t ret[RFN_BOUNDS])
{
    int64_t rows = bounds->rows ? bounds->rows : T, n = bounds->next_n;
    own_pages(c, ret);
    ret[RFN_BOUND_MARK] = RFN_BOUNDS_MARK;
    ret[RFN_BOUND_ROWS] = rows;
    ret[RFN_BOUND_NEXT_N] = n;
    ret[RFN_BOUND_REQUESTS] = n ? rows / n : 0;
}

static void build(struct ck_case *c, const void *param)
{
    const struct param *p = param;
    int64_t T, own[RFN_BOUNDS];
    base_of(p)->build(c, base_of(p)->param);
    struct rfn_bounds *bounds = bounds_of(c, &T);
    bounds->header = ck_tensor(c, RFN_I64, 0, 0, RFN_BOUNDS, 0, 0);
    int64_t *header = bounds->header.data;
    bounds->rows = p->how == PART_OF_IT ? T + PART : 0;
    bounds->next_n = p->how == NO_NEXT_N ? 0 : T % 2 ? 1 : 2; /* PART is even */
    own_of(c, bounds, T, own);
    for (int i = 0; i < RFN_BOUNDS; i++)
        header[i] = own[i] ? own[i] : 41; /* what is not its own matters not */
    if (p->how == DIFFERS)
        header[p->field]++;
    if (p->how == UNWRITTEN)
        memset(header, CK_OUTPUT, sizeof *header * RFN_BOUNDS);
    if (p->how == UNSAID)
        header[p->field] = -1;
    c->checked = 1;
}

static int verify(struct ck_case *c, const struct rfn_fault *fault, double tolerance)
{
    const struct param *p = c->spec->param;
    int64_t T, own[RFN_BOUNDS];
    struct rfn_bounds *bounds = bounds_of(c, &T);
    own_of(c, bounds, T, own);
    if (p->how != DIFFERS && p->how != UNWRITTEN)
        return base_of(p)->verify(c, fault, tolerance);
    const int64_t *header = bounds->header.data;
    struct rfn_fault right = { c->op->name,   names[p->field],  0,
                               own[p->field], header[p->field], 1 };
    c->counted = 0; /* one thread says it, of the first field */
    return ck_all_as_kept(c) && ck_same_fault(c, fault, &right);
}

#define CASE(op, name, how, field, base)                                                 \
    {                                                                                    \
        &rfn_op_##op, "bounds_" name, 0, build, verify, &(struct param)                  \
        {                                                                                \
            ck_##op##_specs, &ck_##op##_count, base, how, field                          \
        }                                                                                \
    }
#define ROWS(op, base)                                                                   \
    CASE(op, "agree", AGREES, 0, base), CASE(op, "of_more_rows", PART_OF_IT, 0, base),   \
        CASE(op, "without_next_n", NO_NEXT_N, 0, base),                                  \
        CASE(op, "never_written", UNWRITTEN, RFN_BOUND_MARK, base),                      \
        CASE(op, "mark_differs", DIFFERS, RFN_BOUND_MARK, base),                         \
        CASE(op, "requests_differ", DIFFERS, RFN_BOUND_REQUESTS, base),                  \
        CASE(op, "next_n_differs", DIFFERS, RFN_BOUND_NEXT_N, base),                     \
        CASE(op, "rows_differ", DIFFERS, RFN_BOUND_ROWS, base)
#define PAGES(op, base)                                                                  \
    CASE(op, "page_tokens_differ", DIFFERS, RFN_BOUND_PAGE_TOKENS, base),                \
        CASE(op, "pages_differ", DIFFERS, RFN_BOUND_PAGES, base)
#define TABLE(op, base)                                                                  \
    CASE(op, "table_width_differs", DIFFERS, RFN_BOUND_TABLE_WIDTH, base),               \
        CASE(op, "table_stride_differs", DIFFERS, RFN_BOUND_TABLE_STRIDE, base),         \
        CASE(op, "table_stride_unsaid", UNSAID, RFN_BOUND_TABLE_STRIDE, base)

const struct ck_spec ck_bounds_specs[] = {
    ROWS(kv_pack, "strided_rows_and_pages_656"),
    PAGES(kv_pack, "strided_rows_and_pages_656"),
    ROWS(index_pack, "strided_rows_and_pages"),
    PAGES(index_pack, "strided_rows_and_pages"),
    ROWS(index_query_pack, "strides_past_the_width"),
    ROWS(index_logits, "next_n_2"),
    PAGES(index_logits, "next_n_2"),
    TABLE(index_logits, "next_n_2"),
    ROWS(index_topk, "strides_past_the_width"),
    PAGES(index_topk, "strides_past_the_width"),
    TABLE(index_topk, "strides_past_the_width"),
    ROWS(index_topk, "positions_only"),
    CASE(index_topk, "rows_differ_of_a_long_row", DIFFERS, RFN_BOUND_ROWS,
         "length_163840"),
    ROWS(sparse_mla, "small_656"),
    PAGES(sparse_mla, "small_656"),
    ROWS(sparse_mla, "small_584"),
};
const int ck_bounds_count = CK_COUNT(ck_bounds_specs);

/* ---- twins that do not look, or not at all ------------------------------------------------ */

int ck_is_of_bounds(const char *name)
{
    return strncmp(name, "bounds_", 7) == 0;
}

enum bug
{
    IGNORED,
    NOTED_ONLY, /* the fault is noted, and the op goes on */
    ROWS_ONLY,
    UNMARKED_TAKEN,
    NOT_REPORTED,
};

static void twin(const struct rfn_op *op, const void *args,
                 const struct rfn_host_env *env, enum bug bug)
{
    struct ck_case c = { .op = op };
    int64_t T, header[RFN_BOUNDS];
    memcpy(&c.args, args, op->args_bytes);
    struct rfn_bounds *bounds = bounds_of(&c, &T);
    struct rfn_fault unsaid = { 0 };
    struct rfn_host_env quiet = { env->fault ? &unsaid : NULL, env->threads };
    if (bounds->header.data)
        memcpy(header, bounds->header.data, sizeof header);
    for (int i = 0; bug == ROWS_ONLY && i < RFN_BOUNDS; i++)
        header[i] = i == RFN_BOUND_ROWS || i == RFN_BOUND_MARK ? header[i] : -1;
    if (bug == UNMARKED_TAKEN)
        header[RFN_BOUND_MARK] = RFN_BOUNDS_MARK;
    if (bug == ROWS_ONLY || bug == UNMARKED_TAKEN)
        bounds->header.data = header;
    op->host(&c.args, bug == NOT_REPORTED || bug == IGNORED ? &quiet : env);
    if (bug == IGNORED || bug == NOTED_ONLY)
    {
        bounds->header.data = NULL;
        op->host(&c.args, bug == IGNORED ? env : &quiet);
    }
}

#define OPS(X, bug)                                                                      \
    X(kv_pack, bug)                                                                      \
    X(index_pack, bug)                                                                   \
    X(index_query_pack, bug)                                                             \
    X(index_logits, bug) X(index_topk, bug) X(sparse_mla, bug)
#define BUGS(X)                                                                          \
    OPS(X, IGNORED)                                                                      \
    OPS(X, NOTED_ONLY) OPS(X, ROWS_ONLY) OPS(X, UNMARKED_TAKEN) OPS(X, NOT_REPORTED)

#define X(op, bug)                                                                       \
    static void op##_##bug(const void *args, const struct rfn_host_env *env)             \
    {                                                                                    \
        twin(&rfn_op_##op, args, env, bug);                                              \
    }
BUGS(X)
#undef X

const struct ck_broken ck_broken_bounds[] = {
#define X(op, bug) { &rfn_op_##op, "bounds_" #bug, op##_##bug },
    BUGS(X)
#undef X
};
const int ck_broken_bounds_count = CK_COUNT(ck_broken_bounds);

/* ---- refused ------------------------------------------------------------------------------ */

static void refused(struct harness *h, struct ck_case *c, const char *what,
                    const char *line)
{
    char name[128];
    enum rfn_status status = rfn_op_check(c->op, &c->args);
    snprintf(name, sizeof name, "%s: %s", c->op->name, what);
    harness_check(h, name,
                  status == RFN_INVALID &&
                      strncmp(rfn_last_error(), line, strlen(line)) == 0,
                  "%s \"%s\", but RFN_INVALID \"%s\" is right", rfn_status_name(status),
                  status == RFN_OK ? "" : rfn_last_error(), line);
}

void ck_bounds(struct harness *h, const char *op)
{
    for (int i = 0; i < ck_bounds_count; i++)
    {
        const struct ck_spec *spec = &ck_bounds_specs[i];
        const struct param *p = spec->param;
        if (p->how != AGREES || (op && strcmp(op, spec->op->name) != 0))
            continue;
        struct ck_case c;
        int64_t T;
        char line[160];
        ck_build(&c, spec, h->seed);
        struct rfn_bounds *bounds = bounds_of(&c, &T);
        bounds->rows = T - 1;
        snprintf(line, sizeof line,
                 "bounds: a step of %lld rows, but this launch has %lld",
                 (long long)T - 1, (long long)T);
        refused(h, &c, "a step of fewer rows than the launch", line);
        bounds->rows = 2 * T + 1;
        bounds->next_n = 2;
        snprintf(line, sizeof line,
                 "bounds: next_n = 2, but %lld rows are no multiple of it",
                 (long long)(2 * T + 1));
        refused(h, &c, "rows that next_n does not divide", line);
        bounds->rows = 0;
        bounds->header.shape[0] = RFN_BOUNDS - 1;
        refused(h, &c, "a header of other fields",
                "bounds: extent 7 in dimension 0, but [8] has 8");
        ck_destroy(&c);
    }
}
