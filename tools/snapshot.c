#include "tools/snapshot.h"
#include <stdio.h>
#include <stdlib.h>

const char *const snapshot_roles[RFN_IMAGE_ROLES] = {
    "const", "dynamic", "read", "write", "read-write", "shape", "undeclared", "foreign",
};
const char *const snapshot_accesses[4] = { "", "read", "write", "read-write" };
const char *const snapshot_memories[3] = { "pageable", "pinned", "device" };

const char *snapshot_role(enum rfn_image_role role)
{
    return (unsigned)role < RFN_IMAGE_ROLES ? snapshot_roles[role] : "?";
}

const char *snapshot_access(enum rfn_access access)
{
    return (unsigned)access <= RFN_READ_WRITE ? snapshot_accesses[access] : "?";
}

const char *snapshot_memory(enum rfn_memory_kind kind)
{
    return (unsigned)kind <= RFN_MEMORY_DEVICE ? snapshot_memories[kind] : "?";
}

#if RFN_JANSSON
#include <jansson.h>

/* ---- writing ------------------------------------------------------------------------ */

/* What is empty or 0 is left out. */
static void put_int(json_t *to, const char *name, int64_t value)
{
    if (value != 0)
    {
        json_object_set_new(to, name, json_integer((json_int_t)value));
    }
}

static void put_text(json_t *to, const char *name, const char *value)
{
    if (value[0] != '\0')
    {
        /* Names come from anywhere; what is no UTF-8 has no place in JSON. */
        json_t *text = json_string(value);
        json_object_set_new(to, name, text != NULL ? text : json_string("?"));
    }
}

static void put_hex(json_t *to, const char *name, uint64_t value)
{
    char text[24];
    snprintf(text, sizeof(text), "%#llx", (unsigned long long)value);
    if (value != 0)
    {
        put_text(to, name, text);
    }
}

static void put_words(json_t *to, const char *name, const uint32_t word[3])
{
    if (word[0] != 0)
    {
        json_object_set_new(to, name,
                            json_pack("[I,I,I]", (json_int_t)word[0], (json_int_t)word[1],
                                      (json_int_t)word[2]));
    }
}

static void put_pointer(json_t *to, const struct rfn_image_pointer *at)
{
    if (at->address == 0)
    {
        return;
    }
    json_t *json = json_object();
    put_hex(json, "address", at->address);
    put_text(json, "kind", snapshot_memory(at->kind));
    put_hex(json, "base", at->base);
    put_int(json, "bytes", at->bytes);
    put_int(json, "offset", at->offset);
    put_int(json, "generation", (int64_t)at->generation);
    put_int(json, "imported", at->imported);
    put_int(json, "stack", at->stack);
    json_object_set_new(to, "pointer", json);
}

static json_t *param_json(const struct rfn_image_param *param)
{
    json_t *json = json_object();
    const unsigned char *value = param->value;
    char *hex = calloc(2 * (size_t)param->bytes + 1, 1);
    for (int32_t i = 0; hex != NULL && i < param->bytes; i++)
    {
        snprintf(hex + (size_t)2 * (size_t)i, 3, "%02x", value[i]);
    }
    put_text(json, "name", param->name);
    put_text(json, "role", snapshot_role(param->role));
    put_int(json, "offset", param->offset);
    put_text(json, "value", hex != NULL ? hex : "");
    put_pointer(json, &param->pointer);
    free(hex);
    return json;
}

static json_t *access_json(const struct rfn_image_access *access)
{
    json_t *json = json_object();
    put_text(json, "name", access->name);
    put_text(json, "access", snapshot_access(access->access));
    put_int(json, "pool", access->pool);
    put_int(json, "bytes", access->bytes);
    put_int(json, "rows", access->rows);
    put_int(json, "row_bytes", access->row_bytes);
    put_int(json, "row_stride_bytes", access->row_stride_bytes);
    put_pointer(json, &access->pointer);
    return json;
}

static json_t *image_json(const struct rfn_image *image);

static json_t *node_json(const struct rfn_image_node *node)
{
    json_t *json = json_object(), *params = json_array(), *touched = json_array();
    put_text(json, "type", rfn_image_type_name(node->type));
    put_text(json, "name", node->name);
    put_text(json, "op", node->op);
    put_int(json, "launch", node->launch + 1); /* from 1; 0: of none */
    put_int(json, "foreign", node->foreign);
    put_int(json, "opaque", node->opaque);
    put_text(json, "why", node->why);
    put_text(json, "file", node->file);
    put_int(json, "line", node->line);
    put_text(json, "region", node->region);
    put_int(json, "stream", (int64_t)node->stream);
    put_int(json, "thread", (int64_t)node->thread);
    put_words(json, "grid", node->grid);
    put_words(json, "block", node->block);
    put_int(json, "shared_bytes", node->shared_bytes);
    put_int(json, "value", node->value);
    put_int(json, "value_bytes", node->value_bytes);
    put_hex(json, "function", node->function);
    put_hex(json, "user", node->user);
    put_hex(json, "event", node->event);
    for (int32_t i = 0; i < node->params; i++)
    {
        json_array_append_new(params, param_json(&node->param[i]));
    }
    for (int32_t i = 0; i < node->accesses; i++)
    {
        json_array_append_new(touched, access_json(&node->access[i]));
    }
    json_object_set_new(json, "params", params);
    json_object_set_new(json, "accesses", touched);
    if (node->child != NULL)
    {
        json_object_set_new(json, "child", image_json(node->child));
    }
    return json;
}

static json_t *image_json(const struct rfn_image *image)
{
    json_t *json = json_object(), *nodes = json_array(), *edges = json_array();
    put_text(json, "name", image->name);
    put_text(json, "device", image->device);
    put_int(json, "capture", (int64_t)image->capture_id);
    for (int32_t i = 0; i < image->nodes; i++)
    {
        json_array_append_new(nodes, node_json(&image->node[i]));
    }
    for (int32_t i = 0; i < image->edges; i++)
    {
        const struct rfn_image_edge *e = &image->edge[i];
        json_array_append_new(edges,
                              json_pack("[i,i,i]", e->from, e->to, e->programmatic));
    }
    json_object_set_new(json, "nodes", nodes);
    json_object_set_new(json, "edges", edges);
    return json;
}

json_t *snapshot_json(const struct rfn_image *const *image, int32_t images)
{
    json_t *graphs = json_array();
    for (int32_t i = 0; i < images; i++)
    {
        json_array_append_new(graphs, image_json(image[i]));
    }
    return json_pack("{s:s,s:i,s:o}", "format", SNAPSHOT_FORMAT, "version",
                     SNAPSHOT_VERSION, "graphs", graphs);
}

#else

json_t *snapshot_json(const struct rfn_image *const *image, int32_t images)
{
    (void)image;
    (void)images;
    return NULL;
}

#endif
