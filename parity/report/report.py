"""What is said of some tensors, as one object that reads as text, a table, JSON or HTML.

    report = parity.enclose(f, *arrays).check(value, gradients)
    assert report.ok, report

The conclusion comes first; then each tensor with its verdict, its accuracy, where it is furthest off, and what its
budget could see.
"""

from __future__ import annotations

import html
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from parity.verdict.table import SEVERITY, all_ok
from parity.verdict.tensor import TensorVerdict

__all__ = ["Report"]

FORMAT, VERSION = "parity-report", 1

HEADINGS = ("tensor", "verdict", "digits", "ulps", "budget", "at", "sees")


class Report(Mapping[str, TensorVerdict]):
    """The verdicts on some tensors, by name.

    Attributes:
        subject: what was judged. profile: how it was said to compute. verdicts: one for each tensor.
        diagnosis: what a failure looks like. notes: what else is to be said.
        parts: reports on further things that were tried, by name; what is bad in them stands among the verdicts too.
        script: a program that shows the failure by itself; empty where there is none.
    """

    def __init__(
        self,
        subject: str,
        profile: str,
        verdicts: Sequence[TensorVerdict],
        diagnosis: Sequence[str] = (),
        notes: Sequence[str] = (),
        parts: Mapping[str, Report] | None = None,
        script: str = "",
    ) -> None:
        self.subject, self.profile = subject, profile
        self.parts, self.script = dict(parts or {}), script
        self.verdicts, self.diagnosis, self.notes = tuple(verdicts), tuple(diagnosis), tuple(notes)
        self._by_name = {v.name: v for v in self.verdicts}

    def __getitem__(self, name: str) -> TensorVerdict:
        return self._by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)

    def __bool__(self) -> bool:
        """`ok`: a mapping would be true wherever it has a tensor, and `assert report` would hold whatever was found."""
        return self.ok

    @property
    def ok(self) -> bool:
        """Whether every tensor is good, and there is one that counts; see `parity.verdict.table`."""
        return all_ok(v.verdict for v in self.verdicts)

    @property
    def conclusion(self) -> str:
        """One line: whether all is good, what was judged, and how many tensors have which verdict."""
        counts = {word: sum(v.verdict == word for v in self.verdicts) for word in SEVERITY}
        said = ", ".join(f"{n} {word}" for word, n in counts.items() if n) or "nothing was judged"
        sampled = ", of sampled elements" if any(v.coverage for v in self.verdicts) else ""
        return f"{'ok' if self.ok else 'not ok'}: {self.subject} ({self.profile}): {said}{sampled}"

    def __str__(self) -> str:
        rows = [HEADINGS, *map(_figures, self.verdicts)] if self.verdicts else []
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [self.conclusion]
        for k, row in enumerate(rows):
            lines.append("  " + "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip())
            lines += [f"    {words}" for words in _words(self.verdicts[k - 1])] if k else []
        lines += [f"  consistent with: {d}" for d in self.diagnosis]
        lines += [f"  {note}" for note in self.notes]
        if self.script:
            lines += ["  the smallest input found that shows it, as a program of its own:", ""]
            lines += [f"    {line}".rstrip() for line in self.script.splitlines()]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return str(self)

    def to_dataframe(self) -> Any:
        """A row for each tensor, as a pandas.DataFrame.

        Raises:
            ImportError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise ImportError("to_dataframe: expected the package pandas, got none; pip install pandas") from error
        rows = [{**asdict(v), "ok": v.ok} for v in self.verdicts]
        return pandas.DataFrame(rows, columns=[*TensorVerdict.__dataclass_fields__, "ok"]).set_index("name")

    def to_json(self) -> str:
        """Everything as JSON. Infinite numbers are the strings "inf" and "-inf", which JSON itself lacks."""
        document = {"format": FORMAT, "version": VERSION, **self._document()}
        document["parts"] = [{"name": name, **part._document()} for name, part in self.parts.items()]
        document["script"] = self.script
        return json.dumps(plain(document), indent=1, allow_nan=False) + "\n"

    def _document(self) -> dict[str, Any]:
        return {
            "ok": self.ok,
            "subject": self.subject,
            "profile": self.profile,
            "tensors": [{**asdict(v), "ok": v.ok} for v in self.verdicts],
            "diagnosis": self.diagnosis,
            "notes": self.notes,
        }

    def _repr_html_(self) -> str:
        """The same as a table, for a notebook."""

        def row(cells: Sequence[str], tag: str) -> str:
            return "<tr>" + "".join(f"<{tag}>{html.escape(c)}</{tag}>" for c in cells) + "</tr>"

        body = [
            row([*_figures(v), "; ".join(_words(v))], "td")
            for v in sorted(self.verdicts, key=lambda v: -SEVERITY.index(v.verdict))
        ]
        more = [*(f"consistent with: {d}" for d in self.diagnosis), *self.notes]
        return (
            f"<p><strong>{html.escape(self.conclusion)}</strong></p>"
            f"<table><thead>{row([*HEADINGS, ''], 'th')}</thead><tbody>{''.join(body)}</tbody></table>"
            + "".join(f"<p>{html.escape(text)}</p>" for text in more)
            + (f"<pre>{html.escape(self.script)}</pre>" if self.script else "")
        )


def _figures(v: TensorVerdict) -> tuple[str, ...]:
    """What stands under HEADINGS."""
    place = str(list(v.where)) if v.where else ""
    sees = "all" if v.detection_limit == 0 else f"{v.detection_limit:.0e}"
    return v.name, verdict_in_words(v), digits(v.digits), f"{v.ulps:.3g}", share(v.share), place, sees


def verdict_in_words(v: TensorVerdict) -> str:
    """The verdict, with the elements that it is on, where these are not all."""
    return f"{v.verdict}, {v.coverage}" if v.coverage else v.verdict


def _words(v: TensorVerdict) -> list[str]:
    return [*([f"by {v.formula}"] if v.formula else []), *([v.reason] if v.reason else [])]


def digits(value: float) -> str:
    """A number of decimal digits."""
    return "all" if value == math.inf else "none" if value == -math.inf else f"{value:.1f}"


def share(value: float) -> str:
    """A part of a budget."""
    if value == 0:
        return "0"
    if value == math.inf:
        return "inf"
    return f"{value:.2f}" if 0.005 <= value < 100 else f"{value:.1e}"


def plain(value: Any) -> Any:
    """What JSON can hold: tuples as lists, infinite numbers as strings."""
    if isinstance(value, dict):
        return {key: plain(v) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
