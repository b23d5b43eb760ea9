/* What all products are made of: sums of products in the registers, and panels that are packed for them.
 *
 * The factor whose numbers are broadcast is called x (a row of it belongs to a row of the tile), the one that is loaded
 * as vectors y.
 */
#ifndef HPCNN_REGISTERS_H
#define HPCNN_REGISTERS_H

#include "activations.h"

#if ISA_NUMBER == ISA_avx512
#define MR 14
#define VECTORS 2
#elif ISA_NUMBER == ISA_avx2
#define MR 6
#define VECTORS 2
#elif ISA_NUMBER == ISA_neon
#define MR 8
#define VECTORS 3
#else
#define MR 2
#define VECTORS 2
#endif
#define NR (VECTORS * WIDTH)
#define TILE (MR * NR)

#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

struct stretch {
    index_t terms;
    index_t adds;  /* sums that are then added, the latest first */
    index_t group; /* whose sum is complete with that; -1: the sum is put on the stack */
};

struct factor {
    const real *at;
    index_t place; /* stride from a row of x to the next, from a column of y to the next */
    index_t step;  /* stride from a term to the next */
};

static inline index_t least(index_t a, index_t b) { return a < b ? a : b; }
static inline index_t most(index_t a, index_t b) { return a > b ? a : b; }
static inline index_t parts(index_t all_, index_t part) { return (all_ + part - 1) / part; }
static inline index_t padded(index_t columns) { return parts(columns, WIDTH) * WIDTH; }
INLINE vec load_some(const real *from, index_t count) { return count >= WIDTH ? load(from) : load_part(from, count); }
INLINE void store_some(real *to, vec v, index_t count) {
    if (count >= WIDTH) store(to, v);
    else store_part(to, v, count);
}

/* acc[r][v] += x[r] y[v] for each of `terms` terms in order. */
INLINE void add_terms(int rows, int vectors, vec acc[MR][VECTORS], struct factor x, struct factor y, index_t terms) {
    const real *base[(MR + 2) / 3]; /* of three rows each: addresses without a register for each row */
    UNROLL for (int r = 0; r < rows; r += 3) base[r / 3] = x.at + r * x.place;
    for (index_t p = 0; p < terms; p++) {
        vec b[VECTORS];
        UNROLL for (int v = 0; v < vectors; v++) b[v] = load(y.at + v * WIDTH);
        UNROLL for (int r = 0; r < rows; r++) {
            vec a = all(base[r / 3][r % 3 * x.place]);
            UNROLL for (int v = 0; v < vectors; v++) acc[r][v] = fma_(a, b[v], acc[r][v]);
        }
        UNROLL for (int r = 0; r < rows; r += 3) base[r / 3] += x.step;
        y.at += y.step;
    }
}

static inline struct factor moved(struct factor f, index_t places) { return (struct factor){f.at + places * f.place, f.place, f.step}; }

/* A panel of y, term by term, with zeros up to whole vectors. Terms of a column that lie next to each other are
 * transposed in blocks. */
static inline void pack_panel(struct factor from, index_t columns, index_t terms, real *to) {
    index_t width = padded(columns), blocks = from.step == 1 && from.place != 1 ? terms / WIDTH : 0;
    for (index_t p = 0; p < blocks * WIDTH; p += WIDTH)
        for (index_t c = 0; c < width; c += WIDTH) {
            vec block[WIDTH];
            for (index_t j = 0; j < WIDTH; j++) block[j] = c + j < columns ? load(from.at + (c + j) * from.place + p) : all(0);
            transpose(block);
            for (index_t j = 0; j < WIDTH; j++) store(to + (p + j) * width + c, block[j]);
        }
    for (index_t p = blocks * WIDTH; p < terms; p++) {
        const real *term = from.at + p * from.step;
        if (from.place == 1)
            for (index_t c = 0; c < width; c += WIDTH) store(to + p * width + c, load_some(term + c, columns - c));
        else
            for (index_t c = 0; c < width; c++) to[p * width + c] = c < columns ? term[c * from.place] : 0;
    }
}

/* The blocks of all leaves, in order. Returns how many; `walk` may be NULL. */
static inline index_t walk_shards(const struct shards *shards, struct stretch *walk) {
    index_t count = 0;
    for (index_t g = 0; g < shards->groups; g++)
        for (index_t l = shards->group_leaf[g]; l < shards->group_leaf[g + 1]; l++) {
            index_t rows = shards->leaf_row[l + 1] - shards->leaf_row[l], blocks = most(1, parts(rows, BLOCK_TERMS));
            for (index_t i = 0; walk && i < blocks; i++) {
                int ends = i == blocks - 1;
                walk[count + i] = (struct stretch){least(BLOCK_TERMS, rows - i * BLOCK_TERMS), (i > 0) + (ends ? shards->folds[l] : 0),
                                                   ends && l == shards->group_leaf[g + 1] - 1 ? g : -1};
            }
            count += blocks;
        }
    return count;
}

static inline real *at_line(void *memory) { return (real *)(((uintptr_t)memory + 63) & ~(uintptr_t)63); }

/* Functions for each number of rows of a tile. */
#if MR == 14
#define ALL_ROWS(F) F(1) F(2) F(3) F(4) F(5) F(6) F(7) F(8) F(9) F(10) F(11) F(12) F(13) F(14)
#define LIST_ROWS(F) F(1), F(2), F(3), F(4), F(5), F(6), F(7), F(8), F(9), F(10), F(11), F(12), F(13), F(14)
#elif MR == 8
#define ALL_ROWS(F) F(1) F(2) F(3) F(4) F(5) F(6) F(7) F(8)
#define LIST_ROWS(F) F(1), F(2), F(3), F(4), F(5), F(6), F(7), F(8)
#elif MR == 6
#define ALL_ROWS(F) F(1) F(2) F(3) F(4) F(5) F(6)
#define LIST_ROWS(F) F(1), F(2), F(3), F(4), F(5), F(6)
#else
#define ALL_ROWS(F) F(1) F(2)
#define LIST_ROWS(F) F(1), F(2)
#endif

#endif
