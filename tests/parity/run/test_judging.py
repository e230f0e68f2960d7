"""Runs in worker processes: one order of results, and engines that die or hang cost their own case only."""

import os
import textwrap
from collections import Counter
from dataclasses import replace

import pytest

from parity.families.case import group
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


def test_so_many_cases_of_each_class_are_drawn():
    cases = tuple(case for case in catalogue() if group(case) in ("Adam", "GELU", "Mish"))
    drawn = judging.drawn(cases, 2, 7)
    assert Counter(group(case) for case in drawn) == {"Adam": 2, "GELU": 2, "Mish": 2}
    assert [case for case in cases if case in drawn] == list(drawn)
    assert judging.drawn(cases, 2, 8) != drawn
    assert judging.drawn(cases, None, 7) == cases
    assert judging.drawn(cases, 10_000, 7) == cases


def test_what_is_drawn_of_a_class_hangs_on_nothing_else():
    alone = judging.drawn([case for case in catalogue() if group(case) == "GELU"], 3, 0)
    assert [case for case in judging.drawn(catalogue(), 3, 0) if group(case) == "GELU"] == list(alone)
    assert judging.drawn(alone, 3, 0) == alone


# One of each of torch's options, with what else is there to choose from.
OPTIONS = (
    *(f"torch:dtype={dtype}" for dtype in ("float64", "float32", "bfloat16", "float16")),
    *(f"torch:optimizer={way}" for way in ("for-loop", "foreach", "fused", "capturable")),
    "torch:device=cpu",
    "torch:compile=eager",
    "torch:compile=aot_eager",
    "jax:dtype=float64",
    "jax:dtype=float32",
    "jax:compile=1",
)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("name", OPTIONS)
def test_each_option_of_an_engine_on_a_small_sample(name):
    """It conforms, in the dtype that is asked for alone; what it lacks here it says."""
    pytest.importorskip(name.partition(":")[0])
    # A compiled step does not update a parameter without axes (docs/findings.md).
    of = ("Adam",) if "optimizer=" in name else ("Linear", "GELU", *(["SGD"] if "compile" not in name else []))
    cases = judging.drawn([c for c in catalogue() if group(c) in of and "full" in c.families], 1, 2)
    dtypes = judging.dtypes_of([name], [], None)
    results = [r for c in cases for d in dtypes for r in judge_case(c, "full", d, [judging.engine(name)])]
    assert [r for r in results if not r.conforms and not r.finding] == []
    if name == "torch:optimizer=capturable":
        assert {r.unsupported for r in results} == {
            "torch's capturable steps need a device other than the processor, or torch.compile"
        }
        return
    judged = [r for r in results if not r.unsupported]
    assert {r.dtype for r in judged} == set(dtypes)
    assert {r.dtype for r in judged} == ({name.partition("dtype=")[2]} if "dtype=" in name else {"float64", "float32"})
    assert {r.profile for r in judged if r.dtype == "bfloat16"} <= {"bfloat16, sums in float32"}
