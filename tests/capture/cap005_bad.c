/* Bad: values that are read on the host are baked: a constant of an op, an address from a
 * caching allocator, fields that the op's table forgot, what a set writes, an event. */
#include "tests/capture/diff.h"

#include <stddef.h>

struct shift_args
{
    struct rfn_tensor x;
    int32_t known;
    int32_t left_out; /* no padding: what follows needs none */
    int32_t last;
    int64_t forgotten;
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
    { "known", offsetof(struct shift_args, known), sizeof(int32_t), 0 },
    { "last", offsetof(struct shift_args, last), sizeof(int32_t), 0 },
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

static int line;

/* "The pool has grown." */
static enum rfn_status constant(struct diff *d, struct rfn_stream *stream)
{
    d->pick.pages = STEP_PAGES + (int64_t)d->round;
    line = __LINE__ + 1;
    return rfn_index_topk(stream, &d->pick);
}

static enum rfn_status address(struct diff *d, struct rfn_stream *stream)
{
    d->pick.slots.data = d->round == RFN_DIFF_INPUTS ? d->elsewhere : d->pick.slots.data;
    line = __LINE__ + 1;
    return rfn_index_topk(stream, &d->pick);
}

static enum rfn_status forgotten(struct diff *d, struct rfn_stream *stream)
{
    struct shift_args args = { .x = d->pick.lens, .forgotten = (int64_t)d->round };
    enum rfn_status status = rfn_index_topk(stream, &d->pick);
    line = __LINE__ + 1;
    return status ? status : rfn_op_launch(stream, &op, &args);
}

static enum rfn_status left_out(struct diff *d, struct rfn_stream *stream)
{
    struct shift_args args = { .x = d->pick.lens, .left_out = (int32_t)d->round };
    enum rfn_status status = rfn_index_topk(stream, &d->pick);
    line = __LINE__ + 1;
    return status ? status : rfn_op_launch(stream, &op, &args);
}

static enum rfn_status set(struct diff *d, struct rfn_stream *stream)
{
    enum rfn_status status = rfn_index_topk(stream, &d->pick);
    line = __LINE__ + 1;
    enum rfn_status then = rfn_set_async(stream, d->s->lens, (int32_t)d->round, 4);
    return status ? status : then;
}

/* Two events in turn, one of which every replay records. */
static enum rfn_status event(struct diff *d, struct rfn_stream *stream)
{
    struct step *s = d->s;
    enum rfn_status status = rfn_index_topk(stream, &d->pick);
    struct rfn_event *turn = d->round == RFN_DIFF_INPUTS ? s->join : s->fork;
    line = step_device() == RFN_DEVICE_HOST ? __LINE__ + 1 : 0; /* no ledger has events */
    enum rfn_status then = rfn_event_record(turn, stream, RFN_EVENT_EXTERNAL);
    return status ? status : then;
}

/* The same bytes, but four at a time; no call here makes such a set. */
static void set_of_words(struct step *s)
{
    struct rfn_image_node node = {
        .type = RFN_IMAGE_MEMSET, .name = "memset", .value = 1, .value_bytes = 1
    };
    struct rfn_image from = { .name = "by hand", .nodes = 1, .node = &node };
    struct rfn_image *first = NULL, *other = NULL;
    struct rfn_diff_info info = { 0 };
    WORKS(s, rfn_image_create(&from, &first));
    node.value_bytes = 4;
    WORKS(s, rfn_image_create(&from, &other));
    WORKS(s, rfn_image_diff(first, other, 0, NULL, NULL, &info));
    harness_check(&s->h, "a set of words", info.findings == 1, "%d", info.findings);
    WORKS(s, rfn_image_destroy(&first));
    WORKS(s, rfn_image_destroy(&other));
}

int main(int argc, char **argv)
{
    static const struct
    {
        enum rfn_status (*record)(struct diff *d, struct rfn_stream *stream);
        const char *node;
        const char *words;
        int64_t count; /* recordings that differ from the first */
        int host_only;
    } planted[] = {
        { constant, "index_topk",
          "'pages' is 8 in the first recording and 9 in the second", 2, 0 },
        { address, "index_topk", "the address 'slots'", 1, 0 },
        { forgotten, "shift", "no table of the op names it", 2, 1 },
        { left_out, "shift", "is 0 in the first recording and 1 in the second", 2, 1 },
        { set, "memset", "'value' is 0 in the first recording and 1 in the second", 2,
          0 },
        { event, "event record", "the node's 'event' is ", 1, 0 },
    };
    struct step s;
    if (!step_open(&s, "cap005_bad", &argc, argv))
        return step_close(&s);
    WORKS(&s, rfn_op_register(&op));
    for (size_t i = 0; i < sizeof planted / sizeof planted[0]; i++)
    {
        struct lint_want want = { .s = &s, .rule = RFN_CAP005 };
        if (planted[i].host_only && step_device() != RFN_DEVICE_HOST)
        {
            harness_skip(&s.h, planted[i].words, "the op has no kernel");
            continue;
        }
        want.at = &line;
        want.name = planted[i].node;
        want.words = planted[i].words;
        want.count = planted[i].count;
        diff_step(&want, planted[i].record);
    }
    set_of_words(&s);
    step_verdict(&s, RFN_RULES, "", 0, "");
    return step_close(&s);
}
