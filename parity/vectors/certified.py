"""The catalogue's certified answers: computing, keeping, proving and finding them.

An answer is kept under the digest of its record's content. What changes in a case changes its digest, so a stale answer can't be found; the
grid family's answers, whose inputs are the same numbers in every dtype, are kept once.

Besides the certified answer (`NAME.hi`, `NAME.lo`, and `NAME.undecided` where something is) a training has
- `step.K.NAME`: the weights before update K of a recorded float run, and the certified answer to that one update from them;
- `bound.NAME`: how far a free run may be from the truth after each of the certified numbers of updates, as long as that says anything.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from parity import definition, lockstep
from parity.budget import Budget, Profile
from parity.cases.case import DTYPES, Case, TrainCase, group
from parity.engines.refnet import RefnetEngine
from parity.errors import UsageError
from parity.records import Record, Train
from parity.truth import Truth
from parity.vectors import store

Array = np.ndarray[Any, Any]

STEPS = 12
"""So many single updates of a training are certified, evenly spread in the logarithm of their number."""


@dataclass(frozen=True)
class Training:
    """What is kept of a training, besides the truth of its free run.

    Attributes:
        free: `param.NAME` after, and `loss` of the batch of, the case's certified updates (leading axis).
        bounds: likewise, how far a right free run may be from it; infinite from where its budget is spent.
        steps: for some numbers K, from 1, the weights and optimizer state before update K and the certified answer to it, of leading axis 1.
    """

    free: Mapping[str, Truth]
    bounds: Mapping[str, Array]
    steps: Mapping[int, tuple[Mapping[str, Array], Mapping[str, Truth]]]


def digest(record: Record) -> str:
    """A name for the content of a record: equal numbers in another dtype are the same content."""
    h = hashlib.sha256()
    for part in _parts(record):
        h.update(part)
    return h.hexdigest()[:16]


def _parts(value: Any) -> Iterator[bytes]:
    if is_dataclass(value):
        yield type(value).__name__.encode()
        for field in fields(value):
            yield field.name.encode()
            yield from _parts(getattr(value, field.name))
    elif isinstance(value, Mapping):
        for key in value:
            yield str(key).encode()
            yield from _parts(value[key])
    elif isinstance(value, tuple):
        yield str(len(value)).encode()
        for item in value:
            yield from _parts(item)
    elif isinstance(value, np.ndarray):
        yield str(value.shape).encode()
        yield np.ascontiguousarray(value, np.float64).tobytes()
    else:
        yield repr(value).encode()


def file_name(case: Case) -> str:
    """The file that holds a case's answers: one for each group of cases."""
    return group(case).lower().replace(" ", "-")


def truths(case: Case, family: str, dtype: str) -> dict[str, Truth]:
    """The certified answer to a case's record.

    Raises:
        UsageError: the file is refused (see `store.read`) or has no answer to this very record.
    """
    return _truths(_arrays(case, family, dtype), "")


def training(case: TrainCase, family: str, dtype: str) -> Training:
    """What is kept of a training case. Raises as `truths`."""
    arrays = _arrays(case, family, dtype)
    steps = {}
    for k in sorted({int(key.split(".")[1]) for key in arrays if key.startswith("step.")}):
        prefix = f"step.{k}."
        before = {
            key.removeprefix(f"{prefix}before."): a for key, a in arrays.items() if key.startswith(f"{prefix}before.")
        }
        steps[k] = (before, _truths(arrays, f"{prefix}after."))
    bounds = {key.removeprefix("bound."): a for key, a in arrays.items() if key.startswith("bound.")}
    return Training(
        _truths({k: a for k, a in arrays.items() if not k.startswith(("step.", "bound."))}, ""), bounds, steps
    )


@lru_cache(maxsize=8)
def _file(name: str, folder: Path) -> dict[str, dict[str, Array]]:
    """A file's arrays by digest, then by the rest of their name."""
    found: dict[str, dict[str, Array]] = {}
    for key, array in store.read(name, folder)[0].items():
        head, _, rest = key.partition("/")
        found.setdefault(head, {})[rest] = array
    return found


def _arrays(case: Case, family: str, dtype: str) -> dict[str, Array]:
    record = case.record(family, dtype)
    found = _file(file_name(case), store.FOLDER).get(key(record))
    if found is None:
        raise UsageError(
            f"{case.name} ({family}, {dtype}): expected a certified answer to this record in {file_name(case)}.safetensors, got none: "
            "the case has changed since. Compute it with: parity certify"
        )
    return found


def key(record: Record) -> str:
    """What a record's answer is kept under. A training's recorded steps depend on the dtype; other answers do not."""
    return f"{digest(record)}-{record.dtype}" if isinstance(record, Train) else digest(record)


def _truths(arrays: Mapping[str, Array], prefix: str) -> dict[str, Truth]:
    found = {}
    for name, hi in arrays.items():
        if name.startswith(prefix) and name.endswith(".hi"):
            stem = name.removesuffix(".hi")
            undecided = arrays.get(f"{stem}.undecided", np.zeros(hi.shape, np.uint8)).astype(bool)
            found[stem.removeprefix(prefix)] = Truth(hi, arrays[f"{stem}.lo"], undecided)
    return found


def certify(case: Case, family: str, dtype: str) -> dict[str, Array]:
    """Compute the answer to a case's record, as the arrays that are kept."""
    from parity.oracle.truth import certified

    record = case.record(family, dtype)
    if not isinstance(case, TrainCase) or not isinstance(record, Train):
        return _kept(certified(record), "")
    arrays: dict[str, Array] = {}
    if case.certified:
        arrays |= _kept(certified(record, case.certified), "")
        arrays |= {f"bound.{name}": e for name, e in _free_bounds(record, case.certified).items()}
    answer = RefnetEngine().train(record)
    numbers = sorted({int(k) for k in np.geomspace(1, record.iterations, STEPS)})
    for number, single in zip(numbers, lockstep.single_updates(record, answer, numbers), strict=True):
        arrays |= {
            f"step.{number}.before.{name}": a for name, a in {**single.arrays, **_prefixed(single.state)}.items()
        }
        arrays |= _kept(certified(single, (1,)), f"step.{number}.after.")
    return arrays


def _prefixed(state: Mapping[str, Array]) -> dict[str, Array]:
    return {f"state.{name}": a for name, a in state.items()}


def _kept(truths: Mapping[str, Truth], prefix: str) -> dict[str, Array]:
    arrays = {}
    for name, t in truths.items():
        arrays[f"{prefix}{name}.hi"], arrays[f"{prefix}{name}.lo"] = t.hi, t.lo
        if t.undecided.any():
            arrays[f"{prefix}{name}.undecided"] = t.undecided.astype(np.uint8)
    return arrays


def _free_bounds(record: Train, updates: Iterable[int]) -> dict[str, Array]:
    """The budget of a free run in the record's dtype, `param.NAME` after and `loss` of these updates; infinite once it exceeds a weight."""
    profile = Profile.of(record.dtype)
    wanted = sorted(updates)
    kept: dict[str, list[Array]] = {}
    descended: Any = None
    spent = False
    with np.errstate(all="ignore"):
        for k, loss, params, _ in definition.train(record, lambda a: Budget.exact(a, profile)):
            spent = spent or any(bool((p.e > abs(p.x)).any()) for p in params.values())
            if k in wanted:
                for name, e in {"loss": descended.e, **{f"param.{n}": p.e for n, p in params.items()}}.items():
                    kept.setdefault(name, []).append(np.where(spent, np.inf, e))
            if spent or k >= wanted[-1]:
                break
            descended = loss
        empty = {"loss": descended.e, **{f"param.{n}": p.e for n, p in params.items()}}
    # Once the budget is spent nothing more is known.
    return {
        name: np.stack(kept.get(name, []) + [np.full_like(e, np.inf)] * (len(wanted) - len(kept.get(name, []))))
        for name, e in empty.items()
    }
