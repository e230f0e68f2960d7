"""The worked example as a page: one HTML file that asks for nothing from anywhere.

It is made of the files in `page/` and of the certified values. `backprop.js` is its arithmetic, which knows nothing of
the page; `drawing.js` and `words.js` are what it draws and says, `page.js` is its behaviour. The values are JSON:

    updates, constants, recipes, sections, words, sources   as in `parity.example.json_document`
    positions  numbers of updates, ascending: those of the document up to 58, then every third, and the last two
    figures    [{key, section, template, tensor, index, updates}], as there
    published  [{key, text, source, says, true, by, found, misprints}], as there
    columns    {recipe key: {tensor: column numbers, nested as the tensor is}}
    numbers    base64 of little-endian binary64, column after column: `hi` at all positions, then `lo`

A column is one element of a tensor at all positions; equal ones are kept once.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np

from parity.example.certified_example import GIVEN, POSITIONS, SERIES, Certified, load
from parity.example.hand_computation import CONSTANTS, FIGURES, SECTIONS
from parity.example.perceptron import RECIPES, UPDATES
from parity.example.provenance import Finding, findings, words
from parity.example.published import SOURCES
from parity.report.shell import fill, html_page

ASSETS = Path(__file__).with_name("page")
TITLE = "Backpropagation, figure by figure"
SCRIPTS = ("backprop.js", "drawing.js", "words.js", "page.js")

KEPT = tuple(n for k, n in enumerate(POSITIONS) if n <= 58 or k % 3 == 0 or n >= UPDATES - 1)
"""The page's positions: fewer than are certified, so that it stays small."""


def build() -> str:
    """The page.

    Raises:
        UsageError: the kept file of certified values is missing, corrupt or edited.
    """
    parts = {name: _asset(name) for name in SCRIPTS}
    # In JSON a "<" occurs in strings only, where it may be escaped: nothing in them can end the script element.
    parts["data.json"] = json.dumps(selection(load()), separators=(",", ":"), ensure_ascii=False).replace(
        "<", r"\u003c"
    )
    return html_page(TITLE, fill(_asset("template.html"), parts), _asset("style.css"), scripts=True)


def _asset(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8").strip()


def selection(certified: Certified) -> dict[str, Any]:
    """The certified values that the page holds; see the module's text for the layout."""
    columns: dict[bytes, int] = {}
    return {
        "updates": UPDATES,
        "positions": list(KEPT),
        "constants": {name: f"{float(number):g}" for name, number in CONSTANTS.items()},
        "recipes": [{"key": r.key, "order": r.order, "biases": r.biases, "words": str(r)} for r in RECIPES],
        "sections": dict(SECTIONS),
        "figures": [
            {
                "key": figure.key,
                "section": figure.section,
                "template": figure.formula,
                "tensor": figure.tensor,
                "index": list(figure.index),
                "updates": figure.updates,
            }
            for figure in FIGURES.values()
        ],
        "published": [_published(finding) for finding in findings(certified)],
        "sources": dict(SOURCES),
        "words": words(certified),
        "columns": {
            recipe.key: {name: _columns(certified, name, r, columns) for name in (*GIVEN, *SERIES, *certified.steps)}
            for r, recipe in enumerate(RECIPES)
        },
        "numbers": base64.b64encode(b"".join(columns)).decode(),
    }


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
