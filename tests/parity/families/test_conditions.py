"""Every class meets every condition in some case, or it is written here why it does not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase

import pytest

import refnet
from parity.families.case import Draw, OptimizeCase, VJPCase
from parity.families.listing import LARGE, catalogue
from parity.records.facts import MODULES
from parity.records.record import Spec

ALL = (*catalogue(), *LARGE)
VJPS = [case for case in ALL if isinstance(case, VJPCase)]
STEPS = [case for case in ALL if isinstance(case, OptimizeCase)]


def sizes(case: VJPCase) -> list[int]:
    return [size for draw in (*case.inputs, *case.grads) for size in draw.shape]


def has_layout(layout: str, draws: Callable[[VJPCase], tuple[Draw, ...]]) -> Callable[[VJPCase], bool]:
    return lambda case: any(draw.layout == layout for draw in draws(case))


def parameters(case: VJPCase) -> tuple[Draw, ...]:
    return tuple(case.arrays.values())


def all_zero(case: VJPCase) -> bool:
    return all(draw.values and not any(draw.values) for draw in case.grads)


def one_hot(case: VJPCase) -> bool:
    """One number that is not 1; of a scalar any."""
    return any(draw.kind == "onehot" and draw.scale != 1 for draw in case.grads)


LAYERS: dict[str, Callable[[VJPCase], bool]] = {
    "a parameter reversed": has_layout("reversed", parameters),
    "a parameter sliced": has_layout("sliced", parameters),
    "a parameter transposed": has_layout("transposed", parameters),
    "an input reversed": has_layout("reversed", lambda case: case.inputs),
    "an upstream gradient reversed": has_layout("reversed", lambda case: case.grads),
    "an upstream gradient of one number that is not 1": one_hot,
    "an upstream gradient of zero": all_zero,
    "an axis of 65": lambda case: max(sizes(case), default=0) >= 65,
    "an axis of 257": lambda case: max(sizes(case), default=0) >= 257,
    "an axis of 1,000": lambda case: max(sizes(case), default=0) >= 1_000,
    "a variance of 1e-8 with an eps of 1e-12": lambda case: case.spec.args.get("eps") == 1e-12,
}

STACKS = "Transformer*"
AS_ITS_PARTS = (
    "its attention, products and norms have it, each in their own cases; its own cases would take 40 kB a class"
)
ALONE = "each element is computed alone: a sum has no axis to be wrong along"
FEW = "what is kept would be larger; test_long_sums has 32,769 samples of it, for refnet alone"
REDUCED = "the upstream gradient of the typical case is a scalar, without an axis to be reversed"

HOLES: dict[tuple[str, str], str] = {
    (STACKS, "a parameter *"): AS_ITS_PARTS,
    (STACKS, "an input reversed"): AS_ITS_PARTS,
    (STACKS, "an upstream gradient *"): AS_ITS_PARTS,
    (STACKS, "an axis of *"): AS_ITS_PARTS,
    ("Embedding*", "an input reversed"): "indices are made contiguous; the table and the gradient are reversed",
    ("*Loss", "an upstream gradient reversed"): REDUCED,
    ("HalfSquaredError", "an upstream gradient reversed"): REDUCED,
    ("Conv2d", "an axis of 65"): "a large case has 65,536 elements of an image each way: 4 x 16 x 32 x 32",
    ("Conv2d", "an axis of 257"): "the same",
    ("*", "an axis of 257"): FEW,
    ("*", "an axis of 1,000"): FEW,
}
"""By patterns of class and condition; classes that no sum is taken in are told from the table of facts."""


def owed(name: str, condition: str) -> bool:
    """Whether the condition can be asked of a class at all."""
    own = [case for case in VJPS if case.spec.type == name]
    if condition.startswith("a parameter"):
        least = 2 if condition.endswith("transposed") else 1
        return any(len(draw.shape) >= least for case in own for draw in case.arrays.values())
    if condition.startswith("a variance"):
        return "Norm" in name
    return True


def lacking(name: str) -> Iterator[str]:
    """The conditions that no case of a class meets and for which no reason is given."""
    for condition, met in LAYERS.items():
        if not owed(name, condition) or any(met(case) for case in VJPS if case.spec.type == name):
            continue
        if not reason(name, condition):
            yield condition


def reason(name: str, condition: str) -> str:
    if condition in ("an axis of 257", "an axis of 1,000") and not MODULES[name].sums:
        return ALONE
    return next(
        (why for (kind, what), why in HOLES.items() if fnmatchcase(name, kind) and fnmatchcase(condition, what)), ""
    )


@pytest.mark.parametrize("name", MODULES)
def test_a_layer_meets_every_condition(name: str) -> None:
    assert list(lacking(name)) == []


def test_every_reason_is_needed() -> None:
    def meets(name: str, condition: str) -> bool:
        return any(LAYERS[condition](case) for case in VJPS if case.spec.type == name)

    for kind, what in HOLES:
        assert any(
            fnmatchcase(name, kind) and fnmatchcase(condition, what) and owed(name, condition)
            for name in MODULES
            for condition in LAYERS
            if not meets(name, condition)
        ), (kind, what)


def test_a_class_without_a_case_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "VJPS", [c for c in VJPS if not c.name.startswith("Linear/every input")])
    assert list(lacking("Linear")) == ["an input reversed"]


def begins_at_zero(case: OptimizeCase) -> bool:
    """The first gradient of some parameter is zero, and a later one is not."""
    record = case.record("full", "float64")
    return any(not g[0].any() and g.any() for g in record.grads.values())


OPTIMIZERS: dict[str, Callable[[OptimizeCase], bool]] = {
    "a first gradient of zero": begins_at_zero,
    "gradients of zero": lambda case: any(draw.values == (0.0,) for draw in case.grads.values()),
    "a gradient that is absent": lambda case: bool(case.absent),
    "groups": lambda case: case.groups is not None,
}
NOT_OWED = {
    ("LBFGS", "groups"): "it has one group",
    ("SparseAdam", "gradients of zero"): "its gradients are the rows that are there",
}


@pytest.mark.parametrize("name", refnet.optim.__all__)
@pytest.mark.parametrize("condition", OPTIMIZERS)
def test_an_optimizer_meets_every_condition(name: str, condition: str) -> None:
    own = [case for case in STEPS if case.spec.type == name and case.objective is None and not case.large]
    assert any(map(OPTIMIZERS[condition], own)) or (name, condition) in NOT_OWED


def inside(spec: Spec) -> Iterator[Spec]:
    yield spec
    for layer in spec.layers:
        yield from inside(layer)


def test_a_layer_with_buffers_stands_at_two_places() -> None:
    networks = [spec for case in VJPS for spec in inside(case.spec) if spec.type in ("Sequential", "Graph")]
    at_two = [spec.layers[k].type for spec in networks for k in set(spec.places) if spec.places.count(k) > 1]
    assert any(kind.startswith(("BatchNorm", "InstanceNorm")) for kind in at_two)
