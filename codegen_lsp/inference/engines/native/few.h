/* Layers and logits for up to FEW tokens: decode steps, drafts, candidates, of one sequence or of several (segments).

   Each token is a row of features, and a vector holds features. The speed is bound by reading the weights from memory;
   each is read once for all tokens. Only attention tells the segments apart. */

#ifndef CODEGEN_FEW_H
#define CODEGEN_FEW_H

#include <math.h>
#include <string.h>

#include "decoder.h"

/* Weights are prefetched this many bytes ahead: the hardware prefetcher stops at the end of each page, and is late. */
#define PREFETCH_WEIGHTS 8192

/* Whether int8 weights are, too, where few tokens are multiplied with each: it takes a half longer where dot4 is not a
   single instruction, and less time where it is (docs/lab.md). */
#if defined(__AVX512F__) || defined(__AVXVNNI__)
#define PREFETCH_INT8 1
#else
#define PREFETCH_INT8 0
#endif

#include "groups.h"

/* Round the activations of one token for matrices in groups of `group` columns, or of int8 weights if it is 0. */
static void round_few(const float *x, int columns, Rounded to, int token, int group) {
    int depth = group ? padded_blocks(columns) : padded(columns);
    int8_t *q = to.q + (size_t)token * depth;
    vf greatest = all(0);
    for (int c = 0; c < columns; c += LANES) greatest = vmax(greatest, vabs(load(x + c)));
    float largest = max_lanes(greatest);
    if (largest < 1e-10f) largest = 1e-10f;
    float by = 127.0f / largest;
    to.step[token] = largest / 127.0f;
    if (depth > columns) memset(q + (depth - 128 > 0 ? depth - 128 : 0), 0, depth < 128 ? depth : 128);
    if (group) {
        for (int c = 0; c < columns; c += LANES)
            store_bytes(q + place_in_block(c, group), rounded(load(x + c), all(by)));
        sum_blocks(q, columns, to.zeros + (size_t)token * zeros_of(columns));
        return;
    }
    vi sum = all_i(0);
    for (int c = 0; c < columns; c += LANES) {
        vi r = rounded(load(x + c), all(by));
        sum += r;
        store_bytes(q + c, r);
    }
    to.excess[token] = WEIGHT_OFFSET * sum_lanes_i(sum);
}

/* LayerNorm, or RMSNorm, of one token. */
static void norm_few(const Model *m, Norm norm, const float *x, float *y) {
    int width = m->width;
    vf sum = all(0), squares = all(0);
    float mean = 0;
    if (norm.beta) {
        for (int c = 0; c < width; c += LANES) sum += load(x + c);
        mean = sum_lanes(sum) / width;
    }
    for (int c = 0; c < width; c += LANES) {
        vf v = load(x + c) - mean;
        squares += v * v;
    }
    float by = 1.0f / sqrtf(sum_lanes(squares) / width + m->epsilon);
    for (int c = 0; c < width; c += LANES) {
        vf v = (load(x + c) - mean) * by * load(norm.gamma + c);
        store(y + c, norm.beta ? v + load(norm.beta + c) : v);
    }
}

/* LANES dot products, of LANES / tokens rows with `tokens` inputs: lane t + tokens i is that of row i and token t. */
ALWAYS vi dots(const int8_t *w, int columns, int rows, const int8_t *q, int depth, int tokens) {
    vi sum[LANES];
    const int row_count = LANES / tokens;
    for (int i = 0; i < LANES; i++) sum[i] = all_i(0);
    const int8_t *row[LANES];
    for (int i = 0; i < row_count; i++) row[i] = w + (size_t)(i < rows ? i : rows - 1) * columns;
    if (tokens < 4) { /* one row after the other, as the memory prefetcher likes it */
        for (int i = 0; i < row_count; i++)
            for (int c = 0; c < depth; c += 4 * LANES) {
                vi weights = operand(load_i(row[i] + c));
                if (PREFETCH_INT8) __builtin_prefetch(row[i] + c + PREFETCH_WEIGHTS);
                for (int t = 0; t < tokens; t++)
                    sum[i * tokens + t] = dot4(sum[i * tokens + t], weights, load_i(q + (size_t)t * depth + c));
            }
    } else { /* all rows together, so that the inputs are loaded once for them */
        for (int c = 0; c < depth; c += 4 * LANES) {
            vi weights[LANES];
            for (int i = 0; i < row_count; i++) {
                __builtin_prefetch(row[i] + c + PREFETCH_WEIGHTS);
                weights[i] = operand(load_i(row[i] + c));
            }
            for (int t = 0; t < tokens; t++) {
                vi input = load_i(q + (size_t)t * depth + c);
                for (int i = 0; i < row_count; i++)
                    sum[i * tokens + t] = dot4(sum[i * tokens + t], weights[i], input);
            }
        }
    }
    return sums_i(sum);
}

enum { SET, ADD };

/* The product of `rows` with `count` tokens from token `from` on, in vectors for `tokens` of them. */
ALWAYS void product_few_of(const Matrix *m, Span rows, Rounded in, int from, int count, int tokens, const float *bias,
                           float *y, int stride, int how, int grouped) {
    int depth = padded(m->columns);
    const int at_once = LANES / tokens;
    for (int r = rows.begin; r < rows.end; r += at_once) {
        int left = rows.end - r;
        union {
            vi v;
            vf f;
            int32_t s[LANES];
            float sum[LANES];
        } dot;
        const int8_t *w = m->values + (size_t)r * m->columns, *q = in.q + (size_t)from * depth;
        if (grouped) dot.f = grouped_dots(m, r, left, in, from, tokens);
        else dot.v = dots(w, m->columns, left, q, depth, tokens);
        for (int i = 0; i < at_once && i < left; i++)
            for (int t = 0; t < count; t++) {
                float step = in.step[from + t];
                float value = grouped ? dot.sum[i * tokens + t] * step
                                      : (float)(dot.s[i * tokens + t] - in.excess[from + t]) * step * m->steps[r + i];
                if (bias) value += bias[r + i];
                float *to = y + (size_t)(from + t) * stride + r + i;
                *to = how == ADD ? *to + value : value;
            }
    }
}

/* Rows whose weights stay in the first-level cache while they are multiplied with tokens beyond the first eight. */
#define CACHED_ROWS 8

ALWAYS void product_few_as(const Matrix *m, Span rows, Rounded in, int count, const float *bias, float *y, int stride,
                           int how, int grouped) {
    if (count > 8) {
        for (int r = rows.begin; r < rows.end; r += CACHED_ROWS) {
            Span some = {r, r + CACHED_ROWS < rows.end ? r + CACHED_ROWS : rows.end};
            int left = count - 8;
            product_few_of(m, some, in, 0, 8, 8, bias, y, stride, how, grouped);
            if (left == 1) product_few_of(m, some, in, 8, 1, 1, bias, y, stride, how, grouped);
            else if (left == 2) product_few_of(m, some, in, 8, 2, 2, bias, y, stride, how, grouped);
            else if (left <= 4) product_few_of(m, some, in, 8, left, 4, bias, y, stride, how, grouped);
            else product_few_of(m, some, in, 8, left, 8, bias, y, stride, how, grouped);
        }
    } else if (count == 1) product_few_of(m, rows, in, 0, count, 1, bias, y, stride, how, grouped);
    else if (count == 2) product_few_of(m, rows, in, 0, count, 2, bias, y, stride, how, grouped);
    else if (count <= 4) product_few_of(m, rows, in, 0, count, 4, bias, y, stride, how, grouped);
    else product_few_of(m, rows, in, 0, count, 8, bias, y, stride, how, grouped);
}

/* Set columns `rows` of y, (count, stride), to the product + bias, or add it to them. */
static void product_few(const Matrix *m, Span rows, Rounded in, int count, const float *bias, float *y, int stride,
                        int how) {
    if (m->group) product_few_as(m, rows, in, count, bias, y, stride, how, 1);
    else product_few_as(m, rows, in, count, bias, y, stride, how, 0);
}

/* Rotate the pairs of one head, (head width), by the cosines and sines of a position. */
ALWAYS void rotate_few(const Model *m, float *x, const float *cosines, const float *sines) {
    int pairs = m->rotary / 2;
    for (int i = 0; i < pairs; i++) {
        float *a = x + (m->interleaved ? 2 * i : i), *b = m->interleaved ? a + 1 : a + pairs;
        float first = *a, second = *b;
        *a = first * cosines[i] - second * sines[i];
        *b = second * cosines[i] + first * sines[i];
    }
}

/* Keys and values are prefetched this many keys ahead: the hardware prefetcher stops at the end of each page. The heads
   that share them prefetch a part each, since a processor has only so many reads under way. */
#define PREFETCH_KEYS 64

/* The part of `keys` keys that a head, or a pair of heads, prefetches: number `head` of `heads`. */
ALWAYS Span share_of(int keys, int head, int heads) { return (Span){keys * head / heads, keys * (head + 1) / heads}; }

/* Set each of LANES sums to the lane by lane products of the query with one key, from key `begin` on; key `end` - 1 stands
   for those behind it. With a constant head width the query stays in registers. */
ALWAYS void multiply_keys(vf *sum, const float *query, const float *keys, int begin, int end, int head_width) {
    for (int i = 0; i < LANES; i++) {
        const float *key = keys + (size_t)(begin + i < end ? begin + i : end - 1) * head_width;
        vf products = load(query) * load(key);
        for (int c = LANES; c < head_width; c += LANES) products = vfma(load(query + c), load(key + c), products);
        sum[i] = products;
    }
}

/* Add the weighted values of keys begin .. end - 1 to LANES * chunks entries of `attn`, for one head or two, whose
   entries and weights are this far apart. Two at once have enough sums that none waits for its last addition. */
ALWAYS void add_weighted_values(float *attn, int apart, const float *values, const float *weights, int weights_apart,
                                int begin, int end, int head_width, int chunks, int heads, Span ahead) {
    vf sum[2][4];
    for (int h = 0; h < heads; h++)
        for (int j = 0; j < chunks; j++) sum[h][j] = load(attn + h * apart + j * LANES);
    for (int k = begin; k < end; k++) {
        const float *row = values + (size_t)k * head_width;
        if (k - begin >= ahead.begin && k - begin < ahead.end)
            for (int j = 0; j < chunks; j++)
                __builtin_prefetch(row + (size_t)PREFETCH_KEYS * head_width + j * LANES);
        for (int j = 0; j < chunks; j++) {
            vf value = load(row + j * LANES);
            for (int h = 0; h < heads; h++)
                sum[h][j] = vfma(all(weights[(size_t)h * weights_apart + k]), value, sum[h][j]);
        }
    }
    for (int h = 0; h < heads; h++)
        for (int j = 0; j < chunks; j++) store(attn + h * apart + j * LANES, sum[h][j]);
}

/* The same for all entries of one head or two. */
ALWAYS void add_weighted_rows(float *attn, const float *values, const float *weights, int weights_apart, int begin,
                              int end, int head_width, int heads, Span ahead) {
    int c = 0;
    for (; c + 4 * LANES <= head_width; c += 4 * LANES)
        add_weighted_values(attn + c, head_width, values + c, weights, weights_apart, begin, end, head_width, 4, heads,
                            ahead);
    for (; c < head_width; c += LANES)
        add_weighted_values(attn + c, head_width, values + c, weights, weights_apart, begin, end, head_width, 1, heads,
                            ahead);
}

/* Attention of some heads with the same keys and values, in a segment whose first token is row `from`. */
static void attend_few(Decoder *d, const Segment *s, int from, int index, int first, int heads, float *scores) {
    const Model *m = &d->model;
    int hw = m->head_width, count = s->count, end = s->offset + count;
    int score_stride = (end + LANES - 1) / LANES * LANES, of_keys = m->heads + first / group_of(m);
    const float *keys = place_of_head(m, s->cache, s->capacity, index, of_keys);
    const float *values = place_of_head(m, s->cache, s->capacity, index, of_keys + m->kv_heads);
    float scale = 1.0f / sqrtf((float)hw);
    for (int k = 0; k < end; k += LANES)
        for (int t = 0; t < count; t++)
            for (int h = 0; h < heads; h++) {
                const float *query = d->few_qkv + (size_t)(from + t) * d->qkv_width + (first + h) * hw;
                vf sum[LANES];
                Span ahead = share_of(t ? 0 : LANES, h, heads);
                for (int i = ahead.begin; i < ahead.end; i++)
                    for (int c = 0; c < hw; c += 16)
                        __builtin_prefetch(keys + (size_t)(k + i + PREFETCH_KEYS) * hw + c);
                if (hw == 64) multiply_keys(sum, query, keys, k, end, 64);
                else if (hw == 128) multiply_keys(sum, query, keys, k, end, 128);
                else multiply_keys(sum, query, keys, k, end, hw);
                store(scores + ((size_t)t * heads + h) * score_stride + k, sums(sum) * scale);
            }
    for (int t = 0; t < count; t++)
        for (int h = 0; h < heads; h++) {
            float *row = scores + ((size_t)t * heads + h) * score_stride;
            int seen = end;
            if (s->attn_mask) {
                for (int k = 0; k < end; k++) row[k] += s->attn_mask[(size_t)t * end + k];
            } else {
                seen = s->offset + t + 1;
            }
            for (int k = seen; k < (end + LANES - 1) / LANES * LANES; k++) row[k] = -INFINITY;
            vf greatest = all(-INFINITY);
            for (int k = 0; k < end; k += LANES) greatest = vmax(greatest, load(row + k));
            float largest = max_lanes(greatest);
            vf total = all(0);
            for (int k = 0; k < end; k += LANES) {
                vf score = load(row + k);
                vf p = vexp(score - largest);
                p = (vf)((vi)p & (score > -INFINITY)); /* vexp never returns exactly 0 */
                total += p;
                store(row + k, p);
            }
            float by = 1.0f / sum_lanes(total);
            for (int k = 0; k < end; k += LANES) store(row + k, load(row + k) * by);
        }
    float *attn = d->few_attn + (size_t)from * d->attn_width + first * hw;
    for (int t = 0; t < count; t++) memset(attn + (size_t)t * d->attn_width, 0, sizeof(float) * heads * hw);
    for (int begin = 0; begin < end; begin += PREFETCH_KEYS) {
        int stop = begin + PREFETCH_KEYS < end ? begin + PREFETCH_KEYS : end;
        for (int t = 0; t < count; t++)
            for (int h = 0; h < heads; h += 2) {
                float *to = attn + (size_t)t * d->attn_width + h * hw;
                const float *row = scores + ((size_t)t * heads + h) * score_stride;
                Span ahead = share_of(t ? 0 : PREFETCH_KEYS, h / 2, (heads + 1) / 2);
                if (h + 1 < heads) add_weighted_rows(to, values, row, score_stride, begin, stop, hw, 2, ahead);
                else add_weighted_rows(to, values, row, score_stride, begin, stop, hw, 1, ahead);
            }
    }
}

/* Attention of some heads with the same keys and values, in all segments. */
static void attend_segments(Decoder *d, int index, int first, int heads, int thread) {
    for (int i = 0, from = 0; i < d->segment_count; from += d->segments[i++].count)
        attend_few(d, d->segments + i, from, index, first, heads, d->scratch[thread]);
}

/* The input of `reader`, for one token. */
static void norm_and_round_few(Decoder *d, Norm norm, const Matrix *reader, const float *x, int token, int thread) {
    norm_few(&d->model, norm, x + (size_t)token * d->model.width, d->scratch[thread]);
    round_few(d->scratch[thread], d->model.width, d->few_in_q, token, reader->group);
}

static void round_attn_few(Decoder *d, const Layer *l, int token) {
    int width = d->attn_width;
    round_few(d->few_attn + (size_t)token * width, width, d->few_attn_q, token, l->o_proj.group);
}

static void round_mlp_few(Decoder *d, const Layer *l, int token) {
    int width = d->model.mlp_width;
    round_few(d->few_mlp + (size_t)token * width, width, d->few_mlp_q, token, l->down_proj.group);
}

/* Rotate the queries or keys of some heads, counted as in `rows_of_head`, and write keys and values to the KV cache. */
static void place_few(Decoder *d, const Segment *s, int from, int index, const int *heads, int number) {
    const Model *m = &d->model;
    int hw = m->head_width, pairs = m->rotary / 2;
    for (int t = 0; t < s->count; t++) {
        float cosines[MAX_ROTARY / 2], sines[MAX_ROTARY / 2];
        if (has_positions(m, heads[0]))
            for (int i = 0; i < pairs; i++) {
                size_t at = (size_t)i * m->positions + (s->positions ? s->positions[t] : s->offset + t);
                cosines[i] = m->cosines[at], sines[i] = m->sines[at];
            }
        for (int i = 0; i < number; i++) {
            float *y = d->few_qkv + (size_t)(from + t) * d->qkv_width + heads[i] * hw;
            float *to = place_of_head(m, s->cache, s->capacity, index, heads[i]);
            if (has_positions(m, heads[i])) rotate_few(m, y, cosines, sines);
            if (to) memcpy(to + (size_t)(s->offset + t) * hw, y, sizeof(float) * hw);
        }
    }
}

/* Compute the rows of some heads, counted as in `rows_of_head`; those with positions come first. */
static void project_few(Decoder *d, const Layer *l, int index, const int *heads, int number) {
    for (int i = 0; i < number; i++)
        product_few(&l->qkv_proj, rows_of_head(d, heads[i]), d->few_in_q, d->count, l->qkv_bias, d->few_qkv,
                    d->qkv_width, SET);
    for (int i = 0, from = 0; i < d->segment_count; from += d->segments[i++].count)
        place_few(d, d->segments + i, from, index, heads, number);
}

/* One head of a GPT-J block: its query, keys and values, the KV cache, and its attention. */
static void head_few(Decoder *d, const Layer *l, int index, int head, int thread) {
    int heads = d->model.heads, parts[] = {head, heads + head, 2 * heads + head};
    project_few(d, l, index, parts, 3);
    attend_segments(d, index, head, 1, thread);
}

/* A unit of attention in a Llama block: up to `heads_at_once` heads of a group. */
static void attend_part_few(Decoder *d, int index, int unit, int thread) {
    int group = group_of(&d->model), at_once = heads_at_once(d), parts = (group - 1) / at_once + 1;
    int begin = unit % parts * at_once, heads = begin + at_once < group ? at_once : group - begin;
    attend_segments(d, index, unit / parts * group + begin, heads, thread);
}

static void mlp_few(Decoder *d, const Layer *l, Span rows) {
    int hidden = d->model.mlp_width, count = d->count;
    product_few(&l->up_proj, rows, d->few_in_q, count, l->up_bias, d->few_mlp, hidden, SET);
    float *gates = d->few_mlp + (size_t)FEW * hidden;
    if (l->gate_proj.values) product_few(&l->gate_proj, rows, d->few_in_q, count, l->gate_bias, gates, hidden, SET);
    for (int t = 0; t < count; t++)
        for (int r = rows.begin; r < rows.end; r += LANES) {
            float *h = d->few_mlp + (size_t)t * hidden + r;
            store(h, l->gate_proj.values ? load(h) * silu(load(gates + (size_t)t * hidden + r)) : gelu(load(h)));
        }
}

/* Phases of a layer. A GPT-J block has attention and MLP in parallel, a Llama block one after the other. */
enum { NORM, PROJECT, ROUND, RESIDUAL, CODEGEN_PHASES };
enum {
    LLAMA_NORM, LLAMA_PROJECT, LLAMA_ATTEND, LLAMA_ROUND, LLAMA_OUT, LLAMA_MLP_NORM, LLAMA_MLP, LLAMA_MLP_ROUND, LLAMA_DOWN,
    LLAMA_PHASES
};

ALWAYS int phases_of_layer(const Model *m) { return m->llama ? LLAMA_PHASES : CODEGEN_PHASES; }

/* Number of units of a phase; `parts` is that of norms and rounding, `attend` that of attention in a Llama block. */
static int units_of_layer(const Decoder *d, int phase, int parts, int attend) {
    const Model *m = &d->model;
    phase %= phases_of_layer(m);
    if (m->llama) {
        if (phase == LLAMA_PROJECT) return m->heads + 2 * m->kv_heads;
        if (phase == LLAMA_ATTEND) return attend;
        if (phase == LLAMA_OUT || phase == LLAMA_DOWN) return blocks(d, m->width);
        return phase == LLAMA_MLP ? blocks(d, m->mlp_width) : parts;
    }
    if (phase == PROJECT) return m->heads + blocks(d, m->mlp_width);
    if (phase == RESIDUAL) return blocks(d, m->width);
    return phase == ROUND ? 2 * parts : parts;
}

static int few_units(const Decoder *d, int phase) {
    int parts = (group_of(&d->model) - 1) / heads_at_once(d) + 1;
    return units_of_layer(d, phase, d->count, d->model.kv_heads * parts);
}

static void few_unit(Decoder *d, int phase, int unit, int thread) {
    const Model *m = &d->model;
    int index = d->first_layer + phase / phases_of_layer(m), width = m->width, count = d->count;
    const Layer *l = m->layer + index;
    phase %= phases_of_layer(m);
    if (m->llama) switch (phase) {
        case LLAMA_NORM: norm_and_round_few(d, l->attention_norm, &l->qkv_proj, d->x, unit, thread); return;
        case LLAMA_PROJECT: project_few(d, l, index, &unit, 1); return;
        case LLAMA_ATTEND: attend_part_few(d, index, unit, thread); return;
        case LLAMA_ROUND: round_attn_few(d, l, unit); return;
        case LLAMA_OUT:
            product_few(&l->o_proj, block(d, width, unit), d->few_attn_q, count, l->o_bias, d->x, width, ADD);
            return;
        case LLAMA_MLP_NORM: norm_and_round_few(d, l->mlp_norm, &l->up_proj, d->x, unit, thread); return;
        case LLAMA_MLP: mlp_few(d, l, block(d, m->mlp_width, unit)); return;
        case LLAMA_MLP_ROUND: round_mlp_few(d, l, unit); return;
        default:
            product_few(&l->down_proj, block(d, width, unit), d->few_mlp_q, count, l->down_bias, d->x, width, ADD);
            return;
    }
    switch (phase) {
    case NORM: norm_and_round_few(d, l->attention_norm, &l->qkv_proj, d->x, unit, thread); return;
    case PROJECT:
        if (unit < m->heads) head_few(d, l, index, unit, thread);
        else mlp_few(d, l, block(d, m->mlp_width, unit - m->heads));
        return;
    case ROUND:
        if (unit < count) round_mlp_few(d, l, unit);
        else round_attn_few(d, l, unit - count);
        return;
    default:
        product_few(&l->o_proj, block(d, width, unit), d->few_attn_q, count, l->o_bias, d->x, width, ADD);
        product_few(&l->down_proj, block(d, width, unit), d->few_mlp_q, count, l->down_bias, d->x, width, ADD);
    }
}

static int logits_units(const Decoder *d, int phase) { return phase ? blocks(d, d->model.lm_head.rows) : d->count; }

static void logits_unit(Decoder *d, int phase, int unit, int thread) {
    const Matrix *head = &d->model.lm_head;
    int rows = head->rows;
    if (!phase) norm_and_round_few(d, d->model.norm, head, d->hidden, unit, thread);
    else product_few(head, block(d, rows, unit), d->few_in_q, d->count, d->model.lm_head_bias, d->logits, rows, SET);
}

#endif
