"""Runs in worker processes: one order of results, and engines that die or hang cost their own case only."""

import os
import textwrap
from dataclasses import replace

import pytest

from parity.families.listing import catalogue
from parity.records.record import UsageError
from parity.run import judging
from parity.run.judging import judge_case

BY_NAME = {case.name: case for case in catalogue()}
NAMES = ("Linear/batch 1", "Linear/batch 3", "Network/linear layers only", "SGD/lr 0.1, momentum 0.9")
CASES = [BY_NAME[name] for name in NAMES]

HOSTILE = """
    import ctypes, os, time
    from parity.engines.refnet import RefnetEngine

    class Exits(RefnetEngine):
        def vjp(self, record):
            os._exit(7)

    class Crashes(RefnetEngine):
        def vjp(self, record):
            ctypes.string_at(0)

    class Hangs(RefnetEngine):
        def vjp(self, record):
            time.sleep(600)

    class Leaves(RefnetEngine):
        def vjp(self, record):
            raise SystemExit(0)

    class Right(RefnetEngine):
        pass

    class Unmade(RefnetEngine):
        def __init__(self):
            raise OSError("no licence")
"""


@pytest.fixture
def hostile(tmp_path, monkeypatch):
    (tmp_path / "hostile_engines.py").write_text(textwrap.dedent(HOSTILE))
    monkeypatch.syspath_prepend(tmp_path)
    return lambda *names: tuple(f"hostile_engines:{name}" for name in names)


def plain(results):
    return [replace(r, seconds=0.0) for r in results]


def test_the_number_of_workers_changes_nothing():
    done = []
    before = dict(os.environ)
    one, two = (
        judging.run(CASES, ("refnet",), ("float32", "float64"), jobs, done=lambda: done.append(1)) for jobs in (1, 2)
    )
    assert plain(one) == plain(two)
    assert [(r.case, r.family, r.dtype, r.engine) for r in one] == [
        (case.name, family, dtype, "refnet")
        for case in CASES
        for family in case.families
        for dtype in ("float32", "float64")
    ]
    assert all(r.conforms and r.verdicts for r in one)
    assert len(done) == 2 * len(CASES)
    assert dict(os.environ) == before


def test_a_worker_finds_what_is_found_here(short_training, short_vectors):
    """Cases of one's own too, with certified answers in a folder of one's own."""
    from parity.engines.loading import load

    found = judging.run([short_training], ("refnet",), ("float64",), 1, folder=short_vectors)
    here = judge_case(short_training, "full", "float64", [load("refnet")], short_vectors)
    assert plain(found) == plain(here)


def test_engines_that_die_or_hang(hostile):
    case = BY_NAME["Linear/batch 1"]
    names = ("refnet", *hostile("Exits", "Crashes", "Hangs", "Leaves", "Right"))
    done = []
    results = judging.run([case], names, ("float64",), 2, timeout=3, done=lambda: done.append(1))
    assert done == [1]
    assert [(r.family, r.engine) for r in results] == [(family, name) for family in case.families for name in names]
    for grid in (results[:6], results[6:]):
        refnet, exits, crashes, hangs, leaves, right = grid
        # Nobody else loses a result by it.
        assert refnet.verdict == right.verdict == ("exact" if refnet.family == "grid" else "rounding")
        for lost, reason in (
            (exits, "the process died (exit code 7)"),
            (crashes, "the process died (exit code -11)"),
            (hangs, "no answer within 3 s"),
            (leaves, "raised SystemExit: 0"),
        ):
            assert [(v.name, v.verdict, v.reason) for v in lost.verdicts] == [("answer", "FAIL", reason)]
        assert not any(r.conforms for r in (exits, crashes, hangs, leaves))


def test_the_run_goes_on_after_a_lost_worker(hostile):
    results = judging.run(CASES, hostile("Exits"), ("float64",), 1)
    # The optimizer's case asks for no vjp.
    assert [r.conforms for r in results] == [False] * 6 + [True]


def test_an_engine_that_cannot_be_made_ends_the_run(hostile):
    with pytest.raises(UsageError, match=r"engine hostile_engines:Unmade: expected a class Unmade .* OSError: no lic"):
        judging.run(CASES, ("refnet", *hostile("Unmade")), ("float64",), 2)


def test_a_missing_answer_ends_the_run(tmp_path):
    with pytest.raises(UsageError, match=r"MANIFEST\.json: expected a readable file"):
        judging.run(CASES, ("refnet",), ("float64",), 1, folder=tmp_path)


def test_a_mistake_of_ours_names_its_case():
    broken = replace(CASES[0], grads=CASES[0].grads * 2, inputs=None)
    with pytest.raises(TypeError) as caught:
        judging.run([broken], ("refnet",), ("float64",), 1)
    assert "while judging Linear/batch 1" in caught.value.__notes__


def test_nothing_to_run():
    assert judging.run([], ("refnet",), ("float64",), 4) == []
