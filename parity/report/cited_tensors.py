"""The certified tensors of the catalogue as citations. Their names are those that reports use:
`CASE (FAMILY, DTYPE), TENSOR[INDEX]`."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import NamedTuple

import refnet
from parity.families.case import DTYPES, Case, TrainCase
from parity.families.listing import catalogue
from parity.records.record import VJP, Optimize, Record, Split, Train, UsageError
from parity.report.citation import Citation, check_digest, elements, need_balls, split
from parity.truth.value import Truth
from parity.vectors import catalogue_answers, store

PATTERN = re.compile(
    r"(?P<case>.+) \((?P<family>\w+), (?P<dtype>\w+)\), (?P<tensor>[^\[\s]+)(?:\[(?P<place>[^\]]*)\])?"
)
FORM = "CASE (FAMILY, DTYPE), TENSOR[INDEX]"


class Tensor(NamedTuple):
    """A tensor of the catalogue, and a place in it."""

    case: Case
    family: str
    dtype: str
    name: str
    place: tuple[int, ...] | None = None

    @property
    def record(self) -> Record:
        """What is asked; of samples in parts, the whole."""
        record = catalogue_answers.asked(self.case, self.family, self.dtype)
        return record.whole if isinstance(record, Split) else record

    def __str__(self) -> str:
        place = "" if self.place is None else str(list(self.place))
        return f"{self.case.name} ({self.family}, {self.dtype}), {self.name}{place}"


def find(text: str) -> Tensor:
    """The tensor of that name.

    Raises:
        UsageError: no name of the form that is expected, or nothing is called so.
    """
    match = PATTERN.fullmatch(text)
    if match is None:
        raise UsageError(f"cite: expected example/FIGURE or {FORM}, got {text!r}; see parity cite --list")
    cases = {case.name: case for case in catalogue()}
    case = cases.get(match["case"])
    if case is None:
        raise UsageError(f"cite: expected the name of a case{_near(match['case'], cases)}, got {match['case']}")
    if match["family"] not in case.families or match["dtype"] not in DTYPES:
        due = f"({' or '.join(case.families)}, {' or '.join(DTYPES)})"
        raise UsageError(f"cite: expected {due} after {case.name}, got ({match['family']}, {match['dtype']})")
    try:
        index = None if match["place"] is None else tuple(int(k) for k in match["place"].split(",") if k.strip())
    except ValueError:
        raise UsageError(f"cite: expected integers in the brackets, got [{match['place']}]") from None
    tensor = Tensor(case, match["family"], match["dtype"], match["tensor"], index)
    known = _truths(tensor)
    if tensor.name not in known:
        raise UsageError(f"cite: expected one of {', '.join(known)} in {case.name}, got {tensor.name}")
    return tensor


def names(pattern: str = "") -> Iterator[str]:
    """The names of all certified tensors that contain `pattern`."""
    pattern = pattern.lower()
    # No tensor's name has one of these: so far a pattern is part of a record's name, and files of others are not read.
    of_record = pattern[: 1 + max(map(pattern.rfind, "/()"))]
    for case in catalogue():
        for family in case.families:
            for dtype in DTYPES:
                if of_record in f"{case.name} ({family}, {dtype})".lower():
                    for name in _truths(Tensor(case, family, dtype, "")):
                        text = str(Tensor(case, family, dtype, name))
                        if pattern in text.lower():
                            yield text


def digest(tensor: Tensor) -> str:
    """The first 16 digits of the SHA-256 of what the tensor is made from: class, arguments and all numbers."""
    return catalogue_answers.digest(catalogue_answers.asked(tensor.case, tensor.family, tensor.dtype))


def answer(text: str, again: bool = False) -> tuple[Citation, bool | None]:
    """What there is to say of the figure of that id; and, if asked, whether its bits are the same `again`.

    Raises:
        UsageError: as `find`, `check_digest`, `cite` and `verify`.
    """
    name, asked = split(text)
    tensor = find(name)
    check_digest(str(tensor), asked, digest(tensor))
    return cite(tensor), verify(tensor) if again else None


def cite(tensor: Tensor) -> Citation:
    """What there is to say of it.

    Raises:
        UsageError: as `elements`; the kept file is refused.
    """
    record, file = tensor.record, catalogue_answers.file_name(tensor.case)
    specs = (record.network, record.loss, record.optimizer) if isinstance(record, Train) else (record.spec,)
    formula = [str(spec) for spec in specs]
    for kind in sorted(set().union(*(spec.types() for spec in specs))):
        home = next((m for m in (refnet.nn, refnet.optim) if hasattr(m, kind)), None)
        if home is not None:
            formula += ["", f"{home.__name__}.{kind}:", *(f"  {line}" for line in _equations(getattr(home, kind)))]
    return Citation(
        id=f"{tensor} #{digest(tensor)}",
        about=_about(tensor, record),
        formula=tuple(formula),
        inputs=_inputs(record),
        elements=elements(_truths(tensor)[tensor.name], str(tensor._replace(place=None)), tensor.place),
        proof="Enclosed in ball arithmetic (Arb). "
        + (
            "The gradient is a tape's over scalars; the backward written by hand, in balls, overlaps it everywhere."
            if isinstance(record, VJP)
            else "The equations of the optimizer, and of a training's backward pass, run on balls."
        ),
        kept=f"{file}.safetensors, SHA-256 {store.sha256(file)}",
    )


def verify(tensor: Tensor) -> bool:
    """Compute what is kept of the case again; whether all its bits are the same. Needs python-flint."""
    need_balls()
    from parity.run import certifying

    kept = catalogue_answers.kept(tensor.case, tensor.family, tensor.dtype)
    return certifying.same(kept, certifying.certify(tensor.case, tensor.family, tensor.dtype, kept))


def _truths(tensor: Tensor) -> Mapping[str, Truth]:
    case = tensor.case
    if isinstance(case, TrainCase):
        return catalogue_answers.training(case, tensor.family, tensor.dtype).free
    return catalogue_answers.truths(case, tensor.family, tensor.dtype)


def _about(tensor: Tensor, record: Record) -> str:
    kind, _, rest = tensor.name.partition(".")
    said = {
        "output": "The output",
        "grad_input": "The gradient by the input",
        "grad": f"The gradient by the parameter {rest}",
        "buffer": f"The buffer {rest} after the forward pass",
        "update": f"The update of the parameter {rest}",
        "state": f"The optimizer's state {rest}",
        "param": f"The parameter {rest}",
        "loss": "The loss of the batch",
    }.get(kind, tensor.name)
    if isinstance(record, VJP):
        return f"{said} of {record.spec}, for the inputs below; gradients are those of sum(output * grad_output)."
    if isinstance(record, Optimize):
        return f"{said} in steps of {record.spec}, for the gradients below. The first axis is the step."
    assert isinstance(tensor.case, TrainCase)
    updates = ", ".join(f"{k:,}" for k in tensor.case.certified)
    return f"{said} in a training of {record.network} by {record.optimizer}. The first axis: after updates {updates}."


def _inputs(record: Record) -> dict[str, object]:
    if isinstance(record, VJP):
        inputs = {f"input.{k}": a for k, a in enumerate(record.inputs)}
        return {**inputs, **record.arrays, **{f"grad_output.{k}": a for k, a in enumerate(record.grad_outputs)}}
    if isinstance(record, Optimize):
        return {
            **record.params,
            **{f"grad.{name}": a for name, a in record.grads.items()},
            **{f"indices.{name}": a for name, a in record.indices.items()},
            **({} if record.objective is None else _inputs(record.objective)),
        }
    assert isinstance(record, Train)
    return {
        **record.arrays,
        "inputs": record.inputs,
        "targets": record.targets,
        "batches": record.batches,
    }


def _equations(kind: type) -> list[str]:
    """A class's docstring up to its sources and arguments."""
    text = inspect.getdoc(kind) or ""
    return re.split(r"\n\n(?=Args:|Sources?:|Raises:|State:)", text)[0].splitlines()


def _near(word: str, known: Mapping[str, object]) -> str:
    near = get_close_matches(word, known, 3)
    return f" (perhaps {', '.join(near)})" if near else ""
