"""What the yardstick asks of an engine, and asking it.

An engine may raise anything, answer anything, and write into whatever it is given: that costs it its own answer, and
reaches nobody else.
"""

from __future__ import annotations

import ctypes
import sys
import time
import traceback
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from functools import cache

import numpy as np

from parity.budget.formats import Profile
from parity.records.record import VJP, Answer, Array, Optimize, Record, Train, Unsupported, lent


class Engine:
    """Something that computes gradients and updates.

    Subclass it and answer the kinds of record that it can; see `parity.records.record` for the names and shapes of the
    answers, which are NumPy arrays of the record's dtype. What it cannot do, it says by raising `Unsupported`. What it
    writes into a record reaches nobody else; into inputs, upstream gradients and targets it must write nothing.

    Attributes:
        name: what it goes by in results; `--engine` gives it the name it was asked for by.
        profiles: by dtype, how it computes, where that is not everything in the dtype and sums in any order: as
            `parity.budget.formats.Profile.parse` reads it.
    """

    name: str = ""
    profiles: Mapping[str, str] = {}

    def profile(self, dtype: str) -> Profile:
        """How the engine computes in `dtype`: as `computing` says."""
        return stated(self.computing(dtype))

    def computing(self, dtype: str) -> str:
        """How the engine computes in `dtype`, as `parity.budget.formats.Profile.parse` reads it: as `profiles` says."""
        return self.profiles.get(dtype, dtype)

    def vjp(self, record: VJP) -> Answer:
        """Answer a VJP record."""
        raise Unsupported("no vjp")

    def optimize(self, record: Optimize) -> Answer:
        """Answer an Optimize record."""
        raise Unsupported("no optimize")

    def train(self, record: Train) -> Answer:
        """Answer a Train record."""
        raise Unsupported("no train")

    def keeps_no(self, record: Optimize) -> Collection[str]:
        """The state of the record's optimizer that it has none of, by torch's names: it is not judged."""
        return ()


def stated(text: str) -> Profile:
    """The profile that a text says, see `parity.budget.formats.Profile.parse`."""
    return Profile.parse(text)


@dataclass
class Reply:
    """What came of asking an engine.

    Attributes:
        profile, answer: how it computes, and what it answers; None where it does not.
        further: its answers to the further records, by their number; None where it does not answer those.
        unsupported, failure: why there is no answer. traceback: of what it raised.
        changed: which inputs are no more what they were. unsteady: which tensors are others when it is asked again.
        unkept: the optimizer's state that it says it keeps none of.
        further_unsupported: why there is none to the further records.
        seconds: how long it took.
    """

    profile: Profile | None = None
    answer: Answer | None = None
    further: Mapping[int, Answer] | None = None
    unsupported: str = ""
    failure: str = ""
    traceback: str = ""
    changed: tuple[str, ...] = ()
    unsteady: tuple[str, ...] = ()
    unkept: tuple[str, ...] = ()
    further_unsupported: str | None = None
    seconds: float = 0.0


def ask(engine: Engine, record: Record, further: Mapping[int, Record], again: Record | None = None) -> Reply:
    """Ask an engine, which may raise anything: it has failed the case then, and the run goes on.

    Args:
        again: the record once more, where the engine is to be asked twice.
    """
    with own_arithmetic():
        return _ask(engine, record, further, again)


def _ask(engine: Engine, record: Record, further: Mapping[int, Record], again: Record | None) -> Reply:
    reply, start = Reply(), time.perf_counter()
    try:
        profile = engine.profile(record.dtype)
        if profile.storage.name != record.dtype:
            raise ValueError(f"expected a profile that stores {record.dtype}, got {profile.storage.name}")
        if profile.unknown:
            raise ValueError(f"expected a profile of formats in parity.budget.formats.FORMATS, got {profile.unknown}")
        inputs = record.read_only()
        before = {name: _bits(a) for name, a in inputs.items()}
        answer = _answer(engine, lent(record))
        reply.changed = tuple(name for name, a in inputs.items() if _bits(a) != before[name])
        try:
            # What is kept serves the next engine too.
            reply.further = {k: _answer(engine, deepcopy(one)) for k, one in further.items()}
        except Unsupported as reason:
            reply.further_unsupported = one_line(reason)
        reply.profile, reply.answer = profile, answer
        reply.unkept = tuple(map(str, engine.keeps_no(record))) if isinstance(record, Optimize) else ()
        reply.seconds = time.perf_counter() - start
        if again is not None:
            other = _answer(engine, lent(again))
            reply.unsteady = tuple(
                name
                for name in dict.fromkeys((*answer, *other))
                if name not in answer or name not in other or _bits(answer[name]) != _bits(other[name])
            )
        return reply
    except Unsupported as reason:
        reply.unsupported = one_line(reason) or "no reason given"
    except (Exception, SystemExit) as error:
        reply.profile = reply.answer = None
        reply.failure = one_line(f"raised {type(error).__name__}: {error}")
        reply.traceback = _printable("".join(traceback.format_exception(error)))
    reply.seconds = time.perf_counter() - start
    return reply


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


def _bits(array: Array) -> tuple[str, tuple[int, ...], bytes]:
    return str(array.dtype), array.shape, array.tobytes()


@contextmanager
def own_arithmetic() -> Iterator[None]:
    """Whatever is set of floating-point arithmetic meanwhile (flushing of denormals, rounding) is put back."""
    library = _mathematics()
    # Large enough for any processor's; the longest known have 32 bytes.
    state = ctypes.create_string_buffer(256)
    if library is not None:
        library.fegetenv(state)
    errors = np.geterr()
    try:
        yield
    finally:
        np.seterr(**errors)
        if library is not None:
            library.fesetenv(state)


@cache
def _mathematics() -> ctypes.CDLL | None:
    """The library that has C's fenv.h; None where it is not to be had."""
    name = {"linux": "libm.so.6", "darwin": "libSystem.dylib"}.get(sys.platform)
    try:
        library = ctypes.CDLL(name) if name else None
    except OSError:
        return None
    return library if hasattr(library, "fegetenv") else None


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() or c == "\n" else " " for c in text)


def one_line(text: object) -> str:
    """Anyone's text as one printable line of at most 300 characters, which every form of report can hold."""
    words = "".join(c if c.isprintable() else " " for c in str(text)).split()
    line = " ".join(words)
    return line if len(line) <= 300 else f"{line[:297]}..."
