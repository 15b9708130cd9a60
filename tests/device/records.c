/*
 * What changes travels in records that the graphs of a ladder take by themselves. However far
 * the host is ahead, and whatever else runs on the attention object: every step computes what
 * it would alone, bit for bit. The other side does each of them eagerly, handed over whole.
 *
 *     device_records [--seed N] [periods]
 */
#include "runtime/attention/attention.h"
#include "runtime/guard.h"
#include "tests/device/ladder.h"

#define R_MOST 6
#define NEXT_N 2
#define PERIOD 48 /* steps that are enqueued before anything is waited for */
#define AGAIN 3   /* most of one rfn_ladder_again */

/* A step as it is done on the other side. */
struct done
{
    struct plan plan;
    struct rfn_bucket bucket;
    int log; /* what it wrote is kept in this place; -1: in none */
};

struct game
{
    struct test *t;
    struct world mine, hand;
    struct rfn_ladder *ladder;
    struct rfn_exec *own; /* of a graph that no ladder made */
    struct rfn_stream *stream[2], *other;
    struct rfn_event *switched;
    int on;           /* which stream the last work went to */
    struct plan live; /* what the scheduler knows; the device has it too */
    int32_t columns[R_MOST];
    int has;           /* a step was handed over, */
    int advances;      /* and the device goes on from it */
    int32_t *rejected; /* pinned, a row a step of the period */
    struct done done[PERIOD * AGAIN];
    int dones;
    char *log[2]; /* of both sides, device memory, a place a step */
    int64_t log_bytes;
    int recorded, copied, unchanged;
};

static struct rng *rng(struct game *g)
{
    return &g->mine.rng;
}

static int chance(struct game *g, int of)
{
    return rng_below(rng(g), of) == 0;
}

/* ---- the scheduler ---------------------------------------------------------------- */

static int32_t pages_of(const struct game *g, int32_t b)
{
    const int32_t P = g->mine.geometry->page_tokens;
    return (g->live.lens[b] + P - 1) / P;
}

/* Request b has pages of its own; which of them comes when is random. */
static void new_page(struct game *g, int32_t b, int32_t column)
{
    int taken = 1;
    while (taken)
    {
        int32_t page = WIDTH * b + (int32_t)rng_below(rng(g), WIDTH);
        g->live.table[b][column] = page;
        taken = 0;
        for (int32_t i = 0; i < column; i++)
            taken |= g->live.table[b][i] == page;
    }
}

static void new_request(struct game *g, int32_t b)
{
    g->live.q_lens[b] = (int32_t)rng_between(rng(g), 1, NEXT_N);
    g->live.lens[b] = (int32_t)rng_between(rng(g), g->live.q_lens[b],
                                           g->mine.limits.context - 3 * NEXT_N * AGAIN);
    g->columns[b] = 0;
}

/* Entries that the context needs, and sometimes one more. */
static void grow_table(struct game *g, int32_t b)
{
    int32_t need = pages_of(g, b);
    need += need < WIDTH && chance(g, 3);
    while (g->columns[b] < need)
        new_page(g, b, g->columns[b]++);
}

/* Lengths in front of the next step when the scheduler says nothing of them. */
static void carry_on(struct game *g)
{
    for (int32_t b = 0; g->advances && b < g->live.step.requests; b++)
        g->live.lens[b] += g->live.q_lens[b];
}

static int has_room(const struct game *g, int32_t steps, int in_table)
{
    for (int32_t b = 0; b < g->live.step.requests; b++)
    {
        int32_t last = g->live.lens[b] + steps * g->live.q_lens[b];
        if (last > (in_table ? g->columns[b] * g->mine.geometry->page_tokens
                             : g->mine.limits.context))
            return 0;
    }
    return 1;
}

/* ---- both sides ------------------------------------------------------------------- */

static void note(struct game *g, const struct rfn_bucket *bucket, int log)
{
    struct done *d = &g->done[g->dones++];
    *d = (struct done) { .plan = g->live, .bucket = *bucket, .log = log };
}

static int is_short(const struct game *g)
{
    for (int32_t b = 0; b < g->live.step.requests; b++)
        if (g->live.lens[b] > g->mine.geometry->topk)
            return 0;
    return 1;
}

/* What the step wrote, behind it on its stream. */
static void keep(struct world *w, struct rfn_stream *stream, char *to)
{
    struct rfn_step_view view;
    OK(w->t, rfn_attention_view(w->attention, 0, &view));
    for (int i = 0; i < LAYERS; i++, to += w->out_bytes)
        OK(w->t, rfn_copy_async(stream, to, w->io[i].out.data, w->out_bytes));
    const int64_t rows = (int64_t)R_MOST * NEXT_N;
    OK(w->t, rfn_copy_async(stream, to, view.slots.data, rows * 8));
    OK(w->t, rfn_copy_async(stream, to + rows * 8, view.context.data, rows * 4));
}

static void poison(struct world *w, struct rfn_stream *stream)
{
    struct rfn_step_view view;
    OK(w->t, rfn_attention_view(w->attention, 0, &view));
    for (int i = 0; i < LAYERS; i++)
        OK(w->t, rfn_set_async(stream, w->io[i].out.data, 0xff, w->out_bytes));
    OK(w->t, rfn_set_async(stream, view.slots.data, 0xff, R_MOST * NEXT_N * 8));
    OK(w->t, rfn_set_async(stream, view.context.data, 0xff, R_MOST * NEXT_N * 4));
}

static void forward(struct world *w, struct rfn_stream *stream,
                    const struct rfn_bucket *bucket)
{
    OK(w->t, rfn_attention_update(w->attention, stream, bucket));
    for (int i = 0; i < LAYERS; i++)
        OK(w->t, rfn_attention_forward(w->attention, stream, i, bucket));
}

static void do_by_hand(struct game *g)
{
    struct rfn_bucket planned;
    for (int i = 0; i < g->dones; i++)
    {
        struct done *d = &g->done[i];
        struct rfn_step step = { .requests = d->plan.step.requests,
                                 .lens = d->plan.lens,
                                 .q_lens = d->plan.q_lens,
                                 .table = d->plan.table[0],
                                 .table_stride = WIDTH };
        poison(&g->hand, g->other);
        OK(g->t, rfn_attention_plan(g->hand.attention, g->other, &step, &planned));
        forward(&g->hand, g->other, &d->bucket);
        if (d->log >= 0)
            keep(&g->hand, g->other, g->log[1] + d->log * g->log_bytes);
    }
    g->dones = 0;
}

/* ---- one step --------------------------------------------------------------------- */

/* A ladder comes behind its own last replay; the copies of outputs are ours to order. */
static struct rfn_stream *choose_stream(struct game *g)
{
    int next = chance(g, 4) ? !g->on : g->on;
    if (next != g->on)
    {
        OK(g->t, rfn_event_record(g->switched, g->stream[g->on], 0));
        OK(g->t, rfn_stream_wait(g->stream[next], g->switched, 0));
    }
    g->on = next;
    return g->stream[next];
}

static const struct rfn_step_record *record_at(const struct game *g, int64_t turn)
{
    const struct rfn_attention *a = g->mine.attention;
    return (const struct rfn_step_record *)(const void *)(a->records +
                                                          turn % RFN_ATTENTION_RECORDS *
                                                              a->record_bytes);
}

/* As the ladder replays it, or as a caller runs it who uses no ladder, or its graph only. */
static void run_step(struct game *g, const struct rfn_step *step, int log)
{
    struct rfn_stream *stream = choose_stream(g);
    const struct rfn_attention *a = g->mine.attention;
    const int64_t turn = a->state->turn;
    struct rfn_replay_info info = { .bucket = { R_MOST, NEXT_N, 0 } };
    struct rfn_bucket planned;
    int how = chance(g, 6) ? (int)rng_between(rng(g), 1, 3) : 0;
    poison(&g->mine, stream);
    if (how)
        OK(g->t, rfn_attention_plan(g->mine.attention, stream, step, &planned));
    if (how == 0)
        OK(g->t, rfn_ladder_replay(g->ladder, stream, step, &info));
    else if (how == 1)
        forward(&g->mine, stream, &info.bucket);
    else if (how == 2)
        OK(g->t, rfn_exec_launch(g->own, stream));
    else
        for (int32_t i = 0;; i++)
        {
            struct rfn_exec *exec = rfn_ladder_exec(g->ladder, i, &info.bucket);
            if (info.bucket.requests != R_MOST || info.bucket.short_context)
                continue;
            OK(g->t, rfn_exec_launch(exec, stream));
            break;
        }
    if (how == 0 && (!step->unchanged || g->advances != step->advance))
        (record_at(g, turn)->turn == turn ? g->recorded++ : g->copied++);
    g->unchanged += step->unchanged;
    keep(&g->mine, stream, g->log[0] + log * g->log_bytes);
    note(g, &info.bucket, log);
    g->has = 1;
    g->advances = step->advance;
}

/* Tokens that a kernel of the caller's rejected. */
static void reject(struct game *g, const int32_t *rejected, int32_t requests)
{
    struct rfn_step_view view;
    OK(g->t, rfn_attention_view(g->mine.attention, 0, &view));
    OK(g->t, rfn_copy_async(g->stream[g->on], view.rejected.data, rejected,
                            requests * (int64_t)4));
}

/* The step before, gone on with by the device; of some tokens that do not stand. */
static void unchanged(struct game *g, int log)
{
    struct rfn_step step = { .requests = g->live.step.requests,
                             .unchanged = 1,
                             .advance = !chance(g, 4) };
    int32_t *rejected = g->rejected + log * (int64_t)R_MOST;
    carry_on(g);
    if (step.requests && chance(g, 2))
    {
        for (int32_t b = 0; b < step.requests; b++)
        {
            int32_t most = g->live.lens[b] - g->live.q_lens[b];
            most = most > g->live.q_lens[b] ? g->live.q_lens[b] : most;
            rejected[b] = (int32_t)rng_below(rng(g), most + 1);
            g->live.lens[b] -= rejected[b];
        }
        reject(g, rejected, step.requests);
        step.rejected = rejected;
    }
    run_step(g, &step, log);
}

static void again(struct game *g, int32_t replays, int log)
{
    struct rfn_stream *stream = choose_stream(g);
    struct rfn_replay_info info;
    poison(&g->mine, stream);
    OK(g->t, rfn_ladder_again(g->ladder, stream, replays, &info));
    keep(&g->mine, stream, g->log[0] + log * g->log_bytes);
    for (int32_t i = 0; i < replays; i++)
    {
        carry_on(g);
        info.bucket.short_context = is_short(g);
        note(g, &info.bucket, i + 1 == replays ? log : -1);
    }
}

/* Other requests, more or fewer, longer ones; told as changes or whole. */
static void changed(struct game *g, int log)
{
    int32_t from[R_MOST], to[R_MOST], before = g->has ? g->live.step.requests : 0;
    int32_t requests = chance(g, 3) ? (int32_t)rng_below(rng(g), R_MOST + 1) : before;
    struct rfn_step step = { .requests = requests,
                             .lens = g->live.lens,
                             .q_lens = g->live.q_lens,
                             .table = g->live.table[0],
                             .table_stride = WIDTH,
                             .advance = !chance(g, 4) };
    carry_on(g);
    for (int32_t b = 0; b < requests; b++)
    {
        int is_new = b >= before || chance(g, 12) ||
                     g->live.lens[b] > g->mine.limits.context - NEXT_N * (AGAIN + 2);
        if (is_new)
            new_request(g, b);
        else if (chance(g, 3))
            g->live.lens[b] += g->live.q_lens[b] =
                (int32_t)rng_between(rng(g), 1, NEXT_N);
        from[b] = is_new || chance(g, 4) ? 0 : g->columns[b];
        grow_table(g, b);
        to[b] = g->columns[b];
    }
    if (g->has && !chance(g, 8))
    {
        step.new_from = from;
        step.new_to = to;
    }
    else
        for (int32_t b = 0; b < requests; b++)
            while (g->columns[b] < WIDTH)
                new_page(g, b, g->columns[b]++);
    if (before && chance(g, 4)) /* a step that says its lengths forgets them */
    {
        int32_t *rejected = g->rejected + log * (int64_t)R_MOST;
        for (int32_t b = 0; b < before; b++)
            rejected[b] = 1;
        reject(g, rejected, before);
    }
    g->live.step.requests = requests;
    run_step(g, &step, log);
    memset(from, 0xff, sizeof from); /* it was read before the call returned */
}

/* ---- the game --------------------------------------------------------------------- */

static void game_open(struct game *g, struct test *t)
{
    *g = (struct game) { .t = t };
    world_open(&g->mine, t, R_MOST, NEXT_N);
    world_open(&g->hand, t, R_MOST, NEXT_N); /* the same seed: the same bytes */
    g->ladder = ladder_of(&g->mine, NULL);
    g->stream[0] = test_stream(t, RFN_STREAM_NONBLOCKING);
    g->stream[1] = test_stream(t, RFN_STREAM_NONBLOCKING);
    g->other = test_stream(t, RFN_STREAM_NONBLOCKING);
    OK(t, rfn_event_create_plain(t->dev, &g->switched));
    for (int32_t r = 1; r <= R_MOST; r++)
        for (int32_t s = 0; s < 2; s++)
            OK(t, rfn_ladder_prepare(g->ladder, r, s));
    struct rfn_graph *graph = NULL;
    OK(t, rfn_capture_begin(g->stream[0], NULL));
    forward(&g->mine, g->stream[0], &(struct rfn_bucket) { R_MOST, NEXT_N, 0 });
    OK(t, rfn_capture_end(g->stream[0], &graph));
    OK(t, rfn_graph_instantiate(graph, &g->own));
    OK(t, rfn_graph_destroy(&graph));
    void *pinned = NULL;
    OK(t, rfn_memory_alloc(t->dev, RFN_MEMORY_PINNED, (int64_t)PERIOD * R_MOST * 4,
                           &pinned));
    g->rejected = pinned;
    g->log_bytes = LAYERS * g->mine.out_bytes + (int64_t)R_MOST * NEXT_N * 12;
    for (int i = 0; i < 2; i++)
        g->log[i] = test_device_memory(t, PERIOD * g->log_bytes);
}

static void game_close(struct game *g)
{
    struct rfn_fault fault;
    OK(g->t, rfn_device_sync(g->t->dev));
    OK(g->t, rfn_device_fault(g->t->dev, &fault));
    HOLDS(g->t, !fault.op);
    OK(g->t, rfn_ladder_destroy(&g->ladder));
    OK(g->t, rfn_exec_destroy(&g->own));
    OK(g->t, rfn_event_destroy(&g->switched));
    OK(g->t, rfn_stream_destroy(&g->stream[0]));
    OK(g->t, rfn_stream_destroy(&g->stream[1]));
    OK(g->t, rfn_stream_destroy(&g->other));
    FREE(g->t, g->rejected);
    FREE(g->t, g->log[0]);
    FREE(g->t, g->log[1]);
    world_close(&g->mine);
    world_close(&g->hand);
}

static void compare(struct game *g, int steps, const char *what)
{
    const int64_t bytes = steps * g->log_bytes;
    char *a = malloc((size_t)bytes), *b = malloc((size_t)bytes);
    OK(g->t, rfn_device_sync(g->t->dev));
    OK(g->t, rfn_copy_sync(g->t->dev, a, g->log[0], bytes));
    OK(g->t, rfn_copy_sync(g->t->dev, b, g->log[1], bytes));
    for (int i = 0; i < steps; i++)
        harness_check(
            &g->t->h, what,
            !memcmp(a + i * g->log_bytes, b + i * g->log_bytes, (size_t)g->log_bytes),
            "step %d of %d differs", i, steps);
    free(a);
    free(b);
    unsigned char *mine = snapshot(&g->mine), *hand = snapshot(&g->hand);
    HOLDS(g->t, !memcmp(mine, hand, (size_t)g->mine.pools_bytes));
    free(mine);
    free(hand);
}

static void play(struct game *g)
{
    for (int i = 0; i < PERIOD; i++)
    {
        int kind = (int)rng_below(rng(g), 8);
        int32_t replays = (int32_t)rng_between(rng(g), 1, AGAIN);
        if (kind < 2 && g->has && has_room(g, 2, 1))
            unchanged(g, i);
        else if (kind == 2 && g->has && g->advances && has_room(g, replays + 1, 1))
            again(g, replays, i);
        else
            changed(g, i);
    }
    do_by_hand(g);
    compare(g, PERIOD, "steps that come in records");
}

/* One step on both sides. */
static void one_step(struct game *g)
{
    changed(g, 0);
    do_by_hand(g);
    compare(g, 1, "a step behind a failure");
}

/* A step that cannot build on what the device has. */
static void refused(struct game *g)
{
    int32_t same[R_MOST];
    for (int32_t b = 0; b < R_MOST; b++)
        same[b] = g->columns[b];
    struct rfn_step unchanged = { .requests = g->live.step.requests, .unchanged = 1 };
    struct rfn_step part = { .requests = g->live.step.requests,
                             .lens = g->live.lens,
                             .q_lens = g->live.q_lens,
                             .table = g->live.table[0],
                             .table_stride = WIDTH,
                             .new_from = same,
                             .new_to = same };
    struct rfn_step *step[] = { &unchanged, &part };
    for (int i = 0; i < 2; i++)
        REFUSED(g->t, rfn_ladder_replay(g->ladder, g->stream[g->on], step[i], NULL),
                RFN_INVALID, "");
    g->has = 0;
}

/* ---- what goes wrong --------------------------------------------------------------- */

static void some_requests(struct game *g)
{
    do
        changed(g, 0);
    while (!g->live.step.requests);
    do_by_hand(g);
    OK(g->t, rfn_device_sync(g->t->dev));
}

struct parts
{
    struct rfn_step step;
    int32_t from[R_MOST], to[R_MOST];
};

/* Every request is another one, told as changes. */
static void replace_all(struct game *g, struct parts *ret)
{
    for (int32_t b = 0; b < g->live.step.requests; b++)
    {
        new_request(g, b);
        grow_table(g, b);
        ret->from[b] = 0;
        ret->to[b] = g->columns[b];
    }
    ret->step = (struct rfn_step) { .requests = g->live.step.requests,
                                    .lens = g->live.lens,
                                    .q_lens = g->live.q_lens,
                                    .table = g->live.table[0],
                                    .table_stride = WIDTH,
                                    .new_from = ret->from,
                                    .new_to = ret->to };
}

/* A record whose graph was not launched is not found by the next one either. */
static void a_failed_launch_takes_its_record_back(struct game *g)
{
    struct rfn_attention *a = g->mine.attention;
    struct rfn_plan plan;
    struct parts step;
    some_requests(g);
    replace_all(g, &step);
    OK(g->t, rfn_plan_check(a, &step.step, &plan));
    OK(g->t, rfn_plan_hand_over(a, g->stream[g->on], &step.step, &plan, 1));
    HOLDS(g->t, record_at(g, a->state->turn)->turn == a->state->turn);
    rfn_plan_forget(a); /* as behind a launch that failed */
    refused(g);
    one_step(g);
}

/* Somebody launches a ladder's graph past the library. */
static void launches_that_nobody_counted_are_noticed(struct game *g)
{
    struct rfn_device *dev = g->t->dev;
    struct parts step;
    some_requests(g);
    struct rfn_bucket bucket;
    struct rfn_exec *exec = rfn_ladder_exec(g->ladder, 0, &bucket);
    HOLDS(g->t, dev->backend->exec_launch(dev->impl, exec->native,
                                          g->stream[g->on]->native) == 0);
    OK(g->t, rfn_device_sync(dev));
    /* As if the host had been too fast to see it: the device misses this one's changes. */
    *g->mine.attention->taken = g->mine.attention->state->turn;
    replace_all(g, &step);
    OK(g->t, rfn_ladder_replay(g->ladder, g->stream[g->on], &step.step, NULL));
    OK(g->t, rfn_device_sync(dev));
    world_reset(&g->mine); /* what those two wrote is none of our business */
    world_reset(&g->hand);
    refused(g);
    step.step.new_from = step.step.new_to = NULL; /* the same tables, whole */
    run_step(g, &step.step, 0);
    do_by_hand(g);
    compare(g, 1, "a step behind launches that nobody counted");
    play(g);
}

/* The update of a graph gets other arguments, without records: it has no turn. */
static void replaced_arguments_are_no_mistake(struct game *g)
{
    const struct rfn_attention *a = g->mine.attention;
    struct rfn_bucket bucket;
    struct rfn_exec *exec = rfn_ladder_exec(g->ladder, 0, &bucket);
    struct rfn_step_update_args args = rfn_update_args(a, &bucket);
    OK(g->t, rfn_device_sync(g->t->dev));
    OK(g->t, rfn_exec_update(exec, 0, &args));
    for (int i = 0; i < 4; i++)
        play(g);
}

int main(int argc, char **argv)
{
    struct test t;
    struct game g;
    test_begin(&t, "records", &argc, argv);
    if (lacks_ops(&t))
        return test_skip(&t, "records", rfn_last_error());
    int periods = argc > 1 ? atoi(argv[1]) : 3;
    game_open(&g, &t);
    for (int i = 0; i < periods; i++)
        play(&g);
    printf("  %d steps in records, %d copied, %d unchanged\n", g.recorded, g.copied,
           g.unchanged);
    HOLDS(&t, g.recorded > 4 * periods && g.unchanged > periods);
    a_failed_launch_takes_its_record_back(&g);
    launches_that_nobody_counted_are_noticed(&g);
    replaced_arguments_are_no_mistake(&g);
    game_close(&g);
    return test_end(&t);
}
