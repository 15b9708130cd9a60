/* Good: in a region that plans, every copy to the host is waited for, in whatever way; in other
 * regions one may be under way, for the next step. And plans that read what has come. */
#include "tests/capture/model.h"

enum way
{
    STREAM,
    EVENT,
    ANOTHER_STREAM, /* that waits for the event */
    STREAM_QUERY,
    EVENT_QUERY,
    DEVICE,
    LEGACY, /* for a blocking stream */
    COPY,   /* a synchronous one behind a blocking stream */
    ELAPSED,
    HOST_CALL, /* may have told the host */
    WAYS
};

static void nothing(void *user)
{
    (void)user;
}

static enum rfn_status wait_for(struct step *s, enum way way, struct rfn_stream *stream)
{
    enum rfn_status status = RFN_NOT_READY;
    int32_t lens[STEP_ROWS];
    float ms;
    switch (way)
    {
    case STREAM:
        return rfn_stream_sync(stream);
    case EVENT:
        return rfn_event_sync(s->join);
    case ANOTHER_STREAM:
        WORKS(s, rfn_stream_wait(s->side, s->join, 0));
        return rfn_stream_sync(s->side);
    case STREAM_QUERY:
        while (status == RFN_NOT_READY)
            status = rfn_stream_query(stream);
        return status;
    case EVENT_QUERY:
        while (status == RFN_NOT_READY)
            status = rfn_event_query(s->join);
        return status;
    case DEVICE:
        return rfn_device_sync(s->device);
    case LEGACY:
        return rfn_stream_sync(rfn_stream_legacy(s->device));
    case COPY:
        return rfn_copy_sync(s->device, lens, s->lens, STEP_LENS_BYTES);
    case ELAPSED:
        while (status == RFN_NOT_READY)
            status = rfn_event_elapsed(s->fork, s->join, &ms);
        return status;
    default:
        return rfn_host_call(stream, nothing, NULL);
    }
}

static void fetch(struct step *s, struct rfn_stream *stream)
{
    void *slots = s->pick.slots.data;
    WORKS(s, rfn_event_record(s->fork, stream, 0));
    WORKS(s, rfn_index_topk(stream, &s->pick));
    WORKS(s, rfn_copy_async(stream, s->host_picked, slots, STEP_PICKED_BYTES));
    WORKS(s, rfn_event_record(s->join, stream, 0));
}

static void plans(struct step *s, struct rfn_stream *blocking)
{
    for (int way = 0; way < WAYS; way++)
    {
        struct rfn_stream *stream = way == LEGACY || way == COPY ? blocking : s->stream;
        WORKS(s, rfn_region_begin("plan"));
        fetch(s, stream);
        WORKS(s, wait_for(s, way, stream));
        WORKS(s, rfn_region_end());
        WORKS(s, rfn_device_sync(s->device));
    }
}

static void *other_plan(void *arg)
{
    struct step *s = arg;
    WORKS(s, rfn_region_begin("plan"));
    WORKS(s, rfn_region_end());
    return NULL;
}

/* Read in the next step, from another region; a target that a copy waits for itself; a copy of
 * a capture, which is made by the replay. */
static void for_later(struct step *s)
{
    struct rfn_graph *graph = NULL;
    int32_t pageable[STEP_ROWS * STEP_TOP];
    void *slots = s->pick.slots.data;
    WORKS(s, rfn_region_begin("step"));
    fetch(s, s->stream);
    WORKS(s, rfn_region_begin("plan"));
    WORKS(s, rfn_copy_async(s->stream, s->lens, s->host_lens, STEP_LENS_BYTES));
    WORKS(s, rfn_region_end());
    WORKS(s, rfn_region_begin("explanation"));
    fetch(s, s->stream);
    WORKS(s, rfn_region_end());
    step_elsewhere(s, other_plan, s);
    WORKS(s, rfn_region_end());
    WORKS(s, rfn_stream_sync(s->stream));
    WORKS(s, rfn_region_begin("plan"));
    WORKS(s, rfn_copy_async(s->stream, pageable, slots, STEP_PICKED_BYTES));
    WORKS(s, rfn_capture_begin(s->stream, NULL));
    WORKS(s, rfn_index_topk(s->stream, &s->pick));
    step_fetch(s);
    WORKS(s, rfn_capture_end(s->stream, &graph));
    WORKS(s, rfn_region_end());
    step_replay(s, graph);
}

/* Lengths that were fetched, waited for and planned with; beside them others on their way. */
static void lengths(struct step *s)
{
    struct model m;
    struct rfn_bucket planned;
    model_open(s, &m);
    struct rfn_step step = model_step(&m, 2);
    void *pinned = NULL;
    WORKS(s, rfn_memory_alloc(s->device, RFN_MEMORY_PINNED, 64, &pinned));
    int32_t *lens = pinned;
    step.lens = lens;
    WORKS(s, rfn_copy_async(s->stream, lens, s->lens, STEP_LENS_BYTES));
    WORKS(s, rfn_stream_sync(s->stream));
    WORKS(s, rfn_copy_async(s->stream, lens + STEP_ROWS, s->lens, STEP_LENS_BYTES));
    WORKS(s, rfn_attention_plan(m.attention, s->stream, &step, &planned));
    WORKS(s, rfn_stream_sync(s->stream));
    WORKS(s, rfn_memory_free(s->device, pinned));
    model_close(s, &m);
}

int main(int argc, char **argv)
{
    struct step s;
    struct rfn_stream *blocking = NULL;
    if (!step_open(&s, "cap017_plan_good", &argc, argv))
        return step_close(&s);
    WORKS(&s, rfn_stream_create(s.device, RFN_STREAM_BLOCKING, &blocking));
    plans(&s, blocking);
    for_later(&s);
    lengths(&s);
    step_verdict(&s, RFN_RULES, "", 0, "");
    WORKS(&s, rfn_stream_destroy(&blocking));
    return step_close(&s);
}
