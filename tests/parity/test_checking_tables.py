"""`parity.check` of functions with running statistics, groups, and tables that are looked up."""

from __future__ import annotations

from typing import Any

import pytest

import parity
from parity.records.record import UsageError

torch = pytest.importorskip("torch")
F = torch.nn.functional
K, BEGINS = torch.tensor([1, 2, 1, 0]), torch.tensor([0, 2])


def drawn(*shape: int) -> Any:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(shape)))


STATISTICS = {"running_mean": drawn(4), "running_var": drawn(4) ** 2 + 0.5}
FUNCTIONS: dict[str, tuple[Any, tuple[Any, ...], dict[str, Any]]] = {
    "group_norm": (F.group_norm, (drawn(3, 4, 5),), {"num_groups": 2, "weight": drawn(4), "bias": drawn(4)}),
    "rms_norm": (F.rms_norm, (drawn(3, 4),), {"normalized_shape": [4], "weight": drawn(4)}),
    "batch_norm": (F.batch_norm, (drawn(3, 4, 5),), {**STATISTICS, "weight": drawn(4), "bias": drawn(4)}),
    "batch_norm of the batch": (
        F.batch_norm,
        (drawn(3, 4, 2, 2),),
        {"running_mean": None, "running_var": None, "training": True, "eps": 0.1},
    ),
    "instance_norm": (F.instance_norm, (drawn(2, 4, 2, 1, 3),), {"weight": drawn(4), "bias": drawn(4)}),
    "instance_norm, evaluating": (F.instance_norm, (drawn(3, 4, 5),), {**STATISTICS, "use_input_stats": False}),
    "embedding": (F.embedding, (K, drawn(5, 3)), {"padding_idx": 1, "scale_grad_by_freq": True}),
    "embedding_bag": (F.embedding_bag, (K, drawn(5, 3), BEGINS), {"mode": "sum", "per_sample_weights": drawn(4)}),
    "embedding_bag of two axes": (F.embedding_bag, (K.reshape(2, 2), drawn(5, 3)), {"mode": "max"}),
}


@pytest.mark.parametrize("what", FUNCTIONS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_functions_of_torch(what: str, dtype: Any) -> None:
    fn, inputs, options = FUNCTIONS[what]

    def of(x: Any) -> Any:
        return x.to(dtype) if isinstance(x, torch.Tensor) and x.is_floating_point() else x

    report = parity.check(fn, what.split(",")[0].split()[0], *map(of, inputs), **{n: of(x) for n, x in options.items()})
    assert report.ok, report
    assert {"output"} < {v.name for v in report.verdicts}


def test_a_bag_that_divides_by_another_frequency_is_seen() -> None:
    """pytorch/pytorch#190063, made here, so that the test holds with every version of torch."""

    def wrong(indices: Any, table: Any, begins: Any) -> Any:
        times = torch.tensor([1.0, 2.0, 2.0], dtype=torch.float64)
        # The index that occurs once is divided by 2, too.
        rows = table[indices]
        return (rows.detach() + (rows - rows.detach()) / times[[1, 1, 2]][:, None]).sum(0, keepdim=True)

    arrays = (torch.tensor([1, 1, 3]), drawn(5, 3), torch.tensor([0]))
    report = parity.check(wrong, "embedding_bag", *arrays, mode="sum", scale_grad_by_freq=True)
    assert {v.name: v.verdict for v in report.verdicts}["grad.weight"] == "FAIL"


@pytest.mark.parametrize(
    "module",
    [
        torch.nn.Embedding(5, 3, padding_idx=1),
        torch.nn.EmbeddingBag(5, 3, mode="max", dtype=torch.float64),
    ],
    ids=lambda m: type(m).__name__,
)
def test_modules_whose_input_is_an_index(module: Any) -> None:
    report = parity.check(module, K.reshape(2, 2))
    assert report.ok, report
    assert [v.name for v in report.verdicts] == ["output", "grad.weight"]


@pytest.mark.parametrize(
    ("name", "arguments", "options", "message"),
    [
        ("batch_norm", (drawn(3, 4),), {**STATISTICS, "training": True}, "expected training=False with running stat"),
        (
            "embedding",
            (K, drawn(5, 3)),
            {"max_norm": 1.0},
            "expected max_norm=None, as a function writes into",
        ),
        (
            "embedding_bag",
            (K.reshape(2, 2), drawn(5, 3)),
            {"mode": "sum", "per_sample_weights": drawn(2, 2)},
            "expected offsets with per_sample_weights, got none",
        ),
    ],
)
def test_what_writes_or_has_no_record_is_refused(name: str, arguments: Any, options: Any, message: str) -> None:
    with pytest.raises(UsageError, match=f"^check: {message}"):
        parity.check(getattr(F, name), name, *arguments, **options)
