"""What is printed and written."""

import io
import itertools
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
from benchmarks.speed.whole_training import WholeTraining

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
WITH_PRODUCTS = [network for network in NETWORKS if not network.many and network.multiplications]
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


def trained(network, name, seconds, reason=""):
    times = np.array(seconds)
    return WholeTraining(name, network, 10_000, times + 0.5, times, times - 0.25, 1.0, 0.25, reason)


TRAINED = [
    trained(network, name, (k + 1.0, k + 1.5, k + 2.0), reason)
    for network in NETWORKS[:6]
    for k, (name, reason) in enumerate((("refnet-captured", ""), ("torch-eager", ""), ("jax-loop", "too busy")))
]


def test_whole_trainings_have_a_line_for_each_network_and_a_table_for_each_way():
    text = printed(speed_tables.trainings(TRAINED))
    fresh, loaded, again = text.split("A training ")[1:]
    for part, least in ((fresh, 1.5), (loaded, 1.0), (again, 0.75)):
        (line,) = (line for line in part.splitlines() if line.split()[:1] == ["64-64-10"])
        assert line.split()[1:] == ["10,000", *(speed_tables.figure(least + k + 0.5) for k in range(2))]
    assert "jax-loop on 2-2-2: too busy" in text
    rows = list(speed_tables.training_rows(TRAINED))
    assert (rows[1]["fresh"], rows[1]["loaded_least"], rows[1]["loaded_most"]) == (3.0, 2.0, 3.0)
    # What is not to be relied on is not published.
    assert rows[2]["fresh"] is rows[2]["loaded"] is None
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows


def test_the_figures_name_everyone_measured():
    files = dict(speed_figures.drawn(TRAINED, ALL, POINTS))
    names = ["growth", "speed", "speed-many", "trainings"]
    assert set(files) == {f"{name}.{kind}" for name in names for kind in ("png", "svg")}
    assert files["speed.png"].startswith(b"\x89PNG")
    text = files["speed.svg"].decode() + files["speed-many.svg"].decode()
    shown = {o.contender.name for o in ALL if o.status == "measured"}
    assert all(f">{name}<" in text for name in shown)
    assert ">mygrad<" not in text
    assert all(f">{network.title}<" in files["speed.svg"].decode() for network in WITH_PRODUCTS)


def test_networks_are_panels_and_no_line_joins_them():
    import matplotlib as mpl

    with mpl.rc_context(speed_figures.STYLE):
        figure = speed_figures._steps([o for o in ALL if not o.network.many])
        figure.draw_without_rendering()
    panels = [axes for axes in figure.axes if axes.axison]
    assert [axes.get_title(loc="left") for axes in panels] == [n.title for n in WITH_PRODUCTS]
    names = [label.get_text() for label in panels[0].get_yticklabels()]
    for axes, network in zip(panels, WITH_PRODUCTS, strict=True):
        dots = {names[int(line.get_ydata()[0])]: line.get_xdata()[0] for line in axes.lines if line.get_marker() == "o"}
        limit, *others = (o for o in ALL if o.network == network and o.status == "measured")
        assert dots == {o.contender.name: pytest.approx(np.median(o.seconds / limit.seconds)) for o in others}
        # A bar lies on one row.
        assert all(
            len(set(line.get_ydata())) == 1
            for line in axes.lines
            if len(line.get_xdata()) == 2 and line.get_xdata()[0] != 1
        )
        boxes = [t.label1.get_window_extent() for t in axes.xaxis.get_major_ticks() if t.label1.get_text()]
        assert not any(a.overlaps(b) for a, b in itertools.pairwise(boxes))


def test_trainings_are_two_dots_a_row():
    import matplotlib as mpl

    with mpl.rc_context(speed_figures.STYLE):
        axes = speed_figures._trainings(TRAINED).axes[0]
    dots = [(line.get_xdata()[0], line.get_ydata()[0]) for line in axes.lines if line.get_marker() == "o"]
    assert dots == [pytest.approx(dot) for dot in ((2.0, -0.18), (1.5, 0.18), (3.0, 0.82), (2.5, 1.18))]


def test_no_figure_of_nothing():
    assert not dict(speed_figures.drawn([], [], []))


def test_a_figure_is_the_same_each_time():
    files, again = (dict(speed_figures.drawn([], outcomes(NETWORKS[0]), [])) for _ in range(2))
    assert sorted(files) == ["speed.png", "speed.svg"]
    assert files == again


def test_labels_keep_their_distance():
    assert speed_figures._apart([0.0, 5.0], 1) == [0.0, 5.0]
    assert speed_figures._apart([1.0, 1.0, 1.0], 1) == [0.0, 1.0, 2.0]
    levels = speed_figures._apart([0.0, 0.1, 0.2, 9.0, 9.1], 1)
    assert min(np.diff(levels)) >= 1 - 1e-12
