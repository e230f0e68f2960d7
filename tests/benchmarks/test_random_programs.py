"""One in a hundred of the random programs, and what the whole campaign found."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("flint")
pytest.importorskip("torch")

from benchmarks.programs import programs_command
from benchmarks.programs.grammar import BINARY, UNARY, program
from benchmarks.programs.programs_command import judged, tally

RESULTS = Path(programs_command.__file__).parent.parent / "results" / "programs" / "random_programs.json"
EXPECTED = {"float64 enclosed", "float32 enclosed", "compared with the truth by scalars"}
TOLD = {f"{dtype} {what}" for dtype in ("float64", "float32") for what in (
    "undecided", "no finite value", "tensors with an open element", "tensors without a bound")}  # fmt: skip


def as_it_should_be(found: dict[str, int], programs: int) -> bool:
    """Nothing right is outside, nothing is refused for its notation, and what is open is told and rare."""
    wrong = {name for name, count in found.items() if count} - EXPECTED - TOLD
    return not wrong and all(found[f"{dtype} enclosed"] > 0.95 * programs for dtype in ("float64", "float32"))


def test_a_sample() -> None:
    assert as_it_should_be(dict(tally(range(0, 10_000, 100))), 100)


def test_the_whole_campaign() -> None:
    record = json.loads(RESULTS.read_text(encoding="utf-8"))
    assert record["programs"] == 10_000
    assert record["found"]["compared with the truth by scalars"] > 900
    assert as_it_should_be(record["found"], 10_000)


def test_a_wrong_engine_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    right = programs_command._by_torch
    monkeypatch.setattr(programs_command, "_by_torch", lambda *args: [a * (1 + 1e-3) for a in right(*args)])
    assert not as_it_should_be(dict(tally(range(3))), 3)


def test_programs_are_drawn_from_their_numbers_alone() -> None:
    assert program(7).numpy == program(7).numpy != program(8).numpy
    assert np.array_equal(program(7).x, program(7).x)
    assert (program(9).x * 2 == np.round(program(9).x * 2)).all()
    texts = "".join(program(n).numpy for n in range(2000))
    for ours, _ in UNARY + BINARY:
        assert ours.split("{")[0] in texts


def test_nothing_else_is_counted() -> None:
    assert set(judged(3)) <= EXPECTED | TOLD | {"unlike the truth by scalars"} | {
        f"{dtype} torch's tensors outside" for dtype in ("float64", "float32")
    }
