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
        "Take an update as machine code apart: what is called, one after the other, and what each call takes.",
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
        "Train refnet's and torch's networks from one seed, nothing copied, and show how they drift apart.",
    ),
    "updates": (
        "benchmarks.updates:updates",
        "Judge every step of every optimizer on gradients that are hard, by refnet and by torch.",
    ),
    "transformer": (
        "benchmarks.transformer:transformer",
        "Train a small transformer on digits, refnet beside torch from one seed, and judge every update of both.",
    ),
    "trainings": (
        "benchmarks.trainings.command:trainings",
        "Do random trainings plainly and in every captured way.",
    ),
    "slower": (
        "benchmarks.never_slower:slower",
        "Do trainings plainly and captured, and name those that are slower for being captured.",
    ),
    "targets": (
        "benchmarks.convergence.study_commands:targets",
        "The targets that the pilot runs of studies give, as benchmarks/convergence/fixed_targets.json keeps them.",
    ),
    "report": (
        "benchmarks.convergence.study_commands:report",
        "Draw the figures and the page of a study again, from DIR/tables alone.",
    ),
    "programs": (
        "benchmarks.programs.programs_command:programs",
        "Put random programs through parity.enclose, and judge torch's values and gradients by it.",
    ),
    "fingerprint": (
        "benchmarks.precision.fingerprint_command:fingerprint",
        "Ask which precision products were computed in, of imprecise engines and of right ones.",
    ),
    "adversarial": (
        "benchmarks.adversarial.adversarial_command:adversarial",
        "Hold right engines that round as badly as the model allows against the budgets.",
    ),
    "diagnosis": (
        "benchmarks.diagnosis:diagnosis",
        "Make each known mistake at a seed and shape of no kept case, and ask whether its diagnosis names it.",
    ),
    "mutants": (
        "benchmarks.tested_mutants:mutants_command",
        "Change schedules, clipping, averages and draws at one place, and see whether a test notices.",
    ),
    "yardstick": (
        "benchmarks.yardstick.yardstick_command:yardstick",
        "Measure what enclosing and judging take against size, in seconds and memory.",
    ),
    "depth": (
        "benchmarks.precision.depth_command:depth",
        "Put sums by random trees, and products of rounded factors, to budgets of a declared depth.",
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
