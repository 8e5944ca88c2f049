/* SPDX-License-Identifier: Apache-2.0
 *
 * The safetensors reader: all dtypes, and every way a header can lie. */
#include "files.h"

#include <jansson.h>

#include "formats/validate.h"

static const char *st(const char *header, size_t data) {
    bytes *b = calloc(1, sizeof *b);
    put64(b, strlen(header));
    put_text(b, header);
    for (size_t i = 0; i < data; i++) put8(b, (uint8_t)(i + 1));
    const char *path = save("m.safetensors", b->p, b->n);
    free(b);
    return path;
}

/* The JSON library's own allocations fail one by one. It reports some of these as syntax errors, so either status will
 * do. */
static size_t json_calls, json_fail_at, json_live;
static void *json_take(size_t n) {
    if (json_calls++ == json_fail_at) return NULL;
    void *p = malloc(n);
    json_live += p != NULL;
    return p;
}
static void json_release(void *p) {
    json_live -= p != NULL;
    free(p);
}
static void json_failing(const char *path) {
    json_set_alloc_funcs(json_take, json_release);
    bool done = false;
    for (json_fail_at = 0; !done; json_fail_at++) {
        json_calls = json_live = 0;
        pare_status s = open_close((void *)path);
        done = json_calls <= json_fail_at;
        assert_int_equal(json_live, 0);
        assert_true(done ? s == PARE_OK : s == PARE_ERR_NOMEM || s == PARE_ERR_INPUT);
    }
    json_set_alloc_funcs(malloc, free);
    assert_true(json_fail_at > 5);
}

static void test_dtypes(void **state) {
    static const struct {
        const char *word;
        size_t bytes;
        const char *name;
    } dtypes[] = {{"F64", 8, "f64"},         {"F32", 4, "f32"},         {"F16", 2, "f16"},         {"BF16", 2, "bf16"},
                  {"F8_E4M3", 1, "f8_e4m3"}, {"F8_E5M2", 1, "f8_e5m2"}, {"F8_E8M0", 1, "f8_e8m0"}, {"I8", 1, "i8"},
                  {"I16", 2, "i16"},         {"I32", 4, "i32"},         {"I64", 8, "i64"},         {"U8", 1, "u8"},
                  {"U16", 2, "u16"},         {"U32", 4, "u32"},         {"U64", 8, "u64"},         {"BOOL", 1, "bool"},
                  {"C64", 8, "c64"}};
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++) {
        char header[200];
        snprintf(header, sizeof header, "{\"t\":{\"dtype\":\"%s\",\"shape\":[2,3],\"data_offsets\":[0,%zu]}}",
                 dtypes[i].word, 6 * dtypes[i].bytes);
        pare_source *s = opens(st(header, 6 * dtypes[i].bytes));
        assert_int_equal(s->kind, PARE_SOURCE_SAFETENSORS);
        assert_string_equal(s->tensors[0].type->name, dtypes[i].name);
        assert_int_equal(s->tensors[0].bytes, 6 * dtypes[i].bytes);
        assert_int_equal(((const unsigned char *)s->tensors[0].data)[0], 1);
        pare_source_close(&s);
    }
    pare_source *s = opens(st("{\"t\":{\"dtype\":\"F4\",\"shape\":[2,4],\"data_offsets\":[0,4]}}   ",
                              4)); /* two per byte; spaces behind */
    pare_source_close(&s);
    refuses(st("{\"t\":{\"dtype\":\"F4\",\"shape\":[3],\"data_offsets\":[0,2]}}", 2), PARE_ERR_INPUT, "whole bytes");
    refuses(st("{\"t\":{\"dtype\":\"F12\",\"shape\":[2],\"data_offsets\":[0,3]}}", 3), PARE_ERR_UNSUPPORTED, "\"F12\"");
}

static void test_order_and_shapes(void **state) {
    const char *path = st("{\"__metadata__\":{\"format\":\"pt\",\"note\":\"caf\\u00e9\"},"
                          "\"late\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]},"
                          "\"scalar\":{\"dtype\":\"F16\",\"shape\":[],\"data_offsets\":[2,4]},"
                          "\"empty\":{\"dtype\":\"F32\",\"shape\":[0,7],\"data_offsets\":[2,2]},"
                          "\"first\":{\"dtype\":\"F16\",\"shape\":[1,1,1],\"data_offsets\":[0,2]}}",
                          8);
    pare_source *s = opens(path);
    pare_str note;
    assert_int_equal(s->n_tensors, 4);
    assert_string_equal(s->tensors[0].name, "first");
    assert_string_equal(s->tensors[1].name, "empty");
    assert_string_equal(s->tensors[2].name, "scalar");
    assert_int_equal(s->tensors[2].ndim, 0);
    assert_int_equal(((const unsigned char *)pare_source_find(s, "late")->data)[0], 5);
    assert_true(pare_meta_get_str(s, "note", &note) && note.n == 5);
    pare_source_close(&s);
    harness_fail_every_alloc(open_close, (void *)path);
    json_failing(path);
}

#define T(shape, off) "{\"t\":{\"dtype\":\"F16\",\"shape\":" shape ",\"data_offsets\":" off "}}"

static void test_refusals(void **state) {
    bytes *b = calloc(1, sizeof *b);
    refuses(save("m.safetensors", "", 0), PARE_ERR_INPUT, "empty");
    refuses(save("m.safetensors", "\1\0", 2), PARE_ERR_INPUT, "8 bytes");
    put64(b, 100000001), put_text(b, "{}");
    refuses(save("m.safetensors", b->p, b->n), PARE_ERR_INPUT, "at most 100000000");
    b->n = 0, put64(b, UINT64_MAX), put_text(b, "{}");
    refuses(save("m.safetensors", b->p, b->n), PARE_ERR_INPUT, "at most");
    b->n = 0, put64(b, 50), put_text(b, "{}");
    refuses(save("m.safetensors", b->p, b->n), PARE_ERR_INPUT, "cut off");
    b->n = 0, put64(b, 0);
    refuses(save("m.safetensors", b->p, b->n), PARE_ERR_INPUT, "must begin with {");
    refuses(st("[]", 0), PARE_ERR_INPUT, "must begin with {");
    refuses(st("{\"t\":", 0), PARE_ERR_INPUT, "byte 13");
    refuses(st("{} {}", 0), PARE_ERR_INPUT, "not valid JSON");
    refuses(st("{\"t\":1,\"t\":2}", 0), PARE_ERR_INPUT, "duplicate");
    refuses(st("{\"t\xff\":1}", 0), PARE_ERR_INPUT, "byte 0xff");
    refuses(st("{\"a\\u0000b\":1}", 0), PARE_ERR_INPUT, "not valid JSON");
    refuses(st("{\"t\":5}", 0), PARE_ERR_INPUT, "expected an object");
    refuses(st("{\"__metadata__\":5}", 0), PARE_ERR_INPUT, "object of strings");
    refuses(st("{\"__metadata__\":{\"a\":5}}", 0), PARE_ERR_INPUT, "strings only");
    refuses(st("{\"t\":{\"shape\":[1],\"data_offsets\":[0,2]}}", 2), PARE_ERR_INPUT, "dtype");
    refuses(st("{\"t\":{\"dtype\":\"F16\",\"data_offsets\":[0,2]}}", 2), PARE_ERR_INPUT, "shape");
    refuses(st("{\"t\":{\"dtype\":\"F16\",\"shape\":[1]}}", 2), PARE_ERR_INPUT, "data_offsets");
    refuses(st("{\"t\":{\"dtype\":\"F16\",\"shape\":[1],\"data_offsets\":[0,2],\"x\":1}}", 2), PARE_ERR_INPUT,
            "besides");
    refuses(st(T("[-1]", "[0,2]"), 2), PARE_ERR_INPUT, ">= 0");
    refuses(st(T("[1.0]", "[0,2]"), 2), PARE_ERR_INPUT, "integers");
    refuses(st(T("[\"1\"]", "[0,2]"), 2), PARE_ERR_INPUT, "integers");
    refuses(st(T("[99999999999999999999]", "[0,2]"), 2), PARE_ERR_INPUT, "too big");
    refuses(st(T("[4294967296,4294967296]", "[0,0]"), 0), PARE_ERR_INPUT, "overflows"); /* 2^64 wraps to 0 */
    refuses(st(T("[0,4294967296,4294967296]", "[0,0]"), 0), PARE_ERR_INPUT, "overflows");
    refuses(st(T("[0,1099511627776]", "[0,0]"), 0), PARE_ERR_INPUT, "absurd");
    refuses(st(T("[9223372036854775807]", "[0,2]"), 2), PARE_ERR_INPUT, "overflows");
    refuses(st(T("[1,1,1,1,1,1,1,1,1]", "[0,2]"), 2), PARE_ERR_UNSUPPORTED, "9 dimensions");
    refuses(st(T("[1]", "[2,0]"), 2), PARE_ERR_INPUT, "begin <= end");
    refuses(st(T("[1]", "[-2,0]"), 2), PARE_ERR_INPUT, "begin <= end");
    refuses(st(T("[1]", "[0,2,4]"), 2), PARE_ERR_INPUT, "[begin, end]");
    refuses(st(T("[2]", "[0,2]"), 2), PARE_ERR_INPUT, "make 4 bytes");
    refuses(st(T("[1]", "[0,2]"), 1), PARE_ERR_INPUT, "beyond the end");
    refuses(st(T("[1]", "[0,2]"), 3), PARE_ERR_INPUT, "behind the last tensor");
    refuses(st(T("[1]", "[2,4]"), 4), PARE_ERR_INPUT, "hole");
    refuses(st("{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},\"b\":{\"dtype\":\"U8\",\"shape\":[4],"
               "\"data_offsets\":[2,6]}}",
               6),
            PARE_ERR_INPUT, "overlap");
    size_t deep = 60000; /* nesting beyond the parser's limit */
    b->n = 0, put64(b, 5 + deep), put_text(b, "{\"t\":");
    for (size_t i = 0; i < deep; i++) put8(b, '[');
    refuses(save("m.safetensors", b->p, b->n), PARE_ERR_INPUT, "depth");
    free(b);
}

static void test_cuts_and_flips(void **state) {
    bytes *b = calloc(1, sizeof *b);
    const char *header =
        "{\"__metadata__\":{\"format\":\"pt\"},\"a\":{\"dtype\":\"F16\",\"shape\":[2,2],\"data_offsets\":[0,8]},"
        "\"b\":{\"dtype\":\"I64\",\"shape\":[1],\"data_offsets\":[8,16]}}";
    put64(b, strlen(header)), put_text(b, header), put_zero(b, 16);
    pare_source *s;
    for (size_t n = 0; n < b->n; n++) {
        pare_diag d = {0};
        if (pare_source_open(save("cut.safetensors", b->p, n), &s, &d) == PARE_OK) fail_msg("cut at %zu: accepted", n);
        assert_true(d.text[0]);
    }
    size_t accepted = 0;
    for (size_t bit = 0; bit < 8 * b->n; bit++) {
        b->p[bit / 8] ^= (unsigned char)(1 << bit % 8);
        pare_diag d = {0};
        if (pare_source_open(save("flip.safetensors", b->p, b->n), &s, &d) == PARE_OK) {
            unsigned sum = 0;
            for (size_t i = 0; i < s->n_tensors; i++)
                for (size_t k = 0; k < s->tensors[i].bytes; k++) sum += ((const unsigned char *)s->tensors[i].data)[k];
            accepted += sum < 256;
            pare_source_close(&s);
        } else assert_true(d.text[0]);
        b->p[bit / 8] ^= (unsigned char)(1 << bit % 8);
    }
    assert_true(accepted >= 8 * 16);
    free(b);
}

static void test_nonfinite(void **state) {
    enum { N = 10007 };
    static const struct {
        const pare_qtype *qt;
        uint32_t fine, nan, inf;
    } t[] = {{&pare_qtype_f32, 0x7F7FFFFF, 0x7FC00001, 0xFF800000},
             {&pare_qtype_f16, 0x7BFF, 0x7E01, 0xFC00},
             {&pare_qtype_bf16, 0x7F7F, 0x7FC1, 0xFF80}};
    for (size_t i = 0; i < 3; i++) {
        size_t size = t[i].qt->block_bytes;
        harness_buf b = harness_buf_new(N * size, 1);
        for (size_t k = 0; k < N; k++) memcpy(b.p + k * size, &t[i].fine, size);
        assert_int_equal(pare_find_nonfinite(t[i].qt, b.p, N), SIZE_MAX);
        assert_int_equal(pare_find_nonfinite(t[i].qt, b.p, 0), SIZE_MAX);
        static const size_t where[] = {0, 1, 31, 32, 63, 64, 4095, 4096, 9999, N - 1};
        for (size_t k = 0; k < sizeof where / sizeof *where; k++) {
            memcpy(b.p + where[k] * size, k % 2 ? &t[i].nan : &t[i].inf, size);
            assert_int_equal(pare_find_nonfinite(t[i].qt, b.p, N), where[k]);
            assert_int_equal(pare_find_nonfinite(t[i].qt, b.p, where[k]), SIZE_MAX);
            memcpy(b.p + where[k] * size, &t[i].fine, size);
        }
        free(b.base);
    }
    const double bad[2] = {1, -1.0 / 0.0};
    assert_int_equal(pare_find_nonfinite(&pare_qtype_f64, bad, 2), 1);
    const uint8_t e4m3[3] = {0x7E, 0x01, 0xFF};
    assert_int_equal(pare_find_nonfinite(pare_qtype_by_name("f8_e4m3"), e4m3, 3), 2);
    assert_int_equal(pare_find_nonfinite(&pare_qtype_i8, e4m3, 3), SIZE_MAX);
}

int main(void) {
    pare_set_threads(1);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_dtypes), cmocka_unit_test(test_order_and_shapes),
                                       cmocka_unit_test(test_refusals), cmocka_unit_test(test_cuts_and_flips),
                                       cmocka_unit_test(test_nonfinite)};
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
