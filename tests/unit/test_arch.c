/* SPDX-License-Identifier: Apache-2.0
 *
 * models/: configurations as transformers 4 and 5 write them, GGUF metadata, tensor names, tensor sets that do not
 * match, rotary scaling against numbers computed by transformers. */
#include "tiny.h"

#include <jansson.h>
#include <math.h>

#define SIZES                                                                                                          \
    "\"vocab_size\": 320, \"hidden_size\": 64, \"intermediate_size\": 160, \"num_hidden_layers\": 3, "                 \
    "\"num_attention_heads\": 4"

static pare_status read_config(const char *text, pare_arch *a, pare_diag *d) {
    json_error_t e;
    json_t *config = json_loads(text, 0, &e);
    if (!config) fail_msg("test's own JSON: %s", e.text);
    pare_source s = {.kind = PARE_SOURCE_FOLDER, .path = "/nonexistent", .config = config};
    *d = (pare_diag){0};
    pare_status st = pare_arch_read(&s, a, d);
    json_decref(config);
    return st;
}

static pare_arch good(const char *text) {
    pare_arch a;
    pare_diag d;
    if (read_config(text, &a, &d) != PARE_OK) fail_msg("%s: %s", d.where, d.text);
    return a;
}

static void bad(const char *text, pare_status want, const char *where) {
    pare_arch a;
    pare_diag d;
    assert_int_equal(read_config(text, &a, &d), want);
    assert_string_equal(d.where, where);
    assert_true(strlen(d.text) > 8);
}

static void configurations(void **s) {
    pare_arch a = good(
        "{\"model_type\": \"llama\", " SIZES ", \"num_key_value_heads\": 2, \"rms_norm_eps\": 1e-5, "
        "\"max_position_embeddings\": 512, \"rope_theta\": 5e5, \"rope_scaling\": {\"rope_type\": \"llama3\", "
        "\"factor\": 8, \"low_freq_factor\": 1, \"high_freq_factor\": 4, \"original_max_position_embeddings\": 64}}");
    assert_string_equal(a.name, "llama");
    assert_true(a.vocab == 320 && a.dim == 64 && a.layers == 3 && a.heads == 4 && a.kv_heads == 2 && a.head_dim == 16);
    assert_true(a.ffn == 160 && a.context == 512 && a.norm_eps == 1e-5 && a.rope_theta == 5e5 && !a.tied &&
                !a.rope_interleaved);
    assert_true(a.rope_scaling == PARE_ROPE_LLAMA3 && a.rope_factor == 8 && a.rope_original == 64 && a.rope_high == 4);
    pare_arch b = good(
        "{\"architectures\": [\"LlamaForCausalLM\"], " SIZES ", \"num_key_value_heads\": 2, \"rms_norm_eps\": 1e-5, "
        "\"max_position_embeddings\": 512, \"head_dim\": null, \"rope_parameters\": {\"rope_theta\": 5e5, "
        "\"rope_type\": \"llama3\", \"factor\": 8.0, \"low_freq_factor\": 1.0, \"high_freq_factor\": 4.0, "
        "\"original_max_position_embeddings\": 64}}");
    assert_memory_equal(&a, &b, sizeof a);
    a = good("{\"model_type\": \"llama\", " SIZES "}"); /* the class's defaults */
    assert_true(a.kv_heads == 4 && a.context == 2048 && a.norm_eps == 1e-6 && a.rope_theta == 10000 && !a.tied);
    a = good("{\"model_type\": \"mistral\", " SIZES ", \"num_key_value_heads\": 2, \"head_dim\": 32}");
    assert_true(strcmp(a.name, "llama") == 0 && a.sliding_window == 4096 && a.head_dim == 32 &&
                pare_arch_context(&a) == 4096);
    a = good("{\"model_type\": \"mistral\", " SIZES ", \"num_key_value_heads\": 2, \"sliding_window\": null}");
    assert_true(a.sliding_window == 0 && pare_arch_context(&a) == 131072);
    a = good("{\"model_type\": \"qwen2\", " SIZES
             ", \"num_key_value_heads\": 2, \"sliding_window\": 16, \"tie_word_embeddings\": true}");
    assert_true(a.qkv_bias && a.tied && a.sliding_window == 0 && a.context == 32768);
    a = good("{\"model_type\": \"qwen2\", " SIZES
             ", \"num_key_value_heads\": 2, \"use_sliding_window\": true, \"sliding_window\": 16}");
    assert_int_equal(a.sliding_window, 16);
    a = good("{\"model_type\": \"qwen3\", " SIZES ", \"num_key_value_heads\": 2}");
    assert_true(a.head_dim == 128 && !a.qkv_bias);
    a = good("{\"model_type\": \"bert\", " SIZES ", \"hidden_act\": \"gelu\", \"num_key_value_heads\": 1}");
    assert_true(a.family == PARE_FAMILY_BERT && a.norm_eps == 1e-12 && a.type_vocab == 2 && !a.gelu_tanh &&
                a.kv_heads == 4);
    a = good("{\"model_type\": \"qwen2\", " SIZES
             ", \"num_key_value_heads\": 2, \"rope_scaling\": {\"type\": \"yarn\", \"factor\": 4.0, "
             "\"original_max_position_embeddings\": 128}}");
    assert_true(a.rope_scaling == PARE_ROPE_YARN && fabs(a.rope_attn_factor - (1 + 0.1 * log(4))) < 1e-12);
}

static void bad_configurations(void **s) {
    bad("{\"model_type\": \"mamba\", " SIZES "}", PARE_ERR_UNSUPPORTED, "model_type");
    bad("{" SIZES "}", PARE_ERR_UNSUPPORTED, "model_type");
    bad("{\"model_type\": \"llama\", \"hidden_size\": 64}", PARE_ERR_INPUT, "vocab_size");
    bad("{\"model_type\": \"llama\", " SIZES ", \"num_key_value_heads\": \"two\"}", PARE_ERR_INPUT,
        "num_key_value_heads");
    bad("{\"model_type\": \"llama\", " SIZES ", \"num_key_value_heads\": 3}", PARE_ERR_INPUT,
        "number of key/value heads");
    bad("{\"model_type\": \"llama\", " SIZES ", \"num_key_value_heads\": 1.5}", PARE_ERR_INPUT, "num_key_value_heads");
    bad("{\"model_type\": \"llama\", " SIZES ", \"head_dim\": -4}", PARE_ERR_INPUT, "head size");
    bad("{\"model_type\": \"llama\", " SIZES ", \"head_dim\": 15}", PARE_ERR_INPUT, "head size");
    bad("{\"model_type\": \"llama\", \"vocab_size\": 100, \"hidden_size\": 64, \"num_hidden_layers\": 2, "
        "\"intermediate_size\": 96, \"num_attention_heads\": 6}",
        PARE_ERR_INPUT, "num_attention_heads");
    bad("{\"model_type\": \"llama\", " SIZES ", \"max_position_embeddings\": 1e18}", PARE_ERR_INPUT,
        "max_position_embeddings");
    bad("{\"model_type\": \"llama\", " SIZES ", \"hidden_act\": \"gelu\"}", PARE_ERR_UNSUPPORTED, "hidden_act");
    bad("{\"model_type\": \"llama\", " SIZES ", \"rope_scaling\": {\"type\": \"longrope\"}}", PARE_ERR_UNSUPPORTED,
        "rope_type");
    bad("{\"model_type\": \"llama\", " SIZES ", \"rope_scaling\": [1]}", PARE_ERR_INPUT, "rope_parameters");
    bad("{\"model_type\": \"llama\", " SIZES ", \"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8}}",
        PARE_ERR_INPUT, "rope scaling");
    bad("{\"model_type\": \"llama\", " SIZES ", \"rope_scaling\": {\"rope_type\": \"linear\", \"factor\": 0}}",
        PARE_ERR_INPUT, "rope scaling factor");
    bad("{\"model_type\": \"llama\", " SIZES ", \"partial_rotary_factor\": 0.5}", PARE_ERR_UNSUPPORTED,
        "partial_rotary_factor");
    bad("{\"model_type\": \"bert\", " SIZES ", \"position_embedding_type\": \"relative_key\"}", PARE_ERR_UNSUPPORTED,
        "position_embedding_type");
}

/* Divisors from transformers 5.23: ratio of the plain inverse frequencies to the scaled ones, float32. */
static void rope_scaling(void **s) {
    pare_arch a = {.head_dim = 128,
                   .rope_theta = 500000,
                   .rope_scaling = PARE_ROPE_LLAMA3,
                   .rope_factor = 8,
                   .rope_low = 1,
                   .rope_high = 4,
                   .rope_original = 8192,
                   .rope_attn_factor = 1};
    float f[64];
    pare_rope_freq_factors(&a, f);
    static const struct {
        int i;
        double want;
    } llama3[] = {{0, 1},           {27, 1.00000004}, {28, 0.999999965}, {29, 1.20748395},
                  {30, 1.5534145},  {31, 2.0263131},  {32, 2.6945304},   {33, 3.68425371},
                  {34, 5.25732723}, {35, 8.00000015}, {36, 7.99999981},  {63, 8.00000029}};
    for (size_t k = 0; k < sizeof llama3 / sizeof *llama3; k++)
        assert_true(fabs((double)f[llama3[k].i] / llama3[k].want - 1) < 1e-5);
    a = (pare_arch){.head_dim = 64,
                    .rope_theta = 10000,
                    .rope_scaling = PARE_ROPE_YARN,
                    .rope_factor = 4,
                    .rope_beta_fast = 32,
                    .rope_beta_slow = 1,
                    .rope_original = 2048,
                    .rope_attn_factor = 1};
    pare_rope_freq_factors(&a, f);
    static const struct {
        int i;
        double want;
    } yarn[] = {{0, 1},           {5, 1.00000003},  {8, 0.999999985}, {10, 1.13043488},
                {12, 1.29999992}, {14, 1.52941168}, {16, 1.85714294}, {18, 2.36363635},
                {20, 3.24999979}, {22, 3.99999995}, {31, 3.99999978}};
    for (size_t k = 0; k < sizeof yarn / sizeof *yarn; k++)
        assert_true(fabs((double)f[yarn[k].i] / yarn[k].want - 1) < 1e-5);
}

static void rope_cache(void **s) {
    pare_arch a = {.head_dim = 8,
                   .rope_theta = 10000,
                   .rope_scaling = PARE_ROPE_LINEAR,
                   .rope_factor = 2,
                   .rope_attn_factor = 1.5};
    float c[4 * 10], sn[4 * 10], divide[4] = {1, 1, 3, 1};
    pare_rope_cache(&a, divide, 10, c, sn);
    for (int p = 0; p < 10; p++)
        for (int i = 0; i < 4; i++) {
            double angle = p / (2.0 * divide[i]) * pow(10000, -i / 4.0);
            assert_true(fabs((double)c[p * 4 + i] - 1.5 * cos(angle)) < 1e-6 &&
                        fabs((double)sn[p * 4 + i] - 1.5 * sin(angle)) < 1e-6);
        }
}

static void names(void **s) {
    static const pare_source_kind kinds[] = {PARE_SOURCE_FOLDER, PARE_SOURCE_GGUF};
    static const pare_family families[] = {PARE_FAMILY_LLAMA, PARE_FAMILY_BERT};
    int seen = 0;
    for (int r = 0; r < PARE_ROLE_COUNT; r++)
        for (int c = 0; c < 16; c++) {
            pare_tensor_name in = {(pare_role)r, c & 4 ? 12 : -1, c & 8}, out;
            char name[96];
            if (!pare_name_format(families[c & 1], kinds[c >> 1 & 1], in, name, sizeof name)) continue;
            if (!pare_name_parse(families[c & 1], kinds[c >> 1 & 1], name, &out)) fail_msg("%s is not parsed", name);
            assert_true(out.role == in.role && out.layer == in.layer && out.bias == in.bias);
            seen++;
        }
    assert_int_equal(seen, 2 * (2 * PARE_ROLE_COUNT - 1)); /* rope_freqs has no name in a folder */
    pare_tensor_name n;
    assert_true(pare_name_parse(PARE_FAMILY_LLAMA, PARE_SOURCE_FOLDER, "layers.7.mlp.up_proj.weight", &n));
    assert_true(n.role == PARE_ROLE_FFN_UP && n.layer == 7 && !n.bias);
    assert_true(
        pare_name_parse(PARE_FAMILY_BERT, PARE_SOURCE_FOLDER, "bert.encoder.layer.0.output.LayerNorm.beta", &n));
    assert_true(n.role == PARE_ROLE_BERT_OUT_NORM && n.layer == 0 && n.bias);
    static const char *const not [] = {"model.layers.07.mlp.up_proj.weight",
                                       "model.layers..mlp.up_proj.weight",
                                       "model.layers.7.mlp.up_proj",
                                       "model.layers.7.mlp.up_proj.weight2",
                                       "model.layers.9999999.mlp.up_proj.weight",
                                       "",
                                       "model.layers.-1.mlp.up_proj.weight",
                                       "lm_head.weightt",
                                       "blk.0.ffn_up.weight"};
    for (size_t i = 0; i < sizeof not / sizeof *not ; i++)
        if (pare_name_parse(PARE_FAMILY_LLAMA, PARE_SOURCE_FOLDER, not [i], &n))
            fail_msg("`%s` was taken for a tensor", not [i]);
    char tiny[4];
    assert_false(pare_name_format(PARE_FAMILY_LLAMA, PARE_SOURCE_GGUF, (pare_tensor_name){PARE_ROLE_OUTPUT, -1, false},
                                  tiny, 4));
}

/* Reads and checks a model; want NULL = it is sound, else the tensor or key that must be named. */
static void check(const char *path, const char *want) {
    pare_source *src;
    pare_arch a;
    pare_diag d = {0};
    assert_int_equal(pare_source_open(path, &src, &d), PARE_OK);
    pare_status st = pare_arch_read(src, &a, &d);
    if (st == PARE_OK) st = pare_arch_check(src, &a, &d);
    if (!want && st != PARE_OK) fail_msg("%s: %s", d.where, d.text);
    if (want) {
        assert_int_equal(st, PARE_ERR_INPUT);
        assert_string_equal(d.where, want);
    }
    pare_source_close(&src);
}

static void tensor_sets(void **s) {
    tiny_dir dir = tiny_dir_new();
    char p[128], gguf[128];
    snprintf(p, sizeof p, "%s/m", dir.path);
    snprintf(gguf, sizeof gguf, "%s/m.gguf", dir.path);
    static const char *const kinds[] = {"llama", "qwen2", "qwen3", "bert"};
    for (int i = 0; i < 4; i++) {
        pare_arch a = tiny_arch(kinds[i]);
        tiny_write(p, PARE_SOURCE_FOLDER, &a, NULL, NULL);
        check(p, NULL);
        tiny_write(gguf, PARE_SOURCE_GGUF, &a, NULL, NULL);
        check(gguf, NULL);
    }
    pare_arch a = tiny_arch("llama"), other = a;
    static const char *const missing[] = {"model.layers.1.mlp.up_proj.weight", "lm_head.weight",
                                          "model.embed_tokens.weight"};
    for (int i = 0; i < 3; i++) {
        tiny_write(p, PARE_SOURCE_FOLDER, &a, NULL, missing[i]);
        check(p, missing[i]);
    }
    char config[1024];
    other.layers = 1; /* the file has two */
    tiny_config(&other, config, sizeof config);
    tiny_write(p, PARE_SOURCE_FOLDER, &a, config, NULL);
    check(p, "model.layers.1.input_layernorm.weight");
    other = a, other.ffn = 64;
    tiny_config(&other, config, sizeof config);
    tiny_write(p, PARE_SOURCE_FOLDER, &a, config, NULL);
    check(p, "model.layers.0.mlp.gate_proj.weight");
    pare_arch q = tiny_arch("qwen2"), plain = q;
    plain.name = "qwen3"; /* biases are optional there, norms are not */
    tiny_config(&plain, config, sizeof config);
    tiny_write(p, PARE_SOURCE_FOLDER, &q, config, NULL);
    check(p, "model.layers.0.self_attn.q_norm.weight");
    plain.name = "llama";
    tiny_config(&plain, config, sizeof config);
    tiny_write(p, PARE_SOURCE_FOLDER, &q, config, "model.layers.1.self_attn.k_proj.bias");
    check(p, "model.layers.1.self_attn.k_proj.bias");
    q = tiny_arch("qwen3"), plain = q;
    plain.name = "llama"; /* which has no norms on q and k */
    tiny_config(&plain, config, sizeof config);
    tiny_write(p, PARE_SOURCE_FOLDER, &q, config, "model.layers.0.self_attn.q_norm.weight");
    check(p, "model.layers.1.self_attn.q_norm.weight");
    tiny_write(gguf, PARE_SOURCE_GGUF, &a, NULL, "blk.1.attn_k.weight");
    check(gguf, "blk.1.attn_k.weight");
    tiny_dir_remove(&dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(configurations), cmocka_unit_test(bad_configurations),
        cmocka_unit_test(rope_scaling),   cmocka_unit_test(rope_cache),
        cmocka_unit_test(names),          cmocka_unit_test(tensor_sets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
