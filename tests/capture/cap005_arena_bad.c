/* Bad: an address is kept from the first recording, so that it does not follow when all memory
 * of the step is elsewhere; the same recording without it is clean. */
#include "tests/capture/lint.h"

#include <refrain/diff.h>

#define ROOM 4096
#define KEYS 2048 /* bytes from the outputs to them */

struct kept
{
    struct step *s;
    char *room[2];
    char *now;   /* where the step's memory is */
    char *first; /* kept; NULL: it is asked for again every time */
};

static int line;

static struct rfn_synth_fill_args fill(char *out, char *keys)
{
    return (struct rfn_synth_fill_args) {
        .out = rfn_tensor_of(out, RFN_BF16, 2, 64, 0, 0),
        .keys = rfn_tensor_of(keys + KEYS, RFN_I64, 2, 0, 0, 0),
        .amplitude = 1,
    };
}

static enum rfn_status record(void *ctx, struct rfn_stream *stream)
{
    struct kept *k = ctx;
    struct rfn_synth_fill_args one = fill(k->now, k->now);
    struct rfn_synth_fill_args two = fill(k->now + 1024, k->first ? k->first : k->now);
    enum rfn_status status = rfn_synth_fill(stream, &one);
    line = __LINE__ + 1;
    enum rfn_status then = rfn_synth_fill(stream, &two);
    return status ? status : then;
}

static enum rfn_status mutate(void *ctx, enum rfn_diff_round round)
{
    struct kept *k = ctx;
    k->now = k->room[round == RFN_DIFF_ARENA];
    return RFN_OK;
}

static void compare(struct lint_want *want, struct kept *k, int32_t all_moves)
{
    struct step *s = k->s;
    struct rfn_diff_desc desc = {
        .record = record, .mutate = mutate, .ctx = k, .check = s->check
    };
    struct rfn_diff_info info = { 0 };
    int32_t due = want->rule == RFN_RULES ? 0 : 1, stays = k->first != NULL;
    desc.all_moves = all_moves;
    want->seen = 0;
    WORKS(s, rfn_graph_diff(s->device, &desc, lint_report, want, &info));
    harness_check(&s->h, "how many findings", info.findings == due && want->seen == due,
                  "%d and %d, not %d", info.findings, want->seen, due);
    harness_check(&s->h, "what moved", info.moved == 4 - stays && info.stayed == stays,
                  "%d moved, %d stayed", info.moved, info.stayed);
}

int main(int argc, char **argv)
{
    struct step s;
    struct kept k = { .s = &s };
    if (!step_open(&s, "cap005_arena_bad", &argc, argv))
        return step_close(&s);
    for (int i = 0; i < 2; i++)
        WORKS(&s,
              rfn_memory_alloc(s.device, RFN_MEMORY_DEVICE, ROOM, (void **)&k.room[i]));
    k.now = k.room[0];
    struct lint_want none = { .s = &s, .rule = RFN_RULES };
    compare(&none, &k, 1);
    k.first = k.room[0];
    compare(&none, &k, 0); /* where something may stay nothing is said */
    struct lint_want want = { .s = &s, .rule = RFN_CAP005 };
    want.at = &line;
    want.name = "synth_fill";
    want.words = "the address 'keys'";
    compare(&want, &k, 1);
    for (int i = 0; i < 2; i++)
        WORKS(&s, rfn_memory_free(s.device, k.room[i]));
    step_verdict(&s, RFN_RULES, "", 0, "");
    return step_close(&s);
}
