/* SPDX-License-Identifier: Apache-2.0
 *
 * Processor detection. AMX needs the kernel's permission (arch_prctl ARCH_REQ_XCOMP_PERM) before its first use. */
#include "core/cpu_features.h"

#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static uint32_t limit = UINT32_MAX;

#if defined(__x86_64__)
#include <cpuid.h>

#define ARCH_REQ_XCOMP_PERM 0x1023
#define XFEATURE_XTILEDATA  18

static uint64_t xgetbv0(void) {
    uint32_t lo, hi;
    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return (uint64_t)hi << 32 | lo;
}

static uint32_t detect(void) {
    uint32_t a, b, c, d, m = 0;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE) || !(c & bit_AVX)) return 0;
    uint64_t os = xgetbv0();
    bool fma_f16c = (c & bit_FMA) && (c & bit_F16C);
    uint32_t b7, c7, d7, a71 = 0, t;
    if (!__get_cpuid_count(7, 0, &a, &b7, &c7, &d7)) return 0;
    if (a >= 1) __get_cpuid_count(7, 1, &a71, &t, &t, &t);
    if ((os & 6) == 6 && (b7 & bit_AVX2) && fma_f16c) m |= PARE_CPU_AVX2;
    const uint32_t avx512 = bit_AVX512F | bit_AVX512BW | bit_AVX512DQ | bit_AVX512VL;
    if ((m & PARE_CPU_AVX2) && (os & 0xE6) == 0xE6 && (b7 & avx512) == avx512) {
        m |= PARE_CPU_AVX512;
        if (c7 & bit_AVX512VNNI) m |= PARE_CPU_VNNI;
        if ((m & PARE_CPU_VNNI) && (c7 & 1u << 1) && (c7 & 1u << 6) && (b7 & bit_BMI2)) m |= PARE_CPU_VBMI2;
        if (a71 & 1u << 5) m |= PARE_CPU_BF16;
        bool tiles = (d7 & 1u << 24) && (d7 & 1u << 25) && (d7 & 1u << 22); /* AMX-TILE, -INT8, -BF16 */
        if (tiles && (os & 0x60000) == 0x60000 && syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0)
            m |= PARE_CPU_AMX;
    }
    return m;
}
#else
static uint32_t detect(void) { return 0; }
#endif

static uint32_t env_limit(void) {
    static const struct {
        const char *name;
        uint32_t mask;
    } levels[] = {{"ref", 0}, {"avx2", PARE_CPU_AVX2}, {"avx512", 3}, {"vnni", 39}, {"bf16", 47}, {"amx", 63}};
    const char *e = getenv("PARE_CPU");
    for (size_t i = 0; e && i < sizeof levels / sizeof *levels; i++)
        if (strcmp(e, levels[i].name) == 0) return levels[i].mask;
    return UINT32_MAX;
}

uint32_t pare_cpu_mask(void) {
    static uint32_t found;
    static int done;
    if (!__atomic_load_n(&done, __ATOMIC_ACQUIRE)) { /* a race only detects twice, with the same result */
        found = detect() & env_limit();
        __atomic_store_n(&done, 1, __ATOMIC_RELEASE);
    }
    return found & limit;
}

void pare_cpu_limit(uint32_t mask) { limit = mask; }

const char *pare_cpu_name(uint32_t mask) {
    if (mask & PARE_CPU_AMX) return "AMX";
    if (mask & PARE_CPU_BF16) return "AVX-512 VNNI BF16";
    if (mask & PARE_CPU_VNNI) return "AVX-512 VNNI";
    if (mask & PARE_CPU_AVX512) return "AVX-512";
    if (mask & PARE_CPU_AVX2) return "AVX2";
    return "scalar";
}
