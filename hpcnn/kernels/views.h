/* Which parts of an image the outputs of a convolution see, forward and back, and copies with zeros around the image. */
#ifndef HPCNN_VIEWS_H
#define HPCNN_VIEWS_H

#include "registers.h"

/* Bytes of the lines that stay in the second-level cache while panels of the kernel pass by. */
#define BAND ((index_t)256 << 10)

enum then { GO_ON, PUSH, FINISH };

/* Terms that lie next to each other (or `step` apart), and what to do with the sum behind them. */
struct piece {
    index_t offset; /* from where the tile's first row begins */
    index_t terms;
    index_t adds; /* sums of the stack that are then added, the latest first */
    enum then then;
};

/* The row at position q of an axis sees, with tap number t, the image at q step + t spread + origin. */
struct view {
    const real *image; /* (samples, extent..., channels) */
    index_t samples, channels, extent[3];
    index_t rows[3]; /* positions */
    index_t step[3], spread[3], origin[3], taps[3];
    index_t first[3], every[3]; /* number t is the tap first + t every of the kernel */
    index_t to_start[3], to_step[3], to_extent[3]; /* q is position to_start + q to_step of what is written */
};

static inline struct view view_forward(const struct geometry *g, const real *x) {
    struct view v = {.image = x, .samples = g->samples, .channels = g->channels};
    for (int i = 0; i < 3; i++) {
        v.extent[i] = g->in[i], v.rows[i] = v.to_extent[i] = g->out[i];
        v.step[i] = g->stride[i], v.spread[i] = g->dilation[i], v.origin[i] = -g->before[i];
        v.taps[i] = g->kernel[i], v.every[i] = v.to_step[i] = 1;
    }
    return v;
}

static inline index_t phases_of(const struct geometry *g) { return g->stride[0] * g->stride[1] * g->stride[2]; }

/* The gradient of inputs at the positions phase + q stride: a convolution of dy without stride. */
static inline struct view view_back(const struct geometry *g, const real *dy, index_t phase) {
    struct view v = {.image = dy, .samples = g->samples, .channels = g->filters};
    for (int i = 2; i >= 0; i--) {
        index_t stride = g->stride[i], dilation = g->dilation[i], r = phase % stride, last = g->kernel[i] - 1;
        phase /= stride;
        v.extent[i] = g->out[i], v.to_extent[i] = g->in[i], v.to_start[i] = r, v.to_step[i] = stride;
        v.rows[i] = r < g->in[i] ? (g->in[i] - r + stride - 1) / stride : 0;
        v.step[i] = 1, v.spread[i] = 1, v.every[i] = -1;
        while (last >= 0 && (r + g->before[i] - last * dilation) % stride) last--;
        if (last < 0) continue; /* no tap reaches these */
        index_t period = 1;
        while (period * dilation % stride) period++;
        v.first[i] = last, v.every[i] = -period, v.taps[i] = last / period + 1;
        v.spread[i] = period * dilation / stride;
        v.origin[i] = (r + g->before[i] - last * dilation) / stride;
    }
    return v;
}

static inline index_t taps_of(const struct view *v) { return v->taps[0] * v->taps[1] * v->taps[2]; }

/* Numbers of the kernel's taps in the order in which a view takes them. */
static inline index_t tap_at(const struct geometry *g, const struct view *v, index_t tap) {
    index_t number[3];
    for (int i = 2; i >= 0; i--) {
        number[i] = v->first[i] + tap % v->taps[i] * v->every[i];
        tap /= v->taps[i];
    }
    return (number[0] * g->kernel[1] + number[1]) * g->kernel[2] + number[2];
}

/* The image's positions along an axis that `count` rows see. */
static inline index_t seen(const struct view *v, int axis, index_t count) {
    return count && v->taps[axis] ? (count - 1) * v->step[axis] + (v->taps[axis] - 1) * v->spread[axis] + 1 : 0;
}

static inline int within(const struct view *v) {
    for (int i = 0; i < 3; i++)
        if (v->origin[i] < 0 || v->origin[i] + seen(v, i, v->rows[i]) > v->extent[i]) return 0;
    return 1;
}

/* How patches lie in memory: in the image, or in a copy of lines. Strides in numbers. */
struct band {
    int copies;
    index_t plane, line, pixel; /* between taps of d; positions along h; positions along w */
    index_t depth;              /* numbers of a copy */
};

/* For `lines` x `columns` rows at most. */
static inline struct band band_for(const struct view *v, index_t lines, index_t columns, int copies) {
    index_t pixel = v->channels;
    if (within(v) && !copies) {
        index_t line = v->extent[2] * v->channels;
        return (struct band){0, v->extent[1] * line, line, v->channels, 0};
    }
    struct band band = {.copies = 1, .pixel = pixel, .line = seen(v, 2, columns) * pixel};
    band.plane = seen(v, 1, lines) * band.line;
    band.depth = band.plane * v->taps[0];
    return band;
}

/* Distance from one tap of d to the next. */
static inline index_t plane_step(const struct view *v, const struct band *band) { return band->copies ? band->plane : band->plane * v->spread[0]; }

/* Copy `count` pixels, those from `from` on of a line of the image; `line` is NULL outside. */
static inline void copy_line(const struct view *v, const real *line, index_t from, index_t count, real *to) {
    index_t c = v->channels;
    index_t skip = line ? least(count, most(0, -from)) : count, stop = line ? most(skip, least(count, v->extent[2] - from)) : count;
    if (skip) memset(to, 0, (size_t)(skip * c) * sizeof(real));
    if (stop > skip) memcpy(to + skip * c, line + (from + skip) * c, (size_t)((stop - skip) * c) * sizeof(real));
    if (count > stop) memset(to + stop * c, 0, (size_t)((count - stop) * c) * sizeof(real));
}

/* Where the patch of the row (sample, q) begins, for `lines` x `columns` rows from there on: in the image, or in a copy. */
static inline const real *patches_at(const struct view *v, const struct band *band, index_t sample, const index_t q[3], index_t lines, index_t columns, real *room) {
    index_t at[3];
    for (int i = 0; i < 3; i++) at[i] = q[i] * v->step[i] + v->origin[i];
    if (!band->copies) return v->image + (((sample * v->extent[0] + at[0]) * v->extent[1] + at[1]) * v->extent[2] + at[2]) * v->channels;
    index_t height = seen(v, 1, lines), width = seen(v, 2, columns);
    for (index_t t = 0; t < v->taps[0]; t++)
        for (index_t i = 0; i < height; i++) {
            index_t d = at[0] + t * v->spread[0], h = at[1] + i;
            int inside = d >= 0 && d < v->extent[0] && h >= 0 && h < v->extent[1];
            const real *line = inside ? v->image + ((sample * v->extent[0] + d) * v->extent[1] + h) * v->extent[2] * v->channels : NULL;
            copy_line(v, line, at[2], width, room + t * band->plane + i * band->line);
        }
    return room;
}

/* Where a tap's pixel lies, from where its patch begins. */
static inline index_t tap_offset(const struct view *v, const struct band *band, index_t tap) {
    index_t t2 = tap % v->taps[2], t1 = tap / v->taps[2] % v->taps[1], t0 = tap / v->taps[2] / v->taps[1];
    return t0 * plane_step(v, band) + t1 * v->spread[1] * band->line + t2 * v->spread[2] * band->pixel;
}

/* Taps whose terms lie next to each other, for `terms` terms a tap. */
static inline index_t joined_taps(const struct view *v, const struct band *band, index_t terms) {
    return v->spread[2] == 1 && terms == band->pixel ? most(1, v->taps[2]) : 1;
}

/* Lines of a plane that are done together. */
static inline index_t lines_of_band(const struct view *v) {
    if (v->rows[1] == 0) return 1;
    index_t line = most(1, seen(v, 2, v->rows[2]) * v->channels * v->taps[0] * (index_t)sizeof(real));
    return most(1, least(v->rows[1], (BAND / line - seen(v, 1, 1)) / most(1, v->step[1]) + 1));
}

/* Where the row q of a sample is written. */
static inline index_t place_of(const struct view *v, index_t channels, index_t sample, const index_t q[3]) {
    index_t place = sample;
    for (int i = 0; i < 3; i++) place = place * v->to_extent[i] + v->to_start[i] + q[i] * v->to_step[i];
    return place * channels;
}

/* Cut `terms` terms from `offset` on into pieces, at the ends of blocks; `*block` is what is left of the block. */
static inline index_t add_pieces(struct piece *pieces, index_t count, index_t offset, index_t terms, index_t *block) {
    while (terms) {
        index_t part = least(terms, *block);
        pieces[count++] = (struct piece){offset, part, 0, part == *block ? PUSH : GO_ON};
        offset += part, terms -= part;
        *block = part == *block ? BLOCK_TERMS : *block - part;
    }
    return count;
}

/* Blocks after the first are added to the sum of those before; the last one is finished. Without terms the sum is 0. */
static inline void end_pieces(struct piece *pieces, index_t count) {
    index_t blocks = 0;
    if (count == 0) pieces[count++] = (struct piece){0, 0, 0, GO_ON};
    pieces[count - 1].then = FINISH;
    for (index_t i = 0; i < count; i++)
        if (pieces[i].then != GO_ON) pieces[i].adds = blocks++ > 0;
}

#endif
