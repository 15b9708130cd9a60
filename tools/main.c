/* The program `refrain`: one sub-command a file, named in tool.h. */
#include "tools/cli.h"
#include "tools/text.h"
#include "tools/tool.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define ERROR_BYTES 8192

static int64_t start_ns;

static const struct
{
    const char *name;
    const char *what;
    int (*main)(int argc, char **argv);
} commands[] = {
#define COMMAND_ROW(name, what) { #name, what, name##_main },
    TOOL_LIST(COMMAND_ROW)
#undef COMMAND_ROW
};
#define COMMANDS (sizeof(commands) / sizeof(commands[0]))

int64_t tool_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int64_t tool_start_ns(void)
{
    return start_ns;
}

void tool_error(const char *format, ...)
{
    char line[ERROR_BYTES];
    va_list args;
    va_start(args, format);
    fflush(stdout);
    vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    text_clean(line); /* it may say what a file says */
    fprintf(stderr, "refrain: %s\n", line);
}

static int run(const char *name, int argc, char **argv)
{
    struct cli_nearest nearest;
    cli_nearest_init(&nearest, name);
    for (size_t i = 0; i < COMMANDS; i++)
    {
        if (strcmp(commands[i].name, name) == 0)
        {
            return commands[i].main(argc, argv);
        }
        cli_nearest_try(&nearest, commands[i].name);
    }
    tool_error("no command '%s'; the nearest is '%s'", name, nearest.best);
    return TOOL_ARGUMENTS;
}

int help_main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "help") != 0 && argv[1][0] != '-')
    {
        char option[] = "--help";
        char *args[] = { argv[1], option, NULL };
        return run(argv[1], 2, args);
    }
    printf("usage: refrain COMMAND [options]\n\n");
    for (size_t i = 0; i < COMMANDS; i++)
    {
        printf("  %-9s %s\n", commands[i].name, commands[i].what);
    }
    printf("\n`refrain COMMAND --help` lists the options of a command.\n"
           "exit status: 0 good; 1 files, memory or device; 2 arguments or input files;\n"
           "3 findings or a failed verification\n");
    return TOOL_OK;
}

int main(int argc, char **argv)
{
    start_ns = tool_now_ns();
    if (argc < 2)
    {
        help_main(1, argv);
        tool_error("no command given");
        return TOOL_ARGUMENTS;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)
    {
        return help_main(1, argv);
    }
    if (strcmp(argv[1], "--version") == 0)
    {
        char *args[] = { argv[1], NULL };
        return info_main(1, args);
    }
    int status = run(argv[1], argc - 1, argv + 1);
    if (fflush(stdout) != 0 || ferror(stdout))
    {
        perror("refrain: stdout");
        return status != TOOL_OK ? status : TOOL_ENVIRONMENT;
    }
    return status;
}
