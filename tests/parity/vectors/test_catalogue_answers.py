"""The catalogue's answers: found under the digest of what was asked, and under no other."""

from dataclasses import replace

import numpy as np
import pytest

from parity.engines.refnet import RefnetEngine
from parity.families.case import DTYPES, OptimizeCase, TrainCase, VJPCase
from parity.families.listing import catalogue
from parity.records.record import VJP, Spec, UsageError
from parity.run.certifying import certify
from parity.vectors import catalogue_answers, store
from parity.vectors.catalogue_answers import digest, file_name, key, training, truths

BY_NAME = {case.name: case for case in catalogue()}
LINEAR = BY_NAME["Linear/batch 3"]
SGD = BY_NAME["SGD/lr 0.1, momentum 0.9"]


# ---- digests


def test_on_the_grid_one_answer_serves_every_dtype():
    for case in (LINEAR, SGD):
        grid, full = ({key(case.record(family, dtype)) for dtype in DTYPES} for family in ("grid", "full"))
        # A learning rate of 0.1 is the same number in every dtype; values of the full family are not.
        assert (len(grid), len(full)) == (1, 2)


def test_a_training_is_kept_for_each_dtype(short_training):
    keys = {key(short_training.record("full", dtype)) for dtype in DTYPES}
    assert {k.partition("-")[2] for k in keys} == set(DTYPES)


def test_keys_are_the_same_on_every_machine():
    assert key(VJP(Spec("ReLU"), {}, (np.array([1.0, -2.0]),), (np.array([0.5, 0.25]),))) == "ab87156235a3a0c3"


RECORD = LINEAR.record("full", "float64")


@pytest.mark.parametrize(
    "change",
    [
        lambda r: replace(r, spec=replace(r.spec, args={**r.spec.args, "bias": False})),
        lambda r: replace(r, spec=replace(r.spec, type="Bilinear")),
        lambda r: replace(r, arrays={**r.arrays, "bias": np.nextafter(r.arrays["bias"], 9)}),
        lambda r: replace(r, arrays={"weights": r.arrays["weight"], "bias": r.arrays["bias"]}),
        lambda r: replace(r, inputs=(r.inputs[0][::-1],)),
        lambda r: replace(r, inputs=(r.inputs[0].reshape(1, *r.inputs[0].shape),)),
        lambda r: replace(r, inputs=(*r.inputs, r.inputs[0])),
        lambda r: replace(r, grad_outputs=(-r.grad_outputs[0],)),
        lambda r: replace(r, training=False),
    ],
)
def test_what_changes_in_a_record_changes_its_digest(change):
    assert digest(change(RECORD)) != digest(RECORD)


def test_memory_layout_does_not():
    (x,) = RECORD.inputs
    wide = np.zeros((*x.shape, 2))
    wide[..., 0] = x
    for same in (np.asfortranarray(x), wide[..., 0], x.astype(">f8")):
        assert digest(replace(RECORD, inputs=(same,))) == digest(RECORD)


def test_no_two_records_of_the_catalogue_share_a_digest_unless_they_are_equal():
    """The VJP cases' records: a digest of 16 hexadecimal digits is long enough."""
    contents = {}
    for case in catalogue():
        if isinstance(case, VJPCase) and case.name.startswith(("Linear/", "Network/")):
            for family in case.families:
                record = case.record(family, "float64")
                numbers = tuple(a.tobytes() for a in (*record.arrays.values(), *record.inputs, *record.grad_outputs))
                content = (repr(record.spec), tuple(record.arrays), record.training, numbers)
                assert contents.setdefault(digest(record), content) == content
    assert len(contents) > 50


# ---- finding


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", [LINEAR, SGD], ids=lambda case: case.name)
def test_the_kept_answer_is_the_computed_one(case, dtype):
    pytest.importorskip("flint")
    for family in case.families:
        computed = certify(case, family, dtype)
        for name, truth in truths(case, family, dtype).items():
            np.testing.assert_array_equal(truth.hi, computed[f"{name}.hi"])
            np.testing.assert_array_equal(truth.lo, computed[f"{name}.lo"])
            assert not truth.undecided.any()


def test_at_least_32_digits():
    for truth in truths(LINEAR, "full", "float64").values():
        assert (abs(truth.lo) <= np.spacing(abs(truth.hi)) / 2).all()
    assert any(truth.lo.any() for truth in truths(LINEAR, "full", "float64").values())


def test_kept_answers_are_read_only():
    truth = truths(LINEAR, "full", "float64")["output"]
    with pytest.raises(ValueError, match="read-only"):
        truth.hi[...] = 0


@pytest.mark.parametrize("case", [LINEAR, SGD], ids=lambda case: case.name)
def test_a_stale_answer_is_not_found(case):
    if isinstance(case, OptimizeCase):
        changed = replace(case, spec=replace(case.spec, args={**case.spec.args, "lr": 0.2}))
    else:
        changed = replace(case, training=False)
    with pytest.raises(UsageError) as caught:
        truths(changed, "full", "float32")
    assert str(caught.value) == (
        f"{case.name} (full, float32): expected a certified answer to this record in {file_name(case)}.safetensors, "
        "got none: the case has changed since. Compute it with: parity certify"
    )


def test_a_refused_file_is_refused(tmp_path):
    store.write("linear", {"x": np.zeros(1)}, {}, tmp_path)
    (tmp_path / "linear.safetensors").write_bytes(b"")
    with pytest.raises(UsageError, match="expected SHA-256"):
        truths(LINEAR, "full", "float64", tmp_path)


def test_undecided_elements_are_kept(tmp_path):
    arrays = {"output.hi": np.array([1.0, 0.0]), "output.lo": np.zeros(2), "output.undecided": np.uint8([0, 1])}
    catalogue_answers.write("linear", {key(RECORD): arrays}, tmp_path)
    (truth,) = truths(LINEAR, "full", "float64", tmp_path).values()
    assert truth.undecided.tolist() == [False, True]


# ---- trainings


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_kept_of_a_training(short_training, short_vectors, dtype):
    record = short_training.record("full", dtype)
    kept = training(short_training, "full", dtype, short_vectors)
    assert set(kept.bounds) == {"loss", *(f"param.{name}" for name in record.arrays)}
    assert kept.bounds.keys() <= kept.free.keys()
    assert all(len(kept.free[name].hi) == len(bound) == 3 for name, bound in kept.bounds.items())
    assert list(kept.steps) == [1, 2, 3, 4, 6, 7, 9, 12]

    run = RefnetEngine().train(record)
    for number, (single, answer) in kept.steps.items():
        np.testing.assert_array_equal(single.batches[0], record.batches[number - 1])
        for name, before in single.arrays.items():
            assert before.dtype == dtype
            np.testing.assert_array_equal(before, run[f"param.{name}"][number - 1])
        assert bool(single.state) == (number > 1)
        assert answer["update.0.weight"].shape == (1, 3, 2)


def test_a_training_that_is_certified_nowhere_has_single_updates_only(short_training, tmp_path):
    pytest.importorskip("flint")
    case = replace(short_training, certified=())
    arrays = certify(case, "full", "float64")
    assert {name.split(".")[0] for name in arrays} == {"step"}
    catalogue_answers.write(file_name(case), {key(case.record("full", "float64")): arrays}, tmp_path)
    kept = training(case, "full", "float64", tmp_path)
    assert (dict(kept.free), dict(kept.bounds)) == ({}, {})
    assert kept.steps


def test_proving_starts_from_the_kept_weights(short_training):
    """Another machine's exp gives another run: its weights are proved, not compared with this machine's."""
    pytest.importorskip("flint")
    case = replace(short_training, certified=())
    kept = certify(case, "full", "float64")
    moved = {
        name: np.nextafter(a, 9) if name == "step.6.before.0.weight" else a
        for name, a in kept.items()
        if not name.startswith("step.12.")
    }
    again = certify(case, "full", "float64", moved)
    assert again.keys() == moved.keys()
    np.testing.assert_array_equal(again["step.6.before.0.weight"], moved["step.6.before.0.weight"])
    assert (again["step.6.after.loss.lo"] != kept["step.6.after.loss.lo"]).any()
    np.testing.assert_array_equal(again["step.7.after.loss.lo"], kept["step.7.after.loss.lo"])


def test_every_group_has_its_file(short_training):
    assert isinstance(short_training, TrainCase)
    assert file_name(short_training) == "short"
    assert {file_name(case) for case in catalogue()} <= set(store.names())
