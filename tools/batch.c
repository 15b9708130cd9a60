#include "tools/batch.h"
#include "tools/synth.h"
#include <stdlib.h>

static int64_t pages_of(int64_t tokens, int32_t page_tokens)
{
    return (tokens + page_tokens - 1) / page_tokens;
}

int64_t batch_request_pages(const struct trace_request *request, int32_t page_tokens)
{
    return pages_of(request->input_tokens + request->output_tokens, page_tokens);
}

int64_t batch_largest_pages(const struct trace *trace, int32_t page_tokens)
{
    return batch_pool_pages(trace, 1, page_tokens);
}

static int descending(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a;
    int64_t y = *(const int64_t *)b;
    return (x < y) - (x > y);
}

int64_t batch_pool_pages(const struct trace *trace, int32_t seats, int32_t page_tokens)
{
    int64_t *need = malloc((size_t)(trace->requests + 1) * sizeof(need[0]));
    if (need == NULL)
    {
        return -1;
    }
    for (int64_t i = 0; i < trace->requests; i++)
    {
        need[i] = batch_request_pages(&trace->request[i], page_tokens);
    }
    qsort(need, (size_t)trace->requests, sizeof(need[0]), descending);
    int64_t pages = 0;
    for (int64_t i = 0; i < trace->requests && i < seats; i++)
    {
        pages += need[i];
    }
    free(need);
    return pages;
}

int batch_create(const struct batch_desc *desc, struct batch *ret_batch)
{
    struct batch batch = {
        .trace = desc->trace,
        .page_tokens = desc->page_tokens,
        .table_pages = desc->table_pages,
        .pages = desc->pages,
        .free_pages = desc->pages,
        .seats = desc->seats,
        .last_waited = -1,
    };
    batch.free_page = malloc((size_t)desc->pages * sizeof(batch.free_page[0]));
    batch.seat = calloc((size_t)desc->seats, sizeof(batch.seat[0]));
    batch.live = malloc((size_t)desc->seats * sizeof(batch.live[0]));
    int32_t *rows =
        malloc((size_t)desc->seats * (size_t)desc->table_pages * sizeof(rows[0]));
    if (batch.free_page == NULL || batch.seat == NULL || batch.live == NULL ||
        rows == NULL)
    {
        free(batch.free_page);
        free(batch.seat);
        free(batch.live);
        free(rows);
        return -1;
    }
    for (int32_t s = 0; s < desc->seats; s++)
    {
        batch.seat[s].request = -1;
        batch.seat[s].page = rows + (int64_t)s * desc->table_pages;
    }
    /* A shuffled free list: neighbours in a context are no neighbours in the pool. */
    for (int64_t i = 0; i < desc->pages; i++)
    {
        int64_t j = (int64_t)(synth_pick(desc->seed, 1, (uint64_t)i) % (uint64_t)(i + 1));
        batch.free_page[i] = batch.free_page[j];
        batch.free_page[j] = (int32_t)i;
    }
    *ret_batch = batch;
    return 0;
}

static void grow(struct batch *batch, struct batch_seat *seat, int64_t tokens)
{
    int64_t pages = pages_of(tokens, batch->page_tokens);
    while (seat->pages < pages)
    {
        seat->page[seat->pages++] = batch->free_page[--batch->free_pages];
        seat->dirty = 1;
    }
    seat->context_tokens = tokens;
}

static void leave(struct batch *batch, struct batch_seat *seat)
{
    while (seat->pages > 0)
    {
        batch->free_page[batch->free_pages++] = seat->page[--seat->pages];
    }
    batch->promised_pages -= seat->promised_pages;
    seat->promised_pages = 0;
    seat->request = -1;
}

int32_t batch_admit(struct batch *batch)
{
    if (batch->next == batch->trace->requests)
    {
        return -1;
    }
    for (int32_t s = 0; s < batch->seats; s++)
    {
        struct batch_seat *seat = &batch->seat[s];
        if (seat->request >= 0)
        {
            continue;
        }
        const struct trace_request *request = &batch->trace->request[batch->next];
        int64_t need = batch_request_pages(request, batch->page_tokens);
        if (need > batch->pages - batch->promised_pages)
        {
            batch->waited += batch->last_waited != batch->next;
            batch->last_waited = batch->next;
            return -1;
        }
        seat->request = batch->next++;
        seat->made_tokens = 0;
        seat->promised_pages = need;
        batch->promised_pages += need;
        grow(batch, seat, request->input_tokens);
        return s;
    }
    return -1;
}

int32_t batch_begin_step(struct batch *batch)
{
    batch->lives = 0;
    for (int32_t s = 0; s < batch->seats; s++)
    {
        if (batch->seat[s].request >= 0)
        {
            grow(batch, &batch->seat[s], batch->seat[s].context_tokens + 1);
            batch->live[batch->lives++] = s;
        }
    }
    return batch->lives;
}

void batch_end_step(struct batch *batch)
{
    for (int32_t t = 0; t < batch->lives; t++)
    {
        struct batch_seat *seat = &batch->seat[batch->live[t]];
        seat->made_tokens++;
        batch->tokens++;
        if (seat->made_tokens == batch->trace->request[seat->request].output_tokens)
        {
            leave(batch, seat);
            batch->finished++;
        }
    }
}

int64_t batch_slot(const struct batch *batch, const struct batch_seat *seat,
                   int64_t position)
{
    return (int64_t)seat->page[position / batch->page_tokens] * batch->page_tokens +
           position % batch->page_tokens;
}

int64_t batch_drain(struct batch *batch)
{
    for (int32_t s = 0; s < batch->seats; s++)
    {
        if (batch->seat[s].request >= 0)
        {
            leave(batch, &batch->seat[s]);
        }
    }
    return batch->pages - batch->free_pages;
}

void batch_destroy(struct batch *batch)
{
    if (batch->seat != NULL)
    {
        free(batch->seat[0].page);
    }
    free(batch->seat);
    free(batch->live);
    free(batch->free_page);
    *batch = (struct batch) { 0 };
}

int64_t batch_simulate(const struct batch_desc *desc, int64_t max_steps)
{
    struct batch batch;
    if (batch_create(desc, &batch) != 0)
    {
        return -1;
    }
    int64_t steps = 0;
    while (max_steps == 0 || steps < max_steps)
    {
        while (batch_admit(&batch) >= 0)
        {
        }
        if (batch_begin_step(&batch) == 0)
        {
            break;
        }
        batch_end_step(&batch);
        steps++;
    }
    batch_destroy(&batch);
    return steps;
}
