#include "tools/batch.h"
#include "tools/synth.h"
#include <stdlib.h>
#include <string.h>

static int64_t pages_of(int64_t tokens, int32_t page_tokens)
{
    return (tokens + page_tokens - 1) / page_tokens;
}

int64_t batch_request_pages(const struct trace_request *request, int32_t page_tokens,
                            int32_t drafts)
{
    return pages_of(request->input_tokens + request->output_tokens + drafts, page_tokens);
}

static int descending(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a;
    int64_t y = *(const int64_t *)b;
    return (x < y) - (x > y);
}

int64_t batch_pool_pages(const struct trace *trace, int32_t seats, int32_t page_tokens,
                         int32_t drafts)
{
    int64_t *need = malloc((size_t)(trace->requests + 1) * sizeof(need[0]));
    if (need == NULL)
    {
        return -1;
    }
    for (int64_t i = 0; i < trace->requests; i++)
    {
        need[i] = batch_request_pages(&trace->request[i], page_tokens, drafts);
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
    struct batch batch = { .desc = *desc, .last_waited = -1 };
    size_t seats = (size_t)desc->seats;
    int64_t blocks = 1;
    for (int64_t i = 0; i < desc->trace->requests; i++)
    {
        int64_t more = desc->trace->request[i].blocks;
        blocks = more > blocks ? more : blocks;
    }
    int32_t block_pages = TRACE_BLOCK_TOKENS % desc->page_tokens == 0
                              ? TRACE_BLOCK_TOKENS / desc->page_tokens
                              : 0;
    batch.seat = malloc(seats * sizeof(batch.seat[0]));
    batch.lens = malloc(seats * sizeof(batch.lens[0]));
    batch.q_lens = malloc(seats * sizeof(batch.q_lens[0]));
    batch.kept = malloc(seats * sizeof(batch.kept[0]));
    batch.rejected = malloc(seats * sizeof(batch.rejected[0]));
    batch.table = malloc(seats * (size_t)desc->table_pages * sizeof(batch.table[0]));
    batch.made = malloc((size_t)blocks);
    batch.new_from = calloc(seats, sizeof(batch.new_from[0]));
    batch.new_to = calloc(seats, sizeof(batch.new_to[0]));
    if (batch.new_from == NULL || batch.new_to == NULL || batch.seat == NULL ||
        batch.lens == NULL || batch.q_lens == NULL || batch.kept == NULL ||
        batch.rejected == NULL || batch.table == NULL || batch.made == NULL ||
        pages_create(desc->pages, block_pages, desc->seed, &batch.pages) != 0)
    {
        batch_destroy(&batch);
        return -1;
    }
    *ret_batch = batch;
    return 0;
}

void batch_destroy(struct batch *batch)
{
    pages_destroy(&batch->pages);
    free(batch->seat);
    free(batch->lens);
    free(batch->q_lens);
    free(batch->kept);
    free(batch->rejected);
    free(batch->table);
    free(batch->made);
    free(batch->new_from);
    free(batch->new_to);
    *batch = (struct batch) { 0 };
}

static int32_t *row_of(const struct batch *batch, int32_t seat)
{
    return batch->table + seat * batch->desc.table_pages;
}

static const struct trace_request *request_of(const struct batch *batch, int32_t seat)
{
    return &batch->desc.trace->request[batch->seat[seat].request];
}

/* Blocks of a prompt that are full, and so may be shared. */
static int64_t full_blocks(const struct batch *batch, const struct trace_request *request)
{
    int64_t blocks = request->input_tokens / TRACE_BLOCK_TOKENS;
    return batch->pages.block_pages > 0 ? blocks : 0;
}

/* Takes promised pages until the row has what `tokens` need. */
static void grow(struct batch *batch, int32_t s, int64_t tokens)
{
    struct batch_seat *seat = &batch->seat[s];
    int64_t pages = pages_of(tokens, batch->desc.page_tokens);
    while (seat->pages < pages)
    {
        row_of(batch, s)[seat->pages++] = pages_take(&batch->pages);
        seat->promised_pages--;
        batch->promised_pages--;
        batch->changed = 1;
    }
    batch->new_to[s] = (int32_t)seat->pages;
}

static void leave(struct batch *batch, int32_t s)
{
    struct batch_seat *seat = &batch->seat[s];
    int32_t *row = row_of(batch, s);
    int64_t shared = seat->blocks * batch->pages.block_pages;
    while (seat->pages > shared)
    {
        pages_give(&batch->pages, row[--seat->pages]);
    }
    for (int64_t i = seat->blocks - 1; i >= 0; i--)
    {
        pages_block_give(&batch->pages, request_of(batch, s)->hash_ids[i]);
    }
    batch->promised_pages -= seat->promised_pages;
    int32_t last = --batch->lives;
    if (s != last)
    {
        *seat = batch->seat[last];
        batch->lens[s] = batch->lens[last];
        batch->q_lens[s] = batch->q_lens[last];
        memcpy(row, row_of(batch, last), (size_t)seat->pages * sizeof(row[0]));
        batch->new_from[s] = 0;
        batch->new_to[s] = (int32_t)seat->pages;
    }
    batch->changed = 1;
}

static void sit_down(struct batch *batch, const struct trace_request *request)
{
    int32_t s = batch->lives++;
    int32_t block_pages = batch->pages.block_pages;
    struct batch_seat *seat = &batch->seat[s];
    *seat = (struct batch_seat) { .request = batch->next++,
                                  .blocks = full_blocks(batch, request),
                                  .promised_pages = batch_request_pages(
                                      request, batch->desc.page_tokens,
                                      batch->desc.speculative.drafts) };
    batch->promised_pages += seat->promised_pages;
    batch->new_from[s] = 0;
    memset(batch->made, 1, (size_t)request->blocks);
    for (int64_t i = 0; i < seat->blocks; i++)
    {
        batch->made[i] = (uint8_t)pages_block_take(&batch->pages, request->hash_ids[i],
                                                   row_of(batch, s) + seat->pages);
        batch->shared_tokens += batch->made[i] ? 0 : TRACE_BLOCK_TOKENS;
        seat->pages += block_pages;
        seat->promised_pages -= block_pages;
        batch->promised_pages -= block_pages;
    }
    grow(batch, s, request->input_tokens);
    batch->lens[s] = (int32_t)request->input_tokens;
    batch->q_lens[s] = 0;
    batch->changed = 1;
}

int32_t batch_admit(struct batch *batch)
{
    const struct batch_desc *desc = &batch->desc;
    if (batch->next == desc->trace->requests || batch->lives == desc->seats)
    {
        return -1;
    }
    const struct trace_request *request = &desc->trace->request[batch->next];
    int64_t wait_us = desc->us_per_step == 0 || request->timestamp_ms > INT64_MAX / 1000
                          ? 0
                          : request->timestamp_ms * 1000 - batch->now_us;
    if (wait_us > 0 && batch->lives > 0)
    {
        return -1;
    }
    batch->now_us += wait_us > 0 ? wait_us : 0; /* nothing runs: time leaps */
    int64_t need =
        batch_request_pages(request, desc->page_tokens, desc->speculative.drafts);
    for (int64_t i = 0; i < full_blocks(batch, request); i++)
    {
        if (pages_block_holders(&batch->pages, request->hash_ids[i]) > 0)
        {
            need -= batch->pages.block_pages;
        }
    }
    if (need > batch->pages.free - batch->promised_pages)
    {
        batch->waited += batch->last_waited != batch->next;
        batch->last_waited = batch->next;
        return -1;
    }
    sit_down(batch, request);
    return batch->lives - 1;
}

int32_t batch_begin_step(struct batch *batch)
{
    const struct batch_desc *desc = &batch->desc;
    const struct speculative *speculative = &desc->speculative;
    for (int32_t s = 0; s < batch->lives; s++)
    {
        int64_t left = request_of(batch, s)->output_tokens - batch->seat[s].made_tokens;
        int32_t q = left < desc->next_n ? (int32_t)left : desc->next_n;
        batch->kept[s] = q;
        if (speculative->drafts > 0)
        {
            int32_t kept =
                1 + speculative_accepted(speculative, desc->seed, batch->seat[s].request,
                                         batch->lens[s]);
            batch->kept[s] = left < kept ? (int32_t)left : kept;
            batch->draft_tokens += speculative->drafts;
            batch->accepted_tokens += batch->kept[s] - 1;
            q = desc->next_n;
        }
        batch->changed |= q != batch->q_lens[s];
        batch->q_lens[s] = q;
        batch->lens[s] += q;
        grow(batch, s, batch->lens[s]);
    }
    return batch->lives;
}

void batch_end_step(struct batch *batch)
{
    batch->changed = 0;
    batch->now_us += batch->desc.us_per_step;
    for (int32_t s = 0; s < batch->lives; s++)
    {
        batch->new_from[s] = batch->new_to[s] = (int32_t)batch->seat[s].pages;
        batch->seat[s].made_tokens += batch->kept[s];
        batch->tokens += batch->kept[s];
        batch->rejected[s] = batch->q_lens[s] - batch->kept[s];
        /* Past the end of its table the device does not advance. */
        batch->changed |= batch->rejected[s] > 0 &&
                          batch->lens[s] + batch->q_lens[s] >
                              batch->desc.table_pages * batch->desc.page_tokens;
        batch->lens[s] -= batch->rejected[s];
    }
    for (int32_t s = batch->lives - 1; s >= 0; s--)
    {
        if (batch->seat[s].made_tokens == request_of(batch, s)->output_tokens)
        {
            leave(batch, s);
            batch->finished++;
        }
    }
}

int64_t batch_slot(const struct batch *batch, int32_t seat, int64_t position)
{
    int32_t page_tokens = batch->desc.page_tokens;
    return (int64_t)row_of(batch, seat)[position / page_tokens] * page_tokens +
           position % page_tokens;
}

int64_t batch_token(const struct batch *batch, int32_t seat, int64_t position)
{
    const struct batch_desc *desc = &batch->desc;
    int64_t first = batch->lens[seat] - batch->q_lens[seat];
    if (batch->q_lens[seat] > 0 && position >= first + batch->kept[seat])
    {
        return synth_draft(desc->seed, batch->seat[seat].request, first, position);
    }
    return synth_token(desc->seed, desc->trace->request, batch->seat[seat].request,
                       position);
}

int64_t batch_drain(struct batch *batch)
{
    while (batch->lives > 0)
    {
        leave(batch, batch->lives - 1);
    }
    return batch->desc.pages - batch->pages.free;
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
