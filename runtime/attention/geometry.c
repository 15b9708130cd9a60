/* Models as table rows, and whether a device can run one. */
#include "runtime/attention/attention.h"

#include "kernels/op.h"
#include "runtime/call.h"

#include <math.h>
#include <string.h>

#define LAYERS_MAX 1024
#define HEADS_MAX 128
#define INDEX_HEADS_MIN 4
#define INDEX_HEADS_MAX 64
#define TOPK_MIN 64
#define TOPK_MAX 2048
#define CONTEXT_MAX 1048576
#define PAGE_TOKENS_MAX 65536

/* 192^-0.5 * (0.1 * ln(40) + 1)^2: DeepSeek-V3.2 with YaRN. */
#define SCALE_V32 0.13523378f
/* 256^-0.5, no YaRN. */
#define SCALE_GLM 0.0625f

/* clang-format off */
#define ROW(name_, layers_, heads_, index_heads_, topk_, scale_, context_)               \
    { .name = name_, .layers = layers_, .heads = heads_,                                 \
      .latent_elems = 512, .rope_elems = 64, .v_elems = 512,                             \
      .index_heads = index_heads_, .index_width = 128, .topk = topk_, .scale = scale_,   \
      .context = context_, .page_tokens = 64,                                            \
      .latent_format = RFN_LATENT_FP8_656, .index_format = RFN_INDEX_FP8_132,            \
      .latent_scale = RFN_SCALE_F32, .index_scale = RFN_SCALE_UE8M0 }

static const struct rfn_geometry presets[] = {
    ROW("deepseek-v3.2",     61, 128, 64, 2048, SCALE_V32, 163840),
    ROW("deepseek-v3.2-h64", 61,  64, 64, 2048, SCALE_V32, 163840),
    ROW("deepseek-v3.2-h32", 61,  32, 64, 2048, SCALE_V32, 163840),
    ROW("deepseek-v3.2-h16", 61,  16, 64, 2048, SCALE_V32, 163840),
    ROW("glm-5",             78,  64, 32, 2048, SCALE_GLM, 202752),
    ROW("glm-5-h8",          78,   8, 32, 2048, SCALE_GLM, 202752),
    ROW("tiny",               2,   8,  4,   64, SCALE_V32,   8192),
};
/* clang-format on */

const struct rfn_geometry *rfn_geometry_at(int32_t i)
{
    return i >= 0 && i < (int32_t)RFN_COUNT(presets) ? &presets[i] : NULL;
}

enum rfn_status rfn_geometry_find(const char *name,
                                  const struct rfn_geometry **ret_geometry)
{
    const struct rfn_geometry *nearest = &presets[0];
    int least = INT32_MAX;
    if (!name || !ret_geometry)
        return RFN_FAIL(RFN_INVALID, "geometry_find: %s is NULL",
                        name ? "ret_geometry" : "name");
    for (size_t i = 0; i < RFN_COUNT(presets); i++)
    {
        int d = rfn_name_distance(name, presets[i].name);
        if (strcmp(name, presets[i].name) == 0)
        {
            *ret_geometry = &presets[i];
            return RFN_OK;
        }
        if (d < least)
        {
            least = d;
            nearest = &presets[i];
        }
    }
    return RFN_FAIL(RFN_NOT_FOUND, "geometry %.64s: not known; the nearest is %s", name,
                    nearest->name);
}

/* ---- what a geometry must agree with ------------------------------------------------- */

static enum rfn_status check_ranges(const struct rfn_geometry *g)
{
    const struct
    {
        const char *name;
        int32_t value, least, most;
    } range[] = {
        { "layers", g->layers, 1, LAYERS_MAX },
        { "heads", g->heads, 1, HEADS_MAX },
        { "index_heads", g->index_heads, INDEX_HEADS_MIN, INDEX_HEADS_MAX },
        { "topk", g->topk, TOPK_MIN, TOPK_MAX },
        { "context", g->context, 1, CONTEXT_MAX },
        { "page_tokens", g->page_tokens, 1, PAGE_TOKENS_MAX },
        { "latent_scale", g->latent_scale, RFN_SCALE_F32, RFN_SCALE_UE8M0 },
        { "index_scale", g->index_scale, RFN_SCALE_F32, RFN_SCALE_UE8M0 },
    };
    for (size_t i = 0; i < RFN_COUNT(range); i++)
        if (range[i].value < range[i].least || range[i].value > range[i].most)
            return RFN_FAIL(RFN_INVALID,
                            "geometry %.64s: %s = %d, but %d .. %d is needed", g->name,
                            range[i].name, range[i].value, range[i].least, range[i].most);
    if (!isfinite(g->scale) || !(g->scale > 0))
        return RFN_FAIL(
            RFN_INVALID,
            "geometry %.64s: scale = %g, but a finite value above 0 is needed", g->name,
            (double)g->scale);
    return RFN_OK;
}

static enum rfn_status check_formats(const struct rfn_geometry *g)
{
    const struct rfn_format_info *latent = rfn_format_query(g->latent_format);
    const struct rfn_format_info *index = rfn_format_query(g->index_format);
    if (!latent || !latent->v_elems || !index || index->v_elems)
        return RFN_FAIL(
            RFN_INVALID,
            "geometry %.64s: latent_format is %s and index_format is %s, but a "
            "latent and an index format are needed",
            g->name, latent ? latent->name : "none", index ? index->name : "none");
    const struct
    {
        const char *name;
        const struct rfn_format_info *format;
        int32_t value, due;
    } width[] = {
        { "latent_elems", latent, g->latent_elems, latent->latent_elems },
        { "rope_elems", latent, g->rope_elems, latent->rope_elems },
        { "v_elems", latent, g->v_elems, latent->v_elems },
        { "index_width", index, g->index_width, index->latent_elems },
    };
    for (size_t i = 0; i < RFN_COUNT(width); i++)
        if (width[i].value != width[i].due)
            return RFN_FAIL(RFN_INVALID, "geometry %.64s: %s = %d, but %s has %d",
                            g->name, width[i].name, width[i].value, width[i].format->name,
                            width[i].due);
    return RFN_OK;
}

static enum rfn_status check_sources(const struct rfn_geometry *g)
{
    for (int32_t i = 0; g->index_source && i < g->layers; i++)
    {
        int32_t s = g->index_source[i];
        if (s < 0 || s > i)
            return RFN_FAIL(RFN_INVALID,
                            "geometry %.64s: layer %d uses the choice of layer %d, but 0 "
                            ".. %d is needed",
                            g->name, i, s, i);
        if (g->index_source[s] != s)
            return RFN_FAIL(RFN_INVALID,
                            "geometry %.64s: layer %d uses the choice of layer %d, which "
                            "has none of its own: it uses that of layer %d",
                            g->name, i, s, g->index_source[s]);
    }
    return RFN_OK;
}

enum rfn_status rfn_geometry_check(const struct rfn_geometry *geometry)
{
    if (!geometry || !geometry->name)
        return RFN_FAIL(RFN_INVALID, "geometry%s is NULL", geometry ? ": its name" : "");
    enum rfn_status status = check_ranges(geometry);
    if (status == RFN_OK)
        status = check_formats(geometry);
    return status == RFN_OK ? check_sources(geometry) : status;
}

/* ---- what a device must have --------------------------------------------------------- */

/* The op has a twin there, and its pool may have this format (none: it has no pool). */
static enum rfn_status check_op(const struct rfn_device *device, const struct rfn_op *op,
                                enum rfn_format format)
{
    int host = device->backend == &rfn_backend_host;
    if (host ? !op->host : !op->cuda)
        return RFN_FAIL(RFN_UNSUPPORTED, "%s has no twin for the %s device", op->name,
                        device->backend->name);
    for (uint32_t i = 0; format && i < op->operands; i++)
        if (op->operand[i].kind == RFN_OPERAND_POOL &&
            !(op->operand[i].dtypes >> format & 1u))
            return RFN_FAIL(RFN_UNSUPPORTED, "%s: %s does not take %s", op->name,
                            op->operand[i].name, rfn_format_query(format)->name);
    return RFN_OK;
}

enum rfn_status rfn_supported(struct rfn_device *device,
                              const struct rfn_geometry *geometry)
{
    enum rfn_status status = rfn_object_check(device, RFN_OBJECT_DEVICE, "device");
    if (status == RFN_OK)
        status = rfn_geometry_check(geometry);
    if (status != RFN_OK)
        return status;
    const struct
    {
        const struct rfn_op *op;
        enum rfn_format format;
    } need[] = {
        { &rfn_op_step_update, RFN_FORMAT_NONE },
        { &rfn_op_kv_pack, geometry->latent_format },
        { &rfn_op_index_pack, geometry->index_format },
        { &rfn_op_index_query_pack, RFN_FORMAT_NONE },
        { &rfn_op_index_logits, geometry->index_format },
        { &rfn_op_index_topk, RFN_FORMAT_NONE },
        { &rfn_op_sparse_mla, geometry->latent_format },
    };
    for (size_t i = 0; status == RFN_OK && i < RFN_COUNT(need); i++)
        status = check_op(device, need[i].op, need[i].format);
    return status;
}
