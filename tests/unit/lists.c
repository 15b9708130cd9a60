/* The lists of tiles on the host: tables worked out by hand, and what is refused. */
#include <refrain/refrain.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
/* cmocka wants the headers above first */
#include <cmocka.h>

#define COUNT(a) ((int64_t)(sizeof(a) / sizeof((a)[0])))
#define POISON 0x5a5a5a5a
#define ROOM 64

struct world
{
    int32_t maxima[RFN_SPLIT_MAXIMA], counts[RFN_SPLIT_COUNTS];
    _Alignas(8) int32_t decoder[2 * ROOM];
    int32_t encoder[2 * ROOM], kv[2 * ROOM];
    _Alignas(8) int32_t tiles[2 * ROOM];
    int32_t key_starts[16], prefix[RFN_PREFIX_COUNTS];
};
static struct world w;

static void poison(void)
{
    int32_t *p = (int32_t *)&w;
    for (size_t i = 0; i < sizeof w / sizeof *p; i++)
        p[i] = POISON;
}

static int is_poison(void)
{
    const int32_t *p = (const int32_t *)&w;
    for (size_t i = 0; i < sizeof w / sizeof *p; i++)
        if (p[i] != POISON)
            return 0;
    return 1;
}

static struct rfn_tensor vector(const int32_t *data, int64_t n)
{
    return rfn_tensor_of((void *)(uintptr_t)data, RFN_I32, n, 0, 0, 0);
}

/* Requests: decoding, prefilling behind a prefix, idle with garbage, decoding to the end of
 * a tile, idle by a negative count, a first token without prefill, prefilling anew. */
static int32_t q[] = { 1, 100, 0, 3, -1, 1, 900 };
static int32_t prefill[] = { 0, 100, 500, 0, -7, 0, 900 };
static int32_t cached[] = { 300, 470, 9999, 125, 77777, 0, 0 };
#define R 7

static struct rfn_split_lists_args split_args(void)
{
    poison();
    return (struct rfn_split_lists_args) {
        .q_lens = vector(q, R),
        .prefill = vector(prefill, R),
        .cached = vector(cached, R),
        .maxima = vector(w.maxima, RFN_SPLIT_MAXIMA),
        .decoder = rfn_tensor_of(w.decoder, RFN_I32, ROOM, 2, 0, 0),
        .encoder = rfn_tensor_of(w.encoder, RFN_I32, ROOM, 2, 0, 0),
        .kv = rfn_tensor_of(w.kv, RFN_I32, ROOM, 2, 0, 0),
        .counts = vector(w.counts, RFN_SPLIT_COUNTS),
        .group = 8,
        .decoder_keys = 128,
        .encoder_rows = 256,
        .kv_keys = 64,
    };
}

static struct rfn_prefix_lists_args prefix_args(void)
{
    poison();
    return (struct rfn_prefix_lists_args) {
        .q_lens = vector(q, R),
        .cached = vector(cached, R),
        .tiles = rfn_tensor_of(w.tiles, RFN_I32, ROOM, 2, 0, 0),
        .key_starts = vector(w.key_starts, R + 1),
        .counts = vector(w.prefix, RFN_PREFIX_COUNTS),
        .prefix_keys = 64,
    };
}

/* The list is `runs` of (request, how many tiles of it), then -1 up to its end. */
static void list_is(const int32_t *list, int64_t room, const int32_t (*runs)[2],
                    int64_t count)
{
    int64_t p = 0;
    for (int64_t i = 0; i < count; i++)
        for (int32_t tile = 0; tile < runs[i][1]; tile++, p++)
        {
            assert_int_equal(list[2 * p], runs[i][0]);
            assert_int_equal(list[2 * p + 1], tile);
        }
    for (; p < room; p++)
        assert_true(list[2 * p] == -1 && list[2 * p + 1] == -1);
}

static void ints_are(const int32_t *got, const int32_t *due, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (got[i] != due[i])
            fail_msg("number %d is %d where %d is due", (int)i, got[i], due[i]);
}

static void check_split(void)
{
    /* 301 / 128, 128 / 128, 1 / 128 keys; 800 and 7200 rows / 256; 22 + 100 and 900 / 64 */
    static const int32_t maxima[] = { 900, 900, 470, 900, 300, 570 };
    static const int32_t counts[] = { 5, 33, 17, 128, 0 };
    static const int32_t decoder[][2] = { { 0, 3 }, { 3, 1 }, { 5, 1 } };
    static const int32_t encoder[][2] = { { 1, 4 }, { 6, 29 } };
    static const int32_t kv[][2] = { { 1, 2 }, { 6, 15 } };
    ints_are(w.maxima, maxima, RFN_SPLIT_MAXIMA);
    ints_are(w.counts, counts, RFN_SPLIT_COUNTS);
    list_is(w.decoder, ROOM, decoder, COUNT(decoder));
    list_is(w.encoder, ROOM, encoder, COUNT(encoder));
    list_is(w.kv, ROOM, kv, COUNT(kv));
}

static void split_is_as_worked_out(void **state)
{
    (void)state;
    struct rfn_split_lists_args a = split_args();
    assert_int_equal(rfn_split_lists_host(&a), RFN_OK);
    check_split();
}

static void query_starts_say_the_same_as_lengths(void **state)
{
    /* An idle request that is negative as a length is a 0 here. */
    static const int32_t starts[] = { 10, 11, 111, 111, 114, 114, 115, 1015 };
    (void)state;
    struct rfn_split_lists_args a = split_args();
    a.q_lens = (struct rfn_tensor) { 0 };
    a.q_starts = vector(starts, R + 1);
    assert_int_equal(rfn_split_lists_host(&a), RFN_OK);
    check_split();
}

static void rows_can_be_divided_instead(void **state)
{
    static const int32_t counts[] = { 4, 0, 0, 0, 0 };
    static const int32_t decoder[][2] = { { 0, 1 }, { 3, 2 }, { 5, 1 } };
    (void)state;
    struct rfn_split_lists_args a = split_args();
    a.decoder_keys = 0;
    a.decoder_rows = 16; /* 8, 24 and 8 rows */
    a.encoder.data = a.kv.data = NULL;
    assert_int_equal(rfn_split_lists_host(&a), RFN_OK);
    ints_are(w.counts, counts, RFN_SPLIT_COUNTS);
    list_is(w.decoder, ROOM, decoder, COUNT(decoder));
    assert_int_equal(w.encoder[0], POISON);
    assert_int_equal(w.kv[0], POISON);
}

static void requests_past_the_count_are_idle(void **state)
{
    static const int32_t maxima[] = { 100, 100, 470, 570, 300, 570 };
    static const int32_t two = 2;
    (void)state;
    struct rfn_split_lists_args a = split_args();
    a.requests = vector(&two, 1);
    assert_int_equal(rfn_split_lists_host(&a), RFN_OK);
    ints_are(w.maxima, maxima, RFN_SPLIT_MAXIMA);
    assert_int_equal(w.counts[RFN_SPLIT_DECODER], 3);
    assert_int_equal(w.counts[RFN_SPLIT_ENCODER], 4);
    assert_int_equal(w.counts[RFN_SPLIT_KV], 2);
}

static void idle_requests_count_in_no_maximum(void **state)
{
    static const int32_t idle[] = { 0, -1, -2147483647, 0 }, none[6] = { 0 };
    static const int32_t huge[] = { 2147483647, 9999, -5, 1 };
    static const int32_t counts[] = { 0, 0, 0, 64, 0 };
    (void)state;
    struct rfn_split_lists_args a = split_args();
    a.q_lens = vector(idle, 4);
    a.prefill = a.cached = vector(huge, 4);
    a.decoder_keys = 0;
    a.sm_count = 132;
    assert_int_equal(rfn_split_lists_host(&a), RFN_OK);
    ints_are(w.maxima, none, RFN_SPLIT_MAXIMA);
    ints_are(w.counts, counts, RFN_SPLIT_COUNTS);
    list_is(w.decoder, ROOM, NULL, 0);
}

/* One request that decodes; the tile that is chosen for a context of this many keys. */
static int32_t chosen(int32_t context, int32_t kv_keys, int32_t sm_count)
{
    static _Alignas(8) int32_t pairs[2 * 40000];
    const int32_t one = 1, rest = context - 1;
    struct rfn_split_lists_args a = split_args();
    a.q_lens = vector(&one, 1);
    a.prefill = (struct rfn_tensor) { 0 };
    a.cached = vector(&rest, 1);
    a.decoder = rfn_tensor_of(pairs, RFN_I32, 40000, 2, 0, 0);
    a.decoder_keys = 0;
    a.kv_keys = kv_keys;
    a.sm_count = sm_count;
    assert_int_equal(rfn_split_lists_host(&a), RFN_OK);
    assert_int_equal(w.counts[RFN_SPLIT_DECODER],
                     (context + w.counts[RFN_SPLIT_KEYS] - 1) / w.counts[RFN_SPLIT_KEYS]);
    return w.counts[RFN_SPLIT_KEYS];
}

static void every_tile_size_can_be_chosen(void **state)
{
    (void)state;
    /* 12 * 2^i + 1 pages are 13 tiles of 2^i pages; of smaller ones the last wave lacks
     * some, for no power of 2 up to 2^11 is 1 modulo 13. */
    for (int32_t i = 0; i < 12; i++)
        assert_int_equal(chosen(16 * ((12 << i) + 1), 16, 13), 16 << i);
    assert_int_equal(chosen(132 * 64, 64, 132), 64);  /* a full wave, not an empty one */
    assert_int_equal(chosen(133 * 64, 64, 132), 128); /* 1 in the last wave; 67; 34 */
    assert_int_equal(chosen(64, 64, 132), 64);        /* 1 tile whatever the size */
}

static void prefix_is_as_worked_out(void **state)
{
    static const int32_t starts[] = { 0, 301, 871, 871, 999, 999, 1000, 1900 };
    static const int32_t counts[] = { 15, 1900, 0 };
    static const int32_t tiles[][2] = { { 0, 5 }, { 1, 8 }, { 3, 2 } };
    (void)state;
    struct rfn_prefix_lists_args a = prefix_args();
    assert_int_equal(rfn_prefix_lists_host(&a), RFN_OK);
    ints_are(w.key_starts, starts, R + 1);
    ints_are(w.prefix, counts, RFN_PREFIX_COUNTS);
    list_is(w.tiles, ROOM, tiles, COUNT(tiles));

    a = prefix_args();
    a.tiles.data = NULL;
    a.keys_most = 1900;
    assert_int_equal(rfn_prefix_lists_host(&a), RFN_OK);
    ints_are(w.key_starts, starts, R + 1);
    assert_int_equal(w.prefix[RFN_PREFIX_TILES], 0);
}

/* Refused with these words, and nothing was written. */
#define REFUSED(call, status, ...)                                                       \
    refused((call), (status), __LINE__, (const char *const[]) { __VA_ARGS__, NULL })
static void refused(enum rfn_status got, enum rfn_status due, int line,
                    const char *const *words)
{
    if (got != due)
        fail_msg("line %d: %s where %s is due", line, rfn_status_name(got),
                 rfn_status_name(due));
    for (; *words; words++)
        if (!strstr(rfn_last_error(), *words))
            fail_msg("line %d: \"%s\" lacks \"%s\"", line, rfn_last_error(), *words);
    if (!is_poison())
        fail_msg("line %d: an output was written", line);
}

static void short_lists_are_refused(void **state)
{
    (void)state;
    struct rfn_split_lists_args a = split_args();
    a.decoder.shape[0] = 4;
    REFUSED(rfn_split_lists_host(&a), RFN_LIMIT, "decoder: 5 tiles", "room for 4");
    a = split_args();
    a.encoder.shape[0] = 32;
    REFUSED(rfn_split_lists_host(&a), RFN_LIMIT, "encoder: 33 tiles", "room for 32");
    a = split_args();
    a.kv.shape[0] = 0;
    REFUSED(rfn_split_lists_host(&a), RFN_LIMIT, "kv: 17 tiles", "room for 0");
    a = split_args();
    a.decoder.shape[0] = 5;
    a.encoder.shape[0] = 33;
    a.kv.shape[0] = 17;
    assert_int_equal(rfn_split_lists_host(&a), RFN_OK);
    assert_int_equal(w.decoder[10], POISON);
    struct rfn_prefix_lists_args b = prefix_args();
    b.tiles.shape[0] = 14;
    REFUSED(rfn_prefix_lists_host(&b), RFN_LIMIT, "tiles: 15 tiles", "room for 14");
    b = prefix_args();
    b.keys_most = 1899;
    REFUSED(rfn_prefix_lists_host(&b), RFN_LIMIT, "1900 keys", "bound is 1899");
}

/* q * group / rows of a request is near 2^62, so that three of them are past 64 bits. */
static void tiles_past_64_bits_are_too_many(void **state)
{
    static const int32_t most[] = { 2147483647, 2147483647, 2147483647 };
    static const int32_t none[3];
    (void)state;
    for (int encoder = 0; encoder < 2; encoder++)
    {
        struct rfn_split_lists_args a = split_args();
        a.q_lens = vector(most, 3);
        a.prefill = vector(encoder ? most : none, 3);
        a.cached = vector(none, 3);
        a.kv.data = NULL;
        a.group = 2147483647;
        a.decoder_keys = 0;
        a.decoder_rows = 1;
        a.encoder_rows = 1;
        REFUSED(rfn_split_lists_host(&a), RFN_LIMIT,
                encoder ? "encoder: 12884901885 tiles are due, but there is room for 64"
                        : "decoder: 12884901885 tiles are due, but there is room for 64");
    }
}

static void wrong_lengths_are_refused(void **state)
{
    static const int32_t down[] = { 0, 1, 7, 5, 6, 7, 8, 9 };
    static int32_t bad[R];
    (void)state;
    struct rfn_split_lists_args a = split_args();
    a.q_lens = (struct rfn_tensor) { 0 };
    a.q_starts = vector(down, R + 1);
    REFUSED(rfn_split_lists_host(&a), RFN_INVALID, "q_starts goes down from 7 to 5",
            "request 2");
    struct rfn_prefix_lists_args b = prefix_args();
    b.q_lens = (struct rfn_tensor) { 0 };
    b.q_starts = vector(down, R + 1);
    REFUSED(rfn_prefix_lists_host(&b), RFN_INVALID, "q_starts goes down from 7 to 5",
            "request 2");
    memcpy(bad, cached, sizeof bad);
    bad[3] = -4;
    a = split_args();
    a.cached = vector(bad, R);
    REFUSED(rfn_split_lists_host(&a), RFN_INVALID, "request 3", "cached is -4");
    bad[3] = 2147483647;
    a = split_args();
    a.cached = vector(bad, R);
    REFUSED(rfn_split_lists_host(&a), RFN_INVALID, "request 3", "2147483647 cached",
            "3 query");
    bad[3] = 2147483000;
    b = prefix_args();
    b.cached = vector(bad, R);
    b.prefix_keys = 2147483647;
    REFUSED(rfn_prefix_lists_host(&b), RFN_LIMIT, "2147484775 keys", "2147483647");
    memcpy(bad, prefill, sizeof bad);
    bad[6] = -900;
    a = split_args();
    a.prefill = vector(bad, R);
    REFUSED(rfn_split_lists_host(&a), RFN_INVALID, "request 6", "prefill is -900");
}

static void wrong_arguments_are_refused(void **state)
{
    (void)state;
#define SPLIT(words, ...)                                                                \
    {                                                                                    \
        struct rfn_split_lists_args a = split_args();                                    \
        __VA_ARGS__;                                                                     \
        REFUSED(rfn_split_lists_host(&a), RFN_INVALID, words);                           \
    }
    SPLIT("one of them is needed", a.q_lens.data = NULL)
    SPLIT("one of them is needed", a.q_starts = vector(q, R))
    SPLIT("R = 6, but q_lens: R = 7", a.cached.shape[0] = 6)
    SPLIT("extent 7, but cached: R = 7 needs 8", a.q_lens.data = NULL;
          a.q_starts = vector(q, R))
    SPLIT("decoder_keys = 128 and decoder_rows = 16", a.decoder_rows = 16)
    SPLIT("decoder_keys = -1, but 0 .. 2147483647", a.decoder_keys = -1)
    SPLIT("decoder_rows = -16", a.decoder_keys = 0; a.decoder_rows = -16)
    SPLIT("group = 0, but 1", a.group = 0)
    SPLIT("encoder_rows = 0, but 1", a.encoder_rows = 0)
    SPLIT("kv_keys = 0, but 1", a.kv_keys = 0)
    SPLIT("kv_keys = 1048576, but 1 .. 1048575", a.decoder_keys = 0; a.sm_count = 132;
          a.kv_keys = 1048576)
    SPLIT("sm_count = 0, but 1", a.decoder_keys = 0)
    SPLIT("sm_count = -1, but 0", a.sm_count = -1)
    SPLIT("maxima: extent 5", a.maxima.shape[0] = 5)
    SPLIT("counts: not given", a.counts.data = NULL)
    SPLIT("kv: stride 4, but pairs lie 2 apart", a.kv.stride[0] = 4)
    SPLIT("kv: dtype i64, but i32", a.kv.dtype = RFN_I64)
    SPLIT("decoder: address", a.decoder.data = w.decoder + 1)
#define PREFIX(words, ...)                                                               \
    {                                                                                    \
        struct rfn_prefix_lists_args b = prefix_args();                                  \
        __VA_ARGS__;                                                                     \
        REFUSED(rfn_prefix_lists_host(&b), RFN_INVALID, words);                          \
    }
    PREFIX("one of them is needed", b.q_lens.data = NULL)
    PREFIX("key_starts: extent 7, but cached: R = 7 needs 8", b.key_starts.shape[0] = 7)
    PREFIX("prefix_keys = 0, but 1", b.prefix_keys = 0)
    PREFIX("keys_most = -1, but 0", b.keys_most = -1)
    PREFIX("tiles: rows 12 bytes apart", b.tiles.stride[0] = 3)
    assert_int_equal(rfn_split_lists_host(NULL), RFN_INVALID);
    assert_int_equal(rfn_prefix_lists_host(NULL), RFN_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(split_is_as_worked_out),
        cmocka_unit_test(query_starts_say_the_same_as_lengths),
        cmocka_unit_test(rows_can_be_divided_instead),
        cmocka_unit_test(requests_past_the_count_are_idle),
        cmocka_unit_test(idle_requests_count_in_no_maximum),
        cmocka_unit_test(every_tile_size_can_be_chosen),
        cmocka_unit_test(prefix_is_as_worked_out),
        cmocka_unit_test(short_lists_are_refused),
        cmocka_unit_test(tiles_past_64_bits_are_too_many),
        cmocka_unit_test(wrong_lengths_are_refused),
        cmocka_unit_test(wrong_arguments_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
