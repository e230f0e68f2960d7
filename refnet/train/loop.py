"""The loop of a training."""

from __future__ import annotations

import signal
import threading
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from numpy.typing import NDArray

from refnet.arithmetic.runs import plain
from refnet.train.capture.captured import Captured
from refnet.train.sampler import Batches, Order
from refnet.train.schedule import Schedule
from refnet.train.step import Update


def run_updates(
    update: Update,
    order: Order,
    batches: Batches,
    losses: NDArray[Any],
    rows: dict[int, int],
    weights: dict[str, NDArray[Any]],
    schedule: Schedule,
    callback: Callable[[int, Any], object] | None,
    capture: bool,
) -> tuple[str, str]:
    """Do `len(losses)` updates on `batches`, which come in `order`. Fill in the losses and, after the updates in
    `rows`, their rows of the weights.

    An interrupt waits for the update under way, or for those that are done in one call. Returns why no update was
    captured, and why none ran as machine code; empty if some did.
    """
    net, total = update.net, len(losses)
    uncaptured = schedule.uncapturable if capture else "capture=False"
    interrupts: list[Any] = []
    step = Captured(update, order.sizes(0 if uncaptured else total), lambda: bool(interrupts))
    stops = [*(update for update in rows if update), total]

    def keep(done: int) -> None:
        if (row := rows.get(done)) is not None:
            for name, P in net.params.items():
                weights[name][row] = plain(P)

    def ask(change: Callable[..., None], *which: int) -> None:
        """Let the schedule change the rates. One that may do anything is asked when its update is due, and finds
        everything as it is."""
        if not schedule.ahead:
            step.settle()
        change(*which)
        if schedule.ahead:
            step.read_rates()
        else:
            step.resume()

    keep(0)
    done = 0
    try:
        with _whole_updates(interrupts) as deliver:
            while done < total:
                several, failed = 1, None
                if step.captured and callback is None and schedule.ahead:
                    size = order.size(done)
                    most = stops[bisect_right(stops, done)] - done
                    several = step.at_once(size, min(most, order.alike(done) or most))
                if several > 1:
                    # (one rate after the other, so that an error finds the updates before it done)
                    rates, failed = schedule.rates(done, several)
                    several = several if rates is None else len(rates)
                    if several:
                        step.many(size, batches.take(several), losses[done : done + several], rates)
                else:
                    if schedule.before is not None:
                        ask(schedule.before, done)
                    value = step(next(batches))
                    losses[done] = plain(value)
                    if schedule.after is not None:
                        ask(schedule.after)
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
        schedule.finish()
    return (uncaptured, uncaptured) if uncaptured else (step.why_plain, step.why_not_native)


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
