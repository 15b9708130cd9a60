/* What both forms of I2 share: a mixed step of four requests, one of them idle. */
#ifndef TEST_INCIDENTS_I2_H
#define TEST_INCIDENTS_I2_H

#include "tests/capture/step.h"

#define I2_REQUESTS 4
#define I2_ROOM 16

struct i2_outputs
{
    int32_t maxima[RFN_SPLIT_MAXIMA], counts[RFN_SPLIT_COUNTS];
    _Alignas(8) int32_t decoder[2 * I2_ROOM];
    int32_t encoder[2 * I2_ROOM], kv[2 * I2_ROOM];
};

struct i2
{
    int32_t *lens;          /* device: q, prefill, cached */
    struct i2_outputs *out; /* device */
};

static int32_t i2_lens[3][I2_REQUESTS] = { { 1, 100, 0, 2 },
                                           { 0, 100, 900, 0 },
                                           { 130, 70, 5000, 62 } };

static inline struct rfn_tensor i2_vector(int32_t *data, int64_t n)
{
    return rfn_tensor_of(data, RFN_I32, n, 0, 0, 0);
}

static inline struct rfn_split_lists_args i2_args(int32_t *lens, struct i2_outputs *out)
{
    return (struct rfn_split_lists_args) {
        .q_lens = i2_vector(lens, I2_REQUESTS),
        .prefill = i2_vector(lens + I2_REQUESTS, I2_REQUESTS),
        .cached = i2_vector(lens + 2 * I2_REQUESTS, I2_REQUESTS),
        .maxima = i2_vector(out->maxima, RFN_SPLIT_MAXIMA),
        .counts = i2_vector(out->counts, RFN_SPLIT_COUNTS),
        .decoder = rfn_tensor_of(out->decoder, RFN_I32, I2_ROOM, 2, 0, 0),
        .encoder = rfn_tensor_of(out->encoder, RFN_I32, I2_ROOM, 2, 0, 0),
        .kv = rfn_tensor_of(out->kv, RFN_I32, I2_ROOM, 2, 0, 0),
        .group = 8,
        .decoder_keys = 64,
        .encoder_rows = 128,
        .kv_keys = 64,
    };
}

static inline void i2_open(struct step *s, struct i2 *w)
{
    void *out = NULL;
    w->lens = step_upload(s, i2_lens, sizeof i2_lens);
    WORKS(s, rfn_memory_alloc(s->device, RFN_MEMORY_DEVICE, sizeof *w->out, &out));
    w->out = out;
}

static inline void i2_close(struct step *s, struct i2 *w)
{
    WORKS(s, rfn_memory_free(s->device, w->lens));
    WORKS(s, rfn_memory_free(s->device, w->out));
}

/* 131 and 64 keys in tiles of 64; 800 rows in tiles of 128; 6 + 100 keys behind a page. */
static inline void i2_right(struct step *s, const char *form, const struct i2_outputs *o)
{
    static const int32_t maxima[] = { 100, 100, 130, 170, 130, 170 };
    static const int32_t counts[] = { 4, 7, 2, 64, 0 };
    static const int32_t decoder[] = { 0, 0, 0, 1, 0, 2, 3, 0, -1, -1 };
    static const int32_t kv[] = { 1, 0, 1, 1, -1, -1 };
    harness_check(&s->h, form,
                  !memcmp(o->maxima, maxima, sizeof maxima) &&
                      !memcmp(o->counts, counts, sizeof counts) &&
                      !memcmp(o->decoder, decoder, sizeof decoder) &&
                      !memcmp(o->kv, kv, sizeof kv) && o->encoder[12] == 1 &&
                      o->encoder[13] == 6 && o->encoder[14] == -1,
                  "other maxima, counts or tiles");
}

#endif
