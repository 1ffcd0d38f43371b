// Successor counts of token n-grams over an indexed text.
//
// A segment is a text of n token ids (uint16) with three arrays over it:
//   order[n]  positions sorted by the tokens before them, nearest first: position i is compared with position j by
//             text[i-1], text[i-2], … , at most NG_DEPTH tokens. The positions that follow one context are then
//             contiguous, and the range of a context of k + 1 tokens lies within that of its last k.
//   next[n]   text[order[.]]: the successor at each place of `order`, so that counting reads memory in sequence.
//   tables    successor counts of contexts with more than NG_DENSE occurrences, so that no query reads a long range.
// Texts of several files follow each other with NG_GAP between them. No context of a query contains NG_GAP, so no match
// crosses it; positions whose successor is NG_GAP are not counted.
//
// Memory per token: 2 (text) + 4 (order) + 2 (next) bytes, and the tables (0.3 bytes on Python source).
//
// Sorting is prefix doubling (Manber and Myers, "Suffix Arrays: A New Method for On-Line String Searches", 1993), stopped
// at depth NG_DEPTH. A query narrows the range of the context token by token with binary searches.

#include <float.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "export.h"

#define NG_GAP 0xFFFFu
#define NG_DEPTH 16
#define NG_ORDERS 7
#define NG_DENSE 2048

static const int ORDERS[NG_ORDERS] = {1, 2, 3, 5, 8, 12, 16};

typedef struct {
    uint32_t low;      // start of the context's range in `order`
    uint32_t begin;    // its entries are entries[begin .. begin + length)
    uint32_t length;
    uint32_t total;    // occurrences that have a successor
} ng_table;

typedef struct {
    uint32_t token;
    uint32_t count;
} ng_entry;

typedef struct {
    const uint16_t *text;
    const uint32_t *order;
    const uint16_t *next;
    const ng_table *tables;      // those of ORDERS[0], then of ORDERS[1], …; each sorted by `low`
    const ng_entry *entries;
    uint64_t size;               // tokens
    uint32_t first_table[NG_ORDERS + 1];
    int32_t sign;                // 1: counted; -1: counts are subtracted (a file that another segment still holds)
} ng_segment;

// Version of the functions' parameters, and sizes of the structures that ctypes mirrors, to be compared before anything
// else is called.
#define NG_VERSION 2
EXPORT int64_t ng_abi(void) {
    return NG_VERSION * 100000000LL + (int64_t)sizeof(ng_segment) * 10000 + sizeof(ng_table) * 100 + sizeof(ng_entry);
}

// ---------------------------------------------------------------------------------------------------------- building

// Fill order[n] and next[n] from text[n]; n < 2^32 - 1. Returns 0, or -1 when memory is lacking.
// Time: O(n), five counting sorts. Memory while it runs: 16 bytes a token.
EXPORT int ng_sort(const uint16_t *text, uint64_t n, uint32_t *order, uint16_t *next) {
    if (n == 0) return 0;
    uint32_t classes = 0x10001;
    uint32_t *rank = malloc(n * 4), *fresh = malloc(n * 4), *moved = malloc(n * 4);
    uint32_t *count = malloc(((n > classes ? n : classes) + 1) * 4);
    int failed = !rank || !fresh || !moved || !count;
    if (!failed) {
        // Depth 1: by the token before; the first position has none and comes first.
        memset(count, 0, (classes + 1) * 4);
        for (uint64_t i = 0; i < n; i++) rank[i] = i ? text[i - 1] + 1u : 0u;
        for (uint64_t i = 0; i < n; i++) count[rank[i] + 1]++;
        for (uint32_t c = 0; c < classes; c++) count[c + 1] += count[c];
        for (uint64_t i = 0; i < n; i++) order[count[rank[i]]++] = (uint32_t)i;
        // Ranks: the place of a class's first position.
        uint32_t last = 0;
        fresh[order[0]] = 0;
        for (uint64_t p = 1; p < n; p++) {
            if (rank[order[p]] != rank[order[p - 1]]) last = (uint32_t)p;
            fresh[order[p]] = last;
        }
        uint32_t *swap = rank; rank = fresh; fresh = swap;
        for (uint64_t depth = 1; depth < NG_DEPTH; depth *= 2) {
            // Stable by the second half: positions in the order of position - depth, shifted; those without come first.
            uint64_t m = 0;
            for (uint64_t i = 0; i < depth && i < n; i++) moved[m++] = (uint32_t)i;
            for (uint64_t p = 0; p < n; p++)
                if ((uint64_t)order[p] + depth < n) moved[m++] = order[p] + (uint32_t)depth;
            // `rank` is the start of each class: counting sort by it, stable.
            for (uint64_t p = 0; p < n; p++) count[p] = (uint32_t)p;
            for (uint64_t p = 0; p < n; p++) order[count[rank[moved[p]]]++] = moved[p];
            last = 0;
            fresh[order[0]] = 0;
            for (uint64_t p = 1; p < n; p++) {
                uint32_t a = order[p - 1], b = order[p];
                int same = rank[a] == rank[b] &&
                           (a >= depth ? rank[a - depth] : UINT32_MAX) == (b >= depth ? rank[b - depth] : UINT32_MAX) &&
                           a >= depth;
                if (!same) last = (uint32_t)p;
                fresh[b] = last;
            }
            swap = rank; rank = fresh; fresh = swap;
        }
        for (uint64_t p = 0; p < n; p++) next[p] = text[order[p]];
    }
    free(rank); free(fresh); free(moved); free(count);
    return failed ? -1 : 0;
}

// The token `back` places before position i; NG_GAP where the text has none.
static inline uint16_t before(const uint16_t *text, uint32_t i, uint32_t back) {
    return i >= back ? text[i - back] : NG_GAP;
}

// Count the contexts of more than NG_DENSE occurrences. With tables and entries NULL only sizes are given: counts[k] the
// tables of order k, *entry_count the entries of all. `scratch` has 65,536 zeros and has them again at the end.
EXPORT void ng_tables(const uint16_t *text, uint64_t n, const uint32_t *order, const uint16_t *next, uint32_t *scratch,
               ng_table *tables, ng_entry *entries, uint32_t *counts, uint64_t *entry_count) {
    uint64_t made = 0, filled = 0;
    for (int k = 0; k < NG_ORDERS; k++) {
        counts[k] = 0;
        uint64_t low = 0;
        while (low < n) {
            // The class of `low` at this order ends where one of the tokens before differs.
            uint64_t high = low + 1;
            uint32_t head = order[low];
            int whole = head >= (uint32_t)ORDERS[k];
            for (int back = 1; whole && back <= ORDERS[k]; back++) whole = text[head - back] != NG_GAP;
            if (whole && low + NG_DENSE < n) {
                // Only a class that reaches NG_DENSE further is wanted: look there first.
                uint32_t far = order[low + NG_DENSE];
                int same = 1;
                for (int back = 1; same && back <= ORDERS[k]; back++)
                    same = before(text, far, back) == text[head - back];
                if (same) {
                    high = low + NG_DENSE + 1;
                    for (; high < n; high++) {
                        uint32_t other = order[high];
                        int equal = 1;
                        for (int back = ORDERS[k]; equal && back >= 1; back--)
                            equal = before(text, other, back) == text[head - back];
                        if (!equal) break;
                    }
                    uint64_t begin = filled;
                    uint32_t total = 0;
                    for (uint64_t p = low; p < high; p++) scratch[next[p]]++;
                    for (uint64_t p = low; p < high; p++) {
                        uint16_t token = next[p];
                        if (!scratch[token]) continue;
                        if (token != NG_GAP) {
                            if (entries) entries[filled] = (ng_entry){token, scratch[token]};
                            filled++;
                            total += scratch[token];
                        }
                        scratch[token] = 0;
                    }
                    if (tables)
                        tables[made] = (ng_table){(uint32_t)low, (uint32_t)begin, (uint32_t)(filled - begin), total};
                    made++;
                    counts[k]++;
                }
            }
            low = high;
        }
    }
    *entry_count = filled;
}

// ----------------------------------------------------------------------------------------------------------- queries

// First place in order[low, high) whose position has a token >= wanted `back` places before it.
static uint64_t bound(const ng_segment *s, uint64_t low, uint64_t high, uint32_t back, uint32_t wanted) {
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        uint32_t i = s->order[middle];
        uint32_t token = i >= back ? s->text[i - back] + 1u : 0u;  // no token comes first, as in ng_sort
        if (token < wanted + 1u) low = middle + 1; else high = middle;
    }
    return low;
}

static const ng_table *table_of(const ng_segment *s, int k, uint64_t low) {
    uint32_t a = s->first_table[k], b = s->first_table[k + 1];
    while (a < b) {
        uint32_t middle = a + (b - a) / 2;
        if (s->tables[middle].low < low) a = middle + 1; else b = middle;
    }
    return a < s->first_table[k + 1] && s->tables[a].low == low ? &s->tables[a] : NULL;
}

typedef struct {
    int32_t *counts;     // by token; zero between calls
    double *gains;       // by token; zero between calls
    uint16_t *touched;   // tokens with a count
    uint16_t *gained;    // tokens with a gain
} ng_scratch;

#define NG_CANCELLED INT32_MIN  // a token that was touched and whose count is zero for now

static inline int64_t add(ng_scratch *scratch, int64_t touched, uint16_t token, int32_t amount) {
    int32_t now = scratch->counts[token];
    if (!now) scratch->touched[touched++] = token;
    if (now == NG_CANCELLED) now = 0;
    now += amount;
    scratch->counts[token] = now ? now : NG_CANCELLED;
    return touched;
}

// Ranges of the context in each segment at each order: ranges[(segment * NG_ORDERS + k) * 2 ..] = low, high; empty ones are
// zeros. `context` ends with the last token.
EXPORT void ng_ranges(const ng_segment *segments, int count, const uint16_t *context, int length, uint64_t *ranges) {
    memset(ranges, 0, (size_t)count * NG_ORDERS * 2 * sizeof *ranges);
    for (int g = 0; g < count; g++) {
        const ng_segment *s = &segments[g];
        uint64_t low = 0, high = s->size;
        int k = 0;
        for (int back = 1; back <= length && back <= NG_DEPTH; back++) {
            uint16_t token = context[length - back];
            if (token == NG_GAP) break;
            low = bound(s, low, high, back, token);
            high = bound(s, low, high, back, token + 1u);
            if (low >= high) break;
            if (back == ORDERS[k]) {
                ranges[(g * NG_ORDERS + k) * 2] = low;
                ranges[(g * NG_ORDERS + k) * 2 + 1] = high;
                k++;
            }
        }
    }
}

// Range of the positions whose context agrees longest with `context`: *low, *high. Returns how many tokens agree (0 to
// NG_DEPTH); with 0 the range is empty.
EXPORT int ng_longest(const ng_segment *s, const uint16_t *context, int length, uint64_t *low, uint64_t *high) {
    uint64_t from = 0, to = s->size;
    int agreement = 0;
    *low = *high = 0;
    for (int back = 1; back <= length && back <= NG_DEPTH; back++) {
        uint16_t token = context[length - back];
        if (token == NG_GAP) break;
        from = bound(s, from, to, back, token);
        to = bound(s, from, to, back, token + 1u);
        if (from >= to) break;
        agreement = back;
        *low = from;
        *high = to;
    }
    return agreement;
}

// Mix the successor counts of all orders, from the shortest context to the longest, each with weight
// w = N / (N + caution[k] U) (N occurrences, U different successors; U is `single` where there is one successor)
// against all shorter ones and the model:
//   p <- (1 - w) p + w c / N
// in the form p + gain, before division by the sum. Writes tokens and gains, returns their number; *share is the weight
// that is left to the model. Orders whose share is below `negligible` are left out (weight 0), so the mixture stays
// normalised. An order whose caution is infinite is left out.
EXPORT int64_t ng_mix(const ng_segment *segments, int count, const uint64_t *ranges, const double *caution, double negligible, double single,
               ng_scratch *scratch, uint16_t *tokens, double *gains, double *share) {
    double left = 1.0;
    int64_t gained = 0;
    for (int k = NG_ORDERS - 1; k >= 0 && left > negligible; k--) {
        if (caution[k] > DBL_MAX) continue;
        int64_t touched = 0;
        for (int g = 0; g < count; g++) {
            const ng_segment *s = &segments[g];
            uint64_t low = ranges[(g * NG_ORDERS + k) * 2], high = ranges[(g * NG_ORDERS + k) * 2 + 1];
            if (low >= high) continue;
            const ng_table *table = high - low > NG_DENSE ? table_of(s, k, low) : NULL;
            if (table) {
                for (uint32_t e = table->begin; e < table->begin + table->length; e++)
                    touched = add(scratch, touched, (uint16_t)s->entries[e].token,
                                  s->sign * (int32_t)s->entries[e].count);
            } else {
                for (uint64_t p = low; p < high; p++)
                    if (s->next[p] != NG_GAP) touched = add(scratch, touched, s->next[p], s->sign);
            }
        }
        int64_t total = 0, different = 0;
        for (int64_t t = 0; t < touched; t++) {
            int32_t c = scratch->counts[scratch->touched[t]];
            if (c > 0) total += c, different++;
        }
        if (total) {
            double successors = different == 1 ? single : (double)different;
            double weight = (double)total / ((double)total + caution[k] * successors);
            double factor = left * weight / (double)total;
            for (int64_t t = 0; t < touched; t++) {
                uint16_t token = scratch->touched[t];
                int32_t c = scratch->counts[token];
                if (c > 0) {
                    if (scratch->gains[token] == 0.0) scratch->gained[gained++] = token;
                    scratch->gains[token] += factor * c;
                }
            }
            left *= 1.0 - weight;
        }
        for (int64_t t = 0; t < touched; t++) scratch->counts[scratch->touched[t]] = 0;
    }
    for (int64_t t = 0; t < gained; t++) {
        uint16_t token = scratch->gained[t];
        tokens[t] = token;
        gains[t] = scratch->gains[token];
        scratch->gains[token] = 0.0;
    }
    *share = left;
    return gained;
}
