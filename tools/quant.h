/*
 * Quantised rows in plain C: what the cache formats latent_fp8_656 and index_fp8_132 hold,
 * written a second time for verification, in bytes and in the numbers that they stand for.
 */
#ifndef TOOLS_QUANT_H
#define TOOLS_QUANT_H

#include <refrain/types.h>

#define QUANT_LATENT 512
#define QUANT_ROPE 64
#define QUANT_KEY (QUANT_LATENT + QUANT_ROPE)
#define QUANT_LATENT_BYTES 656
#define QUANT_INDEX 128

double quant_bf16(uint16_t bits);

/* e4m3 of a value: nearest, ties to even, saturated at +-448; and back. */
uint8_t quant_e4m3(float x);
double quant_e4m3_value(uint8_t code);

/* A cache row of latent and rope elements: its bytes, and the key that it stands for. */
void quant_latent(const uint16_t row[QUANT_KEY], enum rfn_scale scale,
                  uint8_t ret_bytes[QUANT_LATENT_BYTES], double ret_key[QUANT_KEY]);

/* 128 elements of an index key or query head: codes and values without the scale, which is
 * returned. */
float quant_index(const uint16_t row[QUANT_INDEX], enum rfn_scale scale,
                  uint8_t ret_codes[QUANT_INDEX], double ret_values[QUANT_INDEX]);

#endif
