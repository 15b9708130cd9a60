/* Cache formats as table rows, and the plain facts of dtypes and views. */
#include "kernels/op.h"

static const struct rfn_format_info format_table[RFN_FORMATS] = {
    [RFN_LATENT_FP8_656] = {
        .name = "latent_fp8_656",
        .token_bytes = 656,
        .data_bytes = 656,
        .scale_bytes = 16,
        .latent_elems = 512,
        .latent_dtype = RFN_E4M3,
        .scale_offset = 512,
        .scale_group = 128,
        .scales = 4,
        .scale_dtype = RFN_F32,
        .rope_elems = 64,
        .rope_offset = 528,
        .page_round_bytes = 1,
        .qk_elems = 576,
        .v_elems = 512,
    },
    [RFN_LATENT_BF16_576] = {
        .name = "latent_bf16_576",
        .token_bytes = 1152,
        .data_bytes = 1152,
        .latent_elems = 512,
        .latent_dtype = RFN_BF16,
        .rope_elems = 64,
        .rope_offset = 1024,
        .page_round_bytes = 1,
        .qk_elems = 576,
        .v_elems = 512,
    },
    [RFN_LATENT_FP8_584] = {
        .name = "latent_fp8_584",
        .planar = 1,
        .token_bytes = 584,
        .data_bytes = 576,
        .scale_bytes = 8, /* seven exponents and a pad byte */
        .latent_elems = 448,
        .latent_dtype = RFN_E4M3,
        .scale_group = 64,
        .scales = 7,
        .scale_dtype = RFN_U8,
        .rope_elems = 64,
        .rope_offset = 448,
        .page_round_bytes = 576,
        .qk_elems = 512,
        .v_elems = 512,
    },
    [RFN_INDEX_FP8_132] = {
        .name = "index_fp8_132",
        .planar = 1,
        .token_bytes = 132,
        .data_bytes = 128,
        .scale_bytes = 4,
        .latent_elems = 128,
        .latent_dtype = RFN_E4M3,
        .scale_group = 128,
        .scales = 1,
        .scale_dtype = RFN_F32,
        .page_round_bytes = 1,
        .qk_elems = 128,
    },
};

static const struct
{
    const char *name;
    int32_t bytes;
} dtype_table[RFN_DTYPES] = {
    [RFN_DTYPE_NONE] = { "none", 0 }, [RFN_U8] = { "u8", 1 },
    [RFN_I32] = { "i32", 4 },         [RFN_I64] = { "i64", 8 },
    [RFN_F32] = { "f32", 4 },         [RFN_BF16] = { "bf16", 2 },
    [RFN_E4M3] = { "e4m3", 1 },
};

const struct rfn_format_info *rfn_format_query(enum rfn_format format)
{
    unsigned f = (unsigned)format;
    return f > RFN_FORMAT_NONE && f < RFN_FORMATS ? &format_table[f] : NULL;
}

int64_t rfn_format_page_bytes(enum rfn_format format, int32_t page_tokens)
{
    const struct rfn_format_info *info = rfn_format_query(format);
    if (!info || page_tokens < 1)
        return 0;
    int64_t bytes = (int64_t)page_tokens * info->token_bytes;
    int64_t round = info->page_round_bytes;
    return (bytes + round - 1) / round * round;
}

int32_t rfn_dtype_bytes(enum rfn_dtype dtype)
{
    return (unsigned)dtype < RFN_DTYPES ? dtype_table[dtype].bytes : 0;
}

const char *rfn_dtype_name(enum rfn_dtype dtype)
{
    return (unsigned)dtype < RFN_DTYPES ? dtype_table[dtype].name : "none";
}

struct rfn_tensor rfn_tensor_of(void *data, enum rfn_dtype dtype, int64_t d0, int64_t d1,
                                int64_t d2, int64_t d3)
{
    struct rfn_tensor t = { .data = data, .dtype = dtype, .shape = { d0, d1, d2, d3 } };
    /* The first extent may be 0 (no rows); a 0 behind it ends the shape. */
    t.dims = 1;
    while (t.dims < RFN_MAX_DIMS && t.shape[t.dims] != 0)
        t.dims++;
    int64_t stride = 1;
    for (int32_t i = t.dims - 1; i >= 0; i--)
    {
        t.stride[i] = stride;
        if (__builtin_mul_overflow(stride, t.shape[i], &stride))
            stride = INT64_MAX;
    }
    for (int32_t i = t.dims; i < RFN_MAX_DIMS; i++)
        t.shape[i] = 0;
    return t;
}

enum rfn_status rfn_pool_view(const struct rfn_tensor *cache, enum rfn_format format,
                              struct rfn_pool *ret_pool)
{
    const struct rfn_format_info *info = rfn_format_query(format);
    if (!cache || !ret_pool)
        return RFN_FAIL(RFN_INVALID, "%s: NULL", cache ? "ret_pool" : "cache");
    if (!info)
        return RFN_FAIL(RFN_INVALID, "format: %d, but known are 1 .. %d", (int)format,
                        RFN_FORMATS - 1);
    if (!cache->data)
        return RFN_FAIL(RFN_INVALID, "cache: not given");
    if (cache->dims != 3 && cache->dims != 4)
        return RFN_FAIL(RFN_INVALID, "cache: %d dimensions, but 3 or 4 are accepted",
                        (int)cache->dims);

    int64_t elem = rfn_dtype_bytes(cache->dtype);
    int one_byte = cache->dtype == RFN_U8 || cache->dtype == RFN_E4M3;
    if (!one_byte && !(cache->dtype == RFN_BF16 && info->latent_dtype == RFN_BF16))
        return RFN_FAIL(RFN_INVALID, "cache: dtype %s, but %s takes u8%s",
                        rfn_dtype_name(cache->dtype), info->name,
                        info->latent_dtype == RFN_BF16 ? " or bf16" : "");

    const int64_t *shape = cache->shape, *stride = cache->stride;
    int last = cache->dims - 1, tokens = 1;
    if (cache->dims == 4)
    {
        if (shape[1] != 1 && shape[2] != 1)
            return RFN_FAIL(
                RFN_INVALID,
                "cache: [%lld,%lld,%lld,%lld], but [B,P,bytes], [B,1,P,bytes] "
                "or [B,P,1,bytes] is accepted",
                (long long)shape[0], (long long)shape[1], (long long)shape[2],
                (long long)shape[3]);
        tokens = shape[1] == 1 ? 2 : 1;
    }
    if (shape[last] * elem != info->token_bytes)
        return RFN_FAIL(RFN_INVALID, "cache: rows of %lld bytes, but %s has %d",
                        (long long)(shape[last] * elem), info->name, info->token_bytes);
    if (stride[last] != 1)
        return RFN_FAIL(RFN_INVALID, "cache: inner stride %lld, but 1 is needed",
                        (long long)stride[last]);
    if (shape[0] < 1 || shape[tokens] < 1 || shape[tokens] > INT32_MAX)
        return RFN_FAIL(RFN_INVALID,
                        "cache: %lld pages of %lld tokens, but 1 .. %d is needed",
                        (long long)shape[0], (long long)shape[tokens], INT32_MAX);
    if (shape[tokens] > 1 && stride[tokens] != shape[last])
        return RFN_FAIL(RFN_INVALID,
                        "cache: rows %lld elements apart, but a page is dense: %lld",
                        (long long)stride[tokens], (long long)shape[last]);

    struct rfn_pool pool = {
        .data = cache->data,
        .format = format,
        .page_tokens = (int32_t)shape[tokens],
        .pages = shape[0],
    };
    int64_t page = rfn_format_page_bytes(format, pool.page_tokens);
    if (pool.pages == 1)
        pool.page_stride_bytes = (page + 15) / 16 * 16;
    else if (__builtin_mul_overflow(stride[0], elem, &pool.page_stride_bytes))
        return RFN_FAIL(RFN_INVALID, "cache: page stride of %lld elements overflows",
                        (long long)stride[0]);
    if (pool.page_stride_bytes < page)
        return RFN_FAIL(RFN_INVALID,
                        "cache: page stride of %lld bytes, but a page has %lld",
                        (long long)pool.page_stride_bytes, (long long)page);
    if (pool.page_stride_bytes % 16)
        return RFN_FAIL(
            RFN_INVALID,
            "cache: page stride of %lld bytes, but a multiple of 16 is needed",
            (long long)pool.page_stride_bytes);
    *ret_pool = pool;
    return RFN_OK;
}
