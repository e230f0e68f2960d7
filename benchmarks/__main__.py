"""The program `python -m benchmarks`."""

from __future__ import annotations

import os
from importlib import import_module

import click

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")

LAZY = {
    "speed": (
        "benchmarks.speed.speed_command:speed",
        "Time trainings of refnet and of its peers: a whole one, of 10,000 updates or fewer, and a step of it.",
    ),
    "profile": (
        "benchmarks.speed.update_profile:profile",
        "Take apart an update that runs as machine code: each call in order, and the time that it takes.",
    ),
    "accuracy": (
        "benchmarks.accuracy:accuracy",
        "Print the root-mean-square errors of refnet's float32 sums and of torch's, along each axis.",
    ),
    "convergence": (
        "benchmarks.convergence.study_commands:convergence",
        "Compare batch, mini-batch and stochastic gradient descent, with --optimizer under momentum and Adam too.",
    ),
    "seeded": (
        "benchmarks.seeded:seeded",
        "Train networks of refnet and torch from one seed, with nothing copied, and show how they drift apart.",
    ),
    "updates": (
        "benchmarks.updates:updates",
        "Judge every step of every optimizer of refnet and torch on hard gradients.",
    ),
    "transformer": (
        "benchmarks.transformer:transformer",
        "Train a small transformer on digits by refnet and torch from one seed, and judge every update of both.",
    ),
    "trainings": (
        "benchmarks.trainings.command:trainings",
        "Run random trainings plainly and in every captured way.",
    ),
    "slower": (
        "benchmarks.never_slower:slower",
        "Run trainings plainly and captured, and name those that capturing makes slower.",
    ),
    "targets": (
        "benchmarks.convergence.study_commands:targets",
        "Print the targets that a study's pilot runs give, in the form of benchmarks/convergence/fixed_targets.json.",
    ),
    "report": (
        "benchmarks.convergence.study_commands:report",
        "Draw the figures and the page of a study again from DIR/tables.",
    ),
    "programs": (
        "benchmarks.programs.programs_command:programs",
        "Enclose random programs by parity.enclose, and judge torch's values and gradients of them.",
    ),
    "fingerprint": (
        "benchmarks.precision.fingerprint_command:fingerprint",
        "Find out from the errors of products in which precision they were computed.",
    ),
    "adversarial": (
        "benchmarks.adversarial.adversarial_command:adversarial",
        "Judge engines that are right but round as badly as the model allows.",
    ),
    "diagnosis": (
        "benchmarks.diagnosis:diagnosis",
        "Make each known mistake at a new seed and shape, and see whether the diagnosis names it.",
    ),
    "mutants": (
        "benchmarks.tested_mutants:mutants_command",
        "Change schedules, clipping, averages and draws at one place, and see whether a test notices.",
    ),
    "yardstick": (
        "benchmarks.yardstick.yardstick_command:yardstick",
        "Measure how the time and memory for enclosing and judging grow with the size.",
    ),
    "depth": (
        "benchmarks.precision.depth_command:depth",
        "Judge sums by random trees, and products of rounded factors, by budgets of a declared depth.",
    ),
}
"""Commands that are loaded when they are used: where they are, and the first line of what they say of themselves."""


class Commands(click.Group):
    """The commands registered here, and those of LAZY."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*super().list_commands(ctx), *LAZY]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in LAZY:
            return super().get_command(ctx, cmd_name)
        module, _, attribute = LAZY[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        here = [(name, command.get_short_help_str(100)) for name, command in self.commands.items()]
        with formatter.section("Commands"):
            formatter.write_dl([*here, *((name, about) for name, (_, about) in LAZY.items())])


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
def benchmarks() -> None:
    """Measure refnet beside its peers, and the regimes of gradient descent beside each other."""


if __name__ == "__main__":
    benchmarks(prog_name="python -m benchmarks")
