# SPDX-License-Identifier: Apache-2.0
"""What pare's refitting of a linear is, in numpy."""
import numpy as np


def ridge(x, target, w, run):
    """w and the step towards least squares with the ridge, both those that do best on the last quarter of each run's tokens."""
    last = np.arange(len(x)) % run >= run - run // 4
    y, best = target - x @ w.T, (0, None, None)
    def step(a, b, r): return b.T @ a @ np.linalg.inv(a.T @ a + r * (a * a).sum() / a.shape[1] * np.eye(a.shape[1]))
    for r in (0.01, 0.1, 1):
        p = x[last] @ step(x[~last], y[~last], r).T
        s = min(1, max(0, (p * y[last]).sum() / (p * p).sum()))
        gain = (y[last] ** 2).sum() - ((y[last] - s * p) ** 2).sum()
        if gain > best[0]: best = (gain, r, s)
    return w + best[2] * step(x, y, best[1])
