/* The time of index_logits in a graph, each launch on pages of its own. */
#ifndef TEST_DEVICE_CUDA_LOGITS_TIME_H
#define TEST_DEVICE_CUDA_LOGITS_TIME_H

#include "tests/device/cuda_logits.h"
#include "tests/support/rng.h"

#define TIMED_PAGES (1 << 19) /* 4.4 GB */
#define TIMED_REPLAYS 9
#define PAGE_TOKENS 64
#define PAGE_BYTES (PAGE_TOKENS * 132)
#define LAUNCHES_MOST 256

/* Random keys, the same every 4096 pages, of the sizes that quantised ones have. */
static void *timed_pool(void)
{
    int64_t part = (int64_t)PAGE_BYTES * 4096;
    uint8_t *host = malloc((size_t)part);
    void *pool = NULL;
    struct rng r = rng_of(base_seed);
    if (!host)
        exit(1);
    for (int64_t i = 0; i < part; i += 8)
    {
        uint64_t u = rng_u64(&r);
        for (int64_t e = 0; e < 8; e++, u >>= 8)
            host[i + e] = (uint8_t)((u & 0x87) | (0x40 + (u >> 1 & 0x38)));
    }
    for (int64_t b = 0; b < 4096; b++)
        for (int64_t k = 0; k < PAGE_TOKENS; k++)
        {
            float scale = 0x1p-9f * (float)(1 + rng_below(&r, 4));
            memcpy(host + b * PAGE_BYTES + PAGE_TOKENS * DIM + 4 * k, &scale, 4);
        }
    MUST(rfn_memory_alloc(device, RFN_MEMORY_DEVICE, (int64_t)PAGE_BYTES * TIMED_PAGES,
                          &pool));
    for (int64_t b = 0; b < TIMED_PAGES; b += 4096)
        MUST(rfn_copy_sync(device, (char *)pool + b * PAGE_BYTES, host, part));
    MUST(rfn_device_sync(device));
    free(host);
    return pool;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* Median time of one launch, of a graph of launches that each read pages of their own. */
static double time_launch(struct shape *s, int launches, void *pool)
{
    struct rfn_index_logits_args a = args_of(s, 1, 0, s->T, 0);
    struct rfn_graph *graph = NULL;
    struct rfn_exec *exec = NULL;
    struct rfn_event *start = NULL, *end = NULL;
    double times[TIMED_REPLAYS];
    a.pool = (struct rfn_pool) { .data = pool,
                                 .format = RFN_INDEX_FP8_132,
                                 .page_tokens = PAGE_TOKENS,
                                 .pages = TIMED_PAGES };
    int32_t *table = s->table.device;
    MUST(rfn_capture_begin(stream, NULL));
    for (int i = 0; i < launches; i++)
    {
        a.table.data = table + i * s->c.R * s->table_row;
        MUST(launch_path(&a));
    }
    MUST(rfn_capture_end(stream, &graph));
    MUST(rfn_graph_instantiate(graph, &exec));
    MUST(rfn_graph_destroy(&graph));
    MUST(rfn_event_create(device, &start));
    MUST(rfn_event_create(device, &end));
    for (int i = -2; i < TIMED_REPLAYS; i++)
    {
        float ms = 0;
        MUST(rfn_event_record(start, stream, 0));
        MUST(rfn_exec_launch(exec, stream));
        MUST(rfn_event_record(end, stream, 0));
        MUST(rfn_stream_sync(stream));
        MUST(rfn_event_elapsed(start, end, &ms));
        if (i >= 0)
            times[i] = 1e3 * ms / launches;
    }
    MUST(rfn_event_destroy(&start));
    MUST(rfn_event_destroy(&end));
    MUST(rfn_exec_destroy(&exec));
    qsort(times, TIMED_REPLAYS, sizeof times[0], by_value);
    return times[TIMED_REPLAYS / 2];
}

/* The fastest of others at 64 heads, next_n 1, measured on the same kind of GPU. */
static const struct
{
    int64_t b, context;
    double us;
} peers[] = {
    { 1, 4096, 3.8 },      { 1, 32768, 4.5 },      { 1, 131072, 8.9 },
    { 8, 4096, 4.5 },      { 8, 32768, 12.8 },     { 8, 131072, 39.4 },
    { 32, 4096, 8.1 },     { 32, 32768, 39.0 },    { 32, 131072, 140.2 },
    { 64, 32768, 72.5 },   { 64, 131072, 274.5 },  { 128, 4096, 21.9 },
    { 128, 32768, 140.7 }, { 128, 131072, 543.8 },
};

static void measure_one(FILE *json, int first, void *pool, int32_t *order, int64_t b,
                        int64_t L, int64_t next_n, int64_t H, int64_t S)
{
    int64_t used = b * (L / PAGE_TOKENS);
    int64_t launches = ((int64_t)256 << 20) / (used * PAGE_BYTES) + 1;
    launches = launches < 3 ? 3 : launches > LAUNCHES_MOST ? LAUNCHES_MOST : launches;
    struct config c = {
        .R = b, .next_n = next_n, .H = H, .S = S, .P = PAGE_TOKENS, .aligned = 1
    };
    struct shape s = shape_of(&c);
    struct rng r = rng_of(base_seed);
    buffer_free(&s.table);
    s.table = buffer_of(4 * launches * b * s.table_row);
    int64_t next = 0;
    for (int64_t i = 0; i < launches * b; i++)
        for (int64_t k = 0; k < L / PAGE_TOKENS; k++)
            ((int32_t *)s.table.host)[i * s.table_row + k] = order[next++ % TIMED_PAGES];
    for (int64_t t = 0; t < s.T; t++)
    {
        ((int32_t *)s.request.host)[t] = (int32_t)(t / next_n);
        ((int32_t *)s.lens.host)[t] = (int32_t)(L - next_n + 1 + t % next_n);
    }
    for (int64_t i = 0; i < s.q8.bytes; i++)
    {
        uint64_t u = rng_u64(&r);
        ((uint8_t *)s.q8.host)[i] = (uint8_t)((u & 0x87) | (0x40 + (u >> 8 & 0x38)));
    }
    for (int64_t i = 0; i < s.w8.bytes / 4; i++)
        ((float *)s.w8.host)[i] = rng_normal(&r);
    upload_all(&s);
    double peer = 0;
    for (size_t i = 0; next_n == 1 && H == 64 && i < sizeof peers / sizeof peers[0]; i++)
        if (peers[i].b == b && peers[i].context == L)
            peer = peers[i].us;
    double read = (double)used * PAGE_BYTES;
    double bytes = read + (double)s.T * (4.0 * (double)L + (double)H * (DIM + 4));
    for (path = 0; path < 2; path++)
    {
        double us = time_launch(&s, (int)launches, pool);
        printf("%4lld %7lld %6lld %3lld %8lld %-8s %9.2f %9.3f %9.3f", (long long)b,
               (long long)L, (long long)next_n, (long long)H, (long long)S,
               path_name[path], us, read / us * 1e-6, bytes / us * 1e-6);
        if (peer > 0)
            printf(" %8.1f", peer);
        printf("\n");
        fflush(stdout);
        if (json)
            fprintf(json,
                    "%s    {\"path\": \"%s\", \"requests\": %lld, \"context\": %lld, "
                    "\"next_n\": %lld, \"heads\": %lld, \"columns\": %lld, "
                    "\"us\": %.3f, \"key_bytes\": %.0f, \"bytes\": %.0f, "
                    "\"key_tb_per_s\": %.4f, \"tb_per_s\": %.4f, \"peer_us\": %.1f}",
                    first && path == 0 ? "" : ",\n", path_name[path], (long long)b,
                    (long long)L, (long long)next_n, (long long)H, (long long)S, us, read,
                    bytes, read / us * 1e-6, bytes / us * 1e-6, peer);
    }
    shape_free(&s);
}

/* `only`: b, context, next_n and heads of the one shape that is wanted. */
static void measure(FILE *json, const int64_t *only)
{
    static const int64_t requests[] = { 1, 8, 32, 64, 128 };
    static const int64_t contexts[] = { 4096, 32768, 131072 };
    void *pool = timed_pool();
    int32_t *order = malloc(4 * TIMED_PAGES);
    struct rng r = rng_of(base_seed);
    if (!order)
        exit(1);
    for (int32_t i = 0; i < TIMED_PAGES; i++)
        order[i] = i;
    for (int32_t i = TIMED_PAGES - 1; i > 0; i--)
    {
        int64_t j = rng_below(&r, i + 1);
        int32_t kept = order[i];
        order[i] = order[j];
        order[j] = kept;
    }
    printf("\n%4s %7s %6s %3s %8s %-8s %9s %9s %9s %8s\n", "b", "context", "next_n", "H",
           "S", "path", "us", "key TB/s", "all TB/s", "peer us");
    for (int i = 0; only && i < 1; i++)
        measure_one(json, 1, pool, order, only[0], only[1], only[2], only[3], only[1]);
    for (int i = 0; !only && i < 15; i++)
        measure_one(json, i == 0, pool, order, requests[i / 3], contexts[i % 3], 1, 64,
                    contexts[i % 3]);
    static const int64_t more[][5] = {
        { 1, 4096, 1, 64, 163840 },  { 32, 32768, 1, 64, 163840 },
        { 32, 32768, 2, 64, 32768 }, { 32, 32768, 4, 64, 32768 },
        { 32, 32768, 1, 32, 32768 }, { 32, 32768, 2, 32, 32768 },
        { 32, 32768, 1, 16, 32768 },
    };
    for (int i = 0; !only && i < 7; i++)
        measure_one(json, 0, pool, order, more[i][0], more[i][1], more[i][2], more[i][3],
                    more[i][4]);
    MUST(rfn_memory_free(device, pool));
    free(order);
}

#endif
