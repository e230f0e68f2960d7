"""Against torch.utils.data: the same indices over 50 epochs, and the same generator state after each."""

from itertools import islice

import numpy as np
import pytest
import torch
from torch.utils import data

from refnet.generator import Generator, default_generator, manual_seed
from refnet.train import index_samplers
from refnet.train.sampler import batches

EPOCHS = 50
WEIGHTS = [0.1, 0.9, 0.0, 0.4, 0.7, 3.0, 0.6]

SAMPLERS = [
    ("SequentialSampler", (range(7),), {}),
    *(
        ("RandomSampler", (range(n),), {"replacement": replacement, "num_samples": samples})
        for n in (1, 7, 100)
        for replacement in (False, True)
        for samples in (None, 1, 5, 32, 33, 200)
    ),
    ("SubsetRandomSampler", ([4, 9, 2, 7],), {}),
    *(
        ("WeightedRandomSampler", (WEIGHTS, samples), {"replacement": replacement})
        for samples, replacement in ((1, True), (5, True), (100, True), (1, False), (6, False))
    ),
]


@pytest.fixture
def restored_defaults():
    state = default_generator.get_state()
    with torch.random.fork_rng(devices=[]):
        yield
    default_generator.set_state(state)


@pytest.mark.usefixtures("restored_defaults")
@pytest.mark.parametrize("given", [True, False])
@pytest.mark.parametrize(("name", "args", "options"), SAMPLERS)
def test_50_epochs_are_torchs(name, args, options, given):
    ours, theirs = (
        (Generator(2**32 + 9), torch.Generator().manual_seed(2**32 + 9))
        if given
        else (manual_seed(2**32 + 9), torch.manual_seed(2**32 + 9))
    )
    mine, others = dict(options), dict(options)
    if given and name != "SequentialSampler":
        mine["generator"], others["generator"] = ours, theirs
    actual, expected = (getattr(of, name)(*args, **more) for of, more in ((index_samplers, mine), (data, others)))
    assert len(actual) == len(expected)
    for _ in range(EPOCHS):
        assert list(actual) == list(expected)
        np.testing.assert_array_equal(ours.get_state(), theirs.get_state().numpy())
    # An epoch left in the middle has drawn what torch has.
    assert list(islice(actual, 3)) == list(islice(expected, 3))
    np.testing.assert_array_equal(ours.get_state(), theirs.get_state().numpy())


@pytest.mark.usefixtures("restored_defaults")
@pytest.mark.parametrize("given", [True, False])
@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("replacement", [None, False, True])
@pytest.mark.parametrize(("n", "batch_size"), [(10, 3), (12, 4), (100, 32), (65, 1)])
def test_50_epochs_of_a_data_loader(n, batch_size, replacement, drop_last, given):
    """`replacement`: None for an order that is not shuffled."""
    ours, theirs = (Generator(3), torch.Generator().manual_seed(3)) if given else (manual_seed(3), torch.manual_seed(3))
    samples, own = data.TensorDataset(torch.arange(n)), theirs if given else None
    sampler = None if replacement is None else data.RandomSampler(samples, replacement=replacement, generator=own)
    loader = data.DataLoader(samples, batch_size, sampler=sampler, drop_last=drop_last, generator=own)
    actual = batches(
        n,
        batch_size,
        shuffle=replacement is not None,
        replacement=bool(replacement),
        drop_last=drop_last,
        generator=ours if given else None,
    )
    orders = []
    for _ in range(EPOCHS):
        epoch = [batch.numpy() for (batch,) in loader]
        orders.append(np.concatenate(epoch).tolist())
        assert orders[-1] == np.concatenate([np.arange(n)[next(actual)] for _ in epoch]).tolist()
    assert (orders[0] == orders[1]) == (replacement is None)


@pytest.mark.parametrize(
    ("name", "args", "options", "error", "message"),
    [
        ("RandomSampler", ([],), {}, ValueError, "expected num_samples as a positive integer, got 0"),
        ("RandomSampler", (10,), {}, TypeError, r"expected data_source with a length, such as range\(n\), got 10"),
        ("RandomSampler", ([1],), {"num_samples": 0}, ValueError, "expected num_samples as a positive integer, got 0"),
        ("RandomSampler", ([1],), {"num_samples": 2.0}, ValueError, "expected num_samples .*, got 2.0"),
        ("RandomSampler", ([1],), {"replacement": 1}, TypeError, "expected replacement as a bool, got 1"),
        ("WeightedRandomSampler", ([1.0], True), {}, ValueError, "expected num_samples .*, got True"),
        ("WeightedRandomSampler", ([1.0], 1), {"replacement": 1}, ValueError, "expected replacement as a bool, got 1"),
        ("WeightedRandomSampler", ([[1.0]], 1), {}, ValueError, r"expected weights \(k,\), got shape \(1, 1\)"),
    ],
)
def test_what_torch_refuses_is_refused(name, args, options, error, message):
    with pytest.raises(error, match=rf"^{name}: {message}"):
        getattr(index_samplers, name)(*args, **options)
    with pytest.raises(error):
        getattr(data, name)(*args, **options)


@pytest.mark.parametrize("name", ["RandomSampler", "SubsetRandomSampler"])
def test_a_strange_generator_is_refused(name):
    with pytest.raises(TypeError, match=r"expected a refnet.Generator or None, .*got torch"):
        getattr(index_samplers, name)([1, 2], generator=torch.Generator())
