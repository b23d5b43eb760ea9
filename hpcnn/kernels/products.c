/* Products of matrices, gradients of weights along the summation tree, and sums of columns.
 *
 * A tile of the output, MR rows and some vectors wide, lies in the registers while its terms are added, along a `walk`:
 * stretches of terms, each followed by additions of earlier sums. Blocks of terms and leaves of the tree are the same to
 * it. What is computed last is always the rightmost leaf, so that the tile in the registers takes in the sums that wait
 * on the stack before it is put there itself, and is stored once.
 *
 * The factor whose numbers are broadcast is called x (a row of it belongs to a row of the tile), the one that is loaded
 * as vectors y. They are packed where they would be read in unfavourable order: panels of x as (terms, rows), panels of
 * y as (terms, columns), with columns that do not exist filled by zeros.
 */
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

/* Bytes of the packed panels that stay while those of the other factor pass by. */
#define STAY ((index_t)5 << 20)
/* Bytes and panels that pass by at once: they lie in the second-level cache when a panel of those that stay comes. */
#define PASS ((index_t)1 << 19)
#define PASSING 8
/* Bytes of an output from which on it does not stay in the caches anyway. */
#define LARGE ((size_t)4 << 20)
/* Rows that lie so far from each other share few sets of the first-level cache, and push each other out. */
#define CROWDED(stride) ((stride) * (index_t)sizeof(real) % 2048 == 0)

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
    real *before;
    int activation;
    int streams; /* whether the output is written past the caches */
    int keeps;   /* whether nothing is flushed: other sums are added to these along the tree */
};

/* ------------------------------------------------------------------------------------------------------------- Tiles */

static index_t least(index_t a, index_t b) { return a < b ? a : b; }
static index_t most(index_t a, index_t b) { return a > b ? a : b; }
static index_t parts(index_t all_, index_t part) { return (all_ + part - 1) / part; }
static index_t padded(index_t columns) { return parts(columns, WIDTH) * WIDTH; }
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
    int at_once = !job->swapped && (HAS_MASKS || columns == vectors * WIDTH) && !job->before && job->activation <= RELU;
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
ALL_ROWS(DEFINE_TILES)
static const tile_t tiles[MR][VECTORS] = {LIST_ROWS(TILES)};

/* ----------------------------------------------------------------------------------------------------------- Packing */

static struct factor moved(struct factor f, index_t places) { return (struct factor){f.at + places * f.place, f.place, f.step}; }

/* Packed panels begin at such distances; rows of a panel, too, which then lie well in the cache. */
static index_t distance(index_t terms) { return padded(terms) + 64 / (index_t)sizeof(real); }

/* A panel of y, term by term, with zeros up to whole vectors. Terms of a column that lie next to each other are
 * transposed in blocks. */
static void pack_panel(struct factor from, index_t columns, index_t terms, real *to) {
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

/* -------------------------------------------------------------------------------------------------------------- Loops */

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
    index_t passing = cut.y_stays && !job->swapped && !job->streams ? 1 : PASSING;
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

static real *at_line(void *memory) { return (real *)(((uintptr_t)memory + 63) & ~(uintptr_t)63); }

/* A tile of the transposed output becomes one of the output, `low` numbers wide. */
#define LOW_TILE (parts(MR, WIDTH) * WIDTH)
static void transpose_tile(const real *tile, index_t rows, index_t columns, real *to) {
    for (index_t c = 0; c < columns; c += WIDTH)
        for (index_t r = 0; r < rows; r += WIDTH) {
            vec block[WIDTH];
            for (index_t i = 0; i < WIDTH; i++) block[i] = r + i < rows ? load(tile + (r + i) * NR + c) : all(0);
            transpose(block);
            for (index_t i = 0; i < WIDTH; i++) store(to + (c + i) * LOW_TILE + r, block[i]);
        }
}

/* Apply bias and activation to sums that lie in rows of `width` numbers, and write them out. */
static void finish_sums(const struct job *job, index_t group, index_t row, index_t rows, index_t column, index_t columns, real *sums, index_t width) {
    row += job->first_row;
    column += job->first_column;
    for (index_t v = 0; v < columns; v += WIDTH) {
        index_t count = columns - v;
        vec bias = job->bias ? load_some(job->bias + column + v, count) : all(0);
        for (index_t r = 0; r < rows; r++) {
            index_t place = (row + r) * job->out_row + column + v;
            vec z = load(sums + r * width + v);
            if (job->bias) z = z + bias;
            if (job->before) store_some(job->before + place, flushed(z), count);
            if (job->activation == RELU) z = relu(z);
            if (job->activation == LEAKY_RELU) z = leaky_relu(z);
            if (job->activation > LEAKY_RELU) {
                store(sums + r * width + v, z);
                NAME(activate_row)(job->activation, sums + r * width + v, sums + r * width + v, least(count, WIDTH));
                z = load(sums + r * width + v);
            }
            store_some((real *)job->out[group] + place, job->keeps ? z : flushed(z), count);
        }
    }
}

static void finish_tile(const struct job *job, index_t group, const struct tile *tile, real *sums) {
    if (job->swapped) {
        real turned[NR * LOW_TILE] __attribute__((aligned(64)));
        transpose_tile(sums, tile->rows, tile->columns, turned);
        finish_sums(job, group, tile->column, tile->columns, tile->row, tile->rows, turned, LOW_TILE);
    } else {
        finish_sums(job, group, tile->row, tile->rows, tile->column, tile->columns, sums, NR);
    }
}

static void swap(struct job *job) {
    struct factor x = job->x;
    index_t rows = job->rows;
    job->swapped = 1;
    job->x = job->y;
    job->y = x;
    job->rows = job->columns;
    job->columns = rows;
}

/* ----------------------------------------------------------------------------------------------------------- Product */

static index_t walk_product(index_t terms, struct stretch *walk) {
    index_t count = most(1, parts(terms, BLOCK_TERMS));
    for (index_t i = 0; walk && i < count; i++)
        walk[i] = (struct stretch){least(BLOCK_TERMS, terms - i * BLOCK_TERMS), i > 0, i == count - 1 ? 0 : -1};
    return count;
}

/* Where columns of b lie far apart they would have to be transposed. The transposed product broadcasts them instead, if
 * it costs less to transpose a and c. */
static struct job product_job(const struct product *o, index_t begin, index_t end) {
    struct job job = {.rows = end - begin, .columns = o->n, .terms = o->k, .first_row = begin};
    job.x = (struct factor){(const real *)o->a + begin * o->a_row, o->a_row, o->a_column};
    job.y = (struct factor){o->b, o->b_column, o->b_row};
    job.out = &o->c;
    job.out_row = o->c_row;
    job.bias = o->bias;
    job.before = o->before;
    job.activation = o->activation;
    if (o->b_row == 1 && o->b_column != 1 && o->m * (o->k + o->n) < o->n * o->k) swap(&job);
    return job;
}

size_t NAME(product_scratch)(const void *operation);
size_t NAME(product_scratch)(const void *operation) {
    const struct product *o = operation;
    struct job job = product_job(o, 0, o->m);
    return bytes_of(&job, 2, walk_product(o->k, NULL));
}

void NAME(product)(const void *operation, index_t begin, index_t end, void *scratch);
void NAME(product)(const void *operation, index_t begin, index_t end, void *scratch) {
    const struct product *o = operation;
    struct job job = product_job(o, begin, end);
    job.walk = scratch;
    job.stretches = walk_product(o->k, job.walk);
    job.stack = at_line(job.walk + job.stretches);
    do_job(&job, job.stack + 2 * TILE);
}

/* --------------------------------------------------------------------------------------------------- Weight gradient */

static index_t walk_shards(const struct shards *shards, struct stretch *walk) {
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

/* Few units, which would fill the vectors badly, are broadcast instead. */
static struct job gradient_job(const struct weight_gradient *o, index_t begin, index_t end) {
    struct job job = {.rows = o->features, .columns = end - begin, .terms = o->shards->rows, .first_column = begin};
    job.x = (struct factor){o->x, 1, o->x_row};
    job.y = (struct factor){(const real *)o->dy + begin, 1, o->dy_row};
    job.out = o->kernel;
    job.out_row = o->units;
    job.keeps = 1;
    if (padded(o->units) * 4 > o->units * 5 && o->features >= NR) {
        swap(&job);
    } else {
        uintptr_t places = (uintptr_t)(o->units * (index_t)sizeof(real)) | (uintptr_t)(begin * (index_t)sizeof(real));
        for (index_t g = 0; g < o->shards->groups; g++) places |= (uintptr_t)o->kernel[g];
        job.streams = places % 64 == 0 && NR * sizeof(real) % 64 == 0 && (size_t)(o->features * o->units) * sizeof(real) >= LARGE;
    }
    return job;
}

size_t NAME(weight_gradient_scratch)(const void *operation);
size_t NAME(weight_gradient_scratch)(const void *operation) {
    const struct weight_gradient *o = operation;
    struct job job = gradient_job(o, 0, o->units);
    return bytes_of(&job, o->shards->depth + 2, walk_shards(o->shards, NULL));
}

void NAME(weight_gradient)(const void *operation, index_t begin, index_t end, void *scratch);
void NAME(weight_gradient)(const void *operation, index_t begin, index_t end, void *scratch) {
    const struct weight_gradient *o = operation;
    struct job job = gradient_job(o, begin, end);
    job.walk = scratch;
    job.stretches = walk_shards(o->shards, job.walk);
    job.stack = at_line(job.walk + job.stretches);
    do_job(&job, job.stack + (o->shards->depth + 2) * TILE);
}

/* ------------------------------------------------------------------------------------------------------- Column sums */

size_t NAME(column_sums_scratch)(const void *operation);
size_t NAME(column_sums_scratch)(const void *operation) {
    const struct column_sums *o = operation;
    return (size_t)(o->shards->depth + 1) * sizeof(vec) + 64;
}

void NAME(column_sums)(const void *operation, index_t begin, index_t end, void *scratch);
void NAME(column_sums)(const void *operation, index_t begin, index_t end, void *scratch) {
    const struct column_sums *o = operation;
    const struct shards *shards = o->shards;
    for (index_t j = begin; j < end; j += WIDTH) {
        index_t count = end - j;
        real *top = scratch;
        for (index_t g = 0; g < shards->groups; g++) {
            for (index_t l = shards->group_leaf[g]; l < shards->group_leaf[g + 1]; l++) {
                vec sum = all(0);
                for (index_t r = shards->leaf_row[l]; r < shards->leaf_row[l + 1]; r++) {
                    vec a = load_some((const real *)o->a + r * o->a_row + j, count);
                    sum = o->b ? fma_(a, load_some((const real *)o->b + r * o->b_row + j, count), sum) : sum + a;
                }
                for (index_t fold = 0; fold < shards->folds[l]; fold++) sum = load(top -= WIDTH) + sum;
                store(top, sum);
                top += WIDTH;
            }
            store_some((real *)o->out[g] + j, load(top -= WIDTH), count);
        }
    }
}
