"""How many mutants of refnet the catalogue kills, class by class, in worker processes."""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from parity.engines import mutants
from parity.engines.mutants import Mutant
from parity.families.listing import catalogue
from parity.run import pool
from parity.vectors import catalogue_answers
from parity.verdict.score import killed

KILLED, EXCUSED_AT_MOST = 0.98, 0.05
"""The part of a class's mutants, the excused apart, that must be killed, and the part of all that may be excused."""

EXCUSED = {
    "ReLU ReLU.forward: X > 0 -> X >= 0": "the slope 1 at the kink is a listed convention",
    "L1Loss L1Loss.forward: D < 0 -> D <= 0": "where D is 0 the condition around it has decided already",
    "L1Loss L1Loss.forward: D > 0 -> D >= 0": "the slope 1 at the kink is a listed convention",
    "Linear Linear.backward: dY.reshape(-1, dY.shape[-1]) -> dY.reshape(-2, dY.shape[-1])": "NumPy takes any negative "
    "size for the open one",
    "Linear Linear.backward: X.reshape(-1, X.shape[-1]) -> X.reshape(-2, X.shape[-1])": "NumPy takes any negative size "
    "for the open one",
    "CrossEntropyLoss CrossEntropyLoss.forward: np.arange(X.shape[c]).reshape(-1, *(1,) * (X.ndim - 2)) -> "
    "np.arange(X.shape[c]).reshape(-2, *(1,) * (X.ndim - 2))": "NumPy takes any negative size for the open one",
    "Dropout Dropout.forward: special.lift(1.0, X) -> special.lift(2.0, X)": "every element is dropped, and 0 / 2 is 0",
    "BatchNorm1d BatchNorm1d.forward: self.eps > 0 -> self.eps >= 0": "only decides what is refused",
    "BatchNorm1d BatchNorm1d.forward: N > 0 -> N >= 0": "an empty batch has no element in which it could show",
    "BatchNorm1d BatchNorm1d.forward: max(N, 1) -> max(N, 2)": "one sample is refused, and sums of none are 0",
    "BatchNorm1d BatchNorm1d.backward: max(N, 1) -> max(N, 2)": "one sample is refused, and sums of none are 0",
    "BCELoss BCELoss.forward: X > 0 -> X >= 0": "log 0 is below the clamp too",
    "BCELoss BCELoss.forward: X < 1 -> X <= 1": "log 0 is below the clamp too",
    "BCELoss BCELoss.forward: A > -100 -> A >= -100": "at the clamp both sides are the clamp",
    "BCELoss BCELoss.forward: B > -100 -> B >= -100": "at the clamp both sides are the clamp",
    "BCELoss BCELoss.forward: X < 1 -> X < 2": "log 0 is below the clamp too",
    "BCELoss BCELoss.forward:  for value in (0.0, 1.0, -100.0) ->  for value in (1.0, 1.0, -100.0)": "a value that is "
    "chosen only where the clamp replaces its logarithm",
    "BCELoss BCELoss.forward:  for value in (0.0, 1.0, -100.0) ->  for value in (0.0, 2.0, -100.0)": "a value that is "
    "chosen only where the clamp replaces its logarithm",
    "BCELoss BCELoss.backward: variance > floor -> variance >= floor": "at the floor both sides are the floor",
    "Conv2d Conv2d.forward: d * (k - 1) + 1 -> d * (k - 1) - 1": "only decides what is refused",
    "Conv2d Conv2d.forward: d * (k - 1) + 1 -> d * (k - 1) + 2": "only decides what is refused",
    "Conv2d Conv2d.forward: k - 1 -> k - 2": "only decides what is refused",
    "Conv2d _extend: size - 1 -> size + 1": "only decides what is refused",
}
"""Mutants that no answer can give away, by `Mutant.key`, each with the reason."""


@dataclass(frozen=True)
class Survival:
    """What became of the mutants of one class.

    Attributes:
        killed: which, and by what record. survived: which. excused: which, and why.
    """

    type: str
    killed: dict[str, str]
    survived: tuple[str, ...]
    excused: dict[str, str]

    @property
    def count(self) -> int:
        return len(self.killed) + len(self.survived) + len(self.excused)

    @property
    def share(self) -> float:
        """The killed part of those that are not excused; 1 where there are none."""
        judged = len(self.killed) + len(self.survived)
        return len(self.killed) / judged if judged else 1.0

    @property
    def ok(self) -> bool:
        return self.share >= KILLED


def known() -> tuple[str, ...]:
    """The classes that have mutants."""
    return mutants.classes()


def all_ok(found: Sequence[Survival], share: float = 1.0) -> bool:
    """Whether enough are killed in every class and, where all are judged, few enough are excused altogether."""
    excused = sum(len(s.excused) for s in found)
    return all(s.ok for s in found) and (share < 1 or excused <= EXCUSED_AT_MOST * sum(s.count for s in found))


def sample(name: str, share: float, seed: int) -> list[Mutant]:
    """This part of the mutants of a class, at least one where there is any: the same for the same seed."""
    made = mutants.mutants(name)
    chosen = random.Random(f"{seed}:{name}").sample(range(len(made)), math.ceil(share * len(made)))
    return [made[k] for k in sorted(chosen)]


def run(
    names: Sequence[str],
    dtype: str,
    share: float,
    seed: int,
    jobs: int,
    start: Callable[[int], object] = lambda total: None,
    done: Callable[[], object] = lambda: None,
) -> list[Survival]:
    """Judge a sample of the mutants of each of these classes on every case of the catalogue that has the class in it.

    Args:
        start: is told how many classes there are. done: is called as each ends.
    """
    start(len(names))
    found: dict[str, Survival] = {}

    def ended(name: str, survival: Survival | pool.Lost) -> None:
        if isinstance(survival, pool.Lost):
            raise RuntimeError(f"mutate: expected the mutants of {name} judged, got none: {survival.reason}")
        found[name] = survival
        done()

    pool.run(partial(_class, dtype, share, seed), list(names), jobs, ended)
    return [found[name] for name in names]


def _class(dtype: str, share: float, seed: int, name: str) -> Survival:
    """A worker's part: one class."""
    chosen = sample(name, share, seed)
    excused = [m for m in chosen if m.key in EXCUSED]
    judged = [m for m in chosen if m.key not in EXCUSED]
    faults = {str(m): mutants.fault(m) for m in judged}
    cases = [c for c in catalogue() if hasattr(c, "spec") and name in c.spec.types()]
    caught = killed(list(faults.values()), cases, catalogue_answers.truths, dtype)
    survived = tuple(text for text in faults if text not in caught)
    return Survival(name, caught, survived, {str(m): EXCUSED[m.key] for m in excused})


def to_json(found: Sequence[Survival], dtype: str, share: float, seed: int) -> str:
    """The results, to be kept."""
    document = {
        "format": "refnet-mutants",
        "version": 1,
        "dtype": dtype,
        "share": share,
        "seed": seed,
        "classes": [
            {
                "class": s.type,
                "mutants": s.count,
                "killed": len(s.killed),
                "survived": list(s.survived),
                "excused": s.excused,
                "killed by": dict(Counter(by.partition(",")[0] for by in s.killed.values())),
            }
            for s in found
        ],
    }
    return json.dumps(document, indent=1) + "\n"
