"""What a run of the catalogue found: plain records, made by the runner and read by every report."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import numpy as np

from parity.verdict.table import SEVERITY, worst
from parity.verdict.tensor import TensorVerdict


@dataclass(frozen=True)
class Comparison:
    """Two engines' answers to one record, or to many.

    Attributes:
        tensors: how many are compared. same_bits: how many of them are the same bit for bit.
        due: for how many of them the budget is zero throughout, so that every right engine has the same values.
        identical: how many of those have the same values, the sign of a zero apart.
    """

    tensors: int = 0
    same_bits: int = 0
    due: int = 0
    identical: int = 0

    def __add__(self, other: Comparison) -> Comparison:
        return Comparison(
            self.tensors + other.tensors,
            self.same_bits + other.same_bits,
            self.due + other.due,
            self.identical + other.identical,
        )


Judged = tuple[Mapping[str, np.ndarray[Any, Any]], Sequence[TensorVerdict]]
"""An answer, and the verdicts on it."""


def compare(own: Judged, first: Judged) -> Comparison:
    """An engine's answer with the first engine's."""
    due = _due(own[1]) & _due(first[1])
    found = Comparison()
    for name, tensor in first[0].items():
        other = own[0].get(name, np.array(None))
        alike = other.dtype == tensor.dtype and other.shape == tensor.shape
        bits = alike and other.tobytes() == tensor.tobytes()
        values = alike and np.array_equal(other, tensor)
        found += Comparison(1, int(bits), int(name in due), int(name in due and values))
    return found


def digests(answer: Mapping[str, np.ndarray[Any, Any]]) -> dict[str, str]:
    """Of each tensor 64 bits of BLAKE2b over dtype, shape and bytes in C order, as hexadecimal digits."""
    return {
        name: blake2b(f"{x.dtype.str}{x.shape}".encode() + x.tobytes(), digest_size=8).hexdigest()
        for name, x in answer.items()
    }


def _due(verdicts: Sequence[TensorVerdict]) -> set[str]:
    """The tensors whose every element rounding leaves as it is, and for which no other choice accounts."""
    return {v.name for v in verdicts if v.detection_limit == 0 and v.verdict in ("exact", "FAIL")}


@dataclass(frozen=True)
class CaseResult:
    """One engine on one case, in one family and dtype.

    Attributes:
        case, family, dtype, engine: which.
        verdicts: of each tensor.
        unsupported: why the engine did not answer; empty where it did.
        comparison: with the first engine's answer; None for that engine itself.
        diagnosis: for a failure, the known mistakes that it is consistent with.
        notes: what else is to be said, e.g. from which update on a free run is uncertified.
        seconds: the engine's time for its answer.
        traceback: of what the engine raised; empty where it raised nothing.
        profile: how the engine says that it computes; empty where it did not answer.
        finding: the title of the known finding that accounts for all that fails; empty where none does.
        large: whether it is a case of real size, of which some elements are certified.
        bits: a hash of each tensor of the answer, by which two runs are compared (`digests`).
    """

    case: str
    family: str
    dtype: str
    engine: str
    verdicts: tuple[TensorVerdict, ...] = ()
    unsupported: str = ""
    comparison: Comparison | None = None
    diagnosis: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    traceback: str = ""
    profile: str = ""
    finding: str = ""
    large: bool = False
    bits: Mapping[str, str] = field(default_factory=dict)

    @property
    def command(self) -> str:
        """What runs this record alone."""
        options = ("--case", self.case, "--family", self.family, "--dtype", self.dtype, "--engine", self.engine)
        return shlex.join(("parity", "run", *(("--large",) if self.large else ()), *options))

    @property
    def group(self) -> str:
        return self.case.split("/")[0]

    @property
    def verdict(self) -> str:
        """The worst verdict among the tensors."""
        return "unsupported" if self.unsupported else worst(v.verdict for v in self.verdicts)

    @property
    def conforms(self) -> bool:
        """Nothing is to be said against the engine. A blind tensor is the record's fault."""
        return all(v.ok or v.verdict == "blind" for v in self.verdicts)

    @property
    def worst_tensor(self) -> TensorVerdict | None:
        """The tensor with the worst verdict; among those, the one that used most of its budget."""
        return max(self.verdicts, key=lambda v: (SEVERITY.index(v.verdict), v.share), default=None)

    @property
    def severity(self) -> tuple[int, float]:
        """What orders results from the best to the worst."""
        worst_tensor = self.worst_tensor
        return SEVERITY.index(self.verdict), worst_tensor.share if worst_tensor else 0.0


@dataclass(frozen=True)
class Summary:
    """One engine over all cases.

    Attributes:
        cases, records, classes: how many were asked; a record is a case in one family and dtype, a class the first part
            of a case's name. judged, classes_judged: how many the engine answered, rightly or not. tensors: how many
            there are in its answers.
        sampled: of how many tensors some elements are judged.
        failed, unsupported: how many records. reasons: why they are unsupported, and how many for each reason.
        findings: of the failed records, how many fail as it is known, for each finding.
        unseen: the tensors of a class, in a dtype, of which all records that the engine answered are blind.
        verdicts: how many tensors have each verdict. formulas: of them, how many are by each weaker formula or other
            convention.
        largest_share, largest_share_at: the largest part of a budget that a right result used, and where. Right is a
            record in which every tensor is exact or rounding, in a group of cases where the engine never shows a
            weaker formula: the budget is that of the formula it uses.
        weaker_share, weaker_share_at: likewise in the other groups, where what kept to the budget did so with a weaker
            formula.
        comparison: with the first engine; None for that engine itself.
    """

    engine: str
    cases: int
    records: int
    classes: int
    judged: int
    classes_judged: int
    tensors: int
    sampled: int
    failed: int
    unsupported: int
    reasons: dict[str, int]
    findings: dict[str, int]
    unseen: tuple[str, ...]
    verdicts: dict[str, int]
    formulas: dict[str, int]
    largest_share: float
    largest_share_at: str
    weaker_share: float
    weaker_share_at: str
    comparison: Comparison | None

    @property
    def conforms(self) -> bool:
        """Something was judged, nothing failed but what is known, and of each tensor something is proved in some
        record."""
        return self.judged > 0 and self.failed == self.known and not self.unseen

    @property
    def known(self) -> int:
        """How many records fail as it is known."""
        return sum(self.findings.values())

    @property
    def coverage(self) -> float:
        """The judged part of the records, in percent."""
        return 100 * self.judged / self.records if self.records else 0.0


@dataclass(frozen=True)
class Results:
    """Everything a run found, in the order of the catalogue."""

    engines: tuple[str, ...]
    cases: tuple[CaseResult, ...]
    seconds: float
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def conforms(self) -> bool:
        """Every engine conforms."""
        return all(self.summary(name).conforms for name in self.engines)

    def of(self, engine: str) -> list[CaseResult]:
        return [case for case in self.cases if case.engine == engine]

    def summary(self, engine: str) -> Summary:
        """One engine's results, counted."""
        own = self.of(engine)
        judged = [case for case in own if not case.unsupported]
        tensors = [(case, v) for case in own for v in case.verdicts]
        counts = Counter(v.verdict for _, v in tensors)
        shares = [
            (v.share, f"{c.case}, {c.family} {c.dtype}, {v.name}", c.group)
            for c, v in tensors
            if c.verdict in ("exact", "rounding")
        ]
        weaker = {case.group for case in own if any(v.verdict == "unstable" for v in case.verdicts)}
        share, place, _ = max((s for s in shares if s[2] not in weaker), default=(0.0, "", ""))
        weaker_share, weaker_place, _ = max((s for s in shares if s[2] in weaker), default=(0.0, "", ""))
        return Summary(
            engine,
            cases=len({case.case for case in own}),
            records=len(own),
            classes=len({case.group for case in own}),
            judged=len(judged),
            classes_judged=len({case.group for case in judged}),
            tensors=len(tensors),
            sampled=sum(bool(v.coverage) for _, v in tensors),
            failed=sum(not case.conforms for case in own),
            unsupported=sum(bool(case.unsupported) for case in own),
            reasons=dict(Counter(case.unsupported for case in own if case.unsupported)),
            findings=dict(Counter(case.finding for case in own if case.finding)),
            unseen=_unseen(tensors),
            verdicts={name: counts[name] for name in SEVERITY if name != "unsupported"},
            formulas=dict(Counter(v.formula for _, v in tensors if v.formula)),
            largest_share=share,
            largest_share_at=place,
            weaker_share=weaker_share,
            weaker_share_at=weaker_place,
            comparison=total(own),
        )


def _unseen(tensors: Sequence[tuple[CaseResult, TensorVerdict]]) -> tuple[str, ...]:
    """The tensors, by class, dtype and name, of which nothing is proved in any record."""
    blind, seen = (
        dict.fromkeys(
            f"{case.group} {case.dtype} {re.sub(r'^part [0-9]+ ', '', v.name)}"
            for case, v in tensors
            if (v.verdict == "blind") == wanted
        )
        for wanted in (True, False)
    )
    return tuple(name for name in blind if name not in seen)


def total(cases: Iterable[CaseResult]) -> Comparison | None:
    """The comparisons of some cases, added up; None where there are none."""
    compared = [case.comparison for case in cases if case.comparison is not None]
    return sum(compared, Comparison()) if compared else None


def environment() -> dict[str, str]:
    """Where results were made: versions and processor."""
    import platform
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": platform.python_version(), "machine": platform.machine(), "system": platform.system()}
    for package in ("refnet", "numpy", "torch"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
