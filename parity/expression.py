"""The public door: certified value, gradient and rounding budgets of an expression of one's own.

    e = parity.enclose(lambda x, w: np.sum(np.tanh(x @ w)), x, w)
    y, gradients = my_kernel(x, w)
    report = e.check(y, gradients)
    assert report.ok, report

The expression is plain NumPy. It is run on budgets and on what encloses the truth, but not on the arrays themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

import numpy as np

from parity.budget.array import Budget
from parity.budget.formats import Profile
from parity.notation import Meter, Written
from parity.records.record import VJP, Spec, UsageError
from parity.report.report import Report
from parity.translations import advice
from parity.truth import enclosing
from parity.truth.taped import Taped, gradients
from parity.truth.value import Sample, Truth
from parity.verdict.blindness import causes_in_expression, told, wider_sums
from parity.verdict.other_forms import others
from parity.verdict.relations import relations_to_truth
from parity.verdict.tensor import Enclosure, Other, TensorVerdict, judge
from refnet.arithmetic.array_like import NoRule, Undecided

Array = np.ndarray[Any, Any]

FORMATS = ("float64", "float32", "float16", "bfloat16")

QUICK = 2.0
"""Seconds that balls may take where binary64 would do."""

LONGEST = 900.0
"""Seconds that balls may take at all."""

PER_ELEMENT, PER_PRODUCT = 1e-5, 5e-9
"""About the seconds that an element of an operation, and a product in a contraction, take in balls."""


@dataclass(frozen=True)
class Enclosed:
    """An expression at given arrays: what it is, and how far a right result may lie from that.

    Attributes:
        value, value_budget: the certified value and its elementwise bound.
        gradients, gradient_budgets: likewise the gradient by each array, None for an array of integers; empty where
            there was no `grad_output`.
        dtype: the name of the format that results are stored in. profile: how results were said to be computed.
        samples: where results are certified in some elements alone, which these are, by the results' names; values and
            bounds are those of these elements then.
        way: what encloses the truth: `balls`; or `binary64`, the float64 budget, whose own bound is part of the
            budgets then. `exact` is said there as far as binary64 can tell.
        cause: says which operation of the value took the budget's sight, should a result be blind.
        others: the other forms in which engines compute what the expression is made of (`parity.verdict.other_forms`).
        asked: the arrays and the upstream gradient as a record, to which no class belongs.
    """

    value: Truth
    value_budget: Array
    gradients: tuple[Truth | None, ...]
    gradient_budgets: tuple[Array | None, ...]
    dtype: str
    profile: str
    way: str = "balls"
    cause: Callable[[], str] = field(default=lambda: "", repr=False)
    others: Callable[[], Iterable[Other]] = field(default=tuple, repr=False)
    samples: Mapping[str, Sample] = field(default_factory=dict, repr=False)
    asked: VJP | None = field(default=None, repr=False)

    def enclosures(self) -> dict[str, Enclosure]:
        """What results are held against, under the names that `check` gives them."""
        results = [("value", self.value, self.value_budget)]
        results += [
            (f"gradients[{k}]", truth, bound)
            for k, (truth, bound) in enumerate(zip(self.gradients, self.gradient_budgets, strict=True))
            if truth is not None and bound is not None
        ]
        return {name: Enclosure(truth, bound, self.samples.get(name)) for name, truth, bound in results}

    def check(self, value: Any = None, gradients: Sequence[Any] | None = None) -> Report:
        """Judge somebody's results: a report on `value`, `gradients[0]`, `gradients[1]`, ..., where they are given.

        Args:
            value: an array of the expression's shape and dtype.
            gradients: one for each array of the expression, None for those that are not to be judged.

        Raises:
            UsageError: gradients are given and there are none to judge them by, or another number of them.
        """
        if hasattr(gradients, "shape"):
            raise UsageError(
                "check: expected the gradients as a list, one for each array of the expression, got one array; "
                "write [gradient]"
            )
        if gradients is not None and len(gradients) != len(self.gradients):
            wanted = f"{len(self.gradients)} gradients" if self.gradients else "none, as there was no grad_output"
            raise UsageError(f"check: expected {wanted}, got {len(gradients)} gradients")
        results: list[tuple[str, Any, Truth | None, Array | None]] = [("value", value, self.value, self.value_budget)]
        for k, got in enumerate(gradients or ()):
            results.append((f"gradients[{k}]", got, self.gradients[k], self.gradient_budgets[k]))
        verdicts = []
        for name, got, truth, bound in results:
            if got is None:
                continue
            if truth is None or bound is None:
                raise UsageError(f"check: expected None for {name}, of an array of integers, got {type(got).__name__}")
            enclosure = Enclosure(truth, bound, self.samples.get(name))
            verdict = judge(name, np.asarray(got), enclosure, self.dtype)
            if verdict.verdict == "FAIL":
                verdict = judge(name, np.asarray(got), enclosure, self.dtype, tuple(self.others()))
            verdicts.append(told(verdict, self.cause()) if verdict.verdict == "blind" else verdict)
        answer = {name: np.asarray(got) for name, got, _, _ in results if got is not None}
        notes = wider_sums(self.profile, verdicts)
        return Report("the expression", self.profile, verdicts, self._looks_like(answer, verdicts), notes)

    def _looks_like(self, answer: Mapping[str, Array], verdicts: Sequence[TensorVerdict]) -> list[str]:
        """What the failing results are to the truth. Some elements alone do not tell."""
        failing = [v.name for v in verdicts if v.verdict == "FAIL"]
        if self.asked is None or self.samples or not failing:
            return []
        return [str(d) for d in relations_to_truth(self.asked, dict(answer), self.enclosures(), failing)]


def enclose(
    f: Callable[..., Any],
    *arrays: Any,
    dtype: str | Profile | None = None,
    grad_output: Any = None,
    profile: str | Profile | None = None,
    sample: int | None = None,
    seed: int = 0,
    **options: Any,
) -> Enclosed:
    """Certified value and rounding budget of the expression f(*arrays, **options), and of its gradient.

    The value is that of the formula in exact arithmetic at exactly these arrays. Its budget is that of evaluating the
    formula as written, its sums in any order; the gradient's, that of reverse mode through the formula as written. See
    `parity.budget.array` for the model, and `parity.translations` for what is written in other functions.

    Args:
        f: an expression in NumPy's functions and in those of `refnet.arithmetic.special`. It is called several times.
        arrays: floats of one dtype, finite; also arrays of integers or booleans, which have no gradient. NumPy's,
            torch's or JAX's.
        dtype: the format to budget for, if not the arrays' own: float64, float32, float16 or bfloat16.
        grad_output: the upstream gradient, of the result's shape and the arrays' dtype. For a scalar result it is 1;
            without one for any other result no gradient is given.
        profile: how results are computed, if not everything in that format and sums in any order: "bfloat16, accumulate
            float32, depth 40"; see `parity.budget.formats.Profile.parse`.
        sample: how many elements of the value and of each gradient are certified; all, if there are no more, or None.
        seed: what the sampled elements are drawn from.
        options: handed on to f. Arrays among them are like `arrays`, after those and in their order.

    The truth is enclosed by tensors of balls. Where these would take more than QUICK seconds, or python-flint is
    missing, and the format is coarser than float64, it is enclosed by the budget of float64: `way` says which. Balls
    take about 10 us for an element of each operation, and 5 ns for each product of a contraction.

    Raises:
        UsageError: bad input, which the message names: an array, a dtype, a function without a rule and its nearest
            equivalent, or a `special.shift` on which the result depends.
        Undecided: the expression needs a decision that rounding could turn.
    """
    call = _Call(f, arrays, options)
    how = _profile(call.given, dtype if profile is None else profile, call.narrow)
    if sample is not None and (type(sample) is not int or sample < 1):
        raise UsageError(f"enclose: expected sample to be a number of elements, 1 or more, got {sample!r}")
    if profile is not None and dtype is not None and _profile(call.given, dtype, None).storage != how.storage:
        raise UsageError(f"enclose: expected a profile of {dtype}, got {how}")
    lifted = [_lift(name, a, how) for name, a in zip(call.names, call.given, strict=True)]
    meter = Meter()
    budgets, upstream = _budgets(call, lifted, grad_output, how, meter)
    samples = {n: s for n, b in budgets.items() if (s := Sample.drawn(b.shape, sample, seed, n)) is not None}
    way, truths, bounds = _truths(call, upstream, how, meter, samples)
    for name, budget in budgets.items():
        own = _at(budget, samples.get(name))
        _defined(name, own, truths[name])
        _agree(name, own, truths[name], bounds.get(name, 0.0))
    names = [] if upstream is None else [f"gradients[{k}]" for k in range(len(call.given))]
    limits = {n: _at(budget, samples.get(n)).e + bounds.get(n, 0.0) for n, budget in budgets.items()}
    enclosures = {name: Enclosure(truths[name], limits[name], samples.get(name)) for name in budgets}

    @cache
    def forms() -> tuple[Other, ...]:
        given = None if upstream is None else _lift("grad_output", upstream, how)

        def run(leaves: Sequence[Any], each: Callable[[Any], Any]) -> dict[str, Any]:
            result = call(leaves, Meter(each=each))
            found = {} if given is None else gradients(result, given, leaves, partial(_zeros, how))
            return {"value": result.value, **found}

        def leaves() -> list[Any]:
            return [x if isinstance(x, np.ndarray) else Taped(x) for x in lifted]

        return tuple(others(run, leaves, enclosures, bounds))

    return Enclosed(
        truths["value"],
        limits["value"],
        tuple(truths.get(name) for name in names),
        tuple(limits.get(name) for name in names),
        how.storage.name,
        str(how),
        way,
        lambda: causes_in_expression(lambda *budgets: call(budgets, meter), lifted),
        forms,
        samples,
        VJP(Spec("expression", call.options), {}, tuple(call.given), _seeds(upstream), format=how.storage.name),
    )


def _seeds(upstream: Array | None) -> tuple[Array, ...]:
    return () if upstream is None else (upstream,)


def _at(budget: Budget, sample: Sample | None) -> Budget:
    """A budget, of the sampled elements where there is a sample."""
    x, e = (budget.x, budget.e) if sample is None else (sample.of(budget.x), sample.of(budget.e))
    return Budget(x, e, np.zeros(x.shape), budget.profile)


class _Call:
    """An expression and what it is called with.

    Attributes:
        given: the arrays, as NumPy's. names: how messages call them. narrow: the format that NumPy lacks and some were
            in.
    """

    def __init__(self, f: Callable[..., Any], arrays: Sequence[Any], options: dict[str, Any]) -> None:
        self.f, self.count = f, len(arrays)
        self.keys = [k for k, v in options.items() if hasattr(v, "shape") and hasattr(v, "dtype")]
        self.options = {k: v for k, v in options.items() if k not in self.keys}
        self.names = [*(f"array {k}" for k in range(self.count)), *(f"array {k!r}" for k in self.keys)]
        taken = [_numpy(name, a) for name, a in zip(self.names, [*arrays, *map(options.get, self.keys)], strict=True)]
        self.given = [a for a, _ in taken]
        self.narrow = next((name for _, name in taken if name), None)

    def __call__(self, arrays: Sequence[Any], meter: Meter) -> Any:
        """The result on arrays of an arithmetic, bare."""
        written = [a if isinstance(a, np.ndarray) else Written(a, meter) for a in arrays]
        result = self.f(
            *written[: self.count], **dict(zip(self.keys, written[self.count :], strict=True)), **self.options
        )
        return result.inner if isinstance(result, Written) else result


def _numpy(name: str, a: Any) -> tuple[Array, str | None]:
    """An array of NumPy's, torch's or JAX's as NumPy's, and the name of a format that NumPy lacks."""
    if hasattr(a, "detach"):
        a = a.detach().cpu()
        if str(a.dtype) == "torch.bfloat16":
            return a.float().numpy(), "bfloat16"
        return np.array(a.numpy()), None
    try:
        array = np.asarray(a)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UsageError(f"enclose: expected {name} of numbers, got {type(a).__name__}: {error}") from None
    if array.dtype.name == "bfloat16":
        return array.astype(np.float32), "bfloat16"
    return array, None


def _profile(arrays: Sequence[Array], dtype: str | Profile | None, narrow: str | None) -> Profile:
    if not arrays:
        raise UsageError("enclose: expected arrays to evaluate the expression at, got none")
    for k, a in enumerate(arrays):
        if a.dtype.kind not in "fiub":
            raise UsageError(f"enclose: expected array {k} of floats, integers or booleans, got {a.dtype}")
        if a.size == 0:
            raise UsageError(f"enclose: expected elements in array {k}, got shape {a.shape}")
    floats = [(k, str(a.dtype)) for k, a in enumerate(arrays) if a.dtype.kind == "f"]
    if not floats:
        raise UsageError(f"enclose: expected an array of floats, got {', '.join(str(a.dtype) for a in arrays)}")
    first, own = floats[0]
    for k, other in floats:
        if other != own:
            raise UsageError(f"enclose: expected floats of one dtype, got {own} in array {first}, {other} in array {k}")
    if isinstance(dtype, Profile):
        return dtype
    if isinstance(dtype, str) and ("," in dtype or dtype == "tf32"):
        try:
            return Profile.parse(dtype)
        except ValueError as error:
            raise UsageError(f"enclose: {error}") from None
    name = (narrow or own) if dtype is None else str(getattr(dtype, "__name__", dtype)).removeprefix("torch.")
    if name not in FORMATS:
        raise UsageError(f"enclose: expected dtype {', '.join(FORMATS)} or a Profile, got {name}")
    return Profile.of(name)


def _lift(name: str, array: Array, profile: Profile) -> Any:
    if array.dtype.kind != "f":
        return array
    if not np.isfinite(array).all():
        raise UsageError(f"enclose: expected finite values in {name}, got {array[~np.isfinite(array)][0]}")
    try:
        return Budget.exact(array, profile)
    except ValueError as error:
        raise UsageError(f"enclose: {name}: {error}") from None


def _evaluated(call: _Call, arrays: Sequence[Any], meter: Meter) -> Any:
    """The expression in an arithmetic; whatever is wrong with it is a UsageError."""
    try:
        return call(arrays, meter)
    except (UsageError, Undecided, MemoryError, RecursionError):
        raise
    except NoRule as missing:
        raise UsageError(f"enclose: {advice(missing.what)}") from None
    except Exception as error:
        if "setting an array element" in str(error):
            raise UsageError(f"enclose: {FILLED}") from None
        raise UsageError(
            f"enclose: expected an expression of NumPy's functions of arrays, got {type(error).__name__}: {error}; "
            "parity.check takes a function of a framework as parity.trusted(function)"
        ) from error


def _budgets(
    call: _Call, lifted: Sequence[Any], grad_output: Any, profile: Profile, meter: Meter
) -> tuple[dict[str, Budget], Array | None]:
    """Budgets of the value and, by reverse mode, of the gradients, in the profile's arithmetic; and the upstream
    gradient."""
    leaves = [x if isinstance(x, np.ndarray) else Taped(x) for x in lifted]
    result = _evaluated(call, lifted if grad_output is None else leaves, meter)
    value = result.value if isinstance(result, Taped) else result
    if not isinstance(value, Budget):
        came = f"{value.dtype} of shape {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
        if isinstance(value, (tuple, list)):
            came += "; several are enclosed one by one: lambda x: f(x)[0]"
        raise UsageError(f"enclose: expected one array of floats that depends on the arrays, got {came}")
    if value.size == 0:
        raise UsageError(f"enclose: expected elements in the result, got shape {value.shape}")
    seed = _seed(grad_output, value, call.given)
    if seed is None:
        return {"value": value}, None
    if grad_output is None:
        # A scalar, as it turns out.
        result = _evaluated(call, leaves, Meter())
    upstream = _lift("grad_output", seed, profile)
    found = gradients(result, upstream, leaves, partial(_zeros, profile))
    return {"value": value} | found, seed


def _zeros(profile: Profile, shape: tuple[int, ...]) -> Budget:
    return Budget.exact(np.zeros(shape), profile)


def _seed(grad_output: Any, value: Budget, arrays: Sequence[Array]) -> Array | None:
    dtype = next(a.dtype for a in arrays if a.dtype.kind == "f")
    if grad_output is None:
        return None if value.shape else np.ones((), dtype)
    seed, _ = _numpy("grad_output", grad_output)
    if seed.dtype != dtype or seed.shape != value.shape:
        wanted, came = f"{dtype} of shape {value.shape}", f"{seed.dtype} of shape {seed.shape}"
        raise UsageError(
            f"enclose: expected grad_output of the arrays' dtype and the result's shape, {wanted}, got {came}"
        )
    return seed


def _truths(
    call: _Call, seed: Array | None, profile: Profile, meter: Meter, samples: Mapping[str, Sample]
) -> tuple[str, dict[str, Truth], dict[str, Array]]:
    """How the truth was enclosed, the truths, and what their own bounds add to the budgets; of the sampled elements,
    where there are samples."""
    seconds = (meter.elements * PER_ELEMENT + meter.products * PER_PRODUCT) * (1 if seed is None else 3)
    coarse = not profile.storage.includes(_BINARY64.storage)
    flint = enclosing.available()
    if coarse and (not flint or seconds > QUICK):
        truths, bounds = _in_binary64(call, seed, meter)
        for name, sample in samples.items():
            e = Enclosure(truths[name], bounds[name]).at(sample)
            truths[name], bounds[name] = e.truth, e.bound
        return "binary64", truths, bounds
    if not flint:
        package = "python-flint"
        raise UsageError(f"enclose: expected the package {package}, got none; pip install {package}")
    if seconds > LONGEST and not samples:
        raise UsageError(
            f"enclose: expected an expression that balls enclose in {LONGEST:.0f} s, got about {seconds:.0f} s "
            f"({meter.elements:,} elements, {meter.products:,} products); take fewer, float32, or sample=1000"
        )
    return "balls", _in_balls(call, seed, meter, {name: sample.places for name, sample in samples.items()}), {}


_BINARY64 = Profile.of("float64")

FILLED = (
    "expected an array of the expression's arithmetic to put a result into, got a plain one; write "
    "np.zeros(shape, like=x) or np.zeros_like(x)"
)


def _in_binary64(call: _Call, seed: Array | None, meter: Meter) -> tuple[dict[str, Truth], dict[str, Array]]:
    lifted = [_lift(name, a, _BINARY64) for name, a in zip(call.names, call.given, strict=True)]
    budgets, _ = _budgets(call, lifted, seed, _BINARY64, Meter())
    # A value that does not depend on a shift has a gradient that does not.
    moved = _evaluated(call, lifted, Meter(offset=1.0)) if meter.shifts else budgets["value"]
    if (abs(budgets["value"].x - moved.x) > budgets["value"].e + moved.e).any():
        raise UsageError(DEPENDS)
    truths = {name: Truth(b.x, np.zeros(b.shape), ~np.isfinite(b.e)) for name, b in budgets.items()}
    return truths, {name: np.where(np.isfinite(b.e), b.e, 0.0) for name, b in budgets.items()}


DEPENDS = (
    "enclose: expected a result that is the same for every special.shift, got one that depends on it; "
    "write np.max(x, axis, keepdims=True), which has a derivative"
)


def _in_balls(call: _Call, seed: Array | None, meter: Meter, places: Mapping[str, Array]) -> dict[str, Truth]:
    def evaluate(arrays: Sequence[Any], offset: float = 0.0) -> Any:
        return _evaluated(call, arrays, Meter(offset=offset))

    # A value that does not depend on a shift has a gradient that does not.
    if meter.shifts and enclosing.apart(evaluate, partial(evaluate, offset=1.0), call.given, places.get("value")):
        raise UsageError(DEPENDS)
    return enclosing.in_balls(evaluate, call.given, seed, places)


def _defined(name: str, budget: Budget, truth: Truth) -> None:
    """What has no value, or none that binary64 holds, can't be judged."""
    none = np.isnan(truth.hi) | (truth.undecided & ~np.isfinite(budget.x))
    if none.any():
        k = np.argwhere(none)[0].tolist()
        raise UsageError(
            f"enclose: expected a finite {name}, got none{f' at {k}' if k else ''}: "
            f"a pole, 0 / 0 or an overflow ({float(budget.x[tuple(k)])} in floats)"
        )


def _agree(name: str, budget: Budget, truth: Truth, bound: Any) -> None:
    """Budgets and balls are differentiated separately: a budget's own value must lie within its bound of the truth."""
    outside = ~(truth.error(budget.x) <= budget.e + bound) & ~truth.undecided & np.isfinite(budget.e)
    if outside.any():
        k = tuple(np.argwhere(outside)[0].tolist())
        found, limit = float(budget.x[k]), float(budget.e[k])
        raise AssertionError(f"{name}{list(k)}: budgets have {found!r} within {limit}, balls {truth.decimal(20, k)}")
