/* SPDX-License-Identifier: Apache-2.0
 *
 * Folders: index and shards, sidecars, hostile indexes; quantized folders read back as tensors on their grids. */
#include "files.h"

#include <jansson.h>

static void folder(const char *name) {
    char cmd[200];
    snprintf(cmd, sizeof cmd, "rm -rf '%s' && mkdir -p '%s'", at(name), at(name));
    assert_int_equal(system(cmd), 0);
}

/* A safetensors file of the entries added: name, dtype, shape, bytes. */
typedef struct entries {
    char json[8192];
    unsigned char data[16384];
    size_t n_json, n;
} entries;
static void add(entries *e, const char *name, const char *dtype, const char *shape, const void *p, size_t n) {
    int k = snprintf(e->json + e->n_json, sizeof e->json - e->n_json,
                     "%s\"%s\":{\"dtype\":\"%s\",\"shape\":%s,\"data_offsets\":[%zu,%zu]}", e->n_json ? "," : "", name,
                     dtype, shape, e->n, e->n + n);
    e->n_json += (size_t)k;
    memcpy(e->data + e->n, p, n);
    e->n += n;
}
static void save_entries(const char *name, const entries *e) {
    bytes *b = calloc(1, sizeof *b);
    put64(b, e->n_json + 2), put_text(b, "{"), put_text(b, e->json), put_text(b, "}");
    put(b, e->data, e->n);
    save(name, b->p, b->n);
    free(b);
}

static void test_shards(void **state) {
    folder("f"), folder("f/1_Pooling"), folder("f/2_Normalize"), folder("f/onnx");
    float v[4] = {1, 2, 3, 4};
    entries a = {0}, b = {0};
    add(&a, "x", "F32", "[2,2]", v, 16);
    add(&b, "y", "F32", "[1]", v, 4);
    save_entries("f/part-1.safetensors", &a);
    save_entries("f/part-2.safetensors", &b);
    save_text("f/model.safetensors.index.json", "{\"metadata\":{\"total_size\":20},\"weight_map\":{\"x\":\"part-1."
                                                "safetensors\",\"y\":\"part-2.safetensors\"}}");
    save_text("f/config.json", "{\"model_type\":\"none\"}");
    save_text("f/tokenizer.json", "{}"), save_text("f/tokenizer_config.json", "{\"a\":1}"),
        save_text("f/1_Pooling/config.json", "{}");
    save_text("f/notes.txt", "mine"), save_text("f/LICENSE.md", "free"), save_text("f/onnx/model.onnx", "x"),
        save_text("f/.hidden", "x");
    pare_source *s = opens(at("f"));
    assert_int_equal(s->kind, PARE_SOURCE_FOLDER);
    assert_int_equal(s->n_tensors, 2);
    assert_int_equal(s->n_shards, 2);
    assert_memory_equal(pare_source_find(s, "y")->data, v, 4);
    assert_string_equal(json_string_value(json_object_get(s->config, "model_type")), "none");
    assert_int_equal(json_integer_value(json_object_get(s->tokenizer_config, "a")), 1);
    static const char *const want[] = {"1_Pooling/config.json", "2_Normalize/", "LICENSE.md", "tokenizer.json",
                                       "tokenizer_config.json"};
    assert_int_equal(s->n_sidecars, 5);
    for (size_t i = 0; i < 5; i++) assert_string_equal(s->sidecars[i], want[i]);
    pare_source_close(&s);
    harness_fail_every_alloc(open_close, (void *)at("f"));
    s = opens(at("f/model.safetensors.index.json")); /* the index names its folder */
    assert_int_equal(s->n_tensors, 2);
    assert_non_null(s->config);
    pare_source_close(&s);

    static const struct {
        const char *map, *says;
    } bad[] = {{"{\"x\":\"../part-1.safetensors\",\"y\":\"part-2.safetensors\"}", "inside the folder"},
               {"{\"x\":\"/etc/passwd\"}", "inside the folder"},
               {"{\"x\":\"..\"}", "inside the folder"},
               {"{\"x\":\"\"}", "inside the folder"},
               {"{\"x\":7}", "file names"},
               {"{\"x\":\"part-1.safetensors\",\"y\":\"part-1.safetensors\"}", "it does not"},
               {"{\"x\":\"part-1.safetensors\",\"y\":\"part-2.safetensors\",\"z\":\"part-2.safetensors\"}",
                "it does not"},
               {"{\"x\":\"part-2.safetensors\",\"y\":\"part-1.safetensors\"}", "it does not"},
               {"{\"y\":\"part-2.safetensors\",\"q\":\"part-1.safetensors\"}", "it does not"},
               {"{}", "weight_map"},
               {"[]", "weight_map"},
               {"{\"x\":\"part-1.safetensors\",\"x\":\"part-1.safetensors\"}", "duplicate"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char text[400];
        snprintf(text, sizeof text, "{\"weight_map\":%s}", bad[i].map);
        save_text("f/model.safetensors.index.json", text);
        refuses(at("f"), PARE_ERR_INPUT, bad[i].says);
    }
    save_text("f/model.safetensors.index.json", "{\"weight_map\":{\"x\":\"none.safetensors\"}}");
    refuses(at("f"), PARE_ERR_NOT_FOUND, "none.safetensors");
    add(&b, "x", "F32", "[1]", v, 4); /* both files hold x */
    save_entries("f/part-2.safetensors", &b);
    save_text("f/model.safetensors.index.json",
              "{\"weight_map\":{\"x\":\"part-1.safetensors\",\"y\":\"part-2.safetensors\"}}");
    refuses(at("f"), PARE_ERR_INPUT, "two files");
    unlink(at("f/model.safetensors.index.json"));
    refuses(at("f"), PARE_ERR_INPUT, "none named model");
    save_entries("f/model.safetensors", &a);
    s = opens(at("f"));
    assert_int_equal(s->n_tensors, 1);
    pare_source_close(&s);
    save_text("f/config.json", "{\"a\": nan}");
    refuses(at("f"), PARE_ERR_INPUT, "config.json: byte");
    folder("e");
    refuses(at("e"), PARE_ERR_INPUT, "no .safetensors");
    save_text("e/pytorch_model.bin", "x");
    refuses(at("e"), PARE_ERR_UNSUPPORTED, "pickle");
    refuses(at("none"), PARE_ERR_NOT_FOUND, "cannot open");
    assert_int_equal(mkfifo(at("pipe"), 0600), 0);
    refuses(at("pipe"), PARE_ERR_INPUT, "regular file"); /* and does not hang */
    refuses(save("z.bin", "PK\3\4........", 12), PARE_ERR_INPUT, "zip");
}

#define CT(format, bits, strategy, more)                                                                               \
    "{\"quantization_config\":{\"quant_method\":\"compressed-tensors\",\"format\":\"" format                           \
    "\",\"config_groups\":{\"group_0\":{\"weights\":{"                                                                 \
    "\"num_bits\":" bits ",\"type\":\"int\",\"symmetric\":true,\"strategy\":\"" strategy "\"}}}" more "}}"

static void decoded(const pare_source *s, const char *name, const char *type, size_t rows, size_t cols, float *out) {
    const pare_stored *t = pare_source_find(s, name);
    assert_non_null(t);
    assert_string_equal(t->type->name, type);
    assert_int_equal(t->ndim, 2);
    assert_int_equal(t->shape[0], rows);
    assert_int_equal(t->shape[1], cols);
    size_t rb = pare_row_bytes(t->type, cols);
    assert_int_equal(t->bytes, rows * rb);
    char *buf = malloc(rows * rb);
    const char *p = pare_source_rows(s, t, 0, rows, buf);
    for (size_t r = 0; r < rows; r++) t->type->decode(t->type, p + r * rb, out + r * cols, cols);
    pare_source_release(s, t, 0, rows);
    free(buf);
}

static void test_compressed_tensors(void **state) {
    folder("ct");
    uint16_t scale[2] = {0x3C00, 0x3800}, bias[2] = {0x3C00, 0x3C00}; /* 1, 0.5 */
    uint32_t packed[2][1] = {{0x694B780F}, {0xFEDCBA98}};
    int64_t shape[2] = {2, 8};
    int8_t w8[2][3] = {{-128, 0, 127}, {2, 4, 6}};
    float w[64];
    entries e = {0};
    add(&e, "a.weight_packed", "I32", "[2,1]", packed, 8);
    add(&e, "a.weight_scale", "F16", "[2,1]", scale, 4);
    add(&e, "a.weight_shape", "I64", "[2]", shape, 16);
    add(&e, "a.bias", "F16", "[2]", bias, 4);
    add(&e, "b.weight", "I8", "[2,3]", w8, 6);
    add(&e, "b.weight_scale", "F16", "[2,1]", scale, 4);
    add(&e, "b.input_scale", "F16", "[1]", scale, 2);
    entries whole = e;
    save_entries("ct/model.safetensors", &e);
    save_text("ct/config.json", CT("mixed-precision", "4", "channel", ""));
    pare_source *s = opens(at("ct"));
    assert_int_equal(s->n_tensors, 3);
    decoded(s, "a.weight", "int4", 2, 8, w);
    static const float want[16] = {7, -8, 0, -1, 3, -4, 1, -2, 0, 0.5f, 1, 1.5f, 2, 2.5f, 3, 3.5f};
    for (int i = 0; i < 16; i++) assert_true(w[i] == want[i]);
    decoded(s, "b.weight", "int8", 2, 3, w);
    assert_true(w[0] == -128 && w[2] == 127 && w[3] == 1 && w[5] == 3);
    assert_non_null(pare_source_find(s, "a.bias"));
    assert_null(pare_source_find(s, "a.weight_packed"));
    pare_source_close(&s);
    harness_fail_every_alloc(open_close, (void *)at("ct"));
    /* asymmetric: zero points -8 + row of 8, packed along the rows */
    uint32_t zero = 0x00000010;
    add(&e, "a.weight_zero_point", "I32", "[1,1]", &zero, 4);
    save_entries("ct/model.safetensors", &e);
    s = opens(at("ct"));
    decoded(s, "a.weight", "int4:asym", 2, 8, w);
    assert_true(w[0] == 15 && w[1] == 0 && w[8] == 0.5f * 7 && w[9] == 0.5f * 8);
    pare_source_close(&s);

    save_entries("ct/model.safetensors", &whole);
    save_text("ct/config.json", CT("float-quantized", "8", "channel", ""));
    refuses(at("ct"), PARE_ERR_UNSUPPORTED, "float-quantized");
    save_text("ct/config.json", "{\"quantization_config\":{\"quant_method\":\"fp8\"}}");
    refuses(at("ct"), PARE_ERR_UNSUPPORTED, "\"fp8\"");
    save_text("ct/config.json", "{\"quantization_config\":{}}");
    refuses(at("ct"), PARE_ERR_INPUT, "quant_method");
    save_text("ct/config.json", CT("pack-quantized", "4", "group", ""));
    int64_t wrong[2] = {2, 90};
    static const struct {
        const char *name, *dtype, *shape;
        size_t n;
        const char *says;
    } lies[] = {{"a.weight_scale", "F16", "[1,1]", 2, "scales"},
                {"a.weight_scale", "I32", "[2,1]", 8, "scales"},
                {"a.weight_scale", "F16", "[2,3]", 12, "3 groups"},
                {"a.weight_shape", "I64", "[1,3]", 24, "rows and columns"},
                {"a.weight_shape", "F32", "[2]", 8, "rows and columns"},
                {"x.weight_scale", "F16", "[2,1]", 4, "missing"}};
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        entries l = {0};
        char zeros[64] = {0};
        add(&l, "a.weight_packed", "I32", "[2,1]", packed, 8);
        if (!strstr(lies[i].name, "scale") || lies[i].name[0] == 'x')
            add(&l, "a.weight_scale", "F16", "[2,1]", scale, 4);
        if (!strstr(lies[i].name, "shape")) add(&l, "a.weight_shape", "I64", "[2]", shape, 16);
        add(&l, lies[i].name, lies[i].dtype, lies[i].shape, zeros, lies[i].n);
        save_entries("ct/model.safetensors", &l);
        pare_diag d = {0};
        char line[1200];
        assert_int_not_equal(pare_source_open(at("ct"), &s, &d), PARE_OK);
        if (!strstr(pare_diag_line(&d, line, sizeof line), lies[i].says))
            fail_msg("%s, expected %s", line, lies[i].says);
    }
    entries l = {0};
    add(&l, "a.weight_packed", "I32", "[2,1]", packed, 8);
    add(&l, "a.weight_scale", "F16", "[2,1]", scale, 4);
    add(&l, "a.weight_shape", "I64", "[2]", wrong, 16);
    save_entries("ct/model.safetensors", &l);
    refuses(at("ct"), PARE_ERR_UNSUPPORTED, "only 4-bit and 8-bit");
}

static void gptq_folder(const int32_t *g_idx, uint32_t zero, const char *format, const char *bits) {
    /* K = 8, N = 2 as in the golden words: q[k][n] = (k + n) % 16; two groups of 4 only exist with act-order */
    uint32_t qweight[2] = {0x76543210, 0x87654321}, qzeros[2] = {zero, zero};
    uint16_t scales[4] = {0x3C00, 0x3800, 0x4000, 0x3400}; /* group 0: 1, 0.5; group 1: 2, 0.25 */
    entries e = {0};
    char config[300];
    bool two = false;
    for (int i = 0; i < 8; i++) two |= g_idx[i] != 0;
    add(&e, "l.qweight", "I32", "[1,2]", qweight, 8);
    add(&e, "l.qzeros", "I32", two ? "[2,1]" : "[1,1]", qzeros, two ? 8 : 4);
    add(&e, "l.scales", "F16", two ? "[2,2]" : "[1,2]", scales, two ? 8 : 4);
    add(&e, "l.g_idx", "I32", "[8]", g_idx, 32);
    folder("q");
    save_entries("q/model.safetensors", &e);
    snprintf(config, sizeof config,
             "{\"quantization_config\":{\"quant_method\":\"gptq\",\"bits\":%s,\"group_size\":-1,\"sym\":true,"
             "\"checkpoint_format\":\"%s\"}}",
             bits, format);
    save_text("q/config.json", config);
}

static void test_gptq(void **state) {
    static const int32_t plain[8] = {0}, order[8] = {0, 1, 0, 1, 0, 0, 1, 1}, beyond[8] = {0, 0, 0, 0, 0, 0, 0, 2};
    float w[16];
    gptq_folder(plain, 0x77777777, "gptq", "4");
    pare_source *s = opens(at("q"));
    assert_int_equal(s->n_tensors, 1);
    decoded(s, "l.weight", "int4", 2, 8, w);
    for (int k = 0; k < 8; k++) assert_true(w[k] == (float)(k - 8) && w[8 + k] == 0.5f * (float)(k + 1 - 8));
    pare_source_close(&s);
    harness_fail_every_alloc(open_close, (void *)at("q"));
    gptq_folder(plain, 0x88888888, "gptq_v2", "4");
    s = opens(at("q"));
    decoded(s, "l.weight", "int4", 2, 8, w);
    assert_true(w[0] == -8);
    pare_source_close(&s);
    gptq_folder(plain, 0x53, "gptq", "4"); /* zero points 4 and 6, the rest unused */
    s = opens(at("q"));
    decoded(s, "l.weight", "int4:asym", 2, 8, w);
    for (int k = 0; k < 8; k++) assert_true(w[k] == (float)(k - 4) && w[8 + k] == 0.5f * (float)(k + 1 - 6));
    pare_source_close(&s);
    gptq_folder(order, 0x77777777, "gptq", "4"); /* act-order: exact as f16 */
    s = opens(at("q"));
    decoded(s, "l.weight", "f16", 2, 8, w);
    for (int k = 0; k < 8; k++) {
        assert_true(w[k] == (order[k] ? 2.0f : 1.0f) * (float)(k - 8));
        assert_true(w[8 + k] == (order[k] ? 0.25f : 0.5f) * (float)(k + 1 - 8));
    }
    pare_source_close(&s);
    gptq_folder(beyond, 0x77777777, "gptq", "4");
    refuses(at("q"), PARE_ERR_INPUT, "beyond the scales");
    gptq_folder(plain, 0xFF, "gptq", "4");
    refuses(at("q"), PARE_ERR_UNSUPPORTED, "ambiguously");
    gptq_folder(plain, 0x77777777, "marlin", "4");
    refuses(at("q"), PARE_ERR_UNSUPPORTED, "marlin");
    gptq_folder(plain, 0x77777777, "gptq", "3");
    refuses(at("q"), PARE_ERR_UNSUPPORTED, "3-bit");
    gptq_folder(plain, 0x77777777, "gptq", "8"); /* shapes win: layers may override the default */
    s = opens(at("q"));
    decoded(s, "l.weight", "int4", 2, 8, w);
    pare_source_close(&s);
}

static void test_awq(void **state) {
    folder("w");
    uint32_t q[2] = {0x75316420, 0x75316420}, z = 0x68978888;
    static const unsigned zero[8] = {8, 7, 8, 9, 8, 8, 8, 6};
    uint16_t s16[8] = {0x3C00, 0x3C00, 0x3C00, 0x3C00, 0x3C00, 0x3C00, 0x3C00, 0x4000};
    float w[16];
    entries e = {0};
    add(&e, "l.qweight", "I32", "[2,1]", q, 8);
    add(&e, "l.qzeros", "I32", "[1,1]", &z, 4);
    add(&e, "l.scales", "F16", "[1,8]", s16, 16);
    save_entries("w/model.safetensors", &e);
    save_text("w/config.json", "{\"quantization_config\":{\"quant_method\":\"awq\",\"bits\":4,\"group_size\":2,\"zero_"
                               "point\":true,\"version\":\"gemm\"}}");
    pare_source *s = opens(at("w"));
    decoded(s, "l.weight", "int4:asym", 8, 2, w);
    for (int n = 0; n < 8; n++)
        assert_true(w[2 * n] == (float)(n - (int)zero[n]) * (n == 7 ? 2.0f : 1.0f) && w[2 * n] == w[2 * n + 1]);
    pare_source_close(&s);
    save_text("w/config.json", "{\"quantization_config\":{\"quant_method\":\"awq\",\"bits\":4,\"version\":\"gemv\"}}");
    refuses(at("w"), PARE_ERR_UNSUPPORTED, "gemv");
}

int main(void) {
    pare_set_threads(1);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_shards), cmocka_unit_test(test_compressed_tensors),
                                       cmocka_unit_test(test_gptq), cmocka_unit_test(test_awq)};
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
