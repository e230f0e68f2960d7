"""Many networks and optimizers as one."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refnet.arithmetic.runs import Runs
from refnet.nn.module import Module, Params
from refnet.optim.optimizer import SCHEDULED
from refnet.train.addresses import address_of
from refnet.train.configuration import configuration_of


class StackedModules:
    """R networks that are alike, and their optimizers, as one network and one optimizer on `Runs`.

    What the stack holds are copies: `unstack` writes them back.

    Attributes:
        net: a network on the stacked parameters and buffers. Integer buffers, which count batches, stay plain.
        opt: an optimizer on `net.params` with the stacked state; a learning rate for each run, or one if all agree.

    Raises:
        ValueError: there is no network, or not as many optimizers; networks or optimizers are not alike, an optimizer
            holds arrays that are not its network's, or two networks share memory; a value is NaN or infinite.
        TypeError: a module draws random numbers.
    """

    def __init__(self, nets: Sequence[Module], opts: Sequence[Any]) -> None:
        if not nets or len(nets) != len(opts):
            raise ValueError(
                "ensemble: expected at least one network and as many optimizers, "
                f"got {len(nets)} networks and {len(opts)} optimizers"
            )
        for opt in opts:
            if getattr(opt, "takes_closure", False):
                raise ValueError(
                    f"ensemble: expected optimizers that take one gradient a step, got {type(opt).__name__}; use fit"
                )
        self.nets, self.opts = nets, opts
        arrays = _stacked("a parameter or buffer", [{**net.params, **net.buffers} for net in nets])
        each = map(_of_run, nets, opts)
        first = next(each)
        if any(other != first for other in each):  # (one at a time: what is made of a run is given up at once)
            raise ValueError(
                "ensemble: expected networks and optimizers alike but for values and lr, got different ones"
            )
        _check_apart([{**net.params, **net.buffers} for net in nets])
        for module in nets[0].modules():
            if module.draws:
                raise TypeError(
                    f"ensemble: expected layers that draw nothing, got {type(module).__name__} in training mode, "
                    "with a generator that runs cannot share"
                )
        self.net = copy.deepcopy(nets[0])
        self.net.bind(arrays)
        self.opt = copy.copy(opts[0])
        self.opt.param_groups = [
            {**group, "params": {name: arrays[name] for name in group["params"]}, "lr": self._rate(place)}
            for place, group in enumerate(opts[0].param_groups)
        ]
        self.opt.state = {
            name: _stacked(f"state of {name}", [opt.state.get(name, {}) for opt in opts])
            for name in dict.fromkeys(name for opt in opts for name in opt.state)
        }

    def _rate(self, place: int) -> Any:
        rates = [opt.param_groups[place]["lr"] for opt in self.opts]
        rates = [float(rate) if isinstance(rate, np.ndarray) else rate for rate in rates]
        return rates[0] if len(set(rates)) == 1 else Runs(np.array(rates))

    def unstack(self) -> None:
        """Let every network and optimizer have its own part."""
        for name, whole in {**self.net.params, **self.net.buffers}.items():
            for run, net in enumerate(self.nets):
                own = net.params if name in self.net.params else net.buffers
                own[name][...] = _part(whole, run)
        for run, opt in enumerate(self.opts):
            for name, kept in self.opt.state.items():
                own = opt.state.setdefault(name, {})
                for key, array in kept.items():
                    if key in own:
                        own[key][...] = _part(array, run)
                    else:
                        own[key] = np.array(_part(array, run))


def _part(array: Any, run: int) -> NDArray[Any]:
    part: NDArray[Any] = array.a[run] if isinstance(array, Runs) else array
    return part


def _stacked(what: str, each: Sequence[Mapping[str, NDArray[Any]]]) -> Params:
    """The arrays of all runs, under their names."""
    names = list(dict.fromkeys(name for own in each for name in own))
    for own in each:
        if len(own) != len(names):
            raise ValueError(f"ensemble: expected {what} alike in every run: {names}; got {list(own)}")
        for name in names:
            one, other = each[0][name], own[name]
            if (one.shape, one.dtype) != (other.shape, other.dtype):
                raise ValueError(
                    f"ensemble: expected {name} alike in every run, "
                    f"got {one.dtype} {one.shape} and {other.dtype} {other.shape}"
                )
            if other.dtype.kind != "f" and (one != other).any():
                raise ValueError(f"ensemble: expected {name}, of integers, alike in every run")
    stacked: Params = {}
    for name in names:
        if each[0][name].dtype.kind != "f":
            stacked[name] = each[0][name].copy()
            continue
        stacked[name] = Runs(np.stack([own[name] for own in each]))
        if not np.isfinite(stacked[name].a).all():
            raise ValueError(f"ensemble: expected finite values in {name}, got NaN or infinity")
    return stacked


def _of_run(net: Module, opt: Any) -> Any:
    """What networks and optimizers must have in common."""
    for group in opt.param_groups:
        for name, P in group["params"].items():
            if net.params.get(name) is not P:
                raise ValueError(
                    f"ensemble: expected an optimizer on its network's params, got one that holds another array {name}"
                )
    of_rates = SCHEDULED | {"lr"}
    groups = [
        {name: list(value) if name == "params" else value for name, value in group.items() if name not in of_rates}
        for group in opt.param_groups
    ]
    return configuration_of(net), type(opt), configuration_of(groups)


def _extent(array: NDArray[Any]) -> tuple[int, int]:
    """Its lowest byte, and the one behind its highest."""
    if array.flags.c_contiguous:  # (a shorter way)
        first = address_of(array)
        return first, first + array.nbytes
    low, high = np.lib.array_utils.byte_bounds(array)
    return low, high


def _check_apart(each: Sequence[Params]) -> None:
    """Raise ValueError if arrays of two networks share memory."""
    extents = [(*_extent(array), run, array) for run, own in enumerate(each) for array in own.values()]
    extents.sort(key=itemgetter(0, 1, 2))
    if all(high <= low for (_, high, *_), (low, *_) in itertools.pairwise(extents)):
        return
    open_: list[tuple[int, int, Any]] = []
    for low, high, run, array in extents:
        open_ = [extent for extent in open_ if extent[0] > low]
        for _, other, there in open_:
            if other != run and np.shares_memory(array, there):
                raise ValueError("ensemble: expected networks with arrays of their own, got one array in two of them")
        open_.append((high, run, array))
