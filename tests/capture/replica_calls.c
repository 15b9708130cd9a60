/* The calls that the front end shares with the recording, under the recording's names. */
#include "tests/capture/replica_env.h"

/* A launch that writes one word, as the probe's kernel does: the slot of the best of one
 * score is the page that the block table names. */
static struct rfn_index_topk_args mark_args_of(const struct replica_env *e, int word)
{
    int32_t *m = e->marks;
    return (struct rfn_index_topk_args) {
        .logits = rfn_tensor_of(m, RFN_F32, 1, 1, 0, 0),
        .lens = rfn_tensor_of(m + 4, RFN_I32, 1, 0, 0, 0),
        .request = rfn_tensor_of(m + 8, RFN_I32, 1, 0, 0, 0),
        .table = rfn_tensor_of(m + 12 + 4 * word, RFN_I32, 1, 1, 0, 0),
        .slots = rfn_tensor_of(e->dev_dst, RFN_I32, 1, 1, 0, 0),
        .page_tokens = 1,
        .pages = INT32_MAX,
    };
}

static int mark(struct replica_env *e, struct rfn_stream *stream)
{
    struct rfn_index_topk_args args = mark_args_of(e, 0);
    return replica_code(rfn_index_topk(stream, &args));
}

static int launch(struct replica_env *e)
{
    return mark(e, e->stream);
}

/* ---- memory ---- */

static int alloc(struct replica_env *e)
{
    return replica_code(
        rfn_memory_alloc(e->device, (enum rfn_memory_kind)e->call->arg, 65536, &e->ptr));
}

static int release(struct replica_env *e)
{
    int code = replica_code(rfn_memory_free(e->device, e->ptr));
    if (!code)
        e->ptr = NULL;
    return code;
}

static int free_null(struct replica_env *e)
{
    return replica_code(rfn_memory_free(e->device, NULL));
}

/* ---- copies and sets ---- */

enum
{
    H2D_PAGEABLE,
    H2D_PINNED,
    D2H_PAGEABLE,
    D2H_PINNED,
    D2D,
    H2H,
    ENDS = 7,
    LARGE = 8
};

static int copy(struct replica_env *e, struct rfn_stream *stream)
{
    int32_t *dst[] = { e->dev_dst, e->dev_dst, e->page_dst,
                       e->pin_dst, e->dev_dst, e->page_dst };
    int32_t *src[] = { e->page_src, e->pin_src, e->dev_src,
                       e->dev_src,  e->dev_src, e->page_src };
    int ends = e->call->arg & ENDS, bytes = e->call->arg & LARGE ? REPLICA_BYTES : 4;
    return replica_code(stream ? rfn_copy_async(stream, dst[ends], src[ends], bytes)
                               : rfn_copy_sync(e->device, dst[ends], src[ends], bytes));
}

static int copy_sync(struct replica_env *e)
{
    return copy(e, NULL);
}

static int copy_async(struct replica_env *e)
{
    return copy(e, e->stream);
}

static int set_sync(struct replica_env *e)
{
    return replica_code(rfn_set_sync(e->device, e->dev_dst, REPLICA_BYTE, 4));
}

static int set_pinned(struct replica_env *e)
{
    return replica_code(rfn_set_sync(e->device, e->pin_dst, REPLICA_BYTE, 4));
}

static int set_async(struct replica_env *e)
{
    return replica_code(rfn_set_async(e->stream, e->dev_dst, REPLICA_BYTE, 4));
}

static void write_page(void *word)
{
    *(volatile int32_t *)word = REPLICA_WORD;
}

static int host_call(struct replica_env *e)
{
    return replica_code(rfn_host_call(e->stream, write_page, e->page_dst));
}

/* ---- streams ---- */

static int stream_sync(struct replica_env *e)
{
    return replica_code(rfn_stream_sync(e->stream));
}

static int stream_query(struct replica_env *e)
{
    return replica_code(rfn_stream_query(e->stream));
}

static int device_sync(struct replica_env *e)
{
    return replica_code(rfn_device_sync(e->device));
}

static int stream_create(struct replica_env *e)
{
    return replica_code(rfn_stream_create(e->device, (enum rfn_stream_kind)e->call->arg,
                                          &e->made_stream));
}

static int destroy_idle(struct replica_env *e)
{
    return replica_code(rfn_stream_destroy(&e->idle));
}

static int join_extra(struct replica_env *e)
{
    return replica_fork(e, e->extra);
}

static int destroy_extra(struct replica_env *e)
{
    return replica_code(rfn_stream_destroy(&e->extra));
}

static int capture_query(struct replica_env *e)
{
    struct rfn_capture_info info;
    return replica_code(rfn_capture_query(e->stream, &info));
}

/* ---- events ---- */

static int event_create(struct replica_env *e)
{
    return replica_code(rfn_event_create(e->device, &e->made_event));
}

static int record_before(struct replica_env *e)
{
    int code = replica_code(rfn_event_record(e->event, e->idle, 0));
    if (!code)
        code = replica_code(rfn_event_record(e->event2, e->idle, 0));
    return code ? code : replica_code(rfn_stream_sync(e->idle));
}

static int record_captured(struct replica_env *e)
{
    int code = replica_code(rfn_event_record(e->event, e->origin, 0));
    return code ? code : replica_code(rfn_event_record(e->event2, e->origin, 0));
}

static int record_other_capture(struct replica_env *e)
{
    struct rfn_capture_desc desc = { e->mode, NULL };
    int code = replica_code(rfn_capture_begin(e->extra, &desc));
    if (code)
        return code;
    e->second = e->extra;
    return replica_code(rfn_event_record(e->event, e->extra, 0));
}

static int record_ended(struct replica_env *e)
{
    struct rfn_capture_desc desc = { RFN_CAPTURE_RELAXED, NULL };
    int code = replica_code(rfn_capture_begin(e->idle, &desc));
    if (!code)
        code = replica_code(rfn_event_record(e->event, e->idle, 0));
    if (!code)
        code = replica_code(rfn_event_record(e->event2, e->idle, 0));
    return code ? code : replica_code(rfn_capture_end(e->idle, &e->graph));
}

static int record_lost(struct replica_env *e)
{
    int code = record_other_capture(e);
    if (!code)
        (void)rfn_stream_query(e->extra);
    return code;
}

static int event_destroy(struct replica_env *e)
{
    return replica_code(rfn_event_destroy(&e->event));
}

static int event_record(struct replica_env *e)
{
    return replica_code(rfn_event_record(e->event, e->stream, (uint32_t)e->call->arg));
}

static int record_then_legacy(struct replica_env *e)
{
    int code = replica_code(rfn_event_record(e->event, e->stream, 0));
    return code
               ? code
               : replica_code(rfn_stream_wait(rfn_stream_legacy(e->device), e->event, 0));
}

static int record_then_origin(struct replica_env *e)
{
    int code = replica_code(rfn_event_record(e->event, e->stream, 0));
    return code ? code : replica_code(rfn_stream_wait(e->origin, e->event, 0));
}

static int event_query(struct replica_env *e)
{
    return replica_code(rfn_event_query(e->event));
}

static int event_sync(struct replica_env *e)
{
    return replica_code(rfn_event_sync(e->event));
}

static int event_elapsed(struct replica_env *e)
{
    float ms;
    return replica_code(rfn_event_elapsed(e->event, e->event2, &ms));
}

static int stream_wait(struct replica_env *e)
{
    return replica_code(rfn_stream_wait(e->stream, e->event, (uint32_t)e->call->arg));
}

/* ---- graphs ---- */

static int make_graph(struct replica_env *e)
{
    struct rfn_capture_desc desc = { RFN_CAPTURE_RELAXED, "made before" };
    int code = replica_code(rfn_capture_begin(e->idle, &desc));
    if (!code)
        code = mark(e, e->idle);
    return code ? code : replica_code(rfn_capture_end(e->idle, &e->graph));
}

static int make_exec(struct replica_env *e)
{
    int code = make_graph(e);
    return code ? code : replica_code(rfn_graph_instantiate(e->graph, &e->exec));
}

static int graph_destroy(struct replica_env *e)
{
    return replica_code(rfn_graph_destroy(&e->graph));
}

static int instantiate(struct replica_env *e)
{
    return replica_code(rfn_graph_instantiate(e->graph, &e->exec));
}

static int exec_destroy(struct replica_env *e)
{
    return replica_code(rfn_exec_destroy(&e->exec));
}

static int exec_launch(struct replica_env *e)
{
    return replica_code(rfn_exec_launch(e->exec, e->stream));
}

static int exec_upload(struct replica_env *e)
{
    return replica_code(rfn_exec_upload(e->exec, e->stream));
}

static int exec_update(struct replica_env *e)
{
    struct rfn_index_topk_args args = mark_args_of(e, 1);
    return replica_code(rfn_exec_update(e->exec, 0, &args));
}

static int add_child(struct replica_env *e)
{
    return replica_code(rfn_capture_add_child(e->stream, e->graph));
}

/* ---- captures ---- */

static int begin_on_stream(struct replica_env *e)
{
    struct rfn_capture_desc desc = { e->mode, NULL };
    if (e->stream != rfn_stream_legacy(e->device) && e->stream != e->origin)
        e->second = e->stream;
    return replica_code(rfn_capture_begin(e->stream, &desc));
}

static int begin_on_origin(struct replica_env *e)
{
    struct rfn_capture_desc desc = { e->mode, NULL };
    return replica_code(rfn_capture_begin(e->origin, &desc));
}

static int end_on_stream(struct replica_env *e)
{
    return replica_code(rfn_capture_end(e->stream, &e->ended));
}

static int end_on_origin(struct replica_env *e)
{
    return replica_code(rfn_capture_end(e->origin, &e->ended));
}

static int end_on_extra(struct replica_env *e)
{
    return replica_code(rfn_capture_end(e->extra, &e->ended));
}

static int end_on_idle(struct replica_env *e)
{
    return replica_code(rfn_capture_end(e->idle, &e->ended));
}

static int fork_extra_launch(struct replica_env *e)
{
    int code = replica_fork(e, e->extra);
    return code ? code : mark(e, e->extra);
}

static int fork_extra_destroyed(struct replica_env *e)
{
    int code = fork_extra_launch(e);
    return code ? code : destroy_extra(e);
}

static int invalidate(struct replica_env *e)
{
    (void)rfn_stream_query(e->origin);
    return 0;
}

static int record_on_origin(struct replica_env *e)
{
    return replica_code(rfn_event_record(e->event, e->origin, 0));
}

static int launch_on_origin(struct replica_env *e)
{
    return mark(e, e->origin);
}

static int wait_on_origin(struct replica_env *e)
{
    return replica_code(rfn_stream_wait(e->origin, e->event, 0));
}

static int sync_origin(struct replica_env *e)
{
    return replica_code(rfn_stream_sync(e->origin));
}

static int alloc_now(struct replica_env *e)
{
    return replica_code(rfn_memory_alloc(e->device, RFN_MEMORY_DEVICE, 65536, &e->ptr));
}

static int exchange_mode(struct replica_env *e)
{
    enum rfn_capture_mode mode = RFN_CAPTURE_RELAXED;
    int code = replica_code(rfn_thread_mode_exchange(e->device, &mode));
    if (!code)
        rfn_thread_mode_exchange(e->device, &mode);
    return code;
}

/* clang-format off */
const struct replica_call replica_calls[] = {
    { "cudaMalloc", 0, RFN_MEMORY_DEVICE, NULL, NULL, alloc },
    { "cudaMallocHost", 0, RFN_MEMORY_PINNED, NULL, NULL, alloc },
    { "cudaFree", 0, RFN_MEMORY_DEVICE, alloc, NULL, release },
    { "cudaFree:null", 0, 0, NULL, NULL, free_null },
    { "cudaFreeHost", 0, RFN_MEMORY_PINNED, alloc, NULL, release },
    { "cudaMemcpy:h2d-pageable", SEEN_DEVICE, H2D_PAGEABLE, NULL, NULL, copy_sync },
    { "cudaMemcpy:h2d-pinned", SEEN_DEVICE, H2D_PINNED, NULL, NULL, copy_sync },
    { "cudaMemcpy:d2h-pageable", SEEN_PAGEABLE, D2H_PAGEABLE, NULL, NULL, copy_sync },
    { "cudaMemcpy:d2h-pinned", SEEN_PINNED, D2H_PINNED, NULL, NULL, copy_sync },
    { "cudaMemcpy:d2d", SEEN_DEVICE, D2D, NULL, NULL, copy_sync },
    { "cudaMemcpy:h2h", SEEN_PAGEABLE, H2H, NULL, NULL, copy_sync },
    { "cudaMemcpy:h2d-pageable-1mb", SEEN_DEVICE, H2D_PAGEABLE | LARGE, NULL, NULL, copy_sync },
    { "cudaMemcpy:d2h-pageable-1mb", SEEN_PAGEABLE, D2H_PAGEABLE | LARGE, NULL, NULL, copy_sync },
    { "cudaMemset", SEEN_DEVICE, 0, NULL, NULL, set_sync },
    { "cudaMemset:pinned", SEEN_PINNED, 0, NULL, NULL, set_pinned },
    { "cudaMemcpyAsync:h2d-pageable", SEEN_DEVICE, H2D_PAGEABLE, NULL, NULL, copy_async },
    { "cudaMemcpyAsync:h2d-pinned", SEEN_DEVICE, H2D_PINNED, NULL, NULL, copy_async },
    { "cudaMemcpyAsync:d2h-pageable", SEEN_PAGEABLE, D2H_PAGEABLE, NULL, NULL, copy_async },
    { "cudaMemcpyAsync:d2h-pinned", SEEN_PINNED, D2H_PINNED, NULL, NULL, copy_async },
    { "cudaMemcpyAsync:d2d", SEEN_DEVICE, D2D, NULL, NULL, copy_async },
    { "cudaMemcpyAsync:h2h", SEEN_PAGEABLE, H2H, NULL, NULL, copy_async },
    { "cudaMemcpyAsync:h2d-pageable-1mb", SEEN_DEVICE, H2D_PAGEABLE | LARGE, NULL, NULL, copy_async },
    { "cudaMemcpyAsync:d2h-pageable-1mb", SEEN_PAGEABLE, D2H_PAGEABLE | LARGE, NULL, NULL, copy_async },
    { "cudaMemsetAsync", SEEN_DEVICE, 0, NULL, NULL, set_async },
    { "cudaLaunchHostFunc", SEEN_PAGEABLE, 0, NULL, NULL, host_call },
    { "cudaStreamSynchronize", 0, 0, NULL, NULL, stream_sync },
    { "cudaStreamQuery", 0, 0, NULL, NULL, stream_query },
    { "cudaDeviceSynchronize", 0, 0, NULL, NULL, device_sync },
    { "cudaStreamCreate:nonblocking", 0, RFN_STREAM_NONBLOCKING, NULL, NULL, stream_create },
    { "cudaStreamCreate:blocking", 0, RFN_STREAM_BLOCKING, NULL, NULL, stream_create },
    { "cudaStreamDestroy:other", 0, 0, NULL, NULL, destroy_idle },
    { "cudaStreamDestroy:joined", 0, 0, NULL, join_extra, destroy_extra },
    { "cudaStreamIsCapturing", 0, 0, NULL, NULL, capture_query },
    { "cudaStreamGetCaptureInfo", 0, 0, NULL, NULL, capture_query },
    { "cudaEventCreate", 0, 0, NULL, NULL, event_create },
    { "cudaEventDestroy:uncaptured", 0, 0, record_before, NULL, event_destroy },
    { "cudaEventDestroy:captured", 0, 0, NULL, record_captured, event_destroy },
    { "cudaEventRecord", 0, 0, NULL, NULL, event_record },
    { "cudaEventRecordWithFlags:external", 0, RFN_EVENT_EXTERNAL, NULL, NULL, event_record },
    { "cudaEventRecord:then_wait_legacy", 0, 0, NULL, NULL, record_then_legacy },
    { "cudaEventRecord:then_wait_origin", 0, 0, NULL, NULL, record_then_origin },
    { "cudaEventQuery:uncaptured", 0, 0, record_before, NULL, event_query },
    { "cudaEventQuery:captured", 0, 0, NULL, record_captured, event_query },
    { "cudaEventQuery:never", 0, 0, NULL, NULL, event_query },
    { "cudaEventSynchronize:uncaptured", 0, 0, record_before, NULL, event_sync },
    { "cudaEventSynchronize:captured", 0, 0, NULL, record_captured, event_sync },
    { "cudaEventElapsedTime:uncaptured", 0, 0, record_before, NULL, event_elapsed },
    { "cudaEventElapsedTime:captured", 0, 0, NULL, record_captured, event_elapsed },
    { "cudaStreamWaitEvent:uncaptured", 0, 0, record_before, NULL, stream_wait },
    { "cudaStreamWaitEvent:never", 0, 0, NULL, NULL, stream_wait },
    { "cudaStreamWaitEvent:captured", 0, 0, NULL, record_captured, stream_wait },
    { "cudaStreamWaitEvent:external", 0, RFN_EVENT_EXTERNAL, record_before, NULL, stream_wait },
    { "cudaStreamWaitEvent:other-capture", 0, 0, NULL, record_other_capture, stream_wait },
    { "kernel", SEEN_DEVICE, 0, NULL, NULL, launch },
    { "cudaGraphDestroy", 0, 0, make_graph, NULL, graph_destroy },
    { "cudaGraphInstantiate", 0, 0, make_graph, NULL, instantiate },
    { "cudaGraphExecDestroy", 0, 0, make_exec, NULL, exec_destroy },
    { "cudaGraphLaunch", SEEN_DEVICE, 0, make_exec, NULL, exec_launch },
    { "cudaGraphUpload", 0, 0, make_exec, NULL, exec_upload },
    { "cudaGraphExecKernelNodeSetParams", 0, 0, make_exec, NULL, exec_update },
    { "cudaGraphAddChildGraphNode:capture", 0, 0, make_graph, NULL, add_child },
    { "cudaStreamBeginCapture", 0, 0, NULL, NULL, begin_on_stream },
    { "cudaStreamEndCapture", 0, 0, NULL, NULL, end_on_stream },
    { "cudaStreamEndCapture:origin", 0, 0, NULL, NULL, end_on_origin },
    { "cudaThreadExchangeStreamCaptureMode", 0, 0, NULL, NULL, exchange_mode },
    { "end:unjoined", 0, 0, NULL, fork_extra_launch, end_on_origin },
    { "end:unjoined-destroyed", 0, 0, NULL, fork_extra_destroyed, end_on_origin },
    { "end:joined-member", 0, 0, NULL, join_extra, end_on_extra },
    { "end:uninvolved", 0, 0, NULL, NULL, end_on_idle },
    { "begin:twice", 0, 0, NULL, NULL, begin_on_origin },
    { "cudaEventRecord:ended", 0, 0, record_ended, NULL, event_record },
    { "cudaEventQuery:ended", 0, 0, record_ended, NULL, event_query },
    { "cudaEventSynchronize:ended", 0, 0, record_ended, NULL, event_sync },
    { "cudaEventElapsedTime:ended", 0, 0, record_ended, NULL, event_elapsed },
    { "cudaStreamWaitEvent:ended", 0, 0, record_ended, NULL, stream_wait },
    { "cudaStreamWaitEvent:ended-external", 0, RFN_EVENT_EXTERNAL, record_ended, NULL, stream_wait },
    { "cudaStreamWaitEvent:never-external", 0, RFN_EVENT_EXTERNAL, NULL, NULL, stream_wait },
    { "cudaStreamWaitEvent:captured-external", 0, RFN_EVENT_EXTERNAL, NULL, record_captured, stream_wait },
    { "cudaEventQuery:lost", 0, 0, NULL, record_lost, event_query },
    { "cudaEventSynchronize:lost", 0, 0, NULL, record_lost, event_sync },
    { "cudaStreamWaitEvent:lost", 0, 0, NULL, record_lost, stream_wait },
    { "cudaStreamWaitEvent:lost-external", 0, RFN_EVENT_EXTERNAL, NULL, record_lost, stream_wait },
    { "lost:begin", 0, 0, NULL, invalidate, begin_on_origin },
    { "lost:end", 0, 0, NULL, invalidate, end_on_origin },
    { "lost:kernel", 0, 0, NULL, invalidate, launch_on_origin },
    { "lost:record", 0, 0, NULL, invalidate, record_on_origin },
    { "lost:wait", 0, 0, NULL, invalidate, wait_on_origin },
    { "lost:sync", 0, 0, NULL, invalidate, sync_origin },
    { "lost:malloc", 0, 0, NULL, invalidate, alloc_now },
    { NULL, 0, 0, NULL, NULL, NULL },
};
/* clang-format on */
