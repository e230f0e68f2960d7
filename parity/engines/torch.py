"""torch: autograd over torch.nn, steps by torch.optim."""

from __future__ import annotations

import importlib
import inspect
import warnings
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import numpy as np

import refnet
from parity.engines.base import Engine
from parity.engines.modules_in_torch import OWN, dropping, graph, masked, objective
from parity.records.record import (
    VJP,
    Answer,
    Array,
    Optimize,
    Spec,
    Train,
    Unsupported,
    UsageError,
    parts_of_state,
    within,
)
from refnet.arithmetic.sparse_gradient import SparseGradient
from refnet.optim.optimizer import State, number
from refnet.train.step import is_mean

IMPLEMENTATIONS: Mapping[str, Mapping[str, bool]] = {
    "": {},
    "for-loop": {"foreach": False, "fused": False},
    "foreach": {"foreach": True},
    "fused": {"fused": True},
    "capturable": {"capturable": True},
}
"""torch's ways of carrying out an optimizer's step, as arguments of its constructor."""

NARROW = ("bfloat16", "float16")
DTYPES = ("float64", "float32", *NARROW)


class TorchEngine(Engine):
    """PyTorch on one device, eager or compiled.

    Args:
        device: where to compute: cpu, cuda, mps, ... One that this machine lacks answers every record with Unsupported.
        dtype: the only dtype that it computes in; records in others are Unsupported. Without it, a record's own.
        compile: 1 for torch.compile with its default backend, or the name of a backend; 0 for eager.
        optimizer: for-loop, foreach, fused or capturable: how an optimizer carries out its step; torch's choice without
            it.

    Raises:
        UsageError: torch is not installed, or knows no such device, dtype, backend or way of stepping.
    """

    name = "torch"
    # `at::opmath_type` in torch's source.
    profiles: Mapping[str, str] = {dtype: f"{dtype}, accumulate float32" for dtype in NARROW}

    def __init__(self, device: str = "cpu", dtype: str = "", compile: str = "0", optimizer: str = "") -> None:
        try:
            self.torch = importlib.import_module("torch")
        except ImportError as error:
            raise UsageError(
                f"engine torch: expected the package torch, got: {error}; install it with: pip install torch"
            ) from None
        try:
            self.device = self.torch.device(device)
        except RuntimeError as error:
            raise UsageError(f"engine torch: expected a device of torch, got {device!r}: {_line(error)}") from None
        if dtype not in ("", *DTYPES):
            raise UsageError(f"engine torch: expected dtype={' or '.join(DTYPES)}, got {dtype!r}")
        if optimizer not in IMPLEMENTATIONS:
            ways = ", ".join(filter(None, IMPLEMENTATIONS))
            raise UsageError(f"engine torch: expected optimizer= one of {ways}, got {optimizer!r}")
        self.dtype, self.implementation = dtype, optimizer
        self.backend = {"0": "", "1": "inductor"}.get(compile, compile)
        if self.backend and self.backend not in (known := self.torch.compiler.list_backends(exclude_tags=())):
            raise UsageError(f"engine torch: expected compile=0, 1 or one of {', '.join(known)}, got {compile!r}")
        self._lacking: dict[str, str] = {}
        self._format: Any = None

    def computing(self, dtype: str) -> str:
        """How torch computes in `dtype`; TF32 where its matrix products in float32 may take that on the device."""
        if dtype == "float32" and self.device.type == "cuda" and self.torch.get_float32_matmul_precision() != "highest":
            return "tf32"
        return super().computing(dtype)

    def _require(self, dtype: str) -> None:
        """Refuse a dtype that was not asked for or that the device does not have, or a device that is not there."""
        if self.dtype not in ("", dtype):
            raise Unsupported(f"{dtype}, by dtype={self.dtype}")
        if dtype not in self._lacking:
            self._lacking[dtype] = ""
            # What torch raises depends on the device.
            try:
                self.torch.zeros(1, device=self.device, dtype=getattr(self.torch, dtype)).cpu()
            except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
                self._lacking[dtype] = _line(error)
        # Their numbers come in float32.
        self._format = getattr(self.torch, dtype) if dtype in NARROW else None
        if reason := self._lacking[dtype]:
            raise Unsupported(f"torch has no {dtype} on {self.device} here: {reason}")

    def _compiled(self, run: Any) -> Any:
        """A module or function, compiled where that is asked for."""
        if not self.backend:
            return run
        # What was compiled for another record's shapes counts against the limit of recompilations.
        self.torch.compiler.reset()
        return self.torch.compile(run, backend=self.backend, dynamic=False)

    def _tensor(self, array: Array, requires_grad: bool = False) -> Any:
        """The array as a tensor of the same strides: a zero stride stays one, as autograd makes them itself."""
        torch = self.torch
        if any(s < 0 for s in array.strides):
            array = array.copy()
        storage = (
            np.lib.stride_tricks.as_strided(array, (_reach(array),), (array.itemsize,))
            if array.size
            else array.reshape(-1)
        )
        flat = torch.from_numpy(storage.copy()).to(self.device)
        if self._format is not None and array.dtype.kind == "f":
            flat = flat.to(self._format)
        strides = [s // array.itemsize for s in array.strides] if array.size else torch.empty(array.shape).stride()
        return flat.as_strided(array.shape, strides).requires_grad_(requires_grad)

    def _build(self, spec: Spec, arrays: Mapping[str, Array], dtype: str) -> Any:
        module = self._construct(spec, arrays, getattr(self.torch, dtype))
        state = {name: self._tensor(a) for name, a in arrays.items()}
        own = module.state_dict()
        # One layer at several places appears under each of its names.
        shared = {
            name: next(k for k in arrays if own[k].data_ptr() == own[name].data_ptr())
            for name in own
            if name not in arrays
        }
        module.load_state_dict({**state, **{name: state[first] for name, first in shared.items()}})
        return module.to(self.device)

    def _construct(self, spec: Spec, arrays: Mapping[str, Array], dtype: Any) -> Any:
        nn = self.torch.nn
        if spec.type == "Sequential":
            layers = [self._construct(layer, {}, dtype) for layer in spec.layers]
            return nn.Sequential(*(layers[k] for k in spec.places))
        if spec.type == "Graph":
            layers = [self._construct(layer, {}, dtype) for layer in spec.layers]
            return graph(self.torch, [layers[k] for k in spec.places], **spec.args)
        if spec.type == "Objective":
            network, loss = spec.layers
            return objective(
                self.torch, self._construct(network, {}, dtype), self._construct(loss, within(arrays, "loss."), dtype)
            )
        if spec.type in OWN:
            return OWN[spec.type](self.torch, **spec.class_args).to(dtype)
        if not hasattr(nn, spec.type):
            raise Unsupported(f"torch.nn has no {spec.type}")
        make = getattr(nn, spec.type)
        given = {name: self._tensor(a) for name, a in spec.constructor_arrays(arrays).items()}
        args = spec.class_args
        if isinstance(args.get("options"), Mapping):
            args["options"] = nn.LinearCrossEntropyOptions(**args["options"])
        inside = (self._construct(layer, {}, dtype) for layer in spec.layers)
        given |= zip(spec.facts.modules, inside, strict=False)
        with warnings.catch_warnings():
            # That a faster way will not be taken.
            warnings.filterwarnings("ignore", "enable_nested_tensor is True", UserWarning)
            module = self._made(make, spec.type, **args, **given)
        return module.to(dtype)

    def _made(self, make: Any, name: str, *params: Any, **args: Any) -> Any:
        """A module or optimizer; an argument that this version of torch does not have is no mistake of it."""
        try:
            return make(*params, **args)
        except TypeError as error:
            if "unexpected keyword argument" not in str(error):
                raise
            lacking = str(error).partition("argument ")[2]
            raise Unsupported(f"torch {self.torch.__version__}: {name} has no argument {lacking}") from None

    def vjp(self, record: VJP) -> Answer:
        try:
            with warnings.catch_warnings():
                # That a loss is not computed in chunks, as with probabilities for targets.
                warnings.filterwarnings("ignore", "linear_cross_entropy: ``options`` ignored", UserWarning)
                return self._vjp(record)
        except NotImplementedError as error:
            # A kernel that torch does not have in this dtype, or on this device.
            raise Unsupported(f"torch: {_line(error)}") from error

    def _vjp(self, record: VJP) -> Answer:
        self._require(record.dtype)
        torch = self.torch
        module = self._build(record.spec, record.arrays, record.dtype).train(record.training)
        inputs = [self._tensor(x, requires_grad=x.dtype.kind == "f") for x in record.inputs]
        about = record.spec.facts
        if about.mask and self.backend:
            raise Unsupported(f"a compiled {record.spec.type} with a given mask")
        run = self._compiled(module)
        if about.mask:
            output = masked(inputs[0], inputs[1], module.p) if record.training else module(inputs[0])
        elif about.options or about.dropout_masks:
            by_name = dict(zip(record.input_names, inputs, strict=True))
            masks = about.in_order_of_draws(by_name)
            by_name = {name: x for name, x in by_name.items() if name not in about.dropout_masks}
            if masks and self.backend:
                raise Unsupported(f"a compiled {record.spec.type} with a given mask")
            with warnings.catch_warnings(), dropping(torch, masks) if masks else nullcontext():
                # Masks of two dtypes are still taken.
                warnings.filterwarnings("ignore", "Support for mismatched", UserWarning)
                output = run(**by_name, **record.spec.forward_args)
        else:
            # Without its states an LSTMCell has its input alone.
            apart = max(len(inputs) - about.together, 1)
            together = (tuple(inputs[apart:]),) if inputs[apart:] else ()
            with warnings.catch_warnings():
                # An even kernel and padding="same" concern speed; KLDivLoss's "mean" is no divergence.
                for said in ("Using padding='same'", "reduction: 'mean' divides"):
                    warnings.filterwarnings("ignore", said, UserWarning)
                output = run(*inputs[:apart], *together)
        outputs = [y for y in output if y is not None] if isinstance(output, tuple) else [output]
        torch.autograd.backward(outputs, [self._tensor(g) for g in record.grad_outputs])
        several = len(inputs) > 1
        return {
            **{f"output.{k}" if len(outputs) > 1 else "output": _array(y) for k, y in enumerate(outputs)},
            **{
                f"grad_input.{k}" if several else "grad_input": _array(x.grad)
                for k, x in enumerate(inputs)
                if x.grad is not None
            },
            **{f"grad.{name}": _array(p.grad) for name, p in module.named_parameters() if p.grad is not None},
            **{f"buffer.{name}": _array(b) for name, b in module.named_buffers()},
        }

    def optimize(self, record: Optimize) -> Answer:
        try:
            return self._optimize(record)
        except RuntimeError as error:
            # The first step says whether it is fused on this device.
            if "requires all the params to be" not in str(error):
                raise
            way = f"{self.implementation} step on {self.device}"
            raise Unsupported(f"torch's {record.spec.type} has no {way}") from None

    def _optimize(self, record: Optimize) -> Answer:
        self._require(record.dtype)
        if record.objective is None:
            params = {name: self._tensor(p).clone().requires_grad_() for name, p in record.params.items()}
            evaluate: Any = None
        else:
            module = self._build(record.objective.spec, record.params, record.dtype)
            params, inputs = dict(module.named_parameters()), [self._tensor(x) for x in record.objective.inputs]
            evaluate = partial(_evaluated, self._compiled(module), inputs)
        optimizer = self._optimizer(record.spec, params, record.groups)
        step, schema = self._compiled(optimizer.step), record.spec.schema
        before = {name: _array(p).astype(np.float64) for name, p in params.items()}
        series: dict[str, list[Array]] = {}
        for k in range(record.steps):
            grads = record.gradients(k)
            for name, p in params.items():
                p.grad = self._gradient(grads[name], p) if name in grads else None
            step(*([evaluate or partial(_linear, params)] if _takes_closure(record.spec) else []))
            for name, p in params.items():
                after = _array(p).astype(np.float64)
                series.setdefault(f"update.{name}", []).append(after - before[name])
                before[name] = after
                for key, value in _state(schema, optimizer, p).items():
                    series.setdefault(f"state.{name}.{key}", []).append(_array(value))
        return {name: np.stack(values) for name, values in series.items()}

    def _gradient(self, given: Any, p: Any) -> Any:
        """A gradient, whole or sparse."""
        if not isinstance(given, SparseGradient):
            return self._tensor(given)
        indices, values = self._tensor(np.atleast_2d(given.indices)), self._tensor(given.values)
        with warnings.catch_warnings():
            # That other sparse tensors are not checked.
            warnings.filterwarnings("ignore", "Sparse invariant checks are implicitly disabled", UserWarning)
            return self.torch.sparse_coo_tensor(indices, values, p.shape, check_invariants=True)

    def _optimizer(self, spec: Spec, params: Mapping[str, Any], groups: Any = None) -> Any:
        if not hasattr(self.torch.optim, spec.type):
            raise Unsupported(f"torch.optim has no {spec.type}")
        given = (
            list(params.values())
            if groups is None
            else [{"params": [params[n] for n in names], **args} for names, args in groups]
        )
        make = getattr(self.torch.optim, spec.type)
        asked, known = IMPLEMENTATIONS[self.implementation], inspect.signature(make).parameters
        if asked and not asked.keys() & known.keys():
            raise Unsupported(f"torch.optim.{spec.type} has no {self.implementation} implementation")
        if "capturable" in asked and self.device.type == "cpu" and not self.backend:
            raise Unsupported("torch's capturable steps need a device other than the processor, or torch.compile")
        implementation = {name: value for name, value in asked.items() if name in known}
        return self._made(make, spec.type, given, **spec.args, **implementation)

    def train(self, record: Train) -> Answer:
        self._require(record.dtype)
        torch = self.torch
        network = self._build(record.network, record.arrays, record.dtype)
        loss = self._construct(record.loss, {}, getattr(torch, record.dtype))
        params, buffers = dict(network.named_parameters()), dict(network.named_buffers())
        trainable = record.trained(params)
        optimizer = self._optimizer(record.optimizer, {name: params[name] for name in trainable}, record.groups)
        for path, array in record.state.items():
            name, _, key = path.rpartition(".")
            optimizer.state[params[name]][key] = self._tensor(array)
        inputs, targets = self._tensor(record.inputs), self._tensor(record.targets)
        # All batches at once: picked one by one they cost as much as a small layer.
        sizes = [len(batch) for batch in record.batches]
        order = torch.from_numpy(np.concatenate([np.empty(0, np.int64), *record.batches])).to(self.device)
        batches = zip(inputs[order].split(sizes), targets[order].split(sizes), strict=True)
        series: Answer = {}
        if record.masks and self.backend:
            raise Unsupported("a compiled training with given masks")
        run = self._compiled(network)

        trained, schema = [params[name] for name in trainable], record.optimizer.schema
        # In the processor's memory what is written in place later is seen through the same array.
        views = {name: _shown(p) for name, p in params.items()} if self.device.type == "cpu" else {}

        def keep(name: str, value: Array, k: int, rows: int) -> None:
            if name not in series:
                series[name] = np.empty((rows, *value.shape), value.dtype)
            series[name][k] = value

        def keep_weights(k: int) -> None:
            for name, p in params.items():
                keep(f"param.{name}", views[name] if views else _shown(p), k, record.iterations + 1)

        keep_weights(0)
        for k, (x, t) in enumerate(batches):
            for p in trained:
                # As `zero_grad` does, which costs more than a small layer.
                p.grad = None
            for name in record.frozen_before(k):
                params[name].requires_grad_(False)
            if record.rates:
                for group in optimizer.param_groups:
                    group["lr"] = record.rates[k]
            if record.masks:
                with dropping(torch, [self._tensor(mask) for mask in record.masks_of(k).values()]):
                    value = self._backward(record, run, loss, x, t)
            else:
                value = self._backward(record, run, loss, x, t)
            if record.clip:
                self._clip(record, trained)
            optimizer.step()
            keep("loss", _shown(value), k, record.iterations)
            keep_weights(k + 1)
            for name, p in zip(trainable, trained, strict=True):
                for key, state in _state(schema, optimizer, p).items():
                    keep(f"state.{name}.{key}", _shown(state), k, record.iterations)
            for name, buffer in buffers.items():
                keep(f"buffer.{name}", _shown(buffer), k, record.iterations)
        return series

    def _backward(self, record: Train, run: Any, loss: Any, x: Any, t: Any) -> Any:
        """The loss of a batch after its gradients are there, by micro-batches where that is asked for."""
        if not record.accumulate:
            value = loss(run(x), t)
            value.backward()
            return value
        total = 0.0
        parts = zip(x.chunk(record.accumulate), t.chunk(record.accumulate), strict=True)
        for part, targets in parts:
            value = loss(run(part), targets)
            if is_mean(loss):
                value = value * (len(part) / len(x))
            value.backward()
            total = total + value.detach()
        return total

    def _clip(self, record: Train, params: list[Any]) -> None:
        clip, utils = record.clip, self.torch.nn.utils
        foreach = {"foreach": True, "for-loop": False}.get(self.implementation)
        if "max_norm" in clip:
            utils.clip_grad_norm_(params, clip["max_norm"], clip.get("norm_type", 2.0), foreach=foreach)
        elif "clip_value" in clip:
            utils.clip_grad_value_(params, clip["clip_value"], foreach=foreach)


def _state(schema: Mapping[str, State], optimizer: Any, p: Any) -> dict[str, Any]:
    """The arrays that an optimizer keeps for a parameter, of those that its schema lists. Single numbers come in the
    parameter's dtype, whatever dtype torch keeps them in."""
    kept = optimizer.state.get(p, {})
    return {
        path: _number(one, p, array)
        for key, array in schema.items()
        for path, one in parts_of_state(key, kept.get(key))
    }


def _number(kept: Any, p: Any, array: State) -> Any:
    """A part of the state as a tensor; single numbers may be Python's."""
    if array.counter and not hasattr(kept, "to"):
        return p.new_tensor(kept).float()
    if not hasattr(kept, "to"):
        return p.new_tensor(kept)
    return kept.to(p.dtype) if array.shape is number and not array.counter else kept


def _takes_closure(spec: Spec) -> bool:
    return bool(getattr(refnet.optim, spec.type).takes_closure)


def _evaluated(module: Any, inputs: Sequence[Any]) -> Any:
    """The objective of a record; its gradients are those of the module's parameters then."""
    module.zero_grad()
    value = module(*inputs)
    value.backward()
    return value


def _linear(params: Mapping[str, Any]) -> Any:
    """The linear function with the gradients that the parameters have."""
    return sum((p.grad * p.detach()).sum() for p in params.values() if p.grad is not None)


def _line(error: Exception) -> str:
    """The first sentence of what torch says."""
    return str(error).partition("\n")[0].partition(". ")[0]


def _reach(array: Array) -> int:
    """How many elements of storage lie between an array's first element and its last."""
    reach = 1
    for n, stride in zip(array.shape, array.strides, strict=True):
        reach += (n - 1) * (stride // array.itemsize)
    return reach


def _shown(tensor: Any) -> Array:
    """What a tensor holds; on the processor its own memory."""
    array: Array = tensor.detach().cpu().numpy()
    return array


def _array(tensor: Any) -> Array:
    tensor = tensor.detach().to_dense().cpu()
    # A format that NumPy lacks goes in float32.
    array: Array = (tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor).numpy().copy()
    return array
