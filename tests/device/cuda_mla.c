/*
 * sparse_mla on a GPU against its host twin and a double reference: launched, captured and
 * replayed with other indices in the same buffers, bit-equal repeats, rows in other company,
 * bad indices in check mode; then the time of a replay over rotating inputs. Needs nothing
 * but the library.
 *
 *     cuda_mla [--seed N] [--quick] [--no-times] [--no-checks] [--profile] [result.json]
 *
 * Exit code 77 where no CUDA device is.
 */
#include "tests/device/cuda_mla.h"
#include "tests/checkop/reference.h"
#include "tests/support/compare.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RFN_NO_SITES
#define O_MOST 4e-3
#define O_MOST_HOST 6e-3 /* two roundings to bf16 */
#define LSE_MOST 5e-4
#define REPEATS 20
#define SETS 4 /* of queries and indices that timed launches go through */

static struct rfn_device_info info;

/* ---- comparing ------------------------------------------------------------------- */

static int cases;
static int wrong;
static double worst_o, worst_lse, worst_o_host;

static int bad(const char *what, int t, int h, const char *why, double value)
{
    if (wrong++ < 40)
        fprintf(stderr, "%s: row %d, head %d: %s %g\n", what, t, h, why, value);
    return 0;
}

static float bf16(uint16_t x)
{
    uint32_t u = (uint32_t)x << 16;
    float f;
    memcpy(&f, &u, 4);
    return f;
}

/* One head against the host twin's bf16 (right == NULL) or against doubles. */
static int compare_head(const char *what, int t, int h, const uint16_t *got,
                        float got_lse, const uint16_t *host, const double *right,
                        double lse, int has_lse)
{
    struct compare o = { 0 };
    for (int v = 0; v < 512; v++)
        compare_add(&o, bf16(got[v]), right ? right[v] : bf16(host[v]));
    double l2 = compare_l2(&o);
    if (o.mask_errors)
        return bad(what, t, h, "NaN or inf differ, first at", (double)o.first_mask_error);
    if (right && l2 > worst_o)
        worst_o = l2;
    if (!right && l2 > worst_o_host)
        worst_o_host = l2;
    if (!(l2 <= (right ? O_MOST : O_MOST_HOST)))
        return bad(what, t, h, "relative L2", l2);
    if (!has_lse)
        return 1;
    if (isnan(got_lse) != isnan(lse) || isinf(got_lse) != isinf(lse) ||
        (isinf(lse) && got_lse != lse))
        return bad(what, t, h, "LSE is not finite, or should not be:", got_lse);
    double off = isfinite(lse) ? fabs(got_lse - lse) : 0;
    double off_most = LSE_MOST + 1e-6 * (isfinite(lse) ? fabs(lse) : 0);
    if (right && off > worst_lse)
        worst_lse = off;
    return off <= off_most || bad(what, t, h, "LSE is off by", off);
}

/* Whole buffers: padding and inert rows must be as they were. */
static void compare_all(struct shape *s, const char *what, int references)
{
    const struct want *w = &s->want;
    struct rfn_sparse_mla_args a = args_of(s, 0);
    struct rfn_host_env env = { .threads = 16 };
    uint16_t *got = malloc((size_t)s->out.bytes);
    float *got_lse = malloc((size_t)s->lse.bytes);
    double *o = malloc((size_t)w->H * 513 * sizeof *o);
    int live = w->live ? *(int32_t *)s->live.host : w->T, before = wrong;
    int64_t lse_row = w->H + (w->gap ? 3 : 0);
    if (!got || !got_lse || !o)
        exit(1);
    MUST(rfn_device_sync(device));
    download(&s->out, got);
    download(&s->lse, got_lse);
    memset(s->out.host, POISON, (size_t)s->out.bytes);
    memset(s->lse.host, POISON, (size_t)s->lse.bytes);
    rfn_op_sparse_mla.host(&a, &env);
    cases++;
    for (int t = 0; t < w->T && t < live; t++)
    {
        /* A few rows against doubles as well. */
        int exact = t < references;
        if (exact)
        {
            struct rfn_sparse_mla_args one = a;
            struct rfn_fault none = { 0 };
            one.live.data = NULL;
            one.q.shape[0] = 1;
            one.q.data = (uint16_t *)a.q.data + t * a.q.stride[0];
            if (w->split)
                one.q_rope.data = (uint16_t *)a.q_rope.data + t * a.q_rope.stride[0];
            for (int i = 0; i < 2 && w->K[i]; i++)
            {
                one.source[i].indices.data =
                    (int32_t *)a.source[i].indices.data + t * s->index_row[i];
                if (w->lens)
                    one.source[i].lens.data = (int32_t *)a.source[i].lens.data + t;
            }
            ref_sparse_mla(&one, NULL, o, o + w->H * 512, &none);
        }
        for (int h = 0; h < w->H; h++)
        {
            uint16_t *at = got + t * s->out_row + h * 512;
            uint16_t *host = (uint16_t *)s->out.host + t * s->out_row + h * 512;
            float *lse = got_lse + t * lse_row + h;
            float *lse_host = (float *)s->lse.host + t * lse_row + h;
            compare_head(what, t, h, at, *lse, host, NULL, *lse_host, !w->no_lse);
            if (exact)
                compare_head(what, t, h, at, *lse, NULL, o + h * 512, o[w->H * 512 + h],
                             !w->no_lse);
            memcpy(at, host, 1024); /* what is left must be equal */
            if (!w->no_lse)
                *lse = *lse_host;
        }
    }
    if (memcmp(got, s->out.host, (size_t)s->out.bytes) ||
        memcmp(got_lse, s->lse.host, (size_t)s->lse.bytes))
        bad(what, -1, -1, "written outside of the rows", 0);
    if (wrong != before)
        fprintf(stderr, "%s: %d wrong\n", what, wrong - before);
    free(got);
    free(got_lse);
    free(o);
}

static struct rfn_graph *capture(const struct rfn_sparse_mla_args *a, int times)
{
    struct rfn_graph *graph = NULL;
    MUST(rfn_capture_begin(stream, NULL));
    for (int i = 0; i < times; i++)
        MUST(rfn_sparse_mla(stream, &a[i]));
    MUST(rfn_capture_end(stream, &graph));
    return graph;
}

/* Twenty runs, then the odd rows replaced: the even rows keep their bits. */
static void check_bits(struct shape *s, struct rfn_exec *exec)
{
    const struct want *w = &s->want;
    unsigned char *first = malloc((size_t)s->out.bytes),
                  *then = malloc((size_t)s->out.bytes);
    struct rng r = rng_of(base_seed ^ 0xb175);
    if (!first || !then)
        exit(1);
    for (int i = 0; i < REPEATS + 2; i++)
    {
        if (i >= REPEATS)
        {
            for (int t = 1; t < w->T; t += 2)
                fill_row(s, t, i + 1, &r);
            upload_all(s);
        }
        MUST(rfn_exec_launch(exec, stream));
        MUST(rfn_device_sync(device));
        download(&s->out, i ? then : first);
        cases += i > 0;
        for (int t = 0; i && t < w->T; t += i < REPEATS ? 1 : 2)
            if (memcmp(first + 2 * t * s->out_row, then + 2 * t * s->out_row,
                       (size_t)w->H * 1024))
            {
                bad(i < REPEATS ? "repeat" : "other company", t, 0, "other bits, run", i);
                break;
            }
    }
    free(first);
    free(then);
}

static void check_shape(const struct want *want)
{
    struct shape s = shape_of(want);
    struct rfn_sparse_mla_args a = args_of(&s, 1);
    struct rfn_plan_env env = { .sm_count = info.sm_count,
                                .sm_arch = info.sm_arch,
                                .shared_bytes_max = 232448 };
    struct rfn_launch *launch = calloc(1, sizeof *launch);
    struct rfn_exec *exec = NULL;
    char what[128];
    int before = wrong;
    if (!launch)
        exit(1);
    MUST(rfn_op_sparse_mla.cuda(&a, &env, launch));
    snprintf(what, sizeof what, "format %d%s, T %3d, H %3d, K %4d + %d%s, grid %d",
             want->format[0],
             want->K[1] ? want->format[1] != want->format[0] ? " mixed" : " twice" : "",
             want->T, want->H, want->K[0], want->K[1], want->lens ? ", lens" : "",
             launch->nodes ? (int)launch->node[0].grid[0] : 0);
    free(launch);

    fill(&s, 0);
    upload_all(&s);
    struct rfn_graph *graph = capture(&a, 1);
    MUST(rfn_graph_instantiate(graph, &exec));
    MUST(rfn_graph_destroy(&graph));
    int references = 1 + (1 << 18) / (want->H * (want->K[0] + want->K[1]));
    MUST(rfn_sparse_mla(stream, &a));
    compare_all(&s, what, references);
    for (int round = 1; round < 3; round++)
    {
        fill(&s, round);
        upload_all(&s);
        MUST(rfn_exec_launch(exec, stream));
        compare_all(&s, what, references);
    }
    fill(&s, 3);
    upload_all(&s);
    check_bits(&s, exec);
    MUST(rfn_exec_destroy(&exec));
    printf("%-64s %s\n", what, wrong == before ? "right" : "WRONG");
    fflush(stdout);
    shape_free(&s);
}

/* A device of its own, in check mode. */
static void check_bad_indices(void)
{
    struct rfn_device *kept = device;
    struct rfn_stream *kept_stream = stream;
    struct rfn_device_desc desc = { .kind = RFN_DEVICE_CUDA, .check = 1 };
    MUST(rfn_device_open(&desc, &device));
    MUST(rfn_stream_create(device, RFN_STREAM_NONBLOCKING, &stream));
    struct want want = { .format = { 1, 2 }, .T = 9, .H = 40, .K = { 200, 90 } };
    struct shape s = shape_of(&want);
    struct rfn_sparse_mla_args a = args_of(&s, 1), on_host = args_of(&s, 0);
    struct rfn_fault expected = { 0 }, seen = { 0 };
    struct rfn_host_env env = { .fault = &expected, .threads = 4 };
    fill(&s, 0);
    upload_all(&s);
    MUST(rfn_sparse_mla(stream, &a));
    rfn_op_sparse_mla.host(&on_host, &env);
    MUST(rfn_device_sync(device));
    MUST(rfn_device_fault(device, &seen));
    cases++;
    if (!seen.op || !seen.operand || strcmp(seen.op, "sparse_mla") != 0 ||
        strncmp(seen.operand, "source[", 7) != 0 || seen.count != expected.count ||
        seen.value < (int64_t)s.want.pages * s.want.page_tokens)
        bad("check mode", (int)seen.row, 0, "bad values noted:", (double)seen.count);
    printf("bad indices: %lld noted, %lld by the host twin; one is %s, row %lld, column "
           "%lld: %lld\n",
           (long long)seen.count, (long long)expected.count,
           seen.operand ? seen.operand : "none", (long long)seen.row,
           (long long)seen.column, (long long)seen.value);
    shape_free(&s);
    MUST(rfn_stream_destroy(&stream));
    MUST(rfn_device_close(&device));
    device = kept;
    stream = kept_stream;
}

#define A RFN_LATENT_FP8_656
#define B RFN_LATENT_BF16_576
#define C RFN_LATENT_FP8_584

static void check_all(int quick)
{
    static const struct want wants[] = {
        { .format = { A }, .T = 5, .H = 16, .K = { 200 } },
        { .format = { A }, .T = 1, .H = 128, .K = { 2048 } },
        { .format = { C }, .T = 9, .H = 64, .K = { 130 }, .lens = 1 },
        { .format = { B }, .T = 9, .H = 8, .K = { 130 } },
        { .format = { A, B }, .T = 9, .H = 24, .K = { 100, 77 }, .lens = 1 },
        { .format = { A }, .T = 3, .H = 1, .K = { 64 } },
        { .format = { A }, .T = 9, .H = 8, .K = { 65 }, .split = 1, .gap = 8 },
        { .format = { A }, .T = 9, .H = 24, .K = { 63 }, .sink = 1, .lens = 1 },
        { .format = { A }, .T = 9, .H = 64, .K = { 257 }, .sink = 2, .live = 1 },
        { .format = { A }, .T = 9, .H = 128, .K = { 130 }, .lens = 1, .page_gap = 656 },
        { .format = { A }, .T = 9, .H = 127, .K = { 1 }, .empty_positive = 1 },
        { .format = { A }, .T = 130, .H = 16, .K = { 300 }, .lens = 1, .live = 1 },
        { .format = { A }, .T = 130, .H = 128, .K = { 300 }, .lens = 1 },
        { .format = { A }, .T = 64, .H = 64, .K = { 512 }, .no_lse = 1 },
        { .format = { A }, .T = 8, .H = 16, .K = { 2048 }, .pages = 300 },
        { .format = { A }, .T = 32, .H = 128, .K = { 2048 }, .pages = 300 },
        { .format = { A }, .T = 32, .H = 32, .K = { 512 } },
        { .format = { A },
          .T = 9,
          .H = 33,
          .K = { 200 },
          .page_tokens = 1,
          .pages = 900 },
        { .format = { A, A }, .T = 9, .H = 16, .K = { 100, 300 }, .lens = 1, .sink = 1 },
        { .format = { B, A }, .T = 9, .H = 64, .K = { 100, 300 }, .lens = 1 },
        { .format = { C }, .T = 9, .H = 1, .K = { 300 }, .split = 1, .sink = 1 },
        { .format = { C },
          .T = 9,
          .H = 128,
          .K = { 300 },
          .page_tokens = 3,
          .pages = 90 },
        { .format = { C, C }, .T = 9, .H = 64, .K = { 128, 512 }, .lens = 1, .gap = 16 },
        { .format = { C, C }, .T = 70, .H = 64, .K = { 128, 512 }, .sink = 2 },
        { .format = { C }, .T = 130, .H = 24, .K = { 100 }, .page_gap = 64 },
        { .format = { C }, .T = 130, .H = 16, .K = { 100 }, .lens = 1 },
        { .format = { B }, .T = 9, .H = 33, .K = { 300 }, .split = 1, .lens = 1 },
        { .format = { B, B }, .T = 130, .H = 128, .K = { 100, 30 }, .sink = 1 },
        { .format = { B }, .T = 3, .H = 16, .K = { 1000 }, .gap = 8 },
        { .format = { A, B }, .T = 130, .H = 16, .K = { 65, 64 } },
        { .format = { C }, .T = 64, .H = 16, .K = { 512 } },
    };
    int n = (int)(sizeof wants / sizeof wants[0]);
    for (int i = 0; i < (quick ? 5 : n); i++)
        check_shape(&wants[i]);
}

/* ---- time ------------------------------------------------------------------------ */

#define TIMED_LAUNCHES 12
#define TIMED_REPLAYS 5
#define TIMES 5
#define TIMED_PAGES 8192

static int by_size(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return x < y ? -1 : x > y;
}

static double time_replay(const struct rfn_sparse_mla_args *a, int launches)
{
    struct rfn_graph *graph = capture(a, launches);
    struct rfn_exec *exec = NULL;
    struct rfn_event *start = NULL, *end = NULL;
    float ms[TIMES];
    MUST(rfn_graph_instantiate(graph, &exec));
    MUST(rfn_graph_destroy(&graph));
    MUST(rfn_event_create(device, &start));
    MUST(rfn_event_create(device, &end));
    for (int i = 0; i < 2; i++)
        MUST(rfn_exec_launch(exec, stream));
    for (int k = 0; k < TIMES; k++)
    {
        MUST(rfn_event_record(start, stream, 0));
        for (int i = 0; i < TIMED_REPLAYS; i++)
            MUST(rfn_exec_launch(exec, stream));
        MUST(rfn_event_record(end, stream, 0));
        MUST(rfn_stream_sync(stream));
        MUST(rfn_event_elapsed(start, end, &ms[k]));
    }
    MUST(rfn_event_destroy(&start));
    MUST(rfn_event_destroy(&end));
    MUST(rfn_exec_destroy(&exec));
    qsort(ms, TIMES, sizeof *ms, by_size);
    return 1e3 * ms[TIMES / 2] / TIMED_REPLAYS / launches;
}

static const char *const format_name[] = { "", "fp8_656", "bf16_576", "fp8_584" };

static void measure_format(enum rfn_format format, FILE *json, int *first, int profile)
{
    static const int rows[] = { 1, 2, 8, 32, 64, 128 }, heads[] = { 128, 64, 16, 8 };
    struct want want = {
        .format = { format }, .T = 128, .H = 128, .K = { 2048 }, .pages = TIMED_PAGES
    };
    struct shape s = shape_of(&want);
    struct rng r = rng_of(base_seed);
    struct buffer q[SETS], indices[SETS];
    int64_t slots = (int64_t)TIMED_PAGES * 64;
    for (int i = 0; i < SETS; i++)
    {
        q[i] = buffer_of(s.q.bytes);
        indices[i] = buffer_of(s.indices[0].bytes);
        for (int64_t k = 0; k < q[i].bytes / 2; k++)
            ((uint16_t *)q[i].host)[k] = (uint16_t)(0x3c00 + (rng_u64(&r) & 0x80ff));
        for (int64_t k = 0; k < indices[i].bytes / 4; k++)
        {
            int64_t slot;
            do
                slot = rng_below(&r, slots);
            while (slot % HOLE == 0 || slot % KEYS == NAN_KEY);
            ((int32_t *)indices[i].host)[k] = (int32_t)slot;
        }
        upload(&q[i]);
        upload(&indices[i]);
    }
    MUST(rfn_device_sync(device));
    printf("\n%s, K = 2048, us in a graph of %d launches over %d input sets\n",
           format_name[format], TIMED_LAUNCHES, SETS);
    printf("%6s %6s %6s %10s %10s %10s\n", "heads", "rows", "grid", "us", "TB/s",
           "TFLOP/s");
    for (int h = 0; h < 4; h++)
    {
        for (int b = 0; b < 6; b++)
        {
            struct rfn_sparse_mla_args a[TIMED_LAUNCHES];
            for (int i = 0; i < TIMED_LAUNCHES; i++)
            {
                a[i] = args_of(&s, 1);
                a[i].q = rfn_tensor_of(q[i % SETS].device, RFN_BF16, rows[b], heads[h],
                                       s.qk, 0);
                a[i].out =
                    rfn_tensor_of(s.out.device, RFN_BF16, rows[b], heads[h], 512, 0);
                a[i].lse = rfn_tensor_of(s.lse.device, RFN_F32, rows[b], heads[h], 0, 0);
                a[i].source[0].indices = rfn_tensor_of(
                    indices[(i + i / SETS) % SETS].device, RFN_I32, rows[b], 2048, 0, 0);
            }
            struct rfn_plan_env env = { .sm_count = info.sm_count,
                                        .sm_arch = info.sm_arch,
                                        .shared_bytes_max = 232448 };
            struct rfn_launch *launch = calloc(1, sizeof *launch);
            if (!launch)
                exit(1);
            MUST(rfn_op_sparse_mla.cuda(a, &env, launch));
            if (profile)
            {
                for (int i = 0; rows[b] == 128 && h != 1 && i < 2; i++)
                    MUST(rfn_sparse_mla(stream, &a[i]));
                MUST(rfn_device_sync(device));
                free(launch);
                continue;
            }
            double us = time_replay(a, TIMED_LAUNCHES);
            struct rfn_cost cost = rfn_op_sparse_mla.cost(a);
            double bytes = (double)(cost.bytes_read + cost.bytes_written);
            printf("%6d %6d %6d %10.2f %10.3f %10.1f\n", heads[h], rows[b],
                   (int)launch->node[0].grid[0], us, bytes / us * 1e-6,
                   (double)cost.flops / us * 1e-6);
            if (json)
                fprintf(json,
                        "%s    {\"format\": \"%s\", \"heads\": %d, \"rows\": %d, "
                        "\"k\": 2048, \"grid\": %d, \"us\": %.3f, \"bytes\": %.0f, "
                        "\"flops\": %.0f, \"tb_per_s\": %.4f, \"tflop_per_s\": %.2f}",
                        *first ? "" : ",\n", format_name[format], heads[h], rows[b],
                        (int)launch->node[0].grid[0], us, bytes, (double)cost.flops,
                        bytes / us * 1e-6, (double)cost.flops / us * 1e-6);
            *first = 0;
            free(launch);
        }
    }
    for (int i = 0; i < SETS; i++)
    {
        buffer_free(&q[i]);
        buffer_free(&indices[i]);
    }
    shape_free(&s);
}

int main(int argc, char **argv)
{
    const char *path = NULL;
    int quick = 0, times = 1, checks = 1, profile = 0;
    for (int i = 1; i < argc; i++)
    {
        if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc)
            base_seed = strtoull(argv[++i], NULL, 0);
        else if (strcmp(argv[i], "--quick") == 0)
            quick = 1;
        else if (strcmp(argv[i], "--no-times") == 0)
            times = 0;
        else if (strcmp(argv[i], "--no-checks") == 0)
            checks = 0;
        else if (strcmp(argv[i], "--profile") == 0)
            profile = 1;
        else
            path = argv[i];
    }
    struct rfn_device_desc desc = { .kind = RFN_DEVICE_CUDA };
    if (rfn_device_open(&desc, &device) != RFN_OK)
    {
        fprintf(stderr, "%s\n", rfn_last_error());
        return 77;
    }
    MUST(rfn_device_query(device, &info));
    printf("%s, sm_%d, %d SMs, seed %llu\n", info.name, info.sm_arch, info.sm_count,
           (unsigned long long)base_seed);
    MUST(rfn_stream_create(device, RFN_STREAM_NONBLOCKING, &stream));
    if (profile) /* a few plain launches, for a profiler */
    {
        int first = 1;
        measure_format(RFN_LATENT_FP8_656, NULL, &first, 1);
        return 0;
    }
    if (checks)
    {
        check_all(quick);
        check_bad_indices();
    }
    printf(
        "%d comparisons, %d wrong; O %.2e, LSE %.2e off a double reference; O %.2e off "
        "the host twin\n",
        cases, wrong, worst_o, worst_lse, worst_o_host);
    fflush(stdout);

    FILE *json = path ? fopen(path, "w") : NULL;
    if (path && !json)
    {
        perror(path);
        return 1;
    }
    if (json)
        fprintf(json,
                "{\n  \"op\": \"sparse_mla\",\n  \"device\": \"%s\",\n  \"seed\": %llu,\n"
                "  \"comparisons\": %d,\n  \"wrong\": %d,\n  \"o_l2\": %.3e,\n"
                "  \"lse_off\": %.3e,\n  \"times\": [\n",
                info.name, (unsigned long long)base_seed, cases, wrong, worst_o,
                worst_lse);
    int first = 1;
    if (times)
    {
        measure_format(RFN_LATENT_FP8_656, json, &first, 0);
        if (!quick)
            measure_format(RFN_LATENT_FP8_584, json, &first, 0);
        if (!quick)
            measure_format(RFN_LATENT_BF16_576, json, &first, 0);
    }
    if (json)
    {
        fprintf(json, "\n  ]\n}\n");
        fclose(json);
    }
    MUST(rfn_stream_destroy(&stream));
    MUST(rfn_device_close(&device));
    return wrong != 0;
}
