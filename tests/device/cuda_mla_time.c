/* Times of sparse_mla in captured graphs over rotating inputs, for cuda_mla.c. */
#include "tests/device/cuda_mla.h"

#include <stdlib.h>

#define SETS 4 /* of queries and indices that timed launches go through */
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

int timed_invariant;

void measure_format(enum rfn_format format, FILE *json, int *first, int profile)
{
    static const int rows[] = { 1, 2, 8, 32, 64, 128 }, heads[] = { 128, 64, 32, 16, 8 };
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
    for (int h = 0; h < 5; h++)
    {
        for (int b = 0; b < 6; b++)
        {
            struct rfn_sparse_mla_args a[TIMED_LAUNCHES];
            for (int i = 0; i < TIMED_LAUNCHES; i++)
            {
                a[i] = args_of(&s, 1);
                a[i].batch_invariant = timed_invariant;
                a[i].q = rfn_tensor_of(q[i % SETS].device, RFN_BF16, rows[b], heads[h],
                                       s.qk, 0);
                a[i].out =
                    rfn_tensor_of(s.out.device, RFN_BF16, rows[b], heads[h], 512, 0);
                a[i].lse = rfn_tensor_of(s.lse.device, RFN_F32, rows[b], heads[h], 0, 0);
                a[i].source[0].indices = rfn_tensor_of(
                    indices[(i + i / SETS) % SETS].device, RFN_I32, rows[b], 2048, 0, 0);
            }
            struct rfn_launch launch = plan_here(a);
            if (profile)
            {
                for (int i = 0; rows[b] == 128 && h % 3 == 0 && i < 2; i++)
                    MUST(rfn_op_launch(stream, &op, &a[i]));
                MUST(rfn_device_sync(device));
                continue;
            }
            double us = time_replay(a, TIMED_LAUNCHES);
            struct rfn_cost cost = rfn_op_sparse_mla.cost(a);
            double bytes = (double)(cost.bytes_read + cost.bytes_written);
            printf("%6d %6d %6d %10.2f %10.3f %10.1f\n", heads[h], rows[b],
                   (int)launch.node[0].grid[0], us, bytes / us * 1e-6,
                   (double)cost.flops / us * 1e-6);
            if (json)
                fprintf(json,
                        "%s    {\"format\": \"%s\", \"heads\": %d, \"rows\": %d, "
                        "\"k\": 2048, \"grid\": %d, \"us\": %.3f, \"bytes\": %.0f, "
                        "\"flops\": %.0f, \"tb_per_s\": %.4f, \"tflop_per_s\": %.2f}",
                        *first ? "" : ",\n", format_name[format], heads[h], rows[b],
                        (int)launch.node[0].grid[0], us, bytes, (double)cost.flops,
                        bytes / us * 1e-6, (double)cost.flops / us * 1e-6);
            *first = 0;
        }
    }
    for (int i = 0; i < SETS; i++)
    {
        buffer_free(&q[i]);
        buffer_free(&indices[i]);
    }
    shape_free(&s);
}
