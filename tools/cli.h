/* Command lines as tables: option rows, ranges, nearest-name hints. */
#ifndef TOOLS_CLI_H
#define TOOLS_CLI_H

#include <stddef.h>
#include <stdint.h>

enum cli_kind
{
    CLI_TEXT = 0, /* const char * */
    CLI_INT,      /* int64_t within [min, max] */
    CLI_U64,      /* uint64_t, any */
    CLI_FLAG,     /* int64_t, 1 when it is there; takes no value */
};

struct cli_option
{
    const char *name;  /* "--steps" */
    const char *value; /* "N"; NULL: a flag */
    const char *help;
    enum cli_kind kind;
    size_t offset; /* of the field in the options struct */
    int64_t min;
    int64_t max;
};

struct cli_nearest
{
    const char *word;
    const char *best;
    int distance;
};

/* What cli_parse returns beside the values of enum tool_status. */
#define CLI_HELP (-1)

/* Whether one of them asks for help. */
int cli_is_help(int argc, char **argv);

/* Reads argv[1..] into `options`, which holds the defaults. Returns TOOL_OK,
 * TOOL_ARGUMENTS after an error line, or CLI_HELP. */
int cli_parse(const struct cli_option *table, size_t count, int argc, char **argv,
              void *options);

/* Moves words that are no options behind all options, for people write them in any order.
 * Returns how many words of argv the options take. */
int cli_front(const struct cli_option *table, size_t count, int argc, char **argv);

/* Prints one line an option. */
void cli_usage(const struct cli_option *table, size_t count);

/* Finds the name with the smallest edit distance to a word. */
void cli_nearest_init(struct cli_nearest *nearest, const char *word);
void cli_nearest_try(struct cli_nearest *nearest, const char *name);

#endif
