/* What the readers of one line share: JSON lines and tables say the same of the same mistake. */
#ifndef TOOLS_TRACE_LINE_H
#define TOOLS_TRACE_LINE_H

#include "tools/trace.h"

#define TRACE_COLUMNS 4

/* timestamp, input_length, output_length, hash_ids: keys of JSON, columns of a table. */
extern const char *const trace_column[TRACE_COLUMNS];

/* Where a line stands, for its error line. */
struct trace_place
{
    const char *name;
    int64_t line;
    char *error;
    char separator; /* of the columns of a table, behind its header; 0: JSON lines */
};

/* Writes "name:line: " and the formatted line; returns `status`. */
enum trace_status trace_fail(const struct trace_place *place, enum trace_status status,
                             const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Stores the number of one of the first three columns if it is in its range. */
enum trace_status trace_store(const struct trace_place *place, int column, int64_t number,
                              struct trace_request *request);

/* Allocates hash_ids if `found` of them are what the input's length asks for. */
enum trace_status trace_blocks(const struct trace_place *place, int64_t found,
                               struct trace_request *request);

/* Reads one line that is not blank. On failure the request holds no memory. */
enum trace_status trace_json_line(const struct trace_place *place, const char *text,
                                  size_t bytes, struct trace_request *ret_request);
enum trace_status trace_table_line(const struct trace_place *place, const char *text,
                                   size_t bytes, struct trace_request *ret_request);

/* Whether a file that begins with this line is a table. */
int trace_table_begins(const char *text, size_t bytes);

/* Takes the header: the separator. */
enum trace_status trace_table_header(struct trace_place *place, const char *text,
                                     size_t bytes);

#endif
