"""Stacked products: the same numbers, and the library's threads as they were."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from parity.budget import stacked_products


def test_a_stack_is_the_product_of_each() -> None:
    draws = np.random.default_rng(0)
    a, b = draws.standard_normal((3, 4, 5)), draws.standard_normal((3, 5, 2))
    found = stacked_products.matmul(a, b)
    assert np.allclose(found, np.einsum("kij,kjl->kil", a, b), rtol=1e-14, atol=0)
    assert stacked_products.matmul(a[0], b[0]).shape == (4, 2)


def _fail_in_one_thread(get: Callable[[], int]) -> None:
    with stacked_products.one_thread():
        raise ZeroDivisionError if get() == 1 else AssertionError


def test_threads_are_put_back_even_after_an_error() -> None:
    threads = stacked_products._threads()
    if threads is None:
        pytest.skip("NumPy comes without an OpenBLAS of its own here")
    get, put = threads
    before = get()
    try:
        put(2)
        # A library may be built for one thread alone.
        now = get()
        with pytest.raises(ZeroDivisionError):
            _fail_in_one_thread(get)
        assert get() == now
    finally:
        put(before)
