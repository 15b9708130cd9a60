/*
 * A captured index_topk between copies, replayed with other scores and lengths in the
 * same buffers, against the op's host twin on host copies; what a capture bakes, what it
 * does not, updates, and replays on other streams.
 */
#include "tests/device/open.h"
#include "tests/support/rng.h"

#define T 3
#define S 96
#define K 8
#define R 2
#define W 24
#define PAGE 4
#define PAGES 40
#define REPLAYS 20

/* One set of buffers: on the device, and what the host puts in and gets out. */
struct step
{
    float *logits, *host_logits;
    int32_t *lens, *table, *request, *slots, *positions;
    int32_t *host_lens, *host_table, *host_request, *host_slots, *host_positions;
};

static struct rfn_index_topk_args args_of(float *logits, int32_t *lens, int32_t *table,
                                          int32_t *request, int32_t *slots,
                                          int32_t *positions)
{
    return (struct rfn_index_topk_args) {
        .logits = rfn_tensor_of(logits, RFN_F32, T, S, 0, 0),
        .lens = rfn_tensor_of(lens, RFN_I32, T, 0, 0, 0),
        .table = rfn_tensor_of(table, RFN_I32, R, W, 0, 0),
        .request = rfn_tensor_of(request, RFN_I32, T, 0, 0, 0),
        .slots = rfn_tensor_of(slots, RFN_I32, T, K, 0, 0),
        .positions = rfn_tensor_of(positions, RFN_I32, T, K, 0, 0),
        .page_tokens = PAGE,
        .pages = PAGES,
    };
}

static struct rfn_index_topk_args device_args(const struct step *s)
{
    return args_of(s->logits, s->lens, s->table, s->request, s->slots, s->positions);
}

static struct step make_step(struct test *t)
{
    return (struct step) {
        .logits = test_device_memory(t, T * S * 4),
        .lens = test_device_memory(t, T * 4),
        .table = test_device_memory(t, R * W * 4),
        .request = test_device_memory(t, T * 4),
        .slots = test_device_memory(t, T * K * 4),
        .positions = test_device_memory(t, T * K * 4),
        .host_logits = test_alloc(t, RFN_MEMORY_PINNED, T * S * 4),
        .host_lens = test_alloc(t, RFN_MEMORY_PINNED, T * 4),
        .host_table = test_alloc(t, RFN_MEMORY_PINNED, R * W * 4),
        .host_request = test_alloc(t, RFN_MEMORY_PINNED, T * 4),
        .host_slots = test_alloc(t, RFN_MEMORY_PINNED, T * K * 4),
        .host_positions = test_alloc(t, RFN_MEMORY_PINNED, T * K * 4),
    };
}

static void end_step(struct test *t, struct step *s)
{
    void *all[] = { s->logits,     s->lens,         s->table,       s->request,
                    s->slots,      s->positions,    s->host_logits, s->host_lens,
                    s->host_table, s->host_request, s->host_slots,  s->host_positions };
    for (int i = 0; i < 12; i++)
        OK(t, rfn_memory_free(t->dev, all[i]));
}

static void fill(struct step *s, struct rng *rng)
{
    for (int i = 0; i < T * S; i++)
        s->host_logits[i] = (float)rng_between(rng, -20, 20) * 0.25f; /* with ties */
    for (int i = 0; i < T; i++)
    {
        s->host_lens[i] = (int32_t)rng_between(rng, -1, S);
        s->host_request[i] = (int32_t)rng_below(rng, R);
    }
    for (int i = 0; i < R * W; i++)
        s->host_table[i] = (int32_t)rng_below(rng, PAGES);
    memset(s->host_slots, 0x5a, T * K * 4);
    memset(s->host_positions, 0x5a, T * K * 4);
}

/* Copies in, the op, copies out. */
static void enqueue(struct test *t, struct rfn_stream *stream, const struct step *s)
{
    struct rfn_index_topk_args args = device_args(s);
    OK(t, rfn_copy_async(stream, s->logits, s->host_logits, T * S * 4));
    OK(t, rfn_copy_async(stream, s->lens, s->host_lens, T * 4));
    OK(t, rfn_copy_async(stream, s->table, s->host_table, R * W * 4));
    OK(t, rfn_copy_async(stream, s->request, s->host_request, T * 4));
    OK(t, rfn_index_topk(stream, &args));
    memset(&args, 0xee, sizeof args); /* the struct was copied */
    OK(t, rfn_copy_async(stream, s->host_slots, s->slots, T * K * 4));
    OK(t, rfn_copy_async(stream, s->host_positions, s->positions, T * K * 4));
}

/* What the twin makes of the host's copies, called without any device. */
static int is_right(const struct step *s, int32_t page_tokens)
{
    int32_t slots[T * K], positions[T * K];
    struct rfn_host_env env = { NULL, 1 };
    struct rfn_index_topk_args args = args_of(s->host_logits, s->host_lens, s->host_table,
                                              s->host_request, slots, positions);
    args.page_tokens = page_tokens;
    rfn_op_index_topk.host(&args, &env);
    return memcmp(slots, s->host_slots, sizeof slots) == 0 &&
           memcmp(positions, s->host_positions, sizeof positions) == 0;
}

static struct rfn_exec *capture_step(struct test *t, struct rfn_stream *stream,
                                     const struct step *s)
{
    struct rfn_graph *graph = NULL;
    struct rfn_graph_info info;
    struct rfn_exec *exec = NULL;
    OK(t, rfn_capture_begin(stream, &(struct rfn_capture_desc) { .name = "step" }));
    enqueue(t, stream, s);
    OK(t, rfn_capture_end(stream, &graph));
    OK(t, rfn_graph_query(graph, &info));
    HOLDS(t, info.nodes == 7 && info.node[RFN_NODE_MEMCPY] == 6 && info.launches == 1);
    OK(t, rfn_graph_instantiate(graph, &exec));
    OK(t, rfn_graph_destroy(&graph)); /* the executable lives on */
    return exec;
}

static void replays_follow_the_buffers(struct test *t, struct rng *rng)
{
    struct rfn_stream *stream = test_stream(t, RFN_STREAM_NONBLOCKING);
    struct rfn_stream *elsewhere = test_stream(t, RFN_STREAM_BLOCKING);
    struct step s = make_step(t);
    fill(&s, rng);
    enqueue(t, stream, &s); /* eager */
    OK(t, rfn_stream_sync(stream));
    HOLDS(t, is_right(&s, PAGE));
    memset(s.host_slots, 0x5a, T * K * 4);
    struct rfn_exec *exec = capture_step(t, stream, &s);
    OK(t, rfn_stream_sync(stream));
    HOLDS(t, s.host_slots[0] == 0x5a5a5a5a); /* captured, not run */
    for (int i = 0; i < REPLAYS; i++)
    {
        struct rfn_stream *on = i % 3 == 2   ? rfn_stream_per_thread(t->dev)
                                : i % 3 == 1 ? elsewhere
                                             : stream;
        fill(&s, rng);
        OK(t, rfn_exec_launch(exec, on));
        OK(t, rfn_stream_sync(on));
        harness_check(&t->h, "a replay is what the twin makes of the buffers",
                      is_right(&s, PAGE), "replay %d", i);
    }
    OK(t, rfn_exec_destroy(&exec));
    end_step(t, &s);
    OK(t, rfn_stream_destroy(&stream));
    OK(t, rfn_stream_destroy(&elsewhere));
}

static void scalars_are_baked_until_updated(struct test *t, struct rng *rng)
{
    struct rfn_stream *stream = test_stream(t, RFN_STREAM_NONBLOCKING);
    struct step s = make_step(t), other = make_step(t);
    struct rfn_exec *exec = capture_step(t, stream, &s);
    struct rfn_index_topk_args args = device_args(&s);
    args.page_tokens = 7; /* nobody is told */
    fill(&s, rng);
    OK(t, rfn_exec_launch(exec, stream));
    OK(t, rfn_stream_sync(stream));
    HOLDS(t, is_right(&s, PAGE));

    args.page_tokens = 8; /* W pages of 8 tokens hold S */
    OK(t, rfn_exec_update(exec, 0, &args));
    args.page_tokens = 3; /* the struct was copied */
    fill(&s, rng);
    OK(t, rfn_exec_launch(exec, stream));
    OK(t, rfn_stream_sync(stream));
    HOLDS(t, is_right(&s, 8));

    /* A launch that was made before an update runs with what it had. */
    fill(&s, rng);
    OK(t, rfn_exec_launch(exec, stream));
    args.page_tokens = 5;
    OK(t, rfn_exec_update(exec, 0, &args));
    OK(t, rfn_stream_sync(stream));
    HOLDS(t, is_right(&s, 8));
    OK(t, rfn_exec_launch(exec, stream));
    OK(t, rfn_stream_sync(stream));
    HOLDS(t, is_right(&s, 5));

    /* Other operands: the op reads the other scores, the copies stay. */
    fill(&other, rng);
    for (int i = 0; i < T; i++)
        s.host_lens[i] = S; /* long enough that the scores decide */
    OK(t, rfn_copy_sync(t->dev, other.logits, other.host_logits, T * S * 4));
    args = device_args(&s);
    args.logits.data = other.logits;
    OK(t, rfn_exec_update(exec, 0, &args));
    OK(t, rfn_exec_launch(exec, stream));
    OK(t, rfn_stream_sync(stream));
    HOLDS(t, !is_right(&s, PAGE));
    memcpy(s.host_logits, other.host_logits, T * S * 4);
    HOLDS(t, is_right(&s, PAGE));
    OK(t, rfn_exec_destroy(&exec));
    end_step(t, &s);
    end_step(t, &other);
    OK(t, rfn_stream_destroy(&stream));
}

static void pageable_memory_is_read_again_at_every_replay(struct test *t)
{
    struct rfn_stream *stream = test_stream(t, RFN_STREAM_NONBLOCKING);
    unsigned char *in = malloc(64), *out = malloc(64);
    unsigned char *d = test_device_memory(t, 64);
    struct rfn_graph *graph = NULL;
    struct rfn_exec *exec = NULL;
    memset(in, 1, 64);
    memset(out, 0, 64);
    OK(t, rfn_capture_begin(stream, NULL));
    OK(t, rfn_copy_async(stream, d, in, 64));
    OK(t, rfn_copy_async(stream, out, d, 64));
    OK(t, rfn_capture_end(stream, &graph));
    OK(t, rfn_graph_instantiate(graph, &exec));
    HOLDS(t, out[0] == 0);
    for (int i = 2; i < 6; i++)
    {
        memset(in, i, 64); /* not the 1 that stood there in the capture */
        OK(t, rfn_exec_launch(exec, stream));
        OK(t, rfn_stream_sync(stream));
        HOLDS(t, out[0] == i && out[63] == i);
    }
    OK(t, rfn_exec_destroy(&exec));
    OK(t, rfn_graph_destroy(&graph));
    FREE(t, d);
    free(in);
    free(out);
    OK(t, rfn_stream_destroy(&stream));
}

static void two_executables_are_in_flight_at_once(struct test *t, struct rng *rng)
{
    struct rfn_stream *one = test_stream(t, RFN_STREAM_NONBLOCKING);
    struct rfn_stream *two = test_stream(t, RFN_STREAM_NONBLOCKING);
    struct step a = make_step(t), b = make_step(t);
    struct rfn_exec *first = capture_step(t, one, &a), *second = capture_step(t, one, &b);
    for (int i = 0; i < 6; i++)
    {
        fill(&a, rng);
        fill(&b, rng);
        OK(t, rfn_exec_launch(first, one));
        OK(t, rfn_exec_launch(second, two));
        OK(t, rfn_stream_sync(i & 1 ? two : one));
        HOLDS(t, i & 1 ? is_right(&b, PAGE) : is_right(&a, PAGE));
        OK(t, rfn_stream_sync(i & 1 ? one : two));
        HOLDS(t, is_right(&a, PAGE) && is_right(&b, PAGE));
    }
    /* One executable on two streams: its launches run one after the other. */
    fill(&a, rng);
    OK(t, rfn_exec_launch(first, one));
    OK(t, rfn_exec_launch(first, two));
    OK(t, rfn_exec_launch(first, one));
    OK(t, rfn_exec_destroy(&first)); /* waits */
    OK(t, rfn_exec_destroy(&second));
    OK(t, rfn_device_sync(t->dev));
    HOLDS(t, is_right(&a, PAGE));
    end_step(t, &a);
    end_step(t, &b);
    OK(t, rfn_stream_destroy(&one));
    OK(t, rfn_stream_destroy(&two));
}

static void count(void *user)
{
    ++*(int *)user;
}

static void host_functions_come_back_at_every_replay(struct test *t)
{
    struct rfn_stream *stream = test_stream(t, RFN_STREAM_NONBLOCKING);
    struct rfn_graph *graph = NULL;
    struct rfn_exec *exec = NULL;
    static int calls;
    OK(t, rfn_capture_begin(stream, NULL));
    OK(t, rfn_host_call(stream, count, &calls));
    OK(t, rfn_host_call(stream, count, &calls));
    OK(t, rfn_capture_end(stream, &graph));
    OK(t, rfn_graph_instantiate(graph, &exec));
    for (int i = 0; i < 4; i++)
        OK(t, rfn_exec_launch(exec, stream));
    OK(t, rfn_stream_sync(stream));
    HOLDS(t, calls == 8);
    OK(t, rfn_exec_launch(exec, stream));
    OK(t, rfn_stream_destroy(&stream)); /* enqueued work still runs */
    OK(t, rfn_exec_destroy(&exec));
    HOLDS(t, calls == 10);
    OK(t, rfn_graph_destroy(&graph));
}

int main(int argc, char **argv)
{
    struct test t;
    test_begin(&t, "replay", &argc, argv);
    struct rng rng = rng_of(t.h.seed);
    replays_follow_the_buffers(&t, &rng);
    scalars_are_baked_until_updated(&t, &rng);
    pageable_memory_is_read_again_at_every_replay(&t);
    two_executables_are_in_flight_at_once(&t, &rng);
    host_functions_come_back_at_every_replay(&t);
    return test_end(&t);
}
