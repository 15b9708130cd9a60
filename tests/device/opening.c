/*
 * Opening a device: AUTO takes what is there, and who asks for cuda is told what is missing.
 * Runs on any machine; what it can look at depends on the machine.
 */
#include "tests/device/open.h"

#if RFN_CUDA
#include "runtime/cuda/impl.h"
#endif

#include <sys/wait.h>
#include <unistd.h>

static enum rfn_status open_kind(enum rfn_device_kind kind, int32_t ordinal,
                                 struct rfn_device_info *ret_info)
{
    struct rfn_device_desc desc = { .kind = kind, .ordinal = ordinal };
    struct rfn_device *device = NULL;
    enum rfn_status status = rfn_device_open(&desc, &device);
    if (status != RFN_OK)
        return status;
    status = rfn_device_query(device, ret_info);
    enum rfn_status closed = rfn_device_close(&device);
    return status == RFN_OK ? closed : status;
}

static void auto_takes_what_is_there(struct test *t, int cuda)
{
    struct rfn_device_info info = { 0 };
    OK(t, open_kind(RFN_DEVICE_AUTO, 0, &info));
    HOLDS(t, info.kind == (cuda ? RFN_DEVICE_CUDA : RFN_DEVICE_HOST));
    OK(t, open_kind(RFN_DEVICE_HOST, 0, &info));
    HOLDS(t, info.kind == RFN_DEVICE_HOST);
}

static void an_ordinal_past_the_last_is_named_with_their_number(struct test *t)
{
    struct rfn_device_info info;
    REFUSED(t, open_kind(RFN_DEVICE_CUDA, 4096, &info), RFN_UNSUPPORTED,
            "no CUDA device 4096|there ");
    REFUSED(t, open_kind(RFN_DEVICE_AUTO, 4096, &info), RFN_UNSUPPORTED,
            "no CUDA device 4096|there ");
    REFUSED(t, open_kind(RFN_DEVICE_CUDA, -1, &info), RFN_INVALID, "ordinal -1");
}

static void missing_cuda_says_what_is_missing(struct test *t)
{
    struct rfn_device_info info;
    REFUSED(t, open_kind(RFN_DEVICE_CUDA, 0, &info), RFN_UNSUPPORTED, "device_open|CUDA");
    const char *line = rfn_last_error();
    harness_check(&t->h, "the line says what is missing",
                  strstr(line, "libcuda.so.1 was not found") || strstr(line, "too old") ||
                      strstr(line, "new enough") || strstr(line, "sees none") ||
                      strstr(line, "-Dcuda=disabled") || strstr(line, "sm_80"),
                  "%s", line);
    printf("  %s\n", line);
}

#if RFN_CUDA
static void each_reason_has_its_words(struct test *t)
{
    static const struct
    {
        int code, driver;
        const char *visible, *words;
    } row[] = {
        { cudaErrorInsufficientDriver, 0, NULL,
          "no CUDA driver: libcuda.so.1 was not found" },
        { cudaErrorInsufficientDriver, 12040, NULL,
          "no CUDA driver that is new enough: it knows CUDA 12.4, this build needs " },
        { cudaErrorNoDevice, 13000, NULL,
          "no CUDA device: the driver (CUDA 13.0) sees none" },
        { cudaErrorNoDevice, 13000, "7",
          "no CUDA device: the driver sees none with CUDA_VISIBLE_DEVICES=7" },
        { cudaErrorSystemNotReady, 13000, NULL, "no CUDA device: 802, " },
    };
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++)
    {
        char reason[256];
        rfn_cuda_missing(row[i].code, row[i].driver, row[i].visible, reason,
                         sizeof reason);
        harness_check(&t->h, "the reason has its words",
                      strncmp(reason, row[i].words, strlen(row[i].words)) == 0,
                      "\"%s\" where \"%s\" is due", reason, row[i].words);
    }
}
#endif

/* In a process whose driver, if there is one, is told to show nothing. */
static int hidden(int *argc, char **argv)
{
    struct test t = { .host = 1 };
    setenv("CUDA_VISIBLE_DEVICES", "", 1);
    harness_begin(&t.h, "opening, devices hidden", argc, argv);
    missing_cuda_says_what_is_missing(&t);
    auto_takes_what_is_there(&t, 0);
    return harness_end(&t.h);
}

int main(int argc, char **argv)
{
    int status = 0;
    pid_t child = fork(); /* before CUDA starts */
    if (child == 0)
        exit(hidden(&argc, argv));
    if (child < 0 || waitpid(child, &status, 0) != child || status != 0)
        return 1;

    struct test t = { .host = 1 };
    struct rfn_device_info info;
    harness_begin(&t.h, "opening", &argc, argv);
    int cuda = open_kind(RFN_DEVICE_CUDA, 0, &info) == RFN_OK;
    if (cuda)
        an_ordinal_past_the_last_is_named_with_their_number(&t);
    else
        missing_cuda_says_what_is_missing(&t);
    auto_takes_what_is_there(&t, cuda);
#if RFN_CUDA
    each_reason_has_its_words(&t);
#endif
    return harness_end(&t.h);
}
