/* Good: a budget for one graph, which goes when the other comes. */
#include "tests/capture/model.h"

int main(int argc, char **argv)
{
    struct step s;
    struct model m;
    if (!step_open(&s, "cap046_good", &argc, argv))
        return step_close(&s);

    model_open(&s, &m);
    const int32_t buckets[2] = { 2, 4 };
    struct rfn_ladder_desc desc = { .bucket = buckets, .buckets = 2, .next_n = 1 };
    struct rfn_ladder *ladder = NULL;
    struct rfn_ladder_info info = { 0 };
    desc.memory_bytes = 8 * RFN_LADDER_NODE_BYTES;
    WORKS(&s, rfn_ladder_create(m.attention, &desc, &ladder));
    WORKS(&s, rfn_ladder_prepare(ladder, 2, 0));
    WORKS(&s, rfn_ladder_prepare(ladder, 4, 0));
    WORKS(&s, rfn_ladder_query(ladder, &info));
    harness_check(&s.h, "one went", info.graphs == 1 && info.evictions == 1,
                  "%d graphs, %d evictions", info.graphs, info.evictions);

    step_verdict(&s, RFN_RULES, "", 0, "");
    WORKS(&s, rfn_ladder_destroy(&ladder));
    model_close(&s, &m);
    return step_close(&s);
}
