/*
 * index_topk on a GPU against its host twin, bit for bit: launched, captured and replayed
 * with other lengths and scores in the same buffers, updated, with bad pages in check mode;
 * then the time of a replay beside its limits. Needs nothing but the library.
 *
 *     cuda_topk [--seed N] [--no-times] [--no-checks] [--columns N] [--small] [result.json]
 *
 * --columns: times of rows of so many only. --small is for runs under a sanitizer: one launch
 * of each kernel but the passes. Exit code 77 where no CUDA device is.
 */
#define RFN_NO_SITES
#include "tests/device/cuda_topk_time.h"

/* Every way to select at its borders, on a GPU of 132 SMs: one block a row with 4, 8, 16 and
 * 32 keys a thread and with groups, clusters of 2, 4 and 8, passes. */
struct grid_case
{
    int64_t rows, S, K, pad;
    int rounds;
};

static const struct grid_case grid[] = {
    /* one block, few columns */
    { 30, 64, 64, 3, 4 },
    { 30, 1000, 1, 3, 4 },
    { 30, 1000, 512, 0, 4 },
    { 2050, 2052, 2048, 0, 2 },
    { 2050, 2051, 64, 2, 2 },
    { 2050, 8201, 2048, 3, 2 },
    /* 4, 8, 16 keys a thread */
    { 70, 4096, 2048, 0, 4 },
    { 70, 4093, 2048, 2, 3 },
    { 70, 4094, 2048, 3, 3 },
    { 30, 8192, 1, 3, 3 },
    { 30, 8192, 2048, 0, 3 },
    { 70, 8189, 512, 2, 3 },
    { 70, 8190, 2048, 1, 3 },
    { 40, 8193, 2048, 3, 3 },
    { 70, 16384, 2048, 0, 3 },
    { 70, 16381, 2048, 2, 3 },
    { 70, 16382, 2048, 3, 3 },
    /* 32, and groups */
    { 70, 32768, 2048, 0, 4 },
    { 70, 32766, 2048, 3, 4 },
    { 70, 32769, 2048, 3, 4 },
    { 70, 65536, 64, 1, 3 },
    { 70, 131072, 2048, 0, 4 },
    { 67, 524288, 2048, 0, 1 },
    /* clusters of 2 */
    { 31, 16385, 2048, 1, 3 },
    { 40, 32768, 2048, 0, 3 },
    { 40, 32766, 2048, 3, 3 },
    { 40, 65536, 2048, 0, 3 },
    { 40, 65534, 2048, 3, 4 },
    { 40, 131072, 512, 0, 3 },
    { 67, 524287, 2048, 3, 1 },
    /* of 4 */
    { 16, 16390, 2048, 1, 4 },
    { 20, 32768, 2048, 0, 3 },
    { 20, 32769, 64, 3, 3 },
    { 20, 131072, 2048, 0, 3 },
    { 20, 131070, 2048, 3, 4 },
    { 20, 200000, 2048, 0, 3 },
    /* of 8 */
    { 15, 16385, 2048, 2, 4 },
    { 15, 32768, 2048, 0, 4 },
    { 15, 32766, 2048, 3, 4 },
    { 15, 32768, 1, 3, 4 },
    { 3, 131072, 2048, 0, 6 },
    { 3, 131070, 2048, 3, 6 },
    { 3, 262144, 2048, 0, 6 },
    { 3, 262142, 2048, 3, 6 },
    { 1, 262146, 100, 3, 17 },
    { 1, 524288, 2048, 0, 17 },
    { 15, 1048576, 2048, 0, 2 },
    { 3, 1048574, 1, 3, 4 },
    /* passes */
    { 2, 4194304, 2048, 0, 2 },
    { 2, 4194305, 2048, 3, 2 },
};

static const struct grid_case small_grid[] = {
    { 3, 1000, 512, 0, 0 },    { 3, 4096, 2048, 0, 0 },   { 3, 8189, 512, 2, 0 },
    { 3, 16380, 2048, 3, 0 },  { 67, 16386, 2048, 0, 0 }, { 31, 16385, 2048, 1, 0 },
    { 31, 32770, 2048, 2, 0 }, { 16, 16390, 2048, 1, 0 }, { 16, 32770, 2048, 3, 0 },
    { 3, 32766, 2048, 0, 0 },  { 1, 131070, 2048, 0, 0 }, { 1, 262140, 2048, 3, 0 },
    { 1, 262146, 2048, 0, 0 },
};

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
        fprintf(stderr,
                "%s: T = %lld, S = %lld, K = %lld, round %d, row %lld (%s, L = %d): "
                "%s[%lld] is %d, "
                "the host twin has %d\n",
                what, (long long)s->rows, (long long)s->S, (long long)s->K, round,
                (long long)t, pattern_name[pattern_of(round, t)],
                ((int32_t *)s->lens.host)[t], output, (long long)(i % stride), got[i],
                ((int32_t *)b->host)[i]);
        wrong++;
        break;
    }
    free(got);
}

/* Runs the host twin on the host's side and compares whole buffers, padding included. */
static void compare(struct shape *s, int which, int live, const char *what, int round,
                    struct rfn_fault *fault)
{
    struct rfn_index_topk_args a = args_of(s, 0, which, live);
    struct rfn_host_env env = { .fault = fault, .threads = 16 };
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

static void check_shape(int64_t rows, int64_t S, int64_t K, int64_t pad, int rounds)
{
    struct shape s = shape_of(rows, S, K, pad);
    struct rfn_index_topk_args a = args_of(&s, 1, 3, 1);
    struct rfn_index_topk_args slots_only = args_of(&s, 1, 1, 0);
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
    for (int round = 0; round < rounds; round++)
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
    compare(&s, 1, 0, "updated replay", rounds - 1, NULL);
    MUST(rfn_exec_destroy(&exec));
    shape_free(&s);
}

/* One launch, row 0 of many ties. */
static void check_launch(int64_t rows, int64_t S, int64_t K, int64_t pad)
{
    struct shape s = shape_of(rows, S, K, pad);
    struct rfn_index_topk_args a = args_of(&s, 1, 3, 1);
    fill(&s, 2, 0);
    upload_all(&s);
    MUST(rfn_index_topk(stream, &a));
    compare(&s, 3, 1, "launch", 2, NULL);
    shape_free(&s);
}

/* An executable graph goes on with arguments that another kernel is for: other columns, or
 * rows that begin elsewhere. Where that one has another number of blocks a cluster it is
 * refused, both numbers are named, and the graph gives what it gave before. */
static void check_other_kernel(void)
{
    static const struct
    {
        int64_t S;
        int blocks; /* a cluster, on 132 SMs */
    } sizes[] = { { 4096, 1 }, { 32768, 8 }, { 131072, 8 }, { 8192, 1 }, { 262144, 8 } };
    enum
    {
        SIZES = sizeof sizes / sizeof sizes[0]
    };
    struct shape s[SIZES]; /* the executables hold on to what they have seen */
    for (int i = 0; i < SIZES; i++)
        s[i] = shape_of(8, sizes[i].S, 2048, i % 2);
    for (int from = 0; from < 2; from++)
    {
        struct rfn_index_topk_args a = args_of(&s[from], 1, 3, 1);
        struct rfn_graph *graph = capture(&a, 1);
        struct rfn_exec *exec = NULL;
        int now = from, blocks = sizes[from].blocks;
        MUST(rfn_graph_instantiate(graph, &exec));
        MUST(rfn_graph_destroy(&graph));
        for (int i = 0; i < SIZES; i++)
        {
            char words[96];
            struct rfn_index_topk_args b = args_of(&s[i], 1, 3, 1);
            snprintf(words, sizeof words, "%d blocks a cluster, captured was one with %d",
                     sizes[i].blocks, blocks);
            enum rfn_status status = rfn_exec_update(exec, 0, &b);
            cases++;
            if (sizes[i].blocks == blocks
                    ? status != RFN_OK
                    : status != RFN_UNSUPPORTED || !strstr(rfn_last_error(), words))
            {
                fprintf(stderr, "update from S = %lld to %lld: %s: %s\n",
                        (long long)sizes[now].S, (long long)sizes[i].S,
                        rfn_status_name(status), rfn_last_error());
                wrong++;
            }
            now = status == RFN_OK ? i : now;
            fill(&s[now], 1 + i % 2, 0);
            upload_all(&s[now]);
            MUST(rfn_exec_launch(exec, stream));
            compare(&s[now], 3, 1, "update to another kernel", 1 + i % 2, NULL);
        }
        MUST(rfn_exec_destroy(&exec));
    }
    for (int i = 0; i < SIZES; i++)
        shape_free(&s[i]);
}

/* GPUs whose blocks can have 99 KiB of shared memory, and no clusters: up to the columns that
 * <refrain/ops.h> promises, and no further. */
static void check_short_rows_only(void)
{
    static const struct rfn_plan_env env = { .sm_count = 84,
                                             .sm_arch = 86,
                                             .shared_bytes_max = 101376 };
    static struct rfn_launch launch;
    static const int64_t most[] = { 168960, 168957 }; /* rows begin on 16 bytes, on 4 */
    struct shape s = shape_of(2, 64, 64, 0);
    for (int i = 0; i < 4; i++)
    {
        struct rfn_index_topk_args a = args_of(&s, 1, 3, 0);
        a.logits.shape[1] = most[i / 2] + i % 2;
        a.logits.stride[0] = (most[0] + 4) | i / 2;
        enum rfn_status status = rfn_op_index_topk.cuda(&a, &env, &launch);
        cases++;
        if (i % 2 == 0
                ? status == RFN_OK
                : status == RFN_UNSUPPORTED && strstr(rfn_last_error(), "needs 1") &&
                      strstr(rfn_last_error(), "101376"))
            continue;
        fprintf(stderr, "S = %lld of stride %lld with 99 KiB: %s: %s\n",
                (long long)a.logits.shape[1], (long long)a.logits.stride[0],
                rfn_status_name(status), rfn_last_error());
        wrong++;
    }
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
    struct shape s = shape_of(30, 8192, 512, 3);
    struct rfn_index_topk_args a = args_of(&s, 1, 3, 1);
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
    int times = 1, checks = 1, small = 0;
    int64_t columns = 0;
    for (int i = 1; i < argc; i++)
    {
        if (strcmp(argv[i], "--no-times") == 0)
            times = 0;
        else if (strcmp(argv[i], "--no-checks") == 0)
            checks = 0;
        else if (strcmp(argv[i], "--columns") == 0 && i + 1 < argc)
            columns = strtoll(argv[++i], NULL, 0);
        else if (strcmp(argv[i], "--small") == 0)
            small = 1, times = 0;
        else if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc)
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

    const struct grid_case *g = small ? small_grid : grid;
    size_t shapes = small ? sizeof small_grid / sizeof *g : sizeof grid / sizeof *g;
    for (size_t i = 0; checks && i < shapes; i++)
    {
        int before = wrong;
        if (small)
            check_launch(g[i].rows, g[i].S, g[i].K, g[i].pad);
        else
            check_shape(g[i].rows, g[i].S, g[i].K, g[i].pad, g[i].rounds);
        printf("T = %4lld, S = %7lld, K = %4lld, pad %lld: %s\n", (long long)g[i].rows,
               (long long)g[i].S, (long long)g[i].K, (long long)g[i].pad,
               wrong == before ? "equal" : "WRONG");
        fflush(stdout);
    }
    if (checks)
        check_short_rows_only();
    if (checks && !small)
    {
        check_other_kernel();
        check_bad_pages();
    }
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
            "  \"note\": \"20 launches a graph, each on another copy of the logits while "
            "copies last; programmatic edges, mean of 20 replays\",\n"
            "  \"times\": [\n",
            info.name, driver, (unsigned long long)seed, cases, wrong);
    int slow = times ? measure(json, columns) : 0;
    if (json)
    {
        fprintf(json, "\n  ]\n}\n");
        fclose(json);
    }
    MUST(rfn_stream_destroy(&stream));
    MUST(rfn_device_close(&device));
    if (slow)
        printf("%d sizes need more than twice the fastest peer\n", slow);
    return wrong != 0 || slow != 0;
}
