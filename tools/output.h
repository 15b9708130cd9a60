/* A file that has its name when it is complete, not before. Without jansson there is no JSON:
 * opening such a file is refused. */
#ifndef TOOLS_OUTPUT_H
#define TOOLS_OUTPUT_H

#include <stdio.h>

/* jansson's own, for those who do not include it. */
typedef struct json_t json_t;

struct output
{
    FILE *file;
    const char *path;
    char *target;    /* what a link leads to, else the path */
    char *temporary; /* NULL: written in place (a pipe, a device) */
    char *text;      /* what was written, until the file is closed */
    size_t bytes;
};

/* TOOL_ARGUMENTS after an error line when two of them, of which some may be NULL, are one
 * file. */
int output_distinct(const char *const *path, int paths);

/* The same when one of them is `input`, which is read. */
int output_spares(const char *const *path, int paths, const char *input);

/* Looks whether there can be such a file; TOOL_ENVIRONMENT after an error line that names the
 * path. What stands there stays until it is closed; its mode is kept, and a link stays one. A
 * run that is interrupted before leaves nothing. `ret_output` may not move. */
int output_open(const char *path, int is_json, struct output *ret_output);

/* Makes a file of what was written to output->file; `bad`: it is not whole, there is none. */
int output_close(struct output *output, int bad);

/* Writes the value and closes the file; takes the reference. NULL is the value that could not
 * be made: `why` says why, NULL: there was no memory for it. */
int output_json(struct output *output, json_t *json, const char *why);

/* Forgets what was not closed. */
void output_drop(struct output *output);

#endif
