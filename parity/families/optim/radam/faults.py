"""Mistakes in RAdam. Letters as there: m and v moments, r_t rectification, rho_t length."""

from __future__ import annotations

from typing import Any

import numpy as np

from parity.families.optim.radam.formulas import rectifying, updating
from parity.families.optimizer_faults import common, mistake
from refnet.arithmetic import special


def _not_rectified(opt: Any, right: Any, beta2: float, t: Any, P: Any) -> Any:
    r = right(beta2, t, P)
    return np.where(r > 0, special.lift(1.0, P), r)


def _no_root(opt: Any, right: Any, beta2: float, t: Any, P: Any) -> Any:
    r = right(beta2, t, P)
    return np.where(r > 0, r * r, r)


def _always_divided(opt: Any, right: Any, beta2: float, t: Any, P: Any) -> Any:
    r = right(beta2, t, P)
    return np.where(r > 0, r, special.lift(1.0, P))


def _corrected_in_place(M: Any, C1: Any) -> None:
    M[...] = M / C1


FAULTS = (
    *common("RAdam"),
    mistake(
        "RAdam",
        "not rectified",
        "r_t = 1 against the root",
        "six steps",
        "kind of bug: a missing factor",
        _not_rectified,
        "rectification",
    ),
    mistake(
        "RAdam",
        "no root of the rectification",
        "r_t^2 against r_t",
        "six steps",
        "kind of bug: square against root",
        _no_root,
        "rectification",
    ),
    mistake(
        "RAdam",
        "divided from the first step",
        "the first steps as in Adam against steps that are not divided",
        "any",
        "kind of bug: a missing branch",
        _always_divided,
        "rectification",
    ),
    mistake(
        "RAdam",
        "the length one step ahead",
        "rho_(t+1) against rho_t",
        "five steps",
        "kind of bug: off by one",
        rectifying(ahead=1),
        "rectification",
    ),
    mistake(
        "RAdam",
        "bias correction in place",
        "m = m / (1 - beta1^t) in the state against a value of its own",
        "two steps; the state",
        "frgfm/holocron#1",
        updating(moved=_corrected_in_place),
    ),
    mistake(
        "RAdam",
        "no bias correction",
        "m against m / (1 - beta1^t)",
        "the first steps",
        "kind of bug: bias correction",
        updating(first=lambda M, C1: M),
    ),
)
