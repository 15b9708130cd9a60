/* The frame of every device call: capture status before, error line, observer after. */
#ifndef RFN_RUNTIME_CALL_H
#define RFN_RUNTIME_CALL_H

#include "runtime/object.h"

/* Starts the event: site, thread, stream and its capture status. RFN_DEVICE when the
 * device is lost. */
enum rfn_status rfn_call_begin(struct rfn_call_event *event, struct rfn_device *device,
                               enum rfn_call call, struct rfn_stream *stream);

/* The calling thread's number in events; 0 before its first call. */
uint64_t rfn_call_thread(void);

/* RFN_DEVICE, with the first cause, once the device is lost. For calls without a frame. */
enum rfn_status rfn_call_alive(struct rfn_device *device, const char *what);
/* A code that means that the device is lost: what was to be destroyed is gone all the same. */
int rfn_call_loses(int code);
/* The status and the line for a code of such a call. */
enum rfn_status rfn_call_failed(struct rfn_device *device, const char *what, int code);

/* RFN_INVALID (800) in a host function of the device's. For calls that take a lock of ours
 * without rfn_call_begin, which asks this itself. */
enum rfn_status rfn_call_allowed(struct rfn_device *device, const char *what);

/* Ends it: tells the observer, writes the line for a code, keeps the first cause of a lost
 * device. Returns the status for the code. */
enum rfn_status rfn_call_end(struct rfn_call_event *event, struct rfn_device *device,
                             int code);

/* Tells the observer of something without a call; `status` RFN_OK or why the call is refused. */
void rfn_call_notice(struct rfn_call_event *event, struct rfn_device *device,
                     enum rfn_notice notice, enum rfn_status status, const char *text);
/* That, and the error line of a refused call. Returns `status`. */
enum rfn_status rfn_call_refuse(struct rfn_call_event *event, struct rfn_device *device,
                                enum rfn_notice notice, enum rfn_status status,
                                const char *text);

/* The open capture of ours that a call's stream is in (by its id, which a driver may not
 * tell once the capture is invalidated) or that began on it; NULL when there is none. Call
 * with device->lock held. */
struct rfn_body *rfn_capture_find(struct rfn_device *device,
                                  const struct rfn_call_event *event);

/* ---- captures of somebody else: foreign.c ---- */

/* Before a call: notes the capture that its stream is in, for the observer also those of
 * imported streams, and drops those that are over. */
enum rfn_status rfn_foreign_see(struct rfn_device *device,
                                const struct rfn_call_event *event);
/* The stream is about to go: captures that were seen on it can be asked about no more. */
void rfn_foreign_unsee(struct rfn_device *device, const struct rfn_stream *stream);
/* Drops what captures pin whose graphs and executables are gone. */
void rfn_foreign_reap(struct rfn_device *device);
/* A driver says that a graph is gone some 0.3 ms after it is: waits for that up to 5 ms, while
 * a graph of somebody else holds something. */
#define RFN_FOREIGN_NAPS 20 /* of 0.25 ms */
void rfn_foreign_wait(struct rfn_device *device);

/* The innermost region of the calling thread: "decode > forward 3", "" outside. */
const char *rfn_region_text(void);
/* Notes that a capture begins in it on this device; its number, 0 outside of regions. */
uint64_t rfn_region_note(struct rfn_device *device);
/* Whether a region is a plan: its name begins with "plan". */
int rfn_region_is_plan(const char *name);
/* The innermost of the calling thread's plans. Notes that the device has work of it; its
 * number, 0 when there is none. */
uint64_t rfn_region_plan(struct rfn_device *device);
/* A region ends, before it is gone from the text: tells the device's observer of each
 * capture that the calling thread began in it and has not ended, and of a plan. */
void rfn_call_region_end(struct rfn_device *device, uint64_t region, const char *name);
/* Tells it that a call has read memory of the host's. */
void rfn_call_host_read(struct rfn_device *device, enum rfn_call call, const char *name,
                        const void *from, int64_t bytes);

/* Checks that the stream is live; *ret_device is its device. */
enum rfn_status rfn_stream_check(struct rfn_stream *stream,
                                 struct rfn_device **ret_device);

/* Checks that an event or graph is live and belongs to the device. */
enum rfn_status rfn_object_of(const void *object, enum rfn_object_type type,
                              const char *what, struct rfn_device *device);

/* rfn_event_create of one that has no time: for order only. */
enum rfn_status rfn_event_create_plain(struct rfn_device *device,
                                       struct rfn_event **ret_event);

/* Whether an address lies on the calling thread's stack; where that cannot be found out no
 * address does. */
int rfn_call_on_stack(const void *address);

/* Drops a reference to a body; frees it and the backend's graph with the last. */
void rfn_body_drop(struct rfn_device *device, struct rfn_body *body);

/* Frees a body that is off the device's list, and what it pins. */
void rfn_body_free(struct rfn_device *device, struct rfn_body *body);

/* The body of a capture that began on this stream, which is gone: drop it after unlocking.
 * NULL when there is none. Call with device->lock held. */
struct rfn_body *rfn_capture_forget(struct rfn_device *device,
                                    const struct rfn_stream *origin);

#endif
