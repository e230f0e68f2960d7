"""The figures of the hand computation, in its order.

The article's figures are elements of the tensors of `Example.round` after a number of updates. A formula names the
figures and constants that it is made of in braces, and is Python otherwise: `ln` is the natural logarithm, `relu(x)` is
the larger of x and 0, `step(x)` is 1 where x > 0 and 0 elsewhere.

`dE/dnet_o1` is what many texts call the delta of o1; `w5@1` is w5 after 1 update. In a batch of two samples,
`net_h1:2` is net_h1 of the second sample, and `dE/dw5:2` the derivative of that sample's own error, `E:2`.
`dE/dout_h1|o1` is the part of dE/dout_h1 that comes through the output o1.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction

from parity.example.model import ARTICLE, SECOND, Model
from parity.example.perceptron import INPUT, PARAMS, RATE, TARGET, UPDATES, WEIGHTS

SECTIONS = {
    "forward": "Step 1: the forward pass, and the errors",
    "output": "Step 2: backward, the output layer",
    "hidden": "Step 3: backward, the hidden layer",
    "update": "Step 4: the updates",
    "after": "After training",
}
BATCH = "The gradients of the batch: the mean of both samples"
"""The title of one section more, `batch`, where a batch has two samples."""

CONSTANTS: Mapping[str, Fraction] = {
    **{f"i{k + 1}": INPUT[k] for k in range(2)},
    **{f"t{k + 1}": TARGET[k] for k in range(2)},
    **{name: PARAMS[tensor][index] for name, (tensor, index) in WEIGHTS.items()},
    "b1": PARAMS["0.bias"][0],
    "b2": PARAMS["2.bias"][0],
    "eta": RATE,
}
"""Inputs i, targets t, weights w, biases b (one for each layer's two units), learning rate eta."""


def constants(model: Model) -> Mapping[str, Fraction]:
    """What a network is made of before anybody has changed it."""
    if model.samples == 1:
        return CONSTANTS
    sample = {name: number for name, number in CONSTANTS.items() if name[0] in "it"}
    return {**sample, **SECOND, **CONSTANTS}


def sections(model: Model) -> Mapping[str, str]:
    """The titles of a model's sections, in their order."""
    if model.samples == 1:
        return SECTIONS
    titles = {**SECTIONS, "batch": BATCH}
    return {key: titles[key] for key in ("forward", "output", "hidden", "batch", "update", "after")}


@dataclass(frozen=True)
class Figure:
    """One number of the computation.

    Attributes:
        key: its name. updates: after how many of them it stands.
        tensor, index: where it stands in `Example.round`: an element of a tensor. Empty in a network of the learner's.
        section: a key of `sections`. formula: what it is made of; empty where it takes a whole training.
        stable: how a computer evaluates it, where the formula would lose digits to cancellation or overflow.
    """

    key: str
    tensor: str
    index: tuple[int, ...]
    updates: int
    section: str
    formula: str = ""
    stable: str = ""

    @property
    def operands(self) -> tuple[str, ...]:
        """The figures and constants in the formula."""
        return tuple(re.findall(r"\{(.*?)\}", self.formula))

    def spelled(self, name: Callable[[str], str] = str) -> str:
        """The formula as one writes it, each operand replaced by what `name` makes of it."""
        text = re.sub(r"\{(.*?)\}", lambda match: name(match[1]), self.formula)
        return re.sub(r"\* (-\S+)", r"* (\1)", text.replace(" ** ", "^").replace(" + -", " - "))


NAMES = {place: key for key, place in WEIGHTS.items()}
LAYERS = (("h", 0, "i", "b1"), ("o", 2, "out_h", "b2"))
"""Units, place among the modules, sources, and bias of each layer."""

OUT = {"sigmoid": "1 / (1 + exp(-{net}))", "tanh": "tanh({net})", "relu": "relu({net})"}
SLOPE = {"sigmoid": "{out} * (1 - {out})", "tanh": "1 - {out} ** 2", "relu": "step({net})"}
STABLE_OUT = {"sigmoid": "sigmoid({net})"}
STABLE_SLOPE = {"sigmoid": "{out} * sigmoid(-{net})"}


def figures(model: Model = ARTICLE) -> tuple[Figure, ...]:
    """Every figure of a model's hand computation, in its order."""
    made: list[Figure] = []
    samples = [""] if model.samples == 1 else [f":{n + 1}" for n in range(model.samples)]
    squares = model.error == "squares"

    def add(
        section: str,
        key: str,
        tensor: str,
        index: tuple[int, ...],
        formula: str = "",
        updates: int = 0,
        stable: str = "",
    ) -> None:
        made.append(Figure(key, tensor, index, updates, section, formula, stable))

    def of(what: str, s: str) -> str:
        """The name of a sample's figure or constant, in braces. The first sample's constants have no suffix."""
        return f"{{{what}{'' if what[0] in 'it' and s == ':1' else s}}}"

    def unit(pattern: str, u: str, s: str) -> str:
        return pattern.replace("{net}", of(f"net_{u}", s)).replace("{out}", of(f"out_{u}", s))

    def forward(s: str) -> None:
        for units, place, sources, bias in LAYERS:
            for k in range(2):
                u = f"{units}{k + 1}"
                terms = (f"{{{NAMES[f'{place}.weight', (k, j)]}}} * {of(f'{sources}{j + 1}', s)}" for j in range(2))
                add("forward", f"net_{u}{s}", f"net_{units}", (k,), " + ".join(terms) + f" + {{{bias}}}")
                if units == "h" or squares:
                    kind = model.hidden if units == "h" else "sigmoid"
                    shown, stable = (unit(table.get(kind, ""), u, s) for table in (OUT, STABLE_OUT))
                    add("forward", f"out_{u}{s}", f"out_{units}", (k,), shown, stable=stable)
        nets = [of(f"net_o{k + 1}", s) for k in range(2)]
        for k in range(0 if squares else 2):
            shown = f"exp({nets[k]}) / (exp({nets[0]}) + exp({nets[1]}))"
            add("forward", f"out_o{k + 1}{s}", "", (), shown, stable=f"sigmoid({nets[k]} - {nets[1 - k]})")
        for k in range(2):
            t, out = of(f"t{k + 1}", s), of(f"out_o{k + 1}", s)
            if squares:
                add("forward", f"E_o{k + 1}{s}", "E_o", (k,), f"({t} - {out}) ** 2 / 2")
            else:
                stable = f"{t} * softplus({nets[1 - k]} - {nets[k]})"
                add("forward", f"E_o{k + 1}{s}", "", (), f"-{t} * ln({out})", stable=stable)
        add("forward", f"E{s}", "E", (), f"{of('E_o1', s)} + {of('E_o2', s)}")

    def inward(section: str, units: str, k: int, place: int, source: str, tensor: str, s: str) -> None:
        """From dE/dout of a unit, or from its target, to the gradients of its weights and bias."""
        u = f"{units}{k + 1}"
        if units == "h" or squares:
            kind = model.hidden if units == "h" else "sigmoid"
            shown, stable = (unit(table.get(kind, ""), u, s) for table in (SLOPE, STABLE_SLOPE))
            add(section, f"dout_{u}/dnet_{u}{s}", f"dout_{units}/dnet_{units}", (k,), shown, stable=stable)
            delta = f"{of(f'dE/dout_{u}', s)} * {of(f'dout_{u}/dnet_{u}', s)}"
        else:
            delta = f"{of(f'out_{u}', s)} * ({of('t1', s)} + {of('t2', s)}) - {of(f't{k + 1}', s)}"
        add(section, f"dE/dnet_{u}{s}", f"dE/dnet_{units}", (k,), delta)
        for j in range(2):
            w = NAMES[f"{place}.weight", (k, j)]
            add(section, f"dnet_{u}/d{w}{s}", tensor, (j,), of(f"{source}{j + 1}", s))
            product = f"{of(f'dE/dnet_{u}', s)} * {of(f'dnet_{u}/d{w}', s)}"
            add(section, f"dE/d{w}{s}", f"dE/d{place}.weight", (k, j), product)
        add(section, f"dE/db_{u}{s}", f"dE/d{place}.bias", (k,), f"{of(f'dE/dnet_{u}', s)} * 1")

    def output(s: str) -> None:
        for k in range(2):
            if squares:
                out, t = of(f"out_o{k + 1}", s), of(f"t{k + 1}", s)
                add("output", f"dE/dout_o{k + 1}{s}", "dE/dout_o", (k,), f"{out} - {t}")
            inward("output", "o", k, 2, "out_h", "out_h", s)

    def hidden(s: str) -> None:
        for k in range(2):
            parts = []
            for o in range(2):
                w = f"dnet_o{o + 1}/dout_h{k + 1}"
                # The softmax ties each output's error to both net inputs, so that it has no derivative of its own here.
                part = f"dE_o{o + 1}/dout_h{k + 1}" if squares else f"dE/dout_h{k + 1}|o{o + 1}"
                parts.append(of(part, s))
                add("hidden", f"{w}{s}", "2.weight", (o, k), f"{{{NAMES['2.weight', (o, k)]}}}")
                product = f"{of(f'dE/dnet_o{o + 1}', s)} * {of(w, s)}"
                add("hidden", f"{part}{s}", "dE_o/dout_h", (o, k), product)
            add("hidden", f"dE/dout_h{k + 1}{s}", "dE/dout_h", (k,), " + ".join(parts))
            inward("hidden", "h", k, 0, "i", "input", s)

    for part in (forward, output, hidden):
        for s in samples:
            part(s)
    if model.samples > 1:
        biases = [f"b_{u}{k}" for u in "ho" for k in (1, 2)]
        made.insert(
            next(k for k, figure in enumerate(made) if figure.section == "output"),
            Figure("E", "", (), 0, "forward", "({E:1} + {E:2}) / 2"),
        )
        for p in (*WEIGHTS, *biases):
            add("batch", f"dE/d{p}", "", (), f"({{dE/d{p}:1}} + {{dE/d{p}:2}}) / 2")
    for w, (tensor, index) in WEIGHTS.items():
        add("update", f"{w}@1", tensor, index, f"{{{w}}} - {{eta}} * {{dE/d{w}}}", 1)
    for n in (1, UPDATES):
        add("after", f"E@{n}", "E", (), updates=n)
        for s in samples:
            for k in range(2):
                add("after", f"out_o{k + 1}{s}@{n}", "out_o", (k,), updates=n)
    return tuple(made) if model == ARTICLE else tuple(replace(figure, tensor="", index=()) for figure in made)


FIGURES: Mapping[str, Figure] = {figure.key: figure for figure in figures()}
