/* SPDX-License-Identifier: Apache-2.0
 *
 * Parity: one model on two devices, node by node. The two runs go in step, each in its own thread: after a node, the
 * second device's output is compared with the first one's, whole, and then replaced by it. So both devices compute
 * every node from the same inputs, errors do not pile up, and a node that differs by more than kernels may is at fault
 * itself. Nothing is stored but one line per node.
 *
 * diverges (also docs/verify.md): SQNR below PARE_PARITY_FLOOR_DB; or one channel (index of the last dimension, what a
 * row of weights makes) is worse than PARE_PARITY_CHANNEL_DB and PARE_PARITY_OUTLIER_DB worse than the median channel.
 *   - f32 sums in another order agree to 112 dB or more (normal numbers, a running sum over 16,384 columns), values
 *     rounded once more to f16 to 74 dB, to bf16 to 56 dB, which no backend may do to f32 activations: the floor is 60.
 *   - a scale wrong by its last bit in one group of one row leaves the node at 92 dB or more and that row at 72 dB (16
 *     groups in a row) to 88 dB (512), or 91 dB where the group's codes are small (measured): hence a rule for
 *     channels, at 100. Noise is alike in all channels (within 3 dB): 20 dB tell a wrong row from noise. */
#ifndef PARE_VERIFY_PARITY_H
#define PARE_VERIFY_PARITY_H

#include "graph/exec.h"
#include "verify/report.h"

#define PARE_PARITY_FLOOR_DB   60.0
#define PARE_PARITY_CHANNEL_DB 100.0
#define PARE_PARITY_OUTLIER_DB 20.0
#define PARE_PARITY_CHANNELS   8 /* fewer have no meaningful median */

typedef struct pare_parity_view pare_parity_view;

pare_parity_view *pare_parity_new(void); /* NULL: out of memory */
void pare_parity_free(pare_parity_view **v);
/* Node hooks of the run on the first and on the second device, over the same graph. Each waits for the other. */
bool pare_parity_first(void *view, int node, const char *name, pare_op op, const pare_tensor *out);
bool pare_parity_second(void *view, int node, const char *name, pare_op op, const pare_tensor *out);
/* The run of device 0 or 1 is over, well or not: the other one waits no more. */
void pare_parity_end(pare_parity_view *v, int device);
/* Puts the nodes into r as model's (0 original, 1 reduced). fails: PARE_ERR_INPUT naming a node with NaN or Inf. */
pare_status pare_parity_finish(pare_parity_view *v, int model, pare_verify_report *r, pare_diag *d);

/* Compares rows x cols numbers and judges; scratch: 3 * cols doubles. *bad: -1, or the side (0 p, 1 q) with a NaN or
 * Inf. */
void pare_parity_compare(const float *p, const float *q, size_t rows, size_t cols, double *scratch,
                         pare_parity_node *out, int *bad);

#endif
