"""LBFGS: direction, history and length of the step on given gradients, one iteration a step; and whole steps, with and
without a line search, on objectives that it evaluates itself: least squares, which are quadratic, and a network.

What a step compares has to be apart by more than its bound, in float32 too: inputs are chosen so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from parity.families.case import FULL, Draw, OptimizeCase, Spec, VJPCase, given
from parity.families.streams import RANDOM, SHAPES, SHRINKING, SIGNS, Stream, case

LEAST_SQUARES = Spec(
    "Objective", layers=(Spec("Linear", {"in_features": 2, "out_features": 1}), Spec("MSELoss", {"reduction": "sum"}))
)
SQUARE = Spec(
    "Objective",
    layers=(
        Spec("Linear", {"in_features": 1, "out_features": 1, "bias": False}),
        Spec("MSELoss", {"reduction": "sum"}),
    ),
)
"""The square of the one parameter: at powers of two its steps are exact, and a comparison can be a tie."""

NETWORK = Spec(
    "Objective",
    layers=(
        Spec(
            "Sequential",
            layers=(
                Spec("Linear", {"in_features": 1, "out_features": 2}),
                Spec("Tanh"),
                Spec("Linear", {"in_features": 2, "out_features": 1, "bias": False}),
            ),
        ),
        Spec("MSELoss"),
    ),
)
QUADRATIC_AT: Mapping[str, Draw] = {"network.weight": given((1, 2), 1.5, -0.75), "network.bias": given((1,), 0.5)}
NETWORK_AT: Mapping[str, Draw] = {
    "network.0.weight": given((2, 1), 0.75, -0.5),
    "network.0.bias": given((2,), 0.25, 0.5),
    "network.2.weight": given((1, 2), 1.0, -1.5),
}


def _on(what: str, objective: Spec, times: int = 1, **args: Any) -> OptimizeCase:
    quadratic = objective is LEAST_SQUARES
    inputs = (
        (given((3, 2), 1, 0.5, -0.5, 2, 0.75, -1), given((3, 1), 1, -2, 0.5))
        if quadratic
        else (given((3, 1), -1, 0.5, 2), given((3, 1), 0.5, -0.25, 1))
    )
    return OptimizeCase.of(
        "LBFGS",
        what,
        args,
        params=QUADRATIC_AT if quadratic else NETWORK_AT,
        grads={},
        families=FULL,
        objective=VJPCase("objective", objective, inputs, (given((), 1),)),
        times=times,
    )


def _square(what: str, weight: float, **args: Any) -> OptimizeCase:
    return OptimizeCase.of(
        "LBFGS",
        what,
        args,
        params={"network.weight": given((1, 1), weight)},
        grads={},
        families=FULL,
        objective=VJPCase("objective", SQUARE, (given((1, 1), 1), given((1, 1), 0)), (given((), 1),)),
        times=1,
    )


def _stream(what: str, stream: Stream = RANDOM, steps: int = 4, **args: Any) -> OptimizeCase:
    return case("LBFGS", what, stream, SHAPES, steps=steps, **{"max_iter": 1, **args})


WOLFE: dict[str, Any] = {"line_search_fn": "strong_wolfe"}
FROM_ZERO = Stream((*(0.0,) * 4, 1.5, -0.5, 2.0, 0.75, -1.0, 0.5, 0.25, -2.0))

CASES = (
    _stream("one iteration a step"),
    _stream("history_size 2, lr 0.25", steps=5, history_size=2, lr=0.25),
    _stream("history_size 1", history_size=1, lr=0.5, at_zero=True),
    _stream("signs that change", Stream(SIGNS)),
    _stream("gradients that become smaller, tolerance_grad 0.3", Stream(SHRINKING), tolerance_grad=0.3),
    _stream("gradients of zero", Stream((0.0,))),
    _stream("a first gradient of zero", FROM_ZERO, steps=3, lr=0.5),
    _stream("gradients of 1e-12, tolerances 0", Stream(scale=2.0**-40), tolerance_grad=0.0, tolerance_change=0.0),
    _stream("gradients of 1e-12", Stream(scale=2.0**-40), tolerance_grad=0.0),
    _stream("gradients of 1e12", Stream(scale=2.0**40), at_zero=True),
    _stream("gradients that are absent", Stream(absent={"gain": (0, 2)}), steps=3, lr=0.5),
    _stream("three iterations with one gradient", steps=2, max_iter=3, max_eval=8, lr=0.5),
    _stream("max_eval 2", steps=2, max_iter=6, max_eval=2, lr=0.5),
    _on("least squares", LEAST_SQUARES, max_iter=3),
    _on("least squares, tolerance_change 0.5", LEAST_SQUARES, lr=0.125, max_iter=6, tolerance_change=0.5),
    _on("least squares, strong Wolfe", LEAST_SQUARES, **WOLFE, max_iter=2),
    _on("least squares, strong Wolfe, first step too long", LEAST_SQUARES, **WOLFE, lr=4.0, max_iter=1, max_eval=9),
    _on("least squares, strong Wolfe, first step too short", LEAST_SQUARES, **WOLFE, lr=0.125, max_iter=1, max_eval=9),
    _on("network", NETWORK, 2, max_iter=2, lr=0.5),
    _on("network, strong Wolfe", NETWORK, 2, **WOLFE, max_iter=1),
    _on("least squares, strong Wolfe, max_eval 3", LEAST_SQUARES, **WOLFE, lr=0.125, max_iter=2, max_eval=3),
    _on("network, strong Wolfe, first step too long", NETWORK, **WOLFE, lr=8.0, max_iter=1, max_eval=8),
    _stream("gradients of zero, tolerance_grad 0", Stream((0.0,)), tolerance_grad=0.0),
    _square("square, to its least point", 1.0, max_iter=3, tolerance_grad=0.0),
    _square("square, a gradient between 1 and 2", 0.75, max_iter=2),
    _square("square, a slope of tolerance_change", 0.25, lr=0.5, max_iter=3, tolerance_change=0.25),
    _square("square, a step of tolerance_change", 2.0, lr=0.5, max_iter=3, tolerance_change=0.5),
    _square("square, a step of twice tolerance_change", 2.0, lr=0.5, max_iter=3, tolerance_change=0.25),
    _square("square, a step longer than tolerance_change", 0.5, lr=0.125, max_iter=3, tolerance_change=0.1171875),
    _square("square, lower by tolerance_change", 0.5, lr=0.125, max_iter=3, tolerance_change=0.109375),
    _square("square, higher by tolerance_change", 0.5, lr=1.25, max_iter=3, tolerance_change=0.3125),
    _on(
        "least squares, strong Wolfe, first step too long, max_eval 2",
        LEAST_SQUARES,
        **WOLFE,
        lr=4.0,
        max_iter=1,
        max_eval=2,
    ),
    _square("square, strong Wolfe, max_eval 1", 4.0, **WOLFE, lr=0.125, max_iter=2, max_eval=1),
)
