/* step_update and synth_fill written plainly, with one mistake in each instance. */
#include "tests/checkop/checkop.h"
#include "tests/checkop/reference.h"

#include <string.h>

/* ---- step_update ----------------------------------------------------------------------- */

#define STEP_BUGS(X)                                                                     \
    X(right)                                                                             \
    X(context_one_short)                                                                 \
    X(context_of_the_last_token_in_every_row)                                            \
    X(context_without_this_step)                                                         \
    X(query_length_unclamped)                                                            \
    X(negative_query_length_unclamped)                                                   \
    X(query_length_always_next_n)                                                        \
    X(padding_left_as_it_was)                                                            \
    X(padding_names_its_request)                                                         \
    X(padding_has_length_1)                                                              \
    X(padding_has_slot_0)                                                                \
    X(rows_behind_the_requests_left)                                                     \
    X(request_0_of_empty_rows)                                                           \
    X(dead_request_read)                                                                 \
    X(dead_request_advances)                                                             \
    X(advance_before_use)                                                                \
    X(advance_unasked)                                                                   \
    X(advance_only_of_1)                                                                 \
    X(advance_forgotten)                                                                 \
    X(advance_by_next_n)                                                                 \
    X(advance_by_1)                                                                      \
    X(advance_past_the_table)                                                            \
    X(advance_to_the_last_page_only)                                                     \
    X(rejected_ignored)                                                                  \
    X(rejected_left_as_they_were)                                                        \
    X(rejected_of_dead_requests_cleared)                                                 \
    X(rejected_taken_behind_the_rows)                                                    \
    X(rejected_taken_only_when_advancing)                                                \
    X(rejected_not_reported)                                                             \
    X(negative_rejected_taken)                                                           \
    X(rejected_past_the_length_taken)                                                    \
    X(negative_length_advances_from_itself)                                              \
    X(negative_length_not_reported)                                                      \
    X(past_the_table_not_reported)                                                       \
    X(past_the_table_reads_on)                                                           \
    X(past_the_table_takes_the_last_page)                                                \
    X(past_the_table_is_padding)                                                         \
    X(slot_of_the_next_token)                                                            \
    X(slot_on_the_page_before)                                                           \
    X(slot_on_the_next_page)                                                             \
    X(slot_of_the_first_token_in_every_row)                                              \
    X(table_of_request_0)                                                                \
    X(table_of_the_row)                                                                  \
    X(table_stride_ignored)                                                              \
    X(bad_page_kept)                                                                     \
    X(negative_page_kept)                                                                \
    X(bad_page_not_reported)                                                             \
    X(bad_page_reported_once)                                                            \
    X(page_0_is_no_page)                                                                 \
    X(slot_in_32_bits)                                                                   \
    X(page_of_64_tokens)                                                                 \
    X(live_is_requests)                                                                  \
    X(live_counts_queries)                                                               \
    X(live_unclamped)                                                                    \
    X(header_not_written)                                                                \
    X(header_of_live_requests)                                                           \
    X(header_stride_is_the_width)                                                        \
    X(header_stride_of_one_row)                                                          \
    X(header_unmarked)                                                                   \
    X(live_not_written)                                                                  \
    X(last_request_dropped)                                                              \
    X(record_ignored)                                                                    \
    X(record_of_any_turn)                                                                \
    X(record_of_32_bits)                                                                 \
    X(record_in_the_first_place)                                                         \
    X(record_stride_ignored)                                                             \
    X(record_requests_ignored)                                                           \
    X(record_requests_not_kept)                                                          \
    X(record_advance_ignored)                                                            \
    X(record_lengths_always)                                                             \
    X(record_lengths_never)                                                              \
    X(record_of_the_dead_left)                                                           \
    X(record_leaves_rejected)                                                            \
    X(record_last_change_dropped)                                                        \
    X(record_change_outside_taken)                                                       \
    X(record_change_outside_not_reported)                                                \
    X(turn_left)                                                                         \
    X(taken_not_written)                                                                 \
    X(taken_is_this_turn)

enum step_bug
{
#define X(name) step_##name,
    STEP_BUGS(X)
#undef X
};

#define IS(name) (bug == step_##name)

struct step
{
    const struct rfn_step_update_args *a;
    struct rfn_fault *fault;
    int64_t R, W, P, most;
};

static void note(const struct step *s, const char *operand, int64_t row, int64_t column,
                 int64_t value)
{
    if (s->fault && s->fault->count++ == 0)
        *s->fault = (struct rfn_fault) { "step_update", operand, row, column, value, 1 };
}

static int64_t find_slot(const struct step *s, int64_t b, int64_t j, int64_t position,
                         enum step_bug bug)
{
    const struct rfn_step_update_args *a = s->a;
    int64_t stride = IS(table_stride_ignored) ? s->W : a->table.stride[0];
    int64_t P = IS(page_of_64_tokens) ? 64 : s->P;
    if (IS(slot_of_the_next_token))
        position++;
    if (IS(slot_of_the_first_token_in_every_row) && position > j)
        position -= j;
    int64_t w = position / P;
    w += IS(slot_on_the_next_page) && w + 1 < s->W;
    w -= IS(slot_on_the_page_before) && position % P == 0 && w > 0;
    int64_t row = IS(table_of_request_0) ? 0
                  : IS(table_of_the_row) ? b * a->next_n + j
                                         : b;
    if (row >= s->R)
        row = s->R - 1;
    if (w >= s->W && IS(past_the_table_takes_the_last_page) && s->W)
        w = s->W - 1;
    /* Reads on only where the next row of the table is. */
    if (w >= s->W &&
        !(IS(past_the_table_reads_on) && s->W && b + 1 < s->R && w < s->W + 2))
        return -1;
    int64_t page = ((int32_t *)a->table.data)[row * stride + w];
    int bad = page < 0 || page >= a->pages || (page == 0 && IS(page_0_is_no_page));
    if (bad && !IS(bad_page_not_reported) && !(IS(bad_page_reported_once) && j))
        note(s, "table", b, w, page);
    if (bad && !IS(bad_page_kept) && !(IS(negative_page_kept) && page < 0))
        return -1;
    if (IS(slot_in_32_bits))
        return (int32_t)(uint32_t)(page * P + position % P);
    return page * P + position % P;
}

static void step_request(const struct step *s, int64_t b, int live, enum step_bug bug)
{
    const struct rfn_step_update_args *a = s->a;
    int64_t n = a->next_n, raw = live ? ((int32_t *)a->lens.data)[b] : 0;
    int64_t q = live ? ((int32_t *)a->q_lens.data)[b] : 0, L = raw;
    if ((raw < 0 && !IS(negative_length_not_reported)) ||
        (raw > s->most && !IS(past_the_table_not_reported)))
        note(s, "lens", b, 0, raw);
    if (L < 0)
        L = 0;
    if (q < 0 && !IS(negative_query_length_unclamped))
        q = 0;
    if (q > n && !IS(query_length_unclamped))
        q = n;
    if (live && IS(query_length_always_next_n))
        q = n;
    if (live && IS(advance_before_use) && a->advance.data && *(int32_t *)a->advance.data)
        L += q;
    int32_t *rejected = (int32_t *)a->rejected.data;
    int64_t back = rejected && live && !IS(rejected_ignored) ? rejected[b] : 0;
    if ((back < 0 || back > L) && !IS(rejected_not_reported))
        note(s, "rejected", b, 0, back);
    if (back < 0 && !IS(negative_rejected_taken))
        back = 0;
    if (back > L && !IS(rejected_past_the_length_taken))
        back = L;
    if (rejected && (live || IS(rejected_of_dead_requests_cleared)) &&
        !IS(rejected_left_as_they_were))
        rejected[b] = 0;
    L -= IS(rejected_taken_behind_the_rows) ? 0 : back;
    for (int64_t j = 0; j < n; j++)
    {
        int64_t context = L - q + j + 1, t = b * n + j, request = b, slot;
        context -= IS(context_one_short);
        if (IS(context_of_the_last_token_in_every_row))
            context = L;
        if (IS(context_without_this_step))
            context -= q;
        int padding = j >= q || context <= 0;
        if (context > s->most && IS(past_the_table_is_padding))
            padding = 1;
        if (padding && ((live && IS(padding_left_as_it_was)) ||
                        (!live && IS(rows_behind_the_requests_left))))
            continue;
        slot = padding ? -1 : find_slot(s, b, j, context - 1, bug);
        if (padding)
        {
            request = IS(padding_names_its_request) && live ? b : -1;
            request = j < q && IS(request_0_of_empty_rows) ? 0 : request;
            slot = IS(padding_has_slot_0) ? 0 : -1;
            context = IS(padding_has_length_1);
        }
        ((int32_t *)a->request.data)[t] = (int32_t)request;
        ((int32_t *)a->context.data)[t] = (int32_t)context;
        ((int64_t *)a->slots.data)[t] = slot;
    }
    int advance = a->advance.data != NULL && *(int32_t *)a->advance.data != 0;
    if (IS(advance_only_of_1) && a->advance.data)
        advance = *(int32_t *)a->advance.data == 1;
    if (IS(advance_unasked))
        advance = 1;
    if (back && !IS(rejected_taken_only_when_advancing))
        ((int32_t *)a->lens.data)[b] = (int32_t)((raw < 0 ? 0 : raw) - back);
    if (!advance || IS(advance_forgotten) || (!live && !IS(dead_request_advances)))
        return;
    L = raw < 0 && !IS(negative_length_advances_from_itself) ? 0 : raw;
    L -= back;
    L += IS(advance_by_next_n) ? n : IS(advance_by_1) ? 1 : q;
    int64_t most = IS(advance_to_the_last_page_only) ? s->most - s->P : s->most;
    if (L > most && !IS(advance_past_the_table))
        L = most;
    ((int32_t *)a->lens.data)[b] = (int32_t)(uint32_t)L;
}

static void step_change(const struct step *s, const struct rfn_step_record *r,
                        enum step_bug bug)
{
    const struct rfn_step_update_args *a = s->a;
    int32_t n = r->changes < RFN_STEP_CHANGES ? r->changes : RFN_STEP_CHANGES;
    for (int32_t i = 0; i < n - IS(record_last_change_dropped); i++)
    {
        struct rfn_step_change c = r->change[i];
        int far = c.request < 0 || c.request >= s->R,
            wide = c.column < 0 || c.column >= s->W;
        if (far && IS(record_change_outside_taken))
            far = c.request = 0;
        if ((far || wide) && !IS(record_change_outside_not_reported))
            note(s, "records", i, !far, far ? c.request : c.column);
        if (!far && !wide)
            ((int32_t *)a->table.data)[c.request * a->table.stride[0] + c.column] =
                c.page;
    }
}

static void step_record(const struct step *s, enum step_bug bug)
{
    const struct rfn_step_update_args *a = s->a;
    int64_t turn = *(int64_t *)a->turn.data, N = a->records.shape[0];
    int64_t stride =
        IS(record_stride_ignored) ? a->records.shape[1] : a->records.stride[0];
    const struct rfn_step_record *r =
        (const void *)((int32_t *)a->records.data +
                       (IS(record_in_the_first_place) ? 0 : turn % N) * stride);
    const int32_t *pair = (const int32_t *)(r + 1);
    *(int64_t *)a->turn.data = turn + !IS(turn_left);
    if (!IS(taken_not_written))
        *(int64_t *)a->taken.data = turn + !IS(taken_is_this_turn);
    int now = IS(record_of_32_bits) ? (int32_t)r->turn == (int32_t)turn : r->turn == turn;
    if (IS(record_ignored) || !(now || IS(record_of_any_turn)))
        return;
    if (!IS(record_requests_ignored))
        *(int32_t *)a->requests.data = r->requests;
    if (a->advance.data && !IS(record_advance_ignored))
        *(int32_t *)a->advance.data = r->advance;
    step_change(s, r, bug);
    int lengths = (r->lengths || IS(record_lengths_always)) && !IS(record_lengths_never);
    for (int64_t b = 0; lengths && b < s->R; b++)
    {
        int live = b < r->requests;
        if (!live && IS(record_of_the_dead_left))
            continue;
        ((int32_t *)a->lens.data)[b] = live ? pair[2 * b] : 0;
        ((int32_t *)a->q_lens.data)[b] = live ? pair[2 * b + 1] : 0;
        if (a->rejected.data && !IS(record_leaves_rejected))
            ((int32_t *)a->rejected.data)[b] = 0;
    }
}

static void step_twin(const struct rfn_step_update_args *a, struct rfn_fault *fault,
                      enum step_bug bug)
{
    struct step s = { a, fault, a->lens.shape[0], a->table.shape[1], a->page_tokens, 0 };
    int32_t kept = *(int32_t *)a->requests.data;
    if (a->records.data)
        step_record(&s, bug);
    int64_t requests = *(int32_t *)a->requests.data, queries = 0, named = requests;
    if (IS(record_requests_not_kept))
        *(int32_t *)a->requests.data = kept;
    s.most = s.W * s.P > INT32_MAX ? INT32_MAX : s.W * s.P;
    requests = requests < 0 ? 0 : requests > s.R ? s.R : requests;
    for (int64_t b = 0; b < s.R; b++)
    {
        int live = b < requests - IS(last_request_dropped);
        if (IS(dead_request_read))
            live = 1;
        int32_t q = live ? ((int32_t *)a->q_lens.data)[b] : 0;
        queries += q < 0 ? 0 : q > a->next_n ? a->next_n : q;
        step_request(&s, b, live, bug);
    }
    int64_t live = requests * a->next_n;
    live = IS(live_is_requests)      ? requests
           : IS(live_counts_queries) ? queries
           : IS(live_unclamped)      ? named * a->next_n
                                     : live;
    if (!IS(live_not_written))
        *(int32_t *)a->live.data = (int32_t)live;
    int64_t *bounds = a->bounds.data, R = IS(header_of_live_requests) ? requests : s.R;
    if (!bounds || IS(header_not_written))
        return;
    bounds[RFN_BOUND_MARK] = IS(header_unmarked) ? 0 : RFN_BOUNDS_MARK;
    bounds[RFN_BOUND_REQUESTS] = R;
    bounds[RFN_BOUND_NEXT_N] = a->next_n;
    bounds[RFN_BOUND_ROWS] = R * a->next_n;
    bounds[RFN_BOUND_TABLE_WIDTH] = s.W;
    bounds[RFN_BOUND_TABLE_STRIDE] =
        IS(header_stride_is_the_width) ? s.W : a->table.stride[0];
    if (s.R <= 1 && !IS(header_stride_of_one_row))
        bounds[RFN_BOUND_TABLE_STRIDE] = -1;
    bounds[RFN_BOUND_PAGE_TOKENS] = a->page_tokens;
    bounds[RFN_BOUND_PAGES] = a->pages;
}

#undef IS
#define X(name)                                                                          \
    static void step_twin_##name(const void *args, const struct rfn_host_env *env)       \
    {                                                                                    \
        step_twin(args, env->fault, step_##name);                                        \
    }
STEP_BUGS(X)
#undef X

const struct ck_broken ck_broken_step_update[] = {
#define X(name) { &rfn_op_step_update, #name, step_twin_##name },
    STEP_BUGS(X)
#undef X
};
const int ck_broken_step_updates = CK_COUNT(ck_broken_step_update);

/* ---- synth_fill ------------------------------------------------------------------------ */

#define SYNTH_BUGS(X)                                                                    \
    X(right)                                                                             \
    X(last_row_dropped)                                                                  \
    X(live_ignored)                                                                      \
    X(column_dropped)                                                                    \
    X(one_hash_a_row)                                                                    \
    X(one_value_a_hash)                                                                  \
    X(restarts_every_256_columns)                                                        \
    X(state_before_its_step)                                                             \
    X(high_lane_first)                                                                   \
    X(lanes_of_8_bits)                                                                   \
    X(lanes_unsigned)                                                                    \
    X(key_dropped)                                                                       \
    X(key_is_the_row_number)                                                             \
    X(key_in_32_bits)                                                                    \
    X(salt_dropped)                                                                      \
    X(salt_in_32_bits)                                                                   \
    X(salt_added_to_the_key)                                                             \
    X(row_not_mixed)                                                                     \
    X(last_shift_dropped)                                                                \
    X(arithmetic_shifts)                                                                 \
    X(amplitude_dropped)                                                                 \
    X(divided_by_32767)                                                                  \
    X(divided_by_65536)                                                                  \
    X(bf16_truncated)                                                                    \
    X(bf16_half_up)                                                                      \
    X(f32_through_bf16)                                                                  \
    X(integer_in_bf16)                                                                   \
    X(out_stride_ignored)                                                                \
    X(tail_dropped)                                                                      \
    X(tail_rounded_up)

enum synth_bug
{
#define X(name) synth_##name,
    SYNTH_BUGS(X)
#undef X
};

#define IS(name) (bug == synth_##name)
#define GOLDEN 0x9e3779b97f4a7c15u

static uint64_t shift(uint64_t z, int bits, enum synth_bug bug)
{
    uint64_t sign = IS(arithmetic_shifts) && z >> 63 ? ~(uint64_t)0 << (64 - bits) : 0;
    return z >> bits | sign;
}

static uint64_t mix(uint64_t z, enum synth_bug bug)
{
    z = (z ^ shift(z, 30, bug)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ shift(z, 27, bug)) * 0x94d049bb133111ebu;
    return IS(last_shift_dropped) ? z : z ^ shift(z, 31, bug);
}

static uint64_t row_of(const struct rfn_synth_fill_args *a, int64_t t, enum synth_bug bug)
{
    uint64_t key = (uint64_t)((int64_t *)a->keys.data)[t], salt = (uint64_t)a->salt;
    if (IS(key_dropped))
        key = 0;
    if (IS(key_is_the_row_number))
        key = (uint64_t)t;
    if (IS(key_in_32_bits))
        key &= UINT32_MAX;
    if (IS(salt_dropped))
        salt = 0;
    if (IS(salt_in_32_bits))
        salt &= UINT32_MAX;
    if (IS(salt_added_to_the_key))
        return mix(key + salt + GOLDEN, bug);
    uint64_t seed = key + mix(salt + GOLDEN, bug);
    return IS(row_not_mixed) ? seed : mix(seed, bug);
}

static float synth_value(const struct rfn_synth_fill_args *a, uint64_t row, int64_t d,
                         enum synth_bug bug)
{
    int64_t at = IS(restarts_every_256_columns) ? d % 256 : d;
    int64_t four = IS(one_hash_a_row) ? 0 : IS(one_value_a_hash) ? at : at / 4;
    int lane = IS(one_value_a_hash) ? 0 : (int)(at % 4);
    if (IS(column_dropped) && d % 4 == 3)
        lane = 2;
    if (IS(high_lane_first))
        lane = 3 - lane;
    uint64_t hash =
        mix(row + (uint64_t)(four + !IS(state_before_its_step)) * GOLDEN, bug);
    uint16_t bits = (uint16_t)(hash >> lane * (IS(lanes_of_8_bits) ? 8 : 16));
    float i = IS(lanes_unsigned) ? bits : bits >= 32768 ? bits - 65536.0f : bits;
    if (IS(integer_in_bf16))
        i = (float)ref_bf16_value(ref_bf16_code(i));
    if (IS(amplitude_dropped))
        return i * 0x1p-15f;
    if (IS(divided_by_32767))
        return i * (a->amplitude / 32767);
    return i * (a->amplitude * (IS(divided_by_65536) ? 0x1p-16f : 0x1p-15f));
}

static void synth_twin(const struct rfn_synth_fill_args *a, enum synth_bug bug)
{
    int64_t T = a->out.shape[0], D = a->out.shape[1], stride = a->out.stride[0];
    int64_t live = a->live.data ? *(int32_t *)a->live.data : T;
    if (IS(live_ignored) || live > T)
        live = T;
    if (IS(out_stride_ignored))
        stride = D;
    if (IS(tail_dropped))
        D = D / 4 * 4;
    if (IS(tail_rounded_up))
        D = (D + 3) / 4 * 4;
    for (int64_t t = 0; t < live - IS(last_row_dropped); t++)
    {
        uint64_t row = row_of(a, t, bug);
        for (int64_t d = 0; d < D; d++)
        {
            float x = synth_value(a, row, d, bug);
            uint32_t u;
            memcpy(&u, &x, 4);
            uint16_t code = IS(bf16_truncated) ? (uint16_t)(u >> 16)
                            : IS(bf16_half_up) ? (uint16_t)((u + 0x8000) >> 16)
                                               : ref_bf16_code(x);
            if (a->out.dtype == RFN_BF16)
                ((uint16_t *)a->out.data)[t * stride + d] = code;
            else
                ((float *)a->out.data)[t * stride + d] =
                    IS(f32_through_bf16) ? (float)ref_bf16_value(code) : x;
        }
    }
}

#undef IS
#define X(name)                                                                          \
    static void synth_twin_##name(const void *args, const struct rfn_host_env *env)      \
    {                                                                                    \
        (void)env;                                                                       \
        synth_twin(args, synth_##name);                                                  \
    }
SYNTH_BUGS(X)
#undef X

const struct ck_broken ck_broken_synth_fill[] = {
#define X(name) { &rfn_op_synth_fill, #name, synth_twin_##name },
    SYNTH_BUGS(X)
#undef X
};
const int ck_broken_synth_fills = CK_COUNT(ck_broken_synth_fill);
