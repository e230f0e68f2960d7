"""How many mutants of refnet the catalogue kills, class by class, in worker processes."""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from parity.engines import mutants
from parity.engines.mutants import Mutant
from parity.families.listing import catalogue
from parity.run import pool
from parity.vectors import catalogue_answers
from parity.verdict.score import killed

KILLED, EXCUSED_AT_MOST = 0.98, 0.05
"""The part of a class's mutants, the excused apart, that must be killed, and the part of all that may be excused."""

EXCUSED: dict[str, str] = json.loads(Path(__file__).with_name("excused_mutants.json").read_text(encoding="utf-8"))
"""Mutants that no answer can give away, by `Mutant.key`, each with the reason."""


DRAWN = ("Dropout/mask of seed 0, a draw of 1 - p", "Dropout/mask of seed 0, p 1")
"""Cases with the masks that torch's generator draws, seeded with 0: an engine that draws them itself gives the same."""


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
    return part(mutants.mutants(name), name, share, seed)


def part(made: Sequence[Mutant], name: str, share: float, seed: int) -> list[Mutant]:
    """This part of some mutants, in their order."""
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
    faults = {str(m): mutants.fault(m) for m in chosen}
    cases = [c for c in catalogue() if hasattr(c, "spec") and c.spec.types().intersection(mutants.bearers(name))]
    caught = killed(list(faults.values()), cases, catalogue_answers.truths, dtype)
    drawn = [c for c in cases if c.name in DRAWN]
    seen = [mutants.drawing(fault) for text, fault in faults.items() if text not in caught]
    caught |= killed(seen, drawn, catalogue_answers.truths, dtype)
    # Who is killed needs no excuse.
    left = {str(m): m.key for m in chosen if str(m) not in caught}
    survived = tuple(text for text, key in left.items() if key not in EXCUSED)
    return Survival(name, caught, survived, {text: EXCUSED[key] for text, key in left.items() if key in EXCUSED})


def to_json(found: Sequence[Survival], dtype: str, share: float, seed: int) -> str:
    """The results, to be kept."""
    document = {
        "format": "refnet-mutants",
        "version": 1,
        "dtype": dtype,
        "share": share,
        "seed": seed,
        "classes": [{"class": s.type, **figures(s)} for s in found],
    }
    return json.dumps(document, indent=1) + "\n"


def figures(found: Survival) -> dict[str, object]:
    """What is kept of the mutants of one class."""
    return {
        "mutants": found.count,
        "killed": len(found.killed),
        "survived": list(found.survived),
        "excused": found.excused,
        "killed by": dict(Counter(by.partition(",")[0] for by in found.killed.values())),
    }
