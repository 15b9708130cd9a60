/*
 * Speculative decode: how many draft tokens a request verifies in a step, and how many of
 * them stand. A step has drafts + 1 rows a request; of the drafts a leading run is accepted,
 * each with the same chance; that run and one token more stay in the context.
 */
#ifndef TOOLS_SPECULATIVE_H
#define TOOLS_SPECULATIVE_H

#include <stdint.h>

#define SPECULATIVE_DRAFTS_MAX 7 /* with one more row, RFN_NEXT_N_MAX */
#define SPECULATIVE_RATE 0.7     /* where a command line names none */

struct speculative
{
    int32_t drafts; /* 0: none, a plain step */
    double rate;    /* 0 .. 1, of each draft token to be accepted */
};

/* Reads "N" or "N:rate". Returns NULL, or what was wanted instead. */
const char *speculative_read(const char *text, struct speculative *ret_speculative);

/* Drafts that are accepted when a request verifies at a context of `tokens`: a function of
 * these four and of nothing else. */
int32_t speculative_accepted(const struct speculative *speculative, uint64_t seed,
                             int64_t request, int64_t tokens);

#endif
