/* The cells of recurrent layers at one step of one sample, and their gradients. */
#ifndef HPCNN_CELLS_H
#define HPCNN_CELLS_H

#include "smooth.h"
#include "tiles.h"

#define EACH_PART UNROLL for (int part = 0; part < DPARTS; part++)
/* Vectors of units, and how many there are from there on; all are `whole` where units are a multiple of their width. */
#define EACH_UNIT(count) for (index_t j = 0, left = whole ? WIDTH : (count); j < (count); j += WIDTH, left -= whole ? 0 : WIDTH)

/* Where a row of gates, or of what else a gate has, keeps its numbers: one gate behind the other. */
struct gates {
    real *at;
    index_t gate; /* from a gate to the next */
};

INLINE int gates_of(int cell) { return cell == SIMPLE_RNN ? 1 : cell == LSTM ? 4 : 3; }
/* A cell by its usual activations, which are then known to the compiler, or by any; of whole vectors, or of any. */
#define WITH_ACTIVATIONS(function, o, ...) \
    ((o)->activation != TANH || (o)->recurrent_activation != SIGMOID \
         ? function((o)->activation, (o)->recurrent_activation, 0, o, __VA_ARGS__) \
         : (o)->units % WIDTH == 0 ? function(TANH, SIGMOID, 1, o, __VA_ARGS__) : function(TANH, SIGMOID, 0, o, __VA_ARGS__))
/* Numbers of a row that may end there. */
INLINE dvec doubles(const real *from, index_t left, int part) { return widen(load_some(from, left), part); }
INLINE dvec doubles_or_0(const real *from, index_t j, index_t left, int part) { return from ? doubles(from + j, left, part) : dall(0); }
INLINE void keep(real *to, index_t left, const dvec *parts) { store_some(to, flushed(narrow(parts)), left); }

/* An activation as a quotient, so that several share one division. Kernels of floats compute those of sigmoid and tanh
 * from exp(-z) or exp(-2 z) - 1 in doubles, of what a float needs. */
struct quotient {
    dvec top, bottom;
};
INLINE struct quotient quotient_of(int activation, dvec z) {
    if (BITS == 64 || (activation != SIGMOID && activation != TANH)) return (struct quotient){activation_of(activation, z), dall(1)};
    const double from = 6755399441055744.0 + 1023; /* ROUNDING, and the bias of an exponent */
    const dvec x = activation == TANH ? at_most(at_least(z, -22), 22) * dall(-2) : -at_most(at_least(z, -104), 104);
    const dvec shifted = dfma(x, dall(LOG2_E), dall(from)), r = dfma(shifted - dall(from), dall(-0.6931471805599453), x);
    const dvec p = dfma(exp_tail(r), r * r, r), scale = (dvec)((divec)shifted << 52); /* exp(x) = (1 + p) scale */
    if (activation == SIGMOID) return (struct quotient){dall(1), dfma(p, scale, scale) + dall(1)};
    const dvec m = dfma(p, scale, scale - dall(1));
    return (struct quotient){-m, m + dall(2)};
}
/* y[k] = top / bottom of `count` quotients, 1 to 4, whose divisions are one. */
INLINE void divide(int count, const struct quotient *q, dvec *y) {
    if (BITS == 64) {
        UNROLL for (int k = 0; k < count; k++) y[k] = q[k].top;
        return;
    }
    dvec before[4], inverse; /* products of the bottoms before each */
    before[0] = dall(1);
    UNROLL for (int k = 1; k < count; k++) before[k] = k > 1 ? before[k - 1] * q[k - 1].bottom : q[0].bottom;
    inverse = dall(1) / (count > 1 ? before[count - 1] * q[count - 1].bottom : q[0].bottom);
    UNROLL for (int k = count - 1; k > 0; k--) {
        y[k] = q[k].top * (inverse * before[k]);
        inverse = inverse * q[k].bottom;
    }
    y[0] = q[0].top * inverse;
}
INLINE dvec activated(int activation, dvec z) {
    const struct quotient q = quotient_of(activation, z);
    dvec y;
    divide(1, &q, &y);
    return y;
}
INLINE dvec value_of(int activation, dvec saved) { return from_input(activation) ? activated(activation, saved) : saved; }

/* ------------------------------------------------------------------------------------------------------------ Outputs */

INLINE void simple_cell(int act, int rec, int whole, const struct recurrent *o, struct gates x, struct gates sums, real *next) {
    (void)rec;
    EACH_UNIT(o->units) {
        dvec z[DPARTS], y[DPARTS];
        EACH_PART {
            z[part] = doubles(x.at + j, left, part) + doubles(sums.at + j, WIDTH, part);
            y[part] = activated(act, z[part]);
            z[part] = saved_of(act, z[part], y[part]);
        }
        keep(x.at + j, left, z);
        keep(next + j, left, y);
    }
}

INLINE void lstm_cell(int act, int rec, int whole, const struct recurrent *o, struct gates x, struct gates sums, const real *c_before, real *c, real *next) {
    EACH_UNIT(o->units) {
        dvec saved[4][DPARTS], state[DPARTS], y[DPARTS];
        EACH_PART {
            struct quotient q[4];
            dvec z[4], gate[4];
            UNROLL for (int k = 0; k < 4; k++) {
                z[k] = doubles(x.at + k * x.gate + j, left, part) + doubles(sums.at + k * sums.gate + j, WIDTH, part);
                q[k] = quotient_of(k == 2 ? act : rec, z[k]);
            }
            divide(4, q, gate);
            UNROLL for (int k = 0; k < 4; k++) saved[k][part] = saved_of(k == 2 ? act : rec, z[k], gate[k]);
            state[part] = dfma(gate[1], doubles_or_0(c_before, j, left, part), gate[0] * gate[2]);
            y[part] = gate[3] * activated(act, state[part]);
        }
        UNROLL for (int k = 0; k < 4; k++) keep(x.at + k * x.gate + j, left, saved[k]);
        keep(c + j, left, state);
        keep(next + j, left, y);
    }
}

INLINE void gru_after_cell(int act, int rec, int whole, const struct recurrent *o, struct gates x, struct gates sums, const real *h, real *inner, real *next) {
    const real *bias = o->bias;
    EACH_UNIT(o->units) {
        dvec saved[3][DPARTS], third[DPARTS], y[DPARTS];
        EACH_PART {
            struct quotient q[2];
            dvec in[3], z[3], gate[3];
            UNROLL for (int k = 0; k < 3; k++) {
                in[k] = doubles(sums.at + k * sums.gate + j, WIDTH, part);
                if (bias) in[k] += doubles(bias + k * o->units + j, left, part);
                z[k] = doubles(x.at + k * x.gate + j, left, part);
            }
            UNROLL for (int k = 0; k < 2; k++) {
                z[k] += in[k];
                q[k] = quotient_of(rec, z[k]);
            }
            divide(2, q, gate);
            third[part] = in[2];
            z[2] = dfma(gate[1], in[2], z[2]);
            gate[2] = activated(act, z[2]);
            UNROLL for (int k = 0; k < 3; k++) saved[k][part] = saved_of(k == 2 ? act : rec, z[k], gate[k]);
            y[part] = dfma(gate[0], doubles(h + j, left, part), (dall(1) - gate[0]) * gate[2]);
        }
        UNROLL for (int k = 0; k < 3; k++) keep(x.at + k * x.gate + j, left, saved[k]);
        keep(inner + j, left, third);
        keep(next + j, left, y);
    }
}

/* The gates z and r, and r h. */
INLINE void gru_before_gates(int act, int rec, int whole, const struct recurrent *o, struct gates x, struct gates sums, const real *h, real *scaled) {
    (void)act;
    EACH_UNIT(o->units) {
        dvec saved[2][DPARTS], y[DPARTS];
        EACH_PART {
            struct quotient q[2];
            dvec z[2], gate[2];
            UNROLL for (int k = 0; k < 2; k++) {
                z[k] = doubles(x.at + k * x.gate + j, left, part) + doubles(sums.at + k * sums.gate + j, WIDTH, part);
                q[k] = quotient_of(rec, z[k]);
            }
            divide(2, q, gate);
            UNROLL for (int k = 0; k < 2; k++) saved[k][part] = saved_of(rec, z[k], gate[k]);
            y[part] = gate[1] * doubles(h + j, left, part);
        }
        UNROLL for (int k = 0; k < 2; k++) keep(x.at + k * x.gate + j, left, saved[k]);
        keep(scaled + j, left, y);
    }
}

INLINE void gru_before_cell(int act, int rec, int whole, const struct recurrent *o, struct gates x, struct gates sums, const real *h, real *next) {
    EACH_UNIT(o->units) {
        dvec saved[DPARTS], y[DPARTS];
        EACH_PART {
            const dvec update = value_of(rec, doubles(x.at + j, left, part));
            const dvec z = doubles(x.at + 2 * x.gate + j, left, part) + doubles(sums.at + 2 * sums.gate + j, WIDTH, part);
            const dvec gate = activated(act, z);
            saved[part] = saved_of(act, z, gate);
            y[part] = dfma(update, doubles(h + j, left, part), (dall(1) - update) * gate);
        }
        keep(x.at + 2 * x.gate + j, left, saved);
        keep(next + j, left, y);
    }
}

/* ---------------------------------------------------------------------------------------------------------- Gradients */

/* `sums` are d U^T of the step after; `d` takes what the next of them is made of. `carried` is what else comes. */

INLINE void simple_gradient(int act, int rec, int whole, const struct recurrent_backward *o, real *x, const real *dy, const real *sums, real *d) {
    (void)rec;
    EACH_UNIT(o->units) {
        dvec dz[DPARTS];
        EACH_PART {
            const dvec dh = doubles_or_0(dy, j, left, part) + doubles(sums + j, left, part);
            dz[part] = dh * slope_of(act, doubles(x + j, left, part));
        }
        keep(x + j, left, dz);
        keep(d + j, left, dz);
    }
}

INLINE void lstm_gradient(int act, int rec, int whole, const struct recurrent_backward *o, real *x, const real *c_before, const real *c, const real *dy, const real *sums, real *carried, real *d) {
    const index_t units = o->units;
    EACH_UNIT(units) {
        dvec dz[4][DPARTS], dc_before[DPARTS];
        EACH_PART {
            dvec saved[4], gate[4];
            UNROLL for (int k = 0; k < 4; k++) {
                saved[k] = doubles(x + k * units + j, left, part);
                gate[k] = value_of(k == 2 ? act : rec, saved[k]);
            }
            const dvec state = doubles(c + j, left, part), y = activated(act, state);
            const dvec dh = doubles_or_0(dy, j, left, part) + doubles(sums + j, left, part);
            const dvec dc = dfma(dh * gate[3], slope_of(act, saved_of(act, state, y)), doubles(carried + j, left, part));
            dz[0][part] = dc * gate[2] * slope_of(rec, saved[0]);
            dz[1][part] = dc * doubles_or_0(c_before, j, left, part) * slope_of(rec, saved[1]);
            dz[2][part] = dc * gate[0] * slope_of(act, saved[2]);
            dz[3][part] = dh * y * slope_of(rec, saved[3]);
            dc_before[part] = dc * gate[1];
        }
        UNROLL for (int k = 0; k < 4; k++) {
            keep(x + k * units + j, left, dz[k]);
            keep(d + k * units + j, left, dz[k]);
        }
        keep(carried + j, left, dc_before);
    }
}

INLINE dvec output_gradient(const real *dy, const real *sums, const real *carried, index_t j, index_t left, int part) {
    return doubles_or_0(dy, j, left, part) + (doubles(carried + j, left, part) + doubles(sums + j, left, part));
}

INLINE void gru_after_gradient(int act, int rec, int whole, const struct recurrent_backward *o, real *x, const real *h, real *inner, const real *dy, const real *sums, real *carried, real *d) {
    const index_t units = o->units;
    EACH_UNIT(units) {
        dvec dz[4][DPARTS], passed[DPARTS];
        EACH_PART {
            const dvec z = doubles(x + j, left, part), r = doubles(x + units + j, left, part), g = doubles(x + 2 * units + j, left, part);
            const dvec update = value_of(rec, z), dh = output_gradient(dy, sums, carried, j, left, part);
            const dvec dg = dh * (dall(1) - update) * slope_of(act, g);
            dz[0][part] = dh * (doubles(h + j, left, part) - value_of(act, g)) * slope_of(rec, z);
            dz[1][part] = dg * doubles(inner + 2 * units + j, left, part) * slope_of(rec, r);
            dz[2][part] = dg;
            dz[3][part] = dg * value_of(rec, r);
            passed[part] = dh * update;
        }
        UNROLL for (int k = 0; k < 3; k++) {
            const dvec *within = dz[k == 2 ? 3 : k];
            keep(x + k * units + j, left, dz[k]);
            keep(inner + k * units + j, left, within);
            keep(d + k * units + j, left, within);
        }
        keep(carried + j, left, passed);
    }
}

/* The gradients of z and g first, then, from d U^T of g, that of r. */
INLINE void gru_before_gradient(int act, int rec, int whole, const struct recurrent_backward *o, real *x, const real *h, const real *dy, const real *sums, real *carried, real *d, real *d_third) {
    const index_t units = o->units;
    EACH_UNIT(units) {
        dvec dz[DPARTS], dg[DPARTS], passed[DPARTS];
        EACH_PART {
            const dvec z = doubles(x + j, left, part), g = doubles(x + 2 * units + j, left, part), update = value_of(rec, z);
            const dvec dh = output_gradient(dy, sums, carried, j, left, part);
            dg[part] = dh * (dall(1) - update) * slope_of(act, g);
            dz[part] = dh * (doubles(h + j, left, part) - value_of(act, g)) * slope_of(rec, z);
            passed[part] = dh * update;
        }
        keep(x + j, left, dz);
        keep(d + j, left, dz);
        keep(x + 2 * units + j, left, dg);
        keep(d_third + j, left, dg);
        keep(carried + j, left, passed);
    }
}

INLINE void gru_before_reset_gradient(int act, int rec, int whole, const struct recurrent_backward *o, real *x, const real *h, const real *sums, real *carried, real *d) {
    (void)act;
    const index_t units = o->units;
    EACH_UNIT(units) {
        dvec dr[DPARTS], passed[DPARTS];
        EACH_PART {
            const dvec r = doubles(x + units + j, left, part), scaled = doubles(sums + j, left, part);
            dr[part] = scaled * doubles(h + j, left, part) * slope_of(rec, r);
            passed[part] = dfma(scaled, value_of(rec, r), doubles(carried + j, left, part));
        }
        keep(x + units + j, left, dr);
        keep(d + units + j, left, dr);
        keep(carried + j, left, passed);
    }
}

#endif
