/* SPDX-License-Identifier: Apache-2.0
 *
 * Tokens of a text piece by piece (api/distill_tokens.h): the tokens of its pieces whatever holds them, pieces cut
 * behind lines or characters, every byte seen once; what is wrong is said and leaves nothing. */
#include "files.h"

#include "api/distill_tokens.h"
#include "core/rng.h"

static const char json[] =
    "{\"decoder\":{\"type\":\"ByteLevel\"},\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false,"
    "\"use_regex\":false},\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2,\"\xC4\x8A\":3,\"\xC3\x83\":"
    "4,"
    "\"\xC2\xA9\":5,\"aa\":6},\"merges\":[\"a b\",\"a a\"]}}";

static pare_tokenizer *tok;

static int setup(void **state) {
    pare_diag d = {0};
    return make_dir(state) || pare_tokenizer_from_json(json, strlen(json), "t.json", &tok, &d) != PARE_OK;
}

static int teardown(void **state) {
    (void)state;
    pare_tokenizer_close(&tok);
    unlink(at("text"));
    return rmdir(test_dir); /* fails when anything else was left */
}

static pare_status read_text(const char *text, size_t n, size_t piece, size_t most, pare_text_tokens *out,
                             pare_diag *d) {
    const pare_text_opts o =
        {.path = save("text", text, n), .beside = at("out"), .model = "m", .vocab = 7, .piece = piece, .most = most};
    *d = (pare_diag){0};
    return pare_text_tokens_open(tok, &o, out, d);
}

/* Lines of random length of "a", "b" and e-acute. */
static size_t make_text(char *text, size_t room, uint64_t seed, unsigned line) {
    pare_rng r;
    size_t n = 0;
    pare_rng_seed(&r, seed);
    while (n + 3 < room) {
        uint64_t x = pare_rng_below(&r, 3 + (line ? 1 : 0) * (uint64_t)1000 / (line + 1));
        if (x == 0) text[n++] = 'a';
        else if (x == 1) text[n++] = 'b';
        else if (x == 2) text[n++] = '\xC3', text[n++] = '\xA9';
        else text[n++] = '\n';
    }
    return n;
}

/* The tokens of each piece alone, cut as the header says. */
static void expect(const char *text, size_t n, size_t piece, const pare_text_tokens *t) {
    pare_ids ids = {0};
    pare_diag d = {0};
    for (size_t at = 0; at < n;) {
        size_t k = n - at;
        if (k > piece) {
            k = piece;
            while (k && text[at + k - 1] != '\n') k--;
            if (!k) { /* the last whole character that surely ends within the piece */
                k = piece;
                while ((text[at + k - 1] & 0xc0) == 0x80) k--;
                k--;
            }
        }
        assert_int_equal(pare_tokenize(tok, text + at, k, at ? 0 : PARE_TOK_SPECIAL, &ids, &d), PARE_OK);
        at += k;
    }
    assert_int_equal(t->n, ids.n);
    for (size_t i = 0; i < ids.n; i++) assert_int_equal(t->v[i], ids.v[i]);
    pare_ids_free(&ids);
}

static void pieces(void **state) {
    static char text[4096];
    pare_diag d;
    (void)state;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        size_t n = make_text(text, 40 + (size_t)seed * 100, seed, seed % 4 == 0 ? 0 : (unsigned)seed * 20);
        size_t piece = 16 + (size_t)seed * 7;
        pare_text_tokens in_memory, in_file, whole;
        if (read_text(text, n, piece, (size_t)1 << 20, &in_memory, &d) != PARE_OK) fail_msg("%s", d.text);
        if (read_text(text, n, piece, 64, &in_file, &d) != PARE_OK) fail_msg("%s", d.text);
        if (read_text(text, n, 0, 0, &whole, &d) != PARE_OK) fail_msg("%s", d.text);
        expect(text, n, piece, &in_memory);
        expect(text, n, n, &whole);
        assert_true(in_file.mapped == in_file.n * 4 && in_memory.mapped == 0);
        assert_int_equal(in_memory.n, in_file.n);
        assert_memory_equal(in_memory.v, in_file.v, in_memory.n * sizeof *in_memory.v);
        assert_true(in_memory.sum == in_file.sum);
        pare_text_tokens_close(&in_memory);
        pare_text_tokens_close(&in_file);
        pare_text_tokens_close(&whole);
    }
}

static void refused(const char *text, size_t n, int64_t vocab, pare_status want, const char *says) {
    pare_text_tokens t;
    pare_diag d = {0};
    const pare_text_opts o =
        {.path = save("text", text, n), .beside = at("out"), .model = "m", .vocab = vocab, .piece = 16, .most = 8};
    assert_int_equal(pare_text_tokens_open(tok, &o, &t, &d), want);
    if (!strstr(d.text, says)) fail_msg("`%s` does not say `%s`", d.text, says);
    pare_text_tokens_close(&t);
}

static void what_is_wrong(void **state) {
    (void)state;
    refused("", 0, 7, PARE_ERR_INPUT, "empty");
    refused("aaaaaaaaaa\naaaaaaaaaaaa\nab\xff\n", 28, 7, PARE_ERR_INPUT, "from byte 24");
    refused("aaaaaaaaaa\naaaaaaaaaaaa\n\xC3", 25, 7, PARE_ERR_INPUT, "not UTF-8");
    refused("aaaaaaaaaa\nbbbbbbbbbbbb\n", 24, 3, PARE_ERR_MISMATCH, "beyond the 3 rows");
    pare_text_tokens t;
    pare_diag d = {0};
    const pare_text_opts absent = {.path = "/nonexistent/text", .beside = test_dir, .model = "m", .vocab = 7};
    assert_int_equal(pare_text_tokens_open(tok, &absent, &t, &d), PARE_ERR_NOT_FOUND);
    const pare_text_opts nowhere = {.path = save("text", "aaaaaaaaaa\nbbbbbbbbbbbb\n", 24),
                                    .beside = "/nonexistent/out",
                                    .model = "m",
                                    .vocab = 7,
                                    .piece = 16,
                                    .most = 8};
    assert_int_equal(pare_text_tokens_open(tok, &nowhere, &t, &d), PARE_ERR_NOT_FOUND);
    pare_text_tokens_close(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(pieces), cmocka_unit_test(what_is_wrong)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
