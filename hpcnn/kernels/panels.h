/* How a product is cut into tiles, and its factors are packed.
 *
 * Factors are packed where they would be read in unfavourable order: panels of x row by row or term by term, panels of y
 * term by term, with columns that do not exist filled by zeros.
 */
#ifndef HPCNN_PANELS_H
#define HPCNN_PANELS_H

#include "tiles.h"

/* Bytes of the packed panels that stay while those of the other factor pass by. */
#define STAY ((index_t)5 << 20)
/* Bytes and panels that pass by at once: they lie in the second-level cache when a panel of those that stay comes. */
#define PASS ((index_t)1 << 19)
#define PASSING 8
/* Panels of x that are packed together where the rows of a term lie next to each other, from so many terms on. */
#define PACKED_AT_ONCE 4
#define LONG (2 * BLOCK_TERMS)
/* Bytes of an output from which on it does not stay in the caches anyway. */
#define LARGE ((size_t)4 << 20)
/* Rows that lie so far from each other share few sets of the first-level cache, and push each other out. */
#define CROWDED(stride) ((stride) * (index_t)sizeof(real) % 2048 == 0)

/* Packed panels begin at such distances; rows of a panel, too, which then lie well in the cache. */
static index_t distance(index_t terms) { return padded(terms) + 64 / (index_t)sizeof(real); }

/* Panels of y of NR columns, all at once, so that longer pieces of memory are read. */
static void pack_panels(struct factor from, index_t panels, index_t terms, real *to) {
    for (index_t p = 0; p < terms; p++)
        for (index_t i = 0; i < panels; i++) {
            const real *term = from.at + p * from.step + i * NR;
            real *packed = to + i * NR * distance(terms) + p * NR;
            UNROLL for (int v = 0; v < VECTORS; v++) store(packed + v * WIDTH, load(term + v * WIDTH));
        }
}

/* A panel of x, row by row, or term by term where the rows of a term lie next to each other. In the latter case whole
 * vectors are stored: the next term overwrites what is too much, and there is room behind the last. */
static void pack_rows(struct factor from, index_t rows, index_t terms, real *to) {
    if (from.step == 1)
        for (index_t r = 0; r < rows; r++) memcpy(to + r * distance(terms), from.at + r * from.place, (size_t)terms * sizeof(real));
    else if (from.place == 1)
        for (index_t p = 0; p < terms; p++)
            for (index_t r = 0; r < rows; r += WIDTH) store(to + p * rows + r, load_some(from.at + p * from.step + r, rows - r));
    else
        for (index_t p = 0; p < terms; p++)
            for (index_t r = 0; r < rows; r++) to[p * rows + r] = from.at[p * from.step + r * from.place];
}

/* Panels of x whose rows of a term lie next to each other, all at once: terms are far from each other. */
static void pack_terms(struct factor from, const index_t *rows, index_t panels, index_t terms, real *to) {
    for (index_t p = 0; p < terms; p++) {
        const real *term = from.at + p * from.step;
        for (index_t i = 0; i < panels; term += rows[i++])
            for (index_t r = 0; r < rows[i]; r += WIDTH) store(to + i * MR * distance(terms) + p * rows[i] + r, load_some(term + r, rows[i] - r));
    }
}

/* How a job is cut: into panels, and blocks of panels; those of one factor stay packed while those of the other pass by.
 * Panels of x are of nearly equal height, since a low tile keeps the processor less busy. */
struct cut {
    int y_stays, packs_x, packs_y;
    index_t x_panels, height, higher; /* so many of them have a row more than `height` */
    index_t y_panels;
    index_t x_block, y_block; /* panels */
};

/* Panels that fit. */
static index_t fitting(index_t panels, index_t panel, index_t terms, index_t bytes) {
    return least(panels, most(1, bytes / ((index_t)sizeof(real) * distance(terms) * panel)));
}

static struct cut cut_job(const struct job *job) {
    struct cut cut = {.y_stays = job->y.place != 1 || job->columns <= job->rows, .y_panels = parts(job->columns, NR)};
    cut.packs_x = cut.y_panels > (job->x.step == 1 ? 4 : 1);
    cut.x_panels = parts(job->rows, !cut.packs_x && job->x.step == 1 && CROWDED(job->x.place) ? least(MR, 8) : MR);
    cut.height = job->rows / most(1, cut.x_panels);
    cut.higher = job->rows - cut.height * cut.x_panels;
    cut.packs_y = job->y.place != 1 || (cut.x_panels > 2 && job->y.step > NR);
    /* Rows of the output that are written in order are fetched in time, but only a few of them. */
    index_t passing = PASSING;
    if (cut.y_stays && !job->swapped && !job->streams) passing = job->x.place == 1 && job->x.step > 1 && job->terms >= LONG ? PACKED_AT_ONCE : 1;
    cut.x_block = fitting(cut.y_stays ? least(cut.x_panels, passing) : cut.x_panels, MR, job->terms, cut.y_stays ? PASS : STAY);
    cut.y_block = fitting(cut.y_stays ? cut.y_panels : least(cut.y_panels, passing), NR, job->terms, cut.y_stays ? STAY : PASS);
    return cut;
}

/* Numbers of the packed panels of a job, however it is cut. */
static index_t room(index_t places, index_t panel, index_t terms) { return fitting(parts(places, panel), panel, terms, STAY) * panel * distance(terms); }

static struct factor panel_of_x(const struct job *job, const struct cut *cut, index_t row, index_t height, real *packed) {
    struct factor x = moved(job->x, row);
    if (!cut->packs_x) return x;
    return x.step == 1 ? (struct factor){packed, distance(job->terms), 1} : (struct factor){packed, 1, height};
}

static struct factor panel_of_y(const struct job *job, const struct cut *cut, index_t column, index_t count, real *packed) {
    if (!cut->packs_y && count % WIDTH == 0) return moved(job->y, column);
    return (struct factor){packed, 1, padded(count)};
}

static index_t first_row(const struct cut *cut, index_t panel) { return panel * cut->height + least(panel, cut->higher); }

static void pack_x(const struct job *job, const struct cut *cut, index_t first, index_t panels, real *x_room) {
    if (cut->packs_x && panels > 1 && panels <= PASSING && job->x.place == 1 && job->x.step > 1) {
        index_t rows[PASSING];
        for (index_t i = 0; i < panels; i++) rows[i] = first_row(cut, first + i + 1) - first_row(cut, first + i);
        pack_terms(moved(job->x, first_row(cut, first)), rows, panels, job->terms, x_room);
        return;
    }
    for (index_t i = 0; cut->packs_x && i < panels; i++) {
        index_t row = first_row(cut, first + i);
        pack_rows(moved(job->x, row), first_row(cut, first + i + 1) - row, job->terms, x_room + i * MR * distance(job->terms));
    }
}

static void pack_y(const struct job *job, const struct cut *cut, index_t first, index_t panels, real *y_room) {
    struct factor y = moved(job->y, first * NR);
    index_t columns = job->columns - first * NR, group = cut->packs_y && y.place == 1 ? least(panels, columns / NR) : 0;
    for (index_t i = 0; i < group; i += 4) pack_panels(moved(y, i * NR), least(4, group - i), job->terms, y_room + i * NR * distance(job->terms));
    for (index_t i = group; i < panels; i++) {
        index_t count = least(NR, columns - i * NR);
        if (cut->packs_y || count % WIDTH) pack_panel(moved(y, i * NR), count, job->terms, y_room + i * NR * distance(job->terms));
    }
}

/* Do the tiles of a block that begins with these panels. The panels of what stays are in the outer loop. */
static void do_block(const struct job *job, const struct cut *cut, index_t first_x, index_t first_y, int new_x, int new_y, real *x_room, real *y_room) {
    index_t x_panels = least(cut->x_block, cut->x_panels - first_x), y_panels = least(cut->y_block, cut->y_panels - first_y);
    if (new_x) pack_x(job, cut, first_x, x_panels, x_room);
    if (new_y) pack_y(job, cut, first_y, y_panels, y_room);
    for (index_t x_panel = 0, y_panel = 0; x_panel < x_panels && y_panel < y_panels;) {
        struct tile tile = {.row = first_row(cut, first_x + x_panel), .column = (first_y + y_panel) * NR};
        tile.rows = cut->height + (first_x + x_panel < cut->higher);
        tile.columns = least(NR, job->columns - tile.column);
        tile.x = panel_of_x(job, cut, tile.row, tile.rows, x_room + x_panel * MR * distance(job->terms));
        tile.y = panel_of_y(job, cut, tile.column, tile.columns, y_room + y_panel * NR * distance(job->terms));
        tiles[tile.rows - 1][padded(tile.columns) / WIDTH - 1](job, &tile);
        if (cut->y_stays) {
            if (++x_panel == x_panels) x_panel = 0, y_panel++;
        } else {
            if (++y_panel == y_panels) y_panel = 0, x_panel++;
        }
    }
}

static void do_job(const struct job *job, real *memory) {
    struct cut cut = cut_job(job);
    real *x_room = memory, *y_room = memory + room(job->rows, MR, job->terms);
    if (cut.y_stays) {
        for (index_t y = 0; y < cut.y_panels; y += cut.y_block)
            for (index_t x = 0; x < cut.x_panels; x += cut.x_block) do_block(job, &cut, x, y, 1, x == 0, x_room, y_room);
    } else {
        for (index_t x = 0; x < cut.x_panels; x += cut.x_block)
            for (index_t y = 0; y < cut.y_panels; y += cut.y_block) do_block(job, &cut, x, y, y == 0, 1, x_room, y_room);
    }
    if (job->streams) streamed();
}

/* Bytes of packed panels, stack and walk. */
static size_t bytes_of(const struct job *job, index_t depth, index_t stretches) {
    index_t numbers = room(job->rows, MR, job->terms) + room(job->columns, NR, job->terms) + depth * TILE;
    return (size_t)numbers * sizeof(real) + (size_t)stretches * sizeof(struct stretch) + 256;
}

#endif
