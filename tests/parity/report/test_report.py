"""One report on some tensors: what it concludes, and that each of its forms says the same."""

import json
import math
import sys
from html.parser import HTMLParser

import numpy as np
import pytest

import parity
from parity.report.report import Report
from parity.verdict.table import TABLE
from parity.verdict.tensor import TensorVerdict

GOOD = TensorVerdict("value", "rounding", "", 15.25, 1.5, 0.375, (1, 2), 4e-16, 0.0)
EXACT = TensorVerdict("gradients[0]", "exact")
WRONG = TensorVerdict("gradients[1]", "FAIL", "", -math.inf, math.inf, math.inf, (), 2e-15, 0.5, "missing <b>")
WEAK = TensorVerdict("gradients[2]", "unstable", "1 - y^2", 9.5, 1e6, 5e5, (0,), 1e-9, 0.25)


def report(*verdicts, **more):
    return Report("tanh", "float64", verdicts, **more)


def test_ok_is_what_the_table_says():
    assert report(GOOD, EXACT, WEAK).ok
    assert not report(GOOD, WRONG).ok
    assert not report().ok
    # `assert report` means the same: a mapping would be true with any tensor in it.
    assert [bool(found) for found in (report(GOOD), report(GOOD, WRONG), report())] == [True, False, False]
    for row in TABLE:
        assert report(GOOD, TensorVerdict("t", row.name)).ok == (row.ok is not False)


def test_the_text_begins_with_the_conclusion():
    assert str(report(GOOD, EXACT)).splitlines() == [
        "ok: tanh (float64): 1 exact, 1 rounding",
        "  tensor        verdict   digits  ulps  budget  at      sees",
        "  value         rounding  15.2    1.5   0.38    [1, 2]  4e-16",
        "  gradients[0]  exact     all     0     0               all",
    ]
    lines = str(report(WRONG, WEAK, diagnosis=["zero: 0 in value"], notes=["said besides"])).splitlines()
    assert lines[0] == "not ok: tanh (float64): 1 unstable, 1 FAIL"
    assert lines[3] == "    missing <b>"
    assert lines[5:] == ["    by 1 - y^2", "  consistent with: zero: 0 in value", "  said besides"]
    assert str(report()) == "not ok: tanh (float64): nothing was judged"
    assert repr(report(GOOD)) == str(report(GOOD))


def test_tensors_are_found_by_name():
    found = report(GOOD, EXACT)
    assert found["value"] is GOOD
    assert (list(found), len(found), "u" in found) == (["value", "gradients[0]"], 2, False)
    assert dict(found) == {"value": GOOD, "gradients[0]": EXACT}


def test_json():
    document = json.loads(report(GOOD, WRONG).to_json())
    assert (document["format"], document["ok"], document["profile"]) == ("parity-report", False, "float64")
    value, wrong = document["tensors"]
    assert (value["name"], value["where"], value["ok"]) == ("value", [1, 2], True)
    assert (wrong["digits"], wrong["share"], wrong["reason"], wrong["ok"]) == ("-inf", "inf", "missing <b>", False)


def test_a_data_frame():
    pytest.importorskip("pandas")
    frame = report(GOOD, WRONG).to_dataframe()
    assert list(frame.index) == ["value", "gradients[1]"]
    assert frame["verdict"].tolist() == ["rounding", "FAIL"]
    assert frame["ok"].tolist() == [True, False]
    assert frame.loc["value", "where"] == (1, 2)
    assert len(report().to_dataframe()) == 0


def test_pandas_is_asked_for(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="expected the package pandas"):
        report(GOOD).to_dataframe()


def test_html_is_whole_and_escaped():
    opened, closed, words = [], [], []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attrs: opened.append(tag)
    parser.handle_endtag = closed.append
    parser.handle_data = words.append
    parser.feed(report(GOOD, WRONG, diagnosis=["zero"])._repr_html_())
    assert sorted(opened) == sorted(closed)
    assert "b" not in opened
    assert words[0] == "not ok: tanh (float64): 1 rounding, 1 FAIL"
    # What is bad comes first.
    assert words.index("gradients[1]") < words.index("value")
    assert "missing <b>" in "".join(words)


def test_an_expression_gives_one():
    x = np.array([0.5, -1.25, 3.0])
    e = parity.enclose(lambda x: np.sum(np.tanh(x)), x)
    found = e.check(np.tanh(x).sum(), [1 / np.cosh(x) ** 2])
    assert isinstance(found, parity.Report)
    assert found.ok, found
    wrong = e.check(np.tanh(x).sum(), [1 - np.tanh(x)])
    assert not wrong.ok
    assert str(wrong).startswith("not ok: the expression (float64): ")
    assert wrong["gradients[0]"].verdict == "FAIL"
