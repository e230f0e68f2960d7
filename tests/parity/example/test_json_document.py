"""The layout of the JSON, and that its figures are exact and long enough."""

import json
import re
from fractions import Fraction

import numpy as np
import pytest

from parity.example.hand_computation import FIGURES
from parity.example.json_document import FORMAT, TOLD, document, dumps
from parity.example.perceptron import RECIPES, UPDATES
from parity.example.published import PUBLISHED

SECTIONS = ["forward", "output", "hidden", "update", "after"]
TOP = {"format", "dtype", "updates", "positions", "constants", "recipes", "sections", "figures", "published", "sources"}
TOP |= {"trajectories", "runs", "missing", "moved", "words"}
FIGURE = {"key", "section", "formula", "template", "operands", "tensor", "index", "updates", "certified", "engines"}
ANSWER = {"decimal", "hex", "shown", "verdict", "budget", "share"}
FINDING = {"key", "text", "source", "says", "true", "off", "by", "found", "misprints"}


@pytest.fixture(scope="module")
def json_(gathered):
    return json.loads(json.dumps(document(gathered), allow_nan=False))


def exact(number):
    return Fraction(float.fromhex(number["hi"])) + Fraction(float.fromhex(number["lo"]))


def significant(text):
    return len(re.sub(r"e.*|[-.]", "", text).lstrip("0")) or len(text.partition(".")[2])


def agrees(number):
    """Whether a decimal is the exact form beside it, rounded to 32 digits."""
    true, text = exact(number), number["decimal"]
    unit = abs(true) / 10**31
    return abs(Fraction(text) - true) <= unit / 2 and significant(text) >= 32


def test_top(json_):
    assert json_["format"] == FORMAT == "parity.example/2"
    assert set(json_) == TOP
    assert json_["updates"] == UPDATES
    assert json_["positions"] == list(TOLD)
    assert list(json_["sections"]) == SECTIONS
    assert [r["key"] for r in json_["recipes"]] == [r.key for r in RECIPES]
    assert json_["constants"]["i2"] == "0.1"
    assert json_["missing"] == {"torch": "torch is not installed"}


def test_figures(json_):
    assert [f["key"] for f in json_["figures"]] == list(FIGURES)
    for figure in json_["figures"]:
        assert figure.keys() == FIGURE
        assert agrees(figure["certified"]), figure["key"]
        assert list(figure["engines"]) == ["refnet"]
        answer = figure["engines"]["refnet"]
        assert answer.keys() == ANSWER
        assert significant(answer["decimal"]) >= 20
        number = Fraction(float.fromhex(answer["hex"]))
        assert abs(Fraction(answer["decimal"]) - number) <= number.__abs__() / 10**31
        assert abs(Fraction("".join(answer["shown"])) - number) <= abs(number) / 10**16
        assert abs(number - exact(figure["certified"])) <= Fraction(float.fromhex(answer["budget"]["hex"]))
        assert answer["verdict"] in ("exact", "rounding")


def test_a_figure_stands_in_the_trajectory(json_):
    trajectory = json_["trajectories"]["simultaneous/frozen"]
    for figure in json_["figures"]:
        if figure["tensor"] not in ("input", "target"):
            at = (json_["positions"].index(figure["updates"]), *figure["index"])
            for part in ("decimal", "hi", "lo"):
                assert np.array(trajectory[figure["tensor"]][part], dtype=object)[at] == figure["certified"][part]


def test_trajectories(json_, kept):
    assert json_["trajectories"].keys() == {r.key for r in RECIPES}
    for recipe in RECIPES:
        trajectory = json_["trajectories"][recipe.key]
        assert set(trajectory) == {"E", "out_o", *kept.steps}
        for name, parts in trajectory.items():
            hi = np.vectorize(float.fromhex)(np.array(parts["hi"], dtype=object))
            assert hi.shape[0] == len(TOLD)
            np.testing.assert_array_equal(hi[-1], kept.tensor(name, UPDATES, recipe).hi)
        sample = {part: trajectory["dE/d0.weight"][part][15][1][0] for part in ("decimal", "hi", "lo")}
        assert agrees(sample)


def test_published(json_):
    assert [(p["key"], p["text"], p["source"]) for p in json_["published"]] == [
        (p.key, p.text, p.source) for p in PUBLISHED
    ]
    for published in json_["published"]:
        assert published.keys() == FINDING
    (unsettled,) = (p for p in json_["published"] if p["says"] == "unsettled")
    assert unsettled["found"] == [{"recipe": "simultaneous/frozen", "first": 9_999, "last": 9_999}]
    assert unsettled["misprints"] == [{"text": "0.000035085", "recipe": "sequential/frozen"}]
    assert unsettled["off"].startswith("66.2")


def test_runs_and_rule_of_signs(json_):
    assert [(r["engine"], r["recipe"], r["judged_to"]) for r in json_["runs"]] == [
        ("refnet", "simultaneous/frozen", UPDATES),
        ("refnet", "sequential/frozen", UPDATES),
    ]
    assert all(t["verdict"] == "rounding" for r in json_["runs"] for t in r["tensors"].values())
    assert [m["weight"] for m in json_["moved"]] == [f"w{n}" for n in range(1, 9)]
    for moved in json_["moved"]:
        assert moved["by"] == "0.01"
        assert moved["holds"]
        assert all(agrees(moved[name]) for name in ("gradient", "smaller", "error", "larger"))
        falls_with_smaller = exact(moved["smaller"]) < exact(moved["error"])
        assert falls_with_smaller == (exact(moved["gradient"]) > 0)


def test_the_text_is_of_reasonable_size_and_in_lines(gathered, json_):
    text = dumps(document(gathered))
    assert json.loads(text) == json_
    assert len(text) < 1_000_000
    assert max(map(len, text.splitlines())) < 10_000


def test_the_numbers_of_updates_that_are_told():
    assert TOLD[:12] == (*range(11), 20)
    assert {50, 100, 200, 500, 1_000, 2_000, 5_000, 9_999, 10_000} <= set(TOLD)
