/* The forward pass of a decoder over int8 weights where they lie, keys and values kept in place.

   Two layouts of activations, by how many tokens come at once:

   few    up to FEW tokens, each a row of features. A vector holds features; what bounds the speed is how fast the
          weights come from memory, and each is read once for all tokens.
   many   a prompt's chunk, in groups of LANES tokens: [group][feature][LANES]. A vector holds one feature of a group's
          tokens, so norms, rounding, rotation and softmax need no sums across a vector, and four rounded features of a
          token are the four bytes that the processor's dot products take.

   The arithmetic is CTranslate2's: a token's activations are rounded to q = rint(127 x / a + 128) - 128, a = max |x|,
   products with the weights are exact, in integers. The dot product instructions want one side unsigned: 128 is added
   to each weight (its sign bit turned), and 128 times the sum of q taken off again.

   A layer is a few phases, and a phase is units of work that don't depend on each other: a head from its rows of query,
   key and value to its attention, a block of another matrix's rows, a token to round. Threads take units as they come,
   the caller among them, so a thread that the system lets wait holds up the others by no more than the unit it is at, and
   one that has gone to sleep by nothing.

   Products and sums are fused where it says so and nowhere else (`-ffp-contract=off`): a compiler that fuses as it likes
   does so in one copy of a function and not in the next, and then what a token comes to depends on how many others were
   computed along with it. The file is compiled once for each instruction set (see `build.py` beside it). */

#include <cpuid.h>
#include <immintrin.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#ifdef __linux__
#include <sys/syscall.h>
#include <unistd.h>
#endif

#define FEW 8
#define MOST_THREADS 64
#define WIDEST_ROTARY 512
#define ALWAYS static inline __attribute__((always_inline))

/* Vectors */

#ifdef __AVX512F__
#define LANES 16
#define TILE_ROWS 6
#define TILE_GROUPS 4
typedef float vf __attribute__((vector_size(64)));
typedef int32_t vi __attribute__((vector_size(64)));
ALWAYS vf vmax(vf a, vf b) { return (vf)_mm512_max_ps((__m512)a, (__m512)b); }
ALWAYS vf vfma(vf a, vf b, vf c) { return (vf)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c); }
ALWAYS vf vabs(vf a) { return (vf)_mm512_abs_ps((__m512)a); }
ALWAYS vi vround(vf a) { return (vi)_mm512_cvtps_epi32((__m512)a); }
ALWAYS vf vfloat(vi a) { return (vf)_mm512_cvtepi32_ps((__m512i)a); }
ALWAYS float sum_lanes(vf a) { return _mm512_reduce_add_ps((__m512)a); }
ALWAYS float max_lanes(vf a) { return _mm512_reduce_max_ps((__m512)a); }
ALWAYS int32_t sum_lanes_i(vi a) { return _mm512_reduce_add_epi32((__m512i)a); }
ALWAYS void store_bytes(int8_t *to, vi a) { _mm_storeu_si128((__m128i *)to, _mm512_cvtepi32_epi8((__m512i)a)); }
ALWAYS vf load_bytes(const int8_t *from) {
    return (vf)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)from)));
}
#else
#define LANES 8
#define TILE_ROWS 2
#define TILE_GROUPS 4
typedef float vf __attribute__((vector_size(32)));
typedef int32_t vi __attribute__((vector_size(32)));
ALWAYS vf vmax(vf a, vf b) { return (vf)_mm256_max_ps((__m256)a, (__m256)b); }
ALWAYS vf vfma(vf a, vf b, vf c) { return (vf)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c); }
ALWAYS vf vabs(vf a) { return (vf)_mm256_andnot_ps(_mm256_set1_ps(-0.0f), (__m256)a); }
ALWAYS vi vround(vf a) { return (vi)_mm256_cvtps_epi32((__m256)a); }
ALWAYS vf vfloat(vi a) { return (vf)_mm256_cvtepi32_ps((__m256i)a); }
ALWAYS float sum_lanes(vf a) {
    float sum = 0;
    for (int i = 0; i < LANES; i++) sum += a[i];
    return sum;
}
ALWAYS float max_lanes(vf a) {
    float most = a[0];
    for (int i = 1; i < LANES; i++) most = a[i] > most ? a[i] : most;
    return most;
}
ALWAYS int32_t sum_lanes_i(vi a) {
    int32_t sum = 0;
    for (int i = 0; i < LANES; i++) sum += a[i];
    return sum;
}
ALWAYS void store_bytes(int8_t *to, vi a) {
    for (int i = 0; i < LANES; i++) to[i] = (int8_t)a[i];
}
ALWAYS vf load_bytes(const int8_t *from) {
    return (vf)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)from)));
}
#endif

typedef float vf_any __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t vi_any __attribute__((vector_size(4 * LANES), aligned(1), may_alias));
ALWAYS vf load(const float *from) { return *(const vf_any *)from; }
ALWAYS void store(float *to, vf a) { *(vf_any *)to = a; }
ALWAYS vi load_i(const void *from) { return *(const vi_any *)from; }
ALWAYS void store_i(void *to, vi a) { *(vi_any *)to = a; }
ALWAYS vf all(float a) { return (vf){0} + a; }
ALWAYS vi all_i(int32_t a) { return (vi){0} + a; }

/* sum += the dot products of four unsigned with four signed bytes in each lane */
ALWAYS vi dot4(vi sum, vi unsigned_bytes, vi signed_bytes) {
#if defined(__AVX512VNNI__)
    return (vi)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)unsigned_bytes, (__m512i)signed_bytes);
#elif defined(__AVXVNNI__)
    return (vi)_mm256_dpbusd_avx_epi32((__m256i)sum, (__m256i)unsigned_bytes, (__m256i)signed_bytes);
#else /* in 16 bits, whose products are summed in 32: nothing saturates */
    __m256i u = (__m256i)unsigned_bytes, s = (__m256i)signed_bytes;
    __m256i even = _mm256_madd_epi16(_mm256_and_si256(u, _mm256_set1_epi16(255)),
                                     _mm256_srai_epi16(_mm256_slli_epi16(s, 8), 8));
    __m256i odd = _mm256_madd_epi16(_mm256_srli_epi16(u, 8), _mm256_srai_epi16(s, 8));
    return sum + (vi)even + (vi)odd;
#endif
}

#define SIGN_BITS ((int32_t)0x80808080)

/* The sums over the lanes of LANES vectors, as one vector */
#if LANES == 16
#define UNPACK(lo, hi, a, b)                                                                                           \
    (_mm512_add_epi32(_mm512_unpacklo_##lo((a), (b)), _mm512_unpackhi_##hi((a), (b))))
ALWAYS vi sums_i(const vi *v) {
    __m512i a[8], b[4], c[2];
    for (int i = 0; i < 8; i++) a[i] = UNPACK(epi32, epi32, (__m512i)v[2 * i], (__m512i)v[2 * i + 1]);
    for (int i = 0; i < 4; i++) b[i] = UNPACK(epi64, epi64, a[2 * i], a[2 * i + 1]);
    for (int i = 0; i < 2; i++)
        c[i] = _mm512_add_epi32(_mm512_shuffle_i32x4(b[2 * i], b[2 * i + 1], 0x88),
                                _mm512_shuffle_i32x4(b[2 * i], b[2 * i + 1], 0xdd));
    return (vi)_mm512_add_epi32(_mm512_shuffle_i32x4(c[0], c[1], 0x88), _mm512_shuffle_i32x4(c[0], c[1], 0xdd));
}
#define UNPACK_F(a, b) (_mm512_add_ps(_mm512_unpacklo_ps((a), (b)), _mm512_unpackhi_ps((a), (b))))
#define UNPACK_D(a, b)                                                                                                 \
    (_mm512_add_ps((__m512)_mm512_unpacklo_pd((__m512d)(a), (__m512d)(b)),                                             \
                   (__m512)_mm512_unpackhi_pd((__m512d)(a), (__m512d)(b))))
ALWAYS vf sums(const vf *v) {
    __m512 a[8], b[4], c[2];
    for (int i = 0; i < 8; i++) a[i] = UNPACK_F((__m512)v[2 * i], (__m512)v[2 * i + 1]);
    for (int i = 0; i < 4; i++) b[i] = UNPACK_D(a[2 * i], a[2 * i + 1]);
    for (int i = 0; i < 2; i++)
        c[i] = _mm512_add_ps(_mm512_shuffle_f32x4(b[2 * i], b[2 * i + 1], 0x88),
                             _mm512_shuffle_f32x4(b[2 * i], b[2 * i + 1], 0xdd));
    return (vf)_mm512_add_ps(_mm512_shuffle_f32x4(c[0], c[1], 0x88), _mm512_shuffle_f32x4(c[0], c[1], 0xdd));
}
#else
ALWAYS vi sums_i(const vi *v) {
    __m256i a = _mm256_hadd_epi32((__m256i)v[0], (__m256i)v[1]), b = _mm256_hadd_epi32((__m256i)v[2], (__m256i)v[3]);
    __m256i c = _mm256_hadd_epi32((__m256i)v[4], (__m256i)v[5]), d = _mm256_hadd_epi32((__m256i)v[6], (__m256i)v[7]);
    a = _mm256_hadd_epi32(a, b), c = _mm256_hadd_epi32(c, d);
    return (vi)_mm256_add_epi32(_mm256_permute2x128_si256(a, c, 0x20), _mm256_permute2x128_si256(a, c, 0x31));
}
ALWAYS vf sums(const vf *v) {
    __m256 a = _mm256_hadd_ps((__m256)v[0], (__m256)v[1]), b = _mm256_hadd_ps((__m256)v[2], (__m256)v[3]);
    __m256 c = _mm256_hadd_ps((__m256)v[4], (__m256)v[5]), d = _mm256_hadd_ps((__m256)v[6], (__m256)v[7]);
    a = _mm256_hadd_ps(a, b), c = _mm256_hadd_ps(c, d);
    return (vf)_mm256_add_ps(_mm256_permute2f128_ps(a, c, 0x20), _mm256_permute2f128_ps(a, c, 0x31));
}
#endif

/* exp(x): x = n ln 2 + r, a polynomial for exp(r) (Cephes' expf, Moshier), and n into the exponent */
ALWAYS vf vexp(vf x) {
    x = vmax(x, all(-87.0f));
    vi n = vround(x * 1.44269504088896341f);
    vf whole = vfloat(n);
    vf r = vfma(whole, all(2.12194440e-4f), vfma(whole, all(-0.693359375f), x));
    vf p = all(1.9875691500e-4f);
    p = vfma(p, r, all(1.3981999507e-3f));
    p = vfma(p, r, all(8.3334519073e-3f));
    p = vfma(p, r, all(4.1665795894e-2f));
    p = vfma(p, r, all(1.6666665459e-1f));
    p = vfma(p, r, all(5.0000001201e-1f));
    p = vfma(p * r, r, r) + 1.0f;
    return (vf)((vi)p + (n << 23));
}

/* x times the logistic function of z, for |z| of any size */
ALWAYS vf gated_by(vf x, vf z) {
    z = -vmax(-z, all(-80.0f)); /* at most 80, so that exp(-z) has its place */
    z = vmax(z, all(-80.0f));
    return x / (1.0f + vexp(-z));
}
ALWAYS vf gelu(vf x) { return gated_by(x, 1.5957691216057308f * (x + 0.044715f * x * x * x)); } /* by tanh */
ALWAYS vf silu(vf x) { return gated_by(x, x); }

/* What Python hands over: `decoder.py` has the same structures */

typedef struct {
    const int8_t *values; /* (rows, columns) */
    const float *steps;   /* one over a row's scale */
    int32_t rows, columns;
} Matrix;

typedef struct {
    const float *gamma, *beta; /* beta is missing in an RMSNorm */
} Norm;

typedef struct {
    Norm attention_norm, mlp_norm;
    Matrix qkv, out, up, gate, down; /* gate and mlp_norm in Llama's block alone */
    const float *up_bias, *down_bias;
} Layer;

typedef struct {
    int32_t llama, heads, width, hidden, rotary, interleaved, layers, positions;
    float epsilon;
    const float *cosines, *sines; /* (rotary / 2, positions) */
    const Layer *layer;
    Norm norm;
    Matrix head, embedding;
    const float *head_bias;
} Model;

/* A matrix's input, rounded */
typedef struct {
    int8_t *q;
    float *step;    /* of each token: a / 127 */
    int32_t *excess; /* of each token: 128 times the sum of q */
} Rounded;

typedef struct Decoder Decoder;

/* What is computed: `phases` phases one after the other */
typedef struct {
    int (*units)(const Decoder *, int phase);
    void (*unit)(Decoder *, int phase, int unit, int thread);
    int phases, tiles;
} Job;

struct Decoder {
    Model model;
    int head_width, amx, threads;
    Rounded few_in, few_mixed, few_hidden;
    float *few_y, *few_mix, *few_h;
    size_t groups; /* room in the following */
    Rounded many_in, many_mixed, many_hidden;
    float *many_y, *many_mix, *many_h;
    float *scratch[MOST_THREADS];
    size_t scratch_floats;
    /* the job */
    Job job;
    unsigned first_phase;
    int count, first_layer, tail, capacity, offset;
    float *x, *cache, *logits;
    const float *hidden, *visible;
    const int32_t *positions;
    /* the team */
    pthread_t thread[MOST_THREADS];
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    atomic_int sleeping, done;
    _Atomic uint64_t now; /* the phase, counted over all jobs, and the next unit of it; IDLE between jobs, else ENDED */
    int spins;
};

#define IDLE 0x80000000u
#define ENDED 0xc0000000u

/* The team: threads look for a while whether what they wait for has come, and sleep if it hasn't */

static void await_change(Decoder *d, uint64_t old) {
    for (int i = 0; i < d->spins; i++) {
        if (atomic_load_explicit(&d->now, memory_order_acquire) != old) return;
        _mm_pause();
    }
    pthread_mutex_lock(&d->mutex);
    atomic_fetch_add(&d->sleeping, 1);
    while (atomic_load(&d->now) == old) pthread_cond_wait(&d->changed, &d->mutex);
    atomic_fetch_sub(&d->sleeping, 1);
    pthread_mutex_unlock(&d->mutex);
}

static void change(Decoder *d, uint64_t now) {
    atomic_store(&d->now, now);
    if (atomic_load(&d->sleeping)) {
        pthread_mutex_lock(&d->mutex);
        pthread_cond_broadcast(&d->changed);
        pthread_mutex_unlock(&d->mutex);
    }
}

static void begin_tiles(void);
static void end_tiles(void);

/* Take units until the job is done. A unit is taken by moving `now` on, which fails if anything of it has changed: so
   what was read of a job that is over meanwhile does no harm. */
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

static void *work(void *argument) {
    Member me = *(Member *)argument;
    free(argument);
    for (;;) {
        uint64_t now = atomic_load(&me.decoder->now);
        if ((now & ENDED) == ENDED) return NULL;
        if (now & IDLE) await_change(me.decoder, now);
        else take_part(me.decoder, me.number);
    }
}

static void run(Decoder *d, Job job) {
    uint32_t phase = atomic_load(&d->now) >> 32;
    d->job = job, d->first_phase = phase;
    change(d, (uint64_t)phase << 32);
    take_part(d, 0);
}

/* Blocks of a matrix's rows: four for each thread, of whole tiles */
typedef struct {
    int begin, end;
} Span;

ALWAYS int block_rows(const Decoder *d, int rows) { return (rows - 1) / (4 * d->threads * 32) * 32 + 32; }
ALWAYS int blocks(const Decoder *d, int rows) { return (rows + block_rows(d, rows) - 1) / block_rows(d, rows); }
ALWAYS Span block(const Decoder *d, int rows, int index) {
    int size = block_rows(d, rows), end = (index + 1) * size;
    return (Span){index * size, end < rows ? end : rows};
}

ALWAYS int padded(int columns) { return (columns + 63) / 64 * 64; }

/* To the nearest of 255 steps, by way of CTranslate2's unsigned bytes: 128 more has fewer bits behind the point */
ALWAYS vi rounded(vf x, vf by) { return vround(vfma(x, by, all(128.0f))) - 128; }

/* Few tokens */

static void round_few(const float *x, int columns, Rounded to, int token) {
    int8_t *q = to.q + (size_t)token * padded(columns);
    vf most = all(0);
    int c = 0;
    for (; c + LANES <= columns; c += LANES) most = vmax(most, vabs(load(x + c)));
    float largest = max_lanes(most);
    for (int i = c; i < columns; i++) largest = fabsf(x[i]) > largest ? fabsf(x[i]) : largest;
    if (largest < 1e-10f) largest = 1e-10f;
    float by = 127.0f / largest;
    vi sum = all_i(0);
    for (c = 0; c + LANES <= columns; c += LANES) {
        vi r = rounded(load(x + c), all(by));
        sum += r;
        store_bytes(q + c, r);
    }
    int32_t total = sum_lanes_i(sum);
    for (; c < columns; c++) total += q[c] = (int8_t)(lrintf(fmaf(x[c], by, 128.0f)) - 128);
    to.step[token] = largest / 127.0f;
    to.excess[token] = 128 * total;
}

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

/* LANES dot products: of LANES / tokens rows with `tokens` inputs; sum t + tokens i is of row i and token t */
ALWAYS vi dots(const int8_t *w, int columns, int rows, const int8_t *q, int depth, int tokens) {
    vi sum[LANES];
    const int row_count = LANES / tokens;
    for (int i = 0; i < LANES; i++) sum[i] = all_i(0);
    const int8_t *row[LANES];
    for (int i = 0; i < row_count; i++) row[i] = w + (size_t)(i < rows ? i : rows - 1) * columns;
    for (int i = 0; i < row_count; i++)
        for (int c = 0; c < depth; c += 4 * LANES) {
            vi weights = load_i(row[i] + c) ^ SIGN_BITS;
            for (int t = 0; t < tokens; t++)
                sum[i * tokens + t] = dot4(sum[i * tokens + t], weights, load_i(q + (size_t)t * depth + c));
        }
    return sums_i(sum);
}

enum { SET, ADD };

ALWAYS void product_few_of(const Matrix *m, Span rows, Rounded in, int count, int tokens, const float *bias, float *y,
                           int stride, int how) {
    int depth = padded(m->columns);
    const int at_once = LANES / tokens;
    for (int r = rows.begin; r < rows.end; r += at_once) {
        int left = rows.end - r;
        union {
            vi v;
            int32_t s[LANES];
        } dot;
        dot.v = dots(m->values + (size_t)r * m->columns, m->columns, left, in.q, depth, tokens);
        for (int i = 0; i < at_once && i < left; i++)
            for (int t = 0; t < count; t++) {
                float value = (float)(dot.s[i * tokens + t] - in.excess[t]) * in.step[t] * m->steps[r + i];
                if (bias) value += bias[r + i];
                float *to = y + (size_t)t * stride + r + i;
                *to = how == ADD ? *to + value : value;
            }
    }
}

/* y (count, stride), its columns `rows`, = or += the product + bias */
static void product_few(const Matrix *m, Span rows, Rounded in, int count, const float *bias, float *y, int stride,
                        int how) {
    if (count == 1) product_few_of(m, rows, in, count, 1, bias, y, stride, how);
    else if (count == 2) product_few_of(m, rows, in, count, 2, bias, y, stride, how);
    else if (count <= 4) product_few_of(m, rows, in, count, 4, bias, y, stride, how);
    else product_few_of(m, rows, in, count, 8, bias, y, stride, how);
}

/* turns the pairs of one head, (head width): `cosines` and `sines` are this position's */
ALWAYS void turn_few(const Model *m, float *x, const float *cosines, const float *sines) {
    int pairs = m->rotary / 2;
    for (int i = 0; i < pairs; i++) {
        float *a = x + (m->interleaved ? 2 * i : i), *b = m->interleaved ? a + 1 : a + pairs;
        float first = *a, second = *b;
        *a = first * cosines[i] - second * sines[i];
        *b = second * cosines[i] + first * sines[i];
    }
}

/* How many keys ahead of their use are fetched: the processor by itself stops at the end of each page */
#define AHEAD 32

/* mix[0 .. 16 chunks) += the values of keys begin .. end, weighted */
ALWAYS void weigh(float *mix, const float *values, const float *weights, int begin, int end, int head_width, int chunks) {
    vf sum[4];
    for (int j = 0; j < chunks; j++) sum[j] = load(mix + j * LANES);
    for (int k = begin; k < end; k++) {
        const float *row = values + (size_t)k * head_width;
        for (int j = 0; j < chunks; j++) _mm_prefetch(row + (size_t)AHEAD * head_width + j * LANES, _MM_HINT_T0);
        for (int j = 0; j < chunks; j++) sum[j] = vfma(all(weights[k]), load(row + j * LANES), sum[j]);
    }
    for (int j = 0; j < chunks; j++) store(mix + j * LANES, sum[j]);
}

static void attend_few(Decoder *d, int head, const float *keys, const float *values, float *scores, int room) {
    int hw = d->head_width, count = d->count, end = d->offset + count, stride = 3 * d->model.width;
    float scale = 1.0f / sqrtf((float)hw);
    for (int k = 0; k < end; k += LANES)
        for (int t = 0; t < count; t++) {
            const float *query = d->few_y + (size_t)t * stride + head * hw;
            vf sum[LANES];
            for (int i = 0; i < LANES; i++) {
                const float *key = keys + (size_t)(k + i < end ? k + i : end - 1) * hw;
                if (!t)
                    for (int c = 0; c < hw; c += 16) _mm_prefetch(key + (size_t)AHEAD * hw + c, _MM_HINT_T0);
                vf s = load(query) * load(key);
                for (int c = LANES; c < hw; c += LANES) s = vfma(load(query + c), load(key + c), s);
                sum[i] = s;
            }
            store(scores + (size_t)t * room + k, sums(sum) * scale);
        }
    for (int t = 0; t < count; t++) {
        float *row = scores + (size_t)t * room;
        int seen = end;
        if (d->visible) {
            for (int k = 0; k < end; k++) row[k] += d->visible[(size_t)t * end + k];
        } else {
            seen = d->offset + t + 1;
        }
        for (int k = seen; k < (end + LANES - 1) / LANES * LANES; k++) row[k] = -INFINITY;
        vf most = all(-INFINITY);
        for (int k = 0; k < end; k += LANES) most = vmax(most, load(row + k));
        float largest = max_lanes(most);
        vf total = all(0);
        for (int k = 0; k < end; k += LANES) {
            vf score = load(row + k);
            vf p = vexp(score - largest);
            p = (vf)((vi)p & (score > -INFINITY)); /* the polynomial's least is not quite nothing */
            total += p;
            store(row + k, p);
        }
        float by = 1.0f / sum_lanes(total);
        for (int k = 0; k < end; k += LANES) store(row + k, load(row + k) * by);
    }
    float *mix = d->few_mix + head * hw;
    for (int t = 0; t < count; t++) memset(mix + (size_t)t * d->model.width, 0, sizeof(float) * hw);
    for (int begin = 0; begin < end; begin += 64) {
        int stop = begin + 64 < end ? begin + 64 : end;
        for (int t = 0; t < count; t++) {
            float *to = mix + (size_t)t * d->model.width;
            const float *row = scores + (size_t)t * room;
            int c = 0;
            for (; c + 4 * LANES <= hw; c += 4 * LANES) weigh(to + c, values + c, row, begin, stop, hw, 4);
            for (; c < hw; c += LANES) weigh(to + c, values + c, row, begin, stop, hw, 1);
        }
    }
}

static void norm_and_round_few(Decoder *d, Norm norm, const float *x, int token, int thread) {
    norm_few(&d->model, norm, x + (size_t)token * d->model.width, d->scratch[thread]);
    round_few(d->scratch[thread], d->model.width, d->few_in, token);
}

/* A head from its rows of query, key and value to its attention */
static void head_few(Decoder *d, const Layer *l, int index, int head, int thread) {
    const Model *m = &d->model;
    int width = m->width, hw = d->head_width, count = d->count, pairs = m->rotary / 2;
    int room = (d->offset + count + LANES - 1) / LANES * LANES;
    float *keys = d->cache + ((size_t)index * 2 * m->heads + head) * d->capacity * hw;
    float *values = keys + (size_t)m->heads * d->capacity * hw;
    for (int which = 0; which < 3; which++) {
        Span rows = {which * width + head * hw, which * width + (head + 1) * hw};
        product_few(&l->qkv, rows, d->few_in, count, NULL, d->few_y, 3 * width, SET);
    }
    for (int t = 0; t < count; t++) {
        float *y = d->few_y + (size_t)t * 3 * width + head * hw, cosines[WIDEST_ROTARY / 2], sines[WIDEST_ROTARY / 2];
        for (int i = 0; i < pairs; i++) {
            size_t at = (size_t)i * m->positions + (d->positions ? d->positions[t] : d->offset + t);
            cosines[i] = m->cosines[at], sines[i] = m->sines[at];
        }
        turn_few(m, y, cosines, sines);
        turn_few(m, y + width, cosines, sines);
        memcpy(keys + (size_t)(d->offset + t) * hw, y + width, sizeof(float) * hw);
        memcpy(values + (size_t)(d->offset + t) * hw, y + 2 * width, sizeof(float) * hw);
    }
    attend_few(d, head, keys, values, d->scratch[thread], room);
}

static void mlp_few(Decoder *d, const Layer *l, Span rows) {
    int hidden = d->model.hidden, count = d->count;
    product_few(&l->up, rows, d->few_in, count, l->up_bias, d->few_h, hidden, SET);
    float *gates = d->few_h + (size_t)FEW * hidden;
    if (l->gate.values) product_few(&l->gate, rows, d->few_in, count, NULL, gates, hidden, SET);
    for (int t = 0; t < count; t++)
        for (int r = rows.begin; r < rows.end; r += LANES) {
            float *h = d->few_h + (size_t)t * hidden + r;
            store(h, l->gate.values ? load(h) * silu(load(gates + (size_t)t * hidden + r)) : gelu(load(h)));
        }
}

/* A layer's phases. GPT-J's block has attention and MLP side by side, Llama's one after the other. */
enum { NORM, PROJECT, ROUND, ADD_UP, CODEGEN_PHASES };
enum { LLAMA_NORM, LLAMA_HEADS, LLAMA_ROUND, LLAMA_OUT, LLAMA_MLP_NORM, LLAMA_MLP, LLAMA_MLP_ROUND, LLAMA_DOWN, LLAMA_PHASES };

ALWAYS int phases_of_layer(const Model *m) { return m->llama ? LLAMA_PHASES : CODEGEN_PHASES; }

/* How many units a phase of a layer has, where norms and rounding are divided into so many */
static int units_of_layer(const Decoder *d, int phase, int parts) {
    const Model *m = &d->model;
    phase %= phases_of_layer(m);
    if (m->llama) {
        if (phase == LLAMA_HEADS) return m->heads;
        if (phase == LLAMA_OUT || phase == LLAMA_DOWN) return blocks(d, m->width);
        return phase == LLAMA_MLP ? blocks(d, m->hidden) : parts;
    }
    if (phase == PROJECT) return m->heads + blocks(d, m->hidden);
    if (phase == ADD_UP) return blocks(d, m->width);
    return phase == ROUND ? 2 * parts : parts;
}

static int few_units(const Decoder *d, int phase) { return units_of_layer(d, phase, d->count); }

static void few_unit(Decoder *d, int phase, int unit, int thread) {
    const Model *m = &d->model;
    int index = d->first_layer + phase / phases_of_layer(m), width = m->width, count = d->count;
    const Layer *l = m->layer + index;
    phase %= phases_of_layer(m);
    if (m->llama) switch (phase) {
        case LLAMA_NORM: norm_and_round_few(d, l->attention_norm, d->x, unit, thread); return;
        case LLAMA_HEADS: head_few(d, l, index, unit, thread); return;
        case LLAMA_ROUND: round_few(d->few_mix + (size_t)unit * width, width, d->few_mixed, unit); return;
        case LLAMA_OUT: product_few(&l->out, block(d, width, unit), d->few_mixed, count, NULL, d->x, width, ADD); return;
        case LLAMA_MLP_NORM: norm_and_round_few(d, l->mlp_norm, d->x, unit, thread); return;
        case LLAMA_MLP: mlp_few(d, l, block(d, m->hidden, unit)); return;
        case LLAMA_MLP_ROUND: round_few(d->few_h + (size_t)unit * m->hidden, m->hidden, d->few_hidden, unit); return;
        default: product_few(&l->down, block(d, width, unit), d->few_hidden, count, l->down_bias, d->x, width, ADD); return;
    }
    switch (phase) {
    case NORM: norm_and_round_few(d, l->attention_norm, d->x, unit, thread); return;
    case PROJECT:
        if (unit < m->heads) head_few(d, l, index, unit, thread);
        else mlp_few(d, l, block(d, m->hidden, unit - m->heads));
        return;
    case ROUND:
        if (unit < count) round_few(d->few_h + (size_t)unit * m->hidden, m->hidden, d->few_hidden, unit);
        else round_few(d->few_mix + (size_t)(unit - count) * width, width, d->few_mixed, unit - count);
        return;
    default:
        product_few(&l->out, block(d, width, unit), d->few_mixed, count, NULL, d->x, width, ADD);
        product_few(&l->down, block(d, width, unit), d->few_hidden, count, l->down_bias, d->x, width, ADD);
    }
}

static int logits_units(const Decoder *d, int phase) { return phase ? blocks(d, d->model.head.rows) : d->count; }

static void logits_unit(Decoder *d, int phase, int unit, int thread) {
    const Matrix *head = &d->model.head;
    if (!phase) norm_and_round_few(d, d->model.norm, d->hidden, unit, thread);
    else product_few(head, block(d, head->rows, unit), d->few_in, d->count, d->model.head_bias, d->logits, head->rows, SET);
}

/* Many tokens */

/* Rounds a group's (columns, LANES) by its tokens' largest values and packs four columns to a word */
static void round_many(const float *x, int columns, vf most, Rounded to, int group) {
    int depth = padded(columns);
    int8_t *q = to.q + (size_t)group * depth * LANES;
    most = vmax(most, all(1e-10f));
    vf by = 127.0f / most;
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
    store(to.step + group * LANES, most / 127.0f);
    store_i(to.excess + group * LANES, sum << 7);
}

ALWAYS vf largest_many(const float *x, int columns) {
    vf most = all(0);
    for (int c = 0; c < columns; c++) most = vmax(most, vabs(load(x + (size_t)c * LANES)));
    return most;
}

/* Long sums are taken in parts: added one after the other, a norm's error tips so many activations to another step that
   0.3 % of the next tokens change */
#define PARTS 8
ALWAYS vf sum_of_parts(const vf *part) {
    return ((part[0] + part[1]) + (part[2] + part[3])) + ((part[4] + part[5]) + (part[6] + part[7]));
}

static void norm_and_round_many(Decoder *d, Norm norm, int group, int thread) {
    int width = d->model.width;
    float *y = d->scratch[thread];
    const float *x = d->x + (size_t)group * width * LANES;
    vf part[PARTS] = {0}, most = all(0), mean = all(0), by;
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
        most = vmax(most, vabs(v));
        store(y + (size_t)c * LANES, v);
    }
    round_many(y, width, most, d->many_in, group);
}

typedef struct {
    float *y;      /* [group][stride][LANES], from the first row of the product on */
    int stride;
    const float *bias;
    int how;       /* SET, ADD or ACTIVATE */
} Target;

enum { ACTIVATE = 2 };

ALWAYS void finish(const Matrix *m, int row, int group, vi dot, Rounded in, int exact, Target to) {
    if (!exact) dot -= load_i(in.excess + group * LANES);
    vf value = vfloat(dot) * load(in.step + group * LANES) * m->steps[row];
    if (to.bias) value += to.bias[row];
    float *at = to.y + ((size_t)group * to.stride + row) * LANES;
    if (to.how == ADD) value += load(at);
    if (to.how == ACTIVATE) value = gelu(value);
    store(at, value);
}

ALWAYS void tile(const Matrix *m, int row, int rows, int group, Rounded in, int groups, Target to) {
    int depth = padded(m->columns);
    vi sum[TILE_ROWS][TILE_GROUPS];
    const int8_t *w[TILE_ROWS], *q = in.q + (size_t)group * depth * LANES;
    for (int i = 0; i < TILE_ROWS; i++) {
        w[i] = m->values + (size_t)(row + (i < rows ? i : rows - 1)) * m->columns;
        for (int j = 0; j < groups; j++) sum[i][j] = all_i(0);
    }
    for (int c = 0; c < depth; c += 4) {
        vi input[TILE_GROUPS];
        for (int j = 0; j < groups; j++) input[j] = load_i(q + ((size_t)j * depth + c) * LANES);
        for (int i = 0; i < TILE_ROWS; i++) {
            int32_t word;
            memcpy(&word, w[i] + c, 4);
            vi weights = all_i(word) ^ SIGN_BITS;
            for (int j = 0; j < groups; j++) sum[i][j] = dot4(sum[i][j], weights, input[j]);
        }
    }
    for (int i = 0; i < TILE_ROWS && i < rows; i++)
        for (int j = 0; j < groups; j++) finish(m, row + i, group + j, sum[i][j], in, 0, to);
}

#ifdef __AMX_INT8__
/* 32 rows of weights and 32 tokens: the weights' rows are a tile as they lie, and so are four packed columns */
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

/* `rows` of the product for the groups from `from` on */
static void product_many(Decoder *d, const Matrix *m, Span rows, int from, Rounded in, Target to) {
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
        for (; g + 4 <= groups; g += 4) tile(m, row, left, g, in, 4, to);
        if (g + 2 <= groups) tile(m, row, left, g, in, 2, to), g += 2;
        if (g < groups) tile(m, row, left, g, in, 1, to);
    }
}

/* Turns the pairs of one head of a group, (head width, LANES) */
static void turn_many(const Model *m, float *x, int position) {
    int pairs = m->rotary / 2;
    for (int i = 0; i < pairs; i++) {
        float *a = x + (size_t)(m->interleaved ? 2 * i : i) * LANES, *b = a + (size_t)(m->interleaved ? 1 : pairs) * LANES;
        vf c = load(m->cosines + (size_t)i * m->positions + position), s = load(m->sines + (size_t)i * m->positions + position);
        vf first = load(a), second = load(b);
        store(a, first * c - second * s);
        store(b, second * c + first * s);
    }
}

static void keep_many(float *to, const float *x, int head_width, int tokens) {
    for (int t = 0; t < tokens; t++)
        for (int c = 0; c < head_width; c++) to[(size_t)t * head_width + c] = x[(size_t)c * LANES + t];
}

#define KEYS 8

/* scores [key][groups][LANES] of `groups` groups with KEYS keys */
ALWAYS void score_keys(const float *query, size_t group_stride, const float *keys, int from, int end, int hw, float scale,
                       float *scores, int groups) {
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

ALWAYS void weigh_keys(const float *values, const float *weights, int end, int hw, float *mix, size_t group_stride,
                       const vf *by, int groups) {
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
            for (int j = 0; j < groups; j++) store(mix + j * group_stride + (size_t)(c + i) * LANES, sum[i][j] * by[j]);
    }
}

ALWAYS void attend_groups(Decoder *d, int head, int group, const float *keys, const float *values, float *scores,
                          int groups) {
    const Model *m = &d->model;
    int hw = d->head_width, first = d->offset + group * LANES, end = first + groups * LANES;
    if (end > d->offset + d->count) end = d->offset + d->count;
    const float *query = d->many_y + ((size_t)group * 3 * m->width + head * hw) * LANES;
    size_t stride = (size_t)3 * m->width * LANES;
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
    vf most[2], by[2];
    for (int j = 0; j < groups; j++) {
        most[j] = all(-INFINITY);
        for (int k = 0; k < end; k++) most[j] = vmax(most[j], load(scores + ((size_t)k * groups + j) * LANES));
        vf total = all(0);
        for (int k = 0; k < end; k++) {
            float *at = scores + ((size_t)k * groups + j) * LANES;
            vf score = load(at), p = vexp(score - most[j]);
            p = (vf)((vi)p & (score > -INFINITY));
            total += p;
            store(at, p);
        }
        by[j] = 1.0f / total;
    }
    float *mix = d->many_mix + ((size_t)group * m->width + head * hw) * LANES;
    weigh_keys(values, scores, end, hw, mix, (size_t)m->width * LANES, by, groups);
}

ALWAYS int groups_of(const Decoder *d) { return (d->count + LANES - 1) / LANES; }

static void head_many(Decoder *d, const Layer *l, int index, int head, int from, int thread) {
    const Model *m = &d->model;
    int width = m->width, hw = d->head_width, groups = groups_of(d);
    float *keys = d->cache + ((size_t)index * 2 * m->heads + head) * d->capacity * hw;
    float *values = keys + (size_t)m->heads * d->capacity * hw;
    for (int which = 0; which < 3; which++) {
        Span rows = {which * width + head * hw, which * width + (head + 1) * hw};
        product_many(d, &l->qkv, rows, which ? 0 : from, d->many_in, (Target){d->many_y, 3 * width, NULL, SET});
    }
    for (int g = 0; g < groups; g++) {
        int place = d->offset + g * LANES, left = d->count - g * LANES, tokens = left < LANES ? left : LANES;
        float *y = d->many_y + ((size_t)g * 3 * width + head * hw) * LANES;
        if (g >= from) turn_many(m, y, place);
        turn_many(m, y + (size_t)width * LANES, place);
        keep_many(keys + (size_t)place * hw, y + (size_t)width * LANES, hw, tokens);
        keep_many(values + (size_t)place * hw, y + (size_t)2 * width * LANES, hw, tokens);
    }
    int g = from;
    for (; g + 2 <= groups; g += 2) attend_groups(d, head, g, keys, values, d->scratch[thread], 2);
    if (g < groups) attend_groups(d, head, g, keys, values, d->scratch[thread], 1);
}

static void mlp_many(Decoder *d, const Layer *l, Span rows, int from) {
    int hidden = d->model.hidden, groups = groups_of(d);
    if (!l->gate.values) {
        product_many(d, &l->up, rows, from, d->many_in, (Target){d->many_h, hidden, l->up_bias, ACTIVATE});
        return;
    }
    float *gates = d->many_h + d->groups * hidden * LANES;
    product_many(d, &l->up, rows, from, d->many_in, (Target){d->many_h, hidden, l->up_bias, SET});
    product_many(d, &l->gate, rows, from, d->many_in, (Target){gates, hidden, NULL, SET});
    for (int g = from; g < groups; g++)
        for (int r = rows.begin; r < rows.end; r++) {
            size_t at = ((size_t)g * hidden + r) * LANES;
            store(d->many_h + at, load(d->many_h + at) * silu(load(gates + at)));
        }
}

static void round_group(const float *x, int columns, Rounded to, int group) {
    const float *own = x + (size_t)group * columns * LANES;
    round_many(own, columns, largest_many(own, columns), to, group);
}

/* The first group of whose tokens a layer's output is wanted */
ALWAYS int tail_of(const Decoder *d, int index) { return index == d->model.layers - 1 ? d->tail : 0; }

static int many_units(const Decoder *d, int phase) { return units_of_layer(d, phase, groups_of(d)); }

static void many_unit(Decoder *d, int phase, int unit, int thread) {
    const Model *m = &d->model;
    int index = d->first_layer + phase / phases_of_layer(m), width = m->width, groups = groups_of(d);
    int from = tail_of(d, index);
    const Layer *l = m->layer + index;
    Target x = {d->x, width, NULL, ADD}, biased = {d->x, width, l->down_bias, ADD};
    phase %= phases_of_layer(m);
    if (m->llama) switch (phase) {
        case LLAMA_NORM: norm_and_round_many(d, l->attention_norm, unit, thread); return;
        case LLAMA_HEADS: head_many(d, l, index, unit, from, thread); return;
        case LLAMA_ROUND:
            if (unit >= from) round_group(d->many_mix, width, d->many_mixed, unit);
            return;
        case LLAMA_OUT: product_many(d, &l->out, block(d, width, unit), from, d->many_mixed, x); return;
        case LLAMA_MLP_NORM:
            if (unit >= from) norm_and_round_many(d, l->mlp_norm, unit, thread);
            return;
        case LLAMA_MLP: mlp_many(d, l, block(d, m->hidden, unit), from); return;
        case LLAMA_MLP_ROUND:
            if (unit >= from) round_group(d->many_h, m->hidden, d->many_hidden, unit);
            return;
        default: product_many(d, &l->down, block(d, width, unit), from, d->many_hidden, biased); return;
    }
    switch (phase) {
    case NORM: norm_and_round_many(d, l->attention_norm, unit, thread); return;
    case PROJECT:
        if (unit < m->heads) head_many(d, l, index, unit, from, thread);
        else mlp_many(d, l, block(d, m->hidden, unit - m->heads), from);
        return;
    case ROUND:
        if (unit < groups) {
            if (unit >= from) round_group(d->many_h, m->hidden, d->many_hidden, unit);
        } else if (unit - groups >= from) {
            round_group(d->many_mix, width, d->many_mixed, unit - groups);
        }
        return;
    default:
        product_many(d, &l->out, block(d, width, unit), from, d->many_mixed, x);
        product_many(d, &l->down, block(d, width, unit), from, d->many_hidden, biased);
    }
}

/* What is called from Python */

/* Whether this processor and system have the instructions that this file was compiled for */
int codegen_supported(void) {
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE) || !(c & bit_FMA)) return 0;
    unsigned low, high;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    if ((low & 6) != 6) return 0;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(b & (1u << 5))) return 0;
#ifdef __AVX512F__
    if ((low & 0xe6) != 0xe6) return 0;
    if (!(b & (1u << 16)) || !(b & (1u << 17)) || !(b & (1u << 30)) || !(b & (1u << 31)) || !(c & (1u << 11))) return 0;
#elif defined(__AVXVNNI__)
    if (!__get_cpuid_count(7, 1, &a, &b, &c, &d) || !(a & (1u << 4))) return 0;
#endif
    return 1;
}

/* Whether the matrix unit (AMX) is there and the system lets this process use it */
static int has_tiles(void) {
#if defined(__AMX_INT8__) && defined(__linux__)
    unsigned a, b, c, d;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(d & (1u << 24)) || !(d & (1u << 25))) return 0;
    return syscall(SYS_arch_prctl, 0x1023 /* ARCH_REQ_XCOMP_PERM */, 18 /* the tiles' data */) == 0;
#else
    return 0;
#endif
}

/* Zeroed memory on a cache line; NULL where there is none */
static void *room_for(size_t bytes) {
    void *memory = NULL;
    if (posix_memalign(&memory, 64, bytes + 64)) return NULL;
    return memset(memory, 0, bytes + 64);
}

static int make_rounded(Rounded *to, size_t tokens, int columns) {
    to->q = room_for(tokens * padded(columns));
    to->step = room_for(tokens * sizeof(float));
    to->excess = room_for(tokens * sizeof(int32_t));
    return to->q && to->step && to->excess;
}

static void free_rounded(Rounded *r) {
    free(r->q), free(r->step), free(r->excess);
    *r = (Rounded){0};
}

static void free_many(Decoder *d) {
    free_rounded(&d->many_in), free_rounded(&d->many_mixed), free_rounded(&d->many_hidden);
    free(d->many_y), free(d->many_mix), free(d->many_h);
    d->many_y = d->many_mix = d->many_h = NULL;
    d->groups = 0;
}

static int make_many(Decoder *d, size_t groups) {
    const Model *m = &d->model;
    size_t tokens = groups * LANES;
    if (groups <= d->groups) return 1;
    free_many(d);
    d->many_y = room_for(tokens * 3 * m->width * sizeof(float));
    d->many_mix = room_for(tokens * m->width * sizeof(float));
    d->many_h = room_for(tokens * m->hidden * (m->llama ? 2 : 1) * sizeof(float));
    int made = make_rounded(&d->many_in, tokens, m->width) && make_rounded(&d->many_mixed, tokens, m->width) &&
               make_rounded(&d->many_hidden, tokens, m->hidden) && d->many_y && d->many_mix && d->many_h;
    if (made) d->groups = groups;
    else free_many(d);
    return made;
}

static int make_scratch(Decoder *d, size_t floats) {
    if (floats <= d->scratch_floats) return 1;
    d->scratch_floats = 0;
    for (int i = 0; i < d->threads; i++) {
        free(d->scratch[i]);
        d->scratch[i] = room_for(floats * sizeof(float));
        if (!d->scratch[i]) return 0;
    }
    d->scratch_floats = floats;
    return 1;
}

void codegen_free(Decoder *d) {
    change(d, ENDED);
    for (int i = 1; i < d->threads; i++) pthread_join(d->thread[i], NULL);
    for (int i = 0; i < MOST_THREADS; i++) free(d->scratch[i]);
    free_rounded(&d->few_in), free_rounded(&d->few_mixed), free_rounded(&d->few_hidden);
    free(d->few_y), free(d->few_mix), free(d->few_h);
    free_many(d);
    pthread_mutex_destroy(&d->mutex);
    pthread_cond_destroy(&d->changed);
    free(d);
}

/* How many pauses take so many microseconds here: their length differs fourfold between processors */
static int pauses(int microseconds) {
    struct timespec begin, end;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    for (int i = 0; i < 1000; i++) _mm_pause();
    clock_gettime(CLOCK_MONOTONIC, &end);
    int64_t ns = (int64_t)(end.tv_sec - begin.tv_sec) * 1000000000 + end.tv_nsec - begin.tv_nsec;
    return (int)(microseconds * 1000000LL / (ns > 1000 ? ns : 1000));
}

/* NULL when memory or threads are lacking. `microseconds`: how long a thread looks for what it waits for before it
   sleeps. `tiles`: whether the matrix unit may be used. */
Decoder *codegen_new(const Model *model, int threads, int microseconds, int tiles) {
    Decoder *d = room_for(sizeof(Decoder));
    if (!d) return NULL;
    d->model = *model;
    d->head_width = model->width / model->heads;
    d->amx = tiles && has_tiles();
    d->spins = pauses(microseconds);
    pthread_mutex_init(&d->mutex, NULL);
    pthread_cond_init(&d->changed, NULL);
    if (threads > MOST_THREADS) threads = MOST_THREADS;
    atomic_store(&d->now, IDLE);
    int made = make_rounded(&d->few_in, FEW, model->width) && make_rounded(&d->few_mixed, FEW, model->width) &&
               make_rounded(&d->few_hidden, FEW, model->hidden);
    d->few_y = room_for((size_t)FEW * 3 * model->width * sizeof(float));
    d->few_mix = room_for((size_t)FEW * model->width * sizeof(float));
    d->few_h = room_for((size_t)2 * FEW * model->hidden * sizeof(float));
    made &= d->few_y && d->few_mix && d->few_h;
    d->threads = threads;
    for (int i = 1; i < threads && made; i++) {
        Member *member = malloc(sizeof(Member));
        if (member) *member = (Member){d, i};
        if (!member || pthread_create(&d->thread[i], NULL, work, member)) {
            free(member);
            d->threads = i;
            made = 0;
        }
    }
    if (made) return d;
    codegen_free(d);
    return NULL;
}

int codegen_lanes(void) { return LANES; }
int codegen_few(void) { return FEW; }

/* What goes into the first layer: (count, width) if `count` <= FEW, else [group][width][LANES] */
void codegen_embed(const Decoder *d, const int32_t *ids, int count, float *x) {
    const Matrix *e = &d->model.embedding;
    for (int t = 0; t < count; t++) {
        const int8_t *row = e->values + (size_t)ids[t] * e->columns;
        float step = e->steps[ids[t]];
        float *to = count <= FEW ? x + (size_t)t * e->columns : x + (size_t)(t / LANES) * e->columns * LANES + t % LANES;
        int apart = count <= FEW ? 1 : LANES;
        for (int c = 0; c < e->columns; c++) to[(size_t)c * apart] = row[c] * step;
    }
}

/* Runs layers first .. end - 1 over `x`, whose tokens' keys and values go to the places of the cache from `offset` on.
   `positions` and `visible` (count, offset + count) are for few tokens only, and may be NULL. In the model's last layer
   only tokens from the group `tail` on are computed, where they are many. Gives 0 when memory is lacking. */
int codegen_layers(Decoder *d, float *x, int count, int first, int end, float *cache, int capacity, int offset,
                   const int32_t *positions, const float *visible, int tail) {
    d->x = x, d->count = count, d->first_layer = first, d->tail = tail;
    d->cache = cache, d->capacity = capacity, d->offset = offset, d->positions = positions, d->visible = visible;
    size_t places = (size_t)offset + count + LANES;
    int phases = (end - first) * phases_of_layer(&d->model);
    if (count <= FEW) {
        if (!make_scratch(d, places * FEW + d->model.width)) return 0;
        run(d, (Job){few_units, few_unit, phases, 0});
        return 1;
    }
    size_t scores = places * 2 * LANES, normed = (size_t)d->model.width * LANES;
    if (!make_scratch(d, scores > normed ? scores : normed)) return 0;
    if (!make_many(d, (count + LANES - 1) / LANES)) return 0;
    run(d, (Job){many_units, many_unit, phases, d->amx});
    return 1;
}

/* Logits (count, rows of the head) of `count` <= FEW hidden states (count, width). Gives 0 when memory is lacking. */
int codegen_logits(Decoder *d, const float *hidden, int count, float *logits) {
    d->hidden = hidden, d->count = count, d->logits = logits;
    if (!make_scratch(d, d->model.width)) return 0;
    run(d, (Job){logits_units, logits_unit, 2, 0});
    return 1;
}
