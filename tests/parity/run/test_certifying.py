"""Filling the kept files, going on after an interruption, and proving them."""

import sys

import numpy as np
import pytest

from parity.families.listing import catalogue
from parity.records.record import UsageError
from parity.run import certifying
from parity.vectors import catalogue_answers, store

BY_NAME = {case.name: case for case in catalogue()}
CASES = [BY_NAME["Linear/batch 1"], BY_NAME["Linear/no batch axis"]]
RECORDS = 6
"""Of two cases: the grid's in one dtype for all, and the full family's in two."""


def run(cases, folder, check=False):
    pytest.importorskip("flint")
    started, done = [], []
    report = certifying.run(cases, check, 1, started.append, lambda: done.append(1), folder)
    assert started == [len(done)]
    return report


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    folder = tmp_path_factory.mktemp("filled")
    report = run(CASES, folder)
    assert (report.computed, report.present, report.equal, report.differing) == (RECORDS, 0, 0, [])
    assert str(report) == "6 computed, 0 already there, 0 proved"
    return folder


@pytest.fixture
def folder(filled, tmp_path):
    for path in filled.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def alter(folder, change):
    """Change the kept answers, under the right checksum."""
    answers = catalogue_answers.by_record("linear", folder)
    catalogue_answers.write("linear", change({k: dict(answer) for k, answer in answers.items()}), folder)


def test_what_is_filled_is_what_is_found_and_proved(filled):
    for case in CASES:
        for family in case.families:
            for dtype in ("float64", "float32"):
                kept = catalogue_answers.truths(case, family, dtype, filled)
                shipped = catalogue_answers.truths(case, family, dtype)
                assert kept.keys() == shipped.keys()
                assert all((kept[n].hi == t.hi).all() and (kept[n].lo == t.lo).all() for n, t in shipped.items())


def test_an_interrupted_run_goes_on_and_ends_in_the_same_bytes(folder):
    whole = (folder / "linear.safetensors").read_bytes()
    lost = catalogue_answers.key(CASES[1].record("full", "float32"))
    alter(folder, lambda answers: {k: a for k, a in answers.items() if k != lost})
    report = run(CASES, folder)
    assert (report.computed, report.present) == (1, RECORDS - 1)
    assert (folder / "linear.safetensors").read_bytes() == whole


def test_nothing_to_do_writes_nothing(folder):
    before = {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.iterdir()}
    report = run(CASES, folder)
    assert (report.computed, report.present) == (0, RECORDS)
    assert {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.iterdir()} == before


def test_check_finds_what_is_altered_and_what_is_missing(folder):
    one, lost = (catalogue_answers.key(CASES[k].record("full", "float32")) for k in (0, 1))

    def change(answers):
        hi = answers[one]["output.lo"].copy()
        hi.view(np.int64).flat[0] ^= 1
        answers[one]["output.lo"] = hi
        del answers[lost]
        return answers

    alter(folder, change)
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    report = run(CASES, folder, check=True)
    assert report.equal == RECORDS - 2
    assert sorted(report.differing) == [f"{case.name} (full, float32)" for case in CASES]
    assert str(report).startswith("0 computed, 0 already there, 4 proved, 2 differ: Linear/")
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


def test_a_refused_file_is_made_anew_but_not_proved(folder):
    path = folder / "linear.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(UsageError, match="truncated"):
        run(CASES, folder, check=True)
    assert run(CASES[:1], folder).computed == 3
    assert run(CASES, folder).computed == 3
    assert path.read_bytes() == whole


def test_answers_that_no_case_asks_for_are_dropped(folder):
    whole = (folder / "linear.safetensors").read_bytes()
    alter(folder, lambda answers: {**answers, "0123456789abcdef": {"output.hi": np.zeros(1)}})
    assert run(CASES, folder).present == RECORDS
    assert (folder / "linear.safetensors").read_bytes() == whole


def test_without_flint(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "flint", None)
    with pytest.raises(UsageError, match=r"expected the package python-flint, got none; install it with: pip install"):
        certifying.run(CASES, False, 1, folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_failure_names_its_case(tmp_path):
    pytest.importorskip("flint")
    case = BY_NAME["Linear/batch 1"]
    broken = type(case)(case.name, case.spec, case.inputs[:0], case.grads, case.arrays)
    with pytest.raises(TypeError) as caught:
        certifying.run([broken], False, 1, folder=tmp_path)
    assert "while certifying Linear/batch 1 (grid, float32)" in caught.value.__notes__
    assert store.names(tmp_path) == []


def test_bits_are_compared():
    zero, negative = ({"x": np.array([z])} for z in (0.0, -0.0))
    assert certifying.same(zero, {"x": np.zeros(1)})
    assert not certifying.same(zero, negative)
    assert not certifying.same(zero, {"x": np.zeros(1, np.float32)})
    assert not certifying.same(zero, {"y": np.zeros(1)})
    assert not certifying.same(None, zero)
    nan = {"x": np.array([np.nan])}
    assert certifying.same(nan, {"x": np.array([np.nan])})


def test_a_kept_bound_may_be_larger_but_not_smaller():
    found = {"bound.x": np.array([1.0, 2.0]), "x": np.ones(2)}
    assert certifying.same(found | {"bound.x": np.array([1.0, 2.5])}, found)
    assert not certifying.same(found | {"bound.x": np.array([1.0, 1.9])}, found)
    assert not certifying.same(found | {"bound.x": np.array([1.0, np.nan])}, found)
    assert not certifying.same(found | {"bound.x": np.ones(1) * 9}, found)
    assert not certifying.same(found | {"x": np.ones(2) * 2}, found)


def test_a_bound_is_kept_rounded_up():
    bound = np.array([0.0, 1.0, 1 + 2.0**-40, 3.7e-300, np.inf])
    kept = certifying._rounded_up(bound)
    assert (kept >= bound).all()
    assert (kept <= bound * (1 + 2.0**-23)).all()
    assert kept[:2].tolist() == [0.0, 1.0]


def test_what_is_empty_is_certified_as_it_is_kept():
    """An empty array of balls does not show what it would hold, so a layer may mistake its arithmetic."""
    pytest.importorskip("flint")
    empty = [case for case in BY_NAME.values() if "batch 0" in case.name]
    report = certifying.run(empty, True, 1)
    assert report.equal >= len(empty) > 60
    assert not report.differing
