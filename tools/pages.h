/*
 * The page pool: free pages, and prompt blocks that requests share.
 *
 * A page id is good in every layer's pools. A full block of 512 prompt tokens is known by
 * its hash id: requests with equal ids hold the same pages, counted; the last one gives them
 * back. No device is asked.
 */
#ifndef TOOLS_PAGES_H
#define TOOLS_PAGES_H

#include <stdint.h>

struct pages_block
{
    int64_t hash_id;
    int64_t holders; /* 0: free */
    int32_t next;    /* of its chain, or of the free blocks; -1: the last */
};

struct pages
{
    int64_t total;
    int64_t free;
    int32_t *free_page; /* stack */
    int32_t block_pages;
    struct pages_block *block;
    int32_t *block_page; /* [blocks, block_pages] */
    int32_t blocks;
    int32_t free_block;
    int32_t *chain; /* heads, by hash */
    int32_t chains; /* a power of two */
};

/* `block_pages` 0: nothing is shared. The free pages are shuffled by the seed: neighbours in
 * a context are no neighbours in the pool. Returns 0, or -1 without memory. */
int pages_create(int64_t total, int32_t block_pages, uint64_t seed,
                 struct pages *ret_pages);
void pages_destroy(struct pages *pages);

/* One page; the caller knows that there is one. */
int32_t pages_take(struct pages *pages);
void pages_give(struct pages *pages, int32_t page);

/* How many requests hold a block. */
int64_t pages_block_holders(const struct pages *pages, int64_t hash_id);

/* Takes hold of a block and writes its pages. Returns 1 when it is new: its pages came from
 * the free ones, which the caller knows to suffice, and hold nothing yet. */
int pages_block_take(struct pages *pages, int64_t hash_id, int32_t *ret_page);
void pages_block_give(struct pages *pages, int64_t hash_id);

#endif
