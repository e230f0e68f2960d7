"""Judging a training run update by update, from the engine's own weights before each.

The run is recorded once; then all updates are judged together, with the updates as the run axis of `Runs` over budgets. No certified value is
needed: the budget in binary64 encloses the truth, and an engine's update must lie within the sum of that enclosure's width and its own budget.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from parity import definition
from parity.budget import Budget, Profile
from parity.engines.base import Answer
from parity.judgement import other_formulas
from parity.records import Train
from parity.truth import Truth
from parity.verdict import Enclosure, TensorVerdict, judge
from refnet.runs import Runs

Array = np.ndarray[Any, Any]

CHUNK = 2_000
"""Updates judged in one call: enough to be fast, few enough for the memory of a small machine."""


def judge_steps(record: Train, answer: Answer, profile: Profile) -> list[TensorVerdict]:
    """The verdict on `loss`, on `update.NAME` and on `state.NAME.KEY`, over all updates, of a recorded run.

    The update that a verdict's `where` names comes first in its index.
    """
    if reason := _misfit(record, answer):
        return [TensorVerdict("run", "FAIL", share=np.inf, reason=reason)]
    got: dict[str, Array] = {"loss": answer["loss"]}
    for name in record.arrays:
        if f"param.{name}" in answer:
            series = answer[f"param.{name}"].astype(np.float64)
            got[f"update.{name}"] = series[1:] - series[:-1]
    got |= {name: a for name, a in answer.items() if name.startswith("state.")}

    def enclosed(patches: Mapping[str, definition.Patch]) -> dict[str, Enclosure]:
        return _enclose(record, answer, profile, patches)

    others = other_formulas(record.network.types() | {record.loss.type}, enclosed, enclosed)
    return [
        judge(name, got.get(name), enclosure, "float64" if name.startswith("update.") else record.dtype, others)
        for name, enclosure in _enclose(record, answer, profile, definition.NO_PATCHES).items()
    ]


def _misfit(record: Train, answer: Answer) -> str:
    for name, initial in {
        "loss": None,
        **{f"param.{n}": a for n, a in record.arrays.items() if a.dtype.kind == "f"},
    }.items():
        shape = (record.iterations,) if initial is None else (record.iterations + 1, *initial.shape)
        if name not in answer:
            return f"expected {name}, got {', '.join(answer) or 'nothing'}"
        if answer[name].shape != shape or str(answer[name].dtype) != record.dtype:
            return f"expected {name} of shape {shape} and dtype {record.dtype}, got {answer[name].shape} and {answer[name].dtype}"
        if not np.isfinite(answer[name]).all():
            return f"expected finite values in {name}, got NaN or infinity from update {int(np.argwhere(~np.isfinite(answer[name]))[0][0])}"
        if initial is not None and not np.array_equal(answer[name][0], initial):
            return f"expected {name}[0] to be the initial value, got something else"
    return ""


def _enclose(
    record: Train, answer: Answer, profile: Profile, patches: Mapping[str, definition.Patch]
) -> dict[str, Enclosure]:
    """What each step gives from the engine's weights before it: values in binary64, and how far the engine may be from them."""
    sizes: dict[str, Array] = {}
    wide = Profile.of("float64")
    for steps in _alike(record):
        params = {n: answer[f"param.{n}"][steps] for n in record.arrays}
        state = {
            n.removeprefix("state."): a[steps - 1] for n, a in answer.items() if n.startswith("state.") and steps[0] > 0
        }
        batches = np.stack([record.batches[k] for k in steps])
        reference = _step(record, params, state, batches, wide, patches)
        own = reference if profile == wide else _step(record, params, state, batches, profile, patches)
        for name, budget in reference.items():
            if name not in sizes:
                sizes[name] = np.zeros((2, record.iterations, *budget.shape[1:]))
            x = budget.x - params[name.removeprefix("update.")] if name.startswith("update.") else budget.x
            sizes[name][0, steps] = x
            # The subtraction above is exact or rounds once.
            sizes[name][1, steps] = budget.e + own[name].e + 2.0**-53 * abs(x)
    return {name: Enclosure(Truth.of(x), e) for name, (x, e) in sizes.items()}


def _alike(record: Train) -> Iterator[Array]:
    """Numbers of updates that can be judged together: batches of one size, at most CHUNK of them, and the first, which finds no
    optimizer state, apart."""
    lengths = np.array([len(b) for b in record.batches])
    lengths[:1] = 0
    for length in np.unique(lengths):
        numbers = np.flatnonzero(lengths == length)
        for start in range(0, len(numbers), CHUNK):
            yield numbers[start : start + CHUNK]


def _step(
    record: Train,
    params: Mapping[str, Array],
    state: Mapping[str, Array],
    batches: Array,
    profile: Profile,
    patches: Mapping[str, definition.Patch],
) -> dict[str, Budget]:
    """One update of each run: `loss`, `state.NAME.KEY`, and `update.NAME` holding the parameter after it."""

    def lift(array: Array) -> Runs:
        return Runs(Budget.exact(array, profile))

    network = definition.build(record.network, {name: lift(p) for name, p in params.items()}, patches)
    loss = definition.build(record.loss, {}, patches)
    targets = record.targets[batches]
    value, grads = definition.gradients(
        network,
        loss,
        lift(record.inputs[batches]),
        lift(targets) if targets.dtype.kind == "f" else Runs(targets),
        lift(np.ones(len(batches), record.dtype)),
    )
    trainable = record.trainable or tuple(network.params)
    optimizer = definition.optimizer(
        record.optimizer, {name: network.params[name] for name in trainable}, patches=patches
    )
    definition.restore(optimizer, {name: lift(a) for name, a in state.items()})
    optimizer.step({name: grads[name] for name in trainable})
    return {
        "loss": value.a,
        **{f"update.{name}": p.a for name, p in network.params.items()},
        **{f"state.{name}": s.a for name, s in definition.state_of(optimizer).items()},
    }


def single_updates(record: Train, answer: Answer, numbers: Sequence[int]) -> list[Train]:
    """Records of one update each, from a recorded run's weights and optimizer state before its updates of these numbers (from 1)."""
    states = {n.removeprefix("state."): a for n, a in answer.items() if n.startswith("state.")}
    return [
        single_update(
            record,
            {n: answer[f"param.{n}"][k - 1] for n in record.arrays},
            {n: a[k - 2] for n, a in states.items() if k > 1},
            k,
        )
        for k in numbers
    ]


def single_update(record: Train, before: Mapping[str, Array], state: Mapping[str, Array], number: int) -> Train:
    """A record of the update of that number alone, from the weights and the optimizer state before it."""
    return replace(record, arrays=dict(before), state=dict(state), batches=(record.batches[number - 1],))


def bounds(
    single: Train, profile: Profile, patches: Mapping[str, definition.Patch] = definition.NO_PATCHES
) -> dict[str, Array]:
    """The budget of one update, under the names of its answer (`update.NAME` for the parameters), with a leading axis of 1."""
    params, state = ({name: a[None] for name, a in arrays.items()} for arrays in (single.arrays, single.state))
    with np.errstate(all="ignore"):
        return {
            name: b.e for name, b in _step(single, params, state, single.batches[0][None], profile, patches).items()
        }
