/* Names of kernels as readers see them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* cmocka wants the three above first */
#include <cmocka.h>
#include <refrain/image.h>

static const struct
{
    const char *name;
    const char *label;
} row[] = {
    { "memcpy", "memcpy" },
    { "", "" },
    { "_Z", "_Z" },
    { "_Z9", "_Z9" },
    { "_Z99short", "_Z99short" },
    { "nvjet_tst_64x8_64x16_4x1_v_bz_TNN", "nvjet_tst_64x8_64x16_4x1_v_bz_TNN" },
    { "_Z4copyPfPKf", "copy" },
    { "_ZN2at6native3addEv", "at::native::add" },
    { "_ZN2at6native12_GLOBAL__N_12lnIfEEvT_", "at::native::ln" },
    { "_Z4copyILi4EEvP6float4", "copy" },
    { "_Z4pickILN2at4kindE3EEvv", "pick" },
    { "_Z4pickIN2at4kindELb1EEvv", "pick<kind>" },
    { "_Z3sumIA16_fDF16bEvT_", "sum" },
    { "_Z3sumI1a1b1cEvv", "sum<c>" },
    { "_Z3sumI1af1bi1cj1dEvv", "sum<a, b, c>" },
    { "_ZN2at6native29vectorized_elementwise_kernelILi4ENS0_"
      "11FillFunctorIfEESt5arrayIPcLm1"
      "EEEEviT0_T1_",
      "at::native::vectorized_elementwise_kernel<FillFunctor, array>" },
    { "_ZN2at6native18elementwise_kernelILi128ELi4EZNS0_22gpu_kernel_impl_nocastIZZZNS0_"
      "23"
      "direct_copy_kernel_cudaERNS_18TensorIteratorBaseEENKUlvE1_clEvENKUlvE5_"
      "clEvEUlN3c10"
      "8BFloat16EE_EEvS5_RKT_EUliE_EEviT1_",
      "at::native::elementwise_kernel<gpu_kernel_impl_nocast, direct_copy_kernel_cuda, "
      "TensorIteratorBase>" },
};

static void labels_say_what_a_kernel_is_called(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++)
    {
        char text[128];
        assert_string_equal(rfn_image_label(row[i].name, text, sizeof text),
                            row[i].label);
    }
}

/* Every beginning of a name into a room of every size, with nothing behind either. */
static void labels_stay_inside_their_room(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++)
        for (size_t cut = 0; cut <= strlen(row[i].name); cut++)
            for (size_t bytes = 0; bytes < 20; bytes++)
            {
                char *name = malloc(cut + 1), *text = malloc(bytes + 1);
                assert_true(name && text);
                memcpy(name, row[i].name, cut);
                name[cut] = '\0';
                text[bytes] = 0x5a;
                const char *label = rfn_image_label(name, text, bytes);
                assert_int_equal(text[bytes], 0x5a);
                assert_true(strlen(label) + (bytes > 0) <= bytes);
                free(name);
                free(text);
            }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(labels_say_what_a_kernel_is_called),
        cmocka_unit_test(labels_stay_inside_their_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
