/*
 * Schedules, streams, graphs and replay of the host device's own table: what a missing wait
 * does, what a graph keeps and what it reads again.
 */
#include "tests/device/backend.h"

#define SEEDS 50

static void *nonblocking(struct rig *r)
{
    return stream_of(r, RFN_STREAM_NONBLOCKING);
}

/* ---- schedules -------------------------------------------------------------------- */

/* Two streams, one dependency; returns what arrives. */
static int32_t produce_consume(struct rig *r, int waits)
{
    void *s = nonblocking(r), *t = nonblocking(r), *e = event_of(r);
    OK(r, set(r, NULL, r->a, 0));
    OK(r, set(r, NULL, r->b, 0));
    OK(r, B->device_sync(r->dev));
    OK(r, add(r, s, r->a, r->a, 5));
    OK(r, B->event_record(r->dev, e, s, 0));
    if (waits)
        OK(r, B->stream_wait(r->dev, t, e, 0));
    OK(r, add(r, t, r->b, r->a, 1));
    OK(r, B->stream_sync(r->dev, t));
    int32_t word = word_of(r, r->b);
    OK(r, B->device_sync(r->dev));
    return word;
}

static void missing_waits_are_found(struct harness *h)
{
    struct rig r;
    int found = 0, right = 0;
    for (int waits = 0; waits < 2; waits++)
    {
        rig_open(&r, h, RFN_SCHED_LAZY, 0);
        HOLDS(&r, produce_consume(&r, waits) == (waits ? 6 : 1));
        rig_close(&r);
        for (uint64_t seed = 1; seed <= SEEDS; seed++)
        {
            rig_open(&r, h, RFN_SCHED_RANDOM, seed);
            int32_t word = produce_consume(&r, waits);
            found += !waits && word == 1;
            right += waits && word == 6;
            rig_close(&r);
        }
    }
    harness_check(h, "some seeds find a missing wait", found > 0, "none of %d", SEEDS);
    harness_check(h, "all seeds pass with the wait", right == SEEDS, "%d of %d", right,
                  SEEDS);
    printf("missing wait: found by %d of %d seeds\n", found, SEEDS);
}

/* A read of pinned memory before the copy is done. */
static void early_reads_see_old_bytes(struct harness *h)
{
    struct rig r;
    rig_open(&r, h, RFN_SCHED_LAZY, 0);
    void *s = nonblocking(&r);
    OK(&r, set(&r, NULL, r.a, 1));
    OK(&r, download(&r, s, r.pinned, r.a, RFN_MEMORY_PINNED));
    HOLDS(&r, r.pinned[0] == 0);
    CODE(&r, B->stream_query(r.dev, s), 600);
    OK(&r, B->stream_sync(r.dev, s));
    HOLDS(&r, r.pinned[0] != 0x01010101); /* the set is on the legacy stream: no wait */
    OK(&r, B->device_sync(r.dev));
    OK(&r, download(&r, s, r.pinned, r.a, RFN_MEMORY_PINNED));
    OK(&r, B->stream_sync(r.dev, s));
    HOLDS(&r, r.pinned[0] == 0x01010101);
    rig_close(&r);
}

static void waits_run_only_what_they_need(struct rig *r, enum rfn_host_sched sched)
{
    void *s = nonblocking(r), *t = nonblocking(r), *e = event_of(r);
    OK(r, set(r, s, r->a, 1));
    OK(r, B->event_record(r->dev, e, s, 0));
    OK(r, set(r, s, r->b, 1));
    OK(r, set(r, t, r->c, 1));
    OK(r, B->event_sync(r->dev, e));
    OK(r, B->event_query(r->dev, e));
    if (sched == RFN_SCHED_LAZY)
    {
        CODE(r, B->stream_query(r->dev, s), 600);
        CODE(r, B->stream_query(r->dev, t), 600);
    }
    /* Polling ends, whatever the schedule. */
    int polls = 0;
    while (B->stream_query(r->dev, s) == 600 || B->stream_query(r->dev, t) == 600)
        if (++polls == 100)
            break;
    HOLDS(r, polls < 100);
    HOLDS(r, word_of(r, r->b) == 0x01010101 && word_of(r, r->c) == 0x01010101);
}

static void pageable_uploads_are_staged(struct rig *r, enum rfn_host_sched sched)
{
    void *s = nonblocking(r);
    (void)sched;
    for (int i = 0; i < N; i++)
        r->pageable[i] = 3;
    OK(r, upload(r, s, r->a, r->pageable, RFN_MEMORY_PAGEABLE));
    memset(r->pageable, 0, sizeof r->pageable);
    OK(r, add(r, s, r->b, r->a, 1));
    OK(r, download(r, s, r->pageable, r->b, RFN_MEMORY_PAGEABLE));
    HOLDS(r, r->pageable[0] == 4); /* downloads to pageable memory are synchronous */
}

static void legacy_stream_orders_with_blocking_ones(struct rig *r,
                                                    enum rfn_host_sched sched)
{
    void *s = stream_of(r, RFN_STREAM_BLOCKING), *t = stream_of(r, RFN_STREAM_BLOCKING);
    (void)sched;
    OK(r, set(r, s, r->a, 0));
    OK(r, add(r, s, r->a, r->a, 1));
    OK(r, add(r, t, r->b, r->a, 0)); /* unordered with s */
    OK(r, add(r, r->per_thread, r->c, r->c, 0));
    OK(r, add(r, r->legacy, r->b, r->a, 1));
    OK(r, add(r, t, r->c, r->b, 1));
    OK(r, add(r, s, r->a, r->c, 0)); /* after the legacy item, not after t */
    OK(r, B->stream_destroy(r->dev, t));
    HOLDS(r, word_of(r, r->b) == 2);
    HOLDS(r, word_of(r, r->c) == 3); /* also of a destroyed stream */
    OK(r, B->stream_sync(r->dev, r->legacy));
    CODE(r, B->stream_query(r->dev, r->legacy), 0);
}

static void destroyed_objects_let_work_run(struct rig *r, enum rfn_host_sched sched)
{
    void *s = nonblocking(r), *t = nonblocking(r), *e = NULL;
    (void)sched;
    OK(r, B->event_create(r->dev, &e));
    OK(r, set(r, s, r->a, 1));
    OK(r, B->event_record(r->dev, e, s, 0));
    OK(r, B->stream_wait(r->dev, t, e, 0));
    OK(r, add(r, t, r->b, r->a, 0));
    OK(r, B->event_destroy(r->dev, e));
    OK(r, B->stream_destroy(r->dev, s));
    OK(r, B->stream_sync(r->dev, t));
    HOLDS(r, word_of(r, r->b) == 0x01010101);
}

/* As cudaFree; the operand would be unreadable. */
static void freeing_waits_for_what_runs(struct rig *r, enum rfn_host_sched sched)
{
    void *s = nonblocking(r), *p = NULL;
    (void)sched;
    OK(r, B->memory_alloc(r->dev, RFN_MEMORY_DEVICE, BYTES, &p));
    OK(r, set(r, s, p, 1));
    OK(r, add(r, s, r->a, p, 1));
    OK(r, B->memory_free(r->dev, RFN_MEMORY_DEVICE, p, BYTES));
    HOLDS(r, word_of(r, r->a) == 0x01010102);
}

static void events_have_times(struct rig *r, enum rfn_host_sched sched)
{
    void *s = nonblocking(r), *e = event_of(r), *f = event_of(r);
    float ms = -1;
    CODE(r, B->event_elapsed(r->dev, e, f, &ms), 400);
    OK(r, B->event_record(r->dev, e, s, 0));
    OK(r, set(r, s, r->a, 1));
    OK(r, B->event_record(r->dev, f, s, 0));
    if (sched == RFN_SCHED_LAZY)
        CODE(r, B->event_elapsed(r->dev, e, f, &ms), 600);
    OK(r, B->event_sync(r->dev, f));
    OK(r, B->event_elapsed(r->dev, e, f, &ms));
    HOLDS(r, ms >= 0 && ms < 10000);
}

/* ---- graphs ----------------------------------------------------------------------- */

static void scalars_are_baked(struct rig *r, enum rfn_host_sched sched)
{
    void *s = nonblocking(r), *node = NULL;
    struct add_args args = add_of(r->b, r->a, 5);
    (void)sched;
    OK(r, set(r, NULL, r->a, 0));
    OK(r, B->device_sync(r->dev));
    OK(r, B->capture_begin(r->dev, s, RFN_CAPTURE_GLOBAL));
    OK(r, B->launch(r->dev, s, &add_op, &args, &node));
    args.value = 6;
    void *exec = exec_of(r, s);
    OK(r, B->exec_launch(r->dev, exec, s));
    OK(r, B->stream_sync(r->dev, s));
    HOLDS(r, word_of(r, r->b) == 5);

    /* An update speaks of launches after it, not of the one in flight. */
    OK(r, set(r, NULL, r->b, 0));
    OK(r, B->device_sync(r->dev));
    OK(r, B->exec_launch(r->dev, exec, s));
    OK(r, B->exec_update(r->dev, exec, node, &add_op, &args));
    OK(r, B->stream_sync(r->dev, s));
    HOLDS(r, word_of(r, r->b) == 5);
    OK(r, B->exec_launch(r->dev, exec, s));
    OK(r, B->stream_sync(r->dev, s));
    HOLDS(r, word_of(r, r->b) == 6);
    CODE(r, B->exec_update(r->dev, exec, &args, &add_op, &args), 1);
    CODE(r, B->exec_update(r->dev, exec, NULL, &add_op, &args), 1);
    OK(r, B->exec_destroy(r->dev, exec));
}

static void pageable_nodes_read_the_host_again(struct rig *r, enum rfn_host_sched sched)
{
    void *s = nonblocking(r);
    int32_t out[N] = { 0 };
    (void)sched;
    OK(r, B->capture_begin(r->dev, s, RFN_CAPTURE_GLOBAL));
    for (int i = 0; i < N; i++)
        r->pageable[i] = 1;
    OK(r, upload(r, s, r->a, r->pageable, RFN_MEMORY_PAGEABLE));
    OK(r, add(r, s, r->b, r->a, 10));
    OK(r, download(r, s, out, r->b, RFN_MEMORY_PAGEABLE));
    void *exec = exec_of(r, s);
    HOLDS(r, out[0] == 0);
    for (int32_t k = 2; k < 5; k++)
    {
        for (int i = 0; i < N; i++)
            r->pageable[i] = k;
        OK(r, B->exec_launch(r->dev, exec, s));
        OK(r, B->stream_sync(r->dev, s));
        HOLDS(r, out[N - 1] == 10 + k);
    }
    OK(r, B->exec_destroy(r->dev, exec));
}

static void children_keep_their_order(struct rig *r, enum rfn_host_sched sched)
{
    void *s = nonblocking(r), *t = nonblocking(r), *e = event_of(r), *child = NULL;
    int32_t node[RFN_NODE_TYPES];
    (void)sched;
    /* a += 1 on two branches of the child, through b and c; the parent brackets it. */
    OK(r, B->capture_begin(r->dev, s, RFN_CAPTURE_GLOBAL));
    OK(r, B->event_record(r->dev, e, s, 0));
    OK(r, B->stream_wait(r->dev, t, e, 0));
    OK(r, add(r, s, r->b, r->a, 1));
    OK(r, add(r, t, r->c, r->a, 1));
    OK(r, B->event_record(r->dev, e, t, 0));
    OK(r, B->stream_wait(r->dev, s, e, 0));
    OK(r, add(r, s, r->a, r->c, 1));
    OK(r, B->capture_end(r->dev, s, &child));

    void *graph = NULL, *exec = NULL;
    CODE(r, B->capture_add_child(r->dev, s, child), 401);
    OK(r, B->capture_begin(r->dev, s, RFN_CAPTURE_GLOBAL));
    OK(r, set(r, s, r->a, 0));
    OK(r, B->capture_add_child(r->dev, s, child));
    OK(r, B->capture_add_child(r->dev, s, child));
    OK(r, add(r, s, r->a, r->a, 100));
    OK(r, B->graph_destroy(r->dev, child));
    OK(r, B->capture_end(r->dev, s, &graph));
    B->graph_count(r->dev, graph, node);
    HOLDS(r, node[RFN_NODE_CHILD] == 2 && node[RFN_NODE_KERNEL] == 1);
    OK(r, B->graph_instantiate(r->dev, graph, &exec));
    OK(r, B->graph_destroy(r->dev, graph));
    for (int i = 0; i < 3; i++)
    {
        OK(r, B->exec_launch(r->dev, exec, s));
        OK(r, B->stream_sync(r->dev, s));
        HOLDS(r, word_of(r, r->a) == 104 && word_of(r, r->b) == 3);
    }
    OK(r, B->exec_destroy(r->dev, exec));
}

/* An external wait in the graph, answered by a record outside, and the other way round. */
static void external_events_act_in_their_place(struct rig *r, enum rfn_host_sched sched)
{
    void *s = nonblocking(r), *t = nonblocking(r), *in = event_of(r), *out = event_of(r);
    OK(r, B->capture_begin(r->dev, s, RFN_CAPTURE_GLOBAL));
    OK(r, B->stream_wait(r->dev, s, in, RFN_EVENT_EXTERNAL));
    OK(r, add(r, s, r->b, r->a, 1));
    OK(r, B->event_record(r->dev, out, s, RFN_EVENT_EXTERNAL));
    OK(r, set(r, s, r->b, 0));
    void *exec = exec_of(r, s);
    for (int32_t k = 1; k < 4; k++)
    {
        OK(r, set(r, t, r->a, k));
        OK(r, B->event_record(r->dev, in, t, 0));
        OK(r, B->exec_launch(r->dev, exec, s));
        OK(r, B->event_sync(r->dev, out));
        if (sched == RFN_SCHED_LAZY)
        {
            struct rfn_copy peek = { r->pinned, r->b, BYTES, RFN_MEMORY_PINNED,
                                     RFN_MEMORY_DEVICE };
            void *u = nonblocking(r);
            OK(r, B->copy_async(r->dev, u, &peek));
            OK(r, B->stream_sync(r->dev, u));
            HOLDS(r, r->pinned[0] == k * 0x01010101 + 1);
        }
        OK(r, B->stream_sync(r->dev, s));
        HOLDS(r, word_of(r, r->b) == 0);
        OK(r, B->event_query(r->dev, out));
    }
    /* Its items are gone with it, but not for those who wait for them. */
    OK(r, B->event_record(r->dev, in, t, 0));
    OK(r, B->exec_launch(r->dev, exec, s));
    OK(r, B->stream_wait(r->dev, t, out, 0));
    OK(r, set(r, t, r->c, 1));
    OK(r, B->exec_destroy(r->dev, exec));
    OK(r, B->event_query(r->dev, out));
    OK(r, B->stream_sync(r->dev, t));
    HOLDS(r, word_of(r, r->c) == 0x01010101);
}

static void launches_of_one_executable_serialise(struct rig *r, enum rfn_host_sched sched)
{
    void *s = nonblocking(r), *t = nonblocking(r);
    (void)sched;
    OK(r, set(r, NULL, r->a, 0));
    OK(r, B->device_sync(r->dev));
    OK(r, B->capture_begin(r->dev, s, RFN_CAPTURE_GLOBAL));
    OK(r, add(r, s, r->a, r->a, 1));
    void *exec = exec_of(r, s);
    for (int i = 0; i < 10; i++)
        OK(r, B->exec_launch(r->dev, exec, i & 1 ? s : t));
    OK(r, B->exec_destroy(r->dev, exec)); /* waits */
    HOLDS(r, word_of(r, r->a) == 10);
}

static void count(void *user)
{
    ++*(int *)user;
}

static void empty_graphs_and_host_nodes_run(struct rig *r, enum rfn_host_sched sched)
{
    void *s = nonblocking(r);
    int calls = 0;
    (void)sched;
    OK(r, B->capture_begin(r->dev, s, RFN_CAPTURE_GLOBAL));
    void *empty = exec_of(r, s);
    OK(r, B->capture_begin(r->dev, s, RFN_CAPTURE_GLOBAL));
    OK(r, B->host_call(r->dev, s, count, &calls));
    void *exec = exec_of(r, s);
    HOLDS(r, calls == 0);
    for (int i = 0; i < 3; i++)
    {
        OK(r, B->exec_launch(r->dev, empty, s));
        OK(r, B->exec_launch(r->dev, exec, s));
    }
    OK(r, B->stream_sync(r->dev, s));
    HOLDS(r, calls == 3);
    OK(r, B->exec_destroy(r->dev, empty));
    OK(r, B->exec_destroy(r->dev, exec));
}

static void more_items_than_the_pool_holds(struct rig *r, enum rfn_host_sched sched)
{
    void *s = nonblocking(r);
    if (sched == RFN_SCHED_RANDOM)
        return; /* a pick looks at all of them */
    OK(r, set(r, s, r->a, 0));
    for (int i = 0; i < 10000; i++)
        if (add(r, s, r->a, r->a, 1) != 0)
            OK(r, 2);
    OK(r, B->stream_sync(r->dev, s));
    HOLDS(r, word_of(r, r->a) == 10000);
}

/* ---- fork and join ---------------------------------------------------------------- */

/* Eager and captured, under one seed: the same words. */
static void fork_join_survives_all_seeds(struct harness *h)
{
    for (uint64_t seed = h->seed; seed < h->seed + SEEDS; seed++)
    {
        struct rig r;
        rig_open(&r, h, RFN_SCHED_RANDOM, seed);
        void *s = nonblocking(&r), *t = nonblocking(&r), *e = event_of(&r);
        void *f = event_of(&r);
        for (int captured = 0; captured < 2; captured++)
        {
            if (captured)
                OK(&r, B->capture_begin(r.dev, s, RFN_CAPTURE_GLOBAL));
            OK(&r, set(&r, s, r.a, 0));
            OK(&r, B->event_record(r.dev, e, s, 0));
            OK(&r, B->stream_wait(r.dev, t, e, 0));
            OK(&r, add(&r, t, r.b, r.a, 2));
            OK(&r, add(&r, s, r.c, r.a, 3));
            OK(&r, B->event_record(r.dev, f, t, 0));
            OK(&r, B->stream_wait(r.dev, s, f, 0));
            OK(&r, add(&r, s, r.a, r.b, 0));
            if (captured)
            {
                void *exec = exec_of(&r, s);
                for (int i = 0; i < 3; i++)
                {
                    OK(&r, set(&r, s, r.a, 9));
                    OK(&r, set(&r, s, r.c, 9));
                    OK(&r, B->exec_launch(r.dev, exec, s));
                }
                OK(&r, B->stream_sync(r.dev, s));
                OK(&r, B->exec_destroy(r.dev, exec));
            }
            OK(&r, B->stream_sync(r.dev, s));
            int ok = word_of(&r, r.a) == 2 && word_of(&r, r.c) == 3;
            harness_check(h, "fork and join", ok, "random seed %llu",
                          (unsigned long long)seed);
        }
        rig_close(&r);
    }
}

/* ---- opening ---------------------------------------------------------------------- */

static void schedules_come_from_the_environment(struct harness *h)
{
    static const struct
    {
        const char *text;
        int code;
        enum rfn_host_sched sched;
    } cases[] = {
        { "fifo", 0, RFN_SCHED_FIFO },
        { "lazy", 0, RFN_SCHED_LAZY },
        { "random:17", 0, RFN_SCHED_RANDOM },
        { "", 0, RFN_SCHED_FIFO },
        { "random:", 1, 0 },
        { "random", 1, 0 },
        { "random:-1", 1, 0 },
        { "random:3x", 1, 0 },
        { "FIFO", 1, 0 },
        { "lazy ", 1, 0 },
        { "random:99999999999999999999", 1, 0 },
    };
    const char *was = getenv("RFN_HOST_SCHED");
    char kept[64];
    snprintf(kept, sizeof kept, "%s", was ? was : "");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
    {
        struct rfn_device_desc desc = { .kind = RFN_DEVICE_HOST };
        struct rfn_device_info info;
        char why[256] = "";
        void *dev = NULL;
        setenv("RFN_HOST_SCHED", cases[i].text, 1);
        int code = B->open(&desc, &dev, why, sizeof why);
        harness_check(h, "open", code == cases[i].code, "\"%s\": %d, %s", cases[i].text,
                      code, why);
        if (code != 0)
        {
            harness_check(h, "the reason names the value",
                          strstr(why, cases[i].text) != NULL, "%s", why);
            continue;
        }
        B->info(dev, &info);
        harness_check(h, "schedule", info.sched == cases[i].sched, "\"%s\": %d",
                      cases[i].text, info.sched);
        B->close(dev);
    }
    setenv("RFN_HOST_SCHED", kept, 1);
}

int main(int argc, char **argv)
{
    static void (*const tests[])(struct rig *, enum rfn_host_sched) = {
        waits_run_only_what_they_need,
        pageable_uploads_are_staged,
        legacy_stream_orders_with_blocking_ones,
        destroyed_objects_let_work_run,
        freeing_waits_for_what_runs,
        events_have_times,
        scalars_are_baked,
        pageable_nodes_read_the_host_again,
        children_keep_their_order,
        external_events_act_in_their_place,
        launches_of_one_executable_serialise,
        empty_graphs_and_host_nodes_run,
        more_items_than_the_pool_holds,
    };
    struct harness h;
    harness_begin(&h, "host_replay", &argc, argv);
    for (size_t i = 0; i < sizeof tests / sizeof tests[0]; i++)
        for (int k = 0; k < 12; k++)
        {
            struct rig r;
            enum rfn_host_sched sched = k == 0   ? RFN_SCHED_FIFO
                                        : k == 1 ? RFN_SCHED_LAZY
                                                 : RFN_SCHED_RANDOM;
            rig_open(&r, &h, sched, h.seed + (uint64_t)k);
            tests[i](&r, sched);
            rig_close(&r);
        }
    missing_waits_are_found(&h);
    early_reads_see_old_bytes(&h);
    fork_join_survives_all_seeds(&h);
    schedules_come_from_the_environment(&h);
    return harness_end(&h);
}
