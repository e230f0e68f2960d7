"""Many trainings at once, laid out with the trainings innermost.

An array of R runs, (R, ...), lies run after run, as NumPy makes it: a loop that does the same for every run jumps from
one to the next. Here number j of run r lies at place j R + r, so that such a loop reads side by side what it computes
side by side. Machine code works on memory of its own then; what lasts from one call to the next, the parameters and
their state, is taken from its place before a call and put back after it.

Where an array lies changes no bit of an elementwise operation. The order of sums and of matrix products stays that of
the arrays as NumPy sees them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from refnet.train.addresses import address_of
from refnet.train.capture import replay
from refnet.train.capture.native.translator import NotNative
from refnet.train.capture.program import Operation, Program, Ref, results_of

LEAST = 16
"""Runs from which on this pays."""

TERMS = 64
"""Of a sum, at most."""

Part: TypeAlias = tuple[int, int]
"""An array in a root: where it begins, and its bytes."""


@dataclass(frozen=True, eq=False)
class Innermost:
    """A program's arrays with the runs innermost.

    Attributes:
        arrays: the array of each Ref; a view of such memory, but of the shape that it has elsewhere.
        lasting: for what lasts, the array as it lies elsewhere, and here.
        inside: what the operations leave in the program's own roots, elsewhere and here, in the same order.
    """

    arrays: dict[Ref, NDArray[Any]]
    lasting: list[tuple[NDArray[Any], NDArray[Any]]]
    inside: dict[Ref, tuple[list[NDArray[Any]], list[NDArray[Any]]]]


def laid_out(program: Program, arrays: dict[Ref, NDArray[Any]], runs: int, homes: Iterable[NDArray[Any]]) -> Innermost:
    """The layout. `arrays`: where they lie elsewhere; `homes`: arrays that last, each for itself.

    Raises:
        NotNative: it cannot be: an array that is written has no run for each place on its first axis.
    """
    if runs < LEAST or program.first:
        raise NotNative("few runs, or an array of which a part stays")
    parts = _parts(program, runs, list(homes))
    memory = {root: replay.aligned(program.given[root].nbytes) for root in parts if root in program.given}

    def view(ref: Ref, flat: NDArray[np.uint8]) -> NDArray[Any]:
        flat = memory.get(ref.root, flat)
        if ref.root not in parts or _joined(ref, runs):
            return replay.in_order(ref, flat)
        start = _start(ref, parts[ref.root])
        steps = (ref.dtype.itemsize, *(step * runs for step in ref.strides[1:]))
        return np.ndarray(ref.shape, ref.dtype, flat, start + (ref.offset - start) * runs, steps)

    made = replay.layout(program, view)
    lasting = []
    for root, flat in memory.items():
        elsewhere = replay.bytes_of(program.given[root])
        (dtype,) = {ref.dtype for ref in made if ref.root == root}
        there, here = _by_runs(elsewhere, parts[root], dtype, runs), _turned(flat, parts[root], dtype, runs)
        lasting += list(zip(there, here, strict=True))
    inside = {}
    for ref in results_of(program, arrays):
        if ref.root in parts and _joined(ref, runs):
            at = [(start - ref.offset, size) for start, size in parts[ref.root]]
            by_runs, turned = arrays[ref].view(np.uint8), made[ref].view(np.uint8)
            inside[ref] = list(_by_runs(by_runs, at, ref.dtype, runs)), list(_turned(turned, at, ref.dtype, runs))
        else:
            inside[ref] = ([arrays[ref]], [made[ref]])
    return Innermost(made, lasting, inside)


def _by_runs(flat: NDArray[np.uint8], parts: Sequence[Part], dtype: Any, runs: int) -> Iterator[NDArray[Any]]:
    """The arrays in such memory as it is elsewhere: (R, numbers of a run)."""
    for start, size in parts:
        yield flat[start : start + size].view(dtype).reshape(runs, -1)


def _turned(flat: NDArray[np.uint8], parts: Sequence[Part], dtype: Any, runs: int) -> Iterator[NDArray[Any]]:
    """The same in memory as it is here."""
    for start, size in parts:
        yield flat[start : start + size].view(dtype).reshape(-1, runs).T


def _joined(ref: Ref, runs: int) -> bool:
    """Whether it is several arrays, one after the other."""
    return len(ref.shape) == 1 and ref.shape[0] != runs and ref.contiguous


def _parts(program: Program, runs: int, homes: Sequence[NDArray[Any]]) -> dict[int, tuple[Part, ...]]:
    """For each root that is laid out anew the arrays in it, each of all runs."""
    refs: dict[int, set[Ref]] = {}
    for operation in program.operations:
        for ref in (*operation.refs, operation.out):
            refs.setdefault(ref.root, set()).add(ref)
    written = {operation.out.root for operation in program.operations}
    lasting = {root: _of_homes(program.given[root], homes, runs) for root in written if root in program.given}
    parts = {root: there for root, there in lasting.items() if there}
    # What is computed of several arrays at once lies as they do; it may be what comes before that tells how.
    for operation in reversed(program.operations):
        _alike(program, operation, parts, runs)
    for operation in program.operations:
        _alike(program, operation, parts, runs)
    for root, size in program.sizes.items():
        if root in refs and root not in parts and size and size % runs == 0:
            whole: tuple[Part, ...] = ((0, size),)
            if all(_fits(ref, whole, runs) for ref in refs[root]):
                parts[root] = whole
    for root, there in parts.items():
        if len({ref.dtype for ref in refs[root]}) > 1:
            raise NotNative("an array that is seen as of two dtypes")
        if not all(_joined(ref, runs) or _fits(ref, there, runs) for ref in refs[root]):
            raise NotNative("an array that has no run for each place on its first axis")
    return parts


def _alike(program: Program, operation: Operation, parts: dict[int, tuple[Part, ...]], runs: int) -> None:
    """Lay out what an operation on several arrays at once takes and gives, as one that is known is laid out."""
    refs = [ref for ref in (*operation.refs, operation.out) if ref.shape != ()]
    together = [ref for ref in refs if _joined(ref, runs)]
    known = {
        tuple((start - ref.offset, size) for start, size in parts[ref.root]) for ref in together if ref.root in parts
    }
    if not known:
        return
    (same,) = known if len(known) == 1 else ((),)
    if (
        not same
        or len(together) < len(refs)
        or any(ref.root not in parts and not program.whole(ref) for ref in together)
    ):
        raise NotNative("an operation on several arrays at once that do not lie alike")
    parts.update((ref.root, same) for ref in together if ref.root not in parts)


def _of_homes(owner: NDArray[Any], homes: Sequence[NDArray[Any]], runs: int) -> tuple[Part, ...]:
    """The arrays that last in a root, if they are of runs."""
    begin = address_of(owner)
    found = []
    for home in homes:
        start = address_of(home) - begin
        if 0 <= start < owner.nbytes:
            if not home.flags.c_contiguous or home.shape[:1] != (runs,):
                return ()
            found.append((start, home.nbytes))
    return tuple(sorted(found))


def _start(ref: Ref, parts: Iterable[Part]) -> int:
    return next(start for start, size in parts if start <= ref.offset < start + size)


def _fits(ref: Ref, parts: Iterable[Part], runs: int) -> bool:
    """Whether an array has the runs of one part on its first axis."""
    at = next((part for part in parts if part[0] <= ref.offset < sum(part)), None)
    if at is None or ref.shape[:1] != (runs,) or min(ref.shape) == 0 or min(ref.strides) < 0:
        return False
    row, item = at[1] // runs, ref.dtype.itemsize
    end = (
        ref.offset - at[0] + item + sum((n - 1) * step for n, step in zip(ref.shape[1:], ref.strides[1:], strict=True))
    )
    return ref.strides[0] == row and end <= row and not any(step % item for step in (*ref.strides, ref.offset - at[0]))


def terms(array: NDArray[Any], axes: Sequence[int]) -> list[list[NDArray[Any]]]:
    """What a sum over some axes adds up, as NumPy does it where the array lies in C order: the sums of rows, one row
    after the other. The last axes are a row, if they are summed over; otherwise each number is one.

    Raises:
        NotNative: there are too many terms, or it is a sum over the runs.
    """
    if 0 in axes or math.prod(array.shape[k] for k in axes) > TERMS:
        raise NotNative("a sum over the runs, or of many terms")
    row: list[int] = []
    for k in reversed(range(array.ndim)):
        if k in axes:
            row.insert(0, k)
        elif array.shape[k] != 1:
            break
    outer = [k for k in sorted(axes) if k not in row]

    def picked(place: dict[int, int]) -> NDArray[Any]:
        at = (slice(place[k], place[k] + 1) if k in place else slice(None) for k in range(array.ndim))
        part: NDArray[Any] = array[tuple(at)]
        return part

    def places(over: Sequence[int]) -> Iterator[dict[int, int]]:
        for index in itertools.product(*(range(array.shape[k]) for k in over)):
            yield dict(zip(over, index, strict=True))

    return [[picked(there | here) for here in places(row)] for there in places(outer)]
