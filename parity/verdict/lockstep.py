"""Judging a training run update by update, from the engine's own weights before each.

The run is recorded once; then all updates are judged together, with the updates as the run axis of `Runs` over budgets.
No certified value is needed: the budget in binary64 encloses the truth, and an engine's update must lie within the sum
of that enclosure's width and its own budget. Some single updates are certified besides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import numpy as np

from parity.verdict.answer import other_formulas
from parity.verdict.evaluation import NO_PATCHES, Patches, TrainingRequest
from parity.verdict.tensor import Answer, Array, Enclosure, TensorVerdict, Truths, failed, judge
from refnet.arithmetic.array_like import Undecided

CHUNK = 2_000
"""Updates judged in one call: enough to be fast, few enough for the memory of a small machine."""


def judge_steps(request: TrainingRequest, answer: Answer) -> list[TensorVerdict]:
    """The verdict on `loss`, `update.NAME`, `state.NAME.KEY` and `buffer.NAME`, over all updates, of a recorded run.

    The update that a verdict's `where` names, from 0, comes first in its index. An answer that is no such run fails
    in one verdict, on `run`.
    """
    if reason := _misfit(request, answer):
        return [failed("run", reason)]
    tensors = _updates(answer)
    return _judge(
        request,
        tensors,
        lambda patches: _enclose(request, answer, tensors, patches),
        step=lambda k: f"update {k + 1}",
    )


def first_updates(request: TrainingRequest, answer: Answer, count: int) -> tuple[Answer, dict[str, Enclosure]]:
    """The first updates of a run that `judge_steps` judges, and what encloses each of them."""
    cut = {name: a[: count + name.startswith("param.")] for name, a in answer.items()}
    tensors = _updates(cut)
    return tensors, _enclose(request.first(count), cut, tensors, NO_PATCHES)


def judge_single_updates(
    singles: Mapping[int, tuple[TrainingRequest, Truths]], answers: Mapping[int, Answer]
) -> list[TensorVerdict]:
    """The verdict on `certified loss`, `certified update.NAME` and so on of some certified updates, one after another.

    Args:
        singles: requests for one update each, by its number, and their certified answers. answers: an engine's.
    """
    for number, (single, _) in singles.items():
        if reason := _misfit(single, answers[number]):
            return [failed(f"certified update {number}", reason)]
    numbers, given = list(singles), [_updates(answers[number]) for number in singles]

    def enclosed(patches: Patches) -> dict[str, Enclosure]:
        steps = [(single.first_update(patches), truths) for single, truths in singles.values()]
        names = steps[0][0]
        return {name: Enclosure.concatenate([Enclosure(t[name], s[name].e) for s, t in steps]) for name in names}

    verdicts = _judge(
        singles[numbers[0]][0],
        {name: np.concatenate([tensors[name] for tensors in given]) for name in given[0]},
        enclosed,
        step=lambda k: f"update {numbers[k]}",
    )
    return [replace(v, name=f"certified {v.name}") for v in verdicts]


def _judge(
    request: TrainingRequest,
    tensors: Answer,
    enclosed: Callable[[Patches], Mapping[str, Enclosure]],
    step: Callable[[int], str],
) -> list[TensorVerdict]:
    record = request.record
    others = other_formulas(record.types(), enclosed, enclosed)
    return [
        judge(name, tensors[name], e, record.dtype_of(name), others, step) for name, e in enclosed(NO_PATCHES).items()
    ]


def _updates(answer: Answer) -> Answer:
    """An answer with `update.NAME`, subtracted in binary64, in the place of `param.NAME`."""
    return {
        name.replace("param.", "update.", 1): np.diff(a.astype(np.float64), axis=0) if name.startswith("param.") else a
        for name, a in answer.items()
    }


def _misfit(request: TrainingRequest, answer: Answer) -> str:
    """Why an answer can't be judged, in words; nothing if it can."""
    record, due = request.record, request.shapes()
    if answer.keys() != due.keys():
        return f"expected {', '.join(due)}, got {', '.join(answer) or 'nothing'}"
    for name, shape in due.items():
        got = answer[name]
        dtype = record.dtype_of(name)
        if got.shape != shape or str(got.dtype) != dtype:
            return f"expected {name} of shape {shape} and dtype {dtype}, got {got.shape} and {got.dtype}"
        weights = name.startswith("param.")
        if weights and not np.array_equal(got[0], record.arrays[name.removeprefix("param.")]):
            return f"expected {name}[0] to be the initial value, got something else"
        if not (finite := np.isfinite(got)).all():
            # Weights are recorded before the first update too.
            update = int(np.argwhere(~finite)[0][0]) + (not weights)
            return f"expected finite values in {name}, got NaN or infinity from update {update} on"
    return ""


def _enclose(request: TrainingRequest, answer: Answer, tensors: Answer, patches: Patches) -> dict[str, Enclosure]:
    """What each step gives from the engine's weights before it: values in binary64, and how far the engine may be from
    them."""
    record = request.record
    x, e = ({name: np.zeros(t.shape) for name, t in tensors.items()} for _ in range(2))
    undecided = np.zeros(record.iterations, bool)
    chunks = list(_alike(request))
    while chunks:
        steps = chunks.pop()
        arrays, state = record.before(answer, steps)
        try:
            those = replace(request, record=record.of_updates(steps))
            found = those.around_updates(arrays, state, np.stack(those.record.batches), patches)
        except Undecided:
            # One step near a kink leaves the others decided.
            undecided[steps] = len(steps) == 1
            chunks += [part for part in np.array_split(steps, 2) if len(steps) > 1]
            continue
        for name, values in found.items():
            x[name][steps], e[name][steps] = values.x, values.e
    return {name: Enclosure.around(values, e[name], _as_a_whole(undecided, values)) for name, values in x.items()}


def _as_a_whole(undecided: Array, values: Array) -> Array:
    """Which elements are undecided, as some steps are as a whole."""
    return np.broadcast_to(undecided.reshape(-1, *(1 for _ in values.shape[1:])), values.shape)


def _alike(request: TrainingRequest) -> Iterator[Array]:
    """Numbers of updates, from 0, that can be judged together: batches of one size, at most CHUNK of them, with the
    same parameters frozen, and the first, which does not find the state that another left, apart."""
    yield np.zeros(1, np.int64)
    record = request.record
    kinds = np.array([(len(batch), len(record.frozen_before(k))) for k, batch in enumerate(record.batches)])
    for kind in np.unique(kinds[1:], axis=0):
        numbers = 1 + np.flatnonzero((kinds[1:] == kind).all(axis=1))
        for start in range(0, len(numbers), CHUNK):
            yield numbers[start : start + CHUNK]
