"""The worksheet: numbers by seed, every figure asked for, and a key that is the truth."""

import re
from fractions import Fraction

import numpy as np
import pytest

from parity.example.hand_computation import CONSTANTS, FIGURES
from parity.example.perceptron import CORRECT, WEIGHTS, Example
from parity.example.teacher_sheet import PLACES, asked, build, key, numbers
from parity.records.record import UsageError

SEEDS = range(0, 60, 7)


def test_a_seed_gives_the_same_numbers_and_another_seed_others():
    assert numbers(3) == numbers(3)
    assert len({tuple(numbers(seed).values()) for seed in range(100)}) == 100


@pytest.mark.parametrize("seed", SEEDS)
def test_the_numbers_are_easy_to_write(seed):
    given = numbers(seed)
    assert given.keys() == CONSTANTS.keys()
    assert all(0 < number < 1 for name, number in given.items() if name != "eta")
    assert all((100 * number).denominator == 1 for number in given.values())
    # The optimizer's rate is a float: it has to be the number on the sheet.
    assert Fraction(float(given["eta"])) == given["eta"]
    assert sorted(float(given[t]) for t in ("t1", "t2")) == [0.01, 0.99]


@pytest.mark.parametrize("seed", SEEDS)
def test_the_key_is_the_truth_rounded(seed):
    ball = pytest.importorskip("parity.truth.ball", exc_type=ImportError)
    from parity.truth import tape

    given = numbers(seed)
    params = {name: np.empty(shape, object) for name, shape in (("0.weight", (2, 2)), ("2.weight", (2, 2)))}
    params = {
        "0.weight": params["0.weight"],
        "0.bias": np.array([given["b1"]] * 2, object),
        "2.weight": params["2.weight"],
        "2.bias": np.array([given["b2"]] * 2, object),
    }
    for name, (tensor, index) in WEIGHTS.items():
        params[tensor][index] = given[name]
    input, target = (np.array([given[f"{what}{k}"] for k in (1, 2)], object) for what in "it")
    with ball.precision(256), tape.untaped():
        example = Example(CORRECT, ball.lift, params, input, target, given["eta"])
        rounds = [{name: ball.values(t) for name, t in example.round().items()} for _ in range(2)]
        for name, text in key(given).items():
            figure = FIGURES[name]
            truth = rounds[figure.updates][figure.tensor][figure.index]
            off = abs(truth - ball.ball(Fraction(text)))
            assert off < ball.ball(Fraction(1, 2 * 10**PLACES)), name


def test_the_sheet_asks_for_every_figure_and_the_key_answers():
    page = build(5)
    assert page.count("<i></i>") == len(asked()) == sum(figure.updates < 2 for figure in FIGURES.values())
    for text in key(numbers(5)).values():
        assert f"<td>{text}</td>" in page
    assert "script" not in re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
    assert "break-before: page" in page


def test_the_article_in_the_sheets_lines_gives_the_certified_figures(kept):
    found = key(CONSTANTS)
    for name, text in found.items():
        figure = FIGURES[name]
        truth = kept.tensor(figure.tensor, figure.updates)[figure.index]
        exact = Fraction(float(truth.hi)) + Fraction(float(truth.lo))
        assert abs(Fraction(text) - exact) <= Fraction(1, 2 * 10**PLACES)


def test_a_seed_that_is_none():
    with pytest.raises(UsageError, match="--worksheet"):
        numbers(2**64)
