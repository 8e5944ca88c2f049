/* SPDX-License-Identifier: Apache-2.0
 *
 * bench-gpu [--out FILE] [--only WORD] [--smoke]: the frame of tests/gpu/bench.cuh. Ends with 4 where there is no GPU.
 */
#include "tests/gpu/bench.cuh"

#include "cuda/dev.cuh"

#include <algorithm>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern "C" const pare_backend pare_backend_cpu = {}; /* in core's list; this program leaves that room out */
extern "C" pare_plugin_info pare_plugin(const pare_host *host);

static std::vector<bench_row> rows;

static void die(const char *what, const char *why) {
    fprintf(stderr, "bench-gpu: %s: %s\n", what, why);
    exit(1);
}

void *bench_memory::take(size_t bytes) {
    void *p = b->backend->alloc(b->dev, bytes);
    if (!p) die("not enough device memory", "the card is too small or in use");
    all.push_back(p);
    return p;
}

float *bench_memory::random(int64_t n) {
    std::vector<float> v((size_t)std::min<int64_t>(n, 1 << 20)); /* repeated after that */
    pare_rng r;
    pare_rng_seed(&r, 7);
    for (float &x : v) x = pare_rng_normal(&r);
    float *p = (float *)take((size_t)n * sizeof(float));
    for (int64_t at = 0; at < n; at += (int64_t)v.size())
        if (!rt_upload(&b->dev->rt, p + at, v.data(), std::min<size_t>(v.size(), (size_t)(n - at)) * sizeof(float)))
            die("upload", "failed");
    return p;
}

void bench_random_bytes(bench *b, void *to, size_t bytes, bool bf16) {
    std::vector<uint8_t> v(std::min<size_t>(bytes, 1 << 22));
    pare_rng r;
    pare_rng_seed(&r, 11);
    for (uint8_t &x : v) x = (uint8_t)pare_rng_u64(&r);
    for (size_t i = 1; bf16 && i < v.size(); i += 2) v[i] = (uint8_t)((v[i] & 0x80) | 0x3f); /* 0.5 to 2, either sign */
    for (size_t at = 0; at < bytes; at += v.size())
        if (!rt_upload(&b->dev->rt, (char *)to + at, v.data(), std::min(v.size(), bytes - at))) die("upload", "failed");
}

static void settle(bench *b) {
    char why[512];
    if (!rt_sync(&b->dev->rt, why, sizeof why)) die("the device", why);
}

/* Median seconds of five times `calls` calls, after one round to warm up. */
static double median(bench *b, int calls, const std::function<void(void)> &round) {
    double t[5];
    int n = b->smoke ? 1 : 5;
    round();
    settle(b);
    for (int i = 0; i < n; i++) {
        rt_time_start(&b->dev->rt);
        round();
        t[i] = rt_time_stop(&b->dev->rt) / calls;
    }
    settle(b);
    std::sort(t, t + n);
    return t[n / 2];
}

double bench_time(bench *b, int turns, const std::function<void(int)> &run, double *launched) {
    run(0);
    settle(b);
    rt_time_start(&b->dev->rt);
    run(1);
    double one = rt_time_stop(&b->dev->rt);
    /* a round takes some 4 ms and every operand its turn */
    int calls = b->smoke ? 2 : std::max(turns, std::min(200, (int)(4e-3 / std::max(one, 1e-6)) + 1));
    auto launches = [&] {
        for (int i = 0; i < calls; i++) run(i);
    };
    if (launched) *launched = median(b, calls, launches);
    if (!rt_record_begin(&b->dev->rt)) return launched ? *launched : median(b, calls, launches);
    launches();
    void *recording = rt_record_end(&b->dev->rt);
    if (!recording) return launched ? *launched : median(b, calls, launches);
    double s = median(b, calls, [&] { rt_replay(&b->dev->rt, recording); });
    rt_recording_free(&b->dev->rt, recording);
    return s;
}

void bench_print(bench *b, const bench_row *r) {
    static const char *group = "";
    if (strcmp(group, r->group) != 0)
        printf("\n%s\n%-10s %-13s %6s  %-12s %10s %10s %9s %7s %8s %9s %8s\n", r->group, "what", "shape", "M", "kernel",
               "replay us", "launch us", "GB/s", "of copy", "of floor", "TFLOP/s", "of peer");
    group = r->group;
    double at_copy = r->bytes / b->copy;
    printf("%-10s %-13s %6lld  %-12s %10.2f %10.2f %9.0f %6.1f%% %7.1f%% %9.2f ", r->name, r->shape, (long long)r->m,
           r->kernel, 1e6 * r->replayed, 1e6 * r->launched, 1e-9 * r->bytes / r->replayed, 100 * at_copy / r->replayed,
           100 * (b->empty + at_copy) / r->replayed, 1e-12 * r->flops / r->replayed);
    if (r->peer > 0) printf("%7.1f%% %s\n", 100 * r->peer / r->replayed, r->peer_name);
    else printf("%8s\n", "-");
    fflush(stdout);
    rows.push_back(*r);
}

static void write_file(const bench *b, const char *path, const char *device) {
    FILE *f = fopen(path, "w");
    if (!f) die(path, "cannot be written");
    fprintf(f, "{\n \"device\": \"%s\",\n \"copy_bytes_per_s\": %.6g,\n \"empty_kernel_s\": %.6g,\n \"rows\": [\n",
            device, b->copy, b->empty);
    for (size_t i = 0; i < rows.size(); i++) {
        const bench_row *r = &rows[i];
        fprintf(f,
                "  {\"group\": \"%s\", \"what\": \"%s\", \"shape\": \"%s\", \"m\": %lld, \"kernel\": \"%s\", "
                "\"replayed_s\": %.6g, \"launched_s\": %.6g, \"bytes\": %.0f, \"flops\": %.0f, \"peer\": \"%s\", "
                "\"peer_s\": %.6g}%s\n",
                r->group, r->name, r->shape, (long long)r->m, r->kernel, r->replayed, r->launched, r->bytes, r->flops,
                r->peer > 0 ? r->peer_name : "", r->peer, i + 1 < rows.size() ? "," : "");
    }
    fprintf(f, " ]\n}\n");
    if (fclose(f) != 0) die(path, "cannot be written");
    printf("\nall numbers: %s\n", path);
}

/* 64 bytes a thread, four loads under way. */
__global__ void __launch_bounds__(256) copy_kernel(uint4 *to, const uint4 *from) {
    const uint4 *at = from + (int64_t)blockIdx.x * 1024 + threadIdx.x;
    uint4 v[4];
    for (int i = 0; i < 4; i++) v[i] = pare_load_stream(at + i * 256);
    to += (int64_t)blockIdx.x * 1024 + threadIdx.x;
    for (int i = 0; i < 4; i++) to[i * 256] = v[i];
}
__global__ void empty_kernel(int) {}

/* What rows are held against: bytes per second, read and written, of the faster of two copies much larger than L2 (our
 * own and the runtime's, which in a recording may be a copy engine's), and the seconds of an empty kernel in a
 * recording. */
static void measure_limits(bench *b) {
    size_t free_bytes = 0, total = 0, bytes = b->smoke ? 1 << 16 : (size_t)4 << 30;
    bench_memory mem(b);
    rt_memory(&b->dev->rt, &free_bytes, &total);
    while (bytes > (64u << 20) && 4 * bytes > free_bytes) bytes /= 2;
    char *p = (char *)mem.take(2 * bytes);
    bench_random_bytes(b, p, 2 * bytes, false);
    void *stream = b->dev->rt.stream;
    double ours = bench_time(
        b, 2,
        [&](int i) {
            pare_launch<copy_kernel>(stream, dim3((unsigned)(bytes / (1 << 14))), dim3(256), 0,
                                     (uint4 *)(p + (i & 1) * bytes), (const uint4 *)(p + (~i & 1) * bytes));
        },
        NULL);
    double replayed, launched = 0;
    replayed = bench_time(
        b, 2, [&](int i) { rt_copy(&b->dev->rt, p + (i & 1) * bytes, p + (~i & 1) * bytes, bytes); }, &launched);
    b->copy = 2.0 * (double)bytes / std::min(ours, std::min(replayed, launched));
    b->empty = bench_time(
        b, 2, [&](int i) { pare_launch<empty_kernel>(stream, dim3(1), dim3(32), 0, i); }, NULL);
    printf("device copy of %.0f MB: %.0f GB/s read and written (own kernel %.0f, runtime %.0f, replayed %.0f)\n"
           "an empty kernel, replayed: %.2f us; of floor: that and the bytes at the copy's rate, over the time taken\n",
           1e-6 * (double)bytes, 1e-9 * b->copy, 2e-9 * (double)bytes / ours, 2e-9 * (double)bytes / launched,
           2e-9 * (double)bytes / replayed, 1e6 * b->empty);
}

int main(int argc, char **argv) {
    static const pare_host host = {PARE_BACKEND_ABI, PARE_BUILD_ID,    pare_malloc,       pare_free,
                                   pare_fail,        pare_log,         pare_parallel,     pare_tensor_elems,
                                   pare_tensor_rows, pare_tensor_cols, pare_tensor_bytes, pare_row_bytes,
                                   pare_op_get};
    bench b = {};
    const char *out = "bench-gpu.json";
    char why[512] = "no device";
    for (int i = 1; i < argc; i++)
        if (!strcmp(argv[i], "--smoke")) b.smoke = true;
        else if (!strcmp(argv[i], "--out") && i + 1 < argc) out = argv[++i];
        else if (!strcmp(argv[i], "--only") && i + 1 < argc) b.only = argv[++i];
        else return fprintf(stderr, "usage: bench-gpu [--out FILE] [--only WORD] [--smoke]\n"), 2;
    const char *device = rt_describe(0, why, sizeof why);
    if (!device) return fprintf(stderr, "bench-gpu: no GPU can be used here: %s\n", why), 4;
    b.backend = pare_plugin(&host).backend;
    if (b.backend->open((void **)&b.dev, NULL) != PARE_OK)
        return fprintf(stderr, "bench-gpu: the GPU cannot be opened\n"), 4;
    printf("%s\n", device);
    measure_limits(&b);
    if (!lt_open(why, sizeof why)) printf("skipped: cuBLASLt (%s); ratios to it are missing\n", why);
    bench_products(&b);
    bench_attention(&b);
    write_file(&b, out, device);
    b.backend->close(b.dev);
    return 0;
}
