/* SPDX-License-Identifier: Apache-2.0
 *
 * The parts of the family `gradients` (parity_gradients.c) that are in parity_grad_sums.c. */
#ifndef PARE_TESTS_PARITY_GRAD_H
#define PARE_TESTS_PARITY_GRAD_H

#include "tests/tools/parity.h"

void pc_cases_norm_grads(pc_run *r);
void pc_cases_attention_grads(pc_run *r);

#endif
