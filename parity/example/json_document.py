"""The worked example as JSON.

    format        "parity.example/2": what is here stays, more may come
    dtype         of the engines
    updates       10000, the length of a training
    positions     numbers of updates at which `trajectories` are given, ascending: p of them
    constants     {name: decimal}: i1 i2 t1 t2 w1 ... w8 b1 b2 eta, exact
    recipes       [{key, order, biases, words}]: the first is the correct one, the second has the bug
    sections      {section: title}: forward, output, hidden, update, after
    figures       [{key, section, formula, template, operands, tensor, index, updates, certified, engines}]
    published     [{key, text, source, says, true, off, by, found, misprints}]
    sources       {source: words}
    trajectories  {recipe key: {tensor: certified}}: arrays of shape (p, *tensor shape)
    runs          [{engine, recipe, dtype, judged_to, tensors: {E: {verdict, digits, share}, out_o: ...}}]
    missing       {engine: why there is none}
    moved         [{weight, by, gradient, smaller, error, larger, holds}]: the rule of signs
    words         {yours, right, bug, unsettled, slip}: paragraphs

Certified figures are {decimal, hi, lo}. `decimal` has 32 digits; `hi` and `lo`, hexadecimal as in C (Python:
`float.fromhex`), sum to the certified number. In `trajectories` each of the three is a nested list.

A figure is one number of the hand computation, in its order, by the correct recipe. `key`: as "dE/dw5", "w5@1" (after 1
update), "E@10000". `formula`: its letters; `template`: the same in Python, the `operands` (figures or constants) in
braces. `tensor` and `index`: where it stands in `trajectories`, after `updates` updates (all but `input` and `target`,
which do not move). `engines`: {engine: {decimal, hex, shown, verdict, budget, share}}; the engine's number is exactly
`hex`; `shown` is it to as many digits as its dtype tells apart, in two parts: what agrees with the certified figure,
and the rest; `budget` {decimal, hex} is how far a right run may be from the truth, `share` how much of that was used.
These two and `verdict` are null where the budget of the run is spent before.

Of a published figure, `says` is right, bug, unsettled or slip; `true` is what should have been printed, `off` how many
units of its last digit it is away from the truth; `by`, in words, and `found` [{recipe, first, last}] are every recipe
and stretch of numbers of updates that yields it; `misprints` [{text, recipe}] is what a recipe yields that is one digit
shorter. The trajectory of a tensor holds every step of the round that follows. A run is the free run, judged at the
positions up to `judged_to`. A number of digits or a share without bound is null.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np

from parity.example.certified_example import MOVE, POSITIONS, SERIES, Certified
from parity.example.content import Content, Moved
from parity.example.digits import SHOWN, exact, mark
from parity.example.engine_runs import Run, bound, free_run, judged_to, verdict
from parity.example.hand_computation import CONSTANTS, FIGURES, SECTIONS, Figure
from parity.example.perceptron import RECIPES, UPDATES, Recipe
from parity.example.provenance import Finding
from parity.example.published import SOURCES
from parity.truth.value import Truth, decimal

FORMAT = "parity.example/2"
DIGITS = 32

TOLD = tuple(n for n in POSITIONS if n <= 10 or n >= UPDATES - 1 or str(n).rstrip("0") in ("1", "2", "5"))
"""The numbers of updates of the trajectories: fewer than are certified, so that the document stays readable."""

Json = dict[str, Any]


def document(content: Content) -> Json:
    """Everything, in plain dicts, lists, strings and numbers; see the module's text for the layout."""
    certified = content.certified
    return {
        "format": FORMAT,
        "dtype": content.dtype,
        "updates": UPDATES,
        "positions": list(TOLD),
        "constants": {name: f"{float(number):g}" for name, number in CONSTANTS.items()},
        "recipes": [{"key": r.key, "order": r.order, "biases": r.biases, "words": str(r)} for r in RECIPES],
        "sections": dict(SECTIONS),
        "figures": [_figure(figure, content.runs, certified) for figure in FIGURES.values()],
        "published": [_published(finding) for finding in content.findings],
        "sources": dict(SOURCES),
        "trajectories": {recipe.key: _trajectory(recipe, certified) for recipe in RECIPES},
        "runs": [_run(run, certified) for run in (*content.runs.values(), content.bug)],
        "missing": dict(content.missing),
        "moved": [_moved(moved) for moved in content.moved],
        "words": dict(content.words),
    }


def dumps(made: Json) -> str:
    """The document as JSON text: each figure, run or trajectory has a line of its own."""
    return "{\n" + ",\n".join(f"{json.dumps(key)}: {_lines(part)}" for key, part in made.items()) + "\n}"


def _lines(part: Any) -> str:
    """A part of the document; what it holds of lists and objects, each on its own line."""
    if isinstance(part, dict) and any(isinstance(value, dict) for value in part.values()):
        return "{\n" + ",\n".join(f"{json.dumps(key)}: {_lines(value)}" for key, value in part.items()) + "\n}"
    if isinstance(part, list) and any(isinstance(value, dict) for value in part):
        return "[\n" + ",\n".join(_compact(value) for value in part) + "\n]"
    return _compact(part)


def _compact(part: Any) -> str:
    return json.dumps(part, separators=(",", ":"), allow_nan=False)


def _figure(figure: Figure, runs: Mapping[str, Run], certified: Certified) -> Json:
    return {
        "key": figure.key,
        "section": figure.section,
        "formula": figure.spelled(),
        "template": figure.formula,
        "operands": list(figure.operands),
        "tensor": figure.tensor,
        "index": list(figure.index),
        "updates": figure.updates,
        "certified": _certified(certified.figure(figure.key)),
        "engines": {engine: _answer(figure, run, certified) for engine, run in runs.items()},
    }


def _answer(figure: Figure, run: Run, certified: Certified) -> Json:
    number, judged = float(run.figure(figure.key)), verdict(run, figure.key, certified)
    shown, limit = SHOWN[run.dtype], bound(run, figure.key, certified)
    return {
        **_float(number),
        "shown": list(mark(decimal(number, shown), decimal(exact(certified.figure(figure.key)), shown))),
        "verdict": None if judged is None else judged.verdict,
        "budget": None if limit is None else _float(float(limit)),
        "share": None if judged is None else _finite(judged.share),
    }


def _published(finding: Finding) -> Json:
    return {
        "key": finding.published.key,
        "text": finding.published.text,
        "source": finding.published.source,
        "says": finding.says,
        "true": finding.true,
        "off": decimal(finding.off, DIGITS),
        "by": finding.by,
        "found": [{"recipe": s.recipe.key, "first": s.first, "last": s.last} for s in finding.found],
        "misprints": [{"text": m.text, "recipe": m.recipe.key} for m in finding.misprints],
    }


def _trajectory(recipe: Recipe, certified: Certified) -> Json:
    r = RECIPES.index(recipe)
    tensors = {name: certified.truth(f"series.{name}")[r, list(TOLD)] for name in SERIES}
    at = [POSITIONS.index(n) for n in TOLD]
    tensors |= {name: certified.truth(f"steps.{name}")[r, at] for name in certified.steps}
    return {name: _certified(truth) for name, truth in tensors.items()}


def _run(run: Run, certified: Certified) -> Json:
    tensors = free_run(run, certified)
    return {
        "engine": run.engine,
        "recipe": run.recipe.key,
        "dtype": run.dtype,
        "judged_to": judged_to(run, certified),
        "tensors": {
            name: {"verdict": t.verdict, "digits": _finite(t.digits), "share": _finite(t.share)}
            for name, t in tensors.items()
        },
    }


def _moved(moved: Moved) -> Json:
    truths = {name: _certified(getattr(moved, name)) for name in ("gradient", "smaller", "error", "larger")}
    return {"weight": moved.weight, "by": f"{float(MOVE):g}", **truths, "holds": moved.holds}


def _certified(truth: Truth) -> Json:
    """An array of certified numbers, or one."""
    hi, lo = np.asarray(truth.hi), np.asarray(truth.lo)
    numbers = [(float(h), float(rest)) for h, rest in zip(hi.flat, lo.flat, strict=True)]
    texts = [(decimal(Fraction(h) + Fraction(rest), DIGITS), h.hex(), rest.hex()) for h, rest in numbers]
    if not hi.ndim:
        return dict(zip(("decimal", "hi", "lo"), texts[0], strict=True))
    parts = np.array(texts, dtype=object).T.reshape(3, *hi.shape)
    return {name: part.tolist() for name, part in zip(("decimal", "hi", "lo"), parts, strict=True)}


def _float(number: float) -> Json:
    return {"decimal": decimal(number, DIGITS), "hex": number.hex()}


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None
