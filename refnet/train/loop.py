"""The loop of a training."""

from __future__ import annotations

import signal
import threading
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from numpy.typing import NDArray

from refnet.arithmetic.runs import plain
from refnet.train.capture.captured import Captured
from refnet.train.capture.contract import is_capturable
from refnet.train.sampler import Batches, Order
from refnet.train.step import Update


def run_updates(
    update: Update,
    order: Order,
    batches: Batches,
    losses: NDArray[Any],
    rows: dict[int, int],
    weights: dict[str, NDArray[Any]],
    lr_lambda: Callable[[int], float] | None,
    callback: Callable[[int, Any], object] | None,
    capture: bool,
) -> tuple[str, str]:
    """Do `len(losses)` updates on `batches`, which come in `order`. Fill in the losses and, after the updates in
    `rows`, their rows of the weights.

    An interrupt waits for the update under way, or for those that are done in one call. Returns why no update was
    captured, and why none ran as machine code; empty if some did.
    """
    net, opt, total = update.net, update.opt, len(losses)
    # A schedule that may do anything is asked when its update is due.
    known = lr_lambda is None or is_capturable(lr_lambda)
    interrupts: list[Any] = []
    step = Captured(update, order.sizes(total if capture else 0), lambda: bool(interrupts))
    own_rates = [group["lr"] for group in opt.param_groups]
    stops = [*(update for update in rows if update), total]

    def keep(done: int) -> None:
        if (row := rows.get(done)) is not None:
            for name, P in net.params.items():
                weights[name][row] = plain(P)

    def set_rates(rates: Sequence[Any]) -> None:
        for group, rate in zip(opt.param_groups, rates, strict=True):
            # Past the check of the group: a schedule may go below 0, as torch's may.
            dict.update(group, lr=rate)

    keep(0)
    done = 0
    try:
        with _whole_updates(interrupts) as deliver:
            while done < total:
                size = order.size(done)
                most = stops[bisect_right(stops, done)] - done
                most = min(most, order.alike(done) or most)
                several = step.at_once(size, most) if callback is None and known else 1
                if not known:
                    step.settle()
                # (one factor after the other, so that an error finds the updates before it done)
                factors, failed = _until_failure(lr_lambda, done, several)
                if not known:
                    step.resume()
                several = several if factors is None else len(factors)
                if several > 1:
                    step.many(size, batches.take(several), losses[done : done + several], own_rates, factors)
                elif several == 1:
                    if factors is not None:
                        set_rates([rate * factors[0] for rate in own_rates])
                        step.read_rates()
                    value = step(next(batches))
                    losses[done] = plain(value)
                if failed is not None:
                    raise failed
                done += several
                if done in rows or callback is not None:
                    step.settle()
                    keep(done)
                    if callback is not None:
                        callback(done, value)
                        step.resume()
                    else:
                        step.proceed()
                if interrupts:
                    step.settle()
                    deliver()
                    step.resume(again=False)
    finally:
        step.settle()
        if lr_lambda is not None:
            set_rates(own_rates)
    return (step.why_plain, step.why_not_native) if capture else ("capture=False", "capture=False")


def _until_failure(
    lr_lambda: Callable[[int], float] | None, first: int, updates: int
) -> tuple[list[float] | None, Exception | None]:
    """The factors of the rates of the next updates, and, where the schedule fails, those before that and the error."""
    if lr_lambda is None:
        return None, None
    factors: list[float] = []
    try:
        for k in range(first, first + updates):
            factors.append(lr_lambda(k))
    except Exception as error:
        return factors, error
    return factors, None


@contextmanager
def _whole_updates(interrupts: list[Any]) -> Iterator[Callable[[], None]]:
    """Hold interrupts back: those that come go to the list, and `deliver` hands one on.

    Python delivers them to the main thread alone, and only if it handles them at all; elsewhere none is held back.
    """
    previous = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(previous):
        yield lambda: None
        return

    def hold(*interrupt: Any) -> None:
        interrupts.append(interrupt)
        if len(interrupts) > 1:
            deliver()

    def deliver() -> None:
        last = interrupts[-1]
        interrupts.clear()
        previous(*last)

    signal.signal(signal.SIGINT, hold)
    try:
        yield deliver
    finally:
        signal.signal(signal.SIGINT, previous)
        if interrupts:
            deliver()
