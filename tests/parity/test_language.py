"""What people type into `parity.enclose`: values are NumPy's, gradients torch's, and the truth is that of scalars."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from flint import arb

import parity
from parity.expression import enclose
from parity.records.record import UsageError
from parity.truth import ball, tape
from parity.truth.certify import settle
from parity.truth.scalars import Scalars
from refnet.arithmetic import special

RANDOM = np.random.default_rng(5)
X, Y = RANDOM.standard_normal((2, 3, 4))
ROWS = np.array([[2, 0, 2], [1, 1, 0]])
PICKED = np.array([[0, 3], [1, 1], [2, 0]])
INDEX = torch.from_numpy(ROWS)

Pair = tuple[Callable[..., Any], Callable[..., Any]]


def filled(x: Any, y: Any) -> Any:
    made = np.zeros_like(x)
    made[0] = x[1] * y[0]
    made[1:, ::2] = x[:2, 1::2]
    made[:, 3] += y[:, 0]
    made[2, 1] = 0.5
    made *= 2
    row = made[1]
    row -= x[0]
    made.T[0] = y[:, 1]
    return made


def torch_filled(x: Any, y: Any) -> Any:
    made = torch.zeros_like(x)
    made[0] = x[1] * y[0]
    made[1:, ::2] = x[:2, 1::2]
    made[:, 3] += y[:, 0]
    made[2, 1] = 0.5
    made = made * 2
    made[1] -= x[0]
    made.T[0] = y[:, 1]
    return made


def running(x: Any, y: Any) -> Any:
    made = np.empty(5, like=x)
    made[0] = 1.0
    for k in range(4):
        made[k + 1] = made[k] * x[0, k] + y[1, k]
    return made


def torch_running(x: Any, y: Any) -> Any:
    made = [torch.ones((), dtype=x.dtype)]
    for k in range(4):
        made.append(made[k] * x[0, k] + y[1, k])
    return torch.stack(made)


LANGUAGE: dict[str, Pair] = {
    "T and @": (lambda x, y: x.T @ y, lambda x, y: x.T @ y),
    "dot": (lambda x, y: np.dot(x, y[0]) + x[0].dot(y[1]), lambda x, y: x @ y[0] + x[0] @ y[1]),
    "outer": (lambda x, y: np.outer(x, y[0]), lambda x, y: torch.outer(x.reshape(-1), y[0])),
    "inner": (lambda x, y: np.inner(x, y), lambda x, y: torch.inner(x, y)),
    "tensordot": (lambda x, y: np.tensordot(x, y, axes=([0], [0])), lambda x, y: torch.tensordot(x, y, ([0], [0]))),
    "squared": (lambda x, y: x**2 + y**3, lambda x, y: x**2 + y**3),
    "to a fraction": (lambda x, y: np.abs(x) ** 1.7 + (y * y) ** 0.5, lambda x, y: abs(x) ** 1.7 + (y * y) ** 0.5),
    "negative power": (lambda x, y: x**-2 + 2**y, lambda x, y: x**-2 + 2**y),
    "mean": (lambda x, y: np.mean(x, axis=0) + y.mean(), lambda x, y: x.mean(0) + y.mean()),
    "var": (lambda x, y: np.var(x, axis=-1, ddof=1), lambda x, y: x.var(-1)),
    "std": (lambda x, y: x.std(axis=(0, 1), keepdims=True) * y, lambda x, y: x.std(correction=0) * y),
    "abs": (lambda x, y: abs(x) * np.fabs(y), lambda x, y: abs(x) * abs(y)),
    "maximum": (lambda x, y: np.maximum(x, y) + np.maximum(x, 0.25), lambda x, y: torch.maximum(x, y) + x.clamp(0.25)),
    "minimum": (
        lambda x, y: np.minimum(x, y) + np.minimum(0.25, x),
        lambda x, y: torch.minimum(x, y) + x.clamp(max=0.25),
    ),
    "clip": (lambda x, y: np.clip(x, -0.5, 0.5) + y.clip(min=0), lambda x, y: x.clamp(-0.5, 0.5) + y.clamp(0)),
    "max": (lambda x, y: np.max(x, axis=1) * x.max(), lambda x, y: x.amax(1) * x.amax()),
    "min": (lambda x, y: np.min(x, axis=0, keepdims=True) * y, lambda x, y: x.amin(0, keepdim=True) * y),
    "softmax by max": (
        lambda x, y: (lambda e: e / e.sum(axis=-1, keepdims=True))(np.exp(x - x.max(axis=-1, keepdims=True))),
        lambda x, y: torch.softmax(x, -1),
    ),
    "norm": (lambda x, y: np.linalg.norm(x) + np.linalg.norm(y, axis=1), lambda x, y: x.norm() + y.norm(dim=1)),
    "norms": (
        lambda x, y: np.linalg.norm(x, ord=1, axis=0) + np.linalg.norm(x, ord=np.inf, axis=0),
        lambda x, y: x.norm(1, dim=0) + abs(x).amax(0),
    ),
    "logaddexp": (lambda x, y: np.logaddexp(x, y), torch.logaddexp),
    "expm1 and log1p": (lambda x, y: np.expm1(x) * np.log1p(y * y), lambda x, y: torch.expm1(x) * torch.log1p(y * y)),
    "other logarithms": (
        lambda x, y: np.log2(x * x) + np.log10(y * y),
        lambda x, y: torch.log2(x * x) + torch.log10(y * y),
    ),
    "hyperbolic": (
        lambda x, y: np.sinh(x) * np.cosh(y) + np.exp2(x),
        lambda x, y: torch.sinh(x) * torch.cosh(y) + torch.exp2(x),
    ),
    "trigonometric": (
        lambda x, y: np.sin(x) * np.cos(y) + np.tan(x),
        lambda x, y: torch.sin(x) * torch.cos(y) + torch.tan(x),
    ),
    "erf": (lambda x, y: special.erf(x) * y, lambda x, y: torch.erf(x) * y),
    "erfc": (lambda x, y: special.erfc(x) * y, lambda x, y: torch.erfc(x) * y),
    "sign": (
        lambda x, y: np.sign(x) * y + np.reciprocal(x) + np.square(y),
        lambda x, y: torch.sign(x) * y + 1 / x + y * y,
    ),
    "cumsum": (lambda x, y: np.cumsum(x, axis=0) * y.cumsum(axis=-1), lambda x, y: x.cumsum(0) * y.cumsum(-1)),
    "prod": (lambda x, y: np.prod(x, axis=0) + y.prod(), lambda x, y: x.prod(0) + y.prod()),
    "take": (lambda x, y: np.take(x, ROWS, axis=0), lambda x, y: x[INDEX]),
    "integer arrays": (
        lambda x, y: x[ROWS] * y[2] + x[[0, 2], [1, 1]][0],
        lambda x, y: x[INDEX] * y[2] + x[[0, 2], [1, 1]][0],
    ),
    "a mask": (lambda x, y: x[X > 0] * 2, lambda x, y: x[torch.from_numpy(X > 0)] * 2),
    "take_along_axis": (
        lambda x, y: np.take_along_axis(x, PICKED, axis=-1),
        lambda x, y: torch.take_along_dim(x, torch.from_numpy(PICKED), -1),
    ),
    "gather and scatter": (
        lambda x, y: special.scatter(special.gather(x, ROWS) * y[0], ROWS, 3),
        lambda x, y: torch.zeros_like(x).index_add(0, INDEX.reshape(-1), (x[INDEX] * y[0]).reshape(-1, 4)),
    ),
    "sort": (lambda x, y: np.sort(x, axis=0) * y, lambda x, y: x.sort(0)[0] * y),
    "where": (
        lambda x, y: np.where((x > 0) & ~(y > 0.5), x * y, -x),
        lambda x, y: torch.where((x > 0) & ~(y > 0.5), x * y, -x),
    ),
    "a comparison as numbers": (lambda x, y: (x > y) * x + (x < 0).astype(float), lambda x, y: (x > y) * x + (x < 0)),
    "filled": (filled, torch_filled),
    "filled in a loop": (running, torch_running),
    "einsum of three": (lambda x, y: np.einsum("ij,kj,kl->il", x, y, x), lambda x, y: x @ y.T @ x),
    "einsum as it may be written": (
        lambda x, y: np.einsum("ij,ij->i", x, y)[:, None] + np.einsum("...j,kj", x, y) + np.einsum("ii", x[:, :3]),
        lambda x, y: (x * y).sum(1)[:, None] + x @ y.T + torch.trace(x[:, :3]),
    ),
    "stack": (
        lambda x, y: np.stack([x, y], axis=1)[:, 0] + np.vstack([x, y])[1:4] + np.hstack([x, y])[:, 2:6],
        lambda x, y: x + torch.cat([x, y])[1:4] + torch.cat([x, y], 1)[:, 2:6],
    ),
    "axes": (
        lambda x, y: (
            np.swapaxes(x, 0, 1) @ np.transpose(y[None], (1, 0, 2))[:, 0] + np.moveaxis(x[None], -1, 0)[:, 0, :1]
        ),
        lambda x, y: x.T @ y + x.T[:, :1],
    ),
    "repeated": (
        lambda x, y: np.tile(x, (2, 1))[2:5] + np.repeat(y, 2, axis=0)[1:4] + np.roll(x, 1) + np.flip(y, 0),
        lambda x, y: x.tile(2, 1)[2:5] + y.repeat_interleave(2, 0)[1:4] + torch.roll(x, 1) + y.flip(0),
    ),
    "triangles": (
        lambda x, y: np.tril(x) @ np.triu(y).T + np.diff(x, axis=0)[0, :3],
        lambda x, y: x.tril() @ y.triu().T + x.diff(dim=0)[0, :3],
    ),
    "flat": (
        lambda x, y: x.ravel() * y.flatten() + np.squeeze(x[None]).reshape(12),
        lambda x, y: x.reshape(-1) * y.reshape(-1) + x.reshape(12),
    ),
    "reductions of ufuncs": (
        lambda x, y: np.add.reduce(x) + np.maximum.reduce(y, axis=0),
        lambda x, y: x.sum(0) + y.amax(0),
    ),
}


def by_torch(f: Callable[..., Any], grad_output: Any) -> tuple[Any, list[Any]]:
    tensors = [torch.from_numpy(a.copy()).requires_grad_() for a in (X, Y)]
    y = f(*tensors)
    grads = torch.autograd.grad(y, tensors, torch.from_numpy(np.array(grad_output)), allow_unused=True)
    return y.detach().numpy(), [np.zeros_like(X) if g is None else g.numpy() for g in grads]


def by_scalars(f: Callable[..., Any], seed: Any) -> dict[str, Any]:
    """The truth by single scalar operations, which owe nothing to the rules for arrays."""
    from parity.notation import Meter, Written

    def answer() -> dict[str, Any]:
        leaves = [Scalars(ball.lift(a), np.dtype(np.float64)) for a in (X, Y)]
        result = f(*(Written(leaf, Meter()) for leaf in leaves)).inner
        tape.differentiate(result.nodes.flat, [arb(float(g)) for g in np.ravel(seed)])
        gradients = {f"gradients[{k}]": ball.gradients(leaf.nodes) for k, leaf in enumerate(leaves)}
        return {"value": ball.values(result.nodes), **gradients}

    return settle(answer)


@pytest.mark.parametrize("name", LANGUAGE)
def test_values_are_numpys_and_gradients_torchs(name: str) -> None:
    ours, theirs = LANGUAGE[name]
    shape = np.shape(theirs(torch.from_numpy(X), torch.from_numpy(Y)))
    seed = np.cos(np.arange(np.prod(shape, dtype=int))).reshape(shape)
    e = enclose(ours, X, Y, grad_output=seed)
    if name not in ("filled in a loop",):  # NumPy's own zeros take no array of floats as `like`
        assert np.allclose(ours(X, Y), e.value.hi, rtol=1e-12, atol=1e-14)
    value, gradients = by_torch(theirs, seed)
    verdicts = e.check(value, gradients)
    # torch's forms of a few are others than those written here; all of them are right to 13 digits.
    for tensor, truth, got in zip(verdicts, [e.value, *e.gradients], [value, *gradients], strict=True):
        assert truth is not None
        assert np.allclose(got, truth.hi, rtol=1e-12, atol=1e-14), tensor
    for tensor, truth in by_scalars(ours, seed).items():
        found = e.value if tensor == "value" else e.gradients[int(tensor[10])]
        assert found is not None
        assert np.array_equal(found.hi, truth.hi)
        assert np.array_equal(found.lo, truth.lo)


TIES: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "maximum": (lambda x: np.maximum(x, 2.0), lambda x: torch.maximum(x, torch.full_like(x, 2.0))),
    "minimum": (lambda x: np.minimum(x, 2.0), lambda x: torch.minimum(x, torch.full_like(x, 2.0))),
    "clip": (lambda x: np.clip(x, 2.0, 3.0), lambda x: x.clamp(2.0, 3.0)),
    "max": (lambda x: np.max(x), lambda x: x.amax()),
    "min": (lambda x: np.min(x), lambda x: x.amin()),
    "abs": (lambda x: np.abs(x - 2.0), lambda x: abs(x - 2.0)),
    "sort": (lambda x: np.sort(x) * np.arange(5.0), lambda x: torch.sort(x, stable=True)[0] * torch.arange(5.0)),
}


@pytest.mark.parametrize("name", TIES)
def test_ties_are_torchs(name: str) -> None:
    ours, theirs = TIES[name]
    x = np.array([2.0, 3.0, 1.0, 3.0, 1.0])
    tensor = torch.from_numpy(x.copy()).requires_grad_()
    y = theirs(tensor).sum()
    y.backward()
    e = enclose(lambda x: np.sum(ours(x)), x)
    assert e.check(y.detach().numpy(), [tensor.grad.numpy()])["gradients[0]"].verdict == "exact"


def test_hessian_vector_products() -> None:
    def energy(x: Any) -> Any:
        return np.sum(np.tanh(x @ x.T) * np.exp(x[:, :3])) + np.max(x) ** 2 + np.linalg.norm(x)

    def torch_energy(x: Any) -> Any:
        return torch.sum(torch.tanh(x @ x.T) * torch.exp(x[:, :3])) + x.amax() ** 2 + x.norm()

    e = enclose(lambda x, v: np.sum(parity.gradient(energy)(x) * v), X, Y)
    x, v = (torch.from_numpy(a.copy()).requires_grad_() for a in (X, Y))
    (first,) = torch.autograd.grad(torch_energy(x), x, create_graph=True)
    value = (first * v).sum()
    value.backward()
    for truth, got in zip([e.value, *e.gradients], [value.detach(), x.grad, v.grad], strict=True):
        assert truth is not None
        assert np.allclose(truth.hi, got.numpy(), rtol=1e-12)
    # By hand: the gradient of sum(x^4) is 4 x^3, and its Hessian's diagonal 12 x^2.
    twice = enclose(lambda x: np.sum(parity.gradient(lambda t: np.sum(t**4))(x)), np.array([1.5, -2.0]))
    assert twice.value.hi == 4 * (1.5**3 - 2.0**3)
    assert twice.gradients[0] is not None
    assert twice.gradients[0].hi.tolist() == [27.0, 48.0]
    third = parity.gradient(lambda t: np.sum(parity.gradient(lambda u: np.sum(u**4))(t)))
    assert enclose(lambda x: np.sum(third(x)), np.array([1.5, -2.0])).gradients[0].hi.tolist() == [36.0, -48.0]  # type: ignore[union-attr]


def test_a_gradient_stands_inside_an_expression() -> None:
    with pytest.raises(UsageError, match="expected an array of an expression in enclose, got ndarray"):
        parity.gradient(np.sum)(X)
    with pytest.raises(UsageError, match=r"expected a scalar, got shape \(3, 4\)"):
        enclose(lambda x: np.sum(parity.gradient(np.exp)(x)), X)


def test_arrays_of_other_libraries() -> None:
    plain = enclose(lambda x: np.sum(np.tanh(x)), X.astype(np.float32))
    tensor = torch.from_numpy(X.astype(np.float32)).requires_grad_()
    assert enclose(lambda x: np.sum(np.tanh(x)), tensor).value.hi == plain.value.hi
    half = enclose(lambda x: np.sum(np.tanh(x)), tensor.to(torch.bfloat16))
    assert half.value_budget > 1000 * plain.value_budget
    jax = pytest.importorskip("jax.numpy")
    assert enclose(lambda x: np.sum(np.tanh(x)), jax.asarray(X, jax.float32)).value.hi == plain.value.hi
    assert enclose(lambda x: np.sum(np.tanh(x)), jax.asarray(X, jax.bfloat16)).value_budget == half.value_budget


def test_keyword_arguments() -> None:
    def normalized(x: Any, *, weight: Any, eps: float) -> Any:
        return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + eps) * weight

    e = enclose(normalized, X, weight=Y, eps=1e-5, grad_output=X)
    assert np.allclose(e.value.hi, normalized(X, weight=Y, eps=1e-5))
    assert len(e.gradients) == 2
    assert e.gradients[1] is not None
    assert np.allclose(e.gradients[1].hi, normalized(X, weight=X, eps=1e-5))


def test_views_are_those_of_numpy() -> None:
    def written(x: Any) -> Any:
        made = x.copy()
        seen, other = made.T, made[1:]
        made[1, 0] = x[0, 0] * 3
        other[0] *= 2
        fancy = made[[0, 1]]
        fancy[0] = 7.0
        return np.concatenate([seen.T, other, fancy])

    assert np.array_equal(enclose(written, X).value.hi, written(X))


def test_zero_times_what_may_be_infinite_has_no_bound() -> None:
    assert enclose(lambda x: x[0] * np.exp(x[1]), np.float32([0, 200])).value_budget == np.inf
    e = enclose(lambda x: np.sum(np.where(x > 1, 1 / x, x)), np.float32([1e-30, 2]))
    assert e.gradient_budgets[0] is not None
    assert e.gradient_budgets[0][0] == np.inf
    assert e.gradient_budgets[0][1] < 1e-6
