/* sparse_mla written plainly, with one mistake in each instance. */
#include "tests/checkop/checkop.h"
#include "tests/checkop/reference.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define BUGS(X)                                                                          \
    X(right)                                                                             \
    X(last_key_dropped)                                                                  \
    X(tail_of_the_tile_dropped)                                                          \
    X(softmax_scale_dropped)                                                             \
    X(scale_of_the_last_group_dropped)                                                   \
    X(scale_of_the_next_row)                                                             \
    X(rope_not_scored)                                                                   \
    X(rope_of_the_query_dropped)                                                         \
    X(rope_not_in_the_value)                                                             \
    X(negative_index_unmasked)                                                           \
    X(negative_index_clamped)                                                            \
    X(masked_key_scores_zero)                                                            \
    X(past_the_pool_clamped)                                                             \
    X(past_the_pool_not_reported)                                                        \
    X(lens_ignored)                                                                      \
    X(lens_off_by_one)                                                                   \
    X(negative_length_as_all)                                                            \
    X(lse_in_base_2)                                                                     \
    X(lse_with_the_sink)                                                                 \
    X(sink_ignored)                                                                      \
    X(sink_of_head_0)                                                                    \
    X(empty_row_is_nan)                                                                  \
    X(empty_row_left_as_it_was)                                                          \
    X(empty_lse_always_negative)                                                         \
    X(maximum_not_subtracted)                                                            \
    X(stale_partial)                                                                     \
    X(second_source_ignored)                                                             \
    X(second_lens_of_the_first)                                                          \
    X(format_of_the_first_source)                                                        \
    X(duplicates_once)                                                                   \
    X(indices_of_row_0)                                                                  \
    X(index_stride_ignored)                                                              \
    X(out_stride_ignored)                                                                \
    X(query_stride_ignored)                                                              \
    X(page_stride_ignored)                                                               \
    X(live_ignored)                                                                      \
    X(heads_rounded_up)                                                                  \
    X(out_truncated)                                                                     \
    X(weights_in_e4m3)                                                                   \
    X(nan_masked)                                                                        \
    X(nan_of_the_row_before)

enum bug
{
#define X(name) name,
    BUGS(X)
#undef X
};

#define TILE 64

struct keys
{
    float (*key)[576];
    int64_t n;
};

static void load_key(const struct rfn_mla_source *s, const struct rfn_mla_source *first,
                     int64_t slot, float *ret, enum bug bug)
{
    struct rfn_pool pool = s->pool;
    double key[576];
    if (bug == page_stride_ignored)
        pool.page_stride_bytes = 0;
    if (bug == format_of_the_first_source)
        pool.format = first->pool.format;
    int qk = ref_qk(pool.format), latent = ref_latent(pool.format);
    ref_key(&pool, slot, key);
    for (int d = 0; d < qk; d++)
        ret[d] = (float)key[d];
    int group = pool.format == RFN_LATENT_FP8_584 ? 64 : 128;
    if (pool.format != RFN_LATENT_BF16_576 && bug == scale_of_the_last_group_dropped)
        for (int d = latent - group; d < latent; d++)
            ret[d] = (float)ref_e4m3_value(ref_row(&pool, slot)[d]);
    if (pool.format == RFN_LATENT_FP8_584 && bug == scale_of_the_next_row)
        for (int d = 0; d < 64; d++)
            ret[d] = (float)(ref_e4m3_value(ref_row(&pool, slot)[d]) *
                             ldexp(1, ref_scales(&pool, slot)[1] - 127));
}

static void gather(const struct rfn_sparse_mla_args *a, int64_t t, struct keys *keys,
                   struct rfn_fault *fault, enum bug bug)
{
    static const char *const names[] = { "source[0].indices", "source[1].indices" };
    keys->n = 0;
    for (int i = 0; i < 2 && a->source[i].pool.data; i++)
    {
        const struct rfn_mla_source *s = &a->source[i];
        int64_t slots = s->pool.pages * s->pool.page_tokens, K = s->indices.shape[1];
        const struct rfn_tensor *lens =
            &a->source[bug == second_lens_of_the_first ? 0 : i].lens;
        int64_t stride = bug == index_stride_ignored ? K : s->indices.stride[0];
        const int32_t *index =
            (int32_t *)s->indices.data + (bug == indices_of_row_0 ? 0 : t) * stride;
        int64_t L = lens->data ? ((int32_t *)lens->data)[t] : K;
        if (bug == lens_ignored || (bug == negative_length_as_all && L < 0))
            L = K;
        L += bug == lens_off_by_one;
        L = L > K ? K : L;
        if (i == 1 && bug == second_source_ignored)
            return;
        for (int64_t k = 0; k < L - (bug == last_key_dropped); k++)
        {
            int64_t slot = index[k], n = keys->n;
            int seen = 0;
            for (int64_t j = 0; bug == duplicates_once && j < k; j++)
                seen |= index[j] == slot;
            if (slot >= slots)
            {
                if (fault && bug != past_the_pool_not_reported && fault->count++ == 0)
                    *fault = (struct rfn_fault) { "sparse_mla", names[i], t, k, slot, 1 };
                if (bug != past_the_pool_clamped)
                    continue;
                slot = slots - 1;
            }
            if (slot < 0 && bug == negative_index_clamped)
                slot = 0;
            if (slot < 0 && bug == masked_key_scores_zero)
            {
                memset(keys->key[n], 0, sizeof keys->key[n]);
                keys->n++;
                continue;
            }
            if (slot < 0 && bug == negative_index_unmasked)
            {
                /* What lies in front of a pool: nothing that is a number. */
                memset(keys->key[n], 0xff, sizeof keys->key[n]);
                keys->n++;
                continue;
            }
            if (slot < 0 || seen)
                continue;
            load_key(s, &a->source[0], slot, keys->key[n], bug);
            keys->n++;
        }
    }
    if (bug == tail_of_the_tile_dropped && keys->n > TILE)
        keys->n = keys->n / TILE * TILE;
}

static void load_query(const struct rfn_sparse_mla_args *a, int64_t t, int64_t h,
                       float *q, enum bug bug)
{
    int qk = ref_qk(a->source[0].pool.format);
    int64_t D = a->q.shape[2], H = a->q.shape[1];
    for (int d = 0; d < qk; d++)
    {
        const struct rfn_tensor *part = d < D ? &a->q : &a->q_rope;
        int64_t stride =
            bug == query_stride_ignored ? H * part->shape[2] : part->stride[0];
        q[d] = (float)ref_bf16_value(
            ((uint16_t *)
                 part->data)[t * stride + h * part->stride[1] + (d < D ? d : d - D)]);
        if (d >= D && bug == rope_of_the_query_dropped)
            q[d] = 0;
    }
}

static float weigh(const struct rfn_sparse_mla_args *a, const struct keys *keys,
                   const float *q, float *weight, float *ret_max, float *o, enum bug bug)
{
    int qk = ref_qk(a->source[0].pool.format),
        latent = ref_latent(a->source[0].pool.format);
    float max = -INFINITY, sum = 0;
    int scored = bug == rope_not_scored ? latent : qk;
    for (int64_t s = 0; s < keys->n; s++)
    {
        float dot = 0;
        for (int d = 0; d < scored; d++)
            dot += q[d] * keys->key[s][d];
        weight[s] = bug == softmax_scale_dropped ? dot : a->scale * dot;
        if (isnan(dot) && bug == nan_masked)
            weight[s] = -INFINITY;
        max = weight[s] > max ? weight[s] : max;
    }
    if (bug == maximum_not_subtracted)
        max = 0;
    float running = -INFINITY;
    for (int64_t s = 0; s < keys->n; s++)
    {
        /* The partial of earlier tiles keeps the maximum that it was made with. */
        if (bug == stale_partial && s % TILE == 0)
            for (int64_t j = s; j < s + TILE && j < keys->n; j++)
                running = weight[j] > running ? weight[j] : running;
        float w = expf(weight[s] - (bug == stale_partial ? running : max));
        if (bug == weights_in_e4m3)
            w = (float)ref_e4m3_value(ref_e4m3_code(w));
        sum += w;
        int V = bug == rope_not_in_the_value && qk == 512 ? latent : 512;
        for (int v = 0; v < V; v++)
            o[v] += w * keys->key[s][v];
    }
    *ret_max = max;
    return sum;
}

static void attend(const struct rfn_sparse_mla_args *a, int64_t t, int64_t h,
                   const struct keys *keys, float *weight, enum bug bug)
{
    float q[576], o[512] = { 0 }, max;
    int64_t stride = bug == out_stride_ignored ? a->q.shape[1] * 512 : a->out.stride[0];
    uint16_t *out = (uint16_t *)a->out.data + t * stride + h * a->out.stride[1];
    float *lse = a->lse.data ? (float *)a->lse.data + t * a->lse.stride[0] + h : NULL;
    if (keys->n == 0 && bug == empty_row_left_as_it_was)
        return;
    load_query(a, t, h, q, bug);
    float sum = weigh(a, keys, q, weight, &max, o, bug);
    float log_sum = max + logf(sum), factor = 1 / sum;
    if (a->sink.data && bug != sink_ignored)
    {
        float sink = ((float *)a->sink.data)[bug == sink_of_head_0 ? 0 : h];
        factor = 1 / (sum + expf(sink - max));
        if (bug == lse_with_the_sink)
            log_sum = max + logf(sum + expf(sink - max));
    }
    if (bug == lse_in_base_2)
        log_sum *= 1.442695f;
    if (keys->n == 0 && bug != empty_row_is_nan)
    {
        factor = 0;
        log_sum = a->empty_lse_positive && bug != empty_lse_always_negative ? INFINITY
                                                                            : -INFINITY;
    }
    for (int v = 0; v < 512; v++)
    {
        uint32_t u;
        float x = o[v] * factor;
        memcpy(&u, &x, 4);
        out[v] = bug == out_truncated ? (uint16_t)(u >> 16) : ref_bf16_code(x);
    }
    if (lse)
        *lse = log_sum;
}

static void twin(const struct rfn_sparse_mla_args *a, struct rfn_fault *fault,
                 enum bug bug)
{
    int64_t T = a->q.shape[0], H = a->q.shape[1];
    int64_t live = a->live.data ? *(int32_t *)a->live.data : T;
    int64_t most = a->source[0].indices.shape[1];
    if (a->source[1].pool.data)
        most += a->source[1].indices.shape[1];
    struct keys keys = { .key = malloc((size_t)(most + 1) * sizeof *keys.key) };
    float *weight = malloc((size_t)(most + 1) * sizeof *weight);
    if (bug == live_ignored || live > T)
        live = T;
    for (int64_t t = 0; t < live; t++)
    {
        gather(a, t, &keys, fault, bug);
        int64_t heads = bug == heads_rounded_up ? (H + 1) / 2 * 2 : H;
        for (int64_t h = 0; h < heads; h++)
            if (h < H)
                attend(a, t, h, &keys, weight, bug);
            else
                memset((uint16_t *)a->out.data + t * a->out.stride[0] + h * 512, 0, 64);
        if (bug == nan_of_the_row_before && t)
        {
            uint16_t *out = (uint16_t *)a->out.data + t * a->out.stride[0];
            for (int v = 0; v < 512; v++)
                if (isnan(ref_bf16_value(out[v - a->out.stride[0]])))
                    out[v] = 0x7fc0;
        }
    }
    free(keys.key);
    free(weight);
}

#define X(name)                                                                          \
    static void twin_##name(const void *args, const struct rfn_host_env *env)            \
    {                                                                                    \
        twin(args, env->fault, name);                                                    \
    }
BUGS(X)
#undef X

const struct ck_broken ck_broken_sparse_mla[] = {
#define X(name) { &rfn_op_sparse_mla, #name, twin_##name },
    BUGS(X)
#undef X
};
const int ck_broken_sparse_mlas = CK_COUNT(ck_broken_sparse_mla);
