"""Mistakes in Muon. Letters as there: B buffer, X orthogonalized, s scale."""

from __future__ import annotations

from typing import Any

from parity.families.optimizer_faults import common, mistake, otherwise
from refnet.arithmetic import special


def _scale_turned(opt: Any, right: Any, rows: int, columns: int, group: Any, P: Any) -> Any:
    return right(columns, rows, group, P)


def _no_scale(opt: Any, right: Any, rows: int, columns: int, group: Any, P: Any) -> Any:
    return special.lift(1.0, P)


def _fifth_power_left_out(opt: Any, right: Any, X: Any, group: Any) -> Any:
    a, b, _ = group["ns_coefficients"]
    return right(X, group | {"ns_coefficients": (a, b, 0.0)})


def _one_iteration_more(opt: Any, right: Any, X: Any, group: Any) -> Any:
    return right(X, group | {"ns_steps": group["ns_steps"] + 1})


def _nesterov_without_gradient(opt: Any, right: Any, name: str, P: Any, G: Any, group: Any) -> None:
    right(name, P, G, group | {"nesterov": False})


def _decay_scaled(opt: Any, right: Any, P: Any, group: Any) -> None:
    if group["weight_decay"] != 0:
        s = opt.scale(*P.shape, group, P)
        # theta[.] = theta[.] - s gamma lambda theta[.]
        P[...] = P - s * special.lift(group["lr"], P) * special.lift(group["weight_decay"], P) * P


FAULTS = (
    *common("Muon", decoupled=True, counted=False, narrow=True),
    mistake(
        "Muon",
        "rows and columns exchanged in the scale",
        "sqrt(max(1, m / n)) against sqrt(max(1, n / m))",
        "a matrix that is not square",
        "kind of bug: axes exchanged",
        _scale_turned,
        "scale",
    ),
    mistake(
        "Muon",
        "no scale",
        "1 against s",
        "a matrix that is not square",
        "kind of bug: a missing factor",
        _no_scale,
        "scale",
    ),
    mistake(
        "Muon",
        "the fifth power left out",
        "a X + b A X against a X + (b A + c A A) X",
        "an iteration",
        "kind of bug: a missing term",
        _fifth_power_left_out,
        "orthogonalized",
    ),
    mistake(
        "Muon",
        "one iteration more",
        "k + 1 against k",
        "any",
        "kind of bug: off by one",
        _one_iteration_more,
        "orthogonalized",
    ),
    mistake(
        "Muon",
        "nesterov ignored",
        "B against mu B + (1 - mu) g",
        "nesterov, and two steps",
        "kind of bug: nesterov slips",
        _nesterov_without_gradient,
    ),
    mistake(
        "Muon",
        "decay with the scale of the step",
        "s gamma lambda theta against gamma lambda theta",
        "weight decay, a matrix that is not square",
        "kind of bug: decay scaled or not",
        _decay_scaled,
        "decay",
    ),
    mistake(
        "Muon",
        "eps ignored",
        "|X| against max(|X|, eps)",
        "a gradient smaller than eps",
        "kind of bug: an option ignored",
        otherwise(eps=1e-7),
    ),
)
