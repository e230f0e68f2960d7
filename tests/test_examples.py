"""The engines in examples/, for real, through both doors."""

import contextlib
import io
import json
import runpy
import shutil
import subprocess
from pathlib import Path

import pytest

from parity.families.listing import select
from parity.run import exporting, judging, judging_answers
from parity.vectors import exchange

pytestmark = pytest.mark.arithmetic

EXAMPLES = Path(__file__).parent.parent / "examples"
OWN = ("Linear", "Sigmoid", "Tanh", "ReLU", "MSELoss", "HalfSquaredError", "SGD")
"""Groups of which the engines can do every record but those of targets that are broadcast."""


@pytest.fixture(scope="module")
def command(request, tmp_path_factory):
    if request.param == "JavaScript":
        if shutil.which("node") is None:
            pytest.skip("Node is not installed")
        return ["node", str(EXAMPLES / "mlp.mjs")]
    if shutil.which("cc") is None:
        pytest.skip("there is no C compiler")
    program = tmp_path_factory.mktemp("c") / "mlp"
    source = str(EXAMPLES / "mlp.c")
    subprocess.run(["cc", "-std=c99", "-O2", "-ffp-contract=off", "-o", program, source, "-lm"], check=True)
    return [str(program)]


both = pytest.mark.parametrize("command", ["C", "JavaScript"], indirect=True)


@pytest.fixture(scope="module")
def vectors(tmp_path_factory):
    """Some cases, without what costs most: seeding the mistakes."""
    folder = tmp_path_factory.mktemp("vectors") / "out"
    cases = [case for case in select("") if case.name.startswith(("Linear/batch", "Tanh/", "SGD/", "MSELoss/batch"))]
    documents = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exporting, "caught", lambda *record: [])
        for case in cases:
            own = [exporting.document(case, family, "float64") for family in case.families]
            documents.setdefault(case.name.split("/")[0].lower(), []).extend(own)
    exchange.export(folder, documents)
    return folder


@both
def test_over_the_pipe(command):
    name = f"exec:{' '.join(command)}"
    cases = [case for case in select("") if case.name.split("/")[0] in OWN]
    cases += select("Training/worked example, biases frozen")
    results = judging.judge(cases, [name], ("float64",), 1, 120.0, lambda: None)
    failed = [(r.case, v) for r in results.cases for v in r.verdicts if v.verdict == "FAIL"]
    assert failed == []
    assert {r.unsupported for r in results.cases} <= {"", "targets that are broadcast"}
    assert {r.group for r in results.cases if not r.unsupported} == {*OWN, "Training"}
    assert results.summary(name).coverage > 90


@both
def test_over_files(command, vectors, tmp_path):
    for group in ("linear", "tanh", "sgd", "mseloss"):
        text = subprocess.run([*command, vectors / f"{group}.json"], check=True, capture_output=True, text=True).stdout
        file = tmp_path / f"{group}.json"
        file.write_text(text)
        results = judging_answers.judge(file, 1, lambda n: None, lambda: None)
        assert results.engines == (("mlp.c",) if "node" not in command else ("mlp.mjs",))
        assert results.conforms
        asked = json.loads((vectors / f"{group}.json").read_text())["records"]
        assert len(results.cases) >= 0.9 * len(asked)


@both
def test_a_mistake_in_them_is_found(command, tmp_path):
    """The bias gradient averaged, in the source."""
    if "node" in command:
        source = (EXAMPLES / "mlp.mjs").read_text()
        wrong = source.replace("this.grads.bias.v[o] += sum;", "this.grads.bias.v[o] += sum / N;")
        program = tmp_path / "wrong.mjs"
        program.write_text(wrong)
        name = f"exec:node {program}"
    else:
        source = (EXAMPLES / "mlp.c").read_text()
        wrong = source.replace("m->db.v[o] += sum;", "m->db.v[o] += sum / N;")
        (tmp_path / "wrong.c").write_text(wrong)
        subprocess.run(["cc", "-std=c99", "-o", tmp_path / "wrong", tmp_path / "wrong.c", "-lm"], check=True)
        name = f"exec:{tmp_path / 'wrong'}"
    assert wrong != source
    results = judging.judge(select("Linear/batch 3"), [name], ("float64",), 1, 120.0, lambda: None)
    assert not results.conforms
    assert any("bias gradient averaged" in d for r in results.cases for d in r.diagnosis)


# ---- the Python examples


PYTHON = {
    "autograd_function": ("torch", "(h * n).mean(-1, keepdim=True)", "(h * n).sum(-1, keepdim=True)"),
    "tiled_kernel": ("numpy", "for i in range(-(-m // TILE)):", "for i in range(max(1, m // TILE)):"),
    "jax_custom_vjp": ("jax", "jnp.sum(g * y, axis=-1, keepdims=True)", "jnp.sum(g * y, keepdims=True)"),
    "own_optimizer": ("torch", "1 - beta2 ** state", "1 - beta1 ** state"),
}
"""The framework that each needs, a line of it, and a mistake in its place."""


def run(file):
    """The exit code, and what a file says when it is run as a program."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), pytest.raises(SystemExit) as ended:
        runpy.run_path(str(file), run_name="__main__")
    return int(ended.value.code), said.getvalue()


@pytest.mark.parametrize("name", PYTHON)
def test_a_python_example(name, tmp_path):
    framework, line, wrong = PYTHON[name]
    pytest.importorskip(framework)
    source = EXAMPLES / f"{name}.py"
    code, text = run(source)
    assert code == 0, text
    assert text.startswith("ok: ")
    assert source.read_text().count(line) == 1
    (tmp_path / "wrong.py").write_text(source.read_text().replace(line, wrong))
    code, text = run(tmp_path / "wrong.py")
    assert code == 1
    assert text.startswith("not ok: ")


def test_every_example_is_run():
    assert {p.stem for p in EXAMPLES.glob("*.py")} == PYTHON.keys() | {"triton_layer_norm"}


def test_the_kernels_of_triton_without_a_device(capsys):
    """With one: tests/parity/test_devices.py."""
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a device")
    code, text = run(EXAMPLES / "triton_layer_norm.py")
    assert (code, text) == (2, "")
    assert capsys.readouterr().err.startswith("triton_layer_norm: expected ")
