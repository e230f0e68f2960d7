"""LinearCrossEntropyLoss against torch's, live, in chunks of every size."""

from __future__ import annotations

import tracemalloc
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from refnet import nn
from refnet.nn import linear_cross_entropy

pytestmark = [pytest.mark.arithmetic, pytest.mark.filterwarnings("error")]

W = np.array([0.5, 2.0, 1.0, 0.25])
OPTIONS: list[dict[str, Any]] = [
    {},
    {"bias": True},
    {"weight": W},
    {"ignore_index": 1},
    {"label_smoothing": 0.25, "weight": W, "bias": True},
    {"out_features": (2, 3)},
    {"out_features": (3,), "bias": True, "weight": W, "ignore_index": 2},
]


def both(loss: nn.Module, X: Any, T: Any, dY: Any, **options: Any) -> tuple[Any, Any]:
    """Loss and gradients by refnet and by torch, whose parameters are refnet's."""
    given = {k: torch.tensor(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}
    theirs = torch.nn.LinearCrossEntropyLoss(X.shape[-1], 4, dtype=torch.float64, **given)
    theirs.load_state_dict({name: torch.tensor(array) for name, array in loss.state_dict().items()})
    x, t = torch.tensor(X, requires_grad=True), torch.tensor(T, requires_grad=T.dtype.kind == "f")
    y = theirs(x, t)
    y.backward(torch.tensor(dY))
    Y, saved = loss.forward(X, T)
    (dX, dT), grads = loss.backward(dY, saved)
    torchs = {"Y": y.detach(), "dX": x.grad, **{name: p.grad for name, p in theirs.named_parameters()}}
    own = {"Y": Y, "dX": dX, **grads}
    if dT is not None:
        own["dT"], torchs["dT"] = dT, t.grad
    assert (dT is None) == (t.grad is None)
    return own, {name: value.numpy() for name, value in torchs.items()}


@pytest.mark.parametrize("chunk", [None, 1, 2, 100])
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("probabilities", [False, True])
def test_every_chunk_is_torchs(probabilities: bool, options: dict[str, Any], reduction: str, chunk: int | None) -> None:
    if probabilities and "ignore_index" in options:
        return
    rng = np.random.default_rng(1)
    out = options.get("out_features", ())
    for batch in ((5,), (0,), (1,), *([()] if not out else [])):
        X = rng.normal(size=(*batch, 3))
        T = rng.random((*batch, 4, *out)) if probabilities else np.asarray(rng.integers(0, 4, (*batch, *out)))
        dY = np.asarray(rng.normal(size=(*batch, *out) if reduction == "none" else ()))
        made = {**options, "reduction": reduction}
        own = nn.LinearCrossEntropyLoss(3, 4, options=SimpleNamespace(batch_chunk_size=chunk), **made)
        ours, torchs = both(own, X, T, dY, **made)
        assert ours.keys() == torchs.keys()
        for name, value in ours.items():
            assert np.shape(value) == torchs[name].shape
            np.testing.assert_allclose(value, torchs[name], rtol=1e-12, atol=1e-13, err_msg=name)


def test_the_logits_are_never_there_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """At 512 samples and 4,096 classes they would be 16 MB; the weight and its gradient are half a megabyte each."""
    monkeypatch.setattr(linear_cross_entropy, "LOGITS", 2**14)
    X, T = np.ones((512, 16)), np.zeros(512, np.int64)
    loss = nn.LinearCrossEntropyLoss(16, 4096)
    tracemalloc.start()
    Y, saved = loss.forward(X, T)
    forward = tracemalloc.get_traced_memory()[1]
    loss.backward(np.float64(1), saved)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert forward < 2**21
    assert peak < 2**23
    assert np.isfinite(Y)


def test_arguments_and_words_are_torchs() -> None:
    import inspect

    own = inspect.signature(nn.LinearCrossEntropyLoss).parameters
    other = inspect.signature(torch.nn.LinearCrossEntropyLoss).parameters
    assert [(p.name, p.default, p.kind) for p in own.values() if p.name != "generator"] == [
        (p.name, p.default, p.kind) for p in other.values()
    ]
    for options in ({}, {"bias": True, "out_features": (2,), "reduction": "sum", "ignore_index": 3}):
        ours, theirs = (module.LinearCrossEntropyLoss(5, 4, **options) for module in (nn, torch.nn))
        assert repr(ours) == repr(theirs)


@pytest.mark.parametrize(
    "options",
    [
        {"reduction": "average"},
        {"ignore_index": 1.5},
        {"label_smoothing": 2.0},
        {"weight": np.ones(3)},
        {"options": SimpleNamespace(batch_chunk_size=0)},
        {"options": {"batch_chunk_size": 0}},
        {"out_features": (-1,)},
    ],
)
def test_bad_arguments(options: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError), match=r"^LinearCrossEntropyLoss: expected "):
        nn.LinearCrossEntropyLoss(3, 4, **options)


def test_bad_inputs() -> None:
    loss, X, T = nn.LinearCrossEntropyLoss(3, 4), np.ones((2, 3)), np.zeros(2, np.int64)
    for wrong in (
        (X.astype(np.float32), T),
        (X[:, :2], T),
        (X[None], T),
        (X, T[:1]),
        (X, T + 4),
        (X, np.ones((2, 4), np.float32)),
        (X, np.ones(2)),
    ):
        with pytest.raises((TypeError, ValueError), match=r"^LinearCrossEntropyLoss: expected "):
            loss.forward(*wrong)
    with pytest.raises(ValueError, match=r"expected no ignore_index with class probabilities, got 1"):
        nn.LinearCrossEntropyLoss(3, 4, ignore_index=1).forward(X, np.ones((2, 4)))
    with pytest.raises(ValueError, match=r"expected input of shape \(N, 3\), got \(3,\)"):
        nn.LinearCrossEntropyLoss(3, 4, out_features=(2,)).forward(X[0], T)


def test_options_may_be_a_dict():
    chunks = [
        nn.LinearCrossEntropyLoss(3, 4, options=options).chunks(7)
        for options in ({"batch_chunk_size": 3}, SimpleNamespace(batch_chunk_size=3))
    ]
    assert chunks == [[(0, 3), (3, 6), (6, 7)]] * 2
    assert nn.LinearCrossEntropyLoss(3, 4, options={}).chunks(7) == [(0, 7)]
