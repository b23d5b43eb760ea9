/* Tiles of a product: sums in the registers.
 *
 * A tile of the output, MR rows and some vectors wide, lies in the registers while its terms are added, along a `walk`:
 * stretches of terms, each followed by additions of earlier sums. Blocks of terms and leaves of the tree are the same to
 * it. What is computed last is always the rightmost leaf, so that the tile in the registers takes in the sums that wait
 * on the stack before it is put there itself, and is stored once.
 */
#ifndef HPCNN_TILES_H
#define HPCNN_TILES_H

#include "registers.h"

struct job {
    struct factor x, y;
    index_t rows, columns, terms; /* rows of x, columns of y */
    struct stretch *walk;
    index_t stretches;
    real *stack;
    int swapped; /* whether x gives the columns of the output, and y its rows */
    void *const *out; /* of each group */
    index_t out_row, first_row, first_column;
    const real *bias;
    real *saved;
    int activation;
    int streams; /* whether the output is written past the caches */
    int keeps;   /* whether nothing is flushed: other sums are added to these along the tree */
};

/* Write sums from the registers. */
INLINE void write_sums(int rows, int vectors, const struct job *job, vec acc[MR][VECTORS], index_t group, index_t row, index_t column, index_t columns) {
    real *out = (real *)job->out[group] + (job->first_row + row) * job->out_row + job->first_column + column;
    int whole_vectors = columns == vectors * WIDTH;
    if (job->bias)
        UNROLL for (int v = 0; v < vectors; v++) {
            vec bias = load_some(job->bias + job->first_column + column + v * WIDTH, columns - v * WIDTH);
            UNROLL for (int r = 0; r < rows; r++) acc[r][v] = acc[r][v] + bias;
        }
    if (job->activation == RELU)
        UNROLL for (int r = 0; r < rows; r++) UNROLL for (int v = 0; v < vectors; v++) acc[r][v] = relu(acc[r][v]);
    if (!job->keeps)
        UNROLL for (int r = 0; r < rows; r++) UNROLL for (int v = 0; v < vectors; v++) acc[r][v] = flushed(acc[r][v]);
    if (job->streams && whole_vectors)
        UNROLL for (int r = 0; r < rows; r++, out += job->out_row) UNROLL for (int v = 0; v < vectors; v++) stream(out + v * WIDTH, acc[r][v]);
    else if (!HAS_MASKS || whole_vectors)
        UNROLL for (int r = 0; r < rows; r++, out += job->out_row) UNROLL for (int v = 0; v < vectors; v++) store(out + v * WIDTH, acc[r][v]);
    else
        UNROLL for (int r = 0; r < rows; r++, out += job->out_row) {
            UNROLL for (int v = 0; v < vectors - 1; v++) store(out + v * WIDTH, acc[r][v]);
            store_part(out + (vectors - 1) * WIDTH, acc[r][vectors - 1], columns - (vectors - 1) * WIDTH);
        }
}

/* A tile of the output, and the panels that give it. */
struct tile {
    struct factor x, y;
    index_t row, rows, column, columns;
};

static void finish_tile(const struct job *job, index_t group, const struct tile *tile, real *sums);

INLINE void sum_tile(int rows, int vectors, const struct job *job, const struct tile *tile) {
    struct factor x = tile->x, y = tile->y;
    index_t columns = tile->columns;
    int at_once = !job->swapped && (HAS_MASKS || columns == vectors * WIDTH) && !job->saved && job->activation <= RELU;
    real *top = job->stack;
    for (const struct stretch *s = job->walk; s < job->walk + job->stretches; s++) {
        vec acc[MR][VECTORS];
        UNROLL for (int r = 0; r < rows; r++) UNROLL for (int v = 0; v < vectors; v++) acc[r][v] = all(0);
        add_terms(rows, vectors, acc, x, y, s->terms);
        x.at += s->terms * x.step;
        y.at += s->terms * y.step;
        for (index_t add = 0; add < s->adds; add++) {
            top -= TILE;
            UNROLL for (int r = 0; r < rows; r++) UNROLL for (int v = 0; v < vectors; v++) acc[r][v] = load(top + r * NR + v * WIDTH) + acc[r][v];
        }
        if (s->group >= 0 && at_once) {
            write_sums(rows, vectors, job, acc, s->group, tile->row, tile->column, columns);
            continue;
        }
        UNROLL for (int r = 0; r < rows; r++) UNROLL for (int v = 0; v < vectors; v++) store(top + r * NR + v * WIDTH, acc[r][v]);
        if (s->group < 0)
            top += TILE;
        else
            finish_tile(job, s->group, tile, top);
    }
}

#define DEFINE_TILE(rows, vectors) static void tile_##rows##_##vectors(const struct job *job, const struct tile *tile) { sum_tile(rows, vectors, job, tile); }
#if VECTORS == 3
#define DEFINE_TILES(rows) DEFINE_TILE(rows, 1) DEFINE_TILE(rows, 2) DEFINE_TILE(rows, 3)
#define TILES(rows) {tile_##rows##_1, tile_##rows##_2, tile_##rows##_3}
#else
#define DEFINE_TILES(rows) DEFINE_TILE(rows, 1) DEFINE_TILE(rows, 2)
#define TILES(rows) {tile_##rows##_1, tile_##rows##_2}
#endif
typedef void (*tile_t)(const struct job *job, const struct tile *tile);
ALL_ROWS(DEFINE_TILES)
static const tile_t tiles[MR][VECTORS] = {LIST_ROWS(TILES)};

#endif
