#include "tools/pages.h"
#include "tools/synth.h"
#include <stdlib.h>
#include <string.h>

static int32_t chain_of(const struct pages *pages, int64_t hash_id)
{
    return (int32_t)(synth_mix((uint64_t)hash_id) & (uint64_t)(pages->chains - 1));
}

/* A block by its id, -1 when nobody holds it. */
static int32_t find(const struct pages *pages, int64_t hash_id)
{
    if (pages->blocks == 0)
    {
        return -1;
    }
    int32_t i = pages->chain[chain_of(pages, hash_id)];
    while (i >= 0 && pages->block[i].hash_id != hash_id)
    {
        i = pages->block[i].next;
    }
    return i;
}

int pages_create(int64_t total, int32_t block_pages, uint64_t seed,
                 struct pages *ret_pages)
{
    struct pages pages = { .total = total, .free = total, .block_pages = block_pages };
    /* Every block that is held owns block_pages pages. */
    pages.blocks = block_pages > 0 ? (int32_t)(total / block_pages) : 0;
    pages.chains = 1;
    while (pages.chains < pages.blocks)
    {
        pages.chains *= 2;
    }
    size_t blocks = (size_t)pages.blocks;
    pages.free_page = malloc((size_t)total * sizeof(pages.free_page[0]));
    pages.block = calloc(blocks + 1, sizeof(pages.block[0]));
    pages.block_page =
        malloc((blocks * (size_t)block_pages + 1) * sizeof(pages.block_page[0]));
    pages.chain = malloc((size_t)pages.chains * sizeof(pages.chain[0]));
    if (pages.free_page == NULL || pages.block == NULL || pages.block_page == NULL ||
        pages.chain == NULL)
    {
        pages_destroy(&pages);
        return -1;
    }
    for (int64_t i = 0; i < total; i++)
    {
        int64_t j = (int64_t)(synth_pick(seed, 1, (uint64_t)i) % (uint64_t)(i + 1));
        pages.free_page[i] = pages.free_page[j];
        pages.free_page[j] = (int32_t)i;
    }
    for (int32_t i = 0; i < pages.blocks; i++)
    {
        pages.block[i].next = i + 1 < pages.blocks ? i + 1 : -1;
    }
    pages.free_block = pages.blocks > 0 ? 0 : -1;
    memset(pages.chain, 0xff, (size_t)pages.chains * sizeof(pages.chain[0]));
    *ret_pages = pages;
    return 0;
}

void pages_destroy(struct pages *pages)
{
    free(pages->free_page);
    free(pages->block);
    free(pages->block_page);
    free(pages->chain);
    *pages = (struct pages) { 0 };
}

int32_t pages_take(struct pages *pages)
{
    return pages->free_page[--pages->free];
}

void pages_give(struct pages *pages, int32_t page)
{
    pages->free_page[pages->free++] = page;
}

int64_t pages_block_holders(const struct pages *pages, int64_t hash_id)
{
    int32_t i = find(pages, hash_id);
    return i < 0 ? 0 : pages->block[i].holders;
}

int pages_block_take(struct pages *pages, int64_t hash_id, int32_t *ret_page)
{
    int32_t i = find(pages, hash_id);
    int made = i < 0;
    if (made)
    {
        int32_t *head = &pages->chain[chain_of(pages, hash_id)];
        i = pages->free_block;
        pages->free_block = pages->block[i].next;
        pages->block[i] = (struct pages_block) { .hash_id = hash_id, .next = *head };
        *head = i;
        for (int32_t p = 0; p < pages->block_pages; p++)
        {
            pages->block_page[(int64_t)i * pages->block_pages + p] = pages_take(pages);
        }
    }
    pages->block[i].holders++;
    memcpy(ret_page, pages->block_page + (int64_t)i * pages->block_pages,
           (size_t)pages->block_pages * sizeof(ret_page[0]));
    return made;
}

void pages_block_give(struct pages *pages, int64_t hash_id)
{
    int32_t i = find(pages, hash_id);
    if (--pages->block[i].holders > 0)
    {
        return;
    }
    int32_t *link = &pages->chain[chain_of(pages, hash_id)];
    while (*link != i)
    {
        link = &pages->block[*link].next;
    }
    *link = pages->block[i].next;
    pages->block[i].next = pages->free_block;
    pages->free_block = i;
    for (int32_t p = pages->block_pages - 1; p >= 0; p--)
    {
        pages_give(pages, pages->block_page[(int64_t)i * pages->block_pages + p]);
    }
}
