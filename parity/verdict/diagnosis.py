"""What a failing answer looks like: known mistakes whose own budget holds it, and plain relations to the truth.

A mistake is named only when it accounts for the whole answer: every failing tensor lies within the budget of the
faulty formula, which is derived like any other, and no other tensor contradicts it. A relation of a tensor to the truth
(zero, negated, a factor, transposed, ...) is named only when the tensor's own budget, carried through the relation,
holds every element.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from parity.budget.array import FORMATS, Budget, Profile
from parity.engines.faulty import FaultyEngine
from parity.engines.refnet import RefnetEngine
from parity.families.table import FAULTS, Fault
from parity.families.table import weaker as weaker_formulas
from parity.records import definition
from parity.records.record import VJP, Answer, Optimize, Record, Train, Undecided, Unsupported
from parity.truth.value import Truth
from parity.verdict.answer import enclose
from parity.verdict.tensor import Enclosure

Array = np.ndarray[Any, Any]

UPDATES = 3
"""So many updates of a training are followed in budgets: enough for the state of one to show in a later one."""


@dataclass(frozen=True)
class Diagnosis:
    """Something that a failing answer matches.

    Attributes:
        name: the mistake, or the relation to the truth. what: in the letters of the code, or in words.
        source: where the mistake was seen before. tensors: the failing ones that it accounts for.
    """

    name: str
    what: str
    source: str = ""
    tensors: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.name}: {self.what}" + (f" ({self.source})" if self.source else "")


def diagnose(
    record: Record, answer: Answer, truths: Mapping[str, Truth], profile: Profile, failing: Sequence[str]
) -> list[Diagnosis]:
    """Everything listed that the failing tensors of an answer match, the most specific first; nothing if none fails.

    Of a training only the first updates are looked at, and `truths` is not used.
    """
    if not failing:
        return []
    if isinstance(record, Train):
        return _in_training(record, answer, profile)
    enclosures = enclose(record, truths, profile)
    mistakes = _mistakes(record, answer, enclosures, profile, tuple(failing))
    relations = _relations(record, answer, enclosures, [name for name in failing if name in enclosures])
    # How large the errors are says something only where nothing else does.
    return [*mistakes, *relations, *(() if mistakes else _formats(record, answer, truths, tuple(failing)))]


@dataclass(frozen=True)
class _Said:
    """What a formula makes of a tensor: x in binary64, and e, which both x and any engine's evaluation keep to."""

    x: Array
    e: Array

    def holds(self, got: Array | None) -> bool:
        """Whether every element of `got` may be an evaluation of the formula."""
        if got is None or got.shape != self.x.shape:
            return False
        with np.errstate(all="ignore"):
            within = abs(got - self.x) <= _twice(self.e)
            # Where something overflowed or 0 was divided by 0 there is no bound; it comes to the same value, or to NaN.
            alike = (got == self.x) | (np.isnan(got) & np.isnan(self.x))
        return bool(np.where(np.isfinite(self.x) & np.isfinite(self.e), within, alike).all())

    def agrees(self, truth: Truth) -> bool:
        """Whether the formula says of every element what is true."""
        return truth.shape == self.x.shape and not self._differs(truth).any()

    def contradicts(self, truth: Truth) -> bool:
        """Whether the formula is certainly wrong in some element."""
        return truth.shape != self.x.shape or bool(self._differs(truth).any())

    def _differs(self, truth: Truth) -> Array:
        with np.errstate(all="ignore"):
            apart = ~(truth.error(self.x) <= _twice(self.e)) | ~np.isfinite(self.x)
        return np.asarray(apart & ~truth.undecided)

    @property
    def looseness(self) -> float:
        """The largest bound, of finite ones, over the largest element."""
        bound, largest = (float(abs(a).max(initial=0.0, where=np.isfinite(a))) for a in (self.e, self.x))
        return bound / largest if largest else 0.0


def _twice(e: Array) -> Array:
    """2e, and what computing a distance rounds."""
    return np.asarray(2 * e * (1 + 2.0**-50))


def _mistakes(
    record: VJP | Optimize,
    answer: Answer,
    enclosures: Mapping[str, Enclosure],
    profile: Profile,
    failing: tuple[str, ...],
) -> list[Diagnosis]:
    """The mistakes of the dictionary that account for the answer, those with the tightest budgets first."""
    found: list[tuple[float, Diagnosis]] = []
    right = _answer(RefnetEngine(), record)
    # Something that passes outside its budget shows an engine with weaker formulas.
    passing = [name for name in enclosures if name not in failing]
    weaker = not all(name in answer and _inside(answer[name], enclosures[name]) for name in passing)
    for fault in FAULTS:
        if fault.reply or not fault.touches(record):
            continue
        try:
            own = _answer(FaultyEngine(fault), record)
            if all(_identical(own.get(name), right.get(name)) for name in failing):
                continue
            for said in _sayings(fault, record, own, profile):
                if _accounts_for(said, own, answer, enclosures, failing):
                    looseness = max((said[name].looseness for name in failing if name in said), default=0.0)
                    found.append((looseness, Diagnosis(fault.name, fault.what, fault.source, failing)))
                    break
                if not weaker and not any(name in said and said[name].holds(answer.get(name)) for name in failing):
                    break
        except (Unsupported, Undecided, ValueError, IndexError, TypeError, ZeroDivisionError):
            continue
    return [diagnosis for _, diagnosis in sorted(found, key=lambda pair: pair[0])]


def _answer(engine: Any, record: VJP | Optimize) -> Answer:
    answer: Answer = engine.optimize(record) if isinstance(record, Optimize) else engine.vjp(record)
    return answer


def _identical(a: Array | None, b: Array | None) -> bool:
    if a is None or b is None:
        return a is b
    return a.shape == b.shape and np.array_equal(a, b, equal_nan=True)


def _sayings(fault: Fault, record: VJP | Optimize, own: Answer, profile: Profile) -> Iterator[dict[str, _Said]]:
    """What the faulty formula says; then with the rest of the network by each of the weaker formulas."""
    yield _said(fault, record, own, profile)
    if isinstance(record, VJP):
        for variant in weaker_formulas(record.spec.types() - fault.patches.keys()):
            yield _said(replace(fault, patches={**variant.patches, **fault.patches}), record, own, profile)


def _said(fault: Fault, record: VJP | Optimize, own: Answer, profile: Profile) -> dict[str, _Said]:
    with np.errstate(all="ignore"):
        said = _named(record, FaultyEngine(fault).budget(record, profile))
    # Where no bound holds, what the engine with the mistake gives in its own format says how it overflows.
    return {
        name: _Said(np.where(np.isfinite(s.e), s.x, own[name]), s.e) if name in own else s for name, s in said.items()
    }


def _named(record: VJP | Optimize, tensors: Mapping[str, Any]) -> dict[str, _Said]:
    """What `definition` gives in budgets, under the names of an answer."""
    if isinstance(record, VJP):
        return {name: _of(t) for name, t in tensors.items()}
    said = {}
    for name, series in tensors.items():
        steps = [None if t is None else _of(t) for t in series]
        like = next(s for s in steps if s is not None)
        missing = _Said(np.full_like(like.x, np.nan), np.zeros_like(like.e))
        stacked = _stacked([missing if s is None else s for s in steps])
        update = name.startswith("param.")
        said[name.replace("param.", "update.") if update else name] = _updates(stacked) if update else stacked
    return said


def _of(tensor: Any) -> _Said:
    if isinstance(tensor, Budget):
        return _Said(tensor.x, np.where(np.isnan(tensor.e), np.inf, tensor.e))
    return _Said(np.asarray(tensor), np.zeros(np.shape(tensor)))


def _stacked(steps: Sequence[_Said]) -> _Said:
    return _Said(np.stack([s.x for s in steps]), np.stack([s.e for s in steps]))


def _updates(series: _Said) -> _Said:
    x = series.x[1:] - series.x[:-1]
    # The subtraction is exact or rounds once.
    return _Said(x, series.e[1:] + series.e[:-1] + 2.0**-53 * abs(x))


def _accounts_for(
    said: Mapping[str, _Said],
    own: Answer,
    answer: Answer,
    enclosures: Mapping[str, Enclosure],
    failing: tuple[str, ...],
) -> bool:
    """Whether what fails is as the faulty formula says, and certainly not as is true, and nothing contradicts."""
    for name in {**enclosures, **answer}:
        if name not in said:
            if name in answer or name in own:
                return False
        elif name in failing:
            if not said[name].holds(answer.get(name)):
                return False
        elif not said[name].agrees(enclosures[name].truth) and not said[name].holds(answer.get(name)):
            return False
    return any(
        name in said and (name not in enclosures or said[name].contradicts(enclosures[name].truth)) for name in failing
    )


def _in_training(record: Train, answer: Answer, profile: Profile) -> list[Diagnosis]:
    """The mistakes, of the loop or of what it trains, by which the first updates come out as they are in the answer."""
    short = replace(record, batches=record.batches[:UPDATES])

    def lift(array: Array) -> Budget:
        # A parameter is written in place: never on the record's own memory.
        return Budget.exact(array.copy(), profile)

    def matches(moments: Iterator[definition.Moment]) -> bool:
        return all(said.holds(got) for moment in moments for said, got in _compared(moment, answer))

    if matches(definition.train(short, lift)):
        return []
    types = record.network.types() | {record.loss.type, record.optimizer.type}
    found = []
    for fault in FAULTS:
        if not fault.train and not fault.patches.keys() & types:
            continue
        try:
            moments = (
                FaultyEngine(fault).steps(short, lift) if fault.train else definition.train(short, lift, fault.patches)
            )
            if matches(moments):
                found.append(Diagnosis(fault.name, fault.what, fault.source, tuple(answer)))
        except (Unsupported, Undecided, ValueError, IndexError, TypeError):
            continue
    return found


def _compared(moment: definition.Moment, answer: Answer) -> Iterator[tuple[_Said, Array | None]]:
    """What a formula says at one moment of a training, with what the answer has there."""
    k = moment.done
    said = {f"param.{name}": (k, p) for name, p in moment.params.items()}
    if k:
        said |= {f"state.{name}": (k - 1, s) for name, s in moment.state.items()}
    if moment.loss is not None:
        said["loss"] = (k, moment.loss)
    for name, (row, tensor) in said.items():
        yield _of(tensor), answer[name][row] if name in answer else None


def _relations(
    record: VJP | Optimize, answer: Answer, enclosures: Mapping[str, Enclosure], failing: Sequence[str]
) -> list[Diagnosis]:
    """What the failing tensors are to the truth, one by one: a relation of several is said once."""
    found: dict[tuple[str, str], list[str]] = {}
    for name in failing:
        got = answer.get(name)
        if got is None or not got.size or got.dtype.kind != "f":
            continue
        for relation in _related(record, name, got, enclosures):
            found.setdefault(relation, []).append(name)
    order = list(dict.fromkeys(kind for kind, _ in found))
    ranked = sorted(found.items(), key=lambda item: (-len(item[1]), order.index(item[0][0])))
    return [Diagnosis(kind, f"{what} in {', '.join(names)}", tensors=tuple(names)) for (kind, what), names in ranked]


def _related(
    record: VJP | Optimize, name: str, got: Array, enclosures: Mapping[str, Enclosure]
) -> Iterator[tuple[str, str]]:
    own = enclosures[name]
    if got.shape != own.truth.shape:
        if got.ndim > 1 and got.mT.shape == own.truth.shape and _inside(got.mT, own):
            yield "transposed", "the truth's last two axes exchanged"
        return
    if not np.isfinite(got).all():
        yield "not finite", f"{int((~np.isfinite(got)).sum())} of {got.size} elements are NaN or infinite"
        return
    if not got.any():
        yield "zero", "0 in every element"
        return
    for what, array in _given(record):
        if array.shape == got.shape and array.any() and np.array_equal(array, got):
            yield "handed on", f"{what}, unchanged"
    for other, enclosure in enclosures.items():
        if other != name and enclosure.truth.shape == got.shape and _inside(got, enclosure):
            yield "another tensor", f"what {other} should be"
    if got.ndim > 1 and got.shape[-1] == got.shape[-2] and _inside(got.mT, own):
        yield "transposed", "the truth's last two axes exchanged"
    if factor := _named_factor(record, got, own) or _some_factor(got, own):
        yield "a constant factor", factor
    yield from _permuted(got, own)
    yield from _placed(got, own)


def _inside(got: Array, enclosure: Enclosure) -> bool:
    return bool(((enclosure.truth.error(got) <= enclosure.bound) | enclosure.truth.undecided).all())


def _given(record: VJP | Optimize) -> Iterator[tuple[str, Array]]:
    if isinstance(record, VJP):
        yield from ((f"upstream gradient {k}", g) for k, g in enumerate(record.grad_outputs))
        yield from ((f"input {k}", x) for k, x in enumerate(record.inputs) if x.dtype.kind == "f")
        yield from ((name, a) for name, a in record.arrays.items() if a.dtype.kind == "f")


def _factors(record: VJP | Optimize) -> Iterator[tuple[float, str]]:
    """Factors that a formula can lack or have too often, with what they are."""
    yield from ((2.0, "2"), (0.5, "1/2"), (4.0, "4"), (0.25, "1/4"))
    for what, n in _sizes(record):
        if n > 1:
            yield from ((float(n), f"{n}, {what}"), (1 / n, f"1/{n}, {what}"))
            yield from ((n / (n - 1), f"{n}/{n - 1}, of {what}"), ((n - 1) / n, f"{n - 1}/{n}, of {what}"))
    for name, value in record.spec.args.items():
        if type(value) is float and value not in (0.0, 1.0):
            yield from ((value, name), (1 / value, f"1/{name}"))
            yield from ((1 - value, f"1 - {name}"), (1 / (1 - value), f"1/(1 - {name})"))


def _sizes(record: VJP | Optimize) -> Iterator[tuple[str, int]]:
    if isinstance(record, VJP):
        shape = record.inputs[0].shape
        if shape:
            yield from (("the number of samples", shape[0]), ("the size of the last axis", shape[-1]))
            yield from (("the number of elements", math.prod(shape)), ("of a sample's elements", math.prod(shape[1:])))
        for g in record.grad_outputs[:1]:
            yield from (("the number of outputs", n) for n in g.shape[-1:])
            yield from (("the number of output positions", n) for n in (math.prod(g.shape[-2:]),) if g.ndim > 2)


def _named_factor(record: VJP | Optimize, got: Array, own: Enclosure) -> str:
    u = FORMATS[record.dtype].u
    for c, what in ((-1.0, "-1"), *_factors(record), *((-c, f"-({what})") for c, what in _factors(record))):
        if _scaled(got, own, c, 0.0 if abs(math.frexp(c)[0]) == 0.5 else 4 * u, 1):
            return f"{what} times the truth"
    return ""


def _some_factor(got: Array, own: Enclosure) -> str:
    """A factor read off the largest element, as certain as that is, and found in at least two others."""
    index = np.unravel_index(int(abs(own.truth.hi).argmax()), got.shape)
    true, bound = float(own.truth.hi[index]), float(own.bound[index])
    if got.size < 3 or bound >= abs(true):
        return ""
    c = float(got[index]) / true
    slack = (abs(c) + 1) * bound / abs(true) / (abs(c) or 1) + 2.0**-50
    return f"{c:.6g} times the truth" if _scaled(got, own, c, slack, 3) else ""


def _scaled(got: Array, own: Enclosure, c: float, relative: float, seen: int) -> bool:
    """Whether `got` is c times the truth, and at least so many elements tell that from the truth itself.

    relative: how far c, and the product by it, may be from what they stand for.
    """
    scaled = c * own.truth.hi + c * own.truth.lo
    allowed = abs(c) * own.bound + (relative + 2.0**-51) * abs(scaled)
    telling = abs(scaled - own.truth.hi) > allowed + own.bound
    return bool((abs(got - scaled) <= allowed).all()) and int(telling.sum()) >= min(seen, got.size)


def _permuted(got: Array, own: Enclosure) -> Iterator[tuple[str, str]]:
    for axis, what in ((0, "rows"), (-1, "columns"))[: got.ndim]:
        n = got.shape[axis]
        truth, bound = (np.moveaxis(a, axis, 0).reshape(n, -1) for a in (own.truth.hi, own.bound))
        rows, places = np.moveaxis(got, axis, 0).reshape(n, -1), np.arange(n)
        # fits[i,j]: row i of the answer is row j of the truth, within its budget.
        fits: Array = np.all(abs(rows[:, None] - truth) <= bound * (1 + 2.0**-50), axis=-1)
        orders = {f"shifted by {s}": (places - s) % n for s in range(1, n)} | {"from the end": places[::-1]}
        first = fits.argmax(axis=1)
        if np.array_equal(np.sort(first), places):
            orders[f"in the order {first.tolist()}"] = first
        if n > 1 and (how := next((how for how, order in orders.items() if np.all(fits[places, order])), "")):
            yield what, f"{what} {how}"


def _placed(got: Array, own: Enclosure) -> Iterator[tuple[str, str]]:
    outside = ~((own.truth.error(got) <= own.bound) | own.truth.undecided)
    index = np.argwhere(outside)
    zero = ", and 0 there" if not got[outside].any() else ""
    if got.size > 1 and len(index) == 1:
        yield "one element", f"only {index[0].tolist()} is wrong{zero}"
    elif got.ndim and got.shape[0] > 1 and len({int(k[0]) for k in index}) == 1:
        yield "one row", f"only row {int(index[0][0])} of {got.shape[0]} is wrong{zero}"


def _formats(
    record: VJP | Optimize, answer: Answer, truths: Mapping[str, Truth], failing: tuple[str, ...]
) -> Iterator[Diagnosis]:
    """The finest of some narrower formats that would explain the size of every error."""
    wide = record.dtype == "float64"
    floats = [t for t in answer.values() if t.dtype.kind == "f"]
    if wide and all(np.array_equal(t.astype(np.float32), t) for t in floats):
        formats = [("computed in float32", "every element is a float32 number", Profile.of("float32"))]
    else:
        formats = [
            *([("sums in float32", "no error is larger", Profile.of("float64", "float32", "float32"))] if wide else []),
            ("products of 11 bits", "no error is larger", Profile.of(record.dtype, product="tf32")),
            ("products of 8 bits", "no error is larger", Profile.of(record.dtype, product="bfloat16")),
        ]
    for name, what, profile in formats:
        bounds = _bounds(record, profile)
        known = truths.keys() & bounds.keys()
        if all(name in known and _fits(answer.get(name), Enclosure(truths[name], bounds[name])) for name in failing):
            yield Diagnosis(name, f"{what}, in {', '.join(failing)}", tensors=failing)
            return


def _bounds(record: VJP | Optimize, profile: Profile) -> Mapping[str, Array]:
    """How far an engine of a narrower profile may be off, which rounds its inputs too."""

    def lift(array: Array) -> Budget:
        with np.errstate(over="ignore"):
            return Budget.exact(array, profile, abs(array - array.astype(profile.storage.name)))

    try:
        if isinstance(record, VJP):
            return {name: s.e for name, s in _named(record, definition.vjp(record, lift)).items()}
        return {name: s.e for name, s in _named(record, definition.optimize(record, lift)).items()}
    except Undecided:
        return {}


def _fits(got: Array | None, enclosure: Enclosure) -> bool:
    if got is None or got.shape != enclosure.truth.shape:
        return False
    return bool(np.isfinite(got).all()) and _inside(got, enclosure)
