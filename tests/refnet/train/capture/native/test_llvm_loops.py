"""The order in which small matrix products are added up is found out, and no other passes."""

from itertools import combinations, product

import numpy as np
import pytest

from refnet.train.capture.native import llvm_loops
from refnet.train.capture.native import machine as native

WAYS = llvm_loops.WAYS
DTYPES = ["float32", "float64"]


def operands(m, k, n, dtype, seed):
    draws = np.random.default_rng(seed)
    A, B = (draws.standard_normal((500, *shape)).astype(dtype) for shape in ((m, k), (k, n)))
    A[draws.random(A.shape) < 0.1] *= 0
    A[-1], B[-1] = -0.0, 1
    return A, B


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 2, 2), (2, 1, 3), (3, 4, 5), (32, 4, 8), (8, 32, 4), (1, 16, 7)], ids=str)
def test_what_is_found_is_what_the_library_does(shape, dtype):
    m, k, n = shape
    size = np.dtype(dtype).itemsize
    how = llvm_loops.summation(shape, (k * size, size), (n * size, size), dtype, fused=True)
    A, B = operands(*shape, dtype, seed=5)
    if how is not None:
        assert llvm_loops._summed(how, A, B).tobytes() == np.matmul(A, B).tobytes()
    elif min(m, n) > 1:
        # Products of matrices, and not of a vector, have an order that is known.
        pytest.fail(f"no order found for {shape}")


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_way_but_one_is_refused(dtype, monkeypatch):
    """As if the library added up in each way in turn."""
    for how in WAYS:
        monkeypatch.setattr(np, "matmul", lambda A, B, how=how: llvm_loops._summed(how, A, B))
        llvm_loops.summation.cache_clear()
        size = np.dtype(dtype).itemsize
        found = llvm_loops.summation((2, 3, 2), (3 * size, size), (2 * size, size), dtype, fused=True)
        assert found == how
    monkeypatch.undo()
    llvm_loops.summation.cache_clear()


def test_another_order_is_none(monkeypatch):
    monkeypatch.setattr(np, "matmul", lambda A, B: (A[..., None] * B[:, None]).sum(axis=-2)[..., ::-1])
    llvm_loops.summation.cache_clear()
    assert llvm_loops.summation((2, 9, 2), (72, 8), (16, 8), "float64", fused=True) is None
    monkeypatch.undo()
    llvm_loops.summation.cache_clear()


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_ways_differ(dtype):
    A, B = operands(2, 3, 2, dtype, seed=6)
    results = [llvm_loops._summed(how, A, B).tobytes() for how in WAYS]
    assert all(one != other for one, other in combinations(results, 2))


def test_without_the_instruction_nothing_is_fused():
    for shape in product((1, 2, 3), (1, 2, 3), (1, 2, 3)):
        _, k, n = shape
        how = llvm_loops.summation(shape, (8 * k, 8), (8 * n, 8), "float64", fused=False)
        assert how is None or not how.fused


def test_formulas_are_of_operands_of_one_kind():
    f8, f4, i8, b1 = (np.dtype(name) for name in ("f8", "f4", "i8", "b1"))
    assert llvm_loops.formula(np.add, [f8, f8], f8)
    assert llvm_loops.formula(np.equal, [i8, i8], b1)
    assert llvm_loops.formula(np.logical_and, [b1, b1], b1)
    for ufunc, args, out in (
        (np.add, [f8, f4], f8),
        (np.add, [i8, i8], i8),
        (np.add, [f8, f8], f4),
        (np.exp, [f8], f8),
        (np.logical_and, [f8, f8], b1),
        (np.add, [f8.newbyteorder(), f8.newbyteorder()], f8.newbyteorder()),
    ):
        assert llvm_loops.formula(ufunc, args, out) is None


def test_small_products_are_written_out():
    pytest.importorskip("llvmlite")
    writer = native._Writer(0)
    A, B = np.zeros((32, 4)), np.zeros((4, 8))
    writer.matmul(A, B, A @ B)
    lines = writer.done().lines
    assert lines
    assert all(line.startswith("call void @nest") for line in lines)
