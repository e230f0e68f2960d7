"""Whether training in several processes has the gradients of the same batch in one.

report = parity.check_data_parallel(net, torch.nn.MSELoss(), inputs, targets, shards=(5, 3))
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from parity.budget.array import Budget
from parity.budget.formats import Profile
from parity.engines import function_call
from parity.records import definition, torch_modules
from parity.records.record import VJP, Answer, Spec, Split, UsageError
from parity.report.report import Report
from parity.verdict.any_record import judge_any
from parity.verdict.evaluation import Evaluation, SplitRequest
from parity.verdict.tensor import Enclosure, TensorVerdict, failed, judge

AVERAGE = "the average over processes"
"""What DistributedDataParallel does with the processes' gradients: it adds them up and divides by their number."""

WEIGHS = (
    f"{AVERAGE}: DistributedDataParallel adds up the processes' gradients and divides by their number, whatever their "
    "shares of the samples. A mean of each share then weighs a sample of a smaller share more, and a sum comes out "
    "divided by the number of processes: this is not the gradient of the whole batch"
)


def check_data_parallel(
    module: Any,
    loss: Any,
    inputs: Any,
    targets: Any,
    *,
    shards: int | Sequence[int] = 2,
    timeout: float = 120.0,
) -> Report:
    """Run torch's DistributedDataParallel for one batch in several processes on this machine, and judge the gradients
    that they end with against those of the whole batch in one process.

    Where they are not those, but the average of the processes' gradients, the verdict is `convention`, with that name:
    so it is with shares of unequal size. The samples of process k are those behind the ones of process k - 1.

    Args:
        module, loss: of torch.nn, of classes that refnet covers; the loss gives one number.
        inputs, targets: the batch, torch tensors.
        shards: how many processes there are, with shares as equal as can be, the first ones larger; or the sizes of
            their shares.
        timeout: seconds, after which the processes are ended.

    Raises:
        UsageError: a class is not covered; the shares are not those of the batch; a process fails, or takes too long.
        Unsupported: this torch has no gloo.
    """
    from parity.engines.torch_processes import gradients_of_processes

    x, t = function_call.to_numpy(inputs), function_call.to_numpy(targets)
    sizes = _sizes(shards, len(x), len(t))
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    specs: list[Spec] = []
    for place, part in (("network", module), ("loss", loss)):
        if not function_call.is_module(part):
            raise UsageError(f"check_data_parallel: expected {place} to be a module of torch.nn, got {part!r}")
        record, _ = torch_modules.record_of_module(part, [], function_call.to_numpy)
        specs.append(record.spec)
        arrays |= {f"{place}.{name}": a for name, a in record.arrays.items()}
    whole = VJP(Spec("Objective", {}, tuple(specs)), arrays, (x, t), (np.ones((), x.dtype),), bool(module.training))
    ends = np.cumsum(sizes).tolist()
    rows = [slice(end - size, end) for end, size in zip(ends, sizes, strict=True)]
    parts = tuple(replace(whole, inputs=(x[own], t[own])) for own in rows)
    try:
        answers = gradients_of_processes(parts, timeout)
    except (RuntimeError, TimeoutError) as error:
        raise UsageError(f"check_data_parallel: expected gradients of {len(parts)} processes, got: {error}") from None
    return _report(f"{type(module).__name__} in {len(parts)} processes of {sizes} samples", whole, parts, answers)


def _sizes(shards: int | Sequence[int], samples: int, labels: int) -> list[int]:
    given = shards if isinstance(shards, Sequence) else [len(a) for a in np.array_split(np.empty(samples), shards)]
    sizes = [int(size) for size in given]
    if samples != labels or len(sizes) < 2 or min(sizes) < 1 or sum(sizes) != samples:
        raise UsageError(
            f"check_data_parallel: expected shares of at least two processes, of one sample or more, that make up "
            f"{samples} inputs and as many targets, got {sizes} and {labels} targets"
        )
    return sizes


def _report(subject: str, whole: VJP, parts: Sequence[VJP], answers: Sequence[Answer]) -> Report:
    profile, answer = Profile.of(whole.dtype), answers[0]
    wanted = [f"grad.{name}" for name in definition.build(whole.spec, dict(whole.arrays)).params]
    found = judge_any(whole, answer, profile, wanted)
    split = Split(whole, tuple(parts), (1.0,) * len(parts), float(len(parts)), False)
    allowed = SplitRequest(split, profile).bounds()
    wide = [definition.vjp(part, lambda a: Budget.exact(a, Profile.of("float64"))) for part in parts]
    values = {n: Evaluation.of(b) for n, b in definition.combination(wide, split.weights, split.divisor).items()}

    def told(v: TensorVerdict) -> TensorVerdict:
        if v.ok or v.name not in answer:
            return v
        made = Enclosure.around(values[v.name].x, values[v.name].e + allowed[v.name])
        again = judge(v.name, answer[v.name], made, whole.dtype)
        return replace(again, verdict="convention", formula=AVERAGE) if again.ok else v

    verdicts = [told(v) for v in found.verdicts]
    averaged = any(v.formula == AVERAGE for v in verdicts)
    for rank, other in enumerate(answers[1:], 1):
        for name in wanted:
            if name not in other or other[name].tobytes() != answer[name].tobytes():
                verdicts.append(failed(f"process {rank} {name}", "expected the bits of process 0, got others"))
    notes = (*found.notes, WEIGHS if averaged else "the gradient of the whole batch in one process")
    return Report(subject, str(profile), verdicts, () if averaged else found.diagnosis, notes)
