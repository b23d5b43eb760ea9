/* Random numbers that depend on their key alone: (seed, stream, place).
 *
 * A key's bits are those of Philox4x32-10 (Salmon, Moraes, Dror and Shaw, SC 2011; `philox` in operations.h) with the
 * key {low, high word of seed}. A stream belongs to one use: dropout has streams too, which must not be the same.
 */
#ifndef HPCNN_RANDOM_H
#define HPCNN_RANDOM_H

#include "operations.h"

/* n numbers: those at the places place, place + 1, ... of the stream. Number i is made of 64 bits: the words
 * 2 (i % 2) and 2 (i % 2) + 1, low and high, of the counter {low, high word of i / 2, 0, stream}. */

/* Uniform in [0, 1): the high 53 bits x 2^-53. */
void random_uniform(uint64_t seed, uint32_t stream, uint64_t place, double *out, index_t n);
/* Standard normal: the inverse distribution function (Wichura, 1988, algorithm AS 241, PPND16) at
 * (the high 52 bits + 1/2) x 2^-52. */
void random_normal(uint64_t seed, uint32_t stream, uint64_t place, double *out, index_t n);
/* n standard normal numbers of one sample in one step: numbers first, first + 1, ... (first is even). Number i is made as
 * those of random_normal are, of the counter {i / 2, sample, step, stream}. */
void random_normal_of(uint64_t seed, uint32_t stream, uint32_t sample, uint32_t step, uint32_t first, double *out, index_t n);
/* Normal, given that it is within [-2, 2]. */
void random_truncated_normal(uint64_t seed, uint32_t stream, uint64_t place, double *out, index_t n);

/* A permutation of 0 ... n - 1, number `place` of the stream: Fisher and Yates' shuffle from the end, by bounded
 * numbers without bias (Lemire, 2019, ACM TOMACS 29 (1)), from words of the counters {0, 1, ..., low, high word of
 * place, stream}. */
void random_permutation(uint64_t seed, uint32_t stream, uint64_t place, int64_t *out, index_t n);

#endif
