/*
 * An eager step of an attention object against the same step made by hand of single ops:
 * the same bytes in outputs and caches, for ragged query lengths, buckets with room left,
 * short contexts, layers that use another one's choice, and scores in chunks.
 */
#include "tests/device/attention.h"

/* Plans the step, runs it in a bucket of `requests`, makes it by hand, compares. */
static void step_agrees(struct model *m, const struct live *l, int32_t requests,
                        int32_t short_context, const char *what)
{
    struct rfn_step step = live_step(l);
    struct rfn_bucket bucket;
    int longest = 0;
    for (int32_t b = 0; b < l->requests; b++)
        longest = l->lens[b] > longest ? l->lens[b] : longest;
    model_poison(m);
    OK(m->t, rfn_attention_plan(m->a, m->s, &step, &bucket));
    HOLDS(m->t, bucket.requests == l->requests && bucket.next_n == m->limits.next_n &&
                    bucket.short_context == (longest <= K));
    bucket.requests = requests;
    bucket.short_context &= short_context;
    model_run(m, &bucket);
    hand_run(m, l);
    model_agrees(m, what);
}

static void steps_equal_single_ops(struct test *t, struct rng *rng, int32_t next_n,
                                   const int32_t *source, int64_t logits_bytes)
{
    struct model m;
    char what[120];
    model_begin(&m, t, rng, source ? 3 : 2, source, next_n, logits_bytes);
    for (int i = 0; i < 4; i++)
    {
        int32_t most = i == 0 ? K : i == 1 ? K + 40 : S;
        struct live l =
            live_random(rng, (int32_t)rng_between(rng, 1, R_MAX), most, next_n);
        snprintf(what, sizeof what, "next_n %d, scores %lld bytes, step %d", next_n,
                 (long long)logits_bytes, i);
        if (i == 2) /* the ends of what is allowed */
        {
            l.lens[0] = S;
            l.q_lens[0] = next_n;
        }
        model_inputs(&m);
        step_agrees(&m, &l, (int32_t)rng_between(rng, l.requests, R_MAX), 1, what);
    }
    model_end(&m);
}

static void short_bucket_equals_long_bucket(struct test *t, struct rng *rng)
{
    struct model m;
    model_begin(&m, t, rng, 2, NULL, 3, 0);
    for (int i = 0; i < 4; i++)
    {
        struct live l = live_random(rng, R_MAX, K, 3);
        l.lens[0] = K;
        step_agrees(&m, &l, R_MAX, i & 1, i & 1 ? "short bucket" : "long bucket");
    }
    model_end(&m);
}

/* A short bucket leaves the index cache complete: later steps that score need it. */
static void contexts_grow_out_of_short_buckets(struct test *t, struct rng *rng)
{
    struct model m;
    model_begin(&m, t, rng, 2, NULL, 2, 0);
    struct live l = live_random(rng, 2, K, 2);
    l.lens[0] = K - 5;
    l.lens[1] = K - 2;
    for (int i = 0; i < 6; i++)
    {
        model_inputs(&m);
        step_agrees(&m, &l, 2, 1, "growing contexts");
        for (int b = 0; b < 2; b++)
        {
            l.q_lens[b] = (int32_t)rng_between(rng, 1, 2);
            l.lens[b] += l.q_lens[b];
        }
    }
    model_end(&m);
}

static void idle_step_writes_nothing(struct test *t, struct rng *rng)
{
    struct model m;
    struct rfn_step_view view;
    int32_t counts[2];
    model_begin(&m, t, rng, 2, NULL, 2, 0);
    OK(t, rfn_attention_view(m.a, 0, &view));
    struct live busy = live_random(rng, 3, S, 2), idle = { .requests = 0 };
    for (int i = 0; i < 3; i++)
    {
        /* 0 requests in a bucket of none, and in one with room for all. */
        step_agrees(&m, &idle, i == 2 ? R_MAX : 0, i == 1, "idle");
        OK(t, rfn_copy_sync(t->dev, &counts[0], view.live.data, 4));
        OK(t, rfn_copy_sync(t->dev, &counts[1], view.requests.data, 4));
        HOLDS(t, counts[0] == 0 && counts[1] == 0);
        step_agrees(&m, &busy, 3, 1, "a step after an idle one");
        OK(t, rfn_copy_sync(t->dev, &counts[0], view.live.data, 4));
        HOLDS(t, counts[0] == 6);
    }
    model_end(&m);
}

/* Before any plan the object holds no requests: what runs is idle. */
static void unplanned_step_is_idle(struct test *t, struct rng *rng)
{
    struct model m;
    struct live none = { .requests = 0 };
    struct rfn_bucket all = { R_MAX, 2, 0 };
    struct rfn_step_view view;
    model_begin(&m, t, rng, 2, NULL, 2, 0);
    OK(t, rfn_attention_view(m.a, 0, &view));
    HOLDS(t, test_all(t, view.requests.data, 4, 0));
    HOLDS(t, test_all(t, view.q_lens.data, R_MAX * 4, 0));
    model_poison(&m);
    model_run(&m, &all);
    hand_run(&m, &none);
    model_agrees(&m, "nothing was planned");
    model_end(&m);
}

/* The view shows what step_update made, at capacity. */
static void view_shows_the_step(struct test *t, struct rng *rng)
{
    struct model m;
    struct rfn_step_view view, other;
    const int32_t source[3] = { 0, 1, 1 };
    model_begin(&m, t, rng, 3, source, 2, 0);
    struct live l = live_random(rng, 3, S, 2);
    step_agrees(&m, &l, 3, 1, "viewed");
    OK(t, rfn_attention_view(m.a, 0, &view));
    HOLDS(t, view.table.shape[0] == R_MAX && view.table.shape[1] == W &&
                 view.context.shape[0] == m.T && view.chosen.shape[1] == K &&
                 view.workspace_bytes >= m.T * S * 4);
    HOLDS(t, same_bytes(t, view.request.data, m.request.data, 6 * 4));
    HOLDS(t, same_bytes(t, view.context.data, m.context.data, 6 * 4));
    HOLDS(t, same_bytes(t, view.slots.data, m.slots.data, 6 * 8));
    HOLDS(t, same_bytes(t, view.table.data, m.table.data, 3 * W * 4));
    OK(t, rfn_attention_view(m.a, 1, &view));
    OK(t, rfn_attention_view(m.a, 2, &other));
    HOLDS(t, view.chosen.data == other.chosen.data);
    HOLDS(t, same_bytes(t, view.chosen.data, m.chosen[1].data, 6 * K * 4));
    OK(t, rfn_attention_view(m.a, 0, &other));
    HOLDS(t, view.chosen.data != other.chosen.data);
    model_end(&m);
}

int main(int argc, char **argv)
{
    struct test t;
    test_begin(&t, "attention", &argc, argv);
    struct rng rng = rng_of(t.h.seed);
    const int32_t reuse_first[3] = { 0, 0, 0 }, reuse_kept[3] = { 0, 1, 0 };
    const int32_t next_n[] = { 1, 2, 5, 8 };
    for (int i = 0; i < 4; i++)
        steps_equal_single_ops(&t, &rng, next_n[i], NULL, 0);
    steps_equal_single_ops(&t, &rng, 2, reuse_first, 0);
    steps_equal_single_ops(&t, &rng, 2, reuse_kept, 0); /* layer 1 chooses in between */
    steps_equal_single_ops(&t, &rng, 2, NULL, S * 4);   /* a row at a time */
    steps_equal_single_ops(&t, &rng, 5, reuse_kept, 3 * S * 4 + 4);
    steps_equal_single_ops(&t, &rng, 8, NULL, 3 * S * 4);
    short_bucket_equals_long_bucket(&t, &rng);
    contexts_grow_out_of_short_buckets(&t, &rng);
    idle_step_writes_nothing(&t, &rng);
    unplanned_step_is_idle(&t, &rng);
    view_shows_the_step(&t, &rng);
    return test_end(&t);
}
