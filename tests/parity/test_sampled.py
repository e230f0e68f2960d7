"""Of large results some elements are certified, drawn from a seed, and every report says so."""

import hashlib
import json

import numpy as np
import pytest

pytest.importorskip("flint")

import parity
from parity.records.record import UsageError
from parity.truth import plan
from parity.truth.ball import precision
from parity.truth.value import Sample

COVERAGE = "40 of 600 elements, seed 3"


def product(x, w):
    return np.tanh(x @ w)


@pytest.fixture(scope="module")
def arrays():
    draws = np.random.default_rng(0)
    return tuple(draws.standard_normal(shape) for shape in ((30, 25), (25, 20), (30, 20)))


def by_hand(x, w, g):
    y = np.tanh(x @ w)
    z = g * (1 - y * y)
    return y, [z @ w.T, x.T @ z]


def test_sampled_elements_are_those_of_the_whole(arrays):
    x, w, g = arrays
    whole = parity.enclose(product, x, w, grad_output=g)
    some = parity.enclose(product, x, w, grad_output=g, sample=40, seed=3)
    for name, e in some.enclosures().items():
        full = whole.enclosures()[name]
        assert e.truth.shape == (40,)
        assert e.sample.shape == full.truth.shape
        for kept in ("hi", "lo"):
            assert np.array_equal(getattr(e.truth, kept), e.sample.of(getattr(full.truth, kept)))
        assert np.array_equal(e.bound, e.sample.of(full.bound))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_verdict_on_a_sample_says_so_everywhere(arrays, dtype):
    x, w, g = (a.astype(dtype) for a in arrays)
    y, gradients = by_hand(x, w, g)
    report = parity.enclose(product, x, w, grad_output=g, sample=40, seed=3).check(y, gradients)
    assert report.ok, report
    assert report["value"].verdict == "rounding"
    assert report["value"].coverage == COVERAGE
    assert f"rounding, {COVERAGE}" in str(report)
    assert f"rounding, {COVERAGE}" in report._repr_html_()
    assert "of sampled elements" in report.conclusion
    assert json.loads(report.to_json())["tensors"][0]["coverage"] == COVERAGE
    pytest.importorskip("pandas")
    assert report.to_dataframe()["coverage"]["value"] == COVERAGE


def test_a_mistake_in_a_sampled_element_is_found_where_it_is(arrays):
    x, w, g = arrays
    y, gradients = by_hand(x, w, g)
    e = parity.enclose(product, x, w, grad_output=g, sample=40, seed=3)
    sample = e.enclosures()["value"].sample
    row, column = sample.index(17)
    y[row, column] += 1e-9
    report = e.check(y, gradients)
    assert not report.ok
    assert report["value"].where == (row, column)
    assert f"1 of 40 elements outside their budget, first [{row}, {column}]" in report["value"].reason
    untouched = np.setdiff1d(np.arange(y.size), sample.places)[0]
    y[row, column] -= 1e-9
    y.reshape(-1)[untouched] += 1
    assert e.check(y, gradients)["value"].coverage == COVERAGE
    assert e.check(y[1:], gradients)["value"].reason == "expected shape (30, 20), got (29, 20)"


def test_a_sample_that_is_not_smaller_is_the_whole(arrays):
    x, w, g = arrays
    for count in (None, 600, 10_000):
        report = parity.enclose(product, x, w, grad_output=g, sample=count).check(by_hand(x, w, g)[0])
        assert report["value"].coverage == ""
        assert "sampled" not in str(report)


def test_the_draw_is_the_same_everywhere():
    sample = Sample.drawn((100, 10), 5, 7, "value")
    # Words of SHAKE-256 over "7:value:1000", eight bytes each, modulo 1000.
    words = hashlib.shake_256(b"7:value:1000").digest(80)
    numbers = [int.from_bytes(words[k : k + 8], "little") % 1000 for k in range(0, 80, 8)]
    assert sample.places.tolist() == sorted(list(dict.fromkeys(numbers))[:5])
    assert not np.array_equal(Sample.drawn((100, 10), 5, 8, "value").places, sample.places)
    many = Sample.drawn((10, 10), 97, 0, "x").places
    assert len(np.unique(many)) == 97


def test_of_a_product_no_more_is_computed_than_the_sample_needs(arrays, monkeypatch):
    """One element needs a row and a column: no whole product is made."""
    x, w, g = arrays
    shapes = []
    whole = plan.product_of_matrices
    monkeypatch.setattr(plan, "product_of_matrices", lambda a, b: shapes.append((a.shape, b.shape)) or whole(a, b))
    parity.enclose(lambda x, w: x @ w, x, w, grad_output=g, sample=1)
    assert all(rows == 1 and columns == 1 for (rows, _), (_, columns) in shapes)


def test_what_only_a_sample_needs_is_all_that_is_computed():
    """Of an elementwise operation the sampled elements; of a softmax their rows."""
    from parity.truth.deferred import Deferred, elements
    from refnet.arithmetic import special

    made = []

    def counted(x):
        made.append(x.size)
        return np.exp(x)

    with precision(128):
        x = Deferred.lift(np.linspace(0, 1, 60).reshape(6, 10))
        y = x._like(plan.Elementwise(counted, [x.plan]))
        elements([(y, np.array([3, 7, 59]))])
        assert made == [3]
        z = y / np.sum(y, axis=-1, keepdims=True) - special.shift(y, -1)
        elements([(z, np.array([3, 7, 59]))])
        assert made == [3, 20]


@pytest.mark.parametrize("count", [0, -1, 2.5, True])
def test_a_sample_is_a_number_of_elements(arrays, count):
    with pytest.raises(UsageError, match="expected sample to be a number of elements, 1 or more, got"):
        parity.enclose(product, *arrays[:2], sample=count)
