/* The frame of every device call: capture status before, error line, observer after. */
#ifndef RFN_RUNTIME_CALL_H
#define RFN_RUNTIME_CALL_H

#include "runtime/object.h"

/* Starts the event: site, thread, stream and its capture status. RFN_DEVICE when the
 * device is lost. */
enum rfn_status rfn_call_begin(struct rfn_call_event *event, struct rfn_device *device,
                               enum rfn_call call, struct rfn_stream *stream);

/* RFN_INVALID (800) in a host function of the device's. For calls that take a lock of ours
 * without rfn_call_begin, which asks this itself. */
enum rfn_status rfn_call_allowed(struct rfn_device *device, const char *what);

/* Ends it: tells the observer, writes the line for a code, keeps the first cause of a lost
 * device. Returns the status for the code. */
enum rfn_status rfn_call_end(struct rfn_call_event *event, struct rfn_device *device,
                             int code);

/* The open capture of ours that a call's stream is in (by its id, which a driver may not
 * tell once the capture is invalidated) or that began on it; NULL when there is none. Call
 * with device->lock held. */
struct rfn_body *rfn_capture_find(struct rfn_device *device,
                                  const struct rfn_call_event *event);

/* Checks that the stream is live; *ret_device is its device. */
enum rfn_status rfn_stream_check(struct rfn_stream *stream,
                                 struct rfn_device **ret_device);

/* Checks that an event or graph is live and belongs to the device. */
enum rfn_status rfn_object_of(const void *object, enum rfn_object_type type,
                              const char *what, struct rfn_device *device);

/* Drops a reference to a body; frees it and the backend's graph with the last. */
void rfn_body_drop(struct rfn_device *device, struct rfn_body *body);

/* Frees what a capture that began on this stream had gathered. */
void rfn_capture_forget(struct rfn_device *device, const struct rfn_stream *origin);

#endif
