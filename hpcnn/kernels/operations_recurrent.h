/* Recurrent cells, step after step. Definitions are those of Keras 3.
 *
 * From what is stored on, all is in double, and each number that is stored is rounded once and flushed. The sums of
 * products are those of `product`: rounded to real, not flushed, +0 before the first step. Sigmoid and tanh of floats are
 * quotients (see cells.h), and i f g o of an LSTM, and z r of a GRU, share one division.
 */

enum cell { SIMPLE_RNN, GRU_BEFORE, GRU_AFTER, LSTM, CELLS };

/* Do all steps of a sequence: with `backwards` from the last to the first. h is the output of the step before, 0 at
 * first; act and rec are the activations; * is by entry; x stands for what is in `gates` at first, (samples, steps,
 * gates units): the inputs' products with their bias.
 *
 * SIMPLE_RNN: h' = act(x + h U).
 * LSTM, gates i f g o: c' = fma(f, c, i g), h' = o act(c'), where i, f, o = rec(x + h U) and g = act(x + h U).
 * GRU, gates z r g: h' = fma(z, h, (1 - z) g), where z, r = rec(x + h U) and g = act(x + (r h) U) in GRU_BEFORE, whose
 * r h is rounded to real and flushed first; in GRU_AFTER z, r = rec(x + (h U + bias)) and g = act(fma(r, h U + bias, x)).
 *
 * `gates` takes the gates, or what they were before an activation whose gradient needs that (GELU, SWISH); `before` h;
 * `more` c' (LSTM), r h (GRU_BEFORE), or h U + bias of the third gate, in the last third of its rows (GRU_AFTER).
 * A task is one sample. */
struct recurrent {
    int cell, activation, recurrent_activation, backwards;
    int last; /* whether only the last output is wanted */
    index_t samples, steps, units;
    void *gates;        /* (samples, steps, gates units) */
    const void *kernel; /* U: (units, gates units) */
    const void *bias;   /* (3 units) of GRU_AFTER, or NULL */
    void *before;       /* (samples, steps, units) */
    void *more;         /* (samples, steps, units), of GRU_AFTER (samples, steps, 3 units) */
    void *y;            /* output of each step, at its place in x, or of the last */
    index_t y_sample, y_step;
};

/* The gradients of what was in `gates` before, which they take the place of, from those of y. dh, of an output, is
 * dy + d U^T (of a GRU: dy + (p + d U^T), where p is dh' z rounded to real, in GRU_BEFORE then fma(d(r h), r, p), rounded
 * too), with d the gradients of h U at the step after, and dc of the LSTM is
 * fma(dh o, act', dc' f'), where dc' f' is rounded to real.
 * In GRU_AFTER `more` takes d, whose last third differs from that in `gates`. A task is one sample. */
struct recurrent_backward {
    int cell, activation, recurrent_activation, backwards;
    int last;
    index_t samples, steps, units;
    void *gates;
    const void *kernel;
    const void *before;
    void *more;
    const void *dy;
    index_t dy_sample, dy_step;
};

/* y = a (COPY_ROWS, not flushed), a / 2, a + b, (a + b) / 2 or a b, flushed; y may be a or b. A task is one row. */
enum row_combination { COPY_ROWS, HALVE_ROWS, ADD_ROWS, AVERAGE_ROWS, MULTIPLY_ROWS, ROW_COMBINATIONS };
struct combine_rows {
    int combination;
    index_t rows, columns;
    const void *a;
    index_t a_row;
    const void *b; /* or NULL */
    index_t b_row;
    void *y;
    index_t y_row;
};
