/* The model as Python passes it. `c_structs.py` mirrors these structures and compares the fingerprint. */

#ifndef CODEGEN_MODEL_H
#define CODEGEN_MODEL_H

#include <stddef.h>
#include <stdint.h>

#define ABI_VERSION 4 /* to be raised when the parameters of an exported function change */

typedef uint16_t float16 __attribute__((aligned(1))); /* its bits, as they lie in the file */

/* A matrix of int8 weights, or of 4-bit ones in groups of columns.

   Within a group of G columns, byte j has the weight of column j in its low four bits and that of column j + G / 2 in
   its high ones; n stands for (n - 8) times the scale of the group. */
typedef struct {
    const int8_t *values;  /* (rows, columns); of 4-bit weights, (rows, columns / 2) */
    const float *steps;    /* of each row of int8 weights: the reciprocal of its scale */
    const float16 *scales; /* of 4-bit weights: (rows, scale_stride), one for each group of a row */
    int32_t rows, columns;
    int32_t group, scale_stride; /* columns of a group, 0 for int8 weights */
} Matrix;

typedef struct {
    const float *gamma, *beta; /* beta is NULL in an RMSNorm */
} Norm;

typedef struct {
    Norm attention_norm, mlp_norm;
    Matrix qkv_proj, o_proj, up_proj, gate_proj, down_proj; /* gate_proj and mlp_norm: in a Llama block only */
    const float *qkv_bias, *o_bias, *up_bias, *gate_bias, *down_bias; /* each may be NULL */
} Layer;

typedef struct {
    int32_t llama, heads;
    int32_t kv_heads; /* each has the keys and values of heads / kv_heads heads; all heads their own in a GPT-J block */
    int32_t head_width, width, mlp_width, rotary, interleaved, layers, positions;
    float epsilon;
    const float *cosines, *sines; /* (rotary / 2, positions) */
    const Layer *layer;
    Norm norm;
    Matrix lm_head, embedding;
    const float *lm_head_bias;
} Model;

/* Tokens of one sequence that are computed in a pass, maybe with those of others. */
typedef struct {
    float *cache;             /* (layers, 2 kv_heads, capacity, head width) */
    const int32_t *positions; /* (count), or NULL: offset, offset + 1, ... */
    const float *attn_mask;   /* (count, offset + count), or NULL: each attends to all before it */
    int32_t count, capacity, offset;
} Segment;

static const uint64_t ABI[] = {
    ABI_VERSION,
    sizeof(Matrix),
    offsetof(Matrix, values), offsetof(Matrix, steps), offsetof(Matrix, scales), offsetof(Matrix, rows),
    offsetof(Matrix, columns), offsetof(Matrix, group), offsetof(Matrix, scale_stride),
    sizeof(Norm),
    offsetof(Norm, gamma), offsetof(Norm, beta),
    sizeof(Layer),
    offsetof(Layer, attention_norm), offsetof(Layer, mlp_norm), offsetof(Layer, qkv_proj), offsetof(Layer, o_proj),
    offsetof(Layer, up_proj), offsetof(Layer, gate_proj), offsetof(Layer, down_proj), offsetof(Layer, qkv_bias),
    offsetof(Layer, o_bias), offsetof(Layer, up_bias), offsetof(Layer, gate_bias), offsetof(Layer, down_bias),
    sizeof(Model),
    offsetof(Model, llama), offsetof(Model, heads), offsetof(Model, kv_heads), offsetof(Model, head_width),
    offsetof(Model, width), offsetof(Model, mlp_width),
    offsetof(Model, rotary), offsetof(Model, interleaved), offsetof(Model, layers), offsetof(Model, positions),
    offsetof(Model, epsilon), offsetof(Model, cosines), offsetof(Model, sines), offsetof(Model, layer),
    offsetof(Model, norm), offsetof(Model, lm_head), offsetof(Model, embedding), offsetof(Model, lm_head_bias),
    sizeof(Segment),
    offsetof(Segment, cache), offsetof(Segment, positions), offsetof(Segment, attn_mask), offsetof(Segment, count),
    offsetof(Segment, capacity), offsetof(Segment, offset),
};

#endif
