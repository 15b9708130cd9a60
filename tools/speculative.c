#include "tools/speculative.h"
#include "tools/synth.h"
#include <stdlib.h>

#define DRAW_ACCEPT 200 /* apart from what else picks by the seed */

/* A digit in front: strtol and strtod take blanks, signs and names as well. */
static int is_number(const char *text)
{
    return (*text >= '0' && *text <= '9') || *text == '.';
}

const char *speculative_read(const char *text, struct speculative *ret_speculative)
{
    static const char want[] =
        "N or N:rate is wanted, N of 1 .. 7 draft tokens and a rate of 0 .. 1";
    struct speculative got = { 0, SPECULATIVE_RATE };
    char *end = NULL;
    long drafts = is_number(text) ? strtol(text, &end, 10) : 0;
    if (drafts < 1 || drafts > SPECULATIVE_DRAFTS_MAX || (*end != '\0' && *end != ':'))
    {
        return want;
    }
    got.drafts = (int32_t)drafts;
    if (*end == ':')
    {
        const char *rate = end + 1;
        got.rate = is_number(rate) ? strtod(rate, &end) : -1;
        if (!(got.rate >= 0 && got.rate <= 1) || end == rate || *end != '\0')
        {
            return want;
        }
    }
    *ret_speculative = got;
    return NULL;
}

int32_t speculative_accepted(const struct speculative *speculative, uint64_t seed,
                             int64_t request, int64_t tokens)
{
    int32_t accepted = 0;
    for (; accepted < speculative->drafts; accepted++)
    {
        /* One draw a token of the context, so that no step depends on the one before. */
        uint64_t place = ((uint64_t)tokens << 8) + (uint64_t)accepted;
        uint64_t draw =
            synth_pick(seed, ((uint64_t)DRAW_ACCEPT << 40) + (uint64_t)request, place);
        if ((double)(draw >> 11) * 0x1p-53 >= speculative->rate)
        {
            break;
        }
    }
    return accepted;
}
