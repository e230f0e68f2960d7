"""Thirty expressions that people write: torch and JAX are right, and a small mistake in the largest element is caught.

Each is written for NumPy's functions, which JAX has too, and once more as torch's users write it. None of the thirty is
blind to a relative error of 1e-3 in float32 or of 1e-9 in float64, in the value or in any gradient.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812  torch's own custom

from parity.expression import Enclosed, enclose
from refnet.arithmetic import special

DRAWS = np.random.default_rng(30)
A, B, C = DRAWS.standard_normal((3, 4, 6)) * 1.5
W, V = DRAWS.standard_normal((2, 6, 8)) * 0.5
U = DRAWS.standard_normal((8, 6)) * 0.5
SCALE, SHIFT = DRAWS.uniform(0.5, 1.5, (2, 6))
QUERY, KEY, VALUE = DRAWS.standard_normal((3, 2, 5, 4))
CLASSES = np.array([2, 0, 5, 1])
SIGNS = np.array([1.0, -1.0, 1.0, -1.0])
ANGLES = np.outer(np.arange(4), 1 / 10 ** np.arange(3))
ONE_HOT = np.eye(6)[CLASSES]
TOKENS = np.array([[0, 2, 2], [3, 1, 0]])

COS, SIN = np.cos(ANGLES), np.sin(ANGLES)


def erf(np: Any, x: Any) -> Any:
    """NumPy has none."""
    if np.__name__ == "numpy":
        return special.erf(x)
    from jax.scipy.special import erf as of_jax

    return of_jax(x)


def normalized(np: Any, x: Any, axis: Any, eps: float = 1e-5) -> Any:
    return (x - np.mean(x, axis=axis, keepdims=True)) / np.sqrt(np.var(x, axis=axis, keepdims=True) + eps)


def softmax(np: Any, x: Any) -> Any:
    e = np.exp(x - np.max(x, axis=-1, keepdims=True))
    return e / np.sum(e, axis=-1, keepdims=True)


def log_softmax(np: Any, x: Any) -> Any:
    shifted = x - np.max(x, axis=-1, keepdims=True)
    return shifted - np.log(np.sum(np.exp(shifted), axis=-1, keepdims=True))


def logsumexp(np: Any, x: Any) -> Any:
    m = np.max(x, axis=-1, keepdims=True)
    return (m + np.log(np.sum(np.exp(x - m), axis=-1, keepdims=True)))[..., 0]


def sigmoid(np: Any, x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def softplus(np: Any, x: Any) -> Any:
    return np.logaddexp(x, 0 * x)


def rotary(np: Any, x: Any) -> Any:
    first, second = x[:, :3], x[:, 3:]
    cos, sin = (np.asarray(table, dtype=x.dtype) if np.__name__ != "numpy" else table for table in TABLES[str(x.dtype)])
    return np.concatenate([first * cos - second * sin, first * sin + second * cos], axis=-1)


TABLES = {dtype: (COS.astype(dtype), SIN.astype(dtype)) for dtype in ("float64", "float32")}


def torch_rotary(x: Any) -> Any:
    cos, sin = (torch.from_numpy(table) for table in TABLES[str(x.dtype).removeprefix("torch.")])
    first, second = x.chunk(2, -1)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], -1)


def attention(np: Any, q: Any, k: Any, v: Any) -> Any:
    return softmax(np, q @ np.swapaxes(k, -1, -2) / math.sqrt(4)) @ v


def ctc(np: Any, x: Any) -> Any:
    """Three steps, the label 2, blanks are 0: at each step the label is not begun, going on, or done."""
    p = log_softmax(np, x[:3])
    before, during, after = p[0, 0], p[0, 2], None
    for t in (1, 2):
        done = during if after is None else np.logaddexp(after, during)
        before, during, after = before + p[t, 0], np.logaddexp(before, during) + p[t, 2], done + p[t, 0]
    return -np.logaddexp(during, after)


def torch_ctc(x: Any) -> Any:
    lengths = torch.tensor([3]), torch.tensor([1])
    return F.ctc_loss(F.log_softmax(x[:3], -1)[:, None], torch.tensor([[2]]), *lengths, reduction="sum")


def contrastive(np: Any, a: Any, b: Any) -> Any:
    a, b = (x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (a, b))
    return -np.mean(np.diagonal(log_softmax(np, a @ b.T / 0.5)))


def torch_contrastive(a: Any, b: Any) -> Any:
    return F.cross_entropy(F.normalize(a, dim=-1) @ F.normalize(b, dim=-1).T / 0.5, torch.arange(4))


def focal(np: Any, x: Any) -> Any:
    p = log_softmax(np, x)[np.arange(4), CLASSES]
    return -np.mean((1 - np.exp(p)) ** 2 * p)


def torch_focal(x: Any) -> Any:
    p = F.log_softmax(x, -1)[torch.arange(4), torch.from_numpy(CLASSES)]
    return -((1 - p.exp()) ** 2 * p).mean()


def gru(np: Any, x: Any, h: Any, w: Any, u: Any) -> Any:
    gates, hidden = x @ w, h @ u
    reset, update = sigmoid(np, gates[:, :2] + hidden[:, :2]), sigmoid(np, gates[:, 2:4] + hidden[:, 2:4])
    new = np.tanh(gates[:, 4:6] + reset * hidden[:, 4:6])
    return (1 - update) * new + update * h


def torch_gru(x: Any, h: Any, w: Any, u: Any) -> Any:
    cell = torch.nn.GRUCell(6, 2, bias=False, dtype=x.dtype)
    return torch.func.functional_call(cell, {"weight_ih": w.T, "weight_hh": u.T}, (x, h))


def plain(np: Any, x: Any, array: Any) -> Any:
    """Constants: JAX's in the dtype of x, since its own would be float64 or float32 for all."""
    return array if np.__name__ == "numpy" else np.asarray(array, x.dtype)


def of(x: Any, array: Any) -> Any:
    return torch.from_numpy(array).to(x.dtype)


THIRTY: dict[str, tuple[Callable[..., Any], Callable[..., Any], tuple[Any, ...]]] = {
    "layer norm": (
        lambda np, x, w, b: normalized(np, x, -1) * w + b,
        lambda x, w, b: F.layer_norm(x, (6,), w, b),
        (A, SCALE, SHIFT),
    ),
    "RMS norm": (
        lambda np, x, w: x / np.sqrt(np.mean(x**2, axis=-1, keepdims=True) + 1e-5) * w,
        lambda x, w: F.rms_norm(x, (6,), w, 1e-5),
        (A, SCALE),
    ),
    "group norm": (
        lambda np, x: normalized(np, np.reshape(x, (4, 2, 3)), -1).reshape(4, 6),
        lambda x: F.group_norm(x, 2),
        (A,),
    ),
    "batch norm": (
        lambda np, x, w, b: normalized(np, x, 0) * w + b,
        lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True),
        (A, SCALE, SHIFT),
    ),
    "GELU": (lambda np, x: x * 0.5 * (1 + erf(np, x / math.sqrt(2))), lambda x: F.gelu(x), (A,)),
    "GELU by tanh": (
        lambda np, x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
        lambda x: F.gelu(x, approximate="tanh"),
        (A,),
    ),
    "SiLU": (lambda np, x: x * sigmoid(np, x), F.silu, (A,)),
    "mish": (lambda np, x: x * np.tanh(softplus(np, x)), F.mish, (A,)),
    "softplus": (softplus, F.softplus, (A,)),
    "ELU": (lambda np, x: np.where(x > 0, x, np.expm1(x)), F.elu, (A,)),
    "softmax": (softmax, lambda x: F.softmax(x, -1), (A,)),
    "logsumexp": (logsumexp, lambda x: torch.logsumexp(x, -1), (A,)),
    "cosine similarity": (
        lambda np, a, b: np.sum(a * b, axis=-1) / (np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)),
        lambda a, b: F.cosine_similarity(a, b),
        (A, B),
    ),
    "Huber": (
        lambda np, x, y: np.mean(np.where(np.abs(x - y) < 1, 0.5 * (x - y) ** 2, np.abs(x - y) - 0.5)),
        F.huber_loss,
        (A, B),
    ),
    "mean squared error": (lambda np, x, y: np.mean((x - y) ** 2), F.mse_loss, (A, B)),
    "attention": (attention, F.scaled_dot_product_attention, (QUERY, KEY, VALUE)),
    "SwiGLU": (
        lambda np, x, w, v, u: (lambda g: g * sigmoid(np, g) * (x @ v))(x @ w) @ u,
        lambda x, w, v, u: (F.silu(x @ w) * (x @ v)) @ u,
        (A, W, V, U),
    ),
    "rotary embedding": (rotary, torch_rotary, (A,)),
    "logistic regression": (
        lambda np, x, w, b: np.mean(softplus(np, -plain(np, x, SIGNS) * (x @ w + b))),
        lambda x, w, b: F.softplus(-of(x, SIGNS) * (x @ w + b)).mean(),
        (A, SCALE, np.array(0.25)),
    ),
    "variance": (lambda np, x: np.var(x, axis=-1, ddof=1), lambda x: torch.var(x, -1), (A,)),
    "norm": (lambda np, x: np.linalg.norm(x), torch.linalg.vector_norm, (A,)),
    "cross-entropy": (
        lambda np, x: -np.mean(log_softmax(np, x)[np.arange(4), CLASSES]),
        lambda x: F.cross_entropy(x, torch.from_numpy(CLASSES)),
        (A,),
    ),
    "label smoothing": (
        lambda np, x: -np.mean(np.sum(plain(np, x, ONE_HOT * 0.9 + 0.1 / 6) * log_softmax(np, x), axis=-1)),
        lambda x: F.cross_entropy(x, torch.from_numpy(CLASSES), label_smoothing=0.1),
        (A,),
    ),
    "focal loss": (focal, torch_focal, (A,)),
    "contrastive loss": (contrastive, torch_contrastive, (A, B)),
    "KL divergence": (
        lambda np, a, b: np.sum(softmax(np, b) * (log_softmax(np, b) - log_softmax(np, a))),
        lambda a, b: F.kl_div(F.log_softmax(a, -1), F.log_softmax(b, -1), reduction="sum", log_target=True),
        (A, B),
    ),
    "hinge": (
        lambda np, x, w: np.mean(np.maximum(0, 1 - plain(np, x, SIGNS) * (x @ w))),
        lambda x, w: (1 - of(x, SIGNS) * (x @ w)).clamp(0).mean(),
        (A, SCALE),
    ),
    "triplet loss": (
        lambda np, a, p, n: np.mean(
            np.maximum(np.linalg.norm(a - p + 1e-6, axis=-1) - np.linalg.norm(a - n + 1e-6, axis=-1) + 1.0, 0)
        ),
        F.triplet_margin_loss,
        (A, B, C),
    ),
    "CTC of three steps": (ctc, torch_ctc, (A,)),
    "GRU cell": (gru, torch_gru, (A, B[:, :2].copy(), W[:, :6].copy(), U[:2].copy())),
}


def enclosed(name: str, dtype: str) -> tuple[Enclosed, list[Any], Any]:
    ours, _, arrays = THIRTY[name]
    given = [np.asarray(a, dtype) for a in arrays]
    with np.errstate(all="ignore"):
        shape = np.shape(ours(np, *given))
    seed = np.cos(np.arange(1, 1 + math.prod(shape))).reshape(shape).astype(dtype)
    return enclose(lambda *x: ours(np, *x), *given, grad_output=seed), given, seed


def by_torch(name: str, given: list[Any], seed: Any) -> list[Any]:
    tensors = [torch.from_numpy(a.copy()).requires_grad_() for a in given]
    y = THIRTY[name][1](*tensors)
    y.backward(torch.from_numpy(np.array(seed)))
    return [y.detach().numpy(), *(t.grad.numpy() for t in tensors)]


def by_jax(name: str, given: list[Any], seed: Any) -> list[Any]:
    import jax

    y, pull = jax.vjp(lambda *x: THIRTY[name][0](jax.numpy, *x), *map(jax.numpy.asarray, given))
    return [np.asarray(a) for a in (y, *pull(jax.numpy.asarray(seed)))]


def outside(e: Enclosed, answers: list[Any]) -> list[Any]:
    """For each tensor, where an answer lies outside the budget."""
    truths, bounds = [e.value, *e.gradients], [e.value_budget, *e.gradient_budgets]
    return [~(t.error(a) <= b) for t, b, a in zip(truths, bounds, answers, strict=True)]  # type: ignore[union-attr]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", THIRTY)
def test_right_engines_pass_and_a_small_mistake_is_caught(name: str, dtype: str) -> None:
    e, given, seed = enclosed(name, dtype)
    answers = by_torch(name, given, seed)
    assert len(answers) == 1 + len(given)
    assert not any(o.any() for o in outside(e, answers))
    size = 1e-9 if dtype == "float64" else 1e-3
    for k, answer in enumerate(answers):
        wrong = np.array(answer)
        largest = np.unravel_index(np.argmax(abs(wrong)), wrong.shape)
        wrong[largest] *= 1 + size
        assert outside(e, [*answers[:k], wrong, *answers[k + 1 :]])[k].any()


@pytest.mark.parametrize("name", THIRTY)
def test_jax_is_right_too(name: str) -> None:
    pytest.importorskip("jax")
    e, given, seed = enclosed(name, "float32")
    assert not any(o.any() for o in outside(e, by_jax(name, given, seed)))


def test_there_are_thirty() -> None:
    assert len(THIRTY) == 30
