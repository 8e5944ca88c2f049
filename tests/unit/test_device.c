/* SPDX-License-Identifier: Apache-2.0
 *
 * graph/ on a device with memory of its own (far_device.h): the CPU's numbers bit for bit, whatever is recorded or left
 * to the CPU. */
#include "far_model.h"

static void recorded_and_replayed(void **s) {
    session cpu, dev;
    open_both(&cpu, &dev);
    both(&cpu, &dev, 5, 0, false);
    assert_int_equal(far.weights, WEIGHTS);
    size_t a_run = far.runs;
    both(&cpu, &dev, 1, 5, false);
    assert_int_equal(far.runs, 2 * a_run);
    assert_int_equal(far.begun + far.replays, 0);
    both(&cpu, &dev, 1, 6, false);
    assert_int_equal(far.begun, 1);
    assert_int_equal(far.replays, 1);
    size_t uploads = far.uploads, allocs = far.allocs;
    for (int64_t past = 7; past < 12; past++) both(&cpu, &dev, 1, past, false);
    assert_int_equal(far.begun, 1);
    assert_int_equal(far.replays, 6);
    assert_int_equal(far.runs, 2 * a_run);
    assert_int_equal(far.uploads - uploads, 5 * 3); /* the inputs */
    assert_int_equal(far.allocs, allocs);
    both(&cpu, &dev, 5, 0, false); /* the other plan: recorded, too, and the first one's recording stays good */
    both(&cpu, &dev, 1, 5, false);
    assert_int_equal(far.begun, 2);
    assert_int_equal(far.replays, 8);
    assert_int_equal(far.weights, WEIGHTS);
    assert_false(pare_exec_streamed(dev.e));
    assert_int_equal(pare_exec_fallbacks(dev.e, NULL), 0);
    close_both(&cpu, &dev);
}

static void stage_by_stage(void **s) {
    session cpu, dev;
    open_both(&cpu, &dev);
    for (int64_t past = 0; past < 6; past++) both(&cpu, &dev, 1, past, true);
    assert_int_equal(far.begun, LAYERS + 2); /* weights come during the first walk: six recordings in the third */
    assert_int_equal(far.recordings, LAYERS + 2);
    assert_int_equal(far.weights, WEIGHTS);
    close_both(&cpu, &dev);
}

static void changed_addresses(void **s) {
    session cpu, dev;
    float cache[CAP * DIM];
    open_both(&cpu, &dev);
    for (int64_t past = 0; past < 4; past++) both(&cpu, &dev, 1, past, false);
    assert_int_equal(far.recordings, 1);
    void *moved = pare_exec_alloc(dev.e, sizeof cache); /* a state moves */
    assert_int_equal(far_download(NULL, cache, dev.kv[2], sizeof cache), PARE_OK);
    assert_int_equal(pare_exec_upload(dev.e, moved, cache, sizeof cache, NULL), PARE_OK);
    pare_exec_release(dev.e, dev.kv[2]);
    dev.kv[2] = moved;
    both(&cpu, &dev, 1, 4, false);
    assert_int_equal(far.recordings, 0);
    both(&cpu, &dev, 1, 5, false);
    assert_int_equal(far.begun, 2);
    both(&cpu, &dev, 9, 0, false); /* a larger plan: block and inputs move */
    both(&cpu, &dev, 1, 9, false);
    assert_int_equal(far.begun, 2);
    both(&cpu, &dev, 1, 10, false);
    assert_int_equal(far.begun, 3);
    assert_int_equal(pare_exec_shape(dev.e, (int64_t[]){1, CAP, CAP}, NULL), PARE_OK); /* the block alone moves */
    both(&cpu, &dev, 1, 11, false);
    assert_int_equal(far.recordings, 0);
    for (int i = 0; i < 2; i++) both(&cpu, &dev, 1, 11, false);
    assert_int_equal(far.begun, 4);
    pare_exec_drop_weights(dev.e, 3); /* weights move */
    size_t before = far.weights;
    both(&cpu, &dev, 1, 12, false);
    assert_int_equal(far.weights - before, 4); /* a matrix, the shared scale, two shapes */
    both(&cpu, &dev, 1, 13, false);
    assert_int_equal(far.begun, 5);
    both(&cpu, &dev, 1, 14, false);
    close_both(&cpu, &dev);
}

static void many_plans(void **s) { /* plans go, the oldest first, and their recordings with them */
    session cpu, dev;
    open_both(&cpu, &dev);
    for (int batch = 0; batch < 2; batch++)
        for (int64_t n = 1; n <= CAP; n++)
            for (int again = 0; again < 3; again++) both(&cpu, &dev, n, 0, batch);
    size_t most = far.recordings;
    for (int64_t cache = 0; cache < 30; cache++) {
        const int64_t sym[] = {1, 1, CAP + 1 + cache};
        assert_int_equal(pare_exec_shape(dev.e, sym, NULL), PARE_OK);
    }
    assert_true(most > CAP && far.recordings < most);
    for (int again = 0; again < 3; again++) both(&cpu, &dev, 3, 0, false);
    close_both(&cpu, &dev);
}

static void failing_recordings(void **s) {
    bool *const fails[] = {&far.fail_begin, &far.fail_end, &far.fail_recorded_run};
    for (int i = 0; i < 3; i++) {
        session cpu, dev;
        reset(NULL);
        *fails[i] = true;
        open_both(&cpu, &dev);
        for (int64_t past = 0; past < 5; past++) both(&cpu, &dev, 1, past, false);
        assert_int_equal(far.begun, 1); /* not tried again */
        *fails[i] = false;
        both(&cpu, &dev, 1, 5, false);
        assert_int_equal(far.begun, 1);
        both(&cpu, &dev, 2, 6, false); /* another plan is */
        both(&cpu, &dev, 2, 8, false);
        assert_int_equal(far.begun, 2);
        assert_int_equal(far.replays, 1);
        close_both(&cpu, &dev);
    }
}

static void what_the_device_refuses(void **s) {
    session cpu, dev;
    const char *const *names;
    far.refuses[PARE_OP_TensorScatter] = far.refuses[PARE_OP_MatMul] = far.refuses[PARE_OP_Gather] = true;
    far.refuses[PARE_OP_Attention] = true;
    open_both(&cpu, &dev);
    for (int64_t past = 0; past < 4; past++) both(&cpu, &dev, 1, past, false);
    both(&cpu, &dev, 6, 4, false);
    assert_int_equal(pare_exec_fallbacks(dev.e, &names), 3 * LAYERS + 3);
    assert_string_equal(names[0], "rows");
    assert_string_equal(names[1], "cache");
    assert_string_equal(names[2], "q");
    assert_string_equal(names[3], "attn");
    assert_string_equal(names[3 * LAYERS + 2], "logits");
    assert_int_equal(far.begun, 0);
    assert_int_equal(far.weights, WEIGHTS - 1 - LAYERS); /* the CPU reads table and matrices where they are */
    float x[CAP * DIM], *y = cpu.kv[1];
    assert_int_equal(far_download(NULL, x, dev.kv[1], sizeof x), PARE_OK);
    assert_memory_equal(x, y, sizeof x); /* the cache that the CPU wrote */
    close_both(&cpu, &dev);
}

static void nobody_can(void **s) {
    pare_graph *g = pare_graph_new();
    pare_exec *e;
    pare_diag d = {0};
    pare_value x = pare_graph_input(g, "x", &pare_qtype_i64, 1, (int64_t[]){4});
    pare_value y = pare_graph_node(g, PARE_OP_Erf, "erf", NULL, 0, 1, &x, 1);
    pare_graph_mark_output(g, y);
    assert_int_equal(pare_exec_open(g, &(pare_exec_opts){.backend = &far_device}, &e, NULL), PARE_OK);
    assert_int_equal(pare_exec_shape(e, (int64_t[]){1, 1, 1}, &d), PARE_ERR_UNSUPPORTED);
    assert_string_equal(d.where, "erf");
    pare_exec_close(&e);
    pare_graph_free(&g);
}

static void weight_under_another_shape(void **s) { /* a device may hold it in an order of its own, or drop it */
    pare_graph *g = pare_graph_new();
    pare_exec *e;
    float w[] = {1, 2, 3, 4}, zero[4] = {0};
    pare_attr_reshape at = {0};
    pare_value x = pare_graph_input(g, "x", &pare_qtype_f32, 2, (int64_t[]){2, 2});
    pare_value in[] = {pare_graph_const_f32(g, "w", 1, (int64_t[]){4}, w),
                       pare_graph_const_i64(g, "shape", 2, (int64_t[]){2, 2})};
    pare_value y[] = {x, pare_graph_node(g, PARE_OP_Reshape, "square", &at, sizeof at, 2, in, 1)};
    pare_value sum = pare_graph_node(g, PARE_OP_Add, "sum", NULL, 0, 2, y, 1);
    pare_graph_mark_output(g, sum);
    assert_int_equal(pare_exec_open(g, &(pare_exec_opts){.backend = &far_device}, &e, NULL), PARE_OK);
    assert_int_equal(pare_exec_shape(e, (int64_t[]){1, 1, 1}, NULL), PARE_OK);
    assert_int_equal(pare_exec_run(e, -1, &(pare_binding){x, zero}, 1, NULL), PARE_OK);
    assert_memory_equal(pare_exec_value(e, sum)->data, w, sizeof w);
    pare_exec_close(&e);
    pare_graph_free(&g);
}

static int hooked;
static bool see(void *ctx, int node, const char *name, pare_op op, const pare_tensor *out) {
    hooked++;
    if (strcmp(name, "rows") == 0) /* x[0], changed on the way */
        ((float *)out->data)[0] = 3;
    return strcmp(name, "rows") == 0;
}

static void hooks(void **s) {
    session cpu, dev;
    open_both(&cpu, &dev);
    for (int64_t past = 0; past < 3; past++) both(&cpu, &dev, 1, past, false);
    assert_int_equal(far.replays, 2);
    pare_exec_set_hook(cpu.e, see, NULL);
    pare_exec_set_hook(dev.e, see, NULL);
    both(&cpu, &dev, 1, 3, false);
    assert_int_equal(hooked, 2 * (3 + 8 * LAYERS));
    assert_int_equal(far.replays, 2); /* a recording shows no nodes */
    pare_exec_set_hook(cpu.e, NULL, NULL);
    pare_exec_set_hook(dev.e, NULL, NULL);
    both(&cpu, &dev, 1, 4, false);
    assert_int_equal(far.begun, 1);
    assert_int_equal(far.replays, 3);
    close_both(&cpu, &dev);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(recorded_and_replayed, reset),
        cmocka_unit_test_setup(stage_by_stage, reset),
        cmocka_unit_test_setup(changed_addresses, reset),
        cmocka_unit_test_setup(many_plans, reset),
        cmocka_unit_test_setup(failing_recordings, reset),
        cmocka_unit_test_setup(what_the_device_refuses, reset),
        cmocka_unit_test_setup(nobody_can, reset),
        cmocka_unit_test_setup(weight_under_another_shape, reset),
        cmocka_unit_test_setup(hooks, reset),
    };
    make_weights();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
