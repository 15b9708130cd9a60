/* refrain graph lint: saved graphs against the rules, and files of what was found. */
#include "tools/cli.h"
#include "tools/files.h"
#include "tools/snapshot.h"
#include "tools/text.h"
#include "tools/tool.h"
#include <refrain/lint.h>
#include <stdio.h>
#include <stdlib.h>

struct lint
{
    struct files files;
    struct findings findings;
    struct rfn_image **image; /* of all files; the snapshots own them */
    int32_t images;
};

#define FILE_OPTION(name_, field)                                                        \
    {                                                                                    \
        .name = name_, .value = "FILE", .offset = offsetof(struct lint, files.field)     \
    }

static const struct cli_option table[] = {
    FILE_OPTION("--json", path[FILES_JSON]),
    FILE_OPTION("--sarif", path[FILES_SARIF]),
    FILE_OPTION("--html", path[FILES_HTML]),
    FILE_OPTION("--baseline", accepted),
    FILE_OPTION("--write-baseline", path[FILES_BASELINE]),
};
#define OPTIONS (sizeof(table) / sizeof(table[0]))

/* None of the graphs that are read is written to. */
static int open_files(struct files *files, int argc, char **argv)
{
    int status = output_distinct(files->path, FILES_KINDS);
    for (int i = 0; status == TOOL_OK && i < argc; i++)
    {
        status = output_spares(files->path, FILES_KINDS, argv[i]);
    }
    if (status == TOOL_OK) /* a baseline may be written anew where it was read */
    {
        status = output_spares(files->path, FILES_BASELINE, files->accepted);
    }
    return status == TOOL_OK ? files_open(files) : status;
}

static void report(void *ctx, const struct rfn_finding *finding)
{
    struct lint *lint = ctx;
    findings_print("  ", finding, &lint->files.baseline);
    findings_add(&lint->findings, finding);
}

#define ENDS_NAMED 3

/* Nodes that wait for none (`behind` 0), or that none waits for. */
static void tell_ends(const struct rfn_image *image, const char *what, int behind)
{
    int32_t named = 0;
    char *has = calloc((size_t)image->nodes + 1, 1);
    if (has == NULL)
    {
        return;
    }
    for (int32_t i = 0; i < image->edges; i++)
    {
        has[behind ? image->edge[i].from : image->edge[i].to] = 1;
    }
    for (int32_t i = 0; i < image->nodes; i++)
    {
        char label[64];
        if (has[i] == 0 && named++ < ENDS_NAMED)
        {
            rfn_image_label(image->node[i].name, label, sizeof(label));
            text_clean(label);
            printf("%s%s (node %d)", named == 1 ? what : ", ", label, i);
        }
    }
    if (named > ENDS_NAMED)
    {
        printf(" and %d more", named - ENDS_NAMED);
    }
    free(has);
}

static int judge(struct lint *lint, const char *path, const struct snapshot *snapshot)
{
    const int32_t first = lint->images - snapshot->images;
    for (int32_t i = 0; i < snapshot->images; i++)
    {
        struct rfn_lint_info info;
        const struct rfn_image *image = snapshot->image[i];
        if (rfn_lint(image, NULL, NULL, NULL, &info) != RFN_OK)
        {
            tool_error("%s: %s", path, rfn_last_error());
            return TOOL_ENVIRONMENT;
        }
        printf(
            "%s: graph \"%s\": %d nodes (%d kernels, %d foreign, %d opaque), %d edges, "
            "%d roots, %d sinks, longest way %d, %d finding%s\n",
            path, image->name, info.nodes, info.kernels, info.foreign, info.opaque,
            info.edges, info.roots, info.sinks, info.critical_path, info.findings,
            info.findings == 1 ? "" : "s");
        tell_ends(image, "  begins with ", 0);
        tell_ends(image, "; ends with ", 1);
        printf("%s", image->nodes > 0 ? "\n" : "");
        if (info.unordered)
        {
            printf("  too many nodes to look for those without an order\n");
        }
        lint->findings.image = first + i + 1;
        rfn_lint(image, NULL, report, lint, NULL);
    }
    return TOOL_OK;
}

static int lint_all(struct lint *lint, struct snapshot *snapshot, int argc, char **argv)
{
    int status = TOOL_OK;
    int32_t images = 0;
    for (int i = 0; i < argc && status == TOOL_OK; i++)
    {
        status = snapshot_load(argv[i], &snapshot[i]);
        images += status == TOOL_OK ? snapshot[i].images : 0;
    }
    if (status == TOOL_OK)
    {
        lint->image = calloc((size_t)images + 1, sizeof(struct rfn_image *));
        status = lint->image != NULL ? TOOL_OK : TOOL_ENVIRONMENT;
    }
    for (int i = 0; i < argc && status == TOOL_OK; i++)
    {
        for (int32_t k = 0; k < snapshot[i].images; k++)
        {
            lint->image[lint->images++] = snapshot[i].image[k];
        }
        status = judge(lint, argv[i], &snapshot[i]);
    }
    int32_t fresh = findings_accept(&lint->findings, &lint->files.baseline);
    if (status == TOOL_OK)
    {
        const struct html_page page = { "refrain graph lint", &lint->findings,
                                        (const struct rfn_image *const *)lint->image,
                                        lint->images };
        status = files_write(&lint->files, &page);
    }
    if (status == TOOL_OK && fresh < lint->findings.count)
    {
        printf("%d of the findings are accepted by %s\n", lint->findings.count - fresh,
               lint->files.accepted);
    }
    return status == TOOL_OK && fresh > 0 ? TOOL_FINDINGS : status;
}

int graph_lint(int argc, char **argv)
{
    struct lint lint = { .images = 0 };
    int words = cli_front(table, OPTIONS, argc, argv);
    /* cli_parse passes over the word in front, which is "lint". */
    int status = cli_parse(table, OPTIONS, words + 1, argv - 1, &lint);
    if (status == TOOL_OK && words == argc)
    {
        tool_error("graph lint: no file given");
        status = TOOL_ARGUMENTS;
    }
    if (status == TOOL_OK)
    {
        status = open_files(&lint.files, argc - words, argv + words);
    }
    struct snapshot *snapshot = calloc((size_t)(argc - words) + 1, sizeof(*snapshot));
    if (status == TOOL_OK)
    {
        status = snapshot != NULL ? lint_all(&lint, snapshot, argc - words, argv + words)
                                  : TOOL_ENVIRONMENT;
    }
    for (int i = 0; snapshot != NULL && i < argc - words; i++)
    {
        snapshot_release(&snapshot[i]);
    }
    free(snapshot);
    free(lint.image);
    files_close(&lint.files);
    findings_free(&lint.findings);
    return status;
}
