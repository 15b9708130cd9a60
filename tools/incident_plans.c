/* Incidents of plans: counts read before they arrived (I2), a plan for other bounds than the
 * graph's (I5), tables whose row stride follows the live batch (I8). */
#include "tools/incident.h"
#include <stddef.h>
#include <string.h>

static const struct rfn_bucket full = { INCIDENT_REQUESTS, 1, 0 };
static const struct rfn_bucket two = { 2, 1, 0 };

/* ---- I2 -------------------------------------------------------------------------------- */

/* The count of live rows on its way to the host, behind the update that makes it. */
static volatile int32_t *send_count(struct incident *in, int32_t requests, int planted)
{
    struct rfn_step_view view = { 0 };
    struct rfn_bucket planned;
    struct incident_step live = incident_random(in, requests, INCIDENT_CONTEXT);
    struct rfn_step step = incident_step_of(&live);
    void *count = incident_memory(in, RFN_MEMORY_PINNED, sizeof(int32_t));
    WORKS(in, rfn_attention_view(in->attention, 0, &view));
    WORKS(in, rfn_attention_plan(in->attention, in->stream, &step, &planned));
    WORKS(in, rfn_attention_update(in->attention, in->stream, &full));
    if (in->wrong[0] != '\0')
    {
        return NULL;
    }
    if (planted)
    {
        PLANT(in, "CAP017");
        WORKS(in, rfn_copy_async(in->stream, count, view.live.data, sizeof(int32_t)));
    }
    else
    {
        WORKS(in, rfn_copy_async(in->stream, count, view.live.data, sizeof(int32_t)));
    }
    return count;
}

static void early_broken(struct incident *in)
{
    WORKS(in, rfn_region_begin("plan"));
    volatile int32_t *count = send_count(in, 3, 1);
    if (count != NULL)
    {
        (void)*count; /* which branch to take */
    }
    WORKS(in, rfn_region_end());
    WORKS(in, rfn_stream_sync(in->stream));
}

static void early_right(struct incident *in)
{
    WORKS(in, rfn_region_begin("plan"));
    volatile int32_t *count = send_count(in, 3, 0);
    WORKS(in, rfn_stream_sync(in->stream));
    WORKS(in, rfn_region_end());
    incident_holds(in, count != NULL && *count == 3, "%d live rows, not 3",
                   count != NULL ? *count : -1);
}

const struct incident_form incident_early = {
    .name = "I2",
    .upstream = "FastDeploy #7221",
    .what = "the host branches on counts that an asynchronous copy has not brought yet",
    .cuda = "success; last step's counts",
    .broken = early_broken,
    .right = early_right,
};

/* ---- I5 -------------------------------------------------------------------------------- */

/* A step for more than what everything was sized for. */
static void bounds_broken(struct incident *in)
{
    struct rfn_bucket planned = { 0 };
    struct incident_step live = incident_random(in, INCIDENT_REQUESTS, INCIDENT_CONTEXT);
    struct rfn_step step = incident_step_of(&live);
    live.lens[1] = INCIDENT_CONTEXT + 1;
    REFUSED(in, rfn_attention_plan(in->attention, in->stream, &step, &planned), RFN_LIMIT,
            "request 1|513|512");
    step.requests = INCIDENT_REQUESTS + 1;
    REFUSED(in, rfn_attention_plan(in->attention, in->stream, &step, &planned), RFN_LIMIT,
            "5 requests|4");
}

/* Two graphs, replayed for idle ranks, for batches that shrink and grow, and for lengths around
 * the choice that needs no scores. */
static void plans_fit(struct incident *in)
{
    struct rfn_exec *large = incident_exec(in, &full);
    struct rfn_exec *small = incident_exec(in, &two);
    for (int i = 0; i < 24 && large != NULL && small != NULL; i++)
    {
        int32_t requests = incident_below(in, INCIDENT_REQUESTS + 1);
        int32_t most = i % 3 == 0 ? in->geometry.topk + 1 : INCIDENT_CONTEXT;
        struct incident_step live = incident_random(in, requests, most);
        struct rfn_step step = incident_step_of(&live);
        int fits = requests <= two.requests;
        incident_equal(in, fits ? small : large, fits ? &two : &full, &step, NULL);
    }
    WORKS(in, rfn_exec_destroy(&large));
    WORKS(in, rfn_exec_destroy(&small));
}

const struct incident_form incident_bounds = {
    .name = "I5",
    .upstream = "SGLang #24632",
    .what = "a step is planned past the bounds that the graphs were made for",
    .cuda = "success; the combine reads past its end",
    .broken = bounds_broken,
    .right = plans_fit,
};

/* The graph of two requests launched with a plan for three: its rows are not the plan's. */
static void stale_broken(struct incident *in)
{
    struct rfn_bucket planned;
    struct incident_step live = incident_random(in, 3, INCIDENT_CONTEXT);
    struct rfn_step step = incident_step_of(&live);
    struct rfn_exec *exec = incident_exec(in, &two);
    if (exec == NULL)
    {
        return;
    }
    WORKS(in, rfn_attention_plan(in->attention, in->stream, &step, &planned));
    PLANT(in, "CAP027");
    enum rfn_status status = rfn_exec_launch(exec, in->stream);
    REFUSED(in, status, RFN_INVALID, "3 requests|2");
    WORKS(in, rfn_exec_destroy(&exec));
}

const struct incident_form incident_stale = {
    .name = "I5",
    .upstream = "SGLang #24632",
    .what = "the plan is for three requests, the graph launched for two",
    .cuda = "success; the combine reads past its end",
    .broken = stale_broken,
    .right = plans_fit,
};

/* ---- I8 -------------------------------------------------------------------------------- */

/* Rows as wide as the live batch was a step ago. */
static void narrow_broken(struct incident *in)
{
    struct rfn_bucket planned;
    struct incident_step live = incident_random(in, 2, INCIDENT_CONTEXT);
    struct rfn_step step = incident_step_of(&live);
    live.lens[0] = 1;
    live.lens[1] = 4 * in->geometry.page_tokens;
    memset(live.table, 0, sizeof(live.table));
    step.table_stride = 3;
    REFUSED(in, rfn_attention_plan(in->attention, in->stream, &step, &planned),
            RFN_INVALID, "request 1|needs 4 pages|has 3");
}

/* The caller's table at any width that holds the contexts; on the device it has the capacity's
 * stride, whatever lives. */
static void strides_fit(struct incident *in)
{
    struct rfn_exec *exec = incident_exec(in, &full);
    for (int i = 0; i < 16 && exec != NULL; i++)
    {
        int32_t table[INCIDENT_REQUESTS * INCIDENT_WIDTH];
        int32_t requests = i % 5 == 4 ? 0 : 1 + incident_below(in, INCIDENT_REQUESTS);
        int32_t width = 1 + incident_below(in, INCIDENT_WIDTH);
        struct incident_step live =
            incident_random(in, requests, width * in->geometry.page_tokens);
        const struct rfn_step wide = incident_step_of(&live);
        struct rfn_step step = wide;
        for (int32_t b = 0; b < requests; b++)
        {
            memcpy(table + b * width, live.table + b * INCIDENT_WIDTH,
                   (size_t)width * sizeof(*table));
        }
        step.table = table;
        step.table_stride = width;
        incident_equal(in, exec, &full, &step, &wide);
    }
    WORKS(in, rfn_exec_destroy(&exec));
}

const struct incident_form incident_narrow = {
    .name = "I8",
    .upstream = "vLLM #51318, #52448",
    .what = "a table has rows of the last step's width, a context needs more",
    .cuda = "success; wrong slots are read",
    .broken = narrow_broken,
    .right = strides_fit,
};

/* Metadata of a step of ops of the caller's own, rewritten for the live batch. */
static void stride_broken(struct incident *in)
{
    const int64_t T = INCIDENT_REQUESTS, W = INCIDENT_WIDTH, K = in->geometry.topk;
    const int64_t S = W * in->geometry.page_tokens;
    struct rfn_graph *graph = NULL;
    struct rfn_exec *exec = NULL;
    struct rfn_step_view view = { 0 };
    WORKS(in, rfn_attention_view(in->attention, 0, &view));
    struct rfn_index_topk_args args = {
        .lens = rfn_tensor_of(view.context.data, RFN_I32, T, 0, 0, 0),
        .request = rfn_tensor_of(view.request.data, RFN_I32, T, 0, 0, 0),
        .page_tokens = in->geometry.page_tokens,
        .pages = INCIDENT_PAGES,
    };
    void *logits = incident_memory(in, RFN_MEMORY_DEVICE, T * S * 4);
    void *table = incident_memory(in, RFN_MEMORY_DEVICE, T * W * 4);
    void *slots = incident_memory(in, RFN_MEMORY_DEVICE, T * K * 4);
    args.logits = rfn_tensor_of(logits, RFN_F32, T, S, 0, 0);
    args.table = rfn_tensor_of(table, RFN_I32, T, W, 0, 0);
    args.slots = rfn_tensor_of(slots, RFN_I32, T, K, 0, 0);
    WORKS(in, rfn_capture_begin(in->stream, NULL));
    WORKS(in, rfn_index_topk(in->stream, &args));
    WORKS(in, rfn_index_topk(in->stream, &args));
    WORKS(in, rfn_capture_end(in->stream, &graph));
    if (!WORKS(in, rfn_graph_instantiate(graph, &exec)))
    {
        return;
    }
    args.table.shape[1] = args.table.stride[0] = 5;
    args.logits.shape[1] = 5 * in->geometry.page_tokens;
    PLANT(in, "CAP027");
    enum rfn_status status = rfn_exec_update(exec, 1, &args);
    REFUSED(in, status, RFN_INVALID, "stride of 5|8");
    WORKS(in, rfn_exec_destroy(&exec));
    WORKS(in, rfn_graph_destroy(&graph));
}

const struct incident_form incident_stride = {
    .name = "I8",
    .upstream = "vLLM #51318, #52448",
    .what = "metadata has the row stride of the live batch, the graph the capacity's",
    .cuda = "success; wrong slots are read",
    .broken = stride_broken,
    .right = strides_fit,
};
