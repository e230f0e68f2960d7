"""Mistakes in Dropout; p is the probability of an element to be dropped."""

from __future__ import annotations

from typing import Any

import numpy as np

from parity.families.fault import Fault, replaced
from refnet.arithmetic import special


def _scaled_by_p(module: Any, right: Any, *inputs: Any) -> Any:
    Y, saved = right(*inputs)
    kept = saved.kept
    if kept is None or not 0 < module.p < 1:
        return Y, saved
    q = special.lift(module.p, inputs[0])
    # Y[.] = [kept[.]] X[.] / p
    return np.where(kept, inputs[0] / q, 0), saved._replace(q=q)


def _not_scaled(module: Any, right: Any, *inputs: Any) -> Any:
    Y, saved = right(*inputs)
    # Y[.] = [kept[.]] X[.]
    Y = Y if saved.kept is None else np.where(saved.kept, inputs[0], 0)
    return Y, saved._replace(q=special.lift(1.0, inputs[0]))


def _nothing_kept(module: Any, right: Any, *inputs: Any) -> Any:
    Y, saved = right(*inputs)
    kept = saved.kept
    if kept is None:
        return Y, saved
    q = 1 - special.lift(module.p, inputs[0])
    # Y[.] = ([kept[.]] X[.]) (1 / (1 - p))
    return np.where(kept, inputs[0], 0) * (1 / q), saved._replace(q=q)


def _always(module: Any, right: Any, *inputs: Any) -> Any:
    mode, module.training = module.training, True
    result = right(*inputs)
    module.training = mode
    return result


def _not_masked_backward(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    kept, q, given, *_ = saved
    # dX[.] = dY[.] / (1 - p)
    dX = dY if kept is None else dY / q
    return (dX, None) if given else dX, {}


def _not_scaled_backward(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    kept, _, given, *_ = saved
    # dX[.] = [kept[.]] dY[.]
    dX = dY if kept is None else np.where(kept, dY, 0)
    return (dX, None) if given else dX, {}


FAULTS = (
    Fault(
        "dropout scaled by 1/p",
        "X / p against X / (1 - p) where kept",
        "p other than 1/2",
        "kaldi-asr/kaldi#2814, lmjohns3/theanets#123, ayrna/dlordinal#138",
        {"Dropout": replaced("forward", _scaled_by_p)},
    ),
    Fault(
        "dropout not scaled",
        "X against X / (1 - p) where kept",
        "training mode",
        "kind of bug: a missing factor",
        {"Dropout": replaced("forward", _not_scaled)},
    ),
    Fault(
        "dropout of everything",
        "([kept] X) (1 / (1 - p)), 0 times infinity at p = 1, against 0",
        "p = 1",
        "pytorch/pytorch#190057, pytorch/pytorch#190059",
        {"Dropout": replaced("forward", _nothing_kept)},
    ),
    Fault(
        "dropout in evaluation mode",
        "[kept] X / (1 - p) against X in evaluation mode",
        "evaluation mode",
        "kind of bug: the mode ignored",
        {"Dropout": replaced("forward", _always)},
    ),
    Fault(
        "dropout's mask left out backward",
        "dX = dY / (1 - p) against dX = [kept] dY / (1 - p)",
        "an element that is dropped",
        "kind of bug: a missing factor",
        {"Dropout": replaced("backward", _not_masked_backward)},
    ),
    Fault(
        "dropout's scale left out backward",
        "dX = [kept] dY against dX = [kept] dY / (1 - p)",
        "an element that is kept",
        "kind of bug: a missing factor",
        {"Dropout": replaced("backward", _not_scaled_backward)},
    ),
)
