"""python -m benchmarks trainings: random trainings in every captured way, one in a hundred of those that are committed
as results; and that what would be wrong is seen.

In every run of the tests those of them are done that have a layer, an option or a way of calling which none before them
had; `-m slow` does all.
"""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks.trainings import compare, draw, drawn_optimizers
from benchmarks.trainings.command import summary, trainings
from refnet.train.capture import storage
from refnet.train.capture.native import lowering

pytest.importorskip("llvmlite")


COUNT = 200


def with_something_new():
    """The trainings that have a feature which none before them has."""
    known = set()
    for seed in range(COUNT):
        features = set(draw.training(seed).features)
        if not features <= known:
            yield seed
        known |= features


NEW = list(with_something_new())
PARTS = 8


def assert_the_same_bits(seeds):
    outcomes = list(map(compare.outcome, seeds))
    assert [one for one in outcomes if one.differs] == []
    assert {"replayed", "machine code"} <= {way for one in outcomes for way in one.captured}
    # Every training that can be one of an ensemble is.
    assert ["ensemble" in one.captured for one in outcomes] == [not draw.training(seed).alone for seed in seeds]


@pytest.mark.parametrize("part", range(PARTS))
def test_every_way_leaves_the_bits_of_the_plain_training(part):
    assert_the_same_bits(NEW[part::PARTS])


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, COUNT, 20))
def test_every_way_leaves_the_bits_of_all_plain_trainings(first):
    assert_the_same_bits(range(first, first + 20))


def test_they_have_every_feature():
    """Every one that any of many has."""
    features = {feature for seed in NEW for feature in draw.training(seed).features}
    assert features == {feature for seed in range(2_000) for feature in draw.training(seed).features}


def test_a_training_is_the_same_every_time():
    for seed in range(30):
        one, other = draw.training(seed), draw.training(seed)
        assert one.features == other.features
        first, second = one.begin(0), other.begin(0)
        np.testing.assert_equal(first.net.state_dict(), second.net.state_dict())
        np.testing.assert_equal(first.inputs, second.inputs)


def test_what_is_drawn_is_many_things():
    found = summary([compare.Outcome(seed, draw.training(seed).features, (), (), ()) for seed in range(2_000)])
    expected = {f"callback {name}" for name in draw.CALLBACKS} | {f"schedule {name}" for name in draw.SCHEDULES}
    expected |= {f"layout {name}" for name in draw.LAYOUTS} | {
        "Conv2d",
        "BatchNorm1d",
        "Dropout",
        "Undeclared",
        "Counted",
        "TransformerEncoderLayer",
        "MultiheadAttention",
        "LSTMCell",
        "LayerNorm",
        "residual",
        "clip_norm",
        "long arrays",
    }
    expected |= drawn_optimizers.OPTIONS.keys() | drawn_optimizers.SCHEDULERS.keys()
    assert expected <= found["features"].keys()


def test_long_arrays_are_computed_block_by_block(monkeypatch):
    """Trainings with them reach the loops that are written for them, and leave the bits of the plain ones."""
    monkeypatch.setattr(draw, "LONG", 1.0)
    blocks, fixed = [], lowering.Lowering.done
    monkeypatch.setattr(lowering.Lowering, "done", lambda self: blocks.append(len(self.inside)) or fixed(self))
    outcomes = list(map(compare.outcome, range(1, 5)))
    assert [one for one in outcomes if one.differs] == []
    assert sum(map(bool, blocks)) >= 2


def test_a_difference_is_seen_and_told(monkeypatch, tmp_path):
    """As if arrays were not written back after captured updates."""
    monkeypatch.setattr(storage.Storage, "settle", lambda self: None)
    assert compare.outcome(0).differs


def test_the_command(tmp_path):
    path = tmp_path / "found.json"
    done = CliRunner().invoke(trainings, ["--count", "2", "--first", "5", "--json", str(path)])
    assert (done.exit_code, done.output.split(",")[0]) == (0, "2 trainings")
    found = json.loads(path.read_text())
    assert (found["trainings"], found["first"], found["different"]) == (2, 5, 0)
    done = CliRunner().invoke(trainings, ["--count", "1", "--json", str(tmp_path / "missing" / "x")])
    assert done.exit_code == 2
    assert "expected a place to write to, got: No such file or directory" in done.output


def test_it_goes_on_where_it_ended(tmp_path):
    path, whole = tmp_path / "found.json", tmp_path / "whole.json"
    for count, *options in (("2",), ("4", "--resume")):
        done = CliRunner().invoke(trainings, ["--count", count, "--json", str(path), *options])
        assert done.exit_code == 0, done.output
    CliRunner().invoke(trainings, ["--count", "4", "--json", str(whole)])
    found, expected = (json.loads(file.read_text()) | {"seconds": 0} for file in (path, whole))
    assert found == expected
    for options in (["--resume"], ["--resume", "--json", str(path), "--first", "7"], ["--resume", "--json", "none"]):
        done = CliRunner().invoke(trainings, ["--count", "4", *options])
        assert done.exit_code == 2
        assert "expected" in done.output
