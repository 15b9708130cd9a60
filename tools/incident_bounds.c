/* Incidents of bounds that only the device sees: an update and the ops that go by its rows stand
 * in graphs of the caller's own, where no plan is known. What was made for other rows (I5), or
 * with the row stride of the live batch (I8), carries the header that gives it away. */
#include "tools/incident.h"

#include <stdlib.h>
#include <string.h>

#define POISON 0x5a

/* A step of two ops on buffers of its own. */
struct own
{
    struct rfn_step_update_args update;
    struct rfn_index_topk_args topk;
    int64_t chosen_bytes;
};

static struct rfn_tensor tensor(struct incident *in, enum rfn_dtype dtype, int64_t d0,
                                int64_t d1)
{
    int64_t bytes = d0 * (d1 ? d1 : 1) * rfn_dtype_bytes(dtype);
    void *memory = incident_memory(in, RFN_MEMORY_DEVICE, bytes);
    return rfn_tensor_of(memory, dtype, d0, d1, 0, 0);
}

/* At capacity: rows of every request, the table with room for every context. */
static int own_open(struct incident *in, struct own *own)
{
    const int64_t T = INCIDENT_REQUESTS, S = INCIDENT_CONTEXT, K = in->geometry.topk;
    own->update = (struct rfn_step_update_args) {
        .lens = tensor(in, RFN_I32, T, 0),
        .q_lens = tensor(in, RFN_I32, T, 0),
        .table = tensor(in, RFN_I32, T, INCIDENT_WIDTH),
        .requests = tensor(in, RFN_I32, 1, 0),
        .request = tensor(in, RFN_I32, T, 0),
        .context = tensor(in, RFN_I32, T, 0),
        .slots = tensor(in, RFN_I64, T, 0),
        .live = tensor(in, RFN_I32, 1, 0),
        .next_n = 1,
        .page_tokens = in->geometry.page_tokens,
        .pages = INCIDENT_PAGES,
        .bounds = tensor(in, RFN_I64, RFN_BOUNDS, 0),
    };
    const struct rfn_step_update_args *update = &own->update;
    own->topk = (struct rfn_index_topk_args) {
        .logits = tensor(in, RFN_F32, T, S),
        .lens = update->context,
        .live = update->live,
        .table = update->table,
        .request = update->request,
        .slots = tensor(in, RFN_I32, T, K),
        .page_tokens = update->page_tokens,
        .pages = update->pages,
        .bounds = { .header = update->bounds },
    };
    own->chosen_bytes = T * K * (int64_t)sizeof(int32_t);
    float *score = malloc((size_t)(T * S) * sizeof(*score));
    if (!incident_holds(in, score != NULL, "out of memory") || in->wrong[0] != '\0')
    {
        free(score);
        return 0;
    }
    for (int64_t i = 0; i < T * S; i++)
    {
        score[i] = (float)incident_below(in, 4096);
    }
    WORKS(in, rfn_copy_sync(in->device, own->topk.logits.data, score, T * S * 4));
    free(score);
    return in->wrong[0] == '\0';
}

/* A step to the device, rows of the table `stride` entries apart; choices of 0x5a. */
static void own_step(struct incident *in, const struct own *own,
                     const struct incident_step *live, int32_t stride)
{
    const struct rfn_step_update_args *update = &own->update;
    int32_t table[INCIDENT_REQUESTS * INCIDENT_WIDTH], q_lens[INCIDENT_REQUESTS];
    memset(table, 0, sizeof(table));
    for (int32_t b = 0; b < INCIDENT_REQUESTS; b++)
    {
        q_lens[b] = 1;
        memcpy(table + b * stride, live->table + b * INCIDENT_WIDTH,
               (size_t)stride * sizeof(*table));
    }
    WORKS(in, rfn_stream_sync(in->stream));
    WORKS(in,
          rfn_copy_sync(in->device, update->lens.data, live->lens, sizeof(live->lens)));
    WORKS(in, rfn_copy_sync(in->device, update->q_lens.data, q_lens, sizeof(q_lens)));
    WORKS(in, rfn_copy_sync(in->device, update->table.data, table, sizeof(table)));
    WORKS(in, rfn_copy_sync(in->device, update->requests.data, &live->requests,
                            sizeof(live->requests)));
    WORKS(in, rfn_set_sync(in->device, own->topk.slots.data, POISON, own->chosen_bytes));
    WORKS(in, rfn_device_sync(in->device));
}

static unsigned char *own_chosen(struct incident *in, const struct own *own)
{
    unsigned char *chosen = malloc((size_t)own->chosen_bytes);
    WORKS(in, rfn_stream_sync(in->stream));
    if (incident_holds(in, chosen != NULL, "out of memory"))
    {
        WORKS(in,
              rfn_copy_sync(in->device, chosen, own->topk.slots.data, own->chosen_bytes));
    }
    return chosen;
}

static struct rfn_exec *captured(struct incident *in,
                                 const struct rfn_step_update_args *update,
                                 const struct rfn_index_topk_args *topk)
{
    struct rfn_graph *graph = NULL;
    struct rfn_exec *exec = NULL;
    WORKS(in, rfn_capture_begin(in->stream, NULL));
    if (update != NULL)
    {
        WORKS(in, rfn_step_update(in->stream, update));
    }
    if (topk != NULL)
    {
        WORKS(in, rfn_index_topk(in->stream, topk));
    }
    WORKS(in, rfn_capture_end(in->stream, &graph));
    if (graph != NULL)
    {
        WORKS(in, rfn_graph_instantiate(graph, &exec));
    }
    WORKS(in, rfn_graph_destroy(&graph));
    return exec;
}

/* An update and the choice that goes by it, each in a graph of its own: check mode says what
 * differs, and no choice is made. */
static void caught(struct incident *in, const struct own *own,
                   const struct rfn_step_update_args *update, const char *operand,
                   const char *words)
{
    struct rfn_exec *first = captured(in, update, NULL);
    struct rfn_exec *then = captured(in, NULL, &own->topk);
    if (first != NULL && then != NULL)
    {
        WORKS(in, rfn_exec_launch(first, in->stream));
        WORKS(in, rfn_exec_launch(then, in->stream));
        unsigned char *chosen = own_chosen(in, own);
        for (int64_t i = 0; chosen != NULL && i < own->chosen_bytes; i++)
        {
            incident_holds(in, chosen[i] == POISON, "a choice was made");
        }
        free(chosen);
        incident_fault(in, "index_topk", operand, words);
    }
    WORKS(in, rfn_exec_destroy(&first));
    WORKS(in, rfn_exec_destroy(&then));
}

/* Batches of any size, none among them, in one graph of both, and in one of each. */
static void graphs_fit(struct incident *in)
{
    struct own own;
    struct rfn_fault fault = { 0 };
    if (!own_open(in, &own))
    {
        return;
    }
    struct rfn_exec *both = captured(in, &own.update, &own.topk);
    struct rfn_exec *first = captured(in, &own.update, NULL);
    struct rfn_exec *then = captured(in, NULL, &own.topk);
    for (int i = 0; i < 12 && both != NULL && first != NULL && then != NULL; i++)
    {
        unsigned char *chosen[3] = { NULL };
        struct incident_step live = incident_random(
            in, incident_below(in, INCIDENT_REQUESTS + 1), INCIDENT_CONTEXT);
        for (int way = 0; way < 3; way++)
        {
            own_step(in, &own, &live, INCIDENT_WIDTH);
            if (way == 0)
            {
                WORKS(in, rfn_step_update(in->stream, &own.update));
                WORKS(in, rfn_index_topk(in->stream, &own.topk));
            }
            else
            {
                WORKS(in, rfn_exec_launch(way == 1 ? both : first, in->stream));
            }
            if (way == 2)
            {
                WORKS(in, rfn_exec_launch(then, in->stream));
            }
            chosen[way] = own_chosen(in, &own);
            incident_holds(in,
                           chosen[way] != NULL && chosen[0] != NULL &&
                               memcmp(chosen[way], chosen[0], (size_t)own.chosen_bytes) ==
                                   0,
                           "the choice of replay %d is not the eager one", i);
        }
        for (int way = 0; way < 3; way++)
        {
            free(chosen[way]);
        }
    }
    WORKS(in, rfn_device_fault(in->device, &fault));
    incident_holds(in, fault.op == NULL, "check mode saw a bad %s",
                   fault.op != NULL ? fault.operand : "");
    WORKS(in, rfn_exec_destroy(&both));
    WORKS(in, rfn_exec_destroy(&first));
    WORKS(in, rfn_exec_destroy(&then));
}

/* ---- I5 -------------------------------------------------------------------------------- */

/* The update of the bucket of two, the choice of the bucket of four. */
static void rows_broken(struct incident *in)
{
    struct own own;
    if (!own_open(in, &own))
    {
        return;
    }
    struct incident_step live = incident_random(in, 2, INCIDENT_CONTEXT);
    struct rfn_step_update_args two = own.update;
    struct rfn_tensor *of_requests[] = { &two.lens,    &two.q_lens,  &two.table,
                                         &two.request, &two.context, &two.slots };
    for (int i = 0; i < 6; i++)
    {
        of_requests[i]->shape[0] = 2;
    }
    own_step(in, &own, &live, INCIDENT_WIDTH);
    caught(in, &own, &two, "bounds.rows", "is 4|header has 2");
}

const struct incident_form incident_rows = {
    .name = "I5",
    .upstream = "SGLang #24632",
    .what = "rows made for two requests, a graph of one's own goes by four",
    .cuda = "success; the combine reads past its end",
    .broken = rows_broken,
    .right = graphs_fit,
};

/* ---- I8 -------------------------------------------------------------------------------- */

/* The update reads the live batch's table, five pages a row, the choice the capacity's. */
static void widths_broken(struct incident *in)
{
    struct own own;
    if (!own_open(in, &own))
    {
        return;
    }
    struct incident_step live =
        incident_random(in, INCIDENT_REQUESTS, 5 * in->geometry.page_tokens);
    struct rfn_step_update_args narrow = own.update;
    narrow.table.stride[0] = 5;
    narrow.table.shape[1] = 5;
    own_step(in, &own, &live, 5);
    /* The rows' width is not what is wrong: a view may well be narrower than its stride. */
    own.topk.table.shape[1] = 5;
    caught(in, &own, &narrow, "bounds.table_stride", "is 8|header has 5");
}

const struct incident_form incident_widths = {
    .name = "I8",
    .upstream = "vLLM #51318, #52448",
    .what = "rows made with the live batch's stride, another graph has the capacity's",
    .cuda = "success; wrong slots are read",
    .broken = widths_broken,
    .right = graphs_fit,
};
