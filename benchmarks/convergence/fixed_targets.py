"""The targets: of each problem a loss on the full training set, fixed once, that the runs of every study are timed to.

A target that followed from a study's own arms would be another one in every study, and so would the regime that comes
first. These come from the pilot runs of one study with many arms, in which no final run took part: the target is the
largest loss that an arm came to at its own rate, in the median over the pilot seeds. So every arm can get there.
`fixed_targets.json` keeps those pilot runs' rates and final losses beside the target that they give.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.convergence.arms import core
from benchmarks.convergence.order_statistics import band
from benchmarks.convergence.problems import load

if TYPE_CHECKING:
    from benchmarks.convergence.recorded_study import RecordedStudy

FILE = Path(__file__).with_name("fixed_targets.json")


@cache
def kept() -> Mapping[str, Any]:
    """What the file holds, by problem."""
    problems: Mapping[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    return problems


def of(problem: str) -> float:
    """The target of a problem; NaN if none was fixed yet."""
    return float(kept()[problem]["target"]) if problem in kept() else math.nan


def from_pilots(study: RecordedStudy) -> dict[str, Any]:
    """What the sweep of a study makes of its problems, as the file holds it.

    Raises:
        ValueError: the study lacks one of the three regimes, or an arm diverges at its own rate.
    """
    found = {}
    for problem in study.problems:
        rates = study.rows("rates", problem=problem)
        if missing := [arm.name for arm in core(load(problem)) if arm.name not in set(rates["arm"])]:
            raise ValueError(f"{problem}: expected a study of all three regimes, found none of {missing[0]}")
        pilots = {}
        for arm, rate in zip(rates["arm"], map(float, rates["rate"]), strict=True):
            runs = study.rows("sweep", problem=problem, arm=arm, rate=rate)
            losses = zip(runs["seed"], runs["final_train_loss"], strict=True)
            pilots[arm] = {"rate": rate, "final_train_losses": {str(seed): float(loss) for seed, loss in losses}}
        found[problem] = {"iterations": study.iterations, "target": target(pilots), "pilots": pilots}
    return found


def target(pilots: Mapping[str, Any]) -> float:
    """The largest of the arms' medians.

    Raises:
        ValueError: one of them is not finite.
    """
    largest = max(band(list(of_arm["final_train_losses"].values())).median for of_arm in pilots.values())
    if not math.isfinite(largest):
        raise ValueError(f"expected pilot runs that converge, got a median final loss of {largest}")
    return largest


def text(problems: Mapping[str, Any]) -> str:
    return json.dumps(problems, indent=1) + "\n"
