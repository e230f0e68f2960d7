"""Which recipe yields each published figure, and what is said of it."""

import pytest

from parity.example.certified_example import Stretch
from parity.example.digits import fixed, places
from parity.example.perceptron import BUG, CORRECT, RECIPES
from parity.example.provenance import Finding, Misprint, findings, words
from parity.example.published import PUBLISHED, Published

EXPECTED = {
    "0.291027924": ("bug", [(BUG, 1, 1)]),
    "0.0000351085": ("unsettled", [(CORRECT, 9_999, 9_999)]),
    "0.015912196": ("bug", [(BUG, 10_000, 10_000)]),
    "0.984065734": ("bug", [(BUG, 10_000, 10_000)]),
    "0.000035085": ("bug", [(BUG, 10_000, 10_000)]),
    "-0.019049119": ("slip", []),
}


@pytest.fixture(scope="module")
def by_text(kept):
    return {finding.published.text: finding for finding in findings(kept)}


@pytest.mark.parametrize("text", EXPECTED)
def test_wrong_figures(by_text, text):
    says, found = EXPECTED[text]
    assert by_text[text].says == says
    assert by_text[text].found == tuple(Stretch(*stretch) for stretch in found)


@pytest.mark.parametrize(
    "published", [p for p in PUBLISHED if p.text not in EXPECTED], ids=lambda p: f"{p.key}={p.text}"
)
def test_right_figures(kept, published):
    (finding,) = (f for f in findings(kept) if f.published == published)
    assert finding.says == "right"
    assert finding.true == published.text
    assert abs(finding.off) <= 0.5
    assert finding.misprints == ()


def test_what_should_have_been_printed(by_text):
    # The article's rounding of each true figure.
    true = {text: by_text[text].true for text in EXPECTED}
    assert true == {
        "0.291027924": "0.291027774",
        "0.0000351085": "0.0000351019",
        "0.015912196": "0.015913620",
        "0.984065734": "0.984064274",
        "0.000035085": "0.000035102",
        "-0.019049119": "-0.019049118",
    }


def test_a_digit_too_many(by_text):
    assert by_text["0.0000351085"].misprints == (Misprint("0.000035085", BUG),)
    assert by_text["-0.019049119"].misprints == ()


def test_the_bug_is_not_among_the_recipes_of_the_original_hidden_weights(by_text):
    for text in ("0.149780716", "0.19956143", "0.24975114", "0.29950229"):
        assert {s.recipe for s in by_text[text].found} == {r for r in RECIPES if r.order == "simultaneous"}


def test_the_slip_makes_its_sum_come_out():
    # 0.055399425 + -0.019049119 = 0.036350306, as printed.
    assert 55399425 - 19049119 == 36350306 != 55399425 - 19049118


def test_in_words(by_text):
    assert by_text["0.298371109"].by == "every recipe, before training"
    assert by_text["0.05"].by == "every recipe, always: it does not move"
    assert by_text["0.149780716"].by == "simultaneous, any biases, after 1 update"
    assert by_text["0.291027924"].by == "sequential, biases frozen, after 1 update"
    assert by_text["-0.019049119"].by == "no recipe, after any number of updates to 10,000"
    assert by_text["0.3775"].by == (
        "every recipe, before training; simultaneous, biases frozen, after 13 to 14 updates; "
        "sequential, biases frozen, after 1 update and after 11 to 12 updates"
    )


def test_a_stretch_around_the_announced_number_is_split():
    finding = Finding(Published("E@1", "0.3", "article"), "right", (Stretch(CORRECT, 0, 3),), (), "0.3", 0)
    recipe = "simultaneous, biases frozen"
    assert finding.by == f"{recipe}, after 1 update; {recipe}, before training and after 2 to 3 updates"


def test_words_say_it(kept):
    said = words(kept)
    assert list(said) == ["yours", "right", "bug", "unsettled", "slip"]
    assert all(figure in said["yours"] for figure in ("0.291027774", "0.000035102", "0.015913620", "0.984064274"))
    assert "29 of 35" in said["right"]
    assert "0.291027924, 0.015912196, 0.984065734, 0.000035085" in said["bug"]
    assert all(text in said["unsettled"] for text in ("0.0000351085", "after 9,999 updates", "0.000035085"))
    assert "-0.019049119" in said["slip"]
    assert "0.74 units" in said["slip"]


def test_rounding_is_that_of_the_printed_places(kept):
    for finding in findings(kept):
        assert places(finding.true) == places(finding.published.text)
        assert finding.true == fixed(
            finding.published.value - finding.off * finding.published.unit, places(finding.true)
        )
