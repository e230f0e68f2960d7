"""The page: one file that asks for nothing, with every figure, table and finding in it; the same again."""

import dataclasses
import gzip
import math
import re
import shutil
from html.parser import HTMLParser

import pytest

from benchmarks.convergence import report, study_tables
from benchmarks.convergence.arms import Arm, arms
from benchmarks.convergence.figures import figures
from benchmarks.convergence.figures.style import INK, Absent, Drawn, Figure
from benchmarks.convergence.problems import load
from benchmarks.convergence.report import sentences, study_page

WHOLE = {"problems": ("line",), "arms": (Arm(None), Arm(4), Arm(1), Arm(1, schedule="decay"))}
FEW = {"problems": ("xor",), "arms": (Arm(None),), "seeds": 6, "iterations": 100, "beside": False}
VOID = {"meta", "link", "br", "img", "hr", "input"}


class Parsed(HTMLParser):
    """Elements as (tag, attributes), text, and whether everything that is opened is closed."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.text = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def folder(folder_with):
    """A folder with the tables of a whole study, its figures and its page."""
    folder = folder_with(**WHOLE)
    report.write(folder)
    return folder


@pytest.fixture(scope="module")
def parsed(folder):
    parsed = Parsed((folder / "report.html").read_text(encoding="utf-8"))
    assert parsed.open == []
    return parsed


def test_a_page_and_its_figures(folder, parsed, study_of):
    assert {file.name for file in folder.iterdir()} == {"tables", "figures", "report.html"}
    files = {file.name for file in (folder / "figures").iterdir()}
    drawings = [attrs for _, attrs in parsed.elements if (attrs.get("class") or "").startswith("drawing")]
    assert [attrs["class"] for attrs in drawings] == ["drawing wide", "drawing narrow"] * 10
    assert len(files) == 20
    assert {name.partition(".")[0] for name in files} == {
        attrs["id"] for tag, attrs in parsed.elements if tag == "figure"
    }
    assert all(len(attrs["aria-label"]) > 40 for attrs in drawings)
    assert sum(tag == "svg" for tag, _ in parsed.elements) == 20
    study, text = study_of(**WHOLE), " ".join(" ".join(parsed.text).split())
    for sentence in (*sentences.in_short(study), *sentences.of_problem(study, "line"), *sentences.of_twin(study)):
        assert " ".join(sentence.split()) in text


def test_the_page_asks_for_nothing(parsed):
    for tag, attrs in parsed.elements:
        assert tag not in {"script", "iframe", "object", "embed", "img"}
        for name in ("src", "href", "xlink:href", "action"):
            target = attrs.get(name) or ""
            assert not re.match(r"\w+:(?!,)|//", target) or target == "data:,", (tag, attrs)
    policy = next(attrs["content"] for _, attrs in parsed.elements if attrs.get("http-equiv"))
    assert policy.startswith("default-src 'none'")


def test_names_are_unique_and_lead_somewhere(folder, parsed):
    ids = [attrs["id"] for _, attrs in parsed.elements if "id" in attrs]
    assert len(set(ids)) == len(ids)
    text = (folder / "report.html").read_text(encoding="utf-8")
    used = {*re.findall(r'href="#([^"]+)"', text), *re.findall(r"url\(#([^)]+)\)", text)}
    used |= set(re.findall(r'aria-labelledby="([^"]+)"', text))
    assert used
    assert used <= set(ids)
    for target in {attrs["href"] for tag, attrs in parsed.elements if tag == "a" and attrs["href"][0] != "#"}:
        assert (folder / target).is_file(), target


def test_every_colour_has_a_dark_one(folder):
    text = (folder / "report.html").read_text(encoding="utf-8")
    used = set(re.findall(r"var\(--x([0-9a-f]{6}), #\1\)", text))
    assert INK[1:] in used
    assert used == set(re.findall(r"--x([0-9a-f]{6}): #", text))
    assert not re.search(r"(?:fill|stroke): #", "".join(re.findall(r"<svg.*?</svg>", text, re.DOTALL)))


def test_the_tables_are_shown(parsed, study_of):
    heads = [tag for tag, _ in parsed.elements].count("table")
    assert heads == 1 + 4
    row = study_of(**WHOLE).rows("summary", problem="line", arm="mini-batch 4").iloc[0]
    shown = f"{sentences.number(row.train_loss_median)} ({sentences.number(row.train_loss_low)} to "
    assert any(text.startswith(shown) for text in parsed.text)


def test_the_environment_is_shown(parsed):
    text = [part.strip() for part in parsed.text]
    for name, value in {"date": "2025-01-01", "numpy": "2.4.0", "cores": "1 and 2", "blas: name": "OpenBLAS"}.items():
        assert text[text.index(name) + 1] == value


def test_written_again_it_is_the_same(folder_of):
    folder = folder_of(**FEW)

    def contents():
        report.write(folder)
        return {file.name: file.read_bytes() for part in (folder, folder / "figures") for file in part.glob("*.*")}

    first = contents()
    shutil.rmtree(folder / "figures")
    assert contents() == first


def test_what_is_absent_is_said(study_of):
    study = study_of(**FEW)
    absent = [figure for figure in figures(study) if isinstance(figure, Absent)]
    text = " ".join(study_page.build(study, [], absent).split())
    assert "Figures that this study does not have" in text
    assert "<b>Time an update, by the size of its batch.</b> The study was not timed." in text
    assert "Wall-clock was not measured." in text
    assert 'href="#beside-cost"' not in text
    assert "Only one regime was run (batch): nothing is compared." in text


def test_text_is_text(study_of):
    study = study_of(**FEW)
    problems = study.frames["problems"].assign(title="<b>X & OR</b>")
    text = study_page.build(dataclasses.replace(study, frames={**study.frames, "problems": problems}), [], [])
    assert "&lt;b&gt;X &amp; OR&lt;/b&gt;" in text
    assert "<b>X &" not in text


def test_nothing_is_written_for_a_folder_that_is_no_study(folder_of):
    folder = folder_of(**FEW)
    (folder / "tables" / "pairs.csv").unlink()
    with pytest.raises(ValueError, match=r"pairs\.csv"):
        report.write(folder)
    assert {file.name for file in folder.iterdir()} == {"tables"}


def test_a_compressed_table_is_linked_to(folder_of):
    folder = folder_of(**FEW)
    file = folder / "tables" / "curves.csv"
    (folder / "tables" / "curves.csv.gz").write_bytes(gzip.compress(file.read_bytes()))
    file.unlink()
    report.write(folder)
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert '<a href="tables/curves.csv.gz">curves.csv.gz</a>' in text
    assert '"tables/curves.csv"' not in text


def test_every_table_is_described():
    assert set(study_page.TABLES) == set(study_tables.COLUMNS)


def test_an_svg_among_others():
    svg = """<svg xmlns="http://www.w3.org/2000/svg" width="266.4pt" height="176.4pt" viewBox="0 0 266.4 176.4">
 <metadata><a/></metadata><defs><style type="text/css">*{stroke-linejoin: round}</style></defs>
 <path id="p1" clip-path="url(#p2)" style="fill: #ffffff; stroke: #1c1e21"/><use xlink:href="#p1"/></svg>"""
    assert (
        study_page.inline(svg, "x").split()
        == """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 266.4 176.4">
 <defs></defs>
 <path id="x.p1" clip-path="url(#x.p2)" style="fill: var(--xffffff, #ffffff); stroke: var(--x1c1e21, #1c1e21)"/>
 <use xlink:href="#x.p1"/></svg>""".replace("/>\n <use", "/><use").split()
    )


def test_styles_of_drawings_stand_once():
    body = """<p style="a: b"></p><svg><path style="fill: none"/><g style="x: y"/><path style="fill: none"/></svg>
<svg><path style="x: y"/></svg>"""
    assert study_page.as_classes(body) == (
        """<p style="a: b"></p><svg><path class="v0"/><g class="v1"/><path class="v0"/></svg>
<svg><path class="v1"/></svg>""",
        ".v0 { fill: none }\n.v1 { x: y }\n",
    )


def test_an_svg_without_a_size():
    figure = Figure("x", "", "", "", lambda narrow: None)
    with pytest.raises(ValueError, match=r"x\.svg: expected a width in points"):
        study_page._embedded(Drawn(figure, "<svg></svg>", "<svg></svg>"))


def test_intervals_are_called_by_their_coverage(study_of):
    """8 pairs: from the first to the last difference, 1 - 2/2^8; 7: 1 - 2/2^7; fewer than 6: none."""
    for seeds, words in (
        (8, "a probability of 99.2%"),
        (7, "a probability of 98.4%"),
        (5, "too few runs for an interval"),
    ):
        study = study_of(problems=("xor",), arms=(Arm(None), Arm(2), Arm(1)), seeds=seeds, iterations=10, beside=False)
        assert words in study_page.build(study, [], [])


def test_what_a_study_of_fewer_arms_says_less_of(study_of):
    assert "This study has 4 of the 14 arms that the full one has" in study_page._left_out(study_of(**WHOLE))
    every = {"problems": ("xor",), "arms": arms(load("xor"), "full"), "iterations": 10, "seeds": 2, "beside": False}
    assert study_page._left_out(study_of(**every)) == ""


def test_a_sentence_that_other_last_bits_change_is_followed_by_the_other(study_of):
    study = study_of(problems=("xor",), arms=(Arm(None), Arm(2), Arm(1)), iterations=100, beside=False, repeat=True)
    text = " ".join(study_page.build(study, [], []).split())
    assert "Sweep and final runs were made once more with other last bits of the initial weights." in text
    changed = [(sentence, again) for sentence, again in sentences.survival(study) if again]
    assert text.count("With other last bits of the initial weights: ") == len(changed)
    quiet = study_page.build(study_of(**WHOLE), [], [])
    assert "other last bits of the initial weights" not in quiet.partition('<section class="card" id="tables"')[0]


def test_cells():
    assert study_page._banded({"a_median": 2.0, "a_low": 1.0, "a_high": 3.0}, "a", sentences.number) == "2 (1 to 3)"
    assert study_page._banded({"a_median": math.nan, "a_low": 1.0, "a_high": 3.0}, "a", sentences.number) == "–"
    assert sentences.reached(sentences.number)(math.inf) == "not reached"
    assert study_page._facts({"a": {"b": 1}, "c": []}) == [("a: b", "1"), ("c", "[]")]
