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
