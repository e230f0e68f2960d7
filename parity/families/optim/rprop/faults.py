"""Mistakes in Rprop. Letters as there: g gradient, c sign of the product, d step."""

from __future__ import annotations

from typing import Any

import numpy as np

from parity.families.optimizer_faults import common, mistake


def _gradient_kept(opt: Any, right: Any, name: str, P: Any, G: Any, group: Any) -> None:
    right(name, P, G, group)
    opt.state[name]["prev"][...] = -G if group["maximize"] else G


def _etas_exchanged(opt: Any, right: Any, name: str, P: Any, G: Any, group: Any) -> None:
    group = group | {"etas": group["etas"][::-1]}
    right(name, P, G, group)


def _not_bounded(opt: Any, right: Any, name: str, P: Any, G: Any, group: Any) -> None:
    right(name, P, G, group | {"step_sizes": (0.0, 1e300 if P.dtype == np.float64 else 1e30)})


def _largest_ignored(opt: Any, right: Any, name: str, P: Any, G: Any, group: Any) -> None:
    right(name, P, G, group | {"step_sizes": (group["step_sizes"][0], 50)})


def _never_turns(opt: Any, right: Any, G: Any, before: Any) -> Any:
    C = right(G, before)
    # c[.] = |c[.]|
    return np.where(C < 0, -C, C)


def _step_not_shrunk(opt: Any, right: Any, name: str, P: Any, G: Any, group: Any) -> None:
    D = opt.kept(name, P, group)["step_size"].copy()
    right(name, P, G, group)
    # d[.] of the step before
    opt.state[name]["step_size"][...] = np.where(opt.state[name]["step_size"] < D, D, opt.state[name]["step_size"])


def _rate_ignored(opt: Any, right: Any, name: str, P: Any, G: Any, group: Any) -> None:
    if name not in opt.state:
        opt.kept(name, P, group | {"lr": 0.01})
    right(name, P, G, group)


def _gradient_in_its_memory(opt: Any, right: Any, name: str, P: Any, G: Any, group: Any) -> None:
    if name in opt.state:
        # What was written since into the memory of the gradient
        opt.state[name]["prev"][...] = -G if group["maximize"] else G
    right(name, P, G, group)


FAULTS = (
    *common("Rprop", counted=False),
    mistake(
        "Rprop",
        "gradient kept where the sign has changed",
        "g' = g against 0, so that the step shrinks twice",
        "a sign that changes, and two steps",
        "kind of bug: state; the form before iRprop-",
        _gradient_kept,
    ),
    mistake(
        "Rprop",
        "last gradient in the gradient's memory",
        "c = sign(g)^2 against sign(g) sign(g'): g' is the array that the next gradient is written into",
        "a sign that changes",
        "shivram1987/diffGrad#2, jettify/pytorch-optimizer#55",
        _gradient_in_its_memory,
    ),
    mistake(
        "Rprop",
        "etas exchanged",
        "eta- for growing steps, eta+ for shrinking ones",
        "two steps",
        "kind of bug: arguments in another order",
        _etas_exchanged,
    ),
    mistake(
        "Rprop",
        "steps not bounded",
        "d without its bounds",
        "a step at a bound",
        "kind of bug: an option ignored",
        _not_bounded,
    ),
    mistake(
        "Rprop",
        "largest step ignored",
        "at most 50 against the option",
        "a step at its largest",
        "kind of bug: an option ignored",
        _largest_ignored,
    ),
    mistake(
        "Rprop",
        "a change of sign not seen",
        "c = |c|",
        "a sign that changes",
        "kind of bug: sign",
        _never_turns,
        "sign_of_product",
    ),
    mistake(
        "Rprop",
        "steps do not shrink",
        "d = max(d, d') in the state",
        "a sign that changes",
        "kind of bug: state",
        _step_not_shrunk,
    ),
    mistake(
        "Rprop",
        "first step of 0.01",
        "d_0 = 0.01 against the rate",
        "a rate other than the default",
        "kind of bug: an option ignored",
        _rate_ignored,
    ),
)
