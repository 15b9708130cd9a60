#include "tools/trace_line.h"
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const trace_column[TRACE_COLUMNS] = { "timestamp", "input_length",
                                                  "output_length", "hash_ids" };

enum trace_status trace_fail(const struct trace_place *place, enum trace_status status,
                             const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int used = snprintf(place->error, TRACE_ERROR_BYTES, "%.200s:%lld: ", place->name,
                        (long long)place->line);
    vsnprintf(place->error + used, (size_t)(TRACE_ERROR_BYTES - used), format, args);
    va_end(args);
    return status;
}

enum trace_status trace_store(const struct trace_place *place, int column, int64_t number,
                              struct trace_request *request)
{
    int64_t *const field[] = { &request->timestamp_ms, &request->input_tokens,
                               &request->output_tokens };
    int64_t min = column == 0 ? 0 : 1;
    int64_t max = column == 0 ? INT64_MAX : TRACE_TOKENS_MAX;
    if (number < min || number > max)
    {
        return trace_fail(
            place, TRACE_MALFORMED, "expected \"%s\" in %lld .. %lld, found %lld",
            trace_column[column], (long long)min, (long long)max, (long long)number);
    }
    *field[column] = number;
    return TRACE_OK;
}

enum trace_status trace_blocks(const struct trace_place *place, int64_t found,
                               struct trace_request *request)
{
    int64_t blocks =
        (request->input_tokens + TRACE_BLOCK_TOKENS - 1) / TRACE_BLOCK_TOKENS;
    if (found != blocks)
    {
        return trace_fail(place, TRACE_MALFORMED,
                          "expected %lld \"hash_ids\" for an input of %lld tokens, "
                          "found %lld",
                          (long long)blocks, (long long)request->input_tokens,
                          (long long)found);
    }
    request->hash_ids = malloc((size_t)blocks * sizeof(request->hash_ids[0]));
    if (request->hash_ids == NULL)
    {
        return trace_fail(place, TRACE_NOMEM, "no memory for %lld hash ids",
                          (long long)blocks);
    }
    request->blocks = blocks;
    return TRACE_OK;
}

static int is_blank(const char *text, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
    {
        if (text[i] != ' ' && text[i] != '\t' && text[i] != '\r')
        {
            return 0;
        }
    }
    return 1;
}

static enum trace_status append(const struct trace_place *place, struct trace *trace,
                                const struct trace_request *request)
{
    if (trace->requests == trace->capacity)
    {
        int64_t capacity = trace->capacity > 0 ? 2 * trace->capacity : 16;
        struct trace_request *grown =
            realloc(trace->request, (size_t)capacity * sizeof(*grown));
        if (grown == NULL)
        {
            return trace_fail(place, TRACE_NOMEM, "no memory for %lld requests",
                              (long long)capacity);
        }
        trace->request = grown;
        trace->capacity = capacity;
    }
    trace->request[trace->requests++] = *request;
    return TRACE_OK;
}

/* The first line that is not blank decides: the header of a table, or JSON. */
static enum trace_status read_line(struct trace_place *place, const char *text,
                                   size_t bytes, struct trace *trace)
{
    if (bytes > TRACE_LINE_BYTES_MAX)
    {
        return trace_fail(place, TRACE_MALFORMED, "expected a line of at most %d bytes",
                          TRACE_LINE_BYTES_MAX);
    }
    if (is_blank(text, bytes))
    {
        return TRACE_OK;
    }
    int table = place->separator != '\0';
    if (!table && trace->requests == 0 && trace_table_begins(text, bytes))
    {
        return trace_table_header(place, text, bytes);
    }
    struct trace_request request = { 0 };
    enum trace_status status = table ? trace_table_line(place, text, bytes, &request)
                                     : trace_json_line(place, text, bytes, &request);
    if (status == TRACE_OK)
    {
        status = append(place, trace, &request);
        if (status != TRACE_OK)
        {
            free(request.hash_ids);
        }
    }
    return status;
}

enum trace_status trace_read_memory(const char *name, const void *text, size_t bytes,
                                    int64_t max, struct trace *ret_trace,
                                    char error[TRACE_ERROR_BYTES])
{
    struct trace trace = { 0 };
    struct trace_place place = { .name = name, .error = error };
    const char *next = text;
    size_t left = bytes;
    enum trace_status status = TRACE_OK;
    *ret_trace = trace;
    error[0] = '\0';
    while (status == TRACE_OK && left > 0 && trace.requests < max)
    {
        const char *newline = memchr(next, '\n', left);
        size_t line = newline != NULL ? (size_t)(newline - next) : left;
        place.line++;
        status = read_line(&place, next, line, &trace);
        size_t used = newline != NULL ? line + 1 : line;
        next += used;
        left -= used;
    }
    if (status != TRACE_OK)
    {
        trace_free(&trace);
        return status;
    }
    *ret_trace = trace;
    return TRACE_OK;
}

/* One line of a file into `text`, without its newline. Returns its bytes, -1 at the end;
 * a line past the limit gives limit + 1 bytes. */
static int64_t next_line(FILE *file, char *text)
{
    int64_t bytes = 0;
    int c = getc_unlocked(file);
    if (c == EOF)
    {
        return -1;
    }
    while (c != EOF && c != '\n' && bytes <= TRACE_LINE_BYTES_MAX)
    {
        text[bytes++] = (char)c;
        c = getc_unlocked(file);
    }
    return bytes;
}

enum trace_status trace_read_file(const char *path, int64_t max, struct trace *ret_trace,
                                  char error[TRACE_ERROR_BYTES])
{
    struct trace trace = { 0 };
    struct trace_place place = { .name = path, .error = error };
    *ret_trace = trace;
    error[0] = '\0';
    FILE *file = fopen(path, "rb");
    if (file == NULL)
    {
        snprintf(error, TRACE_ERROR_BYTES, "%.300s: %s", path, strerror(errno));
        return TRACE_IO;
    }
    enum trace_status status = TRACE_OK;
    char *text = malloc(TRACE_LINE_BYTES_MAX + 1);
    if (text == NULL)
    {
        status = trace_fail(&place, TRACE_NOMEM, "no memory for a line");
    }
    while (status == TRACE_OK && trace.requests < max)
    {
        int64_t bytes = next_line(file, text);
        if (bytes < 0)
        {
            break;
        }
        place.line++;
        status = read_line(&place, text, (size_t)bytes, &trace);
    }
    if (status == TRACE_OK && ferror(file))
    {
        snprintf(error, TRACE_ERROR_BYTES, "%.300s: %s", path, strerror(errno));
        status = TRACE_IO;
    }
    free(text);
    fclose(file);
    if (status != TRACE_OK)
    {
        trace_free(&trace);
        return status;
    }
    *ret_trace = trace;
    return TRACE_OK;
}

void trace_clip(struct trace *trace, int64_t context_tokens)
{
    for (int64_t i = 0; i < trace->requests; i++)
    {
        struct trace_request *request = &trace->request[i];
        if (request->output_tokens > context_tokens - 1)
        {
            request->output_tokens = context_tokens - 1;
        }
        if (request->input_tokens > context_tokens - request->output_tokens)
        {
            request->input_tokens = context_tokens - request->output_tokens;
        }
    }
}

void trace_free(struct trace *trace)
{
    for (int64_t i = 0; i < trace->requests; i++)
    {
        free(trace->request[i].hash_ids);
    }
    free(trace->request);
    *trace = (struct trace) { 0 };
}
