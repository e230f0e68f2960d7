"""One definition, several arithmetics: every listed function in each of them, and every layer on floats, balls, budgets
and runs of each of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from flint import arb

from benchmarks.adversarial.rounded_array import Rounded
from benchmarks.adversarial.rounding_machine import Machine
from parity.budget.array import Budget, Profile
from parity.families import listing
from parity.families.altered import Altered
from parity.families.case import Draw, VJPCase
from parity.records import definition
from parity.records.record import VJP
from parity.truth import ball, tape
from parity.truth.scalars import Scalars
from parity.truth.taped import Taped
from parity.truth.tensor_balls import TensorBalls
from refnet import nn
from refnet.arithmetic import functions, special
from refnet.arithmetic.array_like import ArrayLike
from refnet.arithmetic.array_like import named as functions_named
from refnet.arithmetic.runs import Runs
from refnet.train.capture.recorder import Recorder, Traced

pytestmark = pytest.mark.arithmetic

R = 3
F64 = Profile.of("float64")

X, Y = np.random.default_rng(1).uniform(0.1, 0.9, (2, 3, 4))
ROWS = np.array([[2, 0, 2], [1, 1, 0]])
WINDOWS = "lib.stride_tricks.sliding_window_view"
LISTED: dict[str, Callable[[Any, Any], Any]] = {
    "add": lambda x, y: x + y,
    "subtract": lambda x, y: 1.5 - x,
    "multiply": lambda x, y: x * y,
    "divide": lambda x, y: x / y,
    "negative": lambda x, y: -x,
    "matmul": lambda x, y: x @ y.mT,
    "exp": lambda x, y: np.exp(x),
    "log": lambda x, y: np.log(x),
    "log1p": lambda x, y: np.log1p(x),
    "sqrt": lambda x, y: np.sqrt(x),
    "tanh": lambda x, y: np.tanh(x),
    "absolute": lambda x, y: np.absolute(y - x),
    "sin": lambda x, y: np.sin(x),
    "cos": lambda x, y: np.cos(x),
    "expm1": lambda x, y: np.expm1(x),
    "power": lambda x, y: np.power(x, 3) + np.power(y, -1.5),
    "greater": lambda x, y: x > y,
    "greater_equal": lambda x, y: x >= y,
    "less": lambda x, y: x < 0.5,
    "less_equal": lambda x, y: x <= y,
    "equal": lambda x, y: x == y,
    "not_equal": lambda x, y: x != y,
    "where": lambda x, y: np.where(X > Y, x, y),
    "sum": lambda x, y: np.sum(x, axis=-1),
    "expand_dims": lambda x, y: np.expand_dims(x, -2),
    "reshape": lambda x, y: np.reshape(x, (2, 6)),
    "broadcast_to": lambda x, y: np.broadcast_to(x, (2, 3, 4)),
    "concatenate": lambda x, y: np.concatenate([x, y], axis=-1),
    "pad": lambda x, y: np.pad(x, ((1, 0), (0, 2))),
    "einsum": lambda x, y: np.einsum("ij,kj->ik", x, y),
    "cumsum": lambda x, y: np.cumsum(x, axis=-1),
    WINDOWS: lambda x, y: np.lib.stride_tricks.sliding_window_view(x, (2, 3), axis=(-2, -1)),
    "lift": lambda x, y: x * special.lift(0.3, x),
    "shift": lambda x, y: x - special.shift(x, -1),
    "largest": lambda x, y: special.largest(x, -1),
    "sigmoid": lambda x, y: special.sigmoid(x),
    "log_sigmoid": lambda x, y: special.log_sigmoid(x),
    "erf": lambda x, y: special.erf(x - y),
    "erfc": lambda x, y: special.erfc(x - y),
    "erf_derivative": lambda x, y: special.erf_derivative(x),
    "maximum": lambda x, y: special.maximum(x, y),
    "amax": lambda x, y: special.amax(x, -1),
    "amax_weights": lambda x, y: special.amax_weights(x, -2) * y,
    "gather": lambda x, y: special.gather(x, ROWS),
    "scatter": lambda x, y: special.scatter(x, ROWS[0], 5),
    "mT": lambda x, y: x.mT,
    "copy": lambda x, y: x.copy(),
}
"""An example of each listed function."""

ARITHMETICS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "runs": (lambda a: Runs(np.stack([a] * R)), lambda y: y.a[R - 1]),
    "recorded": (lambda a: Traced(a, Recorder()), lambda y: y.a),
    "budgets": (lambda a: Budget.exact(a, F64), lambda y: y.x),
    "arrays on a tape": (lambda a: Taped(Budget.exact(a, F64)), lambda y: y.value.x),
    "scalars": (lambda a: Scalars(ball.lift(a), a.dtype), lambda y: ball.values(y.nodes)),
    "tensors of balls": (TensorBalls.lift, lambda y: y.balls),
    "balls": (ball.lift, ball.values),
    "altered": (lambda a: Altered(a, {}), lambda y: y.a),
    "the adversary": (lambda a: Rounded(a, Machine(F64)), lambda y: y.floats()),
}
"""How to take an array into each arithmetic, and values out of it."""
CLASSES = (Runs, Traced, Budget, Taped, Scalars, TensorBalls, Altered, Rounded)
COUNTING = {
    Runs: functions.OF_COUNTERS,
    Traced: functions.OF_COUNTERS,
    Budget: ("of_counter", "one_minus_power"),
    Rounded: ("of_counter",),
}
"""Arithmetics that hold a counter of steps for each run, or record one, one that knows its format's rounding, and
one that is asked for the same exact powers again and again."""


def unlike_the_list(arithmetic: type[ArrayLike]) -> set[str]:
    """The functions that are listed and have no entry in the arithmetic's tables, and those that have one unlisted."""
    tables = {*arithmetic.FUNCTIONS} - {np.ndim, np.shape, np.copy}
    different = tables ^ {*functions_named(functions.FUNCTIONS)}
    ufuncs = {*functions_named(functions.UFUNCS)}
    one_rule_for_all = (
        arithmetic._each is not ArrayLike._each or arithmetic.__array_ufunc__ is not ArrayLike.__array_ufunc__
    )
    different |= {*arithmetic.UFUNCS} - ufuncs if one_rule_for_all else {*arithmetic.UFUNCS} ^ ufuncs
    specials = {*functions.SPECIALS, *(functions.FOLLOWED if hasattr(arithmetic, "__follows__") else ())}
    specials |= {*COUNTING.get(arithmetic, ())}
    members = {name for name in functions.METHODS if not hasattr(arithmetic, name)}
    return {f.__name__ for f in different} | ({*arithmetic.SPECIALS} ^ specials) | members


@pytest.mark.parametrize("arithmetic", CLASSES, ids=lambda c: c.__name__)
def test_every_arithmetic_has_exactly_the_listed_functions(arithmetic: type[ArrayLike]) -> None:
    assert unlike_the_list(arithmetic) == set()


@pytest.mark.parametrize("arithmetic", CLASSES, ids=lambda c: c.__name__)
def test_missing_and_superfluous_entries_are_seen(arithmetic: type[ArrayLike], monkeypatch: pytest.MonkeyPatch) -> None:
    tables = {name: dict(getattr(arithmetic, name)) for name in ("FUNCTIONS", "UFUNCS", "SPECIALS")}
    del tables["FUNCTIONS"][np.pad], tables["SPECIALS"]["shift"]
    tables["FUNCTIONS"][np.cumprod] = tables["UFUNCS"][np.tan] = tables["SPECIALS"]["erfinv"] = lambda x: x
    for name, table in tables.items():
        monkeypatch.setattr(arithmetic, name, table)
    assert unlike_the_list(arithmetic) == {"pad", "shift", "cumprod", "tan", "erfinv"}


def test_every_listed_function_has_an_example() -> None:
    methods = {*functions.METHODS} - {"shape", "ndim", "size", "dtype"}
    assert {*LISTED} == {*functions.UFUNCS, *functions.FUNCTIONS, *functions.SPECIALS, *methods}


@pytest.mark.parametrize("arithmetic", ARITHMETICS)
@pytest.mark.parametrize("name", LISTED)
def test_a_listed_function_gives_in_every_arithmetic_what_it_gives_on_floats(name: str, arithmetic: str) -> None:
    lift, values = ARITHMETICS[arithmetic]
    expected = LISTED[name](X, Y)
    with ball.precision(100):
        result = LISTED[name](lift(X), lift(Y))
        # What decides is plain, but for runs and recorded arrays, which decide for every run and every replay.
        plain = expected.dtype == bool and arithmetic not in ("runs", "recorded")
        got = result if plain else values(result)
        assert type(got) is np.ndarray
        assert got.shape == result.shape == expected.shape
        assert result.ndim == expected.ndim
        assert result.size == expected.size
        assert len(result) == len(expected)
        np.testing.assert_allclose(got.astype(expected.dtype), expected, rtol=1e-14, atol=0)


MOST = 150
"""The most numbers of a case; a class has smaller ones for nearly all its settings."""
OTHERWISE = {"TransformerEncoder": 2}
"""How many of the smallest cases are taken of a class without such a small one, where one alone has wide bounds."""
MODULES = sorted({name for name in nn.__all__ if isinstance(getattr(nn, name), type)} - {"Module"}, key=str.lower)


def draws(case: VJPCase) -> tuple[Draw, ...]:
    return *case.arrays.values(), *case.inputs, *case.grads


def given(case: VJPCase) -> int:
    """How many of its arrays are given, and not drawn anew for every run."""
    return sum(bool(draw.values) or draw.kind == "onehot" for draw in draws(case))


def settings(kind: str) -> list[VJPCase]:
    """A small case for each way in which the catalogue builds and calls a class, such that every run draws its own."""

    def rank(case: VJPCase) -> tuple[bool, int, int]:
        sizes = [math.prod(draw.shape) for draw in draws(case)]
        return 0 in sizes, given(case), sum(sizes)

    smallest: dict[str, VJPCase] = {}
    for case in listing.OWN:
        if isinstance(case, VJPCase) and case.spec.type == kind and case.parts is None:
            way = f"{case.spec}, {case.training}, {case.names}"
            smallest[way] = min(smallest.get(way, case), case, key=rank)
    small = [case for case in smallest.values() if rank(case)[2] <= MOST and not rank(case)[0]]
    return small or sorted(smallest.values(), key=rank)[: OTHERWISE.get(kind, 1)]


def moved(array: Any, run: int) -> Any:
    return np.roll(array, run, axis=0) if array.ndim else array


def record_of(case: VJPCase, run: int) -> VJP:
    """A run of a case: floats of its own; the case's indices and masks, moved on by a sample."""
    own = case.record("full", "float64")
    made = replace(case, name=f"{case.name}/run {run}").record("full", "float64")
    inputs = (
        x if x.dtype.kind == "f" else whole if "offsets" in own.input_names else moved(whole, run)
        for name, x, whole in zip(own.input_names, made.inputs, own.inputs, strict=True)
    )
    return replace(made, inputs=tuple(inputs))


def together(arrays: Sequence[Any]) -> Any:
    """The arrays of all runs: floats stacked, to be lifted to runs; others as runs, and plain where they are alike."""
    if arrays[0].dtype.kind == "f":
        return np.stack(arrays)
    return arrays[0] if all(np.array_equal(arrays[0], a) for a in arrays) else Runs(np.stack(arrays))


def together_in_one(records: Sequence[VJP]) -> VJP:
    return replace(
        records[0],
        arrays={name: together([record.arrays[name] for record in records]) for name in records[0].arrays},
        inputs=tuple(map(together, zip(*(record.inputs for record in records), strict=True))),
        grad_outputs=tuple(map(together, zip(*(record.grad_outputs for record in records), strict=True))),
    )


def budgets(a: Any) -> Any:
    return Budget.exact(a, F64)


def check(case: VJPCase) -> float:
    """The widest bound, over the largest number of its tensor or 1."""
    widest = 0.0
    records = [record_of(case, k) for k in range(R)]
    all_runs = together_in_one(records)
    floats = [definition.vjp(record, lambda a: a) for record in records]
    budgeted = [definition.vjp(record, budgets) for record in records]
    runs, runs_of_budgets = definition.vjp(all_runs, Runs), definition.vjp(all_runs, lambda a: Runs(budgets(a)))
    with ball.precision(200), tape.untaped():
        balls = [definition.vjp(record, ball.lift) for record in records]
        runs_of_balls = definition.vjp(all_runs, lambda a: Runs(ball.lift(a)))
        for k in range(R):
            assert floats[k].keys() == budgeted[k].keys() == balls[k].keys() == runs.keys() == runs_of_budgets.keys()
            for tensor, x in floats[k].items():
                if np.asarray(x).dtype.kind == "i":
                    assert int(x) == int(runs[tensor]) == int(balls[k][tensor])
                    continue
                # A run has the bits that it has alone.
                assert runs[tensor].dtype == x.dtype
                assert np.array_equal(runs[tensor].a[k], x)
                b, both = budgeted[k][tensor], runs_of_budgets[tensor].a
                assert np.array_equal(both.x[k], b.x)
                assert np.allclose(both.e[k], b.e, rtol=1e-12, atol=0)
                true = ball.values(balls[k][tensor])
                assert all(
                    t.overlaps(s) for t, s in zip(true.flat, ball.values(runs_of_balls[tensor].a[k]).flat, strict=True)
                )
                assert true.shape == np.shape(x) == b.shape
                for t, y, c, e in zip(true.flat, np.ravel(x), b.x.flat, b.e.flat, strict=True):
                    assert abs(arb(float(c)) - t) <= float(e)
                    assert abs(arb(float(y)) - t) <= float(e)
                widest = max(widest, b.e.max(initial=0) / max(1.0, np.abs(x).max(initial=0)))
    return widest


DEEP = {"TransformerDecoderLayer": 32}
"""Three normalizations of few features in a row: each multiplies bounds by more than values."""


@pytest.mark.parametrize("kind", MODULES)
def test_a_layer_runs_in_every_arithmetic(kind: str) -> None:
    """Each class that refnet.nn exports, in every setting of which the catalogue has a small case."""
    widest: list[tuple[VJPCase, float]] = []
    for case in settings(kind):
        try:
            widest.append((case, check(case)))
        except Exception as error:
            error.add_note(f"in {case.name}")
            raise
    # Narrower than what float32 rounds, where no kink is met on purpose; in the best setting far narrower.
    assert max((bound for case, bound in widest if not given(case)), default=0.0) < 2**-24
    assert min(bound for _, bound in widest) < 2**-24 / DEEP.get(kind, 1024)


@pytest.mark.parametrize("kind", MODULES)
def test_runs_of_a_case_differ(kind: str) -> None:
    """Otherwise it would not be seen that one run got the numbers of another."""
    for case in settings(kind):
        first, second = ([a.tobytes() for _, a in record_of(case, k).given() if a.size] for k in (0, 1))
        assert first != second or not first, case.name
