"""What is printed and written."""

import io
import json

import numpy as np
import pytest
from rich.console import Console

from benchmarks.speed import speed_figures, speed_tables
from benchmarks.speed.contenders import CONTENDERS, LIMIT
from benchmarks.speed.cost_growth import VALUES, Point
from benchmarks.speed.floors import findings
from benchmarks.speed.networks import NETWORKS
from benchmarks.speed.timed_rounds import Outcome

SECONDS = np.array([1e-5, 2e-5, 4e-5])


def outcomes(network):
    """The limit, half measured, one of each kind that is not."""
    reasons = {"autograd": "not installed", "tinygrad": "unsupported", "mygrad": "not comparable"}
    made = []
    for k, contender in enumerate(c for c in CONTENDERS if c.takes(network)):
        if status := reasons.get(contender.name):
            made.append(Outcome(contender, network, status, f"because of {contender.name}"))
        else:
            # Twice the limit, three times, ... in each round.
            made.append(
                Outcome(
                    contender,
                    network,
                    "measured",
                    contender.note,
                    difference=np.nan if contender is LIMIT else 1e-15,
                    set_up=0.5,
                    warm_up=1.0,
                    call=0.0001,
                    steps=10,
                    cores=1.0,
                    seconds=(k + 1) * SECONDS,
                )
            )
    return made


ALL = [outcome for network in NETWORKS for outcome in outcomes(network)]
POINTS = [
    Point(axis, value, "refnet-plain", value * SECONDS, memory=2048.0 if axis == "updates" else np.nan)
    for axis, values in VALUES.items()
    for value in values
]


def printed(renderable, width=140):
    console = Console(file=io.StringIO(), width=width, highlight=False, markup=False, color_system=None)
    console.print(renderable)
    return console.file.getvalue()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (0.00123456, "0.00123"),
        (0.5, "0.500"),
        (1.0, "1.00"),
        (12.345, "12.3"),
        (1234.5, "1,234"),
        (float("nan"), ""),
    ],
)
def test_figures_have_three_digits(value, text):
    assert speed_tables.figure(value) == text


def test_a_line_for_everyone():
    text = printed(speed_tables.speed(outcomes(NETWORKS[0])))
    lines = {line.split()[0]: line.split() for line in text.splitlines()[1:] if line.strip()}
    assert text.startswith("2-2-2, batch 1, float64\n")
    assert set(lines) >= {contender.name for contender in CONTENDERS if contender.one}
    assert lines["products"][1:7] == ["20.0", "(10.0", "to", "40.0)", "1.00", "0.250"]
    assert lines["refnet-plain"][1:8] == ["40.0", "(20.0", "to", "80.0)", "2.00", "0.500", "1e-15"]
    # A tenth of a millisecond a call, shared by ten steps of 40 microseconds.
    assert lines["refnet-plain"][8:] == ["0.50", "0.100", "30.0", "1.00"]
    for name, status in (("autograd", "not installed"), ("tinygrad", "unsupported"), ("mygrad", "not comparable")):
        assert f"{name} is {status}: because of {name}" in text
    assert "sklearn: without the last sigmoid" in text


def test_growth_has_a_line_for_each_value():
    text = printed(speed_tables.growth(POINTS))
    assert text.count("growth with") == len(VALUES)
    for axis, values in VALUES.items():
        part = text.partition(f"growth with {axis}:")[2].partition("growth with")[0]
        shown = [line.split()[0] for line in part.splitlines()[2:] if line.strip()][: len(values)]
        assert shown == [f"{value:,}" for value in values]
    assert "KiB" in text


def test_floors_end_in_met_or_not():
    text = printed(speed_tables.floors(findings(ALL)))
    (line,) = (line for line in text.splitlines() if line.startswith("784-512-512-10  refnet-captured"))
    assert line.split()[2:] == ["products", "at", "most", "1.3", "4.00", "(4.00", "to", "4.00)", "not", "met"]
    assert "as near as possible" in text


def test_rows_are_json_without_nan():
    rows = [*speed_tables.speed_rows(ALL), *speed_tables.growth_rows(POINTS), *speed_tables.floor_rows(findings(ALL))]
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows
    plain = next(row for row in speed_tables.speed_rows(ALL) if row["contender"] == "refnet-plain")
    assert (plain["seconds"], plain["seconds_least"], plain["seconds_most"]) == (4e-5, 2e-5, 8e-5)
    assert plain["limit"] == 2
    assert len({tuple(row) for row in speed_tables.speed_rows(ALL)}) == 1


def test_the_figures_name_everyone_measured():
    files = dict(speed_figures.drawn(ALL, POINTS))
    assert sorted(files) == ["growth.png", "growth.svg", "speed.png", "speed.svg"]
    assert files["speed.png"].startswith(b"\x89PNG")
    text = files["speed.svg"].decode()
    shown = {o.contender.name for o in ALL if o.status == "measured"}
    assert all(f">{name}<" in text for name in shown)
    assert ">mygrad<" not in text


def test_no_figure_of_nothing():
    assert not dict(speed_figures.drawn([], []))


def test_a_figure_is_the_same_each_time():
    files, again = (dict(speed_figures.drawn(outcomes(NETWORKS[0]), [])) for _ in range(2))
    assert sorted(files) == ["speed.png", "speed.svg"]
    assert files == again


def test_labels_keep_their_distance():
    assert speed_figures._apart([0.0, 5.0], 1) == [0.0, 5.0]
    assert speed_figures._apart([1.0, 1.0, 1.0], 1) == [0.0, 1.0, 2.0]
    levels = speed_figures._apart([0.0, 0.1, 0.2, 9.0, 9.1], 1)
    assert min(np.diff(levels)) >= 1 - 1e-12
