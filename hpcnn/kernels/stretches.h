/* The rows of a block of a weight gradient, as pieces of lines. */
#ifndef HPCNN_STRETCHES_H
#define HPCNN_STRETCHES_H

#include "views.h"

/* Copies of lines for a block, one after the other: those of one plane of a sample at once. */
struct block_band {
    struct band band;
    index_t copies; /* at most */
};

static inline struct block_band block_band_for(const struct view *v, int copies) {
    index_t plane = v->rows[1] * v->rows[2], line = most(1, v->rows[2]);
    index_t lines = least(v->rows[1], BLOCK_TERMS / line + 2), columns = least(v->rows[2], BLOCK_TERMS);
    struct block_band b = {band_for(v, lines, columns, copies), least(BLOCK_TERMS, BLOCK_TERMS / most(1, plane) + 2)};
    return b;
}

/* Cut rows [row, row + terms) of all samples into pieces, whose offsets count from `*base`; return how many. */
static inline index_t cut_rows(const struct view *v, const struct block_band *b, index_t row, index_t terms, struct piece *pieces, const real **base, real *room) {
    index_t count = 0, width = v->rows[2], height = v->rows[1], end = row + terms;
    *base = b->band.copies ? room : v->image;
    while (row < end) {
        index_t line = row / width, at = line / height, rest = line % height;
        index_t q[3] = {at % v->rows[0], rest, row % width}, sample = at / v->rows[0];
        /* Of lines longer than a block, one at a time. */
        index_t stop = least(end, (width > BLOCK_TERMS ? line + 1 : (at + 1) * height) * width), lines = (stop - 1) / width - line + 1;
        if (lines > 1) q[2] = 0;
        const real *image = patches_at(v, &b->band, sample, q, lines, lines > 1 ? width : stop - row, room);
        for (index_t i = 0; i < lines; i++) {
            index_t skipped = lines > 1 ? row % width : 0, part = least(stop - row, width - row % width);
            index_t from = i * v->step[1] * b->band.line + skipped * v->step[2] * b->band.pixel;
            pieces[count++] = (struct piece){image - *base + from, part, 0, GO_ON};
            row += part;
        }
        room += b->band.depth;
    }
    if (count == 0) pieces[count++] = (struct piece){0, 0, 0, GO_ON};
    return count;
}

#endif
