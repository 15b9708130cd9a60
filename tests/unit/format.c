/* Byte maps of the cache formats, dtypes, views. */
#include <refrain/types.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
/* cmocka wants the headers above first */
#include <cmocka.h>

static void byte_maps_are_the_published_ones(void **state)
{
    (void)state;
    const struct rfn_format_info *f = rfn_format_query(RFN_LATENT_FP8_656);
    assert_int_equal(f->token_bytes, 512 + 4 * 4 + 64 * 2);
    assert_int_equal(f->scale_offset, 512);
    assert_int_equal(f->rope_offset, 528);
    f = rfn_format_query(RFN_LATENT_BF16_576);
    assert_int_equal(f->token_bytes, 576 * 2);
    assert_int_equal(f->rope_offset, 512 * 2);
    f = rfn_format_query(RFN_LATENT_FP8_584);
    assert_int_equal(f->token_bytes, 448 + 64 * 2 + 8);
    assert_int_equal(f->scales, 448 / 64);
    f = rfn_format_query(RFN_INDEX_FP8_132);
    assert_int_equal(f->token_bytes, 128 + 4);
}

static void byte_maps_do_not_contradict_themselves(void **state)
{
    (void)state;
    for (int i = 1; i < RFN_FORMATS; i++)
    {
        const struct rfn_format_info *f = rfn_format_query((enum rfn_format)i);
        assert_non_null(f);
        int latent = f->latent_elems * rfn_dtype_bytes(f->latent_dtype);
        int scales = f->scales ? f->scale_bytes : 0;
        assert_int_equal(latent + scales + 2 * f->rope_elems, f->token_bytes);
        assert_int_equal(f->qk_elems, f->latent_elems + f->rope_elems);
        assert_true(f->v_elems <= f->qk_elems);
        if (f->scales)
            assert_int_equal(f->scales * f->scale_group, f->latent_elems);
        if (f->planar)
            assert_int_equal(f->data_bytes + f->scale_bytes, f->token_bytes);
        else
            assert_int_equal(f->data_bytes, f->token_bytes);
    }
}

static void what_is_no_format_is_refused(void **state)
{
    (void)state;
    assert_null(rfn_format_query(RFN_FORMAT_NONE));
    assert_null(rfn_format_query(RFN_FORMATS));
    assert_null(rfn_format_query((enum rfn_format) - 1));
    assert_int_equal(rfn_format_page_bytes(RFN_FORMAT_NONE, 64), 0);
    assert_int_equal(rfn_format_page_bytes(RFN_LATENT_FP8_656, 0), 0);
    assert_string_equal(rfn_dtype_name((enum rfn_dtype)99), "none");
    assert_int_equal(rfn_dtype_bytes((enum rfn_dtype) - 1), 0);
}

static void pages_are_rounded_where_the_format_says(void **state)
{
    (void)state;
    assert_int_equal(rfn_format_page_bytes(RFN_LATENT_FP8_656, 64), 64 * 656);
    assert_int_equal(rfn_format_page_bytes(RFN_INDEX_FP8_132, 64), 64 * 132);
    /* 64 * 584 = 37376 is no multiple of 576 */
    assert_int_equal(rfn_format_page_bytes(RFN_LATENT_FP8_584, 64), 65 * 576);
}

static void page_bytes_pass_four_gigabytes(void **state)
{
    (void)state;
    assert_true(rfn_format_page_bytes(RFN_LATENT_BF16_576, INT32_MAX) ==
                (int64_t)INT32_MAX * 1152);
}

static void dense_views_have_dense_strides(void **state)
{
    (void)state;
    int32_t x;
    struct rfn_tensor t = rfn_tensor_of(&x, RFN_I32, 3, 4, 5, 0);
    assert_int_equal(t.dims, 3);
    assert_int_equal(t.stride[0], 20);
    assert_int_equal(t.stride[1], 5);
    assert_int_equal(t.stride[2], 1);
    t = rfn_tensor_of(&x, RFN_I32, 0, 0, 0, 0);
    assert_int_equal(t.dims, 1);
    assert_int_equal(t.shape[0], 0);
}

static char memory[4 * 64 * 656];

static void both_latent_layouts_are_one_pool(void **state)
{
    (void)state;
    struct rfn_tensor view[] = {
        rfn_tensor_of(memory, RFN_U8, 4, 64, 656, 0),
        rfn_tensor_of(memory, RFN_U8, 4, 1, 64, 656),
        rfn_tensor_of(memory, RFN_U8, 4, 64, 1, 656),
    };
    for (int i = 0; i < 3; i++)
    {
        struct rfn_pool pool = { 0 };
        assert_int_equal(rfn_pool_view(&view[i], RFN_LATENT_FP8_656, &pool), RFN_OK);
        assert_ptr_equal(pool.data, memory);
        assert_int_equal(pool.page_tokens, 64);
        assert_int_equal(pool.pages, 4);
        assert_int_equal(pool.page_stride_bytes, 64 * 656);
    }
}

static void a_view_that_is_no_pool_is_refused_with_both_values(void **state)
{
    (void)state;
    struct rfn_tensor good = rfn_tensor_of(memory, RFN_U8, 4, 64, 656, 0);
    struct rfn_tensor two = rfn_tensor_of(memory, RFN_U8, 4, 2, 32, 656);
    struct rfn_tensor row = rfn_tensor_of(memory, RFN_U8, 4, 64, 640, 0);
    struct rfn_tensor close = good, odd = good, none = good;
    close.stride[0] -= 16;
    odd.stride[0] += 8;
    none.data = NULL;
    const struct
    {
        const struct rfn_tensor *view;
        const char *first;
        const char *second;
    } bad[] = {
        { &two, "[4,2,32,656]", "[B,1,P,bytes]" },
        { &row, "640", "656" },
        { &close, "41968", "41984" },
        { &odd, "41992", "16" },
        { &none, "not given", "cache" },
        { NULL, "NULL", "cache" },
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
    {
        struct rfn_pool pool = { .pages = 77 };
        assert_int_equal(rfn_pool_view(bad[i].view, RFN_LATENT_FP8_656, &pool),
                         RFN_INVALID);
        assert_non_null(strstr(rfn_last_error(), bad[i].first));
        assert_non_null(strstr(rfn_last_error(), bad[i].second));
        assert_int_equal(pool.pages, 77);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(byte_maps_are_the_published_ones),
        cmocka_unit_test(byte_maps_do_not_contradict_themselves),
        cmocka_unit_test(what_is_no_format_is_refused),
        cmocka_unit_test(pages_are_rounded_where_the_format_says),
        cmocka_unit_test(page_bytes_pass_four_gigabytes),
        cmocka_unit_test(dense_views_have_dense_strides),
        cmocka_unit_test(both_latent_layouts_are_one_pool),
        cmocka_unit_test(a_view_that_is_no_pool_is_refused_with_both_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
