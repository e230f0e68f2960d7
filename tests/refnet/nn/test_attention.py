"""Attention against torch, on its math path and on the flash kernel of the CPU, and against hand arithmetic."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

import parity
from refnet import nn
from refnet.generator import Generator
from refnet.nn.attention import causal

pytestmark = [pytest.mark.arithmetic, pytest.mark.filterwarnings("ignore:.*[Cc]ausal bias.*:UserWarning")]

PATHS = {"math": SDPBackend.MATH, "flash": SDPBackend.FLASH_ATTENTION}


def drawn(*shapes: tuple[int, ...], seed: int = 0) -> list[Any]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape) for shape in shapes]


def tensors(*arrays: Any) -> list[Any]:
    return [torch.tensor(a, requires_grad=a.dtype.kind == "f") for a in arrays]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("mask", ["none", "causal", "booleans", "floats", "a query without keys"])
def test_both_paths_of_torch_are_right(path: str, mask: str) -> None:
    q, k, v, added = tensors(*drawn((1, 2, 3, 4), (1, 2, 5, 4), (1, 2, 5, 4), (3, 5)))
    some = torch.tensor(np.random.default_rng(1).integers(0, 2, (3, 5)).astype(bool)) | torch.eye(3, 5, dtype=bool)
    options: dict[str, Any] = {
        "none": {},
        "causal": {"is_causal": True},
        "booleans": {"attn_mask": some},
        "floats": {"attn_mask": added.detach()},
        "a query without keys": {"attn_mask": some & torch.tensor([[True], [False], [True]])},
    }[mask]
    function = torch.nn.functional.scaled_dot_product_attention

    def on_path(query: Any, key: Any, value: Any, attn_mask: Any = None, is_causal: bool = False) -> Any:
        with sdpa_kernel(PATHS[path]):
            return function(query, key, value, attn_mask, is_causal=is_causal)

    q, k, v = (x.detach().requires_grad_() for x in (q, k, v))
    report = parity.check(on_path, "scaled_dot_product_attention", q, k, v, **options)
    assert report.ok, report


def test_a_wrong_attention_is_seen() -> None:
    q, k, v = tensors(*drawn((2, 3, 4), (2, 5, 4), (2, 5, 4)))
    report = parity.check(lambda q, k, v: torch.softmax(q @ k.mT, -1) @ v, "scaled_dot_product_attention", q, k, v)
    assert not report.ok
    assert "attention: scale left out" in str(report)


def test_dropout_needs_its_mask() -> None:
    q, k, v = tensors(*drawn((2, 3, 4), (2, 5, 4), (2, 5, 4)))
    with pytest.raises(parity.UsageError, match="expected a dropout_mask with dropout_p"):
        parity.check(
            torch.nn.functional.scaled_dot_product_attention, "scaled_dot_product_attention", q, k, v, dropout_p=0.5
        )


@pytest.mark.parametrize(("queries", "keys"), list(itertools.product((1, 3, 5), (1, 3, 5))))
def test_both_alignments_are_torchs(queries: int, keys: int) -> None:
    # Not at the head: it loads torch's compiler, in every process that collects the tests.
    from torch.nn.attention import bias

    upper = bias.causal_upper_left(queries, keys)._materialize(torch.device("cpu"))
    lower = bias.causal_lower_right(queries, keys)._materialize(torch.device("cpu"))
    assert causal(queries, keys).tolist() == upper.tolist()
    assert causal(queries, keys, "lower_right").tolist() == lower.tolist()


def test_a_query_without_keys_gives_zeros() -> None:
    rng = np.random.default_rng(0)
    # Sums of such products are exact, or have two terms that are: with one query less no kernel rounds otherwise.
    k, v = (rng.choice([-2.0, -1.0, -0.5, 0.5, 1.0, 2.0], shape) for shape in ((4, 3), (4, 2)))
    q, dY = (rng.integers(-8, 9, shape) / 8 for shape in ((2, 3), (2, 2)))
    layer = nn.ScaledDotProductAttention()
    mask = np.array([[False] * 4, [True, False, False, True]])
    for given in (mask, np.where(mask, 0.0, -np.inf)):
        Y, saved = layer.forward(q, k, v, given)
        (dq, dk, dv, _), _ = layer.backward(dY, saved)
        assert Y[0].tolist() == [0, 0]
        assert dq[0].tolist() == [0, 0, 0]
        alone, saved = layer.forward(q[1:], k[[0, 3]], v[[0, 3]])
        (dq1, dk1, dv1), _ = layer.backward(dY[1:], saved)
        np.testing.assert_array_equal(Y[1:], alone)
        np.testing.assert_array_equal(dq[1:], dq1)
        np.testing.assert_array_equal(dk[[0, 3]], dk1)
        np.testing.assert_array_equal(dv[[0, 3]], dv1)


def test_a_very_negative_mask_is_a_number() -> None:
    """As torch.finfo(dtype).min: of a query that has only such keys, each counts alike; no key is left out."""
    q, k, v = drawn((1, 2), (3, 2), (3, 2))
    Y = nn.ScaledDotProductAttention()(q, k, v, np.full((1, 3), np.finfo(np.float64).min))
    np.testing.assert_allclose(Y[0], v.mean(axis=0), rtol=4 * 2.0**-52)


@pytest.mark.parametrize("masked", [False, True])
def test_nan_stays_nan(masked: bool) -> None:
    q, k, v, dY = drawn((2, 3), (4, 3), (4, 2), (2, 2))
    k[1, 0] = np.nan
    mask = np.array([True, not masked, True, True]) & np.ones((2, 1), bool)
    layer = nn.ScaledDotProductAttention()
    Y, saved = layer.forward(q, k, v, mask)
    (dq, *_), _ = layer.backward(dY, saved)
    x = tensors(q, k, v)
    y = torch.nn.functional.scaled_dot_product_attention(*x, torch.tensor(mask))
    y.backward(torch.tensor(dY))
    assert np.isnan(Y).tolist() == np.isnan(y.detach().numpy()).tolist()
    assert np.isnan(dq).tolist() == np.isnan(x[0].grad.numpy()).tolist()
    assert np.isnan(Y).all()


def test_weights_that_are_drawn() -> None:
    layer = nn.ScaledDotProductAttention(0.25, generator=Generator(3))
    q, k = np.zeros((8, 50, 2)), np.zeros((8, 50, 2))
    v = np.broadcast_to(np.eye(50), (8, 50, 50))
    D = layer(q, k, v)
    kept = Generator(3).rand((8, 50, 50)) < 0.75
    np.testing.assert_allclose(D, np.where(kept, 1 / 50 / 0.75, 0), rtol=4 * 2.0**-52)
    assert layer.eval()(q, k, v).std() < 1e-15


ERRORS = [
    (
        [(2, 3), (4, 2), (4, 2)],
        {},
        None,
        ValueError,
        r"query, key and value of shapes .* got \(2, 3\), \(4, 2\), \(4, 2\)",
    ),
    ([(2, 3), (4, 3), (5, 3)], {}, None, ValueError, "query, key and value of shapes"),
    ([(3,), (3,), (3,)], {}, None, ValueError, "query, key and value of shapes"),
    ([(2, 2, 3), (1, 4, 3), (2, 4, 3)], {}, None, ValueError, "alike in leading axes"),
    (
        [(4, 2, 3), (3, 4, 3), (2, 4, 3)],
        {"enable_gqa": True},
        None,
        ValueError,
        r"divide those of query, 4, got \(3, 2\)",
    ),
    ([(2, 3), (4, 3), (4, 3)], {"enable_gqa": True}, None, ValueError, r"shapes \(..., H, L, E\)"),
    ([(2, 3), (4, 3), (4, 3)], {"is_causal": True}, np.ones((2, 4), bool), ValueError, "no attn_mask with is_causal"),
    (
        [(2, 3), (4, 3), (4, 3)],
        {},
        np.ones((3, 4), bool),
        ValueError,
        r"attn_mask of a shape .* to \(2, 4\)",
    ),
    ([(2, 3), (4, 3), (4, 3)], {}, np.ones((1, 2, 4), bool), ValueError, "attn_mask of a shape that broadcasts"),
    ([(2, 3), (4, 3), (4, 3)], {}, np.ones((2, 4), int), TypeError, "attn_mask of dtype bool or float64, got int64"),
    ([(2, 3), (4, 3), (4, 3)], {}, np.ones((2, 4), np.float32), TypeError, "one dtype"),
]


@pytest.mark.parametrize(("shapes", "options", "mask", "error", "message"), ERRORS)
def test_refused(shapes: Any, options: Any, mask: Any, error: Any, message: str) -> None:
    layer = nn.ScaledDotProductAttention(**options)
    with pytest.raises(error, match="^ScaledDotProductAttention: expected .*" + message):
        layer(*(np.zeros(shape) for shape in shapes), mask)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"dropout_p": 1.5}, ValueError, "0 <= dropout_p <= 1, got 1.5"),
        ({"scale": float("nan")}, ValueError, "scale to be a number, got nan"),
        ({"is_causal": 1}, TypeError, "is_causal to be True or False, got 1"),
        ({"alignment": "left"}, ValueError, "alignment to be one of upper_left, lower_right, got 'left'"),
    ],
)
def test_refused_options(options: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match="^ScaledDotProductAttention: expected " + message):
        nn.ScaledDotProductAttention(**options)


@pytest.mark.parametrize(
    ("mask", "message"),
    [(np.ones((2, 4)), "of dtype bool, got float64"), (np.ones(4, bool), r"of shape \(2, 4\), got \(4,\)")],
)
def test_refused_dropout_masks(mask: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match="^ScaledDotProductAttention: expected dropout_mask " + message):
        nn.ScaledDotProductAttention(0.5)(*drawn((2, 3), (4, 3), (4, 3)), None, mask)
