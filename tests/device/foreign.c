/*
 * Somebody else's streams, captures and memory: every call works in them without being told,
 * what is ours stays while their graph needs it, and mistakes are named as in captures of
 * ours.
 */
#include "tests/device/somebody.h"

#define S 64
#define K 4
#define BIG (1 << 20)

/* A selection of the K best of a row, all of it in one piece of memory. */
struct pick
{
    char *memory;
    struct rfn_index_topk_args args;
};

#define PICK_BYTES (2048)

static void fill(struct test *t, struct pick *p, int32_t len)
{
    float logits[S];
    static const int32_t poison[K] = { -7, -7, -7, -7 };
    for (int i = 0; i < S; i++)
        logits[i] = (float)(i * 37 % S);
    OK(t, rfn_copy_sync(t->dev, p->memory, logits, sizeof logits));
    OK(t, rfn_copy_sync(t->dev, p->memory + 1024, &len, sizeof len));
    OK(t, rfn_copy_sync(t->dev, p->memory + 1280, poison, sizeof poison));
}

static struct pick pick_in(struct test *t, void *memory)
{
    char *m = memory;
    struct pick p = { m,
                      { .logits = rfn_tensor_of(m, RFN_F32, 1, S, 0, 0),
                        .lens = rfn_tensor_of(m + 1024, RFN_I32, 1, 0, 0, 0),
                        .positions = rfn_tensor_of(m + 1280, RFN_I32, 1, K, 0, 0) } };
    fill(t, &p, S);
    return p;
}

/* The choice is that of the first `len` scores. */
static int picked(struct test *t, const struct pick *p, int32_t len)
{
    int32_t got[K];
    int right = 1, n = 0;
    OK(t, rfn_copy_sync(t->dev, got, p->memory + 1280, sizeof got));
    for (int i = 0; i < len; i++)
    {
        int better = 0;
        for (int j = 0; j < len; j++)
            better += j * 37 % S > i * 37 % S;
        if (better < K)
            right = right && n < K && got[n++] == i;
    }
    return right && n == K;
}

static void an_imported_stream_is_as_good_as_any(struct test *t)
{
    struct rfn_stream *own = test_stream(t, RFN_STREAM_NONBLOCKING), *theirs = NULL;
    struct rfn_stream *legacy = NULL;
    void *memory = test_device_memory(t, PICK_BYTES);
    struct pick p = pick_in(t, memory);
    OK(t, rfn_stream_import(t->dev, rfn_stream_native(own), &theirs));
    HOLDS(t, rfn_stream_native(theirs) == rfn_stream_native(own));
    OK(t, rfn_index_topk(theirs, &p.args));
    OK(t, rfn_stream_sync(own));
    HOLDS(t, picked(t, &p, S));
    OK(t, rfn_stream_destroy(&theirs));
    HOLDS(t, theirs == NULL);
    OK(t, rfn_stream_sync(own)); /* it went on */

    OK(t, rfn_stream_import(t->dev, NULL, &legacy));
    HOLDS(t, rfn_stream_native(legacy) == rfn_stream_native(rfn_stream_legacy(t->dev)));
    fill(t, &p, 9);
    OK(t, rfn_index_topk(legacy, &p.args));
    OK(t, rfn_stream_sync(legacy));
    HOLDS(t, picked(t, &p, 9));
    OK(t, rfn_stream_destroy(&legacy));
    HOLDS(t, rfn_stream_native(NULL) == NULL && rfn_graph_native(NULL) == NULL &&
                 rfn_exec_native(NULL) == NULL);
    REFUSED(t, rfn_stream_import(NULL, NULL, &legacy), RFN_INVALID, "device is NULL");
    REFUSED(t, rfn_stream_import(t->dev, NULL, NULL), RFN_INVALID, "ret_stream");
    FREE(t, memory);
    OK(t, rfn_stream_destroy(&own));
}

static void a_stream_of_another_device_is_refused(struct test *t)
{
    struct rfn_stream *theirs = NULL;
    if (t->host)
    {
        struct rfn_device *other = test_open(t);
        struct rfn_stream *s = NULL;
        OK(t, rfn_stream_create(other, RFN_STREAM_NONBLOCKING, &s));
        REFUSED(t, rfn_stream_import(t->dev, rfn_stream_native(s), &theirs), RFN_INVALID,
                "stream_import|another device");
        OK(t, rfn_stream_destroy(&s));
        OK(t, rfn_device_close(&other));
        return;
    }
#if RFN_CUDA
    int devices = 0;
    cudaStream_t s = NULL;
    void *far = NULL;
    if (cudaGetDeviceCount(&devices) != cudaSuccess || devices < 2)
    {
        harness_skip(&t->h, "a_stream_of_another_device_is_refused", "one GPU");
        return;
    }
    HOLDS(t, cudaSetDevice(1) == cudaSuccess && cudaStreamCreate(&s) == cudaSuccess &&
                 cudaMalloc(&far, PICK_BYTES) == cudaSuccess &&
                 cudaSetDevice(0) == cudaSuccess);
    REFUSED(t, rfn_stream_import(t->dev, s, &theirs), RFN_INVALID,
            "stream_import|device 1|device 0");
    struct rfn_stream *own = test_stream(t, RFN_STREAM_NONBLOCKING);
    void *memory = test_device_memory(t, PICK_BYTES);
    struct pick p = pick_in(t, memory);
    p.args.lens.data = far;
    REFUSED(t, rfn_index_topk(own, &p.args), RFN_INVALID, "lens|device 1|device 0");
    REFUSED(t, rfn_memory_import(t->dev, far, 16, RFN_MEMORY_DEVICE), RFN_INVALID,
            "device 1|device 0");
    FREE(t, memory);
    OK(t, rfn_stream_destroy(&own));
    HOLDS(t, cudaSetDevice(1) == cudaSuccess && cudaStreamDestroy(s) == cudaSuccess &&
                 cudaFree(far) == cudaSuccess && cudaSetDevice(0) == cudaSuccess);
#endif
}

static void what_their_graph_touches_stays_until_it_is_gone(struct test *t)
{
    struct rfn_stream *own = test_stream(t, RFN_STREAM_NONBLOCKING), *theirs = NULL;
    void *native = rfn_stream_native(own), *graph = NULL, *exec = NULL;
    void *memory = test_device_memory(t, PICK_BYTES), *copied = test_device_memory(t, S);
    struct pick p = pick_in(t, memory);
    struct rfn_capture_info info;
    struct rfn_memory_info held;
    HOLDS(t, theirs_begin(t, native) == 0);
    OK(t, rfn_stream_import(t->dev, native, &theirs)); /* of a stream that captures */
    OK(t, rfn_capture_query(theirs, &info));
    HOLDS(t, info.status == RFN_CAPTURE_ACTIVE && info.id);
    OK(t, rfn_index_topk(theirs, &p.args));
    OK(t, rfn_set_async(theirs, copied, 7, S));
    REFUSED(t, rfn_memory_free(t->dev, memory), RFN_BUSY, "of somebody else|foreign.c");
    REFUSED(t, rfn_memory_free(t->dev, copied), RFN_BUSY, "of somebody else|foreign.c");
    HOLDS(t, theirs_end(t, native, &graph) == 0 && graph);
    REFUSED(t, rfn_memory_free(t->dev, memory), RFN_BUSY, "of somebody else");
    HOLDS(t, theirs_instantiate(t, graph, &exec) == 0);
    HOLDS(t, theirs_drop_graph(t, graph) == 0);
    REFUSED(t, rfn_memory_free(t->dev, memory), RFN_BUSY, "of somebody else");
    for (int32_t n = K; n <= S; n *= 2)
    {
        fill(t, &p, n);
        HOLDS(t, theirs_launch(t, exec, native) == 0);
        OK(t, rfn_stream_sync(theirs));
        HOLDS(t, picked(t, &p, n));
    }
    HOLDS(t, test_all(t, copied, S, 7));
    OK(t, rfn_memory_query(t->dev, memory, &held));
    HOLDS(t, held.pins > 0);
    HOLDS(t, theirs_drop_exec(t, exec) == 0);
    FREE(t, memory);
    FREE(t, copied);
    OK(t, rfn_stream_destroy(&theirs));
    OK(t, rfn_stream_destroy(&own));
}

static void a_capture_that_gives_no_graph_lets_go(struct test *t)
{
    for (int way = 0; way < 2; way++)
    {
        struct rfn_stream *own = test_stream(t, RFN_STREAM_NONBLOCKING), *theirs = NULL;
        void *native = rfn_stream_native(own), *graph = NULL;
        void *memory = test_device_memory(t, PICK_BYTES);
        struct pick p = pick_in(t, memory);
        OK(t, rfn_stream_import(t->dev, native, &theirs));
        HOLDS(t, theirs_begin(t, native) == 0);
        OK(t, rfn_index_topk(theirs, &p.args));
        if (way == 0)
        {
            HOLDS(t, theirs_query(t, native) == 900);
            REFUSED(t, rfn_memory_free(t->dev, memory), RFN_BUSY, "of somebody else");
            HOLDS(t, theirs_end(t, native, &graph) == 901 && !graph);
        }
        OK(t, rfn_stream_destroy(&theirs));
        OK(t, rfn_stream_destroy(&own)); /* the second way: while it captures */
        FREE(t, memory);
    }
}

static int no_hold(void *impl, void *stream, void (*release)(void *user), void *user)
{
    (void)impl, (void)stream;
    release(user);
    return RFN_CODE_NOMEM;
}

/* Nothing of a capture that cannot be held is enqueued, at the second call as at the first. */
static void a_capture_that_cannot_be_held_takes_nothing(struct test *t)
{
    struct rfn_stream *own = test_stream(t, RFN_STREAM_NONBLOCKING);
    const struct rfn_backend *whole = t->dev->backend;
    struct rfn_backend broken = *whole;
    void *native = rfn_stream_native(own), *graph = NULL;
    void *memory = test_device_memory(t, PICK_BYTES);
    struct pick p = pick_in(t, memory);
    broken.capture_hold = no_hold;
    HOLDS(t, theirs_begin(t, native) == 0);
    t->dev->backend = &broken;
    for (int i = 0; i < 2; i++)
        REFUSED(t, rfn_index_topk(own, &p.args), RFN_NOMEM, "cannot be followed");
    t->dev->backend = whole;
    OK(t, rfn_index_topk(own, &p.args));
    HOLDS(t, theirs_end(t, native, &graph) == 0 && graph);
    REFUSED(t, rfn_memory_free(t->dev, memory), RFN_BUSY, "of somebody else");
    HOLDS(t, theirs_drop_graph(t, graph) == 0);
    FREE(t, memory);
    OK(t, rfn_stream_destroy(&own));
}

static void their_capture_is_not_ours_to_end(struct test *t)
{
    struct rfn_stream *own = test_stream(t, RFN_STREAM_NONBLOCKING);
    void *native = rfn_stream_native(own), *graph = NULL;
    void *memory = test_device_memory(t, PICK_BYTES);
    struct pick p = pick_in(t, memory);
    struct rfn_graph *got = NULL;
    HOLDS(t, theirs_begin(t, native) == 0);
    REFUSED(t, rfn_capture_end(own, &got), RFN_INVALID, "of somebody else|where it was");
    OK(t, rfn_index_topk(own, &p.args));
    HOLDS(t, theirs_end(t, native, &graph) == 0 && graph && !got);
    HOLDS(t, theirs_drop_graph(t, graph) == 0);
    FREE(t, memory);
    OK(t, rfn_stream_destroy(&own));
}

static void a_capture_of_ours_may_end_by_another_handle(struct test *t)
{
    struct rfn_stream *own = test_stream(t, RFN_STREAM_NONBLOCKING), *theirs = NULL;
    void *memory = test_device_memory(t, PICK_BYTES);
    struct pick p = pick_in(t, memory);
    struct rfn_graph *graph = NULL;
    struct rfn_check *check = NULL;
    OK(t, rfn_check_create(t->dev, &check));
    OK(t, rfn_stream_import(t->dev, rfn_stream_native(own), &theirs));
    OK(t, rfn_capture_begin(theirs, NULL));
    OK(t, rfn_index_topk(own, &p.args));
    REFUSED(t, rfn_stream_destroy(&theirs), RFN_BUSY, "imported|foreign.c");
    OK(t, rfn_capture_end(own, &graph));
    HOLDS(t, rfn_graph_native(graph) != NULL);
    OK(t, rfn_stream_destroy(&theirs));
    OK(t, rfn_graph_destroy(&graph));
    HOLDS(t, rfn_check_count(check) == 0);
    OK(t, rfn_check_destroy(&check));
    FREE(t, memory);
    OK(t, rfn_stream_destroy(&own));
}

static void a_device_whose_launches_they_replay_stays_open(struct test *t)
{
    struct test other = { .h = t->h, .host = t->host };
    other.dev = test_open(t);
    struct rfn_stream *own = test_stream(&other, RFN_STREAM_NONBLOCKING), *theirs = NULL;
    void *memory = theirs_alloc(&other, PICK_BYTES);
    struct pick p = pick_in(&other, memory);
    void *native = rfn_stream_native(own), *graph = NULL;
    HOLDS(&other, theirs_begin(&other, native) == 0);
    OK(&other, rfn_stream_import(other.dev, native, &theirs));
    OK(&other, rfn_index_topk(theirs, &p.args));
    OK(&other, rfn_stream_destroy(&theirs)); /* in the capture, and comes back */
    OK(&other, rfn_stream_import(other.dev, native, &theirs));
    OK(&other, rfn_index_topk(theirs, &p.args));
    HOLDS(&other, theirs_end(&other, native, &graph) == 0);
    OK(&other, rfn_stream_destroy(&theirs));
    OK(&other, rfn_stream_destroy(&own));
    theirs_free(&other, memory);
    REFUSED(&other, rfn_device_close(&other.dev), RFN_BUSY, "graph of|somebody else");
    HOLDS(&other, theirs_drop_graph(&other, graph) == 0);
    OK(&other, rfn_device_close(&other.dev));
    t->h = other.h;
}

static int has(struct rfn_check *check, int32_t i, enum rfn_rule rule, int line)
{
    struct rfn_finding f;
    char text[1024];
    if (rfn_check_finding(check, i, &f) != RFN_OK)
        return 0;
    rfn_finding_text(&f, text, sizeof text);
    if (f.rule == rule && f.line == line && strstr(f.file, "device/foreign.c") &&
        strstr(text, "of somebody else"))
        return 1;
    printf("finding %d is not rule %d of line %d: %s", i, rule, line, text);
    return 0;
}

static void a_checker_follows_their_capture(struct test *t)
{
    struct rfn_stream *own = test_stream(t, RFN_STREAM_NONBLOCKING), *theirs = NULL;
    void *native = rfn_stream_native(own), *graph = NULL;
    void *memory = test_device_memory(t, PICK_BYTES);
    struct pick p = pick_in(t, memory);
    struct rfn_check *check = NULL;
    struct rfn_capture_info info;
    int32_t word = 0, *heap = malloc(sizeof *heap);
    OK(t, rfn_stream_import(t->dev, native, &theirs));
    OK(t, rfn_check_create(t->dev, &check));
    for (int round = 0; round < 2; round++)
    {
        int line;
        int32_t before = rfn_check_count(check);
        *heap = 5;
        HOLDS(t, theirs_begin(t, native) == 0);
        /* CAP002: no stream is named, and none of ours was used in the capture yet. */
        OK(t, rfn_copy_sync(t->dev, &word, memory, 4)), line = __LINE__;
        HOLDS(t, has(check, before, RFN_CAP002, line));
        OK(t, rfn_index_topk(theirs, &p.args));
        OK(t, rfn_copy_async(theirs, memory, p.memory + 1280, 8));
        HOLDS(t, rfn_check_count(check) == before + 1);
        HOLDS(t, rfn_capture_query(theirs, &info) == RFN_OK);
        HOLDS(t, rfn_check_ledger_count(check, info.id) == 2);
        OK(t, rfn_copy_async(theirs, p.memory + 64, heap, 4)), line = __LINE__;
        HOLDS(t, has(check, before + 1, RFN_CAP057, line));
        HOLDS(t, theirs_end(t, native, &graph) == 0 && graph);
        HOLDS(t, theirs_drop_graph(t, graph) == 0);
        /* It is over: */
        OK(t, rfn_copy_sync(t->dev, &word, memory, 4));
        OK(t, rfn_stream_sync(theirs));
        HOLDS(t, rfn_check_count(check) == before + 2);
        HOLDS(t, rfn_check_ledger_count(check, info.id) == 3);
    }
    /* Lost to a call that is seen here: told once it is known to be over. */
    int32_t before = rfn_check_count(check);
    int line;
    HOLDS(t, theirs_begin(t, native) == 0);
    OK(t, rfn_index_topk(theirs, &p.args));
    CAPTURE_CODE(t, rfn_stream_query(theirs), 900), line = __LINE__ + 0;
    HOLDS(t, theirs_end(t, native, &graph) == 901);
    OK(t, rfn_stream_sync(theirs));
    HOLDS(t, rfn_check_count(check) == before + 1);
    HOLDS(t, has(check, before, RFN_CAP034, line));
    /* Nobody makes a call before the checker goes. */
    HOLDS(t, theirs_begin(t, native) == 0);
    OK(t, rfn_index_topk(theirs, &p.args));
    HOLDS(t, theirs_end(t, native, &graph) == 0);
    HOLDS(t, theirs_drop_graph(t, graph) == 0);
    OK(t, rfn_check_destroy(&check));
    free(heap);
    FREE(t, memory);
    OK(t, rfn_stream_destroy(&theirs));
    OK(t, rfn_stream_destroy(&own));
}

/* The per-thread stream of the thread that asks is asked. */
static void a_checker_sees_the_end_on_a_threads_own_stream(struct test *t)
{
    struct rfn_stream *own = rfn_stream_per_thread(t->dev);
    void *native = rfn_stream_native(own), *graph = NULL;
    void *memory = test_device_memory(t, S);
    struct rfn_check *check = NULL;
    struct rfn_finding f;
    int32_t word;
    OK(t, rfn_check_create(t->dev, &check));
    HOLDS(t, theirs_begin(t, native) == 0);
    OK(t, rfn_set_async(own, memory, 1, S));
    HOLDS(t, theirs_end(t, native, &graph) == 0 && graph);
    OK(t, rfn_copy_sync(t->dev, &word, memory, sizeof word));
    OK(t, rfn_stream_sync(own));
    /* The stream is a blocking one, and that is all. */
    HOLDS(t, rfn_check_count(check) == 1);
    HOLDS(t, rfn_check_finding(check, 0, &f) == RFN_OK && f.rule == RFN_CAP013);
    HOLDS(t, theirs_drop_graph(t, graph) == 0);
    OK(t, rfn_check_destroy(&check));
    FREE(t, memory);
}

static enum rfn_status no_plan(const void *args, const struct rfn_plan_env *env,
                               struct rfn_launch *ret)
{
    (void)args, (void)env;
    ret->nodes = 0;
    return RFN_OK;
}

static void memory_of_others_is_what_the_driver_says(struct test *t)
{
    struct rfn_stream *s = test_stream(t, RFN_STREAM_NONBLOCKING);
    struct rfn_memory_info info;
    void *memory = theirs_alloc(t, PICK_BYTES);
    char *page = aligned_alloc(4096, BIG);
    int32_t len = S;
    struct pick p = pick_in(t, memory);
    OK(t, rfn_index_topk(s, &p.args));
    OK(t, rfn_stream_sync(s));
    HOLDS(t, picked(t, &p, S));
    OK(t, rfn_op_supported(t->dev, &rfn_op_index_topk, &p.args));
    p.args.lens.data = &len;
    OK(t, rfn_op_supported(t->dev, &rfn_op_index_topk, &p.args)); /* memory aside */
    struct rfn_op bare = rfn_op_index_topk;
    bare.host = t->host ? NULL : bare.host;
    bare.cuda = t->host ? no_plan : NULL;
    REFUSED(t, rfn_op_supported(t->dev, &bare, &p.args), RFN_UNSUPPORTED,
            "index_topk|no |twin");
    p.args.positions.shape[1] = 4096;
    REFUSED(t, rfn_op_supported(t->dev, &rfn_op_index_topk, &p.args), RFN_LIMIT, "4096");
    p.args.positions.shape[1] = K;
    REFUSED(t, rfn_index_topk(s, &p.args), RFN_INVALID,
            "index_topk: lens|pageable host memory|device memory is due");
    OK(t, rfn_memory_query(t->dev, page, &info));
    HOLDS(t, info.kind == RFN_MEMORY_PAGEABLE && !info.generation);
#if RFN_CUDA
    if (!t->host)
    {
        REFUSED(t, rfn_memory_import(t->dev, page, BIG, RFN_MEMORY_DEVICE), RFN_INVALID,
                "said to be device memory|pageable");
        HOLDS(t, cudaHostRegister(page, BIG, cudaHostRegisterDefault) == cudaSuccess);
        OK(t, rfn_memory_query(t->dev, page + 100, &info));
        HOLDS(t, info.kind == RFN_MEMORY_PINNED && !info.generation);
    }
#endif
    OK(t, rfn_memory_import(t->dev, page, BIG, RFN_MEMORY_PINNED));
    OK(t, rfn_memory_query(t->dev, page + 100, &info));
    HOLDS(t, info.kind == RFN_MEMORY_PINNED && info.generation && info.foreign);
    OK(t, rfn_memory_release(t->dev, page));
#if RFN_CUDA
    if (!t->host)
        HOLDS(t, cudaHostUnregister(page) == cudaSuccess);
#endif
    free(page);
    theirs_free(t, memory);
    OK(t, rfn_stream_destroy(&s));
}

/* In check mode, which these tests are in. Imported memory says it on both devices. */
static void a_graph_whose_memory_they_took_back_is_refused(struct test *t)
{
    struct rfn_stream *s = test_stream(t, RFN_STREAM_NONBLOCKING);
    struct rfn_graph *graph = NULL;
    struct rfn_exec *exec = NULL;
    void *memory = theirs_alloc(t, BIG), *other = theirs_alloc(t, BIG);
    struct pick p = pick_in(t, memory), q = pick_in(t, other);
    OK(t, rfn_capture_begin(s, &(struct rfn_capture_desc) { .name = "lent" }));
    OK(t, rfn_index_topk(s, &p.args));
    OK(t, rfn_set_async(s, (char *)memory + 4096, 1, 16));
    OK(t, rfn_capture_end(s, &graph));
    OK(t, rfn_graph_instantiate(graph, &exec));
    OK(t, rfn_graph_destroy(&graph));
    OK(t, rfn_exec_launch(exec, s));
    OK(t, rfn_stream_sync(s));
    HOLDS(t, picked(t, &p, S));
    theirs_free(t, memory);
    REFUSED(t, rfn_exec_launch(exec, s), RFN_INVALID, "\"lent\"|released");
    memory = theirs_alloc(t, BIG); /* often the same address */
    REFUSED(t, rfn_exec_launch(exec, s), RFN_INVALID, "\"lent\"|released");
    OK(t, rfn_exec_update(exec, 0, &q.args));
    REFUSED(t, rfn_exec_launch(exec, s), RFN_INVALID, "\"lent\"|released"); /* the set */
    OK(t, rfn_exec_destroy(&exec));
    theirs_free(t, memory);
    theirs_free(t, other);
    OK(t, rfn_stream_destroy(&s));
}

int main(int argc, char **argv)
{
    struct test t;
    test_begin(&t, "foreign", &argc, argv);
    an_imported_stream_is_as_good_as_any(&t);
    a_stream_of_another_device_is_refused(&t);
    what_their_graph_touches_stays_until_it_is_gone(&t);
    a_capture_that_gives_no_graph_lets_go(&t);
    a_capture_that_cannot_be_held_takes_nothing(&t);
    their_capture_is_not_ours_to_end(&t);
    a_capture_of_ours_may_end_by_another_handle(&t);
    a_device_whose_launches_they_replay_stays_open(&t);
    a_checker_follows_their_capture(&t);
    a_checker_sees_the_end_on_a_threads_own_stream(&t);
    memory_of_others_is_what_the_driver_says(&t);
    a_graph_whose_memory_they_took_back_is_refused(&t);
    return test_end(&t);
}
