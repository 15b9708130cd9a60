/* Order outside captures: random programs against sets of what each stream knows, and what
 * counts as ordered in doubt. RFN_SEED repeats a run. */
#include "tests/unit/rules.h"

#include "tests/support/rng.h"

#include <time.h>

#define STREAMS 6 /* 0 legacy, 1 and 2 blocking, the others non-blocking */
#define EXECS 5
#define BUFFERS 4
#define EVENTS 4
#define STEPS 160
#define BUFFER_BYTES 64

enum work
{
    LAUNCH,
    READ
};

/* What was enqueued, and who knows of it. */
struct item
{
    enum work work;
    int exec;
    int buffer;
};

struct world
{
    struct rng rng;
    uint64_t seed;
    struct item item[STEPS];
    int items;
    unsigned char knows[STREAMS][STEPS];
    unsigned char event[EVENTS][STEPS];
    unsigned char exec[EXECS][STEPS]; /* behind its last launch */
    unsigned char done[STEPS];
    int writes[EXECS]; /* buffers, as bits */
    int reads[EXECS];
    int line;
};

static char memory[BUFFERS][BUFFER_BYTES];
static char events[EVENTS];

static enum rfn_stream_kind kind_of(int stream)
{
    return stream == 0  ? RFN_STREAM_LEGACY
           : stream < 3 ? RFN_STREAM_BLOCKING
                        : RFN_STREAM_NONBLOCKING;
}

static void learn(unsigned char *to, const unsigned char *from)
{
    for (int i = 0; i < STEPS; i++)
        to[i] |= from[i];
}

static struct rfn_call_event call_on(struct world *w, enum rfn_call call, int stream)
{
    struct rfn_call_event e = on_stream(call, 1, 10 + (uint64_t)stream, 0);
    e.stream_kind = kind_of(stream);
    e.site.line = ++w->line;
    return e;
}

/* A graph that copies what it reads to nowhere that counts, and sets what it writes. */
static void capture(struct world *w, int exec)
{
    static char elsewhere[EXECS][BUFFER_BYTES];
    uint64_t id = 100 + (uint64_t)exec;
    feed_begin(1, 50, id, RFN_CAPTURE_GLOBAL, RFN_STREAM_NONBLOCKING);
    for (int b = 0; b < BUFFERS; b++)
    {
        struct rfn_call_event e = on_stream(RFN_CALL_set_async, 1, 50, id);
        e.bytes = BUFFER_BYTES;
        e.dst = memory[b];
        e.dst_kind = e.src_kind = RFN_MEMORY_DEVICE;
        if (w->writes[exec] >> b & 1)
            rfn_rules_feed(&rules, &e);
        e.call = RFN_CALL_copy_async;
        e.src = memory[b];
        e.dst = elsewhere[exec];
        if (w->reads[exec] >> b & 1)
            rfn_rules_feed(&rules, &e);
    }
    feed_end(1, 50, id, 0, RFN_CAPTURE_NONE);
}

static int behind(const struct world *w, int stream, int i)
{
    return w->knows[stream][i] || w->done[i];
}

/* What a launch should give. */
static enum rfn_rule expected(const struct world *w, int stream, int exec)
{
    enum rfn_rule rule = RFN_RULES;
    for (int i = 0; i < w->items; i++)
    {
        const struct item *it = &w->item[i];
        if (behind(w, stream, i))
            continue;
        if (it->work == LAUNCH && it->exec == exec)
            return RFN_CAP048;
        if (it->work == LAUNCH && ((w->writes[it->exec] & w->writes[exec]) ||
                                   (w->writes[it->exec] & w->reads[exec]) ||
                                   (w->reads[it->exec] & w->writes[exec])))
            rule = RFN_CAP029;
        else if (it->work == READ && rule == RFN_RULES &&
                 w->writes[exec] >> it->buffer & 1)
            rule = RFN_CAP028;
    }
    return rule;
}

static void enqueue(struct world *w, int stream, struct item item)
{
    w->item[w->items] = item;
    w->knows[stream][w->items++] = 1;
}

static void launch(struct world *w, int stream, int exec)
{
    struct rfn_call_event e = call_on(w, RFN_CALL_exec_launch, stream);
    e.exec_serial = 70 + (uint64_t)exec;
    e.graph_id = 100 + (uint64_t)exec;
    enum rfn_rule rule = expected(w, stream, exec);
    int32_t before = rfn_rules_count(&rules);
    rfn_rules_feed(&rules, &e);
    int32_t more = rfn_rules_count(&rules) - before;
    if (more != (rule != RFN_RULES) || (more && last()->rule != rule))
        fail_msg("seed %llu, call %d: %s where %s is due: %s",
                 (unsigned long long)w->seed, w->line,
                 more ? rfn_rule_query(last()->rule)->id : "nothing",
                 rule == RFN_RULES ? "nothing" : rfn_rule_query(rule)->id,
                 more ? last()->why : "");
    learn(w->knows[stream], w->exec[exec]); /* launches of one run in turn */
    enqueue(w, stream, (struct item) { LAUNCH, exec, 0 });
    memcpy(w->exec[exec], w->knows[stream], STEPS);
}

/* The legacy stream and the blocking ones order each other at every call. */
static void order_legacy(struct world *w, int stream)
{
    for (int s = 0; s < STREAMS; s++)
        if (kind_of(stream) == RFN_STREAM_LEGACY
                ? kind_of(s) == RFN_STREAM_BLOCKING
                : kind_of(stream) == RFN_STREAM_BLOCKING &&
                      kind_of(s) == RFN_STREAM_LEGACY)
            learn(w->knows[stream], w->knows[s]);
}

static int pick(struct world *w, int n)
{
    return (int)rng_below(&w->rng, n);
}

static void step(struct world *w)
{
    int stream = pick(w, STREAMS), e = pick(w, EVENTS), b = pick(w, BUFFERS);
    struct rfn_call_event call;
    int what = pick(w, 12);
    if (what < 11)
        order_legacy(w, stream);
    switch (what)
    {
    case 0:
    case 1:
    case 2:
        launch(w, stream, pick(w, EXECS));
        return;
    case 3:
    case 4:
        call = call_on(w, RFN_CALL_copy_async, stream);
        call.src = memory[b];
        call.bytes = BUFFER_BYTES;
        call.src_kind = RFN_MEMORY_DEVICE;
        call.dst_kind = RFN_MEMORY_PINNED;
        enqueue(w, stream, (struct item) { READ, 0, b });
        break;
    case 5:
    case 6:
    case 7:
        call = call_on(w, RFN_CALL_event_record, stream);
        memcpy(w->event[e], w->knows[stream], STEPS);
        break;
    case 8:
    case 9:
        call = call_on(w, RFN_CALL_stream_wait, stream);
        learn(w->knows[stream], w->event[e]);
        break;
    case 10:
        call =
            call_on(w, pick(w, 2) ? RFN_CALL_stream_sync : RFN_CALL_stream_query, stream);
        learn(w->done, w->knows[stream]);
        break;
    default:
        call = call_on(w, RFN_CALL_event_sync, 0);
        call.stream = NULL;
        call.stream_serial = 0;
        learn(w->done, w->event[e]);
        break;
    }
    call.event = (struct rfn_event *)&events[e];
    rfn_rules_feed(&rules, &call);
}

static void random_programs_have_what_nothing_orders(void **state)
{
    const char *said = getenv("RFN_SEED");
    uint64_t seed = said ? strtoull(said, NULL, 0) : (uint64_t)time(NULL);
    int found = 0;
    printf("seed %llu\n", (unsigned long long)seed);
    for (int program = 0; program < 300; program++)
    {
        struct world *w = calloc(1, sizeof *w);
        assert_non_null(w);
        tear_down(state);
        assert_int_equal(set_up(state), 0);
        w->seed = seed + (uint64_t)program;
        w->rng = rng_of(w->seed);
        for (int exec = 0; exec < EXECS; exec++)
        {
            w->writes[exec] = pick(w, 2) << pick(w, BUFFERS);
            w->reads[exec] = pick(w, 2) << pick(w, BUFFERS);
            capture(w, exec);
        }
        for (int i = 0; i < EVENTS; i++) /* one that is not known may know everything */
        {
            struct rfn_call_event e = call_on(w, RFN_CALL_event_record, 3);
            e.event = (struct rfn_event *)&events[i];
            rfn_rules_feed(&rules, &e);
        }
        for (int i = 0; i < STEPS; i++)
            step(w);
        found += rfn_rules_count(&rules);
        free(w);
    }
    printf("%d findings\n", found);
    assert_true(found > 300);
}

/* ---- in doubt ------------------------------------------------------------------------ */

static void feed_launch(uint64_t stream, uint64_t exec, uint64_t capture)
{
    struct rfn_call_event e = on_stream(RFN_CALL_exec_launch, 1, stream, 0);
    e.exec_serial = exec;
    e.graph_id = capture;
    rfn_rules_feed(&rules, &e);
}

static void feed_graph(uint64_t capture, enum rfn_call call, uint32_t flags)
{
    struct rfn_call_event e = on_stream(call, 1, ORIGIN, capture);
    e.flags = flags;
    feed_begin(1, ORIGIN, capture, RFN_CAPTURE_GLOBAL, RFN_STREAM_NONBLOCKING);
    rfn_rules_feed(&rules, &e);
    feed_end(1, ORIGIN, capture, 0, RFN_CAPTURE_NONE);
}

static void what_may_be_told_counts_as_ordered(void **state)
{
    (void)state;
    feed_graph(7, RFN_CALL_host_call, 0);
    feed_launch(ORIGIN, 70, 7);
    feed_launch(OTHER, 70, 7);
    feed_graph(8, RFN_CALL_event_record, RFN_EVENT_EXTERNAL);
    feed_launch(ORIGIN, 71, 8);
    feed_launch(OTHER, 71, 8);
    feed_graph(9, RFN_CALL_set_async, 0);
    feed_launch(ORIGIN, 72, 9);
    struct rfn_call_event e = on_stream(RFN_CALL_host_call, 1, ORIGIN, 0);
    rfn_rules_feed(&rules, &e);
    feed_launch(OTHER, 72, 9);
    e = on_stream(RFN_CALL_stream_wait, 1, ORIGIN, 0);
    e.event = (struct rfn_event *)&events[0]; /* nobody saw its record */
    rfn_rules_feed(&rules, &e);
    feed_launch(ORIGIN, 72, 9);
    e = event_of(RFN_CALL_memory_free, 1);
    e.dst = memory;
    rfn_rules_feed(&rules, &e);
    feed_launch(OTHER, 72, 9);
    assert_int_equal(rfn_rules_count(&rules), 0);
    feed_launch(ORIGIN, 72, 9);
    assert_int_equal(rfn_rules_count(&rules), 1);
    assert_int_equal(last()->rule, RFN_CAP048);
}

static void past_64_streams_nothing_is_said(void **state)
{
    (void)state;
    feed_graph(9, RFN_CALL_set_async, 0);
    for (uint64_t s = 0; s < 40; s++) /* destroyed ones make room */
    {
        feed_launch(100 + s, 70, 9);
        struct rfn_call_event e = event_of(RFN_CALL_stream_destroy, 1);
        e.stream_serial = 100 + s;
        rfn_rules_feed(&rules, &e);
    }
    assert_int_equal(rfn_rules_count(&rules), 0);
    for (uint64_t s = 0; s < 40; s++)
        feed_launch(200 + s, 80 + s, 9);
    feed_launch(300, 80, 9);
    assert_int_equal(rfn_rules_count(&rules), 1);
    for (uint64_t s = 0; s < 40; s++)
        feed_launch(400 + s, 180 + s, 9);
    feed_launch(500, 81, 9);
    assert_int_equal(rfn_rules_count(&rules), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(random_programs_have_what_nothing_orders, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(what_may_be_told_counts_as_ordered, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(past_64_streams_nothing_is_said, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
