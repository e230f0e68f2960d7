"""What a formula gives for a record in budgets: values, and how far any right evaluation of it may be from the truth.

All that a verdict needs of the one definition is computed here, for what is asked of an engine of one profile: a
`Request` is a VJP or an optimizer's steps, a `SplitRequest` a batch in parts, a `TrainingRequest` a training, of which
one update may be computed for many runs at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Self

import numpy as np

from parity.budget.array import Budget
from parity.budget.formats import Profile
from parity.records import definition
from parity.records.record import VJP, Answer, Optimize, Split, Train, leading
from refnet.arithmetic.runs import Runs
from refnet.train.schedule import set_rates

Array = np.ndarray[Any, Any]
Patches = Mapping[str, definition.Patch]
Moment = definition.Moment
NO_PATCHES = definition.NO_PATCHES
Room = Mapping[str, Array]
NO_ROOM: Room = {}


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


@dataclass(frozen=True)
class Request:
    """A VJP or an optimizer's steps, asked of an engine of one profile.

    Attributes:
        room: how far the truth may be from the values that it is known by, where that is enclosed.
    """

    record: VJP | Optimize
    profile: Profile
    room: Room = field(default_factory=dict)

    @classmethod
    def plain(cls, record: VJP | Optimize) -> Self:
        """Asked of an engine that computes everything in the record's dtype."""
        return cls(record, Profile.of(record.dtype))

    def bounds(self, patches: Patches = NO_PATCHES) -> dict[str, Array]:
        """How far the engine may be from the truth, by the tensor's name in an answer."""
        found = self._bounds(patches)
        return {name: e + self.room[name] if name in self.room else e for name, e in found.items()}

    def _bounds(self, patches: Patches) -> dict[str, Array]:
        tensors = definition.tensors(self.record, _exactly(self.profile), patches)
        if isinstance(self.record, VJP):
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

    def values(self, profile: Profile | None = None, patches: Patches = NO_PATCHES) -> dict[str, Evaluation]:
        """The formula's own values in binary64 with their bounds; of another profile, where one is given."""
        return self.in_answer(definition.tensors(self.record, _exactly(profile or self.profile), patches))

    def around_itself(self, patches: Patches = NO_PATCHES) -> dict[str, Evaluation]:
        """A formula's own values in binary64: an engine may differ from them by their bound and its own."""
        wide, own = (self.values(profile, patches) for profile in (Profile.of("float64"), self.profile))
        return {name: Evaluation(v.x, v.e + own[name].e) for name, v in wide.items() if v.x.dtype.kind == "f"}

    def bounds_of_narrower(self, profile: Profile) -> dict[str, Array]:
        """How far an engine of a narrower profile may be off, which rounds its inputs too."""

        def lift(array: Array) -> Budget:
            with np.errstate(over="ignore", invalid="ignore"):
                near = profile.storage.nearest(array)
                # An infinite entry of a mask is the same number in each format.
                return Budget.exact(array, profile, np.where(array == near, 0.0, abs(array - near)))

        return {name: v.e for name, v in self.in_answer(definition.tensors(self.record, lift)).items()}

    def watched(self, watch: Callable[[Budget], Any], patches: Patches) -> Mapping[str, Any]:
        """A VJP's tensors, computed on what `watch` makes of budgets; nothing of an optimizer's steps."""
        if not isinstance(self.record, VJP):
            return {}
        return definition.vjp(self.record, lambda a: watch(Budget.exact(a, self.profile)), patches)

    def in_answer(self, tensors: Mapping[str, Any]) -> dict[str, Evaluation]:
        """What `definition` gives in budgets, under the names of an answer."""
        if isinstance(self.record, VJP):
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


def _exactly(profile: Profile) -> Callable[[Array], Budget]:
    """What takes arrays to budgets of a profile, without an error."""
    return lambda a: Budget.exact(a, profile)


@dataclass(frozen=True)
class SplitRequest:
    """A batch, and the same samples in parts, asked of an engine of one profile."""

    split: Split
    profile: Profile

    def bounds(self, patches: Patches = NO_PATCHES) -> dict[str, Array]:
        """How far what the engine's gradients of the parts make up may be from its truth, under `grad.NAME`."""
        parts = [definition.vjp(part, _exactly(self.profile), patches) for part in self.split.parts]
        return {name: b.e for name, b in definition.combination(parts, self.split.weights, self.split.divisor).items()}

    def combined(self, answers: Sequence[Answer], names: Sequence[str]) -> Answer:
        """What an engine's own answers to the parts make up of the gradients of these names."""
        with np.errstate(all="ignore"):
            parts = [{name: own[name] for name in names} for own in answers]
            return definition.combination(parts, self.split.weights, self.split.divisor)


@dataclass(frozen=True)
class TrainingRequest:
    """A training, asked of an engine of one profile."""

    record: Train
    profile: Profile

    @classmethod
    def plain(cls, record: Train) -> Self:
        """Asked of an engine that computes everything in the record's dtype."""
        return cls(record, Profile.of(record.dtype))

    def first(self, updates: int) -> TrainingRequest:
        """The training of that number of updates from the start."""
        return replace(self, record=self.record.first(updates))

    def moments(self, patches: Patches = NO_PATCHES) -> Iterator[Moment]:
        """The training from its start in budgets; see `parity.records.definition.train`."""
        return definition.train(self.record, _exactly(self.profile), patches)

    @np.errstate(all="ignore")
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The names and shapes of a right answer."""
        n = self.record.iterations
        *_, after = definition.train(self.record.first(1), np.copy)
        return {
            "loss": (n,),
            **{f"param.{name}": (n + 1, *p.shape) for name, p in after.params.items()},
            **{f"state.{name}": (n, *s.shape) for name, s in after.state.items()},
            **{f"buffer.{name}": (n, *b.shape) for name, b in after.buffers.items()},
        }

    @np.errstate(all="ignore")
    def updates(
        self,
        arrays: Mapping[str, Array],
        state: Mapping[str, Array],
        batches: Array,
        patches: Patches = NO_PATCHES,
        profile: Profile | None = None,
    ) -> dict[str, Evaluation]:
        """One update of each run, which are those of the record, from its own parameters, buffers and state: `loss`,
        `update.NAME`, `state.NAME.KEY` and `buffer.NAME`; of another profile, where one is given."""
        record = self.record

        def lift(array: Array) -> Any:
            return Runs(Budget.exact(array, profile or self.profile) if array.dtype.kind == "f" else array.copy())

        kept = {
            path: Runs(np.array(a, np.float32)) if record.optimizer.is_counter(path) else lift(a)
            for path, a in state.items()
        }
        update = definition.updating(record, {name: lift(a) for name, a in arrays.items()}, kept, np.asarray, patches)
        definition.ahead_of(update, record, 0)
        if record.rates:
            # Each run is another update, with a rate of its own.
            set_rates(update.opt, [Runs(np.array(record.rates[: len(batches)]))] * len(update.opt.param_groups))
        if record.masks:
            # And masks of its own.
            runs, size = batches.shape
            definition.give_masks(update.net, {name: Runs(mask[:runs, :size]) for name, mask in record.masks.items()})
        value = update.on(lift(record.inputs[batches]), lift(record.targets[batches]))
        runs = len(batches)
        return {
            "loss": _of_runs(value, runs),
            **{f"update.{name}": _update(p.a, arrays[name]) for name, p in update.net.params.items()},
            **{f"state.{name}": _of_runs(s, runs) for name, s in definition.state_of(update.opt).items()},
            **{f"buffer.{name}": _of_runs(b, runs) for name, b in update.net.buffers.items()},
        }

    def around_updates(
        self, arrays: Mapping[str, Array], state: Mapping[str, Array], batches: Array, patches: Patches = NO_PATCHES
    ) -> dict[str, Evaluation]:
        """The values of `updates` in binary64: an engine may differ from them by their bound and its own."""
        wide = Profile.of("float64")
        values = self.updates(arrays, state, batches, patches, wide)
        own = values if self.profile == wide else self.updates(arrays, state, batches, patches)
        return {name: Evaluation(v.x, v.e + own[name].e) for name, v in values.items()}

    def first_update(self, patches: Patches = NO_PATCHES) -> dict[str, Evaluation]:
        """The first update as the only run."""
        record = self.record
        return self.updates(leading(record.arrays), leading(record.state), record.batches[0][None], patches)


def _of_runs(tensor: Any, runs: int) -> Evaluation:
    """Of an array of each run; one that is not of runs is the same for all."""
    if isinstance(tensor, Runs):
        return Evaluation.of(tensor.a)
    return Evaluation.of(np.broadcast_to(tensor, (runs, *np.shape(tensor))))


def _update(after: Budget, before: Array) -> Evaluation:
    """An update from a parameter after and before it, subtracted in binary64, which may round once."""
    x = after.x - before
    return Evaluation(x, after.e + 2.0**-53 * (abs(x) + 2 * after.e))
