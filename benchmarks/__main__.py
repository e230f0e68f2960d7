"""The program `python -m benchmarks`."""

from __future__ import annotations

import os

import click

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def benchmarks() -> None:
    """Measure refnet beside its peers, in turn and in one process, on one thread."""


@benchmarks.command()
@click.option("--rounds", type=click.IntRange(min=3), default=15, show_default=True, help="Rounds of each, in turn.")
def step(rounds: int) -> None:
    """A plain training step (forward, backward, SGD): refnet.fit against torch eager."""
    from benchmarks import step as measured

    for line in measured.report(rounds):
        click.echo(line)


if __name__ == "__main__":
    benchmarks(prog_name="python -m benchmarks")
