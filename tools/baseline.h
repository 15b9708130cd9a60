/*
 * Findings that are accepted, by fingerprint, each with a reason. A JSON file:
 *
 *     { "refrain_baseline": 1,
 *       "accepted": [ { "fingerprint": "CAP013:step.c:capture_begin", "reason": "..." } ] }
 */
#ifndef TOOLS_BASELINE_H
#define TOOLS_BASELINE_H

#include "tools/output.h"
#include <refrain/check.h>

#define BASELINE_VERSION 1

struct baseline_entry
{
    char *fingerprint;
    char *reason;
};

struct baseline
{
    struct baseline_entry *entry;
    int32_t entries;
};

/* Reads a file. Returns an exit status, after one error line that names the entry: no JSON,
 * another version, a fingerprint twice or of no rule, an entry without a reason. */
int baseline_read(const char *path, struct baseline *ret_baseline);
void baseline_free(struct baseline *baseline);

/* What the library knows it by, as it can stand in a file. */
void baseline_fingerprint(const struct rfn_finding *finding,
                          char text[RFN_FINGERPRINT_BYTES]);

/* Why a finding is accepted; NULL when it is not. */
const char *baseline_reason(const struct baseline *baseline,
                            const struct rfn_finding *finding);

#endif
