"""Mistakes in Lion. Letters as there: g gradient, m mean, c what the sign is taken of."""

from __future__ import annotations

from typing import Any

import numpy as np

from parity.families.optimizer_faults import common, mistake
from refnet.arithmetic import special


def _betas_exchanged(opt: Any, right: Any, name: str, P: Any, G: Any, group: Any) -> None:
    right(name, P, G, group | {"betas": group["betas"][::-1]})


def _one_beta(opt: Any, right: Any, name: str, P: Any, G: Any, group: Any) -> None:
    right(name, P, G, group | {"betas": (group["betas"][0],) * 2})


def _updating(direction: Any) -> Any:
    def update(opt: Any, right: Any, name: str, P: Any, G: Any, group: Any) -> None:
        M, (beta1, beta2) = opt.kept(name, P, group)["exp_avg"], group["betas"]
        opt.decay(P, group)
        C, after = opt.moving_average(M, beta1, G), opt.moving_average(M, beta2, G)
        P[...] = P - special.lift(group["lr"], P) * direction(C, after, G)
        M[...] = after

    return update


def _sign(X: Any) -> Any:
    one, zero = special.lift(1.0, X), special.lift(0.0, X)
    return np.where(X > 0, one, np.where(X < 0, -one, zero))


def _decay_not_scaled(opt: Any, right: Any, P: Any, group: Any) -> None:
    # theta[.] = theta[.] - lambda theta[.]
    P[...] = P - special.lift(group["weight_decay"], P) * P


FAULTS = (
    *common("Lion", decoupled=True, counted=False),
    mistake("Lion", "no sign", "c against sign(c)", "any", "kind of bug: a missing sign", _updating(lambda C, M, G: C)),
    mistake(
        "Lion",
        "sign of the mean",
        "sign(m_t) against sign(c_t)",
        "signs that change",
        "kind of bug: order of operations",
        _updating(lambda C, M, G: _sign(M)),
    ),
    mistake(
        "Lion",
        "sign of the gradient",
        "sign(g) against sign(c)",
        "signs that change",
        "kind of bug: signSGD for Lion",
        _updating(lambda C, M, G: _sign(G)),
    ),
    mistake(
        "Lion",
        "betas exchanged",
        "beta2 for c and beta1 for m",
        "any",
        "kind of bug: arguments in another order",
        _betas_exchanged,
    ),
    mistake("Lion", "one beta", "beta1 for m too", "any", "kind of bug: an option ignored", _one_beta),
    mistake(
        "Lion",
        "decay not scaled by the rate",
        "lambda theta against eta lambda theta",
        "weight decay",
        "kind of bug: decay scaled by the rate or not",
        _decay_not_scaled,
        "decay",
    ),
)
