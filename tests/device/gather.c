/*
 * index_gather captured once behind step_update and replayed with other lengths, totals and
 * tables in the same buffers, for next_n 1 .. 8: equal to an eager launch, bit for bit, and
 * to the pool; what it promises of bad lengths is named in check mode.
 */
#include "tests/device/open.h"
#include "tests/support/rng.h"

#define R 5
#define PAGE 16
#define W 5
#define PAGES 40
#define STRIDE 8   /* of the table: a capacity, not the width */
#define CONTEXT 72 /* at most, with the step's own tokens */
#define BOUND (R * CONTEXT)
#define N (BOUND + 7)
#define D 128
#define KEYS_STRIDE 144
#define ROW (D + 4)
#define PAGE_BYTES (PAGE * ROW)
#define PAGE_STRIDE (PAGE_BYTES + 32)
#define REPLAYS 100 /* with MOST query rows a request; with others a quarter */
#define MOST 3
#define POISON 0xa5
#define NEXT_N 8

/* All that a step reads and writes; once as it stands on the host, once on the device. */
struct step
{
    int32_t lens[R], q_lens[R], starts[R + 2], table[R * STRIDE], requests[1];
    int32_t request[R * NEXT_N], context[R * NEXT_N], live[2];
    int64_t slots[R * NEXT_N];
};

struct rows
{
    unsigned char keys[N * KEYS_STRIDE];
    float scales[N];
};

struct world
{
    struct test *t;
    struct rfn_stream *stream;
    struct rng rng;
    unsigned char *pool; /* of both sides the same bytes */
    unsigned char *device_pool;
    struct step *step;
    struct rows *replayed, *eager;
};

static struct rfn_index_gather_args gather_of(const struct world *w, struct rows *rows)
{
    struct rfn_index_gather_args a = {
        .pool = { w->device_pool, RFN_INDEX_FP8_132, PAGE, PAGES, PAGE_STRIDE },
        .table = rfn_tensor_of(w->step->table, RFN_I32, R, W, 0, 0),
        .starts = rfn_tensor_of(w->step->starts, RFN_I32, R + 1, 0, 0, 0),
        .requests = rfn_tensor_of(w->step->requests, RFN_I32, 1, 0, 0, 0),
        .keys = rfn_tensor_of(rows->keys, RFN_E4M3, N, D, 0, 0),
        .scales = rfn_tensor_of(rows->scales, RFN_F32, N, 0, 0, 0),
        .bound = BOUND,
    };
    a.table.stride[0] = STRIDE;
    a.keys.stride[0] = KEYS_STRIDE;
    return a;
}

static struct rfn_step_update_args update_of(const struct world *w, int32_t next_n)
{
    struct step *s = w->step;
    int64_t T = (int64_t)R * next_n;
    struct rfn_step_update_args a = {
        .lens = rfn_tensor_of(s->lens, RFN_I32, R, 0, 0, 0),
        .q_lens = rfn_tensor_of(s->q_lens, RFN_I32, R, 0, 0, 0),
        .table = rfn_tensor_of(s->table, RFN_I32, R, W, 0, 0),
        .requests = rfn_tensor_of(s->requests, RFN_I32, 1, 0, 0, 0),
        .request = rfn_tensor_of(s->request, RFN_I32, T, 0, 0, 0),
        .context = rfn_tensor_of(s->context, RFN_I32, T, 0, 0, 0),
        .slots = rfn_tensor_of(s->slots, RFN_I64, T, 0, 0, 0),
        .live = rfn_tensor_of(s->live, RFN_I32, 1, 0, 0, 0),
        .next_n = next_n,
        .page_tokens = PAGE,
        .pages = PAGES,
    };
    a.table.stride[0] = STRIDE;
    return a;
}

static void world_open(struct world *w, struct test *t)
{
    const int64_t bytes = (int64_t)PAGES * PAGE_STRIDE;
    *w = (struct world) { .t = t, .rng = rng_of(t->h.seed) };
    w->stream = test_stream(t, RFN_STREAM_NONBLOCKING);
    w->pool = malloc((size_t)bytes);
    w->device_pool = test_device_memory(t, bytes);
    w->step = test_device_memory(t, (int64_t)sizeof(struct step));
    w->replayed = test_device_memory(t, (int64_t)sizeof(struct rows));
    w->eager = test_device_memory(t, (int64_t)sizeof(struct rows));
    if (!w->pool)
        exit(1);
    for (int64_t i = 0; i < bytes; i++)
        w->pool[i] = (unsigned char)rng_u64(&w->rng);
    OK(t, rfn_copy_sync(t->dev, w->device_pool, w->pool, bytes));
}

static void world_close(struct world *w)
{
    OK(w->t, rfn_device_sync(w->t->dev));
    FREE(w->t, w->device_pool);
    FREE(w->t, w->step);
    FREE(w->t, w->replayed);
    FREE(w->t, w->eager);
    OK(w->t, rfn_stream_destroy(&w->stream));
    free(w->pool);
}

/* Any step; the first ones have no token at all, all that fit, and one request. What no live
 * request owns is garbage: starts behind the last, columns of the table behind a length. */
static void make_step(struct world *w, struct step *s, int32_t next_n, int round)
{
    int32_t requests = round == 2 ? 1 : (int32_t)rng_below(&w->rng, R + 1);
    requests = round == 0 || round == 1 ? R : requests;
    memset(s, 0x7f, sizeof *s);
    s->requests[0] = requests;
    s->starts[0] = 0;
    for (int b = 0; b < requests; b++)
    {
        int32_t L = (int32_t)rng_below(&w->rng, CONTEXT + 1);
        if (rng_below(&w->rng, 3) == 0 || round == 0)
            L = 0;
        s->lens[b] = round == 1 ? CONTEXT : L;
        s->q_lens[b] = (int32_t)rng_below(&w->rng, next_n + 1);
        s->q_lens[b] = s->q_lens[b] < s->lens[b] ? s->q_lens[b] : s->lens[b];
        s->starts[b + 1] = s->starts[b] + s->lens[b];
        for (int i = 0; i * PAGE < s->lens[b]; i++)
            s->table[b * STRIDE + i] = (int32_t)rng_below(&w->rng, PAGES);
    }
}

static const unsigned char *key_at(const struct world *w, int64_t slot)
{
    return w->pool + slot / PAGE * PAGE_STRIDE + slot % PAGE * D;
}

static const unsigned char *scale_at(const struct world *w, int64_t slot)
{
    return w->pool + slot / PAGE * PAGE_STRIDE + PAGE * D + slot % PAGE * 4;
}

static int holds_token(const struct world *w, const struct rows *rows, int64_t n,
                       int64_t slot)
{
    return memcmp(rows->keys + n * KEYS_STRIDE, key_at(w, slot), D) == 0 &&
           memcmp(rows->scales + n, scale_at(w, slot), 4) == 0;
}

/* Every token of every request stands where it has to; nothing else was written. */
static int rows_right(const struct world *w, const struct step *s,
                      const struct rows *rows)
{
    struct rows *due = malloc(sizeof *due);
    if (!due)
        return 0;
    memset(due, POISON, sizeof *due);
    for (int b = 0; b < s->requests[0]; b++)
        for (int32_t i = 0; i < s->lens[b]; i++)
        {
            int64_t n = s->starts[b] + i;
            int64_t slot = s->table[b * STRIDE + i / PAGE] * PAGE + i % PAGE;
            memcpy(due->keys + n * KEYS_STRIDE, key_at(w, slot), D);
            memcpy(due->scales + n, scale_at(w, slot), 4);
        }
    int right = memcmp(due, rows, sizeof *due) == 0;
    free(due);
    return right;
}

/* The next_n rows of a request share its keys: the last one that a row attends is the token
 * of that row itself. */
static int queries_right(const struct world *w, const struct step *s,
                         const struct rows *rows, int32_t next_n)
{
    int queries = 0, due = 0;
    for (int t = 0; t < R * next_n; t++)
    {
        int b = s->request[t];
        if (b < 0)
            continue;
        queries++;
        if (b != t / next_n ||
            !holds_token(w, rows, s->starts[b] + s->context[t] - 1, s->slots[t]))
            return 0;
    }
    for (int b = 0; b < s->requests[0]; b++)
        due += s->q_lens[b];
    return queries == due;
}

static void replay_once(struct world *w, struct rfn_exec *exec, int32_t next_n, int round)
{
    struct test *t = w->t;
    struct step before, after;
    static struct rows replayed, eager;
    struct rfn_index_gather_args a = gather_of(w, w->eager);
    make_step(w, &before, next_n, round);
    OK(t, rfn_copy_sync(t->dev, w->step, &before, sizeof before));
    OK(t, rfn_set_sync(t->dev, w->replayed, POISON, sizeof replayed));
    OK(t, rfn_set_sync(t->dev, w->eager, POISON, sizeof eager));
    OK(t, rfn_device_sync(t->dev));
    OK(t, rfn_exec_launch(exec, w->stream));
    OK(t, rfn_index_gather(w->stream, &a));
    OK(t, rfn_stream_sync(w->stream));
    OK(t, rfn_copy_sync(t->dev, &after, w->step, sizeof after));
    OK(t, rfn_copy_sync(t->dev, &replayed, w->replayed, sizeof replayed));
    OK(t, rfn_copy_sync(t->dev, &eager, w->eager, sizeof eager));
    harness_check(&t->h, "a replay equals an eager launch",
                  memcmp(&replayed, &eager, sizeof eager) == 0,
                  "next_n %d, round %d, total %d", next_n, round,
                  before.starts[before.requests[0]]);
    harness_check(&t->h,
                  "rows below the total are the requests' tokens, others untouched",
                  rows_right(w, &before, &replayed), "next_n %d, round %d, total %d",
                  next_n, round, before.starts[before.requests[0]]);
    harness_check(&t->h, "a query row's own token ends the keys that it attends",
                  queries_right(w, &after, &replayed, next_n), "next_n %d, round %d",
                  next_n, round);
}

static void totals_change_between_replays(struct world *w, int32_t next_n)
{
    struct test *t = w->t;
    struct rfn_graph *graph = NULL;
    struct rfn_exec *exec = NULL;
    struct rfn_graph_info info;
    struct rfn_fault fault;
    struct rfn_step_update_args update = update_of(w, next_n);
    struct rfn_index_gather_args gather = gather_of(w, w->replayed);
    struct step first;
    make_step(w, &first, next_n, 3);
    OK(t, rfn_copy_sync(t->dev, w->step, &first, sizeof first));
    OK(t, rfn_capture_begin(w->stream, NULL));
    OK(t, rfn_step_update(w->stream, &update));
    OK(t, rfn_index_gather(w->stream, &gather));
    OK(t, rfn_capture_end(w->stream, &graph));
    OK(t, rfn_graph_query(graph, &info));
    HOLDS(t, info.nodes == 2 && info.node[RFN_NODE_KERNEL] == 2);
    OK(t, rfn_graph_instantiate(graph, &exec));
    OK(t, rfn_graph_destroy(&graph));
    for (int round = 0; round < (next_n == MOST ? REPLAYS : REPLAYS / 4); round++)
        replay_once(w, exec, next_n, round);
    OK(t, rfn_device_fault(t->dev, &fault));
    harness_check(&t->h, "nothing bad was met", !fault.op, "%s %s", fault.op,
                  fault.operand);
    OK(t, rfn_exec_destroy(&exec));
}

static void a_bound_past_the_capacity_is_refused(struct world *w)
{
    struct rfn_index_gather_args a = gather_of(w, w->replayed);
    a.bound = N + 1;
    REFUSED(w->t, rfn_index_gather(w->stream, &a), RFN_INVALID, "bound = 368|N = 367");
    a.bound = BOUND;
    a.starts.shape[0] = R;
    REFUSED(w->t, rfn_index_gather(w->stream, &a), RFN_INVALID,
            "starts: 5 values|needs 6");
}

/* A replay with these starts on a device of its own: what check mode names, and that rows
 * at and past the bound stay. */
static void bad_starts_are_named(struct test *t, const int32_t *starts, int32_t page,
                                 const char *operand, int64_t row, int64_t column,
                                 int64_t value)
{
    struct rfn_device *kept = t->dev;
    struct rfn_graph *graph = NULL;
    struct rfn_exec *exec = NULL;
    struct rfn_fault fault = { 0 };
    struct world w;
    struct step s;
    static struct rows rows;
    t->dev = test_open(t);
    world_open(&w, t);
    struct rfn_index_gather_args a = gather_of(&w, w.replayed);
    make_step(&w, &s, 1, 1);
    OK(t, rfn_copy_sync(t->dev, w.step, &s, sizeof s));
    OK(t, rfn_capture_begin(w.stream, NULL));
    OK(t, rfn_index_gather(w.stream, &a));
    OK(t, rfn_capture_end(w.stream, &graph));
    OK(t, rfn_graph_instantiate(graph, &exec));
    if (starts)
        memcpy(s.starts, starts, (R + 1) * sizeof *starts);
    else
        s.table[2 * STRIDE + 3] = page;
    OK(t, rfn_copy_sync(t->dev, w.step, &s, sizeof s));
    OK(t, rfn_set_sync(t->dev, w.replayed, POISON, sizeof rows));
    OK(t, rfn_device_sync(t->dev));
    OK(t, rfn_exec_launch(exec, w.stream));
    OK(t, rfn_stream_sync(w.stream));
    OK(t, rfn_device_fault(t->dev, &fault));
    harness_check(&t->h, "check mode names both values",
                  fault.op && !strcmp(fault.op, "index_gather") &&
                      !strcmp(fault.operand, operand) && fault.row == row &&
                      fault.column == column && fault.value == value && fault.count == 1,
                  "%s %s [%lld][%lld] = %lld, %lld times", fault.op ? fault.op : "-",
                  fault.op ? fault.operand : "-", (long long)fault.row,
                  (long long)fault.column, (long long)fault.value,
                  (long long)fault.count);
    OK(t, rfn_copy_sync(t->dev, &rows, w.replayed, sizeof rows));
    for (int64_t n = 0; n < N; n++)
        for (int64_t d = 0; d < KEYS_STRIDE; d++)
            if ((n >= BOUND || d >= D) && rows.keys[n * KEYS_STRIDE + d] != POISON)
            {
                HOLDS(t, !"nothing outside the rows below the bound is written");
                n = N - 1;
                break;
            }
    if (!starts) /* the bad page's rows are zeros */
        for (int i = 3 * PAGE; i < 4 * PAGE; i++)
            HOLDS(t, rows.scales[2 * CONTEXT + i] == 0 &&
                         rows.keys[(2 * CONTEXT + i) * KEYS_STRIDE + i] == 0);
    OK(t, rfn_exec_destroy(&exec));
    OK(t, rfn_graph_destroy(&graph));
    world_close(&w);
    OK(t, rfn_device_close(&t->dev));
    t->dev = kept;
}

int main(int argc, char **argv)
{
    static const int32_t down[] = { 0, 60, 50, 120, 150, 200 };
    static const int32_t above[] = { 0, 70, 140, 210, 280, BOUND + 5 };
    struct test t;
    struct world w;
    test_begin(&t, "gather", &argc, argv);
    world_open(&w, &t);
    for (int32_t next_n = 1; next_n <= NEXT_N; next_n++)
        totals_change_between_replays(&w, next_n);
    a_bound_past_the_capacity_is_refused(&w);
    world_close(&w);
    bad_starts_are_named(&t, down, 0, "starts", 2, 60, 50);
    bad_starts_are_named(&t, above, 0, "starts", R, BOUND, BOUND + 5);
    bad_starts_are_named(&t, NULL, -3, "table", 2, 3, -3);
    bad_starts_are_named(&t, NULL, PAGES, "table", 2, 3, PAGES);
    return test_end(&t);
}
