/*
 * Double-precision references of the ops, written from the contract and not from the twins:
 * they share no line with kernels/ but the argument structs and the formats' byte maps,
 * which stand here a second time.
 */
#ifndef CHECKOP_REFERENCE_H
#define CHECKOP_REFERENCE_H

#include <refrain/ops.h>
#include <refrain/plan.h>

double ref_e4m3_value(uint8_t code);
uint8_t ref_e4m3_code(double x); /* nearest, ties to the even code, saturated, NaN 0x7f */
double ref_bf16_value(uint16_t code);
uint16_t ref_bf16_code(double x); /* nearest, ties to even */

int64_t ref_page_bytes(enum rfn_format format, int64_t page_tokens);
int ref_qk(enum rfn_format format);
int ref_latent(enum rfn_format format);

/* Address of a token's data row, and of its scales. */
unsigned char *ref_row(const struct rfn_pool *pool, int64_t slot);
unsigned char *ref_scales(const struct rfn_pool *pool, int64_t slot);

/* A key as doubles: latent, then rope. */
void ref_key(const struct rfn_pool *pool, int64_t slot, double *ret);

/* Writes one row: how bytes of every pool of the tests come to be. Returns NaN groups;
 * `ret_group` is the first, where there is one. */
int ref_pack_row(const struct rfn_pool *pool, int64_t slot, const uint16_t *kv,
                 const uint16_t *rope, enum rfn_scale scale, enum rfn_floor floor_on,
                 float floor, int *ret_group);

/* The ops. Outputs go where the views point; `fault` gets what check mode has to see. */
void ref_kv_pack(const struct rfn_kv_pack_args *a, struct rfn_fault *fault);
void ref_index_topk(const struct rfn_index_topk_args *a, struct rfn_fault *fault);

/* The planar index page: where a key and its scale are. */
unsigned char *ref_index_key(const struct rfn_pool *pool, int64_t slot);
unsigned char *ref_index_scale(const struct rfn_pool *pool, int64_t slot);

/* One group of 128 with the indexer's default floor; returns whether it has a NaN. */
int ref_index_quantise(const uint16_t *x, enum rfn_scale kind, enum rfn_floor floor_on,
                       float floor, uint8_t *ret_q, float *ret_scale);
float ref_index_share(int64_t H); /* D^-0.5 * H^-0.5 */
void ref_index_pack(const struct rfn_index_pack_args *a, struct rfn_fault *fault);
void ref_index_query_pack(const struct rfn_index_query_pack_args *a,
                          struct rfn_fault *fault);

/* Scores [T][S] as doubles, columns below the length only; `ret_size` is the sum of the
 * magnitudes that went into each. */
void ref_index_logits(const struct rfn_index_logits_args *a, double *ret,
                      double *ret_size, struct rfn_fault *fault);

/* O [T,H,V] and LSE [T,H] as doubles. full[i], where not NULL, holds source i's keys as
 * [slot][QK] floats and is used in place of the pool's bytes. */
void ref_sparse_mla(const struct rfn_sparse_mla_args *a, float *const *full,
                    double *ret_o, double *ret_lse, struct rfn_fault *fault);

/* O [T,H,V] and LSE [T,H] as doubles. */
void ref_mla_combine(const struct rfn_mla_combine_args *a, double *ret_o,
                     double *ret_lse);
void ref_step_update(const struct rfn_step_update_args *a, struct rfn_fault *fault);
void ref_synth_fill(const struct rfn_synth_fill_args *a);
void ref_index_gather(const struct rfn_index_gather_args *a, struct rfn_fault *fault);

/* Keys a decoder tile, as given or chosen; the tiles that are due of each list that is given
 * (its data is not looked at), whatever its room. */
int64_t ref_split_keys(const struct rfn_split_lists_args *a);
void ref_split_due(const struct rfn_split_lists_args *a, int64_t due[3]);
void ref_split_lists(const struct rfn_split_lists_args *a, struct rfn_fault *fault);
int64_t ref_prefix_due(const struct rfn_prefix_lists_args *a);
void ref_prefix_lists(const struct rfn_prefix_lists_args *a, struct rfn_fault *fault);

#endif
