"""A worksheet for teachers: a network with numbers of its own, a line for each figure, and the key.

The numbers follow from a seed. The key is certified without more than NumPy: refnet's lines run on budgets, pairs of a
value and a bound, and a figure is printed only if both ends of its enclosure round to the same digits.
"""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from parity.example.digits import fixed
from parity.example.hand_computation import CONSTANTS, FIGURES, SECTIONS, Figure
from parity.example.model import ARTICLE
from parity.example.perceptron import CORRECT, WEIGHTS, Example, Tensors, budgets
from parity.example.typed_figure import Judge
from parity.records.record import UsageError
from parity.report.shell import fill, html_page
from refnet.generator import Generator

ASSETS = Path(__file__).with_name("page")
PLACES = 9
RATES = ("0.25", "0.5", "0.75", "1")
"""Learning rates: binary fractions, so that the optimizer's float is the number on the sheet."""
TARGETS = ("0.01", "0.99")


def numbers(seed: int) -> dict[str, Fraction]:
    """The numbers of a worksheet, as in `CONSTANTS`: weights, biases and inputs in steps of 0.05 from 0.05 to 0.95.

    Raises:
        UsageError: the seed is not one of a generator.
    """
    try:
        raw = iter(Generator(seed).random_raw(len(CONSTANTS)).tolist())
    except ValueError as error:
        raise UsageError(f"--worksheet: {error}") from None
    first = next(raw) % 2
    found = {}
    for name in CONSTANTS:
        if name[0] == "t":
            found[name] = Fraction(TARGETS[(int(name[1]) + first) % 2])
        elif name == "eta":
            found[name] = Fraction(RATES[next(raw) % len(RATES)])
        else:
            found[name] = Fraction(5 * (1 + next(raw) % 19), 100)
    return found


def enclosures(given: Mapping[str, Fraction]) -> tuple[Tensors, Tensors]:
    """The first two rounds of a network with these numbers, as budgets."""
    params: dict[str, Any] = {
        name: np.empty(shape, dtype=object)
        for name, shape in (("0.weight", (2, 2)), ("0.bias", 2), ("2.weight", (2, 2)), ("2.bias", 2))
    }
    for name, (tensor, index) in WEIGHTS.items():
        params[tensor][index] = given[name]
    params["0.bias"][:], params["2.bias"][:] = given["b1"], given["b2"]
    input, target = (np.array([given[f"{what}{k}"] for k in (1, 2)], dtype=object) for what in "it")
    example = Example(CORRECT, budgets("float64"), params, input, target, given["eta"])
    return example.round(), example.round()


def key(given: Mapping[str, Fraction]) -> dict[str, str]:
    """Every figure of the sheet, rounded to PLACES decimals.

    Raises:
        UsageError: an enclosure leaves the last digit open.
    """
    rounds = enclosures(given)
    return {figure.key: _settled(figure, rounds[figure.updates][figure.tensor]) for figure in asked()}


def asked() -> list[Figure]:
    """The figures of the sheet: all but those after a whole training."""
    return [figure for figure in FIGURES.values() if figure.updates < 2]


def _settled(figure: Figure, tensor: Any) -> str:
    x, e = (Fraction(float(part[figure.index])) for part in (tensor.x, tensor.e))
    low, high = (fixed(end, PLACES) for end in (x - e, x + e))
    if low.lstrip("-") != high.lstrip("-"):
        raise UsageError(f"--worksheet: {figure.key} lies between {low} and {high}; expected another seed")
    return high


def build(seed: int) -> str:
    """The worksheet as an HTML document.

    Raises as `numbers` and `key`.
    """
    given = numbers(seed)
    parts = {
        "seed": str(seed),
        "places": str(PLACES),
        "drawing": _drawing(),
        "given": "".join(f"<dt>{_letters(name)}</dt><dd>{_plain(number)}</dd>" for name, number in given.items()),
        "tasks": "\n".join(_tasks(section) for section in SECTIONS),
        "key": _key(key(given)),
        "mistakes": _mistakes(given),
    }
    body = fill((ASSETS / "worksheet.html").read_text(encoding="utf-8"), parts)
    style = (ASSETS / "worksheet.css").read_text(encoding="utf-8")
    return html_page(f"Backpropagation by hand: worksheet {seed}", body, style)


def _plain(number: Fraction) -> str:
    return f"{float(number):g}"


def _letters(name: str) -> str:
    return "η" if name == "eta" else name.replace("d", "∂") if "/" in name else name


def _name(figure: Figure) -> str:
    name, _, updates = figure.key.partition("@")
    return html.escape(_letters(name)) + (" after the update" if updates else "")


def _tasks(section: str) -> str:
    rows = []
    for figure in asked():
        if figure.section == section:
            formula = figure.spelled(_letters).replace(" * ", " × ").replace("-", "−").replace("^2", "²")
            words = f" = {html.escape(formula)}" if formula else ""
            rows.append(f"<p><span><b>{_name(figure)}</b>{words} =</span><i></i></p>")
    title = html.escape(SECTIONS[section] if section != "after" else "After the update")
    return f'<section class="card"><h2>{title}</h2><div class="tasks">{"".join(rows)}</div></section>'


def _key(answers: Mapping[str, str]) -> str:
    rows, names = [], list(answers)
    for two in (names[k : k + 2] for k in range(0, len(names), 2)):
        cells = (f'<th scope="row">{_name(FIGURES[name])}</th><td>{answers[name]}</td>' for name in two)
        rows.append(f"<tr>{''.join(cells)}</tr>")
    return f'<div class="scroll" tabindex="0"><table><tbody>{"".join(rows)}</tbody></table></div>'


def _mistakes(given: Mapping[str, Fraction]) -> str:
    judge = Judge(ARTICLE, given)
    right = judge.value("E@1")
    seen: set[str] = set()
    rows = []
    for mistake, recipe in judge.mistakes:
        text = fixed(Fraction(judge.value("E@1", recipe, mistake)), PLACES)
        if text != fixed(Fraction(right), PLACES) and text not in seen:
            seen.add(text)
            rows.append(f"<tr><td>{text}</td><td>{html.escape(mistake.answer)}</td></tr>")
    head = '<thead><tr><th scope="col">E after the update</th><th scope="col">What was done</th></tr></thead>'
    return f"<table>{head}<tbody>{''.join(rows)}</tbody></table>"


def _drawing() -> str:
    """The network with the names of its units and weights."""
    across = {"i": 40, "h": 240, "o": 440}
    at = {f"{layer}{k}": (x, 50 + 130 * (k - 1)) for layer, x in across.items() for k in (1, 2)}
    lines, labels = zip(*_edges(at), strict=True)
    nodes = (
        f'<circle cx="{x}" cy="{y}" r="22"/><text x="{x}" y="{y + 5}">{name}</text>' for name, (x, y) in at.items()
    )
    title = "The network: i1 and i2 lead into h1 and h2, and these into o1 and o2"
    return (
        f'<svg viewBox="0 0 480 230" role="img" aria-label="{title}">'
        f"{''.join(lines)}{''.join(nodes)}{''.join(labels)}</svg>"
    )


def _edges(at: Mapping[str, tuple[int, int]]) -> Iterator[tuple[str, str]]:
    for name, (tensor, (unit, source)) in WEIGHTS.items():
        layers = ("i", "h") if tensor.startswith("0") else ("h", "o")
        (x1, y1), (x2, y2) = at[f"{layers[0]}{source + 1}"], at[f"{layers[1]}{unit + 1}"]
        x, y = x1 + 0.28 * (x2 - x1), y1 + 0.28 * (y2 - y1)
        line = f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"/>'
        yield line, f'<text x="{x:.0f}" y="{y + 4:.0f}">{name}</text>'
