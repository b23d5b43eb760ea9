/* Dropout, with the random bits of each entry made where they are needed. */
#include "simd.h"

#define BLOCKS 64             /* of random words that are made at once: one a counter, DWIDTH counters in a vector */
#define WORDS (4 * BLOCKS)

void NAME(dropout)(const void *operation, index_t begin, index_t end, void *scratch);

/* Words of Philox4x32-10 for DWIDTH counters {first + i, c1, c2, c3}, in order. Each word is in the low half of a lane;
 * the high halves hold anything, since only the low ones are multiplied. */
INLINE void philox_words(uint32_t first, const uint32_t rest[3], const uint32_t key[2], uint32_t *out) {
    uvec c0, c1 = rest[0] - (uvec){0}, c2 = rest[1] - (uvec){0}, c3 = rest[2] - (uvec){0};
    for (int lane = 0; lane < DWIDTH; lane++) c0[lane] = first + (uint32_t)lane;
    uint32_t k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; round++) {
        const uvec p0 = multiply_low(c0, 0xD2511F53u - (uvec){0}), p1 = multiply_low(c2, 0xCD9E8D57u - (uvec){0});
        c0 = (p1 >> 32) ^ c1 ^ (k0 - (uvec){0});
        c2 = (p0 >> 32) ^ c3 ^ (k1 - (uvec){0});
        c1 = p1, c3 = p0;
        k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
    }
    const uint64_t low = 0xffffffffu;
    const uvec words01 = (c0 & low) | (c1 << 32), words23 = (c2 & low) | (c3 << 32);
#if DWIDTH == 8
    const uvec pairs[2] = {SHUFFLE(uvec, words01, words23, 0, 8, 1, 9, 2, 10, 3, 11),
                           SHUFFLE(uvec, words01, words23, 4, 12, 5, 13, 6, 14, 7, 15)};
#elif DWIDTH == 4
    const uvec pairs[2] = {SHUFFLE(uvec, words01, words23, 0, 4, 1, 5), SHUFFLE(uvec, words01, words23, 2, 6, 3, 7)};
#elif DWIDTH == 2
    const uvec pairs[2] = {SHUFFLE(uvec, words01, words23, 0, 2), SHUFFLE(uvec, words01, words23, 1, 3)};
#else
    const uvec pairs[2] = {words01, words23};
#endif
    memcpy(out, pairs, sizeof pairs);
}

typedef uint32_t words_t __attribute__((vector_size(WIDTH * 4)));

/* x c where the word is not below `least`, +0 elsewhere. */
INLINE vec kept(vec x, const uint32_t *words, vec c, whole least) {
    words_t w;
    memcpy(&w, words, sizeof w);
    const ivec draws = CONVERT(ivec, w >> 8);
    return (vec)((ivec)flushed(x * c) & (ivec)(draws >= least - (ivec){0}));
}

void NAME(dropout)(const void *operation, index_t begin, index_t end, void *scratch) {
    (void)scratch;
    const struct dropout *o = operation;
    const uint32_t key[2] = {(uint32_t)o->seed, (uint32_t)(o->seed >> 32)};
    const double draws = o->rate * 0x1p24; /* exact */
    const whole least = (whole)draws + ((double)(whole)draws < draws);
    const vec c = all((real)(1 / (1 - o->rate)));
    uint32_t words[WORDS];
    for (index_t sample = begin; sample < end; sample++) {
        const uint32_t rest[3] = {o->place->first_sample + (uint32_t)sample, o->place->step, o->stream};
        const real *x = (const real *)o->x + sample * o->columns;
        real *y = (real *)o->y + sample * o->columns;
        for (index_t at = 0; at < o->columns; at += WORDS) {
            const index_t n = at + WORDS < o->columns ? WORDS : o->columns - at;
            for (index_t block = 0; 4 * block < n; block += DWIDTH)
                philox_words((uint32_t)(at / 4 + block), rest, key, words + 4 * block);
            index_t i = 0;
            for (; i + WIDTH <= n; i += WIDTH) store(y + at + i, kept(load(x + at + i), words + i, c, least));
            if (i < n) store_part(y + at + i, kept(load_part(x + at + i, n - i), words + i, c, least), n - i);
        }
    }
}
