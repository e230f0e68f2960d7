"""torch.optim.SGD, as its page says it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
from mpmath import mpf

from parity.families.fault import Optimize
from parity.families.mpmath_arrays import Array, array_of


def _sgd(record: Optimize) -> dict[str, Array]:
    """torch.optim.SGD: the page's algorithm, for each parameter with the arguments of its group."""
    answer: dict[str, Array] = {}
    for names, own in record.groups or ((tuple(record.params), {}),):
        args = {**record.spec.args, **own}
        for name in names:
            theta, grads = record.params[name], record.grads[name]
            paths = {i: _descent(theta[i], grads[:, *i], **args) for i in np.ndindex(*theta.shape)}
            answer[f"update.{name}"] = array_of(grads.shape, lambda t, *i, p=paths: p[i][0][t])
            if args.get("momentum", 0) != 0:
                answer[f"state.{name}.momentum_buffer"] = array_of(grads.shape, lambda t, *i, p=paths: p[i][1][t])
    return answer


def _descent(
    start: Any,
    grads: Array,
    lr: float = 1e-3,
    momentum: float = 0,
    dampening: float = 0,
    weight_decay: float = 0,
    nesterov: bool = False,
    maximize: bool = False,
) -> tuple[list[Any], list[Any]]:
    """By how much one parameter moves at each step, and its buffer after it."""
    gamma, mu, tau, lam = mpf(lr), mpf(momentum), mpf(dampening), mpf(weight_decay)
    thetas, buffers = [mpf(float(start))], [mpf(0)]
    for t, gradient in enumerate(grads, start=1):
        g = -mpf(float(gradient)) if maximize else mpf(float(gradient))
        if lam != 0:
            g = g + lam * thetas[-1]
        if mu != 0:
            b = mu * buffers[-1] + (1 - tau) * g if t > 1 else g
            buffers.append(b)
            g = g + mu * b if nesterov else b
        thetas.append(thetas[-1] - gamma * g)
    return [after - before for before, after in pairwise(thetas)], buffers[1:]


OPTIMIZERS: Mapping[str, Callable[..., Any]] = {"SGD": _sgd}
