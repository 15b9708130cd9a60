/*
 * What others bring, and what they may read: streams of a framework with the captures that it
 * begins on them, and the platform's handles of ours. No CUDA type crosses: handles are
 * void *.
 *
 * A capture that somebody else began (torch.cuda.graph) needs no call here: every op, copy and
 * event works in it. Memory of ours that is touched in one cannot be freed (RFN_BUSY) until
 * its graph and all executables of that are gone; device memory of others needs no import.
 *
 * What holds for all calls unless a line says otherwise:
 *   Threads   Any thread; at most one at a time on one stream, event or graph.
 *   Errors    As in device.h.
 */
#ifndef REFRAIN_FOREIGN_H
#define REFRAIN_FOREIGN_H

#include <refrain/device.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * Wraps a stream of somebody else: on cuda a cudaStream_t, on the host device what
 * rfn_stream_native gave for one of the same device. NULL is the legacy stream, as frameworks
 * spell it. The stream has to outlive the wrapper; rfn_stream_destroy forgets it.
 *
 * Capture   Safe in every mode, of a capturing stream too, which then passes for
 *           non-blocking: its flags cannot be asked for. A checker follows captures of others
 *           on streams that are imported meanwhile.
 * Errors    RFN_INVALID: a stream of another device, both named. A dead handle is not told
 *           from a live one.
 */
RFN_API enum rfn_status rfn_stream_import(struct rfn_device *device, void *native,
                                          struct rfn_stream **ret_stream);

/**
 * The platform's handle of a stream, on cuda its cudaStream_t; NULL for no live stream.
 *
 * Capture   Safe.
 */
RFN_API void *rfn_stream_native(struct rfn_stream *stream);

/**
 * The platform's handle of a graph, on cuda its cudaGraph_t, to be read; NULL for no live
 * graph.
 *
 * Capture   Safe.
 */
RFN_API void *rfn_graph_native(struct rfn_graph *graph);

/**
 * The platform's handle of an executable, on cuda its cudaGraphExec_t; NULL for no live one.
 *
 * Capture   Safe.
 */
RFN_API void *rfn_exec_native(struct rfn_exec *exec);

#ifndef RFN_NO_SITES
#define rfn_stream_import(...) RFN_SITED(rfn_stream_import(__VA_ARGS__))
#endif

#ifdef __cplusplus
}
#endif
#endif
