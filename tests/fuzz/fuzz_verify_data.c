/* SPDX-License-Identifier: Apache-2.0
 *
 * What `pare verify` reads besides models: any bytes as a list of sentences or scored pairs, and as the JSON report of
 * an earlier run (first byte 0 or 1 says which). */
#include "fuzz.h"

#include "api/verify_impl.h"
#include "core/alloc.h"
#include "core/status.h"
#include "verify/gates.h"

static pare_verify_report *small_report(void) {
    pare_verify_report *r = pare_report_new(PARE_VERIFY_LM);
    if (!r) abort();
    for (int i = 0; i < 2; i++) {
        pare_column c = {"m", i ? "reduced" : "original", "cpu", "none", "llama", 1};
        pare_report_column(r, &c);
    }
    pare_report_note(r, "data_sha256", "00");
    pare_report_number(r, "context", 64);
    pare_report_number(r, "windows", 2);
    pare_report_number(r, "scored", 62);
    pare_report_note(r, "bos", "none");
    return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    if (!n) return 0;
    pare_diag d = {0};
    if (*data & 1) {
        pare_verify_report *r = small_report();
        if (pare_gates_baseline(r, (const char *)data + 1, n - 1, "old.json", 0.02, false, &d) != PARE_OK && !d.text[0])
            abort();
        pare_report_free(&r);
        return 0;
    }
    /* views into the data: a copy of exactly its size, so that reading past it shows */
    char *copy = pare_malloc(n - 1);
    if (!copy) abort();
    memcpy(copy, data + 1, n - 1);
    pare_verify_data v = {copy, n - 1, NULL};
    pare_sentences s;
    if (pare_sentences_parse(&v, "pairs.csv", 0, &s, &d) == PARE_OK) {
        for (size_t i = 0; i < s.n; i++)
            if (s.v[i].p < copy || s.v[i].p + s.v[i].n > copy + n - 1) abort();
        for (size_t i = 0; i < s.n_pairs; i++)
            if (s.pairs[i].a >= s.n || s.pairs[i].b >= s.n) abort();
    } else if (!d.text[0]) abort();
    pare_sentences_free(&s);
    pare_free(copy);
    return 0;
}

size_t fuzz_seed(unsigned i, uint8_t *buf, size_t cap) {
    static const char *const seeds[] =
        {"0one sentence\nanother one\r\none sentence\n\nthe last, not ended",
         "0main-captions\tMSRvid\t2012test\t0001\t5.000\tA man is here.\tA man is "
         "there.\nmain-captions\tMSRvid\t2012test\t"
         "0004\t4.750\tOne.\tTwo.\n",
         "00.5\tleft\tright\n1e300\tleft\tother\nnan\tx\ty\n",
         "1{\"kind\":\"lm\",\"protocol\":{\"data_sha256\":\"00\",\"context\":64,\"windows\":2,\"scored\":62,\"bos\":"
         "\"none\"},"
         "\"metrics\":{\"kl_mean\":{\"better\":\"lower\",\"values\":[{\"value\":0},{\"value\":0.01}]}}}",
         "1[]",
         "1{\"protocol\":[],\"metrics\":7}"};
    fuzz_buf b = {buf, 0, cap};
    if (i >= sizeof seeds / sizeof *seeds) return 0;
    fuzz_put_text(&b, seeds[i]);
    return b.n;
}
