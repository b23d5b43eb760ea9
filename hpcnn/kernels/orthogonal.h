/* Orthonormal columns by Householder's reflections: the same bits everywhere. */
#ifndef HPCNN_ORTHOGONAL_H
#define HPCNN_ORTHOGONAL_H

#include "operations.h"

/* Overwrite a (m, n), C-ordered, m >= n, by the factor q of a = q r whose r has no negative number on its diagonal.
 * Returns 0 if there is no memory for it, else 1. */
int orthogonal(double *a, index_t m, index_t n);

#endif
