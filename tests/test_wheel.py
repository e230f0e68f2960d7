"""The installed wheel in an environment that has what the package depends on and nothing else: no torch, no JAX.

The environment's packages are links to those of this one, so that no network is needed.
"""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent


def needed(names):
    """These distributions and what they require, without extras."""
    found, waiting = {}, list(names)
    while waiting:
        distribution = importlib.metadata.distribution(waiting.pop())
        if distribution.name in found:
            continue
        found[distribution.name] = distribution
        required = [r for r in distribution.requires or () if "extra ==" not in r and "platform" not in r]
        waiting += [re.match(r"[\w.-]+", r)[0] for r in required]
    return found.values()


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """The interpreter of the environment with the wheel."""
    pytest.importorskip("hatchling", reason="hatchling, which builds the wheel, is not installed")
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "env", with_pip=False)
    (place,) = (folder / "env").glob("lib/python*/site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(place)
    for distribution in needed(["numpy", "click", "rich", "safetensors", "junitparser"]):
        for top in {file.parts[0] for file in distribution.files or () if file.parts[0] not in ("..", "__pycache__")}:
            if not (place / top).exists():
                (place / top).symlink_to(Path(str(distribution.locate_file(top))))
    return folder / "env" / "bin" / "python"


@pytest.fixture
def run(python, tmp_path):
    """Runs a program of the environment in an empty folder; gives its exit code and what it said."""
    keep = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "COVERAGE"))}

    def call(*arguments):
        done = subprocess.run([python, *arguments], cwd=tmp_path, env=keep, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    return call


def test_nothing_else_is_there(run):
    code, text = run(
        "-c",
        "import importlib.util as u, refnet, parity; print(refnet.__file__);"
        "print([n for n in ('torch', 'jax', 'flint', 'scipy', 'pytest') if u.find_spec(n)])",
    )
    assert code == 0, text
    assert text.splitlines()[1] == "[]"
    assert str(ROOT) not in text


def test_refnet_trains_and_the_vectors_are_there(run):
    code, text = run(
        "-c",
        "import numpy as np, refnet; from refnet import nn, optim\n"
        "g = refnet.Generator(0); net = nn.Sequential(nn.Linear(2, 2, generator=g), nn.Sigmoid())\n"
        "h = refnet.fit(net, nn.MSELoss(), optim.SGD(net.params, lr=0.5), np.eye(2), np.eye(2), iterations=200)\n"
        "print(h.loss[-1] < h.loss[0])",
    )
    assert (code, text) == (0, "True\n")
    code, text = run("-m", "parity", "run", "-k", "Linear/batch 3", "--jobs", "1")
    assert code == 0, text
    assert "refnet conforms on all 4 records" in text
    assert "the package torch is not installed: refnet alone is judged" in text


def test_any_function(run):
    code, text = run(
        "-c",
        "import numpy as np, parity\n"
        "x = np.array([[0.5, -1.0, 2.0]])\n"
        "pair = (lambda x: (np.maximum(x, 0), x), lambda g, x: g * (x > 0))\n"
        "print(parity.check(pair, 'relu', x, sweep=True).ok)",
    )
    assert (code, text) == (0, "True\n")


def test_what_needs_torch_says_so(run):
    code, text = run("-m", "parity", "run", "--engine", "torch")
    assert code == 2
    assert "expected the package torch, got none; install it with: pip install torch" in text


def test_other_languages(run, tmp_path):
    """exec and judge, with the example in C."""
    if shutil.which("cc") is None:
        pytest.skip("there is no C compiler")
    source = ROOT / "examples" / "mlp.c"
    subprocess.run(["cc", "-std=c99", "-O2", "-ffp-contract=off", "-o", tmp_path / "mlp", source, "-lm"], check=True)
    code, text = run("-m", "parity", "run", "-k", "Linear/batch 3", "--jobs", "1", "--engine", f"exec:{tmp_path}/mlp")
    assert code == 0, text
    code, text = run("-m", "parity", "export", "-k", "Linear/batch 3", "--jobs", "1", "vectors")
    assert code == 0, text
    done = subprocess.run([tmp_path / "mlp", tmp_path / "vectors" / "linear.json"], capture_output=True, check=True)
    (tmp_path / "answers.json").write_bytes(done.stdout)
    code, text = run("-m", "parity", "judge", "--jobs", "1", "answers.json")
    assert code == 0, text
    assert re.search(r"mlp\.c conforms on all \d records", text)
