/* State of a decoder, and the threads that compute with it.

   A job is a sequence of phases. A phase is a number of units that don't depend on each other: one attention head, a
   block of rows of a matrix, one token to round. Threads, the caller's included, take units as they become free. So a
   thread that is descheduled delays the others by at most the unit that it has taken, a sleeping one not at all. */

#ifndef CODEGEN_DECODER_H
#define CODEGEN_DECODER_H

#include <stdatomic.h>
#include <stdlib.h>

#include "model.h"
#include "simd.h"
#include "system.h"

#define FEW 16
#define MAX_THREADS 64
#define MAX_ROTARY 512

/* The input of a matrix, rounded to 255 steps: see `round_few` and `round_many`. */
typedef struct {
    int8_t *q;
    float *step;     /* of each token: a / 127 */
    int32_t *excess; /* of each token: WEIGHT_OFFSET times the sum of q */
    int32_t *zeros;  /* for 4-bit weights: -8 times sums of q, in parts: see groups.h */
} Rounded;

typedef struct Decoder Decoder;

/* What the threads compute: `phases` phases, one after the other, each of independent units. */
typedef struct {
    int (*units)(const Decoder *, int phase);
    void (*unit)(Decoder *, int phase, int unit, int thread);
    int phases, tiles;
} Job;

struct Decoder {
    Model model;
    int attn_width; /* of all heads */
    int qkv_width;  /* of query, key and value of a token */
    int amx, threads;
    Rounded few_in_q, few_attn_q, few_mlp_q;
    float *few_qkv, *few_attn, *few_mlp;
    size_t groups; /* capacity of the buffers below */
    Rounded many_in_q, many_attn_q, many_mlp_q;
    float *many_qkv, *many_attn, *many_mlp;
    float *scratch[MAX_THREADS];
    size_t scratch_floats;
    /* the current job */
    Job job;
    unsigned first_phase;
    int count, first_layer;
    float *x, *logits;
    const float *hidden;
    const Segment *segments; /* of few tokens */
    int segment_count;
    float *cache; /* of many tokens */
    int tail, capacity, offset;
    /* the threads */
    Thread thread[MAX_THREADS];
    Mutex mutex;
    Condition changed;
    atomic_int sleeping, done;
    _Atomic uint64_t now; /* high half: the phase, counted over all jobs; low half: its next unit, IDLE, or ENDED */
    int spins;
};

#define IDLE 0x80000000u
#define ENDED 0xc0000000u

/* Wait until `now` differs from `old`: spin for a while, then sleep. */

static void await_change(Decoder *d, uint64_t old) {
    for (int i = 0; i < d->spins; i++) {
        if (atomic_load_explicit(&d->now, memory_order_acquire) != old) return;
        PAUSE();
    }
    lock(&d->mutex);
    atomic_fetch_add(&d->sleeping, 1);
    while (atomic_load(&d->now) == old) await(&d->changed, &d->mutex);
    atomic_fetch_sub(&d->sleeping, 1);
    unlock(&d->mutex);
}

/* Set `now` and wake the threads that sleep. */
static void change(Decoder *d, uint64_t now) {
    atomic_store(&d->now, now);
    if (atomic_load(&d->sleeping)) {
        lock(&d->mutex);
        wake_all(&d->changed);
        unlock(&d->mutex);
    }
}

/* Configure and release this thread's AMX tiles (many.h). */
static void begin_tiles(void);
static void end_tiles(void);

/* Compute units until the job is done. A unit is taken by a compare-and-swap on `now`, which fails when another thread
   has taken the unit or the job has ended, so reading a job that ends meanwhile is harmless. */
static void take_part(Decoder *d, int thread) {
    int tiles = 0;
    for (;;) {
        uint64_t now = atomic_load_explicit(&d->now, memory_order_acquire);
        uint32_t phase = now >> 32, unit = (uint32_t)now;
        if (unit & IDLE) break;
        int within = (int)(phase - d->first_phase), units = d->job.units(d, within);
        if ((int)unit >= units) {
            await_change(d, now);
            continue;
        }
        if (!atomic_compare_exchange_weak(&d->now, &now, now + 1)) continue;
        if (d->job.tiles && !tiles) begin_tiles(), tiles = 1;
        d->job.unit(d, within, (int)unit, thread);
        if (atomic_fetch_add(&d->done, 1) != units - 1) continue;
        atomic_store(&d->done, 0);
        change(d, (uint64_t)(phase + 1) << 32 | (within + 1 == d->job.phases ? IDLE : 0));
    }
    if (tiles) end_tiles();
}

typedef struct {
    Decoder *decoder;
    int number;
} Member;

THREAD_FUNCTION(work, argument) {
    Member me = *(Member *)argument;
    free(argument);
    for (;;) {
        uint64_t now = atomic_load(&me.decoder->now);
        if ((now & ENDED) == ENDED) return 0;
        if (now & IDLE) await_change(me.decoder, now);
        else take_part(me.decoder, me.number);
    }
}

/* Run a job on all threads, the caller among them, and return when it is done. */
static void run(Decoder *d, Job job) {
    uint32_t phase = atomic_load(&d->now) >> 32;
    d->job = job, d->first_phase = phase;
    change(d, (uint64_t)phase << 32);
    take_part(d, 0);
}

/* Blocks of the rows of a matrix, of a multiple of 32 rows: about four for each thread, but two where reading the weights
   from memory is what takes the time, since each block begins with a wait for it. */
typedef struct {
    int begin, end;
} Span;

ALWAYS int block_rows(const Decoder *d, int rows) {
    int number = (d->count > FEW ? 4 : 2) * d->threads;
    return (rows - 1) / (number * 32) * 32 + 32;
}
ALWAYS int blocks(const Decoder *d, int rows) { return (rows + block_rows(d, rows) - 1) / block_rows(d, rows); }
ALWAYS Span block(const Decoder *d, int rows, int index) {
    int size = block_rows(d, rows), end = (index + 1) * size;
    return (Span){index * size, end < rows ? end : rows};
}

/* Heads that have the same keys and values. */
ALWAYS int group_of(const Model *m) { return m->heads / m->kv_heads; }

/* Heads of a group whose attention is one unit: all of them, so that keys and values are read once, unless threads would
   be idle. */
ALWAYS int heads_at_once(const Decoder *d) {
    int group = group_of(&d->model), parts = (d->threads - 1) / d->model.kv_heads + 1;
    return parts < group ? (group - 1) / parts + 1 : 1;
}

/* Rows of `qkv_proj` of one head; those of keys are counted behind those of queries, those of values behind both. */
ALWAYS Span rows_of_head(const Decoder *d, int head) {
    int hw = d->model.head_width;
    return (Span){head * hw, (head + 1) * hw};
}

ALWAYS int has_positions(const Model *m, int head) { return head < m->heads + m->kv_heads; }

/* Keys or values of a head, counted in this way, in the part of a KV cache that belongs to a layer; NULL of queries. */
ALWAYS float *place_of_head(const Model *m, float *cache, int capacity, int layer, int head) {
    if (head < m->heads) return NULL;
    return cache + ((size_t)layer * 2 * m->kv_heads + head - m->heads) * capacity * m->head_width;
}

ALWAYS int padded(int columns) { return (columns + 63) / 64 * 64; }

/* Columns in whole blocks of 4-bit weights, for any LANES. */
ALWAYS int padded_blocks(int columns) { return (columns + 127) / 128 * 128; }

/* Round to the nearest of 255 steps. As in CTranslate2, 128 is added first; the sum has fewer fraction bits. */
ALWAYS vi rounded(vf x, vf by) { return vround(vfma(x, by, all(128.0f))) - 128; }

#endif
