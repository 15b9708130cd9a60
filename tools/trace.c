#include "tools/trace.h"
#include <errno.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Where a line stands, for its error line. */
struct place
{
    const char *name;
    int64_t line;
    char *error;
};

static enum trace_status fail(const struct place *place, enum trace_status status,
                              const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static enum trace_status fail(const struct place *place, enum trace_status status,
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

static const char *type_name(const json_t *value)
{
    static const char *const names[] = { "an object",  "an array",      "a string",
                                         "an integer", "a real number", "true",
                                         "false",      "null" };
    return value == NULL ? "nothing" : names[json_typeof(value)];
}

static enum trace_status read_int(const struct place *place, const json_t *object,
                                  const char *key, int64_t min, int64_t max, int64_t *ret)
{
    const json_t *value = json_object_get(object, key);
    if (!json_is_integer(value))
    {
        return fail(place, TRACE_MALFORMED, "expected \"%s\" as an integer, found %s",
                    key, type_name(value));
    }
    json_int_t number = json_integer_value(value);
    if (number < min || number > max)
    {
        return fail(place, TRACE_MALFORMED, "expected \"%s\" in %lld .. %lld, found %lld",
                    key, (long long)min, (long long)max, (long long)number);
    }
    *ret = number;
    return TRACE_OK;
}

static enum trace_status read_blocks(const struct place *place, const json_t *object,
                                     struct trace_request *request)
{
    const json_t *ids = json_object_get(object, "hash_ids");
    if (!json_is_array(ids))
    {
        return fail(place, TRACE_MALFORMED, "expected \"hash_ids\" as an array, found %s",
                    type_name(ids));
    }
    int64_t blocks =
        (request->input_tokens + TRACE_BLOCK_TOKENS - 1) / TRACE_BLOCK_TOKENS;
    int64_t found = (int64_t)json_array_size(ids);
    if (found != blocks)
    {
        return fail(place, TRACE_MALFORMED,
                    "expected %lld \"hash_ids\" for an input of %lld tokens, found %lld",
                    (long long)blocks, (long long)request->input_tokens,
                    (long long)found);
    }
    request->hash_ids = malloc((size_t)blocks * sizeof(request->hash_ids[0]));
    if (request->hash_ids == NULL)
    {
        return fail(place, TRACE_NOMEM, "no memory for %lld hash ids", (long long)blocks);
    }
    request->blocks = blocks;
    for (int64_t i = 0; i < blocks; i++)
    {
        const json_t *id = json_array_get(ids, (size_t)i);
        if (!json_is_integer(id) || json_integer_value(id) < 0)
        {
            free(request->hash_ids);
            request->hash_ids = NULL;
            return fail(place, TRACE_MALFORMED,
                        "expected \"hash_ids\"[%lld] as an integer from 0, found %s",
                        (long long)i,
                        json_is_integer(id) ? "a negative one" : type_name(id));
        }
        request->hash_ids[i] = json_integer_value(id);
    }
    return TRACE_OK;
}

static enum trace_status read_object(const struct place *place, const json_t *object,
                                     struct trace_request *request)
{
    if (!json_is_object(object))
    {
        return fail(place, TRACE_MALFORMED, "expected a JSON object, found %s",
                    type_name(object));
    }
    enum trace_status status =
        read_int(place, object, "timestamp", 0, INT64_MAX, &request->timestamp_ms);
    if (status == TRACE_OK)
    {
        status = read_int(place, object, "input_length", 1, TRACE_TOKENS_MAX,
                          &request->input_tokens);
    }
    if (status == TRACE_OK)
    {
        status = read_int(place, object, "output_length", 1, TRACE_TOKENS_MAX,
                          &request->output_tokens);
    }
    return status == TRACE_OK ? read_blocks(place, object, request) : status;
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

static enum trace_status append(const struct place *place, struct trace *trace,
                                const struct trace_request *request)
{
    if (trace->requests == trace->capacity)
    {
        int64_t capacity = trace->capacity > 0 ? 2 * trace->capacity : 16;
        struct trace_request *grown =
            realloc(trace->request, (size_t)capacity * sizeof(*grown));
        if (grown == NULL)
        {
            return fail(place, TRACE_NOMEM, "no memory for %lld requests",
                        (long long)capacity);
        }
        trace->request = grown;
        trace->capacity = capacity;
    }
    trace->request[trace->requests++] = *request;
    return TRACE_OK;
}

static enum trace_status read_line(const struct place *place, const char *text,
                                   size_t bytes, struct trace *trace)
{
    if (bytes > TRACE_LINE_BYTES_MAX)
    {
        return fail(place, TRACE_MALFORMED, "expected a line of at most %d bytes",
                    TRACE_LINE_BYTES_MAX);
    }
    if (is_blank(text, bytes))
    {
        return TRACE_OK;
    }
    json_error_t why;
    json_t *object = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &why);
    if (object == NULL)
    {
        return fail(place, TRACE_MALFORMED,
                    "expected one JSON object: %.150s (column %d)", why.text, why.column);
    }
    struct trace_request request = { 0 };
    enum trace_status status = read_object(place, object, &request);
    json_decref(object);
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
    struct place place = { .name = name, .line = 0, .error = error };
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
    struct place place = { .name = path, .line = 0, .error = error };
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
        status = fail(&place, TRACE_NOMEM, "no memory for a line");
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
