"""Whether a known mistake is named where it is made: in numbers and, where they can have one, a shape that no kept case
has. The diagnosis is given the answer alone, and looks through the whole dictionary."""

from __future__ import annotations

import json
import math
import os
import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np

from parity.budget.formats import Profile
from parity.engines.faulty import FaultyEngine
from parity.families.case import Case, Draw, OptimizeCase, TrainCase
from parity.families.fault import Fault
from parity.families.listing import FAULTS, catalogue
from parity.records.record import Answer, Record, Train, Unsupported
from parity.run import pool
from parity.truth.certify import certified
from parity.verdict.answer import Judge, enclosed
from parity.verdict.conclusion import Training
from parity.verdict.diagnosis import diagnose
from parity.verdict.evaluation import Request
from parity.verdict.recomputed import RAISED
from parity.verdict.table import is_caught
from refnet.arithmetic.array_like import Undecided
from refnet.files import write_bytes

MORE = 2
"""How many more samples, or elements along the last axis of a parameter, a case is given."""

UPDATES = 8
"""Of a training, which are judged."""

JUDGED = 12
"""Cases in which a mistake changes the answer, at most, in which it is asked whether it is caught: of those in which it
does by more than rounding, then of the others."""

ROUNDING = 64
"""Units of rounding of a tensor's largest element, as what rounding may change."""

SMALL = 256
"""Elements up to which a record in float64 is certified."""

RELATIONS = {
    "gradients of zero": ("zero",),
    "gradients negated": ("a constant factor",),
    "gradients doubled": ("a constant factor",),
    "gradients off by 0.09 per cent": ("a constant factor",),
    "one element off by 1 per cent": ("one element",),
    "one element off by a billionth": ("one element",),
    "last row not written": ("one row", "one element"),
    "rows shifted by one": ("rows",),
}
"""Mistakes in what is said of an answer rightly computed have no formula: they are named as relations to the truth. A
row of a tensor of one axis is an element."""

FAULT = {fault.name: fault for fault in FAULTS}


@dataclass(frozen=True)
class Row:
    """One mistake, where it was made, and what was said.

    Attributes:
        case: whose inputs were drawn again; nothing where the mistake was caught in none. other_shape: whether they
            have another shape too. said: the names, the most specific first.
        named: the one that is right; the mistake's own, or that of another with the same bits here.
    """

    fault: str
    case: str = ""
    family: str = ""
    dtype: str = ""
    other_shape: bool = False
    said: tuple[str, ...] = ()
    named: str = ""


def measure(seed: int, name: str) -> Row:
    """Make one mistake in the first drawn case in which it is caught, and diagnose it."""
    fault = FAULT[name]
    for dtype in sorted(fault.dtypes):
        for case, other_shape, record, wrong in _changed(fault, seed, dtype):
            if (found := _diagnosed(record, wrong)) is not None:
                said = tuple(dict.fromkeys(found))
                named = next((n for n in said if _is(n, fault, record, wrong)), "")
                return Row(name, case.name, case.families[-1], dtype, other_shape, said, named)
    return Row(name)


def _changed(fault: Fault, seed: int, dtype: str) -> Iterator[tuple[Case, bool, Record, Answer]]:
    """The first drawn cases in which the mistake changes the answer by more than rounding, then some others of those in
    which it changes it; whether each has another shape, and its wrong answer."""
    by_rounding, given = [], 0
    for case in _cases(fault, seed):
        for other_shape in (True, False):
            try:
                record = _record(case, seed, case.families[-1], dtype, other_shape)
                right = _answer(record)
            except Exception:
                # The case can't have that shape.
                continue
            if (wrong := _wrong(fault, record, right)) is None:
                break
            if _near(wrong, right):
                by_rounding.append((case, other_shape, record, wrong))
                break
            yield case, other_shape, record, wrong
            given += 1
            break
        if given == JUDGED:
            return
    yield from by_rounding[:JUDGED]


def _cases(fault: Fault, seed: int) -> Iterator[Case]:
    """The cases that the mistake may bear on, in an order of its own; those of its class come first."""
    own = {*fault.patches, *fault.types}
    cases = [case for case in catalogue() if isinstance(case, TrainCase) == (fault.train is not None)]
    random.Random(f"{seed}:{fault.name}").shuffle(cases)
    borne = [case for case in cases if isinstance(case, TrainCase) or not own or case.spec.types() & own]
    yield from sorted(borne, key=lambda case: not isinstance(case, TrainCase) and case.spec.type not in own)


def _record(case: Case, seed: int, family: str, dtype: str, other_shape: bool) -> Record:
    """The case's record with other numbers: their key is the case's name."""
    other = replace(case, name=f"{case.name}, drawn with {seed}")
    record = (_reshaped(other) if other_shape else other).record(family, dtype)
    return record.first(min(UPDATES, record.iterations)) if isinstance(record, Train) else record


def _reshaped(case: Case) -> Case:
    """The case with more samples; an optimizer's with longer parameters."""
    if isinstance(case, OptimizeCase):
        params, grads = (
            {name: _longer(draw) if case.params[name].shape else draw for name, draw in draws.items()}
            for draws in (case.params, case.grads)
        )
        return replace(case, params=params, grads=grads)
    if isinstance(case, TrainCase):
        n = case.inputs.shape[0]
        return replace(case, inputs=_more(n, case.inputs), targets=_more(n, case.targets), seed=case.seed + 1)
    n = case.inputs[0].shape[0]
    own = case.spec.facts.arrays
    return replace(
        case,
        inputs=tuple(_more(n, draw) for draw in case.inputs),
        grads=tuple(_more(n, draw) for draw in case.grads),
        arrays={name: _more(n, draw) if name in own else draw for name, draw in case.arrays.items()},
        parts=None,
    )


def _more(n: int, draw: Draw) -> Draw:
    return replace(draw, shape=(n + MORE, *draw.shape[1:])) if draw.shape[:1] == (n,) else draw


def _longer(draw: Draw) -> Draw:
    return replace(draw, shape=(*draw.shape[:-1], draw.shape[-1] + MORE))


def _answer(record: Any, fault: Fault | None = None) -> Answer:
    engine = FaultyEngine(fault) if fault else FaultyEngine()
    return engine.train(record) if isinstance(record, Train) else engine.answer(record)


def _wrong(fault: Fault, record: Record, right: Answer) -> Answer | None:
    """The answer with the mistake made; None where it can't be made, raises, or changes nothing."""
    if not fault.touches(record):
        return None
    try:
        wrong = _answer(record, fault)
    except RAISED:
        return None
    return None if _same(wrong, right) else wrong


def _diagnosed(record: Any, answer: Answer) -> list[str] | None:
    """The names that are said of the answer; None where no tensor of it fails, or nothing can be enclosed."""
    if isinstance(record, Train):
        conclusion = Training(record, (), {}, {}, {}).conclude(Profile.of(record.dtype), answer)
        if not any(is_caught(v.verdict) for v in conclusion.verdicts):
            return None
        return [d.partition(": ")[0] for d in conclusion.diagnosis]
    try:
        if record.dtype == "float64":
            arrays = (*record.inputs, *record.arrays.values()) if hasattr(record, "inputs") else record.grads.values()
            if sum(math.prod(a.shape) for a in arrays) > SMALL:
                return None
            judge = Judge(Request.plain(record), certified(record))
        else:
            truths, room = enclosed(Request(record, Profile.of("float64")))
            judge = Judge(Request(record, Profile.of(record.dtype), room), truths)
        verdicts = judge(answer)
    except (Undecided, Unsupported, ValueError):
        return None
    failing = [v.name for v in verdicts if is_caught(v.verdict)]
    return [d.name for d in diagnose(judge.request, answer, judge.enclosures, failing)] if failing else None


def _is(name: str, fault: Fault, record: Record, wrong: Answer) -> bool:
    """Whether a name is the mistake's, or that of one which gives the same bits."""
    if name in (fault.name, *RELATIONS.get(fault.name, ())):
        return True
    other = FAULT.get(name)
    if other is None or not other.touches(record):
        return False
    try:
        return _same(_answer(record, other), wrong)
    except RAISED:
        return False


def _same(a: Answer, b: Answer) -> bool:
    return a.keys() == b.keys() and all(
        a[name].shape == b[name].shape and np.array_equal(a[name], b[name], equal_nan=True) for name in a
    )


def _near(a: Answer, b: Answer) -> bool:
    """Whether no element differs by more than rounding may change it."""
    return a.keys() == b.keys() and all(_within_rounding(a[name], b[name]) for name in a)


def _within_rounding(a: Any, b: Any) -> bool:
    if a.shape != b.shape or a.dtype.kind != "f":
        return bool(np.array_equal(a, b))
    largest = float(abs(b).max(initial=0.0, where=np.isfinite(b)))
    room = ROUNDING * float(np.finfo(b.dtype).eps) * largest
    with np.errstate(invalid="ignore"):
        return bool(((abs(a - b) <= room) | (a == b) | (np.isnan(a) & np.isnan(b))).all()) and a.shape == b.shape


def drawn(share: float, seed: int, pattern: str = "") -> list[str]:
    """This part of the mistakes with `pattern` in their names, at least one: the same for the same seed."""
    names = [fault.name for fault in FAULTS if pattern.lower() in fault.name.lower()]
    return random.Random(seed).sample(names, min(len(names), max(1, math.ceil(share * len(names)))))


def run(names: Sequence[str], seed: int, jobs: int) -> Iterator[Row]:
    """A row for each mistake, in the order given."""
    rows: dict[str, Row] = {}

    def ended(name: str, row: Row | pool.Lost) -> None:
        if isinstance(row, pool.Lost):
            raise RuntimeError(f"diagnosis: expected a row of {name}, got none: {row.reason}")
        rows[name] = row
        if row.case and not row.named:
            said = ", ".join(row.said) or "nothing"
            click.echo(f"not named: {name}, in {row.case} ({row.family}, {row.dtype}); said was: {said}")

    if jobs == 1:
        for name in names:
            ended(name, measure(seed, name))
    else:
        pool.run(partial(measure, seed), names, jobs, ended)
    return (rows[name] for name in names)


def summary(rows: Sequence[Row]) -> dict[str, Any]:
    """The totals of `rows`."""
    caught = [row for row in rows if row.case]
    named = [row for row in caught if row.named]
    return {
        "mistakes": len(rows),
        "caught": len(caught),
        "at another shape": sum(row.other_shape for row in caught),
        "named": len(named),
        "named first": sum(row.named == row.said[0] for row in named),
        "share named": round(len(named) / len(caught), 4) if caught else None,
        "not caught": [row.fault for row in rows if not row.case],
        "not named": [row.fault for row in caught if not row.named],
    }


@click.command()
@click.option("-k", "pattern", default="", help="Only the mistakes whose name contains this.")
@click.option(
    "--share",
    type=click.FloatRange(0, 1, min_open=True),
    default=1.0,
    show_default=True,
    help="Which part of the mistakes to make, drawn by the seed.",
)
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="The seed of the drawn part and of the numbers.",
)
@click.option("-j", "--jobs", type=click.IntRange(1), default=os.cpu_count() or 1, help="Processes.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Also write what was found as JSON.")
def diagnosis(pattern: str, share: float, seed: int, jobs: int, out: Path | None) -> None:
    """Make each known mistake at a new seed and shape, and see whether the diagnosis names it."""
    names = drawn(share, seed, pattern) if pattern.lower() in " ".join(FAULT).lower() else []
    if not names:
        raise click.BadParameter(f"expected a part of a mistake's name, got {pattern!r}", param_hint="-k")
    rows = list(run(names, seed, jobs))
    found = summary(rows)
    click.echo(
        f"{found['named']} of {found['caught']} mistakes named ({found['named'] / max(found['caught'], 1):.1%}), "
        f"{found['named first']} of them first; {found['at another shape']} at another shape; "
        f"{len(found['not caught'])} of {found['mistakes']} not caught in the drawn cases"
    )
    if out is not None:
        document = {**found, "seed": seed, "share": share, "rows": [asdict(row) for row in rows]}
        write_bytes(out, (json.dumps(document, indent=1) + "\n").encode())
