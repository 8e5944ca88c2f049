/* SPDX-License-Identifier: Apache-2.0
 *
 * Any bytes as a GGUF file with a vocabulary; the text is fixed. */
#include "fuzz_tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    static const char text[] = "ab <s> \xC3\xA4"
                               "b ab\xE4\xBD\xA0 A\xFF\xF9 12 it's\n\n  Ab!";
    pare_source *s;
    pare_tokenizer *t;
    pare_diag d = {0};
    if (pare_source_open(fuzz_file(data, n), &s, &d) != PARE_OK) return 0;
    if (pare_tokenizer_open(s, &t, &d) == PARE_OK) fuzz_tokenizer(t, text, sizeof text - 1);
    else if (!d.text[0] || d.code == PARE_OK || t) abort();
    pare_tokenizer_close(&t);
    pare_source_close(&s);
    return 0;
}

static void list(fuzz_buf *b, const char *key, uint32_t type, size_t n) {
    fuzz_put_str(b, key), fuzz_put_int(b, 9, 4), fuzz_put_int(b, type, 4), fuzz_put_int(b, n, 8);
}

size_t fuzz_seed(unsigned i, uint8_t *buf, size_t cap) {
    static const char *const models[] = {"llama", "gpt2", "bert", "gpt2", "gpt2"}, *const pres[] = {"", "llama-bpe", "",
                                                                                                    "deepseek-llm",
                                                                                                    "default"};
    static const char *const tokens[] = {"<unk>",
                                         "<s>",
                                         "</s>",
                                         "a",
                                         "b",
                                         "ab",
                                         "\xE2\x96\x81",
                                         "\xE2\x96\x81"
                                         "a",
                                         "<0x41>",
                                         "\xC4\xA0",
                                         " ab"};
    size_t n = sizeof tokens / sizeof *tokens;
    fuzz_buf b = {buf, 0, cap};
    if (i >= sizeof models / sizeof *models) return 0;
    fuzz_put_text(&b, "GGUF");
    fuzz_put_int(&b, 3, 4), fuzz_put_int(&b, 0, 8), fuzz_put_int(&b, 10, 8);
    fuzz_put_str(&b, "general.architecture"), fuzz_put_int(&b, 8, 4), fuzz_put_str(&b, "llama");
    fuzz_put_str(&b, "tokenizer.ggml.model"), fuzz_put_int(&b, 8, 4), fuzz_put_str(&b, models[i]);
    fuzz_put_str(&b, "tokenizer.ggml.pre"), fuzz_put_int(&b, 8, 4), fuzz_put_str(&b, pres[i]);
    list(&b, "tokenizer.ggml.tokens", 8, n);
    for (size_t k = 0; k < n; k++) fuzz_put_str(&b, tokens[k]);
    list(&b, "tokenizer.ggml.scores", 6, n);
    for (size_t k = 0; k < n; k++) fuzz_put_int(&b, 0xBF800000u + (k << 20), 4);
    list(&b, "tokenizer.ggml.token_type", 5, n);
    for (size_t k = 0; k < n; k++) fuzz_put_int(&b, k == 0 ? 2 : k < 3 ? 3 : k == 8 ? 6 : k == 10 ? 4 : 1, 4);
    list(&b, "tokenizer.ggml.merges", 8, 2);
    fuzz_put_str(&b, "a b"), fuzz_put_str(&b, "\xC4\xA0 ab");
    fuzz_put_str(&b, "tokenizer.ggml.bos_token_id"), fuzz_put_int(&b, 4, 4), fuzz_put_int(&b, 1, 4);
    fuzz_put_str(&b, "tokenizer.ggml.seperator_token_id"), fuzz_put_int(&b, 4, 4), fuzz_put_int(&b, 2, 4);
    fuzz_put_str(&b, "tokenizer.ggml.unknown_token_id"), fuzz_put_int(&b, 4, 4), fuzz_put_int(&b, 0, 4);
    fuzz_pad(&b, 32);
    return b.n;
}
