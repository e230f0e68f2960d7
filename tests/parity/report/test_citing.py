"""`parity cite`: certified figures with their value, radius and origin."""

import json
import re
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from parity.cli import cli
from parity.example import cited_figures
from parity.families.listing import catalogue
from parity.records.record import UsageError
from parity.report import citation, cited_tensors
from parity.truth.value import Truth
from parity.vectors import catalogue_answers

LINEAR = "Linear/batch 3 (full, float64), grad.weight[0, 1]"


def cite(*arguments):
    done = CliRunner().invoke(cli, ["cite", *arguments])
    return done.exit_code, done.output


def test_the_error_after_one_update():
    """Its digits were computed by hand with rational exponentials, see the worked example."""
    code, output = cite("example/E@1")
    assert code == 0
    assert "0.29102777369359935087" in output
    assert "simultaneous" not in output
    assert "@misc{refnet-" in output


def test_an_element_of_a_gradient():
    """Its sum of products, in fractions."""
    (case,) = (c for c in catalogue() if c.name == "Linear/batch 3")
    record = case.record("full", "float64")
    (X,), (dY,) = record.inputs, record.grad_outputs
    exact = sum(Fraction(dY[n, 0]) * Fraction(X[n, 1]) for n in range(3))
    found, _ = cited_tensors.answer(LINEAR)
    (element,) = found.elements
    kept = Fraction(float.fromhex(element.hi)) + Fraction(float.fromhex(element.lo))
    assert abs(exact - kept) <= Fraction(element.radius)
    assert abs(exact - Fraction(element.value)) <= abs(exact) * Fraction(1, 10**29)
    assert np.array_equal(found.inputs["input.0"], X)


def test_a_radius_is_rounded_up():
    for radius in (Fraction(1, 3), Fraction(1, 2**1075), Fraction(99, 100), Fraction(997, 1000), Fraction(25)):
        text = citation._up(radius)
        assert re.fullmatch(r"\d\.\de-?\d+", text)
        assert radius <= Fraction(text) <= radius * Fraction(11, 10)


def every_kind():
    """A tensor of the first case of each kind: a module, an optimizer, a training."""
    firsts = {type(case): case for case in reversed(catalogue())}
    for case in firsts.values():
        place = f"{case.name} ({case.families[0]}, float64), "
        yield next(name for name in cited_tensors.names(place) if name.startswith(place))


@pytest.mark.parametrize("name", ["example/net_h1", "example/w5@1 (sequential/frozen)", LINEAR, *every_kind()])
def test_what_is_cited_is_found_again(name):
    home = cited_figures if name.startswith(cited_figures.PREFIX) else cited_tensors
    found, _ = home.answer(name)
    for written in (found.id, found.id.replace(" #", "#")):
        assert home.answer(written)[0].text() == found.text()


def test_an_id_of_other_inputs_is_refused():
    code, _ = cite(f"{LINEAR} #0123456789abcdef")
    assert code != 0
    for home, name in ((cited_tensors, LINEAR), (cited_figures, "example/E@1")):
        with pytest.raises(UsageError, match=r"expected .* got #0123456789abcdef"):
            home.answer(f"{name} #0123456789abcdef")


def test_verify():
    pytest.importorskip("flint")
    assert "computed again: the same bits" in cite(LINEAR, "--verify")[1]
    code, output = cite("example/w5@1", "--verify", "--json")
    assert code == 0
    assert json.loads(output)["verified"] is True


def test_a_figure_that_comes_out_otherwise(monkeypatch):
    pytest.importorskip("flint")
    answers = cited_tensors.catalogue_answers
    case, family, dtype, *_ = cited_tensors.find(LINEAR)
    moved = {name: np.nextafter(a, np.inf) for name, a in answers.kept(case, family, dtype).items()}
    monkeypatch.setattr(answers, "kept", lambda *place: moved)
    code, output = cite(LINEAR, "--verify")
    assert code == 1
    assert "NOT the same bits" in output


def test_everything_as_json():
    document = json.loads(cite(LINEAR, "--json")[1])
    assert document["inputs"]["weight"]["shape"] == [4, 5]
    assert float.fromhex(document["inputs"]["weight"]["data"][0])


@pytest.mark.parametrize(
    ("name", "due"),
    [
        ("example/E@2", "expected a figure of the worked example"),
        ("example/E@1 (greedy/frozen)", "expected one of simultaneous/frozen"),
        ("E@1", "expected example/FIGURE or CASE"),
        ("Linear/bach 3 (full, float64), grad.weight", "perhaps Linear/batch 3"),
        ("Linear/batch 3 (half, float64), grad.weight", r"expected \(grid or full, float64 or float32\)"),
        ("Linear/batch 3 (full, float64), grad.w", "expected one of grad.bias, grad.weight"),
        ("Linear/batch 3 (full, float64), grad.weight[0]", r"an index into the shape \(4, 5\)"),
        ("Linear/batch 3 (full, float64), grad.weight[a, 1]", "expected integers"),
        ("Linear/batch 0 (full, float64), output", "expected 1 to 1000 numbers"),
    ],
)
def test_what_is_not_there(name, due):
    home = cited_figures if name.startswith(cited_figures.PREFIX) else cited_tensors
    with pytest.raises(UsageError, match=due):
        home.answer(name)


def test_no_certified_number():
    truth = Truth(np.array([np.nan, 1.0]), np.zeros(2), np.array([False, True]))
    for k in range(2):
        with pytest.raises(UsageError, match="undecided or not finite"):
            citation.elements(truth, "x", (k,))


def test_list():
    place = "LayerNorm/no bias (full, float64)"
    code, output = cite("--list", place)
    assert code == 0
    assert output.splitlines() == [f"{place}, {name}" for name in ("grad.weight", "grad_input", "output")]
    assert "example/E@1" in cite("--list", "xample/E@1")[1].splitlines()


def test_what_is_part_of_names_finds_them_whatever_part_it_is():
    """The part that is a record's alone says which files are read."""
    place = "LayerNorm/no bias (full, float64)"
    every = [f"{place}, {name}" for name in ("grad.weight", "grad_input", "output")]
    for pattern in (f"{place}, gr", "norm/NO bias (full, float64)", "orm/no bias (full"):
        found = [name for name in cited_tensors.names(pattern) if name.startswith(place)]
        assert found == [name for name in every if pattern.lower() in name.lower()]


def test_no_tensors_name_has_a_sign_of_a_records():
    """As `names` takes it; of one case of each kind of file."""
    for case in {catalogue_answers.file_name(case): case for case in catalogue()}.values():
        tensors = cited_tensors.names(f"{case.name} ({case.families[0]}, float64)")
        assert not any(set("/()") & set(text.rpartition("), ")[2]) for text in tensors)


def test_an_id_or_a_list():
    assert cite()[0] != 0
    assert cite("example/E@1", "--list", "")[0] != 0


def test_the_date_is_that_of_the_citation_file():
    text = (Path(__file__).parents[3] / "CITATION.cff").read_text(encoding="utf-8")
    assert f"date-released: {citation.RELEASED}" in text


@pytest.mark.parametrize("name", ["example/E@1", LINEAR])
def test_citing_needs_no_ball_arithmetic_and_verifying_says_that_it_does(name):
    code = f"import sys; sys.modules['flint'] = None; sys.argv = ['parity', 'cite', {name!r}, *sys.argv[1:]]; "
    code += "from parity.cli import main; main()"
    plain, again = (
        subprocess.run([sys.executable, "-c", code, *more], capture_output=True, text=True, check=False)
        for more in ((), ("--verify",))
    )
    assert (plain.returncode, plain.stderr) == (0, "")
    assert again.returncode == 2
    assert "expected the package python-flint" in again.stderr
    assert "Traceback" not in again.stderr


def test_a_list_of_no_id_says_so():
    done = CliRunner().invoke(cli, ["cite", "--list", "no such figure"])
    assert str(done.exception) == "cite: expected a text that is part of an id, got 'no such figure'"
