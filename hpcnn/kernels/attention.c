/* Attention: softmax(scale q k^T) v by blocks of queries, so that no array of queries x keys is kept. */
#if defined(__GNUC__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function" /* panels.h has more than is needed here */
#endif
#include "panels.h"
#if defined(__GNUC__)
#pragma GCC diagnostic pop
#endif
#include "probabilities.h"

/* Only what lies in memory between stretches, or is part of a vector where those can't be stored, comes here. */
static void finish_tile(const struct job *job, index_t group, const struct tile *tile, real *sums) {
    for (index_t r = 0; r < tile->rows; r++)
        for (index_t v = 0; v < tile->columns; v += WIDTH) {
            vec sum = load(sums + r * NR + v);
            real *to = (real *)job->out[group] + (tile->row + r) * job->out_row + tile->column + v;
            store_some(to, job->keeps ? sum : flushed(sum), tile->columns - v);
        }
}

/* ------------------------------------------------------------------------------------------------------------ Memory */

/* What is carved out of scratch, or how much of it there must be, where `at` is NULL. */
struct memory {
    char *at;
    size_t used;
};
static void *carve(struct memory *memory, size_t bytes) {
    void *piece = memory->at ? memory->at + memory->used : NULL;
    memory->used += (bytes + 63) & ~(size_t)63;
    return piece;
}
static real *carve_reals(struct memory *memory, index_t numbers) { return carve(memory, (size_t)numbers * sizeof(real)); }

/* A packed factor: panels of NR columns, one after the other, each term by term. */
struct panels {
    real *at;
    index_t columns, terms;
};
static struct panels carve_panels(struct memory *memory, index_t columns, index_t terms) {
    return (struct panels){carve_reals(memory, parts(columns, NR) * NR * terms), columns, terms};
}
static void pack(struct factor from, struct panels *to) {
    for (index_t c = 0; c < to->columns; c += NR) pack_panel(moved(from, c), least(NR, to->columns - c), to->terms, to->at + c * to->terms);
}
static struct factor panel_at(struct panels y, index_t column) {
    return (struct factor){y.at + column * y.terms, 1, least(NR, padded(y.columns - column))};
}

/* What both passes need of an operation, and memory for a block of queries. */
struct pass {
    index_t heads, kv_heads, queries, keys, dim, value_dim;
    int causal;
    double scale;
    const real *mask;
    struct job job;
    struct panels turned_k; /* columns are keys */
    real *q;                /* a block's rows, close to each other */
    index_t q_row;
    real *p; /* a block's scores, then probabilities */
    index_t p_row;
};

#define PASS_OF(o) \
    (struct pass) { \
        .heads = (o)->heads, .kv_heads = (o)->kv_heads, .queries = (o)->queries, .keys = (o)->keys, .dim = (o)->dim, \
        .value_dim = (o)->value_dim, .causal = (o)->causal, .scale = (o)->scale, .mask = (o)->mask \
    }
/* Where the first row of a sample and head is. */
#define AT(o, name, sample, head) ((real *)(o)->name + (sample) * (o)->name##_stride[0] + (head) * (o)->name##_stride[2])

/* Rows of a block begin at such distances, that few of them share a set of the cache. */
static index_t spread(index_t columns) { return padded(columns) + 64 / (index_t)sizeof(real); }

static void carve_pass(struct pass *pass, struct memory *memory) {
    index_t terms = most(pass->keys, most(pass->dim, pass->value_dim));
    pass->job.walk = carve(memory, sizeof(struct stretch) * (size_t)most(1, parts(terms, BLOCK_TERMS)));
    pass->job.stack = carve_reals(memory, 2 * TILE);
    pass->turned_k = carve_panels(memory, pass->keys, pass->dim);
    pass->q_row = spread(pass->dim);
    pass->q = carve_reals(memory, QUERIES * pass->q_row);
    pass->p_row = spread(pass->keys);
    pass->p = carve_reals(memory, QUERIES * pass->p_row);
}

static void copy_rows(const real *from, index_t stride, index_t rows, index_t columns, real *to, index_t to_stride) {
    for (index_t r = 0; r < rows; r++) memcpy(to + r * to_stride, from + r * stride, (size_t)columns * sizeof(real));
}

/* ---------------------------------------------------------------------------------------------------------- Products */

/* out[i, j] = sum of x[i, p] y[p, j] over the first `terms` terms of the panels, for their first `columns` columns. */
static void multiply(struct job *job, struct factor x, index_t rows, struct panels y, index_t columns, index_t terms, real *out, index_t out_row) {
    void *const outs[1] = {out};
    index_t x_panels = parts(rows, MR), higher = rows % x_panels;
    job->out = outs;
    job->out_row = out_row;
    job->stretches = most(1, parts(terms, BLOCK_TERMS));
    for (index_t i = 0; i < job->stretches; i++)
        job->walk[i] = (struct stretch){least(BLOCK_TERMS, terms - i * BLOCK_TERMS), i > 0, i == job->stretches - 1 ? 0 : -1};
    for (index_t c = 0; c < columns; c += NR) {
        struct tile tile = {.y = panel_at(y, c), .row = 0, .column = c, .columns = least(NR, columns - c)};
        for (index_t i = 0; i < x_panels; i++, tile.row += tile.rows) {
            tile.rows = rows / x_panels + (i < higher);
            tile.x = moved(x, tile.row);
            tiles[tile.rows - 1][padded(tile.columns) / WIDTH - 1](job, &tile);
        }
    }
    job->out = NULL;
}

/* Sums over all queries for each key and column, in tiles of QUERIES keys and NR columns. */
struct totals {
    real *tiles;
    index_t columns;
};
#define TALL parts(QUERIES, MR) /* tiles above each other */
static struct totals carve_totals(struct memory *memory, index_t keys, index_t columns) {
    return (struct totals){carve_reals(memory, parts(keys, QUERIES) * TALL * parts(columns, NR) * TILE), columns};
}
static real *tile_of(struct totals sums, index_t first, index_t i, index_t column) {
    return sums.tiles + ((first / QUERIES * TALL + i) * parts(sums.columns, NR) + column / NR) * TILE;
}

/* Add what the queries of a block give, x^T y, to the sums of the keys that the block sees. */
static void accumulate(struct job *job, const real *x, index_t x_row, struct panels y, index_t queries, index_t seen, const unsigned char *begun, struct totals sums) {
    job->stretches = 1;
    for (index_t first = 0; first < seen; first += QUERIES) {
        index_t rows = least(QUERIES, seen - first), x_panels = parts(rows, MR), higher = rows % x_panels;
        int adds = begun[first / QUERIES];
        *job->walk = (struct stretch){queries, adds, -1};
        for (index_t c = 0; c < sums.columns; c += NR) {
            struct tile tile = {.y = panel_at(y, c), .row = first, .columns = least(NR, sums.columns - c)};
            for (index_t i = 0; i < x_panels; i++, tile.row += tile.rows) {
                tile.rows = rows / x_panels + (i < higher);
                tile.x = (struct factor){x + tile.row, 1, x_row};
                job->stack = tile_of(sums, first, i, c) + (adds ? TILE : 0);
                tiles[tile.rows - 1][padded(tile.columns) / WIDTH - 1](job, &tile);
            }
        }
    }
}

static void write_totals(struct totals sums, index_t keys, const unsigned char *begun, real *out, index_t out_row) {
    for (index_t first = 0; first < keys; first += QUERIES) {
        index_t rows = least(QUERIES, keys - first), x_panels = parts(rows, MR), higher = rows % x_panels, row = first;
        for (index_t i = 0; i < x_panels; i++)
            for (index_t r = 0, height = rows / x_panels + (i < higher); r < height; r++, row++)
                for (index_t c = 0; c < sums.columns; c += WIDTH) {
                    vec sum = begun[first / QUERIES] ? load(tile_of(sums, first, i, c) + r * NR + c % NR) : all(0);
                    store_some(out + row * out_row + c, flushed(sum), sums.columns - c);
                }
    }
}

/* ------------------------------------------------------------------------------------------------------------ Blocks */

/* The keys that a block of queries sees, and one of its queries. */
static index_t seen_by_block(const struct pass *pass, index_t first) { return pass->causal ? least(first + QUERIES, pass->keys) : pass->keys; }
static index_t seen_by(const struct pass *pass, index_t query) { return pass->causal ? least(query + 1, pass->keys) : pass->keys; }

/* ----------------------------------------------------------------------------------------------------- The pass forward */

static double *carve_forward(const struct attention *o, struct pass *pass, struct panels *v, struct memory *memory) {
    *pass = PASS_OF(o);
    carve_pass(pass, memory);
    *v = carve_panels(memory, o->value_dim, o->keys);
    return carve(memory, (size_t)parts(o->keys, LANES) * LANES * sizeof(double));
}
size_t NAME(attention_scratch)(const void *operation);
size_t NAME(attention_scratch)(const void *operation) {
    struct pass pass;
    struct panels v;
    struct memory memory = {NULL, 0};
    carve_forward(operation, &pass, &v, &memory);
    return memory.used;
}

static void probabilities_of_block(const struct pass *pass, const real *mask, index_t first, index_t rows, double *power, double *saved) {
    index_t block = seen_by_block(pass, first);
    for (index_t r = 0; r < rows; r++, saved += 2) {
        real *s = pass->p + r * pass->p_row;
        index_t n = seen_by(pass, first + r);
        if (n == 0 || (mask && !leave_out(s, mask, n))) {
            saved[0] = saved[1] = 0;
            n = 0;
        } else {
            probabilities(s, n, pass->scale, power, saved);
        }
        fill(s, n, block);
    }
}

void NAME(attention)(const void *operation, index_t begin, index_t end, void *scratch);
void NAME(attention)(const void *operation, index_t begin, index_t end, void *scratch) {
    const struct attention *o = operation;
    struct pass pass;
    struct panels v;
    struct memory memory = {scratch, 0};
    double *power = carve_forward(o, &pass, &v, &memory);
    index_t shared = o->heads / o->kv_heads;
    for (index_t task = begin; task < end; task++) {
        index_t sample = task / o->kv_heads, kv_head = task % o->kv_heads;
        const real *mask = pass.mask ? pass.mask + sample * o->keys : NULL;
        pack((struct factor){AT(o, k, sample, kv_head), o->k_stride[1], 1}, &pass.turned_k);
        pack((struct factor){AT(o, v, sample, kv_head), 1, o->v_stride[1]}, &v);
        for (index_t head = kv_head * shared; head < (kv_head + 1) * shared; head++)
            for (index_t first = 0; first < o->queries; first += QUERIES) {
                index_t rows = least(QUERIES, o->queries - first), seen = seen_by_block(&pass, first);
                copy_rows(AT(o, q, sample, head) + first * o->q_stride[1], o->q_stride[1], rows, o->dim, pass.q, pass.q_row);
                pass.job.keeps = 1;
                multiply(&pass.job, (struct factor){pass.q, pass.q_row, 1}, rows, pass.turned_k, seen, o->dim, pass.p, pass.p_row);
                probabilities_of_block(&pass, mask, first, rows, power, o->saved + 2 * ((sample * o->heads + head) * o->queries + first));
                pass.job.keeps = 0;
                real *out = AT(o, out, sample, head) + first * o->out_stride[1];
                multiply(&pass.job, (struct factor){pass.p, pass.p_row, 1}, rows, v, o->value_dim, seen, out, o->out_stride[1]);
            }
    }
}

/* -------------------------------------------------------------------------------------------------------- The pass back */

struct back {
    struct pass pass;
    struct panels turned_v, k, q, dout; /* q and dout: a block's */
    real *dp, *dout_rows;
    index_t dout_row;
    struct totals dk, dv;
    unsigned char *begun; /* whether sums of so many keys hold something */
    real *stack;
};

static void carve_back(const struct attention_backward *o, struct back *back, struct memory *memory) {
    back->pass = PASS_OF(o);
    carve_pass(&back->pass, memory);
    back->turned_v = carve_panels(memory, o->keys, o->value_dim);
    back->k = carve_panels(memory, o->dim, o->keys);
    back->q = carve_panels(memory, o->dim, QUERIES);
    back->dout = carve_panels(memory, o->value_dim, QUERIES);
    back->dp = carve_reals(memory, QUERIES * back->pass.p_row);
    back->dout_row = spread(o->value_dim);
    back->dout_rows = carve_reals(memory, QUERIES * back->dout_row);
    back->dk = carve_totals(memory, o->keys, o->dim);
    back->dv = carve_totals(memory, o->keys, o->value_dim);
    back->begun = carve(memory, (size_t)parts(o->keys, QUERIES));
    back->stack = back->pass.job.stack;
}
size_t NAME(attention_backward_scratch)(const void *operation);
size_t NAME(attention_backward_scratch)(const void *operation) {
    struct back back;
    struct memory memory = {NULL, 0};
    carve_back(operation, &back, &memory);
    return memory.used;
}

/* p and ds of a block, whose scores and dp are there. */
static void gradients_of_block(struct back *back, const real *mask, index_t first, index_t rows, const double *saved) {
    const struct pass *pass = &back->pass;
    index_t block = seen_by_block(pass, first);
    for (index_t r = 0; r < rows; r++, saved += 2) {
        real *s = pass->p + r * pass->p_row, *dp = back->dp + r * pass->p_row;
        index_t n = seen_by(pass, first + r);
        if (n == 0 || (mask && !leave_out(s, mask, n))) {
            n = 0;
        } else {
            probabilities_again(s, n, pass->scale, saved);
            gradient_of_scores(s, dp, n, pass->scale);
        }
        fill(s, n, block);
        fill(dp, n, block);
    }
}

static void go_back(const struct attention_backward *o, struct back *back, index_t sample, index_t head, index_t first) {
    struct pass *pass = &back->pass;
    struct job *job = &pass->job;
    index_t rows = least(QUERIES, o->queries - first), seen = seen_by_block(pass, first);
    const real *q = AT(o, q, sample, head) + first * o->q_stride[1], *dout = AT(o, dout, sample, head) + first * o->dout_stride[1];
    const double *saved = o->saved + 2 * ((sample * o->heads + head) * o->queries + first);
    copy_rows(q, o->q_stride[1], rows, o->dim, pass->q, pass->q_row);
    copy_rows(dout, o->dout_stride[1], rows, o->value_dim, back->dout_rows, back->dout_row);
    back->q.terms = back->dout.terms = rows;
    pack((struct factor){pass->q, 1, pass->q_row}, &back->q);
    pack((struct factor){back->dout_rows, 1, back->dout_row}, &back->dout);
    job->stack = back->stack;
    job->keeps = 1;
    multiply(job, (struct factor){pass->q, pass->q_row, 1}, rows, pass->turned_k, seen, o->dim, pass->p, pass->p_row);
    multiply(job, (struct factor){back->dout_rows, back->dout_row, 1}, rows, back->turned_v, seen, o->value_dim, back->dp, pass->p_row);
    gradients_of_block(back, pass->mask ? pass->mask + sample * o->keys : NULL, first, rows, saved);
    job->keeps = 0;
    real *dq = AT(o, dq, sample, head) + first * o->dq_stride[1];
    multiply(job, (struct factor){back->dp, pass->p_row, 1}, rows, back->k, o->dim, seen, dq, o->dq_stride[1]);
    accumulate(job, back->dp, pass->p_row, back->q, rows, seen, back->begun, back->dk);
    accumulate(job, pass->p, pass->p_row, back->dout, rows, seen, back->begun, back->dv);
    memset(back->begun, 1, (size_t)parts(seen, QUERIES));
}

void NAME(attention_backward)(const void *operation, index_t begin, index_t end, void *scratch);
void NAME(attention_backward)(const void *operation, index_t begin, index_t end, void *scratch) {
    const struct attention_backward *o = operation;
    struct back back;
    struct memory memory = {scratch, 0};
    carve_back(o, &back, &memory);
    index_t shared = o->heads / o->kv_heads;
    for (index_t task = begin; task < end; task++) {
        index_t sample = task / o->kv_heads, kv_head = task % o->kv_heads;
        real *k = AT(o, k, sample, kv_head);
        pack((struct factor){k, o->k_stride[1], 1}, &back.pass.turned_k);
        pack((struct factor){k, 1, o->k_stride[1]}, &back.k);
        pack((struct factor){AT(o, v, sample, kv_head), o->v_stride[1], 1}, &back.turned_v);
        memset(back.begun, 0, (size_t)parts(o->keys, QUERIES));
        for (index_t head = kv_head * shared; head < (kv_head + 1) * shared; head++)
            for (index_t first = 0; first < o->queries; first += QUERIES) go_back(o, &back, sample, head, first);
        write_totals(back.dk, o->keys, back.begun, AT(o, dk, sample, kv_head), o->dk_stride[1]);
        write_totals(back.dv, o->keys, back.begun, AT(o, dv, sample, kv_head), o->dv_stride[1]);
    }
}
