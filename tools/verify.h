/*
 * Verification of a step: replay against eager bit for bit, and sampled rows against a
 * double-precision reference that regenerates its inputs from their seeds.
 *
 * Nothing here is shared with the kernels: quantisation, scores, selection and softmax are
 * written a second time. Scores in double and in f32 rank near-ties differently, so a choice
 * is right when no score that was left out beats one that was chosen by more than f32 can
 * get wrong; O and LSE are checked on the slots that the device chose.
 */
#ifndef TOOLS_VERIFY_H
#define TOOLS_VERIFY_H

#include "tools/engine.h"

#define VERIFY_ERROR_MAX 4e-3 /* relative L2 of O on the same quantised inputs */
#define VERIFY_LSE_MAX 5e-4   /* absolute, natural log */
/* Error of a score, as a share of kscale * sum_h |w8| relu(dot): a few roundings of f32 in
 * each of two sums; the contract of index_logits is 1e-5 in L2. */
#define VERIFY_SCORE_MARGIN 1e-5

struct verify
{
    struct engine *engine;
    struct verify_scratch *scratch; /* [threads] */
    int32_t threads;
    int64_t steps;
    int64_t mismatches; /* units of output or cache that differ bit for bit */
    int64_t failures;   /* sampled rows that the reference contradicts */
    int64_t sampled_rows;
    int64_t near_ties; /* chosen within the margin of one that was left out */
    double max_rel_err;
    double max_lse_err;
    char first[256]; /* the first thing that was wrong, "" when nothing was */
};

/* Allocates everything that verifying will use. Returns 0, or -1 without memory. */
int verify_create(struct engine *engine, struct verify *ret_verify);
void verify_destroy(struct verify *verify);

/* Keeps the first thing that was wrong. */
void verify_note(struct verify *verify, const char *format, ...) RFN_PRINTF(2, 3);

/* Compares what engine_collect and engine_read_* left on the host: live rows of both passes,
 * padding of the replay, the written pages before (0) and after (1) the eager pass. */
void verify_bits(struct verify *verify, const struct batch *batch, int64_t step);

/* Checks one row a layer of the replay against the reference. */
void verify_reference(struct verify *verify, const struct batch *batch, int64_t step);

#endif
