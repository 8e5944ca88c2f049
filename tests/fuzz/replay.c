/* SPDX-License-Identifier: Apache-2.0
 *
 * Runs a fuzz target without libFuzzer: its seeds, every prefix of each, then random mutations for some seconds. An
 * input that kills the target, or runs for more than 20 s, is saved to fuzz-crash.bin. usage: TARGET SECONDS [SEED]
 * TARGET --seeds DIR (writes the seeds)    TARGET FILE.. (runs these inputs) */
#include "fuzz.h"

#include <signal.h>
#include <sanitizer/common_interface_defs.h>

#include "core/log.h"
#include "core/rng.h"

#define CAP ((size_t)1 << 16)

static uint8_t now[CAP];
static size_t now_n;

static void save_now(void) {
    FILE *f = fopen("fuzz-crash.bin", "wb");
    if (!f) return;
    fwrite(now, 1, now_n, f);
    fclose(f);
    fprintf(stderr, "the input is in fuzz-crash.bin (%zu bytes)\n", now_n);
}

static void too_long(int sig) {
    fprintf(stderr, "one input took more than 20 s\n");
    abort();
}

static void run(const uint8_t *p, size_t n) {
    if (p != now) memcpy(now, p, n);
    now_n = n;
    alarm(20);
    uint8_t *exact = malloc(n ? n : 1); /* so that reading one byte beyond is seen */
    memcpy(exact, now, n);
    LLVMFuzzerTestOneInput(exact, n);
    free(exact);
}

static void mutate_once(pare_rng *r) {
    static const uint64_t odd[] = {0,
                                   1,
                                   0x7F,
                                   0x80,
                                   0xFF,
                                   0x7FFF,
                                   0xFFFF,
                                   0x7FFFFFFF,
                                   0x80000000,
                                   0xFFFFFFFF,
                                   (uint64_t)1 << 40,
                                   INT64_MAX,
                                   (uint64_t)1 << 63,
                                   UINT64_MAX};
    size_t i = pare_rng_below(r, now_n ? now_n : 1), width = (size_t)1 << pare_rng_below(r, 4), left = now_n - i;
    uint64_t v = odd[pare_rng_below(r, sizeof odd / sizeof *odd)];
    if (!now_n) return;
    switch (pare_rng_below(r, 8)) {
    case 0: now[i] ^= (uint8_t)(1u << pare_rng_below(r, 8)); break;
    case 1: now[i] = (uint8_t)pare_rng_u64(r); break;
    case 2: memcpy(now + i, &v, width < left ? width : left); break;
    case 3: now[i] = (uint8_t)(now[i] + pare_rng_below(r, 9) - 4); break;
    case 4: now[i] = (uint8_t) "{}[]\":,0123456789-\\eu/."[pare_rng_below(r, 23)]; break;
    case 5: now_n = i; break;
    case 6: { /* a piece is left out */
        size_t n = 1 + pare_rng_below(r, left < 16 ? left : 16);
        memmove(now + i, now + i + n, left - n);
        now_n -= n;
        break;
    }
    default: { /* a piece occurs twice */
        size_t n = 1 + pare_rng_below(r, left < 64 ? left : 64);
        if (now_n + n > CAP) break;
        memmove(now + i + n, now + i, left);
        now_n += n;
    }
    }
}

static int write_seeds(const char *dir) {
    uint8_t buf[CAP];
    size_t n;
    for (unsigned i = 0; (n = fuzz_seed(i, buf, CAP)); i++) {
        char path[4096];
        snprintf(path, sizeof path, "%s/seed-%u", dir, i);
        FILE *f = fopen(path, "wb");
        if (!f || fwrite(buf, 1, n, f) != n || fclose(f) != 0) return 1;
    }
    return 0;
}

static int run_files(int n, char **paths) {
    for (int i = 0; i < n; i++) {
        FILE *f = fopen(paths[i], "rb");
        if (!f) return fprintf(stderr, "%s: cannot be read\n", paths[i]), 2;
        size_t got = fread(now, 1, CAP, f);
        fclose(f);
        run(now, got);
    }
    return 0;
}

int main(int argc, char **argv) {
    if (argc == 3 && strcmp(argv[1], "--seeds") == 0) return write_seeds(argv[2]);
    double seconds = argc > 1 ? atof(argv[1]) : 0, start = pare_now_s();
    uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 0) : 1, runs = 0;
    __sanitizer_set_death_callback(save_now);
    signal(SIGALRM, too_long);
    if (argc > 1 && seconds <= 0) return run_files(argc - 1, argv + 1);
    static uint8_t buf[CAP];
    unsigned n_seeds = 0;
    for (size_t n; (n = fuzz_seed(n_seeds, buf, CAP)); n_seeds++)
        for (size_t cut = n + 1; cut-- > 0 && pare_now_s() - start < seconds / 2; runs++) run(buf, cut);
    pare_rng r;
    pare_rng_seed(&r, seed);
    for (; pare_now_s() - start < seconds; runs++) {
        size_t n = fuzz_seed((unsigned)pare_rng_below(&r, n_seeds), now, CAP);
        now_n = n;
        for (uint64_t k = 1 + pare_rng_below(&r, 6); k-- > 0;) mutate_once(&r);
        run(now, now_n);
    }
    printf("%s: %u seeds, %llu runs in %.1f s, seed %llu\n", argv[0], n_seeds, (unsigned long long)runs,
           pare_now_s() - start, (unsigned long long)seed);
    return n_seeds == 0 || runs < 100;
}
