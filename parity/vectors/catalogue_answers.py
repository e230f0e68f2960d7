"""The catalogue's certified answers: computing, keeping, proving and finding them.

An answer is kept under the digest of its record's content. What changes in a case changes its digest, so a stale answer
can't be found; the grid family's answers, whose inputs are the same numbers in every dtype, are kept once.

Besides the certified answer (`NAME.hi`, `NAME.lo`, and `NAME.undecided` where something is) a training has
- `step.K.before.NAME`: the weights and the optimizer's state before update K of a recorded float run, and
  `step.K.after.NAME`: the certified answer to that one update from them;
- `bound.NAME`: how far a free run may be from the truth after each of the certified numbers of updates, see
  `parity.verdict.free_run`.

Of a large case some elements of each tensor are kept; `shape.NAME` is the tensor's shape, and which elements these are
is drawn again from the case's name.

A case whose samples come in parts too has `whole.NAME`, `parts.K.NAME` and `combined.grad.NAME`, see
`parity.records.record.Split`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from parity.families.case import Case, TrainCase, VJPCase, group
from parity.records.record import Record, Split, Train, UsageError
from parity.truth.value import Sample, Truth
from parity.vectors import store

Array = np.ndarray[Any, Any]

ABOUT = "certified answers of the catalogue; names are record digests, see parity.vectors.catalogue_answers"


@dataclass(frozen=True)
class Training:
    """What is kept of a training, besides the truth of its free run.

    Attributes:
        free: `param.NAME` after, and `loss` of the batch of, the case's certified updates (leading axis).
        bounds: likewise, how far a right free run may be from it; infinite from where its budget is spent.
        steps: for some numbers K, from 1, the record of update K alone, and the certified answer to it.
    """

    free: Mapping[str, Truth]
    bounds: Mapping[str, Array]
    steps: Mapping[int, tuple[Train, Mapping[str, Truth]]]


@dataclass(frozen=True)
class InParts:
    """What is kept of a case whose samples come in parts: the certified answer to each part, and what their gradients
    make up."""

    parts: tuple[Mapping[str, Truth], ...]
    combined: Mapping[str, Truth]


def digest(record: Record | Split) -> str:
    """A name for the content of a record: equal numbers in another dtype are the same content."""
    h = hashlib.sha256()
    for part in _parts(record):
        h.update(part)
    return h.hexdigest()[:16]


def _parts(value: Any) -> Iterator[bytes]:
    if is_dataclass(value):
        yield type(value).__name__.encode()
        for field in fields(value):
            if "derived" in field.metadata or ("later" in field.metadata and not getattr(value, field.name)):
                continue
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
    """The file that holds a case's answers: one for each group of cases, and one more for its large ones."""
    return ("large-" if is_large(case) else "") + group(case).lower().replace(" ", "-")


def is_large(case: Case) -> bool:
    """Whether it is a case of real size, of which some elements are kept; see `parity.families.large`."""
    return not isinstance(case, TrainCase) and case.large


def truths(case: Case, family: str, dtype: str, folder: Path | None = None) -> dict[str, Truth]:
    """The certified answer to a case's record.

    Raises:
        UsageError: the file is refused (see `store.read`) or has no answer to this very record.
    """
    record = asked(case, family, dtype)
    return _truths(_arrays(case, family, record, folder), "whole." if isinstance(record, Split) else "")


def samples(
    case: Case, family: str, dtype: str, folder: Path | None = None
) -> tuple[dict[str, Truth], dict[str, Sample]]:
    """The certified answer to a large case's record, and which elements of its tensors these are, where not all.

    Raises as `truths`.
    """
    found = truths(case, family, dtype, folder)
    shapes = _within(kept(case, family, dtype, folder), "shape.")
    drawn = {}
    for name, shape in shapes.items():
        sample = Sample.drawn(tuple(shape.tolist()), len(found[name].hi), case.name, name)
        if sample is not None:
            drawn[name] = sample
    return found, drawn


def sampled(truths: Mapping[str, Truth], samples: Mapping[str, Sample]) -> dict[str, Array]:
    """Certified elements as the arrays that are kept: of each sample the tensor's shape beside."""
    shapes = {f"shape.{name}": np.array(sample.shape, np.int64) for name, sample in samples.items()}
    return {**pairs(truths, ""), **shapes}


def in_parts(case: VJPCase, family: str, dtype: str, folder: Path | None = None) -> InParts:
    """What is kept of a case whose samples come in parts, besides the answer to the whole. Raises as `truths`."""
    record = asked(case, family, dtype)
    assert isinstance(record, Split)
    arrays = _arrays(case, family, record, folder)
    parts = tuple(_truths(arrays, f"parts.{k}.") for k in range(len(record.parts)))
    return InParts(parts, _truths(arrays, "combined."))


def training(case: TrainCase, family: str, dtype: str, folder: Path | None = None) -> Training:
    """What is kept of a training case. Raises as `truths`."""
    record = case.record(family, dtype)
    arrays = _arrays(case, family, record, folder)
    free = {name: a for name, a in arrays.items() if not name.startswith(("step.", "bound."))}
    steps = {k: (single, _truths(arrays, f"step.{k}.after.")) for k, single in singles(record, arrays).items()}
    return Training(_truths(free, ""), _within(arrays, "bound."), steps)


def kept(case: Case, family: str, dtype: str, folder: Path | None = None) -> Mapping[str, Array]:
    """All arrays that are kept of a case, as they are. Raises as `truths`."""
    return _arrays(case, family, asked(case, family, dtype), folder)


def singles(record: Train, arrays: Mapping[str, Array]) -> dict[int, Train]:
    """The single updates that start from kept weights, by their number."""
    found = {}
    for k in sorted({int(name.split(".")[1]) for name in arrays if name.startswith("step.")}):
        before = _within(arrays, f"step.{k}.before.")
        weights = {name: a for name, a in before.items() if not name.startswith("state.")}
        found[k] = record.single(k, weights, _within(before, "state."))
    return found


def _within(arrays: Mapping[str, Array], prefix: str) -> dict[str, Array]:
    """The arrays whose names begin so, under the rest of their names."""
    return {name.removeprefix(prefix): a for name, a in arrays.items() if name.startswith(prefix)}


def listed(name: str, folder: Path | None = None) -> bool:
    """Whether there is a file of that name. Raises as `store.names`."""
    return name in store.names(folder)


def by_record(name: str, folder: Path | None) -> dict[str, dict[str, Array]]:
    """A file's arrays by the record's key, then by the rest of their name.

    Raises:
        UsageError: the file is refused (see `store.read`).
    """
    found: dict[str, dict[str, Array]] = {}
    for path, array in store.read(name, folder)[0].items():
        array.flags.writeable = False
        head, _, rest = path.partition("/")
        found.setdefault(head, {})[rest] = array
    return found


_by_record = lru_cache(maxsize=8)(by_record)


def _arrays(case: Case, family: str, record: Record | Split, folder: Path | None) -> dict[str, Array]:
    file = file_name(case)
    found = _by_record(file, folder).get(key(record))
    if found is None:
        raise UsageError(
            f"{case.name} ({family}, {record.dtype}): expected a certified answer to this record in "
            f"{file}.safetensors, got none: the case has changed since. Compute it with: parity certify"
        )
    return found


def asked(case: Case, family: str, dtype: str) -> Record | Split:
    """What is kept of a case answers this: its record, or its record and its samples in parts."""
    split = case.split(family, dtype) if isinstance(case, VJPCase) else None
    return split or case.record(family, dtype)


def key(record: Record | Split) -> str:
    """What a record's answer is kept under. A training's recorded steps depend on the dtype; other answers do not."""
    return f"{digest(record)}-{record.dtype}" if isinstance(record, Train) else digest(record)


def _truths(arrays: Mapping[str, Array], prefix: str) -> dict[str, Truth]:
    found = {}
    for name, hi in _within(arrays, prefix).items():
        if name.endswith(".hi"):
            stem = name.removesuffix(".hi")
            undecided = arrays.get(f"{prefix}{stem}.undecided", np.zeros(hi.shape, np.uint8)).astype(bool)
            found[stem] = Truth(hi, arrays[f"{prefix}{stem}.lo"], undecided)
    return found


def pairs(truths: Mapping[str, Truth], prefix: str) -> dict[str, Array]:
    """Certified values as the arrays that are kept."""
    arrays = {}
    for name, t in truths.items():
        arrays[f"{prefix}{name}.hi"], arrays[f"{prefix}{name}.lo"] = t.hi, t.lo
        if t.undecided.any():
            arrays[f"{prefix}{name}.undecided"] = t.undecided.astype(np.uint8)
    return arrays


def write(name: str, answers: Mapping[str, Mapping[str, Array]], folder: Path | None = None) -> None:
    """Keep answers, by their records' keys, in a file. Raises as `store.write`."""
    arrays = {f"{key}/{rest}": array for key, answer in answers.items() for rest, array in answer.items()}
    store.write(name, arrays, {"about": ABOUT}, folder)
