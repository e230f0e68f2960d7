"""Forward mode, against torch.func.jvp, against reverse mode, and in budgets and balls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import parity
from parity.budget.array import Budget
from parity.budget.formats import Profile
from parity.truth.forward import Dual
from parity.truth.taped import Taped, gradients
from refnet.arithmetic import special
from tests.parity.test_arithmetics import LISTED, unlike_the_list

torch = pytest.importorskip("torch")

# torch 2.13 says so of itself when torch.func.jvp is first called.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")

X, V, W = np.random.default_rng(3).uniform(0.1, 0.9, (3, 3, 4))

EXPRESSIONS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "tanh of a product": (lambda x, w: np.tanh(x @ w.T), lambda x, w: torch.tanh(x @ w.T)),
    "quotient": (lambda x, w: w / x - x / w, lambda x, w: w / x - x / w),
    "power, log": (lambda x, w: np.log(x) * x**3, lambda x, w: torch.log(x) * x**3),
    "log1p, expm1, sqrt": (
        lambda x, w: np.log1p(x) + np.expm1(w * x) - np.sqrt(x),
        lambda x, w: torch.log1p(x) + torch.expm1(w * x) - torch.sqrt(x),
    ),
    "sin, cos, abs": (
        lambda x, w: np.sin(x) * np.cos(w * x) + np.abs(x - w),
        lambda x, w: torch.sin(x) * torch.cos(w * x) + (x - w).abs(),
    ),
    "erf, sigmoid": (
        lambda x, w: special.erf(x) * special.sigmoid(-x) + special.log_sigmoid(x),
        lambda x, w: torch.erf(x) * torch.sigmoid(-x) + torch.nn.functional.logsigmoid(x),
    ),
    "softmax": (
        lambda x, w: np.exp(x) / np.sum(np.exp(x), axis=-1, keepdims=True),
        lambda x, w: torch.softmax(x, -1),
    ),
    "normalized rows": (
        lambda x, w: (x - np.mean(x, axis=-1, keepdims=True)) / np.std(x, axis=-1, keepdims=True),
        lambda x, w: (x - x.mean(-1, keepdim=True)) / x.std(-1, keepdim=True, correction=0),
    ),
    "largest, larger": (
        lambda x, w: np.max(x, axis=-1) * np.sum(np.maximum(x, w), axis=-1),
        lambda x, w: x.amax(-1) * torch.maximum(x, w).sum(-1),
    ),
    "where, concatenate, running sums": (
        lambda x, w: np.cumsum(np.concatenate([np.where(x > w, x * x, w), x[:1]]), axis=0),
        lambda x, w: torch.cumsum(torch.cat([torch.where(x > w, x * x, w), x[:1]]), 0),
    ),
    "indices": (lambda x, w: x[np.array([2, 0, 2])] * w[0], lambda x, w: x[torch.tensor([2, 0, 2])] * w[0]),
    "einsum": (
        lambda x, w: np.einsum("ij,kj->ik", x * x, x + w),
        lambda x, w: torch.einsum("ij,kj->ik", x * x, x + w),
    ),
}


def by_torch(theirs: Callable[..., Any], dtype: str = "float64") -> Any:
    x, v, w = (torch.from_numpy(a.astype(dtype)) for a in (X, V, W))
    return torch.func.jvp(lambda x: theirs(x, w), (x,), (v,))[1].numpy()


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", EXPRESSIONS)
def test_torchs_directional_derivative_is_within_the_budget(name: str, dtype: str) -> None:
    ours, theirs = EXPRESSIONS[name]
    x, v, w = (a.astype(dtype) for a in (X, V, W))
    e = parity.enclose(lambda x, v, w: parity.jvp(lambda x, w: ours(x, w))(x, w, v), x, v, w)
    got = by_torch(theirs, dtype)
    assert e.check(got).ok
    wrong = np.array(got)
    wrong.flat[np.argmax(abs(wrong))] *= 1 + (1e-9 if dtype == "float64" else 1e-3)
    assert not e.check(wrong).ok


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_forward_and_reverse_mode_agree(name: str) -> None:
    """sum(G * J v) is sum(J^T G * v), with G ones: two proofs of one number."""
    ours, _ = EXPRESSIONS[name]
    forward = parity.enclose(lambda x, v, w: np.sum(parity.jvp(ours)(x, w, v)), X, V, W)
    reverse = parity.enclose(
        lambda x, v, w: np.sum(parity.gradient(lambda x, w: np.sum(ours(x, w)))(x, w) * v), X, V, W
    )
    assert forward.value.error(reverse.value.hi) <= 1e-15 * abs(forward.value.hi)


def test_a_tangent_is_differentiated_again() -> None:
    """The gradient of a directional derivative is a Hessian-vector product."""
    e = parity.enclose(lambda x, v: parity.jvp(lambda x: np.sum(np.tanh(x) ** 2))(x, v), X, V)
    x, v = torch.from_numpy(X), torch.from_numpy(V)
    scalar = lambda x: (torch.tanh(x) ** 2).sum()  # noqa: E731
    gradient = torch.func.grad(scalar)
    report = e.check(None, [torch.func.jvp(gradient, (x,), (v,))[1].numpy(), gradient(x).numpy()])
    assert report.ok


def test_a_jvp_in_a_jvp() -> None:
    e = parity.enclose(lambda x, v: parity.jvp(lambda x: parity.jvp(lambda x: x**3)(x, v))(x, v), X, V)
    assert e.check(6 * X * V * V).ok


def test_what_does_not_depend_on_the_argument_has_the_derivative_0() -> None:
    e = parity.enclose(lambda x, v: parity.jvp(lambda x: np.sin(v))(x, v), X, V)
    assert e.check(np.zeros_like(X)).ok


def test_what_is_refused() -> None:
    with pytest.raises(parity.UsageError, match=r"jvp: expected a tangent of shape \(3, 4\), got \(4,\)"):
        parity.enclose(lambda x, v: parity.jvp(np.sin)(x, v[0]), X, V)
    with pytest.raises(parity.UsageError, match="jvp: expected the tangent as an array of an expression"):
        parity.enclose(lambda x: parity.jvp(np.sin)(x, 1.0), X)


def test_it_has_exactly_the_listed_functions() -> None:
    assert unlike_the_list(Dual) == set()


UNDIFFERENTIATED = ("greater", "greater_equal", "less", "less_equal", "equal", "not_equal", "largest")


@pytest.mark.parametrize("name", sorted({*LISTED} - {*UNDIFFERENTIATED}))
def test_every_listed_function_has_its_tangent(name: str) -> None:
    """Against reverse mode, on an example of each, both arguments moved."""
    p, f = Profile.of("float64"), LISTED[name]
    x, v, y, w = (Budget.exact(a, p) for a in (X, V, W, X[::-1]))
    made = f(Dual(x, v), Dual(y, w))
    leaves = Taped(x), Taped(y)
    result = f(*leaves)
    for k in range(0, made.size, 1 if made.size < 30 else 7):
        seed = np.zeros(made.size)
        seed[k] = 1.0
        upstream = Budget.exact(seed.reshape(made.shape), p)
        found = gradients(result, upstream, leaves, lambda shape: Budget.exact(np.zeros(shape), p))
        expected = sum(float(np.sum(g.x * t.x)) for g, t in zip(found.values(), (v, w), strict=True))
        assert made.tangent.x.flat[k] == pytest.approx(expected, rel=1e-12, abs=1e-14)
