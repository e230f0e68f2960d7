"""Layers, losses and optimizers are written with the listed functions, to run in every arithmetic.

The code is read, not run. `refnet/special.py` is exempt: it is where an arithmetic answers for itself what an
expression cannot say. So are `refnet/nn/init.py`, which fills arrays of
floats, no others, and `refnet/nn/overwriting.py`, which takes digests of such.
"""

import ast
from pathlib import Path

import numpy as np
import pytest

import refnet
from refnet.arithmetic import functions

PACKAGE = Path(refnet.__file__).parent
EXEMPT = {PACKAGE / "nn" / "init.py", PACKAGE / "nn" / "overwriting.py"}
FILES = sorted({*PACKAGE.glob("nn/*.py"), *PACKAGE.glob("optim/*.py")} - EXEMPT)

LISTED = {*functions.UFUNCS, *functions.FUNCTIONS, *functions.PLAIN}
# What arrays have besides, to keep away from: `.T`, `.mean`, `.max`, ...
FORBIDDEN_ATTRIBUTES = {name for name in dir(np.ndarray) if not name.startswith("_")} - set(functions.METHODS)
# Functions that take an axis as their second argument, and methods that take it as their first.
AXIS_SECOND, AXIS_FIRST = ("expand_dims", "concatenate", "sum"), ("sum",)
# A base class is the contract itself, or plumbing around two equations. Whoever needs more writes the equation again.
BASES = {
    "Module",
    "Elementwise",
    "Optimizer",
    "NamedTuple",
    "dict",
    "ABC",
    "_BatchNorm",
    "_InstanceNorm",
    "LRScheduler",
    "TransformerLayer",
}
# Where arrays come from files, not from another arithmetic, they may be looked at.
DOORS = {
    "load_state_dict": {"isfinite", "all", "any", "min", "flags"},
    "_check_values": {"inf", "all", "min"},
    "_fitting": {"inf", "all"},
    "due": {"flags"},
}


def number(node):
    if isinstance(node, ast.UnaryOp):
        return number(node.operand)
    return isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool)


def dotted(node):
    """`np.lib.x` as ["np", "lib", "x"]; None for anything else than names."""
    if isinstance(node, ast.Name):
        return [node.id]
    if isinstance(node, ast.Attribute) and (inner := dotted(node.value)):
        return [*inner, node.attr]
    return None


def not_negative(axis):
    """Whether an axis, or one of several, is written as a literal that counts from the front."""
    if isinstance(axis, ast.Tuple | ast.List):
        return any(not_negative(element) for element in axis.elts)
    return isinstance(axis, ast.Constant) and isinstance(axis.value, int)


def is_type(name):
    """float32, ndarray and the like: no functions on arrays, only their names."""
    value = getattr(np, name, None)
    return isinstance(value, type) and issubclass(value, np.generic | np.ndarray | np.dtype)


class Reader(ast.NodeVisitor):
    def __init__(self):
        self.offences = []
        self.allowed = set()

    def refuse(self, node, what):
        self.offences.append(f"line {node.lineno}: {what}")

    def visit_FunctionDef(self, node):
        outer, self.allowed = self.allowed, self.allowed | DOORS.get(node.name, set())
        self.generic_visit(node)
        self.allowed = outer

    def visit_ClassDef(self, node):
        for base in node.bases:
            name = dotted(base.value if isinstance(base, ast.Subscript) else base)
            if name is None or name[-1] not in BASES:
                self.refuse(base, f"base class {ast.unparse(base)}")
        self.generic_visit(node)

    def visit_Import(self, node):
        for alias in node.names:
            if alias.name.split(".")[0] == "numpy" and (alias.name, alias.asname) != ("numpy", "np"):
                self.refuse(node, f"import {alias.name} other than as np")

    def visit_ImportFrom(self, node):
        if (node.module or "").split(".")[0] == "numpy":
            self.refuse(node, f"from {node.module} import")

    def visit_Attribute(self, node):
        names = dotted(node)
        if names and names[0] == "np":
            name = ".".join(names[1:])
            if name not in LISTED | self.allowed and not is_type(name):
                self.refuse(node, f"np.{name}")
            return
        if names and names[0] == "math":
            return
        if node.attr in FORBIDDEN_ATTRIBUTES - self.allowed:
            self.refuse(node, f".{node.attr}")
        self.generic_visit(node)

    def visit_Call(self, node):
        names = dotted(node.func)
        of_numpy = bool(names) and names[0] == "np"
        axes = [keyword.value for keyword in node.keywords if keyword.arg == "axis"]
        if of_numpy and names[-1] in AXIS_SECOND:
            axes += node.args[1:2]
        elif not of_numpy and isinstance(node.func, ast.Attribute) and node.func.attr in AXIS_FIRST:
            axes += node.args[:1]
        for axis in axes:
            if not_negative(axis):
                self.refuse(axis, f"axis {ast.unparse(axis)} from the front")
        if names == ["np", "sqrt"] and node.args and number(node.args[0]):
            self.refuse(node, "np.sqrt of a number")
        self.generic_visit(node)

    def visit_BinOp(self, node):
        if isinstance(node.op, ast.Div) and number(node.left) and number(node.right):
            self.refuse(node, "division of two numbers")
        self.generic_visit(node)


def offences(source):
    reader = Reader()
    reader.visit(ast.parse(source))
    return reader.offences


def test_there_are_files_to_read():
    assert {file.name for file in FILES} >= {"activation.py", "linear.py", "loss.py", "module.py", "sgd.py"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_written_with_the_listed_functions(file):
    assert offences(file.read_text(encoding="utf-8")) == []


def test_every_listed_function_is_numpys():
    for name in LISTED:
        value = np
        for part in name.split("."):
            value = getattr(value, part)
        assert callable(value)
    assert all(isinstance(getattr(np, name), np.ufunc) for name in functions.UFUNCS)
    assert all(hasattr(np.ndarray, name) for name in functions.METHODS)


OFFENDING = {
    "Y = np.maximum(X, 0)": "np.maximum",
    "V = np.var(X, axis=-1)": "np.var",
    "Y = np.logaddexp(X, 0)": "np.logaddexp",
    "if np.isfinite(X).all(): pass": "np.isfinite",
    "if np.isnan(X): pass": "np.isnan",
    "Y = np.max(X, axis=-1)": "np.max",
    "Y = np.add.reduce(X, axis=-1)": "np.add.reduce",
    "Y = np.linalg.norm(X)": "np.linalg.norm",
    "f = np.exp2": "np.exp2",
    "with np.errstate(over='ignore'): pass": "np.errstate",
    "Y = X @ W.T": ".T",
    "Y = f(X).T": ".T",
    "M = X.mean(axis=-1)": ".mean",
    "M = X.max()": ".max",
    "Y = X.astype(np.float64)": ".astype",
    "Y = X[0].dot(W)": ".dot",
    "Y = X.sum(axis=0)": "axis 0 from the front",
    "Y = X.sum(axis=(-1, 1))": "axis (-1, 1) from the front",
    "Y = X.sum(1)": "axis 1 from the front",
    "Y = np.sum(X, axis=1)": "axis 1 from the front",
    "Y = np.sum(X, 0)": "axis 0 from the front",
    "Y = np.expand_dims(X, 0)": "axis 0 from the front",
    "Y = np.concatenate([X, Y], axis=1)": "axis 1 from the front",
    "Y = X * np.sqrt(2)": "np.sqrt of a number",
    "Y = X * np.sqrt(-2.0)": "np.sqrt of a number",
    "Y = X * (1 / 3)": "division of two numbers",
    "Y = X * (-1.0 / 3)": "division of two numbers",
    "from numpy import var": "from numpy import",
    "from numpy.lib.stride_tricks import sliding_window_view": "from numpy.lib.stride_tricks import",
    "import numpy": "import numpy other than as np",
    "import numpy.linalg as la": "import numpy.linalg other than as np",
    "class Wide(Linear): pass": "base class Linear",
    "class Wide(nn.Linear): pass": "base class nn.Linear",
    "class Wide(Module, Linear): pass": "base class Linear",
    "def forward(self, X): return np.isfinite(X)": "np.isfinite",
}


@pytest.mark.parametrize("source", OFFENDING, ids=str)
def test_an_offence_is_seen(source):
    assert f"line 1: {OFFENDING[source]}" in offences(source)


INNOCENT = [
    "import numpy as np",
    "Y = X @ W.mT + b",
    "Y = np.where(X > 0, X, 0)",
    "Y = X.sum(axis=-1, keepdims=True)",
    "Y = X.sum(axis=(-2, -1))",
    "Y = np.expand_dims(t, -1) == np.arange(C)",
    "P = np.lib.stride_tricks.sliding_window_view(X, k, axis=(-2, -1))",
    "Y = D * 2 / n",
    "R = 1 / np.sqrt(V)",
    "bound = 1 / math.sqrt(5)",
    "W = np.empty((3, 2), dtype or np.float64)",
    "n = math.prod(X.shape[:-1])",
    "class Linear(Module): pass",
    "def load_state_dict(self, state): return np.isfinite(state).all()",
]


@pytest.mark.parametrize("source", INNOCENT, ids=str)
def test_what_is_allowed_is_no_offence(source):
    assert offences(source) == []
