/* refrain graph rules: each rule with its class and the programs that show that it speaks where it
 * should and is silent where it should. */
#include "tools/catalogue.h"
#include "tools/cli.h"
#include "tools/counts.h"
#include "tools/tool.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *class_name(const struct rfn_rule_info *rule)
{
    return rule->confidence == RFN_PROVED ? "proved" : "heuristic";
}

static const char *severity_name(const struct rfn_rule_info *rule)
{
    static const char *const name[] = { "info", "warning", "error" };
    return name[rule->severity];
}

/* TOOL_OK, or an exit status after an error line. */
static int read_counts(const char *path, struct counts_row *rows)
{
    char error[COUNTS_ERROR_BYTES];
    int status = TOOL_ENVIRONMENT;
    errno = 0;
    FILE *file = fopen(path, "r");
    char *text = file != NULL ? malloc(COUNTS_BYTES_MAX + 1) : NULL;
    size_t bytes = text != NULL ? fread(text, 1, COUNTS_BYTES_MAX + 1, file) : 0;
    if (text == NULL || ferror(file))
    {
        tool_error("cannot read %s: %s", path, strerror(errno != 0 ? errno : EIO));
    }
    else if (bytes > COUNTS_BYTES_MAX)
    {
        tool_error("%s: more than %zu bytes", path, COUNTS_BYTES_MAX);
        status = TOOL_ARGUMENTS;
    }
    else
    {
        status = counts_parse(path, text, bytes, rows, error);
        if (status != TOOL_OK)
        {
            tool_error("%s", error);
        }
    }
    if (file != NULL)
    {
        fclose(file);
    }
    free(text);
    return status;
}

/* ---- text and JSON --------------------------------------------------------------------- */

/* The programs of a rule; without counts the names that they have by convention. */
static void evidence(const struct rfn_rule_info *rule, const struct counts_row *row,
                     char *text, size_t bytes)
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

static void print_text(const struct counts_row *rows, int counted)
{
    printf("%-7s %-20s %-8s %-9s %-7s %s%s\n", "rule", "name", "severity", "class",
           "device", counted ? "fired   silent  " : "", "programs (tests/capture)");
    int proved = 0;
    int shown = 0;
    for (int i = 0; i < RFN_RULES; i++)
    {
        const struct rfn_rule_info *rule = rfn_rule_query((enum rfn_rule)i);
        const struct counts_row *row = &rows[i];
        char programs[COUNTS_PROGRAMS];
        char counts[64] = "";
        evidence(rule, row, programs, sizeof(programs));
        if (row->there)
        {
            char fired[24];
            char silent[24];
            snprintf(fired, sizeof(fired), "%d of %d", row->count[COUNTS_FIRED],
                     row->count[COUNTS_BAD]);
            snprintf(silent, sizeof(silent), "%d of %d", row->count[COUNTS_SILENT],
                     row->count[COUNTS_GOOD]);
            snprintf(counts, sizeof(counts), "%-7s %-7s ", fired, silent);
            shown += row->count[COUNTS_FIRED] > 0 &&
                     row->count[COUNTS_FIRED] == row->count[COUNTS_BAD] &&
                     row->count[COUNTS_SILENT] > 0 &&
                     row->count[COUNTS_SILENT] == row->count[COUNTS_GOOD];
        }
        else if (counted)
        {
            snprintf(counts, sizeof(counts), "%-7s %-7s ", "-", "-");
        }
        proved += rule->confidence == RFN_PROVED;
        printf("%-7s %-20s %-8s %-9s %-7s %s%s\n", rule->id, rule->name,
               severity_name(rule), class_name(rule), rule_devices((enum rfn_rule)i),
               counts, programs);
    }
    printf("\n");
    for (int i = 0; i < UNCOVERED; i++)
    {
        printf("%-7s %-20s not covered: %s\n", uncovered[i].id, uncovered[i].name,
               uncovered[i].reason);
    }
    printf("\n%d rules, %d proved, %d heuristic, %d not covered", RFN_RULES + UNCOVERED,
           proved, RFN_RULES - proved, UNCOVERED);
    if (counted)
    {
        printf("; %d fired in every bad program and silent in every good one", shown);
    }
    else
    {
        printf("; --counts FILE shows how often they fired (tools/test writes "
               "rule-counts.tsv)");
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

static void print_json(const struct counts_row *rows)
{
    printf("{\"rules\": [\n");
    for (int i = 0; i < RFN_RULES; i++)
    {
        static const char *const name[] = { "bad", "fired", "good", "silent" };
        const struct rfn_rule_info *rule = rfn_rule_query((enum rfn_rule)i);
        const struct counts_row *row = &rows[i];
        char programs[COUNTS_PROGRAMS];
        evidence(rule, row, programs, sizeof(programs));
        printf("  {");
        print_string("id", rule->id, ", ");
        print_string("name", rule->name, ", ");
        print_string("severity", severity_name(rule), ", ");
        print_string("class", class_name(rule), ", ");
        print_string("device", rule_devices((enum rfn_rule)i), ",\n   ");
        print_string("why", rule->why, ",\n   ");
        print_string("fix", rule->fix, ",\n   ");
        print_string("programs", programs, "");
        for (int k = 0; row->there && k < COUNTS; k++)
        {
            printf(", \"%s\": %d", name[k], row->count[k]);
        }
        printf("}%s\n", i + 1 < RFN_RULES ? "," : "");
    }
    printf("], \"not_covered\": [\n");
    for (int i = 0; i < UNCOVERED; i++)
    {
        printf("  {");
        print_string("id", uncovered[i].id, ", ");
        print_string("name", uncovered[i].name, ",\n   ");
        print_string("why", uncovered[i].what, ",\n   ");
        print_string("reason", uncovered[i].reason, "");
        printf("}%s\n", i + 1 < UNCOVERED ? "," : "");
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
    struct counts_row *rows = calloc(RFN_RULES, sizeof(*rows));
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
