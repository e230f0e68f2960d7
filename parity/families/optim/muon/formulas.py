"""Other formulas of Muon. Letters as there: B buffer, X orthogonalized."""

from __future__ import annotations

from typing import Any

import numpy as np

from parity.families.fault import replaced
from parity.families.formula import Variant
from parity.families.optim.common.formulas import power_in_format
from refnet.arithmetic import special
from refnet.arithmetic.array_like import Undecided
from refnet.arithmetic.runs import Runs


def _summed(opt: Any, right: Any, M: Any, beta: float, X: Any) -> Any:
    # b[.] = mu b[.] + g[.]
    return special.lift(beta, X) * M + X


def rounded(X: Any) -> Any:
    """Rounded to bfloat16, and to be computed with in it; in exact arithmetic all stays."""
    if isinstance(X, Runs):
        return Runs(rounded(X.a))
    if hasattr(X, "profile"):
        narrow = X.profile.of("bfloat16", "float32")
        moved = X.e + narrow.storage.u * (abs(X.x) + X.e) + narrow.storage.tiny
        return type(X).exact(X.x, narrow, np.where((X.x == 0) & (X.e == 0), 0.0, moved))
    if X.dtype == object:
        return X
    # To the nearest number of 8 bits, to even where two are as near: the upper half of float32.
    bits = X.astype(np.float32).view(np.uint32).astype(np.uint64)
    bits = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16 << 16
    return bits.astype(np.uint32).view(np.float32).astype(X.dtype)


def _in_bfloat16(opt: Any, right: Any, X: Any, group: Any) -> Any:
    made = rounded(right(rounded(X), group))
    return type(X).exact(made.x, X.profile, made.e) if hasattr(X, "profile") else made


def _of_optax(opt: Any) -> None:
    steps: dict[str, int] = {}

    def update(opt: Any, right: Any, name: str, P: Any, G: Any, group: Any) -> None:
        if name in opt.state and name not in steps:
            raise Undecided(f"Muon keeps no count of steps: what the correction of {name} is cannot be told")
        t = steps[name] = steps.get(name, 0) + 1
        gamma, mu, (rows, columns) = special.lift(group["lr"], P), group["momentum"], P.shape
        B = opt.kept(name, P, group)["momentum_buffer"]
        B[...] = opt.moving_average(B, mu, G)
        if group["nesterov"]:
            # x[i,j] = mu b[i,j] / (1 - mu^(t+1)) + (1 - mu) g[i,j] / (1 - mu^t)
            X = opt.moving_average(B / power_in_format(mu, t + 1, P), mu, G / power_in_format(mu, t, P))
        else:
            # x[i,j] = b[i,j] / (1 - mu^t)
            X = B / power_in_format(mu, t, P)
        X = opt.orthogonalized(X, group)
        opt.decay(P, group)
        P[...] = P - gamma * opt.scale(rows, columns, group, P) * X

    replaced("update", update)(opt)
    replaced("normalized", _eps_added)(opt)


def _eps_added(opt: Any, right: Any, X: Any, group: Any) -> Any:
    # x[i,j] = x[i,j] / (|x| + eps)
    return X / (np.sqrt(special.total(X * X, (-2, -1), keepdims=True)) + special.lift(group["eps"], X))


WEAKER = (
    Variant(
        "Newton-Schulz in bfloat16",
        "The iterations in bfloat16 for parameters of every dtype: an update has two digits. How far it may be off "
        "grows by about 28 with each iteration of the default coefficients: after two of them nothing is proved.",
        "torch: torch/optim/_muon.py, _zeropower_via_newtonschulz, grad.bfloat16()",
        {"Muon": replaced("orthogonalized", _in_bfloat16)},
        ("torch",),
        narrow=True,
    ),
)

CONVENTIONS = (
    Variant(
        "momentum as a sum",
        "B = mu B + g and X = g + mu B in place of means: the same direction, another buffer.",
        "the documentation of torch.optim.Muon, whose code computes the means",
        {"Muon": replaced("moving_average", _summed)},
    ),
    Variant(
        "eps added to the norm",
        "X / (|X| + eps) in place of X / max(|X|, eps).",
        "K. Jordan's muon.py, zeropower_via_newtonschulz5: X.norm() + 1e-7",
        {"Muon": replaced("normalized", _eps_added)},
    ),
    Variant(
        "momentum with its bias corrected, eps added to the norm",
        "X = mu B / (1 - mu^(t+1)) + (1 - mu) g / (1 - mu^t) in place of mu B + (1 - mu) g with nesterov, as in NAdam: "
        "another direction in the first steps. Without nesterov X = B / (1 - mu^t), the same direction. Then "
        "X / (|X| + eps).",
        "optax.contrib.muon: optax/contrib/_muon.py, scale_by_muon and orthogonalize_via_newton_schulz",
        {"Muon": _of_optax},
        ("jax",),
    ),
)
