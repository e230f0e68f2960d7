"""No evaluation under the model is further from the exact result than its bound."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import hypothesis
import numpy as np
import pytest
from adversary import PROFILES, Case, draw, largest
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view

from benchmarks.adversarial.rounding_machine import MODES, Machine
from parity.budget.array import Budget, Profile
from parity.truth import ball
from refnet.arithmetic import special

pytestmark = pytest.mark.arithmetic


def normalized(x: Any) -> Any:
    d = x - np.sum(x, axis=-1, keepdims=True) / x.shape[-1]
    return d / np.sqrt(np.sum(d * d, axis=-1, keepdims=True) / x.shape[-1] + special.lift(1e-5, x))


def softmax(x: Any) -> Any:
    e = np.exp(x - special.shift(x, -1))
    return e / np.sum(e, axis=-1, keepdims=True)


EXPRESSIONS: dict[str, Callable[..., Any]] = {
    "add": lambda x, y: x + y,
    "subtract": lambda x, y: x - y,
    "multiply": lambda x, y: x * y,
    "divide": lambda x, y: x / y,
    "constants": lambda x, y: 0.1 * x - y / 3 + 0.25,
    "scaling": lambda x, y: 0.5 * (x * y) / 8,
    "polynomial": lambda x, y: (x * x - 2 * x * y + y * y) * (x - y),
    "matmul": lambda x, y: x @ y.mT,
    "affine": lambda x, y: x @ y.mT + y[:, 0],
    "two products": lambda x, y: x @ y.mT + y @ x.mT + x[:, :1] - y[0, 0],
    "sum of products": lambda x, y: (x @ y.mT).sum(axis=-1) + np.sum(x, axis=-1),
    "rearranged": lambda x, y: (x @ y.mT).reshape(-1)[1:] + np.expand_dims(x @ y.mT, 0).mT[0, :, 0].reshape(-1)[:1],
    "padded": lambda x, y: np.pad(x @ y.mT, 1) + np.pad(y @ y.mT, 1) + np.pad(x @ x.mT, 1),
    "concatenated": lambda x, y: np.concatenate([x @ y.mT, x[:, :1] + y[:, :1]], axis=-1) + y[:, :1],
    "where": lambda x, y: np.where(x[:, :1] > 0, x @ y.mT, y @ x.mT) + np.where(y[:1, :1] < 0, x, y)[:, :1],
    "broadcast": lambda x, y: np.broadcast_to(np.sum(x, axis=-2), x.shape) + y,
    "einsum": lambda x, y: np.einsum("ij,kj->ik", x, y) + np.einsum("ij,ij->i", x, y),
    "windows": lambda x, y: np.sum(sliding_window_view(x * y, 2, axis=-1), axis=-1),
    "elementary": lambda x, y: np.exp(x) * np.tanh(y) + np.log1p(x * x) - np.log(y * y + 1) / np.sqrt(x * x + y * y),
    "sigmoid": lambda x, y: special.sigmoid(x * y) * (1 - special.sigmoid(x)) + special.log_sigmoid(8 * y),
    "softmax": lambda x, y: softmax(x * y),
    "normalized": lambda x, y: normalized(x) * y,
}


PLAIN, MIXED = list(PROFILES)[:4], list(PROFILES)[4:]
ELEMENTWISE = ("add", "subtract", "multiply", "divide", "constants", "scaling", "polynomial", "elementary", "sigmoid")


@pytest.mark.parametrize(
    ("name", "profile"),
    [(name, profile) for name in EXPRESSIONS for profile in PLAIN]
    + [(name, profile) for name in EXPRESSIONS if name not in ELEMENTWISE for profile in MIXED],
)
def test_every_evaluation_lies_within_the_bound(name: str, profile: str) -> None:
    p = PROFILES[profile]
    case = Case(EXPRESSIONS[name], (draw(1, p, 2, 3), draw(2, p, 2, 3)))
    assert 0 < largest(case, p, 2) <= 1


TREES = st.recursive(
    st.tuples(st.just("leaf"), st.integers(0, 2)),
    lambda below: st.one_of(
        st.tuples(st.sampled_from(["add", "subtract", "multiply", "divide"]), below, below),
        st.tuples(st.sampled_from(["exp", "log1p", "tanh", "sqrt", "sigmoid", "log_sigmoid", "log"]), below),
    ),
    max_leaves=8,
)


def grown(tree: Any, leaves: Sequence[Any]) -> Any:
    """The tree as an expression; arguments are squared where a function needs them positive."""
    name, *below = tree
    if name == "leaf":
        return leaves[below[0]]
    arguments = [grown(b, leaves) for b in below]
    if name in ("sqrt", "log1p", "log"):
        arguments = [arguments[0] * arguments[0]]
    return getattr(special, name)(*arguments) if "sigmoid" in name else getattr(np, name)(*arguments)


@hypothesis.settings(max_examples=300, deadline=None, derandomize=True, database=None)
@hypothesis.given(
    tree=TREES,
    seed=st.integers(0, 2**16),
    spread=st.sampled_from([2, 10, 60]),
    mode=st.sampled_from(MODES),
    profile=st.sampled_from(["float64", "float32", "float16"]),
)
def test_every_evaluation_of_any_expression(tree: Any, seed: int, spread: int, mode: str, profile: str) -> None:
    p = PROFILES[profile]
    if profile == "float16":
        spread = min(spread, 6)
    inputs = tuple(draw(seed + k, p, 2, low=-spread, high=spread) for k in range(3))
    machine = Machine(p, mode, flush=seed % 2 == 1, seed=seed)
    assert Case(lambda *leaves: grown(tree, leaves), inputs).share(machine) <= 1


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", EXPRESSIONS)
def test_numpy_stays_well_within_the_bound(name: str, dtype: str) -> None:
    p, f = Profile.of(dtype), EXPRESSIONS[name]
    inputs = [draw(k, p, 8, 8) for k in (3, 4)]
    with ball.precision(300):
        truth = ball.values(f(*map(ball.lift, inputs)))
        got = f(*(x.astype(dtype) for x in inputs))
        assert got.dtype == dtype
        error = [abs(float(ball.ball(float(v)) - true)) for v, true in zip(got.flat, truth.flat, strict=True)]
    bound = f(*(Budget.exact(x, p) for x in inputs)).e.ravel()
    shares = [off / e if e else math.inf * off if off else 0.0 for off, e in zip(error, bound, strict=True)]
    assert 0 < max(shares) < 0.8
