"""Known findings: listed, described, still there; and nothing but them is let through."""

from contextlib import contextmanager, nullcontext
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from parity.engines.base import ask
from parity.families.listing import catalogue
from parity.records.record import Unsupported
from parity.report import console, export
from parity.run import judging
from parity.run.results import CaseResult, Results
from parity.verdict import known_findings
from parity.verdict.conclusion import Conclusion, OneRecord
from parity.verdict.known_findings import FINDINGS, known
from parity.verdict.table import is_caught
from parity.verdict.tensor import TensorVerdict

FINDINGS_PAGE = Path(__file__).parents[3] / "docs" / "findings.md"


WHOLE = ("ScaledDotProductAttention/*", "Rprop/*")
MANY = ("BCELoss/*", "LayerNorm/*", "Embedding*/*")
"""What a whole class shows is looked for in one of eight of its cases; of these classes with `-m slow` in all."""


def one_of(finding):
    """Of how many cases one is tried: compiling a step takes seconds, and capturable ones do not differ otherwise."""
    if finding.options.get("optimizer") == ("capturable",) and "compile" in finding.options:
        return 100
    return 8 if finding.case in WHOLE + MANY else 1


EACH = [
    *(pytest.param(f, one_of(f), id=f"{f.title}: {f.case}") for f in FINDINGS),
    *(
        pytest.param(f, 1, id=f"{f.title}: {f.case}, everywhere", marks=pytest.mark.slow)
        for f in FINDINGS
        if f.case in WHOLE + MANY
    ),
]


def skip_without(finding):
    if not known_findings._installed(finding.package).startswith(finding.versions):
        pytest.skip(f"{finding.package} {' or '.join(finding.versions)} is not installed")
    if "device" in finding.options and not pytest.importorskip("torch").cuda.is_available():
        pytest.skip("torch finds no cuda device here")


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize(("finding", "step"), EACH)
def test_each_is_described_and_still_there(finding, step):
    """In every case, family and dtype that it names, or else it names too many."""
    pytest.importorskip(finding.package)
    name = f"## {'JAX' if finding.package == 'jax' else finding.package} {finding.versions[0]}"
    lines = FINDINGS_PAGE.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line.startswith(name) and line.endswith(f": {finding.title}")]
    skip_without(finding)
    pytest.importorskip(finding.shown_by)
    engine = judging.engine(finding.asked)
    shown = 0
    within = [case for case in catalogue() if fnmatchcase(case.name, finding.case)]
    with nullcontext() if finding.steady else new_memory_is_nan():
        for case in within[::step]:
            for dtype in finding.dtypes:
                if not finding.explains(finding.asked, case.name, dtype, finding.tensors, lambda formula: True):
                    continue
                for family in case.families:
                    (found,) = judging.judge_case(replace(case, families=(family,)), family, dtype, [engine])
                    if case.name.startswith("EmbeddingBag/sum, by frequency") and finding.case == "Embedding*/*":
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


def one_wrong(t):
    """The element in the middle larger by a twentieth; 1 where that is none."""
    made = t.copy()
    made.flat[t.size // 2] = made.flat[t.size // 2] * 1.05 or 1.0
    return made


def last_row_missing(t):
    return np.concatenate([t[:-1], np.zeros_like(t[-1:])])


CHANGES = {
    "halved": lambda t: t / 2,
    "negated": lambda t: -t,
    "zeroed": np.zeros_like,
    "times 1.01": lambda t: t * 1.01,
    "shifted": lambda t: np.roll(t.ravel(), 1).reshape(t.shape),
    "one element wrong": one_wrong,
    "last row missing": last_row_missing,
}
AT_MOST = 4
"""Cases of each finding and format whose tensors are changed."""


def changed_and_known(finding):
    """What is changed in a tensor that shows the finding, and is still called a known finding or is good; and how many
    changes were made."""
    engine, found, made = judging.engine(finding.asked), [], 0
    for dtype in finding.dtypes:
        asked_of = 0
        for case in (case for case in catalogue() if fnmatchcase(case.name, finding.case)):
            for family in case.families if asked_of < AT_MOST else ():
                try:
                    asked = judging.certified(case, family, dtype)
                except Unsupported:
                    continue
                if not isinstance(asked, OneRecord):
                    continue
                reply = ask(engine, asked.record, {})
                if reply.answer is None or reply.profile is None:
                    continue
                failing = [
                    v.name
                    for v in asked.judge(reply.profile)(reply.answer)
                    if is_caught(v.verdict) and v.name in reply.answer
                ]
                asked_of += bool(failing)
                for name, (what, change) in product(failing, CHANGES.items()):
                    right = reply.answer[name]
                    answer = {**reply.answer, name: change(right).astype(right.dtype)}
                    if np.array_equal(answer[name], right, equal_nan=True):
                        continue
                    made += 1
                    # State that the engine keeps none of is not judged.
                    verdicts = [v for v in asked.judge(reply.profile)(answer) if v.name in answer]
                    concluded = Conclusion(verdicts)
                    told = known(
                        finding.asked,
                        case.name,
                        dtype,
                        [v.name for v in verdicts if is_caught(v.verdict)],
                        partial(judging._shown, asked, replace(reply, answer=answer), concluded),
                    )
                    enclosure = asked.judge(reply.profile).enclosures[name]
                    moved = ~((answer[name] == right) | (np.isnan(answer[name]) & np.isnan(right)))
                    # What is within its budget is told from a right answer by nothing.
                    if told and not (enclosure.truth.error(answer[name]) <= enclosure.bound)[moved].all():
                        found.append(f"{case.name}, {family}, {dtype}, {name}, {what}")
    return found, made


STEADY = [f for f in FINDINGS if f.steady]
"""Memory that nobody has written holds any number: a change of it is no other finding."""


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("finding", STEADY, ids=lambda f: f"{f.title}, {f.case}")
def test_a_changed_tensor_is_no_known_finding(finding):
    """A tensor that shows a finding fails as a new one when it is changed in any other way: halved, negated, zeroed,
    moved, or in one element, or without its last row."""
    pytest.importorskip(finding.package)
    pytest.importorskip(finding.shown_by)
    skip_without(finding)
    found, made = changed_and_known(finding)
    assert made or "NaN" in finding.title or "infinite" in finding.title
    assert found == []


def test_only_what_is_listed_is_known(monkeypatch):
    finding = FINDINGS[0]
    monkeypatch.setattr(known_findings, "_installed", lambda package: "2.13.0+cpu")
    name, dtype, tensors = finding.case.replace("*", "batch 3"), finding.dtypes[0], finding.tensors

    def told(engine, name, tensors, shown=True):
        return known(engine, name, dtype, tensors, lambda formula: shown)

    assert told("torch", name, tensors) == finding.title
    assert told("torch:device=cpu", name, tensors) == finding.title
    assert told("torch", name, tensors, shown=False) == ""
    assert told("torch", name, []) == ""
    assert told("torch", name, [*tensors, "output"]) == ""
    assert told("torch", "Linear/batch 3", tensors) == ""
    assert told("my_torch:Engine", name, tensors) == ""
    monkeypatch.setattr(known_findings, "_installed", lambda package: "2.14.0")
    assert told("torch", name, tensors) == ""


def test_a_finding_of_some_options_is_known_with_them_alone(monkeypatch):
    monkeypatch.setattr(known_findings, "_installed", lambda package: "2.13.0+cpu")
    (finding,) = (f for f in FINDINGS if f.title.startswith("a compiled step of SGD"))
    about = finding.case, "float64", finding.tensors, lambda formula: True
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
