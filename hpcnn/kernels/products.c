/* Products of matrices, gradients of weights along the summation tree, and sums of columns. */
#include "panels.h"

/* A tile of the transposed output becomes one of the output, whose rows have LOW_TILE numbers. */
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
            write_activated(job->activation, z, count, (real *)job->out[group] + place, job->saved ? job->saved + place : NULL, job->keeps);
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
    job.saved = o->saved;
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

/* Of many rows, one block after the other: each is packed once, row by row, and its panels stay in the second-level
 * cache. Then all tiles have sums on stacks of their own, which must not be too many, nor the blocks too short. */
#define STACKS ((index_t)8 << 20)
static index_t stacks_of(const struct job *job, index_t depth) { return parts(job->rows, MR) * parts(job->columns, NR) * (depth + 2) * TILE; }
static int by_blocks(const struct job *job, const struct shards *shards, index_t stretches) {
    index_t bytes = stacks_of(job, shards->depth) * (index_t)sizeof(real);
    return !job->swapped && !job->streams && stretches > 1 && shards->rows >= stretches * (BLOCK_TERMS / 2) && bytes <= STACKS;
}

/* All panels of a block of x. */
static void pack_block(const struct job *job, const struct cut *cut, real *to) {
    index_t apart = MR * distance(job->terms);
    for (index_t p = 0; p < job->terms; p++) {
        const real *from = job->x.at + p * job->x.step;
        for (index_t i = 0; i < cut->x_panels; i++) {
            index_t rows = cut->height + (i < cut->higher);
            for (index_t r = 0; r < rows; r += WIDTH) store(to + i * apart + p * rows + r, load_some(from + r, rows - r));
            from += rows;
        }
    }
}

static void do_blocks(const struct job *all_blocks, index_t depth, real *memory) {
    struct job job = *all_blocks;
    struct cut cut = {.packs_x = 1, .packs_y = 1, .x_panels = parts(job.rows, MR), .y_panels = parts(job.columns, NR)};
    cut.height = job.rows / most(1, cut.x_panels), cut.higher = job.rows - cut.height * cut.x_panels;
    real *x_room = memory, *y_room = x_room + cut.x_panels * MR * distance(BLOCK_TERMS), *stacks = y_room + cut.y_panels * NR * distance(BLOCK_TERMS);
    real *top = stacks;
    job.stretches = 1;
    for (struct stretch *s = all_blocks->walk; s < all_blocks->walk + all_blocks->stretches; s++) {
        job.walk = s, job.terms = s->terms;
        pack_block(&job, &cut, x_room);
        pack_y(&job, &cut, 0, cut.y_panels, y_room);
        job.stack = top;
        for (index_t y = 0; y < cut.y_panels; y++)
            for (index_t x = 0; x < cut.x_panels; x++, job.stack += (depth + 2) * TILE) {
                struct tile tile = {.row = first_row(&cut, x), .rows = cut.height + (x < cut.higher), .column = y * NR};
                tile.columns = least(NR, job.columns - tile.column);
                tile.x = (struct factor){x_room + x * MR * distance(job.terms), 1, tile.rows};
                tile.y = (struct factor){y_room + y * NR * distance(job.terms), 1, padded(tile.columns)};
                tiles[tile.rows - 1][padded(tile.columns) / WIDTH - 1](&job, &tile);
            }
        job.x.at += s->terms * job.x.step, job.y.at += s->terms * job.y.step;
        top += ((s->group < 0) - s->adds) * TILE;
    }
}

size_t NAME(weight_gradient_scratch)(const void *operation);
size_t NAME(weight_gradient_scratch)(const void *operation) {
    const struct weight_gradient *o = operation;
    struct job job = gradient_job(o, 0, o->units);
    index_t stretches = walk_shards(o->shards, NULL), depth = o->shards->depth;
    if (!by_blocks(&job, o->shards, stretches)) return bytes_of(&job, depth + 2, stretches);
    index_t panels = parts(job.rows, MR) * MR + parts(job.columns, NR) * NR;
    return (size_t)(panels * distance(BLOCK_TERMS) + stacks_of(&job, depth)) * sizeof(real) + (size_t)stretches * sizeof(struct stretch) + 256;
}

void NAME(weight_gradient)(const void *operation, index_t begin, index_t end, void *scratch);
void NAME(weight_gradient)(const void *operation, index_t begin, index_t end, void *scratch) {
    const struct weight_gradient *o = operation;
    struct job job = gradient_job(o, begin, end);
    job.walk = scratch;
    job.stretches = walk_shards(o->shards, job.walk);
    job.stack = at_line(job.walk + job.stretches);
    struct job whole = gradient_job(o, 0, o->units);
    if (by_blocks(&whole, o->shards, job.stretches)) do_blocks(&job, o->shards->depth, job.stack);
    else do_job(&job, job.stack + (o->shards->depth + 2) * TILE);
}

/* ------------------------------------------------------------------------------------------------------- Column sums */

/* Vectors of columns that are summed at once, so that longer pieces of memory are read. */
#define STRIP 4

size_t NAME(column_sums_scratch)(const void *operation);
size_t NAME(column_sums_scratch)(const void *operation) {
    const struct column_sums *o = operation;
    return (size_t)(o->shards->depth + 1) * STRIP * sizeof(vec);
}

/* Sum `count` columns from `column` on: so many vectors, the last of which may be a part. */
INLINE void sum_strip(int vectors, const struct column_sums *o, index_t column, index_t count, real *top) {
    const struct shards *shards = o->shards;
    const real *a = (const real *)o->a + column, *b = o->b ? (const real *)o->b + column : NULL;
    index_t last = count - (vectors - 1) * WIDTH;
    for (index_t g = 0, l = 0; g < shards->groups; g++) {
        for (; l < shards->group_leaf[g + 1]; l++) {
            vec sum[STRIP];
            UNROLL for (int v = 0; v < vectors; v++) sum[v] = all(0);
            for (index_t r = shards->leaf_row[l]; r < shards->leaf_row[l + 1]; r++)
                UNROLL for (int v = 0; v < vectors; v++) {
                    vec term = load_some(a + r * o->a_row + v * WIDTH, v < vectors - 1 ? WIDTH : last);
                    sum[v] = b ? fma_(term, load_some(b + r * o->b_row + v * WIDTH, v < vectors - 1 ? WIDTH : last), sum[v]) : sum[v] + term;
                }
            for (index_t fold = 0; fold < shards->folds[l]; fold++) {
                top -= STRIP * WIDTH;
                UNROLL for (int v = 0; v < vectors; v++) sum[v] = load(top + v * WIDTH) + sum[v];
            }
            UNROLL for (int v = 0; v < vectors; v++) store(top + v * WIDTH, sum[v]);
            top += STRIP * WIDTH;
        }
        top -= STRIP * WIDTH;
        for (int v = 0; v < vectors; v++)
            store_some((real *)o->out[g] + column + v * WIDTH, load(top + v * WIDTH), v < vectors - 1 ? WIDTH : last);
    }
}

void NAME(column_sums)(const void *operation, index_t begin, index_t end, void *scratch);
void NAME(column_sums)(const void *operation, index_t begin, index_t end, void *scratch) {
    index_t j = begin;
    for (; j + STRIP * WIDTH <= end; j += STRIP * WIDTH) sum_strip(STRIP, operation, j, STRIP * WIDTH, scratch);
    for (; j < end; j += WIDTH) sum_strip(1, operation, j, least(WIDTH, end - j), scratch);
}
