/*
 * Planning of a mixed step: what each request is divided into, as lists of tiles.
 *
 * Each of the two plans comes in three forms that take one argument struct and give the same
 * bytes. The plain one is an op: all views lie in device memory, it can be captured. `_sync`
 * fetches lengths from device memory with copies that wait, and plans on the host. `_host` is
 * told the lengths by the scheduler, who knows them: no copy, no device. The outputs of the
 * last two lie in host memory.
 *
 * A request of q <= 0 query tokens is idle: its other lengths are not looked at, it counts in
 * no maximum and has no tile. Where a form that returns refuses a value, the op takes the
 * nearest good one, and check mode reports it. Unstable until 1.0.
 */
#ifndef REFRAIN_PLAN_H
#define REFRAIN_PLAN_H

#include <refrain/op.h>

#ifdef __cplusplus
extern "C" {
#endif

struct rfn_stream;

/* Of the active requests, all in tokens; 0 where there is none. */
enum rfn_split_maximum
{
    RFN_SPLIT_MAX_QUERY = 0,      /* q */
    RFN_SPLIT_MAX_PREFILL,        /* prefill; 0: nothing to prefill */
    RFN_SPLIT_MAX_CACHED,         /* cached; 0: nothing to decode */
    RFN_SPLIT_MAX_CONTEXT,        /* cached + q */
    RFN_SPLIT_MAX_DECODE_CACHED,  /* cached, of those without prefill */
    RFN_SPLIT_MAX_CACHED_CONTEXT, /* cached + q, of those with cached > 0 */
    RFN_SPLIT_MAXIMA
};

enum rfn_split_count
{
    RFN_SPLIT_DECODER = 0, /* tiles in the list; 0 where it is not given */
    RFN_SPLIT_ENCODER,
    RFN_SPLIT_KV,
    RFN_SPLIT_KEYS,    /* keys a decoder tile; 0 where rows or nothing are divided */
    RFN_SPLIT_MISSING, /* tiles that the op had no room for, up to 2^31 - 1 */
    RFN_SPLIT_COUNTS
};

struct rfn_split_lists_args
{
    struct rfn_tensor q_lens;   /* [R] i32; this, or */
    struct rfn_tensor q_starts; /* [R + 1] i32: their cumulative sums, not descending */
    struct rfn_tensor prefill;  /* [R] i32, optional: no request prefills */
    struct rfn_tensor cached;   /* [R] i32: tokens in the cache before this step */
    struct rfn_tensor requests; /* [1] i32, optional: those at and past it are idle */
    struct rfn_tensor maxima;   /* [RFN_SPLIT_MAXIMA] i32 out */
    struct rfn_tensor decoder;  /* [N, 2] i32 out, optional: (request, tile), dense */
    struct rfn_tensor encoder;  /* [M, 2] i32 out, optional */
    struct rfn_tensor kv;       /* [L, 2] i32 out, optional */
    struct rfn_tensor counts;   /* [RFN_SPLIT_COUNTS] i32 out */
    int32_t group;              /* rows a query token; needed where rows are divided */
    int32_t decoder_keys;       /* keys a decoder tile; 0: chosen, see below */
    int32_t decoder_rows;       /* not 0: rows a decoder tile; decoder_keys is 0 then */
    int32_t encoder_rows;       /* rows an encoder tile; needed for the encoder list */
    int32_t kv_keys;  /* keys a KV tile; needed for that list and for choosing */
    int32_t sm_count; /* needed for choosing; see rfn_device_query */
};

enum rfn_prefix_count
{
    RFN_PREFIX_TILES = 0, /* tiles in the list; 0 where it is not given */
    RFN_PREFIX_KEYS,      /* key total: the last of key_starts */
    RFN_PREFIX_MISSING,   /* tiles that the op had no room for, up to 2^31 - 1 */
    RFN_PREFIX_COUNTS
};

struct rfn_prefix_lists_args
{
    struct rfn_tensor q_lens;     /* as in rfn_split_lists_args, */
    struct rfn_tensor q_starts;   /* these too, */
    struct rfn_tensor cached;     /* and */
    struct rfn_tensor requests;   /* this */
    struct rfn_tensor tiles;      /* [N, 2] i32 out, optional: (request, tile), dense */
    struct rfn_tensor key_starts; /* [R + 1] i32 out: sums of cached + q, from 0 */
    struct rfn_tensor counts;     /* [RFN_PREFIX_COUNTS] i32 out */
    int32_t prefix_keys;          /* cached keys a tile; needed for the list */
    int32_t keys_most;            /* bound of the key total; 0: 2^31 - 1 */
};

extern RFN_API const struct rfn_op rfn_op_split_lists;
extern RFN_API const struct rfn_op rfn_op_prefix_lists;

/**
 * Divides a step: six maxima and the lists of decoder, encoder and KV tiles.
 *
 *     decoder  requests without prefill: ceil((cached + q) / decoder_keys) tiles each, or
 *              ceil(q * group / decoder_rows)
 *     encoder  requests with prefill: ceil(prefill * group / encoder_rows)
 *     kv       requests with prefill: ceil((cached % kv_keys + prefill) / kv_keys): the pages
 *              that it writes, when kv_keys is a page
 *
 * A list is ordered by request, then tile; behind its last pair it is -1 up to its end. Of a
 * request up to 2^32 - 1 tiles are counted. With decoder_keys 0 and no decoder_rows the tile is
 * one of kv_keys << 0 .. 11: the one whose last wave of sm_count tiles is fullest, the smallest
 * of several; kv_keys where nothing decodes.
 *
 * Shapes    R requests, N, M, L room for tiles
 *   in      q_lens    [R]     i32  or q_starts [R + 1]: one that goes down is idle
 *   in      prefill   [R]     i32  optional; below 0 counts as 0
 *   in      cached    [R]     i32  below 0 counts as 0; cached + q stays below 2^31
 *   in      requests  [1]     i32  optional; clamped to 0 .. R
 *   out     maxima    [6]     i32  by enum rfn_split_maximum
 *   out     decoder   [N, 2]  i32  optional; 8-byte aligned; so are the next two
 *   out     encoder   [M, 2]  i32  optional
 *   out     kv        [L, 2]  i32  optional
 *   out     counts    [5]     i32  by enum rfn_split_count
 * Capture   Safe. One node; the grid depends on N, M and L only.
 * Stream    Asynchronous. No allocation, no host synchronisation.
 * Threads   Any thread, one at a time per stream.
 * Accuracy  Exact.
 * Cost      12 * R bytes read, 8 * (N + M + L) written.
 * Errors    RFN_INVALID (shape, dtype; both or none of q_lens and q_starts; a size that is
 *           needed and below 1). On error nothing is enqueued. A list that is too short is
 *           filled to its end; the others that did not fit are counted. Check mode reports,
 *           of each request below `requests`, a start that goes down and, of an active one,
 *           a negative length and a context past i32; of a list that is too short the tiles
 *           that are due as the row and its capacity as the value.
 * Source    FastDeploy's step planning, its defects left out.
 */
RFN_API enum rfn_status rfn_split_lists(struct rfn_stream *stream,
                                        const struct rfn_split_lists_args *args);

/**
 * rfn_split_lists on the host: all views lie in host memory.
 *
 * Capture   Safe. Touches no device.
 * Threads   Any.
 * Cost      About 1.8 us for 256 decoding requests with a given tile, 2.6 us where it is
 *           chosen (one core beside an H200), and the writing of long lists, 8 bytes a tile:
 *           16,000 tiles take 3 us more.
 * Errors    As rfn_split_lists; RFN_INVALID for a value that check mode would report; both
 *           values are named. RFN_LIMIT: a list is too short, its tiles and its room named.
 *           On error no output is written.
 */
RFN_API enum rfn_status rfn_split_lists_host(const struct rfn_split_lists_args *args);

/**
 * rfn_split_lists_host of lengths that lie in device memory: waits for `stream`, then fetches
 * them by rfn_copy_sync. Vectors side by side in one allocation come in one copy.
 *
 * Shapes    As rfn_split_lists; the outputs lie in host memory.
 * Capture   Refused, naming region and capture, while `stream` captures or the calling
 *           thread has a capture open on the device; the capture goes on unharmed.
 * Stream    Blocks the host.
 * Threads   Any, one at a time per stream.
 * Accuracy  Exact.
 * Cost      12 bytes a request fetched; then as rfn_split_lists_host.
 * Errors    As rfn_split_lists_host, rfn_stream_sync and rfn_copy_sync. RFN_NOMEM.
 */
RFN_API enum rfn_status rfn_split_lists_sync(struct rfn_stream *stream,
                                             const struct rfn_split_lists_args *args);

/**
 * What a step finds in the cache: the tiles of each request's prefix and where its keys begin
 * when those of all requests, cached and new, lie in a row.
 *
 *     tiles       active requests: ceil(cached / prefix_keys) tiles each
 *     key_starts  key_starts[0] = 0, key_starts[b + 1] = key_starts[b] + cached + q
 *
 * The list is ordered and filled as those of rfn_split_lists. key_starts never goes down: an
 * idle request adds nothing.
 *
 * Shapes    R requests, N room for tiles
 *   in      q_lens      [R]      i32  or q_starts [R + 1]: one that goes down is idle
 *   in      cached      [R]      i32  below 0 counts as 0
 *   in      requests    [1]      i32  optional; clamped to 0 .. R
 *   out     tiles       [N, 2]   i32  optional; 8-byte aligned
 *   out     key_starts  [R + 1]  i32  stops at keys_most
 *   out     counts      [3]      i32  by enum rfn_prefix_count
 * Capture   Safe. One node; the grid depends on N only.
 * Stream    Asynchronous. No allocation, no host synchronisation.
 * Threads   Any thread, one at a time per stream.
 * Accuracy  Exact.
 * Cost      8 * R bytes read, 4 * R + 8 * N written.
 * Errors    As rfn_split_lists. Check mode reports values as there, and a key total past
 *           keys_most: the total as the row, the bound as the value.
 * Source    FastDeploy's prefix planning, its defects left out.
 */
RFN_API enum rfn_status rfn_prefix_lists(struct rfn_stream *stream,
                                         const struct rfn_prefix_lists_args *args);

/**
 * rfn_prefix_lists on the host: all views lie in host memory.
 *
 * Capture   Safe. Touches no device.
 * Threads   Any.
 * Errors    As rfn_split_lists_host; RFN_LIMIT: the key total is past keys_most, both named.
 */
RFN_API enum rfn_status rfn_prefix_lists_host(const struct rfn_prefix_lists_args *args);

/**
 * rfn_prefix_lists_host of lengths that lie in device memory, fetched as by
 * rfn_split_lists_sync.
 *
 * Shapes    As rfn_prefix_lists; the outputs lie in host memory.
 * Capture   Refused, as rfn_split_lists_sync.
 * Stream    Blocks the host.
 * Threads   Any, one at a time per stream.
 * Accuracy  Exact.
 * Cost      8 bytes a request fetched; then as rfn_prefix_lists_host.
 * Errors    As rfn_prefix_lists_host, rfn_stream_sync and rfn_copy_sync. RFN_NOMEM.
 */
RFN_API enum rfn_status rfn_prefix_lists_sync(struct rfn_stream *stream,
                                              const struct rfn_prefix_lists_args *args);

#ifndef RFN_NO_SITES
#define rfn_split_lists(...) RFN_SITED(rfn_split_lists(__VA_ARGS__))
#define rfn_split_lists_host(...) RFN_SITED(rfn_split_lists_host(__VA_ARGS__))
#define rfn_split_lists_sync(...) RFN_SITED(rfn_split_lists_sync(__VA_ARGS__))
#define rfn_prefix_lists(...) RFN_SITED(rfn_prefix_lists(__VA_ARGS__))
#define rfn_prefix_lists_host(...) RFN_SITED(rfn_prefix_lists_host(__VA_ARGS__))
#define rfn_prefix_lists_sync(...) RFN_SITED(rfn_prefix_lists_sync(__VA_ARGS__))
#endif

#ifdef __cplusplus
}
#endif
#endif
