"""A known mistake (or a harmless rewriting) as data. `parity.engines.faulty` is refnet with it built in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from parity.families.altered import Rules
from parity.records.definition import Moment, Patch
from parity.records.record import VJP, Answer, Optimize, Record, Train, Unsupported

__all__ = [
    "VJP",
    "Answer",
    "Fault",
    "Lift",
    "Optimize",
    "Patch",
    "Steps",
    "Train",
    "Unsupported",
    "as_stored",
    "of",
    "replaced",
    "together",
]

Lift = Callable[[Any], Any]
Steps = Iterator[Moment]


@dataclass(frozen=True)
class Fault:
    """A mistake that somebody made, in a form in which it can be made again; in the dictionary of rewritings, none.

    How it is made, any of:
        patches: of refnet's own modules or optimizer, by type. The mistake then runs in every arithmetic.
        rules: operations of the arithmetic that go otherwise, with floats and with budgets.
        computes: a dtype in which all is computed; the answer is converted to the one asked for.
        ask: what the engine answers in place of the request.
        reply: what it says in place of the answer.
        train: a training loop in place of `parity.records.definition.train`.

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
    patches: Mapping[str, Patch] = field(default_factory=dict, repr=False)
    rules: Rules = field(default_factory=dict, repr=False)
    computes: str = ""
    ask: Callable[[VJP], VJP] | None = field(default=None, repr=False)
    reply: Callable[[Answer], Answer] | None = field(default=None, repr=False)
    train: Callable[[Train, Lift], Steps] | None = field(default=None, repr=False)
    types: tuple[str, ...] = ()
    dtypes: tuple[str, ...] = ("float64", "float32")

    def touches(self, record: Record) -> bool:
        """Whether the mistake can be made at all in answering this record."""
        return self.bears_on(record) and not (self.ask and isinstance(record, VJP) and self.ask(record) is record)

    def bears_on(self, record: Record) -> bool:
        """Whether it can be made in a record of this kind, with these types, in this dtype."""
        if isinstance(record, Train) or self.train:
            of_type = not self.types or not record.types().isdisjoint(self.types)
            return isinstance(record, Train) and self.train is not None and of_type
        own = self.patches or self.types
        # Mistakes of no type in particular are made in answering any VJP.
        if not (any(kind in own for kind in record.types()) if own else isinstance(record, VJP)):
            return False
        return record.dtype in self.dtypes


def replaced(method: str, by: Callable[..., Any]) -> Patch:
    """The patch that puts `by(module, right, *args)` in the place of a method; `right` is the method as it was."""

    def patch(module: Any) -> None:
        setattr(module, method, partial(by, module, getattr(module, method)))

    return patch


def as_stored(X: Any) -> Any:
    """X as one reads it who walks through memory and knows nothing of strides."""
    strides = getattr(X, "x", X).strides
    order = sorted(range(len(strides)), key=lambda k: -strides[k])
    if order == list(range(len(strides))) or min(strides, default=0) <= 0:
        raise Unsupported("the input is stored in the order of its axes")
    return X.transpose(order).reshape(*X.shape)


def together(first: Fault, second: Fault) -> Fault:
    """Two mistakes of refnet's own lines, the second made in what the first has changed."""

    def both(kind: str) -> Patch:
        def patch(module: Any) -> None:
            for fault in (first, second):
                if kind in fault.patches:
                    fault.patches[kind](module)

        return patch

    return Fault(
        f"{first.name}, and {second.name}",
        f"{first.what}; {second.what}",
        f"{first.reveal}; {second.reveal}",
        f"{first.source}; {second.source}",
        {kind: both(kind) for kind in {**first.patches, **second.patches}},
    )


def of(kind: str, *rows: tuple[str, str, str, str, Patch]) -> tuple[Fault, ...]:
    """Mistakes of one class: for each its name, what, reveal, source and patch."""
    return tuple(Fault(*row[:4], {kind: row[4]}) for row in rows)
