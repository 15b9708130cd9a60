/* Events: recorded before the capture, in it, in another capture, never. */
#include "probe.h"

static int event_create(struct probe_env *e)
{
    return (int)cudaEventCreateWithFlags(&e->made_event, (unsigned)e->call->arg);
}

static void undo_event_create(struct probe_env *e)
{
    if (e->rc == 0)
        cudaEventDestroy(e->made_event);
}

/* Before the capture, and completed. */
static int record_before(struct probe_env *e)
{
    int rc;
    if ((rc = (int)cudaEventRecord(e->event, e->idle)) ||
        (rc = (int)cudaEventRecord(e->event2, e->idle)))
        return rc;
    return (int)cudaStreamSynchronize(e->idle);
}

/* In the capture, on the origin. */
static int record_captured(struct probe_env *e)
{
    int rc = (int)cudaEventRecord(e->event, e->origin);
    return rc ? rc : (int)cudaEventRecord(e->event2, e->origin);
}

/* In a second capture of the same mode, begun by the same thread. */
static int record_other_capture(struct probe_env *e)
{
    int rc = (int)cudaStreamBeginCapture(e->extra, e->mode);
    if (rc)
        return rc;
    e->second = e->extra;
    return (int)cudaEventRecord(e->event, e->extra);
}

/* In a capture that is over; its graph still lives. */
static int record_ended(struct probe_env *e)
{
    int rc = (int)cudaStreamBeginCapture(e->idle, cudaStreamCaptureModeRelaxed);
    if (rc)
        return rc;
    if ((rc = (int)cudaEventRecord(e->event, e->idle)) ||
        (rc = (int)cudaEventRecord(e->event2, e->idle)))
        return rc;
    return (int)cudaStreamEndCapture(e->idle, &e->graph);
}

static void undo_ended(struct probe_env *e)
{
    if (e->graph)
        cudaGraphDestroy(e->graph);
}

/* In a second capture, which is then invalidated and stays open. */
static int record_lost(struct probe_env *e)
{
    int rc = record_other_capture(e);
    if (rc)
        return rc;
    (void)cudaStreamQuery(e->extra);
    return 0;
}

static int event_destroy(struct probe_env *e)
{
    int rc = (int)cudaEventDestroy(e->event);
    if (rc == 0)
        e->event = NULL;
    return rc;
}

static int event_record(struct probe_env *e)
{
    return (int)cudaEventRecordWithFlags(e->event, e->stream, (unsigned)e->call->arg);
}

static int event_record_plain(struct probe_env *e)
{
    return (int)cudaEventRecord(e->event, e->stream);
}

static int record_then_legacy(struct probe_env *e)
{
    int rc = event_record_plain(e);
    return rc ? rc : (int)cudaStreamWaitEvent(NULL, e->event, 0);
}

static int record_then_origin(struct probe_env *e)
{
    int rc = event_record_plain(e);
    return rc ? rc : (int)cudaStreamWaitEvent(e->origin, e->event, 0);
}

static int event_query(struct probe_env *e)
{
    return (int)cudaEventQuery(e->event);
}

static int event_sync(struct probe_env *e)
{
    return (int)cudaEventSynchronize(e->event);
}

static int event_elapsed(struct probe_env *e)
{
    float ms;
    return (int)cudaEventElapsedTime(&ms, e->event, e->event2);
}

static int stream_wait(struct probe_env *e)
{
    return (int)cudaStreamWaitEvent(e->stream, e->event, (unsigned)e->call->arg);
}

/* clang-format off */
const struct probe_call probe_event_calls[] = {
    {.id = "cudaEventCreate", .run = event_create, .arg = cudaEventDefault,
     .undo = undo_event_create, .what = "a timing event"},
    {.id = "cudaEventCreate:notiming", .run = event_create, .arg = cudaEventDisableTiming,
     .undo = undo_event_create, .what = "an event without timing"},
    {.id = "cudaEventDestroy:uncaptured", .setup = record_before, .run = event_destroy,
     .what = "an event recorded before the capture"},
    {.id = "cudaEventDestroy:captured", .prepare = record_captured, .run = event_destroy,
     .what = "an event recorded in the capture"},
    {.id = "cudaEventRecord", .run = event_record_plain,
     .what = "a fresh event on the stream"},
    {.id = "cudaEventRecordWithFlags:external", .run = event_record,
     .arg = cudaEventRecordExternal, .what = "a record for the world outside the graph"},
    {.id = "cudaEventRecord:then_wait_legacy", .run = record_then_legacy,
     .what = "recorded on the stream, then the legacy stream waits; rc is the wait's"},
    {.id = "cudaEventRecord:then_wait_origin", .run = record_then_origin,
     .what = "recorded on the stream, then the origin waits; rc is the wait's"},
    {.id = "cudaEventQuery:uncaptured", .setup = record_before, .run = event_query,
     .what = "an event completed before the capture"},
    {.id = "cudaEventQuery:captured", .prepare = record_captured, .run = event_query,
     .what = "an event recorded in the capture"},
    {.id = "cudaEventQuery:never", .run = event_query, .what = "an event never recorded"},
    {.id = "cudaEventSynchronize:uncaptured", .setup = record_before, .run = event_sync,
     .what = "an event completed before the capture"},
    {.id = "cudaEventSynchronize:captured", .prepare = record_captured, .run = event_sync,
     .what = "an event recorded in the capture"},
    {.id = "cudaEventElapsedTime:uncaptured", .setup = record_before,
     .run = event_elapsed, .what = "two events completed before the capture"},
    {.id = "cudaEventElapsedTime:captured", .prepare = record_captured,
     .run = event_elapsed, .what = "two events recorded in the capture"},
    {.id = "cudaStreamWaitEvent:uncaptured", .setup = record_before, .run = stream_wait,
     .what = "the stream waits for an event from before the capture"},
    {.id = "cudaStreamWaitEvent:never", .run = stream_wait,
     .what = "the stream waits for an event never recorded"},
    {.id = "cudaStreamWaitEvent:captured", .prepare = record_captured, .run = stream_wait,
     .what = "the stream waits for an event captured on the origin"},
    {.id = "cudaStreamWaitEvent:external", .setup = record_before, .run = stream_wait,
     .arg = cudaEventWaitExternal, .what = "from before the capture, declared external"},
    {.id = "cudaStreamWaitEvent:other-capture", .prepare = record_other_capture,
     .run = stream_wait, .what = "an event of a second capture; status of both"},
    {.id = "cudaEventRecord:ended", .setup = record_ended, .run = event_record_plain,
     .undo = undo_ended, .what = "an event of a capture that is over, recorded afresh"},
    {.id = "cudaEventQuery:ended", .setup = record_ended, .run = event_query,
     .undo = undo_ended, .what = "an event of a capture that is over"},
    {.id = "cudaEventSynchronize:ended", .setup = record_ended, .run = event_sync,
     .undo = undo_ended, .what = "an event of a capture that is over"},
    {.id = "cudaEventElapsedTime:ended", .setup = record_ended, .run = event_elapsed,
     .undo = undo_ended, .what = "two events of a capture that is over"},
    {.id = "cudaStreamWaitEvent:ended", .setup = record_ended, .run = stream_wait,
     .undo = undo_ended, .what = "the stream waits for an event of a capture that is over"},
    {.id = "cudaStreamWaitEvent:ended-external", .setup = record_ended,
     .run = stream_wait, .arg = cudaEventWaitExternal, .undo = undo_ended,
     .what = "the same, declared external"},
    {.id = "cudaStreamWaitEvent:never-external", .run = stream_wait,
     .arg = cudaEventWaitExternal, .what = "an event never recorded, declared external"},
    {.id = "cudaStreamWaitEvent:captured-external", .prepare = record_captured,
     .run = stream_wait, .arg = cudaEventWaitExternal,
     .what = "an event of this capture, declared external"},
    {.id = "cudaEventQuery:lost", .prepare = record_lost, .run = event_query,
     .what = "an event of a second capture that was invalidated; status of both"},
    {.id = "cudaEventSynchronize:lost", .prepare = record_lost, .run = event_sync,
     .what = "the same"},
    {.id = "cudaStreamWaitEvent:lost", .prepare = record_lost, .run = stream_wait,
     .what = "the stream waits for an event of an invalidated capture; status of both"},
    {.id = "cudaStreamWaitEvent:lost-external", .prepare = record_lost,
     .run = stream_wait, .arg = cudaEventWaitExternal, .what = "the same, external"},
    {0},
};
/* clang-format on */
