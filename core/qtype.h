/* SPDX-License-Identifier: Apache-2.0
 *
 * Storage formats: how a run of numbers is stored. Plain element types (f32, i64, ...), GGUF block formats and pare's
 * row formats of grouped integers are all rows of one registry. A *grid* is a storage format that can also be written:
 * it fits parameters, snaps values to codes, and packs.
 *
 * layout: a tensor of shape [.., R, K] is R rows (all outer dimensions flattened) of pare_row_bytes(type, K) bytes
 * each, without gaps. Within a row, blocks of block_elems consecutive columns follow one another; block_elems 0 means
 * that the whole row is one block (per-channel formats). All multi-byte fields are little endian.
 */
#ifndef PARE_CORE_QTYPE_H
#define PARE_CORE_QTYPE_H

#include "pare/pare.h"

typedef struct pare_qtype pare_qtype;

typedef enum pare_qkind {
    PARE_QK_FLOAT, /* f64 f32 f16 bf16 f8_e4m3 f8_e5m2 ...: decode is a conversion */
    PARE_QK_INT,   /* i8..i64, u8..u64, bool: indices and raw bytes, not weights */
    PARE_QK_BLOCK, /* GGUF block formats */
    PARE_QK_GROUP, /* pare's grouped or per-channel integers: see pare_int_format */
    PARE_QK_SPARSE /* weights that are not zero, and where they are: see core/sparse.h */
} pare_qkind;

/* Parameters of a PARE_QK_GROUP format ("int8", "int4:g32", "int4:g128:asym", with f16 scales; ":bf16" or ":f32" at the
 * end names another scale type). Codes are signed, q in -2^(bits-1) .. 2^(bits-1)-1, and so are zero points.
 *   value = (q - zero) * scale, the product rounded to scale_type (what stock loaders of these layouts compute);
 *   symmetric formats have zero 0.
 * Row block: the scale in scale_type; for asymmetric one byte, zero + 2^(bits-1); then the codes. 8 bits: signed bytes
 * q. 4 bits: nibbles q + 8 in chunks of 32 columns, 16 bytes each: byte j of a chunk holds column j in the low and
 * column j + 16 in the high nibble (as q4_0 does). A row that is one block and not a multiple of 32 columns pads its
 * last chunk with zero nibbles. Nothing is aligned. */
typedef struct pare_int_format {
    uint8_t bits; /* 4 or 8 */
    bool asym;
    uint32_t group; /* 32, 64, 128; 0 = whole row */
    const pare_qtype *scale_type;
} pare_int_format;

/* The grid interface (all functions are pure; no allocation). A parameter set covers `group` columns of one row
 * (0 = whole row) and is an opaque struct of param_bytes. Slices: w points at the first column of the slice, rows
 * follow at distance w_ld (elements). importance is one non-negative weight per column of the slice, or NULL (then
 * the format's default search weights are used).
 *   fit    parameters of `rows` groups, each n columns wide (n = the group, or the row for group 0), to params[row];
 *          row_energy: mean square of each whole row, or NULL to use that of the group (only some formats, and only
 *          with importance, weigh by it; encode passes the row's)
 *   snap   columns first .. first+n of those groups to the nearest codes under params; group_n = the group's width;
 *          codes and decoded (optional) have leading dimensions codes_ld and decoded_ld, indexed from the slice
 *   pack   parameters and all codes of `rows` groups into blocks out + row * out_stride
 *   unpack the reverse: exact
 *   encode fit + snap + pack of whole rows in one go (n columns, a multiple of the block): the fast path, the same
 *          bytes as the three calls; NULL when there is none
 * Column-by-column methods (GPTQ) call fit when a group is reached, on already compensated weights, and snap one
 * column at a time. */
typedef struct pare_grid {
    size_t group;
    size_t param_bytes;
    void (*fit)(const pare_qtype *qt, const float *w, size_t w_ld, const float *importance, const float *row_energy,
                size_t rows, size_t n, void *params);
    void (*snap)(const pare_qtype *qt, const void *params, size_t group_n, const float *w, size_t w_ld, size_t rows,
                 size_t first, size_t n, int8_t *codes, size_t codes_ld, float *decoded, size_t decoded_ld);
    void (*pack)(const pare_qtype *qt, const void *params, const int8_t *codes, size_t codes_ld, size_t rows, size_t n,
                 void *out, size_t out_stride);
    void (*unpack)(const pare_qtype *qt, const void *in, size_t in_stride, size_t rows, size_t n, void *params,
                   int8_t *codes, size_t codes_ld);
    void (*encode)(const pare_qtype *qt, const float *w, size_t w_ld, const float *importance, size_t rows, size_t n,
                   void *out, size_t out_stride);
} pare_grid;

struct pare_sparse_format;
struct pare_qtype {
    const char *name; /* lower case: "f16", "q4_k", "int4:g32:asym" (f16 scales), "int4:g32:asym:bf16" */
    pare_qkind kind;
    int ggml_type;                     /* id in GGUF files, or -1 */
    const char *safetensors;           /* dtype word in safetensors headers, or NULL */
    uint32_t block_elems, block_bytes; /* 1 and the element size for plain types; 0, 0 when a row is one block */
    const pare_int_format *int_format; /* PARE_QK_GROUP, and PARE_QK_SPARSE of integers; else NULL */
    /* n elements (a multiple of block_elems; the whole row for row blocks) to f32, exactly. NULL for PARE_QK_INT. */
    void (*decode)(const pare_qtype *qt, const void *src, float *dst, size_t n);
    const pare_grid *grid;                   /* NULL: read-only here */
    const struct pare_sparse_format *sparse; /* PARE_QK_SPARSE only */
};

/* Registry: quant/qtypes.def lists every format once (the rows live where they are implemented). Sparse formats are
 * not counted: there is one per dense format and shape, found by name or with pare_qtype_sparse. */
size_t pare_qtype_count(void);
const pare_qtype *pare_qtype_at(size_t i);
const pare_qtype *pare_qtype_by_name(const char *name); /* case-insensitive; NULL when unknown */
const pare_qtype *pare_qtype_by_ggml(int ggml_type);
const pare_qtype *pare_qtype_by_safetensors(const char *dtype);
/* bits 4 or 8, group 0/32/64/128, scale_type f16, bf16 or f32; NULL when no such row. */
const pare_qtype *pare_qtype_int(int bits, unsigned group, bool asym, const pare_qtype *scale_type);

extern const pare_qtype pare_qtype_f32, pare_qtype_f16, pare_qtype_bf16, pare_qtype_f64, pare_qtype_i64, pare_qtype_i32,
    pare_qtype_i8, pare_qtype_u8, pare_qtype_bool;

/* True when rows of n columns can be stored in this format. */
bool pare_qtype_fits(const pare_qtype *qt, size_t n);
/* Bytes of a row of n columns; pre: pare_qtype_fits. */
size_t pare_row_bytes(const pare_qtype *qt, size_t n);

/* IEEE conversions, round to nearest even (core/half.c); the array versions use F16C / AVX-512 where the machine has
 * it. */
float pare_f16_to_f32(uint16_t h);
uint16_t pare_f32_to_f16(float f);
float pare_bf16_to_f32(uint16_t h);
uint16_t pare_f32_to_bf16(float f);
void pare_f16_to_f32_n(const uint16_t *src, float *dst, size_t n);
void pare_f32_to_f16_n(const float *src, uint16_t *dst, size_t n);
void pare_bf16_to_f32_n(const uint16_t *src, float *dst, size_t n);
void pare_f32_to_bf16_n(const float *src, uint16_t *dst, size_t n);

#endif
