"""refnet on floating-point arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import groupby
from typing import Any

import numpy as np

import refnet
from parity.engines.base import Engine
from parity.records import definition
from parity.records.record import VJP, Answer, Array, Optimize, Train, Unsupported
from refnet.train import sampler
from refnet.train.schedule import set_rates
from refnet.train.step import Update

PLAIN = 2000
"""How many updates of a training are also done plainly: the later ones cost the most and show the least. An ensemble
answers for them."""


class RefnetEngine(Engine):
    """The engine of this project; with patches, a variant of it.

    It trains as its users do: by `refnet.fit`. Plain updates and an ensemble have to give the same bits as captured
    ones.
    """

    name = "refnet"

    def __init__(self, patches: Mapping[str, definition.Patch] = definition.NO_PATCHES) -> None:
        self.patches = patches

    def vjp(self, record: VJP) -> Answer:
        _require(record)
        # NaN and infinity are judged where they come out; on the way they need no warning.
        with np.errstate(all="ignore"):
            # Upstream gradients keep their memory layout; what a layer may write (its arrays) is copied.
            tensors = definition.vjp(record, lambda a: a, self.patches)
        return {name: np.asarray(t) for name, t in tensors.items()}

    def optimize(self, record: Optimize) -> Answer:
        _require(record)
        with np.errstate(all="ignore"):
            return collect(definition.optimize(record, np.copy, self.patches))

    def train(self, record: Train) -> Answer:
        with np.errstate(all="ignore"):
            if self.patches or not definition.draw_masks(_beginning(record).net, record):
                return recorded(definition.train(record, np.copy, self.patches))
            captured = _fitted(record, capture=True)
            _check_alike("plain updates", captured, _fitted(record.first(PLAIN), capture=False), from_start=True)
            _check_alike("an ensemble", captured, _in_an_ensemble(record))
        return captured


def _require(record: VJP | Optimize) -> None:
    if record.dtype not in ("float64", "float32"):
        raise Unsupported(f"refnet computes in float64 and float32, not in {record.dtype}")


def collect(tensors: Mapping[str, Any]) -> Answer:
    """The answer to an Optimize record from the series that `definition.optimize` gives."""
    answer = {}
    for name, series in tensors.items():
        values = np.stack(series)
        if name.startswith("param."):
            values = values.astype(np.float64)
            name, values = name.replace("param.", "update."), values[1:] - values[:-1]
        answer[name] = values
    return answer


def recorded(moments: Iterable[definition.Moment]) -> Answer:
    """The answer to a Train record from the moments that `definition.train` gives."""
    series: dict[str, list[Array]] = {"loss": []}
    for done, loss, params, state, buffers in moments:
        kept = {f"param.{name}": p for name, p in params.items()}
        if done:
            kept |= {"loss": loss, **{f"state.{n}": s for n, s in state.items()}}
            kept |= {f"buffer.{name}": b for name, b in buffers.items()}
        for name, array in kept.items():
            series.setdefault(name, []).append(np.array(array))
    return {name: np.stack(arrays) for name, arrays in series.items()}


def _fitted(record: Train, capture: bool) -> Answer:
    """A training by `refnet.fit`."""
    update = _beginning(record)
    net, opt = update.net, update.opt
    losses: list[Array] = []
    weights: dict[str, list[Array]] = {}
    series: dict[str, list[Array]] = {}

    def keep(*_: Any) -> None:
        for name, array in _state_and_buffers(update).items():
            series.setdefault(name, []).append(array.copy())

    # Without a callback several updates are done in one call.
    callback = keep if net.buffers or _keeps_state(opt) else None
    for inputs, targets, options in _data(record):
        history = refnet.fit(
            net, update.loss, opt, inputs, targets, **options, record=True, capture=capture, callback=callback
        )
        losses.append(history.loss)
        # The last weights of one call are the first of the next.
        for name, values in history.weights.items():
            weights.setdefault(f"param.{name}", [values[:1]]).append(values[1:])
    return {
        "loss": np.concatenate(losses),
        **{name: np.concatenate(arrays) for name, arrays in weights.items()},
        **{name: np.stack(arrays) for name, arrays in series.items()},
    }


def _in_an_ensemble(record: Train) -> Answer:
    """What the second of two runs of `refnet.ensemble` ends with, which has the training's weights; the first has
    others. A network that draws random numbers cannot be in one: nothing then."""
    other, own = _beginning(record), _beginning(record)
    if any(module.training and hasattr(module, "generator") for module in own.net.modules()):
        return {}
    for p in other.net.params.values():
        p *= 0.5
    losses = []
    for inputs, targets, options in _data(record):
        seed = options.pop("generator", None)
        generators = None if seed is None else [refnet.Generator(1), seed]
        if options["batch_size"] is not None and generators is None:
            generators = [refnet.Generator(0), refnet.Generator(1)]
        _, history = refnet.ensemble(
            [other.net, own.net], own.loss, [other.opt, own.opt], inputs, targets, **options, generators=generators
        )
        losses.append(history.loss)
    return {
        "loss": np.concatenate(losses),
        **{f"param.{name}": p[None] for name, p in own.net.params.items()},
        **{name: array[None] for name, array in _state_and_buffers(own).items()},
    }


def _beginning(record: Train) -> Update:
    """Network, loss and optimizer as they are before the first update."""
    arrays = {name: a.copy() for name, a in record.arrays.items()}
    state = definition.lifted_state(record.optimizer, record.state, np.copy)
    update = definition.updating(record, arrays, state, np.copy)
    definition.draw_masks(update.net, record)
    if record.rates:
        set_rates(update.opt, [1.0] * len(update.opt.param_groups))
    return update


def _state_and_buffers(update: Update) -> dict[str, Array]:
    return {
        **{f"state.{path}": array for path, array in definition.state_of(update.opt).items()},
        **{f"buffer.{name}": array for name, array in update.net.buffers.items()},
    }


def _keeps_state(opt: Any) -> bool:
    return any(array.when is None or group[array.when] for group in opt.param_groups for array in opt.schema)


def _data(record: Train) -> Iterator[tuple[Array, Array, dict[str, Any]]]:
    """Samples and options of calls of `refnet.fit` that go through the record's batches: one call where a loader comes
    to them, otherwise one for all batches of one size in a row, whose samples are laid out as they are seen."""
    max_norm, norm_type, clip_value = definition.clipping_of(record)
    always = {
        "clip_norm": max_norm,
        "norm_type": norm_type,
        "clip_value": clip_value,
        "accumulate": record.accumulate or 1,
    }
    if record.order and not record.frozen:
        options = {name: value for name, value in record.order.items() if name != "seed"}
        n, seed = len(record.inputs), record.order["seed"]
        made = sampler.order(n, updates=record.iterations, generator=refnet.Generator(seed), **options)
        if all(np.array_equal(a, b) for a, b in zip(made, record.batches, strict=True)):
            drawn = {"generator": refnet.Generator(seed)} if options["batch_size"] is not None else {}
            how = {**always, **options, **drawn, "iterations": record.iterations, "lr_lambda": _rates(record)}
            yield record.inputs, record.targets, how
            return
    kinds = groupby(enumerate(record.batches), lambda at: (len(at[1]), record.frozen_before(at[0])))
    for (size, frozen), alike in kinds:
        numbers, batches = zip(*alike, strict=True)
        rows = np.concatenate(batches)
        options = {"batch_size": size, "shuffle": False, "iterations": len(rows) // size}
        how = {**always, **options, "frozen": frozen, "lr_lambda": _rates(record, numbers[0])}
        yield record.inputs[rows], record.targets[rows], how


def _rates(record: Train, first: int = 0) -> Callable[[int], float] | None:
    """The rates of the updates from that number on, of an optimizer whose own rate is 1."""
    return (lambda k: record.rates[first + k]) if record.rates else None


def _check_alike(way: str, captured: Answer, other: Answer, from_start: bool = False) -> None:
    """Raise unless another way has the same bits as captured updates, as far from the start, or back from the end, as
    it was recorded."""
    for name, values in other.items():
        due = captured[name][: len(values)] if from_start else captured[name][-len(values) :]
        if due.tobytes() != values.tobytes():
            raise ArithmeticError(f"refnet: expected the bits of captured updates from {way}, got others in {name}")
