"""The commands that judge: engines, files of answers, two runs, and the yardstick itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from parity.cli import options

MANY = 50
"""With more cases than this, what is judged is said first, and how long it may take."""


@click.command(short_help="Judge engines on the catalogue, or a part of it.")
@options.pattern
@click.option(
    "--engine",
    "names",
    multiple=True,
    metavar="NAME",
    help="refnet, torch, torch:OPTIONS, jax, jax:OPTIONS, package.module:Class, FILE.py:Class or exec:COMMAND. "
    "Repeatable. [default: refnet, torch]",
)
@click.option(
    "--dtype",
    "dtypes",
    multiple=True,
    metavar="DTYPE",
    help="float64, float32, bfloat16 or float16. Repeatable. [default: what engines name, else float64 and float32]",
)
@click.option(
    "--profile",
    metavar="TEXT",
    help='How the engines compute, if not as they say themselves: "bfloat16, accumulate float32, depth 40".',
)
@click.option(
    "--case", "exactly", multiple=True, metavar="NAME", help="Only the case of exactly this name. Repeatable."
)
@click.option("--family", type=click.Choice(("grid", "full")), default=None, help="Only this family of inputs.")
@click.option("--per-class", type=click.IntRange(1), metavar="N", help="Only N cases of each class, drawn by --seed.")
@options.seed
@options.large
@click.option("--list", "listing", is_flag=True, help="List the cases and stop.")
@options.json
@options.junit
@options.verbose
@click.option(
    "--faults/--no-faults",
    "with_faults",
    default=None,
    help="Whether to score the yardstick itself on known mistakes. [default: for the whole catalogue]",
)
@click.option(
    "--require-coverage",
    "required",
    type=click.FloatRange(0, 100),
    metavar="PERCENT",
    help="Fail unless each engine answers at least this percentage of the records.",
)
@options.jobs
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=120.0,
    show_default=True,
    help="Seconds that one case may take.",
)
def run(
    pattern: str = "",
    names: Sequence[str] = (),
    dtypes: Sequence[str] = (),
    profile: str | None = None,
    exactly: Sequence[str] = (),
    family: str | None = None,
    per_class: int | None = None,
    seed: int = 0,
    large: bool = False,
    listing: bool = False,
    json_file: Path | None = None,
    junit_file: Path | None = None,
    verbose: bool = False,
    with_faults: bool | None = None,
    required: float | None = None,
    jobs: int | None = None,
    timeout: float = 120.0,
) -> None:
    """Judge engines on the catalogue, or on a part of it.

    For example: parity run -k LayerNorm --engine torch:device=cuda,dtype=bfloat16. The whole catalogue takes
    about 90 seconds on two cores for refnet and torch.

    Exit code: 0 when every engine conforms, 1 when anything fails or nothing was judged, 2 for bad usage.
    """
    from parity.families.listing import select
    from parity.report import console, export
    from parity.run import judging, scoring

    cases = judging.drawn(judging.only(select(pattern, large), exactly, family), per_class, seed)
    if listing:
        console.standard_output().out("\n".join(case.name for case in cases))
        return
    engines = judging.choose(names)
    asked = judging.dtypes_of(engines, dtypes, profile)
    if not names and "torch" not in engines:
        click.echo("parity: the package torch is not installed: refnet alone is judged", err=True)
    export.check_places(json_file, junit_file)
    about = ""
    if len(cases) > MANY:
        about = f"judging {', '.join(engines)} on {len(cases)} cases in {' and '.join(asked)}"
        about += "; the whole catalogue takes about 90 seconds on two cores"
    part = bool(exactly or family or per_class or large)
    scored = with_faults or (with_faults is None and not (pattern or part))
    # Mistakes are made where their cases are judged anyway, which the others of the pattern are not.
    seeding = scoring.Seeding() if scored and not part else None
    with console.progress("judging", len(cases), about) as (_, done):
        results = judging.judge(cases, engines, asked, options.workers(jobs), timeout, done, profile, seeding)
    try:
        export.save_results(results, json_file, junit_file)
    finally:
        console.show(results, verbose)
    covered = required is None or all(results.summary(name).coverage >= required for name in engines)
    if required is not None and not covered:
        console.standard_output().print(console.uncovered(results, required), soft_wrap=True)
    sound = not scored or _score(pattern, scoring.DTYPE, jobs, each=False, seeding=seeding)
    if not (results.conforms and covered and sound):
        raise SystemExit(1)


@click.command(short_help="Judge a file of answers.")
@click.argument("answers", type=click.Path(path_type=Path), metavar="ANSWERS")
@options.json
@options.junit
@options.verbose
@options.jobs
def judge(answers: Path, json_file: Path | None, junit_file: Path | None, verbose: bool, jobs: int | None) -> None:
    """Judge the answers in a file, which docs/vectors.md describes: no engine is run."""
    from parity.report import console, export
    from parity.run import judging_answers

    export.check_places(json_file, junit_file)
    with console.progress("judging") as (start, done):
        results = judging_answers.judge(answers, options.workers(jobs), start, done)
    export.save_results(results, json_file, junit_file)
    console.show(results, verbose)
    if not results.conforms:
        raise SystemExit(1)


@click.command(short_help="What moved between two runs.")
@click.argument("before", type=click.Path(path_type=Path), metavar="BEFORE")
@click.argument("after", type=click.Path(path_type=Path), metavar="AFTER")
@click.option(
    "--engines",
    nargs=2,
    metavar="NAME NAME",
    help="Which engine of BEFORE and which of AFTER, where they have several.",
)
@click.option(
    "--dtypes", nargs=2, metavar="DTYPE DTYPE", help="Which dtype of BEFORE and which of AFTER, to compare two formats."
)
@click.option(
    "--digits",
    type=click.FloatRange(min=0),
    default=1.0,
    show_default=True,
    help="Name a right tensor too if it has lost more decimal digits than this.",
)
@click.option("-v", "--verbose", is_flag=True, help="Show all tensors, not only the first of each kind.")
def compare(
    before: Path,
    after: Path,
    engines: tuple[str, str] | None,
    dtypes: tuple[str, str] | None,
    digits: float,
    verbose: bool,
) -> None:
    """Say what moved between two files of `parity run --json`: versions, bits, verdicts, digits.

    Exit code 1 means that a tensor that was right is now wrong, or no longer proved to be right; or that the files have
    no tensor in common.
    """
    from parity.report import changes

    runs = [changes.read(file, engines and engines[k], dtypes and dtypes[k]) for k, file in enumerate((before, after))]
    found = changes.compare(runs[0], runs[1], digits, same_format=not dtypes or dtypes[0] == dtypes[1])
    changes.show(found, verbose)
    if found.worse or not found.both:
        raise SystemExit(1)


@click.command(short_help="Score the yardstick itself on known mistakes.")
@options.pattern
@click.option(
    "--dtype", type=click.Choice(options.DTYPES), default="float64", show_default=True, help="The format to compute in."
)
@click.option("--reported", is_flag=True, help="Only mistakes from publicly documented bugs, with a line for each bug.")
@options.jobs
def faults(pattern: str, dtype: str, reported: bool, jobs: int | None) -> None:
    """Score the yardstick itself: each known mistake must be caught, and no harmless rewriting flagged.

    Each is made in refnet, in every case that it touches, and judged like any engine."""
    if not _score(pattern, dtype, jobs, not reported, reported):
        raise SystemExit(1)


def _score(pattern: str, dtype: str, jobs: int | None, each: bool, reported: bool = False, seeding: Any = None) -> bool:
    """Score the yardstick and tell it; whether nothing is to be said against it.

    A part of the catalogue need not reveal every mistake. What `seeding` holds is found already.
    """
    from parity.families.listing import REPORTED, select
    from parity.report import console, scores
    from parity.run import scoring

    with console.progress("seeding faults") as (start, done):
        found = scoring.run(select(pattern), dtype, options.workers(jobs), start, done, each, reported, seeding)
    scores.show(found, each, REPORTED if reported else ())
    return found.sound if not pattern else not found.flagged


@click.command(short_help="Change refnet line by line; see if a case notices.")
@click.argument("names", nargs=-1, metavar="[CLASS]...")
@click.option(
    "--dtype", type=click.Choice(options.DTYPES), default="float64", show_default=True, help="The format to compute in."
)
@click.option(
    "--share",
    type=click.FloatRange(0, 1, min_open=True),
    default=1.0,
    show_default=True,
    help="Which part of each class's mutants to make, drawn by the seed.",
)
@options.seed
@options.json
@options.jobs
def mutate(names: Sequence[str], dtype: str, share: float, seed: int, json_file: Path | None, jobs: int | None) -> None:
    """Change one operator, constant, comparison, axis or index of refnet at a time, and see whether a case notices.

    Exit code 1 means that fewer than 98% of a class's mutants are killed, or that more than 5% of all are excused.
    """
    from parity.records.record import UsageError
    from parity.report import console, export, mutants_table
    from parity.run import mutating

    known = mutating.known()
    for name in names:
        if name not in known:
            raise UsageError(f"mutate: expected a class among {', '.join(known)}, got {name}")
    export.check_place(json_file)
    chosen = tuple(dict.fromkeys(names)) or known
    with console.progress("mutating", len(chosen)) as (start, done):
        found = mutating.run(chosen, dtype, share, seed, options.workers(jobs), start, done)
    if json_file:
        export.save(json_file, mutating.to_json(found, dtype, share, seed))
    mutants_table.show(found)
    if not mutating.all_ok(found, share):
        raise SystemExit(1)


@click.command(short_help="Probe the depth of an engine's sums.")
@click.argument("names", nargs=-1, required=True, metavar="ENGINE...")
@click.option("--terms", type=click.IntRange(8, 2**20), default=4096, show_default=True, help="Length of the sums.")
@click.option(
    "--dtype", type=click.Choice(options.DTYPES), default="float32", show_default=True, help="The format to compute in."
)
def depth(names: Sequence[str], terms: int, dtype: str) -> None:
    """Probe how long the chains of additions in an engine's sums are.

    It prints the least depth that the engine's profile may declare on this machine. A probe shows no upper limit:
    another shape, processor or library may have longer chains.
    """
    from parity.run import judging, probing

    for name in judging.choose(names):
        click.echo(f"{name}, {dtype}, sums of {terms:,} terms")
        for found in probing.probe(judging.engine(name), terms, dtype):
            said = f"unsupported: {found.reason}" if found.depth is None else f"depth {found.depth:,} or more"
            click.echo(f"  {found.what:<52} {said}")
