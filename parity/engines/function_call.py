"""Calling anyone's function on the arrays that it is used to, torch's, JAX's or NumPy's, forward and backward.

Arrays stay where they are: on their device, in their memory layout. What comes back is moved to NumPy once.
"""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from parity.budget.formats import Profile
from parity.engines import any_array
from parity.engines.any_array import FORMATS, converted, format_of, is_array, is_floating, like, seed_draws, to_numpy
from parity.engines.forward_and_backward import Misfit, backward, brings_backward, forward
from parity.records.record import UsageError

Array = np.ndarray[Any, Any]

__all__ = [
    "Called",
    "CalledOtherwise",
    "Misfit",
    "attempt",
    "brings_backward",
    "call",
    "converted",
    "format_of",
    "format_of_all",
    "forward_torch",
    "framework",
    "is_array",
    "is_floating",
    "is_module",
    "leaving_out",
    "like",
    "options_for",
    "own_arrays",
    "profile_of",
    "pullback",
    "raised",
    "rounded",
    "seed_draws",
    "to_numpy",
    "upstream_gradients",
]

Layout = Callable[[Any], Any]


def _as_it_is(array: Any) -> Any:
    return array


@dataclass(frozen=True)
class CalledOtherwise:
    """A module with its parameters and buffers, called as a function calls it."""

    module: Any
    function: Callable[..., Any]

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return self.function(*arguments, **options)

    def named_parameters(self) -> Any:
        return self.module.named_parameters()

    def named_buffers(self) -> Any:
        return self.module.named_buffers()


@dataclass
class Called:
    """What a function gave.

    Attributes:
        outputs: its outputs. grads: the gradient by each input, by number; None where it gave none. by_name: the
            gradient by each parameter of a module. buffers: of a module, after the call.
        dtypes: the name of each result's dtype, under `output.K`, `grad.K` and the parameter's name.
        written: what is other than before, of inputs, parameters and upstream gradients.
    """

    outputs: list[Array]
    grads: dict[int, Array | None] = field(default_factory=dict)
    by_name: dict[str, Array | None] = field(default_factory=dict)
    buffers: dict[str, Array] = field(default_factory=dict)
    dtypes: dict[str, str] = field(default_factory=dict)
    written: tuple[str, ...] = ()


def framework(arrays: Sequence[Any]) -> str:
    """The framework that the arrays are of: torch, jax or numpy.

    Raises:
        UsageError: they are of several.
    """
    found = {name for a in arrays if (name := any_array.home(a))}
    if len(found) > 1:
        raise UsageError(f"check: expected arrays of one framework, got {' and '.join(sorted(found))}")
    return found.pop() if found else "numpy"


def options_for(fn: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """Of the options those that the function's signature names; all, where it takes any or does not tell."""
    # The signature of torch.autograd.Function.apply tells nothing: what it takes is what its class's forward takes.
    of_class = getattr(fn, "__name__", "") == "apply" and getattr(getattr(fn, "__self__", None), "forward", None)
    try:
        names = inspect.signature(of_class or fn).parameters
    except (TypeError, ValueError):
        # As of a function in C.
        return dict(options)
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in names.values()):
        return {} if of_class else dict(options)
    return {name: value for name, value in options.items() if name in names}


def call(
    fn: Any,
    inputs: Sequence[Any],
    grad_outputs: Sequence[Array] | None,
    wanted: Sequence[int],
    layout: Layout = _as_it_is,
    /,
    **options: Any,
) -> Called:
    """Forward, and backward from the upstream gradients where there are any.

    What the function writes into the inputs and into its buffers is put back.

    Args:
        fn: a function, a torch.nn.Module, or a pair (forward, backward).
        wanted: the numbers of the inputs by which a gradient is due.
        layout: what is done to an upstream gradient before it is sent.
    """
    before = {k: to_numpy(x) for k, x in enumerate(inputs) if is_array(x)}
    held = own_arrays(fn)
    kept = {name: to_numpy(p) for name, p in held.items()}
    seeds = _Seeds(grad_outputs, layout)
    with any_array.buffers_put_back(fn):
        found = _run(fn, inputs, seeds, wanted, options)
    found.written = (
        *(f"input {k}" for k, old in before.items() if not any_array.same(inputs[k], old)),
        *(f"parameter {name}" for name, p in held.items() if not any_array.same(p, kept[name])),
        *seeds.written(),
    )
    for k, old in before.items():
        if f"input {k}" in found.written:
            any_array.put_back(inputs[k], old)
    return found


def attempt(run: Callable[[], Called]) -> Called | str:
    """What was called may raise anything: that is its failure, in words."""
    try:
        return run()
    except UsageError:
        raise
    except Exception as error:
        return raised(error)


def raised(error: Exception) -> str:
    """What a function raised and where in its source, and what to do where it was called otherwise than it expects."""
    line = " ".join(str(error).split())[:300]
    if isinstance(error, Misfit):
        return line
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if HOUSE not in (path := Path(f.filename)).parents and "site-packages" not in path.parts]
    place = f" ({Path(own[-1].filename).name}, line {own[-1].lineno}, in {own[-1].name})" if own else ""
    how = next((said for what, said in HOW.items() if what in line), "")
    return f"raised {type(error).__name__}: {line}{place}{how}"


HOUSE = Path(__file__).parents[1]  # The folder of this package's own lines.

HOW = {
    "positional argument": "; give by name what only the reference takes",
    "unexpected keyword argument": "; where your function has other names, give its arguments in order, without names",
}
"""What to do where a function is called with other arguments than it takes, by what Python says of that."""


def _run(fn: Any, inputs: Sequence[Any], seeds: _Seeds, wanted: Sequence[int], options: Mapping[str, Any]) -> Called:
    if brings_backward(fn):
        return _call_both(fn, inputs, seeds, wanted, options)
    kind = {"torch": _call_torch, "jax": _call_jax, "numpy": _call_numpy}[framework(inputs)]
    return kind(fn, inputs, seeds, wanted, options)


def _count(shapes: Sequence[tuple[int, ...]], what: str) -> str:
    kinds = " and ".join(str(shape) for shape in shapes)
    return f"{len(shapes)} {what}{'s' if len(shapes) != 1 else ''} of shape {kinds}" if shapes else f"no {what}"


class _Seeds:
    """Upstream gradients, made for the outputs that they go to.

    Attributes:
        given: their values; None where nothing is to be sent back. sent: what was made of them.
    """

    def __init__(self, given: Sequence[Array] | None, layout: Layout) -> None:
        self.given, self.layout, self.sent = given, layout, list[Any]()

    def for_outputs(self, outputs: Sequence[Any]) -> list[Any]:
        due, came = [g.shape for g in self.given or ()], [tuple(y.shape) for y in outputs]
        if due != came:
            raise Misfit(f"expected {_count(due, 'output')}, got {_count(came, 'output')}")
        self.sent = [self.layout(like(g, y)) for g, y in zip(self.given or (), outputs, strict=True)]
        self._before = [to_numpy(g) for g in self.sent]
        return self.sent

    def written(self) -> list[str]:
        other = self.sent and not all(map(any_array.same, self.sent, self._before))
        return ["upstream gradient"] if other else []


def own_arrays(fn: Any) -> dict[str, Any]:
    """The parameters of a module; none of a function."""
    return dict(fn.named_parameters()) if hasattr(fn, "named_parameters") else {}


def _several(output: Any) -> list[Any]:
    return [y for y in output if y is not None] if isinstance(output, (tuple, list)) else [output]


def _kept(found: Called, kind: str, arrays: Mapping[int, Any]) -> None:
    for k, a in arrays.items():
        if a is not None:
            found.dtypes[f"{kind}.{k}"] = format_of(a)


def _plain(name: str) -> str:
    """A parameter's name in the module that torch.compile was given."""
    return name.replace("_orig_mod.", "")


def _call_torch(
    fn: Any, inputs: Sequence[Any], seeds: _Seeds, wanted: Sequence[int], options: Mapping[str, Any]
) -> Called:
    import torch

    own, outputs = forward_torch(fn, inputs, wanted, options)
    params = {_plain(name): p for name, p in own_arrays(fn).items()}
    found = Called([to_numpy(y) for y in outputs])
    _kept(found, "output", dict(enumerate(outputs)))
    if seeds.given is not None:
        leaves = [own[k] for k in wanted] + list(params.values())
        moving = [(y, g) for y, g in zip(outputs, seeds.for_outputs(outputs), strict=True) if y.requires_grad]
        grads: Sequence[Any] = [None] * len(leaves)
        asked = [k for k, leaf in enumerate(leaves) if leaf.requires_grad]
        if moving and asked:
            ys, gs = zip(*moving, strict=True)
            got = torch.autograd.grad(ys, [leaves[k] for k in asked], gs, allow_unused=True)
            grads = [dict(zip(asked, got, strict=True)).get(k) for k in range(len(leaves))]
        by_input = dict(zip(wanted, grads, strict=False))
        _kept(found, "grad", by_input)
        found.grads = {k: None if g is None else to_numpy(g) for k, g in by_input.items()}
        for (name, p), g in zip(params.items(), grads[len(wanted) :], strict=True):
            if p.requires_grad:
                found.by_name[name] = None if g is None else to_numpy(g)
                if g is not None:
                    found.dtypes[name] = format_of(g)
    if isinstance(fn, (torch.nn.Module, CalledOtherwise)):
        found.buffers = {_plain(name): to_numpy(b) for name, b in fn.named_buffers()}
    return found


def forward_torch(
    fn: Any, inputs: Sequence[Any], wanted: Sequence[int], options: Mapping[str, Any]
) -> tuple[list[Any], list[Any]]:
    """Leaves of the inputs, and the outputs."""
    own = [any_array.leaf(x, k in wanted) if is_array(x) and x.is_floating_point() else x for k, x in enumerate(inputs)]
    outputs = _several(fn(*own, **options))
    _arrays(outputs)
    here = next(x.device for x in inputs if is_array(x))
    for y in outputs:
        if any_array.home(y) != "torch":
            raise Misfit(f"expected an array of torch, as the inputs are, got one of {any_array.home(y)}")
        if y.device != here:
            raise Misfit(f"expected an output on {here}, as the inputs are, got one on {y.device}")
    return own, outputs


def _call_jax(
    fn: Any, inputs: Sequence[Any], seeds: _Seeds, wanted: Sequence[int], options: Mapping[str, Any]
) -> Called:
    if seeds.given is None or not wanted:
        outputs = _several(fn(*inputs, **options))
        _arrays(outputs)
        found = Called([to_numpy(y) for y in outputs])
    else:
        output, back = pullback(fn, inputs, wanted, options)
        outputs = _several(output)
        _arrays(outputs)
        sent = seeds.for_outputs(outputs)
        grads = back(tuple(sent) if isinstance(output, tuple) else sent[0])
        found = Called([to_numpy(y) for y in outputs], {k: to_numpy(g) for k, g in zip(wanted, grads, strict=True)})
        _kept(found, "grad", dict(zip(wanted, grads, strict=True)))
    _kept(found, "output", dict(enumerate(outputs)))
    return found


def pullback(fn: Any, inputs: Sequence[Any], wanted: Sequence[int], options: Mapping[str, Any]) -> tuple[Any, Any]:
    """What a function of JAX gives, and the function from its upstream gradient to the gradients that are wanted."""
    import jax

    def of_wanted(*some: Any) -> Any:
        full = list(inputs)
        for k, x in zip(wanted, some, strict=True):
            full[k] = x
        return fn(*full, **options)

    found: tuple[Any, Any] = jax.vjp(of_wanted, *(inputs[k] for k in wanted))
    return found


def _call_numpy(
    fn: Any, inputs: Sequence[Any], seeds: _Seeds, wanted: Sequence[int], options: Mapping[str, Any]
) -> Called:
    outputs = _several(fn(*inputs, **options))
    _arrays(outputs)
    if other := {any_array.home(y) for y in outputs} - {"numpy"}:
        home = other.pop()
        raise UsageError(f"check: expected arrays of {home} as inputs, as the outputs are, got NumPy's")
    found = Called([to_numpy(y) for y in outputs])
    _kept(found, "output", dict(enumerate(outputs)))
    return found


def _call_both(
    fn: Any, inputs: Sequence[Any], seeds: _Seeds, wanted: Sequence[int], options: Mapping[str, Any]
) -> Called:
    """A pair (forward, backward), or a module of refnet's."""
    output, saved = forward(fn, inputs, options)
    outputs = _several(output)
    _arrays(outputs)
    found = Called([to_numpy(y) for y in outputs])
    _kept(found, "output", dict(enumerate(outputs)))
    if seeds.given is not None:
        sent = seeds.for_outputs(outputs)
        floating = [k for k, x in enumerate(inputs) if is_array(x) and is_floating(x)]
        grads, by_name = backward(fn, tuple(sent) if isinstance(output, tuple) else sent[0], saved, floating)
        by_input = {k: grads.get(k) for k in wanted}
        _arrays([g for g in (*by_input.values(), *by_name.values()) if g is not None])
        _kept(found, "grad", by_input)
        found.dtypes.update({name: format_of(g) for name, g in by_name.items() if g is not None})
        found.grads = {k: None if g is None else to_numpy(g) for k, g in by_input.items()}
        found.by_name = {name: None if g is None else to_numpy(g) for name, g in by_name.items()}
    if is_module(fn):
        found.buffers = {name: to_numpy(b) for name, b in fn.named_buffers()}
    return found


def _arrays(values: Sequence[Any]) -> None:
    for value in values:
        if not is_array(value):
            raise Misfit(f"expected arrays, got {type(value).__name__}")


def format_of_all(inputs: Sequence[Any]) -> str:
    """The one format of all arrays of floats.

    Raises:
        UsageError: there is no such format, or a value is none.
    """
    arrays = [(k, x) for k, x in enumerate(inputs) if is_array(x)]
    if not arrays:
        came = ", ".join(type(x).__name__ for x in inputs) or "none"
        raise UsageError(f"check: expected arrays of torch, JAX or NumPy as inputs, got {came}")
    framework([x for _, x in arrays])
    floating = {format_of(x): k for k, x in reversed(arrays) if is_floating(x)}
    if len(floating) != 1:
        came = " and ".join(f"{name} in input {k}" for name, k in floating.items())
        if came:
            came += "; a function that takes several converts inside: lambda x, w: fn(x, w.float())"
        came = came or f"none; input {arrays[0][0]} is of {format_of(arrays[0][1])}, judged are {', '.join(FORMATS)}"
        raise UsageError(f"check: expected floats of one format in the inputs, got {came}")
    for k, x in arrays:
        if str(getattr(x, "device", "")) == "meta":
            raise UsageError(f"check: expected values in input {k}, got a tensor on the meta device")
        if str(getattr(x, "layout", "")).startswith("torch.sparse"):
            raise UsageError(f"check: expected a dense tensor as input {k}, got one of layout {x.layout}")
        values = to_numpy(x)
        # -inf is what masks are made of.
        if values.dtype.kind == "f" and (bad := values[np.isnan(values) | (values == np.inf)]).size:
            raise UsageError(f"check: expected finite values in input {k}, got {bad[0]}")
    return next(iter(floating))


def upstream_gradients(grad_output: Any, shapes: Sequence[tuple[int, ...]], profile: Profile, seed: int) -> list[Array]:
    """The upstream gradients: those given, or random numbers of the format."""
    if grad_output is None:
        draws = seed_draws(seed)
        return [rounded(draws.standard_normal(shape), profile) for shape in shapes]
    given = grad_output if isinstance(grad_output, (tuple, list)) else [grad_output]
    seeds = [to_numpy(g) for g in given]
    if [g.shape for g in seeds] != list(shapes):
        due, came = ", ".join(map(str, shapes)), ", ".join(str(g.shape) for g in seeds)
        raise UsageError(f"check: expected grad_output of shape {due}, got {came}")
    return seeds


def leaving_out(inputs: Sequence[Any]) -> str:
    """How to say that no gradient is due by some input, where nothing was said and the framework has a way."""
    if framework(inputs) != "torch" or any(getattr(x, "requires_grad", False) for x in inputs):
        return ""
    return "; if none is due by this input, mark those by which one is: x.requires_grad_()"


def rounded(values: Array, profile: Profile) -> Array:
    """Numbers of the storage format, in float64 or float32."""
    if profile.storage.name == "float64":
        return np.asarray(values, np.float64)
    mantissa, exponent = np.frexp(values)
    scale = 2.0**profile.storage.precision
    return np.asarray(np.ldexp(np.round(mantissa * scale) / scale, exponent), np.float32)


def is_module(fn: Any) -> bool:
    """Whether it is one of torch's modules, or like one."""
    return hasattr(fn, "named_parameters") and hasattr(fn, "state_dict")


def check_kind(fn: Any) -> None:
    """Raise UsageError unless it is a function, a module or a pair of functions."""
    if isinstance(fn, type) and hasattr(fn, "state_dict"):
        raise UsageError(f"check: expected a module, got the class {fn.__name__} itself; {fn.__name__}(...) makes one")
    if not callable(fn) and not (isinstance(fn, tuple) and len(fn) == 2 and all(map(callable, fn))):
        raise UsageError(f"check: expected a function, a module or a pair of functions, got {type(fn).__name__}")


def profile_of(form: str, profile: str | Profile | None) -> Profile:
    """How a function computes, as `Profile.parse` reads it."""
    try:
        found = profile if isinstance(profile, Profile) else Profile.parse(profile or form)
    except ValueError as error:
        raise UsageError(f"check: {error}") from None
    if found is profile or found.storage.name == form:
        return found
    raise UsageError(f"check: expected a profile of {form}, the inputs' format, got {found}")
