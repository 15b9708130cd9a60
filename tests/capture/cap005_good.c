/* Good: what changes is in device memory, or is declared dynamic. */
#include "tests/capture/diff.h"

#include <stddef.h>

struct shift_args
{
    struct rfn_tensor x;
    int32_t by;    /* dynamic */
    int64_t twice; /* behind padding that may hold anything */
};

static void shift(const void *args, const struct rfn_host_env *env)
{
    (void)args;
    (void)env;
}

static const struct rfn_operand operand = {
    .name = "x",
    .offset = offsetof(struct shift_args, x),
    .access = RFN_READ_WRITE,
    .dtypes = RFN_DTYPE_BIT(RFN_I32),
    .shape = "T",
};
static const struct rfn_scalar scalar[] = {
    { "by", offsetof(struct shift_args, by), sizeof(int32_t), 1 },
    { "twice", offsetof(struct shift_args, twice), sizeof(int64_t), 0 },
};
static const struct rfn_op op = {
    .name = "shift",
    .args_bytes = sizeof(struct shift_args),
    .operand = &operand,
    .operands = 1,
    .scalar = scalar,
    .scalars = 2,
    .host = shift,
};

static enum rfn_status record(struct diff *d, struct rfn_stream *stream)
{
    struct shift_args args;
    memset(&args, 17 * (int)d->round, sizeof args);
    args.x = d->pick.lens;
    args.by = (int32_t)d->round;
    args.twice = 2;
    WORKS(d->s, rfn_index_topk(stream, &d->pick));
    WORKS(d->s, rfn_set_async(stream, d->pick.slots.data, 3, 4));
    WORKS(d->s, rfn_copy_async(stream, d->s->host_picked, d->pick.slots.data,
                               STEP_PICKED_BYTES));
    return step_device() == RFN_DEVICE_HOST ? rfn_op_launch(stream, &op, &args) : RFN_OK;
}

int main(int argc, char **argv)
{
    struct step s;
    if (!step_open(&s, "cap005_good", &argc, argv))
        return step_close(&s);
    WORKS(&s, rfn_op_register(&op));
    struct lint_want none = { .s = &s, .rule = RFN_RULES };
    diff_step(&none, record);
    step_verdict(&s, RFN_RULES, "", 0, "");
    return step_close(&s);
}
