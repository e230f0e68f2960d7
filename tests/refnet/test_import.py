"""What `import refnet` brings with it, and the example in its docstring."""

import doctest
import importlib.resources
import json
import subprocess
import sys
from functools import cache
from importlib.util import find_spec

import pytest

import refnet

NAMES = {"Generator", "History", "__version__", "ensemble", "fit", "load", "manual_seed", "nn", "optim", "save"}

SHORT_TRAINING = """
import numpy as np, refnet
from refnet.train.capture import captured
captured.PAID_BACK = 0.0  # machine code does not pay, however slow the updates are on this machine, at this moment
net = refnet.nn.Linear(2, 1)
opt = refnet.optim.SGD(net.params)
history = refnet.fit(net, refnet.nn.MSELoss(), opt, np.ones((3, 2)), np.ones((3, 1)), iterations=120)
assert history.why_plain == ""
"""


@cache
def modules_after(statement):
    """The names of all top-level modules in a new interpreter after a statement."""
    code = f"import json, sys; {statement}; print(json.dumps(sorted({{name.split('.')[0] for name in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return set(json.loads(done.stdout))


def foreign(statement):
    """What a statement imports that is neither Python's own nor NumPy with its parts."""
    return modules_after(statement) - modules_after("import numpy, numpy.random") - set(sys.stdlib_module_names)


def test_import_takes_numpy_alone():
    assert foreign("import refnet") == {"refnet"}


def test_a_training_that_is_captured_takes_numpy_alone():
    """The translator to machine code is loaded where it pays only."""
    assert foreign(f"exec({SHORT_TRAINING!r})") == {"refnet"}


def test_another_import_would_be_seen():
    others = [name for name in ("torch", "safetensors", "flint", "llvmlite") if find_spec(name)]
    if not others:
        pytest.skip("none of the other packages is installed")
    assert {*others} <= foreign(f"import refnet, {', '.join(others)}")


def test_public_names():
    assert set(refnet.__all__) == NAMES
    assert all(hasattr(refnet, name) for name in refnet.__all__)
    assert all(hasattr(refnet.nn, name) for name in refnet.nn.__all__)
    assert all(hasattr(refnet.optim, name) for name in refnet.optim.__all__)
    assert refnet.__version__ == "0.1.0"


def leaves(kind):
    """The classes below that no other derives from."""
    below = kind.__subclasses__()
    return [leaf for child in below for leaf in leaves(child)] if below else [kind]


def is_part_of_refnet(kind):
    """Whether a class stands in a module of refnet.nn, unlike one that another test made of the same source."""
    home = sys.modules.get(kind.__module__)
    return kind.__module__.startswith("refnet.nn.") and getattr(home, kind.__name__, None) is kind


def test_every_module_is_exported():
    """Every layer and loss of refnet.nn is to be had as refnet.nn.<name>, unlike those that others build on."""
    below = leaves(refnet.nn.Module)
    # A list of modules is a part of the stacks, and computes nothing of its own.
    own = {kind.__name__ for kind in below if is_part_of_refnet(kind)} - {"ModuleList"}
    assert own <= set(refnet.nn.__all__)
    assert set(refnet.nn.__all__) == own | {"Module", "init"}


def test_types_are_shipped():
    assert importlib.resources.files("refnet").joinpath("py.typed").is_file()


def test_docstring_example_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the example saves a file
    failed, attempted = doctest.testmod(refnet)
    assert failed == 0
    assert attempted >= 15
    assert [file.name for file in tmp_path.iterdir()] == ["and.npz"]
