"""A study as its tables tell it: all that figures and page know."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.convergence import study_tables
from benchmarks.convergence.arms import Arm

if TYPE_CHECKING:
    from pandas import DataFrame, Series

WORDS = {
    *("problem", "title", "kind", "network", "loss", "source", "arm", "order", "schedule", "engine", "other"),
    *("against", "measure", "parameter", "optimizer", *study_tables.DECIMALS),
    *study_tables.TEXTS,
}
"""The columns that hold text; all others hold numbers, or truth values."""


@dataclass(frozen=True, eq=False)
class RecordedStudy:
    """The tables of one study.

    Attributes:
        frames: by name, with the columns of `tables.COLUMNS`. environment: what the study was made in.
    """

    frames: Mapping[str, DataFrame]
    environment: Mapping[str, Any]

    def rows(self, table: str, **where: object) -> DataFrame:
        """The rows of a table that have these values."""
        frame = self.frames[table]
        for column, value in where.items():
            frame = frame[frame[column] == value]
        return frame

    @cached_property
    def problems(self) -> list[str]:
        return list(self.frames["problems"]["problem"])

    def about(self, problem: str) -> Series[Any]:
        """The problem's row of `problems`."""
        return self.rows("problems", problem=problem).iloc[0]

    @cached_property
    def _courses(self) -> dict[Any, DataFrame]:
        return dict(list(self.frames["bands"].groupby(["problem", "engine", "arm"])))

    def course(self, problem: str, arm: Arm) -> DataFrame:
        """The rows of `bands` of one arm's runs."""
        return self._courses[problem, self.engine, arm.name]

    @cached_property
    def engine(self) -> str:
        """Whose runs are shown where one engine's are: refnet's, if there are any."""
        engines = set(self.frames["summary"]["engine"])
        return "refnet" if "refnet" in engines or not engines else min(engines)

    @cached_property
    def repeated(self) -> RecordedStudy | None:
        """The study as its final runs with other last bits tell it; None if they were not made."""
        if self.frames["summary_again"].empty:
            return None
        again = {name: self.frames[f"{name}_again"] for name in study_tables.REPEATED}
        return RecordedStudy({**self.frames, **again}, self.environment)

    def regimes(self, problem: str) -> set[str]:
        """Those of the plain arms that had final runs."""
        names = set(self.rows("summary", problem=problem, engine=self.engine)["arm"])
        return {arm.regime for arm in self.plain(problem) if arm.name in names}

    def timed(self, problem: str) -> bool:
        """Whether the seconds of each plain arm are known."""
        rows = self.rows("bands", problem=problem, engine=self.engine)
        rows = rows[rows["arm"].isin([arm.name for arm in self.plain(problem)])]
        return bool(len(rows) and rows["seconds"].notna().all())

    @cached_property
    def iterations(self) -> int:
        return int(self.frames["curves"]["update"].max())

    @cached_property
    def optimizers(self) -> list[Any]:
        """Plain gradient descent first, if it is there; the regimes are compared under the first."""
        frame = self.frames["sweep"]
        return list(dict.fromkeys(frame["optimizer"])) if "optimizer" in frame else ["sgd"]

    def arm(self, size: int | None, order: Any = "epoch", schedule: Any = "constant") -> Arm:
        """Under the first optimizer."""
        return Arm(size, order, schedule, self.optimizers[0])

    def arms(self, problem: str) -> list[Arm]:
        """Those under the first optimizer, in the tables' order: from the whole set down to single samples."""
        return [arm for arm in self.every_arm(problem) if arm.optimizer == self.optimizers[0]]

    def every_arm(self, problem: str) -> list[Arm]:
        """Those under every optimizer."""
        rows = self.rows("sweep", problem=problem)
        rows = rows[[name for name in ("batch_size", "order", "schedule", "optimizer") if name in rows]]
        rows = rows.drop_duplicates()
        sizes = [
            int(size) if given else None for size, given in zip(rows.batch_size, rows.batch_size.notna(), strict=True)
        ]
        rest = (rows[name] for name in rows.columns[1:])
        return [Arm(*arm) for arm in zip(sizes, *rest, strict=True)]

    def sizes(self, problem: str) -> list[int]:
        """Those of the problem's mini-batches, ascending."""
        return sorted({arm.batch_size for arm in self.arms(problem) if arm.batch_size and arm.batch_size > 1})

    def plain(self, problem: str) -> list[Arm]:
        """The arms that differ in the size of their batch alone."""
        return [arm for arm in self.arms(problem) if arm.plain]

    def least(self, problem: str) -> float:
        """The least training loss that any weights have, where the tables know it; else 0, which bounds all losses."""
        surface = self.rows("surface", problem=problem)
        return float(surface["cost"].iloc[0]) if len(surface) else 0.0

    def excess(self, problem: str, losses: Any) -> Any:
        """Training losses above the least one; what is lost in its rounding counts as its rounding."""
        least = self.least(problem)
        return (losses - least).clip(lower=math.ulp(least)) if least else losses

    def loss_label(self, problem: str) -> str:
        return "training loss − least" if self.least(problem) else "training loss"

    def outcome(self, problem: str) -> tuple[str, str]:
        """What shows how well a problem was learned: the measure and what it is called."""
        about = self.about(problem)
        measure = "loss" if about["kind"] == "regression" else "accuracy"
        part, words = ("test", "held-out") if about["held_out"] else ("train", "training")
        return f"{part}_{measure}", f"{words} {measure}"


def read(folder: Path) -> RecordedStudy:
    """The study whose tables are in `folder`.

    Raises:
        ValueError: a table is missing, damaged or empty where each study has rows, or has other columns.
    """
    try:
        frames = study_tables.read(folder)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ValueError(f"expected a study's table, found no file {error.filename}") from error
    for name, frame in frames.items():
        if frame.empty and name in ("problems", "sweep", "rates", "targets", "curves", "bands", "summary"):
            raise ValueError(f"{folder / name}.csv: expected rows, found none")
        for column in frame.columns:
            if column not in WORDS and frame[column].dtype.kind not in "iufb" and len(frame):
                raise ValueError(f"{folder / name}.csv: expected numbers in the column {column}, found text")
    return RecordedStudy(frames, _environment(folder / "environment.json"))


def _environment(file: Path) -> dict[str, Any]:
    try:
        environment = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ValueError(f"expected a study's environment, found no file {file}") from error
    except ValueError as error:
        raise ValueError(f"{file}: expected JSON: {error}") from error
    if not isinstance(environment, dict):
        raise ValueError(f"{file}: expected an object, found {type(environment).__name__}")
    return environment
