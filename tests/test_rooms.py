"""The house holds: rooms and the one order between them, no circles, short files, one name for each module.

What is read here are the import statements of the source, those in functions and for type checkers included. A room is
a folder of parity; the files directly in parity are one room. A name counts for the module that it comes from,
whichever modules pass it on. The files of a single family take what they need from the files that all families share,
and what those take is counted there, once: the count does not grow with each class.
"""

import ast
import re
import sys
import tomllib
from collections import Counter, defaultdict
from pathlib import Path

import pytest

import parity
import refnet

REPOSITORY = Path(__file__).parent.parent

ORDER = (
    "records",  # what is asked
    "budget",  # how far a right answer may be off
    "families",  # cases, other formulas and mistakes, class by class
    "truth",  # what is right
    "vectors",  # what is kept
    "engines",  # who answers
    "verdict",  # what is said of it
    "run",  # in which processes
    "report",  # how it is shown
    "example",  # the worked example
    "conformance",  # the catalogue as tests, for anyone's project
    "cli",  # what is typed in a terminal
    "parity",  # the files directly in parity: what users call
)
"""A room imports from those before it only."""

ARROWS = 250
"""The most imports, from file to file, that may cross from one room into another. The goal is 70."""

DOORS = 12
"""The most modules directly in parity."""

LINES = 450
"""The most lines of a file of refnet or parity."""

LONG: set[str] = set()
"""Files that are still longer."""

FIXED_NAMES = {"__init__", "cases", "faults", "formulas", "transcription"}
"""The names that every family uses for the same thing."""

SHARED_NAMES: set[str] = set()
"""Names that several modules still have."""

CIRCLES: set[frozenset[str]] = set()
"""Files that still import each other."""

OPTIONAL = {"refnet.train.capture.native": {"llvmlite"}, "refnet.state": {"safetensors"}}
"""What parts of refnet may import besides NumPy, when it is asked for."""


class House:
    """The modules of some packages, and what each imports.

    Attributes:
        files: the file of each module. foreign: the outside packages that each imports.
        arrows: pairs of modules of the house, of which the first imports the second, or a name of it.
    """

    def __init__(self, root, packages):
        self.files, self.foreign, self.arrows = {}, defaultdict(set), set()
        for package in packages:
            for path in sorted((root / package).rglob("*.py")):
                parts = path.relative_to(root).with_suffix("").parts
                self.files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
        self._trees = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in self.files.items()}
        for name, tree in self._trees.items():
            for imported, taken in self._statements(name, tree):
                shared = of_one_family(name) and room(imported) == "families"
                target = imported if shared else self._home(imported, taken)
                if target in self.files:
                    self.arrows |= {(name, target)} if target != name else set()
                else:
                    self.foreign[name].add(imported.partition(".")[0])

    def _statements(self, name, tree):
        """(module, name that is taken from it or None) for each import."""
        package = name if self.files[name].name == "__init__.py" else name.rpartition(".")[0]
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                yield from ((alias.name, None) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                above = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
                module = ".".join([*above, *([node.module] if node.module else [])])
                yield from ((module, alias.name) for alias in node.names)

    def _home(self, module, taken):
        """The module that a name comes from, through the modules that pass it on."""
        if taken and f"{module}.{taken}" in self.files:
            return f"{module}.{taken}"
        if taken and module in self.files:
            for node in self._trees[module].body:
                if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    for alias in node.names:
                        if (alias.asname or alias.name) == taken:
                            return self._home(node.module, alias.name)
        return module

    def circles(self):
        """Sets of modules that reach each other."""
        after = defaultdict(set)
        for one, other in self.arrows:
            after[one].add(other)

        def reached(start):
            found, waiting = set(), [start]
            while waiting:
                for other in after[waiting.pop()] - found:
                    found.add(other)
                    waiting.append(other)
            return found

        reach = {name: reached(name) for name in self.files}
        return {frozenset(n for n in reach[m] if m in reach[n]) for m in self.files if m in reach[m]}

    def between_rooms(self):
        """Arrows of parity that leave their room."""
        return sorted(
            (one, other)
            for one, other in self.arrows
            if one.startswith("parity") and other.startswith("parity") and room(one) != room(other)
        )


def room(module):
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in ORDER else "parity"


def of_one_family(module):
    return room(module) == "families" and len(module.split(".")) > 3


@pytest.fixture(scope="module")
def house():
    return House(REPOSITORY, ("refnet", "parity", "benchmarks"))


def test_every_room_is_in_the_order():
    folders = {p.name for p in (REPOSITORY / "parity").iterdir() if (p / "__init__.py").exists()}
    assert folders == set(ORDER) - {"parity"}


def test_no_arrow_back_up(house):
    back = [(one, other) for one, other in house.between_rooms() if ORDER.index(room(other)) > ORDER.index(room(one))]
    assert back == []


def test_the_arrows_between_rooms(house):
    arrows = house.between_rooms()
    assert len(arrows) <= ARROWS, Counter(f"{room(one)} -> {room(other)}" for one, other in arrows)


def test_no_circles(house):
    assert house.circles() - CIRCLES == set()


def test_refnet_takes_numpy_alone_and_nothing_of_the_yardstick(house):
    for name in house.files:
        if name.partition(".")[0] == "refnet":
            allowed = {"numpy", *sys.stdlib_module_names}
            for part, more in OPTIONAL.items():
                allowed |= more if name.startswith(part) else set()
            assert house.foreign[name] <= allowed, name
    above = [(one, other) for one, other in house.arrows if one.startswith("refnet") and not other.startswith("refnet")]
    assert above == []


def test_the_packages_import_no_benchmark(house):
    assert [a for a in house.arrows if a[1].startswith("benchmarks") and not a[0].startswith("benchmarks")] == []


def test_few_modules_directly_in_parity():
    assert len(list((REPOSITORY / "parity").glob("*.py"))) <= DOORS


def packaged():
    return [path for package in ("refnet", "parity") for path in sorted((REPOSITORY / package).rglob("*.py"))]


def test_no_file_is_long():
    lengths = {str(p.relative_to(REPOSITORY)): len(p.read_text(encoding="utf-8").splitlines()) for p in packaged()}
    assert {name: n for name, n in lengths.items() if n > LINES and name not in LONG} == {}


def test_no_two_modules_of_one_name():
    """Those that mirror torch's files are torch.nn's and torch.optim's: refnet has them, and parity has them as
    folders."""
    counts = Counter(path.stem for path in packaged())
    assert {n for n, count in counts.items() if count > 1} - FIXED_NAMES - SHARED_NAMES == set()


def test_no_module_has_the_name_of_a_public_function():
    public = {name for package in (refnet, refnet.nn, refnet.optim, parity) for name in package.__all__}
    functions = {name for name in public if name.islower() and name not in ("nn", "optim", "init")}
    assert {"fit", "enclose"} <= functions
    assert {path.stem for path in packaged()} & functions == set()


def test_every_package_to_install_is_one_of_the_projects():
    """Messages that say what to install name packages of a registry, where refnet itself need not be."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = [*project["dependencies"], *(p for extra in project["optional-dependencies"].values() for p in extra)]
    known = {re.match(r"[\w.-]+", requirement)[0] for requirement in asked} - {"refnet"}
    named = {
        package
        for path in packaged()
        for package in re.findall(r"pip install '?([a-z][\w.-]*)", path.read_text(encoding="utf-8"))
    }
    assert {"python-flint", "torch", "jax"} <= named
    assert named <= known


# ---- what would be found


def test_another_house(tmp_path):
    texts = {
        "parity/__init__.py": "",
        "parity/run/__init__.py": "from parity.run.pool import start as begin",
        "parity/run/pool.py": "def f():\n    from ..verdict import tensor",
        "parity/verdict/__init__.py": "",
        "parity/verdict/tensor.py": "import parity.run.trial",
        "parity/run/trial.py": "from parity.run import begin\nimport flint.types",
        "parity/cli.py": "from parity.run import begin, trial\nfrom parity.report.text import judge, line as text",
        "parity/report/text.py": "from parity.verdict.tensor import judge_one as judge\nline = 1",
        "parity/families/case.py": "from parity.records.record import Spec",
        "parity/families/nn/linear/cases.py": "from parity.families.case import Spec",
        "parity/families/nn/linear/faults.py": "from parity.records.record import Spec",
        "parity/records/record.py": "class Spec: ...",
    }
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    found = House(tmp_path, ["parity"])
    assert found.between_rooms() == [
        ("parity.cli", "parity.report.text"),
        ("parity.cli", "parity.run.pool"),
        ("parity.cli", "parity.run.trial"),
        ("parity.cli", "parity.verdict.tensor"),
        ("parity.families.case", "parity.records.record"),
        ("parity.families.nn.linear.faults", "parity.records.record"),
        ("parity.report.text", "parity.verdict.tensor"),
        ("parity.run.pool", "parity.verdict.tensor"),
        ("parity.verdict.tensor", "parity.run.trial"),
    ]
    assert found.circles() == {frozenset({"parity.run.pool", "parity.verdict.tensor", "parity.run.trial"})}
    assert found.foreign["parity.run.trial"] == {"flint"}
