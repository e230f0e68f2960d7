"""BatchNorm against torch.nn, and by hand where every figure is a binary fraction."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from refnet.arithmetic.runs import Runs
from refnet.nn.batchnorm import BatchNorm1d, BatchNorm2d, BatchNorm3d

pytestmark = pytest.mark.arithmetic

DTYPES = [np.float32, np.float64]
C = 4

OPTIONS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "momentum": {"momentum": 0.3, "eps": 0.5},
    "average": {"momentum": None},
    "momentum 0": {"momentum": 0.0},
    "momentum 1": {"momentum": 1.0, "eps": 0.125},
    "no bias": {"bias": False, "momentum": None, "eps": 0.1},
    "not affine": {"affine": False, "momentum": 0.7},
    "untracked": {"track_running_stats": False, "eps": 0.01},
    "neither": {"affine": False, "track_running_stats": False},
}

SHAPES = [(0, C), (3, C), (7, C), (0, C, 3), (3, C, 0), (1, C, 3), (3, C, 5), (7, C, 1)]


def draw(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> Any:
    """Samples with another mean and spread for each channel."""
    channel = (C,) + (1,) * (len(shape) - 2)
    return (rng.normal(size=shape) * rng.uniform(0.5, 2, channel) + rng.normal(size=channel)).astype(dtype)


def twins(dtype: Any, rng: np.random.Generator, options: dict[str, Any]) -> tuple[BatchNorm1d, torch.nn.BatchNorm1d]:
    """The layer in both engines, with the same random parameters."""
    ours = BatchNorm1d(C, dtype=dtype, **options)
    theirs = torch.nn.BatchNorm1d(C, dtype=getattr(torch, np.dtype(dtype).name), **options)
    for name, parameter in theirs.named_parameters():
        ours.params[name][...] = rng.normal(size=C)
        parameter.data = torch.tensor(ours.params[name])
    assert list(ours.state_dict()) == list(theirs.state_dict())
    return ours, theirs


def by_torch(layer: torch.nn.BatchNorm1d, X: Any, dY: Any) -> dict[str, Any]:
    """Output and gradients in torch."""
    input = torch.tensor(np.ascontiguousarray(X), requires_grad=True)
    layer.zero_grad()
    output = layer(input)
    output.backward(torch.tensor(np.ascontiguousarray(dY)))
    arrays = {"output": output, "input": input.grad}
    arrays |= {name: parameter.grad for name, parameter in layer.named_parameters()}
    return {name: array.detach().numpy().copy() for name, array in arrays.items()}


def by_refnet(layer: BatchNorm1d, X: Any, dY: Any) -> dict[str, Any]:
    """Output and gradients in refnet."""
    Y, saved = layer.forward(X)
    dX, grads = layer.backward(dY, saved)
    return {"output": Y, "input": dX, **grads}


def assert_close(ours: BatchNorm1d, results: dict[str, Any], expected: dict[str, Any], X: Any, dY: Any) -> None:
    """Two evaluations of one formula agree to first order in the unit roundoff u.

    A sum of N terms is off by N u times the sum of their magnitudes. With a = max|x|, the mean and D = x - mean are off
    by (N + 2) u a; the variance V by (N + 2) u (V + 2 a sqrt V); so R = 1 / sqrt(V + eps) by (N + 6) u k of itself,
    k = 1 + a R; and H = D R by (N + 7) u k (1 + |H|). Carried on through the output, sum dY H and the input's gradient,
    each is off by at most (6 N + 40) u k times its scale below. Two engines: twice that.
    """
    assert results.keys() == expected.keys()
    dtype = X.dtype
    X, dY = X.astype(np.float64), dY.astype(np.float64)
    axes = (0,) if X.ndim == 2 else (0, 2)
    N = math.prod(X.shape[axis] for axis in axes)
    if N > 0:
        mean, var = X.mean(axis=axes), X.var(axis=axes)
        if ours.buffers and not ours.training:
            mean, var = ours.buffers["running_mean"], ours.buffers["running_var"]
        channel = (C,) + (1,) * (X.ndim - 2)
        R = 1 / np.sqrt(var.astype(np.float64) + ours.eps).min()
        h = R * np.abs(X - mean.reshape(channel)).max()
    else:
        R = h = 0.0
    a, g = np.abs(X).max(initial=0), np.abs(dY).max(initial=0)
    G = np.abs(ours.params["weight"]).max() if "weight" in ours.params else 1
    B = np.abs(ours.params["bias"]).max() if "bias" in ours.params else 0
    scale = {"output": G * (1 + h) + B, "input": G * R * g * (1 + h) ** 2, "weight": N * g * (1 + h), "bias": N * g}
    u = np.finfo(dtype).eps / 2
    for name in expected:
        assert results[name].shape == expected[name].shape, name
        assert results[name].dtype == expected[name].dtype == dtype, name
        bound = 2 * (6 * N + 40) * u * (1 + a * R) * scale[name]
        difference = np.abs(results[name].astype(np.float64) - expected[name])
        assert (difference <= bound).all(), f"{name}: {difference.max()} > {bound}"


def assert_buffers_close(ours: BatchNorm1d, theirs: torch.nn.BatchNorm1d, steps: int, N: int, a: float) -> None:
    """As above: in each step the mean moves to one that is off by (N + 2) u a, the variance to one off by (N + 2) u
    (U + 2 a sqrt U) with U <= 2 a^2 the unbiased variance; 8 u for the move itself; the variance begins at 1."""
    for name, buffer in theirs.named_buffers():
        mine, other = ours.buffers[name], buffer.numpy()
        assert mine.shape == other.shape, name
        assert mine.dtype == other.dtype, name
        if name == "num_batches_tracked":
            assert mine == other == steps
            continue
        u = np.finfo(mine.dtype).eps / 2
        scale = {"running_mean": a, "running_var": 1 + 5 * a * a}[name]
        difference = np.abs(mine.astype(np.float64) - other)
        assert (difference <= 2 * steps * (N + 10) * u * scale).all(), f"{name}: {difference.max()}"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("options", OPTIONS)
def test_three_training_steps_and_evaluation(options: str, shape: tuple[int, ...], dtype: Any) -> None:
    rng = np.random.default_rng(1)
    ours, theirs = twins(dtype, rng, OPTIONS[options])
    arrays, largest = dict(ours.state_dict()), 0.0
    for step in (1, 2, 3):
        X, dY = draw(rng, shape, dtype), rng.normal(size=shape).astype(dtype)
        X.flags.writeable = dY.flags.writeable = False
        largest = max(largest, float(np.abs(X).max(initial=0)))
        assert_close(ours, by_refnet(ours, X, dY), by_torch(theirs, X, dY), X, dY)
        assert_buffers_close(ours, theirs, step, math.prod(shape) // C, largest)
    ours.eval()
    theirs.eval()
    ours.load_state_dict({name: array.numpy() for name, array in theirs.state_dict().items()})
    X, dY = draw(rng, shape, dtype), rng.normal(size=shape).astype(dtype)
    assert_close(ours, by_refnet(ours, X, dY), by_torch(theirs, X, dY), X, dY)
    for name, array in theirs.state_dict().items():
        assert ours.state_dict()[name] is arrays[name], name
        assert np.array_equal(arrays[name], array), name


@pytest.mark.parametrize("shape", [(1, C), (1, C, 1)], ids=str)
@pytest.mark.parametrize("options", ["momentum", "not affine"])
def test_one_sample_in_evaluation(options: str, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(2)
    ours, theirs = twins(np.float64, rng, OPTIONS[options])
    ours.buffers["running_mean"][...] = rng.normal(size=C)
    ours.buffers["running_var"][...] = rng.uniform(0.5, 2, C)
    theirs.load_state_dict({name: torch.tensor(array) for name, array in ours.state_dict().items()})
    ours.eval()
    theirs.eval()
    X, dY = draw(rng, shape, np.float64), rng.normal(size=shape)
    assert_close(ours, by_refnet(ours, X, dY), by_torch(theirs, X, dY), X, dY)


@pytest.mark.parametrize("training", [True, False])
def test_strided_reversed_and_broadcast_arrays(training: bool) -> None:
    rng = np.random.default_rng(3)
    ours, theirs = twins(np.float64, rng, {"eps": 0.1})
    ours.train(training)
    theirs.train(training)
    X = rng.normal(size=(14, 5, C))[::2, ::-1].swapaxes(1, 2)
    dY = np.broadcast_to(rng.normal(size=(C, 1)), X.shape)
    assert not X.flags.c_contiguous
    assert 0 in dY.strides
    assert_close(ours, by_refnet(ours, X, dY), by_torch(theirs, X, dY), X, dY)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("momentum", [0.5, None])
def test_by_hand(momentum: float | None, dtype: Any) -> None:
    layer = BatchNorm1d(1, eps=7.0, momentum=momentum, dtype=dtype)
    layer.params["weight"][...] = 2
    layer.params["bias"][...] = 1
    # Mean 10, variance 9, R = 1/sqrt(9 + 7) = 1/4, H = -3/4 and 3/4.
    Y, saved = layer.forward(np.array([[7], [13]], dtype))
    assert Y.tolist() == [[-0.5], [2.5]]
    # dB = 3/2, dG = -3/4 + 3/8 = -3/8; dX = 2/4 (1 - (3/2 + 9/32) / 2) and 2/4 (1/2 - (3/2 - 9/32) / 2).
    dX, grads = layer.backward(np.array([[1], [0.5]], dtype), saved)
    assert dX.tolist() == [[7 / 128], [-7 / 128]]
    assert {name: grad.tolist() for name, grad in grads.items()} == {"weight": [-0.375], "bias": [1.5]}
    # The unbiased variance is 18; half way from 0 and 1, or the average of one batch.
    expected = (5.0, 9.5) if momentum else (10.0, 18.0)
    assert (layer.buffers["running_mean"].item(), layer.buffers["running_var"].item()) == expected
    layer.forward(np.array([[-1], [5]], dtype))
    expected = (3.5, 13.75) if momentum else (6.0, 18.0)
    assert (layer.buffers["running_mean"].item(), layer.buffers["running_var"].item()) == expected
    assert layer.buffers["num_batches_tracked"] == 2


@pytest.mark.parametrize("shape", [(4, C), (2, C, 2)], ids=str)
def test_a_common_offset_changes_no_bit(shape: tuple[int, ...]) -> None:
    """Small integers, four samples: mean and deviations are exact as far out as 2^50. Products with the inputs
    themselves, as in a one-pass variance, would not be."""
    rng = np.random.default_rng(6)
    X, dY = rng.integers(-8, 9, shape).astype(np.float64), rng.normal(size=shape)
    near, far = (by_refnet(BatchNorm1d(C), X + offset, dY) for offset in (0.0, 2.0**50))
    assert all(np.array_equal(near[name], far[name]) for name in near)


def test_mode_and_statistics_are_those_of_the_forward_pass() -> None:
    rng = np.random.default_rng(4)
    ours, theirs = twins(np.float64, rng, {"eps": 0.1})
    X, dY = rng.normal(size=(5, C)), rng.normal(size=(5, C))
    Y, saved = ours.forward(X)
    ours.forward(3 * rng.normal(size=(7, C, 2)))
    ours.eval()
    dX, grads = ours.backward(dY, saved)
    ours.train()
    assert_close(ours, {"output": Y, "input": dX, **grads}, by_torch(theirs, X, dY), X, dY)


@pytest.mark.parametrize("shape", [(1, C), (1, C, 1)], ids=str)
@pytest.mark.parametrize(("track", "training"), [(True, True), (False, True), (False, False)])
def test_one_sample_has_no_statistics(track: bool, training: bool, shape: tuple[int, ...]) -> None:
    ours = BatchNorm1d(C, track_running_stats=track).train(training)
    with pytest.raises(ValueError, match="more than 1 value"):
        torch.nn.BatchNorm1d(C, track_running_stats=track).train(training)(torch.ones(shape))
    before = {name: array.copy() for name, array in ours.buffers.items()}
    with pytest.raises(ValueError, match=r"^BatchNorm1d: expected more than 1 sample .* got input shape \(1, 4"):
        ours.forward(np.ones(shape))
    assert all(np.array_equal(ours.buffers[name], array) for name, array in before.items())


@pytest.mark.parametrize(
    ("eps", "training", "refused"),
    [(0.0, True, True), (-1.0, True, True), (-1.0, False, True), (math.nan, True, True), (0.0, False, False)],
)
def test_eps_must_be_positive_for_statistics_of_the_batch(eps: float, training: bool, refused: bool) -> None:
    layer = BatchNorm1d(C, eps=eps).train(training)
    X = np.random.default_rng(5).normal(size=(3, C))
    if refused:
        with pytest.raises(ValueError, match=f"^BatchNorm1d: expected eps >.* got {eps}"):
            layer.forward(X)
    else:
        assert np.array_equal(layer.forward(X)[0], X)


@pytest.mark.parametrize("shape", [(C,), (3, C + 1), (C, 3), (3, C, 2, 2), (3, 2, C)], ids=str)
def test_refused_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises((ValueError, RuntimeError)):
        torch.nn.BatchNorm1d(C)(torch.ones(shape))
    with pytest.raises(ValueError, match=r"^BatchNorm1d: expected input of shape \(N, 4\) or \(N, 4, L\).* got"):
        BatchNorm1d(C).forward(np.ones(shape))


@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.float16])
@pytest.mark.parametrize("affine", [True, False])
def test_refused_dtypes(affine: bool, dtype: Any) -> None:
    """Without parameters, the running statistics must still be of the input's dtype."""
    with pytest.raises(TypeError, match=f"^BatchNorm1d: expected .*{np.dtype(dtype).name}"):
        BatchNorm1d(C, affine=affine).forward(np.ones((3, C), dtype))


def test_defaults_are_torchs() -> None:
    ours, theirs = BatchNorm1d(C), torch.nn.BatchNorm1d(C, dtype=torch.float64)
    for name in ("num_features", "eps", "momentum"):
        assert getattr(ours, name) == getattr(theirs, name), name
    for name, array in theirs.state_dict().items():
        mine = ours.state_dict()[name]
        assert mine.dtype == array.numpy().dtype, name
        assert np.array_equal(mine, array.numpy()), name
    assert list(ours.params) == [name for name, _ in theirs.named_parameters()]


@pytest.mark.parametrize(("kind", "places"), [(BatchNorm2d, (2, 3)), (BatchNorm3d, (2, 1, 3))])
def test_images_and_volumes_are_normalized_as_their_places_in_a_row(kind: Any, places: tuple[int, ...]) -> None:
    rng = np.random.default_rng(4)
    X, dY = rng.normal(size=(2, 3, C, *places))
    rows = BatchNorm1d(C), kind(C)
    flat, spread = (
        by_refnet(layer, X.reshape(shape), dY.reshape(shape))
        for layer, shape in zip(rows, ((3, C, math.prod(places)), X.shape), strict=True)
    )
    for name, array in flat.items():
        np.testing.assert_allclose(spread[name].reshape(array.shape), array, rtol=1e-12, atol=1e-12)
    for name, buffer in rows[0].buffers.items():
        np.testing.assert_allclose(rows[1].buffers[name], buffer, rtol=1e-14)


@pytest.mark.parametrize(
    ("kind", "shape", "message"),
    [
        (BatchNorm2d, (3, C), r"BatchNorm2d: expected input of shape \(N, 4, H, W\), num_features = 4, got \(3, 4\)"),
        (BatchNorm2d, (3, 5, 2, 2), r"BatchNorm2d: expected input of shape .* got \(3, 5, 2, 2\)"),
        (BatchNorm3d, (3, C, 2, 2), r"BatchNorm3d: expected input of shape \(N, 4, D, H, W\), .* got \(3, 4, 2, 2\)"),
        (BatchNorm3d, (1, C, 1, 1, 1), r"BatchNorm3d: expected more than 1 sample .* \(1, 4, 1, 1, 1\)"),
    ],
)
def test_images_and_volumes_that_torch_refuses(kind: Any, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises((ValueError, RuntimeError)):
        getattr(torch.nn, kind.__name__)(C)(torch.zeros(shape))
    with pytest.raises(ValueError, match=f"^{message}"):
        kind(C).forward(np.zeros(shape))


def test_an_average_of_many_runs_counts_for_each() -> None:
    """Counters of their own, one for each run: run r ends as it does alone."""
    rng = np.random.default_rng(5)
    X = rng.normal(size=(3, 6, C))
    alone = [BatchNorm1d(C, momentum=None) for _ in X]
    for r, layer in enumerate(alone):
        layer.buffers["num_batches_tracked"][...] = 2 * r
        layer.buffers["running_mean"][...] = rng.normal(size=C)
    both = BatchNorm1d(C, momentum=None)
    state = [layer.state_dict() for layer in alone]
    both.bind({name: Runs(np.stack([own[name] for own in state])) for name in both.state_dict()})
    Y = both(Runs(X))
    for r, layer in enumerate(alone):
        np.testing.assert_array_equal(Y.a[r], layer(X[r]))
        for name, buffer in layer.buffers.items():
            np.testing.assert_array_equal(both.buffers[name].a[r], buffer)
