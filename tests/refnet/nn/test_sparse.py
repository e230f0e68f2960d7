"""Embedding and EmbeddingBag against torch's: every option, in place what is written there, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import refnet
from refnet import nn

pytestmark = pytest.mark.arithmetic

K = np.array([1, 2, 1, 4, 0, 1, 3, 3, 2])
OFFSETS = np.array([0, 2, 2, 5])
INFINITY = float("inf")


def twins(kind: str, options: dict[str, Any], scale: float = 4) -> tuple[Any, Any]:
    """The layer in both engines, with the same table of fractions: sums are exact in any order."""
    ours, theirs = getattr(nn, kind)(6, 3, **options), getattr(torch.nn, kind)(6, 3, dtype=torch.float64, **options)
    ours.params["weight"][...] = np.random.default_rng(0).integers(-8, 9, (6, 3)) / scale
    theirs.weight.data = torch.tensor(ours.params["weight"])
    return ours, theirs


def assert_as_torch(kind: str, options: dict[str, Any], *inputs: Any) -> None:
    ours, theirs = twins(kind, options)
    Y, saved = ours.forward(*inputs)
    dY = np.random.default_rng(1).integers(-8, 9, Y.shape) / 4
    dX, grads = ours.backward(dY, saved)
    tensors = [None if x is None else torch.tensor(x, requires_grad=x.dtype.kind == "f") for x in inputs]
    y = theirs(*tensors)
    y.backward(torch.tensor(dY))
    close = {"rtol": 1e-14, "atol": 1e-15}
    np.testing.assert_allclose(Y, y.detach().numpy(), **close)  # type: ignore[arg-type]
    np.testing.assert_allclose(grads["weight"], theirs.weight.grad.to_dense().numpy(), **close)  # type: ignore[arg-type]
    # max_norm writes into the table, and into the rows that are looked up alone
    np.testing.assert_allclose(ours.params["weight"], theirs.weight.detach().numpy(), **close)  # type: ignore[arg-type]
    if len(inputs) == 3:
        np.testing.assert_allclose(dX[2], tensors[2].grad.numpy(), **close)  # type: ignore[arg-type, union-attr]


EMBEDDINGS: list[dict[str, Any]] = [
    {},
    {"padding_idx": 1},
    {"padding_idx": -1, "max_norm": 2.0},
    {"max_norm": 1.5, "norm_type": 1.0},
    {"max_norm": 1.0, "norm_type": INFINITY},
    {"max_norm": 1.0, "norm_type": 3.0},
    {"max_norm": 0.0},
    {"scale_grad_by_freq": True, "padding_idx": 2},
    {"sparse": True, "padding_idx": 2},
]


@pytest.mark.parametrize("options", EMBEDDINGS, ids=str)
@pytest.mark.parametrize("input", [K, K.reshape(3, 3), K[:0], K.astype(np.int32)], ids=lambda k: f"{k.dtype}{k.shape}")
def test_an_embedding(options: dict[str, Any], input: Any) -> None:
    assert_as_torch("Embedding", options, input)


def test_an_index_without_axes() -> None:
    assert_as_torch("Embedding", {}, np.array(2))
    assert nn.Embedding(6, 3)(np.array(2)).shape == (3,)


BAGS: list[dict[str, Any]] = [
    {},
    {"padding_idx": 1},
    {"max_norm": 1.5},
    {"max_norm": 1.5, "norm_type": INFINITY, "padding_idx": 2},
    {"include_last_offset": True},
    {"sparse": True},
]


@pytest.mark.parametrize("options", BAGS, ids=str)
@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_bags(mode: str, options: dict[str, Any]) -> None:
    if mode == "max":
        options = {name: value for name, value in options.items() if name != "sparse"}
    last = options.get("include_last_offset", False)
    offsets = np.append(OFFSETS, K.size) if last else OFFSETS
    how = {"mode": mode, **options}
    for inputs in (
        (K, offsets),
        (K, offsets.astype(np.int32)),
        (K.reshape(3, 3),),
        (np.zeros((0, 3), np.int64),),
        (np.array([1, 1, 1]), np.array([0, 3] if last else [0])),
        (np.array([1, 2]), np.array([0, 0, 2, 2, 2] if last else [0, 0, 2, 2])),
    ):
        assert_as_torch("EmbeddingBag", how, *inputs)
    if mode == "sum":
        P = np.array([0.5, -1.0, 2.0, 0.25, 1.5, -0.5, 3.0, 1.0, 0.0])
        assert_as_torch("EmbeddingBag", how, K, offsets, P)
        assert_as_torch("EmbeddingBag", how, K.reshape(3, 3), None, P.reshape(3, 3))


def test_a_frequency_is_that_of_the_index() -> None:
    """By hand: of indices 1, 1, 3 row 1 has two terms divided by 2, row 3 one divided by 1. torch 2.13.0 divides the
    latter by 2, too (pytorch/pytorch#190063; docs/findings.md)."""
    layer = nn.EmbeddingBag(4, 1, scale_grad_by_freq=True, mode="sum")
    _, saved = layer.forward(np.array([1, 1, 3]), np.array([0]))
    _, grads = layer.backward(np.array([[6.0]]), saved)
    assert grads["weight"].tolist() == [[0], [6], [0], [6]]


def test_a_nan_in_a_bag_is_its_largest() -> None:
    """torch passes over it where it is not the first of its bag."""
    layer = nn.EmbeddingBag(2, 1, mode="max")
    layer.params["weight"][...] = [[1.0], [np.nan]]
    with np.errstate(all="ignore"):
        Y, saved = layer.forward(np.array([[0, 1], [0, 0]]))
        _, grads = layer.backward(np.ones((2, 1)), saved)
    assert np.isnan(Y[0, 0])
    assert Y[1, 0] == 1
    assert np.isnan(grads["weight"]).all()


@pytest.mark.parametrize("n", [3, 16, 40])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_initial_values_are_torchs_but_for_the_last_bits(n: int, dtype: str) -> None:
    torch.manual_seed(7)
    theirs = [torch.nn.Embedding(n, 2, padding_idx=1, dtype=getattr(torch, dtype)), torch.rand(3, dtype=torch.float64)]
    g = refnet.Generator(7)
    ours = nn.Embedding(n, 2, padding_idx=1, dtype=dtype, generator=g)
    np.testing.assert_allclose(ours.params["weight"], theirs[0].weight.detach().numpy(), rtol=2e-5, atol=1e-6)  # type: ignore[union-attr]
    assert ours.params["weight"].dtype == dtype
    assert not ours.params["weight"][1].any()
    np.testing.assert_array_equal(g.rand(3), theirs[1].numpy())  # type: ignore[operator]


def test_a_given_table_is_not_copied() -> None:
    W = np.zeros((6, 3))
    assert nn.Embedding(6, 3, _weight=W).params["weight"] is W
    with pytest.raises(ValueError, match=r"EmbeddingBag: expected _weight of shape \(5, 3\), got \(6, 3\)"):
        nn.EmbeddingBag(5, 3, _weight=W)


@pytest.mark.parametrize("options", [*EMBEDDINGS, {"padding_idx": 0, "max_norm": 1.0, "norm_type": 1.0}], ids=str)
def test_repr_is_torchs(options: dict[str, Any]) -> None:
    for kind in ("Embedding", "EmbeddingBag"):
        ours, theirs = twins(kind, options)
        assert repr(ours) == repr(theirs)


REFUSED: dict[str, tuple[str, dict[str, Any], tuple[Any, ...], type[Exception], str]] = {
    "a row past the last": ("Embedding", {}, (np.array([6]),), IndexError, "expected input from 0 to 5, got 6"),
    "a row below 0": ("Embedding", {}, (np.array([-1]),), IndexError, "expected input from 0 to 5, got -1"),
    "floats": (
        "Embedding",
        {},
        (np.array([1.0]),),
        TypeError,
        "expected input to be an array of int64 or int32, got f",
    ),
    "bytes": ("Embedding", {}, (np.array([1], np.int16),), TypeError, "expected input to be an .* got int16"),
    "padding": ("Embedding", {"padding_idx": 6}, (), ValueError, "expected padding_idx from -6 to 5, got 6"),
    "bag: a row": ("EmbeddingBag", {}, (np.array([[6]]),), IndexError, "expected input from 0 to 5, got 6"),
    "no offsets": ("EmbeddingBag", {}, (K,), ValueError, "expected offsets for an input of one axis"),
    "offsets": ("EmbeddingBag", {}, (K.reshape(3, 3), OFFSETS), ValueError, "expected offsets for .* with offsets"),
    "three axes": ("EmbeddingBag", {}, (K.reshape(1, 3, 3),), ValueError, "expected an input of 1 or 2 axes, got sha"),
    "a start": (
        "EmbeddingBag",
        {},
        (K, np.array([1, 2])),
        ValueError,
        r"expected offsets that rise from 0 .* \[1, 2\]",
    ),
    "an end": (
        "EmbeddingBag",
        {},
        (K, np.array([0, 10])),
        ValueError,
        r"expected offsets that rise from 0 to at most 9",
    ),
    "offsets of floats": (
        "EmbeddingBag",
        {},
        (K, OFFSETS * 1.0),
        TypeError,
        "expected offsets to be an array of int64",
    ),
    "offsets of two axes": (
        "EmbeddingBag",
        {},
        (K, OFFSETS[None]),
        ValueError,
        r"expected offsets of one axis, got .*4",
    ),
    "mode": (
        "EmbeddingBag",
        {"mode": "min"},
        (K, OFFSETS),
        ValueError,
        "expected mode to be one of sum, mean, max, got",
    ),
    "max by frequency": ("EmbeddingBag", {"mode": "max", "scale_grad_by_freq": True}, (K, OFFSETS), ValueError, "exp"),
    "max sparse": ("EmbeddingBag", {"mode": "max", "sparse": True}, (K, OFFSETS), ValueError, "expected neither scale"),
    "weights of a mean": (
        "EmbeddingBag",
        {},
        (K, OFFSETS, K * 1.0),
        ValueError,
        "expected per_sample_weights with mode",
    ),
    "weights": (
        "EmbeddingBag",
        {"mode": "sum"},
        (K, OFFSETS, K[1:] * 1.0),
        ValueError,
        "expected input and per_sample",
    ),
    "weights of float32": (
        "EmbeddingBag",
        {"mode": "sum"},
        (K, OFFSETS, K.astype(np.float32)),
        TypeError,
        "expected weight and per_sample_weights of one dtype, got float64 and float32",
    ),
}


def applied(package: Any, kind: str, options: dict[str, Any], inputs: tuple[Any, ...], **dtype: Any) -> Any:
    return getattr(package, kind)(6, 3, **options, **dtype)(*inputs)


@pytest.mark.parametrize("what", REFUSED)
def test_what_torch_refuses_is_refused(what: str) -> None:
    kind, options, inputs, error, message = REFUSED[what]
    tensors = tuple(map(torch.tensor, inputs))
    with pytest.raises((ValueError, RuntimeError, IndexError, AssertionError, NotImplementedError, TypeError)):
        applied(torch.nn, kind, options, tensors, dtype=torch.float64)
    with pytest.raises(error, match=f"^{kind}: {message}"):
        applied(nn, kind, options, inputs)


@pytest.mark.parametrize(
    ("offsets", "last"),
    [([0, 5, 3], False), ([], False), ([0, 4], True), ([], True)],
    ids=["fall", "none", "end", "no end"],
)
def test_offsets_that_torch_takes_and_reads_wrongly_are_refused(offsets: list[int], last: bool) -> None:
    """Bags that overlap, indices in no bag, or no bag: torch crashes or ignores the end that is given."""
    with pytest.raises(ValueError, match="EmbeddingBag: expected offsets that rise from 0 to"):
        nn.EmbeddingBag(6, 3, include_last_offset=last)(K, np.array(offsets, np.int64))


def test_norms_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="Embedding: expected max_norm to be at least 0, got -1"):
        nn.Embedding(6, 3, max_norm=-1.0)
    with pytest.raises(ValueError, match="EmbeddingBag: expected norm_type > 0, got 0"):
        nn.EmbeddingBag(6, 3, max_norm=1.0, norm_type=0.0)
