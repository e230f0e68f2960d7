"""The order of the data: which samples each update sees.

It is the order of torch's `DataLoader(TensorDataset(...), batch_size, shuffle, drop_last=drop_last, generator=g)` in
its own process (`num_workers=0`), epoch after epoch, and the generator is left where torch leaves it. An epoch draws:

1. two words, the base seed of worker processes, whether or not there are any;
2. if shuffled, n - 1 words: the permutation (`Generator.randperm`);
3. if shuffled, n - 1 words more when the permutation is found exhausted: one that is thrown away. With
   `drop_last=False` and a last batch that is not full, that happens while the last batch is being filled, hence before
   it is seen; otherwise only when the batch after the last is asked for.

Drawn with replacement (`RandomSampler(data, replacement=True, generator=g)` in place of `shuffle`), an epoch is n
independent draws, and takes in place of 2 and 3 a word for each sample, 32 at a time (at the end what is left of n)
when a batch needs them, one that `drop_last` drops included.

Without a generator torch takes the base seed from the default generator, and if shuffled or drawn with replacement two
more words, which seed a generator that serves the order of that epoch alone.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from numbers import Integral
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from refnet.generator import Generator, resolve

__all__ = ["Batch", "Batches", "Order", "batches", "order"]

Batch: TypeAlias = slice | NDArray[np.int64]
"""What picks a batch out of an array of samples, `inputs[batch]`: a slice wherever the samples lie side by side."""


@dataclass(frozen=True)
class Order:
    """How a training goes through n samples; the arguments of `batches`."""

    n: int
    batch_size: int | None
    shuffle: bool
    replacement: bool
    drop_last: bool

    @property
    def drawn(self) -> bool:
        """Whether the order needs a generator."""
        return self.batch_size is not None

    @property
    def updates_per_epoch(self) -> int:
        size = self.batch_size or self.n
        return self.n // size if self.drop_last else -(-self.n // size)

    def size(self, k: int) -> int:
        """How many samples the batch of update k + 1 has."""
        return self._short if self._short and (k + 1) % self.updates_per_epoch == 0 else self._full

    def sizes(self, updates: int) -> dict[int, int]:
        """For each size how many of the first batches have it."""
        short = updates // self.updates_per_epoch if self._short else 0
        return {self._full: updates - short} | ({self._short: short} if short else {})

    def alike(self, k: int) -> int | None:
        """How many batches from that of update k + 1 on have as many samples as it; None if all have."""
        return max(1, self.updates_per_epoch - 1 - k % self.updates_per_epoch) if self._short else None

    @property
    def _short(self) -> int:
        """The samples of a last batch that is not full."""
        return 0 if self.drop_last else self.n % self._full

    @property
    def _full(self) -> int:
        return min(self.batch_size or self.n, self.n)

    def batches(self, generator: Generator | None) -> Batches:
        return batches(
            self.n,
            self.batch_size,
            shuffle=self.shuffle,
            replacement=self.replacement,
            drop_last=self.drop_last,
            generator=generator,
        )

    def finish(self, generator: Generator | None, updates: int) -> None:
        """Draw what torch draws when its loop asks for a batch after the last of a whole epoch, as one that counts
        updates does not.
        """
        whole = updates > 0 and updates % self.updates_per_epoch == 0
        if generator is not None and self.batch_size is not None and self.shuffle and whole:
            left = words_after_the_last_batch(
                self.n, self.batch_size, replacement=self.replacement, drop_last=self.drop_last
            )
            generator.random_raw(left)


def batches(
    n: int,
    batch_size: int | None = 1,
    *,
    shuffle: bool = False,
    replacement: bool = False,
    drop_last: bool = False,
    generator: Generator | None = None,
) -> Batches:
    """The batches of n samples, one for each update, without end.

    `batch_size=None` is the whole set in its own order at every update (batch gradient descent): no DataLoader, and so
    nothing is drawn or shuffled; `batch_size=n, shuffle=True` is what torch's DataLoader would do. `batch_size=1` is
    stochastic gradient descent. Unshuffled batches are slices, others index arrays (b,) of int64, where b is
    `batch_size`, or fewer in the last batch of an epoch unless `drop_last`. `replacement` goes with `shuffle`: each
    sample of a batch is drawn from all n, whatever was drawn before.

    Words are drawn only when a batch is asked for: after k batches the generator is in the state in which torch's is
    after k batches, in the middle of an epoch too. Iteration that stops there draws nothing more, and a new iterator
    begins a new epoch.

    Raises ValueError, at once, if `n` or `batch_size` is not a positive integer, if `drop_last` leaves no batch, or if
    `replacement` comes without `shuffle`.
    """
    _check_positive("n", n)
    if replacement and not shuffle:
        raise ValueError("batches expected replacement with shuffle: samples in their own order are not drawn")
    if batch_size is None:
        return _Whole(n)
    _check_positive("batch_size", batch_size)
    if drop_last and batch_size > n:
        raise ValueError(
            f"batches expected batch_size <= n with drop_last (or no batch is full), got {batch_size} > {n}"
        )
    if shuffle:
        left_over = words_after_the_last_batch(n, batch_size, replacement=replacement, drop_last=drop_last)
        return (_Replaced if replacement else _Shuffled)(n, batch_size, drop_last, generator, left_over)
    return _InOrder(n, batch_size, drop_last, resolve(generator))


def order(
    n: int,
    batch_size: int | None,
    updates: int,
    *,
    shuffle: bool = False,
    replacement: bool = False,
    drop_last: bool = False,
    generator: Generator | None = None,
) -> list[NDArray[np.int64]]:
    """The first `updates` of `batches`, as a list of index arrays (b,) of int64; arguments and errors as there.

    Raises ValueError if `updates` is negative.
    """
    if updates < 0:
        raise ValueError(f"order expected updates >= 0, got {updates}")
    samples = np.arange(n)
    endless = batches(n, batch_size, shuffle=shuffle, replacement=replacement, drop_last=drop_last, generator=generator)
    return [samples[batch].copy() for batch in islice(endless, updates)]


class Batches(Iterator[Batch]):
    """The batches of a training, without end: one after the other, or with `take` several at once."""

    @abstractmethod
    def take(self, updates: int) -> NDArray[np.int64] | None:
        """The next batches, which must be full, as indices (updates, batch_size); None where each is the whole set in
        its own order. The generator is left as by a call of `next` for each.

        Raises ValueError if one of the batches is not full.
        """


class _Whole(Batches):
    def __init__(self, n: int) -> None:
        self._whole = slice(0, n)

    def __next__(self) -> slice:
        return self._whole

    def take(self, updates: int) -> None:
        return None


class _Epochs(Batches):
    """In epochs, of which each has an order of the samples."""

    _samples: NDArray[np.int64]
    """Of the epoch under way, in its order."""

    def __init__(self, n: int, batch_size: int, drop_last: bool, generator: Generator) -> None:
        self._n, self._size = n, min(batch_size, n)
        self._end = n - n % batch_size if drop_last else n
        self._generator = generator
        self._seen = self._end  # of the epoch under way
        self._begun = False

    @abstractmethod
    def _order(self) -> NDArray[np.int64]:
        """Begin an epoch: its samples, or room for them."""

    def _see(self, start: int, stop: int) -> None:
        """Draw what is drawn before the samples up to `stop` are seen."""

    def __next__(self) -> Batch:
        start, stop = self._advance(1)
        return self._samples[start:stop]

    def take(self, updates: int) -> NDArray[np.int64]:
        indices, filled = np.empty((updates, self._size), np.int64), 0
        while filled < updates:
            start, stop = self._advance(updates - filled)
            rows, short = divmod(stop - start, self._size)
            if short:
                raise ValueError(f"take expected {updates} full batches, got one of {short} samples")
            indices[filled : filled + rows] = self._samples[start:stop].reshape(rows, self._size)
            filled += rows
        return indices

    def _advance(self, batches: int) -> tuple[int, int]:
        """Where the next batches begin and end in an epoch: all, or those that are left and full, or the last."""
        if self._seen == self._end:
            self._samples = self._order()
            self._seen, self._begun = 0, True
        full = (self._end - self._seen) // self._size
        start = self._seen
        stop = self._seen = start + min(batches, full) * self._size if full else self._end
        self._see(start, stop)
        return start, stop


class _InOrder(_Epochs):
    def _order(self) -> NDArray[np.int64]:
        self._generator.random_raw(2)
        return self._samples if self._begun else np.arange(self._n)

    def __next__(self) -> slice:
        return slice(*self._advance(1))


class _Drawn(_Epochs):
    """From a generator, or without one from one that is seeded for each epoch."""

    def __init__(self, n: int, batch_size: int, drop_last: bool, generator: Generator | None, left_over: int) -> None:
        super().__init__(n, batch_size, drop_last, resolve(generator))
        self._left_over = left_over
        self._sampler = self._generator if generator is not None else Generator()

    def _begin(self) -> None:
        left_over = self._left_over if self._begun else 0
        if self._sampler is self._generator:
            self._generator.random_raw(left_over + 2)
        else:
            # The seed is 64 bits wide, but the twister takes only its low word.
            self._sampler.manual_seed(int(self._generator.random_raw(4)[3]))


class _Shuffled(_Drawn):
    def _order(self) -> NDArray[np.int64]:
        self._begin()
        return self._sampler.randperm(self._n)

    def _see(self, start: int, stop: int) -> None:
        if stop == self._n and not self._left_over:
            self._sampler.random_raw(self._n - 1)


class _Replaced(_Drawn):
    def _order(self) -> NDArray[np.int64]:
        self._begin()
        return np.empty(self._n, np.int64)

    def _see(self, start: int, stop: int) -> None:
        drawn, needed = (min(-(-samples // 32) * 32, self._n) for samples in (start, stop))
        self._samples[drawn:needed] = self._sampler.random_raw(needed - drawn) % np.uint64(self._n)


def words_after_the_last_batch(n: int, batch_size: int, *, replacement: bool = False, drop_last: bool = False) -> int:
    """How many words of an epoch in random order torch draws only when the batch after its last is asked for."""
    if replacement:
        end = n - n % batch_size if drop_last else n
        return max(0, n - -(-end // 32) * 32)
    return n - 1 if n % batch_size == 0 or drop_last else 0


def _check_positive(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise ValueError(f"batches expected {name} to be a positive integer, got {value!r}")
