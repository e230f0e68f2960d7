"""`parity.check` of modules of torch.nn: the class says what is right, the attributes with which arguments."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import parity
import refnet
from parity.engines.modules_in_torch import OWN
from parity.engines.torch import TorchEngine
from parity.families.case import VJPCase
from parity.families.listing import catalogue
from parity.records.facts import MODULES
from parity.records.record import VJP, UsageError

torch = pytest.importorskip("torch")
nn = torch.nn

BY_KEYWORD = {"MultiheadAttention": 3}
"""How many inputs a class takes in their order; the others by name. All, where nothing is said."""

COVERED = [kind for kind in MODULES if hasattr(nn, kind) and kind not in OWN]


def given_masks(record: VJP) -> bool:
    """Whether it has dropout masks, which nobody can hand to torch's module."""
    about = record.spec.facts
    return about.mask or bool(set(about.dropout_masks) & set(record.input_names))


def records(kind: str) -> list[tuple[str, VJP]]:
    """Some of those that the catalogue has of a class: one of the middle and the last."""
    found = []
    for case in catalogue():
        if isinstance(case, VJPCase) and case.spec.type == kind and not case.large:
            record = case.record(case.families[-1], "float32")
            finite = all(np.isfinite(a).all() for what, a in record.given() if what.startswith("input"))
            if record.inputs[0].size and finite and not given_masks(record):
                found.append((case.name, record))
    return [found[k] for k in sorted({len(found) // 2, len(found) - 1})] if found else []


def checked(module: Any, record: VJP) -> parity.Report:
    inputs = [torch.from_numpy(np.array(x)) for x in record.inputs]
    first = BY_KEYWORD.get(record.spec.type, len(inputs))
    expected = record.spec.facts.inputs[: len(inputs)]
    if record.spec.facts.options:
        differ = [k for k, (name, due) in enumerate(zip(record.input_names, expected, strict=True)) if name != due]
        first = min([first, *differ])
    by_name = dict(zip(record.input_names[first:], inputs[first:], strict=True))
    return parity.check(module, *inputs[:first], **by_name, **record.spec.forward_args)


@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides:UserWarning", "ignore:Using padding='same':UserWarning")
@pytest.mark.parametrize("kind", [kind for kind in COVERED if kind != "Dropout"])
def test_modules_of_every_class(kind: str) -> None:
    """A comparison may be left open at a kink; nothing else may, and not in every record."""
    pytest.importorskip("flint")
    some = records(kind)
    assert some
    reports = []
    for name, record in some:
        engine = TorchEngine()
        engine._require("float32")
        module = engine._build(record.spec, record.arrays, "float32").train(record.training)
        report = checked(module, record)
        assert {v.verdict for v in report.verdicts if v.verdict == "FAIL"} == set(), f"{name}\n{report}"
        names = {v.name for v in report.verdicts}
        params = {f"grad.{n}" for n, p in module.named_parameters()}
        buffers = {f"buffer.{n}" for n, b in module.named_buffers() if b.is_floating_point()}
        assert params | buffers <= names, name
        assert any(n.startswith("output") for n in names), name
        reports.append(report)
    assert any(report.ok for report in reports), reports[0]


SIZES: dict[str, Any] = {"d_model": 4, "nhead": 2, "dim_feedforward": 3, "dropout": 0.0, "dtype": torch.float64}
X, M = (torch.randn(2, n, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(n)) for n in (3, 5))


def encoder_layer(**options: Any) -> Any:
    return nn.TransformerEncoderLayer(**{**SIZES, "batch_first": True, **options})


def decoder_layer(**options: Any) -> Any:
    return nn.TransformerDecoderLayer(**{**SIZES, "batch_first": True, **options})


def transformer(**options: Any) -> Any:
    few = {"num_encoder_layers": 1, "num_decoder_layers": 1, "batch_first": True}
    return nn.Transformer(**{**SIZES, **few, **options})


MODULES_AND_INPUTS = {
    "TransformerEncoderLayer": lambda: (encoder_layer(), (X,)),
    "TransformerDecoderLayer": lambda: (decoder_layer(), (X, M)),
    "TransformerEncoder": lambda: (nn.TransformerEncoder(encoder_layer(), 2), (X,)),
    "TransformerDecoder": lambda: (
        nn.TransformerDecoder(decoder_layer(), 1, nn.LayerNorm(4, dtype=torch.float64)),
        (X, M),
    ),
    "Transformer": lambda: (transformer(), (M, X)),
    "MultiheadAttention": lambda: (nn.MultiheadAttention(4, 2, batch_first=True, dtype=torch.float64), (X, M, M)),
}


@pytest.mark.parametrize("name", MODULES_AND_INPUTS)
def test_a_wrong_gradient_inside_is_seen(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the projection behind the attention, in the first attention that there is."""
    module, inputs = MODULES_AND_INPUTS[name]()
    assert parity.check(module, *inputs).ok
    weight = next(n for n, _ in module.named_parameters() if n.endswith("out_proj.weight"))
    own = torch.autograd.grad

    def halved(outputs: Any, leaves: Any, *rest: Any, **options: Any) -> Any:
        wrong = dict(module.named_parameters())[weight]
        grads = own(outputs, leaves, *rest, **options)
        return tuple(g / 2 if leaf is wrong else g for leaf, g in zip(leaves, grads, strict=True))

    monkeypatch.setattr(torch.autograd, "grad", halved)
    report = parity.check(module, *inputs)
    assert [v.name for v in report.verdicts if v.verdict == "FAIL"] == [f"grad.{weight}"], report


@pytest.mark.parametrize(
    "activation", [nn.functional.gelu, nn.GELU("tanh"), nn.SiLU()], ids=["gelu", "GELU of tanh", "SiLU"]
)
def test_activations_of_a_layer(activation: Any) -> None:
    assert parity.check(encoder_layer(activation=activation), X).ok


def test_masks_and_options_by_name() -> None:
    causal, padding = torch.ones(3, 3, dtype=torch.bool).triu(1), torch.zeros(2, 3, dtype=torch.bool)
    padding[1, 2] = True
    layer = encoder_layer()
    both = parity.check(layer, X, src_mask=causal, src_key_padding_mask=padding, is_causal=True)
    assert both.ok
    assert parity.check(layer, X, None, padding).ok
    pairs = torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    added = parity.check(layer, X, src_mask=pairs)
    assert added.ok
    assert {"grad_input.0", "grad_input.1"} <= {v.name for v in added.verdicts}
    attention = nn.MultiheadAttention(4, 2, batch_first=True, dtype=torch.float64)
    assert [v.name for v in parity.check(attention, X, X, X, need_weights=False).verdicts][:1] == ["output"]


def test_a_compiled_layer() -> None:
    assert parity.check(
        torch.compile(encoder_layer(), backend="eager"), X, src_mask=torch.zeros(3, 3, dtype=torch.float64)
    ).ok


def unalike() -> Any:
    stack = nn.TransformerEncoder(encoder_layer(), 2)
    stack.layers[1] = encoder_layer(norm_first=True)
    return stack


def other_norm() -> Any:
    layer = encoder_layer(bias=False)
    layer.norm2 = nn.RMSNorm(4)
    return layer


def other_dropout() -> Any:
    layer = encoder_layer()
    layer.dropout2.p = 0.5
    return layer.eval()


@pytest.mark.parametrize(
    ("module", "options", "message"),
    [
        (lambda: encoder_layer(dropout=0.1), {}, "expected TransformerEncoderLayer.eval(), or no dropout: what Transf"),
        (lambda: nn.Dropout(0.5), {}, "expected Dropout.eval(), or no dropout: what Dropout draws is not known"),
        (nn.RReLU, {}, "expected RReLU.eval(): what RReLU draws is not known"),
        (unalike, {}, "expected layers of a TransformerEncoder that are alike, got TransformerEncoderLayer("),
        (other_norm, {}, "expected a TransformerEncoderLayer with a LayerNorm at each of its places, got RMSNorm"),
        (other_dropout, {}, "expected a TransformerEncoderLayer with one dropout in all its parts, got 0.0 and 0.5"),
        (encoder_layer, {"causal": True}, "expected arguments of TransformerEncoderLayer"),
        (lambda: encoder_layer(activation=torch.sin), {}, "expected a TransformerEncoderLayer whose activation is re"),
        (lambda: nn.Linear(4, 4), {"eps": 1e-3}, "expected arguments of Linear(input: torch.Tensor)"),
    ],
)
def test_what_no_class_says_is_refused(module: Any, options: Any, message: str) -> None:
    with pytest.raises(UsageError) as raised:
        parity.check(module(), X, **options)
    assert str(raised.value).startswith(f"check: {message}")


class OwnRMSNorm(nn.Module):
    """As people write it."""

    def __init__(self, n: int, name: str = "weight") -> None:
        super().__init__()
        self.name = name
        self.register_parameter(name, nn.Parameter(torch.randn(n)))

    def forward(self, x):
        return x * torch.rsqrt((x * x).mean(-1, keepdim=True) + 1e-6) * getattr(self, self.name)


@pytest.mark.parametrize("reference", ["rms_norm", "RMSNorm"])
def test_the_parameters_of_a_module_of_ones_own(reference):
    """They are the reference's under their names, and their gradients are judged."""
    torch.manual_seed(0)
    x, module = torch.randn(4, 8), OwnRMSNorm(8)
    report = parity.check(module, reference, x, normalized_shape=[8], eps=1e-6)
    assert report.ok, report
    assert [v.name for v in report.verdicts] == ["output", "grad_input", "grad.weight"]

    class Detached(OwnRMSNorm):
        def forward(self, x):
            return super().forward(x) - x.detach() * self.weight + x.detach() * self.weight.detach()

    wrong = parity.check(Detached(8), reference, x, normalized_shape=[8], eps=1e-6)
    assert [v.name for v in wrong.verdicts if v.verdict == "FAIL"] == ["grad.weight"], wrong


def test_a_class_without_a_functional_takes_a_modules_parameters():
    torch.manual_seed(0)

    class Norm(nn.InstanceNorm1d):
        """One of one's own that keeps torch's names."""

    report = parity.check(Norm(4, affine=True), "InstanceNorm1d", torch.randn(3, 4, 5), num_features=4, affine=True)
    assert report.ok, report
    assert [v.name for v in report.verdicts] == ["output", "grad_input", "grad.weight", "grad.bias"]


def test_the_buffers_of_a_module_of_ones_own():
    torch.manual_seed(0)

    class Norm(nn.BatchNorm1d):
        """One of one's own that keeps torch's names."""

    x = torch.randn(6, 3)
    right, wrong = Norm(3).eval(), Norm(3, eps=1e-3).eval()
    for norm in (right, wrong):
        norm.running_var.mul_(3)
    report = parity.check(right, "batch_norm", x)
    assert report.ok, report
    assert {"grad.weight", "buffer.running_mean", "buffer.running_var"} <= {v.name for v in report.verdicts}
    assert not parity.check(wrong, "batch_norm", x).ok
    with pytest.raises(UsageError, match="expected training=False with running statistics"):
        parity.check(Norm(3), "batch_norm", x, training=True)


class OwnBatchNorm(nn.Module):
    """Written by hand; its running variance is biased, where torch's is not."""

    def __init__(self, n: int, biased: bool, counts: bool) -> None:
        super().__init__()
        self.weight, self.bias, self.biased = nn.Parameter(torch.randn(n)), nn.Parameter(torch.randn(n)), biased
        self.register_buffer("running_mean", torch.zeros(n))
        self.register_buffer("running_var", torch.ones(n))
        if counts:
            self.register_buffer("num_batches_tracked", torch.tensor(0))

    def forward(self, x):
        mean, var = x.mean(0), x.var(0, unbiased=False)
        if not self.training:
            mean, var = self.running_mean, self.running_var
        else:
            with torch.no_grad():
                self.running_mean.lerp_(mean, 0.1)
                self.running_var.lerp_(x.var(0, unbiased=not self.biased), 0.1)
        return (x - mean) / torch.sqrt(var + 1e-5) * self.weight + self.bias


@pytest.mark.parametrize("counts", [False, True])
def test_the_buffers_of_a_module_held_against_a_class(counts):
    """They go to the class under their names, in the module's mode, and what training writes into them is judged."""
    torch.manual_seed(0)
    x = torch.randn(6, 3)
    right = parity.check(OwnBatchNorm(3, False, counts), "BatchNorm1d", x, num_features=3)
    assert right.ok, right
    assert {"grad.weight", "grad.bias", "buffer.running_mean", "buffer.running_var"} <= {*right}
    wrong = parity.check(OwnBatchNorm(3, True, counts), "BatchNorm1d", x, num_features=3)
    assert [v.name for v in wrong.verdicts if v.verdict == "FAIL"] == ["buffer.running_var"]
    assert wrong.diagnosis[0].startswith("running variance biased")
    evaluated = parity.check(OwnBatchNorm(3, True, counts).eval(), "BatchNorm1d", x, num_features=3)
    assert evaluated.ok, evaluated
    due = "buffers of BatchNorm1d by their names, got no running_mean, running_var; .*track_running_stats=False"
    with pytest.raises(UsageError, match=due):
        parity.check(lambda x, w, b: x, "BatchNorm1d", x, torch.ones(3), torch.ones(3), num_features=3)


def test_parameters_that_the_reference_does_not_take():
    x = torch.randn(4, 8)
    due = r"parameters of OwnRMSNorm called as rms_norm has them \(weight\), got scale; a function .*functional_call"
    with pytest.raises(UsageError, match=due):
        parity.check(OwnRMSNorm(8, "scale"), "rms_norm", x, normalized_shape=[8], eps=1e-6)
    with pytest.raises(UsageError, match=r"got a OwnRMSNorm; a module of one's own has a reference"):
        parity.check(OwnRMSNorm(8), x)


class RefnetRMSNorm(refnet.nn.Module):
    """One of one's own, whose gradient of the weight is `factor` times the right one."""

    def __init__(self, features: int, factor: float = 1.0) -> None:
        super().__init__()
        self.params["weight"] = np.linspace(0.5, 1.5, features)
        self.factor = factor

    def forward(self, X: Any) -> tuple[Any, Any]:
        R = 1 / np.sqrt((X * X).mean(axis=-1, keepdims=True) + 1e-6)
        return X * R * self.params["weight"], (X, R)

    def backward(self, grad_output: Any, saved: Any) -> tuple[Any, dict[str, Any]]:
        X, R = saved
        dH = grad_output * self.params["weight"]
        dX = R * (dH - X * R * R * (dH * X).mean(axis=-1, keepdims=True))
        return dX, {"weight": self.factor * (grad_output * X * R).sum(axis=0)}


ROWS = np.random.default_rng(1).normal(size=(4, 5))


def test_a_module_of_refnets_brings_its_own_backward() -> None:
    norm = {"normalized_shape": [5], "eps": 1e-6}
    right = parity.check(RefnetRMSNorm(5), "rms_norm", ROWS, sweep=True, **norm)
    assert right.ok, right
    assert [v.name for v in right.verdicts] == ["output", "grad_input", "grad.weight"]
    wrong = parity.check(RefnetRMSNorm(5, 0.25), "rms_norm", ROWS, **norm)
    assert [v.name for v in wrong.verdicts if v.verdict == "FAIL"] == ["grad.weight"]
    assert "1/4 times the truth in grad.weight" in str(wrong)
    # The program under the failure shows it without parity.
    program = wrong.script.replace("fn = ...", "fn = RefnetRMSNorm(5, 0.25)")
    with pytest.raises(AssertionError):
        exec(program, {"RefnetRMSNorm": RefnetRMSNorm})
    exec(program.replace("(5, 0.25)", "(5)"), {"RefnetRMSNorm": RefnetRMSNorm})


@pytest.mark.parametrize(
    ("module", "reference", "inputs", "names"),
    [
        (refnet.nn.Linear(5, 3), "linear", (ROWS,), ["output", "grad_input", "grad.weight", "grad.bias"]),
        (refnet.nn.MSELoss(), "mse_loss", (ROWS, ROWS + 1), ["output", "grad_input.0", "grad_input.1"]),
        (refnet.nn.CrossEntropyLoss(), "cross_entropy", (ROWS, np.array([0, 1, 2, 3])), ["output", "grad_input.0"]),
        (refnet.nn.Tanh(), lambda x: np.tanh(x), (ROWS,), ["value", "gradients[0]"]),
    ],
)
def test_modules_of_refnet_are_right(module: Any, reference: Any, inputs: Any, names: list[str]) -> None:
    report = parity.check(module, reference, *inputs)
    assert report.ok, report
    assert [v.name for v in report.verdicts] == names


def test_a_module_of_refnets_has_a_reference_and_is_no_class() -> None:
    with pytest.raises(UsageError, match="expected a reference beside a module of refnet's, got none for Linear"):
        parity.check(refnet.nn.Linear(5, 3), ROWS)
    for kind in (refnet.nn.GELU, nn.GELU):
        with pytest.raises(UsageError, match=r"expected a module, got the class GELU itself; GELU\(...\) makes one"):
            parity.check(kind, "gelu", ROWS)

    class Forgetful(RefnetRMSNorm):
        def backward(self, grad_output: Any, saved: Any) -> Any:
            return super().backward(grad_output, saved)[0]

    report = parity.check(Forgetful(5), "rms_norm", ROWS, normalized_shape=[5], eps=1e-6)
    assert report["call"].reason == "expected backward to give (grad_input, grad_params), got ndarray"


@pytest.mark.parametrize("of", [refnet.nn.BatchNorm1d, nn.BatchNorm1d])
def test_a_module_is_left_with_the_buffers_that_it_had(of: Any) -> None:
    """And the program of its own begins from them."""

    class Forgetful(of):  # type: ignore[misc]
        def forward(self, input: Any) -> Any:
            self.buffer("running_var")[...] = 0.25
            return super().forward(input)

        def buffer(self, name: str) -> Any:
            return dict(self.named_buffers())[name]

    module = Forgetful(5, dtype=np.float64 if of is refnet.nn.BatchNorm1d else torch.float64)
    rows = ROWS if of is refnet.nn.BatchNorm1d else torch.tensor(ROWS)
    report = parity.check(module, "BatchNorm1d", rows, num_features=5)
    assert [v.name for v in report.verdicts if v.verdict == "FAIL"] == ["buffer.running_var"]
    assert (module.buffer("num_batches_tracked"), module.buffer("running_var").tolist()) == (0, [1.0] * 5)
    assert "'num_batches_tracked': " in report.script
    assert "(0, dtype=torch.int64)" in report.script or "(0, 'int64')" in report.script


def test_a_sweep_leaves_the_buffers_too() -> None:
    module = nn.BatchNorm1d(5, dtype=torch.float64)
    assert parity.check(module, torch.tensor(ROWS), sweep=True).ok
    assert module.num_batches_tracked == 0
    assert module.running_var.tolist() == [1.0] * 5
