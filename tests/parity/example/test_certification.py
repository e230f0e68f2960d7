"""The kept file against the computation, over its first updates; `check` does it over all of them."""

from fractions import Fraction

import numpy as np
import pytest

from parity.example import certification
from parity.example.certified_example import DTYPES, FILE, POSITIONS
from parity.example.perceptron import RECIPES, UPDATES
from parity.example.published import Published
from parity.records.record import Undecided
from parity.truth import ball
from parity.truth.certify import Disagreement
from parity.vectors import store
from refnet import nn

SHORT = 200


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda r: r.key)
def test_the_first_updates_of_the_kept_file(recipe):
    kept, _ = store.read(FILE)
    r = RECIPES.index(recipe)
    found = certification.trajectory(recipe, SHORT)
    assert {name for name in found if not name.startswith("found.")} == {
        n for n in kept if n.startswith(("series.", "steps."))
    }
    for name, array in found.items():
        if name.startswith("found."):
            inside = [
                [first, min(last, SHORT)] for row, first, last in kept[name].tolist() if row == r and first <= SHORT
            ]
            assert array.tolist() == inside, name
        else:
            assert certification.same(array, kept[name][r, : len(array)]), name


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("recipe", RECIPES[::5], ids=lambda r: r.key)
def test_the_first_bounds_of_the_kept_file(recipe, dtype):
    kept, _ = store.read(FILE)
    found = certification.bounds(recipe, dtype, 70)
    r, spent = RECIPES.index(recipe), found.pop(f"spent.{dtype}")
    assert spent == kept[f"spent.{dtype}"][r] or (spent > UPDATES and kept[f"spent.{dtype}"][r] > 70)
    for name, array in found.items():
        assert certification.same(array, kept[name][r, : len(array)]), name


def test_bounds_are_infinite_once_spent(kept):
    for dtype in DTYPES:
        for recipe in RECIPES:
            spent = np.array([n >= kept.spent(recipe, dtype) for n in POSITIONS])
            np.testing.assert_array_equal(np.isinf(kept.bound(recipe, dtype, "E")), spent)
    assert all(kept.spent(recipe, "float64") > UPDATES for recipe in RECIPES)
    assert all(kept.spent(recipe, "float32") < UPDATES for recipe in RECIPES)


def test_the_moved_weights_of_the_kept_file():
    kept, _ = store.read(FILE)
    assert all(certification.same(array, kept[name]) for name, array in certification.moved().items())


def test_check_names_what_differs(monkeypatch):
    kept, _ = store.read(FILE)
    monkeypatch.setattr(certification, "compute", lambda jobs, done: dict(kept))
    assert certification.check() == []
    one_bit = kept["series.E.lo"].copy()
    one_bit.view(np.int64)[3, 5_000] ^= 1
    other = {**kept, "series.E.lo": one_bit, "more": np.zeros(1)}
    del other["position"]
    monkeypatch.setattr(certification, "compute", lambda jobs, done: other)
    assert certification.check() == ["more", "position", "series.E.lo"]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda r: r.key)
def test_the_tape_contradicts_a_wrong_derivative(monkeypatch, recipe):
    certification.vouch(recipe)
    backward = nn.Sigmoid.backward
    monkeypatch.setattr(nn.Sigmoid, "backward", lambda self, dY, saved: (backward(self, dY, saved)[0] * 1.0000001, {}))
    with pytest.raises(Disagreement, match="the tape has"):
        certification.vouch(recipe)


@pytest.mark.parametrize(
    ("value", "text", "expected"),
    [
        ("0.2910279239", "0.291027924", True),
        ("0.2910279245", "0.291027924", None),
        ("0.29102792449", "0.291027924", True),
        ("0.29102792451", "0.291027924", False),
        ("0.29102792349", "0.291027924", False),
        ("-0.0190491183", "-0.019049119", False),
        ("5", "0.291027924", False),
    ],
)
def test_yields(value, text, expected):
    published = Published("E", text, "article")
    with ball.precision(256):
        x = ball.ball(Fraction(value))
        if expected is None:
            with pytest.raises(Undecided, match="half-way"):
                certification.yields(x, published)
        else:
            assert certification.yields(x, published) is expected
