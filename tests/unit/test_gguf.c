/* SPDX-License-Identifier: Apache-2.0
 *
 * The GGUF reader: what a file says is what comes out; every refusal of the container's rules; splits. */
#include "files.h"

static void put_str(bytes *b, const char *s) {
    put64(b, strlen(s));
    put_text(b, s);
}
static void begin(bytes *b, uint32_t version, uint64_t n_tensors, uint64_t n_kv) {
    b->n = 0;
    put_text(b, "GGUF");
    put32(b, version);
    put64(b, n_tensors);
    put64(b, n_kv);
}
static void put_key(bytes *b, const char *key, uint32_t type) {
    put_str(b, key);
    put32(b, type);
}
static void put_info(bytes *b, const char *name, uint32_t ndim, const uint64_t *ne, uint32_t type, uint64_t offset) {
    put_str(b, name);
    put32(b, ndim);
    for (uint32_t i = 0; i < ndim; i++) put64(b, ne[i]);
    put32(b, type);
    put64(b, offset);
}
static void pad(bytes *b, size_t align) { put_zero(b, (align - b->n % align) % align); }

static void test_everything(void **state) {
    bytes *b = calloc(1, sizeof *b);
    begin(b, 3, 3, 16);
    put_key(b, "u8", 0), put8(b, 200);
    put_key(b, "i8", 1), put8(b, (uint8_t)-3);
    put_key(b, "u16", 2), put16(b, 60000);
    put_key(b, "i16", 3), put16(b, (uint16_t)-300);
    put_key(b, "u32", 4), put32(b, 4000000000u);
    put_key(b, "i32", 5), put32(b, (uint32_t)-70000);
    float f = 1.5f;
    double x = 2.25;
    put_key(b, "f32", 6), put(b, &f, 4);
    put_key(b, "yes", 7), put8(b, 7);
    put_key(b, "str", 8), put_str(b, "h\xc3\xa9");
    put_key(b, "list", 9), put32(b, 8), put64(b, 2), put_str(b, "a"), put_str(b, "");
    put_key(b, "numbers", 9), put32(b, 5), put64(b, 3), put32(b, 1), put32(b, 2), put32(b, 3);
    put_key(b, "empty", 9), put32(b, 8), put64(b, 0);
    put_key(b, "u64", 10), put64(b, UINT64_MAX);
    put_key(b, "i64", 11), put64(b, (uint64_t)-5);
    put_key(b, "f64", 12), put(b, &x, 8);
    put_key(b, "general.alignment", 4), put32(b, 64);
    put_info(b, "blk.0.w", 2, (uint64_t[]){32, 3}, 2, 0); /* q4_0: 3 rows of 18 bytes */
    put_info(b, "norm", 1, (uint64_t[]){5}, 0, 64);
    put_info(b, "scalar", 0, NULL, 30, 128);
    pad(b, 64);
    size_t data = b->n;
    for (int i = 0; i < 54; i++) put8(b, (uint8_t)i);
    pad(b, 64);
    for (int i = 0; i < 5; i++) f = (float)i, put(b, &f, 4);
    pad(b, 64);
    put16(b, 0x3F80); /* no padding after the last tensor */
    const char *path = save("all.gguf", b->p, b->n);
    pare_source *s = opens(path);
    uint64_t u;
    double v;
    bool yes;
    pare_str str;
    assert_int_equal(s->kind, PARE_SOURCE_GGUF);
    assert_int_equal(s->n_meta, 16);
    assert_true(pare_meta_get_u64(s, "u8", &u) && u == 200);
    assert_true(pare_meta_get_u64(s, "u64", &u) && u == UINT64_MAX);
    assert_false(pare_meta_get_u64(s, "i8", &u));
    assert_false(pare_meta_get_u64(s, "f32", &u));
    assert_false(pare_meta_get_u64(s, "none", &u));
    assert_int_equal(pare_source_meta(s, "i8")->v.i, -3);
    assert_int_equal(pare_source_meta(s, "i16")->v.i, -300);
    assert_int_equal(pare_source_meta(s, "i32")->v.i, -70000);
    assert_int_equal(pare_source_meta(s, "i64")->v.i, -5);
    assert_true(pare_meta_get_f64(s, "f32", &v) && v == 1.5);
    assert_true(pare_meta_get_f64(s, "f64", &v) && v == 2.25);
    assert_true(pare_meta_get_bool(s, "yes", &yes) && yes);
    assert_true(pare_meta_get_str(s, "str", &str) && str.n == 3 && memcmp(str.p, "h\xc3\xa9", 3) == 0);
    const pare_meta *list = pare_source_meta(s, "list"), *numbers = pare_source_meta(s, "numbers");
    assert_int_equal(list->v.arr.n, 2);
    assert_int_equal(((const pare_str *)list->v.arr.data)[0].p[0], 'a');
    assert_int_equal(((const pare_str *)list->v.arr.data)[1].n, 0);
    assert_int_equal(numbers->v.arr.n, 3);
    assert_memory_equal(numbers->v.arr.data, "\1\0\0\0\2\0\0\0\3\0\0\0", 12);
    const pare_stored *w = pare_source_find(s, "blk.0.w"), *norm = pare_source_find(s, "norm"),
                      *sc = pare_source_find(s, "scalar");
    assert_int_equal(w->ndim, 2);
    assert_int_equal(w->shape[0], 3);
    assert_int_equal(w->shape[1], 32);
    assert_int_equal(w->bytes, 54);
    assert_int_equal(w->file_offset, data);
    assert_string_equal(w->type->name, "q4_0");
    assert_int_equal(*(const unsigned char *)pare_source_rows(s, w, 1, 1, NULL), 18);
    assert_int_equal(norm->file_offset, data + 64);
    assert_int_equal(sc->ndim, 0);
    assert_int_equal(sc->bytes, 2);
    assert_null(pare_source_find(s, "blk.0"));
    pare_source_release(s, w, 0, 3);
    assert_int_equal(*(const unsigned char *)pare_source_rows(s, w, 2, 1, NULL), 36);
    pare_source_close(&s);
    assert_null(s);
    pare_source_close(&s);
    harness_fail_every_alloc(open_close, (void *)path);
    /* every proper prefix is refused, except those that only lack nothing but... none: the last tensor ends the file */
    for (size_t n = 0; n < b->n; n++) {
        pare_diag d = {0};
        if (pare_source_open(save("cut.gguf", b->p, n), &s, &d) == PARE_OK)
            fail_msg("cut at %zu of %zu: accepted", n, b->n);
        assert_true(d.text[0] && d.file[0]);
    }
    free(b);
}

/* One f32 tensor of 4 elements with the given info, 16 bytes of data. */
static const char *one_tensor(uint32_t ndim, const uint64_t *ne, uint32_t type, uint64_t offset, const char *name) {
    bytes *b = calloc(1, sizeof *b);
    begin(b, 3, 1, 0);
    put_info(b, name, ndim, ne, type, offset);
    pad(b, 32);
    put_zero(b, 16);
    const char *path = save("one.gguf", b->p, b->n);
    free(b);
    return path;
}

static void test_tensor_refusals(void **state) {
    const uint64_t four[] = {4}, big[] = {(uint64_t)1 << 40, (uint64_t)1 << 40}, half[] = {(uint64_t)1 << 62, 1},
                   neg[] = {(uint64_t)-4};
    const uint64_t many[] = {1, 1, 1, 1, 4}, zero[] = {0, (uint64_t)1 << 40, (uint64_t)1 << 40}, odd[] = {33},
                   wrap[] = {(uint64_t)1 << 61, 8};
    char name64[65], name63[64];
    memset(name64, 'n', 64), name64[64] = 0;
    memset(name63, 'n', 63), name63[63] = 0;
    pare_source *s = opens(one_tensor(1, four, 0, 0, name63));
    pare_source_close(&s);
    s = opens(one_tensor(1, four, 0, 0, "")); /* an empty tensor name is none of the refusals */
    pare_source_close(&s);
    refuses(one_tensor(1, four, 0, 0, name64), PARE_ERR_INPUT, "63 bytes");
    refuses(one_tensor(1, four, 0, 0, "w\xff"), PARE_ERR_INPUT, "UTF-8");
    refuses(one_tensor(1, four, 0, 0, "\xed\xa0\x80"), PARE_ERR_INPUT, "UTF-8");
    refuses(one_tensor(1, four, 0, 32, "w"), PARE_ERR_INPUT, "follow one another");
    refuses(one_tensor(1, (uint64_t[]){5}, 0, 0, "w"), PARE_ERR_INPUT, "beyond the end");
    refuses(one_tensor(2, big, 0, 0, "w"), PARE_ERR_INPUT, "overflows");  /* 2^80 elements wrap to 0 */
    refuses(one_tensor(2, half, 0, 0, "w"), PARE_ERR_INPUT, "overflows"); /* 2^62 elements, 2^64 bytes */
    refuses(one_tensor(2, wrap, 0, 0, "w"), PARE_ERR_INPUT, "overflows");
    refuses(one_tensor(3, zero, 0, 0, "w"), PARE_ERR_INPUT, "overflows");
    refuses(one_tensor(1, neg, 0, 0, "w"), PARE_ERR_INPUT, "negative");
    refuses(one_tensor(5, many, 0, 0, "w"), PARE_ERR_INPUT, "4 dimensions");
    refuses(one_tensor(1, odd, 2, 0, "w"), PARE_ERR_INPUT, "blocks");
    static const uint32_t gone[] = {4, 5, 31, 32, 33, 36, 37, 38, 43, 1000, UINT32_MAX};
    for (size_t i = 0; i < sizeof gone / sizeof *gone; i++)
        refuses(one_tensor(1, four, gone[i], 0, "w"), PARE_ERR_INPUT, "storage type");
    s = opens(one_tensor(3, (uint64_t[]){4, 0, 7}, 0, 0, "w")); /* empty tensors are fine */
    assert_int_equal(s->tensors[0].bytes, 0);
    pare_source_close(&s);
}

static void test_header_refusals(void **state) {
    bytes *b = calloc(1, sizeof *b);
    static const uint32_t versions[] = {0, 1, 4, 5, 0x03000000, 0x10000};
    for (size_t i = 0; i < 6; i++) {
        begin(b, versions[i], 0, 0);
        refuses(save("h.gguf", b->p, b->n), PARE_ERR_INPUT, (versions[i] & 0xFFFF) == 0 ? "big-endian" : "version");
    }
    for (uint32_t v = 2; v <= 3; v++) {
        begin(b, v, 0, 0);
        pare_source *s = opens(save("h.gguf", b->p, b->n));
        assert_int_equal(s->n_tensors, 0);
        pare_source_close(&s);
    }
    begin(b, 3, (uint64_t)-1, 0), put_zero(b, 64);
    refuses(save("h.gguf", b->p, b->n), PARE_ERR_INPUT, "more tensors");
    begin(b, 3, 0, (uint64_t)1 << 60), put_zero(b, 64);
    refuses(save("h.gguf", b->p, b->n), PARE_ERR_INPUT, "more keys");
    begin(b, 3, 0, 1), put_key(b, "", 0), put8(b, 1);
    refuses(save("h.gguf", b->p, b->n), PARE_ERR_INPUT, "empty key");
    begin(b, 3, 0, 1), put64(b, 2), put(b, "a\0", 2), put32(b, 0), put8(b, 1);
    refuses(save("h.gguf", b->p, b->n), PARE_ERR_INPUT, "zero byte");
    begin(b, 3, 0, 2), put_key(b, "k", 0), put8(b, 1), put_key(b, "k", 0), put8(b, 1);
    refuses(save("h.gguf", b->p, b->n), PARE_ERR_INPUT, "twice");
    begin(b, 3, 0, 1), put_key(b, "k", 13), put64(b, 1);
    refuses(save("h.gguf", b->p, b->n), PARE_ERR_INPUT, "unknown value type");
    begin(b, 3, 0, 1), put_key(b, "k", 9), put32(b, 9), put64(b, 0);
    refuses(save("h.gguf", b->p, b->n), PARE_ERR_INPUT, "array of arrays");
    begin(b, 3, 0, 1), put_key(b, "k", 9), put32(b, 77), put64(b, 0);
    refuses(save("h.gguf", b->p, b->n), PARE_ERR_INPUT, "element type");
    begin(b, 3, 0, 1), put_key(b, "k", 9), put32(b, 10), put64(b, ((uint64_t)1 << 30) + 1);
    refuses(save("h.gguf", b->p, b->n), PARE_ERR_INPUT, "2^30");
    begin(b, 3, 0, 1), put_key(b, "k", 9), put32(b, 8), put64(b, (uint64_t)1 << 30); /* claims 16 GiB of strings */
    refuses(save("h.gguf", b->p, b->n), PARE_ERR_INPUT, "more bytes");
    begin(b, 3, 0, 1), put_key(b, "k", 8), put64(b, ((uint64_t)1 << 30) + 1);
    refuses(save("h.gguf", b->p, b->n), PARE_ERR_INPUT, "1 GiB");
    begin(b, 3, 0, 1), put_key(b, "k", 8), put64(b, UINT64_MAX);
    refuses(save("h.gguf", b->p, b->n), PARE_ERR_INPUT, "1 GiB");
    begin(b, 3, 0, 1), put_key(b, "k", 8), put64(b, 1000);
    refuses(save("h.gguf", b->p, b->n), PARE_ERR_INPUT, "1000 more bytes");
    static const uint32_t aligns[] = {0, 3, 33};
    for (size_t i = 0; i < 3; i++) {
        begin(b, 3, 0, 1), put_key(b, "general.alignment", 4), put32(b, aligns[i]);
        refuses(save("h.gguf", b->p, b->n), PARE_ERR_INPUT, "power of two");
    }
    begin(b, 3, 0, 1), put_key(b, "general.alignment", 10), put64(b, 32);
    refuses(save("h.gguf", b->p, b->n), PARE_ERR_INPUT, "must be a u32");
    begin(b, 3, 1, 1), put_key(b, "general.alignment", 4), put32(b, 1u << 31),
        put_info(b, "w", 1, (uint64_t[]){4}, 0, 0), put_zero(b, 64);
    refuses(save("h.gguf", b->p, b->n), PARE_ERR_INPUT, "beyond the end");
    begin(b, 3, 2, 0), put_info(b, "w", 1, (uint64_t[]){8}, 0, 0), put_info(b, "w", 1, (uint64_t[]){8}, 0, 32);
    pad(b, 32), put_zero(b, 64);
    refuses(save("h.gguf", b->p, b->n), PARE_ERR_INPUT, "two tensors");
    begin(b, 3, 2, 0), put_info(b, "v", 1, (uint64_t[]){8}, 0, 32), put_info(b, "w", 1, (uint64_t[]){8}, 0, 0);
    pad(b, 32), put_zero(b, 64);
    refuses(save("h.gguf", b->p, b->n), PARE_ERR_INPUT, "follow one another");
    begin(b, 3, 2, 0), put_info(b, "v", 1, (uint64_t[]){8}, 0, 0),
        put_info(b, "w", 1, (uint64_t[]){8}, 0, 16); /* overlap */
    pad(b, 32), put_zero(b, 64);
    refuses(save("h.gguf", b->p, b->n), PARE_ERR_INPUT, "follow one another");
    begin(b, 3, 2, 0), put_info(b, "v", 1, (uint64_t[]){8}, 0, 0),
        put_info(b, "w", 1, (uint64_t[]){8}, 0, 64); /* hole */
    pad(b, 32), put_zero(b, 128);
    refuses(save("h.gguf", b->p, b->n), PARE_ERR_INPUT, "follow one another");
    free(b);
}

static const char *part(const char *name, int no, int count, int total, const char *tensor, uint32_t no_type) {
    bytes *b = calloc(1, sizeof *b);
    begin(b, 3, tensor ? 1 : 0, no == 0 ? 4 : 3);
    if (no == 0) put_key(b, "general.name", 8), put_str(b, "split");
    put_key(b, "split.no", no_type);
    if (no_type == 2) put16(b, (uint16_t)no);
    else put32(b, (uint32_t)no);
    put_key(b, "split.count", 2), put16(b, (uint16_t)count);
    put_key(b, "split.tensors.count", 5), put32(b, (uint32_t)total);
    if (tensor) {
        put_info(b, tensor, 1, (uint64_t[]){2}, 0, 0);
        pad(b, 32);
        float v[2] = {(float)no, 0.5f};
        put(b, v, 8);
    }
    const char *path = save(name, b->p, b->n);
    free(b);
    return path;
}

static void test_splits(void **state) {
    part("m-00002-of-00003.gguf", 1, 3, 2, "b", 2);
    part("m-00003-of-00003.gguf", 2, 3, 2, "c", 2);
    pare_source *s = opens(part("m-00001-of-00003.gguf", 0, 3, 2, NULL, 2)); /* the first may hold keys only */
    assert_int_equal(s->n_tensors, 2);
    assert_int_equal(s->n_shards, 3);
    assert_int_equal(s->n_meta, 4);
    const pare_stored *c = pare_source_find(s, "c");
    assert_int_equal(c->shard, 2);
    assert_true(((const float *)c->data)[0] == 2.0f);
    pare_source_close(&s);
    harness_fail_every_alloc(open_close, (void *)at("m-00001-of-00003.gguf"));
    refuses(at("m-00002-of-00003.gguf"), PARE_ERR_INPUT, "open the first");
    refuses(part("m-00001-of-00003.gguf", 0, 3, 5, NULL, 2), PARE_ERR_INPUT, "5 tensors announced");
    refuses(part("m-00001-of-00003.gguf", 0, 3, 2, NULL, 4), PARE_ERR_INPUT, "expected a u16");
    refuses(part("odd.gguf", 0, 3, 2, NULL, 2), PARE_ERR_INPUT, "must be named");
    refuses(part("m-00001-of-00004.gguf", 0, 4, 2, NULL, 2), PARE_ERR_NOT_FOUND, "m-00002-of-00004.gguf");
    part("m-00001-of-00003.gguf", 0, 3, 3, "b", 2); /* the same name in two files */
    refuses(at("m-00001-of-00003.gguf"), PARE_ERR_INPUT, "two tensors");
    part("m-00002-of-00003.gguf", 2, 3, 2, "b", 2);
    refuses(at("m-00001-of-00003.gguf"), PARE_ERR_INPUT, "expected part 2 of 3");
}

/* Bits flipped one at a time: a clean error or a model, and whatever is accepted can be read to its last byte. */
static void test_flips(void **state) {
    bytes *b = calloc(1, sizeof *b);
    begin(b, 3, 2, 2);
    put_key(b, "s", 8), put_str(b, "abc");
    put_key(b, "l", 9), put32(b, 8), put64(b, 2), put_str(b, "x"), put_str(b, "yz");
    put_info(b, "one", 2, (uint64_t[]){4, 2}, 0, 0);
    put_info(b, "two", 1, (uint64_t[]){32}, 8, 32);
    pad(b, 32), put_zero(b, 32 + 34);
    size_t accepted = 0;
    for (size_t bit = 0; bit < 8 * b->n; bit++) {
        b->p[bit / 8] ^= (unsigned char)(1 << bit % 8);
        pare_source *s;
        pare_diag d = {0};
        if (pare_source_open(save("flip.gguf", b->p, b->n), &s, &d) == PARE_OK) {
            unsigned sum = 0;
            for (size_t i = 0; i < s->n_tensors; i++)
                for (size_t k = 0; k < s->tensors[i].bytes; k++) sum += ((const unsigned char *)s->tensors[i].data)[k];
            accepted += sum < 256;
            pare_source_close(&s);
        } else assert_true(d.text[0]);
        b->p[bit / 8] ^= (unsigned char)(1 << bit % 8);
    }
    assert_true(accepted > 8 * 66); /* flips in the data are not noticed, and harmless */
    free(b);
}

int main(void) {
    pare_set_threads(1);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_everything), cmocka_unit_test(test_tensor_refusals),
                                       cmocka_unit_test(test_header_refusals), cmocka_unit_test(test_splits),
                                       cmocka_unit_test(test_flips)};
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
