"""The command `python -m benchmarks profile`: what an update as machine code does, and what each of its calls takes."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any, NamedTuple
from unittest import mock

import click
import numpy as np
from numpy.typing import NDArray

from benchmarks.speed.contenders import CONTENDERS
from benchmarks.speed.networks import NETWORKS, STUDY, Network
from refnet.train.capture import captured, native
from refnet.train.capture.native import translator, ufunc_loops

UPDATES, TURN, ROUNDS = 400, 0.02, 7
"""Updates of the training that is taken apart; seconds of the processor that a call is repeated for; and how often that
is done. The quickest counts."""

LOOP = "operations, written out in a loop"


class Line(NamedTuple):
    """A call of an update: what is called, and the microseconds that it takes."""

    called: str
    microseconds: float


def machine_of(network: Network) -> native.Machine:
    """The machine code of a network's update.

    Raises:
        click.UsageError: there is none; the message says why.
    """
    made: list[native.Machine] = []
    reasons: list[str] = []
    true = native.Machine

    def machine(*args: Any) -> native.Machine:
        try:
            made.append(true(*args))
        except native.NotNative as reason:
            reasons.append(str(reason))
            raise
        return made[-1]

    with mock.patch.object(native, "Machine", machine), mock.patch.object(captured, "PAID_BACK", float("inf")):
        of(_own_name(network), network)(UPDATES)
    if not made:
        raise click.UsageError(f"{network.name}: expected an update that runs as machine code, got: {reasons}")
    return made[-1]


def of(name: str, network: Network) -> Callable[[int], Any]:
    """What goes on with a contender's training for a number of updates."""
    return next(contender for contender in CONTENDERS if contender.name == name).build(network).run


def lines(machine: native.Machine) -> list[Line]:
    """Each call of an update, alone, on whatever the training has left."""
    names = _names()

    def alone(row: NDArray[np.int64]) -> Line:
        taken = _microseconds(lambda times: machine.repeat(row[None], times))
        return Line(names.get(int(row[0]), "another loop"), taken)

    return list(map(alone, machine.table))


def _names() -> dict[int, str]:
    """What lies at an address, in words."""
    ufuncs = [found for found in vars(np).values() if isinstance(found, np.ufunc)]
    names = {address: f"NumPy's {ufunc.__name__}" for ufunc in ufuncs for address in ufunc_loops.loops_of(ufunc)}
    names |= {address: name for name, address in translator.functions()[0].items()}
    for text, (address, _) in translator.known().items():
        operations = len(re.findall(r"^%y\d+ =", text, re.MULTILINE))
        names[address] = f"{operations} {LOOP}"
    return names


def _microseconds(run: Callable[[int], object]) -> float:
    """Of the processor, for one time."""
    times = 1
    while _seconds(run, times) < TURN / 2:
        times *= 2
    return min(_seconds(run, 2 * times) for _ in range(ROUNDS)) / (2 * times) * 1e6


def _seconds(run: Callable[[int], object], times: int) -> float:
    begun = time.process_time()
    run(times)
    return time.process_time() - begun


@click.command()
@click.option("-k", "name", default="256x2-2-2", show_default=True, help="The network, as `speed --list` names it.")
@click.option("--beside", default="jax-vmap", show_default=True, help="A contender whose update is timed beside it.")
def profile(name: str, beside: str) -> None:
    """Take apart an update that runs as machine code: each call in order, and the time that it takes.

    Each call is repeated alone, so that its operands are in the nearest cache; in microseconds of the processor, the
    quickest of seven. Then what the whole update takes; and an update in a call of 10,000, with what comes before them,
    of refnet and of another contender, after a first such call.
    """
    network = next((network for network in NETWORKS if network.name == name), None)
    if network is None:
        raise click.UsageError(f"-k: expected one of {', '.join(network.name for network in NETWORKS)}; got {name!r}")
    if beside not in {contender.name for contender in CONTENDERS}:
        raise click.UsageError(f"--beside: expected one of {', '.join(c.name for c in CONTENDERS)}; got {beside!r}")
    machine = machine_of(network)
    found = lines(machine)
    for line in found:
        click.echo(f"{line.microseconds:9.2f}  {line.called}")
    click.echo("together")
    kinds = dict.fromkeys(LOOP if line.called.endswith(LOOP) else line.called for line in found)
    for kind in kinds:
        click.echo(f"{sum(line.microseconds for line in found if line.called.endswith(kind)):9.2f}  {kind}")
    own = _own_name(network)
    click.echo(f"{_microseconds(lambda times: machine.repeat(machine.table, times)):9.2f}  {own}, machine code alone")
    ours = _of_a_call(own, network)
    click.echo(f"{ours:9.2f}  {own}, in a call of {STUDY:,}")
    try:
        theirs = _of_a_call(beside, network)
    except ImportError as missing:
        click.echo(f"{'':9}  {beside}: {missing}")
    else:
        click.echo(f"{theirs:9.2f}  {beside}, in a call of {STUDY:,}: {theirs / ours:.2f} of refnet's")


def _own_name(network: Network) -> str:
    return "refnet-ensemble" if network.many else "refnet-captured"


def _of_a_call(name: str, network: Network) -> float:
    """Microseconds of an update of a study's."""
    run = of(name, network)
    run(STUDY)
    return min(_seconds(run, STUDY) for _ in range(3)) / STUDY * 1e6
