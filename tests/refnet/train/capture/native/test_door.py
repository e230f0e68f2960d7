"""Machine code has one door: what the rest of refnet uses of it stands in the package itself."""

import ast
from pathlib import Path

import refnet

INSIDE = "refnet.train.capture.native"


def inner_imports(path):
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            modules = [node.module] if node.module != INSIDE else []
            yield from (module for module in (*modules, *(names if node.module == INSIDE else ())))
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def test_nothing_outside_imports_what_is_inside():
    root = Path(refnet.__file__).parent
    files = [path for path in root.rglob("*.py") if "native" not in path.parts]
    assert len(files) > 20
    modules = {f"{INSIDE}.{path.stem}" for path in (root / "train/capture/native").glob("*.py")}
    assert [(path.name, name) for path in files for name in inner_imports(path) if name in modules] == []
