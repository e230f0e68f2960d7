"""parity.enclose: what it gives, what it judges, and what it refuses."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import parity
from parity import expression
from parity.budget.array import Profile
from parity.expression import enclose
from parity.records.record import UsageError
from parity.translations import EQUIVALENTS
from refnet.arithmetic import special

RANDOM = np.random.default_rng(0)
X, W = RANDOM.standard_normal((3, 5)), RANDOM.standard_normal((5, 4))
G = RANDOM.standard_normal((3, 4))


def test_it_is_the_door_of_the_package() -> None:
    assert parity.enclose is enclose
    assert parity.Enclosed is expression.Enclosed


def test_values_and_gradients_are_certified() -> None:
    e = enclose(lambda x: np.exp(x) * x, 1.0)
    assert e.value.decimal(30) == "2.71828182845904523536028747135"
    assert e.gradients[0] is not None
    assert e.gradients[0].decimal(30) == "5.43656365691809047072057494271"
    assert e.dtype == "float64"
    assert 0 < e.value_budget < 1e-14


def test_what_is_exact_has_no_budget() -> None:
    e = enclose(lambda x, y: np.sum(x * x * y) - 0.5, np.array([1.5, -2.0]), np.array([4.0, 0.25]))
    assert (e.value.hi, e.value_budget) == (9.5, 0.0)
    assert [t.hi.tolist() for t in e.gradients if t is not None] == [[12.0, -1.0], [2.25, 4.0]]
    assert not np.concatenate([b for b in e.gradient_budgets if b is not None]).any()


def torch_gradients(f: Callable[..., Any], grad_output: Any, *arrays: Any) -> tuple[Any, list[Any]]:
    tensors = [torch.from_numpy(np.array(a)).requires_grad_() for a in arrays]
    y = f(*tensors)
    y.backward(torch.from_numpy(np.array(grad_output)))
    return y.detach().numpy(), [t.grad.numpy() for t in tensors]


PEERS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "tanh": (lambda x, w: np.tanh(x @ w), lambda x, w: torch.tanh(x @ w)),
    "softplus": (lambda x, w: np.log1p(np.exp(x @ w)), lambda x, w: torch.log1p(torch.exp(x @ w))),
    "softmax": (
        lambda x, w: (lambda e: e / np.sum(e, axis=-1, keepdims=True))(np.exp(x @ w - special.shift(x @ w, -1))),
        lambda x, w: (lambda e: e / e.sum(-1, keepdim=True))(
            torch.exp(x @ w - (x @ w).max(-1, keepdim=True)[0].detach())
        ),
    ),
    "normalized": (
        lambda x, w: (lambda d: d / np.sqrt(np.sum(d * d, axis=-1, keepdims=True) / 4 + 0.5))(
            x @ w - np.sum(x @ w, axis=-1, keepdims=True) / 4
        ),
        lambda x, w: (lambda d: d / torch.sqrt((d * d).sum(-1, keepdim=True) / 4 + 0.5))(
            x @ w - (x @ w).sum(-1, keepdim=True) / 4
        ),
    ),
    "rectified": (
        lambda x, w: np.where(x @ w > 0, x @ w, 0.1 * (x @ w)),
        lambda x, w: torch.nn.functional.leaky_relu(x @ w, 0.1),
    ),
}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", PEERS)
def test_a_right_engine_is_within_its_budgets(name: str, dtype: str) -> None:
    ours, theirs = PEERS[name]
    x, w, g = (a.astype(dtype) for a in (X, W, G))
    e = enclose(ours, x, w, grad_output=g)
    verdicts = e.check(*torch_gradients(theirs, g, x, w))
    assert list(verdicts) == ["value", "gradients[0]", "gradients[1]"]
    assert {v.verdict for v in verdicts.values()} <= {"exact", "rounding"}
    assert 0 < max(v.share for v in verdicts.values()) < 0.8
    with np.errstate(all="ignore"):
        assert ours(x, w).dtype == dtype
        assert e.check(ours(x, w))["value"].verdict in ("exact", "rounding")


def test_a_wrong_engine_is_not() -> None:
    e = enclose(lambda x, w: np.sum(np.tanh(x @ w)), X, W)
    value, (dx, dw) = torch_gradients(lambda x, w: torch.tanh(x @ w).sum(), np.float64(1), X, W)
    off = dx.copy()
    off[2, 1] += 1e-9 * abs(dx).max()
    for wrong in (
        -dx,
        dx * 1.001,
        np.zeros_like(dx),
        off,
        dx.astype(np.float32).astype(np.float64),
        np.full_like(dx, np.nan),
    ):
        verdicts = e.check(value, [wrong, dw])
        assert [v.verdict for v in verdicts.values()] == [verdicts["value"].verdict, "FAIL", "rounding"]
        assert verdicts["gradients[0]"].share > 1000
    assert "expected dtype float64, got float32" in e.check(value.astype(np.float32))["value"].reason
    assert "expected shape (3, 5)" in e.check(None, [dx.mT, None])["gradients[0]"].reason


def test_only_what_is_given_is_judged() -> None:
    e = enclose(lambda x, t: np.sum(np.where(np.expand_dims(t, -1) == np.arange(5), x, 0)), X, np.array([1, 0, 4]))
    assert e.gradients[1] is None
    assert e.gradient_budgets[1] is None
    assert e.check() == {}
    assert list(e.check(gradients=[np.zeros((3, 5)), None])) == ["gradients[0]"]
    with pytest.raises(
        parity.UsageError, match=r"expected None for gradients\[1\], of an array of integers, got ndarray"
    ):
        e.check(gradients=[None, np.zeros(3)])
    with pytest.raises(parity.UsageError, match="expected 2 gradients, got 1 gradients"):
        e.check(gradients=[None])


def test_an_array_of_results_needs_an_upstream_gradient() -> None:
    e = enclose(lambda x: x * 0.1, X)
    assert e.gradients == e.gradient_budgets == ()
    with pytest.raises(parity.UsageError, match="expected none, as there was no grad_output, got 1 gradients"):
        e.check(gradients=[X])
    seeded = enclose(lambda x: x * 0.1, X, grad_output=X)
    assert seeded.gradients[0] is not None
    assert seeded.check(gradients=[X * 0.1])["gradients[0]"].verdict in ("exact", "rounding")


def test_an_array_that_does_not_matter_has_gradient_zero() -> None:
    e = enclose(lambda x, w: np.sum(np.exp(x)), X, W)
    assert e.check(gradients=[None, np.zeros((5, 4))])["gradients[1]"].verdict == "exact"
    assert e.check(gradients=[None, np.full((5, 4), 1e-300)])["gradients[1]"].verdict == "FAIL"


def bfloat16(x: Any) -> Any:
    """Rounded to nearest among bfloat16's numbers."""
    mantissa, exponent = np.frexp(np.asarray(x, np.float64))
    return np.ldexp(np.round(mantissa * 256), exponent - 8).astype(np.float32)


def test_formats_that_numpy_lacks() -> None:
    x, w = bfloat16(X), bfloat16(W)
    right = bfloat16(x.astype(np.float64) @ w.astype(np.float64))
    e = enclose(lambda x, w: x @ w, x, w, dtype="bfloat16")
    assert e.dtype == "bfloat16"
    assert e.check(right)["value"].verdict == "exact"
    wide = enclose(lambda x, w: x @ w, x, w, dtype=Profile.of("bfloat16", accumulator="float32"))
    assert (wide.value_budget < e.value_budget).all()
    assert wide.check(right)["value"].verdict == "exact"
    assert enclose(lambda x, w: x @ w, x, w).check(right)["value"].verdict == "FAIL"


def test_products_of_fewer_bits_are_seen_and_can_be_granted() -> None:
    def chopped(a: Any) -> Any:
        return (a.astype(np.float32).view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32)

    x, w = X.astype(np.float32), W.astype(np.float32)
    got = chopped(x) @ chopped(w)
    assert enclose(lambda x, w: x @ w, x, w).check(got)["value"].verdict == "FAIL"
    assert (
        enclose(lambda x, w: x @ w, x, w, dtype=Profile.of("float32", product="tf32")).check(got)["value"].verdict
        == "rounding"
    )


def test_half_precision() -> None:
    x = X.astype(np.float16)
    e = enclose(lambda x: np.sum(x * x, axis=-1), x)
    assert e.check(np.sum(x * x, axis=-1))["value"].verdict in ("exact", "rounding")


EXPRESSIONS: dict[str, Callable[[Any], Any]] = {
    "numbers among nodes": lambda x: np.exp(np.where(x > 0, x, 0)) + np.log1p(np.pad(x * x, 1)[1:-1, 1:-1]),
    "scalars": lambda x: np.exp(np.sum(x)).reshape(1, 1) * x.sum().reshape(1)[0] + np.sum(x)[None],
    "constants": lambda x: np.concatenate([x, np.ones((1, 5)), -x], axis=0)[2:] @ np.arange(5.0),
    "constant first": lambda x: (
        np.expand_dims(np.arange(5.0) @ x.mT, -1) - np.float32(0.5) * x + np.less(-2, x)[0, 0] * x
    ),
    "bool mask": lambda x: np.array([True, False, True, True, False]) * x,
    "einsum": lambda x: np.einsum("ij,j->i", x, np.arange(5.0)) + np.einsum("ij->i", x),
    "written copy": lambda x: written(x),
    "lifted": lambda x: special.lift(0.1, x) * x + special.lift(np.arange(5.0), x) * special.sigmoid(-x),
    "shape and dtype": lambda x: x * np.ones(x.shape, x.dtype) / len(x) + np.zeros((np.ndim(x), 1, 1)),
}


def written(x: Any) -> Any:
    y = np.copy(x)
    y[0, 1:] = 2.0
    y[1] = x[0] * x[1]
    return y


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_everything_listed_works_in_every_arithmetic(name: str) -> None:
    f = EXPRESSIONS[name]
    e = enclose(f, X)
    assert e.check(np.asarray(f(X)))["value"].verdict in ("exact", "rounding")


def test_the_arrays_are_left_alone() -> None:
    x = X.copy()

    def f(x: Any) -> Any:
        x[0] = 0.0
        return x

    assert enclose(f, x).value.hi[0].tolist() == [0.0] * 5
    assert np.array_equal(x, X)


# ---- comparisons


def test_exact_comparisons_decide() -> None:
    e = enclose(lambda x: np.sum(np.where(x > 0, x, 0)), np.array([0.0, 1.0, -1.0]))
    assert e.gradients[0] is not None
    assert e.gradients[0].hi.tolist() == [0.0, 1.0, 0.0]


def test_an_element_whose_comparison_rounding_could_turn_has_the_hull_of_both_branches() -> None:
    x = np.array([1.0, 2.0, 3.0])
    e = enclose(lambda x: np.where(x * 0.1 > 0.3, x, 0), x)
    assert e.value.hi.tolist() == [0.0, 0.0, 3.0]
    assert e.value_budget.tolist() == [0.0, 0.0, pytest.approx(3.0)]
    with pytest.raises(parity.Undecided, match=r"np\.greater: .* got 1 of 3 elements closer"):
        enclose(lambda x: x * float(np.all(x * 0.1 > 0.3)), x)


# ---- refusals


def refused(match: str, f: Callable[..., Any], *arrays: Any, **options: Any) -> None:
    with pytest.raises(parity.UsageError, match=re.escape(match)):
        enclose(f, *arrays, **options)


def same(x: Any, *_: Any) -> Any:
    return x * 2


def test_bad_arrays_are_named() -> None:
    refused("expected arrays to evaluate the expression at, got none", lambda: 1.0)
    refused("expected an array of floats, got int64, bool", same, np.array([1, 2]), np.array([True]))
    refused("expected array 1 of floats, integers or booleans, got complex128", same, X, np.array([1j]))
    refused("expected array 0 of floats, integers or booleans, got <U1", same, np.array(["a"]))
    refused(
        "expected floats of one dtype, got float64 in array 0, float32 in array 2",
        same,
        X,
        np.array([1]),
        np.float32(X),
    )
    refused("expected elements in array 1, got shape (0, 3)", same, X, np.zeros((0, 3)))
    refused("expected finite values in array 1, got nan", same, X, np.array([1.0, np.nan]))
    refused("expected finite values in array 0, got -inf", same, -np.inf)
    refused("array 0: Budget.exact: expected values of float32, got 0.1", same, np.array([0.5, 0.1]), dtype="float32")
    refused(
        "array 1: Budget.exact: expected values of bfloat16, got",
        same,
        np.float32(1),
        np.float32(0.1),
        dtype="bfloat16",
    )
    for dtype, name in (("int8", "int8"), ("longdouble", "longdouble"), (np.longdouble, "longdouble"), (5, "5")):
        refused(f"expected dtype float64, float32, float16, bfloat16 or a Profile, got {name}", same, X, dtype=dtype)


def test_a_dtype_may_be_given_in_any_of_numpys_ways() -> None:
    for dtype in ("float32", np.float32, np.dtype("float32")):
        e = enclose(same, X.astype(np.float32).astype(np.float64), dtype=dtype)
        assert e.dtype == "float32"


def test_bad_upstream_gradients_are_named() -> None:
    wanted = "expected grad_output of the arrays' dtype and the result's shape, float64 of shape (3, 5), got"
    refused(f"{wanted} float64 of shape (5,)", same, X, grad_output=np.ones(5))
    refused(f"{wanted} float32 of shape (3, 5)", same, X, grad_output=np.ones((3, 5), np.float32))
    refused("expected finite values in grad_output, got nan", same, X, grad_output=X * np.nan)


def test_bad_results_are_named() -> None:
    wanted = "expected one array of floats that depends on the arrays, got"
    refused(f"{wanted} float", lambda x: 1.0, X)
    refused(f"{wanted} float64 of shape (2,)", lambda x: np.ones(2), X)
    refused(f"{wanted} bool of shape (3, 5)", lambda x: x > 0, X)
    refused(f"{wanted} tuple", lambda x: (x, x), X)


@pytest.mark.parametrize("name", ["arcsinh", "arccosh", "arctanh", "median", "argmax"])
def test_a_function_without_a_rule_is_named_with_its_equivalent(name: str) -> None:
    refused(f"enclose: np.{name} has no rule for rounding; write it as {EQUIVALENTS[name]}", getattr(np, name), X)


def test_other_functions_without_a_rule_are_named_with_the_list() -> None:
    refused("enclose: np.cbrt has no rule for rounding; expected functions among np.absolute, np.add, ", np.cbrt, X)
    refused(", np.var, np.vdot, ", lambda x: np.fft.fft(x), X)
    out = np.empty(X.shape)
    refused("enclose: expected np.exp without this argument, got np.exp(out=...)", lambda x: np.exp(x, out=out), X)
    refused(
        "expected np.multiply without this argument, got np.multiply(where=...)",
        lambda x: np.multiply(x, x, where=X > 0),
        X,
    )


def test_what_makes_plain_numbers_of_arrays_is_refused() -> None:
    wanted = "expected an expression of NumPy's functions of arrays, got"
    refused(f"{wanted} TypeError: expected NumPy's functions of arrays", lambda x: math.exp(x[0, 0]), X)
    refused(f"{wanted} TypeError: expected NumPy's functions of arrays", lambda x: x * bool(x[0, 0]), X)
    refused(f"{wanted} ValueError: matmul", lambda x: x @ x, X)
    refused(f"{wanted} IndexError: index 7 is out of bounds", lambda x: x[7], X)


def test_a_plain_array_that_is_filled_is_refused_with_what_to_write() -> None:
    def plain(x: Any) -> Any:
        made = np.zeros(2)
        made[0] = np.sum(x)
        return made

    refused("write np.zeros(shape, like=x) or np.zeros_like(x)", plain, X)


def test_too_long_expressions_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expression, "LONGEST", 1e-4)
    refused("expected an expression that balls enclose in 0 s, got about 0 s (45 elements, 0 products)", cubed, X)


def cubed(x: Any) -> Any:
    return x * x * x + x


def test_an_overflow_returns_at_once() -> None:
    refused("expected a finite value, got none at [0]: a pole, 0 / 0 or an overflow", np.exp, np.array([1e12]))
    refused("expected a finite value", lambda x: np.exp(np.exp(x)), np.array([700.0]))


def test_a_shift_that_matters_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.array([1.0, 2.0, 4.0])
    for way in ("balls", "binary64"):
        if way == "binary64":
            monkeypatch.setattr(expression, "QUICK", 0.0)
            x = x.astype(np.float32)
        refused("write np.max(x, axis, keepdims=True)", lambda x: np.sum(x / special.shift(x, -1)), x)
        e = enclose(lambda x: special.shift(x, -1)[0] + np.log(np.sum(np.exp(x - special.shift(x, -1)))), x)
        assert e.way == way
        assert float(e.value.hi) == pytest.approx(np.logaddexp.reduce(x))


# ---- sizes, and what encloses the truth


def test_coarser_formats_are_enclosed_in_binary64_where_balls_take_long(monkeypatch: pytest.MonkeyPatch) -> None:
    x, w = X.astype(np.float32), W.astype(np.float32)
    by_balls = enclose(lambda x, w: np.sum(np.tanh(x @ w)), x, w)
    monkeypatch.setattr(expression, "QUICK", 0.0)
    in_binary64 = enclose(lambda x, w: np.sum(np.tanh(x @ w)), x, w)
    assert (by_balls.way, in_binary64.way) == ("balls", "binary64")
    bounds = zip(by_balls.gradient_budgets, in_binary64.gradient_budgets, strict=True)
    for one, other in [(by_balls.value_budget, in_binary64.value_budget), *bounds]:
        assert one is not None
        assert other is not None
        assert (other > one).all()
        assert (other < one * (1 + 1e-6)).all()
    for one, other in zip(by_balls.gradients, in_binary64.gradients, strict=True):
        assert one is not None
        assert other is not None
        assert (abs(one.hi - other.hi) < 1e-13).all()
    assert enclose(lambda x: np.sum(x), X).way == "balls"


def test_binary64_does_without_python_flint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("parity.truth.ball")
    monkeypatch.setitem(sys.modules, "parity.truth.ball", None)
    e = enclose(lambda x: np.exp(x) * 2, X.astype(np.float32))
    assert e.way == "binary64"
    assert e.check(np.exp(X.astype(np.float32)) * 2)["value"].verdict in ("exact", "rounding")


def test_a_layer_after_a_long_product_is_judged() -> None:
    """ReLU after 64x784 @ 784x128: some comparisons are too close to tell, and only their elements suffer."""
    draws = np.random.default_rng(3)
    x, w = (draws.standard_normal(shape).astype(np.float32) for shape in ((64, 784), (784, 128)))
    e = enclose(lambda x, w: np.where(x @ w > 0, x @ w, 0), x, w)
    assert e.value.shape == (64, 128)
    right = (torch.from_numpy(x) @ torch.from_numpy(w)).relu().numpy()
    assert e.check(right)["value"].verdict == "rounding"
    assert e.check(right + np.float32(0.5) * (right == right.max()))["value"].verdict == "FAIL"


def test_python_flint_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("parity.truth.ball")
    monkeypatch.setitem(sys.modules, "parity.truth.ball", None)
    refused("expected the package python-flint, got none; pip install python-flint", same, X)


ADVICE: dict[str, Any] = {"arcsinh": X, "arccosh": 1 + X * X, "arctanh": X / 4}


@pytest.mark.parametrize("name", ADVICE)
def test_the_advice_is_right_and_has_rules(name: str) -> None:
    def advised(x: Any) -> Any:
        return eval(EQUIVALENTS[name], {"np": np, "x": x})

    expected = getattr(np, name)(ADVICE[name])
    assert np.allclose(advised(ADVICE[name]), expected, rtol=1e-13)
    assert np.allclose(enclose(advised, ADVICE[name]).value.hi, expected, rtol=1e-13)


def test_an_enclosure_is_frozen() -> None:
    e = enclose(same, X)
    with pytest.raises(AttributeError):
        e.dtype = "float32"  # type: ignore[misc]
    assert replace(e, dtype="float32").check(X)["value"].verdict == "FAIL"


@pytest.mark.parametrize(
    ("f", "what"),
    [
        (lambda x: np.sum(np.exp(1000 * x)), "a finite value"),
        (lambda x: np.sum(1 / (x - 1)), "a finite value"),
        (lambda x: np.sum(np.sqrt(x - 1)), r"a finite gradients\[0\], got none at \[0\]"),
    ],
)
def test_what_has_no_value_is_refused(f, what):
    with pytest.raises(UsageError, match=what):
        enclose(f, np.array([1.0, 2.0]))
