"""The figures of the hand computation, in its order.

A figure is an element of a tensor of `Example.round` after so many updates. Its formula names the figures and constants
that it is made of in braces, and is Python otherwise. `dE/dnet_o1` is what many texts call the delta of o1; `w5@1` is
w5 after 1 update.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction

from parity.example.perceptron import INPUT, PARAMS, RATE, TARGET, UPDATES, WEIGHTS

SECTIONS = {
    "forward": "Step 1: the forward pass, and the errors",
    "output": "Step 2: backward, the output layer",
    "hidden": "Step 3: backward, the hidden layer",
    "update": "Step 4: the updates",
    "after": "After training",
}

CONSTANTS: Mapping[str, Fraction] = {
    **{f"i{k + 1}": INPUT[k] for k in range(2)},
    **{f"t{k + 1}": TARGET[k] for k in range(2)},
    **{name: PARAMS[tensor][index] for name, (tensor, index) in WEIGHTS.items()},
    "b1": PARAMS["0.bias"][0],
    "b2": PARAMS["2.bias"][0],
    "eta": RATE,
}
"""Inputs i, targets t, weights w, biases b (one for each layer's two units), learning rate eta."""


@dataclass(frozen=True)
class Figure:
    """One number of the computation.

    Attributes:
        key: its name. tensor, index, updates: where it stands: an element of a tensor, after so many updates.
        section: one of SECTIONS. formula: what it is made of; empty where it takes a whole training.
    """

    key: str
    tensor: str
    index: tuple[int, ...]
    updates: int
    section: str
    formula: str = ""

    @property
    def operands(self) -> tuple[str, ...]:
        """The figures and constants in the formula."""
        return tuple(re.findall(r"\{(.*?)\}", self.formula))

    def spelled(self, name: Callable[[str], str] = str) -> str:
        """The formula as one writes it, each operand replaced by what `name` makes of it."""
        text = re.sub(r"\{(.*?)\}", lambda match: name(match[1]), self.formula)
        return re.sub(r"\* (-\S+)", r"* (\1)", text.replace(" ** ", "^").replace(" + -", " - "))


def _figures() -> tuple[Figure, ...]:
    made: list[Figure] = []

    def add(section: str, key: str, tensor: str, index: tuple[int, ...], formula: str = "", updates: int = 0) -> None:
        made.append(Figure(key, tensor, index, updates, section, formula))

    name = {place: key for key, place in WEIGHTS.items()}
    for layer, units, sources, bias in ((0, "h", "i{}", "b1"), (2, "o", "out_h{}", "b2")):
        for k in range(2):
            u = f"{units}{k + 1}"
            terms = (f"{{{name[f'{layer}.weight', (k, j)]}}} * {{{sources.format(j + 1)}}}" for j in range(2))
            add("forward", f"net_{u}", f"net_{units}", (k,), " + ".join(terms) + f" + {{{bias}}}")
            add("forward", f"out_{u}", f"out_{units}", (k,), f"1 / (1 + exp(-{{net_{u}}}))")
    for k in range(2):
        add("forward", f"E_o{k + 1}", "E_o", (k,), f"({{t{k + 1}}} - {{out_o{k + 1}}}) ** 2 / 2")
    add("forward", "E", "E", (), "{E_o1} + {E_o2}")

    def inward(section: str, units: str, k: int, layer: int, source: str, tensor: str) -> None:
        """From dE/dout of a unit to the gradients of its weights and bias."""
        u = f"{units}{k + 1}"
        add(section, f"dout_{u}/dnet_{u}", f"dout_{units}/dnet_{units}", (k,), f"{{out_{u}}} * (1 - {{out_{u}}})")
        add(section, f"dE/dnet_{u}", f"dE/dnet_{units}", (k,), f"{{dE/dout_{u}}} * {{dout_{u}/dnet_{u}}}")
        for j in range(2):
            w = name[f"{layer}.weight", (k, j)]
            add(section, f"dnet_{u}/d{w}", tensor, (j,), f"{{{source}{j + 1}}}")
            add(section, f"dE/d{w}", f"dE/d{layer}.weight", (k, j), f"{{dE/dnet_{u}}} * {{dnet_{u}/d{w}}}")
        add(section, f"dE/db_{u}", f"dE/d{layer}.bias", (k,), f"{{dE/dnet_{u}}} * 1")

    for k in range(2):
        add("output", f"dE/dout_o{k + 1}", "dE/dout_o", (k,), f"{{out_o{k + 1}}} - {{t{k + 1}}}")
        inward("output", "o", k, 2, "out_h", "out_h")
    for k in range(2):
        for o in range(2):
            share = f"dnet_o{o + 1}/dout_h{k + 1}"
            add("hidden", share, "2.weight", (o, k), f"{{{name['2.weight', (o, k)]}}}")
            add("hidden", f"dE_o{o + 1}/dout_h{k + 1}", "dE_o/dout_h", (o, k), f"{{dE/dnet_o{o + 1}}} * {{{share}}}")
        add("hidden", f"dE/dout_h{k + 1}", "dE/dout_h", (k,), f"{{dE_o1/dout_h{k + 1}}} + {{dE_o2/dout_h{k + 1}}}")
        inward("hidden", "h", k, 0, "i", "input")
    for w, (tensor, index) in WEIGHTS.items():
        add("update", f"{w}@1", tensor, index, f"{{{w}}} - {{eta}} * {{dE/d{w}}}", 1)
    for n in (1, UPDATES):
        add("after", f"E@{n}", "E", (), updates=n)
        for k in range(2):
            add("after", f"out_o{k + 1}@{n}", "out_o", (k,), updates=n)
    return tuple(made)


FIGURES: Mapping[str, Figure] = {figure.key: figure for figure in _figures()}
