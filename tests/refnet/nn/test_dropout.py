"""Dropout against torch.nn.Dropout, whose mask is read off its output."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from refnet.generator import Generator, default_generator, manual_seed
from refnet.nn.dropout import Dropout

DTYPES = [np.float32, np.float64]


def by_torch(p: float, X: Any, dY: Any) -> tuple[Any, Any, Any]:
    """Output, gradient and mask of torch; X has no zeros."""
    torch.manual_seed(0)
    input = torch.tensor(np.ascontiguousarray(X), requires_grad=True)
    output = torch.nn.Dropout(p)(input)
    output.backward(torch.tensor(np.ascontiguousarray(dY)))
    Y = output.detach().numpy()
    return Y, input.grad.numpy(), Y != 0


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [0, 1, 3, 7])
@pytest.mark.parametrize("p", [0.0, 0.1, 0.3, 0.5, 0.75, 0.9])
def test_with_torchs_mask(p: float, n: int, dtype: Any) -> None:
    rng = np.random.default_rng(1)
    X, dY = rng.normal(size=(n, 5, 6)).astype(dtype), rng.normal(size=(n, 5, 6)).astype(dtype)
    Y, dX, mask = by_torch(p, X, dY)
    X.flags.writeable = dY.flags.writeable = mask.flags.writeable = False
    layer = Dropout(p)
    output, saved = layer.forward(X, mask)
    (grad_input, grad_mask), grads = layer.backward(dY, saved)
    assert grad_mask is None
    assert grads == layer.params == layer.buffers == {}
    # p itself may be rounded, by u p, before 1 - p is; then one or two more roundings, in each engine; none if 1 - p is
    # a power of two.
    u = 0.0 if p in (0.0, 0.5, 0.75) else np.finfo(dtype).eps / 2
    for mine, other in ((output, Y), (grad_input, dX)):
        assert mine.dtype == other.dtype
        assert mine.shape == other.shape
        assert (np.abs(mine - other) <= 2 * (p / (1 - p) + 3) * u * np.abs(other)).all()


def test_strided_reversed_and_broadcast_arrays() -> None:
    rng = np.random.default_rng(2)
    X, dY = rng.normal(size=(6, 14))[::-1, ::2].T, np.broadcast_to(rng.normal(size=(7, 1)), (7, 6))
    Y, dX, mask = by_torch(0.5, X, dY)
    layer = Dropout()
    output, saved = layer.forward(X, np.asfortranarray(mask))
    assert np.array_equal(output, Y)
    assert np.array_equal(layer.backward(dY, saved)[0][0], dX)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("given", [True, False])
def test_p_of_1_drops_everything(given: bool, dtype: Any) -> None:
    X = np.array([1, -2, np.inf, -np.inf, np.nan, 0], dtype)
    layer = Dropout(1.0)
    with np.errstate(invalid="ignore"):
        Y, saved = layer.forward(X, *([np.ones(6, np.bool_)] if given else []))
        grad_input, _ = layer.backward(X, saved)
    dX = grad_input[0] if given else grad_input
    theirs = torch.nn.functional.dropout(torch.from_numpy(X), 1.0)
    for array in (Y, dX):
        assert array.dtype == dtype
        np.testing.assert_array_equal(array, theirs.numpy())


def test_dropped_infinities_and_nans_are_nan() -> None:
    layer = Dropout()
    mask = np.array([False, True, False])
    with np.errstate(invalid="ignore"):
        Y, saved = layer.forward(np.array([np.inf, 3.0, np.nan]), mask)
        (dX, _), _ = layer.backward(np.array([np.nan, -0.25, np.inf]), saved)
    np.testing.assert_array_equal(Y, [np.nan, 6, np.nan])
    np.testing.assert_array_equal(dX, [np.nan, -0.5, np.nan])


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_evaluation_is_the_identity(p: float) -> None:
    layer = Dropout(p).eval()
    X, dY = np.random.default_rng(3).normal(size=(2, 4, 5))
    Y, saved = layer.forward(X)
    assert np.array_equal(Y, X)
    assert np.array_equal(layer.backward(dY, saved)[0], dY)
    Y, saved = layer.forward(X, np.zeros(X.shape, np.bool_))
    assert np.array_equal(Y, X)
    (dX, grad_mask), _ = layer.backward(dY, saved)
    assert np.array_equal(dX, dY)
    assert grad_mask is None


def test_evaluation_draws_nothing() -> None:
    generator = Generator(4)
    Dropout(0.5, generator=generator).eval().forward(np.ones((3, 4)))
    assert np.array_equal(generator.random_raw(4), Generator(4).random_raw(4))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("p", [0.0, 0.25, 0.9])
def test_drawn_masks(p: float, dtype: Any) -> None:
    rng = np.random.default_rng(5)
    X, dY = rng.uniform(1, 2, (100, 100)).astype(dtype), rng.uniform(1, 2, (100, 100)).astype(dtype)
    generator = Generator(5)
    layer = Dropout(p, generator=generator)
    output, saved = layer.forward(X)
    again, _ = layer.forward(X)
    kept = output != 0
    # torch's masks, of the first call and of the next.
    theirs = torch.Generator().manual_seed(5)
    for mask in (kept, again != 0):
        noise = torch.ones(100, 100) if p == 0 else torch.empty(100, 100).bernoulli_(1 - p, generator=theirs)
        assert np.array_equal(mask, noise.numpy() != 0)
    # Six standard deviations of a binomial count.
    assert abs(kept.sum() - 10_000 * (1 - p)) <= 6 * math.sqrt(10_000 * p * (1 - p))
    # Backward uses the mask of its own forward pass, not of the latest; and gives one gradient for one input.
    dX, _ = layer.backward(dY, saved)
    assert np.array_equal(dX, Dropout(p).forward(dY, kept)[0])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("p", [0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0])
def test_masks_and_the_state_after_them_are_torchs(p: float, dtype: Any) -> None:
    state = default_generator.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            manual_seed(2**32 + 9)
            torch.manual_seed(2**32 + 9)
            layer, theirs = Dropout(p), torch.nn.Dropout(p)
            # around the widths of vectors, and of a size that torch would share out between threads
            for size in (0, 1, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 40_000):
                X = np.ones((size, 1), dtype)
                kept = theirs(torch.from_numpy(X).requires_grad_()).detach().numpy() != 0
                np.testing.assert_array_equal(layer(X) != 0, kept)
                np.testing.assert_array_equal(default_generator.get_state(), torch.get_rng_state().numpy())
    finally:
        default_generator.set_state(state)


def test_without_a_generator_the_default_one_draws() -> None:
    state = default_generator.get_state()
    try:
        manual_seed(6)
        Y, _ = Dropout(0.5).forward(np.ones((4, 5)))
    finally:
        default_generator.set_state(state)
    assert np.array_equal(Y, Dropout(0.5, generator=Generator(6)).forward(np.ones((4, 5)))[0])
    assert 0 < (Y == 0).sum() < 20


@pytest.mark.parametrize("p", [-0.1, 1.1, math.nan, math.inf])
def test_refused_p(p: float) -> None:
    with pytest.raises(ValueError, match=f"^Dropout: expected 0 <= p <= 1, got {p}"):
        Dropout(p)


@pytest.mark.parametrize("training", [True, False])
def test_refused_inputs(training: bool) -> None:
    layer = Dropout().train(training)
    with pytest.raises(TypeError, match=r"^Dropout: expected input of dtype float32 or float64, got int64"):
        layer.forward(np.ones(3, np.int64))
    with pytest.raises(TypeError, match=r"^Dropout: expected mask of dtype bool, got float64"):
        layer.forward(np.ones(3), np.ones(3))
    with pytest.raises(ValueError, match=r"^Dropout: expected input and mask of one shape, got \(2, 3\) and \(3,\)"):
        layer.forward(np.ones((2, 3)), np.ones(3, np.bool_))


def test_refused_generator() -> None:
    with pytest.raises(TypeError, match="Generator"):
        Dropout(generator=np.random.default_rng(0))  # type: ignore[arg-type]
