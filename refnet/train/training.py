"""Training: one network, or many at once."""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refnet import _check
from refnet._steps import moved
from refnet.arithmetic.runs import Runs
from refnet.generator import Generator
from refnet.nn.module import Array, Module, Params
from refnet.nn.utils import Clipping
from refnet.optim.lr_scheduler_base import LRScheduler
from refnet.train import sampler
from refnet.train.loop import run_updates
from refnet.train.schedule import ByFunction, ByScheduler, Schedule, check_scheduler
from refnet.train.stack_modules import StackedModules
from refnet.train.step import Update, is_mean


@dataclass(frozen=True, eq=False)
class History:
    """What a training went through.

    Attributes:
        loss: (updates,); `loss[k]` is the loss of the batch of update k + 1 before that update: the one it descends.
        updates_per_epoch: how many updates see the data once; update k + 1 belongs to epoch `k // updates_per_epoch`.
        recorded: (r,); after how many updates the weights were recorded, ascending.
        weights: `weights[name][j]` is the parameter after `recorded[j]` updates; (r, *shape), under the names and in
            the order of `net.params`; empty if nothing was recorded.
        why_plain: empty if updates were captured; otherwise why none could be.
        why_not_native: empty if captured updates ran as machine code; otherwise why they did not.
    """

    loss: NDArray[Any]
    updates_per_epoch: int
    recorded: NDArray[np.int64]
    weights: dict[str, NDArray[Any]]
    why_plain: str
    why_not_native: str


def fit(
    net: Module,
    loss: Module,
    opt: Any,
    inputs: Array,
    targets: Array,
    *,
    batch_size: int | None = 32,
    shuffle: bool = True,
    replacement: bool = False,
    drop_last: bool = False,
    iterations: int = 10_000,
    generator: Generator | None = None,
    lr_lambda: Callable[[int], float] | None = None,
    scheduler: LRScheduler | None = None,
    clip_norm: float | None = None,
    norm_type: float = 2.0,
    clip_value: float | None = None,
    accumulate: int = 1,
    frozen: Collection[str] = (),
    callback: Callable[[int, Any], object] | None = None,
    record: bool | Iterable[int] = False,
    capture: bool = True,
) -> History:
    """Train `net` for `iterations` updates: forward, loss, backward from an upstream gradient of 1, step.

    The data come in the order of torch's DataLoader with these arguments, one epoch after the other. A further call
    begins a new epoch; after whole epochs, with the same generator, it goes on as if there had been one call. Modules
    stay in the mode that they are in, and parameters of `net` that `opt` does not hold stay as they are.

    An interrupt (Ctrl-C) waits for the update under way, so that it leaves the parameters at the end of a whole update;
    a second one does not wait.

    Args:
        net: the network; `opt` holds its arrays.
        loss: a loss whose output is one number.
        opt: an optimizer on `net.params`, or on some of them.
        inputs, targets: (n, ...) and (n, ...), one row a sample. An array whose elements do not lie in C order is
            copied, once.
        batch_size: samples an update; None is the whole set in its own order (batch gradient descent), 1 is stochastic
            gradient descent.
        shuffle: whether each epoch goes through the samples in a new random order (no effect with None).
        replacement: with `shuffle`, whether every sample is drawn from the whole set, as by torch's
            RandomSampler(replacement=True); an epoch is n draws then.
        drop_last: whether an epoch ends before a last batch that is not full (no effect with None). A short batch that
            is kept weighs as much as a full one, so each of its samples weighs more.
        iterations: the number of updates.
        generator: the source of the order; None is the default generator.
        lr_lambda: as torch's LambdaLR with a step an update: update k = 0, 1, ... has in every group the learning rate
            `lr * lr_lambda(k)`, which may be negative, as torch's. Afterwards `opt` has its own `lr` again. It is
            called when the update is due; one that declares itself by `lr_lambda.capturable = True`, and depends on k
            alone, may be called some updates ahead.
        scheduler: one of `refnet.optim.lr_scheduler` on `opt`, which takes a step after every update; what it calls an
            epoch is an update here. Rates and momentum stay as it leaves them, so that a further call goes on from
            there. Instead of `lr_lambda`. Updates are captured unless it changes the momentum. A function that it
            calls may be called ahead if it declares itself as for `lr_lambda`. A scheduler that steps once an epoch,
            or needs a metric, is stepped in `callback`, where k is a multiple of `History.updates_per_epoch`.
        clip_norm: before each step the gradients of what `opt` moves are scaled to at most about this norm, as by
            `refnet.nn.utils.clip_grad_norm_`; None leaves them.
        norm_type: of which norm that is, as there.
        clip_value: before each step they are brought into the interval from -clip_value to clip_value, as by
            `refnet.nn.utils.clip_grad_value_`; None leaves them. Instead of `clip_norm`.
        accumulate: in how many micro-batches a batch is seen, one after the other: those of torch.chunk, of which the
            last may be smaller. Their gradients are added up, each weighted by its share of the samples where the loss
            is a mean, so that the update is that of the whole batch, but for rounding (and for what couples samples,
            such as the statistics of batch normalization).
        frozen: names of parameters of `opt` that have no gradient, and stay as they are with their state, as with
            torch's `requires_grad_(False)`.
        callback: called as `callback(k, loss)` after update k = 1, 2, ... with the loss that it descended; what it
            returns is not used.
        record: which weights `History.weights` holds: True all, from update 0 (the start) to the last; or the numbers
            of updates after which to record, such as `range(0, iterations + 1, 100)`.
        capture: whether an update may be recorded and replayed (`refnet.train.capture`, docs/captured_step.md). The
            bits are those of plain updates. Modules, losses and optimizers are captured if they are exactly of refnet's
            classes, or of one that declares itself by `capturable = True` (`refnet.train.capture.contract` says what
            that promises); all else runs plainly, and `History.why_plain` says so. A replay ignores overflow where a
            module does so anywhere, as Sigmoid does; machine code never warns of it.

    Raises:
        ValueError: there are no samples, or not as many inputs as targets; `drop_last` leaves no batch; `replacement`
            without `shuffle`; `iterations` is no integer or negative; `record` has a number outside 0 to `iterations`;
            a parameter, buffer, input or target is NaN or infinite; `opt` holds arrays that are not `net`'s; the loss
            is not one number; `scheduler` has another optimizer, needs a metric, or comes with `lr_lambda`;
            `clip_norm` or `clip_value` is negative or NaN, or both are given; `norm_type` is not above 0;
            `accumulate` is below 1, or the loss is a mean over something else than its samples; `frozen` has a name
            that `opt` lacks.
        TypeError: inputs or targets are not of the dtype that layers and loss expect; `net`, `loss` or `opt` is none of
            refnet's kind; `batch_size` or a number in `record` is no integer; a switch is no bool; `frozen` holds
            something else than names; `lr_lambda` or `callback` is no function; `scheduler` is none.
    """
    inputs, targets = _side_by_side("fit", "inputs", inputs), _side_by_side("fit", "targets", targets)
    _check_data("fit", inputs, targets, iterations)
    _check_order("fit", batch_size, shuffle=shuffle, replacement=replacement, drop_last=drop_last, capture=capture)
    _check_kinds("fit", net, loss, opt)
    _check_network("fit", net, opt)
    rows = _rows("fit", record, iterations)
    _check_callable("fit", lr_lambda=lr_lambda, callback=callback)
    clipping = Clipping(clip_norm, norm_type, clip_value)
    clipping.check("fit")
    _check_parts("fit", accumulate, loss, targets)
    frozen = _frozen("fit", frozen, opt)
    if scheduler is not None:
        check_scheduler("fit", scheduler, opt, lr_lambda)
    order = sampler.Order(len(inputs), batch_size, shuffle, replacement, drop_last)
    batches = order.batches(generator)
    losses, weights = _room(net.params, iterations, len(rows))
    update = Update(net, loss, opt, inputs, targets, clipping, accumulate, frozen)
    schedule = Schedule() if lr_lambda is None else ByFunction(opt, lr_lambda)
    if scheduler is not None:
        schedule = ByScheduler(opt, [scheduler], runs=False)
    try:
        reasons = run_updates(update, order, batches, losses, rows, weights, schedule, callback, capture)
    finally:
        moved(net.params.values())
    order.finish(generator, iterations)
    return History(losses, order.updates_per_epoch, np.array(list(rows), np.int64), weights, *reasons)


def ensemble(
    nets: Sequence[Module],
    loss: Module,
    opts: Sequence[Any],
    inputs: Array,
    targets: Array,
    *,
    batch_size: int | None = 32,
    shuffle: bool = True,
    replacement: bool = False,
    drop_last: bool = False,
    iterations: int = 10_000,
    generators: Sequence[Generator] | None = None,
    lr_lambda: Callable[[int], float] | None = None,
    schedulers: Sequence[LRScheduler] | None = None,
    clip_norm: float | None = None,
    norm_type: float = 2.0,
    clip_value: float | None = None,
    accumulate: int = 1,
    frozen: Collection[str] = (),
    record: bool | Iterable[int] = False,
    capture: bool = True,
) -> list[History]:
    """Train many networks of one make at once, on the same samples, each from its own weights, at its own learning
    rate and in its own order.

    Run r ends with the bits that `fit(nets[r], loss, opts[r], ..., generator=generators[r])` gives, weights, buffers,
    optimizer's state, generator and history alike: the definitions run on `refnet.arithmetic.runs.Runs`, where each
    run is computed as it is alone. An update of R small networks costs little more than one of a single network.

    Args:
        nets: R networks, alike but for the values of their parameters and buffers. No array belongs to two of them.
        loss: one for all.
        opts: R optimizers, alike but for `lr` and the values of their state; `opts[r]` holds arrays of `nets[r]`.
        inputs, targets: the samples, the same for all runs.
        generators: R sources of an order, all different; None with `batch_size=None` alone, where nothing is drawn.
        schedulers: R schedulers, `schedulers[r]` on `opts[r]`, as `scheduler` in `fit`; none that changes the momentum.
        batch_size, shuffle, replacement, drop_last, iterations, lr_lambda, clip_norm, norm_type, clip_value,
            accumulate, frozen, record, capture: as in `fit`; each run has its own norm.

    Returns:
        For each run its history. Arrays of different runs share memory.

    Raises:
        ValueError: as `fit`; or there is no network, or not as many optimizers or generators; networks or optimizers
            differ in more than values; two share an array or a generator.
        TypeError: as `fit`; or a module draws random numbers (Dropout in training mode).
    """
    inputs, targets = _side_by_side("ensemble", "inputs", inputs), _side_by_side("ensemble", "targets", targets)
    _check_data("ensemble", inputs, targets, iterations)
    _check_order("ensemble", batch_size, shuffle=shuffle, replacement=replacement, drop_last=drop_last, capture=capture)
    nets, opts = _check.listed("ensemble", "nets", nets), _check.listed("ensemble", "opts", opts)
    for net, opt in zip(nets, opts, strict=False):
        _check_kinds("ensemble", net, loss, opt)
    rows = _rows("ensemble", record, iterations)
    _check_callable("ensemble", lr_lambda=lr_lambda)
    order = sampler.Order(len(inputs), batch_size, shuffle, replacement, drop_last)
    clipping = Clipping(clip_norm, norm_type, clip_value)
    clipping.check("ensemble")
    _check_parts("ensemble", accumulate, loss, targets)
    generators = generators and _check.listed("ensemble", "generators", generators)
    frozen = _frozen("ensemble", frozen, *opts)
    if schedulers is not None:
        schedulers = _check.listed("ensemble", "schedulers", schedulers)
        _check_schedulers(schedulers, opts, lr_lambda)
    many = StackedModules(nets, opts)
    sources = _sources(generators, len(nets), drawn=order.drawn)
    if order.drawn:
        batches: sampler.Batches = _RunsBatches(list(map(order.batches, sources)), alike=not shuffle)
    else:
        batches = order.batches(sources[0])
    losses, weights = _room(many.net.params, iterations, len(rows))
    update = Update(many.net, loss, many.opt, inputs, targets, clipping, accumulate, frozen)
    schedule = Schedule() if lr_lambda is None else ByFunction(many.opt, lr_lambda)
    if schedulers is not None:
        schedule = ByScheduler(many.opt, schedulers, runs=True)
    try:
        reasons = run_updates(update, order, batches, losses, rows, weights, schedule, None, capture)
    finally:
        many.unstack()
        moved(P for net in nets for P in net.params.values())
    for generator in generators or ():
        order.finish(generator, iterations)
    recorded = np.array(list(rows), np.int64)
    return [
        History(
            losses[:, run],
            order.updates_per_epoch,
            recorded,
            {name: there[:, run] for name, there in weights.items()},
            *reasons,
        )
        for run in range(len(nets))
    ]


def _check_data(operation: str, inputs: Array, targets: Array, iterations: int) -> None:
    for what, array in (("inputs", inputs), ("targets", targets)):
        if array.ndim == 0 or len(array) == 0:
            raise ValueError(
                f"{operation}: expected {what} of at least one sample along the first axis, got shape {array.shape}"
            )
        _check_finite(operation, what, array)
    if len(inputs) != len(targets):
        raise ValueError(f"{operation}: expected as many inputs as targets, got {len(inputs)} and {len(targets)}")
    if isinstance(iterations, bool) or not hasattr(iterations, "__index__") or iterations < 0:
        raise ValueError(f"{operation}: expected iterations to be an integer of at least 0, got {iterations!r}")


def _check_order(operation: str, batch_size: int | None, **flags: Any) -> None:
    if batch_size is not None:
        _check.size(operation, "batch_size", batch_size, least=1)
    for name, value in flags.items():
        _check.flag(operation, name, value)


def _check_kinds(operation: str, net: Any, loss: Any, opt: Any) -> None:
    for name, given, members, what in (
        ("net", net, ("params", "state_dict"), "a module of refnet.nn"),
        ("loss", loss, ("forward", "backward"), "a loss of refnet.nn"),
        ("opt", opt, ("param_groups", "step"), "an optimizer of refnet.optim"),
    ):
        if isinstance(given, type):
            raise TypeError(f"{operation}: expected {name} to be {what}, got the class {given.__name__} itself")
        named = all(isinstance(group["params"], Mapping) for group in getattr(given, "param_groups", ()))
        if not named or not all(hasattr(given, member) for member in members):
            own = type(given)
            got = own.__name__ if own.__module__ == "builtins" else f"{own.__module__}.{own.__qualname__}"
            raise TypeError(f"{operation}: expected {name} to be {what}, got {got}")


def _check_network(operation: str, net: Module, opt: Any) -> None:
    for name, array in net.state_dict().items():
        _check_finite(operation, name, array)
    for group in opt.param_groups:
        for name, P in group["params"].items():
            if net.params.get(name) is not P:
                raise ValueError(
                    f"{operation}: expected an optimizer on net.params, "
                    f"got one that holds an array {name} which is not net's"
                )


def _check_parts(operation: str, accumulate: int, loss: Module, targets: Array) -> None:
    """Micro-batches whose weighted losses add up to that of the batch."""
    _check.size(operation, "accumulate", accumulate, least=1)
    if accumulate == 1 or not is_mean(loss):
        return
    if "weight" in loss.buffers and hasattr(loss, "ignore_index"):
        raise ValueError(
            f"{operation}: expected with accumulate a loss that is a mean over its samples, got {type(loss).__name__} "
            'with weights, whose mean is over the weights of their classes; reduction="sum" can be accumulated'
        )
    if hasattr(loss, "ignore_index") and (np.asarray(targets) == loss.ignore_index).any():
        raise ValueError(
            f"{operation}: expected with accumulate no target that is ignored, got {loss.ignore_index} among them: a "
            'mean is over those that are kept; reduction="sum" can be accumulated'
        )


def _frozen(operation: str, frozen: Collection[str], *opts: Any) -> frozenset[str]:
    """The names, each one of a parameter that the optimizers hold."""
    names = [frozen] if isinstance(frozen, str) else _check.listed(operation, "frozen", frozen)
    if isinstance(frozen, str) or not all(isinstance(name, str) for name in names):
        raise TypeError(f"{operation}: expected frozen as names in a list, got {frozen!r}")
    for opt in opts:
        held = {name for group in opt.param_groups for name in group["params"]}
        if unknown := sorted(set(names) - held):
            raise ValueError(f"{operation}: expected frozen to name parameters of opt, got {', '.join(unknown)}")
    return frozenset(names)


def _check_schedulers(schedulers: Sequence[LRScheduler], opts: Sequence[Any], lr_lambda: Any) -> None:
    if len(schedulers) != len(opts):
        raise ValueError(f"ensemble: expected a scheduler for each of {len(opts)} optimizers, got {len(schedulers)}")
    for scheduler, opt in zip(schedulers, opts, strict=True):
        check_scheduler("ensemble", scheduler, opt, lr_lambda)
        if any(vars(part).get("cycle_momentum") for part in scheduler.parts()):
            raise ValueError(
                f"ensemble: expected schedulers that leave the momentum, got {type(scheduler).__name__} with "
                "cycle_momentum"
            )


def _check_finite(operation: str, what: str, array: Array) -> None:
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError(f"{operation}: expected finite values in {what}, got NaN or infinity")


def _side_by_side(operation: str, what: str, samples: Array) -> NDArray[Any]:
    """An array of numbers whose elements lie one beside the other: what the samples are multiplied in must not depend
    on whether an update is captured."""
    try:
        array = np.asarray(samples)
    except ValueError as error:  # rows of different lengths
        raise ValueError(f"{operation}: expected {what} that make one array, got others: {error}") from None
    if array.dtype.kind in "OSUMm":
        raise TypeError(f"{operation}: expected {what} of numbers, got dtype {array.dtype}")
    return array if array.flags.c_contiguous else array.copy()


def _rows(operation: str, record: bool | Iterable[int], iterations: int) -> dict[int, int]:
    """For each number of updates after which the weights are recorded, its row in `History.weights`."""
    if isinstance(record, bool):
        record = range(iterations + 1) if record else ()
    if not isinstance(record, Iterable):
        raise TypeError(f"{operation}: expected record as a bool or as numbers of updates, got {record!r}")
    updates = set()
    for update in record:
        if not hasattr(update, "__index__"):
            raise TypeError(f"{operation}: expected record of integers, got {update!r} in it")
        updates.add(operator.index(update))
    if updates and not 0 <= min(updates) <= max(updates) <= iterations:
        raise ValueError(f"{operation}: expected record within 0 to {iterations}, got {min(updates)} to {max(updates)}")
    return {update: row for row, update in enumerate(sorted(updates))}


def _check_callable(operation: str, **functions: Any) -> None:
    for name, function in functions.items():
        if function is not None and not callable(function):
            raise TypeError(f"{operation}: expected {name} to be a function or None, got {function!r}")


def _room(params: Params, iterations: int, rows: int) -> tuple[NDArray[Any], dict[str, NDArray[Any]]]:
    """Arrays for a history: of losses (updates,) and of weights (rows, *shape), with an axis for the runs behind the
    first.
    """
    first = next(iter(params.values()))
    runs = first.a.shape[:1] if isinstance(first, Runs) else ()
    weights = {name: np.empty((rows, *runs, *P.shape), P.dtype) for name, P in params.items()} if rows else {}
    return np.empty((iterations, *runs), first.dtype), weights


def _sources(generators: Sequence[Generator] | None, runs: int, *, drawn: bool) -> list[Generator | None]:
    """The source of each run's order."""
    if generators is None:
        if drawn:
            raise ValueError("ensemble: expected a generator for each run, got None and an order that is drawn")
        return [None] * runs
    if len(generators) != runs or len({id(generator) for generator in generators}) != runs:
        raise ValueError(f"ensemble: expected {runs} different generators, one a network, got {len(generators)}")
    return list(generators)


class _RunsBatches(sampler.Batches):
    """The runs' batches: indices (R, b), or what all see if their orders are alike."""

    def __init__(self, of_runs: Sequence[sampler.Batches], *, alike: bool) -> None:
        self._of_runs, self._alike = of_runs, alike

    def __next__(self) -> sampler.Batch:
        batches = list(map(next, self._of_runs))
        return batches[0] if self._alike else np.array(batches)

    def take(self, updates: int) -> NDArray[np.int64] | None:
        taken = [batches.take(updates) for batches in self._of_runs]
        return taken[0] if self._alike else np.stack([indices for indices in taken if indices is not None], axis=1)
