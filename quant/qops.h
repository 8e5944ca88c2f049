/* SPDX-License-Identifier: Apache-2.0
 *
 * Dispatch of the inner loops listed in quant/qops.def. One source (quant/qops_impl.h) is compiled once per instruction
 * set, so that the levels differ in speed only. */
#ifndef PARE_QUANT_QOPS_H
#define PARE_QUANT_QOPS_H

#include <stddef.h>
#include <stdint.h>

#define PARE_BATCH 16 /* sub-blocks searched at once */

typedef enum pare_weight_kind { PARE_W_SQUARE, PARE_W_ABS, PARE_W_IMPORTANCE, PARE_W_PLAIN } pare_weight_kind;

typedef enum pare_round { PARE_ROUND_F32, PARE_ROUND_F16, PARE_ROUND_BF16 } pare_round;

typedef struct pare_qops {
#define PARE_QOP(name, args) void(*name) args;
#include "quant/qops.def"
#undef PARE_QOP
} pare_qops;

extern const pare_qops pare_qops_ref, pare_qops_avx2, pare_qops_avx512;

/* The fastest table this machine (and pare_cpu_limit) allows. */
const pare_qops *pare_qops_get(void);

#endif
