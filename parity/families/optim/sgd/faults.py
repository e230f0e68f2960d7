"""Mistakes in SGD. Letters as there: theta parameter, g gradient, b buffer, gamma rate, mu momentum, tau dampening."""

from __future__ import annotations

from typing import Any

import numpy as np

from parity.families.fault import Fault, replaced
from refnet.arithmetic import special


def _gradient(P: Any, G: Any, group: Any) -> Any:
    """g[.] = dtheta[.], or -dtheta[.] with `maximize`; plus lambda theta[.]"""
    G = -G if group["maximize"] else G
    return G + special.lift(group["weight_decay"], P) * P if group["weight_decay"] != 0 else G


def _descend(P: Any, G: Any, group: Any) -> None:
    # theta[.] = theta[.] - gamma g[.]
    P[...] = P - special.lift(group["lr"], P) * G


def _buffer(opt: Any, name: str, P: Any) -> tuple[Any, bool]:
    """b, and whether it is new; a new one is 0."""
    state = opt.state.setdefault(name, {})
    new = "momentum_buffer" not in state
    if new:
        state["momentum_buffer"] = P.copy()
        state["momentum_buffer"][...] = P * 0
    return state["momentum_buffer"], new


def _dampened_at_once(opt: Any, right: Any, name: str, P: Any, G: Any, group: Any) -> None:
    if group["momentum"] == 0 or group["nesterov"]:
        right(name, P, G, group)
        return
    G, (B, new) = _gradient(P, G, group), _buffer(opt, name, P)
    mu, tau = special.lift(group["momentum"], P), special.lift(group["dampening"], P)
    # b[.] = mu b[.] + (1 - tau) g[.], from b = 0
    B[...] = (1 - tau) * G if new else mu * B + (1 - tau) * G
    _descend(P, B, group)


def _dampening_of_momentum(opt: Any, right: Any, name: str, P: Any, G: Any, group: Any) -> None:
    if group["momentum"] == 0 or group["nesterov"]:
        right(name, P, G, group)
        return
    G, (B, new) = _gradient(P, G, group), _buffer(opt, name, P)
    mu, tau = special.lift(group["momentum"], P), special.lift(group["dampening"], P)
    # b[.] = (1 - tau) mu b[.] + g[.]
    B[...] = G if new else (1 - tau) * (mu * B) + G
    _descend(P, B, group)


def _moving_average(opt: Any, right: Any, name: str, P: Any, G: Any, group: Any) -> None:
    if group["momentum"] == 0:
        right(name, P, G, group)
        return
    G, (B, new) = _gradient(P, G, group), _buffer(opt, name, P)
    mu = special.lift(group["momentum"], P)
    # b[.] = mu b[.] + (1 - mu) g[.], from b = 0
    B[...] = (1 - mu) * G if new else mu * B + (1 - mu) * G
    _descend(P, G + mu * B if group["nesterov"] else B, group)


def _look_ahead_before(opt: Any, right: Any, name: str, P: Any, G: Any, group: Any) -> None:
    if not group["nesterov"]:
        right(name, P, G, group)
        return
    G, (B, _) = _gradient(P, G, group), _buffer(opt, name, P)
    mu = special.lift(group["momentum"], P)
    # b[.] = mu b[.] + (1 - mu) (g[.] + mu b[.]), from b = 0
    B[...] = mu * B + (1 - mu) * (G + mu * B)
    _descend(P, B, group)


def _nesterov_without_gradient(opt: Any, right: Any, name: str, P: Any, G: Any, group: Any) -> None:
    if not group["nesterov"]:
        right(name, P, G, group)
        return
    G, (B, new) = _gradient(P, G, group), _buffer(opt, name, P)
    mu = special.lift(group["momentum"], P)
    B[...] = G if new else mu * B + G
    # g[.] = mu b[.]
    _descend(P, mu * B, group)


def _decoupled(opt: Any, right: Any, name: str, P: Any, G: Any, group: Any) -> None:
    if group["weight_decay"] != 0:
        # theta[.] = theta[.] - gamma lambda theta[.], before all else
        P[...] = P - special.lift(group["lr"], P) * (special.lift(group["weight_decay"], P) * P)
    right(name, P, G, group | {"weight_decay": 0})


def _decay_of_index(opt: Any, right: Any, name: str, P: Any, G: Any, group: Any) -> None:
    if group["weight_decay"] != 0:
        # g[.] = g[.] + lambda k for the k-th parameter
        G = G + special.lift(group["weight_decay"], P) * (P * 0 + 1 + list(group["params"]).index(name))
    right(name, P, G, group | {"weight_decay": 0})


def _decay_maximized(opt: Any, right: Any, name: str, P: Any, G: Any, group: Any) -> None:
    if group["maximize"]:
        # g[.] = -(dtheta[.] + lambda theta[.])
        G = -_gradient(P, G, group | {"maximize": False})
        group = group | {"maximize": False, "weight_decay": 0}
    right(name, P, G, group)


def _buffer_cleared(opt: Any, right: Any, name: str, P: Any, G: Any, group: Any) -> None:
    opt.state.pop(name, None)
    right(name, P, G, group)


def _rate_in_the_buffer(opt: Any, right: Any, name: str, P: Any, G: Any, group: Any) -> None:
    if group["momentum"] == 0:
        right(name, P, G, group)
        return
    G, (B, new) = _gradient(P, G, group), _buffer(opt, name, P)
    gamma, mu, tau = (special.lift(group[option], P) for option in ("lr", "momentum", "dampening"))
    # b[.] = mu b[.] + (1 - tau) gamma g[.]
    B[...] = gamma * G if new else mu * B + (1 - tau) * (gamma * G)
    # theta[.] = theta[.] - b[.], or - (gamma g[.] + mu b[.])
    P[...] = P - (gamma * G + mu * B if group["nesterov"] else B)


def _buffer_is_the_gradient(opt: Any, right: Any, name: str, P: Any, G: Any, group: Any) -> None:
    if "momentum_buffer" in opt.state.get(name, {}):
        # What was written since into the memory of the gradient
        opt.state[name]["momentum_buffer"][...] = _gradient(P, G, group)
    right(name, P, G, group)


def _otherwise(**options: Any) -> Any:
    """The update with some options other than they are."""

    def update(opt: Any, right: Any, name: str, P: Any, G: Any, group: Any) -> None:
        right(name, P, G, group | options)

    return update


def _decay_doubled(opt: Any, right: Any, name: str, P: Any, G: Any, group: Any) -> None:
    # g[.] = g[.] + 2 lambda theta[.]
    right(name, P, G, group | {"weight_decay": 2 * group["weight_decay"]})


def _defaults_for_all(opt: Any, right: Any, name: str, P: Any, G: Any, group: Any) -> None:
    right(name, P, G, opt.defaults | {"params": group["params"]})


def _rate_in_float32(opt: Any, right: Any, name: str, P: Any, G: Any, group: Any) -> None:
    right(name, P, G, group | {"lr": float(np.float32(group["lr"]))})


def _sgd(name: str, what: str, reveal: str, source: str, by: Any, **more: Any) -> Fault:
    return Fault(name, what, reveal, source, {"SGD": replaced("update", by)}, **more)


FAULTS = (
    _sgd(
        "dampening at the first step",
        "b_1 = (1 - tau) g against b_1 = g",
        "dampening",
        "kind of bug: dampening slips",
        _dampened_at_once,
    ),
    _sgd(
        "dampening of the momentum",
        "b = (1 - tau) mu b + g against b = mu b + (1 - tau) g",
        "dampening, and two steps",
        "kind of bug: dampening slips",
        _dampening_of_momentum,
    ),
    _sgd(
        "dampening ignored",
        "b = mu b + g against b = mu b + (1 - tau) g",
        "dampening, and two steps",
        "kind of bug: dampening slips",
        _otherwise(dampening=0),
    ),
    _sgd(
        "momentum as a moving average",
        "b = mu b + (1 - mu) g against b = mu b + g",
        "momentum",
        "ml-explore/mlx#87",
        _moving_average,
    ),
    _sgd(
        "momentum buffer cleared",
        "b = g at every step against b = mu b + g",
        "momentum, and two steps",
        "kozistr/pytorch_optimizer#516",
        _buffer_cleared,
    ),
    _sgd(
        "rate inside the momentum buffer",
        "b = mu b + gamma g, theta - b against b = mu b + g, theta - gamma b",
        "momentum; the state, or a rate that changes",
        "pytorch/pytorch#1099; a convention elsewhere, that of Sutskever et al., ICML 2013",
        _rate_in_the_buffer,
    ),
    _sgd(
        "momentum buffer in the gradient's memory",
        "b = mu g_t + g_t against mu b + g_t: b is the array that the next gradient is written into",
        "momentum, and two steps",
        "shivram1987/diffGrad#2, jettify/pytorch-optimizer#55",
        _buffer_is_the_gradient,
    ),
    _sgd(
        "nesterov without the gradient",
        "mu b against g + mu b",
        "nesterov",
        "kind of bug: nesterov slips",
        _nesterov_without_gradient,
    ),
    _sgd(
        "nesterov in a moving average",
        "g = g + mu b_(t-1), b = mu b + (1 - mu) g against b = mu b + g, g + mu b",
        "nesterov",
        "ml-explore/mlx#87",
        _look_ahead_before,
    ),
    _sgd(
        "nesterov ignored",
        "b against g + mu b_t; the same as the buffer before this step, g + mu b_(t-1)",
        "nesterov",
        "kind of bug: an option ignored",
        _otherwise(nesterov=False),
    ),
    _sgd(
        "weight decay ignored",
        "g against g + lambda theta",
        "weight decay",
        "kozistr/pytorch_optimizer#517",
        _otherwise(weight_decay=0),
    ),
    _sgd(
        "weight decay decoupled",
        "theta - gamma lambda theta, then the step, against g + lambda theta; equal without momentum",
        "weight decay and momentum",
        "flagos-ai/FlagGems#4988, ai2cm/ace#661",
        _decoupled,
    ),
    _sgd(
        "weight decay doubled",
        "g + 2 lambda theta against g + lambda theta: the penalty without its 1/2",
        "weight decay",
        "a convention elsewhere, that of Keras's l2(lambda)",
        _decay_doubled,
    ),
    _sgd(
        "weight decay of an index",
        "g + lambda k against g + lambda theta",
        "weight decay",
        "kind of bug: an index for a value, in Adam mlverse/torch#821",
        _decay_of_index,
    ),
    _sgd(
        "weight decay maximized",
        "-(g + lambda theta) against -g + lambda theta",
        "maximize and weight decay",
        "kind of bug: sign",
        _decay_maximized,
    ),
    _sgd(
        "maximize undone", "-(-g) against -g", "maximize", "kozistr/pytorch_optimizer#528", _otherwise(maximize=False)
    ),
    _sgd(
        "options of a group ignored",
        "the defaults against the group's own options",
        "groups with options of their own",
        "kind of bug: an option ignored",
        _defaults_for_all,
    ),
    _sgd(
        "rate in float32",
        "gamma rounded to 24 bits against gamma",
        "a rate that float32 does not hold, in float64",
        "kind of bug: a constant in another format",
        _rate_in_float32,
        dtypes=("float64",),
    ),
)
