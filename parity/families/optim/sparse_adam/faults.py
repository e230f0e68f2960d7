"""Mistakes in SparseAdam. Letters as there: m and v moments, g gradient, r rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from parity.families.optimizer_faults import common, mistake, otherwise
from refnet.arithmetic import special
from refnet.arithmetic.sparse_gradient import SparseGradient


def _last_one_counts(opt: Any, right: Any, name: str, P: Any, G: Any, group: Any) -> None:
    indices, values = G
    places = np.atleast_2d(indices)
    kept = sorted({tuple(places[:, k].tolist()): k for k in range(places.shape[-1])}.values())
    right(name, P, SparseGradient(indices[..., kept], values[kept]), group)


def _moments_of_all_rows(opt: Any, right: Any, name: str, P: Any, G: Any, group: Any) -> None:
    state, before = opt.kept(name, P, group), {key: kept.copy() for key, kept in opt.kept(name, P, group).items()}
    right(name, P, G, group)
    for key, beta in zip(("exp_avg", "exp_avg_sq"), group["betas"], strict=True):
        # m[.] = beta m[.] of the rows that have no gradient
        rows = np.ones(P.shape, bool)
        rows[tuple(np.atleast_2d(G[0]))] = False
        state[key][...] = np.where(rows, special.lift(beta, P) * before[key], state[key])


def _squares_added(opt: Any, right: Any, V: Any, beta: float, X: Any) -> Any:
    # v[r,.] = beta v[r,.] + (1 - beta) |g[r,.]|
    return opt.moving_average(V, beta, np.absolute(X))


def _no_correction(opt: Any, right: Any, beta: float, t: Any, P: Any) -> Any:
    return special.lift(1.0, P)


def _counted_with_rows_alone(opt: Any, right: Any, name: str, P: Any, G: Any, group: Any) -> None:
    if G[1].size:
        right(name, P, G, group)
    else:
        opt.kept(name, P, group)


FAULTS = (
    *(fault for fault in common("SparseAdam") if not fault.name.endswith(("as zero", "undone"))),
    mistake(
        "SparseAdam",
        "of equal indices the last counts",
        "the last of the values of one row against their sum",
        "a row that comes twice in one gradient",
        "kind of bug: a sparse gradient that is not coalesced",
        _last_one_counts,
    ),
    mistake(
        "SparseAdam",
        "moments of all rows decay",
        "beta m of the rows without a gradient against m",
        "a row without a gradient after one with",
        "kind of bug: lazy moments or not",
        _moments_of_all_rows,
    ),
    mistake(
        "SparseAdam",
        "no square",
        "|g| against g^2",
        "any",
        "kind of bug: a missing factor",
        _squares_added,
        "moving_average_of_squares",
    ),
    mistake(
        "SparseAdam",
        "no bias correction",
        "1 against 1 - beta^t",
        "the first steps",
        "kind of bug: bias correction left out",
        _no_correction,
        "correction",
    ),
    mistake(
        "SparseAdam",
        "a step without rows does not count",
        "t of the steps with rows against t of all",
        "a gradient without rows",
        "kind of bug: a counter that stands still",
        _counted_with_rows_alone,
    ),
    mistake(
        "SparseAdam",
        "eps ignored",
        "sqrt(v) + 1e-30 against sqrt(v) + eps",
        "a gradient of the size of eps",
        "kind of bug: an option ignored",
        otherwise(eps=1e-30),
    ),
    mistake(
        "SparseAdam",
        "maximize ignored",
        "g against -g",
        "maximize",
        "kind of bug: an option ignored",
        otherwise(maximize=False),
    ),
)
