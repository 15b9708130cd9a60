/* I2: the maxima of a step's plan were copied to the host asynchronously, and the
 * next line branched on them. */
#include "tools/incident.h"
#include <string.h>

#define ROOM 64

struct outputs
{
    int32_t maxima[RFN_SPLIT_MAXIMA];
    int32_t counts[RFN_SPLIT_COUNTS];
    _Alignas(8) int32_t decoder[2 * ROOM];
    int32_t encoder[2 * ROOM];
    int32_t kv[2 * ROOM];
};

/* Query tokens, tokens to prefill, tokens in the cache; the third request is idle. */
struct lengths
{
    int32_t row[3][INCIDENT_REQUESTS];
};

static struct lengths lengths_of(struct incident *in)
{
    struct lengths l = { 0 };
    for (int b = 0; b < INCIDENT_REQUESTS; b++)
    {
        l.row[0][b] = b == 2 ? 0 : 1 + incident_below(in, 4);
        l.row[1][b] = b == 1 || b == 2 ? 1 + incident_below(in, 200) : 0;
        l.row[2][b] = 1 + incident_below(in, b == 2 ? 5000 : 500);
    }
    return l;
}

static struct rfn_tensor vector(int32_t *data, int64_t n)
{
    return rfn_tensor_of(data, RFN_I32, n, 0, 0, 0);
}

static struct rfn_split_lists_args args_of(struct lengths *l, struct outputs *out)
{
    return (struct rfn_split_lists_args) {
        .q_lens = vector(l->row[0], INCIDENT_REQUESTS),
        .prefill = vector(l->row[1], INCIDENT_REQUESTS),
        .cached = vector(l->row[2], INCIDENT_REQUESTS),
        .maxima = vector(out->maxima, RFN_SPLIT_MAXIMA),
        .counts = vector(out->counts, RFN_SPLIT_COUNTS),
        .decoder = rfn_tensor_of(out->decoder, RFN_I32, ROOM, 2, 0, 0),
        .encoder = rfn_tensor_of(out->encoder, RFN_I32, ROOM, 2, 0, 0),
        .kv = rfn_tensor_of(out->kv, RFN_I32, ROOM, 2, 0, 0),
        .group = 8,
        .decoder_keys = 64,
        .encoder_rows = 128,
        .kv_keys = 64,
    };
}

static void lists_broken(struct incident *in)
{
    struct lengths l = lengths_of(in);
    struct lengths *lens = incident_memory(in, RFN_MEMORY_DEVICE, sizeof(*lens));
    struct outputs *out = incident_memory(in, RFN_MEMORY_DEVICE, sizeof(*out));
    int32_t *maxima = incident_memory(in, RFN_MEMORY_PINNED, sizeof(out->maxima));
    if (lens == NULL || out == NULL || maxima == NULL)
    {
        return;
    }
    memset(maxima, 0, sizeof(out->maxima));
    WORKS(in, rfn_copy_sync(in->device, lens, &l, sizeof(l)));
    struct rfn_split_lists_args args = args_of(lens, out);
    WORKS(in, rfn_region_begin("plan"));
    WORKS(in, rfn_split_lists(in->stream, &args));
    PLANT(in, "CAP017");
    WORKS(in, rfn_copy_async(in->stream, maxima, out->maxima, sizeof(out->maxima)));
    /* Too early: what is read is this step's, the last one's or neither. */
    int prefills = ((volatile int32_t *)maxima)[RFN_SPLIT_MAX_PREFILL] > 0;
    (void)prefills;
    WORKS(in, rfn_region_end());
    WORKS(in, rfn_stream_sync(in->stream));
    incident_holds(in, maxima[RFN_SPLIT_MAX_PREFILL] == l.row[1][1],
                   "behind the wait the longest prefill is %d, not %d",
                   maxima[RFN_SPLIT_MAX_PREFILL], l.row[1][1]);
}

/* Fetched behind a wait, told, and made by a graph: the same bytes. */
static void lists_right(struct incident *in)
{
    static struct outputs fetched;
    static struct outputs told;
    static struct outputs made;
    struct rfn_graph *graph = NULL;
    struct rfn_exec *exec = NULL;
    struct rfn_capture_info info = { 0 };
    struct lengths *lens = incident_memory(in, RFN_MEMORY_DEVICE, sizeof(*lens));
    struct outputs *out = incident_memory(in, RFN_MEMORY_DEVICE, sizeof(*out));
    if (lens == NULL || out == NULL)
    {
        return;
    }
    struct rfn_split_lists_args fetch = args_of(lens, &fetched);
    struct rfn_split_lists_args make = args_of(lens, out);
    /* What lies between the outputs is compared too. */
    WORKS(in, rfn_set_sync(in->device, out, 0, sizeof(*out)));
    WORKS(in, rfn_region_begin("planning"));
    WORKS(in, rfn_capture_begin(in->stream, NULL));
    REFUSED(in, rfn_split_lists_sync(in->stream, &fetch), RFN_CAPTURE,
            "in region|planning|refused in capture");
    WORKS(in, rfn_capture_query(in->stream, &info));
    incident_holds(in, info.status == RFN_CAPTURE_ACTIVE, "the capture did not go on");
    WORKS(in, rfn_split_lists(in->stream, &make));
    WORKS(in, rfn_capture_end(in->stream, &graph));
    WORKS(in, rfn_region_end());
    WORKS(in, rfn_graph_instantiate(graph, &exec));
    for (int i = 0; i < 20 && in->wrong[0] == '\0'; i++)
    {
        struct lengths l = lengths_of(in);
        struct rfn_split_lists_args tell = args_of(&l, &told);
        WORKS(in, rfn_copy_sync(in->device, lens, &l, sizeof(l)));
        WORKS(in, rfn_device_sync(in->device));
        WORKS(in, rfn_exec_launch(exec, in->stream));
        WORKS(in, rfn_split_lists_sync(in->stream, &fetch));
        WORKS(in, rfn_split_lists_host(&tell));
        WORKS(in, rfn_copy_sync(in->device, &made, out, sizeof(made)));
        incident_holds(in,
                       memcmp(&fetched, &told, sizeof(told)) == 0 &&
                           memcmp(&made, &told, sizeof(told)) == 0,
                       "step %d: fetched, told and made lists are not the same", i);
        incident_holds(in, told.maxima[RFN_SPLIT_MAX_CACHED] <= 500,
                       "step %d: the idle request is in a maximum", i);
    }
    WORKS(in, rfn_exec_destroy(&exec));
    WORKS(in, rfn_graph_destroy(&graph));
}

const struct incident_form incident_lists = {
    .name = "I2",
    .upstream = "FastDeploy #7221",
    .what = "maxima of a step copied asynchronously, read in the next line",
    .cuda = "success; the last step's values",
    .broken = lists_broken,
    .right = lists_right,
};
