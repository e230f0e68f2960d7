"""The trainings of the catalogue: what they have in them, and where masks of Dropout come from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

import refnet
from parity.engines import refnet as refnet_engine
from parity.engines.torch import TorchEngine
from parity.families.case import TrainCase
from parity.families.listing import catalogue, select
from parity.records.encoding import decode_array, encode_record
from parity.records.facts import MODULES
from parity.records.record import Train

TRAININGS = [case for case in catalogue() if isinstance(case, TrainCase)]
(DROPPING,) = select("Training/dropout, groups with weight decay")


def dropping() -> Train:
    record = DROPPING.record("full", "float64")
    assert isinstance(record, Train)
    return record


def test_every_loss_that_fit_takes_is_in_a_training() -> None:
    of_two = {name for name, facts in MODULES.items() if name.endswith(("Loss", "Error")) and len(facts.inputs) == 2}
    # It has parameters of its own, which no optimizer of the network holds.
    assert {case.loss.type for case in TRAININGS} == of_two - {"LinearCrossEntropyLoss"}


def test_layers_and_options_that_mistakes_hide_in_are_in_trainings() -> None:
    inside = {name for case in TRAININGS for name in case.network.types()}
    assert {"Conv2d", "BatchNorm1d", "LayerNorm", "Dropout", "LSTMCell", "Embedding"} <= inside
    assert any(case.groups for case in TRAININGS)
    decays = {
        args["weight_decay"]
        for case in TRAININGS
        for args in (case.optimizer.args, *(own for _, own in case.groups or ()))
        if "weight_decay" in args and case.batch_size != 1
    }
    # Powers of 1 and 2 hide a decay that is squared, or halved.
    assert {1.0, 2.0} < decays


def test_masks_of_a_training_are_what_torch_drops() -> None:
    """In the order of a user's program: one seed, then every update's forward pass."""
    record = dropping()
    torch.manual_seed(record.mask_seed)
    drops = {"0": torch.nn.Dropout(0.25), "3": torch.nn.Dropout(0.5)}
    for k, batch in enumerate(record.batches):
        for name, mask in record.masks_of(k).items():
            drawn = drops[name](torch.ones(len(batch), *mask.shape[1:], dtype=torch.float64)) != 0
            np.testing.assert_array_equal(mask, drawn.numpy())


def test_updates_and_samples_have_masks_of_their_own() -> None:
    for mask in dropping().masks.values():
        # Of the first update, which is of three samples, and of the first two updates.
        assert not (mask[0] == mask[0, :1]).all()
        assert not (mask[0] == mask[1]).all()


def test_refnet_draws_the_masks_by_itself(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    """`refnet.fit`, captured, with Dropout's own generator, gives what given masks give."""
    record, histories = dropping(), []
    fit = refnet.fit

    def kept(*args, **options):  # type: ignore[no-untyped-def]
        histories.append(fit(*args, **options))
        return histories[-1]

    monkeypatch.setattr(refnet, "fit", kept)
    drawn = refnet_engine.RefnetEngine().train(record)
    assert [history.why_plain for history in histories] == ["", "capture=False"]
    given = refnet_engine.RefnetEngine().train(replace(record, mask_seed=None))
    assert len(histories) == 2
    for name, values in given.items():
        np.testing.assert_array_equal(drawn[name], values)


def test_masks_that_no_generator_drew_are_taken_as_they_are() -> None:
    record = dropping().first(5)
    none_dropped = {name: np.ones_like(mask) for name, mask in record.masks.items()}
    other = replace(record, masks=none_dropped)
    answers = [engine.train(other) for engine in (refnet_engine.RefnetEngine(), TorchEngine())]
    right = refnet_engine.RefnetEngine().train(record)
    for name, values in answers[0].items():
        np.testing.assert_allclose(values, answers[1][name], rtol=1e-9, atol=1e-12)
    assert not np.array_equal(answers[0]["loss"], right["loss"])


def test_masks_travel_to_engines_in_other_languages() -> None:
    record = dropping()
    sent = encode_record(record)["masks"]
    assert list(sent) == ["0", "3"]
    for name, mask in record.masks.items():
        np.testing.assert_array_equal(decode_array(sent[name], name, mask.size), mask)
    assert "masks" not in encode_record(select("Training/L1Loss")[0].record("full", "float64"))  # type: ignore[arg-type]
