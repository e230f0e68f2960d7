"""Mistakes in Adam. Letters as there: theta parameter, g gradient, m and v moments, t step."""

from __future__ import annotations

from typing import Any

import numpy as np

from parity.families.fault import Fault, replaced
from parity.families.optim.adam.formulas import mean, of_both, updating
from parity.families.optimizer_faults import decay_of_index, mistake, otherwise
from refnet.arithmetic import special


def _betas_exchanged(opt: Any, right: Any, name: str, P: Any, G: Any, group: Any) -> None:
    right(name, P, G, group | {"betas": group["betas"][::-1]})


def _other_decay(opt: Any, right: Any, name: str, P: Any, G: Any, group: Any) -> None:
    right(name, P, G, group | {"decoupled_weight_decay": not group["decoupled_weight_decay"]})


def _defaults_for_all(opt: Any, right: Any, name: str, P: Any, G: Any, group: Any) -> None:
    right(name, P, G, opt.defaults | {"params": group["params"]})


def _one_counter(opt: Any, right: Any, name: str, P: Any, G: Any, group: Any) -> None:
    # t = 1, 2, ... over all parameters
    counter = opt.kept(name, P, group)["step"]
    counter[...] = max(int(kept["step"]) for kept in opt.state.values())
    right(name, P, G, group)


def _counter_of_the_last(opt: Any, right: Any, grads: Any) -> None:
    opt.due(grads)
    for group in opt.param_groups:
        moved = {name: P for name, P in group["params"].items() if grads.get(name) is not None}
        counters = {name: opt.kept(name, P, group)["step"] for name, P in moved.items()}
        before = {name: counter.copy() for name, counter in counters.items()}
        for name, P in moved.items():
            # t = that of the last parameter that has a gradient, which alone counts
            counters[name][...] = before[list(moved)[-1]]
            opt.update(name, P, grads[name], group)
            if name != list(moved)[-1]:
                counters[name][...] = before[name]


def _absent_as_zero(opt: Any, right: Any, grads: Any) -> None:
    params = {name: P for group in opt.param_groups for name, P in group["params"].items()}
    # g[.] = 0 where there is none
    right({name: grads[name] if grads.get(name) is not None else P * 0 for name, P in params.items()})


def _decay_without_gradient(opt: Any, right: Any, grads: Any) -> None:
    for group in opt.param_groups:
        for name, P in group["params"].items():
            if grads.get(name) is None and group["decoupled_weight_decay"]:
                # theta[.] = theta[.] - alpha lambda theta[.]
                P[...] = P - special.lift(group["lr"], P) * special.lift(group["weight_decay"], P) * P
    right(grads)


def _corrected_in_place(M: Any, C1: Any) -> None:
    M[...] = M / C1


def _adam(name: str, what: str, reveal: str, source: str, by: Any, method: str = "update") -> Fault:
    return Fault(f"Adam: {name}", what, reveal, source, of_both(replaced(method, by)))


FAULTS = (
    _adam(
        "eps inside the root",
        "m / sqrt(v + eps) against m / (sqrt(v) + eps)",
        "a gradient of which the square is about eps, or a large eps",
        "kind of bug: eps placement; a convention elsewhere, optax's eps_root",
        updating(quotient=lambda M, U, C1, C2, eps: M / C1 / np.sqrt(U / C2 + eps)),
    ),
    _adam(
        "eps left out",
        "m / sqrt(v) against m / (sqrt(v) + eps)",
        "a gradient about as small as eps, or of zero",
        "kind of bug: a missing term",
        updating(quotient=lambda M, U, C1, C2, eps: M / C1 / np.sqrt(U / C2)),
    ),
    _adam(
        "no bias correction",
        "m / (sqrt(v) + eps) against mhat / (sqrt(vhat) + eps)",
        "the first steps",
        "NVIDIA/apex#1124",
        updating(quotient=lambda M, U, C1, C2, eps: M / (np.sqrt(U) + eps)),
    ),
    _adam(
        "no bias correction of the second moment",
        "mhat / (sqrt(v) + eps) against mhat / (sqrt(vhat) + eps)",
        "the first steps",
        "kind of bug: bias correction",
        updating(quotient=lambda M, U, C1, C2, eps: M / C1 / (np.sqrt(U) + eps)),
    ),
    _adam(
        "bias correction twice",
        "m / (1 - beta1^t)^2 against m / (1 - beta1^t)",
        "the first steps",
        "kind of bug: bias correction",
        updating(quotient=lambda M, U, C1, C2, eps: M / C1 / C1 / (np.sqrt(U / C2) + eps)),
    ),
    _adam(
        "bias correction of a bias correction",
        "m / (1 - (1 - beta1^t)) against m / (1 - beta1^t)",
        "any",
        "kozistr/pytorch_optimizer#308",
        updating(correction=lambda beta, t, P: 1 - special.one_minus_power(beta, t, P)),
    ),
    _adam(
        "bias correction in place",
        "m = m / (1 - beta1^t) in the state against a value of its own",
        "two steps; the state",
        "frgfm/holocron#1",
        updating(moved=_corrected_in_place),
    ),
    _adam(
        "bias correction one step ahead",
        "1 - beta^(t + 1) against 1 - beta^t",
        "the first steps",
        "kind of bug: off by one",
        updating(correction=lambda beta, t, P: special.one_minus_power(beta, t + 1, P)),
    ),
    _adam(
        "no root",
        "m / (v + eps) against m / (sqrt(v) + eps)",
        "a gradient other than 1",
        "kind of bug: square against root",
        updating(quotient=lambda M, U, C1, C2, eps: M / C1 / (U / C2 + eps)),
    ),
    _adam(
        "first moment as a momentum",
        "m = beta1 m + g against beta1 m + (1 - beta1) g",
        "any",
        "kind of bug: momentum against a moving average; the other way about in ml-explore/mlx#87",
        updating(first=lambda M, beta, G: special.lift(beta, G) * M + G),
    ),
    mistake(
        "Adam",
        "second moment without the decay",
        "v of dtheta against v of dtheta + lambda theta",
        "weight decay",
        "kind of bug: decay not in the history",
        updating(second=lambda V, beta, G, raw: mean(V, beta, raw * raw)),
    ),
    _adam(
        "second moment of magnitudes",
        "v = beta2 v + (1 - beta2) |g| against g^2",
        "a gradient other than 1",
        "kind of bug: a missing square",
        updating(second=lambda V, beta, G, raw: mean(V, beta, np.where(G >= 0, G, -G))),
    ),
    _adam(
        "betas exchanged",
        "beta2 for m and beta1 for v against beta1 for m and beta2 for v",
        "any",
        "kind of bug: arguments in another order",
        _betas_exchanged,
    ),
    mistake(
        "Adam",
        "decay of the other kind",
        "AdamW for Adam, and Adam for AdamW",
        "weight decay",
        "flagos-ai/FlagGems#4988, ai2cm/ace#661",
        _other_decay,
    ),
    mistake(
        "Adam",
        "weight decay of an index",
        "g + lambda k against g + lambda theta, k the number of the parameter",
        "weight decay",
        "mlverse/torch#821",
        decay_of_index,
    ),
    _adam(
        "weight decay ignored",
        "g against g + lambda theta",
        "weight decay",
        "kozistr/pytorch_optimizer#517",
        otherwise(weight_decay=0),
    ),
    _adam(
        "amsgrad ignored",
        "v against the largest v so far; the state lacks an array",
        "amsgrad",
        "kind of bug: an option ignored",
        otherwise(amsgrad=False),
    ),
    _adam(
        "maximize ignored",
        "g against -g",
        "maximize",
        "kozistr/pytorch_optimizer#528",
        otherwise(maximize=False),
    ),
    _adam(
        "options of a group ignored",
        "the defaults against the group's own options",
        "groups with options of their own",
        "kind of bug: an option ignored",
        _defaults_for_all,
    ),
    _adam(
        "one counter for all parameters",
        "t = 1, 2, ... over all parameters against t of each",
        "two parameters",
        "DiffSharp/DiffSharp#292, clab/dynet#77",
        _one_counter,
    ),
    _adam(
        "counter of the last parameter for all",
        "t of the last parameter that has a gradient, which alone counts, against t of each",
        "two parameters",
        "deepspeedai/DeepSpeed#8471",
        _counter_of_the_last,
        "step",
    ),
    _adam(
        "absent gradient as zero",
        "the moments and t move without a gradient against nothing moves",
        "a gradient that is absent",
        "kind of bug: None against zero",
        _absent_as_zero,
        "step",
    ),
    _adam(
        "decay without a gradient",
        "theta - alpha lambda theta without a gradient against nothing moves",
        "a gradient that is absent, and decoupled weight decay",
        "KellerJordan/Muon#54",
        _decay_without_gradient,
        "step",
    ),
)
