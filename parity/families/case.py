"""Cases: frozen data from which records are made.

A case is there in two families. *grid*: values are small multiples of 1/64 that bfloat16, float16, float32 and float64
all hold, so that sums and products are exact in any order and the engines must agree in every bit. *full*: significands
use every bit of the dtype and exponents vary, so that reduced-precision products and reordered sums can be seen. A case
of which one family would show nothing that the other does not names only that one in `families`.

Values come from SHAKE-256 over the case's and the tensor's name: the same on every machine and with every NumPy.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

import numpy as np

from parity.budget.formats import FORMATS
from parity.records.record import VJP, Array, Optimize, Record, Spec, Split, Train, Unsupported, UsageError
from refnet.generator import Generator
from refnet.train import sampler

__all__ = [
    "DTYPES",
    "FAMILIES",
    "FULL",
    "GRID",
    "Case",
    "Draw",
    "OptimizeCase",
    "Parts",
    "Record",
    "Spec",
    "TrainCase",
    "VJPCase",
    "all_records",
    "booleans",
    "given",
    "group",
    "indices",
    "selected",
]

FAMILIES = ("grid", "full")
GRID = ("grid",)
FULL = ("full",)
DTYPES = ("float64", "float32")
NARROW = ("bfloat16", "float16")
"""Formats in which the cases are asked too: their float32 inputs, rounded. Trainings are not."""


ELEMENTS = 1_000
"""Of each tensor of a large case so many elements are certified at most."""

IN_ALL = 5_900
"""And of all tensors of the case together, so that it keeps at most 100 kB."""


@dataclass(frozen=True)
class Draw:
    """How to make one array.

    Attributes:
        shape: its shape.
        kind: `real` (both signs; grid: k/64, |k| <= 128; full: magnitude 1/8 to 4), `positive` (its absolute value, at
            least 1/64), `unit` (between 0 and 1, excluded), `index` (integers below `below`, or given ones), `mask`
            (booleans, or given ones), `sign` (integers, 1 and -1), `values` (given ones, rounded to the dtype),
            `onehot` (one number, `scale`, among zeros).
        below: for `index`.
        values: for `values`, `index` and `mask`, in C order, repeated to fill the shape.
        scale: a power of two that real, positive and unit values are multiplied by. offset: is added to them then.
        layout: of memory: `contiguous`, `transposed` (last two axes), `sliced` (every other element of a larger array),
            `reversed` (negative strides along every axis), `expanded` (stride 0: the first slice along the first axis
            repeated).
    """

    shape: tuple[int, ...]
    kind: str = "real"
    below: int = 0
    values: tuple[float, ...] = ()
    scale: float = 1.0
    offset: float = 0.0
    layout: str = "contiguous"

    def make(self, key: str, family: str, dtype: str) -> Array:
        """The array, for one family and dtype; `key` names it.

        Raises:
            Unsupported: the dtype is one of NARROW and too narrow for a value.
        """
        if dtype in NARROW:
            return _laid_out(_rounded(self._fresh(key, family, "float32"), dtype), self.layout)
        return _laid_out(self._fresh(key, family, dtype), self.layout)

    def _fresh(self, key: str, family: str, dtype: str) -> Array:
        n = math.prod(self.shape)
        bits = np.frombuffer(hashlib.shake_256(key.encode()).digest(16 * n), "<u8").reshape(n, 2)
        if self.kind == "values" or self.values:
            kind = {"index": np.int64, "mask": np.bool_}.get(self.kind, dtype)
            return np.resize(np.asarray(self.values, kind), self.shape)
        if self.kind == "index":
            return (bits[:, 0] % np.uint64(self.below)).astype(np.int64).reshape(self.shape)
        if self.kind == "sign":
            return (bits[:, 0] & np.uint64(1)).astype(np.int64).reshape(self.shape) * 2 - 1
        if self.kind == "mask":
            return (bits[:, 0] & np.uint64(1)).astype(bool).reshape(self.shape)
        if self.kind == "onehot":
            flat = np.zeros(n, dtype)
            flat[: min(n, 1)] = self.scale
            return np.roll(flat, int(bits[0, 0] % np.uint64(n)) if n else 0).reshape(self.shape)
        make = {"real": _real, "positive": lambda *a: abs(_real(*a)), "unit": _unit}[self.kind]
        values = make(bits, family, dtype)
        if self.kind == "positive":
            values = np.where(values == 0, 1 / 64, values)
        return (values * self.scale + self.offset).astype(dtype).reshape(self.shape)


def given(shape: tuple[int, ...], *values: float) -> Draw:
    """An array of these values, in C order, repeated to fill the shape."""
    return Draw(shape, "values", values=values)


def indices(shape: tuple[int, ...], *values: int) -> Draw:
    """An array of these integers, likewise."""
    return Draw(shape, "index", values=values)


def booleans(shape: tuple[int, ...], *values: int) -> Draw:
    """An array of these truth values, likewise."""
    return Draw(shape, "mask", values=values)


def _drawn(large: bool, draw: Draw, key: str, family: str, dtype: str) -> Array:
    """The array of a draw; of a large case its float32 numbers in every dtype, so that one answer serves all."""
    if not large or dtype in NARROW:
        return draw.make(key, family, dtype)
    array = draw.make(key, family, "float32")
    return array.astype(dtype) if array.dtype.kind == "f" else array


def _real(bits: Array, family: str, dtype: str) -> Array:
    if family == "grid":
        return ((bits[:, 0] % np.uint64(257)).astype(np.float64) - 128) / 64
    exponent = (bits[:, 1] % np.uint64(5)).astype(np.int64) - 3
    magnitude: Array = np.ldexp(1 + _fraction(bits[:, 0], dtype), exponent)
    return np.where(bits[:, 1] >> np.uint64(63), -magnitude, magnitude)


def _unit(bits: Array, family: str, dtype: str) -> Array:
    if family == "grid":
        return ((bits[:, 0] % np.uint64(63)).astype(np.float64) + 1) / 64
    exponent = -1 - (bits[:, 1] % np.uint64(3)).astype(np.int64)
    values: Array = np.ldexp(1 + _fraction(bits[:, 0], dtype), exponent)
    return values


def _fraction(bits: Array, dtype: str) -> Array:
    """Random significands of the dtype behind the leading one: in [0, 1)."""
    digits = np.finfo(dtype).nmant
    return (bits >> np.uint64(64 - digits)).astype(np.float64) * 2.0**-digits


def _rounded(array: Array, dtype: str) -> Array:
    """An array of float32 whose numbers are of a narrower format."""
    if array.dtype.kind != "f":
        return array
    values = FORMATS[dtype].nearest(array)
    lost = np.isinf(values) & np.isfinite(array)
    if lost.any():
        raise Unsupported(f"{dtype} has no number near {array[lost][0]}, one of the inputs")
    return np.asarray(values, np.float32)


def _format(dtype: str) -> str:
    """What a record says of a format that its arrays don't tell."""
    return dtype if dtype in NARROW else ""


def _laid_out(array: Array, layout: str) -> Array:
    if layout == "transposed":
        return np.ascontiguousarray(array.mT).mT
    if layout == "sliced":
        wide = np.zeros((*array.shape[:-1], 2 * array.shape[-1]), array.dtype)
        wide[..., ::2] = array
        return wide[..., ::2]
    if layout == "reversed":
        whole = tuple(slice(None, None, -1) for _ in array.shape)
        return np.ascontiguousarray(array[whole])[whole]
    if layout == "expanded":
        return np.broadcast_to(array[:1], array.shape)
    return array


@dataclass(frozen=True)
class Parts:
    """A case's samples in parts, and what is made of the parts' gradients; see `parity.records.record.Split`.

    Attributes:
        rows: which samples each part has.
    """

    rows: tuple[tuple[int, ...], ...]
    weights: tuple[float, ...]
    divisor: float
    equal: bool


@dataclass(frozen=True)
class VJPCase:
    """A module, loss or network at one input; see `parity.records.record.VJP`. Its `name` is `GROUP/what is special`.

    A case of a reduced loss may come with its samples in `parts`, which have its upstream gradient each. A `large` one
    has a layer of real size: what is kept of it are some elements (`parity.families.large`).
    """

    name: str
    spec: Spec
    inputs: tuple[Draw, ...]
    grads: tuple[Draw, ...]
    arrays: Mapping[str, Draw] = field(default_factory=dict)
    training: bool = True
    families: tuple[str, ...] = FAMILIES
    parts: Parts | None = None
    names: tuple[str, ...] = ()
    large: bool = False

    @classmethod
    def of(cls, kind: str, what: str, args: Mapping[str, Any], **fields: Any) -> VJPCase:
        """A case of a layer or loss of this class, built with these arguments."""
        return cls(f"{kind}/{what}", Spec(kind, args), **fields)

    def record(self, family: str, dtype: str) -> VJP:
        make = partial(_drawn, self.large)
        return VJP(
            self.spec,
            {name: make(draw, f"{self.name}:{name}", family, dtype) for name, draw in self.arrays.items()},
            tuple(make(draw, f"{self.name}:input.{k}", family, dtype) for k, draw in enumerate(self.inputs)),
            tuple(make(draw, f"{self.name}:grad.{k}", family, dtype) for k, draw in enumerate(self.grads)),
            self.training,
            self.names,
            _format(dtype),
        )

    def split(self, family: str, dtype: str) -> Split | None:
        """The record with its samples in parts; None where the case has none."""
        if self.parts is None:
            return None
        whole, of = self.record(family, dtype), self.parts
        parts = (replace(whole, inputs=tuple(x[list(rows)] for x in whole.inputs)) for rows in of.rows)
        return Split(whole, tuple(parts), of.weights, of.divisor, of.equal)


@dataclass(frozen=True)
class OptimizeCase:
    """An optimizer on a given stream of gradients; see `parity.records.record.Optimize`.

    Draws of gradients, and of the indices of sparse ones, have a leading step axis. An `objective` is a case of its
    own, without arrays.
    """

    name: str
    spec: Spec
    params: Mapping[str, Draw]
    grads: Mapping[str, Draw]
    groups: tuple[tuple[tuple[str, ...], Mapping[str, Any]], ...] | None = None
    families: tuple[str, ...] = FAMILIES
    absent: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    indices: Mapping[str, Draw] = field(default_factory=dict)
    objective: VJPCase | None = None
    times: int = 0
    large: bool = False

    @classmethod
    def of(cls, kind: str, what: str, args: Mapping[str, Any], **fields: Any) -> OptimizeCase:
        """A case of an optimizer of this class, built with these arguments."""
        return cls(f"{kind}/{what}", Spec(kind, args), **fields)

    def record(self, family: str, dtype: str) -> Optimize:
        make = partial(_drawn, self.large)
        return Optimize(
            self.spec,
            {name: make(draw, f"{self.name}:{name}", family, dtype) for name, draw in self.params.items()},
            {name: make(draw, f"{self.name}:grad.{name}", family, dtype) for name, draw in self.grads.items()},
            self.groups,
            self.absent,
            _format(dtype),
            {name: draw.make(f"{self.name}:indices.{name}", family, dtype) for name, draw in self.indices.items()},
            None if self.objective is None else self.objective.record(family, dtype),
            self.times,
        )


@dataclass(frozen=True)
class TrainCase:
    """Training; see `parity.records.record.Train`.

    Attributes:
        batch_size, shuffle, drop_last, seed: the order of the data (`refnet.train.sampler`). iterations: updates.
        certified: numbers of updates, from 1, after which a free run is held against certified weights.
        singles: how many single updates are certified, at most. groups: of parameters, as in `OptimizeCase`.
        clip, accumulate, frozen, rates: as in `Train`.
        drops: for each Dropout, by its place in the network, the shape of a sample that comes to it; `mask_seed` is of
            the generator that draws the masks.
        families: only one, by default: a training is exact on no grid.
    """

    name: str
    network: Spec
    loss: Spec
    optimizer: Spec
    inputs: Draw
    targets: Draw
    arrays: Mapping[str, Draw]
    batch_size: int | None
    shuffle: bool = True
    drop_last: bool = False
    seed: int = 0
    iterations: int = 10_000
    certified: tuple[int, ...] = ()
    trainable: tuple[str, ...] | None = None
    families: tuple[str, ...] = FULL
    groups: tuple[tuple[tuple[str, ...], Mapping[str, Any]], ...] | None = None
    singles: int = 12
    clip: Mapping[str, float] = field(default_factory=dict)
    accumulate: int = 0
    frozen: Mapping[str, int] = field(default_factory=dict)
    rates: tuple[float, ...] = ()
    drops: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    mask_seed: int = 0

    def record(self, family: str, dtype: str) -> Train:
        if dtype in NARROW:
            raise Unsupported(f"trainings are judged in {' and '.join(DTYPES)}")
        order: dict[str, Any] = {"batch_size": self.batch_size, "shuffle": self.shuffle, "drop_last": self.drop_last}
        batches = sampler.order(self.inputs.shape[0], updates=self.iterations, generator=Generator(self.seed), **order)
        return Train(
            self.network,
            self.loss,
            self.optimizer,
            {name: draw.make(f"{self.name}:{name}", family, dtype) for name, draw in self.arrays.items()},
            self.inputs.make(f"{self.name}:inputs", family, dtype),
            self.targets.make(f"{self.name}:targets", family, dtype),
            tuple(batches),
            self.trainable,
            groups=self.groups,
            order={**order, "seed": self.seed},
            clip=self.clip,
            accumulate=self.accumulate,
            frozen=self.frozen,
            rates=self.rates,
            masks=self._masks(batches),
            mask_seed=self.mask_seed if self.drops else None,
        )

    def _masks(self, batches: Sequence[Array]) -> dict[str, Array]:
        """What each Dropout keeps in each update. One generator serves all, one after the other, as torch.manual_seed
        has it."""
        generator, most = Generator(self.mask_seed), max(map(len, batches))
        masks = {name: np.zeros((len(batches), most, *shape), np.bool_) for name, shape in self.drops.items()}
        for k, batch in enumerate(batches):
            for name, shape in self.drops.items():
                p = self.network.layers[self.network.places[int(name)]].args["p"]
                masks[name][k, : len(batch)] = generator.rand((len(batch), *shape)) < 1 - p
        return masks


Case = VJPCase | OptimizeCase | TrainCase


def group(case: Case) -> str:
    """The first part of a case's name: what it is about."""
    return case.name.split("/")[0]


def all_records(case: Case) -> dict[str, Record]:
    """Every record of a case, under `family/dtype`."""
    return {f"{family}/{dtype}": case.record(family, dtype) for family in case.families for dtype in DTYPES}


def selected(cases: Sequence[Case], pattern: str) -> tuple[Case, ...]:
    """The cases whose name has `pattern` in it, or, with `*`, `?` or `[`, is of that form, in upper or lower case.

    Where no name does, `and`, `or` and `not` join several patterns, `not` binding most and `or` least.

    Raises:
        UsageError: no case is meant.
    """
    wanted = pattern.strip().lower()
    found = tuple(case for case in cases if _meant(wanted, case.name))
    found = found or tuple(case for case in cases if _joined(wanted, case.name))
    if not found:
        names = sorted({name.lower(): name for case in cases for name in (case.name, group(case))}.items())
        near = [dict(names)[name] for name in get_close_matches(wanted, dict(names), n=3, cutoff=0.5)]
        hint = f"; near it: {', '.join(near)}" if near else ""
        raise UsageError(f"expected a pattern that is part of a case's name (parity run --list), got {pattern!r}{hint}")
    return found


def _meant(pattern: str, name: str) -> bool:
    name = name.lower()
    return fnmatchcase(name, pattern) if re.search(r"[*?[]", pattern) else pattern in name


def _joined(pattern: str, name: str) -> bool:
    return any(
        all(_unless(term, name) for term in re.split(r"\s+and\s+", part)) for part in re.split(r"\s+or\s+", pattern)
    )


def _unless(term: str, name: str) -> bool:
    inner = re.sub(r"^not\s+", "", term)
    return not _unless(inner, name) if inner != term else _meant(term, name)
