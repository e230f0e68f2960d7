"""Results as tables for a terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from parity.results import CaseResult, Comparison, Results, total
from parity.verdict import VERDICTS, TensorVerdict

STYLES = {
    "exact": "green",
    "rounding": "green",
    "unstable": "yellow",
    "convention": "cyan",
    "undecided": "magenta",
    "unsupported": "dim",
    "FAIL": "bold red",
}

LEGEND = """\
exact: the correctly rounded truth in every element. rounding: within the derived budget. unstable: within that of a listed weaker formula, named.
digits: of accuracy, of the tensor's largest element. ulps: largest elementwise error. budget: largest share of a budget used (1 is the limit).
sees: detection limit, the largest budget over the largest element. bits: tensors with the same bits as the first engine's."""


def table(results: Results, verbose: bool = False) -> Table:
    """A line for each group of cases, dtype and engine: its worst tensor; or, verbose, a line for each tensor."""
    made = Table(header_style="bold", box=None, padding=(0, 1), expand=False)
    for heading in ("case", "dtype", "engine", "tensor", "verdict"):
        made.add_column(heading, no_wrap=heading != "case", overflow="fold" if heading == "case" else "ellipsis")
    for heading in ("digits", "ulps", "budget", "sees", "bits"):
        made.add_column(heading, justify="right", no_wrap=True)
    before = ""
    for case, verdict, bits in _all(results) if verbose else _worst(results):
        about = case.group
        if about != before and before:
            made.add_section()
        before = about
        made.add_row(*_row(case, verdict, bits))
    return made


Line = tuple[CaseResult, TensorVerdict | None, Comparison | None]


def _all(results: Results) -> Iterator[Line]:
    for case in results.cases:
        for verdict in case.verdicts or (None,):
            yield case, verdict, case.comparison


def _worst(results: Results) -> Iterator[Line]:
    groups: dict[tuple[str, str, str], list[CaseResult]] = {}
    for case in results.cases:
        groups.setdefault((case.group, case.dtype, case.engine), []).append(case)
    for cases in groups.values():
        worst = max(cases, key=lambda c: (VERDICTS.index(c.verdict), c.worst_tensor.share if c.worst_tensor else 0))
        yield worst, worst.worst_tensor, total(cases)


def _row(case: CaseResult, verdict: TensorVerdict | None, comparison: Comparison | None) -> list[RenderableType]:
    name = f"{case.case} ({case.family})"
    same = "" if comparison is None else f"{comparison.same_bits}/{comparison.tensors}"
    if verdict is None:
        return [name, case.dtype, case.engine, "", Text(case.verdict, STYLES[case.verdict]), "", "", "", "", same]
    return [
        name,
        case.dtype,
        case.engine,
        verdict.name,
        Text(verdict.verdict + (f": {verdict.formula}" if verdict.formula else ""), STYLES[verdict.verdict]),
        digits(verdict),
        _short(verdict.ulps),
        share(verdict.share),
        "all" if verdict.detection_limit == 0 else _short(verdict.detection_limit),
        same,
    ]


def failures(results: Results) -> Group:
    """Each failure in words."""
    lines: list[RenderableType] = []
    for case in results.cases:
        for verdict in case.verdicts:
            if verdict.verdict == "FAIL":
                head = f"{case.engine}: {case.case} ({case.family}, {case.dtype}), {verdict.name}"
                lines.append(Text(f"FAIL {head}", STYLES["FAIL"]))
                used = f" ({share(verdict.share)} budgets)" if math.isfinite(verdict.share) else ""
                lines.append(Text(f"     {verdict.reason}{used}"))
        lines += [Text(f"     consistent with: {d}") for d in case.diagnosis]
    return Group(*lines)


def summary(results: Results) -> Group:
    """The engines' totals and the conclusion."""
    lines: list[RenderableType] = []
    for engine in results.engines:
        s = results.summary(engine)
        counts = ", ".join(f"{n} {name}" for name, n in s.verdicts.items() if n)
        verdict = "conforms" if s.conforms else f"FAILS in {s.failed} of"
        of = "on all" if s.conforms else ""
        unsupported = f", {s.unsupported} cases unsupported" if s.unsupported else ""
        lines.append(
            Text.assemble(
                (engine, "bold"),
                f" {verdict} ",
                f"{of} {s.cases} cases; {s.tensors} tensors: {counts}{unsupported}".lstrip(),
            )
        )
        if s.largest_share_at:
            lines.append(
                Text(
                    f"  largest share of a budget that a right result used: {share(s.largest_share)} ({s.largest_share_at})"
                )
            )
        if c := s.comparison:
            due = f"; where every right engine has the same values: {c.identical} of {c.due}" if c.due else ""
            lines.append(Text(f"  same bits as {results.engines[0]}: {c.same_bits} of {c.tensors} tensors{due}"))
    return Group(*lines)


def digits(verdict: TensorVerdict) -> str:
    return "all" if verdict.digits == math.inf else "none" if verdict.digits == -math.inf else f"{verdict.digits:.1f}"


def share(value: float) -> str:
    if value == 0:
        return "0"
    if value == math.inf:
        return "inf"
    return f"{value:.2f}" if 0.005 <= value < 100 else f"{value:.1e}"


def _short(value: float) -> str:
    if value == 0:
        return "0"
    if value == math.inf:
        return "inf"
    return f"{value:.1f}" if 0.05 <= value < 1000 else f"{value:.0e}"
