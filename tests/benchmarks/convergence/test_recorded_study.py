"""A study read from its tables, and tables that are none."""

import re
import shutil

import pytest

from benchmarks.convergence import recorded_study, study_tables
from benchmarks.convergence.arms import Arm


@pytest.fixture(scope="module")
def original(folder_with):
    return folder_with(problems=("xor",), arms=(Arm(None), Arm(1)), seeds=2, iterations=3) / "tables"


@pytest.fixture
def folder(original, tmp_path):
    return shutil.copytree(original, tmp_path / "tables")


def test_what_a_study_is(study_of):
    study = study_of()
    assert study.problems == ["line", "iris"]
    assert (study.engine, study.iterations) == ("refnet", 1000)
    assert study.sizes("line") == [4, 50]
    assert [arm.name for arm in study.plain("iris")] == ["batch", "mini-batch 50", "mini-batch 4", "stochastic"]
    assert Arm(1, "replacement") in study.arms("line")
    assert study.least("line") == 0.25
    assert study.least("iris") == 0
    assert study.outcome("line") == ("test_loss", "held-out loss")
    assert study.outcome("iris") == ("test_accuracy", "held-out accuracy")
    assert study.environment["numpy"] == "2.4.0"


def test_what_is_not_held_out_is_shown_as_it_was_trained(study_of):
    study = study_of(problems=("xor",), arms=(Arm(None),))
    assert study.outcome("xor") == ("train_accuracy", "training accuracy")


def test_the_engine_shown_is_refnet_if_it_is_there(study_of):
    few = {"problems": ("xor",), "arms": (Arm(None),)}
    assert study_of(**few, engines=("torch",)).engine == "torch"
    assert study_of(**few, engines=("refnet", "torch")).engine == "refnet"


def test_losses_are_shown_above_the_least_one_down_to_its_rounding(study_of):
    import pandas as pd

    losses = pd.Series([0.75, 0.25, 0.25 - 1e-9])
    assert list(study_of().excess("line", losses)) == [0.5, 2.0**-54, 2.0**-54]
    assert list(study_of().excess("iris", losses)) == list(losses)


@pytest.mark.parametrize("name", [*(f"{name}.csv" for name in study_tables.COLUMNS), "environment.json"])
def test_a_missing_table(name, folder):
    (folder / name).unlink()
    with pytest.raises(ValueError, match=re.escape(name)):
        recorded_study.read(folder)


def test_a_missing_folder(tmp_path):
    with pytest.raises(ValueError, match=r"expected a study's table, found no file .*problems\.csv"):
        recorded_study.read(tmp_path / "none")


@pytest.mark.parametrize("name", ["problems", "sweep", "rates", "targets", "curves", "bands", "summary"])
def test_an_empty_table_of_what_each_study_has(name, folder):
    file = folder / f"{name}.csv"
    file.write_text(file.read_text().splitlines(keepends=True)[0])
    with pytest.raises(ValueError, match=rf"{name}\.csv: expected rows, found none"):
        recorded_study.read(folder)


def test_a_missing_column(folder):
    file = folder / "bands.csv"
    file.write_text(file.read_text().replace("train_loss_low", "train_loss_lowest"))
    with pytest.raises(ValueError, match=r"bands\.csv: expected the columns .*train_loss_low,"):
        recorded_study.read(folder)


def test_text_among_numbers(folder):
    file = folder / "bands.csv"
    head, first, *rest = file.read_text().splitlines()
    fields = first.split(",")
    fields[head.split(",").index("train_loss_low")] = "small"
    file.write_text("\n".join([head, ",".join(fields), *rest]))
    with pytest.raises(ValueError, match=r"bands\.csv: expected numbers in the column train_loss_low, found text"):
        recorded_study.read(folder)


@pytest.mark.parametrize(
    ("text", "message"), [("[]", "expected an object, found list"), ("{", r"environment\.json: expected JSON")]
)
def test_an_environment_that_is_none(text, message, folder):
    (folder / "environment.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        recorded_study.read(folder)


def test_a_file_in_place_of_the_folder(folder):
    shutil.rmtree(folder)
    folder.write_text("")
    with pytest.raises(ValueError, match=r"problems\.csv"):
        recorded_study.read(folder)
