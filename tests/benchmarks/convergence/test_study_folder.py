"""A study's folder: what comes back, what is known to be damaged, and the folders that are refused."""

import json
import math
import os
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.convergence import study_folder
from benchmarks.convergence.arms import Arm
from benchmarks.convergence.cells import Cell, Outcome
from benchmarks.convergence.study_folder import FolderError, opened

STUDY = {"problems": ("xor",), "seeds": 2, "grids": {"xor": (0.5, 1.0)}}
HERE = {"python": "3.11", "numpy": "2.4"}
CELL = Cell("xor", Arm(None), 0.1, 0, "refnet", 10)
OUTCOME = Outcome(
    updates=(0, 1, 10),
    train_loss=(0.1 + 0.2, 5e-324, math.nan),
    train_accuracy=(0.5, 1.0, math.nan),
    test_loss=(math.nan,) * 3,
    test_accuracy=(math.nan,) * 3,
    diverged_at=10,
    path={"w": (1.0, math.inf, -math.inf)},
)


def refuse(message):
    raise AssertionError(message)


def begin(folder, study=STUDY, environment=HERE, resume=False, say=refuse):
    return opened(folder, study, environment, resume=resume, say=say)


def bits(outcome):
    return json.dumps(outcome.as_dict())


def test_what_was_kept_comes_back_bit_for_bit(tmp_path):
    others = [replace(CELL, seed=1), replace(CELL, rate=0.2), replace(CELL, engine="torch"), replace(CELL, arm=Arm(1))]
    with begin(tmp_path / "a" / "b") as kept:
        assert kept.outcome(CELL) is None
        kept.keep(CELL, OUTCOME)
        assert bits(kept.outcome(CELL)) == bits(OUTCOME)
    with begin(tmp_path / "a" / "b", resume=True) as kept:
        assert bits(kept.outcome(CELL)) == bits(OUTCOME)
        assert [kept.outcome(other) for other in others] == [None] * 4


def test_parts_come_back_for_the_same_arguments(tmp_path):
    said = []
    with begin(tmp_path, say=said.append) as kept:
        assert kept.part("twin", {"rates": (0.1,)}) is None
        kept.keep_part("twin", {"rates": (0.1,)}, [{"update": 1}])
        assert kept.part("twin", {"rates": (0.1,)}) == [{"update": 1}]
        assert not said
        assert kept.part("twin", {"rates": (0.2,)}) is None
        assert "holds something else" in said[0]


def test_the_folder_says_what_it_is(tmp_path):
    with begin(tmp_path):
        about = json.loads((tmp_path / "study.json").read_text())
    assert about == {"format": study_folder.FORMAT, "study": json.loads(json.dumps(STUDY)), "environment": HERE}


DAMAGES = {
    "empty": lambda text: "",
    "cut": lambda text: text[: len(text) // 2],
    "not JSON": lambda text: "xor\0",
    "not text": lambda text: "\udcff",
    "other JSON": lambda text: "[]",
    "a number": lambda text: "3",
    "a digit": lambda text: text.replace("0.30000000000000004", "0.3000000000000001"),
    "no digest": lambda text: text.replace("sha256", "sha512"),
    "another cell's": lambda text: text.replace('"seed":0', '"seed":1'),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_cell_counts_as_not_there_and_is_told(damage, tmp_path):
    said = []
    with begin(tmp_path, say=said.append) as kept:
        kept.keep(CELL, OUTCOME)
        (file,) = (tmp_path / "cells").rglob("*.json")
        whole = file.read_bytes()
        damaged = DAMAGES[damage](whole.decode()).encode(errors="surrogateescape")
        assert damaged != whole
        file.write_bytes(damaged)
        assert kept.outcome(CELL) is None
        assert len(said) == 1
        assert "damaged" in said[0]
        assert str(file) in said[0]
        kept.keep(CELL, OUTCOME)
        assert bits(kept.outcome(CELL)) == bits(OUTCOME)


def test_a_whole_file_of_another_cell_is_not_taken(tmp_path):
    said, other = [], replace(CELL, seed=1)
    with begin(tmp_path, say=said.append) as kept:
        kept.keep(CELL, OUTCOME)
        kept.keep(other, OUTCOME)
        files = {file.stem: file for file in (tmp_path / "cells").rglob("*.json")}
        files[CELL.key].write_bytes(files[other.key].read_bytes())
        assert kept.outcome(CELL) is None
        assert "holds something else" in said[0]


def test_a_kill_while_writing_leaves_the_old_file_or_none(tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    def killed(*_):
        raise Killed

    with begin(tmp_path):
        pass
    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(Killed), begin(tmp_path / "new"):
        pass
    assert not (tmp_path / "new" / "study.json").exists()
    with begin(tmp_path, resume=True) as kept:
        with pytest.raises(Killed):
            kept.keep(CELL, OUTCOME)
        assert kept.outcome(CELL) is None
    assert (tmp_path / study_folder.TEMPORARY).exists()
    monkeypatch.undo()
    with begin(tmp_path, resume=True) as kept:
        assert not (tmp_path / study_folder.TEMPORARY).exists()
    # Killed before anything of the study was in it, the folder is as good as empty.
    with begin(tmp_path / "new", resume=True) as kept:
        assert kept.outcome(CELL) is None


def write(folder, text):
    folder.mkdir(exist_ok=True)
    (folder / "study.json").write_text(text)


def about(**changes):
    return json.dumps({"format": study_folder.FORMAT, "study": STUDY, "environment": HERE} | changes)


REFUSED = {
    "this study, without --resume": (about(), False, "go on with --resume"),
    "other seeds": (about(study=STUDY | {"seeds": 3}), True, "another study .seeds: 3 there, 2 here."),
    "another grid": (
        about(study=STUDY | {"grids": {"xor": [0.5]}}),
        True,
        r"xor: \[0.5\] there, \[0.5, 1.0\] here",
    ),
    "a newer version": (
        about(format=study_folder.FORMAT + 1),
        True,
        "newer version: its format is 2, this version knows 1",
    ),
    "half a file": (about()[:30], True, "study.json is damaged"),
    "something else": ("[1]", True, "expected a study's specification"),
    "no format": ("{}", True, "expected a study's specification"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_folder_that_is_refused_is_left_alone(case, tmp_path):
    text, resume, message = REFUSED[case]
    write(tmp_path, text)
    with pytest.raises(FolderError, match=message), begin(tmp_path, resume=resume):
        pass
    assert [file.name for file in tmp_path.iterdir()] == ["study.json"]
    assert (tmp_path / "study.json").read_text() == text


def test_other_peoples_files(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(FolderError, match=r"one with thesis\.tex and no study\.json"), begin(tmp_path, resume=True):
        pass
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("resume", [False, True])
def test_not_a_folder(resume, tmp_path):
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(FolderError, match=f"{place}: expected a folder"), begin(place, resume=resume):
            pass


def test_a_folder_that_can_not_be_written(tmp_path, monkeypatch):
    """Root may write anywhere: that the system says no is put in its place."""
    write(tmp_path, about())

    def denied(*args, **options):
        raise PermissionError(13, "Permission denied")

    for call in ("open", "mkdir", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, call, denied)
            folder = tmp_path if call == "open" else tmp_path / "new"
            with pytest.raises(FolderError, match="can be written, got: Permission denied"), begin(folder, resume=True):
                pass
    with begin(tmp_path, resume=True) as kept:
        monkeypatch.setattr(os, "replace", denied)
        with pytest.raises(FolderError, match=r"can't write .*\.json: Permission denied"):
            kept.keep(CELL, OUTCOME)


def test_one_run_at_a_time(tmp_path):
    second = pytest.raises(FolderError, match="another run is at work in it")
    with begin(tmp_path), second, begin(tmp_path, resume=True):
        pass
    with begin(tmp_path, resume=True):
        pass


def test_another_environment_is_told(tmp_path):
    said = []
    with begin(tmp_path):
        pass
    with begin(tmp_path, environment=HERE | {"numpy": "2.5"}, resume=True, say=said.append):
        pass
    (message,) = said
    assert "begun with numpy 2.4, now it is 2.5" in message


def test_a_cell_costs_the_same_number_of_calls_among_many(tmp_path, monkeypatch):
    """No call that looks at the folder as a whole, however many cells it holds."""
    with begin(tmp_path) as kept:
        for name in ("listdir", "scandir", "walk"):
            monkeypatch.setattr(os, name, refuse)
        monkeypatch.setattr(Path, "iterdir", refuse)
        for seed in range(50):
            cell = replace(CELL, seed=seed)
            assert kept.outcome(cell) is None
            kept.keep(cell, OUTCOME)
            assert kept.outcome(cell) is not None
