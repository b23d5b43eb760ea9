#include "dispatch.h"

#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__)
#include <sys/auxv.h>
#ifndef HWCAP_ASIMD
#define HWCAP_ASIMD (1 << 1)
#endif
#endif

static int always(void) { return 1; }

#if defined(__x86_64__)
/* What the processor has and the kernel saves. ziglang's __builtin_cpu_supports finds nothing. */
enum { FMA = 1 << 12, OSXSAVE = 1 << 27, AVX2 = 1 << 5 };
static const unsigned avx512 = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31; /* f, dq, bw, vl */
static const unsigned avx_state = 6, avx512_state = 0xe6;

static int has(unsigned features, unsigned state) {
    unsigned a, b, c, d, saved, high;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & FMA) || !(c & OSXSAVE)) return 0;
    __asm__("xgetbv" : "=a"(saved), "=d"(high) : "c"(0));
    if ((saved & state) != state || !__get_cpuid_count(7, 0, &a, &b, &c, &d)) return 0;
    return (b & features) == features;
}
static int has_avx2(void) { return has(AVX2, avx_state); }
static int has_avx512(void) { return has(AVX2 | avx512, avx512_state); }
#elif defined(__aarch64__)
static int has_neon(void) { return (getauxval(AT_HWCAP) & HWCAP_ASIMD) != 0; }
#endif

static const struct isa {
    const char *name;
    int (*supported)(void);
    const struct kernels *kernels_32, *kernels_64;
} isas[] = { /* the widest first */
#if defined(__x86_64__)
    {"avx512", has_avx512, &kernels_avx512_32, &kernels_avx512_64},
    {"avx2", has_avx2, &kernels_avx2_32, &kernels_avx2_64},
#elif defined(__aarch64__)
    {"neon", has_neon, &kernels_neon_32, &kernels_neon_64},
#endif
    {"scalar", always, &kernels_scalar_32, &kernels_scalar_64},
};
#define ISA_COUNT (sizeof isas / sizeof *isas)

static const struct isa *chosen = &isas[ISA_COUNT - 1];

/* Append as much of `text` as there is room for. */
static void append(char *message, size_t room, const char *text) {
    size_t used = strlen(message);
    if (used + 1 < room) strncat(message, text, room - used - 1);
}

static const char *explain(const char *asked) {
    static char message[256];
    char given[40] = "";
    append(given, sizeof given, asked);
    message[0] = 0;
    append(message, sizeof message, "HPCNN_ISA is '");
    append(message, sizeof message, given);
    append(message, sizeof message, "', but on this machine it can be ");
    for (const struct isa *isa = isas; isa < isas + ISA_COUNT; isa++) {
        if (!isa->supported()) continue;
        append(message, sizeof message, isa->name);
        append(message, sizeof message, isa == isas + ISA_COUNT - 1 ? "" : ", ");
    }
    append(message, sizeof message, ". Without it, the widest of them is used.");
    return message;
}

const char *choose_isa(void) {
    const char *asked = getenv("HPCNN_ISA");
    for (const struct isa *isa = isas; isa < isas + ISA_COUNT; isa++) {
        if (!isa->supported() || (asked && *asked && strcmp(asked, isa->name) != 0)) continue;
        chosen = isa;
        return NULL;
    }
    return explain(asked);
}

const char *isa_name(void) { return chosen->name; }

const struct kernels *kernels_for(int bits) { return bits == 32 ? chosen->kernels_32 : chosen->kernels_64; }
