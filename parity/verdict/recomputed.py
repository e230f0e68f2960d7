"""A record computed again to compare an answer with: rightly, with a known mistake, and in narrower formats."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from itertools import islice, permutations
from typing import Any

import numpy as np

from parity.engines.faulty import FaultyEngine
from parity.families.fault import Fault, together
from parity.families.listing import FAULTS, weaker
from parity.records.record import VJP, Train, Unsupported
from parity.verdict.evaluation import Evaluation, Moment, Patches, Request, TrainingRequest
from parity.verdict.tensor import Answer
from refnet.arithmetic.array_like import Undecided

RAISED = (Unsupported, Undecided, ValueError, IndexError, TypeError, ZeroDivisionError)
"""What a mistake may raise where it can't be made."""

PAIRED = 12
"""How many mistakes are tried two at a time, at most."""

UPDATES = 3
"""How many updates of a training are followed in budgets at least: enough for the state of one to show in a later."""

FOLLOWED = 20
"""And at most, to the first that is wrong: a last batch that is smaller, or a parameter that is frozen, comes late."""


class Recomputed:
    """What was asked, computed again; each thing when it is asked for."""

    def __init__(self, request: Request) -> None:
        self.request, self.record = request, request.record

    @cached_property
    def right(self) -> Answer:
        """refnet's answer."""
        return FaultyEngine().answer(self.record)

    def mistakes(self) -> Iterator[Fault]:
        """The known mistakes that can be made in an answer to this record."""
        return (fault for fault in FAULTS if not fault.reply and fault.touches(self.record))

    def pairs(self, failing: Collection[str]) -> Iterator[Fault]:
        """Two mistakes at once, one made in what the other has changed, of those that change failing tensors alone."""
        yield from (together(*two) for two in permutations(islice(self._of_failing_alone(failing), PAIRED), 2))

    def _of_failing_alone(self, failing: Collection[str]) -> Iterator[Fault]:
        for fault in self.mistakes():
            if not fault.patches or fault.rules or fault.ask or fault.computes:
                continue
            try:
                own = self.answer(fault)
            except RAISED:
                continue
            changed = {
                name
                for name, right in self.right.items()
                if name not in own or not np.array_equal(own[name], right, equal_nan=True)
            }
            if changed and changed <= {*failing}:
                yield fault

    def answer(self, fault: Fault) -> Answer:
        """refnet's answer with the mistake made.

        Raises:
            Unsupported: the mistake can't be made here; or whatever a wrong formula raises.
        """
        return FaultyEngine(fault).answer(self.record)

    def by_rules(self, rules: Mapping[str, Callable[..., Any]]) -> Answer:
        """refnet's answer where some operations of the arithmetic, by name, go otherwise."""
        return FaultyEngine(Fault("other rules", "", "", "", rules=rules)).answer(self.record)

    def evaluations(self, fault: Fault, own: Answer) -> Iterator[dict[str, Evaluation]]:
        """The faulty formula in budgets; then with the rest of the network by each of the weaker formulas.

        Args:
            own: the answer with the mistake made.
        """
        yield self._evaluated(fault, own, fault.patches)
        if isinstance(self.record, VJP):
            for variant in weaker(self.record.types() - fault.patches.keys()):
                yield self._evaluated(fault, own, {**variant.patches, **fault.patches})

    def _evaluated(self, fault: Fault, own: Answer, patches: Patches) -> dict[str, Evaluation]:
        with np.errstate(all="ignore"):
            budgets = FaultyEngine(replace(fault, patches=patches)).budget(self.record, self.request.profile)
            said = self.request.in_answer(budgets)
        # Where no bound holds, what the engine with the mistake gives in its own format says how it overflows.
        return {
            name: Evaluation(np.where(np.isfinite(v.e), v.x, own[name]), v.e) if name in own else v
            for name, v in said.items()
        }


def trained(record: Train, fault: Fault | None = None) -> Answer:
    """refnet's answer to a training; with a mistake made, where one is given."""
    return (FaultyEngine(fault) if fault else FaultyEngine()).train(record)


class RecomputedTraining:
    """The first updates of a training, likewise."""

    def __init__(self, request: TrainingRequest) -> None:
        self.record, self.profile = request.record.first(FOLLOWED), request.profile

    def right(self) -> Iterator[Moment]:
        """By refnet's own lines, in budgets."""
        return FaultyEngine().budget_of_steps(self.record, self.profile)

    def mistakes(self, wrong: int) -> Iterator[tuple[Fault, Iterator[Moment]]]:
        """The known mistakes of the loop, or of what it trains, and the training by each.

        Args:
            wrong: the first update that is wrong, from 1. They are followed to the next one.
        """
        types, record = self.record.types(), self.record.first(max(UPDATES, wrong + 1))
        for fault in FAULTS:
            if fault.train or fault.patches.keys() & types:
                yield fault, FaultyEngine(fault).budget_of_steps(record, self.profile)
