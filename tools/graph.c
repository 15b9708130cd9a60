/* refrain graph: what is in saved captures, what is wrong with them, how two differ. */
#include "tools/cli.h"
#include "tools/snapshot.h"
#include "tools/tool.h"
#include <errno.h>
#include <inttypes.h>
#include <refrain/diff.h>
#include <refrain/lint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void usage(void)
{
    printf(
        "usage: refrain graph dump FILE...        every node with what it touches\n"
        "       refrain graph lint FILE...        what is wrong, without running it\n"
        "       refrain graph diff FILE FILE      what differs between captures of a "
        "step\n"
        "       refrain graph diff --moved FILE FILE    the same with memory elsewhere\n"
        "\n"
        "Files come from `refrain decode --snapshot FILE`.\n"
        "exit status 3: lint found something, diff a difference\n");
}

/* ---- dump --------------------------------------------------------------------------- */

static void indent(int level)
{
    printf("%*s", 2 * level, "");
}

static void dump_pointer(const struct rfn_image_pointer *at)
{
    printf("%#" PRIx64, at->address);
    if (at->base != 0)
    {
        printf(" (%#" PRIx64 " + %" PRId64 ", generation %" PRIu64 "%s)", at->base,
               at->offset, at->generation, at->imported ? ", imported" : "");
    }
    else if (at->address != 0)
    {
        printf(" (%s)", snapshot_memory(at->kind));
    }
}

static void dump_value(const struct rfn_image_param *param)
{
    const char *value = param->value;
    int32_t word = param->bytes % 8 == 0 ? 8 : param->bytes % 4 == 0 ? 4 : 1;
    for (int32_t i = 0; i < param->bytes && i < 8 * word; i += word)
    {
        uint64_t number = 0;
        memcpy(&number, value + i, (size_t)word);
        printf("%s%" PRIu64, i == 0 ? "" : ", ", number);
        if (number > 1000000)
        {
            printf(" (%#" PRIx64 ")", number);
        }
    }
    printf("%s", param->bytes > 8 * word ? ", ..." : "");
}

static void dump_param(const struct rfn_image_param *param, int level)
{
    indent(level);
    printf("%-10s %-24s", snapshot_role(param->role), param->name);
    if (param->pointer.address != 0)
    {
        dump_pointer(&param->pointer);
    }
    else
    {
        dump_value(param);
    }
    printf("\n");
}

static void dump_image(const struct rfn_image *image, int level);

static void dump_node(const struct rfn_image *image, int32_t i, int level)
{
    const struct rfn_image_node *n = &image->node[i];
    indent(level);
    printf("node %d: %s %s", i, rfn_image_type_name(n->type), n->name);
    if (n->grid[0] != 0)
    {
        printf(" <<<%ux%ux%u, %ux%ux%u, %u>>>", n->grid[0], n->grid[1], n->grid[2],
               n->block[0], n->block[1], n->block[2], n->shared_bytes);
    }
    printf("%s%s", n->foreign ? ", foreign" : "", n->opaque ? ", opaque: " : "");
    printf("%s", n->opaque ? n->why : "");
    if (n->file[0] != '\0')
    {
        printf(", %s:%d", n->file, n->line);
    }
    if (n->stream != 0)
    {
        printf(", stream %" PRIu64, n->stream);
    }
    printf("%s%s%s", n->region[0] != '\0' ? ", in " : "", n->region, ", after");
    int32_t before = 0;
    for (int32_t e = 0; e < image->edges; e++)
    {
        if (image->edge[e].to == i)
        {
            printf(" %d%s", image->edge[e].from, image->edge[e].programmatic ? "p" : "");
            before++;
        }
    }
    printf("%s\n", before == 0 ? " none" : "");
    for (int32_t k = 0; k < n->params; k++)
    {
        dump_param(&n->param[k], level + 1);
    }
    for (int32_t k = 0; k < n->accesses; k++)
    {
        const struct rfn_image_access *a = &n->access[k];
        indent(level + 1);
        printf("%ss %s: %" PRId64 " bytes%s at ", snapshot_access(a->access), a->name,
               a->bytes, a->pool ? " of a pool" : "");
        dump_pointer(&a->pointer);
        printf("\n");
    }
    if (n->child != NULL)
    {
        dump_image(n->child, level + 1);
    }
}

static void dump_image(const struct rfn_image *image, int level)
{
    indent(level);
    printf("graph \"%s\" of the %s device: %d nodes, %d edges\n", image->name,
           image->device, image->nodes, image->edges);
    for (int32_t i = 0; i < image->nodes; i++)
    {
        dump_node(image, i, level + 1);
    }
}

static int dump(const char *path, const struct snapshot *snapshot)
{
    for (int32_t i = 0; i < snapshot->images; i++)
    {
        printf("%s: ", path);
        dump_image(snapshot->image[i], 0);
    }
    return TOOL_OK;
}

/* ---- lint and diff ------------------------------------------------------------------- */

static void print_finding(void *ctx, const struct rfn_finding *finding)
{
    char text[2048];
    rfn_finding_text(finding, text, sizeof(text));
    printf("%s%s", (const char *)ctx, text);
}

static int failed(const char *path)
{
    tool_error("%s: %s", path, rfn_last_error());
    return TOOL_ENVIRONMENT;
}

static int lint(const char *path, const struct snapshot *snapshot)
{
    int status = TOOL_OK;
    for (int32_t i = 0; i < snapshot->images; i++)
    {
        struct rfn_lint_info info;
        const struct rfn_image *image = snapshot->image[i];
        char indented[] = "  ";
        if (rfn_lint(image, NULL, NULL, NULL, &info) != RFN_OK)
        {
            return failed(path);
        }
        printf(
            "%s: graph \"%s\": %d nodes (%d kernels, %d foreign, %d opaque), %d edges, "
            "%d roots, %d sinks, longest way %d, %d finding%s\n",
            path, image->name, info.nodes, info.kernels, info.foreign, info.opaque,
            info.edges, info.roots, info.sinks, info.critical_path, info.findings,
            info.findings == 1 ? "" : "s");
        if (info.unordered)
        {
            printf("  too many nodes to look for those without an order\n");
        }
        rfn_lint(image, NULL, print_finding, indented, NULL);
        status = info.findings != 0 ? TOOL_FINDINGS : status;
    }
    return status;
}

static int diff(const char *path, const char *other, const struct snapshot *a,
                const struct snapshot *b, int moved)
{
    int status = TOOL_OK;
    if (a->images != b->images)
    {
        tool_error("%s holds %d graphs, %s holds %d", path, a->images, other, b->images);
        return TOOL_ARGUMENTS;
    }
    for (int32_t i = 0; i < a->images; i++)
    {
        struct rfn_diff_info info;
        char indented[] = "  ";
        if (rfn_image_diff(a->image[i], b->image[i], moved, NULL, NULL, &info) != RFN_OK)
        {
            return failed(path);
        }
        printf("graph \"%s\": %d nodes, %d values compared, %d differ as declared, %d "
               "addresses moved, %d finding%s\n",
               a->image[i]->name, info.nodes, info.compared, info.dynamic, info.moved,
               info.findings, info.findings == 1 ? "" : "s");
        rfn_image_diff(a->image[i], b->image[i], moved, print_finding, indented, NULL);
        status = info.findings != 0 ? TOOL_FINDINGS : status;
    }
    return status;
}

/* ---- files -------------------------------------------------------------------------- */

/* TOOL_OK, or an exit status after an error line. */
static int load(const char *path, struct snapshot *ret_snapshot)
{
    size_t bytes = 0, room = 0, got = 1;
    char *text = NULL, line[SNAPSHOT_ERROR_BYTES];
    *ret_snapshot = (struct snapshot) { 0 };
    FILE *file = fopen(path, "r");
    while (file != NULL && got > 0)
    {
        if (bytes == room)
        {
            room = room != 0 ? 2 * room : 1 << 16;
            char *grown = realloc(text, room);
            if (grown == NULL)
            {
                errno = ENOMEM;
                break;
            }
            text = grown;
        }
        errno = 0;
        got = fread(text + bytes, 1, room - bytes, file);
        bytes += got;
    }
    int bad = file == NULL || got > 0 || ferror(file);
    int status = TOOL_ENVIRONMENT;
    if (bad)
    {
        tool_error("cannot read %s: %s", path, strerror(errno != 0 ? errno : EIO));
    }
    else
    {
        status = snapshot_parse(path, text, bytes, ret_snapshot, line);
        if (status != TOOL_OK)
        {
            tool_error("%s", line);
        }
    }
    if (file != NULL)
    {
        fclose(file);
    }
    free(text);
    return status;
}

static int each(int (*act)(const char *path, const struct snapshot *snapshot), int argc,
                char **argv)
{
    int worst = TOOL_OK;
    for (int i = 0; i < argc; i++)
    {
        struct snapshot snapshot;
        int status = load(argv[i], &snapshot);
        if (status != TOOL_OK)
        {
            return status;
        }
        status = act(argv[i], &snapshot);
        snapshot_release(&snapshot);
        if (status != TOOL_OK && status != TOOL_FINDINGS)
        {
            return status;
        }
        worst = status != TOOL_OK ? status : worst;
    }
    return worst;
}

static int two(int argc, char **argv)
{
    struct snapshot a, b;
    int moved = argc > 0 && strcmp(argv[0], "--moved") == 0;
    if (argc != 2 + moved)
    {
        tool_error("graph diff takes two files, not %d", argc - moved);
        return TOOL_ARGUMENTS;
    }
    int status = load(argv[moved], &a);
    if (status != TOOL_OK)
    {
        return status;
    }
    status = load(argv[moved + 1], &b);
    if (status == TOOL_OK)
    {
        status = diff(argv[moved], argv[moved + 1], &a, &b, moved);
        snapshot_release(&b);
    }
    snapshot_release(&a);
    return status;
}

int graph_main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    if (strcmp(what, "--help") == 0 || strcmp(what, "-h") == 0)
    {
        usage();
        return TOOL_OK;
    }
    if (strcmp(what, "diff") == 0)
    {
        return two(argc - 2, argv + 2);
    }
    int dumps = strcmp(what, "dump") == 0;
    if (!dumps && strcmp(what, "lint") != 0)
    {
        struct cli_nearest nearest;
        cli_nearest_init(&nearest, what);
        cli_nearest_try(&nearest, "dump");
        cli_nearest_try(&nearest, "lint");
        cli_nearest_try(&nearest, "diff");
        if (argc > 1)
        {
            tool_error("graph: no '%s'; the nearest is '%s'", what, nearest.best);
        }
        else
        {
            tool_error("graph: dump, lint or diff?");
        }
        return TOOL_ARGUMENTS;
    }
    if (argc < 3)
    {
        tool_error("graph %s: no file given", what);
        return TOOL_ARGUMENTS;
    }
    if (argv[2][0] == '-' && argv[2][1] != '\0')
    {
        tool_error("graph %s: no option %s", what, argv[2]);
        return TOOL_ARGUMENTS;
    }
    return each(dumps ? dump : lint, argc - 2, argv + 2);
}
