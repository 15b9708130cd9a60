/*
 * Verification of a step: replay against eager bit for bit, and sampled rows against a
 * double-precision reference that regenerates its inputs from their seeds.
 *
 * Nothing here is shared with the kernels: quantisation, selection and softmax are written
 * a second time.
 */
#ifndef TOOLS_VERIFY_H
#define TOOLS_VERIFY_H

#include "tools/engine.h"

#define VERIFY_ERROR_MAX 4e-3 /* relative L2 of O on the same quantised inputs */
#define VERIFY_LSE_MAX 5e-4   /* absolute, natural log */

struct verify
{
    struct engine *engine;
    struct verify_scratch *scratch;
    int64_t steps;
    int64_t mismatches; /* units of output or cache that differ bit for bit */
    int64_t failures;   /* sampled rows that the reference contradicts */
    int64_t sampled_rows;
    double max_rel_err;
    double max_lse_err;
    char first[256]; /* the first thing that was wrong, "" when nothing was */
};

/* e4m3 of a value: nearest, ties to even, saturated at +-448; and back. */
uint8_t verify_e4m3(float x);
double verify_e4m3_value(uint8_t code);

/* Allocates everything that verifying will use. Returns 0, or -1 without memory. */
int verify_create(struct engine *engine, struct verify *ret_verify);
void verify_destroy(struct verify *verify);

/* Keeps the first thing that was wrong. */
void verify_note(struct verify *verify, const char *format, ...) RFN_PRINTF(2, 3);

/* Compares what engine_collect and engine_read_written left on the host: live rows of both
 * passes, padding of the replay, cache rows before (0) and after (1) the eager pass. */
void verify_bits(struct verify *verify, const struct batch *batch, int64_t step);

/* Checks one row a layer of the replay against the reference. */
void verify_reference(struct verify *verify, const struct batch *batch, int64_t step);

#endif
