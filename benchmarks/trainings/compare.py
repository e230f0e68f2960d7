"""Trainings done in every way, and the bits that they leave."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

import refnet
from benchmarks.trainings.draw import Start, Training, training
from refnet.train.capture import captured, comparison
from refnet.train.capture.native import innermost

WAYS = {"replayed": -1.0, "machine code": float("inf")}
"""For each way of doing captured updates what a translation may cost, as a share of what it saves."""

TRIALS = 2
"""Trials before a captured update is relied on, one at each of their two rates. There are fewer than in a user's
training, so that most faults that those would find show here in the training's own bits."""

RUNS = 3
"""Trainings in an ensemble."""


class Outcome(NamedTuple):
    """What came of one training.

    Attributes:
        seed: which it is.
        features: what it has.
        differs: in which ways it left other bits than the plain training.
        captured: in which ways some updates were captured.
        why_plain: why none were, by way.
    """

    seed: int
    features: tuple[str, ...]
    differs: tuple[str, ...]
    captured: tuple[str, ...]
    why_plain: tuple[str, ...]


@contextmanager
def _capturing(share: float, least: int = innermost.LEAST) -> Iterator[None]:
    """As if every training were long enough for a record, machine code worth its translation by this share, and `least`
    trainings many enough to lie innermost."""
    kept = captured.SHORT, captured.PAID_BACK, comparison.TRIALS, innermost.LEAST
    captured.SHORT, captured.PAID_BACK, comparison.TRIALS, innermost.LEAST = 0, share, TRIALS, least
    try:
        yield
    finally:
        captured.SHORT, captured.PAID_BACK, comparison.TRIALS, innermost.LEAST = kept


def outcome(seed: int) -> Outcome:
    """Do the training of a seed in every way."""
    drawn = training(seed)
    expected, _ = _left(drawn.begin(0), capture=False)
    differs, done, reasons = [], [], []
    for way, share in WAYS.items():
        with _capturing(share):
            left, history = _left(drawn.begin(0))
        if left != expected:
            differs.append(way)
        if history is not None:
            reason = history.why_plain or (history.why_not_native if way == "machine code" else "")
            if "other bits" in reason:
                # (what is done plainly because a trial failed has the right bits, and yet something is wrong)
                differs.append(f"{way}: {reason}")
            done += [way] * (not reason)
            reasons += [f"{way}: {reason}"] * bool(reason)
    if not drawn.alone and not expected["error"]:
        # (every second one as many trainings lie)
        with _capturing(WAYS["machine code"], RUNS if seed % 2 else innermost.LEAST):
            differs += _in_ensemble(drawn)
        done.append("ensemble")
    return Outcome(seed, drawn.features, tuple(differs), tuple(done), tuple(reasons))


def _left(start: Start, **how: Any) -> tuple[dict[str, Any], refnet.History | None]:
    """What a training leaves, or the error that it ends in; and its history, if it has one."""
    history, error = None, ""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("error")
        try:
            options = {**start.options, "generator": start.generators[0], **how}
            history = refnet.fit(start.net, start.loss, start.opt, start.inputs, start.targets, **options)
        except (KeyboardInterrupt, Exception) as raised:
            error = f"{type(raised).__name__}: {raised}"
    return _bits(start, history) | {"error": error}, history


def _bits(start: Start, history: refnet.History | None) -> dict[str, Any]:
    left: dict[str, Any] = {f"net {name}": _bytes(array) for name, array in start.net.state_dict().items()}
    for name, kept in start.opt.state.items():
        left |= {f"state {name} {key}": _bytes(array) for key, array in kept.items()}
    left |= {f"generator {k}": generator.get_state().tobytes() for k, generator in enumerate(start.generators)}
    left["inputs"] = _bytes(start.inputs)
    left["calls"] = [getattr(module, "calls", 0) for module in start.net.modules()]
    left["rates"] = [repr(group["lr"]) for group in start.opt.param_groups]
    if history is not None:
        left |= {f"recorded {name}": _bytes(there) for name, there in history.weights.items()}
        left["losses"] = _bytes(history.loss)
    return left


def _bytes(array: Any) -> bytes:
    """Every NaN the same: which sign it has is up to the loop that made it."""
    array = np.asarray(array)
    if array.dtype.kind == "f":
        array = np.where(np.isnan(array), array.dtype.type(np.nan), array)
    content: bytes = array.tobytes()
    return content


def _in_ensemble(drawn: Training) -> list[str]:
    """Three runs at once, and each alone."""
    many = [drawn.begin(run) for run in range(RUNS)]
    options = dict(many[0].options)
    if "scheduler" in options:
        del options["scheduler"]
        options["schedulers"] = [start.options["scheduler"] for start in many]
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("error")
        histories = refnet.ensemble(
            [start.net for start in many],
            many[0].loss,
            [start.opt for start in many],
            many[0].inputs,
            many[0].targets,
            generators=[start.generators[0] for start in many],
            **options,
        )
    wrong = [f"ensemble: {why}" for why in (histories[0].why_plain, histories[0].why_not_native) if "other bits" in why]
    for run, (start, history) in enumerate(zip(many, histories, strict=True)):
        expected, _ = _left(drawn.begin(run), capture=False)
        # (one network's layers are called for all)
        if _bits(start, history) | {"error": "", "calls": expected["calls"]} != expected:
            wrong.append(f"ensemble, run {run}")
    return wrong
