#include "tests/support/harness.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static uint64_t seed_of_clock(void)
{
    struct timespec now;
    timespec_get(&now, TIME_UTC);
    return ((uint64_t)now.tv_sec * 1000003u + (uint64_t)now.tv_nsec) % 1000000000u;
}

void harness_begin(struct harness *h, const char *name, int *argc, char **argv)
{
    const char *seed = getenv("RFN_SEED");
    *h = (struct harness) { .name = name };
    int kept = 1;
    for (int i = 1; i < *argc; i++)
    {
        if (strcmp(argv[i], "--seed") == 0 && i + 1 < *argc)
            seed = argv[++i];
        else if (strncmp(argv[i], "--seed=", 7) == 0)
            seed = argv[i] + 7;
        else if (strcmp(argv[i], "--verbose") == 0)
            h->verbose = 1;
        else
            argv[kept++] = argv[i];
    }
    *argc = kept;
    h->seed = seed && *seed ? strtoull(seed, NULL, 0) : seed_of_clock();
    printf("%s: seed %llu\n", name, (unsigned long long)h->seed);
    fflush(stdout);
}

int harness_check(struct harness *h, const char *check, int ok, const char *format, ...)
{
    *(ok ? &h->passed : &h->failed) += 1;
    if (!ok || h->verbose)
    {
        printf("%s %s: %s", ok ? "ok  " : "FAIL", h->name, check);
        if (!ok)
        {
            va_list list;
            va_start(list, format);
            printf(": ");
            vprintf(format, list);
            va_end(list);
            printf(" (--seed %llu)", (unsigned long long)h->seed);
        }
        printf("\n");
        fflush(stdout);
    }
    return ok;
}

void harness_skip(struct harness *h, const char *check, const char *why)
{
    h->skipped++;
    printf("skip %s: %s: %s\n", h->name, check, why);
    fflush(stdout);
}

int harness_end(const struct harness *h)
{
    if (h->skipped)
        printf("%d skipped\n", h->skipped);
    printf("%d passed, %d failed\n", h->passed, h->failed);
    fflush(stdout);
    return h->failed ? 1 : h->passed || !h->skipped ? 0 : 77;
}
