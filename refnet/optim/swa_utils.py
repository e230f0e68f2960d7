"""Averages of weights, and the schedule that goes with them, under torch.optim.swa_utils' names."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction
from typing import Any, ClassVar

import numpy as np

from refnet import _check
from refnet.arithmetic import special
from refnet.generator import Generator
from refnet.nn.batchnorm import _BatchNorm
from refnet.nn.module import Array, Module, Params
from refnet.optim.lr_scheduler_base import LRScheduler
from refnet.optim.optimizer import Optimizer

Average = Callable[[Array, Array, int], Array]
"""The next average, of the present one, the weights, and how many weights are in the present one."""

MultiAverage = Callable[[list[Array], list[Array], int], None]
"""The same of several arrays at once, written into the first list."""


def get_ema_avg_fn(decay: float = 0.999) -> Average:
    """The exponential moving average, with d = `decay` from 0 to 1.

    a[.] = d a[.] + (1 - d) w[.]

    1 - d is exact and rounded once.
    """
    _check.between(0, 1)("get_ema_avg_fn", "decay", decay)

    def ema_update(A: Array, W: Array, num_averaged: int) -> Array:
        A, W = _real(A), _real(W)
        # a[.] = d a[.] + (1 - d) w[.]
        return special.lift(decay, A) * A + special.lift(float(1 - Fraction(decay)), A) * W

    return ema_update


def get_swa_avg_fn() -> Average:
    """The mean of all weights so far, of n = `num_averaged` and the present ones.

    a[.] = a[.] + (w[.] - a[.]) / (n + 1)
    """

    def swa_update(A: Array, W: Array, num_averaged: int) -> Array:
        A, W = _real(A), _real(W)
        # a[.] = a[.] + (w[.] - a[.]) / (n + 1)
        return A + (W - A) / special.lift(float(num_averaged + 1), A)

    return swa_update


def get_ema_multi_avg_fn(decay: float = 0.999) -> MultiAverage:
    """As `get_ema_avg_fn`, of several arrays. torch takes its `lerp` here, which may round otherwise."""
    _check.between(0, 1)("get_ema_multi_avg_fn", "decay", decay)
    return _of_each(get_ema_avg_fn(decay))


def get_swa_multi_avg_fn() -> MultiAverage:
    """As `get_swa_avg_fn`, of several arrays. torch takes its `lerp` here, by a share that it rounds to float32."""
    return _of_each(get_swa_avg_fn())


def _of_each(average: Average) -> MultiAverage:
    def multi_update(averages: list[Array], weights: list[Array], num_averaged: int) -> None:
        for A, W in zip(averages, weights, strict=True):
            A[...] = average(A, W, num_averaged)

    return multi_update


def _real(A: Array) -> Array:
    """Counters are averaged in float32, as torch does, and then cut to integers."""
    return np.asarray(A, np.float32) if A.dtype.kind in "iu" else A


def _is_module(operation: str, model: Any) -> None:
    if not isinstance(model, Module):
        raise TypeError(f"{operation}: expected model to be a Module, got {type(model).__name__}")


class AveragedModel(Module):
    """A copy of a network whose parameters are the average of those that it was shown, for SWA and EMA.

    `update_parameters` copies them at first, and averages from the second time on. Names are torch's: `n_averaged`, and
    those of the network behind `module.`.

    Sources: P. Izmailov et al., "Averaging weights leads to wider optima and better generalization", UAI 2018; B. T.
    Polyak, A. B. Juditsky, "Acceleration of stochastic approximation by averaging", SIAM J. Control Optim. 30, 1992.

    Args:
        model: the network; it is copied, and draws from the same generators.
        device: accepted as torch's, and without a meaning here.
        avg_fn: gives the next average of one array, see `Average`; None for the mean, `get_swa_avg_fn()`.
        multi_avg_fn: the same of all arrays at once, in place; at most one of the two.
        use_buffers: whether buffers are averaged as parameters are; if not, they are copied at every update.

    Raises:
        TypeError: `model` is no Module, a function none, or `use_buffers` no truth value.
        ValueError: both functions are given.
    """

    not_negative = ("n_averaged",)

    def __init__(
        self,
        model: Module,
        device: Any = None,
        avg_fn: Average | None = None,
        multi_avg_fn: MultiAverage | None = None,
        use_buffers: bool = False,
    ) -> None:
        super().__init__()
        _is_module("AveragedModel", model)
        for name, function in (("avg_fn", avg_fn), ("multi_avg_fn", multi_avg_fn)):
            if function is not None and not callable(function):
                raise TypeError(f"AveragedModel: expected {name} to be a function, got {type(function).__name__}")
        if avg_fn is not None and multi_avg_fn is not None:
            raise ValueError("AveragedModel: expected one of avg_fn and multi_avg_fn, got both")
        _check.flag("AveragedModel", "use_buffers", use_buffers)
        sources = [v for module in model.modules() for v in vars(module).values() if isinstance(v, Generator)]
        self.module = copy.deepcopy(model, {id(source): source for source in sources})
        self.avg_fn, self.multi_avg_fn, self.use_buffers = avg_fn, multi_avg_fn, use_buffers
        self.buffers["n_averaged"] = np.zeros((), np.int64)
        self.adopt({"module": self.module})

    @property
    def n_averaged(self) -> Array:
        """How many networks are in the average."""
        return self.buffers["n_averaged"]

    def forward(self, *inputs: Array) -> tuple[Array, Any]:
        return self.module.forward(*inputs)

    def backward(self, grad_output: Array, saved: Any) -> tuple[Array, Params]:
        dX, dP = self.module.backward(grad_output, saved)
        grads: Params = {}
        self.add_grads(grads, "module", dP)
        return dX, grads

    def update_parameters(self, model: Module) -> None:
        """Take the weights of `model` into the average.

        Raises:
            ValueError: its parameters and buffers are not those of the network that was copied, by name, shape and
                dtype, or `avg_fn` gives another shape. Nothing is written then.
            TypeError: `model` is no Module, or `avg_fn` gives no real numbers.
        """
        _is_module("AveragedModel.update_parameters", model)
        averaged = self._pairs("parameters", self.module.params, model.params)
        buffers = self._pairs("buffers", self.module.buffers, model.buffers)
        if self.use_buffers:
            averaged, buffers = averaged + buffers, []
        n = int(self.n_averaged)
        if n == 0:
            buffers, averaged = averaged + buffers, []
        if self.multi_avg_fn is not None:
            if averaged:
                self.multi_avg_fn([A for A, _ in averaged], [W for _, W in averaged], n)
        else:
            average = self.avg_fn or get_swa_avg_fn()
            after = [average(A, W, n) for A, W in averaged]
            for (A, _), new in zip(averaged, after, strict=True):
                if np.shape(new) != A.shape:
                    raise ValueError(f"AveragedModel: expected avg_fn to keep the shape {A.shape}, got {np.shape(new)}")
                if (kind := np.asarray(new).dtype).kind not in "fiuO":
                    raise TypeError(f"AveragedModel: expected avg_fn to give real numbers, got {kind}")
            for (A, _), new in zip(averaged, after, strict=True):
                A[...] = new
        for A, W in buffers:
            A[...] = W
        self.n_averaged[...] = n + 1

    @staticmethod
    def _pairs(what: str, own: Params, given: Params) -> list[tuple[Array, Array]]:
        expected, got = ({n: (A.shape, str(A.dtype)) for n, A in arrays.items()} for arrays in (own, given))
        if expected != got:
            raise ValueError(f"AveragedModel: expected {what} {expected}, got {got}")
        return [(A, given[name]) for name, A in own.items()]


def update_bn(loader: Iterable[Any], model: Module, device: Any = None) -> None:
    """Set the running statistics of every BatchNorm inside to the average over the batches of `loader`, by one pass in
    training mode. Momenta and mode are as before afterwards, after an error too.

    Args:
        loader: batches: arrays, or tuples and lists whose first element is the input.
        model: the network. Without a BatchNorm nothing happens.
        device: accepted as torch's, and without a meaning here.
    """
    _is_module("update_bn", model)
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    if not norms:
        return
    try:
        batches = iter(loader)
    except TypeError:
        raise TypeError(f"update_bn: expected loader to give batches, got {type(loader).__name__}") from None
    momenta, was_training = [norm.momentum for norm in norms], model.training
    model.train()
    try:
        for norm in norms:
            # None is the average over all batches.
            norm.momentum = None
            for name, first in (("running_mean", 0), ("running_var", 1), ("num_batches_tracked", 0)):
                if name in norm.buffers:
                    norm.buffers[name][...] = first
        for batch in batches:
            model(batch[0] if isinstance(batch, (list, tuple)) else batch)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        model.train(was_training)


class SWALR(LRScheduler):
    """The rate goes to s = `swa_lr` over E = `anneal_epochs` epochs, and stays there.

        eta_e = s alpha_e + (1 - alpha_e) (eta_(e-1) - alpha_(e-1) s) / (1 - alpha_(e-1))
        alpha_e = (1 - cos(pi t)) / 2 with `anneal_strategy` cos, t with linear     t = min(e / E, 1)

    (eta_(e-1) - alpha_(e-1) s) / (1 - alpha_(e-1)) is the rate that the way began with; where alpha_(e-1) is 1 it is s.

    Args:
        optimizer, last_epoch: as for every `LRScheduler`.
        swa_lr: s, or a list of one for each group; noted in the groups.
        anneal_epochs, anneal_strategy: as above.
    """

    choices: ClassVar[Mapping[str, tuple[str, ...]]] = {"_anneal_strategy": ("cos", "linear")}

    def __init__(
        self,
        optimizer: Optimizer,
        swa_lr: float | list[float],
        anneal_epochs: int = 10,
        anneal_strategy: str = "cos",
        last_epoch: int = -1,
    ) -> None:
        self.optimizer = self._own(optimizer)
        rates = self.per_group("swa_lr", swa_lr, _check.not_negative)
        _check.one_of(self._name, "anneal_strategy", anneal_strategy, self.choices["_anneal_strategy"])
        self.anneal_epochs = _check.size(self._name, "anneal_epochs", anneal_epochs)
        self._anneal_strategy = anneal_strategy
        for group, s in zip(optimizer.param_groups, rates, strict=True):
            group["swa_lr"] = s
        super().__init__(optimizer, last_epoch)

    def _alpha(self, e: int) -> float:
        t = max(0, min(1, e / max(1, self.anneal_epochs)))
        return t if self._anneal_strategy == "linear" else (1 - math.cos(math.pi * t)) / 2

    def get_lr(self) -> list[Any]:
        e = self._step_count - 1 if self.anneal_epochs else max(1, self._step_count - 1)
        alpha, before = self._alpha(e), self._alpha(e - 1)
        rates = []
        for group in self.optimizer.param_groups:
            s = group["swa_lr"]
            first = s if before == 1 else (group["lr"] - before * s) / (1 - before)
            # eta_e = s alpha_e + (1 - alpha_e) (eta_(e-1) - alpha_(e-1) s) / (1 - alpha_(e-1))
            rates.append(s * alpha + first * (1 - alpha))
        return rates
