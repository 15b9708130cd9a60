/* Model shapes as table rows. */
#ifndef TOOLS_GEOMETRY_H
#define TOOLS_GEOMETRY_H

#include <refrain/types.h>

struct geometry
{
    const char *name;
    int32_t layers;
    int32_t heads; /* of one rank */
    int32_t latent_elems;
    int32_t rope_elems;
    int32_t v_elems;
    int32_t index_heads;
    int32_t index_elems;
    int32_t topk;
    float scale;
    int32_t context_tokens;
    enum rfn_format format;
    int32_t page_tokens;
    const char *refused; /* why decode does not run it yet; NULL: it does */
};

/* The i-th preset, NULL past the last. */
const struct geometry *geometry_at(size_t i);

/* Finds a preset by name; NULL after an error line that names the nearest one. */
const struct geometry *geometry_find(const char *name);

/* Width of a key: latent and rope. */
int32_t geometry_qk_elems(const struct geometry *geometry);

/* Block-table entries that the context needs. */
int32_t geometry_table_pages(const struct geometry *geometry);

#endif
