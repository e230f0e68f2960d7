"""Mistakes in ASGD. Letters as there: a average, eta rate, mu weight of the average."""

from __future__ import annotations

from typing import Any

import numpy as np

from parity.families.optimizer_faults import common, mistake, otherwise
from refnet.arithmetic import special


def _average_before_the_step(opt: Any, right: Any, name: str, P: Any, G: Any, group: Any) -> None:
    before, state = P.copy(), opt.kept(name, P, group)
    A, mu = state["ax"].copy(), state["mu"].copy()
    right(name, P, G, group)
    # a[.] = a[.] + mu (theta_(t-1)[.] - a[.])
    state["ax"][...] = np.where(mu == 1, before, A + mu * (before - A))


def _average_from_the_start(opt: Any, right: Any, name: str, P: Any, G: Any, group: Any) -> None:
    right(name, P, G, group)
    # mu = 1 / (t + 1)
    state = opt.state[name]
    state["mu"][...] = 1 / (special.lift(state["step"], P) + 1)


def _rate_of_the_next_step(opt: Any, right: Any, name: str, P: Any, G: Any, group: Any) -> None:
    state = opt.kept(name, P, group)
    gamma, lambda_ = special.lift(group["lr"], P), special.lift(group["lambd"], P)
    T = special.lift(state["step"], P) + 1
    state["eta"][...] = gamma / np.power(1 + lambda_ * gamma * T, group["alpha"])
    right(name, P, G, group)


def _decay_of_the_whole_rate(opt: Any, right: Any, name: str, P: Any, G: Any, group: Any) -> None:
    right(name, P, G, group)
    state = opt.state[name]
    gamma, lambda_ = special.lift(group["lr"], P), special.lift(group["lambd"], P)
    # eta = gamma / (1 + lambda t)^alpha
    state["eta"][...] = gamma / np.power(1 + lambda_ * special.lift(state["step"], P), group["alpha"])


FAULTS = (
    *common("ASGD", narrow=True),
    mistake(
        "ASGD",
        "lambd ignored",
        "theta and eta do not decay",
        "lambd",
        "kind of bug: an option ignored",
        otherwise(lambd=0),
    ),
    mistake(
        "ASGD",
        "alpha ignored",
        "alpha = 0.75 against the option",
        "an alpha other than the default",
        "kind of bug: an option ignored",
        otherwise(alpha=0.75),
    ),
    mistake(
        "ASGD",
        "averaging from the start",
        "mu = 1 / (t + 1) against 1 / max(1, t - t0)",
        "any",
        "kind of bug: an option ignored",
        _average_from_the_start,
    ),
    mistake(
        "ASGD",
        "averaging before the step",
        "a of theta_(t-1) against a of theta_t",
        "any",
        "kind of bug: order of operations",
        _average_before_the_step,
    ),
    mistake(
        "ASGD",
        "the rate of the next step",
        "eta_t against eta_(t-1)",
        "lambd",
        "kind of bug: off by one",
        _rate_of_the_next_step,
    ),
    mistake(
        "ASGD",
        "the decay of the rate without the rate",
        "1 + lambda t against 1 + lambda gamma t",
        "lambd, and two steps",
        "kind of bug: a missing factor",
        _decay_of_the_whole_rate,
    ),
)
