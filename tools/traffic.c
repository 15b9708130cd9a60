#include "tools/traffic.h"
#include "tools/synth.h"
#include <stdio.h>
#include <stdlib.h>

#define BURST 10
#define BURST_MS 3000
#define CARRY_PERMILLE 387
#define LOOK_BACK 64
#define LOOKS 8

enum draw
{
    DRAW_INPUT = 100, /* apart from what else picks by the seed */
    DRAW_OUTPUT,
    DRAW_CARRY,
    DRAW_FROM,
    DRAW_SHARE,
};

struct quantile
{
    int32_t permille;
    int32_t value;
};

/* Measured on the 12,031 requests of the trace. */
static const struct quantile input_tokens[] = {
    { 0, 891 },     { 50, 901 },      { 100, 964 },   { 150, 1261 },  { 200, 1662 },
    { 250, 2306 },  { 300, 3263 },    { 350, 4250 },  { 400, 4993 },  { 450, 5870 },
    { 500, 6909 },  { 550, 8187 },    { 600, 9570 },  { 650, 11239 }, { 700, 13196 },
    { 750, 15368 }, { 800, 17869 },   { 850, 21467 }, { 900, 27367 }, { 950, 39552 },
    { 990, 85401 }, { 1000, 126195 },
};
static const struct quantile output_tokens[] = {
    { 0, 1 },     { 50, 10 },   { 100, 24 },   { 150, 46 },    { 200, 100 }, { 250, 156 },
    { 300, 213 }, { 350, 256 }, { 400, 291 },  { 450, 322 },   { 500, 350 }, { 550, 375 },
    { 600, 399 }, { 650, 423 }, { 700, 447 },  { 750, 472 },   { 800, 504 }, { 850, 543 },
    { 900, 597 }, { 950, 698 }, { 990, 1120 }, { 1000, 2000 },
};
/* Share of its blocks, in permille, that a request that carries on finds in the cache. */
static const struct quantile shared_permille[] = {
    { 0, 15 },    { 100, 286 }, { 200, 500 }, { 300, 600 }, { 400, 700 },   { 500, 800 },
    { 600, 867 }, { 700, 917 }, { 800, 944 }, { 900, 971 }, { 1000, 1000 },
};

/* The quantile function at u / 2^20. */
static int64_t at(const struct quantile *q, uint64_t random)
{
    int64_t u = (int64_t)(random >> 44) * 1000; /* permille << 20 */
    while (u >= (int64_t)q[1].permille << 20)
    {
        q++;
    }
    int64_t span = (int64_t)(q[1].permille - q[0].permille) << 20;
    int64_t into = u - ((int64_t)q[0].permille << 20);
    return q[0].value + (q[1].value - q[0].value) * into / span;
}

static uint64_t draw(uint64_t seed, enum draw what, int64_t i)
{
    return synth_pick(seed, (uint64_t)what, (uint64_t)i);
}

/* How many leading blocks come from which earlier request; 0: none. */
static int64_t carry(uint64_t seed, const struct trace *trace, int64_t i,
                     const struct trace_request **ret_from)
{
    if (i == 0 || draw(seed, DRAW_CARRY, i) % 1000 >= CARRY_PERMILLE)
    {
        return 0;
    }
    int64_t back = i < LOOK_BACK ? i : LOOK_BACK;
    const struct trace_request *from = NULL;
    for (int64_t look = 0; look < LOOKS; look++)
    {
        uint64_t step = draw(seed, DRAW_FROM, i * LOOKS + look) % (uint64_t)back;
        const struct trace_request *other = &trace->request[i - 1 - (int64_t)step];
        from = from == NULL || other->blocks > from->blocks ? other : from;
    }
    int64_t blocks = trace->request[i].blocks;
    int64_t shared = blocks * at(shared_permille, draw(seed, DRAW_SHARE, i)) / 1000;
    *ret_from = from;
    return shared < from->blocks ? shared : from->blocks;
}

enum trace_status traffic_make(uint64_t seed, int64_t requests, struct trace *ret_trace,
                               char error[TRACE_ERROR_BYTES])
{
    struct trace trace = { .capacity = requests };
    int64_t id = 1; /* 0 is everybody's first block */
    *ret_trace = (struct trace) { 0 };
    error[0] = '\0';
    trace.request = calloc((size_t)requests, sizeof(trace.request[0]));
    for (int64_t i = 0; trace.request != NULL && i < requests; i++)
    {
        struct trace_request *request = &trace.request[i];
        const struct trace_request *from = NULL;
        request->timestamp_ms = i / BURST * BURST_MS;
        request->input_tokens = at(input_tokens, draw(seed, DRAW_INPUT, i));
        request->output_tokens = at(output_tokens, draw(seed, DRAW_OUTPUT, i));
        request->blocks =
            (request->input_tokens + TRACE_BLOCK_TOKENS - 1) / TRACE_BLOCK_TOKENS;
        request->hash_ids =
            malloc((size_t)request->blocks * sizeof(request->hash_ids[0]));
        if (request->hash_ids == NULL)
        {
            break;
        }
        int64_t shared = carry(seed, &trace, i, &from);
        for (int64_t j = 0; j < request->blocks; j++)
        {
            int64_t own = j == 0 ? 0 : id++;
            request->hash_ids[j] = j < shared ? from->hash_ids[j] : own;
        }
        trace.requests++;
    }
    if (trace.requests < requests)
    {
        snprintf(error, TRACE_ERROR_BYTES, "no memory for %lld requests",
                 (long long)requests);
        trace_free(&trace);
        return TRACE_NOMEM;
    }
    *ret_trace = trace;
    return TRACE_OK;
}
