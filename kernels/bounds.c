/* The header that step_update writes, as host twins check it. */
#include "kernels/bounds.h"
#include "kernels/op.h"

const char rfn_bound_name[RFN_BOUNDS][RFN_BOUND_NAME_BYTES] = {
    [RFN_BOUND_MARK] = "bounds.mark",
    [RFN_BOUND_REQUESTS] = "bounds.requests",
    [RFN_BOUND_NEXT_N] = "bounds.next_n",
    [RFN_BOUND_ROWS] = "bounds.rows",
    [RFN_BOUND_TABLE_WIDTH] = "bounds.table_width",
    [RFN_BOUND_TABLE_STRIDE] = "bounds.table_stride",
    [RFN_BOUND_PAGE_TOKENS] = "bounds.page_tokens",
    [RFN_BOUND_PAGES] = "bounds.pages",
};

enum rfn_status rfn_bounds_check(const struct rfn_bounds *bounds, int64_t T)
{
    long long rows = (long long)bounds->rows;
    if (!bounds->header.data)
        return RFN_OK;
    if (rows && rows < T)
        return RFN_FAIL(RFN_INVALID,
                        "bounds: a step of %lld rows, but this launch has %lld", rows,
                        (long long)T);
    rows = rows ? rows : (long long)T;
    if (bounds->next_n && (bounds->next_n < 0 || rows % bounds->next_n))
        return RFN_FAIL(RFN_INVALID,
                        "bounds: next_n = %d, but %lld rows are no multiple of it",
                        bounds->next_n, rows);
    return RFN_OK;
}

int rfn_bounds_hold(const struct rfn_bounds *bounds, const struct rfn_bound_set *own,
                    const char *op, struct rfn_fault *fault)
{
    const int64_t *header = bounds->header.data;
    if (!header || !fault)
        return 1;
    for (int i = 0; i < RFN_BOUNDS; i++)
    {
        int64_t due = own->field[i];
        if (due == RFN_BOUND_ANY || header[i] == RFN_BOUND_ANY || header[i] == due)
            continue;
        struct rfn_fault seen = { op, rfn_bound_name[i], 0, due, header[i], 1 };
        rfn_fault_merge(fault, &seen);
        return 0;
    }
    return 1;
}
