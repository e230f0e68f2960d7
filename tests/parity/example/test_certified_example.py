"""What is kept: true to independent computations, and refused when it is touched."""

import json
import shutil
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest

from parity.example import certified_example as certified
from parity.example.certified_example import FILE, POSITIONS, SERIES
from parity.example.digits import exact
from parity.example.hand_computation import FIGURES
from parity.example.perceptron import BUG, CORRECT, RECIPES, UPDATES
from parity.example.published import PUBLISHED
from parity.records.record import UsageError
from parity.vectors import store

# Figures of the worked example's fact sheet, "what is true", computed independently in 300-bit ball arithmetic.
BEFORE = {
    "E": "0.2983711087600026886",
    "out_h2": "0.5968843782597670562",
    "out_o1": "0.7513650695523157080",
    "out_o2": "0.7729284653214625885",
    "E_o1": "0.2748110831761549536",
    "E_o2": "0.0235600255838477350",
}
ERRORS = {
    "simultaneous/frozen": {
        1: "0.2910277736935993509",
        9_999: "3.5108548122512804e-5",
        10_000: "3.5101877829788459e-5",
    },
    "sequential/frozen": {1: "0.2910279239054418701", 10_000: "3.5084786296313534e-5"},
    "simultaneous/unit": {1: "0.2804714467914301580", 10_000: "2.4475622359322854e-6"},
    "sequential/unit": {1: "0.2804840766059972741", 10_000: "2.4373324124652180e-6"},
    "simultaneous/layer": {1: "0.2857508866992964974", 10_000: "4.3553210661638079e-6"},
    "sequential/layer": {1: "0.2857744700694021862", 10_000: "4.3673105826162158e-6"},
}
OUTPUTS = {
    CORRECT: ("0.0159136204435506266", "0.9840642735146237569"),
    BUG: ("0.0159121963260344542", "0.9840657344856290961"),
}
# The sheet's w2 is cut after its 16th decimal (the next ones are 53), the others are rounded.
WEIGHTS_AFTER_1 = {
    "w1": "0.1497807161327628",
    "w2": "0.1995614322655257",
    "w3": "0.2497511436323696",
    "w4": "0.2995022872647391",
    "w5": "0.3589164797178846",
    "w6": "0.4086661860762334",
    "w7": "0.5113012702387375",
    "w8": "0.5613701211079891",
}


def is_rounded(truth, text):
    """Whether the text is the certified number, rounded to as many digits as it has."""
    mantissa, _, exponent = text.partition("e")
    unit = Fraction(10) ** (int(exponent or 0) - len(mantissa.partition(".")[2]))
    return abs(exact(truth) - Fraction(text)) <= unit / 2


@pytest.mark.parametrize("key", BEFORE)
def test_before_training(kept, key):
    assert all(is_rounded(kept.figure(key, recipe), BEFORE[key]) for recipe in RECIPES)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda r: r.key)
def test_errors_of_all_recipes(kept, recipe):
    for updates, text in ERRORS[recipe.key].items():
        assert is_rounded(kept.tensor("E", updates, recipe), text)


@pytest.mark.parametrize("recipe", OUTPUTS, ids=lambda r: r.key)
def test_outputs_after_training(kept, recipe):
    outputs = kept.tensor("out_o", UPDATES, recipe)
    assert all(is_rounded(outputs[k], text) for k, text in enumerate(OUTPUTS[recipe]))


def test_weights_after_one_update(kept):
    assert all(is_rounded(kept.figure(f"{w}@1"), text) for w, text in WEIGHTS_AFTER_1.items())


def test_is_rounded_can_fail(kept):
    assert not is_rounded(kept.figure("E"), "0.2983711087600026887")
    assert not is_rounded(kept.figure("E@10000"), "3.5101877829788458e-5")


def test_every_update_is_kept_in_two_parts(kept):
    for name, tail in (("E", ()), ("out_o", (2,))):
        truth = kept.truth(f"series.{name}")
        assert truth.shape == (6, UPDATES + 1, *tail)
        # hi is the nearest binary64, so lo is at most half a unit of it; and the rest is not lost.
        assert (abs(truth.lo) <= np.spacing(truth.hi) / 2).all()
        assert (truth.lo != 0).mean() > 0.99
    assert (np.diff(kept.truth("series.E").hi, axis=1) < 0).all()


def test_positions():
    assert list(POSITIONS[:59]) == list(range(59))
    assert POSITIONS[-2:] == (UPDATES - 1, UPDATES)
    assert all(1 <= b - a <= max(1, a // 29) for a, b in pairwise(POSITIONS))


def test_steps_and_series_are_of_the_same_rounds(kept):
    """The kept outputs' own errors add up to the kept E, at every position, to the digits that are left of both."""
    for r in range(len(RECIPES)):
        E_o, E = kept.truth("steps.E_o")[r], kept.truth("series.E")[r, list(POSITIONS)]
        for p in range(len(POSITIONS)):
            parts = [exact(E_o[p, k]) for k in range(2)]
            assert abs(sum(parts) - exact(E[p])) <= 2 * sum(parts) / 2**106


def test_found_is_what_a_search_through_the_series_finds(kept):
    for published in PUBLISHED:
        figure = FIGURES[published.key]
        if figure.tensor not in SERIES:
            continue
        series = kept.truth(f"series.{figure.tensor}")
        at = (slice(None), slice(None), *figure.index)
        near = np.argwhere(abs(series.hi[at] - float(published.value)) <= float(published.unit))
        yielding = {
            (RECIPES[r], int(k))
            for r, k in near
            if abs(exact(series[(r, k, *figure.index)]) - published.value) <= published.unit / 2
        }
        assert yielding == {(s.recipe, k) for s in kept.found(published) for k in range(s.first, s.last + 1)}
        assert yielding


@pytest.fixture
def copied(tmp_path):
    for name in (store.MANIFEST, f"{FILE}.safetensors"):
        shutil.copy(store.FOLDER / name, tmp_path)
    return tmp_path


def test_an_edited_file_is_refused(copied):
    assert certified.load(copied).figure("E").hi == certified.load().figure("E").hi
    path = copied / f"{FILE}.safetensors"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    certified.load.cache_clear()
    with pytest.raises(UsageError, match=r"example\.safetensors: expected SHA-256 .* edited"):
        certified.load(copied)


def test_a_truncated_file_is_refused(copied):
    path = copied / f"{FILE}.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UsageError, match="truncated"):
        certified.load(copied)


def test_another_version_is_refused(copied):
    path = copied / store.MANIFEST
    path.write_text(json.dumps({**json.loads(path.read_text()), "version": 0}))
    with pytest.raises(UsageError, match="expected version"):
        certified.load(copied)


def test_another_example_is_refused(copied):
    arrays, metadata = store.read(FILE, copied)
    store.write(FILE, {**arrays, "position": arrays["position"] + 1}, metadata, copied)
    with pytest.raises(UsageError, match="expected the certified example of this version"):
        certified.load(copied)


def test_constants_are_rational(kept):
    assert exact(kept.figure("i1")) != Fraction(0.05)
    assert abs(exact(kept.figure("i1")) - Fraction(1, 20)) < Fraction(1, 20) / 2**106
    assert exact(kept.figure("eta")) == Fraction(1, 2)
