/*
 * Ranks: processes or threads with a device each, whose graphs hold collectives of one group.
 * A collective waits until every rank has launched it, so that all ranks have to launch graphs
 * of one shape, step by step. A ladder agrees on its bucket (refrain/graph.h); what is here
 * tells before the first launch whether the graphs are the same.
 */
#ifndef REFRAIN_RANKS_H
#define REFRAIN_RANKS_H

#include <refrain/image.h>
#include <refrain/lint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Replaces each of `count` values by its maximum over all ranks of the group; blocks until all
 * of them have called it. Every rank makes the same calls with the same counts in the same
 * order. It is called with no lock held, by the thread that called the library, never where
 * that call was refused because of a capture. Where it fails it fails on every rank, or ranks
 * wait for each other. An error line that it leaves is kept. */
typedef enum rfn_status rfn_reduce_fn(void *ctx, int64_t *values, int32_t count);

/**
 * A number that graphs of one shape share, whatever device and addresses they were captured
 * with: made of node types and names, edges, launch shapes, constants, extents and the bytes
 * of operands, copies and sets, children's too. Left out: addresses (but whether there is
 * one), streams, threads, call sites, scalars that are declared dynamic, functions and
 * arguments of host nodes, values of foreign kernels, of which nobody said what is constant.
 * The limits of an attention object are constants: ranks whose memory has room for different
 * numbers of pages, or of requests, take the least for all of them.
 *
 * One value that differs always gives another signature; of several, 64 bits of hash that
 * nobody chose against us tell. Signatures compare within one version of the library.
 *
 * Capture   Safe. Touches no device.
 * Threads   Any.
 * Errors    RFN_INVALID: NULL. RFN_NOMEM.
 */
RFN_API enum rfn_status rfn_image_signature(const struct rfn_image *image,
                                            uint64_t *ret_signature);

/**
 * Compares the graphs of all ranks: every rank calls it with the image of its own, or with
 * NULL where it has none. What differs is reported on every rank, once (CAP038): the first
 * node and value that are not the same, the value here, and the least and the greatest over
 * the ranks. Where all agree there is one reduction, else at most five.
 *
 * A kernel that is told the number of its rank has to declare it dynamic.
 *
 * Capture   Not in one: `reduce` blocks.
 * Threads   Any.
 * Errors    RFN_INVALID: reduce is NULL, or gave no maximum. What `reduce` returned.
 *           RFN_NOMEM; the other ranks then get RFN_NOT_READY. No finding was reported on these.
 */
RFN_API enum rfn_status rfn_ranks_compare(const struct rfn_image *image,
                                          rfn_reduce_fn *reduce, void *reduce_ctx,
                                          rfn_report_fn *report, void *ctx,
                                          int32_t *ret_findings);

#ifdef __cplusplus
}
#endif
#endif
