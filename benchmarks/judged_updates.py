"""Updates of two trainings in a row, refnet's and torch's, each held against what it should have been."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.budget.formats import Profile
from parity.records.record import Train, Undecided
from parity.verdict.answer import other_formulas
from parity.verdict.evaluation import Evaluation, Patches, TrainingRequest
from parity.verdict.table import is_caught
from parity.verdict.tensor import Enclosure, TensorVerdict, judge
from refnet.arithmetic.runs import Runs

Array = NDArray[Any]
Weights = dict[str, Array]

AT_ONCE = 128
"""Updates that are judged in one call: enough that its calls cost little beside its arithmetic."""


@dataclass
class Steps:
    """What one of the two has done in some updates in a row: weights and state before each and after the last."""

    losses: list[Array] = field(default_factory=list)
    weights: list[Weights] = field(default_factory=list)
    states: list[Weights] = field(default_factory=list)

    def keep(self, params: Mapping[str, Array], state: Mapping[str, Mapping[str, Array]]) -> None:
        self.weights.append({name: P.copy() for name, P in params.items()})
        self.states.append({f"{name}.{key}": np.array(a) for name, kept in state.items() for key, a in kept.items()})

    def answer(self, numbers: list[int]) -> Weights:
        """What an engine of parity would answer about these updates."""
        before, after = (_stacked([self.weights[k + more] for k in numbers]) for more in (0, 1))
        return {
            "loss": np.array([self.losses[k] for k in numbers]),
            **{f"update.{name}": a.astype(np.float64) - before[name] for name, a in after.items()},
            **{f"state.{name}": a for name, a in _stacked([self.states[k + 1] for k in numbers]).items()},
        }


@dataclass
class Judged:
    """What the enclosures of all updates so far say of one of the two."""

    share: float = 0.0
    failures: int = 0
    formulas: list[str] = field(default_factory=list)
    blind: int = 0
    seen: int = 0
    undecided: int = 0

    def hear(self, said: TensorVerdict, enclosure: Enclosure) -> None:
        """Count what is said of a tensor of some updates."""
        if is_caught(said.verdict):
            self.failures += 1
        elif said.formula:
            self.formulas = sorted({*self.formulas, said.formula})
        else:
            self.share = max(self.share, said.share)
        if said.name.startswith("update."):
            self.blind += round(said.blind_share * enclosure.bound.size)
            self.seen += enclosure.bound.size


@dataclass(frozen=True)
class Stretch:
    """Updates in a row of both, as parity asks for them, with the masks that dropout drew.

    Attributes:
        both: what is known of each so far, with its updates.
    """

    record: Train
    both: tuple[tuple[Judged, Steps], tuple[Judged, Steps]]
    masks: list[Array]

    def judge(self) -> None:
        """Hold every update against what it should have been: those of one size of batch at once, whosever they are."""
        sizes = [len(batch) for batch in self.record.batches]
        alike: dict[tuple[int, bool], list[tuple[int, int]]] = {}
        for k, size in enumerate(sizes):
            for whose, (_, steps) in enumerate(self.both):
                # The very first one makes the state.
                alike.setdefault((size, bool(steps.states[k])), []).append((whose, k))
        for runs in alike.values():
            for start in range(0, len(runs), AT_ONCE):
                self._see(runs[start : start + AT_ONCE])

    def _see(self, runs: list[tuple[int, int]]) -> None:
        try:
            truth = self._enclosed(runs, {})
        except Undecided:
            if len(runs) == 1:
                self.both[runs[0][0]][0].undecided += 1
                return
            middle = len(runs) // 2
            self._see(runs[:middle])
            self._see(runs[middle:])
            return
        for whose, (judged, steps) in enumerate(self.both):
            places = np.array([place for place, run in enumerate(runs) if run[0] == whose], int)
            if not len(places):
                continue
            own = [runs[place] for place in places]
            answer = steps.answer([k for _, k in own])

            def enclosed(patches: Patches, own: list[tuple[int, int]] = own) -> dict[str, Enclosure]:
                return {name: Enclosure.around(v.x, v.e) for name, v in self._enclosed(own, patches).items()}

            others = other_formulas(self.record.types(), enclosed, enclosed)
            for name, v in truth.items():
                enclosure = Enclosure.around(v.x[places], v.e[places])
                judged.hear(judge(name, answer[name], enclosure, self.record.dtype_of(name), others), enclosure)

    def _enclosed(self, runs: list[tuple[int, int]], patches: Patches) -> dict[str, Evaluation]:
        """What encloses these updates, each from its own weights and state."""
        numbers = np.array([k for _, k in runs])

        def patch(module: Any) -> None:
            right, kept = module.forward, Runs(np.stack([self.masks[k] for k in numbers]))

            def forward(input: Any) -> Any:
                output, saved = right(input, kept)
                return output, saved._replace(given=False)

            module.forward = forward

        own = self.record.of_updates(numbers)
        before = _stacked([self.both[whose][1].weights[k] for whose, k in runs])
        state = _stacked([self.both[whose][1].states[k] for whose, k in runs])
        request = TrainingRequest(own, Profile.of(own.dtype))
        return request.around_updates(before, state, np.stack(own.batches), {**patches, "Dropout": patch})


def _stacked(rows: list[Weights]) -> Weights:
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}
