"""A recorded step as operations on memory, and what may be left out or joined without changing a bit.

Memory is a number of roots, each a run of bytes; a `Ref` is an array in one of them. All but the given roots (data,
constants, parameters, state) belong to the program: it decides where they lie, so that an array nobody needs any more
leaves its place to another.
"""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from refnet.train.addresses import address_of
from refnet.train.capture.recorder import Interrupted, Recorded, never

ELEMENTWISE = frozenset(
    {
        *(np.add, np.subtract, np.multiply, np.divide, np.negative, np.absolute, np.sqrt, np.exp, np.log, np.log1p),
        *(
            np.expm1,
            np.sin,
            np.cos,
            np.tanh,
            np.minimum,
            np.maximum,
            np.greater,
            np.greater_equal,
            np.less,
            np.less_equal,
            np.equal,
        ),
        *(
            np.power,
            np.not_equal,
            np.logical_and,
            np.logical_or,
            np.logical_not,
            np.bitwise_and,
            np.bitwise_or,
            np.invert,
        ),
    }
)
"""Ufuncs that may write over an operand of the same layout: each element is read before it is written."""

REPEATABLE = ELEMENTWISE | {np.matmul, np.where}


class Ref(NamedTuple):
    """An array inside a root: bytes from the root's start to its first element, shape, strides in bytes, dtype."""

    root: int
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def contiguous(self) -> bool:
        return _contiguous(self.shape, self.strides, self.dtype.itemsize)

    def same_layout(self, other: Ref) -> bool:
        return (self.shape, self.strides, self.dtype) == (other.shape, other.strides, other.dtype)


@functools.lru_cache(4096)
def _contiguous(shape: tuple[int, ...], strides: tuple[int, ...], step: int) -> bool:
    for size, stride in zip(reversed(shape), reversed(strides), strict=True):
        if size != 1 and stride != step:
            return False
        step *= size
    return True


@dataclass(frozen=True)
class Operation:
    """`function(*args)` into `out`; `options` are its further arguments, `updates` says whether the optimizer made it.
    Arguments are Refs, or Python numbers."""

    function: Any
    args: tuple[Any, ...]
    out: Ref
    updates: bool = False
    options: tuple[tuple[str, Any], ...] = ()

    @functools.cached_property
    def refs(self) -> tuple[Ref, ...]:
        return tuple(arg for arg in self.args if isinstance(arg, Ref))

    @property
    def checks(self) -> bool:
        """Whether it only looks at its argument, and raises if it does not like it."""
        return ("check", True) in self.options

    def moved(self, places: Mapping[int, tuple[int, int]]) -> Operation:
        """The same on arrays that lie in other roots: root -> (root, what is added to the offset)."""
        if not places or (self.out.root not in places and not any(ref.root in places for ref in self.refs)):
            return self
        return replace(self, args=tuple(_moved(arg, places) for arg in self.args), out=_moved(self.out, places))


def _moved(value: Any, places: Mapping[int, tuple[int, int]]) -> Any:
    if not isinstance(value, Ref) or value.root not in places:
        return value
    root, shift = places[value.root]
    return value._replace(root=root, offset=value.offset + shift)


@dataclass(eq=False)
class Program:
    """The operations of a step, in order.

    Attributes:
        operations: what is done.
        given: the roots that are not the program's own, by number.
        constant: those of them that nobody writes, neither the program nor anybody between two replays.
        sizes: the program's own roots: their bytes.
        first: own roots of which a part is never written again, with what is in them.
        result: the loss.
    """

    operations: list[Operation]
    given: dict[int, NDArray[Any]]
    constant: set[int]
    sizes: dict[int, int]
    first: dict[int, NDArray[Any]]
    result: Ref

    def own(self, ref: Ref) -> bool:
        return ref.root in self.sizes

    def whole(self, ref: Ref) -> bool:
        """Whether `ref` is all there is in a root of the program's own, in order."""
        return self.own(ref) and ref.offset == 0 and ref.contiguous and ref.nbytes == self.sizes[ref.root]

    def moved(self, places: dict[int, tuple[int, int]]) -> None:
        """Let the arrays of some roots lie in others."""
        self.operations = [operation.moved(places) for operation in self.operations]
        self.result = _moved(self.result, places)


def build(recorded: Sequence[Recorded], given: Iterable[NDArray[Any]], result: NDArray[Any]) -> Program:
    """The program of a record. `given` are the arrays that keep their place and that others may write between two
    replays; arrays that no operation has filled are constants, and keep theirs too.
    """
    numbers: dict[int, int] = {}
    owners: list[NDArray[Any]] = []
    scalars: dict[tuple[str, bytes], NDArray[Any]] = {}
    # (by the id of an array that the record keeps alive)
    known: dict[int, Ref] = {}

    def root(array: NDArray[Any]) -> int:
        owner = _owner(array)
        if id(owner) not in numbers:
            numbers[id(owner)] = len(owners)
            owners.append(owner)
        return numbers[id(owner)]

    stay = {root(array) for array in given}
    filled = {root(operation.out) for operation in recorded if not dict(operation.options).get("check")}

    def ref(value: Any) -> Any:
        if type(value) in (bool, int, float):  # np.float64 is a float, too
            return value
        if id(value) not in known:
            known[id(value)] = ref_of(value)
        return known[id(value)]

    def ref_of(value: Any) -> Ref:
        array = np.asarray(value)
        if array.ndim == 0 and root(array) not in stay | filled:
            array = scalars.setdefault((array.dtype.str, array.tobytes()), array)
        number = root(array)
        return Ref(number, address_of(array) - address_of(owners[number]), array.shape, array.strides, array.dtype)

    operations, first = [], {}
    for operation in recorded:
        out, options = ref(operation.out), dict(operation.options)
        if options.pop("pinned", False) and out.root not in stay:
            first[out.root] = owners[out.root]
        args = tuple(ref(arg) for arg in operation.args)
        operations.append(Operation(operation.function, args, out, operation.updates, tuple(options.items())))
    last = ref(result)
    own = filled - stay
    others = {number: owner for number, owner in enumerate(owners) if number not in own}
    return Program(
        operations, others, others.keys() - stay, {number: owners[number].nbytes for number in own}, first, last
    )


def _owner(array: NDArray[Any]) -> NDArray[Any]:
    """The array whose memory `array` looks into."""
    base: Any = array
    while (further := getattr(base, "base", None)) is not None:
        base = further
        # The memory may be another object's, such as a file's: then it is the last array's.
        array = base if isinstance(base, np.ndarray) else array
    return array


def results_of(program: Program, arrays: Mapping[Ref, NDArray[Any]]) -> list[Ref]:
    """What the operations have left in the program's own roots, where these are their arrays: of those that one place
    was left to in turn, the last."""
    own = [out for out in dict.fromkeys(op.out for op in program.operations) if program.own(out)]
    places = {out: address_of(arrays[out]) - out.offset for out in own}
    last = {places[op.out]: op.out.root for op in program.operations if op.out in places}
    return [out for out in own if last[places[out]] == out.root]


def simplify(program: Program, parameters: int, interrupted: Callable[[], bool] = never) -> None:
    """Leave out what is not needed and join what can be joined; what is left has the bits that it had.

    `parameters`: how many the optimizer moves; `interrupted`: whether to stop.
    """
    without_repetitions(program, interrupted)
    without_dead(program)
    into_place(program)
    join_parameters(program, parameters)


def without_repetitions(program: Program, interrupted: Callable[[], bool] = never) -> None:
    """Do once what is done twice: the same operation on the same arrays; and nothing for --x and 1 x, which are x."""
    times = Counter(operation.out.root for operation in program.operations if not operation.checks)
    writes: Counter[int] = Counter()
    known: dict[Any, Ref] = {}
    negated: dict[Ref, Ref] = {}
    places: dict[int, tuple[int, int]] = {}

    def stand_in(out: Ref, twin: Ref | None) -> bool:
        """Let every view of `out` look at `twin`, if both keep their values."""
        if twin is None or not out.same_layout(twin) or not program.own(out) or times[out.root] > 1:
            return False
        if times[twin.root] > program.own(twin) or out.root == program.result.root:
            return False
        places[out.root] = (twin.root, twin.offset - out.offset)
        return True

    kept = []
    for operation in program.operations:
        if interrupted():
            raise Interrupted
        operation = operation.moved(places)
        out, refs = operation.out, operation.refs
        if operation.function in REPEATABLE or getattr(operation.function, "__name__", "") == "reduce":
            key = (operation.function, operation.options, tuple((ref, writes[ref.root]) for ref in refs))
            if stand_in(out, known.get(key)) or stand_in(out, _unchanged(program, operation, negated)):
                continue
            known.setdefault(key, out)
            if operation.function is np.negative:
                negated[out] = refs[0]
        writes[out.root] += 1
        kept.append(operation)
    program.operations = kept


def _unchanged(program: Program, operation: Operation, negated: dict[Ref, Ref]) -> Ref | None:
    """The operand that an operation hands on bit for bit, if it does."""
    if operation.function is np.negative:
        return negated.get(operation.refs[0])
    if operation.function is np.multiply:
        for one, other in (operation.refs, operation.refs[::-1]):
            whole = one.root in program.constant and program.given[one.root].shape == one.shape == ()
            if whole and program.given[one.root] == 1:
                return other
    return None


def without_dead(program: Program) -> None:
    """Leave out what neither the loss nor anything given depends on."""
    live = {program.result.root, *program.given}
    kept = []
    for operation in reversed(program.operations):
        if operation.checks or operation.out.root in live:
            live.update(ref.root for ref in operation.refs)
            kept.append(operation)
    program.operations = kept[::-1]


def into_place(program: Program) -> None:
    """Compute an array where it is copied to, if the copy is all that it is for."""
    readers = Counter(ref.root for operation in program.operations for ref in operation.refs)
    readers[program.result.root] += 1
    times = Counter(operation.out.root for operation in program.operations)
    source: dict[int, int] = {}
    touched: dict[int, int] = {}
    kept: list[Operation] = []
    for operation in program.operations:
        out = operation.out
        if operation.checks:
            # What comes after a check must not be there if it fails.
            source.clear()
        if operation.function is np.copyto and operation.refs and not operation.options:
            (ref,) = operation.refs
            if (
                (place := source.get(ref.root)) is not None
                and readers[ref.root] == times[ref.root] == 1
                and kept[place].out == ref
                and (ref.shape, ref.dtype) == (out.shape, out.dtype)
                and touched.get(out.root, -1) <= place
                and all(operand.root != out.root or operand == out for operand in kept[place].refs)
            ):
                kept[place] = replace(kept[place], out=out)
                touched[out.root] = place
                continue
        place = len(kept)
        for ref in (*operation.refs, out):
            touched[ref.root] = place
        if operation.function in ELEMENTWISE:
            source[out.root] = place
        kept.append(operation)
    program.operations = kept


def join_parameters(program: Program, parameters: int) -> None:
    """Do for all parameters at once what the optimizer does to each of them alike, one number or many at a time being
    all the same to an elementwise operation.

    The parameters, and their state, must lie side by side in memory; the program lays their gradients side by side.
    """
    steps = [operation for operation in program.operations if operation.updates]
    if parameters < 2 or not steps or len(steps) % parameters or program.operations[-len(steps) :] != steps:
        return
    each = len(steps) // parameters
    courses = [steps[k : k + each] for k in range(0, len(steps), each)]
    joint: dict[tuple[Ref, ...], Ref] = {}
    places: dict[int, tuple[int, int]] = {}
    sizes: dict[int, int] = {}

    def together(refs: tuple[Any, ...]) -> Any:
        if len(set(refs)) == 1 and (not isinstance(refs[0], Ref) or refs[0].shape == ()):
            return refs[0]
        if refs not in joint:
            joint[refs] = _side_by_side(program, refs, places, sizes)
        return joint[refs]

    try:
        merged = [_joined(same, together) for same in zip(*courses, strict=True)]
    except _Apart:
        return
    program.operations = program.operations[: -len(steps)]
    program.moved(places)
    program.operations += merged
    program.sizes = {root: size for root, size in program.sizes.items() if root not in places} | sizes


class _Apart(Exception):
    """The optimizer's operations on two parameters are not alike, or their arrays not side by side."""


def _joined(same: tuple[Operation, ...], together: Any) -> Operation:
    first = same[0]
    alike = {(operation.function, operation.options, len(operation.args)) for operation in same}
    if len(alike) > 1 or first.function not in ELEMENTWISE:
        raise _Apart
    args = tuple(together(args) for args in zip(*(operation.args for operation in same), strict=True))
    # An operand that is spread over a parameter has no element for each of the parameter's.
    for operation in same:
        for ref, joined in zip(operation.args, args, strict=True):
            if isinstance(ref, Ref) and ref != joined and ref.shape != operation.out.shape:
                raise _Apart
    out = together(tuple(operation.out for operation in same))
    return replace(first, args=args, out=out)


def _side_by_side(
    program: Program, refs: tuple[Ref, ...], places: dict[int, tuple[int, int]], sizes: dict[int, int]
) -> Ref:
    """One array of all elements of `refs`."""
    dtype = refs[0].dtype
    if not all(isinstance(ref, Ref) and ref.contiguous and ref.dtype == dtype for ref in refs):
        raise _Apart
    total = sum(ref.nbytes for ref in refs)
    shape, strides = (total // dtype.itemsize,), (dtype.itemsize,)
    starts = [sum(ref.nbytes for ref in refs[:k]) for k in range(len(refs))]
    if len({ref.root for ref in refs}) == 1:
        if [ref.offset - refs[0].offset for ref in refs] != starts:
            raise _Apart
        return Ref(refs[0].root, refs[0].offset, shape, strides, dtype)
    roots = [ref.root for ref in refs]
    if len(set(roots)) < len(roots) or places.keys() & set(roots) or not all(map(program.whole, refs)):
        raise _Apart
    number = 1 + max([*program.given, *program.sizes, *sizes])
    sizes[number] = total
    places.update({root: (number, start) for root, start in zip(roots, starts, strict=True)})
    return Ref(number, 0, shape, strides, dtype)
