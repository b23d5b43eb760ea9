/* What kernels over channels share: vectors of doubles, and the rows of segments. */
#ifndef HPCNN_CHANNELS_H
#define HPCNN_CHANNELS_H

#include "simd.h"

INLINE index_t least(index_t a, index_t b) { return a < b ? a : b; }
INLINE dvec dload(const double *from) { dvec v; memcpy(&v, from, sizeof v); return v; }
INLINE void dstore(double *to, dvec v) { memcpy(to, &v, sizeof v); }
/* dy, flushed, where a value is above 0 once it is flushed; +0 elsewhere. */
INLINE vec where_positive(vec value, vec dy) { return pick((ivec)(value >= all(REAL_MIN)), flushed(dy), all(0)); }
INLINE vec load_count(const real *from, index_t count) { return count >= WIDTH ? load(from) : load_part(from, count); }

INLINE index_t start_of(const struct segments *segments, index_t s) {
    return segments->start ? segments->start[s] : s * segments->each;
}
/* The segment that a row lies in, which is `s` or a later one. */
INLINE index_t segment_from(const struct segments *segments, index_t s, index_t row) {
    if (!segments->start) return row / segments->each;
    while (segments->start[s + 1] <= row) s++;
    return s;
}

#endif
