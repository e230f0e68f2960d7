"""The worked example as a page: one HTML file that asks for nothing from anywhere.

It is made of the files in `page/` and of the certified values. The scripts of ENGINE are its arithmetic and its
judgement, which know nothing of the page; those of SCRIPTS draw, say and listen. The values are JSON:

    updates, recipes, words, sources   as in `parity.example.json_document`
    constants  {name: decimal}: what the fields hold at first, a second sample's among them
    positions  numbers of updates, ascending: fewer than are certified
    article    {key, hidden, error, samples}: the article's kind of network
    choices    {hidden, error, samples: [[value, words]]}: what a network of one's own may have
    models     {key: {sections, constants, figures: [{key, section, template, stable, updates, tensor, index}]}}: each
               kind of network, as in `parity.example.hand_computation`; `tensor` and `index` in the article's alone
    known      {mistakes, biases, whichBiases, tooEarly, sequential, shared}: as in `parity.example.mistakes`
    published  [{key, text, source, says, true, by, found, misprints}], as in the document
    columns    {recipe key: {tensor: column numbers, nested as the tensor is}}
    numbers    base64 of little-endian binary64, column after column: `hi` at all positions, then `lo`

A column is one element of a tensor at all positions; equal ones are kept once.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from parity.example import mistakes
from parity.example.certified_example import GIVEN, POSITIONS, ROUND, SERIES, Certified, load
from parity.example.hand_computation import Figure, constants, figures, sections
from parity.example.model import ARTICLE, ERRORS, HIDDEN, MODELS, Model
from parity.example.perceptron import RECIPES, UPDATES
from parity.example.provenance import Finding, findings, words
from parity.example.published import SOURCES
from parity.report.shell import fill, html_page

ASSETS = Path(__file__).with_name("page")
TITLE = "Backpropagation, figure by figure"
ENGINE = ("arithmetic.js", "formulas.js", "digits.js", "judge.js")
SCRIPTS = (
    "network.js",
    "curve.js",
    "words.js",
    "state.js",
    "values.js",
    "spelling.js",
    "picture_panel.js",
    "step_panel.js",
    "verdict_panel.js",
    "recipe_panel.js",
    "figure_table.js",
    "own_panel.js",
    "address.js",
    "page.js",
)
STYLES = ("layout.css", "controls.css", "tables.css", "drawings.css", "media.css")

KEPT = tuple(n for k, n in enumerate(POSITIONS) if n <= 30 or k % 3 == 0 or n in ROUND or n >= UPDATES - 1)
"""The page's positions: fewer than are certified, so that it stays small."""


def build() -> str:
    """The page.

    Raises:
        UsageError: the kept file of certified values is missing, corrupt or edited.
    """
    # In JSON a "<" occurs in strings only, where it may be escaped: nothing in them can end the script element.
    data = json.dumps(selection(load()), separators=(",", ":"), ensure_ascii=False).replace("<", r"\u003c")
    parts = {"data.json": data, "scripts": _assets((*ENGINE, *SCRIPTS))}
    return html_page(TITLE, fill(_assets(("template.html",)), parts), _assets(STYLES), scripts=True)


def _assets(names: Iterable[str]) -> str:
    return "\n".join((ASSETS / name).read_text(encoding="utf-8").strip() for name in names)


def selection(certified: Certified) -> dict[str, Any]:
    """The certified values that the page holds; see the module's text for the layout."""
    columns: dict[bytes, int] = {}
    return {
        "updates": UPDATES,
        "positions": list(KEPT),
        "constants": {name: f"{float(number):g}" for name, number in constants(MODELS[-1]).items()},
        "article": {"key": ARTICLE.key, "hidden": ARTICLE.hidden, "error": ARTICLE.error, "samples": ARTICLE.samples},
        "choices": {
            "hidden": [list(item) for item in HIDDEN.items()],
            "error": [list(item) for item in ERRORS.items()],
            "samples": [[1, "one sample"], [2, "a batch of two samples"]],
        },
        "models": {model.key: _model(model) for model in MODELS},
        "known": known(),
        "recipes": [{"key": r.key, "order": r.order, "biases": r.biases, "words": str(r)} for r in RECIPES],
        "published": [_published(finding) for finding in findings(certified)],
        "sources": dict(SOURCES),
        "words": words(certified),
        "columns": {
            recipe.key: {name: _columns(certified, name, r, columns) for name in (*GIVEN, *SERIES, *certified.steps)}
            for r, recipe in enumerate(RECIPES)
        },
        "numbers": base64.b64encode(b"".join(columns)).decode(),
    }


def known() -> dict[str, Any]:
    """What the page knows of mistakes."""
    return {
        "mistakes": [
            {"key": m.key, "hint": m.hint, "answer": m.answer, "rules": [list(rule) for rule in m.rules]}
            for m in mistakes.MISTAKES
        ],
        "biases": dict(mistakes.BIASES),
        "whichBiases": list(mistakes.WHICH_BIASES),
        "tooEarly": list(mistakes.TOO_EARLY),
        "sequential": [list(rule) for rule in mistakes.SEQUENTIAL],
        "shared": [list(rule) for rule in mistakes.SHARED],
    }


def _model(model: Model) -> dict[str, Any]:
    return {
        "sections": dict(sections(model)),
        "constants": list(constants(model)),
        "figures": [_figure(figure) for figure in figures(model)],
    }


def _figure(figure: Figure) -> dict[str, Any]:
    found = {"key": figure.key, "section": figure.section, "template": figure.formula, "updates": figure.updates}
    stable = {"stable": figure.stable} if figure.stable else {}
    place = {"tensor": figure.tensor, "index": list(figure.index)} if figure.tensor else {}
    return {**found, **stable, **place}


def _columns(certified: Certified, name: str, r: int, columns: dict[bytes, int]) -> Any:
    """The numbers of a tensor's columns, new ones added to `columns`, in its shape."""
    truths = [certified.tensor(name, n, RECIPES[r]) for n in KEPT]
    pairs = np.stack([np.stack([truth.hi for truth in truths]), np.stack([truth.lo for truth in truths])])
    last = np.moveaxis(pairs, (0, 1), (-2, -1)).astype("<f8")
    numbers = np.empty(last.shape[:-2], dtype=object)
    for index in np.ndindex(numbers.shape):
        numbers[index] = columns.setdefault(last[index].tobytes(), len(columns))
    return numbers.tolist()


def _published(finding: Finding) -> dict[str, Any]:
    return {
        "key": finding.published.key,
        "text": finding.published.text,
        "source": finding.published.source,
        "says": finding.says,
        "true": finding.true,
        "by": finding.by,
        "found": [{"recipe": s.recipe.key, "first": s.first, "last": s.last} for s in finding.found],
        "misprints": [{"text": m.text, "recipe": m.recipe.key} for m in finding.misprints],
    }
