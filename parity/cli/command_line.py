"""The program. What takes long to import is imported when it is needed."""

from __future__ import annotations

import errno
import os
import sys

import click

from parity.cli import figure_commands, judging_commands, options

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""Where output can't be written to the end."""


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="refnet")
@options.large
@click.pass_context
def cli(context: click.Context, large: bool) -> None:
    """Judge engines that compute gradients and updates, by certified truth.

    Without a command: the whole catalogue, on refnet and on torch, in float64 and float32. That takes about 80
    seconds on two cores. Words and columns of the output are explained in docs/results.md.

    Exit code: 0 when every engine conforms, 1 when anything fails or nothing was judged, 2 for bad usage.
    """
    if context.invoked_subcommand is None:
        context.invoke(judging_commands.run, large=large)
    elif large:
        raise click.UsageError("--large: expected no command behind it, as in parity run --large")


for _command in (
    judging_commands.run,
    judging_commands.judge,
    judging_commands.compare,
    judging_commands.faults,
    judging_commands.mutate,
    judging_commands.depth,
    figure_commands.coverage,
    figure_commands.certify,
    figure_commands.example,
    figure_commands.export_vectors,
    figure_commands.cite,
):
    cli.add_command(_command)


def main() -> None:
    """The program `parity`, and `python -m parity`."""
    try:
        cli.main(prog_name="parity", standalone_mode=False)
        sys.stdout.flush()
    except OSError as error:
        if error.errno not in FULL:
            raise
        # What is left in the buffer has no place to go to either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        click.echo(f"parity: the output: expected a place to write to, got: {error.strerror}", err=True)
        sys.exit(2)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (KeyboardInterrupt, click.Abort):
        click.echo("parity: interrupted", err=True)
        sys.exit(130)
    except Exception as error:
        from parity.records.record import UsageError

        if not isinstance(error, UsageError):
            raise
        click.echo(f"parity: {error}", err=True)
        sys.exit(2)
