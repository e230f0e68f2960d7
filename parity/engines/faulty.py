"""refnet with a mistake (or a harmless rewriting) built in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from functools import partial
from typing import Any

import numpy as np

from parity.budget.array import Budget
from parity.budget.formats import Profile
from parity.engines.base import Engine
from parity.engines.refnet import collect, recorded
from parity.families.altered import Altered, bare
from parity.families.fault import Fault, Lift, Steps
from parity.records import definition
from parity.records.record import VJP, Answer, Optimize, Train

NO_FAULT = Fault("no mistake", "refnet as it is", "", "")


class FaultyEngine(Engine):
    """refnet with a mistake built in.

    Attributes:
        fault: the mistake.
    """

    def __init__(self, fault: Fault = NO_FAULT) -> None:
        self.fault = fault
        self.name = f"refnet with: {fault.name}"

    def answer(self, record: VJP | Optimize) -> Answer:
        """The answer to a record of either kind."""
        return self.vjp(record) if isinstance(record, VJP) else self.optimize(record)

    def vjp(self, record: VJP) -> Answer:
        with np.errstate(all="ignore"):
            answer = {name: np.asarray(t) for name, t in self.tensors(record, lambda a: a).items()}
        if self.fault.computes:
            answer = _cast(answer, record.dtype)
        return self.fault.reply(answer) if self.fault.reply else answer

    def optimize(self, record: Optimize) -> Answer:
        with np.errstate(all="ignore"):
            answer = collect(self.tensors(record, np.copy))
        if self.fault.computes:
            answer = {name: t if name.startswith("update.") else t.astype(record.dtype) for name, t in answer.items()}
        return answer

    def train(self, record: Train) -> Answer:
        with np.errstate(all="ignore"):
            return recorded(self.steps(record, np.copy))

    def tensors(self, record: VJP | Optimize, lift: Lift) -> Any:
        """What `definition` gives for the record in the arithmetic of `lift`, with the mistake made."""
        if isinstance(record, VJP):
            asked = self._asked(record)
            found = definition.vjp(asked, partial(self._lifted, lift), self.fault.patches)
            return {name: bare(t) for name, t in found.items()}
        series = definition.optimize(self._narrowed(record), partial(self._lifted, lift), self.fault.patches)
        return {name: [bare(t) for t in s] for name, s in series.items()}

    def budget(self, record: VJP | Optimize, profile: Profile) -> Any:
        """The same in the arithmetic of budgets, for an engine of this profile."""
        own = Profile.of(self.fault.computes) if self.fault.computes else profile
        return self.tensors(record, lambda a: Budget.exact(a, own))

    def steps(self, record: Train, lift: Lift) -> Steps:
        """As `definition.train`, with the mistake made."""
        if self.fault.train is None:
            return definition.train(record, lift, self.fault.patches)
        return self.fault.train(record, lift)

    def budget_of_steps(self, record: Train, profile: Profile) -> Steps:
        """The same in the arithmetic of budgets, for an engine of this profile."""
        return self.steps(record, lambda a: Budget.exact(a, profile))

    def _lifted(self, lift: Lift, array: Any) -> Any:
        return Altered(lift(array), self.fault.rules) if self.fault.rules else lift(array)

    def _asked(self, record: VJP) -> VJP:
        asked: VJP = self._narrowed(record)
        return self.fault.ask(asked) if self.fault.ask else asked

    def _narrowed(self, record: Any) -> Any:
        """The record with its floating-point arrays rounded to the dtype that is computed in."""
        if not self.fault.computes:
            return record
        return replace(record, **{f.name: _cast(getattr(record, f.name), self.fault.computes) for f in fields(record)})


def _cast(value: Any, dtype: str) -> Any:
    if isinstance(value, np.ndarray):
        # In the memory layout that it has.
        return value.astype(dtype) if value.dtype.kind == "f" else value
    if isinstance(value, Mapping):
        return {name: _cast(v, dtype) for name, v in value.items()}
    if isinstance(value, tuple):
        return tuple(_cast(v, dtype) for v in value)
    return value
