"""The tables that a person reads."""

import io
import math
from dataclasses import replace

import pytest
from rich.console import Console

from parity.report import console
from parity.report.report import digits, share
from parity.run.results import CaseResult, Results
from parity.verdict.tensor import TensorVerdict


def printed(renderable, width=120, **options):
    console = Console(file=io.StringIO(), width=width, **options)
    console.print(renderable)
    return console.file.getvalue()


def rows(text, engine):
    return [line.split() for line in text.splitlines() if f" {engine} " in line]


@pytest.mark.parametrize("verbose", [False, True])
@pytest.mark.parametrize("width", [80, 99, 100, 120, 200])
def test_lines_fit_and_are_plain(results, width, verbose):
    text = printed(console.table(results, verbose, width), width)
    assert max(len(line) for line in text.splitlines()) <= width
    assert text.isascii()
    assert "\x1b" not in text
    assert "…" not in text


def test_colour_where_there_is_some(results):
    text = printed(console.table(results), force_terminal=True, color_system="standard")
    assert "\x1b[1;31mFAIL" in text
    assert "\x1b[32mrounding" in text
    plain = printed(console.table(results), force_terminal=True, color_system="standard", no_color=True)
    assert "\x1b[31m" not in plain


def test_a_wide_table(results):
    lines = printed(console.table(results, width=120)).splitlines()
    assert lines[0].split() == ["case", "tensor", *console.HEADINGS]
    assert lines[1].strip() == "Linear"
    right, wrong = (" ".join(lines[k].split()) for k in (2, 4))
    assert right == "batch 3, grid output float64 refnet rounding 15.7 1.2 0.38 4e-16"
    assert wrong == "batch 3, grid grad.weight float64 mine:Engine FAIL 0.7 9e+14 5.0e+15 all 1/2"


def test_a_narrow_table(results):
    lines = printed(console.table(results, width=80), 80).splitlines()
    assert lines[:5] == [
        "    dtype   engine      verdict     digits  ulps  budget  sees bits",
        "Linear",
        "  batch 3, grid: output",
        "    float64 refnet      rounding      15.7   1.2    0.38 4e-16",
        "    float64 torch       rounding      15.7   1.2    0.38 4e-16  1/2",
    ]
    # One heading for lines of one place, in which whole words stand.
    assert lines.count("  mean 1000, in a rather long name, evaluation, full: output") == 1
    assert lines[-2:] == ["  lr 0.1, full", "    float32 mine:Engine unsupported"]


@pytest.mark.parametrize("width", [80, 120])
def test_the_worst_tensor_of_each_group_or_every_tensor(results, width):
    worst, every = (printed(console.table(results, verbose, width), width) for verbose in (False, True))
    assert len(rows(worst, "refnet")) == 3
    assert len(rows(every, "refnet")) == 4
    assert "grad.weight" not in "".join(line for line in worst.splitlines() if " refnet " in line and "Linear" in line)
    unstable = next(row for row in rows(worst, "torch") if "unstable" in row)
    assert unstable[-5:] == ["9.2", "1e+04", "1.2e+03", "2e-15", "1/2"]


def test_bits_are_those_of_the_whole_group(results):
    again = tuple(replace(case, case="Linear/batch 7") for case in results.cases if case.group == "Linear")
    more = Results(results.engines, (*results.cases, *again), 0.0)
    assert rows(printed(console.table(more)), "torch")[0][-1] == "2/4"
    assert [row[-1] for row in rows(printed(console.table(more, verbose=True)), "torch")].count("1/2") == 5


def test_names_are_not_read_as_markup():
    tensor = TensorVerdict("[red]x[/red]", "rounding")
    case = CaseResult("Group/[bold]a[/bold] :smile:", "full", "float64", "a:b:Engine", (tensor,), notes=("[i]note",))
    for width in (80, 120):
        text = printed(console.table(Results(("a:b:Engine",), (case,), 0.0), width=width), width)
        for part in ("[red]x[/red]", "[bold]a[/bold] :smile:", "a:b:Engine"):
            assert part in text
    assert "[i]note" in printed(console.notes(Results(("e",), (case,), 0.0)))


def test_failures_in_words(results):
    text = printed(console.failures(results), 400)
    assert text.splitlines() == [
        "FAIL mine:Engine: Linear/batch 3 (grid, float64), grad.weight",
        "     1 of 6 elements outside their budget, first [1, 2]: expected 0.25000000000000000000 within 1e-17, "
        "got 0.3000000000000001; at worst 5.0e+15 budgets",
        "     consistent with: zero: 0",
        "FAIL mine:Engine: BatchNorm1d/mean 1000, in a rather long name, evaluation (full, float32), answer",
        "     raised ValueError: [bold]no[/bold] & <no>",
        "     Traceback:",
        '       File "mine.py", line 7, in vjp',
        "     ValueError: [bold]no[/bold] & <no>",
        "     this record alone: parity run --case 'BatchNorm1d/mean 1000, in a rather long name, evaluation' "
        "--family full --dtype float32 --engine mine:Engine",
    ]


def test_many_failures_are_counted(results):
    some = printed(console.failures(results, 1), 400).splitlines()
    assert some[0].endswith("grad.weight")
    assert some[-1] == "... and 1 more: all of them with --verbose or --json FILE"
    assert "more" not in printed(console.failures(results, 2), 400)


def test_notes_once_for_all(results):
    assert printed(console.notes(results), 200) == (
        "BatchNorm1d/mean 1000, in a rather long name, evaluation: free run: uncertified "
        "(refnet float32, torch float32)\n"
    )


def test_the_summary(results):
    assert printed(console.summary(results), 200).splitlines() == [
        "refnet conforms on all 3 records of 3 cases, 4 tensors: 2 exact, 2 rounding",
        "  largest share of a budget that a right result used: 0.38 (Linear/batch 3, grid float64, output)",
        "torch conforms on all 3 records of 3 cases, 4 tensors: 2 exact, 1 rounding, 1 unstable",
        "  1 tensor by: E[x^2] - E[x]^2",
        "  largest share of a budget that a right result used: 0.38 (Linear/batch 3, grid float64, output)",
        "  same bits as refnet: 3 of 5 tensors; where every right engine has the same values: 3 of 3",
        "mine:Engine FAILS in 2, judged on 2 of 3 records (66.6%), in 2 of 3 classes, 3 tensors: 1 rounding, 2 FAIL",
        "  1 record unsupported: no optimize",
        "  same bits as refnet: 1 of 2 tensors; where every right engine has the same values: 0 of 1",
    ]


def test_an_engine_that_answers_nothing_does_not_conform_in_words():
    case = CaseResult("Linear/a", "full", "float64", "torch:cuda", unsupported="no cuda here")
    text = printed(console.summary(Results(("torch:cuda",), (case, case), 0.0)))
    assert text.splitlines() == ["torch:cuda answers none of 2 records", "  2 records unsupported: no cuda here"]


def test_what_was_judged_is_told_in_one_line():
    right = CaseResult("Identity/a", "full", "float64", "mine", (TensorVerdict("output", "exact"),))
    rest = [CaseResult(f"Linear/{k}", "full", "float64", "mine", unsupported="no Linear") for k in range(2281)]
    text = printed(console.summary(Results(("mine",), (right, *rest), 0.0)))
    assert text.splitlines()[0] == "mine conforms on 1 of 2282 records (0%), in 1 of 2 classes, 1 tensor: 1 exact"
    most = Results(("mine",), (*(replace(r, unsupported="") for r in rest), replace(right, unsupported="no")), 0.0)
    assert "2281 of 2282 records (99.9%)" in printed(console.summary(most))


def test_what_is_not_covered(results):
    assert printed(console.uncovered(results, 66.6)) == ""
    assert printed(console.uncovered(results, 90)) == (
        "mine:Engine is judged on 66.6% of the records, 90% is required\n"
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.004, "4.0e-03"), (0.005, "0.01"), (0.984, "0.98"), (1, "1.00"), (99.99, "99.99"), (math.inf, "inf")],
)
def test_shares(value, text):
    assert share(value) == text


def test_digits():
    for value, text in ((math.inf, "all"), (-math.inf, "none"), (15.654, "15.7"), (-3.21, "-3.2")):
        assert digits(value) == text


def test_the_legend_fits_a_pipe():
    assert max(map(len, console.LEGEND.splitlines())) <= 120
    for word in ("exact", "rounding", "unstable", "convention", "digits", "ulps", "budget", "sees", "bits"):
        assert f"{word}:" in console.LEGEND


def test_an_unsupported_case_does_not_hide_the_rest_of_its_group(results):
    wrong = next(case for case in results.cases if case.engine == "mine:Engine" and case.verdicts)
    unanswered = replace(wrong, case=f"{wrong.group}/another", verdicts=(), unsupported="no gradient by the bias")
    text = printed(console.table(Results(("mine:Engine",), (unanswered, wrong), 0.0)))
    assert "FAIL" in text
    assert "unsupported" not in text
    alone = printed(console.table(Results(("mine:Engine",), (unanswered,), 0.0)))
    assert "unsupported" in alone


def test_many_reasons_are_counted():
    cases = tuple(
        CaseResult(f"Linear/{k}", "full", "float64", "mine", unsupported=f"no layer {max(k, 3)}") for k in range(40)
    )
    lines = printed(console.summary(Results(("mine",), cases, 0.0))).splitlines()
    assert lines[1:] == [
        "  4 records unsupported: no layer 3",
        "  1 record unsupported: no layer 4",
        "  1 record unsupported: no layer 5",
        "  34 records unsupported for 34 other reasons: all of them with --json FILE",
    ]


def test_progress_in_lines(capsys):
    times = iter([0.0, 1.0, 20.0, 21.0, 40.0])
    lines = console.PlainProgress("judging", None, "judging mine on 4 cases", lambda: next(times))
    lines.start(4)
    for _ in range(4):
        lines.done()
    assert capsys.readouterr().err.splitlines() == [
        "parity: judging mine on 4 cases",
        "parity: judging: 2 of 4 after 20 s, about 20 s left",
    ]


@pytest.mark.parametrize(("columns", "width"), [(None, 120), ("90", 90), ("", 120), ("wide", 120)])
def test_the_width_of_a_pipe(monkeypatch, columns, width):
    if columns is None:
        monkeypatch.delenv("COLUMNS", raising=False)
    else:
        monkeypatch.setenv("COLUMNS", columns)
    assert console.standard_output().width == width
