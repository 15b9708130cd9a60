/* A line of a trace as a row of a table: three numbers and the ids of the prompt's blocks. */
#include "tools/trace_line.h"
#include <stdlib.h>
#include <string.h>

#define SHOWN_BYTES 40 /* of a field, in an error line */

struct field
{
    const char *text;
    size_t bytes;
};

static int shown(const struct field *field)
{
    return field->bytes < SHOWN_BYTES ? (int)field->bytes : SHOWN_BYTES;
}

/* Whole and from 0, as a table of requests has them: digits only, an overflow is no number. */
static int read_digits(const struct field *field, int64_t *ret)
{
    int64_t number = 0;
    for (size_t i = 0; i < field->bytes; i++)
    {
        int digit = field->text[i] - '0';
        if (digit < 0 || digit > 9 || number > (INT64_MAX - digit) / 10)
        {
            return 0;
        }
        number = 10 * number + digit;
    }
    *ret = number;
    return field->bytes > 0;
}

/* Splits off what stands before the next separator; 0 when nothing is left. */
static int next_field(struct field *rest, char separator, struct field *ret)
{
    if (rest->text == NULL)
    {
        return 0;
    }
    const char *end = memchr(rest->text, separator, rest->bytes);
    *ret = *rest;
    if (end == NULL)
    {
        *rest = (struct field) { 0 };
        return 1;
    }
    ret->bytes = (size_t)(end - rest->text);
    *rest = (struct field) { end + 1, rest->bytes - ret->bytes - 1 };
    return 1;
}

/* The columns of a line; a last one that is over is only counted. */
static int split(const struct trace_place *place, const char *text, size_t bytes,
                 struct field column[TRACE_COLUMNS])
{
    bytes -= bytes > 0 && text[bytes - 1] == '\r';
    struct field rest = { text, bytes };
    struct field field;
    int count = 0;
    while (next_field(&rest, place->separator, &field))
    {
        if (count < TRACE_COLUMNS)
        {
            column[count] = field;
        }
        count++;
    }
    return count;
}

int trace_table_begins(const char *text, size_t bytes)
{
    size_t length = strlen(trace_column[0]);
    return bytes > length && memcmp(text, trace_column[0], length) == 0;
}

enum trace_status trace_table_header(struct trace_place *place, const char *text,
                                     size_t bytes)
{
    struct field column[TRACE_COLUMNS];
    char separator = text[strlen(trace_column[0])];
    if (separator != '\t' && separator != ',')
    {
        return trace_fail(place, TRACE_MALFORMED,
                          "expected a tab or a comma behind \"%s\", found '%c'",
                          trace_column[0], separator);
    }
    place->separator = separator;
    int count = split(place, text, bytes, column);
    for (int i = 0; i < TRACE_COLUMNS && i < count; i++)
    {
        if (column[i].bytes != strlen(trace_column[i]) ||
            memcmp(column[i].text, trace_column[i], column[i].bytes) != 0)
        {
            return trace_fail(place, TRACE_MALFORMED,
                              "expected column %d as \"%s\", found \"%.*s\"", i + 1,
                              trace_column[i], shown(&column[i]), column[i].text);
        }
    }
    return count == TRACE_COLUMNS
               ? TRACE_OK
               : trace_fail(place, TRACE_MALFORMED, "expected %d columns, found %d",
                            TRACE_COLUMNS, count);
}

static enum trace_status read_ids(const struct trace_place *place,
                                  const struct field *field,
                                  struct trace_request *request)
{
    struct field rest = *field;
    struct field id = { 0 };
    int64_t found = field->bytes > 0;
    for (size_t i = 0; i < field->bytes; i++)
    {
        found += field->text[i] == ' ';
    }
    enum trace_status status = trace_blocks(place, found, request);
    for (int64_t i = 0; status == TRACE_OK && i < found; i++)
    {
        next_field(&rest, ' ', &id);
        if (!read_digits(&id, &request->hash_ids[i]))
        {
            free(request->hash_ids);
            request->hash_ids = NULL;
            status = trace_fail(place, TRACE_MALFORMED,
                                "expected \"hash_ids\"[%lld] as an integer from 0, found "
                                "\"%.*s\"",
                                (long long)i, shown(&id), id.text);
        }
    }
    return status;
}

enum trace_status trace_table_line(const struct trace_place *place, const char *text,
                                   size_t bytes, struct trace_request *ret_request)
{
    struct field column[TRACE_COLUMNS];
    int64_t number;
    enum trace_status status = TRACE_OK;
    int count = split(place, text, bytes, column);
    if (count != TRACE_COLUMNS)
    {
        return trace_fail(place, TRACE_MALFORMED, "expected %d columns, found %d",
                          TRACE_COLUMNS, count);
    }
    for (int i = 0; status == TRACE_OK && i < TRACE_COLUMNS - 1; i++)
    {
        status = read_digits(&column[i], &number)
                     ? trace_store(place, i, number, ret_request)
                     : trace_fail(place, TRACE_MALFORMED,
                                  "expected \"%s\" as an integer from 0, found \"%.*s\"",
                                  trace_column[i], shown(&column[i]), column[i].text);
    }
    return status == TRACE_OK ? read_ids(place, &column[TRACE_COLUMNS - 1], ret_request)
                              : status;
}
