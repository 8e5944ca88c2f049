/* SPDX-License-Identifier: Apache-2.0
 *
 * Machine probes in plain C, and their choice. */
#include "cpu/probe.h"

#include <string.h>

#include "core/cpu_features.h"

uint64_t pare_probe_read_ref(const void *p, size_t bytes, int streams) {
    size_t part = bytes / (size_t)streams;
    uint64_t s = 0;
    for (size_t i = 0; i < part; i += 64)
        for (int k = 0; k < streams; k++) {
            uint64_t v[8];
            memcpy(v, (const char *)p + (size_t)k * part + i, 64);
            for (int j = 0; j < 8; j++) s += v[j];
        }
    return s;
}

void pare_probe_copy_ref(void *dst, const void *src, size_t bytes) { memcpy(dst, src, bytes); }
void pare_probe_copy_nt_ref(void *dst, const void *src, size_t bytes) { memcpy(dst, src, bytes); }
void pare_probe_write_nt_ref(void *dst, size_t bytes) { memset(dst, 1, bytes); }

double pare_probe_fma_ref(size_t steps, float *sink) {
    float a[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    for (size_t i = 0; i < steps; i++)
        for (int j = 0; j < 8; j++) a[j] = a[j] * 0.999f + 0.001f;
    float s = 0;
    for (int j = 0; j < 8; j++) s += a[j];
    *sink = s;
    return 16.0 * (double)steps;
}

double pare_probe_dot8_ref(size_t steps, int32_t *sink) {
    const volatile uint8_t seed = 77;
    uint8_t w[32];
    int8_t x[32];
    uint32_t s[8] = {0};
    for (int j = 0; j < 32; j++) w[j] = (uint8_t)(seed + j), x[j] = (int8_t)(seed - j);
    for (size_t i = 0; i < steps; i++) {
        for (int j = 0; j < 32; j++) s[j % 8] += (uint32_t)(w[j] * x[j]);
        w[i % 32]++;
    }
    uint32_t t = 0;
    for (int j = 0; j < 8; j++) t += s[j];
    *sink = (int32_t)t;
    return 64.0 * (double)steps;
}

pare_probe_table pare_probes(void) {
    uint32_t mask = pare_cpu_mask();
    pare_probe_table t = {0};
#define PARE_KERNEL(op, isa, need)                                                                                     \
    if ((mask & (need)) == (need)) t.op = pare_probe_##op##_##isa;
#include "cpu/probe.def"
#undef PARE_KERNEL
    return t;
}
