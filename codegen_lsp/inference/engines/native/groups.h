/* Products of 4-bit weights in groups of columns (`Matrix` in model.h) with a few tokens or with many.

   The weights are dot4's unsigned operand as they are, 0 to 15. The 8 that each is too large by is taken from the sum
   before: it begins at -8 times the sum of the rounded activations, `Rounded.zeros`.

   For few tokens, a vector of weights is a block of 8 LANES columns: those of its low four bits, then those of its high
   ones. Activations are stored in this order. Each lane of a sum belongs to one group. It is at most 8,128, and a
   float16 has 11 bits, so its product with the scale is exact, and the result is the same with and without fused
   multiplication. For many tokens, activations are stored as for int8 weights. */

#ifndef CODEGEN_GROUPS_H
#define CODEGEN_GROUPS_H

#include "decoder.h"

#define BLOCK (8 * LANES) /* columns */
#define NIBBLES 0x0f0f0f0f

/* Where the activation of a column is stored for few tokens. */
ALWAYS int place_in_block(int column, int group) {
    int within = column % group, half = group / 2, byte = column / group * half + within % half;
    return byte / (4 * LANES) * BLOCK + (within < half ? 0 : 4 * LANES) + byte % (4 * LANES);
}

/* For `group_scales`: the group of a block that each lane belongs to. */
ALWAYS vi groups_of_lanes(int group) {
    vi groups;
    for (int i = 0; i < LANES; i++) groups[i] = i * 8 / group;
    return groups;
}

/* Parts of `zeros` for one token. */
ALWAYS int zeros_of(int columns) { return padded_blocks(columns) / 8; }

/* Sums of the activations of a token for `zeros`: of each lane of each block. */
ALWAYS void sum_blocks(const int8_t *q, int columns, int32_t *zeros) {
    for (int c = 0; c < columns; c += BLOCK) {
        vi ones = all_i(0x01010101), sum = dot4_nibbles(all_i(0), ones, load_i(q + c));
        store_i(zeros + c / 8, dot4_nibbles(sum, ones, load_i(q + c + 4 * LANES)) * -8);
    }
}

/* LANES dot products, as `dots` in few.h, of rows from `row` on with the tokens from `from` on. */
ALWAYS vf grouped_dots(const Matrix *m, int row, int rows, Rounded in, int from, int tokens) {
    vf sum[LANES];
    const int row_count = LANES / tokens;
    int bytes = m->columns / 2, depth = padded_blocks(m->columns), blocks = (m->columns + BLOCK - 1) / BLOCK;
    int groups = BLOCK / m->group, parts = zeros_of(m->columns);
    vi of_lane = groups_of_lanes(m->group);
    const int8_t *q = in.q + (size_t)from * depth, *w[LANES];
    const int32_t *zeros = in.zeros + (size_t)from * parts;
    const float16 *scales[LANES];
    for (int i = 0; i < LANES; i++) sum[i] = all(0);
    for (int i = 0; i < row_count; i++) {
        size_t at = row + (i < rows ? i : rows - 1);
        w[i] = m->values + at * bytes, scales[i] = m->scales + at * m->scale_stride;
    }
    if (tokens < 4) {
        for (int i = 0; i < row_count; i++)
            for (int b = 0; b < blocks; b++) {
                vi weights = load_i(w[i] + b * 4 * LANES);
                vi low = weights & NIBBLES, high = (weights >> 4) & NIBBLES;
                vf scale = group_scales(scales[i] + b * groups, of_lane);
                for (int t = 0; t < tokens; t++) {
                    const int8_t *input = q + (size_t)t * depth + b * BLOCK;
                    vi dot = dot4_nibbles(load_i(zeros + (size_t)t * parts + b * LANES), low, load_i(input));
                    dot = dot4_nibbles(dot, high, load_i(input + 4 * LANES));
                    sum[i * tokens + t] = vfma_exact(vfloat(dot), scale, sum[i * tokens + t]);
                }
            }
    } else {
        for (int b = 0; b < blocks; b++) {
            vi low[LANES], high[LANES];
            vf scale[LANES];
            for (int i = 0; i < row_count; i++) {
                vi weights = load_i(w[i] + b * 4 * LANES);
                __builtin_prefetch(w[i] + b * 4 * LANES + PREFETCH_WEIGHTS);
                low[i] = weights & NIBBLES, high[i] = (weights >> 4) & NIBBLES;
                scale[i] = group_scales(scales[i] + b * groups, of_lane);
            }
            for (int t = 0; t < tokens; t++) {
                const int8_t *input = q + (size_t)t * depth + b * BLOCK;
                vi zero = load_i(zeros + (size_t)t * parts + b * LANES);
                vi first = load_i(input), second = load_i(input + 4 * LANES);
                for (int i = 0; i < row_count; i++) {
                    vi dot = dot4_nibbles(dot4_nibbles(zero, low[i], first), high[i], second);
                    sum[i * tokens + t] = vfma_exact(vfloat(dot), scale[i], sum[i * tokens + t]);
                }
            }
        }
    }
    return sums(sum);
}

/* Products of TILE_ROWS rows with `tiles` groups of tokens, in the layout of many.h, before they are multiplied by the
   steps of the activations. */
ALWAYS void grouped_tile(const Matrix *m, int row, int rows, int tokens, Rounded in, int tiles,
                         vf sum[TILE_ROWS][TILE_GROUPS]) {
    int depth = padded(m->columns), half_group = m->group / 2, parts = m->columns / m->group, bytes = m->columns / 2;
    const int8_t *w[TILE_ROWS], *q = in.q + (size_t)tokens * depth * LANES;
    const int32_t *zeros = in.zeros + (size_t)tokens * zeros_of(m->columns) * LANES;
    const float16 *scales[TILE_ROWS];
    for (int i = 0; i < TILE_ROWS; i++) {
        size_t at = row + (i < rows ? i : rows - 1);
        w[i] = m->values + at * bytes, scales[i] = m->scales + at * m->scale_stride;
        for (int j = 0; j < tiles; j++) sum[i][j] = all(0);
    }
    for (int part = 0; part < parts; part++) {
        vi dot[TILE_ROWS][TILE_GROUPS];
        for (int j = 0; j < tiles; j++) {
            vi zero = load_i(zeros + ((size_t)j * zeros_of(m->columns) + part) * LANES);
            for (int i = 0; i < TILE_ROWS; i++) dot[i][j] = zero;
        }
        for (int shift = 0; shift < 8; shift += 4)
            for (int c = 0; c < half_group; c += 4) {
                int column = part * m->group + (shift ? half_group : 0) + c;
                vi input[TILE_GROUPS];
                for (int j = 0; j < tiles; j++) input[j] = load_i(q + ((size_t)j * depth + column) * LANES);
                for (int i = 0; i < TILE_ROWS; i++) {
                    int32_t word;
                    memcpy(&word, w[i] + part * half_group + c, 4);
                    vi weights = (all_i(word) >> shift) & NIBBLES;
                    for (int j = 0; j < tiles; j++) dot[i][j] = dot4_nibbles(dot[i][j], weights, input[j]);
                }
            }
        for (int i = 0; i < TILE_ROWS; i++) {
            vf scale = all(half(scales[i][part]));
            for (int j = 0; j < tiles; j++) sum[i][j] = vfma(vfloat(dot[i][j]), scale, sum[i][j]);
        }
    }
}

#endif
