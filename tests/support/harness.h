/*
 * A test harness of one page that needs no library: named checks, counts, a closing line,
 * exit codes 0 (all passed), 1 (something failed), 77 (nothing ran, something skipped).
 *
 *     struct harness h;
 *     harness_begin(&h, "what", &argc, argv);     takes --seed S out of argv, prints it
 *     harness_check(&h, "a promise", x == 1, "x = %d, but 1 is right", x);
 *     return harness_end(&h);                     prints "N passed, N failed"
 */
#ifndef TEST_HARNESS_H
#define TEST_HARNESS_H

#include <stdint.h>

#if defined(__GNUC__)
#define HARNESS_PRINTF(f, a) __attribute__((format(printf, f, a)))
#else
#define HARNESS_PRINTF(f, a)
#endif

struct harness
{
    const char *name;
    uint64_t seed; /* --seed, else RFN_SEED, else from the clock; always printed */
    int passed;
    int failed;
    int skipped;
    int verbose; /* --verbose: passing checks are printed too */
};

/* Fills `h`, takes its own options out of argv and prints the seed. */
void harness_begin(struct harness *h, const char *name, int *argc, char **argv);

/* Counts one named check and prints it when it failed; returns `ok`. */
int harness_check(struct harness *h, const char *check, int ok, const char *format, ...)
    HARNESS_PRINTF(4, 5);

/* Counts a check that cannot run here, and says why. */
void harness_skip(struct harness *h, const char *check, const char *why);

/* Prints the closing line and returns the exit code. */
int harness_end(const struct harness *h);

#endif
