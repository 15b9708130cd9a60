/*
 * index_logits on a GPU against its host twin: launched, captured and replayed with other
 * lengths in the same buffers, bit-equal repeats, rows alone and in company, bad pages in
 * check mode; then the time of a replay over rotating pages. Needs nothing but the library.
 *
 *     cuda_logits [--seed N] [--no-times] [--small] [--shape I]
 *                 [--one B CONTEXT NEXT_N HEADS] [result.json]
 *
 * Exit code 77 where no CUDA device is.
 */
#define RFN_NO_SITES
#include "tests/device/cuda_logits.h"
#include "tests/device/cuda_logits_time.h"

#include <math.h>
#include <string.h>

#define TOLERANCE 1e-5
#define ROUNDS 4

/* ---- inputs ---------------------------------------------------------------------- */

/* Any e4m3 but NaN. */
static uint8_t byte_of(uint64_t u)
{
    uint8_t b = (uint8_t)u;
    return (b & 0x7f) == 0x7f ? (uint8_t)(b ^ 0x10) : b;
}

static int64_t length_of(const struct shape *s, struct rng *r)
{
    static const int64_t some[] = { 0,   1,   2,    31,   32,   33,   63,   64,   65,
                                    127, 128, 129,  255,  256,  257,  1000, 2047, 2048,
                                    -7,  511, 2049, 8191, 8192, 8193, 4096 };
    int64_t n = s->c.longest, at = rng_below(r, 32);
    int64_t L = at < 25 ? some[at] : at < 28 ? n : at < 30 ? n - 1 : rng_below(r, n + 1);
    return L < n ? L : n;
}

enum fill
{
    LONGEST,   /* all rows */
    MIXED,     /* the lengths of length_of */
    ZERO,      /* all rows */
    NANS,      /* MIXED, and some keys, scales, queries and weights are NaN or inf */
    BAD_PAGES, /* MIXED, and requests and pages that are none */
};

/* Pages that no token of a row is on, and tokens past a row's length, are NaN bytes. Each
 * request has pages of its own. */
static void fill(struct shape *s, int round, enum fill how)
{
    struct rng r = rng_of(base_seed ^ (uint64_t)(round + 1) << 32 ^
                          (uint64_t)(s->c.S * 4096 + s->c.H * 64 + s->T));
    int64_t H = s->c.H, P = s->c.P, R = s->c.R, n = s->c.next_n;
    uint8_t *pool = s->pool.host, *q8 = s->q8.host;
    float *w8 = s->w8.host;
    int32_t *table = s->table.host, *lens = s->lens.host, *request = s->request.host;
    memset(pool, 0xff, (size_t)s->pool.bytes);
    memset(q8, 0xff, (size_t)s->q8.bytes);
    memset(s->logits.host, POISON, (size_t)s->logits.bytes);
    for (int64_t i = 0; i < R * s->table_row; i++)
        table[i] = -1 - (int32_t)rng_below(&r, 3);
    for (int64_t i = 0; i < s->T * s->w_row; i++)
        w8[i] = rng_normal(&r);
    for (int64_t t = 0; t < s->T; t++)
        for (int64_t h = 0; h < H; h++)
            for (int64_t d = 0; d < DIM; d++)
                q8[t * s->q_row + h * s->q_head + d] = byte_of(rng_u64(&r) >> 24);

    int64_t page = 1 + round % 2; /* the last page of the pool is used in odd rounds */
    for (int64_t b = 0; b < R; b++)
    {
        int64_t context = how == ZERO      ? 0
                          : how == LONGEST ? s->c.longest
                                           : length_of(s, &r);
        for (int64_t j = 0; j < n; j++)
        {
            int64_t L = context - n + 1 + j;
            if (how == MIXED && n > 1 && rng_below(&r, 8) == 0)
                L = -1; /* a request with fewer rows in this step */
            lens[b * n + j] = (int32_t)(n == 1 ? context : L);
            request[b * n + j] = (int32_t)b;
        }
        for (int64_t i = 0; i * P < context; i++, page++)
        {
            uint8_t *at = pool + page * s->page_bytes;
            int64_t tokens = context - i * P < P ? context - i * P : P;
            table[b * s->table_row + i] = (int32_t)page;
            for (int64_t k = 0; k < tokens; k++)
            {
                float scale = 0x1p-9f * (float)(1 + rng_below(&r, 4096));
                memcpy(at + P * DIM + 4 * k, &scale, 4);
                for (int64_t d = 0; d < DIM; d += 8)
                {
                    uint64_t u = rng_u64(&r);
                    for (int64_t e = 0; e < 8; e++)
                        at[k * DIM + d + e] = byte_of(u >> 8 * e);
                }
            }
            if (how == NANS && rng_below(&r, 4) == 0)
            {
                float odd = rng_below(&r, 2) ? INFINITY : NAN;
                memcpy(at + P * DIM + 4 * rng_below(&r, tokens), &odd, 4);
                at[rng_below(&r, tokens * DIM)] = 0x7f;
            }
        }
    }
    if (how == NANS)
        for (int64_t t = 0; t < s->T; t += 3)
        {
            if (t % 2)
                q8[t * s->q_row + rng_below(&r, H) * s->q_head + 5] = 0xff;
            else
                w8[t * s->w_row + rng_below(&r, H)] = t % 4 ? INFINITY : NAN;
        }
    if (how == BAD_PAGES)
    {
        for (int64_t t = 0; t < s->T; t += 7)
            request[t] = t % 2 ? -1 - (int32_t)t : (int32_t)(R + t);
        for (int64_t b = 0; b < R; b++)
            for (int64_t i = b % 3; i < s->W; i += 3)
                table[b * s->table_row + i] =
                    i % 2 ? -5 : (int32_t)(s->pages + rng_below(&r, 9));
        lens[0] = (int32_t)s->c.S + 9; /* counts as S: past the pages of its request */
    }
    *(int32_t *)s->live.host = (int32_t)(round == 2 ? s->T - 1 : s->T + 1);
}

/* ---- comparing ------------------------------------------------------------------- */

static int rounds = ROUNDS;
static int cases;
static int wrong;
static double worst_l2[2];    /* by path, of a row of 64 columns or more */
static double worst_score[2]; /* of the magnitudes that go into it */

static float *fetch(const struct buffer *b)
{
    float *got = malloc((size_t)b->bytes);
    if (!got)
        exit(1);
    MUST(rfn_copy_sync(device, got, b->device, b->bytes));
    return got;
}

/* The magnitudes that go into each score: the host twin on absolute values. */
static float *magnitudes(struct shape *s)
{
    struct buffer *abs_of[] = { &s->q8, &s->pool, &s->w8, &s->logits };
    uint8_t *kept[4];
    for (int i = 0; i < 4; i++)
    {
        kept[i] = abs_of[i]->host;
        abs_of[i]->host = malloc((size_t)abs_of[i]->bytes);
        if (!abs_of[i]->host)
            exit(1);
        memcpy(abs_of[i]->host, kept[i], (size_t)abs_of[i]->bytes);
    }
    uint8_t *q = s->q8.host, *pool = s->pool.host;
    float *w = s->w8.host;
    for (int64_t i = 0; i < s->q8.bytes; i++)
        q[i] &= 0x7f;
    for (int64_t b = 0; b < s->pages; b++)
        for (int64_t i = 0; i < s->c.P * DIM; i++)
            pool[b * s->page_bytes + i] &= 0x7f;
    for (int64_t i = 0; i < s->w8.bytes / 4; i++)
        w[i] = fabsf(w[i]);
    struct rfn_index_logits_args a = args_of(s, 0, 0, s->T, 0);
    struct rfn_host_env env = { .threads = 8 };
    rfn_op_index_logits.host(&a, &env);
    float *ret = s->logits.host;
    for (int i = 0; i < 4; i++)
    {
        if (i < 3)
            free(abs_of[i]->host);
        abs_of[i]->host = kept[i];
    }
    return ret;
}

static int same_kind(float a, float b)
{
    if (isnan(a) || isnan(b))
        return isnan(a) && isnan(b);
    if (isinf(a) || isinf(b))
        return a == b;
    return 1;
}

static void complain(const struct shape *s, const char *what, int round, int64_t t,
                     int64_t column, float got, float expected)
{
    fprintf(stderr,
            "%s, %s: H = %lld, S = %lld, round %d, row %lld (L = %d), column %lld: "
            "%.9g, expected %.9g\n",
            path_name[path], what, (long long)s->c.H, (long long)s->c.S, round,
            (long long)t, ((int32_t *)s->lens.host)[t], (long long)column, (double)got,
            (double)expected);
    wrong++;
}

/* Expects what the host twin computes: its bits where nothing is written, its -inf and NaN
 * in their places, all else within the tolerance. */
static void compare(struct shape *s, const float *got, const float *expected,
                    const float *size, const char *what, int round)
{
    cases++;
    for (int64_t t = 0; t < s->T; t++)
    {
        const float *x = got + t * s->logits_row, *y = expected + t * s->logits_row;
        const float *z = size + t * s->logits_row;
        int64_t L = ((int32_t *)s->lens.host)[t], n = 0;
        double error = 0, norm = 0;
        L = L < 0 ? 0 : L < s->c.S ? L : s->c.S;
        if (t >= *(int32_t *)s->live.host)
            L = 0;
        for (int64_t i = 0; i < s->logits_row; i++)
        {
            double d = (double)x[i] - y[i];
            if (i < L && same_kind(x[i], y[i]))
            {
                if (isnan(d) || isinf(y[i]))
                    continue;
                double share = d == 0 ? 0 : fabs(d) / z[i];
                error += d * d;
                norm += (double)y[i] * y[i];
                n++;
                if (share > worst_score[path])
                    worst_score[path] = share;
                if (share <= TOLERANCE || isinf(z[i]) || isnan(z[i]))
                    continue;
            }
            else if (memcmp(&x[i], &y[i], 4) == 0)
                continue;
            complain(s, what, round, t, i, x[i], y[i]);
            return;
        }
        double l2 = norm > 0 ? sqrt(error / norm) : 0;
        if (n < 64)
            continue;
        worst_l2[path] = l2 > worst_l2[path] ? l2 : worst_l2[path];
        if (l2 > TOLERANCE)
        {
            fprintf(stderr, "%s, %s: H = %lld, S = %lld, row %lld: relative L2 %.3g\n",
                    path_name[path], what, (long long)s->c.H, (long long)s->c.S,
                    (long long)t, l2);
            wrong++;
            return;
        }
    }
}

static void expect_bits(const struct shape *s, const float *got, const float *expected,
                        int64_t elems, const char *what, int round, int64_t row)
{
    cases++;
    for (int64_t i = 0; i < elems; i++)
    {
        if (memcmp(&got[i], &expected[i], 4) == 0)
            continue;
        complain(s, what, round, row + i / s->logits_row, i % s->logits_row, got[i],
                 expected[i]);
        return;
    }
}

static struct rfn_graph *capture(const struct rfn_index_logits_args *a)
{
    struct rfn_graph *graph = NULL;
    MUST(rfn_capture_begin(stream, NULL));
    MUST(launch_path(a));
    MUST(rfn_capture_end(stream, &graph));
    return graph;
}

/* Rows alone have the bits that they have beside all others. */
static void check_alone(struct shape *s, const float *all, int round)
{
    for (int64_t t = 0; t < s->T && t < *(int32_t *)s->live.host; t += 1 + s->T / 3)
    {
        struct rfn_index_logits_args a = args_of(s, 1, t, 1, 0);
        upload(&s->logits);
        MUST(rfn_device_sync(device));
        MUST(launch_path(&a));
        MUST(rfn_device_sync(device));
        float *got = fetch(&s->logits);
        expect_bits(s, got + t * s->logits_row, all + t * s->logits_row, s->logits_row,
                    "alone", round, t);
        free(got);
    }
}

static void check_shape(const struct config *c)
{
    static const enum fill how[ROUNDS] = { LONGEST, MIXED, NANS, ZERO };
    struct shape s = shape_of(c);
    struct rfn_index_logits_args a = args_of(&s, 1, 0, s.T, 1);
    struct rfn_index_logits_args h = args_of(&s, 0, 0, s.T, 1);
    struct rfn_host_env env = { .threads = 8 };
    struct rfn_exec *exec = NULL;
    int before = wrong;

    fill(&s, 0, how[0]);
    upload_all(&s);
    struct rfn_graph *graph = capture(&a);
    struct rfn_graph_info info;
    MUST(rfn_graph_query(graph, &info));
    if (info.nodes != 1 || info.node[RFN_NODE_KERNEL] != 1)
    {
        fprintf(stderr, "the graph has %d nodes, %d kernels\n", info.nodes,
                info.node[RFN_NODE_KERNEL]);
        wrong++;
    }
    MUST(rfn_graph_instantiate(graph, &exec));
    MUST(rfn_graph_destroy(&graph));
    for (int round = 0; round < rounds; round++)
    {
        fill(&s, round, how[round]);
        upload_all(&s);
        MUST(launch_path(&a));
        float *size = magnitudes(&s);
        memset(s.logits.host, POISON, (size_t)s.logits.bytes);
        rfn_op_index_logits.host(&h, &env);
        MUST(rfn_device_sync(device));
        float *first = fetch(&s.logits);
        compare(&s, first, s.logits.host, size, "launch", round);
        memset(s.logits.host, POISON, (size_t)s.logits.bytes);
        for (int again = 0; again < 3; again++)
        {
            upload(&s.logits);
            MUST(rfn_device_sync(device));
            MUST(rfn_exec_launch(exec, stream));
            MUST(rfn_device_sync(device));
            float *replayed = fetch(&s.logits);
            expect_bits(&s, replayed, first, s.logits.bytes / 4, "replay", round, 0);
            free(replayed);
        }
        check_alone(&s, first, round);
        free(first);
        free(size);
    }
    MUST(rfn_exec_destroy(&exec));
    printf("%-8s R = %4lld, next_n %lld, H = %2lld, S = %7lld, P = %3lld%s: %s\n",
           path_name[path], (long long)c->R, (long long)c->next_n, (long long)c->H,
           (long long)c->S, (long long)c->P, c->spread ? ", strided" : "",
           wrong == before ? "right" : "WRONG");
    fflush(stdout);
    shape_free(&s);
}

/* A device of its own, in check mode. */
static void check_bad_pages(const struct config *c)
{
    struct rfn_device *kept = device;
    struct rfn_stream *kept_stream = stream;
    struct rfn_device_desc desc = { .kind = RFN_DEVICE_CUDA, .check = 1 };
    MUST(rfn_device_open(&desc, &device));
    MUST(rfn_stream_create(device, RFN_STREAM_NONBLOCKING, &stream));
    struct shape s = shape_of(c);
    struct rfn_index_logits_args a = args_of(&s, 1, 0, s.T, 1);
    struct rfn_index_logits_args h = args_of(&s, 0, 0, s.T, 1);
    struct rfn_fault expected = { 0 }, seen = { 0 };
    struct rfn_host_env env = { .fault = &expected, .threads = 8 };
    fill(&s, 1, BAD_PAGES);
    upload_all(&s);
    MUST(launch_path(&a));
    float *size = magnitudes(&s);
    memset(s.logits.host, POISON, (size_t)s.logits.bytes);
    rfn_op_index_logits.host(&h, &env);
    MUST(rfn_device_sync(device));
    float *got = fetch(&s.logits);
    compare(&s, got, s.logits.host, size, "bad pages", 1);
    MUST(rfn_device_fault(device, &seen));
    cases++;
    if (!seen.op || !seen.operand || strcmp(seen.op, "index_logits") != 0 ||
        seen.count != expected.count)
    {
        fprintf(stderr, "fault: op %s, %lld bad values; the host twin met %lld\n",
                seen.op ? seen.op : "none", (long long)seen.count,
                (long long)expected.count);
        wrong++;
    }
    else
        printf(
            "%-8s bad pages: %lld noted, one of them %s, row %lld, column %lld: %lld\n",
            path_name[path], (long long)seen.count, seen.operand, (long long)seen.row,
            (long long)seen.column, (long long)seen.value);
    free(got);
    free(size);
    shape_free(&s);
    MUST(rfn_stream_destroy(&stream));
    MUST(rfn_device_close(&device));
    device = kept;
    stream = kept_stream;
}

/* Below sm_80 there is no plan, and the error names both. */
static void check_old_gpu(void)
{
    static const struct config c = { 1, 1, 64, 64, 64, 64, 0, 0 };
    struct shape s = shape_of(&c);
    struct rfn_index_logits_args a = args_of(&s, 1, 0, 1, 0);
    struct rfn_plan_env env = { .sm_count = 132,
                                .sm_arch = 75,
                                .shared_bytes_max = 65536 };
    struct rfn_launch *launch = calloc(1, sizeof *launch);
    if (!launch)
        exit(1);
    enum rfn_status status = rfn_op_index_logits.cuda(&a, &env, launch);
    cases++;
    if (status != RFN_UNSUPPORTED || !strstr(rfn_last_error(), "sm_75") ||
        !strstr(rfn_last_error(), "sm_80"))
    {
        fprintf(stderr, "a plan for sm_75: %s: %s\n", rfn_status_name(status),
                rfn_last_error());
        wrong++;
    }
    free(launch);
    shape_free(&s);
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
    const char *file = NULL;
    int times = 1;
    int only = -1;          /* checks this shape alone, in one round: for sanitizers */
    int small = 0;          /* leaves out what takes a sanitizer minutes */
    int64_t one[4] = { 0 }; /* times this shape and checks nothing */
    for (int i = 1; i < argc; i++)
    {
        if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc)
            base_seed = strtoull(argv[++i], NULL, 0);
        else if (strcmp(argv[i], "--one") == 0 && i + 4 < argc)
            for (int k = 0; k < 4; k++)
                one[k] = strtoll(argv[++i], NULL, 0);
        else if (strcmp(argv[i], "--no-times") == 0)
            times = 0;
        else if (strcmp(argv[i], "--small") == 0)
            small = 1;
        else if (strcmp(argv[i], "--shape") == 0 && i + 1 < argc)
        {
            only = atoi(argv[++i]);
            rounds = 1;
        }
        else
            file = argv[i];
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
           info.sm_count, driver, (unsigned long long)base_seed);
    MUST(rfn_stream_create(device, RFN_STREAM_NONBLOCKING, &stream));

    static const struct config configs[] = {
        { 1, 1, 64, 4096, 64, 4096, 0 },     { 24, 1, 64, 8448, 64, 8193, 1 },
        { 9, 2, 64, 2304, 64, 2100, 1 },     { 6, 5, 64, 1100, 64, 1100, 0 },
        { 5, 8, 32, 1025, 64, 1025, 1 },     { 31, 1, 32, 2112, 64, 2112, 0 },
        { 33, 3, 16, 640, 64, 600, 1 },      { 16, 1, 4, 2112, 64, 2100, 0 },
        { 8, 1, 24, 1000, 64, 1000, 1 },     { 8, 1, 48, 1000, 64, 1000, 0 },
        { 8, 2, 8, 1000, 16, 1000, 1 },      { 8, 1, 64, 700, 48, 700, 0 },
        { 8, 2, 64, 700, 5, 690, 0 },        { 8, 1, 64, 700, 256, 700, 1 },
        { 300, 1, 16, 320, 64, 257, 0 },     { 1100, 2, 8, 130, 64, 100, 0 },
        { 2, 1, 64, 163840, 64, 163840, 0 }, { 1, 1, 8, 1048576, 64, 1048576, 0 },
    };
    paths_begin();
    check_old_gpu();
    for (path = 0; !one[0] && path < 2; path++)
    {
        size_t most = sizeof configs / sizeof configs[0];
        for (size_t i = 0; i < (small ? most - 2 : most); i++)
            if (only < 0 || only == (int)i)
                check_shape(&configs[i]);
        for (int i = 1; only < 0 && i < 4; i++)
            check_bad_pages(&configs[5 * i - 4]);
        printf("%d comparisons, %d wrong; %s: relative L2 of a row up to %.2e, a score's "
               "error up to %.2e of its magnitudes\n",
               cases, wrong, path_name[path], worst_l2[path], worst_score[path]);
    }
    fflush(stdout);

    FILE *json = file ? fopen(file, "w") : NULL;
    if (file && !json)
    {
        perror(file);
        return 1;
    }
    if (json)
        fprintf(json,
                "{\n  \"op\": \"index_logits\",\n  \"device\": \"%s\",\n"
                "  \"driver\": \"%s\",\n  \"seed\": %llu,\n  \"comparisons\": %d,\n"
                "  \"wrong\": %d,\n  \"relative_l2\": [%.3g, %.3g],\n"
                "  \"score_error\": [%.3g, %.3g],\n  \"paths\": [\"%s\", \"%s\"],\n"
                "  \"note\": \"each launch of a graph reads pages of its own; median of "
                "%d replays\",\n  \"times\": [\n",
                info.name, driver, (unsigned long long)base_seed, cases, wrong,
                worst_l2[0], worst_l2[1], worst_score[0], worst_score[1], path_name[0],
                path_name[1], TIMED_REPLAYS);
    if (times)
        measure(json, one[0] ? one : NULL);
    if (json)
    {
        fprintf(json, "\n  ]\n}\n");
        fclose(json);
    }
    MUST(rfn_stream_destroy(&stream));
    MUST(rfn_device_close(&device));
    return wrong != 0;
}
