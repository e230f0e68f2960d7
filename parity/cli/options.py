"""The options that several commands have."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import click

DTYPES = ("float64", "float32")

pattern = click.option(
    "-k",
    "pattern",
    default="",
    metavar="PATTERN",
    help="Only cases whose name contains PATTERN, or matches it with * and ?; patterns may be joined by and, or, not.",
)
seed = click.option(
    "--seed", type=int, default=0, show_default=True, help="The seed that cases or mutants are drawn by."
)
large = click.option("--large", is_flag=True, help="The cases of real size; some elements of each are certified.")
jobs = click.option(
    "--jobs", type=click.IntRange(min=1), default=None, help="Worker processes. [default: the number of cores]"
)

file = partial(click.option, type=click.Path(path_type=Path), metavar="FILE")
json = file("--json", "json_file", help="Write all results as JSON.")
junit = file("--junit", "junit_file", help="Write results as JUnit XML.")
verbose = click.option("-v", "--verbose", is_flag=True, help="A line for each tensor, not only each group's worst.")


def workers(count: int | None) -> int:
    """How many processes are asked for: as many as there are cores, where none says."""
    return count or os.cpu_count() or 1
