"""`parity example --check`: what is said of a figure in a terminal, and of files of one's own numbers."""

import io
import json
import math
import os
import subprocess
import sys

import pytest
from click.testing import CliRunner
from rich.console import Console

from parity.cli import cli
from parity.example.typed_figure import parse
from parity.example.typed_report import name, render
from parity.records.record import UsageError


def said(*args):
    console = Console(file=io.StringIO(), width=200)
    right = render(console, *args)
    return right, console.file.getvalue()


def test_the_articles_figure_is_recognised_without_a_step():
    right, text = said("0.291027924")
    assert not right
    assert "It is printed as E after 1 update, and is a bug's figure." in text
    assert "Yielded by: sequential, biases frozen, after 1 update." in text
    assert "yours       0.291027924  (decimal 7 differs)" in text
    assert "certified   0.291027773694" in text


def test_a_figure_that_differs_before_the_point():
    assert "1.291027774  (differs before the point)" in said("1.291027774", "E@1")[1]


def test_the_articles_figure_is_recognised_at_the_first_step():
    right, text = said("0.291027924", "net_h1")
    assert not right
    assert "net_h1: → Another step's figure" in text
    assert "It is printed as E after 1 update, and is a bug's figure." in text
    assert "decimals" not in text


def test_the_articles_figure_at_its_step():
    _, text = said("0.291027924", "E@1")
    assert "✗ Not the figure" in text
    assert "went back through w5 to w8 after these had been updated" in text


@pytest.mark.parametrize("typed", ["0.291027774", "0,291027774", "0.29103", "0.2910277736936"])
def test_a_right_figure(typed):
    assert said(typed, "E@1")[0]
    assert said(typed)[0]


def test_a_figure_that_was_cut_off():
    right, text = said("0.29102", "E@1")
    assert not right
    assert "cut off after 5 decimals. Rounded, it is 0.29103." in text


def test_a_figure_that_was_cut_off_is_found_without_a_step():
    right, text = said("0.29102")
    assert not right
    assert "It is right as E after 1 update, cut off instead of rounded." in text


def test_a_printed_figure_names_the_bug_in_words():
    assert "went back through w5 to w8 after these had been updated" in said("0.291027924")[1]
    assert "What that is" not in said("0.0000351085")[1]


def test_a_weight_before_the_update_is_not_a_step_and_the_one_after_is_named():
    with pytest.raises(UsageError, match="got w5; after an update it is w5@1"):
        said("0.358916480", "w5")


def test_what_is_nothing():
    right, text = said("0.123456789")
    assert not right
    assert "none that a known mistake yields" in text
    assert "With 6 significant digits or more" in said("0.9123")[1]


def test_ones_own_network(tmp_path):
    file = tmp_path / "own.json"
    own = {"w5": 0.41, "w6": "0,45", "hidden": "tanh", "error": "cross-entropy", "samples": 2}
    file.write_text(json.dumps(own), encoding="utf-8")
    # By hand: the first sample's net input of o1.
    net = 0.41 * math.tanh(0.3775) + 0.45 * math.tanh(0.3925) + 0.6
    assert said(f"{net:.9f}", "net_o1:1", file)[0]
    right, text = said(f"{net:.9f}", "", file)
    assert right
    assert "It is right as net_o1 of sample 1." in text
    assert "in binary64" in text
    assert not said("1.105905967", "net_o1:1", file)[0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "expected JSON"),
        ("[1]", "expected an object of numbers by name in .*, got list"),
        ('{"w9": 1}', "expected the names i1, i2, .*, got w9"),
        ('{"w5": "x"}', "w5: expected a number, such as 0.35, got 'x'"),
        ('{"w5": NaN}', "w5: expected a number"),
        ('{"w5": 1e400}', "w5: expected a number"),
        ('{"w5": [1]}', "w5: expected a number"),
        ('{"hidden": "elu"}', "hidden: expected sigmoid or tanh or relu, got elu"),
        ('{"samples": 3}', "samples: expected 1 or 2, got 3"),
        ('{"i1:2": 0.5}', "got i1:2"),
    ],
)
def test_a_file_that_is_refused(content, message, tmp_path):
    file = tmp_path / "own.json"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(UsageError, match=message):
        said("0.5", "", file)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UsageError, match="--own: expected a readable file"):
        said("0.5", "", tmp_path / "none.json")


def test_no_such_step():
    with pytest.raises(UsageError, match="--step: expected the name of a figure, such as E@1 or dE/dw5, got q"):
        said("0.5", "q")


@pytest.mark.parametrize(
    "typed", ["", "x", "0.3x", "1,2,3", ".", "e5", "nan", "inf", "1001", "0x10", "1e400", "1e99999"]
)
def test_what_is_no_number_is_refused(typed):
    with pytest.raises(UsageError, match="expected a number"):
        parse(typed)


def test_numbers_are_read():
    assert [(float(t.exact), t.places, t.digits) for t in map(parse, (" 0,350 ", "−.5", "+3.51e-5", "1e2"))] == [
        (0.35, 3, 3),
        (-0.5, 1, 1),
        (3.51e-5, 7, 3),
        (100.0, 0, 1),
    ]


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("net_h1", "net_h1"),
        ("E@10000", "E after 10,000 updates"),
        ("w5@1", "w5 after 1 update"),
        ("dE/dout_h1|o2:1", "dE/dout_h1 through o2 of sample 1"),
        ("out_o1:2@1", "out_o1 of sample 2 after 1 update"),
    ],
)
def test_names(key, words):
    assert name(key) == words


def test_the_exit_code_says_whether_it_is_right():
    for typed, code in (("0.291027774", 0), ("0.291027924", 1)):
        assert CliRunner().invoke(cli, ["example", "--check", typed]).exit_code == code


@pytest.mark.parametrize(
    "args",
    [["--check", "1", "--json"], ["--own", "f"], ["--step", "E"], ["--worksheet", "1"], ["--worksheet", "1", "--json"]],
)
def test_options_that_do_not_go_together(args):
    result = CliRunner().invoke(cli, ["example", *args])
    assert isinstance(result.exception, UsageError)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_a_full_disk_gives_one_line():
    code = "import sys; from parity.cli import main; sys.argv[1:] = ['run', '--list']; main()"
    with open("/dev/full", "w") as full:
        ran = subprocess.run([sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, text=True)
    assert ran.returncode == 2
    assert ran.stderr == "parity: the output: expected a place to write to, got: No space left on device\n"
