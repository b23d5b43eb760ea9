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
#define STAY ((index_t)4 << 20)
/* Panels of x that pass by at once, so that a panel of y serves all of them from the second-level cache. */
#define PASSING 4
/* Rows that lie so far from each other share few sets of the cache, and push each other out. */
#define CROWDED(row) ((row) * (index_t)sizeof(real) % 1024 == 0)

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
    index_t rows, columns, terms;
    struct stretch *walk;
    index_t stretches;
    real *stack;
    const void *operation;
    index_t first; /* task that has row 0 (products), or column 0 (gradients) */
    void (*finish)(const struct job *job, index_t group, index_t row, index_t rows, index_t column, index_t columns, real *tile);
};

/* ------------------------------------------------------------------------------------------------------------- Tiles */

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

INLINE void sum_tile(int rows, int vectors, const struct job *job, struct factor x, struct factor y, index_t row, index_t column, index_t columns) {
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
        UNROLL for (int r = 0; r < rows; r++) UNROLL for (int v = 0; v < vectors; v++) store(top + r * NR + v * WIDTH, acc[r][v]);
        if (s->group < 0)
            top += TILE;
        else
            job->finish(job, s->group, row, rows, column, columns, top);
    }
}

#define TILE_ARGUMENTS const struct job *job, struct factor x, struct factor y, index_t row, index_t column, index_t columns
#define DEFINE_TILE(rows, vectors) static void tile_##rows##_##vectors(TILE_ARGUMENTS) { sum_tile(rows, vectors, job, x, y, row, column, columns); }
#if VECTORS == 3
#define DEFINE_TILES(rows) DEFINE_TILE(rows, 1) DEFINE_TILE(rows, 2) DEFINE_TILE(rows, 3)
#define TILES(rows) {tile_##rows##_1, tile_##rows##_2, tile_##rows##_3}
#else
#define DEFINE_TILES(rows) DEFINE_TILE(rows, 1) DEFINE_TILE(rows, 2)
#define TILES(rows) {tile_##rows##_1, tile_##rows##_2}
#endif
typedef void (*tile_t)(TILE_ARGUMENTS);
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

static index_t smaller_of(index_t a, index_t b) { return a < b ? a : b; }
static index_t larger_of(index_t a, index_t b) { return a > b ? a : b; }
static index_t parts(index_t whole_, index_t part) { return (whole_ + part - 1) / part; }
static index_t padded(index_t columns) { return parts(columns, WIDTH) * WIDTH; }

/* Copy `terms` terms of `places` places: to[p * width + i], zeros from `places` to `width`. */
static struct factor pack(struct factor from, index_t places, index_t width, index_t terms, real *to) {
    for (index_t p = 0; p < terms; p++) {
        const real *term = from.at + p * from.step;
        for (index_t i = 0; i < places; i++) to[p * width + i] = term[i * from.place];
        for (index_t i = places; i < width; i++) to[p * width + i] = 0;
    }
    return (struct factor){to, 1, width};
}

static struct factor moved(struct factor f, index_t places) { return (struct factor){f.at + places * f.place, f.place, f.step}; }

/* Rows are cut into parts of nearly equal height, since a low tile keeps the processor less busy. */
static index_t cut(index_t rows, index_t panel) { return rows * panel / parts(rows, MR); }

/* -------------------------------------------------------------------------------------------------------------- Loops */

/* Memory that a job needs: packed panels, walk and stack. */
static size_t bytes_of(index_t x_numbers, index_t y_numbers, index_t depth, index_t stretches) {
    return (size_t)(x_numbers + y_numbers + depth * TILE) * sizeof(real) + (size_t)stretches * sizeof(struct stretch) + 256;
}

/* Rows of x whose packed panels stay: whole panels. */
static index_t staying_rows(index_t rows, index_t terms) {
    index_t fit = larger_of(1, STAY / (index_t)sizeof(real) / larger_of(terms, 1) / MR) * MR;
    return smaller_of(rows, fit);
}

/* Panels of x stay in the caches, panels of y pass by. */
static void pass_y(const struct job *job, real *x_room, real *y_room) {
    index_t most = staying_rows(job->rows, job->terms);
    int packs_x = job->columns > 4 * NR || (job->x.step == 1 && CROWDED(job->x.place)) || (job->x.step != 1 && CROWDED(job->x.step));
    for (index_t top = 0; top < job->rows; top += most) {
        index_t rows = smaller_of(most, job->rows - top), panels = parts(rows, MR);
        for (index_t panel = 0; packs_x && panel < panels; panel++) {
            index_t r = cut(rows, panel), height = cut(rows, panel + 1) - r;
            pack(moved(job->x, top + r), height, height, job->terms, x_room + r * job->terms);
        }
        for (index_t column = 0; column < job->columns; column += NR) {
            index_t columns = smaller_of(NR, job->columns - column), width = padded(columns);
            struct factor y = moved(job->y, column);
            if (y.place != 1 || columns != width || (panels > 2 && y.step != width)) y = pack(y, columns, width, job->terms, y_room);
            for (index_t panel = 0; panel < panels; panel++) {
                index_t r = cut(rows, panel), height = cut(rows, panel + 1) - r;
                struct factor x = packs_x ? (struct factor){x_room + r * job->terms, 1, height} : moved(job->x, top + r);
                tiles[height - 1][width / WIDTH - 1](job, x, y, top + r, column, columns);
            }
        }
    }
}

/* ----------------------------------------------------------------------------------------------------------- Product */

/* Apply bias and activation to a tile of sums, and write it out. */
static void finish_product(const struct job *job, index_t group, index_t row, index_t rows, index_t column, index_t columns, real *tile) {
    const struct product *o = job->operation;
    const real *bias = o->bias;
    index_t vectors = parts(columns, WIDTH);
    (void)group;
    for (index_t v = 0; v < vectors; v++) {
        index_t count = smaller_of(WIDTH, columns - v * WIDTH), place = (job->first + row) * o->c_row + column + v * WIDTH;
        vec shift = all(0);
        if (bias) shift = count == WIDTH ? load(bias + column + v * WIDTH) : load_part(bias + column + v * WIDTH, count);
        for (index_t r = 0; r < rows; r++) {
            vec z = load(tile + r * NR + v * WIDTH);
            if (bias) z = z + shift;
            if (o->before) {
                real *before = (real *)o->before + place + r * o->c_row;
                if (count == WIDTH) store(before, flushed(z));
                else store_part(before, flushed(z), count);
            }
            if (o->activation == RELU) z = relu(z);
            if (o->activation == LEAKY_RELU) z = leaky_relu(z);
            if (o->activation > LEAKY_RELU) {
                store(tile + r * NR + v * WIDTH, z);
                NAME(activate_row)(o->activation, tile + r * NR + v * WIDTH, tile + r * NR + v * WIDTH, count);
                z = load(tile + r * NR + v * WIDTH);
            }
            real *c = (real *)o->c + place + r * o->c_row;
            if (count == WIDTH) store(c, flushed(z));
            else store_part(c, flushed(z), count);
        }
    }
}

static index_t walk_product(index_t terms, struct stretch *walk) {
    index_t count = larger_of(1, parts(terms, BLOCK_TERMS));
    for (index_t i = 0; walk && i < count; i++)
        walk[i] = (struct stretch){smaller_of(BLOCK_TERMS, terms - i * BLOCK_TERMS), i > 0, i == count - 1 ? 0 : -1};
    return count;
}

size_t NAME(product_scratch)(const void *operation);
size_t NAME(product_scratch)(const void *operation) {
    const struct product *o = operation;
    return bytes_of(staying_rows(o->m, o->k) * o->k, NR * o->k, 2, walk_product(o->k, NULL));
}

static real *at_line(void *memory) { return (real *)(((uintptr_t)memory + 63) & ~(uintptr_t)63); }

void NAME(product)(const void *operation, index_t begin, index_t end, void *scratch);
void NAME(product)(const void *operation, index_t begin, index_t end, void *scratch) {
    const struct product *o = operation;
    struct job job = {.rows = end - begin, .columns = o->n, .terms = o->k, .operation = o, .first = begin, .finish = finish_product};
    job.x = (struct factor){(const real *)o->a + begin * o->a_row, o->a_row, o->a_column};
    job.y = (struct factor){o->b, o->b_column, o->b_row};
    job.walk = scratch;
    job.stretches = walk_product(o->k, job.walk);
    job.stack = at_line(job.walk + job.stretches);
    real *x_room = job.stack + 2 * TILE;
    pass_y(&job, x_room, at_line(x_room + staying_rows(job.rows, o->k) * o->k));
}

/* --------------------------------------------------------------------------------------------------- Weight gradient */

static void finish_gradient(const struct job *job, index_t group, index_t row, index_t rows, index_t column, index_t columns, real *tile) {
    const struct weight_gradient *o = job->operation;
    real *out = (real *)o->kernel[group] + row * o->units + job->first + column;
    for (index_t r = 0; r < rows; r++)
        for (index_t c = 0; c < columns; c += WIDTH) {
            vec sum = flushed(load(tile + r * NR + c));
            if (columns - c >= WIDTH) store(out + r * o->units + c, sum);
            else store_part(out + r * o->units + c, sum, columns - c);
        }
}

static index_t walk_shards(const struct shards *shards, struct stretch *walk) {
    index_t count = 0;
    for (index_t g = 0; g < shards->groups; g++)
        for (index_t l = shards->group_leaf[g]; l < shards->group_leaf[g + 1]; l++) {
            index_t rows = shards->leaf_row[l + 1] - shards->leaf_row[l], blocks = larger_of(1, parts(rows, BLOCK_TERMS));
            for (index_t i = 0; walk && i < blocks; i++) {
                int ends = i == blocks - 1;
                walk[count + i] = (struct stretch){smaller_of(BLOCK_TERMS, rows - i * BLOCK_TERMS), (i > 0) + (ends ? shards->folds[l] : 0),
                                                   ends && l == shards->group_leaf[g + 1] - 1 ? g : -1};
            }
            count += blocks;
        }
    return count;
}

size_t NAME(weight_gradient_scratch)(const void *operation);
size_t NAME(weight_gradient_scratch)(const void *operation) {
    const struct weight_gradient *o = operation;
    index_t rows = o->shards->rows;
    return bytes_of(staying_rows(o->features, rows) * rows, NR * rows, o->shards->depth + 2, walk_shards(o->shards, NULL));
}

void NAME(weight_gradient)(const void *operation, index_t begin, index_t end, void *scratch);
void NAME(weight_gradient)(const void *operation, index_t begin, index_t end, void *scratch) {
    const struct weight_gradient *o = operation;
    index_t rows = o->shards->rows;
    struct job job = {.rows = o->features, .columns = end - begin, .terms = rows, .operation = o, .first = begin, .finish = finish_gradient};
    job.x = (struct factor){o->x, 1, o->x_row};
    job.y = (struct factor){(const real *)o->dy + begin, 1, o->dy_row};
    job.walk = scratch;
    job.stretches = walk_shards(o->shards, job.walk);
    job.stack = at_line(job.walk + job.stretches);
    real *x_room = job.stack + (o->shards->depth + 2) * TILE;
    pass_y(&job, x_room, at_line(x_room + staying_rows(job.rows, rows) * rows));
}

/* ------------------------------------------------------------------------------------------------------- Column sums */

size_t NAME(column_sums_scratch)(const void *operation);
size_t NAME(column_sums_scratch)(const void *operation) {
    const struct column_sums *o = operation;
    return (size_t)(o->shards->depth + 1) * sizeof(vec) + 64;
}

INLINE vec part_or_all(const real *from, index_t count) { return count >= WIDTH ? load(from) : load_part(from, count); }

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
                    vec a = part_or_all((const real *)o->a + r * o->a_row + j, count);
                    sum = o->b ? fma_(a, part_or_all((const real *)o->b + r * o->b_row + j, count), sum) : sum + a;
                }
                for (index_t fold = 0; fold < shards->folds[l]; fold++) sum = load(top -= WIDTH) + sum;
                store(top, sum);
                top += WIDTH;
            }
            vec sum = flushed(load(top -= WIDTH));
            if (count >= WIDTH) store((real *)o->out[g] + j, sum);
            else store_part((real *)o->out[g] + j, sum, count);
        }
    }
}
