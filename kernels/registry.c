/* The table of ops, and everything that is read off an op's own tables: the generic check
 * of arguments and the byte range of an operand. */
#include "kernels/op.h"

#include <ctype.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OPS_MAX 256
#define NAME_MAX_BYTES 64

static const struct rfn_op *const own_ops[] = {
#define RFN_OP(name) &rfn_op_##name,
#include "kernels/ops.def"
#undef RFN_OP
};
#define OWN_OPS ((uint32_t)RFN_COUNT(own_ops))

/* Readers take no lock: an entry is written before the count that covers it. */
static const struct rfn_op *more_ops[OPS_MAX];
static _Atomic uint32_t more_count;
static pthread_mutex_t more_lock = PTHREAD_MUTEX_INITIALIZER;

/* ---- faults ------------------------------------------------------------------------ */

static atomic_flag fault_lock = ATOMIC_FLAG_INIT;

void rfn_fault_note(struct rfn_fault *seen, const char *op, const char *operand,
                    int64_t row, int64_t column, int64_t value)
{
    if (!seen)
        return;
    while (atomic_flag_test_and_set_explicit(&fault_lock, memory_order_acquire))
        ;
    int64_t count = seen->count + 1;
    /* One thread has the whole of a row, and goes through it in order. */
    int later = seen->op && row >= seen->row;
    if (!later)
        *seen = (struct rfn_fault) { op, operand, row, column, value, 0 };
    seen->count = count;
    atomic_flag_clear_explicit(&fault_lock, memory_order_release);
}

void rfn_fault_merge(struct rfn_fault *fault, const struct rfn_fault *seen)
{
    if (!fault || !seen->count)
        return;
    int64_t count = fault->count + seen->count;
    if (!fault->op)
        *fault = *seen;
    fault->count = count;
}

size_t rfn_fault_text(const struct rfn_fault *fault, char *text, size_t bytes)
{
    char more[48] = "";
    int n = 0;
    if (bytes)
        text[0] = '\0';
    if (!fault || !fault->op)
        return 0;
    if (fault->count > 1)
        snprintf(more, sizeof more, ", the first of %lld", (long long)fault->count);
    if (strncmp(fault->operand, "bounds.", 7) == 0)
        n = snprintf(text, bytes, "%s: %s is %lld, but the update's header has %lld%s",
                     fault->op, fault->operand, (long long)fault->column,
                     (long long)fault->value, more);
    else
        n = snprintf(text, bytes, "%s: %s [%lld][%lld] = %lld%s", fault->op,
                     fault->operand, (long long)fault->row, (long long)fault->column,
                     (long long)fault->value, more);
    return n < 0 ? 0 : (size_t)n;
}

/* ---- shapes ------------------------------------------------------------------------ */

/* One extent of a shape string: a letter, a number (letter == 0), or '?'. */
struct extent
{
    char letter;
    int64_t number;
};

/* Splits "T,H,64"; returns the dimensions, -1 for a string that is no shape. */
static int parse_shape(const char *shape, struct extent *ret)
{
    int dims = 0;
    for (const char *p = shape; *p;)
    {
        if (dims == RFN_MAX_DIMS)
            return -1;
        struct extent *e = &ret[dims++];
        *e = (struct extent) { 0, 0 };
        if (isdigit((unsigned char)*p))
            for (; isdigit((unsigned char)*p) && e->number < INT32_MAX; p++)
                e->number = e->number * 10 + (*p - '0');
        else if (isalpha((unsigned char)*p) || *p == '?')
            e->letter = *p++;
        else
            return -1;
        if (*p == ',' && p[1])
            p++;
        else if (*p)
            return -1;
    }
    return dims ? dims : -1;
}

static const struct rfn_tensor *tensor_at(const void *args, const struct rfn_operand *o)
{
    return (const struct rfn_tensor *)((const char *)args + o->offset);
}

static const struct rfn_pool *pool_at(const void *args, const struct rfn_operand *o)
{
    return (const struct rfn_pool *)((const char *)args + o->offset);
}

static void *data_at(const void *args, const struct rfn_operand *o)
{
    return o->kind == RFN_OPERAND_POOL ? pool_at(args, o)->data
                                       : tensor_at(args, o)->data;
}

/* Bytes from the first to behind the last element; -1 where 64 bits do not hold them. */
static int64_t tensor_bytes(const struct rfn_tensor *t)
{
    int64_t elems = 1;
    for (int32_t i = 0; i < t->dims; i++)
    {
        int64_t reach;
        if (t->shape[i] <= 0)
            return 0;
        if (t->shape[i] > 1 &&
            (__builtin_mul_overflow(t->shape[i] - 1, t->stride[i], &reach) ||
             __builtin_add_overflow(elems, reach, &elems)))
            return -1;
    }
    int64_t bytes;
    return __builtin_mul_overflow(elems, (int64_t)rfn_dtype_bytes(t->dtype), &bytes)
               ? -1
               : bytes;
}

static int64_t pool_bytes(const struct rfn_pool *pool)
{
    int64_t page = rfn_format_page_bytes(pool->format, pool->page_tokens), reach, bytes;
    if (pool->pages <= 0 || page == 0)
        return 0;
    if (__builtin_mul_overflow(pool->pages - 1, rfn_pool_stride(pool), &reach) ||
        __builtin_add_overflow(reach, page, &bytes))
        return -1;
    return bytes;
}

/* ---- registering and finding ------------------------------------------------------- */

static enum rfn_status check_operand_row(const struct rfn_op *op,
                                         const struct rfn_operand *o)
{
    struct extent extent[RFN_MAX_DIMS];
    if (!o->name || !*o->name)
        return RFN_FAIL(RFN_INVALID, "op %s: an operand without a name", op->name);
    if (o->kind != RFN_OPERAND_TENSOR && o->kind != RFN_OPERAND_POOL)
        return RFN_FAIL(RFN_INVALID, "op %s: operand %s has kind %d", op->name, o->name,
                        (int)o->kind);
    size_t view =
        o->kind == RFN_OPERAND_POOL ? sizeof(struct rfn_pool) : sizeof(struct rfn_tensor);
    if (o->offset + view > op->args_bytes)
        return RFN_FAIL(RFN_INVALID,
                        "op %s: operand %s ends at byte %zu, but args_bytes = %u",
                        op->name, o->name, o->offset + view, op->args_bytes);
    if (o->offset % _Alignof(struct rfn_tensor))
        return RFN_FAIL(RFN_INVALID, "op %s: operand %s at byte %u, no multiple of %zu",
                        op->name, o->name, o->offset, _Alignof(struct rfn_tensor));
    if (o->access < RFN_READ || o->access > RFN_READ_WRITE)
        return RFN_FAIL(RFN_INVALID, "op %s: operand %s has access %d", op->name, o->name,
                        (int)o->access);
    uint32_t known =
        (1u << (o->kind == RFN_OPERAND_POOL ? (int)RFN_FORMATS : (int)RFN_DTYPES)) - 2;
    if (!o->dtypes || (o->dtypes & ~known))
        return RFN_FAIL(RFN_INVALID,
                        "op %s: operand %s takes dtypes 0x%x, but known are 0x%x",
                        op->name, o->name, o->dtypes, known);
    if (o->align & (o->align - 1))
        return RFN_FAIL(RFN_INVALID, "op %s: operand %s aligned to %u, no power of two",
                        op->name, o->name, o->align);
    if (o->kind == RFN_OPERAND_POOL ? o->shape != NULL
                                    : !o->shape || parse_shape(o->shape, extent) < 0)
        return RFN_FAIL(RFN_INVALID, "op %s: operand %s has shape \"%s\", but %s",
                        op->name, o->name, o->shape ? o->shape : "(null)",
                        o->kind == RFN_OPERAND_POOL
                            ? "a pool has none"
                            : "1 to 4 letters, numbers or ? are needed");
    return RFN_OK;
}

static int is_own(const struct rfn_op *op)
{
    for (size_t i = 0; i < RFN_COUNT(own_ops); i++)
        if (own_ops[i] == op)
            return 1;
    return 0;
}

static enum rfn_status check_tables(const struct rfn_op *op)
{
    if (!op)
        return RFN_FAIL(RFN_INVALID, "op: NULL");
    if (!op->name || !*op->name || strlen(op->name) >= NAME_MAX_BYTES)
        return RFN_FAIL(RFN_INVALID, "op: a name of 1 .. %d bytes is needed",
                        NAME_MAX_BYTES - 1);
    if (!op->host && !op->cuda)
        return RFN_FAIL(RFN_INVALID, "op %s: neither a host nor a CUDA twin", op->name);
    if (op->operands > RFN_MAX_OPERANDS)
        return RFN_FAIL(RFN_LIMIT, "op %s: %u operands, and %d is the most", op->name,
                        op->operands, RFN_MAX_OPERANDS);
    if ((op->operands && !op->operand) || (op->scalars && !op->scalar))
        return RFN_FAIL(RFN_INVALID,
                        "op %s: %u operands and %u scalars, but a table is NULL",
                        op->name, op->operands, op->scalars);
    for (uint32_t i = 0; i < op->operands; i++)
    {
        enum rfn_status status = check_operand_row(op, &op->operand[i]);
        if (status != RFN_OK)
            return status;
        for (uint32_t j = 0; j < i; j++)
            if (strcmp(op->operand[i].name, op->operand[j].name) == 0)
                return RFN_FAIL(RFN_INVALID,
                                "op %s: operands %u and %u are both named %s", op->name,
                                j, i, op->operand[i].name);
    }
    for (uint32_t i = 0; i < op->scalars; i++)
    {
        const struct rfn_scalar *s = &op->scalar[i];
        if (!s->name || !*s->name || !s->bytes)
            return RFN_FAIL(RFN_INVALID, "op %s: scalar %u has no name or no bytes",
                            op->name, i);
        if ((uint64_t)s->offset + s->bytes > op->args_bytes)
            return RFN_FAIL(RFN_INVALID,
                            "op %s: scalar %s ends at byte %llu, but args_bytes = %u",
                            op->name, s->name, (unsigned long long)s->offset + s->bytes,
                            op->args_bytes);
    }
    return RFN_OK;
}

const struct rfn_op *rfn_op_at(uint32_t i)
{
    if (i < OWN_OPS)
        return own_ops[i];
    i -= OWN_OPS;
    return i < atomic_load_explicit(&more_count, memory_order_acquire) ? more_ops[i]
                                                                       : NULL;
}

static const struct rfn_op *find(const char *name)
{
    const struct rfn_op *op;
    for (uint32_t i = 0; (op = rfn_op_at(i)); i++)
        if (strcmp(op->name, name) == 0)
            return op;
    return NULL;
}

static enum rfn_status add_locked(const struct rfn_op *op)
{
    const struct rfn_op *same = find(op->name);
    if (same == op)
        return RFN_OK;
    if (same)
        return RFN_FAIL(RFN_INVALID, "op %s: the name is taken by another op", op->name);
    uint32_t n = atomic_load_explicit(&more_count, memory_order_relaxed);
    if (OWN_OPS + n >= OPS_MAX)
        return RFN_FAIL(RFN_LIMIT, "op %s: %u ops are known, and %d is the most",
                        op->name, OWN_OPS + n, OPS_MAX);
    more_ops[n] = op;
    atomic_store_explicit(&more_count, n + 1, memory_order_release);
    return RFN_OK;
}

enum rfn_status rfn_op_register(const struct rfn_op *op)
{
    enum rfn_status status = check_tables(op);
    if (status != RFN_OK)
        return status;
    pthread_mutex_lock(&more_lock);
    status = add_locked(op);
    pthread_mutex_unlock(&more_lock);
    return status;
}

int rfn_name_distance(const char *a, const char *b)
{
    int row[NAME_MAX_BYTES + 1], m = (int)strlen(b);
    m = m < NAME_MAX_BYTES ? m : NAME_MAX_BYTES;
    for (int j = 0; j <= m; j++)
        row[j] = j;
    for (int i = 1; i <= 2 * NAME_MAX_BYTES && a[i - 1]; i++)
    {
        int diagonal = row[0];
        row[0] = i;
        for (int j = 1; j <= m; j++)
        {
            int best = diagonal + (a[i - 1] != b[j - 1]);
            best = best < row[j] + 1 ? best : row[j] + 1;
            best = best < row[j - 1] + 1 ? best : row[j - 1] + 1;
            diagonal = row[j];
            row[j] = best;
        }
    }
    return row[m];
}

enum rfn_status rfn_op_find(const char *name, const struct rfn_op **ret_op)
{
    if (!name || !ret_op)
        return RFN_FAIL(RFN_INVALID, "%s: NULL", name ? "ret_op" : "name");
    const struct rfn_op *op = find(name), *nearest = NULL;
    if (op)
    {
        *ret_op = op;
        return RFN_OK;
    }
    int least = INT32_MAX;
    for (uint32_t i = 0; (op = rfn_op_at(i)); i++)
    {
        int d = rfn_name_distance(name, op->name);
        if (d < least)
        {
            least = d;
            nearest = op;
        }
    }
    return RFN_FAIL(RFN_NOT_FOUND, "op %.64s: not known; the nearest is %s", name,
                    nearest ? nearest->name : "none");
}

/* ---- checking arguments ------------------------------------------------------------ */

/* What a letter of the op's shapes stands for in these arguments, and who said so. */
struct letters
{
    int64_t value[128];
    const char *by[128];
};

static enum rfn_status check_alignment(const struct rfn_operand *o, const void *data,
                                       uint32_t align)
{
    if ((uintptr_t)data % align)
        return RFN_FAIL(RFN_INVALID, "%s: address %p, but %u-byte alignment is needed",
                        o->name, data, align);
    return RFN_OK;
}

static enum rfn_status check_shape(const struct rfn_operand *o,
                                   const struct rfn_tensor *t, struct letters *letters)
{
    struct extent extent[RFN_MAX_DIMS];
    int dims = parse_shape(o->shape, extent);
    if (t->dims != dims)
        return RFN_FAIL(RFN_INVALID, "%s: %d dimensions, but [%s] has %d", o->name,
                        (int)t->dims, o->shape, dims);
    for (int i = 0; i < dims; i++)
    {
        int letter = extent[i].letter;
        long long n = (long long)t->shape[i];
        if (n < 0)
            return RFN_FAIL(RFN_INVALID,
                            "%s: extent %lld in dimension %d of [%s], below 0", o->name,
                            n, i, o->shape);
        if (letter == '?')
            continue;
        if (!letter && n != extent[i].number)
            return RFN_FAIL(RFN_INVALID,
                            "%s: extent %lld in dimension %d, but [%s] has %lld", o->name,
                            n, i, o->shape, (long long)extent[i].number);
        if (letter && !letters->by[letter])
        {
            letters->by[letter] = o->name;
            letters->value[letter] = n;
        }
        if (letter && letters->value[letter] != n)
            return RFN_FAIL(RFN_INVALID, "%s: %c = %lld, but %s: %c = %lld", o->name,
                            letter, n, letters->by[letter], letter,
                            (long long)letters->value[letter]);
    }
    return RFN_OK;
}

/* Strides: dense inside, no two elements in one place, rows aligned. A dimension of one
 * element has no stride to speak of. */
static enum rfn_status check_strides(const struct rfn_operand *o,
                                     const struct rfn_tensor *t, uint32_t align)
{
    int64_t elem = rfn_dtype_bytes(t->dtype), reach = 1;
    for (int i = 0; i < t->dims; i++)
        if (t->shape[i] == 0)
            return RFN_OK; /* a dense view of no elements has strides of 0 */
    for (int i = t->dims - 1; i >= 0; i--)
    {
        int64_t stride = t->stride[i], add;
        if (t->shape[i] <= 1)
            continue;
        if (i == t->dims - 1 && stride != 1)
            return RFN_FAIL(RFN_INVALID, "%s: inner stride %lld, but 1 is needed",
                            o->name, (long long)stride);
        if (stride < 0)
            return RFN_FAIL(RFN_INVALID, "%s: stride %lld in dimension %d, below 0",
                            o->name, (long long)stride, i);
        if (stride < reach)
            return RFN_FAIL(
                RFN_INVALID,
                "%s: stride %lld in dimension %d overlaps the %lld elements inside",
                o->name, (long long)stride, i, (long long)reach);
        /* Below 2^60 elements nothing overflows that comes after. */
        if (__builtin_mul_overflow(t->shape[i] - 1, stride, &add) ||
            __builtin_add_overflow(reach, add, &reach) || reach >= INT64_MAX / 8)
            return RFN_FAIL(RFN_INVALID,
                            "%s: extent %lld with stride %lld in dimension %d overflows",
                            o->name, (long long)t->shape[i], (long long)stride, i);
        if (i < t->dims - 1 && stride * elem % align)
            return RFN_FAIL(
                RFN_INVALID,
                "%s: rows %lld bytes apart in dimension %d, but a multiple of %u is "
                "needed",
                o->name, (long long)(stride * elem), i, align);
    }
    return RFN_OK;
}

static enum rfn_status check_tensor(const struct rfn_operand *o,
                                    const struct rfn_tensor *t, struct letters *letters)
{
    unsigned dtype = (unsigned)t->dtype;
    if (dtype == RFN_DTYPE_NONE || dtype >= RFN_DTYPES || !(o->dtypes >> dtype & 1u))
    {
        char takes[64] = "";
        for (int d = 1, n = 0; d < RFN_DTYPES; d++)
            if (o->dtypes >> d & 1u)
                n += snprintf(takes + n, sizeof takes - (size_t)n, "%s%s",
                              n ? " or " : "", rfn_dtype_name((enum rfn_dtype)d));
        return RFN_FAIL(RFN_INVALID, "%s: dtype %s, but %s is needed", o->name,
                        rfn_dtype_name(t->dtype), takes);
    }
    enum rfn_status status = check_shape(o, t, letters);
    uint32_t elem = (uint32_t)rfn_dtype_bytes(t->dtype);
    uint32_t align = o->align > elem ? o->align : elem;
    if (status == RFN_OK)
        status = check_strides(o, t, align);
    if (status == RFN_OK)
        status = check_alignment(o, t->data, align);
    return status;
}

static enum rfn_status check_pool(const struct rfn_operand *o,
                                  const struct rfn_pool *pool)
{
    const struct rfn_format_info *info = rfn_format_query(pool->format);
    if (!info || !(o->dtypes >> pool->format & 1u))
    {
        char takes[128] = "";
        for (int f = 1, n = 0; f < RFN_FORMATS; f++)
            if (o->dtypes >> f & 1u)
                n +=
                    snprintf(takes + n, sizeof takes - (size_t)n, "%s%s", n ? " or " : "",
                             rfn_format_query((enum rfn_format)f)->name);
        if (!info)
            return RFN_FAIL(RFN_INVALID, "%s: format %d, but %s is needed", o->name,
                            (int)pool->format, takes);
        return RFN_FAIL(RFN_INVALID, "%s: format %s, but %s is needed", o->name,
                        info->name, takes);
    }
    if (pool->page_tokens < 1)
        return RFN_FAIL(RFN_INVALID, "%s: page_tokens = %d, below 1", o->name,
                        pool->page_tokens);
    if (pool->pages < 1)
        return RFN_FAIL(RFN_INVALID, "%s: pages = %lld, below 1", o->name,
                        (long long)pool->pages);
    long long page = (long long)rfn_format_page_bytes(pool->format, pool->page_tokens);
    long long stride = (long long)rfn_pool_stride(pool);
    if (stride < page)
        return RFN_FAIL(RFN_INVALID, "%s: page stride of %lld bytes, but a page has %lld",
                        o->name, stride, page);
    if (stride % 16 && pool->pages > 1)
        return RFN_FAIL(RFN_INVALID,
                        "%s: page stride of %lld bytes, but a multiple of 16 is needed",
                        o->name, stride);
    int64_t slots;
    if (pool_bytes(pool) < 0 ||
        __builtin_mul_overflow(pool->pages, (int64_t)pool->page_tokens, &slots))
        return RFN_FAIL(RFN_INVALID, "%s: %lld pages of %lld bytes overflow", o->name,
                        (long long)pool->pages, stride);
    return check_alignment(o, pool->data, o->align > 16 ? o->align : 16);
}

static int has_no_elements(const struct rfn_operand *o, const struct rfn_tensor *t)
{
    struct extent extent[RFN_MAX_DIMS];
    int empty = 0, dims = parse_shape(o->shape, extent);
    for (int i = 0; i < dims && t->dims == dims; i++)
        empty |= t->shape[i] == 0;
    return empty;
}

enum rfn_status rfn_op_check(const struct rfn_op *op, const void *args)
{
    if (!op || !args)
        return RFN_FAIL(RFN_INVALID, "%s: NULL", op ? "args" : "op");
    /* An op need not be registered; its tables must hold all the same. */
    enum rfn_status tables = is_own(op) ? RFN_OK : check_tables(op);
    if (tables != RFN_OK)
        return tables;
    struct letters letters = { .by = { NULL } };
    for (uint32_t i = 0; i < op->operands; i++)
    {
        const struct rfn_operand *o = &op->operand[i];
        enum rfn_status status = RFN_OK;
        void *data = data_at(args, o);
        int tensor = o->kind == RFN_OPERAND_TENSOR;
        if (!data && o->optional)
            continue;
        /* A view without elements may come without an address: frameworks do that. */
        if (!data && !(tensor && has_no_elements(o, tensor_at(args, o))))
            return RFN_FAIL(RFN_INVALID, "%s: not given, but %s needs it", o->name,
                            op->name);
        status = tensor ? check_tensor(o, tensor_at(args, o), &letters)
                        : check_pool(o, pool_at(args, o));
        if (status != RFN_OK)
            return status;
        void *begin;
        int64_t bytes;
        rfn_op_extent(op, i, args, &begin, &bytes);
        if (bytes > 0 && (uintptr_t)begin > UINTPTR_MAX - (uintptr_t)bytes)
            return RFN_FAIL(RFN_INVALID, "%s: %lld bytes at %p pass the end of memory",
                            o->name, (long long)bytes, begin);
    }
    return op->check ? op->check(args) : RFN_OK;
}

void rfn_op_extent(const struct rfn_op *op, uint32_t i, const void *args,
                   void **ret_begin, int64_t *ret_bytes)
{
    *ret_begin = NULL;
    *ret_bytes = 0;
    if (!op || !args || i >= op->operands)
        return;
    const struct rfn_operand *o = &op->operand[i];
    void *data = data_at(args, o);
    if (!data)
        return;
    int64_t bytes = o->kind == RFN_OPERAND_POOL ? pool_bytes(pool_at(args, o))
                                                : tensor_bytes(tensor_at(args, o));
    *ret_begin = data;
    *ret_bytes = bytes > 0 ? bytes : 0;
}
