"""Colours, ticks, legends and files that all figures share."""

import colorsys
import itertools
import math
import re

import matplotlib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.convergence.figures import style
from benchmarks.convergence.figures.style import Figure
from benchmarks.convergence.report import study_page

# Brettel, Viénot and Mollon's planes, as the matrices of Machado, Oliveira and Fernandes (2009) at full severity.
SIGHTS = {
    "normal": np.eye(3),
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}


def linear(colour):
    """Linear RGB."""
    rgb = np.array([int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)])
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def lab(rgb):
    """CIELAB of linear RGB, for daylight."""
    XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ np.clip(rgb, 0, 1)
    t = XYZ / [0.9505, 1, 1.089]
    x, y, z = np.where(t > 0.008856, np.cbrt(t), 7.787 * t + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def contrast(a, b):
    """As the Web Content Accessibility Guidelines define it."""
    light, dark = sorted((float(linear(c) @ [0.2126, 0.7152, 0.0722]) for c in (a, b)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("sight", SIGHTS)
def test_colours_of_regimes_differ_for_everyone(sight, scheme):
    colours = list(style.colours([4, 16, 64]).values())
    colours = [study_page.dark(c) for c in colours] if scheme == "dark" else colours
    seen = [lab(SIGHTS[sight] @ linear(colour)) for colour in colours]
    # A distance of 2 is just seen side by side, 10 at a glance.
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)) > 20


def test_colours_stand_out_from_the_ground():
    for colour in (*style.colours([4, 16, 64]).values(), *style.ENGINES.values()):
        assert contrast(colour, style.PAPER) > 2.7
        assert contrast(study_page.dark(colour), study_page.dark(style.PAPER)) > 3
    for colour in (style.INK, style.SOFT):
        assert contrast(colour, style.PAPER) > 4.5
        assert contrast(study_page.dark(colour), study_page.dark(style.PAPER)) > 4.5


@pytest.mark.parametrize("sizes", [[], [32], [8, 32], [8, 32, 128], [2, 4, 8, 16, 32]])
def test_each_size_of_batch_has_a_colour_of_its_own(sizes):
    colours = style.colours(sizes)
    assert set(colours) == {None, 1, *sizes}
    assert len(set(colours.values())) == len(sizes) + 2
    assert all(re.fullmatch("#[0-9a-f]{6}", colour) for colour in colours.values())


def test_one_mini_batch_is_the_middle_one():
    assert style.colours([16])[16] == style.colours([4, 16, 64])[16]


def test_sizes_from_the_whole_set_to_single_samples():
    assert style.by_size([1, 32, None, 8, 32]) == [None, 32, 8, 1]


@settings(max_examples=300, deadline=None)
@given(st.floats(-30, 30), st.floats(0.0005, 40), st.integers(3, 6))
def test_ticks_are_few_and_within(start, decades, most):
    low, high = 10**start, 10 ** (start + decades)
    ticks = style.round_numbers(low, high, most)
    assert 1 <= len(ticks) <= most
    assert ticks == sorted(set(ticks))
    assert all(low * (1 - 1e-8) <= tick <= high * (1 + 1e-8) for tick in ticks)
    assert len(set(style.labels(ticks))) == len(ticks)


@pytest.mark.parametrize(
    ("low", "high", "most", "ticks"),
    [
        (1, 1.1e4, 5, [1, 10, 100, 1000, 10000]),
        (1, 1.1e4, 3, [1, 100, 10000]),
        (0.03, 200, 5, [0.1, 1, 10, 100]),
        (0.22, 1.2, 5, [0.3, 0.4, 0.5, 0.7, 1]),
        (0.08, 0.36, 3, [0.1, 0.2, 0.3]),
        (0.27, 0.36, 5, [0.28, 0.3, 0.32, 0.34, 0.36]),
    ],
)
def test_ticks_are_round(low, high, most, ticks):
    assert style.round_numbers(low, high, most) == pytest.approx(ticks)


def test_labels_are_plain_while_they_are_short():
    assert style.labels([0.001, 1, 1000, 0, -0.5]) == ["0.001", "1", "1,000", "0", "−0.5"]
    assert style.labels([1e4, 1e-5, 3e6, -1e7]) == ["$10^{4}$", "$10^{-5}$", r"$3\cdot10^{6}$", "$-10^{7}$"]


def test_the_extent_of_what_a_logarithmic_axis_can_show():
    low, high = style.extent([np.array([0.0, -1.0, math.inf, math.nan, 1.0]), [100.0]])
    assert 0.5 < low < 1
    assert 100 < high < 200
    assert style.extent([[0.0, math.inf]]) == (0.1, 1.0)
    low, high = style.extent([[3.0]])
    assert low < 3 < high


@pytest.mark.parametrize("width", [style.NARROW, style.WIDE])
def test_a_legend_reads_from_left_to_right_within_the_figure(width):
    with matplotlib.rc_context(style.RC):
        figure = style.canvas(width, 2)
        figure.subplots()
        names = [
            "batch",
            "mini-batch 128",
            "mini-batch 32",
            "mini-batch 8",
            "stochastic",
            "constant rate",
            "decaying rate",
        ]
        style.legend(figure, [style.line(style.INK, name) for name in names])
        figure.draw_without_rendering()
        texts = figure.legends[0].get_texts()
        boxes = {text.get_text(): text.get_window_extent() for text in texts}
    assert sorted(boxes, key=lambda name: (-round(boxes[name].y0), boxes[name].x0)) == names
    assert all(box.x0 >= 0 and box.x1 <= figure.bbox.x1 for box in boxes.values())


def drawn(text="a"):
    def draw(narrow):
        figure = style.canvas(1 if narrow else 2, 1)
        axes = figure.subplots()
        axes.plot([1, 2], [1, 2], label=text)
        axes.set_xlabel(text)
        return figure

    return Figure("small", "Small", "A line.", "A line.", draw)


def test_a_figure_is_saved_twice_over_with_the_same_bytes(tmp_path):
    files = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        made = style.save(drawn(), tmp_path / name)
        files.append({file.name: file.read_bytes() for file in (tmp_path / name).iterdir()})
    assert files[0] == files[1]
    assert set(files[0]) == {"small.png", "small.svg"}
    assert made.wide.startswith('<svg xmlns:xlink="http://www.w3.org/1999/xlink" width="144pt"')
    assert files[0]["small.svg"].endswith(made.wide.encode())
    assert 'width="72pt"' in made.narrow
    assert b"matplotlib" not in files[0]["small.png"]
    assert not re.search(rb"20\d\d-\d\d-\d\d|Matplotlib v", files[0]["small.svg"])


def test_a_dark_page_keeps_the_hues():
    for colour in (style.STOCHASTIC, *style.MINI_BATCHES, style.OTHER):
        hues = [
            colorsys.rgb_to_hls(*(int(c[k : k + 2], 16) for k in (1, 3, 5)))[0]
            for c in (colour, study_page.dark(colour))
        ]
        assert hues[0] == pytest.approx(hues[1], abs=0.06)
