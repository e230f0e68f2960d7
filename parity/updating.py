"""The public door for anyone's optimizer, its steps and its state, and for training in several processes.

report = parity.check_update(torch.optim.SGD, "SGD", [weight, bias], lr=0.1, momentum=0.9)
report = parity.check_update(optax.adam(1e-3), "Adam", {"weight": weight}, lr=1e-3)
report = parity.check_update(step, "AdamW", {"weight": weight}, lr=1e-3)     params, state = step(params, grads, state)
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

import refnet
from parity.budget.formats import Profile
from parity.engines import function_call, optax_updates
from parity.records import torch_modules
from parity.records.record import VJP, Answer, Optimize, Spec, Split, UsageError
from parity.report.report import Report
from parity.verdict.any_record import Found, judge_any
from parity.verdict.evaluation import Request, SplitRequest
from parity.verdict.tensor import Enclosure, TensorVerdict, failed, judge
from refnet.optim.optimizer import Optimizer

Array = np.ndarray[Any, Any]

STEPS = 5

Groups = Sequence[tuple[Sequence[str], Mapping[str, Any]]]


def check_update(
    optimizer: Any,
    reference: str,
    params: Sequence[Any] | Mapping[str, Any],
    *,
    grads: Sequence[Sequence[Any] | Mapping[str, Any]] | None = None,
    groups: Groups | None = None,
    steps: int = STEPS,
    seed: int = 0,
    **options: Any,
) -> Report:
    """Judge an optimizer's updates (after minus before each step) and its state.

    Args:
        optimizer: a class of torch's or refnet's optimizers, or what makes one of torch's, called with the parameters
            and the options; an optax transformation, made with its own options; or a plain function
            step(params, grads, state), which takes and gives dicts by name, and gives (params, state). The first state
            is None; what it gives of a state is judged where it is {name: {key: array}} with torch's keys.
        reference: the class of torch.optim that it should be, which refnet covers.
        params: arrays, of which copies are stepped; their names are their keys, or their places.
        grads: the gradients of each step, in the order of the parameters or by name; None where a parameter has none.
            Random where none are given.
        groups: the names of the parameters of each group, and the options in which it differs.
        options: arguments of the reference, and of a class of torch optimizers, such as lr.

    Raises:
        UsageError: the reference is unknown or does not take these arguments; parameters or gradients can't be judged.
    """
    named = dict(params) if isinstance(params, Mapping) else {str(k): p for k, p in enumerate(params)}
    form = function_call.format_of_all(list(named.values()))
    if reference not in (known := [name for name in refnet.optim.__all__ if _is_optimizer(name)]):
        raise UsageError(f"check_update: expected a class of torch.optim among {', '.join(known)}, got {reference!r}")
    if not _takes_gradients(reference):
        raise UsageError(
            f"check_update: expected an optimizer whose steps take whole gradients, got {reference}; "
            f"engines are asked about it by: parity run -k {reference}"
        )
    if not callable(optimizer) and not _is_transformation(optimizer):
        raise UsageError(
            "check_update: expected a class of optimizers, an optax transformation or a function, got "
            f"{type(optimizer).__name__}{' that is made already' if hasattr(optimizer, 'param_groups') else ''}"
        )
    profile = Profile.of(form)
    record = _record(Spec(reference, options), named, grads, groups, max(steps, 1), seed, profile)
    name = getattr(optimizer, "__qualname__", type(optimizer).__name__)
    title = f"{name} against {reference}"
    try:
        run = _Run(named, record)
        run.through(optimizer)
    except UsageError:
        raise
    except Exception as error:
        line = " ".join(str(error).split())[:300]
        return Report(title, str(profile), [failed("step", f"raised {type(error).__name__}: {line}")])
    answer = run.answer()
    keys = [key for key in record.spec.schema if any(path.endswith(f".{key}") for path in answer)]
    updates = [f"update.{name}" for name in named]
    found: Found = judge_any(record, answer, profile, [*updates, *(path for path in answer if path not in updates)])
    lacking = [key for key, kept in record.spec.schema.items() if key not in keys and _kept(kept, options)]
    notes = [f"state {key}: not judged, the optimizer has none of that name" for key in lacking]
    if run.overwritten:
        names = ", ".join(name for name in named if name in run.overwritten)
        notes.append(f"a step writes into its gradients ({names}): what is added to them afterwards comes out wrong")
    return Report(title, str(profile), found.verdicts, found.diagnosis, (*found.notes, *notes))


def _is_optimizer(name: str) -> bool:
    return hasattr(getattr(refnet.optim, name), "schema") and name != "Optimizer"


def _takes_gradients(name: str) -> bool:
    """Whether a step takes arrays: no function, and no sparse gradients."""
    made = getattr(refnet.optim, name)
    return not made.takes_closure and made.check_gradient is Optimizer.check_gradient


def _kept(state: Any, options: Mapping[str, Any]) -> bool:
    return state.when is None or bool(options.get(state.when))


def _is_transformation(optimizer: Any) -> bool:
    return callable(getattr(optimizer, "init", None)) and callable(getattr(optimizer, "update", None))


def _record(
    spec: Spec,
    named: Mapping[str, Any],
    grads: Sequence[Sequence[Any] | Mapping[str, Any]] | None,
    groups: Groups | None,
    steps: int,
    seed: int,
    profile: Profile,
) -> Optimize:
    values = {name: function_call.to_numpy(p) for name, p in named.items()}
    absent: dict[str, tuple[int, ...]] = {}
    if grads is None:
        draws = function_call.seed_draws(seed)
        given = {n: function_call.rounded(draws.standard_normal((steps, *v.shape)), profile) for n, v in values.items()}
    else:
        rows = [_by_name(row, list(named), k) for k, row in enumerate(grads)]
        given = {name: np.stack([_gradient(row[name], name, v) for row in rows]) for name, v in values.items()}
        absent = {n: tuple(k for k, row in enumerate(rows) if row[n] is None) for n in values}
    own = None if groups is None else tuple((tuple(names), dict(differs)) for names, differs in groups)
    if own is not None and sorted(name for names, _ in own for name in names) != sorted(named):
        raise UsageError(f"check_update: expected groups of {', '.join(named)}, each once, got {own}")
    record = Optimize(spec, values, given, own, {name: at for name, at in absent.items() if at})
    try:
        made: Any = {name: v.copy() for name, v in values.items()}
        if own is not None:
            made = [{"params": {name: made[name] for name in names}, **differs} for names, differs in own]
        getattr(refnet.optim, spec.type)(made, **spec.args)
    except (TypeError, ValueError) as error:
        raise UsageError(f"check_update: expected arguments that {spec.type} takes, got: {error}") from None
    return record


def _by_name(row: Sequence[Any] | Mapping[str, Any], names: Sequence[str], step: int) -> dict[str, Any]:
    if isinstance(row, Mapping):
        row = [row.get(name) for name in names] if set(row) <= set(names) else list(row)
    if len(row) != len(names):
        raise UsageError(f"check_update: expected gradients of {', '.join(names)} in step {step + 1}, got {len(row)}")
    return dict(zip(names, row, strict=True))


def _gradient(g: Any, name: str, value: Array) -> Array:
    if g is None:
        return np.zeros_like(value)
    got = function_call.to_numpy(g)
    if got.shape != value.shape or got.dtype != value.dtype:
        came = f"{got.dtype} of {got.shape}"
        raise UsageError(f"check_update: expected a gradient of {name} of {value.dtype} of {value.shape}, got {came}")
    return got


@dataclass
class _Run:
    """The steps of an optimizer on copies of the parameters, noted as an answer has them."""

    named: Mapping[str, Any]
    record: Optimize
    series: dict[str, list[Array]] = field(default_factory=dict)
    overwritten: set[str] = field(default_factory=set)
    """Parameters whose gradient a step has written into."""

    def through(self, optimizer: Any) -> None:
        """Every step."""
        if isinstance(optimizer, type) and issubclass(optimizer, Optimizer):
            self._refnet(optimizer)
        elif _is_transformation(optimizer):
            self._optax(optimizer)
        elif function_call.framework(list(self.named.values())) == "torch" and _makes_optimizers(optimizer):
            self._torch(optimizer)
        else:
            self._plain(optimizer)

    def _grads(self, k: int) -> dict[str, Any]:
        return {name: function_call.like(g, self.named[name]) for name, g in self.record.gradients(k).items()}

    def _copies(self) -> dict[str, Any]:
        return {n: function_call.like(function_call.to_numpy(p), p) for n, p in self.named.items()}

    def _torch(self, make: Callable[..., Any]) -> None:
        own = {name: p.requires_grad_() for name, p in self._copies().items()}
        given: Any = list(own.values())
        if self.record.groups is not None:
            given = [{"params": [own[n] for n in names], **differs} for names, differs in self.record.groups]
        optimizer = make(given, **self.record.spec.args)
        # As in a training, a gradient is written where the one before it was: state that is another name for it shows.
        memory: dict[str, Any] = {}
        for k in range(self.record.steps):
            before, grads = self._values(own), self._grads(k)
            for name, p in own.items():
                if name in grads:
                    p.grad = memory.setdefault(name, p.detach().clone())
                    p.grad.copy_(grads[name])
                else:
                    p.grad = None
            optimizer.step()
            self._look({name: own[name].grad for name in grads}, k)
            self._note(before, own, {name: optimizer.state.get(p, {}) for name, p in own.items()})

    def _refnet(self, make: Callable[..., Any]) -> None:
        own = self._copies()
        given: Any = own
        if self.record.groups is not None:
            given = [{"params": {n: own[n] for n in names}, **differs} for names, differs in self.record.groups]
        optimizer = make(given, **self.record.spec.args)
        for k in range(self.record.steps):
            before, grads = self._values(own), self._grads(k)
            optimizer.step(grads)
            self._look(grads, k)
            self._note(before, own, {name: optimizer.state.get(name, {}) for name in own})

    def _optax(self, transformation: Any) -> None:
        if self.record.absent:
            raise UsageError("check_update: expected a gradient of every parameter for optax, which knows none absent")
        own = self._copies()
        state = transformation.init(own)
        for k in range(self.record.steps):
            before = self._values(own)
            own, state = optax_updates.stepped(transformation, own, self._grads(k), state)
            self._note(before, own, optax_updates.state_of(state, own, self.record.spec.type))

    def _plain(self, step: Callable[..., Any]) -> None:
        own, state = self._copies(), None
        for k in range(self.record.steps):
            before, grads = self._values(own), self._grads(k)
            gave = step(own, dict(grads), state)
            self._look(grads, k)
            if not isinstance(gave, tuple) or len(gave) != 2 or not isinstance(gave[0], Mapping):
                raise TypeError(f"expected step to give (params, state), a dict first, got {type(gave).__name__}")
            own, state = dict(gave[0]), gave[1]
            if own.keys() != self.named.keys():
                raise TypeError(f"expected parameters {', '.join(self.named)}, got {', '.join(map(str, own))}")
            kept = state if isinstance(state, Mapping) and all(isinstance(v, Mapping) for v in state.values()) else {}
            self._note(before, own, {name: kept.get(name, {}) for name in own})

    def _look(self, grads: Mapping[str, Any], k: int) -> None:
        """Whether the gradients of step k are what they were before it. One that is taken away is not written into."""
        for name, due in self.record.gradients(k).items():
            got = grads.get(name)
            if got is not None and function_call.to_numpy(got).tobytes() != due.tobytes():
                self.overwritten.add(name)

    @staticmethod
    def _values(own: Mapping[str, Any]) -> dict[str, Array]:
        return {name: function_call.to_numpy(p).astype(np.float64) for name, p in own.items()}

    def _note(
        self, before: Mapping[str, Array], own: Mapping[str, Any], state: Mapping[str, Mapping[str, Any]]
    ) -> None:
        known = self.record.spec.schema
        for name, after in self._values(own).items():
            if after.shape != before[name].shape:
                raise TypeError(f"expected {name} of shape {before[name].shape}, got {after.shape}")
            self.series.setdefault(f"update.{name}", []).append(after - before[name])
            for key, value in state[name].items():
                if key in known and value is not None:
                    array = function_call.to_numpy(value) if hasattr(value, "shape") else np.array(value)
                    if array.ndim == 0:
                        # Frameworks keep a single number in a format of their own.
                        due = np.float32 if known[key].counter else self.record.params[name].dtype
                        array = array.astype(due)
                    self.series.setdefault(f"state.{name}.{key}", []).append(array)

    def answer(self) -> Answer:
        return {path: np.stack(rows) for path, rows in self.series.items()}


def _makes_optimizers(optimizer: Any) -> bool:
    """Whether it takes parameters first, as torch's do; a plain function of step(params, grads, state) takes three."""
    if isinstance(optimizer, type):
        return True
    try:
        taken = inspect.signature(optimizer).parameters.values()
    except (TypeError, ValueError):
        return True
    by_place = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return len([p for p in taken if p.default is p.empty and p.kind in by_place]) < 3


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
    profile, wide, answer = Profile.of(whole.dtype), Profile.of("float64"), answers[0]
    split = Split(whole, tuple(parts), (1.0,) * len(parts), float(len(parts)), False)
    allowed, own = (SplitRequest(split, each).bounds() for each in (profile, wide))
    wanted = list(allowed)
    found = judge_any(whole, answer, profile, wanted)
    values = [{name: v.x for name, v in Request(part, wide).values().items()} for part in parts]
    average = SplitRequest(split, wide).combined(values, wanted)

    def told(v: TensorVerdict) -> TensorVerdict:
        if v.ok or v.name not in answer:
            return v
        made = Enclosure.around(average[v.name], own[v.name] + allowed[v.name])
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
