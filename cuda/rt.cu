/* SPDX-License-Identifier: Apache-2.0
 *
 * cuda/rt.cuh over the CUDA runtime. Uploads go through two pinned buffers, so that copying into one overlaps with the
 * transfer of the other. */
#include "cuda/rt.cuh"

#include <cuda_runtime.h>
#include <mutex>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STAGING_BYTES (4u << 20)

typedef struct staging {
    char *p[2];
    cudaEvent_t done[2];
    bool busy[2];
    int next;
} staging;
static staging pinned; /* of all opened devices */
static std::mutex pinned_lock;

static bool explain(cudaError_t e, char *why, size_t n) {
    if (e == cudaSuccess) return true;
    snprintf(why, n, "%s (%s)", cudaGetErrorString(e), cudaGetErrorName(e));
    return false;
}

const char *rt_describe(int i, char *why, size_t why_bytes) {
    static char text[512];
    int n = 0;
    cudaDeviceProp p;
    if (!explain(cudaGetDeviceCount(&n), why, why_bytes) || i >= n) return NULL;
    if (!explain(cudaGetDeviceProperties(&p, i), why, why_bytes)) return NULL;
    snprintf(text, sizeof text, "%s, sm_%d%d, %d multiprocessors, %.0f GiB", p.name, p.major, p.minor,
             p.multiProcessorCount, (double)p.totalGlobalMem / (1u << 30));
    return text;
}

/* Of n devices; n where $PARE_CUDA_DEVICE names none. */
static int choose(int n) {
    const char *named = getenv("PARE_CUDA_DEVICE"), *local = getenv("OMPI_COMM_WORLD_LOCAL_RANK");
    char *end;
    if (named && *named) {
        long i = strtol(named, &end, 10);
        return *end || i < 0 || i >= n ? n : (int)i;
    }
    return local ? (int)(strtoul(local, NULL, 10) % (unsigned)n) : 0;
}

static thread_local int used = -1;
void rt_use(const rt_device *dev) {
    if (used != dev->index && cudaSetDevice(dev->index) == cudaSuccess) used = dev->index;
}

bool rt_open(rt_device *dev, char *why, size_t why_bytes) {
    int n = 0, major = 0, minor = 0, sms = 0, shared = 0;
    cudaStream_t s;
    if (!explain(cudaGetDeviceCount(&n), why, why_bytes)) return false;
    if (!n) return snprintf(why, why_bytes, "no CUDA device"), false;
    int i = choose(n);
    if (i == n)
        return snprintf(why, why_bytes, "PARE_CUDA_DEVICE=%s: there are devices 0 to %d", getenv("PARE_CUDA_DEVICE"),
                        n - 1),
               false;
    used = -1;
    if (!explain(cudaSetDevice(i), why, why_bytes) ||
        !explain(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, i), why, why_bytes) ||
        !explain(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, i), why, why_bytes) ||
        !explain(cudaDeviceGetAttribute(&sms, cudaDevAttrMultiProcessorCount, i), why, why_bytes) ||
        !explain(cudaDeviceGetAttribute(&shared, cudaDevAttrMaxSharedMemoryPerBlockOptin, i), why, why_bytes) ||
        !explain(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking), why, why_bytes))
        return false;
    if (10 * major + minor < 75)
        return snprintf(why, why_bytes, "the GPU is sm_%d%d, sm_75 is the oldest that works", major, minor), false;
    cudaMemPool_t pool; /* what is freed stays at hand for the next allocation */
    uint64_t keep = UINT64_MAX;
    if (cudaDeviceGetDefaultMemPool(&pool, i) == cudaSuccess)
        (void)cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &keep);
    *dev = rt_device{10 * major + minor, sms, (size_t)shared, s, i};
    return true;
}

void rt_close(rt_device *dev) { cudaStreamDestroy((cudaStream_t)dev->stream); }

void *rt_malloc(rt_device *dev, size_t bytes) {
    void *p = NULL;
    rt_use(dev);
    if (cudaMallocAsync(&p, bytes, (cudaStream_t)dev->stream) != cudaSuccess)
        return (void)cudaGetLastError(), (void *)NULL;
    return p;
}
void rt_free(rt_device *dev, void *p) { cudaFreeAsync(p, (cudaStream_t)dev->stream); }

static bool open_staging(void) {
    if (pinned.p[1]) return true;
    for (int i = 0; i < 2; i++)
        if (cudaMallocHost((void **)&pinned.p[i], STAGING_BYTES) != cudaSuccess ||
            cudaEventCreateWithFlags(&pinned.done[i], cudaEventDisableTiming) != cudaSuccess)
            return false;
    return true;
}

bool rt_upload(rt_device *dev, void *dst, const void *src, size_t bytes) {
    cudaStream_t s = (cudaStream_t)dev->stream;
    std::lock_guard<std::mutex> g(pinned_lock);
    rt_use(dev);
    if (!open_staging()) return false;
    for (size_t at = 0; at < bytes; at += STAGING_BYTES) {
        size_t n = bytes - at < STAGING_BYTES ? bytes - at : STAGING_BYTES;
        int i = pinned.next;
        pinned.next ^= 1;
        if (pinned.busy[i] && cudaEventSynchronize(pinned.done[i]) != cudaSuccess) return false;
        memcpy(pinned.p[i], (const char *)src + at, n);
        if (cudaMemcpyAsync((char *)dst + at, pinned.p[i], n, cudaMemcpyHostToDevice, s) != cudaSuccess ||
            cudaEventRecord(pinned.done[i], s) != cudaSuccess)
            return false;
        pinned.busy[i] = true;
    }
    return true;
}

bool rt_download(rt_device *dev, void *dst, const void *src, size_t bytes) {
    cudaStream_t s = (cudaStream_t)dev->stream;
    return cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDeviceToHost, s) == cudaSuccess &&
           cudaStreamSynchronize(s) == cudaSuccess;
}
bool rt_copy(rt_device *dev, void *dst, const void *src, size_t bytes) {
    return cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDeviceToDevice, (cudaStream_t)dev->stream) == cudaSuccess;
}
bool rt_zero(rt_device *dev, void *dst, size_t bytes) {
    return cudaMemsetAsync(dst, 0, bytes, (cudaStream_t)dev->stream) == cudaSuccess;
}
bool rt_sync(rt_device *dev, char *why, size_t n) {
    cudaError_t e = cudaStreamSynchronize((cudaStream_t)dev->stream), last = cudaGetLastError();
    return explain(e != cudaSuccess ? e : last, why, n);
}
bool rt_check(rt_device *dev, char *why, size_t n) { return explain(cudaGetLastError(), why, n); }

void rt_memory(rt_device *dev, size_t *free_bytes, size_t *total_bytes) {
    size_t reserved = 0, in_use = 0;
    cudaMemPool_t pool;
    rt_use(dev);
    if (cudaMemGetInfo(free_bytes, total_bytes) != cudaSuccess) *free_bytes = *total_bytes = 0;
    if (cudaDeviceGetDefaultMemPool(&pool, dev->index) ==
            cudaSuccess && /* what the pool holds but nobody uses is free, too */
        cudaMemPoolGetAttribute(pool, cudaMemPoolAttrReservedMemCurrent, &reserved) == cudaSuccess &&
        cudaMemPoolGetAttribute(pool, cudaMemPoolAttrUsedMemCurrent, &in_use) == cudaSuccess && reserved > in_use)
        *free_bytes += reserved - in_use;
}

bool rt_record_begin(rt_device *dev) {
    return cudaStreamBeginCapture((cudaStream_t)dev->stream, cudaStreamCaptureModeThreadLocal) == cudaSuccess;
}
bool rt_recording(rt_device *dev) {
    cudaStreamCaptureStatus st;
    return cudaStreamIsCapturing((cudaStream_t)dev->stream, &st) == cudaSuccess && st != cudaStreamCaptureStatusNone;
}
void *rt_record_end(rt_device *dev) {
    cudaGraph_t g = NULL;
    cudaGraphExec_t x = NULL;
    if (cudaStreamEndCapture((cudaStream_t)dev->stream, &g) != cudaSuccess || !g)
        return (void)cudaGetLastError(), (void *)NULL;
    if (cudaGraphInstantiate(&x, g, 0) != cudaSuccess) x = NULL, (void)cudaGetLastError();
    cudaGraphDestroy(g);
    return x;
}
bool rt_replay(rt_device *dev, void *rec) {
    return cudaGraphLaunch((cudaGraphExec_t)rec, (cudaStream_t)dev->stream) == cudaSuccess;
}
void rt_recording_free(rt_device *dev, void *rec) { cudaGraphExecDestroy((cudaGraphExec_t)rec); }

static cudaEvent_t timer[2];
bool rt_time_start(rt_device *dev) {
    for (int i = 0; i < 2; i++)
        if (!timer[i] && cudaEventCreate(&timer[i]) != cudaSuccess) return false;
    return cudaEventRecord(timer[0], (cudaStream_t)dev->stream) == cudaSuccess;
}
double rt_time_stop(rt_device *dev) {
    float ms;
    if (cudaEventRecord(timer[1], (cudaStream_t)dev->stream) != cudaSuccess ||
        cudaEventSynchronize(timer[1]) != cudaSuccess || cudaEventElapsedTime(&ms, timer[0], timer[1]) != cudaSuccess)
        return -1;
    return ms * 1e-3;
}
