/*
 * A caller's whole step in a graph: a record callback with the caller's own ops around the
 * attention, the same callback run eagerly, and a checker that looks on.
 */
#include "tests/device/ladder.h"

/* ---- a model of two layers -------------------------------------------------------- */

struct embed_args
{
    struct rfn_tensor tokens; /* [T] i32 */
    struct rfn_tensor out;    /* [T, D] bf16 */
};

/* Between 1/2 and 2 or the negatives. */
static uint16_t mixed(uint32_t x)
{
    x = (x ^ (x >> 15)) * 0x2c1b3c6du;
    x = (x ^ (x >> 12)) * 0x297a2d39u;
    return (uint16_t)(0x3f00 + ((x >> 8) & 0xff) + ((x & 1) << 15));
}

static void embed_host(const void *v, const struct rfn_host_env *env)
{
    const struct embed_args *a = v;
    const int32_t *token = a->tokens.data;
    (void)env;
    for (int64_t t = 0; t < a->out.shape[0]; t++)
        for (int64_t d = 0; d < a->out.shape[1]; d++)
            ((uint16_t *)a->out.data)[t * a->out.stride[0] + d] =
                mixed((uint32_t)token[t] * 7919u + (uint32_t)d);
}

static const struct rfn_operand embed_operand[] = {
    { "tokens", offsetof(struct embed_args, tokens), RFN_OPERAND_TENSOR, RFN_READ, 0,
      RFN_DTYPE_BIT(RFN_I32), "T", 0 },
    { "out", offsetof(struct embed_args, out), RFN_OPERAND_TENSOR, RFN_WRITE, 0,
      RFN_DTYPE_BIT(RFN_BF16), "T,D", 0 },
};

static const struct rfn_op embed = {
    .name = "test_embed",
    .args_bytes = sizeof(struct embed_args),
    .operand = embed_operand,
    .operands = 2,
    .host = embed_host,
};

/* Layer to layer: out[t][d] = in[t][d mod N], as raw bits put through the same mixer. */
struct carry_args
{
    struct rfn_tensor in;  /* [T, N] bf16 */
    struct rfn_tensor out; /* [T, D] bf16 */
};

static void carry_host(const void *v, const struct rfn_host_env *env)
{
    const struct carry_args *a = v;
    (void)env;
    for (int64_t t = 0; t < a->out.shape[0]; t++)
        for (int64_t d = 0; d < a->out.shape[1]; d++)
        {
            const uint16_t *in = (const uint16_t *)a->in.data + t * a->in.stride[0];
            ((uint16_t *)a->out.data)[t * a->out.stride[0] + d] =
                mixed(in[d % a->in.shape[1]] + (uint32_t)(d / a->in.shape[1]));
        }
}

static const struct rfn_operand carry_operand[] = {
    { "in", offsetof(struct carry_args, in), RFN_OPERAND_TENSOR, RFN_READ, 0,
      RFN_DTYPE_BIT(RFN_BF16), "T,N", 0 },
    { "out", offsetof(struct carry_args, out), RFN_OPERAND_TENSOR, RFN_WRITE, 0,
      RFN_DTYPE_BIT(RFN_BF16), "T,D", 0 },
};

static const struct rfn_op carry = {
    .name = "test_carry",
    .args_bytes = sizeof(struct carry_args),
    .operand = carry_operand,
    .operands = 2,
    .host = carry_host,
};

/* The first rows of [T, ...] as [rows, everything else]. */
static struct rfn_tensor flat(const struct rfn_tensor *x, int64_t rows)
{
    int64_t width = 1;
    for (int i = 1; i < x->dims; i++)
        width *= x->shape[i];
    return rfn_tensor_of(x->data, x->dtype, rows, width, 0, 0);
}

struct model
{
    struct world *w;
    int32_t *tokens; /* device, [T] */
    int wrong;       /* copies synchronously in the capture */
    int line;        /* of that */
};

static enum rfn_status whole_step(void *ctx, struct rfn_stream *stream,
                                  const struct rfn_bucket *bucket)
{
    struct model *m = ctx;
    struct world *w = m->w;
    int64_t rows = (int64_t)bucket->requests * bucket->next_n;
    struct embed_args e = {
        .tokens = rfn_tensor_of(m->tokens, RFN_I32, rows, 0, 0, 0),
        .out = flat(&w->io[0].q, rows),
    };
    enum rfn_status status = rfn_op_launch(stream, &embed, &e);
    e.out = flat(&w->io[0].kv, rows);
    if (!status)
        status = rfn_op_launch(stream, &embed, &e);
    if (!status)
        status = rfn_attention_update(w->attention, stream, bucket);
    if (m->wrong)
    {
        int32_t token;
        m->line = __LINE__ + 1;
        rfn_copy_sync(w->t->dev, &token, m->tokens, sizeof token);
    }
    for (int i = 0; !status && i < LAYERS; i++)
    {
        struct carry_args c = { flat(&w->io[i].out, rows), flat(&w->io[1].q, rows) };
        status = rfn_attention_forward(w->attention, stream, i, bucket);
        if (!status && i == 0)
            status = rfn_op_launch(stream, &carry, &c);
        c.out = flat(&w->io[1].kv, rows);
        if (!status && i == 0)
            status = rfn_op_launch(stream, &carry, &c);
    }
    return status;
}

/* ---- tests ------------------------------------------------------------------------ */

#define ROWS (REQUESTS * 2)

static void whole_steps_replay_as_they_run_eagerly(struct world *w, struct model *m)
{
    struct test *t = w->t;
    struct rfn_ladder_desc desc = { .record = whole_step, .ctx = m };
    struct rfn_ladder *ladder = ladder_of(w, &desc);
    struct rfn_stream *stream = test_stream(t, RFN_STREAM_NONBLOCKING);
    int32_t *pinned = test_alloc(t, RFN_MEMORY_PINNED, ROWS * 4);
    struct plan p;
    for (int i = 0; i < 6; i++)
    {
        enum length length = i & 1 ? LONG : SHORT;
        struct rfn_replay_info info = { 0 };
        struct rfn_bucket planned;
        plan_make(w, &p, (int32_t)rng_between(&w->rng, 1, REQUESTS), length, 2);
        for (int r = 0; r < ROWS; r++)
            pinned[r] = (int32_t)rng_below(&w->rng, 129280);
        OK(t, rfn_ladder_prepare(ladder, p.step.requests, length == SHORT));
        world_reset(w);
        OK(t, rfn_copy_async(stream, m->tokens, pinned, ROWS * 4));
        OK(t, rfn_ladder_replay(ladder, stream, &p.step, &info));
        OK(t, rfn_stream_sync(stream));
        unsigned char *replayed = snapshot(w);
        world_reset(w);
        OK(t, rfn_attention_plan(w->attention, stream, &p.step, &planned));
        OK(t, whole_step(m, stream, &info.bucket));
        OK(t, rfn_stream_sync(stream));
        unsigned char *eager = snapshot(w);
        HOLDS(t, memcmp(replayed, eager,
                        (size_t)(w->pools_bytes + LAYERS * w->out_bytes)) == 0);
        free(replayed);
        free(eager);
    }
    OK(t, rfn_ladder_destroy(&ladder));
    OK(t, rfn_memory_free(t->dev, pinned));
    OK(t, rfn_stream_destroy(&stream));
}

static void a_checker_sees_the_captures_of_a_ladder(struct world *w, struct model *m)
{
    struct test *t = w->t;
    struct rfn_ladder_desc desc = { .record = whole_step, .ctx = m };
    struct rfn_check *check = NULL;
    struct rfn_stream *stream = test_stream(t, RFN_STREAM_NONBLOCKING);
    struct rfn_finding finding;
    struct rfn_ledger_entry entry;
    struct plan p;
    plan_make(w, &p, 2, LONG, 2);
    OK(t, rfn_check_create(t->dev, &check));
    struct rfn_ladder *ladder = ladder_of(w, &desc), *plain = ladder_of(w, NULL);
    OK(t, rfn_ladder_prepare(ladder, 2, 0));
    OK(t, rfn_ladder_prepare(plain, 2, 1));
    OK(t, rfn_ladder_replay(ladder, stream, &p.step, NULL));
    OK(t, rfn_stream_sync(stream));
    HOLDS(t, rfn_check_count(check) == 0);

    m->wrong = 1;
    OK(t, rfn_ladder_prepare(ladder, 4, 1)); /* silent, but for the checker */
    m->wrong = 0;
    HOLDS(t, rfn_check_count(check) >= 1);
    OK(t, rfn_check_finding(check, 0, &finding));
    HOLDS(t, finding.rule == RFN_CAP002 && finding.line == m->line &&
                 strstr(finding.file, "ladder_record.c"));
    HOLDS(t, strstr(finding.why, "bucket 4x2 short") != NULL);
    HOLDS(t, strstr(finding.why, "thread-local") != NULL);
    /* Two embeddings, the update, layer 0, ..., with the callback's lines. */
    HOLDS(t, rfn_check_ledger_count(check, finding.capture_id) >= 5 + 2 * LAYERS);
    OK(t, rfn_check_ledger(check, finding.capture_id, 0, &entry, NULL, 0));
    HOLDS(t, strcmp(entry.what, "test_embed") == 0);
    OK(t, rfn_check_ledger(check, finding.capture_id, 2, &entry, NULL, 0));
    HOLDS(t, strcmp(entry.what, "step_update") == 0 &&
                 strstr(entry.file, "ladder_record.c"));
    OK(t, rfn_ladder_destroy(&ladder));
    OK(t, rfn_ladder_destroy(&plain));
    OK(t, rfn_stream_destroy(&stream));
    OK(t, rfn_check_destroy(&check));
}

int main(int argc, char **argv)
{
    struct test t;
    struct world w;
    test_begin(&t, "ladder_record", &argc, argv);
    if (!t.host)
        return test_skip(&t, "whole steps", "the ops of this test have no CUDA twin");
    OK(&t, rfn_op_register(&embed));
    OK(&t, rfn_op_register(&carry));
    world_open(&w, &t, REQUESTS, 2);
    struct model m = { .w = &w, .tokens = test_device_memory(&t, ROWS * 4) };
    whole_steps_replay_as_they_run_eagerly(&w, &m);
    a_checker_sees_the_captures_of_a_ladder(&w, &m);
    world_close(&w);
    FREE(&t, m.tokens);
    return test_end(&t);
}
