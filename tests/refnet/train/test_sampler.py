"""Against torch.utils.data.DataLoader: the same batches, and the same generator state after each."""

from collections import Counter
from itertools import groupby, islice

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, RandomSampler, TensorDataset

from refnet.generator import Generator, default_generator, manual_seed
from refnet.train.sampler import Order, batches, order

SEEDS = (0, 2**31, 2**32 + 5, 2**40, -1)
CASES = [
    (n, batch_size, shuffle, drop_last)
    for n in (1, 2, 5, 10, 12)
    for batch_size in sorted({1, 2, 3, 4, n, n + 1, 100})
    for shuffle in (False, True)
    for drop_last in (False, True)
    if batch_size <= n or not drop_last
]


def torch_batches(n, batch_size, shuffle, drop_last, generator):
    loader = DataLoader(TensorDataset(torch.arange(n)), batch_size, shuffle, drop_last=drop_last, generator=generator)
    while True:
        for (batch,) in loader:
            yield batch.numpy()


@pytest.fixture
def restored_defaults():
    state = default_generator.get_state()
    with torch.random.fork_rng(devices=[]):
        yield
    default_generator.set_state(state)


def assert_same_course(case, ours, theirs, given, torch_given):
    """Two epochs and a bit, with the state compared after every batch."""
    n, batch_size, shuffle, drop_last = case
    actual = batches(n, batch_size, shuffle=shuffle, drop_last=drop_last, generator=given)
    expected = torch_batches(n, batch_size, shuffle, drop_last, torch_given)
    for batch, torch_batch in islice(zip(actual, expected, strict=True), 2 * -(-n // batch_size) + 2):
        np.testing.assert_array_equal(np.arange(n)[batch], torch_batch)
        np.testing.assert_array_equal(ours.get_state(), theirs.get_state().numpy())


@pytest.mark.parametrize("case", CASES, ids=str)
def test_batches_and_states_are_a_dataloaders(case):
    for seed in SEEDS:
        ours, theirs = Generator(seed), torch.Generator().manual_seed(seed)
        assert_same_course(case, ours, theirs, ours, theirs)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_sizes_are_those_of_a_dataloaders_batches(case):
    n, batch_size, _, drop_last = case
    ours = Order(n, batch_size, False, False, drop_last)
    loader = DataLoader(TensorDataset(torch.arange(n)), batch_size, drop_last=drop_last)
    assert ours.updates_per_epoch == len(loader)
    sizes = [len(batch) for _ in range(4) for (batch,) in loader]
    runs = [len(list(run)) for _, run in groupby(sizes)]
    # Where all batches are of one size the run has no end.
    alike = [left for run in runs for left in range(run, 0, -1)] if len(runs) > 1 else [None] * len(sizes)
    for k in range(3 * len(loader)):
        assert (ours.size(k), ours.alike(k)) == (sizes[k], alike[k])
        counted = Counter(sizes[:k])
        assert {size: count for size, count in ours.sizes(k).items() if count} == counted


@pytest.mark.parametrize("size", [1, 3, 4, 12, 100])
def test_the_whole_set_is_one_batch_of_an_epoch(size):
    ours = Order(size, None, False, False, False)
    assert (ours.updates_per_epoch, ours.size(5), ours.sizes(7), ours.alike(2)) == (1, size, {size: 7}, None)
    assert not ours.drawn


@pytest.mark.parametrize("case", [case for case in CASES if case[2]], ids=str)
def test_what_is_drawn_after_the_last_batch_is_drawn_at_the_end(case):
    n, batch_size, _, drop_last = case
    ours = Order(n, batch_size, True, False, drop_last)
    for updates in range(2 * ours.updates_per_epoch + 1):
        g, theirs = Generator(3), torch.Generator().manual_seed(3)
        for _ in islice(ours.batches(g), updates):
            pass
        ours.finish(g, updates)
        loader = DataLoader(
            TensorDataset(torch.arange(n)), batch_size, shuffle=True, drop_last=drop_last, generator=theirs
        )
        epochs, left = divmod(updates, len(loader))
        for _ in range(epochs):
            list(loader)
        if left:
            list(islice(loader, left))
        np.testing.assert_array_equal(g.get_state(), theirs.get_state().numpy())


@pytest.mark.parametrize("shuffle", [False, True])
def test_several_batches_at_once_are_those_one_after_the_other(shuffle):
    # Each epoch has 4: the last of these goes over its end.
    for updates in ([2, 2, 1], [1, 3], [4, 4], [3, 3, 7]):
        ours, theirs = Generator(4), torch.Generator().manual_seed(4)
        actual = batches(8, 2, shuffle=shuffle, generator=ours)
        expected = torch_batches(8, 2, shuffle, False, theirs)
        for count in updates:
            np.testing.assert_array_equal(actual.take(count), np.stack(list(islice(expected, count))))
            np.testing.assert_array_equal(ours.get_state(), theirs.get_state().numpy())
    with pytest.raises(ValueError, match="take expected 3 full batches, got one of 1 samples"):
        batches(5, 2, shuffle=shuffle, generator=Generator(4)).take(3)
    assert batches(5, None).take(3) is None


@pytest.mark.parametrize(("batch_size", "drop_last"), [(32, False), (32, True), (1, False)])
def test_the_order_of_fifty_epochs_is_torchs(batch_size, drop_last):
    ours, theirs, n = Generator(7), torch.Generator().manual_seed(7), 97
    actual = batches(n, batch_size, shuffle=True, drop_last=drop_last, generator=ours)
    expected = torch_batches(n, batch_size, True, drop_last, theirs)
    updates = 50 * (n // batch_size if drop_last else -(-n // batch_size))
    for batch, torch_batch in islice(zip(actual, expected, strict=True), updates):
        np.testing.assert_array_equal(batch, torch_batch)


@pytest.mark.usefixtures("restored_defaults")
@pytest.mark.parametrize("case", CASES, ids=str)
def test_batches_and_states_without_a_generator(case):
    for seed in (3, 2**40):
        manual_seed(seed)
        torch.manual_seed(seed)
        assert_same_course(case, default_generator, torch.default_generator, None, None)


@pytest.mark.usefixtures("restored_defaults")
@pytest.mark.parametrize("given", [True, False])
@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("n", [1, 5, 31, 32, 33, 64, 100])
def test_draws_with_replacement_are_a_random_samplers(n, drop_last, given):
    for batch_size in sorted({1, 3, 32, n}):
        if drop_last and batch_size > n:
            continue
        ours, theirs = (
            (Generator(7), torch.Generator().manual_seed(7)) if given else (manual_seed(7), torch.manual_seed(7))
        )
        data, generator = TensorDataset(torch.arange(n)), theirs if given else None
        sampler = RandomSampler(data, replacement=True, generator=generator)
        loader = DataLoader(data, batch_size, sampler=sampler, drop_last=drop_last, generator=generator)
        actual = batches(
            n, batch_size, shuffle=True, replacement=True, drop_last=drop_last, generator=ours if given else None
        )
        for _ in range(2):
            for (expected,) in loader:
                np.testing.assert_array_equal(next(actual), expected.numpy())
                np.testing.assert_array_equal(ours.get_state(), theirs.get_state().numpy())


def test_replacement_without_shuffle_is_refused_at_once():
    with pytest.raises(ValueError, match="expected replacement with shuffle"):
        batches(3, 1, replacement=True)


@pytest.mark.parametrize("stop", range(9))
@pytest.mark.parametrize("batch_size", [3, 5])
def test_a_loop_left_in_the_middle_of_an_epoch_and_begun_anew_goes_on_as_in_torch(stop, batch_size):
    ours, theirs = Generator(8), torch.Generator().manual_seed(8)
    for _ in range(3):
        actual = order(10, batch_size, stop, shuffle=True, generator=ours)
        expected = list(islice(torch_batches(10, batch_size, True, False, theirs), stop))
        assert [a.tolist() for a in actual] == [e.tolist() for e in expected]
        np.testing.assert_array_equal(ours.get_state(), theirs.get_state().numpy())


def test_nothing_is_drawn_before_a_batch_is_asked_for():
    g = Generator(0)
    endless = batches(10, 3, shuffle=True, generator=g)
    np.testing.assert_array_equal(g.get_state(), Generator(0).get_state())
    next(endless)
    assert (g.get_state() != Generator(0).get_state()).any()


@pytest.mark.parametrize("shuffle", [False, True])
def test_none_is_the_whole_set_in_its_own_order_and_draws_nothing(shuffle):
    g = Generator(0)
    assert list(islice(batches(7, None, shuffle=shuffle, drop_last=True, generator=g), 3)) == [slice(0, 7)] * 3
    np.testing.assert_array_equal(g.get_state(), Generator(0).get_state())


def test_unshuffled_batches_are_slices_and_shuffled_ones_index_arrays():
    assert list(islice(batches(5, 2, generator=Generator(0)), 4)) == [
        *(slice(0, 2), slice(2, 4), slice(4, 5), slice(0, 2))
    ]
    for batch in islice(batches(5, 2, shuffle=True, generator=Generator(0)), 4):
        assert isinstance(batch, np.ndarray)
        assert batch.dtype == np.int64


def test_a_batch_has_one_sample_unless_told_as_in_torch():
    (first,) = next(iter(DataLoader(TensorDataset(torch.arange(3)))))
    assert next(batches(3, generator=Generator(0))) == slice(0, len(first)) == slice(0, 1)


def test_every_epoch_sees_every_sample_once_in_an_order_of_its_own():
    epochs = np.concatenate(order(12, 4, 9, shuffle=True, generator=Generator(0))).reshape(3, 12)
    np.testing.assert_array_equal(np.sort(epochs), np.broadcast_to(np.arange(12), (3, 12)))
    assert len({tuple(epoch) for epoch in epochs.tolist()}) == 3


def test_order_gives_arrays_of_their_own():
    first, second, *_ = order(4, None, 2)
    first[...] = -1
    np.testing.assert_array_equal(second, [0, 1, 2, 3])
    assert second.dtype == np.int64
    assert order(4, 2, 0) == []


@pytest.mark.parametrize("value", [0, -1, 2.0, True, "2"])
@pytest.mark.parametrize("shuffle", [False, True])
def test_counts_that_are_no_positive_integers_are_refused_at_once(value, shuffle):
    with pytest.raises(ValueError, match=rf"batches expected batch_size to be a positive integer, got {value!r}"):
        batches(10, value, shuffle=shuffle)
    for batch_size in (1, None):
        with pytest.raises(ValueError, match=rf"batches expected n to be a positive integer, got {value!r}"):
            batches(value, batch_size, shuffle=shuffle)


@pytest.mark.parametrize("shuffle", [False, True])
def test_dropping_the_only_batch_is_refused_at_once(shuffle):
    with pytest.raises(ValueError, match=r"batch_size <= n with drop_last .* got 4 > 3"):
        batches(3, 4, shuffle=shuffle, drop_last=True)


@pytest.mark.parametrize("shuffle", [False, True])
def test_a_strange_generator_is_refused_at_once(shuffle):
    with pytest.raises(TypeError, match=r"expected a refnet.Generator or None, .*got torch"):
        batches(3, 1, shuffle=shuffle, generator=torch.Generator())


def test_order_refuses_a_negative_number_of_updates():
    with pytest.raises(ValueError, match="expected updates >= 0, got -1"):
        order(3, 1, -1)
