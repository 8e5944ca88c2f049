/* SPDX-License-Identifier: Apache-2.0
 *
 * A device for tests. Its memory is its own: addresses have a bit set that no valid pointer has, so that touching them
 * from the host traps; blocks are guarded and start poisoned; weights lie backwards and scrambled behind a header.
 * Operators are the CPU's, on what the addresses stand for. It counts, has a limit, refuses what it is told to refuse,
 * and records. Its memory does not come from pare's allocator, as a device's does not. */
#ifndef PARE_TESTS_FAR_DEVICE_H
#define PARE_TESTS_FAR_DEVICE_H

#include "harness.h"

#include "core/op.h"

enum { FAR_BLOCKS = 512, FAR_CALLS = 128, FAR_HEADER = 16, FAR_GUARD = 64 };
#define FAR_BIT ((uintptr_t)1 << 62)

typedef struct far_call {
    pare_op_call c;
    pare_tensor in[PARE_OP_MAX_IN], out[PARE_OP_MAX_OUT];
} far_call;

typedef struct far_recording {
    int n;
    far_call calls[FAR_CALLS];
} far_recording;

static struct {
    /* what it does */
    size_t limit; /* bytes; 0 = none */
    bool refuses[PARE_OP_COUNT], fail_begin, fail_end, fail_recorded_run;
    size_t fail_upload_after; /* so many weights, then one fails; 0 = never */
    /* what it saw */
    size_t used, most, allocs, uploads, weights, runs, begun, replays, recordings; /* recordings: alive */
    /* its state */
    struct {
        char *p;
        size_t bytes;
        bool weight;
    } blocks[FAR_BLOCKS];
    far_recording *tape; /* while it records */
    int opened;
    bool pending; /* runs since the last sync */
} far;

/* The block that holds `bytes` at device address p; its host address in *at. */
static size_t far_find(const void *p, size_t bytes, char **at) {
    char *h = *at = (char *)((uintptr_t)p ^ FAR_BIT);
    for (size_t i = 0; i < FAR_BLOCKS; i++)
        if (far.blocks[i].p && h >= far.blocks[i].p && h + bytes <= far.blocks[i].p + far.blocks[i].bytes) return i;
    fail_msg("%p is not %zu bytes of the device", p, bytes);
    return 0;
}

static pare_status far_open(void **dev, pare_diag *d) { return far.opened++, *dev = &far, PARE_OK; }
static void far_close(void *dev) {
    assert_ptr_equal(dev, &far);
    if (--far.opened) return;
    assert_int_equal(far.used, 0);
    assert_int_equal(far.recordings, 0);
}
static void *far_alloc(void *dev, size_t bytes) {
    size_t i = 0;
    assert_null(far.tape);
    assert_true(bytes > 0);
    if (far.limit && bytes > far.limit - far.used) return NULL;
    while (i < FAR_BLOCKS && far.blocks[i].p) i++;
    assert_true(i < FAR_BLOCKS);
    char *p = aligned_alloc(64, (bytes + FAR_GUARD + 63) / 64 * 64);
    memset(p, 0xEE, bytes + FAR_GUARD);
    far.blocks[i].p = p, far.blocks[i].bytes = bytes, far.blocks[i].weight = false;
    far.allocs++;
    far.used += bytes;
    if (far.used > far.most) far.most = far.used;
    return (void *)((uintptr_t)p ^ FAR_BIT);
}
static void far_release(void *dev, void *p) {
    char *at;
    size_t i = far_find(p, 1, &at);
    assert_null(far.tape);
    assert_false(far.pending); /* what is queued may still use it */
    assert_ptr_equal(at, far.blocks[i].p);
    for (int k = 0; k < FAR_GUARD; k++) assert_int_equal((unsigned char)at[far.blocks[i].bytes + (size_t)k], 0xEE);
    memset(at, 0xDD, far.blocks[i].bytes);
    far.used -= far.blocks[i].bytes;
    far.blocks[i].p = NULL;
    free(at);
}
static pare_status far_upload(void *dev, void *dst, const void *src, size_t bytes) {
    char *at;
    assert_null(far.tape);
    assert_false(far.blocks[far_find(dst, bytes, &at)].weight);
    far.uploads++;
    return memcpy(at, src, bytes), PARE_OK;
}
static pare_status far_download(void *dev, void *dst, const void *src, size_t bytes) {
    char *at;
    assert_null(far.tape);
    assert_false(far.pending);
    assert_false(far.blocks[far_find(src, bytes, &at)].weight);
    return memcpy(dst, at, bytes), PARE_OK;
}
static pare_status far_sync(void *dev) {
    assert_null(far.tape);
    far.pending = false;
    return PARE_OK;
}
static void far_memory(void *dev, size_t *left, size_t *total) {
    *left = far.limit ? far.limit - far.used : SIZE_MAX;
    *total = far.limit ? far.limit : SIZE_MAX;
}

/* ---- weights: a header, then the bytes backwards and scrambled ---- */
static void far_turn(char *dst, const char *src, size_t n) {
    for (size_t i = 0; i < n; i++) dst[i] = (char)(src[n - 1 - i] ^ 0x3C);
}
static size_t far_weight_bytes(void *dev, const pare_tensor *w) { return pare_tensor_bytes(w) + FAR_HEADER; }
static pare_status far_upload_weight(void *dev, void *dst, const pare_tensor *w, pare_diag *d) {
    char *at;
    size_t n = pare_tensor_bytes(w), i = far_find(dst, n + FAR_HEADER, &at);
    assert_null(far.tape);
    if (far.fail_upload_after && far.weights == far.fail_upload_after) return PARE_ERR_DEVICE;
    memset(at, 'W', FAR_HEADER);
    far_turn(at + FAR_HEADER, w->data, n);
    far.blocks[i].weight = true;
    far.weights++;
    return PARE_OK;
}

/* ---- runs ---- */
static bool far_supports(void *dev, const pare_op_call *c) {
    for (int k = 0; k < c->n_in; k++)
        if (c->in[k] && c->in[k]->data) assert_ptr_equal(c->in[k]->data, c->host[k]); /* only constants are known */
    return !far.refuses[c->op] && pare_backend_cpu.supports(NULL, c);
}
static size_t far_workspace(void *dev, const pare_op_call *c) { return pare_backend_cpu.workspace_bytes(NULL, c); }

static pare_status far_compute(const far_call *f, pare_diag *d) {
    far_call x = *f;
    char *at = NULL, *temp[PARE_OP_MAX_IN] = {0};
    for (int k = 0; k < x.c.n_in; k++) {
        if (!x.c.in[k]) {
            assert_null(x.c.host[k]);
            continue;
        }
        x.c.in[k] = &x.in[k];
        if (x.c.host[k] == x.in[k].data) { /* what Shape yields stays with the host */
            x.c.host[k] = NULL;
            continue;
        }
        size_t n = pare_tensor_bytes(&x.in[k]), i = far_find(x.in[k].data, n, &at);
        assert_int_equal(far.blocks[i].weight, x.c.host[k] != NULL);
        if (far.blocks[i].weight) {
            temp[k] = aligned_alloc(64, (n + 63) / 64 * 64);
            far_turn(temp[k], at + FAR_HEADER, n);
            assert_memory_equal(temp[k], x.c.host[k], n);
            at = temp[k];
        }
        x.in[k].data = at;
        x.c.host[k] = NULL;
    }
    for (int k = 0; k < x.c.n_out; k++) {
        far_find(x.out[k].data, pare_tensor_bytes(&x.out[k]), &at);
        x.out[k].data = at;
        x.c.out[k] = &x.out[k];
    }
    if (x.c.workspace) {
        far_find(x.c.workspace, x.c.workspace_bytes, &at);
        x.c.workspace = memset(at, 0xFF, x.c.workspace_bytes);
    }
    pare_status s = pare_backend_cpu.run(NULL, &x.c, d);
    for (int k = 0; k < x.c.n_in; k++) free(temp[k]);
    return s;
}
static pare_status far_run(void *dev, const pare_op_call *c, pare_diag *d) {
    far_call f = {.c = *c};
    for (int k = 0; k < c->n_in; k++)
        if (c->in[k]) f.in[k] = *c->in[k];
    for (int k = 0; k < c->n_out; k++) f.out[k] = *c->out[k];
    assert_false(far.refuses[c->op]);
    if (!far.tape) {
        far.pending = true;
        far.runs++;
        return far_compute(&f, d);
    }
    if (far.fail_recorded_run) return PARE_ERR_DEVICE;
    assert_true(far.tape->n < FAR_CALLS);
    far.tape->calls[far.tape->n++] = f;
    return PARE_OK;
}

/* ---- recordings ---- */
static pare_status far_record_begin(void *dev) {
    assert_null(far.tape);
    far.begun++;
    if (far.fail_begin) return PARE_ERR_DEVICE;
    far.tape = calloc(1, sizeof *far.tape);
    return PARE_OK;
}
static pare_status far_record_end(void *dev, void **recording) {
    far_recording *t = far.tape;
    assert_non_null(t);
    far.tape = NULL;
    *recording = NULL;
    if (far.fail_end) return free(t), PARE_ERR_DEVICE;
    *recording = t;
    far.recordings++;
    return PARE_OK;
}
static pare_status far_replay(void *dev, void *recording) {
    const far_recording *t = recording;
    far.pending = true;
    far.replays++;
    for (int i = 0; i < t->n; i++)
        if (far_compute(&t->calls[i], NULL) != PARE_OK) return PARE_ERR_DEVICE;
    return PARE_OK;
}
static void far_recording_free(void *dev, void *recording) {
    assert_non_null(recording);
    far.recordings--;
    free(recording);
}

static const pare_backend far_device = {
    .name = "far",
    .abi = PARE_BACKEND_ABI,
    .open = far_open,
    .close = far_close,
    .alloc = far_alloc,
    .release = far_release,
    .upload = far_upload,
    .download = far_download,
    .supports = far_supports,
    .workspace_bytes = far_workspace,
    .run = far_run,
    .sync = far_sync,
    .weight_bytes = far_weight_bytes,
    .upload_weight = far_upload_weight,
    .memory = far_memory,
    .record_begin = far_record_begin,
    .record_end = far_record_end,
    .replay = far_replay,
    .recording_free = far_recording_free,
};

#endif
