"""The documentation is true: its code runs, its commands exist and print what is shown, its links lead somewhere."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

import parity
import refnet.amp
from parity.cli import cli
from refnet.train import index_samplers

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = ("kernels", "versions", "learning", "training", "citing", "results")
"""The pages that people are led through. The others describe forms and proofs, which have tests of their own."""

UNRUN = (
    "run --engine torch --json before.json",
    "run --engine torch --json after.json",
    'run -k "Linear/batch 3" --engine torch --engine torch:cuda',
    "run --engine torch:dtype=bfloat16 --json after.json",
    "compare before.json after.json",
    "compare before.json after.json --dtypes float32 bfloat16",
)
"""Commands that take longer than ten seconds, need a device, or read what these write: their arguments are checked."""

FENCE = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)


def blocks(language):
    for page in PAGES:
        text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
        for number, match in enumerate(FENCE.finditer(text)):
            if match[1] == language:
                yield pytest.param(match[2], shown(text[match.end() :]), id=f"{page}-{number}")


def shown(rest):
    """The lines of the indented block that follows, before the next heading or fence."""
    until = re.split(r"^#|^```", rest, maxsplit=1, flags=re.MULTILINE)[0]
    lines = until.splitlines()
    start = next((k for k, line in enumerate(lines) if line.startswith("    ")), len(lines))
    found = []
    for line in lines[start:]:
        if line and not line.startswith("    "):
            break
        found.append(" ".join(line.split()))
    return [line for line in found if line not in ("", "...")]


def appears(line, output):
    """Whether a line is there; `...` stands for whatever differs from machine to machine."""
    pattern = ".*".join(re.escape(part) for part in line.split("..."))
    return any(re.fullmatch(pattern, " ".join(other.split())) for other in output)


def run(arguments, folder):
    done = subprocess.run([sys.executable, *arguments], cwd=folder, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout.splitlines(), done.stderr


@pytest.mark.arithmetic
@pytest.mark.parametrize(("code", "lines"), list(blocks("python")))
def test_code(code, lines, tmp_path):
    if "torch" in code:
        pytest.importorskip("torch")
    if "def test_" in code:
        compile(code, "docs", "exec")
        return
    status, output, error = run(["-c", code], tmp_path)
    assert status == 0, error
    if "print(" in code and "sys.argv" not in code:
        assert lines
        for line in lines:
            assert appears(line, output), (line, output)


@pytest.mark.arithmetic
@pytest.mark.parametrize(("command", "lines"), list(blocks("console")))
def test_commands(command, lines, tmp_path):
    for line in command.splitlines():
        program, *arguments = shlex.split(line.removeprefix("$ "))
        assert line.startswith("$ ")
        assert program == "parity"
        if line.removeprefix("$ parity ") in UNRUN:
            context = click.Context(cli)
            name, found, rest = cli.resolve_command(context, arguments)
            found.make_context(name, list(rest), parent=context)
            continue
        if "--verify" in arguments:
            pytest.importorskip("flint")
        status, output, error = run(["-m", "parity", *arguments], tmp_path)
        assert status == (1 if "--check" in arguments else 0), error
    for line in lines:
        assert appears(line, output), (line, output)


def test_the_page_of_results_has_every_verdict():
    from parity.verdict.table import TABLE

    text = (DOCS / "results.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| .* \| ([^|]+) \|$", text, flags=re.MULTILINE)
    assert [name for name, _ in rows] == [row.name for row in TABLE]
    for (_, good), row in zip(rows, TABLE, strict=True):
        assert good.startswith({True: "yes", False: "no", None: "not counted"}[row.ok])
        assert row.ok is not False or good == "no"


def test_the_walk_through_of_a_new_class_leads_to_files_that_are_there():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    paths = set(re.findall(r"[\w.]+(?:/[\w.*]+)+\.(?:py|md)", text))
    assert len(paths) > 20
    assert [path for path in paths if not list(ROOT.glob(path))] == []
    for command in re.findall(r"^    parity (\w+)", text, flags=re.MULTILINE):
        assert command in cli.commands
    rows = dict(re.findall(r"^\| (\w+) \| \d \| (\d+ \| \d+)", text, flags=re.MULTILINE))
    for name in ("Adam", "Adamax"):
        family = ROOT / "parity" / "families" / "optim" / name.lower()
        files = [ROOT / "refnet" / "optim" / f"{name.lower()}.py", *family.glob("*.py")]
        lines = {file.name: len(file.read_text(encoding="utf-8").splitlines()) for file in files}
        # Those of Adamax in two tables, listing.py and the tests' row, are told beside.
        more = 15 if name == "Adamax" else 0
        assert rows[name] == f"{sum(lines.values()) + more} | {lines['faults.py']}"


def test_it_builds_without_a_warning(tmp_path):
    """Dead links between pages, and names that are not there, are warnings."""
    pytest.importorskip("sphinx")
    pytest.importorskip("furo")
    pytest.importorskip("myst_parser")
    options = ["-W", "--keep-going", "-q", "-d", str(tmp_path / "cache")]
    status, _, error = run(["-m", "sphinx", *options, str(DOCS), str(tmp_path / "site")], ROOT)
    assert status == 0, error
    site = tmp_path / "site"
    reference = (site / "api" / "parity.html").read_text(encoding="utf-8")
    assert [name for name in parity.__all__ if f'id="parity.{name}"' not in reference] == []
    for page, module in (
        ("nn", refnet.nn.init),
        ("optim", refnet.optim.lr_scheduler),
        ("refnet", refnet.amp),
        ("refnet", index_samplers),
    ):
        reference = (site / "api" / f"{page}.html").read_text(encoding="utf-8")
        assert [name for name in module.__all__ if f'id="{module.__name__}.{name}"' not in reference] == []
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        # It reads offline: nothing is loaded from elsewhere.
        assert not re.search(r"<(?:script|img|link)[^>]+(?:src|href)=\"https?:", text), page
        for link in re.findall(r'<a [^>]*href="([^":#]+)[#"]', text):
            assert (page.parent / link).exists(), (page, link)
