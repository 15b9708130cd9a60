/*
 * Synthetic content, regenerable from a seed: a splitmix-style integer hash.
 *
 * A cache row of the prompt depends on (hash id, offset in the block, layer), so that equal
 * prefix blocks hold equal rows; a generated row, the queries and the scores of a step
 * depend on (request, position, layer). bf16 values have magnitudes of 2^-10 .. 2, with a
 * size of its own for every 128 values, so that quantisation scales differ. Scores are
 * multiples of 1/4096 out of 65,536, so that ties happen.
 */
#ifndef TOOLS_SYNTH_H
#define TOOLS_SYNTH_H

#include "tools/trace.h"

/* splitmix64's output function. */
uint64_t synth_mix(uint64_t x);

/* A hash of three numbers, for choices. */
uint64_t synth_pick(uint64_t seed, uint64_t a, uint64_t b);

/* Cache row of a request's token: `elems` bf16 values, latent first, then rope. `elems` is
 * a multiple of 4. */
void synth_row(uint64_t seed, const struct trace_request *requests, int64_t request,
               int64_t position, int64_t layer, uint16_t *ret_row, int64_t elems);

/* Queries of a request's token: heads * width bf16 values, a multiple of 4. */
void synth_query(uint64_t seed, int64_t request, int64_t position, int64_t layer,
                 uint16_t *ret_query, int64_t elems);

/* Scores of a request's token against columns 0 .. columns-1. */
void synth_scores(uint64_t seed, int64_t request, int64_t position, int64_t layer,
                  float *ret_scores, int64_t columns);

#endif
