"""Judging a free run: the weights that an engine reaches on its own, as long as the budget of the run lasts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from parity.records.record import Train
from parity.verdict.evaluation import TrainingRequest
from parity.verdict.tensor import Answer, Array, Enclosure, TensorVerdict, Truths, judge


def judge_run(
    answer: Answer, updates: Sequence[int], truths: Truths, bounds: Mapping[str, Array], dtype: str
) -> tuple[list[TensorVerdict], list[str]]:
    """The verdict on `free loss` and `free param.NAME` at the updates of these numbers, and what else is to be said.

    Args:
        truths, bounds: what is certified of them, in the order of the updates; see `bounds`.
    """
    numbers = np.array(updates)
    lasts = np.all([np.isfinite(b).reshape(len(numbers), -1).all(axis=1) for b in bounds.values()], axis=0)
    count = len(numbers) if lasts.all() else int(lasts.argmin())
    notes = [] if lasts.all() else [f"free run: uncertified from update {numbers[count]} on"]
    if count == 0:
        return [], notes
    verdicts = [
        judge(
            f"free {name}",
            # A loss is that of an update's batch before it; a parameter is recorded before the first update too.
            answer[name][numbers[:count] - (name == "loss")],
            Enclosure(truths[name][:count], bound[:count]),
            dtype,
            step=lambda k: f"update {numbers[k]}",
        )
        for name, bound in bounds.items()
    ]
    return verdicts, notes


def bounds(record: Train, updates: Iterable[int]) -> dict[str, Array]:
    """How far a right run in the record's dtype may be from the truth, in `param.NAME` after and `loss` of these
    updates: the budget of the whole run, infinite once it exceeds a weight.

    They have 8 significant bits, rounded up: more would say nothing, and the last ones depend on the processor's exp.
    """
    wanted = sorted(updates)
    rows: list[dict[str, Array]] = []
    row: dict[str, Array] = {}
    with np.errstate(all="ignore"):
        for k, loss, params, *_ in TrainingRequest.plain(record).moments():
            if loss is not None:
                # Parameters are written in place.
                row = {"loss": loss.e, **{f"param.{name}": p.e.copy() for name, p in params.items()}}
                if any((p.e > abs(p.x)).any() for p in params.values()):
                    break
                rows += [row] if k in wanted else []
                if k == wanted[-1]:
                    break
    spent = {name: np.full_like(e, np.inf) for name, e in row.items()}
    rows += [spent] * (len(wanted) - len(rows))
    return {name: _rounded_up(np.stack([r[name] for r in rows])) for name in row}


def _rounded_up(e: Array) -> Array:
    mantissa, exponent = np.frexp(e)
    return np.asarray(np.ldexp(np.ceil(mantissa * 256), exponent - 8))
