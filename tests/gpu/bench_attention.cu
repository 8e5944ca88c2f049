/* SPDX-License-Identifier: Apache-2.0
 *
 * Rows of make bench-gpu: Attention of one token over a long cache (keys and values are read once) and of a prompt. */
#include "tests/gpu/bench.cuh"

#include <algorithm>
#include <stdio.h>
#include <string.h>

#define HEADS    32
#define KV_HEADS 8
#define SIZE     128

static void one(bench *b, const char *group, int64_t queries, int64_t keys) {
    bench_memory mem(b);
    int64_t kv = KV_HEADS * keys * SIZE, q = HEADS * queries * SIZE;
    size_t turns = b->smoke ? 2 : queries > 1 ? 1 : std::max<size_t>(1, ((size_t)256 << 20) / (size_t)(8 * kv));
    int64_t q_shape[4] = {1, HEADS, queries, SIZE}, kv_shape[4] = {1, KV_HEADS, keys, SIZE}, one_shape[1] = {1};
    const pare_qtype *f32 = pare_qtype_by_name("f32");
    pare_tensor tq = pare_tensor_make(f32, 4, q_shape, mem.random(q)), ty = tq;
    pare_tensor length = pare_tensor_make(pare_qtype_by_name("i64"), 1, one_shape, mem.take(8));
    ty.data = mem.take((size_t)q * 4);
    rt_upload(&b->dev->rt, length.data, &keys, 8);
    std::vector<pare_tensor> k, v;
    for (size_t i = 0; i < turns; i++) {
        k.push_back(pare_tensor_make(f32, 4, kv_shape, mem.random(kv)));
        v.push_back(pare_tensor_make(f32, 4, kv_shape, mem.random(kv)));
    }
    pare_attr_attention attr = {};
    attr.is_causal = true;
    std::vector<pare_op_call> calls(turns);
    for (size_t i = 0; i < turns; i++) {
        pare_op_call *c = &calls[i];
        c->op = PARE_OP_Attention;
        c->attr = &attr;
        c->n_in = 7, c->n_out = 1;
        c->in[0] = &tq, c->in[1] = &k[i], c->in[2] = &v[i], c->in[6] = &length;
        c->out[0] = &ty;
        c->workspace_bytes = b->backend->workspace_bytes(b->dev, c);
        c->workspace = i ? calls[0].workspace : mem.take(c->workspace_bytes);
    }
    if (!b->backend->supports(b->dev, &calls[0])) return (void)printf("skipped: attention does not run here\n");
    bench_row r = {};
    r.group = group, r.m = queries;
    snprintf(r.name, sizeof r.name, "attention");
    snprintf(r.shape, sizeof r.shape, "%lld keys", (long long)keys);
    snprintf(r.kernel, sizeof r.kernel, "f32 cache");
    r.replayed = bench_time(
        b, (int)turns, [&](int i) { (void)b->backend->run(b->dev, &calls[(size_t)i % turns], NULL); }, &r.launched);
    r.bytes = 8.0 * (double)kv + 8.0 * (double)q;
    r.flops = 4.0 * HEADS * SIZE * (double)queries * ((double)keys - 0.5 * (double)(queries - 1)); /* seen pairs only */
    bench_print(b, &r);
}

void bench_attention(bench *b) {
    if (b->only && !strstr("attention", b->only)) return;
    const char *decode = "attention, one token, 32 heads over 8", *prefill = "attention, a prompt, 32 heads over 8";
    if (b->smoke) return one(b, decode, 1, 70), one(b, prefill, 9, 9);
    for (int64_t keys : {1024, 4096, 32768}) one(b, decode, 1, keys);
    for (int64_t n : {512, 2048, 8192}) one(b, prefill, n, n);
}
