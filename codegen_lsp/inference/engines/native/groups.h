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
                __builtin_prefetch(w[i] + b * 4 * LANES + PREFETCH_WEIGHTS);
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

/* Rows of a matrix as bytes and their scales as floats, so that they are unpacked once for all tokens. */
typedef struct {
    int8_t *weights; /* (TILE_ROWS, padded_blocks(columns)): blocks of low bits and of high ones, as in `place_in_block` */
    float *scales;   /* (groups of a row, TILE_ROWS) */
} Unpacked;

/* Floats of memory that they take. */
ALWAYS size_t unpacked_floats(int columns) {
    return (size_t)TILE_ROWS * (padded_blocks(columns) / sizeof(float) + columns / 32);
}

/* Unpack TILE_ROWS rows, of which `rows` are there, into memory of that size. */
ALWAYS Unpacked unpack(const Matrix *m, int row, int rows, float *memory) {
    int depth = padded_blocks(m->columns), parts = m->columns / m->group;
    Unpacked to = {(int8_t *)memory, memory + (size_t)TILE_ROWS * depth / sizeof(float)};
    for (int i = 0; i < TILE_ROWS; i++) {
        size_t at = row + (i < rows ? i : rows - 1);
        const int8_t *from = m->values + at * (m->columns / 2);
        for (int c = 0; c < m->columns; c += BLOCK) {
            vi weights = load_i(from + c / 2);
            int8_t *block = to.weights + (size_t)i * depth + c;
            store_i(block, weights & NIBBLES);
            store_i(block + 4 * LANES, (weights >> 4) & NIBBLES);
        }
        const float16 *scales = m->scales + at * m->scale_stride;
        for (int part = 0; part < parts; part++) to.scales[(size_t)part * TILE_ROWS + i] = half(scales[part]);
    }
    return to;
}

/* Products of TILE_ROWS rows with `tiles` groups of tokens, in the layout of many.h, before they are multiplied by the
   steps of the activations. */
ALWAYS void grouped_tile(const Matrix *m, Unpacked rows, int tokens, Rounded in, int tiles,
                         vf sum[TILE_ROWS][TILE_GROUPS]) {
    int depth = padded(m->columns), row_bytes = padded_blocks(m->columns), chunk = m->group / 2;
    const int8_t *q = in.q + (size_t)tokens * depth * LANES;
    const int32_t *zeros = in.zeros + (size_t)tokens * zeros_of(m->columns) * LANES;
    for (int i = 0; i < TILE_ROWS; i++)
        for (int j = 0; j < tiles; j++) sum[i][j] = all(0);
    for (int part = 0; part < m->columns / m->group; part++) {
        vi dot[TILE_ROWS][TILE_GROUPS];
        for (int j = 0; j < tiles; j++) {
            vi zero = load_i(zeros + ((size_t)j * zeros_of(m->columns) + part) * LANES);
            for (int i = 0; i < TILE_ROWS; i++) dot[i][j] = zero;
        }
        for (int column = part * m->group; column < (part + 1) * m->group; column += chunk) {
            const int8_t *w = rows.weights + place_in_block(column, m->group);
            for (int c = 0; c < chunk; c += 4) {
                vi input[TILE_GROUPS];
                for (int j = 0; j < tiles; j++) input[j] = load_i(q + ((size_t)j * depth + column + c) * LANES);
                for (int i = 0; i < TILE_ROWS; i++) {
                    int32_t word;
                    memcpy(&word, w + (size_t)i * row_bytes + c, 4);
                    vi weights = all_i(word);
                    for (int j = 0; j < tiles; j++) dot[i][j] = dot4_nibbles(dot[i][j], weights, input[j]);
                }
            }
        }
        for (int i = 0; i < TILE_ROWS; i++) {
            vf scale = all(rows.scales[(size_t)part * TILE_ROWS + i]);
            for (int j = 0; j < tiles; j++) sum[i][j] = vfma(vfloat(dot[i][j]), scale, sum[i][j]);
        }
    }
}

#endif
