/* Incident of a bound that is taken for a count (I4): index keys are gathered for as many rows
 * as a step may have, and rows past the real total look up a request that there is not. */
#include "tools/incident.h"
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define NEXT_N 8
#define WIDTH 128
#define BOUND (INCIDENT_REQUESTS * INCIDENT_CONTEXT)
#define ROWS (BOUND + 16) /* of capacity; those behind the bound are red */
#define POISON 0x5a
#define NO_PAGE (-7)

struct gather
{
    struct rfn_index_gather_args args;
    struct incident_step step;
    int32_t starts[INCIDENT_REQUESTS + 1];
    int64_t pool_bytes;
    unsigned char *pool; /* a copy of the device's */
    unsigned char *keys; /* what has been fetched */
    float *scales;
};

static void gather_close(struct gather *g)
{
    free(g->pool);
    free(g->keys);
    free(g->scales);
}

static int gather_open(struct incident *in, struct gather *g)
{
    const int64_t R = INCIDENT_REQUESTS, W = INCIDENT_WIDTH;
    *g = (struct gather) { .args = { .pool = in->caches[0].index, .bound = BOUND } };
    struct rfn_index_gather_args *a = &g->args;
    g->pool_bytes =
        a->pool.pages * rfn_format_page_bytes(a->pool.format, a->pool.page_tokens);
    g->pool = malloc((size_t)g->pool_bytes);
    g->keys = malloc((size_t)ROWS * WIDTH);
    g->scales = malloc(ROWS * sizeof(*g->scales));
    incident_holds(in, g->pool != NULL && g->keys != NULL && g->scales != NULL,
                   "out of memory");
    void *table = incident_memory(in, RFN_MEMORY_DEVICE, R * W * 4);
    void *starts = incident_memory(in, RFN_MEMORY_DEVICE, (R + 1) * 4);
    void *keys = incident_memory(in, RFN_MEMORY_DEVICE, (int64_t)ROWS * WIDTH);
    void *scales = incident_memory(in, RFN_MEMORY_DEVICE, (int64_t)ROWS * 4);
    a->table = rfn_tensor_of(table, RFN_I32, R, W, 0, 0);
    a->starts = rfn_tensor_of(starts, RFN_I32, R + 1, 0, 0, 0);
    a->keys = rfn_tensor_of(keys, RFN_E4M3, ROWS, WIDTH, 0, 0);
    a->scales = rfn_tensor_of(scales, RFN_F32, ROWS, 0, 0, 0);
    return in->wrong[0] == '\0' &&
           WORKS(in, rfn_copy_sync(in->device, g->pool, a->pool.data, g->pool_bytes));
}

/* Contexts with up to next_n tokens of the step itself; what is behind the last request in
 * use has no length, and a page that is none. */
static void make_step(struct incident *in, struct gather *g, int32_t requests,
                      int32_t next_n)
{
    g->step = incident_random(in, requests, INCIDENT_CONTEXT - next_n);
    g->starts[0] = 0;
    for (int32_t b = 0; b < INCIDENT_REQUESTS; b++)
    {
        int32_t length = b < requests ? g->step.lens[b] : 0;
        if (b < requests && incident_below(in, 4) == 0)
        {
            length = 0;
        }
        if (length % in->geometry.page_tokens != 0)
        {
            int32_t left = in->geometry.page_tokens - length % in->geometry.page_tokens;
            int32_t more = incident_below(in, next_n + 1);
            length += more < left ? more : left;
        }
        g->starts[b + 1] = g->starts[b] + length;
    }
    for (int32_t i = requests * INCIDENT_WIDTH; i < INCIDENT_REQUESTS * INCIDENT_WIDTH;
         i++)
    {
        g->step.table[i] = NO_PAGE;
    }
}

static void send(struct incident *in, struct gather *g)
{
    const struct rfn_index_gather_args *a = &g->args;
    WORKS(in,
          rfn_copy_sync(in->device, a->table.data, g->step.table, sizeof(g->step.table)));
    WORKS(in, rfn_copy_sync(in->device, a->starts.data, g->starts, sizeof(g->starts)));
    WORKS(in, rfn_set_sync(in->device, a->keys.data, POISON, (int64_t)ROWS * WIDTH));
    WORKS(in, rfn_set_sync(in->device, a->scales.data, POISON, (int64_t)ROWS * 4));
    WORKS(in, rfn_device_sync(in->device));
}

static void fetch(struct incident *in, struct gather *g)
{
    const struct rfn_index_gather_args *a = &g->args;
    WORKS(in, rfn_stream_sync(in->stream));
    WORKS(in, rfn_copy_sync(in->device, g->keys, a->keys.data, (int64_t)ROWS * WIDTH));
    WORKS(in, rfn_copy_sync(in->device, g->scales, a->scales.data, (int64_t)ROWS * 4));
}

static struct rfn_exec *capture(struct incident *in, const struct rfn_op *op,
                                const struct rfn_index_gather_args *args)
{
    struct rfn_graph *graph = NULL;
    struct rfn_exec *exec = NULL;
    WORKS(in, rfn_capture_begin(in->stream, NULL));
    WORKS(in, rfn_op_launch(in->stream, op, args));
    WORKS(in, rfn_op_launch(in->stream, op, args)); /* as the second layer does */
    WORKS(in, rfn_capture_end(in->stream, &graph));
    if (graph != NULL)
    {
        WORKS(in, rfn_graph_instantiate(graph, &exec));
        WORKS(in, rfn_graph_destroy(&graph));
    }
    return exec;
}

/* ---- what is right --------------------------------------------------------------------- */

/* The first row that does not hold what it has to; ROWS where all do. */
static int32_t first_wrong(const struct gather *g)
{
    const struct rfn_pool *pool = &g->args.pool;
    const int64_t P = pool->page_tokens;
    int32_t b = 0;
    for (int32_t n = 0; n < ROWS; n++)
    {
        unsigned char key[WIDTH], scale[4];
        memset(key, POISON, sizeof(key));
        memset(scale, POISON, sizeof(scale));
        while (b < INCIDENT_REQUESTS && n >= g->starts[b + 1])
        {
            b++;
        }
        if (b < INCIDENT_REQUESTS)
        {
            int64_t token = n - g->starts[b];
            int64_t page = g->step.table[b * INCIDENT_WIDTH + token / P];
            const unsigned char *from = g->pool + page * P * (WIDTH + 4);
            memcpy(key, from + token % P * WIDTH, sizeof(key));
            memcpy(scale, from + P * WIDTH + token % P * 4, sizeof(scale));
        }
        if (memcmp(key, g->keys + (size_t)n * WIDTH, sizeof(key)) != 0 ||
            memcmp(scale, &g->scales[n], sizeof(scale)) != 0)
        {
            return n;
        }
    }
    return ROWS;
}

/* One graph with one bound; totals, requests and query tokens change between its replays. */
static void bound_right(struct incident *in)
{
    struct gather g;
    struct rfn_exec *exec = NULL;
    struct rfn_fault fault = { 0 };
    if (gather_open(in, &g))
    {
        exec = capture(in, &rfn_op_index_gather, &g.args);
    }
    for (int i = 0; i < 4 * NEXT_N && exec != NULL; i++)
    {
        int32_t requests = i % 9 == 8 ? 0 : 1 + incident_below(in, INCIDENT_REQUESTS);
        make_step(in, &g, requests, 1 + i % NEXT_N);
        for (int eager = 0; eager < 2; eager++)
        {
            send(in, &g);
            WORKS(in, eager ? rfn_index_gather(in->stream, &g.args)
                            : rfn_exec_launch(exec, in->stream));
            fetch(in, &g);
            int32_t n = first_wrong(&g);
            incident_holds(in, n == ROWS, "%s, %d requests, %d tokens in all: row %d",
                           eager ? "eager" : "replayed", requests,
                           g.starts[INCIDENT_REQUESTS], n);
        }
    }
    WORKS(in, rfn_device_fault(in->device, &fault));
    incident_holds(in, fault.op == NULL, "check mode saw a bad %s",
                   fault.op != NULL ? fault.operand : "");
    WORKS(in, rfn_exec_destroy(&exec));
    gather_close(&g);
}

/* ---- what is not ------------------------------------------------------------------------- */

/* Full contexts, but for the last request: that has `last` tokens, and starts that end at
 * `total`. What check mode names of a replay is due. */
static void replay_total(struct incident *in, int32_t last, int32_t total,
                         const char *operand, const char *words)
{
    struct gather g;
    if (gather_open(in, &g))
    {
        struct rfn_exec *exec = capture(in, &rfn_op_index_gather, &g.args);
        for (int32_t b = 0; b < INCIDENT_REQUESTS; b++)
        {
            int last_one = b == INCIDENT_REQUESTS - 1;
            g.starts[b] = b * INCIDENT_CONTEXT;
            for (int32_t i = 0; i < INCIDENT_WIDTH; i++)
            {
                int used = !last_one || i * in->geometry.page_tokens < last;
                int32_t at = b * INCIDENT_WIDTH + i;
                g.step.table[at] = used ? at : NO_PAGE;
            }
        }
        g.starts[INCIDENT_REQUESTS] = total;
        send(in, &g);
        WORKS(in, rfn_exec_launch(exec, in->stream));
        fetch(in, &g);
        incident_fault(in, "index_gather", operand, words);
        for (int32_t n = BOUND; n < ROWS; n++)
        {
            incident_holds(in, g.keys[(size_t)n * WIDTH] == POISON,
                           "row %d behind the bound was written", n);
        }
        WORKS(in, rfn_exec_destroy(&exec));
    }
    gather_close(&g);
}

static void bound_broken(struct incident *in)
{
    replay_total(in, 100, BOUND, "table", "-7|first of 12");
}

const struct incident_form incident_bound = {
    .name = "I4",
    .upstream = "vLLM #40772",
    .what = "the cumulative lengths end at the bound, not at the total",
    .cuda = "illegal memory access",
    .broken = bound_broken,
    .right = bound_right,
};

static void above_broken(struct incident *in)
{
    replay_total(in, INCIDENT_CONTEXT, BOUND + 3, "starts", "2048|2051|first of 2");
}

const struct incident_form incident_above = {
    .name = "I4",
    .upstream = "vLLM #40772",
    .what = "a step has more tokens than the launch was sized for",
    .cuda = "illegal memory access, or keys lost",
    .broken = above_broken,
    .right = bound_right,
};

/* The kernel of the incident, as an op of the caller's: a row that no request claims goes on
 * with the one that the row before it has left behind. */
static void unguarded(const void *args, const struct rfn_host_env *env)
{
    const struct rfn_index_gather_args *a = args;
    const int32_t *starts = a->starts.data, *table = a->table.data;
    const int64_t P = a->pool.page_tokens, W = a->table.shape[1];
    int64_t b = 0;
    (void)env;
    for (int64_t n = 0; n < a->bound; n++)
    {
        for (int64_t i = 0; i < a->table.shape[0]; i++)
        {
            b = starts[i] <= n && n < starts[i + 1] ? i : b;
        }
        int64_t token = n - starts[b];
        int64_t page = token / P < W ? table[b * W + token / P] : NO_PAGE;
        page = page < 0 ? 0 : page; /* where a GPU leaves the pool */
        const unsigned char *from = a->pool.data;
        from += page * P * (WIDTH + 4);
        memcpy((unsigned char *)a->keys.data + n * WIDTH, from + token % P * WIDTH,
               WIDTH);
        memcpy((float *)a->scales.data + n, from + P * WIDTH + token % P * 4, 4);
    }
}

static void unguarded_broken(struct incident *in)
{
    static struct rfn_op op;
    struct gather g;
    struct rfn_exec *exec = NULL;
    op = rfn_op_index_gather;
    op.name = "unguarded_gather";
    op.host = unguarded;
    op.cuda = NULL;
    WORKS(in, rfn_op_register(&op));
    if (gather_open(in, &g))
    {
        exec = capture(in, &op, &g.args);
    }
    if (exec != NULL)
    {
        make_step(in, &g, 3, 2);
        send(in, &g);
        WORKS(in, rfn_exec_launch(exec, in->stream));
        fetch(in, &g);
        int32_t n = first_wrong(&g), total = g.starts[INCIDENT_REQUESTS];
        incident_caught(in, n == total, "red rows", "row %d of %d was written", n, total);
    }
    WORKS(in, rfn_exec_destroy(&exec));
    gather_close(&g);
}

const struct incident_form incident_unguarded = {
    .name = "I4",
    .upstream = "vLLM #40772",
    .what = "a kernel of one's own looks up rows past the total, unguarded",
    .cuda = "illegal memory access",
    .host_only = 1,
    .broken = unguarded_broken,
    .right = bound_right,
};
