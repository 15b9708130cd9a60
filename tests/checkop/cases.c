/* What the cases of all ops share: buffers, views, and comparing with the kept copies. */
#include "tests/checkop/checkop.h"
#include "tests/checkop/reference.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

void *ck_buffer(struct ck_case *c, size_t bytes, int fill)
{
    if (c->buffers == CK_BUFFERS)
    {
        printf("FAIL case %s has more than %d buffers\n", c->name, CK_BUFFERS);
        exit(1);
    }
    struct guard *g = &c->buffer[c->buffers++];
    guard_create(g, bytes, fill);
    return g->data;
}

struct rfn_tensor ck_tensor(struct ck_case *c, enum rfn_dtype dtype, int fill,
                            int64_t gap, int64_t d0, int64_t d1, int64_t d2)
{
    struct rfn_tensor t = rfn_tensor_of(NULL, dtype, d0, d1, d2, 0);
    int64_t elems = t.dims == 1 ? d0 : d0 * (t.stride[0] += gap);
    t.data = ck_buffer(c, (size_t)(elems * rfn_dtype_bytes(dtype)), fill);
    return t;
}

struct rfn_pool ck_pool(struct ck_case *c, enum rfn_format format, int32_t page_tokens,
                        int64_t pages, int64_t gap, int fill)
{
    int64_t stride = ref_page_bytes(format, page_tokens) + gap;
    return (struct rfn_pool) {
        .data = ck_buffer(c, (size_t)(pages * stride), fill),
        .format = format,
        .page_tokens = page_tokens,
        .pages = pages,
        .page_stride_bytes = gap ? stride : 0,
    };
}

struct rfn_tensor ck_live(struct ck_case *c, int32_t count)
{
    if (count == INT32_MIN)
        return (struct rfn_tensor) { 0 };
    struct rfn_tensor live = ck_tensor(c, RFN_I32, GUARD_INDEX, 0, 1, 0, 0);
    *(int32_t *)live.data = count;
    return live;
}

void *ck_kept(const struct ck_case *c, const void *data)
{
    const unsigned char *p = data;
    for (int i = 0; p && i < c->buffers; i++)
        if (p >= c->buffer[i].data && p <= c->buffer[i].data + c->buffer[i].bytes)
            return guard_kept_at(&c->buffer[i], data);
    return NULL;
}

int ck_fail(struct ck_case *c, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    vsnprintf(c->reason, sizeof c->reason, format, list);
    va_end(list);
    return 0;
}

int ck_all_as_kept(struct ck_case *c)
{
    for (int i = 0; i < c->buffers; i++)
    {
        const struct guard *g = &c->buffer[i];
        ptrdiff_t at;
        if (guard_changed(g, &at))
            return ck_fail(
                c, "buffer %d of %zu bytes: byte %td is 0x%02x, but 0x%02x is right", i,
                g->bytes, at, g->data[at],
                *(unsigned char *)guard_kept_at(g, g->data + at));
    }
    return 1;
}

int ck_same_fault(struct ck_case *c, const struct rfn_fault *fault,
                  const struct rfn_fault *right)
{
    if (!fault)
        return 1;
    const char *op = fault->op ? fault->op : "-",
               *operand = fault->op ? fault->operand : "-";
    const char *right_op = right->op ? right->op : "-";
    const char *right_operand = right->op ? right->operand : "-";
    if (c->counted && strcmp(op, right_op) == 0 && fault->count == right->count)
        return 1;
    if (strcmp(op, right_op) || strcmp(operand, right_operand) ||
        fault->row != right->row || fault->column != right->column ||
        fault->value != right->value || fault->count != right->count)
        return ck_fail(
            c,
            "check mode saw %lld bad, first %s %s [%lld][%lld] = %lld, but right is "
            "%lld, %s %s [%lld][%lld] = %lld",
            (long long)fault->count, op, operand, (long long)fault->row,
            (long long)fault->column, (long long)fault->value, (long long)right->count,
            right_op, right_operand, (long long)right->row, (long long)right->column,
            (long long)right->value);
    return 1;
}

void ck_build(struct ck_case *c, const struct ck_spec *spec, uint64_t seed)
{
    memset(c, 0, sizeof *c);
    c->name = spec->name;
    c->op = spec->op;
    c->spec = spec;
    c->seed = seed;
    for (const char *p = spec->name; *p; p++) /* a case has its seed wherever it stands */
        seed = seed * 1099511628211u + (unsigned char)*p;
    c->rng = rng_of(seed);
    spec->build(c, spec->param);
    for (int i = 0; i < c->buffers; i++)
        guard_keep(&c->buffer[i]);
}

void ck_destroy(struct ck_case *c)
{
    for (int i = 0; i < c->buffers; i++)
        guard_destroy(&c->buffer[i]);
    for (int i = 0; i < RFN_MLA_SOURCES; i++)
        free(c->full[i]);
    c->buffers = 0;
}
