"""The commands that show, cite, keep and hand out certified figures."""

from __future__ import annotations

from pathlib import Path

import click

from parity.cli import options


@click.command(short_help="The worked example, figure by figure.")
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print everything as JSON: decimals of at least 20 digits beside exact forms.",
)
@options.file("--html", "html_file", help="Write a page to walk through: one HTML file that can be read offline.")
@click.option(
    "--worksheet",
    "seed",
    type=click.IntRange(min=0),
    metavar="SEED",
    help="With --html: a worksheet to print, and its certified key. Each SEED gives other numbers.",
)
@click.option(
    "--check",
    "typed",
    metavar="FIGURE",
    help="Judge a figure that was worked out by hand: is it right, the printed one, or a known mistake's?",
)
@click.option(
    "--step",
    default="",
    metavar="NAME",
    help="With --check: the name of the figure that it is meant to be, such as E@1.",
)
@options.file(
    "--own",
    help='With --check: a JSON file with numbers of your own by name, such as {"w5": 0.41}; others are the article\'s.',
)
def example(
    as_json: bool, html_file: Path | None, seed: int | None, typed: str | None, step: str, own: Path | None
) -> None:
    """The worked example, figure by figure: as printed, certified, by refnet and by torch, and which recipes give it.

    With --check, exit code 0 means that the figure is right; 1 that it is wrong, or cut off instead of rounded.
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


@click.command(short_help="Print a certified figure, ready to cite.")
@click.argument("name", required=False, metavar="[ID]")
@click.option("--list", "pattern", metavar="PATTERN", help="List the ids that contain PATTERN ('' for all) and stop.")
@click.option("--verify", is_flag=True, help="Compute the figure again and compare the bits. Needs python-flint.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON, all inputs too.")
def cite(name: str | None, pattern: str | None, verify: bool, as_json: bool) -> None:
    """Print a certified figure, ready to cite: value, radius, formula, inputs, hash and BibTeX.

    ID is example/FIGURE, a figure of the worked example (example/E@1), or an element of a tensor of the catalogue as
    reports name it: "Linear/batch 3 (full, float64), grad.weight[0, 1]".

    With --verify, exit code 1 means that the figure, computed again, has other bits.
    """
    import json

    from parity.example import cited_figures
    from parity.records.record import UsageError
    from parity.report import cited_tensors, console

    out = console.standard_output()
    if (name is None) == (pattern is None):
        raise UsageError("cite: expected an ID, or --list PATTERN, got " + ("neither" if name is None else "both"))
    if name is None:
        names = [*cited_figures.names(pattern or ""), *cited_tensors.names(pattern or "")]
        if not names:
            raise UsageError(f"cite: expected a text that is part of an id, got {pattern!r}")
        out.out("\n".join(names))
        return
    home = cited_figures if name.startswith(cited_figures.PREFIX) else cited_tensors
    found, same = home.answer(name, verify)
    out.out(json.dumps(found.document(same), indent=1) if as_json else found.text(same))
    if same is False:
        raise SystemExit(1)


@click.command(short_help="Compute or prove the certified answers.")
@options.pattern
@click.option("--check", is_flag=True, help="Compute everything again and compare it, bit for bit, with what is kept.")
@options.large
@options.jobs
def certify(pattern: str, check: bool, large: bool, jobs: int | None) -> None:
    """Compute certified answers that the package lacks; or, with --check, prove those that it has.

    Without a pattern, those of the worked example too. Needs python-flint. An interrupted run goes on where it stopped.
    """
    from parity.families.listing import select
    from parity.report import console

    with console.progress("proving" if check else "certifying") as (start, done):
        from parity.run import certifying

        report = certifying.run(select(pattern, large), check, options.workers(jobs), start, done)
    if not pattern and not large:
        from parity import example as worked

        with console.progress("the worked example", worked.parts()) as (_, done):
            if check:
                differing = worked.check(options.workers(jobs), done)
                report.differing += [f"the worked example: {name}" for name in differing]
                report.equal += not differing
            elif worked.is_certified():
                report.present += 1
            else:
                worked.certify(options.workers(jobs), done)
                report.computed += 1
    console.standard_output().out(str(report))
    if report.differing:
        raise SystemExit(1)


@click.command(name="export", short_help="Write the cases for readers in any language.")
@options.pattern
@options.jobs
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
def export_vectors(pattern: str, jobs: int | None, folder: Path) -> None:
    """Write the cases to DIR for readers in any language: records, certified answers, budgets, known mistakes.

    The files are JSON, with safetensors for large arrays; docs/vectors.md describes them. DIR must be empty, or not
    there yet. The cases of `parity --large` are left out, since only some of their elements are certified.
    """
    from parity.families.listing import select
    from parity.report import console
    from parity.run import exporting

    cases = select(pattern)
    with console.progress("exporting", len(cases)) as (_, done):
        count = exporting.export(folder, cases, options.workers(jobs), done)
    console.standard_output().out(f"{folder}: {count} records of {len(cases)} {'case' if len(cases) == 1 else 'cases'}")


@click.command(short_help="Which classes of torch.nn and torch.optim are covered.")
def coverage() -> None:
    """List every class of torch.nn and torch.optim: covered, not covered yet, or out of scope, with the reason."""
    from parity.report import coverage_table

    coverage_table.show()
