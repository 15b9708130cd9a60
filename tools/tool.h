/* What the sub-commands of the program `refrain` share: exit status and messages. */
#ifndef TOOLS_TOOL_H
#define TOOLS_TOOL_H

#include <refrain/status.h>
#include <stdint.h>

enum tool_status
{
    TOOL_OK = 0,
    TOOL_ENVIRONMENT = 1, /* files, memory, device */
    TOOL_ARGUMENTS = 2,   /* the command line or an input file */
    TOOL_FINDINGS = 3,    /* the checker found something, or a verification failed */
};

#define TOOL_LIST(X)                                                                     \
    X(decode, "run a decode workload: plan, capture, check, replay, verify")             \
    X(graph, "dump, lint or compare saved captures; the rules")                          \
    X(incidents, "field incidents in their broken and right forms")                      \
    X(bench, "time every op beside what the machine can do")                             \
    X(explain, "what a rule of the checker means and how to mend what it finds")         \
    X(info, "version, devices, ops with their operands, cache formats")                  \
    X(help, "this text, or `refrain help COMMAND`")

#define TOOL_MAIN(name, what) int name##_main(int argc, char **argv);
TOOL_LIST(TOOL_MAIN)
#undef TOOL_MAIN

/* `refrain graph lint`, `rules`: argv is what follows these words. */
int graph_lint(int argc, char **argv);
int graph_rules(int argc, char **argv);

/* Writes "refrain: " and the formatted line to stderr. */
void tool_error(const char *format, ...) RFN_PRINTF(1, 2);

/* Monotonic clock, and that clock when the program started. */
int64_t tool_now_ns(void);
int64_t tool_start_ns(void);

#endif
