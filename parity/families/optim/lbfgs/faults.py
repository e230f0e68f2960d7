"""Mistakes in LBFGS. Letters as there: y change of the gradient, s step, h scale of the first guess, d direction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from parity.families.optimizer_faults import mistake
from refnet.arithmetic import special
from refnet.optim import strong_wolfe


def _oldest_first(opt: Any, right: Any, state: Mapping[str, Any], G: Any) -> Any:
    return right({**state, **{key: state[key][::-1] for key in ("old_dirs", "old_stps", "ro")}}, G)


def _no_scale(opt: Any, right: Any, state: Mapping[str, Any], G: Any) -> Any:
    return right({**state, "H_diag": special.lift(1.0, G)}, G)


def _steepest(opt: Any, right: Any, state: Mapping[str, Any], G: Any) -> Any:
    return -G


def _whole_length(opt: Any, right: Any, G: Any, lr: float) -> Any:
    return special.lift(lr, G)


def _largest_element(opt: Any, right: Any, G: Any, lr: float) -> Any:
    # t = min(1, 1 / max |g|) gamma
    return right(special.amax(abs(G), -1).reshape(1), lr)


def _without_length(opt: Any, right: Any, state: dict[str, Any], G: Any, most: int) -> None:
    t = state["t"]
    state["t"] = special.lift(1.0, G)
    right(state, G, most)
    state["t"] = t


def _one_more(opt: Any, right: Any, state: dict[str, Any], G: Any, most: int) -> None:
    right(state, G, most + 1)


def _newest_dropped(opt: Any, right: Any, state: dict[str, Any], G: Any, most: int) -> None:
    right(state, G, most + 1)
    for key in ("old_dirs", "old_stps", "ro"):
        state[key] = state[key][:most]


def _gradient_in_its_memory(opt: Any, right: Any, state: dict[str, Any], G: Any, most: int) -> None:
    # y[.] = g[.] - g[.]
    state["prev_flat_grad"] = G
    right(state, G, most)


def _scale_upside_down(opt: Any, right: Any, state: dict[str, Any], G: Any, most: int) -> None:
    before = len(state["ro"]), state["ro"][-1:]
    right(state, G, most)
    if (len(state["ro"]), state["ro"][-1:]) != before:
        Y, S = state["old_dirs"][-1], state["old_stps"][-1]
        # h = s.s / y.s
        state["H_diag"] = special.total(S * S, -1) / special.total(Y * S, -1)


def _halved(
    opt: Any, right: Any, closure: Any, t: Any, D: Any, start: Any, most: int, tolerance_change: float
) -> tuple[Any, int]:
    origin = {name: P.copy() for name, P in opt.param_groups[0]["params"].items()}
    c1 = special.lift(strong_wolfe.C1, D)
    asked = 0
    while asked < 25:
        asked += 1
        opt.move(t, D)
        _, f, G = opt._evaluated(closure)
        for name, P in opt.param_groups[0]["params"].items():
            P[...] = origin[name]
        if not f > start.f + c1 * t * start.slope:
            break
        # t = t / 2
        t = t / 2
    return strong_wolfe.Point(t, f, G, special.total(G * D, -1)), asked


def _rows(*rows: tuple[str, str, str, str, Any, str]) -> Any:
    return tuple(mistake("LBFGS", *row) for row in rows)


FAULTS = _rows(
    (
        "oldest pair first",
        "oldest to newest, then newest to oldest, against the other way round",
        "two pairs",
        "kind of bug: an order turned round",
        _oldest_first,
        "direction",
    ),
    ("no scale", "1 against h", "a pair", "kind of bug: a missing factor", _no_scale, "direction"),
    ("steepest descent", "-g against -H g", "a pair", "kind of bug: a preconditioner left out", _steepest, "direction"),
    (
        "first step of whole length",
        "gamma against min(1, 1 / sum |g|) gamma",
        "a first gradient of sum |g| above 1",
        "kind of bug: a missing factor",
        _whole_length,
        "first_length",
    ),
    (
        "first step by the largest element",
        "1 / max |g| against 1 / sum |g|",
        "a first gradient of several elements",
        "kind of bug: another norm",
        _largest_element,
        "first_length",
    ),
    (
        "s without the length",
        "d against t d",
        "a step of another length than 1",
        "kind of bug: a missing factor",
        _without_length,
        "remember",
    ),
    (
        "last gradient in the gradient's memory",
        "y = g - g against g - g': g' is the array that the next gradient is written into",
        "two evaluations",
        "shivram1987/diffGrad#2, jettify/pytorch-optimizer#55",
        _gradient_in_its_memory,
        "remember",
    ),
    (
        "one pair more",
        "history_size + 1 pairs against history_size",
        "more steps than history_size",
        "kind of bug: off by one",
        _one_more,
        "remember",
    ),
    (
        "the newest pair dropped",
        "the first pairs against the last",
        "more steps than history_size",
        "kind of bug: the wrong end of a list",
        _newest_dropped,
        "remember",
    ),
    (
        "scale by s.s",
        "s.s / y.s against y.s / y.y",
        "a pair",
        "kind of bug: the other of two scalings",
        _scale_upside_down,
        "remember",
    ),
    (
        "Armijo's condition alone",
        "the first of t, t/2, ... that descends enough against a strong Wolfe point",
        "a line search",
        "kind of bug: one of two conditions",
        _halved,
        "search",
    ),
)
