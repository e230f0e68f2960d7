"""NLLLoss, KLDivLoss, GaussianNLLLoss and PoissonNLLLoss."""

from __future__ import annotations

from parity.families.case import Draw, given, indices
from parity.families.nn.loss.cases import Alike, Shape

C = 4
WEIGHT = {"arrays": {"weight": Draw((C,), "positive")}}


def _classes(shape: Shape) -> tuple[Draw, ...]:
    """Logarithms of probabilities, or any other numbers, and classes."""
    return Draw(shape), Draw(_samples(shape), "index", below=shape[1] if len(shape) > 1 else shape[0])


def _samples(shape: Shape) -> Shape:
    return shape[:1] + shape[2:] if len(shape) > 1 else ()


def _positive(shape: Shape) -> tuple[Draw, ...]:
    return Draw(shape), Draw(shape, "positive")


def _normal(shape: Shape) -> tuple[Draw, ...]:
    return Draw(shape), Draw(shape), Draw(shape, "positive")


X6 = Draw((6, C))
SOME = indices((6,), -100, 2, 0, -100, 3, 1)
# Targets and the logarithms of others, equal ones, tiny and vanishing ones.
T8 = given((8,), 0.0, 0.25, 1.0, 1e-30, 0.5, 0.75, 1e-4, 2.0)
LOG8 = given((8,), -1.0, -1.38671875, 0.0, -80.0, -0.6875, -1000.0, 0.5, -0.0)
COUNTS = given((8,), 0.0, 1.0, 2.0, 1 + 2.0**-20, 0.5, 30.0, 100.0, 7.0)

LOSSES = (
    Alike(
        "NLLLoss",
        _classes,
        _samples,
        {
            "weight": WEIGHT,
            "weight again": WEIGHT,
            "weight and mean": WEIGHT,
            "weight of one class zero": {"arrays": {"weight": given((C,), 1.0, 0.0, 0.5, 2.0)}},
            "ignore_index a class": {"ignore_index": 2},
            "ignore_index a class, weight": {"ignore_index": 1, **WEIGHT},
        },
        ((1, C), (C,), (2, C, 3), (2, C, 2, 3), (3, 1)),
        {
            "some ignored": ((X6, SOME), {}),
            "all ignored": ((Draw((3, C)), indices((3,), -100)), {}),
            "logarithms of 0": ((given((2, C), -1e30, 0.0, -745.0, 88.0), indices((2,), 0, 2)), {}),
        },
    ),
    Alike(
        "KLDivLoss",
        _positive,
        options={
            "log_target": {"log_target": True},
            "log_target again": {"log_target": True},
            "log_target and sum": {"log_target": True},
            "log_target and batchmean": {"log_target": True},
        },
        shapes=((1, 4), (2, 3, 4), (5,), ()),
        edges={
            "targets of 0 and tiny ones": ((LOG8, T8), {}),
            "log_target, far apart": ((LOG8, given((8,), -700.0, -0.5, 0.0, 3.0, 1e-20)), {"log_target": True}),
            "nearly the same": (
                (given((3, 3), -0.6931471805599453), given((3, 3), 0.5, 0.5 + 2.0**-22, 0.5 - 2.0**-20)),
                {},
            ),
        },
        reductions=("none", "mean", "sum", "batchmean"),
    ),
    Alike(
        "GaussianNLLLoss",
        _normal,
        options={
            "full": {"full": True},
            "eps 1": {"eps": 1.0},
            "full, eps 0.25": {"full": True, "eps": 0.25},
        },
        shapes=((1, 4), (2, 3, 4), (5,)),
        edges={
            "one variance a sample": ((Draw((3, 4)), Draw((3, 4)), Draw((3,), "positive")), {}),
            "one variance a sample, axis": (
                (Draw((3, 4)), Draw((3, 4)), Draw((3, 1), "positive")),
                {"full": True},
            ),
            "one variance for all samples": ((Draw((3, 4)), Draw((3, 4)), Draw((1, 4), "positive")), {}),
            "targets spread": ((Draw((3, 4)), Draw((3, 1)), Draw((3, 4), "positive")), {}),
            "variance clamped": (
                (given((6,), 1.0, 2.0, 0.5, -3.0), given((6,), 0.5), given((6,), 0.0, 0.25, 0.125, 1e-20, 2.0, 0.5)),
                {"eps": 0.25},
            ),
            "variance of the square": (
                (given((4,), 1.5, 2.0, -1.0, 1000.0), given((4,), 0.5, 0.0, 1.0), given((4,), 1.0, 4.0, 4.0, 1e-5)),
                {},
            ),
        },
    ),
    Alike(
        "PoissonNLLLoss",
        _positive,
        options={
            "full": {"full": True},
            "full and mean": {"full": True},
        },
        shapes=((1, 4), (2, 3, 4), (5,)),
        edges={
            "counts": ((given((8,), 0.5, -2.0, 3.0, 0.0, -30.0, 4.0, 4.6, 40.0), COUNTS), {}),
            "counts, full": ((given((8,), 0.5, -2.0, 3.0, 0.0, -30.0, 4.0, 4.6, 40.0), COUNTS), {"full": True}),
            "rates": ((given((8,), 0.5, 0.0, 2.0, 1.0, 1e-20, 30.0, 99.0, 7 + 2.0**-18), COUNTS), {"log_input": False}),
            "rates, full": (
                (Draw((3, 4), "positive"), Draw((3, 4), "positive")),
                {"log_input": False, "full": True, "eps": 0.5},
            ),
            "rates, no eps": ((Draw((3, 4), "positive"), Draw((3, 4), "positive")), {"log_input": False, "eps": 0.0}),
        },
    ),
)

CASES = tuple(case for row in LOSSES for case in row.cases())
