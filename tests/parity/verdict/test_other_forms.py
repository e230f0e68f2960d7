"""Right answers in weaker forms are told by name, from numbers alone and from a callable; mistakes are not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812  torch's own custom

import parity
from parity.expression import Enclosed, enclose
from parity.verdict.function_forms import FUNCTIONS

DRAWS = np.random.default_rng(12)
LOGITS = np.array([-10.0, 10.0, -3.0, 3.0, 0.5, -0.25])
HARD = np.array([0.0, 1.0, 0.0, 1.0, 0.0, 1.0])
FAR = 1000 + DRAWS.standard_normal((3, 6))
WIDE = DRAWS.standard_normal((4, 5)) * 6
MODERATE = DRAWS.uniform(-3, 3, (4, 5))
KINKS = np.array([-1.0, 0.0, 2.0, -3.0])
TARGETS = torch.from_numpy(HARD)


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def softplus(x: Any) -> Any:
    return np.log1p(np.exp(x))


def logsumexp(x: Any) -> Any:
    m = np.max(x, axis=-1, keepdims=True)
    return (m + np.log(np.sum(np.exp(x - m), axis=-1, keepdims=True)))[..., 0]


def entropy(x: Any) -> Any:
    return np.mean(HARD * softplus(-x) + (1 - HARD) * softplus(x))


def entropy_of_sigmoid(x: Any) -> Any:
    return -np.mean(HARD * np.log(sigmoid(x)) + (1 - HARD) * np.log(1 - sigmoid(x)))


def quotient(x: Any) -> Any:
    e = torch.exp(2 * x)
    return (e - 1) / (e + 1)


def seed_of(f: Callable[..., Any], x: Any) -> Any:
    with np.errstate(all="ignore"):
        shape = np.shape(f(x))
    return np.cos(np.arange(1, 1 + int(np.prod(shape)))).reshape(shape).astype(x.dtype)


def by_torch(f: Callable[..., Any], x: Any, seed: Any) -> tuple[Any, Any]:
    given = torch.from_numpy(np.array(x)).requires_grad_()
    y = f(given)
    y.backward(torch.from_numpy(np.array(seed)))
    return y.detach().numpy(), given.grad.numpy()


def by_jax(f: str, x: Any, seed: Any) -> tuple[Any, Any]:
    jax = pytest.importorskip("jax")
    y, pull = jax.vjp(jax.numpy.abs if f == "abs" else getattr(jax.nn, f), jax.numpy.asarray(x))
    return np.asarray(y), np.asarray(pull(jax.numpy.asarray(seed))[0])


def passes_and_a_mistake_fails(e: Enclosed, value: Any, gradient: Any) -> list[str]:
    """The verdicts; a small relative error in the largest element of value or gradient has to fail."""
    report = e.check(value, [gradient])
    assert report.ok, report
    by = 1e-9 if value.dtype == np.float64 else 1e-3
    for name, right in (("value", value), ("gradients[0]", gradient)):
        wrong = np.array(right)
        wrong[np.unravel_index(np.argmax(abs(wrong)), wrong.shape)] *= 1 + by
        report_of_wrong = e.check(wrong, [gradient]) if name == "value" else e.check(value, [wrong])
        assert report_of_wrong[name].verdict == "FAIL", report_of_wrong
    return [v.verdict for v in report.verdicts]


FROM_TORCH: dict[str, tuple[Callable[..., Any], Callable[..., Any], Any]] = {
    "BCEWithLogits": (entropy, lambda x: F.binary_cross_entropy_with_logits(x, TARGETS), LOGITS),
    "BCE of a sigmoid": (entropy, lambda x: F.binary_cross_entropy(torch.sigmoid(x), TARGETS), LOGITS),
    "BCEWithLogits against the sigmoid's": (
        entropy_of_sigmoid,
        lambda x: F.binary_cross_entropy_with_logits(x, TARGETS),
        LOGITS,
    ),
    "logsumexp at mean 1000": (logsumexp, lambda x: torch.logsumexp(x, -1), FAR),
    "sigmoid": (sigmoid, torch.sigmoid, LOGITS),
    "tanh by exp(2x)": (np.tanh, quotient, MODERATE),
    "mish": (lambda x: x * np.tanh(softplus(x)), F.mish, WIDE),
    "elu": (lambda x: np.where(x > 0, x, np.exp(x) - 1), F.elu, WIDE),
}


@pytest.mark.parametrize("name", FROM_TORCH)
def test_torchs_forms_are_no_failure(name: str) -> None:
    ours, theirs, x = FROM_TORCH[name]
    seed = seed_of(ours, x)
    verdicts = passes_and_a_mistake_fails(enclose(ours, x, grad_output=seed), *by_torch(theirs, x, seed))
    assert set(verdicts) <= {"exact", "rounding", "unstable"}


FROM_JAX: dict[str, Callable[..., Any]] = {
    "softplus": softplus,
    "mish": lambda x: x * np.tanh(softplus(x)),
    "elu": lambda x: np.where(x > 0, x, np.exp(x) - 1),
    "sigmoid": sigmoid,
    "log_sigmoid": lambda x: -np.log1p(np.exp(-x)),
}


@pytest.mark.parametrize("name", FROM_JAX)
def test_jaxs_forms_are_no_failure(name: str) -> None:
    x = WIDE.astype(np.float32)
    seed = seed_of(FROM_JAX[name], x)
    passes_and_a_mistake_fails(enclose(FROM_JAX[name], x, grad_output=seed), *by_jax(name, x, seed))


@pytest.mark.parametrize("z", [3.0, 10.0])
def test_the_textbooks_a_minus_1(z: float) -> None:
    a = sigmoid(np.array(z))
    e = enclose(lambda z: -np.log(1 / (1 + np.exp(-z))), np.array(z))
    verdicts = passes_and_a_mistake_fails(e, -np.log(a), a - 1)
    assert verdicts[1] == "unstable"
    assert e.check(None, [a - 1])["gradients[0]"].detection_limit < 1e-9


@pytest.mark.parametrize(
    ("ours", "theirs", "said"),
    [
        (abs, "abs", "|x|'(0) = 1"),
        (lambda x: np.maximum(x, 0), "relu", "relu'(0) = 0"),
    ],
)
def test_jaxs_choices_at_kinks_are_conventions(ours: Any, theirs: str, said: str) -> None:
    seed = np.ones(4, np.float32)
    e = enclose(ours, KINKS.astype(np.float32), grad_output=seed)
    value, gradient = by_jax(theirs, KINKS.astype(np.float32), seed)
    verdict = e.check(value, [gradient])["gradients[0]"]
    assert (verdict.verdict, verdict.formula) == ("convention", said)
    assert e.check(None, [gradient * np.float32(1.001)])["gradients[0]"].verdict == "FAIL"
    assert e.check(None, [np.full_like(gradient, 0.5)])["gradients[0]"].verdict == "FAIL"


def test_a_wrong_derivative_fails_whatever_forms_are_listed() -> None:
    s, t = sigmoid(WIDE), np.tanh(WIDE)
    for f, wrong in (
        (sigmoid, s),
        (sigmoid, 1 - s),
        (sigmoid, s * (1 - s) / 2),
        (np.tanh, t * (1 - t)),
        (np.tanh, 1 - t),
        (softplus, 1 - s),
        (softplus, s * (1 - s)),
    ):
        seed = np.ones_like(WIDE)
        assert enclose(f, WIDE, grad_output=seed).check(None, [wrong])["gradients[0]"].verdict == "FAIL"


def test_every_form_is_the_function_it_is_listed_under() -> None:
    """Values, and derivatives by differences: a form is right but for digits."""
    x = DRAWS.uniform(0.5, 2.5, (3, 4))
    g = DRAWS.standard_normal(x.shape)
    h = 1e-6
    for function in FUNCTIONS:
        y = function.values(x)
        upstream = g[..., :1] if function.along and not function.keeps else g
        for form in function.forms:
            assert np.allclose(form.value(x), y, rtol=1e-12), form.name
            along = [np.sum(upstream * (function.values(x + h * d) - function.values(x - h * d))) for d in _units(x)]
            assert np.allclose(form.pull(upstream, x, y).ravel(), np.array(along) / (2 * h), rtol=1e-6, atol=1e-8), (
                form.name
            )


def _units(x: Any) -> Any:
    return np.eye(x.size).reshape(x.size, *x.shape)


class OnePassVariance(torch.autograd.Function):  # type: ignore[misc]
    """No listed form: mean of squares less square of the mean, which cancels."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        return (x * x).mean(-1) - x.mean(-1) ** 2

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        (x,) = ctx.saved_tensors
        return 2 * (x - x.mean(-1, keepdim=True)) * g[..., None] / x.shape[-1]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_callable_is_asked_in_two_precisions(dtype: torch.dtype) -> None:
    x = torch.from_numpy(1e4 + DRAWS.standard_normal((4, 50))).to(dtype)
    report = parity.check(OnePassVariance.apply, lambda x: np.var(x, axis=-1), x)
    assert report.ok, report
    assert report["value"].verdict == "unstable"
    assert "shrinks with the unit roundoff" in report["value"].formula
    wrong = parity.check(lambda x: OnePassVariance.apply(x) * 1.001, lambda x: np.var(x, axis=-1), x)
    assert not wrong.ok
    assert "in two precisions" in wrong["value"].reason


def test_a_mistake_of_1e_9_is_no_noise_in_two_precisions() -> None:
    x = torch.from_numpy(MODERATE)
    report = parity.check(lambda x: torch.tanh(x) * (1 + 1e-9), lambda x: np.tanh(x), x)
    assert report["value"].verdict == "FAIL"
    assert "a wrong formula's error" in report["value"].reason
