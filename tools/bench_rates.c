/* What the machine can do, measured beside the ops: memory, multiply-adds, sgemm. */
#include "tools/bench.h"
#include "tools/tool.h"
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define READ_BYTES ((int64_t)256 << 20) /* beyond the caches */
#define LINE 64
#define TEAM_MAX 256
#define FMA_STEPS 2000000 /* of twelve vectors: some milliseconds */
#define GEMM_N 1024

/* ---- samples ----------------------------------------------------------------------- */

int bench_samples_more(const struct bench_samples *samples, double budget)
{
    return samples->count < 3 ||
           (samples->count < BENCH_SAMPLES_MAX && samples->sum < budget);
}

void bench_samples_add(struct bench_samples *samples, double seconds)
{
    samples->seconds[samples->count++] = seconds;
    samples->sum += seconds;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

struct bench_time bench_samples_end(struct bench_samples *samples)
{
    int32_t n = samples->count;
    double *x = samples->seconds;
    qsort(x, (size_t)n, sizeof(*x), compare);
    return (struct bench_time) {
        .repeats = n,
        .median = (x[(n - 1) / 2] + x[n / 2]) / 2,
        .best = x[0],
    };
}

/* ---- a team of threads ----------------------------------------------------------------- */

struct team
{
    int32_t threads;
    void (*part)(void *job, int32_t i, int32_t threads);
    void *job;
};

struct member
{
    const struct team *team;
    int32_t i;
    pthread_t thread;
};

static void *member_main(void *argument)
{
    struct member *member = argument;
    member->team->part(member->team->job, member->i, member->team->threads);
    return NULL;
}

/* Every part runs once; a thread that cannot be had is done without. */
static void team_run(const struct team *team)
{
    struct member member[TEAM_MAX];
    int started[TEAM_MAX] = { 0 };
    for (int32_t i = 0; i < team->threads; i++)
    {
        member[i] = (struct member) { .team = team, .i = i };
        started[i] = i > 0 && pthread_create(&member[i].thread, NULL, member_main,
                                             &member[i]) == 0;
    }
    for (int32_t i = 0; i < team->threads; i++)
    {
        if (!started[i])
        {
            member_main(&member[i]);
        }
    }
    for (int32_t i = 0; i < team->threads; i++)
    {
        if (started[i])
        {
            pthread_join(member[i].thread, NULL);
        }
    }
}

static double team_median(const struct team *team, double budget)
{
    struct bench_samples samples = { 0 };
    team_run(team);
    while (bench_samples_more(&samples, budget))
    {
        int64_t start = tool_now_ns();
        team_run(team);
        bench_samples_add(&samples, (double)(tool_now_ns() - start) * 1e-9);
    }
    return bench_samples_end(&samples).median;
}

/* ---- memory ------------------------------------------------------------------------- */

typedef uint64_t words __attribute__((vector_size(16), may_alias));

struct range
{
    char *data;
    int64_t bytes;
};

static struct range range_of(const struct range *all, int32_t i, int32_t threads)
{
    int64_t lines = all->bytes / LINE, begin = lines * i / threads * LINE;
    return (struct range) { all->data + begin, lines * (i + 1) / threads * LINE - begin };
}

static void read_part(void *job, int32_t i, int32_t threads)
{
    static _Thread_local volatile uint64_t seen;
    struct range range = range_of(job, i, threads);
    words a = { 0 }, b = { 0 }, c = { 0 }, d = { 0 };
    for (int64_t at = 0; at < range.bytes; at += LINE)
    {
        const words *line = (const words *)(range.data + at);
        a ^= line[0];
        b ^= line[1];
        c ^= line[2];
        d ^= line[3];
    }
    a ^= b ^ c ^ d;
    seen = a[0] ^ a[1];
    (void)seen;
}

/* From the first half to the second. */
static void copy_part(void *job, int32_t i, int32_t threads)
{
    const struct range *all = job;
    struct range half = { all->data, all->bytes / 2 };
    struct range from = range_of(&half, i, threads);
    memcpy(from.data + half.bytes, from.data, (size_t)from.bytes);
}

static int measure_memory(int32_t threads, double seconds, struct bench_rates *rates)
{
    struct range all = { aligned_alloc(LINE, READ_BYTES), READ_BYTES };
    if (all.data == NULL)
    {
        tool_error("no memory for a read of %lld bytes", (long long)READ_BYTES);
        return TOOL_ENVIRONMENT;
    }
    memset(all.data, 1, READ_BYTES);
    struct team team = { threads, read_part, &all };
    rates->read_bytes_s = (double)READ_BYTES / team_median(&team, seconds);
    team.part = copy_part;
    rates->copy_bytes_s = (double)READ_BYTES / team_median(&team, seconds);
    free(all.data);
    return TOOL_OK;
}

/* ---- multiply-adds ---------------------------------------------------------------------- */

/* Twelve sums hide the latency and leave registers for the two factors. */
#define SUMS 12
#define EACH(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11)

#define SUM_INIT(i) vec sum##i = { (float)(i) };
#define SUM_STEP(i) sum##i = FMA(sum##i, factor, term);
#define SUM_ADD(i) total += sum##i;

/* The sums converge to 1: neither overflow nor subnormals. */
#define FMA_PART(name, lanes, target)                                                    \
    target static void name(void *job, int32_t i, int32_t threads)                       \
    {                                                                                    \
        static _Thread_local volatile float seen;                                        \
        typedef float vec __attribute__((vector_size(4 * lanes)));                       \
        vec total = { 0 }, factor = total + 0.75f, term = total + 0.25f;                 \
        EACH(SUM_INIT)                                                                   \
        for (int step = 0; step < FMA_STEPS; step++)                                     \
        {                                                                                \
            EACH(SUM_STEP)                                                               \
        }                                                                                \
        EACH(SUM_ADD)                                                                    \
        seen = total[0];                                                                 \
        (void)seen;                                                                      \
        (void)job;                                                                       \
        (void)i;                                                                         \
        (void)threads;                                                                   \
    }

#define FMA(a, b, c) ((a) * (b) + (c))
FMA_PART(fma_base, 4, )
#undef FMA

#if defined(__x86_64__)
#include <immintrin.h>
#define FMA(a, b, c) _mm256_fmadd_ps((a), (b), (c))
FMA_PART(fma_avx2, 8, __attribute__((target("avx2,fma"))))
#undef FMA
#define FMA(a, b, c) _mm512_fmadd_ps((a), (b), (c))
FMA_PART(fma_avx512, 16, __attribute__((target("avx512f"))))
#undef FMA
#endif

static int has_avx2(void)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#else
    return 0;
#endif
}

static int has_avx512(void)
{
#if defined(__x86_64__)
    return has_avx2() && __builtin_cpu_supports("avx512f");
#else
    return 0;
#endif
}

static void measure_fma(const char *name, void (*part)(void *, int32_t, int32_t),
                        int lanes, int32_t threads, double seconds,
                        struct bench_rates *rates)
{
    struct team team = { threads, part, NULL };
    double flops = 2.0 * lanes * SUMS * FMA_STEPS * threads;
    int32_t i = rates->isas++;
    rates->fp32[i].name = name;
    rates->fp32[i].flop_s = flops / team_median(&team, seconds);
}

/* ---- sgemm ------------------------------------------------------------------------------- */

struct blas
{
    void (*set_num_threads)(int threads);
    char *(*corename)(void);
    void (*sgemm)(int order, int trans_a, int trans_b, int m, int n, int k, float alpha,
                  const float *a, int lda, const float *b, int ldb, float beta, float *c,
                  int ldc);
};

/* Stays loaded: its threads run until the program ends. */
static int blas_load(struct blas *blas)
{
    void *library = dlopen("libopenblas.so.0", RTLD_NOW | RTLD_LOCAL);
    if (library == NULL)
    {
        return 0;
    }
    *(void **)&blas->set_num_threads = dlsym(library, "openblas_set_num_threads");
    *(void **)&blas->corename = dlsym(library, "openblas_get_corename");
    *(void **)&blas->sgemm = dlsym(library, "cblas_sgemm");
    return blas->set_num_threads != NULL && blas->corename != NULL && blas->sgemm != NULL;
}

static void measure_sgemm(int32_t threads, double seconds, struct bench_rates *rates)
{
    enum
    {
        ROW_MAJOR = 101,
        NO_TRANS = 111,
        N = GEMM_N
    };
    struct blas blas;
    struct bench_samples samples = { 0 };
    float *a = malloc(3 * sizeof(float) * N * N);
    if (a == NULL || !blas_load(&blas))
    {
        free(a);
        return;
    }
    for (int i = 0; i < 3 * N * N; i++)
    {
        a[i] = (float)(i % 7) * 0.125f;
    }
    float *b = a + N * N, *c = b + N * N;
    blas.set_num_threads(threads);
    for (int warm = 0; warm < 1 || bench_samples_more(&samples, seconds); warm++)
    {
        int64_t start = tool_now_ns();
        blas.sgemm(ROW_MAJOR, NO_TRANS, NO_TRANS, N, N, N, 1, a, N, b, N, 0, c, N);
        if (warm > 0)
        {
            bench_samples_add(&samples, (double)(tool_now_ns() - start) * 1e-9);
        }
    }
    rates->matrix_flop_s = 2.0 * N * N * N / bench_samples_end(&samples).median;
    snprintf(rates->matrix_by, sizeof(rates->matrix_by), "OpenBLAS sgemm, %s",
             blas.corename());
    free(a);
}

int bench_rates_measure(int32_t threads, double seconds, struct bench_rates *ret_rates)
{
    struct bench_rates rates = { 0 };
    threads = threads < TEAM_MAX ? threads : TEAM_MAX;
    int status = measure_memory(threads, seconds, &rates);
    if (status != TOOL_OK)
    {
        return status;
    }
    measure_fma("base", fma_base, 4, threads, seconds, &rates);
#if defined(__x86_64__)
    if (has_avx2())
    {
        measure_fma("avx2", fma_avx2, 8, threads, seconds, &rates);
    }
    if (has_avx512())
    {
        measure_fma("avx512", fma_avx512, 16, threads, seconds, &rates);
    }
#endif
    measure_sgemm(threads, seconds, &rates);
    *ret_rates = rates;
    return TOOL_OK;
}
