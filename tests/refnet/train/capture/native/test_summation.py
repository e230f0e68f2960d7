"""The order in which tiny matrix products are added up is found out, and no other passes."""

from itertools import combinations, product

import numpy as np
import pytest

from refnet.train.capture.native import lowering, summation
from refnet.train.capture.native.summation import ORDERS, order_of_products

pytest.importorskip("llvmlite")

DTYPES = ["float32", "float64"]
TINY = [shape for shape in product(range(1, 9), repeat=3) if np.prod(shape) <= lowering.TINY_PRODUCT]


def operands(m, k, n, dtype, seed):
    draws = np.random.default_rng(seed)
    A, B = (draws.standard_normal((500, *shape)).astype(dtype) for shape in ((m, k), (k, n)))
    A[draws.random(A.shape) < 0.1] *= 0
    info = np.finfo(dtype)
    for X in (A, B):  # (some underflow)
        X[:100] *= 2.0 ** ((info.minexp - info.nmant) // 2)
    A[-1], B[-1] = -0.0, 1
    return A, B


def of_packed(m, k, n, dtype, **options):
    size = np.dtype(dtype).itemsize
    return order_of_products((m, k, n), (k * size, size), (n * size, size), dtype, **options)


@pytest.fixture
def library(monkeypatch):
    """`library(matmul)`: as if NumPy's library multiplied like that."""

    def multiply(matmul):
        monkeypatch.setattr(np, "matmul", matmul)
        order_of_products.cache_clear()

    yield multiply
    order_of_products.cache_clear()


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_found_is_what_the_library_does(dtype):
    """On other numbers than those of the experiment. What the library does is its own affair: it may be none of them.

    (No order at all would be found if the experiment itself were wrong; the next test would see that.)
    """
    for shape in TINY:
        if (how := of_packed(*shape, dtype, fused=True)) is not None:
            A, B = operands(*shape, dtype, seed=5)
            with np.errstate(all="ignore"):  # the library's padding may raise a flag
                expected = np.matmul(A, B)
            assert summation._summed(how, A, B).tobytes() == expected.tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
def test_each_order_is_told_from_the_others(dtype, library):
    for how in ORDERS:
        library(lambda A, B, how=how: summation._summed(how, A, B))
        assert of_packed(2, 3, 2, dtype, fused=True) == how
        # Of a single term the rounding alone is to be told: by the sign of a product that underflows.
        assert of_packed(70, 1, 80, dtype, fused=True).fused == (how.fused and not how.zero_last)


def test_another_order_is_none(library):
    def by_halves(A, B):
        terms = A[..., :, :, None] * B[..., None, :, :]
        return (terms[..., 0, :] + terms[..., 1, :]) + (terms[..., 2, :] + terms[..., 3, :])

    library(by_halves)
    assert of_packed(2, 4, 2, "float64", fused=True) is None


def test_a_sum_that_does_not_begin_with_zero_is_none(library):
    """It shows only in the sign of a zero."""
    library(lambda A, B: A * B)
    assert of_packed(2, 1, 2, "float64", fused=True) is None


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_orders_differ(dtype):
    A, B = operands(2, 3, 2, dtype, seed=6)
    results = [summation._summed(how, A, B).tobytes() for how in ORDERS]
    assert all(one != other for one, other in combinations(results, 2))


def test_without_the_instruction_nothing_is_fused():
    for shape in TINY:
        how = of_packed(*shape, "float64", fused=False)
        assert how is None or not how.fused


def written_out(A, B):
    lowered = lowering.Lowering()
    lowered.matmul(A, B, A @ B)
    return all(isinstance(call.loop.function, str) for call in lowered.done().calls)


@pytest.mark.parametrize("how", [*ORDERS, None])
def test_stacks_of_tiny_products_and_outer_products_are_written_out_if_the_order_is_known(how, monkeypatch):
    monkeypatch.setattr(lowering, "order_of_products", lambda *_, **__: how)
    A, B = np.ones((6, 4, 2)), np.ones((6, 2, 2))
    assert written_out(A, B) == (how is not None)
    assert not written_out(np.ones((6, 8, 4)), np.ones((6, 4, 8)))
    assert not written_out(A[0], B[0])
    assert written_out(np.ones((64, 1)), np.ones((1, 64))) == (how is not None)
    assert not written_out(np.ones((63, 1)), np.ones((1, 65)))
    assert not written_out(np.ones((64, 2)), np.ones((2, 64)))
