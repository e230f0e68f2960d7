"""The smallest input found that still shows a failure, as a program that needs no parity.

Axes are made shorter and numbers rounder, one after the other, as long as the same tensor fails. What is tried is a
fixed list.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np

from parity.engines import function_call, layouts
from parity.function_name import importable
from parity.records.record import UsageError
from parity.sweeping import Tried, array_sizes, resized
from parity.verdict.any_record import Found

Array = np.ndarray[Any, Any]

Asked = Any
"""A `parity.checking.Asked`."""

LENGTHS = (1, 2, 3, 4, 5, 8, 9, 16, 17, 32, 33, 64, 65, 128, 129)
"""Those that an axis is tried with: small ones, and those at which tiles end."""

ROUNDER: Sequence[Callable[[Array], Array]] = (
    lambda x: np.round(x) + 0.0,  # The sum makes 0 of -0.
    lambda x: np.round(2 * x) / 2 + 0.0,
    lambda x: np.round(x, 1) + 0.0,
)

MOST = 300
"""Elements up to which a program is written."""


@dataclass(frozen=True)
class Shown:
    """A question in which a tensor fails.

    Attributes:
        asked, seeds: the question, with its upstream gradients; None for those that it has of its own.
        tensor: the name of what fails. tried: as what it was found.
        how: of a call that fails, in what words, without numbers; empty where any will do.
    """

    asked: Asked
    seeds: tuple[Array, ...] | None
    tensor: str
    tried: Tried
    how: str = ""

    def fails(self) -> bool:
        """Whether the tensor still fails."""
        try:
            if self.tried.bits is not None:
                verdicts = self.tried.bits(self.asked)
            else:
                verdicts = self.asked.found(self.seeds).verdicts
        except (UsageError, ValueError):
            return False
        except Exception:
            return self.tensor == "call" and not self.how
        # Told in words, it can't be asked there.
        return not isinstance(verdicts, str) and any(
            v.name == self.tensor and v.verdict == "FAIL" and self.how in ("", _kind_of(v)) for v in verdicts
        )


def _kind_of(verdict: Any) -> str:
    """How a call fails: another size may make it fail otherwise, which would show something else."""
    return re.sub(r"[\d., ]+", " ", verdict.reason) if verdict.name == "call" else ""


def smallest(tried: Tried, grad_output: Any) -> str:
    """The program that shows a failure; empty where there is none of a reasonable size."""
    if tried.report is None or tried.asked is None:
        return ""
    verdict = next((v for v in tried.report.verdicts if v.verdict == "FAIL"), None)
    if verdict is None:
        return ""
    tensor, how = verdict.name, _kind_of(verdict)
    given = grad_output if isinstance(grad_output, (tuple, list)) else [grad_output]
    seeds = None if grad_output is None else tuple(map(function_call.to_numpy, given))
    # A given upstream gradient has a size of its own; a random one mostly shows the same.
    free = Shown(tried.asked, None, tensor, tried, how)
    shown = free if seeds is None or free.fails() else replace(free, seeds=seeds)
    smaller = _shorter(shown) if shown.seeds is None else shown
    if smaller is shown and not shown.fails():
        # Another result at each call: what fails once need not fail again.
        return ""
    shown = _rounder(smaller)
    count = sum(function_call.to_numpy(x).size for x in shown.asked.inputs if function_call.is_array(x))
    return Program(shown).text() if count <= MOST else ""


def _shorter(shown: Shown) -> Shown:
    for old in sorted(array_sizes(shown.asked), reverse=True):
        if old not in array_sizes(shown.asked):
            continue
        for other in _lengths(shown, old):
            if other.fails():
                shown = other
                break
    return shown


def _lengths(shown: Shown, old: int) -> Iterator[Shown]:
    for new, arguments in product((n for n in LENGTHS if n < old), (False, True)):
        try:
            yield replace(shown, asked=resized(shown.asked, old, new, arguments))
        except (ValueError, TypeError):
            continue


def _rounder(shown: Shown) -> Shown:
    """With rounder numbers in the inputs, then in the upstream gradients."""
    for change in ROUNDER:
        inputs = tuple(
            function_call.like(change(function_call.to_numpy(x)), x)
            if function_call.is_array(x) and function_call.is_floating(x)
            else x
            for x in shown.asked.inputs
        )
        other = replace(shown, asked=replace(shown.asked, inputs=inputs))
        if other.fails():
            shown = other
            break
    if shown.tried.bits is not None or not shown.fails():
        return shown
    try:
        seeds = tuple(shown.seeds or shown.asked.seeds())
    except Exception:
        return shown
    for change in ROUNDER:
        # Zeros would show nothing.
        other = replace(shown, seeds=tuple(np.where(change(g) == 0, 1, change(g)).astype(g.dtype) for g in seeds))
        if other.fails():
            return other
    return replace(shown, seeds=seeds)


# ---- as a program


class Program:
    """A program that makes the inputs, calls what was checked and holds the tensor against what is right."""

    def __init__(self, shown: Shown) -> None:
        self.asked, self.tensor, self.tried = shown.asked, shown.tensor, shown.tried
        self.seeds = shown.seeds
        self.framework = function_call.framework(self.asked.inputs)
        self.names = _names(self.asked)

    def text(self) -> str:
        """The program; empty where this framework has none for such a failure."""
        if self.tried.bits is not None and self.framework != "torch":
            return ""
        found = Found(()) if self.tried.bits is not None else self.asked.found(self.seeds)
        reason = next((v.reason for v in (*found.verdicts, *_verdicts(self.tried)) if v.name == self.tensor), "")
        where, subject = f", {self.tried.name}" if self.tried.name else "", self.asked.title
        head = [f"# {subject}{where}: {self.tensor}: {' '.join(reason.split())}".rstrip(": ")]
        imports, made = self._function()
        seeds = self.seeds if self.seeds is not None else self._own_seeds()
        arrays = [
            f"{name} = {self._array(x, self.asked.laid.get(k, ''), k in self.asked.wanted)}"
            for k, (name, x) in enumerate(zip(self.names, self.asked.inputs, strict=True))
            if function_call.is_array(x)
        ]
        example = next(x for x in self.asked.inputs if function_call.is_array(x) and function_call.is_floating(x))
        layout = self.asked.layout
        sent = [function_call.like(layouts.values_of_seed(g, layout), example) for g in seeds]
        upstream = [f"{self._seed(k)} = {self._array(g, layout, False)}" for k, g in enumerate(sent)]
        body = {"torch": self._torch, "jax": self._jax, "numpy": self._numpy}[self.framework](len(seeds))
        lines = [*head, *imports, "", *made, *arrays, *upstream, "", *body, *self._judged(found)]
        return "\n".join(lines) + "\n"

    def _own_seeds(self) -> tuple[Array, ...]:
        try:
            return tuple(self.asked.seeds())
        except Exception:
            # What raises in the forward pass needs no upstream gradient.
            return ()

    def _seed(self, k: int) -> str:
        return "grad_output" if k == 0 else f"grad_output_{k}"

    # ---- arrays

    def _array(self, x: Any, layout: str, asks: bool) -> str:
        """An expression that makes the array."""
        values = function_call.to_numpy(x).tolist()
        form, shape = function_call.format_of(x), tuple(x.shape)
        laid = layouts.laid_out(x, layout) is not None
        if self.framework == "torch":
            device = "" if x.device.type == "cpu" else f", device={str(x.device)!r}"
            made = f"torch.tensor({values}, dtype=torch.{form}{device})"
            if 0 in shape:
                made = f"torch.empty({shape}, dtype=torch.{form}{device})"
            elif not laid and not x.is_contiguous():
                made = f"torch.empty_strided({shape}, {x.stride()}, dtype=torch.{form}{device}).copy_({made})"
            made += _TORCH_LAYOUTS[layout].format(shape=shape) if laid else ""
            return made + (".requires_grad_()" if asks and function_call.is_floating(x) else "")
        short = "np" if self.framework == "numpy" else "jnp"
        made = f"{short}.array({values}, {form!r})" if 0 not in shape else f"{short}.zeros({shape}, {form!r})"
        return _NUMPY_LAYOUTS[layout].format(made, shape=shape) if laid else made

    def _call(self, function: str = "fn") -> str:
        n = len(self.asked.inputs) - len(self.asked.keywords)
        named = zip(self.names, self.asked.inputs, strict=True)
        given = [name if function_call.is_array(x) else repr(x) for name, x in named]
        by_name = [f"{key}={value}" for key, value in zip(self.asked.keywords, given[n:], strict=True)]
        options = [f"{key}={value!r}" for key, value in self.asked.bound()[1].items()]
        return f"{function}({', '.join([*given[:n], *by_name, *options])})"

    # ---- the function

    def _function(self) -> tuple[list[str], list[str]]:
        """The lines that import what is needed, and those that make fn."""
        base = {"torch": "import torch", "jax": "import jax\nimport jax.numpy as jnp", "numpy": "import numpy as np"}
        lines = base[self.framework].split("\n")
        lines += ['jax.config.update("jax_enable_x64", True)'] if self.framework == "jax" and self._wide else []
        parts = self.asked.fn if isinstance(self.asked.fn, tuple) else (self.asked.fn,)
        names = ("forward", "backward") if isinstance(self.asked.fn, tuple) else ("fn",)
        made = []
        for name, part in zip(names, parts, strict=True):
            module, path = importable(part)
            if not module:
                made.append(f"{name} = ...  # {path}: no import reaches it; put it here")
            elif module == "torch.nn":
                made.append(f"{name} = torch.nn.{path}")
            else:
                lines.append(f"from {module} import {path.partition('.')[0]}")
                made += [f"{name} = {path}"] if name != path else []
        if hasattr(self.asked.fn, "state_dict"):
            state = {key: self._array(t, "", False) for key, t in self.asked.fn.state_dict().items()}
            made.append("fn.load_state_dict({" + ", ".join(f"{key!r}: {text}" for key, text in state.items()) + "})")
        return lines, made

    @property
    def _wide(self) -> bool:
        return any(function_call.is_array(x) and function_call.format_of(x) == "float64" for x in self.asked.inputs)

    # ---- what is run

    def _torch(self, count: int) -> list[str]:
        outputs = "output" if count <= 1 else ", ".join(f"output_{k}" for k in range(count))
        sent = "output.backward(grad_output" if count == 1 else ""
        if count > 1:
            sent = f"torch.autograd.backward([{outputs}], [{', '.join(map(self._seed, range(count)))}]"
        leaves = [self.names[k] for k in self.asked.wanted]
        parameters = "dict(fn.named_parameters())" if hasattr(self.asked.fn, "named_parameters") else "{}"
        everything = "{" + ", ".join(f"{name!r}: {name}" for name in leaves) + f", **{parameters}}}"
        called = f"{outputs} = {self._call()}"
        match self.tried.name:
            case "called again":
                inner = [called, f"{sent})", f"return [{outputs}, *(leaf.grad for leaf in leaves.values())]"]
                return [
                    f"leaves = {everything}",
                    "",
                    "",
                    "def call():",
                    "    for leaf in leaves.values():",
                    "        leaf.grad = None",
                    *(f"    {line}" for line in inner),
                    "",
                    "",
                    "assert all(map(torch.equal, call(), call()))",
                ]
            case "added to existing gradients":
                return [
                    f"leaves = {everything}",
                    called,
                    f"{sent})",
                    "alone = {name: leaf.grad for name, leaf in leaves.items()}",
                    "for leaf in leaves.values():",
                    "    leaf.grad = torch.ones_like(leaf)",
                    called,
                    f"{sent})",
                    "for name, leaf in leaves.items():",
                    '    print(name, "expected", 1 + alone[name], "got", leaf.grad, sep="\\n")',
                    "    assert torch.equal(leaf.grad, 1 + alone[name])",
                ]
            case "second backward":
                return [
                    f"leaves = {everything}",
                    called,
                    f"{sent}, retain_graph=True)",
                    "first = {name: leaf.grad.clone() for name, leaf in leaves.items()}",
                    "for leaf in leaves.values():",
                    "    leaf.grad = None",
                    f"{sent})",
                    "for name, leaf in leaves.items():",
                    '    print(name, "first", first[name], "second", leaf.grad, sep="\\n")',
                    "    assert torch.equal(leaf.grad, first[name])",
                ]
        before = [f"before = [{', '.join(f'{name}.detach().clone()' for name in self._arrays)}]"]
        body = [called, *([f"{sent})"] if sent and (leaves or parameters != "{}") else [])]
        return [*(before if self.tensor == "inputs" else []), *body]

    @property
    def _arrays(self) -> list[str]:
        """The names of all arrays, the upstream gradient's included."""
        own = [name for name, x in zip(self.names, self.asked.inputs, strict=True) if function_call.is_array(x)]
        return [*own, "grad_output"]

    def _sent(self, count: int) -> str:
        """The upstream gradient, or a tuple of several."""
        seeds = ", ".join(map(self._seed, range(count)))
        return seeds if count == 1 else f"({seeds})"

    def _jax(self, count: int) -> list[str]:
        wanted = [self.names[k] for k in self.asked.wanted]
        grads = ", ".join(f"grad_{name}" for name in wanted)
        return [
            f"output, pullback = jax.vjp(lambda {', '.join(wanted)}: {self._call()}, {', '.join(wanted)})",
            f"{grads}, = pullback({self._sent(count)})",
        ]

    def _numpy(self, count: int) -> list[str]:
        before = [f"before = [{', '.join(f'{name}.copy()' for name in self._arrays)}]"]
        body = [f"output = {self._call()}"]
        if isinstance(self.asked.fn, tuple):
            due = [
                f"grad_{name}"
                for name, x in zip(self.names, self.asked.inputs, strict=True)
                if function_call.is_array(x) and function_call.is_floating(x)
            ]
            gave = f"backward({self._sent(count)}, saved)"
            body = [f"output, saved = {self._call('forward')}", f"{', '.join(due)} = {gave}"]
        elif function_call.brings_backward(self.asked.fn):
            body = [
                f"output, saved = {self._call('fn.forward')}",
                f"by_input, grads = fn.backward({self._sent(count)}, saved)",
                "by_input = by_input if isinstance(by_input, tuple) else (by_input,)",
                *(f"grad_{self.names[k]} = by_input[{k}]" for k in self.asked.wanted),
            ]
        return [*(before if self.tensor == "inputs" else []), *body]

    # ---- what is right

    def _judged(self, found: Found) -> list[str]:
        if self.tried.bits is not None or self.tensor == "call":
            return []
        if self.tensor == "inputs":
            equal = {"torch": "torch.equal", "numpy": "np.array_equal", "jax": "jnp.array_equal"}[self.framework]
            return [f"assert all(map({equal}, before, [{', '.join(self._arrays)}]))"]
        enclosure = found.expected.get(self.tensor)
        if enclosure is None:
            return []
        got, right, bound = self._got(), enclosure.truth.hi, enclosure.bound
        library = {"torch": "torch", "numpy": "np", "jax": "np"}[self.framework]
        make, form = ("torch.tensor", "torch.float64") if library == "torch" else ("np.array", "'float64'")
        lines = ["import numpy as np"] if self.framework == "jax" else []
        lines += [f"got = {got}", f"expected = {make}({right.tolist()}, dtype={form})"]
        lines += ['print("expected", expected, "got", got, sep="\\n")']
        due = str(self.asked.profile.storage.name)
        if library == "torch":
            lines += ["assert got is not None", f"assert (got.shape, got.dtype) == (expected.shape, torch.{due})"]
        else:
            lines += [f"assert (got.shape, str(got.dtype)) == (expected.shape, {due!r})"]
        if np.isnan(bound).any() or not np.isfinite(right).all():
            return lines
        off = "abs(np.asarray(got, 'float64') - expected)"
        if library == "torch":
            off = "(got.detach().cpu().double() - expected).abs()"
        return [
            *lines,
            f"rounding = {make}({bound.tolist()}, dtype={form})  # the most that it can do",
            f"assert ({off} <= rounding).all()",
        ]

    def _got(self) -> str:
        kind, _, rest = self.tensor.partition(".")
        if kind == "output":
            several = f"output_{rest}" if self.framework == "torch" else f"output[{rest}]"
            return several if rest else "output"
        if self.tensor == "value":
            return "output"
        if kind == "buffer":
            return f"dict(fn.named_buffers())[{rest!r}]"
        number = {name: k for k, name in self.asked.places().items()}
        bare = self.tensor.startswith("gradients[") or not hasattr(self.asked.fn, "named_parameters")
        if self.tensor not in number and bare:
            arrays = [k for k, x in enumerate(self.asked.inputs) if function_call.is_array(x)]
            k = int(self.tensor.removeprefix("gradients[").rstrip("]").rpartition(".")[2])
            number[self.tensor] = arrays[k] if self.tensor.startswith("gradients[") else k
        if self.tensor not in number:
            return f"grads[{rest!r}]" if self.framework == "numpy" else f"dict(fn.named_parameters())[{rest!r}].grad"
        name = self.names[number[self.tensor]]
        return f"{name}.grad" if self.framework == "torch" else f"grad_{name}"


_TORCH_LAYOUTS = {
    "transposed": ".mT.contiguous().mT",
    "sliced": ".repeat_interleave(2, -1)[..., ::2]",
    "expanded": "[:1].expand({shape})",
    "one number expanded": ".flatten()[0].expand({shape})",
    "channels last": ".movedim(1, -1).contiguous().movedim(-1, 1)",
}

_NUMPY_LAYOUTS = {
    "transposed": "np.ascontiguousarray({}.mT).mT",
    "sliced": "np.repeat({}, 2, -1)[..., ::2]",
    "expanded": "np.broadcast_to({}[:1], {shape})",
    "one number expanded": "np.broadcast_to({}.flat[0], {shape})",
    "negative stride": "np.ascontiguousarray({}[::-1])[::-1]",
    "channels last": "np.moveaxis(np.ascontiguousarray(np.moveaxis({}, 1, -1)), -1, 1)",
}


def _verdicts(tried: Tried) -> Sequence[Any]:
    return () if tried.report is None else tried.report.verdicts


def _names(asked: Asked) -> list[str]:
    """A variable for each input."""
    places = asked.places()
    names = {k: place.removeprefix("grad.").removeprefix("grad_").replace(".", "_") for k, place in places.items()}
    n = len(asked.inputs) - len(asked.keywords)
    names |= {n + k: name for k, name in enumerate(asked.keywords)}
    return [names.get(k, f"x{k}") for k in range(len(asked.inputs))]
