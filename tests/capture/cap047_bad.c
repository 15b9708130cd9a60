/* Bad: two buckets in turn under a budget for one graph: every step captures. */
#include "tests/capture/model.h"

int main(int argc, char **argv)
{
    struct step s;
    struct model m;
    if (!step_open(&s, "cap047_bad", &argc, argv))
        return step_close(&s);

    model_open(&s, &m);
    const int32_t buckets[2] = { 2, 4 };
    struct rfn_ladder_desc desc = { .bucket = buckets, .buckets = 2, .next_n = 1 };
    struct rfn_ladder *ladder = NULL;
    struct rfn_ladder_info info = { 0 };
    desc.memory_bytes = 8 * RFN_LADDER_NODE_BYTES;
    WORKS(&s, rfn_ladder_create(m.attention, &desc, &ladder));
    int planted = 0;
    for (int i = 0; i < 9; i++) /* the first bucket five times */
    {
        planted = __LINE__ + 1;
        WORKS(&s, rfn_ladder_prepare(ladder, i % 2 ? 4 : 2, 0));
    }
    WORKS(&s, rfn_ladder_query(ladder, &info));
    harness_check(&s.h, "they went in turn", info.evictions == 8, "%d", info.evictions);

    step_verdict(&s, RFN_CAP047, __FILE__, planted, "ladder_prepare");
    WORKS(&s, rfn_ladder_destroy(&ladder));
    model_close(&s, &m);
    return step_close(&s);
}
