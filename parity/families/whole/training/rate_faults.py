"""Mistakes of trainings whose rate follows a schedule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from parity.families.fault import Fault, Lift, Steps, Train
from parity.families.whole.training.loops import Grads, Loop, loop_of
from refnet.arithmetic import special


def _rate_one_late(loop: Loop, record: Train, k: int) -> Any:
    if record.rates:
        loop.ahead_of(record, max(0, k - 1))
    value, grads = loop.gradients(record.batches[k])
    loop.step(grads)
    return value


def _rate_in_the_velocity() -> Callable[[Train, Lift], Steps]:
    def train(record: Train, lift: Lift) -> Steps:
        velocity: Grads = {}

        def update(loop: Loop, record: Train, k: int) -> Any:
            opt, params = loop.update.opt, loop.update.net.params
            value, grads = loop.gradients(record.batches[k])
            momentum = record.optimizer.args.get("momentum", 0)
            for name, P in params.items() if momentum else ():
                if name not in velocity and opt.state.get(name):
                    velocity[name] = special.lift(opt.param_groups[0]["lr"], P) * opt.state[name]["momentum_buffer"]
            before = {name: P.copy() for name, P in params.items()}
            # The buffer, which the state shows, moves as ever; the parameter is moved by a velocity of its own.
            loop.step(grads)
            for name, P in params.items() if momentum else ():
                gamma, mu = special.lift(opt.param_groups[0]["lr"], P), special.lift(momentum, P)
                # v[.] = mu v[.] + gamma g[.], from gamma g[.]
                V = velocity[name] = (
                    mu * velocity[name] + gamma * grads[name] if name in velocity else gamma * grads[name]
                )
                # theta[.] = theta[.] - v[.]
                P[...] = before[name] - V
            return value

        return loop_of(update)(record, lift)

    return train


RATES = (
    Fault(
        "rate of the update before",
        "gamma_(k-1) against gamma_k",
        "a schedule",
        "kind of bug: scheduler.step() in the wrong place",
        train=loop_of(_rate_one_late),
    ),
    Fault(
        "rate inside the velocity",
        "v = mu v + gamma g, theta - v against b = mu b + g, theta - gamma b",
        "momentum and a rate that changes; equal while it stays",
        "pytorch/pytorch#1099; a convention elsewhere, that of Sutskever et al., ICML 2013",
        train=_rate_in_the_velocity(),
    ),
)
