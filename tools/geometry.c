#include "tools/geometry.h"
#include "tools/cli.h"
#include "tools/tool.h"
#include <string.h>

/* 192^-0.5 * (0.1 * ln(40) + 1)^2: DeepSeek-V3.2 with YaRN. */
#define SCALE_V32 0.13523377f
/* 256^-0.5, no YaRN. */
#define SCALE_GLM 0.0625f

#define WIDTHS .latent_elems = 512, .rope_elems = 64, .v_elems = 512, .index_elems = 128
#define CACHE .format = RFN_LATENT_FP8_656, .page_tokens = 64
#define BIG                                                                              \
    "its layers and index heads need the decode ops and --layers, which are not built "  \
    "yet"

#define V32(suffix, heads_)                                                              \
    {                                                                                    \
        .name = "deepseek-v3.2" suffix, .layers = 61, .heads = heads_, WIDTHS,           \
        .index_heads = 64, .topk = 2048, .scale = SCALE_V32, .context_tokens = 163840,   \
        CACHE, .refused = BIG                                                            \
    }
#define GLM(suffix, heads_)                                                              \
    {                                                                                    \
        .name = "glm-5" suffix, .layers = 78, .heads = heads_, WIDTHS,                   \
        .index_heads = 32, .topk = 2048, .scale = SCALE_GLM, .context_tokens = 202752,   \
        CACHE, .refused = BIG                                                            \
    }

static const struct geometry presets[] = {
    V32("", 128),
    V32("-h64", 64),
    V32("-h32", 32),
    V32("-h16", 16),
    GLM("", 64),
    GLM("-h8", 8),
    { .name = "tiny",
      .layers = 2,
      .heads = 8,
      WIDTHS,
      .index_heads = 4,
      .topk = 64,
      .scale = SCALE_V32,
      .context_tokens = 8192,
      CACHE },
};
#define PRESETS (sizeof(presets) / sizeof(presets[0]))

const struct geometry *geometry_at(size_t i)
{
    return i < PRESETS ? &presets[i] : NULL;
}

const struct geometry *geometry_find(const char *name)
{
    struct cli_nearest nearest;
    cli_nearest_init(&nearest, name);
    for (size_t i = 0; i < PRESETS; i++)
    {
        if (strcmp(presets[i].name, name) == 0)
        {
            return &presets[i];
        }
        cli_nearest_try(&nearest, presets[i].name);
    }
    tool_error("no geometry '%s'; the nearest is '%s'", name, nearest.best);
    return NULL;
}

int32_t geometry_qk_elems(const struct geometry *geometry)
{
    return geometry->latent_elems + geometry->rope_elems;
}

int32_t geometry_table_pages(const struct geometry *geometry)
{
    return (geometry->context_tokens + geometry->page_tokens - 1) / geometry->page_tokens;
}
