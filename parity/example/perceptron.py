"""The worked example: one network, one sample, six recipes.

Two inputs, two hidden and two output units, sigmoids, half squared error, plain gradient descent. The same lines run on
floats, balls, budgets and runs of them. Axes: i input, h hidden unit, o output unit. The constants are the decimals
that the article prints, exact: 0.05 is one twentieth.

Units and weights have the article's names (w1 and w2 lead into h1, w3 and w4 into h2, w5 and w6 into o1, w7 and w8 into
o2), parameters torch's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from parity.budget.array import Budget
from parity.budget.formats import Profile
from refnet.generator import Generator
from refnet.nn import HalfSquaredError, Linear, Module, Sequential, Sigmoid
from refnet.optim import SGD

Array = Any  # see refnet.arithmetic.special
Tensors = dict[str, Array]
Lift = Callable[[Array], Array]
"""Takes an array of Fractions to the arithmetic of a run."""

UPDATES = 10_000
RATE = Fraction("0.5")


def _exact(*decimals: Any) -> np.ndarray[Any, Any]:
    array: np.ndarray[Any, Any] = np.vectorize(Fraction, otypes=[object])(np.array(decimals))
    return array


INPUT = _exact("0.05", "0.10")
TARGET = _exact("0.01", "0.99")
PARAMS: Mapping[str, Array] = {
    "0.weight": _exact(["0.15", "0.20"], ["0.25", "0.30"]),
    "0.bias": _exact("0.35", "0.35"),
    "2.weight": _exact(["0.40", "0.45"], ["0.50", "0.55"]),
    "2.bias": _exact("0.60", "0.60"),
}
WEIGHTS = {
    f"w{1 + 4 * layer + 2 * unit + source}": (f"{2 * layer}.weight", (unit, source))
    for layer, unit, source in np.ndindex(2, 2, 2)
}
"""Where each of the article's weights stands: parameter and index."""


@dataclass(frozen=True)
class Recipe:
    """How an update is made.

    Attributes:
        order: `simultaneous` (every gradient is taken at the old weights, then all move: gradient descent) or
            `sequential` (a bug: the hidden units' deltas come through output weights that have already moved).
        biases: `frozen`, `unit` (one for each unit) or `layer` (one shared by a layer's units, its gradient summed).
    """

    order: str
    biases: str

    @property
    def key(self) -> str:
        return f"{self.order}/{self.biases}"

    def moves(self, name: str) -> bool:
        """Whether the parameter of that name is trained."""
        return self.biases != "frozen" or name.endswith("weight")

    def __str__(self) -> str:
        biases = {"frozen": "biases frozen", "unit": "one bias a unit", "layer": "one bias a layer"}
        return f"{self.order}, {biases[self.biases]}"


RECIPES = tuple(Recipe(order, bias) for bias in ("frozen", "unit", "layer") for order in ("simultaneous", "sequential"))
CORRECT, BUG = RECIPES[:2]
"""What the article describes in words, and what its figures after training come from."""


def floats(dtype: str) -> Lift:
    """The arithmetic of an engine: decimals rounded to `dtype`."""
    return lambda exact: exact.astype(np.float64).astype(dtype)


def budgets(dtype: str) -> Lift:
    """Budgets of `dtype`: a decimal that the format does not hold comes with the error of its conversion."""
    profile = Profile.of(dtype)

    def lift(exact: Array) -> Budget:
        numbers = [Budget.exact(0.0, profile).constant(number) for number in exact.flat]
        x, e = np.array([[b.x, b.e] for b in numbers]).T
        return Budget.exact(x.reshape(exact.shape), profile, e.reshape(exact.shape))

    return lift


class Example:
    """The network in training by `recipe`, in the arithmetic that `lift` takes Fractions to.

    Attributes:
        params: the live parameters; copy what must not move on.
    """

    def __init__(
        self,
        recipe: Recipe,
        lift: Lift,
        params: Mapping[str, Array] = PARAMS,
        input: Array = INPUT,
        target: Array = TARGET,
        rate: Fraction = RATE,
    ) -> None:
        self.recipe = recipe
        self.params: Tensors = {name: lift(exact) for name, exact in params.items()}
        self.input, self.target, self.ones = lift(input), lift(target), lift(_exact(1, 1))
        self.network = Sequential(_linear(), Sigmoid(), _linear(), Sigmoid())
        self.network.bind(self.params)
        self.loss = HalfSquaredError()
        moving = {name: p for name, p in self.params.items() if recipe.moves(name)}
        self._optimizers = {
            place: SGD({name: p for name, p in moving.items() if name.startswith(place)}, lr=float(rate))
            for place in "02"
        }

    def round(self, steps: bool = True) -> Tensors:
        """One round: forward, backward, update.

        Returns the quantities of the round at the weights before its update: `E` () and `out_o` (o,); with `steps`
        every step of the hand computation as well (see `parity.example.hand_computation`). Those of the hidden layer
        are as the recipe has them.
        """
        before = {name: p.copy() for name, p in self.params.items()} if steps else {}
        hidden, squash_h, output, squash_o = self.network.layers
        net_h, saved_h = hidden.forward(self.input)
        out_h, saved_sh = squash_h.forward(net_h)
        net_o, saved_o = output.forward(out_h)
        out_o, saved_so = squash_o.forward(net_o)
        E, saved_loss = self.loss.forward(out_o, self.target)
        (dout_o, _), _ = self.loss.backward(self.ones[0], saved_loss)
        dnet_o, _ = squash_o.backward(dout_o, saved_so)
        dout_h, grads = output.backward(dnet_o, saved_o)
        grads_o = self._named("2", grads)
        if self.recipe.order == "sequential":
            self._move("2", grads_o)
            # The bug: these are no longer the weights that the forward pass went through.
            dout_h, _ = output.backward(dnet_o, saved_o)
        dnet_h, _ = squash_h.backward(dout_h, saved_sh)
        _, grads = hidden.backward(dnet_h, saved_h)
        grads_h = self._named("0", grads)
        found: Tensors = {"E": E, "out_o": out_o}
        if steps:
            found |= before | {"input": self.input, "target": self.target}
            found |= {"net_h": net_h, "out_h": out_h, "net_o": net_o, "E_o": self.errors(out_o)}
            found |= {"dE/dout_o": dout_o, "dE/dnet_o": dnet_o, "dE/dout_h": dout_h, "dE/dnet_h": dnet_h}
            found |= {"dout_o/dnet_o": squash_o.backward(self.ones, saved_so)[0]}
            found |= {"dout_h/dnet_h": squash_h.backward(self.ones, saved_sh)[0]}
            found |= {"dE_o/dout_h": self._shares(output, dnet_o, saved_o)}
            found |= {f"dE/d{name}": g for name, g in (grads_o | grads_h).items()}
        if self.recipe.order == "simultaneous":
            self._move("2", grads_o)
        self._move("0", grads_h)
        return found

    def errors(self, out_o: Array) -> Array:
        """(o,): each output's own error."""
        alone = [self.loss.forward(out_o[k : k + 1], self.target[k : k + 1])[0] for k in range(2)]
        return np.concatenate([np.reshape(E, (1,)) for E in alone], axis=-1)

    def _shares(self, output: Module, dnet_o: Array, saved: Any) -> Array:
        """dE_o / dout_h, (o, h): each output's delta sent back alone."""
        rows = [output.backward(np.where(np.arange(2) == k, dnet_o, 0), saved)[0] for k in range(2)]
        return np.reshape(np.concatenate(rows, axis=-1), (2, 2))

    def _named(self, place: str, grads: Tensors) -> Tensors:
        """A layer's gradients under their full names; that of a shared bias is the sum over the units, for each."""
        db = grads["bias"]
        if self.recipe.biases == "layer":
            db = np.broadcast_to(db.sum(axis=-1, keepdims=True), db.shape)
        return {f"{place}.weight": grads["weight"], f"{place}.bias": db}

    def _move(self, place: str, grads: Tensors) -> None:
        self._optimizers[place].step({name: g for name, g in grads.items() if self.recipe.moves(name)})


def _linear() -> Linear:
    # The initial values are replaced at once; a generator of its own leaves the default one where it is.
    return Linear(2, 2, generator=Generator(0))
