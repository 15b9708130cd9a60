/* Each rule in each form it comes in: refused or let pass, by kind and mode of the capture.
 * What a finding says of the capture is compared with what the device says of it. */
#include "tests/capture/step.h"

struct variant
{
    const char *name;
    enum rfn_rule rule;
    enum rfn_stream_kind kind; /* of the capturing stream */
    enum rfn_capture_mode mode;
    enum rfn_status (*call)(struct step *s, struct rfn_stream *capturing);
    int code;
};

static void nothing(void *user)
{
    (void)user;
}

static enum rfn_status sync_own(struct step *s, struct rfn_stream *capturing)
{
    (void)s;
    return rfn_stream_sync(capturing);
}

static enum rfn_status sync_side(struct step *s, struct rfn_stream *capturing)
{
    (void)capturing;
    return rfn_stream_sync(s->side);
}

static enum rfn_status sync_event(struct step *s, struct rfn_stream *capturing)
{
    (void)capturing;
    return rfn_event_sync(s->fork); /* recorded before the capture */
}

static enum rfn_status sync_captured_event(struct step *s, struct rfn_stream *capturing)
{
    WORKS(s, rfn_event_record(s->join, capturing, 0));
    return rfn_event_sync(s->join);
}

static enum rfn_status sync_device(struct step *s, struct rfn_stream *capturing)
{
    (void)capturing;
    return rfn_device_sync(s->device);
}

static enum rfn_status copy_sync(struct step *s, struct rfn_stream *capturing)
{
    (void)capturing;
    return rfn_copy_sync(s->device, s->host_lens, s->lens, STEP_LENS_BYTES);
}

static enum rfn_status set_sync(struct step *s, struct rfn_stream *capturing)
{
    (void)capturing;
    return rfn_set_sync(s->device, s->lens, 0, STEP_LENS_BYTES);
}

static enum rfn_status copy_to_pageable(struct step *s, struct rfn_stream *capturing)
{
    static int32_t lens[STEP_ROWS];
    return rfn_copy_async(capturing, lens, s->lens, STEP_LENS_BYTES);
}

static enum rfn_status legacy_op(struct step *s, struct rfn_stream *capturing)
{
    (void)capturing;
    return rfn_index_topk(rfn_stream_legacy(s->device), &s->pick);
}

static enum rfn_status side_copy(struct step *s, struct rfn_stream *capturing)
{
    (void)capturing;
    return rfn_copy_async(s->side, s->lens, s->host_lens, STEP_LENS_BYTES);
}

static enum rfn_status side_set(struct step *s, struct rfn_stream *capturing)
{
    (void)capturing;
    return rfn_set_async(s->side, s->lens, 0, STEP_LENS_BYTES);
}

static enum rfn_status side_host_call(struct step *s, struct rfn_stream *capturing)
{
    (void)capturing;
    return rfn_host_call(s->side, nothing, NULL);
}

#define NB RFN_STREAM_NONBLOCKING
#define BL RFN_STREAM_BLOCKING

static const struct variant variants[] = {
    { "own stream", RFN_CAP001, NB, RFN_CAPTURE_GLOBAL, sync_own, 900 },
    { "own stream, relaxed", RFN_CAP001, NB, RFN_CAPTURE_RELAXED, sync_own, 900 },
    { "side stream", RFN_CAP001, NB, RFN_CAPTURE_THREAD_LOCAL, sync_side, 900 },
    { "side stream, relaxed", RFN_CAP001, NB, RFN_CAPTURE_RELAXED, sync_side, 0 },
    { "event", RFN_CAP001, NB, RFN_CAPTURE_GLOBAL, sync_event, 900 },
    { "event, relaxed", RFN_CAP001, BL, RFN_CAPTURE_RELAXED, sync_event, 0 },
    { "captured event", RFN_CAP001, NB, RFN_CAPTURE_RELAXED, sync_captured_event, 907 },
    { "device", RFN_CAP001, NB, RFN_CAPTURE_RELAXED, sync_device, 900 },
    { "copy", RFN_CAP002, NB, RFN_CAPTURE_GLOBAL, copy_sync, 0 },
    { "copy, blocking", RFN_CAP002, BL, RFN_CAPTURE_GLOBAL, copy_sync, 906 },
    { "set", RFN_CAP002, NB, RFN_CAPTURE_THREAD_LOCAL, set_sync, 0 },
    { "set, blocking", RFN_CAP002, BL, RFN_CAPTURE_RELAXED, set_sync, 906 },
    { "to pageable", RFN_CAP003, NB, RFN_CAPTURE_GLOBAL, copy_to_pageable, 0 },
    { "to pageable, blocking", RFN_CAP003, BL, RFN_CAPTURE_RELAXED, copy_to_pageable, 0 },
    { "legacy op", RFN_CAP004, NB, RFN_CAPTURE_GLOBAL, legacy_op, 0 },
    { "legacy op, blocking", RFN_CAP004, BL, RFN_CAPTURE_RELAXED, legacy_op, 906 },
    { "side copy", RFN_CAP004, BL, RFN_CAPTURE_GLOBAL, side_copy, 0 },
    { "side set", RFN_CAP004, NB, RFN_CAPTURE_GLOBAL, side_set, 0 },
    { "side host call", RFN_CAP004, NB, RFN_CAPTURE_RELAXED, side_host_call, 0 },
};

static void run(struct step *s, int i)
{
    const struct variant *v = &variants[i];
    struct rfn_capture_desc desc = { v->mode, v->name };
    struct rfn_stream *capturing = NULL;
    struct rfn_graph *graph = NULL;
    struct rfn_capture_info during, after;
    struct rfn_finding f;
    WORKS(s, rfn_stream_create(s->device, v->kind, &capturing));
    WORKS(s, rfn_event_record(s->fork, s->side, 0));
    WORKS(s, rfn_capture_begin(capturing, &desc));
    WORKS(s, rfn_capture_query(capturing, &during));

    enum rfn_status status = v->call(s, capturing);
    int code = status == RFN_OK ? 0 : rfn_last_code();
    WORKS(s, rfn_capture_query(capturing, &after));
    harness_check(&s->h, v->name, code == v->code, "code %d, not %d", code, v->code);
    int32_t count = rfn_check_count(s->check);
    if (harness_check(&s->h, v->name, count == i + 1, "%d findings, not %d", count,
                      i + 1))
    {
        WORKS(s, rfn_check_finding(s->check, i, &f));
        harness_check(&s->h, v->name, f.rule == v->rule, "%s",
                      rfn_rule_query(f.rule)->id);
        harness_check(&s->h, v->name, f.code == code, "finding has code %d", f.code);
        harness_check(&s->h, v->name, f.capture_id == during.id, "capture %llu, not %llu",
                      (unsigned long long)f.capture_id, (unsigned long long)during.id);
        harness_check(&s->h, v->name, f.status_after == after.status,
                      "the finding says status %d, the device %d", (int)f.status_after,
                      (int)after.status);
        harness_check(&s->h, v->name, !code || f.driver[0], "the device said nothing");
        harness_check(&s->h, v->name, strstr(f.why, v->name) != NULL, "%s", f.why);
    }
    status = rfn_capture_end(capturing, &graph);
    harness_check(&s->h, v->name, (status == RFN_OK) == (code == 0), "the end: %s",
                  rfn_status_name(status));
    WORKS(s, rfn_graph_destroy(&graph));
    WORKS(s, rfn_stream_destroy(&capturing));
}

int main(int argc, char **argv)
{
    struct step s;
    if (!step_open(&s, "variants", &argc, argv))
        return step_close(&s);
    for (int i = 0; i < (int)(sizeof variants / sizeof variants[0]) && !s.h.failed; i++)
        run(&s, i);
    return step_close(&s);
}
