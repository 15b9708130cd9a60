/*
 * index_gather on a GPU against its host twin, byte for byte, padding and poison included:
 * launched, and captured once and replayed with other totals, starts and tables in the same
 * buffers; what check mode counts; then the time in a captured graph beside a plain copy of
 * as many bytes. Needs nothing but the library.
 *
 *     cuda_gather [--seed N] [--no-times] [--small] [result.json]
 *
 * --small is for runs under a sanitizer. Exit code 77 where no CUDA device is; 1 where
 * something is wrong, or 32 requests of 32,768 tokens move less than 2.8 TB/s.
 */
#define RFN_NO_SITES
#include "tests/device/cuda_buffer.h"
#include "tests/support/rng.h"

#include <refrain/ops.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define D 128
#define ROW (D + 4)
#define POISON 0x5e
#define ROUNDS 6
#define TB_PER_S 2.8 /* due of 32 x 32,768 on an H200 */
#define LAUNCHES 20  /* in one timed graph */
#define REPLAYS 10
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static uint64_t seed = 1;
static int cases, wrong;

/* ---- one shape ------------------------------------------------------------------- */

struct config
{
    int64_t R;
    int64_t longest; /* of the lengths */
    int64_t P;
    int64_t spare;  /* rows of capacity past all of them at their longest */
    int64_t spread; /* strides beyond the dense ones */
};

struct shape
{
    struct config c;
    int64_t W, pages, N, bound, page_bytes, table_row, keys_row;
    struct buffer pool, table, starts, requests, keys, scales;
};

#define BUFFERS 6
static void all_of(struct shape *s, struct buffer *ret[BUFFERS])
{
    struct buffer *all[BUFFERS] = { &s->pool,     &s->table, &s->starts,
                                    &s->requests, &s->keys,  &s->scales };
    memcpy(ret, all, sizeof all);
}

static struct shape shape_of(const struct config *c)
{
    struct shape s = { .c = *c, .W = (c->longest + c->P - 1) / c->P };
    s.pages = c->R * s.W + 3;
    s.bound = c->R * c->longest;
    s.N = s.bound + c->spare;
    s.page_bytes = c->P * ROW + 16 * c->spread;
    s.table_row = s.W + c->spread;
    s.keys_row = D + 16 * c->spread;
    s.pool = buffer_of(s.pages * s.page_bytes);
    s.table = buffer_of(4 * c->R * s.table_row);
    s.starts = buffer_of(4 * (c->R + 1));
    s.requests = buffer_of(4);
    s.keys = buffer_of(s.N * s.keys_row);
    s.scales = buffer_of(4 * s.N);
    return s;
}

static void shape_free(struct shape *s)
{
    struct buffer *all[BUFFERS];
    all_of(s, all);
    for (int i = 0; i < BUFFERS; i++)
        buffer_free(all[i]);
}

static struct rfn_index_gather_args args_of(const struct shape *s, int on_device)
{
#define SIDE(b) (on_device ? s->b.device : s->b.host)
    struct rfn_index_gather_args a = {
        .pool = { SIDE(pool), RFN_INDEX_FP8_132, (int32_t)s->c.P, s->pages,
                  s->page_bytes },
        .table = rfn_tensor_of(SIDE(table), RFN_I32, s->c.R, s->W, 0, 0),
        .starts = rfn_tensor_of(SIDE(starts), RFN_I32, s->c.R + 1, 0, 0, 0),
        .requests = rfn_tensor_of(SIDE(requests), RFN_I32, 1, 0, 0, 0),
        .keys = rfn_tensor_of(SIDE(keys), RFN_E4M3, s->N, D, 0, 0),
        .scales = rfn_tensor_of(SIDE(scales), RFN_F32, s->N, 0, 0, 0),
        .bound = s->bound,
    };
#undef SIDE
    a.table.stride[0] = s->table_row;
    a.keys.stride[0] = s->keys_row;
    return a;
}

static void fill_pool(struct shape *s, struct rng *r)
{
    uint64_t *word = s->pool.host;
    for (int64_t i = 0; i < s->pool.bytes / 8; i++)
        word[i] = rng_u64(r);
}

/* Rounds: any lengths; all at their longest; all 0; short ones; one request; zeros in front
 * and behind. What no live request owns is garbage. `bad`: some pages outside the pool. */
static void fill(struct shape *s, int round, int bad, struct rng *r)
{
    int32_t *starts = s->starts.host, *table = s->table.host;
    int64_t R = s->c.R, live = round == 4 ? 1 : round == 0 ? R - R / 3 : R;
    memset(starts, 0x7f, (size_t)s->starts.bytes);
    memset(table, 0x7f, (size_t)s->table.bytes);
    *(int32_t *)s->requests.host = (int32_t)(round == 1 ? R + 5 : live);
    starts[0] = 0;
    for (int64_t b = 0; b < live; b++)
    {
        int64_t most = round == 3 && s->c.longest > 70 ? 70 : s->c.longest;
        int64_t L = rng_below(r, most + 1);
        L = round == 1 ? most : round == 2 ? 0 : L;
        L = round == 5 && (b < R / 4 || b > R - R / 4) ? 0 : L;
        starts[b + 1] = starts[b] + (int32_t)L;
        for (int64_t i = 0; i * s->c.P < L; i++)
            table[b * s->table_row + i] =
                (int32_t)(bad && i % 3 == 1 ? s->pages + i : rng_below(r, s->pages));
    }
    memset(s->keys.host, POISON, (size_t)s->keys.bytes);
    memset(s->scales.host, POISON, (size_t)s->scales.bytes);
}

static void upload_all(struct shape *s)
{
    struct buffer *all[BUFFERS];
    all_of(s, all);
    for (int i = 0; i < BUFFERS; i++)
        upload(all[i]);
}

/* ---- comparing ------------------------------------------------------------------- */

static void compare_one(const struct shape *s, const struct buffer *b, const char *what,
                        int round, const char *output)
{
    unsigned char *got = malloc((size_t)b->bytes + 1), *due = b->host;
    if (!got)
        exit(1);
    if (b->bytes)
        MUST(rfn_copy_sync(device, got, b->device, b->bytes));
    cases++;
    for (int64_t i = 0; i < b->bytes; i++)
    {
        if (got[i] == due[i])
            continue;
        fprintf(stderr,
                "%s: R = %lld, up to %lld tokens, pages of %lld, round %d: byte %lld of "
                "%s is 0x%02x, the host twin has 0x%02x (seed %llu)\n",
                what, (long long)s->c.R, (long long)s->c.longest, (long long)s->c.P,
                round, (long long)i, output, got[i], due[i], (unsigned long long)seed);
        wrong++;
        break;
    }
    free(got);
}

static void compare(struct shape *s, const char *what, int round, struct rfn_fault *fault)
{
    struct rfn_index_gather_args a = args_of(s, 0);
    struct rfn_host_env env = { .fault = fault, .threads = 4 };
    memset(s->keys.host, POISON, (size_t)s->keys.bytes);
    memset(s->scales.host, POISON, (size_t)s->scales.bytes);
    rfn_op_index_gather.host(&a, &env);
    MUST(rfn_device_sync(device));
    compare_one(s, &s->keys, what, round, "keys");
    compare_one(s, &s->scales, what, round, "scales");
}

static struct rfn_exec *capture(const struct rfn_index_gather_args *a, int times)
{
    struct rfn_graph *graph = NULL;
    struct rfn_graph_info info;
    struct rfn_exec *exec = NULL;
    MUST(rfn_capture_begin(stream, NULL));
    for (int i = 0; i < times; i++)
        MUST(rfn_index_gather(stream, a));
    MUST(rfn_capture_end(stream, &graph));
    MUST(rfn_graph_query(graph, &info));
    if (info.nodes != times || info.node[RFN_NODE_KERNEL] != times)
    {
        fprintf(stderr, "the graph has %d nodes, %d kernels\n", info.nodes,
                info.node[RFN_NODE_KERNEL]);
        wrong++;
    }
    MUST(rfn_graph_instantiate(graph, &exec));
    MUST(rfn_graph_destroy(&graph));
    return exec;
}

static void check_shape(const struct config *c, int replays)
{
    struct shape s = shape_of(c);
    struct rfn_index_gather_args a = args_of(&s, 1);
    struct rng r = rng_of(seed);
    fill_pool(&s, &r);
    fill(&s, 2, 0, &r);
    upload_all(&s);
    struct rfn_exec *exec = replays ? capture(&a, 1) : NULL;
    for (int round = 0; round < (replays ? ROUNDS : 1); round++)
    {
        fill(&s, round, 0, &r);
        upload_all(&s);
        MUST(rfn_index_gather(stream, &a));
        compare(&s, "launch", round, NULL);
        fill(&s, round, 0, &r);
        upload_all(&s);
        if (exec)
            MUST(rfn_exec_launch(exec, stream));
        if (exec)
            compare(&s, "replay", round, NULL);
    }
    if (exec)
        MUST(rfn_exec_destroy(&exec));
    shape_free(&s);
}

enum badness
{
    BAD_PAGES,
    GOING_DOWN,
    ABOVE_THE_BOUND,
    BELOW_0,
};

/* A device of its own, in check mode. */
static void check_bad(enum badness kind, const char *what)
{
    static const struct config c = { 70, 300, 64, 9, 1 };
    struct rfn_device *kept = device;
    struct rfn_stream *kept_stream = stream;
    struct rfn_device_desc desc = { .kind = RFN_DEVICE_CUDA, .check = 1 };
    MUST(rfn_device_open(&desc, &device));
    MUST(rfn_stream_create(device, RFN_STREAM_NONBLOCKING, &stream));
    struct shape s = shape_of(&c);
    struct rng r = rng_of(seed);
    struct rfn_fault expected = { 0 }, seen = { 0 };
    fill_pool(&s, &r);
    fill(&s, 1, kind == BAD_PAGES, &r);
    int32_t *starts = s.starts.host;
    for (int b = 3; kind == GOING_DOWN && b < 70; b += 5)
        starts[b] = starts[b - 1] - b;
    if (kind == ABOVE_THE_BOUND)
        starts[70] += 9;
    if (kind == BELOW_0)
        starts[0] = -30;
    struct rfn_index_gather_args a = args_of(&s, 1);
    upload_all(&s);
    MUST(rfn_index_gather(stream, &a));
    compare(&s, what, 1, &expected);
    MUST(rfn_device_fault(device, &seen));
    cases++;
    if (!seen.op || strcmp(seen.op, "index_gather") != 0 || !expected.count ||
        seen.count != expected.count)
    {
        fprintf(stderr, "%s: op %s, %lld bad values; the host twin met %lld\n", what,
                seen.op ? seen.op : "none", (long long)seen.count,
                (long long)expected.count);
        wrong++;
    }
    else
        printf("%s: %lld noted, one of them %s, row %lld, column %lld: %lld\n", what,
               (long long)seen.count, seen.operand, (long long)seen.row,
               (long long)seen.column, (long long)seen.value);
    shape_free(&s);
    MUST(rfn_stream_destroy(&stream));
    MUST(rfn_device_close(&device));
    device = kept;
    stream = kept_stream;
}

/* ---- times ----------------------------------------------------------------------- */

struct timed
{
    int64_t R, length;
    int64_t spare; /* of bound and capacity past the total */
    double least;  /* TB/s; 0: nothing is due */
};

static const struct timed timed[] = {
    { 32, 32768, 0, TB_PER_S }, { 32, 32768, 4 << 20, 0 }, { 1024, 1024, 0, 0 },
    { 1024, 1023, 1024, 0 },    { 128, 8192, 0, 0 },       { 8, 131072, 0, 0 },
    { 1, 131072, 0, 0 },        { 32, 1024, 0, 0 },        { 32, 64, 0, 0 },
    { 32, 0, 1 << 20, 0 },
};

static double time_exec(struct rfn_exec *exec)
{
    struct rfn_event *start = NULL, *end = NULL;
    float ms = 0;
    MUST(rfn_event_create(device, &start));
    MUST(rfn_event_create(device, &end));
    for (int i = 0; i < 3; i++)
        MUST(rfn_exec_launch(exec, stream));
    MUST(rfn_event_record(start, stream, 0));
    for (int i = 0; i < REPLAYS; i++)
        MUST(rfn_exec_launch(exec, stream));
    MUST(rfn_event_record(end, stream, 0));
    MUST(rfn_stream_sync(stream));
    MUST(rfn_event_elapsed(start, end, &ms));
    MUST(rfn_event_destroy(&start));
    MUST(rfn_event_destroy(&end));
    return 1e3 * ms / REPLAYS / LAUNCHES;
}

/* A plain copy of as many bytes, for what the memory gives. */
static double time_copy(struct shape *s, int64_t bytes)
{
    struct rfn_graph *graph = NULL;
    struct rfn_exec *exec = NULL;
    bytes = bytes < s->pool.bytes ? bytes : s->pool.bytes;
    bytes = bytes < s->keys.bytes ? bytes : s->keys.bytes;
    if (!bytes)
        return 0;
    MUST(rfn_capture_begin(stream, NULL));
    for (int i = 0; i < LAUNCHES; i++)
        MUST(rfn_copy_async(stream, s->keys.device, s->pool.device, bytes));
    MUST(rfn_capture_end(stream, &graph));
    MUST(rfn_graph_instantiate(graph, &exec));
    MUST(rfn_graph_destroy(&graph));
    double us = time_exec(exec);
    MUST(rfn_exec_destroy(&exec));
    return us;
}

/* Every page once, shuffled: a pool that has been in use for a while. */
static void fill_timed(struct shape *s, int64_t length, struct rng *r)
{
    int32_t *table = s->table.host;
    for (int64_t i = 0; i < s->c.R * s->table_row; i++)
    {
        int64_t j = rng_below(r, i + 1);
        table[i] = table[j];
        table[j] = (int32_t)i;
    }
    for (int64_t b = 0; b <= s->c.R; b++)
        ((int32_t *)s->starts.host)[b] = (int32_t)(b * length);
    *(int32_t *)s->requests.host = (int32_t)s->c.R;
    memset(s->keys.host, POISON, (size_t)s->keys.bytes);
    memset(s->scales.host, POISON, (size_t)s->scales.bytes);
}

static int measure(FILE *json)
{
    int slow = 0;
    printf("\n%8s %8s %10s %10s %8s %8s %8s\n", "requests", "tokens", "bound", "us",
           "TB/s", "copy us", "of copy");
    for (size_t i = 0; i < COUNT(timed); i++)
    {
        const struct timed *m = &timed[i];
        struct config c = { m->R, m->length ? m->length : 1, 64, m->spare, 0 };
        struct shape s = shape_of(&c);
        struct rng r = rng_of(seed);
        fill_pool(&s, &r);
        fill_timed(&s, m->length, &r);
        s.bound = s.N;
        upload_all(&s);
        struct rfn_index_gather_args a = args_of(&s, 1);
        struct rfn_exec *exec = capture(&a, LAUNCHES);
        double us = time_exec(exec);
        int64_t total = m->R * m->length;
        compare(&s, "timed", 0, NULL);
        double copy = time_copy(&s, total * ROW);
        double tb = (double)(2 * total * ROW) / us * 1e-6;
        slow += tb < m->least;
        printf("%8lld %8lld %10lld %10.2f %8.3f %8.2f %8.2f%s\n", (long long)m->R,
               (long long)m->length, (long long)s.bound, us, tb, copy, copy / us,
               tb < m->least ? "  TOO SLOW" : "");
        fflush(stdout);
        if (json)
            fprintf(json,
                    "%s    {\"requests\": %lld, \"tokens\": %lld, \"bound\": %lld, "
                    "\"bytes_read\": %lld, \"bytes_written\": %lld, \"in_graph_us\": "
                    "%.3f, \"tb_per_s\": %.3f, \"least_tb_per_s\": %.1f, "
                    "\"copy_us\": %.3f}",
                    i ? ",\n" : "", (long long)m->R, (long long)m->length,
                    (long long)s.bound, (long long)(total * ROW),
                    (long long)(total * ROW), us, tb, m->least, copy);
        MUST(rfn_exec_destroy(&exec));
        shape_free(&s);
    }
    return slow;
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

static const struct config grid[] = {
    { 1, 1, 64, 0, 0 },       { 1, 8193, 64, 31, 0 },  { 7, 65, 64, 5, 1 },
    { 31, 257, 64, 100, 3 },  { 32, 129, 20, 1, 1 },   { 33, 64, 64, 0, 0 },
    { 64, 1025, 256, 64, 0 }, { 128, 300, 64, 7, 9 },  { 1024, 40, 64, 3, 0 },
    { 1025, 7, 4, 3, 1 },     { 32, 4096, 64, 99, 0 }, { 3, 202752, 64, 1, 0 },
};
#define SMALL 5 /* of them, under a sanitizer */

int main(int argc, char **argv)
{
    const char *path = NULL;
    int times = 1, small = 0;
    for (int i = 1; i < argc; i++)
    {
        if (strcmp(argv[i], "--no-times") == 0)
            times = 0;
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

    for (size_t i = 0; i < (small ? SMALL : COUNT(grid)); i++)
    {
        int before = wrong;
        check_shape(&grid[i], !small);
        printf("R = %4lld, up to %6lld tokens, pages of %3lld: %s\n",
               (long long)grid[i].R, (long long)grid[i].longest, (long long)grid[i].P,
               wrong == before ? "equal" : "WRONG");
        fflush(stdout);
    }
    if (!small)
    {
        check_bad(BAD_PAGES, "bad pages");
        check_bad(GOING_DOWN, "starts go down");
        check_bad(ABOVE_THE_BOUND, "a total above the bound");
        check_bad(BELOW_0, "a start below 0");
    }

    FILE *json = path ? fopen(path, "w") : NULL;
    if (path && !json)
    {
        perror(path);
        return 1;
    }
    if (json)
        fprintf(json,
                "{\n  \"op\": \"index_gather\",\n  \"device\": \"%s\",\n  \"driver\": "
                "\"%s\",\n  \"seed\": %llu,\n  \"note\": \"%d launches a graph, mean of "
                "%d replays; bytes read and written over time; shapes below the cache's "
                "size stay in it\",\n  \"times\": [\n",
                info.name, driver, (unsigned long long)seed, LAUNCHES, REPLAYS);
    int slow = times ? measure(json) : 0;
    printf("%d comparisons, %d wrong\n", cases, wrong);
    if (json)
    {
        fprintf(json, "\n  ],\n  \"comparisons\": %d,\n  \"wrong\": %d\n}\n", cases,
                wrong);
        fclose(json);
    }
    MUST(rfn_stream_destroy(&stream));
    MUST(rfn_device_close(&device));
    if (slow)
        printf("%d sizes are slower than is due\n", slow);
    return wrong != 0 || slow != 0;
}
