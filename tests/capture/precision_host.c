/* The host uses pinned memory under copy as it may: nothing fires, under any schedule. */
#include "tests/capture/step.h"

static int32_t sum;

static void add_up(void *user)
{
    const int32_t *picked = user;
    for (int i = 0; i < STEP_ROWS * STEP_TOP; i++)
        sum += picked[i];
}

/* Looks at what was copied and clears it. */
static void use(struct step *s, const char *way)
{
    harness_check(&s->h, way, step_picked(s, s->host_lens), "not what was picked");
    memset(s->host_picked, 0, (size_t)STEP_PICKED_BYTES);
}

static void pick_and_fetch(struct step *s, struct rfn_stream *stream)
{
    void *slots = s->pick.slots.data;
    WORKS(s, rfn_index_topk(stream, &s->pick));
    WORKS(s, rfn_copy_async(stream, s->host_picked, slots, STEP_PICKED_BYTES));
}

/* Everything that is a wait. */
static void waits(struct step *s)
{
    int32_t lens[STEP_ROWS];
    float ms;
    struct rfn_stream *legacy = rfn_stream_legacy(s->device);
    struct rfn_stream *blocking = NULL;
    WORKS(s, rfn_stream_create(s->device, RFN_STREAM_BLOCKING, &blocking));

    pick_and_fetch(s, s->stream);
    WORKS(s, rfn_device_sync(s->device));
    use(s, "the device");
    pick_and_fetch(s, legacy);
    WORKS(s, rfn_stream_sync(legacy));
    use(s, "the legacy stream");
    pick_and_fetch(s, blocking);
    WORKS(s, rfn_stream_sync(legacy));
    use(s, "the legacy stream behind a blocking one");
    pick_and_fetch(s, legacy);
    WORKS(s, rfn_index_topk(blocking, &s->pick));
    WORKS(s, rfn_stream_sync(blocking));
    use(s, "a blocking stream behind the legacy one");
    pick_and_fetch(s, blocking);
    WORKS(s, rfn_copy_sync(s->device, lens, s->lens, STEP_LENS_BYTES));
    use(s, "a synchronous copy behind a blocking stream");
    pick_and_fetch(s, blocking);
    WORKS(s, rfn_stream_destroy(&blocking));
    WORKS(s, rfn_stream_sync(legacy));
    use(s, "the legacy stream behind a destroyed one");
    pick_and_fetch(s, s->stream);
    WORKS(s, rfn_copy_async(s->stream, lens, s->lens, STEP_LENS_BYTES));
    use(s, "an asynchronous copy to pageable memory behind it");
    WORKS(s, rfn_event_record(s->fork, s->stream, 0));
    pick_and_fetch(s, s->stream);
    WORKS(s, rfn_event_record(s->join, s->stream, 0));
    while (rfn_event_elapsed(s->fork, s->join, &ms) == RFN_NOT_READY)
        continue;
    use(s, "the time between two events");
    pick_and_fetch(s, rfn_stream_per_thread(s->device));
    while (rfn_stream_query(rfn_stream_per_thread(s->device)) == RFN_NOT_READY)
        continue;
    use(s, "queries of the per-thread stream");
    WORKS(s, rfn_set_async(s->stream, s->host_picked, 1, STEP_PICKED_BYTES));
    WORKS(s, rfn_stream_sync(s->stream));
    harness_check(&s->h, "a set", s->host_picked[0] == 0x01010101, "%x",
                  (unsigned)s->host_picked[0]);
}

/* What needs none: other bytes, reading a source, host functions in stream order. */
static void no_wait(struct step *s)
{
    void *memory = NULL;
    WORKS(s, rfn_memory_alloc(s->device, RFN_MEMORY_PINNED, 64, &memory));
    int32_t *pinned = memory;
    memset(pinned, 0, 64);
    WORKS(s, rfn_copy_async(s->stream, s->lens, pinned, STEP_LENS_BYTES));
    pinned[8] = pinned[0];
    harness_check(&s->h, "reading a source", pinned[8] == 0, "%d", pinned[8]);
    WORKS(s, rfn_copy_async(s->stream, s->lens, s->host_lens, STEP_LENS_BYTES));
    pick_and_fetch(s, s->stream);
    WORKS(s, rfn_host_call(s->stream, add_up, s->host_picked));
    WORKS(s, rfn_stream_sync(s->stream));
    harness_check(&s->h, "a host function", sum != 0, "%d", sum);
    WORKS(s, rfn_copy_async(s->stream, s->host_picked, s->pick.slots.data, 32));
    WORKS(s, rfn_memory_free(s->device, memory)); /* waits for all */
    s->host_picked[0] = 0;
}

/* Replays one behind the other, on two streams in turn, fetched by events. */
static void replays(struct step *s)
{
    struct rfn_graph *graph = NULL;
    struct rfn_exec *exec = NULL;
    WORKS(s, rfn_capture_begin(s->stream, NULL));
    WORKS(s, rfn_copy_async(s->stream, s->lens, s->host_lens, STEP_LENS_BYTES));
    pick_and_fetch(s, s->stream);
    WORKS(s, rfn_host_call(s->stream, add_up, s->host_picked));
    WORKS(s, rfn_event_record(s->join, s->stream, RFN_EVENT_EXTERNAL));
    WORKS(s, rfn_capture_end(s->stream, &graph));
    WORKS(s, rfn_graph_instantiate(graph, &exec));
    for (int step = 0; step < 6; step++)
    {
        struct rfn_stream *stream = step % 2 ? s->side : s->stream;
        WORKS(s, rfn_exec_launch(exec, stream));
        if (step == 2) /* unseen: the next launch copies the same */
            continue;
        if (step == 3)
            WORKS(s, rfn_event_sync(s->join));
        else
            WORKS(s, rfn_stream_sync(stream));
        use(s, "a replay");
        s->host_lens[0] = 3 + step;
    }
    WORKS(s, rfn_exec_launch(exec, s->stream));
    WORKS(s, rfn_exec_destroy(&exec));
    use(s, "an executable that is gone");
    WORKS(s, rfn_graph_destroy(&graph));
}

int main(int argc, char **argv)
{
    struct step s;
    if (!step_open(&s, "precision_host", &argc, argv))
        return step_close(&s);
    waits(&s);
    no_wait(&s);
    replays(&s);
    step_verdict(&s, RFN_RULES, "", 0, "");
    return step_close(&s);
}
