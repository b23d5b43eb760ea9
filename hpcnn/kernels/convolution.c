/* Convolutions and the gradients of their inputs, which are convolutions, too, one for each phase of the stride. */
#include "patches.h"
#include "depthwise.h"

/* What a convolution makes of a view: columns of a group are its outputs' channels. */
struct outputs {
    const struct geometry *g;
    int back; /* whether the kernel is transposed: its filters are the terms */
    index_t terms, columns; /* of a tap; of a group */
    const real *kernel, *bias;
    int activation;
    real *y, *saved;
};

static int is_low(const struct view *v) { return v->rows[2] * 2 < MR && v->samples * v->rows[0] * v->rows[1] > 1; }

static index_t panels_of(const struct outputs *o) { return parts(o->columns, NR); }
static index_t all_columns(const struct outputs *o) { return o->columns * o->g->groups; }
static index_t packed_group(const struct view *v, const struct outputs *o) { return taps_of(v) * o->terms * padded(o->columns); }

/* The kernel of each group, in panels of NR columns, its terms in the order of the view. */
static void pack_kernel(const struct view *v, const struct outputs *o, real *to) {
    const struct geometry *g = o->g;
    index_t channels = g->channels / g->groups, filters = g->filters / g->groups, taps = taps_of(v);
    for (index_t group = 0; group < g->groups; group++)
        for (index_t column = 0; column < o->columns; column += NR) {
            index_t count = least(NR, o->columns - column);
            for (index_t tap = 0; tap < taps; tap++, to += o->terms * padded(count)) {
                const real *at = o->kernel + tap_at(g, v, tap) * channels * g->filters + group * filters;
                if (o->back) pack_panel((struct factor){at + column * g->filters, g->filters, 1}, count, o->terms, to);
                else pack_panel((struct factor){at + column, 1, g->filters}, count, o->terms, to);
            }
        }
}

/* The panel of the packed kernel that a tile takes, and what it is added to. */
static void aim(const struct view *v, const struct outputs *o, const real *packed, index_t group, index_t panel, struct patch_tile *tile) {
    index_t column = panel * NR, all_terms = taps_of(v) * o->terms, channel = group * o->columns + column;
    tile->columns = least(NR, o->columns - column);
    tile->y = (struct factor){packed + group * packed_group(v, o) + all_terms * column, 1, padded(tile->columns)};
    tile->out = o->y + channel;
    tile->saved = o->saved ? o->saved + channel : NULL;
    tile->bias = o->bias ? o->bias + channel : NULL;
}

static index_t most_pieces(const struct geometry *g) {
    index_t taps = g->kernel[0] * g->kernel[1] * g->kernel[2], terms = most(g->channels, g->filters) / g->groups;
    return taps + parts(taps * terms, BLOCK_TERMS) + 2;
}

static void cut_pieces(const struct view *v, const struct band *band, index_t terms, struct piece *pieces) {
    index_t joined = joined_taps(v, band, terms), block = BLOCK_TERMS, count = 0;
    for (index_t tap = 0; tap < taps_of(v); tap += joined) count = add_pieces(pieces, count, tap_offset(v, band, tap), joined * terms, &block);
    end_pieces(pieces, count);
}

/* ------------------------------------------------------------------------------------------------------ Line by line */

struct lines {
    struct band band;
    struct patch_job job;
    index_t count, height, panels, higher; /* lines of a band; rows of a panel; so many have one more */
};

static void do_band(const struct view *v, const struct outputs *o, const struct lines *cut, const real *packed, index_t sample, const index_t first[3], index_t lines, const real *image, real *stack) {
    struct patch_tile tile = {.top = stack};
    index_t channels = all_columns(o), step = v->to_step[2] * channels;
    for (index_t group = 0; group < o->g->groups; group++)
        for (index_t panel = 0; panel < panels_of(o); panel++) {
            aim(v, o, packed, group, panel, &tile);
            for (index_t line = 0; line < lines; line++) {
                index_t q[3] = {first[0], first[1] + line, 0}, place = place_of(v, channels, sample, q);
                const real *x = image + line * v->step[1] * cut->band.line + group * o->terms;
                for (index_t i = 0; i < cut->panels; i++) {
                    tile.rows = cut->height + (i < cut->higher);
                    tile.x = x;
                    for (index_t r = 0; r < tile.rows; r++, place += step) tile.place[r] = place;
                    do_patch(&cut->job, &tile);
                    x += tile.rows * cut->job.place;
                }
            }
        }
}

/* Do lines [begin, end) of all samples' rows. */
static void do_lines(const struct view *v, const struct outputs *o, index_t begin, index_t end, const real *packed, struct piece *pieces, real *memory) {
    struct lines cut = {.count = lines_of_band(v), .panels = parts(v->rows[2], MR)};
    cut.band = band_for(v, cut.count, v->rows[2], 0);
    cut.job = (struct patch_job){pieces, v->step[2] * v->channels, 1, TILE, o->activation, 0};
    cut.height = v->rows[2] / cut.panels, cut.higher = v->rows[2] - cut.height * cut.panels;
    cut_pieces(v, &cut.band, o->terms, pieces);
    for (index_t line = begin; line < end;) {
        index_t plane = line / v->rows[1], q[3] = {plane % v->rows[0], line % v->rows[1], 0};
        index_t lines = least(least(cut.count, v->rows[1] - q[1]), end - line), sample = plane / v->rows[0];
        const real *image = patches_at(v, &cut.band, sample, q, lines, v->rows[2], memory + 2 * TILE);
        do_band(v, o, &cut, packed, sample, q, lines, image, memory);
        line += lines;
    }
}

/* ------------------------------------------------------------------------------------------------------- Row by row */

/* Rows that are gathered at once: some panels, so that each panel of the kernel is loaded for several. */
static index_t gathered_rows(index_t terms) { return most(1, least(16, BAND / (MR * (terms + 16) * (index_t)sizeof(real)))) * MR; }
static index_t gathered_length(index_t terms) { return padded(terms) + 64 / (index_t)sizeof(real); }

/* Do rows [begin, end), which are gathered from all over the image: of lines that are too short for tiles. */
static void do_rows(const struct view *v, const struct outputs *o, index_t begin, index_t end, const real *packed, struct piece *pieces, real *memory) {
    index_t all_terms = taps_of(v) * o->terms, length = gathered_length(all_terms), some = gathered_rows(all_terms), block = BLOCK_TERMS;
    real *stack = memory, *room = memory + 2 * TILE, *patch = room + some * length;
    struct patch_job job = {pieces, length, 1, TILE, o->activation, 0};
    struct band band = band_for(v, 1, 1, 0);
    index_t joined = joined_taps(v, &band, o->terms), channels = all_columns(o);
    struct patch_tile tile = {.top = stack};
    end_pieces(pieces, add_pieces(pieces, 0, 0, all_terms, &block));
    for (index_t row = begin; row < end; row += some) {
        index_t count = least(some, end - row), places[16 * MR];
        for (index_t group = 0; group < o->g->groups; group++) {
            for (index_t r = 0; r < count; r++) {
                index_t at = row + r, q[3];
                for (int i = 2; i >= 0; i--) q[i] = at % v->rows[i], at /= v->rows[i];
                places[r] = place_of(v, channels, at, q);
                const real *from = patches_at(v, &band, at, q, 1, 1, patch) + group * o->terms;
                for (index_t tap = 0; tap < taps_of(v); tap += joined)
                    memcpy(room + r * length + tap * o->terms, from + tap_offset(v, &band, tap), (size_t)(joined * o->terms) * sizeof(real));
            }
            for (index_t panel = 0; panel < panels_of(o); panel++) {
                aim(v, o, packed, group, panel, &tile);
                for (index_t r = 0; r < count; r += MR) {
                    tile.rows = least(MR, count - r);
                    tile.x = room + r * length;
                    memcpy(tile.place, places + r, (size_t)tile.rows * sizeof *places);
                    do_patch(&job, &tile);
                }
            }
        }
    }
}

/* ------------------------------------------------------------------------------------------------------------- Both */

/* A view of all pixels by themselves is one line. */
static int is_pointwise(const struct view *v) {
    for (int i = 0; i < 3; i++)
        if (v->taps[i] != 1 || v->step[i] != 1 || v->origin[i] != 0 || v->rows[i] != v->extent[i] || v->to_step[i] != 1) return 0;
    return 1;
}

/* Do rows [begin, end) of all, some at a time, as lines: they stay in the cache while panels of the kernel pass by. */
static void do_points(struct view v, const struct outputs *o, index_t begin, index_t end, const real *packed, struct piece *pieces, real *memory) {
    index_t some = most(1, BAND / (MR * v.channels * (index_t)sizeof(real))) * MR;
    const real *image = v.image;
    v.samples = v.extent[0] = v.extent[1] = v.rows[0] = v.rows[1] = v.to_extent[0] = v.to_extent[1] = 1;
    for (index_t row = begin; row < end; row += some) {
        struct outputs part = *o;
        v.image = image + row * v.channels, part.y += row * all_columns(o);
        if (part.saved) part.saved += row * all_columns(o);
        v.extent[2] = v.rows[2] = v.to_extent[2] = least(some, end - row);
        do_lines(&v, &part, 0, 1, packed, pieces, memory);
    }
}

static void convolve(struct view v, const struct outputs *o, index_t begin, index_t end, void *scratch) {
    if (begin >= end || v.rows[2] == 0) return;
    struct piece *pieces = scratch;
    real *packed = at_line(pieces + most_pieces(o->g)), *memory = at_line(packed + packed_group(&v, o) * o->g->groups);
    pack_kernel(&v, o, packed);
    index_t first = begin * v.rows[2], last = end * v.rows[2];
    if (is_pointwise(&v)) do_points(v, o, first, last, packed, pieces, memory);
    else if (is_low(&v)) do_rows(&v, o, first, last, packed, pieces, memory);
    else do_lines(&v, o, begin, end, packed, pieces, memory);
}

static size_t bytes_for(const struct view *v, const struct outputs *o) {
    index_t terms = taps_of(v) * o->terms, memory = 2 * TILE;
    if (is_low(v)) memory += gathered_rows(terms) * gathered_length(terms) + band_for(v, 1, 1, 0).depth;
    else memory += band_for(v, lines_of_band(v), v->rows[2], 0).depth;
    return (size_t)most_pieces(o->g) * sizeof(struct piece) + (size_t)(packed_group(v, o) * o->g->groups + memory) * sizeof(real) + 512;
}

static struct outputs outputs_of(const struct convolution *o) {
    const struct geometry *g = &o->geometry;
    return (struct outputs){g, 0, g->channels / g->groups, g->filters / g->groups, o->kernel, o->bias, o->activation, o->y, o->saved};
}

size_t NAME(convolution_scratch)(const void *operation);
size_t NAME(convolution_scratch)(const void *operation) {
    const struct convolution *o = operation;
    struct view v = view_forward(&o->geometry, o->x);
    struct outputs outputs = outputs_of(o);
    if (is_depthwise(&o->geometry)) return NAME(depthwise_bytes)(&v, &o->geometry, 0);
    return bytes_for(&v, &outputs);
}

void NAME(convolution)(const void *operation, index_t begin, index_t end, void *scratch);
void NAME(convolution)(const void *operation, index_t begin, index_t end, void *scratch) {
    const struct convolution *o = operation;
    struct view v = view_forward(&o->geometry, o->x);
    struct outputs outputs = outputs_of(o);
    if (is_depthwise(&o->geometry)) NAME(depthwise)(&v, &o->geometry, &(struct depthwise){0, o->kernel, o->bias, o->activation, o->y, o->saved}, begin, end, scratch);
    else convolve(v, &outputs, begin, end, scratch);
}

/* ---------------------------------------------------------------------------------------------------- Input gradient */

static struct outputs gradient_of(const struct convolution_input_gradient *o) {
    const struct geometry *g = &o->geometry;
    return (struct outputs){g, 1, g->filters / g->groups, g->channels / g->groups, o->kernel, o->bias, o->activation, o->dx, o->saved};
}

size_t NAME(convolution_input_gradient_scratch)(const void *operation);
size_t NAME(convolution_input_gradient_scratch)(const void *operation) {
    const struct convolution_input_gradient *o = operation;
    struct outputs outputs = gradient_of(o);
    size_t bytes = 0;
    for (index_t phase = 0; phase < phases_of(&o->geometry); phase++) {
        struct view v = view_back(&o->geometry, o->dy, phase);
        size_t needed = is_depthwise(&o->geometry) ? NAME(depthwise_bytes)(&v, &o->geometry, 1) : bytes_for(&v, &outputs);
        if (needed > bytes) bytes = needed;
    }
    return bytes;
}

/* How many lines of a view come before a line of what it writes. */
static index_t lines_before(const struct view *v, index_t line) {
    index_t h = line % v->to_extent[1], d = line / v->to_extent[1] % v->to_extent[0], sample = line / v->to_extent[1] / v->to_extent[0];
    index_t q0 = parts(most(0, d - v->to_start[0]), v->to_step[0]), lines = (sample * v->rows[0] + q0) * v->rows[1];
    if (q0 < v->rows[0] && d == v->to_start[0] + q0 * v->to_step[0]) lines += parts(most(0, h - v->to_start[1]), v->to_step[1]);
    return lines;
}

void NAME(convolution_input_gradient)(const void *operation, index_t begin, index_t end, void *scratch);
void NAME(convolution_input_gradient)(const void *operation, index_t begin, index_t end, void *scratch) {
    const struct convolution_input_gradient *o = operation;
    struct outputs outputs = gradient_of(o);
    for (index_t phase = 0; phase < phases_of(&o->geometry); phase++) {
        struct view v = view_back(&o->geometry, o->dy, phase);
        index_t first = lines_before(&v, begin), last = lines_before(&v, end);
        if (is_depthwise(&o->geometry)) NAME(depthwise)(&v, &o->geometry, &(struct depthwise){1, o->kernel, o->bias, o->activation, o->dx, o->saved}, first, last, scratch);
        else convolve(v, &outputs, first, last, scratch);
    }
}
