"""What a formula gives for a record in budgets: values, and how far any right evaluation of it may be from the truth.

All that a verdict needs of the one definition is computed here: of a VJP or an optimizer, of a batch in parts, of one
update of a training for many runs at once, and of a training from its start.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from parity.budget.array import Budget
from parity.budget.formats import Profile
from parity.records import definition
from parity.records.record import VJP, Answer, Optimize, Split, Train, leading
from refnet.arithmetic.runs import Runs

Array = np.ndarray[Any, Any]
Patches = Mapping[str, definition.Patch]
Moment = definition.Moment
NO_PATCHES = definition.NO_PATCHES


@dataclass(frozen=True)
class Evaluation:
    """What a formula makes of a tensor: x in binary64, and e, which both x and any engine's evaluation keep to."""

    x: Array
    e: Array

    @classmethod
    def of(cls, tensor: Any) -> Evaluation:
        """Of a budget; what is no budget is exact."""
        if isinstance(tensor, Budget):
            return cls(tensor.x, np.where(np.isnan(tensor.e), np.inf, tensor.e))
        return cls(np.asarray(tensor), np.zeros(np.shape(tensor)))


def bounds(record: VJP | Optimize, profile: Profile, patches: Patches = NO_PATCHES) -> dict[str, Array]:
    """How far an engine of this profile may be from the truth, by the tensor's name in an answer."""
    tensors = definition.tensors(record, lambda a: Budget.exact(a, profile), patches)
    if isinstance(record, VJP):
        return {name: t.e if isinstance(t, Budget) else np.zeros(np.shape(t)) for name, t in tensors.items()}
    found = {}
    for name, series in tensors.items():
        if name.startswith("param."):
            # An update is the difference of two parameters, taken in float64.
            wide = [Budget(p.x, p.e, p.q, Profile.of("float64")) for p in series]
            found[name.replace("param.", "update.")] = np.stack([(a - b).e for b, a in pairwise(wide)])
        else:
            found[name] = np.stack([Evaluation.of(s).e for s in series])
    return found


def lifted_exactly(profile: Profile) -> Callable[[Array], Budget]:
    """What takes arrays to budgets of a profile, without an error."""
    return lambda a: Budget.exact(a, profile)


def around_itself(record: VJP | Optimize, profile: Profile, patches: Patches) -> dict[str, Evaluation]:
    """A formula's own values in binary64: an engine may differ from them by their bound and its own."""
    wide, own = (
        in_answer(record, definition.tensors(record, lambda a, p=p: Budget.exact(a, p), patches))  # type: ignore[misc]
        for p in (Profile.of("float64"), profile)
    )
    return {name: Evaluation(v.x, v.e + own[name].e) for name, v in wide.items() if v.x.dtype.kind == "f"}


def in_binary64(record: VJP | Optimize, patches: Patches = NO_PATCHES) -> dict[str, Evaluation]:
    """A formula's values in binary64 and how far the truth may be from them: an enclosure for every coarser format."""
    return in_answer(record, definition.tensors(record, lifted_exactly(Profile.of("float64")), patches))


def bounds_of_narrower(record: VJP | Optimize, profile: Profile) -> dict[str, Array]:
    """How far an engine of a narrower profile may be off, which rounds its inputs too."""

    def lift(array: Array) -> Budget:
        with np.errstate(over="ignore"):
            return Budget.exact(array, profile, abs(array - array.astype(profile.storage.name)))

    return {name: v.e for name, v in in_answer(record, definition.tensors(record, lift, NO_PATCHES)).items()}


def in_answer(record: VJP | Optimize, tensors: Mapping[str, Any]) -> dict[str, Evaluation]:
    """What `definition` gives in budgets, under the names of an answer."""
    if isinstance(record, VJP):
        return {name: Evaluation.of(t) for name, t in tensors.items()}
    found = {}
    for name, series in tensors.items():
        known = [Evaluation.of(t) for t in series]
        x, e = np.stack([s.x for s in known]), np.stack([s.e for s in known])
        if name.startswith("param."):
            moved = x[1:] - x[:-1]
            # The subtraction is exact or rounds once.
            found[name.replace("param.", "update.")] = Evaluation(moved, e[1:] + e[:-1] + 2.0**-53 * abs(moved))
        else:
            found[name] = Evaluation(x, e)
    return found


def combined_bounds(split: Split, profile: Profile, patches: Patches = NO_PATCHES) -> dict[str, Array]:
    """How far what an engine's gradients of the parts make up may be from its truth, under `grad.NAME`."""
    parts = [definition.vjp(part, lambda a: Budget.exact(a, profile), patches) for part in split.parts]
    return {name: b.e for name, b in definition.combination(parts, split.weights, split.divisor).items()}


def combined_answer(split: Split, answers: Sequence[Answer], names: Sequence[str]) -> Answer:
    """What an engine's own answers to the parts make up of the gradients of these names."""
    with np.errstate(all="ignore"):
        parts = [{name: own[name] for name in names} for own in answers]
        return definition.combination(parts, split.weights, split.divisor)


def moments(record: Train, profile: Profile, patches: Patches = NO_PATCHES) -> Iterator[Moment]:
    """A training from its start in budgets; see `parity.records.definition.train`."""
    return definition.train(record, lambda a: Budget.exact(a, profile), patches)


@np.errstate(all="ignore")
def shapes(record: Train) -> dict[str, tuple[int, ...]]:
    """The names and shapes of a right answer to a training."""
    n = record.iterations
    *_, after = definition.train(record.first(1), np.copy)
    return {
        "loss": (n,),
        **{f"param.{name}": (n + 1, *p.shape) for name, p in after.params.items()},
        **{f"state.{name}": (n, *s.shape) for name, s in after.state.items()},
        **{f"buffer.{name}": (n, *b.shape) for name, b in after.buffers.items()},
    }


@np.errstate(all="ignore")
def updates(
    record: Train,
    arrays: Mapping[str, Array],
    state: Mapping[str, Array],
    batches: Array,
    profile: Profile,
    patches: Patches = NO_PATCHES,
) -> dict[str, Evaluation]:
    """One update of each run, from its own parameters, buffers and state: `loss`, `update.NAME`, `state.NAME.KEY` and
    `buffer.NAME`."""

    def lift(array: Array) -> Any:
        return Runs(Budget.exact(array, profile) if array.dtype.kind == "f" else array.copy())

    kept = {
        path: Runs(np.array(a, np.float32)) if record.optimizer.is_counter(path) else lift(a)
        for path, a in state.items()
    }
    update = definition.updating(record, {name: lift(a) for name, a in arrays.items()}, kept, np.asarray, patches)
    value = update.on(lift(record.inputs[batches]), lift(record.targets[batches]))
    runs = len(batches)
    return {
        "loss": _of_runs(value, runs),
        **{f"update.{name}": _update(p.a, arrays[name]) for name, p in update.net.params.items()},
        **{f"state.{name}": _of_runs(s, runs) for name, s in definition.state_of(update.opt).items()},
        **{f"buffer.{name}": _of_runs(b, runs) for name, b in update.net.buffers.items()},
    }


def first_update(record: Train, profile: Profile, patches: Patches = NO_PATCHES) -> dict[str, Evaluation]:
    """The first update of a training as the only run."""
    batch = record.batches[0][None]
    return updates(record, leading(record.arrays), leading(record.state), batch, profile, patches)


def _of_runs(tensor: Any, runs: int) -> Evaluation:
    """Of an array of each run; one that is not of runs is the same for all."""
    if isinstance(tensor, Runs):
        return Evaluation.of(tensor.a)
    return Evaluation.of(np.broadcast_to(tensor, (runs, *np.shape(tensor))))


def _update(after: Budget, before: Array) -> Evaluation:
    """An update from a parameter after and before it, subtracted in binary64, which may round once."""
    x = after.x - before
    return Evaluation(x, after.e + 2.0**-53 * (abs(x) + 2 * after.e))
