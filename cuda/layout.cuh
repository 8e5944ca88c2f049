/* SPDX-License-Identifier: Apache-2.0
 *
 * Weights in device memory. Plain floats and integers stay as stored, row-major. Block and grouped formats keep their
 * codes and scales bit for bit, but apart and in one order for all formats, so that one set of kernels reads them with
 * aligned 16-byte loads:
 *
 *   planes   low codes | high bits | scales; plane p of row r starts at base + plane[p] + r * row_bytes[p]
 *   slabs    256 columns; a row is padded to whole slabs with zero bytes (activations are 0 there), plane rows to 16
 *            bytes
 *   chunks   32 columns, eight to a slab
 *
 * Low plane, per chunk:   4 bits: 16 bytes, byte j = column j low nibble, column j + 16 high nibble (as q4_0)
 *                         2 bits: 8 bytes; byte i < 4, bits 2t and 2t+1 = column 4t + i; byte 4 + i = columns 16 + ..
 *                         8 bits: 32 signed bytes, column order
 * High plane, per chunk:  1 bit:  4 bytes; byte i, bit t = column 4t + i, bit 4 + t = column 16 + 4t + i
 *                         2 bits: 8 bytes as the 2-bit low plane
 * (so that one shift and one mask of a word give four neighbouring columns as bytes)
 * Scale plane, per slab:  what the format stores, in its own packing:
 *   q4_0 q5_0 q8_0 iq4_nl  8 x f16 d                      16      q4_1 q5_1  8 x (f16 d, f16 m)                  32
 *   mxfp4                  8 x e8m0                        8      q2_k       16 x (scale | min << 4), d, dmin    20
 *   q3_k                   12 bytes of scales, d, 0, 0    16      q4_k q5_k  d, dmin, 12 bytes of scales, mins   16
 *   q6_k                   16 signed scales, d, 0, 0      20      iq4_xs     d, high scale bits, low nibbles      8
 *   grouped integers       an entry per group: scale (f16, bf16: 2 bytes; f32: 4), asymmetric ones then one byte zero
 *                          + 2^(bits-1) and padding to 4 (f32: 8) bytes; a group that is the whole row: one entry per
 *                          row, row_bytes = the entry, no slabs
 *
 * Values: w = scale * (code - offset) + minimum, as cpu/matmul_i8.h has it. */
#ifndef PARE_CUDA_LAYOUT_CUH
#define PARE_CUDA_LAYOUT_CUH

#include "cuda/backend.cuh"

#define PARE_CUDA_SLAB 256

typedef enum pare_cuda_format {
    PARE_CF_NONE, /* stays as stored */
    PARE_CF_Q4_0,
    PARE_CF_Q4_1,
    PARE_CF_Q5_0,
    PARE_CF_Q5_1,
    PARE_CF_Q8_0,
    PARE_CF_IQ4_NL,
    PARE_CF_MXFP4,
    PARE_CF_Q2_K,
    PARE_CF_Q3_K,
    PARE_CF_Q4_K,
    PARE_CF_Q5_K,
    PARE_CF_Q6_K,
    PARE_CF_IQ4_XS,
    PARE_CF_INT4, /* grouped or per row, any scale type */
    PARE_CF_INT8,
    PARE_CF_2OF4 /* sparse: cuda/sparse.cuh; its own kernels only */
} pare_cuda_format;

/* A weight as kernels get it (by value). */
typedef struct pare_cuda_weight {
    const uint8_t *low, *high, *scales;    /* row 0 of each plane; high NULL where there is none */
    uint32_t low_row, high_row, scale_row; /* bytes per row */
    int n, k, slabs;                       /* rows, columns, slabs per row */
    /* grouped integers */
    int group_shift; /* log2 of columns per scale; 31: one scale for the row */
    int entry;       /* bytes of a scale entry */
    int scale_type;  /* PARE_CT_F16, _BF16, _F32: the scale's type, to which products are rounded on decoding */
    int asym;
} pare_cuda_weight;

pare_cuda_format pare_cuda_format_of(const pare_qtype *qt);
size_t pare_cuda_weight_bytes(const pare_tensor *w); /* bytes on the device, any tensor */
/* The view of a device tensor of a block or grouped format; base = w->data. */
pare_cuda_weight pare_cuda_weight_view(const pare_tensor *w);
/* Stored rows (host memory) into the device's order, exactly, piecewise through a host buffer. PARE_CUDA_FAULT=i
 * (tests): the first scale of the i-th weight of a device that has scales, counted from 0, is off by one code (f16,
 * bf16, e8m0: by the last bit of storage; f32: by that of bf16). */
pare_status pare_cuda_weight_upload(pare_cuda *dev, void *dst, const pare_tensor *w, pare_diag *d);

#endif
