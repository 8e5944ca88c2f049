/* SPDX-License-Identifier: Apache-2.0
 *
 * Targets, mixes, plans: the table of mixes against decisions written down by hand from llama-quantize's log, what
 * writers hold, fallbacks, patterns. */
#include "harness.h"

#include "quant/plan.h"
#include "quant/rtn.h"

static pare_plan_tensor tensor(const char *name, int64_t cols) {
    return (pare_plan_tensor){.name = name,
                              .cols = cols,
                              .from = &pare_qtype_f32,
                              .rest = &pare_qtype_f32,
                              .keep = &pare_qtype_f32};
}

static pare_plan_opts opts(pare_hold hold, const char *to) {
    return (pare_plan_opts){.hold = hold,
                            .to = to,
                            .scale = &pare_qtype_f16,
                            .float16 = &pare_qtype_f16,
                            .model = {.arch = "llama", .layers = 1, .heads = 8, .kv_heads = 8}};
}

static const char *plan_one(pare_hold hold, const char *to, int64_t cols, char note[96]) {
    pare_plan_tensor t = tensor("blk.0.ffn_up.weight", cols);
    pare_plan_opts o = opts(hold, to);
    pare_diag d = {0};
    if (pare_plan_make(&o, 1, &t, &d) != PARE_OK) return NULL;
    memcpy(note, t.note, sizeof t.note);
    assert_int_equal(t.fallback, t.note[0] != 0);
    return t.to->name;
}

static void grids_by_writer(void **state) {
    char note[96];
    assert_string_equal(plan_one(PARE_HOLD_GGUF, "int8", 384, note), "q8_0");
    assert_string_equal(plan_one(PARE_HOLD_GGUF, "int4:g32", 384, note), "q4_0");
    assert_string_equal(plan_one(PARE_HOLD_GGUF, "int4", 384, note), "q4_0");
    assert_null(plan_one(PARE_HOLD_GGUF, "int4:g128", 384, note));
    assert_null(plan_one(PARE_HOLD_GGUF, "int4:g32:asym", 384, note));
    assert_string_equal(plan_one(PARE_HOLD_CT, "int4:g128:asym", 384, note), "int4:g128:asym");
    assert_string_equal(note, "");
    assert_string_equal(plan_one(PARE_HOLD_CT, "int4:g128", 576, note), "int4:g64");
    assert_string_equal(note, "row of 576 is no multiple of 128");
    assert_string_equal(plan_one(PARE_HOLD_CT, "int4:g64", 96, note), "int4:g32");
    assert_string_equal(plan_one(PARE_HOLD_CT, "int4:g32", 172, note), "f16");
    assert_string_equal(note, "row of 172 is no multiple of 32");
    assert_string_equal(plan_one(PARE_HOLD_CT, "int8", 172, note), "int8");
    assert_null(plan_one(PARE_HOLD_CT, "q4_k_m", 256, note));
    assert_null(plan_one(PARE_HOLD_GPTQ, "int4:g32:asym", 256, note));
    assert_string_equal(plan_one(PARE_HOLD_GPTQ, "int4:g32", 256, note), "int4:g32");
    assert_string_equal(plan_one(PARE_HOLD_GPTQ, "int4", 172, note), "f16"); /* words hold 8 codes */
    assert_null(plan_one(PARE_HOLD_FLOAT, "int4", 256, note));
    assert_string_equal(plan_one(PARE_HOLD_FLOAT, "bf16", 256, note), "bf16");
    assert_string_equal(plan_one(PARE_HOLD_GGUF, "q8_0", 172, note), "f16");
    assert_string_equal(note, "row of 172 does not fit q8_0");
}

static void refusals_say_what_can_be_done(void **state) {
    pare_target t;
    pare_diag d = {0};
    assert_int_equal(pare_target_parse("int5", false, &t, &d), PARE_ERR_USAGE);
    assert_non_null(strstr(d.text, "int4:g32:asym"));
    d = (pare_diag){0};
    assert_int_equal(pare_target_parse("q2_k_s", false, &t, &d), PARE_ERR_UNSUPPORTED);
    assert_non_null(strstr(d.text, "importance"));
    static const char *const bad[] = {"",      "int4:g48", "int4:",  "int8:asym:g32", "int4:g32:asym:x",
                                      "int44", "q9_0",     "int4:g", "int16"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(pare_target_parse(bad[i], false, &t, NULL), PARE_ERR_USAGE);
    d = (pare_diag){0};
    assert_int_equal(pare_target_parse("int4:g128:asym", false, &t, &d), PARE_OK);
    assert_int_equal(pare_target_check(&t, PARE_HOLD_GGUF, "--to", "int4:g128:asym", &d), PARE_ERR_UNSUPPORTED);
    assert_non_null(strstr(d.text, "int4:g32 (q4_0)"));
}

static void patterns(void **state) {
    pare_plan_tensor t[3] = {tensor("model.layers.0.mlp.up_proj.weight", 256),
                             tensor("model.layers.1.mlp.up_proj.weight", 256), tensor("model.norm.weight", 256)};
    t[0].alias = "blk.0.ffn_up.weight";
    t[2].fixed = "norm";
    pare_plan_rule rules[] = {{"layers\\.[01]\\.", "int8:g64"}, {"blk\\.0", "int4"}}, keep[] = {{"layers\\.1", NULL}};
    pare_plan_opts o = opts(PARE_HOLD_CT, "int4:g32");
    o.rules = rules, o.n_rules = 2, o.keep = keep, o.n_keep = 1;
    assert_int_equal(pare_plan_make(&o, 3, t, NULL), PARE_OK);
    assert_string_equal(t[0].to->name, "int8:g64"); /* the first rule that matches */
    assert_ptr_equal(t[1].to, &pare_qtype_f32);     /* kept, although a rule matches too */
    assert_ptr_equal(t[2].to, &pare_qtype_f32);
    assert_string_equal(t[2].note, "norm");
    static const struct {
        const char *regex, *to, *says;
    } wrong[] = {{"layers\\.7", "int4", "matches no tensor"},
                 {"model\\.norm", "int4", "never quantized"},
                 {"(", "int4", "no valid pattern"},
                 {"layers", "int3", "no grid"},
                 {"layers", "q4_0", "cannot hold"}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        pare_plan_rule r = {wrong[i].regex, wrong[i].to};
        pare_diag d = {0};
        o.rules = &r, o.n_rules = 1, o.n_keep = 0;
        assert_int_not_equal(pare_plan_make(&o, 3, t, &d), PARE_OK);
        if (!strstr(d.text, wrong[i].says)) fail_msg("`%s` does not say `%s`", d.text, wrong[i].says);
    }
    pare_plan_rule none = {"nothing", NULL};
    pare_diag d = {0};
    o.n_rules = 0, o.keep = &none, o.n_keep = 1;
    assert_int_equal(pare_plan_make(&o, 3, t, &d), PARE_ERR_USAGE);
    assert_non_null(strstr(d.text, "nothing"));
}

static void order_and_exclusions(void **state) {
    assert_true(pare_mix_order("output.weight", "blk.0.attn_k.weight") < 0);
    assert_true(pare_mix_order("blk.2.x", "blk.10.a") < 0);
    assert_true(pare_mix_order("blk.2.b", "blk.2.a") > 0);
    int64_t m[2] = {4, 4}, row[2] = {1, 4}, column[2] = {4, 1};
    assert_null(pare_mix_never("blk.0.attn_q.weight", 2, m));
    assert_null(pare_mix_never("blk.0.attn_q.weight", 2, column));
    static const char *const never[] = {"blk.0.attn_q.bias", "blk.0.attn_norm.weight", "token_types.weight",
                                        "position_embd.weight", "blk.1.ffn_gate_inp.weight"};
    for (size_t i = 0; i < 5; i++) assert_non_null(pare_mix_never(never[i], 2, m));
    assert_non_null(pare_mix_never("blk.0.attn_q.weight", 1, m));
    assert_non_null(pare_mix_never("blk.0.attn_q.weight", 2, row));
}

/* name, type under Q4_K_M of 16 blocks, and Q3_K_M; decisions read from llama-quantize's log. */
static void mixes_by_hand(void **state) {
    enum { LAYERS = 16, N = 2 + LAYERS * 3 };
    static char names[N][32];
    pare_mix_tensor t[N] = {{.name = "output.weight", .cols = 256}, {.name = "token_embd.weight", .cols = 256}};
    const char *kinds[] = {"attn_output", "attn_v", "ffn_down"};
    for (int b = 0; b < LAYERS; b++)
        for (int k = 0; k < 3; k++) {
            snprintf(names[2 + b * 3 + k], 32, "blk.%d.%s.weight", b, kinds[k]);
            t[2 + b * 3 + k] = (pare_mix_tensor){.name = names[2 + b * 3 + k], .cols = 256};
        }
    const pare_mix *m = pare_mix_by_name("Q4_K_M");
    if (!pare_mix_base(m) || !pare_qtype_by_name("q6_k")) skip();
    pare_mix_model model = {.arch = "llama", .layers = LAYERS, .heads = 8, .kv_heads = 2};
    pare_mix_assign(m, &model, false, N, t);
    assert_string_equal(t[0].type->name, "q6_k");
    assert_string_equal(t[1].type->name, "q4_k");
    static const int more[LAYERS] = {1, 1, 0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 0, 1, 1, 1};
    for (int b = 0; b < LAYERS; b++) {
        assert_string_equal(t[2 + b * 3].type->name, "q4_k");
        assert_string_equal(t[3 + b * 3].type->name, more[b] ? "q6_k" : "q4_k");
        assert_string_equal(t[4 + b * 3].type->name, more[b] ? "q6_k" : "q4_k");
    }
    pare_mix_assign(m, &model, true, N, t);
    for (int i = 0; i < N; i++) assert_string_equal(t[i].type->name, "q4_k");
    t[0].cols = 172, t[1].cols = 96; /* the output goes to q8_0 first, then to f16; a base type down its chain */
    pare_mix_assign(m, &model, false, N, t);
    assert_ptr_equal(t[0].type, &pare_qtype_f16);
    assert_string_equal(t[0].wanted->name, "q8_0");
    assert_string_equal(t[1].type->name, "q5_0");
}

/* The three calls of the grid interface give the bytes of its fast path. */
static void rtn_without_fast_path(void **state) {
    enum { ROWS = 3, COLS = 256 };
    float w[ROWS * COLS], importance[COLS];
    for (int i = 0; i < COLS; i++) importance[i] = (float)(1 + i % 7);
    unsigned x = 1;
    for (int i = 0; i < ROWS * COLS; i++) x = x * 1664525u + 1013904223u, w[i] = (float)(int32_t)x / 2147483648.0f;
    size_t tried = 0;
    for (size_t i = 0; i < pare_qtype_count(); i++) {
        const pare_qtype *q = pare_qtype_at(i);
        if (!q->grid || !q->grid->encode || !q->grid->fit || !pare_qtype_fits(q, COLS)) continue;
        size_t row = pare_row_bytes(q, COLS);
        uint8_t *a = malloc(ROWS * row), *b = malloc(ROWS * row);
        void *scratch = malloc(pare_rtn_steps_scratch_bytes(q, ROWS, COLS) + 64);
        memset(a, 1, ROWS * row), memset(b, 2, ROWS * row);
        for (int k = 0; k < 2; k++) {
            pare_rtn_encode(q, w, COLS, k ? importance : NULL, ROWS, COLS, a, row, NULL);
            pare_rtn_steps(q, w, COLS, k ? importance : NULL, ROWS, COLS, b, row, scratch);
            if (memcmp(a, b, ROWS * row) != 0) fail_msg("%s: fit, snap and pack differ from encode", q->name);
        }
        free(a), free(b), free(scratch);
        tried++;
    }
    assert_true(tried > 4);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(grids_by_writer),
                                       cmocka_unit_test(refusals_say_what_can_be_done),
                                       cmocka_unit_test(patterns),
                                       cmocka_unit_test(order_and_exclusions),
                                       cmocka_unit_test(mixes_by_hand),
                                       cmocka_unit_test(rtn_without_fast_path)};
    return cmocka_run_group_tests_name("plan", tests, NULL, NULL);
}
