/* refrain info: version, devices, ops with their operands, cache formats. */
#include "tools/cli.h"
#include "tools/tool.h"
#include <inttypes.h>
#include <refrain/refrain.h>
#include <stdio.h>
#include <string.h>

static void print_device(const char *name, enum rfn_device_kind kind)
{
    struct rfn_device_desc desc = { .kind = kind };
    struct rfn_device *device = NULL;
    struct rfn_device_info info;
    enum rfn_status status = rfn_device_open(&desc, &device);
    if (status == RFN_OK)
    {
        status = rfn_device_query(device, &info);
    }
    if (status != RFN_OK)
    {
        printf("  %-6s not available: %s\n", name, rfn_last_error());
    }
    else if (info.kind == RFN_DEVICE_CUDA)
    {
        printf("  %-6s %s, sm_%d, %d SMs, %.1f of %.1f GiB free\n", name, info.name,
               info.sm_arch, info.sm_count, (double)info.memory_free_bytes / 1073741824.0,
               (double)info.memory_bytes / 1073741824.0);
    }
    else
    {
        printf("  %-6s %s, %.1f of %.1f GiB free\n", name, info.name,
               (double)info.memory_free_bytes / 1073741824.0,
               (double)info.memory_bytes / 1073741824.0);
    }
    if (device != NULL && rfn_device_close(&device) != RFN_OK)
    {
        tool_error("%s", rfn_last_error());
    }
}

static void list_types(const struct rfn_operand *operand, char *text, size_t bytes)
{
    size_t used = 0;
    text[0] = '\0';
    for (int bit = 0; bit < 32 && used < bytes; bit++)
    {
        if ((operand->dtypes >> bit & 1) == 0)
        {
            continue;
        }
        const char *name = rfn_dtype_name((enum rfn_dtype)bit);
        if (operand->kind == RFN_OPERAND_POOL)
        {
            const struct rfn_format_info *format = rfn_format_query((enum rfn_format)bit);
            name = format != NULL ? format->name : "?";
        }
        int more =
            snprintf(text + used, bytes - used, "%s%s", used > 0 ? " or " : "", name);
        used += more > 0 ? (size_t)more : 0;
    }
}

static void print_op(const struct rfn_op *op)
{
    static const char *const access[] = { "", "in", "out", "in/out" };
    printf("  %s (%s%s%s)\n", op->name, op->host != NULL ? "host" : "",
           op->host != NULL && op->cuda != NULL ? ", " : "",
           op->cuda != NULL ? "cuda" : "");
    for (uint32_t i = 0; i < op->operands; i++)
    {
        const struct rfn_operand *operand = &op->operand[i];
        char types[192];
        char shape[64] = "";
        list_types(operand, types, sizeof(types));
        if (operand->shape != NULL)
        {
            snprintf(shape, sizeof(shape), "[%s]", operand->shape);
        }
        printf("    %-6s %-18s %-10s %s%s\n", access[operand->access & 3], operand->name,
               shape, types, operand->optional ? ", optional" : "");
    }
    for (uint32_t i = 0; i < op->scalars; i++)
    {
        printf("    %-6s %-18s %u bytes%s\n", "scalar", op->scalar[i].name,
               op->scalar[i].bytes, op->scalar[i].dynamic ? ", dynamic" : "");
    }
}

static void print_format(const struct rfn_format_info *format)
{
    printf("  %-16s %4d bytes a token, %s; %d x %s", format->name, format->token_bytes,
           format->planar ? "planar in a page" : "interleaved", format->latent_elems,
           rfn_dtype_name(format->latent_dtype));
    if (format->scales > 0)
    {
        printf(", %d %s (one per %d)", format->scales,
               format->scale_dtype == RFN_U8 ? "ue8m0 scales" : "f32 scales",
               format->scale_group);
    }
    if (format->rope_elems > 0)
    {
        printf(", %d x bf16 rope", format->rope_elems);
    }
    printf("\n");
}

int info_main(int argc, char **argv)
{
    int unused = 0;
    int status = cli_parse(NULL, 0, argc, argv, &unused);
    if (status == CLI_HELP)
    {
        printf("usage: refrain info\n");
        return TOOL_OK;
    }
    if (status != TOOL_OK)
    {
        return status;
    }
    printf("refrain %s\n", rfn_version());
    if (strcmp(argv[0], "--version") == 0)
    {
        return TOOL_OK;
    }
    printf("\ndevices\n");
    print_device("host", RFN_DEVICE_HOST);
    print_device("cuda", RFN_DEVICE_CUDA);
    printf("\nops\n");
    for (uint32_t i = 0; rfn_op_at(i) != NULL; i++)
    {
        print_op(rfn_op_at(i));
    }
    printf("\ncache formats\n");
    for (int i = RFN_FORMAT_NONE + 1; i < RFN_FORMATS; i++)
    {
        const struct rfn_format_info *format = rfn_format_query((enum rfn_format)i);
        if (format != NULL)
        {
            print_format(format);
        }
    }
    printf("\ngeometries\n");
    for (int32_t i = 0; rfn_geometry_at(i) != NULL; i++)
    {
        const struct rfn_geometry *geometry = rfn_geometry_at(i);
        printf("  %-18s %2d layers, %3d heads, %d + %d, index heads %2d x %d, top-k %d, "
               "context %d\n",
               geometry->name, geometry->layers, geometry->heads, geometry->latent_elems,
               geometry->rope_elems, geometry->index_heads, geometry->index_width,
               geometry->topk, geometry->context);
    }
    return TOOL_OK;
}
