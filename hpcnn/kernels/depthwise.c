/* Convolutions of each channel by itself, and their gradients: vectors run over channels. */
#include "depthwise.h"
#include "stretches.h"

/* Rows, or taps, that are summed at once. */
#define ROWS 8

/* Pixels as the loops take them: forward, each channel as often as it has filters; back, a channel's filters apart:
 * those with the same number next to each other. With one filter a channel they are as they are. */
struct spread {
    index_t channels, times; /* filters of a channel */
    int back;
};

static struct spread spread_of(const struct geometry *g, int back) { return (struct spread){g->channels, g->filters / g->channels, back}; }

static void spread_pixels(const struct spread *s, const real *from, index_t pixels, real *to) {
    index_t c = s->channels, m = s->times;
    for (index_t i = 0; i < pixels; i++, to += c * m, from += s->back ? c * m : c)
        for (index_t j = 0; j < c; j++)
            for (index_t k = 0; k < m; k++)
                if (s->back) to[k * c + j] = from[j * m + k];
                else to[j * m + k] = from[j];
}

/* The same place in a spread copy. */
static struct band spread_band(const struct spread *s, struct band band) {
    if (s->times > 1 && !s->back) band.plane *= s->times, band.line *= s->times, band.pixel *= s->times, band.depth *= s->times;
    return band;
}

/* ------------------------------------------------------------------------------------------------- Forward and input */

struct run {
    const struct depthwise *o;
    const index_t *offsets; /* of the terms */
    const real *kernel;     /* a row of `row` numbers for each term */
    index_t terms, row, place; /* of x: from one row to the next */
    index_t out_place;
};

INLINE void sum_rows(int rows, const struct run *run, const real *x, index_t channel, index_t out, index_t count) {
    vec sum[ROWS], acc[ROWS];
    UNROLL for (int r = 0; r < rows; r++) sum[r] = all(0);
    for (index_t first = 0; first < run->terms || first == 0; first += BLOCK_TERMS) {
        index_t end = least(run->terms, first + BLOCK_TERMS);
        UNROLL for (int r = 0; r < rows; r++) acc[r] = all(0);
        if (count >= WIDTH)
            for (index_t t = first; t < end; t++) {
                const real *at = x + run->offsets[t] + channel;
                vec k = load(run->kernel + t * run->row + channel);
                UNROLL for (int r = 0; r < rows; r++) acc[r] = fma_(load(at + r * run->place), k, acc[r]);
            }
        else
            for (index_t t = first; t < end; t++) {
                const real *at = x + run->offsets[t] + channel;
                vec k = load(run->kernel + t * run->row + channel);
                UNROLL for (int r = 0; r < rows; r++) acc[r] = fma_(load_part(at + r * run->place, count), k, acc[r]);
            }
        UNROLL for (int r = 0; r < rows; r++) sum[r] = first ? sum[r] + acc[r] : acc[r];
    }
    const struct depthwise *o = run->o;
    vec bias = o->bias ? load_some(o->bias + channel, count) : all(0);
    UNROLL for (int r = 0; r < rows; r++) {
        vec z = o->bias ? sum[r] + bias : sum[r];
        index_t place = out + r * run->out_place + channel;
        write_activated(o->activation, z, count, o->y + place, o->saved ? o->saved + place : NULL, 0);
    }
}

static void sum_line(const struct run *run, const real *x, index_t out, index_t rows, index_t channels) {
    for (index_t c = 0; c < channels; c += WIDTH) {
        index_t r = 0, count = channels - c;
        for (; r + ROWS <= rows; r += ROWS) sum_rows(ROWS, run, x + r * run->place, c, out + r * run->out_place, count);
        for (; r + 3 <= rows; r += 3) sum_rows(3, run, x + r * run->place, c, out + r * run->out_place, count);
        for (; r < rows; r++) sum_rows(1, run, x + r * run->place, c, out + r * run->out_place, count);
    }
}

struct rooms {
    index_t *offsets;
    real *kernel, *copy, *spread;
    char *end;
};

static struct rooms rooms_of(const struct view *v, const struct spread *s, const struct band *band, void *scratch) {
    index_t terms = taps_of(v) * (s->back ? s->times : 1), columns = s->back ? s->channels : s->channels * s->times;
    struct rooms r = {.offsets = scratch};
    r.kernel = at_line(r.offsets + terms);
    r.copy = at_line(r.kernel + terms * padded(columns));
    r.spread = at_line(r.copy + (band->copies ? band->depth : 0));
    r.end = (char *)at_line(r.spread + (s->times > 1 ? spread_band(s, *band).depth : 0));
    return r;
}

size_t NAME(depthwise_bytes)(const struct view *v, const struct geometry *g, int back) {
    struct spread s = spread_of(g, back);
    struct band band = band_for(v, lines_of_band(v), v->rows[2], s.times > 1);
    return (size_t)(rooms_of(v, &s, &band, (void *)64).end - (char *)64);
}

/* The kernel's numbers for each term, as the pixels have them. */
static void pack_kernel(const struct view *v, const struct geometry *g, const struct spread *s, const real *kernel, index_t row, real *to) {
    for (index_t tap = 0; tap < taps_of(v); tap++) {
        const real *from = kernel + tap_at(g, v, tap) * g->filters;
        for (index_t k = 0; k < (s->back ? s->times : 1); k++, to += row)
            for (index_t c = 0; c < row; c++)
                to[c] = s->back ? (c < s->channels ? from[c * s->times + k] : 0) : (c < g->filters ? from[c] : 0);
    }
}

void NAME(depthwise)(const struct view *v, const struct geometry *g, const struct depthwise *o, index_t begin, index_t end, void *scratch) {
    if (begin >= end || v->rows[2] == 0) return;
    struct spread s = spread_of(g, o->back);
    index_t lines = lines_of_band(v), columns = o->back ? g->channels : g->filters, times = o->back ? s.times : 1;
    struct band band = band_for(v, lines, v->rows[2], s.times > 1), wide = spread_band(&s, band);
    struct rooms r = rooms_of(v, &s, &band, scratch);
    struct run run = {o, r.offsets, r.kernel, taps_of(v) * times, padded(columns), v->step[2] * wide.pixel, v->to_step[2] * columns};
    pack_kernel(v, g, &s, o->kernel, run.row, r.kernel);
    for (index_t tap = 0; tap < taps_of(v); tap++)
        for (index_t k = 0; k < times; k++) r.offsets[tap * times + k] = tap_offset(v, &wide, tap) + k * g->channels;
    for (index_t line = begin; line < end;) {
        index_t plane = line / v->rows[1], q[3] = {plane % v->rows[0], line % v->rows[1], 0};
        index_t count = least(least(lines, v->rows[1] - q[1]), end - line), sample = plane / v->rows[0];
        const real *image = patches_at(v, &band, sample, q, count, v->rows[2], r.copy);
        if (s.times > 1) {
            spread_pixels(&s, image, band.depth / band.pixel, r.spread);
            image = r.spread;
        }
        for (index_t i = 0; i < count; i++, q[1]++) sum_line(&run, image + i * v->step[1] * wide.line, place_of(v, columns, sample, q), v->rows[2], columns);
        line += count;
    }
}

/* --------------------------------------------------------------------------------------------------- Weight gradient */

struct gradient {
    const struct convolution_weight_gradient *o;
    struct view view;
    struct block_band block;
    struct band wide;
    struct spread spread;
    index_t taps, filters, stretches;
};

static struct gradient gradient_of(const struct convolution_weight_gradient *o) {
    const struct geometry *g = &o->geometry;
    struct gradient d = {.o = o, .view = view_forward(g, o->x), .spread = spread_of(g, 0), .filters = g->filters};
    d.block = block_band_for(&d.view, d.spread.times > 1);
    d.wide = spread_band(&d.spread, d.block.band);
    d.taps = taps_of(&d.view);
    d.stretches = walk_shards(o->shards, NULL);
    return d;
}

struct gradient_rooms {
    struct piece *pieces;
    struct stretch *walk;
    real *copies, *spread, *stack;
    char *end;
};

static struct gradient_rooms gradient_rooms_of(const struct gradient *d, void *scratch) {
    struct gradient_rooms r = {.pieces = scratch};
    r.walk = (struct stretch *)(r.pieces + BLOCK_TERMS + 1);
    r.copies = at_line(r.walk + d->stretches);
    r.spread = at_line(r.copies + (d->block.band.copies ? d->block.copies * d->block.band.depth : 0));
    r.stack = at_line(r.spread + (d->spread.times > 1 ? d->block.copies * d->wide.depth : 0));
    r.end = (char *)(r.stack + (d->o->shards->depth + 2) * d->taps * padded(d->filters) + WIDTH);
    return r;
}

size_t NAME(depthwise_gradient_bytes)(const struct convolution_weight_gradient *o) {
    struct gradient d = gradient_of(o);
    return (size_t)(gradient_rooms_of(&d, (void *)64).end - (char *)64);
}

/* The sums of some taps over the rows of a block. */
INLINE void sum_taps(int taps, const struct gradient *d, const struct piece *pieces, index_t count_pieces, const real *x, const real *dy, index_t tap, index_t channel, index_t count, real *top) {
    vec acc[ROWS];
    index_t offsets[ROWS], step = d->view.step[2] * d->wide.pixel;
    UNROLL for (int t = 0; t < taps; t++) acc[t] = all(0), offsets[t] = tap_offset(&d->view, &d->wide, tap + t) + channel;
    for (const struct piece *piece = pieces; piece < pieces + count_pieces; piece++) {
        const real *at = x + piece->offset;
        for (index_t r = 0; r < piece->terms; r++, at += step, dy += d->filters) {
            vec gradient = load_some(dy + channel, count);
            UNROLL for (int t = 0; t < taps; t++) acc[t] = fma_(load_some(at + offsets[t], count), gradient, acc[t]);
        }
    }
    UNROLL for (int t = 0; t < taps; t++) store(top + (tap + t) * padded(d->filters) + channel, acc[t]);
}

/* Add earlier sums to the latest, and write them out where the group ends. */
static void end_block(const struct gradient *d, const struct stretch *s, index_t begin, index_t end, real *top) {
    index_t level = d->taps * padded(d->filters);
    for (index_t add = 0; add < s->adds; add++) {
        real *latest = top - add * level, *earlier = latest - level;
        for (index_t tap = 0; tap < d->taps; tap++)
            for (index_t c = begin; c < end; c += WIDTH) {
                index_t at = tap * padded(d->filters) + c;
                store(earlier + at, load(earlier + at) + load(latest + at));
            }
    }
    top -= s->adds * level;
    if (s->group < 0) return;
    for (index_t tap = 0; tap < d->taps; tap++)
        memcpy((real *)d->o->kernel[s->group] + tap * d->filters + begin, top + tap * padded(d->filters) + begin, (size_t)(end - begin) * sizeof(real));
}

void NAME(depthwise_gradient)(const struct convolution_weight_gradient *o, index_t begin, index_t end, void *scratch) {
    struct gradient d = gradient_of(o);
    struct gradient_rooms r = gradient_rooms_of(&d, scratch);
    walk_shards(o->shards, r.walk);
    index_t row = 0, depth = 0, level = d.taps * padded(d.filters);
    for (const struct stretch *s = r.walk; s < r.walk + d.stretches; s++) {
        const real *x, *dy = (const real *)o->dy + row * d.filters;
        index_t pieces = cut_rows(&d.view, &d.block, row, s->terms, r.pieces, &x, r.copies);
        if (d.spread.times > 1) {
            spread_pixels(&d.spread, r.copies, s->terms ? d.block.copies * d.block.band.depth / d.block.band.pixel : 0, r.spread);
            for (index_t i = 0; i < pieces; i++) r.pieces[i].offset *= d.spread.times;
            x = r.spread;
        }
        real *top = r.stack + depth * level;
        for (index_t c = begin; c < end; c += WIDTH) {
            index_t tap = 0, count = end - c;
            for (; tap + ROWS <= d.taps; tap += ROWS) sum_taps(ROWS, &d, r.pieces, pieces, x, dy, tap, c, count, top);
            for (; tap + 3 <= d.taps; tap += 3) sum_taps(3, &d, r.pieces, pieces, x, dy, tap, c, count, top);
            for (; tap < d.taps; tap++) sum_taps(1, &d, r.pieces, pieces, x, dy, tap, c, count, top);
        }
        end_block(&d, s, begin, end, top);
        row += s->terms;
        depth += s->group < 0 ? 1 - s->adds : -s->adds;
    }
}
