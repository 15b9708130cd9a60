/* The first node of a step. */
#include "runtime/attention/attention.h"

#include "kernels/op.h"
#include "runtime/guard.h"
#include "runtime/range.h"

enum rfn_status rfn_bucket_check(const struct rfn_attention *attention,
                                 const struct rfn_bucket *bucket)
{
    const struct rfn_attention_limits *most = &attention->limits;
    if (!bucket)
        return RFN_FAIL(RFN_INVALID, "bucket is NULL");
    if (bucket->requests < 0 || bucket->next_n < 1 || bucket->short_context < 0 ||
        bucket->short_context > 1)
        return RFN_FAIL(
            RFN_INVALID,
            "bucket: requests = %d, next_n = %d, short_context = %d; at least "
            "0, at least 1, and 0 or 1 are needed",
            bucket->requests, bucket->next_n, bucket->short_context);
    if (bucket->requests > most->requests || bucket->next_n > most->next_n)
        return RFN_FAIL(RFN_LIMIT,
                        "bucket: %d requests of %d tokens, but the limits are %d of %d",
                        bucket->requests, bucket->next_n, most->requests, most->next_n);
    return RFN_OK;
}

struct rfn_step_update_args rfn_update_args(const struct rfn_attention *attention,
                                            const struct rfn_bucket *bucket)
{
    const struct rfn_attention *a = attention;
    /* An idle rank too writes that no row is live. */
    const int64_t R = bucket->requests ? bucket->requests : 1, T = R * bucket->next_n;
    return (struct rfn_step_update_args) {
        .lens = rfn_tensor_of(a->at.lens, RFN_I32, R, 0, 0, 0),
        .q_lens = rfn_tensor_of(a->at.q_lens, RFN_I32, R, 0, 0, 0),
        .table = rfn_tensor_of(a->at.table, RFN_I32, R, a->width, 0, 0),
        .requests = rfn_tensor_of(a->at.header, RFN_I32, 1, 0, 0, 0),
        .request = rfn_tensor_of(a->at.request, RFN_I32, T, 0, 0, 0),
        .context = rfn_tensor_of(a->at.context, RFN_I32, T, 0, 0, 0),
        .slots = rfn_tensor_of(a->at.slots, RFN_I64, T, 0, 0, 0),
        .live = rfn_tensor_of(a->at.live, RFN_I32, 1, 0, 0, 0),
        .advance = rfn_tensor_of(a->at.header + 1, RFN_I32, 1, 0, 0, 0),
        .rejected = rfn_tensor_of(a->at.rejected, RFN_I32, R, 0, 0, 0),
        .next_n = bucket->next_n,
        .page_tokens = a->geometry.page_tokens,
        .pages = a->limits.pages,
        .bounds = rfn_tensor_of(a->at.bounds, RFN_I64, RFN_BOUNDS, 0, 0, 0),
    };
}

enum rfn_status rfn_attention_update(struct rfn_attention *attention,
                                     struct rfn_stream *stream,
                                     const struct rfn_bucket *bucket)
{
    const struct rfn_attention *a = attention;
    if (!a)
        return RFN_FAIL(RFN_INVALID, "attention_update: attention is NULL");
    enum rfn_status status =
        rfn_object_of(stream, RFN_OBJECT_STREAM, "stream", a->device);
    if (status == RFN_OK)
        status = rfn_bucket_check(a, bucket);
    if (status != RFN_OK)
        return status;
    RFN_RANGE(RFN_RANGE_UPDATE, bucket->requests, 0, 0);
    int runs = 0;
    status = rfn_guard_enqueue(a->device, stream, a->state, bucket, 1, &runs);
    if (status != RFN_OK)
        return status;
    struct rfn_step_update_args args = rfn_update_args(a, bucket);
    /* The ladder's own capture: what else launches this graph is counted too. */
    const int takes = !runs && a->state->recorder == stream;
    if (takes)
        rfn_records_operands(a, args.lens.shape[0], &args);
    status = rfn_op_launch(stream, &rfn_op_step_update, &args);
    if (status == RFN_OK && takes)
        a->state->recorder = NULL; /* a second one of the step finds it done */
    if (status == RFN_OK && runs)
        rfn_guard_updated(a->state, bucket);
    return status;
}
