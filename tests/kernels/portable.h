/* What the parts of the portable program share: numbers of every kind, hashes, and the declarations of all kernels. */
#ifndef PORTABLE_H
#define PORTABLE_H

#include <stdio.h>
#include <stdlib.h>

#include "random.h"
#include "simd.h"

#define OPERATION(name, kind, arguments, doc) void NAME(name)(const void *operation, index_t begin, index_t end, void *scratch);
#define SCRATCH(name, kind) size_t NAME(name##_scratch)(const void *operation);
#include "operations.def"

/* The parts, for each type. */
#define PART(name) EXPAND2(name, BITS)
void PART(portable_)(void);
void PART(portable_images_)(void);
void PART(portable_sequences_)(void);

static uint32_t fills; /* arrays filled so far: each has a stream of its own */

/* n numbers between -2 and 2; some are 0, tiny, or below the smallest normal one. */
INLINE real *filled(index_t n) {
    real *x = malloc((size_t)n * sizeof *x);
    double *u = malloc((size_t)n * sizeof *u);
    random_uniform(7, fills++, 0, u, n);
    for (index_t i = 0; i < n; i++) {
        const double value = 4 * u[i] - 2;
        x[i] = (real)value;
        if (i % 11 == 3) x[i] = 0;
        if (i % 11 == 5) x[i] = (real)(value * (BITS == 32 ? 0x1p-64 : 0x1p-512));
        if (i % 11 == 7) x[i] = (real)(value * REAL_MIN);
    }
    free(u);
    return x;
}

INLINE real *magnitudes(index_t n) {
    real *x = filled(n);
    for (index_t i = 0; i < n; i++) x[i] = x[i] < 0 ? -x[i] : x[i];
    return x;
}

INLINE uint64_t hash_of(const void *bytes, size_t size) { /* FNV-1a */
    uint64_t hash = 0xcbf29ce484222325u;
    for (size_t i = 0; i < size; i++) hash = (hash ^ ((const unsigned char *)bytes)[i]) * 0x100000001b3u;
    return hash;
}

INLINE void print(const char *name, const void *result, size_t size) {
    printf("%s_%d %016llx\n", name, BITS, (unsigned long long)hash_of(result, size));
}

INLINE void print_reals(const char *name, const real *result, index_t n) { print(name, result, (size_t)n * sizeof *result); }

INLINE void *scratch_of(size_t size) { return aligned_alloc(64, (size + 127) / 64 * 64); }

#endif
