"""The worked example as a text for a terminal of 80 columns or more, in colour or not."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from parity.example.certified_example import MOVE
from parity.example.content import Content
from parity.example.digits import SHOWN, exact, fixed, mark, shortest
from parity.example.engine_runs import Run, free_run, judged_to, verdict
from parity.example.hand_computation import CONSTANTS, FIGURES, SECTIONS, Figure
from parity.example.perceptron import BUG, RECIPES, UPDATES
from parity.example.provenance import SAYS
from parity.example.published import SOURCES
from parity.truth.value import decimal

STYLES = {"right": "green", "bug": "bold red", "unsettled": "bold yellow", "slip": "yellow"}

ABOUT = "Two inputs, two hidden and two output units, sigmoids; E = (t1 - out_o1)^2 / 2 + (t2 - out_o2)^2 / 2."

LEGEND = (
    "Each figure: as printed; certified, which is the truth rounded to 20 digits; as the engines have it. [Digits in "
    "brackets] are those from the first that differs from the truth, rounded likewise. An engine is exact where it has "
    "the number of its format that is nearest to the truth, shown with as few digits as tell it apart. Else it says "
    "how much of its rounding budget it used, the most that a right evaluation may be off. dE/dnet is often called "
    "delta; w5@1 is w5 after 1 update."
)


def render(content: Content, console: Console) -> None:
    """Print everything."""
    console.print(Text("The worked example of backpropagation", style="bold"))
    console.print(Text(ABOUT))
    console.print(_givens())
    console.print(Text(LEGEND, style="dim"))
    for section, title in SECTIONS.items():
        _head(title, console)
        for figure in FIGURES.values():
            if figure.section == section:
                for line in _lines(figure, content):
                    console.print(line)
    for title, table in (
        ("The six recipes, certified", _recipes(content)),
        ("The printed figures, and every recipe that yields each", _printed(content)),
        (f"The whole training, {UPDATES:,} updates in {content.dtype}", _runs(content)),
        (f"The rule of signs: each weight moved by {float(MOVE):g} both ways, certified", _signs(content)),
    ):
        _head(title, console)
        console.print(table)
    _head("What happened to the article's numbers", console)
    for paragraph in content.words.values():
        console.print(Padding(Text(paragraph), (0, 0, 1, 0)))
    for key, source in SOURCES.items():
        console.print(Text(f"{key}: {source}.", style="dim"))


def _head(title: str, console: Console) -> None:
    console.print()
    console.print(Text(title, style="bold underline"))


def _givens() -> Padding:
    lines = ("i1 i2 t1 t2 eta", "w1 w2 w3 w4 b1", "w5 w6 w7 w8 b2")
    rows = ("   ".join(f"{name} = {float(CONSTANTS[name]):g}" for name in line.split()) for line in lines)
    return Padding(Text("\n".join(rows)), (1, 2))


def _lines(figure: Figure, content: Content) -> Iterator[Text]:
    """A figure: its formula in letters and in numbers, then one line for each who has it."""
    heading = Text("\n").append(figure.key, style="bold")
    if figure.section == "after":
        heading.append(f": {figure.key.partition('@')[0]} after {_updates(figure.updates)}")
    if figure.formula:
        heading.append(f" = {figure.spelled()}")
        if figure.formula != f"{{{figure.operands[0]}}}":
            heading.append(f"\n{' ' * len(figure.key)} = {figure.spelled(lambda key: _short(key, content))}")
    yield heading
    truth = exact(content.certified.figure(figure.key))
    for finding in content.findings:
        if finding.published.key == figure.key:
            note = Text(SAYS[finding.says], style=STYLES[finding.says])
            yield _line(finding.published.source, finding.published.text, finding.true, note)
    yield _line("certified", decimal(truth, 20))
    if figure.section == "after":
        bug = exact(content.certified.figure(figure.key, BUG))
        yield _line("the bug's", decimal(bug, 20), decimal(truth, 20), Text("certified"))
    yield from _engines(figure, content, decimal(truth, SHOWN[content.dtype]))


def _engines(figure: Figure, content: Content, reference: str) -> Iterator[Text]:
    """A line for each answer, under the names of the engines that agree on it to the last bit."""
    told: dict[bytes, list[Run]] = {}
    for run in content.runs.values():
        told.setdefault(run.figure(figure.key).tobytes(), []).append(run)
    for first, *others in told.values():
        names = ", ".join(run.engine for run in (first, *others))
        judged = _judged(first, figure.key, content)
        if judged == "exact":
            # Further digits are those of the float, not of the truth: nothing in them is wrong.
            yield _line(names, shortest(first.figure(figure.key)), note=Text(judged))
        else:
            yield _line(names, decimal(float(first.figure(figure.key)), SHOWN[content.dtype]), reference, Text(judged))
    for engine, reason in content.missing.items():
        yield Text(f"  {engine:<14}unsupported: {reason}", style="dim")


def _judged(run: Run, key: str, content: Content) -> str:
    found = verdict(run, key, content.certified)
    if found is None:
        return f"budget spent at update {content.certified.spent(run.recipe, run.dtype):,}"
    return f"{_percent(found.share)} of its budget" if found.verdict == "rounding" else found.verdict


def _updates(n: int) -> str:
    return f"{n:,} update{'' if n == 1 else 's'}"


def _percent(share: float) -> str:
    return "below 1%" if share < 0.01 else f"{share:.0%}"


def _line(label: str, text: str, reference: str | None = None, note: Text | str = "") -> Text:
    figure = _marked(text, reference or text)
    return Text(f"  {label:<14}").append_text(figure).append(" " * max(2, 28 - len(figure))).append(note)


def _marked(text: str, reference: str) -> Text:
    agree, differ = mark(text, reference)
    return Text(agree).append(f"[{differ}]", style="bold underline") if differ else Text(agree)


def _short(key: str, content: Content) -> str:
    return f"{float(content.certified.figure(key).hi):.9g}"


def _table(*headings: str) -> Table:
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table


def _recipes(content: Content) -> Table:
    table = _table("recipe", "E after 1 update", f"E after {_updates(UPDATES)}")
    for recipe in RECIPES:
        errors = (exact(content.certified.tensor("E", n, recipe)) for n in (1, UPDATES))
        table.add_row(str(recipe), *(decimal(E, 17) for E in errors))
    return table


def _printed(content: Content) -> Table:
    table = _table("figure", "printed", "is", "yielded by")
    for finding in content.findings:
        p, says = finding.published, Text(SAYS[finding.says], style=STYLES[finding.says])
        table.add_row(p.key, _marked(p.text, finding.true), says, finding.by)
    return table


def _runs(content: Content) -> Table:
    table = _table("engine", "recipe", "of", "verdict", "digits", "budget used", "judged to update")
    for run in (*content.runs.values(), content.bug):
        last = f"{judged_to(run, content.certified):,}"
        for name, found in free_run(run, content.certified).items():
            measured = (found.verdict, f"{found.digits:.1f}", _percent(found.share))
            table.add_row(run.engine, str(run.recipe), name, *measured, last)
    for engine in content.missing:
        table.add_row(engine, "", "", "unsupported")
    return table


def _signs(content: Content) -> Table:
    table = _table("weight", "gradient", "E, weight smaller", "E, weight larger", "so E falls with")
    for moved in content.moved:
        figures = (fixed(exact(truth), 9) for truth in (moved.gradient, moved.smaller, moved.larger))
        lower = "a smaller weight" if exact(moved.gradient) > 0 else "a larger weight"
        table.add_row(moved.weight, *figures, lower if moved.holds else "NEITHER: the rule fails")
    return table
