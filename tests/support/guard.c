#include "tests/support/guard.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

size_t guard_whole(const struct guard *g)
{
    return (g->bytes + 63) / 64 * 64 + 2 * GUARD_BYTES;
}

static void *need(size_t bytes)
{
    void *p = aligned_alloc(64, bytes);
    if (!p)
    {
        printf("FAIL no memory for a test buffer of %zu bytes\n", bytes);
        exit(1);
    }
    return p;
}

void guard_create(struct guard *g, size_t bytes, int fill)
{
    *g = (struct guard) { .bytes = bytes };
    g->base = need(guard_whole(g));
    g->data = g->base + GUARD_BYTES;
    memset(g->base, fill, guard_whole(g));
}

void guard_destroy(struct guard *g)
{
    free(g->base);
    free(g->kept);
    *g = (struct guard) { 0 };
}

void guard_keep(struct guard *g)
{
    if (!g->kept)
        g->kept = need(guard_whole(g));
    memcpy(g->kept, g->base, guard_whole(g));
}

void guard_restore(struct guard *g)
{
    memcpy(g->base, g->kept, guard_whole(g));
}

void *guard_kept_at(const struct guard *g, const void *data)
{
    return g->kept + ((const unsigned char *)data - g->base);
}

int guard_changed(const struct guard *g, ptrdiff_t *ret_offset)
{
    if (memcmp(g->base, g->kept, guard_whole(g)) == 0)
        return 0;
    size_t i = 0;
    while (g->base[i] == g->kept[i])
        i++;
    *ret_offset = (ptrdiff_t)i - GUARD_BYTES;
    return 1;
}
