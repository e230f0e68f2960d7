"""A captured update beside the plain one, on the same values: whether every bit is the same.

The values of one training say little: with a first gradient of 0, or sums of few terms, a fault need not show. So an
update is also tried on other batches, on parameters moved at random, and at a learning rate so large that a difference
in the last bit of a gradient is not lost when it is added to a parameter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refnet.arithmetic.runs import Runs, plain
from refnet.generator import Generator
from refnet.train.capture.recorder import Interrupted, Uncapturable, never
from refnet.train.capture.storage import Storage
from refnet.train.step import Update

TRIALS = 6
"""Updates that a step of a small network is tried on; of a large one, whose many numbers show a fault at once, one.
Where an update of few parameters computes very many numbers, it is two, one of them at the large rate."""

MANY = 2**14
"""Numbers in all parameters from which on a network is large."""

VERY_MANY = 2**20
"""Numbers that an update computes, from which on it is tried twice."""

LARGE_RATE = 2.0**40
"""What the learning rate is multiplied by in every second trial."""


@dataclass(frozen=True, eq=False)
class Captured:
    """One way in which a captured update is done.

    Attributes:
        run: does the update on a batch, and gives its loss.
        inside: what is computed in between.
        memory: what it computes in, where it may find nothing that another way has left.
    """

    run: Callable[[Any], Any]
    inside: Sequence[NDArray[Any]]
    memory: Sequence[NDArray[np.uint8]] = ()


class Comparison:
    """Compares updates on some values with the plain one, and puts all values back.

    Args:
        rates: the cells from which a captured update takes the groups' learning rates.
        generators: those that an update draws from.
        interrupted: whether to stop trying.
    """

    def __init__(
        self,
        update: Update,
        storage: Storage,
        rates: Sequence[NDArray[Any]],
        generators: Iterable[Generator],
        interrupted: Callable[[], bool] = never,
    ) -> None:
        self._update, self._storage, self._rates, self._generators = update, storage, rates, list(generators)
        self._interrupted = interrupted

    def trials(self, batch: Any, ways: Sequence[Captured], computed: int) -> list[bool]:
        """Whether each of the ways agrees with the plain update, and with the first way in what it computes in
        between, on values of many kinds. The arrays must have left for their homes; they are where they were again.

        `computed`: how many numbers an update computes.
        """
        draws = np.random.default_rng(0)
        agree = [True] * len(ways)
        numbers = sum(home.size for home in self._storage.parameters)
        trials = 2 if computed >= VERY_MANY else TRIALS
        true, states, rates = self._storage.contents(), self._states(), [cell.copy() for cell in self._rates]
        groups = self._update.opt.param_groups
        own_rates = [group["lr"] for group in groups]
        try:
            with np.errstate(all="ignore"):
                for trial in range(trials if numbers < MANY else 1):
                    if self._interrupted():
                        raise Interrupted
                    self._storage.restore(true)
                    self._move(draws)
                    factor = LARGE_RATE if trial % 2 else 1.0
                    for cell, rate, group, own in zip(self._rates, rates, groups, own_rates, strict=True):
                        large = rate * factor
                        cell[...] = np.where(np.isfinite(large), large, rate)
                        # Past the check of the group: a schedule may go below 0.
                        dict.update(group, lr=_like(own, cell))
                    self._compare(_other_batch(batch, len(self._update.inputs), draws), ways, agree)
        finally:
            self._storage.restore(true)
            self._restore(states)
            for cell, rate, group, own in zip(self._rates, rates, groups, own_rates, strict=True):
                cell[...] = rate
                dict.update(group, lr=own)
            self._storage.away()
            self._storage.settle()
        return agree

    def real(self, batch: Any, ways: Sequence[Captured]) -> tuple[Any, list[bool]]:
        """The plain update of the training, which counts, and whether each of the ways agrees with it."""
        before, states = self._storage.contents(), self._states()
        results = [self._result(way, batch, before, states)[0] for way in ways]
        self._storage.settle()
        value = self._update(batch)
        left = [value, *self._storage.originals()]
        return value, [result.agrees(left) for result in results]

    def _compare(self, batch: Any, ways: Sequence[Captured], agree: list[bool]) -> None:
        before, states = self._storage.contents(), self._states()
        results = []
        for k, way in enumerate(ways):
            for array in way.memory:
                array.fill(255)
            result, inside = self._result(way, batch, before, states)
            results.append(result)
            if k == 0:
                first = Snapshot(inside)
            else:
                agree[k] = agree[k] and first.agrees(inside)
        self._storage.settle()
        try:
            value = self._update(batch)
        except Exception:
            return  # This batch is refused when its turn comes.
        finally:
            self._restore(states)
        left = [value, *self._storage.originals()]
        for k, result in enumerate(results):
            agree[k] = agree[k] and result.agrees(left)

    def _result(
        self, way: Captured, batch: Any, before: Sequence[NDArray[Any]], states: Sequence[NDArray[np.uint8]]
    ) -> tuple[Snapshot, Sequence[NDArray[Any]]]:
        """What an update leaves behind, which is then taken back; and what it has computed in between, where it is."""
        try:
            # The plain update warns for both.
            with np.errstate(all="ignore"):
                value = np.array(way.run(batch))
            return Snapshot([value, *self._storage.homes()]), way.inside
        except Exception as error:
            raise Uncapturable(f"a replay failed: {type(error).__name__}: {error}") from error
        finally:
            self._storage.restore(before)
            self._storage.away()
            self._restore(states)

    def _move(self, draws: np.random.Generator) -> None:
        """Other parameters and another state: every bit of the significand in use, and no sign of the state changed."""
        for home in self._storage.parameters:
            home[...] = home + draws.uniform(-1, 1, home.shape)
        for home in self._storage.state:
            if home.ndim and home.dtype.kind == "f":
                home[...] = home * draws.uniform(1, 2, home.shape)

    def _states(self) -> list[NDArray[np.uint8]]:
        return [generator.get_state() for generator in self._generators]

    def _restore(self, states: Sequence[NDArray[np.uint8]]) -> None:
        for generator, state in zip(self._generators, states, strict=True):
            generator.set_state(state)


class Snapshot:
    """The bits of some arrays, to tell whether others have them too; every NaN is the same, for which sign it has is up
    to the loop that made it. Of small arrays, of which there are many, the bytes are kept: they are compared in one
    go. Large ones are compared where they are: a second copy of them would take longer than the update."""

    def __init__(self, arrays: Iterable[Any]) -> None:
        self._kept = [
            (array.dtype, array.tobytes()) if array.size < MANY else array.copy() for array in _plain_arrays(arrays)
        ]

    def agrees(self, arrays: Iterable[Any]) -> bool:
        others = _plain_arrays(arrays)
        return len(others) == len(self._kept) and all(map(_agree, self._kept, others))


def _plain_arrays(arrays: Iterable[Any]) -> list[NDArray[Any]]:
    return [np.asarray(plain(array)) for array in arrays]


def _agree(kept: tuple[np.dtype[Any], bytes] | NDArray[Any], other: NDArray[Any]) -> bool:
    if isinstance(kept, np.ndarray):
        return same_bits(kept, other)
    dtype, content = kept
    if other.dtype != dtype or other.nbytes != len(content):
        return False
    return other.tobytes() == content or same_bits(np.frombuffer(content, dtype), other.reshape(-1))


def same_bits(one: NDArray[Any], other: NDArray[Any]) -> bool:
    """Whether two arrays of numbers have the same bits, but for those of NaNs."""
    if (one.shape, one.dtype) != (other.shape, other.dtype):
        return False
    as_integers = f"u{one.itemsize}"
    equal = one.view(as_integers) == other.view(as_integers)
    if not equal.all() and one.dtype.kind == "f":
        equal |= np.isnan(one) & np.isnan(other)
    return bool(equal.all())


def _other_batch(batch: Any, samples: int, draws: np.random.Generator) -> Any:
    """Another batch of the same kind."""
    if isinstance(batch, slice):
        size = batch.stop - batch.start
        start = int(draws.integers(samples - size + 1))
        return slice(start, start + size)
    return draws.integers(samples, size=batch.shape)


def _like(own: Any, cell: NDArray[Any]) -> Any:
    return Runs(cell.copy()) if isinstance(own, Runs) else cell[()]
