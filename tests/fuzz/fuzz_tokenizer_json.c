/* SPDX-License-Identifier: Apache-2.0
 *
 * A tokenizer.json, a zero byte, and a text for it. */
#include "fuzz_tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    const uint8_t *zero = n ? memchr(data, 0, n) : NULL;
    size_t json = zero ? (size_t)(zero - data) : n;
    pare_tokenizer *t;
    pare_diag d = {0};
    if (pare_tokenizer_from_json((const char *)data, json, "fuzz", &t, &d) != PARE_OK) {
        if (!d.text[0] || d.code == PARE_OK || t) abort();
        return 0;
    }
    fuzz_tokenizer(t, (const char *)data + json + (zero ? 1 : 0), zero ? n - json - 1 : 0);
    pare_tokenizer_close(&t);
    return 0;
}

#define BPE                                                                                                            \
    "\"model\":{\"type\":\"BPE\",\"unk_token\":\"<unk>\",\"fuse_unk\":true,\"byte_fallback\":true,\"vocab\":"          \
    "{\"<unk>\":0,\"a\":1,\"b\":2,\"ab\":3,\"\xE2\x96\x81\":4,\"\xE2\x96\x81"                                          \
    "a\":5,\"<0x41>\":6,\"\xC4\xA0\":7,\"\\u0000\":8},"                                                                \
    "\"merges\":[\"a b\",[\"\xE2\x96\x81\",\"a\"]]}"
#define ADDED                                                                                                          \
    "\"added_tokens\":[{\"id\":9,\"content\":\"<s>\",\"special\":true,\"lstrip\":true},{\"id\":10,\"content\":\"Ab\"," \
    "\"single_word\":true,\"rstrip\":true,\"normalized\":true}],"

size_t fuzz_seed(unsigned i, uint8_t *buf, size_t cap) {
    static const char *const seeds[] =
        {"{" ADDED
         "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Prepend\",\"prepend\":\"\xE2\x96\x81\"},"
         "{\"type\":\"Replace\",\"pattern\":{\"String\":\" "
         "\"},\"content\":\"\xE2\x96\x81\"},{\"type\":\"NFKC\"}]},\"pre_tokenizer\":null,"
         "\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Replace\",\"pattern\":{\"String\":"
         "\"\xE2\x96\x81\"},"
         "\"content\":\" \"},{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"},{\"type\":\"Strip\",\"content\":\" "
         "\",\"start\":1,\"stop\":0}]},"
         "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<s>\"}},{"
         "\"Sequence\":{\"id\":\"A\"}}],"
         "\"special_tokens\":{\"<s>\":{\"ids\":[9]}}}," BPE "}",
         "{" ADDED
         "\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":"
         "\"(?i:'s)|[^\\\\r\\\\n\\\\p{L}]?\\\\p{L}+|\\\\w\\\\s*|\\\\s+(?!\\\\S)\"},\"behavior\":\"MergedWithNext\","
         "\"invert\":false},"
         "{\"type\":\"Digits\",\"individual_digits\":true},{\"type\":\"ByteLevel\",\"add_prefix_space\":true,\"use_"
         "regex\":true}]},"
         "\"decoder\":{\"type\":\"ByteLevel\"},\"post_processor\":{\"type\":\"RobertaProcessing\",\"sep\":[\"b\",2],"
         "\"cls\":[\"a\",1]}," BPE "}",
         "{" ADDED "\"normalizer\":{\"type\":\"BertNormalizer\",\"clean_text\":true,\"handle_chinese_chars\":true,"
         "\"strip_accents\":null,"
         "\"lowercase\":true},\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"},\"decoder\":{\"type\":\"WordPiece\","
         "\"prefix\":\"##\"},"
         "\"model\":{\"type\":\"WordPiece\",\"unk_token\":\"[UNK]\",\"vocab\":{\"[UNK]\":0,\"a\":1,\"##b\":2,\"!\":3,"
         "\"ab\":4}}}",
         "{\"normalizer\":{\"type\":\"Strip\",\"strip_left\":true,\"strip_right\":true},\"pre_tokenizer\":{\"type\":"
         "\"Sequence\","
         "\"pretokenizers\":[{\"type\":\"Metaspace\",\"replacement\":\"\xE2\x96\x81\",\"prepend_scheme\":\"first\"},{"
         "\"type\":\"Whitespace\"},"
         "{\"type\":\"Punctuation\",\"behavior\":\"Contiguous\"},{\"type\":\"WhitespaceSplit\"}]},\"decoder\":{"
         "\"type\":\"Metaspace\"}," BPE "}"};
    static const char text[] = "ab <s> \xC3\xA4"
                               "b ab\xE4\xBD\xA0 A\xFF 12 it's\n\n  Ab!";
    fuzz_buf b = {buf, 0, cap};
    if (i >= sizeof seeds / sizeof *seeds) return 0;
    fuzz_put_text(&b, seeds[i]);
    fuzz_put(&b, "", 1);
    fuzz_put_text(&b, text);
    return b.n;
}
