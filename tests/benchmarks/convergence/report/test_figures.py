"""Each figure shows its table's numbers, legibly, and says what it can't show."""

import dataclasses
import itertools
import math

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_hex

from benchmarks.convergence.arms import Arm
from benchmarks.convergence.figures import figures, style
from benchmarks.convergence.figures.style import Absent, Figure

PER_PROBLEM = ("curves", "schedules", "orders", "targets", "pairs", "rates")
GENERAL = ("descent", "gradient-variance", "moments", "twin", "cost")
NAMES = {*GENERAL, *(f"{what}-{problem}" for what in PER_PROBLEM for problem in ("line", "iris"))}
LOOKED_AT = sorted(NAMES - {"schedules-iris", "orders-iris", "targets-iris", "rates-iris"})
TINY = {"problems": ("xor",), "arms": (Arm(None), Arm(1)), "seeds": 2, "iterations": 1, "beside": False}
STUDIES = {
    "one arm": {"problems": ("line",), "arms": (Arm(None),), "seeds": 1},
    "single samples": {"problems": ("line",), "arms": (Arm(1),), "beside": False},
    "one update": TINY,
    "torch": {**TINY, "engines": ("torch",), "iterations": 100},
    "all diverged": {"problems": ("line",), "arms": (Arm(None), Arm(1)), "lost": (Arm(None), Arm(1)), "beside": False},
    "no target": {**TINY, "lost": (Arm(None), Arm(1)), "goal": math.nan},
}
"""Studies in which something is missing, or everything went wrong."""


def named(study):
    return {figure.name: figure for figure in figures(study) if isinstance(figure, Figure)}


@pytest.fixture(scope="module")
def drawn(study_of):
    """A function that draws a figure, laid out as it is saved."""
    known = {}

    def draw(name, narrow=False, **options):
        key = name, narrow, repr(sorted(options.items()))
        if key not in known:
            with matplotlib.rc_context(style.RC):
                known[key] = named(study_of(**options))[name].draw(narrow)
                known[key].draw_without_rendering()
        return known[key]

    return draw


def lines(axes, colour=None, marker=None, dash=None):
    """The lines that have these looks, as arrays of points (n, 2)."""
    return [
        np.array(line.get_xydata())
        for line in axes.lines
        if (colour is None or to_hex(line.get_color()) == colour or to_hex(line.get_markeredgecolor()) == colour)
        and (marker is None or line.get_marker() == marker)
        and (dash is None or line.get_linestyle() == dash)
    ]


def test_every_figure_of_a_study(study_of):
    found = list(figures(study_of()))
    assert [figure for figure in found if isinstance(figure, Absent)] == []
    assert sorted(figure.name for figure in found) == sorted(NAMES)
    for figure in found:
        assert figure.title
        assert figure.caption.endswith((".", ")"))
        assert len(figure.alt) > 40
        assert not {"nan", "inf"} & set(figure.caption.lower().split())


@pytest.mark.parametrize("narrow", [False, True], ids=["wide", "narrow"])
@pytest.mark.parametrize("name", LOOKED_AT)
def test_no_labels_overlap_and_none_is_cut_off(name, narrow, drawn):
    figure = drawn(name, narrow)
    for axes in figure.axes:
        if not axes.axison:
            continue
        for axis in (axes.xaxis, axes.yaxis):
            ticks = [tick for tick in axis.get_major_ticks() if tick.label1.get_visible() and tick.label1.get_text()]
            low, high = sorted(axis.get_view_interval())
            texts = [tick.label1 for tick in ticks if low <= tick.get_loc() <= high]
            boxes = [text.get_window_extent() for text in texts]
            assert not any(a.overlaps(b) for a, b in itertools.pairwise(boxes)), [t.get_text() for t in texts]
            assert all(box.x0 >= 0 and box.x1 <= figure.bbox.x1 for box in boxes)
        titles = [axes.xaxis.label, axes.yaxis.label, axes.title, axes._left_title]
        for text in (text for text in (*titles, *axes.texts) if text.get_text()):
            box = text.get_window_extent()
            assert -0.5 <= box.x0 <= box.x1 <= figure.bbox.x1 + 0.5, text
            assert -0.5 <= box.y0 <= box.y1 <= figure.bbox.y1 + 0.5, text
        for a, b in itertools.combinations(axes.texts, 2):
            assert not a.get_window_extent().overlaps(b.get_window_extent())


@pytest.mark.parametrize("narrow", [False, True], ids=["wide", "narrow"])
@pytest.mark.parametrize("name", LOOKED_AT)
def test_a_width_that_a_paper_has_and_letters_that_are_read(name, narrow, drawn):
    figure = drawn(name, narrow)
    assert style.NARROW <= figure.get_figwidth() <= (style.NARROW if narrow else style.WIDE + 0.05)
    assert figure.get_figheight() <= 9
    texts = [text for text in figure.findobj(matplotlib.text.Text) if text.get_visible() and text.get_text()]
    assert min(text.get_fontsize() for text in texts) >= 7


@pytest.mark.parametrize("study", STUDIES)
def test_what_a_study_does_not_have_is_said_and_the_rest_is_drawn(study, study_of, drawn):
    found = list(figures(study_of(**STUDIES[study])))
    for figure in found:
        if isinstance(figure, Figure):
            drawn(figure.name, **STUDIES[study])
    absent = {figure.title: figure.why for figure in found if isinstance(figure, Absent)}
    assert all(why.endswith(".") for why in absent.values())
    assert ("Descent on the cost of a straight line" in absent) == (study != "one arm")
    assert ("XOR: time to target" in absent) == (study == "no target")
    assert ("XOR: schedules" in absent) == (STUDIES[study]["problems"] == ("xor",))
    if study == "one arm":
        assert absent["Straight line, w and b: paired differences"].startswith("The study has no two regimes")
    else:
        assert absent["Time an update, by the size of its batch"] == "The study was not timed."
        assert absent["The twin: how far refnet and torch drift apart"].startswith("The study did not train refnet and")
        assert {"gradient-variance", "moments"} & set(named(study_of(**STUDIES[study]))) == set()


def test_courses_are_the_tables_medians(study_of, drawn):
    study, figure = study_of(), drawn("curves-iris")
    assert [axes.get_xlabel() for axes in figure.axes[4:]] == ["updates", "epochs", "samples", "seconds"]
    colours = style.colours(study.sizes("iris"))
    for arm in study.plain("iris"):
        rows = study.course("iris", arm)
        rows = rows[rows["update"] > 0]
        for column, axis in enumerate(("update", "epoch", "samples", "seconds")):
            for row, measure in enumerate(("train_loss", "test_accuracy")):
                (points,) = lines(figure.axes[4 * row + column], colours[arm.batch_size], dash="-")
                assert np.array_equal(points, rows[[axis, f"{measure}_median"]])


def test_without_times_there_is_no_axis_of_seconds(study_of, drawn):
    options = STUDIES["torch"]
    figure = drawn("curves-xor", **options)
    assert [axes.get_xlabel() for axes in figure.axes[3:]] == ["updates", "epochs", "samples"]
    assert "no seconds" in named(study_of(**options))["curves-xor"].caption


def test_a_diverged_run_takes_its_band_beyond_the_axes_and_a_diverged_median_ends(drawn):
    figure = drawn("curves-line", **STUDIES["all diverged"])
    for points in lines(figure.axes[0], dash="-"):
        assert np.isnan(points[-1, 1])
        assert np.isfinite(points[0, 1])


@pytest.mark.parametrize(
    ("kind", "panels", "entries"),
    [
        ("schedules", {"batch": 3, "stochastic": 3}, ["constant rate", "decaying rate"]),
        (
            "orders",
            {"mini-batch 50": 3, "stochastic": 4},
            ["shuffled every epoch", "shuffled once", "drawn with replacement"],
        ),
    ],
)
def test_schedules_and_orders_without_an_empty_panel(kind, panels, entries, drawn):
    figure = drawn(f"{kind}-line")
    assert all(axes.axison for axes in figure.axes)
    # Each with the target's line.
    assert {axes.get_title(loc="left"): len(lines(axes)) for axes in figure.axes} == panels
    assert sorted(text.get_text() for text in figure.legends[0].get_texts()) == sorted(entries)


def test_a_figure_is_mostly_panels(study_of, drawn):
    """No more than one place of a grid is left empty."""
    for name in named(study_of()):
        for narrow in (False, True):
            axes = drawn(name, narrow).axes
            assert sum(not one.axison for one in axes) <= 1


def test_the_paths_on_the_surface(study_of, drawn):
    study, figure = study_of(), drawn("descent")
    left, right = figure.axes
    path = study.rows("path", engine="refnet", seed=0)
    for arm, dash in ((Arm(None), "-"), (Arm(4), "-"), (Arm(1), "-"), (Arm(1, schedule="decay"), "--")):
        (points,) = lines(left, style.colours([4, 50])[arm.batch_size], marker="o", dash=dash)
        assert np.array_equal(points, path[path["arm"] == arm.name][["w", "b"]])
    crosses = [lines(axes, marker="+") for axes in figure.axes]
    assert [cross.tolist() for (cross,) in crosses] == [[[2.0, -1.0]]] * 2
    ends = study.rows("path", engine="refnet", update=1000, arm="stochastic")[["w", "b"]]
    assert any(np.array_equal(points.get_offsets(), ends) for points in right.collections)


def test_rates_with_rings_crosses_and_the_stability_limit(study_of, drawn):
    figure, colours = drawn("rates-line"), style.colours([4, 50])
    axes = figure.axes[0]
    sweep = study_of().rows("sweep", problem="line", arm="mini-batch 4").groupby("rate")["final_train_loss"].median()
    thin, full, *others = lines(axes, colours[4], marker="o")
    assert thin[:, 0].tolist() == full[:, 0].tolist() == [0.01, 0.1, 1.0]
    assert thin[:, 1] == pytest.approx((sweep - 0.25).to_numpy())
    # Full up to the largest stable rate, which is 0.1.
    assert full[:2].tolist() == thin[:2].tolist()
    assert np.isnan(full[2, 1])
    assert others[-1].tolist() == [thin[1].tolist()]
    assert [points[:, 0].tolist() for points in lines(axes, colours[1], marker="x")] == [[1.0]]
    assert [points[:, 0].tolist() for points in lines(axes, colours[None], marker="x")] == [[]]
    verticals = [points[0, 0] for points in lines(axes) if len(points) == 2 and points[0, 0] == points[1, 0]]
    assert sorted(verticals) == [0.3, 0.5]
    assert [text.get_text() for text in axes.texts] == ["2/L"]


def test_runs_that_miss_the_target_are_censored(study_of, drawn):
    options = {"problems": ("iris",), "arms": (Arm(None), Arm(1)), "goal": 0.105, "beside": False}
    study = study_of(**options)
    rows = study.rows("times_to_target", problem="iris", arm="stochastic")
    missed = 1 - rows["reached"].mean()
    assert 0 < missed < 1
    axes = drawn("targets-iris", **options).axes[0]
    (circle,) = lines(axes, style.STOCHASTIC, marker="o")
    assert circle.tolist() == [[1000, pytest.approx(1 - missed)]]
    steps = next(points for points in lines(axes, style.STOCHASTIC) if len(points) > 1)
    assert steps[:, 0].tolist() == sorted(steps[:, 0])
    assert steps[-1].tolist() == [1000, pytest.approx(1 - missed)]
    assert steps[1:-1, 0].tolist() == sorted(rows["update"].dropna())
    assert lines(axes, style.INK, marker="o") == []


def test_differences_with_intervals(study_of, drawn):
    study, figure = study_of(), drawn("pairs-iris")
    for axes, measure in zip(figure.axes, ("train_loss", "test_accuracy"), strict=True):
        rows = study.rows("pairs", problem="iris", measure=measure, against="batch").set_index("arm")
        names = [text.get_text() for text in figure.axes[0].get_yticklabels()]
        dots = {round(points[0, 1] + 0.17): points[0, 0] for points in lines(axes, marker="o")}
        bars = {round(points[0, 1] + 0.17, 6): points[:, 0].tolist() for points in lines(axes) if len(points) == 2}
        assert {names[y]: x for y, x in dots.items()} == rows["median"].to_dict()
        for y, name in enumerate(names):
            if name in rows.index:
                assert bars[y] == rows.loc[name, ["low", "high"]].tolist()


@pytest.mark.parametrize("narrow", [False, True])
def test_an_axis_of_many_decades_says_so(study_of, narrow):
    study = study_of()
    for factor, scale in ((1e-9, "symlog"), (1.0, "linear")):
        pairs = study.frames["pairs"].copy()
        rows = (pairs["problem"] == "iris") & (pairs["measure"] == "train_loss")
        pairs.loc[rows, ["low", "median", "high"]] = [0.5, 1.0, 2.0]
        pairs.loc[rows & (pairs["arm"] != "stochastic"), ["low", "median", "high"]] *= factor
        figure = named(dataclasses.replace(study, frames={**study.frames, "pairs": pairs}))["pairs-iris"]
        assert ("The first axis is logarithmic" in figure.caption) == (scale == "symlog")
        first, second = figure.draw(narrow).axes
        assert (first.get_xscale(), second.get_xscale()) == (scale, "linear")
        if scale == "symlog":
            ticks = [first.get_xticks(minor=minor) for minor in (False, True)]
            powers = np.log10(np.sort(np.concatenate([tick[tick > 0] for tick in ticks])))
            assert np.diff(powers) == pytest.approx(1)
            assert powers == pytest.approx(np.round(powers))
            assert (len(ticks[0]) == 3) == narrow


def test_six_pairs_or_no_bars(study_of, drawn):
    options = {"problems": ("xor",), "arms": (Arm(None), Arm(1)), "seeds": 5, "iterations": 100, "beside": False}
    assert "5 pairs are too few for an interval of 95%" in named(study_of(**options))["pairs-xor"].caption
    axes = drawn("pairs-xor", **options).axes[0]
    assert [points for points in lines(axes) if len(points) == 2 and points[0, 1] == points[1, 1]] == []


def test_the_formula_goes_through_its_values_and_n_equal_to_all_is_left_out(drawn):
    axes = drawn("gradient-variance").axes[0]
    (curve,) = [points for points in lines(axes, style.INK) if len(points) > 10]
    for n in (2, 4, 16):
        predicted = 3.0 / n * (100 - n) / 99
        assert np.exp(np.interp(np.log(n), np.log(curve[:, 0]), np.log(curve[:, 1]))) == pytest.approx(
            predicted, rel=1e-3
        )
    (points,) = list(lines(axes, style.INK, marker="o"))
    assert points[:, 0].tolist() == [1, 2, 4, 16]
    assert points[:, 1] == pytest.approx([1.01 * 3.0 / n * (100 - n) / 99 for n in (1, 2, 4, 16)])


def test_moments_of_both_schedules(drawn):
    figure = drawn("moments")
    titles = [axes.get_title(loc="left") for axes in figure.axes[:4]]
    assert titles == ["w, constant rate", "b, constant rate", "w, decaying rate", "b, decaying rate"]
    means, sds = lines(figure.axes[4], marker="o") + lines(figure.axes[4], marker="D")
    assert means[:, 1] == pytest.approx(0.01 / 0.005)
    assert sds[:, 1] == pytest.approx(0.01 / 0.004)


def test_where_the_budget_of_the_twins_ends(study_of, drawn):
    axes = drawn("twin").axes[0]
    crosses = np.concatenate(lines(axes, marker="x"))
    assert set(crosses[:, 0]) == {200}
    assert set(crosses[:, 1]) == {max(axes.get_ylim())}  # 3 * 1.1^200 is beyond it
    rows = study_of().rows("twin", problem="line", arm="stochastic")
    rows = rows[rows["update"] > 0]
    (drift,) = [points for points in lines(axes, style.STOCHASTIC, dash="-") if len(points) > 1]
    assert np.array_equal(drift, rows[["update", "drift_ulps"]])


def test_times_their_fit_and_where_samples_overtake_the_overhead(drawn):
    axes = drawn("cost").axes[0]
    fit = next(points for points in lines(axes, style.INK) if len(points) == 100)
    assert fit[:, 1] == pytest.approx(20 + 0.5 * fit[:, 0], rel=1e-6)
    verticals = [points[0, 0] for points in lines(axes, dash=":")]
    assert verticals == pytest.approx([40])  # torch's 500 is more than the problem has samples


def test_what_was_not_measured_well_is_not_drawn(study_of, drawn):
    study = study_of()
    timing, cost = study.frames["timing"].copy(), study.frames["cost"].copy()
    of_torch = timing["engine"] == "torch"
    timing.loc[of_torch, ["microseconds", "low", "high"]] = math.nan
    timing.loc[of_torch, "unmeasured"] = "the rounds do not agree"
    cost.loc[cost["engine"] == "torch", ["overhead_us", "per_sample_us", "overtakes_at"]] = math.nan
    cost.loc[cost["engine"] == "torch", "unmeasured"] = "too few"
    changed = dataclasses.replace(study, frames={**study.frames, "timing": timing, "cost": cost})
    (figure,) = (figure for figure in figures(changed) if figure.title.startswith("Time an update"))
    assert f"{of_torch.sum()} of {len(timing)} times could not be measured well enough" in figure.caption
    with matplotlib.rc_context(style.RC):
        axes = figure.draw(False).axes[0]
    assert not any(np.isfinite(points[:, 1]).any() for points in lines(axes, style.OTHER))
    # No time is an axis of seconds, nor a claim.
    bands = study.frames["bands"].copy()
    bands.loc[(bands["problem"] == "iris") & (bands["arm"] == "batch"), "seconds"] = math.nan
    changed = dataclasses.replace(study, frames={**study.frames, "bands": bands})
    assert not changed.timed("iris")
    assert changed.timed("line")
    with matplotlib.rc_context(style.RC):
        figure = named(changed)["curves-iris"].draw(False)
    assert [axes.get_xlabel() for axes in figure.axes[3:]] == ["updates", "epochs", "samples"]
