/* Everything of Refrain in one include. */
#ifndef REFRAIN_REFRAIN_H
#define REFRAIN_REFRAIN_H

#define RFN_VERSION_MAJOR 0
#define RFN_VERSION_MINOR 1
#define RFN_VERSION_PATCH 0
#define RFN_VERSION "0.1.0"

#include <refrain/attention.h>
#include <refrain/check.h>
#include <refrain/device.h>
#include <refrain/diff.h>
#include <refrain/foreign.h>
#include <refrain/graph.h>
#include <refrain/image.h>
#include <refrain/lint.h>
#include <refrain/memory.h>
#include <refrain/nodes.h>
#include <refrain/op.h>
#include <refrain/ops.h>
#include <refrain/plan.h>
#include <refrain/ranks.h>
#include <refrain/status.h>
#include <refrain/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * The version of the library that runs, as RFN_VERSION of its headers: "0.1.0".
 *
 * Capture   Safe. Touches no device.
 * Threads   Any.
 */
RFN_API const char *rfn_version(void);

#ifdef __cplusplus
}
#endif
#endif
