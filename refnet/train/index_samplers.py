"""torch.utils.data's samplers: the order in which an epoch sees the samples, index by index.

Each `iter` begins an epoch. Draws are torch's, and are made when torch makes them: only when an index needs them.
`refnet.train.sampler` has the batches of a `DataLoader` with its default samplers, and is what `fit` uses.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Sized
from typing import Any

import numpy as np

from refnet.generator import Generator, default_generator, resolve

__all__ = ["RandomSampler", "SequentialSampler", "SubsetRandomSampler", "WeightedRandomSampler"]

DRAWN_AT_ONCE = 32


class SequentialSampler:
    """0, 1, ..., n - 1, in their own order."""

    def __init__(self, data_source: Sized) -> None:
        self.data_source = _sized("SequentialSampler", data_source)

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self.data_source)))

    def __len__(self) -> int:
        return len(self.data_source)


class RandomSampler:
    """Indices in random order.

    Without replacement these are whole permutations, one after the other, and the beginning of one more, which is drawn
    even where nothing of it is needed. With replacement they are drawn 32 at a time, by `Generator.randint`.

    Args:
        data_source: the samples; only their number is asked for.
        replacement: whether an index may come again.
        num_samples: how many indices an epoch has; by default as many as there are samples.
        generator: source of the draws. None: each epoch has a generator of its own, whose seed is drawn from the
            default generator.

    Raises:
        TypeError: `data_source` has no length; `replacement` is no bool.
        ValueError: `num_samples` is no positive integer.
    """

    def __init__(
        self,
        data_source: Sized,
        replacement: bool = False,
        num_samples: int | None = None,
        generator: Generator | None = None,
    ) -> None:
        if not isinstance(replacement, bool):
            raise TypeError(f"RandomSampler: expected replacement as a bool, got {replacement!r}")
        self.data_source = _sized("RandomSampler", data_source)
        self.replacement, self._num_samples = replacement, num_samples
        if generator is not None:
            resolve(generator)
        self.generator = generator
        _positive("RandomSampler", self.num_samples)

    @property
    def num_samples(self) -> int:
        return len(self.data_source) if self._num_samples is None else self._num_samples

    def __iter__(self) -> Iterator[int]:
        n = len(self.data_source)
        # A seed of 64 bits, high half first; the twister takes only its low half.
        own = self.generator or Generator(int(default_generator.random_raw(2)[1]))
        whole, rest = divmod(self.num_samples, DRAWN_AT_ONCE if self.replacement else n)
        for k in range(whole + 1):
            if self.replacement:
                yield from own.randint(0, n, DRAWN_AT_ONCE if k < whole else rest).tolist()
            else:
                yield from own.randperm(n).tolist()[: n if k < whole else rest]

    def __len__(self) -> int:
        return self.num_samples


class SubsetRandomSampler:
    """These indices in random order, by `Generator.randperm`; None as generator means the default one."""

    def __init__(self, indices: Sequence[int], generator: Generator | None = None) -> None:
        self.indices, self.generator = indices, resolve(generator)

    def __iter__(self) -> Iterator[int]:
        for i in self.generator.randperm(len(self.indices)).tolist():
            yield self.indices[i]

    def __len__(self) -> int:
        return len(self.indices)


class WeightedRandomSampler:
    """Indices drawn with probabilities in proportion to weights, by `Generator.multinomial` in float64.

    Args:
        weights: one number for each sample, of any sum.
        num_samples: how many indices an epoch has.
        replacement: whether an index may come again.
        generator: source of the draws; None means the default one.

    Raises:
        ValueError: `num_samples` is no positive integer; `replacement` is no bool; weights are not in one row. When an
            epoch begins, as `Generator.multinomial`.
    """

    def __init__(
        self, weights: Any, num_samples: int, replacement: bool = True, generator: Generator | None = None
    ) -> None:
        _positive("WeightedRandomSampler", num_samples)
        if not isinstance(replacement, bool):
            raise ValueError(f"WeightedRandomSampler: expected replacement as a bool, got {replacement!r}")
        self.weights = np.asarray(weights, np.float64)
        if self.weights.ndim != 1:
            raise ValueError(f"WeightedRandomSampler: expected weights (k,), got shape {self.weights.shape}")
        self.num_samples, self.replacement, self.generator = num_samples, replacement, resolve(generator)

    def __iter__(self) -> Iterator[int]:
        yield from self.generator.multinomial(self.weights, self.num_samples, self.replacement).tolist()

    def __len__(self) -> int:
        return self.num_samples


def _sized(operation: str, data_source: Sized) -> Sized:
    if not isinstance(data_source, Sized):
        raise TypeError(f"{operation}: expected data_source with a length, such as range(n), got {data_source!r}")
    return data_source


def _positive(operation: str, num_samples: object) -> None:
    if isinstance(num_samples, bool) or not isinstance(num_samples, int) or num_samples <= 0:
        raise ValueError(f"{operation}: expected num_samples as a positive integer, got {num_samples!r}")
