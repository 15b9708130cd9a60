/*
 * Findings of a run, of whatever source, and the files that tell of them: JSON for programs,
 * SARIF 2.1.0 for code scanning. (html.h has the page for people.)
 */
#ifndef TOOLS_FINDINGS_H
#define TOOLS_FINDINGS_H

#include "tools/baseline.h"

struct found
{
    struct rfn_finding finding; /* its strings are the list's */
    const char *accepted;       /* why a baseline accepts it; NULL: it does not */
    int32_t image;              /* the graph that it was found in, from 1; 0: not known */
    char *strings;
};

struct findings
{
    struct found *item;
    int32_t count;
    int32_t room;
    int32_t image; /* of the findings that are added */
    int lost;      /* there was no memory for all */
};

/* Adds a copy to the list `ctx`, in which all is UTF-8; an rfn_report_fn. */
void findings_add(void *ctx, const struct rfn_finding *finding);

/* Adds what a checker has found. */
void findings_take(struct findings *findings, struct rfn_check *check);

/* Marks what the baseline accepts; how many findings it does not. */
int32_t findings_accept(struct findings *findings, const struct baseline *baseline);

void findings_free(struct findings *findings);

/* Prints its paragraph behind `indent`, and why the baseline (NULL: none) accepts it. */
void findings_print(const char *indent, const struct rfn_finding *finding,
                    const struct baseline *baseline);

/* NULL without memory or jansson. Accepted findings are in, with their reason. */
json_t *findings_json(const struct findings *findings);
json_t *findings_sarif(const struct findings *findings);
/* As a baseline: known reasons are kept, new ones are empty and have to be written before the
 * file is read again. */
json_t *findings_baseline(const struct findings *findings);

#endif
