/* Recurrent layers: all steps of some samples at once, so that the recurrent kernel is packed once, and each step finds
 * it and the outputs of the step before in the caches. */
#pragma GCC diagnostic ignored "-Wunused-function" /* of panels.h, this needs only what packs */
#include "panels.h"

#include "cells.h"

/* Tiles here are whole vectors wide, and written at once. */
static void finish_tile(const struct job *job, index_t group, const struct tile *tile, real *sums) {
    (void)job, (void)group, (void)tile, (void)sums;
}

/* Samples that are done together, at most. */
#define TOGETHER (4 * MR)

/* Where memory that is only measured would begin. */
#define NOWHERE ((void *)64)

/* Scratch. Rows of samples begin at `line`, those of gradients of gates at `long_line`. */
struct memory {
    struct job job;
    index_t line, long_line;
    real *panels;
    real *h[2];    /* outputs of the step before, and of this */
    real *scaled;  /* r h, or the gradient of g */
    real *sums;    /* products */
    real *carried; /* see cells.h */
    real *d;       /* gradients of gates */
};

static index_t walk_terms(index_t terms, struct stretch *walk) {
    index_t count = most(1, parts(terms, BLOCK_TERMS));
    for (index_t i = 0; i < count; i++)
        walk[i] = (struct stretch){least(BLOCK_TERMS, terms - i * BLOCK_TERMS), i > 0, i == count - 1 ? 0 : -1};
    return count;
}

/* sums[r, j] = sum over p of x[r, p] b[p, j] for one packed panel of b. */
static void multiply(struct memory *m, const real *x, index_t x_row, index_t rows, index_t terms, const real *panel, index_t columns, real *sums, index_t sums_row) {
    const index_t panels = parts(rows, MR), width = padded(columns);
    void *out = sums;
    m->job.stretches = walk_terms(terms, m->job.walk);
    m->job.out = &out;
    m->job.out_row = sums_row;
    for (index_t i = 0, row = 0, height; i < panels; i++, row += height) {
        height = rows / panels + (i < rows % panels);
        struct tile tile = {{x + row * x_row, x_row, 1}, {panel, 1, width}, row, height, 0, width};
        tiles[height - 1][width / WIDTH - 1](&m->job, &tile);
    }
}

static void copy_rows(const real *from, index_t from_row, real *to, index_t to_row, index_t rows, index_t count) {
    for (index_t r = 0; r < rows; r++) memcpy(to + r * to_row, from + r * from_row, (size_t)count * sizeof(real));
}

static void clear(real *to, index_t count) { memset(to, 0, (size_t)count * sizeof(real)); }

/* ------------------------------------------------------------------------------------------------------------- Outputs */

/* The panels of a gate lie behind each other. */
static index_t gate_size(const struct recurrent *o) { return parts(o->units, NR) * NR * distance(o->units); }

static size_t forward_memory(const struct recurrent *o, void *scratch, struct memory *m) {
    const index_t rows = least(o->samples, TOGETHER), gates = gates_of(o->cell);
    m->job = (struct job){.walk = scratch, .keeps = 1};
    m->line = distance(o->units);
    m->job.stack = at_line(m->job.walk + parts(o->units, BLOCK_TERMS) + 1);
    m->panels = m->job.stack + 2 * TILE;
    m->h[0] = m->panels + gates * gate_size(o);
    m->h[1] = m->h[0] + rows * m->line;
    m->scaled = m->h[1] + rows * m->line;
    m->sums = m->scaled + rows * m->line;
    return (size_t)((char *)(m->sums + rows * gates * m->line) - (char *)scratch);
}

static void pack_kernel(const struct recurrent *o, const struct memory *m) {
    const index_t gates = gates_of(o->cell), units = o->units;
    real *panel = m->panels;
    for (index_t gate = 0; gate < gates; gate++)
        for (index_t column = 0; column < units; column += NR, panel += NR * distance(units)) {
            struct factor kernel = {(const real *)o->kernel + gate * units + column, 1, gates * units};
            pack_panel(kernel, least(NR, units - column), units, panel);
        }
}

/* Samples [first, first + rows) at one step, and the step before. */
struct step {
    index_t first, rows, now, before; /* before: -1 if there is none */
};

static real *row_of(const void *array, const struct recurrent *o, index_t sample, index_t step, index_t columns) {
    return (real *)array + (sample * o->steps + step) * columns;
}

/* Multiply x with the gates [from, to), for all units: whole rows are then read and written in order. */
static void multiply_gates(const struct recurrent *o, struct memory *m, const struct step *s, const real *x, index_t from, index_t to) {
    const index_t row = gates_of(o->cell) * m->line;
    if (s->before < 0) clear(m->sums, s->rows * row);
    else
        for (index_t gate = from; gate < to; gate++)
            for (index_t column = 0; column < o->units; column += NR) {
                const real *panel = m->panels + gate * gate_size(o) + column * distance(o->units);
                multiply(m, x, m->line, s->rows, o->units, panel, least(NR, o->units - column), m->sums + gate * m->line + column, row);
            }
}

static void do_cells(const struct recurrent *o, struct memory *m, const struct step *s) {
    const index_t units = o->units, gates = gates_of(o->cell);
    for (index_t r = 0; r < s->rows; r++) {
        const index_t sample = s->first + r;
        const struct gates x = {row_of(o->gates, o, sample, s->now, gates * units), units}, sums = {m->sums + r * gates * m->line, m->line};
        const real *h = m->h[0] + r * m->line;
        real *next = m->h[1] + r * m->line;
        if (o->cell == SIMPLE_RNN) {
            WITH_ACTIVATIONS(simple_cell, o, x, sums, next);
        } else if (o->cell == LSTM) {
            const real *c_before = s->before < 0 ? NULL : row_of(o->more, o, sample, s->before, units);
            WITH_ACTIVATIONS(lstm_cell, o, x, sums, c_before, row_of(o->more, o, sample, s->now, units), next);
        } else if (o->cell == GRU_AFTER) {
            WITH_ACTIVATIONS(gru_after_cell, o, x, sums, h, row_of(o->more, o, sample, s->now, 3 * units) + 2 * units, next);
        } else {
            WITH_ACTIVATIONS(gru_before_cell, o, x, sums, h, next);
        }
    }
}

/* The gates z and r of GRU_BEFORE, and r h. */
static void do_first_gates(const struct recurrent *o, struct memory *m, const struct step *s) {
    multiply_gates(o, m, s, m->h[0], 0, 2);
    for (index_t r = 0; r < s->rows; r++) {
        const struct gates x = {row_of(o->gates, o, s->first + r, s->now, 3 * o->units), o->units}, sums = {m->sums + r * 3 * m->line, m->line};
        WITH_ACTIVATIONS(gru_before_gates, o, x, sums, m->h[0] + r * m->line, m->scaled + r * m->line);
    }
    copy_rows(m->scaled, m->line, row_of(o->more, o, s->first, s->now, o->units), o->steps * o->units, s->rows, o->units);
}

static void do_samples(const struct recurrent *o, struct memory *m, index_t first, index_t rows) {
    const index_t units = o->units, place = o->steps * units;
    struct step s = {first, rows, 0, -1};
    clear(m->h[0], rows * m->line);
    for (index_t i = 0; i < o->steps; i++, s.before = s.now) {
        s.now = o->backwards ? o->steps - 1 - i : i;
        copy_rows(m->h[0], m->line, row_of(o->before, o, first, s.now, units), place, rows, units);
        if (o->cell == GRU_BEFORE) {
            do_first_gates(o, m, &s);
            multiply_gates(o, m, &s, m->scaled, 2, 3);
        } else {
            multiply_gates(o, m, &s, m->h[0], 0, gates_of(o->cell));
        }
        do_cells(o, m, &s);
        real *next = m->h[1];
        m->h[1] = m->h[0];
        m->h[0] = next;
        if (!o->last || i == o->steps - 1)
            copy_rows(next, m->line, (real *)o->y + first * o->y_sample + (o->last ? 0 : s.now * o->y_step), o->y_sample, rows, units);
    }
}

size_t NAME(recurrent_scratch)(const void *operation);
size_t NAME(recurrent_scratch)(const void *operation) {
    struct memory m;
    return forward_memory(operation, NOWHERE, &m) + 64;
}

void NAME(recurrent)(const void *operation, index_t begin, index_t end, void *scratch);
void NAME(recurrent)(const void *operation, index_t begin, index_t end, void *scratch) {
    const struct recurrent *o = operation;
    struct memory m;
    forward_memory(o, scratch, &m);
    if (o->steps > 1) pack_kernel(o, &m);
    for (index_t first = begin, rows; first < end; first += rows) {
        rows = parts(end - first, parts(end - first, TOGETHER));
        do_samples(o, &m, first, rows);
    }
}

/* ----------------------------------------------------------------------------------------------------------- Gradients */

/* Gates whose gradients go through U at once, and the terms that those are. */
static index_t gates_at_once(int cell) { return cell == GRU_BEFORE ? 2 : gates_of(cell); }

static size_t backward_memory(const struct recurrent_backward *o, void *scratch, struct memory *m) {
    const index_t rows = least(o->samples, TOGETHER), gates = gates_of(o->cell), panels = parts(o->units, NR);
    m->job = (struct job){.walk = scratch, .keeps = 1};
    m->line = distance(o->units);
    m->long_line = distance(gates * o->units);
    m->job.stack = at_line(m->job.walk + parts(gates * o->units, BLOCK_TERMS) + 1);
    m->panels = m->job.stack + 2 * TILE;
    m->scaled = m->panels + panels * NR * m->long_line + (o->cell == GRU_BEFORE ? panels * NR * m->line : 0);
    m->sums = m->scaled + rows * m->line;
    m->carried = m->sums + rows * m->line;
    m->d = m->carried + rows * m->line;
    return (size_t)((char *)(m->d + rows * m->long_line) - (char *)scratch);
}

/* The gates [from, to) of U^T. */
static void pack_transposed(const struct recurrent_backward *o, index_t from, index_t to, real *panels) {
    const index_t gates = gates_of(o->cell), units = o->units, terms = (to - from) * units;
    for (index_t column = 0; column < units; column += NR, panels += NR * distance(terms)) {
        struct factor kernel = {(const real *)o->kernel + column * gates * units + from * units, gates * units, 1};
        pack_panel(kernel, least(NR, units - column), terms, panels);
    }
}

static void multiply_all(const struct recurrent_backward *o, struct memory *m, const real *d, index_t d_row, index_t rows, index_t terms, const real *panels) {
    for (index_t column = 0; column < o->units; column += NR, panels += NR * distance(terms))
        multiply(m, d, d_row, rows, terms, panels, least(NR, o->units - column), m->sums + column, m->line);
}

static real *gradient_row(const void *array, const struct recurrent_backward *o, index_t sample, index_t step, index_t columns) {
    return (real *)array + (sample * o->steps + step) * columns;
}

static void do_gradients(const struct recurrent_backward *o, struct memory *m, const struct step *s, int gets_dy) {
    const index_t units = o->units, gates = gates_of(o->cell);
    for (index_t r = 0; r < s->rows; r++) {
        const index_t sample = s->first + r;
        const real *dy = gets_dy ? (const real *)o->dy + sample * o->dy_sample + (o->last ? 0 : s->now * o->dy_step) : NULL;
        const real *h = gradient_row(o->before, o, sample, s->now, units), *sums = m->sums + r * m->line;
        real *x = gradient_row(o->gates, o, sample, s->now, gates * units), *d = m->d + r * m->long_line, *carried = m->carried + r * m->line;
        if (o->cell == SIMPLE_RNN) {
            WITH_ACTIVATIONS(simple_gradient, o, x, dy, sums, d);
        } else if (o->cell == LSTM) {
            const real *c_before = s->before < 0 ? NULL : gradient_row(o->more, o, sample, s->before, units);
            WITH_ACTIVATIONS(lstm_gradient, o, x, c_before, gradient_row(o->more, o, sample, s->now, units), dy, sums, carried, d);
        } else if (o->cell == GRU_AFTER) {
            WITH_ACTIVATIONS(gru_after_gradient, o, x, h, gradient_row(o->more, o, sample, s->now, 3 * units), dy, sums, carried, d);
        } else {
            WITH_ACTIVATIONS(gru_before_gradient, o, x, h, dy, sums, carried, d, m->scaled + r * m->line);
        }
    }
}

static void do_reset_gradients(const struct recurrent_backward *o, struct memory *m, const struct step *s) {
    for (index_t r = 0; r < s->rows; r++) {
        real *x = gradient_row(o->gates, o, s->first + r, s->now, 3 * o->units);
        const real *h = gradient_row(o->before, o, s->first + r, s->now, o->units);
        WITH_ACTIVATIONS(gru_before_reset_gradient, o, x, h, m->sums + r * m->line, m->carried + r * m->line, m->d + r * m->long_line);
    }
}

static void do_samples_back(const struct recurrent_backward *o, struct memory *m, index_t first, index_t rows) {
    const index_t terms = gates_at_once(o->cell) * o->units;
    real *third = m->panels + parts(o->units, NR) * NR * distance(terms); /* the panels of g in GRU_BEFORE */
    clear(m->sums, rows * m->line);
    clear(m->carried, rows * m->line);
    for (index_t i = o->steps - 1; i >= 0; i--) {
        struct step s = {first, rows, o->backwards ? o->steps - 1 - i : i, -1};
        if (i > 0) s.before = o->backwards ? s.now + 1 : s.now - 1;
        do_gradients(o, m, &s, !o->last || i == o->steps - 1);
        if (o->cell == GRU_BEFORE) {
            multiply_all(o, m, m->scaled, m->line, rows, o->units, third);
            do_reset_gradients(o, m, &s);
        }
        if (i > 0) multiply_all(o, m, m->d, m->long_line, rows, terms, m->panels);
    }
}

size_t NAME(recurrent_backward_scratch)(const void *operation);
size_t NAME(recurrent_backward_scratch)(const void *operation) {
    struct memory m;
    return backward_memory(operation, NOWHERE, &m) + 64;
}

void NAME(recurrent_backward)(const void *operation, index_t begin, index_t end, void *scratch);
void NAME(recurrent_backward)(const void *operation, index_t begin, index_t end, void *scratch) {
    const struct recurrent_backward *o = operation;
    const index_t at_once = gates_at_once(o->cell);
    struct memory m;
    backward_memory(o, scratch, &m);
    pack_transposed(o, 0, at_once, m.panels);
    if (o->cell == GRU_BEFORE) pack_transposed(o, 2, 3, m.panels + parts(o->units, NR) * NR * distance(at_once * o->units));
    for (index_t first = begin, rows; first < end; first += rows) {
        rows = parts(end - first, parts(end - first, TOGETHER));
        do_samples_back(o, &m, first, rows);
    }
}

/* ---------------------------------------------------------------------------------------------------------------- Rows */

void NAME(combine_rows)(const void *operation, index_t begin, index_t end, void *scratch);
void NAME(combine_rows)(const void *operation, index_t begin, index_t end, void *scratch) {
    const struct combine_rows *o = operation;
    const vec half = all((real)0.5);
    (void)scratch;
    for (index_t row = begin; row < end; row++) {
        const real *a = (const real *)o->a + row * o->a_row, *b = o->b ? (const real *)o->b + row * o->b_row : a;
        real *y = (real *)o->y + row * o->y_row;
        for (index_t j = 0, left = o->columns; j < o->columns; j += WIDTH, left -= WIDTH) {
            const vec first = load_some(a + j, left), second = load_some(b + j, left);
            vec out = first;
            switch (o->combination) {
                case HALVE_ROWS: out = flushed(first * half); break;
                case ADD_ROWS: out = flushed(first + second); break;
                case AVERAGE_ROWS: out = flushed((first + second) * half); break;
                case MULTIPLY_ROWS: out = flushed(first * second); break;
                default: break;
            }
            store_some(y + j, out, left);
        }
    }
}
