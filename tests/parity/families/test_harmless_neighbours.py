"""What stands next to a seeded mistake and is none: made by the same means, with the right line, it is not flagged."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from parity.families.fault import Fault, replaced
from parity.families.listing import select
from parity.families.nn.batchnorm.faults import scaled_by as channels_scaled_by
from parity.families.nn.normalization.other_factors import groups_scaled_by, scaled_by
from parity.families.whole.training.faults import SCALE
from parity.families.whole.training.loops import loop_of, parts_of
from parity.vectors.catalogue_answers import truths
from parity.verdict.score import score_faults
from refnet.arithmetic import special
from refnet.nn.utils import NOT_CLIPPED
from refnet.train.step import is_mean


def _root(V: Any, eps: Any, *more: Any) -> Any:
    R = 1 / np.sqrt(V + eps)
    return R, -R * R * R / 2


def _saved_copy(module: Any, right: Any, X: Any) -> Any:
    return right(X)[0], right(X.copy())[1]


def _taps_side_by_side(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    A, *_ = saved
    n, g, _, p = A.shape
    dX, grads = right(dY, saved)
    taps = np.concatenate([A[:, j : j + 1] for j in range(g)], axis=-3)
    dW = (dY.reshape(n, g, module.out_channels // g, p) @ taps.mT).sum(axis=-4)
    return dX, {**grads, "weight": dW.reshape(*module.params["weight"].shape)}


def _beta_not_divided_by(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    D, _, _, n = saved
    beta, one, minus = (special.lift(value, D) for value in (module.beta, 1.0, -1.0))
    dL = dY / n if module.reduction == "mean" else dY
    dX = dL * np.where(D > beta, one, np.where(-D > beta, minus, D / np.where(beta == 0, one, beta)))
    return (dX, -dX), {}


def _columns(module: Any, right: Any, X: Any, T: Any) -> Any:
    shape = X.shape
    Y, saved = right(X.reshape(-1, 1), T.reshape(-1, 1))
    return (Y.reshape(*shape) if module.reduction == "none" else Y), (saved, shape)


def _columns_backward(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    inner, shape = saved
    (dX, dT), grads = right(dY.reshape(-1, 1) if module.reduction == "none" else dY, inner)
    return (dX.reshape(*shape), dT.reshape(*shape)), grads


def _in_columns(module: Any) -> None:
    replaced("forward", _columns)(module)
    replaced("backward", _columns_backward)(module)


def _one_by_one(opt: Any, right: Any, grads: Any) -> None:
    for name, grad in grads.items():
        right({name: grad})


def _states_as_they_are(module: Any, right: Any, grad_output: Any, saved: Any) -> Any:
    (dX, *states), grads = right(grad_output, saved)
    return (dX, *(dS + 0 for dS in states)), grads


def _look_ahead(opt: Any, right: Any, name: str, P: Any, G: Any, group: Any) -> None:
    if not group["nesterov"] or group["weight_decay"] or group["maximize"]:
        right(name, P, G, group)
        return
    mu, state = special.lift(group["momentum"], P), opt.state.setdefault(name, {})
    new = "momentum_buffer" not in state
    B = state.setdefault("momentum_buffer", P.copy())
    B[...] = G if new else mu * B + G
    P[...] = P - special.lift(group["lr"], P) * (G + mu * B)


def _weighed_parts(loop: Any, record: Any, k: int) -> Any:
    value, grads = loop.gradients(record.batches[k])
    parts = parts_of(loop, record.batches[k], NOT_CLIPPED)
    if is_mean(loop.update.loss):
        value = sum(L * n for L, _, n in parts) / sum(n for *_, n in parts)
    else:
        value = sum(L for L, *_ in parts)
    loop.step(grads)
    return value


def _scaled_and_unscaled(loop: Any, record: Any, k: int) -> Any:
    right = loop.update.clipping
    loop.update.clipping = NOT_CLIPPED
    value, grads = loop.gradients(record.batches[k])
    loop.update.clipping = right
    loop.step(right.of({name: G * SCALE / SCALE for name, G in grads.items()}))
    return value


NEIGHBOURS: tuple[tuple[str, Fault], ...] = (
    ("LayerNorm", Fault("its own factor", "", "", "", {"LayerNorm": scaled_by(_root)})),
    ("GroupNorm", Fault("its own factor", "", "", "", {"GroupNorm": groups_scaled_by(_root)})),
    ("BatchNorm1d", Fault("its own factor", "", "", "", {"BatchNorm1d": channels_scaled_by(_root)})),
    ("Tanh or SiLU", Fault("a copy", "", "", "", dict.fromkeys(("Tanh", "SiLU"), replaced("forward", _saved_copy)))),
    ("Conv2d/groups*", Fault("side by side", "", "", "", {"Conv2d": replaced("backward", _taps_side_by_side)})),
    ("SmoothL1Loss", Fault("guarded", "", "", "", {"SmoothL1Loss": replaced("backward", _beta_not_divided_by)})),
    ("MSELoss/one axis*", Fault("columns", "", "", "", {"MSELoss": _in_columns})),
    ("LSTMCell/batch*", Fault("states", "", "", "", {"LSTMCell": replaced("backward", _states_as_they_are)})),
    ("Adam/*absent*", Fault("one by one", "", "", "", {"Adam": replaced("step", _one_by_one)})),
    ("SGD/*nesterov*", Fault("look-ahead", "", "", "", {"SGD": replaced("update", _look_ahead)})),
    ("Training/micro*", Fault("weighed parts", "", "", "", train=loop_of(_weighed_parts))),
    ("Training/clipped by the norm*", Fault("unscaled first", "", "", "", train=loop_of(_scaled_and_unscaled))),
)


@pytest.mark.parametrize(("pattern", "neighbour"), NEIGHBOURS, ids=[p for p, _ in NEIGHBOURS])
def test_the_right_line_by_the_same_means_is_not_flagged(pattern: str, neighbour: Fault) -> None:
    (score,) = score_faults([neighbour], select(pattern), truths, ("float64",), trainings=True)
    assert score.caught == 0, score
