"""A program laid out in memory and written as one Python function."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from types import CodeType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refnet.train.addresses import address_of
from refnet.train.capture.program import ELEMENTWISE, Operation, Program, Ref
from refnet.train.capture.recorder import Uncapturable

ALIGNMENT = 64  # bytes: a cache line, and the widest vector


def in_order(ref: Ref, memory: NDArray[np.uint8]) -> NDArray[Any]:
    """The array of a Ref in its root's memory, as the Ref says."""
    return np.ndarray(ref.shape, ref.dtype, memory, ref.offset if ref.nbytes else 0, ref.strides)


def layout(
    program: Program, view: Callable[[Ref, NDArray[np.uint8]], NDArray[Any]] = in_order
) -> dict[Ref, NDArray[Any]]:
    """Memory for the program: the array of each Ref. `view` makes it, from the memory of its root.

    A root takes the place of one that no later operation reads, if it fits, and the result of an elementwise operation
    that of an operand which is read for the last time: what was just read is still in the cache.
    """
    last: dict[int, int] = {}
    for index, operation in enumerate(program.operations):
        for ref in (*operation.refs, operation.out):
            last[ref.root] = index
    last.update(dict.fromkeys((program.result.root, *program.first), len(program.operations)))

    places = {root: number for number, root in enumerate(program.first)}
    sizes = [program.sizes[root] for root in program.first]
    holder = dict(enumerate(program.first))
    for index, operation in enumerate(program.operations):
        out = operation.out.root
        if out in program.sizes and out not in places:
            place = _left_by_operand(program, operation, places, last, index)
            if place is None:
                place = _left(program.sizes[out], sizes, holder)
            places[out], holder[place] = place, out
        for ref in (*operation.refs, operation.out):
            root = ref.root
            if root in places and last[root] == index and holder.get(places[root]) == root:
                del holder[places[root]]
    memory = [aligned(size) for size in sizes]
    for root, content in program.first.items():
        memory[places[root]][: content.nbytes] = bytes_of(content)

    refs = {ref for operation in program.operations for ref in (*operation.refs, operation.out)} | {program.result}
    arrays = {}
    for ref in refs:
        arrays[ref] = view(ref, memory[places[ref.root]] if ref.root in places else bytes_of(program.given[ref.root]))
    return arrays


def own_memory(program: Program, arrays: dict[Ref, NDArray[Any]]) -> list[NDArray[np.uint8]]:
    """The memory of a layout in which nothing stays from one update to the next."""
    own = [ref for ref in arrays if program.own(ref) and ref.root not in program.first]
    found = {id(memory): memory for memory in (arrays[ref].base for ref in own) if isinstance(memory, np.ndarray)}
    return list(found.values())


def _left_by_operand(
    program: Program, operation: Operation, places: dict[int, int], last: dict[int, int], index: int
) -> int | None:
    out = operation.out
    if operation.function in ELEMENTWISE and program.whole(out):
        for ref in operation.refs:
            alone = all(other == ref for other in operation.refs if other.root == ref.root)
            if alone and last[ref.root] == index and program.whole(ref) and ref.same_layout(out):
                return places[ref.root]
    return None


def _left(size: int, sizes: list[int], holder: dict[int, int]) -> int:
    """The smallest place without a holder that `size` bytes fit into, of no more than twice as many; or a new one."""
    fitting = [place for place, room in enumerate(sizes) if place not in holder and size <= room <= 2 * size]
    if fitting:
        return min(fitting, key=lambda place: sizes[place])
    sizes.append(size)
    return len(sizes) - 1


def aligned(size: int) -> NDArray[np.uint8]:
    """New memory that begins where a cache line does."""
    # All bits set, which is NaN: what a trial forgot to compute must not be there from before.
    raw = np.full(size + ALIGNMENT, 255, np.uint8)
    start = -address_of(raw) % ALIGNMENT
    return raw[start : start + size]


def bytes_of(array: NDArray[Any]) -> NDArray[np.uint8]:
    """The memory of `array`, byte by byte."""
    if array.size == 0:
        return np.empty(0, np.uint8)
    if not array.flags.forc:
        raise Uncapturable("an array does not lie in one piece")
    return array.reshape(-1, order="A").view(np.uint8)


class _Names:
    """Short names for objects, for a function's signature."""

    def __init__(self) -> None:
        self.objects: dict[str, Any] = {}
        self._names: dict[int, str] = {}

    def __call__(self, thing: Any) -> str:
        if id(thing) not in self._names:
            name = f"v{len(self.objects)}"
            self._names[id(thing)], self.objects[name] = name, thing
        return self._names[id(thing)]


def function(
    program: Program,
    arrays: dict[Ref, NDArray[Any]],
    data: Sequence[tuple[NDArray[Any], NDArray[Any]]],
    *,
    indexed: bool,
) -> Callable[[Any], Any]:
    """A function of the batch that does one step and returns its loss.

    `arrays`: the layout; `data`: each whole set with the buffer that a batch of it goes to; `indexed`: whether a batch
    is an array of indices, rather than a slice.
    """
    names = _Names()
    lines = []
    for source, buffer in data:
        if indexed and source.flags.c_contiguous:
            lines.append(f"{names(np.take)}({names(source)}, batch, 0, {names(buffer)}, 'clip')")
        else:
            # (np.take would copy a whole set whose rows do not lie side by side)
            lines.append(f"{names(np.copyto)}({names(buffer)}, {names(source)}[batch])")
    for operation in program.operations:
        out = arrays[operation.out]
        args = [arrays[arg] if isinstance(arg, Ref) else arg for arg in operation.args]
        lines += _lines(operation, args, out, names)
    lines.append(f"return {names(arrays[program.result])}[()]")
    # Default values are local variables: the quickest to reach.
    signature = ", ".join(("batch", *(f"{name}={name}" for name in names.objects)))
    scope = dict(names.objects)
    exec(_code_of(f"def step({signature}):\n    " + "\n    ".join(lines)), scope)
    step: Callable[[Any], Any] = scope["step"]
    return step


@functools.lru_cache(64)
def _code_of(source: str) -> CodeType:
    """(No array is in it: trainings of equal networks have it in common.)"""
    return compile(source, "<replay>", "exec")


def _lines(operation: Operation, args: list[Any], out: NDArray[Any], names: _Names) -> list[str]:
    """The calls that carry an operation out."""
    called, options = operation.function, dict(operation.options)
    given = ", ".join(map(names, args))
    if operation.checks:
        return [f"{names(called)}({given})"]
    if called is np.copyto:
        return [f"{names(np.copyto)}({names(out)}, {given}, 'unsafe')"]
    if called is np.where:
        condition, a, b = map(names, args)
        return [
            f"{names(np.copyto)}({names(out)}, {b})",
            f"{names(np.copyto)}({names(out)}, {a}, 'same_kind', {condition})",
        ]
    if called is np.concatenate:
        return [f"{names(np.concatenate)}(({given},), {options['axis']}, {names(out)})"]
    if called is np.einsum:
        return [f"{names(np.einsum)}({options['subscripts']!r}, {given}, out={names(out)})"]
    if getattr(called, "__name__", "") == "reduce":
        return [f"{names(called)}({given}, {options['axis']}, None, {names(out)}, {options['keepdims']})"]
    if called in (np.minimum, np.maximum):  # which are to have no third positional argument
        return [f"{names(called)}({given}, out={names(out)})"]
    # Ufuncs, and `uniform_`, which fills what it is given.
    return [f"{names(called)}({', '.join(map(names, (*args, out)))})"]
