/* SPDX-License-Identifier: Apache-2.0
 *
 * Probes of what the machine can do, for `pare bench roofline`: memory traffic and arithmetic with nothing else in the
 * way. Each is called by every thread on its own part. Variants and dispatch as for all kernels (cpu/probe.def). */
#ifndef PARE_CPU_PROBE_H
#define PARE_CPU_PROBE_H

#include <stddef.h>
#include <stdint.h>

#define PARE_PROBE_MIN 4096 /* byte counts are multiples of this times the streams */

/* Reads `bytes` at p as `streams` (1, 2, 4 or 8) equal parts side by side, prefetching; the sum keeps it honest. */
typedef uint64_t pare_probe_read_fn(const void *p, size_t bytes, int streams);
/* dst = src with ordinary or streaming stores; 64-byte aligned. */
typedef void pare_probe_copy_fn(void *dst, const void *src, size_t bytes);
typedef void pare_probe_copy_nt_fn(void *dst, const void *src, size_t bytes);
/* Streaming stores of a constant. */
typedef void pare_probe_write_nt_fn(void *dst, size_t bytes);
/* steps x enough independent chains of f32 multiply-add, or of int8 dot products into int32, in registers. Return the
 * operations done (a multiply and an add count two); *sink receives a value that depends on all of them. */
typedef double pare_probe_fma_fn(size_t steps, float *sink);
typedef double pare_probe_dot8_fn(size_t steps, int32_t *sink);

#define PARE_KERNEL(op, isa, need) pare_probe_##op##_fn pare_probe_##op##_##isa;
#include "cpu/probe.def"
#undef PARE_KERNEL

typedef struct pare_probe_table {
    pare_probe_read_fn *read;
    pare_probe_copy_fn *copy;
    pare_probe_copy_nt_fn *copy_nt;
    pare_probe_write_nt_fn *write_nt;
    pare_probe_fma_fn *fma;
    pare_probe_dot8_fn *dot8;
} pare_probe_table;
pare_probe_table pare_probes(void); /* the best pare_cpu_mask() allows */

#endif
