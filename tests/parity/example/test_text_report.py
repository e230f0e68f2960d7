"""The text for a terminal: complete, within its width, and readable without colour."""

import io
import re
from dataclasses import replace

import pytest
from rich.console import Console

from parity.example.hand_computation import FIGURES
from parity.example.perceptron import RECIPES
from parity.example.published import PUBLISHED
from parity.example.text_report import render


def rendered(content, width=80, **options):
    console = Console(file=io.StringIO(), width=width, **options)
    render(content, console)
    return console.file.getvalue()


@pytest.fixture(scope="module")
def text(gathered):
    return rendered(gathered)


def test_it_fits_80_columns_in_plain_ascii(text):
    assert max(len(line) for line in text.splitlines()) <= 80
    assert text.isascii()
    assert "\x1b" not in text


def test_every_figure_and_recipe_is_there(text):
    headings = {line.split(" = ")[0].split(": ")[0] for line in text.splitlines()}
    assert headings.issuperset(FIGURES)
    assert all(str(recipe) in text for recipe in RECIPES)
    lines = {
        line.split()[1] for line in text.splitlines() if line.startswith(("  article ", "  original ", "  copies "))
    }
    assert {p.text for p in PUBLISHED} <= {line.replace("[", "").replace("]", "") for line in lines}


def test_a_figure_step_by_step(text):
    assert """\
dE/dw5 = dE/dnet_o1 * dnet_o1/dw5
       = 0.138498562 * 0.593269992
  original      0.082167041                 right
  certified     0.082167040564230778846
""" in "\n".join(line.rstrip() for line in text.splitlines())


def test_differing_digits_are_marked(text):
    assert "  article       0.291027[924]               the bug's" in text
    assert "  the bug's     0.291027[92390544187012]    certified" in text
    assert "  original      -0.01904911[9]              a slip" in text
    assert "not settled" in text


def test_engines_that_agree_to_the_last_bit_share_a_line(gathered, refnet_run):
    twin = replace(refnet_run, engine="twin")
    off = replace(
        refnet_run,
        engine="off",
        rounds={**refnet_run.rounds, 1: {**refnet_run.rounds[1], "E": refnet_run.rounds[1]["E"] + 1e-9}},
    )
    text = rendered(replace(gathered, runs={"refnet": refnet_run, "twin": twin, "off": off}, missing={}))
    assert "  refnet, twin  0.29102777369359933         exact" in text
    (wrong,) = (line for line in text.splitlines() if line.startswith("  off           0.29102777"))
    assert wrong.endswith("FAIL")


def test_a_missing_engine_is_said_to_be(text):
    assert text.count("unsupported: torch is not installed") == len(FIGURES)


def test_the_rule_of_signs(text):
    rows = [" ".join(line.split()) for line in text.splitlines()]
    assert "w1 0.000438568 0.298366723 0.298375494 a smaller weight" in rows
    assert "w7 -0.022602540 0.298598044 0.298145990 a larger weight" in rows


def test_colour_adds_nothing_that_is_not_in_the_text(gathered, text):
    coloured = rendered(gathered, force_terminal=True, color_system="standard")
    assert "\x1b[1;4m[924]\x1b[0m" in coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == text


def test_an_exact_figure_has_no_marked_digit(text):
    exact = [line for line in text.splitlines() if line.endswith("exact") and line.startswith("  refnet")]
    assert len(exact) > 10
    assert not [line for line in exact if "[" in line]
