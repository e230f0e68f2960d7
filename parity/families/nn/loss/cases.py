"""MSELoss, HalfSquaredError, L1Loss, BCELoss, BCEWithLogitsLoss."""

from __future__ import annotations

from collections.abc import Mapping
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


CASES = (*_regression(), *_probabilities(), *_logits())
