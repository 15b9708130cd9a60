/*
 * Captures of more than one stream, and more than one capture: forks and joins, unjoined
 * forks, isolation, merges, wrong ends, per-thread streams, external events, children.
 */
#include "tests/device/open.h"

#include <pthread.h>

#define BYTES 64

struct world
{
    struct test *t;
    struct rfn_stream *s, *fork, *third;
    struct rfn_event *out, *back;
    unsigned char *a, *b, *c;
};

static struct rfn_capture_info query(struct world *w, struct rfn_stream *s)
{
    struct rfn_capture_info info = { RFN_CAPTURE_NONE, 99 };
    OK(w->t, rfn_capture_query(s, &info));
    return info;
}

static void begin(struct world *w, struct rfn_stream *s)
{
    OK(w->t, rfn_capture_begin(s, NULL));
    OK(w->t, rfn_set_async(s, w->a, 1, BYTES));
}

/* Draws `to` into the capture of `from`. */
static void draw(struct world *w, struct rfn_stream *from, struct rfn_stream *to,
                 struct rfn_event *e)
{
    OK(w->t, rfn_event_record(e, from, 0));
    OK(w->t, rfn_stream_wait(to, e, 0));
}

static void ends_with(struct world *w, struct rfn_stream *s, int code)
{
    struct rfn_graph *none = NULL;
    CAPTURE_CODE(w->t, rfn_capture_end(s, &none), code);
    HOLDS(w->t, none == NULL);
}

static void is_free(struct world *w)
{
    struct rfn_stream *all[] = { w->s, w->fork, w->third };
    for (int i = 0; i < 3; i++)
        HOLDS(w->t, query(w, all[i]).status == RFN_CAPTURE_NONE && !query(w, all[i]).id);
}

static void replay(struct world *w, struct rfn_graph **graph)
{
    struct rfn_exec *exec = NULL;
    OK(w->t, rfn_graph_instantiate(*graph, &exec));
    OK(w->t, rfn_graph_destroy(graph));
    OK(w->t, rfn_exec_launch(exec, w->s));
    OK(w->t, rfn_stream_sync(w->s));
    OK(w->t, rfn_exec_destroy(&exec));
}

static void fork_and_join_make_one_graph(struct world *w)
{
    struct test *t = w->t;
    struct rfn_graph *graph = NULL;
    struct rfn_graph_info info;
    begin(w, w->s);
    draw(w, w->s, w->fork, w->out);
    HOLDS(t, query(w, w->fork).status == RFN_CAPTURE_ACTIVE);
    HOLDS(t, query(w, w->fork).id == query(w, w->s).id);
    OK(t, rfn_copy_async(w->fork, w->b, w->a, BYTES)); /* needs the set before the fork */
    OK(t, rfn_set_async(w->s, w->c, 3, BYTES));
    draw(w, w->fork, w->s, w->back);
    OK(t, rfn_copy_async(w->s, w->a, w->c, BYTES)); /* needs both branches */
    OK(t, rfn_capture_end(w->s, &graph));
    is_free(w);
    OK(t, rfn_graph_query(graph, &info));
    HOLDS(t, info.nodes == 4 && info.node[RFN_NODE_MEMCPY] == 2 &&
                 info.node[RFN_NODE_MEMSET] == 2);
    OK(t, rfn_set_sync(t->dev, w->a, 9, BYTES));
    OK(t,
       rfn_device_sync(t->dev)); /* a set does not wait, and the stream is non-blocking */
    replay(w, &graph);
    HOLDS(t, test_all(t, w->b, BYTES, 1)); /* not 9, not 3 */
    HOLDS(t, test_all(t, w->a, BYTES, 3));
}

static void unjoined_fork_ends_with_904(struct world *w)
{
    struct test *t = w->t;
    struct rfn_stream *gone = test_stream(t, RFN_STREAM_NONBLOCKING);
    begin(w, w->s);
    draw(w, w->s, w->fork, w->out);
    OK(t, rfn_set_async(w->fork, w->b, 1, BYTES));
    HOLDS(t, query(w, w->s).status == RFN_CAPTURE_ACTIVE);
    ends_with(w, w->s, 904);
    HOLDS(t, !t->host || test_line_has("capture_end|does not lead back"));
    is_free(w);
    /* Work after the join is unjoined again. */
    begin(w, w->s);
    draw(w, w->s, w->fork, w->out);
    draw(w, w->fork, w->s, w->back);
    OK(t, rfn_set_async(w->fork, w->b, 1, BYTES));
    ends_with(w, w->s, 904);
    /* Destroying the forked stream does not join it. */
    begin(w, w->s);
    draw(w, w->s, gone, w->out);
    OK(t, rfn_set_async(gone, w->b, 1, BYTES));
    OK(t, rfn_stream_destroy(&gone));
    HOLDS(t, query(w, w->s).status == RFN_CAPTURE_ACTIVE);
    ends_with(w, w->s, 904);
    is_free(w);
}

static void ends_elsewhere_are_refused(struct world *w)
{
    begin(w, w->s);
    draw(w, w->s, w->fork, w->out);
    ends_with(w, w->third, 401);
    HOLDS(w->t, query(w, w->s).status == RFN_CAPTURE_ACTIVE);
    ends_with(w, w->fork, 903);
    HOLDS(w->t, query(w, w->s).status == RFN_CAPTURE_INVALIDATED);
    HOLDS(w->t, query(w, w->fork).status == RFN_CAPTURE_INVALIDATED);
    ends_with(w, w->s, 901);
    is_free(w);
    ends_with(w, w->s, 401);
}

static void first_offender_stands_in_the_line(struct world *w)
{
    struct test *t = w->t;
    begin(w, w->s);
    CAPTURE_CODE(t, rfn_stream_query(w->s), 900);
    CAPTURE_CODE(t, rfn_set_async(w->s, w->a, 2, BYTES), 901);
    ends_with(w, w->s, 901);
    HOLDS(t, !t->host || test_line_has("stream_query of its own thread|capture_fork.c"));
    is_free(w);
}

static void captures_stay_apart(struct world *w)
{
    struct test *t = w->t;
    /* A second capture beside the first, and an event that leads from one to it. */
    begin(w, w->s);
    begin(w, w->third);
    HOLDS(t, query(w, w->s).id != query(w, w->third).id);
    OK(t, rfn_event_record(w->out, w->s, 0));
    CAPTURE_CODE(t, rfn_stream_wait(w->third, w->out, 0), 902);
    HOLDS(t, query(w, w->s).status == RFN_CAPTURE_INVALIDATED);
    HOLDS(t, query(w, w->third).status == RFN_CAPTURE_INVALIDATED);
    CAPTURE_CODE(t, rfn_set_async(w->s, w->b, 1, BYTES), 901);
    ends_with(w, w->s, 901);
    ends_with(w, w->third, 901);
    is_free(w);
    /* Work from before the capture. */
    OK(t, rfn_event_record(w->out, w->fork, 0));
    begin(w, w->s);
    CAPTURE_CODE(t, rfn_stream_wait(w->s, w->out, 0), 905);
    ends_with(w, w->s, 901);
    is_free(w);
}

static void destroying_the_origin_ends_the_capture(struct world *w)
{
    struct test *t = w->t;
    struct rfn_stream *origin = test_stream(t, RFN_STREAM_NONBLOCKING);
    begin(w, origin);
    draw(w, origin, w->fork, w->out);
    REFUSED(t, rfn_memory_free(t->dev, w->a), RFN_BUSY, "capture");
    OK(t, rfn_stream_destroy(&origin));
    is_free(w);
    struct rfn_memory_info info;
    OK(t, rfn_memory_query(t->dev, w->a, &info));
    HOLDS(t, info.pins == 0);
}

/* ---- threads ---------------------------------------------------------------------- */

struct ender
{
    struct world *w;
    struct rfn_graph *graph;
    enum rfn_status status;
    int code;
};

static void *end_it(void *user)
{
    struct ender *e = user;
    e->status = rfn_capture_end(e->w->s, &e->graph);
    e->code = rfn_last_code();
    return NULL;
}

static void only_a_relaxed_capture_ends_on_another_thread(struct world *w)
{
    struct test *t = w->t;
    for (int mode = RFN_CAPTURE_GLOBAL; mode <= RFN_CAPTURE_RELAXED; mode++)
    {
        pthread_t thread;
        struct ender e = { .w = w };
        OK(t, rfn_capture_begin(w->s, &(struct rfn_capture_desc) { .mode = mode }));
        pthread_create(&thread, NULL, end_it, &e);
        pthread_join(thread, NULL);
        if (mode == RFN_CAPTURE_RELAXED)
            HOLDS(t, e.status == RFN_OK && e.graph);
        else
            HOLDS(t, e.status == RFN_CAPTURE && e.code == 908 && !e.graph);
        OK(t, rfn_graph_destroy(&e.graph));
        is_free(w); /* it is over all the same */
    }
}

struct own
{
    struct world *w;
    pthread_barrier_t *both;
    int value;
    enum rfn_status status[6];
    struct rfn_graph *graph;
    uint64_t id;
};

static void *capture_the_threads_own_stream(void *user)
{
    struct own *o = user;
    struct world *w = o->w;
    struct rfn_stream *mine = rfn_stream_per_thread(w->t->dev);
    struct rfn_capture_desc desc = { .mode = RFN_CAPTURE_THREAD_LOCAL };
    struct rfn_capture_info info = { 0 };
    desc.name = o->value == 1 ? "one" : "two";
    o->status[0] = rfn_capture_begin(mine, &desc);
    o->status[1] = rfn_capture_query(mine, &info);
    o->id = info.id;
    pthread_barrier_wait(o->both); /* both are open */
    for (int i = 0; i < o->value; i++)
        o->status[2] = rfn_set_async(mine, o->value == 1 ? w->b : w->c, o->value, BYTES);
    pthread_barrier_wait(o->both);
    if (o->value == 1) /* the older one ends first */
        o->status[3] = rfn_capture_end(mine, &o->graph);
    pthread_barrier_wait(o->both);
    if (o->value == 2)
        o->status[3] = rfn_capture_end(mine, &o->graph);
    return NULL;
}

static void *end_what_was_not_begun(void *user)
{
    struct ender *e = user;
    e->status = rfn_capture_end(rfn_stream_per_thread(e->w->t->dev), &e->graph);
    e->code = rfn_last_code();
    return NULL;
}

static void per_thread_streams_capture_apart(struct world *w)
{
    struct test *t = w->t;
    pthread_t thread[2];
    pthread_barrier_t both;
    struct own own[2] = { { .w = w, .both = &both, .value = 1 },
                          { .w = w, .both = &both, .value = 2 } };
    pthread_barrier_init(&both, NULL, 2);
    for (int i = 0; i < 2; i++)
        pthread_create(&thread[i], NULL, capture_the_threads_own_stream, &own[i]);
    for (int i = 0; i < 2; i++)
        pthread_join(thread[i], NULL);
    pthread_barrier_destroy(&both);
    HOLDS(t, own[0].id != own[1].id);
    for (int i = 0; i < 2; i++)
    {
        struct rfn_graph_info info = { 0 };
        for (int k = 0; k < 4; k++)
            HOLDS(t, own[i].status[k] == RFN_OK);
        OK(t, rfn_graph_query(own[i].graph, &info));
        HOLDS(t, info.nodes == own[i].value && info.capture_id == own[i].id);
        HOLDS(t, strcmp(info.name, i ? "two" : "one") == 0);
        replay(w, &own[i].graph);
    }
    HOLDS(t, test_all(t, w->b, BYTES, 1) && test_all(t, w->c, BYTES, 2));
    /* A thread that ends its own stream does not end another's. */
    struct rfn_stream *mine = rfn_stream_per_thread(t->dev);
    struct rfn_graph *graph = NULL;
    struct rfn_graph_info info;
    struct ender e = { .w = w };
    begin(w, mine);
    pthread_create(&thread[0], NULL, end_what_was_not_begun, &e);
    pthread_join(thread[0], NULL);
    HOLDS(t, e.status == RFN_CAPTURE && e.code == 401 && !e.graph);
    OK(t, rfn_capture_end(mine, &graph));
    OK(t, rfn_graph_query(graph, &info));
    HOLDS(t, info.nodes == 1);
    OK(t, rfn_graph_destroy(&graph));
}

struct leaver
{
    struct rfn_device *dev;
    unsigned char *memory;
    pthread_barrier_t *both;
    int line;
    enum rfn_status status[2];
};

static void *leave_a_capture(void *user)
{
    struct leaver *l = user;
    struct rfn_stream *mine = rfn_stream_per_thread(l->dev);
    struct rfn_capture_desc desc = { .name = "left behind" };
    l->line = __LINE__ + 1;
    l->status[0] = rfn_capture_begin(mine, &desc);
    l->status[1] = rfn_set_async(mine, l->memory, 1, BYTES);
    pthread_barrier_wait(l->both); /* open, and the thread lives */
    pthread_barrier_wait(l->both);
    return NULL;
}

/* While it lives close names its capture; nobody can end it later, so that close does. */
static void close_discards_the_capture_of_an_ended_thread(struct world *w)
{
    struct test *t = w->t;
    pthread_t thread;
    pthread_barrier_t both;
    char words[128];
    if (!t->host)
        return; /* the driver does not say that a thread has ended */
    for (int checked = 0; checked < 2; checked++)
    {
        struct rfn_check *check = NULL;
        struct leaver l = { .dev = test_open(t), .both = &both };
        void *memory = NULL;
        if (checked)
            OK(t, rfn_check_create(l.dev, &check));
        OK(t, rfn_memory_alloc(l.dev, RFN_MEMORY_DEVICE, BYTES, &memory));
        l.memory = memory;
        pthread_barrier_init(&both, NULL, 2);
        pthread_create(&thread, NULL, leave_a_capture, &l);
        pthread_barrier_wait(&both);
        HOLDS(t, l.status[0] == RFN_OK && l.status[1] == RFN_OK);
        snprintf(words, sizeof words,
                 "1 allocations|1 open capture|\"left behind\"|id |capture_fork.c:%d",
                 l.line);
        REFUSED(t, rfn_device_close(&l.dev), RFN_BUSY, words);
        pthread_barrier_wait(&both);
        pthread_join(thread, NULL);
        pthread_barrier_destroy(&both);
        REFUSED(t, rfn_memory_free(l.dev, memory), RFN_BUSY, "left behind");
        REFUSED(t, rfn_device_close(&l.dev), RFN_BUSY, "1 allocations");
        HOLDS(t, !test_line_has("open capture"));
        OK(t, rfn_memory_free(l.dev, memory)); /* no pin, no capture that forbids it */
        struct rfn_finding f = { .why = "" };
        if (checked)
            OK(t, rfn_check_finding(check, rfn_check_count(check) - 1, &f));
        HOLDS(t, !checked || f.rule == RFN_CAP032); /* it was left open */
        OK(t, rfn_check_destroy(&check));
        OK(t, rfn_device_close(&l.dev));
    }
    /* Not one of a stream that somebody has. */
    struct rfn_device *other = test_open(t);
    struct rfn_stream *s = NULL;
    OK(t, rfn_stream_create(other, RFN_STREAM_NONBLOCKING, &s));
    OK(t, rfn_capture_begin(s, NULL));
    REFUSED(t, rfn_device_close(&other), RFN_BUSY, "1 streams|1 open capture");
    OK(t, rfn_stream_destroy(&s));
    OK(t, rfn_device_close(&other));
}

struct opener
{
    enum rfn_status status;
    int code;
    struct rfn_device *device;
};

static void open_one(void *user)
{
    struct opener *o = user;
    struct rfn_device_desc desc = { .kind = RFN_DEVICE_HOST, .reserve_bytes = 1 << 20 };
    o->status = rfn_device_open(&desc, &o->device);
    o->code = rfn_last_code();
}

static void a_host_function_opens_no_device(struct world *w)
{
    struct test *t = w->t;
    struct opener o = { .status = RFN_OK };
    if (!t->host)
        return;
    OK(t, rfn_host_call(w->s, open_one, &o));
    OK(t, rfn_stream_sync(w->s));
    HOLDS(t, o.status == RFN_INVALID && o.code == 800 && !o.device);
}

/* ---- replayed --------------------------------------------------------------------- */

static void external_events_work_at_every_replay(struct world *w)
{
    struct test *t = w->t;
    struct rfn_graph *graph = NULL;
    struct rfn_exec *exec = NULL;
    struct rfn_graph_info info;
    unsigned char *seen = test_alloc(t, RFN_MEMORY_PINNED, BYTES);
    /* An event whose last capture is over cannot be waited for, external or not. */
    OK(t, rfn_event_record(w->out, w->fork, 0));
    OK(t, rfn_capture_begin(w->s, NULL));
    OK(t, rfn_stream_wait(w->s, w->out, RFN_EVENT_EXTERNAL));
    OK(t, rfn_copy_async(w->s, w->b, w->a, BYTES));
    OK(t, rfn_event_record(w->back, w->s, RFN_EVENT_EXTERNAL));
    OK(t, rfn_capture_end(w->s, &graph));
    OK(t, rfn_graph_query(graph, &info));
    HOLDS(t, info.nodes == 3 && info.node[RFN_NODE_EVENT_WAIT] == 1 &&
                 info.node[RFN_NODE_EVENT_RECORD] == 1);
    OK(t, rfn_graph_instantiate(graph, &exec));
    for (int i = 1; i <= 5; i++)
    {
        /* The graph waits for a stream outside, and that stream for the graph. */
        OK(t, rfn_set_async(w->fork, w->a, i, BYTES));
        OK(t, rfn_event_record(w->out, w->fork, 0));
        OK(t, rfn_exec_launch(exec, w->s));
        OK(t, rfn_stream_wait(w->fork, w->back, 0));
        OK(t, rfn_copy_async(w->fork, seen, w->b, BYTES));
        OK(t, rfn_stream_sync(w->fork));
        HOLDS(t, seen[0] == i && seen[BYTES - 1] == i);
        OK(t, rfn_event_query(w->back));
    }
    /* The event outlives the executable that recorded it last. */
    OK(t, rfn_exec_launch(exec, w->s));
    OK(t, rfn_exec_destroy(&exec));
    OK(t, rfn_graph_destroy(&graph));
    OK(t, rfn_event_sync(w->back));
    OK(t, rfn_event_query(w->back));
    OK(t, rfn_stream_wait(w->fork, w->back, 0));
    OK(t, rfn_stream_sync(w->fork));
    /* And a graph the event that it records. */
    struct rfn_event *gone = test_event(t);
    OK(t, rfn_capture_begin(w->s, NULL));
    OK(t, rfn_event_record(gone, w->s, RFN_EVENT_EXTERNAL));
    OK(t, rfn_capture_end(w->s, &graph));
    if (t->host)
        OK(t, rfn_event_destroy(&gone));
    replay(w, &graph);
    OK(t, rfn_event_destroy(&gone));
    FREE(t, seen);
}

static void children_run_inside_their_parent(struct world *w)
{
    struct test *t = w->t;
    struct rfn_graph *child = NULL, *empty = NULL, *parent = NULL, *top = NULL;
    struct rfn_graph_info info;
    OK(t, rfn_capture_begin(w->s, NULL));
    OK(t, rfn_capture_end(w->s, &empty));
    OK(t, rfn_capture_begin(w->s, NULL));
    OK(t, rfn_copy_async(w->s, w->b, w->a, BYTES));
    OK(t, rfn_set_async(w->s, w->a, 8, BYTES));
    OK(t, rfn_capture_end(w->s, &child));
    OK(t, rfn_capture_begin(w->s, &(struct rfn_capture_desc) { .name = "the parent" }));
    OK(t, rfn_set_async(w->s, w->a, 7, BYTES));
    OK(t, rfn_capture_add_child(w->s, child)); /* b = 7, a = 8 */
    OK(t, rfn_capture_add_child(w->s, empty));
    OK(t, rfn_copy_async(w->s, w->c, w->a, BYTES)); /* c = 8 */
    OK(t, rfn_capture_add_child(w->s, child));      /* b = 8 */
    OK(t, rfn_capture_end(w->s, &parent));
    OK(t, rfn_graph_query(parent, &info));
    HOLDS(t, info.nodes == 5 && info.node[RFN_NODE_CHILD] == 3);
    OK(t, rfn_graph_destroy(&child));
    OK(t, rfn_graph_destroy(&empty));
    REFUSED(t, rfn_memory_free(t->dev, w->b), RFN_BUSY, "the parent");
    OK(t, rfn_capture_begin(w->s, NULL));
    OK(t, rfn_capture_add_child(w->s, parent));
    OK(t, rfn_copy_async(w->s, w->a, w->c, BYTES));
    OK(t, rfn_capture_end(w->s, &top));
    OK(t, rfn_graph_destroy(&parent));
    OK(t, rfn_set_sync(t->dev, w->a, 0, BYTES));
    OK(t, rfn_set_sync(t->dev, w->b, 0, BYTES));
    OK(t, rfn_set_sync(t->dev, w->c, 0, BYTES));
    OK(t, rfn_device_sync(t->dev));
    replay(w, &top);
    HOLDS(t, test_all(t, w->a, BYTES, 8) && test_all(t, w->b, BYTES, 8));
    HOLDS(t, test_all(t, w->c, BYTES, 8));
}

static void an_empty_capture_makes_an_empty_graph(struct world *w)
{
    struct test *t = w->t;
    struct rfn_graph *graph = NULL;
    struct rfn_graph_info info;
    struct rfn_capture_desc desc = { .name = "a name that is longer than the sixty-three "
                                             "bytes which a graph's name can have" };
    OK(t, rfn_capture_begin(w->s, &desc));
    OK(t, rfn_capture_end(w->s, &graph));
    OK(t, rfn_graph_query(graph, &info));
    HOLDS(t, info.nodes == 0 && info.launches == 0 && strlen(info.name) == 63);
    HOLDS(t, strncmp(info.name, desc.name, 63) == 0);
    replay(w, &graph);
}

int main(int argc, char **argv)
{
    struct test t;
    struct world w = { .t = &t };
    test_begin(&t, "capture_fork", &argc, argv);
    w.s = test_stream(&t, RFN_STREAM_NONBLOCKING);
    w.fork = test_stream(&t, RFN_STREAM_NONBLOCKING);
    w.third = test_stream(&t, RFN_STREAM_NONBLOCKING);
    w.out = test_event(&t);
    w.back = test_event(&t);
    w.a = test_device_memory(&t, BYTES);
    w.b = test_device_memory(&t, BYTES);
    w.c = test_device_memory(&t, BYTES);
    fork_and_join_make_one_graph(&w);
    unjoined_fork_ends_with_904(&w);
    ends_elsewhere_are_refused(&w);
    first_offender_stands_in_the_line(&w);
    captures_stay_apart(&w);
    destroying_the_origin_ends_the_capture(&w);
    only_a_relaxed_capture_ends_on_another_thread(&w);
    per_thread_streams_capture_apart(&w);
    close_discards_the_capture_of_an_ended_thread(&w);
    a_host_function_opens_no_device(&w);
    external_events_work_at_every_replay(&w);
    children_run_inside_their_parent(&w);
    an_empty_capture_makes_an_empty_graph(&w);
    OK(&t, rfn_device_sync(t.dev));
    FREE(&t, w.a);
    FREE(&t, w.b);
    FREE(&t, w.c);
    OK(&t, rfn_event_destroy(&w.out));
    OK(&t, rfn_event_destroy(&w.back));
    OK(&t, rfn_stream_destroy(&w.s));
    OK(&t, rfn_stream_destroy(&w.fork));
    OK(&t, rfn_stream_destroy(&w.third));
    return test_end(&t);
}
