"""torch.nn.CrossEntropyLoss, as its page says it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from mpmath import mp, mpf

from parity.families.mpmath_arrays import Array, Index, Module, array_of, ratio, reduced
from parity.families.nn.activation.transcription import log_softmax


def cross_entropy_loss(
    m: Module, x: Array, target: Array, ignore_index: int = -100, reduction: str = "mean", label_smoothing: float = 0.0
) -> Array:
    """torch.nn.CrossEntropyLoss, of logits (C), (N, C) or (N, C, d1, ...); n runs through all but the classes.

    - class indices y_n: l_n = -w_y log p_ny if y_n ≠ ignore_index, else 0; a mean divides by the sum of the w_y of
      those n.
    - class probabilities y_nc: l_n = -sum over c of w_c log p_nc y_nc; a mean divides by the number of n.

    p is the softmax. The page gives label smoothing ε in words: the target becomes a mixture of itself and the uniform
    distribution, as in <https://arxiv.org/abs/1512.00567>, so y_nc becomes (1 - ε) y_nc + ε / C, where an index is the
    distribution that has all its mass at one class.
    """
    dim = 0 if x.ndim == 1 else 1
    C, samples = x.shape[dim], (*x.shape[:dim], *x.shape[dim + 1 :])
    w = m.arrays.get("weight", array_of((C,), lambda c: mpf(1)))
    log_p = log_softmax(m, x, dim)
    by_index = target.dtype.kind in "iu"

    def counts(n: Index) -> bool:
        return not by_index or bool(target[n] != ignore_index)

    def y(n: Index, c: int) -> Any:
        mass = mpf(int(target[n] == c)) if by_index else target[*n[:dim], c, *n[dim:]]
        return (1 - mpf(label_smoothing)) * mass + mpf(label_smoothing) / C

    def loss(*n: int) -> Any:
        return -mp.fsum(w[c] * log_p[*n[:dim], c, *n[dim:]] * y(n, c) for c in range(C)) if counts(n) else mpf(0)

    losses = array_of(samples, loss)
    if by_index and reduction == "mean":
        weights = mp.fsum(w[target[n]] for n in np.ndindex(*samples) if counts(n))
        return array_of((), lambda: ratio(mp.fsum(losses.flat), weights))
    return reduced(losses, reduction)


LAYERS: Mapping[str, Callable[..., Any]] = {
    "CrossEntropyLoss": cross_entropy_loss,
}
