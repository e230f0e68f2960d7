"""Sigmoid, Tanh, ReLU, Softmax, LogSoftmax."""

from __future__ import annotations

from typing import Any

from parity.families.case import FAMILIES, FULL, GRID, Draw, Spec, VJPCase, given

# Saturation of 1 - y in float32 (17) and float64 (37); where exp overflows, and where its reciprocal underflows to a
# subnormal number and to 0, in float32 (88.7, 89, 104) and float64 (709.8, 710, 746); and a thousand.
SATURATED = (16.5, 17.5, 36.5, 37.5, 87.0, 88.5, 88.75, 89.0, 104.0, 708.0, 709.5, 709.8, 710.0, 745.0, 746.0, 1000.0)
EXTREME = tuple(sign * x for x in SATURATED for sign in (1, -1))
SMALL = (0.0, -0.0, 1e-30, -1e-30, 1e-10, -1e-10, 1e-4, -1e-4)


def _elementwise(name: str) -> tuple[VJPCase, ...]:
    def at(what: str, X: Draw, dY: Draw | None = None, families: tuple[str, ...] = FAMILIES) -> VJPCase:
        return VJPCase(f"{name}/{what}", Spec(name), (X,), (dY or Draw(X.shape),), families=families)

    return (
        *(at(f"batch {n}", Draw((n, 5))) for n in (0, 1, 3, 7)),
        at("no axes", Draw(())),
        at("one axis", Draw((5,))),
        at("two leading axes", Draw((2, 3, 4))),
        at("gradient one-hot", Draw((3, 5)), Draw((3, 5), "onehot")),
        at("gradient of stride zero", Draw((3, 5)), Draw((3, 5), layout="expanded")),
        at("gradient transposed", Draw((3, 5)), Draw((3, 5), layout="transposed")),
        at("gradient sliced", Draw((3, 5)), Draw((3, 5), layout="sliced")),
        at("input transposed", Draw((3, 5), layout="transposed")),
        at("input sliced", Draw((3, 5), layout="sliced")),
        at("moderate", Draw((4, 8), scale=4.0)),
        at("extreme", given((4, 8), *EXTREME), families=FULL),
        at("near zero", given((2, 4), *SMALL), families=FULL),
    )


def elementwise(
    name: str, *arguments: dict[str, Any], kinks: tuple[float, ...] = (), small: tuple[float, ...] = SMALL
) -> tuple[VJPCase, ...]:
    """The cases of an activation that goes element by element: few, as the conditions make more of them.

    Args:
        arguments: of the class; the first are those of the plain cases. kinks: inputs at which its pieces meet, on the
            grid, where what it does is tried with all arguments. small: those near zero, in two rows.
    """
    plain, *_ = arguments = arguments or ({},)

    def at(what: str, X: Draw, dY: Draw | None, families: tuple[str, ...], args: dict[str, Any] = plain) -> VJPCase:
        return VJPCase(f"{name}/{what}", Spec(name, args), (X,), (dY or Draw(X.shape),), families=families)

    def named(args: dict[str, Any]) -> str:
        return "".join(f", {key} {value}".replace("_", " ") for key, value in args.items())

    return (
        at("batch 0", Draw((0, 5)), None, GRID),
        at("batch 1", Draw((1, 5)), None, GRID),
        at("batch 3", Draw((3, 5)), None, FAMILIES),
        at("batch 7, gradient of stride zero", Draw((7, 5)), Draw((7, 5), layout="expanded"), GRID),
        at("two leading axes, gradient transposed", Draw((2, 3, 4)), Draw((2, 3, 4), layout="transposed"), FULL),
        at("no axes", Draw(()), None, GRID),
        at("near zero", given((2, len(small) // 2), *small), None, FULL),
        at("extreme", given((4, 8), *EXTREME), None, FULL),
        *(at(f"moderate{named(args)}", Draw((4, 8), scale=4.0), None, FULL, args) for args in arguments),
        *(at(f"kinks{named(args)}", given((len(kinks),), *kinks), None, GRID, args) for args in arguments if kinks),
    )


def _kinks() -> tuple[VJPCase, ...]:
    at_kink = given((2, 4), 0.0, -0.0, 1 / 64, -1 / 64, 1.0, -1.0, 0.0, -0.0)
    return (
        VJPCase("ReLU/at the kink, both zeros", Spec("ReLU"), (at_kink,), (Draw((2, 4)),)),
        VJPCase("ReLU/everything off", Spec("ReLU"), (Draw((3, 5), "positive", scale=-1.0),), (Draw((3, 5)),)),
        VJPCase("ReLU/everything on", Spec("ReLU"), (Draw((3, 5), "positive"),), (Draw((3, 5)),)),
    )


# Rows of logits: a tie of all, of the two largest, of the two smallest.
TIES = (1.0, 1.0, 1.0, 1.0, 2.0, 2.0, -1.0, 0.0, -2.0, -2.0, 0.5, 1.5)
# Rows of logits: one class ahead, by what exp can say in both formats, in float64 alone, and in neither.
FAR_APART = (
    *(1000.0, -1000.0, 0.0, 999.0),
    *(88.75, -104.0, 87.0, 15.0),
    *(709.8, -36.5, -1000.0, 708.0),
    *(746.0, 0.0, 20.0, 16.0),
)


def _along_axis(name: str) -> tuple[VJPCase, ...]:
    def at(what: str, X: Draw, dY: Draw | None = None, dim: int = -1, families: tuple[str, ...] = FAMILIES) -> VJPCase:
        return VJPCase(f"{name}/{what}", Spec(name, {"dim": dim}), (X,), (dY or Draw(X.shape),), families=families)

    return (
        *(at(f"batch {n}", Draw((n, 5))) for n in (0, 1, 3, 7)),
        at("no batch axis", Draw((5,)), dim=0),
        at("first axis", Draw((3, 5)), dim=0),
        at("middle axis", Draw((2, 3, 4)), dim=1),
        at("middle axis, from the end", Draw((2, 3, 4)), dim=-2),
        at("last axis of four", Draw((2, 1, 3, 4)), dim=3),
        at("two classes", Draw((3, 2))),
        at("one class", Draw((3, 1))),
        at("thirty classes", Draw((2, 30))),
        at("gradient one-hot", Draw((3, 5)), Draw((3, 5), "onehot")),
        at("gradient of stride zero", Draw((3, 5)), Draw((3, 5), layout="expanded")),
        at("gradient transposed", Draw((3, 5)), Draw((3, 5), layout="transposed")),
        at("gradient sliced", Draw((3, 5)), Draw((3, 5), layout="sliced")),
        at("gradient the same for all classes", Draw((3, 5)), given((3, 5), 1.5)),
        at("input transposed", Draw((3, 5), layout="transposed")),
        at("input sliced", Draw((3, 5), layout="sliced")),
        at("ties", given((3, 4), *TIES)),
        at("moderate", Draw((3, 5), scale=4.0)),
        at("all logits near 1000", Draw((3, 5), offset=1000.0), families=FULL),
        at("all logits near -1000", Draw((3, 5), offset=-1000.0), families=FULL),
        at("far apart", given((4, 4), *FAR_APART), families=FULL),
    )


CASES = (
    *_elementwise("Sigmoid"),
    *_elementwise("Tanh"),
    *_elementwise("ReLU"),
    *_kinks(),
    *_along_axis("Softmax"),
    *_along_axis("LogSoftmax"),
    *(
        VJPCase(f"{name}/no axes", Spec(name, {"dim": 0}), (Draw(()),), (Draw(()),))
        for name in ("Softmax", "LogSoftmax")
    ),
)
