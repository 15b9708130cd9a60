/* Good: no budget: what is asked for again is there. */
#include "tests/capture/model.h"

int main(int argc, char **argv)
{
    struct step s;
    struct model m;
    if (!step_open(&s, "cap047_good", &argc, argv))
        return step_close(&s);

    model_open(&s, &m);
    const int32_t buckets[2] = { 2, 4 };
    struct rfn_ladder_desc desc = { .bucket = buckets, .buckets = 2, .next_n = 1 };
    struct rfn_ladder *ladder = NULL;
    struct rfn_ladder_info info = { 0 };
    WORKS(&s, rfn_ladder_create(m.attention, &desc, &ladder));
    for (int i = 0; i < 32; i++)
        WORKS(&s, rfn_ladder_prepare(ladder, i % 2 ? 4 : 2, i / 2 % 2));
    WORKS(&s, rfn_ladder_query(ladder, &info));
    harness_check(&s.h, "each once", info.captures == 4, "%d", info.captures);

    step_verdict(&s, RFN_RULES, "", 0, "");
    WORKS(&s, rfn_ladder_destroy(&ladder));
    model_close(&s, &m);
    return step_close(&s);
}
