"""The public door: certified value, gradient and rounding budgets of an expression of one's own.

    e = parity.enclose(lambda x, w: np.sum(np.tanh(x @ w)), x, w)
    y, gradients = my_kernel(x, w)
    report = e.check(y, gradients)
    assert report.ok, report

The expression is plain NumPy. It is run on budgets, on budgets that remember how they were made, and on balls, but not
on the arrays themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from parity.budget.array import Budget, NoRule, Profile
from parity.records.record import UsageError
from parity.report.report import Report
from parity.truth import tape
from parity.truth.taped import Taped
from parity.truth.value import Truth
from parity.verdict.tensor import Enclosure, judge
from refnet.arithmetic import functions

Array = np.ndarray[Any, Any]

FORMATS = ("float64", "float32", "float16", "bfloat16")

NODES = 100_000
"""The most scalar operations of an expression: a few seconds."""

EQUIVALENTS = {
    **dict.fromkeys(("mean", "average"), "np.sum(x) / x.size"),
    "var": "d = x - np.sum(x) / x.size; np.sum(d * d) / x.size",
    "std": "d = x - np.sum(x) / x.size; np.sqrt(np.sum(d * d) / x.size)",
    "norm": "np.sqrt(np.sum(x * x))",
    **dict.fromkeys(("maximum", "fmax"), "np.where(x > y, x, y)"),
    **dict.fromkeys(("minimum", "fmin"), "np.where(x < y, x, y)"),
    "clip": "np.where(x < low, low, np.where(x > high, high, x))",
    **dict.fromkeys(("absolute", "fabs"), "np.where(x > 0, x, np.where(x < 0, -x, 0.0))"),
    "sign": "np.where(x > 0, 1.0, np.where(x < 0, -1.0, 0.0))",
    **dict.fromkeys(
        ("max", "min", "amax", "amin"), "refnet.arithmetic.special.shift(x, axis), a value without a derivative"
    ),
    **dict.fromkeys(("power", "float_power", "square", "prod"), "products, x * x"),
    "reciprocal": "1 / x",
    "logaddexp": "m = np.where(x > y, x, y); m + np.log(np.exp(x - m) + np.exp(y - m))",
    "expm1": "np.exp(x) - 1",
    "exp2": "np.exp(math.log(2) * x)",
    "log2": "np.log(x) / math.log(2)",
    "log10": "np.log(x) / math.log(10)",
    "sinh": "(np.exp(x) - np.exp(-x)) / 2",
    "cosh": "(np.exp(x) + np.exp(-x)) / 2",
    **dict.fromkeys(("dot", "inner", "vdot", "vecdot", "matvec", "vecmat", "multi_dot"), "x @ y"),
    **dict.fromkeys(("tensordot", "outer", "kron"), "np.einsum with '->' and two operands"),
    **dict.fromkeys(("T", "transpose", "swapaxes", "moveaxis"), "x.mT, or np.einsum('ijk->kij', x)"),
    **dict.fromkeys(("ravel", "flatten", "squeeze"), "x.reshape(...)"),
    **dict.fromkeys(("stack", "vstack", "hstack"), "np.concatenate of np.expand_dims(x, axis)"),
    **dict.fromkeys(("tile", "repeat"), "np.broadcast_to(x, ...), then x.reshape(...)"),
    **dict.fromkeys(("flip", "roll"), "slices and np.concatenate"),
    "cumsum": "x @ np.triu(np.ones((n, n)))",
    "reduce": "np.sum",
    **dict.fromkeys(("zeros_like", "ones_like", "full_like"), "np.zeros(x.shape) and the like"),
    **dict.fromkeys(("astype", "asarray", "array"), "x itself: an expression is computed in one format"),
}
"""How to write what has no rule, by the last part of its name."""


@dataclass(frozen=True)
class Enclosed:
    """An expression at given arrays: what it is, and how far a right result may lie from that.

    Attributes:
        value, value_budget: the certified value and its elementwise bound.
        gradients, gradient_budgets: likewise the gradient by each array, None for an array of integers; empty where
            there was no `grad_output`.
        dtype: the name of the format that results are stored in. profile: how results were said to be computed.
    """

    value: Truth
    value_budget: Array
    gradients: tuple[Truth | None, ...]
    gradient_budgets: tuple[Array | None, ...]
    dtype: str
    profile: str

    def check(self, value: Any = None, gradients: Sequence[Any] | None = None) -> Report:
        """Judge somebody's results: a report on `value`, `gradients[0]`, `gradients[1]`, ..., where they are given.

        Args:
            value: an array of the expression's shape and dtype.
            gradients: one for each array of the expression, None for those that are not to be judged.

        Raises:
            UsageError: gradients are given and there are none to judge them by, or another number of them.
        """
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
            verdicts.append(judge(name, np.asarray(got), Enclosure(truth, bound), self.dtype))
        return Report("the expression", self.profile, verdicts)


def enclose(
    f: Callable[..., Any], *arrays: Any, dtype: str | Profile | None = None, grad_output: Any = None
) -> Enclosed:
    """Certified value and rounding budget of the expression f(*arrays), and of its gradient.

    The value is that of the formula in exact arithmetic at exactly these arrays. Its budget is that of evaluating the
    formula as written, its sums in any order; the gradient's, that of reverse mode through the formula as written. See
    `parity.budget.array` for the model.

    Args:
        f: an expression in the functions, attributes and methods that `refnet.arithmetic.functions` lists, and in
            those of `refnet.arithmetic.special`. It is called several times.
        arrays: floats of one dtype, finite; also arrays of integers or booleans, which have no gradient.
        dtype: the format to budget for, if not the arrays' own: float64, float32, float16 or bfloat16; or a
            `parity.budget.array.Profile`, for engines that accumulate or multiply in another format than they store.
        grad_output: the upstream gradient, of the result's shape and the arrays' dtype. For a scalar result it is 1;
            without one for any other result no gradient is given.

    It takes about 0.1 ms for each array operation and 15 us for each scalar operation inside it, of which NODES are
    allowed.

    Raises:
        UsageError: bad input, which the message names: an array, a dtype, or a function without a rule and its nearest
            equivalent.
        Undecided: a comparison is closer than budgets or balls can tell.
    """
    given = [np.asarray(a) for a in arrays]
    profile = _profile(given, dtype)
    lifted = [_lift(f"array {k}", a, profile) for k, a in enumerate(given)]
    value = _run(f, lifted)
    seed = _seed(grad_output, value, given)
    budgets: dict[str, Budget] = {"value": value}
    if seed is not None:
        budgets |= _gradients(f, lifted, _lift("grad_output", seed, profile))
    truths = _truths(f, given, seed, profile.dtype)
    for name, budget in budgets.items():
        _defined(name, budget, truths[name])
        _agree(name, budget, truths[name])
    names = [] if seed is None else [f"gradients[{k}]" for k in range(len(given))]
    return Enclosed(
        truths["value"],
        value.e,
        tuple(truths.get(name) for name in names),
        tuple(budgets[name].e if name in budgets else None for name in names),
        profile.storage.name,
        str(profile),
    )


def _profile(arrays: Sequence[Array], dtype: str | Profile | None) -> Profile:
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
    name = own if dtype is None else str(getattr(dtype, "__name__", dtype))
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


def _run(f: Callable[..., Any], budgets: Sequence[Any]) -> Budget:
    """The expression on budgets: the first run, which meets whatever is wrong with it."""
    try:
        value = f(*budgets)
    except NoRule as missing:
        raise UsageError(f"enclose: {_advice(missing.what)}") from None
    except (TypeError, AttributeError) as error:
        raise UsageError(f"enclose: expected an expression of listed NumPy functions, got: {error}") from error
    if not isinstance(value, Budget):
        came = f"{value.dtype} of shape {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
        raise UsageError(f"enclose: expected one array of floats that depends on the arrays, got {came}")
    return value


def _advice(what: str) -> str:
    name, argument, _ = what.partition("(")
    if argument:
        return f"expected {name} without optional arguments, got {what}"
    equivalent = EQUIVALENTS.get(name.rsplit(".", 1)[-1])
    if equivalent:
        kink = " (the derivative at a tie is that of the last branch)" if "np.where(" in equivalent else ""
        return f"{what} has no rule for rounding; write it as {equivalent}{kink}"
    listed = [*(f"np.{f}" for f in functions.UFUNCS + functions.FUNCTIONS), *(f"x.{m}" for m in functions.METHODS)]
    return f"{what} has no rule for rounding; expected functions among {', '.join(listed)}"


def _seed(grad_output: Any, value: Budget, arrays: Sequence[Array]) -> Array | None:
    dtype = next(a.dtype for a in arrays if a.dtype.kind == "f")
    if grad_output is None:
        return None if value.shape else np.ones((), dtype)
    seed = np.asarray(grad_output)
    if seed.dtype != dtype or seed.shape != value.shape:
        wanted, came = f"{dtype} of shape {value.shape}", f"{seed.dtype} of shape {seed.shape}"
        raise UsageError(
            f"enclose: expected grad_output of the arrays' dtype and the result's shape, {wanted}, got {came}"
        )
    return seed


def _gradients(f: Callable[..., Any], lifted: Sequence[Any], seed: Budget) -> dict[str, Budget]:
    leaves = {k: Taped(x) for k, x in enumerate(lifted) if isinstance(x, Budget)}
    try:
        result = f(*(leaves.get(k, x) for k, x in enumerate(lifted)))
    except (TypeError, AttributeError) as error:
        raise UsageError(f"enclose: expected an expression that can be differentiated, got: {error}") from error
    tape.differentiate([result], [seed], total=tape.together)
    return {f"gradients[{k}]": _gradient(leaf) for k, leaf in leaves.items()}


def _gradient(leaf: Taped) -> Budget:
    if isinstance(leaf.grad, Budget):
        return leaf.grad
    # The expression does not depend on this array.
    return Budget.exact(np.zeros(leaf.shape), leaf.value.profile)


def _truths(f: Callable[..., Any], arrays: Sequence[Array], seed: Array | None, dtype: Any) -> dict[str, Truth]:
    try:
        from parity.truth import ball
        from parity.truth.certify import settle
        from parity.truth.scalars import Scalars
    except ImportError:
        package = "python-flint"
        raise UsageError(f"enclose: expected the package {package}, got none; pip install {package}") from None

    def answer() -> dict[str, Any]:
        leaves = [Scalars(ball.lift(a), dtype) if a.dtype.kind == "f" else a for a in arrays]
        with tape.at_most(NODES):
            result = f(*leaves)
        found = {"value": ball.values(result.nodes)}
        if seed is not None:
            tape.differentiate(result.nodes.flat, [ball.ball(float(g)) for g in seed.flat])
            for k, leaf in enumerate(leaves):
                if isinstance(leaf, Scalars):
                    found[f"gradients[{k}]"] = ball.gradients(leaf.nodes)
        return found

    try:
        return settle(answer)
    except OverflowError:
        raise UsageError(f"enclose: expected an expression of at most {NODES:,} scalar operations, got more") from None


def _defined(name: str, budget: Budget, truth: Truth) -> None:
    """What has no value, or none that binary64 holds, can't be judged."""
    none = np.isnan(truth.hi) | (truth.undecided & ~np.isfinite(budget.x))
    if none.any():
        k = np.argwhere(none)[0].tolist()
        raise UsageError(
            f"enclose: expected a finite {name}, got none{f' at {k}' if k else ''}: "
            f"a pole, 0 / 0 or an overflow ({float(budget.x[tuple(k)])} in floats)"
        )


def _agree(name: str, budget: Budget, truth: Truth) -> None:
    """Budgets and balls are differentiated separately: a budget's own value must lie within its bound of the truth."""
    outside = ~(truth.error(budget.x) <= budget.e) & ~truth.undecided & np.isfinite(budget.e)
    if outside.any():
        k = tuple(np.argwhere(outside)[0].tolist())
        found, bound = float(budget.x[k]), float(budget.e[k])
        raise AssertionError(f"{name}{list(k)}: budgets have {found!r} within {bound}, balls {truth.decimal(20, k)}")
