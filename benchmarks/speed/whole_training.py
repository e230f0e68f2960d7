"""A whole training as a user starts it: in a process of its own, from its start to the last update.

Three times are taken of it: all of it, in a fresh process, the start of Python and the libraries' loading included;
the part after the libraries are loaded, that is building, recording, compiling and all updates; and as many updates
once more in the same process, where what was compiled is there already. Nothing is left out but the drawing of the
initial weights, which come from a file.

`python -m benchmarks.speed.whole_training` is one such process.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from benchmarks.speed import initial_state
from benchmarks.speed.contenders import CONTENDERS, Contender, library_of
from benchmarks.speed.networks import NETWORKS, STUDY, Network

TRAINED = ("refnet-captured", "torch-eager", "torch-compile", "jax-loop")
"""Who is timed: refnet as it is, torch as most use it and compiled, and JAX's compiled loop."""

AGREEMENT = {"float64": 1e-6, "float32": 1e-2}
"""How far a contender's last loss may be from refnet's, relative to it."""

LONGEST = 60
"""Seconds that a process may take."""

BUSY = 0.8
"""A process that had less of a core than this, with the compilers that it started, was kept waiting by others."""


@dataclass(frozen=True, eq=False)
class WholeTraining:
    """What was found of a contender on a network.

    Attributes:
        fresh, loaded: (rounds,), seconds of the whole process, and of what comes after the libraries are loaded.
        again: (rounds,), seconds of as many updates once more.
        cores: processor seconds in a second after the loading, the median of the rounds.
        loss: the last one.
        reason: why there are no times; or why they are not to be relied on.
    """

    contender: str
    network: Network
    updates: int
    fresh: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    loaded: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    again: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    cores: float = math.nan
    loss: float = math.nan
    reason: str = ""

    @property
    def measured(self) -> bool:
        """Whether the times may be published."""
        return bool(self.fresh.size) and not self.reason


def measure(
    networks: Iterable[Network],
    names: Sequence[str] = TRAINED,
    *,
    rounds: int = 3,
    updates: int = STUDY,
    told: Callable[[str], object] = lambda text: None,
) -> list[WholeTraining]:
    """Every contender on every network, in turn in each round."""
    found = []
    with TemporaryDirectory() as folder:
        for network in networks:
            state = Path(folder) / f"{network.name}-{network.dtype}.npz"
            initial_state.write(network, state)
            laps: dict[str, list[Lap | str]] = {name: [] for name in names}
            for k in range(rounds):
                for name, of_contender in laps.items():
                    if not any(isinstance(lap, str) for lap in of_contender):
                        told(f"{network.name}: {name}, round {k + 1} of {rounds}")
                        of_contender.append(_lap(name, network, updates, state))
            made = [_summed(name, network, updates, of_contender) for name, of_contender in laps.items()]
            found += _compared(made)
    return found


@dataclass(frozen=True)
class Lap:
    """One process: its seconds, those after the loading, those of the updates once more, processor seconds in one of
    those after the loading, and the last loss."""

    fresh: float
    loaded: float
    again: float
    cores: float
    loss: float


def _lap(name: str, network: Network, updates: int, state: Path) -> Lap | str:
    """What a process took; or why it did not train."""
    command = [sys.executable, "-m", __name__, name, network.name, network.dtype, str(updates), str(state)]
    with TemporaryDirectory(ignore_cleanup_errors=True) as caches:
        # Nothing that an earlier process compiled is used again; and what is compiled is so by this process's children.
        own = {"TORCHINDUCTOR_CACHE_DIR": os.path.join(caches, "inductor"), "TORCHINDUCTOR_COMPILE_THREADS": "1"}
        own["REFNET_CACHE"] = os.path.join(caches, "refnet")
        begun = time.time()
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, env={**os.environ, **own}, timeout=LONGEST
            )
        except subprocess.TimeoutExpired:
            return f"left out: a training and as many updates once more take more than {LONGEST} s"
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        return lines[-1] if lines else f"its process ended with {done.returncode}"
    told = json.loads(done.stdout)
    seconds = told["ended"] - told["loaded"]
    return Lap(told["ended"] - begun, seconds, told["again"], told["processor"] / seconds, told["loss"])


def _summed(name: str, network: Network, updates: int, laps: Sequence[Lap | str]) -> WholeTraining:
    if failures := [lap for lap in laps if isinstance(lap, str)]:
        return WholeTraining(name, network, updates, reason=failures[0])
    done = [lap for lap in laps if isinstance(lap, Lap)]
    cores = float(np.median([lap.cores for lap in done]))
    return WholeTraining(
        contender=name,
        network=network,
        updates=updates,
        fresh=np.array([lap.fresh for lap in done]),
        loaded=np.array([lap.loaded for lap in done]),
        again=np.array([lap.again for lap in done]),
        cores=cores,
        loss=done[-1].loss,
        reason=f"other programs kept the machine busy: {cores:.2f} of a core" if cores < BUSY else "",
    )


def _compared(found: Sequence[WholeTraining]) -> list[WholeTraining]:
    """The same, but that one who does not come to refnet's loss has no times."""
    losses = [one.loss for one in found if one.contender.startswith("refnet") and one.fresh.size]
    judged = []
    for one in found:
        apart = abs(one.loss / losses[0] - 1) if losses and one.fresh.size else 0.0
        if not apart <= AGREEMENT[one.network.dtype]:
            nothing = np.empty(0)
            one = replace(
                one, fresh=nothing, loaded=nothing, again=nothing, reason=f"not comparable: its loss is {apart:.1g} off"
            )
        judged.append(one)
    return judged


def contender_of(name: str) -> Contender:
    (found,) = (contender for contender in CONTENDERS if contender.name == name)
    return found


def _processor_seconds() -> float:
    """Those of this process and of the compilers that it has started."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def main(name: str, network: str, dtype: str, updates: str, state: str) -> None:
    """One training; says on standard output when its libraries were loaded and when it ended."""
    contender = contender_of(name)
    (subject,) = (replace(one, dtype=dtype) for one in NETWORKS if one.name == network)
    initial_state.give(subject, Path(state))
    import_module(library_of(contender))
    if contender.package == "refnet":
        # What refnet loads by itself, before its first long training.
        with suppress(ImportError):
            import_module("llvmlite.binding")
    loaded, processor = time.time(), _processor_seconds()
    training = contender.whole(subject)
    loss = training.run(int(updates))
    ended, processor = time.time(), _processor_seconds() - processor
    training.run(int(updates))
    again = time.time() - ended
    told = {"loaded": loaded, "ended": ended, "again": again, "processor": processor, "loss": float(loss)}
    print(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:])
