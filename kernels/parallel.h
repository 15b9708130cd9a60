/* Running a host twin's units of work on several threads. */
#ifndef RFN_KERNELS_PARALLEL_H
#define RFN_KERNELS_PARALLEL_H

#include <stdint.h>

/* Calls body(ctx, i) for i = 0 .. n-1, in any order on `threads` threads. One thread runs a
 * plain loop: a team of one, or of another size than the last one, would make the OpenMP
 * runtime allocate, and a replay allocates nothing. */
static inline void rfn_parallel(int32_t threads, int64_t n,
                                void (*body)(void *ctx, int64_t i), void *ctx)
{
#if defined(_OPENMP)
    if (threads > 1 && n > 1)
    {
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1)
        for (int64_t i = 0; i < n; i++)
            body(ctx, i);
        return;
    }
#else
    (void)threads;
#endif
    for (int64_t i = 0; i < n; i++)
        body(ctx, i);
}

#endif
