#include "dispatch.h"

#include <stdlib.h>
#include <string.h>

#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#ifndef HWCAP_ASIMD
#define HWCAP_ASIMD (1 << 1)
#endif
#endif

static int always(void) { return 1; }

#if defined(__x86_64__)
static int has_avx2(void) { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
static int has_avx512(void) {
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
}
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
