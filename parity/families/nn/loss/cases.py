"""MSELoss, HalfSquaredError, L1Loss, HuberLoss, SmoothL1Loss, BCELoss, BCEWithLogitsLoss; and the table by which the
cases of alike losses are made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any

from parity.families.case import FAMILIES, FULL, Draw, Spec, VJPCase, given
from parity.families.nn.activation.cases import EXTREME

SCALAR = Draw(())


def loss_case(
    name: str,
    what: str,
    X: Draw,
    T: Draw,
    dY: Draw = SCALAR,
    arrays: Mapping[str, Draw] | None = None,
    families: tuple[str, ...] = FAMILIES,
    **args: Any,
) -> VJPCase:
    """A loss at input X and target T; `dY` is drawn for a reduced one."""
    return VJPCase(f"{name}/{what}", Spec(name, args), (X, T), (dY,), arrays or {}, families=families)


def reductions(*shape: int) -> tuple[tuple[str, Draw], ...]:
    """Every reduction of losses of this shape, with the upstream gradient of its result."""
    return ("none", Draw(shape)), ("mean", SCALAR), ("sum", SCALAR)


def _common(name: str, X: Draw, T: Draw) -> tuple[VJPCase, ...]:
    """What every loss of a reduction and no classes goes through; X and T are drawn like these, in other shapes."""

    def at(what: str, shape: tuple[int, ...], reduction: str, dY: Draw, layout: str = "contiguous") -> VJPCase:
        x, t = (Draw(shape, draw.kind, layout=layout) for draw in (X, T))
        # The mean is the default: it is left to the engines.
        args: dict[str, Any] = {} if reduction == "mean" else {"reduction": reduction}
        return loss_case(name, f"{what}, {reduction}", x, t, dY, **args)

    return (
        *(at(f"batch {n}", (n, 4), r, dY) for n in (1, 3, 7) for r, dY in reductions(n, 4)),
        *(at("batch 0", (0, 4), r, dY) for r, dY in reductions(0, 4) if r != "mean"),
        *(at("no axes", (), r, dY) for r, dY in reductions()),
        at("one axis", (5,), "mean", SCALAR),
        *(at("two leading axes", (2, 3, 4), r, dY) for r, dY in reductions(2, 3, 4)),
        at("sixteen elements", (4, 4), "mean", SCALAR),
        at("gradient one-hot", (3, 4), "none", Draw((3, 4), "onehot")),
        at("gradient of stride zero", (3, 4), "none", Draw((3, 4), layout="expanded")),
        at("gradient transposed", (3, 4), "none", Draw((3, 4), layout="transposed")),
        at("gradient sliced", (3, 4), "none", Draw((3, 4), layout="sliced")),
        at("input and target transposed", (3, 4), "mean", SCALAR, "transposed"),
        at("input and target sliced", (3, 4), "sum", SCALAR, "sliced"),
    )


Shape = tuple[int, ...]


@dataclass(frozen=True)
class Alike:
    """A loss in the table.

    Attributes:
        name: the class. inputs: the draws of its inputs, of a shape. losses: the shape of what is reduced.
        options: what else it is built with, by what the case is called; arrays in `arrays`. shapes: further ones.
        edges: inputs of given values, by what the case is called, each with options; full significands alone.
        reductions: all there are. empty: those that an empty batch is reduced by.
    """

    name: str
    inputs: Callable[[Shape], tuple[Draw, ...]]
    losses: Callable[[Shape], Shape] = lambda shape: shape
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    shapes: tuple[Shape, ...] = ((1, 4), (2, 3, 4), (5,))
    edges: Mapping[str, tuple[tuple[Draw, ...], Mapping[str, Any]]] = field(default_factory=dict)
    reductions: tuple[str, ...] = ("none", "mean", "sum")
    base: Shape = (3, 4)
    empty: tuple[str, ...] = ("none", "sum")

    def cases(self) -> tuple[VJPCase, ...]:
        """Every reduction plain; every option, shape and edge once, with the reductions in turn; an empty batch."""
        turn = cycle(self.reductions)
        options = zip(self.options.items(), turn, strict=False)
        shapes = zip(self.shapes, turn, strict=False)
        return (
            *(self.at(f"plain, {r}", self.base, r) for r in self.reductions),
            *(self.at(f"{what}, {r}", self.base, r, **own) for (what, own), r in options),
            *(self.at(f"shape {'x'.join(map(str, s)) or 'none'}, {r}", s, r) for s, r in shapes),
            *(self.at(f"batch 0, {r}", (0, *self.base[1:]), r) for r in self.reductions if r in self.empty),
            self.at("gradient of stride zero", (7, *self.base[1:]), self.reductions[0], layout="expanded"),
            self.at("gradient sliced", self.base, self.reductions[0], layout="sliced"),
            *(
                self.at(f"{what}, {r}", inputs[0].shape, r, inputs, FULL, **own)
                for what, (inputs, own) in self.edges.items()
                for r in self.reductions[:1]
            ),
        )

    def at(
        self,
        what: str,
        shape: Shape,
        reduction: str,
        inputs: tuple[Draw, ...] = (),
        families: tuple[str, ...] = FAMILIES,
        arrays: Mapping[str, Draw] | None = None,
        layout: str = "contiguous",
        **args: Any,
    ) -> VJPCase:
        """A case of this name; the mean is the default, and left to the engines."""
        made = {**args, "reduction": reduction} if reduction not in ("mean", "") else args
        dY = SCALAR if reduction not in ("none", "") else Draw(self.losses(shape), layout=layout)
        spec = Spec(self.name, made)
        return VJPCase(
            f"{self.name}/{what}".removesuffix(", "),
            spec,
            inputs or self.inputs(shape),
            (dY,),
            arrays or {},
            families=families,
        )


THOUSANDS = given((2, 4), 1000.0, -1000.0, 0.0, 896.0, -512.0, 0.5, -0.015625, 1000.0)
THEIR_TARGETS = given((2, 4), -1000.0, -1000.0, 1000.0, 1.0, 512.0, 0.25, 0.0, 992.0)
# Ties in every second place, some of zeros of different sign.
TIED = given((2, 4), 1.0, 0.5, -0.0, 0.0, -2.0, -0.25, 0.0, 1.5)
TO_THESE = given((2, 4), 1.0, 0.75, 0.0, -0.5, -2.0, -0.5, -0.0, 1.0)


def _regression() -> tuple[VJPCase, ...]:
    half, shape = "HalfSquaredError", (3, 4)
    return (
        *_common("MSELoss", Draw(()), Draw(())),
        *_common("L1Loss", Draw(()), Draw(())),
        *(
            loss_case(name, f"thousands, {r}", THOUSANDS, THEIR_TARGETS, dY, reduction=r)
            for name in ("MSELoss", "L1Loss")
            for r, dY in reductions(2, 4)
        ),
        *(loss_case("L1Loss", f"ties, {r}", TIED, TO_THESE, dY, reduction=r) for r, dY in reductions(2, 4)),
        loss_case("MSELoss", "differences cancel", Draw(shape, offset=64.0), Draw(shape, offset=64.0), families=FULL),
        *(loss_case(half, f"batch {n}", Draw((n, 4)), Draw((n, 4))) for n in (0, 1, 3, 7)),
        loss_case(half, "no axes", Draw(()), Draw(())),
        loss_case(half, "two leading axes", Draw((2, 3, 4)), Draw((2, 3, 4))),
        loss_case(
            half, "input sliced, target transposed", Draw(shape, layout="sliced"), Draw(shape, layout="transposed")
        ),
        loss_case(half, "thousands", THOUSANDS, THEIR_TARGETS),
    )


HARD = given((3, 4), 0.0, 1.0, 1.0, 0.0, 1.0, 0.0, 0.0, 1.0)
NEAR = given((6,), 1e-9, 1e-4, 0.01, 1 - 2.0**-20, 1 - 2.0**-10, 0.5)
# Probabilities at which the logarithms are clamped, or the gradient's denominator is, or neither, but nearly.
EDGES = given((10,), 0.0, 1.0, 1e-45, 1e-30, 2e-12, 5e-13, 1e-4, 1 - 2.0**-24, 1 - 2.0**-12, 0.5)


def _probabilities() -> tuple[VJPCase, ...]:
    X = T = Draw((3, 4), "unit")
    each = reductions(3, 4)

    def at(what: str, X: Draw, T: Draw, dY: Draw = SCALAR, **more: Any) -> VJPCase:
        return loss_case("BCELoss", what, X, T, dY, **more)

    def weighted(what: str, weight: Draw, dY: Draw = SCALAR, **more: Any) -> VJPCase:
        return at(what, X, T, dY, arrays={"weight": weight}, **more)

    return (
        *_common("BCELoss", X, T),
        *(weighted(f"weight, {r}", Draw((3, 4), "positive"), dY, reduction=r) for r, dY in each),
        weighted("weight of the last axis", Draw((4,), "positive")),
        weighted("weight of each sample", Draw((3, 1), "positive")),
        weighted("weight negative and zero", given((4,), -1.0, 0.0, 0.5, 2.0)),
        *(at(f"hard targets, {r}", X, HARD, dY, reduction=r) for r, dY in each),
        *(
            at(f"{where}, target {t:g}", P, given(P.shape, t), Draw(P.shape), families=FULL, reduction="none")
            for where, P in (("near 0 and 1", NEAR), ("at 0 and 1", EDGES))
            for t in (0.0, 1.0, 0.25)
        ),
        # A logarithm between -101 and -100, which the clamp still reaches; in float32 the input is subnormal.
        at(
            "just below the clamp",
            given((2,), 2.2e-44),
            given((2,), 0.25, 1.0),
            Draw((2,)),
            families=FULL,
            reduction="none",
        ),
        at("at 0 and 1, targets right", given((4,), 0.0, 1.0), given((4,), 0.0, 1.0)),
        at("at 0 and 1, targets wrong", given((4,), 0.0, 1.0), given((4,), 1.0, 0.0)),
    )


def _logits() -> tuple[VJPCase, ...]:
    X, T = Draw((3, 4)), Draw((3, 4), "unit")
    W, P = Draw((3, 4), "positive"), Draw((4,), "positive")
    each = reductions(3, 4)
    weights = (
        ("weight", {"weight": W}),
        ("pos_weight", {"pos_weight": P}),
        ("weight and pos_weight", {"weight": P, "pos_weight": W}),
    )
    extreme, signs = given((34,), *EXTREME, 0.0, -0.0), given((8, 4), *EXTREME)

    def at(what: str, X: Draw, T: Draw, dY: Draw = SCALAR, **more: Any) -> VJPCase:
        return loss_case("BCEWithLogitsLoss", what, X, T, dY, **more)

    return (
        *_common("BCEWithLogitsLoss", X, T),
        *(at(f"{what}, {r}", X, T, dY, arrays=own, reduction=r) for what, own in weights for r, dY in each),
        at("weight of each sample", X, T, arrays={"weight": Draw((3, 1), "positive")}),
        at("pos_weight of each sample", X, T, arrays={"pos_weight": Draw((3, 1), "positive")}),
        *(at(f"hard targets, {r}", X, HARD, dY, reduction=r) for r, dY in each),
        at("hard targets, pos_weight", X, HARD, arrays={"pos_weight": P}),
        at("targets outside 0 and 1", X, Draw((3, 4)), Draw((3, 4)), reduction="none"),
        *(
            at(f"extreme, target {t:g}", extreme, given((34,), t), Draw((34,)), families=FULL, reduction="none")
            for t in (0.0, 1.0, 0.25)
        ),
        at(
            "extreme, pos_weight",
            signs,
            given((8, 4), *HARD.values),
            Draw((8, 4)),
            arrays={"pos_weight": P},
            families=FULL,
            reduction="none",
        ),
    )


def _pair(shape: Shape) -> tuple[Draw, ...]:
    return Draw(shape), Draw(shape)


# Differences of 0, just below, at and just above 1/2 and 1, and large ones.
KINKS = given((12,), 0.0, -0.0, 0.5, -0.5, 1.0, -1.0, 1 - 2.0**-24, -0.5 - 2.0**-24, 1.5, -3.0, 1000.0, 1e-30)
AT_KINKS = (KINKS, given((12,), 0.0))
ROBUST = (
    Alike(
        "HuberLoss",
        _pair,
        options={f"delta {delta:g}": {"delta": delta} for delta in (0.5, 8.0, 0.1)},
        shapes=((1, 4), (2, 3, 4), ()),
        edges={
            "at the kink": (AT_KINKS, {}),
            "at the kink of 0.5": (AT_KINKS, {"delta": 0.5}),
            "thousands": ((THOUSANDS, THEIR_TARGETS), {"delta": 0.25}),
        },
    ),
    Alike(
        "SmoothL1Loss",
        _pair,
        options={f"beta {beta:g}": {"beta": beta} for beta in (0.5, 0.0, 8.0, 0.1)},
        shapes=((1, 4), (2, 3, 4), ()),
        edges={
            "at the kink": (AT_KINKS, {}),
            "at the kink of 0.5": (AT_KINKS, {"beta": 0.5}),
            "ties, beta 0": ((TIED, TO_THESE), {"beta": 0.0}),
            "thousands": ((THOUSANDS, THEIR_TARGETS), {"beta": 0.25}),
        },
    ),
)

CASES = (*_regression(), *(case for row in ROBUST for case in row.cases()), *_probabilities(), *_logits())
