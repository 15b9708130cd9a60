/* What looks like a mistake and is none: nothing fires. precision_host.c has what the host does
 * with memory under copy. */
#include "tests/capture/step.h"

static void nothing(void *user)
{
    (void)user;
}

/* Every call that a rule asks about, on a stream of its own that does not capture. */
static void do_all(struct step *s, struct rfn_stream *stream, struct rfn_event *event)
{
    int32_t pageable[STEP_ROWS * STEP_TOP];
    void *slots = s->pick.slots.data;
    WORKS(s, rfn_index_topk(stream, &s->pick));
    WORKS(s, rfn_copy_async(stream, pageable, slots, STEP_PICKED_BYTES));
    WORKS(s, rfn_set_async(stream, slots, 0, STEP_PICKED_BYTES));
    WORKS(s, rfn_host_call(stream, nothing, NULL));
    WORKS(s, rfn_event_record(event, stream, 0));
    WORKS(s, rfn_event_sync(event));
    WORKS(s, rfn_stream_sync(stream));
    WORKS(s, rfn_copy_sync(s->device, pageable, slots, STEP_PICKED_BYTES));
    WORKS(s, rfn_set_sync(s->device, slots, 0, STEP_PICKED_BYTES));
}

struct other
{
    struct step *s;
    struct rfn_stream *stream;
    struct rfn_event *event;
};

static void *other_thread(void *arg)
{
    struct other *o = arg;
    do_all(o->s, o->stream, o->event);
    return NULL;
}

/* Another thread works on its own stream while this one captures. */
static void beside_another_thread(struct step *s, enum rfn_capture_mode mode)
{
    struct rfn_capture_desc desc = { mode, "beside" };
    struct rfn_graph *graph = NULL;
    struct other other = { .s = s };
    WORKS(s, rfn_stream_create(s->device, RFN_STREAM_NONBLOCKING, &other.stream));
    WORKS(s, rfn_event_create(s->device, &other.event));
    WORKS(s, rfn_capture_begin(s->stream, &desc));
    step_elsewhere(s, other_thread, &other);
    WORKS(s, rfn_index_topk(s->stream, &s->pick));
    WORKS(s, rfn_capture_end(s->stream, &graph));
    WORKS(s, rfn_graph_destroy(&graph));
    WORKS(s, rfn_event_destroy(&other.event));
    WORKS(s, rfn_stream_destroy(&other.stream));
}

/* Two captures of one thread at once; executables and queries beside them; a fork. */
static void beside_a_capture(struct step *s)
{
    struct rfn_graph *ready = NULL, *first = NULL, *second = NULL;
    struct rfn_exec *exec = NULL;
    struct rfn_stream *free_stream = NULL, *forked = NULL;
    struct rfn_capture_info info;
    struct rfn_memory_info memory;
    WORKS(s, rfn_stream_create(s->device, RFN_STREAM_NONBLOCKING, &free_stream));
    WORKS(s, rfn_stream_create(s->device, RFN_STREAM_BLOCKING, &forked));
    WORKS(s, rfn_capture_begin(s->stream, NULL));
    WORKS(s, rfn_index_topk(s->stream, &s->pick));
    WORKS(s, rfn_capture_end(s->stream, &ready));
    WORKS(s, rfn_graph_instantiate(ready, &exec));

    WORKS(s, rfn_capture_begin(s->stream, NULL));
    WORKS(s, rfn_capture_begin(s->side, NULL));
    WORKS(s, rfn_exec_launch(exec, free_stream)); /* runs now, and is meant to */
    WORKS(s, rfn_exec_update(exec, 0, &s->pick));
    WORKS(s, rfn_capture_query(free_stream, &info));
    WORKS(s, rfn_memory_query(s->device, s->lens, &memory));
    WORKS(s, rfn_capture_add_child(s->stream, ready));
    WORKS(s, rfn_index_topk(s->side, &s->pick));
    WORKS(s, rfn_event_record(s->fork, s->stream, 0));
    WORKS(s, rfn_stream_wait(forked, s->fork, 0));
    WORKS(s, rfn_copy_async(forked, s->lens, s->host_lens, STEP_LENS_BYTES));
    WORKS(s, rfn_set_async(forked, s->pick.slots.data, 0, STEP_PICKED_BYTES));
    WORKS(s, rfn_host_call(forked, nothing, NULL));
    WORKS(s, rfn_event_record(s->join, forked, 0));
    WORKS(s, rfn_stream_wait(s->stream, s->join, 0));
    WORKS(s, rfn_index_topk(s->stream, &s->pick));
    WORKS(s, rfn_capture_end(s->stream, &first));
    WORKS(s, rfn_index_topk(s->side, &s->pick)); /* the second is still open */
    WORKS(s, rfn_capture_end(s->side, &second));

    WORKS(s, rfn_stream_sync(free_stream));
    WORKS(s, rfn_exec_destroy(&exec));
    WORKS(s, rfn_graph_destroy(&ready));
    WORKS(s, rfn_graph_destroy(&first));
    WORKS(s, rfn_graph_destroy(&second));
    WORKS(s, rfn_stream_destroy(&forked));
    WORKS(s, rfn_stream_destroy(&free_stream));
}

static void *end_elsewhere(void *arg)
{
    struct step *s = arg;
    struct rfn_graph *graph = NULL;
    enum rfn_status status = rfn_capture_end(s->stream, &graph);
    harness_check(&s->h, "an end by another thread", status == RFN_CAPTURE, "%s",
                  rfn_status_name(status));
    return NULL;
}

/* Captures that come to a bad end are one finding each, and over: what comes behind is in none
 * of them. */
static void after_a_lost_capture(struct step *s)
{
    struct rfn_stream *forked = NULL;
    WORKS(s, rfn_stream_create(s->device, RFN_STREAM_NONBLOCKING, &forked));
    WORKS(s, rfn_capture_begin(s->stream, NULL));
    WORKS(s, rfn_event_record(s->fork, s->stream, 0));
    WORKS(s, rfn_stream_wait(forked, s->fork, 0));
    WORKS(s, rfn_index_topk(forked, &s->pick));
    step_lost(s, s->stream, 904);
    do_all(s, s->stream, s->join);
    WORKS(s, rfn_stream_destroy(&forked));

    WORKS(s, rfn_capture_begin(s->stream, NULL));
    step_elsewhere(s, end_elsewhere, s);
    do_all(s, s->stream, s->join);
    step_refused(s, rfn_capture_begin(rfn_stream_legacy(s->device), NULL));
    do_all(s, s->stream, s->join);
}

/* What relaxed threads and captures may do, and a fork that has no work of its own. */
static void while_relaxed(struct step *s)
{
    struct rfn_capture_desc desc = { RFN_CAPTURE_RELAXED, "relaxed" };
    enum rfn_capture_mode mode = RFN_CAPTURE_RELAXED;
    struct rfn_graph *graph = NULL;
    WORKS(s, rfn_event_record(s->join, s->side, 0));
    WORKS(s, rfn_capture_begin(s->stream, &desc));
    WORKS(s, rfn_event_record(s->fork, s->stream, 0));
    WORKS(s, rfn_stream_wait(s->side, s->fork, 0));
    WORKS(s, rfn_index_topk(s->stream, &s->pick));
    WORKS(s, rfn_memory_free(s->device, NULL)); /* lets nothing go */
    WORKS(s, rfn_capture_end(s->stream, &graph));
    WORKS(s, rfn_capture_begin(s->stream, NULL));
    WORKS(s, rfn_thread_mode_exchange(s->device, &mode));
    WORKS(s, rfn_memory_free(s->device, NULL));
    WORKS(s, rfn_thread_mode_exchange(s->device, &mode));
    WORKS(s, rfn_index_topk(s->stream, &s->pick));
    WORKS(s, rfn_graph_destroy(&graph));
    WORKS(s, rfn_capture_end(s->stream, &graph));
    WORKS(s, rfn_graph_destroy(&graph));
}

int main(int argc, char **argv)
{
    struct step s;
    struct rfn_event *event = NULL;
    if (!step_open(&s, "precision", &argc, argv))
        return step_close(&s);
    WORKS(&s, rfn_event_create(s.device, &event));
    do_all(&s, s.stream, event);
    do_all(&s, rfn_stream_legacy(s.device), event);
    do_all(&s, rfn_stream_per_thread(s.device), event);
    WORKS(&s, rfn_device_sync(s.device));
    step_verdict(&s, RFN_RULES, "", 0, "");

    beside_another_thread(&s, RFN_CAPTURE_THREAD_LOCAL);
    beside_another_thread(&s, RFN_CAPTURE_RELAXED);
    step_verdict(&s, RFN_RULES, "", 0, "");
    beside_a_capture(&s);
    while_relaxed(&s);
    step_verdict(&s, RFN_RULES, "", 0, "");
    after_a_lost_capture(&s);
    WORKS(&s, rfn_device_sync(s.device));
    do_all(&s, s.side, event);
    int32_t count = rfn_check_count(s.check);
    harness_check(&s.h, "a finding for each bad end", count == 2, "%d", count);
    WORKS(&s, rfn_event_destroy(&event));
    return step_close(&s);
}
