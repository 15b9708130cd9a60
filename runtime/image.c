/* Images while they are made: memory, and what op tables say of a launch. */
#include "runtime/image.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- memory ------------------------------------------------------------------------ */

#define CHUNK_BYTES ((size_t)64 << 10)
#define ALIGN ((size_t)16)

struct rfn_image_chunk
{
    struct rfn_image_chunk *next;
    char *end;
    _Alignas(16) char bytes[];
};

void *rfn_image_take(struct rfn_image_store *store, size_t bytes)
{
    bytes = bytes ? (bytes + ALIGN - 1) & ~(ALIGN - 1) : ALIGN;
    if (bytes > store->left || !store->chunk)
    {
        size_t room = bytes > CHUNK_BYTES / 4 ? bytes : CHUNK_BYTES;
        struct rfn_image_chunk *chunk =
            bytes > SIZE_MAX / 2 ? NULL : calloc(1, sizeof *chunk + room);
        if (!chunk)
        {
            store->failed = 1;
            return NULL;
        }
        chunk->end = chunk->bytes + room;
        /* One of its own for what is large: the rest of the open one stays in use. */
        if (room == bytes && store->chunk)
        {
            chunk->next = store->chunk->next;
            store->chunk->next = chunk;
            return chunk->bytes;
        }
        chunk->next = store->chunk;
        store->chunk = chunk;
        store->left = room;
    }
    char *at = store->chunk->end - store->left;
    store->left -= bytes;
    return at;
}

void *rfn_image_copy(struct rfn_image_store *store, const void *from, size_t bytes)
{
    void *to = rfn_image_take(store, bytes);
    if (to && from && bytes)
        memcpy(to, from, bytes);
    return to;
}

const char *rfn_image_text(struct rfn_image_store *store, const char *text)
{
    if (!text || !text[0])
        return "";
    const char *copy = rfn_image_copy(store, text, strlen(text) + 1);
    return copy ? copy : "";
}

void rfn_image_drop(struct rfn_image_store *store)
{
    while (store->chunk)
    {
        struct rfn_image_chunk *next = store->chunk->next;
        free(store->chunk);
        store->chunk = next;
    }
    *store = (struct rfn_image_store) { 0 };
}

int rfn_image_raw_nodes(struct rfn_image_store *store, struct rfn_image_raw *raw,
                        size_t nodes)
{
    if (nodes > INT32_MAX)
        store->failed = 1;
    if (store->failed)
        return 0;
    *raw = (struct rfn_image_raw) {
        .node = rfn_image_take(store, nodes * sizeof *raw->node),
        .key = rfn_image_take(store, nodes * sizeof *raw->key),
        .child = rfn_image_take(store, nodes * sizeof *raw->child),
        .nodes = (int32_t)nodes,
    };
    if (store->failed)
        return 0;
    for (size_t i = 0; i < nodes; i++)
        raw->node[i] = (struct rfn_image_node) {
            .type = RFN_IMAGE_OTHER,
            .name = "",
            .op = "",
            .why = "",
            .file = "",
            .region = "",
            .launch = -1,
        };
    return 1;
}

const char *rfn_image_type_name(enum rfn_image_type type)
{
    static const char *const name[RFN_IMAGE_TYPES] = {
        "kernel",     "memcpy", "memset",    "host",     "child",       "event record",
        "event wait", "empty",  "mem alloc", "mem free", "conditional", "other",
    };
    return (unsigned)type < RFN_IMAGE_TYPES ? name[type] : "?";
}

/* ---- accesses ---------------------------------------------------------------------- */

/* Extents from the inside out: what is dense joins the row, what is evenly spaced joins the
 * rows; anything else leaves the hull alone. */
static void rows_of(const struct rfn_tensor *t, struct rfn_image_access *ret)
{
    int64_t bytes = rfn_dtype_bytes(t->dtype);
    int64_t row = bytes, rows = 1, stride = 0;
    for (int32_t d = t->dims - 1; d >= 0; d--)
    {
        int64_t step = t->stride[d] * bytes;
        if (t->shape[d] == 1)
            continue;
        if (rows == 1 && step == row)
            row *= t->shape[d];
        else if (rows == 1)
        {
            rows = t->shape[d];
            stride = step;
        }
        else if (step == stride * rows)
            rows *= t->shape[d];
        else
            return;
    }
    ret->rows = rows;
    ret->row_bytes = row;
    ret->row_stride_bytes = rows > 1 ? stride : row;
}

static const void *view_of(const void *args, const struct rfn_operand *o)
{
    return (const char *)args + o->offset;
}

void rfn_image_accesses(struct rfn_image_store *store, struct rfn_image_node *node,
                        const struct rfn_op *op, const void *args)
{
    struct rfn_image_access *access =
        rfn_image_take(store, op->operands * sizeof *access);
    if (!access)
        return;
    node->access = access;
    for (uint32_t i = 0; i < op->operands; i++)
    {
        const struct rfn_operand *o = &op->operand[i];
        void *begin;
        int64_t bytes;
        rfn_op_extent(op, i, args, &begin, &bytes);
        if (!bytes)
            continue;
        struct rfn_image_access *a = &access[node->accesses++];
        *a = (struct rfn_image_access) {
            .name = rfn_image_text(store, o->name),
            .access = o->access,
            .pool = o->kind == RFN_OPERAND_POOL,
            .bytes = bytes,
            .pointer = { .address = (uintptr_t)begin },
        };
        if (!a->pool)
            rows_of(view_of(args, o), a);
    }
}

void rfn_image_move(struct rfn_image_store *store, struct rfn_image_node *node,
                    uint64_t dst, uint64_t src, const struct rfn_image_rows *rows)
{
    struct rfn_image_access *access = rfn_image_take(store, 2 * sizeof *access);
    if (!access)
        return;
    node->access = access;
    for (int i = 0; i < (src ? 2 : 1); i++)
    {
        int64_t stride = i ? rows->src_stride_bytes : rows->dst_stride_bytes;
        int dense = rows->rows <= 1 || stride == rows->row_bytes;
        int64_t hull = rows->rows ? (rows->rows - 1) * stride + rows->row_bytes : 0;
        if (hull <= 0)
            continue;
        access[node->accesses++] = (struct rfn_image_access) {
            .name = i ? "src" : "dst",
            .access = i ? RFN_READ : RFN_WRITE,
            .bytes = hull,
            .rows = dense ? 1 : rows->rows,
            .row_bytes = dense ? hull : rows->row_bytes,
            .row_stride_bytes = dense ? hull : stride,
            .pointer = { .address = i ? src : dst },
        };
    }
}

/* ---- argument structs --------------------------------------------------------------- */

struct params
{
    struct rfn_image_store *store;
    struct rfn_image_param *param;
    int32_t count;
    const char *args;
};

static const char *joined(struct rfn_image_store *store, const char *name,
                          const char *field)
{
    char text[160];
    snprintf(text, sizeof text, "%s%s", name, field);
    return rfn_image_text(store, text);
}

static void add(struct params *p, const char *name, const char *field,
                enum rfn_image_role role, size_t offset, size_t bytes)
{
    const void *value = rfn_image_copy(p->store, p->args + offset, bytes);
    if (!value || !bytes)
        return;
    p->param[p->count++] = (struct rfn_image_param) {
        .name = joined(p->store, name, field),
        .role = role,
        .offset = (int32_t)offset,
        .bytes = (int32_t)bytes,
        .value = value,
    };
}

#define ADD(field)                                                                       \
    add(p, o->name, "." #field, RFN_IMAGE_SHAPE, o->offset + offsetof(VIEW, field),      \
        sizeof(((const VIEW *)0)->field))

/* Operands begin with their address. */
static void add_address(struct params *p, const struct rfn_operand *o)
{
    static const enum rfn_image_role role[] = {
        [RFN_READ] = RFN_IMAGE_READ,
        [RFN_WRITE] = RFN_IMAGE_WRITE,
        [RFN_READ_WRITE] = RFN_IMAGE_READ_WRITE,
    };
    void *data;
    memcpy(&data, p->args + o->offset, sizeof data);
    int32_t before = p->count;
    add(p, o->name, "", role[o->access & 3], o->offset, sizeof data);
    if (p->count > before)
        p->param[before].pointer.address = (uintptr_t)data;
}

static void add_operand(struct params *p, const struct rfn_operand *o)
{
    add_address(p, o);
    if (o->kind == RFN_OPERAND_POOL)
    {
#define VIEW struct rfn_pool
        ADD(format);
        ADD(page_tokens);
        ADD(pages);
        ADD(page_stride_bytes);
#undef VIEW
    }
    else
    {
#define VIEW struct rfn_tensor
        const VIEW *t = view_of(p->args, o);
        size_t dims = t->dims > 0 && t->dims <= RFN_MAX_DIMS ? (size_t)t->dims : 0;
        ADD(dtype);
        ADD(dims);
        add(p, o->name, ".shape", RFN_IMAGE_SHAPE, o->offset + offsetof(VIEW, shape),
            dims * sizeof t->shape[0]);
        add(p, o->name, ".stride", RFN_IMAGE_SHAPE, o->offset + offsetof(VIEW, stride),
            dims * sizeof t->stride[0]);
#undef VIEW
    }
}

static int is_declared(const struct rfn_op *op, size_t at, size_t *ret_end)
{
    for (uint32_t i = 0; i < op->operands; i++)
    {
        const struct rfn_operand *o = &op->operand[i];
        size_t bytes = o->kind == RFN_OPERAND_POOL ? sizeof(struct rfn_pool)
                                                   : sizeof(struct rfn_tensor);
        *ret_end = o->offset + bytes;
        if (at >= o->offset && at < *ret_end)
            return 1;
    }
    for (uint32_t i = 0; i < op->scalars; i++)
    {
        *ret_end = (size_t)op->scalar[i].offset + op->scalar[i].bytes;
        if (at >= op->scalar[i].offset && at < *ret_end)
            return 1;
    }
    return 0;
}

/* What the declared field at `at`, or the end of the struct, can be aligned to at most. */
static size_t align_at(const struct rfn_op *op, size_t at)
{
    size_t bits = at | 8;
    for (uint32_t i = 0; i < op->scalars; i++)
        if (op->scalar[i].offset == at)
            bits |= op->scalar[i].bytes;
    return bits & (~bits + 1);
}

/* Bytes that no table names. Padding is none of them: nothing is aligned to more than 8, so
 * padding ends at the next multiple of 8 behind a field, and what goes on there is a field;
 * so are four bytes in front of a field that needs no more. In front of one that is aligned to
 * 8, and at the end, four bytes that nobody declared pass for padding. */
static void add_undeclared(struct params *p, const struct rfn_op *op)
{
    size_t at = 0, end;
    while (at < op->args_bytes)
    {
        if (is_declared(op, at, &end))
        {
            at = end;
            continue;
        }
        size_t begin = (at + 7) & ~(size_t)7, word = (at + 3) & ~(size_t)3;
        while (at < op->args_bytes && !is_declared(op, at, &end))
            at++;
        if (begin >= at && align_at(op, at) <= 4)
            begin = word;
        if (begin >= at)
            continue;
        char name[48];
        snprintf(name, sizeof name, "bytes %zu to %zu", begin, at - 1);
        add(p, name, "", RFN_IMAGE_UNDECLARED, begin, at - begin);
    }
}

void rfn_image_args(struct rfn_image_store *store, struct rfn_image_node *node,
                    const struct rfn_op *op, const void *args)
{
    /* Between two declared fields there is at most one gap. */
    size_t most = 6 * (size_t)op->operands + 2 * (size_t)op->scalars + 1;
    struct params p = { .store = store, .args = args };
    p.param = rfn_image_take(store, most * sizeof *p.param);
    if (!p.param)
        return;
    for (uint32_t i = 0; i < op->operands; i++)
        add_operand(&p, &op->operand[i]);
    for (uint32_t i = 0; i < op->scalars; i++)
        add(&p, op->scalar[i].name, "",
            op->scalar[i].dynamic ? RFN_IMAGE_DYNAMIC : RFN_IMAGE_CONST,
            op->scalar[i].offset, op->scalar[i].bytes);
    add_undeclared(&p, op);
    node->param = p.param;
    node->params = p.count;
}
