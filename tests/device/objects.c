/*
 * Every call with NULL, a destroyed object, an object of another type, a pointer that is
 * nothing of ours and an object of another device: refused by name, outputs untouched,
 * nothing enqueued.
 */
#include "tests/device/open.h"

#define BYTES 256
#define UNTOUCHED 0xa5

enum slot
{
    DEVICE,
    STREAM,
    EVENT,
    END, /* a second event */
    GRAPH,
    EXEC,
    SLOTS
};
static const char *const slot_name[SLOTS] = { "device", "stream", "event",
                                              "end",    "graph",  "executable" };

struct world
{
    void *object[SLOTS];
    unsigned char *a, *b; /* device memory, never written once filled */
    struct rfn_index_topk_args topk;
    union /* host outputs */
    {
        unsigned char bytes[512];
        void *pointer;
        float ms;
        struct rfn_device_info device;
        struct rfn_memory_info memory;
        struct rfn_capture_info capture;
        struct rfn_graph_info graph;
        struct rfn_fault fault;
    } out;
};

#define DEV(w) ((struct rfn_device *)(w)->object[DEVICE])
#define STR(w) ((struct rfn_stream *)(w)->object[STREAM])
#define EVT(w) ((struct rfn_event *)(w)->object[EVENT])
#define FIN(w) ((struct rfn_event *)(w)->object[END])
#define GRA(w) ((struct rfn_graph *)(w)->object[GRAPH])
#define EXE(w) ((struct rfn_exec *)(w)->object[EXEC])

static void count_call(void *user)
{
    ++*(int *)user;
}

static int calls_of_host_function;

/* X(name, mask of the objects it takes, the call) */
#define D (1u << DEVICE)
#define S (1u << STREAM)
#define E (1u << EVENT)
#define F (1u << END)
#define G (1u << GRAPH)
#define X (1u << EXEC)
#define CALLS(Y)                                                                         \
    Y(device_query, D, rfn_device_query(DEV(w), &w->out.device))                         \
    Y(device_sync, D, rfn_device_sync(DEV(w)))                                           \
    Y(device_fault, D, rfn_device_fault(DEV(w), &w->out.fault))                          \
    Y(device_close, D, rfn_device_close((struct rfn_device **)&w->object[DEVICE]))       \
    Y(thread_mode, D,                                                                    \
      rfn_thread_mode_exchange(DEV(w),                                                   \
                               &(enum rfn_capture_mode) { RFN_CAPTURE_RELAXED }))        \
    Y(memory_alloc, D, rfn_memory_alloc(DEV(w), RFN_MEMORY_DEVICE, 16, &w->out.pointer)) \
    Y(memory_free, D, rfn_memory_free(DEV(w), w->a))                                     \
    Y(memory_import, D,                                                                  \
      rfn_memory_import(DEV(w), &w->topk, sizeof w->topk, RFN_MEMORY_PINNED))            \
    Y(memory_release, D, rfn_memory_release(DEV(w), &w->topk))                           \
    Y(memory_query, D, rfn_memory_query(DEV(w), w->a, &w->out.memory))                   \
    Y(stream_create, D,                                                                  \
      rfn_stream_create(DEV(w), RFN_STREAM_BLOCKING, (void *)&w->out.pointer))           \
    Y(stream_import, D, rfn_stream_import(DEV(w), NULL, (void *)&w->out.pointer))        \
    Y(op_supported, D, rfn_op_supported(DEV(w), &rfn_op_index_topk, &w->topk))           \
    Y(event_create, D, rfn_event_create(DEV(w), (void *)&w->out.pointer))                \
    Y(copy_sync, D, rfn_copy_sync(DEV(w), w->b, w->a, BYTES))                            \
    Y(set_sync, D, rfn_set_sync(DEV(w), w->b, 9, BYTES))                                 \
    Y(stream_destroy, S, rfn_stream_destroy((struct rfn_stream **)&w->object[STREAM]))   \
    Y(stream_sync, S, rfn_stream_sync(STR(w)))                                           \
    Y(stream_query, S, rfn_stream_query(STR(w)))                                         \
    Y(stream_wait, S | E, rfn_stream_wait(STR(w), EVT(w), 0))                            \
    Y(event_record, S | E, rfn_event_record(EVT(w), STR(w), 0))                          \
    Y(event_destroy, E, rfn_event_destroy((struct rfn_event **)&w->object[EVENT]))       \
    Y(event_sync, E, rfn_event_sync(EVT(w)))                                             \
    Y(event_query, E, rfn_event_query(EVT(w)))                                           \
    Y(event_elapsed, E | F, rfn_event_elapsed(EVT(w), FIN(w), &w->out.ms))               \
    Y(copy_async, S, rfn_copy_async(STR(w), w->b, w->a, BYTES))                          \
    Y(set_async, S, rfn_set_async(STR(w), w->b, 9, BYTES))                               \
    Y(host_call, S, rfn_host_call(STR(w), count_call, &calls_of_host_function))          \
    Y(op_launch, S, rfn_op_launch(STR(w), &rfn_op_index_topk, &w->topk))                 \
    Y(index_topk, S, rfn_index_topk(STR(w), &w->topk))                                   \
    Y(kv_pack, S, rfn_kv_pack(STR(w), &(struct rfn_kv_pack_args) { .floor = 1 }))        \
    Y(sparse_mla, S,                                                                     \
      rfn_sparse_mla(STR(w), &(struct rfn_sparse_mla_args) { .scale = 1 }))              \
    Y(capture_begin, S, rfn_capture_begin(STR(w), NULL))                                 \
    Y(capture_end, S, rfn_capture_end(STR(w), (void *)&w->out.pointer))                  \
    Y(capture_query, S, rfn_capture_query(STR(w), &w->out.capture))                      \
    Y(capture_add_child, S | G, rfn_capture_add_child(STR(w), GRA(w)))                   \
    Y(graph_query, G, rfn_graph_query(GRA(w), &w->out.graph))                            \
    Y(graph_destroy, G, rfn_graph_destroy((struct rfn_graph **)&w->object[GRAPH]))       \
    Y(graph_instantiate, G, rfn_graph_instantiate(GRA(w), (void *)&w->out.pointer))      \
    Y(exec_launch, X | S, rfn_exec_launch(EXE(w), STR(w)))                               \
    Y(exec_upload, X | S, rfn_exec_upload(EXE(w), STR(w)))                               \
    Y(exec_update, X, rfn_exec_update(EXE(w), 0, &w->topk))                              \
    Y(exec_destroy, X, rfn_exec_destroy((struct rfn_exec **)&w->object[EXEC]))

/* clang-format off */
#define CALL_FUNCTION(name, mask, call) \
    static enum rfn_status call_##name(struct world *w) { return call; }
CALLS(CALL_FUNCTION)
#define CALL_ROW(name, mask, call) { #name, (mask), call_##name },
/* clang-format on */

static const struct row
{
    const char *name;
    unsigned slots;
    enum rfn_status (*call)(struct world *w);
} rows[] = { CALLS(CALL_ROW) };

static struct world make_world(struct test *t, struct rfn_device *dev)
{
    struct world w = { .object = { [DEVICE] = dev } };
    struct rfn_device *mine = t->dev;
    t->dev = dev;
    w.a = test_device_memory(t, BYTES);
    w.b = test_device_memory(t, BYTES);
    OK(t, rfn_set_sync(dev, w.a, 1, BYTES));
    OK(t, rfn_set_sync(dev, w.b, UNTOUCHED, BYTES));
    w.topk = (struct rfn_index_topk_args) {
        .logits = rfn_tensor_of(w.a, RFN_F32, 1, 8, 0, 0),
        .lens = rfn_tensor_of(w.a + 64, RFN_I32, 1, 0, 0, 0),
        .positions = rfn_tensor_of(w.b, RFN_I32, 1, 4, 0, 0),
    };
    w.object[STREAM] = test_stream(t, RFN_STREAM_NONBLOCKING);
    w.object[EVENT] = test_event(t);
    w.object[END] = test_event(t);
    struct rfn_graph *graph = NULL;
    struct rfn_exec *exec = NULL;
    OK(t, rfn_event_record(EVT(&w), STR(&w), 0));
    OK(t, rfn_event_record(FIN(&w), STR(&w), 0));
    OK(t, rfn_capture_begin(STR(&w), &(struct rfn_capture_desc) { .name = "world" }));
    OK(t, rfn_set_async(STR(&w), w.b, 9, BYTES)); /* never replayed */
    OK(t, rfn_index_topk(STR(&w), &w.topk));
    OK(t, rfn_capture_end(STR(&w), &graph));
    OK(t, rfn_graph_instantiate(graph, &exec));
    OK(t, rfn_device_sync(dev));
    w.object[GRAPH] = graph;
    w.object[EXEC] = exec;
    t->dev = mine;
    return w;
}

static void end_world(struct test *t, struct world *w)
{
    OK(t, rfn_exec_destroy((struct rfn_exec **)&w->object[EXEC]));
    OK(t, rfn_graph_destroy((struct rfn_graph **)&w->object[GRAPH]));
    OK(t, rfn_event_destroy((struct rfn_event **)&w->object[EVENT]));
    OK(t, rfn_event_destroy((struct rfn_event **)&w->object[END]));
    OK(t, rfn_stream_destroy((struct rfn_stream **)&w->object[STREAM]));
    OK(t, rfn_memory_free(w->object[DEVICE], w->a));
    OK(t, rfn_memory_free(w->object[DEVICE], w->b));
}

/* One call with one wrong object. */
static void try_one(struct test *t, const struct world *w, const struct row *row,
                    enum slot slot, void *wrong, const char *kind, const char *words)
{
    char name[128];
    struct world with = *w;
    with.object[slot] = wrong;
    memset(&with.out, UNTOUCHED, sizeof with.out);
    struct world before = with;
    enum rfn_status status = row->call(&with);
    snprintf(name, sizeof name, "%s refuses a %s that is %s", row->name, slot_name[slot],
             kind);
    harness_check(&t->h, name, status == RFN_INVALID, "%s", rfn_status_name(status));
    harness_check(&t->h, name, test_line_has(words), "\"%s\" lacks one of \"%s\"",
                  rfn_last_error(), words);
    harness_check(&t->h, name, memcmp(&with, &before, sizeof with) == 0,
                  "an output was written");
}

static void wrong_objects_are_refused_by_name(struct test *t, const struct world *w,
                                              const struct world *gone,
                                              const struct world *other)
{
    int64_t stack[512] = { 0 };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        for (enum slot slot = 0; slot < SLOTS; slot++)
        {
            const struct row *row = &rows[i];
            unsigned mask = row->slots;
            if (!(mask >> slot & 1))
                continue;
            int destroys = strstr(row->name, "_destroy") || strstr(row->name, "_close");
            char words[64];
            snprintf(words, sizeof words, "NULL|%s", slot_name[slot]);
            if (!destroys)
                try_one(t, w, row, slot, NULL, "NULL", words);
            snprintf(words, sizeof words, "%p|no object", (void *)stack);
            try_one(t, w, row, slot, stack, "nothing of ours", words);
            snprintf(words, sizeof words, "%p|destroyed", gone->object[slot]);
            try_one(t, w, row, slot, gone->object[slot], "destroyed", words);
            /* One byte into a live object is no object either. */
            try_one(t, w, row, slot, (char *)w->object[slot] + 1, "askew", "no object");
            for (enum slot type = 0; type < SLOTS; type++)
            {
                if (slot_name[type] == slot_name[slot] ||
                    (type == END && slot == EVENT) || (type == EVENT && slot == END))
                    continue;
                snprintf(words, sizeof words, "%s|%s",
                         slot_name[type == END ? EVENT : type],
                         slot_name[slot == END ? EVENT : slot]);
                try_one(t, w, row, slot, w->object[type], "of another type", words);
            }
            if (mask & (mask - 1))
                try_one(t, w, row, slot, other->object[slot], "of another device",
                        "belongs to device");
        }
}

static void missing_outputs_are_refused(struct test *t, const struct world *w)
{
    struct rfn_device_desc desc = { 0 };
    struct rfn_device *device = NULL;
    REFUSED(t, rfn_device_open(NULL, &device), RFN_INVALID, "desc");
    REFUSED(t, rfn_device_open(&desc, NULL), RFN_INVALID, "ret_device");
    REFUSED(t, rfn_device_query(DEV(w), NULL), RFN_INVALID, "ret_info");
    REFUSED(t, rfn_device_fault(DEV(w), NULL), RFN_INVALID, "ret_fault");
    REFUSED(t, rfn_thread_mode_exchange(DEV(w), NULL), RFN_INVALID, "mode");
    REFUSED(t, rfn_memory_alloc(DEV(w), RFN_MEMORY_DEVICE, 4, NULL), RFN_INVALID, "");
    REFUSED(t, rfn_memory_query(DEV(w), w->a, NULL), RFN_INVALID, "ret_info");
    REFUSED(t, rfn_stream_create(DEV(w), RFN_STREAM_BLOCKING, NULL), RFN_INVALID, "");
    REFUSED(t, rfn_event_create(DEV(w), NULL), RFN_INVALID, "ret_event");
    REFUSED(t, rfn_event_elapsed(EVT(w), FIN(w), NULL), RFN_INVALID, "ret_ms");
    REFUSED(t, rfn_host_call(STR(w), NULL, NULL), RFN_INVALID, "fn");
    REFUSED(t, rfn_op_launch(STR(w), NULL, &w->topk), RFN_INVALID, "op");
    REFUSED(t, rfn_op_launch(STR(w), &rfn_op_index_topk, NULL), RFN_INVALID, "args");
    REFUSED(t, rfn_kv_pack(STR(w), NULL), RFN_INVALID, "args");
    REFUSED(t, rfn_index_topk(STR(w), NULL), RFN_INVALID, "args");
    REFUSED(t, rfn_sparse_mla(STR(w), NULL), RFN_INVALID, "args");
    REFUSED(t, rfn_exec_update(EXE(w), 0, NULL), RFN_INVALID, "args");
    REFUSED(t, rfn_exec_update(EXE(w), 1, &w->topk), RFN_NOT_FOUND,
            "launch 1|1 launches");
    REFUSED(t, rfn_exec_update(EXE(w), -1, &w->topk), RFN_NOT_FOUND, "-1|1 launches");
    REFUSED(t, rfn_capture_end(STR(w), NULL), RFN_INVALID, "ret_graph");
    REFUSED(t, rfn_capture_query(STR(w), NULL), RFN_INVALID, "ret_info");
    REFUSED(t, rfn_graph_query(GRA(w), NULL), RFN_INVALID, "ret_info");
    REFUSED(t, rfn_graph_instantiate(GRA(w), NULL), RFN_INVALID, "ret_exec");
}

static void values_out_of_range_are_refused(struct test *t, const struct world *w)
{
    struct rfn_device *device = NULL;
    struct rfn_device_desc bad[] = {
        { .kind = (enum rfn_device_kind)9 },
        { .sched = (enum rfn_host_sched)9 },
        { .ordinal = -1 },
        { .threads = -2 },
        { .kind = RFN_DEVICE_HOST, .reserve_bytes = -3 },
    };
    const char *const words[] = { "9", "9", "-1", "-2", "-3" };
    for (int i = 0; i < 5; i++)
        REFUSED(t, rfn_device_open(&bad[i], &device), RFN_INVALID, words[i]);
    HOLDS(t, device == NULL);
    enum rfn_capture_mode mode = (enum rfn_capture_mode)7;
    REFUSED(t, rfn_thread_mode_exchange(DEV(w), &mode), RFN_INVALID, "7");
    HOLDS(t, mode == (enum rfn_capture_mode)7);
    struct rfn_capture_desc desc = { .mode = mode };
    REFUSED(t, rfn_capture_begin(STR(w), &desc), RFN_INVALID, "7");
    struct rfn_stream *stream = NULL;
    REFUSED(t, rfn_stream_create(DEV(w), RFN_STREAM_LEGACY, &stream), RFN_INVALID, "2");
    REFUSED(t, rfn_stream_create(DEV(w), RFN_STREAM_PER_THREAD, &stream), RFN_INVALID,
            "3");
    REFUSED(t, rfn_stream_create(DEV(w), (enum rfn_stream_kind) - 1, &stream),
            RFN_INVALID, "-1");
    HOLDS(t, stream == NULL);
    REFUSED(t, rfn_stream_wait(STR(w), EVT(w), 6), RFN_INVALID, "0x6|0x1");
    REFUSED(t, rfn_event_record(EVT(w), STR(w), 2), RFN_INVALID, "0x2|0x1");
    /* The external flag is for captures. */
    HOLDS(t, rfn_event_record(EVT(w), STR(w), RFN_EVENT_EXTERNAL) != RFN_OK);
    HOLDS(t, rfn_stream_wait(STR(w), EVT(w), RFN_EVENT_EXTERNAL) != RFN_OK);
}

static void builtin_streams_are_nobodys(struct test *t)
{
    struct rfn_stream *legacy = rfn_stream_legacy(t->dev);
    struct rfn_stream *mine = rfn_stream_per_thread(t->dev);
    HOLDS(t, legacy && mine && legacy != mine);
    REFUSED(t, rfn_stream_destroy(&legacy), RFN_INVALID, "legacy");
    REFUSED(t, rfn_stream_destroy(&mine), RFN_INVALID, "per-thread");
    HOLDS(t,
          legacy == rfn_stream_legacy(t->dev) && mine == rfn_stream_per_thread(t->dev));
    HOLDS(t, rfn_stream_legacy(NULL) == NULL);
    HOLDS(t, rfn_stream_per_thread((struct rfn_device *)(void *)legacy) == NULL);
}

static void destroying_null_is_fine(struct test *t)
{
    OK(t, rfn_device_close(&(struct rfn_device *) { NULL }));
    OK(t, rfn_stream_destroy(&(struct rfn_stream *) { NULL }));
    OK(t, rfn_event_destroy(&(struct rfn_event *) { NULL }));
    OK(t, rfn_graph_destroy(&(struct rfn_graph *) { NULL }));
    OK(t, rfn_exec_destroy(&(struct rfn_exec *) { NULL }));
    OK(t, rfn_memory_free(t->dev, NULL));
    REFUSED(t, rfn_device_close(NULL), RFN_INVALID, "device");
    REFUSED(t, rfn_stream_destroy(NULL), RFN_INVALID, "stream");
    REFUSED(t, rfn_event_destroy(NULL), RFN_INVALID, "event");
    REFUSED(t, rfn_graph_destroy(NULL), RFN_INVALID, "graph");
    REFUSED(t, rfn_exec_destroy(NULL), RFN_INVALID, "exec");
}

static void close_with_live_things_is_busy(struct test *t)
{
    struct rfn_device *other = test_open(t), *same = other;
    struct world w = make_world(t, other);
    REFUSED(t, rfn_device_close(&other), RFN_BUSY,
            "2 allocations|1 streams|2 events|1 graphs|1 executables");
    HOLDS(t, other == same);
    end_world(t, &w);
    struct rfn_stream *stream = NULL;
    OK(t, rfn_stream_create(other, RFN_STREAM_NONBLOCKING, &stream));
    OK(t, rfn_capture_begin(stream, NULL));
    REFUSED(t, rfn_device_close(&other), RFN_BUSY, "1 streams|open capture");
    OK(t, rfn_stream_destroy(&stream));
    struct rfn_check *check = NULL;
    OK(t, rfn_check_create(other, &check));
    REFUSED(t, rfn_device_close(&other), RFN_BUSY, "checker");
    OK(t, rfn_check_destroy(&check));
    OK(t, rfn_device_close(&other));
    HOLDS(t, other == NULL);
}

/* The table of objects has an end; what was refused there goes on once there is room. */
static void too_many_objects_are_refused(struct test *t)
{
    enum
    {
        MOST = 20000
    };
    struct rfn_event **event = calloc(MOST, sizeof *event);
    struct rfn_stream *s = test_stream(t, RFN_STREAM_NONBLOCKING), *none = NULL;
    struct rfn_device *device = NULL;
    struct rfn_graph *graph = NULL;
    enum rfn_status status = RFN_OK;
    int n = 0;
    OK(t, rfn_capture_begin(s, NULL));
    while (event && n < MOST && status == RFN_OK)
        status = rfn_event_create(t->dev, &event[n++]);
    n--;
    HOLDS(t,
          n > 10000 && status == RFN_LIMIT && !event[n] && test_line_has("event|16384"));
    REFUSED(t, rfn_stream_create(t->dev, RFN_STREAM_BLOCKING, &none), RFN_LIMIT, "16384");
    REFUSED(t, rfn_capture_end(s, &graph), RFN_LIMIT, "graph|16384");
    REFUSED(
        t,
        rfn_device_open(&(struct rfn_device_desc) { .kind = RFN_DEVICE_HOST }, &device),
        RFN_LIMIT, "device|16384");
    for (int room = 1; room < 3; room++) /* a device has two streams of its own */
    {
        OK(t, rfn_event_destroy(&event[--n]));
        REFUSED(t,
                rfn_device_open(&(struct rfn_device_desc) { .kind = RFN_DEVICE_HOST },
                                &device),
                RFN_LIMIT, "stream|16384");
    }
    HOLDS(t, !none && !graph && !device);
    OK(t, rfn_capture_end(s, &graph));
    OK(t, rfn_graph_destroy(&graph));
    while (n > 0)
        OK(t, rfn_event_destroy(&event[--n]));
    OK(t, rfn_stream_destroy(&s));
    free(event);
}

/* A host function that calls the device gets an error, whatever call it runs in. */
#define NOSY 11
static struct
{
    struct world *w;
    void *memory;
    enum rfn_status status[NOSY];
    int code[NOSY];
    int calls;
} nosy;

static void call_the_device(void *user)
{
    struct world *w = user;
    struct rfn_memory_info info;
    void *p = NULL;
    for (int i = 0; i < NOSY; i++)
    {
        nosy.status[i] =
            i == 0   ? rfn_stream_sync(STR(w))
            : i == 1 ? rfn_copy_async(STR(w), nosy.memory, nosy.memory, 0)
            : i == 2 ? rfn_set_sync(DEV(w), nosy.memory, 1, 4)
            : i == 3 ? rfn_memory_alloc(DEV(w), RFN_MEMORY_DEVICE, 16, &p)
            : i == 4 ? rfn_memory_free(DEV(w), nosy.memory)
            : i == 5 ? rfn_memory_query(DEV(w), nosy.memory, &info)
            : i == 6 ? rfn_device_sync(DEV(w))
            : i == 7 ? rfn_exec_update(EXE(w), 0, &w->topk)
            : i == 8 ? rfn_graph_destroy((struct rfn_graph **)&w->object[GRAPH])
            : i == 9 ? rfn_device_fault(DEV(w), &(struct rfn_fault) { 0 })
                     : rfn_device_close((struct rfn_device **)&w->object[DEVICE]);
        nosy.code[i] = rfn_last_code();
    }
    nosy.calls++;
}

static void host_function_that_calls_the_device_is_refused(struct test *t,
                                                           struct world *w)
{
    if (!t->host)
        return; /* CUDA may deadlock instead; its documentation forbids it */
    nosy.memory = test_device_memory(t, 64);
    for (int way = 0; way < 4; way++)
    {
        void *p = test_device_memory(t, 64);
        struct rfn_graph *graph = NULL;
        nosy.calls = 0;
        OK(t, rfn_host_call(STR(w), call_the_device, w));
        if (way == 1) /* the random schedule may run it in either */
        {
            OK(t, rfn_capture_begin(rfn_stream_per_thread(DEV(w)), NULL));
            OK(t, rfn_copy_async(rfn_stream_per_thread(DEV(w)), p, p, 64));
            OK(t, rfn_capture_end(rfn_stream_per_thread(DEV(w)), &graph));
            OK(t, rfn_graph_destroy(&graph));
        }
        if (way == 2)
            OK(t, rfn_device_sync(DEV(w)));
        OK(t, rfn_memory_free(DEV(w), p)); /* synchronises */
        HOLDS(t, nosy.calls == 1);
        for (int i = 0; i < NOSY; i++)
            harness_check(&t->h, "a host function's own call is refused",
                          nosy.status[i] == RFN_INVALID && nosy.code[i] == 800,
                          "call %d: %s, code %d", i, rfn_status_name(nosy.status[i]),
                          nosy.code[i]);
    }
    FREE(t, nosy.memory);
}

int main(int argc, char **argv)
{
    struct test t;
    test_begin(&t, "objects", &argc, argv);
    struct rfn_device *second = test_open(&t);
    struct world w = make_world(&t, t.dev), other = make_world(&t, second);
    struct rfn_device *third = test_open(&t);
    struct world gone = make_world(&t, third), trash = gone;
    end_world(&t, &trash);
    OK(&t, rfn_device_close(&third));

    struct world copy = w;
    wrong_objects_are_refused_by_name(&t, &w, &gone, &other);
    missing_outputs_are_refused(&t, &w);
    values_out_of_range_are_refused(&t, &w);
    builtin_streams_are_nobodys(&t);
    destroying_null_is_fine(&t);
    host_function_that_calls_the_device_is_refused(&t, &w);

    /* Nothing was enqueued, nothing was begun, nothing has gone. */
    struct rfn_capture_info info;
    OK(&t, rfn_device_sync(t.dev));
    HOLDS(&t, memcmp(&w, &copy, sizeof w) == 0);
    HOLDS(&t, test_all(&t, w.b, BYTES, UNTOUCHED) && test_all(&t, w.a, BYTES, 1));
    HOLDS(&t, calls_of_host_function == 0);
    OK(&t, rfn_capture_query(STR(&w), &info));
    HOLDS(&t, info.status == RFN_CAPTURE_NONE && info.id == 0);

    close_with_live_things_is_busy(&t);
    too_many_objects_are_refused(
        &t); /* last: it uses up the slots of what was destroyed */
    end_world(&t, &other);
    end_world(&t, &w);
    OK(&t, rfn_device_close(&second));
    return test_end(&t);
}
