/* Gradients of the kernels of convolutions: block by block of rows, so that images and gradients stay in the cache. */
#include "patches.h"
#include "depthwise.h"
#include "stretches.h"

/* Features that lie next to each other, of a tile's height at most. */
struct features {
    index_t first, rows, offset;
};

struct gradient {
    const struct convolution_weight_gradient *o;
    struct view view;
    struct block_band block;
    struct patch_job job;
    int gathers; /* whether features are copied, since too few lie next to each other */
    index_t channels, filters, stretches; /* of a group; of the walk */
    index_t tiles, count;                 /* of features: at most; indeed */
    index_t panels;                              /* of a group */
    int packs;
};

#define GATHERED (BLOCK_TERMS + 64 / (index_t)sizeof(real))

static struct gradient gradient_of(const struct convolution_weight_gradient *o, index_t features) {
    const struct geometry *g = &o->geometry;
    struct gradient d = {.o = o, .view = view_forward(g, o->x), .channels = g->channels / g->groups, .filters = g->filters / g->groups};
    d.block = block_band_for(&d.view, 0);
    d.gathers = joined_taps(&d.view, &d.block.band, d.channels) * d.channels < 5;
    d.job = d.gathers ? (struct patch_job){NULL, GATHERED, 1, 0, LINEAR, 1} : (struct patch_job){NULL, 1, d.view.step[2] * d.block.band.pixel, 0, LINEAR, 1};
    d.stretches = walk_shards(o->shards, NULL);
    d.panels = parts(d.filters, NR);
    d.packs = d.filters > NR || d.filters % WIDTH;
    index_t run = d.gathers ? features : joined_taps(&d.view, &d.block.band, d.channels) * d.channels;
    d.tiles = (parts(features, most(1, run)) + 1) * parts(least(run, features), MR);
    d.job.level = d.tiles * d.panels * g->groups * TILE;
    return d;
}

/* Cut features [begin, end) into tiles. */
static void cut_features(struct gradient *d, index_t begin, index_t end, struct features *tiles) {
    index_t run = d->gathers ? end : joined_taps(&d->view, &d->block.band, d->channels) * d->channels;
    d->count = 0;
    for (index_t f = begin; f < end;) {
        index_t stop = least(end, (f / run + 1) * run), rows = stop - f, count = parts(rows, MR);
        for (index_t i = 0; i < count; i++) {
            index_t height = rows / count + (i < rows % count);
            index_t offset = d->gathers ? (f - begin) * GATHERED : tap_offset(&d->view, &d->block.band, f / d->channels) + f % d->channels;
            tiles[d->count++] = (struct features){f, height, offset};
            f += height;
        }
    }
}

/* Copy features [begin, end) of a group, each with all its rows. */
static void gather(const struct gradient *d, index_t begin, index_t end, const struct piece *pieces, index_t count, const real *base, real *to) {
    index_t step = d->view.step[2] * d->block.band.pixel;
    for (index_t f = begin; f < end; f++, to += GATHERED) {
        const real *from = base + tap_offset(&d->view, &d->block.band, f / d->channels) + f % d->channels;
        real *at = to;
        for (index_t i = 0; i < count; i++) {
            const real *x = from + pieces[i].offset;
            if (step == 1) memcpy(at, x, (size_t)pieces[i].terms * sizeof(real));
            else
                for (index_t t = 0; t < pieces[i].terms; t++) at[t] = x[t * step];
            at += pieces[i].terms;
        }
    }
}

struct rooms {
    struct piece *pieces;
    struct stretch *walk;
    struct features *tiles;
    real *gathered, *dy, *copies, *stack;
};

static struct rooms rooms_of(const struct gradient *d, index_t features, void *scratch) {
    struct rooms r = {.pieces = scratch};
    r.walk = (struct stretch *)(r.pieces + BLOCK_TERMS + 1);
    r.tiles = (struct features *)(r.walk + d->stretches);
    r.dy = at_line(r.tiles + d->tiles);
    r.gathered = at_line(r.dy + BLOCK_TERMS * NR);
    r.copies = at_line(r.gathered + (d->gathers ? features * GATHERED : 0));
    r.stack = at_line(r.copies + (d->block.band.copies ? d->block.copies * d->block.band.depth : 0));
    return r;
}

/* All tiles of a group, for one block of rows. */
static void do_group(const struct gradient *d, const struct rooms *r, const struct stretch *s, index_t row, index_t group, const real *base, real *top) {
    const struct geometry *g = &d->o->geometry;
    for (index_t panel = 0; panel < d->panels; panel++) {
        index_t column = group * d->filters + panel * NR;
        struct patch_tile tile = {.columns = least(NR, d->filters - panel * NR)};
        tile.y = (struct factor){(const real *)d->o->dy + row * g->filters + column, 1, g->filters};
        if (d->packs) {
            pack_panel(tile.y, tile.columns, s->terms, r->dy);
            tile.y = (struct factor){r->dy, 1, padded(tile.columns)};
        }
        tile.out = s->group < 0 ? NULL : (real *)d->o->kernel[s->group] + column;
        tile.top = top + (group * d->panels + panel) * d->count * TILE;
        for (const struct features *f = r->tiles; f < r->tiles + d->count; f++, tile.top += TILE) {
            tile.rows = f->rows;
            tile.x = base + f->offset;
            for (index_t i = 0; i < f->rows; i++) tile.place[i] = (f->first + i) * g->filters;
            do_patch(&d->job, &tile);
        }
    }
}

size_t NAME(convolution_weight_gradient_scratch)(const void *operation);
size_t NAME(convolution_weight_gradient_scratch)(const void *operation) {
    const struct convolution_weight_gradient *o = operation;
    const struct geometry *g = &o->geometry;
    if (is_depthwise(g)) return NAME(depthwise_gradient_bytes)(o);
    index_t features = g->kernel[0] * g->kernel[1] * g->kernel[2] * (g->channels / g->groups);
    struct gradient d = gradient_of(o, features);
    struct rooms r = rooms_of(&d, features, (void *)64);
    return (size_t)((char *)(r.stack + (o->shards->depth + 2) * d.job.level) - (char *)r.pieces) + 64;
}

void NAME(convolution_weight_gradient)(const void *operation, index_t begin, index_t end, void *scratch);
void NAME(convolution_weight_gradient)(const void *operation, index_t begin, index_t end, void *scratch) {
    const struct convolution_weight_gradient *o = operation;
    if (is_depthwise(&o->geometry)) {
        NAME(depthwise_gradient)(o, begin, end, scratch);
        return;
    }
    struct gradient d = gradient_of(o, end - begin);
    struct rooms r = rooms_of(&d, end - begin, scratch);
    walk_shards(o->shards, r.walk);
    cut_features(&d, begin, end, r.tiles);
    d.job.pieces = r.pieces;
    index_t row = 0, depth = 0;
    for (const struct stretch *s = r.walk; s < r.walk + d.stretches; s++) {
        const real *base;
        for (index_t group = 0; group < o->geometry.groups; group++) {
            index_t count = group == 0 || d.gathers ? cut_rows(&d.view, &d.block, row, s->terms, r.pieces, &base, r.copies) : 0;
            if (d.gathers) {
                gather(&d, begin, end, r.pieces, count, base + group * d.channels, r.gathered);
                r.pieces[0] = (struct piece){0, s->terms, 0, GO_ON}, count = 1;
            }
            if (count) r.pieces[count - 1].adds = s->adds, r.pieces[count - 1].then = s->group < 0 ? PUSH : FINISH;
            do_group(&d, &r, s, row, group, d.gathers ? r.gathered : base + group * d.channels, r.stack + depth * d.job.level);
        }
        row += s->terms;
        depth += s->group < 0 ? 1 - s->adds : -s->adds;
    }
}
