/*
 * The rules, each with its class and the programs that show that it speaks where it should and
 * is silent where it should. A build's counts come from its known-answer suite:
 *
 *     rule    class   bad  fired  good  silent  programs
 *     CAP001  proved  1    1      1     1       cap001_bad cap001_good
 *
 * with tabs between the columns, a line a rule.
 */
#include "tools/cli.h"
#include "tools/tool.h"
#include <errno.h>
#include <refrain/check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HEADER "rule\tclass\tbad\tfired\tgood\tsilent\tprograms"
#define LINE_BYTES 4096
#define COUNTS 4 /* bad, fired, good, silent */

struct row
{
    int there; /* the file has counts of this rule */
    int count[COUNTS];
    char programs[LINE_BYTES];
};

static const char *class_name(const struct rfn_rule_info *rule)
{
    return rule->confidence == RFN_PROVED ? "proved" : "heuristic";
}

static const char *severity_name(const struct rfn_rule_info *rule)
{
    static const char *const name[] = { "info", "warning", "error" };
    return name[rule->severity];
}

/* ---- counts ---------------------------------------------------------------------------- */

static int bad_line(const char *path, int line, const char *what, const char *word)
{
    tool_error("%s:%d: %s '%s'", path, line, what, word);
    return TOOL_ARGUMENTS;
}

static int find_rule(const char *path, int line, const char *id, int *ret_rule)
{
    struct cli_nearest nearest;
    cli_nearest_init(&nearest, id);
    for (int i = 0; i < RFN_RULES; i++)
    {
        const char *known = rfn_rule_query((enum rfn_rule)i)->id;
        if (strcmp(known, id) == 0)
        {
            *ret_rule = i;
            return TOOL_OK;
        }
        cli_nearest_try(&nearest, known);
    }
    tool_error("%s:%d: no rule '%s'; the nearest is '%s'", path, line, id, nearest.best);
    return TOOL_ARGUMENTS;
}

static int read_row(const char *path, int line, char *text, struct row *rows)
{
    char *column[COUNTS + 3];
    int columns = 0;
    int rule = 0;
    while (text != NULL && columns < COUNTS + 3)
    {
        column[columns++] = text;
        text = strchr(text, '\t');
        if (text != NULL)
        {
            *text++ = '\0';
        }
    }
    if (text != NULL || columns != COUNTS + 3)
    {
        tool_error("%s:%d: %s than %d columns", path, line,
                   text != NULL ? "more" : "less", COUNTS + 3);
        return TOOL_ARGUMENTS;
    }
    int status = find_rule(path, line, column[0], &rule);
    if (status != TOOL_OK)
    {
        return status;
    }
    struct row *row = &rows[rule];
    const char *class = class_name(rfn_rule_query((enum rfn_rule)rule));
    if (row->there)
    {
        return bad_line(path, line, "a second line of", column[0]);
    }
    if (strcmp(column[1], class) != 0)
    {
        tool_error("%s:%d: %s is '%s', but '%s' here: the counts are of another version",
                   path, line, column[0], column[1], class);
        return TOOL_ARGUMENTS;
    }
    for (int i = 0; i < COUNTS; i++)
    {
        char *end = NULL;
        errno = 0;
        long value = strtol(column[2 + i], &end, 10);
        if (end == column[2 + i] || *end != '\0' || errno != 0 || value < 0 ||
            value > 1000000)
        {
            return bad_line(path, line, "no count:", column[2 + i]);
        }
        row->count[i] = (int)value;
    }
    row->there = 1;
    snprintf(row->programs, sizeof(row->programs), "%s", column[COUNTS + 2]);
    return TOOL_OK;
}

static int read_counts(const char *path, struct row *rows)
{
    char text[LINE_BYTES];
    int line = 0;
    int status = TOOL_OK;
    errno = 0;
    FILE *file = fopen(path, "r");
    while (file != NULL && status == TOOL_OK && fgets(text, sizeof(text), file) != NULL)
    {
        size_t length = strlen(text);
        line++;
        if (length == 0 || text[length - 1] != '\n')
        {
            status = bad_line(path, line, "the file ends in a line that is cut:", text);
            break;
        }
        text[length - 1] = '\0';
        if (line > 1)
        {
            status = read_row(path, line, text, rows);
        }
        else if (strcmp(text, HEADER) != 0)
        {
            status = bad_line(path, line, "no counts of rules: the first line is", text);
        }
    }
    if (file == NULL || ferror(file))
    {
        tool_error("cannot read %s: %s", path, strerror(errno != 0 ? errno : EIO));
        status = TOOL_ENVIRONMENT;
    }
    else if (status == TOOL_OK && line == 0)
    {
        tool_error("%s: empty, but a line of column names is due", path);
        status = TOOL_ARGUMENTS;
    }
    if (file != NULL)
    {
        fclose(file);
    }
    return status;
}

/* ---- text and JSON --------------------------------------------------------------------- */

/* The programs of a rule; without counts the names that they have by convention. */
static void evidence(const struct rfn_rule_info *rule, const struct row *row, char *text,
                     size_t bytes)
{
    if (row->there)
    {
        snprintf(text, bytes, "%s", row->programs);
        return;
    }
    char id[8];
    snprintf(id, sizeof(id), "cap%s", rule->id + 3);
    snprintf(text, bytes, "%s_bad %s_good", id, id);
}

static void print_text(const struct row *rows, int counted)
{
    printf("%-7s %-20s %-8s %-10s%s%s\n", "rule", "name", "severity", "class",
           counted ? "fired   silent  " : "", "programs (tests/capture)");
    int proved = 0;
    int shown = 0;
    for (int i = 0; i < RFN_RULES; i++)
    {
        const struct rfn_rule_info *rule = rfn_rule_query((enum rfn_rule)i);
        const struct row *row = &rows[i];
        char programs[LINE_BYTES];
        char counts[64] = "";
        evidence(rule, row, programs, sizeof(programs));
        if (row->there)
        {
            char fired[24];
            char silent[24];
            snprintf(fired, sizeof(fired), "%d of %d", row->count[1], row->count[0]);
            snprintf(silent, sizeof(silent), "%d of %d", row->count[3], row->count[2]);
            snprintf(counts, sizeof(counts), "%-7s %-7s ", fired, silent);
            shown += row->count[1] > 0 && row->count[1] == row->count[0] &&
                     row->count[3] > 0 && row->count[3] == row->count[2];
        }
        else if (counted)
        {
            snprintf(counts, sizeof(counts), "%-7s %-7s ", "-", "-");
        }
        proved += rule->confidence == RFN_PROVED;
        printf("%-7s %-20s %-8s %-10s%s%s\n", rule->id, rule->name, severity_name(rule),
               class_name(rule), counts, programs);
    }
    printf("%d rules, %d proved, %d heuristic", RFN_RULES, proved, RFN_RULES - proved);
    if (counted)
    {
        printf("; %d fired in every bad program and silent in every good one", shown);
    }
    printf("\n");
}

static void print_string(const char *name, const char *text, const char *behind)
{
    printf("\"%s\": \"", name);
    for (; *text != '\0'; text++)
    {
        unsigned char c = (unsigned char)*text;
        if (c < 0x20 || c == 0x7f)
        {
            printf("\\u%04x", (unsigned)c);
        }
        else
        {
            printf("%s%c", c == '"' || c == '\\' ? "\\" : "", c);
        }
    }
    printf("\"%s", behind);
}

static void print_json(const struct row *rows)
{
    printf("{\"rules\": [\n");
    for (int i = 0; i < RFN_RULES; i++)
    {
        static const char *const name[] = { "bad", "fired", "good", "silent" };
        const struct rfn_rule_info *rule = rfn_rule_query((enum rfn_rule)i);
        const struct row *row = &rows[i];
        char programs[LINE_BYTES];
        evidence(rule, row, programs, sizeof(programs));
        printf("  {");
        print_string("id", rule->id, ", ");
        print_string("name", rule->name, ", ");
        print_string("severity", severity_name(rule), ", ");
        print_string("class", class_name(rule), ",\n   ");
        print_string("why", rule->why, ",\n   ");
        print_string("fix", rule->fix, ",\n   ");
        print_string("programs", programs, "");
        for (int k = 0; row->there && k < COUNTS; k++)
        {
            printf(", \"%s\": %d", name[k], row->count[k]);
        }
        printf("}%s\n", i + 1 < RFN_RULES ? "," : "");
    }
    printf("]}\n");
}

int graph_rules(int argc, char **argv)
{
    struct options
    {
        int64_t json;
        const char *counts;
    } options = { 0 };
    static const struct cli_option table[] = {
        { .name = "--json",
          .help = "as JSON",
          .kind = CLI_FLAG,
          .offset = offsetof(struct options, json) },
        { .name = "--counts",
          .value = "FILE",
          .help = "what a build's known-answer suite counted: build/rule-counts.tsv",
          .kind = CLI_TEXT,
          .offset = offsetof(struct options, counts) },
    };
    const size_t rows_of_table = sizeof(table) / sizeof(table[0]);
    /* argv[-1] is the word "rules". */
    int status = cli_parse(table, rows_of_table, argc + 1, argv - 1, &options);
    if (status == CLI_HELP)
    {
        printf("usage: refrain graph rules [options]\n\n");
        cli_usage(table, rows_of_table);
        return TOOL_OK;
    }
    if (status != TOOL_OK)
    {
        return status;
    }
    struct row *rows = calloc(RFN_RULES, sizeof(*rows));
    if (rows == NULL)
    {
        tool_error("graph rules: out of memory");
        return TOOL_ENVIRONMENT;
    }
    status = options.counts != NULL ? read_counts(options.counts, rows) : TOOL_OK;
    if (status == TOOL_OK && options.json)
    {
        print_json(rows);
    }
    else if (status == TOOL_OK)
    {
        print_text(rows, options.counts != NULL);
    }
    free(rows);
    return status;
}
