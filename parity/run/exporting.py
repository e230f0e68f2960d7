"""The catalogue for readers in any language: records, certified answers, budgets, and what each record reveals."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from parity.families.case import Case, OptimizeCase, TrainCase
from parity.records.encoding import encode_array, encode_record
from parity.records.record import Record
from parity.run import pool
from parity.run.judging import certified
from parity.run.scoring import caught
from parity.vectors import catalogue_answers, exchange
from parity.verdict.certified_tensors import Tensors

Array = np.ndarray[Any, Any]

DTYPES = ("float64", "float32")

DIGITS = 34
"""Of the decimals that stand beside a certified value."""

Document = dict[str, Any]


def export(folder: Path, cases: Sequence[Case], jobs: int, done: Callable[[], object] = lambda: None) -> int:
    """Write every record of the cases to a folder; how many there are.

    Args:
        done: is called as each case ends.

    Raises:
        UsageError: as `parity.vectors.exchange.export`, before any work.
    """
    exchange.check_folder(folder)
    found: dict[str, list[Document]] = {}

    def ended(case: Case, documents: list[Document] | pool.Lost) -> None:
        if isinstance(documents, pool.Lost):
            raise RuntimeError(f"exporting: expected the records of {case.name}, got none: {documents.reason}")
        found[case.name] = documents
        done()

    pool.run(_documents, cases, jobs, ended, long=lambda case: isinstance(case, TrainCase))
    groups: dict[str, list[Document]] = {}
    for case in cases:
        groups.setdefault(catalogue_answers.file_name(case), []).extend(found[case.name])
    return exchange.export(folder, groups)


def _documents(case: Case) -> list[Document]:
    return [document(case, family, dtype) for family in case.families for dtype in DTYPES]


def document(case: Case, family: str, dtype: str) -> Document:
    """One record with all that is known of it; arrays of more than `exchange.LARGEST` elements stand in it as they
    are."""
    asked = certified(case, family, dtype)
    record = case.record(family, dtype)
    made: Document = {
        "case": case.name,
        "family": family,
        "dtype": dtype,
        "record": _record(record),
        "layouts": layouts(case),
        "flags": sorted({*_data_flags(record), *asked.told_apart()}),
        "mistakes": caught(case, family, dtype),
        "tensors": _tensors(asked.certified()),
    }
    further = asked.certified_further()
    if hasattr(asked, "split"):
        made["parts"] = [{"record": _record(part), "tensors": _tensors(t)} for part, t in further.values()]
        made["combined"] = {
            "weights": list(asked.split.weights),
            "divisor": asked.split.divisor,
            "is_gradient_of_whole": asked.split.equal,
            "tensors": _tensors(asked.certified_combined()),
        }
    elif hasattr(asked, "updates"):
        made["updates"] = list(asked.updates)
        # A single update has the data and the specifications of its training.
        own = ("kind", "dtype", "arrays", "batches", "state")
        made["single_updates"] = {
            str(number): {"record": {name: _record(single)[name] for name in own}, "tensors": _tensors(t)}
            for number, (single, t) in further.items()
        }
    return made


def _record(record: Record) -> Document:
    return encode_record(record, decimals=True, largest=exchange.LARGEST)


def _tensors(tensors: Tensors) -> Document:
    """Certified values hi + lo, and how far a right answer may be from them."""
    found = {}
    for name, (dtype, truth, budget) in tensors.items():
        one: Document = {
            "dtype": dtype,
            "shape": list(truth.shape),
            "hi": _floats(truth.hi),
            "lo": _floats(truth.lo),
            "budget": None if budget is None else _floats(budget),
        }
        if truth.hi.size <= exchange.LARGEST:
            one["decimal"] = [
                truth.decimal(DIGITS, index) if np.isfinite(truth.hi[index]) else str(float(truth.hi[index]))
                for index in np.ndindex(truth.shape)
            ]
        if truth.undecided.any():
            one["undecided"] = [int(k) for k in np.flatnonzero(truth.undecided)]
        found[name] = one
    return found


def _floats(array: Array) -> Any:
    made = encode_array(np.asarray(array, np.float64), largest=exchange.LARGEST)
    return made["tensor"] if "tensor" in made else made["hex"]


# ---- what a record reveals


def layouts(case: Case) -> dict[str, str]:
    """The arrays of a case that do not lie in C order, or share elements, and how."""
    if isinstance(case, TrainCase):
        return {}
    if isinstance(case, OptimizeCase):
        draws = {**case.params, **{f"grads.{name}": draw for name, draw in case.grads.items()}}
    else:
        draws = {
            **case.arrays,
            **{f"inputs.{k}": draw for k, draw in enumerate(case.inputs)},
            **{f"grad_outputs.{k}": draw for k, draw in enumerate(case.grads)},
        }
    return {name: draw.layout for name, draw in draws.items() if draw.layout != "contiguous"}


def _data_flags(record: Record) -> Iterator[str]:
    """What the arrays of a record are."""
    document = _named(record)
    floats = {name: a for name, a in document.items() if a.dtype.kind == "f"}
    tiny = np.finfo(record.dtype).tiny
    for name, a in document.items():
        if a.size == 0:
            yield "no elements"
        elif a.ndim == 0:
            yield "no axes"
        elif name.startswith("inputs") and a.shape[0] == 1:
            yield "batch of one"
    for name, a in floats.items():
        if a.size and (a == 0).any() and name.startswith("inputs"):
            yield "a zero among the inputs"
        if (np.signbit(a) & (a == 0)).any():
            yield "negative zero"
        if ((a != 0) & (abs(a) < tiny)).any():
            yield "subnormal numbers"
        if name.startswith("grad_outputs") and a.size > 1:
            if int((a != 0).sum()) == 1:
                yield "upstream gradient one-hot"
            if not a.any():
                yield "upstream gradient zero"
            if 0 in (s for s, n in zip(a.strides, a.shape, strict=True) if n > 1):
                yield "upstream gradient of stride zero"


def _named(record: Record) -> dict[str, Array]:
    """The arrays of a record under the names that `layouts` has."""
    named: dict[str, Array] = {}
    for field in ("inputs", "grad_outputs", "arrays", "params", "grads", "targets"):
        value = getattr(record, field, {})
        if isinstance(value, np.ndarray):
            named[field] = value
        elif isinstance(value, tuple):
            named |= {f"{field}.{k}": a for k, a in enumerate(value)}
        else:
            named |= {f"{field}.{name}": a for name, a in value.items()}
    return named
