/* Times of the host twins at the sizes of a decode step, with bytes and flops from cost(). */
#define _POSIX_C_SOURCE 200809L
#include "tests/checkop/checkop.h"
#include "tests/checkop/reference.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SECONDS_MIN 0.4

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void measure(struct ck_case *c, const char *size, int threads, double scores)
{
    struct rfn_host_env env = { NULL, threads };
    struct rfn_cost cost = c->op->cost(&c->args);
    double best = 1e9, begin = now();
    if (rfn_op_check(c->op, &c->args) != RFN_OK)
    {
        printf("%s: %s\n", c->op->name, rfn_last_error());
        return;
    }
    for (int i = 0; i < 3 || now() - begin < SECONDS_MIN; i++)
    {
        double start = now();
        c->op->host(&c->args, &env);
        double took = now() - start;
        best = took < best ? took : best;
    }
    printf("%-11s %-44s %2d threads %10.3f ms %8.2f GB/s", c->op->name, size, threads,
           best * 1e3, (double)(cost.bytes_read + cost.bytes_written) / best * 1e-9);
    if (scores > 0)
        printf(" %8.1f M scores/s", scores / best * 1e-6);
    else
        printf(" %8.2f GFLOP/s", (double)cost.flops / best * 1e-9);
    printf("\n");
}

static void random_bf16(struct rng *r, void *data, int64_t elems)
{
    for (int64_t i = 0; i < elems; i++)
    {
        float x = rng_normal(r);
        uint32_t u;
        memcpy(&u, &x, 4);
        ((uint16_t *)data)[i] = (uint16_t)(u >> 16);
    }
}

static void bench_kv_pack(enum rfn_format format, const char *size, int threads)
{
    struct ck_case c = { .op = &rfn_op_kv_pack, .rng = rng_of(1) };
    struct rfn_kv_pack_args *a = &c.args.kv_pack;
    int T = 1024, D = ref_latent(format);
    a->kv = ck_tensor(&c, RFN_BF16, 0, 0, T, D, 0);
    a->k_rope = ck_tensor(&c, RFN_BF16, 0, 0, T, 64, 0);
    a->slots = ck_tensor(&c, RFN_I64, 0, 0, T, 0, 0);
    a->pool = ck_pool(&c, format, 64, 32, 0, 0);
    random_bf16(&c.rng, a->kv.data, (int64_t)T * D);
    for (int t = 0; t < T; t++)
        ((int64_t *)a->slots.data)[t] = t * 2;
    measure(&c, size, threads, 0);
    ck_destroy(&c);
}

enum scores
{
    RANDOM,
    EQUAL,
    ONE_BIN,
};

static void bench_index_topk(enum scores kind, int T, int S, const char *size,
                             int threads)
{
    struct ck_case c = { .op = &rfn_op_index_topk, .rng = rng_of(2) };
    struct rfn_index_topk_args *a = &c.args.index_topk;
    a->logits = ck_tensor(&c, RFN_F32, 0, 0, T, S, 0);
    a->lens = ck_tensor(&c, RFN_I32, 0, 0, T, 0, 0);
    a->table = ck_tensor(&c, RFN_I32, 0, 0, T, S / 64, 0);
    a->request = ck_tensor(&c, RFN_I32, 0, 0, T, 0, 0);
    a->slots = ck_tensor(&c, RFN_I32, 0, 0, T, 2048, 0);
    a->page_tokens = 64;
    a->pages = 100;
    for (int t = 0; t < T; t++)
        ((int32_t *)a->lens.data)[t] = S;
    for (int64_t i = 0; i < (int64_t)T * S; i++)
    {
        float x = rng_normal(&c.rng);
        if (kind == ONE_BIN)
            x = 1.0f + (float)rng_below(&c.rng, 4096) * 0x1p-23f;
        ((float *)a->logits.data)[i] = kind == EQUAL ? 1.0f : x;
    }
    measure(&c, size, threads, (double)T * S);
    ck_destroy(&c);
}

static void bench_sparse_mla(enum rfn_format format, int T, int H, const char *size,
                             int threads)
{
    struct ck_case c = { .op = &rfn_op_sparse_mla, .rng = rng_of(3) };
    struct rfn_sparse_mla_args *a = &c.args.sparse_mla;
    int K = 2048, qk = ref_qk(format), latent = ref_latent(format), pages = 256, group;
    a->q = ck_tensor(&c, RFN_BF16, 0, 0, T, H, qk);
    a->source[0].pool = ck_pool(&c, format, 64, pages, 0, 0);
    a->source[0].indices = ck_tensor(&c, RFN_I32, 0, 0, T, K, 0);
    a->out = ck_tensor(&c, RFN_BF16, 0, 0, T, H, 512);
    a->lse = ck_tensor(&c, RFN_F32, 0, 0, T, H, 0);
    a->scale = 0.1f;
    random_bf16(&c.rng, a->q.data, (int64_t)T * H * qk);
    for (int64_t s = 0; s < pages * 64; s += 64)
    {
        /* One row a page is quantised, the others are its copies: bytes are bytes. */
        uint16_t row[576];
        random_bf16(&c.rng, row, 576);
        for (int64_t i = s; i < s + 64; i++)
            if (i == s || format == RFN_LATENT_FP8_584)
                ref_pack_row(&a->source[0].pool, i, row, row + latent, RFN_SCALE_F32,
                             RFN_FLOOR_DEFAULT, 0, &group);
            else
                memcpy(ref_row(&a->source[0].pool, i), ref_row(&a->source[0].pool, s),
                       format == RFN_LATENT_FP8_656 ? 656 : 1152);
    }
    for (int64_t i = 0; i < (int64_t)T * K; i++)
        ((int32_t *)a->source[0].indices.data)[i] =
            (int32_t)rng_below(&c.rng, pages * 64);
    measure(&c, size, threads, 0);
    ck_destroy(&c);
}

static void bench_mla_combine(enum rfn_dtype dtype, int N, int T, int H, const char *size,
                              int threads)
{
    struct ck_case c = { .op = &rfn_op_mla_combine, .rng = rng_of(4) };
    struct rfn_mla_combine_args *a = &c.args.mla_combine;
    a->out_part = ck_tensor(&c, dtype, 0, 0, (int64_t)N * T, H, 512);
    a->out_part = rfn_tensor_of(a->out_part.data, dtype, N, T, H, 512);
    a->lse_part = ck_tensor(&c, RFN_F32, 0, 0, N, T, H);
    a->out = ck_tensor(&c, RFN_BF16, 0, 0, T, H, 512);
    a->lse = ck_tensor(&c, RFN_F32, 0, 0, T, H, 0);
    if (dtype == RFN_BF16)
        random_bf16(&c.rng, a->out_part.data, (int64_t)N * T * H * 512);
    for (int64_t i = 0; i < (int64_t)N * T * H; i++)
        ((float *)a->lse_part.data)[i] = rng_normal(&c.rng);
    measure(&c, size, threads, 0);
    ck_destroy(&c);
}

static void bench_step_update(int R, int next_n, const char *size, int threads)
{
    struct ck_case c = { .op = &rfn_op_step_update, .rng = rng_of(5) };
    struct rfn_step_update_args *a = &c.args.step_update;
    int64_t T = (int64_t)R * next_n;
    a->lens = ck_tensor(&c, RFN_I32, 0, 0, R, 0, 0);
    a->q_lens = ck_tensor(&c, RFN_I32, GUARD_INDEX, 0, R, 0, 0); /* clamped */
    a->table = ck_tensor(&c, RFN_I32, 0, 0, R, 2560, 0);
    a->requests = ck_live(&c, R);
    a->request = ck_tensor(&c, RFN_I32, 0, 0, T, 0, 0);
    a->context = ck_tensor(&c, RFN_I32, 0, 0, T, 0, 0);
    a->slots = ck_tensor(&c, RFN_I64, 0, 0, T, 0, 0);
    a->live = ck_tensor(&c, RFN_I32, 0, 0, 1, 0, 0);
    a->next_n = next_n;
    a->page_tokens = 64;
    a->pages = 1000;
    for (int b = 0; b < R; b++)
        ((int32_t *)a->lens.data)[b] = (int32_t)rng_below(&c.rng, 2560 * 64);
    measure(&c, size, threads, 0);
    ck_destroy(&c);
}

static void bench_synth_fill(enum rfn_dtype dtype, int T, int D, const char *size,
                             int threads)
{
    struct ck_case c = { .op = &rfn_op_synth_fill, .rng = rng_of(6) };
    struct rfn_synth_fill_args *a = &c.args.synth_fill;
    a->out = ck_tensor(&c, dtype, 0, 0, T, D, 0);
    a->keys = ck_tensor(&c, RFN_I64, 0, 0, T, 0, 0);
    a->amplitude = 1.0f;
    for (int t = 0; t < T; t++)
        ((int64_t *)a->keys.data)[t] = t;
    measure(&c, size, threads, 0);
    ck_destroy(&c);
}

static void bench_index_pack(enum rfn_scale scale, const char *size, int threads)
{
    struct ck_case c = { .op = &rfn_op_index_pack, .rng = rng_of(7) };
    struct rfn_index_pack_args *a = &c.args.index_pack;
    int T = 1024;
    a->k = ck_tensor(&c, RFN_BF16, 0, 0, T, 128, 0);
    a->slots = ck_tensor(&c, RFN_I64, 0, 0, T, 0, 0);
    a->pool = ck_pool(&c, RFN_INDEX_FP8_132, 64, 32, 0, 0);
    a->scale = scale;
    random_bf16(&c.rng, a->k.data, (int64_t)T * 128);
    for (int t = 0; t < T; t++)
        ((int64_t *)a->slots.data)[t] = t * 2;
    measure(&c, size, threads, 0);
    ck_destroy(&c);
}

static void bench_index_query_pack(enum rfn_dtype w, int T, int H, const char *size,
                                   int threads)
{
    struct ck_case c = { .op = &rfn_op_index_query_pack, .rng = rng_of(8) };
    struct rfn_index_query_pack_args *a = &c.args.index_query_pack;
    a->q = ck_tensor(&c, RFN_BF16, 0, 0, T, H, 128);
    a->w = ck_tensor(&c, w, 0, 0, T, H, 0);
    a->q8 = ck_tensor(&c, RFN_E4M3, 0, 0, T, H, 128);
    a->w8 = ck_tensor(&c, RFN_F32, 0, 0, T, H, 0);
    random_bf16(&c.rng, a->q.data, (int64_t)T * H * 128);
    measure(&c, size, threads, 0);
    ck_destroy(&c);
}

static void bench_index_gather(int R, int length, const char *size, int threads)
{
    struct ck_case c = { .op = &rfn_op_index_gather, .rng = rng_of(10) };
    struct rfn_index_gather_args *a = &c.args.index_gather;
    int W = (length + 63) / 64, pages = R * W;
    a->pool = ck_pool(&c, RFN_INDEX_FP8_132, 64, pages, 0, 0);
    a->table = ck_tensor(&c, RFN_I32, 0, 0, R, W, 0);
    a->starts = ck_tensor(&c, RFN_I32, 0, 0, R + 1, 0, 0);
    a->keys = ck_tensor(&c, RFN_E4M3, 0, 0, (int64_t)R * length, 128, 0);
    a->scales = ck_tensor(&c, RFN_F32, 0, 0, (int64_t)R * length, 0, 0);
    for (int i = 0; i < pages; i++)
        ((int32_t *)a->table.data)[i] = (int32_t)rng_below(&c.rng, pages);
    for (int r = 0; r <= R; r++)
        ((int32_t *)a->starts.data)[r] = r * length;
    measure(&c, size, threads, 0);
    ck_destroy(&c);
}

/* `next_n` rows of a request side by side: they share the dequantised keys. */
static void bench_index_logits(int T, int H, int S, int next_n, const char *size,
                               int threads)
{
    struct ck_case c = { .op = &rfn_op_index_logits, .rng = rng_of(9) };
    struct rfn_index_logits_args *a = &c.args.index_logits;
    int pages = S / 64;
    a->q8 = ck_tensor(&c, RFN_E4M3, 0, 0, T, H, 128);
    a->w8 = ck_tensor(&c, RFN_F32, 0, 0, T, H, 0);
    a->pool = ck_pool(&c, RFN_INDEX_FP8_132, 64, pages, 0, 0);
    a->table = ck_tensor(&c, RFN_I32, 0, 0, T / next_n, pages, 0);
    a->request = ck_tensor(&c, RFN_I32, 0, 0, T, 0, 0);
    a->lens = ck_tensor(&c, RFN_I32, 0, 0, T, 0, 0);
    a->logits = ck_tensor(&c, RFN_F32, 0, 0, T, S, 0);
    for (int64_t i = 0; i < (int64_t)T * H * 128; i++)
        ((uint8_t *)a->q8.data)[i] = (uint8_t)rng_below(&c.rng, 127);
    for (int64_t i = 0; i < (int64_t)pages * 8448; i++)
        ((uint8_t *)a->pool.data)[i] = (uint8_t)rng_below(&c.rng, 127);
    for (int i = 0; i < T / next_n * pages; i++)
        ((int32_t *)a->table.data)[i] = (int32_t)rng_below(&c.rng, pages);
    for (int t = 0; t < T; t++)
    {
        ((int32_t *)a->request.data)[t] = t / next_n;
        ((int32_t *)a->lens.data)[t] = S;
    }
    measure(&c, size, threads, 0);
    ck_destroy(&c);
}

void ck_bench(const char *op, int threads)
{
    int all = !op;
    for (int n = 1; n <= threads; n++)
    {
        if (all || strcmp(op, "kv_pack") == 0)
        {
            bench_kv_pack(RFN_LATENT_FP8_656, "656, T 1024", n);
            bench_kv_pack(RFN_LATENT_BF16_576, "576, T 1024", n);
            bench_kv_pack(RFN_LATENT_FP8_584, "584, T 1024", n);
        }
        if (all || strcmp(op, "index_topk") == 0)
        {
            bench_index_topk(RANDOM, 2, 131072, "K 2048, T 2, S 131072, random", n);
            bench_index_topk(EQUAL, 2, 131072, "K 2048, T 2, S 131072, all equal", n);
            bench_index_topk(ONE_BIN, 2, 131072, "K 2048, T 2, S 131072, one fp16 bin",
                             n);
            bench_index_topk(RANDOM, 16, 8192, "K 2048, T 16, S 8192, random", n);
        }
        if (all || strcmp(op, "sparse_mla") == 0)
        {
            bench_sparse_mla(RFN_LATENT_FP8_656, 2, 128, "656, T 2, H 128, K 2048", n);
            bench_sparse_mla(RFN_LATENT_BF16_576, 2, 128, "576, T 2, H 128, K 2048", n);
            bench_sparse_mla(RFN_LATENT_FP8_584, 2, 128, "584, T 2, H 128, K 2048", n);
            bench_sparse_mla(RFN_LATENT_FP8_656, 4, 16, "656, T 4, H 16, K 2048", n);
            bench_sparse_mla(RFN_LATENT_FP8_656, 4, 1, "656, T 4, H 1, K 2048", n);
        }
        if (all || strcmp(op, "index_pack") == 0)
        {
            bench_index_pack(RFN_SCALE_F32, "T 1024, f32 scales", n);
            bench_index_pack(RFN_SCALE_UE8M0, "T 1024, ue8m0 scales", n);
        }
        if (all || strcmp(op, "index_query_pack") == 0)
        {
            bench_index_query_pack(RFN_F32, 64, 64, "T 64, H 64", n);
            bench_index_query_pack(RFN_BF16, 1, 64, "T 1, H 64, bf16 weights", n);
        }
        if (all || strcmp(op, "index_logits") == 0)
        {
            bench_index_logits(1, 64, 32768, 1, "T 1, H 64, S 32768", n);
            bench_index_logits(1, 64, 131072, 1, "T 1, H 64, S 131072", n);
            bench_index_logits(4, 64, 32768, 4, "T 4, next_n 4, H 64, S 32768", n);
            bench_index_logits(64, 64, 1024, 1, "T 64, H 64, S 1024", n);
            bench_index_logits(2, 32, 32768, 1, "T 2, H 32, S 32768", n);
            bench_index_logits(4, 4, 32768, 1, "T 4, H 4, S 32768", n);
        }
        if (all || strcmp(op, "index_gather") == 0)
        {
            bench_index_gather(32, 4096, "R 32, 4096 tokens each", n);
            bench_index_gather(1024, 64, "R 1024, 64 tokens each", n);
        }
        if (all || strcmp(op, "mla_combine") == 0)
        {
            bench_mla_combine(RFN_F32, 4, 32, 128, "N 4, T 32, H 128, V 512, f32", n);
            bench_mla_combine(RFN_BF16, 4, 32, 128, "N 4, T 32, H 128, V 512, bf16", n);
            bench_mla_combine(RFN_BF16, 4, 1, 16, "N 4, T 1, H 16, V 512, bf16", n);
        }
        if (all || strcmp(op, "step_update") == 0)
        {
            bench_step_update(8, 1, "R 8, next_n 1", n);
            bench_step_update(256, 2, "R 256, next_n 2", n);
            bench_step_update(1024, 8, "R 1024, next_n 8", n);
        }
        if (all || strcmp(op, "synth_fill") == 0)
        {
            bench_synth_fill(RFN_BF16, 1024, 576, "T 1024, D 576, bf16", n);
            bench_synth_fill(RFN_F32, 1024, 576, "T 1024, D 576, f32", n);
            bench_synth_fill(RFN_BF16, 64, 64, "T 64, D 64, bf16", n);
        }
    }
}
