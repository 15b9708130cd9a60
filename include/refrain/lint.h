/*
 * What can be said of a captured graph without running it: rules over its image.
 */
#ifndef REFRAIN_LINT_H
#define REFRAIN_LINT_H

#include <refrain/check.h>
#include <refrain/image.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Is told a finding; what it points to lives until the call returns. */
typedef void rfn_report_fn(void *ctx, const struct rfn_finding *finding);

/* What a graph is, without judgement. Children count with their own nodes. */
struct rfn_lint_info
{
    int32_t nodes;
    int32_t edges;
    int32_t kernels;
    int32_t foreign; /* kernels whose accesses nobody declared */
    int32_t opaque;  /* nodes that cannot be looked into */
    int32_t roots;   /* of the top level: nodes that wait for none, that none waits for */
    int32_t sinks;
    int32_t critical_path; /* nodes on the longest way through it */
    int32_t unordered;     /* 1: too many nodes to look for those without an order */
    int32_t findings;
};

/**
 * Holds a graph against the rules that a graph alone can break:
 *
 *     CAP003 CAP023 CAP024  memcpy nodes with pageable memory; CAP057 of at most 16 bytes
 *     CAP007 CAP008  addresses whose memory is gone, or is another one's (with a device)
 *     CAP021 CAP025  memory nodes, of a library (heuristic) and others
 *     CAP022  nodes without an order that touch the same bytes, one writing: proved where both
 *             say which bytes, heuristic where one writes all of a pool that the other uses
 *     CAP026  host nodes
 *     CAP037  tensor maps in parameters of foreign kernels (heuristic)
 *     CAP040  nodes that cannot be looked into, such as the bodies of conditionals
 *     CAP045  no kernel
 *     CAP056  copies of whole pools; other copies of 64 MiB and more (heuristic)
 *
 * Equal findings of one place are one, with their count; without a call site, as in graphs of
 * others, copies from other addresses and functions are other places. `device` is the one that the graph
 * was captured on, NULL where it is not there: addresses are then not looked up. Nodes are
 * named by their call site where it is known, else by name and index.
 *
 * Capture   Safe.
 * Threads   Any.
 * Errors    RFN_INVALID: no image, or a device of another kind, both named. RFN_NOMEM; no
 *           finding was reported then.
 */
RFN_API enum rfn_status rfn_lint(const struct rfn_image *image, struct rfn_device *device,
                                 rfn_report_fn *report, void *ctx,
                                 struct rfn_lint_info *ret_info);

#ifdef __cplusplus
}
#endif
#endif
