/* SPDX-License-Identifier: Apache-2.0
 *
 * Bodies of quant/qops.def. Included by qops_ref.c, qops_avx2.c and qops_avx512.c, which define PARE_QOPS_TABLE; plain
 * loops here are element by element, so that the compiler's vectors change no bit. */
#include "quant/qops.h"

#include "core/qtype.h"
#include "quant/lanes.h"

#include <string.h>

#include "quant/decode_impl.h"
#include "quant/snap_impl.h"
#include "quant/iq4_impl.h"
#include "quant/search_impl.h"

const pare_qops PARE_QOPS_TABLE = {
#define PARE_QOP(name, args) .name = name,
#include "quant/qops.def"
#undef PARE_QOP
};
