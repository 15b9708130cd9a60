/*
 * The small ops of a decode step on a GPU against their host twins: launched, captured and
 * replayed with other contents of the same buffers, in check mode; then the time of replays.
 * All bytes are compared, those that no op may touch too. Needs nothing but the library.
 *
 *     cuda_small [--seed N] [--no-times] [result.json]
 *
 * A case lives in one arena that is on both sides at the same offsets: its arguments point
 * into the host's, and move to the device's by one difference. Exit code 77 where no CUDA
 * device is.
 */
#define RFN_NO_SITES
#include "tests/device/cuda_small.h"

#include "tests/support/compare.h"

#include <math.h>
#include <refrain/device.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define POISON 0xa5
#define MUST(call) must((call), #call, __LINE__)

static struct rfn_device *device;
static struct rfn_stream *stream;
static uint64_t seed = 1;
static struct small_arena arena;
static unsigned char *on_device; /* the arena's other side */
static unsigned char *scratch;
static int comparisons;
static int wrong;
static double worst_l2, worst_lse; /* of mla_combine */

static void must(enum rfn_status status, const char *call, int line)
{
    if (status == RFN_OK)
        return;
    fprintf(stderr, "line %d: %s: %s: %s\n", line, call, rfn_status_name(status),
            rfn_last_error());
    exit(1);
}

/* ---- both sides ------------------------------------------------------------------- */

static struct rfn_tensor *tensor_of(union small_args *args, const struct rfn_operand *o)
{
    return (struct rfn_tensor *)((char *)args + o->offset);
}

static union small_args moved(const struct rfn_op *op, const union small_args *args)
{
    union small_args ret = *args;
    for (uint32_t i = 0; i < op->operands; i++)
    {
        const struct rfn_operand *o = &op->operand[i];
        void **data = o->kind == RFN_OPERAND_POOL
                          ? &((struct rfn_pool *)((char *)&ret + o->offset))->data
                          : &tensor_of(&ret, o)->data;
        if (*data)
            *data = on_device + ((unsigned char *)*data - arena.base);
    }
    return ret;
}

static void build(const struct small_case *c, int round, union small_args *ret)
{
    arena.used = 0;
    arena.rng = rng_of(seed ^ (uint64_t)round << 32 ^ (uint64_t)c->rows * 77);
    memset(arena.base, POISON, (size_t)arena.bytes_touched);
    memset(ret, 0, sizeof *ret);
    c->build(c, round, &arena, ret);
    if (arena.used > arena.bytes)
    {
        fprintf(stderr, "%s: the arena is too small\n", c->name);
        exit(1);
    }
    arena.bytes_touched = arena.used;
}

static void upload(void)
{
    MUST(rfn_copy_sync(device, on_device, arena.base, arena.used));
    /* A copy from pageable memory may return before the bytes have arrived. */
    MUST(rfn_device_sync(device));
}

/* ---- comparing --------------------------------------------------------------------- */

static float bf16_of(uint16_t b)
{
    uint32_t u = (uint32_t)b << 16;
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

/* Judges the device's O and LSE, then puts the host's in their place: what is left must be
 * equal byte by byte. Returns what is wrong, NULL when nothing is. */
static const char *judge_combine(const struct rfn_mla_combine_args *a)
{
    static char reason[128];
    int64_t T = a->out.shape[0], H = a->out.shape[1], V = a->out.shape[2];
    for (int64_t u = 0; u < T * H; u++)
    {
        struct compare row = { 0 };
        uint16_t *host =
            (uint16_t *)a->out.data + u / H * a->out.stride[0] + u % H * a->out.stride[1];
        uint16_t *got = (uint16_t *)(scratch + ((unsigned char *)host - arena.base));
        for (int64_t v = 0; v < V; v++)
            compare_add(&row, (double)bf16_of(got[v]), (double)bf16_of(host[v]));
        double l2 = compare_l2(&row);
        worst_l2 = l2 > worst_l2 ? l2 : worst_l2;
        if (row.mask_errors || !(l2 <= rfn_op_mla_combine.tolerance))
        {
            snprintf(reason, sizeof reason, "row %lld, head %lld: L2 %g, %lld masks",
                     (long long)(u / H), (long long)(u % H), l2,
                     (long long)row.mask_errors);
            return reason;
        }
        memcpy(got, host, (size_t)V * sizeof *got);
        if (!a->lse.data)
            continue;
        float *right = (float *)a->lse.data + u / H * a->lse.stride[0] + u % H;
        float *lse = (float *)(scratch + ((unsigned char *)right - arena.base));
        struct compare one = { 0 };
        compare_add(&one, (double)*lse, (double)*right);
        double most = 1e-5 + 2.4e-7 * fabs((double)*right);
        worst_lse = one.max_difference > worst_lse ? one.max_difference : worst_lse;
        if (one.mask_errors || (isfinite(*right) && one.max_difference > most))
        {
            snprintf(reason, sizeof reason, "row %lld, head %lld: LSE %g, not %g",
                     (long long)(u / H), (long long)(u % H), (double)*lse,
                     (double)*right);
            return reason;
        }
        memcpy(lse, right, sizeof *lse);
    }
    return NULL;
}

/* The operand that an offset of the arena belongs to. */
static const char *operand_at(const struct rfn_op *op, const union small_args *args,
                              int64_t at)
{
    for (uint32_t i = 0; i < op->operands; i++)
    {
        void *begin = NULL;
        int64_t bytes = 0;
        rfn_op_extent(op, i, args, &begin, &bytes);
        int64_t from = begin ? (unsigned char *)begin - arena.base : 0;
        if (bytes && at >= from && at < from + bytes)
            return op->operand[i].name;
    }
    return "nothing";
}

/* The host's side has been through the twin. */
static void compare(const struct small_case *c, union small_args *args, const char *what,
                    int round)
{
    const char *reason = NULL;
    int64_t at = 0;
    MUST(rfn_device_sync(device));
    MUST(rfn_copy_sync(device, scratch, on_device, arena.used));
    comparisons++;
    if (c->op->tolerance > 0)
        reason = judge_combine(&args->mla_combine);
    while (at < arena.used && scratch[at] == arena.base[at])
        at++;
    if (!reason && at == arena.used)
        return;
    wrong++;
    if (reason)
        fprintf(stderr, "%s %s, %s, round %d: %s\n", c->op->name, c->name, what, round,
                reason);
    else
        fprintf(stderr, "%s %s, %s, round %d: byte %lld, of %s, is %02x, not %02x\n",
                c->op->name, c->name, what, round, (long long)at,
                operand_at(c->op, args, at), scratch[at], arena.base[at]);
}

/* ---- running ----------------------------------------------------------------------- */

static struct rfn_exec *captured(const struct rfn_op *op, const union small_args *args,
                                 int times)
{
    struct rfn_graph *graph = NULL;
    struct rfn_exec *exec = NULL;
    struct rfn_graph_info info;
    MUST(rfn_capture_begin(stream, NULL));
    for (int i = 0; i < times; i++)
        MUST(rfn_op_launch(stream, op, args));
    MUST(rfn_capture_end(stream, &graph));
    MUST(rfn_graph_query(graph, &info));
    if (info.nodes != times || info.node[RFN_NODE_KERNEL] != times)
    {
        fprintf(stderr, "%s: %d launches, but %d nodes\n", op->name, times, info.nodes);
        wrong++;
    }
    MUST(rfn_graph_instantiate(graph, &exec));
    MUST(rfn_graph_destroy(&graph));
    return exec;
}

static void check_case(const struct small_case *c)
{
    union small_args args;
    struct rfn_exec *exec = NULL;
    for (int round = 0; round < SMALL_ROUNDS; round++)
    {
        struct rfn_host_env env = { .threads = 4 };
        build(c, round, &args);
        union small_args there = moved(c->op, &args);
        MUST(rfn_op_check(c->op, &args));
        if (!exec)
            exec = captured(c->op, &there, 1);
        upload();
        MUST(rfn_op_launch(stream, c->op, &there));
        c->op->host(&args, &env);
        compare(c, &args, "launch", round);
        build(c, round, &args);
        upload();
        MUST(rfn_exec_launch(exec, stream));
        c->op->host(&args, &env);
        compare(c, &args, "replay", round);
    }
    MUST(rfn_exec_destroy(&exec));
}

#define CHAIN_ROUNDS 40
#define CHAIN_STEPS 3 /* replays behind each other */

/* Nodes that need what the ones before have just written, in a graph of programmatic edges. */
static void check_chain(void)
{
    const struct small_case chain = { &rfn_op_kv_pack, "chain" };
    struct small_link link[SMALL_LINKS];
    struct rfn_exec *exec = NULL;
    for (int round = 0; round < CHAIN_ROUNDS; round++)
    {
        struct rfn_host_env env = { .threads = 4 };
        arena.used = 0;
        arena.rng = rng_of(seed ^ (uint64_t)round << 32);
        memset(arena.base, POISON, (size_t)arena.bytes_touched);
        small_chain(round, &arena, link);
        arena.bytes_touched = arena.used;
        if (!exec)
        {
            struct rfn_graph *graph = NULL;
            MUST(rfn_capture_begin(stream, NULL));
            for (int i = 0; i < SMALL_LINKS; i++)
            {
                union small_args there = moved(link[i].op, &link[i].args);
                MUST(rfn_op_launch(stream, link[i].op, &there));
            }
            MUST(rfn_capture_end(stream, &graph));
            MUST(rfn_graph_instantiate(graph, &exec));
            MUST(rfn_graph_destroy(&graph));
        }
        upload();
        for (int step = 0; step < CHAIN_STEPS; step++)
            MUST(rfn_exec_launch(exec, stream));
        for (int step = 0; step < CHAIN_STEPS; step++)
            for (int i = 0; i < SMALL_LINKS; i++)
                link[i].op->host(&link[i].args, &env);
        compare(&chain, &link[3].args, "replays", round);
    }
    MUST(rfn_exec_destroy(&exec));
}

/* In check mode: as many bad values as the host twin meets, the first of them named. */
static void check_faults(const struct small_case *c, struct rfn_fault *sum)
{
    union small_args args;
    for (int round = 0; round < SMALL_ROUNDS; round++)
    {
        struct rfn_fault right = { 0 }, seen = { 0 };
        struct rfn_host_env env = { .fault = &right, .threads = 4 };
        build(c, round, &args);
        union small_args there = moved(c->op, &args);
        upload();
        MUST(rfn_op_launch(stream, c->op, &there));
        c->op->host(&args, &env);
        compare(c, &args, "check mode", round);
        MUST(rfn_device_fault(device, &seen));
        int named = !seen.op || (seen.operand && strlen(seen.operand) > 0);
        if (seen.count - sum->count != right.count || !named)
        {
            fprintf(stderr, "%s %s, round %d: %lld bad values, the host twin met %lld\n",
                    c->op->name, c->name, round, (long long)(seen.count - sum->count),
                    (long long)right.count);
            wrong++;
        }
        *sum = seen;
    }
}

static void open_device(int check)
{
    struct rfn_device_desc desc = { .kind = RFN_DEVICE_CUDA, .check = check };
    void *address = NULL;
    if (rfn_device_open(&desc, &device) != RFN_OK)
    {
        fprintf(stderr, "%s\n", rfn_last_error());
        exit(77);
    }
    MUST(rfn_stream_create(device, RFN_STREAM_NONBLOCKING, &stream));
    MUST(rfn_memory_alloc(device, RFN_MEMORY_DEVICE, arena.bytes, &address));
    on_device = address;
}

static void close_device(void)
{
    MUST(rfn_memory_free(device, on_device));
    MUST(rfn_stream_destroy(&stream));
    MUST(rfn_device_close(&device));
}

/* ---- time -------------------------------------------------------------------------- */

#define TIMED_LAUNCHES 20 /* in one graph: what a launch costs by itself is a few us */
#define TIMED_REPLAYS 20
#define TIMED_TRIES 5

static double time_replay(const struct rfn_op *op, const union small_args *args,
                          int launches)
{
    struct rfn_exec *exec = captured(op, args, launches);
    struct rfn_event *start = NULL, *end = NULL;
    double best = INFINITY;
    MUST(rfn_event_create(device, &start));
    MUST(rfn_event_create(device, &end));
    for (int i = 0; i < 3; i++)
        MUST(rfn_exec_launch(exec, stream));
    for (int try = 0; try < TIMED_TRIES; try++)
    {
        float ms = 0;
        MUST(rfn_event_record(start, stream, 0));
        for (int i = 0; i < TIMED_REPLAYS; i++)
            MUST(rfn_exec_launch(exec, stream));
        MUST(rfn_event_record(end, stream, 0));
        MUST(rfn_stream_sync(stream));
        MUST(rfn_event_elapsed(start, end, &ms));
        double us = 1e3 * (double)ms / TIMED_REPLAYS / launches;
        best = us < best ? us : best;
    }
    MUST(rfn_event_destroy(&start));
    MUST(rfn_event_destroy(&end));
    MUST(rfn_exec_destroy(&exec));
    return best;
}

static void measure(FILE *json)
{
    printf("\n%-17s %-24s %6s %12s %12s %10s\n", "op", "", "rows", "replay us",
           "in graph us", "GB/s");
    for (int i = 0; i < small_timed; i++)
    {
        const struct small_case *c = &small_timed_case[i];
        union small_args args;
        build(c, 0, &args);
        upload();
        args = moved(c->op, &args);
        struct rfn_cost cost = c->op->cost(&args);
        double bytes = (double)(cost.bytes_read + cost.bytes_written);
        double one = time_replay(c->op, &args, 1);
        double inside = time_replay(c->op, &args, TIMED_LAUNCHES);
        printf("%-17s %-24s %6lld %12.2f %12.2f %10.1f\n", c->op->name, c->name,
               (long long)c->rows, one, inside, bytes / inside * 1e-3);
        if (json)
            fprintf(json,
                    "%s    {\"op\": \"%s\", \"case\": \"%s\", \"rows\": %lld, "
                    "\"replay_us\": %.3f, \"in_graph_us\": %.3f, \"bytes\": %.0f, "
                    "\"gb_per_s\": %.2f}",
                    i ? ",\n" : "", c->op->name, c->name, (long long)c->rows, one, inside,
                    bytes, bytes / inside * 1e-3);
    }
}

static void report(const char *path, const struct rfn_device_info *info)
{
    FILE *json = path ? fopen(path, "w") : NULL;
    if (path && !json)
    {
        perror(path);
        exit(1);
    }
    if (json)
        fprintf(json,
                "{\n  \"device\": \"%s\",\n  \"seed\": %llu,\n  \"comparisons\": %d,\n"
                "  \"wrong\": %d,\n  \"combine_l2\": %g,\n  \"combine_lse\": %g,\n"
                "  \"note\": \"%d launches in a graph, the same buffers: what fits is in "
                "the L2\",\n  \"times\": [\n",
                info->name, (unsigned long long)seed, comparisons, wrong, worst_l2,
                worst_lse, TIMED_LAUNCHES);
    measure(json);
    if (json)
    {
        fprintf(json, "\n  ]\n}\n");
        fclose(json);
    }
}

int main(int argc, char **argv)
{
    const char *path = NULL;
    int times = 1;
    for (int i = 1; i < argc; i++)
    {
        if (strcmp(argv[i], "--no-times") == 0)
            times = 0;
        else if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc)
            seed = strtoull(argv[++i], NULL, 0);
        else
            path = argv[i];
    }
    arena.bytes = SMALL_ARENA_BYTES;
    arena.base = aligned_alloc(256, SMALL_ARENA_BYTES);
    scratch = malloc(SMALL_ARENA_BYTES);
    if (!arena.base || !scratch)
        return 1;

    struct rfn_device_info info;
    open_device(0);
    MUST(rfn_device_query(device, &info));
    printf("%s, sm_%d, %d SMs, seed %llu\n", info.name, info.sm_arch, info.sm_count,
           (unsigned long long)seed);
    for (int i = 0; i < small_cases; i++)
    {
        int before = wrong;
        check_case(&small_case[i]);
        printf("%-17s %-24s %s\n", small_case[i].op->name, small_case[i].name,
               wrong == before ? "equal" : "WRONG");
        fflush(stdout);
    }
    int before_chain = wrong;
    check_chain();
    printf("%-42s %s\n", "chain", wrong == before_chain ? "equal" : "WRONG");
    close_device();

    struct rfn_fault sum = { 0 };
    open_device(1);
    for (int i = 0; i < small_cases; i++)
        check_faults(&small_case[i], &sum);
    close_device();
    printf("%lld bad values noted; the first: %s of %s, row %lld, column %lld: %lld\n",
           (long long)sum.count, sum.operand ? sum.operand : "none",
           sum.op ? sum.op : "none", (long long)sum.row, (long long)sum.column,
           (long long)sum.value);
    printf("mla_combine: worst L2 of a row %.2g, worst LSE %.2g apart\n", worst_l2,
           worst_lse);
    printf("%d comparisons, %d wrong\n", comparisons, wrong);

    if (times)
    {
        open_device(0);
        report(path, &info);
        close_device();
    }
    free(arena.base);
    free(scratch);
    return wrong != 0;
}
