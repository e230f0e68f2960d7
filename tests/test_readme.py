"""What the README shows is what happens."""

import json
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from parity.families.case import DTYPES
from parity.families.listing import FAULTS, REWRITINGS, catalogue
from parity.verdict.known_findings import FINDINGS
from refnet import nn, optim

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def block(word: str) -> str:
    (found,) = (b for b in BLOCKS if word in b)
    return found


def shown(after: str) -> list[str]:
    """The lines of the first indented block behind a text, without white space that only sets them out."""
    lines = README[README.index(after) + len(after) :].splitlines()
    start = next(k for k, line in enumerate(lines) if line.startswith("    "))
    quoted = []
    for line in lines[start:]:
        if not line.startswith("    "):
            break
        quoted.append(" ".join(line.split()))
    return [line for line in quoted if line != "..."]


def run(folder: Path, *command: str) -> tuple[int, list[str]]:
    done = subprocess.run([sys.executable, *command], cwd=folder, capture_output=True, text=True, check=False)
    return done.returncode, [" ".join(line.split()) for line in done.stdout.splitlines()]


@pytest.mark.arithmetic
def test_the_adapter(tmp_path):
    code = block("class MyEngine")
    assert len(code.splitlines()) <= 25
    (tmp_path / "my_engine.py").write_text(code, encoding="utf-8")
    (command,) = re.findall(r"^ +parity (run .*my_engine:MyEngine.*)$", README, flags=re.MULTILINE)
    arguments = [a.strip('"') for a in re.findall(r'"[^"]*"|\S+', command)]
    code, output = run(tmp_path, "-m", "parity", *arguments)
    assert code == 1
    for line in shown(command):
        assert line in output


@pytest.mark.arithmetic
def test_check(tmp_path):
    pytest.importorskip("torch")
    code, _ = run(tmp_path, "-c", block("parity.check("))
    assert code == 0


@pytest.mark.arithmetic
def test_enclose(tmp_path):
    _, output = run(tmp_path, "-c", block("parity.enclose("))
    quoted = shown("print(e.check(y.sum(), mine))\n```")

    def settled(line: str) -> str:
        """Without the figures that come from the processor's own tanh."""
        kind = next((word for word in ("rounding", "FAIL", "exact") if f" {word} " in line), "")
        return line.partition(kind)[0] if line.startswith(("value", "gradients")) else re.sub(r"\d+e-15", "", line)

    assert list(map(settled, output)) == list(map(settled, quoted))


@pytest.mark.arithmetic
def test_the_library(tmp_path):
    code = block("refnet.fit(")
    _, output = run(tmp_path, "-c", code)
    assert output == ["[0 1 1 0]"]
    assert "print(output.argmax(axis=1))  # [0 1 1 0]" in code


def test_the_worked_example(tmp_path):
    code, output = run(tmp_path, "-m", "parity", "example")
    assert code == 0
    for line in shown("Each figure as printed, certified, and as refnet and torch have it:"):
        assert line in output


def test_counts():
    cases = catalogue()
    records = sum(len(case.families) * len(DTYPES) for case in cases)
    assert f"holds refnet and torch against {len(cases):,} cases" in README
    assert f"refnet conforms on all {records} records of {len(cases)} cases" in README
    assert f" of {records} records" in README
    caught = f"{len(FAULTS)} of {len(FAULTS)} known mistakes caught, 0 of {len(REWRITINGS)} harmless rewritings flagged"
    assert caught in README
    assert f"makes {len(FAULTS)} known mistakes" in README
    assert f"None of {len(REWRITINGS)} harmless rewritings" in README


def test_known_findings_are_those_that_are_listed():
    titles = re.findall(r"^ {6}\d+ records?: (.*)$", README, flags=re.MULTILINE)
    plain = [f for f in FINDINGS if f.package == "torch" and not f.options]
    shown = {f.title for f in plain if not {"float64", "float32"}.isdisjoint(f.dtypes)}
    assert sorted(titles) == sorted(shown)


def covered():
    """The rows of the table of what is covered: a row for each file of refnet.nn, and one for refnet.optim."""
    homes = defaultdict(list)
    for name in nn.__all__:
        made = getattr(nn, name)
        if isinstance(made, type) and name != "Module":
            homes[made.__module__.rpartition(".")[2].replace("_", " ")].append(name)
    homes["optimizers"] = list(optim.__all__)
    return ["| part | classes |", "|---|---|", *(f"| {home} | {', '.join(sorted(homes[home]))} |" for home in homes)]


def test_what_is_covered():
    section = README[README.index("## What is covered") : README.index("`parity coverage` lists")]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    assert sorted(rows) == sorted(covered())


def test_mutants():
    kept = json.loads((ROOT / "benchmarks/results/yardstick/mutants.json").read_text(encoding="utf-8"))["classes"]
    total, killed, excused = (
        sum(c["mutants"] for c in kept),
        sum(c["killed"] for c in kept),
        sum(len(c["excused"]) for c in kept),
    )
    survived = sum(len(c["survived"]) for c in kept)
    assert f"Of {total:,} mutants, {killed:,} are killed by some case, {excused} are excused" in " ".join(
        README.split()
    )
    assert f"{survived} survive" in README
    assert total == killed + excused + survived


def test_tested_mutants():
    kept = json.loads((ROOT / "benchmarks/results/tested-mutants.json").read_text(encoding="utf-8"))["modules"]
    total, killed = (sum(one[name] for one in kept) for name in ("mutants", "killed"))
    excused, survived = (sum(len(one[name]) for one in kept) for name in ("excused", "survived"))
    said = f"Of {total:,} mutants, {killed:,} are killed by some test, {excused} are excused, and {survived} survive"
    assert said in " ".join(README.split())
    assert total == killed + excused + survived


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)#:]+)\)", README))
def test_links_lead_somewhere(link):
    assert (Path(__file__).parent.parent / link).exists()


def test_ci_runs_the_readmes_command():
    (command,) = re.findall(r"^    (pip install .* && python -m pytest)$", README, flags=re.MULTILINE)
    install, tests = command.split(" && ")
    steps = (Path(__file__).parent.parent / ".ci" / "run").read_text(encoding="utf-8")
    assert f"stage install {install} && stage tests {tests}\n" in steps
