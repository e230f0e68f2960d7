"""Cases of real size: what is kept of them is small, is what balls give, and judges engines."""

import numpy as np
import pytest
from click.testing import CliRunner

from parity.cli import cli
from parity.engines.refnet import RefnetEngine
from parity.families.case import ELEMENTS
from parity.families.listing import LARGE, catalogue
from parity.records.record import UsageError
from parity.run import certifying, judging
from parity.vectors import catalogue_answers, store

QUICK = ("SGD/large, 256 x 256", "GELU/large, 256 x 1024", "Linear/large, 256 x 512 to 256")


def case(name):
    return next(c for c in LARGE if c.name == name)


def test_they_are_not_judged_by_default():
    assert not {c.name for c in LARGE} & {c.name for c in catalogue()}
    assert len({c.name for c in LARGE}) == len(LARGE)


def test_what_is_kept_of_each_is_small():
    for c in LARGE:
        truths, samples = catalogue_answers.samples(c, "full", "float32")
        kept = catalogue_answers.kept(c, "full", "float32")
        assert sum(a.nbytes for a in kept.values()) <= 100_000, c.name
        assert samples
        assert all(t.hi.size <= ELEMENTS or name not in samples for name, t in truths.items())
        assert not any(t.undecided.any() for t in truths.values())
    files = [store.FOLDER / f"{name}.safetensors" for name in store.names() if name.startswith("large-")]
    assert sum(file.stat().st_size for file in files) < 3e6


def test_one_answer_serves_every_dtype():
    c = case(QUICK[1])
    records = [c.record("full", dtype) for dtype in ("float64", "float32")]
    assert [r.dtype for r in records] == ["float64", "float32"]
    assert len({catalogue_answers.digest(r) for r in records}) == 1


@pytest.mark.parametrize("name", QUICK)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_refnet_is_right_and_the_verdict_says_on_how_many_elements(name, dtype):
    (found,) = judging.judge_case(case(name), "full", dtype, [RefnetEngine()])
    assert {v.verdict for v in found.verdicts} <= {"exact", "rounding"}
    assert all(v.coverage.endswith(f"elements, seed {name}") for v in found.verdicts if v.name != "grad.bias")
    assert "--large" in found.command


class OneElementOff(RefnetEngine):
    """Wrong in one of the certified elements of the output."""

    def vjp(self, record):
        answer = super().vjp(record)
        _, samples = catalogue_answers.samples(case(QUICK[2]), "full", "float32")
        answer["output"][samples["output"].index(5)] *= 1 + 1e-3
        return answer


def test_an_element_that_is_off_is_found_at_its_place():
    (found,) = judging.judge_case(case(QUICK[2]), "full", "float64", [OneElementOff()])
    _, samples = catalogue_answers.samples(case(QUICK[2]), "full", "float32")
    (bad,) = [v for v in found.verdicts if v.verdict == "FAIL"]
    assert bad.name == "output"
    assert bad.where == samples["output"].index(5)
    assert any("the cause is looked for in small cases" in note for note in found.notes)


@pytest.mark.parametrize("name", QUICK[:2])
def test_what_is_kept_is_what_balls_give(name):
    pytest.importorskip("flint")
    c = case(name)
    found = certifying.certify(c, "full", "float64")
    assert certifying.same(catalogue_answers.kept(c, "full", "float64"), found)


def test_a_corrupt_file_is_one_clear_message(tmp_path):
    c = case(QUICK[0])
    name = catalogue_answers.file_name(c)
    catalogue_answers.write(name, {catalogue_answers.key(c.record("full", "float32")): {"x.hi": np.ones(3)}}, tmp_path)
    path = tmp_path / f"{name}.safetensors"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(UsageError, match=r"large-sgd\.safetensors: expected SHA-256 .*truncated, corrupt or edited"):
        judging.certified(c, "full", "float32", tmp_path)


def test_the_command_lists_and_judges_them():
    listed = CliRunner().invoke(cli, ["run", "--large", "--list"])
    assert listed.output.splitlines() == [c.name for c in LARGE]
    ran = CliRunner().invoke(cli, ["run", "--large", "-k", "SGD", "--engine", "refnet", "--jobs", "1"])
    assert ran.exit_code == 0, ran.output
    assert "of 4 of these tensors some elements are judged" in ran.output
    assert "1,000 of 131,072" in ran.output
    wrong = CliRunner().invoke(cli, ["--large", "run", "--list"])
    assert wrong.exit_code == 2
    assert "expected no command behind it" in wrong.output
