/* What the files of the ranks share: an image as numbers that no rank has for itself. */
#ifndef RFN_GRAPH_RANKS_H
#define RFN_GRAPH_RANKS_H

#include "graph/lint.h"

#include <refrain/ranks.h>

/* ---- signature.c ------------------------------------------------------------------- */

enum rfn_word_kind
{
    RFN_WORD_NUMBER,
    RFN_WORD_TYPE,
    RFN_WORD_NAME, /* hash */
    RFN_WORD_ORDER /* hash of the edges that lead here */
};

/* One number of a node. */
struct rfn_word
{
    enum rfn_word_kind kind;
    const char *what; /* "the constant" */
    const char *name; /* "pages" */
    int32_t index;    /* of several; -1: there is one */
    int32_t bytes;    /* it was read from, for printing */
    int32_t unsure;   /* nobody declared what it is */
    int64_t value;
};

/* A node of any level: those of an image together, children behind them. */
struct rfn_flat_node
{
    const struct rfn_image *image;
    const struct rfn_image_node *node;
    uint64_t order; /* hash of the edges that lead here */
    uint64_t hash;
    int32_t before; /* how many they are */
};

struct rfn_flat
{
    struct rfn_flat_node *node;
    int32_t nodes;
    uint64_t signature;
};

/* 0: no memory. */
int rfn_flat_of(const struct rfn_image *image, struct rfn_flat *ret_flat);
void rfn_flat_free(struct rfn_flat *flat);

/* Fills up to `room` words of a node; returns how many it has. */
int32_t rfn_flat_words(const struct rfn_flat_node *node, struct rfn_word *word,
                       int32_t room);

uint64_t rfn_ranks_mix(uint64_t hash, uint64_t value);

/* ---- ranks.c ----------------------------------------------------------------------- */

/* The reduction, with a line of ours where it failed without one. */
enum rfn_status rfn_ranks_reduce(const char *what, rfn_reduce_fn *reduce, void *ctx,
                                 int64_t *values, int32_t count);

/* Signatures differ: looks for the first difference, together with all ranks. `name` is what
 * the graphs are of; flat is NULL where the image is no longer there. */
enum rfn_status rfn_ranks_locate(struct rfn_lint_list *list, const char *what,
                                 const char *name, const struct rfn_flat *flat,
                                 rfn_reduce_fn *reduce, void *ctx);

#endif
