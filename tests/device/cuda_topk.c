/*
 * index_topk on a GPU against its host twin, bit for bit: launched, captured and replayed
 * with other lengths and scores in the same buffers, updated, with bad pages in check mode;
 * then the time of a replay. Needs nothing but the library.
 *
 *     cuda_topk [--seed N] [result.json]
 *
 * Exit code 77 where no CUDA device is.
 */
#define RFN_NO_SITES
#include "tests/support/rng.h"

#include <math.h>
#include <refrain/device.h>
#include <refrain/ops.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROWS 30
#define REQUESTS 5
#define PAGE_TOKENS 64
#define PAD 3 /* elements between rows: rows begin on any 4-byte boundary */
#define ROUNDS 4
#define MUST(call) must((call), #call, __LINE__)

static struct rfn_device *device;
static struct rfn_stream *stream;
static uint64_t seed = 1;

static void must(enum rfn_status status, const char *call, int line)
{
    if (status == RFN_OK)
        return;
    fprintf(stderr, "line %d: %s: %s: %s\n", line, call, rfn_status_name(status),
            rfn_last_error());
    exit(1);
}

/* ---- buffers that are on both sides ---------------------------------------------- */

struct buffer
{
    void *host;
    void *device;
    int64_t bytes;
};

static struct buffer buffer_of(int64_t bytes)
{
    struct buffer b = { .host = calloc(1, (size_t)bytes), .bytes = bytes };
    if (!b.host)
        exit(1);
    MUST(rfn_memory_alloc(device, RFN_MEMORY_DEVICE, bytes, &b.device));
    return b;
}

static void buffer_free(struct buffer *b)
{
    MUST(rfn_memory_free(device, b->device));
    free(b->host);
}

static void upload(const struct buffer *b)
{
    MUST(rfn_copy_sync(device, b->device, b->host, b->bytes));
}

/* ---- one shape ------------------------------------------------------------------- */

struct shape
{
    int64_t S;
    int64_t K;
    int64_t W;
    int64_t pages;
    struct buffer logits, lens, live, table, request, slots, positions;
};

static struct shape shape_of(int64_t rows, int64_t S, int64_t K)
{
    struct shape s = { .S = S, .K = K };
    s.W = (S + PAGE_TOKENS - 1) / PAGE_TOKENS;
    s.pages = REQUESTS * s.W + 1;
    s.logits = buffer_of(4 * rows * (S + PAD));
    s.lens = buffer_of(4 * rows);
    s.live = buffer_of(4);
    s.table = buffer_of(4 * REQUESTS * (s.W + 1));
    s.request = buffer_of(4 * rows);
    s.slots = buffer_of(4 * rows * (K + 1));
    s.positions = buffer_of(4 * rows * K);
    return s;
}

static void shape_free(struct shape *s)
{
    struct buffer *all[] = { &s->logits,  &s->lens,  &s->live,     &s->table,
                             &s->request, &s->slots, &s->positions };
    for (int i = 0; i < 7; i++)
        buffer_free(all[i]);
}

static struct rfn_tensor view(void *data, enum rfn_dtype dtype, int64_t rows,
                              int64_t width, int64_t stride)
{
    struct rfn_tensor v = rfn_tensor_of(data, dtype, rows, width, 0, 0);
    if (width)
        v.stride[0] = stride;
    return v;
}

/* `which`: bit 0 slots, bit 1 positions. */
static struct rfn_index_topk_args args_of(const struct shape *s, int on_device,
                                          int64_t rows, int which, int live)
{
#define SIDE(b) (on_device ? s->b.device : s->b.host)
    struct rfn_index_topk_args a = {
        .logits = view(SIDE(logits), RFN_F32, rows, s->S, s->S + PAD),
        .lens = view(SIDE(lens), RFN_I32, rows, 0, 0),
        .page_tokens = PAGE_TOKENS,
        .pages = s->pages,
    };
    if (live)
        a.live = view(SIDE(live), RFN_I32, 1, 0, 0);
    if (which & 1)
    {
        a.table = view(SIDE(table), RFN_I32, REQUESTS, s->W, s->W + 1);
        a.request = view(SIDE(request), RFN_I32, rows, 0, 0);
        a.slots = view(SIDE(slots), RFN_I32, rows, s->K, s->K + 1);
    }
    if (which & 2)
        a.positions = view(SIDE(positions), RFN_I32, rows, s->K, s->K);
    return a;
#undef SIDE
}

/* ---- hard rows ------------------------------------------------------------------- */

enum pattern
{
    NORMAL,
    ALL_EQUAL,
    TWO_VALUED,
    ONE_HALF_BIN, /* equal when rounded to fp16 */
    ZEROS,        /* -0 and +0 */
    INFINITIES,
    NANS,
    ASCENDING,
    DESCENDING,
    MANY_TIES, /* more than 16384 on the threshold, some above */
    DENORMALS,
    ANY_BITS,
    PATTERNS
};

static const char *const pattern_name[PATTERNS] = {
    "normal", "all equal", "two-valued", "one fp16 bin", "zeros",     "infinities",
    "nans",   "ascending", "descending", "many ties",    "denormals", "any bits",
};

static float from_bits(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, 4);
    return x;
}

static float value(enum pattern p, struct rng *r, int64_t s, int64_t S)
{
    uint64_t u = rng_u64(r);
    float n = rng_normal(r);
    switch (p)
    {
    case ALL_EQUAL:
        return -1.5f;
    case TWO_VALUED:
        return u & 1 ? 2.0f : -3.0f;
    case ONE_HALF_BIN:
        return 1.0f + (float)(u % 4096) * 0x1p-23f;
    case ZEROS:
        return u % 8 == 0 ? n : u & 8 ? -0.0f : 0.0f;
    case INFINITIES:
        return u % 4 == 0 ? -INFINITY : u % 4 == 1 ? INFINITY : n;
    case NANS:
        return u % 4 ? n
                     : from_bits(0x7f800001u | (uint32_t)u << 31 | (uint32_t)(u >> 20));
    case ASCENDING:
        return (float)s - (float)S / 2;
    case DESCENDING:
        return (float)S / 2 - (float)s;
    case MANY_TIES:
        return u % 1024 == 0 ? 1.0f + n * n : u % 4 ? 0.5f : -n * n;
    case DENORMALS:
        return from_bits((uint32_t)u & 0x807fffffu);
    case ANY_BITS:
        return from_bits((uint32_t)u);
    default:
        return n;
    }
}

/* Bad columns (past lens) hold +inf, which must not be seen. */
static void fill(struct shape *s, int round, int bad_pages)
{
    struct rng r =
        rng_of(seed ^ (uint64_t)(round + 1) << 32 ^ (uint64_t)(s->S * 4096 + s->K));
    int64_t S = s->S, K = s->K;
    int64_t lens[] = { S, 0, 1, K - 1, K, K + 1, -7, S / 2 + 1, S - 1, S + 9 };
    for (int64_t t = 0; t < ROWS; t++)
    {
        enum pattern p = (enum pattern)((t + round * 5) % PATTERNS);
        int64_t L = round == 0 || t < 3 ? S : lens[rng_below(&r, 10)];
        ((int32_t *)s->lens.host)[t] = (int32_t)L;
        float *row = (float *)s->logits.host + t * (S + PAD);
        for (int64_t c = 0; c < S + PAD; c++)
            row[c] = c < L && c < S ? value(p, &r, c, S) : INFINITY;
        ((int32_t *)s->request.host)[t] = (int32_t)rng_below(&r, REQUESTS);
    }
    for (int64_t i = 0; i < REQUESTS * (s->W + 1); i++)
        ((int32_t *)s->table.host)[i] = (int32_t)rng_below(&r, s->pages);
    if (bad_pages)
    {
        ((int32_t *)s->request.host)[0] = REQUESTS;
        ((int32_t *)s->request.host)[1] = -1;
        ((int32_t *)s->request.host)[2] = 0;
        for (int64_t i = 0; i < s->W; i += 2)
            ((int32_t *)s->table.host)[i] = i % 4 ? -5 : (int32_t)s->pages;
    }
    *(int32_t *)s->live.host = round == 2 ? ROWS - 2 : ROWS + 1;
}

static void upload_all(const struct shape *s)
{
    memset(s->slots.host, 0x5e, (size_t)s->slots.bytes);
    memset(s->positions.host, 0x5e, (size_t)s->positions.bytes);
    upload(&s->logits);
    upload(&s->lens);
    upload(&s->live);
    upload(&s->table);
    upload(&s->request);
    upload(&s->slots);
    upload(&s->positions);
    /* A copy from pageable memory may return before the bytes have arrived. */
    MUST(rfn_device_sync(device));
}

/* ---- comparing ------------------------------------------------------------------- */

static int cases;
static int wrong;

static void compare_one(const struct shape *s, const struct buffer *b, int64_t stride,
                        const char *what, int round, const char *output)
{
    int32_t *got = malloc((size_t)b->bytes);
    if (!got)
        exit(1);
    MUST(rfn_copy_sync(device, got, b->device, b->bytes));
    cases++;
    for (int64_t i = 0; i < b->bytes / 4; i++)
    {
        if (got[i] == ((int32_t *)b->host)[i])
            continue;
        int64_t t = i / stride;
        fprintf(
            stderr,
            "%s: S = %lld, K = %lld, round %d, row %lld (%s, L = %d): %s[%lld] is %d, "
            "the host twin has %d\n",
            what, (long long)s->S, (long long)s->K, round, (long long)t,
            pattern_name[(t + round * 5) % PATTERNS], ((int32_t *)s->lens.host)[t],
            output, (long long)(i % stride), got[i], ((int32_t *)b->host)[i]);
        wrong++;
        break;
    }
    free(got);
}

/* Runs the host twin on the host's side and compares whole buffers, padding included. */
static void compare(struct shape *s, int which, int live, const char *what, int round,
                    struct rfn_fault *fault)
{
    struct rfn_index_topk_args a = args_of(s, 0, ROWS, which, live);
    struct rfn_host_env env = { .fault = fault, .threads = 8 };
    memset(s->slots.host, 0x5e, (size_t)s->slots.bytes);
    memset(s->positions.host, 0x5e, (size_t)s->positions.bytes);
    rfn_op_index_topk.host(&a, &env);
    MUST(rfn_device_sync(device));
    compare_one(s, &s->slots, s->K + 1, what, round, "slots");
    compare_one(s, &s->positions, s->K, what, round, "positions");
}

static struct rfn_graph *capture(const struct rfn_index_topk_args *a, int times)
{
    struct rfn_graph *graph = NULL;
    MUST(rfn_capture_begin(stream, NULL));
    for (int i = 0; i < times; i++)
        MUST(rfn_index_topk(stream, a));
    MUST(rfn_capture_end(stream, &graph));
    return graph;
}

static void check_shape(int64_t S, int64_t K)
{
    struct shape s = shape_of(ROWS, S, K);
    struct rfn_index_topk_args a = args_of(&s, 1, ROWS, 3, 1);
    struct rfn_index_topk_args slots_only = args_of(&s, 1, ROWS, 1, 0);
    struct rfn_exec *exec = NULL;

    fill(&s, 0, 0);
    upload_all(&s);
    struct rfn_graph *graph = capture(&a, 1);
    struct rfn_graph_info info;
    MUST(rfn_graph_query(graph, &info));
    if (info.nodes != 1 || info.node[RFN_NODE_KERNEL] != 1)
    {
        fprintf(stderr, "the graph has %d nodes, %d kernels\n", info.nodes,
                info.node[RFN_NODE_KERNEL]);
        wrong++;
    }
    MUST(rfn_graph_instantiate(graph, &exec));
    MUST(rfn_graph_destroy(&graph)); /* the executable lives on, and can be updated */
    for (int round = 0; round < ROUNDS; round++)
    {
        fill(&s, round, 0);
        upload_all(&s);
        MUST(rfn_index_topk(stream, &a));
        compare(&s, 3, 1, "launch", round, NULL);
        upload_all(&s);
        MUST(rfn_exec_launch(exec, stream));
        compare(&s, 3, 1, "replay", round, NULL);
    }
    upload_all(&s);
    MUST(rfn_exec_update(exec, 0, &slots_only));
    MUST(rfn_exec_launch(exec, stream));
    compare(&s, 1, 0, "updated replay", ROUNDS - 1, NULL);
    MUST(rfn_exec_destroy(&exec));
    shape_free(&s);
}

/* A device of its own, in check mode. */
static void check_bad_pages(void)
{
    struct rfn_device *kept = device;
    struct rfn_stream *kept_stream = stream;
    struct rfn_device_desc desc = { .kind = RFN_DEVICE_CUDA, .check = 1 };
    MUST(rfn_device_open(&desc, &device));
    MUST(rfn_stream_create(device, RFN_STREAM_NONBLOCKING, &stream));
    struct shape s = shape_of(ROWS, 8192, 512);
    struct rfn_index_topk_args a = args_of(&s, 1, ROWS, 3, 1);
    struct rfn_fault expected = { 0 }, seen = { 0 };
    fill(&s, 1, 1);
    upload_all(&s);
    MUST(rfn_index_topk(stream, &a));
    compare(&s, 3, 1, "bad pages", 1, &expected);
    MUST(rfn_device_fault(device, &seen));
    cases++;
    if (!seen.op || !seen.operand || strcmp(seen.op, "index_topk") != 0 ||
        seen.count != expected.count)
    {
        fprintf(stderr, "fault: op %s, %lld bad values; the host twin met %lld\n",
                seen.op ? seen.op : "none", (long long)seen.count,
                (long long)expected.count);
        wrong++;
    }
    else
        printf(
            "bad pages: %lld noted, one of them %s of %s, row %lld, column %lld: %lld\n",
            (long long)seen.count, seen.operand, seen.op, (long long)seen.row,
            (long long)seen.column, (long long)seen.value);
    shape_free(&s);
    MUST(rfn_stream_destroy(&stream));
    MUST(rfn_device_close(&device));
    device = kept;
    stream = kept_stream;
}

/* ---- time ------------------------------------------------------------------------ */

#define TIMED_LAUNCHES 20 /* in one graph: what a launch costs by itself is a few us */
#define TIMED_REPLAYS 20

static double time_replay(const struct rfn_index_topk_args *a, int launches)
{
    struct rfn_graph *graph = capture(a, launches);
    struct rfn_exec *exec = NULL;
    struct rfn_event *start = NULL, *end = NULL;
    float ms = 0;
    MUST(rfn_graph_instantiate(graph, &exec));
    MUST(rfn_graph_destroy(&graph));
    MUST(rfn_event_create(device, &start));
    MUST(rfn_event_create(device, &end));
    for (int i = 0; i < 3; i++)
        MUST(rfn_exec_launch(exec, stream));
    MUST(rfn_event_record(start, stream, 0));
    for (int i = 0; i < TIMED_REPLAYS; i++)
        MUST(rfn_exec_launch(exec, stream));
    MUST(rfn_event_record(end, stream, 0));
    MUST(rfn_stream_sync(stream));
    MUST(rfn_event_elapsed(start, end, &ms));
    MUST(rfn_event_destroy(&start));
    MUST(rfn_event_destroy(&end));
    MUST(rfn_exec_destroy(&exec));
    return 1e3 * ms / TIMED_REPLAYS;
}

static void measure(FILE *json)
{
    static const int64_t rows[] = { 1, 32, 128 };
    static const int64_t columns[] = { 4096, 32768, 131072 };
    const int64_t K = 2048;
    printf("\n%6s %8s %6s %14s %14s %10s\n", "rows", "columns", "K", "one replay us",
           "in a graph us", "GB/s");
    for (int i = 0; i < 9; i++)
    {
        int64_t T = rows[i / 3], S = columns[i % 3];
        struct shape s = shape_of(T, S, K);
        struct rng r = rng_of(seed);
        for (int64_t n = 0; n < T * (S + PAD); n++)
            ((float *)s.logits.host)[n] = rng_normal(&r);
        for (int64_t t = 0; t < T; t++)
        {
            ((int32_t *)s.lens.host)[t] = (int32_t)S;
            ((int32_t *)s.request.host)[t] = (int32_t)(t % REQUESTS);
        }
        upload_all(&s);
        struct rfn_index_topk_args a = args_of(&s, 1, T, 1, 0);
        double one = time_replay(&a, 1);
        double inside = time_replay(&a, TIMED_LAUNCHES) / TIMED_LAUNCHES;
        double bytes = 4.0 * (double)T * (double)(S + K);
        printf("%6lld %8lld %6lld %14.2f %14.2f %10.1f\n", (long long)T, (long long)S,
               (long long)K, one, inside, bytes / inside * 1e-3);
        if (json)
            fprintf(json,
                    "%s    {\"rows\": %lld, \"columns\": %lld, \"k\": %lld, "
                    "\"replay_us\": %.3f, \"in_graph_us\": %.3f, \"bytes\": %.0f, "
                    "\"gb_per_s\": %.2f}",
                    i ? ",\n" : "", (long long)T, (long long)S, (long long)K, one, inside,
                    bytes, bytes / inside * 1e-3);
        shape_free(&s);
    }
}

static void driver_version(char *ret, int bytes)
{
    FILE *f = fopen("/proc/driver/nvidia/version", "r");
    char line[256] = "";
    char *at = NULL;
    if (f && fgets(line, sizeof line, f))
        for (at = line; *at && !(at[0] == ' ' && at[1] >= '0' && at[1] <= '9'); at++)
            continue;
    snprintf(ret, (size_t)bytes, "%.*s", at && *at ? (int)strcspn(at + 1, " \n\"") : 7,
             at && *at ? at + 1 : "unknown");
    if (f)
        fclose(f);
}

int main(int argc, char **argv)
{
    const char *path = NULL;
    for (int i = 1; i < argc; i++)
    {
        if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc)
            seed = strtoull(argv[++i], NULL, 0);
        else
            path = argv[i];
    }
    struct rfn_device_desc desc = { .kind = RFN_DEVICE_CUDA };
    if (rfn_device_open(&desc, &device) != RFN_OK)
    {
        fprintf(stderr, "%s\n", rfn_last_error());
        return 77;
    }
    struct rfn_device_info info;
    char driver[64];
    MUST(rfn_device_query(device, &info));
    driver_version(driver, sizeof driver);
    printf("%s, sm_%d, %d SMs, driver %s, seed %llu\n", info.name, info.sm_arch,
           info.sm_count, driver, (unsigned long long)seed);
    MUST(rfn_stream_create(device, RFN_STREAM_NONBLOCKING, &stream));

    static const int64_t S[] = { 64, 1000, 8192, 131072 };
    static const int64_t K[] = { 1, 64, 512, 2048 };
    for (int i = 0; i < 16; i++)
    {
        int before = wrong;
        check_shape(S[i / 4], K[i % 4]);
        printf("S = %6lld, K = %4lld: %s\n", (long long)S[i / 4], (long long)K[i % 4],
               wrong == before ? "equal" : "WRONG");
        fflush(stdout);
    }
    check_bad_pages();
    printf("%d comparisons, %d wrong\n", cases, wrong);

    FILE *json = path ? fopen(path, "w") : NULL;
    if (path && !json)
    {
        perror(path);
        return 1;
    }
    if (json)
        fprintf(
            json,
            "{\n  \"op\": \"index_topk\",\n  \"device\": \"%s\",\n  \"driver\": \"%s\",\n"
            "  \"seed\": %llu,\n  \"comparisons\": %d,\n  \"wrong\": %d,\n"
            "  \"note\": \"the same scores at every replay: what fits is in the L2\",\n"
            "  \"times\": [\n",
            info.name, driver, (unsigned long long)seed, cases, wrong);
    measure(json);
    if (json)
    {
        fprintf(json, "\n  ]\n}\n");
        fclose(json);
    }
    MUST(rfn_stream_destroy(&stream));
    MUST(rfn_device_close(&device));
    return wrong != 0;
}
