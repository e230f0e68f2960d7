"""The catalogue: every case in one order, and how to pick from it."""

from __future__ import annotations

import re
from difflib import get_close_matches
from fnmatch import fnmatchcase

from parity.families.case import DTYPES, FAMILIES, Case, Draw, OptimizeCase, TrainCase, VJPCase, group, records
from parity.families.nn.activation import cases as activation
from parity.families.nn.batchnorm import cases as normalization
from parity.families.nn.conv import cases as conv
from parity.families.nn.cross_entropy import cases as cross_entropy
from parity.families.nn.dropout import cases as dropout
from parity.families.nn.linear import cases as linear
from parity.families.nn.loss import cases as loss
from parity.families.nn.rnn import cases as rnn
from parity.families.optim.sgd import cases as optim
from parity.families.whole.network import cases as network
from parity.families.whole.per_sample import cases as per_sample
from parity.families.whole.training import cases as training
from parity.records.record import UsageError

__all__ = [
    "DTYPES",
    "FAMILIES",
    "Case",
    "Draw",
    "OptimizeCase",
    "TrainCase",
    "VJPCase",
    "catalogue",
    "group",
    "records",
    "select",
]


def catalogue() -> tuple[Case, ...]:
    """Every case."""
    return (
        *linear.CASES,
        *activation.CASES,
        *loss.CASES,
        *cross_entropy.CASES,
        *normalization.CASES,
        *dropout.CASES,
        *conv.CASES,
        *rnn.CASES,
        *network.CASES,
        *per_sample.CASES,
        *optim.CASES,
        *training.CASES,
    )


def select(pattern: str) -> tuple[Case, ...]:
    """The cases whose name has `pattern` in it, or, with `*`, `?` or `[`, is of that form, in upper or lower case.

    Where no name does, `and`, `or` and `not` join several patterns, `not` binding most and `or` least.

    Raises:
        UsageError: no case is meant.
    """
    cases = catalogue()
    wanted = pattern.strip().lower()
    found = tuple(case for case in cases if _meant(wanted, case.name))
    found = found or tuple(case for case in cases if _joined(wanted, case.name))
    if not found:
        names = sorted({name.lower(): name for case in cases for name in (case.name, group(case))}.items())
        near = [dict(names)[name] for name in get_close_matches(wanted, dict(names), n=3, cutoff=0.5)]
        hint = f"; near it: {', '.join(near)}" if near else ""
        raise UsageError(f"expected a pattern that is part of a case's name (parity run --list), got {pattern!r}{hint}")
    return found


def _meant(pattern: str, name: str) -> bool:
    name = name.lower()
    return fnmatchcase(name, pattern) if re.search(r"[*?[]", pattern) else pattern in name


def _joined(pattern: str, name: str) -> bool:
    return any(
        all(_unless(term, name) for term in re.split(r"\s+and\s+", part)) for part in re.split(r"\s+or\s+", pattern)
    )


def _unless(term: str, name: str) -> bool:
    inner = re.sub(r"^not\s+", "", term)
    return not _unless(inner, name) if inner != term else _meant(term, name)
