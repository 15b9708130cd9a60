/*
 * Request traces: JSON lines as the Mooncake paper published them, or a table.
 *
 * A line is one object with `timestamp` (ms, from 0), `input_length` and `output_length`
 * (tokens, from 1) and `hash_ids` (one id per 512-token block of the prompt). Other keys
 * are ignored, blank lines skipped. Only as many lines as are asked for are read.
 *
 * A table begins with a header that names these four columns in this order, with tabs or
 * with commas between them; the ids of a row are joined by single spaces. Without jansson
 * only tables are read.
 */
#ifndef TOOLS_TRACE_H
#define TOOLS_TRACE_H

#include <stddef.h>
#include <stdint.h>

#define TRACE_BLOCK_TOKENS 512
#define TRACE_TOKENS_MAX 16777216
#define TRACE_LINE_BYTES_MAX (1 << 20)
#define TRACE_ERROR_BYTES 512

struct trace_request
{
    int64_t timestamp_ms;
    int64_t input_tokens;
    int64_t output_tokens;
    int64_t *hash_ids; /* one a block of the prompt */
    int64_t blocks;
};

struct trace
{
    struct trace_request *request;
    int64_t requests;
    int64_t capacity;
};

enum trace_status
{
    TRACE_OK = 0,
    TRACE_IO,        /* the file cannot be read */
    TRACE_MALFORMED, /* a line is not what it should be */
    TRACE_NOMEM,
};

/* Reads up to `max` requests. On failure *ret_trace is empty and `error` says file, line
 * and what was expected. */
enum trace_status trace_read_file(const char *path, int64_t max, struct trace *ret_trace,
                                  char error[TRACE_ERROR_BYTES]);

/* The same from memory; `name` stands for the file in errors. */
enum trace_status trace_read_memory(const char *name, const void *text, size_t bytes,
                                    int64_t max, struct trace *ret_trace,
                                    char error[TRACE_ERROR_BYTES]);

/* Shortens prompts, and outputs where they alone are too long, so that
 * input + output <= context. */
void trace_clip(struct trace *trace, int64_t context_tokens);

void trace_free(struct trace *trace);

#endif
