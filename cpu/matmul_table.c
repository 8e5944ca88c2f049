/* SPDX-License-Identifier: Apache-2.0
 *
 * The dispatch table of the matmul kernels: scalar first, then overwritten upward by what the processor has. */
#include "cpu/matmul_kernels.h"

static pare_mm_table table;
static uint32_t filled_for = UINT32_MAX;

static void fill(uint32_t mask) {
    table = (pare_mm_table){0};
#define PARE_KERNEL(op, isa, need)                                                                                     \
    if ((mask & (need)) == (need)) table.op = pare_##op##_##isa;
#include "cpu/matmul.def"
#undef PARE_KERNEL
}

const pare_mm_table *pare_mm_kernels(void) {
    uint32_t mask = pare_cpu_mask();
    if (__atomic_load_n(&filled_for, __ATOMIC_ACQUIRE) != mask) {
#pragma omp critical(pare_mm_table)
        if (__atomic_load_n(&filled_for, __ATOMIC_ACQUIRE) != mask) {
            fill(mask);
            __atomic_store_n(&filled_for, mask, __ATOMIC_RELEASE);
        }
    }
    return &table;
}

pare_row_fn *pare_mm_row_kernel(const pare_mm_table *t, const pare_i8_source *s) {
    switch (s->kind) {
    case PARE_I8_Q4_0: return t->row_q4_0;
    case PARE_I8_Q8_0: return t->row_q8_0;
    case PARE_I8_Q4_K: return t->row_q4_k;
    case PARE_I8_Q6_K: return t->row_q6_k;
    case PARE_I8_SPARSE: return t->row_sparse;
    case PARE_I8_GROUPED: break;
    default: return NULL;
    }
    const pare_int_format *f = s->type->int_format;
    bool as_block = f->group == 32 && !f->asym && f->scale_type == &pare_qtype_f16; /* the bytes of Q4_0 and Q8_0 */
    if (f->bits == 4) return as_block ? t->row_q4_0 : t->row_int4;
    return as_block ? t->row_q8_0 : t->row_int8;
}
