"""refnet on floating-point arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from parity.engines.base import Engine
from parity.records import definition
from parity.records.record import VJP, Answer, Optimize, Train


class RefnetEngine(Engine):
    """The engine of this project; with patches, a variant of it."""

    name = "refnet"

    def __init__(self, patches: Mapping[str, definition.Patch] = definition.NO_PATCHES) -> None:
        self.patches = patches

    def vjp(self, record: VJP) -> Answer:
        # NaN and infinity are judged where they come out; on the way they need no warning.
        with np.errstate(all="ignore"):
            # Upstream gradients keep their memory layout; what a layer may write (its arrays) is copied.
            tensors = definition.vjp(record, lambda a: a, self.patches)
        return {name: np.asarray(t) for name, t in tensors.items()}

    def optimize(self, record: Optimize) -> Answer:
        return collect(definition.optimize(record, np.copy, self.patches))

    def train(self, record: Train) -> Answer:
        losses = np.empty(record.iterations, record.dtype)
        series: dict[str, Any] = {}
        with np.errstate(all="ignore"):
            for k, loss, params, state in definition.train(record, np.copy, self.patches):
                for name, p in params.items():
                    series.setdefault(f"param.{name}", np.empty((record.iterations + 1, *p.shape), p.dtype))[k] = p
                if k:
                    for name, s in state.items():
                        series.setdefault(f"state.{name}", np.empty((record.iterations, *s.shape), s.dtype))[k - 1] = s
                if loss is not None:
                    losses[k] = loss
        return {"loss": losses, **series}


def collect(tensors: Mapping[str, Any]) -> Answer:
    """The answer to an Optimize record from the series that `definition.optimize` gives."""
    answer = {}
    for name, series in tensors.items():
        if name.startswith("param."):
            values = np.stack(series).astype(np.float64)
            answer[name.replace("param.", "update.")] = values[1:] - values[:-1]
        else:
            missing = np.full_like(next(s for s in series if s is not None), np.nan)
            answer[name] = np.stack([missing if s is None else s for s in series])
    return answer
