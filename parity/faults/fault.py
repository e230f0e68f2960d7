"""A known mistake (or a harmless rewriting) as data, and refnet with it built in as an engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import Any

import numpy as np

from parity import definition
from parity.budget import Budget, Profile
from parity.engines.base import Answer, Engine
from parity.engines.refnet import collect
from parity.faults.arithmetic import Altered, Rules, bare
from parity.records import VJP, Optimize, Record, Train

Lift = Callable[[Any], Any]
Steps = Iterator[definition.Moment]


@dataclass(frozen=True)
class Fault:
    """A mistake that somebody made, in a form in which it can be made again; in the dictionary of rewritings, none.

    How it is made, any of:
        patches: of refnet's own modules or optimizer, by type. The mistake then runs in every arithmetic.
        rules: operations of the arithmetic that go otherwise, with floats and with budgets.
        computes: a dtype in which all is computed; the answer is converted to the one asked for.
        ask: what the engine answers in place of the request.
        reply: what it says in place of the answer.
        train: a training loop in place of `definition.train`.

    Attributes:
        name: short, and unique. what: the faulty formula against the right one, in the letters of the code.
        reveal: the inputs that reveal it. source: where it was seen.
        types: the module or optimizer types that it bears on; of patches their own; empty for every VJP.
        dtypes: those in which it can be made and seen.
    """

    name: str
    what: str
    reveal: str
    source: str
    patches: Mapping[str, definition.Patch] = field(default_factory=dict, repr=False)
    rules: Rules = field(default_factory=dict, repr=False)
    computes: str = ""
    ask: Callable[[VJP], VJP] | None = field(default=None, repr=False)
    reply: Callable[[Answer], Answer] | None = field(default=None, repr=False)
    train: Callable[[Train, Lift], Steps] | None = field(default=None, repr=False)
    types: tuple[str, ...] = ()
    dtypes: tuple[str, ...] = ("float64", "float32")

    def touches(self, record: Record) -> bool:
        """Whether the mistake can be made at all in answering this record."""
        if isinstance(record, Train) or self.train:
            return isinstance(record, Train) and self.train is not None
        own = self.patches or self.types
        # Mistakes of no type in particular are made in answering any VJP.
        if not (any(kind in own for kind in record.spec.types()) if own else isinstance(record, VJP)):
            return False
        if record.dtype not in self.dtypes:
            return False
        return not (self.ask and isinstance(record, VJP) and self.ask(record) is record)

    def tensors(self, record: VJP | Optimize, lift: Lift) -> Any:
        """What `definition` gives for the record in the arithmetic of `lift`, with the mistake made."""
        if isinstance(record, VJP):
            asked = self._asked(record)
            found = definition.vjp(asked, partial(self._lifted, lift), self.patches)
            return {name: bare(t) for name, t in found.items()}
        series = definition.optimize(self._narrowed(record), partial(self._lifted, lift), self.patches)
        return {name: [bare(t) for t in s] for name, s in series.items()}

    def budget(self, record: VJP | Optimize, profile: Profile) -> Any:
        """The same in the arithmetic of budgets, for an engine of this profile."""
        own = Profile.of(self.computes) if self.computes else profile
        return self.tensors(record, lambda a: Budget.exact(a, own))

    def steps(self, record: Train, lift: Lift) -> Steps:
        """As `definition.train`, with the mistake made."""
        assert self.train is not None
        return self.train(record, lift)

    def engine(self) -> FaultyEngine:
        """refnet with the mistake built in."""
        return FaultyEngine(self)

    def _lifted(self, lift: Lift, array: Any) -> Any:
        return Altered(lift(array), self.rules) if self.rules else lift(array)

    def _asked(self, record: VJP) -> VJP:
        asked: VJP = self._narrowed(record)
        return self.ask(asked) if self.ask else asked

    def _narrowed(self, record: Any) -> Any:
        """The record with its floating-point arrays rounded to the dtype that is computed in."""
        if not self.computes:
            return record
        return replace(record, **{f.name: _cast(getattr(record, f.name), self.computes) for f in fields(record)})


def _cast(value: Any, dtype: str) -> Any:
    if isinstance(value, np.ndarray):
        # In the memory layout that it has.
        return value.astype(dtype) if value.dtype.kind == "f" else value
    if isinstance(value, Mapping):
        return {name: _cast(v, dtype) for name, v in value.items()}
    if isinstance(value, tuple):
        return tuple(_cast(v, dtype) for v in value)
    return value


class FaultyEngine(Engine):
    """refnet with a mistake built in."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self.name = f"refnet with: {fault.name}"

    def vjp(self, record: VJP) -> Answer:
        with np.errstate(all="ignore"):
            answer = {name: np.asarray(t) for name, t in self.fault.tensors(record, lambda a: a).items()}
        if self.fault.computes:
            answer = _cast(answer, record.dtype)
        return self.fault.reply(answer) if self.fault.reply else answer

    def optimize(self, record: Optimize) -> Answer:
        with np.errstate(all="ignore"):
            answer = collect(self.fault.tensors(record, np.copy))
        if self.fault.computes:
            answer = {name: t if name.startswith("update.") else t.astype(record.dtype) for name, t in answer.items()}
        return answer

    def train(self, record: Train) -> Answer:
        losses = np.empty(record.iterations, record.dtype)
        series: dict[str, list[Any]] = {}
        with np.errstate(all="ignore"):
            for k, loss, params, state in self.fault.steps(record, np.copy):
                for name, p in params.items():
                    series.setdefault(f"param.{name}", []).append(p.copy())
                for name, s in state.items() if k else ():
                    series.setdefault(f"state.{name}", []).append(s.copy())
                if loss is not None:
                    losses[k] = loss
        return {"loss": losses, **{name: np.stack(values) for name, values in series.items()}}


def replaced(method: str, by: Callable[..., Any]) -> definition.Patch:
    """The patch that puts `by(module, right, *args)` in the place of a method; `right` is the method as it was."""

    def patch(module: Any) -> None:
        setattr(module, method, partial(by, module, getattr(module, method)))

    return patch
