"""Known findings: listed, described, still there; and nothing but them is let through."""

from contextlib import contextmanager, nullcontext
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from parity.families.listing import catalogue
from parity.report import console, export
from parity.run import judging, known_findings
from parity.run.known_findings import FINDINGS, known
from parity.run.results import CaseResult, Results
from parity.verdict.tensor import TensorVerdict

FINDINGS_PAGE = Path(__file__).parents[3] / "docs" / "findings.md"


WHOLE = ("ScaledDotProductAttention/*", "Rprop/*")


@pytest.mark.parametrize("finding", FINDINGS, ids=lambda f: f.title)
def test_each_is_described_and_still_there(finding):
    """In every case, family and dtype that it names, or else it names too many."""
    pytest.importorskip(finding.package)
    name = f"## {'JAX' if finding.package == 'jax' else finding.package} {finding.versions}"
    lines = FINDINGS_PAGE.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line.startswith(name) and line.endswith(f": {finding.title}")]
    if not known_findings._installed(finding.package).startswith(finding.versions):
        pytest.skip(f"{finding.package} {finding.versions} is not installed")
    pytest.importorskip(finding.shown_by)
    engine = judging.engine(finding.asked)
    shown = 0
    # What a whole class shows is looked for in some of its cases.
    within = [case for case in catalogue() if fnmatchcase(case.name, finding.case)]
    with nullcontext() if finding.steady else new_memory_is_nan():
        for case in within[:: 8 if finding.case in WHOLE else 1]:
            for dtype in finding.dtypes:
                if not finding.explains(finding.asked, case.name, dtype, finding.tensors):
                    continue
                for family in case.families:
                    (found,) = judging.judge_case(replace(case, families=(family,)), family, dtype, [engine])
                    if case.name.startswith("EmbeddingBag/sum, by frequency") and finding.profile:
                        # That is the other finding's.
                        continue
                    assert found.finding == ("" if found.conforms else finding.title), found
                    shown += not found.conforms
    assert shown


@contextmanager
def new_memory_is_nan():
    """torch fills memory that nobody has written yet with NaN, so that what shows by chance shows always."""
    torch = pytest.importorskip("torch")
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
def test_the_margin_losses_write_nothing_for_an_empty_batch(dtype, reduction):
    """As the section of the finding says; a loss that writes its result is 0 there."""
    torch = pytest.importorskip("torch")
    if not torch.__version__.startswith("2.13."):
        pytest.skip("the finding is of torch 2.13")
    x = torch.zeros(0, 4, dtype=getattr(torch, dtype))
    with new_memory_is_nan():
        for loss, target in ((torch.nn.MultiMarginLoss, x.sum(1).long()), (torch.nn.MultiLabelMarginLoss, x.long())):
            assert loss(reduction=reduction)(x, target).isnan()
        assert torch.nn.HingeEmbeddingLoss(reduction="sum")(x, x) == 0


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_only_sums_in_the_narrow_format_are_known(dtype):
    """A bias gradient that is wrong in another way is new."""
    pytest.importorskip("torch")
    (finding,) = (f for f in FINDINGS if f.case == "LayerNorm/*")
    case = next(c for c in catalogue() if c.name == "LayerNorm/batch 3")
    torch = judging.engine("torch")

    class Halved(type(torch)):
        def vjp(self, record):
            answer = super().vjp(record)
            return answer | {"grad.bias": answer["grad.bias"] / 2}

    halved = Halved()
    (own,), (other,) = (judging.judge_case(case, "full", dtype, [engine]) for engine in (torch, halved))
    assert own.finding == (finding.title if known_findings._installed("torch").startswith(finding.versions) else "")
    assert not own.conforms
    assert not other.conforms
    assert [v.name for v in other.verdicts if v.verdict in ("FAIL", "imprecise")] == ["grad.bias"]
    assert other.finding == ""


def test_only_what_is_listed_is_known(monkeypatch):
    finding = FINDINGS[0]
    monkeypatch.setattr(known_findings, "_installed", lambda package: "2.13.0+cpu")
    name, dtype, tensors = finding.case.replace("*", "batch 3"), finding.dtypes[0], finding.tensors
    assert known("torch", name, dtype, tensors) == finding.title
    assert known("torch:device=cpu", name, dtype, tensors) == finding.title
    assert known("torch", name, dtype, []) == ""
    assert known("torch", name, dtype, [*tensors, "output"]) == ""
    assert known("torch", "Linear/batch 3", dtype, tensors) == ""
    assert known("my_torch:Engine", name, dtype, tensors) == ""
    monkeypatch.setattr(known_findings, "_installed", lambda package: "2.14.0")
    assert known("torch", name, dtype, tensors) == ""


def test_a_finding_of_some_options_is_known_with_them_alone(monkeypatch):
    monkeypatch.setattr(known_findings, "_installed", lambda package: "2.13.0+cpu")
    (finding,) = (f for f in FINDINGS if f.title.startswith("a compiled step of SGD"))
    about = finding.case, "float64", finding.tensors
    assert finding.asked == "torch:compile=aot_eager"
    for engine in (
        "torch:compile=aot_eager",
        "torch:device=cpu,compile=aot_eager",
        "torch:compile=aot_eager,dtype=float64",
    ):
        assert known(engine, *about) == finding.title
    for engine in ("torch", "torch:cpu", "torch:compile=eager", "torch:optimizer=foreach", "jax:compile=aot_eager"):
        assert known(engine, *about) == ""


@pytest.mark.filterwarnings("ignore:enable_nested_tensor is True:UserWarning")
@pytest.mark.parametrize("part", ["Encoder", "Decoder"])
def test_stacks_give_a_causal_mask_of_numbers_no_gradient(part):
    """As the section of the finding says; a single layer does, and a stack that is told is_causal=False."""
    torch = pytest.importorskip("torch")
    if not torch.__version__.startswith("2.13."):
        pytest.skip("the finding is of torch 2.13")
    sizes = {"d_model": 4, "nhead": 2, "dim_feedforward": 3, "dropout": 0.0, "dtype": torch.float64}
    layer = getattr(torch.nn, f"Transformer{part}Layer")(**sizes)
    stack = getattr(torch.nn, f"Transformer{part}")(layer, 1)
    name, hint = ("mask", "is_causal") if part == "Encoder" else ("tgt_mask", "tgt_is_causal")
    of_layer = "src_mask" if part == "Encoder" else "tgt_mask"
    drawn = torch.Generator().manual_seed(0)
    x, *memory = (
        torch.randn(3, 1, 4, dtype=torch.float64, generator=drawn) for _ in range(1 if part == "Encoder" else 2)
    )

    def gradient(module, argument, **options):
        mask = torch.nn.Transformer.generate_square_subsequent_mask(3, dtype=torch.float64).requires_grad_()
        module(x, *memory, **{argument: mask}, **options)[..., 0].square().sum().backward()
        return mask.grad

    right = gradient(layer, of_layer)
    assert right.count_nonzero() == 5
    assert torch.equal(gradient(stack, name, **{hint: False}), right)
    assert gradient(stack, name) is None


def text(renderable):
    from io import StringIO

    from rich.console import Console

    out = Console(file=StringIO(), width=200)
    out.print(renderable)
    return out.file.getvalue()


def test_a_known_finding_is_told_and_ends_nothing():
    wrong = TensorVerdict("grad_input", "FAIL", reason="3 of 3 elements outside")
    right = CaseResult("Linear/a", "full", "float64", "torch", (TensorVerdict("output", "exact"),))
    known_one = CaseResult("Hardsigmoid/a", "full", "float64", "torch", (wrong,), finding="a slope in float32")
    results = Results(("torch",), (right, known_one), 0.0)
    assert results.conforms
    said = text(console.summary(results))
    assert "torch FAILS in 1, each a known finding (docs/findings.md), and conforms on the others" in said
    assert "1 record: a slope in float32" in said
    assert "FAIL torch" not in text(console.failures(results, 40))
    assert "FAIL torch" in text(console.failures(results))
    assert "known finding: a slope in float32" in export.to_junit(results)
    new = Results(("torch",), (right, known_one, replace(known_one, finding="")), 0.0)
    assert not new.conforms
    assert "FAIL torch" in text(console.failures(new, 40))
    assert "torch FAILS in 2 of" in text(console.summary(new))
