"""What the yardstick asks of an engine, and asking it.

An engine may raise anything, answer anything, and write into whatever it is given: that costs it its own answer, and
reaches nobody else.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, fields, replace

import numpy as np

from parity.budget.array import Profile
from parity.records.record import VJP, Answer, Optimize, Record, Spec, Train, Unsupported


class Engine:
    """Something that computes gradients and updates.

    Subclass it and answer the kinds of record that it can; see `parity.records.record` for the names and shapes of the
    answers, which are NumPy arrays of the record's dtype. What it cannot do, it says by raising `Unsupported`. A record
    is the engine's own: what is written into it reaches nobody else.

    Attributes:
        name: what it goes by in results; `--engine` gives it the name it was asked for by.
    """

    name: str = ""

    def profile(self, dtype: str) -> Profile:
        """How the engine computes in `dtype`: by default, everything in it."""
        return Profile.of(dtype)

    def vjp(self, record: VJP) -> Answer:
        """Answer a VJP record."""
        raise Unsupported("no vjp")

    def optimize(self, record: Optimize) -> Answer:
        """Answer an Optimize record."""
        raise Unsupported("no optimize")

    def train(self, record: Train) -> Answer:
        """Answer a Train record."""
        raise Unsupported("no train")


@dataclass
class Reply:
    """What came of asking an engine.

    Attributes:
        profile, answer: how it computes, and what it answers; None where it does not.
        further: its answers to the further records, by their number; None where it does not answer those.
        unsupported, failure: why there is no answer. further_unsupported: why there is none to the further records.
        seconds: how long it took.
    """

    profile: Profile | None = None
    answer: Answer | None = None
    further: Mapping[int, Answer] | None = None
    unsupported: str = ""
    failure: str = ""
    further_unsupported: str | None = None
    seconds: float = 0.0


def ask(engine: Engine, record: Record, further: Mapping[int, Record]) -> Reply:
    """Ask an engine, which may raise anything: it has failed the case then, and the run goes on."""
    reply, start = Reply(), time.perf_counter()
    try:
        profile = engine.profile(record.dtype)
        if profile.storage.name != record.dtype:
            raise ValueError(f"expected a profile that stores {record.dtype}, got {profile.storage.name}")
        answer = _answer(engine, _lent(record))
        try:
            # What is kept serves the next engine too.
            reply.further = {k: _answer(engine, deepcopy(one)) for k, one in further.items()}
        except Unsupported as reason:
            reply.further_unsupported = one_line(reason)
        reply.profile, reply.answer = profile, answer
    except Unsupported as reason:
        reply.unsupported = one_line(reason) or "no reason given"
    except (Exception, SystemExit) as error:
        reply.failure = one_line(f"raised {type(error).__name__}: {error}")
    reply.seconds = time.perf_counter() - start
    return reply


def _lent(record: Record) -> Record:
    """The record with specs of its own, which a case gives to all its records, and an engine may take apart."""
    specs = {f.name: getattr(record, f.name) for f in fields(record)}
    return replace(
        record, **{name: deepcopy(v) for name, v in specs.items() if isinstance(v, Spec) or name == "groups"}
    )


def _answer(engine: Engine, record: Record) -> Answer:
    """An engine's answer as arrays of our own: what it writes into its own later changes nothing.

    Raises:
        TypeError: it is no dict of NumPy arrays of numbers.
    """
    match record:
        case VJP():
            answer: object = engine.vjp(record)
        case Optimize():
            answer = engine.optimize(record)
        case Train():
            answer = engine.train(record)
    if not isinstance(answer, Mapping):
        raise TypeError(f"expected a dict of NumPy arrays, got {type(answer).__name__}")
    for name, tensor in answer.items():
        if not isinstance(name, str):
            raise TypeError(f"expected names of tensors, got {name!r}")
        if not isinstance(tensor, (np.ndarray, np.generic)) or tensor.dtype.kind not in "biuf":
            kind = type(tensor).__name__ + (f" of {tensor.dtype}" if isinstance(tensor, np.ndarray) else "")
            raise TypeError(f"expected a NumPy array of numbers as {name}, got {kind}")
    return {one_line(name): np.array(tensor) for name, tensor in answer.items()}


def one_line(text: object) -> str:
    """Anyone's text as one printable line of at most 300 characters, which every form of report can hold."""
    words = "".join(c if c.isprintable() else " " for c in str(text)).split()
    line = " ".join(words)
    return line if len(line) <= 300 else f"{line[:297]}..."
