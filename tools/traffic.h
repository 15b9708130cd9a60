/*
 * Requests without a trace: seeded, of the distribution of the Mooncake conversation trace.
 *
 *     input(i)  = Qin(u1), output(i) = Qout(u2)   u uniform; Q: the trace's quantiles at
 *                 0, 5, ... 95, 99, 100 %, straight lines between them; medians 6,909 and 350
 *     arrival   bursts of ten, 3,000 ms apart (the trace: every 3 s, 294 ms on average)
 *     blocks    block 0 is everybody's. With probability 387/1000 a request carries on the
 *               longest of 8 picked from the 64 before it: Qshare(u3) of its own blocks come
 *               from there, as far as that one goes. All other ids are new.
 *
 * Integers throughout: a seed gives the same requests on every machine.
 */
#ifndef TOOLS_TRAFFIC_H
#define TOOLS_TRAFFIC_H

#include "tools/trace.h"

/* Makes `requests` of them. On failure *ret_trace is empty and `error` says why. */
enum trace_status traffic_make(uint64_t seed, int64_t requests, struct trace *ret_trace,
                               char error[TRACE_ERROR_BYTES]);

#endif
