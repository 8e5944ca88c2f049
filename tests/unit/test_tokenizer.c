/* SPDX-License-Identifier: Apache-2.0
 *
 * Tokenizers: small goldens by the tokenizers package 0.23.3 (ids) and by llama.cpp (every pre kind on one text), what
 * is refused and by which words, every failing allocation. tests/py/tok_hf.py compares whole texts. test_tokenizer DIR
 * writes the GGUF files behind the llama.cpp goldens, and their text, into DIR. */
#include "files.h"

#include "formats/tokenizer.h"

#include <assert.h>

#define META "\xE2\x96\x81"
static const char bpe_json[] =
    "{\"added_tokens\":[{\"id\":0,\"content\":\"<unk>\",\"special\":true},{\"id\":1,\"content\":\"<s>\",\"special\":"
    "true,\"lstrip\":true}],"
    "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Prepend\",\"prepend\":\"" META "\"},"
    "{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"" META "\"}]},"
    "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<s>\"}},{\"Sequence\":"
    "{\"id\":\"A\"}}],"
    "\"special_tokens\":{\"<s>\":{\"ids\":[1]}}},"
    "\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Replace\",\"pattern\":{\"String\":\"" META
    "\"},\"content\":\" \"},"
    "{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"},{\"type\":\"Strip\",\"content\":\" \",\"start\":1,\"stop\":0}]},"
    "\"model\":{\"type\":\"BPE\",\"unk_token\":\"<unk>\",\"fuse_unk\":true,\"byte_fallback\":true,\"vocab\":{\"<unk>\":"
    "0,\"<s>\":1,"
    "\"<0xC3>\":2,\"<0xA9>\":3,\"" META "\":4,\"h\":5,\"e\":6,\"l\":7,\"o\":8,\"he\":9,\"ll\":10,\"hell\":11,\"" META
    "h\":12,\"" META "hello\":13,\"hello\":14,\"lo\":15},\"merges\":[\"h e\",[\"l\",\"l\"],\"he ll\",\"hell o\",\"" META
    " hello\",\"" META " h\",\"l o\"]}}";
static const char wordpiece_json[] =
    "{\"added_tokens\":[{\"id\":1,\"content\":\"[CLS]\",\"special\":true},{\"id\":2,\"content\":\"[SEP]\",\"special\":"
    "true}],"
    "\"normalizer\":{\"type\":\"BertNormalizer\",\"clean_text\":true,\"handle_chinese_chars\":true,\"strip_accents\":"
    "null,"
    "\"lowercase\":true},\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"},\"decoder\":{\"type\":\"WordPiece\","
    "\"prefix\":\"##\","
    "\"cleanup\":true},\"post_processor\":{\"type\":\"BertProcessing\",\"sep\":[\"[SEP]\",2],\"cls\":[\"[CLS]\",1]},"
    "\"model\":{\"type\":\"WordPiece\",\"unk_token\":\"[UNK]\",\"max_input_chars_per_word\":9,\"vocab\":{\"[UNK]\":0,"
    "\"[CLS]\":1,"
    "\"[SEP]\":2,\"un\":3,\"##want\":4,\"##ed\":5,\"cafe\":6,\"!\":7,\"\xE4\xBD\xA0\":8,\"##e\":9}}}";
static const char bytes_json[] = "{\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\","
                                 "\"pattern\":{\"Regex\":\"\\\\d{1,2}\"},"
                                 "\"behavior\":\"Isolated\"},{\"type\":\"ByteLevel\",\"add_prefix_space\":false}]},"
                                 "\"decoder\":{\"type\":\"ByteLevel\"},"
                                 "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"\xC4\xA0\":1,\"\xC4\xA0"
                                 "a\":2,\"1\":3,\"2\":4,\"12\":5,\"\xC3\x83\":6,\"\xC2\xA9\":7,"
                                 "\"'s\":8,\"'\":9,\"s\":10},\"merges\":[\"\xC4\xA0 a\",\"1 2\",\"' s\"]}}";

static pare_tokenizer *from(const char *json) {
    pare_tokenizer *t;
    pare_diag d = {0};
    if (pare_tokenizer_from_json(json, strlen(json), "t.json", &t, &d) != PARE_OK) fail_msg("%s", d.text);
    return t;
}

/* want ends with -1. */
static void ids_are(const pare_tokenizer *t, const char *text, size_t n, unsigned flags, const int *want) {
    pare_ids ids = {0};
    pare_diag d = {0};
    assert_int_equal(pare_tokenize(t, text, n, flags, &ids, &d), PARE_OK);
    size_t k = 0;
    for (; want[k] >= 0; k++)
        if (k >= ids.n || ids.v[k] != want[k]) fail_msg("%s: id %zu of %zu is not %d", text, k, ids.n, want[k]);
    assert_int_equal(k, ids.n);
    pare_ids_free(&ids);
}
#define IDS(t, text, flags, ...) ids_are(t, text, sizeof(text) - 1, flags, (const int[]){__VA_ARGS__, -1})

static void text_is(const pare_tokenizer *t, const int *ids, const char *want) {
    char *buf = NULL;
    size_t n = 0, cap = 0;
    for (; *ids >= 0; ids++) assert_int_equal(pare_detokenize(t, &(int64_t){*ids}, 1, &buf, &n, &cap), PARE_OK);
    assert_int_equal(n, strlen(want));
    assert_memory_equal(buf, want, n);
    pare_free(buf);
}
#define TEXT(t, want, ...) text_is(t, (const int[]){__VA_ARGS__, -1}, want)

static void test_json(void **state) {
    pare_tokenizer *t = from(bpe_json);
    IDS(t, "hello", 3, 1, 13);
    IDS(t, "hello hello", 2, 13, 13);
    IDS(t, "hhello", 2, 12, 14);
    IDS(t, "h\xC3\xA9llo", 2, 12, 2, 3, 10, 8);
    IDS(t, "xyx h", 2, 4, 0, 12);
    IDS(t, "h <s>lo", 2, 12, 1, 4, 15); /* the space goes to <s>, and what follows it is prepended anew */
    IDS(t, "<s>", 0, 4, 0);             /* not parsed: three unknown characters, fused */
    ids_are(t, "", 0, 3, (const int[]){1, -1});
    ids_are(t, "h\0h", 3, 2, (const int[]){12, 0, 5, -1});
    IDS(t, "h\xFFh", 2, 12, 0, 5);
    TEXT(t, "hello hello\xC3\xA9", 1, 13, 13, 2, 3);
    TEXT(t, " hello", 4, 13);
    pare_tokenizer_close(&t);
    t = from(wordpiece_json);
    IDS(t, "UNWANTED caf\xC3\xA9!\xE4\xBD\xA0 x", 3, 1, 3, 4, 5, 6, 7, 8, 0, 2);
    IDS(t, "unwantedeeee unwante", 2, 0, 3, 4, 9);
    TEXT(t, "unwanted! cafe", 1, 3, 4, 5, 7, 6, 2);
    pare_tokenizer_close(&t);
    t = from(bytes_json);
    IDS(t, "a a 123's", 3, 0, 2, 1, 5, 8);
    IDS(t, "\xC3\xA9 ?", 3, 6, 7, 1);
    TEXT(t, "\xC3\xA9 a", 6, 7, 2);
    pare_tokenizer_close(&t);
}

static void refuse(const char *json, pare_status want, const char *says) {
    pare_tokenizer *t;
    pare_diag d = {0};
    pare_status s = pare_tokenizer_from_json(json, strlen(json), "t.json", &t, &d);
    char line[1200];
    if (s != want || t || !strstr(pare_diag_line(&d, line, sizeof line), says))
        fail_msg("status %d: %s\nexpected %d: %s", (int)s, pare_diag_line(&d, line, sizeof line), (int)want, says);
}

static void test_refused(void **state) {
#define MODEL "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]}"
    refuse("", PARE_ERR_INPUT, "not valid JSON");
    refuse("[]", PARE_ERR_INPUT, "expected a JSON object");
    refuse("{}", PARE_ERR_INPUT, "model");
    refuse("{\"model\":{\"type\":\"Unigram\",\"vocab\":[]}}", PARE_ERR_UNSUPPORTED, "Unigram");
    refuse("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"a\":1},\"merges\":[]}}", PARE_ERR_INPUT, "duplicate");
    refuse("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":0},\"merges\":[]}}", PARE_ERR_INPUT,
           "id 0 belongs to two tokens");
    refuse("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":-1},\"merges\":[]}}", PARE_ERR_INPUT, "no usable id");
    refuse("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":200000000},\"merges\":[]}}", PARE_ERR_INPUT, "ids reach");
    refuse("{\"model\":{\"type\":\"BPE\",\"vocab\":{},\"merges\":[]}}", PARE_ERR_INPUT, "is empty");
    refuse("{\"model\":{\"type\":\"BPE\",\"vocab\":[],\"merges\":[]}}", PARE_ERR_INPUT, "model.vocab");
    refuse("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[\"a b\"]}}", PARE_ERR_INPUT,
           "\"b\" is not in the vocabulary");
    refuse("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[\"a a\"]}}", PARE_ERR_INPUT,
           "\"aa\" is not in the vocabulary");
    refuse("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[\"aa\"]}}", PARE_ERR_INPUT, "model.merges[0]");
    refuse("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":7}}", PARE_ERR_INPUT, "model.merges");
    refuse("{\"model\":{\"type\":\"BPE\",\"dropout\":0.1,\"vocab\":{\"a\":0},\"merges\":[]}}", PARE_ERR_UNSUPPORTED,
           "dropout");
    refuse("{\"model\":{\"type\":\"WordPiece\",\"vocab\":{\"a\":0}}}", PARE_ERR_INPUT, "unk_token");
    refuse("{\"normalizer\":{\"type\":\"Precompiled\"}," MODEL "}", PARE_ERR_UNSUPPORTED, "normalizer Precompiled");
    refuse("{\"normalizer\":{\"type\":7}," MODEL "}", PARE_ERR_INPUT, "normalizer");
    refuse("{\"pre_tokenizer\":{\"type\":\"UnicodeScripts\"}," MODEL "}", PARE_ERR_UNSUPPORTED,
           "pre-tokenizer UnicodeScripts");
    refuse("{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(a\"},\"behavior\":\"Isolated\"}," MODEL
           "}",
           PARE_ERR_INPUT, "regular expression");
    refuse("{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"[a-z&&[^b]]\"},\"behavior\":\"Isolated\"}"
           "," MODEL "}",
           PARE_ERR_UNSUPPORTED, "set operations");
    refuse("{\"decoder\":{\"type\":\"CTC\"}," MODEL "}", PARE_ERR_UNSUPPORTED, "decoder CTC");
    refuse("{\"post_processor\":{\"type\":\"Odd\"}," MODEL "}", PARE_ERR_UNSUPPORTED, "post-processor Odd");
    refuse("{\"post_processor\":{\"type\":\"BertProcessing\",\"sep\":[\"b\",2],\"cls\":[\"a\",1]}," MODEL "}",
           PARE_ERR_INPUT, "outside the vocabulary");
    refuse("{\"added_tokens\":[{\"id\":0,\"content\":\"b\"}]," MODEL "}", PARE_ERR_INPUT, "id 0 is taken");
    refuse("{\"added_tokens\":[{\"content\":\"b\"}]," MODEL "}", PARE_ERR_INPUT, "added_tokens");
    char *deep = malloc(20000), *p = deep;
    p += sprintf(p, "{\"model\":");
    for (int i = 0; i < 9000; i++) *p++ = '[';
    *p = 0;
    refuse(deep, PARE_ERR_INPUT, "depth");
    free(deep);
}

/* A pattern that never matches and takes 2^n steps to find out. */
static void test_slow_regex(void **state) {
    pare_tokenizer *t = from("{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(a*)*(a*)*(?:b|c)\"},"
                             "\"behavior\":\"Isolated\"}," MODEL "}");
    char text[3000];
    memset(text, 'a', sizeof text);
    pare_ids ids = {0};
    pare_diag d = {0};
    assert_int_equal(pare_tokenize(t, text, sizeof text, 0, &ids, &d), PARE_ERR_INPUT);
    assert_non_null(strstr(d.text, "too long"));
    pare_ids_free(&ids);
    pare_tokenizer_close(&t);
}

/* ---- GGUF: 256 visible bytes, and merges between some of them that show where a pre-tokenizer cuts ---- */
static const char pre_text[] =
    "a'b ba's B'S aB'b 12 2112 121 1.2!? !!\n\n \n  a   \n 'a\xC3\xA9\xC3\xA9 \xE4\xBD\xA0\xE4\xBD\xA0"
    "a\xE3\x80\x80\xE3\x80\x80"
    "a \xE3\x80\x80"
    "B\xC3\xA9"
    "\xC3\xA3\xBD\xC2\xA0 aA\xCC\x81"
    "b 12\xD9\xA3"
    "2!\xE3\x80\x82!ab\xF0\x9F\x98\x80"
    "a (a)[b] ~1$2\xC2\xBD"
    "BA\xE2\x80\x99s AbBaBB \r\n'B3\t\t1\xFF"
    "a";
static const char *const pres[] = {"default",     "gpt-2",  "smollm", "llama-bpe", "dbrx",           "glm4",
                                   "qwen2",       "qwen35", "tekken", "gpt-4o",    "deepseek-coder", "deepseek-llm",
                                   "deepseek-v3", "falcon", "bloom",  "viking",    "seed-coder",     "bailingmoe"};
#define MAX_TOK 800
#define N_PRES  (sizeof pres / sizeof *pres)

static size_t visible(unsigned b, char *u) { /* the GPT-2 alphabet, written down a second time */
    unsigned cp = b;
    if (!((b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174)) {
        cp = 256;
        for (unsigned k = 0; k < b; k++) cp += !((k >= 33 && k <= 126) || (k >= 161 && k <= 172) || k >= 174);
    }
    if (cp < 128) return u[0] = (char)cp, 1;
    return u[0] = (char)(0xC0 | cp >> 6), u[1] = (char)(0x80 | (cp & 63)), 2;
}

static void str(bytes *b, const char *s) { put64(b, strlen(s)), put_text(b, s); }

static const char *make_pre(const char *dir, const char *pre) {
    static const unsigned char some[] = "abAB12!$' \n\r\xC3\xA9\xE3\x80\xBD\xA0\xCC\x81\x82";
    static char path[300];
    static bytes b;
    static char tok[MAX_TOK][8], merge[MAX_TOK][12];
    size_t n_tok = 256, n_merge = 0;
    for (unsigned k = 0; k < 256; k++) tok[k][visible(k, tok[k])] = 0;
    for (size_t i = 0; some[i]; i++)
        for (size_t k = 0; some[k]; k++) {
            if ((i * 7 + k * 3) % 5 == 0) continue; /* some pairs stay apart */
            assert(n_tok < MAX_TOK);
            size_t n = strlen(tok[some[i]]);
            memcpy(merge[n_merge], tok[some[i]], n), merge[n_merge][n] = ' ';
            strcpy(merge[n_merge++] + n + 1, tok[some[k]]);
            memcpy(tok[n_tok], tok[some[i]], n);
            strcpy(tok[n_tok++] + n, tok[some[k]]);
        }
    b.n = 0;
    put_text(&b, "GGUF"), put32(&b, 3), put64(&b, 0), put64(&b, 8);
    str(&b, "general.architecture"), put32(&b, 8), str(&b, "llama");
    str(&b, "tokenizer.ggml.model"), put32(&b, 8), str(&b, "gpt2");
    str(&b, "tokenizer.ggml.pre"), put32(&b, 8), str(&b, pre);
    str(&b, "tokenizer.ggml.tokens"), put32(&b, 9), put32(&b, 8), put64(&b, n_tok);
    for (size_t i = 0; i < n_tok; i++) str(&b, tok[i]);
    str(&b, "tokenizer.ggml.merges"), put32(&b, 9), put32(&b, 8), put64(&b, n_merge);
    for (size_t i = 0; i < n_merge; i++) str(&b, merge[i]);
    str(&b, "tokenizer.ggml.bos_token_id"), put32(&b, 4), put32(&b, 1);
    str(&b, "tokenizer.ggml.eos_token_id"), put32(&b, 4), put32(&b, 2);
    str(&b, "tokenizer.ggml.add_bos_token"), put32(&b, 7), put8(&b, 0);
    put_zero(&b, (32 - b.n % 32) % 32);
    snprintf(path, sizeof path, "%s/%s.gguf", dir, pre);
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(b.p, 1, b.n, f) != b.n || fclose(f) != 0) return NULL;
    return path;
}

static void test_pre_kinds(void **state) {
    static const struct {
        unsigned n, hash;
    } golden[N_PRES] = {
#include "tokenizer_pre.inc"
    };
    for (size_t i = 0; i < N_PRES; i++) {
        pare_source *s = opens(make_pre(test_dir, pres[i]));
        pare_tokenizer *t;
        pare_diag d = {0};
        pare_ids ids = {0};
        if (pare_tokenizer_open(s, &t, &d) != PARE_OK) fail_msg("%s: %s", pres[i], d.text);
        assert_int_equal(pare_tokenize(t, pre_text, sizeof pre_text - 1, 3, &ids, &d), PARE_OK);
        unsigned hash = 2166136261u;
        for (size_t k = 0; k < ids.n; k++) hash = (hash ^ (unsigned)ids.v[k]) * 16777619u;
        if (ids.n != golden[i].n || hash != golden[i].hash)
            fail_msg("%s: %zu ids, hash %08x, not %u, %08x", pres[i], ids.n, hash, golden[i].n, golden[i].hash);
        pare_ids_free(&ids);
        pare_tokenizer_close(&t);
        pare_source_close(&s);
    }
}

/* ---- the GGUF view ---- */
static void test_view(void **state) {
    pare_tokenizer *t = from(bpe_json);
    pare_gguf_vocab v;
    pare_diag d = {0};
    assert_int_equal(pare_tokenizer_gguf(t, 18, &v, &d), PARE_OK);
    assert_string_equal(v.model, "llama");
    assert_int_equal(v.n, 18);
    assert_memory_equal(v.tokens[17].p, "[PAD17]", 7);
    assert_int_equal(v.types[17], 5);
    assert_int_equal(v.types[0], 2);
    assert_int_equal(v.types[1], 3);
    assert_int_equal(v.types[13], 1);
    assert_true(v.scores[9] == 0 && v.scores[10] == -1 && v.scores[13] == -4 && v.scores[5] < -6);
    assert_int_equal(v.add_bos, 1);
    assert_int_equal(v.add_space_prefix, 1);
    assert_int_equal(pare_tokenizer_gguf(t, 15, &v, &d), PARE_ERR_MISMATCH);
    pare_tokenizer *w = from(wordpiece_json);
    assert_int_equal(pare_tokenizer_gguf(w, 10, &v, NULL), PARE_OK);
    assert_string_equal(v.model, "bert");
    assert_memory_equal(v.tokens[4].p, "want", 4);
    assert_memory_equal(v.tokens[3].p, META "un", 5);
    assert_memory_equal(v.tokens[1].p, "[CLS]", 5);
    assert_true(v.lowercase == 1 && v.strip_accents == 1 && v.bos == 1 && v.sep == 2 && v.unk == 0);
    int64_t at;
    assert_true(pare_tokenizer_differ(t, w, &at));
    assert_int_equal(at, 0);
    assert_false(pare_tokenizer_differ(t, t, &at));
    pare_tokenizer_close(&t);
    pare_tokenizer_close(&w);
}

static pare_status all_of(void *ctx) {
    const char *json = ctx, *text = "hello h\xC3\xA9 <s> unwanted 12's \xFF";
    pare_tokenizer *t;
    pare_ids ids = {0};
    pare_gguf_vocab v;
    char *buf = NULL;
    size_t n = 0, cap = 0;
    pare_status s = pare_tokenizer_from_json(json, strlen(json), "t.json", &t, NULL);
    if (s == PARE_OK) s = pare_tokenize(t, text, strlen(text), 3, &ids, NULL);
    if (s == PARE_OK) s = pare_detokenize(t, ids.v, ids.n, &buf, &n, &cap);
    if (s == PARE_OK) s = pare_tokenizer_gguf(t, 40, &v, NULL);
    pare_free(buf);
    pare_ids_free(&ids);
    pare_tokenizer_close(&t);
    return s;
}
static void test_allocations(void **state) {
    harness_fail_every_alloc(all_of, (void *)bpe_json);
    harness_fail_every_alloc(all_of, (void *)wordpiece_json);
    harness_fail_every_alloc(all_of, (void *)bytes_json);
}

static pare_status all_of_gguf(void *ctx) {
    pare_tokenizer *t;
    pare_ids ids = {0};
    pare_status s = pare_tokenizer_open(ctx, &t, NULL);
    if (s == PARE_OK) s = pare_tokenize(t, pre_text, sizeof pre_text - 1, 3, &ids, NULL);
    pare_ids_free(&ids);
    pare_tokenizer_close(&t);
    return s;
}
static void test_allocations_gguf(void **state) {
    pare_source *s = opens(make_pre(test_dir, "deepseek-llm"));
    harness_fail_every_alloc(all_of_gguf, s);
    pare_source_close(&s);
}

int main(int argc, char **argv) {
    if (argc > 1) {
        for (size_t i = 0; i < N_PRES; i++) puts(make_pre(argv[1], pres[i]));
        return 0;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_json),
                                       cmocka_unit_test(test_refused),
                                       cmocka_unit_test(test_slow_regex),
                                       cmocka_unit_test(test_pre_kinds),
                                       cmocka_unit_test(test_view),
                                       cmocka_unit_test(test_allocations),
                                       cmocka_unit_test(test_allocations_gguf)};
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
