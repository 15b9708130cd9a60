/*
 * Data types, tensor views, cache formats.
 *
 * Dimension letters, used everywhere: T query tokens, R requests, H heads, D head dim,
 * K top-k, B pages in the pool, P tokens a page, S context, W block-table width, V width
 * of a value row. Strides are int64 elements unless the name says bytes.
 */
#ifndef REFRAIN_TYPES_H
#define REFRAIN_TYPES_H

#include <refrain/status.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define RFN_MAX_DIMS 4

enum rfn_dtype
{
    RFN_DTYPE_NONE = 0,
    RFN_U8,
    RFN_I32,
    RFN_I64,
    RFN_F32,
    RFN_BF16,
    RFN_E4M3,
    RFN_DTYPES
};

/* A view of memory that somebody else owns; data == NULL means "not given". The last
 * dimension is dense (stride 1); others may be strided. */
struct rfn_tensor
{
    void *data;
    enum rfn_dtype dtype;
    int32_t dims;
    int64_t shape[RFN_MAX_DIMS];
    int64_t stride[RFN_MAX_DIMS]; /* elements */
};

enum rfn_format
{
    RFN_FORMAT_NONE = 0,
    RFN_LATENT_FP8_656,
    RFN_LATENT_BF16_576,
    RFN_LATENT_FP8_584,
    RFN_INDEX_FP8_132,
    RFN_FORMATS
};

enum rfn_scale
{
    RFN_SCALE_F32 = 0,
    RFN_SCALE_UE8M0, /* rounded up to a power of two */
};

/* A cache format as a byte map. A token's parts lie side by side in one row (planar == 0),
 * or the page holds all data rows first and all scale rows after them (planar == 1). */
struct rfn_format_info
{
    const char *name;
    int32_t planar;
    int32_t token_bytes;   /* data + scales of one token */
    int32_t data_bytes;    /* stride of a data row */
    int32_t scale_bytes;   /* stride of a scale row when planar, else bytes of scales */
    int32_t latent_elems;  /* quantised (or bf16) part, without rope */
    int32_t latent_offset; /* bytes from the start of the data row */
    enum rfn_dtype latent_dtype;
    int32_t scale_offset;       /* bytes from the row's (or scale row's) start */
    int32_t scale_group;        /* elements that share a scale; 0: no scales */
    int32_t scales;             /* scales a token */
    enum rfn_dtype scale_dtype; /* RFN_F32, or RFN_U8 for ue8m0 exponents */
    int32_t rope_elems;
    int32_t rope_offset;
    int32_t page_round_bytes; /* page bytes are rounded up to a multiple of this */
    int32_t qk_elems;         /* width of a key: latent + rope */
    int32_t v_elems;          /* width of a value: the first v_elems of the key */
};

/* A paged pool: B pages of P tokens, page_stride_bytes apart (a multiple of 16, at least
 * the page's bytes). Slot = page * P + offset. */
struct rfn_pool
{
    void *data;
    enum rfn_format format;
    int32_t page_tokens;
    int64_t pages;
    int64_t page_stride_bytes; /* 0: dense */
};

/**
 * The byte map of a cache format, NULL for a value that is none.
 *
 * Capture   Safe. Touches no device.
 * Threads   Any.
 */
RFN_API const struct rfn_format_info *rfn_format_query(enum rfn_format format);

/**
 * Bytes of one page of `page_tokens` tokens, page rounding included; 0 for no such format.
 *
 * Capture   Safe. Touches no device.
 * Threads   Any.
 */
RFN_API int64_t rfn_format_page_bytes(enum rfn_format format, int32_t page_tokens);

/**
 * Bytes of one element of a dtype; 0 for a value that is none.
 *
 * Capture   Safe. Touches no device.
 * Threads   Any.
 */
RFN_API int32_t rfn_dtype_bytes(enum rfn_dtype dtype);

/**
 * The name of a dtype as error lines print it: "bf16"; "none" for a value that is none.
 *
 * Capture   Safe. Touches no device.
 * Threads   Any.
 */
RFN_API const char *rfn_dtype_name(enum rfn_dtype dtype);

/**
 * Makes a dense view of up to four dimensions; trailing dimensions given as 0 are absent.
 *
 * Capture   Safe. Touches no device.
 * Threads   Any.
 */
RFN_API struct rfn_tensor rfn_tensor_of(void *data, enum rfn_dtype dtype, int64_t d0,
                                        int64_t d1, int64_t d2, int64_t d3);

/**
 * Makes a pool view out of a tensor view of a latent cache. Accepts [B, P, bytes],
 * [B, 1, P, bytes] and [B, P, 1, bytes]: an axis of extent 1 is dropped, never copied.
 *
 * Capture   Safe. Touches no device.
 * Threads   Any.
 * Errors    RFN_INVALID, with both shapes named, when the dropped axis is not of extent 1,
 *           the row is not the format's, or the page stride is below the page's bytes or
 *           no multiple of 16.
 */
RFN_API enum rfn_status rfn_pool_view(const struct rfn_tensor *cache,
                                      enum rfn_format format, struct rfn_pool *ret_pool);

#ifdef __cplusplus
}
#endif
#endif
