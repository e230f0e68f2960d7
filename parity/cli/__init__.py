"""The command line."""

from parity.cli.command_line import cli, main

__all__ = ["cli", "main"]
