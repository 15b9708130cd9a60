#define RFN_NO_SITES
#include "graph/ladder.h"
#include "runtime/attention/attention.h"
#include "runtime/error.h"
#include "runtime/range.h"

#include <stdio.h>

/* The smallest captured bucket that fits, of the step's own class first; an idle step fits
 * everywhere, and takes the smallest of all. NULL: none. With ranks `want` is what they need
 * together, and captured is what all of them have. */
static struct rfn_rung *pick(struct rfn_ladder *l, const struct rfn_bucket *want,
                             struct rfn_bucket *ret_bucket)
{
    struct rfn_rung *best = NULL;
    int32_t idle = want->requests == 0;
    for (int32_t s = idle || want->short_context; s >= 0 && (idle || !best); s--)
        for (int32_t b = 0; b < l->buckets; b++)
        {
            struct rfn_rung *rung = rfn_ladder_rung(l, b, s);
            if (l->bucket[b] < want->requests || !rfn_ladder_has(l, b, s))
                continue;
            if (!best || l->bucket[b] < ret_bucket->requests)
            {
                best = rung;
                *ret_bucket = (struct rfn_bucket) { l->bucket[b], l->next_n, s };
            }
            break;
        }
    return best;
}

/* Why ranks cannot take the bucket that they need. */
static const char *why_not(const struct rfn_ladder *l, int32_t b, int32_t short_context)
{
    const struct rfn_rung *rung = rfn_ladder_rung(l, b, short_context);
    return !rung->exec     ? "is not captured here"
           : !rung->agreed ? "was not found alike on all ranks"
                           : "is missing on another rank";
}

/* `want` is what is asked of the graph, `own` the requests of this rank. */
static enum rfn_status none_fits(const struct rfn_ladder *l, const char *what,
                                 const struct rfn_bucket *want, int32_t own)
{
    char list[360] = "", name[RFN_BUCKET_CHARS];
    size_t used = 0;
    int32_t left = 0, fits = 0;
    for (int32_t i = 0; i < 2 * l->buckets; i++)
    {
        if (!rfn_ladder_has(l, i / 2, i % 2))
            continue;
        if (used + 24 > sizeof list)
            left++;
        else
            used += (size_t)snprintf(list + used, sizeof list - used, "%s%d%s",
                                     used ? ", " : "", l->bucket[i / 2],
                                     i % 2 ? " short" : "");
    }
    if (left)
        snprintf(list + used, sizeof list - used, ", %d more", left);
    while (l->bucket[fits] < want->requests)
        fits++;
    rfn_bucket_name(
        name, &(struct rfn_bucket) { l->bucket[fits], l->next_n, want->short_context });
    if (l->reduce)
        return RFN_FAIL(
            RFN_NOT_READY,
            "%s: the fullest rank has %d requests, this one %d; %s %s; on all "
            "ranks: %s",
            what, want->requests, own, name, why_not(l, fits, want->short_context),
            used ? list : "none");
    return RFN_FAIL(RFN_NOT_READY,
                    "%s: no captured bucket takes %d requests of %s contexts; "
                    "captured: %s",
                    what, want->requests, want->short_context ? "short" : "long",
                    used ? list : "none");
}

/* The copy of a plan goes where the last replay still reads, so a replay on another stream
 * comes behind that one. A per-thread stream is another one in every thread. */
static enum rfn_status order(struct rfn_ladder *l, struct rfn_stream *stream)
{
    if (!l->last_stream || (l->last_stream == stream->object.serial &&
                            stream->kind != RFN_STREAM_PER_THREAD))
        return RFN_OK;
    if (l->astray)
        return rfn_stream_wait(stream, l->done, 0);
    return l->last ? rfn_exec_upload(l->last, stream) : RFN_OK;
}

/* A plan was copied and nothing launched behind it: the next replay may come on another
 * stream, and finds the copy's end at this event. */
static enum rfn_status strayed(struct rfn_ladder *l, struct rfn_stream *stream,
                               enum rfn_status status)
{
    char line[RFN_LINE_BYTES];
    int code = rfn_last_code();
    snprintf(line, sizeof line, "%s", rfn_last_error());
    l->astray = rfn_event_record(l->done, stream, 0) == RFN_OK;
    return rfn_error_at(NULL, 0, status, code, "%s", line);
}

static enum rfn_status hand_over(const struct rfn_ladder *l, const struct rfn_rung *rung,
                                 struct rfn_stream *stream, const struct rfn_step *step,
                                 const struct rfn_plan *plan)
{
    RFN_RANGE(RFN_RANGE_PLAN, step->requests, 0, 0);
    /* Nobody knows what its update does where a caller has replaced arguments. */
    int takes = rung->takes && !rung->exec->updated;
    return rfn_plan_hand_over(l->attention, stream, step, plan, takes);
}

static enum rfn_status check_stream(const struct rfn_ladder *l, struct rfn_stream *stream,
                                    const char *what)
{
    enum rfn_status status = rfn_object_check(stream, RFN_OBJECT_STREAM, "stream");
    if (!status && stream->object.device != l->device)
        status = RFN_FAIL(RFN_INVALID,
                          "%s: the stream belongs to device %p, the ladder to device %p",
                          what, (void *)stream->object.device, (void *)l->device);
    return status ? status : rfn_outside_captures(l->device, stream, what);
}

static enum rfn_status check_tokens(const struct rfn_ladder *l,
                                    const struct rfn_plan *plan, const char *what)
{
    if (plan->most_tokens > l->next_n)
        return RFN_FAIL(RFN_LIMIT,
                        "%s: %d query tokens of a request; the ladder's graphs have room "
                        "for %d",
                        what, plan->most_tokens, l->next_n);
    return RFN_OK;
}

/* Behind a plan that was handed over. */
static enum rfn_status launch(struct rfn_ladder *l, struct rfn_rung *rung,
                              struct rfn_stream *stream)
{
    enum rfn_status status = rfn_exec_launch(rung->exec, stream);
    if (status) /* the device has not advanced as the plan says */
    {
        rfn_plan_forget(l->attention);
        return status;
    }
    l->last = rung->exec;
    l->astray = 0;
    rung->used = ++l->clock;
    l->info.replays++;
    return RFN_OK;
}

static void say(struct rfn_replay_info *ret_info, const struct rfn_bucket *bucket,
                const struct rfn_plan *plan, const struct rfn_bucket *want)
{
    if (ret_info)
        *ret_info = (struct rfn_replay_info) {
            .bucket = *bucket,
            .rows = (int32_t)plan->tokens,
            .padded = bucket->requests * bucket->next_n - (int32_t)plan->tokens,
            .requests = want->requests,
        };
}

/* All that can be said against a step before it is known which graph runs. */
static enum rfn_status check_step(const struct rfn_ladder *l, struct rfn_stream *stream,
                                  const struct rfn_step *step, struct rfn_plan *ret_plan)
{
    int32_t largest = l->bucket[l->buckets - 1];
    if (!step)
        return RFN_FAIL(RFN_INVALID, "ladder_replay: step is NULL");
    enum rfn_status status = check_stream(l, stream, "ladder_replay");
    if (!status)
        status = rfn_plan_check(l->attention, step, ret_plan);
    if (!status)
        status = check_tokens(l, ret_plan, "ladder_replay");
    if (status)
        return status;
    if (ret_plan->bucket.requests > largest)
        return RFN_FAIL(RFN_LIMIT, "ladder_replay: %d requests; the largest bucket is %d",
                        ret_plan->bucket.requests, largest);
    return RFN_OK;
}

enum rfn_status rfn_ladder_replay(struct rfn_ladder *ladder, struct rfn_stream *stream,
                                  const struct rfn_step *step,
                                  struct rfn_replay_info *ret_info)
{
    struct rfn_ladder *l = ladder;
    struct rfn_bucket bucket = { 0 };
    struct rfn_plan plan = { 0 };
    if (!ladder)
        return RFN_FAIL(RFN_INVALID, "ladder_replay: ladder is NULL");
    if (l->reduce && !l->agreed)
        return RFN_FAIL(RFN_NOT_READY,
                        "ladder_replay: rfn_ladder_agree on all ranks comes first");
    enum rfn_status status = check_step(l, stream, step, &plan);
    struct rfn_bucket want = plan.bucket;
    if (l->reduce && status != RFN_CAPTURE)
        status = rfn_ladder_vote(l, "ladder_replay", status, 1, &plan.bucket, &want);
    if (status)
        return status;
    struct rfn_rung *rung = pick(l, &want, &bucket);
    if (!rung)
        return none_fits(l, "ladder_replay", &want, plan.bucket.requests);
    RFN_RANGE(RFN_RANGE_REPLAY, bucket.requests, 0, 0);

    status = order(l, stream);
    if (status)
        return status;
    l->last_stream = stream->object.serial;
    status = hand_over(l, rung, stream, step, &plan);
    if (!status)
        status = launch(l, rung, stream);
    if (status)
        return strayed(l, stream, status);
    say(ret_info, &bucket, &plan, &want);
    return RFN_OK;
}

enum rfn_status rfn_ladder_again(struct rfn_ladder *ladder, struct rfn_stream *stream,
                                 int32_t replays, struct rfn_replay_info *ret_info)
{
    struct rfn_ladder *l = ladder;
    struct rfn_rung *rung[2] = { NULL, NULL }; /* of long, of short contexts */
    struct rfn_bucket bucket[2] = { { 0 }, { 0 } };
    struct rfn_plan plan = { 0 };
    int32_t shorts = 0;
    if (!ladder)
        return RFN_FAIL(RFN_INVALID, "ladder_again: ladder is NULL");
    if (l->reduce && !l->agreed)
        return RFN_FAIL(RFN_NOT_READY,
                        "ladder_again: rfn_ladder_agree on all ranks comes first");
    enum rfn_status status = check_stream(l, stream, "ladder_again");
    if (!status)
        status = rfn_plan_check_again(l->attention, replays, &plan, &shorts);
    if (!status)
        status = check_tokens(l, &plan, "ladder_again");
    struct rfn_bucket want = plan.bucket;
    want.short_context = shorts == replays;
    if (l->reduce && status != RFN_CAPTURE)
    {
        /* One vote, so one class for all of them. */
        plan.bucket.short_context = want.short_context;
        status = rfn_ladder_vote(l, "ladder_again", status, replays, &plan.bucket, &want);
        shorts = want.short_context ? replays : 0;
    }
    if (status)
        return status;
    for (int32_t s = shorts < replays ? 0 : 1; s <= (shorts > 0); s++)
    {
        want.short_context = s;
        rung[s] = pick(l, &want, &bucket[s]);
        if (!rung[s])
            return none_fits(l, "ladder_again", &want, plan.bucket.requests);
    }

    RFN_RANGE(RFN_RANGE_REPLAY, bucket[shorts == replays].requests, 0, 0);
    status = order(l, stream);
    if (status)
        return status;
    l->last_stream = stream->object.serial;
    for (int32_t i = 0; i < replays && !status; i++)
    {
        plan.bucket.short_context = i < shorts;
        rfn_plan_go_on(l->attention, &plan);
        status = launch(l, rung[i < shorts], stream);
    }
    if (status)
        return strayed(l, stream, status);
    rfn_plan_went_on(l->attention, replays);
    say(ret_info, &bucket[shorts == replays], &plan, &want);
    return RFN_OK;
}
