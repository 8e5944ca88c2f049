/* SPDX-License-Identifier: Apache-2.0
 *
 * The inner loops of the storage formats, compiled for any processor. */
#define PARE_QOPS_TABLE pare_qops_ref
#include "quant/qops_impl.h"
