"""The order of the data: which samples each update sees.

It is the order of torch's `DataLoader(TensorDataset(...), batch_size, shuffle, drop_last=drop_last, generator=g)` in
its own process (`num_workers=0`), epoch after epoch, and the generator is left where torch leaves it. An epoch draws:

1. two words, the base seed of worker processes, whether or not there are any;
2. if shuffled, n - 1 words: the permutation (`Generator.randperm`);
3. if shuffled, n - 1 words more when the permutation is found exhausted: one that is thrown away. With
   `drop_last=False` and a last batch that is not full, that happens while the last batch is being filled, hence before
   it is seen; otherwise only when the batch after the last is asked for.

Without a generator torch takes the base seed from the default generator, and if shuffled two more words, which seed a
generator that serves the permutation of that epoch alone.
"""

from collections.abc import Iterator
from itertools import islice
from numbers import Integral
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from refnet.generator import Generator, resolve

__all__ = ["Batch", "batches", "order"]

Batch: TypeAlias = slice | NDArray[np.int64]
"""What picks a batch out of an array of samples, `inputs[batch]`: a slice wherever the samples lie side by side."""


def batches(
    n: int,
    batch_size: int | None = 1,
    *,
    shuffle: bool = False,
    drop_last: bool = False,
    generator: Generator | None = None,
) -> Iterator[Batch]:
    """The batches of n samples, one for each update, without end.

    `batch_size=None` is the whole set in its own order at every update (batch gradient descent): no DataLoader, and so
    nothing is drawn or shuffled; `batch_size=n, shuffle=True` is what torch's DataLoader would do. `batch_size=1` is
    stochastic gradient descent. Unshuffled batches are slices, shuffled ones index arrays (b,) of int64, where b is
    `batch_size`, or fewer in the last batch of an epoch unless `drop_last`.

    Words are drawn only when a batch is asked for: after k batches the generator is in the state in which torch's is
    after k batches, in the middle of an epoch too. Iteration that stops there draws nothing more, and a new iterator
    begins a new epoch.

    Raises ValueError, at once, if `n` or `batch_size` is not a positive integer, or if `drop_last` leaves no batch.
    """
    _check_positive("n", n)
    if batch_size is None:
        return _whole(n)
    _check_positive("batch_size", batch_size)
    if drop_last and batch_size > n:
        raise ValueError(
            f"batches expected batch_size <= n with drop_last (or no batch is full), got {batch_size} > {n}"
        )
    if shuffle:
        return _shuffled(n, batch_size, drop_last, resolve(generator), private=generator is None)
    return _in_order(n, batch_size, drop_last, resolve(generator))


def order(
    n: int,
    batch_size: int | None,
    updates: int,
    *,
    shuffle: bool = False,
    drop_last: bool = False,
    generator: Generator | None = None,
) -> list[NDArray[np.int64]]:
    """The first `updates` of `batches`, as a list of index arrays (b,) of int64; arguments and errors as there.

    Raises ValueError if `updates` is negative.
    """
    if updates < 0:
        raise ValueError(f"order expected updates >= 0, got {updates}")
    samples = np.arange(n)
    endless = batches(n, batch_size, shuffle=shuffle, drop_last=drop_last, generator=generator)
    return [samples[batch].copy() for batch in islice(endless, updates)]


def _whole(n: int) -> Iterator[slice]:
    while True:
        yield slice(0, n)


def _in_order(n: int, batch_size: int, drop_last: bool, generator: Generator) -> Iterator[slice]:
    while True:
        generator.random_raw(2)
        for start, stop in _bounds(n, batch_size, drop_last):
            yield slice(start, stop)


def _shuffled(
    n: int, batch_size: int, drop_last: bool, generator: Generator, *, private: bool
) -> Iterator[NDArray[np.int64]]:
    exhausted_while_filling = n % batch_size != 0 and not drop_last
    while True:
        generator.random_raw(2)
        # The private seed is 64 bits wide, but the twister takes only its low word.
        sampler = Generator(int(generator.random_raw(2)[1])) if private else generator
        permutation = sampler.randperm(n)
        for start, stop in _bounds(n, batch_size, drop_last):
            if exhausted_while_filling and stop == n:
                sampler.random_raw(n - 1)
            yield permutation[start:stop]
        if not exhausted_while_filling:
            sampler.random_raw(n - 1)


def _bounds(n: int, batch_size: int, drop_last: bool) -> Iterator[tuple[int, int]]:
    """(start, stop) of each batch of an epoch."""
    end = n - n % batch_size if drop_last else n
    return ((start, min(start + batch_size, n)) for start in range(0, end, batch_size))


def _check_positive(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise ValueError(f"batches expected {name} to be a positive integer, got {value!r}")
