/*
 * Records of many requests, in more than one block: as many changes as a record has room for,
 * and more; the host ahead by more steps than there are records. The graphs hold step_update
 * alone, and a model on the host says what it has to give.
 *
 *     device_records_ahead [--seed N] [periods]
 */
#include "runtime/attention/attention.h"
#include "runtime/guard.h"
#include "tests/device/open.h"
#include "tests/support/rng.h"

#define R_MOST 128
#define NEXT_N 4 /* 64 requests a block */
#define COLUMNS 16
#define PAGES 5000
#define PERIOD 60 /* steps without a wait */
#define ROWS (R_MOST * NEXT_N)

struct rows
{
    int64_t slots[ROWS];
    int32_t request[ROWS];
    int32_t context[ROWS];
};

struct game
{
    struct test *t;
    struct rng rng;
    struct rfn_attention *attention;
    struct rfn_ladder *ladder;
    struct rfn_stream *stream;
    int32_t page_tokens;
    int32_t requests, advance;
    int32_t lens[R_MOST], q_lens[R_MOST], columns[R_MOST];
    int32_t table[R_MOST][COLUMNS];
    struct rows *log;  /* device memory */
    struct rows *want; /* [PERIOD] */
    int32_t rows[PERIOD];
    int recorded, copied, full;
};

static enum rfn_status record(void *ctx, struct rfn_stream *stream,
                              const struct rfn_bucket *bucket)
{
    return rfn_attention_update(ctx, stream, bucket);
}

static void game_open(struct game *g, struct test *t)
{
    const struct rfn_geometry *tiny;
    *g = (struct game) { .t = t, .rng = rng_of(t->h.seed) };
    OK(t, rfn_geometry_find("tiny", &tiny));
    g->page_tokens = tiny->page_tokens;
    struct rfn_attention_limits limits = { .requests = R_MOST,
                                           .next_n = NEXT_N,
                                           .context = COLUMNS * tiny->page_tokens,
                                           .pages = PAGES };
    OK(t, rfn_attention_create(t->dev, tiny, &limits, &g->attention));
    struct rfn_ladder_desc desc = { .record = record, .ctx = g->attention };
    OK(t, rfn_ladder_create(g->attention, &desc, &g->ladder));
    for (int32_t r = 1; r <= R_MOST; r++)
        OK(t, rfn_ladder_prepare(g->ladder, r, 0));
    g->stream = test_stream(t, RFN_STREAM_NONBLOCKING);
    g->log = test_device_memory(t, PERIOD * (int64_t)sizeof *g->log);
    g->want = malloc(PERIOD * sizeof *g->want);
}

static void game_close(struct game *g)
{
    OK(g->t, rfn_ladder_destroy(&g->ladder));
    OK(g->t, rfn_attention_destroy(&g->attention));
    OK(g->t, rfn_stream_destroy(&g->stream));
    FREE(g->t, g->log);
    free(g->want);
}

/* ---- what a step gives -------------------------------------------------------------- */

static void expect(struct game *g, int32_t rows, struct rows *ret)
{
    for (int32_t t = 0; t < rows; t++)
    {
        int32_t b = t / NEXT_N, j = t % NEXT_N, P = g->page_tokens;
        int is_row = b < g->requests && j < g->q_lens[b];
        int32_t context = is_row ? g->lens[b] - g->q_lens[b] + j + 1 : 0;
        int32_t at = context - 1;
        ret->request[t] = is_row ? b : -1;
        ret->context[t] = context;
        ret->slots[t] = is_row ? (int64_t)g->table[b][at / P] * P + at % P : -1;
    }
}

static void keep(struct game *g, const struct rfn_bucket *bucket, int i)
{
    struct rfn_step_view view;
    int32_t rows = (bucket->requests ? bucket->requests : 1) * NEXT_N;
    g->rows[i] = rows;
    OK(g->t, rfn_attention_view(g->attention, 0, &view));
    OK(g->t,
       rfn_copy_async(g->stream, g->log[i].slots, view.slots.data, rows * (int64_t)8));
    OK(g->t, rfn_copy_async(g->stream, g->log[i].request, view.request.data,
                            rows * (int64_t)4));
    OK(g->t, rfn_copy_async(g->stream, g->log[i].context, view.context.data,
                            rows * (int64_t)4));
    expect(g, rows, &g->want[i]);
}

static void compare(struct game *g)
{
    struct rows *have = malloc(PERIOD * sizeof *have);
    struct rfn_step_view view;
    int32_t(*table)[COLUMNS] = malloc(sizeof g->table);
    OK(g->t, rfn_stream_sync(g->stream));
    OK(g->t, rfn_copy_sync(g->t->dev, have, g->log, PERIOD * (int64_t)sizeof *have));
    for (int i = 0; i < PERIOD; i++)
    {
        const struct rows *a = &have[i], *b = &g->want[i];
        size_t n = (size_t)g->rows[i];
        harness_check(&g->t->h, "rows are those of the step",
                      !memcmp(a->slots, b->slots, 8 * n) &&
                          !memcmp(a->request, b->request, 4 * n) &&
                          !memcmp(a->context, b->context, 4 * n),
                      "step %d of %d, %d rows", i, PERIOD, g->rows[i]);
    }
    OK(g->t, rfn_attention_view(g->attention, 0, &view));
    OK(g->t, rfn_copy_sync(g->t->dev, table, view.table.data, sizeof g->table));
    for (int32_t b = 0; b < g->requests; b++)
        HOLDS(g->t, !memcmp(table[b], g->table[b], 4 * (size_t)g->columns[b]));
    free(table);
    free(have);
}

/* ---- steps -------------------------------------------------------------------------- */

static void new_request(struct game *g, int32_t b, int32_t columns)
{
    const int32_t P = g->page_tokens;
    g->q_lens[b] = (int32_t)rng_between(&g->rng, 1, NEXT_N);
    g->lens[b] = (int32_t)rng_between(&g->rng, columns > 1 ? (columns - 1) * P : NEXT_N,
                                      columns * P - NEXT_N);
    for (int32_t i = 0; i < columns; i++)
        g->table[b][i] = (int32_t)rng_below(&g->rng, PAGES);
    g->columns[b] = columns;
}

/* More tokens, and the pages for them. */
static void grow(struct game *g, int32_t b)
{
    g->q_lens[b] = (int32_t)rng_between(&g->rng, 1, NEXT_N);
    g->lens[b] += g->q_lens[b];
    if (g->lens[b] > g->page_tokens * g->columns[b])
        g->table[b][g->columns[b]++] = (int32_t)rng_below(&g->rng, PAGES);
}

static void replay(struct game *g, const struct rfn_step *step, int i)
{
    const struct rfn_attention *a = g->attention;
    const int64_t turn = a->state->turn;
    struct rfn_replay_info info = { 0 };
    int32_t slot = a->next_slot;
    const struct rfn_step_record *r =
        (const void *)(a->records + turn % RFN_ATTENTION_RECORDS * a->record_bytes);
    int is_free = *(volatile int64_t *)a->taken > r->turn;
    OK(g->t, rfn_ladder_replay(g->ladder, g->stream, step, &info));
    g->recorded += r->turn == turn;
    g->copied += a->next_slot != slot;
    g->full += a->next_slot != slot && !is_free;
    g->advance = step->advance;
    keep(g, &info.bucket, i);
}

/* `entries` of tables change, if that can be. `requests` 0: as many as it likes. */
static void changed(struct game *g, int32_t requests, int32_t entries, int i)
{
    int32_t from[R_MOST], to[R_MOST], before = g->requests;
    int32_t most = g->page_tokens * COLUMNS - 2 * NEXT_N;
    g->requests = requests;
    if (!requests)
        g->requests = before && entries < 9 && rng_below(&g->rng, 3)
                          ? (int32_t)rng_between(&g->rng, 1, before)
                          : (int32_t)rng_between(&g->rng, 1, R_MOST);
    for (int32_t b = 0; b < g->requests; b++)
    {
        if (g->advance && b < before)
            g->lens[b] += g->q_lens[b];
        from[b] = to[b] = b < before ? g->columns[b] : 0;
        if (b >= before || g->lens[b] > most || entries >= 9)
        {
            int32_t n = entries < COLUMNS ? entries < 1 ? 1 : entries : COLUMNS;
            entries -= b < before && g->lens[b] <= most ? n : 0;
            new_request(g, b, n);
            from[b] = 0;
        }
        else if (rng_below(&g->rng, 2))
            grow(g, b);
        if (g->lens[b] > g->page_tokens * g->columns[b])
            g->table[b][g->columns[b]++] = (int32_t)rng_below(&g->rng, PAGES);
        to[b] = g->columns[b];
    }
    struct rfn_step step = { .requests = g->requests,
                             .lens = g->lens,
                             .q_lens = g->q_lens,
                             .table = g->table[0],
                             .table_stride = COLUMNS,
                             .advance = rng_below(&g->rng, 4) != 0,
                             .new_from = from,
                             .new_to = to };
    if (!before || !rng_below(&g->rng, 10))
    {
        step.new_from = step.new_to = NULL;
        for (int32_t b = 0; b < g->requests; b++)
            while (g->columns[b] < COLUMNS)
                g->table[b][g->columns[b]++] = (int32_t)rng_below(&g->rng, PAGES);
    }
    replay(g, &step, i);
}

static int may_go_on(const struct game *g)
{
    for (int32_t b = 0; b < g->requests; b++)
        if (g->lens[b] + 2 * NEXT_N > g->page_tokens * g->columns[b])
            return 0;
    return g->requests > 0;
}

static void play(struct game *g)
{
    static const int32_t many[] = { 240, 255, 256, 257, 272, 1000 };
    for (int i = 0; i < PERIOD; i++)
    {
        struct rfn_step same = { .requests = g->requests,
                                 .unchanged = 1,
                                 .advance = rng_below(&g->rng, 2) };
        if (may_go_on(g) && rng_below(&g->rng, 2))
        {
            for (int32_t b = 0; g->advance && b < g->requests; b++)
                g->lens[b] += g->q_lens[b];
            replay(g, &same, i);
        }
        else
            changed(g, 0, rng_below(&g->rng, 8) ? 0 : many[rng_below(&g->rng, 6)], i);
    }
    compare(g);
}

/* A graph waits for its own last launch on the host device, so each step takes another. */
static void play_ahead(struct game *g)
{
    for (int i = 0; i < PERIOD; i++)
    {
        int bucket = i % 19;
        changed(g, bucket < 4 ? 1 << bucket : 8 * (bucket - 2), 0, i);
    }
    compare(g);
}

int main(int argc, char **argv)
{
    struct test t;
    struct game g;
    test_begin(&t, "records_ahead", &argc, argv);
    int periods = argc > 1 ? atoi(argv[1]) : 4;
    game_open(&g, &t);
    for (int i = 0; i < periods; i++)
        i % 2 ? play_ahead(&g) : play(&g);
    printf(
        "  %d steps in records, %d copied, of these %d where all records were in use\n",
        g.recorded, g.copied, g.full);
    const char *sched = getenv("RFN_HOST_SCHED");
    HOLDS(&t, g.full > 0 || !t.host || !sched || strcmp(sched, "lazy"));
    HOLDS(&t, g.recorded > 10 * periods && g.copied > periods);
    game_close(&g);
    return test_end(&t);
}
