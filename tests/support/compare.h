/* Comparing floats: first where NaN and infinities stand, then the numbers. */
#ifndef TEST_COMPARE_H
#define TEST_COMPARE_H

#include <stdint.h>

/* What a comparison has met so far; zero is the start. */
struct compare
{
    int64_t elems;
    int64_t
        mask_errors; /* NaN or infinity on one side only, or infinities of two signs */
    int64_t first_mask_error;
    double difference2; /* sums of squares over finite elements */
    double reference2;
    double max_difference;
};

/* Adds one element. */
void compare_add(struct compare *c, double value, double reference);

/* sqrt(sum (v - r)^2 / sum r^2); 0 for nothing; infinite when only the reference is 0. */
double compare_l2(const struct compare *c);

#endif
