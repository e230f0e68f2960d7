"""The catalogue in bfloat16 and float16: inputs are rounded, and what is kept for float32 serves where none changes."""

from __future__ import annotations

import numpy as np
import pytest

from parity.budget.formats import FORMATS, Profile
from parity.engines.base import Engine
from parity.families.case import DTYPES, NARROW
from parity.families.listing import catalogue
from parity.records.record import VJP, Answer, UsageError
from parity.run import judging

CASES = {case.name: case for case in catalogue()}


class SumsRow(Engine):
    """LayerNorm in float64, rounded once; the bias gradient row by row in a format that is given."""

    name = "sums"

    def __init__(self, format: str = "") -> None:
        self.format = format

    def profile(self, dtype: str) -> Profile:
        return Profile.of(dtype, accumulator="float32")

    def vjp(self, record: VJP) -> Answer:
        (x,), (g,) = (tuple(np.asarray(a, np.float64) for a in part) for part in (record.inputs, record.grad_outputs))
        weight = record.arrays["weight"].astype(np.float64)
        d = x - x.mean(-1, keepdims=True)
        s = 1 / np.sqrt((d * d).mean(-1, keepdims=True) + record.spec.args.get("eps", 1e-5))
        n = d * s
        h = g * weight
        gx = s * (h - h.mean(-1, keepdims=True) - n * (h * n).mean(-1, keepdims=True))
        bias = np.zeros_like(weight)
        for row in g:
            bias = FORMATS[self.format].nearest(bias + row) if self.format else bias + row
        found = {
            "output": n * weight + record.arrays["bias"],
            "grad_input": gx,
            "grad.weight": (g * n).sum(0),
            "grad.bias": bias,
        }
        rounded = {name: FORMATS[record.dtype].nearest(a) for name, a in found.items()}
        return {
            name: np.asarray(a, "float16" if record.dtype == "float16" else "float32") for name, a in rounded.items()
        }


@pytest.mark.parametrize("dtype", NARROW)
def test_a_right_engine_conforms_and_sums_in_the_narrow_format_are_seen(dtype: str) -> None:
    case = CASES["LayerNorm/batch 257"]
    right, wrong = judging.judge_case(case, "full", dtype, [SumsRow(), SumsRow(dtype)])
    assert right.conforms, right.verdicts
    assert right.profile == f"{dtype}, sums in float32"
    assert [v.name for v in wrong.verdicts if v.verdict in ("FAIL", "imprecise")] == ["grad.bias"]


def test_what_the_format_holds_is_judged_by_what_is_kept() -> None:
    asked = judging.certified(CASES["Linear/batch 3"], "grid", "bfloat16")
    kept = judging.certified(CASES["Linear/batch 3"], "grid", "float32")
    assert isinstance(asked, judging.OneRecord)
    assert isinstance(kept, judging.OneRecord)
    assert asked.record.dtype == "bfloat16"
    for name, truth in kept.truths.items():
        assert np.array_equal(asked.truths[name].hi, truth.hi)


@pytest.mark.parametrize("dtype", NARROW)
def test_other_inputs_are_rounded(dtype: str) -> None:
    """And their truth is where the same record's is, computed in ball arithmetic."""
    pytest.importorskip("flint")
    from parity.truth.certify import certified

    asked = judging.certified(CASES["Linear/batch 3"], "full", dtype)
    assert isinstance(asked, judging.OneRecord)
    assert isinstance(asked.record, VJP)
    for array in (*asked.record.inputs, *asked.record.arrays.values(), *asked.record.grad_outputs):
        assert array.dtype == np.float32
        assert np.array_equal(FORMATS[dtype].nearest(array), array)
    enclosures = asked.judge(Profile.of("float32")).enclosures
    for name, truth in certified(asked.record).items():
        assert (truth.error(enclosures[name].truth.hi) <= 2.0**-40).all()


def test_what_is_not_asked() -> None:
    training = next(case for name, case in CASES.items() if name.startswith("Training/"))
    (found,) = judging.judge_case(training, "full", "bfloat16", [SumsRow()])
    assert found.unsupported == "trainings are judged in float64 and float32"
    (found,) = judging.judge_case(CASES["LayerNorm/mean 65536, eps 1e-12"], "full", "float16", [SumsRow()])
    assert found.unsupported.startswith("float16 has no number near")


@pytest.mark.parametrize(
    ("names", "asked", "profile", "found"),
    [
        (["refnet", "torch"], [], None, DTYPES),
        (["torch:dtype=bfloat16"], [], None, ("bfloat16",)),
        (["refnet", "torch:dtype=bfloat16"], [], None, (*DTYPES, "bfloat16")),
        (["torch:dtype=bfloat16"], ["float32"], None, ("float32",)),
        (["torch"], [], "float16, depth 3", ("float16",)),
    ],
)
def test_dtypes(names: list[str], asked: list[str], profile: str | None, found: tuple[str, ...]) -> None:
    assert judging.dtypes_of(names, asked, profile) == found


def test_what_is_no_dtype() -> None:
    with pytest.raises(UsageError, match=r"--dtype: expected .*, got float8"):
        judging.dtypes_of(["torch"], ["float8"], None)
    with pytest.raises(UsageError, match="--profile: expected a profile of float32"):
        judging.dtypes_of(["torch"], ["float32"], "float16")
    with pytest.raises(UsageError, match="--profile: expected formats among"):
        judging.dtypes_of(["torch"], [], "float8")


@pytest.mark.parametrize("dtype", NARROW)
def test_torch(dtype: str) -> None:
    pytest.importorskip("torch")
    from parity.engines import loading

    engine = loading.load(f"torch:dtype={dtype}")
    for name in ("Linear/batch 3", "Softmax/classes", "SGD/momentum", "CrossEntropyLoss/mean"):
        case = next(c for n, c in CASES.items() if n.startswith(name.split("/")[0]))
        for family in case.families:
            (found,) = judging.judge_case(case, family, dtype, [engine])
            assert found.conforms, (case.name, found.verdicts)
            assert found.verdicts
