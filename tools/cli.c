#include "tools/cli.h"
#include "tools/tool.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WORD_MAX 64

static int edit_distance(const char *a, const char *b)
{
    size_t rows = strnlen(a, WORD_MAX);
    size_t columns = strnlen(b, WORD_MAX);
    int cost[WORD_MAX + 1];
    for (size_t j = 0; j <= columns; j++)
    {
        cost[j] = (int)j;
    }
    for (size_t i = 1; i <= rows; i++)
    {
        int diagonal = cost[0];
        cost[0] = (int)i;
        for (size_t j = 1; j <= columns; j++)
        {
            int best = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = cost[j];
            best = cost[j] + 1 < best ? cost[j] + 1 : best;
            best = cost[j - 1] + 1 < best ? cost[j - 1] + 1 : best;
            cost[j] = best;
        }
    }
    return cost[columns];
}

void cli_nearest_init(struct cli_nearest *nearest, const char *word)
{
    *nearest = (struct cli_nearest) { .word = word, .best = "", .distance = 1 << 20 };
}

void cli_nearest_try(struct cli_nearest *nearest, const char *name)
{
    int distance = edit_distance(nearest->word, name);
    if (distance < nearest->distance)
    {
        nearest->distance = distance;
        nearest->best = name;
    }
}

static int parse_int(const struct cli_option *option, const char *text, int64_t *ret)
{
    char *end = NULL;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (end == text || *end != '\0')
    {
        tool_error("%s wants a whole number, not '%s'", option->name, text);
        return TOOL_ARGUMENTS;
    }
    if (errno == ERANGE || value < option->min || value > option->max)
    {
        tool_error("%s %s is outside %lld .. %lld", option->name, text,
                   (long long)option->min, (long long)option->max);
        return TOOL_ARGUMENTS;
    }
    *ret = value;
    return TOOL_OK;
}

static int parse_u64(const struct cli_option *option, const char *text, uint64_t *ret)
{
    char *end = NULL;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 0);
    if (end == text || *end != '\0' || strchr(text, '-') != NULL)
    {
        tool_error("%s wants a whole number from 0, not '%s'", option->name, text);
        return TOOL_ARGUMENTS;
    }
    if (errno == ERANGE)
    {
        tool_error("%s %s is outside 0 .. %llu", option->name, text,
                   (unsigned long long)UINT64_MAX);
        return TOOL_ARGUMENTS;
    }
    *ret = value;
    return TOOL_OK;
}

static int store(const struct cli_option *option, const char *text, void *options)
{
    void *field = (char *)options + option->offset;
    switch (option->kind)
    {
    case CLI_TEXT:
        *(const char **)field = text;
        return TOOL_OK;
    case CLI_INT:
        return parse_int(option, text, field);
    case CLI_U64:
        return parse_u64(option, text, field);
    case CLI_FLAG:
        *(int64_t *)field = 1;
        return TOOL_OK;
    }
    return TOOL_ARGUMENTS;
}

static const struct cli_option *find(const struct cli_option *table, size_t count,
                                     const char *word, size_t length)
{
    for (size_t i = 0; i < count; i++)
    {
        if (strlen(table[i].name) == length && memcmp(table[i].name, word, length) == 0)
        {
            return &table[i];
        }
    }
    return NULL;
}

static int unknown(const struct cli_option *table, size_t count, const char *word)
{
    struct cli_nearest nearest;
    cli_nearest_init(&nearest, word);
    for (size_t i = 0; i < count; i++)
    {
        cli_nearest_try(&nearest, table[i].name);
    }
    cli_nearest_try(&nearest, "--help");
    if (word[0] != '-')
    {
        tool_error("unexpected argument '%s'; options begin with --", word);
    }
    else
    {
        tool_error("no option '%s'; the nearest is '%s'", word, nearest.best);
    }
    return TOOL_ARGUMENTS;
}

/* Moves argv[from] to argv[to] in front of it. */
static void move_up(char **argv, int to, int from)
{
    char *word = argv[from];
    memmove(&argv[to + 1], &argv[to], (size_t)(from - to) * sizeof(*argv));
    argv[to] = word;
}

int cli_front(const struct cli_option *table, size_t count, int argc, char **argv)
{
    int front = 0;
    for (int i = 0; i < argc; i++)
    {
        const char *word = argv[i];
        if (word[0] != '-' || word[1] == '\0')
        {
            continue;
        }
        const struct cli_option *option = find(table, count, word, strlen(word));
        move_up(argv, front++, i);
        if (option != NULL && option->kind != CLI_FLAG && i + 1 < argc)
        {
            move_up(argv, front++, ++i);
        }
    }
    return front;
}

int cli_is_help(int argc, char **argv)
{
    int found = 0;
    for (int i = 0; i < argc && !found; i++)
    {
        found = strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0;
    }
    return found;
}

int cli_parse(const struct cli_option *table, size_t count, int argc, char **argv,
              void *options)
{
    if (cli_is_help(argc - 1, argv + 1))
    {
        return CLI_HELP;
    }
    for (int i = 1; i < argc; i++)
    {
        size_t length = strcspn(argv[i], "=");
        const struct cli_option *option = find(table, count, argv[i], length);
        if (option == NULL)
        {
            return unknown(table, count, argv[i]);
        }
        const char *text = NULL;
        if (option->kind == CLI_FLAG && argv[i][length] == '=')
        {
            tool_error("%s takes no value, but has '%s'", option->name,
                       argv[i] + length + 1);
            return TOOL_ARGUMENTS;
        }
        if (option->kind == CLI_FLAG)
        {
            text = "";
        }
        else if (argv[i][length] == '=')
        {
            text = argv[i] + length + 1;
        }
        else if (i + 1 < argc)
        {
            text = argv[++i];
        }
        else
        {
            tool_error("%s wants a value: %s", option->name, option->value);
            return TOOL_ARGUMENTS;
        }
        int status = store(option, text, options);
        if (status != TOOL_OK)
        {
            return status;
        }
    }
    return TOOL_OK;
}

void cli_usage(const struct cli_option *table, size_t count)
{
    for (size_t i = 0; i < count; i++)
    {
        char left[48];
        snprintf(left, sizeof(left), "%s %s", table[i].name,
                 table[i].value != NULL ? table[i].value : "");
        printf("  %-26s %s\n", left, table[i].help);
    }
    printf("  %-26s %s\n", "--help", "this text");
}
