/* Ladders of ranks: which graphs they share, and which of those they launch together. As in
 * ranks.c, what is decided behind a reduction is decided from maxima alone. */
#define RFN_NO_SITES
#include "graph/ladder.h"
#include "graph/ranks.h"
#include "runtime/attention/attention.h"
#include "runtime/error.h"

#include <stdio.h>

/* ---- comparing ------------------------------------------------------------------------ */

/* The lengths of all later reductions follow from the buckets. */
static enum rfn_status same_buckets(struct rfn_ladder *l)
{
    uint64_t hash = 0;
    for (int32_t i = 0; i < l->buckets; i++)
        hash = rfn_ranks_mix(hash, (uint64_t)l->bucket[i]);
    int64_t own[] = { l->buckets, l->next_n, (int64_t)hash }, round[6];
    for (int32_t i = 0; i < 3; i++)
    {
        round[2 * i] = own[i];
        round[2 * i + 1] = ~own[i];
    }
    enum rfn_status status =
        rfn_ranks_reduce("ladder_agree", l->reduce, l->reduce_ctx, round, 6);
    if (status)
        return status;
    static const char *const name[] = { "buckets", "rows a request" };
    for (int32_t i = 0; i < 2; i++)
        if (round[2 * i] != ~round[2 * i + 1])
            return RFN_FAIL(RFN_INVALID,
                            "ladder_agree: %d %s here, and %d to %d over the ranks: they "
                            "have to be the same",
                            (int)own[i], name[i], (int)~round[2 * i + 1],
                            (int)round[2 * i]);
    if (round[4] != ~round[5])
        return RFN_FAIL(RFN_INVALID,
                        "ladder_agree: the %d buckets here, %d to %d requests, are not "
                        "those of another rank",
                        l->buckets, l->bucket[0], l->bucket[l->buckets - 1]);
    return RFN_OK;
}

static enum rfn_status locate(struct rfn_ladder *l, int32_t i, struct rfn_lint_list *list)
{
    const struct rfn_rung *rung = &l->rung[i];
    struct rfn_flat flat = { 0 };
    char name[RFN_BUCKET_CHARS];
    rfn_bucket_name(name, &(struct rfn_bucket) { l->bucket[i / 2], l->next_n, i % 2 });
    /* Without memory it goes on as one that keeps no image: the others wait for it. */
    int known = rung->image && rfn_flat_of(rung->image, &flat);
    enum rfn_status status = rfn_ranks_locate(
        list, "ladder_agree", name, known ? &flat : NULL, l->reduce, l->reduce_ctx);
    rfn_flat_free(&flat);
    return status;
}

static enum rfn_status compare(struct rfn_ladder *l, struct rfn_lint_list *list,
                               struct rfn_agree_info *info)
{
    const int32_t rungs = 2 * l->buckets;
    int64_t *v = l->vote;
    for (int32_t i = 0; i < rungs; i++)
    {
        const struct rfn_rung *rung = &l->rung[i];
        int64_t signature = (int64_t)rung->signature;
        v[4 * i] = !rung->exec;
        v[4 * i + 1] = rung->exec != NULL;
        v[4 * i + 2] = rung->exec ? signature : INT64_MIN;
        v[4 * i + 3] = rung->exec ? ~signature : INT64_MIN;
    }
    enum rfn_status status =
        rfn_ranks_reduce("ladder_agree", l->reduce, l->reduce_ctx, v, 4 * rungs);
    for (int32_t i = 0; i < rungs && !status; i++)
    {
        int missing = v[4 * i] != 0, same = v[4 * i + 2] == ~v[4 * i + 3];
        l->rung[i].agreed = !missing && same;
        info->graphs += !missing && same;
        info->partial += missing && v[4 * i + 1];
        info->differ += !missing && !same;
        if (!missing && !same)
            status = locate(l, i, list);
    }
    for (int32_t i = 0; i < rungs && !status; i++)
        if (l->rung[i].agreed)
            rfn_image_destroy(&l->rung[i].image);
    return status;
}

enum rfn_status rfn_ladder_agree(struct rfn_ladder *ladder, rfn_report_fn *report,
                                 void *ctx, struct rfn_agree_info *ret_info)
{
    struct rfn_ladder *l = ladder;
    struct rfn_lint_list list = { 0 };
    struct rfn_agree_info info = { 0 };
    if (!l || !l->reduce)
        return RFN_FAIL(RFN_INVALID, "ladder_agree: %s is NULL",
                        l ? "the ladder's reduce" : "ladder");
    enum rfn_status status = rfn_outside_captures(l->device, NULL, "ladder_agree");
    if (status)
        return status;
    status = same_buckets(l);
    if (!status)
        status = compare(l, &list, &info);
    int32_t told = rfn_lint_tell(&list, status ? NULL : report, ctx);
    if (status)
        return status;
    l->agreed = 1;
    if (told < 0)
        return RFN_FAIL(RFN_NOMEM, "ladder_agree: no memory for findings");
    if (ret_info)
        *ret_info = info;
    return RFN_OK;
}

/* ---- one graph for all ---------------------------------------------------------------- */

enum
{
    REFUSED, /* the status of a rank that cannot go on, its sign turned */
    MOST,    /* requests */
    LONG,    /* contexts */
    GRAPHS,  /* to be launched */
    FEWEST,  /* the same, its complement */
    MISSING  /* of each rung */
};

int rfn_ladder_has(const struct rfn_ladder *ladder, int32_t b, int32_t short_context)
{
    return rfn_ladder_rung(ladder, b, short_context)->exec &&
           (!ladder->reduce || !ladder->vote[MISSING + 2 * b + short_context]);
}

/* The rank's own line outlives the reduction. */
static enum rfn_status vote_against(struct rfn_ladder *l, enum rfn_status refused)
{
    char line[RFN_LINE_BYTES];
    int code = rfn_last_code();
    snprintf(line, sizeof line, "%s", rfn_last_error());
    l->reduce(l->reduce_ctx, l->vote, MISSING + 2 * l->buckets);
    return rfn_error_at(NULL, 0, refused, code, "%s", line);
}

enum rfn_status rfn_ladder_vote(struct rfn_ladder *ladder, const char *what,
                                enum rfn_status refused, int32_t graphs,
                                const struct rfn_bucket *want,
                                struct rfn_bucket *ret_agreed)
{
    struct rfn_ladder *l = ladder;
    const int32_t rungs = 2 * l->buckets;
    int64_t *v = l->vote;
    v[REFUSED] = -(int64_t)refused;
    v[MOST] = refused ? 0 : want->requests;
    v[LONG] = refused ? 0 : !want->short_context;
    v[GRAPHS] = graphs;
    v[FEWEST] = ~(int64_t)graphs;
    for (int32_t i = 0; i < rungs; i++)
        v[MISSING + i] = !l->rung[i].exec || !l->rung[i].agreed;
    if (refused)
        return vote_against(l, refused);
    enum rfn_status status =
        rfn_ranks_reduce(what, l->reduce, l->reduce_ctx, v, MISSING + rungs);
    if (status)
        return status;
    if (v[REFUSED])
        return RFN_FAIL(RFN_NOT_READY,
                        "%s: another rank's step was refused (%s), so that no rank "
                        "launches",
                        what, rfn_status_name((enum rfn_status) - v[REFUSED]));
    int32_t largest = l->bucket[l->buckets - 1];
    if (v[MOST] < want->requests || v[MOST] > largest || v[LONG] < !want->short_context)
        return RFN_FAIL(RFN_INVALID,
                        "%s: the reduction gave %lld requests of %s contexts; this rank "
                        "has %d of %s ones, and buckets up to %d, so it is no maximum",
                        what, (long long)v[MOST], v[LONG] ? "long" : "short",
                        want->requests, want->short_context ? "short" : "long", largest);
    if (v[GRAPHS] != graphs || v[FEWEST] != ~(int64_t)graphs)
        return RFN_FAIL(RFN_INVALID,
                        "%s: %d replays here, and %lld to %lld over the ranks: they have "
                        "to be the same",
                        what, graphs, (long long)~v[FEWEST], (long long)v[GRAPHS]);
    *ret_agreed = (struct rfn_bucket) { (int32_t)v[MOST], l->next_n, !v[LONG] };
    return RFN_OK;
}
