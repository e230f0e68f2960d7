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

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, repeat
from numbers import Integral
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from refnet.generator import Generator, resolve

__all__ = ["Batch", "Order", "batches", "order"]

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

    def alike(self, k: int) -> int | None:
        """How many batches from that of update k + 1 on have as many samples as it; None if all have."""
        if self.drop_last or self.n % (self.batch_size or self.n) == 0:
            return None
        return max(1, self.updates_per_epoch - 1 - k % self.updates_per_epoch)

    def batches(self, generator: Generator | None) -> Iterator[Batch]:
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
) -> Iterator[Batch]:
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
        return repeat(slice(0, n))
    _check_positive("batch_size", batch_size)
    if drop_last and batch_size > n:
        raise ValueError(
            f"batches expected batch_size <= n with drop_last (or no batch is full), got {batch_size} > {n}"
        )
    if shuffle:
        draws = _replaced if replacement else _shuffled
        return draws(n, batch_size, drop_last, resolve(generator), private=generator is None)
    return _in_order(n, batch_size, drop_last, resolve(generator))


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


def _in_order(n: int, batch_size: int, drop_last: bool, generator: Generator) -> Iterator[slice]:
    while True:
        generator.random_raw(2)
        for start, stop in _bounds(n, batch_size, drop_last):
            yield slice(start, stop)


def _shuffled(
    n: int, batch_size: int, drop_last: bool, generator: Generator, *, private: bool
) -> Iterator[NDArray[np.int64]]:
    left_over = words_after_the_last_batch(n, batch_size, drop_last=drop_last)
    own = Generator() if private else generator
    while True:
        sampler = _sampler(generator, own)
        permutation = sampler.randperm(n)
        for start, stop in _bounds(n, batch_size, drop_last):
            if stop == n and not left_over:
                sampler.random_raw(n - 1)
            yield permutation[start:stop]
        sampler.random_raw(left_over)


def _replaced(
    n: int, batch_size: int, drop_last: bool, generator: Generator, *, private: bool
) -> Iterator[NDArray[np.int64]]:
    left_over = words_after_the_last_batch(n, batch_size, replacement=True, drop_last=drop_last)
    own = Generator() if private else generator
    while True:
        sampler, samples, drawn = _sampler(generator, own), np.empty(n, np.int64), 0
        for start, stop in _bounds(n, batch_size, drop_last):
            while drawn < stop:
                block = min(32, n - drawn)
                samples[drawn : drawn + block] = sampler.random_raw(block) % np.uint64(n)
                drawn += block
            yield samples[start:stop]
        sampler.random_raw(left_over)


def words_after_the_last_batch(n: int, batch_size: int, *, replacement: bool = False, drop_last: bool = False) -> int:
    """How many words of an epoch in random order torch draws only when the batch after its last is asked for."""
    if replacement:
        end = n - n % batch_size if drop_last else n
        return max(0, n - -(-end // 32) * 32)
    return n - 1 if n % batch_size == 0 or drop_last else 0


def _sampler(generator: Generator, own: Generator) -> Generator:
    """What serves the order of the epoch that now begins: `own`, with a new seed if it is not the generator itself."""
    generator.random_raw(2)
    # The seed is 64 bits wide, but the twister takes only its low word.
    return own if own is generator else own.manual_seed(int(generator.random_raw(2)[1]))


def _bounds(n: int, batch_size: int, drop_last: bool) -> Iterator[tuple[int, int]]:
    """(start, stop) of each batch of an epoch."""
    end = n - n % batch_size if drop_last else n
    return ((start, min(start + batch_size, n)) for start in range(0, end, batch_size))


def _check_positive(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise ValueError(f"batches expected {name} to be a positive integer, got {value!r}")
