"""What every class of refnet.nn draws when it is made, against torch.nn from the same seed, bit for bit.

The arguments are those of the class in parity's catalogue, so that a new class is compared as soon as it has cases.
"""

from __future__ import annotations

import inspect
import warnings
from typing import Any

import numpy as np
import pytest
import torch

from parity.families.case import TrainCase
from parity.families.listing import catalogue
from parity.records.facts import MODULES
from parity.records.record import Spec
from refnet import nn
from refnet.generator import Generator

pytestmark = pytest.mark.arithmetic

LACKING = {
    "HalfSquaredError": "torch has no such loss; it has no parameters",
    "SwiGLU": "torch has no such block: compared below with three of torch's Linear",
    "GEGLU": "torch has no such block: compared below with three of torch's Linear",
    "ScaledDotProductAttention": "a function in torch; it has no parameters",
    "RotaryEmbedding": "torch has none; it has no parameters",
    "Graph": "a container: its modules are made before it",
}
"""Classes that torch.nn has not, and what is done about them."""

fused = pytest.mark.skipif(
    torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"),
    reason="refnet.generator's claim is for torch on AVX2 and AVX512, where uniform_ is fused",
)


def constructions() -> dict[str, list[tuple[Spec, dict[str, Any]]]]:
    """For every class the different specifications of its cases, and the arrays that its constructor takes."""
    found: dict[str, dict[str, tuple[Spec, dict[str, Any]]]] = {name: {} for name in MODULES}
    for case in catalogue():
        if isinstance(case, TrainCase) or case.spec.type not in MODULES:
            continue
        given = {}
        if case.spec.facts.arrays:
            record = case.record(case.families[0], "float64")
            given = dict(case.spec.constructor_arrays(record.arrays))
        found[case.spec.type].setdefault(f"{case.spec} {sorted(given)}", (case.spec, given))
    return {name: list(of_it.values()) for name, of_it in found.items()}


CONSTRUCTIONS = constructions()


def made(package: Any, spec: Spec, options: dict[str, Any], arrays: dict[str, Any]) -> Any:
    """A module of one of the packages, the modules inside it first, with those of the options that it takes."""
    inside = [made(package, layer, options, {}) for layer in spec.layers]
    make = getattr(package, spec.type)
    known = inspect.signature(make).parameters
    own = {name: value for name, value in options.items() if name in known}
    return make(**{**spec.class_args, **own, **arrays, **dict(zip(spec.facts.modules, inside, strict=False))})


def by_both(spec: Spec, dtype: str, arrays: dict[str, Any]) -> tuple[Any, Any]:
    """refnet's and torch's module of the same arguments and seed; both generators must end in one state."""
    source = Generator(11)
    ours = {key: array.astype(dtype) for key, array in arrays.items()}
    theirs = {key: torch.from_numpy(array) for key, array in ours.items()}
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Initializing zero-element", UserWarning)
        warnings.filterwarnings("ignore", "enable_nested_tensor is True", UserWarning)
        torch.manual_seed(11)
        both = (
            made(nn, spec, {"dtype": dtype, "generator": source}, ours),
            made(torch.nn, spec, {"dtype": getattr(torch, dtype)}, theirs),
        )
        np.testing.assert_array_equal(source.get_state(), torch.get_rng_state().numpy())
    return both


def assert_same_values(ours: Any, theirs: dict[str, Any]) -> None:
    state = ours.state_dict()
    assert list(state) == list(theirs)
    for key, tensor in theirs.items():
        expected = tensor.detach().numpy()
        assert state[key].shape == expected.shape, key
        assert state[key].dtype == expected.dtype, key
        assert state[key].tobytes() == np.ascontiguousarray(expected).tobytes(), key


@fused
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", [name for name in MODULES if name not in LACKING])
def test_the_initial_values_are_torchs(name: str, dtype: str) -> None:
    assert CONSTRUCTIONS[name]
    for spec, arrays in CONSTRUCTIONS[name]:
        ours, theirs = by_both(spec, dtype, arrays)
        assert_same_values(ours, theirs.state_dict())


@pytest.mark.parametrize("name", LACKING)
def test_what_is_left_out_torch_has_not(name: str) -> None:
    assert not hasattr(torch.nn, name)
    assert name in nn.__all__


@fused
@pytest.mark.parametrize("name", ["SwiGLU", "GEGLU"])
def test_a_block_of_three_maps_draws_as_three_of_torchs(name: str) -> None:
    for spec, _ in CONSTRUCTIONS[name]:
        ours = getattr(nn, name)(**spec.class_args, generator=Generator(4))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(4)
            theirs = {}
            for place, module in ours.named_children():
                outputs, inputs = module.params["weight"].shape
                made = torch.nn.Linear(inputs, outputs, bias="bias" in module.params, dtype=torch.float64)
                theirs |= {f"{place}.{key}": tensor for key, tensor in made.state_dict().items()}
        assert_same_values(ours, theirs)


@fused
@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("Linear", (64, 10)),
        ("Conv2d", (3, 8, 5)),
        ("Embedding", (50, 7)),
        ("EmbeddingBag", (50, 7)),
        ("LSTMCell", (9, 17)),
        ("MultiheadAttention", (16, 4)),
    ],
)
def test_a_network_draws_its_layers_one_after_the_other(name: str, args: tuple[int, ...]) -> None:
    """Two of a kind with a map between them, of sizes beyond a block of 16, and nothing but one seed in common."""
    g = Generator(2**33 + 1)
    ours = [
        getattr(nn, name)(*args, dtype="float32", generator=g),
        nn.Linear(5, 3, dtype="float32", generator=g),
        getattr(nn, name)(*args, dtype="float32", generator=g),
    ]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2**33 + 1)
        theirs = [getattr(torch.nn, name)(*args), torch.nn.Linear(5, 3), getattr(torch.nn, name)(*args)]
    for mine, other in zip(ours, theirs, strict=True):
        assert_same_values(mine, other.state_dict())
