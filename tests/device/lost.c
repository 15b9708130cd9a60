/*
 * A lost device. On cuda a kernel writes to memory that was unmapped behind the library's
 * back; on the host, where no kernel can do that, the front end is told so. Whoever looks
 * first is told the cause, every later call repeats it, and everything can be destroyed.
 * A process has one try: each way to look first is a child of its own.
 */
#include "tests/device/ladder.h"

#include "runtime/object.h"

#include <stdatomic.h>
#include <sys/wait.h>
#include <unistd.h>

#define BYTES ((int64_t)64 << 20) /* alone in its mapping */

struct lost
{
    struct test *t;
    struct world w;
    struct rfn_ladder *ladder;
    struct rfn_check *check;
    struct rfn_stream *stream, *capturing;
    struct rfn_event *event;
    struct rfn_graph *graph;
    struct rfn_exec *exec, *bad;
    int32_t *pinned;
    void *small, *victim;
    int32_t imported[1024];
    struct rfn_index_topk_args good_args, bad_args;
    struct plan plan;
};

static struct rfn_exec *exec_of(struct lost *l, const struct rfn_index_topk_args *args,
                                struct rfn_graph **ret_graph)
{
    struct test *t = l->t;
    struct rfn_exec *exec = NULL;
    OK(t, rfn_capture_begin(l->stream, NULL));
    OK(t, rfn_index_topk(l->stream, args));
    OK(t, rfn_capture_end(l->stream, ret_graph));
    OK(t, rfn_graph_instantiate(*ret_graph, &exec));
    return exec;
}

static void everything_is_made(struct lost *l, struct test *t)
{
    struct rfn_graph *graph = NULL;
    *l = (struct lost) { .t = t };
    world_open(&l->w, t, REQUESTS, 1);
    plan_make(&l->w, &l->plan, 3, LONG, 1);
    l->stream = test_stream(t, RFN_STREAM_NONBLOCKING);
    l->capturing = test_stream(t, RFN_STREAM_NONBLOCKING);
    l->event = test_event(t);
    l->pinned = test_alloc(t, RFN_MEMORY_PINNED, 4096);
    l->small = test_device_memory(t, 4096);
    l->victim = test_device_memory(t, BYTES);
    OK(t, rfn_memory_import(t->dev, l->imported, sizeof l->imported, RFN_MEMORY_PINNED));
    OK(t, rfn_set_sync(t->dev, l->small, 0, 4096));
    l->good_args = (struct rfn_index_topk_args) {
        .logits = rfn_tensor_of(l->small, RFN_F32, 1, 64, 0, 0),
        .lens = rfn_tensor_of((char *)l->small + 1024, RFN_I32, 1, 0, 0, 0),
        .positions = rfn_tensor_of((char *)l->small + 2048, RFN_I32, 1, 4, 0, 0),
    };
    l->bad_args = l->good_args;
    l->bad_args.positions.data = l->victim;
    l->ladder = ladder_of(&l->w, NULL);
    OK(t, rfn_ladder_prepare(l->ladder, 4, 0));
    OK(t, rfn_ladder_replay(l->ladder, l->stream, &l->plan.step, NULL));
    l->bad = exec_of(l, &l->bad_args, &graph);
    OK(t, rfn_graph_destroy(&graph));
    l->exec = exec_of(l, &l->good_args, &l->graph);
    OK(t, rfn_event_record(l->event, l->stream, 0));
    OK(t, rfn_exec_launch(l->exec, l->stream));
    OK(t, rfn_device_sync(t->dev));
    if (!t->host)
        HOLDS(t, t->dev->backend->memory_free(t->dev->impl, RFN_MEMORY_DEVICE, l->victim,
                                              BYTES) == 0);
    OK(t, rfn_check_create(t->dev, &l->check));
    OK(t, rfn_capture_begin(l->capturing, &(struct rfn_capture_desc) {
                                              RFN_CAPTURE_RELAXED, "left open" }));
    OK(t, rfn_set_async(l->capturing, l->small, 0, 16));
    OK(t, rfn_capture_begin(
              rfn_stream_per_thread(t->dev),
              &(struct rfn_capture_desc) { RFN_CAPTURE_RELAXED, "and another" }));
}

/* ---- who looks first --------------------------------------------------------------- */

enum first
{
    QUERY,
    DEVICE_QUERY,
    SYNC,
    EXEC_DESTROY,
    MEMORY_FREE,
    LADDER_DESTROY,
    WAYS
};
static const char *const way_name[WAYS] = { "stream_query", "device_query",
                                            "stream_sync",  "exec_destroy",
                                            "memory_free",  "ladder_destroy" };

static enum rfn_status look(struct lost *l, enum first way)
{
    struct rfn_device *dev = l->t->dev;
    enum rfn_capture_mode mode = RFN_CAPTURE_RELAXED; /* captures are open */
    enum rfn_status status = RFN_NOT_READY;
    struct rfn_device_info info;
    OK(l->t, rfn_thread_mode_exchange(dev, &mode));
    switch (way)
    {
    case QUERY:
        while (status == RFN_NOT_READY)
            status = rfn_stream_query(l->stream);
        break;
    case DEVICE_QUERY: /* waits for nothing */
        status = RFN_OK;
        for (int i = 0; status == RFN_OK && i < 1000000; i++)
            status = rfn_device_query(dev, &info);
        break;
    case SYNC:
        status = rfn_stream_sync(l->stream);
        break;
    case EXEC_DESTROY:
        status = rfn_exec_destroy(&l->bad);
        HOLDS(l->t, !l->bad);
        break;
    case MEMORY_FREE:
        status = rfn_memory_free(dev, l->pinned);
        l->pinned = NULL;
        break;
    default:
        break;
    }
    return status;
}

static void leave_captures(struct lost *l)
{
    struct rfn_graph *graph = NULL;
    OK(l->t, rfn_capture_end(rfn_stream_per_thread(l->t->dev), &graph));
    OK(l->t, rfn_graph_destroy(&graph));
    OK(l->t, rfn_stream_destroy(&l->capturing));
}

/* The first cause: what the call was, the driver's number, and what was launched last. */
static void the_first_to_look_is_told(struct lost *l, enum first way)
{
    struct test *t = l->t;
    int in_graph = way == EXEC_DESTROY || way == SYNC;
    char words[160];
    if (t->host)
    {
        snprintf(t->dev->first_cause, sizeof t->dev->first_cause, "stream_query: 700");
        atomic_store(&t->dev->lost, 700);
        return;
    }
    if (way == LADDER_DESTROY)
        leave_captures(l);
    if (in_graph)
        OK(t, rfn_exec_launch(l->bad, l->stream));
    else
        OK(t, rfn_index_topk(l->stream, &l->bad_args));
    if (way == LADDER_DESTROY)
    {
        /* May see it already; if not, there is a replay to wait for. */
        rfn_ladder_replay(l->ladder, l->stream, &l->plan.step, NULL);
        OK(t, rfn_ladder_destroy(&l->ladder));
        OK(t, rfn_attention_destroy(&l->w.attention));
        HOLDS(t, atomic_load(&t->dev->lost) == 700);
        return;
    }
    snprintf(words, sizeof words, "%s|700", way_name[way]);
    test_status(t, way_name[way], __LINE__, look(l, way), RFN_DEVICE, 700, words);
    HOLDS(t, atomic_load(&t->dev->lost) == 700);
    harness_check(&t->h, "the cause names what was launched last",
                  strstr(t->dev->first_cause,
                         in_graph ? "graph of capture" : "last launched: index_topk") !=
                      NULL,
                  "%s", t->dev->first_cause);
    printf("  %s\n", t->dev->first_cause);
}

#define LOST(t, call, words)                                                             \
    test_status((t), #call, __LINE__, (call), RFN_DEVICE, 700, (words))

static void every_later_call_repeats_it(struct lost *l, const char *cause)
{
    struct test *t = l->t;
    struct rfn_device *dev = t->dev;
    char host[16];
    void *p = NULL;
    float ms;
    struct rfn_stream *s = NULL;
    struct rfn_event *e = NULL;
    struct rfn_graph *g = NULL;
    struct rfn_exec *x = NULL;
    struct rfn_device_info info;
    struct rfn_memory_info memory;
    struct rfn_graph_info graph;
    struct rfn_capture_info capture;
    struct rfn_fault fault;
    struct rfn_bucket bucket = { 1, 1, 0 };
    enum rfn_capture_mode mode = RFN_CAPTURE_RELAXED;
    LOST(t, rfn_device_query(dev, &info), cause);
    LOST(t, rfn_memory_query(dev, l->small, &memory), cause);
    LOST(t, rfn_op_supported(dev, &rfn_op_index_topk, &l->good_args), cause);
    LOST(t, rfn_device_sync(dev), cause);
    LOST(t, rfn_device_fault(dev, &fault), cause);
    LOST(t, rfn_thread_mode_exchange(dev, &mode), cause);
    LOST(t, rfn_memory_alloc(dev, RFN_MEMORY_DEVICE, 16, &p), cause);
    LOST(t, rfn_memory_import(dev, host, sizeof host, RFN_MEMORY_PINNED), cause);
    LOST(t, rfn_stream_create(dev, RFN_STREAM_BLOCKING, &s), cause);
    LOST(t, rfn_stream_sync(l->stream), cause);
    LOST(t, rfn_stream_query(l->stream), cause);
    LOST(t, rfn_stream_wait(l->stream, l->event, 0), cause);
    LOST(t, rfn_event_create(dev, &e), cause);
    LOST(t, rfn_event_record(l->event, l->stream, 0), cause);
    LOST(t, rfn_event_sync(l->event), cause);
    LOST(t, rfn_event_query(l->event), cause);
    LOST(t, rfn_event_elapsed(l->event, l->event, &ms), cause);
    LOST(t, rfn_copy_sync(dev, host, l->small, 16), cause);
    LOST(t, rfn_copy_async(l->stream, l->small, host, 16), cause);
    LOST(t, rfn_set_sync(dev, l->small, 0, 16), cause);
    LOST(t, rfn_set_async(l->stream, l->small, 0, 16), cause);
    LOST(t, rfn_index_topk(l->stream, &l->good_args), cause);
    LOST(t, rfn_capture_begin(l->stream, NULL), cause);
    LOST(t, rfn_capture_end(l->capturing, &g), cause);
    LOST(t, rfn_capture_query(l->capturing, &capture), cause);
    LOST(t, rfn_graph_query(l->graph, &graph), cause);
    LOST(t, rfn_graph_instantiate(l->graph, &x), cause);
    LOST(t, rfn_exec_launch(l->exec, l->stream), cause);
    LOST(t, rfn_exec_upload(l->exec, l->stream), cause);
    LOST(t, rfn_exec_update(l->exec, 0, &l->good_args), cause);
    LOST(t, rfn_attention_plan(l->w.attention, l->stream, &l->plan.step, &bucket), cause);
    LOST(t, rfn_attention_update(l->w.attention, l->stream, &bucket), cause);
    LOST(t, rfn_attention_forward(l->w.attention, l->stream, 0, &bucket), cause);
    LOST(t, rfn_ladder_prepare(l->ladder, 1, 0), cause);
    LOST(t, rfn_ladder_replay(l->ladder, l->stream, &l->plan.step, NULL), cause);
    HOLDS(t, !p && !s && !e && !g && !x);
}

static void everything_can_be_destroyed(struct lost *l)
{
    struct test *t = l->t;
    REFUSED(t, rfn_device_close(&t->dev), RFN_BUSY, "1 graphs");
    OK(t, rfn_ladder_destroy(&l->ladder));
    OK(t, rfn_exec_destroy(&l->bad));
    OK(t, rfn_exec_destroy(&l->exec));
    OK(t, rfn_graph_destroy(&l->graph));
    OK(t, rfn_stream_destroy(&l->capturing)); /* takes its capture along */
    OK(t, rfn_stream_destroy(&l->stream));
    OK(t, rfn_event_destroy(&l->event));
    OK(t, rfn_memory_release(t->dev, l->imported));
    OK(t, rfn_memory_free(t->dev, l->pinned));
    FREE(t, l->small);
    FREE(t, l->victim);
    world_close(&l->w);
    OK(t, rfn_check_destroy(&l->check));
    OK(t, rfn_device_close(&t->dev));
    HOLDS(t, !t->dev);
}

static int run(enum first way, int *argc, char **argv)
{
    struct test t;
    struct lost l;
    char cause[400];
    test_begin(&t, "lost", argc, argv);
    printf("  %s\n", t.host ? "host" : way_name[way]);
    everything_is_made(&l, &t);
    the_first_to_look_is_told(&l, way);
    snprintf(cause, sizeof cause, "lost since|%.100s", t.dev->first_cause);
    if (way != LADDER_DESTROY)
        every_later_call_repeats_it(&l, cause);
    everything_can_be_destroyed(&l);
    return harness_end(&t.h);
}

int main(int argc, char **argv)
{
    const char *which = getenv("RFN_TEST_DEVICE");
    int ways = which && strcmp(which, "cuda") == 0 ? WAYS : 1, skipped = 0, failed = 0;
    for (int way = 0; way < ways; way++)
    {
        int status = 0;
        fflush(stdout);
        pid_t child = fork(); /* before CUDA starts */
        if (child == 0)
            exit(run((enum first)way, &argc, argv));
        if (child < 0 || waitpid(child, &status, 0) != child)
            return 1;
        int code = WIFEXITED(status) ? WEXITSTATUS(status) : 1;
        if (!WIFEXITED(status))
            printf("FAIL %s ended by signal %d\n", way_name[way], WTERMSIG(status));
        skipped += code == 77;
        failed += code != 0 && code != 77;
    }
    return failed ? 1 : skipped ? 77 : 0;
}
