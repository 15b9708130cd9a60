/* What cuda_logits.c checks and times: both kernels, shapes and their contents. */
#ifndef TEST_DEVICE_CUDA_LOGITS_H
#define TEST_DEVICE_CUDA_LOGITS_H

#include "tests/device/cuda_buffer.h"

#include <refrain/device.h>
#include <refrain/ops.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DIM 128
#define POISON 0x5e
#define PAD 3 /* f32 between rows of logits: they begin on any 4-byte boundary */

static uint64_t base_seed = 1;

/* ---- the two kernels -------------------------------------------------------------- */

/* Plans as on a GPU that has nothing newer than sm_80. */
static enum rfn_status plan_portable(const void *args, const struct rfn_plan_env *env,
                                     struct rfn_launch *ret)
{
    struct rfn_plan_env less = *env;
    less.sm_arch = 80;
    return rfn_op_index_logits.cuda(args, &less, ret);
}

static const char *const path_name[2] = { "own", "portable" };
static struct rfn_op path_op[2]; /* what the device's GPU gets, and the portable kernel */
static int path;                 /* that is launched */

static void paths_begin(void)
{
    path_op[0] = path_op[1] = rfn_op_index_logits;
    path_op[1].cuda = plan_portable;
}

static enum rfn_status launch_path(const struct rfn_index_logits_args *a)
{
    return rfn_op_launch(stream, &path_op[path], a);
}

/* ---- one shape ------------------------------------------------------------------- */

struct config
{
    int64_t R;
    int64_t next_n; /* rows = R * next_n */
    int64_t H;
    int64_t S;
    int64_t P;
    int64_t longest; /* of the lengths; more is what host twin and time allow */
    int spread;      /* strides beyond the dense ones */
    int aligned;     /* rows of logits begin at multiples of 16 bytes */
};

struct shape
{
    struct config c;
    int64_t T, W, pages;
    int64_t q_head, q_row, w_row, table_row, page_bytes, logits_row;
    struct buffer q8, w8, pool, table, request, lens, live, logits;
};

#define BUFFERS 8
static void all_of(struct shape *s, struct buffer *ret[BUFFERS])
{
    struct buffer *all[BUFFERS] = { &s->q8,      &s->w8,   &s->pool, &s->table,
                                    &s->request, &s->lens, &s->live, &s->logits };
    memcpy(ret, all, sizeof all);
}

static struct shape shape_of(const struct config *c)
{
    struct shape s = { .c = *c, .T = c->R * c->next_n };
    int64_t more = c->spread;
    s.W = (c->S + c->P - 1) / c->P;
    s.pages = c->R * ((c->longest + c->P - 1) / c->P) + 3;
    s.q_head = DIM + 16 * more;
    s.q_row = c->H * s.q_head + 32 * more;
    s.w_row = c->H + more;
    s.table_row = s.W + more;
    s.page_bytes = (c->P * 132 + 15) / 16 * 16 + 16 * more;
    s.logits_row = c->S + (c->aligned ? 0 : PAD);
    s.q8 = buffer_of(s.T * s.q_row);
    s.w8 = buffer_of(4 * s.T * s.w_row);
    s.pool = buffer_of(s.pages * s.page_bytes);
    s.table = buffer_of(4 * c->R * s.table_row);
    s.request = buffer_of(4 * s.T);
    s.lens = buffer_of(4 * s.T);
    s.live = buffer_of(4);
    s.logits = buffer_of(4 * s.T * s.logits_row);
    return s;
}

static void shape_free(struct shape *s)
{
    struct buffer *all[BUFFERS];
    all_of(s, all);
    for (int i = 0; i < BUFFERS; i++)
        buffer_free(all[i]);
}

static struct rfn_tensor view(void *data, enum rfn_dtype dtype, int64_t rows,
                              int64_t width, int64_t stride)
{
    struct rfn_tensor v = rfn_tensor_of(data, dtype, rows, width, 0, 0);
    if (width)
        v.stride[0] = stride;
    return v;
}

/* Rows [t, t + rows). */
static struct rfn_index_logits_args args_of(const struct shape *s, int on_device,
                                            int64_t t, int64_t rows, int live)
{
#define SIDE(b) ((char *)(on_device ? s->b.device : s->b.host))
    struct rfn_index_logits_args a = {
        .q8 = rfn_tensor_of(SIDE(q8) + t * s->q_row, RFN_E4M3, rows, s->c.H, DIM, 0),
        .w8 = view(SIDE(w8) + 4 * t * s->w_row, RFN_F32, rows, s->c.H, s->w_row),
        .pool = { .data = SIDE(pool),
                  .format = RFN_INDEX_FP8_132,
                  .page_tokens = (int32_t)s->c.P,
                  .pages = s->pages,
                  .page_stride_bytes = s->page_bytes },
        .table = view(SIDE(table), RFN_I32, s->c.R, s->W, s->table_row),
        .request = view(SIDE(request) + 4 * t, RFN_I32, rows, 0, 0),
        .lens = view(SIDE(lens) + 4 * t, RFN_I32, rows, 0, 0),
        .logits = view(SIDE(logits) + 4 * t * s->logits_row, RFN_F32, rows, s->c.S,
                       s->logits_row),
    };
    a.q8.stride[0] = s->q_row;
    a.q8.stride[1] = s->q_head;
    if (live)
        a.live = view(SIDE(live), RFN_I32, 1, 0, 0);
    return a;
#undef SIDE
}

static void upload_all(struct shape *s)
{
    struct buffer *all[BUFFERS];
    all_of(s, all);
    memset(s->logits.host, POISON, (size_t)s->logits.bytes);
    for (int i = 0; i < BUFFERS; i++)
        upload(all[i]);
    /* A copy from pageable memory may return before the bytes have arrived. */
    MUST(rfn_device_sync(device));
}

#endif
