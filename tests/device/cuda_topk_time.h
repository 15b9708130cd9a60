/* The time of index_topk in captured graphs, beside what others need. */
#ifndef TESTS_DEVICE_CUDA_TOPK_TIME_H
#define TESTS_DEVICE_CUDA_TOPK_TIME_H

#include "tests/device/cuda_topk.h"

#define TIMED_LAUNCHES 20 /* in one graph: what a launch costs by itself is a few us */
#define TIMED_REPLAYS 20
#define TIMED_BYTES (256 << 20) /* of logits in turn, if 20 launches can read as much */
#define DISTINCT 8              /* rows that are made; the others repeat them */

static const int64_t timed_rows[] = { 1, 8, 32, 64, 128 };
static const int64_t timed_columns[] = { 4096, 32768, 131072 };

/* us, top-2048 of f32 on one H200: the fastest that does not keep to the exact result, and
 * the fastest that does (SGLang, vLLM; FlashInfer). */
static const double inexact_us[5][3] = {
    { 3.1, 9.7, 11.0 },  { 3.3, 10.1, 11.1 }, { 3.3, 11.5, 23.0 },
    { 3.3, 11.6, 30.7 }, { 3.7, 12.9, 44.6 },
};
static const double exact_us[5][3] = {
    { 5.7, 10.8, 13.1 }, { 6.0, 10.9, 13.4 }, { 6.0, 22.8, 28.7 },
    { 6.1, 25.1, 37.0 }, { 6.3, 22.1, 47.9 },
};
static const enum pattern timed_patterns[] = { NORMAL,       NARROW,  ALL_EQUAL,
                                               ONE_HALF_BIN, ZEROS,   ASCENDING,
                                               FEW_NUMBERS,  ANY_BITS };

static double time_graph(struct rfn_index_topk_args a, const struct shape *s, int copies)
{
    struct rfn_graph *graph = NULL;
    struct rfn_exec *exec = NULL;
    struct rfn_event *start = NULL, *end = NULL;
    float ms = 0;
    MUST(rfn_capture_begin(stream, NULL));
    for (int i = 0; i < TIMED_LAUNCHES; i++)
    {
        a.logits.data =
            (char *)s->logits.device + i % copies * (s->logits.bytes / copies);
        MUST(rfn_index_topk(stream, &a));
    }
    MUST(rfn_capture_end(stream, &graph));
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
    return 1e3 * ms / TIMED_REPLAYS / TIMED_LAUNCHES;
}

/* One pattern at one size. A replay reads its 20 launches' logits from different places. */
static double time_one(int64_t T, int64_t S, enum pattern p, int *ret_copies)
{
    const int64_t K = 2048;
    int64_t bytes = 4 * T * S;
    int copies = (int)(TIMED_BYTES / bytes);
    copies = copies < 2 ? 2 : copies > TIMED_LAUNCHES ? TIMED_LAUNCHES : copies;
    struct shape s = shape_of(T, S, K, 0);
    buffer_free(&s.logits);
    s.logits = buffer_of(bytes * copies);
    struct rng r = rng_of(seed);
    float *x = s.logits.host;
    for (int64_t n = 0; n < (T < DISTINCT ? T : DISTINCT) * S; n++)
        x[n] = value(p, &r, n % S, S);
    for (int64_t t = DISTINCT; t < T * copies; t++)
        memcpy(x + t * S, x + t % (T < DISTINCT ? T : DISTINCT) * S, (size_t)S * 4);
    for (int64_t t = T; t < DISTINCT && t < T * copies; t++)
        memcpy(x + t * S, x + t % T * S, (size_t)S * 4);
    for (int64_t t = 0; t < T; t++)
    {
        ((int32_t *)s.lens.host)[t] = (int32_t)S;
        ((int32_t *)s.request.host)[t] = (int32_t)(t % REQUESTS);
    }
    for (int64_t i = 0; i < REQUESTS * (s.W + 1); i++)
        ((int32_t *)s.table.host)[i] = (int32_t)rng_below(&r, s.pages);
    upload_all(&s);
    double us = time_graph(args_of(&s, 1, 1, 0), &s, copies);
    shape_free(&s);
    *ret_copies = copies;
    return us;
}

/* Returns how many sizes need more than twice the fastest peer on ordinary rows. `columns`:
 * of these alone, 0: of all. */
static int measure(FILE *json, int64_t columns)
{
    int slow = 0, cells = 0;
    printf("\n%-13s %8s   us in a graph at rows 1, 8, 32, 64, 128 (limit)\n", "rows are",
           "columns");
    for (size_t p = 0; p < sizeof timed_patterns / sizeof timed_patterns[0]; p++)
    {
        enum pattern pattern = timed_patterns[p];
        for (int c = 0; c < 3; c++)
        {
            if (columns && timed_columns[c] != columns)
                continue;
            printf("%-13s %8lld  ", pattern_name[pattern], (long long)timed_columns[c]);
            for (int i = 0; i < 5; i++)
            {
                int copies = 0;
                int64_t T = timed_rows[i], S = timed_columns[c];
                double us = time_one(T, S, pattern, &copies);
                double limit = 2 * inexact_us[i][c];
                slow += pattern == NORMAL && us > limit;
                printf(" %7.2f (%.1f)", us, pattern == NORMAL ? limit : exact_us[i][c]);
                fflush(stdout);
                if (json)
                    fprintf(json,
                            "%s    {\"rows\": %lld, \"columns\": %lld, \"k\": 2048, "
                            "\"content\": \"%s\", \"in_graph_us\": %.3f, "
                            "\"limit_us\": %.1f, \"inexact_peer_us\": %.1f, "
                            "\"exact_peer_us\": %.1f, \"logits_bytes\": %lld, "
                            "\"copies\": %d}",
                            cells++ ? ",\n" : "", (long long)T, (long long)S,
                            pattern_name[pattern], us, limit, inexact_us[i][c],
                            exact_us[i][c], (long long)(4 * T * S), copies);
            }
            printf("\n");
        }
    }
    return slow;
}

#endif
