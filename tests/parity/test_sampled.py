"""Of large results some elements are certified, drawn from a seed, and every report says so."""

import hashlib
import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

pytest.importorskip("flint")

import parity
from parity.records.record import UsageError
from parity.truth import plan, waiting
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


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_check_by_name_on_a_sample(dtype):
    torch = pytest.importorskip("torch")
    draws = torch.Generator().manual_seed(0)
    x, w = (torch.randn(shape, generator=draws, dtype=getattr(torch, dtype)) for shape in ((40, 30), (30,)))
    right = torch.nn.functional.layer_norm
    report = parity.check(right, "layer_norm", x, normalized_shape=[30], weight=w, sample=50, seed=4)
    assert report.ok, report
    assert report["output"].coverage == "50 of 1,200 elements, seed 4"
    assert report["grad.weight"].coverage == ""
    assert ("certified in ball arithmetic" in report.notes) == (dtype == "float64")

    def wrong(x, normalized_shape, weight):
        return right(x, normalized_shape, weight, eps=1e-3)

    failing = parity.check(wrong, "layer_norm", x, normalized_shape=[30], weight=w, sample=50)
    assert failing["output"].verdict == "FAIL"
    assert failing["output"].coverage == "50 of 1,200 elements, seed 0"


def test_check_against_an_expression_on_a_sample():
    torch = pytest.importorskip("torch")
    x, w = (torch.randn(shape, dtype=torch.float64) for shape in ((40, 30), (30, 20)))
    report = parity.check(lambda x, w: (x @ w).tanh(), product, x, w, sample=50)
    assert report.ok, report
    assert [v.coverage for v in report.verdicts] == [f"50 of {n} elements, seed 0" for n in ("800", "1,200", "600")]


def test_a_trusted_reference_certifies_nothing():
    with pytest.raises(UsageError, match=r"expected sample to be none beside parity\.trusted, got 10"):
        parity.check(np.tanh, parity.trusted(np.tanh), np.ones(20), sample=10)


# ---- how far long work is


def test_long_work_says_how_far_it_is(monkeypatch, capsys):
    monkeypatch.setattr(waiting, "SOON", 0.01)
    monkeypatch.setattr(waiting, "EVERY", 0.01)
    with waiting.told("counting"):
        waiting.expect(8)
        waiting.step(2)
        time.sleep(0.2)
    said = capsys.readouterr().err
    assert "parity: counting, 25% after 0 s" in said


def test_short_work_says_nothing(capsys):
    parity.enclose(product, np.ones((3, 3)), np.ones((3, 3)), grad_output=np.ones((3, 3)))
    assert capsys.readouterr().err == ""


INTERRUPTED = """
import numpy as np, parity
from parity.truth import waiting
waiting.SOON = 0.5
x = np.random.default_rng(0).standard_normal((2000, 2000))
parity.enclose(lambda x: np.tanh(x) @ x, x, grad_output=x, sample=2000 * 2000 - 1)
"""


def test_an_interrupt_ends_long_work():
    """The whole would take many minutes."""
    program = subprocess.Popen([sys.executable, "-c", INTERRUPTED], stderr=subprocess.PIPE, text=True)
    assert "parity: enclosing an expression in balls" in program.stderr.readline()
    program.send_signal(signal.SIGINT)
    assert "KeyboardInterrupt" in program.communicate(timeout=60)[1]
    assert program.returncode != 0


def test_no_call_into_arb_is_long(monkeypatch):
    """Python sees an interrupt between two calls: none has more than some elements or products of numbers."""
    from parity.truth import tensor_balls
    from parity.truth.deferred import Deferred, elements

    sizes = []
    monkeypatch.setattr(plan, "BLOCK", 100)
    with precision(128):
        x = Deferred.lift(np.ones((30, 40)))
        y = x._like(plan.Elementwise(lambda balls: sizes.append(balls.size) or np.exp(balls), [x.plan]))
        elements([(y, None)])
        assert sum(sizes) == 1200
        assert max(sizes) <= 100
    pieces = []
    whole = tensor_balls.arb_mat
    monkeypatch.setattr(tensor_balls, "arb_mat", lambda m, k, e: pieces.append((m, k)) or whole(m, k, e))
    monkeypatch.setattr(tensor_balls, "LARGEST_PRODUCT", 1000)
    for bits, rows in ((256, 10), (2560, 1)):
        pieces.clear()
        with precision(bits):
            a = tensor_balls.lifted(np.ones((20, 10)))
            tensor_balls.product_of_matrices(a, tensor_balls.lifted(np.ones((10, 10))))
        assert pieces[1:] == [(rows, 10)] * (20 // rows)
