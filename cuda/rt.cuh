/* SPDX-License-Identifier: Apache-2.0
 *
 * What the backend asks of the CUDA runtime, so that the emulator can stand in for it: memory, copies and launches in
 * the order of one stream. Implemented by cuda/rt.cu and cuda/emu/emu.cc. A false or NULL result is explained by the
 * next rt_check or rt_sync. */
#ifndef PARE_CUDA_RT_CUH
#define PARE_CUDA_RT_CUH

#include <stddef.h>
#include <stdint.h>

typedef struct rt_device {
    int arch;          /* 75, 80, 86, 89, 90, ... */
    int sms;           /* multiprocessors */
    size_t shared_max; /* dynamic shared memory a block may have */
    void *stream;      /* cudaStream_t */
    int index;         /* as CUDA counts */
} rt_device;

/* Device i in words, NULL past the last; why: the reason when there is none. */
const char *rt_describe(int i, char *why, size_t why_bytes);
/* The device $PARE_CUDA_DEVICE; else, of the processes that mpirun has started on a machine, each the next; else 0. */
bool rt_open(rt_device *dev, char *why, size_t why_bytes);
void rt_use(const rt_device *dev); /* before launches: CUDA asks which device, of every thread anew */
void rt_close(rt_device *dev);
void *rt_malloc(rt_device *dev, size_t bytes); /* 256-byte aligned */
void rt_free(rt_device *dev, void *p);
bool rt_upload(rt_device *dev, void *dst, const void *src, size_t bytes);   /* src may be changed on return */
bool rt_download(rt_device *dev, void *dst, const void *src, size_t bytes); /* waits */
bool rt_copy(rt_device *dev, void *dst, const void *src, size_t bytes);     /* device to device */
bool rt_zero(rt_device *dev, void *dst, size_t bytes);
bool rt_sync(rt_device *dev, char *why, size_t why_bytes);
bool rt_check(rt_device *dev, char *why, size_t why_bytes); /* errors so far, without waiting */
void rt_memory(rt_device *dev, size_t *free_bytes, size_t *total_bytes);
bool rt_record_begin(rt_device *dev);
bool rt_recording(rt_device *dev); /* between begin and end */
void *rt_record_end(rt_device *dev);
bool rt_replay(rt_device *dev, void *recording);
void rt_recording_free(rt_device *dev, void *recording);

/* Time on the device between start and stop, in seconds; stop waits. < 0: could not be had. One at a time. */
bool rt_time_start(rt_device *dev);
double rt_time_stop(rt_device *dev);

#endif
