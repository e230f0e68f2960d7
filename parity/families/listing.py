"""The table of families, and what they list: cases, mistakes, rewritings, other formulas, transcriptions.

A family is a folder with some of four files: `cases.py` lists CASES; `faults.py` lists FAULTS; `formulas.py` lists
WEAKER, CONVENTIONS, DERIVATIVES and NO_OTHER; `transcription.py` lists LAYERS or OPTIMIZERS. A new family is one line
here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Set
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from parity.families import conditions
from parity.families.case import Case, group, selected
from parity.families.fault import Fault
from parity.families.formula import Variant, bearing_on
from parity.families.large import LARGE
from parity.families.reported import REPORTED
from parity.families.whole.arithmetic import rewritings
from parity.records.definition import Patch

__all__ = [
    "CONVENTIONS",
    "DERIVATIVES",
    "FAULTS",
    "FILES",
    "LARGE",
    "NO_OTHER",
    "REPORTED",
    "REWRITINGS",
    "TABLE",
    "WEAKER",
    "Case",
    "Fault",
    "Variant",
    "catalogue",
    "conventions",
    "select",
    "transcriptions",
    "weaker",
]

TABLE = (
    "nn.linear",
    "nn.container",
    "nn.activation",
    "nn.activation_smooth",
    "nn.activation_exponential",
    "nn.activation_piecewise",
    "nn.rrelu",
    "nn.activation_softmax",
    "nn.activation_gated",
    "nn.loss",
    "nn.cross_entropy",
    "nn.linear_cross_entropy",
    "nn.likelihood",
    "nn.margin",
    "nn.distance",
    "nn.batchnorm",
    "nn.instancenorm",
    "nn.normalization",
    "nn.rms_norm",
    "nn.dropout",
    "nn.conv",
    "nn.rnn",
    "nn.sparse",
    "nn.attention",
    "nn.rotary",
    "nn.multihead",
    "nn.graph",
    "nn.transformer",
    "nn.transformer_stack",
    "whole.network",
    "whole.per_sample",
    "optim.common",
    "optim.sgd",
    "optim.adam",
    "optim.adamw",
    "optim.nadam",
    "optim.radam",
    "optim.adamax",
    "optim.adagrad",
    "optim.adadelta",
    "optim.rmsprop",
    "optim.rprop",
    "optim.asgd",
    "optim.adafactor",
    "optim.muon",
    "optim.lion",
    "optim.sparse_adam",
    "optim.lbfgs",
    "whole.arithmetic",
    "whole.training",
)
"""Every family, in the order in which results show them."""

FILES = ("cases", "faults", "formulas", "transcription")


@cache
def _file(family: str, file: str) -> ModuleType | None:
    name = f"parity.families.{family}.{file}"
    return import_module(name) if find_spec(name) else None


def _listed(file: str, name: str, empty: Any = ()) -> Iterator[Any]:
    """What each family's file lists under that name, in the table's order."""
    return (getattr(_file(family, file), name, empty) for family in TABLE)


OWN: tuple[Case, ...] = tuple(case for cases in _listed("cases", "CASES") for case in cases)
"""The cases that families list."""

_ORDER = list(dict.fromkeys(map(group, OWN)))

CASES: tuple[Case, ...] = tuple(sorted((*OWN, *conditions.of(OWN)), key=lambda case: _ORDER.index(group(case))))
"""All cases, with those that the conditions make for every class, group by group."""

FAULTS: tuple[Fault, ...] = tuple(fault for faults in _listed("faults", "FAULTS") for fault in faults)
"""The dictionary of known mistakes."""

REWRITINGS: tuple[Fault, ...] = rewritings.REWRITINGS
"""Harmless rewritings, of which none may be flagged."""

WEAKER: tuple[Variant, ...] = tuple(variant for listed in _listed("formulas", "WEAKER") for variant in listed)
"""Formulas that are equal in exact arithmetic and lose digits somewhere."""

CONVENTIONS: tuple[Variant, ...] = tuple(variant for listed in _listed("formulas", "CONVENTIONS") for variant in listed)
"""Documented other choices, where a formula has no derivative or another is used on purpose."""

DERIVATIVES: Mapping[str, Patch] = {
    kind: patch for listed in _listed("formulas", "DERIVATIVES", {}) for kind, patch in listed.items()
}
"""Where refnet follows a convention that is not its formula's derivative: the derivative, as the tape finds it."""


NO_OTHER: Mapping[str, str] = {
    kind: reason for listed in _listed("formulas", "NO_OTHER", {}) for kind, reason in listed.items()
}
"""The classes of which no weaker formula and no other convention is known, and why."""


def catalogue() -> tuple[Case, ...]:
    """Every case."""
    return CASES


def select(pattern: str, large: bool = False) -> tuple[Case, ...]:
    """The cases, or the large ones, whose name has `pattern` in it; see `parity.families.case.selected`."""
    return selected(LARGE if large else CASES, pattern)


def weaker(types: Set[str]) -> list[Variant]:
    """The weaker formulas for modules of these types: each alone, then those that one engine uses, all at once."""
    return bearing_on(types, WEAKER)


def conventions(types: Set[str]) -> list[Variant]:
    """The documented other choices for modules of these types."""
    return [v for v in CONVENTIONS if v.patches.keys() & types]


def transcriptions(name: str) -> dict[str, Callable[..., Any]]:
    """Every family's transcriptions of LAYERS or of OPTIMIZERS, by class; mpmath is first needed here."""
    return {kind: written for listed in _listed("transcription", name, {}) for kind, written in listed.items()}
