"""The command line. What takes long to import is imported when it is needed."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import click

DTYPES = ("float64", "float32")

MANY = 50
"""With more cases than this, what is judged is said first, and how long it may take."""

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""Where output can't be written to the end."""

_pattern = click.option(
    "-k",
    "pattern",
    default="",
    metavar="PATTERN",
    help="Only cases whose name contains PATTERN, or matches it with * and ?; patterns may be joined by and, or, not.",
)
_seed = click.option("--seed", type=int, default=0, show_default=True, help="Of the draw.")
_large = click.option("--large", is_flag=True, help="The cases of real size; some elements of each are certified.")
_jobs = click.option(
    "--jobs", type=click.IntRange(min=1), default=None, help="Worker processes. [default: the number of cores]"
)

_file = partial(click.option, type=click.Path(path_type=Path), metavar="FILE")
_json = _file("--json", "json_file", help="Write all results as JSON.")
_junit = _file("--junit", "junit_file", help="Write results as JUnit XML.")
_verbose = click.option("-v", "--verbose", is_flag=True, help="A line for each tensor, not only each group's worst.")


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="refnet")
@_large
@click.pass_context
def cli(context: click.Context, large: bool) -> None:
    """Hold engines that compute gradients and updates against certified truth.

    Without a command: the whole catalogue, on refnet and on torch, in float64 and float32. That takes two to
    three minutes on two cores. Words and columns of the output are explained in docs/results.md.

    Exit code: 0 when every engine conforms, 1 when anything fails or nothing was judged, 2 for bad usage.
    """
    if context.invoked_subcommand is None:
        context.invoke(run, large=large)
    elif large:
        raise click.UsageError("--large: expected no command behind it, as in parity run --large")


@cli.command(short_help="Judge engines on the catalogue, or a part of it.")
@_pattern
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
@_seed
@_large
@click.option("--list", "listing", is_flag=True, help="List the cases and stop.")
@_json
@_junit
@_verbose
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
@_jobs
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
    """Judge engines on the catalogue, or on a part of it."""
    from parity.families.listing import select
    from parity.report import console, export
    from parity.run import judging

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
        about += "; the whole catalogue takes two to three minutes on two cores"
    with console.progress("judging", len(cases), about) as (_, done):
        results = judging.judge(cases, engines, asked, _workers(jobs), timeout, done, profile)
    try:
        export.save_results(results, json_file, junit_file)
    finally:
        console.show(results, verbose)
    covered = required is None or all(results.summary(name).coverage >= required for name in engines)
    if required is not None and not covered:
        console.standard_output().print(console.uncovered(results, required), soft_wrap=True)
    scored = with_faults or (with_faults is None and not (pattern or exactly or family or per_class or large))
    sound = not scored or _score(pattern, "float64", jobs, each=False)
    if not (results.conforms and covered and sound):
        raise SystemExit(1)


@cli.command(short_help="Score the yardstick itself on known mistakes.")
@_pattern
@click.option("--dtype", type=click.Choice(DTYPES), default="float64", show_default=True, help="Computed in.")
@click.option("--reported", is_flag=True, help="Those of publicly documented bugs alone, with a line for each bug.")
@_jobs
def faults(pattern: str, dtype: str, reported: bool, jobs: int | None) -> None:
    """Score the yardstick itself: known mistakes, each to be caught, and harmless rewritings, none to be flagged.

    Every one is made in refnet, in every case that it touches, and judged like any engine."""
    if not _score(pattern, dtype, jobs, not reported, reported):
        raise SystemExit(1)


def _score(pattern: str, dtype: str, jobs: int | None, each: bool, reported: bool = False) -> bool:
    """Score the yardstick and tell it; whether nothing is to be said against it.

    A part of the catalogue need not reveal every mistake.
    """
    from parity.families.listing import REPORTED, select
    from parity.report import console, scores
    from parity.run import scoring

    with console.progress("seeding faults") as (start, done):
        found = scoring.run(select(pattern), dtype, _workers(jobs), start, done, each, reported)
    scores.show(found, each, REPORTED if reported else ())
    return found.sound if not pattern else not found.flagged


@cli.command(short_help="Change refnet line by line; see if a case notices.")
@click.argument("names", nargs=-1, metavar="[CLASS]...")
@click.option("--dtype", type=click.Choice(DTYPES), default="float64", show_default=True, help="Computed in.")
@click.option(
    "--share",
    type=click.FloatRange(0, 1, min_open=True),
    default=1.0,
    show_default=True,
    help="Of each class this part of the mutants, drawn by the seed.",
)
@_seed
@_json
@_jobs
def mutate(names: Sequence[str], dtype: str, share: float, seed: int, json_file: Path | None, jobs: int | None) -> None:
    """Change one operator, constant, comparison, axis or index of refnet at a time, and see whether a case notices.

    Exit code 1 where, of the mutants of a class, fewer than 98% are killed, or more than 5% of all are excused.
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
        found = mutating.run(chosen, dtype, share, seed, _workers(jobs), start, done)
    if json_file:
        export.save(json_file, mutating.to_json(found, dtype, share, seed))
    mutants_table.show(found)
    if not mutating.all_ok(found, share):
        raise SystemExit(1)


@cli.command(short_help="Probe the depth of an engine's sums.")
@click.argument("names", nargs=-1, required=True, metavar="ENGINE...")
@click.option("--terms", type=click.IntRange(8, 2**20), default=4096, show_default=True, help="Length of the sums.")
@click.option("--dtype", type=click.Choice(DTYPES), default="float32", show_default=True, help="Computed in.")
def depth(names: Sequence[str], terms: int, dtype: str) -> None:
    """Probe how long the chains of additions are that an engine's sums go through.

    What is printed is the least depth that a profile of it may declare here. A probe shows no upper limit: another
    shape, processor or library may have longer chains.
    """
    from parity.run import judging, probing

    for name in judging.choose(names):
        click.echo(f"{name}, {dtype}, sums of {terms:,} terms")
        for found in probing.probe(judging.engine(name), terms, dtype):
            said = f"unsupported: {found.reason}" if found.depth is None else f"depth {found.depth:,} or more"
            click.echo(f"  {found.what:<52} {said}")


@cli.command(short_help="What of torch.nn and torch.optim is covered.")
def coverage() -> None:
    """Say of every class of torch.nn and torch.optim whether refnet covers it, will not and why, or not yet."""
    from parity.report import coverage_table

    coverage_table.show()


@cli.command(short_help="Compute or prove the certified answers.")
@_pattern
@click.option("--check", is_flag=True, help="Compute everything again and compare it, bit for bit, with what is kept.")
@_large
@_jobs
def certify(pattern: str, check: bool, large: bool, jobs: int | None) -> None:
    """Compute the certified answers that are kept in the package, where they are missing; or prove the kept ones.

    With a pattern, only those of the catalogue's cases; without, of the worked example too. Needs python-flint. An
    interrupted run goes on where it stopped.
    """
    from parity.families.listing import select
    from parity.report import console

    with console.progress("proving" if check else "certifying") as (start, done):
        from parity.run import certifying

        report = certifying.run(select(pattern, large), check, _workers(jobs), start, done)
    if not pattern and not large:
        from parity import example as worked

        with console.progress("the worked example", worked.parts()) as (_, done):
            if check:
                differing = worked.check(_workers(jobs), done)
                report.differing += [f"the worked example: {name}" for name in differing]
                report.equal += not differing
            elif worked.is_certified():
                report.present += 1
            else:
                worked.certify(_workers(jobs), done)
                report.computed += 1
    console.standard_output().out(str(report))
    if report.differing:
        raise SystemExit(1)


@cli.command(short_help="The worked example, figure by figure.")
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print everything as JSON: decimals of at least 20 digits beside exact forms.",
)
@_file("--html", "html_file", help="Write it as a page to walk through: one HTML file, readable offline.")
@click.option(
    "--worksheet",
    "seed",
    type=click.IntRange(min=0),
    metavar="SEED",
    help="With --html: a worksheet to print, with numbers of its own for each SEED, and its certified key.",
)
@click.option(
    "--check",
    "typed",
    metavar="FIGURE",
    help="Say what a figure is that was worked out by hand: right, in print, or a known mistake's.",
)
@click.option("--step", default="", metavar="NAME", help="With --check: the figure that it is meant to be, as E@1.")
@_file(
    "--own",
    help="With --check: a JSON file of one's own numbers by name, as {\"w5\": 0.41}; the others are the article's.",
)
def example(
    as_json: bool, html_file: Path | None, seed: int | None, typed: str | None, step: str, own: Path | None
) -> None:
    """The worked example, figure by figure: published, certified, refnet's, torch's, and what recipes yield each.

    With --check, exit code 0 says that the figure is right, 1 that it is not.
    """
    from parity import example as worked
    from parity.records.record import UsageError
    from parity.report import console, export

    if typed is not None:
        if as_json or html_file or seed is not None:
            raise UsageError("--check: expected no other output beside it, got --json, --html or --worksheet")
        if not worked.recognise(console.standard_output(), typed, step, own):
            raise SystemExit(1)
        return
    if seed is not None and (as_json or not html_file):
        raise UsageError("--worksheet: expected --html FILE beside it, and no --json")
    if step or own:
        raise UsageError(f"{'--step' if step else '--own'}: expected --check FIGURE beside it, got none")
    if html_file:
        export.check_place(html_file)
        export.save(html_file, worked.as_html() if seed is None else worked.worksheet(seed))
    if as_json:
        console.standard_output().out(worked.as_json())
    elif not html_file:
        worked.report(console.standard_output())


@cli.command(name="export", short_help="Write the cases for readers in any language.")
@_pattern
@_jobs
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
def export_vectors(pattern: str, jobs: int | None, folder: Path) -> None:
    """Write the cases to DIR for readers in any language: records, certified answers, budgets, what each reveals.

    JSON, and safetensors for large arrays; docs/vectors.md describes them. DIR is empty or not there yet. The cases of
    `parity --large`, of which some elements are certified, are left out.
    """
    from parity.families.listing import select
    from parity.report import console
    from parity.run import exporting

    cases = select(pattern)
    with console.progress("exporting", len(cases)) as (_, done):
        count = exporting.export(folder, cases, _workers(jobs), done)
    console.standard_output().out(f"{folder}: {count} records of {len(cases)} cases")


@cli.command(short_help="Judge a file of answers.")
@click.argument("answers", type=click.Path(path_type=Path), metavar="ANSWERS")
@_json
@_junit
@_verbose
@_jobs
def judge(answers: Path, json_file: Path | None, junit_file: Path | None, verbose: bool, jobs: int | None) -> None:
    """Judge the answers in a file, which docs/vectors.md describes: no engine is run."""
    from parity.report import console, export
    from parity.run import judging_answers

    export.check_places(json_file, junit_file)
    with console.progress("judging") as (start, done):
        results = judging_answers.judge(answers, _workers(jobs), start, done)
    export.save_results(results, json_file, junit_file)
    console.show(results, verbose)
    if not results.conforms:
        raise SystemExit(1)


@cli.command(short_help="Print a certified figure as one cites it.")
@click.argument("name", required=False, metavar="[ID]")
@click.option("--list", "pattern", metavar="PATTERN", help="List the ids that contain PATTERN ('' for all) and stop.")
@click.option("--verify", is_flag=True, help="Compute the figure again, and compare its bits. Needs python-flint.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON, all inputs too.")
def cite(name: str | None, pattern: str | None, verify: bool, as_json: bool) -> None:
    """Print a certified figure as one cites it: value, radius, formula, inputs, hash and BibTeX.

    ID is example/FIGURE, a figure of the worked example (example/E@1), or an element of a tensor of the catalogue as
    reports name it: "Linear/batch 3 (full, float64), grad.weight[0, 1]".

    With --verify, exit code 1 says that the figure comes out otherwise.
    """
    import json

    from parity.example import cited_figures
    from parity.records.record import UsageError
    from parity.report import cited_tensors, console

    out = console.standard_output()
    if (name is None) == (pattern is None):
        raise UsageError("cite: expected an ID, or --list PATTERN, got " + ("neither" if name is None else "both"))
    if name is None:
        for text in (*cited_figures.names(pattern or ""), *cited_tensors.names(pattern or "")):
            out.out(text)
        return
    home = cited_figures if name.startswith(cited_figures.PREFIX) else cited_tensors
    found, same = home.answer(name, verify)
    out.out(json.dumps(found.document(same), indent=1) if as_json else found.text(same))
    if same is False:
        raise SystemExit(1)


def _workers(jobs: int | None) -> int:
    return jobs or os.cpu_count() or 1


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
