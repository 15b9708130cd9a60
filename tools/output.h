/* A JSON file that has its name when it is complete, not before. Without jansson there is
 * none: opening it is refused. */
#ifndef TOOLS_OUTPUT_H
#define TOOLS_OUTPUT_H

#include <stdio.h>

/* jansson's own, for those who do not include it. */
typedef struct json_t json_t;

struct output
{
    FILE *file;
    const char *path;
    char *temporary; /* NULL: written in place (a pipe, a device) */
};

/* Opens it under a temporary name; TOOL_ENVIRONMENT after an error line that names the
 * path. What stands there stays until output_json. */
int output_open(const char *path, struct output *ret_output);

/* Writes the value, gives the file its name and the value's reference back; NULL is the
 * value that there was no memory for. */
int output_json(struct output *output, json_t *json);

/* Removes what output_json did not finish. */
void output_drop(struct output *output);

#endif
