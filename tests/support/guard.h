/*
 * Buffers between guard bands. The bands and, until a test writes it, the inside are filled
 * with a pattern whose bytes are NaN in every float format and a huge index as i32, so that
 * reading what must not be read shows in the result; a copy remembers what stood where.
 */
#ifndef TEST_GUARD_H
#define TEST_GUARD_H

#include <stddef.h>

#define GUARD_BYTES 4096 /* on each side */
#define GUARD_FLOAT 0xff /* f32, bf16, e4m3 NaN, ue8m0 NaN; -1 as an index */
#define GUARD_INDEX 0x7f /* 2139062143 as an index; e4m3 NaN */

struct guard
{
    unsigned char *base; /* with bands; 64-byte aligned */
    unsigned char *data;
    unsigned char *kept; /* the whole as it was at guard_keep */
    size_t bytes;        /* of data */
};

/* Allocates; everything, bands too, is filled with `fill`. Ends the program without memory:
 * a test cannot go on. */
void guard_create(struct guard *g, size_t bytes, int fill);
void guard_destroy(struct guard *g);

/* Remembers the present bytes; restores them. */
void guard_keep(struct guard *g);
void guard_restore(struct guard *g);

/* Bytes from base to the end of the band behind. */
size_t guard_whole(const struct guard *g);

/* The remembered byte for an address inside data. */
void *guard_kept_at(const struct guard *g, const void *data);

/* Whether a byte differs from what is remembered; where, relative to data, goes to
 * `ret_offset`: negative in the band in front, >= bytes in the one behind. */
int guard_changed(const struct guard *g, ptrdiff_t *ret_offset);

#endif
