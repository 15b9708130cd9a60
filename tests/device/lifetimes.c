/*
 * Who outlives whom, and what a program that gets it wrong is told: owners destroyed under
 * their users, memory that an executable no longer touches, imports of what is not the
 * caller's, op twins that call back into the device.
 */
#include "tests/device/open.h"

#include <stddef.h>

#define N 64

struct poke_args
{
    struct rfn_tensor x;
};

static struct rfn_device *poke_device;
static enum rfn_status poke_said;
static int poke_code;

static void poke_host(const void *v, const struct rfn_host_env *env)
{
    struct rfn_memory_info info;
    (void)env;
    poke_said = rfn_memory_query(poke_device, v, &info);
    poke_code = rfn_last_code();
}

static const struct rfn_operand poke_operand[] = {
    { "x", offsetof(struct poke_args, x), RFN_OPERAND_TENSOR, RFN_WRITE, 0,
      RFN_DTYPE_BIT(RFN_F32), "N", 0 },
};

static void a_twin_that_calls_the_device_is_refused(struct test *t)
{
    const struct rfn_op op = { .name = "test_poke",
                               .args_bytes = sizeof(struct poke_args),
                               .operand = poke_operand,
                               .operands = 1,
                               .host = poke_host };
    struct rfn_stream *s = test_stream(t, RFN_STREAM_NONBLOCKING);
    float *x = test_device_memory(t, N * 4);
    struct poke_args args = { rfn_tensor_of(x, RFN_F32, N, 0, 0, 0) };
    poke_device = t->dev;
    OK(t, rfn_op_launch(s, &op, &args));
    OK(t, rfn_stream_sync(s));
    HOLDS(t, poke_said == RFN_INVALID && poke_code == 800);
    FREE(t, x);
    OK(t, rfn_stream_destroy(&s));
}

static void an_op_with_broken_tables_is_refused_unregistered(struct test *t)
{
    struct rfn_stream *s = test_stream(t, RFN_STREAM_NONBLOCKING);
    float *x = test_device_memory(t, N * 4);
    struct poke_args args = { rfn_tensor_of(x, RFN_F32, N, 0, 0, 0) };
    struct rfn_operand shapeless = poke_operand[0];
    shapeless.shape = NULL;
    struct rfn_op op = { .name = "test_broken",
                         .args_bytes = sizeof args,
                         .operand = &shapeless,
                         .operands = 1,
                         .host = poke_host };
    REFUSED(t, rfn_op_launch(s, &op, &args), RFN_INVALID, "test_broken|x|shape");
    op.operand = NULL;
    REFUSED(t, rfn_op_launch(s, &op, &args), RFN_INVALID, "test_broken|table is NULL");
    op.operand = poke_operand;
    op.name = NULL;
    REFUSED(t, rfn_op_launch(s, &op, &args), RFN_INVALID, "name");
    FREE(t, x);
    OK(t, rfn_stream_destroy(&s));
}

static void an_attention_object_outlives_its_ladders(struct test *t)
{
    const struct rfn_geometry *tiny;
    struct rfn_attention *a = NULL;
    struct rfn_ladder *ladder = NULL;
    struct rfn_attention_limits limits = {
        .requests = 2, .next_n = 1, .context = 128, .pages = 8
    };
    OK(t, rfn_geometry_find("tiny", &tiny));
    if (rfn_supported(t->dev, tiny) == RFN_UNSUPPORTED)
        return;
    OK(t, rfn_attention_create(t->dev, tiny, &limits, &a));
    OK(t, rfn_ladder_create(a, &(struct rfn_ladder_desc) { 0 }, &ladder));
    REFUSED(t, rfn_attention_destroy(&a), RFN_BUSY, "1 ladders");
    OK(t, rfn_ladder_destroy(&ladder));
    OK(t, rfn_attention_destroy(&a));
}

/* A layer that uses another's choice needs that other layer. */
static void a_choice_of_an_unbound_layer_is_refused(struct test *t)
{
    const struct rfn_geometry *tiny;
    struct rfn_attention *a = NULL;
    static const int32_t source[2] = { 0, 0 };
    struct rfn_attention_limits limits = {
        .requests = 1, .next_n = 1, .context = 128, .pages = 8
    };
    OK(t, rfn_geometry_find("tiny", &tiny));
    struct rfn_geometry shared = *tiny;
    shared.index_source = source;
    if (rfn_supported(t->dev, &shared) == RFN_UNSUPPORTED)
        return;
    OK(t, rfn_attention_create(t->dev, &shared, &limits, &a));
    struct rfn_stream *s = test_stream(t, RFN_STREAM_NONBLOCKING);
    int64_t pool_bytes =
        8 * rfn_format_page_bytes(shared.latent_format, shared.page_tokens);
    void *pool = test_device_memory(t, pool_bytes);
    char *io = test_device_memory(t, 1 << 16);
    struct rfn_layer_caches caches = { .latent = { pool, shared.latent_format,
                                                   shared.page_tokens, 8, 0 } };
    struct rfn_layer_io view = {
        .q = rfn_tensor_of(io, RFN_BF16, 1, shared.heads, 576, 0),
        .kv = rfn_tensor_of(io + 16384, RFN_BF16, 1, 512, 0, 0),
        .k_rope = rfn_tensor_of(io + 20480, RFN_BF16, 1, 64, 0, 0),
        .out = rfn_tensor_of(io + 32768, RFN_BF16, 1, shared.heads, 512, 0),
    };
    struct rfn_bucket bucket = { 1, 1, 0 };
    OK(t, rfn_attention_bind(a, 1, &caches, &view));
    REFUSED(t, rfn_attention_forward(a, s, 1, &bucket), RFN_NOT_READY,
            "layer 1|layer 0|not bound");
    FREE(t, pool);
    FREE(t, io);
    OK(t, rfn_stream_destroy(&s));
    OK(t, rfn_attention_destroy(&a));
}

static struct rfn_index_topk_args pick(float *logits, int32_t *lens, int32_t *positions)
{
    return (struct rfn_index_topk_args) {
        .logits = rfn_tensor_of(logits, RFN_F32, 1, N, 0, 0),
        .lens = rfn_tensor_of(lens, RFN_I32, 1, 0, 0, 0),
        .positions = rfn_tensor_of(positions, RFN_I32, 1, 4, 0, 0),
    };
}

static void memory_that_an_update_left_can_be_freed(struct test *t)
{
    struct rfn_stream *s = test_stream(t, RFN_STREAM_NONBLOCKING);
    struct rfn_graph *graph = NULL;
    struct rfn_exec *exec = NULL;
    float *old = test_device_memory(t, N * 4), *fresh = test_device_memory(t, N * 4);
    int32_t *lens = test_device_memory(t, 4), *top = test_device_memory(t, 16);
    struct rfn_index_topk_args args = pick(old, lens, top);
    OK(t, rfn_capture_begin(s, NULL));
    OK(t, rfn_index_topk(s, &args));
    OK(t, rfn_set_async(s, top, 0, 16));
    OK(t, rfn_capture_end(s, &graph));
    OK(t, rfn_graph_instantiate(graph, &exec));
    args.logits.data = fresh;
    OK(t, rfn_exec_update(exec, 0, &args));
    REFUSED(t, rfn_memory_free(t->dev, old), RFN_BUSY, "held by graph");
    OK(t, rfn_graph_destroy(&graph));
    FREE(t, old);
    REFUSED(t, rfn_memory_free(t->dev, fresh), RFN_BUSY, "held by graph");
    REFUSED(t, rfn_memory_free(t->dev, top), RFN_BUSY, "held by graph");
    OK(t, rfn_exec_destroy(&exec));
    FREE(t, fresh);
    FREE(t, lens);
    FREE(t, top);
    OK(t, rfn_stream_destroy(&s));
}

static void imports_are_of_the_callers_own_memory(struct test *t)
{
    REFUSED(t,
            rfn_memory_import(t->dev, (void *)(UINTPTR_MAX - 10), 100, RFN_MEMORY_DEVICE),
            RFN_INVALID, "100 bytes|last address");
    if (!t->host)
        return;
    struct rfn_device *other = test_open(t);
    void *theirs = NULL, *gone = test_device_memory(t, 4096);
    OK(t, rfn_memory_alloc(other, RFN_MEMORY_DEVICE, 4096, &theirs));
    REFUSED(t, rfn_memory_import(t->dev, theirs, 4096, RFN_MEMORY_DEVICE), RFN_INVALID,
            "another device");
    OK(t, rfn_memory_free(t->dev, gone));
    REFUSED(t, rfn_memory_import(t->dev, gone, 4096, RFN_MEMORY_DEVICE), RFN_INVALID,
            "freed");
    OK(t, rfn_memory_free(other, theirs));
    OK(t, rfn_device_close(&other));
}

int main(int argc, char **argv)
{
    struct test t;
    test_begin(&t, "lifetimes", &argc, argv);
    if (t.host)
    {
        a_twin_that_calls_the_device_is_refused(&t);
        an_op_with_broken_tables_is_refused_unregistered(&t);
    }
    an_attention_object_outlives_its_ladders(&t);
    a_choice_of_an_unbound_layer_is_refused(&t);
    memory_that_an_update_left_can_be_freed(&t);
    imports_are_of_the_callers_own_memory(&t);
    return test_end(&t);
}
