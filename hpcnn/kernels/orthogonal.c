#include "orthogonal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Reflections I - v v^T scale are applied to PANEL columns at a time, which lie next to each other meanwhile. Columns
 * do not depend on their neighbours, so that the width of a panel decides no bit. */
#define PANEL 32

/* The columns [first, first + width) of a, as (m, PANEL), with zeros where there are no more. */
static void copy_panel(double *panel, const double *a, index_t m, index_t n, index_t first, index_t width) {
    memset(panel, 0, (size_t)(m * PANEL) * sizeof *panel);
    for (index_t i = 0; i < m; i++) memcpy(panel + i * PANEL, a + i * n + first, (size_t)width * sizeof *panel);
}

/* panel = (I - scale v v^T) panel, over the rows from `first` on, where v is not 0. */
static void reflect(double *restrict panel, const double *restrict v, double scale, index_t first, index_t m) {
    double sums[PANEL] = {0};
    for (index_t i = first; i < m; i++)
        for (int j = 0; j < PANEL; j++) sums[j] += v[i] * panel[i * PANEL + j];
    for (int j = 0; j < PANEL; j++) sums[j] *= scale;
    for (index_t i = first; i < m; i++)
        for (int j = 0; j < PANEL; j++) panel[i * PANEL + j] -= v[i] * sums[j];
}

/* Make the reflection number k of column j of a panel: it leaves a multiple of the unit vector k. Returns whether that
 * multiple is negative. */
static int make_reflection(const double *panel, int j, double *v, double *scale, index_t k, index_t m) {
    double squares = 0;
    for (index_t i = k; i < m; i++) {
        v[i] = panel[i * PANEL + j];
        squares += v[i] * v[i];
    }
    const double first = v[k], norm = sqrt(squares), left = first < 0 ? norm : -norm;
    v[k] = first - left; /* no cancellation */
    *scale = squares > 0 ? 2 / (squares - first * first + v[k] * v[k]) : 0;
    return left < 0;
}

static void decompose(double *a, double *v, double *scale, char *negative, double *panel, index_t m, index_t n) {
    for (index_t first = 0; first < n; first += PANEL) {
        const index_t width = n - first < PANEL ? n - first : PANEL;
        copy_panel(panel, a, m, n, first, width);
        for (index_t k = 0; k < first + width; k++) {
            if (k >= first) negative[k] = (char)make_reflection(panel, (int)(k - first), v + k * m, scale + k, k, m);
            reflect(panel, v + k * m, scale[k], k, m);
        }
    }
}

/* Overwrite a by the product of all reflections with the first n unit vectors, times the signs. */
static void multiply_out(double *a, const double *v, const double *scale, const char *negative, double *panel, index_t m, index_t n) {
    for (index_t first = 0; first < n; first += PANEL) {
        const index_t width = n - first < PANEL ? n - first : PANEL;
        memset(panel, 0, (size_t)(m * PANEL) * sizeof *panel);
        for (index_t j = 0; j < width; j++) panel[(first + j) * PANEL + j] = negative[first + j] ? -1 : 1;
        for (index_t k = first + width - 1; k >= 0; k--) reflect(panel, v + k * m, scale[k], k, m);
        for (index_t i = 0; i < m; i++) memcpy(a + i * n + first, panel + i * PANEL, (size_t)width * sizeof *a);
    }
}

int orthogonal(double *a, index_t m, index_t n) {
    double *v = malloc((size_t)(n * m + n + m * PANEL) * sizeof *v + (size_t)n); /* row k: vector k */
    if (!v) return m * n == 0;
    double *scale = v + n * m, *panel = scale + n;
    char *negative = (char *)(panel + m * PANEL);
    decompose(a, v, scale, negative, panel, m, n);
    multiply_out(a, v, scale, negative, panel, m, n);
    free(v);
    return 1;
}
