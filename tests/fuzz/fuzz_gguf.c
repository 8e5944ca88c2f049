/* SPDX-License-Identifier: Apache-2.0
 *
 * Any bytes as a GGUF file. */
#include "fuzz_source.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    fuzz_open(fuzz_file(data, n));
    return 0;
}

static void tensor(fuzz_buf *b, const char *name, uint64_t cols, uint64_t rows, uint32_t type, uint64_t at) {
    fuzz_put_str(b, name);
    fuzz_put_int(b, 2, 4);
    fuzz_put_int(b, cols, 8), fuzz_put_int(b, rows, 8);
    fuzz_put_int(b, type, 4), fuzz_put_int(b, at, 8);
}

size_t fuzz_seed(unsigned i, uint8_t *buf, size_t cap) {
    static const struct {
        uint32_t type, elems, bytes;
    } types[] = {{2, 32, 18},   {3, 32, 20},    {6, 32, 22},    {7, 32, 24},    {8, 32, 34},
                 {10, 256, 84}, {11, 256, 110}, {12, 256, 144}, {13, 256, 176}, {14, 256, 210},
                 {20, 32, 18},  {23, 256, 136}, {39, 32, 17},   {1, 4, 8},      {30, 4, 8}};
    fuzz_buf b = {buf, 0, cap};
    if (i >= sizeof types / sizeof *types) return 0;
    fuzz_put_text(&b, "GGUF");
    fuzz_put_int(&b, i == 1 ? 2 : 3, 4);
    fuzz_put_int(&b, 2, 8), fuzz_put_int(&b, 4, 8);
    fuzz_put_str(&b, "general.architecture"), fuzz_put_int(&b, 8, 4), fuzz_put_str(&b, "llama");
    fuzz_put_str(&b, "general.alignment"), fuzz_put_int(&b, 4, 4), fuzz_put_int(&b, 32, 4);
    fuzz_put_str(&b, "tokens"), fuzz_put_int(&b, 9, 4), fuzz_put_int(&b, 8, 4), fuzz_put_int(&b, 2, 8),
        fuzz_put_str(&b, "a"), fuzz_put_str(&b, "bc");
    fuzz_put_str(&b, "scores"), fuzz_put_int(&b, 9, 4), fuzz_put_int(&b, 6, 4), fuzz_put_int(&b, 2, 8),
        fuzz_put_int(&b, 0, 8);
    tensor(&b, "a.weight", types[i].elems, 2, types[i].type, 0);
    tensor(&b, "b.weight", 4, 1, 0, (2 * types[i].bytes + 31) / 32 * 32);
    fuzz_pad(&b, 32);
    for (uint32_t k = 0; k < 2 * types[i].bytes; k++) fuzz_put_int(&b, k * 7, 1);
    fuzz_pad(&b, 32);
    fuzz_put_int(&b, 0x3F800000, 8), fuzz_put_int(&b, 0, 8);
    return b.n;
}
