/* The forward pass of a decoder over int8 or 4-bit weights, which are used in place, with keys and values written in place.

   There are two layouts of activations, by the number of tokens: see few.h and many.h.

   The arithmetic is that of CTranslate2: the activations of a token are rounded to q = rint(127 x / a + 128) - 128 with
   a = max |x|; products with the weights are exact, in integers. The dot product instructions need one unsigned
   operand on x86-64, so 128 is added to each weight there (by flipping its sign bit), and 128 times the sum of q
   subtracted from the result.

   Multiplication and addition are fused only where the code says so (`-ffp-contract=off`). A compiler that is free to
   fuse may do so in one copy of a function and not in another, and then the result for a token would depend on the
   number of tokens that are computed with it.

   The file is compiled once for each instruction set (`compile_decoder.py`). */

#include <math.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "few.h"
#include "many.h"
#include "processor.h"

/* Fingerprint of the structures that Python passes and of the exported functions: FNV-1a over `ABI`. */
EXPORT uint64_t codegen_abi(void) {
    uint64_t hash = 0xcbf29ce484222325u;
    for (size_t i = 0; i < sizeof(ABI) / sizeof(ABI[0]); i++) hash = (hash ^ ABI[i]) * 0x100000001b3u;
    return hash;
}

/* Whether this library can be used here. */
EXPORT int codegen_supported(void) { return supported(); }

static int allocate_rounded(Rounded *to, size_t tokens, int columns) {
    to->q = allocate_zeroed(tokens * padded_blocks(columns));
    to->step = allocate_zeroed(tokens * sizeof(float));
    to->excess = allocate_zeroed(tokens * sizeof(int32_t));
    to->zeros = allocate_zeroed(tokens * zeros_of(columns) * sizeof(int32_t));
    return to->q && to->step && to->excess && to->zeros;
}

static void free_rounded(Rounded *r) {
    release(r->q), release(r->step), release(r->excess), release(r->zeros);
    *r = (Rounded){0};
}

static void free_many(Decoder *d) {
    free_rounded(&d->many_in_q), free_rounded(&d->many_attn_q), free_rounded(&d->many_mlp_q);
    release(d->many_qkv), release(d->many_attn), release(d->many_mlp);
    d->many_qkv = d->many_attn = d->many_mlp = NULL;
    d->groups = 0;
}

static int allocate_many(Decoder *d, size_t groups) {
    const Model *m = &d->model;
    size_t tokens = groups * LANES;
    if (groups <= d->groups) return 1;
    free_many(d);
    d->many_qkv = allocate_zeroed(tokens * d->qkv_width * sizeof(float));
    d->many_attn = allocate_zeroed(tokens * d->attn_width * sizeof(float));
    d->many_mlp = allocate_zeroed(tokens * m->mlp_width * (m->llama ? 2 : 1) * sizeof(float));
    int made = allocate_rounded(&d->many_in_q, tokens, m->width) &&
               allocate_rounded(&d->many_attn_q, tokens, d->attn_width) &&
               allocate_rounded(&d->many_mlp_q, tokens, m->mlp_width) && d->many_qkv && d->many_attn && d->many_mlp;
    if (made) d->groups = groups;
    else free_many(d);
    return made;
}

static int allocate_scratch(Decoder *d, size_t floats) {
    if (floats <= d->scratch_floats) return 1;
    d->scratch_floats = 0;
    for (int i = 0; i < d->threads; i++) {
        release(d->scratch[i]);
        d->scratch[i] = allocate_zeroed(floats * sizeof(float));
        if (!d->scratch[i]) return 0;
    }
    d->scratch_floats = floats;
    return 1;
}

EXPORT void codegen_free(Decoder *d) {
    change(d, ENDED);
    for (int i = 1; i < d->threads; i++) join_thread(d->thread[i]);
    for (int i = 0; i < MAX_THREADS; i++) release(d->scratch[i]);
    free_rounded(&d->few_in_q), free_rounded(&d->few_attn_q), free_rounded(&d->few_mlp_q);
    release(d->few_qkv), release(d->few_attn), release(d->few_mlp);
    free_many(d);
    destroy_lock(&d->mutex, &d->changed);
    release(d);
}

/* The number of pause instructions that take this time: their length differs by a factor of four between processors. */
static int pauses_in(int microseconds) {
    int64_t begin = nanoseconds();
    for (int i = 0; i < 1000; i++) PAUSE();
    int64_t ns = nanoseconds() - begin;
    return (int)(microseconds * 1000000LL / (ns > 1000 ? ns : 1000));
}

/* A decoder for a model; NULL when memory or threads are lacking. What `model` points to must outlive the decoder.
   `microseconds`: how long a waiting thread spins before it sleeps. `tiles`: whether AMX may be used. */
EXPORT Decoder *codegen_new(const Model *model, int threads, int microseconds, int tiles) {
    Decoder *d = allocate_zeroed(sizeof(Decoder));
    if (!d) return NULL;
    d->model = *model;
    d->attn_width = model->heads * model->head_width;
    d->qkv_width = d->attn_width + 2 * model->kv_heads * model->head_width;
    d->amx = tiles && has_tiles();
    d->spins = pauses_in(microseconds);
    init_lock(&d->mutex, &d->changed);
    if (threads > MAX_THREADS) threads = MAX_THREADS;
    atomic_store(&d->now, IDLE);
    int made = allocate_rounded(&d->few_in_q, FEW, model->width) &&
               allocate_rounded(&d->few_attn_q, FEW, d->attn_width) &&
               allocate_rounded(&d->few_mlp_q, FEW, model->mlp_width);
    d->few_qkv = allocate_zeroed((size_t)FEW * d->qkv_width * sizeof(float));
    d->few_attn = allocate_zeroed((size_t)FEW * d->attn_width * sizeof(float));
    d->few_mlp = allocate_zeroed((size_t)2 * FEW * model->mlp_width * sizeof(float));
    made &= d->few_qkv && d->few_attn && d->few_mlp;
    d->threads = threads;
    for (int i = 1; i < threads && made; i++) {
        Member *member = malloc(sizeof(Member));
        if (member) *member = (Member){d, i};
        if (!member || !start_thread(&d->thread[i], work, member)) {
            free(member);
            d->threads = i;
            made = 0;
        }
    }
    if (made) return d;
    codegen_free(d);
    return NULL;
}

/* The 4-bit weight of a column, without its scale. */
static float nibble(const int8_t *row, int column, int group) {
    int within = column % group, half_group = group / 2;
    int byte = (uint8_t)row[column / group * half_group + within % half_group];
    return (float)((within < half_group ? byte & 15 : byte >> 4) - 8);
}

EXPORT int codegen_lanes(void) { return LANES; }
EXPORT int codegen_few(void) { return FEW; }

/* Write the input of the first layer to `x`: (count, width) if count <= FEW, else [group][width][LANES]. */
EXPORT void codegen_embed(const Decoder *d, const int32_t *ids, int count, float *x) {
    const Matrix *e = &d->model.embedding;
    for (int t = 0; t < count; t++) {
        const int8_t *row = e->values + (size_t)ids[t] * (e->group ? e->columns / 2 : e->columns);
        const float16 *scales = e->scales + (size_t)ids[t] * e->scale_stride;
        size_t group = t / LANES;
        float *to = count <= FEW ? x + (size_t)t * e->columns : x + group * e->columns * LANES + t % LANES;
        int apart = count <= FEW ? 1 : LANES;
        for (int c = 0; c < e->columns; c++)
            to[(size_t)c * apart] = e->group ? nibble(row, c, e->group) * half(scales[c / e->group])
                                             : row[c] * e->steps[ids[t]];
    }
}

/* Run layers first .. end - 1 over `x`, (tokens of all segments, width), of at most FEW tokens, in place, and write the
   keys and values of each segment to its cache from its `offset` on. Returns 0 when memory is lacking. */
EXPORT int codegen_segments(Decoder *d, float *x, const Segment *segments, int segment_count, int first, int end) {
    size_t scores = 0;
    d->x = x, d->count = 0, d->first_layer = first, d->segments = segments, d->segment_count = segment_count;
    for (int i = 0; i < segment_count; i++) {
        size_t own = ((size_t)segments[i].offset + segments[i].count + LANES) * segments[i].count * heads_at_once(d);
        d->count += segments[i].count;
        if (own > scores) scores = own;
    }
    if (!allocate_scratch(d, scores + d->model.width)) return 0;
    run(d, (Job){few_units, few_unit, (end - first) * phases_of_layer(&d->model), 0});
    return 1;
}

/* Columns of the widest matrix of a layer. */
static int most_columns(const Decoder *d) {
    int most = d->model.width > d->attn_width ? d->model.width : d->attn_width;
    return most > d->model.mlp_width ? most : d->model.mlp_width;
}

/* Do the same for one sequence of any number of tokens. Of more than FEW, in the layout of `codegen_embed`, the last
   layer of the model computes those from group `tail` on. */
EXPORT int codegen_layers(Decoder *d, float *x, int count, int first, int end, float *cache, int capacity, int offset,
                          int tail) {
    if (count <= FEW) {
        Segment segment = {cache, NULL, NULL, count, capacity, offset};
        return codegen_segments(d, x, &segment, 1, first, end);
    }
    d->x = x, d->count = count, d->first_layer = first, d->tail = tail;
    d->cache = cache, d->capacity = capacity, d->offset = offset;
    size_t scores = ((size_t)offset + count + LANES) * 2 * LANES, normed = (size_t)d->model.width * LANES;
    size_t unpacked = unpacked_floats(most_columns(d)), scratch = scores > normed ? scores : normed;
    if (!allocate_scratch(d, unpacked > scratch ? unpacked : scratch)) return 0;
    if (!allocate_many(d, (count + LANES - 1) / LANES)) return 0;
    run(d, (Job){many_units, many_unit, (end - first) * phases_of_layer(&d->model), d->amx});
    return 1;
}

/* Logits, (count, rows of lm_head), of hidden states, (count, width), for count <= FEW. Returns 0 when memory is
   lacking. */
EXPORT int codegen_logits(Decoder *d, const float *hidden, int count, float *logits) {
    d->hidden = hidden, d->count = count, d->logits = logits;
    if (!allocate_scratch(d, d->model.width)) return 0;
    run(d, (Job){logits_units, logits_unit, 2, 0});
    return 1;
}
