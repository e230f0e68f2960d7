"""All that there is to say about the worked example, gathered once for the terminal and for JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from parity.example.certified_example import Certified, load
from parity.example.digits import exact
from parity.example.engine_runs import Run, train, train_all
from parity.example.perceptron import BUG, WEIGHTS
from parity.example.provenance import Finding, findings, words
from parity.truth.value import Truth


@dataclass(frozen=True)
class Moved:
    """The article's rule of signs, tried on one weight.

    Where the gradient is positive, a smaller weight lowers the error, and the other way round.

    Attributes:
        weight: its name. gradient: dE/dw. smaller, larger: the error with the weight made smaller, and larger, by MOVE.
        error: the error between them.
    """

    weight: str
    gradient: Truth
    smaller: Truth
    error: Truth
    larger: Truth

    @property
    def holds(self) -> bool:
        smaller, error, larger = exact(self.smaller), exact(self.error), exact(self.larger)
        return smaller < error < larger if exact(self.gradient) > 0 else smaller > error > larger


@dataclass(frozen=True)
class Content:
    """What both outputs show.

    Attributes:
        dtype: the engines' format.
        runs: their trainings by the correct recipe. missing: why an engine has none.
        bug: refnet made to follow the recipe with the bug.
    """

    certified: Certified
    dtype: str
    runs: Mapping[str, Run]
    missing: Mapping[str, str]
    bug: Run
    findings: tuple[Finding, ...]
    words: Mapping[str, str]
    moved: tuple[Moved, ...]


def gather(dtype: str = "float64") -> Content:
    """Load what is certified, train the engines, and find what there is to find.

    Raises:
        UsageError: no such dtype; the kept file is refused.
    """
    certified = load()
    runs, missing = train_all(dtype)
    bug = train("refnet", dtype, BUG)
    return Content(
        certified, dtype, runs, missing, bug, findings(certified), words(certified), rule_of_signs(certified)
    )


def rule_of_signs(certified: Certified) -> tuple[Moved, ...]:
    """Each weight moved both ways, in certified values."""
    E, errors = certified.figure("E"), certified.truth("moved.E")
    return tuple(
        Moved(weight, certified.figure(f"dE/d{weight}"), errors[k, 0], E, errors[k, 1])
        for k, weight in enumerate(WEIGHTS)
    )
