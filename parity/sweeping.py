"""What real kernels break on: memory layouts, upstream gradients, subsets of gradients, batches, sizes, repetition."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from typing import Any

import numpy as np

from parity.engines import function_call, layouts, repeated_backward
from parity.records.record import UsageError
from parity.report.report import Report
from parity.verdict.tensor import TensorVerdict, failed

Array = np.ndarray[Any, Any]

Asked = Any
"""A `parity.checking.Asked`: what is to be judged."""

MOST_SUBSETS = 4
"""Up to this number of inputs every subset is tried; of more, each input alone."""

BAD = ("FAIL", "undecided", "blind", "imprecise")


@dataclass(frozen=True)
class Tried:
    """One thing that was tried.

    Attributes:
        name: what. asked: as it was asked. report: what came of it.
        refused: why it can't be tried here; empty where it was.
        bits: where it is about bits, what looks at them.
    """

    name: str
    asked: Asked | None
    report: Report | None
    refused: str = ""
    bits: Callable[[Asked], list[TensorVerdict] | str] | None = None


def swept(asked: Asked, first: Report, grad_output: Any, tile: int | None) -> tuple[Report, Tried | None]:
    """The report on the inputs as they are, with every verdict that fails elsewhere under the name of what was tried;
    and the first thing that failed elsewhere."""
    if "call" in first:
        notes = (*first.notes, "not swept: the plain call fails")
        return Report(first.subject, first.profile, first.verdicts, first.diagnosis, notes), None
    verdicts, diagnosis, told = list(first.verdicts), list(first.diagnosis), list(first.notes)
    parts: dict[str, Report] = {}
    failing: Tried | None = None
    for tried in variants(asked, grad_output, tile):
        if tried.report is None:
            told.append(f"{tried.name}: not tried, {tried.refused}")
            continue
        parts[tried.name] = report = tried.report
        bad = [v for v in report.verdicts if v.verdict in BAD]
        if not bad:
            said = [v.reason for v in report.verdicts if v.reason]
            told.append(f"{tried.name}: ok" + "".join(f", {reason}" for reason in dict.fromkeys(said)))
            continue
        failing = failing or tried
        verdicts += [replace(v, name=f"{tried.name}: {v.name}") for v in bad]
        diagnosis += [f"{tried.name}: {d}" for d in report.diagnosis]
    return Report(f"{asked.title}, swept", str(asked.profile), verdicts, diagnosis, told, parts), failing


def variants(asked: Asked, grad_output: Any, tile: int | None) -> Iterator[Tried]:
    """Everything that is tried, in turn."""
    yield from _layouts(asked, grad_output)
    yield from _subsets(asked, grad_output)
    yield from _batches(asked)
    yield from _sizes(asked, tile)
    called = partial(_bits_of, asked)
    yield called("called again", _again)
    yield called("alone and in a batch", _alone)
    yield called("added to existing gradients", partial(_backward_again, repeated_backward.accumulated))
    yield called("second backward", partial(_backward_again, repeated_backward.second))


def _tried(name: str, asked: Asked | None, grad_output: Any = None) -> Tried:
    """The report on what is asked; not tried, where the reference refuses it."""
    if asked is None:
        return Tried(name, None, None, "these inputs have none such")
    try:
        return Tried(name, asked, asked.report(grad_output))
    except UsageError as reason:
        return Tried(name, asked, None, str(reason).removeprefix("check: "))


# ---- layouts and upstream gradients


def _layouts(asked: Asked, grad_output: Any) -> Iterator[Tried]:
    for k, x in enumerate(asked.inputs):
        if not function_call.is_array(x) or not function_call.is_floating(x):
            continue
        for layout in layouts.INPUTS:
            other = layouts.laid_out(x, layout)
            if other is not None:
                values = function_call.like(function_call.to_numpy(other), x)
                inputs = (*asked.inputs[:k], values, *asked.inputs[k + 1 :])
                yield _tried(f"input {k} {layout}", replace(asked, inputs=inputs, laid={k: layout}), grad_output)
    example = next(x for x in asked.inputs if function_call.is_array(x) and function_call.is_floating(x))
    seeds = [function_call.like(g, example) for g in asked.seeds()]
    for layout in layouts.SEEDS:
        if layout in layouts.VALUES or any(layouts.laid_out(g, layout) is not None for g in seeds):
            yield _tried(f"upstream gradient {layout}", replace(asked, layout=layout), grad_output)


# ---- subsets of gradients


def _subsets(asked: Asked, grad_output: Any) -> Iterator[Tried]:
    wanted: Sequence[int] = asked.wanted
    params = function_call.own_arrays(asked.fn)
    sizes = range(1, len(wanted)) if len(wanted) <= MOST_SUBSETS else (1,)
    for size in sizes:
        for subset in combinations(wanted, size) if size < len(wanted) else ():
            only = ", ".join(map(str, subset))
            yield _tried(f"gradient of input {only} alone", replace(asked, wanted=subset), grad_output)
    if not params:
        return
    yield _tried("gradients of the parameters alone", replace(asked, wanted=()), grad_output)
    for name, p in params.items():
        if getattr(p, "requires_grad", False):
            p.requires_grad_(False)
            try:
                yield _tried(f"parameter {name} frozen", asked, grad_output)
            finally:
                p.requires_grad_(True)


# ---- batches and sizes


def _batches(asked: Asked) -> Iterator[Tried]:
    if (axis := _batch_axis(asked)) is None:
        yield Tried("batch", None, None, "no axis is known to be one of samples")
        return
    samples, n = axis
    odd = 3 if n < 3 else n - 1 + n % 2
    for size in dict.fromkeys((0, 1, odd)):
        if size != n:
            yield _tried(f"batch {size}", _with_rows(asked, samples, size))


def _batch_axis(asked: Asked) -> tuple[list[int], int] | None:
    """The inputs whose first axis is that of the samples, and its length."""
    places: Mapping[int, str] = asked.places()
    samples = [k for k, name in places.items() if name.startswith("grad_input")]
    if not places:
        # An expression: whatever is as long as the first input.
        rows = getattr(asked.inputs[0], "shape", ())[:1]
        samples = [k for k, x in enumerate(asked.inputs) if getattr(x, "shape", ())[:1] == rows and rows]
    arrays = [asked.inputs[k] for k in samples]
    lengths = {x.shape[0] if x.ndim else 0 for x in arrays}
    if not arrays or max(x.ndim for x in arrays) < 2 or len(lengths) != 1:
        return None
    return samples, lengths.pop()


def _with_rows(asked: Asked, samples: Sequence[int], n: int) -> Asked:
    inputs = [_drawn(x, (n, *x.shape[1:]), asked.seed) if k in samples else x for k, x in enumerate(asked.inputs)]
    return replace(asked, inputs=tuple(inputs))


def _sizes(asked: Asked, tile: int | None) -> Iterator[Tried]:
    if tile is None:
        return
    for old in array_sizes(asked):
        for new in (tile - 1, tile, tile + 1):
            if new in (0, old):
                continue
            tried = _tried(name := f"axis of {old} with {new}", resized(asked, old, new))
            if tried.report is None:
                # The size may stand among the reference's arguments too: LayerNorm's normalized_shape.
                tried = _tried(name, resized(asked, old, new, arguments=True))
            refused = [v.reason for v in tried.report.verdicts if v.name == "call"] if tried.report is not None else []
            # A function that takes no other sizes says so.
            yield Tried(name, None, None, f"the function {refused[0]}") if refused else tried


def array_sizes(asked: Asked) -> list[int]:
    """The different lengths of the inputs' axes."""
    shapes = [x.shape for x in asked.inputs if function_call.is_array(x)]
    return list(dict.fromkeys(int(n) for shape in shapes for n in shape if n > 1))


def resized(asked: Asked, old: int, new: int, arguments: bool = False) -> Asked:
    """The same question with every axis of the old length of the new one, of elements drawn from the inputs'.

    Args:
        arguments: whether that length is replaced in the reference's arguments too.
    """

    def changed(value: Any) -> Any:
        if function_call.is_array(value):
            return _drawn(value, tuple(new if n == old else n for n in value.shape), asked.seed)
        if isinstance(value, (tuple, list)):
            return type(value)(map(changed, value))
        return new if arguments and type(value) is int and value == old else value

    inputs = map(changed, asked.inputs)
    options = {name: changed(value) for name, value in asked.options.items()}
    return replace(asked, inputs=tuple(inputs), options=options)


def _drawn(x: Any, shape: tuple[int, ...], seed: int) -> Any:
    """An array of that shape: the leading part where it is smaller; else with elements drawn from the array's own, so
    that probabilities stay probabilities."""
    if tuple(x.shape) == shape:
        return x
    values = function_call.to_numpy(x)
    if all(new <= old for new, old in zip(shape, values.shape, strict=True)):
        return function_call.like(values[tuple(map(slice, shape))], x)
    if not values.size:
        return function_call.like(np.ones(shape), x)
    return function_call.like(np.random.default_rng(seed).choice(values.reshape(-1), shape), x)


# ---- the bits


def unsteadiness(asked: Asked) -> tuple[str, ...]:
    """What is to be said of a failing function that gives other results when it is called again."""
    try:
        reasons = [v.reason for v in _again(asked) if v.verdict == "FAIL"]
    except Exception:
        # What it raises is told by the verdicts.
        return ()
    return tuple(f"not deterministic: {reason}; another call may fail elsewhere, or not at all" for reason in reasons)


def _bits_of(asked: Asked, name: str, look: Callable[[Asked], list[TensorVerdict] | str]) -> Tried:
    """A sub-result that is about bits: whatever it raises is the function's."""
    try:
        found = look(asked)
    except UsageError as reason:
        found = str(reason)
    except Exception as error:
        line = " ".join(str(error).split())[:300]
        found = [failed("call", f"raised {type(error).__name__}: {line}")]
    if isinstance(found, str):
        return Tried(name, None, None, found)
    return Tried(name, asked, Report(name, str(asked.profile), found), bits=look)


def _again(asked: Asked) -> list[TensorVerdict]:
    """Whether the same call gives the same bits."""
    seeds = asked.seeds()
    once, again = (asked.call(asked.inputs, seeds, asked.wanted) for _ in range(2))
    pairs: list[tuple[str, Array | None, Array | None]] = [
        *((f"output {k}", a, b) for k, (a, b) in enumerate(zip(once.outputs, again.outputs, strict=True))),
        *((f"gradient of input {k}", g, again.grads.get(k)) for k, g in once.grads.items()),
        *((f"gradient of {name}", g, again.by_name.get(name)) for name, g in once.by_name.items()),
    ]
    other = [name for name, a, b in pairs if _bytes(a) != _bytes(b)]
    if other:
        return [failed("same bits", f"expected the same bits from the same call, got others in {', '.join(other)}")]
    return [TensorVerdict("same bits", "exact")]


def _alone(asked: Asked) -> list[TensorVerdict] | str:
    """Whether a sample has the same bits alone and in its batch. Other bits are no mistake, and are told."""
    axis = _batch_axis(asked)
    if axis is None or axis[1] < 2 or not asked.places():
        return "no axis is known to be one of samples"
    samples, n = axis
    seeds = asked.seeds()
    if any(g.shape[:1] != (n,) for g in seeds) or not _apart(asked, samples):
        return "the samples do not stay apart"
    whole = asked.call(asked.inputs, seeds, asked.wanted)
    one = [x[-1:] if k in samples else x for k, x in enumerate(asked.inputs)]
    alone = asked.call(one, [g[-1:] for g in seeds], asked.wanted)
    pairs = [(f"output {k}", a[-1:], b) for k, (a, b) in enumerate(zip(whole.outputs, alone.outputs, strict=True))]
    for k in samples:
        a, b = whole.grads.get(k), alone.grads.get(k)
        pairs += [(f"gradient of input {k}", a[-1:], b)] if a is not None and b is not None else []
    return [
        TensorVerdict(name, "exact")
        if a.tobytes() == b.tobytes()
        else TensorVerdict(name, "rounding", reason=f"{name} has other bits alone than in the batch")
        for name, a, b in pairs
    ]


def _apart(asked: Asked, samples: Sequence[int]) -> bool:
    """Whether the reference's last sample knows nothing of the others: they may be NaN."""

    def spoiled(x: Array) -> Array:
        x = x.copy()
        if x.dtype.kind == "f":
            x[:-1] = np.nan
        return x

    right, other = (asked.right_outputs(change) for change in (None, (samples, spoiled)))
    return all(a[-1:].tobytes() == b[-1:].tobytes() for a, b in zip(right, other, strict=True))


def _backward_again(look: Callable[..., repeated_backward.Differing | None], asked: Asked) -> list[TensorVerdict] | str:
    """Whether gradients have the bits that are due where backward ran before."""
    fn, options = asked.bound()
    differing = look(fn, asked.inputs, asked.seeds(), asked.wanted, **options)
    if differing is None:
        return "the framework has none such"
    return [failed(name, _first_difference(*pair)) for name, pair in differing.items()] or [
        TensorVerdict("same bits", "exact")
    ]


def _first_difference(due: Array | None, came: Array | None) -> str:
    if due is None or came is None or due.shape != came.shape:
        return f"expected {_kind(due)}, got {_kind(came)}"
    other = np.argwhere(due != came)
    if not len(other):
        return "expected the same bits, got another zero or NaN"
    k = tuple(map(int, other[0]))
    said = f"first {list(k)}: " if k else ""
    return f"{len(other)} of {due.size} elements differ, {said}expected {due[k]}, got {came[k]}"


def _kind(array: Array | None) -> str:
    return "None" if array is None else f"an array of shape {array.shape}"


def _bytes(array: Array | None) -> bytes:
    return b"None" if array is None else array.tobytes()
