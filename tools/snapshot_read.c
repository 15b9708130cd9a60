/* Graphs from a file: bytes from outside, of which nothing is believed. */
#include "tools/snapshot.h"
#include "tools/text.h"
#include "tools/tool.h"
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEPTH_MAX 64
#define PATH_CHARS 160

#if RFN_JANSSON
#include <jansson.h>

/* What was made for the reading, freed at once. */
struct block
{
    struct block *next;
    max_align_t bytes[];
};

struct reader
{
    const char *path;
    struct block *blocks;
    char *error; /* SNAPSHOT_ERROR_BYTES */
    int status;  /* TOOL_OK until the first mistake, which has its line */
};

static void mistake(struct reader *r, const char *where, const char *format, ...)
    RFN_PRINTF(3, 4);

static void mistake(struct reader *r, const char *where, const char *format, ...)
{
    char line[256];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    if (r->status == TOOL_OK)
    {
        snprintf(r->error, SNAPSHOT_ERROR_BYTES, "%s: %s: %s", r->path, where, line);
        r->status = TOOL_ARGUMENTS;
    }
}

static void *take(struct reader *r, size_t count, size_t bytes)
{
    struct block *block = NULL;
    if (count < SIZE_MAX / 2 / (bytes + 1))
    {
        block = calloc(1, sizeof(*block) + count * bytes + 1);
    }
    if (block == NULL)
    {
        if (r->status == TOOL_OK)
        {
            snprintf(r->error, SNAPSHOT_ERROR_BYTES, "%s: no memory for %zu entries",
                     r->path, count);
            r->status = TOOL_ENVIRONMENT;
        }
        return NULL;
    }
    block->next = r->blocks;
    r->blocks = block;
    return block->bytes;
}

static int64_t get_int(struct reader *r, const json_t *from, const char *where,
                       const char *name, int64_t min, int64_t max)
{
    const json_t *value = json_object_get(from, name);
    if (value == NULL)
    {
        return 0;
    }
    if (!json_is_integer(value) || json_integer_value(value) < min ||
        json_integer_value(value) > max)
    {
        mistake(r, where, "%s is no number from %lld to %lld", name, (long long)min,
                (long long)max);
        return 0;
    }
    return json_integer_value(value);
}

static int32_t get_i32(struct reader *r, const json_t *from, const char *where,
                       const char *name)
{
    return (int32_t)get_int(r, from, where, name, INT32_MIN, INT32_MAX);
}

static uint32_t get_u32(struct reader *r, const json_t *from, const char *where,
                        const char *name)
{
    return (uint32_t)get_int(r, from, where, name, 0, UINT32_MAX);
}

static int64_t get_i64(struct reader *r, const json_t *from, const char *where,
                       const char *name)
{
    return get_int(r, from, where, name, 0, INT64_MAX);
}

static const char *get_text(struct reader *r, const json_t *from, const char *where,
                            const char *name)
{
    const json_t *value = json_object_get(from, name);
    if (value == NULL)
    {
        return "";
    }
    if (!json_is_string(value))
    {
        mistake(r, where, "%s is no text", name);
        return "";
    }
    char *text = take(r, json_string_length(value), 1); /* and one for its end */
    if (text == NULL)
    {
        return "";
    }
    memcpy(text, json_string_value(value), json_string_length(value));
    text_clean(text);
    return text;
}

static uint64_t get_hex(struct reader *r, const json_t *from, const char *where,
                        const char *name)
{
    const char *text = get_text(r, from, where, name);
    char *end = NULL;
    errno = 0;
    uint64_t value = strtoull(text, &end, 16);
    if (text[0] != '\0' && (strncmp(text, "0x", 2) != 0 || *end != '\0' || errno != 0))
    {
        mistake(r, where, "%s is '%.40s', no address", name, text);
        return 0;
    }
    return value;
}

static int get_name(struct reader *r, const json_t *from, const char *where,
                    const char *name, const char *const *list, int count)
{
    const char *text = get_text(r, from, where, name);
    for (int i = 0; i < count; i++)
    {
        if (strcmp(list[i], text) == 0)
        {
            return i;
        }
    }
    mistake(r, where, "%s '%.40s' is not known", name, text);
    return 0;
}

static const json_t *get_array(struct reader *r, const json_t *from, const char *where,
                               const char *name)
{
    const json_t *array = json_object_get(from, name);
    if (array != NULL && (!json_is_array(array) || json_array_size(array) > INT32_MAX))
    {
        mistake(r, where, "%s is no list", name);
        return NULL;
    }
    return array;
}

static void get_words(struct reader *r, const json_t *from, const char *where,
                      const char *name, uint32_t word[3])
{
    const json_t *array = get_array(r, from, where, name);
    for (size_t i = 0; array != NULL && i < 3; i++)
    {
        const json_t *value = json_array_get(array, i);
        if (!json_is_integer(value) || json_integer_value(value) < 0 ||
            json_integer_value(value) > UINT32_MAX)
        {
            mistake(r, where, "%s is no list of three counts", name);
            return;
        }
        word[i] = (uint32_t)json_integer_value(value);
    }
}

static void read_pointer(struct reader *r, const json_t *from, const char *where,
                         struct rfn_image_pointer *ret)
{
    const json_t *json = json_object_get(from, "pointer");
    if (json == NULL)
    {
        return;
    }
    *ret = (struct rfn_image_pointer) {
        .address = get_hex(r, json, where, "address"),
        .base = get_hex(r, json, where, "base"),
        .bytes = get_i64(r, json, where, "bytes"),
        .offset = get_i64(r, json, where, "offset"),
        .generation = (uint64_t)get_i64(r, json, where, "generation"),
        .kind =
            (enum rfn_memory_kind)get_name(r, json, where, "kind", snapshot_memories, 3),
        .imported = get_i32(r, json, where, "imported"),
        .stack = get_i32(r, json, where, "stack"),
    };
}

static int digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static void read_param(struct reader *r, const json_t *from, const char *where,
                       struct rfn_image_param *ret)
{
    const char *hex = get_text(r, from, where, "value");
    size_t bytes = strlen(hex) / 2;
    unsigned char *value = bytes < INT32_MAX ? take(r, bytes, 1) : NULL;
    for (size_t i = 0; value != NULL && i < bytes; i++)
    {
        int high = digit(hex[2 * i]), low = digit(hex[2 * i + 1]);
        if (high < 0 || low < 0)
        {
            mistake(r, where, "value is no list of bytes");
            break;
        }
        value[i] = (unsigned char)(16 * high + low);
    }
    if (strlen(hex) % 2 != 0)
    {
        mistake(r, where, "value is no list of bytes");
    }
    *ret = (struct rfn_image_param) {
        .name = get_text(r, from, where, "name"),
        .role = (enum rfn_image_role)get_name(r, from, where, "role", snapshot_roles,
                                              RFN_IMAGE_ROLES),
        .offset = get_i32(r, from, where, "offset"),
        .bytes = value != NULL ? (int32_t)bytes : 0,
        .value = value,
    };
    read_pointer(r, from, where, &ret->pointer);
}

static void read_access(struct reader *r, const json_t *from, const char *where,
                        struct rfn_image_access *ret)
{
    *ret = (struct rfn_image_access) {
        .name = get_text(r, from, where, "name"),
        .access =
            (enum rfn_access)get_name(r, from, where, "access", snapshot_accesses, 4),
        .pool = get_i32(r, from, where, "pool"),
        .bytes = get_i64(r, from, where, "bytes"),
        .rows = get_i64(r, from, where, "rows"),
        .row_bytes = get_i64(r, from, where, "row_bytes"),
        .row_stride_bytes = get_i64(r, from, where, "row_stride_bytes"),
    };
    read_pointer(r, from, where, &ret->pointer);
}

static const struct rfn_image *read_image(struct reader *r, const json_t *from,
                                          const char *where, int level);

static void read_node(struct reader *r, const json_t *from, const char *where, int level,
                      struct rfn_image_node *ret)
{
    const char *names[RFN_IMAGE_TYPES];
    char at[PATH_CHARS + 32];
    for (int i = 0; i < RFN_IMAGE_TYPES; i++)
    {
        names[i] = rfn_image_type_name((enum rfn_image_type)i);
    }
    if (!json_is_object(from))
    {
        mistake(r, where, "is no node");
        return;
    }
    *ret = (struct rfn_image_node) {
        .type =
            (enum rfn_image_type)get_name(r, from, where, "type", names, RFN_IMAGE_TYPES),
        .name = get_text(r, from, where, "name"),
        .op = get_text(r, from, where, "op"),
        .launch = (int32_t)get_int(r, from, where, "launch", 0, INT32_MAX) - 1,
        .foreign = get_i32(r, from, where, "foreign"),
        .opaque = get_i32(r, from, where, "opaque"),
        .why = get_text(r, from, where, "why"),
        .file = get_text(r, from, where, "file"),
        .line = get_i32(r, from, where, "line"),
        .region = get_text(r, from, where, "region"),
        .stream = (uint64_t)get_i64(r, from, where, "stream"),
        .thread = (uint64_t)get_i64(r, from, where, "thread"),
        .shared_bytes = get_u32(r, from, where, "shared_bytes"),
        .value = get_i32(r, from, where, "value"),
        .value_bytes = get_i32(r, from, where, "value_bytes"),
        .function = get_hex(r, from, where, "function"),
        .user = get_hex(r, from, where, "user"),
        .event = get_hex(r, from, where, "event"),
    };
    get_words(r, from, where, "grid", ret->grid);
    get_words(r, from, where, "block", ret->block);
    const json_t *params = get_array(r, from, where, "params");
    const json_t *touched = get_array(r, from, where, "accesses");
    struct rfn_image_param *param = take(r, json_array_size(params), sizeof(*param));
    struct rfn_image_access *access = take(r, json_array_size(touched), sizeof(*access));
    for (size_t i = 0; param != NULL && i < json_array_size(params); i++)
    {
        snprintf(at, sizeof(at), "%s, parameter %zu", where, i);
        read_param(r, json_array_get(params, i), at, &param[i]);
    }
    for (size_t i = 0; access != NULL && i < json_array_size(touched); i++)
    {
        snprintf(at, sizeof(at), "%s, access %zu", where, i);
        read_access(r, json_array_get(touched, i), at, &access[i]);
    }
    ret->param = param;
    ret->params = (int32_t)json_array_size(params);
    ret->access = access;
    ret->accesses = (int32_t)json_array_size(touched);
    const json_t *child = json_object_get(from, "child");
    if (child != NULL)
    {
        ret->child = read_image(r, child, where, level + 1);
    }
}

static void read_edge(struct reader *r, const json_t *from, const char *where,
                      size_t edge, struct rfn_image_edge *ret)
{
    int32_t *number[] = { &ret->from, &ret->to, &ret->programmatic };
    int good = json_array_size(from) == 3;
    for (size_t i = 0; i < 3 && good; i++)
    {
        const json_t *value = json_array_get(from, i);
        json_int_t is = json_integer_value(value);
        good = json_is_integer(value) && is >= 0 && is <= INT32_MAX;
        *number[i] = good ? (int32_t)is : 0;
    }
    if (!good)
    {
        mistake(r, where, "edge %zu is no list of three counts", edge);
    }
}

static const struct rfn_image *read_image(struct reader *r, const json_t *from,
                                          const char *where, int level)
{
    char at[PATH_CHARS];
    const json_t *nodes = get_array(r, from, where, "nodes");
    const json_t *edges = get_array(r, from, where, "edges");
    struct rfn_image *image = take(r, 1, sizeof(*image));
    struct rfn_image_node *node = take(r, json_array_size(nodes), sizeof(*node));
    struct rfn_image_edge *edge = take(r, json_array_size(edges), sizeof(*edge));
    if (nodes == NULL || level > DEPTH_MAX)
    {
        mistake(r, where, nodes == NULL ? "has no nodes" : "children nest too deeply");
    }
    for (size_t i = 0; r->status == TOOL_OK && i < json_array_size(nodes); i++)
    {
        snprintf(at, sizeof(at), "%.*s, node %zu", PATH_CHARS - 40, where, i);
        read_node(r, json_array_get(nodes, i), at, level, &node[i]);
    }
    for (size_t i = 0; r->status == TOOL_OK && i < json_array_size(edges); i++)
    {
        read_edge(r, json_array_get(edges, i), where, i, &edge[i]);
    }
    if (r->status != TOOL_OK)
    {
        return NULL;
    }
    *image = (struct rfn_image) {
        .name = get_text(r, from, where, "name"),
        .device = get_text(r, from, where, "device"),
        .capture_id = (uint64_t)get_i64(r, from, where, "capture"),
        .nodes = (int32_t)json_array_size(nodes),
        .edges = (int32_t)json_array_size(edges),
        .node = node,
        .edge = edge,
    };
    return image;
}

static void read_graphs(struct reader *r, const json_t *root, struct snapshot *ret)
{
    const json_t *graphs = get_array(r, root, "the file", "graphs");
    const char *format = get_text(r, root, "the file", "format");
    int64_t version = get_i64(r, root, "the file", "version");
    if (strcmp(format, SNAPSHOT_FORMAT) != 0)
    {
        mistake(r, "the file", "format is '%.40s', not '%s'", format, SNAPSHOT_FORMAT);
    }
    else if (version != SNAPSHOT_VERSION)
    {
        mistake(r, "the file", "version %lld; this program reads %d", (long long)version,
                SNAPSHOT_VERSION);
    }
    size_t count = json_array_size(graphs);
    if (r->status == TOOL_OK && count == 0)
    {
        mistake(r, "the file", "holds no graphs");
    }
    ret->image = r->status == TOOL_OK ? calloc(count, sizeof(*ret->image)) : NULL;
    for (size_t i = 0; ret->image != NULL && r->status == TOOL_OK && i < count; i++)
    {
        char where[32];
        snprintf(where, sizeof(where), "graph %zu", i);
        const struct rfn_image *read = read_image(r, json_array_get(graphs, i), where, 0);
        if (read != NULL && rfn_image_create(read, &ret->image[i]) != RFN_OK)
        {
            mistake(r, where, "%s", rfn_last_error());
        }
        ret->images += ret->image[i] != NULL;
    }
    if (r->status == TOOL_OK && ret->image == NULL)
    {
        snprintf(r->error, SNAPSHOT_ERROR_BYTES, "%s: no memory for %zu graphs", r->path,
                 count);
        r->status = TOOL_ENVIRONMENT;
    }
}

int snapshot_parse(const char *path, const char *text, size_t bytes,
                   struct snapshot *ret_snapshot, char error_line[SNAPSHOT_ERROR_BYTES])
{
    struct reader r = { .path = path, .error = error_line };
    json_error_t error;
    *ret_snapshot = (struct snapshot) { 0 };
    error_line[0] = '\0';
    json_t *root = json_loadb(text, bytes, 0, &error);
    if (root == NULL)
    {
        snprintf(error_line, SNAPSHOT_ERROR_BYTES, "%s:%d: %s", path, error.line,
                 error.text);
        return TOOL_ARGUMENTS;
    }
    read_graphs(&r, root, ret_snapshot);
    while (r.blocks != NULL)
    {
        struct block *next = r.blocks->next;
        free(r.blocks);
        r.blocks = next;
    }
    json_decref(root);
    if (r.status != TOOL_OK)
    {
        snapshot_release(ret_snapshot);
    }
    return r.status;
}

#else

int snapshot_parse(const char *path, const char *text, size_t bytes,
                   struct snapshot *ret_snapshot, char error_line[SNAPSHOT_ERROR_BYTES])
{
    (void)text;
    (void)bytes;
    *ret_snapshot = (struct snapshot) { 0 };
    snprintf(error_line, SNAPSHOT_ERROR_BYTES,
             "%s: saved graphs are JSON; this program was built without jansson", path);
    return TOOL_ENVIRONMENT;
}

#endif

void snapshot_release(struct snapshot *snapshot)
{
    for (int32_t i = 0; i < snapshot->images; i++)
    {
        rfn_image_destroy(&snapshot->image[i]);
    }
    free(snapshot->image);
    *snapshot = (struct snapshot) { 0 };
}
