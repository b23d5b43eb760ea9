/* Convolutions as products with the matrix of patches, which is never made.
 *
 * A row of that matrix is the part of the image that one output sees. Rows of one line begin at equal distances, and in
 * each the terms of taps that are neighbours lie next to each other. So a tile reads its patches straight from the image,
 * piece by piece; where patches reach over the edge, from a copy of some lines with zeros around them.
 */
#ifndef HPCNN_PATCHES_H
#define HPCNN_PATCHES_H

#include "registers.h"
#include "views.h"

/* What all tiles share. */
struct patch_job {
    const struct piece *pieces;
    index_t place, step; /* of x: from row to row, from term to term within a piece */
    index_t level;       /* numbers from a sum on the stack to the next */
    int activation, keeps;
};

/* A tile, and where each of its rows is written: out + place[row]. */
struct patch_tile {
    const real *x;
    struct factor y;
    index_t rows, columns;
    real *top; /* of the stack */
    real *out;
    real *saved;      /* or NULL */
    const real *bias; /* or NULL */
    index_t place[MR];
};

/* Apply bias and activation to sums that lie in rows of NR numbers, and write them out. */
static void finish_patches(const struct patch_job *job, const struct patch_tile *tile, real *sums) {
    for (index_t v = 0; v < tile->columns; v += WIDTH) {
        index_t count = tile->columns - v;
        vec bias = tile->bias ? load_some(tile->bias + v, count) : all(0);
        for (index_t r = 0; r < tile->rows; r++) {
            vec z = load(sums + r * NR + v);
            if (tile->bias) z = z + bias;
            real *saved = tile->saved ? tile->saved + tile->place[r] + v : NULL;
            write_activated(job->activation, z, count, tile->out + tile->place[r] + v, saved, job->keeps);
        }
    }
}

/* The same from the registers, for what is frequent. */
INLINE void write_patches(int rows, int vectors, const struct patch_job *job, const struct patch_tile *tile, vec acc[MR][VECTORS]) {
    index_t last = tile->columns - (vectors - 1) * WIDTH;
    if (tile->bias)
        UNROLL for (int v = 0; v < vectors; v++) {
            vec bias = load_some(tile->bias + v * WIDTH, tile->columns - v * WIDTH);
            UNROLL for (int r = 0; r < rows; r++) acc[r][v] = acc[r][v] + bias;
        }
    if (job->activation == RELU)
        UNROLL for (int r = 0; r < rows; r++) UNROLL for (int v = 0; v < vectors; v++) acc[r][v] = relu(acc[r][v]);
    if (!job->keeps)
        UNROLL for (int r = 0; r < rows; r++) UNROLL for (int v = 0; v < vectors; v++) acc[r][v] = flushed(acc[r][v]);
    UNROLL for (int r = 0; r < rows; r++) {
        real *out = tile->out + tile->place[r];
        UNROLL for (int v = 0; v < vectors - 1; v++) store(out + v * WIDTH, acc[r][v]);
        if (last == WIDTH) store(out + (vectors - 1) * WIDTH, acc[r][vectors - 1]);
        else store_part(out + (vectors - 1) * WIDTH, acc[r][vectors - 1], last);
    }
}

INLINE void sum_patches(int rows, int vectors, const struct patch_job *job, const struct patch_tile *tile) {
    struct factor y = tile->y;
    real *top = tile->top;
    vec acc[MR][VECTORS];
    UNROLL for (int r = 0; r < rows; r++) UNROLL for (int v = 0; v < vectors; v++) acc[r][v] = all(0);
    for (const struct piece *piece = job->pieces;; piece++) {
        add_terms(rows, vectors, acc, (struct factor){tile->x + piece->offset, job->place, job->step}, y, piece->terms);
        y.at += piece->terms * y.step;
        if (piece->then == GO_ON) continue;
        for (index_t add = 0; add < piece->adds; add++) {
            top -= job->level;
            UNROLL for (int r = 0; r < rows; r++) UNROLL for (int v = 0; v < vectors; v++) acc[r][v] = load(top + r * NR + v * WIDTH) + acc[r][v];
        }
        if (piece->then == FINISH && job->activation <= RELU && !tile->saved && (HAS_MASKS || tile->columns == vectors * WIDTH)) {
            write_patches(rows, vectors, job, tile, acc);
            return;
        }
        UNROLL for (int r = 0; r < rows; r++) UNROLL for (int v = 0; v < vectors; v++) store(top + r * NR + v * WIDTH, acc[r][v]);
        if (piece->then == FINISH) {
            finish_patches(job, tile, top);
            return;
        }
        top += job->level;
        if (job->keeps) return; /* a gradient's next block comes later */
        UNROLL for (int r = 0; r < rows; r++) UNROLL for (int v = 0; v < vectors; v++) acc[r][v] = all(0);
    }
}

#define DEFINE_PATCH(rows, vectors) static void patch_##rows##_##vectors(const struct patch_job *job, const struct patch_tile *tile) { sum_patches(rows, vectors, job, tile); }
#if VECTORS == 3
#define DEFINE_PATCHES(rows) DEFINE_PATCH(rows, 1) DEFINE_PATCH(rows, 2) DEFINE_PATCH(rows, 3)
#define PATCHES(rows) {patch_##rows##_1, patch_##rows##_2, patch_##rows##_3}
#else
#define DEFINE_PATCHES(rows) DEFINE_PATCH(rows, 1) DEFINE_PATCH(rows, 2)
#define PATCHES(rows) {patch_##rows##_1, patch_##rows##_2}
#endif
ALL_ROWS(DEFINE_PATCHES)
static void (*const patches[MR][VECTORS])(const struct patch_job *job, const struct patch_tile *tile) = {LIST_ROWS(PATCHES)};

static inline void do_patch(const struct patch_job *job, const struct patch_tile *tile) {
    patches[tile->rows - 1][padded(tile->columns) / WIDTH - 1](job, tile);
}

#endif
