"""What changed between two runs of the catalogue: bits, verdicts and digits, from the files of `parity run --json`."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from rich.text import Text

from parity.records import encoding
from parity.records.encoding import Malformed, brief, member
from parity.report.console import standard_output
from parity.report.export import FORMAT, VERSION
from parity.verdict.table import SEVERITY, is_ok

MOST_BYTES = 2**30
"""The largest file that is read."""

MOST = 20
"""How many tensors are shown of each kind, unless all are asked for."""

WITHIN_ROUNDING = ("exact", "rounding")
"""Between these two a tensor goes to and fro with the inputs and the order of a sum."""


OPEN = ("blind", "undecided")
"""Verdicts that are not good and say nothing against the engine."""


class Tensor(NamedTuple):
    """A tensor as a run judged it. Bits are a hash of it; empty where the file has none."""

    verdict: str
    formula: str
    digits: float
    bits: str
    reason: str

    def __str__(self) -> str:
        known = "every digit" if self.digits > 0 else "no digit"
        digits = f"{self.digits:.1f} digits" if math.isfinite(self.digits) else known
        return f"{self.verdict}{f' by {self.formula}' if self.formula else ''}, {digits}"


class Change(NamedTuple):
    """A tensor whose verdict, formula or digits are others."""

    name: str
    before: Tensor
    after: Tensor

    @property
    def is_worse(self) -> bool:
        """It was good, or did not count, and is not."""
        return is_ok(self.before.verdict) and not is_ok(self.after.verdict)

    @property
    def is_open(self) -> bool:
        """It is worse, and not wrong: nothing is proved of it now."""
        return self.is_worse and self.after.verdict in OPEN

    @property
    def is_better(self) -> bool:
        return is_ok(self.after.verdict) and not is_ok(self.before.verdict)


@dataclass(frozen=True)
class Run:
    """One engine in a file of results.

    Attributes:
        environment: what it ran on. tensors: by case, family, dtype and tensor. unsupported: records that the engine
            did not answer.
    """

    engine: str
    environment: dict[str, str]
    tensors: dict[tuple[str, str, str, str], Tensor]
    unsupported: frozenset[tuple[str, str, str]]


@dataclass(frozen=True)
class Changes:
    """Two runs beside each other.

    Attributes:
        both: how many tensors both have; only_before, only_after: how many one has alone.
        same_bits: of how many in both the bits are the same; None where the files do not say, or the formats differ.
        lost: how many records were answered before, and are unsupported after. gained: the other way round.
        moved: tensors with another verdict or formula, and those that lost more digits than asked.
    """

    before: Run
    after: Run
    both: int
    only_before: int
    only_after: int
    same_bits: int | None
    lost: int
    gained: int
    moved: tuple[Change, ...]

    @property
    def worse(self) -> tuple[Change, ...]:
        return tuple(change for change in self.moved if change.is_worse)


def read(file: Path, engine: str | None = None, dtype: str | None = None) -> Run:
    """An engine's results in a file of `parity run --json`; in one dtype, if it is named.

    Raises:
        UsageError: it can't be read, is no such file, or has not exactly one engine (of that name).
    """
    return encoding.read(file, MOST_BYTES, partial(_run, engine=engine, dtype=dtype))


def _run(document: Any, engine: str | None, dtype: str | None) -> Run:
    encoding.expect_format(document, FORMAT, VERSION)
    there = tuple(member(document, "engines", dict, "the file"))
    if engine is None and len(there) != 1:
        raise Malformed(f"expected --engines, since the file has results of {brief(', '.join(there))}")
    engine = engine or there[0]
    if engine not in there:
        raise Malformed(f"expected results of {engine}, got those of {brief(', '.join(there))}")
    tensors: dict[tuple[str, str, str, str], Tensor] = {}
    unsupported = set()
    cases = member(document, "cases", list, "the file")
    for k, case in enumerate(cases):
        where = f"case {k}"
        if member(case, "engine", str, where) != engine or (dtype and member(case, "dtype", str, where) != dtype):
            continue
        # Of two dtypes that are named, the tensors of one are held beside those of the other.
        name, family = (member(case, key, str, where) for key in ("case", "family"))
        record = (name, family, "" if dtype else member(case, "dtype", str, where))
        if member(case, "unsupported", str, where):
            unsupported.add(record)
        bits = member(case, "bits", dict, where, {})
        for tensor in member(case, "verdicts", list, where):
            own = member(tensor, "name", str, where)
            tensors[*record, own] = _tensor(tensor, str(bits.get(own, "")), where)
    if not tensors:
        raise Malformed(f"expected tensors of {engine}{f' in {dtype}' if dtype else ''}, got none")
    environment = {str(key): str(value) for key, value in member(document, "environment", dict, "the file").items()}
    return Run(engine, environment, tensors, frozenset(unsupported))


def _tensor(tensor: Any, bits: str, where: str) -> Tensor:
    verdict, formula, reason = (member(tensor, key, str, where) for key in ("verdict", "formula", "reason"))
    if verdict not in SEVERITY:
        raise Malformed(f"{where}: expected a verdict among {', '.join(SEVERITY)}, got {brief(verdict)}")
    try:
        digits = float(tensor["digits"])
    except (KeyError, TypeError, ValueError):
        raise Malformed(f"{where}: expected digits (a number), got {brief(tensor.get('digits'))}") from None
    return Tensor(verdict, formula, digits, bits, reason)


def compare(before: Run, after: Run, digits: float = 1.0, same_format: bool = True) -> Changes:
    """What changed from one run to another.

    Args:
        digits: a tensor that stays right is told where it lost more decimal digits than that.
        same_format: whether both were asked in the same dtype. Otherwise inputs and digits differ anyway: neither bits
            nor digits are compared, and `exact` counts as `rounding`.
    """
    old, new = before.tensors, after.tensors
    both = [key for key in old if key in new]
    moved = tuple(
        Change(", ".join(part for part in key if part), old[key], new[key])
        for key in both
        if _moved(old[key], new[key], digits, same_format)
    )
    told = same_format and all(old[key].bits and new[key].bits for key in both)
    records = {key[:3] for key in old}, {key[:3] for key in new}
    return Changes(
        before,
        after,
        len(both),
        len(old) - len(both),
        len(new) - len(both),
        sum(old[key].bits == new[key].bits for key in both) if told else None,
        len(records[0] & after.unsupported),
        len(records[1] & before.unsupported),
        moved,
    )


def _moved(old: Tensor, new: Tensor, digits: float, same_format: bool) -> bool:
    within = old.verdict in WITHIN_ROUNDING and new.verdict in WITHIN_ROUNDING
    if (old.verdict, old.formula) != (new.verdict, new.formula) and not within:
        return True
    # Where nothing was off, digits were infinite by chance: within rounding none of them is lost.
    return same_format and math.isfinite(old.digits) and old.digits - new.digits > digits


def show(found: Changes, verbose: bool = False) -> None:
    """Print what changed, the worst first: every tensor, or the first MOST of each kind."""
    out = standard_output()
    for line in _lines(found, None if verbose else MOST):
        out.print(Text(line), soft_wrap=True)


def _lines(found: Changes, most: int | None) -> Iterator[str]:
    before, after = found.before, found.after
    if before.engine != after.engine:
        yield f"engine: {before.engine} -> {after.engine}"
    for key in dict.fromkeys((*before.environment, *after.environment)):
        old, new = (run.environment.get(key, "not told") for run in (before, after))
        if old != new:
            yield f"{key}: {old} -> {new}"
    open_now = [change for change in found.moved if change.is_open]
    worse = [change for change in found.worse if not change.is_open]
    better = [change for change in found.moved if change.is_better]
    rest = [change for change in found.moved if not (change.is_worse or change.is_better)]
    for heading, changes in (
        ("no longer right", worse),
        ("no longer proved", open_now),
        ("right now", better),
        ("moved", rest),
    ):
        for change in changes[:most]:
            yield f"{heading}: {change.name}: {change.before} -> {change.after}"
            if change.is_worse and change.after.reason:
                yield f"  {change.after.reason}"
        if len(changes[:most]) < len(changes):
            yield f"{heading}: {len(changes) - MOST} tensors more (-v shows all)"
    yield from _ways(found)
    alone = f"{found.only_before} in the first alone, {found.only_after} in the second alone"
    yield f"{found.both} tensors in both, {alone}"
    for count, what in ((found.lost, "answered before, unsupported now"), (found.gained, "unsupported before")):
        if count:
            yield f"{count} records {what}"
    if not found.both:
        yield _apart(before, after)
        return
    if found.same_bits is not None:
        yield f"same bits: {found.same_bits} of {found.both} tensors"
    proved = f"no longer proved: {len(open_now)}, " if open_now else ""
    yield f"no longer right: {len(worse)}, {proved}right now: {len(better)}, moved otherwise: {len(rest)}"


def _apart(before: Run, after: Run) -> str:
    """Why two runs may have no tensor in common."""
    forms = [sorted({key[2] for key in run.tensors}) for run in (before, after)]
    if set(forms[0]) & set(forms[1]):
        return "nothing to compare: the two were asked about other cases"
    first, second = (" and ".join(f) for f in forms)
    how = f"--dtypes {forms[0][0]} {forms[1][0]}"
    return f"nothing to compare: the first is in {first}, the second in {second}; {how} holds one beside the other"


def _ways(found: Changes) -> Iterator[str]:
    """From which verdict to which, and how many tensors."""
    counts = Counter((change.before.verdict, change.after.verdict) for change in found.moved)
    for (old, new), count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        tensors = "1 tensor" if count == 1 else f"{count} tensors"
        yield f"{tensors}: {old} -> {new}" if old != new else f"{tensors}: {old}, by another formula or fewer digits"
