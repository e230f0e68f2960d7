"""Mistakes in NAdam. Letters as there: m and v moments, mu_t the schedule, pi its product."""

from __future__ import annotations

from typing import Any

from parity.families.optimizer_faults import common, mistake
from refnet.arithmetic import special


def _one_step_ahead(opt: Any, right: Any, t: Any, P: Any, group: Any) -> Any:
    return right(t + 1, P, group)


def _power_of_two_halves(opt: Any, right: Any, t: Any, P: Any, group: Any) -> Any:
    # mu_t = beta1 (1 - 0.96^(t psi))
    return 2 * right(t, P, group) - special.lift(group["betas"][0], P)


def _moment_overwritten(opt: Any, right: Any, name: str, P: Any, G: Any, group: Any) -> None:
    right(name, P, G, group)
    state = opt.state[name]
    # m[.] = beta1 m[.] / (1 - beta1^t) in the state
    M, beta1 = state["exp_avg"], group["betas"][0]
    M[...] = special.lift(beta1, P) * M / opt.correction(beta1, state["step"], P)


def _product_forgotten(opt: Any, right: Any, name: str, P: Any, G: Any, group: Any) -> None:
    # pi_t = mu_t
    product = opt.kept(name, P, group)["mu_product"]
    product[...] = product * 0 + 1
    right(name, P, G, group)


def _product_of_all(opt: Any, right: Any, name: str, P: Any, G: Any, group: Any) -> None:
    # pi over the steps of all parameters
    first = next(iter(opt.state.values()), None)
    if first is not None:
        opt.kept(name, P, group)["mu_product"][...] = first["mu_product"]
    right(name, P, G, group)


def _not_corrected(opt: Any, right: Any, beta: float, t: Any, P: Any) -> Any:
    return special.lift(1.0, P)


FAULTS = (
    *common("NAdam", narrow=True),
    mistake(
        "NAdam",
        "the schedule one step ahead",
        "mu_(t+1) for mu_t, and mu_(t+2) for mu_(t+1)",
        "momentum_decay",
        "kind of bug: off by one",
        _one_step_ahead,
        "scheduled",
    ),
    mistake(
        "NAdam",
        "the schedule without its half",
        "beta1 (1 - 0.96^(t psi)) against beta1 (1 - 0.96^(t psi) / 2)",
        "any",
        "kind of bug: a missing factor",
        _power_of_two_halves,
        "scheduled",
    ),
    mistake(
        "NAdam",
        "first moment overwritten",
        "m = beta1 m / (1 - beta1^t) in the state against a value of its own",
        "two steps; the state",
        "deeplearning4j/nd4j#1891",
        _moment_overwritten,
    ),
    mistake(
        "NAdam",
        "product forgotten",
        "pi_t = mu_t against mu_1 mu_2 ... mu_t",
        "two steps",
        "kind of bug: state not kept",
        _product_forgotten,
    ),
    mistake(
        "NAdam",
        "one product for all parameters",
        "pi over the steps of all parameters against pi of each",
        "two parameters",
        "DiffSharp/DiffSharp#292, clab/dynet#77",
        _product_of_all,
    ),
    mistake(
        "NAdam",
        "no bias correction of the second moment",
        "sqrt(v) against sqrt(v / (1 - beta2^t))",
        "the first steps",
        "kind of bug: bias correction",
        _not_corrected,
        "correction",
    ),
)
