/* Functions of single doubles: the same bits everywhere, since only + - x / and integers are used. */
#ifndef HPCNN_SCALAR_H
#define HPCNN_SCALAR_H

/* Special values are those of C99's Annex F. `scalar_log` is within 1 ulp, `scalar_cospi` within 2. `scalar_exp` and
 * `scalar_power` are computed to about 90 bits and rounded: exact where the result is a double. */
double scalar_exp(double x);
double scalar_log(double x);
double scalar_power(double x, double y);
/* cos(pi x). */
double scalar_cospi(double x);

#endif
