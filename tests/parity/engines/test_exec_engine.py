"""Engines in other languages: a program that does all that it should not loses the record, and nothing else."""

import contextlib
import os
import sys
import textwrap
import time

import numpy as np
import pytest

from parity.engines import loading
from parity.engines.base import ask
from parity.engines.exec_engine import ExecEngine
from parity.families.listing import catalogue
from parity.records.record import UsageError
from parity.run.judging import judge_case, run

BY_NAME = {case.name: case for case in catalogue()}
CASE = BY_NAME["ReLU/moderate"]

PROGRAM = """
import json, os, sys, time

def hello(**more):
    return {"protocol": "parity-exec", "version": 1, "kinds": ["vjp"], "classes": ["ReLU"],
            "dtypes": ["float64", "float32"], **more}

def answer(record):
    (x,), (g,) = record["inputs"], record["grad_outputs"]
    positive = [float.fromhex(v) > 0 for v in x["hex"]]
    def where(t):
        return {**t, "hex": [v if p else "0x0p+0" for v, p in zip(t["hex"], positive)]}
    return {"id": record["id"], "answer": {"output": where(x), "grad_input": where(g)}}

def say(message):
    sys.stdout.write(json.dumps(message) + "\\n")
    sys.stdout.flush()

def say_output(record, dtype, shape, items):
    say({"id": record["id"], "answer": {"output": {"dtype": dtype, "shape": shape, "hex": items}}})
    time.sleep(60)

def serve(respond=answer, **more):
    sys.stdin.readline()
    say(hello(**more))
    for line in sys.stdin:
        say(respond(json.loads(line)))
"""

MISCONDUCT = {
    "crashes": ("os.kill(os.getpid(), 11)", "died by SIGSEGV"),
    "exits": ("print('no licence', file=sys.stderr); sys.exit(3)", "ended (exit code 3) without an answer; its last"),
    "hangs": ("time.sleep(60)", "no answer within 1 s"),
    # Its line and the answer may come at once, or one after the other.
    "prints": ("print('layer 1 of 3')", ("expected one line, got more: ", "expected JSON, got: Expecting value")),
    "prints alone": ("print('layer 1 of 3', flush=True); time.sleep(60)", "expected JSON, got: Expecting value"),
    "another": ("say({**answer(record), 'id': 7_000}); time.sleep(60)", "expected the answer to record"),
    "twice": ("one = json.dumps(answer(record)); print(one + '\\n' + one, flush=True)", "expected one line, got more"),
    "empty": ("say({}); time.sleep(60)", "expected id (int), got nothing"),
    "list": ("say([1, 2]); time.sleep(60)", "expected an object, got list"),
    "no hex": (
        "say_output(record, 'float64', [1], ['1.5'])",
        'expected a number such as "0x1.8p+0"',
    ),
    "promises": (
        "say_output(record, 'float64', [10**9], [])",
        "expected a shape of at most 16 sizes",
    ),
    "constant": ("print('{\"id\": NaN}', flush=True); time.sleep(60)", "expected JSON, which has no NaN"),
    "deep": ("print('[' * 100_000, flush=True); time.sleep(60)", "expected JSON, got"),
    "megabytes": ("print('x' * 50_000_000, flush=True)", "longer than any right answer"),
    "memory": ("eaten = b'x' * 400_000_000; time.sleep(60)", "bytes of memory, more than"),
    "says so": ("say({'id': record['id'], 'error': 'out of cheese'}); time.sleep(60)", "said: out of cheese"),
}


@pytest.fixture
def program(tmp_path):
    """The command of a program with this at its end."""

    def written(text):
        file = tmp_path / "engine program.py"
        file.write_text(PROGRAM + textwrap.dedent(text))
        return f"{sys.executable} '{file}'"

    return written


@pytest.fixture
def engine(program):
    made = []

    def of(text):
        made.append(ExecEngine(program(text)))
        return made[-1]

    yield of
    for one in made:
        one.close()


def verdicts(engine, case=CASE, dtype="float64"):
    (result,) = judge_case(case, case.families[0], dtype, [engine])
    return result


def test_a_right_program_conforms(engine):
    right = engine("serve()")
    for dtype in ("float64", "float32"):
        assert verdicts(right, dtype=dtype).verdict == "exact"


def test_base64(engine):
    base64 = engine(
        """
        import base64, struct
        def respond(record):
            def back(t):
                raw = base64.b64decode(t["base64"])
                code = "<%d%s" % (len(raw) // (8 if t["dtype"] == "float64" else 4), "d" if "64" in t["dtype"] else "f")
                return {**t, "hex": [v.hex() for v in struct.unpack(code, raw)]}
            made = answer({**record, "inputs": [back(t) for t in record["inputs"]],
                           "grad_outputs": [back(t) for t in record["grad_outputs"]]})
            for t in made["answer"].values():
                values = [float.fromhex(v) for v in t.pop("hex")]
                code = "<%d%s" % (len(values), "d" if t["dtype"] == "float64" else "f")
                t["base64"] = base64.b64encode(struct.pack(code, *values)).decode()
            return made
        serve(respond, encoding="base64")
        """
    )
    for dtype in ("float64", "float32"):
        assert verdicts(base64, dtype=dtype).verdict == "exact"


@pytest.mark.parametrize("name", MISCONDUCT)
def test_misconduct_costs_the_record_and_no_other(engine, monkeypatch, name):
    """The second record is the bad one; the first and the third are right."""
    what, reason = MISCONDUCT[name]
    monkeypatch.setenv("PARITY_EXEC_SECONDS", "1" if name == "hangs" else "30")
    monkeypatch.setenv("PARITY_EXEC_BYTES", str(200_000_000))
    bad = engine(
        f"""
        def respond(record):
            if record["id"] == 2:
                {what}
            return answer(record)
        serve(respond)
        """
    )
    records = [CASE.record("grid", "float64") for _ in range(3)]
    first, second, third = (ask(bad, record, {}) for record in records)
    assert any(r in second.failure for r in ((reason,) if isinstance(reason, str) else reason))
    assert second.answer is None
    for right in (first, third):
        assert right.failure == ""
        assert np.array_equal(right.answer["output"], np.maximum(records[0].inputs[0], 0))


def test_words_after_the_answer_cost_no_record_of_others(engine, tmp_path):
    """A line that comes late, between two records, is nobody's answer."""
    go, said = tmp_path / "go", tmp_path / "said"
    late = engine(
        f"""
        def respond(record):
            if record["id"] == 1:
                say(answer(record))
                while not os.path.exists({str(go)!r}):
                    time.sleep(0.01)
                print("late", flush=True)
                open({str(said)!r}, "w").close()
                time.sleep(60)
            return answer(record)
        serve(respond)
        """
    )
    record = CASE.record("grid", "float64")
    assert ask(late, record, {}).failure == ""
    go.touch()
    while not said.exists():
        time.sleep(0.01)
    assert ask(late, record, {}).failure == ""


def test_nan_and_missing_tensors_are_judged(engine):
    nan = engine(
        """
        def respond(record):
            made = answer(record)
            made["answer"]["output"]["hex"][0] = "nan"
            del made["answer"]["grad_input"]
            return made
        serve(respond)
        """
    )
    found = {v.name: (v.verdict, v.reason) for v in verdicts(nan).verdicts}
    assert found["output"][0] == "FAIL"
    assert found["grad_input"] == ("FAIL", "missing")


def test_what_the_handshake_does_not_name_is_unsupported(engine):
    able = engine("serve(classes=['ReLU'], dtypes=['float64'])")
    assert verdicts(able, BY_NAME["Linear/batch 3"]).unsupported == "no Linear, by the handshake"
    assert verdicts(able, dtype="float32").unsupported == "no float32, by the handshake"
    sgd = next(case for case in catalogue() if case.name.startswith("SGD/"))
    assert verdicts(able, sgd).unsupported == "no optimize, by the handshake"


def test_a_profile_of_its_own(engine):
    double = engine("serve(profiles={'float32': {'accumulator': 'float64'}})")
    assert double.profile("float32").accumulator.name == "float64"
    assert double.profile("float64").accumulator.name == "float64"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("pass", "ended (exit code 0) without an answer"),
        ("print('hello', flush=True)", "expected JSON, got: Expecting value"),
        ("say({'protocol': 'parity-exec', 'version': 2})", "expected protocol parity-exec, version 1, got"),
        ("say({**hello(), 'classes': 'ReLU'})", "expected classes (list), got ReLU"),
        ("say(hello(encoding='hexadecimal'))", "expected an encoding among hex, base64, got hexadecimal"),
        ("say(hello(profiles={'float32': {'accumulator': 'x87'}}))", "expected formats among float64, float32"),
    ],
)
def test_a_wrong_handshake_is_bad_usage(program, text, says):
    with pytest.raises(UsageError) as caught:
        loading.check(f"exec:{program(text)}")
    message = str(caught.value)
    assert says in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("command", "says"),
    [("no-such-program --fast", "got 'no-such-program'"), ("a 'b", "No closing quotation")],
)
def test_no_such_program(command, says):
    with pytest.raises(UsageError, match=says):
        loading.check(f"exec:{command}")


def test_nobody_is_left_behind(engine, program, tmp_path):
    """Its children end with it."""
    parent = engine(
        """
        import subprocess
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        def respond(record):
            return {"id": record["id"], "unsupported": str(child.pid)}
        serve(respond)
        """
    )
    pid = int(verdicts(parent).unsupported)
    os.kill(pid, 0)
    parent.close()
    # A killed process is still there until the system has taken it apart.
    deadline = time.monotonic() + 60
    while os.path.exists(stat := f"/proc/{pid}/stat"):
        with contextlib.suppress(FileNotFoundError), open(stat) as file:
            if file.read().rpartition(")")[2].split()[0] == "Z":
                break
        assert time.monotonic() < deadline, f"process {pid} still runs"
        time.sleep(0.01)


def test_in_a_run(program):
    """As the command line uses it, in worker processes."""
    name = f"exec:{program('serve()')}"
    cases = [CASE, BY_NAME["Linear/batch 3"]]
    found = run(cases, ("refnet", name), ("float64",), 1)
    own = [r for r in found if r.engine == name]
    assert [r.verdict for r in own if r.case == CASE.name] == ["exact"] * len(CASE.families)
    assert {r.unsupported for r in own if r.case != CASE.name} == {"no Linear, by the handshake"}


# ---- FILE.py:Class


FILE = """
from dataclasses import dataclass
import numpy as np
import parity
from neighbour import positive


@dataclass
class Kept:
    x: float


class Mine(parity.Engine):
    def vjp(self, record):
        (x,), (g,) = record.inputs, record.grad_outputs
        print("so loud")
        return {"output": positive(x, x), "grad_input": positive(x, g)}
"""


def test_a_class_in_a_file(tmp_path):
    (tmp_path / "neighbour.py").write_text(
        "import numpy as np\ndef positive(x, v):\n    return np.where(x > 0, v, np.zeros_like(v))\n"
    )
    file = tmp_path / "my engine.py"
    file.write_text(FILE)
    name = f"{file}:Mine"
    loading.check(name)
    made = loading.load(name)
    assert made.name == name
    assert verdicts(made).verdict == "exact"
    found = run([CASE], (name,), ("float64",), 1)
    assert [r.verdict for r in found] == ["exact"] * len(CASE.families)


def test_files_that_are_none(tmp_path):
    with pytest.raises(UsageError, match=r"expected a file .*missing\.py, got none"):
        loading.check(f"{tmp_path}/missing.py:Mine")
    broken = tmp_path / "broken.py"
    broken.write_text("def f(:")
    with pytest.raises(UsageError, match=r"expected an importable file .*broken.py, got SyntaxError"):
        loading.load(f"{broken}:Mine")


def test_a_crash_costs_that_record_alone(tmp_path):
    """An engine in the worker's own process that dies in float32 keeps its float64 results."""
    file = tmp_path / "dies.py"
    file.write_text(
        "import os, parity, numpy as np\n"
        "class Dies(parity.Engine):\n"
        "    def vjp(self, record):\n"
        "        (x,), (g,) = record.inputs, record.grad_outputs\n"
        "        if record.dtype == 'float32':\n"
        "            os.kill(os.getpid(), 11)\n"
        "        return {'output': np.where(x > 0, x, 0 * x), 'grad_input': np.where(x > 0, g, 0 * g)}\n"
    )
    found = run([CASE], (f"{file}:Dies",), ("float64", "float32"), 1)
    assert {(r.dtype, r.verdict) for r in found} == {("float64", "exact"), ("float32", "FAIL")}
