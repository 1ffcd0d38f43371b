/* Layers for more than FEW tokens: the prefill of a chunk of a prompt.

   Tokens are in groups of LANES: [group][feature][LANES]. A vector holds one feature of the tokens of a group, so
   norms, rounding, rotation and softmax need no sums across a vector, and four rounded features of a token are the four
   bytes that the dot product instructions take. */

#ifndef CODEGEN_MANY_H
#define CODEGEN_MANY_H

#include <math.h>
#include <string.h>

#include "decoder.h"
#include "few.h"

/* Sums of the rounded activations of one group of tokens for `Rounded.zeros`: of each group of columns. */
static void sum_groups(const int8_t *q, int columns, int group, int32_t *zeros) {
    for (int part = 0; part < columns / group; part++) {
        vi sum = all_i(0);
        for (int c = part * group; c < (part + 1) * group; c += 4)
            sum = dot4_nibbles(sum, all_i(0x01010101), load_i(q + (size_t)c * LANES));
        store_i(zeros + (size_t)part * LANES, sum * -8);
    }
}

/* Round the activations of one group, (columns, LANES), by the largest magnitude of each token, and pack four columns
   into a word. */
static void round_many(const float *x, int columns, vf greatest, Rounded to, int group, const Matrix *reader) {
    int depth = padded(columns);
    int8_t *q = to.q + (size_t)group * depth * LANES;
    greatest = vmax(greatest, all(1e-10f));
    vf by = 127.0f / greatest;
    vi sum = all_i(0);
    for (int c = 0; c < columns; c += 4) {
        vi word = all_i(0);
        for (int i = 0; i < 4 && c + i < columns; i++) {
            vi r = rounded(load(x + (size_t)(c + i) * LANES), by);
            sum += r;
            word |= (r & 255) << (8 * i);
        }
        store_i(q + (size_t)c * LANES, word);
    }
    for (int c = (columns + 3) / 4 * 4; c < depth; c += 4) store_i(q + (size_t)c * LANES, all_i(0));
    if (reader->group) sum_groups(q, columns, reader->group, to.zeros + (size_t)group * zeros_of(columns) * LANES);
    store(to.step + group * LANES, greatest / 127.0f);
    store_i(to.excess + group * LANES, sum * WEIGHT_OFFSET);
}

ALWAYS vf largest_many(const float *x, int columns) {
    vf greatest = all(0);
    for (int c = 0; c < columns; c++) greatest = vmax(greatest, vabs(load(x + (size_t)c * LANES)));
    return greatest;
}

/* Sums over features are taken in parts: summed one after the other, the error of a norm moves enough activations to
   another step to change 0.3 % of the next tokens. */
#define PARTS 8
ALWAYS vf sum_of_parts(const vf *part) {
    return ((part[0] + part[1]) + (part[2] + part[3])) + ((part[4] + part[5]) + (part[6] + part[7]));
}

static void norm_and_round_many(Decoder *d, Norm norm, const Matrix *reader, int group, int thread) {
    int width = d->model.width;
    float *y = d->scratch[thread];
    const float *x = d->x + (size_t)group * width * LANES;
    vf part[PARTS] = {0}, greatest = all(0), mean = all(0), by;
    if (norm.beta) {
        for (int c = 0; c < width; c++) part[c % PARTS] += load(x + (size_t)c * LANES);
        mean = sum_of_parts(part) / (float)width;
        for (int i = 0; i < PARTS; i++) part[i] = all(0);
    }
    for (int c = 0; c < width; c++) {
        vf v = load(x + (size_t)c * LANES) - mean;
        part[c % PARTS] += v * v;
    }
    vf variance = sum_of_parts(part) / (float)width + d->model.epsilon;
    for (int i = 0; i < LANES; i++) by[i] = 1.0f / sqrtf(variance[i]);
    for (int c = 0; c < width; c++) {
        vf v = (load(x + (size_t)c * LANES) - mean) * by * norm.gamma[c];
        if (norm.beta) v += norm.beta[c];
        greatest = vmax(greatest, vabs(v));
        store(y + (size_t)c * LANES, v);
    }
    round_many(y, width, greatest, d->many_in_q, group, reader);
}

typedef struct {
    float *y;      /* [group][stride][LANES] */
    int stride;
    const float *bias;
    int how;       /* SET, ADD or ACTIVATE */
} Target;

enum { ACTIVATE = 2 };

ALWAYS void finish_value(vf value, int row, int group, Target to) {
    if (to.bias) value += to.bias[row];
    float *at = to.y + ((size_t)group * to.stride + row) * LANES;
    if (to.how == ADD) value += load(at);
    if (to.how == ACTIVATE) value = gelu(value);
    store(at, value);
}

ALWAYS void finish(const Matrix *m, int row, int group, vi dot, Rounded in, int exact, Target to) {
    if (!exact) dot -= load_i(in.excess + group * LANES);
    finish_value(vfloat(dot) * load(in.step + group * LANES) * m->steps[row], row, group, to);
}

/* With `ahead`, prefetch the rows of the next tile: rows are short, and the hardware prefetcher begins anew with each. */
ALWAYS void tile(const Matrix *m, int row, int rows, int group, Rounded in, int groups, Target to, int ahead) {
    int depth = padded(m->columns);
    vi sum[TILE_ROWS][TILE_GROUPS];
    const int8_t *w[TILE_ROWS], *q = in.q + (size_t)group * depth * LANES;
    for (int i = 0; i < TILE_ROWS; i++) {
        w[i] = m->values + (size_t)(row + (i < rows ? i : rows - 1)) * m->columns;
        for (int j = 0; j < groups; j++) sum[i][j] = all_i(0);
    }
    for (int c = 0; c < depth; c += 4) {
        vi input[TILE_GROUPS];
        if (ahead && c % 64 == 0)
            for (int i = 0; i < TILE_ROWS; i++) __builtin_prefetch(w[i] + (size_t)TILE_ROWS * m->columns + c);
        for (int j = 0; j < groups; j++) input[j] = load_i(q + ((size_t)j * depth + c) * LANES);
        for (int i = 0; i < TILE_ROWS; i++) {
            int32_t word;
            memcpy(&word, w[i] + c, 4);
            vi weights = operand(all_i(word));
            for (int j = 0; j < groups; j++) sum[i][j] = dot4(sum[i][j], weights, input[j]);
        }
    }
    for (int i = 0; i < TILE_ROWS && i < rows; i++)
        for (int j = 0; j < groups; j++) finish(m, row + i, group + j, sum[i][j], in, 0, to);
}

ALWAYS void tile_of_groups(const Matrix *m, Unpacked unpacked, int row, int rows, int group, Rounded in, int groups,
                           Target to) {
    vf sum[TILE_ROWS][TILE_GROUPS];
    grouped_tile(m, unpacked, group, in, groups, sum);
    for (int i = 0; i < TILE_ROWS && i < rows; i++)
        for (int j = 0; j < groups; j++)
            finish_value(sum[i][j] * load(in.step + (group + j) * LANES), row + i, group + j, to);
}

#ifdef __AMX_INT8__
/* AMX tiles, for 32 rows of weights and 32 tokens. Rows of weights form a tile as they are stored, and so do four
   packed columns of activations. */
typedef struct {
    uint8_t palette, start;
    uint8_t reserved[14];
    uint16_t bytes[16];
    uint8_t rows[16];
} __attribute__((packed)) TileShapes;

static void begin_tiles(void) {
    TileShapes shapes = {.palette = 1};
    for (int i = 0; i < 8; i++) shapes.bytes[i] = 64, shapes.rows[i] = 16;
    _tile_loadconfig(&shapes);
}

static void end_tiles(void) { _tile_release(); }

static void product_tiles(const Matrix *m, int row, int group, int both_rows, int both_groups, Rounded in, Target to) {
    int depth = padded(m->columns);
    const int8_t *w = m->values + (size_t)row * m->columns, *v = w + (both_rows ? (size_t)16 * m->columns : 0);
    const int8_t *q = in.q + (size_t)group * depth * LANES, *p = q + (both_groups ? (size_t)depth * LANES : 0);
    int32_t sum[4][16][LANES] __attribute__((aligned(64)));
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int c = 0; c < depth; c += 64) {
        _tile_loadd(4, w + c, m->columns);
        _tile_loadd(6, q + (size_t)c * LANES, 64);
        _tile_dpbssd(0, 4, 6);
        if (both_groups) {
            _tile_loadd(7, p + (size_t)c * LANES, 64);
            _tile_dpbssd(1, 4, 7);
        }
        if (both_rows) {
            _tile_loadd(5, v + c, m->columns);
            _tile_dpbssd(2, 5, 6);
            if (both_groups) _tile_dpbssd(3, 5, 7);
        }
    }
    _tile_stored(0, sum[0], 64);
    _tile_stored(1, sum[1], 64);
    _tile_stored(2, sum[2], 64);
    _tile_stored(3, sum[3], 64);
    for (int i = 0; i < (both_rows ? 2 : 1); i++)
        for (int j = 0; j < (both_groups ? 2 : 1); j++)
            for (int r = 0; r < 16; r++)
                finish(m, row + 16 * i + r, group + j, load_i(sum[2 * i + j][r]), in, 1, to);
}
#else
static void begin_tiles(void) {}
static void end_tiles(void) {}
#endif

/* Compute `rows` of a product for the groups from `from` on, with 4-bit weights. */
static void product_of_groups(Decoder *d, const Matrix *m, Span rows, int from, Rounded in, Target to, int thread) {
    int groups = (d->count + LANES - 1) / LANES;
    for (int row = rows.begin; row < rows.end; row += TILE_ROWS) {
        int left = rows.end - row, g = from;
        Unpacked unpacked = unpack(m, row, left, d->scratch[thread]);
        size_t row_bytes = m->columns / 2;
        const int8_t *next = m->values + (row + TILE_ROWS) * row_bytes; /* prefetched, as in `tile` */
        for (size_t i = 0; i < TILE_ROWS * row_bytes; i += 64) __builtin_prefetch(next + i);
        for (; g + 4 <= groups; g += 4) tile_of_groups(m, unpacked, row, left, g, in, 4, to);
        if (g + 2 <= groups) tile_of_groups(m, unpacked, row, left, g, in, 2, to), g += 2;
        if (g < groups) tile_of_groups(m, unpacked, row, left, g, in, 1, to);
    }
}

/* Compute `rows` of a product for the groups from `from` on. */
static void product_many(Decoder *d, const Matrix *m, Span rows, int from, Rounded in, Target to, int thread) {
    if (m->group) {
        product_of_groups(d, m, rows, from, in, to, thread);
        return;
    }
    int groups = (d->count + LANES - 1) / LANES, row = rows.begin;
#ifdef __AMX_INT8__
    if (d->amx)
        for (; row + 16 <= rows.end; row += 32) {
            int both_rows = row + 32 <= rows.end;
            for (int g = from; g < groups; g += 2) product_tiles(m, row, g, both_rows, g + 2 <= groups, in, to);
            if (!both_rows) {
                row += 16;
                break;
            }
        }
    if (row > rows.end) row = rows.end;
#endif
    for (; row < rows.end; row += TILE_ROWS) {
        int left = rows.end - row, g = from;
        for (; g + 4 <= groups; g += 4) tile(m, row, left, g, in, 4, to, g == from);
        if (g + 2 <= groups) tile(m, row, left, g, in, 2, to, 0), g += 2;
        if (g < groups) tile(m, row, left, g, in, 1, to, 0);
    }
}

/* Rotate the pairs of one head of a group, (head width, LANES), whose first token is at `position`. */
static void rotate_many(const Model *m, float *x, int position) {
    int pairs = m->rotary / 2;
    for (int i = 0; i < pairs; i++) {
        size_t at = (size_t)i * m->positions + position;
        float *a = x + (size_t)(m->interleaved ? 2 * i : i) * LANES;
        float *b = a + (size_t)(m->interleaved ? 1 : pairs) * LANES;
        vf c = load(m->cosines + at), s = load(m->sines + at);
        vf first = load(a), second = load(b);
        store(a, first * c - second * s);
        store(b, second * c + first * s);
    }
}

/* Write the keys or values of one head of a group to the KV cache. */
static void store_kv_many(float *to, const float *x, int head_width, int tokens) {
    for (int t = 0; t < tokens; t++)
        for (int c = 0; c < head_width; c++) to[(size_t)t * head_width + c] = x[(size_t)c * LANES + t];
}

#define KEYS 8

/* Attention scores, [key][groups][LANES], of `groups` groups with KEYS keys. */
ALWAYS void score_keys(const float *query, size_t group_stride, const float *keys, int from, int end, int hw,
                       float scale, float *scores, int groups) {
    vf sum[KEYS][2];
    const float *key[KEYS];
    for (int i = 0; i < KEYS; i++) {
        key[i] = keys + (size_t)(from + i < end ? from + i : end - 1) * hw;
        for (int j = 0; j < groups; j++) sum[i][j] = all(0);
    }
    for (int c = 0; c < hw; c++) {
        vf q[2];
        for (int j = 0; j < groups; j++) q[j] = load(query + j * group_stride + (size_t)c * LANES);
        for (int i = 0; i < KEYS; i++)
            for (int j = 0; j < groups; j++) sum[i][j] = vfma(all(key[i][c]), q[j], sum[i][j]);
    }
    for (int i = 0; i < KEYS && from + i < end; i++)
        for (int j = 0; j < groups; j++) store(scores + ((size_t)(from + i) * groups + j) * LANES, sum[i][j] * scale);
}

/* Weighted sum of the values, times `by`, for `groups` groups. */
ALWAYS void add_weighted_values_many(const float *values, const float *weights, int end, int hw, float *attn,
                                     size_t group_stride, const vf *by, int groups) {
    for (int c = 0; c < hw; c += KEYS) {
        vf sum[KEYS][2];
        for (int i = 0; i < KEYS; i++)
            for (int j = 0; j < groups; j++) sum[i][j] = all(0);
        for (int k = 0; k < end; k++) {
            vf p[2];
            for (int j = 0; j < groups; j++) p[j] = load(weights + ((size_t)k * groups + j) * LANES);
            const float *value = values + (size_t)k * hw + c;
            for (int i = 0; i < KEYS; i++)
                for (int j = 0; j < groups; j++) sum[i][j] = vfma(all(value[i]), p[j], sum[i][j]);
        }
        for (int i = 0; i < KEYS; i++)
            for (int j = 0; j < groups; j++)
                store(attn + j * group_stride + (size_t)(c + i) * LANES, sum[i][j] * by[j]);
    }
}

ALWAYS void attend_groups(Decoder *d, int head, int group, const float *keys, const float *values, float *scores,
                          int groups) {
    int hw = d->model.head_width, first = d->offset + group * LANES, end = first + groups * LANES;
    if (end > d->offset + d->count) end = d->offset + d->count;
    const float *query = d->many_qkv + ((size_t)group * d->qkv_width + head * hw) * LANES;
    size_t stride = (size_t)d->qkv_width * LANES;
    float scale = 1.0f / sqrtf((float)hw);
    for (int k = 0; k < end; k += KEYS) score_keys(query, stride, keys, k, end, hw, scale, scores, groups);
    vi lane;
    for (int i = 0; i < LANES; i++) lane[i] = i;
    for (int k = first; k < end; k++)
        for (int j = 0; j < groups; j++) {
            float *at = scores + ((size_t)k * groups + j) * LANES;
            vi seen = lane >= k - first - j * LANES;
            store(at, (vf)(((vi)load(at) & seen) | ((vi)all(-INFINITY) & ~seen)));
        }
    vf greatest[2], by[2];
    for (int j = 0; j < groups; j++) {
        greatest[j] = all(-INFINITY);
        for (int k = 0; k < end; k++) greatest[j] = vmax(greatest[j], load(scores + ((size_t)k * groups + j) * LANES));
        vf total = all(0);
        for (int k = 0; k < end; k++) {
            float *at = scores + ((size_t)k * groups + j) * LANES;
            vf score = load(at), p = vexp(score - greatest[j]);
            p = (vf)((vi)p & (score > -INFINITY));
            total += p;
            store(at, p);
        }
        by[j] = 1.0f / total;
    }
    float *attn = d->many_attn + ((size_t)group * d->attn_width + head * hw) * LANES;
    add_weighted_values_many(values, scores, end, hw, attn, (size_t)d->attn_width * LANES, by, groups);
}

ALWAYS int groups_of(const Decoder *d) { return (d->count + LANES - 1) / LANES; }

/* Compute the rows of a head, counted as in `rows_of_head`, and write keys or values to the KV cache. */
static void project_many(Decoder *d, const Layer *l, int index, int head, int from, int thread) {
    const Model *m = &d->model;
    int hw = m->head_width, groups = groups_of(d);
    float *to = place_of_head(m, d->cache, d->capacity, index, head);
    if (to) from = 0;
    product_many(d, &l->qkv_proj, rows_of_head(d, head), from, d->many_in_q,
                 (Target){d->many_qkv, d->qkv_width, l->qkv_bias, SET}, thread);
    for (int g = from; g < groups; g++) {
        int place = d->offset + g * LANES, left = d->count - g * LANES;
        float *y = d->many_qkv + ((size_t)g * d->qkv_width + head * hw) * LANES;
        if (has_positions(m, head)) rotate_many(m, y, place);
        if (to) store_kv_many(to + (size_t)place * hw, y, hw, left < LANES ? left : LANES);
    }
}

static void attend_many(Decoder *d, int index, int head, int from, int thread) {
    const Model *m = &d->model;
    int of_keys = m->heads + head / group_of(m), groups = groups_of(d), g = from;
    const float *keys = place_of_head(m, d->cache, d->capacity, index, of_keys);
    const float *values = place_of_head(m, d->cache, d->capacity, index, of_keys + m->kv_heads);
    for (; g + 2 <= groups; g += 2) attend_groups(d, head, g, keys, values, d->scratch[thread], 2);
    if (g < groups) attend_groups(d, head, g, keys, values, d->scratch[thread], 1);
}

/* One head of a GPT-J block: its query, keys and values, the KV cache, and its attention. */
static void head_many(Decoder *d, const Layer *l, int index, int head, int from, int thread) {
    for (int which = 0; which < 3; which++) project_many(d, l, index, which * d->model.heads + head, from, thread);
    attend_many(d, index, head, from, thread);
}

static void mlp_many(Decoder *d, const Layer *l, Span rows, int from, int thread) {
    int hidden = d->model.mlp_width, groups = groups_of(d);
    if (!l->gate_proj.values) {
        Target activated = {d->many_mlp, hidden, l->up_bias, ACTIVATE};
        product_many(d, &l->up_proj, rows, from, d->many_in_q, activated, thread);
        return;
    }
    float *gates = d->many_mlp + d->groups * hidden * LANES;
    product_many(d, &l->up_proj, rows, from, d->many_in_q, (Target){d->many_mlp, hidden, l->up_bias, SET}, thread);
    product_many(d, &l->gate_proj, rows, from, d->many_in_q, (Target){gates, hidden, l->gate_bias, SET}, thread);
    for (int g = from; g < groups; g++)
        for (int r = rows.begin; r < rows.end; r++) {
            size_t at = ((size_t)g * hidden + r) * LANES;
            store(d->many_mlp + at, load(d->many_mlp + at) * silu(load(gates + at)));
        }
}

static void round_group(const float *x, int columns, Rounded to, int group, const Matrix *reader) {
    const float *own = x + (size_t)group * columns * LANES;
    round_many(own, columns, largest_many(own, columns), to, group, reader);
}

/* The first group whose output of this layer is needed. */
ALWAYS int tail_of(const Decoder *d, int index) { return index == d->model.layers - 1 ? d->tail : 0; }

static int many_units(const Decoder *d, int phase) { return units_of_layer(d, phase, groups_of(d), d->model.heads); }

static void many_unit(Decoder *d, int phase, int unit, int thread) {
    const Model *m = &d->model;
    int index = d->first_layer + phase / phases_of_layer(m), width = m->width, groups = groups_of(d);
    int from = tail_of(d, index);
    const Layer *l = m->layer + index;
    Target attended = {d->x, width, l->o_bias, ADD}, biased = {d->x, width, l->down_bias, ADD};
    phase %= phases_of_layer(m);
    if (m->llama) switch (phase) {
        case LLAMA_NORM: norm_and_round_many(d, l->attention_norm, &l->qkv_proj, unit, thread); return;
        case LLAMA_PROJECT: project_many(d, l, index, unit, from, thread); return;
        case LLAMA_ATTEND: attend_many(d, index, unit, from, thread); return;
        case LLAMA_ROUND:
            if (unit >= from) round_group(d->many_attn, d->attn_width, d->many_attn_q, unit, &l->o_proj);
            return;
        case LLAMA_OUT: product_many(d, &l->o_proj, block(d, width, unit), from, d->many_attn_q, attended, thread); return;
        case LLAMA_MLP_NORM:
            if (unit >= from) norm_and_round_many(d, l->mlp_norm, &l->up_proj, unit, thread);
            return;
        case LLAMA_MLP: mlp_many(d, l, block(d, m->mlp_width, unit), from, thread); return;
        case LLAMA_MLP_ROUND:
            if (unit >= from) round_group(d->many_mlp, m->mlp_width, d->many_mlp_q, unit, &l->down_proj);
            return;
        default: product_many(d, &l->down_proj, block(d, width, unit), from, d->many_mlp_q, biased, thread); return;
    }
    switch (phase) {
    case NORM: norm_and_round_many(d, l->attention_norm, &l->qkv_proj, unit, thread); return;
    case PROJECT:
        if (unit < m->heads) head_many(d, l, index, unit, from, thread);
        else mlp_many(d, l, block(d, m->mlp_width, unit - m->heads), from, thread);
        return;
    case ROUND:
        if (unit < groups) {
            if (unit >= from) round_group(d->many_mlp, m->mlp_width, d->many_mlp_q, unit, &l->down_proj);
        } else if (unit - groups >= from) {
            round_group(d->many_attn, width, d->many_attn_q, unit - groups, &l->o_proj);
        }
        return;
    default:
        product_many(d, &l->o_proj, block(d, width, unit), from, d->many_attn_q, attended, thread);
        product_many(d, &l->down_proj, block(d, width, unit), from, d->many_mlp_q, biased, thread);
    }
}

#endif
