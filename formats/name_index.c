/* SPDX-License-Identifier: Apache-2.0
 *
 * Open addressing with linear probing, at most half full. */
#include "formats/name_index.h"

#include <string.h>
#include <time.h>

#include "core/alloc.h"

static uint64_t seed_of_process(void) {
    static uint64_t seed; /* any value will do, the same for the whole run; a race writes one of two good seeds */
    uint64_t s = __atomic_load_n(&seed, __ATOMIC_RELAXED);
    if (s) return s;
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    s = ((uint64_t)t.tv_nsec << 32 ^ (uint64_t)t.tv_sec ^ (uint64_t)(uintptr_t)&seed) | 1;
    uint64_t zero = 0;
    return __atomic_compare_exchange_n(&seed, &zero, s, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED) ? s : zero;
}

static uint64_t fold(uint64_t a, uint64_t b) {
    unsigned __int128 m = (unsigned __int128)a * b;
    return (uint64_t)m ^ (uint64_t)(m >> 64);
}

static uint64_t hash_name(const char *s) {
    uint64_t h = seed_of_process(), w;
    size_t n = strlen(s), left = n;
    for (; left >= 8; s += 8, left -= 8) {
        memcpy(&w, s, 8);
        h = fold(h ^ w, 0x9E3779B97F4A7C15u) + (h >> 29);
    }
    w = n;
    memcpy(&w, s, left);
    h = fold(h ^ w, 0x9E3779B97F4A7C15u) ^ n;
    return fold(h, 0xD6E8FEB86659FD93u);
}

static const char *name_at(const pare_name_index *ix, size_t i) {
    return *(const char *const *)((const char *)ix->base + i * ix->stride);
}

pare_status pare_name_index_build(pare_name_index *ix, const void *base, size_t stride, size_t n, size_t *dup) {
    pare_name_index_free(ix);
    *dup = SIZE_MAX;
    size_t size = 16;
    while (size < 2 * n) size *= 2;
    uint32_t *slot = n < UINT32_MAX / 4 ? pare_calloc(size, sizeof *slot) : NULL;
    if (!slot) return PARE_ERR_NOMEM;
    *ix = (pare_name_index){base, stride, n, size - 1, slot};
    for (size_t i = 0; i < n; i++) {
        const char *name = name_at(ix, i);
        size_t k = hash_name(name) & ix->mask;
        for (; slot[k]; k = (k + 1) & ix->mask)
            if (*dup == SIZE_MAX && strcmp(name_at(ix, slot[k] - 1), name) == 0) *dup = i;
        slot[k] = (uint32_t)i + 1;
    }
    return PARE_OK;
}

size_t pare_name_index_find(const pare_name_index *ix, const char *name) {
    if (!ix->slot) return SIZE_MAX;
    for (size_t k = hash_name(name) & ix->mask; ix->slot[k]; k = (k + 1) & ix->mask)
        if (strcmp(name_at(ix, ix->slot[k] - 1), name) == 0) return ix->slot[k] - 1;
    return SIZE_MAX;
}

void pare_name_index_free(pare_name_index *ix) {
    pare_free(ix->slot);
    *ix = (pare_name_index){0};
}
