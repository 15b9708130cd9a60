/*
 * sparse_mla on a GPU against its host twin and a double reference: launched, captured and
 * replayed with other indices in the same buffers, bit-equal repeats, rows in other company,
 * bad indices in check mode; the kernels of lesser GPUs likewise, planned as for them; rows
 * in launches of other sizes; then the time of a replay over rotating inputs. Needs nothing
 * but the library.
 *
 *     cuda_mla [--seed N] [--quick] [--small] [--no-times] [--no-checks] [--portable]
 *              [--invariant] [--profile] [result.json]
 *
 * --small: for compute-sanitizer, one launch of each kernel, as planned for GPUs so small that
 * few rows fill them.
 * --portable and --invariant: times of the portable kernels, and with batch_invariant.
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

/* Some runs, then the odd rows replaced: the even rows keep their bits. */
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
    struct rfn_launch launch = plan_here(&a);
    struct rfn_exec *exec = NULL;
    char what[128];
    int before = wrong;
    snprintf(what, sizeof what, "%s, format %d%s, T %3d, H %3d, K %4d + %d%s, grid %d",
             gpu->name, want->format[0],
             want->K[1] ? want->format[1] != want->format[0] ? " mixed" : " twice" : "",
             want->T, want->H, want->K[0], want->K[1], want->lens ? ", lens" : "",
             launch.nodes ? (int)launch.node[0].grid[0] : 0);

    fill(&s, 0);
    upload_all(&s);
    struct rfn_graph *graph = capture(&a, 1);
    MUST(rfn_graph_instantiate(graph, &exec));
    MUST(rfn_graph_destroy(&graph));
    int references = 1 + (1 << 18) / (want->H * (want->K[0] + want->K[1]));
    MUST(rfn_op_launch(stream, &op, &a));
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
    printf("%-76s %s\n", what, wrong == before ? "right" : "WRONG");
    fflush(stdout);
    shape_free(&s);
}

/* Rows of a launch of all with batch_invariant, then in launches of 1 .. 128 of them: equal
 * bits. Without the flag some differ, or this would check nothing. */
static void check_invariant(const struct want *want)
{
    static const int rows[] = { 128, 1, 2, 8, 32, 97 };
    struct shape s = shape_of(want);
    struct rfn_sparse_mla_args all = args_of(&s, 1);
    unsigned char *first = malloc((size_t)s.out.bytes),
                  *then = malloc((size_t)s.out.bytes);
    int before = wrong, compared = 0, differ[2] = { 0 };
    if (!first || !then)
        exit(1);
    fill(&s, 0);
    upload_all(&s);
    for (int flag = 0; flag < 2; flag++)
    {
        for (int i = 0; i < 6; i++)
        {
            for (int t = 0; t < want->T; t += rows[i])
            {
                struct rfn_sparse_mla_args a = all;
                a.batch_invariant = flag;
                struct rfn_tensor *of_rows[] = { &a.q,
                                                 &a.out,
                                                 &a.lse,
                                                 &a.source[0].indices,
                                                 &a.source[0].lens,
                                                 &a.source[1].indices,
                                                 &a.source[1].lens };
                for (int k = 0; k < 7; k++)
                {
                    struct rfn_tensor *x = of_rows[k];
                    int64_t bytes = x->stride[0] * rfn_dtype_bytes(x->dtype);
                    if (!x->data)
                        continue;
                    x->data = (char *)x->data + t * bytes;
                    x->shape[0] = want->T - t < rows[i] ? want->T - t : rows[i];
                }
                MUST(rfn_op_launch(stream, &op, &a));
            }
            MUST(rfn_device_sync(device));
            download(&s.out, i ? then : first);
            for (int t = 0; i && t < want->T; t++)
                differ[flag] +=
                    memcmp(first + 2 * t * s.out_row, then + 2 * t * s.out_row,
                           (size_t)want->H * 1024) != 0;
            compared += i && flag ? want->T : 0;
        }
    }
    cases += compared;
    if (differ[1])
        bad("batch_invariant", -1, want->H, "rows of other bits:", differ[1]);
    if (!differ[0] && gpu->sm_arch != 80)
        bad("without batch_invariant", -1, want->H, "no row has other bits:", 0);
    printf(
        "%s, batch_invariant, format %d, H %3d: %d rows compared, %d differ; without it "
        "%d %s\n",
        gpu->name, want->format[0], want->H, compared, differ[1], differ[0],
        wrong == before ? "right" : "WRONG");
    fflush(stdout);
    free(first);
    free(then);
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

/* A GPU whose blocks have too little shared memory for a format: both numbers are named. */
static void check_refused(const struct want *want)
{
    struct shape s = shape_of(want);
    struct rfn_sparse_mla_args a = args_of(&s, 1);
    char bytes[16];
    snprintf(bytes, sizeof bytes, "%d", gpu->shared_bytes);
    cases++;
    if (rfn_op_launch(stream, &op, &a) != RFN_UNSUPPORTED ||
        !strstr(rfn_last_error(), bytes) || !strstr(rfn_last_error(), " needs 1"))
        bad("too little shared memory", 0, 0, rfn_last_error(), gpu->shared_bytes);
    shape_free(&s);
}

#define A RFN_LATENT_FP8_656
#define B RFN_LATENT_BF16_576
#define C RFN_LATENT_FP8_584

/* Every kernel once, with at least as many tiles a block as its ring has stages, and more. */
static void check_small(void)
{
    static const struct small
    {
        int sm_count, sm_arch, shared_bytes;
        struct want want;
    } smalls[] = {
        { 132, 90, 232448, { .format = { A }, .T = 1, .H = 16, .K = { 1530 } } },
        { 16, 90, 232448, { .format = { A }, .T = 3, .H = 16, .K = { 760 }, .lens = 1 } },
        { 32, 90, 232448, { .format = { A }, .T = 1, .H = 64, .K = { 760 } } },
        { 132, 80, 232448, { .format = { A }, .T = 2, .H = 16, .K = { 290 } } },
        { 4, 90, 232448, { .format = { A }, .T = 1, .H = 128, .K = { 760 } } },
        { 1, 80, 232448, { .format = { A }, .T = 2, .H = 60, .K = { 290 }, .sink = 1 } },
        { 132, 80, 101376, { .format = { A }, .T = 2, .H = 16, .K = { 290 } } },
        { 132, 90, 232448, { .format = { C }, .T = 1, .H = 16, .K = { 1530 } } },
        { 16, 90, 232448, { .format = { C }, .T = 3, .H = 16, .K = { 760 } } },
        { 32, 90, 232448, { .format = { C }, .T = 1, .H = 64, .K = { 760 }, .lens = 1 } },
        { 132, 80, 232448, { .format = { C }, .T = 2, .H = 16, .K = { 290 } } },
        { 1, 80, 232448, { .format = { C }, .T = 2, .H = 60, .K = { 290 }, .sink = 1 } },
        { 132, 80, 101376, { .format = { C }, .T = 2, .H = 16, .K = { 290 } } },
        { 132, 90, 232448, { .format = { B }, .T = 1, .H = 16, .K = { 1530 } } },
        { 16, 90, 232448, { .format = { B }, .T = 1, .H = 32, .K = { 760 } } },
        { 132, 80, 232448, { .format = { B }, .T = 2, .H = 30, .K = { 290 } } },
        { 132, 80, 166912, { .format = { B }, .T = 2, .H = 16, .K = { 290 } } },
        { 132, 90, 232448, { .format = { A, B }, .T = 2, .H = 16, .K = { 130, 70 } } },
        { 132, 80, 166912, { .format = { B, A }, .T = 2, .H = 16, .K = { 70, 130 } } },
    };
    const int n = (int)(sizeof smalls / sizeof smalls[0]);
    const void *kernel[sizeof smalls / sizeof smalls[0]];
    for (int i = 0; i < n; i++)
    {
        const struct small *x = &smalls[i];
        const struct gpu as = { "small", x->sm_arch, x->shared_bytes, x->sm_count };
        char what[64];
        gpu = &as;
        struct shape s = shape_of(&x->want);
        struct rfn_sparse_mla_args a = args_of(&s, 1);
        kernel[i] = plan_here(&a).node[0].kernel;
        snprintf(what, sizeof what, "small %d, format %d, T %d, H %d, K %d", i,
                 x->want.format[0], x->want.T, x->want.H, x->want.K[0]);
        for (int k = 0; k < i; k++)
            if (kernel[k] == kernel[i])
                bad(what, -1, 0, "the kernel is that of shape", k);
        fill(&s, 0);
        upload_all(&s);
        MUST(rfn_op_launch(stream, &op, &a));
        compare_all(&s, what, x->want.T);
        printf("%s\n", what);
        fflush(stdout);
        shape_free(&s);
        gpu = &gpus[0];
    }
}

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
        /* 64 heads a block, alone and two to a cluster */
        { .format = { A }, .T = 66, .H = 128, .K = { 190 }, .lens = 1 },
        { .format = { A }, .T = 33, .H = 128, .K = { 512 }, .sink = 1, .lens = 1 },
    };
    int n = (int)(sizeof wants / sizeof wants[0]);
    for (int k = 0; k < GPUS; k++)
    {
        gpu = &gpus[k];
        for (int i = 0; i < (quick ? 5 : n); i++)
        {
            const struct want *w = &wants[i];
            int work = w->T * w->H * (w->K[0] + w->K[1]);
            if (k > 1 && work > 3000000)
                continue;
            if (w->format[0] != B && w->format[1] != B)
                check_shape(w);
            else if (gpu->shared_bytes > 110000 || k == 0)
                check_shape(w);
            else
                check_refused(w);
        }
    }
    gpu = &gpus[0];
    static const struct want invariant[] = {
        { .format = { A }, .T = 128, .H = 128, .K = { 2048 }, .lens = 1, .pages = 300 },
        { .format = { A }, .T = 128, .H = 64, .K = { 512 }, .sink = 1 },
        { .format = { A }, .T = 128, .H = 16, .K = { 2048 } },
        { .format = { A }, .T = 128, .H = 8, .K = { 1000 } },
        { .format = { B }, .T = 128, .H = 32, .K = { 500 } },
        { .format = { C, C }, .T = 128, .H = 64, .K = { 128, 512 } },
    };
    for (int i = 0; i < (quick ? 1 : 6); i++)
        check_invariant(&invariant[i]);
}

int main(int argc, char **argv)
{
    const char *path = NULL;
    int quick = 0, times = 1, checks = 1, profile = 0, portable = 0, small = 0;
    for (int i = 1; i < argc; i++)
    {
        if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc)
            base_seed = strtoull(argv[++i], NULL, 0);
        else if (strcmp(argv[i], "--quick") == 0)
            quick = 1;
        else if (strcmp(argv[i], "--small") == 0)
        {
            small = 1;
            times = 0;
        }
        else if (strcmp(argv[i], "--no-times") == 0)
            times = 0;
        else if (strcmp(argv[i], "--no-checks") == 0)
            checks = 0;
        else if (strcmp(argv[i], "--profile") == 0)
            profile = 1;
        else if (strcmp(argv[i], "--portable") == 0)
            portable = 1;
        else if (strcmp(argv[i], "--invariant") == 0)
            timed_invariant = 1;
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
    plan_ready();
    if (profile) /* a few plain launches, for a profiler */
    {
        int first = 1;
        measure_format(RFN_LATENT_FP8_656, NULL, &first, 1);
        return 0;
    }
    if (checks)
    {
        small ? check_small() : check_all(quick);
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
    if (portable)
        gpu = &gpus[1];
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
