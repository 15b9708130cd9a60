/* The presets, row by row, and how a name that is none is answered. */
#include <refrain/attention.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
/* cmocka wants the headers above first */
#include <cmocka.h>

#include <math.h>

static const struct
{
    const char *name;
    int32_t layers, heads, index_heads, topk, context;
    double scale;
} due[] = {
    { "deepseek-v3.2", 61, 128, 64, 2048, 163840, 0.135234 },
    { "deepseek-v3.2-h64", 61, 64, 64, 2048, 163840, 0.135234 },
    { "deepseek-v3.2-h32", 61, 32, 64, 2048, 163840, 0.135234 },
    { "deepseek-v3.2-h16", 61, 16, 64, 2048, 163840, 0.135234 },
    { "glm-5", 78, 64, 32, 2048, 202752, 0.0625 },
    { "glm-5-h8", 78, 8, 32, 2048, 202752, 0.0625 },
    { "tiny", 2, 8, 4, 64, 8192, 0.135234 },
};
#define PRESETS ((int32_t)(sizeof due / sizeof due[0]))

static void presets_are_the_models(void **state)
{
    (void)state;
    for (int32_t i = 0; i < PRESETS; i++)
    {
        const struct rfn_geometry *g = rfn_geometry_at(i), *found = NULL;
        assert_non_null(g);
        assert_string_equal(g->name, due[i].name);
        assert_int_equal(rfn_geometry_find(due[i].name, &found), RFN_OK);
        assert_ptr_equal(found, g);
        assert_int_equal(g->layers, due[i].layers);
        assert_int_equal(g->heads, due[i].heads);
        assert_int_equal(g->index_heads, due[i].index_heads);
        assert_int_equal(g->topk, due[i].topk);
        assert_int_equal(g->context, due[i].context);
        assert_true(fabs((double)g->scale - due[i].scale) < 5e-7);
        assert_int_equal(g->latent_elems, 512);
        assert_int_equal(g->rope_elems, 64);
        assert_int_equal(g->v_elems, 512);
        assert_int_equal(g->index_width, 128);
        assert_int_equal(g->page_tokens, 64);
        assert_int_equal(g->latent_format, RFN_LATENT_FP8_656);
        assert_int_equal(g->index_format, RFN_INDEX_FP8_132);
        assert_int_equal(g->latent_scale, RFN_SCALE_F32);
        assert_int_equal(g->index_scale, RFN_SCALE_UE8M0);
        assert_null(g->index_source);
    }
    assert_null(rfn_geometry_at(PRESETS));
    assert_null(rfn_geometry_at(-1));
}

/* 192^-0.5 * m^2 with m = 0.1 * ln(40) + 1, as a float. */
static void scales_are_what_the_formula_gives(void **state)
{
    (void)state;
    double m = 0.1 * log(40) + 1;
    assert_true(rfn_geometry_at(0)->scale == (float)(m * m / sqrt(192)));
    assert_true(rfn_geometry_at(4)->scale == (float)(1 / sqrt(256)));
}

static void unknown_names_are_answered_with_the_nearest(void **state)
{
    static const char *const names[][2] = {
        { "deepseek-v3", "the nearest is deepseek-v3.2" },
        { "deepseek-v3.2-h128", "the nearest is deepseek-v3.2-h32" },
        { "deepseek-v3.2-h63", "the nearest is deepseek-v3.2-h6" },
        { "glm5", "the nearest is glm-5" },
        { "GLM-5-h8", "the nearest is glm-5-h8" },
        { "tinny", "the nearest is tiny" },
        { "", "the nearest is tiny" },
    };
    const struct rfn_geometry *g = NULL;
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
    {
        assert_int_equal(rfn_geometry_find(names[i][0], &g), RFN_NOT_FOUND);
        assert_non_null(strstr(rfn_last_error(), names[i][0]));
        if (!strstr(rfn_last_error(), names[i][1]))
            fail_msg("\"%s\" lacks \"%s\"", rfn_last_error(), names[i][1]);
    }
    char huge[100000];
    memset(huge, 'x', sizeof huge - 1);
    huge[sizeof huge - 1] = 0;
    assert_int_equal(rfn_geometry_find(huge, &g), RFN_NOT_FOUND);
    assert_int_equal(rfn_geometry_find(NULL, &g), RFN_INVALID);
    assert_int_equal(rfn_geometry_find("tiny", NULL), RFN_INVALID);
    assert_null(g);
}

static void presets_run_on_the_host_device(void **state)
{
    struct rfn_device *device = NULL;
    (void)state;
    assert_int_equal(
        rfn_device_open(&(struct rfn_device_desc) { .kind = RFN_DEVICE_HOST }, &device),
        RFN_OK);
    for (int32_t i = 0; i < PRESETS; i++)
        if (rfn_supported(device, rfn_geometry_at(i)) != RFN_OK)
            fail_msg("%s: %s", due[i].name, rfn_last_error());
    assert_int_equal(rfn_supported(NULL, rfn_geometry_at(0)), RFN_INVALID);
    assert_int_equal(rfn_supported(device, NULL), RFN_INVALID);
    assert_int_equal(rfn_device_close(&device), RFN_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(presets_are_the_models),
        cmocka_unit_test(scales_are_what_the_formula_gives),
        cmocka_unit_test(unknown_names_are_answered_with_the_nearest),
        cmocka_unit_test(presets_run_on_the_host_device),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
