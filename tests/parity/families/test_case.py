"""The catalogue: what it covers, and that its data are what they are said to be."""

from __future__ import annotations

import hashlib
import inspect
import re
from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
import pytest

import refnet
from parity.budget.array import Budget, Profile
from parity.engines.torch import TorchEngine
from parity.families import case as cases
from parity.families.case import Case, Draw, OptimizeCase, TrainCase, VJPCase, all_records, group
from parity.families.listing import catalogue, select
from parity.records import definition
from parity.records.record import VJP, Optimize, Record, Spec, Train, UsageError

CATALOGUE = catalogue()
# Classes whose cases are not there yet.
OWED: set[str] = set()
LAYERS = [name for name in refnet.nn.__all__ if name not in {"Module", "Sequential", "init", *OWED}]
LOSSES = [name for name in LAYERS if name.endswith("Loss") or name == "HalfSquaredError"]
# Those whose input has one axis besides the batch, and no more.
FLAT = {"CosineEmbeddingLoss", "LinearCrossEntropyLoss", "MultiLabelMarginLoss", "MultiMarginLoss"}
VJPS = [case for case in CATALOGUE if isinstance(case, VJPCase)]
OPTIMIZATIONS = [case for case in CATALOGUE if isinstance(case, OptimizeCase)]
TRAININGS = [case for case in CATALOGUE if isinstance(case, TrainCase)]


def of(name: str) -> list[VJPCase]:
    """The cases of one class alone."""
    return [case for case in VJPS if case.spec.type == name]


def specs(case: Case) -> Iterator[Spec]:
    """Every module, loss and optimizer of a case, those inside others too."""
    inside = [case.network, case.loss, case.optimizer] if isinstance(case, TrainCase) else [case.spec]
    while inside:
        yield inside[0]
        inside += inside.pop(0).layers


def arrays(record: Record) -> Iterator[np.ndarray[Any, Any]]:
    match record:
        case VJP():
            yield from (*record.arrays.values(), *record.inputs, *record.grad_outputs)
        case Optimize():
            yield from (*record.params.values(), *record.grads.values())
        case Train():
            yield from (*record.arrays.values(), record.inputs, record.targets)


# ---- names


def test_names_are_unique() -> None:
    names = [case.name.lower() for case in CATALOGUE]
    assert sorted(set(names)) == sorted(names)


def test_names_begin_with_what_the_case_is_about() -> None:
    for case in CATALOGUE:
        assert re.fullmatch(r"[A-Za-z0-9]+/[A-Za-z0-9][A-Za-z0-9 ,._-]*", case.name), case.name
        if isinstance(case, TrainCase):
            assert group(case) == "Training"
        else:
            assert group(case) == {"Sequential": "Network", "Objective": "PerSample"}.get(
                case.spec.type, case.spec.type
            )


# ---- coverage


def test_every_exported_class_has_cases() -> None:
    used = {spec.type for case in CATALOGUE for spec in specs(case)}
    assert used == {*refnet.nn.__all__, *refnet.optim.__all__, "Objective"} - {"Module", "init", *OWED}


def options(make: Any) -> dict[str, Any]:
    """The arguments of a class that change what it computes, with their defaults."""
    made_of = inspect.signature(make).parameters.values()
    # `args` and `options` are Identity's, which have no meaning; so have the other two in front of the last line.
    # `min_value` and `max_value` are former names of others.
    without = {"dtype", "generator", "params", "layers", "args", "options", "device", "inplace"}
    without |= {"size_average", "reduce", "min_value", "max_value", "_weight", "_freeze"}
    without |= {"enable_nested_tensor", "mask_check"}
    return {p.name: p.default for p in made_of if p.name not in without}


@pytest.mark.parametrize("name", LAYERS)
def test_every_argument_of_a_layer_is_given_in_some_case(name: str) -> None:
    for option, default in options(getattr(refnet.nn, name)).items():
        given = [case.spec.args[option] for case in of(name) if option in case.spec.args]
        # Weights of losses are arguments that travel among the arrays.
        given += [case.arrays[option] for case in of(name) if name in LOSSES and option in case.arrays]
        # Modules are layers of the specification.
        named = (dict(zip(case.spec.facts.modules, case.spec.layers, strict=False)) for case in of(name))
        given += [str(layers[option]) for layers in named if option in layers]
        assert any(value != default for value in given), f"{name}({option}=...)"
        if default is inspect.Parameter.empty:
            assert len(set(given)) > 1, f"{name}({option}=...)"
        elif option == "reduction":
            more = {"batchmean"} if name == "KLDivLoss" else set()
            assert {*given, default} == {*refnet.nn.loss.REDUCTIONS, *more}, name


def test_padding_has_every_mode_and_every_name() -> None:
    assert {case.spec.args.get("padding_mode", "zeros") for case in of("Conv2d")} == set(refnet.nn.conv.PADDING_MODES)
    assert {"same", "valid"} <= {case.spec.args.get("padding") for case in of("Conv2d")}
    assert any(case.spec.args.get("stride", 1) != case.spec.args.get("dilation", 1) != 1 for case in of("Conv2d"))


@pytest.mark.parametrize("family", cases.FAMILIES)
def test_sgd_has_every_legal_combination_of_options(family: str) -> None:
    names = ("momentum", "dampening", "nesterov", "weight_decay", "maximize")

    def legal(on: dict[str, bool]) -> bool:
        args = {name: 1 if name == "momentum" else 0.5 for name in names if on[name] and name not in names[2::2]}
        try:
            refnet.optim.SGD({"w": np.zeros(1)}, nesterov=on["nesterov"], maximize=on["maximize"], **args)
        except ValueError:
            return False
        return True

    there = {
        tuple(bool(case.spec.args.get(name)) for name in names)
        for case in OPTIMIZATIONS
        if family in case.families and case.groups is None
    }
    combinations = list(product((False, True), repeat=5))
    assert {on for on in combinations if legal(dict(zip(names, on, strict=True)))} == there
    assert len(there) == 20


def test_optimizers_have_parameter_groups_and_many_steps() -> None:
    # LBFGS has one group; each of its steps widens the bounds of what the next ones compare.
    for name in {*refnet.optim.__all__} - {"LBFGS"}:
        assert any(case.groups for case in OPTIMIZATIONS if case.spec.type == name)
        records = [c.record(c.families[0], "float64") for c in OPTIMIZATIONS if c.spec.type == name]
        assert max(record.steps for record in records) >= 12
        assert all(len(record.params) > 1 for record in records)
        # Muon takes matrices alone, and SparseAdam what has rows.
        wanted = {"Muon": {2}, "SparseAdam": {1, 2}}.get(name, {0, 2})
        assert any({p.ndim for p in r.params.values()} == wanted for r in records)


@pytest.mark.parametrize("name", [*LAYERS, "Sequential"])
def test_batches_and_upstream_gradients(name: str) -> None:
    sizes = {case.inputs[0].shape[0] for case in of(name) if case.inputs[0].shape}
    kinds = {grad.kind for case in of(name) for grad in case.grads}
    layouts = {grad.layout for case in of(name) for grad in case.grads}
    assert {0, 1, 3} <= sizes
    if name != "Sequential":
        assert 7 in sizes
    if name == "HalfSquaredError":
        return  # its upstream gradient is a scalar
    assert {"real", "onehot"} <= kinds
    assert "expanded" in layouts
    if name != "Sequential":
        assert layouts & {"transposed", "sliced"}


@pytest.mark.parametrize("name", ["Linear", "Sigmoid", "Tanh", "ReLU", "Dropout", *sorted({*LOSSES} - FLAT)])
def test_some_inputs_have_more_leading_axes(name: str) -> None:
    assert any(len(case.inputs[0].shape) > 2 for case in of(name))


@pytest.mark.parametrize(
    "name", ["Sigmoid", "Tanh", "ReLU", "Softmax", "LogSoftmax", "BCEWithLogitsLoss", "CrossEntropyLoss"]
)
@pytest.mark.parametrize("dtype", cases.DTYPES)
def test_inputs_go_past_the_overflow_of_exp(name: str, dtype: str) -> None:
    values = np.concatenate([case.record("full", dtype).inputs[0].ravel() for case in of(name)])
    largest = np.log(np.finfo(dtype).max)
    assert values.max() >= 1000 > largest > -largest > -1000 >= values.min()
    # and close to it from both sides
    assert ((values > largest) & (values < largest + 1)).any()
    assert ((values < largest) & (values > largest - 3)).any()


def test_kinks_are_met_exactly() -> None:
    for family in cases.FAMILIES:
        (relu,) = select("ReLU/at the kink")
        zeros = relu.record(family, "float32").inputs[0]
        assert {False, True} <= set(np.signbit(zeros[zeros == 0]).tolist())
        for case in select("L1Loss/ties"):
            X, T = case.record(family, "float32").inputs
            assert 0 < (X == T).sum() < X.size


def test_samples_are_ignored_in_part_and_altogether() -> None:
    shares = {
        float((case.record("full", "float64").inputs[1] == case.spec.args.get("ignore_index", -100)).mean())
        for case in of("CrossEntropyLoss")
        if case.inputs[1].kind == "index" and case.inputs[0].shape[0]
    }
    assert {0.0, 1.0} < shares


def test_a_layer_stands_at_several_places_and_containers_are_nested() -> None:
    networks = [spec for case in of("Sequential") for spec in specs(case) if spec.type == "Sequential"]
    assert any(len(spec.places) > len(set(spec.places)) for spec in networks)
    assert any(layer.type == "Sequential" for spec in networks for layer in spec.layers)


def test_training_goes_through_every_regime() -> None:
    sizes = {}
    for case in TRAININGS:
        record = case.record("full", "float64")
        if record.iterations < 2_000:
            continue
        n = len(record.inputs)
        epoch = record.batches[: -(-n // (case.batch_size or n))]
        sizes[case.name] = (n, [len(batch) for batch in epoch], len(record.batches))
        assert set(record.trainable or record.arrays) <= set(record.arrays)
        assert case.certified == tuple(sorted(case.certified))
        assert 1 <= case.certified[0] <= case.certified[-1] <= record.iterations
    assert sizes == {
        "Training/worked example, biases frozen": (1, [1], 10_000),
        "Training/batch": (10, [10], 10_000),
        "Training/mini-batch, the last one short": (10, [4, 4, 2], 10_000),
        "Training/mini-batch, the last one dropped": (10, [4, 4, 4], 2_000),
        "Training/stochastic": (10, [1] * 10, 10_000),
    }


def test_the_classes_to_learn_are_the_parity_of_positive_inputs() -> None:
    (case,) = select("Training/batch")
    record = case.record("full", "float32")
    assert ((record.inputs > 0).sum(axis=1) % 2).tolist() == record.targets.tolist()


# ---- draws


def test_draws_are_the_same_everywhere() -> None:
    assert Draw((5,), "index", below=1000).make("k", "full", "float64").tolist() == [
        int.from_bytes(hashlib.shake_256(b"k").digest(80)[16 * i : 16 * i + 8], "little") % 1000 for i in range(5)
    ]
    drawn = [
        Draw((3, 4), kind, below=9, scale=0.5, offset=2.0).make("pinned", family, dtype).tobytes()
        for kind in ("real", "positive", "unit", "index", "mask")
        for family in cases.FAMILIES
        for dtype in cases.DTYPES
    ]
    assert (
        hashlib.sha256(b"".join(drawn)).hexdigest()
        == "275597f08801bb46de8a9d3467b6bec0331c37079f0cfd3460d6759bee7fcd3c"
    )


def test_a_one_hot_draw_has_one_number_that_is_not_zero() -> None:
    drawn = Draw((3, 4), "onehot", scale=-2.0).make("pinned", "full", "float64")
    assert sorted(drawn.ravel().tolist()) == [-2.0] + [0.0] * 11


def test_a_reversed_draw_has_negative_strides() -> None:
    drawn = Draw((3, 4), layout="reversed").make("pinned", "full", "float64")
    assert max(drawn.strides) < 0
    np.testing.assert_array_equal(drawn, Draw((3, 4)).make("pinned", "full", "float64"))


def test_names_change_draws() -> None:
    assert (Draw((9,)).make("a", "full", "float64") != Draw((9,)).make("b", "full", "float64")).all()


def bits_needed(values: np.ndarray[Any, Any]) -> int:
    """Significand bits of the value that has most of them."""
    mantissa = abs(np.frexp(values[np.isfinite(values) & (values != 0)].astype(np.float64))[0])
    integers = (mantissa * 2.0**53).astype(np.int64)
    return max((53 - ((int(i) & -int(i)).bit_length() - 1) for i in integers), default=0)


def test_grid_values_are_held_by_every_format() -> None:
    for case in CATALOGUE:
        if "grid" in case.families and not isinstance(case, TrainCase):
            wide, narrow = (list(arrays(case.record("grid", dtype))) for dtype in cases.DTYPES)
            for a, b in zip(wide, narrow, strict=True):
                assert np.array_equal(a, b), case.name
                if a.dtype.kind == "f":
                    assert np.array_equal(a.astype(np.float16), a), case.name
                    assert bits_needed(a) <= 8, f"{case.name}: bfloat16 does not hold {a}"


@pytest.mark.parametrize("kind", ["real", "positive", "unit"])
@pytest.mark.parametrize("dtype", cases.DTYPES)
def test_full_values_use_every_bit(kind: str, dtype: str) -> None:
    values = Draw((500,), kind).make("bits", "full", dtype)
    digits = np.finfo(dtype).nmant
    significands = (abs(np.frexp(values.astype(np.float64))[0]) * 2.0 ** (digits + 1)).astype(np.int64).tolist()
    always, ever = significands[0], 0
    for s in significands:
        always, ever = always & s, ever | s
    # Of 500 draws, every bit but the leading one is 1 in some and 0 in others.
    assert ever == 2 ** (digits + 1) - 1
    assert always == 2**digits
    assert len(set(np.frexp(values)[1].tolist())) == (3 if kind == "unit" else 5)
    assert bool((values < 0).any()) is (kind == "real")
    assert kind != "unit" or (values < 1).all()


def test_grid_values_are_small_multiples() -> None:
    real, positive, unit = (Draw((2000,), kind).make("k", "grid", "float32") for kind in ("real", "positive", "unit"))
    assert set((real * 64).tolist()) == {float(k) for k in range(-128, 129)}
    assert set((positive * 64).tolist()) == {float(k) for k in range(1, 129)}
    assert set((unit * 64).tolist()) == {float(k) for k in range(1, 64)}


def test_kinds_that_are_no_numbers() -> None:
    mask, onehot = (Draw((4, 5), kind).make("k", "full", "float32") for kind in ("mask", "onehot"))
    assert mask.dtype == np.bool_
    assert 0 < mask.sum() < mask.size
    assert (onehot.sum(), (onehot == 1).sum(), onehot.dtype) == (1, 1, "float32")
    assert Draw((0, 3), "onehot").make("k", "full", "float32").shape == (0, 3)
    assert cases.given((2, 3), 0.1, -0.0).make("k", "full", "float32").tolist() == [
        [float(np.float32(0.1)), -0.0, float(np.float32(0.1))],
        [-0.0, float(np.float32(0.1)), -0.0],
    ]
    assert cases.indices((3,), -100, 2).make("k", "grid", "float32").tolist() == [-100, 2, -100]


def test_layouts_are_what_they_say() -> None:
    plain = Draw((3, 4)).make("k", "full", "float64")
    made = {layout: Draw((3, 4), layout=layout).make("k", "full", "float64") for layout in ("transposed", "sliced")}
    expanded = Draw((3, 4), layout="expanded").make("k", "full", "float64")
    for array in made.values():
        assert np.array_equal(array, plain)
        assert not array.flags.c_contiguous
    assert plain.strides == (32, 8)
    assert made["transposed"].strides == (8, 24)
    assert made["sliced"].strides == (64, 16)
    assert expanded.strides == (0, 8)
    assert (expanded == plain[0]).all()


def test_no_upstream_gradient_is_zero_throughout_but_where_it_is_said() -> None:
    for case in VJPS:
        if case.name.endswith("gradient zero"):
            continue
        for family in case.families:
            grads = case.record(family, "float32").grad_outputs
            assert grads[0].size == 0 or any(g.any() for g in grads), f"{case.name}, {family}"


# ---- records


@pytest.mark.parametrize("dtype", cases.DTYPES)
def test_every_record_builds_in_both_engines_alike(dtype: str) -> None:
    torch = TorchEngine()
    for case in CATALOGUE:
        if isinstance(case, OptimizeCase):
            continue
        record = case.record(case.families[-1], dtype)
        spec = record.spec if isinstance(record, VJP) else record.network
        ours = definition.build(spec, record.arrays).state_dict()
        theirs = torch._build(spec, record.arrays, dtype).state_dict()
        assert [*ours] == [*theirs], case.name
        for name, array in ours.items():
            assert array.shape == tuple(theirs[name].shape), f"{case.name}: {name}"
            assert str(array.dtype) == str(theirs[name].dtype).removeprefix("torch."), f"{case.name}: {name}"
        # Each array of the record is one of the module's, and the first name of it.
        assert set(record.arrays) <= set(ours), case.name
        assert {id(a) for a in ours.values()} == {id(a) for a in record.arrays.values()}, case.name


def test_upstream_gradients_have_the_shape_of_outputs() -> None:
    for case in VJPS:
        record = case.record(case.families[-1], "float64")
        module = definition.build(record.spec, {name: a.copy() for name, a in record.arrays.items()})
        with np.errstate(all="ignore"):
            output, _ = definition.forward(module.train(record.training), record, record.inputs)
        outputs = output if isinstance(output, tuple) else (output,)
        assert [np.shape(y) for y in outputs] == [g.shape for g in record.grad_outputs], case.name


def test_records_are_named_by_family_and_dtype() -> None:
    (worked,) = select("worked example")
    assert [*all_records(worked)] == ["full/float64", "full/float32"]
    made = all_records(select("Linear/batch 3")[0])
    assert [*made] == ["grid/float64", "grid/float32", "full/float64", "full/float32"]
    assert [record.dtype for record in made.values()] == ["float64", "float32"] * 2


# ---- power


def floats(case: VJPCase | OptimizeCase, dtype: str) -> set[str]:
    """The names of the tensors of floats in an answer that are not empty."""
    record = case.record("full", dtype)
    with np.errstate(all="ignore"):
        if isinstance(record, VJP):
            found = definition.vjp(record, np.copy)
        else:
            found = {name: series[-1] for name, series in definition.optimize(record, np.copy).items()}
    return {name for name, a in found.items() if a is not None and np.asarray(a).dtype.kind == "f" and np.size(a)}


def budgets(case: VJPCase | OptimizeCase, family: str, dtype: str) -> dict[str, Budget]:
    """The budget of every answer that is a tensor of floats and not empty."""

    def lift(array: Any) -> Budget:
        return Budget.exact(array, Profile.of(dtype))

    record = case.record(family, dtype)
    with np.errstate(all="ignore"):
        if isinstance(record, VJP):
            found: dict[str, Any] = definition.vjp(record, lift)
        else:
            found = {}
            for name, series in definition.optimize(record, lift).items():
                found[name] = series[-1] - series[0] if name.startswith("param.") else series[-1]
    return {name: b for name, b in found.items() if isinstance(b, Budget) and b.size}


PARTLY_ZERO = {
    "TransformerEncoderLayer": {"grad.self_attn.in_proj_bias"},
    "TransformerDecoderLayer": {"grad.self_attn.in_proj_bias", "grad.multihead_attn.in_proj_bias"},
    "TransformerEncoder": {f"grad.layers.{k}.self_attn.in_proj_bias" for k in range(2)},
    "TransformerDecoder": {
        f"grad.layers.{k}.{place}.in_proj_bias" for k in range(2) for place in ("self_attn", "multihead_attn")
    },
    "Transformer": {
        "grad.encoder.layers.0.self_attn.in_proj_bias",
        *(f"grad.decoder.layers.0.{place}.in_proj_bias" for place in ("self_attn", "multihead_attn")),
    },
}
"""Tensors whose middle third is 0 at every input: a bias of keys moves all scores of a query alike. The other two
thirds, of queries and values, are asked for."""

DEEP = ("TransformerEncoder", "TransformerDecoder", "Transformer")
"""Two layers, one behind the other, in float32: no case sees every element of a bias of queries and values through the
attentions and norms behind it."""


@pytest.mark.parametrize("name", [*LAYERS, *(name for name in refnet.optim.__all__ if name not in OWED)])
@pytest.mark.parametrize("dtype", cases.DTYPES)
def test_every_tensor_is_seen_sharply_in_some_case(name: str, dtype: str) -> None:
    blind: set[str] = set()
    sighted: set[str] = set()
    for case in CATALOGUE:
        if isinstance(case, TrainCase) or case.spec.type != name or "full" not in case.families:
            continue
        # A case of which every tensor was seen in another one needs no budgets.
        if sighted and floats(case, dtype) <= sighted:
            continue
        for tensor, b in budgets(case, "full", dtype).items():
            seen = b.e < abs(b.x)
            if tensor in PARTLY_ZERO.get(name, set()):
                queries, _, values = np.split(seen, 3)
                seen = np.concatenate([queries, values])
            (sighted if seen.all() else blind).add(tensor)
    assert sighted
    deep = PARTLY_ZERO[name] if dtype == "float32" and name in DEEP else set()
    assert blind - deep <= sighted


EXACT = (
    *("Linear", "Identity", "Flatten", "MSELoss", "HalfSquaredError", "L1Loss", "Dropout", "Conv2d", "SGD"),
    *("ReLU", "LeakyReLU", "PReLU", "ReLU6", "Hardtanh", "Hardshrink", "Softshrink", "Threshold"),
)


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("dtype", cases.DTYPES)
def test_what_is_exact_on_the_grid_has_a_case_that_is(name: str, dtype: str) -> None:
    exact = [
        case.name
        for case in CATALOGUE
        if not isinstance(case, TrainCase) and case.spec.type == name and "grid" in case.families
        if (found := budgets(case, "grid", dtype)) and all((b.e == 0).all() and b.x.any() for b in found.values())
    ]
    assert exact


# ---- selection


def names(pattern: str) -> list[str]:
    return [case.name for case in select(pattern)]


def test_select_by_part_of_a_name() -> None:
    assert names("linear/BATCH") == [f"Linear/batch {n}" for n in (0, 1, 3, 7, 65)]
    assert len(select("")) == len(CATALOGUE)


def test_select_by_form() -> None:
    assert names("l?near/batch [13]") == ["Linear/batch 1", "Linear/batch 3"]
    assert names("Linear/*") == [case.name for case in CATALOGUE if group(case) == "Linear"]


def test_select_by_several_patterns() -> None:
    both = set(names("softmax")) & set(names("batch 3"))
    assert set(names("softmax and batch 3")) == both
    assert set(names("not softmax")) == {case.name for case in CATALOGUE} - set(names("softmax"))
    assert set(names("lstmcell/batch or softmax and batch 3")) == both | set(names("lstmcell/batch"))


def test_a_pattern_that_is_part_of_a_name_is_taken_so() -> None:
    assert set(names("not affine")) == {
        "BatchNorm1d/not affine",
        "BatchNorm1d/not affine, evaluation",
        "BatchNorm2d/momentum 0.75, eps large, not affine",
        "BatchNorm3d/momentum 0.75, eps large, not affine",
        *(f"InstanceNorm{n}d/not affine{where}" for n in (1, 2, 3) for where in ("", ", evaluation")),
        "LayerNorm/not affine",
        "GroupNorm/not affine",
        "RMSNorm/not affine",
    }


def test_select_nothing_names_near_matches() -> None:
    with pytest.raises(UsageError, match=r"expected a pattern .* got 'Lineer'; near it: Linear"):
        select("Lineer")
    with pytest.raises(UsageError, match=r"got 'softmax and conv2d'"):
        select("softmax and conv2d")
