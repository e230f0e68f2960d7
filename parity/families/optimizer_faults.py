"""Mistakes that can be made in any optimizer: a class lists those that bear on it, under its own name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

import refnet
from parity.families.fault import Fault, replaced
from refnet.arithmetic import special


def otherwise(**options: Any) -> Any:
    """The update with some options other than they are."""

    def update(opt: Any, right: Any, name: str, P: Any, G: Any, group: Any) -> None:
        right(name, P, G, group | options)

    return update


def _defaults_for_all(opt: Any, right: Any, name: str, P: Any, G: Any, group: Any) -> None:
    right(name, P, G, opt.defaults | {"params": group["params"]})


def _maximized_twice(opt: Any, right: Any, name: str, P: Any, G: Any, group: Any) -> None:
    right(name, P, -G if group["maximize"] else G, group)


def _absent_as_zero(opt: Any, right: Any, grads: Any) -> None:
    params = {name: P for group in opt.param_groups for name, P in group["params"].items()}
    # g[.] = 0 where there is none
    right({name: grads[name] if grads.get(name) is not None else P * 0 for name, P in params.items()})


def _one_counter(opt: Any, right: Any, name: str, P: Any, G: Any, group: Any) -> None:
    # t = 1, 2, ... over all parameters
    counter = opt.kept(name, P, group)["step"]
    counter[...] = max(int(kept["step"]) for kept in opt.state.values())
    right(name, P, G, group)


def _state_cleared(opt: Any, right: Any, name: str, P: Any, G: Any, group: Any) -> None:
    opt.state.pop(name, None)
    right(name, P, G, group)


def _decoupled(opt: Any, right: Any, name: str, P: Any, G: Any, group: Any) -> None:
    opt.decay(P, group)
    right(name, P, G, group | {"weight_decay": 0})


def _coupled(opt: Any, right: Any, name: str, P: Any, G: Any, group: Any) -> None:
    if group["weight_decay"] != 0:
        # g[.] = g[.] + lambda theta[.]
        G = G + special.lift(group["weight_decay"], P) * P
    right(name, P, G, group | {"weight_decay": 0})


def decay_of_index(opt: Any, right: Any, name: str, P: Any, G: Any, group: Any) -> None:
    if group["weight_decay"] != 0:
        names = [key for each in opt.param_groups for key in each["params"]]
        # g[.] = g[.] + lambda k for the k-th parameter
        G = G + special.lift(group["weight_decay"], P) * (P * 0 + 1 + names.index(name))
    right(name, P, G, group | {"weight_decay": 0})


def _decay_without_gradient(opt: Any, right: Any, grads: Any) -> None:
    for group in opt.param_groups:
        for name, P in group["params"].items():
            if grads.get(name) is None:
                opt.decay(P, group)
    right(grads)


def _rate_in_float32(opt: Any, right: Any, name: str, P: Any, G: Any, group: Any) -> None:
    right(name, P, G, group | {"lr": float(np.float32(group["lr"]))})


def mistake(
    kind: str, name: str, what: str, reveal: str, source: str, by: Any, method: str = "update", **more: Any
) -> Fault:
    """A mistake in one class, whose method goes otherwise."""
    return Fault(f"{kind}: {name}", what, reveal, source, {kind: replaced(method, by)}, **more)


def common(kind: str, decoupled: bool = False, counted: bool = True, narrow: bool = False) -> Iterator[Fault]:
    """Those that bear on a class.

    Args:
        decoupled: whether its decay is apart from the gradient always. counted: whether its equations have t. narrow:
            whether a listed formula has no more digits than float32, so that a rate in float32 is not seen.
    """
    options: Mapping[str, Any] = getattr(refnet.optim, kind).options
    yield mistake(
        kind,
        "options of a group ignored",
        "the defaults against the group's own options",
        "groups with options of their own",
        "kind of bug: an option ignored",
        _defaults_for_all,
    )
    yield mistake(
        kind,
        "state cleared at every step",
        "the state of the first step at every step against what it has become",
        "two steps",
        "kozistr/pytorch_optimizer#516",
        _state_cleared,
    )
    yield mistake(
        kind,
        "absent gradient as zero",
        "a step with a gradient of 0 against no step",
        "a gradient that is absent",
        "kind of bug: None against zero",
        _absent_as_zero,
        "step",
    )
    if not narrow:
        yield mistake(
            kind,
            "rate in float32",
            "the rate rounded to 24 bits against the rate",
            "a rate that float32 does not hold, in float64",
            "kind of bug: a constant in another format",
            _rate_in_float32,
            dtypes=("float64",),
        )
    if counted:
        yield mistake(
            kind,
            "one counter for all parameters",
            "t = 1, 2, ... over all parameters against t of each",
            "two parameters",
            "DiffSharp/DiffSharp#292, clab/dynet#77",
            _one_counter,
        )
    if "maximize" in options:
        yield mistake(
            kind,
            "maximize undone",
            "-(-g) against -g",
            "maximize",
            "kozistr/pytorch_optimizer#528",
            _maximized_twice,
        )
    if "weight_decay" not in options:
        return
    yield mistake(
        kind,
        "weight decay ignored",
        "no decay against lambda theta",
        "weight decay",
        "kozistr/pytorch_optimizer#517",
        otherwise(weight_decay=0),
    )
    if decoupled:
        yield mistake(
            kind,
            "weight decay coupled",
            "g + lambda theta, then the step, against theta - gamma lambda theta",
            "weight decay",
            "kind of bug: decay coupled or not",
            _coupled,
        )
        yield mistake(
            kind,
            "decay without a gradient",
            "theta - gamma lambda theta without a gradient against nothing moves",
            "a gradient that is absent, and weight decay",
            "KellerJordan/Muon#54",
            _decay_without_gradient,
            "step",
        )
    else:
        yield mistake(
            kind,
            "weight decay decoupled",
            "theta - gamma lambda theta, then the step, against g + lambda theta",
            "weight decay",
            "flagos-ai/FlagGems#4988, ai2cm/ace#661, apache/mxnet#9363",
            _decoupled,
        )
        yield mistake(
            kind,
            "weight decay of an index",
            "g + lambda k against g + lambda theta",
            "weight decay",
            "kind of bug: an index for a value, in Adam mlverse/torch#821",
            decay_of_index,
        )
