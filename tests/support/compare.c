#include "tests/support/compare.h"

#include <math.h>

void compare_add(struct compare *c, double value, double reference)
{
    int same_mask = isnan(value) == isnan(reference) &&
                    isinf(value) == isinf(reference) &&
                    (!isinf(value) || (value > 0) == (reference > 0));
    if (!same_mask && c->mask_errors++ == 0)
        c->first_mask_error = c->elems;
    c->elems++;
    if (!isfinite(value) || !isfinite(reference))
        return;
    double d = value - reference;
    c->difference2 += d * d;
    c->reference2 += reference * reference;
    c->max_difference = fabs(d) > c->max_difference ? fabs(d) : c->max_difference;
}

double compare_l2(const struct compare *c)
{
    if (c->difference2 == 0)
        return 0;
    return c->reference2 == 0 ? INFINITY : sqrt(c->difference2 / c->reference2);
}
