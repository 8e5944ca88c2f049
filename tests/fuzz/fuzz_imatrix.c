/* SPDX-License-Identifier: Apache-2.0
 *
 * Any bytes as an importance matrix, in both formats; what is read is looked up again by name. */
#include "fuzz.h"

#include "formats/imatrix.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    pare_imatrix *m = NULL;
    pare_diag d = {0};
    if (pare_imatrix_read(fuzz_file(data, n), &m, &d) != PARE_OK) {
        if (!d.text[0] || m) abort(); /* refused: with a reason, and nothing is left */
        return 0;
    }
    for (size_t i = 0; i < m->n; i++) {
        const pare_imatrix_entry *e = &m->v[i];
        double sum = 0;
        for (size_t k = 0; k < e->matrices * e->columns; k++) {
            if (!(e->mean[k] >= 0)) abort();
            sum += (double)e->mean[k];
        }
        if (!(sum >= 0) || pare_imatrix_find(m, e->name) != e) abort();
    }
    pare_imatrix_free(&m);
    return 0;
}

static void legacy(fuzz_buf *b, int entries, int values) {
    fuzz_put_int(b, (uint64_t)entries, 4);
    for (int i = 0; i < entries; i++) {
        const char *name = i ? "blk.0.ffn_up.weight" : "blk.0.attn_q.weight";
        fuzz_put_int(b, strlen(name), 4), fuzz_put_text(b, name);
        fuzz_put_int(b, 3, 4), fuzz_put_int(b, (uint64_t)values, 4);
        for (int k = 0; k < values; k++) fuzz_put_int(b, 0x3F800000u + (unsigned)k, 4);
    }
    fuzz_put_int(b, 3, 4), fuzz_put_int(b, 4, 4), fuzz_put_text(b, "text");
}

static void gguf(fuzz_buf *b, unsigned matrices) {
    static const char *const names[] = {"blk.0.attn_q.weight.in_sum2", "blk.0.attn_q.weight.counts"};
    fuzz_put_text(b, "GGUF"), fuzz_put_int(b, 3, 4), fuzz_put_int(b, 2, 8), fuzz_put_int(b, 1, 8);
    fuzz_put_str(b, "general.type"), fuzz_put_int(b, 8, 4), fuzz_put_str(b, "imatrix");
    for (int i = 0; i < 2; i++) {
        fuzz_put_str(b, names[i]), fuzz_put_int(b, 2, 4);
        fuzz_put_int(b, i ? 1 : 8, 8), fuzz_put_int(b, matrices, 8);
        fuzz_put_int(b, 0, 4), fuzz_put_int(b, i ? 32 * matrices : 0, 8);
    }
    fuzz_pad(b, 32);
    for (unsigned k = 0; k < 8 * matrices; k++) fuzz_put_int(b, 0x40000000u + k, 4);
    for (unsigned k = 0; k < matrices; k++) fuzz_put_int(b, k ? 0 : 0x41000000u, 4);
    fuzz_pad(b, 32);
}

size_t fuzz_seed(unsigned i, uint8_t *buf, size_t cap) {
    fuzz_buf b = {buf, 0, cap};
    if (i < 2) legacy(&b, (int)i + 1, 16);
    else if (i < 4) gguf(&b, i - 1);
    return b.n;
}
