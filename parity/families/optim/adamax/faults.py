"""Mistakes in Adamax. Letters as there: g gradient, m mean, u largest magnitude."""

from __future__ import annotations

from typing import Any

import numpy as np

from parity.families.optim.adamax.formulas import updating
from parity.families.optimizer_faults import common, mistake
from refnet.arithmetic import special


def _corrected_in_place(M: Any, C1: Any) -> None:
    M[...] = M / C1


FAULTS = (
    *common("Adamax"),
    mistake(
        "Adamax",
        "no bias correction",
        "gamma m / u against gamma / (1 - beta1^t) m / u",
        "the first steps",
        "NVIDIA/apex#1124",
        updating(first=1),
    ),
    mistake(
        "Adamax",
        "bias correction of the largest",
        "m / (u / (1 - beta2^t)) against m / u",
        "the first steps",
        "kind of bug: bias correction",
        updating(divisor=lambda U, eps, C2: U / C2),
    ),
    mistake(
        "Adamax",
        "bias correction in place",
        "m = m / (1 - beta1^t) in the state against a value of its own",
        "two steps; the state",
        "frgfm/holocron#1, deeplearning4j/nd4j#1891",
        updating(moved=_corrected_in_place),
    ),
    mistake(
        "Adamax",
        "the largest without decay",
        "max(u, |g| + eps) against max(beta2 u, |g| + eps)",
        "gradients that become smaller",
        "kind of bug: a missing factor",
        updating(largest=lambda U, beta2, G, eps: special.maximum(U, np.absolute(G) + eps)),
    ),
    mistake(
        "Adamax",
        "the largest of signed gradients",
        "max(beta2 u, g + eps) against max(beta2 u, |g| + eps)",
        "a gradient below zero",
        "kind of bug: a missing magnitude",
        updating(largest=lambda U, beta2, G, eps: special.maximum(beta2 * U, G + eps)),
    ),
)
