"""The public door for anyone's code: a function, module or kernel held against the truth, forward and backward.

report = parity.check(fn, "layer_norm", x, normalized_shape=[8])     against a function of torch.nn.functional
report = parity.check(fn, "Linear", x, weight, bias)                 against a class of torch.nn
report = parity.check(module, None, x)                               a module: its class says what it should be
report = parity.check(fn, lambda x, w: np.tanh(x @ w), x, w)         against an expression
assert report.ok, report
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from parity.budget.formats import Profile
from parity.engines import any_array, function_call, layouts
from parity.expression import enclose
from parity.function_name import qualified_name
from parity.records import functionals, torch_modules
from parity.records.record import VJP, UsageError
from parity.report.report import Report
from parity.shrinking import smallest
from parity.sweeping import Tried, swept, unsteadiness
from parity.verdict.any_record import (
    Found,
    asked_again,
    judge_any,
    judge_two_precisions,
    names_of_right_answer,
    right_outputs,
    right_shapes,
)
from parity.verdict.tensor import Enclosure, TensorVerdict, failed
from refnet.arithmetic.array_like import Undecided

Array = np.ndarray[Any, Any]

SEED = 0  # Of the upstream gradient, where none is given.


@dataclass(frozen=True)
class Trusted:
    """A function that is taken to be right where it computes in float64."""

    function: Callable[..., Any]


def trusted(function: Callable[..., Any]) -> Trusted:
    """A reference that nobody has transcribed: `function`, computed in float64. What is judged by it is unproved."""
    if not callable(function):
        raise UsageError(f"trusted: expected a function, got {type(function).__name__}")
    return Trusted(function)


@any_array.with_gradients()
def check(
    fn: Any,
    reference: Any = None,
    *inputs: Any,
    grad_output: Any = None,
    profile: str | Profile | None = None,
    seed: int = SEED,
    sample: int | None = None,
    sweep: bool = False,
    tile: int | None = None,
    **options: Any,
) -> Report:
    """Judge a function of arrays, its outputs and its gradients, against a reference.

    Args:
        fn: a function of torch, JAX or NumPy arrays, a `torch.autograd.Function.apply`, a custom operator, a module of
            torch (compiled or scripted too) or refnet, or a pair (forward, backward) of plain functions:
            forward(*inputs) gives (output, saved), backward(grad_output, saved) the gradient by each input of floats.
        reference: the name of a function of torch.nn.functional, with its arguments, or of a class of torch.nn, whose
            input and parameters are the inputs (of a module's own ones under their names); an expression in NumPy;
            `parity.trusted(function)`; or None for a module of a covered class.
        inputs: the arguments of fn in order, and those of the reference without what is given by name. The gradient by
            each array of floats is judged; where some ask for a gradient (`requires_grad`), by those alone.
        grad_output: the upstream gradient; random where none is given. Of several outputs, a tuple.
        profile: how fn computes, if not everything in the inputs' format and sums in any order: "bfloat16, accumulate
            float32, depth 40"; see `parity.budget.formats.Profile.parse`.
        seed: of the random upstream gradient, and of the draw of a sample.
        sample: how many elements of each result are judged; all, if there are no more, or None. Of results in float64
            these are certified in balls, and no more is computed there than they are made of.
        sweep: whether to try other layouts, upstream gradients, subsets of gradients and batches too, the same call
            twice, a sample alone, existing gradients and a second backward. Each is a report in `report.parts`.
        tile: with sweep, the length that fn takes an axis apart by: lengths of one less and one more are tried too.
        options: arguments of the reference by name, such as eps; arrays, and those that fn names, are given to fn too.

    Raises:
        UsageError: the reference is unknown or does not take these arguments, or an input can't be judged.
    """
    if reference is not None and not isinstance(reference, (str, Trusted)) and not callable(reference):
        # A module's input in the place of the reference: check(module, x).
        inputs, reference = (reference, *inputs), None
    if tile is not None and (not sweep or type(tile) is not int or tile < 1):
        raise UsageError(f"check: expected tile to be a positive number beside sweep=True, got {tile!r}")
    if sample is not None and (type(sample) is not int or sample < 1 or isinstance(reference, Trusted)):
        due = "none beside parity.trusted" if isinstance(reference, Trusted) else "a number of elements, 1 or more"
        raise UsageError(f"check: expected sample to be {due}, got {sample!r}")
    asked = replace(Asked.of(fn, reference, inputs, profile, options), seed=seed, sample=sample)
    asked = replace(asked, wanted=asked.differentiable())
    report = first = asked.report(grad_output)
    failing: Tried | None = None
    if sweep:
        report, failing = swept(asked, first, grad_output, tile)
    if any(v.verdict == "FAIL" for v in first.verdicts):
        failing = Tried("", asked, first)
        report.notes += () if sweep else unsteadiness(asked)
    if failing is not None:
        report.script = smallest(failing, grad_output)
    return report


@dataclass(frozen=True)
class Asked:
    """What is to be judged: a function at inputs, against a reference.

    Attributes:
        wanted: the numbers of the inputs by which a gradient is due. keywords: the names of the last inputs, which fn
            takes by keyword.
        layout: of the upstream gradient. laid: that of some inputs, by number. See `parity.engines.layouts`.
    """

    fn: Any
    reference: Any
    inputs: tuple[Any, ...]
    profile: Profile
    options: Mapping[str, Any]
    wanted: tuple[int, ...]
    keywords: tuple[str, ...] = ()
    seed: int = SEED
    layout: str = ""
    laid: Mapping[int, str] = field(default_factory=dict)
    sample: int | None = None

    @classmethod
    def of(
        cls, fn: Any, reference: Any, inputs: Sequence[Any], profile: str | Profile | None, options: Mapping[str, Any]
    ) -> Asked:
        function_call.check_kind(fn)
        keywords = tuple(name for name, value in options.items() if function_call.is_array(value))
        every = (*inputs, *(options[name] for name in keywords))
        rest = {name: value for name, value in options.items() if name not in keywords}
        floating = [k for k, x in enumerate(every) if function_call.is_array(x) and function_call.is_floating(x)]
        # Of a module whose inputs are indices, its parameters have the format.
        form = function_call.format_of_all(
            every if floating or not function_call.is_module(fn) else tuple(fn.parameters())
        )
        asking = [k for k in floating if getattr(every[k], "requires_grad", False)]
        without = functionals.buffers_among(reference, len(inputs), keywords, options)
        wanted = asking or [k for k in floating if k not in without]
        return cls(fn, reference, every, function_call.profile_of(form, profile), rest, tuple(wanted), keywords)

    @property
    def title(self) -> str:
        """What is judged, and against what, in words."""
        fn = self.fn[0] if isinstance(self.fn, tuple) else self.fn
        name = qualified_name(fn)
        if self.reference is None:
            return f"{name} as torch documents it"
        if isinstance(self.reference, Trusted):
            return f"{name} against {qualified_name(self.reference.function)} in float64"
        return f"{name} against {self.reference if isinstance(self.reference, str) else 'the expression'}"

    def bound(self) -> tuple[Any, dict[str, Any]]:
        """fn as a function of all inputs in their order, and the options that it takes."""
        forward = self.fn[0] if isinstance(self.fn, tuple) else self.fn
        module = function_call.is_module(self.fn)
        own = self.reference is None
        options = (dict(self.options) if own else {}) if module else function_call.options_for(forward, self.options)
        together = torch_modules.given_together(self.fn) if module and own else 0
        if not self.keywords and not together:
            return self.fn, options
        n = len(self.inputs) - len(self.keywords)
        first = max(n - together, 1) if together else n

        def by_keyword(*arrays: Any, **options: Any) -> Any:
            last = (tuple(arrays[first:n]),) if arrays[first:n] else ()
            return forward(*arrays[:first], *last, **dict(zip(self.keywords, arrays[n:], strict=True)), **options)

        if module:
            return function_call.CalledOtherwise(self.fn, by_keyword), options
        return (by_keyword, self.fn[1]) if isinstance(self.fn, tuple) else by_keyword, options

    def call(
        self, inputs: Sequence[Any], grad_outputs: Sequence[Array] | None, wanted: Sequence[int]
    ) -> function_call.Called:
        """What fn gives."""
        fn, options = self.bound()
        given = [layouts.sent(x, self.laid[k]) if k in self.laid else x for k, x in enumerate(inputs)]
        sent = partial(layouts.sent, layout=self.layout)
        return function_call.call(fn, given, grad_outputs, wanted, sent, **options)

    def report(self, grad_output: Any = None) -> Report:
        """The verdicts on the outputs and the gradients that are due."""
        found = self.found(grad_output)
        return Report(self.title, str(self.profile), found.verdicts, found.diagnosis, found.notes)

    def found(self, grad_output: Any = None) -> Found:
        """The verdicts, with what was expected."""
        try:
            if isinstance(self.reference, Trusted):
                return self._by_trusted(grad_output)
            return self._by_expression(grad_output) if callable(self.reference) else self._by_record(grad_output)
        except Undecided as reason:
            return Found((TensorVerdict("call", "undecided", reason=str(reason)),))

    def _seeds(self, grad_output: Any, shapes: Sequence[tuple[int, ...]]) -> list[Array]:
        seeds = function_call.upstream_gradients(grad_output, shapes, self.profile, self.seed)
        return [layouts.values_of_seed(g, self.layout) for g in seeds]

    def seeds(self) -> list[Array]:
        """Random upstream gradients for what the reference gives, or, where no class says it, the function."""
        if not callable(self.reference) and not isinstance(self.reference, Trusted):
            return self._seeds(None, right_shapes(self.record()[0]))
        return self._seeds(None, [y.shape for y in self.call(self.inputs, None, ()).outputs])

    def places(self) -> dict[int, str]:
        """The name of each input's gradient in an answer; none where no class says it."""
        return {} if callable(self.reference) or isinstance(self.reference, Trusted) else self.record()[1]

    def differentiable(self) -> tuple[int, ...]:
        """Of the inputs by which a gradient is wanted, those by which the reference has one."""
        if callable(self.reference) or isinstance(self.reference, Trusted):
            return self.wanted
        record, places = self.record()
        right_shapes(record)
        due = names_of_right_answer(record)
        return tuple(k for k in self.wanted if places.get(k) in due)

    def right_outputs(self, change: tuple[Sequence[int], Callable[[Array], Array]] | None) -> list[Array]:
        """What the reference's class gives, of inputs of which some may be changed."""
        record, places = self.record()
        numbers = sorted(k for k, name in places.items() if name.startswith("grad_input"))
        changed = {numbers.index(k) for k in change[0]} if change else set()
        inputs = [change[1](x) if change and k in changed else x for k, x in enumerate(record.inputs)]
        return right_outputs(replace(record, inputs=tuple(inputs)))

    # ---- a class or a functional

    def _by_record(self, grad_output: Any) -> Found:
        record, places = self.record()
        shapes = right_shapes(record)
        seeds = self._seeds(grad_output, shapes)
        record = replace(record, grad_outputs=tuple(seeds))
        called = _attempt(lambda: self.call(self.inputs, seeds, self.wanted))
        if isinstance(called, TensorVerdict):
            return Found((*self._forward_alone(len(shapes) > 1), called))
        answer, verdicts = self._named(called, places, len(shapes) > 1)
        missing = [v.name for v in verdicts]
        wanted = [*(f"output.{k}" for k in range(len(shapes)) if len(shapes) > 1)] or ["output"]
        if not self._forward_only:
            wanted += [places[k] for k in self.wanted if k in places]
        wanted += [f"grad.{name}" for name in called.by_name] + [f"buffer.{name}" for name in called.buffers]
        try:
            due = [name for name in wanted if name not in missing]
            found = judge_any(record, answer, self.profile, due, self.sample, self.seed)
        except Undecided as reason:
            undecided = [TensorVerdict(name, "undecided", reason=str(reason)) for name in wanted if name not in missing]
            found = Found(tuple(undecided))
        notes = ("gradients: not judged, a NumPy function has none; give a pair (forward, backward)",)
        return Found(
            (*found.verdicts, *verdicts, *_conduct(called, functionals.writes(record.spec))),
            found.diagnosis,
            (*found.notes, *(notes if self._forward_only else ())),
            found.expected,
        )

    def _forward_alone(self, several: bool) -> list[TensorVerdict]:
        """What is wrong with the outputs, where the backward raises: its reason may be there."""
        called = _attempt(lambda: self.call(self.inputs, None, ()))
        return [] if isinstance(called, TensorVerdict) else self._named(called, {}, several)[1]

    @property
    def _forward_only(self) -> bool:
        return not function_call.brings_backward(self.fn) and function_call.framework(self.inputs) == "numpy"

    def record(self) -> tuple[VJP, dict[int, str]]:
        """The record that the reference makes of the inputs, and the name of each input's gradient in an answer."""
        values = [function_call.to_numpy(x) if function_call.is_array(x) else x for x in self.inputs]
        if self.reference is not None:
            kept = torch_modules.state_for(self.fn, self.reference, function_call.to_numpy, self.keywords, self.options)
            values, named = [*values, *kept.values()], (*self.keywords, *kept)
            record, places = functionals.record_of(self.reference, values, named, self.options)
            places = {k: place for k, place in places.items() if k < len(self.inputs)}
            if function_call.is_module(self.fn) and record.spec.type == self.reference:
                record = replace(record, training=bool(self.fn.training))
        elif function_call.is_module(self.fn):
            own = (values, function_call.to_numpy, self.keywords, self.options)
            record, places = torch_modules.record_of_module(self.fn, *own)
        else:
            raise UsageError("check: expected a reference for a function: a name of torch.nn, or an expression")
        return replace(record, spec=functionals.with_eps(record.spec, 2 * self.profile.storage.u)), places

    def _named(
        self, called: function_call.Called, places: Mapping[int, str], several: bool
    ) -> tuple[dict[str, Array], list[TensorVerdict]]:
        """The results under the names of an answer, and a verdict on each that is missing or of another dtype."""
        answer: dict[str, Array] = {}
        wrong: list[TensorVerdict] = []

        def add(name: str, key: str, value: Array | None) -> None:
            due, came = self.profile.storage.name, called.dtypes.get(key, "")
            if value is None:
                how = function_call.leaving_out(self.inputs) if key.startswith("grad.") else ""
                wrong.append(failed(name, f"expected a gradient, got None{how}"))
            elif came and came != due:
                wrong.append(failed(name, f"expected dtype {due}, got {came}"))
            else:
                answer[name] = value.astype(np.float16) if due == "float16" else value

        for k, y in enumerate(called.outputs):
            add(f"output.{k}" if several else "output", f"output.{k}", y)
        for k, g in called.grads.items():
            if k in places:
                add(places[k], f"grad.{k}", g)
        for name, g in called.by_name.items():
            add(f"grad.{name}", name, g)
        answer |= {f"buffer.{name}": b for name, b in called.buffers.items()}
        return answer, wrong

    # ---- an expression

    def _expression(self) -> Callable[..., Any]:
        """The reference as a function of the arrays alone."""
        n, own = len(self.inputs) - len(self.keywords), function_call.options_for(self.reference, self.options)
        by_name = function_call.options_for(self.reference, dict.fromkeys(self.keywords))
        by_name = by_name if len(by_name) == len(self.keywords) else {}

        def of_arrays(*arrays: Any) -> Any:
            each = iter(arrays)
            full = [next(each) if function_call.is_array(x) else x for x in self.inputs]
            last = dict(zip(self.keywords, full[n:], strict=True)) if by_name else {}
            return self.reference(*(full[:n] if by_name else full), **last, **own)

        return of_arrays

    def _by_expression(self, grad_output: Any) -> Found:
        arrays = [k for k, x in enumerate(self.inputs) if function_call.is_array(x)]
        values = [function_call.to_numpy(self.inputs[k]) for k in arrays]
        # Of its result the shape alone is needed at first.
        plain = enclose(self._expression(), *values, dtype=self.profile, sample=1).enclosures()["value"]
        seeds = self._seeds(grad_output, [plain.sample.shape if plain.sample else plain.truth.shape])
        upstream = seeds[0].astype(next(v.dtype for v in values if v.dtype.kind == "f"))
        how: dict[str, Any] = {"dtype": self.profile, "sample": self.sample, "seed": self.seed}
        enclosed = enclose(self._expression(), *values, grad_output=upstream, **how)
        called = _attempt(lambda: self.call(self.inputs, seeds, self.wanted))
        if isinstance(called, TensorVerdict):
            return Found((called,))
        places = {k: f"gradients[{arrays.index(k)}]" for k in self.wanted}
        answer, wrong = self._named(called, places, False)
        gradients = [answer.get(places.get(k, "")) for k in arrays]
        report = enclosed.check(answer.get("output"), gradients)
        verdicts = report.verdicts
        if any(v.verdict == "FAIL" for v in verdicts):
            verdicts = self._reconsidered(verdicts, places, seeds[0])
        return Found(
            (*verdicts, *wrong, *_conduct(called)), report.diagnosis, report.notes, expected=enclosed.enclosures()
        )

    def _reconsidered(
        self, verdicts: Sequence[TensorVerdict], places: Mapping[int, str], seed: Array
    ) -> tuple[TensorVerdict, ...]:
        """Verdicts on an expression's results, of which some fail, once fn has been asked in two precisions."""
        coarse, fine = self._two_formats()
        low = [function_call.converted(x, coarse) for x in self.inputs]
        seeds = [function_call.rounded(seed, Profile.of(coarse))]
        given = [function_call.to_numpy(x) for x in low if function_call.is_array(x)]
        exact = [x.astype(np.float64) if x.dtype.kind == "f" else x for x in given]
        try:
            truth = enclose(self._expression(), *exact, grad_output=seeds[0].astype(np.float64)).enclosures()
        except (UsageError, Undecided):
            # A pole or an overflow at the rounded inputs: nothing can be concluded there.
            return tuple(verdicts)
        answers: list[dict[str, Array]] = []
        for form in (coarse, fine):
            called = _attempt(partial(self.call, [function_call.converted(x, form) for x in low], seeds, self.wanted))
            if isinstance(called, TensorVerdict):
                return tuple(verdicts)
            grads = {places[k]: g for k, g in called.grads.items() if g is not None}
            answers.append({"value": called.outputs[0], **grads})

        def told(verdict: TensorVerdict) -> TensorVerdict:
            e, found = truth.get(verdict.name), [a[verdict.name] for a in answers if verdict.name in a]
            if e is None or [a.shape for a in found] != [e.truth.shape] * 2:
                return verdict
            return asked_again(verdict, found[0], found[1], e, (coarse, fine))

        return tuple(map(told, verdicts))

    def _two_formats(self) -> tuple[str, str]:
        """A coarser format and a finer one to ask fn in: its own is one of them."""
        own = self.profile.storage.name
        if own == "float64":
            return "float32", "float64"
        return own, "float64" if own == "float32" else "float32"

    # ---- a trusted function: two precisions

    def _by_trusted(self, grad_output: Any) -> Found:
        """The error of a wrong formula stays in a finer format, that of rounding shrinks with the unit roundoff."""
        coarse, fine = self._two_formats()
        low = [function_call.converted(x, coarse) for x in self.inputs]
        exact = [function_call.converted(x, "float64") for x in low]
        found: dict[str, dict[str, Array | None]] = {}
        reference = Asked(self.reference.function, None, tuple(exact), self.profile, self.options, self.wanted)
        first = _attempt(lambda: reference.call(exact, None, self.wanted))
        if isinstance(first, TensorVerdict):
            raise UsageError(f"check: expected a trusted function that takes these inputs, got: {first.reason}")
        shapes = [y.shape for y in first.outputs]
        seeds = function_call.upstream_gradients(grad_output, shapes, Profile.of(coarse), self.seed)
        seeds = [layouts.values_of_seed(g, self.layout) for g in seeds]
        conduct: tuple[TensorVerdict, ...] = ()
        finer = [function_call.converted(x, fine) for x in low]
        for name, who, given in (("truth", reference, exact), (coarse, self, low), (fine, self, finer)):
            called = _attempt(partial(who.call, given, seeds, self.wanted))
            if isinstance(called, TensorVerdict):
                return Found((called,))
            conduct = _conduct(called)
            found[name] = {
                f"output.{k}" if len(called.outputs) > 1 else "output": y for k, y in enumerate(called.outputs)
            }
            found[name] |= {f"grad_input.{k}": g for k, g in called.grads.items()}
        ratio = math.log(Profile.of(coarse).storage.u / Profile.of(fine).storage.u)
        verdicts = [
            judge_two_precisions(name, truth, found[coarse].get(name), found[fine].get(name), ratio)
            for name, truth in found["truth"].items()
        ]
        note = f"unproved: the reference is a function in float64; judged by how errors shrink from {coarse} to {fine}"
        truths = {name: truth for name, truth in found["truth"].items() if truth is not None}
        expected = {name: Enclosure.around(t, np.full(t.shape, np.nan)) for name, t in truths.items()}
        return Found((*verdicts, *conduct), notes=(note,), expected=expected)


def _attempt(run: Callable[[], function_call.Called]) -> function_call.Called | TensorVerdict:
    found = function_call.attempt(run)
    return failed("call", found) if isinstance(found, str) else found


def _conduct(called: function_call.Called, due: Collection[str] = ()) -> tuple[TensorVerdict, ...]:
    """What is wrong with what it has written, where that is not due."""
    written = [what for what in called.written if what not in due]
    said = f"expected inputs that are left as they are, got others in {', '.join(written)}"
    return (failed("inputs", said),) if written else ()
