/*
 * What a build's known-answer suite counted, a rule:
 *
 *     rule    class   bad  fired  good  silent  programs
 *     CAP001  proved  1    1      1     1       cap001_bad cap001_good
 *
 * with tabs between the columns, a line a rule, a newline behind each.
 */
#ifndef TOOLS_COUNTS_H
#define TOOLS_COUNTS_H

#include <refrain/check.h>
#include <stddef.h>

#define COUNTS_BYTES_MAX ((size_t)1 << 20) /* of a file */
#define COUNTS_ERROR_BYTES 512
#define COUNTS_MAX 1000000
#define COUNTS_PROGRAMS 1024 /* bytes of their names, cut past this */

enum
{
    COUNTS_BAD = 0,
    COUNTS_FIRED,
    COUNTS_GOOD,
    COUNTS_SILENT,
    COUNTS
};

struct counts_row
{
    int there; /* the file has a line of this rule */
    int count[COUNTS];
    char programs[COUNTS_PROGRAMS];
};

/* Reads text into rows[RFN_RULES], which is all zero before. TOOL_OK, or TOOL_ARGUMENTS with a
 * line that begins with `path` in `error`, which is "" otherwise. */
int counts_parse(const char *path, const char *text, size_t bytes,
                 struct counts_row *rows, char error[COUNTS_ERROR_BYTES]);

#endif
