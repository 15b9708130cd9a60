#include "tools/counts.h"
#include "tools/cli.h"
#include "tools/tool.h"
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HEADER "rule\tclass\tbad\tfired\tgood\tsilent\tprograms"
#define COLUMNS (COUNTS + 3)
#define LINE_BYTES 4096
#define SHOWN 48 /* bytes of a word in an error line */

struct place
{
    const char *path;
    int line;
    char *error;
};

static int fail(const struct place *at, const char *format, ...) RFN_PRINTF(2, 3);

static int fail(const struct place *at, const char *format, ...)
{
    va_list args;
    int used = snprintf(at->error, COUNTS_ERROR_BYTES, "%s:%d: ", at->path, at->line);
    if (used > 0 && used < COUNTS_ERROR_BYTES)
    {
        va_start(args, format);
        vsnprintf(at->error + used, (size_t)(COUNTS_ERROR_BYTES - used), format, args);
        va_end(args);
    }
    return TOOL_ARGUMENTS;
}

static int find_rule(const struct place *at, const char *id, int *ret_rule)
{
    struct cli_nearest nearest;
    cli_nearest_init(&nearest, id);
    for (int i = 0; i < RFN_RULES; i++)
    {
        const char *known = rfn_rule_query((enum rfn_rule)i)->id;
        if (strcmp(known, id) == 0)
        {
            *ret_rule = i;
            return TOOL_OK;
        }
        cli_nearest_try(&nearest, known);
    }
    return fail(at, "no rule '%.*s'; the nearest is '%s'", SHOWN, id, nearest.best);
}

static int read_count(const struct place *at, const char *word, int *ret_count)
{
    char *end = NULL;
    errno = 0;
    long value = strtol(word, &end, 10);
    if (end == word || *end != '\0' || errno != 0 || value < 0 || value > COUNTS_MAX)
    {
        return fail(at, "no count: '%.*s'", SHOWN, word);
    }
    *ret_count = (int)value;
    return TOOL_OK;
}

static int read_row(const struct place *at, char *text, struct counts_row *rows)
{
    char *column[COLUMNS];
    int columns = 0;
    int rule = 0;
    while (text != NULL && columns < COLUMNS)
    {
        column[columns++] = text;
        text = strchr(text, '\t');
        if (text != NULL)
        {
            *text++ = '\0';
        }
    }
    if (text != NULL || columns != COLUMNS)
    {
        return fail(at, "%s than %d columns", text != NULL ? "more" : "less", COLUMNS);
    }
    int status = find_rule(at, column[0], &rule);
    if (status != TOOL_OK)
    {
        return status;
    }
    struct counts_row *row = &rows[rule];
    int proved = rfn_rule_query((enum rfn_rule)rule)->confidence == RFN_PROVED;
    const char *class = proved ? "proved" : "heuristic";
    if (row->there)
    {
        return fail(at, "a second line of '%s'", column[0]);
    }
    if (strcmp(column[1], class) != 0)
    {
        return fail(at, "%s is '%.*s', but '%s' here: the counts are of another version",
                    column[0], SHOWN, column[1], class);
    }
    for (int i = 0; status == TOOL_OK && i < COUNTS; i++)
    {
        status = read_count(at, column[2 + i], &row->count[i]);
    }
    if (status != TOOL_OK)
    {
        return status;
    }
    if (row->count[COUNTS_FIRED] > row->count[COUNTS_BAD] ||
        row->count[COUNTS_SILENT] > row->count[COUNTS_GOOD])
    {
        return fail(at, "%d of %d bad and %d of %d good programs",
                    row->count[COUNTS_FIRED], row->count[COUNTS_BAD],
                    row->count[COUNTS_SILENT], row->count[COUNTS_GOOD]);
    }
    row->there = 1;
    snprintf(row->programs, sizeof(row->programs), "%s", column[COUNTS + 2]);
    return TOOL_OK;
}

int counts_parse(const char *path, const char *text, size_t bytes,
                 struct counts_row *rows, char error[COUNTS_ERROR_BYTES])
{
    struct place at = { path, 0, error };
    int status = TOOL_OK;
    error[0] = '\0';
    for (size_t from = 0; status == TOOL_OK && from < bytes;)
    {
        char line[LINE_BYTES];
        const char *end = memchr(text + from, '\n', bytes - from);
        size_t length = end != NULL ? (size_t)(end - (text + from)) : 0;
        at.line++;
        if (end == NULL || length >= sizeof(line))
        {
            return fail(&at, end == NULL ? "the last line is cut" : "a line of %zu bytes",
                        length);
        }
        memcpy(line, text + from, length);
        line[length] = '\0';
        from += length + 1;
        if (strlen(line) != length)
        {
            return fail(&at, "no text: a byte is 0");
        }
        if (at.line > 1)
        {
            status = read_row(&at, line, rows);
        }
        else if (strcmp(line, HEADER) != 0)
        {
            return fail(&at, "no counts of rules: the first line is '%.*s'", SHOWN, line);
        }
    }
    return status == TOOL_OK && at.line == 0
               ? fail(&at, "empty, but a line of column names is due")
               : status;
}
