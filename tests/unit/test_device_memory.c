/* SPDX-License-Identifier: Apache-2.0
 *
 * graph/ on a device whose memory is short or shared, and when allocations fail. */
#include "far_model.h"

/* ---- less memory than weights ---- */
static size_t memory_for_all(void) {
    session cpu, dev;
    reset(NULL);
    open_both(&cpu, &dev);
    both(&cpu, &dev, 5, 0, false);
    close_both(&cpu, &dev);
    size_t most = far.most;
    reset(NULL);
    return most;
}

/* Six walks with room for all but some layers; weights uploaded in each. */
static void walk_short_of(size_t layers, size_t all, size_t uploads[6]) {
    session cpu, dev;
    reset(NULL);
    far.limit = all - layers * LAYER_BYTES;
    open_both(&cpu, &dev);
    for (int64_t i = 0; i < 6; i++) {
        size_t before = far.weights;
        both(&cpu, &dev, i ? 1 : 5, i ? 4 + i : 0, i == 5);
        uploads[i] = far.weights - before;
    }
    assert_true(pare_exec_streamed(dev.e));
    assert_int_equal(far.begun, 0);
    assert_true(far.most <= far.limit);
    close_both(&cpu, &dev);
}

static void streamed(void **s) {
    size_t all = memory_for_all(), once[6], again[6];
    for (size_t layers = 1; layers <= 3; layers++) {
        walk_short_of(layers, all, once);
        walk_short_of(layers, all, again);
        assert_memory_equal(once, again, sizeof once);
        assert_in_range(once[0], WEIGHTS, WEIGHTS + 1);                           /* the table may have to come twice */
        for (int i = 1; i < 6; i++) assert_in_range(once[i], layers, layers + 3); /* not all: the first stages stay */
    }
}

/* Two models on one device without room for both: the first streams when it is to leave what the second needs, else
 * the second has to. */
static void shared_device(void **s) {
    size_t all = memory_for_all();
    for (int leaves = 0; leaves < 2; leaves++) {
        session cpu, dev, other;
        float logits[CAP * VOCAB];
        reset(NULL);
        far.limit = 2 * all - LAYER_BYTES;
        leave_bytes = leaves ? all + LAYERS * sizeof(float[CAP * DIM]) : 0; /* its own cache is not counted */
        open_both(&cpu, &dev);
        leave_bytes = 0;
        assert_int_equal(session_open(&other, &far_device, NULL), PARE_OK);
        both(&cpu, &dev, 5, 0, false);
        assert_int_equal(pare_exec_streamed(dev.e), leaves);
        assert_int_equal(step(&other, 5, 0, false, logits, NULL), PARE_OK);
        assert_int_equal(pare_exec_streamed(other.e), !leaves);
        both(&cpu, &dev, 1, 5, false);
        session_close(&other);
        close_both(&cpu, &dev);
    }
}

static void stage_too_large(void **s) {
    session dev;
    pare_diag d = {0};
    float logits[CAP * VOCAB];
    size_t others = memory_for_all() - sizeof table - LAYERS * LAYER_BYTES;
    far.limit = others + sizeof table / 2;
    assert_int_equal(session_open(&dev, &far_device, &d), PARE_OK);
    assert_int_equal(step(&dev, 5, 0, false, logits, &d), PARE_ERR_NOMEM);
    assert_string_equal(d.where, "embed");
    assert_non_null(strstr(d.text, "stage embed alone needs 10256 bytes of weights"));
    far.limit = others + sizeof table + LAYER_BYTES / 2; /* the embedding and each layer, but not the head's two */
    d = (pare_diag){0};
    assert_int_equal(step(&dev, 5, 0, false, logits, &d), PARE_ERR_NOMEM);
    assert_string_equal(d.where, "head");
    far.limit = 0; /* someone else gives memory back: the run can be had after all */
    d = (pare_diag){0};
    assert_int_equal(step(&dev, 1, 0, false, logits, &d), PARE_OK);
    session_close(&dev);
    far.limit = 1000; /* not even the cache */
    assert_int_equal(session_open(&dev, &far_device, NULL), PARE_ERR_NOMEM);
    session_close(&dev);
}

static void failing_upload(void **s) {
    session cpu, dev;
    pare_diag d = {0};
    float logits[CAP * VOCAB];
    far.fail_upload_after = 3;
    open_both(&cpu, &dev);
    assert_int_equal(step(&dev, 1, 0, false, logits, &d), PARE_ERR_DEVICE);
    assert_non_null(strstr(d.text, "copying this weight to far failed"));
    far.fail_upload_after = 0;
    both(&cpu, &dev, 1, 0, false);
    assert_int_equal(far.weights, WEIGHTS);
    close_both(&cpu, &dev);
}

/* ---- host memory ---- */
static void replays_take_no_memory(void **s) {
    session dev;
    float logits[CAP * VOCAB];
    harness_alloc_begin(SIZE_MAX);
    assert_int_equal(session_open(&dev, &far_device, NULL), PARE_OK);
    for (int64_t past = 0; past < 3; past++) assert_int_equal(step(&dev, 1, past, false, logits, NULL), PARE_OK);
    size_t before = harness_heap.calls;
    for (int64_t past = 3; past < CAP; past++) assert_int_equal(step(&dev, 1, past, false, logits, NULL), PARE_OK);
    assert_int_equal(harness_heap.calls, before);
    assert_int_equal(far.replays, CAP - 1);
    session_close(&dev);
    assert_int_equal(harness_alloc_end(), 0);
}

static pare_status open_and_step(void *ctx) {
    session dev;
    float logits[CAP * VOCAB];
    pare_status st = session_open(&dev, &far_device, NULL);
    for (int64_t past = 0; past < 3 && st == PARE_OK; past++) st = step(&dev, 1, past, false, logits, NULL);
    session_close(&dev);
    return st;
}

static void failing_allocations(void **s) {
    harness_fail_every_alloc(open_and_step, NULL);
    far.refuses[PARE_OP_Softmax] = true;
    harness_fail_every_alloc(open_and_step, NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(streamed, reset),
        cmocka_unit_test_setup(shared_device, reset),
        cmocka_unit_test_setup(stage_too_large, reset),
        cmocka_unit_test_setup(failing_upload, reset),
        cmocka_unit_test_setup(replays_take_no_memory, reset),
        cmocka_unit_test_setup(failing_allocations, reset),
    };
    make_weights();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
