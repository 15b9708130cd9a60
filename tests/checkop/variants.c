/*
 * Cases on a device: every guarded buffer has a mirror in device memory, bands included; the
 * op goes through the public front end, launched or captured once and replayed.
 *
 * Each run opens a device of its own, so that a fault record is that of the run.
 */
#include "tests/checkop/checkop.h"

#include <stdlib.h>
#include <string.h>

/* Seeds that are tried for a case of the same shape with other contents. */
#define OTHER_SEEDS 8

struct place
{
    struct ck_case *c; /* gets the reason of a failure */
    struct rfn_device *device;
    struct rfn_stream *stream;
    struct rfn_graph *graph;
    struct rfn_exec *exec;
    void *mirror[CK_BUFFERS];
    unsigned char args[sizeof(((struct ck_case *)0)->args)]; /* pointers into mirrors */
    enum rfn_status status; /* the first that was not RFN_OK; nothing is done after it */
};

static int must(struct place *p, enum rfn_status status, const char *call)
{
    if (p->status != RFN_OK || status == RFN_OK)
        return p->status == RFN_OK;
    p->status = status;
    ck_fail(p->c, "%s: %s: %s", call, rfn_status_name(status), rfn_last_error());
    return 0;
}
/* Nothing after the first failure, and its words stay. */
#define MUST(p, call) must((p), (p)->status ? (p)->status : (call), #call)

static int wrong(struct place *p, int ok)
{
    if (!ok && p->status == RFN_OK)
        p->status = RFN_CORRUPT;
    return !ok;
}

static enum rfn_status open_device(const struct ck_variant *v, int threads, int check,
                                   struct rfn_device **ret)
{
    struct rfn_device_desc desc = {
        .kind = v->device,
        .check = v->device == RFN_DEVICE_HOST || check,
        .threads = threads,
        .reserve_bytes = 4ll << 30,
    };
    return rfn_device_open(&desc, ret);
}

enum rfn_status ck_say_device(const struct ck_variant *v)
{
    struct rfn_device *device = NULL;
    struct rfn_device_info info;
    enum rfn_status status = open_device(v, 1, 1, &device);
    if (status != RFN_OK)
        return status;
    status = rfn_device_query(device, &info);
    if (status == RFN_OK)
        printf("%s: %s, sm_%d, %d SMs\n", v->name, info.name, info.sm_arch,
               info.sm_count);
    enum rfn_status closed = rfn_device_close(&device);
    return status != RFN_OK ? status : closed;
}

/* ---- pointers ------------------------------------------------------------------------ */

static void **data_of(const struct rfn_op *op, uint32_t i, void *args)
{
    const struct rfn_operand *o = &op->operand[i];
    char *view = (char *)args + o->offset;
    return o->kind == RFN_OPERAND_POOL ? &((struct rfn_pool *)view)->data
                                       : &((struct rfn_tensor *)view)->data;
}

/* The case's arguments with every pointer moved from its buffer to what `base` gives for the
 * buffer: a mirror, or a number of its own where there are none. */
static void move(const struct ck_case *c, void *const mirror[], void *ret)
{
    memcpy(ret, &c->args, sizeof c->args);
    for (uint32_t i = 0; i < c->op->operands; i++)
    {
        void **data = data_of(c->op, i, ret);
        const unsigned char *at = *data;
        for (int b = 0; at && b < c->buffers; b++)
        {
            const struct guard *g = &c->buffer[b];
            if (at < g->data || at > g->data + g->bytes)
                continue;
            uintptr_t to = mirror ? (uintptr_t)mirror[b] : (uintptr_t)(b + 1) << 40;
            *data = (void *)(to + (uintptr_t)(at - g->base)); /* NOLINT */
            break;
        }
    }
}

/* Whether a launch of one case is good for the contents of the other. */
static int same_shape(const struct ck_case *a, const struct ck_case *b)
{
    unsigned char one[sizeof a->args], two[sizeof b->args];
    if (a->buffers != b->buffers)
        return 0;
    for (int i = 0; i < a->buffers; i++)
        if (a->buffer[i].bytes != b->buffer[i].bytes)
            return 0;
    move(a, NULL, one);
    move(b, NULL, two);
    return memcmp(one, two, a->op->args_bytes) == 0;
}

/* Builds another case of this shape; 0 when its shapes depend on the seed too much. */
static int build_other(const struct ck_case *c, struct ck_case *ret)
{
    for (uint64_t i = 1; i <= OTHER_SEEDS; i++)
    {
        ck_build(ret, c->spec, c->seed + i * 1000003);
        if (same_shape(c, ret))
            return 1;
        ck_destroy(ret);
    }
    return 0;
}

/* ---- there and back ------------------------------------------------------------------- */

/* The contents of a case as it was built; of another of the same shape, too. */
static void upload(struct place *p, const struct ck_case *from)
{
    for (int i = 0; i < from->buffers; i++)
        MUST(p, rfn_copy_sync(p->device, p->mirror[i], from->buffer[i].kept,
                              (int64_t)guard_whole(&from->buffer[i])));
    /* A copy from pageable memory may return before the bytes have arrived. */
    MUST(p, rfn_device_sync(p->device));
}

/* Lengths, slots, requests and live counts of 0; the bands stay as they are. */
static void upload_zeros(struct place *p)
{
    upload(p, p->c);
    for (int i = 0; i < p->c->buffers; i++)
        if (p->c->buffer[i].bytes)
            MUST(p, rfn_set_sync(p->device, (char *)p->mirror[i] + GUARD_BYTES, 0,
                                 (int64_t)p->c->buffer[i].bytes));
    MUST(p, rfn_device_sync(p->device));
}

static void download(struct place *p, struct ck_case *to)
{
    MUST(p, rfn_stream_sync(p->stream));
    for (int i = 0; i < to->buffers; i++)
        MUST(p, rfn_copy_sync(p->device, to->buffer[i].base, p->mirror[i],
                              (int64_t)guard_whole(&to->buffer[i])));
}

/* The mirrors hold the same bytes as the case's buffers, bands too, or in the bands only. */
static void compare(struct place *p, int bands_only, const char *what)
{
    MUST(p, rfn_stream_sync(p->stream));
    for (int i = 0; i < p->c->buffers && p->status == RFN_OK; i++)
    {
        const struct guard *g = &p->c->buffer[i];
        size_t whole = guard_whole(g), behind = GUARD_BYTES + g->bytes;
        unsigned char *is = malloc(whole);
        if (wrong(p, is || ck_fail(p->c, "no memory for %zu bytes", whole)))
            return;
        int got = MUST(p, rfn_copy_sync(p->device, is, p->mirror[i], (int64_t)whole));
        if (got && bands_only)
            memcpy(is + GUARD_BYTES, g->base + GUARD_BYTES, behind - GUARD_BYTES);
        for (size_t b = 0; got && b < whole; b++)
            if (is[b] != g->base[b])
                got = !wrong(p, ck_fail(p->c,
                                        "%s: buffer %d of %zu bytes: byte %td is 0x%02x, "
                                        "but was 0x%02x",
                                        what, i, g->bytes, (ptrdiff_t)b - GUARD_BYTES,
                                        is[b], g->base[b]));
        free(is);
    }
}

static struct rfn_fault fault_of(struct place *p)
{
    struct rfn_fault fault = { 0 };
    if (MUST(p, rfn_stream_sync(p->stream)))
        MUST(p, rfn_device_fault(p->device, &fault));
    return fault;
}

/* ---- a run ---------------------------------------------------------------------------- */

static void place_open(struct place *p, const struct ck_variant *v, int threads,
                       int check)
{
    MUST(p, open_device(v, threads, check, &p->device));
    MUST(p, rfn_stream_create(p->device, RFN_STREAM_NONBLOCKING, &p->stream));
    for (int i = 0; i < p->c->buffers; i++)
        MUST(p, rfn_memory_alloc(p->device, RFN_MEMORY_DEVICE,
                                 (int64_t)guard_whole(&p->c->buffer[i]), &p->mirror[i]));
    if (p->status == RFN_OK)
        move(p->c, p->mirror, p->args);
}

/* Everything goes whatever happened; what cannot go is a failure too. */
static void place_close(struct place *p)
{
    if (p->exec)
        must(p, rfn_exec_destroy(&p->exec), "rfn_exec_destroy");
    if (p->graph)
        must(p, rfn_graph_destroy(&p->graph), "rfn_graph_destroy");
    for (int i = 0; i < p->c->buffers; i++)
        if (p->mirror[i])
            must(p, rfn_memory_free(p->device, p->mirror[i]), "rfn_memory_free");
    if (p->stream)
        must(p, rfn_stream_destroy(&p->stream), "rfn_stream_destroy");
    if (p->device)
        must(p, rfn_device_close(&p->device), "rfn_device_close");
}

static void capture(struct place *p)
{
    if (!MUST(p, rfn_capture_begin(p->stream, NULL)))
        return;
    MUST(p, rfn_op_launch(p->stream, p->c->op, p->args));
    enum rfn_status ended = rfn_capture_end(p->stream, &p->graph);
    if (p->status == RFN_OK)
        must(p, ended, "rfn_capture_end");
    MUST(p, rfn_graph_instantiate(p->graph, &p->exec));
}

static void replay(struct place *p)
{
    MUST(p, rfn_exec_launch(p->exec, p->stream));
}

/* The same executable over other lengths, indices and values; verified like any case. */
static void replay_other(struct place *p, const struct ck_variant *v,
                         struct ck_case *other, const struct rfn_fault *before)
{
    upload(p, other);
    replay(p);
    download(p, other);
    struct rfn_fault fault = fault_of(p);
    fault.count -= before->count;
    if (!fault.count)
        fault.op = NULL;
    other->counted = 1; /* which was first was said of the replay before this one */
    double tolerance = v->tolerance > 0 ? v->tolerance : other->op->tolerance;
    if (p->status == RFN_OK && !other->spec->verify(other, &fault, tolerance))
        wrong(p, ck_fail(p->c, "replayed with other contents: %.200s", other->reason));
}

/* Captured over other contents than it is replayed with first. In check mode it is then
 * replayed over those, and again over the case's own, which must give the same bits. */
static void run_graph(struct place *p, const struct ck_variant *v,
                      struct rfn_fault *fault)
{
    struct ck_case other;
    int changed = fault && build_other(p->c, &other);
    if (changed)
        upload(p, &other);
    else
        upload_zeros(p);
    capture(p);
    upload(p, p->c);
    replay(p);
    download(p, p->c);
    if (fault)
    {
        *fault = fault_of(p);
        if (changed)
            replay_other(p, v, &other, fault);
        else
        {
            upload_zeros(p);
            replay(p);
            compare(p, 1, "replayed with lengths of 0");
        }
        upload(p, p->c);
        replay(p);
        compare(p, 0, "replayed after other contents");
    }
    if (changed)
        ck_destroy(&other);
}

enum rfn_status ck_run_device(const struct ck_variant *v, struct ck_case *c, int threads,
                              struct rfn_fault *fault)
{
    struct place p = { .c = c };
    place_open(&p, v, threads, fault != NULL);
    if (v->graph && p.status == RFN_OK)
        run_graph(&p, v, fault);
    else if (p.status == RFN_OK)
    {
        upload(&p, c);
        MUST(&p, rfn_op_launch(p.stream, c->op, p.args));
        download(&p, c);
        if (fault)
            *fault = fault_of(&p);
    }
    place_close(&p);
    return p.status;
}
