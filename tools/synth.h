/*
 * Synthetic content, regenerable: what the op synth_fill writes is a function of a row's key
 * and of a salt. Keys say whose row it is, salts which layer and what.
 *
 *     prompt token       key of (seed, hash id, offset in the block)
 *     generated token    key of (seed, request, position); the same for its queries
 *     rejected draft     key of (seed, request, position, the step's first position)
 *     salt               layer * SYNTH_KINDS + kind
 *
 * Requests that share a prompt block hold equal rows, so they may share its pages.
 */
#ifndef TOOLS_SYNTH_H
#define TOOLS_SYNTH_H

#include "tools/trace.h"

enum synth_kind
{
    SYNTH_ROW = 0, /* latent and rope part of a cache row */
    SYNTH_INDEX_KEY,
    SYNTH_QUERY,
    SYNTH_INDEX_QUERY,
    SYNTH_INDEX_WEIGHT,
    SYNTH_KINDS
};

/* splitmix64's output function. */
uint64_t synth_mix(uint64_t x);

/* A hash of three numbers, for choices. */
uint64_t synth_pick(uint64_t seed, uint64_t a, uint64_t b);

/* Key of a request's token. */
int64_t synth_token(uint64_t seed, const struct trace_request *requests, int64_t request,
                    int64_t position);

/* Key of a draft token that is rejected, in the step that begins at `first`. */
int64_t synth_draft(uint64_t seed, int64_t request, int64_t first, int64_t position);

int64_t synth_salt(int32_t layer, enum synth_kind kind);

/* Values of a kind lie in [-amplitude, amplitude). */
float synth_amplitude(enum synth_kind kind);

/* What synth_fill writes into a bf16 row, written a second time: 16 bits of splitmix64 a
 * column, scaled, rounded to nearest even. */
void synth_row(int64_t key, int32_t layer, enum synth_kind kind, uint16_t *ret_row,
               int64_t elems);

#endif
