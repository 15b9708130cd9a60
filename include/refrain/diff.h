/*
 * Differential capture: one step recorded several times with other inputs. What differs
 * between the graphs was baked into them, which no replay would show before it is wrong.
 */
#ifndef REFRAIN_DIFF_H
#define REFRAIN_DIFF_H

#include <refrain/lint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What is to change before a recording. */
enum rfn_diff_round
{
    /* Everything is as before the first recording: called last, for putting things back. */
    RFN_DIFF_FIRST = 0,
    /* Other inputs: lengths, tables, contents, batch within the bounds, values on the host.
     * Every buffer stays where it is. */
    RFN_DIFF_INPUTS,
    /* Inputs as one likes, and the caller's memory elsewhere: caches, inputs and outputs bound
     * to other buffers, each by another distance where that is possible. Memory that cannot
     * move may stay; it is counted. */
    RFN_DIFF_ARENA,
    RFN_DIFF_ROUNDS
};

struct rfn_diff_desc
{
    /* Records the step into the capture that is open on `stream`, as it would for a graph. */
    enum rfn_status (*record)(void *ctx, struct rfn_stream *stream);
    /* Called outside of captures before the second and the third recording, when no graph
     * holds memory, and once more with RFN_DIFF_FIRST. NULL: nothing changes, so that only
     * what differs by itself is found. */
    enum rfn_status (*mutate)(void *ctx, enum rfn_diff_round round);
    void *ctx;
    enum rfn_capture_mode mode; /* of the captures */
    struct rfn_check *check;    /* that sees them, for regions and streams; may be NULL */
    /* 1: RFN_DIFF_ARENA moves everything that the step touches, so that an address that stays
     * is a finding. */
    int32_t all_moves;
};

struct rfn_diff_info
{
    int32_t nodes;    /* of the first recording, children's too */
    int32_t compared; /* parameters, over all recordings */
    int32_t dynamic;  /* that differ and are declared to */
    int32_t moved;    /* addresses that follow the arena */
    int32_t stayed;
    int32_t findings;
};

/**
 * Compares two images of one step. Reports with node, parameter and both values:
 *
 *     CAP005  a constant, a value of a memset, a host node's function or argument, an external
 *             event, an address; bytes of an argument struct that no table of the op names; a
 *             parameter of a foreign kernel (heuristic: it may be updated)
 *     CAP006  nodes, their order, launch shapes, extents of operands (with the constants of a
 *             kernel whose extents differ), bytes of copies
 *
 * `moved` 0: buffers are the same, so addresses have to be. 1: declared addresses may differ,
 * and 8-byte parameters of foreign kernels that are addresses in both; their larger parameters
 * are left out. 2: as 1, and an address of the device's memory that stays is CAP005. Scalars that are declared dynamic may always differ. Nodes are compared in
 * turn; where the graphs do not have the same ones, up to the first that cannot be the same.
 *
 * Capture   Safe. Touches no device.
 * Threads   Any.
 * Errors    RFN_INVALID: an image is NULL. RFN_NOMEM; no finding was reported then.
 */
RFN_API enum rfn_status rfn_image_diff(const struct rfn_image *first,
                                       const struct rfn_image *other, int32_t moved,
                                       rfn_report_fn *report, void *ctx,
                                       struct rfn_diff_info *ret_info);

/**
 * Records a step three times on a stream of its own (as it is, with other inputs, with the
 * memory elsewhere) and reports what rfn_image_diff finds between the first and the others;
 * one finding a place. Nothing is launched.
 *
 * Capture   Not in one.
 * Threads   One at a time on what `record` and `mutate` use.
 * Errors    RFN_INVALID: no device or no `record`. What `record`, `mutate` or a capture
 *           returned, and RFN_NOMEM: no finding was reported then, and RFN_DIFF_FIRST was asked
 *           for if anything had been changed.
 */
RFN_API enum rfn_status rfn_graph_diff(struct rfn_device *device,
                                       const struct rfn_diff_desc *desc,
                                       rfn_report_fn *report, void *ctx,
                                       struct rfn_diff_info *ret_info);

#ifndef RFN_NO_SITES
#define rfn_graph_diff(...) RFN_SITED(rfn_graph_diff(__VA_ARGS__))
#endif

#ifdef __cplusplus
}
#endif
#endif
